"""`import profile-list` and `import configurator`: convert other formats to profile documents."""

from __future__ import annotations

import contextlib
import copy
import enum
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import (
    Origin,
    ProfileDefinitionError,
    ProfileSpawnerError,
    ProfileWarning,
    SourceError,
    described,
)
from profile_spawner.profiles.context import FACTS

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .configuration import SPAWNER_SECTIONS, HubConfig, config_code, is_values, read_config, setting
from .diffing import differences
from .findings import Finding, finding_of
from .loading import loaded, make_spawner
from .output import as_yaml, place, plain
from .places import list_as_written, mentions
from .settings import guard_functions, refused_settings, spawner_class_of, unfilled_settings

if TYPE_CHECKING:
    from traitlets.config import Config

    from profile_spawner.migrate.chart_config import CodeNotRun
    from profile_spawner.migrate.profile_lists import FoundList
    from profile_spawner.profiles.options import Unlisted

    from .allowances import Allowances

__all__ = ["configurator", "profile_list"]

importing = typer.Typer(
    name="import", help="Move in: take over what you have, and see that servers stay the same.", no_args_is_help=True
)
app.add_typer(importing)

_REFUSED = "refused: "
_COMPARED = ("duplicate-key", "replaces-hub")
"""Rules about parts of a configuration that count in a comparison as they are."""
MOST_COMBINATIONS = 512
"""How many combinations of choices of one profile are compared at most."""


class Target(str, enum.Enum):
    """The output format."""

    yaml = "yaml"
    python = "python"


_File = Annotated[Path, typer.Argument(help="The file to import.", exists=True, dir_okay=False, metavar="FILE")]
_Output = Annotated[
    Path | None,
    typer.Option("--output-file", "-o", help="Write to this file; standard output by default.", dir_okay=False),
]


@importing.command("profile-list")
def profile_list(
    file: _File,
    target: Annotated[
        Target, typer.Option("--as", help="A YAML document, or a module of Python classes.")
    ] = Target.yaml,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Show that every pod is the same as before, for all choices, with KubeSpawner."),
    ] = False,
    output_file: _Output = None,
    chart: args.Chart = None,
) -> None:
    """Import a plain profile_list.

    FILE holds values of Zero to JupyterHub (singleuser.profileList, at any depth, hub.config, or code in
    hub.extraConfig and hub.extraFiles), a ConfigMap with such values or with a jupyterhub_config.py, a list of its own,
    or is a jupyterhub_config.py. What looks wrong is kept, and reported on standard error with its
    line; so is what the hub's data_policy has to allow. An entry that cannot be kept is refused, and the exit code is
    1.
    """
    with _lists(file, chart) as (found, hub, unknown):
        for problem in unknown:
            message = f"what the code does with profile_list from {place(problem.origin)} on is not known"
            typer.secho(f"Not imported: {message}", fg=typer.colors.RED, err=True)
        failed = _import(found, hub, target, file.name, output_file, verify=verify) or unknown
    raise typer.Exit(1 if failed else 0)


def _import(
    found: Sequence[FoundList], hub: HubConfig, target: Target, name: str, output_file: Path | None, *, verify: bool
) -> bool:
    """Write the lists, and report what is to be said of them; return whether something is refused or different."""
    before = []
    entries: list[dict[str, Any]] = []
    warnings: list[Finding] = []
    for one in found:
        kept, written, changes = _converted(one)
        before += kept
        entries += written
        warnings += [*_suspicious(one), *changes]
    restricted = list(_restricted(found, hub.config)) if target is Target.yaml else []
    told = {(f.line, f.field) for f in warnings}
    for finding in (*warnings, *(f for f in restricted if (f.line, f.field) not in told)):
        typer.secho(str(finding), fg=typer.colors.YELLOW, err=True)
    refused = [e for one in found for e in one.refused]
    for error in refused:
        typer.secho(f"Refused: {place(error)}", fg=typer.colors.RED, err=True)
    text = _written(entries, target, name)
    _save(text, output_file)
    where = ", ".join(one.where or "the list" for one in found)
    typer.secho(f"{len(entries)} profiles imported from {where}, {len(refused)} refused", err=True)
    if restricted:
        slugs = len({f.profile for f in restricted})
        message = f"{slugs} of them are loaded only when the hub's data_policy allows what is reported above"
        typer.secho(message, fg=typer.colors.YELLOW, err=True)
    return not (verify_same(before, text, target, hub, refused) if verify else True) or bool(refused)


