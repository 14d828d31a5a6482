"""Converts values of Zero to JupyterHub to the hub's configuration, as the chart does.

Only values in the file are used: the defaults of the chart and of a parent chart are not known here. If a part is in
the file, its usual defaults are added.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin, ProfileDefinitionError, SourceError
from profile_spawner.sources.chart_values import find_values, in_chart_order, is_manifest, sorted_by_helm, value_at

if TYPE_CHECKING:
    from traitlets.config import Config

__all__ = ["ChartValues", "chart_values", "config_of"]

_TRAITS = {
    "allowPrivilegeEscalation": "allow_privilege_escalation",
    "cmd": "cmd",
    "cpu.guarantee": "cpu_guarantee",
    "cpu.limit": "cpu_limit",
    "defaultUrl": "default_url",
    "events": "events_enabled",
    "extraAnnotations": "extra_annotations",
    "extraContainers": "extra_containers",
    "extraEnv": "environment",
    "extraLabels": "extra_labels",
    "extraNodeAffinity.preferred": "node_affinity_preferred",
    "extraNodeAffinity.required": "node_affinity_required",
    "extraPodAffinity.preferred": "pod_affinity_preferred",
    "extraPodAffinity.required": "pod_affinity_required",
    "extraPodAntiAffinity.preferred": "pod_anti_affinity_preferred",
    "extraPodAntiAffinity.required": "pod_anti_affinity_required",
    "extraPodConfig": "extra_pod_config",
    "extraResource.guarantees": "extra_resource_guarantees",
    "extraResource.limits": "extra_resource_limits",
    "fsGid": "fs_gid",
    "image.pullPolicy": "image_pull_policy",
    "initContainers": "init_containers",
    "lifecycleHooks": "lifecycle_hooks",
    "memory.guarantee": "mem_guarantee",
    "memory.limit": "mem_limit",
    "nodeSelector": "node_selector",
    "podNameTemplate": "pod_name_template",
    "profileList": "profile_list",
    "serviceAccountName": "service_account",
    "startTimeout": "start_timeout",
    "storage.extraLabels": "storage_extra_labels",
    "uid": "uid",
}
"""Keys below `singleuser`, and the traits of KubeSpawner that the chart sets to them."""


@dataclass(frozen=True)
class ChartValues:
    """The values of one chart.

    Attributes:
        data: The mapping that has `singleuser` or `hub` in it.
        file: The file.
    """

    data: Mapping[str, Any]
    file: str

    @property
    def profile_list(self) -> list[Any]:
        """The entries of `singleuser.profileList` as the hub gets them; those of a mapping in the order of its keys.

        Raises:
            ProfileDefinitionError: when it is something else.
        """
        listed = value_at(self.data, "singleuser.profileList")
        if isinstance(listed, Mapping) and all(isinstance(v, Mapping) for v in listed.values()):
            return [in_chart_order(listed[key]) for key in sorted(listed)]
        if listed is not None and not isinstance(listed, list):
            raise ProfileDefinitionError(
                "must be a list of profiles",
                origin=self.at("singleuser", "profileList"),
                field="singleuser.profileList",
                value=listed,
            )
        return [in_chart_order(entry) for entry in listed or ()]

    @property
    def snippets(self) -> list[tuple[str, str, int]]:
        """The Python code of `hub.extraConfig` in the chart's order: name, text, and how many lines stand before it."""
        extra = value_at(self.data, "hub.extraConfig")
        if isinstance(extra, str):
            return [("hub.extraConfig", extra, self.at("hub", "extraConfig").line)]
        pairs = sorted(extra.items()) if isinstance(extra, Mapping) else ()
        return [
            (f"hub.extraConfig.{key}", text, self.at("hub", "extraConfig", key).line)
            for key, text in pairs
            if isinstance(text, str)
        ]

    def at(self, *path: Any) -> Origin:
        """Return where something in it was written."""
        from profile_spawner.profiles.yaml_text import line_at

        return Origin(self.file, line_at(self.data, path))


def chart_values(path: Path, *, manifests: bool = True) -> list[ChartValues]:
    """Return the values of charts that a file holds; none, when it is something else.

    Args:
        path: The file.
        manifests: Whether to look into ConfigMaps and Secrets.

    Raises:
        SourceError: If it is not YAML.
    """
    from profile_spawner.profiles.yaml_text import parse_yaml

    try:
        text = path.read_bytes()
    except OSError as e:
        raise SourceError(f"the file cannot be read: {e.strerror}", origin=Origin(str(path))) from None
    documents = parse_yaml(text, str(path))
    wanted = [document for document in documents if manifests or not is_manifest(document)]
    return [ChartValues(found, str(path)) for document in wanted for found in find_values(document, str(path))]


