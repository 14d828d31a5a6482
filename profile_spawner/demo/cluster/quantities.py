"""Kubernetes quantities (`500m`, `1.5Gi`): their value, and the one way in which the API server writes each."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

__all__ = ["canonical", "parse_quantity"]

_PATTERN = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_NAMES = {power: suffix for suffix, power in _BINARY.items()}
_NANO = 10**9
MAX_LENGTH = 128
"""Longer texts are refused before they are looked at. Real quantities have a dozen characters."""


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Fraction, str]:
    match = _PATTERN.fullmatch(text.strip()) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{text[:64]!r} is not a quantity such as 500m, 2, 1.5G or 4Gi")
    sign, digits, suffix = match[1], match[2], match[3] or ""
    value = Fraction("0" + digits if digits.startswith(".") else digits.rstrip("."))
    if suffix in _BINARY:
        value, style = value * 2 ** _BINARY[suffix], "binary"
    elif suffix in _DECIMAL:
        value, style = value * Fraction(10) ** _DECIMAL[suffix], "decimal"
    else:
        exponent = int(suffix[1:])
        if abs(exponent) > 32:
            raise ValueError(f"{text[:64]!r} has an exponent that no resource can have")
        value, style = value * Fraction(10) ** exponent, "exponent"
    # Finer than a billionth is rounded up, so that something asked for is never nothing.
    value = Fraction(math.ceil(value * _NANO), _NANO)
    return (-value if sign == "-" else value), style


def parse_quantity(text: str | float) -> Fraction:
    """Return the value of a quantity as an exact number.

    Args:
        text: `500m`, `2`, `4Gi`, `1e3`; numbers are accepted as the API server accepts them.

    Raises:
        ValueError: It is not a quantity.
    """
    return _parse(str(text))[0]


@lru_cache(maxsize=4096)
def canonical(text: str | float, *, milli: bool = False) -> str:
    """Return a quantity as the API server stores it: `0.5` becomes `500m`, `1024Mi` becomes `1Gi`.

    Args:
        text: The quantity.
        milli: Whether anything finer than a thousandth is rounded up, as for the amounts of resources.

    Raises:
        ValueError: It is not a quantity.
    """
    value, style = _parse(str(text))
    if value == 0:
        return "0"
    if milli:
        value = Fraction(math.ceil(value * 1000), 1000)
    sign = "-" if value < 0 else ""
    size = abs(value)
    if style == "binary" and size >= 1024:
        whole, power = math.ceil(size), 0
        while whole % 1024 == 0 and power < 60:
            whole, power = whole // 1024, power + 10
        return f"{sign}{whole}{_BINARY_NAMES.get(power, '')}"
    mantissa, exponent = int(size * _NANO), -9
    while mantissa % 1000 == 0 and exponent < 18:
        mantissa, exponent = mantissa // 1000, exponent + 3
    if style == "exponent":
        return f"{sign}{mantissa}e{exponent}" if exponent else f"{sign}{mantissa}"
    return f"{sign}{mantissa}{_DECIMAL_NAMES[exponent]}"
