"""Finds placeholders in values that another program fills in before Helm or the hub reads them.

Terraform, Flux, Jinja and Go templates write `${name}`, `%{ if x }` and `{{ name }}`. Until they are rendered, an
opaque text stands in their place.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import regex

from profile_spawner.profiles.yaml_text import YamlList, YamlMap

__all__ = ["OPAQUE", "Directive", "Placeholder", "begins_block", "filled_in", "made_readable", "shown"]

OPAQUE = "notrendered"
"""What stands for a placeholder: valid as a name, a label, an image, a path, and the name of a variable."""

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Placeholder:
    """A placeholder in a value.

    Attributes:
        path: The keys that lead to the value, as they were read: placeholders among them are hidden.
        text: The placeholder.
        row: In code, how many of its lines stand before it; `None` elsewhere.
        opaque: Whether the whole text is unknown because of it, though it is not all of it.
    """

    path: Path
    text: str
    row: int | None = None
    opaque: bool = False


@dataclass(frozen=True)
class Directive:
    """A line that is a directive of a template as a whole, such as `{% if x %}`.

    Attributes:
        line: The line, from 1.
        text: The directive.
    """

    line: int
    text: str


_QUOTED = r"""(?:"(?:[^"\\\n]|\\.){0,1000}+"|`[^`\n]{0,1000}+`|'(?:[^'\\\n]|\\.){0,1000}+')"""
# Braces are balanced, but for those in quotes, and nested a few times; no part takes long for any text.
_BRACES = r"\{[^{}\n]{0,1000}+\}"
for _ in range(4):
    _BRACES = rf"\{{(?:{_QUOTED}|[^{{}}\n]|{_BRACES}){{0,1000}}+\}}"
_TERRAFORM = rf"(?:(?<![$%])[$%]{_BRACES})"
_ONE = rf"""(?:
    {_TERRAFORM}
  | (?<!\{{)(?=\{{\{{-?\s*[A-Za-z.$_("'`/])(?!\{{\{{-?\s*["']?[\w.\-/]+["']?\s*:(?!=))\{{{_BRACES}\}}
  | \{{%[^\n]*?%\}}
  | \{{\#[^\n]*?\#\}}
)"""
_PLACEHOLDER = regex.compile(_ONE, regex.VERBOSE)
_ONLY = regex.compile(rf"(?:{_ONE}\s*)+", regex.VERBOSE)
_OF_TERRAFORM = (regex.compile(_TERRAFORM), regex.compile(rf"(?:{_TERRAFORM}\s*)+"))
_CONTROL = regex.compile(
    r"\{[%#]|%\{|\{\{[-~]?\s*(?:/\*|\$\w+\s*:?=|(?:if|else|end|range|with|define|block|for|break|continue)\b)"
)
"""The beginning of a directive that is no value."""
_END = regex.compile(r"(?:\{%|%\{|\{\{)[-~]?\s*(?:end|else|elif)")
"""Those that belong to a directive above them."""
_KEY = regex.compile(r"(^\s*(?:- +)*[^\s#].*?:)(?:\s+[|>][-+]?\d?[-+]?)?\s*$")
"""A key whose value begins in the next line."""
_BLOCK = regex.compile(r"(?:^|[\s:-])[|>][-+]?\d?[-+]?\s*(?:\s#.*)?$")

_HIDDEN = {sign: 0xE000 + sign for sign in range(128)}
_SHOWN = {hidden: sign for sign, hidden in _HIDDEN.items()}
_FILES = (("hub", "extraFiles"), ("singleuser", "extraFiles"))
_CODE = (("hub", "extraConfig"), *_FILES)
"""Where programs and other files stand, whose braces are their own."""
_BRACES_OF_OTHERS = regex.compile(r"(?<![$%])\{[{%#]")
"""What Jinja, Vault and Go templates begin with, which others than Helm and the hub may render."""
_PROSE = frozenset({"description", "documentation"})
_PYTHON = regex.compile(r"^[ \t]*(?:import \w|from \w|def \w|c\.\w+\.)", regex.MULTILINE)


def shown(text: str) -> str:
    """Return a text from what `made_readable` has made as it was written."""
    return text.translate(_SHOWN)


def begins_block(line: str) -> bool:
    """Return whether the text that this line of YAML begins stands below it."""
    return _BLOCK.search(line) is not None


def _is_placeholder(text: str) -> bool:
    """Return whether a text is nothing but placeholders."""
    return _ONLY.fullmatch(shown(text).strip()) is not None


def made_readable(text: str, *, terraform: bool = False) -> tuple[str, list[Directive]]:
    """Return a template so that it is YAML with the same lines, and its directives; of an `if`, only the first.

    Placeholders are hidden in signs without a meaning; `filled_in` and `shown` know them. Directives become comments. A
    placeholder on a line of its own becomes the value of the key above it. Texts of several lines stay as they are.
    With `terraform`, this is done to the placeholders and directives of Terraform only.
    """
    placeholder, only = _OF_TERRAFORM if terraform else (_PLACEHOLDER, _ONLY)
    lines = text.split("\n")
    directives = []
    block: int | None = None
    for number, line in enumerate(lines):
        bare = line.strip()
        indent = _indent(line)
        if not bare or (block is not None and indent > block):
            continue
        block = None
        if bare.startswith("#"):
            continue
        if only.fullmatch(bare):
            above = None if _CONTROL.match(bare) else _key_without_value(lines, number)
            if above is None and not _END.match(bare):
                directives.append(Directive(number + 1, bare))
            elif above is not None:
                key = _KEY.match(lines[above])
                lines[above] = f"{key[1] if key else ''} {bare.translate(_HIDDEN)}"
            lines[number] = f"#{line}"
            continue
        lines[number] = placeholder.sub(lambda match: match[0].translate(_HIDDEN), line)
        block = indent if begins_block(line) else None
    return "\n".join(lines), directives


