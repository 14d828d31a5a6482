"""Merges the values of several layers of a param, and applies the constraints of the administrator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from profile_spawner.errors import ParamError, shorten
from profile_spawner.params.quantities import quantity_value

from .definition import Param, freeze, thaw

__all__ = ["Ceiling", "Part", "join", "same"]


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: `true` differs from `1`, and `1` is equal to `1.0`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


# ------------------------------------------------------------------------------------------------ bounds


@dataclass(frozen=True)
class Ceiling:
    """A constraint that an administrator sets for the values of a param.

    A number or quantity (such as `8Gi`) above the maximum is set to the maximum, and below the minimum to the minimum.
    A value that is not allowed is an error. A value that cannot be compared with the bounds is an error too.

    Attributes:
        maximum: The largest value.
        minimum: The smallest value.
        allowed: The only values.
    """

    maximum: float | str | None = None
    minimum: float | str | None = None
    allowed: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, value: Any) -> Ceiling | None:
        """Convert `{"$maximum": 2}`, `{"$minimum": ...}` or `{"$allowed": [...]}`; return `None` for a plain value.

        Raises:
            ParamError: If a bound is neither a number nor a quantity, or `$allowed` is not a list.
        """
        if isinstance(value, Ceiling):
            return value
        if not (isinstance(value, Mapping) and value and set(value) <= {"$maximum", "$minimum", "$allowed"}):
            return None
        for key in ("$maximum", "$minimum"):
            if key in value and _number(value[key]) is None:
                raise ParamError(
                    "is no bound", field=key, value=value[key], expected="a number, or a quantity such as '8Gi'"
                )
        allowed = value.get("$allowed")
        if "$allowed" in value and not isinstance(allowed, list | tuple):
            raise ParamError("must be a list of values", field="$allowed", value=allowed)
        return cls(
            value.get("$maximum"), value.get("$minimum"), None if allowed is None else tuple(freeze(a) for a in allowed)
        )

    def apply(self, name: str, value: Any, *, secure: bool = False) -> Any:
        """Return `value` within the bounds.

        Raises:
            ParamError: If it is not an allowed value or cannot be compared with the bounds.
        """
        if self.allowed is not None and not any(same(thaw(value), thaw(a)) for a in self.allowed):
            raise ParamError(
                "is not allowed by the administrator",
                field=f"param {name}",
                value=None if secure else thaw(value),
                expected=None if secure else ", ".join(shorten(thaw(a), 30) for a in self.allowed[:10]),
            )
        if self.maximum is None and self.minimum is None:
            return value
        found = _number(value)
        if found is None:
            raise ParamError(
                "cannot be compared with the administrator's bound",
                field=f"param {name}",
                value=None if secure else thaw(value),
                expected="a number, or a quantity such as '8Gi'",
            )
        upper, lower = _number(self.maximum), _number(self.minimum)
        if upper is not None and found > upper:
            return self.maximum
        if lower is not None and found < lower:
            return self.minimum
        return value


def _number(value: Any) -> Decimal | None:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        return Decimal(str(value)) if math.isfinite(value) else None
    # KubeSpawner's units K, M, G and T are powers of 1024.
    text = f"{value}i" if value[-1:] in "KMGT" and value[:-1].replace(".", "", 1).isdigit() else value
    try:
        return quantity_value(text)
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------ joins


@dataclass(frozen=True)
class Part:
    """One of the values that are merged.

    Attributes:
        value: The value as plain data.
        where: The layer and source of the value, for messages.
    """

    value: Any
    where: str


def join(param: Param, parts: Sequence[Part]) -> Any:
    """Merge the parts into one value, as `param.merge` says. The strongest part must come first.

    Raises:
        ParamError: If values have different types. The message names both sources.
    """
    expected = list if param.merge == "append" else dict
    for part in parts:
        if not isinstance(part.value, expected):
            fits = next((p for p in parts if isinstance(p.value, expected)), None)
            if fits is None:
                raise ParamError(
                    f"a param with merge {param.merge!r} holds {'lists' if expected is list else 'mappings'}; "
                    f"{part.where} has something else",
                    field=f"param {param.name}",
                    value=part.value,
                )
            raise _mixed(param.name, "", fits, part)
    if param.merge == "append":
        return _append((p.value for p in parts), param.merge_key)
    result: dict[str, Any] = {}
    owners: dict[str, Part] = {}
    for part in parts:
        _fill(param.name, result, part.value, part, owners, "")
    return result


def _mixed(name: str, path: str, first: Part, second: Part) -> ParamError:
    at = f" at {path!r}" if path else ""
    return ParamError(
        f"values of different types cannot be joined{at}: {first.where} and {second.where}", field=f"param {name}"
    )


def _append(values: Iterable[list[Any]], key: str | None) -> list[Any]:
    result: list[Any] = []
    seen: list[Any] = []
    for item in (item for value in values for item in value):
        identity = item.get(key, item) if key is not None and isinstance(item, dict) else item
        if not any(same(identity, s) for s in seen):
            seen.append(identity)
            result.append(item)
    return result


def _fill(
    name: str, target: dict[str, Any], weaker: Mapping[str, Any], part: Part, owners: dict[str, Part], path: str
) -> None:
    for key, value in weaker.items():
        here = f"{path}/{key}" if path else str(key)
        if key not in target:
            # Copy the value, so that later merges do not change the original.
            target[key] = thaw(value)
            owners[here] = part
            continue
        present = target[key]
        if isinstance(present, dict) and isinstance(value, Mapping):
            _fill(name, present, value, part, owners, here)
        elif isinstance(present, dict) != isinstance(value, Mapping) and present is not None and value is not None:
            raise _mixed(name, here, owners.get(here) or _owner_above(owners, here), part)


def _owner_above(owners: Mapping[str, Part], path: str) -> Part:
    while path not in owners:
        path = path.rpartition("/")[0]
    return owners[path]
