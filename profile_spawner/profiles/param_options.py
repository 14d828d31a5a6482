"""Turns params into options of the spawn page: the schema of a param says which field it becomes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from profile_spawner.params.definition import MISSING, Param, thaw

from .access import UserInfo
from .options import Choice, ChoiceOption, MultiOption, NumberOption, Option, SwitchOption, TextOption
from .user_text import EXAMPLES

__all__ = ["choice_name", "param_option", "value_of_choice"]

_Listed = Sequence[tuple[Any, str]]
"""Values with their titles."""


def param_option(
    param: Param, default: Any = MISSING, *, required: bool = False, fits: Callable[[Any], bool] = lambda value: True
) -> Option:
    """Return the option for a param that users may choose.

    Args:
        param: The definition.
        default: The value for a server without a choice; `MISSING` if there is none.
        required: Whether there must be a value.
        fits: Whether the profile can be built with a value, so that it can be an example.
    """
    option = _option(param, default, required)
    if default is not MISSING or not required:
        return option
    return option.model_copy(update={"example": _example(param, option, fits)})


def _option(param: Param, default: Any, required: bool) -> Option:
    schema, meta = param.schema, param.meta
    plain = None if default is MISSING else thaw(default)
    fields: dict[str, Any] = {
        "name": param.name,
        "param": param.name,
        "display_name": str(meta.get("title") or schema.get("title") or param.name),
        "description": param.description or str(schema.get("description") or ""),
        "advanced": bool(meta.get("advanced")) and not (required and default is MISSING),
        "required": required,
    }
    kind, listed, items = _type(schema), _listed(schema), schema.get("items")
    # A switch is on or off from the beginning.
    if kind == "boolean" and not listed and (meta.get("widget") == "choice" or (required and default is MISSING)):
        listed = ((True, "Yes"), (False, "No"))
    if listed:
        return ChoiceOption(**fields, choices=_choices(listed, None if default is MISSING else choice_name(plain)))
    if kind == "array" and isinstance(items, Mapping) and _listed(items):
        names = tuple(choice_name(value) for value in plain or ())
        return MultiOption(**fields, choices=_choices(_listed(items)), default=names)
    if kind == "boolean":
        return SwitchOption(**fields, default=plain)
    if kind in ("integer", "number"):
        minimum, maximum = _bounds(schema)
        step, integer = schema.get("multipleOf"), kind == "integer"
        return NumberOption(**fields, default=plain, minimum=minimum, maximum=maximum, step=step, integer=integer)
    pattern, max_length = _whole(schema.get("pattern")), int(schema.get("maxLength", 256))
    hint = next((example for example in schema.get("examples") or () if isinstance(example, str)), "")
    return TextOption(**fields, default=plain, pattern=pattern, max_length=max_length, placeholder=hint)


def _example(param: Param, option: Option, fits: Callable[[Any], bool]) -> Any:
    """Return a choice with which the profile can be built before a user has chosen; `None` if none is found."""
    schema = param.schema
    candidates: list[Any] = [thaw(value) for value in schema.get("examples") or ()]
    if option.listed():
        names = [choice.name for choice in option.listed()]
        candidates = [[name] for name in names] if isinstance(option, MultiOption) else names
    elif isinstance(option, NumberOption):
        bounds = [n for n in (option.minimum, option.maximum) if n is not None]
        candidates += [*bounds, *(n + (option.step or 1) for n in bounds), 1, 2, 0, 0.5, 10, 100, 1000]
    elif isinstance(option, TextOption):
        candidates += [*EXAMPLES, "x" * int(schema.get("minLength") or 1)]
    for candidate in candidates:
        value, problem = option.check(candidate, UserInfo(""))
        if not problem and not param.problems(typed := value_of_choice(param, value)) and fits(typed):
            return value
    return None


def value_of_choice(param: Param, chosen: Any) -> Any:
    """Convert a user's choice to a typed value. Browsers send texts; the values that the schema lists have types."""
    listed, items = _listed(param.schema), param.schema.get("items")
    if not listed and _type(param.schema) == "boolean":
        listed = ((True, ""), (False, ""))
    if listed and isinstance(chosen, str):
        return _typed(listed, chosen)
    if isinstance(items, Mapping) and _listed(items) and isinstance(chosen, list | tuple):
        return [_typed(_listed(items), one) for one in chosen]
    return thaw(chosen)


def choice_name(value: Any) -> str:
    """Return a listed value as the name of a choice: a text unchanged, others as JSON."""
    return value if isinstance(value, str) else json.dumps(thaw(value))


def _typed(listed: _Listed, chosen: Any) -> Any:
    return thaw(next((value for value, _ in listed if choice_name(value) == chosen), chosen))


def _choices(listed: _Listed, default: str | None = None) -> tuple[Choice, ...]:
    names = ((choice_name(value), title) for value, title in listed)
    return tuple(Choice(name=name, display_name=title, default=name == default) for name, title in names)


def _type(schema: Mapping[str, Any]) -> Any:
    """Return the type in a schema, ignoring `null`."""
    declared = schema.get("type")
    if isinstance(declared, list | tuple):
        others = [t for t in declared if t != "null"]
        return others[0] if len(others) == 1 else None
    return declared


def _listed(schema: Mapping[str, Any]) -> _Listed:
    """Return the values that a schema lists with their titles, from `enum` or from `oneOf` with `const`."""
    if "enum" in schema:
        return tuple((v, choice_name(v)) for v in schema["enum"])
    branches = schema.get("oneOf") or schema.get("anyOf") or ()
    if branches and all(isinstance(b, Mapping) and "const" in b for b in branches):
        return tuple((b["const"], str(b.get("title") or choice_name(b["const"]))) for b in branches)
    return ()


def _bounds(schema: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the inclusive bounds of a number field; the lower bound is a multiple of `multipleOf`."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if _type(schema) == "integer":
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        # In older drafts, these keywords are booleans.
        above = low if above is True else None if above is False else above
        below = high if below is True else None if below is False else below
        low = max((n for n in (low, None if above is None else math.floor(above) + 1) if n is not None), default=None)
        high = min((n for n in (high, None if below is None else math.ceil(below) - 1) if n is not None), default=None)
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
