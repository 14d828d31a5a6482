"""Writes files with passwords and tokens."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["write_private"]


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner only, in one step: it is the old one or the new one at any time.

    A new file with a name that cannot be predicted takes the place of an existing one. So nothing is written to a
    file that others can read already, or through a link that others have put there.

    Raises:
        OSError: If the file cannot be written.
    """
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # O_EXCL, mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink()
        raise
