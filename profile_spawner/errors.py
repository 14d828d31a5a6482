"""The exceptions of this project, and helpers for error messages.

Every exception derives from `ProfileSpawnerError`. Its attributes say which profile, file and field caused it, so that
the log, the spawn page, the command line and SARIF reports can each format it.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "CONFIDENTIAL_PLACE",
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
    "ProfileWarning",
    "SourceError",
    "described",
    "did_you_mean",
    "given",
    "kind_of",
    "plain_words",
    "raised_at",
    "shorten",
    "without_warnings",
]


CONFIDENTIAL_PLACE = "Secret "
"""How the source of an `Origin` in a Kubernetes Secret begins; the Secret's name follows."""


@dataclass(frozen=True, order=True)
class Origin:
    """The place where something is defined.

    Attributes:
        source: A file path, `configmap/NAME`, `Secret NAME`, `entry point NAME` or `configuration`.
        line: The line in the source, from 1; 0 if it is unknown.
    """

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source

    @property
    def confidential(self) -> bool:
        """Whether it is in a Kubernetes Secret, so that messages must not repeat its content."""
        return self.source.startswith(CONFIDENTIAL_PLACE)


# All sizes are limited: input may be very large or very deeply nested.
_REPR = reprlib.Repr()
_REPR.maxlevel = 8
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 50
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 400


def shorten(value: object, limit: int = 64) -> str:
    """Return `value` as one safe line for a message: control characters escaped, at most `limit` characters.

    Use it for everything from users and documents before it is logged; it prevents log injection and log flooding.
    """
    try:
        text = value if isinstance(value, str) else _REPR.repr(value)
    except BaseException:  # noqa: BLE001 - the `__repr__` of an author's object may raise anything
        text = f"a {type(value).__name__}"
    text = text[: limit * 2]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def described(error: BaseException) -> str:
    """Return the type and the text of an exception as one safe line. Never raises, whatever its `__str__` does."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - see above
        text = ""
    return f"{type(error).__name__}: {shorten(text, 300)}" if text else type(error).__name__


def kind_of(value: object) -> str:
    """Return the kind of a value in plain words, such as `a text`."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")


_KINDS: tuple[tuple[Any, str], ...] = (
    (str, "a text"),
    (bool, "a truth value"),
    ((int, float), "a number"),
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
    (type(None), "nothing"),
)


def given(value: object) -> object:
    """Return a value of the wrong type for a message: texts in quotes, and what may hold secrets as its kind."""
    if isinstance(value, str):
        return f"the text '{shorten(value)}'"
    return value if isinstance(value, int | float) else kind_of(value)


def plain_words(message: str) -> str:
    """Return a message of traitlets with plain words for Python's types."""
    return _IN_MESSAGES.sub(lambda found: _WORDS[found[0]], message)


_WORDS = {
    "a unicode string": "a text",
    "an int": "a whole number",
    "a float": "a number",
    "a boolean": "true or false",
    "a dict": "a mapping",
    "a callable": "a function",
    "any of": "one of",
    "or None": "or nothing",
    "an instance or subclass of": "a class that is",
    "the str": "the text",
    "the int": "the number",
    "the float": "the number",
    "the bool": "the truth value",
    "the dict": "the mapping",
    "the NoneType": "the empty value",
}
"""Words for types in the messages of traitlets, and plain ones."""
_IN_MESSAGES = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b")


