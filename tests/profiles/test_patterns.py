"""Patterns of authors, matched with text of users."""

from __future__ import annotations

import pytest

from profile_spawner.profiles.patterns import check_pattern, matches


@pytest.mark.parametrize(("text", "expected"), [("abc", True), ("abc\n", False), ("xabc", False), ("abcx", False)])
def test_the_whole_text_must_match(text: str, expected: bool) -> None:
    """Neither a beginning, an end nor a line break more."""
    assert matches("[abc]+", text) is expected


def test_a_pattern_that_takes_too_long_is_a_refusal() -> None:
    """It is stopped after the time limit; the text does not match."""
    assert not matches("(?:a|aa)+b", "a" * 250)


def test_a_broken_pattern_is_reported() -> None:
    """The message names the pattern."""
    with pytest.raises(ValueError, match=r"'\[' is not a regular expression"):
        check_pattern("[")
