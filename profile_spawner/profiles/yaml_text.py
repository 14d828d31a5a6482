"""Reads untrusted YAML with limits on size, depth and number of values, and records the line of every value.

It processes libyaml's events without recursion, so it can refuse a document that exceeds a limit early. Tags are
refused. Keys must be unique texts. Values have the types of JSON; dates stay text.
"""

from __future__ import annotations

import re
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
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+)")
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
        size: How many values it holds, itself and aliases included.
    """

    __slots__ = ("line", "lines", "size")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.size = 1


class YamlList(list[Any]):
    """A list with the line numbers of itself and its items; see `YamlMap`."""

    __slots__ = ("line", "lines", "size")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []
        self.size = 1


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


def parse_yaml(text: str | bytes, source: str) -> list[Any]:
    """Return all documents in `text`; empty ones are left out.

    Args:
        text: YAML, or JSON, which is YAML.
        source: A file path or the like, for messages.

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
    reader = _Reader(source)
    try:
        for event in yaml.parse(text, Loader=_Parser):
            reader.take(event)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        problem = " ".join(str(p) for p in (e.context, e.problem) if p)
        raise SourceError(f"this is no YAML: {problem}", origin=Origin(source, mark.line + 1 if mark else 0)) from None
    except (yaml.YAMLError, UnicodeError) as e:
        raise SourceError(f"this is no YAML: {str(e)[:200]}", origin=Origin(source)) from None
    return [d for d in reader.documents if d is not None]


class _Frame:
    """A mapping or list that is being read."""

    __slots__ = ("anchor", "key", "key_line", "merges", "value")

    def __init__(self, value: YamlMap | YamlList, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: Any = _NO_KEY
        self.key_line = 0
        self.merges: list[YamlMap] = []


_NO_KEY: Any = object()


class _Reader:
    """Builds values from events."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self.documents: list[Any] = []

    def take(self, event: Any) -> None:
        """Take the next event."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._tag(event)
            value = self._scalar(event)
            self._anchor(event.anchor, value, 1)
            self._add(value, 1, event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._begin(event, kind is yaml.MappingStartEvent)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end(event)
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self._anchors.clear()

    def _error(self, message: str, event: Any, **more: Any) -> SourceError:
        return SourceError(message, origin=Origin(self._source, event.start_mark.line + 1), **more)

    def _begin(self, event: Any, mapping: bool) -> None:
        self._tag(event)
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(f"the document is nested more than {MAX_DEPTH} levels deep", event)
        if self._stack and self._expects_key():
            raise self._error("a key must be a text", event)
        line = event.start_mark.line + 1
        self._stack.append(_Frame(YamlMap(line) if mapping else YamlList(line), event.anchor))

    def _end(self, event: Any) -> None:
        frame = self._stack.pop()
        value = frame.value
        if isinstance(value, YamlMap):
            for other in frame.merges:
                for key, item in other.items():
                    if key not in value:
                        value[key] = item
                        value.lines[key] = other.lines[key]
        self._anchor(frame.anchor, value, value.size)
        self._add(value, value.size, event, line=value.line, counted=True)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise self._error(f"the alias *{event.anchor} refers to nothing that is complete", event)
        value, size = self._anchors[event.anchor]
        self._add(value, size, event)

    def _anchor(self, name: str | None, value: Any, size: int) -> None:
        if name is not None:
            self._anchors[name] = (value, size)

    def _expects_key(self) -> bool:
        frame = self._stack[-1]
        return isinstance(frame.value, YamlMap) and frame.key is _NO_KEY

    def _add(self, value: Any, size: int, event: Any, *, line: int = 0, counted: bool = False) -> None:
        """Add a complete value to its parent."""
        self._nodes += 0 if counted else size
        if self._nodes > MAX_NODES:
            raise self._error(f"the document has more than {MAX_NODES:,} values, aliases counted in full", event)
        line = line or event.start_mark.line + 1
        if not self._stack:
            self.documents.append(value)
            return
        frame = self._stack[-1]
        parent = frame.value
        parent.size += size
        if isinstance(parent, YamlList):
            parent.append(value)
            parent.lines.append(line)
        elif frame.key is _NO_KEY:
            frame.key, frame.key_line = self._key(value, parent, event), line
        else:
            self._set(frame, parent, value, event)
            frame.key = _NO_KEY

    def _key(self, value: Any, parent: YamlMap, event: Any) -> str:
        if isinstance(value, bool) and isinstance(event, yaml.ScalarEvent):
            value = event.value  # a key `on` or `yes` is a word
        if isinstance(value, int | float) and isinstance(event, yaml.ScalarEvent):
            value = event.value
        if not isinstance(value, str):
            raise self._error("a key must be a text", event)
        if value in parent:
            raise self._error(f"the key {value!r} stands here twice; first in line {parent.lines[value]}", event)
        return value

    def _set(self, frame: _Frame, parent: YamlMap, value: Any, event: Any) -> None:
        if frame.key != "<<":
            parent[frame.key] = value
            parent.lines[frame.key] = frame.key_line
            return
        merged = value if isinstance(value, list) else [value]
        if frame.merges or not all(isinstance(m, YamlMap) for m in merged):
            raise self._error("<< takes a mapping or a list of mappings, once", event)
        frame.merges = merged

    def _tag(self, event: Any) -> None:
        tag = event.tag
        if tag is not None and tag != "!" and tag.removeprefix("tag:yaml.org,2002:") not in _CORE:
            raise self._error("tags are not allowed", event, value=tag)

    def _scalar(self, event: Any) -> Any:
        quoted = event.style not in (None, "")
        return event.value if quoted or event.tag not in (None, "!") else _plain(event.value)


def _plain(text: str) -> Any:
    """Return what a plain scalar means, as YAML 1.1 has it: `yes` is true, `0644` is octal."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789" or len(text) > 64:
        return text
    if _INT.fullmatch(text):
        return _integer(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if digits[:2].lower() in ("0x", "0b"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if digits.startswith("0") and len(digits) > 1 else 10)
