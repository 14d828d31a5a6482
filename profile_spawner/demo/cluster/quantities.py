"""Kubernetes quantities (`500m`, `1.5Gi`) and their values."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

__all__ = ["parse_quantity"]

_PATTERN = re.compile(r"([+-]?[\d.]{1,40}(?:[eE][+-]?\d{1,2})?)([KMGTPE]i|[numkMGTPE])?", re.ASCII)
_FACTORS = {
    "": Fraction(1),
    **{unit: Fraction(10) ** power for unit, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=4096)
def parse_quantity(text: str | float) -> Fraction:
    """Return the value of a quantity as an exact number.

    Args:
        text: `500m`, `2`, `4Gi`, `1e3`; numbers are accepted as the API server accepts them.

    Raises:
        ValueError: It is not a quantity.
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{str(text)[:64]!r} is not a quantity such as 500m, 2, 1.5G or 4Gi")
    return Fraction(match[1]) * _FACTORS[match[2] or ""]
