"""Patterns that authors write, matched with text that users type."""

from __future__ import annotations

import regex

__all__ = ["TIME_LIMIT", "check_pattern", "matches"]

TIME_LIMIT = 0.1
"""How long one text may be matched with one pattern, in seconds."""


def check_pattern(pattern: str) -> None:
    """Check that `pattern` is a regular expression.

    Raises:
        ValueError: It is not.
    """
    try:
        regex.compile(pattern)
    except regex.error as e:
        raise ValueError(f"{pattern!r} is not a regular expression: {e}") from None


def matches(pattern: str, text: str) -> bool:
    """Tell whether the whole `text` matches. A pattern that takes longer than `TIME_LIMIT` does not match."""
    try:
        return regex.fullmatch(pattern, text, timeout=TIME_LIMIT) is not None
    except TimeoutError:
        return False
