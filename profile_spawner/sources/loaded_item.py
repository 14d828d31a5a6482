"""What was loaded from an item, and how a new version is joined with the last good one.

An item has parts: each of its profiles, and its params with its collections. A valid part is used. A part that is not
keeps its last good version, if it has one. While an item has errors, nothing of it is removed, because what is missing
may be what the errors are about.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.registry import Collector

if TYPE_CHECKING:
    from .source_items import SourceItem

__all__ = ["LoadedItem"]


@dataclass
class LoadedItem:
    """The result of loading an item. It is not changed when it is loaded.

    Attributes:
        item: The item.
        collector: What it registered; incomplete if there are `problems`.
        problems: The errors.
        needs: Short names of items of the same source; when one of them changes, this one is loaded again. `*` stands
            for all of them.
        keep: What must live as long as the profiles of the item.
        earlier: The same for profiles of earlier versions that are still used.
        stale: The profiles that are those of an earlier version.
        rights: What the hub allows to documents of this source; `None` for what is not restricted.
    """

    item: SourceItem
    collector: Collector
    problems: list[ProfileSpawnerError] = field(default_factory=list)
    needs: frozenset[str] = frozenset()
    keep: Any = None
    earlier: tuple[Any, ...] = ()
    stale: frozenset[str] = frozenset()
    rights: DataPolicy | None = None

    @functools.cached_property
    def signature(self) -> Any:
        """What the resolver of params needs of it; `None` when that is nothing."""
        taking_part = [
            (slug, repr(p.get("params")), tuple(p.get("profiles")), repr(p.get("meta")))
            for slug, p in self.collector.profiles.items()
            if p.get("params") or p.get("profiles")
        ]
        if not (taking_part or self.collector.params or self.collector.collections):
            return None
        return (repr(self.collector.params), repr(self.collector.collections), taking_part)

    def completed(self, good: LoadedItem) -> LoadedItem:
        """Return this version with everything that only the last good one has."""
        new, old = self.collector, good.collector
        return self._with(
            good,
            profiles={**old.profiles, **new.profiles},
            params={**old.params, **new.params},
            collections={**old.collections, **new.collections},
        )

    def with_profiles_of(self, good: LoadedItem | None, slugs: Collection[str]) -> LoadedItem:
        """Return a version in which these profiles are those of the last good one, or are not there."""
        known = {} if good is None else good.collector.profiles
        chosen = {s: known.get(s) if s in slugs else p for s, p in self.collector.profiles.items()}
        return self._with(good, profiles={slug: profile for slug, profile in chosen.items() if profile is not None})

    def with_params_of(self, good: LoadedItem | None) -> LoadedItem:
        """Return a version with the params and collections of the last good one, or without any."""
        source = Collector() if good is None else good.collector
        return self._with(good, params=source.params, collections=source.collections)

    def without_collection(self, name: str) -> LoadedItem:
        """Return a version without this collection."""
        return self._with(None, collections={n: c for n, c in self.collector.collections.items() if n != name})

    def only(self, slug: str) -> LoadedItem:
        """Return a version with only this profile, and without params."""
        own = {s: p for s, p in self.collector.profiles.items() if s == slug}
        return self._with(None, profiles=own, params={}, collections={})

    def adds_nothing_to(self, good: LoadedItem) -> bool:
        """Return whether it has the same parts as the last good version."""
        new, old = self.collector, good.collector
        same = list(new.profiles) == list(old.profiles)
        same = same and all(profile is old.profiles[slug] for slug, profile in new.profiles.items())
        return same and new.params == old.params and new.collections == old.collections

    def _with(self, good: LoadedItem | None, **parts: Mapping[str, Any]) -> LoadedItem:
        collector = Collector(self.collector.source)
        for name in ("profiles", "params", "collections"):
            getattr(collector, name).update(parts.get(name, getattr(self.collector, name)))
        old = {} if good is None else good.collector.profiles
        stale = frozenset(slug for slug, profile in collector.profiles.items() if old.get(slug) is profile)
        kept = self.earlier if good is None else (*self.earlier, good.keep, *good.earlier)
        earlier = tuple(dict.fromkeys(one for one in kept if one is not None and one is not self.keep))
        return replace(self, collector=collector, earlier=earlier, stale=stale)
