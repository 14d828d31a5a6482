"""The spawn page's form: the profiles and options of this user, filled in with earlier values."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jupyterhub
from jupyterhub.utils import url_escape_path
from tornado import web

from profile_spawner.errors import ProfileSpawnerError, described
from profile_spawner.page.hub_pages import SEARCH_LIMIT, HubPages, SearchRequest, Viewer, problem_notices
from profile_spawner.page.render import PageRequest
from profile_spawner.page.static_files import static_url
from profile_spawner.profiles.selection import Rejection
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text, marked

from .seams import running_hub
from .upstream import display_entry
from .viewing import viewer

if TYPE_CHECKING:
    from .spawner import ProfileSpawner

__all__ = ["SpawnForm", "expect_rejected", "remember_rejected", "search_profiles", "spawn_url", "uses_own_template"]

LINK_PREFIX = "opt-" if jupyterhub.version_info[0] >= 6 else ""
"""The prefix of option names in a link."""

LINKS_LIMIT = 200
"""The maximum number of profiles on the page of links."""

INCOMPLETE = marked("Some profiles cannot be listed at the moment. Please tell your administrator.")

HIDDEN_SHOWN = 10
"""The maximum number of hidden profiles that are listed for an administrator."""


@dataclass(frozen=True)
class Rejected:
    """A rejected or unconfirmed request that the form shows again.

    Attributes:
        request: What was typed or linked, in the shape of `user_options`.
        rejection: What is wrong with it; `None` when it is only to be confirmed.
        server: The name of the server it was for.
    """

    request: Mapping[str, Any]
    rejection: Rejection | None
    server: str


_rejected: ContextVar[list[Rejected] | None] = ContextVar("profile_spawner_rejected", default=None)


def _taken() -> Rejected | None:
    """Return what was rejected in this request, once."""
    expected = _rejected.get()
    return expected.pop() if expected else None


def expect_rejected() -> None:
    """Prepare to store a rejection in this request. Not `async`: it must run in the caller's task."""
    _rejected.set([])


def remember_rejected(request: Mapping[str, Any], rejection: Rejection | None, server: str) -> None:
    """Keep the typed or linked values until the form is shown again in the same request."""
    # After a mistake, JupyterHub shows the form of the user's default server, whichever was to be started. So the
    # values belong to the request, and to no other request of the user.
    expected = _rejected.get()
    if expected is not None:
        expected[:] = [Rejected(request, rejection, server)]


def uses_own_template(spawner: ProfileSpawner) -> bool:
    """Return whether the administrator has set a KubeSpawner template. It gets KubeSpawner's variables."""
    paths = spawner.additional_profile_form_template_paths
    return bool(spawner.profile_form_template) or any((Path(p) / "form.html").is_file() for p in paths)


def has_own_options(spawner: ProfileSpawner) -> bool:
    """Return whether the administrator's own code reads the form or applies options, which may be others then."""
    own_form = spawner.options_from_form != spawner._options_from_form  # noqa: SLF001 - the trait's default
    return own_form or spawner.apply_user_options is not None


