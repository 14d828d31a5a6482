"""Units: the items of sources. A unit is loaded, kept or refused as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.registry import Collector

__all__ = ["Hold", "Loaded", "Source", "Unit"]


@dataclass(frozen=True)
class Unit:
    """One module, document, ConfigMap or entry point.

    Attributes:
        key: Unique among all units.
        kind: One of `SOURCE_KINDS`.
        source: The name of its source: a path or a selector.
        name: The name for messages.
        digest: A hash of the content.
        payload: The data that the source needs to load it.
        problem: The error if it could not be read.
        short_name: The name under which siblings import it.
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
    """A reference that users of a loaded unit hold. After the last one is released, the unit's modules are removed."""

    __slots__ = ("__weakref__", "needs")

    def __init__(self) -> None:
        self.needs: tuple[Hold, ...] = ()


@dataclass
class Loaded:
    """The result of loading a unit.

    Attributes:
        unit: The unit.
        collector: What it registered; incomplete if there are `problems`.
        problems: The errors.
        hold: See `Hold`.
        module: The full name of the imported module.
        needs: Names of sibling units whose change concerns this one too.
        rights: What the hub allows to documents of this source; `None` for what is not restricted.
        signature: What the resolver of params needs of it; `None` when that is nothing.
    """

    unit: Unit
    collector: Collector
    problems: list[ProfileSpawnerError] = field(default_factory=list)
    hold: Hold | None = None
    module: str = ""
    needs: frozenset[str] = frozenset()
    rights: DataPolicy | None = None
    signature: Any = None


class Source(Protocol):
    """A source of units. Its methods run in a worker thread, one at a time."""

    kind: str
    name: str

    @property
    def unsettled(self) -> bool:
        """Whether a file was being written during the last scan, so that its old version was kept."""

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return all units in order. If an item cannot be read, its unit has a `problem`. Never raises.

        Args:
            known: The units of the last scan; an unchanged unit may be returned again.
            full: Whether to read everything again, even if `stat` shows no change.
            hints: The changed paths; `None` if they are not known.
        """

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Load the units that have changed. Never raises."""

    def watched(self) -> Sequence[str]:
        """Return the paths to watch. They may change after a load. Called from any thread."""
