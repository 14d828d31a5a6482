"""`BaseAppProfile`: what an author writes, and what becomes of it.

Customising goes in steps, each doing more: set attributes; override a hook; write a family of your own. `build()` is
the output contract and is not overridden.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from profile_spawner.errors import (
    BuildError,
    Origin,
    ParamError,
    ProfileDefinitionError,
    ProfileSpawnerError,
    did_you_mean,
    shorten,
)
from profile_spawner.names import ENV_NAME, is_slug
from profile_spawner.params.definition import ParamRef, SecretRef
from profile_spawner.params.quantities import quantity_value

from . import resources
from . import trait_merge as merging
from .access import Access, UserInfo
from .context import ServerContext
from .guarding import is_guarded, unguard
from .options import (
    EXPANDED_TRAITS,
    FORMATTED_TRAITS,
    Option,
    Selection,
    escape_braces,
    escape_dollars,
    fill_value,
    parse_options,
    typed_into_shell,
)
from .pod_builder import Assembly
from .resources import (
    ConfigMap,
    EnvValue,
    ImagePullSecret,
    InitContainer,
    KubeObject,
    Manifest,
    RoleBinding,
    SecretMount,
    Volume,
)

__all__ = [
    "ATTRIBUTES",
    "BaseAppProfile",
    "PlainProfile",
    "ProfileBuild",
    "access_of",
    "check_profile_class",
    "chosen_overrides",
    "line_of",
    "line_pattern",
    "make_profile",
    "options_of",
    "origin_of",
]

_Hook = Callable[[], Any]


@dataclass(frozen=True)
class ProfileBuild:
    """The output contract: all that one server of one profile needs.

    Attributes:
        slug: The profile.
        kubespawner_override: Values for KubeSpawner's traits, in its own language: it expands `{username}` and the
            like in some of them, so the braces of the profile's texts are doubled there.
        objects: The Kubernetes objects that go with the pod.
        steps: What is being done for the server, in words for the progress bar.
    """

    slug: str
    kubespawner_override: Mapping[str, Any]
    objects: tuple[KubeObject, ...] = ()
    steps: tuple[str, ...] = ()


class BaseAppProfile:
    """A choice on the spawn page: what a server needs, as a class.

    Required: `slug`, `display_name`, `description`, `image`. Everything else has a default. What decides on the server
    (`image`, limits, environment, node selector, ...) may be a `Param.ref("area/name")` and then takes its value from
    the params; what the page must know before (names, access, options) may not.

    In the order of how much they change:

    1. attributes, for constants;
    2. hooks (`get_...`), for what depends on the user or on other values; they may be `async`;
    3. a family: a base class with shared attributes and hooks.

    Hooks see `self.user` (name, groups, admin), `self.server_name`, `self.namespace`, `self.hub`, `self.choices` (what
    the user chose) and `self.params`. They run while a server is prepared, in the hub's event loop: a slow one must
    be `async`.
    """

    slug: str = ""
    """The identity: 1 to 63 of `a-z 0-9 _ -`. Users' saved choices refer to it."""
    display_name: str = ""
    """The title on the page."""
    description: str = ""
    """One or two sentences; a small subset of Markdown."""
    image: Any = ""
    """The container image."""

    cpu_guarantee: Any = None
    """CPU cores that are reserved, such as `0.5`. `None` keeps the hub's own setting; so for the next three."""
    cpu_limit: Any = None
    """CPU cores that can be used at most."""
    mem_guarantee: Any = None
    """Memory that is reserved: bytes, or with K, M, G, T (powers of 1024), such as `"4G"`."""
    mem_limit: Any = None
    """Memory that can be used at most."""
    extra_resource_limits: Any = {}
    """Further limits, such as `{"nvidia.com/gpu": "1"}`."""
    extra_resource_guarantees: Any = {}
    """Further requests."""

    default_url: Any = None
    """The path that is opened after the start, such as `/lab`."""
    home_dir: Any = None
    """The home directory, where the login files go. `None` keeps the image's own and allows no login files."""
    bash_login_path: Any = None
    """A file that becomes `~/.bash_login`: read when a login shell starts."""
    bashrc_path: Any = None
    """A file that becomes `~/.bashrc`: read when an interactive shell starts."""
    init_script_path: Any = None
    """A shell script that runs before the server, in the profile's image, with its volumes."""
    pod_env_vars: Any = {}
    """Environment variables; a value may be `{"from_config_map": {"name", "key"}}` or `{"from_secret": ...}`."""

    node_selector: Any = {}
    """Labels of the nodes that may run the server."""
    tolerations: Any = []
    """Kubernetes tolerations."""
    service_account: Any = None
    """The service account of the pod; none by default."""
    workspace_volume_size: Any = None
    """The size of the families' workspace volume, such as `20Gi`. `None`: no such volume."""
    storage_class_rwo: Any = None
    """The storage class of volumes for one node; `None` is the cluster's default class."""
    storage_class_rwx: Any = None
    """The storage class of volumes for several nodes."""
    extra_labels: Any = {}
    """Further labels of the pod."""
    extra_annotations: Any = {}
    """Further annotations of the pod."""
    kubespawner_override: Any = {}
    """Values for any other trait of KubeSpawner, in its own language (it expands `{username}` and the like)."""

    icon: str = ""
    """The name of a built-in icon, a path on this hub (`/...`) or a `data:image/...`."""
    category: str = ""
    """The heading under which it stands."""
    tags: Sequence[str] = ()
    """Words to find it by."""
    default: bool = False
    """Whether it is chosen when the user has not chosen before."""
    order: int = 0
    """Profiles with a lower number come first; equal ones stay in the order of registration."""
    allowed_groups: Sequence[str] | None = None
    """The groups that may use it; `None` means everybody."""
    allowed_users: Sequence[str] | None = None
    """The users that may use it, besides the groups."""
    profile_options: Any = {}
    """What a user may choose with it: KubeSpawner's `profile_options`, or a list of `Option`."""
    aliases: Sequence[str] = ()
    """Earlier slugs: saved choices of them mean this profile."""
    replaced_by: str | None = None
    """The slug that saved choices mean when this profile cannot be used."""
    deprecated: str = ""
    """A message that discourages from using it."""
    params: Any = {}
    """Values of params that this profile sets."""
    profiles: Sequence[str] = ()
    """Other profiles and collections whose params it takes on, most important first."""
    user_settable: Sequence[str] = ()
    """Sensitive params that users may set here."""

    FACT_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Further names that stand for facts in texts; for formats of others."""
    PROTECTED: ClassVar[frozenset[str]] = frozenset({"build"})
    _file_texts: ClassVar[Mapping[Any, resources.InlineText]] = {}

    def __init__(
        self,
        context: ServerContext | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        selection: Selection | None = None,
    ) -> None:
        self.context = context or ServerContext.specimen()
        self.params: Mapping[str, Any] = params if params is not None else MappingProxyType(dict(type(self).params))
        self.selection = selection
        self.choices: Mapping[str, Any] = selection.values if selection is not None else MappingProxyType({})
        for name in _ATTRIBUTES:
            value = getattr(type(self), name)
            if isinstance(value, ParamRef):
                setattr(self, name, self._from_param(name, value))

    def _from_param(self, name: str, ref: ParamRef) -> Any:
        """Return what attribute `name` takes from a param, checked as if the author had written it."""
        try:
            value = ref.resolve(self.params)
        except ParamError as e:
            e.profile = e.profile or self.slug
            raise
        if isinstance(value, SecretRef):
            raise ParamError(
                f"takes its value from the secure param {ref.name!r}",
                profile=self.slug,
                origin=line_of(type(self), name),
                field=name,
                expected="an environment variable whose whole value is the reference",
            )
        _convert(type(self), name, value)
        return value

    # ---------------------------------------------------------------------------------------------- facts

    @property
    def user(self) -> UserInfo:
        """Whose server it is."""
        return self.context.user

    @property
    def server_name(self) -> str:
        """The name of the named server; empty for the default one."""
        return self.context.server_name

    @property
    def namespace(self) -> str:
        """The Kubernetes namespace of the server."""
        return self.context.namespace

    @property
    def hub(self) -> str:
        """The identity of the hub."""
        return self.context.hub

    # ---------------------------------------------------------------------------------------------- hooks

    def get_default_volumes(self) -> list[Volume]:
        """Return volumes that are made when they are missing, and mounted."""
        return []

    def get_manifests(self) -> list[Manifest]:
        """Return further Kubernetes objects that go with the server, as the hub's policy allows."""
        return []

    def get_config_maps(self) -> list[ConfigMap]:
        """Return files for the server."""
        return []

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return environment variables; by default the attribute `pod_env_vars`."""
        result: Mapping[str, Any] = self.pod_env_vars
        return result

    def get_extra_resource_limits(self) -> Mapping[str, Any]:
        """Return limits such as `{"nvidia.com/gpu": "1"}`; by default the attribute `extra_resource_limits`."""
        result: Mapping[str, Any] = self.extra_resource_limits
        return result

    def get_role_bindings(self) -> list[RoleBinding]:
        """Return roles and whom they are bound to. The hub's policy must name the kinds."""
        return []

    def get_image_pull_secrets(self) -> list[ImagePullSecret | str]:
        """Return pull secrets of the pod: names of existing ones, or new ones with their data."""
        return []

    def get_env_config_maps(self) -> list[str]:
        """Return names of ConfigMaps whose keys become environment variables: own ones or existing ones."""
        return []

    def get_env_secrets(self) -> list[str]:
        """Return names of existing Secrets whose keys become environment variables."""
        return []

    def get_secret_mounts(self) -> list[SecretMount]:
        """Return existing Secrets that are mounted as files."""
        return []

    def get_init_containers(self) -> list[InitContainer]:
        """Return further containers that run before the server, after the init script."""
        return []

    def get_kubespawner_override(self) -> Mapping[str, Any]:
        """Return values for any other trait of KubeSpawner; by default the attribute `kubespawner_override`."""
        result: Mapping[str, Any] = self.kubespawner_override
        return result

    @classmethod
    def is_available_to(cls, user: UserInfo) -> bool:
        """Tell whether `user` may use the profile, besides `allowed_groups` and `allowed_users`. Must be quick."""
        del user
        return True

    # ---------------------------------------------------------------------------------------------- building

    async def build(self) -> ProfileBuild:
        """Return what this server needs. The output contract: not overridden.

        Raises:
            BuildError: when a hook fails or returns what it must not, naming the profile, the hook and the line.
            ConflictError: when two parts of the profile claim one name.
        """
        guarded = is_guarded(self.params)
        assembly = Assembly(
            self.slug,
            unguard(self.context),
            unguard(self.params) if guarded else self.params,
            origin_of(type(self)),
            self._typed_params(),
            guarded,
            self.FACT_NAMES,
        )
        override = self._attributes_override()
        # The values of a param are complete; those of the attribute are the author's, and those of a hook may be both.
        declared = type(self).get_pod_env_vars is BaseAppProfile.get_pod_env_vars
        assembly.environment(
            await self._call("get_pod_env_vars", _EnvVars),
            home=self.home_dir,
            render=not (declared and isinstance(type(self).pod_env_vars, ParamRef)),
        )
        assembly.volumes(await self._call("get_default_volumes", list[Volume]))
        bash_login, bashrc, init_script = (
            self._file_texts.get(path, path) for path in (self.bash_login_path, self.bashrc_path, self.init_script_path)
        )
        assembly.login_files(self.home_dir, bash_login, bashrc)
        assembly.config_maps(await self._call("get_config_maps", list[ConfigMap]))
        assembly.secret_mounts(await self._call("get_secret_mounts", list[SecretMount]))
        assembly.env_from(
            await self._call("get_env_config_maps", list[str]), await self._call("get_env_secrets", list[str])
        )
        assembly.init_script(init_script, self.image)
        assembly.init_containers(await self._call("get_init_containers", list[InitContainer]), self.image)
        assembly.pull_secrets(await self._call("get_image_pull_secrets", list[ImagePullSecret | str]))
        assembly.role_bindings(await self._call("get_role_bindings", list[RoleBinding]))
        assembly.manifests(await self._call("get_manifests", list[Manifest]))
        limits = await self._call("get_extra_resource_limits", _Limits)
        if limits:
            override["extra_resource_limits"] = {k: str(v) for k, v in limits.items()}
        own = f"profile {self.slug!r}"
        override = _literal(override)
        override = merging.merge_overrides(
            override, _literal(assembly.override()), base_origin=own, extra_origin=f"{own} (hooks)"
        )
        further = await self._call("get_kubespawner_override", dict[str, Any])
        override = merging.merge_overrides(
            override, further, base_origin=own, extra_origin=f"{own} (kubespawner_override)"
        )
        for option, chosen in self._chosen_overrides():
            override = merging.merge_overrides(
                override, chosen, base_origin=own, extra_origin=f"{own} (option {option!r})"
            )
        if guarded:
            override = unguard(override)
        return ProfileBuild(self.slug, override, assembly.objects(), assembly.steps())

    def _attributes_override(self) -> dict[str, Any]:
        override: dict[str, Any] = {"image": self.image}
        for name in ("cpu_guarantee", "cpu_limit", "mem_guarantee", "mem_limit"):
            value = _convert(type(self), name, getattr(self, name))
            if value is not None:
                override[name] = value
        for name in ("default_url", "service_account"):
            if getattr(self, name) is not None:
                override[name] = getattr(self, name)
        declared = type(self).default_url
        if isinstance(declared, ParamRef) and declared.name in self._typed_params() and self.default_url is not None:
            override["default_url"] = escape_dollars(self.default_url)
        for name in ("node_selector", "extra_resource_guarantees", "extra_labels", "extra_annotations"):
            value = _convert(type(self), name, getattr(self, name))
            if value:
                override[name] = dict(value)
        if self.tolerations:
            override["tolerations"] = [dict(t) for t in self.tolerations]
        if self.home_dir is not None:
            override["working_dir"] = self.home_dir
        return override

    def _typed_params(self) -> frozenset[str]:
        """Return the params whose values the user has typed."""
        typed = self.selection.typed if self.selection is not None else frozenset()
        return typed | {o.param for o in options_of(type(self)) if o.param is not None and o.name in typed}

    def _chosen_overrides(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what the user's choices override, in the order of the options."""
        result: list[tuple[str, dict[str, Any]]] = []
        for option in options_of(type(self)):
            if option.name not in self.choices:
                continue
            typed = self.selection is not None and option.name in self.selection.typed
            overrides = chosen_overrides(option, self.choices[option.name], typed=typed)
            result.extend((option.name, override) for override in overrides)
        return result

    async def _call(self, hook: str, expected: Any) -> Any:
        """Call a hook, wait for it if it is `async`, and check what it returns."""
        if hook in _NOTHING_BY_DEFAULT and getattr(type(self), hook) is _NOTHING_BY_DEFAULT[hook]:
            return []  # most profiles have few hooks of their own
        try:
            value = getattr(self, hook)()
            if isinstance(value, Awaitable):
                value = await value
            value = _writable(value)
        except ProfileSpawnerError:
            raise
        except Exception as e:  # an author's code may raise anything
            raise BuildError(
                # The text may quote what a user typed.
                f"{type(e).__name__}: {shorten(unguard(str(e)), 300)}",
                profile=self.slug,
                origin=_failing_line(e, type(self)),
                field=f"{hook}()",
            ) from e
        try:
            return _adapter(expected).validate_python(value)
        except ValidationError as e:
            raise BuildError(
                _first_problem(e), profile=self.slug, origin=line_of(type(self), hook), field=f"{hook}()"
            ) from None


_NOTHING_BY_DEFAULT = {
    hook.__name__: hook
    for hook in (
        BaseAppProfile.get_default_volumes,
        BaseAppProfile.get_manifests,
        BaseAppProfile.get_config_maps,
        BaseAppProfile.get_role_bindings,
        BaseAppProfile.get_image_pull_secrets,
        BaseAppProfile.get_env_config_maps,
        BaseAppProfile.get_env_secrets,
        BaseAppProfile.get_secret_mounts,
        BaseAppProfile.get_init_containers,
    )
}


def _writable(value: Any) -> Any:
    """Return what a hook returned, with values of params as plain dictionaries and lists, and Secrets as references."""
    if isinstance(value, SecretRef):
        return {"from_secret": {"name": value.name, "key": value.key}}
    if isinstance(value, Mapping):
        return {k: _writable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(v) for v in value]
    return value


def _literal(override: Mapping[str, Any]) -> dict[str, Any]:
    """Return `override` with the braces of its texts escaped wherever KubeSpawner would expand them."""
    expanded = EXPANDED_TRAITS | FORMATTED_TRAITS
    return {trait: escape_braces(v) if trait in expanded else v for trait, v in override.items()}


class PlainProfile(BaseAppProfile):
    """An entry of KubeSpawner's `profile_list`, as a class: nothing is merged or checked beyond what KubeSpawner does.

    For lists that move in. `kubespawner_override` and `profile_options` mean exactly what they mean there; the other
    attributes of profiles, and hooks, have no effect.
    """

    @classmethod
    def definition(cls) -> dict[str, Any]:
        """Return the entry."""
        found: dict[str, Any] = {}
        for owner in reversed(cls.__mro__):
            if issubclass(owner, PlainProfile) and owner is not PlainProfile:
                found.update({k: v for k, v in vars(owner).items() if not k.startswith("_")})
        return found


def make_profile(
    cls: type[BaseAppProfile],
    context: ServerContext | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    selection: Selection | None = None,
) -> BaseAppProfile:
    """Return a profile for one server. By names: an author's own constructor hands them on as `**kwargs`.

    Raises:
        BuildError: when the author's constructor fails, naming the line.
    """
    try:
        return cls(context=context, params=params, selection=selection)
    except ProfileSpawnerError:
        raise
    except Exception as e:  # an author's code may raise anything
        text = f"{type(e).__name__}: {shorten(unguard(str(e)), 300)}"
        raise BuildError(text, profile=cls.slug, origin=_failing_line(e, cls), field="__init__()") from e


def options_of(cls: type[BaseAppProfile]) -> tuple[Option, ...]:
    """Return the options of a profile class, read once."""
    cached = cls.__dict__.get("_parsed_profile_options")
    if cached is None or cached[0] is not cls.profile_options:
        cached = (cls.profile_options, parse_options(cls.profile_options, profile=cls.slug))
        cls._parsed_profile_options = cached  # type: ignore[attr-defined]
    result: tuple[Option, ...] = cached[1]
    return result


def chosen_overrides(option: Option, value: Any, *, typed: bool) -> list[dict[str, Any]]:
    """Return the overrides that a value of an option stands for, with the value filled in."""
    if typed and option.kind == "choice":
        return [fill_value(option.unlisted.override, value, typed=True)] if option.unlisted else []
    if option.kind in ("choice", "multi"):
        names = value if isinstance(value, tuple | list) else (value,)
        return [dict(c.override) for c in option.choices if c.name in names and c.override]
    if option.kind == "switch":
        override = option.override if value else option.override_off
        return [dict(override)] if override else []
    return [fill_value(option.override, value, typed=typed)] if option.override else []


# ------------------------------------------------------------------------------------------------ checking

_EnvVars = dict[str, EnvValue | int | float | bool | None]
_Limits = dict[str, str | int | float]
_ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def _adapter(expected: Any) -> TypeAdapter[Any]:
    key = str(expected)
    if key not in _ADAPTERS:
        _ADAPTERS[key] = TypeAdapter(expected)
    return _ADAPTERS[key]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def _image(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[^\s]{1,1024}", value):
        raise ValueError("must be an image such as 'quay.io/jupyter/base-notebook:2024-10-07'")
    return value


def _cores(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number of CPU cores such as 0.5, 2 or '500m'")
    try:
        return float(quantity_value(value))
    except ValueError:
        raise ValueError("must be a number of CPU cores such as 0.5, 2 or '500m'") from None


def _path(value: Any) -> resources.InlineText | None:
    if value is None or isinstance(value, resources.InlineText):
        return value
    if not isinstance(value, str | Path):
        raise ValueError("must be the path of a file")
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; create it, or correct the path")
    try:
        return resources.InlineText(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as e:
        raise ValueError(f"the file {str(path)!r} cannot be read as text: {e}") from None


def _url(value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not value.startswith("/")):
        raise ValueError("must be a path that begins with '/', such as '/lab'")
    return value


def _container_path(value: Any) -> Any:
    return None if value is None else TypeAdapter(resources.ContainerPath).validate_python(value)


def _quantity_or_none(value: Any) -> Any:
    if value is not None:
        quantity_value(value)
    return value


def _text_map(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ValueError("must be a dictionary with texts as keys")
    for key, item in value.items():
        if not isinstance(item, str | int | float) or isinstance(item, bool):
            raise ValueError(f"the value of {key!r} must be a text")
    return {k: str(v) for k, v in value.items()}


def _limits(value: Any) -> dict[str, str]:
    result = _text_map(value)
    for key, amount in result.items():
        try:
            quantity_value(amount)
        except ValueError as e:
            raise ValueError(f"{key!r}: {e}") from None
    return result


def _env(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("must be a dictionary of environment variables")
    for key in value:
        if not isinstance(key, str) or not ENV_NAME.fullmatch(key):
            raise ValueError(f"{shorten(key)!r} is no name of an environment variable")
    _adapter(_EnvVars).validate_python(dict(value))
    return value


def _texts(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise ValueError("must be a list of texts")
    return value


def _texts_or_none(value: Any) -> Any:
    return None if value is None else _texts(value)


def _mappings(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, Mapping) for v in value):
        raise ValueError("must be a list of dictionaries")
    return value


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ValueError("must be a dictionary with texts as keys")
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def _text_or_none(value: Any) -> Any:
    return None if value is None else _text(value)


def _slug(value: Any) -> str:
    if not isinstance(value, str) or not is_slug(value):
        raise ValueError("must be 1 to 63 of a-z, 0-9, '_' and '-', beginning and ending with a letter or digit")
    return value


def _memory(value: Any) -> Any:
    return resources.memory_quantity(value)


def _anything(value: Any) -> Any:
    return value


_ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "slug": _slug,
    "display_name": _text,
    "description": _any_text,
    "image": _image,
    "cpu_guarantee": _cores,
    "cpu_limit": _cores,
    "mem_guarantee": _memory,
    "mem_limit": _memory,
    "extra_resource_limits": _limits,
    "extra_resource_guarantees": _limits,
    "default_url": _url,
    "home_dir": _container_path,
    "bash_login_path": _path,
    "bashrc_path": _path,
    "init_script_path": _path,
    "pod_env_vars": _env,
    "node_selector": _text_map,
    "tolerations": _mappings,
    "service_account": _text_or_none,
    "workspace_volume_size": _quantity_or_none,
    "storage_class_rwo": _text_or_none,
    "storage_class_rwx": _text_or_none,
    "extra_labels": _text_map,
    "extra_annotations": _text_map,
    "kubespawner_override": _mapping,
    "icon": _any_text,
    "category": _any_text,
    "tags": _texts,
    "default": _bool,
    "order": _int,
    "allowed_groups": _texts_or_none,
    "allowed_users": _texts_or_none,
    "profile_options": _anything,
    "aliases": _texts,
    "replaced_by": _text_or_none,
    "deprecated": _any_text,
    "params": _mapping,
    "profiles": _texts,
    "user_settable": _texts,
}
"""Every attribute of a profile and the check that it has to pass."""

ATTRIBUTES: tuple[str, ...] = tuple(_ATTRIBUTES)

_FIXED = frozenset(
    {
        "slug",
        "display_name",
        "description",
        "icon",
        "category",
        "tags",
        "default",
        "order",
        "allowed_groups",
        "allowed_users",
        "profile_options",
        "aliases",
        "replaced_by",
        "deprecated",
        "params",
        "profiles",
        "user_settable",
    }
)
"""The attributes that no param can give."""


def _convert(cls: type, name: str, value: Any) -> Any:
    try:
        return _ATTRIBUTES[name](value)
    except (ValueError, ValidationError) as e:
        text = _first_problem(e) if isinstance(e, ValidationError) else str(e)
        raise ProfileDefinitionError(
            text,
            profile=getattr(cls, "slug", None) or cls.__name__,
            origin=line_of(cls, name),
            field=name,
            value=value,
        ) from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(p) for p in first["loc"] if not str(p).startswith(("function-", "lax-", "strict-")))
    text = shorten(first["msg"].removeprefix("Value error, "), 400)
    if first["type"] == "extra_forbidden":
        text = "is not known here"
    return f"{where}: {text}" if where else text


def check_profile_class(cls: Any) -> None:
    """Check a profile class as far as can be done without a server: types, quantities, names, assets.

    Raises:
        ProfileDefinitionError: naming the file and line, the attribute, its value and what was expected.
    """
    if not (isinstance(cls, type) and issubclass(cls, BaseAppProfile)):
        raise ProfileDefinitionError(
            "only subclasses of BaseAppProfile can be registered",
            value=getattr(cls, "__name__", type(cls).__name__),
            origin=origin_of(cls),
            hint="Derive the class from BaseAppProfile or from one of the families",
        )
    slug = cls.slug or cls.__name__
    for name in ("slug", "display_name", "image"):
        value = getattr(cls, name)
        if value == "":
            raise ProfileDefinitionError(
                "is required but not set", profile=slug, origin=origin_of(cls), field=name, hint=f'Add {name} = "..."'
            )
    texts: dict[Any, resources.InlineText] = {}
    for name in _ATTRIBUTES:
        value = getattr(cls, name)
        if not isinstance(value, ParamRef):
            converted = _convert(cls, name, value)
            if isinstance(converted, resources.InlineText):
                texts[value] = converted
        elif name in _FIXED:
            raise ProfileDefinitionError(
                f"must be known before any param is: it cannot be given by {value.name!r}",
                profile=slug,
                origin=line_of(cls, name),
                field=name,
                hint="Params can give what decides on the server, such as image, limits, environment, node_selector",
            )
    for option in parse_options(cls.profile_options, profile=slug, error=_located(cls)):
        if typed_into_shell(option):
            raise _located(cls)(
                "a text that users type must not become part of a shell's command",
                profile=slug,
                field=f"profile_options.{option.name}",
                hint='Pass it as an argument of its own: ["sh", "-c", "exec start "$1"", "sh", "{value}"]',
            )
    try:
        access_of(cls)
    except ValueError as e:
        raise ProfileDefinitionError(
            str(e), profile=slug, origin=line_of(cls, "is_available_to"), field="is_available_to()"
        ) from None
    _check_pairs(cls, slug)
    _check_names(cls, slug)
    if cls.build is not BaseAppProfile.build:
        raise ProfileDefinitionError(
            "build() is the output contract and must not be overridden",
            profile=slug,
            origin=line_of(cls, "build"),
            hint="Override a hook such as get_config_maps() instead",
        )
    # A start has the files as they were when the class was accepted, and reads nothing from disk.
    cls._file_texts = texts


def _located(cls: type) -> Callable[..., ProfileDefinitionError]:
    def error(message: str, **kwargs: Any) -> ProfileDefinitionError:
        return ProfileDefinitionError(message, origin=line_of(cls, "profile_options"), **kwargs)

    return error


def _check_pairs(cls: type[BaseAppProfile], slug: str) -> None:
    for low, high, convert in (
        ("cpu_guarantee", "cpu_limit", _cores),
        ("mem_guarantee", "mem_limit", _bytes),
    ):
        values = [getattr(cls, name) for name in (low, high)]
        if any(v is None or isinstance(v, ParamRef) for v in values):
            continue
        guaranteed, limit = (convert(v) for v in values)
        if guaranteed is not None and limit is not None and guaranteed > limit:
            raise ProfileDefinitionError(
                f"is more than {high} ({values[1]})",
                profile=slug,
                origin=line_of(cls, low),
                field=low,
                value=values[0],
                expected="a guarantee of at most the limit",
            )


def _bytes(value: Any) -> float:
    amount = resources.memory_quantity(value)
    if isinstance(amount, str):
        return float(amount[:-1]) * 1024.0 ** ("KMGT".index(amount[-1]) + 1)
    return float(amount or 0)


def _check_names(cls: type[BaseAppProfile], slug: str) -> None:
    """Find misspelt attributes: public ones that nobody knows but that look almost like one that is known."""
    known = {name for name in dir(BaseAppProfile) if not name.startswith("_")}
    for owner in cls.__mro__:
        if owner in BaseAppProfile.__mro__:
            continue
        for name in vars(owner):
            if name.startswith("_") or name in known:
                continue
            if hint := did_you_mean(name, known, 0.9):
                raise ProfileDefinitionError(f"is unknown{hint}", profile=slug, origin=line_of(owner, name), field=name)


# ------------------------------------------------------------------------------------------------ where it stands


def origin_of(cls: Any) -> Origin:
    """Return the file and line in which a class was written, as far as that is known."""
    declared = getattr(cls, "__profile_origin__", None)
    if isinstance(declared, Origin):
        return declared
    try:
        return Origin(inspect.getsourcefile(cls) or "unknown", inspect.getsourcelines(cls)[1])
    except (OSError, TypeError):
        return Origin(getattr(cls, "__module__", "unknown") or "unknown")


def line_pattern(name: str) -> str:
    """Return a pattern for the line that begins attribute or hook `name`, also as one of several (`a, b = 1, 2`)."""
    word = re.escape(name)
    return rf"\s+(?:(?:async\s+)?(?:def\s+)?{word}\b\s*[:=(]|(?:\w+,\s*)*{word}(?:,\s*\w+)*\s*=)"


def line_of(cls: type, name: str) -> Origin:
    """Return where attribute or hook `name` of `cls` was written; the class's own place when it cannot be told."""
    for owner in cls.__mro__:
        if name not in vars(owner):
            continue
        declared = getattr(owner, "__profile_origin__", None)
        if isinstance(declared, Origin):
            find_line = getattr(owner, "__profile_lines__", None)  # set by the source: the line of an attribute, or 0
            return Origin(declared.source, (find_line(name) if find_line else 0) or declared.line)
        try:
            lines, start = inspect.getsourcelines(owner)
            source = inspect.getsourcefile(owner) or "unknown"
        except (OSError, TypeError):
            break
        pattern = re.compile(line_pattern(name))
        for offset, line in enumerate(lines):
            if pattern.match(line):
                return Origin(source, start + offset)
        return Origin(source, start)
    return origin_of(cls)


def _failing_line(error: BaseException, cls: type) -> Origin:
    """Return the innermost line of the author's own code at which `error` was raised."""
    own = {origin_of(c).source for c in cls.__mro__ if c not in BaseAppProfile.__mro__}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in own:
            return Origin(frame.filename, frame.lineno or 0)
    return origin_of(cls)


def access_of(cls: type[BaseAppProfile]) -> Access:
    """Return who may use a profile."""
    hook = cls.is_available_to
    overridden = getattr(hook, "__func__", hook) is not BaseAppProfile.is_available_to.__func__  # type: ignore[attr-defined]
    return Access.of(cls.allowed_groups, cls.allowed_users, hook if overridden else None)
