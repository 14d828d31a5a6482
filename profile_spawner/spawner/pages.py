"""What one hub keeps for its spawn page: the decks of each snapshot, who looked last, and how much is free."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

from profile_spawner.access import UserInfo
from profile_spawner.page.cards import Wants
from profile_spawner.page.decks import Deck, Decks, Personalise
from profile_spawner.page.handlers import static_url
from profile_spawner.page.render import FIRST_CARDS, PageRenderer, PageRequest
from profile_spawner.page.translations import LANGUAGES
from profile_spawner.registry import Entry, Snapshot
from profile_spawner.texts import Text

from .capacity import CapacityView
from .layers import layers_key

__all__ = ["HubPages", "Viewer", "problem_notices"]

WARM_FOR = 8
"""For how many of the last views the page is made before a new generation of profiles is served."""

PROBLEMS_SHOWN = 10
"""How many problems of the sources an administrator is told of on the page."""

WARM_SECONDS = 0.5
"""How long a reload may wait for that."""


@dataclass(frozen=True)
class Viewer:
    """For whom a page is made.

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
        routed: Whether the page's routes have been added to the hub.
    """

    def __init__(self, settings: Any, log: Any) -> None:
        self.renderer = PageRenderer(settings.page_template_paths, log)
        interval = settings.capacity_interval
        self.capacity = CapacityView(interval, log, self._wanted) if interval > 0 else None
        self.routed = False
        self._category_order = tuple(settings.category_order)
        self._log = log
        self._decks: WeakKeyDictionary[Snapshot, Decks] = WeakKeyDictionary()
        self._recent: OrderedDict[Hashable, Viewer] = OrderedDict()

    def _wanted(self) -> set[Wants]:
        return {wants for decks in self._decks.values() for wants in decks.wants}

    def decks(self, snapshot: Snapshot) -> Decks:
        """Return the decks of a snapshot; they go with it."""
        if snapshot not in self._decks:
            self._decks[snapshot] = Decks(snapshot, self._category_order)
        return self._decks[snapshot]

    async def deck(self, snapshot: Snapshot, viewer: Viewer) -> Deck:
        """Return the deck of a user, with its first cards made."""
        deck = await self._deck(snapshot, viewer)
        key = (deck.key, viewer.language)
        self._recent[key] = viewer
        self._recent.move_to_end(key)
        while len(self._recent) > WARM_FOR:
            self._recent.popitem(last=False)
        return deck

    async def _deck(self, snapshot: Snapshot, viewer: Viewer) -> Deck:
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

    async def warm(self, snapshot: Snapshot) -> None:
        """Make what the first views of a snapshot need, for those who looked last. Called before it is served."""
        viewers = list(reversed(self._recent.values())) or [Viewer(UserInfo(""))]
        deadline = time.monotonic() + WARM_SECONDS
        static, search = self._places()
        for viewer in viewers:
            try:
                deck = await self._deck(snapshot, viewer)
                position = deck.index_of(deck.default)
                await deck.prepare([position] if position is not None else [])
                request = PageRequest(
                    cards=deck,
                    static=static,
                    search=search,
                    language=viewer.language,
                    admin=viewer.admin,
                    admin_notices=problem_notices(snapshot) if viewer.admin else (),
                    capacity=self.capacity,
                )
                await self.renderer.warm(request)
            except Exception:  # noqa: BLE001 - the view itself says what is wrong
                self._log.debug("The page could not be made beforehand", exc_info=True)
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0)

    @staticmethod
    def _places() -> tuple[str, str]:
        """Return the URLs of the static files and of the search, as a view in the running hub has them."""
        from jupyterhub.app import JupyterHub

        if not JupyterHub.initialized() or getattr(JupyterHub.instance(), "tornado_application", None) is None:
            return "", ""
        return static_url(JupyterHub.instance().hub_prefix), "search"


def problem_notices(snapshot: Snapshot) -> tuple[str, ...]:
    """Return what could not be loaded, for an administrator; the first ones where it is much."""
    shown = [str(problem) for problem in snapshot.problems[:PROBLEMS_SHOWN]]
    more = len(snapshot.problems) - len(shown)
    return (
        (*shown, Text("There are %(n)s more problems; the hub's log has all of them.", n=more)) if more else (*shown,)
    )


def _personaliser(snapshot: Snapshot, layers: Mapping[str, Any]) -> Personalise:
    # What is kept for a snapshot must not keep the snapshot.
    reference = ref(snapshot)

    async def personal(entry: Entry) -> Entry:
        served = reference()
        return await served.personal(entry, **layers) if served is not None else entry

    return personal
