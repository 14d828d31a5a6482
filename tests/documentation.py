"""Reads the code blocks of the documentation, so that tests can try them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language, in order and without indentation."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [textwrap.dedent(match[3]) for match in found if match[2] == language]


def readme_profile() -> str:
    """Return the profile that a reader of the README writes."""
    return next(block for block in code_blocks(ROOT / "README.md", "python") if "class Statistics" in block)
