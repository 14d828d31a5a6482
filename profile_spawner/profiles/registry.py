"""Collects profiles and creates immutable snapshots of them.

Authors register profiles with `profile_registry`. It stores nothing itself: while a source is loaded, registrations go
into the `Collector` of that load. If the load fails, its collector is discarded. The collected profiles become a
`Snapshot`, which never changes. A page or a spawn uses one snapshot from beginning to end.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import linecache
from collections import OrderedDict
from collections.abc import Collection as Collection_
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from profile_spawner.errors import (
    BuildError,
    DuplicateSlugError,
    Origin,
    ParamError,
    ProfileDefinitionError,
    ProfileSpawnerError,
    shorten,
)
from profile_spawner.names import content_hash, slugify
from profile_spawner.params.constraint import Constraint
from profile_spawner.params.definition import Param, ParamRef, thaw
from profile_spawner.params.evaluator import Resolved
from profile_spawner.params.layers import GLOBAL, Collection, Resolver
from profile_spawner.params.templates import references_in, to_text

from .access import Access, UserInfo
from .attributes import ATTRIBUTES
from .base import (
    BaseAppProfile,
    PlainProfile,
    ProfileBuild,
    access_of,
    check_profile_class,
    line_of,
    make_profile,
    options_of,
    origin_of,
)
from .context import ServerContext
from .guarding import guard, unguard
from .options import OPTION_TYPES, Choice, NumberOption, Option, access_from, parse_options
from .selection import Offer, Problem, Rejection, Selection, default_selection, form_field, select
from .trait_merge import as_list

__all__ = [
    "CONFIGURATION",
    "Collector",
    "Entry",
    "Offers",
    "ProfileRegistry",
    "RawProfile",
    "Snapshot",
    "collecting",
    "direct_collector",
    "make_entry",
    "make_resolver",
    "make_snapshot",
    "param_problems",
    "profile_registry",
    "raw_profiles",
]

_ProfileClass = TypeVar("_ProfileClass", bound=type[BaseAppProfile])


CONFIGURATION = Origin("configuration")


@dataclass(frozen=True)
class RawProfile:
    """An unchanged entry of KubeSpawner's `profile_list`.

    Attributes:
        slug: The slug from the entry, or made from the display name as KubeSpawner does.
        definition: The dictionary. It is not changed.
        origin: The file and line of the entry.
        judged: Whether the entry comes from a document that the data policy restricts.
    """

    slug: str
    definition: Mapping[str, Any] = field(repr=False)
    origin: Origin = CONFIGURATION
    judged: bool = False


@dataclass(frozen=True)
class Entry:
    """One profile of a snapshot.

    Attributes:
        offer: The data for the page and for the check of a choice.
        profile: The class; `None` for a plain `profile_list` entry.
        raw: The plain `profile_list` entry; `None` for a class.
        source: The name of the source of the profile.
        origin: File and line.
        digest: A hash of what the profile asks for.
        effective: Values to display: limits, image, volumes. They contain no secrets.
        icon: As the author wrote it.
        category: The heading on the page.
        tags: Search words.
        order: See `BaseAppProfile.order`.
        kinds: The kinds of objects that it creates besides the pod.
        keep: Objects that must live as long as the entry, so that the modules of its class stay importable.
        trusted: Whether everything in it comes from the hub's own configuration, so that the policy does not check its
            pod. True for plain entries, except those of documents.
    """

    offer: Offer
    profile: type[BaseAppProfile] | None = field(default=None, repr=False)
    raw: Mapping[str, Any] | None = field(default=None, repr=False)
    source: str = ""
    origin: Origin = CONFIGURATION
    digest: str = ""
    effective: Mapping[str, Any] = field(default_factory=dict, repr=False)
    icon: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    order: int = 0
    kinds: frozenset[str] = frozenset()
    keep: Any = field(default=None, repr=False, compare=False)
    trusted: bool = False

    @property
    def slug(self) -> str:
        """The profile's slug."""
        return self.offer.slug


