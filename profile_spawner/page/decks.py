"""Selects and orders the cards that a user sees. Users who see the same cards share them.

A `Decks` keeps the decks of one snapshot. It is discarded together with the snapshot. Users share a deck and its markup
only if every rule of the snapshot gives the same result for them. So a user never sees choices of another user.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import overload

from profile_spawner.profiles.access import Access, UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.selection import offer_for
from profile_spawner.profiles.snapshot import Snapshot

from .cards import Card, Wants, badges_for, card_of

__all__ = ["Deck", "Decks", "Personalise", "search_text"]

MOST_DECKS = 256
"""For how many different sets of groups and params the cards of a snapshot are kept."""

SLICE = 250
"""After this number of profiles, a long loop yields to other tasks. This takes less than 5 ms."""

Personalise = Callable[[Entry], Awaitable[Entry]]
"""Returns a profile with the params of the user, of the groups and of the hub."""


class Deck(Sequence[Card]):
    """The cards that some users see, in the order of the page. A card is made when it is first needed.

    Args:
        entries: The profiles, in order.
        user: One of the users; what they see of options and choices is the same for all of them.
        admin: Whether it is looked at by an administrator, who also sees who may use each profile.
        personalise: Gives the entries the users' params; then only cards that `prepare` made can be had.
        default: The slug that is chosen at first.

    Attributes:
        key: Equal for users who share it.
        shared: Whether it is kept for others: then markup may be kept with it.
        pages: What the renderer keeps of it: whole pages.
        plain: The same: cards that are not chosen.
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
        self._entries = list(entries)
        self._positions = {entry.slug: number for number, entry in enumerate(self._entries)}
        self._user = user
        self._admin = admin
        self._personalise = personalise
        self._cards: dict[int, Card] = {}
        self.default = default
        self.key: Hashable = None
        self.shared = False
        self.pages: OrderedDict[Hashable, list[str]] = OrderedDict()
        self.plain: dict[Hashable, list[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Card: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Card]: ...
    def __getitem__(self, index: int | slice) -> Card | Sequence[Card]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index not in self._cards:
            if self._personalise is not None and 0 <= index < len(self):
                raise LookupError(f"card {index} has to be prepared first")
            self._cards[index] = self._card(self._entries[index])
        return self._cards[index]

    @classmethod
    def of(cls, cards: Sequence[Card]) -> Deck:
        """Return a deck of cards that are already made, for one view."""
        deck = cls([Entry(offer=card.offer, category=card.category) for card in cards], UserInfo(""))
        deck._cards.update(enumerate(cards))
        return deck

    def index_of(self, slug: str | None) -> int | None:
        """Return where the card of a profile is; `None` when it is not there."""
        return self._positions.get(slug) if slug is not None else None

    def entry(self, index: int) -> Entry:
        """Return the profile at a position, without the users' params."""
        return self._entries[index]

    async def prepare(self, positions: Iterable[int]) -> None:
        """Make cards, with the users' params; hooks run in between."""
        for number, index in enumerate(positions):
            if index in self._cards:
                continue
            entry = self._entries[index]
            if self._personalise is not None:
                entry = await self._personalise(entry)
            self._cards[index] = self._card(entry)
            if number % 8 == 7:
                await asyncio.sleep(0)

    def _card(self, entry: Entry) -> Card:
        access = entry.offer.access
        audience = access.describe() if self._admin and not access.is_open else ""
        return card_of(entry, offer_for(entry.offer, self._user), audience=audience)


class Decks:
    """All decks of one snapshot.

    Args:
        snapshot: The profiles; not kept.
        category_order: Categories that come first, in this order.
    """

    def __init__(self, snapshot: Snapshot, category_order: Sequence[str] = ()) -> None:
        self._category_order = tuple(category_order)
        self._rules: tuple[Access, ...] | None = None
        self._decks: OrderedDict[Hashable, Deck] = OrderedDict()
        self._texts: dict[str, str] = {}
        self.wants: frozenset[Wants] = frozenset()
        self._size = len(snapshot)

    async def deck(
        self,
        snapshot: Snapshot,
        user: UserInfo,
        *,
        admin: bool = False,
        personalise: Personalise | None = None,
        personal_key: str = "",
    ) -> Deck:
        """Return the deck of a user.

        Args:
            snapshot: The same as at the beginning.
            user: Who sees it.
            admin: Whether an administrator looks at it.
            personalise: See `Deck`.
            personal_key: Equal for users whose params are equal.
        """
        if self._rules is None:
            self._rules = await self._collect(snapshot)
        visible = snapshot.visible_to(user)
        audience = snapshot.audience(user)
        seen = audience if audience is not None else tuple(entry.slug for entry in visible)
        key = (seen, tuple(rule.allows(user) for rule in self._rules), admin, personal_key)
        if key in self._decks:
            self._decks.move_to_end(key)
            return self._decks[key]
        deck = Deck(
            self.in_order(visible),
            user,
            admin=admin,
            personalise=personalise if personal_key else None,
            default=snapshot.default_for(user),
        )
        deck.key, deck.shared = key, True
        self._decks[key] = deck
        while len(self._decks) > MOST_DECKS:
            self._decks.popitem(last=False)
        return deck

    def in_order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the profiles by category: the configured ones first, then as they appear; those without one on top."""
        if not any(entry.category for entry in entries):
            return entries
        sections: dict[str, list[Entry]] = {"": []}
        sections.update({name: [] for name in self._category_order})
        for entry in entries:
            sections.setdefault(entry.category, []).append(entry)
        return [entry for section in sections.values() for entry in section]

    async def _collect(self, snapshot: Snapshot) -> tuple[Access, ...]:
        """Find all rules about options and choices, and all scarce resources."""
        rules: dict[Hashable, Access] = {}
        wants = set()
        for number, entry in enumerate(snapshot.entries.values()):
            if entry.effective.get("extra_resource_limits"):
                wanted = Wants.of(entry.effective)
                wants |= {wanted} if wanted is not None else set()
            for option in entry.offer.options:
                for access in option.accesses():
                    if not access.is_open:
                        rules[access.groups, access.users, id(access.hook)] = access
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        self.wants = frozenset(wants)
        return tuple(rules.values())

    async def search(self, deck: Deck, words: Sequence[str]) -> list[int]:
        """Return the positions of the cards of `deck` that have all the words, which are in lower case."""
        found = []
        for number in range(len(deck)):
            entry = deck.entry(number)
            if entry.slug not in self._texts:
                # Options with an access rule are not searched.
                self._texts[entry.slug] = search_text_of(entry)
            text = self._texts[entry.slug]
            if all(word in text for word in words):
                found.append(number)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return found


def search_text(card: Card) -> str:
    """Return the searchable text of a card, in lower case."""
    labels = [badge.label for badge in card.badges]
    return _text(card.offer.display_name, card.offer.description, card.category, *card.tags, *labels)


def search_text_of(entry: Entry) -> str:
    """Return the same for a profile whose card has not been made."""
    labels = [badge.label for badge in badges_for(entry.effective)]
    return _text(entry.offer.display_name, entry.offer.description, entry.category, *entry.tags, *labels)


def _text(*parts: str) -> str:
    return " ".join(parts).lower()[:600]
