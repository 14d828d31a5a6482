"""The format of profile documents in YAML files and ConfigMaps, and its JSON Schema for editors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model, model_validator

from profile_spawner.names import slugify
from profile_spawner.params.definition import MISSING, Param
from profile_spawner.profiles.attributes import ATTRIBUTES, Attribute, field_docs
from profile_spawner.profiles.hooks import LIST_HOOKS
from profile_spawner.profiles.resources import (
    ConfigMap,
    ContainerPath,
    DnsLabel,
    FileMode,
    SubPath,
    TemplateName,
    Volume,
    VolumeMount,
    quantity,
)
from profile_spawner.profiles.template import Template

__all__ = [
    "CollectionSpec",
    "DocumentSpec",
    "FileSpec",
    "ParamSpec",
    "ProfileKeys",
    "ProfileSpec",
    "VolumeSpec",
    "document_schema",
]


_PARAM: dict[str, Any] = {
    "type": "object",
    "required": ["$param"],
    "properties": {"$param": {"type": "string", "description": "The param whose value it takes"}, "default": {}},
    "additionalProperties": False,
}


def _value(description: str, schema: Callable[[], dict[str, Any]]) -> Any:
    """Return a field whose value is checked elsewhere; its JSON Schema is made when it is asked for."""

    def put(generated: dict[str, Any]) -> None:
        generated.clear()
        generated.update({**schema(), "description": description})

    return Field(default=None, json_schema_extra=put, description=description)


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


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
        text = Template(content) if self.render else content
        return ConfigMap(name=name, key=key, content=text, mount_path=self.mount_path, default_mode=self.mode)


class VolumeSpec(_Spec):
    """A PersistentVolumeClaim that is made when it is missing, and mounted."""

    name: DnsLabel
    size: quantity = Field(description="Such as 20Gi")
    mount_path: ContainerPath
    TEMPLATES: ClassVar[tuple[str, ...]] = ("claim_name",)
    claim_name: TemplateName | None = Field(
        default=None, description="The volume's name by default; made unique per user"
    )
    sub_path: SubPath | None = None
    read_only: bool = False
    storage_class: str | None = None
    access_modes: tuple[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...] = (
        "ReadWriteOnce",
    )
    persist: bool = Field(default=True, description="Whether it stays when the server stops")
    annotations: dict[str, str] | None = None

    @classmethod
    def of(cls, volume: Volume) -> VolumeSpec:
        """Return what profiles have as documents have it."""
        values = {name: getattr(volume, name) for name in Volume.model_fields if name in cls.model_fields}
        mount = {name: getattr(volume.volume_mount, name) for name in ("mount_path", "sub_path", "read_only")}
        if volume.claim_name == volume.name:
            values["claim_name"] = None
        return cls.model_validate(values | mount)

    def volume(self) -> Volume:
        """Return it as profiles have it."""
        values = self.model_dump(exclude={"mount_path", "sub_path", "read_only"})
        mount = VolumeMount(mount_path=self.mount_path, sub_path=self.sub_path, read_only=self.read_only)
        return Volume.model_validate(values | {"claim_name": self.claim_name or self.name, "volume_mount": mount})


def _param_fields() -> Iterator[tuple[str, Any]]:
    """Yield the fields of a definition: those of `Param` that say something about it."""
    types, docs = get_type_hints(Param), field_docs(Param)
    for spec in dataclasses.fields(Param):
        if spec.compare and spec.name != "name":
            more: dict[str, Any] = {"alias": spec.name, "description": docs[spec.name]}
            if callable(spec.default_factory):
                more["default_factory"] = spec.default_factory
            else:
                more["default"] = None if spec.default is MISSING else spec.default
            yield f"{spec.name}_", (types[spec.name], Field(**more))


ParamSpec: type[_Spec] = create_model(
    "ParamSpec", __base__=_Spec, __doc__="The definition of a param.", **dict(_param_fields())
)


class CollectionSpec(_Spec):
    """A named set of values of params."""

    params: dict[str, Any] = Field(default_factory=dict)
    profiles: tuple[str, ...] = Field(default=(), description="Other collections that it inherits")
    description: str = Field(default="", description="What it is for, in one line")
    documentation: str = Field(default="", description="A longer text for administrators")
    meta: dict[str, str | int | float] = Field(
        default_factory=dict, description="Notes for administrators and other programs, by name; some act"
    )


class ProfileKeys(_Spec):
    """A profile as data. Attributes that it shares with profile classes mean the same."""

    family: Literal["coder", "jupyterlab", "remote_desktop", "workspace"] | None = Field(
        default=None,
        description="`jupyterlab`, `coder`, `remote_desktop` or `workspace`: the built-in family whose volumes, files "
        "and settings it has",
    )
    extends: str | None = Field(
        default=None,
        description="The slug of another document's profile, or of a ready one, that it is based on: what is not set "
        "here is as there",
    )
    files: tuple[FileSpec, ...] = Field(
        default=(),
        description="Files: `mount_path`, and `content` or `path`; `mode`, and `render: false` to leave "
        "`{{ references }}` alone",
    )
    volumes: tuple[VolumeSpec, ...] = Field(
        default=(),
        description="Claims: `name`, `size`, `mount_path`; `claim_name`, `sub_path`, `read_only`, "
        "`storage_class`, `access_modes`, `persist`, `annotations`",
    )


def _attribute_schema(attribute: Attribute) -> dict[str, Any]:
    schema = attribute.json_schema()
    return {"anyOf": [schema, _PARAM]} if attribute.param else schema


def _profile_fields() -> Iterator[tuple[str, Any]]:
    """Yield the keys that documents share with classes: attributes, and lists that hooks of classes return."""
    for name, attribute in ATTRIBUTES.items():
        yield name, (Any, _value(attribute.help, functools.partial(_attribute_schema, attribute)))
        if attribute.document is not None:
            how, schema = attribute.document.how, functools.partial(_attribute_schema, attribute)
            text: Callable[[], dict[str, Any]] = functools.partial(dict, type="string")
            yield attribute.document.name, (Any, _value(attribute.document.help, text if how == "text" else schema))
    for hook in LIST_HOOKS:
        if hook.key not in ProfileKeys.model_fields:
            items = tuple.__class_getitem__((*get_args(hook.returns), ...))
            yield hook.key, (items, Field(default=(), description=f"What `{hook.name}()` of classes returns"))


ProfileSpec: type[ProfileKeys] = create_model(
    "ProfileSpec", __base__=ProfileKeys, __doc__=ProfileKeys.__doc__, **dict(_profile_fields())
)


def _raw_list() -> Any:
    entry = {"type": "object", "required": ["display_name"]}
    forms = [{"type": "array", "items": entry}, {"type": "object", "additionalProperties": entry}]
    return _value("Entries of KubeSpawner's profile_list, as they are", lambda: {"anyOf": forms})


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
