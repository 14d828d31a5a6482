"""`validate`: finds errors in profiles before users start them."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from .configuration import config_code, is_values, is_yaml
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
    findings, checked, default = _validate(sources, viewer, cluster, documents=from_cluster, dry_run=server_dry_run)
    print_findings(findings, output.value, checked, default=default)
    failed = any(f.level == "error" or (strict and f.level == "warning") for f in findings)
    raise typer.Exit(1 if failed else 0)


def with_paths(sources: Sources, paths: Sequence[Path]) -> Sources:
    """Sort paths by what they are: a hub's configuration, modules of profiles, or documents."""
    from profile_spawner.sources.documents import SUFFIXES

    config, folders, documents = list(sources.config), list(sources.profiles_dirs), list(sources.documents)
    for path in paths:
        modules = [p for p in (path.glob("*.py") if path.is_dir() else [path]) if p.suffix == ".py"]
        written = [p for p in (sorted(path.iterdir()) if path.is_dir() else [path]) if is_yaml(p)]
        values = [p for p in written if is_values(p) or config_code(p)]
        config += values
        others = [p for p in written if p not in values and p.name.endswith(SUFFIXES)]
        documents += [path] if written and not values else others
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


def _validate(
    sources: Sources, user: UserOptions, cluster: ClusterDocuments, *, documents: bool, dry_run: bool
) -> tuple[list[Finding], int, bool]:
    """Return the findings, the number of profiles, and whether the server of a hub without profiles was checked.

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
                *_unknown_settings(found),
                *_unreachable(found),
                *_refused(sources, found),
                *_lost_lists(found),
            ]
            ask = stack.enter_context(_dry_run(found, cluster)) if dry_run else None
            hubs: set[Finding] = set()
            for entry in progress(found.snapshot.entries.values(), "Building the pods"):
                findings += _built(found, entry, user, ask, hubs)
            if found.has_default_server:
                findings += _default_server(found, user, ask)
            findings += _problems(found)
            checked = len(found.snapshot.entries)
            if not (checked or found.has_default_server or findings):
                findings.append(_nothing(found))
            return _without_echoes([*findings, *hubs]), checked, found.has_default_server
    except ProfileSpawnerError as e:
        if e.origin is None:
            raise  # not an error in a file: the cluster cannot be asked
        return [finding_of(e, "configuration" if isinstance(e, SourceError) else _rule_of(e))], 0, False


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
            origin = found.places.of_slug(problem.profile or "", *(problem.field or "").split("."))
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
    if values is None or found.has_list:
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


_OVER_LIMIT = "is more than the limit"


def _without_echoes(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what the policy says of a line at which something is wrong anyway, and what KubeSpawner itself says."""
    found = list(findings)
    # A limit of a few bytes is below every guarantee: what is wrong is the limit.
    over = {(f.file, f.line, f.profile) for f in found if _OVER_LIMIT in f.message}
    too_small = {f for f in found if f.rule == "memory-in-bytes" and (f.file, f.line, f.profile) in over}
    own = {f for f in found if f.rule == "guarantee-over-limit"} | too_small
    places = {(f.file, f.line, f.profile) for f in own}
    found = [
        replace(f, level="error") if f in too_small else f
        for f in found
        if f in own or not (_OVER_LIMIT in f.message and (f.file, f.line, f.profile) in places)
    ]
    known = {(f.file, f.line, f.field) for f in found if f.level == "error" and f.rule != "policy"}
    refused = {f.profile for f in found if f.rule in ("braces", "unquoted-text") and f.level == "error"}
    tried = {(f.profile, f.field.rpartition(".")[2]) for f in found if f.rule == "build"}
    shapes = {(f.profile, f.field) for f in found if f.rule == "wrong-type"}
    misplaced = {(f.file, f.line) for f in found if f.rule == "no-list"}
    return [
        f
        for f in found
        if OPAQUE not in f.message
        and not (f.rule == "chart-value" and (f.file, f.line) in misplaced)
        and not (f.rule == "policy" and (f.file, f.line, f.field) in known)
        and not (f.rule == "build" and f.profile in refused)
        and not (f.rule == "profile-definition" and (f.profile, f.field) in shapes)
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
    from profile_spawner.profiles.plain_entries import sound_parts
    from profile_spawner.profiles.yaml_text import line_at, parse_yaml
    from profile_spawner.sources.chart_values import find_values, list_in

    try:
        documents = [d for d in parse_yaml(path.read_bytes(), str(path)) if isinstance(d, Mapping)]
        values = [found for document in documents for found in find_values(document, str(path))]
    except ProfileSpawnerError:
        return  # loading has reported the error
    for listed in (*(d.get("profile_list") for d in documents), *map(list_in, values)):
        for entry in listed if isinstance(listed, list) else ():
            if not isinstance(entry, Mapping):
                continue  # loading has reported it
            where = _line_finder(path, entry, line_at)
            sound, wrong = sound_parts(entry)
            for warning in wrong:
                yield finding_of(warning, "", origin=where(warning.path))
            for warning in lint_entry(sound, traits, where):
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
        # Other values may define what the hub's own mounts are of, but not what the entry itself takes away.
        of_hub = found.hub_config.values is not None and entry.profile.path_of("volumes") is None
        for problem in _problems_in(made, ask, of_hub=of_hub):
            if problem.text in seen:
                continue
            seen.add(problem.text)
            yield from _about_profile(found, entry, problem, field, hubs)


def _about_profile(
    found: LoadedProfiles, entry: Entry, problem: _Problem, field: str, hubs: set[Finding]
) -> Iterator[Finding]:
    """Yield the finding of a problem, or add it to those of the hub."""
    text, trait, level = problem.text, problem.trait, problem.level
    at, named = _place_of(found, entry, trait, problem.path)
    if problem.rule != "kubernetes":
        yield Finding(level, problem.rule, text, entry.slug, at.source, at.line, field)
        return
    if trait in _LIMITS and not named and entry.profile.path_of(trait) is None:
        at, named = _place_of(found, entry, _LIMITS[trait], ())
        text += f". {trait} is what the hub sets for all profiles: set it as well"
    if named:
        hubs.add(Finding(level, problem.rule, text, "", at.source, at.line, named))
    else:
        what = problem.what + (f" ({field})" if field else "")
        yield Finding(level, problem.rule, text, entry.slug, at.source, at.line, what)


def _default_server(found: LoadedProfiles, user: UserOptions, ask: DryRun | None) -> Iterator[Finding]:
    """Check the server that users get where there are no profiles."""
    hub = found.hub_config
    file = Origin(str(hub.files[0]))
    try:
        made = preview(found, None, user)
    except ProfileSpawnerError as e:
        yield finding_of(e, _rule_of(e), origin=file)
        return
    for problem in _problems_in(made, ask, of_hub=hub.values is not None):
        traits = (problem.trait, {**_LIMITS, "volume_mounts": "volumes"}.get(problem.trait, ""))
        found_at = ((trait, hub.origin_of(trait, *problem.path)) for trait in traits if trait)
        trait, at = next(((trait, at) for trait, at in found_at if at is not None), ("", file))
        name = hub.name_of("KubeSpawner", trait) if trait else problem.what
        yield Finding(problem.level, problem.rule, problem.text, "", at.source, at.line, name)


@dataclass(frozen=True)
class _Problem:
    """Something that is wrong with an object.

    Attributes:
        level: How serious it is.
        rule: The rule.
        text: What is wrong.
        what: The kind and the name of the object.
        trait: The setting that it is about, if it is in a pod and known.
        path: The keys in the setting.
    """

    level: Level
    rule: str
    text: str
    what: str
    trait: str = ""
    path: tuple[str, ...] = ()


def _problems_in(made: Any, ask: DryRun | None, *, of_hub: bool) -> Iterator[_Problem]:
    """Yield what is wrong with the objects of a server.

    Args:
        made: The objects.
        ask: Asks an API server too.
        of_hub: Whether all mounts are the hub's, and the hub's values may not be all, so that others define volumes.
    """
    pod = made.pod
    for volume in _undefined_volumes(pod) if of_hub else ():
        pod = {**pod, "spec": {**pod["spec"], "volumes": [*pod["spec"].get("volumes", ()), {"name": volume}]}}
        text = f"nothing here defines the volume {volume!r}: other values must do so"
        yield _Problem("warning", "undefined-volume", text, "", "volume_mounts")
    home = made.manifests[0] if len(made.manifests) > len(made.objects) else None
    for document in (*made.manifests, pod):
        fields = _FIELDS if document is pod else _HOME_FIELDS if document is home else ()
        for level, problem in _judged(document, ask):
            text = _with_names(pod, problem) if document is pod else problem
            trait, path = _setting_in(text, fields)
            what = f"{document['kind']} {document['metadata']['name']}"
            yield _Problem(level, "kubernetes", text, what, trait, path)


_VARIABLE = re.compile(r"(?<=^spec\.containers\[0\]\.env)\[([0-9]+)\]")


def _with_names(pod: Mapping[str, Any], problem: str) -> str:
    """Return a problem of a pod with the name of the server's variable that it is about, in place of its number."""
    variables = pod["spec"]["containers"][0].get("env") or ()
    return _VARIABLE.sub(lambda number: f".{variables[int(number[1])].get('name')}", problem)


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
    own = entry.profile.get("kubespawner_override").get(trait) if entry.profile.list_entry() and written else None
    if written is not None and not (path and isinstance(own, Mapping) and path[0] not in own):
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
    ("containers[0].imagePullPolicy", "image_pull_policy"),
    ("containers[0].image", "image"),
    ("containers[0].lifecycle", "lifecycle_hooks"),
    ("containers[0].workingDir", "working_dir"),
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
    ("spec.securityContext.supplementalGroups", "supplemental_gids"),
    ("securityContext.runAsUser", "uid"),
    ("securityContext.runAsGroup", "gid"),
    ("spec.containers[0].", "extra_container_config"),
    ("spec.", "extra_pod_config"),
)
"""Parts of a path in a pod, and the settings that they are made of."""
_HOME_FIELDS = (
    ("metadata.labels", "storage_extra_labels"),
    ("metadata.annotations", "storage_extra_annotations"),
    ("spec.accessModes", "storage_access_modes"),
    ("spec.resources.requests.storage", "storage_capacity"),
    ("spec.selector", "storage_selector"),
    ("spec.storageClassName", "storage_class"),
)
"""The same for the claim that KubeSpawner makes for a user."""
_LIMITS = {"mem_guarantee": "mem_limit", "cpu_guarantee": "cpu_limit"}
"""Settings that one of the hub may contradict."""
_MAPPINGS = (
    "environment",
    "extra_annotations",
    "extra_labels",
    "node_selector",
    "storage_extra_annotations",
    "storage_extra_labels",
)


def _setting_in(problem: str, fields: Sequence[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """Return the setting that a problem is about, and the key in it; an empty text when it is not known.

    Args:
        problem: It begins with the path in the object.
        fields: Parts of paths, and settings.
    """
    place = problem.partition(": ")[0]
    for part, name in fields:
        if part in place:
            key = place.partition(f"{part}.")[2] if name in _MAPPINGS else ""
            key = re.sub(r"\.value(From\..*)?$", "", key) if name == "environment" else key
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
