"""Matches text that users type with regular expressions that authors write."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from contextvars import ContextVar

import regex

__all__ = ["MAX_PATTERN", "REQUEST_LIMIT", "TIME_LIMIT", "check_pattern", "matches", "one_request", "whole_pattern"]

TIME_LIMIT = 0.1
"""The time limit for one match, in seconds."""
REQUEST_LIMIT = 0.5
"""The time limit for all matches of one request, in seconds. The hub does nothing else meanwhile."""
MAX_PATTERN = 2000
"""How many characters a pattern can have: to compile a long one takes seconds."""

_left: ContextVar[list[float] | None] = ContextVar("the time that is left for the request", default=None)


@contextlib.contextmanager
def one_request() -> Iterator[None]:
    """Limit the time of all matches in the block to `REQUEST_LIMIT`. Those after it do not match."""
    token = _left.set([REQUEST_LIMIT])
    try:
        yield
    finally:
        _left.reset(token)


def check_pattern(pattern: str) -> None:
    """Check that `pattern` is a regular expression.

    Raises:
        ValueError: It is not, or it is too long.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern can have {MAX_PATTERN:,} characters; this one has {len(pattern):,}")
    try:
        regex.compile(pattern)
    except regex.error as e:
        raise ValueError(f"{pattern!r} is not a regular expression: {e}") from None


def matches(pattern: str, text: str) -> bool:
    """Return whether `text` matches completely. Returns false if the match takes longer than `TIME_LIMIT`."""
    left = _left.get() or [TIME_LIMIT]
    if left[0] <= 0:
        return False
    start = time.monotonic()
    try:
        return regex.fullmatch(pattern, text, timeout=min(TIME_LIMIT, left[0])) is not None
    except TimeoutError:
        return False
    finally:
        left[0] -= time.monotonic() - start


def whole_pattern(pattern: str) -> str:
    """Return a pattern for whole texts that takes what this one takes at their beginning; itself if it does so."""
    flags, inner = re.findall(r"^(\(\?[aiLmsux]+\)|)(.*)$", pattern, re.DOTALL)[0]
    branches = _branches(inner)
    if all(re.search(r"(?<!\\)(?:\\\\)*(?:\$|\\Z|\.[*+])$", branch) for branch in branches):
        return pattern
    whole = f"{pattern}.*" if len(branches) == 1 else f"{flags}(?:{inner}).*"
    try:
        re.compile(pattern)
        re.compile(whole)
    except re.error:
        return pattern  # what is broken stays so
    return whole


def _branches(pattern: str) -> list[str]:
    """Return the alternatives of a pattern at its top level."""
    branches, depth, inside = [""], 0, False
    for sign in re.findall(r"\\.|\[\^?\]?|.", pattern, re.DOTALL):
        if inside:
            inside = sign != "]"
        elif sign[0] == "[":
            inside = True
        elif sign == "|" and depth == 0:
            branches.append("")
            continue
        depth += 0 if inside else (sign == "(") - (sign == ")")
        branches[-1] += sign
    return branches
