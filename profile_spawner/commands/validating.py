"""`validate`: finds errors in profiles before users start them."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import Origin, ProfileSpawnerError, ProfileWarning, SourceError, did_you_mean
from profile_spawner.migrate.chart import chart_values
from profile_spawner.sources.chart_values import missing_list

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .building import preview
from .choices import every_choice, user_for
from .cluster import Kubeconfig, Namespace, client
from .findings import Finding, Level, finding_of, print_findings
from .loading import LoadedProfiles, loaded, setting
from .output import progress, tell_per_user
from .places import setting_origin

if TYPE_CHECKING:
    from profile_spawner.profiles.entry import Entry

    from .places import Where

__all__ = ["validate", "with_paths"]

DryRun = Callable[[Mapping[str, Any]], str]


class Report(str, enum.Enum):
    """The output format of findings."""

    text = "text"
    json = "json"
    sarif = "sarif"


@app.command()
def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Modules of profiles, documents, configuration files of a hub, values of Zero to JupyterHub, "
            "or folders of them.",
            exists=True,
            metavar="[PATH]...",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count too.")] = False,
    server_dry_run: Annotated[
        bool, typer.Option("--server-dry-run", help="Let a cluster's API server check all objects too.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
    output: Annotated[Report, typer.Option("--output", help="sarif is for annotations in code review.")] = Report.text,
    user: args.User = "user",
    groups: args.Groups = "",
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
) -> None:
    """Check profiles: keys, values, files, access, policy, and every pod and object that they make.

    Every profile is built as at a start, with the installed KubeSpawner, for every one of its choices. Every object is
    checked against the schema of Kubernetes, and for what is often wrong in profiles.

    Exit code 1: errors were found (with --strict also warnings). 2: a wrong call.
    """
    sources = with_paths(
        Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points), paths or ()
    )
    findings, checked = _validate(sources, UserOptions.of(user, groups), server_dry_run, kubeconfig, namespace)
    print_findings(findings, output.value, checked)
    failed = any(f.level == "error" or (strict and f.level == "warning") for f in findings)
    raise typer.Exit(1 if failed else 0)


def with_paths(sources: Sources, paths: Sequence[Path]) -> Sources:
    """Sort paths by what they are: a hub's configuration, modules of profiles, or documents."""
    config, folders, documents = list(sources.config), list(sources.profiles_dirs), list(sources.documents)
    for path in paths:
        modules = [p for p in (path.glob("*.py") if path.is_dir() else [path]) if p.suffix == ".py"]
        written = [p for p in (sorted(path.iterdir()) if path.is_dir() else [path]) if p.name.endswith(_YAML)]
        values = [p for p in written if _is_chart(p)]
        config += values
        documents += [path] if written and not values else [p for p in written if p not in values]
        if path.is_dir():
            if modules and all(map(_is_config, modules)):
                config.append(path)
            elif modules or any(path.glob("*/__init__.py")):
                folders.append(path)
        elif modules:
            (config if _is_config(path) else folders).append(path if _is_config(path) else path.parent)
        elif not written:
            documents.append(path)
    return replace(
        sources, config=tuple(config), profiles_dirs=tuple(dict.fromkeys(folders)), documents=tuple(documents)
    )


_YAML = (".yaml", ".yml", ".json")
_CONFIG = re.compile(r"^\s*(?:c\.\w+\.|c\s*=\s*get_config\(\))", re.MULTILINE)


def _is_config(path: Path) -> bool:
    return bool(_CONFIG.search(path.read_text(encoding="utf-8", errors="replace")))


def _is_chart(path: Path) -> bool:
    """Return whether a file holds values of a chart for the hub itself, and not for a hub that watches a ConfigMap."""
    try:
        return bool(chart_values(path, manifests=False))
    except SourceError:
        return False  # the error is reported when the file is loaded


def _validate(
    sources: Sources, user: UserOptions, server: bool, kubeconfig: Path | None, namespace: str | None
) -> tuple[list[Finding], int]:
    """Return the findings, and the number of profiles."""
    try:
        with loaded(sources, user=user) as found, contextlib.ExitStack() as stack:
            if found.per_user:
                tell_per_user(user)
            findings = [
                *_problems(found),
                *_unknown_settings(found),
                *_unreachable(found),
                *_refused(sources, found),
                *_lost_lists(found),
            ]
            ask = stack.enter_context(_dry_run(found, kubeconfig, namespace)) if server else None
            for entry in progress(found.snapshot.entries.values(), "Building the pods"):
                findings += _built(found, entry, user, ask)
            return _without_echoes(findings), len(found.snapshot.entries)
    except ProfileSpawnerError as e:
        if e.origin is None:
            raise  # not an error in a file: the cluster cannot be asked
        return [finding_of(e, "configuration" if isinstance(e, SourceError) else _rule_of(e))], 0


