"""Installed packages: the entry point group `profile_spawner.profiles`.

An entry point names a profile class, a list of them, a function that registers some, or a module that registers some
when it is imported. Entry points are loaded once, when the hub starts, because installed code changes only with the
installation.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError, SourceError
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import Collector, collecting

from .python_dir import params_of
from .tracebacks import describe
from .trial_client import TrialClient
from .units import Loaded, Unit

__all__ = ["GROUP", "EntryPoints", "load_entry_point"]

GROUP = "profile_spawner.profiles"


class EntryPoints:
    """Profiles of installed packages.

    Args:
        wanted: All of them, or those with these names.
        trial: Where they are loaded first; `None` loads them at once.
    """

    kind = "entry_points"
    name = "entry points"
    unsettled = False

    def __init__(self, wanted: bool | Sequence[str], trial: TrialClient | None) -> None:
        self._wanted = wanted
        self._trial = trial

    def watched(self) -> Sequence[str]:
        """Return nothing: they change with the installation."""
        return []

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return one unit for each entry point, by name."""
        del hints
        if known and not full:  # looking through all installed packages takes a while
            before = [u for u in known.values() if u.kind == self.kind]
            if before:
                return before
        found = {e.name: e for e in importlib.metadata.entry_points(group=GROUP)}
        names = sorted(found) if isinstance(self._wanted, bool) else self._wanted
        return [self._unit(name, found) for name in names]

    def _unit(self, name: str, found: Mapping[str, importlib.metadata.EntryPoint]) -> Unit:
        key = f"{self.kind}:{name}"
        entry = found.get(name)
        if entry is None:
            problem = SourceError(
                f"no installed package offers the entry point {name!r}",
                origin=Origin("configuration"),
                field="profile_entry_points",
                expected=", ".join(sorted(found)) or f"a package with entry points of the group {GROUP}",
            )
            return Unit(key, self.kind, self.name, name, str(problem), None, problem)
        version = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
        return Unit(
            key, self.kind, self.name, f"entry point {name}", f"{version} {entry.value}", entry.value, None, name
        )

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Load the entry points, elsewhere first."""
        del generation
        problems: Mapping[str, Any] = {}
        if self._trial is not None and changed:
            problems = self._trial.run(changed, None, {}, params_of(current.values()))
        for unit in changed:
            if problems.get(unit.key):
                yield Loaded(unit, Collector(self.name), list(problems[unit.key]))
            else:
                yield load_entry_point(unit, Collector(self.name))


def load_entry_point(unit: Unit, collector: Collector) -> Loaded:
    """Load one entry point. Never raises."""
    loaded = Loaded(unit, collector)
    try:
        with collecting(collector):
            _register(importlib.metadata.EntryPoint(unit.short_name, unit.payload, GROUP).load(), collector)
    except BaseException as e:  # noqa: BLE001 - a package may raise anything, SystemExit included
        loaded.collector = Collector(unit.source)
        problem = describe(e, _path_of(unit.payload) or Path(unit.name))
        problem.message = f"{unit.name} ({unit.payload}): {problem.message}"
        loaded.problems.append(problem)
    return loaded


def _register(target: Any, collector: Collector) -> None:
    if isinstance(target, types.ModuleType):
        # What it has registered when it was imported before is not told again, so its profiles are looked for.
        for value in vars(target).values() if not collector.profiles else ():
            if isinstance(value, type) and issubclass(value, BaseAppProfile) and value.slug:
                collector.add(value)
    elif isinstance(target, type):
        collector.add(target)
    elif isinstance(target, Iterable):
        for cls in target:
            collector.add(cls)
    elif callable(target):
        target()
    else:
        raise ProfileDefinitionError(
            "an entry point must be a profile class, a list of them, a function or a module",
            value=type(target).__name__,
        )


def _path_of(value: str) -> Path | None:
    module = value.partition(":")[0].strip()
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin
