"""`diff`: shows the changes for a user between two states of the profiles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import ProfileSpawnerError, SourceError

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .building import masked_for_kubectl, preview
from .choices import every_choice, user_for
from .cluster import Kubeconfig, Namespace, read_object
from .loading import loaded
from .output import Format, OutputOption, make_table, print_data, report_problems
from .validating import with_paths

if TYPE_CHECKING:
    from profile_spawner.profiles.options import Option

__all__ = ["diff", "differences"]

_NOISE = ("profile-spawner/spawn", "profile-spawner/generation", "profile-spawner/digest", "profile-spawner/params")
_HASH = re.compile(r"-[0-9a-f]{20}\b")
_STATE = (
    "A folder or file of profiles, a dump, a jupyterhub_config.py; in a git repository REVISION:PATH; or "
    "configmap/NAME of a cluster."
)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help=_STATE, metavar="OLD")],
    new: Annotated[str, typer.Argument(help="The same.", metavar="NEW")],
    user: args.User = "user",
    groups: args.Groups = "",
    admin: args.Admin = False,
    server: args.Server = "",
    options: args.Options = None,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
    output: OutputOption = Format.table,
) -> None:
    """Say what changes for a user, profile by profile and object by object, field by field.

    Every profile of both states is built as at a start. The values of Secrets are not shown. Exit code 1: something
    changes.
    """
    viewer = UserOptions.of(user, groups, admin, server, options, auth_state)
    with contextlib.ExitStack() as stack:
        states = [_state(_path_of(spec, kubeconfig, namespace, stack), viewer, chart) for spec in (old, new)]
    changes = list(_changes(*states))
    shown = [[c["profile"], c["change"], c["for"], c["object"], c["field"], c["old"], c["new"]] for c in changes]
    table = make_table(["profile", "change", "for", "object", "field", "old", "new"], shown)
    print_data(changes, output, table if changes else "Nothing changes.")
    raise typer.Exit(1 if changes else 0)


def _path_of(spec: str, kubeconfig: Path | None, namespace: str | None, stack: contextlib.ExitStack) -> Path:
    """Return where a state lies in the file system, put there if need be."""
    if Path(spec).exists():
        return Path(spec)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="profile-spawner-")))
    if spec.startswith("configmap/"):
        found = asyncio.run(read_object("configmaps", spec.partition("/")[2], kubeconfig, namespace))
        for key, text in (found.get("data") or {}).items():
            name = key if key.endswith((".yaml", ".yml", ".json")) else f"{key}.yaml"
            (folder / name).write_text(text, encoding="utf-8")
        return folder
    revision, colon, path = spec.partition(":")
    if colon:
        return _from_git(revision, path or ".", folder)
    raise SourceError("there is no such file or folder", field="OLD or NEW", value=spec, expected=_STATE)


def _from_git(revision: str, path: str, folder: Path) -> Path:
    """Unpack a path of a revision of the repository here."""
    if revision.startswith("-"):
        raise SourceError("this is not a revision", value=revision)
    archive = subprocess.run(["git", "archive", "--format=tar", revision, "--", path], capture_output=True, check=False)
    if archive.returncode:
        text = archive.stderr.decode(errors="replace").strip()
        raise SourceError(f"git cannot give that state: {text}", value=f"{revision}:{path}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / path


def _state(path: Path, user: UserOptions, chart: Path | None) -> dict[str, dict[str, Any]]:
    """Return every profile of a state: for whom it is, and the objects that a start would create, by kind and name."""
    result: dict[str, dict[str, Any]] = {}
    with loaded(with_paths(Sources(chart=chart), [path]), user=user, trusted=True) as found:
        report_problems(found.snapshot.problems)
        for entry in found.snapshot.entries.values():
            offered = {
                "display_name": entry.offer.display_name,
                "description": entry.offer.description,
                "category": entry.category,
                "default": entry.offer.default,
                "options": {o.name: _option(o) for o in entry.offer.options},
            }
            objects: dict[str, Any] = {"page": offered}
            try:
                chosen = {**next(every_choice(entry), {}), **user.chosen}  # with examples of what users must fill in
                made = preview(found, entry.slug, user_for(entry, user, chosen))
            except ProfileSpawnerError as e:
                objects["error"] = {"message": e.message}
            else:
                for manifest in (made.pod, *made.manifests):
                    objects[_name(manifest)] = _quiet(masked_for_kubectl(manifest))
            result[entry.slug] = {"for": entry.offer.access.describe(), "objects": objects}
    return result


def _option(option: Option) -> dict[str, Any]:
    choices = {"choices": {c.name: c.display_name for c in option.listed()}} if option.listed() else {}
    written = option.document()
    return {k: written[k] for k in ("type", "display_name", "default", "min", "max") if k in written} | choices


def _name(manifest: Mapping[str, Any]) -> str:
    """Return a name that is equal in both states: the name of a shared object depends on its content."""
    name = str(manifest["metadata"]["name"])
    return f"{manifest['kind']} {_HASH.sub('', name)}"


def _quiet(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without the parts that differ at every start, such as hashes in names."""
    from profile_spawner.profiles.user_text import each_text

    metadata = {**manifest["metadata"]}
    metadata.pop("name", None)
    for key in ("labels", "annotations"):
        if key in metadata:
            metadata[key] = {k: v for k, v in metadata[key].items() if k not in _NOISE}
    return dict(each_text({**manifest, "metadata": metadata}, lambda text: _HASH.sub("-*", text)))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for slug in dict.fromkeys([*old, *new]):
        if slug not in new:
            yield _change(slug, "removed", old[slug]["for"])
        elif slug not in old:
            yield _change(slug, "added", new[slug]["for"])
        else:
            if old[slug]["for"] != new[slug]["for"]:
                yield _change(slug, "changed", new[slug]["for"], "page", "for", old[slug]["for"], new[slug]["for"])
            before, after = old[slug]["objects"], new[slug]["objects"]
            for name in dict.fromkeys([*before, *after]):
                if name not in before or name not in after:
                    sides = ("", "added") if name not in before else ("present", "removed")
                    yield _change(slug, "changed", new[slug]["for"], name, "", *sides)
                    continue
                for field, was, now in differences(before[name], after[name]):
                    yield _change(slug, "changed", new[slug]["for"], name, field, was, now)


def _change(
    slug: str, change: str, audience: str, name: str = "", field: str = "", old: Any = "", new: Any = ""
) -> dict[str, Any]:
    return {
        "profile": slug,
        "change": change,
        "for": audience,
        "object": name,
        "field": field,
        "old": _shown(old),
        "new": _shown(new),
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields that differ in plain data: path, old and new value; an empty text for what is not there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key, ""), new.get(key, ""), inner)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _items(old, new, path)
    elif old != new:
        yield path, old, new


def _items(old: list[Any], new: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    """Compare lists of named things by their names, other lists by position."""
    named = all(isinstance(i, Mapping) and "name" in i for i in (*old, *new))
    if not named or len({i["name"] for i in old}) < len(old) or len({i["name"] for i in new}) < len(new):
        if old != new:
            yield path, old, new
        return
    before, after = ({str(i["name"]): i for i in side} for side in (old, new))
    for name in dict.fromkeys([*before, *after]):
        yield from differences(before.get(name, ""), after.get(name, ""), f"{path}[{name}]")
