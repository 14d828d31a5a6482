"""`validate`: everything that can be known before a user meets it."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError

from .building import preview
from .cluster import Kubeconfig, Namespace, client
from .findings import Finding, finding_of, print_findings
from .linting import lint_entry
from .loading import Loaded, Sources, Whose, loaded, run, with_sources

if TYPE_CHECKING:
    from profile_spawner.registry import Entry

__all__ = ["validate", "with_paths"]


class Report(str, enum.Enum):
    """How findings are printed."""

    text = "text"
    json = "json"
    sarif = "sarif"


@with_sources
def validate(
    sources: Sources,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Modules, documents, configuration files (*config*.py), values of Zero to JupyterHub, or folders.",
            exists=True,
            metavar="[PATH]...",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count too.")] = False,
    server_dry_run: Annotated[
        bool, typer.Option("--server-dry-run", help="Let a cluster's API server judge all objects too.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
    output: Annotated[Report, typer.Option("--output", help="sarif is for annotations in code review.")] = Report.text,
) -> None:
    """Check profiles: keys, values, files, access, policy, and every pod and object that they make.

    Every profile is built as at a start, with the installed KubeSpawner, for every one of its choices, and judged by a
    small API server in this process. Exit code 1: errors were found (with --strict also warnings). 2: a wrong call.
    """
    work = _validate(with_paths(sources, paths or ()), server_dry_run, kubeconfig, namespace)
    findings, checked = run(work)
    print_findings(findings, output.value, checked)
    failed = any(f.level == "error" or strict for f in findings)
    raise typer.Exit(1 if failed else 0)


def with_paths(sources: Sources, paths: Sequence[Path]) -> Sources:
    """Sort paths by what they are: a hub's configuration, modules of profiles, or documents."""
    config, folders, documents = list(sources.config), list(sources.profiles_dirs), list(sources.documents)
    for path in paths:
        modules = [p for p in (path.glob("*.py") if path.is_dir() else [path]) if p.suffix == ".py"]
        if path.is_dir():
            if modules and all(map(_is_config, modules)):
                config.append(path)
            elif modules or any(path.glob("*/__init__.py")):
                folders.append(path)
            if any(p.suffix in (".yaml", ".yml", ".json") for p in path.iterdir()):
                documents.append(path)
        elif modules:
            (config if _is_config(path) else folders).append(path if _is_config(path) else path.parent)
        else:
            documents.append(path)
    return replace(
        sources, config=tuple(config), profiles_dirs=tuple(dict.fromkeys(folders)), documents=tuple(documents)
    )


_CONFIG = re.compile(r"^\s*(?:c\.\w+\.|c\s*=\s*get_config\(\))", re.MULTILINE)


def _is_config(path: Path) -> bool:
    return bool(_CONFIG.search(path.read_text(encoding="utf-8", errors="replace")))


async def _validate(
    sources: Sources, server: bool, kubeconfig: Path | None, namespace: str | None
) -> tuple[list[Finding], int]:
    findings: list[Finding] = []
    async with loaded(sources) as found:
        findings += [finding_of(problem, _rule_of(problem)) for problem in found.snapshot.problems]
        findings += _unreachable(found)
        traits = type(found.spawner(Whose())).class_trait_names(config=True)
        places = _Places(sources)
        for entry in found.snapshot.entries.values():
            if entry.raw is not None:
                findings += lint_entry(entry.raw, traits, places.of(entry))
        # What the policy refuses has not become a profile, but may be wrong besides.
        linted = [f for path in _documents(sources) for f in _lint_document(path, traits)]
        known = {(f.file, f.line, f.field) for f in linted if f.level == "error"}
        findings = [f for f in findings if f.rule != "policy" or (f.file, f.line, f.field) not in known] + linted
        async with contextlib.AsyncExitStack() as stack:
            judges = [await stack.enter_async_context(_local_judge())]
            if server:
                judges.append(await stack.enter_async_context(_real_judge(kubeconfig, namespace)))
            for entry in found.snapshot.entries.values():
                findings += [f async for f in _built(found, entry, judges, places)]
        return findings, len(found.snapshot.entries)


def _documents(sources: Sources) -> list[Path]:
    from profile_spawner.sources.documents import SUFFIXES

    files = [f for p in sources.documents for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
    return [f for f in files if f.name.endswith(SUFFIXES)]


def _lint_document(path: Path, traits: Sequence[str]) -> Iterator[Finding]:
    """Check the plain entries of a document, wherever a chart's values or a document may have them."""
    from profile_spawner.sources.yaml_text import line_at, parse_yaml

    try:
        documents = parse_yaml(path.read_bytes(), str(path))
    except ProfileSpawnerError:
        return  # loading it has told so
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        values = document.get("singleuser")
        listed = values.get("profileList") if isinstance(values, Mapping) else document.get("profile_list")
        for entry in listed if isinstance(listed, list) else ():
            yield from lint_entry(entry, traits, _line_finder(path, entry, line_at))


def _line_finder(path: Path, entry: Any, line_at: Callable[[Any, tuple[Any, ...]], int]) -> Callable[..., Origin]:
    return lambda at: Origin(str(path), line_at(entry, at) or getattr(entry, "line", 0))


def _rule_of(problem: ProfileSpawnerError) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(problem).__name__.removesuffix("Error")).lower()


