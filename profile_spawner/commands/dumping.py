"""`dump`: profiles as a document, or as the file that the EOEPCA ApplicationHub reads."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import (
    NotAvailableError,
    Origin,
    ProfileDefinitionError,
    ProfileSpawnerError,
    SourceError,
    did_you_mean,
)
from profile_spawner.profiles.yaml_text import parse_yaml

from . import arguments as args
from .app import app
from .arguments import Sources, words
from .loading import LoadedProfiles, find_entry, loaded
from .output import Format, as_yaml, plain, report_problems

if TYPE_CHECKING:
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.profile import Profile
    from profile_spawner.profiles.snapshot import Snapshot

__all__ = ["dump"]


class Form(str, enum.Enum):
    """The output format."""

    document = "document"
    configurator = "configurator"


_DEFAULT_GROUP = "developers"


@app.command()
def dump(
    form: Annotated[
        Form, typer.Option("--format", help="configurator: the file that the EOEPCA ApplicationHub reads.")
    ] = Form.document,
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups", help="Who may use all of them: groups separated by commas.", envvar="GROUPS", metavar="GROUPS"
        ),
    ] = None,
    storage_class_rwo: Annotated[
        str | None,
        typer.Option("--storage-class-rwo", help="For volumes of one node.", envvar="STORAGE_CLASS_RWO"),
    ] = None,
    storage_class_rwx: Annotated[
        str | None,
        typer.Option("--storage-class-rwx", help="For volumes of several nodes.", envvar="STORAGE_CLASS_RWX"),
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option(
            "--node-selector", help="A label of a profile's nodes; may be repeated.", metavar="SLUG:KEY=VALUE"
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", help="A field of a profile; may be repeated.", metavar="SLUG:FIELD=VALUE"),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output-file", help="Write to this file instead.", envvar="OUTPUT_FILE", dir_okay=False),
    ] = None,
    incomplete: Annotated[
        bool,
        typer.Option("--incomplete", help="Write --output-file even when profiles are missing."),
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            help="yaml or json; any other name is a file, as with --output-file (JSON if it ends in .json).",
            metavar="FORMAT|FILE",
        ),
    ] = Format.yaml.value,
    list_profiles: Annotated[bool, typer.Option("--list-profiles", hidden=True)] = False,
    describe_profile: Annotated[str | None, typer.Option("--describe-profile", hidden=True)] = None,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
) -> None:
    """Write the profiles as one document that gives the same profiles when it is loaded.

    --profiles chooses among all profiles, built-in or not. What a document cannot say (code in hooks, the values of
    Secrets) is reported on standard error. When profiles could not be loaded or written, the exit code is 1, and
    --output-file is left as it is.
    """
    # Options of the configurator's own command.
    if list_profiles or describe_profile is not None:
        instead = f"show {describe_profile}" if describe_profile is not None else "list"
        raise typer.BadParameter(f"here this is a command of its own: profile-spawner {instead}")
    if output not in (Format.yaml.value, Format.json.value):
        if not output or Path(output).is_dir():
            raise typer.BadParameter(f"--output {output!r}: expected yaml, json, or the path of a file")
        output_file, output = output_file or Path(output), "json" if output.endswith(".json") else "yaml"
    changes = Changes(groups, storage_class_rwo, storage_class_rwx, node_selector or (), override or ())
    sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    text, missing = _dump(sources, form, changes, Format(output))
    if output_file is None:
        typer.echo(text, nl=False)
    elif missing and not incomplete:
        raise SourceError(
            "not written, because the dump would not be complete",
            origin=Origin(str(output_file)),
            hint="Correct what is reported above, or write it nevertheless with --incomplete",
        )
    else:
        _write(output_file, text)
        typer.echo(f"wrote {output_file}")
    raise typer.Exit(1 if missing else 0)


def _write(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old or the new content."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")  # a pipe or a terminal, such as /dev/stdout
        return
    target = path.resolve()
    if not target.parent.is_dir():
        raise SourceError("there is no folder for it", origin=Origin(str(path)))
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)


def _dump(sources: Sources, form: Form, changes: Changes, output: Format) -> tuple[str, bool]:
    """Return the text, and whether it is incomplete."""
    from profile_spawner.migrate.applicationhub import write_config
    from profile_spawner.migrate.dumping import dump_snapshot

    wanted = sources.profiles
    if wanted is not None:
        sources = replace(sources, profiles=("all",))
    with loaded(sources, trusted=True) as found:
        snapshot = found.snapshot
        slugs = list(snapshot.entries)
        if wanted is not None and wanted != ("all",):
            slugs = list(dict.fromkeys(_entry(found, slug).slug for slug in wanted))
        snapshot = found.run(changes.apply(snapshot, slugs))
        if form is Form.configurator:
            if wanted is None:
                typer.echo(
                    "Note: all profiles are written; without --profiles, the configurator writes coder_app alone",
                    err=True,
                )
            if any(snapshot.entries[slug].offer.access.is_open for slug in slugs):
                typer.echo(
                    f"Note: profiles for all users get the group {_DEFAULT_GROUP}; --groups names others", err=True
                )
            written = found.run(write_config(snapshot, slugs, [_DEFAULT_GROUP]))
        else:
            written = found.run(dump_snapshot(snapshot, slugs))
        report_problems([*found.snapshot.problems, *(ProfileSpawnerError(w) for w in written.warnings)])
        missing = bool(found.snapshot.errors) or len(written.document["profiles"]) < len(slugs)
    if output is Format.json:
        import json

        return json.dumps(plain(written.document), indent=2, ensure_ascii=False) + "\n", missing
    return as_yaml(written.document), missing


def _entry(found: LoadedProfiles, slug: str) -> Entry:
    try:
        return find_entry(found.snapshot, slug)
    except NotAvailableError as e:
        if found.snapshot.find(slug) is None and not found.config.ProfileSpawner.get("configurator_compat"):
            e.hint = f"{e.hint}; profiles of the EOEPCA configurator need --configurator-compat"
        raise


class Changes:
    """What the command line changes of profiles before they are written.

    Args:
        groups: Who may use all of them.
        storage_class_rwo: For volumes of one node.
        storage_class_rwx: For volumes of several nodes.
        node_selector: `SLUG:KEY=VALUE` each; the first `:` ends the slug, the first `=` the key.
        override: `SLUG:FIELD=VALUE` each.
    """

    def __init__(
        self,
        groups: str | None,
        storage_class_rwo: str | None,
        storage_class_rwx: str | None,
        node_selector: Sequence[str],
        override: Sequence[str],
    ) -> None:
        self._all: dict[str, Any] = {}
        if groups is not None:
            self._all["allowed_groups"] = _groups("groups", groups)
        for name, value in (("storage_class_rwo", storage_class_rwo), ("storage_class_rwx", storage_class_rwx)):
            if value:
                self._all[name] = value
        self._selectors: dict[str, dict[str, str]] = {}
        self._fields: dict[str, dict[str, str]] = {}
        for text in node_selector:
            slug, key, value = _split("--node-selector", text, "KEY")
            self._selectors.setdefault(slug, {})[key] = value
        for text in override:
            slug, key, value = _split("--override", text, "FIELD")
            self._fields.setdefault(slug, {})[key] = value

    async def apply(self, snapshot: Snapshot, slugs: Sequence[str]) -> Snapshot:
        """Return the snapshot with the changes.

        Raises:
            NotAvailableError: for an unknown slug, naming what could not be loaded.
            ProfileDefinitionError: for a profile that is not dumped, an unknown field, and a value that does not fit.
        """
        for slug in {**self._selectors, **self._fields}:
            if slug not in slugs:
                find_entry(snapshot, slug)  # says why the slug is unknown
                raise ProfileDefinitionError(
                    "there is no such profile in this dump", profile=slug, expected=f"one of {', '.join(slugs)}"
                )
        if not (self._all or self._selectors or self._fields):
            return snapshot
        from profile_spawner.profiles.entry import make_entry
        from profile_spawner.profiles.snapshot import Snapshot

        entries = []
        for slug, entry in snapshot.entries.items():
            if slug in slugs:
                changed = entry.profile.changed(self._attributes(snapshot, entry))
                entry = await make_entry(changed, entry.source, snapshot.resolver)
            entries.append(entry)
        return Snapshot(entries, generation=snapshot.generation, resolver=snapshot.resolver, problems=snapshot.reported)

    def _attributes(self, snapshot: Snapshot, entry: Entry) -> dict[str, Any]:
        from profile_spawner.migrate.dumping import declared, template_profile
        from profile_spawner.params.definition import ParamRef
        from profile_spawner.profiles.class_profile import ClassProfile

        profile = entry.profile
        attributes = dict(self._all)
        for name, text in self._fields.get(profile.slug, {}).items():
            known = "allowed_groups" if name == "groups" else name
            attributes[known] = _typed(profile, name, text)
        if profile.slug in self._selectors:
            before = attributes.get("node_selector", {})
            if "node_selector" not in attributes and isinstance(profile, ClassProfile):
                before = declared(template_profile(snapshot, entry), "node_selector")
            if isinstance(before, ParamRef):
                raise ProfileDefinitionError(
                    f"is given by the param {before.name!r}, and labels cannot be added to it",
                    profile=profile.slug,
                    field="node_selector",
                    hint="Set the param, or replace it with --override SLUG:node_selector={KEY: VALUE}",
                )
            attributes["node_selector"] = {**before, **self._selectors[profile.slug]}
        return attributes


def _split(option: str, text: str, what: str) -> tuple[str, str, str]:
    slug, colon, rest = text.partition(":")
    key, equals, value = rest.partition("=")
    if not (slug and colon and key and equals):
        raise typer.BadParameter(f"{option} {text!r}: expected SLUG:{what}=VALUE")
    return slug, key, value


def _groups(name: str, text: str) -> list[str]:
    found = list(words(text))
    if not found:
        raise typer.BadParameter(f"{name} {text!r}: at least one group is needed")
    return found


def _typed(profile: Profile, name: str, text: str) -> Any:
    """Return the value for a field, of the field's type.

    Raises:
        ProfileDefinitionError: for a field that profiles do not have, with the nearest name.
    """
    from profile_spawner.profiles.attributes import ATTRIBUTES

    known = [*(a for a in ATTRIBUTES if a != "slug"), "groups"]
    if name not in known and not isinstance(profile.get(name), str | int | float):
        message = f"profiles have no such field{did_you_mean(name, known)}"
        raise ProfileDefinitionError(message, profile=profile.slug, field=name)
    try:
        if name in ("groups", "allowed_groups"):
            return _groups(name, text)
        if name in ("cpu_limit", "cpu_guarantee"):
            return float(text) if "." in text else int(text)
        if name not in ATTRIBUTES:
            return type(profile.get(name))(text)
        default = ATTRIBUTES[name].default
        if isinstance(default, dict | list):
            return next(iter(parse_yaml(text, name)), None)
        if isinstance(default, tuple) or name == "allowed_users":
            return list(words(text))
        if isinstance(default, bool):
            return text.lower() in ("true", "1", "yes", "on")
        return int(text) if isinstance(default, int) else text
    except ValueError:
        raise ProfileDefinitionError("the value does not fit", profile=profile.slug, field=name, value=text) from None
