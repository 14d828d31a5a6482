"""The spawn page's form: what this user may choose, filled in with what was chosen or typed before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jupyterhub
from traitlets import default

from profile_spawner.options import Offer, Rejection, offer_for
from profile_spawner.page.cards import Card, card_of
from profile_spawner.page.handlers import SEARCH_LIMIT, add_routes, static_url
from profile_spawner.page.render import PageRenderer, PageRequest, language_of, search_text
from profile_spawner.registry import Entry, Snapshot

from .layers import layers_key
from .upstream import display_entry

__all__ = ["FormMixin"]

LINK_PREFIX = "opt-" if jupyterhub.version_info[0] >= 6 else ""
"""What stands before the name of a choice in a link."""


MOST_AUDIENCES = 256
"""For how many different sets of groups and params the cards are kept."""


class FormMixin:
    """The part of `ProfileSpawner` that makes the form."""

    @default("options_form")
    def _options_form_default(self) -> Any:
        listed, _ = self._own_profile_list()  # type: ignore[attr-defined]
        if not callable(listed) and not listed and not self.profiles.has_sources:  # type: ignore[attr-defined]
            return ""
        return self._render_form

    def remember_rejected(self, request: Mapping[str, Any], rejection: Rejection | None) -> None:
        """Keep what was typed or linked until the form is shown again, which happens in the same request."""
        self.profiles.rejected[self.user.name] = (request, rejection)  # type: ignore[attr-defined]

    def _uses_own_template(self) -> bool:
        """Whether the administrator has set a KubeSpawner template: then it is used, with upstream's variables."""
        paths = self.additional_profile_form_template_paths  # type: ignore[attr-defined]
        return bool(self.profile_form_template) or any((Path(p) / "form.html").is_file() for p in paths)  # type: ignore[attr-defined]

    async def _render_form(self, spawner: Any) -> str:
        """Return the form's HTML; called by JupyterHub for every view of the page."""
        del spawner
        snapshot: Snapshot | None = await self.catalogue()  # type: ignore[attr-defined]
        if snapshot is None:
            return ""
        user = self.user_info  # type: ignore[attr-defined]
        if self._uses_own_template():
            self.profiles.rejected.pop(self.user.name, None)  # type: ignore[attr-defined]
            listed = [display_entry(e, user) for e in snapshot.visible_to(user)]
            return str(self._render_options_form(listed))  # type: ignore[attr-defined]
        entries = await personal_entries(self, snapshot)
        return renderer_of(self.profiles).render(self._page_request(snapshot, entries))  # type: ignore[attr-defined]

    def _page_request(self, snapshot: Snapshot, entries: Personal) -> PageRequest:
        spawner: Any = self
        user = spawner.user_info
        admin = self._viewed_by_admin()
        request, rejection = spawner.profiles.rejected.pop(user.name, (None, None))
        stored = dict(spawner.user_options or {})
        notices: list[str] = []
        values = dict(request) if request is not None else stored
        selected = values.get("profile")
        if isinstance(rejection, Rejection):
            selected = rejection.slug or selected
        elif request is None and stored:
            selected, values = self._still_valid(snapshot, stored, notices)
        entry = snapshot.find(selected) if isinstance(selected, str) else None
        base = static_url(spawner.hub.base_url) if self._routes_exist() else ""
        server = f"?{urlencode({'server': spawner.name})}" if spawner.name else ""
        cards = cards_for(spawner.profiles, snapshot, user, admin=admin, personal=entries)
        return PageRequest(
            cards=cards,
            audience=audience_of(spawner.profiles, snapshot, user, cards, admin=admin, personal=entries),
            selected=entry.slug if entry is not None else snapshot.default_for(user),
            values=values,
            problems=rejection.problems if isinstance(rejection, Rejection) else (),
            notices=tuple(notices),
            admin_notices=tuple(str(p) for p in snapshot.problems) if admin else (),
            static=base,
            search=f"{spawner.hub.base_url}profile-spawner/profiles{server}" if base else "",
            link=self._spawn_url(),
            link_prefix=LINK_PREFIX,
            groups=tuple(sorted(user.groups)),
            language=self._language(),
        )

    def _still_valid(
        self, snapshot: Snapshot, stored: dict[str, Any], notices: list[str]
    ) -> tuple[str | None, dict[str, Any]]:
        """Return the last choice as far as it still exists, and say what does not."""
        user = self.user_info  # type: ignore[attr-defined]
        result = snapshot.select(stored, user)
        if not isinstance(result, Rejection):
            notices.extend(result.notices)
            return result.slug, dict(result.user_options)
        if result.slug is None:
            if stored.get("profile"):
                notices.append("The profile that you used last is not available any more.")
            return None, {}
        notices.extend(f"Your last choice does not fit any more. {p.message}" for p in result.problems)
        wrong = {p.field.rpartition("--")[2] for p in result.problems}
        return result.slug, {k: v for k, v in stored.items() if k.removesuffix("--unlisted-choice") not in wrong}

    def _viewed_by_admin(self) -> bool:
        handler = getattr(self, "handler", None)
        viewer = getattr(handler, "current_user", None) or self.user  # type: ignore[attr-defined]
        return bool(getattr(viewer, "admin", False))

    def _language(self) -> str:
        handler = getattr(self, "handler", None)
        return language_of(handler.request.headers.get("Accept-Language", "")) if handler is not None else "en"

    def _spawn_url(self) -> str:
        spawner: Any = self
        name = f"/{spawner.name}" if spawner.name else ""
        return f"{spawner.hub.base_url}spawn/{getattr(spawner.user, 'escaped_name', spawner.user.name)}{name}"

    def _routes_exist(self) -> bool:
        """Add the page's routes to the hub that this spawner runs in; false outside of a hub."""
        from jupyterhub.app import JupyterHub

        application = getattr(JupyterHub.instance(), "tornado_application", None) if JupyterHub.initialized() else None
        if application is None:
            return False
        add_routes(application, self.hub.base_url, search_profiles)  # type: ignore[attr-defined]
        return True


