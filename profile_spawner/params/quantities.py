"""Kubernetes quantities as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["quantity_value"]

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_SUFFIX = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    **{s: Decimal(10) ** (3 * (i + 2)) for i, s in enumerate("MGTPE")},
    **{f"{s}i": Decimal(1024) ** (i + 1) for i, s in enumerate("KMGTPE")},
}


def quantity_value(text: str | int | float) -> Decimal:
    """Return a Kubernetes quantity (`500m`, `2`, `20Gi`, `1e3`) as a number.

    Raises:
        ValueError: If `text` is not a non-negative Kubernetes quantity.
    """
    raw = str(text)
    match = _QUANTITY.fullmatch(raw) if len(raw) <= 64 else None
    if match is None:
        raise ValueError(f"{raw[:64]!r} is not a Kubernetes quantity such as '500m', '2' or '20Gi'")
    number, suffix = match.group(1), match.group(2) or ""
    if suffix in _SUFFIX:
        return Decimal(number) * _SUFFIX[suffix]
    return Decimal(number + suffix)
