"""Mends names of the configurator that Kubernetes refuses, the same way for plug-ins and imported files."""

from __future__ import annotations

import re

__all__ = ["mended_name", "mended_slug"]


def mended_slug(text: str) -> str:
    """Return a text as a slug: `a-z 0-9 _ -`, at most 63 characters; it is the same if it is one, and may be empty."""
    return _mended(text, r"[^a-z0-9_]+")


def mended_name(text: str) -> str:
    """Return a text as a DNS label. It is the same if it is one, or has templates in it; and it may be empty."""
    return text if "{{" in text else _mended(text, r"[^a-z0-9]+")


def _mended(text: str, others: str) -> str:
    lower = text.lower()
    # What stands between valid characters is kept, such as two hyphens.
    return (
        re.sub(others, lambda match: match[0] if set(match[0]) == {"-"} else "-", lower).strip("-_")[:63].rstrip("-_")
    )
