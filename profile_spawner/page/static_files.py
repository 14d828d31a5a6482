"""The page's style, script and icons, and their URLs."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

__all__ = ["STATIC", "static_url", "static_version"]

STATIC = Path(__file__).resolve().parent / "static"
"""The folder of the files."""


@functools.cache
def static_version() -> str:
    """Return a hash of all static files: it is part of their URLs, so that browsers can cache the files permanently."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def static_url(base_url: str) -> str:
    """Return the URL below which the static files are.

    Args:
        base_url: The hub's own prefix, such as `/hub/`.
    """
    return f"{base_url}profile-spawner/static/{static_version()}"
