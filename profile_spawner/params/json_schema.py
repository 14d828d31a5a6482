"""Finds what a JSON Schema says without effect: misspelt keywords and formats, and keywords of another draft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from profile_spawner.errors import did_you_mean, shorten

__all__ = ["schema_problem"]

_DRAFTS: Mapping[type, str] = {
    jsonschema_rs.Draft4Validator: "draft-04",
    jsonschema_rs.Draft6Validator: "draft-06",
    jsonschema_rs.Draft7Validator: "draft-07",
    jsonschema_rs.Draft201909Validator: "2019-09",
    jsonschema_rs.Draft202012Validator: "2020-12",
}
"""The drafts, the oldest first."""
_FIRST = "draft-04"
_LAST = "2020-12"

_SINCE: Mapping[str, str] = {
    **dict.fromkeys(("const", "contains", "propertyNames"), "draft-06"),
    **dict.fromkeys(("if", "then", "else"), "draft-07"),
    **dict.fromkeys(
        (
            "dependentRequired", "dependentSchemas", "maxContains", "minContains", "unevaluatedItems",
            "unevaluatedProperties",
        ),
        "2019-09",
    ),
    "prefixItems": "2020-12",
}  # fmt: skip
"""The drafts that brought the newer keywords which restrict values."""
_UNTIL: Mapping[str, str] = {"additionalItems": "2019-09"}

_RESTRICTING = frozenset(
    {
        "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "default", "definitions", "dependencies", "enum",
        "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum",
        "minItems", "minLength", "minProperties", "minimum", "multipleOf", "not", "oneOf", "pattern",
        "patternProperties", "properties", "required", "type", "uniqueItems", *_SINCE, *_UNTIL,
    }
)  # fmt: skip
"""The keywords that a schema with a typing error would do without."""
_OTHERS = frozenset(
    {
        "$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef", "$schema",
        "$vocabulary", "contentEncoding", "contentMediaType", "contentSchema", "deprecated", "description", "example",
        "examples", "id", "readOnly", "title", "writeOnly",
    }
)  # fmt: skip

_FORMATS = (
    "date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri",
    "iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference", "uri-template",
    "uuid",
)  # fmt: skip

_NAMED = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")
"""The keywords whose values are schemas by name."""
_NESTED = (
    "additionalItems", "additionalProperties", "allOf", "anyOf", "contains", "contentSchema", "else", "if", "items",
    "not", "oneOf", "prefixItems", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
"""The keywords whose values are a schema or a list of schemas. Other values are data and may contain anything."""


def schema_problem(schema: Mapping[str, Any], validator: type) -> str:
    """Return what is without effect in a schema that is valid otherwise; empty if there is nothing.

    Keywords and formats that are not similar to known ones are notes for other programs.

    Args:
        schema: The schema.
        validator: The class of its validator, which says the draft.
    """
    draft = _DRAFTS[validator]
    order = list(_DRAFTS.values())
    for path, part in _parts(schema, ""):
        for key in part:
            since, until = _SINCE.get(key, _FIRST), _UNTIL.get(key, _LAST)
            if not order.index(since) <= order.index(draft) <= order.index(until):
                other = f"since {since}" if key in _SINCE else f"until {until}"
                return f"{path}{key}: has an effect only {other}, and the schema is {draft} as its $schema says"
            known = key in _RESTRICTING or key in _OTHERS
            if hint := "" if known else did_you_mean(key, _RESTRICTING, 0.75):
                return f"{path}{shorten(key)}: is not a keyword of JSON Schema{hint}"
        form = part.get("format")
        if isinstance(form, str) and form not in _FORMATS and (hint := did_you_mean(form, _FORMATS, 0.65)):
            return f"{path}format: there is no format {shorten(form)!r}{hint}"
    return ""


def _parts(schema: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a schema and all schemas inside it, with their paths."""
    if not isinstance(schema, Mapping):
        return
    yield path, schema
    for key in _NAMED:
        inside = schema.get(key)
        for name, part in inside.items() if isinstance(inside, Mapping) else ():
            yield from _parts(part, f"{path}{key}/{name}/")
    for key in _NESTED:
        inside = schema.get(key)
        if isinstance(inside, list | tuple):
            for number, part in enumerate(inside):
                yield from _parts(part, f"{path}{key}/{number}/")
        else:
            yield from _parts(inside, f"{path}{key}/")
