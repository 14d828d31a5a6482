"""Reads untrusted YAML with limits on size, depth and number of values, and records the line of every value.

It composes libyaml's events, so it refuses a document that exceeds a limit before it has read all of it. Tags are
refused. Keys must be unique texts. Values have the types of JSON; dates stay text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from profile_spawner.errors import Origin, SourceError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "YamlList", "YamlMap", "line_at", "parse_yaml"]

MAX_BYTES = 1024 * 1024
"""The largest document, in bytes."""
MAX_DEPTH = 40
"""The deepest nesting."""
MAX_NODES = 200_000
"""The largest number of values, with every alias counted as often as it is used."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# At least one digit: without it, texts such as `0x_` are no numbers.
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*|0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]+)")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    **{w: True for b in ("yes", "true", "on") for w in (b, b.title(), b.upper())},
    **{w: False for b in ("no", "false", "off") for w in (b, b.title(), b.upper())},
}  # fmt: skip
_CORE = frozenset({"str", "int", "float", "bool", "null", "map", "seq"})


class YamlMap(dict[str, Any]):
    """A mapping with the line numbers of itself and its keys.

    Attributes:
        line: Its first line, from 1.
        lines: The line of each key.
    """

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class YamlList(list[Any]):
    """A list with the line numbers of itself and its items; see `YamlMap`."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


def line_at(value: Any, path: tuple[Any, ...]) -> int:
    """Return the line of what stands at `path` below `value`, or of what comes nearest; 0 when it is not known."""
    line: int = getattr(value, "line", 0)
    for step in path:
        if isinstance(value, YamlMap) and step in value:
            line, value = value.lines.get(step, line), value[step]
        elif isinstance(value, YamlList) and isinstance(step, int) and step < len(value):
            line, value = value.lines[step], value[step]
        else:
            break
    return line


def parse_yaml(text: str | bytes, source: str, *, duplicate: Callable[[SourceError], None] | None = None) -> list[Any]:
    """Return all documents in `text`; empty ones are left out.

    Args:
        text: YAML, or JSON, which is YAML.
        source: A file path or the like, for messages.
        duplicate: Called with the error for each key that stands twice in a mapping, of which the last one counts then.
            By default the error is raised.

    Raises:
        SourceError: naming the line.
    """
    size = len(text)
    if size > MAX_BYTES:
        raise SourceError(
            "the document is too large",
            origin=Origin(source),
            value=f"{size:,}",
            expected=f"at most {MAX_BYTES:,} bytes",
        )
    try:
        return list(_Composer(text, source, duplicate).documents())
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        problem = _about_sign(text, mark) or " ".join(str(p) for p in (e.context, e.problem) if p)
        raise SourceError(f"this is not YAML: {problem}", origin=Origin(source, mark.line + 1 if mark else 0)) from None
    except (yaml.YAMLError, UnicodeError) as e:
        raise SourceError(f"this is not YAML: {str(e)[:200]}", origin=Origin(source)) from None


def _about_sign(text: str | bytes, mark: Any) -> str:
    """Return what is wrong with the sign at a place; an empty text if it may stand there."""
    lines = (text if isinstance(text, str) else text.decode("utf-8", "replace")).split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    begin = line[: mark.column + 1] if mark is not None else ""
    if "\t" in begin and not begin.strip():
        return "a tab stands before the text of this line; indent it with spaces"
    sign = begin[-1:].strip()
    return f"a value cannot begin with {sign}; put it into quotes" if sign and sign in "%@`" else ""


class _Composer:
    """Composes the values of a text from its events."""

    def __init__(self, text: str | bytes, source: str, duplicate: Callable[[SourceError], None] | None = None) -> None:
        self._duplicate = duplicate
        self._events = yaml.parse(text, Loader=_Parser)
        self._source = source
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def documents(self) -> Iterator[Any]:
        """Yield the documents, without empty ones."""
        for event in self._events:
            if type(event) is yaml.DocumentStartEvent:
                self._anchors.clear()
            elif isinstance(event, yaml.NodeEvent):
                value, _ = self._value(event, 0)
                if value is not None:
                    yield value

    def _value(self, event: Any, depth: int) -> tuple[Any, int]:
        """Return the value that begins with an event, and how many values it holds, itself and aliases included."""
        if type(event) is yaml.AliasEvent:
            if event.anchor not in self._anchors:
                raise self._error(f"the alias *{event.anchor} refers to nothing that is complete", event)
            self._count(self._anchors[event.anchor][1], event)
            return self._anchors[event.anchor]
        if event.tag not in (None, "!") and event.tag.removeprefix("tag:yaml.org,2002:") not in _CORE:
            raise self._error("tags are not allowed", event, value=event.tag)
        self._count(1, event)
        value: Any
        if type(event) is yaml.ScalarEvent:
            is_text = event.style not in (None, "") or event.tag not in (None, "!")
            value, size = event.value if is_text else _scalar(event.value), 1
        elif depth >= MAX_DEPTH:
            raise self._error(f"the document is nested more than {MAX_DEPTH} levels deep", event)
        elif type(event) is yaml.MappingStartEvent:
            value, size = self._mapping(YamlMap(_line(event)), depth + 1)
        else:
            value, size = self._list(YamlList(_line(event)), depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, size)
        return value, size

    def _list(self, result: YamlList, depth: int) -> tuple[YamlList, int]:
        size = 1
        while type(event := next(self._events)) is not yaml.SequenceEndEvent:
            value, values = self._value(event, depth)
            result.append(value)
            result.lines.append(_line(event))
            size += values
        return result, size

    def _mapping(self, result: YamlMap, depth: int) -> tuple[YamlMap, int]:
        size = 1
        merged: list[YamlMap] = []
        while type(event := next(self._events)) is not yaml.MappingEndEvent:
            key = self._key(event, depth)
            if key in result:
                twice = self._error(f"the key {key!r} stands here twice; first in line {result.lines[key]}", event)
                if self._duplicate is None:
                    raise twice
                self._duplicate(twice)
            value, values = self._value(next(self._events), depth)
            size += 1 + values
            if key != "<<":
                result[key] = value
                result.lines[key] = _line(event)
                continue
            more = value if isinstance(value, list) else [value]
            if merged or not all(isinstance(m, YamlMap) for m in more):
                raise self._error("<< takes a mapping or a list of mappings, once", event)
            merged = more
        for other in merged:
            for key in [key for key in other if key not in result]:
                result[key], result.lines[key] = other[key], other.lines[key]
        return result, size

    def _key(self, event: Any, depth: int) -> str:
        if isinstance(event, yaml.CollectionStartEvent):
            raise self._error("a key must be a text", event)
        value, _ = self._value(event, depth)
        if isinstance(value, bool | int | float) and type(event) is yaml.ScalarEvent:
            return str(event.value)  # a key `on` or `8080` is a word
        if not isinstance(value, str):
            raise self._error("a key must be a text", event)
        return value

    def _count(self, values: int, event: Any) -> None:
        self._nodes += values
        if self._nodes > MAX_NODES:
            raise self._error(f"the document has more than {MAX_NODES:,} values, aliases counted in full", event)

    def _error(self, message: str, event: Any, **more: Any) -> SourceError:
        return SourceError(message, origin=Origin(self._source, _line(event)), **more)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(text: str) -> Any:
    """Return what a plain scalar means, as YAML 1.1 has it: `yes` is true, `0644` is octal."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789" or len(text) > 64:
        return text
    if _INT.fullmatch(text):
        return _integer(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        return value if math.isfinite(value) else text  # JSON has no infinity
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if digits[:2].lower() in ("0x", "0b"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if digits.startswith("0") and len(digits) > 1 else 10)
