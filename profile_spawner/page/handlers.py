"""Request handlers of the page: they serve style, script and icons, and answer searches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jupyterhub.handlers import default_handlers
from jupyterhub.handlers.base import BaseHandler
from tornado import web

from .hub_pages import SearchRequest
from .static_files import STATIC, static_version
from .translations import language_of

__all__ = ["SearchHandler", "add_handlers"]

Search = Callable[[SearchRequest], Awaitable[tuple[str, int]]]
"""Returns markup and the number of matches."""

_PAGE = """\
{%- extends "page.html" -%}
{%- block main -%}<div class="container">{{ markup | safe }}</div>{%- endblock -%}
"""


class _StaticHandler(web.StaticFileHandler):
    """Serves style, script and icons; they contain no user data."""

    def set_extra_headers(self, path: str) -> None:
        """Let browsers cache the file permanently."""
        del path
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.set_header("X-Content-Type-Options", "nosniff")


class SearchHandler(BaseHandler):
    """Finds profiles among those that the user may see: the script's search, and a page of links without a script."""

    def initialize(self, search: Search) -> None:
        """Set the function that does the search."""
        self._search = search

    @web.authenticated
    async def get(self) -> None:
        """Answer `?q=WORDS&server=NAME&user=NAME`, with `fragment=1` for the script."""
        request = SearchRequest(
            user=self._user(self.get_argument("user", "")[:255]),
            admin=bool(self.current_user.admin),
            server=self.get_argument("server", "")[:100],
            words=self.get_argument("q", "")[:200],
            fragment=self.get_argument("fragment", "") == "1",
            language=language_of(self.request.headers.get("Accept-Language", "")),
        )
        markup, total = await self._search(request)
        self.set_header("X-Total-Count", str(total))
        self.set_header("Cache-Control", "no-store")
        if request.fragment:
            self.finish(markup)
            return
        template = self.settings["jinja2_env"].from_string(_PAGE)
        names = {**self.template_namespace, "xsrf_token": self.xsrf_token.decode("ascii"), "markup": markup}
        self.finish(await template.render_async(**names))

    def _user(self, name: str) -> Any:
        """Return the user whose page is searched. Other users' pages need the right to start their servers."""
        if not name or name == self.current_user.name:
            return self.current_user
        user = self.find_user(name) if self.has_scope(f"servers!user={name}") else None
        if user is None:
            raise web.HTTPError(404)
        return user


def add_handlers(search: Search) -> None:
    """Add the page's routes to those that JupyterHub serves below the hub's prefix.

    JupyterHub reads its list when it has imported the spawner's class and read its configuration.

    Args:
        search: Answers searches.
    """
    default_handlers.extend(
        [
            (rf"/profile-spawner/static/{static_version()}/(.*)", _StaticHandler, {"path": str(STATIC)}),
            (r"/profile-spawner/profiles", SearchHandler, {"search": search}),
        ]
    )
