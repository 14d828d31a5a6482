"""Makes the next snapshot from the current state of all sources. A broken item keeps its last good version.

All code here is synchronous and runs in a worker thread, one call at a time.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import (
    Origin,
    ProfileDefinitionError,
    ProfileSpawnerError,
    ProfileWarning,
    SourceError,
    described,
    raised_at,
    without_warnings,
)
from profile_spawner.params.layers import GLOBAL, Resolver
from profile_spawner.profiles.entry import Entry, Traits, unusable
from profile_spawner.profiles.profile import Profile
from profile_spawner.profiles.profile_params import param_problems
from profile_spawner.profiles.registry import Collector, direct_collector, duplicate
from profile_spawner.profiles.snapshot import Snapshot

from .changes import ProfileChange, changes_between
from .loading import EntryMaker, reasons
from .param_join import Made, ParamJoin, mistakes_in, works
from .settings import SourceSettings, may_override, override_problems
from .source_items import LoadedItem, LoadSession, Source, SourceItem
from .trial_client import TrialClient

__all__ = ["HangingItem", "ReconcileResult", "Reconciler"]

_DIRECT = "configuration:"


@dataclass
class _ItemState:
    """The state of one item.

    Attributes:
        seen: The item at the last scan.
        good: The version that was last loaded and accepted.
        entries: The profiles of `good`, by slug.
        unloaded: Why the version of the last scan could not be read or loaded.
        unmade: Why profiles of `good` could not be created with the current params.
        conflicts: The current conflicts of its slugs with other items.
        newest: The loaded version, if parts of it are not used. They may become valid with other params, or without a
            conflict.
        refusal: Why these parts are not used.
        needs: The items of its source that its last load requested.
    """

    seen: SourceItem
    good: LoadedItem | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    unloaded: Sequence[ProfileSpawnerError] = ()
    unmade: Sequence[ProfileSpawnerError] = ()
    conflicts: Sequence[ProfileSpawnerError] = ()
    newest: LoadedItem | None = None
    refusal: Sequence[ProfileSpawnerError] = ()
    needs: frozenset[str] = frozenset()

    @property
    def problems(self) -> list[ProfileSpawnerError]:
        """The current errors of the item."""
        return [*self.unloaded, *self.refusal, *self.conflicts, *self.unmade]

    @property
    def stale(self) -> Collection[str]:
        """The profiles of an earlier version of the item."""
        if self.good is None or self.good.item.digest != self.seen.digest:
            return self.entries.keys()
        return self.entries.keys() & self.good.stale


_Refusals = dict[str, list[ProfileSpawnerError]]


@dataclass(frozen=True)
class _Together:
    """Items that can be used together."""

    join: ParamJoin
    resolver: Resolver | None
    conflicts: Mapping[str, list[ProfileSpawnerError]]
    made: dict[str, Made]

    def failing(self, key: str) -> list[str]:
        """Return the profiles of an item that were not made, or that cannot be started."""
        return [slug for slug in self.join.versions[key].collector.profiles if not works(slug, self.made[key][0])]

    def errors(self, key: str, slugs: Iterable[str]) -> Iterator[ProfileSpawnerError]:
        """Yield why profiles of an item do not work."""
        problems = self.made[key][1]
        unavailable = self.resolver.unavailable if self.resolver is not None else {}
        for slug in slugs:
            yield from [p for p in problems if p.profile == slug] or unavailable.get(slug, ()) or problems


@dataclass(frozen=True)
class ReconcileResult:
    """The result of one call.

    Attributes:
        snapshot: The next snapshot; the same object if nothing has changed.
        changes: The changes for users.
        loaded: The number of items that were loaded.
    """

    snapshot: Snapshot
    changes: Sequence[ProfileChange]
    loaded: int


@dataclass(frozen=True)
class HangingItem:
    """An item whose load or build in the hub does not end.

    Attributes:
        item: The item.
        thread: The thread in which it runs.
        problem: The error for administrators, with the line.
    """

    item: SourceItem
    thread: int
    problem: SourceError


class _Progress:
    """Which item is loaded or built now, in which thread, and when it last went on. It is read from other threads."""

    def __init__(self) -> None:
        self.abandoned = False
        self._current: tuple[SourceItem, int, float] | None = None

    @contextlib.contextmanager
    def of(self, item: SourceItem) -> Iterator[None]:
        if self.abandoned:
            raise SystemExit("another thread has taken over")
        outer, self._current = self._current, (item, threading.get_ident(), time.monotonic())
        try:
            yield
        finally:
            self._current = outer
            self.goes_on()

    def goes_on(self) -> None:
        """Measure from now on: one of the item's profiles is done."""
        if self._current is not None:
            self._current = (*self._current[:2], time.monotonic())

    def hangs(self, patience: float) -> HangingItem | None:
        current = self._current
        if current is None or time.monotonic() - current[2] < patience:
            return None
        item, thread, _ = current
        frames = traceback.extract_stack(sys._current_frames().get(thread))  # noqa: SLF001
        own = [f for f in frames if f.filename == item.name or f.filename.startswith(f"{item.name}/")]
        problem = SourceError(
            "it does not come to an end while the hub loads it, although it did in the trial",
            origin=Origin(own[-1].filename, own[-1].lineno or 0) if own else Origin(item.name),
            hint="Look for an endless loop. Its thread may use the processor until the hub is restarted",
        )
        return HangingItem(item, thread, problem)


