"""Reads the values of Zero to JupyterHub as the hub's configuration that the chart makes of them.

Values can stand at any depth, since charts that depend on it put them below its name, and in a ConfigMap or Secret that
holds them as a text. Only what is written counts: the chart's own defaults are not known here.
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

    @property
    def snippets(self) -> list[tuple[str, str, int]]:
        """The Python code of `hub.extraConfig` in the chart's order: name, text, and how many lines stand before it."""
        extra = _at(self.data, "hub.extraConfig")
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
        from profile_spawner.yaml_text import line_at

        return Origin(self.file, self.before + line_at(self.data, path))


def chart_values(path: Path) -> list[Values]:
    """Return the values of charts that a file holds; none, when it is something else.

    Raises:
        SourceError: when it is no YAML.
    """
    from profile_spawner.yaml_text import parse_yaml

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
    elif any(isinstance(_at(value, key), Mapping) for key in ("singleuser", "hub.config", "hub.extraConfig")):
        yield Values(value, file, before)
    else:
        for inner in value.values():
            yield from _found(inner, file, before, depth + 1)


def _in_object(value: Mapping[str, Any], file: str, before: int) -> Iterator[Values]:
    from profile_spawner.yaml_text import parse_yaml

    for part in ("data", "stringData"):
        texts = value.get(part)
        for key, text in texts.items() if isinstance(texts, Mapping) else ():
            if isinstance(text, str) and key.endswith((".yaml", ".yml")):
                # Exact for a text that begins on the line after its key, as a block does.
                first = before + getattr(texts, "lines", {}).get(key, 0)
                for document in parse_yaml(text, f"{file}: {key}"):
                    yield from _found(document, file, first, 0)


def config_of(values: Values, warn: Callable[[str], None]) -> Config:
    """Return the part of the hub's configuration that these values set; the code of `hub.extraConfig` is run.

    Args:
        values: The values.
        warn: Called with a sentence for each snippet of code that cannot be run here.

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
    with _chart_module(values, config) as names:
        for name, text, _ in values.snippets:
            try:
                exec(compile(text, f"{values.file}: {name}", "exec"), names)  # noqa: S102 - as the hub does
            except (Exception, SystemExit) as e:  # noqa: BLE001 - code for a hub may want anything of a cluster
                warn(f"{values.file}: {name} cannot be run here and is left out: {type(e).__name__}: {e}")
    return config


@contextlib.contextmanager
def _chart_module(values: Values, config: Config) -> Iterator[dict[str, Any]]:
    """Yield the names that code in a chart's values finds, its module `z2jh` included."""

    def get_config(key: str, default: Any = None) -> Any:
        value = _at(values.data, key)
        return default if value is None else _plain(value)

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


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