class Collector:
    """The registrations of one load.

    Args:
        source: The name of the source, for messages.
    """

    def __init__(self, source: str = "configuration") -> None:
        self.source = source
        self.profiles: OrderedDict[str, type[BaseAppProfile] | RawProfile] = OrderedDict()
        self.params: dict[str, Param] = {}
        self.collections: dict[str, Collection] = {}

    def add(self, added: type[BaseAppProfile] | RawProfile) -> None:
        """Register one profile.

        Raises:
            ProfileDefinitionError: when the profile is invalid.
            DuplicateSlugError: when the slug is in use. It names both places.
        """
        if isinstance(added, type) and issubclass(added, PlainProfile):
            (added,) = raw_profiles([added.definition()], origin_of(added))
        if not isinstance(added, RawProfile):
            check_profile_class(added)
            if added.slug == GLOBAL:
                raise ProfileDefinitionError(
                    "this slug is taken by the collection of values for everybody",
                    profile=added.slug,
                    origin=line_of(added, "slug"),
                    field="slug",
                )
        present = self.profiles.get(added.slug)
        if present is not None:
            raise duplicate(added.slug, _origin(present), _origin(added))
        self.profiles[added.slug] = added

    def add_param(self, param: Param) -> None:
        """Register the definition of a param.

        Raises:
            ProfileDefinitionError: when the name is used by a different definition.
        """
        present = self.params.get(param.name)
        if present is not None and present != param:
            raise ProfileDefinitionError(
                f"param {param.name!r} is defined twice: {present.origin} and {param.origin}", field=param.name
            )
        self.params[param.name] = param

    def add_collection(self, collection: Collection) -> None:
        """Register a collection of params (`global` is one).

        Raises:
            ProfileDefinitionError: when the name is in use.
        """
        present = self.collections.get(collection.name)
        if present is not None:
            raise ProfileDefinitionError(
                f"collection {collection.name!r} is defined twice: {present.origin} and {collection.origin}",
                field=collection.name,
            )
        self.collections[collection.name] = collection


def _origin(registered: type[BaseAppProfile] | RawProfile) -> Origin:
    return registered.origin if isinstance(registered, RawProfile) else origin_of(registered)


def duplicate(slug: str, first: Origin, second: Origin) -> DuplicateSlugError:
    """Return the error for a slug that is used twice."""
    return DuplicateSlugError(
        f"the slug is used twice: first at {first}, again at {second}",
        profile=slug,
        origin=second,
        field="slug",
        hint="Give one of the two another slug",
    )


_active: ContextVar[Collector | None] = ContextVar("profile_spawner_collector", default=None)
_direct = Collector()


@contextlib.contextmanager
def collecting(collector: Collector) -> Iterator[Collector]:
    """Send all registrations inside the block (in this thread or task) to `collector`."""
    token = _active.set(collector)
    try:
        yield collector
    finally:
        _active.reset(token)


class ProfileRegistry:
    """The registry for authors: `profile_registry.register(MyProfile)`, or as a decorator.

    While a source is loaded, registrations belong to that load. At other times, for example in
    `jupyterhub_config.py`, they belong to the configuration.
    """

    @property
    def collector(self) -> Collector:
        """The collector that receives registrations now."""
        return _active.get() or _direct

    def register(self, cls: _ProfileClass) -> _ProfileClass:
        """Register a profile class and check it.

        Returns:
            The class, so that the method can be used as a decorator.

        Raises:
            ProfileDefinitionError: names file and line, attribute, value and what was expected.
            DuplicateSlugError: when the slug is in use. It names both places.
        """
        self.collector.add(cls)
        return cls

    def register_param(self, param: Param) -> Param:
        """Register the definition of a param.

        Raises:
            ProfileDefinitionError: when the name is used by a different definition.
        """
        if param.origin is None:
            param = replace(param, origin=_caller())
        self.collector.add_param(param)
        return param

    def register_collection(self, name: str, params: Mapping[str, Any], profiles: Sequence[str] = ()) -> None:
        """Register a collection of params, such as `global` or a set that profiles inherit.

        Raises:
            ProfileDefinitionError: when the name is in use.
        """
        place = _caller()
        collection = Collection(name, params, tuple(profiles), place, _key_lines(place, params))
        self.collector.add_collection(collection)

    def get(self, slug: str) -> type[BaseAppProfile] | RawProfile:
        """Return the profile registered as `slug`.

        Raises:
            KeyError: when there is no such profile. The message lists the existing ones.
        """
        try:
            return self.collector.profiles[slug]
        except KeyError:
            names = ", ".join(self.collector.profiles) or "none"
            raise KeyError(f"no profile {slug!r}; there are: {names}") from None

    def all(self) -> dict[str, type[BaseAppProfile] | RawProfile]:
        """Return all profiles registered so far, in order."""
        return dict(self.collector.profiles)

    def clear(self) -> None:
        """Remove all registrations."""
        for registered in (self.collector.profiles, self.collector.params, self.collector.collections):
            registered.clear()


def _caller() -> Origin:
    """Return the line that called the registry."""
    frame = inspect.stack(context=0)[2]
    return Origin(frame.filename, frame.lineno)


