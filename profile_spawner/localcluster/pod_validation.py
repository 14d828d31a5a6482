"""The rules for pods and for pod templates."""

from __future__ import annotations

from collections.abc import Iterator

from .answers import Cause, Object

__all__ = ["pod_causes"]


def pod_causes(spec: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with a pod's spec."""
    from .validation import required

    if not spec.get("containers"):
        yield required(f"{path}.containers")
    for index, container in enumerate(spec.get("containers") or ()):
        if not container.get("name"):
            yield required(f"{path}.containers[{index}].name")
