"""Turns cards into the form's HTML. A page without problems to show is kept for users who get the same."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, PrefixLoader, select_autoescape
from markupsafe import Markup

from profile_spawner.profiles.options import UNLISTED
from profile_spawner.profiles.selection import Problem, form_field
from profile_spawner.texts import Gettext, Text, marked, said

from .cards import Card, GpuDemand, icon_url, search_text
from .markdown import render_description
from .translations import LANGUAGES, gettext_for, language_of, translations_for

__all__ = ["LANGUAGES", "PageRenderer", "PageRequest", "language_of"]

FIRST_PAYLOAD_BYTES = 28_000
"""The maximum size of the cards' markup in the first view. The user finds other cards by searching."""

SEARCH_FROM = 8
"""The minimum number of profiles for which the page has a search field."""

_INDENT = re.compile(r"\n\s+")
_FAILED = marked("A template of your own fails, and the shipped one is used instead: %(why)s")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageRequest:
    """One view of the page.

    Attributes:
        cards: The cards of the first view, in order.
        total: How many cards there are, of which `cards` are some; by default these are all.
        selected: The slug of the profile that the user has selected.
        default: The slug that is selected otherwise.
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
        capacity: Returns the state and the words for what is free of a demand; `None` when nothing is known.
        cache: The pages that were made of the same cards; nothing is kept by default.
    """

    cards: Sequence[Card]
    total: int | None = None
    selected: str | None = None
    default: str | None = None
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
    admin: bool = False
    capacity: Callable[[GpuDemand], tuple[str, Text] | None] | None = None
    cache: MutableMapping[Hashable, str] | None = None

    def free(self, card: Card) -> tuple[str, Text] | None:
        """Return what is free of what the card's profile needs; `None` when nothing is known."""
        return self.capacity(card.demand) if self.capacity is not None and card.demand is not None else None

    def key(self) -> Hashable:
        """Return a key that is equal for views of the same cards that look the same."""
        return (
            (self.selected, self.default, json.dumps(self.values, sort_keys=True, default=repr)),
            (self.notices, self.admin_notices, () if self.cards else self.groups),
            (self.static, self.search, self.link, self.link_prefix, self.language),
            tuple(self.free(card) for card in self.cards if card.demand is not None),
        )


class PageRenderer:
    """Renders the page.

    Args:
        template_paths: Folders in which administrators keep a `profile_spawner/form.html` of their own. It can extend
            the shipped one: `{% extends "shipped/form.html" %}`. When it fails, the shipped one is used.
        log: Where a template that fails is reported.
    """

    def __init__(self, template_paths: Sequence[str] = (), log: Any = _log) -> None:
        self._log = log
        self._failure = ""
        self._shipped = _TemplateSet(())
        self._own = _TemplateSet(template_paths) if template_paths else None

    def render(self, request: PageRequest) -> str:
        """Return the form's HTML. If the administrator's template fails, this is logged and the shipped one is used."""

        def page(templates: _TemplateSet) -> str:
            notices = request.admin_notices
            if self._failure and request.admin:
                notices = (*notices, Text(_FAILED, why=self._failure))
            if request.cache is None or request.problems:
                return templates.page(request, notices)
            key = (templates.version(), notices, request.key())
            if key not in request.cache:
                request.cache[key] = templates.page(request, notices)
            return request.cache[key]

        return self._with_own(page)

    def render_cards(self, request: PageRequest) -> str:
        """Return the markup of the cards, none of them selected, for the answer to a search."""
        return self._with_own(lambda templates: "".join(templates.card(card, request) for card in request.cards))

    def render_links(self, request: PageRequest, words: str, fields: Mapping[str, str]) -> str:
        """Return the page of links, which replaces the search where there is no script.

        Args:
            request: The cards that were found, language and URLs.
            words: The search words.
            fields: Further fields that the search form sends.
        """
        template = self._shipped.environment(request.language).get_template("profile_spawner/all.html")
        sent = {name: value for name, value in fields.items() if value}
        return template.render(request=request, cards=request.cards, total=request.total, words=words, fields=sent)

    def _with_own(self, render: Callable[[_TemplateSet], _T]) -> _T:
        """Render with the administrator's templates, with the shipped ones if there are none or if they fail."""
        if self._own is None:
            return render(self._shipped)
        failed, self._failure = self._failure, ""
        try:
            return render(self._own)
        except Exception as e:  # noqa: BLE001 - an administrator's template may raise anything; users get their page
            self._failure = f"{type(e).__name__}: {e}"
            if self._failure != failed:
                self._log.exception("A template in page_template_paths fails; the shipped one is used instead")
            return render(self._shipped)