profile_registry = ProfileRegistry()
"""The registry that authors import."""


def raw_profiles(profile_list: Any, origin: Origin, *, judged: bool = False) -> list[RawProfile]:
    """Read a `profile_list` as KubeSpawner does: a list, or a mapping that is sorted by key.

    Raises:
        ProfileDefinitionError: names the entry and the error.
    """
    if isinstance(profile_list, Mapping):
        profile_list = [profile_list[key] for key in sorted(profile_list)]
    if not isinstance(profile_list, list | tuple):
        raise ProfileDefinitionError(
            "a profile_list must be a list of dictionaries", origin=origin, value=type(profile_list).__name__
        )
    result = []
    for number, definition in enumerate(profile_list):
        where = f"profile_list[{number}]"
        if not isinstance(definition, Mapping):
            raise ProfileDefinitionError(
                "an entry must be a dictionary", origin=origin, field=where, value=type(definition).__name__
            )
        name = definition.get("display_name")
        if not isinstance(name, str) or not name:
            raise ProfileDefinitionError("display_name is missing", origin=origin, field=where)
        slug = definition.get("slug")
        if slug is None:
            slug = slugify_like_kubespawner(name)
        if not isinstance(slug, str) or not slug:
            raise ProfileDefinitionError(
                "no slug can be made of the display name", origin=origin, field=where, value=name, hint="Add a slug"
            )
        parse_options(definition.get("profile_options"), profile=slug)
        result.append(RawProfile(slug, definition, origin, judged))
    return result


def slugify_like_kubespawner(name: str) -> str:
    """Return the slug that KubeSpawner makes from a display name (`slugify` of python-slugify)."""
    try:
        from slugify import slugify as upstream  # a dependency of KubeSpawner

        return str(upstream(name))
    except ImportError:  # pragma: no cover - only without KubeSpawner
        return slugify(name)


class Offers(Mapping[str, Offer]):
    """The profiles that one user may use, by slug and alias. A lookup takes constant time."""

    def __init__(self, snapshot: Snapshot, user: UserInfo) -> None:
        self._snapshot = snapshot
        self._user = user

    def __getitem__(self, slug: str) -> Offer:
        entry = self._snapshot.find(slug)
        if entry is None or not entry.offer.access.allows(self._user):
            raise KeyError(slug)
        if entry.offer.unavailable and entry.offer.replaced_by:
            other = self._snapshot.entries.get(entry.offer.replaced_by)
            if other is not None and other.offer.access.allows(self._user):
                return other.offer
        return entry.offer

    def __iter__(self) -> Iterator[str]:
        return (e.slug for e in self._snapshot.visible_to(self._user))

    def __len__(self) -> int:
        return len(self._snapshot.visible_to(self._user))

    def __bool__(self) -> bool:
        return bool(self._snapshot.visible_to(self._user))


_NO_PARAMS = Resolver().resolve()


