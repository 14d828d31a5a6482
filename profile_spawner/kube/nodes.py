"""How many GPUs (or whatever else a profile asks for) are free, for the spawn page.

No page and no spawn waits for this: they see the last reading with its age. It needs the right to list nodes and all
pods of the cluster (see `CAPACITY_RULES`); without it there is no reading, and nothing else changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from profile_spawner.params.quantities import quantity_value

from .transport import Transport

__all__ = ["CAPACITY_RULES", "Availability", "Capacity", "CapacityReader", "Node"]

CAPACITY_RULES: tuple[Mapping[str, Any], ...] = (
    {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]},
)
"""The rules of a ClusterRole with which capacity can be read."""

_LIVE = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True)
class Node:
    """A node that takes new pods.

    Attributes:
        name: Its name.
        labels: Its labels.
        allocatable: What pods may use of it, by resource.
        used: What the pods on it ask for, by resource.
    """

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, Decimal]
    used: Mapping[str, Decimal]

    def free(self, resource: str) -> Decimal:
        """Return how much of a resource is left."""
        left = self.allocatable.get(resource, Decimal(0)) - self.used.get(resource, Decimal(0))
        return max(left, Decimal(0))


@dataclass(frozen=True)
class Availability:
    """How much of a resource there is.

    Attributes:
        total: All of it, on the nodes in question.
        free: What no pod has asked for.
        fits: How many more servers of the wanted size could start now.
    """

    total: Decimal
    free: Decimal
    fits: int


@dataclass(frozen=True)
class Capacity:
    """One reading.

    Attributes:
        taken_at: When.
        nodes: The nodes that take new pods.
        waiting: What pods without a node ask for, by resource.
    """

    taken_at: datetime
    nodes: tuple[Node, ...]
    waiting: Mapping[str, Decimal] = field(default_factory=dict)

    def age(self, now: datetime | None = None) -> float:
        """Return the reading's age in seconds."""
        return ((now or datetime.now(timezone.utc)) - self.taken_at).total_seconds()

    def of(
        self, resource: str, amount: Decimal | int = 1, node_selector: Mapping[str, str] | None = None
    ) -> Availability:
        """Return how much there is of a resource.

        Args:
            resource: For example `nvidia.com/gpu`.
            amount: How much one server asks for.
            node_selector: Labels that the node must have.
        """
        wanted = (node_selector or {}).items()
        nodes = [node for node in self.nodes if wanted <= node.labels.items()]
        total = sum((node.allocatable.get(resource, Decimal(0)) for node in nodes), Decimal(0))
        free = sum((node.free(resource) for node in nodes), Decimal(0))
        fits = sum(int(node.free(resource) // Decimal(amount)) for node in nodes) if amount else 0
        return Availability(total, free, fits)


class CapacityReader:
    """Reads the capacity.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`.
        resources: Which resources to count.
        log: Where retried calls are noted.
        interval: Seconds between two readings, which bound the retries of one.

    Attributes:
        resources: Which resources the next reading counts.
    """

    def __init__(
        self,
        api_client: Any,
        resources: Iterable[str] = ("nvidia.com/gpu",),
        *,
        log: logging.Logger | logging.LoggerAdapter[Any],
        interval: float = 30.0,
    ) -> None:
        self._transport = Transport(api_client, log=log, request_timeout=10.0, retry_budget=interval)
        self.resources = frozenset(resources)

    async def read(self) -> Capacity:
        """Take one reading now.

        Raises:
            ClusterError: if the API server refuses or stays away.
        """
        nodes = await self._transport.list_all("/api/v1/nodes", what="nodes")
        pods = await self._transport.list_all("/api/v1/pods", what="pods of all namespaces", field_selector=_LIVE)
        used: dict[str, dict[str, Decimal]] = {}
        for number, pod in enumerate(pods):
            spec = pod.get("spec") or {}
            wanted = used.setdefault(spec.get("nodeName") or "", {})
            for resource in self.resources:
                amount = _request_of(spec, resource)
                if amount:
                    wanted[resource] = wanted.get(resource, Decimal(0)) + amount
            if number % 200 == 199:
                await asyncio.sleep(0)
        return Capacity(
            datetime.now(timezone.utc),
            tuple(self._node(node, used) for node in nodes if _takes_pods(node)),
            used.get("", {}),
        )

    def _node(self, node: Mapping[str, Any], used: Mapping[str, Mapping[str, Decimal]]) -> Node:
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        name = node["metadata"]["name"]
        return Node(
            name,
            node["metadata"].get("labels") or {},
            {resource: quantity_value(allocatable[resource]) for resource in self.resources & allocatable.keys()},
            used.get(name, {}),
        )


def _takes_pods(node: Mapping[str, Any]) -> bool:
    if (node.get("spec") or {}).get("unschedulable"):
        return False
    conditions = (node.get("status") or {}).get("conditions") or ()
    return not any(c.get("type") == "Ready" and c.get("status") != "True" for c in conditions)


def _request_of(spec: Mapping[str, Any], resource: str) -> Decimal:
    """Return what a pod asks for: its containers together, or its largest init container."""

    def amount(container: Mapping[str, Any]) -> Decimal:
        wanted = container.get("resources") or {}
        value = (wanted.get("requests") or {}).get(resource, (wanted.get("limits") or {}).get(resource, 0))
        return quantity_value(value)

    together = sum((amount(container) for container in spec.get("containers") or ()), Decimal(0))
    return max([together, *(amount(container) for container in spec.get("initContainers") or ())])
