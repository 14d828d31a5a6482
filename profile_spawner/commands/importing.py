"""`import profile-list` and `import configurator`: moving in."""

from __future__ import annotations

import enum
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import Origin, SourceError

from .findings import Finding
from .linting import lint_entry
from .loading import Sources, Whose, loaded, make_spawner, plain_setting, read_config, run
from .output import as_yaml

if TYPE_CHECKING:
    from traitlets.config import Config

    from profile_spawner.errors import ProfileSpawnerError
    from profile_spawner.moving.profile_lists import FoundList

__all__ = ["app"]

app = typer.Typer(
    name="import", help="Move in: take over what you have, and see that servers stay the same.", no_args_is_help=True
)

MOST_COMBINATIONS = 512
"""How many combinations of choices of one profile are compared at most."""


class Target(str, enum.Enum):
    """What is written."""

    yaml = "yaml"
    python = "python"


_File = Annotated[Path, typer.Argument(help="The file to import.", exists=True, dir_okay=False, metavar="FILE")]
_Output = Annotated[
    Path | None,
    typer.Option("--output-file", "-o", help="Write to this file; standard output by default.", dir_okay=False),
]


@app.command("profile-list")
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
) -> None:
    """Import a plain profile_list.

    FILE holds values of Zero to JupyterHub (singleuser.profileList, at any depth), a ConfigMap with such values, a
    list of its own, or is a jupyterhub_config.py. What looks wrong is told on standard error with its line, and kept
    as it is. An entry that cannot be kept is refused, and the exit code is 1.
    """
    found, config = _lists(file)
    entries = [e for one in found for e in one.entries]
    for finding in (f for one in found for f in _suspicious(one)):
        typer.secho(str(finding), fg=typer.colors.YELLOW, err=True)
    refused = [e for one in found for e in one.refused]
    for error in refused:
        typer.secho(f"Refused: {error}", fg=typer.colors.RED, err=True)
    text = _written(entries, target, file.name)
    _save(text, output_file)
    where = ", ".join(one.where or "the list" for one in found)
    typer.secho(f"{len(entries)} profiles imported from {where}, {len(refused)} refused", err=True)
    different = 0
    if verify:
        compared, differences = run(_compare(entries, text, target, config))
        different = len(differences)
        for line in differences:
            typer.secho(f"Different: {line}", fg=typer.colors.RED, err=True)
        if not different:
            typer.secho(f"{compared} pods compared with KubeSpawner's own: all are the same", err=True)
    raise typer.Exit(1 if refused or different else 0)


@app.command()
def configurator(file: _File, output_file: _Output = None) -> None:
    """Import the configuration of the EOEPCA ApplicationHub (config.yml).

    Everything in it is taken over: groups, volumes, files, init containers, role bindings, pull secrets, environment,
    secret mounts, manifests. Its templates become references; what has no counterpart is told on standard error. The
    result is loaded once: what is wrong with it is told too, and the exit code is 1.
    """
    from profile_spawner.moving.applicationhub import read_config as read
    from profile_spawner.yaml_text import parse_yaml

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
    problems = run(_problems_of(text, str(output_file or "the imported document")))
    for problem in problems:
        typer.secho(f"Error: {problem}", fg=typer.colors.RED, err=True)
    count = len(imported.document["profiles"])
    typer.secho(f"{count} profiles imported, {len(problems)} problems", err=True)
    raise typer.Exit(1 if problems else 0)


