"""Messages for users: English strings that can be translated later.

Most messages are created where the user's language is not known, for example in the validation of user options. A
`Text` is an English string that also stores its pattern and its values, so that it can be translated when it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Gettext", "Text", "joined", "marked", "said"]

Gettext = Callable[[str], str]
"""Finds the translation of an English text."""


class Text(str):
    """An English text that can be translated.

    Args:
        pattern: The text, with `%(name)s` for values. It must be a string literal, because the translation catalogue is
            extracted from the code. Without values, `%` has no special meaning.
        values: The values. A value that is a `Text` is translated too; other values are not changed.
    """

    pattern: str
    values: Mapping[str, Any]

    def __new__(cls, pattern: str, /, **values: Any) -> Text:  # noqa: D102 - see the class
        self = super().__new__(cls, pattern % values if values else pattern)
        self.pattern = pattern
        self.values = values
        return self

    def said(self, gettext: Gettext) -> str:
        """Return the translated text; the English text if the translation cannot be formatted with the values."""
        pattern = gettext(self.pattern)
        if not self.values:
            return pattern
        try:
            return pattern % {name: said(value, gettext) for name, value in self.values.items()}
        except (KeyError, TypeError, ValueError):
            return str(self)


class _Joined(Text):
    """Several texts, joined with spaces."""

    parts: tuple[str, ...] = ()

    def said(self, gettext: Gettext) -> str:
        """Return the translated parts, joined with spaces."""
        return " ".join(str(said(part, gettext)) for part in self.parts)


def joined(parts: Iterable[str]) -> Text:
    """Return the texts as one text, joined with spaces."""
    parts = tuple(parts)
    result = _Joined(" ".join(parts))
    result.parts = parts
    return result


def said(value: Any, gettext: Gettext) -> Any:
    """Translate `value` with `gettext` if it is a `Text`; return any other value unchanged."""
    return value.said(gettext) if isinstance(value, Text) else value


def marked(pattern: str) -> str:
    """Return `pattern` unchanged. Marks a literal for the translation catalogue if the `Text` is created elsewhere."""
    return pattern
