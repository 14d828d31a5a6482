"""The models under the configurator's names, with its defaults.

Keys that it does not know are ignored there, so they are here; and what was made can be changed. What is changed is
checked again when a profile is built.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

from profile_spawner.profiles import resources
from profile_spawner.profiles.resources import SubjectKind, Verb

from .kube_names import mended_name

__all__ = [
    "Config",
    "ConfigMap",
    "ConfigMapEnvVarReference",
    "ConfigMapKeyRef",
    "ImagePullSecret",
    "InitContainer",
    "InitContainerVolumeMount",
    "KubespawnerOverride",
    "Manifest",
    "Profile",
    "ProfileDefinition",
    "Role",
    "RoleBinding",
    "SecretMount",
    "Subject",
    "SubjectKind",
    "Verb",
    "Volume",
    "VolumeMount",
]

# A field takes our own models as well, by their attributes.
_LENIENT = ConfigDict(frozen=False, extra="ignore", from_attributes=True, revalidate_instances="always")


def _empty_for_none(value: Any) -> Any:
    return [] if value is None else value


def _mended(value: Any) -> Any:
    return mended_name(value) if isinstance(value, str) else value


class _Named(BaseModel):
    """A model whose names are mended when Kubernetes would refuse them."""

    _mend = field_validator("name", "claim_name", mode="before", check_fields=False)(_mended)


class VolumeMount(_Named, resources.VolumeMount):
    """Where a volume appears."""

    model_config = _LENIENT


class InitContainerVolumeMount(resources.InitContainerVolumeMount, VolumeMount):
    """Where a volume appears in an init container."""

    model_config = _LENIENT


class Volume(_Named, resources.Volume):
    """A claim; the families of the configurator pass a `mount_path` that nobody reads."""

    model_config = _LENIENT
    access_modes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]]  # type: ignore[assignment]
    volume_mount: VolumeMount


class ConfigMap(resources.ConfigMap):
    """A file. `readonly` and `persist` have no effect: files cannot be changed, and unused ones are removed.

    Without `content` it is one that exists already.
    """

    model_config = _LENIENT
    TEMPLATES: ClassVar[tuple[str, ...]] = ("name", "content", "data")
    name: resources.TemplateName
    readonly: bool = True
    persist: bool = True

    def _check_ways(self) -> None:
        if self.content is not None or self.data is not None:
            super()._check_ways()


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
    command: list[str]  # type: ignore[assignment]
    volume_mounts: list[InitContainerVolumeMount | VolumeMount] = []  # type: ignore[assignment]


class ImagePullSecret(resources.ImagePullSecret):
    """A pull secret for the pod. `persist` has no effect."""

    model_config = _LENIENT
    persist: bool = True


class Manifest(resources.Manifest):
    """Any Kubernetes objects. `key` has no effect."""

    model_config = _LENIENT
    key: str = ""
    content: Annotated[list[dict[str, Any]], BeforeValidator(_empty_for_none)] = []  # type: ignore[assignment]
    persist: bool = True


def _core_by_default(value: Any) -> Any:
    return [""] if value is None else value


class Role(resources.Role):
    """One rule, as a namespaced Role."""

    model_config = _LENIENT
    resources: list[str]  # type: ignore[assignment]
    verbs: list[Verb]  # type: ignore[assignment]
    api_groups: Annotated[list[str], BeforeValidator(_core_by_default)] = [""]  # type: ignore[assignment]


class Subject(resources.Subject):
    """One subject of a role binding."""

    model_config = _LENIENT


class RoleBinding(resources.RoleBinding):
    """A Role and whom it is bound to."""

    model_config = _LENIENT
    subjects: list[Subject]  # type: ignore[assignment]
    role: Role
    persist: bool = True


class _Model(BaseModel):
    model_config = _LENIENT


class KubespawnerOverride(_Model):
    """The image and the resources. `None` keeps the hub's own setting."""

    cpu_limit: Any = None
    cpu_guarantee: Any = None
    mem_limit: Any = None
    mem_guarantee: Any = None
    image: Any
    extra_resource_limits: dict[str, Any] = {}
    extra_resource_guarantees: dict[str, Any] = {}


class ProfileDefinition(_Model):
    """What the page shows, and the resources."""

    display_name: str
    description: str | None = None
    slug: str
    default: bool = False
    kubespawner_override: KubespawnerOverride


class Profile(_Model):
    """The result of `build()`: everything that the server needs."""

    id: str
    groups: list[str]
    definition: ProfileDefinition
    config_maps: list[ConfigMap] | None = None
    volumes: list[Volume] | None = None
    pod_env_vars: dict[str, Any] | None = None
    default_url: str | None = None
    node_selector: dict[str, Any] = {}
    role_bindings: list[RoleBinding] | None = None
    image_pull_secrets: list[ImagePullSecret] | None = []
    init_containers: list[InitContainer] | None = []
    manifests: list[Manifest] | None = None
    env_from_config_maps: list[str] | None = None
    env_from_secrets: list[str] | None = None
    secret_mounts: list[SecretMount] | None = None


class Config(_Model):
    """Several profiles."""

    profiles: list[Profile]