def verify_same(
    entries: Sequence[Mapping[str, Any]], text: str, target: Target, hub: HubConfig, refused: Sequence[Exception]
) -> bool:
    """Print how the pods compare with KubeSpawner's own, and return whether none is different.

    Args:
        entries: The entries that are imported.
        text: What they have become.
        target: Its form.
        hub: The configuration.
        refused: The entries that are not imported.
    """
    compared = _compare(entries, text, target, hub.config)
    if refused:
        compared.missed.append("the profiles that are refused above")
    if any(not (isinstance(p, ProfileWarning) and p.rule in _COMPARED) for p in hub.problems):
        compared.missed.append("what is reported above as wrong or not checked in the hub's configuration")
    for line in compared.different:
        typer.secho(f"Different: {line}", fg=typer.colors.RED, err=True)
    for line in compared.missed:
        typer.secho(f"Not compared: {line}", fg=typer.colors.YELLOW, err=True)
    for why, count in compared.refused.items():
        typer.secho(f"Refused by KubeSpawner, and here: {why} ({count} of its choices)", fg="yellow", err=True)
    if not compared.different:
        some = ", but not all could be compared" if compared.missed else ""
        same = f"{compared.same} pods compared with KubeSpawner's own: all are the same{some}"
        both = f"; {compared.refused.total()} refused by both" if compared.refused else ""
        typer.secho((same if compared.same else "no pod could be compared") + both, err=True)
    return not compared.different


@importing.command()
def configurator(file: _File, output_file: _Output = None) -> None:
    """Import the configuration of the EOEPCA ApplicationHub (config.yml).

    Everything in it is taken over: groups, volumes, files, init containers, role bindings, pull secrets, environment,
    secret mounts, manifests. Its templates become references; what has no counterpart is reported on standard error.
    Every profile is built, and what the hub's configuration has to allow is printed as lines to paste: on standard
    output, or on standard error where the document is there. When there are problems, the exit code is 1.
    """
    from profile_spawner.migrate.applicationhub import read_config as read
    from profile_spawner.profiles.yaml_text import parse_yaml

    document = next(iter(parse_yaml(file.read_bytes(), str(file))), None)
    try:
        imported = read(document, str(file))
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise SourceError(
            f"a part is not what it should be: {type(e).__name__}: {e}", origin=Origin(str(file))
        ) from None
    for warning in imported.warnings:
        typer.secho(f"Warning: {warning}", fg=typer.colors.YELLOW, err=True)
    text = as_yaml(imported.document)
    _save(text, output_file)
    allowed = _allowances(text, str(output_file or "the imported document"))
    for problem in allowed.problems:
        typer.secho(f"Error: {problem}", fg=typer.colors.RED, err=True)
    count = len(imported.document["profiles"])
    typer.secho(f"{count} profiles imported, {len(allowed.problems)} problems", err=True)
    name = str((output_file or Path("profiles.yaml")).absolute())
    typer.secho("In place of the ApplicationHub's hooks, the hub's configuration gets:\n", err=True)
    documents = f'c.ProfileSpawner.profile_documents = ["{name}"]\n'
    typer.echo(APPLICATION_HUB + documents + allowed.lines(), err=output_file is None, nl=False)
    raise typer.Exit(1 if allowed.problems else 0)


APPLICATION_HUB = """\
c.JupyterHub.spawner_class = "profile-spawner"
c.KubeSpawner.enable_user_namespaces = True
c.KubeSpawner.user_namespace_template = "jupyter-{username}"
c.KubeSpawner.environment.update({"CALRISSIAN_POD_NAME": "{pod_name}"})
"""
"""What an ApplicationHub does by hooks: a namespace for each user, with the claims, and a variable for workflows."""


def _allowances(text: str, place: str) -> Allowances:
    """Return what the hub has to allow for a document; its problems have the lines of the document."""
    import tempfile

    from .allowances import find_allowances

    with tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder:
        path = Path(folder) / "imported.yaml"
        path.write_text(text, encoding="utf-8")
        found = find_allowances(path, APPLICATION_HUB)
        path.write_text(_ESCAPED.sub(r"\1!", text), encoding="utf-8")
        found.problems = [*found.problems, *_not_filled_in(path)]
        for problem in found.problems:
            problem.origin = Origin(place, problem.origin.line if problem.origin else 0)
        return found


