"""Turns cards into the form's HTML.

Cards that are not selected and not filled in are equal for all users of a deck. Their markup is made once. A whole page
is also made once if it has no problems to show. The parts that differ between views (the link to copy, the number of
free GPUs) are inserted afterwards.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, PrefixLoader, select_autoescape
from markupsafe import Markup, escape

from profile_spawner.profiles.options import UNLISTED
from profile_spawner.profiles.selection import Problem, form_field
from profile_spawner.texts import Gettext, Text, marked, said

from .cards import Card, Wants, icon_url, in_language
from .decks import Deck, search_text
from .markdown import render_description
from .translations import LANGUAGES, gettext_for, language_of, translations_for

__all__ = ["FIRST_CARDS", "LANGUAGES", "PageRenderer", "PageRequest", "language_of"]

FIRST_PAYLOAD_BYTES = 28_000
"""The maximum size of the cards' markup in the first view. The user finds other cards by searching."""

FIRST_CARDS = 60
"""The maximum number of cards in the first view."""

SEARCH_FROM = 8
"""The minimum number of profiles for which the page has a search field."""

MOST_PAGES = 64
"""The maximum number of pages that are cached for one deck."""

_INDENT = re.compile(r"\n\s+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageRequest:
    """One view of the page.

    Attributes:
        cards: The cards that this user may see, in order: a `Deck`, or a sequence of cards.
        selected: The slug of the selected profile.
        values: The field values of the selected profile, in the format of `user_options`.
        problems: The errors in these values.
        notices: Messages for the user, such as a renamed profile or a removed choice.
        admin_notices: Messages for administrators, such as sources that could not be loaded.
        static: The URL of the static files, without a slash at the end; empty when they cannot be served.
        search: The URL that answers searches; empty when there is none.
        link: The URL of this page, to which choices are added for a link to copy.
        link_prefix: `opt-` for JupyterHub 6, nothing before.
        groups: The user's groups, for the explanation when there is nothing to choose from.
        language: One of `LANGUAGES`.
        admin: Whether an administrator looks at it.
        capacity: Says how many there are of what a profile wants, as markup; empty when nothing is known.
    """

    cards: Sequence[Card]
    selected: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()
    admin_notices: tuple[str, ...] = ()
    static: str = ""
    search: str = ""
    link: str = ""
    link_prefix: str = "opt-"
    groups: tuple[str, ...] = ()
    language: str = "en"
    capacity: Callable[[Wants, Gettext], Markup] | None = None
    admin: bool = False


class PageRenderer:
    """Renders the page.

    Args:
        template_paths: Folders in which administrators keep a `profile_spawner/form.html` of their own. It can extend
            the shipped one: `{% extends "shipped/form.html" %}`. When it fails, the shipped one is used.
        log: Where a template that fails is reported.
    """

    def __init__(self, template_paths: Sequence[str] = (), log: Any = _log) -> None:
        self._paths = [Path(p) for p in template_paths]
        self._log = log
        self._said = ""
        self._holes = _Holes()
        self._shipped = _Look((), self._holes)
        self._own = _Look(template_paths, self._holes) if template_paths else None

    def render(self, request: PageRequest) -> str:
        """Return the form's HTML. If the administrator's template fails, this is logged and the shipped one is used."""
        pieces = self._with_own(lambda look: self._page(look, request))
        if pieces is None:
            failed = (Text(_FAILED, why=self._said),) if request.admin else ()
            pieces = self._page(self._shipped, replace(request, admin_notices=(*request.admin_notices, *failed)))
        return self._holes.fill(pieces, request)

    def render_cards(self, request: PageRequest, cards: Sequence[Card]) -> str:
        """Return the markup of some unchosen cards, for the answer to a search."""

        def made(look: _Look) -> list[str]:
            return self._holes.split("".join(look.card(c, request, False, {}, {}) for c in cards))

        pieces = self._with_own(made)
        return self._holes.fill(made(self._shipped) if pieces is None else pieces, request)

    def render_all(
        self, request: PageRequest, cards: Sequence[Card], total: int, words: str, fields: Mapping[str, str]
    ) -> str:
        """Return what stands on the page of links that takes the place of the search without a script.

        Args:
            request: For language and URLs.
            cards: The first ones found.
            total: How many were found.
            words: What was searched for.
            fields: What else the search form sends.
        """
        template = self._shipped.environment(request.language).get_template("profile_spawner/all.html")
        shown = [in_language(c, gettext_for(request.language)) for c in cards]
        sent = {name: value for name, value in fields.items() if value}
        return template.render(request=request, cards=shown, total=total, words=words, fields=sent)

    # ---------------------------------------------------------------------------------------------- inside

    def _with_own(self, make: Callable[[_Look], list[str]]) -> list[str] | None:
        """Render with the administrator's templates, or with the shipped ones without them; `None` on failure."""
        if self._own is None:
            return make(self._shipped)
        try:
            made = make(self._own)
        except Exception as e:  # noqa: BLE001 - an administrator's template may raise anything; users get their page
            why = f"{type(e).__name__}: {e}"
            if why != self._said:
                self._log.exception("A template in page_template_paths fails; the shipped one is used instead")
            self._said = why
            return None
        self._said = ""
        return made

    def _page(self, look: _Look, request: PageRequest) -> list[str]:
        deck = _deck_of(request)
        selected = self._selected(deck, request)
        key = None
        if deck.shared and not request.problems:
            values = json.dumps(request.values, sort_keys=True, default=repr) if request.values else ""
            told = (request.notices, request.admin_notices, request.groups if not deck else ())
            places = (request.language, request.static, bool(request.search), request.capacity is not None)
            key = (look.version(), *places, selected, values, told)
            if key in deck.pages:
                deck.pages.move_to_end(key)
                pieces: list[str] = deck.pages[key]
                return pieces
        pieces = self._holes.split(self._markup(look, deck, request, selected))
        if key is not None:
            deck.pages[key] = pieces
            while len(deck.pages) > MOST_PAGES:
                deck.pages.popitem(last=False)
        return pieces

    def _markup(self, look: _Look, deck: Deck, request: PageRequest, selected: int | None) -> str:
        gettext = gettext_for(request.language)
        problems = tuple(Problem(p.field, said(p.message, gettext)) for p in request.problems)
        inner = replace(
            request,
            link=self._holes.link,
            search=self._holes.search if request.search else "",
            problems=problems,
            notices=tuple(said(n, gettext) for n in request.notices),
            admin_notices=tuple(said(n, gettext) for n in request.admin_notices),
        )
        sections, more = self._sections(look, deck, inner, selected)
        template = look.environment(request.language).get_template("profile_spawner/form.html")
        markup = template.render(
            request=inner,
            cards=sections,
            more=more,
            total=len(deck),
            selected=deck[selected].offer.slug if selected is not None else None,
            search_from=SEARCH_FROM,
            problems=problems,
        )
        return _INDENT.sub("\n", markup)

    def _selected(self, deck: Deck, request: PageRequest) -> int | None:
        """Return which card is chosen: the one that is asked for, the default, or the first that can be started."""
        for slug in (request.selected, deck.default):
            position = deck.index_of(slug)
            if position is not None and not (deck.entry(position).offer.unavailable and slug != request.selected):
                return position
        usable = (n for n in range(len(deck)) if not deck.entry(n).offer.unavailable)
        return next(usable, None)

    def _sections(
        self, look: _Look, deck: Deck, request: PageRequest, selected: int | None
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the markup of the first cards by category, always with the chosen one, and how many are left out."""
        chosen = ""
        if selected is not None:
            problems = {p.field: p.message for p in request.problems}
            chosen = look.card(deck[selected], request, True, dict(request.values), problems)
        sections: dict[str, list[Markup]] = {}
        size, shown = len(chosen), 0
        for number, markup in enumerate(self._plain(look, request)):
            if number == selected:
                continue
            size += len(markup)
            if size > FIRST_PAYLOAD_BYTES:
                break
            if selected is not None and number > selected and chosen:
                sections.setdefault(deck[selected].category, []).append(Markup(chosen))  # noqa: S704 - as below
                shown, chosen = shown + 1, ""
            sections.setdefault(deck[number].category, []).append(Markup(markup))  # noqa: S704 - autoescaped
            shown += 1
        if selected is not None and chosen:
            sections.setdefault(deck[selected].category, []).append(Markup(chosen))  # noqa: S704 - autoescaped
            shown += 1
        return [{"category": c, "cards": cards} for c, cards in sections.items()], len(deck) - shown

    def _plain(self, look: _Look, request: PageRequest) -> Iterator[str]:
        """Yield the markup of unchosen cards, as many as a first view can hold, made once for a shared deck."""
        deck = _deck_of(request)
        made: list[str] = []
        if deck.shared:
            key = (look.version(), request.language, request.static, request.capacity is not None)
            made = deck.plain.setdefault(key, made)
        size = 0
        for number in range(min(len(deck), FIRST_CARDS)):
            if number >= len(made):
                made.append(look.card(deck[number], request, False, {}, {}))
            yield made[number]
            size += len(made[number])
            if size > FIRST_PAYLOAD_BYTES:
                return


_FAILED = marked("A template of your own fails, and the shipped one is used instead: %(why)s")


class _Look:
    """One set of templates.

    Args:
        template_paths: Folders of templates that come before the shipped ones.
        holes: See `_Holes`.
    """

    def __init__(self, template_paths: Sequence[str], holes: _Holes) -> None:
        shipped = PackageLoader("profile_spawner.page", "templates/profile_spawner")
        self._files = [
            Path(p) / "profile_spawner" / name for p in template_paths for name in ("form.html", "card.html")
        ]
        self._loader = ChoiceLoader(
            [
                FileSystemLoader([str(p) for p in template_paths]),
                PrefixLoader({"profile_spawner": shipped}),
                PrefixLoader({"shipped": shipped}),
            ]
        )
        self._holes = holes
        self._environments: dict[str, Environment] = {}

    def version(self) -> tuple[int, ...]:
        """Return what changes when an administrator edits a template."""
        return tuple(_changed_at(file) for file in self._files)

    def environment(self, language: str) -> Environment:
        """Return the template environment for one language, made once."""
        if language not in self._environments:
            environment = Environment(
                loader=self._loader,
                autoescape=select_autoescape(default=True, default_for_string=True),
                extensions=["jinja2.ext.i18n"],
                trim_blocks=True,
                lstrip_blocks=True,
            )
            environment.install_gettext_translations(translations_for(language), newstyle=True)  # type: ignore[attr-defined]
            environment.filters["description"] = render_description
            environment.globals.update(
                form_field=form_field,
                unlisted=UNLISTED,
                badge_changes=_badge_changes,
                icon_of=card_icon,
                search_text=search_text,
                availability=self._holes.availability,
            )
            self._environments[language] = environment
        return self._environments[language]

    def card(
        self, card: Card, request: PageRequest, chosen: bool, values: Mapping[str, Any], problems: Mapping[str, str]
    ) -> str:
        """Return the markup of one card."""
        template = self.environment(request.language).get_template("profile_spawner/card.html")
        shown = in_language(card, gettext_for(request.language))
        markup = template.module.card(shown, request, chosen, values, problems)  # type: ignore[attr-defined]
        return _INDENT.sub("\n", str(markup))


class _Holes:
    """Placeholders in cached markup for parts that differ between views. Their marks are random and always replaced."""

    def __init__(self) -> None:
        self._mark = f"hole{secrets.token_hex(12)}"
        self._pattern = re.compile(rf"{self._mark}x([0-9]+)x")
        self._wants: dict[Wants, int] = {}
        self._wanted: list[Wants] = []
        self.link = self._hole(0)
        self.search = self._hole(1)

    def _hole(self, number: int) -> str:
        return f"{self._mark}x{number}x"

    def availability(self, card: Card, request: PageRequest) -> Markup:
        """Return what is known about a card beforehand, and the place for how many there are of what it wants."""
        known = Markup('<p class="ps-availability">{}</p>').format(card.availability) if card.availability else Markup()
        if card.wants is None or request.capacity is None:
            return known
        if card.wants not in self._wants:
            self._wants[card.wants] = len(self._wanted)
            self._wanted.append(card.wants)
        return known + Markup(self._hole(2 + self._wants[card.wants]))  # noqa: S704 - letters and digits

    def split(self, markup: str) -> list[str]:
        """Return the markup in pieces; every second one is the number of a hole."""
        return self._pattern.split(markup)

    def fill(self, pieces: Sequence[str], request: PageRequest) -> str:
        """Return the markup with its placeholders filled."""
        if len(pieces) == 1:
            return pieces[0]
        gettext = gettext_for(request.language)
        filled = list(pieces)
        for n in range(1, len(pieces), 2):
            number = int(pieces[n])
            if number >= 2:
                wanted = self._wanted[number - 2]
                filled[n] = str(request.capacity(wanted, gettext)) if request.capacity is not None else ""
            else:
                filled[n] = str(escape(request.search if number else request.link))
        return "".join(filled)


def _deck_of(request: PageRequest) -> Deck:
    return request.cards if isinstance(request.cards, Deck) else Deck.of(request.cards)


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _badge_changes(card: Card, option: str) -> str:
    """Return which badges an option changes, as JSON for the script; empty when it changes none."""
    changes = card.changes.get(option)
    return json.dumps(changes, separators=(",", ":")) if changes else ""


def card_icon(card: Card, static: str) -> str:
    """Return the URL of a card's icon."""
    return icon_url(card.icon, static)
