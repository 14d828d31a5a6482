"""`Snapshot`, an immutable set of profiles: finds, offers, checks and builds them.

A page or a spawn uses one snapshot from beginning to end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cachetools import LRUCache

from profile_spawner.errors import ProfileSpawnerError, shorten, without_warnings
from profile_spawner.params.evaluator import Resolved
from profile_spawner.params.layers import Resolver
from profile_spawner.texts import Text, marked

from .access import UserInfo
from .base import ProfileBuild
from .context import ServerContext
from .entry import Entry, effective_values, example_facts, unusable
from .linting import lint_defaults, lint_fields
from .param_options import value_of_choice
from .patterns import one_request
from .profile import Profile
from .profile_params import (
    chosen_values,
    examples_in,
    param_options,
    refuse_sensitive,
    refuse_untrusted,
    within_constraint,
)
from .selection import (
    Offer,
    Problem,
    Rejection,
    Selection,
    default_selection,
    form_field,
    missing_value,
    select,
)

__all__ = [
    "MISTAKE",
    "Offers",
    "Snapshot",
]

MISTAKE = marked(
    "“%(name)s” cannot be started because of a mistake in its definition. Your administrator finds the details in "
    "the hub's log. You can choose another profile."
)
_log = logging.getLogger(__name__)


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


class Snapshot:
    """An immutable set of profiles, used until the next reload.

    Args:
        entries: In the order in which they are shown.
        generation: A number that increases with every reload.
        resolver: Resolves params; `None` without any.
        problems: The errors of profiles that could not be loaded, and warnings about sources.

    Attributes:
        reported: `problems` as they were given.
        problems: These, and the warnings about the entries.
        notes: What works as written in the entries, and only `validate` mentions.
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
        self.reported = tuple(problems)
        served = self.entries.values()
        found = [warning for entry in served for warning in entry.warnings]
        self.notes = tuple(warning for warning in found if warning.level == "note")
        warnings = (*(w for w in found if w.level != "note"), *lint_defaults(served), *lint_fields(served))
        self.problems = tuple({str(p): p for p in (*problems, *warnings)}.values())
        aliases: dict[str, str] = {}
        for entry in self.entries.values():
            for alias in entry.offer.aliases:
                aliases.setdefault(alias, entry.slug)
        self._aliases: Mapping[str, str] = MappingProxyType(aliases)
        self._all_open = all(e.offer.access.is_open for e in self.entries.values())
        self._groups = frozenset().union(*(e.offer.access.groups or () for e in self.entries.values()))
        self._users = frozenset().union(*(e.offer.access.users or () for e in self.entries.values()))
        self._hooks = any(e.offer.access.hook for e in self.entries.values())
        self._visible: LRUCache[Any, tuple[Entry, ...]] = LRUCache(256)
        self._logged: LRUCache[tuple[str, str], None] = LRUCache(256)

    @property
    def errors(self) -> list[ProfileSpawnerError]:
        """The problems that are not only warnings."""
        return without_warnings(self.problems)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, slug: str) -> Entry | None:
        """Return the profile with this slug or alias."""
        entry = self.entries.get(slug)
        if entry is None and slug in self._aliases:
            entry = self.entries.get(self._aliases[slug])
        return entry

    def reasons(self, slug: str) -> list[ProfileSpawnerError]:
        """Return why a profile cannot be used, for administrators."""
        unavailable = self.resolver.unavailable.get(slug, ()) if self.resolver is not None else ()
        return list(dict.fromkeys([*unavailable, *(p for p in self.problems if p.profile == slug)]))

    def audience(self, user: UserInfo) -> Any:
        """Return a key that is equal for users who see the same profiles, or `None` if every user must be checked."""
        if self._all_open:
            return ()
        if self._hooks:
            return None
        groups = frozenset(g for g in (g.lower() for g in user.groups) if g in self._groups)
        name = user.name.lower()
        return (groups, name if name in self._users else "")

    def visible_to(self, user: UserInfo) -> tuple[Entry, ...]:
        """Return the profiles that `user` may use, in order."""
        key = self.audience(user)
        visible = self._visible.get(key) if key is not None else None
        if visible is None:
            visible = tuple(e for e in self.entries.values() if self._all_open or e.offer.access.allows(user))
            if key is not None:
                self._visible[key] = visible
        return visible

    def default_for(self, user: UserInfo) -> str | None:
        """Return the default slug for `user`."""
        visible = self.visible_to(user)
        usable = [e for e in visible if not e.offer.unavailable] or visible
        return next((e.slug for e in usable if e.offer.default), usable[0].slug if usable else None)

    def offers_for(self, user: UserInfo) -> Offers:
        """Return the profiles that `user` may choose."""
        return Offers(self, user)

    def select(self, request: Any, user: UserInfo, *, others: bool = False) -> Selection | Rejection:
        """Turn a request of `user` into a valid choice, or return the errors. Never raises.

        Args:
            request: The `user_options`, of any shape.
            user: The user who sent the request.
            others: Whether options that the profile does not have are kept as they are.
        """
        try:
            with one_request():
                return self._select(request, user, others=others)
        except BaseException:  # noqa: BLE001 - a declared format or an author's value may fail in any way
            slug = request.get("profile") if isinstance(request, Mapping) else None
            entry = self.find(slug) if isinstance(slug, str) else None
            name = entry.offer.display_name if entry is not None else shorten(slug)
            _log.exception("The choice of %s cannot be checked", shorten(name))
            return Rejection((Problem("profile", Text(MISTAKE, name=name)),), entry.slug if entry is not None else None)

    def _select(self, request: Any, user: UserInfo, *, others: bool) -> Selection | Rejection:
        default = None
        if not isinstance(request, Mapping) or not request.get("profile"):
            default = self.default_for(user)
        result = select(request, user, self.offers_for(user), default, others=others)
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
            for problem in param.problems(value_of_choice(param, selection.values[option.name])):
                text = f"“{option.display_name}”: {problem}."
                problems.append(Problem(form_field(selection.slug, option.name), text))
        return Rejection(tuple(problems), selection.slug) if problems else selection

    def takes_params(self, entry: Entry) -> bool:
        """Return whether params can decide on a profile, so that layers of params are needed to build it."""
        return self.resolver is not None and entry.profile.takes_params

    async def build(self, selection: Selection, context: ServerContext, **layers: Any) -> ProfileBuild:
        """Build everything that a server needs.

        Args:
            selection: A choice that `select()` returned for this snapshot.
            context: The context of the server.
            layers: Further layers of params, in the format of `Resolver.resolve`.

        Raises:
            BuildError: when a hook fails.
            ConflictError: when two parts use the same name.
        """
        return (await self.build_and_record(selection, context, **layers))[0]

    async def build_and_record(
        self, selection: Selection, context: ServerContext, **layers: Any
    ) -> tuple[ProfileBuild, dict[str, Any]]:
        """Build everything that a server needs, as `build` does.

        Returns:
            The result, and the params that the profile uses as plain JSON, with sources and without secrets.
        """
        profile = self.entries[selection.slug].profile
        params = self.resolve(profile, selection, **{**layers, "facts": context.facts(selection.slug)})
        return await profile.build(context, params, selection), params.record(used=True)

    def record(self, selection: Selection, **layers: Any) -> dict[str, Any]:
        """Return the resolved params of a server as plain JSON, with sources and without secrets."""
        return self.resolve(self.entries[selection.slug].profile, selection, **layers).record()

    async def personal(self, entry: Entry, **layers: Any) -> Entry:
        """Return a profile with the defaults, bounds and effective values of a server with further layers of params.

        If the params cannot be resolved with these layers, the profile is returned as unavailable, and the reason is
        logged.

        Args:
            entry: An entry of this snapshot.
            layers: In the format of `Resolver.resolve`.
        """
        profile, resolver = entry.profile, self.resolver
        if resolver is None or not profile.takes_params or entry.offer.unavailable:
            return entry
        own = tuple(o for o in entry.offer.options if o.param is None)
        try:
            params = self._resolve(profile, {}, layers)
            enforced = layers.get("enforced") or {}
            # Only options that every user may choose; the choice itself is checked against the profile.
            known = {o.param for o in entry.offer.options}
            chosen = (o for o in param_options(profile, resolver, params, {o.name for o in own}) if o.param in known)
            options = (*own, *(within_constraint(o, enforced[o.param]) if o.param in enforced else o for o in chosen))
            offer = replace(entry.offer, options=options)
            selection = default_selection(offer)
            if selection.user_options:
                params = self._resolve(profile, chosen_values(options, selection, resolver), layers)
            build = await profile.build(ServerContext.example(), params, selection)
        except ProfileSpawnerError as e:
            if (entry.slug, str(e)) not in self._logged:
                self._logged[entry.slug, str(e)] = None
                _log.warning("Profiles: %s cannot be used by a user: %s", entry.slug, shorten(str(e), 1000))
            return unusable(entry)
        return replace(entry, offer=offer, effective=effective_values(build, examples_in(profile, params)))

    def resolve(self, profile: Profile, selection: Selection | None, **layers: Any) -> Resolved:
        """Return the values of the params for one server; without a selection with examples of what users must choose.

        Args:
            profile: The profile.
            selection: What the user chose.
            layers: In the format of `Resolver.resolve`.
        """
        if self.resolver is None or not profile.takes_params:
            return Resolver().resolve()
        offer = self.entries[profile.slug].offer
        return self._resolve(
            profile, chosen_values(offer.options, selection or default_selection(offer), self.resolver), layers
        )

    def _resolve(self, profile: Profile, spawn: Mapping[str, Any], layers: Mapping[str, Any]) -> Resolved:
        assert self.resolver is not None
        facts = {**(layers.get("facts") or example_facts(profile.slug)), "profile": profile.slug}
        layers = {name: value for name, value in layers.items() if name != "facts"}
        resolved = self.resolver.resolve(profile=profile.slug, spawn=spawn, facts=facts, **layers)
        refuse_untrusted(profile, self.resolver, resolved)
        if spawn:
            refuse_sensitive(profile, self.resolver, resolved)
        return resolved

    def check_choice(self, selection: Selection, **layers: Any) -> Selection | Rejection:
        """Check the user's values of params against further layers, and whether all that are needed have one.

        Args:
            selection: A choice that `select()` returned for this snapshot.
            layers: As `Resolver.resolve` takes them.

        Raises:
            ParamError: when something else is wrong with the layers.
        """
        entry = self.entries[selection.slug]
        chosen = {o.param: o for o in entry.offer.options if o.param is not None and o.name in selection.user_options}
        needed = (
            {o.param: o for o in entry.offer.options if o.param is not None and o.required} if self.resolver else {}
        )
        if not chosen and not needed:
            return selection
        resolved = self.resolve(entry.profile, selection, **layers)
        problems = [missing_value(selection.slug, option) for name, option in needed.items() if name not in resolved]
        for name, option in chosen.items():
            if (error := resolved.error_of(name)) is not None:
                expected = f"; expected {error.expected}" if error.expected else ""
                text = f"“{option.display_name}”: {error.message}{expected}."
                problems.append(Problem(form_field(selection.slug, option.name), text))
        return Rejection(tuple(problems), selection.slug) if problems else selection
