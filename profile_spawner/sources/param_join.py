"""Joins the params of all items, and finds the item whose params make something of others fail."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.params.layers import GLOBAL, Resolver
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.profile import Profile
from profile_spawner.profiles.profile_params import make_resolver, named_params

from .loaded_item import LoadedItem

__all__ = ["Made", "ParamJoin", "mistakes_in", "works"]

Made = tuple[dict[str, Entry], list[ProfileSpawnerError]]
"""The valid entries of an item by slug, and the errors of its other profiles."""


@dataclass(frozen=True)
class ParamJoin:
    """The items that are to be used together.

    Attributes:
        versions: The items, by key.
        owners: The key of the item whose profile is served, by slug.
        before: The previous resolver.
        strict: Whether a value of an undefined param is an error.
        uses: Returns the params that a profile of an item used when it was built last.
    """

    versions: Mapping[str, LoadedItem]
    owners: Mapping[str, str]
    before: Resolver | None
    strict: bool
    uses: Callable[[str, Profile], Collection[str]]

    @property
    def signature(self) -> object:
        """What the resolver depends on; `None` when there are no params."""
        params = [version.signature for version in self.versions.values() if version.signature is not None]
        slugs = ((slug, key) for key, version in self.versions.items() for slug in version.collector.profiles)
        names = {name for version in self.versions.values() for name in version.collector.collections}
        contested = {slug: self.owners.get(slug) for slug, key in slugs if not self._owns(key, slug) or slug in names}
        return (params, contested, self.removed) if params or self.removed else None

    @functools.cached_property
    def removed(self) -> Mapping[str, Sequence[str]]:
        """Params that are defined no more, with the profiles and collections that still use them."""
        defined = {name for version in self.versions.values() for name in version.collector.params}
        gone = self.before.definitions.keys() - defined if self.before is not None else set()
        users: dict[str, list[str]] = {}
        for key, version in self.versions.items() if gone else ():
            for slug, profile in version.collector.profiles.items():
                if self._owns(key, slug) and profile.takes_params:
                    for name in gone & {*named_params(profile), *profile.get("params"), *self.uses(key, profile)}:
                        users.setdefault(name, []).append(slug)
            for collection in version.collector.collections.values():
                for name in gone & collection.params.keys():
                    users.setdefault(name, []).append(collection.name)
        return dict(sorted(users.items()))

    def _owns(self, key: str, slug: str) -> bool:
        """Return whether the profile of an item is served. An earlier version may have one that no version here has."""
        return self.owners.get(slug, key) == key

    def resolver(self) -> Resolver | None:
        """Return the resolver of all params. It may raise anything, because values of authors take part."""
        keys = {id(version.collector): key for key, version in self.versions.items()}
        return make_resolver(
            [version.collector for version in self.versions.values()],
            strict=self.strict,
            before=self.before,
            owned=lambda collector, slug: self._owns(keys[id(collector)], slug),
            removed=self.removed,
        )

    def culprit(self, candidates: Iterable[str]) -> str:
        """Return the candidate without which the params of the others can be joined, or else the last item."""
        for key in candidates:
            with contextlib.suppress(BaseException):
                replace(self, versions={k: v for k, v in self.versions.items() if k != key}).resolver()
                return key
        return list(self.versions)[-1]

    def blamed(
        self,
        suspects: Mapping[str, LoadedItem | None],
        new: Collection[str],
        resolver: Resolver,
        made: Mapping[str, Made],
        present: Callable[[str], Mapping[str, Entry]],
        make: Callable[[LoadedItem, Resolver | None], Made],
    ) -> tuple[str, ProfileSpawnerError] | None:
        """Return a suspect whose params make something of another item fail, and the error for it.

        What worked before must go on to work. Profiles that did not work before have a right only not to fail because
        of `global`.

        Args:
            suspects: The items whose params are new or have changed, by key, with their versions before.
            new: The keys of the items that are new or have changed.
            resolver: The resolver of all versions.
            made: What was made of the items with it.
            present: Returns the present entries of an item.
            make: Makes the entries of an item with another resolver.
        """
        resolvers: dict[frozenset[str], Resolver | None] = {}

        def without(some: Collection[str]) -> Resolver | None:
            if frozenset(some) not in resolvers:
                before = {key: suspects[key] or self.versions[key].with_params_of(None) for key in some}
                resolvers[frozenset(some)] = replace(self, versions={**self.versions, **before}).resolver()
            return resolvers[frozenset(some)]

        def works_without(key: str, slug: str, left_out: Collection[str]) -> bool:
            return works(slug, make(self.versions[key].only(slug), without(left_out))[0])

        def is_fine(name: str, left_out: Collection[str]) -> bool:
            other = without(left_out)
            return other is None or name not in other.mistakes

        for key, slug in self._failing(made, new, present):
            served = works(slug, present(key))
            defines = [s for s in suspects if served or GLOBAL in self.versions[s].collector.collections]
            suspect = _needed([s for s in defines if s != key], functools.partial(works_without, key, slug))
            if suspect is not None:
                errors = [p for p in made[key][1] if p.profile == slug] or resolver.unavailable.get(slug, ())
                return suspect, _breaks(self.versions[suspect], slug, errors)
        for name in self._new_mistakes(resolver, new):
            suspect = _needed(list(suspects), functools.partial(is_fine, name))
            if suspect is not None:
                return suspect, _breaks(self.versions[suspect], name, resolver.mistakes[name])
        return None

    def _failing(
        self, made: Mapping[str, Made], new: Collection[str], present: Callable[[str], Mapping[str, Entry]]
    ) -> Iterator[tuple[str, str]]:
        """Yield the profiles that fail now; of items that have not changed, those that worked before."""
        for key, (entries, _) in made.items():
            before = [slug for slug in present(key) if works(slug, present(key))]
            slugs = self.versions[key].collector.profiles if key in new else before
            yield from ((key, slug) for slug in slugs if not works(slug, entries))

    def _new_mistakes(self, resolver: Resolver, new: Collection[str]) -> list[str]:
        """Return what has a mistake now, had none before, and does not belong to a changed item."""
        known = self.before.mistakes if self.before is not None else {}
        changed = [self.versions[key].collector for key in new]
        own = {name for one in changed for name in (*one.collections, *one.profiles)}
        return [name for name in resolver.mistakes if name not in known and name not in own]


def mistakes_in(loaded: LoadedItem, resolver: Resolver | None) -> dict[str, Sequence[ProfileSpawnerError]]:
    """Return the errors of the collections that an item defines, if they are used, by name."""
    if resolver is None:
        return {}
    used = [name for name, one in loaded.collector.collections.items() if resolver.collections.get(name) is one]
    return {name: resolver.mistakes[name] for name in used if name in resolver.mistakes}


def _needed(suspects: Sequence[str], heals: Callable[[Sequence[str]], bool]) -> str | None:
    """Return one of the suspects that are to blame together; `None` if it does not help to leave all of them out."""
    if not suspects or not heals(suspects):
        return None
    guilty = list(suspects)
    for one in suspects:
        others = [key for key in guilty if key != one]
        if others and heals(others):
            guilty = others
    return guilty[0]


def works(slug: str, entries: Mapping[str, Entry]) -> bool:
    """Return whether a profile is among these entries and can be started."""
    return slug in entries and not entries[slug].offer.unavailable


def _breaks(loaded: LoadedItem, name: str, errors: Sequence[ProfileSpawnerError]) -> SourceError:
    """Return the error for an item whose params make something of another item fail, with the line to correct."""
    why = str(errors[0]) if errors else "it cannot be built"
    defined = [param.origin for param in loaded.collector.params.values() if param.name in why]
    collections = [one.origin for one in loaded.collector.collections.values()]
    places = [place for place in (*(e.origin for e in errors), *defined, *collections) if place is not None]
    own = [place for place in places if place.source.startswith(loaded.item.name)]
    return SourceError(
        f"{name!r} of another document or module would fail with the params of this one: {why}",
        origin=own[0] if own else Origin(loaded.item.name),
        hint="Correct it, or first change what uses its params",
    )