_FACT = rf"[ \t]*(?:{'|'.join(FACTS)})[ \t]*\}}\}}"
_LITERAL = re.compile(rf"\{{\{{{_FACT}")
_ESCAPED = re.compile(rf"(\{{{{4}})(?={_FACT})")
"""Braces of a document that are meant as text, and would look like a reference after the build."""


def _not_filled_in(document: Path) -> Iterator[ProfileSpawnerError]:
    """Yield the texts of built profiles in which a reference is still there: their fields have no references."""
    from profile_spawner.policy.judge import dotted
    from profile_spawner.profiles.context import ServerContext
    from profile_spawner.profiles.selection import default_selection
    from profile_spawner.profiles.user_text import nodes

    context = replace(ServerContext.example(), user_namespaces=True)
    with loaded(Sources(documents=(document,)), trusted=True) as found:
        for entry in found.snapshot.entries.values():
            offer = entry.offer
            texts: dict[str, Any] = {"display_name": offer.display_name, "description": offer.description}
            texts["allowed_groups"] = sorted(offer.access.groups or ())
            with contextlib.suppress(ProfileSpawnerError):  # which is reported already
                params = found.snapshot.resolve(entry.profile, None)
                build = found.run(entry.profile.build(context, params, default_selection(offer)))
                texts |= build.kubespawner_override
                texts |= {f"{o.kind} {o.name}": plain(o.body) for o in build.objects}
            for path, text in nodes(texts):
                literal = _LITERAL.search(text) if isinstance(text, str) else None
                if literal is not None:
                    yield ProfileDefinitionError(
                        f"the template is not filled in here; users get {literal[0]} as it is",
                        profile=entry.slug,
                        origin=entry.profile.where(path[:1]),
                        field=dotted(path),
                        hint="Write a text that is the same for all users",
                    )


def _save(text: str, path: Path | None) -> None:
    if path is None:
        typer.echo(text, nl=False)
    else:
        path.write_text(text, encoding="utf-8")
        typer.secho(f"wrote {path}", err=True)


@contextlib.contextmanager
def _lists(file: Path, chart: Path | None) -> Iterator[tuple[list[FoundList], HubConfig, list[CodeNotRun]]]:
    """Yield the lists of a file, the configuration that goes with them, and the code that may change the lists.

    Functions of the configuration work until the end.

    Raises:
        SourceError: If there is no list that can be imported.
    """
    from traitlets.config import Config

    from profile_spawner.migrate.placeholders import OPAQUE
    from profile_spawner.migrate.profile_lists import find_lists

    written: list[FoundList] = []
    missing: SourceError | None = None
    if file.suffix != ".py":
        try:
            written = find_lists(file.read_bytes(), str(file))
        except SourceError as e:
            missing = e
        if not (is_values(file) or config_code(file)):
            if missing is not None:
                raise missing
            yield written, HubConfig(Config(), (file,)), []
            return
    with read_config(Sources(config=(file,), chart=chart)) as hub:
        listed = setting(hub.config, "profile_list")
        for section in SPAWNER_SECTIONS:
            hub.config[section].pop("profile_list", None)
        winner = hub.name_of("", "profile_list")
        _report(hub)
        # Of several lists, and of one that code changes, the hub has one. Placeholders stay as they are written.
        if hub.values is not None and len(hub.values.layers) == 1:
            written = [found for found in written if found.where.endswith(winner)] or written
        entries = [dict(entry) for found in written for entry in found.entries]
        same = isinstance(listed, list | tuple) and entries == [*listed]
        untouched = "profile_list" not in hub.setters and (not hub.code or OPAQUE in repr(listed))
        if written and (same or untouched):
            yield written, hub, hub.without("profile_list")
        elif listed:
            yield [_computed(hub, listed, file)], hub, hub.without("profile_list")
        elif as_written := _list_as_written(hub):
            yield [_computed(hub, as_written, file, "is made by code that cannot be run here")], hub, []
        else:
            raise _no_list(hub) or missing or SourceError("it has no profile_list", origin=Origin(str(file)))


def _list_as_written(hub: HubConfig) -> list[Any]:
    """Return the list that stands as a whole in code that cannot be run; empty without one."""
    codes = [code for code in hub.code if mentions(code.text, "profile_list")]
    return list_as_written(codes[0].text) if len(codes) == 1 and codes[0] in (p.code for p in hub.not_run()) else []