def _problems(found: LoadedProfiles) -> Iterator[Finding]:
    """Yield the errors of profiles that could not be loaded, and the warnings about those that were."""
    from profile_spawner.profiles.plain_entries import CONFIGURATION

    for problem in (*found.snapshot.problems, *found.snapshot.notes):
        entry = found.snapshot.entries.get(problem.profile or "")
        if isinstance(problem, ProfileWarning) and entry is not None:
            origin: Origin | None = found.places.of(entry)(problem.path)
        else:
            origin = found.places.of_slug(problem.profile or "")
        if problem.origin == CONFIGURATION and problem.field and origin is None:
            origin = setting_origin(found.config_files, problem.field)
        yield finding_of(problem, _rule_of(problem), origin=origin)


def _unknown_settings(found: LoadedProfiles) -> Iterator[Finding]:
    """Yield settings of the hub's configuration that neither JupyterHub nor the spawner has."""
    from profile_spawner.hub.settings import jupyterhub_settings

    spawner = found.spawner_class
    names = frozenset(spawner.class_trait_names(config=True))
    sections = {cls.__name__: names for cls in spawner.__mro__ if hasattr(cls, "class_trait_names")}
    sections["JupyterHub"] = jupyterhub_settings()
    for section, known in sections.items():
        for name in found.config.get(section, {}):
            if name not in known:
                hint = did_you_mean(name, known)
                origin = setting_origin(found.config_files, name) or Origin("configuration")
                yield Finding(
                    "error" if hint else "warning",
                    "unknown-setting",
                    f"{section} has no such setting{hint}",
                    "",
                    origin.source,
                    origin.line,
                    f"{section}.{name}",
                )


def _lost_lists(found: LoadedProfiles) -> Iterator[Finding]:
    """Yield lists of profiles in values of a chart that the chart does not find, where there is no other."""
    if setting(found.config, "profile_list") is not None:
        return
    for path in found.config_files:
        for values in chart_values(path) if path.name.endswith(_YAML) else ():
            missing = missing_list(values.data)
            if missing is not None and missing.path and missing.path[0] != "hub":  # code there has been run
                at = values.at(*missing.path)
                message = f"{missing.message}. {missing.hint}"
                yield Finding("error", "no-list", message, "", at.source, at.line, ".".join(missing.path))


def _refused(sources: Sources, found: LoadedProfiles) -> Iterator[Finding]:
    """Yield what is wrong with entries besides what the policy says: it has refused them."""
    traits = found.spawner_class.class_traits(config=True)
    for path in _documents(sources):
        yield from _lint_document(path, traits)


def _without_echoes(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what the policy says of a line at which something is wrong anyway, and what KubeSpawner itself says."""
    found = list(findings)
    known = {(f.file, f.line, f.field) for f in found if f.level == "error" and f.rule != "policy"}
    tried = {(f.profile, f.field.rpartition(".")[2]) for f in found if f.rule == "build"}
    return [
        f
        for f in found
        if not (f.rule == "policy" and (f.file, f.line, f.field) in known)
        and not (f.rule == "wrong-value" and (f.profile, f.field.rpartition(".")[2]) in tried)
    ]


def _documents(sources: Sources) -> list[Path]:
    from profile_spawner.sources.documents import SUFFIXES

    paths = [path.absolute() for path in sources.documents]  # as in the errors of loading
    files = [f for p in paths for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
    return [f for f in files if f.name.endswith(SUFFIXES)]


def _lint_document(path: Path, traits: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the plain entries of a document, wherever a chart's values or a document may have them."""
    from profile_spawner.profiles.linting import lint_entry
    from profile_spawner.profiles.yaml_text import line_at, parse_yaml
    from profile_spawner.sources.chart_values import find_values, list_in

    try:
        documents = [d for d in parse_yaml(path.read_bytes(), str(path)) if isinstance(d, Mapping)]
        values = [found for document in documents for found in find_values(document, str(path))]
    except ProfileSpawnerError:
        return  # loading has reported the error
    for listed in (*(d.get("profile_list") for d in documents), *map(list_in, values)):
        for entry in listed if isinstance(listed, list) else ():
            for warning in lint_entry(entry, traits, _line_finder(path, entry, line_at)):
                yield finding_of(warning, "")


def _line_finder(path: Path, entry: Any, line_at: Callable[[Any, tuple[Any, ...]], int]) -> Callable[..., Origin]:
    return lambda at: Origin(str(path), line_at(entry, at) or getattr(entry, "line", 0))


def _rule_of(problem: ProfileSpawnerError) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(problem).__name__.removesuffix("Error")).lower()


def _unreachable(found: LoadedProfiles) -> Iterator[Finding]:
    """Yield groups that the hub's own configuration does not have, where it has any."""
    known = found.config.JupyterHub.get("load_groups")
    if not isinstance(known, Mapping) or not known:
        return
    names = {str(g).lower() for g in known}
    for entry in found.snapshot.entries.values():
        where = found.places.of(entry)
        rules: list[tuple[tuple[str, ...], Any]] = [(("allowed_groups",), entry.offer.access)]
        for option in entry.offer.options:
            path = ("profile_options", option.name)
            rules.append(((*path, "allowed_groups"), option.access))
            rules += [((*path, "choices", c.name, "allowed_groups"), c.access) for c in option.listed()]
        for field, access in rules:
            origin = where(field)
            for group in sorted((access.groups or frozenset()) - names):
                yield Finding(
                    "warning",
                    "unreachable-group",
                    f"the hub's load_groups has no group {group!r}; expected one of {', '.join(sorted(names))}",
                    entry.slug,
                    origin.source,
                    origin.line,
                    ".".join(field),
                )


