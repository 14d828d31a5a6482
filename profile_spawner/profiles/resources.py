"""The objects that hooks return: volumes, files, secrets, roles, manifests, init containers.

The models are frozen and strict: a misspelt key is an error that suggests the correct key. The names of models and
fields are those of the EOEPCA configurator.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from profile_spawner.names import is_dns_label, is_dns_subdomain, is_role_name
from profile_spawner.params.definition import REFERENCE
from profile_spawner.params.quantities import quantity_value

from .template import TemplateText

__all__ = [
    "MAX_CONFIG_MAP_BYTES",
    "ConfigMap",
    "ConfigMapEnvVarReference",
    "ConfigMapKeyRef",
    "EnvValue",
    "ImagePullSecret",
    "InitContainer",
    "InitContainerVolumeMount",
    "InlineText",
    "KubeObject",
    "Lifetime",
    "Manifest",
    "Role",
    "RoleBinding",
    "SecretEnvVarReference",
    "SecretKeyRef",
    "SecretMount",
    "Subject",
    "SubjectKind",
    "Verb",
    "Volume",
    "VolumeMount",
    "memory_quantity",
    "quantity",
]

MAX_CONFIG_MAP_BYTES = 1_048_576
"""The API server's limit for the data of one ConfigMap or Secret, in bytes."""

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT])i?B?")


def _check_quantity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a Kubernetes quantity such as '500m', '2' or '20Gi'")
    quantity_value(value)
    return str(value)


quantity = Annotated[str, BeforeValidator(_check_quantity)]
"""A Kubernetes quantity. The spelling is not changed."""


def memory_quantity(value: Any) -> str | int | None:
    """Return memory as KubeSpawner takes it: bytes, or a number with `K`, `M`, `G` or `T` (powers of 1024).

    `Gi`, `GiB` and `GB` are read as `G`: to KubeSpawner they are the same amount.

    Raises:
        ValueError: for anything else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, str):
        text = value.strip()
        if text.isdecimal():
            return int(text)
        match = _MEMORY.fullmatch(text)
        if match:
            return f"{match.group(1)}{match.group(2)}"
    raise ValueError("must be bytes or a number with K, M, G or T, such as '4G' or '512M'")


def _dns_name(value: str) -> str:
    if not is_dns_subdomain(value):
        raise ValueError("must be a Kubernetes name: lower-case letters, digits, '-' and '.', at most 253 characters")
    return value


def _template_name(value: str) -> str:
    _dns_name(REFERENCE.sub("x", value))
    return value


def _rbac_name(value: str) -> str:
    if not is_role_name(value):
        raise ValueError("must be the name of a Role: letters, digits, '-', '_', '.' and ':', at most 253 characters")
    return value


def _dns_label(value: str) -> str:
    if not is_dns_label(value):
        raise ValueError("must be a DNS label: lower-case letters, digits and '-', at most 63 characters")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value or ".." in value.split("/") or ":" in value or len(value) > 1024:
        raise ValueError("must be an absolute path inside the container, without '..' and ':'")
    return value.rstrip("/") or "/"


def _relative(value: str) -> str:
    if value.startswith("/") or "\0" in value or ".." in value.split("/") or len(value) > 1024:
        raise ValueError("must be a relative path without '..'")
    return value


def _file_key(value: str) -> str:
    if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", value) or value in (".", ".."):
        raise ValueError("must be a file name of letters, digits, '-', '_' and '.'")
    return value


def _octal(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:04o}"
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"(0o?)?[0-7]{3}", value)):
        raise ValueError("must be an octal file mode such as '0644'")
    return value


DnsName = Annotated[str, AfterValidator(_dns_name)]
TemplateName = Annotated[TemplateText, AfterValidator(_template_name)]
"""The name of an object; it may be a `Template`. What it becomes for a server is checked when it is built."""
RbacName = Annotated[str, AfterValidator(_rbac_name)]
DnsLabel = Annotated[str, AfterValidator(_dns_label)]
ContainerPath = Annotated[str, AfterValidator(_absolute)]
SubPath = Annotated[str, AfterValidator(_relative)]
FileKey = Annotated[str, AfterValidator(_file_key)]
FileMode = Annotated[str | None, BeforeValidator(_octal)]


class InlineText(str):
    """The text of a file, used instead of the path of a file."""

    __slots__ = ()


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False, defer_build=True)
    TEMPLATES: ClassVar[tuple[str, ...]] = ()
    """The fields whose texts may be templates."""


class VolumeMount(_Model):
    """A mount of a volume in the container.

    Attributes:
        name: The volume's name; empty means the volume that this mount belongs to.
        mount_path: An absolute path.
        sub_path: A path inside the volume to mount instead of its root. Such a mount is never updated by the kubelet.
        read_only: Whether the mount is read-only.
    """

    name: str = ""
    mount_path: ContainerPath
    sub_path: SubPath | None = None
    read_only: bool = False

    def to_kubernetes(self) -> dict[str, Any]:
        """Return the mount in Kubernetes' format."""
        mount: dict[str, Any] = {"name": self.name, "mountPath": self.mount_path}
        if self.sub_path:
            mount["subPath"] = self.sub_path
        if self.read_only:
            mount["readOnly"] = True
        return mount


