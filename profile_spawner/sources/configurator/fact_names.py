"""What the ApplicationHub's templates call the facts of a server."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["FACT_NAMES"]

FACT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "spawner.namespace": "namespace",
        "spawner.user.name": "username",
        "spawner.user.escaped_name": "user_slug",
        "spawner.escaped_name": "user_slug",
        "spawner.name": "servername",
        "spawner.pod_name": "pod_name",
    }
)
"""Their names, each with ours."""