class _Places:
    """Finds the lines of plain entries."""

    def __init__(self, sources: Sources) -> None:
        self._configs = [p for c in sources.config for p in (sorted(c.glob("*.py")) if c.is_dir() else [c])]

    def of(self, entry: Entry) -> Any:
        """Return a function from a path in the entry to file and line."""
        raw = entry.raw or {}
        if hasattr(raw, "lines"):
            from profile_spawner.sources.yaml_text import line_at

            return lambda path: Origin(entry.origin.source, line_at(raw, path) or entry.origin.line)
        origin = entry.origin
        if not origin.line:
            origin = self._in_configs(str(raw.get("display_name") or "")) or origin
        return lambda path: origin

    def _in_configs(self, text: str) -> Origin | None:
        for path in self._configs:
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if text and text in line:
                    return Origin(str(path), number)
        return None


def _unreachable(found: Loaded) -> Iterator[Finding]:
    """Yield groups that the hub's own configuration does not have, where it has any."""
    known = found.config.JupyterHub.get("load_groups")
    if not isinstance(known, Mapping) or not known:
        return
    names = {str(g).casefold() for g in known}
    for entry in found.snapshot.entries.values():
        rules = [("allowed_groups", entry.offer.access)]
        for option in entry.offer.options:
            rules.append((f"profile_options.{option.name}.allowed_groups", option.access))
            rules += [(f"profile_options.{option.name}.choices.{c.name}", c.access) for c in option.choices]
        for field, access in rules:
            for group in sorted((access.groups or frozenset()) - names):
                yield Finding(
                    "warning",
                    "unreachable-group",
                    f"the hub's load_groups has no group {group!r}; expected one of {', '.join(sorted(names))}",
                    entry.slug,
                    entry.origin.source,
                    entry.origin.line,
                    field,
                )


async def _built(found: Loaded, entry: Entry, judges: Sequence[Any], places: _Places) -> AsyncIterator[Finding]:
    """Build the profile for every choice, and let the API servers judge what comes out."""
    if entry.offer.unavailable:
        origin = entry.origin
        yield Finding("error", "unavailable", entry.offer.unavailable, entry.slug, origin.source, origin.line)
        return
    origin = places.of(entry)(())
    seen: set[str] = set()
    for options in _every_choice(entry):
        whose = _somebody(entry, options)
        field = ", ".join(f"{k} = {v}" for k, v in options.items())
        try:
            made = await preview(found, entry.slug, whose)
        except ProfileSpawnerError as e:
            if str(e) not in seen:
                seen.add(str(e))
                yield finding_of(e, _rule_of(e), origin=origin)
            continue
        for judge in judges:
            for document in (*made.manifests, made.pod):
                problem = await judge(document)
                if problem and problem not in seen:
                    seen.add(problem)
                    what = f"{document['kind']} {document['metadata']['name']}" + (f" ({field})" if field else "")
                    yield Finding("error", "kubernetes", problem, entry.slug, origin.source, origin.line, what)


def _somebody(entry: Entry, options: Mapping[str, Any]) -> Whose:
    """Return a user who may use the profile and all of its choices."""
    access = entry.offer.access
    groups = set(access.groups or ())
    for option in entry.offer.options:
        for rule in (option.access, *(c.access for c in option.choices)):
            groups |= rule.groups or frozenset()
    user = next(iter(sorted(access.users or ())), "user") if access.users else "user"
    return Whose(user=user, groups=tuple(sorted(groups)), options=options)


def _every_choice(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield choices so that each of them occurs once, the others being their defaults."""
    yield {}
    for option in entry.offer.options:
        if option.when or option.read_only:
            continue
        if option.kind == "choice":
            yield from ({option.name: c.name} for c in option.choices if not c.default)
        elif option.kind == "switch":
            yield {option.name: not option.default}
        elif option.kind == "number":
            yield from ({option.name: v} for v in (option.minimum, option.maximum) if v is not None)


# ------------------------------------------------------------------------------------------------ judges


@contextlib.asynccontextmanager
async def _local_judge() -> AsyncIterator[Any]:
    """Ask the local cluster's API server, in this process and on loopback only."""
    import json
    import tempfile

    from profile_spawner.localcluster.server import ApiServer

    server = ApiServer()
    await server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder:
            path = Path(folder) / "kubeconfig"
            path.write_text(json.dumps(server.kubeconfig(server.add_admin(), "default")))
            async with _judge(path, "default") as judge:
                yield judge
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def _real_judge(kubeconfig: Path | None, namespace: str | None) -> AsyncIterator[Any]:
    async with _judge(kubeconfig, namespace) as judge:
        yield judge


@contextlib.asynccontextmanager
async def _judge(kubeconfig: Path | None, namespace: str | None) -> AsyncIterator[Any]:
    """Yield a function that returns what an API server says against an object, or an empty text."""
    import logging

    from profile_spawner.kube.failures import KubeFailure
    from profile_spawner.kube.kinds import kind_of, resource_path
    from profile_spawner.kube.transport import Transport

    async with client(kubeconfig, namespace) as (api_client, where):
        transport = Transport(api_client, log=logging.getLogger(__name__), request_timeout=10)

        async def judge(document: Mapping[str, Any]) -> str:
            kind = kind_of(document["apiVersion"], document["kind"])
            body = {**document, "metadata": {**document["metadata"], "namespace": where}}
            query = [("dryRun", "All"), ("fieldValidation", "Strict")]
            what = f"{document['kind']} {document['metadata']['name']}"
            try:
                path = resource_path(kind, where)
                await transport.call("POST", path, what=f"checking {what}", body=body, query=query)
            except KubeFailure as failure:
                if failure.status == 409:
                    return ""  # it exists already, and dry run says so before anything else
                if failure.status in (400, 403, 404, 422):
                    return str(failure.message)
                raise SourceError(f"the API server cannot be asked: {failure.message}") from None
            return ""

        yield judge
