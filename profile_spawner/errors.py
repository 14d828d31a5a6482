"""What can go wrong, said so that the reader can mend it.

Every error of this project derives from `ProfileSpawnerError` and carries the culprit as attributes, so that the
log, the spawn page, the command line and SARIF reports can each show it in their own way.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BuildError",
    "ClusterError",
    "ConflictError",
    "DuplicateSlugError",
    "NotAvailableError",
    "Origin",
    "ParamError",
    "PolicyError",
    "ProfileDefinitionError",
    "ProfileSpawnerError",
    "SourceError",
    "did_you_mean",
    "shorten",
]


@dataclass(frozen=True, order=True)
class Origin:
    """Where something was written down.

    Attributes:
        source: A file path, `configmap/NAME`, `entry point NAME` or `configuration`.
        line: The line in it, from 1; 0 when unknown.
    """

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


# Bounded in every direction: what somebody sent may be nested as deep as the interpreter allows.
_REPR = reprlib.Repr()
_REPR.maxlevel = 8
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 50
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 400


def shorten(value: object, limit: int = 64) -> str:
    """Return `value` as one safe line for a message: control characters escaped, at most `limit` characters.

    Applied to whatever a user or a foreign document wrote before it reaches a log line (log injection, log floods).
    """
    text = value if isinstance(value, str) else _REPR.repr(value)
    text = text[: limit * 2]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `; did you mean 'NAME'?` with the nearest known name, to end a message with; empty if none is alike.

    Args:
        word: What was written.
        known: The names that exist.
        cutoff: How alike they must be, from 0 to 1.
    """
    import difflib

    near = difflib.get_close_matches(str(word), list(known), 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


class ProfileSpawnerError(Exception):
    """The base of all errors of this project.

    Args:
        message: What is wrong, without the culprit's name.
        profile: The slug of the profile concerned.
        origin: Where it was written.
        field: The attribute, option or document path concerned.
        value: The value found; shortened in the text. Never a secret.
        expected: What would have been right.
        hint: What to do next.
    """

    def __init__(
        self,
        message: str,
        *,
        profile: str | None = None,
        origin: Origin | None = None,
        field: str | None = None,
        value: Any = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.profile = profile
        self.origin = origin
        self.field = field
        self.value = value
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        who = []
        if self.origin is not None:
            who.append(str(self.origin))
        if self.profile:
            who.append(f"profile {self.profile!r}")
        if self.field:
            who.append(self.field)
        text = ": ".join([*who, self.message])
        if self.value is not None:
            text += f" (got {shorten(self.value)})"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.hint:
            text += f". {self.hint}"
        return text


class ProfileDefinitionError(ProfileSpawnerError):
    """A profile is written wrongly: found when it is registered, never first at a user's spawn."""


class DuplicateSlugError(ProfileDefinitionError):
    """Two profiles use one slug. The message names both places."""


class SourceError(ProfileSpawnerError):
    """A source of profiles (a module, a document, a ConfigMap) could not be read."""


class ParamError(ProfileSpawnerError):
    """A param is undefined, does not fit its schema, or cannot be resolved."""


class ConflictError(ProfileSpawnerError):
    """Two different things claim one name. The message names both origins."""


class PolicyError(ProfileSpawnerError):
    """A profile asks for what the hub's policy does not allow."""


class BuildError(ProfileSpawnerError):
    """A profile's hook failed, or returned what it must not, while a server was being prepared."""


class NotAvailableError(ProfileSpawnerError):
    """A profile exists but cannot be used now; the message says why."""


class ClusterError(ProfileSpawnerError):
    """Kubernetes refused or failed.

    Args:
        message: What failed, for the administrator's log.
        reason: A short machine-readable word: `quota`, `forbidden`, `invalid`, `conflict`, `unreachable`.
        user_message: What the user is told, with what to do next.
        blame: Who has to act: `user`, `profile`, `admin` or `cluster`. Only `cluster` may count towards the hub's
            `consecutive_failure_limit`.
        kwargs: As for `ProfileSpawnerError`.
    """

    def __init__(self, message: str, *, reason: str, user_message: str, blame: str = "cluster", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.reason = reason
        self.user_message = user_message
        self.blame = blame
