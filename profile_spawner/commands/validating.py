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
from profile_spawner.migrate.placeholders import OPAQUE
from profile_spawner.sources.chart_values import missing_list

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .building import preview
from .choices import every_choice, user_for, without_example
from .cluster import ClusterDocuments, FromCluster, Kubeconfig, Namespace, client
from .configuration import config_code, is_values, setting
from .findings import Finding, Level, finding_of, print_findings
from .loading import LoadedProfiles, loaded
from .output import progress, tell_per_user

if TYPE_CHECKING:
    from profile_spawner.profiles.entry import Entry

__all__ = ["validate", "with_paths"]

DryRun = Callable[[Mapping[str, Any]], "tuple[Level, str] | None"]


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
    from_cluster: FromCluster = False,
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
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
) -> None:
    """Check profiles: keys, values, files, access, policy, and every pod and object that they make.

    Every profile is built as at a start, with the installed KubeSpawner, for every one of its choices. Every object is
    checked against the schema of Kubernetes, and for what is often wrong in profiles.

    Values of Zero to JupyterHub are merged with the chart's defaults, and their pods are those that the chart would
    make. What cannot be checked here, such as code that needs the hub's container, is a warning. What only the cluster
    knows is a note.

    Exit code 1: errors were found (with --strict also warnings). 2: a wrong call.
    """
    sources = with_paths(
        Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart), paths or ()
    )
    viewer = UserOptions.of(user, groups, auth_state=auth_state)
    cluster = ClusterDocuments(kubeconfig, namespace)
    findings, checked = _validate(sources, viewer, cluster, documents=from_cluster, dry_run=server_dry_run)
    print_findings(findings, output.value, checked)
    failed = any(f.level == "error" or (strict and f.level == "warning") for f in findings)
    raise typer.Exit(1 if failed else 0)


def with_paths(sources: Sources, paths: Sequence[Path]) -> Sources:
    """Sort paths by what they are: a hub's configuration, modules of profiles, or documents."""
    config, folders, documents = list(sources.config), list(sources.profiles_dirs), list(sources.documents)
    for path in paths:
        modules = [p for p in (path.glob("*.py") if path.is_dir() else [path]) if p.suffix == ".py"]
        written = [p for p in (sorted(path.iterdir()) if path.is_dir() else [path]) if p.name.endswith(_YAML)]
        values = [p for p in written if is_values(p) or config_code(p)]
        config += values
        documents += [path] if written and not values else [p for p in written if p not in values]
        if path.is_dir():
            if modules and all(map(config_code, modules)):
                config.append(path)
            elif modules or any(path.glob("*/__init__.py")):
                folders.append(path)
        elif modules:
            (config if config_code(path) else folders).append(path if config_code(path) else path.parent)
        elif not written:
            documents.append(path)
    return replace(
        sources, config=tuple(config), profiles_dirs=tuple(dict.fromkeys(folders)), documents=tuple(documents)
    )


_YAML = (".yaml", ".yml", ".json")


def _validate(
    sources: Sources, user: UserOptions, cluster: ClusterDocuments, *, documents: bool, dry_run: bool
) -> tuple[list[Finding], int]:
    """Return the findings, and the number of profiles.

    Args:
        sources: Where the profiles come from.
        user: For whom.
        cluster: The cluster that is asked.
        documents: Whether the ConfigMaps and Secrets that the configuration selects are read from it.
        dry_run: Whether its API server judges the objects too.
    """
    try:
        with (
            loaded(sources, user=user, cluster=cluster if documents else None, tolerant=True) as found,
            contextlib.ExitStack() as stack,
        ):
            if found.per_user:
                tell_per_user(user)
            findings = [
                *_problems(found),
                *_unknown_settings(found),
                *_unreachable(found),
                *_refused(sources, found),
                *_lost_lists(found),
            ]
            ask = stack.enter_context(_dry_run(found, cluster)) if dry_run else None
            hubs: set[Finding] = set()
            for entry in progress(found.snapshot.entries.values(), "Building the pods"):
                findings += _built(found, entry, user, ask, hubs)
            checked = len(found.snapshot.entries)
            if not checked and not findings:
                findings.append(_nothing(found))
            return _without_echoes([*findings, *hubs]), checked
    except ProfileSpawnerError as e:
        if e.origin is None:
            raise  # not an error in a file: the cluster cannot be asked
        return [finding_of(e, "configuration" if isinstance(e, SourceError) else _rule_of(e))], 0


def _nothing(found: LoadedProfiles) -> Finding:
    place = str(found.hub_config.files[0]) if found.hub_config.files else ""
    message = "there are no profiles here, so nothing is checked"
    return Finding("warning", "not-checked", message, file=place)


