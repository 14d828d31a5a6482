"""Reads the code blocks of the documentation, so that tests can try them, and makes the tables that describe the code.

`python -m tests.documentation` writes the tables into the pages.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from profile_spawner.hub.settings import HubTraits
from profile_spawner.profiles.attributes import ATTRIBUTES
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.hooks import HOOKS
from profile_spawner.sources.schema import ProfileSpec

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


def _table(header: str, rows: Iterable[tuple[str, ...]]) -> str:
    columns = header.count("|") - 1
    return "\n".join([header, "| --- " * columns + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def _attributes() -> Iterable[tuple[str, ...]]:
    for name, attribute in ATTRIBUTES.items():
        default = "required" if attribute.required else f"`{attribute.default!r}`"
        yield f"`{name}`", attribute.help, default, "yes" if attribute.param else "no"


def _hooks() -> Iterable[tuple[str, ...]]:
    for name in HOOKS:
        text = (getattr(BaseAppProfile, name).__doc__ or "").partition("\n\n")[0]
        yield f"`{name}()`", text.removeprefix("Return ")


def _document_keys() -> Iterable[tuple[str, ...]]:
    for name, field in ProfileSpec.model_fields.items():
        if name not in ATTRIBUTES:
            yield f"`{name}`", field.description or ""


def _settings() -> Iterable[tuple[str, ...]]:
    instance = HubTraits()
    for name, trait in HubTraits.class_traits(config=True).items():
        default = trait.default()
        shown = f"`{default!r}`" if default or isinstance(default, bool | float) else "none"
        derived = not default and bool(getattr(instance, name))
        yield f"`{name}`", " ".join(trait.help.split()), "derived" if derived else shown


def tables() -> dict[Path, dict[str, str]]:
    """Return the tables that are made from the code, by page and by their first line."""
    made: dict[Path, dict[str, str]] = {}
    for page, header, rows in (
        ("authors.md", "| attribute | meaning | default | by a param |", _attributes()),
        ("authors.md", "| hook | returns |", _hooks()),
        ("admins.md", "| setting | meaning | default |", _settings()),
        ("yaml.md", "| further key | meaning |", _document_keys()),
    ):
        made.setdefault(ROOT / "docs" / page, {})[header] = _table(header, rows)
    return made


if __name__ == "__main__":
    for page, made in tables().items():
        text = page.read_text(encoding="utf-8")
        for header, table in made.items():
            text = re.sub(rf"^{re.escape(header)}\n(\|.*\n)*", lambda m, t=table: f"{t}\n", text, flags=re.MULTILINE)
        page.write_text(text, encoding="utf-8")
