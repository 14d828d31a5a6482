"""Access rules for profiles, options and choices.

The page and the spawn use the same rules. Therefore the page shows exactly the profiles that the user can
start.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import shorten

__all__ = ["EVERYBODY", "Access", "UserInfo"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UserInfo:
    """The data about a user that access rules and hooks can read.

    Attributes:
        name: The JupyterHub user name.
        groups: The names of the user's JupyterHub groups at the time of the check.
        admin: Whether the user is a JupyterHub administrator. Administrators have no special access to profiles.
    """

    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False


@dataclass(frozen=True)
class Access:
    """An access rule. It allows all users unless groups, users or a hook restrict it.

    The user must be in one of `groups` or `users` (if any is given), and the hook must return true. Names are compared
    case-insensitively, because identity providers do not use consistent case.

    Attributes:
        groups: Names of groups, in lower case; `None` means not restricted by group.
        users: Names of users, in lower case; `None` means not restricted by user.
        hook: Called with the `UserInfo`. If it returns false or raises, access is denied. It cannot be `async`.

    Raises:
        ValueError: for an `async` hook.
    """

    groups: frozenset[str] | None = None
    users: frozenset[str] | None = None
    hook: Callable[[UserInfo], bool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        called = (self.hook, getattr(self.hook, "__call__", None))  # noqa: B004 - an object with an async __call__
        if any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in called):
            raise ValueError(
                "is_available_to cannot be async, because it is called where nothing can wait for it; use the user's"
                " groups, or look things up beforehand"
            )

    @classmethod
    def of(
        cls,
        groups: Iterable[str] | None = None,
        users: Iterable[str] | None = None,
        hook: Callable[[UserInfo], bool] | None = None,
    ) -> Access:
        """Create a rule from the names in a profile. An empty list allows no user."""
        return cls(
            None if groups is None else frozenset(g.lower() for g in groups),
            None if users is None else frozenset(u.lower() for u in users),
            hook,
        )

    @property
    def is_open(self) -> bool:
        """Whether the rule allows all users without a check."""
        return self.groups is None and self.users is None and self.hook is None

    @property
    def is_closed(self) -> bool:
        """Whether the rule allows no user: it has lists, and they are empty."""
        return not (self.groups or self.users) and not (self.groups is None and self.users is None)

    def allows(self, user: UserInfo) -> bool:
        """Return whether `user` is allowed. Never raises: a rule that fails denies access and is logged."""
        try:
            return self.ask(user)
        except BaseException:  # noqa: BLE001 - an author's hook may raise anything; access is then denied
            _log.exception("The access hook %s failed; access is refused", shorten(self.hook, 200))
            return False

    def ask(self, user: UserInfo) -> bool:
        """Return whether `user` is allowed. It raises whatever the hook raises."""
        if self.groups is not None or self.users is not None:
            in_group = self.groups is not None and any(g.lower() in self.groups for g in user.groups)
            if not in_group and not (self.users is not None and user.name.lower() in self.users):
                return False
        if self.hook is None:
            return True
        answer: Any = self.hook(user)
        if inspect.isawaitable(answer) or inspect.isasyncgen(answer):
            # A coroutine object is always true, whatever its result would be.
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("it returned something to wait for instead of an answer")
        return bool(answer)

    def describe(self) -> str:
        """Return a description of the rule for administrators: `everybody`, `groups: a, b`, ..."""
        parts = []
        if self.groups is not None:
            parts.append("groups: " + (", ".join(sorted(self.groups)) or "none"))
        if self.users is not None:
            parts.append("users: " + (", ".join(sorted(self.users)) or "none"))
        if self.hook is not None:
            parts.append("by rule")
        return "; ".join(parts) or "everybody"


EVERYBODY = Access()
