"""Sentences for users, which are written in English and can be said in other languages later.

Most of what a user reads is made where nobody knows the language yet: in the validation of a choice, in an error. A
`Text` is an ordinary English string that remembers the pattern and the values that it was made of.
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
        pattern: The text, with `%(name)s` for values; a literal, so that it is found for the catalogue. Without
            values it is taken as it is.
        values: What stands in it: other texts are translated along, anything else stays as it is.
    """

    pattern: str
    values: Mapping[str, Any]

    def __new__(cls, pattern: str, /, **values: Any) -> Text:  # noqa: D102 - see the class
        self = super().__new__(cls, pattern % values if values else pattern)
        self.pattern = pattern
        self.values = values
        return self

    def said(self, gettext: Gettext) -> str:
        """Return the text as `gettext` translates it; in English where the translation does not fit."""
        pattern = gettext(self.pattern)
        if not self.values:
            return pattern
        try:
            return pattern % {name: said(value, gettext) for name, value in self.values.items()}
        except (KeyError, TypeError, ValueError):
            return str(self)


class _Joined(Text):
    """Several texts, one after the other."""

    parts: tuple[str, ...] = ()

    def said(self, gettext: Gettext) -> str:
        """Return the parts as `gettext` translates them."""
        return " ".join(str(said(part, gettext)) for part in self.parts)


def joined(parts: Iterable[str]) -> Text:
    """Return the texts as one, with spaces between."""
    parts = tuple(parts)
    result = _Joined(" ".join(parts))
    result.parts = parts
    return result


def said(value: Any, gettext: Gettext) -> Any:
    """Return a `Text` in the language of `gettext`, and everything else as it is."""
    return value.said(gettext) if isinstance(value, Text) else value


def marked(pattern: str) -> str:
    """Return `pattern`; marks a literal for the catalogue where `Text` is made of it elsewhere."""
    return pattern
