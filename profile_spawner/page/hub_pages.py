"""The spawn page data that one hub keeps: decks by snapshot, recent viewers, and free capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

from profile_spawner.hub.layers import layers_key
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text

from .capacity import CapacityView
from .cards import Wants
from .decks import Deck, Decks, Personalise
from .render import FIRST_CARDS, PageRenderer
from .translations import LANGUAGES

__all__ = ["HubPages", "Viewer", "problem_notices"]

PROBLEMS_SHOWN = 10
"""The maximum number of source problems that the page shows to an administrator."""


@dataclass(frozen=True)
class Viewer:
    """The user and the language for which a page is made.

    Attributes:
        user: Whose page it is.
        admin: Whether an administrator looks at it.
        layers: The layers of params for the user's server.
        language: In which language.
    """

    user: UserInfo
    admin: bool = False
    layers: Mapping[str, Any] = field(default_factory=dict)
    language: str = LANGUAGES[0]


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
        interval = settings.capacity_interval
        self.capacity = CapacityView(interval, log, self._wanted) if interval > 0 else None
        self._category_order = tuple(settings.category_order)
        self._log = log
        self._decks: WeakKeyDictionary[Snapshot, Decks] = WeakKeyDictionary()

    def _wanted(self) -> set[Wants]:
        return {wants for decks in self._decks.values() for wants in decks.wants}

    def decks(self, snapshot: Snapshot) -> Decks:
        """Return the decks of a snapshot; they are discarded together with it."""
        if snapshot not in self._decks:
            self._decks[snapshot] = Decks(snapshot, self._category_order)
        return self._decks[snapshot]

    async def deck(self, snapshot: Snapshot, viewer: Viewer) -> Deck:
        """Return the deck of a user, with its first cards made."""
        resolver = snapshot.resolver
        key = layers_key(viewer.layers, uses_facts=resolver.uses_facts) if resolver is not None else ""
        deck = await self.decks(snapshot).deck(
            snapshot,
            viewer.user,
            admin=viewer.admin,
            personalise=_personaliser(snapshot, viewer.layers) if key else None,
            personal_key=key,
        )
        await deck.prepare(range(min(len(deck), FIRST_CARDS)))
        return deck


def problem_notices(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the first problems of the sources, for an administrator."""
    shown = [str(problem) for problem in snapshot.problems[:PROBLEMS_SHOWN]]
    more = len(snapshot.problems) - len(shown)
    return (
        (*shown, Text("There are %(n)s more problems; the hub's log has all of them.", n=more)) if more else (*shown,)
    )


def _personaliser(snapshot: Snapshot, layers: Mapping[str, Any]) -> Personalise:
    # The decks must not hold a reference to their snapshot.
    reference = ref(snapshot)

    async def personal(entry: Entry) -> Entry:
        served = reference()
        return await served.personal(entry, **layers) if served is not None else entry

    return personal
