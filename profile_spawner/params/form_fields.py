"""Derives the form fields of the spawn page from JSON Schemas."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FieldSpec", "field_of", "value_of"]


@dataclass(frozen=True)
class FieldSpec:
    """A form field of the spawn page.

    Attributes:
        kind: `choice`, `multi`, `number`, `switch` or `text`.
        title: The label.
        help: A sentence below the field.
        default: The value if the user does not choose one.
        choices: For `choice` and `multi`: the values, as texts, with their titles.
        minimum: For `number`.
        maximum: For `number`.
        step: For `number`.
        integer: For `number`: whole numbers only.
        pattern: For `text`.
        max_length: For `text`, in characters.
        order: Fields with a lower number come first.
    """

    kind: str
    title: str
    help: str = ""
    default: Any = None
    choices: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    integer: bool = False
    pattern: str | None = None
    max_length: int = 256
    order: int = 0


def field_of(
    name: str, schema: Mapping[str, Any], meta: Mapping[str, Any], description: str, default: Any
) -> FieldSpec:
    """Return the form field for a value.

    Args:
        name: The label if there is no title.
        schema: The JSON Schema of the value.
        meta: `title`, `order` and `widget`; the widget `choice` shows a boolean as a list.
        description: A sentence about the value.
        default: The value if the user does not choose one.
    """
    kind, choices = _kind(schema)
    minimum, maximum = _bounds(schema)
    if meta.get("widget") == "choice" and kind == "switch":
        kind, choices = "choice", (("true", "Yes"), ("false", "No"))
    return FieldSpec(
        kind=kind,
        title=str(meta.get("title") or schema.get("title") or name),
        help=description or str(schema.get("description") or ""),
        default=default,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        step=schema.get("multipleOf"),
        integer=_type(schema) == "integer",
        pattern=_whole(schema.get("pattern")),
        max_length=int(schema.get("maxLength", 256)),
        order=int(meta.get("order") or 0),
    )


def value_of(schema: Mapping[str, Any], chosen: Any) -> Any:
    """Convert a choice, which browsers send as a text, to a typed value."""
    listed = _listed(schema)
    if not listed and _type(schema) == "boolean":
        listed = ((True, ""), (False, ""))
    if listed and isinstance(chosen, str):
        return next((v for v, _ in listed if _as_text(v) == chosen), chosen)
    items = schema.get("items")
    if isinstance(items, Mapping) and _listed(items) and isinstance(chosen, list | tuple):
        return [next((v for v, _ in _listed(items) if _as_text(v) == one), one) for one in chosen]
    return chosen


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=dict)


def _type(schema: Mapping[str, Any]) -> Any:
    """Return the type in a schema, ignoring `null`."""
    declared = schema.get("type")
    if isinstance(declared, list | tuple):
        others = [t for t in declared if t != "null"]
        return others[0] if len(others) == 1 else None
    return declared


def _listed(schema: Mapping[str, Any]) -> tuple[tuple[Any, str], ...]:
    """Return the values that a schema lists with their titles, from `enum` or from `oneOf` with `const`."""
    if "enum" in schema:
        return tuple((v, _as_text(v)) for v in schema["enum"])
    branches = schema.get("oneOf") or schema.get("anyOf") or ()
    if branches and all(isinstance(b, Mapping) and "const" in b for b in branches):
        return tuple((b["const"], str(b.get("title") or _as_text(b["const"]))) for b in branches)
    return ()


def _kind(schema: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    items = schema.get("items")
    if _listed(schema):
        return "choice", tuple((_as_text(v), title) for v, title in _listed(schema))
    if _type(schema) == "boolean":
        return "switch", ()
    if _type(schema) == "array" and isinstance(items, Mapping) and _listed(items):
        return "multi", tuple((_as_text(v), title) for v, title in _listed(items))
    if _type(schema) in ("integer", "number"):
        return "number", ()
    return "text", ()


def _bounds(schema: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the inclusive bounds of a number field; the lower bound is a multiple of `multipleOf`."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if _type(schema) == "integer":
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        # In older drafts, these keywords are booleans.
        above = low if above is True else None if above is False else above
        below = high if below is True else None if below is False else below
        low = max(
            (n for n in (low, math.floor(above) + 1 if above is not None else None) if n is not None), default=None
        )
        high = min(
            (n for n in (high, math.ceil(below) - 1 if below is not None else None) if n is not None), default=None
        )
    step = schema.get("multipleOf")
    if step and low is not None:
        low = math.ceil(low / step) * step  # browsers count the steps from the lower bound
    return low, high


def _whole(pattern: Any) -> str | None:
    """Convert a JSON Schema pattern, which may match a part of a text, to a pattern that matches the whole text."""
    if not isinstance(pattern, str):
        return None
    inner = pattern[1:-1]
    anchored = pattern[:1] == "^" and pattern[-1:] == "$" and not inner.endswith("\\")
    return inner if anchored and "|" not in inner else rf"[\s\S]*(?:{pattern})[\s\S]*"