class Snapshot:
    """An immutable set of profiles, used until the next reload.

    Args:
        entries: In the order in which they are shown.
        generation: A number that increases with every reload.
        resolver: Resolves params; `None` without any.
        problems: The errors of profiles that could not be loaded.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        *,
        generation: int = 0,
        resolver: Resolver | None = None,
        problems: Sequence[ProfileSpawnerError] = (),
    ) -> None:
        self.entries: Mapping[str, Entry] = MappingProxyType({e.slug: e for e in entries})
        self.generation = generation
        self.resolver = resolver
        self.problems = tuple(problems)
        aliases: dict[str, str] = {}
        for entry in self.entries.values():
            for alias in entry.offer.aliases:
                aliases.setdefault(alias, entry.slug)
        self._aliases: Mapping[str, str] = MappingProxyType(aliases)
        self._all_open = all(e.offer.access.is_open for e in self.entries.values())
        self._groups = frozenset().union(*(e.offer.access.groups or () for e in self.entries.values()))
        self._users = frozenset().union(*(e.offer.access.users or () for e in self.entries.values()))
        self._hooks = any(e.offer.access.hook for e in self.entries.values())
        self._visible: OrderedDict[Any, tuple[Entry, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, slug: str) -> Entry | None:
        """Return the profile with this slug or alias."""
        entry = self.entries.get(slug)
        if entry is None and slug in self._aliases:
            entry = self.entries.get(self._aliases[slug])
        return entry

    def audience(self, user: UserInfo) -> Any:
        """Return a key that is equal for users who see the same profiles, or `None` if every user must be checked."""
        if self._all_open:
            return ()
        if self._hooks:
            return None
        groups = frozenset(g for g in (g.casefold() for g in user.groups) if g in self._groups)
        name = user.name.casefold()
        return (groups, name if name in self._users else "")

    def visible_to(self, user: UserInfo) -> tuple[Entry, ...]:
        """Return the profiles that `user` may use, in order."""
        key = self.audience(user)
        if key is not None and key in self._visible:
            return self._visible[key]
        if self._all_open:
            visible = self._visible[()] = tuple(self.entries.values())
            return visible
        visible = tuple(e for e in self.entries.values() if e.offer.access.allows(user))
        if key is not None:
            self._visible[key] = visible
            while len(self._visible) > 256:
                self._visible.popitem(last=False)
        return visible

    def default_for(self, user: UserInfo) -> str | None:
        """Return the default slug for `user`."""
        visible = self.visible_to(user)
        usable = [e for e in visible if not e.offer.unavailable] or visible
        return next((e.slug for e in usable if e.offer.default), usable[0].slug if usable else None)

    def offers_for(self, user: UserInfo) -> Offers:
        """Return the profiles that `user` may choose."""
        return Offers(self, user)

    def select(self, request: Any, user: UserInfo) -> Selection | Rejection:
        """Turn a request of `user` into a valid choice, or return the errors. Never raises."""
        default = None
        if not isinstance(request, Mapping) or not request.get("profile"):
            default = self.default_for(user)
        result = select(request, user, self.offers_for(user), default)
        if isinstance(result, Selection) and self.resolver is not None:
            return self._check_params(result)
        return result

    def _check_params(self, selection: Selection) -> Selection | Rejection:
        """Check the user's values of params with the schemas of the params."""
        problems = []
        for option in self.entries[selection.slug].offer.options:
            if option.param is None or option.name not in selection.user_options or self.resolver is None:
                continue
            param = self.resolver.definitions[option.param]
            for problem in param.problems(param.from_choice(selection.values[option.name])):
                text = f"“{option.display_name}”: {problem}."
                problems.append(Problem(form_field(selection.slug, option.name), text))
        return Rejection(tuple(problems), selection.slug) if problems else selection

    async def build(self, selection: Selection, context: ServerContext, **layers: Any) -> ProfileBuild:
        """Build everything that a server needs. Only for profiles that are classes.

        Args:
            selection: A choice that `select()` returned for this snapshot.
            context: The context of the server.
            layers: Further layers of params, in the format of `Resolver.resolve`.

        Raises:
            BuildError: when a hook fails.
            ConflictError: when two parts use the same name.
        """
        entry = self.entries[selection.slug]
        if entry.profile is None:
            raise TypeError(f"profile {selection.slug!r} is a plain profile_list entry; it has no build()")
        params = self.resolve(entry.profile, selection, **{**layers, "facts": context.facts(selection.slug)})
        context, known, selection = guard(context, params, selection)
        return await _built(entry.profile, context, known, selection)

    def record(self, selection: Selection, **layers: Any) -> dict[str, Any]:
        """Return the resolved params of a server as plain JSON, with sources and without secrets."""
        profile = self.entries[selection.slug].profile
        if self.resolver is None or profile is None:
            return {}
        return self.resolve(profile, selection, **layers).record()

    async def personal(self, entry: Entry, **layers: Any) -> Entry:
        """Return a profile with the defaults, bounds and effective values of a server with further layers of params.

        If the params cannot be resolved with these layers, the profile is returned as unavailable, with the reason.

        Args:
            entry: An entry of this snapshot.
            layers: In the format of `Resolver.resolve`.
        """
        cls, resolver = entry.profile, self.resolver
        if cls is None or resolver is None or entry.offer.unavailable:
            return entry
        own = tuple(o for o in entry.offer.options if o.param is None)
        try:
            params = self.resolve(cls, None, **layers)
            enforced = layers.get("enforced") or {}
            # Only what everybody may choose: the choice is checked against the profile itself.
            known = {o.param for o in entry.offer.options}
            chosen = (o for o in _param_options(cls, resolver, params, {o.name for o in own}) if o.param in known)
            options = (*own, *(_within(o, enforced[o.param]) if o.param in enforced else o for o in chosen))
            offer = replace(entry.offer, options=options)
            build = await _built(cls, ServerContext.specimen(), params, default_selection(offer))
        except ProfileSpawnerError as e:
            return with_availability(entry, str(e))
        return replace(entry, offer=offer, effective=_effective(build))

    def resolve(self, profile: type[BaseAppProfile], selection: Selection | None, **layers: Any) -> Resolved:
        """Return the values of the params for one server."""
        if self.resolver is None:
            return _NO_PARAMS
        spawn = {}
        if selection is not None:
            for option in self.entries[selection.slug].offer.options:
                # A default that the user did not change is not a choice: a stronger layer may set another value.
                if option.param is not None and option.name in selection.user_options:
                    param = self.resolver.definitions[option.param]
                    spawn[option.param] = param.from_choice(selection.values[option.name])
        facts = {**(layers.pop("facts", None) or _specimen_facts(profile.slug)), "profile": profile.slug}
        resolved = self.resolver.resolve(profile=profile.slug, spawn=spawn, facts=facts, **layers)
        _refuse_judged(profile, self.resolver, resolved)
        if spawn:
            _refuse_sensitive(profile, self.resolver, resolved)
        return resolved

    def check_choice(self, selection: Selection, **layers: Any) -> Selection | Rejection:
        """Check the user's values of params against further layers, such as the constraints of the administrator.

        Args:
            selection: A choice that `select()` returned for this snapshot.
            layers: As `Resolver.resolve` takes them.

        Raises:
            ParamError: when something else is wrong with the layers.
        """
        entry = self.entries[selection.slug]
        if entry.profile is None or self.resolver is None:
            return selection
        chosen = {o.param: o for o in entry.offer.options if o.param is not None and o.name in selection.user_options}
        if not chosen:
            return selection
        failed = self.resolve(entry.profile, selection, **layers).failed
        problems = []
        for name, option in chosen.items():
            if name in failed:
                expected = f"; expected {failed[name].expected}" if failed[name].expected else ""
                text = f"“{option.display_name}”: {failed[name].message}{expected}."
                problems.append(Problem(form_field(selection.slug, option.name), text))
        return Rejection(tuple(problems), selection.slug) if problems else selection


