"""The attributes of a profile, each described once.

An attribute is declared in `ProfileAttributes` with its type, its default and its help text, and with an `Attribute`
that says the rest. The checks of classes, the JSON Schema of documents, `dump`, `lint` and the tables in the
documentation are derived from `ATTRIBUTES`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, BeforeValidator, PlainValidator, Strict, TypeAdapter, ValidationError
from pydantic.json_schema import WithJsonSchema

from profile_spawner.errors import shorten
from profile_spawner.names import ENV_NAME, is_slug
from profile_spawner.params.definition import ParamRef, misspelt
from profile_spawner.params.quantities import quantity_value
from profile_spawner.params.templates import references_in

from .resources import ContainerPath, EnvValue, InlineText, memory_quantity

__all__ = [
    "ATTRIBUTES",
    "COLORS",
    "Attribute",
    "DocumentKey",
    "EnvVars",
    "ProfileAttributes",
    "adapter",
    "cores",
    "field_docs",
    "problems_of",
]

# ------------------------------------------------------------------------------------------------ types


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def _slug(value: str) -> str:
    if not is_slug(value):
        raise ValueError("must be 1 to 63 of a-z, 0-9, '_' and '-', beginning and ending with a letter or digit")
    return value


def _image(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[^\s]{1,1024}", value):
        raise ValueError("must be an image such as 'quay.io/jupyter/base-notebook:2024-10-07'")
    return value


def cores(value: Any) -> float | None:
    """Return CPU cores as KubeSpawner takes them; `500m` is half a core.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return None
    try:
        return float(quantity_value(value))
    except ValueError:
        raise ValueError("must be a number of CPU cores such as 0.5, 2 or '500m'") from None


