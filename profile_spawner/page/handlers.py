"""What the page needs from the hub besides its form: style, script and icons, and the answers to searches."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from tornado import web

__all__ = ["SearchHandler", "add_routes", "static_url"]

STATIC = Path(__file__).resolve().parent / "static"
SEARCH_LIMIT = 50
"""How many cards one answer to a search holds."""

Search = Callable[[Any, str, str, bool], Awaitable[tuple[str, int]]]
"""Given the handler, the server name, the words and whether a fragment is wanted: markup and number of matches."""


@functools.cache
def _version() -> str:
    """Return a hash of all static files: it stands in their URLs, so that browsers may keep them for ever."""
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
    """Serves style, script and icons; they hold nothing that is anybody's."""

    def set_extra_headers(self, path: str) -> None:
        """Let browsers keep what never changes under its URL."""
        del path
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.set_header("X-Content-Type-Options", "nosniff")


class SearchHandler(BaseHandler):
    """Finds profiles among those that the user may see: the script's search, and a page of links without a script."""

    def initialize(self, search: Search) -> None:
        """Take what does the search."""
        self._search = search

    @web.authenticated
    async def get(self) -> None:
        """Answer `?q=WORDS&server=NAME`, with `fragment=1` for the script."""
        words = self.get_argument("q", "")[:200]
        server = self.get_argument("server", "")[:100]
        fragment = self.get_argument("fragment", "") == "1"
        markup, total = await self._search(self, server, words, fragment)
        self.set_header("X-Total-Count", str(total))
        self.set_header("Cache-Control", "no-store")
        if fragment:
            self.finish(markup)
        else:
            title = "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Profiles</title>"
            self.finish(f"{title}<h1>{total} profiles</h1>{markup}</html>")


def add_routes(application: Any, hub_base_url: str, search: Search) -> None:
    """Add the page's routes to a running hub; adding them again does nothing.

    JupyterHub's `extra_handlers` is deprecated and would have to be configured by hand, so they are added here.
    """
    if application.settings.setdefault("profile_spawner_routes", False):
        return
    application.settings["profile_spawner_routes"] = True
    prefix = hub_base_url.rstrip("/") + "/profile-spawner"
    application.add_handlers(
        ".*",
        [
            (rf"{prefix}/static/{_version()}/(.*)", _StaticHandler, {"path": str(STATIC)}),
            (rf"{prefix}/profiles", SearchHandler, {"search": search}),
        ],
    )
