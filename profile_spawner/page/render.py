"""Turns cards into the form's HTML.

Cards that are neither chosen nor filled in look the same for everybody who may see them: their markup is made once per
snapshot. A request then costs one chosen card and one join, whatever the number of profiles.
"""

from __future__ import annotations

import functools
import gettext
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, PrefixLoader, select_autoescape
from markupsafe import Markup

from profile_spawner.options import UNLISTED, Option, Problem, form_field

from .cards import Card, icon_url, option_badges
from .markdown import render_description

__all__ = ["LANGUAGES", "PageRenderer", "PageRequest", "language_of"]

LANGUAGES = ("en", "de")
"""The languages that the page speaks."""

FIRST_PAYLOAD_BYTES = 30_000
"""How much markup of cards the first view may hold; the others come as the user searches."""

SEARCH_FROM = 8
"""From this number of profiles on there is a search field."""

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class PageRequest:
    """One view of the page.

    Attributes:
        cards: What this user may see, in order.
        audience: Equal for users who see the same cards of the same snapshot; `None` switches caching off.
        selected: The slug that is chosen.
        values: What is filled in, in the shape of `user_options`; applies to the chosen profile.
        problems: What is wrong with it.
        notices: What the user should know: a profile that moved, a choice that is gone.
        admin_notices: What an administrator should know: sources that could not be loaded.
        static: The URL of the static files, without a slash at the end; empty when they cannot be served.
        search: The URL that answers searches; empty when there is none.
        link: The URL of this page, to which choices are added for a link to copy.
        link_prefix: `opt-` for JupyterHub 6, nothing before.
        groups: The user's groups, for the explanation when there is nothing to choose from.
        language: One of `LANGUAGES`.
    """

    cards: Sequence[Card]
    audience: Any = None
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


def language_of(accept: str) -> str:
    """Return the language of `LANGUAGES` that an `Accept-Language` header prefers."""
    wanted = []
    for position, part in enumerate(accept[:200].split(",")):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        wanted.append((-weight, position, name.split("-")[0].lower()))
    return next((name for _, _, name in sorted(wanted) if name in LANGUAGES), LANGUAGES[0])


@functools.cache
def _translations(language: str) -> gettext.NullTranslations:
    return gettext.translation("profile_spawner", _FOLDER / "locale", [language], fallback=True)


class PageRenderer:
    """Renders the page.

    Args:
        template_paths: Folders in which administrators keep a `profile_spawner/form.html` of their own. It can extend
            the shipped one: `{% extends "shipped/form.html" %}`.
    """

    def __init__(self, template_paths: Sequence[str] = ()) -> None:
        shipped = PackageLoader("profile_spawner.page", "templates/profile_spawner")
        loader = ChoiceLoader(
            [
                FileSystemLoader([str(p) for p in template_paths]),
                PrefixLoader({"profile_spawner": shipped}),
                PrefixLoader({"shipped": shipped}),
            ]
        )
        self._environments: dict[str, Environment] = {}
        self._loader = loader
        self._plain: OrderedDict[Any, list[tuple[str, str]]] = OrderedDict()

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
            environment.install_gettext_translations(_translations(language), newstyle=True)  # type: ignore[attr-defined]
            environment.filters["description"] = render_description
            environment.globals.update(
                form_field=form_field,
                unlisted=UNLISTED,
                badge_changes=_badge_changes,
                icon_of=card_icon,
                search_text=search_text,
            )
            self._environments[language] = environment
        return self._environments[language]

    def render(self, request: PageRequest) -> str:
        """Return the form's HTML."""
        environment = self.environment(request.language)
        template = environment.get_template("profile_spawner/form.html")
        selected = request.selected if any(c.offer.slug == request.selected for c in request.cards) else None
        if selected is None and request.cards:
            usable = [c for c in request.cards if not c.offer.unavailable]
            selected = usable[0].offer.slug if usable else None
        shown, more = self._cards(environment, request, selected)
        return template.render(
            request=request,
            cards=shown,
            more=more,
            total=len(request.cards),
            selected=selected,
            search_from=SEARCH_FROM,
            problems=request.problems,
        )

    def render_cards(self, request: PageRequest, cards: Sequence[Card]) -> str:
        """Return the markup of some unchosen cards, for the answer to a search."""
        environment = self.environment(request.language)
        card = self._card_macro(environment)
        return "".join(str(card(c, request, False, {}, {})) for c in cards)

    def _card_macro(self, environment: Environment) -> Callable[..., Markup]:
        macro: Callable[..., Markup] = environment.get_template("profile_spawner/card.html").module.card  # type: ignore[attr-defined]
        return macro

    def _cards(
        self, environment: Environment, request: PageRequest, selected: str | None
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the markup of the first cards by category, always with the chosen one, and how many are left out."""
        card = self._card_macro(environment)
        plain = self._plain_markup(card, request)
        values = dict(request.values)
        problems = {p.field: p.message for p in request.problems}
        sections: list[dict[str, Any]] = []
        size = left_out = 0
        seen: set[str] = set()
        for number, c in enumerate(request.cards):
            if number >= len(plain) and (selected is None or selected in seen):
                left_out += len(request.cards) - number
                break
            seen.add(c.offer.slug)
            chosen = c.offer.slug == selected
            if chosen:
                markup = str(card(c, request, True, values, problems))
            elif size < FIRST_PAYLOAD_BYTES and number < len(plain):
                markup = plain[number][1]
                size += len(markup)
            else:
                left_out += 1
                continue
            if not sections or sections[-1]["category"] != c.category:
                sections.append({"category": c.category, "cards": []})
            sections[-1]["cards"].append(Markup(markup))  # noqa: S704 - rendered by an autoescaping template
        return sections, left_out

    def _plain_markup(self, card: Callable[..., Markup], request: PageRequest) -> list[tuple[str, str]]:
        """Return the markup of unchosen cards, as many as the first payload can hold, made once per audience."""
        key = None if request.audience is None else (request.audience, request.language, request.static)
        if key is not None and key in self._plain:
            self._plain.move_to_end(key)
            return self._plain[key]
        markup = []
        size = 0
        for c in request.cards:
            markup.append((c.offer.slug, str(card(c, request, False, {}, {}))))
            size += len(markup[-1][1])
            if size > FIRST_PAYLOAD_BYTES:
                break
        if key is not None:
            self._plain[key] = markup
            while len(self._plain) > 64:
                self._plain.popitem(last=False)
        return markup


def _badge_changes(option: Option) -> str:
    return json.dumps(option_badges(option))


def search_text(card: Card) -> str:
    """Return everything that a search looks at, in lower case."""
    parts = [
        card.offer.display_name,
        card.offer.description,
        card.category,
        *card.tags,
        *(b.label for b in card.badges),
    ]
    return " ".join(parts).lower()[:600]


def card_icon(card: Card, static: str) -> str:
    """Return the URL of a card's icon."""
    return icon_url(card.icon, static)