def _asset(value: Any) -> InlineText | None:
    if value is None or isinstance(value, InlineText):
        return value
    if not isinstance(value, str | Path):
        raise ValueError("must be the path of a file")
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; create it, or correct the path")
    try:
        return InlineText(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as e:
        raise ValueError(f"the file {str(path)!r} cannot be read as text: {e}") from None


def _url_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be a path that begins with '/', such as '/lab'")
    return value


def _size(value: Any) -> Any:
    if value is not None:
        quantity_value(value)
    return value


def _list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("must be a list of texts")
    return value


def _text_of_number(value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError("must be a text or a number")
    return str(value)


def _quantities(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, amount in value.items():
        try:
            quantity_value(amount)
        except ValueError as e:
            raise ValueError(f"{key!r}: {e}") from None
    return value


def _env_vars(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in value:
        if not ENV_NAME.fullmatch(key):
            raise ValueError(f"{shorten(key)!r} is not a name of an environment variable")
    adapter(EnvVars).validate_python(dict(value))
    return value


COLORS = (
    "red", "orange", "yellow", "olive", "green", "teal", "blue", "violet", "purple", "pink", "brown", "grey", "black",
)  # fmt: skip
"""The colours that `meta` can name, those of Digital Rebar."""


def _meta(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if wrong := misspelt(value, ("required", "optional", "title", "icon", "color")):
        raise ValueError(wrong)
    if value.get("color", COLORS[0]) not in COLORS:
        raise ValueError(f"the color must be one of {', '.join(COLORS)}")
    return value


EnvVars = dict[str, EnvValue | int | float | bool | None]
"""Environment variables as attributes and hooks give them; `None` leaves one out."""

_Str = Annotated[str, Strict()]
_Bool = Annotated[bool, Strict()]
_Int = Annotated[int, Strict()]
_Text = Annotated[_Str, AfterValidator(_not_empty)]
_Slug = Annotated[
    _Str,
    AfterValidator(_slug),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"}),
]
_Image = Annotated[str, BeforeValidator(_image)]
_Cores = Annotated[float | str | None, BeforeValidator(cores)]
_Memory = Annotated[int | str | None, BeforeValidator(memory_quantity)]
_Size = Annotated[str | int | None, BeforeValidator(_size)]
_UrlPath = Annotated[_Str, AfterValidator(_url_path)]
_Asset = Annotated[str | Path | None, PlainValidator(_asset), WithJsonSchema({"type": ["string", "null"]})]
_Texts = Annotated[Sequence[_Str], BeforeValidator(_list)]
_Labels = Mapping[str, Annotated[str | int | float, BeforeValidator(_text_of_number)]]
_Quantities = Annotated[_Labels, AfterValidator(_quantities)]
_EnvVars = Annotated[Mapping[str, Any], AfterValidator(_env_vars)]

# ------------------------------------------------------------------------------------------------ descriptions


@dataclass(frozen=True)
class DocumentKey:
    """A further key by which documents set an attribute.

    Attributes:
        name: The key.
        how: `same`: another name. `merge`: joined with the values of the base, by name. `text`: the text of the file
            that the attribute names.
        help: What the key means, for the documentation.
    """

    name: str
    how: Literal["same", "merge", "text"]
    help: str


@dataclass(frozen=True)
class Attribute:
    """What is known about an attribute besides its type, default and help text.

    Attributes:
        name: The attribute.
        type: A type with pydantic's validators: what the values must be.
        default: The value where a profile gives none.
        param: Whether a param can give it. What the page must know before it knows any param cannot be given.
        required: Whether a profile must set it.
        trait: The trait of KubeSpawner that takes the value; empty where it takes another way into the pod.
        sensitive: Whether it decides on security: users may set its params only where the profile names them in
            `user_settable`.
        shown: Whether cards on the page show the value.
        plain: Whether an entry of a plain `profile_list` may have it.
        inherited: Whether a document that extends a profile inherits it.
        document: A further key of documents.
        expands: Whether `{{ references }}` in its text are replaced.
    """

    name: str = ""
    type: Any = None
    default: Any = None
    param: bool = True
    required: bool = False
    trait: str = ""
    sensitive: bool = False
    shown: bool = False
    plain: bool = False
    inherited: bool = True
    document: DocumentKey | None = None
    expands: bool = False

    @property
    def help(self) -> str:
        """What it means."""
        return field_docs(ProfileAttributes)[self.name]

    def check(self, value: Any) -> Any:
        """Return `value` as it is used.

        Raises:
            ValidationError: when it is not one that the attribute can have.
        """
        return adapter(self.type).validate_python(value)

    def references(self, value: Any) -> set[str]:
        """Return the params and facts from which a profile takes this attribute; empty if it gives the value itself."""
        if isinstance(value, ParamRef):
            return {value.name}
        return references_in(value) if self.expands else set()

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its values."""
        return adapter(self.type).json_schema()


_DISPLAY = Attribute(param=False, plain=True)
_FIXED = Attribute(param=False)


class ProfileAttributes:
    """The attributes of a profile. Those without `param=False` can be given by `Param.ref("area/name")`."""

    slug: Annotated[_Slug, replace(_DISPLAY, required=True)] = ""
    """The identity: 1 to 63 of `a-z 0-9 _ -`. Users' saved choices refer to it."""
    display_name: Annotated[_Text, replace(_DISPLAY, required=True)] = ""
    """The title on the page."""
    description: Annotated[_Str, _DISPLAY] = ""
    """One or two sentences; a small subset of Markdown."""
    documentation: Annotated[_Str, _DISPLAY] = ""
    """A longer text for administrators."""
    image: Annotated[_Image, Attribute(required=True, trait="image", sensitive=True, shown=True, expands=True)] = ""
    """The container image; it may contain references, as in `quay.io/x/lab:{{ image/tag }}`."""

    cpu_guarantee: Annotated[_Cores, Attribute(trait="cpu_guarantee", shown=True)] = None
    """CPU cores that are reserved, such as `0.5`. `None` keeps the hub's own setting; so for the next three."""
    cpu_limit: Annotated[_Cores, Attribute(trait="cpu_limit", shown=True)] = None
    """CPU cores that can be used at most."""
    mem_guarantee: Annotated[_Memory, Attribute(trait="mem_guarantee", shown=True)] = None
    """Memory that is reserved: bytes, or with K, M, G, T (powers of 1024), such as `"4G"`."""
    mem_limit: Annotated[_Memory, Attribute(trait="mem_limit", shown=True)] = None
    """Memory that can be used at most."""
    extra_resource_limits: Annotated[_Quantities, Attribute(shown=True)] = {}
    """GPUs and the like: `{"nvidia.com/gpu": "1"}`."""
    extra_resource_guarantees: Annotated[_Quantities, Attribute(trait="extra_resource_guarantees")] = {}
    """Further requests."""

    default_url: Annotated[_UrlPath | None, Attribute(trait="default_url")] = None
    """The path that is opened after the start, such as `/lab`. `None` keeps the hub's own setting."""
    home_dir: Annotated[ContainerPath | None, Attribute(trait="working_dir", shown=True)] = None
    """The home directory, where the login files go; `/workspace` in the families. `None` keeps the image's own and
    allows no login files."""
    bash_login_path: Annotated[
        _Asset, Attribute(sensitive=True, document=DocumentKey("bash_login", "text", "The text of `~/.bash_login`"))
    ] = None
    """A file that becomes `~/.bash_login`: read when a login shell starts."""
    bashrc_path: Annotated[
        _Asset, Attribute(sensitive=True, document=DocumentKey("bashrc", "text", "The text of `~/.bashrc`"))
    ] = None
    """A file that becomes `~/.bashrc`: read when an interactive shell starts."""
    init_script_path: Annotated[
        _Asset,
        Attribute(sensitive=True, document=DocumentKey("init_script", "text", "The text of the start-up script")),
    ] = None
    """A shell script that runs before the server, in the profile's image, with its volumes and variables."""
    pod_env_vars: Annotated[
        _EnvVars,
        Attribute(
            document=DocumentKey(
                "env", "merge", "Environment variables: a mapping of names to values, joined with those of the base"
            )
        ),
    ] = {}
    """Environment variables; a value may be `{"from_config_map": {"name", "key"}}` or `{"from_secret": ...}`."""

    node_selector: Annotated[_Labels, Attribute(trait="node_selector", sensitive=True, shown=True)] = {}
    """Labels of the nodes that may run the server."""
    tolerations: Annotated[list[Mapping[str, Any]], Attribute(trait="tolerations", sensitive=True)] = []
    """Kubernetes tolerations."""
    service_account: Annotated[_Text | None, Attribute(trait="service_account", sensitive=True)] = None
    """The service account of the pod; none by default."""
    workspace_volume_size: Annotated[_Size, Attribute()] = None
    """The size of the families' `/workspace`, `20Gi` there. `None`: no such volume."""
    storage_class_rwo: Annotated[_Text | None, Attribute()] = None
    """The storage class of volumes for one node; `None` is the cluster's default class."""
    storage_class_rwx: Annotated[_Text | None, Attribute()] = None
    """The storage class of volumes for several nodes."""
    extra_labels: Annotated[_Labels, Attribute(trait="extra_labels", sensitive=True)] = {}
    """Further labels of the pod."""
    extra_annotations: Annotated[_Labels, Attribute(trait="extra_annotations", sensitive=True)] = {}
    """Further annotations of the pod."""
    kubespawner_override: Annotated[Mapping[_Str, Any], Attribute(sensitive=True, plain=True)] = {}
    """Values for any other trait of KubeSpawner, in its own language (it expands `{username}` and the like)."""

    icon: Annotated[_Str, _DISPLAY] = ""
    """The name of a built-in icon, a path on this hub (`/...`) or a `data:image/...`."""
    category: Annotated[_Str, _DISPLAY] = ""
    """The heading under which it stands."""
    tags: Annotated[_Texts, _DISPLAY] = ()
    """Words to find it by."""
    default: Annotated[_Bool, replace(_DISPLAY, inherited=False)] = False
    """Whether it is chosen when the user has not chosen before. Without one it is the first profile."""
    order: Annotated[_Int, _DISPLAY] = 0
    """Profiles with a lower number come first; equal ones stay in the order of registration."""
    allowed_groups: Annotated[_Texts | None, _DISPLAY] = None
    """The groups that may use it; `None` means everybody."""
    allowed_users: Annotated[_Texts | None, _DISPLAY] = None
    """The users that may use it, besides the groups."""
    profile_options: Annotated[
        Any, replace(_DISPLAY, document=DocumentKey("options", "same", "The same as `profile_options`"))
    ] = {}
    """What a user may choose with it: KubeSpawner's `profile_options`."""
    aliases: Annotated[_Texts, replace(_DISPLAY, inherited=False)] = ()
    """Earlier slugs: saved choices of them mean this profile."""
    replaced_by: Annotated[_Text | None, replace(_DISPLAY, inherited=False)] = None
    """The slug that saved choices mean when this profile cannot be used."""
    deprecated: Annotated[_Str, replace(_DISPLAY, inherited=False)] = ""
    """A message that discourages from using it."""
    params: Annotated[Mapping[_Str, Any], _FIXED] = {}
    """Values of [params](params.md) that this profile sets."""
    profiles: Annotated[_Texts, _FIXED] = ()
    """Other profiles and collections whose params it inherits, most important first."""
    user_settable: Annotated[_Texts, _FIXED] = ()
    """Params that users may set here although they are sensitive, or only a hook or a manifest uses them."""
    meta: Annotated[_Labels, AfterValidator(_meta), _DISPLAY] = {}
    """Notes for administrators and other programs, by name. Some act: see [params](params.md#meta)."""


def _table() -> Iterator[tuple[str, Attribute]]:
    for name, hint in get_type_hints(ProfileAttributes, include_extras=True).items():
        *metadata, description = hint.__metadata__
        kind = Annotated[(hint.__origin__, *metadata)] if metadata else hint.__origin__
        yield name, replace(description, name=name, type=kind, default=getattr(ProfileAttributes, name))


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(dict(_table()))
"""Every attribute of a profile, in the order in which they are documented."""


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what checks values of a type. Made on first use: making all of them takes longer than a command may."""
    return TypeAdapter(kind)


@functools.cache
def field_docs(cls: type) -> Mapping[str, str]:
    """Return the texts below the fields of a class, which editors show too."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def problems_of(error: ValidationError) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield where something is wrong, as steps into the value, and what.

    Where a text or an object is possible, a wrong object is not also reported as no text.
    """
    found = [
        (tuple(p for p in one["loc"] if not str(p).startswith(("function-", "lax-", "strict-"))), one)
        for one in error.errors(include_url=False)
    ]
    inside = {path[:length] for path, _ in found for length in range(len(path))}
    for path, one in found:
        if one["type"] == "string_type" and path in inside:
            continue
        unknown = one["type"] == "extra_forbidden"
        yield path, "is not known here" if unknown else one["msg"].removeprefix("Value error, ")
