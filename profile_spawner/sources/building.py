"""Builds the next snapshot from all sources. A broken source keeps its last good version.

All code here is synchronous and runs in a worker thread, one build at a time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError, ProfileSpawnerError, SourceError, shorten
from profile_spawner.params.layers import Resolver
from profile_spawner.profiles.entry import Entry, with_availability
from profile_spawner.profiles.profile_params import make_resolver, param_problems
from profile_spawner.profiles.registry import direct_collector, duplicate
from profile_spawner.profiles.snapshot import Snapshot

from .changes import Change, changes_between
from .entries import EntryMaker, param_signature, place_of
from .settings import SourceSettings
from .units import Loaded, Source, Unit

__all__ = ["Builder", "Built"]

_DIRECT = "configuration:"


@dataclass
class _State:
    """The state of one unit.

    Attributes:
        seen: The unit at the last scan.
        good: The version that was last loaded and accepted.
        entries: The profiles of `good`, by slug.
        unloaded: Why the version of the last scan could not be read or loaded.
        unmade: Why profiles of `good` could not be created with the current params.
        conflicts: The current conflicts of its slugs with other units.
        refused: A loaded version that was not accepted. It may become valid with other params or without a conflict.
        refusal: Why `refused` was not accepted.
        needs: The siblings that its last load requested.
    """

    seen: Unit
    good: Loaded | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    unloaded: Sequence[ProfileSpawnerError] = ()
    unmade: Sequence[ProfileSpawnerError] = ()
    conflicts: Sequence[ProfileSpawnerError] = ()
    refused: Loaded | None = None
    refusal: Sequence[ProfileSpawnerError] = ()
    needs: frozenset[str] = frozenset()

    @property
    def problems(self) -> list[ProfileSpawnerError]:
        """The current errors of the unit."""
        return [*self.unloaded, *self.refusal, *self.conflicts, *self.unmade]


@dataclass(frozen=True)
class Built:
    """The result of one build.

    Attributes:
        snapshot: The next snapshot; the same object if nothing has changed.
        changes: The changes for users.
        loaded: The number of units that were loaded.
        seconds: The duration, in seconds.
        unavailable: The reasons why profiles cannot be started now, by slug.
    """

    snapshot: Snapshot
    changes: Sequence[Change]
    loaded: int
    seconds: float
    unavailable: Mapping[str, str]


class Builder:
    """Stores the last good version of every unit and builds snapshots from them.

    Args:
        settings: The configuration.
        sources: The sources of units, in order of precedence.
    """

    def __init__(self, settings: SourceSettings, sources: Sequence[Source]) -> None:
        self._settings = settings
        self._sources = sources
        self._states: dict[str, _State] = {}
        self._owners: dict[str, str] = {}
        self._signature: Any = None
        self._resolver: Resolver | None = None
        self._next_resolver: Resolver | None = None
        self._attempt = itertools.count(1)
        self._direct: Sequence[tuple[str, Any]] | None = None
        self._unavailable: Mapping[str, str] = {}
        self._unfinished = False
        self.unsettled = False
        self.snapshot = Snapshot()

    # ---------------------------------------------------------------------------------------------- a build

    def build(self, *, full: bool = False, retry: bool = False, hints: frozenset[str] | None = None) -> Built:
        """Scan all sources, load what has changed, and return the next snapshot.

        Args:
            full: Whether to read all files again.
            retry: Whether to load broken units again, even if they have not changed.
            hints: The changed paths; `None` if they are not known.
        """
        start = time.monotonic()
        units, changed = self._scan(full=full, retry=retry, hints=hints)
        # If a build is interrupted, its state is unknown, so the next build loads everything.
        again, self._unfinished = self._unfinished, True
        gone = [key for key in self._states if key not in units and key != _DIRECT]
        removed = [self._states.pop(key) for key in gone]
        candidates = self._load(changed, removed, units)
        direct = self._load_direct(again)
        if direct is not None:
            candidates[_DIRECT] = direct
        if not (changed or removed or candidates or again) and self.snapshot.generation:
            self._unfinished = False
            return Built(self.snapshot, (), 0, time.monotonic() - start, self._unavailable)
        order = [_DIRECT, *units]
        tried = {key: s.refused for key, s in self._states.items() if s.refused is not None and key not in candidates}
        self._accept({**candidates, **tried}, order)
        before, self.snapshot = self.snapshot, self._freeze(order)
        self._unfinished = False
        changes = changes_between(before.entries, self.snapshot.entries)
        self._unavailable = {s: e.offer.unavailable for s, e in self.snapshot.entries.items() if e.offer.unavailable}
        return Built(self.snapshot, changes, len(candidates), time.monotonic() - start, self._unavailable)

    def _scan(self, *, full: bool, retry: bool, hints: frozenset[str] | None) -> tuple[dict[str, Unit], list[Unit]]:
        """Return all units in order, and those that differ from the last scan."""
        known = {key: state.seen for key, state in self._states.items()}
        units = self._settled(known, full=full, hints=hints)
        changed: list[Unit] = []
        for key, unit in units.items():
            state = self._states.get(key)
            if state is None:
                self._states[key] = _State(unit)
                changed.append(unit)
                continue
            if self._unfinished or unit.digest != state.seen.digest or (retry and state.problems):
                changed.append(unit)
            state.seen = unit
        return units, changed

    def _settled(self, known: dict[str, Unit], *, full: bool, hints: frozenset[str] | None) -> dict[str, Unit]:
        """Scan repeatedly until no file is being written, for a limited time; keep old versions of the others."""
        deadline = time.monotonic() + 10 * self._settings.settle
        found: dict[tuple[str, str], Sequence[Unit]] = {}
        waiting: Sequence[Source] = self._sources
        while waiting:
            for source in waiting:
                units = source.scan(known, full=full, hints=hints)
                found[source.kind, source.name] = units
                known.update({u.key: u for u in units})
            full = False
            waiting = [source for source in waiting if source.unsettled]
            if waiting and time.monotonic() >= deadline:
                break
            if waiting:
                time.sleep(self._settings.settle / 2)
        self.unsettled = bool(waiting)
        return {u.key: u for source in self._sources for u in found[source.kind, source.name]}

    def _load(self, changed: Sequence[Unit], removed: Sequence[_State], units: Mapping[str, Unit]) -> dict[str, Loaded]:
        """Load the changed units and those that import them."""
        result: dict[str, Loaded] = {}
        for unit in changed:
            state = self._states[unit.key]
            state.unloaded = [unit.problem] if unit.problem else []
            state.refused, state.refusal = None, ()
        current = {key: s.good for key, s in self._states.items() if s.good is not None}
        attempt = next(self._attempt)
        # Documents come first: modules may use params that they define.
        for source in sorted(self._sources, key=lambda s: s.kind in ("python", "entry_points")):
            touched = [
                u for u in (*changed, *(s.seen for s in removed)) if (u.kind, u.source) == (source.kind, source.name)
            ]
            if not touched:
                continue
            wanted = self._with_dependants(touched, units)
            try:
                for loaded in source.load(wanted, attempt, {**current, **result}):
                    loaded.signature = param_signature(loaded.collector)
                    result[loaded.unit.key] = loaded
                    state = self._states[loaded.unit.key]
                    state.needs = loaded.needs
                    state.unloaded = list(loaded.problems)
                    state.refused, state.refusal = None, ()
            except Exception as e:  # noqa: BLE001 - what nobody thought of must not keep the other sources back
                for unit in (u for u in wanted if u.key not in result):
                    text = f"it could not be loaded: {type(e).__name__}: {shorten(str(e), 300)}"
                    self._states[unit.key].unloaded = [SourceError(text, origin=Origin(unit.name))]
        return result

    def _with_dependants(self, touched: Sequence[Unit], units: Mapping[str, Unit]) -> list[Unit]:
        wanted = {u.key for u in touched}
        names = {"*", *(u.short_name for u in touched)}
        home = (touched[0].kind, touched[0].source)
        seen = [s for s in self._states.values() if s.needs and (s.seen.kind, s.seen.source) == home]
        others = [(s.seen, s.needs) for s in seen]
        grown = True
        while grown:
            grown = False
            for unit, needs in others:
                if unit.key not in wanted and needs & names:
                    wanted.add(unit.key)
                    names.add(unit.short_name)
                    grown = True
        return [u for key, u in units.items() if key in wanted and u.problem is None]

    def _load_direct(self, again: bool) -> Loaded | None:
        """Return the profiles that the hub's configuration registered, if they are new or requested again."""
        collector = direct_collector()
        now = [*collector.profiles.items(), *collector.params.items(), *collector.collections.items()]
        if not again and self._direct is not None and len(now) == len(self._direct):
            pairs = zip(now, self._direct, strict=True)
            if all(a[0] == b[0] and a[1] is b[1] for a, b in pairs):
                return None
        first = self._direct is None
        self._direct = now
        unit = Unit(_DIRECT, "configuration", "configuration", "configuration", "")
        self._states.setdefault(_DIRECT, _State(unit))
        return None if first and not now else Loaded(unit, collector, signature=param_signature(collector))

    # ---------------------------------------------------------------------------------------------- accepting

    def _accept(self, candidates: dict[str, Loaded], order: Sequence[str]) -> None:
        """Accept the valid candidates; keep the last good version of the others.

        A candidate that fails may have been what another one relied on, so the rest is looked at again without it.
        """
        left = dict(candidates)
        for key, loaded in candidates.items():
            if loaded.problems and self._states[key].good is not None:
                del left[key]
        with EntryMaker() as maker:
            while True:
                versions = {k: v for k in order if (v := left.get(k) or self._good(k)) is not None}
                resolver = self._new_resolver(versions)
                owners, conflicts = self._claim(versions)
                failed = {k: p for k, p in conflicts.items() if k in left}
                wanted = {k: v for k, v in left.items() if k not in failed or self._states[k].good is None}
                made = {key: maker.make(loaded, resolver) for key, loaded in wanted.items()}
                for key, (_, problems) in made.items():
                    if problems:
                        failed.setdefault(key, []).extend(problems)
                rejected = [k for k in failed if self._states[k].good is not None]
                for key in rejected:
                    state = self._states[key]
                    state.refused, state.refusal = left.pop(key), failed[key]
                if not rejected:
                    break
            for key, loaded in left.items():
                state = self._states[key]
                state.good = loaded
                state.entries, state.unmade = made[key]
                state.refused, state.refusal = None, ()
            for key in versions:
                self._states[key].conflicts = conflicts.get(key, ())
            if resolver is not self._resolver:
                self._resolve_again([k for k in versions if k not in left], resolver, maker)
        self._owners = owners

    def _good(self, key: str) -> Loaded | None:
        state = self._states.get(key)
        return state.good if state is not None else None

    def _new_resolver(self, versions: Mapping[str, Loaded]) -> Resolver | None:
        """Return the resolver for these versions; the present one when no param has changed."""
        signature = [v.signature for v in versions.values() if v.signature is not None]
        if signature != self._signature:
            collectors = [v.collector for v in versions.values()]
            strict = not self._settings.permissive_params
            self._next_resolver = make_resolver(collectors, strict=strict, before=self._resolver) if signature else None
            self._signature = signature
        return self._next_resolver

    def _resolve_again(self, keys: Sequence[str], resolver: Resolver | None, maker: EntryMaker) -> None:
        """Create the entries of unchanged units again, because a param has changed."""
        for key in keys:
            state = self._states[key]
            assert state.good is not None
            entries, problems = maker.make(state.good, resolver)
            why = {p.profile: str(p) for p in problems}
            gone = {s: with_availability(e, why[s]) for s, e in state.entries.items() if s in why and s not in entries}
            state.entries = {**state.entries, **entries, **gone}
            state.unmade = problems
        self._resolver = resolver

    # ---------------------------------------------------------------------------------------------- one slug, one owner

    def _claim(self, versions: Mapping[str, Loaded]) -> tuple[dict[str, str], dict[str, list[ProfileSpawnerError]]]:
        """Decide which unit owns a slug. The current owner keeps it, unless `allow_overrides` says otherwise."""
        owners: dict[str, str] = {}
        conflicts: dict[str, list[ProfileSpawnerError]] = {}
        for key, version in versions.items():
            for slug in version.collector.profiles:
                other = owners.setdefault(slug, key)
                if other == key:
                    continue
                first, second = (key, other) if self._owners.get(slug) == key else (other, key)
                if self._may_override(second, first):
                    owners[slug] = second
                    continue
                owners[slug] = first
                if not self._may_override(first, second):
                    places = [place_of(versions[k].collector.profiles[slug]) for k in (first, second)]
                    conflicts.setdefault(second, []).append(duplicate(slug, *places))
        return owners, conflicts

    def _may_override(self, key: str, other: str) -> bool:
        upper, lower = self._states[key].seen, self._states[other].seen
        for name in (upper.kind, upper.source, upper.name):
            allowed = self._settings.allow_overrides.get(name, ())
            if any(n in allowed for n in (lower.kind, lower.source, lower.name)):
                return True
        return False

    # ---------------------------------------------------------------------------------------------- freezing

    def _freeze(self, order: Sequence[str]) -> Snapshot:
        entries = []
        problems: list[ProfileSpawnerError] = []
        for key in order:
            state = self._states.get(key)
            if state is None:
                continue
            problems += state.problems
            entries += [e for slug, e in state.entries.items() if self._owners.get(slug) == key]
        problems += _alias_problems(entries)
        problems += param_problems(self._resolver, {e.slug for e in entries})
        entries.sort(key=lambda e: e.order)
        problems = list({str(p): p for p in problems}.values())
        before = self.snapshot
        same = before.generation and before.resolver is self._resolver and len(entries) == len(before.entries)
        same = same and all(a is b for a, b in zip(entries, before.entries.values(), strict=True))
        generation = before.generation if same else before.generation + 1
        return Snapshot(entries, generation=generation, resolver=self._resolver, problems=problems)

    def problems_by_unit(self, kind: str) -> Mapping[str, Sequence[ProfileSpawnerError]]:
        """Return the errors of each unit of one kind of source, by the unit's short name."""
        return {s.seen.short_name: tuple(s.problems) for s in self._states.values() if s.seen.kind == kind}

    def profile_counts(self) -> Mapping[str, int]:
        """Return how many profiles are served: `current`, and `stale` ones of sources that are broken now."""
        stale = sum(len(s.entries) for s in self._states.values() if s.problems)
        return {"current": max(0, len(self.snapshot) - stale), "stale": stale}

    def counts(self) -> Mapping[str, int]:
        """Return how many units there are by state: `good`, `stale` (an older version is served), `broken`."""
        counts = {"good": 0, "stale": 0, "broken": 0}
        for key, state in self._states.items():
            if key == _DIRECT and not state.entries:
                continue
            counts["good" if not state.problems else "stale" if state.entries else "broken"] += 1
        return counts


def _alias_problems(entries: Sequence[Entry]) -> Iterator[ProfileDefinitionError]:
    """Yield the aliases that have no effect, because another profile has the name."""
    owners = {entry.slug: entry for entry in entries}
    for entry in entries:
        for alias in entry.offer.aliases:
            owner = owners.setdefault(alias, entry)
            if owner is not entry:
                message = f"the alias {alias!r} has no effect: the profile {owner.slug!r} has this name"
                yield ProfileDefinitionError(message, profile=entry.slug, origin=entry.origin, field="aliases")