async def make_entry(
    registered: type[BaseAppProfile] | RawProfile, source: str, resolver: Resolver | None = None
) -> Entry:
    """Create the entry of a registered profile: build it for an example server and collect the data for the page.

    Raises:
        ProfileSpawnerError: when the profile cannot be built.
    """
    if isinstance(registered, RawProfile):
        return _raw_entry(registered, source)
    cls = registered
    options = options_of(cls)
    params: Resolved = _NO_PARAMS
    broken = resolver.unavailable.get(cls.slug) if resolver is not None else None
    if resolver is not None and not broken:
        params = resolver.resolve(profile=cls.slug, facts=_specimen_facts(cls.slug))
        _refuse_judged(cls, resolver, params)
        options = (*options, *_param_options(cls, resolver, params, {o.name for o in options}))
    offer = Offer(
        slug=cls.slug,
        display_name=cls.display_name,
        description=cls.description,
        options=options,
        access=access_of(cls),
        default=cls.default,
        aliases=tuple(cls.aliases),
        replaced_by=cls.replaced_by,
        deprecated=cls.deprecated,
        unavailable="; ".join(str(e) for e in broken or ()),
    )
    if broken:
        return _described(Entry(offer=offer, profile=cls, source=source, origin=origin_of(cls)), cls)
    specimen = default_selection(offer)
    build = await _built(cls, ServerContext.specimen(), params, specimen)
    digest = content_hash(
        [
            {k: repr(v) for k, v in build.kubespawner_override.items()},
            [[o.kind, o.name, repr(o.body)] for o in build.objects],
        ]
    )
    entry = Entry(
        offer=offer,
        profile=cls,
        source=source,
        origin=origin_of(cls),
        digest=digest,
        effective=_effective(build),
        kinds=frozenset(o.kind for o in build.objects),
    )
    return _described(entry, cls)


async def _built(
    cls: type[BaseAppProfile], context: ServerContext, params: Mapping[str, Any], selection: Selection
) -> ProfileBuild:
    """Build a profile.

    Raises:
        BuildError: whatever an author's code raises.
    """
    try:
        return await make_profile(cls, context, params=params, selection=selection).build()
    except ProfileSpawnerError:
        raise
    except Exception as e:
        text = f"{type(e).__name__}: {shorten(unguard(str(e)), 300)}"
        raise BuildError(text, profile=cls.slug, origin=origin_of(cls)) from e


def _described(entry: Entry, cls: type[BaseAppProfile]) -> Entry:
    return replace(entry, icon=cls.icon, category=cls.category, tags=tuple(cls.tags), order=cls.order)


def _specimen_facts(slug: str) -> Mapping[str, str]:
    return ServerContext.specimen().facts(slug)


