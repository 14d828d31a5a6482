"""What users and the hub get when the cluster refuses, fails, or is away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from profile_spawner.kube.rbac import required_rules
from profile_spawner.policy.settings import DEFAULT_KINDS
from tests.fault_proxy import Fault, status_body

from .stress import CANARY, HUB_USER, World

pytestmark = [pytest.mark.hub]

IMPATIENT = """
c.Spawner.consecutive_failure_limit = 1
c.KubeSpawner.k8s_api_request_timeout = 1
c.KubeSpawner.k8s_api_request_retry_timeout = 2
"""
QUOTA = f'pods "{CANARY}" is forbidden: exceeded quota: users, requested: pods=1, used: pods=9, limited: pods=9'
RBAC = 'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace "n"'
INVALID = {"reason": "FieldValueInvalid", "message": f'Invalid value: "{CANARY}": must match', "field": "spec.x"}
REFUSALS = {
    "quota": (status_body(403, "Forbidden", QUOTA), "limited to pods=9"),
    "forbidden": (status_body(403, "Forbidden", RBAC), "tell your administrator"),
    "invalid": (status_body(422, "Invalid", CANARY, causes=[INVALID]), "Choose another one"),
}


async def failed(world: World, hub: Any, user: str, profile: str = "plain") -> str:
    """Start a server that cannot start, and return what the user is told."""
    reply = await hub.api("POST", f"/users/{user}/server", {"profile": profile})
    if reply.status in (201, 202):
        return json.dumps(await world.progress(hub, user), ensure_ascii=False)
    return str(reply.text)


@pytest.mark.hub5
@pytest.mark.parametrize("reason", sorted(REFUSALS))
async def test_refusals(world: World, reason: str) -> None:
    """Quota, missing rights and invalid manifests: told at once, one attempt, and the hub does not count them."""
    body, told = REFUSALS[reason]
    hub = await world.hub(IMPATIENT)
    await hub.user("ada")
    world.proxy.clear()
    world.proxy.faults = [Fault("answer", ("POST",), "/pods$", -1, body["code"], body)]
    for _ in range(2):
        assert told in await failed(world, hub, "ada")
        await world.idle(hub, "ada")
    assert world.proxy.counts("pods")["POST"] == 2
    assert hub.alive
    assert CANARY not in hub.log
    world.proxy.clear()
    await world.start(hub, "ada", "plain")


async def test_errors_beyond_the_budget_count(local_world: World) -> None:
    """An API server that answers 500 for good is the cluster's fault: JupyterHub may count it, and ends."""
    world = local_world
    hub = await world.hub(IMPATIENT)
    await hub.user("ada")
    world.proxy.faults = [Fault("answer", ("POST",), "/pods$", -1, 500, status_body(500, "InternalError"))]
    reply = await hub.api("POST", "/users/ada/server", {"profile": "plain"})
    assert reply.status in (202, 503), reply.text
    await asyncio.wait_for(hub.process.wait(), 30)
    assert "consecutive spawn failures" in hub.log


@pytest.mark.hub5
@pytest.mark.parametrize("first", [True, False], ids=["from-the-start", "later"])
async def test_the_api_server_is_away_and_comes_back(world: World, first: bool) -> None:
    """Spawns fail with 503 and a reason, running servers stay, and the next spawn works without a restart."""
    hub = await world.hub(IMPATIENT.replace("limit = 1", "limit = 0"))
    for user in ("ada", "bob"):
        await hub.user(user)
    if not first:
        await world.start(hub, "bob", "plain")
    await world.away()
    told = await failed(world, hub, "ada")
    assert "cannot be reached" in told
    assert hub.alive
    if not first:
        model = await hub.server("bob")
        assert model is not None
        assert model["ready"]
    await world.back()
    await world.idle(hub, "ada")
    await world.start(hub, "ada", "plain")
    assert len(await world.objects("pods")) == (1 if first else 2)