class InitContainerVolumeMount(VolumeMount):
    """A mount of an init container. It has the same fields as `VolumeMount`."""


class Volume(_Model):
    """A PersistentVolumeClaim that is mounted. It is created if it does not exist.

    Attributes:
        name: The volume's name in the pod.
        claim_name: The claim's name, or a `Template`. The spawner makes it unique per user in a shared namespace.
        size: A Kubernetes quantity such as `20Gi`.
        storage_class: The storage class; `None` means the cluster's default class.
        access_modes: Kubernetes access modes.
        volume_mount: Where it is mounted.
        persist: Whether the claim is kept when the server stops. If `False`, it is deleted with the server.
        annotations: Annotations of the claim.
    """

    TEMPLATES: ClassVar[tuple[str, ...]] = ("claim_name",)
    name: DnsLabel
    claim_name: TemplateName
    size: quantity
    storage_class: str | None = None
    access_modes: tuple[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...] = (
        "ReadWriteOnce",
    )
    volume_mount: VolumeMount
    persist: bool = True
    annotations: dict[str, str] | None = None

    @model_validator(mode="after")
    def _mount_is_its_own(self) -> Volume:
        if self.volume_mount.name not in ("", self.name):
            raise ValueError(f"volume_mount.name must be {self.name!r} (or left out), not {self.volume_mount.name!r}")
        return self


class ConfigMap(_Model):
    """Files for the server.

    Use `key` and `content` for one file, mounted as the file `mount_path`. Use `data` for several files, mounted as the
    directory `mount_path`. Without `mount_path` the ConfigMap is created but not mounted (for `get_env_config_maps()`).

    Attributes:
        name: A name within the profile.
        key: The file's name inside the ConfigMap.
        content: The file's text, or a `Template`.
        data: Several files by name: texts or `Template`s.
        mount_path: An absolute path in the container.
        default_mode: The octal file mode, `0644` by default.
    """

    TEMPLATES: ClassVar[tuple[str, ...]] = ("content", "data")
    name: DnsName
    key: FileKey | None = None
    content: TemplateText | None = Field(default=None, repr=False)
    data: dict[FileKey, TemplateText] | None = Field(default=None, repr=False)
    mount_path: ContainerPath | None = None
    default_mode: FileMode = None

    @model_validator(mode="after")
    def _one_way(self) -> ConfigMap:
        self._check_ways()
        return self

    def _check_ways(self) -> None:
        if (self.key is None) == (self.data is None):
            raise ValueError("give either 'key' and 'content' (one file) or 'data' (several files)")
        if self.key is not None and self.content is None:
            raise ValueError("'content' is missing: the text of the file")
        for name, text in self.files().items():
            size = len(text.encode())
            if size > MAX_CONFIG_MAP_BYTES:
                raise ValueError(
                    f"file {name!r} has {size:,} bytes; a ConfigMap holds at most {MAX_CONFIG_MAP_BYTES:,}. "
                    "Put it into the image or on a volume"
                )

    def files(self) -> dict[str, str]:
        """Return the files by name."""
        if self.data is not None:
            return dict(self.data)
        return {self.key or "": self.content or ""}

    @property
    def mode(self) -> int:
        """The file mode as a number."""
        return int((self.default_mode or "0644").replace("o", ""), 8)


class SecretMount(_Model):
    """An existing Secret, mounted as a directory, or as one file with `sub_path`. The name may be a `Template`."""

    TEMPLATES: ClassVar[tuple[str, ...]] = ("name",)
    name: TemplateName
    mount_path: ContainerPath
    sub_path: SubPath | None = None
    optional: bool = False


class ConfigMapKeyRef(_Model):
    """One value of a ConfigMap. The name may be a `Template`."""

    TEMPLATES: ClassVar[tuple[str, ...]] = ("name",)
    name: TemplateName
    key: FileKey


class SecretKeyRef(_Model):
    """One value of a Secret. The hub does not read the value. The name may be a `Template`."""

    TEMPLATES: ClassVar[tuple[str, ...]] = ("name",)
    name: TemplateName
    key: FileKey


class ConfigMapEnvVarReference(_Model):
    """An environment variable whose value comes from a ConfigMap (`configMapKeyRef`)."""

    TEMPLATES: ClassVar[tuple[str, ...]] = ("from_config_map",)
    from_config_map: ConfigMapKeyRef

    def to_kubernetes(self, name: str) -> dict[str, Any]:
        """Return the `valueFrom` of the variable, for an object of this name."""
        return {"valueFrom": {"configMapKeyRef": {"name": name, "key": self.from_config_map.key}}}

    @property
    def source(self) -> ConfigMapKeyRef:
        """The object and its key."""
        return self.from_config_map


