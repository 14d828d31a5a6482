"""The shape of profile documents: what YAML files and ConfigMaps may say, and the JSON Schema of it for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from profile_spawner.names import slugify
from profile_spawner.profiles.resources import (
    ConfigMap,
    ContainerPath,
    DnsLabel,
    DnsName,
    FileMode,
    ImagePullSecret,
    InitContainer,
    Manifest,
    RoleBinding,
    SecretMount,
    SubPath,
    Volume,
    VolumeMount,
    quantity,
)

__all__ = [
    "FAMILIES",
    "CollectionSpec",
    "DocumentSpec",
    "FileSpec",
    "ParamSpec",
    "ProfileSpec",
    "VolumeSpec",
    "document_schema",
]

FAMILIES = ("coder", "jupyterlab", "remote_desktop", "workspace")
"""The built-in families by the names that documents use."""

_PARAM: dict[str, Any] = {
    "type": "object",
    "required": ["$param"],
    "properties": {"$param": {"type": "string", "description": "The param whose value it takes"}, "default": {}},
    "additionalProperties": False,
}
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_TEXT_MAP: dict[str, Any] = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
_FREE_MAP: dict[str, Any] = {"type": "object"}


def _value(schema: dict[str, Any], description: str, *, nullable: bool = False) -> Any:
    """Return a field for an attribute. Its value is checked where those of classes are: one message for both."""
    return _plain({"anyOf": [schema, _PARAM, *([{"type": "null"}] if nullable else [])]}, description)


def _plain(schema: dict[str, Any], description: str) -> Any:
    def put(generated: dict[str, Any]) -> None:
        generated.clear()
        generated.update({**schema, "description": description})

    return Field(default=None, json_schema_extra=put)


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSpec(_Spec):
    """A file for the server."""

    mount_path: ContainerPath = Field(description="Where the file appears in the container")
    content: str | None = Field(default=None, description="Its text", repr=False)
    path: str | None = Field(default=None, description="Instead of content: a file beside the document")
    mode: FileMode = Field(default=None, description="Octal, '0644' by default")
    render: bool = Field(default=True, description="Whether {{ references }} in the text are replaced")

    @model_validator(mode="after")
    def _one_way(self) -> FileSpec:
        if (self.content is None) == (self.path is None):
            raise ValueError("give either 'content' or 'path'")
        return self

    def config_map(self, content: str) -> ConfigMap:
        """Return the file as a ConfigMap."""
        name = slugify(self.mount_path) or "file"
        key = self.mount_path.rpartition("/")[2]
        return ConfigMap(
            name=name, key=key, content=content, mount_path=self.mount_path, default_mode=self.mode, render=self.render
        )


class VolumeSpec(_Spec):
    """A PersistentVolumeClaim that is made when it is missing, and mounted."""

    name: DnsLabel
    size: quantity = Field(description="Such as 20Gi")
    mount_path: ContainerPath
    claim_name: DnsName | None = Field(default=None, description="The volume's name by default; made unique per user")
    sub_path: SubPath | None = None
    read_only: bool = False
    storage_class: str | None = None
    access_modes: tuple[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...] = (
        "ReadWriteOnce",
    )
    persist: bool = Field(default=True, description="Whether it stays when the server stops")
    annotations: dict[str, str] | None = None

    def volume(self) -> Volume:
        """Return it as profiles have it."""
        mount = VolumeMount(mount_path=self.mount_path, sub_path=self.sub_path, read_only=self.read_only)
        return Volume(
            name=self.name,
            claim_name=self.claim_name or self.name,
            size=self.size,
            storage_class=self.storage_class,
            access_modes=self.access_modes,
            volume_mount=mount,
            persist=self.persist,
            annotations=self.annotations,
        )


class ParamSpec(_Spec):
    """The definition of a param."""

    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema", description="A JSON Schema of its values")
    default: Any = None
    description: str = ""
    documentation: str = ""
    secure: bool = Field(default=False, description="Its values name keys of Kubernetes Secrets")
    user_settable: bool = Field(default=False, description="Whether users may choose a value on the page")
    sensitive: bool = Field(default=False, description="Whether a profile must name it before users may choose")
    merge: Literal["first", "append", "merge"] = "first"
    merge_key: str | None = None
    layers: tuple[str, ...] | None = None
    meta: dict[str, Any] = Field(default_factory=dict)


class CollectionSpec(_Spec):
    """A named set of values of params."""

    params: dict[str, Any] = Field(default_factory=dict)
    profiles: tuple[str, ...] = Field(default=(), description="Other collections that it takes on")


class ProfileSpec(_Spec):
    """A profile as data. Attributes that it shares with profile classes mean the same."""

    slug: Any = _plain({"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"}, "The identity")
    family: Literal["coder", "jupyterlab", "remote_desktop", "workspace"] | None = Field(
        default=None, description="The built-in family that it belongs to"
    )
    extends: str | None = Field(default=None, description="The slug of the profile that it is based on")
    display_name: Any = _plain(_TEXT, "The title on the page")
    description: Any = _plain(_TEXT, "One or two sentences; a small subset of Markdown")
    image: Any = _value(_TEXT, "The container image")
    cpu_guarantee: Any = _value({"type": ["number", "string"]}, "Reserved CPU cores", nullable=True)
    cpu_limit: Any = _value({"type": ["number", "string"]}, "CPU cores at most", nullable=True)
    mem_guarantee: Any = _value({"type": ["integer", "string"]}, "Reserved memory, such as 4G", nullable=True)
    mem_limit: Any = _value({"type": ["integer", "string"]}, "Memory at most, such as 8G", nullable=True)
    extra_resource_limits: Any = _value(_TEXT_MAP, "Such as {nvidia.com/gpu: 1}")
    extra_resource_guarantees: Any = _value(_TEXT_MAP, "Further requests")
    default_url: Any = _value(_TEXT, "The path that is opened, such as /lab", nullable=True)
    home_dir: Any = _value(_TEXT, "The home directory", nullable=True)
    bash_login_path: Any = _value(_TEXT, "A file beside the document that becomes ~/.bash_login", nullable=True)
    bashrc_path: Any = _value(_TEXT, "A file beside the document that becomes ~/.bashrc", nullable=True)
    init_script_path: Any = _value(_TEXT, "A script beside the document that runs before", nullable=True)
    bash_login: Any = _plain(_TEXT, "The text of ~/.bash_login")
    bashrc: Any = _plain(_TEXT, "The text of ~/.bashrc")
    init_script: Any = _plain(_TEXT, "The text of a shell script that runs before the server")
    env: Any = _value(_FREE_MAP, "Environment variables, joined with those of the base")
    pod_env_vars: Any = _value(_FREE_MAP, "Environment variables, instead of those of the base")
    node_selector: Any = _value(_TEXT_MAP, "Labels of the nodes")
    tolerations: Any = _value({"type": "array", "items": _FREE_MAP}, "Kubernetes tolerations")
    service_account: Any = _value(_TEXT, "The service account, where the policy allows it", nullable=True)
    workspace_volume_size: Any = _value(_TEXT, "The size of the family's workspace", nullable=True)
    storage_class_rwo: Any = _value(_TEXT, "The storage class for one node", nullable=True)
    storage_class_rwx: Any = _value(_TEXT, "The storage class for several nodes", nullable=True)
    extra_labels: Any = _value(_TEXT_MAP, "Further labels of the pod")
    extra_annotations: Any = _value(_TEXT_MAP, "Further annotations of the pod")
    kubespawner_override: Any = _value(_FREE_MAP, "Values for other settings of KubeSpawner")
    icon: Any = _plain(_TEXT, "A built-in icon, a file below /hub/static/ or a data: image")
    category: Any = _plain(_TEXT, "The heading under which it stands")
    tags: Any = _plain(_TEXTS, "Words to find it by")
    default: Any = _plain({"type": "boolean"}, "Whether it is chosen at first")
    order: Any = _plain({"type": "integer"}, "Lower numbers come first")
    allowed_groups: Any = _plain({"type": ["array", "null"], "items": _TEXT}, "Who may use it")
    allowed_users: Any = _plain({"type": ["array", "null"], "items": _TEXT}, "Who may use it, besides")
    options: Any = _plain(_FREE_MAP, "What users may choose: KubeSpawner's profile_options and more")
    profile_options: Any = _plain(_FREE_MAP, "The same as options")
    aliases: Any = _plain(_TEXTS, "Earlier slugs")
    replaced_by: Any = _plain(_TEXT, "The slug that saved choices mean instead")
    deprecated: Any = _plain(_TEXT, "A message that discourages from using it")
    params: Any = _plain(_FREE_MAP, "Values of params")
    profiles: Any = _plain(_TEXTS, "Collections and profiles whose params it takes on")
    user_settable: Any = _plain(_TEXTS, "Sensitive params that users may set here")
    files: tuple[FileSpec, ...] = ()
    config_maps: tuple[ConfigMap, ...] = Field(default=(), description="Files, as profile classes bring them")
    volumes: tuple[VolumeSpec, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    secret_mounts: tuple[SecretMount, ...] = ()
    env_from_config_maps: tuple[str, ...] = ()
    env_from_secrets: tuple[str, ...] = ()
    image_pull_secrets: tuple[ImagePullSecret | str, ...] = ()
    init_containers: tuple[InitContainer, ...] = ()
    role_bindings: tuple[RoleBinding, ...] = ()


def _raw_list() -> Any:
    entry = {"type": "object", "required": ["display_name"]}
    forms = [{"type": "array", "items": entry}, {"type": "object", "additionalProperties": entry}]
    return _plain({"anyOf": forms}, "Entries of KubeSpawner's profile_list, as they are")


class _SingleUser(BaseModel):
    """The part of a Zero to JupyterHub values.yaml that is read."""

    profileList: Any = _raw_list()  # noqa: N815 - the chart's name


class DocumentSpec(_Spec):
    """A document of profiles."""

    params: dict[str, ParamSpec] = Field(default_factory=dict, description="Definitions of params")
    collections: dict[str, CollectionSpec] = Field(default_factory=dict, description="Named sets of values of params")
    global_: dict[str, Any] = Field(default_factory=dict, alias="global", description="Values of params for everybody")
    profiles: tuple[ProfileSpec, ...] = ()
    profile_list: Any = _raw_list()


class ValuesSpec(BaseModel):
    """A Zero to JupyterHub values.yaml: its `singleuser.profileList` is taken as it is, the rest is not looked at."""

    singleuser: _SingleUser


def document_schema() -> Mapping[str, Any]:
    """Return the JSON Schema (draft 2020-12) of profile documents."""
    adapter: TypeAdapter[Any] = TypeAdapter(DocumentSpec | ProfileSpec | tuple[ProfileSpec, ...] | ValuesSpec)
    schema = adapter.json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ProfileSpawner document",
        "description": "Profiles as data: a document, one profile, a list of profiles, or a chart's values.yaml.",
        **schema,
    }
