"""Patterns of authors, matched with text of users."""

from __future__ import annotations

import pytest

from profile_spawner.profiles.patterns import (
    MAX_PATTERN,
    REQUEST_LIMIT,
    TIME_LIMIT,
    check_pattern,
    matches,
    one_request,
)


@pytest.mark.parametrize(("text", "expected"), [("abc", True), ("abc\n", False), ("xabc", False), ("abcx", False)])
def test_the_whole_text_must_match(text: str, expected: bool) -> None:
    """Neither a beginning, an end nor a line break more."""
    assert matches("[abc]+", text) is expected


def test_a_pattern_that_takes_too_long_is_a_refusal() -> None:
    """It is stopped after the time limit; the text does not match."""
    assert not matches("(?:a|aa)+b", "a" * 250)


def test_one_request_has_a_time_limit_for_all_its_patterns() -> None:
    """When it is used up, texts do not match; the next request has its own."""
    with one_request():
        for _ in range(round(REQUEST_LIMIT / TIME_LIMIT) + 1):
            assert not matches("(?:a|aa)+b", "a" * 250)
        assert not matches("a", "a")
    with one_request():
        assert matches("a", "a")


def test_a_broken_pattern_is_reported() -> None:
    """The message names the pattern."""
    with pytest.raises(ValueError, match=r"'\[' is not a regular expression"):
        check_pattern("[")
    with pytest.raises(ValueError, match="can have 2,000 characters"):
        check_pattern("a" * (MAX_PATTERN + 1))
