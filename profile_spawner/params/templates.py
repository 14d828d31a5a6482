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

__all__ = ["MAX_RENDERED", "REFERENCE", "references_in", "render_value", "to_text"]

MAX_RENDERED = 4 * 1024 * 1024
"""The maximum length of a rendered text, in characters."""


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
    value: Any, lookup: Mapping[str, Any], *, origin: Origin | None = None, field: str | None = None
) -> Any:
    """Return `value` with all references in its texts replaced. Keys of mappings are not changed.

    If a text consists of only one reference, the result is the value with its own type. References to secure values are
    allowed only in this form.

    Args:
        value: A text, or lists and mappings of texts.
        lookup: The params and facts, by name.
        origin: The place of the text, for messages.
        field: The field that contains the text, for messages.

    Raises:
        ParamError: If a name has no value, a secure value is part of a text, or the result exceeds `MAX_RENDERED`.
    """
    if isinstance(value, str):
        return _render(value, lookup, origin, field)
    if isinstance(value, Mapping):
        return {k: render_value(v, lookup, origin=origin, field=field) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [render_value(v, lookup, origin=origin, field=field) for v in value]
    return value


def _render(text: str, lookup: Mapping[str, Any], origin: Origin | None, field: str | None) -> Any:
    if "{{" not in text:
        return text
    whole = REFERENCE.fullmatch(text.strip())
    if whole is not None and whole.group(2):
        found = _find(whole.group(2), text, 0, lookup, origin, field)
        return found if isinstance(found, SecretRef) else thaw(found)
    parts: list[str] = []
    size = position = 0
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
            parts.append(to_text(found))
        size += len(parts[-1])
        if size > MAX_RENDERED:
            raise ParamError(f"the text grows to more than {MAX_RENDERED:,} characters", origin=origin, field=field)
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