class Reconciler:
    """Stores the last good version of every item and makes snapshots of them.

    Args:
        settings: The settings.
        sources: The sources, in order of precedence.
        trial: Where items are loaded first; `None` loads them in this process at once.
        settle: The minimum time since the last change of a file before it is read, in seconds.
        traits: See `make_entry`.

    Attributes:
        snapshot: The last snapshot.
        trial_of_data: Whether documents are loaded in the trial worker first, too.
        unsettled: Whether a file was still being written at the last scan.
    """

    def __init__(
        self,
        settings: SourceSettings,
        sources: Sequence[Source],
        trial: TrialClient | None,
        settle: float,
        traits: Traits | None = None,
    ) -> None:
        self._strict = not settings.permissive_params
        self._overrides: Mapping[str, Sequence[str]] = dict(settings.source_overrides)
        self._mistakes = override_problems(self._overrides)
        self._sources = sources
        self._data = {(source.kind, source.name) for source in sources if not source.runs_code}
        self._trial = trial
        self._settle = settle
        self._traits = traits
        self._states: dict[str, _ItemState] = {}
        self._owners: dict[str, str] = {}
        self._signature: Any = None
        self._resolver: Resolver | None = None
        self._next_resolver: Resolver | None = None
        self._direct: Sequence[tuple[str, Any]] | None = None
        self._unfinished = False
        self._progress = _Progress()
        self._hanging: Mapping[str, HangingItem] = {}
        self.trial_of_data = True
        self.unsettled = False
        self.snapshot = Snapshot()

    # ---------------------------------------------------------------------------------------------- hanging items

    def hangs(self, patience: float) -> HangingItem | None:
        """Return the item of which one load or build takes longer than `patience` seconds here. From any thread."""
        return self._progress.hangs(patience)

    def without(self, hanging: HangingItem) -> Reconciler:
        """Return a copy for another thread, in which the item is refused until it changes.

        The hanging call keeps this object, and loads nothing more when it goes on.
        """
        self._progress.abandoned = True
        other = copy.copy(self)
        other._progress = _Progress()  # noqa: SLF001
        other._states = {key: copy.copy(state) for key, state in self._states.items()}  # noqa: SLF001
        other._hanging = {**self._hanging, hanging.item.key: hanging}  # noqa: SLF001
        other._unfinished = True  # noqa: SLF001
        return other

    def _hanging_problems(self, item: SourceItem) -> list[ProfileSpawnerError]:
        hanging = self._hanging.get(item.key)
        return [hanging.problem] if hanging is not None and hanging.item.digest == item.digest else []

    # ---------------------------------------------------------------------------------------------- reconciling

    def safely(self, *, full: bool = False) -> ReconcileResult:
        """Reconcile. An unexpected error leaves the last snapshot, with a problem for administrators. Never raises."""
        try:
            return self.reconcile(full=full)
        except BaseException as e:  # noqa: BLE001 - whatever happens, the last good profiles stay
            problem = SourceError(f"the sources could not be loaded: {described(e)}", origin=raised_at(e, _anywhere))
            before = self.snapshot
            problems = [*(p for p in before.reported if str(p) != str(problem)), problem]
            kept = Snapshot(
                before.entries.values(), generation=before.generation, resolver=before.resolver, problems=problems
            )
            return ReconcileResult(kept, (), 0)

    def reconcile(self, *, full: bool = False) -> ReconcileResult:
        """Scan all sources, load what has changed, and return the next snapshot.

        Args:
            full: Whether to read all files again, and to load broken items again even if they have not changed.
        """
        items, changed = self._scan(full=full)
        # If this is interrupted, its state is unknown, so the next call loads everything.
        again, self._unfinished = self._unfinished, True
        gone = [key for key in self._states if key not in items and key != _DIRECT]
        removed = [self._states.pop(key) for key in gone]
        candidates = self._load(changed, removed, items) if changed or removed else {}
        direct = self._load_direct(again)
        if direct is not None:
            candidates[_DIRECT] = direct
        if not (changed or removed or candidates or again) and self.snapshot.generation:
            self._unfinished = False
            return ReconcileResult(self.snapshot, (), 0)
        order = [_DIRECT, *items]
        tried = {key: s.newest for key, s in self._states.items() if s.newest is not None and key not in candidates}
        self._accept({**candidates, **tried}, order)
        before, self.snapshot = self.snapshot, self._freeze(order)
        self._unfinished = False
        changes = _changes(before, self.snapshot)
        return ReconcileResult(self.snapshot, changes, len(candidates))

    def _scan(self, *, full: bool) -> tuple[dict[str, SourceItem], list[SourceItem]]:
        """Return all items in order, and those that differ from the last scan."""
        known = {key: state.seen for key, state in self._states.items()}
        items = self._settled(known, full=full)
        changed: list[SourceItem] = []
        for key, item in items.items():
            state = self._states.get(key)
            if state is None:
                self._states[key] = _ItemState(item)
                changed.append(item)
                continue
            if self._unfinished or item.digest != state.seen.digest or (full and state.problems):
                changed.append(item)
            state.seen = item
        return items, changed

    def _settled(self, known: dict[str, SourceItem], *, full: bool) -> dict[str, SourceItem]:
        """Scan repeatedly until no file is being written, for a limited time; keep old versions of the others."""
        deadline = time.monotonic() + 10 * self._settle
        found: dict[tuple[str, str], Sequence[SourceItem]] = {}
        waiting: Sequence[Source] = self._sources
        while waiting:
            for source in waiting:
                items = source.scan(known, full=full)
                found[source.kind, source.name] = items
                known.update({u.key: u for u in items})
            full = False
            waiting = [source for source in waiting if source.unsettled]
            if waiting and time.monotonic() >= deadline:
                break
            if waiting:
                time.sleep(self._settle / 2)
        self.unsettled = bool(waiting)
        return {u.key: u for source in self._sources for u in found[source.kind, source.name]}

    def _load(
        self, changed: Sequence[SourceItem], removed: Sequence[_ItemState], items: Mapping[str, SourceItem]
    ) -> dict[str, LoadedItem]:
        """Load the changed items and those that depend on them, in the trial worker first."""
        for item in changed:
            state = self._states[item.key]
            state.unloaded = [item.problem] if item.problem else []
            state.newest, state.refusal = None, ()
        touched = [*changed, *(state.seen for state in removed)]
        batches = []
        # Data comes first: code may use params that it defines.
        for source in sorted(self._sources, key=lambda s: s.runs_code):
            own = [i for i in touched if (i.kind, i.source) == (source.kind, source.name)]
            if wanted := self._with_dependants(own, items) if own else []:
                batches.append((source, wanted))
        current = {key: state.good for key, state in self._states.items() if state.good is not None}
        refused = self._try(batches, current)
        others = {key: loaded for key, loaded in current.items() if key not in refused}
        tried = [(item, refused[item.key]) for _, wanted in batches for item in wanted]
        session = LoadSession(current, reasons(others, tried), loading=self._progress.of)
        for source, wanted in batches:
            session.add(source, [item for item in wanted if not refused[item.key]])
        result: dict[str, LoadedItem] = {}
        for source, wanted in batches:
            for item in wanted:
                result[item.key] = loaded = self._load_one(item, source, session, refused[item.key])
                state = self._states[item.key]
                state.needs, state.unloaded = loaded.needs, loaded.problems
                state.newest, state.refusal = None, ()
        return result

    def _try(
        self, batches: Sequence[tuple[Source, Sequence[SourceItem]]], current: Mapping[str, LoadedItem]
    ) -> dict[str, list[ProfileSpawnerError]]:
        """Return what the trial worker says about each item, by key. What made this process hang is not tried again."""
        refused = {item.key: self._hanging_problems(item) for _, wanted in batches for item in wanted}
        tried = [
            (source, left)
            for source, wanted in batches
            if source.trial and (source.runs_code or self.trial_of_data)
            if (left := [item for item in wanted if not refused[item.key]])
        ]
        if self._trial is not None and tried:
            refused.update(self._trial.run(tried, self._sources, current))
        return refused

    def _load_one(
        self, item: SourceItem, source: Source, session: LoadSession, problems: list[ProfileSpawnerError]
    ) -> LoadedItem:
        if problems:
            return LoadedItem(item, Collector(source.name), problems, source.needs_of(item))
        try:
            with self._progress.of(item):
                loaded = session.load(item.key)
            assert loaded is not None
            _ = loaded.signature  # an author's value may fail here
        except BaseException as e:  # noqa: BLE001 - an unexpected error of one item must not affect the others
            return LoadedItem(item, Collector(source.name), [_unexpected(item, e)])
        return loaded

    def _with_dependants(self, touched: Sequence[SourceItem], items: Mapping[str, SourceItem]) -> list[SourceItem]:
        wanted = {u.key for u in touched}
        names = {"*", *(u.short_name for u in touched)}
        home = (touched[0].kind, touched[0].source)
        seen = [s for s in self._states.values() if s.needs and (s.seen.kind, s.seen.source) == home]
        others = [(s.seen, s.needs) for s in seen]
        grown = True
        while grown:
            grown = False
            for item, needs in others:
                if item.key not in wanted and needs & names:
                    wanted.add(item.key)
                    names.add(item.short_name)
                    grown = True
        return [u for key, u in items.items() if key in wanted and u.problem is None]

    def _load_direct(self, again: bool) -> LoadedItem | None:
        """Return the profiles that the hub's configuration registered, if they are new or requested again."""
        collector = direct_collector()
        now = [*collector.profiles.items(), *collector.params.items(), *collector.collections.items()]
        if not again and self._direct is not None and len(now) == len(self._direct):
            pairs = zip(now, self._direct, strict=True)
            if all(a[0] == b[0] and a[1] is b[1] for a, b in pairs):
                return None
        first = self._direct is None
        self._direct = now
        item = SourceItem(_DIRECT, "configuration", "configuration", "configuration", "")
        self._states.setdefault(_DIRECT, _ItemState(item))
        return None if first and not now else LoadedItem(item, collector)

    # ---------------------------------------------------------------------------------------------- accepting

    def _accept(self, candidates: dict[str, LoadedItem], order: Sequence[str]) -> None:
        """Accept the valid parts of the candidates; keep the last good version of the others.

        Other parts may depend on one that fails, so the rest is checked again without it. Params of data must not make
        profiles of other items fail: then the data is what fails.
        """
        left: dict[str, LoadedItem] = {}
        for key, loaded in candidates.items():
            good = self._good(key)
            if not loaded.problems or good is None or (self._is_data(loaded) and not loaded.adds_nothing_to(good)):
                left[key] = loaded
        refusals: _Refusals = {}
        with EntryMaker(self._traits) as maker:
            while (tried := self._try_together(left, refusals, order, maker)) is None:
                pass
        for key, loaded in left.items():
            state = self._states[key]
            state.good = loaded
            state.entries, state.unmade = tried.made.pop(key)
        for key, loaded in candidates.items():
            state = self._states[key]
            state.newest, state.refusal = (loaded, refusals[key]) if key in refusals else (None, ())
        for key in tried.join.versions:
            self._states[key].conflicts = tried.conflicts.get(key, ())
        for key, (entries, problems) in tried.made.items():
            self._take_again(self._states[key], entries, problems)
        self._resolver, self._owners = tried.resolver, dict(tried.join.owners)

    def _try_together(
        self, left: dict[str, LoadedItem], refusals: _Refusals, order: Sequence[str], maker: EntryMaker
    ) -> _Together | None:
        """Make the profiles of the candidates with the params of all items, and of all items if params have changed.

        Args:
            left: The candidates. Parts that fail are replaced with those of the last good version.
            refusals: Why parts of candidates are not used; it is added to.
            order: All keys in order.
            maker: Builds the profiles.

        Returns:
            `None` if a part has failed, so that the others must be tried again.
        """
        versions = {k: v for k in order if (v := left.get(k) or self._good(k)) is not None}
        owners, conflicts = self._claim(versions)
        join = ParamJoin(versions, owners, self._resolver, self._strict, self._uses)
        try:
            resolver = self._new_resolver(join)
        except BaseException as e:  # noqa: BLE001 - an unexpected error costs one source only
            self._give_up(join.culprit(left), left, refusals, e)
            return None
        if self._without_global(left, refusals, resolver):
            return None
        made = {key: self._make(maker, loaded, resolver) for key, loaded in left.items()}
        if resolver is not self._resolver:
            made.update({k: self._make(maker, v, resolver) for k, v in versions.items() if k not in left})
        together = _Together(join, resolver, conflicts, made)
        failed = (
            self._contested(left, refusals, together)
            or self._blamed(left, refusals, together, maker)
            or self._mistaken(left, refusals, together)
            or self._failing(left, refusals, together)
            or self._conflicting(left, refusals, together)
        )
        return None if failed else together

    def _uses(self, key: str, profile: Profile) -> Collection[str]:
        """Return the params that a profile of an item used when it was built last."""
        entry = self._states[key].entries.get(profile.slug)
        return entry.uses if entry is not None and entry.profile is profile else ()

    def _replace(
        self,
        left: dict[str, LoadedItem],
        refusals: _Refusals,
        key: str,
        version: LoadedItem,
        errors: Iterable[ProfileSpawnerError],
    ) -> bool:
        """Try this version of a candidate next, with everything that only its last good version has; return `True`."""
        good = self._good(key)
        known = refusals.setdefault(key, [])
        known += [error for error in errors if error not in known]
        version = version.completed(good) if good is not None else version
        if good is not None and version.adds_nothing_to(good):
            del left[key]
        else:
            left[key] = version
        return True

    def _without_global(self, left: dict[str, LoadedItem], refusals: _Refusals, resolver: Resolver | None) -> bool:
        """Leave out a new `global` with a mistake: it would count for all profiles."""
        for key, loaded in left.items():
            mistakes = mistakes_in(loaded, resolver)
            if GLOBAL in mistakes and self._good(key) is None:
                errors = [error for found in mistakes.values() for error in found]
                return self._replace(left, refusals, key, loaded.without_collection(GLOBAL), errors)
        return False

    def _contested(self, left: dict[str, LoadedItem], refusals: _Refusals, together: _Together) -> bool:
        """Leave out new profiles that do not work and that have a name of something else."""
        versions = together.join.versions
        names = [name for v in versions.values() for name in (*v.collector.profiles, *v.collector.collections)]
        for key, loaded in list(left.items()):
            good = self._good(key)
            known = good.collector.profiles if good is not None else {}
            failing = [slug for slug in together.failing(key) if slug not in known]
            if taken := [slug for slug in failing if names.count(slug) > 1]:
                version = loaded.with_profiles_of(None, taken)
                return self._replace(left, refusals, key, version, together.errors(key, taken))
        return False

    def _blamed(self, left: dict[str, LoadedItem], refusals: _Refusals, together: _Together, maker: EntryMaker) -> bool:
        """Replace the params of the first candidate that is data and makes something of another item fail, if any."""
        suspects: dict[str, LoadedItem | None] = {}
        for key, loaded in left.items():
            good = self._good(key)
            if self._is_data(loaded) and loaded.signature != (good and good.signature):
                suspects[key] = good
        if together.resolver is None or not suspects:
            return False
        blamed = together.join.blamed(
            suspects,
            left.keys(),
            together.resolver,
            together.made,
            lambda key: self._states[key].entries,
            lambda loaded, other: self._make(maker, loaded, other),
        )
        return blamed is not None and self._old_params(left, refusals, blamed[0], [blamed[1]])

    def _mistaken(self, left: dict[str, LoadedItem], refusals: _Refusals, together: _Together) -> bool:
        """Replace the params of candidates whose collections have mistakes."""
        failed = False
        for key, loaded in list(left.items()):
            mistakes = mistakes_in(loaded, together.resolver)
            before = self._resolver.mistakes if self._resolver is not None else {}
            mistakes = {name: errors for name, errors in mistakes.items() if name not in before}
            if mistakes and self._good(key) is not None and (self._is_data(loaded) or GLOBAL in mistakes):
                errors = [error for found in mistakes.values() for error in found]
                failed = self._old_params(left, refusals, key, errors) or failed
        return failed

    def _old_params(
        self, left: dict[str, LoadedItem], refusals: _Refusals, key: str, errors: Iterable[ProfileSpawnerError]
    ) -> bool:
        """Try a candidate with the params of its last good version; with that version, if it has these."""
        loaded, good = left[key], self._good(key)
        older = loaded.with_params_of(good)
        if older.signature == loaded.signature:  # what its profiles set is to blame
            older = good or loaded.with_profiles_of(None, loaded.collector.profiles)
        return self._replace(left, refusals, key, older, errors)

    def _failing(self, left: dict[str, LoadedItem], refusals: _Refusals, together: _Together) -> bool:
        """Replace the profiles of candidates that do not work."""
        failed = False
        for key, loaded in list(left.items()):
            good = self._good(key)
            known = good.collector.profiles if good is not None else {}
            entries = together.made[key][0]
            failing = together.failing(key)
            # What has no good version and cannot even be shown as unavailable is left out.
            older = [
                slug
                for slug in failing
                if (slug not in entries if slug not in known else loaded.collector.profiles[slug] is not known[slug])
            ]
            # The good version of a profile may not work with the new params of its item.
            before = self._states[key].entries
            broken = [slug for slug in failing if slug in known and slug not in older and works(slug, before)]
            if older or broken:
                version = good if good is not None and broken else loaded.with_profiles_of(good, older)
                failed = self._replace(left, refusals, key, version, together.errors(key, (*older, *broken)))
        return failed

    def _conflicting(self, left: dict[str, LoadedItem], refusals: _Refusals, together: _Together) -> bool:
        """Keep everything of the last good version while a candidate has a slug that another item has."""
        new = [key for key in left if key in together.conflicts and key not in refusals]
        for key in new:
            self._replace(left, refusals, key, left[key], ())
        return bool(new)

    def _is_data(self, loaded: LoadedItem) -> bool:
        return (loaded.item.kind, loaded.item.source) in self._data

    def _good(self, key: str) -> LoadedItem | None:
        state = self._states.get(key)
        return state.good if state is not None else None

    def _new_resolver(self, join: ParamJoin) -> Resolver | None:
        """Return the resolver for these versions; the present one when no param has changed."""
        signature = join.signature
        if signature != self._signature:
            self._next_resolver = join.resolver() if signature is not None else None
            self._signature = signature
        return self._next_resolver

    def _give_up(self, key: str, left: dict[str, LoadedItem], refusals: _Refusals, error: BaseException) -> None:
        """Refuse an item whose params cannot be joined with those of the others; an earlier version stays."""
        state = self._states[key]
        refusals[key] = [_unexpected(state.seen, error)]
        if left.pop(key, None) is None:
            state.good, state.entries, state.refusal = None, {}, refusals[key]

    def _make(
        self, maker: EntryMaker, loaded: LoadedItem, resolver: Resolver | None
    ) -> tuple[dict[str, Entry], list[ProfileSpawnerError]]:
        with self._progress.of(loaded.item):
            try:
                return maker.make(loaded, resolver, self._progress.goes_on)
            except BaseException as e:  # noqa: BLE001 - an unexpected error costs one source only
                return {}, [_unexpected(loaded.item, e)]

    @staticmethod
    def _take_again(state: _ItemState, entries: dict[str, Entry], problems: list[ProfileSpawnerError]) -> None:
        """Replace the entries of an unchanged item, because a param has changed."""
        failed = {p.profile for p in problems}
        gone = {s: unusable(e) for s, e in state.entries.items() if s in failed and s not in entries}
        state.entries = {**state.entries, **entries, **gone}
        state.unmade = problems

    # ---------------------------------------------------------------------------------------------- one slug, one owner

    def _claim(self, versions: Mapping[str, LoadedItem]) -> tuple[dict[str, str], dict[str, list[ProfileSpawnerError]]]:
        """Decide which item owns a slug: the first one, unless `source_overrides` says otherwise."""
        owners: dict[str, str] = {}
        conflicts: dict[str, list[ProfileSpawnerError]] = {}
        for key, version in versions.items():
            for slug in version.collector.profiles:
                first = owners.setdefault(slug, key)
                if first == key:
                    continue
                if self._may_override(key, first):
                    owners[slug] = key
                elif not self._may_override(first, key):
                    both = [versions[k].collector.profiles[slug] for k in (first, key)]
                    conflicts.setdefault(key, []).append(duplicate(*both))
        return owners, conflicts

    def _may_override(self, key: str, other: str) -> bool:
        upper, lower = ((i.kind, i.source, i.name) for i in (self._states[key].seen, self._states[other].seen))
        return may_override(self._overrides, upper, lower)

    # ---------------------------------------------------------------------------------------------- freezing

    def _freeze(self, order: Sequence[str]) -> Snapshot:
        entries = []
        problems: list[ProfileSpawnerError] = [*self._mistakes]
        for key in order:
            state = self._states.get(key)
            if state is None:
                continue
            problems += state.problems
            entries += [e for slug, e in state.entries.items() if self._owners.get(slug) == key]
        problems += _alias_problems(entries)
        problems += param_problems(self._resolver)
        entries.sort(key=lambda e: e.order)
        problems = list({str(p): p for p in problems}.values())
        before = self.snapshot
        same = before.generation and before.resolver is self._resolver and len(entries) == len(before.entries)
        same = same and all(a is b for a, b in zip(entries, before.entries.values(), strict=True))
        generation = before.generation if same else before.generation + 1
        return Snapshot(entries, generation=generation, resolver=self._resolver, problems=problems)

    def problems_of(self, source: Source) -> Mapping[str, Sequence[ProfileSpawnerError]]:
        """Return the errors of each item of a source and the warnings of its profiles, by the item's short name."""
        own = {k: s for k, s in self._states.items() if (s.seen.kind, s.seen.source) == (source.kind, source.name)}
        of_params = [(p.origin.source, p) for p in param_problems(self._resolver) if p.origin is not None]
        return {
            state.seen.short_name: [
                *state.problems,
                *(p for place, p in of_params if place == state.seen.name or place.startswith(f"{state.seen.name}/")),
                *self._warnings_of(key),
            ]
            for key, state in own.items()
        }

    def _warnings_of(self, key: str) -> list[ProfileWarning]:
        entries = self._states[key].entries.items()
        return [
            w for slug, entry in entries if self._owners.get(slug) == key for w in entry.warnings if w.level != "note"
        ]

    def profile_counts(self) -> Mapping[str, int]:
        """Return how many profiles are served: `current`, and `stale` ones of earlier versions of their source."""
        stale = sum(len(state.stale) for state in self._states.values())
        return {"current": max(0, len(self.snapshot) - stale), "stale": stale}

    def counts(self) -> Mapping[str, int]:
        """Return how many items there are by state: `good`, `stale` (an older version is served), `broken`."""
        counts = {"good": 0, "stale": 0, "broken": 0}
        for key, state in self._states.items():
            if key == _DIRECT and not state.entries:
                continue
            wrong = without_warnings(state.problems)
            if wrong or state.good is not None:  # otherwise it is a warning that something is missing
                counts["good" if not wrong else "stale" if state.entries else "broken"] += 1
        return counts


def _anywhere(file: str) -> bool:
    del file
    return True


def _unexpected(item: SourceItem, error: BaseException) -> SourceError:
    return SourceError(f"it could not be loaded: {described(error)}", origin=Origin(item.name))


def _changes(before: Snapshot, after: Snapshot) -> Sequence[ProfileChange]:
    """Return the changes for users; nothing if the values of an author cannot be compared."""
    try:
        return changes_between(before.entries, after.entries)
    except BaseException:  # noqa: BLE001 - the changes are only for the log
        return ()


def _alias_problems(entries: Sequence[Entry]) -> Iterator[ProfileDefinitionError]:
    """Yield the aliases that have no effect, because another profile has the name."""
    owners = {entry.slug: entry for entry in entries}
    for entry in entries:
        for alias in entry.offer.aliases:
            owner = owners.setdefault(alias, entry)
            if owner is not entry:
                message = f"the alias {alias!r} has no effect: the profile {owner.slug!r} has this name"
                yield ProfileDefinitionError(message, profile=entry.slug, origin=entry.origin, field="aliases")
