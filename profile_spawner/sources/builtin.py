"""The source for built-in profiles that the configuration selects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from profile_spawner.apps import BUILTIN
from profile_spawner.errors import Origin, SourceError, did_you_mean
from profile_spawner.profiles.registry import Collector

from .units import Loaded, Unit

__all__ = ["Builtin"]


class Builtin:
    """Loads built-in profiles.

    Args:
        slugs: The slugs of the profiles; `all` selects all of them.
    """

    kind = "builtin"
    name = "builtin"
    unsettled = False

    def __init__(self, slugs: Sequence[str]) -> None:
        self._slugs = tuple(BUILTIN) if "all" in slugs else tuple(dict.fromkeys(slugs))

    def watched(self) -> Sequence[str]:
        """Return no paths, because built-in profiles do not change while the hub runs."""
        return []

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return one unit for each slug."""
        del known, full, hints
        return [self._unit(slug) for slug in self._slugs]

    def _unit(self, slug: str) -> Unit:
        problem = None
        if slug not in BUILTIN:
            problem = SourceError(
                f"there is no built-in profile {slug!r}{did_you_mean(slug, BUILTIN)}",
                origin=Origin("configuration"),
                field="builtin_profiles",
                expected=", ".join(BUILTIN),
            )
        return Unit(f"{self.kind}:{slug}", self.kind, self.name, slug, "1", slug, problem)

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Register the classes."""
        del generation, current
        for unit in changed:
            collector = Collector(self.name)
            collector.add(BUILTIN[unit.payload])
            yield Loaded(unit, collector)