def _no_list(hub: HubConfig) -> SourceError | None:
    """Return why a list is not imported that code may make: what is written down of it are only parts."""
    lines = [(code, line) for code in hub.code for line in mentions(code.text, "profile_list")]
    if not lines:
        return None
    code, line = lines[-1]
    failed = code in (problem.code for problem in hub.not_run())
    why = "code that cannot be run here" if failed else "code that sets no list when it is run here"
    return SourceError(
        f"the list is made by {why}, so it is not known as a whole, and its parts are not imported",
        origin=Origin(code.file, code.before + line),
        field=code.name or None,
        hint="Leave it in the hub's configuration: profile_list works with ProfileSpawner unchanged",
    )


def _report(hub: HubConfig) -> None:
    """Report what does not count in the comparison because it is wrong or cannot be run here."""
    from profile_spawner.spawner import ProfileSpawner

    traits = ProfileSpawner.class_traits(config=True)
    hub.problems += refused_settings(hub, SPAWNER_SECTIONS, traits)
    hub.problems += unfilled_settings(hub, SPAWNER_SECTIONS)
    if (other := spawner_class_of(hub)[1]) is not None:
        hub.problems.append(other)

    def tell(problem: ProfileSpawnerError) -> None:
        typer.secho(str(replace(finding_of(problem, "configuration"), level="warning")), fg="yellow", err=True)

    def tell_later(problem: ProfileSpawnerError) -> None:
        hub.problems.append(problem)
        tell(problem)

    for problem in hub.problems:
        tell(problem)
    guard_functions(hub, SPAWNER_SECTIONS, traits, tell_later)


def _computed(
    hub: HubConfig, listed: Any, file: Path, opaque: str = "holds a placeholder that is not rendered yet"
) -> FoundList:
    """Return a list that the code of a configuration sets; `opaque` says why a value is not known.

    Raises:
        SourceError: If it is not a list.
    """
    from profile_spawner.migrate.dumping import functions_in
    from profile_spawner.migrate.placeholders import OPAQUE
    from profile_spawner.migrate.profile_lists import FoundList
    from profile_spawner.profiles.plain_entries import each_entry, read_entry

    origin = hub.origin_of("profile_list") or Origin(str(file))
    if callable(listed):
        raise SourceError(
            "its profile_list is a function: only a static list can be imported",
            origin=origin,
            hint="Keep it as it is: c.KubeSpawner.profile_list works with ProfileSpawner unchanged",
        )
    if not isinstance(listed, list | tuple | Mapping):
        raise SourceError(
            "its profile_list is not a list", origin=origin, field="profile_list", value=listed, expected="a list"
        )
    found = FoundList([], hub.name_of("c.KubeSpawner", "profile_list"), str(file))
    places, lines = hub.places(), []
    for number, (called, entry) in enumerate(each_entry(listed)):
        key = called.partition(".")[2] if isinstance(listed, Mapping) else number

        def where(path: tuple[Any, ...], entry: Any = entry, key: Any = key) -> Origin:
            known = (
                places.of_definition(entry, Origin(origin.source))(path) if isinstance(entry, Mapping) else Origin("")
            )
            return known if known.line else hub.origin_of("profile_list", key, *path) or origin

        try:
            if OPAQUE in repr(entry):
                name = entry.get("display_name") if isinstance(entry, Mapping) else None
                raise SourceError(opaque, profile=name, origin=where(()), field=called)
            read_entry(entry, where(()), called)
            if (function := next(functions_in(entry), None)) is not None:
                raise SourceError(
                    f"{function} is a function, which cannot be written down",
                    profile=str(entry.get("display_name", "")),
                    origin=where(()),
                    field=called,
                    hint="Leave this profile in c.KubeSpawner.profile_list: both work side by side",
                )
        except ProfileSpawnerError as e:
            e.origin, e.field = e.origin or where(()), e.field or called
            found.refused.append(e)
        else:
            found.entries.append(entry)
            lines.append(where)
    found.line_of = lambda number, path: lines[number](path).line
    return found


def _converted(found: FoundList) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]], list[Finding]]:
    """Return the entries of a list that can be kept, how they are written, and what is to be said of them."""
    from profile_spawner.migrate.profile_lists import converted

    kept: list[Mapping[str, Any]] = []
    written: list[dict[str, Any]] = []
    findings = [_finding(found, number, path, message, "default-choice") for number, path, message in found.reordered]
    for number, entry in enumerate(found.entries):
        try:
            made, changes = converted(entry)
        except ProfileSpawnerError as e:
            e.origin = Origin(found.place, found.line_of(number, tuple((e.field or "").split("."))))
            e.profile = _name(entry)
            found.refused.append(e)
            continue
        kept.append(entry)
        written.append(made)
        findings += [_finding(found, number, path, message, "converted") for path, message in changes]
    return kept, written, findings


