"""Makes the hub's configuration from values of Zero to JupyterHub, as the chart's hub does when it starts."""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import ProfileWarning
from profile_spawner.profiles.linting import lost_values
from profile_spawner.sources.chart_values import value_at

from .chart import CONFIG_FOLDER, RELEASE, Code, HubValues, is_configuration
from .placeholders import OPAQUE

if TYPE_CHECKING:
    from traitlets.config import Config

__all__ = ["TRAITS", "CodeNotRun", "config_of", "lost_values_of", "path_of", "settings_of"]

TRAITS = {
    "pod_name_template": "singleuser.podNameTemplate",
    "image_pull_policy": "singleuser.image.pullPolicy",
    "service_account": "singleuser.serviceAccountName",
    "start_timeout": "singleuser.startTimeout",
    "events_enabled": "singleuser.events",
    "extra_labels": "singleuser.extraLabels",
    "extra_annotations": "singleuser.extraAnnotations",
    "storage_extra_labels": "singleuser.storage.extraLabels",
    "node_selector": "singleuser.nodeSelector",
    "lifecycle_hooks": "singleuser.lifecycleHooks",
    "extra_pod_config": "singleuser.extraPodConfig",
    "uid": "singleuser.uid",
    "fs_gid": "singleuser.fsGid",
    "allow_privilege_escalation": "singleuser.allowPrivilegeEscalation",
    "node_affinity_required": "singleuser.extraNodeAffinity.required",
    "node_affinity_preferred": "singleuser.extraNodeAffinity.preferred",
    "pod_affinity_required": "singleuser.extraPodAffinity.required",
    "pod_affinity_preferred": "singleuser.extraPodAffinity.preferred",
    "pod_anti_affinity_required": "singleuser.extraPodAntiAffinity.required",
    "pod_anti_affinity_preferred": "singleuser.extraPodAntiAffinity.preferred",
    "init_containers": "singleuser.initContainers",
    "extra_containers": "singleuser.extraContainers",
    "mem_limit": "singleuser.memory.limit",
    "mem_guarantee": "singleuser.memory.guarantee",
    "cpu_limit": "singleuser.cpu.limit",
    "cpu_guarantee": "singleuser.cpu.guarantee",
    "extra_resource_limits": "singleuser.extraResource.limits",
    "extra_resource_guarantees": "singleuser.extraResource.guarantees",
    "environment": "singleuser.extraEnv",
    "profile_list": "singleuser.profileList",
}
"""Traits of KubeSpawner, and the value that the chart sets each of them to."""
_COMPUTED = {
    "image": "singleuser.image.name",
    "cmd": "singleuser.cmd",
    "default_url": "singleuser.defaultUrl",
    "tolerations": "singleuser.extraTolerations",
    "image_pull_secrets": "singleuser.image.pullSecrets",
    "volumes": "singleuser.storage.extraVolumes",
    "volume_mounts": "singleuser.storage.extraVolumeMounts",
    "pvc_name_template": "singleuser.storage.dynamic.pvcNameTemplate",
    "storage_class": "singleuser.storage.dynamic.storageClass",
    "storage_access_modes": "singleuser.storage.dynamic.storageAccessModes",
    "storage_capacity": "singleuser.storage.capacity",
    "scheduler_name": "scheduling.userScheduler.enabled",
    "priority_class_name": "scheduling.podPriority.enabled",
    "consecutive_failure_limit": "hub.consecutiveFailureLimit",
    "debug": "debug.enabled",
}
"""The same of those that the chart computes from several values; this is the one that is usually written."""
METADATA_BLOCK = "block-cloud-metadata"
"""The init container by which the chart keeps users' pods from the cloud's metadata address."""


def path_of(trait: str) -> str | None:
    """Return the value of the chart that a trait is made of, as a path of keys separated by dots."""
    return TRAITS.get(trait) or _COMPUTED.get(trait)