def _fed(cls: type[BaseAppProfile]) -> Mapping[str, set[str]]:
    """Return the attributes that take their values from params, with the names of the params."""
    fed: dict[str, set[str]] = {}
    for name, value in ((n, getattr(cls, n)) for n in ATTRIBUTES):
        if isinstance(value, ParamRef):
            fed.setdefault(value.name, set()).add(name)
    return fed


def _sensitive(cls: type[BaseAppProfile], resolver: Resolver) -> set[str]:
    """Return the params of a profile that decide on its security: marked so, or given to a sensitive attribute."""
    marked = {name for name, param in resolver.definitions.items() if param.sensitive}
    return marked | {n for n, attributes in _fed(cls).items() if any(ATTRIBUTES[a].sensitive for a in attributes)}


_NOT_FROM_DOCUMENTS = ("service_account", "bash_login_path", "bashrc_path", "init_script_path", "kubespawner_override")
"""Attributes whose params documents must not set. A Python class may take them from params of its own hub only."""


def _refuse_judged(cls: type[BaseAppProfile], resolver: Resolver, resolved: Resolved) -> None:
    """Refuse a service account, a file of the hub or another restricted trait that a document sets through a param.

    Raises:
        ParamError: names the param and the place of the value.
    """
    for attribute in _NOT_FROM_DOCUMENTS:
        ref = getattr(cls, attribute)
        if not isinstance(ref, ParamRef):
            continue
        for name in sorted({ref.name, *resolved.inserted(ref.name)}):
            for origin in resolver.judged(resolved.explain(name)) if name in resolved else ():
                raise ParamError(
                    f"decides on {attribute}, and a document sets it",
                    profile=cls.slug,
                    origin=origin or origin_of(cls),
                    field=f"param {name}",
                    hint="Set it in Python or in the hub's configuration (param_values)",
                )


def _refuse_sensitive(cls: type[BaseAppProfile], resolver: Resolver, resolved: Resolved) -> None:
    """Refuse a user's choice that reaches a sensitive param, directly or inserted into its value.

    Raises:
        ParamError: names the params.
    """
    for name in _sensitive(cls, resolver):
        chosen = sorted(resolved.chosen(name) - set(cls.user_settable))
        if chosen:
            raise ParamError(
                f"is sensitive, and a user chose {' and '.join(chosen)}",
                profile=cls.slug,
                origin=origin_of(cls),
                field=f"param {name}",
                hint="To allow it, name what may be chosen in the profile's user_settable",
            )


def _param_options(
    cls: type[BaseAppProfile], resolver: Resolver, params: Resolved, taken: set[str]
) -> Iterator[Option]:
    """Return the fields for the params that users may choose with this profile.

    These are the `user_settable` params that the profile uses: in an attribute, in a text, or by setting or taking on a
    value. One that decides on a sensitive attribute (the image, a service account, ...) must be named in the profile's
    `user_settable`.
    """
    attributes = {name: getattr(cls, name) for name in ATTRIBUTES if name != "params"}
    used = {*_fed(cls), *references_in(attributes), *cls.user_settable}
    for name in resolver.inherited(cls.slug):
        used.update(resolver.collections[name].params)
    used.update(*[params.inserted(name) for name in used])
    sensitive = _sensitive(cls, resolver)
    sensitive.update(*[params.inserted(name) for name in sensitive])
    sensitive -= set(cls.user_settable)
    settable = [resolver.definitions[n] for n in used if n in resolver.definitions]
    for param in sorted(settable, key=lambda p: (p.form.order, p.name)):
        if not param.user_settable or param.name in sensitive or param.name in taken or param.name in params.failed:
            continue
        form = param.form
        default = params.get(param.name, form.default)
        choices = tuple(Choice(name=v, display_name=title, default=v == to_text(default)) for v, title in form.choices)
        fields = {
            "choices": choices,
            "default": tuple(to_text(d) for d in default or ()) if form.kind == "multi" else thaw(default),
            "minimum": form.minimum,
            "maximum": form.maximum,
            "step": form.step,
            "integer": form.integer,
            "pattern": form.pattern,
            "max_length": form.max_length,
        }
        option = OPTION_TYPES[form.kind]
        yield option(
            name=param.name,
            kind=form.kind,
            display_name=form.title,
            description=form.help,
            advanced=bool(param.meta.get("advanced")),
            param=param.name,
            **{name: value for name, value in fields.items() if name in option.model_fields},
        )


