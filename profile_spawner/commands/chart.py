"""Reads the values of Zero to JupyterHub as the hub's configuration that the chart makes of them.

Values can stand at any depth, since charts that depend on it put them below its name, and in a ConfigMap or Secret that
holds them as a text. Only what is written counts: the chart's own defaults are not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin, ProfileDefinitionError, SourceError

if TYPE_CHECKING:
    from traitlets.config import Config

__all__ = ["Values", "chart_values", "config_of"]

_DEEP = 8
_TRAITS = {
    "cmd": "cmd",
    "cpu.guarantee": "cpu_guarantee",
    "cpu.limit": "cpu_limit",
    "defaultUrl": "default_url",
    "events": "events_enabled",
    "extraAnnotations": "extra_annotations",
    "extraContainers": "extra_containers",
    "extraEnv": "environment",
    "extraLabels": "extra_labels",
    "extraPodConfig": "extra_pod_config",
    "extraResource.guarantees": "extra_resource_guarantees",
    "extraResource.limits": "extra_resource_limits",
    "extraTolerations": "tolerations",
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
    "storage.extraVolumeMounts": "volume_mounts",
    "storage.extraVolumes": "volumes",
    "uid": "uid",
}
"""Keys below `singleuser`, and the traits of KubeSpawner that the chart sets to them."""


@dataclass(frozen=True)
class Values:
    """The values of one chart.

    Attributes:
        data: The mapping that has `singleuser` or `hub` in it.
        file: The file.
        before: How many lines of the file stand before the text that `data` was read from.
    """

    data: Mapping[str, Any]
    file: str
    before: int = 0

    @property
    def profile_list(self) -> list[Any]:
        """The entries of `singleuser.profileList`; those of a mapping in the order of its keys.

        Raises:
            ProfileDefinitionError: when it is something else.
        """
        listed = _at(self.data, "singleuser.profileList")
        if isinstance(listed, Mapping) and all(isinstance(v, Mapping) for v in listed.values()):
            return [listed[key] for key in sorted(listed)]
        if listed is not None and not isinstance(listed, list):
            raise ProfileDefinitionError(
                "must be a list of profiles",
                origin=self.at("singleuser", "profileList"),
                field="singleuser.profileList",
                value=listed,
            )
        return list(listed or ())

    def at(self, *path: Any) -> Origin:
        """Return where something in it was written."""
        from profile_spawner.sources.yaml_text import line_at

        return Origin(self.file, self.before + line_at(self.data, path))


def chart_values(path: Path) -> list[Values]:
    """Return the values of charts that a file holds; none, when it is something else.

    Raises:
        SourceError: when it is no YAML.
    """
    from profile_spawner.sources.yaml_text import parse_yaml

    try:
        text = path.read_bytes()
    except OSError as e:
        raise SourceError(f"the file cannot be read: {e.strerror}", origin=Origin(str(path))) from None
    return [found for document in parse_yaml(text, str(path)) for found in _found(document, str(path), 0, 0)]


def _found(value: Any, file: str, before: int, depth: int) -> Iterator[Values]:
    if not isinstance(value, Mapping) or depth > _DEEP:
        return
    if value.get("kind") in ("ConfigMap", "Secret") and "apiVersion" in value:
        yield from _in_object(value, file, before)
    elif isinstance(value.get("singleuser"), Mapping) or isinstance(_at(value, "hub.config"), Mapping):
        yield Values(value, file, before)
    else:
        for inner in value.values():
            yield from _found(inner, file, before, depth + 1)


def _in_object(value: Mapping[str, Any], file: str, before: int) -> Iterator[Values]:
    from profile_spawner.sources.yaml_text import parse_yaml

    for part in ("data", "stringData"):
        texts = value.get(part)
        for key, text in texts.items() if isinstance(texts, Mapping) else ():
            if isinstance(text, str) and key.endswith((".yaml", ".yml")):
                # Exact for a text that begins on the line after its key, as a block does.
                first = before + getattr(texts, "lines", {}).get(key, 0)
                for document in parse_yaml(text, f"{file}: {key}"):
                    yield from _found(document, file, first, 0)


def config_of(values: Values) -> Config:
    """Return the part of the hub's configuration that these values set.

    Raises:
        ProfileDefinitionError: when `singleuser.profileList` is no list.
    """
    from traitlets.config import Config

    config = Config()
    user = _at(values.data, "singleuser") or {}
    for key, trait in _TRAITS.items():
        value = _at(user, key)
        if value is not None:
            config.KubeSpawner[trait] = values.profile_list if key == "profileList" else _plain(value)
    image = _at(user, "image")
    if isinstance(image, Mapping) and image.get("name"):
        config.KubeSpawner.image = f"{image['name']}:{image.get('tag') or 'latest'}"
    for section, settings in (_at(values.data, "hub.config") or {}).items():
        if isinstance(settings, Mapping):
            config[section].update(_plain(settings))
    return config


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
