"""The models under the configurator's names, with its defaults.

Keys that it does not know are ignored there, so they are here; and what was made can be changed.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

from profile_spawner.profiles import resources
from profile_spawner.profiles.resources import SubjectKind, Verb

__all__ = [
    "ConfigMap",
    "ConfigMapEnvVarReference",
    "ConfigMapKeyRef",
    "ImagePullSecret",
    "InitContainer",
    "InitContainerVolumeMount",
    "Manifest",
    "Role",
    "RoleBinding",
    "SecretMount",
    "Subject",
    "SubjectKind",
    "Verb",
    "Volume",
    "VolumeMount",
]

_LENIENT = ConfigDict(frozen=False, extra="ignore")


class VolumeMount(resources.VolumeMount):
    """Where a volume appears."""

    model_config = _LENIENT


class InitContainerVolumeMount(resources.InitContainerVolumeMount):
    """Where a volume appears in an init container."""

    model_config = _LENIENT


class Volume(resources.Volume):
    """A claim; the families of the configurator pass a `mount_path` that nobody reads."""

    model_config = _LENIENT


class ConfigMap(resources.ConfigMap):
    """A file. `readonly` and `persist` have no effect: files cannot be changed, and unused ones are removed."""

    model_config = _LENIENT
    readonly: bool = True
    persist: bool = False


class ConfigMapKeyRef(resources.ConfigMapKeyRef):
    """One value of a ConfigMap."""

    model_config = _LENIENT


class ConfigMapEnvVarReference(resources.ConfigMapEnvVarReference):
    """An environment variable whose value stands in a ConfigMap."""

    model_config = _LENIENT
    from_config_map: ConfigMapKeyRef


class SecretMount(resources.SecretMount):
    """A Secret that exists already, mounted."""

    model_config = _LENIENT


class InitContainer(resources.InitContainer):
    """A container that runs before the server."""

    model_config = _LENIENT


class ImagePullSecret(resources.ImagePullSecret):
    """A pull secret for the pod. `persist` has no effect."""

    model_config = _LENIENT
    persist: bool = False


class Manifest(resources.Manifest):
    """Any Kubernetes objects. `key` has no effect."""

    model_config = _LENIENT
    key: str = ""
    persist: bool = True


def _core_by_default(value: Any) -> Any:
    return ("",) if value is None else value


class Role(resources.Role):
    """One rule, as a namespaced Role."""

    model_config = _LENIENT
    api_groups: Annotated[tuple[str, ...], BeforeValidator(_core_by_default)] = ("",)


class Subject(resources.Subject):
    """One subject of a role binding."""

    model_config = _LENIENT


class RoleBinding(resources.RoleBinding):
    """A Role and whom it is bound to."""

    model_config = _LENIENT
    subjects: tuple[Subject, ...]
    role: Role
    persist: bool = True
