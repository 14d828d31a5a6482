"""What sources deal in: units, the smallest things that are loaded, kept or refused as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.profiles.registry import Collector

__all__ = ["Hold", "Loaded", "Source", "Unit"]


@dataclass(frozen=True)
class Unit:
    """One module, document, ConfigMap, entry point: what one change concerns.

    Attributes:
        key: Unique among all units.
        kind: One of `SOURCE_KINDS`.
        source: The name of the source that it came from: a path, a selector.
        name: How the unit is called in messages.
        digest: Stands for the content: equal when nothing has changed.
        payload: What the source needs to load it.
        problem: Why it could not be read.
        short_name: By which siblings import it.
    """

    key: str
    kind: str
    source: str
    name: str
    digest: str
    payload: Any = field(default=None, repr=False, compare=False)
    problem: ProfileSpawnerError | None = field(default=None, compare=False)
    short_name: str = ""


class Hold:
    """Kept by everything that uses a loaded unit; when the last one is gone, its modules are forgotten."""

    __slots__ = ("__weakref__", "needs")

    def __init__(self) -> None:
        self.needs: tuple[Hold, ...] = ()


@dataclass
class Loaded:
    """What became of a unit.

    Attributes:
        unit: The unit.
        collector: What it registered; partial when there are `problems`.
        problems: What is wrong with it.
        hold: See `Hold`.
        module: The full name of the imported module.
        needs: Names of sibling units whose change concerns this one too.
        signature: What the resolver of params needs of it; `None` when that is nothing.
    """

    unit: Unit
    collector: Collector
    problems: list[ProfileSpawnerError] = field(default_factory=list)
    hold: Hold | None = None
    module: str = ""
    needs: frozenset[str] = frozenset()
    signature: Any = None


class Source(Protocol):
    """Where units come from. Its methods run in a worker thread, one at a time."""

    kind: str
    name: str

    @property
    def unsettled(self) -> bool:
        """Whether the last scan found something that is being written and so was left as it was."""

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return all units in order. What could not be read is a unit with a `problem`. Never raises.

        Args:
            known: The units of the last scan; one whose content is the same may be returned as it is.
            full: Read everything again, whatever `stat` says.
            hints: The paths that have changed; `None` when that is not known.
        """

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Load the units that have changed. Never raises."""

    def watched(self) -> Sequence[str]:
        """Return the paths to watch; others after a load, perhaps. Called from any thread."""
