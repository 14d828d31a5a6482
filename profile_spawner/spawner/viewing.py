"""Finds the user who views a page, and the language.

JupyterHub sets the handler of a view on the spawner and does not remove it. So the handler may belong to an earlier
view, for example of an administrator. This module therefore keeps the handler in the context of its request.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from profile_spawner.page.translations import LANGUAGES, gettext_for, language_of
from profile_spawner.texts import said

__all__ = ["ViewMixin"]

_handler: ContextVar[Any] = ContextVar("profile_spawner_handler", default=None)


class ViewMixin:
    """The part of `ProfileSpawner` that knows the viewer and the language."""

    def remember_handler(self, handler: Any) -> None:
        """Take note of the handler that JupyterHub has just put on the spawner; `None` when it takes it away."""
        _handler.set(handler)
        viewer = getattr(handler, "current_user", None)
        if viewer is not None and getattr(viewer, "name", None) == self.user.name:  # type: ignore[attr-defined]
            self.profiles.languages[viewer.name] = _language(handler)  # type: ignore[attr-defined]

    @property
    def viewer(self) -> Any:
        """The user who sends the request that is being answered; `None` when that is not known."""
        return getattr(_handler.get(), "current_user", None)

    @property
    def viewed_by_admin(self) -> bool:
        """Whether an administrator is known to send the request that is being answered."""
        return bool(getattr(self.viewer, "admin", False))

    @property
    def language(self) -> str:
        """The language of the request that is being answered, else of the user's last view."""
        handler = _handler.get()
        if handler is not None:
            return _language(handler)
        known: dict[str, str] = self.profiles.languages  # type: ignore[attr-defined]
        return known.get(getattr(self.user, "name", ""), LANGUAGES[0])  # type: ignore[attr-defined]

    def say(self, text: str) -> str:
        """Return a text in the user's language."""
        return str(said(text, gettext_for(self.language)))


def _language(handler: Any) -> str:
    return language_of(handler.request.headers.get("Accept-Language", ""))
