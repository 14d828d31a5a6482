"""The hub dies at every single request of a spawn, and is started again: no orphans, nothing foreign changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.identity import ServerIdentity, labels_of
from profile_spawner.names import LABEL_HUB, LABEL_LIFETIME
from tests.control_plane import ControlPlane
from tests.fault_proxy import Fault, FaultProxy

from .conftest import identity, owned, persistent_claim, pod, shared_map

COLLECTIONS = ("configmaps", "secrets", "persistentvolumeclaims", "services", "pods")
OBJECTS = [
    shared_map(),
    persistent_claim(),
    owned(),
    owned("Service", "svc-unal", spec={"ports": [{"port": 80}], "selector": {"a": "b"}}),
]
# shared and claim, the pod, and two that belong to it
REQUESTS = 5


async def spawn(cluster: Cluster, who: ServerIdentity) -> dict[str, Any]:
    """Do what the spawner does."""
    await cluster.prepare(who, OBJECTS)
    created = await cluster.create_pod(who, pod())
    await cluster.attach(who, OBJECTS, who.pod_name, created["metadata"]["uid"])
    return created


async def everything(plane: ControlPlane, namespace: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return all objects of the namespace that our rooms could have made."""
    found = {}
    for plural in COLLECTIONS:
        items = (await plane.ok("GET", f"/api/v1/namespaces/{namespace}/{plural}"))["items"]
        found[plural] = [i for i in items if LABEL_HUB in labels_of(i) or plural == "pods"]
    return found


def orphans(found: Mapping[str, list[Mapping[str, Any]]]) -> list[str]:
    """Return what is neither shared, nor kept, nor owned by a pod that exists."""
    lost = []
    uids = {item["metadata"]["uid"] for item in found["pods"]}
    for plural, items in found.items():
        for item in items if plural != "pods" else ():
            lifetime = labels_of(item)[LABEL_LIFETIME]
            owners = {reference["uid"] for reference in item["metadata"].get("ownerReferences", ())}
            if lifetime not in ("shared", "persistent") and not owners & uids:
                lost.append(f"{plural}/{item['metadata']['name']}")
    return lost


async def settled(plane: ControlPlane, namespace: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return everything, once the garbage of deleted pods has been collected."""
    found = await everything(plane, namespace)

    async def wait() -> None:
        nonlocal found
        while orphans(found):
            await asyncio.sleep(0.05)
            found = await everything(plane, namespace)

    if plane.collects_garbage:
        await asyncio.wait_for(wait(), 20)
    assert orphans(found) == []
    return found


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, REQUESTS + 1))
async def test_the_hub_dies_at_a_request_of_a_spawn(
    new_cluster: Callable[..., Cluster],
    control_plane: ControlPlane,
    proxy: FaultProxy,
    namespace: str,
    number: int,
    carried_out: bool,
) -> None:
    """Killed before or after any of its requests was carried out, and started again: one pod, all accounted for."""
    bystander = identity(namespace, user="bob", pod_name="jupyter-bob")
    await spawn_bystander(new_cluster(), bystander)
    before = await everything(control_plane, namespace)
    died = asyncio.Event()

    async def die() -> None:
        died.set()

    served = 0

    class AtRequest(list[Fault]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal served
            served += 1
            if served == number:
                yield Fault("hang-after" if carried_out else "hang", ("POST",), times=-1, when=die)
            elif served > number:
                yield Fault("hang", ("POST",), times=-1)

    proxy.faults = AtRequest()
    dying = asyncio.ensure_future(spawn(new_cluster(), identity(namespace)))
    await died.wait()
    if carried_out:
        await asyncio.wait_for(proxy.carried_out.wait(), 10)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    proxy.faults = []

    assert orphans(await everything(control_plane, namespace)) == []
    again = identity(namespace, spawn_id="spawn-2")
    created = await spawn(new_cluster(), again)
    found = await settled(control_plane, namespace)
    mine = [p for p in found["pods"] if again.owns(labels_of(p)) != "foreign"]
    assert [p["metadata"]["uid"] for p in mine] == [created["metadata"]["uid"]]
    assert len(found["secrets"]) == 2
    for plural, items in before.items():
        for item in items:
            assert item in found[plural], "something of another server was changed"


async def spawn_bystander(cluster: Cluster, who: ServerIdentity) -> None:
    """Start somebody else's server, which nothing here may touch."""
    created = await cluster.create_pod(who, pod())
    await cluster.attach(who, [owned(name="token-bob")], who.pod_name, created["metadata"]["uid"])


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
async def test_the_hub_dies_while_it_stops_a_server(
    new_cluster: Callable[..., Cluster],
    control_plane: ControlPlane,
    proxy: FaultProxy,
    namespace: str,
    carried_out: bool,
) -> None:
    """Killed around the one request of a stop: the next stop, or the next start, finds things in order."""
    me = identity(namespace)
    created = await spawn(new_cluster(), me)
    died = asyncio.Event()

    async def die() -> None:
        died.set()

    proxy.faults = [Fault("hang-after" if carried_out else "hang", ("DELETE",), when=die)]
    uid = created["metadata"]["uid"]
    stopping = asyncio.ensure_future(new_cluster().delete_pod(me, namespace, 0, uid=uid))
    await died.wait()
    if carried_out:
        await asyncio.wait_for(proxy.carried_out.wait(), 10)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await new_cluster().delete_pod(me, namespace, 0, uid=uid)
    found = await settled(control_plane, namespace)
    assert found["pods"] == []
    again = await spawn(new_cluster(), identity(namespace, spawn_id="spawn-2"))
    assert again["metadata"]["uid"] != uid