def did_you_mean(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `; did you mean 'NAME'?` with the most similar known name, for the end of a message; or an empty text.

    `extraFiles` is similar to `extra_labels` as a whole, and means something else: the parts are compared as well.

    Args:
        word: The unknown name.
        known: The names that exist.
        cutoff: The minimum similarity, from 0 to 1.
    """
    import difflib

    def alike(one: str, other: str, least: float) -> bool:
        return difflib.SequenceMatcher(None, one, other).ratio() >= least

    parts = _parts(str(word)[:_LONGEST_NAME])
    names = {"_".join(_parts(name)): name for name in known}
    for near in difflib.get_close_matches("_".join(parts), list(names), 3, cutoff):
        others = near.split("_")
        if len(others) != len(parts) or all(alike(*pair, _ALIKE) for pair in zip(parts, others, strict=True)):
            return f"; did you mean {names[near]!r}?"
    return ""


_LONGEST_NAME = 64
_ALIKE = 0.6
"""How similar each part of a name must be to the part of the other in the same place."""


def _parts(name: str) -> list[str]:
    """Return the words of a name: `nodeSelector`, `node-selector` and `node_selector` have the same."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower().split("_")


def raised_at(error: BaseException, is_own: Callable[[str], bool]) -> Origin | None:
    """Return the innermost line in a file that `is_own` at which `error` was raised; `None` without one."""
    import traceback

    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((Origin(frame.filename, frame.lineno or 0) for frame in frames if is_own(frame.filename)), None)


_CONFIDENTIAL = (
    "there is a mistake. Its description may repeat what is secret, so it is not shown here. "
    "`profile-spawner validate` prints it for a copy of the value"
)


class ProfileSpawnerError(Exception):
    """The base class of all exceptions of this project. Its text contains only the place if that is in a Secret.

    Args:
        message: What is wrong, without the names of profile, file and field.
        profile: The slug of the profile that has the error.
        origin: The file and line of the error.
        field: The attribute, option or document path that has the error.
        value: The invalid value; it is shortened in the text. It must never be a secret.
        expected: What a valid value looks like.
        hint: What the reader can do next.
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
        if self.origin is not None and self.origin.confidential:
            return f"{self.origin}: {_CONFIDENTIAL}"
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
    """A profile is defined incorrectly. This is detected when the profile is registered, not at a spawn."""


class DuplicateSlugError(ProfileDefinitionError, ValueError):
    """Two profiles have the same slug. The message names both places."""


class SourceError(ProfileSpawnerError):
    """A source of profiles (a module, a document, a ConfigMap) could not be read."""


class ParamError(ProfileSpawnerError):
    """A param is undefined, its value does not match its schema, or it cannot be resolved."""


class ConflictError(ProfileSpawnerError):
    """Two different objects have the same name. The message names both origins."""


class PolicyError(ProfileSpawnerError):
    """A profile requests something that the hub's policy does not allow."""


class BuildError(ProfileSpawnerError):
    """A profile's hook failed or returned an invalid value while a server was being prepared."""


class NotAvailableError(ProfileSpawnerError):
    """A profile exists but cannot be used now. The message says why."""


class ProfileWarning(ProfileSpawnerError):  # noqa: N818 - it is not an error
    """Something that works, but probably not as intended.

    Args:
        message: What is wrong.
        rule: A short name for this kind of finding.
        level: How `validate` counts it: as an `error` if it certainly does not do what was written; as a `note` if it
            works as written, and only `validate` mentions it.
        path: The keys that lead to the value in the entry of a list; they become `field`.
        kwargs: As for `ProfileSpawnerError`.
    """

    def __init__(
        self,
        message: str,
        *,
        rule: str = "",
        level: Literal["error", "warning", "note"] = "warning",
        path: tuple[Any, ...] = (),
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("field", ".".join(map(str, path)) or None)
        super().__init__(message, **kwargs)
        self.rule = rule
        self.level = level
        self.path = path


def without_warnings(problems: Iterable[ProfileSpawnerError]) -> list[ProfileSpawnerError]:
    """Return the problems that are not only warnings."""
    return [problem for problem in problems if not isinstance(problem, ProfileWarning)]


class ClusterError(ProfileSpawnerError):
    """Kubernetes refused a request, or the request failed.

    Args:
        message: What failed, for the administrator's log.
        reason: A short machine-readable word: `quota`, `forbidden`, `invalid`, `conflict`, `unreachable`.
        user_message: The message for the user, including what to do next.
        blame: Who has to fix it: `user`, `profile`, `admin` or `cluster`. Only `cluster` may count towards the hub's
            `consecutive_failure_limit`.
        kwargs: As for `ProfileSpawnerError`.
    """

    def __init__(self, message: str, *, reason: str, user_message: str, blame: str = "cluster", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.reason = reason
        self.user_message = user_message
        self.blame = blame
