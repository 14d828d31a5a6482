"""A watch that fails goes on, and does not burden the API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from kubernetes_asyncio.client import ApiClient

from profile_spawner.errors import ClusterError
from profile_spawner.kube.watching import ObjectWatch
from tests.control_plane import ControlPlane
from tests.fault_proxy import Fault, FaultProxy, status_body

from .conftest import LOG, until

GONE = json.dumps({"type": "ERROR", "object": status_body(410, "Expired")}) + "\n"
POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}


@pytest_asyncio.fixture(loop_scope="session")
async def follow(api_client: ApiClient, namespace: str) -> AsyncIterator[Callable[..., Awaitable[ObjectWatch]]]:
    """Return a function that begins to watch the pods and waits for the first list."""
    tasks = []

    async def begin(failed: Callable[[ClusterError | None], Any] = lambda error: None, **options: Any) -> ObjectWatch:
        watch = ObjectWatch(api_client, f"/api/v1/namespaces/{namespace}/pods", what="pods", log=LOG, **options)
        tasks.append(asyncio.create_task(watch.follow(lambda key: None, failed)))
        await watch.ready()
        return watch

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_cut_connections_do_not_delay_the_next_change(
    follow: Callable[..., Awaitable[ObjectWatch]], proxy: FaultProxy, control_plane: ControlPlane, namespace: str
) -> None:
    """Each lost connection costs the first pause. With pauses that double, this test would take a minute."""
    proxy.faults.append(Fault("reset", methods=("GET",), query="watch=", times=12))
    watch = await follow(first_pause=0.02)
    await until(lambda: not proxy.faults[0].times)
    proxy.clear()
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", POD)
    await until(lambda: watch.found)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(methods=("GET",), query="watch=", times=-1, status=410, body=status_body(410, "Gone")),
        Fault(methods=("GET",), query="watch=", times=-1, status=200, body=GONE),
        Fault(methods=("GET",), query="watch=", times=-1, status=403, body=status_body(403, "Forbidden")),
        Fault(methods=("GET",), query="watch=", times=-1, status=200, body=""),
    ],
    ids=["410", "410 as an event", "403", "nothing"],
)
async def test_a_refused_watch_is_not_repeated_at_once(
    follow: Callable[..., Awaitable[ObjectWatch]],
    proxy: FaultProxy,
    control_plane: ControlPlane,
    namespace: str,
    fault: Fault,
) -> None:
    """There is a pause after each refusal, also if the list between them succeeds."""
    fault = Fault(**vars(fault))
    proxy.faults.append(fault)
    watch = await follow(first_pause=600.0)
    for attempt in range(1, 4):
        await until(lambda: fault.times <= -1 - attempt)  # noqa: B023 - it is called at once
        for _ in range(10):
            await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}")
        assert fault.times == -1 - attempt
        watch._hurry.set()


async def test_a_watch_that_ends_in_time_goes_on_without_a_list(
    follow: Callable[..., Awaitable[ObjectWatch]], proxy: FaultProxy, control_plane: ControlPlane, namespace: str
) -> None:
    """The end of a request to watch is no failure: the next one begins at the same version, without a pause."""
    watch = await follow(first_pause=600.0, seconds=1)
    fault = Fault(methods=("GET",), query="limit=", times=-1)
    proxy.faults.append(fault)
    await until(lambda: len(proxy.seen) >= 3)  # a list and two watches
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", POD)
    await until(lambda: watch.found)
    assert fault.times == -1
