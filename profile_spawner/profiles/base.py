"""`BaseAppProfile`, the base class of all profiles, and the code that checks and builds profiles.

An author can set attributes, override hooks, or write a base class for a family of profiles. `build()` combines the
results and must not be overridden.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import ValidationError

from profile_spawner.errors import (
    BuildError,
    Origin,
    ParamError,
    ProfileDefinitionError,
    described,
    did_you_mean,
    raised_at,
    shorten,
)
from profile_spawner.params.definition import REFERENCE, ParamRef, SecretRef, is_template
from profile_spawner.params.evaluator import NamedValues
from profile_spawner.params.templates import render_value

from . import trait_merge as merging
from .access import Access, UserInfo
from .attributes import ATTRIBUTES, ProfileAttributes, adapter, cores, problems_of
from .author_code import author_code, call_author
from .context import ServerContext
from .hooks import HOOKS, LIST_HOOKS, Hook
from .options import Option, parse_options
from .pod_builder import PodBuilder, StartUp
from .resources import (
    ConfigMap,
    ImagePullSecret,
    InitContainer,
    InlineText,
    KubeObject,
    Manifest,
    RoleBinding,
    SecretMount,
    Volume,
    memory_quantity,
)
from .selection import Selection
from .template import Template, as_templates
from .user_text import (
    DOLLAR_TRAITS,
    TYPED_EXPANDED_TRAITS,
    TYPED_OR_USER,
    USE_A_VARIABLE,
    each_text,
    escape_braces,
    escape_copies,
    escape_dollars,
    is_whole_argument,
    texts_in_commands,
    user_variables,
)

__all__ = [
    "BaseAppProfile",
    "PlainProfile",
    "ProfileBuild",
    "access_of",
    "attribute_lines",
    "check_profile_class",
    "failure_of",
    "line_of",
    "make_profile",
    "options_of",
    "origin_of",
]


@dataclass(frozen=True)
class ProfileBuild:
    """Everything that one server of one profile needs. This is the result of `build()`.

    Attributes:
        slug: The slug of the profile.
        kubespawner_override: Values for KubeSpawner's traits. KubeSpawner expands `{username}` and similar names in
            some of them, so braces in the profile's own texts are doubled there.
        objects: The Kubernetes objects to create for the server, besides the pod.
        steps: Short texts for the progress bar that describe the steps of the start.
        chosen: Overrides of the user's choices that KubeSpawner applies afterwards. Only for plain entries: the choices
            of a class are part of `kubespawner_override`.
        as_kubespawner: Whether the values are applied as KubeSpawner applies an entry of a `profile_list` (functions
            are called, dictionaries are updated in place). Otherwise they are merged with the hub's values by type.
        secure: The variables whose values are those of secure params: the variable, the Secret and the key.
        user_variables: The variables whose values contain what users type or are called.
        run: Where a program could run what users type or are called. These are plain words in this build, and not
            allowed in documents.
        notes: What was changed of what the author wrote.
    """

    slug: str
    kubespawner_override: Mapping[str, Any]
    objects: tuple[KubeObject, ...] = ()
    steps: tuple[str, ...] = ()
    chosen: tuple[Mapping[str, Any], ...] = ()
    as_kubespawner: bool = False
    secure: frozenset[tuple[str, str, str]] = frozenset()
    user_variables: frozenset[str] = frozenset()
    run: tuple[BuildError, ...] = ()
    notes: tuple[str, ...] = ()


class BaseAppProfile(ProfileAttributes):
    """The base class of profiles. A profile describes what a server needs; users choose it on the spawn page.

    Required: `slug`, `display_name`, `image`. Everything else has a default. Attributes of the server
    (`image`, limits, environment, node selector, ...) may be a `Param.ref("area/name")` and then take their value from
    a param. Attributes that the page needs before params are resolved (names, access, options) may not.

    Ways to customize a profile, the simplest first:

    1. attributes, for constants;
    2. hooks (`get_...`), for values that depend on the user or on other values; they may be `async`;
    3. a family: a base class with shared attributes and hooks.

    Hooks can read `self.user` (name, groups, admin), `self.server_name`, `self.namespace`, `self.hub`, `self.choices`
    (the user's choices) and `self.params`. They run in the hub's event loop while a server is prepared. A slow hook
    must be `async`.
    """

    FACT_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Additional names for facts that texts can use; for other formats."""
    WRITTEN_SLUG: ClassVar[str] = ""
    """The slug as it was written, where it is mended; for other formats."""
    _notes: tuple[str, ...] = ()
    """What was changed of what the author wrote, for `validate`; for other formats."""
    _file_texts: ClassVar[Mapping[Any, InlineText]] = {}

    def __init__(
        self,
        context: ServerContext | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        selection: Selection | None = None,
    ) -> None:
        self.context = context or ServerContext.example()
        own = MappingProxyType(NamedValues(type(self).params))
        self.params: Mapping[str, Any] = params if params is not None else own
        self.selection = selection
        chosen = selection.values if selection is not None else {}
        self.choices: Mapping[str, Any] = MappingProxyType(NamedValues(chosen, "option"))
        for name in ATTRIBUTES:
            value = getattr(type(self), name)
            if isinstance(value, ParamRef) or ATTRIBUTES[name].references(value):
                setattr(self, name, self._from_params(name, value))
            elif name in _TEMPLATE_ATTRIBUTES and value:
                # Class attributes contain no text of users. Hooks return these two attributes, or add to them.
                setattr(self, name, as_templates(value))

    def _from_params(self, name: str, written: ParamRef | str) -> Any:
        """Return the value of attribute `name` from params. It is checked like a value that the author wrote.

        Args:
            name: The attribute.
            written: A reference to a param, or a text with references.
        """
        try:
            if isinstance(written, ParamRef):
                value = written.resolve(self.params)
            else:
                lookup: Mapping[str, Any] = ChainMap(self._facts(), self.params)  # type: ignore[arg-type]
                value = render_value(written, lookup, origin=line_of(type(self), name), field=name)
        except ParamError as e:
            e.profile = e.profile or self.slug
            raise
        if isinstance(value, SecretRef):
            names = " and ".join(ATTRIBUTES[name].references(written))
            raise ParamError(
                f"takes its value from the secure param {names!r}",
                profile=self.slug,
                origin=line_of(type(self), name),
                field=name,
                expected="an environment variable whose whole value is the reference",
            )
        known = value
        if not isinstance(written, ParamRef) and is_template(list(self.context.facts(self.slug).values())):
            known = REFERENCE.sub("x", value)  # the facts of a dump are references
        _convert(type(self), name, known)
        return value

    # ---------------------------------------------------------------------------------------------- facts

    @property
    def user(self) -> UserInfo:
        """The user who owns the server."""
        return self.context.user

    @property
    def server_name(self) -> str:
        """The name of the named server; empty for the default server."""
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
        """Return `Volume`s: claims that are made when they are missing, and mounted."""
        return []

    def get_manifests(self) -> list[Manifest]:
        """Return `Manifest`s: any Kubernetes objects that go with the server, as the hub's policy allows."""
        return []

    def get_config_maps(self) -> list[ConfigMap]:
        """Return `ConfigMap`s: files for the server."""
        return []

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return environment variables; by default the attribute `pod_env_vars`."""
        result: Mapping[str, Any] = self.pod_env_vars
        return result

    def get_extra_resource_limits(self) -> Mapping[str, Any]:
        """Return GPUs and the like; by default the attribute `extra_resource_limits`."""
        result: Mapping[str, Any] = self.extra_resource_limits
        return result

    def get_role_bindings(self) -> list[RoleBinding]:
        """Return `RoleBinding`s with their roles. The hub's policy must name the kinds."""
        return []

    def get_image_pull_secrets(self) -> list[ImagePullSecret | str]:
        """Return pull secrets of the pod: names of existing ones, or `ImagePullSecret`s with their data."""
        return []

    def get_env_config_maps(self) -> list[str]:
        """Return names of ConfigMaps whose keys become environment variables: own ones or existing ones.

        A name may be a `Template`.
        """
        return []

    def get_env_secrets(self) -> list[str]:
        """Return names of existing Secrets whose keys become environment variables. A name may be a `Template`."""
        return []

    def get_secret_mounts(self) -> list[SecretMount]:
        """Return `SecretMount`s: existing Secrets that are mounted as files."""
        return []

    def get_init_containers(self) -> list[InitContainer]:
        """Return `InitContainer`s that run before the server, after the init script.

        They mount volumes, and the profile's own ConfigMaps, by name.
        """
        return []

    def get_kubespawner_override(self) -> Mapping[str, Any]:
        """Return values for any other trait of KubeSpawner; by default the attribute `kubespawner_override`."""
        result: Mapping[str, Any] = self.kubespawner_override
        return result

    @classmethod
    def is_available_to(cls, user: UserInfo) -> bool:
        """Return whether `user` may use the profile, besides `allowed_groups` and `allowed_users`. Must be fast."""
        del user
        return True

    # ---------------------------------------------------------------------------------------------- building

    async def build(self) -> ProfileBuild:
        """Return what this server needs. Must not be overridden.

        Raises:
            BuildError: when a hook fails or returns an invalid value. It names the profile, the hook and the line.
            ConflictError: when two parts of the profile use the same name.
        """
        return await self.build_server()

    async def build_server(self) -> ProfileBuild:
        """Return what this server needs; the result of `build()`, where that is not another format's own.

        Raises:
            BuildError: when a hook fails or returns an invalid value. It names the profile, the hook and the line.
            ConflictError: when two parts of the profile use the same name.
        """
        values = await self.hook_values()
        cls, slug = type(self), self.slug
        start = StartUp(
            image=self.image,
            home=self.home_dir,
            files=self._start_up_files(),
            place=functools.partial(line_of, cls),
        )
        builder = PodBuilder(
            slug,
            self.context,
            self.params,
            origin_of(cls),
            start,
            self._typed_params(),
            self._said(),
            self.FACT_NAMES,
        )
        for name in ATTRIBUTES:
            for param in sorted(ATTRIBUTES[name].references(getattr(cls, name))):
                builder.from_param(name, param, getattr(self, name))
        for hook in HOOKS.values():
            getattr(builder, hook.part)(values[hook.name])
        own = f"profile {slug!r}"
        override = _literal(self._attributes_override())
        layers = [("hooks", _literal(builder.override())), ("kubespawner_override", _literal(self._further(builder)))]
        layers += [(f"option {option!r}", chosen) for option, chosen in self._chosen_overrides()]
        for name, layer in layers:
            override = merging.merge_overrides(override, layer, base_origin=own, extra_origin=f"{own} ({name})")
        choices = (one for option in options_of(cls) for one in option.overrides_by_value().values())
        builder.commands(override, choices)
        objects = builder.objects()
        for item in objects:
            if item.name in ("", ".", "..") or not _OBJECT_NAME.fullmatch(item.name):
                raise BuildError(
                    f"{item.name!r} cannot be the name of a {item.kind}",
                    profile=slug,
                    origin=origin_of(cls),
                    field=item.field,
                    expected="letters, digits and - in between",
                )
        return ProfileBuild(
            slug,
            override,
            objects,
            builder.steps(),
            secure=frozenset(builder.secure),
            user_variables=frozenset(builder.user_variables),
            run=tuple(builder.run),
            notes=self._notes,
        )

    async def hook_values(self) -> Mapping[str, Any]:
        """Return the checked value of every hook, by its name. Other formats take the values from elsewhere.

        Raises:
            BuildError: when a hook fails or returns an invalid value.
        """
        return {hook.name: await self._call(hook) for hook in HOOKS.values()}

    @classmethod
    def is_of_other_format(cls) -> bool:
        """Return whether `hook_values()` is of another format, with `build()` and all files in it."""
        return cls.hook_values is not BaseAppProfile.hook_values

    def _start_up_files(self) -> dict[str, Any]:
        """Return the login files and the start-up script, by attribute, as they were when the class was accepted."""
        return {n: self._file_texts.get(path, path) for n in _FILES if (path := getattr(self, n)) is not None}

    def _facts(self) -> dict[str, str]:
        """Return the facts of the server, with the names that other formats have for them."""
        facts = dict(self.context.facts(self.slug))
        return facts | {other: facts[name] for other, name in self.FACT_NAMES.items()}

    def _attributes_override(self) -> dict[str, Any]:
        override: dict[str, Any] = {}
        for name, attribute in ATTRIBUTES.items():
            if not attribute.trait:
                continue
            value = _convert(type(self), name, getattr(self, name))
            if value is not None and value != attribute.default:
                override[attribute.trait] = value
        declared = type(self).default_url
        if isinstance(declared, ParamRef) and declared.name in self._typed_params() and self.default_url is not None:
            override["default_url"] = escape_dollars(self.default_url)
        return override

    def _further(self, builder: PodBuilder) -> dict[str, Any]:
        """Return the override of the hook. Kubernetes replaces nothing in what the hook copied from a user."""
        said = self._said()
        return {
            trait: escape_copies(value, said) if trait in DOLLAR_TRAITS else value
            for trait, value in builder.further_override.items()
        }

    def _said(self) -> frozenset[str]:
        """Return the texts that the user typed, and the names of the user and the server."""
        typed = self.selection.typed if self.selection is not None else ()
        texts = (self.user.name, self.server_name, *(self.choices.get(name) for name in typed))
        return frozenset(text for text in texts if isinstance(text, str))

    def _typed_params(self) -> frozenset[str]:
        """Return the params whose values the user typed."""
        typed = self.selection.typed if self.selection is not None else frozenset()
        return typed | {o.param for o in options_of(type(self)) if o.param is not None and o.name in typed}

    def _chosen_overrides(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the overrides of the user's choices, in the order of the options."""
        result: list[tuple[str, dict[str, Any]]] = []
        for option in options_of(type(self)):
            if option.name not in self.choices:
                continue
            typed = self.selection is not None and option.name in self.selection.typed
            overrides = option.overrides(self.choices[option.name], typed=typed)
            result.extend((option.name, override) for override in overrides)
        return result

    async def _call(self, hook: Hook) -> Any:
        """Call a hook, await it if it is `async`, and check its result."""
        if hook in LIST_HOOKS and getattr(type(self), hook.name) is getattr(BaseAppProfile, hook.name):
            return []  # most profiles override few hooks

        def failure(e: BaseException) -> BuildError:
            return failure_of(type(self), e, f"{hook.name}()")

        try:
            value = await call_author(lambda: getattr(self, hook.name)(), failure)
        except ParamError as e:  # what the hook has read has no usable value
            e.profile, e.origin = e.profile or self.slug, e.origin or _failing_line(e, type(self))
            raise
        return self._checked(hook, value)

    def _checked(self, hook: Hook, value: Any) -> Any:
        """Return the converted result of a hook."""
        with author_code(lambda e: failure_of(type(self), e, f"{hook.name}()")):
            value = _writable(value)
        try:
            return adapter(hook.returns).validate_python(value)
        except ValidationError as e:
            raise BuildError(
                _first_problem(e), profile=self.slug, origin=line_of(type(self), hook.name), field=f"{hook.name}()"
            ) from None


def _writable(value: Any) -> Any:
    """Return the result of a hook, with values of params as plain dictionaries and lists, and Secrets as references."""
    if isinstance(value, SecretRef):
        return {"from_secret": {"name": value.name, "key": value.key}}
    if isinstance(value, Mapping):
        return {k: _writable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(v) for v in value]
    return value


def _literal(override: Mapping[str, Any]) -> dict[str, Any]:
    """Return `override` with braces escaped wherever KubeSpawner would expand them, except in templates."""

    def plain(text: str) -> str:
        return str(text) if isinstance(text, Template) else text

    def escaped(text: str) -> str:
        return str(text) if isinstance(text, Template) else escape_braces(text)

    return {t: each_text(value, escaped if t in TYPED_EXPANDED_TRAITS else plain) for t, value in override.items()}


class PlainProfile(BaseAppProfile):
    """An entry of KubeSpawner's `profile_list` as a class. It is merged and checked only as KubeSpawner does it.

    For existing lists. `kubespawner_override` and `profile_options` mean exactly what they mean there; the other
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
    """Create a profile for one server. Arguments are passed by name, because constructors of authors use `**kwargs`.

    Raises:
        BuildError: when the author's constructor fails, naming the line.
    """
    with author_code(lambda e: failure_of(cls, e, "__init__()")):
        return cls(context=context, params=params, selection=selection)


def options_of(cls: type[BaseAppProfile]) -> tuple[Option, ...]:
    """Return the options of a profile class. They are parsed once."""
    cached = cls.__dict__.get("_parsed_profile_options")
    if cached is None or cached[0] is not cls.profile_options:
        cached = (cls.profile_options, parse_options(cls.profile_options, profile=cls.slug))
        cls._parsed_profile_options = cached  # type: ignore[attr-defined]
    result: tuple[Option, ...] = cached[1]
    return result


# ------------------------------------------------------------------------------------------------ checking

_TEMPLATE_ATTRIBUTES = ("pod_env_vars", "kubespawner_override")
_OBJECT_NAME = re.compile(r"[^/%\s]{1,253}")
_FILES = tuple(name for name, a in ATTRIBUTES.items() if a.document is not None and a.document.how == "text")


def _convert(cls: type, name: str, value: Any) -> Any:
    """Return the converted value of an attribute. Defaults are not checked."""
    if value is ATTRIBUTES[name].default:
        return value
    try:
        return ATTRIBUTES[name].check(value)
    except ValidationError as e:
        raise ProfileDefinitionError(
            _first_problem(e),
            profile=getattr(cls, "slug", None) or cls.__name__,
            origin=line_of(cls, name),
            field=name,
            value=value,
        ) from None


def _first_problem(error: ValidationError) -> str:
    path, text = next(problems_of(error))
    where = ".".join(map(str, path))
    return f"{where}: {shorten(text, 400)}" if where else shorten(text, 400)


def check_profile_class(cls: Any) -> None:
    """Check a profile class without a server: types, quantities, names, assets.

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
    for name in (name for name, attribute in ATTRIBUTES.items() if attribute.required):
        if getattr(cls, name) == "":
            raise ProfileDefinitionError(
                "is required but not set", profile=slug, origin=origin_of(cls), field=name, hint=f'Add {name} = "..."'
            )
    texts: dict[Any, InlineText] = {}
    for name, attribute in ATTRIBUTES.items():
        value = getattr(cls, name)
        if not isinstance(value, ParamRef):
            # Of a text with references, what is around them is checked now, and the rest when they are replaced.
            known = REFERENCE.sub("x", value) if attribute.references(value) else value
            converted = _convert(cls, name, known)
            if isinstance(converted, InlineText):
                texts[value] = converted
        elif not attribute.param:
            raise ProfileDefinitionError(
                f"must be known before any param is: it cannot be given by {value.name!r}",
                profile=slug,
                origin=line_of(cls, name),
                field=name,
                hint="Params can give what decides on the server, such as image, limits, environment, node_selector",
            )
    for option in parse_options(cls.profile_options, profile=slug, error=_located(cls)):
        _check_typed(cls, slug, option)
    try:
        access_of(cls)
    except ValueError as e:
        raise ProfileDefinitionError(
            str(e), profile=slug, origin=line_of(cls, "is_available_to"), field="is_available_to()"
        ) from None
    _check_pairs(cls, slug)
    _check_names(cls, slug)
    if cls.build is not BaseAppProfile.build and not cls.is_of_other_format():
        raise ProfileDefinitionError(
            "build() is the output contract and must not be overridden",
            profile=slug,
            origin=line_of(cls, "build"),
            hint="Override a hook such as get_config_maps() instead",
        )
    # Read the files now. A start uses these texts and does not read from disk.
    cls._file_texts = texts


def _located(cls: type) -> Callable[..., ProfileDefinitionError]:
    def error(message: str, **kwargs: Any) -> ProfileDefinitionError:
        return ProfileDefinitionError(message, origin=line_of(cls, "profile_options"), **kwargs)

    return error


def _check_typed(cls: type[BaseAppProfile], slug: str, option: Option) -> None:
    """Refuse an option whose typed text would become a part of a command."""
    typed = option.typed_override()
    for path, text in texts_in_commands(typed, TYPED_OR_USER, user_variables([(typed, TYPED_OR_USER)])):
        if is_whole_argument(text, TYPED_OR_USER) and path[-1] != text:
            continue
        raise _located(cls)(
            "a text that users type must not become a key or a part of a command: a shell could run it",
            profile=slug,
            field=".".join(map(str, ("profile_options", option.name, *path))),
            value=text,
            hint=USE_A_VARIABLE,
        )


def _check_pairs(cls: type[BaseAppProfile], slug: str) -> None:
    for low, high, convert in (
        ("cpu_guarantee", "cpu_limit", cores),
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
    amount = memory_quantity(value)
    if isinstance(amount, str):
        return float(amount[:-1]) * 1024.0 ** ("KMGT".index(amount[-1]) + 1)
    return float(amount or 0)


def _check_names(cls: type[BaseAppProfile], slug: str) -> None:
    """Find misspelt attributes: public, unknown attributes whose names are similar to a known one."""
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
    """Return the file and line of a class, if they are known."""
    declared = getattr(cls, "__profile_origin__", None)
    if isinstance(declared, Origin):
        return declared
    try:
        return Origin(inspect.getsourcefile(cls) or "unknown", inspect.getsourcelines(cls)[1])
    except (OSError, TypeError, SystemError):  # Python 3.11 raises SystemError when two threads parse code at once
        return Origin(getattr(cls, "__module__", "unknown") or "unknown")


def attribute_lines(definition: ast.ClassDef) -> dict[str, int]:
    """Return the line of each attribute and method that the body of a class defines."""
    lines: dict[str, int] = {}
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            lines[statement.name] = statement.lineno
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            lines.update({node.id: statement.lineno for node in names})
    return lines


def line_of(cls: type, name: str) -> Origin:
    """Return the line of attribute or hook `name` of `cls`, or the line of the class if it is not known."""
    for owner in cls.__mro__:
        if owner in BaseAppProfile.__mro__ or _is_provided(owner, cls):
            break  # its default: no author has written it
        if name not in vars(owner):
            continue
        declared = getattr(owner, "__profile_origin__", None)
        if isinstance(declared, Origin):
            find_line = getattr(owner, "__profile_lines__", None)  # set by the source: the line of an attribute, or 0
            return Origin(declared.source, (find_line(name) if find_line else 0) or declared.line)
        try:
            lines, start = inspect.getsourcelines(owner)
            source = inspect.getsourcefile(owner) or "unknown"
            (definition,) = ast.parse(textwrap.dedent("".join(lines))).body
        except (OSError, TypeError, SyntaxError, ValueError, SystemError):  # the last as in origin_of
            break
        found = attribute_lines(definition) if isinstance(definition, ast.ClassDef) else {}
        return Origin(source, start + found.get(name, 1) - 1)
    return origin_of(cls)


def _is_provided(owner: type, cls: type) -> bool:
    """Return whether a base class of a plug-in is one of those that this project has for plug-ins."""
    return owner is not cls and owner.__module__.startswith("configurator.")


def failure_of(cls: type[BaseAppProfile], error: BaseException, field: str | None = None) -> BuildError:
    """Return the error for what an author's code raised, with the line.

    Args:
        cls: The profile.
        error: The exception.
        field: The hook.
    """
    return BuildError(described(error), profile=cls.slug, origin=_failing_line(error, cls), field=field)


def _failing_line(error: BaseException, cls: type) -> Origin:
    """Return the innermost line of the author's own code at which `error` was raised."""
    authors = (c for c in cls.__mro__ if c not in BaseAppProfile.__mro__ and not _is_provided(c, cls))
    own = {origin_of(c).source for c in authors}
    return raised_at(error, own.__contains__) or origin_of(cls)


def access_of(cls: type[BaseAppProfile]) -> Access:
    """Return the access rule of a profile."""
    hook = cls.is_available_to
    overridden = getattr(hook, "__func__", hook) is not BaseAppProfile.is_available_to.__func__  # type: ignore[attr-defined]
    return Access.of(cls.allowed_groups, cls.allowed_users, hook if overridden else None)