class CodeNotRun(ProfileWarning):
    """Code of a configuration that could not be run here, so that what it does is not checked.

    Attributes:
        code: The code.
        error: What it raised, with file and line.
    """

    def __init__(self, code: Code, error: BaseException) -> None:
        from profile_spawner.sources.tracebacks import describe

        described = describe(error, Path(code.file))
        syntax = isinstance(error, SyntaxError)
        super().__init__(
            f"cannot be run here, so what it does is not checked: {described.message}",
            rule="not-checked",
            level="error" if syntax else "warning",
            field=code.name or None,
            origin=described.origin,
        )
        self.code = code
        self.error = described


def config_of(
    values: HubValues, stack: contextlib.ExitStack, more: Sequence[Code] = ()
) -> tuple[Config, list[CodeNotRun], dict[str, Code]]:
    """Return the configuration that the chart's hub makes of these values, and which code could not be run.

    Third, the code that has set a setting last, by the name of the setting.

    Args:
        values: The values.
        stack: Until it is closed, functions in the configuration can import what the chart's hub has.
        more: Code that runs as files in the chart's `jupyterhub_config.d` do.
    """
    from traitlets.config import Config

    c = Config()
    data = values.data
    names = _set_values(c, data)
    for section, settings in (value_at(data, "hub.config") or {}).items():
        if isinstance(settings, Mapping):
            c[section].update(settings)
    snippets = values.snippets
    files = [s for s in snippets if s.name.startswith("hub.extraFiles.")]
    found = {**stack.enter_context(_chart_names(values, c)), **names}
    failed = []
    setters: dict[str, Code] = {}
    for code in (*files, *more, *snippets[len(files) :]):
        before = settings_of(c)
        try:
            exec(code.compiled(), found)  # noqa: S102 - as the hub does
        except (Exception, SystemExit) as e:  # noqa: BLE001 - code for a hub may want anything of a cluster
            failed.append(CodeNotRun(code, e))
        setters |= {name: code for (s, name), value in settings_of(c).items() if before.get((s, name)) is not value}
    return c, failed, setters


def settings_of(c: Config) -> dict[tuple[str, str], Any]:
    """Return all settings by their section and name."""
    sections = ((section, settings) for section, settings in c.items() if isinstance(settings, Mapping))
    return {(section, name): value for section, settings in sections for name, value in settings.items()}


def lost_values_of(values: HubValues, config: Config) -> Iterator[tuple[str, str]]:
    """Yield the settings in which a configuration has lost something that protects or keeps, and what.

    The chart sets them from its values; `hub.config` and code may replace them.
    """
    from traitlets.config import Config

    chart = Config()
    _set_values(chart, values.data)
    for trait in ("init_containers", "volumes", "tolerations", "extra_labels"):
        now = next((config[s][trait] for s in ("ProfileSpawner", "KubeSpawner") if trait in config[s]), None)
        if isinstance(now, list | Mapping):
            lost, why = lost_values(trait, chart.KubeSpawner.get(trait), now)
            if lost:
                yield trait, f"{', '.join(lost)}{why}"


