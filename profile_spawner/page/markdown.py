"""Renders a small subset of Markdown for descriptions. HTML in the text is escaped.

Paragraphs, emphasis, code, lists and links to http, https and mailto. Images are not supported. The
renderer creates only a fixed set of elements, so the output needs no sanitising.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["render_description"]

_SCHEMES = ("http://", "https://", "mailto:")


@functools.cache
def _renderer() -> MarkdownIt:
    from markdown_it import MarkdownIt  # not needed before the first description is shown

    markdown = MarkdownIt("zero", {"html": False, "linkify": False, "breaks": True})
    markdown.enable(["emphasis", "backticks", "list", "link", "newline", "escape"])
    markdown.validateLink = lambda url: url.lower().startswith(_SCHEMES)  # type: ignore[method-assign]

    def link_open(tokens: Any, index: int, options: Any, env: Any) -> str:
        del env
        tokens[index].attrSet("rel", "noopener noreferrer")
        tokens[index].attrSet("target", "_blank")
        return str(markdown.renderer.renderToken(tokens, index, options, {}))  # type: ignore[attr-defined]

    markdown.add_render_rule("link_open", lambda self, *args: link_open(*args))
    return markdown


@functools.lru_cache(maxsize=1024)
def render_description(text: str) -> Markup:
    """Return the HTML of a description; at most 4,000 characters of it."""
    return Markup(_renderer().render(text[:4000]))  # noqa: S704 - made by a renderer that escapes everything