class SpawnForm:
    """The form for one server.

    Args:
        spawner: The server's spawner.
    """

    def __init__(self, spawner: ProfileSpawner) -> None:
        self._spawner = spawner
        self._pages: HubPages = spawner.profiles.pages
        self._for_admins: list[str] = []

    async def render(self) -> str:
        """Return the form's HTML; empty if no profiles are configured."""
        snapshot = await self._spawner.catalogue()
        if snapshot is None:
            return ""
        if uses_own_template(self._spawner):
            form = self._own_form(snapshot)
            if form is not None:
                return form
        return self._pages.renderer.render(await self._page_request(snapshot))

    def _own_form(self, snapshot: Snapshot) -> str | None:
        """Return the form of the administrator's KubeSpawner template; `None` if it cannot be rendered."""
        user = self._spawner.user_info
        listed = [display_entry(entry, user) for entry in snapshot.visible_to(user)]
        try:
            form = self._spawner.template_form(listed)
        except BaseException as e:  # an administrator's template may raise anything; users get a page
            self._spawner.log.exception("The configured template of the form fails; the shipped one is used instead")
            why = described(e)
            self._for_admins.append(
                Text("The configured template of the form fails, and this one is used instead: %(why)s", why=why)
            )
            return None
        _taken()
        return form

    async def _page_request(self, snapshot: Snapshot) -> PageRequest:
        spawner = self._spawner
        user = spawner.user_info
        rejected = _taken()
        if self._pages.capacity is not None and spawner.api is not None:
            self._pages.capacity.start(lambda: spawner.api.api_client)
        layers = await page_layers(spawner, snapshot, self._for_admins)
        seen_by = Viewer(user, bool(getattr(viewer(), "admin", False)), layers, spawner.language)
        cards = await self._pages.card_list(snapshot, seen_by)
        notices: list[str] = [Text(INCOMPLETE)] if spawner.list_problem is not None else []
        problems = rejected.rejection.problems if rejected is not None and rejected.rejection is not None else ()
        stored = dict(spawner.user_options or {})
        if rejected is not None:
            values = dict(rejected.request)
            selected = (rejected.rejection.slug if rejected.rejection is not None else None) or values.get("profile")
        else:
            selected, values = self._still_valid(snapshot, stored, notices) if stored else (None, {})
        entry = snapshot.find(selected) if isinstance(selected, str) else None
        shown = entry.slug if entry is not None else None
        server = rejected.server if rejected is not None else spawner.name
        served = running_hub() is not None
        return PageRequest(
            cards=await cards.first(shown or cards.default),
            total=len(cards),
            cache=cards.pages,
            selected=shown,
            default=cards.default,
            values=values,
            problems=problems,
            notices=tuple(notices),
            admin_notices=self._admin_notices(snapshot) if seen_by.admin else (),
            static=static_url(spawner.hub.base_url) if served else "",
            search=self._search_url(server) if served else "",
            link=spawn_url(spawner.hub.base_url, self._link_user(), server),
            link_prefix=LINK_PREFIX,
            groups=tuple(sorted(user.groups)),
            language=seen_by.language,
            admin=seen_by.admin,
            capacity=self._pages.capacity,
        )

    def _admin_notices(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Return what an administrator should know: what could not be loaded, and what this user does not see."""
        notices = [*self._for_admins, *problem_notices(snapshot)]
        user = self._spawner.user_info
        if self._is_own_page():
            return tuple(notices)
        groups = ", ".join(sorted(user.groups)) or Text("none")
        notices.append(
            Text("You see this page as %(user)s sees it. Groups: %(groups)s.", user=user.name, groups=groups)
        )
        visible = {entry.slug for entry in snapshot.visible_to(user)}
        hidden = [entry for entry in snapshot.entries.values() if entry.slug not in visible]
        if hidden:
            names = [f"{e.offer.display_name} ({e.offer.access.describe()})" for e in hidden[:HIDDEN_SHOWN]]
            more = f" + {len(hidden) - HIDDEN_SHOWN}" if len(hidden) > HIDDEN_SHOWN else ""
            listed = ", ".join(names) + more
            notices.append(Text("Not offered to %(user)s: %(names)s.", user=user.name, names=listed))
        return tuple(notices)

    def _still_valid(
        self, snapshot: Snapshot, stored: dict[str, Any], notices: list[str]
    ) -> tuple[str | None, dict[str, Any]]:
        """Return the part of the last choice that still exists, and messages about the rest."""
        result = snapshot.select(stored, self._spawner.user_info, others=has_own_options(self._spawner))
        if not isinstance(result, Rejection):
            notices.extend(result.notices)
            return result.slug, dict(result.user_options)
        if result.slug is None:
            if stored.get("profile"):
                notices.append(Text("The profile that you used last is not available any more."))
            return None, {}
        notices.extend(Text("Your last choice does not fit any more. %(why)s", why=p.message) for p in result.problems)
        wrong = {p.field.rpartition("--")[2] for p in result.problems}
        return result.slug, {k: v for k, v in stored.items() if k.removesuffix("--unlisted-choice") not in wrong}

    def _is_own_page(self) -> bool:
        """Return whether users view their own page, or it is unknown who does."""
        current = viewer()
        return current is None or bool(current.name == self._spawner.user.name)

    def _link_user(self) -> str:
        """Return the user's name for the link; empty if the link is for the user who opens it."""
        user = self._spawner.user
        own = viewer() is not None and self._is_own_page()
        return "" if own else str(getattr(user, "escaped_name", user.name))

    def _search_url(self, server: str) -> str:
        query = {"server": server} if server else {}
        if not self._is_own_page():
            query["user"] = self._spawner.user.name
        base = self._spawner.hub.base_url
        return f"{base}profile-spawner/profiles" + (f"?{urlencode(query)}" if query else "")


async def page_layers(spawner: ProfileSpawner, snapshot: Snapshot, failed: list[str]) -> Mapping[str, Any]:
    """Return the layers of params for a page; none if the administrator's hook fails, so that users get a page.

    Args:
        spawner: The server's spawner.
        snapshot: The profiles.
        failed: Gets a text for administrators if the hook fails.
    """
    if snapshot.resolver is None:
        return {}
    try:
        return await spawner.param_layers()
    except ProfileSpawnerError as e:
        spawner.log.error("The params of %s cannot be read: %s", spawner.user.name, e)
        failed.append(Text("The params of this user cannot be read: %(why)s", why=str(e)))
        return {}


def spawn_url(base_url: str, user: str, server: str) -> str:
    """Return the URL of a spawn page: for every user's own default server if possible, so that it can be shared."""
    if not user and not server:
        return f"{base_url}spawn"
    return f"{base_url}spawn/{user}" + (f"/{url_escape_path(server)}" if server else "")


async def search_profiles(search: SearchRequest) -> tuple[str, int]:
    """Answer a search in the profiles of one server.

    Returns:
        The markup and the number of matches.

    Raises:
        tornado.web.HTTPError: with status 404 on a hub whose servers have another spawner.
    """
    spawner = search.user.spawners[search.server if search.server in search.user.spawners else ""]
    if not hasattr(spawner, "catalogue"):
        raise web.HTTPError(404)
    snapshot = await spawner.catalogue()
    if snapshot is None:
        return "", 0
    pages: HubPages = spawner.profiles.pages
    layers = await page_layers(spawner, snapshot, [])
    seen_by = Viewer(spawner.user_info, search.admin, layers, search.language)
    cards = await pages.card_list(snapshot, seen_by)
    found = await pages.card_lists(snapshot).search(cards, search.words.lower().split())
    base = spawner.hub.base_url
    request = PageRequest(
        cards=await cards.cards(found[: SEARCH_LIMIT if search.fragment else LINKS_LIMIT]),
        total=len(found),
        static=static_url(base),
        language=search.language,
        link=spawn_url(base, search.user.escaped_name, search.server),
        link_prefix=LINK_PREFIX,
        capacity=pages.capacity,
    )
    if search.fragment:
        return pages.renderer.render_cards(request), len(found)
    fields = {"server": search.server, "user": search.user.name}
    return pages.renderer.render_links(request, search.words, fields), len(found)