async def _problems_of(text: str, place: str) -> Sequence[ProfileSpawnerError]:
    """Return what is wrong with a document when it is loaded."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder:
        path = Path(folder) / "imported.yaml"
        path.write_text(text, encoding="utf-8")
        async with loaded(Sources(documents=(path,)), trusted=True) as found:
            for problem in found.snapshot.problems:
                problem.origin = Origin(place, problem.origin.line if problem.origin else 0)
            return found.snapshot.problems


def _save(text: str, path: Path | None) -> None:
    if path is None:
        typer.echo(text, nl=False)
    else:
        path.write_text(text, encoding="utf-8")
        typer.secho(f"wrote {path}", err=True)


def _lists(file: Path) -> tuple[list[FoundList], Config]:
    """Return the lists of a file, and the configuration that goes with them."""
    from traitlets.config import Config

    from profile_spawner.moving.profile_lists import FoundList, find_lists

    if file.suffix != ".py":
        return find_lists(file.read_bytes(), str(file)), Config()
    config = read_config(Sources(config=(file,)))
    listed = plain_setting(
        next(
            (config[s]["profile_list"] for s in ("ProfileSpawner", "KubeSpawner") if "profile_list" in config[s]), None
        )
    )
    if callable(listed):
        raise SourceError(
            "its profile_list is a function: only a static list can be imported",
            origin=Origin(str(file)),
            hint="Keep it as it is: c.KubeSpawner.profile_list works with ProfileSpawner unchanged",
        )
    if not listed:
        raise SourceError("it has no profile_list", origin=Origin(str(file)))
    if not isinstance(listed, list | tuple | Mapping):
        raise SourceError(
            "its profile_list is no list",
            origin=Origin(str(file)),
            field="profile_list",
            value=listed,
            expected="a list",
        )
    found = FoundList([], "c.KubeSpawner.profile_list", str(file))
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = []
    for number, entry in enumerate(listed if not isinstance(listed, Mapping) else [listed[k] for k in sorted(listed)]):
        place = _function_in(entry, "")
        name = str(entry.get("display_name", "")) if isinstance(entry, Mapping) else ""
        line = next((n for n, text in enumerate(lines, 1) if name and name in text), 0)
        if place is not None:
            found.refused.append(
                SourceError(
                    f"{place} is a function, which cannot be written down",
                    profile=name,
                    origin=Origin(str(file), line),
                    field=f"profile_list[{number}]",
                    hint="Leave this profile in c.KubeSpawner.profile_list: both work side by side",
                )
            )
        else:
            kept.append((entry, line))
    found.entries = [entry for entry, _ in kept]
    found.line_of = lambda number, path: kept[number][1]
    for section in ("ProfileSpawner", "KubeSpawner"):
        config[section].pop("profile_list", None)
    return [found], config


def _function_in(value: Any, path: str) -> str | None:
    if callable(value):
        return path
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return next((p for k, v in items if (p := _function_in(v, f"{path}.{k}" if path else str(k)))), None)


def _suspicious(found: FoundList) -> Iterator[Finding]:
    from profile_spawner.spawner import ProfileSpawner

    traits = ProfileSpawner.class_trait_names(config=True)
    for number, entry in enumerate(found.entries):

        def where(path: tuple[Any, ...], number: int = number) -> Origin:
            return Origin(found.place, found.line_of(number, path))

        for finding in lint_entry(entry, traits, where):
            yield Finding("warning", *list(finding.__dict__.values())[1:])


def _written(entries: Sequence[Mapping[str, Any]], target: Target, name: str) -> str:
    from profile_spawner.moving.profile_lists import as_document, as_module

    if target is Target.python:
        return as_module(entries, f"The profiles of {name}.")
    return as_yaml(as_document(entries))


# ------------------------------------------------------------------------------------------------ proof


async def _compare(
    entries: Sequence[Mapping[str, Any]], text: str, target: Target, config: Config
) -> tuple[int, list[str]]:
    """Compare every pod that the imported profiles make with KubeSpawner's own; return how many, and what differs."""
    import tempfile

    from kubespawner import KubeSpawner

    from profile_spawner.registry import raw_profiles

    with tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder:
        path = Path(folder) / ("imported.py" if target is Target.python else "imported.yaml")
        path.write_text(text, encoding="utf-8")
        sources = Sources(profiles_dirs=(Path(folder),)) if target is Target.python else Sources(documents=(path,))
        count, differences = 0, []
        async with loaded(sources, trusted=True) as found:
            missing = [str(p) for p in found.snapshot.problems]
            ours = found.config.copy()
            ours.merge({k: v for k, v in config.items() if k in ("KubeSpawner", "Spawner")})
            theirs = config.copy()
            theirs.KubeSpawner.profile_list = [dict(e) for e in entries]
            for raw in raw_profiles(list(entries), Origin("imported")):
                if raw.definition.get("allowed_groups") == [] or raw.definition.get("allowed_users") == []:
                    continue  # nobody may start it
                for options in _combinations(raw.definition):
                    count += 1
                    whose = Whose(options=options, groups=_everybody(raw.definition))
                    before = await _pod(make_spawner(KubeSpawner, theirs, whose, raw.slug))
                    after = await _pod(make_spawner(type(found.spawner(whose)), ours, whose, raw.slug))
                    if before != after and not (before.startswith("refused") and after.startswith("refused")):
                        differences.append(f"{raw.slug} with {options}: {_first_difference(before, after)}")
    return count, [*missing, *differences]


def _everybody(definition: Any) -> tuple[str, ...]:
    """Return all groups that anything in the entry names: nobody is kept out of what is compared."""
    groups: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key == "allowed_groups" and isinstance(item, list | tuple):
                    groups.update(map(str, item))
                else:
                    collect(item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)

    collect(definition)
    return tuple(sorted(groups))


def _combinations(definition: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of choices, typed values included, at most `MOST_COMBINATIONS`."""
    each = []
    for name, option in (definition.get("profile_options") or {}).items():
        values: list[dict[str, Any]] = [{name: str(choice)} for choice in option.get("choices") or ()]
        unlisted = option.get("unlisted_choice") or {}
        if unlisted.get("enabled"):
            typed = _matching(unlisted.get("validation_regex"))
            values += [{f"{name}--unlisted-choice": typed}] if typed is not None else []
        each.append(values or [{}])
    yield {}
    for chosen in itertools.islice(itertools.product(*each), MOST_COMBINATIONS):
        combined = {k: v for one in chosen for k, v in one.items()}
        if combined:
            yield combined


def _matching(pattern: str | None) -> str | None:
    """Return a text that the pattern takes; `None` when none of some usual ones does."""
    usual = ("quay.io/jupyter/base-notebook:2026-01-01", "main", "1", "2.5", "4G", "a", "abc", "https://example.org/a")
    return next((t for t in usual if not pattern or re.fullmatch(pattern, t)), None)


async def _pod(spawner: Any) -> str:
    from kubernetes_asyncio.client import ApiClient

    from profile_spawner.kube.kinds import plain

    try:
        await spawner.load_user_options()
        manifest = await spawner.get_pod_manifest()
    except Exception as e:  # noqa: BLE001 - what KubeSpawner refuses, whatever it is, must be refused here too
        return f"refused ({type(e).__name__})"
    serialise = ApiClient.sanitize_for_serialization
    return json.dumps(plain(serialise(ApiClient.__new__(ApiClient), manifest)), sort_keys=True)


def _first_difference(before: str, after: str) -> str:
    if before.startswith("refused") or after.startswith("refused"):
        return f"{before[:80]} before, {after[:80]} after"
    old, new = json.loads(before), json.loads(after)
    return next(_differences(old, new, ""), "the order of keys")


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{path}[{number}]")
    elif old != new:
        yield f"{path}: {old!r} before, {new!r} after"
