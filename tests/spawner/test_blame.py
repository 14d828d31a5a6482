"""Servers that do not get ready for reasons of their own never end the hub."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.control_plane import ControlPlane

from .stress import World, open_world

pytestmark = [pytest.mark.hub]


async def told(world: World, hub: Any) -> str:
    """Start a server that cannot start, and return what the user is told."""
    reply = await hub.api("POST", "/users/ada/server", {"profile": "plain"})
    if reply.status in (201, 202):
        return json.dumps(await world.progress(hub, "ada"), ensure_ascii=False)
    return str(reply.text)


@pytest.mark.parametrize("kind", ["silent", "errors"])
async def test_an_image_that_is_no_server(local_world: World, kind: str) -> None:
    """A pod that runs while nobody answers, or only with 5xx, is told as such and not counted."""

    async def fail(reader: Any, writer: Any) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(fail, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if kind == "silent":
        server.close()
    hub = await local_world.hub(
        "c.Spawner.consecutive_failure_limit = 1\n"
        "c.Spawner.http_timeout = 1\n"
        f"c.KubeSpawner.get_pod_url = lambda spawner, pod: 'http://127.0.0.1:{port}'\n"
    )
    await hub.user("ada")
    for _ in range(2):
        message = await told(local_world, hub)
        assert "did not answer within 1 seconds" in message
        assert "another image" in message
        await local_world.idle(hub, "ada")
    assert hub.alive
    assert await local_world.objects("pods") == []
    server.close()


@pytest.mark.hub5
async def test_a_pod_that_nobody_runs(local_control_plane: ControlPlane, tmp_path: Any) -> None:
    """Where Kubernetes does not say why a pod stays where it is, the user is told so much, and the hub lives."""
    world = await open_world(local_control_plane, await local_control_plane.new_namespace("blame"), tmp_path)
    try:
        hub = await world.hub("c.Spawner.consecutive_failure_limit = 1\nc.KubeSpawner.start_timeout = 2\n")
        await hub.user("ada")
        for _ in range(2):
            assert "did not start within 2 seconds" in await told(world, hub)
            await world.idle(hub, "ada")
        assert hub.alive
        assert await world.objects("pods") == []
    finally:
        await world.close()
        await world.proxy.stop()
