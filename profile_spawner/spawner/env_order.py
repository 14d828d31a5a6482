"""Sorts environment variables, so that a variable comes after the variables that it refers to.

KubeSpawner does this too, but it treats the escaped `$$(NAME)` as a reference. So text that a user has typed could
change the order, and with it the values of other variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["in_order"]

_REFERENCE = re.compile(r"\$\$|\$\(([^)]+)\)")


def in_order(variables: Iterable[Any]) -> list[Any]:
    """Return `V1EnvVar` objects by name, each after those that it refers to, where possible."""
    waiting = {v.name: (v, _references(v)) for v in sorted(variables, key=lambda v: str(v.name))}
    ordered: dict[str, Any] = {}
    while ready := [name for name, (_, references) in waiting.items() if references <= ordered.keys()]:
        ordered.update({name: waiting.pop(name)[0] for name in ready})
    return [*ordered.values(), *(variable for variable, _ in waiting.values())]


def _references(variable: Any) -> set[str]:
    found = {match[1] for match in _REFERENCE.finditer(variable.value or "") if match[1]}
    return found - {variable.name}