def _finding(found: FoundList, number: int, path: tuple[Any, ...], message: str, rule: str) -> Finding:
    entry = found.entries[number]
    line = found.line_of(number, path)
    return Finding("warning", rule, message, _name(entry), found.place, line, ".".join(map(str, path)))


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("slug") or entry.get("display_name") or "")


def _restricted(found: Sequence[FoundList], config: Config) -> Iterator[Finding]:
    """Yield what the hub has to allow to documents, so that the profiles are not refused there."""
    from profile_spawner.policy.judge import dotted, judge_profile, judge_texts, place_in
    from profile_spawner.policy.rules import Case
    from profile_spawner.policy.settings import DataPolicy
    from profile_spawner.profiles.options import parse_options

    settings = config.ProfileSpawner.get("data_policy")
    policy = DataPolicy.of(settings if isinstance(settings, Mapping) else {}, "documents")
    for one in () if policy.unrestricted else found:
        for number, entry in enumerate(one.entries):
            options = parse_options(entry.get("profile_options"), profile=_name(entry))
            override, attributes = entry.get("kubespawner_override") or {}, {"icon": entry.get("icon")}
            refusals = judge_profile(override, options, attributes, Case(rights=policy))
            for refusal in (*judge_texts(entry, policy), *refusals):
                path = place_in(entry, refusal)
                problem = refusal.problem(_name(entry), Origin(one.place, one.line_of(number, path)), dotted(path))
                problem.hint = problem.hint or 'To allow it: data_policy = {"unrestricted": True}'
                yield replace(finding_of(problem, "policy"), level="warning")


def _suspicious(found: FoundList) -> Iterator[Finding]:
    from profile_spawner.profiles.linting import lint_entry
    from profile_spawner.spawner import ProfileSpawner

    traits = ProfileSpawner.class_traits(config=True)
    for number, entry in enumerate(found.entries):

        def where(path: tuple[Any, ...], number: int = number) -> Origin:
            return Origin(found.place, found.line_of(number, path))

        for warning in lint_entry(entry, traits, where):
            if warning.rule not in ("open-pattern", "open-to-everybody"):  # what is written has the right meaning
                yield replace(finding_of(warning, ""), level="warning")


def _written(entries: Sequence[Mapping[str, Any]], target: Target, name: str) -> str:
    from profile_spawner.migrate.profile_lists import as_document, as_module

    if target is Target.python:
        return as_module(entries, f"The profiles of {name}.")
    return as_yaml(as_document(entries))


# ------------------------------------------------------------------------------------------------ proof


@dataclass
class _Compared:
    """The result of a comparison.

    Attributes:
        same: How many pods are the same.
        different: What differs.
        missed: What was not compared.
        refused: The combinations that KubeSpawner refuses as well: profile and reason, and how many.
    """

    same: int = 0
    different: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def _compare(entries: Sequence[Mapping[str, Any]], text: str, target: Target, config: Config) -> _Compared:
    """Compare the pods that the imported profiles make with KubeSpawner's own."""
    import tempfile

    from profile_spawner.profiles.plain_entries import read_profile_list
    from profile_spawner.spawner import KubeSpawner

    result = _Compared()
    with tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder:
        path = Path(folder) / ("imported.py" if target is Target.python else "imported.yaml")
        path.write_text(text, encoding="utf-8")
        sources = Sources(profiles_dirs=(Path(folder),)) if target is Target.python else Sources(documents=(path,))
        with loaded(sources, trusted=True) as found:
            result.different += [str(p) for p in found.snapshot.errors]
            results: dict[Any, Any] = {}
            hubs = _with_functions_called_once(config, results)
            ours = found.config.copy()
            ours.merge({k: v for k, v in hubs.items() if k in ("KubeSpawner", "Spawner")})
            theirs = hubs.copy()
            theirs.KubeSpawner.profile_list = [dict(e) for e in entries]
            for raw in read_profile_list(list(entries), Origin("imported")):
                if raw.definition.get("allowed_groups") == [] or raw.definition.get("allowed_users") == []:
                    result.missed.append(f"{raw.slug}: no user may start it")
                    continue
                chosen, left_out = _combinations(raw.definition)
                result.missed += [f"{raw.slug}: {what}" for what in left_out]
                for options in chosen:
                    results.clear()
                    user = UserOptions(chosen=options, groups=_everybody(raw.definition))
                    before = found.run(_pod(KubeSpawner, theirs, user, raw.slug))
                    after = found.run(_pod(found.spawner_class, ours, user, raw.slug))
                    if before.startswith(_REFUSED) and after.startswith(_REFUSED):
                        result.refused[f"{raw.slug}: {before.removeprefix(_REFUSED)}"] += 1
                    elif before != after:
                        result.different.append(f"{raw.slug} with {options}: {_first_difference(before, after)}")
                    else:
                        result.same += 1
    return result


