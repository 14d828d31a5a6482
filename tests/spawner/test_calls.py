"""A warm start and stop cost the API server exactly what plain KubeSpawner's cost, under the printed Role."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections import Counter
from typing import Any

import jupyterhub
import pytest

from .stress import World

pytestmark = [pytest.mark.hub, pytest.mark.hub5]

LARGE = bool(os.environ.get("CI")) and jupyterhub.version_info[0] >= 6
SERVERS = {"local": 1000, "real": 200} if LARGE else {"local": 12, "real": 12}
"""How many servers are started and stopped, by control plane."""
WRITES_AND_READS = ("GET", "POST", "DELETE", "PATCH", "PUT")


async def cycle(world: World, hub: Any, user: str, profile: str) -> None:
    """Start and stop one server."""
    await world.start(hub, user, profile)
    await world.stop(hub, user)


async def warm_calls(world: World, config: str, profile: str, name: str) -> Counter[tuple[str, str]]:
    """Count the calls of many starts and stops, after a first one."""
    hub = await world.hub(config, name=name)
    users = [f"user{number}" for number in range(SERVERS[world.plane.name])]
    for user in ("first", *users):
        await hub.user(user)
    await cycle(world, hub, "first", profile)
    world.proxy.clear()
    for begin in range(0, len(users), 10):
        await asyncio.gather(*(cycle(world, hub, user, profile) for user in users[begin : begin + 10]))
    # The watches' own lists come when their time is over, whoever starts what.
    counts = Counter((seen.method, seen.path.split("/")[5]) for seen in world.proxy.seen if seen.method != "GET")
    counts.update(
        (seen.method, seen.path.split("/")[5]) for seen in world.proxy.seen
        if seen.method == "GET" and not seen.path.endswith(("/pods", "/events"))
    )  # fmt: skip
    await world.kill(hub)
    return counts


async def test_warm_starts_cost_no_call_more(world: World) -> None:
    """The calls by verb and resource of a profile with a shared file equal those of KubeSpawner without any profile."""
    module = world.profiles / "profiles.py"
    # Claims are made per user by either, so they would only count KubeSpawner's configuration.
    text = module.read_text()
    start, end = text.index("    def get_default_volumes"), text.index("    def get_config_maps")
    module.write_text(text[:start] + text[end:])
    # Looking for unused objects comes with time, not with starts.
    ours = await warm_calls(world, "c.ProfileSpawner.sweep_interval = 0\n", "full", "ours")
    plain = await warm_calls(world, "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n", "", "plain")
    assert ours == plain
    servers = SERVERS[world.plane.name]
    assert ours == {("POST", "pods"): servers, ("DELETE", "pods"): servers}


async def test_ready_earlier_than_with_kubespawner(local_world: World) -> None:
    """From the request to ready, the median server is there earlier than with KubeSpawner on the same cluster."""
    medians = {}
    for name, config, profile in (
        ("ours", "", "plain"),
        ("plain", "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n", ""),
    ):
        hub = await local_world.hub(config, name=name)
        loop = asyncio.get_running_loop()
        taken = []
        await hub.user("first")
        await cycle(local_world, hub, "first", profile)
        for number in range(5):
            user = f"user{number}"
            await hub.user(user)
            begun = loop.time()
            await local_world.start(hub, user, profile)
            taken.append(loop.time() - begun)
            await local_world.stop(hub, user)
        medians[name] = statistics.median(taken)
        await local_world.kill(hub)
    print(f"median seconds from request to ready: {medians}")  # noqa: T201 - for whoever runs it with -s
    assert medians["ours"] < medians["plain"]