def _key_without_value(lines: list[str], number: int) -> int | None:
    """Return the line of the key above a line, if nothing else is its value."""
    above = next((n for n in range(number - 1, -1, -1) if _has_content(lines[n])), None)
    if above is None or _KEY.match(lines[above]) is None:
        return None
    indent = _indent(lines[above])
    below = next(filter(_has_content, lines[number + 1 :]), "")
    inside = _indent(below)
    return None if inside > indent or (inside == indent and below.lstrip().startswith("- ")) else above


def _has_content(line: str) -> bool:
    return line.strip()[:1] not in ("", "#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def filled_in(data: Mapping[str, Any]) -> tuple[Any, list[Placeholder]]:
    """Return values with `OPAQUE` in the place of every placeholder, and the placeholders.

    A text with white space besides is a script or a sentence: braces in it are left alone. Code in Python is changed
    only where it is no Python without it.
    """
    found: list[Placeholder] = []
    return _without(data, (), found, _filled_text), found


_Reader = Callable[[str, Path, list[Placeholder]], str]


def _without(value: Any, path: Path, found: list[Placeholder], read: _Reader) -> Any:
    made: Any
    if isinstance(value, Mapping):
        made = YamlMap(getattr(value, "line", 0))
        for key, item in value.items():
            here = (*path, key)
            before = len(found)
            name = (_filled_text if read is _code else read)(key, here, found)
            while name in made or (name != key and name in value):
                name += "x"  # other keys may be placeholders, too
            made.lines[name] = getattr(value, "lines", {}).get(key, made.line)
            # The finding at the key is enough for a value in the same line.
            below = [] if len(found) > before and isinstance(item, str) and "\n" not in item else found
            made[name] = _without(item, here, below, _reader_of(here, value, read))
        return made
    if isinstance(value, list):
        made = YamlList(getattr(value, "line", 0))
        made.lines = getattr(value, "lines", [])
        made.extend(_without(item, (*path, number), found, read) for number, item in enumerate(value))
        return made
    return read(value, path, found) if isinstance(value, str) else value


def _reader_of(path: Path, holder: Mapping[str, Any], read: _Reader) -> _Reader:
    """Return what reads the texts at a path and below it; `holder` is the mapping with its last key."""
    if path[-1] in _PROSE:
        return _prose
    if path in _CODE:
        return _code
    if path == ("hub", "templateVars"):
        return _file_of_others
    if path[:2] in _FILES and len(path) == 4 and path[3] in ("data", "stringData"):
        return _code if str(holder.get("mountPath")).endswith(".py") else _file_of_others
    settings = path[0] == "singleuser" or path[:2] in (("hub", "config"), ("hub", "extraConfig"))
    return _annotation if path[-1] in ("annotations", "daemonsetAnnotations") and not settings else read


def _is_final(value: str) -> bool:
    """Return whether the braces in a text are those of another program, and the document is no template as a whole."""
    return shown(value) == value and _BRACES_OF_OTHERS.search(value) is not None


def _file_of_others(value: str, path: Path, found: list[Placeholder]) -> str:
    """Read a file that may be a template of another program."""
    return value if _is_final(value) and not _PYTHON.search(value) else _code(value, path, found)


def _annotation(value: str, path: Path, found: list[Placeholder]) -> str:
    """Read a text for another program, which may fill in braces itself."""
    return value if _is_final(value) else _filled_text(value, path, found)


def _prose(value: str, path: Path, found: list[Placeholder]) -> str:
    return shown(value)


def _filled_text(value: str, path: Path, found: list[Placeholder]) -> str:
    text = shown(value)
    match = _PLACEHOLDER.search(text)
    if match is None:
        return text
    filled = _PLACEHOLDER.sub(OPAQUE, text).strip()
    if regex.search(r"\s", filled):
        if text == value or text[: match.start()].strip():
            return text
        filled = OPAQUE
    found.append(Placeholder(path, match[0]))
    return filled


def _code(value: str, path: Path, found: list[Placeholder]) -> str:
    text = shown(value)
    match = _PLACEHOLDER.search(text)
    if match is None:
        return text
    if _is_placeholder(text):
        found.append(Placeholder(path, text.strip()))
        return OPAQUE
    of_hub = path[:2] == ("hub", "extraConfig")
    if not (of_hub or _PYTHON.search(text)) or _is_python(text):
        return text
    lines = [f"#{line}" if _ONLY.fullmatch(line.strip()) else line for line in text.split("\n")]
    filled = _PLACEHOLDER.sub(OPAQUE, "\n".join(lines))
    readable = _is_python(filled)
    if readable or of_hub:
        found.append(Placeholder(path, match[0], text.count("\n", 0, match.start()), opaque=not readable))
        return filled if readable else OPAQUE
    return text


def _is_python(text: str) -> bool:
    """Return whether it is Python; `{{ x }}` would be a set of sets, which there is not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    sets = (node for node in ast.walk(tree) if isinstance(node, ast.Set))
    return not any(isinstance(item, ast.Set) for node in sets for item in node.elts)
