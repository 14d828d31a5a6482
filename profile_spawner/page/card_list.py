"""Selects and orders the cards that a user sees. Users who see the same cards share them.

Users share a `CardList` and its markup only if every rule of the snapshot gives the same result for them. So a user
never sees choices of another user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

from cachetools import LRUCache

from profile_spawner.profiles.access import Access, UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.selection import offer_for
from profile_spawner.profiles.snapshot import Snapshot

from .cards import Card, GpuDemand, badges_for, card_of, search_text

__all__ = ["FIRST_CARDS", "CardList", "CardLists", "Personalise"]

FIRST_CARDS = 60
"""The maximum number of cards in the first view."""

MOST_LISTS = 256
"""For how many different sets of groups and params the cards of a snapshot are kept."""

MOST_PAGES = 64
"""The maximum number of pages that are cached for one list of cards."""

SLICE = 250
"""After this number of profiles, a long loop yields to other tasks. This takes less than 5 ms."""

Personalise = Callable[[Entry], Awaitable[Entry]]
"""Returns a profile with the params of the user, of the groups and of the hub."""


class CardList:
    """The cards that some users see, in the order of the page. A card is made when it is first needed.

    Args:
        entries: The profiles, in order.
        user: One of the users; the options and choices that they see are the same for all of them.
        admin: Whether an administrator looks at it, who also sees who may use each profile.
        personalise: Gives the entries the users' params.
        default: The slug that is selected at first.

    Attributes:
        pages: The pages that the renderer has made of these cards.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        user: UserInfo,
        *,
        admin: bool = False,
        personalise: Personalise | None = None,
        default: str | None = None,
    ) -> None:
        self.entries = list(entries)
        self.default = default
        self.pages: LRUCache[Hashable, str] = LRUCache(MOST_PAGES)
        self._positions = {entry.slug: number for number, entry in enumerate(self.entries)}
        self._user = user
        self._admin = admin
        self._personalise = personalise
        self._cards: dict[int, Card] = {}

    def __len__(self) -> int:
        return len(self.entries)

    async def first(self, selected: str | None) -> list[Card]:
        """Return the cards of the first view, with that of the selected profile wherever it stands."""
        positions = list(range(min(len(self), FIRST_CARDS)))
        position = self._positions.get(selected) if selected is not None else None
        if position is not None and position >= len(positions):
            positions.append(position)
        return await self.cards(positions)

    async def cards(self, positions: Iterable[int]) -> list[Card]:
        """Return the cards at some positions, with the users' params; hooks run in between."""
        cards = []
        for position in positions:
            if position not in self._cards:
                entry = self.entries[position]
                if self._personalise is not None:
                    entry = await self._personalise(entry)
                self._cards[position] = self._card(entry)
                if position % 8 == 7:
                    await asyncio.sleep(0)
            cards.append(self._cards[position])
        return cards

    def _card(self, entry: Entry) -> Card:
        access = entry.offer.access
        audience = access.describe() if self._admin and not access.is_open else ""
        return card_of(entry, offer_for(entry.offer, self._user), audience=audience)


def _rank(entry: Entry, words: Sequence[str]) -> int:
    """Return how well a title fits a search: 0 if it is the same, 1 if it begins so, 2 if it has the words."""
    wanted, title = " ".join(words), " ".join(entry.offer.display_name.lower().split())
    if wanted in (title, entry.slug):
        return 0
    return 1 if title.startswith(wanted) else 2 if all(word in title for word in words) else 3


class CardLists:
    """All lists of cards of one snapshot.

    Args:
        category_order: Categories that come first, in this order.

    Attributes:
        demands: The GPUs that servers of the profiles take; known after the first list.
    """

    def __init__(self, category_order: Sequence[str] = ()) -> None:
        self.demands: set[GpuDemand] = set()
        self._category_order = tuple(category_order)
        self._rules: list[Access] | None = None
        self._lists: LRUCache[Hashable, CardList] = LRUCache(MOST_LISTS)
        self._texts: dict[str, str] = {}

    async def of(
        self,
        snapshot: Snapshot,
        user: UserInfo,
        *,
        admin: bool = False,
        personalise: Personalise | None = None,
        personal_key: str = "",
    ) -> CardList:
        """Return the cards of a user.

        Args:
            snapshot: The profiles, always the same; not kept.
            user: The user who sees it.
            admin: Whether an administrator looks at it.
            personalise: See `CardList`.
            personal_key: Equal for users whose params are equal; empty without params.
        """
        if self._rules is None:
            self._rules = await self._collect(snapshot)
        visible = snapshot.visible_to(user)
        audience = snapshot.audience(user)
        seen = audience if audience is not None else tuple(entry.slug for entry in visible)
        key = (seen, tuple(rule.allows(user) for rule in self._rules), admin, personal_key)
        if key not in self._lists:
            self._lists[key] = CardList(
                self._in_order(visible),
                user,
                admin=admin,
                personalise=personalise if personal_key else None,
                default=snapshot.default_for(user),
            )
        return self._lists[key]

    async def search(self, cards: CardList, words: Sequence[str]) -> list[int]:
        """Return the positions of the cards that have all the words, which are in lower case; the best titles first."""
        found = []
        for number, entry in enumerate(cards.entries):
            if entry.slug not in self._texts:
                # Options with an access rule are not searched.
                self._texts[entry.slug] = search_text(
                    entry.offer, entry.category, entry.tags, badges_for(entry.effective)
                )
            if all(word in self._texts[entry.slug] for word in words):
                found.append(number)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return sorted(found, key=lambda number: _rank(cards.entries[number], words)) if words else found

    def _in_order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the profiles by category: the configured ones first, then as they appear; those without one on top."""
        sections: dict[str, list[Entry]] = {name: [] for name in ("", *self._category_order)}
        for entry in entries:
            sections.setdefault(entry.category, []).append(entry)
        return [entry for section in sections.values() for entry in section]

    async def _collect(self, snapshot: Snapshot) -> list[Access]:
        """Find the demands, and return all rules about options and choices."""
        named: dict[Access, None] = {}
        hooked: list[Access] = []
        for number, entry in enumerate(snapshot.entries.values()):
            demand = GpuDemand.of(entry.effective)
            if demand is not None:
                self.demands.add(demand)
            for option in entry.offer.options:
                rules = [access for access in option.accesses() if not access.is_open]
                named.update((access, None) for access in rules if access.hook is None)
                hooked += [access for access in rules if access.hook is not None]
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return [*named, *hooked]