def _within(option: Option, enforced: Any) -> Option:
    """Return an option limited by the administrator's constraint. A fixed value becomes read-only."""
    constraint = Constraint.of(enforced)
    if constraint is None:
        return option.model_copy(update={"read_only": True})
    if isinstance(option, NumberOption):
        upper = [m for m in (option.maximum, constraint.maximum) if isinstance(m, int | float)]
        lower = [m for m in (option.minimum, constraint.minimum) if isinstance(m, int | float)]
        bounds = {"maximum": min(upper, default=None), "minimum": max(lower, default=None)}
        return option.model_copy(update=bounds)
    if constraint.allowed is not None and option.listed():
        allowed = {to_text(thaw(a)) for a in constraint.allowed}
        return option.model_copy(update={"choices": tuple(c for c in option.listed() if c.name in allowed)})
    return option


_DISPLAYED = tuple(attribute.trait or name for name, attribute in ATTRIBUTES.items() if attribute.shown)


def _effective(build: ProfileBuild) -> Mapping[str, Any]:
    override = build.kubespawner_override
    result = {name: override[name] for name in _DISPLAYED if name in override}
    sizes = {
        o.name: o.body["spec"]["resources"]["requests"]["storage"]
        for o in build.objects
        if o.kind == "PersistentVolumeClaim"
    }
    paths = {m["name"]: m["mountPath"] for m in as_list(override.get("volume_mounts")) if "mountPath" in m}
    result["volumes"] = [
        {
            "name": v["name"],
            "size": sizes[v["persistentVolumeClaim"]["claimName"]],
            "mount_path": paths.get(v["name"], ""),
        }
        for v in as_list(override.get("volumes"))
        if v.get("persistentVolumeClaim", {}).get("claimName") in sizes
    ]
    return MappingProxyType(result)


def _raw_entry(raw: RawProfile, source: str) -> Entry:
    definition = raw.definition
    override = definition.get("kubespawner_override") or {}
    offer = Offer(
        slug=raw.slug,
        display_name=str(definition["display_name"]),
        description=str(definition.get("description") or ""),
        options=parse_options(definition.get("profile_options"), profile=raw.slug),
        access=_raw_access(raw),
        default=bool(definition.get("default")),
        aliases=tuple(definition.get("aliases") or ()),
        replaced_by=definition.get("replaced_by"),
        deprecated=str(definition.get("deprecated") or ""),
    )
    return Entry(
        offer=offer,
        raw=definition,
        trusted=not raw.judged,
        source=source,
        origin=raw.origin,
        digest=content_hash(repr(definition)),
        effective=MappingProxyType({k: override[k] for k in _DISPLAYED if k in override and not callable(override[k])}),
        icon=str(definition.get("icon") or ""),
        category=str(definition.get("category") or ""),
        tags=tuple(definition.get("tags") or ()),
        order=int(definition.get("order") or 0),
    )


def _raw_access(raw: RawProfile) -> Access:
    """Return the access rule of an entry.

    Raises:
        ProfileDefinitionError: when the rule is invalid. The profile is then not available to any user.
    """
    try:
        return access_from(raw.definition)
    except (TypeError, ValueError) as e:
        raise ProfileDefinitionError(str(e), profile=raw.slug, origin=raw.origin) from None


def make_resolver(
    collectors: Sequence[Collector], *, strict: bool = True, before: Resolver | None = None
) -> Resolver | None:
    """Combine the params and collections of all sources; return `None` if there are none.

    If two have the same name, the first one is used, and the second one is reported as a conflict.

    Args:
        collectors: The results of the loads.
        strict: Whether a value of an undefined param is an error.
        before: The previous resolver. If one of its collections was removed but is still inherited, it is kept,
            and a conflict names all that inherit it.
    """
    definitions: dict[str, Param] = {}
    collections: dict[str, Collection] = {}
    conflicts: list[ParamError] = []
    for collector in collectors:
        for name, param in collector.params.items():
            if definitions.setdefault(name, param) != param:
                conflicts.append(_taken("param", name, definitions[name].origin, param.origin))
        for name, collection in collector.collections.items():
            if collections.setdefault(name, collection) != collection:
                conflicts.append(_taken("collection", name, collections[name].origin, collection.origin))
    classes = {
        slug: registered
        for collector in collectors
        for slug, registered in collector.profiles.items()
        if not isinstance(registered, RawProfile)
    }
    own = {slug: _params_of(cls) for slug, cls in classes.items() if cls.params or cls.profiles}
    # A profile without params can also be inherited. It adds nothing.
    taken_on = {name for c in (*collections.values(), *own.values()) for name in c.profiles}
    own.update({slug: _params_of(classes[slug]) for slug in taken_on & classes.keys() - own.keys()})
    for slug, collection in own.items():
        if slug in collections:
            conflicts.append(_taken("collection", slug, collections[slug].origin, collection.origin))
        if slug != GLOBAL:
            collections[slug] = collection
    kept = _still_in_use(collections, before) if before is not None else []
    collections.update({c.name: c for c in kept})
    if not definitions and not collections:
        return None
    resolver = Resolver(definitions, collections, strict=strict, conflicts=conflicts)
    for collection in kept:
        try:
            resolver.require_unused(collection.name)
        except ParamError as e:
            e.message = f"is gone, but {e.message}; it stays as it was until they do without it"
            e.origin = collection.origin
            resolver.conflicts = (*resolver.conflicts, e)
    return resolver


