"""What counts as waiting for the cluster, and what does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from profile_spawner.kube.cluster import Cluster
from tests.fault_proxy import Fault, FaultProxy

from .conftest import identity, pod


async def _busy(every: float) -> None:
    """Hold up the loop again and again, as thousands of starts at once do."""
    while True:
        time.sleep(every)
        await asyncio.sleep(0)


async def test_a_busy_hub_does_not_give_up_on_the_cluster(
    new_cluster: Callable[..., Cluster], proxy: FaultProxy, namespace: str
) -> None:
    """Answers that come late because the loop is busy cost none of the time in which a request is repeated."""
    cluster = new_cluster(retry_budget=2.0, request_timeout=10.0, first_pause=0.05)
    proxy.faults = [Fault(path="/pods$", times=2)]
    busy = asyncio.ensure_future(_busy(0.15))
    try:
        created = await cluster.create_pod(identity(namespace), pod())
    finally:
        busy.cancel()
    assert created["metadata"]["name"] == identity(namespace).pod_name
    assert proxy.counts()["POST"] == 3
