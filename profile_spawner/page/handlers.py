"""Request handlers of the page: they serve style, script and icons, and answer searches."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from tornado import web

from .translations import language_of

__all__ = ["Asked", "SearchHandler", "routes", "static_url"]

STATIC = Path(__file__).resolve().parent / "static"
SEARCH_LIMIT = 50
"""How many cards one answer to a search holds."""


@dataclass(frozen=True)
class Asked:
    """A search.

    Attributes:
        user: Whose page it is (JupyterHub's user).
        admin: Whether an administrator looks at it.
        server: The name of the server that is to be started.
        words: What is searched for.
        fragment: Whether the script asks, which wants cards; otherwise a page of links.
        language: One of the page's languages.
    """

    user: Any
    admin: bool
    server: str
    words: str
    fragment: bool
    language: str


Search = Callable[[Asked], Awaitable[tuple[str, int]]]
"""Returns markup and the number of matches."""

_PAGE = """\
{%- extends "page.html" -%}
{%- block main -%}<div class="container">{{ markup | safe }}</div>{%- endblock -%}
"""


@functools.cache
def _version() -> str:
    """Return a hash of all static files: it is part of their URLs, so that browsers can cache the files permanently."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def static_url(base_url: str) -> str:
    """Return the URL below which the static files are.

    Args:
        base_url: The hub's own prefix, such as `/hub/`.
    """
    return f"{base_url}profile-spawner/static/{_version()}"


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
        asked = Asked(
            user=self._user(self.get_argument("user", "")[:255]),
            admin=bool(self.current_user.admin),
            server=self.get_argument("server", "")[:100],
            words=self.get_argument("q", "")[:200],
            fragment=self.get_argument("fragment", "") == "1",
            language=language_of(self.request.headers.get("Accept-Language", "")),
        )
        markup, total = await self._search(asked)
        self.set_header("X-Total-Count", str(total))
        self.set_header("Cache-Control", "no-store")
        if asked.fragment:
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


def routes(search: Search) -> list[tuple[Any, ...]]:
    """Return the page's routes below the hub's prefix, as JupyterHub's `default_handlers` hold them.

    Args:
        search: Answers searches.
    """
    return [
        (rf"/profile-spawner/static/{_version()}/(.*)", _StaticHandler, {"path": str(STATIC)}),
        (r"/profile-spawner/profiles", SearchHandler, {"search": search}),
    ]