def _still_in_use(collections: Mapping[str, Collection], before: Resolver) -> list[Collection]:
    kept: dict[str, Collection] = {}
    waiting = [name for c in collections.values() for name in c.profiles]
    while waiting:
        name = waiting.pop()
        if name not in collections and name not in kept and name in before.collections and name != GLOBAL:
            kept[name] = before.collections[name]
            waiting += kept[name].profiles
    return list(kept.values())


def _taken(what: str, name: str, first: Origin | None, second: Origin | None) -> ParamError:
    return ParamError(
        f"the name is used twice: first at {first}, again at {second}",
        origin=second,
        field=f"{what} {name}",
        hint="Give one of the two another name",
    )


def _params_of(cls: type[BaseAppProfile]) -> Collection:
    place = line_of(cls, "params")
    return Collection(
        name=cls.slug,
        params=dict(cls.params),
        profiles=tuple(cls.profiles),
        origin=line_of(cls, "profiles") if cls.profiles else origin_of(cls),
        origins={**dict.fromkeys(cls.params, place), **_key_lines(place, cls.params)},
        judged=getattr(cls, "__profile_judged__", False),
    )


def _key_lines(place: Origin, keys: Iterable[str]) -> dict[str, Origin]:
    """Return the line of each key of a dictionary that begins at `place` in a Python file, if it is found."""
    linecache.checkcache(place.source)
    lines = linecache.getlines(place.source)[place.line - 1 :] if place.source.endswith(".py") and place.line else []
    left, found, depth = set(keys), {}, 0
    for number, line in enumerate(lines):
        for key in [k for k in left if f'"{k}"' in line or f"'{k}'" in line]:
            found[key] = Origin(place.source, place.line + number)
            left.discard(key)
        depth += sum(line.count(c) for c in "([{") - sum(line.count(c) for c in ")]}")
        if depth <= 0 or not left:
            break
    return found


def param_problems(resolver: Resolver | None, slugs: Collection_[str]) -> list[ProfileSpawnerError]:
    """Return the errors of params and collections that are not already errors of the profiles `slugs`."""
    if resolver is None:
        return []
    return [*resolver.conflicts, *(e for n, es in resolver.unavailable.items() if n not in slugs for e in es)]


async def make_snapshot(
    collectors: Sequence[Collector],
    *,
    generation: int,
    problems: Sequence[ProfileSpawnerError] = (),
    strict: bool = True,
) -> Snapshot:
    """Validate all collected profiles and create a snapshot.

    If a profile cannot be built, it is left out, and the reason is added to the snapshot's `problems`. The other
    profiles are not affected. If two profiles have the same slug, the later one is left out in the same way.
    """
    found: list[ProfileSpawnerError] = list(problems)
    entries: dict[str, Entry] = {}
    resolver = make_resolver(collectors, strict=strict)
    for collector in collectors:
        for slug, registered in collector.profiles.items():
            if slug in entries:
                found.append(duplicate(slug, entries[slug].origin, _origin(registered)))
                continue
            try:
                entries[slug] = await make_entry(registered, collector.source, resolver)
            except ProfileSpawnerError as e:
                e.profile = e.profile or slug
                found.append(e)
    found += param_problems(resolver, entries.keys())
    numbered = zip(itertools.count(), entries.values(), strict=False)
    ordered = [entry for _, entry in sorted(numbered, key=lambda pair: (pair[1].order, pair[0]))]
    return Snapshot(ordered, generation=generation, resolver=resolver, problems=found)


def direct_collector() -> Collector:
    """Return a copy of the registrations made outside of a load, in the configuration."""
    copy = Collector("configuration")
    copy.profiles.update(_direct.profiles)
    copy.params.update(_direct.params)
    copy.collections.update(_direct.collections)
    return copy


def with_availability(entry: Entry, reason: str) -> Entry:
    """Return a copy of `entry` that is marked as unavailable, with the reason."""
    return replace(entry, offer=replace(entry.offer, unavailable=reason))
