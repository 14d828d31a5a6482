"""A warm start and stop cost the API server exactly what plain KubeSpawner's cost, under the printed Role."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from .stress import World

pytestmark = [pytest.mark.hub]

SERVERS = 10
"""How many servers are started and stopped. `make bench` counts a thousand of each side."""


# The answers come when all is done: asking again and again would cost more than what is counted.
PATIENT = "c.JupyterHub.tornado_settings = {'slow_spawn_timeout': 60, 'slow_stop_timeout': 60}\n"


async def cycle(hub: Any, user: str, profile: str) -> None:
    """Start and stop one server."""
    reply = await hub.api("POST", f"/users/{user}/server", {"profile": profile})
    assert reply.status == 201, reply.text
    reply = await hub.api("DELETE", f"/users/{user}/server")
    assert reply.status == 204, reply.text


async def warm_calls(world: World, config: str, profile: str, name: str) -> Counter[tuple[str, str]]:
    """Count the calls of many starts and stops, after a first one."""
    hub = await world.hub(PATIENT + config, name=name)
    users = [f"user{number}" for number in range(SERVERS)]
    for user in ("first", *users):
        await hub.user(user)
    await cycle(hub, "first", profile)
    world.proxy.clear()
    for begin in range(0, len(users), 10):
        await asyncio.gather(*(cycle(hub, user, profile) for user in users[begin : begin + 10]))
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
    assert ours == {("POST", "pods"): SERVERS, ("DELETE", "pods"): SERVERS}
