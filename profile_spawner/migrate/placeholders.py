"""Finds placeholders in values that another program fills in before Helm or the hub reads them.

Terraform, Flux, Jinja and Go templates write `${name}`, `%{ if x }` and `{{ name }}`. Until they are rendered, an
opaque text stands in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from profile_spawner.profiles.yaml_text import YamlList, YamlMap

__all__ = ["OPAQUE", "filled_in", "lines_of_directives", "with_quotes"]

OPAQUE = "not-rendered"
"""What stands for a placeholder: valid as a name, a label, an image and a path."""

_PLACEHOLDER = re.compile(
    r"\$\{[^{}\n]*\}|%\{[^{}\n]*\}|\$\{\{ [^{}\n]*\}\}|(?<!\$)\{\{-?[ ]*[A-Za-z.$_][^{}\n:\"]*\}\}"
)
_WHOLE_LINE = re.compile(
    r"^[ \t]*(?:\{%.*%\}|\{\{-?[ ]*(?:if|else|end|range|with|define|include)\b.*\}\}|%\{.*\})[ \t]*$", re.MULTILINE
)
_BARE = re.compile(r"^([ ]*(?:- +)?(?:[\w.\-/]+: +|(?<=- )))(\{\{.*?\}\}[^#\n]*?)(\s*(?: #.*)?)$", re.MULTILINE)
_IN_FLOW = re.compile(r"(?:(?<=[\[,:] )|(?<=[\[,]))\$\{[^{}\n]*\}(?= *[\],}])")
_OTHER_LANGUAGES = (
    ("hub", "extraConfig"),
    ("hub", "extraFiles"),
    ("singleuser", "extraFiles"),
    ("hub", "templateVars"),
)
"""Where programs and other files stand, whose braces are their own."""
_PROSE = frozenset({"description", "documentation"})

Path = tuple[Any, ...]


def filled_in(data: Mapping[str, Any]) -> tuple[Any, list[tuple[Path, str]]]:
    """Return values with `OPAQUE` in the place of every placeholder, and their paths and texts.

    A text with white space besides is a script or a sentence: braces in it are left alone.
    """
    found: list[tuple[Path, str]] = []
    return _without(data, (), found), found


def _without(value: Any, path: Path, found: list[tuple[Path, str]]) -> Any:
    made: Any
    if isinstance(value, Mapping):
        made = YamlMap(getattr(value, "line", 0))
        made.lines = getattr(value, "lines", {})
        for key, item in value.items():
            made[key] = (
                item if key in _PROSE or (*path, key) in _OTHER_LANGUAGES else _without(item, (*path, key), found)
            )
        return made
    if isinstance(value, list):
        made = YamlList(getattr(value, "line", 0))
        made.lines = getattr(value, "lines", [])
        made.extend(_without(item, (*path, number), found) for number, item in enumerate(value))
        return made
    if isinstance(value, str) and (match := _PLACEHOLDER.search(value)):
        filled = _PLACEHOLDER.sub(OPAQUE, value)
        if not re.search(r"\s", filled.strip()):
            found.append((path, match[0]))
            return filled.strip()
    return value


def with_quotes(text: str) -> str:
    """Return a text that is no YAML because of its placeholders, so that it is: with them in quotes, or as comments."""
    text = _WHOLE_LINE.sub(lambda match: f"# {match[0]}", text)
    text = _IN_FLOW.sub(lambda match: f"'{match[0]}'", text)
    return _BARE.sub(lambda match: match[1] + "'" + match[2].replace("'", "''") + "'" + match[3], text)


def lines_of_directives(text: str) -> Iterator[int]:
    """Yield the lines that are directives of a template as a whole, such as `{% if x %}`."""
    for match in _WHOLE_LINE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1
