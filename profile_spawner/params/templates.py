"""References in texts: `{{ area/name }}` is replaced with the value of a param or of a fact of the server.

A reference is a name between double braces. There are no expressions, attributes, filters or formats, so a text cannot
run code or read attributes of objects. Other text with braces is not changed (`{{range .items}}`, `${{ x.y() }}`).
`{{{{ name }}` is an escape and becomes `{{ name }}`.

Inserted values are not rendered again, so a user's text that looks like a reference stays text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from profile_spawner.errors import Origin, ParamError, did_you_mean

from .definition import REFERENCE, SecretRef, thaw

__all__ = ["MAX_RENDERED", "REFERENCE", "Allowance", "references_in", "render_value", "to_text"]

MAX_RENDERED = 1024 * 1024
"""The maximum length of what is inserted into one value, in characters."""
MAX_RENDERED_IN_ALL = 2 * MAX_RENDERED
"""The maximum length of what is inserted into all values of one server, in characters."""
_CHARACTERS_PER_VALUE = 256
"""How many characters a list, a mapping or a number counts for: it takes more time than a text."""


class Allowance:
    """How much may still be inserted. References can double at each level, so it is counted before it is copied.

    Args:
        characters: The length that may be inserted.
        within: A larger allowance that this one is a part of.
    """

    def __init__(self, characters: int = MAX_RENDERED_IN_ALL, within: Allowance | None = None) -> None:
        self._characters = self._left = characters
        self._within = within

    def spend(self, length: int, origin: Origin | None, field: str | None) -> None:
        """Count what is inserted.

        Raises:
            ParamError: If it is too much.
        """
        self._left -= length
        if self._left < 0:
            text = f"the value grows to more than {self._characters:,} characters"
            raise ParamError(text, origin=origin, field=field)
        if self._within is not None:
            self._within.spend(length, origin, field)


def _length(value: Any) -> int:
    """Return the approximate length of a value as JSON, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return _CHARACTERS_PER_VALUE + sum(len(k) + _length(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return _CHARACTERS_PER_VALUE + sum(map(_length, value))
    return _CHARACTERS_PER_VALUE


def references_in(value: Any) -> set[str]:
    """Return the names of all references in `value` and the texts inside it."""
    if isinstance(value, str):
        return {m.group(2) for m in REFERENCE.finditer(value) if m.group(2)}
    if isinstance(value, Mapping):
        return set().union(*(references_in(v) for v in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(references_in(v) for v in value))
    return set()


def to_text(value: Any) -> str:
    """Return a param's value for insertion into a text: a text unchanged, `None` as an empty text, others as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(thaw(value))


def render_value(
    value: Any,
    lookup: Mapping[str, Any],
    *,
    origin: Origin | None = None,
    field: str | None = None,
    allowance: Allowance | None = None,
) -> Any:
    """Return `value` with all references in its texts replaced. Keys of mappings are not changed.

    If a text consists of only one reference, the result is the value with its own type. References to secure values are
    allowed only in this form.

    Args:
        value: A text, or lists and mappings of texts.
        lookup: The params and facts, by name.
        origin: The place of the text, for messages.
        field: The field that contains the text, for messages.
        allowance: What may be inserted into this and other values together.

    Raises:
        ParamError: If a name has no value, a secure value is part of a text, or more than `MAX_RENDERED` or the
            allowance is inserted.
    """
    return _rendered(value, lookup, origin, field, Allowance(MAX_RENDERED, allowance))


def _rendered(
    value: Any, lookup: Mapping[str, Any], origin: Origin | None, field: str | None, allowance: Allowance
) -> Any:
    if isinstance(value, str):
        return _render(value, lookup, origin, field, allowance)
    if isinstance(value, Mapping):
        return {k: _rendered(v, lookup, origin, field, allowance) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rendered(v, lookup, origin, field, allowance) for v in value]
    return value


def _render(
    text: str, lookup: Mapping[str, Any], origin: Origin | None, field: str | None, allowance: Allowance
) -> Any:
    if "{{" not in text:
        return text
    whole = REFERENCE.fullmatch(text.strip())
    if whole is not None and whole.group(2):
        found = _find(whole.group(2), text, 0, lookup, origin, field)
        allowance.spend(_length(found), origin, field)
        return found if isinstance(found, SecretRef) else thaw(found)
    parts: list[str] = []
    position = 0
    for match in REFERENCE.finditer(text):
        parts.append(text[position : match.start()])
        position = match.end()
        if match.group(1):
            parts.append("{{")
        else:
            found = _find(match.group(2), text, match.start(), lookup, origin, field)
            if isinstance(found, SecretRef):
                raise ParamError(
                    "a secure value may only stand alone, as the whole value of an environment variable",
                    origin=origin,
                    field=f"{field or 'text'}: {match.group(2)}",
                )
            allowance.spend(_length(found), origin, field)
            parts.append(to_text(found))
    parts.append(text[position:])
    return "".join(parts)


def _find(name: str, text: str, at: int, lookup: Mapping[str, Any], origin: Origin | None, field: str | None) -> Any:
    try:
        return lookup[name]
    except KeyError:
        line = text.count("\n", 0, at) + 1
        raise ParamError(
            f"line {line}: there is no param or fact {name!r}{did_you_mean(name, lookup)}",
            origin=origin,
            field=field,
            hint="Set it, or write {{{{ instead of {{ if the braces are meant as text",
        ) from None
