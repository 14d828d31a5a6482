"""Finds the user who views a page, and the language.

JupyterHub sets the handler of a view on the spawner and does not remove it. So the handler may belong to an earlier
view, for example of an administrator. This module therefore keeps the handler in the context of its request.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from profile_spawner.page.translations import LANGUAGES, language_of

__all__ = ["language", "remember_handler", "viewer"]

_handler: ContextVar[Any] = ContextVar("profile_spawner_handler", default=None)


def remember_handler(handler: Any, user_name: str, languages: dict[str, str]) -> None:
    """Take note of the handler that JupyterHub has just set on a spawner.

    Args:
        handler: The handler; `None` when JupyterHub removes it.
        user_name: The spawner's user.
        languages: The language of each user's last view of the own page; changed here.
    """
    _handler.set(handler)
    current = viewer()
    if current is not None and getattr(current, "name", None) == user_name:
        languages[user_name] = _language_of(handler)


def viewer() -> Any:
    """Return the user who sends the request that is being answered; `None` if unknown."""
    return getattr(_handler.get(), "current_user", None)


def language(user_name: str, languages: dict[str, str]) -> str:
    """Return the language of the request that is being answered, else of the user's last view."""
    handler = _handler.get()
    return _language_of(handler) if handler is not None else languages.get(user_name, LANGUAGES[0])


def _language_of(handler: Any) -> str:
    return language_of(handler.request.headers.get("Accept-Language", ""))
