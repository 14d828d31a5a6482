"""Kubernetes quantities (`500m`, `1.5Gi`) and their values."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

__all__ = ["parse_quantity"]

_PATTERN = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_NANO = 10**9
MAX_LENGTH = 128
"""Longer texts are refused before they are parsed. Real quantities have a dozen characters."""


@lru_cache(maxsize=4096)
def _parse(text: str) -> Fraction:
    match = _PATTERN.fullmatch(text.strip()) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{text[:64]!r} is not a quantity such as 500m, 2, 1.5G or 4Gi")
    sign, digits, suffix = match[1], match[2], match[3] or ""
    value = Fraction("0" + digits if digits.startswith(".") else digits.rstrip("."))
    if suffix in _BINARY:
        value *= 2 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        value *= Fraction(10) ** _DECIMAL[suffix]
    else:
        exponent = int(suffix[1:])
        if abs(exponent) > 32:
            raise ValueError(f"{text[:64]!r} has an exponent that no resource can have")
        value *= Fraction(10) ** exponent
    # Values below one billionth are rounded up, so that a positive request never becomes 0.
    value = Fraction(math.ceil(value * _NANO), _NANO)
    return -value if sign == "-" else value


def parse_quantity(text: str | float) -> Fraction:
    """Return the value of a quantity as an exact number.

    Args:
        text: `500m`, `2`, `4Gi`, `1e3`; numbers are accepted as the API server accepts them.

    Raises:
        ValueError: It is not a quantity.
    """
    return _parse(str(text))