def _built(found: LoadedProfiles, entry: Entry, user: UserOptions, ask: DryRun | None) -> Iterator[Finding]:
    """Build the profile for every choice, and check what comes out; `ask` also asks an API server."""
    from profile_spawner.kube.rules import problems_of

    where = found.places.of(entry)
    origin = where(())
    if entry.offer.unavailable:
        return  # its errors are among the problems of loading
    seen: set[str] = set()
    from_values = any(p.name.endswith(_YAML) for p in found.config_files)
    for options in every_choice(entry):
        field = ", ".join(f"{k} = {v}" for k, v in options.items())
        try:
            made = preview(found, entry.slug, user_for(entry, user, options))
        except ProfileSpawnerError as e:
            if str(e) not in seen:
                seen.add(str(e))
                yield finding_of(e, _rule_of(e), origin=where(tuple((e.field or "").split("."))))
            continue
        pod = made.pod
        for volume in _undefined_volumes(pod) if from_values else ():
            pod = {**pod, "spec": {**pod["spec"], "volumes": [*pod["spec"].get("volumes", ()), {"name": volume}]}}
            message = f"nothing here defines the volume {volume!r}: the chart's defaults or other values must do so"
            if message not in seen:
                seen.add(message)
                at = _blamed(entry, "volumeMounts", where) or origin
                yield Finding("warning", "undefined-volume", message, entry.slug, at.source, at.line, field)
        for document in (*made.manifests, pod):
            problems: list[tuple[Level, str]] = [(p.level, str(p)) for p in problems_of(document)]
            if ask is not None and not problems and (answer := ask(document)):
                problems.append(("error", answer))
            for level, problem in problems:
                if problem not in seen:
                    seen.add(problem)
                    what = f"{document['kind']} {document['metadata']['name']}" + (f" ({field})" if field else "")
                    at = _blamed(entry, problem, where) or origin
                    yield Finding(level, "kubernetes", problem, entry.slug, at.source, at.line, what)


def _undefined_volumes(pod: Mapping[str, Any]) -> list[str]:
    """Return the names of volumes that are mounted and not there."""
    spec = pod["spec"]
    containers = (*spec.get("containers", ()), *spec.get("initContainers", ()))
    mounted = {mount.get("name"): None for c in containers for mount in c.get("volumeMounts") or ()}
    return [name for name in mounted if name and name not in {v.get("name") for v in spec.get("volumes") or ()}]


_FIELDS = (
    ("volumeMounts", "volume_mounts"),
    ("spec.volumes", "volumes"),
    ("initContainers", "init_containers"),
    ("spec.containers[1", "extra_containers"),
    ("containers[0].env", "environment"),
    ("containers[0].image", "image"),
    ("metadata.labels", "extra_labels"),
    ("metadata.annotations", "extra_annotations"),
    ("spec.nodeSelector", "node_selector"),
    ("spec.tolerations", "tolerations"),
)
"""Parts of a path in a pod, and the settings that they are made of."""


def _blamed(entry: Entry, problem: str, where: Where) -> Origin | None:
    """Return where the setting stands that a problem of the pod is about, as far as it is known."""
    for part, name in _FIELDS:
        path = entry.profile.path_of(name) if part in problem else None
        if path is not None:
            return where(path)
    return None


@contextlib.contextmanager
def _dry_run(found: LoadedProfiles, kubeconfig: Path | None, namespace: str | None) -> Iterator[DryRun]:
    """Yield a function that returns what a cluster's API server has against an object, or an empty text."""
    import logging

    from profile_spawner.kube.failures import KubeFailure
    from profile_spawner.kube.transport import Transport
    from profile_spawner.policy.kinds import kind_of, resource_path

    connection = client(kubeconfig, namespace)
    api_client, where = found.run(connection.__aenter__())
    transport = Transport(api_client, log=logging.getLogger(__name__), request_timeout=10)

    def ask(document: Mapping[str, Any]) -> str:
        path = resource_path(kind_of(document["apiVersion"], document["kind"]), where)
        body = {**document, "metadata": {**document["metadata"], "namespace": where}}
        query = [("dryRun", "All"), ("fieldValidation", "Strict")]
        what = f"checking {document['kind']} {document['metadata']['name']}"
        try:
            found.run(transport.call("POST", path, what=what, body=body, query=query))
        except KubeFailure as failure:
            if failure.status == 409:
                return ""  # it exists already, and dry run says so before anything else
            if failure.status in (400, 403, 404, 422):
                return str(failure.message).removeprefix(f"{what}: ")
            raise SourceError(f"the API server cannot be asked: {failure.message}") from None
        return ""

    try:
        yield ask
    finally:
        found.run(connection.__aexit__(None, None, None))
