"""The source for built-in profiles that the configuration selects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from traitlets import HasTraits, List, Unicode

from profile_spawner.apps import BUILTIN
from profile_spawner.errors import Origin, SourceError, did_you_mean
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import Collector

from .importing import ready_made
from .source_items import Load, LoadedItem, LoadSession, Source, SourceItem

__all__ = ["BuiltinProfiles"]


class BuiltinSettings(HasTraits):
    """The setting of this source."""

    builtin_profiles = List(
        Unicode(),
        config=True,
        help="""
        The slugs of built-in profiles to offer; none by default. `["all"]` offers all. With `configurator_compat`, the
        slugs of the EOEPCA configurator (`coder_app`, `qgis_remote_desktop`, ...) are its profiles.
        """,
    )


class BuiltinProfiles(Source):
    """The selected profiles, one item each."""

    kind = name = "builtin"
    settings = BuiltinSettings
    trial = False  # code of this package

    def __init__(self, slugs: Sequence[str], *, configurator: bool = False) -> None:
        self._configurator = configurator
        theirs = ready_made() if configurator else {}
        self._profiles: Mapping[str, type[BaseAppProfile]] = {**theirs, **BUILTIN, **theirs}
        self._slugs = tuple(self._profiles) if "all" in slugs else tuple(dict.fromkeys(slugs))

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return one source, if profiles are selected."""
        del settle
        if not settings.builtin_profiles:
            return []
        return [cls(settings.builtin_profiles, configurator=settings.configurator_compat)]

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return one item for each slug."""
        del known, full
        return [self._item(slug) for slug in self._slugs]

    def _item(self, slug: str) -> SourceItem:
        problem = None
        if slug not in self._profiles:
            problem = SourceError(
                f"there is no built-in profile {slug!r}{did_you_mean(slug, self._profiles)}",
                origin=Origin("configuration"),
                field="builtin_profiles",
                expected=", ".join(self._profiles),
                hint=None
                if self._configurator
                else "Profiles of the EOEPCA configurator need c.ProfileSpawner.configurator_compat = True",
            )
        return SourceItem(f"{self.kind}:{slug}", self.kind, self.name, slug, "1", slug, problem)

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that registers one profile."""
        del items, session

        def load(item: SourceItem) -> LoadedItem:
            collector = Collector(self.name)
            collector.add(self._profiles[item.payload])
            return LoadedItem(item, collector)

        return load