@pytest.mark.hub5
async def test_the_hub_starts_while_the_api_server_is_away(local_world: World) -> None:
    """Servers that run are not taken for stopped; they are adopted when the API server is back."""
    world = local_world
    hub = await world.hub()
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    (before,) = await world.objects("pods")
    await world.kill(hub)
    await world.away()
    hub = await world.hub("c.JupyterHub.init_spawners_timeout = 1\n")
    await world.back()
    assert await world.idle(hub, "ada") is not None
    (after,) = await world.objects("pods")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_shared_file_is_deleted_under_a_waiting_pod(world: World) -> None:
    """The pod's event about the missing file has it made again, and the server starts."""
    hub = await world.hub("c.KubeSpawner.events_enabled = True\n")
    for user in ("ada", "bob"):
        await hub.user(user)
    await world.start(hub, "bob")
    (shared,) = await world.objects("configmaps")
    path = f"/api/v1/namespaces/{world.namespace}/configmaps"
    await world.plane.ok("DELETE", f"{path}/{shared['metadata']['name']}")
    await world.start(hub, "ada")
    (again,) = await world.objects("configmaps")
    assert again["metadata"]["name"] == shared["metadata"]["name"]


async def test_a_removed_profile(local_world: World) -> None:
    """The servers of a profile that is gone run on and can be stopped; a new start is refused and not counted."""
    world = local_world
    hub = await world.hub(IMPATIENT)
    await hub.user("ada")
    await world.start(hub, "ada")
    await world.kill(hub)
    module = world.profiles / "profiles.py"
    module.write_text(module.read_text().replace('slug = "full"', 'slug = "renamed"'))
    hub = await world.hub(IMPATIENT)
    assert await world.idle(hub, "ada") is not None
    await world.stop(hub, "ada")
    await world.settled()
    reply = await hub.api("POST", "/users/ada/server")
    assert reply.status == 400, reply.text
    assert hub.alive


async def test_another_namespace(local_world: World, tmp_path: Any) -> None:
    """A server of a profile with a `namespace` of its own is adopted by a restarted hub, and can be stopped."""
    world = local_world
    other = await world.plane.new_namespace("other")
    await world.plane.grant(other, HUB_USER, required_rules(DEFAULT_KINDS))
    token = world.plane.token_for("kubelet", ["system:masters"])
    node = NodeSpec(name=f"node-{other}")
    kubelet = Kubelet(world.plane.url, token, tmp_path / "other", node=node, runtime="stub", namespaces=[other])
    await kubelet.start()
    entry = {"display_name": "Else", "slug": "else", "kubespawner_override": {"namespace": other}}
    config = f"c.KubeSpawner.profile_list = [{entry!r}]\n"
    try:
        hub = await world.hub(config)
        await hub.user("ada")
        await world.start(hub, "ada", "else")
        path = f"/api/v1/namespaces/{other}/pods"
        (before,) = (await world.plane.ok("GET", path))["items"]
        assert await world.objects("pods") == []
        await world.kill(hub)
        hub = await world.hub(config)
        assert await world.idle(hub, "ada") is not None
        (after,) = (await world.plane.ok("GET", path))["items"]
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        await world.stop(hub, "ada")
        assert (await world.plane.ok("GET", path))["items"] == []
    finally:
        await kubelet.stop()


@pytest.mark.hub5
async def test_a_start_that_fails_halfway_leaves_no_pod(local_world: World) -> None:
    """Also while the watch of pods hangs, so that JupyterHub does not know that there is one."""
    world = local_world
    hub = await world.hub(IMPATIENT)
    await hub.user("ada")
    await world.start(hub, "ada")
    await world.stop(hub, "ada")
    refused = status_body(422, "Invalid", "invalid", causes=[INVALID])
    claim = Fault("answer", ("POST",), "/persistentvolumeclaims$", -1, 422, refused)
    world.proxy.clear()
    world.proxy.faults = [claim, Fault("hang", ("GET",), "/pods$", -1)]
    world.proxy.hang_up()
    await failed(world, hub, "ada", "full")
    assert world.proxy.counts("pods/")["DELETE"] == 1
    await world.idle(hub, "ada")
    assert await world.objects("pods") == []
