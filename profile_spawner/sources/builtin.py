"""The source for built-in profiles that the configuration selects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from traitlets import HasTraits, List, Unicode

from profile_spawner.apps import BUILTIN
from profile_spawner.errors import Origin, SourceError, did_you_mean
from profile_spawner.profiles.registry import Collector

from .source_items import Load, LoadedItem, LoadSession, Source, SourceItem

__all__ = ["BuiltinProfiles"]


class BuiltinSettings(HasTraits):
    """The setting of this source."""

    builtin_profiles = List(
        Unicode(), config=True, help='The slugs of built-in profiles to offer; none by default. `["all"]` offers all.'
    )


class BuiltinProfiles(Source):
    """The selected profiles, one item each."""

    kind = name = "builtin"
    settings = BuiltinSettings
    trial = False  # code of this package

    def __init__(self, slugs: Sequence[str]) -> None:
        self._slugs = tuple(BUILTIN) if "all" in slugs else tuple(dict.fromkeys(slugs))

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return one source, if profiles are selected."""
        del settle
        return [cls(settings.builtin_profiles)] if settings.builtin_profiles else []

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return one item for each slug."""
        del known, full
        return [self._item(slug) for slug in self._slugs]

    def _item(self, slug: str) -> SourceItem:
        problem = None
        if slug not in BUILTIN:
            problem = SourceError(
                f"there is no built-in profile {slug!r}{did_you_mean(slug, BUILTIN)}",
                origin=Origin("configuration"),
                field="builtin_profiles",
                expected=", ".join(BUILTIN),
            )
        return SourceItem(f"{self.kind}:{slug}", self.kind, self.name, slug, "1", slug, problem)

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that registers one profile."""
        del items, session

        def load(item: SourceItem) -> LoadedItem:
            collector = Collector(self.name)
            collector.add(BUILTIN[item.payload])
            return LoadedItem(item, collector)

        return load