def _problems(found: LoadedProfiles) -> Iterator[Finding]:
    """Yield what is wrong with the configuration, the errors of profiles that could not be loaded, and warnings."""
    from profile_spawner.profiles.plain_entries import CONFIGURATION

    for problem in found.hub_config.problems:
        yield finding_of(problem, "configuration")
    for problem in (*found.snapshot.problems, *found.snapshot.notes):
        entry = found.snapshot.entries.get(problem.profile or "")
        if isinstance(problem, ProfileWarning) and entry is not None:
            origin: Origin | None = found.places.of(entry)(problem.path)
        else:
            origin = found.places.of_slug(problem.profile or "")
        if problem.origin == CONFIGURATION and problem.field and origin is None:
            origin = found.hub_config.origin_of(problem.field)
        finding = finding_of(problem, _rule_of(problem), origin=origin)
        if found.per_user and finding.rule == "unknown-key":
            finding = replace(finding, level="warning")  # it may be meant for the function that makes the list
        yield finding


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
                origin = found.hub_config.origin_of(name) or Origin("configuration")
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
    values = found.hub_config.values
    if values is None or setting(found.config, "profile_list"):
        return
    for layer in values.layers:
        missing = missing_list(layer.data)
        if missing is not None and missing.path and missing.path[0] != "hub":  # code there has been run
            at = layer.at(*missing.path)
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
    unfilled = {f.profile for f in found if f.rule == "braces"}
    tried = {(f.profile, f.field.rpartition(".")[2]) for f in found if f.rule == "build"}
    misplaced = {(f.file, f.line) for f in found if f.rule == "no-list"}
    return [
        f
        for f in found
        if OPAQUE not in f.message
        and not (f.rule == "chart-value" and (f.file, f.line) in misplaced)
        and not (f.rule == "policy" and (f.file, f.line, f.field) in known)
        and not (f.rule == "build" and f.profile in unfilled)
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


def _without_example(entry: Entry, where: Callable[..., Origin]) -> Iterator[Finding]:
    """Yield why a profile is not built: no user may use it, or for an option no value is known."""
    if entry.offer.access.is_closed:
        field = "allowed_users" if entry.offer.access.groups is None else "allowed_groups"
        at = where((field,))
        message = "no user may use this profile, so its pods are not checked"
        yield Finding("warning", "not-checked", message, entry.slug, at.source, at.line, field)
    for option in without_example(entry):
        path = ("profile_options", option.name)
        at = where(path)
        message = "no example is known of what users fill in here, so the pods of this profile are not checked"
        yield Finding("warning", "no-example", message, entry.slug, at.source, at.line, ".".join(path))


def _built(
    found: LoadedProfiles, entry: Entry, user: UserOptions, ask: DryRun | None, hubs: set[Finding]
) -> Iterator[Finding]:
    """Build the profile for every choice, and check what comes out.

    Args:
        found: All profiles.
        entry: The profile.
        user: For whom.
        ask: Asks an API server too.
        hubs: Gets what is wrong with settings of the hub, which every profile shows.
    """
    where = found.places.of(entry)
    if entry.offer.unavailable:
        return  # its errors are among the problems of loading
    seen: set[str] = set()
    yield from _without_example(entry, where)
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
        # Other values may define what the hub's own mounts are of, but not what the entry itself takes away.
        of_hub = found.hub_config.values is not None and entry.profile.path_of("volumes") is None
        for volume in _undefined_volumes(pod) if of_hub else ():
            pod = {**pod, "spec": {**pod["spec"], "volumes": [*pod["spec"].get("volumes", ()), {"name": volume}]}}
            message = f"nothing here defines the volume {volume!r}: other values must do so"
            if message not in seen:
                seen.add(message)
                at, _ = _place_of(found, entry, "volume_mounts", ())
                yield Finding("warning", "undefined-volume", message, entry.slug, at.source, at.line, field)
        for document in (*made.manifests, pod):
            for level, problem in _judged(document, ask):
                if problem in seen:
                    continue
                seen.add(problem)
                trait, path = _setting_in(problem) if document is pod else ("", ())
                at, named = _place_of(found, entry, trait, path)
                if trait in _LIMITS and not named and entry.profile.path_of(trait) is None:
                    at, named = _place_of(found, entry, _LIMITS[trait], ())
                    problem += f". {trait} is what the hub sets for all profiles: set it as well"
                if named:
                    hubs.add(Finding(level, "kubernetes", problem, "", at.source, at.line, named))
                else:
                    what = f"{document['kind']} {document['metadata']['name']}" + (f" ({field})" if field else "")
                    yield Finding(level, "kubernetes", problem, entry.slug, at.source, at.line, what)


def _judged(document: Mapping[str, Any], ask: DryRun | None) -> Iterator[tuple[Level, str]]:
    """Yield what is wrong with an object, and how serious it is; an API server is asked about sound ones only."""
    from profile_spawner.kube.rules import problems_of

    found = list(problems_of(document))
    yield from ((problem.level, str(problem)) for problem in found)
    answer = ask(document) if ask is not None and not found else None
    if answer is not None:
        yield answer


def _place_of(found: LoadedProfiles, entry: Entry, trait: str, path: tuple[str, ...]) -> tuple[Origin, str]:
    """Return where a setting is written, and what it is called if it is one of the hub and not of the entry."""
    where = found.places.of(entry)
    written = entry.profile.path_of(trait) if trait else None
    if written is not None:
        return where((*written, *path)), ""
    hub = found.hub_config.origin_of(trait, *path) if trait else None
    return (hub, found.hub_config.name_of("KubeSpawner", trait)) if hub is not None else (where(()), "")


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
    ("resources.requests.memory", "mem_guarantee"),
    ("resources.limits.memory", "mem_limit"),
    ("resources.requests.cpu", "cpu_guarantee"),
    ("resources.limits.cpu", "cpu_limit"),
    ("containers[0].resources.requests", "extra_resource_guarantees"),
    ("containers[0].resources.limits", "extra_resource_limits"),
    ("metadata.labels", "extra_labels"),
    ("metadata.annotations", "extra_annotations"),
    ("spec.nodeSelector", "node_selector"),
    ("spec.tolerations", "tolerations"),
    ("spec.serviceAccountName", "service_account"),
    ("spec.affinity.nodeAffinity", "node_affinity_required"),
    ("spec.imagePullSecrets", "image_pull_secrets"),
    ("spec.schedulerName", "scheduler_name"),
    ("spec.priorityClassName", "priority_class_name"),
    ("spec.securityContext.fsGroup", "fs_gid"),
    ("securityContext.runAsUser", "uid"),
)
"""Parts of a path in a pod, and the settings that they are made of."""
_LIMITS = {"mem_guarantee": "mem_limit", "cpu_guarantee": "cpu_limit"}
"""Settings that one of the hub may contradict."""
_MAPPINGS = ("extra_labels", "extra_annotations", "node_selector")