class _TemplateSet:
    """One set of templates.

    Args:
        template_paths: Folders of templates that come before the shipped ones.
    """

    def __init__(self, template_paths: Sequence[str]) -> None:
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
        self._environments: dict[str, Environment] = {}

    def version(self) -> tuple[int, ...]:
        """Return what changes when an administrator edits a template."""
        return tuple(_changed_at(file) for file in self._files)

    def environment(self, language: str) -> Environment:
        """Return the template environment for one language, made once. It translates every text that is printed."""
        if language not in self._environments:
            gettext = gettext_for(language)
            environment = Environment(
                loader=self._loader,
                autoescape=select_autoescape(default=True, default_for_string=True),
                extensions=["jinja2.ext.i18n"],
                trim_blocks=True,
                lstrip_blocks=True,
                finalize=lambda value: said(value, gettext),
            )
            environment.install_gettext_translations(translations_for(language), newstyle=True)  # type: ignore[attr-defined]
            environment.filters["description"] = render_description
            environment.globals.update(
                form_field=form_field,
                unlisted=UNLISTED,
                badge_changes=lambda card, option: _badge_changes(card, option, gettext),
                icon_url=icon_url,
                search_text=lambda card: search_text(card.offer, card.category, card.tags, card.badges, gettext),
            )
            self._environments[language] = environment
        return self._environments[language]

    def page(self, request: PageRequest, admin_notices: Sequence[str]) -> str:
        """Return the markup of the whole form."""
        selected = _selected(request)
        sections, more = self._sections(request, selected)
        template = self.environment(request.language).get_template("profile_spawner/form.html")
        markup = template.render(
            request=request,
            admin_notices=admin_notices,
            cards=sections,
            more=more,
            total=_total(request),
            selected=selected,
            search_from=SEARCH_FROM,
            problems=request.problems,
        )
        return _INDENT.sub("\n", markup)

    def _sections(self, request: PageRequest, selected: str | None) -> tuple[list[dict[str, Any]], int]:
        """Return the cards' markup by category, as far as it fits and always the selected one; how many are missing."""
        made: dict[int, Markup] = {}
        size = 0
        for number, card in sorted(enumerate(request.cards), key=lambda item: item[1].offer.slug != selected):
            markup = self.card(card, request, selected=card.offer.slug == selected)
            size += len(markup)
            if size > FIRST_PAYLOAD_BYTES and made:
                break
            made[number] = Markup(markup)  # noqa: S704 - rendered with escaping
        sections: dict[str, list[Markup]] = {}
        for number in sorted(made):
            sections.setdefault(request.cards[number].category, []).append(made[number])
        return [{"category": c, "cards": cards} for c, cards in sections.items()], _total(request) - len(made)

    def card(self, card: Card, request: PageRequest, *, selected: bool = False) -> str:
        """Return the markup of one card; that of the selected one is filled in and shows the problems."""
        template = self.environment(request.language).get_template("profile_spawner/card.html")
        values = request.values if selected else {}
        problems = {p.field: p.message for p in request.problems} if selected else {}
        markup = template.module.card(card, request, selected, values, problems)  # type: ignore[attr-defined]
        return _INDENT.sub("\n", str(markup))


def _total(request: PageRequest) -> int:
    return len(request.cards) if request.total is None else request.total


def _selected(request: PageRequest) -> str | None:
    """Return the slug of the selected card: the user's, the default, or the first that can be started."""
    slugs = {card.offer.slug for card in request.cards}
    usable = [card.offer.slug for card in request.cards if not card.offer.unavailable]
    if request.selected in slugs:
        return request.selected
    return request.default if request.default in usable else next(iter(usable), None)


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _badge_changes(card: Card, option: str, gettext: Gettext) -> str:
    """Return which badges an option changes, as JSON for the script; empty when it changes none."""
    changes = card.changes.get(option)
    if not changes:
        return ""
    shown = {choice: [[kind, said(label, gettext)] for kind, label in badges] for choice, badges in changes.items()}
    return json.dumps(shown, separators=(",", ":"))
