"""The spawn page's form: what this user may choose, filled in with what was chosen or typed before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from traitlets import default

from profile_spawner.options import Rejection
from profile_spawner.registry import Snapshot

from .upstream import display_entry

__all__ = ["FormMixin"]


class FormMixin:
    """The part of `ProfileSpawner` that makes the form."""

    @default("options_form")
    def _options_form_default(self) -> Any:
        listed, _ = self._own_profile_list()  # type: ignore[attr-defined]
        if listed is None and not self.profiles.has_sources:  # type: ignore[attr-defined]
            return ""
        if isinstance(listed, list | dict) and not listed and not self.profiles.has_sources:  # type: ignore[attr-defined]
            return ""
        return self._render_form

    def remember_rejected(self, request: Mapping[str, Any], rejection: Rejection | None) -> None:
        """Keep what was typed or linked until the form is shown again, which happens in the same request."""
        self.profiles.rejected[self.user.name, self.name] = (request, rejection)  # type: ignore[attr-defined]

    def _take_rejected(self) -> tuple[Mapping[str, Any], Rejection | None] | None:
        rejected = self.profiles.rejected  # type: ignore[attr-defined]
        user = self.user.name  # type: ignore[attr-defined]
        # JupyterHub renders the form again with the default server's spawner, even for a named server.
        mine = next((key for key in rejected if key[0] == user), None)
        return rejected.pop(mine) if mine is not None else None

    async def _render_form(self, spawner: Any) -> str:
        """Return the form's HTML; called by JupyterHub for every view of the page."""
        del spawner
        snapshot: Snapshot | None = await self.catalogue()  # type: ignore[attr-defined]
        if snapshot is None:
            return ""
        user = self.user_info  # type: ignore[attr-defined]
        entries = snapshot.visible_to(user)
        self._take_rejected()
        return str(self._render_options_form([display_entry(e, user) for e in entries]))  # type: ignore[attr-defined]
