"""Reads how many GPUs and other resources are free in the cluster, for the spawn page.

Pages and spawns never wait for this; they use the last reading and show its age. It needs the right to list nodes and
all pods of the cluster (see `CAPACITY_RULES`). Without the right there is no reading; everything else works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from profile_spawner.params.quantities import quantity_value

from .transport import Transport

__all__ = ["CAPACITY_RULES", "Availability", "Capacity", "CapacityReader", "Node"]

CAPACITY_RULES: tuple[Mapping[str, Any], ...] = (
    {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]},
)
"""The rules of the ClusterRole that is needed to read the capacity."""

_LIVE = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True)
class Node:
    """A node that accepts new pods.

    Attributes:
        name: The name.
        labels: The labels.
        allocatable: The amount that pods may use, by resource.
        used: The total requests of its pods, by resource.
    """

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, Decimal]
    used: Mapping[str, Decimal]

    def free(self, resource: str) -> Decimal:
        """Return the free amount of a resource."""
        left = self.allocatable.get(resource, Decimal(0)) - self.used.get(resource, Decimal(0))
        return max(left, Decimal(0))


@dataclass(frozen=True)
class Availability:
    """The available amount of a resource.

    Attributes:
        total: The total amount on the matching nodes.
        free: The amount that no pod has requested.
        fits: How many more servers of the given size could start now.
    """

    total: Decimal
    free: Decimal
    fits: int


@dataclass(frozen=True)
class Capacity:
    """One reading of the cluster's capacity.

    Attributes:
        taken_at: The time of the reading.
        nodes: The nodes that accept new pods.
    """

    taken_at: datetime
    nodes: tuple[Node, ...]

    def age(self) -> float:
        """Return the reading's age in seconds."""
        return (datetime.now(timezone.utc) - self.taken_at).total_seconds()

    def of(
        self, resource: str, amount: Decimal | int = 1, node_selector: Mapping[str, str] | None = None
    ) -> Availability:
        """Return the available amount of a resource.

        Args:
            resource: For example `nvidia.com/gpu`.
            amount: The amount that one server requests.
            node_selector: The labels that a node must have.
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
        resources: The resources to count.
        log: The logger for retried calls.
        interval: The time between two readings, in seconds. It also limits the time for retries of one reading.

    Attributes:
        resources: The resources that the next reading counts.
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
            ClusterError: If the API server refuses or does not answer.
        """
        nodes = await self._transport.list_all("/api/v1/nodes", what="nodes")
        pods = await self._transport.list_all("/api/v1/pods", what="pods of all namespaces", field_selector=_LIVE)
        used: dict[str, dict[str, Decimal]] = {}
        for number, pod in enumerate(pods):
            spec = pod.get("spec") or {}
            if not spec.get("nodeName"):
                continue
            wanted = used.setdefault(spec["nodeName"], {})
            for resource in self.resources:
                amount = _request_of(spec, resource)
                if amount:
                    wanted[resource] = wanted.get(resource, Decimal(0)) + amount
            if number % 200 == 199:
                await asyncio.sleep(0)
        return Capacity(
            datetime.now(timezone.utc), tuple(self._node(node, used) for node in nodes if _takes_pods(node))
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
    """Return the effective request of a pod: the sum of its containers or its largest init container."""

    def amount(container: Mapping[str, Any]) -> Decimal:
        wanted = container.get("resources") or {}
        value = (wanted.get("requests") or {}).get(resource, (wanted.get("limits") or {}).get(resource, 0))
        return quantity_value(value)

    together = sum((amount(container) for container in spec.get("containers") or ()), Decimal(0))
    return max([together, *(amount(container) for container in spec.get("initContainers") or ())])