def _with_functions_called_once(config: Config, results: dict[Any, Any]) -> Config:
    """Return a configuration whose functions are called once for both pods: they may return something else each time.

    Args:
        config: The configuration.
        results: What they have returned.
    """
    from profile_spawner.spawner.applying import CALLABLE_TRAITS, called_once

    made = copy.deepcopy(config)
    for settings in made.values():
        for name in CALLABLE_TRAITS & settings.keys():
            settings[name] = called_once(settings[name], results)
        environment = settings.get("environment")
        if isinstance(environment, Mapping):
            settings["environment"] = {key: called_once(value, results) for key, value in environment.items()}
    return made


def _everybody(definition: Any) -> tuple[str, ...]:
    """Return all groups that anything in the entry names: with them, all choices are compared."""
    groups: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in ("allowed_groups", "allowed_teams") and isinstance(item, list | tuple):
                    groups.update(map(str, item))
                else:
                    collect(item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)

    collect(definition)
    return tuple(sorted(groups))


def _combinations(definition: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return combinations of choices, typed values included, and what is not among them.

    All of them, or, where they are more than `MOST_COMBINATIONS`, every choice once and then that many.
    """
    from profile_spawner.profiles.options import UNLISTED, parse_options

    each: list[list[dict[str, Any]]] = []
    left_out = []
    for option in parse_options(definition.get("profile_options"), profile=_name(definition)):
        declared = definition["profile_options"][option.name]
        values: list[dict[str, Any]] = [{option.name: choice} for choice in declared.get("choices") or ()]
        typed = option.typed()
        if typed is not None:
            text = _matching(typed)
            values += [{f"{option.name}{UNLISTED}": text}] if text is not None else []
            if text is None:
                why = f"none of some usual ones matches {typed.pattern!r}"
                left_out.append(f"values that users type for {option.name}: {why}")
        each.append(values or [{}])
    total = math.prod(map(len, each))
    found: list[dict[str, Any]] = [{}]
    if total > MOST_COMBINATIONS:
        found += [one for values in each for one in values]
        left_out.append(f"{total - MOST_COMBINATIONS} of {total} combinations; every choice alone was")
    for chosen in itertools.islice(itertools.product(*each), MOST_COMBINATIONS):
        combined = {k: v for one in chosen for k, v in one.items()}
        if combined:
            found.append(combined)
    return found, left_out


def _matching(typed: Unlisted) -> str | None:
    """Return a text that KubeSpawner takes for the pattern, if possible one that is valid here as well."""
    from profile_spawner.profiles.user_text import EXAMPLES

    texts = [text for text in EXAMPLES if typed.pattern is None or re.match(typed.pattern, text)]
    return next((text for text in texts if not typed.check(text)[1]), texts[0] if texts else None)


async def _pod(spawner_class: type, config: Config, user: UserOptions, slug: str) -> str:
    from profile_spawner.policy.kinds import plain

    try:
        spawner = make_spawner(spawner_class, config, user, slug)
        await spawner.load_user_options()
        manifest = await spawner.get_pod_manifest()
    except Exception as e:  # noqa: BLE001 - what KubeSpawner refuses, whatever it is, must be refused here too
        return f"{_REFUSED}{described(e)}"
    return json.dumps(plain(spawner.api.api_client.sanitize_for_serialization(manifest)), sort_keys=True)


def _first_difference(before: str, after: str) -> str:
    if before.startswith(_REFUSED) or after.startswith(_REFUSED):
        return f"{before[:80]} before, {after[:80]} after"
    path, old, new = next(differences(json.loads(before), json.loads(after)), ("the order of keys", "", ""))
    return f"{path}: {old!r} before, {new!r} after" if path != "the order of keys" else path