def _set_values(c: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """Set what the chart's values say before anything else; return the variables that code finds afterwards."""
    _set_hub(c, data)
    common_labels = _set_labels(c, data)
    for trait, path in TRAITS.items():
        value = value_at(data, path)
        if value is not None:
            c.KubeSpawner[trait] = value
    _set_image(c, data)
    tolerations = _set_scheduling(c, data)
    volumes, mounts = _set_storage(c, data)
    for trait, path in (("cmd", "singleuser.cmd"), ("default_url", "singleuser.defaultUrl")):
        value = value_at(data, path)
        if value is not None:
            c.Spawner[trait] = value
    _block_metadata(c, data)
    return {"volumes": volumes, "volume_mounts": mounts, "tolerations": tolerations, "common_labels": common_labels}


def _set_hub(c: Config, data: Mapping[str, Any]) -> None:
    """Set what concerns the hub itself, as far as code in values builds on it or spawners read it."""
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    named = value_at(data, "hub.allowNamedServers")
    if named is not None:
        c.JupyterHub.allow_named_servers = named
    for trait, path in (("services", "hub.services"), ("load_roles", "hub.loadRoles")):
        found = value_at(data, path)
        items = found.items() if isinstance(found, Mapping) else ()
        c.JupyterHub[trait] = [{"name": name, **item} for name, item in items if isinstance(item, Mapping)]
    limit = value_at(data, "hub.consecutiveFailureLimit")
    if limit is not None:
        c.Spawner.consecutive_failure_limit = limit
    if value_at(data, "debug.enabled"):
        c.JupyterHub.log_level = "DEBUG"
        c.Spawner.debug = True


def _set_labels(c: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    chart, version = value_at(data, "Chart.Name"), str(value_at(data, "Chart.Version") or "")
    labels = {}
    pairs = (
        (("app", "app.kubernetes.io/name"), value_at(data, "nameOverride") or chart),
        (("release", "app.kubernetes.io/instance"), value_at(data, "Release.Name")),
        (("chart", "helm.sh/chart"), f"{chart}-{version.replace('+', '_')}"),
        (("app.kubernetes.io/managed-by",), "kubespawner"),
    )
    for keys, value in pairs:
        labels.update(dict.fromkeys(keys, value))
    c.KubeSpawner.common_labels = labels
    return labels


def _set_image(c: Config, data: Mapping[str, Any]) -> None:
    image = value_at(data, "singleuser.image")
    if isinstance(image, Mapping) and image.get("name"):
        c.KubeSpawner.image = f"{image['name']}:{image['tag']}" if image.get("tag") else image["name"]
    secrets = [*_list(value_at(data, "imagePullSecrets")), *_list(value_at(data, "singleuser.image.pullSecrets"))]
    if value_at(data, "imagePullSecret.create") and value_at(data, "imagePullSecret.automaticReferenceInjection"):
        secrets.insert(0, _object_name(data, "image-pull-secret"))
    if secrets:
        c.KubeSpawner.image_pull_secrets = secrets


def _set_scheduling(c: Config, data: Mapping[str, Any]) -> list[Any]:
    scheduling = value_at(data, "scheduling") or {}
    if value_at(scheduling, "userScheduler.enabled"):
        c.KubeSpawner.scheduler_name = _object_name(data, "user-scheduler")
    if value_at(scheduling, "podPriority.enabled"):
        c.KubeSpawner.priority_class_name = _object_name(data, "priority")
    purpose = {"key": "hub.jupyter.org/node-purpose", "operator": "In", "values": ["user"]}
    matched = {"matchExpressions": [purpose]}
    wanted = value_at(scheduling, "userPods.nodeAffinity.matchNodePurpose")
    if wanted == "prefer":
        _append(c, "node_affinity_preferred", {"weight": 100, "preference": matched})
    elif wanted == "require":
        _append(c, "node_affinity_required", matched)
    tolerations = [
        *_list(value_at(scheduling, "userPods.tolerations")),
        *_list(value_at(data, "singleuser.extraTolerations")),
    ]
    c.KubeSpawner.tolerations = tolerations
    return tolerations


def _set_storage(c: Config, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Set volumes and mounts: the home, files, and what is listed besides; in mappings, which KubeSpawner sorts."""
    storage = value_at(data, "singleuser.storage") or {}
    volumes: dict[str, Any] = {}
    mounts: dict[str, Any] = {}
    kind = storage.get("type")
    given: Any = storage.get(kind) or {}
    home = {"mountPath": storage.get("homeMountPath")}
    if kind == "dynamic":
        name = str(given.get("volumeNameTemplate"))
        volumes[name] = {"name": name, "persistentVolumeClaim": {"claimName": "{pvc_name}"}}
        mounts[name] = {**home, "name": name, **({"subPath": given["subPath"]} if given.get("subPath") else {})}
        traits = {
            "pvc_name_template": given.get("pvcNameTemplate"),
            "storage_access_modes": given.get("storageAccessModes"),
            "storage_capacity": storage.get("capacity"),
            "storage_class": given.get("storageClass"),
            "storage_pvc_ensure": True,
        }
        c.KubeSpawner.update({k: v for k, v in traits.items() if v is not None})
    elif kind == "static":
        volumes["home"] = {"name": "home", "persistentVolumeClaim": {"claimName": given.get("pvcName")}}
        mounts["home"] = {**home, "name": "home", "subPath": given.get("subPath")}
    found = value_at(data, "singleuser.extraFiles")
    files = {k: f for k, f in (found.items() if isinstance(found, Mapping) else ()) if isinstance(f, Mapping)}
    if files:
        items = [{"key": k, "path": k, **({"mode": f["mode"]} if "mode" in f else {})} for k, f in files.items()]
        secret = {"secretName": _object_name(data, "singleuser"), "items": items}
        volumes["files"] = {"name": "files", "secret": secret}
        for number, (key, file) in enumerate(files.items()):
            mounts[f"{number}-files"] = {"mountPath": file.get("mountPath"), "subPath": key, "name": "files"}
    volumes.update(_by_name(storage.get("extraVolumes"), "{name}"))
    mounts.update(_by_name(storage.get("extraVolumeMounts"), "{number}-{name}"))
    c.KubeSpawner.volumes, c.KubeSpawner.volume_mounts = volumes, mounts
    return volumes, mounts


def _by_name(items: Any, key: str) -> dict[str, Any]:
    """Return a mapping as it is, and a list as a mapping."""
    if isinstance(items, Mapping):
        return dict(items)
    named = enumerate(_mappings(items))
    return {key.format(number=n, name=item.get("name")): item for n, item in named}


def _block_metadata(c: Config, data: Mapping[str, Any]) -> None:
    block = value_at(data, "singleuser.cloudMetadata")
    if not isinstance(block, Mapping) or not block.get("blockWithIptables"):
        return
    tools = value_at(data, "singleuser.networkTools") or {}
    rule = ["--append", "OUTPUT", "--protocol", "tcp", "--destination", block.get("ip"), "--destination-port", "80"]
    container = {
        "name": METADATA_BLOCK,
        "image": f"{value_at(tools, 'image.name')}:{value_at(tools, 'image.tag')}",
        "command": ["iptables", *rule, "--jump", "DROP"],
        "securityContext": {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
        "resources": tools.get("resources") or {},
    }
    _append(c, "init_containers", container)


def _append(c: Config, trait: str, item: Any) -> None:
    """Add to a list that values may have set; KubeSpawner takes a mapping as well."""
    found = c.KubeSpawner.get(trait)
    if isinstance(found, Mapping):
        c.KubeSpawner[trait] = {**found, f"zz-{trait}": item}
    else:
        c.KubeSpawner[trait] = [*_list(found), item]


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    return [item for item in _list(found) if isinstance(item, Mapping)]


def _list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else []


# ------------------------------------------------------------------------------------------------ what code finds

_IN_CLUSTER = {
    "user-scheduler": "user-scheduler",
    "priority": "default-priority",
    "user-placeholder-priority": "user-placeholder-priority",
    "image-puller-priority": "image-puller-priority",
}
"""Objects without a namespace, whose names therefore always have the release in them."""
_IN_NAMESPACE = {
    "hub-pvc": "hub-db-dir",
    "hub-serviceaccount": "hub",
    **{
        name: name
        for name in (
            "autohttps", "continuous-image-puller", "hook-image-awaiter", "hook-image-puller", "hub",
            "image-pull-secret", "ingress", "proxy", "proxy-api", "proxy-http", "proxy-public",
            "proxy-public-manual-tls", "proxy-public-tls", "singleuser", "user-placeholder",
            "user-scheduler-deploy", "user-scheduler-lock",
        )
    },
}  # fmt: skip
_PORTS = {"hub": "8081", "proxy-api": "8001", "proxy-http": "8000", "proxy-public": "80"}


def _object_name(data: Mapping[str, Any], short: str) -> str:
    """Return the name that the chart gives to one of its objects.

    Raises:
        KeyError: If the chart has no such object.
    """
    full = data.get("fullnameOverride")
    if full is None:
        name = str(value_at(data, "nameOverride") or "jupyterhub")
        full = RELEASE if name in RELEASE else f"{RELEASE}-{name}"
    if short in _IN_CLUSTER:
        return f"{full or RELEASE}-{_IN_CLUSTER[short]}"
    return f"{full}-{_IN_NAMESPACE[short]}" if full else _IN_NAMESPACE[short]


@contextlib.contextmanager
def _chart_names(values: HubValues, c: Config) -> Iterator[dict[str, Any]]:
    """Yield the names that code in a chart's values finds; its module `z2jh` can be imported, and its files too."""
    data = values.data

    def get_config(key: str, default: Any = None) -> Any:
        found: Any = data
        for step in key.split("."):
            if not isinstance(found, Mapping) or step not in found:
                return default
            found = found[step]
        return found

    def set_config_if_not_none(section: Any, trait: str, key: str) -> None:
        value = get_config(key)
        if value is not None:
            setattr(section, trait, value)

    def get_name(name: str) -> str:
        return _object_name(data, name)

    def get_name_env(name: str, suffix: str = "") -> str:
        variable = get_name(name).upper().replace("-", "_") + suffix
        return os.environ.get(variable) or (_PORTS.get(name, "") if suffix.endswith("PORT") else get_name(name))

    def get_secret_value(key: str, *default: Any) -> Any:
        found = get_config(key)
        return found if found is not None else default[0] if default else "0" * 64

    functions = (get_config, set_config_if_not_none, get_name, get_name_env, get_secret_value)
    z2jh = ModuleType("z2jh")
    z2jh.__dict__.update({function.__name__: function for function in functions})
    known = {
        **{function.__name__: function for function in functions},
        "__name__": "jupyterhub_config",
        "c": c,
        "os": os,
        "re": re,
        "sys": sys,
        "glob": glob,
        # What code of others finds; nothing here uses it.
        "client": importlib.import_module("kubernetes_asyncio.client"),
        "url_path_join": importlib.import_module("jupyterhub.utils").url_path_join,
        "configuration_directory": CONFIG_FOLDER,
        OPAQUE: OPAQUE,  # a placeholder in code
    }
    with (
        tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder,
        _importable(folder, {"z2jh": z2jh}),
        _with_variables(_hub_environment(data)),
    ):
        for path, text in values.files.items():
            name = path.removeprefix(f"{CONFIG_FOLDER}/")
            if name != path and "/" not in name and not is_configuration(path):
                (Path(folder) / name).write_text(text, encoding="utf-8")
        yield known


def _hub_environment(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of the hub's container whose values are known."""
    extra = value_at(data, "hub.extraEnv")
    pairs = list(extra.items()) if isinstance(extra, Mapping) else [(i.get("name"), i) for i in _mappings(extra)]
    values = ((name, item.get("value") if isinstance(item, Mapping) else item) for name, item in pairs)
    known = {str(name): str(value) for name, value in values if value is not None}
    return {"HELM_RELEASE_NAME": RELEASE, "POD_NAMESPACE": "default", "CONFIGPROXY_AUTH_TOKEN": "0" * 64, **known}


@contextlib.contextmanager
def _with_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables until the end of the block; those that are set already count more."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _importable(folder: str, modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Let modules be imported, those in a folder too; at the end of the block they are forgotten."""
    before, path = set(sys.modules), list(sys.path)
    hidden = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if name in modules or str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
                del sys.modules[name]
        sys.modules.update(hidden)