def _setting_in(problem: str) -> tuple[str, tuple[str, ...]]:
    """Return the setting that a problem of a pod is about, and the key in it; an empty text when it is not known."""
    place = problem.partition(": ")[0]
    for part, name in _FIELDS:
        if part in place:
            key = place.partition(f"{part}.")[2] if name in _MAPPINGS else ""
            return name, (key,) if key else ()
    return "", ()


_ONLY_THERE = re.compile(r"no PriorityClass with name \S+ was found|RuntimeClass \S+ not found")
"""What an API server says about objects that administrators of clusters make."""


@contextlib.contextmanager
def _dry_run(found: LoadedProfiles, cluster: ClusterDocuments) -> Iterator[DryRun]:
    """Yield a function that returns what a cluster's API server has against an object, and how serious it is."""
    import logging

    from profile_spawner.kube.failures import KubeFailure
    from profile_spawner.kube.transport import Transport
    from profile_spawner.policy.kinds import kind_of, resource_path

    connection = client(cluster.kubeconfig, cluster.namespace)
    api_client, where = found.run(connection.__aenter__())
    transport = Transport(api_client, log=logging.getLogger(__name__), request_timeout=10)

    def ask(document: Mapping[str, Any]) -> tuple[Level, str] | None:
        path = resource_path(kind_of(document["apiVersion"], document["kind"]), where)
        body = {**document, "metadata": {**document["metadata"], "namespace": where}}
        query = [("dryRun", "All"), ("fieldValidation", "Strict")]
        what = f"checking {document['kind']} {document['metadata']['name']}"
        try:
            found.run(transport.call("POST", path, what=what, body=body, query=query))
        except KubeFailure as failure:
            if failure.status == 409:
                return None  # it exists already, and dry run says so before anything else
            if failure.status in (400, 403, 404, 422):
                message = str(failure.message).removeprefix(f"{what}: ")
                # Another cluster may have the class; a pod that waits for its account is a pod.
                return ("note" if _ONLY_THERE.search(message) else "error"), message
            raise SourceError(f"the API server cannot be asked: {failure.message}") from None
        return None

    try:
        yield ask
    finally:
        found.run(connection.__aexit__(None, None, None))
