"""Installed packages: the entry point group `profile_spawner.profiles`.

An entry point names a profile class, a list of them, a function that registers some, or a module that registers some
when it is imported. Entry points are loaded once, when the hub starts, because installed code changes only with the
installation.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from traitlets import Bool, HasTraits, List, Unicode, Union

from profile_spawner.errors import Origin, ProfileDefinitionError, SourceError
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import Collector, collecting

from .source_items import Load, LoadedItem, LoadSession, Source, SourceItem
from .tracebacks import describe

__all__ = ["GROUP", "EntryPoints"]

GROUP = "profile_spawner.profiles"


class EntryPointSettings(HasTraits):
    """The setting of this source."""

    profile_entry_points = Union(
        [Bool(), List(Unicode())],
        default_value=False,
        config=True,
        help="""
        Whether profiles of installed packages (entry point group `profile_spawner.profiles`) are loaded: `True` for
        all, or a list of entry point names.
        """,
    )


class EntryPoints(Source):
    """Profiles of installed packages.

    Args:
        wanted: Whether all of them are loaded, or the names of those that are.
    """

    kind = "entry_points"
    settings = EntryPointSettings
    name = "entry points"

    def __init__(self, wanted: bool | Sequence[str]) -> None:
        self._wanted = wanted

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return one source, if entry points are wanted."""
        del settle
        return [cls(settings.profile_entry_points)] if settings.profile_entry_points else []

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return one item for each entry point, by name."""
        before = self.own(known)
        if before and not full:  # looking through all installed packages takes a while
            return before
        found = {e.name: e for e in importlib.metadata.entry_points(group=GROUP)}
        names = sorted(found) if isinstance(self._wanted, bool) else self._wanted
        return [self._item(name, found) for name in names]

    def _item(self, name: str, found: Mapping[str, importlib.metadata.EntryPoint]) -> SourceItem:
        key = f"{self.kind}:{name}"
        entry = found.get(name)
        if entry is None:
            problem = SourceError(
                f"no installed package offers the entry point {name!r}",
                origin=Origin("configuration"),
                field="profile_entry_points",
                expected=", ".join(sorted(found)) or f"a package with entry points of the group {GROUP}",
            )
            return SourceItem(key, self.kind, self.name, name, str(problem), None, problem)
        version = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
        digest = f"{version} {entry.value}"
        return SourceItem(key, self.kind, self.name, f"entry point {name}", digest, entry.value, None, name)

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that loads one entry point."""
        del items, session
        return self._load

    def _load(self, item: SourceItem) -> LoadedItem:
        loaded = LoadedItem(item, Collector(self.name))
        try:
            with collecting(loaded.collector):
                target = importlib.metadata.EntryPoint(item.short_name, item.payload, GROUP).load()
                _register(target, loaded.collector)
        except BaseException as e:  # noqa: BLE001 - a package may raise anything, SystemExit included
            loaded.collector = Collector(self.name)
            problem = describe(e, _path_of(item.payload) or Path(item.name))
            problem.message = f"{item.name} ({item.payload}): {problem.message}"
            loaded.problems.append(problem)
        return loaded


def _register(target: Any, collector: Collector) -> None:
    if isinstance(target, types.ModuleType):
        # If it was imported before, it does not register again, so its profiles are collected here.
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
