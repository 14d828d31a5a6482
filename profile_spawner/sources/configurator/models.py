"""The models under the configurator's names. Keys that it does not know are ignored there, so they are here."""

from __future__ import annotations

from pydantic import ConfigDict

from profile_spawner import resources
from profile_spawner.resources import (
    ConfigMapEnvVarReference,
    ConfigMapKeyRef,
    ImagePullSecret,
    Manifest,
    Role,
    RoleBinding,
    SecretMount,
    Subject,
    SubjectKind,
    Verb,
)

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

_LENIENT = ConfigDict(frozen=True, extra="ignore")


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
    """A file."""

    model_config = _LENIENT


class InitContainer(resources.InitContainer):
    """A container that runs before the server."""

    model_config = _LENIENT