def renderer_of(profiles: Any) -> PageRenderer:
    """Return the hub's one renderer."""
    if profiles.renderer is None:
        profiles.renderer = PageRenderer(profiles.settings.page_template_paths)
    renderer: PageRenderer = profiles.renderer
    return renderer


@dataclass(frozen=True)
class Personal:
    """The profiles that a user may see, as the params of the user, the groups and the hub make them.

    Attributes:
        entries: In order.
        key: Equal for users with equal params; empty where nobody has any.
    """

    entries: tuple[Entry, ...]
    key: str = ""


async def personal_entries(spawner: Any, snapshot: Snapshot) -> Personal:
    """Return the profiles for a spawner's user; made once for all users with equal params."""
    entries = snapshot.visible_to(spawner.user_info)
    layers = spawner.param_layers() if snapshot.resolver is not None else {}
    key = layers_key(layers)
    if not key:
        return Personal(entries)
    made = _kept(spawner.profiles, snapshot).setdefault("personal", OrderedDict()).setdefault(key, {})
    for number, entry in enumerate(entries):
        if entry.slug not in made:
            made[entry.slug] = await snapshot.personal(entry, **layers)
            if number % 8 == 7:
                await asyncio.sleep(0)  # hooks run in between: the loop must not wait for all of them
    return Personal(tuple(made[e.slug] for e in entries), key)


def _kept(profiles: Any, snapshot: Snapshot) -> dict[Any, Any]:
    """Return what is kept for a snapshot; a new one begins with nothing."""
    kept: dict[Any, Any] = profiles.cards
    if kept.get("snapshot") is not snapshot:
        kept.clear()
        kept["snapshot"] = snapshot
        # Stands for the snapshot in the renderer's keys: an id could be used again, the snapshot would be kept alive.
        kept["token"] = object()
    for few in ("personal", "cards"):
        while len(kept.setdefault(few, OrderedDict())) > MOST_AUDIENCES:
            kept[few].popitem(last=False)
    return kept


def cards_for(
    profiles: Any, snapshot: Snapshot, user: Any, *, admin: bool, personal: Personal | None = None
) -> list[Card]:
    """Return the cards that `user` may see; made once per snapshot where nothing depends on the user."""
    personal = personal or Personal(snapshot.visible_to(user))
    kept = _kept(profiles, snapshot)["cards"]
    audience = snapshot.audience(user)
    key = (audience, admin, personal.key)
    if audience is not None and key in kept:
        result: list[Card] = kept[key]
        return result
    offers = [offer_for(e.offer, user) for e in personal.entries]
    result = [_card(e, offer, admin) for e, offer in zip(personal.entries, offers, strict=True)]
    # Choices can be restricted by rules that the profiles' own rules do not know of: such cards are the user's alone.
    if audience is not None and all(o is e.offer for o, e in zip(offers, personal.entries, strict=True)):
        kept[key] = result
    return result


def audience_of(
    profiles: Any, snapshot: Snapshot, user: Any, cards: list[Card], *, admin: bool, personal: Personal | None = None
) -> Any:
    """Return what the markup of `cards` may be shared under; `None` when it is this user's alone.

    Users who see the same profiles may still see different choices in them: only cards that `cards_for` keeps
    are shared.
    """
    kept = _kept(profiles, snapshot)
    key = (snapshot.audience(user), admin, personal.key if personal else "")
    if key[0] is None or kept["cards"].get(key) is not cards:
        return None
    return (kept["token"], *key)


def _card(entry: Entry, offer: Offer, admin: bool) -> Card:
    audience = entry.offer.access.describe() if admin and not entry.offer.access.is_open else ""
    return card_of(entry, offer, audience=audience)


async def search_profiles(handler: Any, server: str, words: str, fragment: bool) -> tuple[str, int]:
    """Answer a search of the logged-in user for one of their own servers.

    Returns:
        The markup and the number of matches.
    """
    user = handler.current_user
    spawner = user.spawners[server if server in user.spawners else ""]
    snapshot = await spawner.catalogue()
    if snapshot is None:
        return "", 0
    wanted = words.lower().split()
    personal = await personal_entries(spawner, snapshot)
    cards = cards_for(spawner.profiles, snapshot, spawner.user_info, admin=user.admin, personal=personal)
    found = [c for c in cards if all(w in search_text(c) for w in wanted)]
    if not fragment:
        link = f"{spawner.hub.base_url}spawn/{user.escaped_name}{'/' + server if server else ''}"
        items = "".join(
            f'<li><a href="{escape(link)}?{escape(urlencode({LINK_PREFIX + "profile": c.offer.slug}))}">'
            f"{escape(c.offer.display_name)}</a></li>"
            for c in found
        )
        return f"<ul>{items}</ul>", len(found)
    base = static_url(spawner.hub.base_url)
    language = language_of(handler.request.headers.get("Accept-Language", ""))
    request = PageRequest(cards=(), static=base, language=language)
    return renderer_of(spawner.profiles).render_cards(request, found[:SEARCH_LIMIT]), len(found)