class SecretEnvVarReference(_Model):
    """An environment variable whose value comes from a Secret (`secretKeyRef`)."""

    TEMPLATES: ClassVar[tuple[str, ...]] = ("from_secret",)
    from_secret: SecretKeyRef

    def to_kubernetes(self, name: str) -> dict[str, Any]:
        """Return the `valueFrom` of the variable, for an object of this name."""
        return {"valueFrom": {"secretKeyRef": {"name": name, "key": self.from_secret.key}}}

    @property
    def source(self) -> SecretKeyRef:
        """The object and its key."""
        return self.from_secret


EnvValue = TemplateText | ConfigMapEnvVarReference | SecretEnvVarReference
"""The type of an environment variable's value."""


class Manifest(_Model):
    """Kubernetes objects that the spawner creates for the server. The hub's policy decides which kinds are allowed.

    Attributes:
        name: A name within the profile.
        content: The objects. Their texts may be `Template`s.
        persist: Whether the objects are kept when the server stops. If `False`, they are deleted with the server.
    """

    TEMPLATES: ClassVar[tuple[str, ...]] = ("content",)
    name: str = Field(min_length=1, max_length=253)
    content: tuple[dict[str, Any], ...] = ()
    persist: bool = False

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_documents(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("content"), list | tuple):
            return {**value, "content": tuple(d for d in value["content"] if d is not None)}
        return value


class Verb(str, Enum):
    """The verbs that a role may allow. `bind`, `escalate` and `impersonate` are deliberately not included.

    All verbs (`*`) need a namespace that belongs to one user, and `user_namespace_rights`.
    """

    get = "get"
    list = "list"
    watch = "watch"
    create = "create"
    update = "update"
    patch = "patch"
    delete = "delete"
    deletecollection = "deletecollection"
    every = "*"


class SubjectKind(str, Enum):
    """The kind of a role binding's subject."""

    service_account = "ServiceAccount"
    user = "User"


class Subject(_Model):
    """One subject of a role binding."""

    name: str = Field(min_length=1, max_length=253)
    kind: SubjectKind = SubjectKind.service_account


class Role(_Model):
    """A namespaced Role with one rule."""

    name: RbacName
    resources: tuple[str, ...]
    verbs: tuple[Verb, ...]
    api_groups: tuple[str, ...] = ("",)


class RoleBinding(_Model):
    """A Role and the subjects it is bound to. The hub's policy must allow the kind."""

    name: RbacName
    subjects: tuple[Subject, ...]
    role: Role
    persist: bool = False


class ImagePullSecret(_Model):
    """A pull secret for the pod: an existing one, or a new one from `data` (a base64 `.dockerconfigjson`).

    The name may be a `Template`.
    """

    TEMPLATES: ClassVar[tuple[str, ...]] = ("name",)
    name: TemplateName
    data: SecretStr | None = None


class InitContainer(_Model):
    """A container that runs and ends before the server starts.

    Attributes:
        name: A DNS label.
        image: The image; `None` means the profile's image.
        command: The program and its arguments. They are not passed to a shell.
        volume_mounts: Mounts of the pod's volumes. To mount the files of one of the profile's mounted ConfigMaps, use
            the name of the ConfigMap.
        env: Environment variables: texts or `Template`s.
    """

    TEMPLATES: ClassVar[tuple[str, ...]] = ("env",)
    name: DnsLabel
    image: str | None = None
    command: tuple[str, ...]
    volume_mounts: tuple[InitContainerVolumeMount | VolumeMount, ...] = ()
    env: dict[str, TemplateText] = Field(default_factory=dict)


class Lifetime(str, Enum):
    """The lifetime of an object.

    Attributes:
        shared: All servers use the same object. It is immutable and its name contains a hash of its content. It is
            deleted when no server uses it.
        owned: Belongs to one server. It has an owner reference to the pod and is deleted with it.
        persistent: The user's data. It is created if it does not exist, and is not deleted with the server.
    """

    shared = "shared"
    owned = "owned"
    persistent = "persistent"


@dataclasses.dataclass(frozen=True)
class KubeObject:
    """A Kubernetes object that a server needs. Only its labels and its owner are added later.

    Attributes:
        api_version: For example `v1`.
        kind: For example `ConfigMap`.
        name: The final name in the cluster.
        body: The manifest without `metadata.name` and `metadata.namespace`. It is not changed.
        confined: Whether its selectors select only pods of the user, and its pods get no token unless they name a
            service account. It is so for objects of documents.
        lifetime: See `Lifetime`.
        field: The attribute or hook of the profile that defines the object, for messages.
    """

    api_version: str
    kind: str
    name: str
    lifetime: Lifetime
    field: str
    body: Mapping[str, Any] = dataclasses.field(repr=False)
    confined: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """The unique key of the object in its namespace."""
        return (self.api_version, self.kind, self.name)

    @property
    def is_name_written(self) -> bool:
        """Whether the author wrote the whole name, as in manifests. All other names contain a hash."""
        return self.field.startswith("get_manifests()")