def config_of(values: ChartValues, warn: Callable[[str], None]) -> Config:
    """Return the part of the hub's configuration that these values set; the code of `hub.extraConfig` is run.

    Args:
        values: The values.
        warn: Called with a sentence for each snippet of code that cannot be run here.

    Raises:
        ProfileDefinitionError: If `singleuser.profileList` is not a list.
    """
    from traitlets.config import Config

    config = Config()
    user = value_at(values.data, "singleuser") or {}
    _set_lists(values.data, user, config)
    _set_storage(user, config)
    for key, trait in _TRAITS.items():
        value = value_at(user, key)
        if value is not None:
            config.KubeSpawner[trait] = values.profile_list if key == "profileList" else _as_helm_sorts(value)
    image = value_at(user, "image")
    if isinstance(image, Mapping) and image.get("name"):
        config.KubeSpawner.image = f"{image['name']}:{image.get('tag') or 'latest'}"
    for section, settings in (value_at(values.data, "hub.config") or {}).items():
        if isinstance(settings, Mapping):
            config[section].update(_as_helm_sorts(settings))
    with _chart_module(values, config) as names:
        for name, text, _ in values.snippets:
            try:
                exec(compile(text, f"{values.file}: {name}", "exec"), names)  # noqa: S102 - as the hub does
            except (Exception, SystemExit) as e:  # noqa: BLE001 - code for a hub may want anything of a cluster
                warn(f"{values.file}: {name} cannot be run here and is left out: {type(e).__name__}: {e}")
    return config


def _set_lists(data: Mapping[str, Any], user: Mapping[str, Any], config: Config) -> None:
    """Set what the chart joins from several values."""
    lists = {
        "tolerations": (value_at(data, "scheduling.userPods.tolerations"), value_at(user, "extraTolerations")),
        "image_pull_secrets": (
            ["image-pull-secret"] if value_at(data, "imagePullSecret.create") else None,
            value_at(data, "imagePullSecrets"),
            value_at(user, "image.pullSecrets"),
        ),
    }
    for trait, parts in lists.items():
        joined = _joined(
            [item for part in parts[:-1] for item in _as_helm_sorts(part) or ()], _as_helm_sorts(parts[-1])
        )
        if joined:
            config.KubeSpawner[trait] = joined


def _set_storage(user: Mapping[str, Any], config: Config) -> None:
    """Set volumes and mounts: the home, files, and what is listed besides."""
    storage = _as_helm_sorts(value_at(user, "storage")) or {}
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    usual = "static" if "static" in storage else "dynamic" if {"dynamic", "capacity"} & {*storage} else None
    kind = storage.get("type", usual)
    home = {"mountPath": storage.get("homeMountPath") or "/home/jovyan"}
    given = storage.get(kind) or {}
    if kind == "dynamic":
        name = given.get("volumeNameTemplate") or "volume-{user_server}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": "{pvc_name}"}})
        mounts.append({**home, "name": name, **({"subPath": given["subPath"]} if given.get("subPath") else {})})
        traits = {
            "pvc_name_template": given.get("pvcNameTemplate"),
            "storage_access_modes": given.get("storageAccessModes"),
            "storage_capacity": storage.get("capacity"),
            "storage_class": given.get("storageClass"),
            "storage_pvc_ensure": True,
        }
        config.KubeSpawner.update({k: v for k, v in traits.items() if v is not None})
    elif kind == "static" and given.get("pvcName"):
        volumes.append({"name": "home", "persistentVolumeClaim": {"claimName": given["pvcName"]}})
        mounts.append({**home, "name": "home", "subPath": given.get("subPath", "{username}")})
    files = {key: file for key, file in (_as_helm_sorts(value_at(user, "extraFiles")) or {}).items() if file}
    if files:
        items = [{"key": k, "path": k, **({"mode": f["mode"]} if "mode" in f else {})} for k, f in files.items()]
        volumes.append({"name": "files", "secret": {"secretName": "singleuser", "items": items}})
        mounts += [{"mountPath": f.get("mountPath"), "subPath": k, "name": "files"} for k, f in files.items()]
    for trait, own, more in (
        ("volumes", volumes, storage.get("extraVolumes")),
        ("volume_mounts", mounts, storage.get("extraVolumeMounts")),
    ):
        joined = _joined(own, more)
        if joined:
            config.KubeSpawner[trait] = joined


def _joined(own: list[Any], more: Any) -> Any:
    """Return one list; a mapping, which KubeSpawner sorts by its keys, when `more` is one."""
    if isinstance(more, Mapping):
        return {**{f"0-{number}": item for number, item in enumerate(own)}, **more}
    return [*own, *(more or ())]


@contextlib.contextmanager
def _chart_module(values: ChartValues, config: Config) -> Iterator[dict[str, Any]]:
    """Yield the names that code in a chart's values finds, its module `z2jh` included."""

    def get_config(key: str, default: Any = None) -> Any:
        value = value_at(values.data, key)
        return default if value is None else _as_helm_sorts(value)

    def set_config_if_not_none(section: Any, trait: str, key: str) -> None:
        value = get_config(key)
        if value is not None:
            setattr(section, trait, value)

    module = ModuleType("z2jh")
    module.__dict__.update(get_config=get_config, set_config_if_not_none=set_config_if_not_none)
    before = sys.modules.get("z2jh")
    sys.modules["z2jh"] = module
    try:
        yield {**module.__dict__, "__name__": "jupyterhub_config", "c": config}
    finally:
        if before is None:
            del sys.modules["z2jh"]
        else:
            sys.modules["z2jh"] = before


def _as_helm_sorts(value: Any) -> Any:
    """Return a copy without lines, its keys in the order in which the hub gets them."""
    if isinstance(value, Mapping):
        return {k: _as_helm_sorts(v) for k, v in sorted_by_helm(value)}
    return [_as_helm_sorts(v) for v in value] if isinstance(value, list) else value
