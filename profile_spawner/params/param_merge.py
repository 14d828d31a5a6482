"""Merges the values of several layers of a param."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from profile_spawner.errors import ParamError

from .definition import Param

__all__ = ["merge_values", "same"]


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: `true` differs from `1`, and `1` is equal to `1.0`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def merge_values(param: Param, values: Sequence[tuple[str, Any]]) -> Any:
    """Merge values into one, as `param.merge` says.

    Args:
        param: The definition, with the merge `append` or `merge`.
        values: For each value, strongest first: where it is set, for messages, and the frozen value.

    Raises:
        ParamError: If values have different types. The message names both places.
    """
    expected, plural = (tuple, "lists") if param.merge == "append" else (Mapping, "mappings")
    fitting = [where for where, value in values if isinstance(value, expected)]
    for where, value in values:
        if not isinstance(value, expected):
            if fitting:
                raise _mixed(param, "", fitting[0], where)
            raise ParamError(
                f"merge is {param.merge!r}, so values must be {plural}; the value of {where} is not",
                field=f"param {param.name}",
                value=value,
            )
    if param.merge == "append":
        return _append([value for _, value in values], param.merge_key)
    return _merge(param, values, ())


def _mixed(param: Param, path: str, first: str, second: str) -> ParamError:
    at = f" at {path!r}" if path else ""
    return ParamError(
        f"values of different types cannot be merged{at}: {first} and {second}", field=f"param {param.name}"
    )


def _append(values: Iterable[Sequence[Any]], key: str | None) -> list[Any]:
    result: list[Any] = []
    seen: list[Any] = []
    for item in (item for value in values for item in value):
        identity = item.get(key, item) if key is not None and isinstance(item, Mapping) else item
        if not any(same(identity, s) for s in seen):
            seen.append(identity)
            result.append(item)
    return result


def _merge(param: Param, values: Sequence[tuple[str, Mapping[str, Any]]], path: tuple[str, ...]) -> dict[str, Any]:
    result = {}
    for key in dict.fromkeys(key for _, value in values for key in value):
        found = [(where, value[key]) for where, value in values if key in value]
        mappings = [one for one in found if isinstance(one[1], Mapping)]
        others = [where for where, value in found if not isinstance(value, Mapping) and value is not None]
        if mappings and others:
            raise _mixed(param, "/".join([*path, key]), mappings[0][0], others[0])
        first = found[0][1]
        result[key] = _merge(param, mappings, (*path, key)) if isinstance(first, Mapping) else first
    return result
