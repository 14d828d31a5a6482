"""The hooks of a profile, each described once.

A hook is a method of `BaseAppProfile` that begins with `get_`. Its docstring says what it returns. `HOOKS`
contains the other facts. The method of `PodBuilder` with the hook's name without `get_` processes the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .attributes import EnvVars
from .resources import ConfigMap, ImagePullSecret, InitContainer, Manifest, RoleBinding, SecretMount, Volume
from .template import TemplateText

__all__ = ["HOOKS", "LIST_HOOKS", "Hook"]


@dataclass(frozen=True)
class Hook:
    """The description of a hook.

    Attributes:
        name: The method.
        returns: The type that the value must have.
        key: What documents call it. Where that is an attribute, the hook returns the attribute by default.
        identity: For lists: the key by which two items are equal. The item of the extending document is used.
    """

    name: str
    returns: Any
    key: str
    identity: Callable[[Any], str] | None = None

    @property
    def part(self) -> str:
        """The method of `PodBuilder` that receives the value."""
        return self.name.removeprefix("get_")

    def joined(self, base: Sequence[Any], own: Sequence[Any]) -> list[Any]:
        """Return the items of both lists. If two items are equal, keep the profile's own item."""
        assert self.identity is not None
        return list({self.identity(item): item for item in (*base, *own)}.values())


def _name(item: Any) -> str:
    return str(getattr(item, "name", item))


_IN_ORDER = (
    Hook("get_default_volumes", list[Volume], "volumes", _name),
    Hook("get_config_maps", list[ConfigMap], "config_maps", lambda c: c.mount_path or c.name),
    Hook("get_pod_env_vars", EnvVars, "pod_env_vars"),
    Hook("get_secret_mounts", list[SecretMount], "secret_mounts", lambda m: str(m.mount_path)),
    Hook("get_env_config_maps", list[TemplateText], "env_from_config_maps", str),
    Hook("get_env_secrets", list[TemplateText], "env_from_secrets", str),
    Hook("get_init_containers", list[InitContainer], "init_containers", _name),
    Hook("get_image_pull_secrets", list[ImagePullSecret | TemplateText], "image_pull_secrets", _name),
    Hook("get_role_bindings", list[RoleBinding], "role_bindings", _name),
    Hook("get_manifests", list[Manifest], "manifests", _name),
    Hook("get_extra_resource_limits", dict[str, str | int | float], "extra_resource_limits"),
    Hook("get_kubespawner_override", dict[str, Any], "kubespawner_override"),
)

HOOKS: Mapping[str, Hook] = MappingProxyType({hook.name: hook for hook in _IN_ORDER})
"""All hooks, in the order in which they are called."""

LIST_HOOKS: tuple[Hook, ...] = tuple(hook for hook in _IN_ORDER if hook.identity is not None)
"""The hooks that return an empty list by default."""
