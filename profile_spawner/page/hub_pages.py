"""The spawn page data that one hub keeps: cards by snapshot, and free capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

from profile_spawner.errors import ProfileWarning
from profile_spawner.hub.layers import layers_key
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text

from .capacity import CapacityView
from .card_list import CardList, CardLists, Personalise
from .cards import GpuDemand
from .markdown import render_description
from .render import PageRenderer
from .translations import LANGUAGES

__all__ = ["SEARCH_LIMIT", "HubPages", "SearchRequest", "Viewer", "problem_notices"]

PROBLEMS_SHOWN = 10
"""The maximum number of source problems that the page shows to an administrator."""

SEARCH_LIMIT = 50
"""The maximum number of cards in one answer to the script's search."""


@dataclass(frozen=True)
class Viewer:
    """The user and the language for which a page is made.

    Attributes:
        user: The user whose page it is.
        admin: Whether an administrator looks at it.
        layers: The layers of params for the user's server.
        language: One of the page's languages.
    """

    user: UserInfo
    admin: bool = False
    layers: Mapping[str, Any] = field(default_factory=dict)
    language: str = LANGUAGES[0]


@dataclass(frozen=True)
class SearchRequest:
    """A search for profiles.

    Attributes:
        user: The user whose page it is (JupyterHub's user).
        admin: Whether an administrator looks at it.
        server: The name of the server that is to be started.
        words: The search words.
        fragment: Whether the request comes from the script, which needs cards; otherwise the answer is a page of links.
        language: One of the page's languages.
    """

    user: Any
    admin: bool
    server: str
    words: str
    fragment: bool
    language: str


class HubPages:
    """The page's part of a `HubProfiles`.

    Args:
        settings: The hub's settings, a `HubTraits`.
        log: The hub's logger.

    Attributes:
        renderer: Makes the markup.
        capacity: Says how many GPUs are free; `None` when that is switched off.
    """

    def __init__(self, settings: Any, log: Any) -> None:
        self.renderer = PageRenderer(settings.page_template_paths, log)
        render_description("")  # imports its library now, not during the first view
        interval = settings.capacity_interval
        self.capacity = CapacityView(interval, log, self._demands) if interval > 0 else None
        self._category_order = tuple(settings.category_order)
        self._lists: WeakKeyDictionary[Snapshot, CardLists] = WeakKeyDictionary()

    def _demands(self) -> set[GpuDemand]:
        return {demand for lists in self._lists.values() for demand in lists.demands}

    def card_lists(self, snapshot: Snapshot) -> CardLists:
        """Return the lists of cards of a snapshot; they are discarded together with it."""
        if snapshot not in self._lists:
            self._lists[snapshot] = CardLists(self._category_order)
        return self._lists[snapshot]

    async def card_list(self, snapshot: Snapshot, viewer: Viewer) -> CardList:
        """Return the cards of a user."""
        resolver = snapshot.resolver
        key = layers_key(viewer.layers, uses_facts=resolver.uses_facts) if resolver is not None else ""
        return await self.card_lists(snapshot).of(
            snapshot,
            viewer.user,
            admin=viewer.admin,
            personalise=_personaliser(snapshot, viewer.layers) if key else None,
            personal_key=key,
        )


def problem_notices(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the first problems of the sources, for an administrator: errors, then warnings."""
    warnings = [Text("Warning: %(text)s", text=str(p)) for p in snapshot.problems if isinstance(p, ProfileWarning)]
    shown = [*map(str, snapshot.errors), *warnings][:PROBLEMS_SHOWN]
    more = len(snapshot.problems) - len(shown)
    return (
        (*shown, Text("There are %(n)s more problems; the hub's log has all of them.", n=more)) if more else (*shown,)
    )


def _personaliser(snapshot: Snapshot, layers: Mapping[str, Any]) -> Personalise:
    # The lists must not hold a reference to their snapshot.
    reference = ref(snapshot)

    async def personal(entry: Entry) -> Entry:
        served = reference()
        return await served.personal(entry, **layers) if served is not None else entry

    return personal
