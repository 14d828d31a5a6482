"""Matches text that users type with regular expressions that authors write."""

from __future__ import annotations

import regex

__all__ = ["TIME_LIMIT", "check_pattern", "matches"]

TIME_LIMIT = 0.1
"""The time limit for one match, in seconds."""


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
    """Return whether `text` matches completely. Returns false if the match takes longer than `TIME_LIMIT`."""
    try:
        return regex.fullmatch(pattern, text, timeout=TIME_LIMIT) is not None
    except TimeoutError:
        return False
