"""Constraints: what an administrator allows as values of a param."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from profile_spawner.errors import ParamError, shorten

from .definition import freeze, thaw
from .param_merge import same
from .quantities import quantity_value

__all__ = ["Constraint"]

_NUMBER = "a number, or a quantity such as '8Gi'"


@dataclass(frozen=True)
class Constraint:
    """A constraint for the values of a param.

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
    def of(cls, value: Any) -> Constraint | None:
        """Convert `{"$maximum": 2}`, `{"$minimum": ...}` or `{"$allowed": [...]}`; return `None` for a plain value.

        Raises:
            ParamError: If a bound is neither a number nor a quantity, or `$allowed` is not a list.
        """
        if not (isinstance(value, Mapping) and value and set(value) <= {"$maximum", "$minimum", "$allowed"}):
            return None
        for key in ("$maximum", "$minimum"):
            if key in value and _number(value[key]) is None:
                raise ParamError("is not a valid bound", field=key, value=value[key], expected=_NUMBER)
        if not isinstance(value.get("$allowed", ()), list | tuple):
            raise ParamError("must be a list of values", field="$allowed", value=value["$allowed"])
        allowed = freeze(value["$allowed"]) if "$allowed" in value else None
        return cls(value.get("$maximum"), value.get("$minimum"), allowed)

    def apply(self, name: str, value: Any, *, secure: bool = False) -> Any:
        """Return `value` within the bounds.

        Args:
            name: The param, for messages.
            value: A frozen value.
            secure: Whether messages must not show values.

        Raises:
            ParamError: If it is not an allowed value or cannot be compared with the bounds.
        """
        plain = thaw(value)
        if self.allowed is not None and not any(same(plain, a) for a in self.allowed):
            raise ParamError(
                "is not allowed by the administrator",
                field=f"param {name}",
                value=None if secure else plain,
                expected=None if secure else ", ".join(shorten(thaw(a), 30) for a in self.allowed[:10]),
            )
        upper, lower = _number(self.maximum), _number(self.minimum)
        if upper is None and lower is None:
            return value
        number = _number(value)
        if number is None:
            raise ParamError(
                "cannot be compared with the administrator's bound",
                field=f"param {name}",
                value=None if secure else plain,
                expected=_NUMBER,
            )
        if upper is not None and number > upper:
            return self.maximum
        return self.minimum if lower is not None and number < lower else value


def _number(value: Any) -> Decimal | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(str(value)) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    # KubeSpawner's units K, M, G and T are powers of 1024.
    text = f"{value}i" if value[-1:] in "KMGT" and value[:-1].replace(".", "", 1).isdigit() else value
    try:
        return quantity_value(text)
    except ValueError:
        return None
