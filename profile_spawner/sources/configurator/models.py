"""The models under the configurator's names, with its defaults.

Keys that it does not know are ignored there, so they are here; and what was made can be changed. What is changed is
checked again when a profile is built. Only then are names mended that Kubernetes refuses, so that a plug-in's `build()`
finds its own ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, model_validator

from profile_spawner.profiles import resources
from profile_spawner.profiles.resources import SubjectKind, Verb
from profile_spawner.profiles.template import TemplateText

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


def _mended(method: str, kind: str) -> AfterValidator:
    """Return what mends a name with the `NameMender` that is the context, if there is one."""

    def mend(name: str, info: ValidationInfo) -> str:
        return getattr(info.context, method)(kind, name) if info.context is not None and name else name

    return AfterValidator(mend)


VolumeName = Annotated[str, _mended("label", "volume")]


class VolumeMount(resources.VolumeMount):
    """Where a volume appears."""

    model_config = _LENIENT
    name: VolumeName = ""


class InitContainerVolumeMount(VolumeMount, resources.InitContainerVolumeMount):
    """Where a volume appears in an init container."""

    model_config = _LENIENT


class Volume(resources.Volume):
    """A claim; the families of the configurator pass a `mount_path` that nobody reads."""

    model_config = _LENIENT
    name: VolumeName
    claim_name: Annotated[TemplateText, _mended("name", "claim")]
    access_modes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]]  # type: ignore[assignment]
    volume_mount: VolumeMount


class ConfigMap(resources.ConfigMap):
    """A file. `readonly` and `persist` have no effect: files cannot be changed, and unused ones are removed.

    Without `content` it is one that exists already.
    """

    model_config = _LENIENT
    TEMPLATES: ClassVar[tuple[str, ...]] = ("name", "content", "data")
    name: TemplateText
    readonly: bool = True
    persist: bool = True

    @model_validator(mode="after")
    def _mend(self, info: ValidationInfo) -> ConfigMap:
        if info.context is not None and not self.exists:
            return self.model_copy(update={"name": info.context.config_map(self.name, self.mount_path)})
        return self

    @property
    def exists(self) -> bool:
        """Whether it exists already."""
        return self.content is None and self.data is None

    def _check_ways(self) -> None:
        if not self.exists:
            super()._check_ways()


class ConfigMapKeyRef(resources.ConfigMapKeyRef):
    """One value of a ConfigMap."""

    model_config = _LENIENT
    name: TemplateText


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
    name: Annotated[str, _mended("label", "init container")]
    command: list[str]  # type: ignore[assignment]
    volume_mounts: list[InitContainerVolumeMount | VolumeMount] = []  # type: ignore[assignment]


class ImagePullSecret(resources.ImagePullSecret):
    """A pull secret for the pod. `persist` has no effect."""

    model_config = _LENIENT
    name: TemplateText
    persist: bool = True

    @model_validator(mode="after")
    def _mend(self, info: ValidationInfo) -> ImagePullSecret:
        if info.context is not None and self.data is not None:
            return self.model_copy(update={"name": info.context.name("pull secret", self.name)})
        return self


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
    name: Annotated[str, _mended("role", "role")]
    resources: list[str]  # type: ignore[assignment]
    verbs: list[Verb]  # type: ignore[assignment]
    api_groups: Annotated[list[str], BeforeValidator(_core_by_default)] = [""]  # type: ignore[assignment]


class Subject(resources.Subject):
    """One subject of a role binding."""

    model_config = _LENIENT


class RoleBinding(resources.RoleBinding):
    """A Role and whom it is bound to."""

    model_config = _LENIENT
    name: Annotated[str, _mended("role", "role binding")]
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

    @model_validator(mode="after")
    def _mend(self, info: ValidationInfo) -> Profile:
        """Let references to the profile's own ConfigMaps follow them."""
        if info.context is not None:
            known = info.context.known_config_map
            self.env_from_config_maps = [known(name) for name in self.env_from_config_maps or ()]
            self.pod_env_vars = {k: _followed(v, known) for k, v in (self.pod_env_vars or {}).items()}
        return self


def _followed(value: Any, known: Callable[[str], str]) -> Any:
    """Return the value of a variable; a reference to a ConfigMap with the name that this has now."""
    if not (isinstance(value, resources.ConfigMapEnvVarReference) or _is_reference(value)):
        return value
    found = ConfigMapEnvVarReference.model_validate(value).from_config_map
    return ConfigMapEnvVarReference(from_config_map=found.model_copy(update={"name": known(found.name)}))


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and "from_config_map" in value


class Config(_Model):
    """Several profiles."""

    profiles: list[Profile]
