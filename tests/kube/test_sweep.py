"""The sweep removes what nobody uses, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from profile_spawner.hub.housekeeping import Housekeeping
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.sweep import Sweeper
from tests.control_plane import ControlPlane, real_only
from tests.fault_proxy import Fault, FaultProxy

from .conftest import identity, owned, persistent_claim, pod, shared_map, until

LATER = datetime.now(timezone.utc) + timedelta(days=1)


async def _passes(cluster: Cluster, namespace: str, times: int = 2) -> list[str]:
    sweeper = Sweeper(cluster, "hub-a", grace_seconds=600)
    gone: list[str] = []
    for _ in range(times):
        gone += [key.name for key in await sweeper.sweep(namespace, now=LATER)]
    return gone


async def test_unused_shared_objects_go_in_the_second_pass(new_cluster: Callable[..., Cluster], namespace: str) -> None:
    """One pass only suspects; the second removes; the user's data and the owned objects stay."""
    first = new_cluster()
    await first.prepare(identity(namespace), [shared_map(), persistent_claim()])
    created = await first.create_pod(identity(namespace), pod())
    await first.attach(identity(namespace), [owned()], "jupyter-unal", created["metadata"]["uid"])
    restarted = new_cluster()
    assert await _passes(restarted, namespace, times=1) == []
    assert await _passes(restarted, namespace) == [shared_map().name]
    assert await _passes(restarted, namespace) == []


async def test_the_young_and_the_wanted_stay(
    cluster: Cluster, new_cluster: Callable[..., Cluster], namespace: str
) -> None:
    """Nothing younger than the grace period goes, nor what this hub has asked for since."""
    await cluster.prepare(identity(namespace), [shared_map()])
    assert await _passes(cluster, namespace) == []
    sweeper = Sweeper(new_cluster(), "hub-a", grace_seconds=600)
    for _ in range(3):
        assert await sweeper.sweep(namespace) == []


@pytest.mark.parametrize("use", ["volume", "projected", "envFrom", "env", "initContainer", "pullSecret"])
async def test_what_a_pod_uses_stays(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str, use: str
) -> None:
    """Any way to refer to an object counts, in pods of whoever, even if the caller does not know them."""
    name = shared_map().name
    container: dict[str, Any] = {"name": "c", "image": "i"}
    spec: dict[str, Any] = {"containers": [container], "automountServiceAccountToken": False}
    if use == "volume":
        spec["volumes"] = [{"name": "v", "configMap": {"name": name}}]
    elif use == "projected":
        spec["volumes"] = [{"name": "v", "projected": {"sources": [{"configMap": {"name": name}}]}}]
    elif use == "envFrom":
        container["envFrom"] = [{"configMapRef": {"name": name}}]
    elif use == "env":
        container["env"] = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": name, "key": "k"}}}]
    elif use == "initContainer":
        spec["initContainers"] = [{"name": "i", "image": "i", "envFrom": [{"configMapRef": {"name": name}}]}]
    else:
        spec["imagePullSecrets"] = [{"name": name}]
    await new_cluster().prepare(identity(namespace), [shared_map()])
    user = {"metadata": {"name": "somebody"}, "spec": spec}
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", user)
    assert await _passes(new_cluster(), namespace) == []


async def test_other_hubs_objects_stay(new_cluster: Callable[..., Cluster], namespace: str) -> None:
    """Two hubs in one namespace do not sweep each other's objects."""
    await new_cluster().prepare(identity(namespace, hub="hub-b"), [shared_map()])
    assert await _passes(new_cluster(), namespace) == []


async def test_what_changed_meanwhile_stays(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, proxy: FaultProxy, namespace: str
) -> None:
    """An object that somebody touched after it was looked at is not deleted."""
    item = shared_map()
    await new_cluster().prepare(identity(namespace), [item])
    path = f"/api/v1/namespaces/{namespace}/configmaps/{item.name}"
    sweeper = Sweeper(new_cluster(), "hub-a", grace_seconds=600)
    assert await sweeper.sweep(namespace, now=LATER) == []

    async def touch() -> None:
        patch = {"metadata": {"annotations": {"keep": "me"}}}
        await control_plane.ok("PATCH", path, patch, content_type="application/merge-patch+json")

    proxy.faults = [Fault("reset", ("DELETE",), when=touch)]
    assert await sweeper.sweep(namespace, now=LATER) == []
    await control_plane.ok("GET", path)


async def test_a_spawn_during_the_sweep_gets_its_file(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, proxy: FaultProxy, namespace: str
) -> None:
    """Who wants an object while it is being swept waits for that, and finds it made anew."""
    item = shared_map()
    await new_cluster().prepare(identity(namespace), [item])
    cluster = new_cluster()
    sweeper = Sweeper(cluster, "hub-a", grace_seconds=600)
    await sweeper.sweep(namespace, now=LATER)
    spawns: list[asyncio.Future[None]] = []

    async def spawn() -> None:
        spawns.append(asyncio.ensure_future(cluster.prepare(identity(namespace), [item])))

    proxy.faults = [Fault("reset", ("DELETE",), when=spawn)]
    assert [key.name for key in await sweeper.sweep(namespace, now=LATER)] == [item.name]
    await asyncio.gather(*spawns)
    await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/configmaps/{item.name}")


@real_only
async def test_lists_come_in_pages(new_cluster: Callable[..., Cluster], proxy: FaultProxy, namespace: str) -> None:
    """A long list is read to its end, page by page."""
    cluster = new_cluster()
    await cluster.prepare(identity(namespace), [shared_map(str(n)) for n in range(7)])
    proxy.clear()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    found = await cluster.transport.list_all(
        path, what="x", selector="profile-spawner/hub=hub-a", metadata_only=True, page=3
    )
    assert len({item["metadata"]["name"] for item in found}) == 7
    assert proxy.counts() == {"GET": 3}


async def test_only_recorded_pods_of_stopped_servers_go(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """A pod left when a start and its stop both failed goes in the second pass; all others stay.

    Also the pod of a second hub with the same identity, whose user has the same name: only the record differs.
    """
    cluster = new_cluster()
    servers = {
        name: identity(namespace, user=user, hub=hub, pod_name=f"jupyter-{name}", spawn_id=f"spawn-of-{name}")
        for name, user, hub in (
            ("known", "known", "hub-a"),
            ("lost", "lost", "hub-a"),
            ("twin", "lost", "hub-a"),
            ("other", "other", "hub-b"),
        )
    }
    for server in servers.values():
        await cluster.create_pod(server, pod())
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", {**pod(), "metadata": {"name": "theirs"}})
    sweeper = Sweeper(cluster, "hub-a", grace_seconds=600)
    in_use = {servers["known"].server_hash}

    def recorded(server: str) -> set[str]:
        return {"spawn-of-lost", "an-earlier-one"} if server == servers["lost"].server_hash else set()

    assert await sweeper.stray_pods(namespace, in_use, recorded) == []
    assert await sweeper.stray_pods(namespace, in_use, recorded) == []
    assert await sweeper.stray_pods(namespace, in_use, recorded, now=LATER) == []
    gone = await sweeper.stray_pods(namespace, in_use, recorded, now=LATER)
    assert [key.name for key in gone] == ["jupyter-lost"]
    left = (await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/pods"))["items"]
    assert {item["metadata"]["name"] for item in left} - {"jupyter-lost"} == {
        "jupyter-known",
        "jupyter-twin",
        "jupyter-other",
        "theirs",
    }
    assert len([p for p in left if not p["metadata"].get("deletionTimestamp")]) == 4


async def test_a_namespace_without_anything_is_forgotten(new_cluster: Callable[..., Cluster], namespace: str) -> None:
    """Where a whole pass finds nothing of this hub, nothing has to be looked for until the next start."""
    cluster = new_cluster()
    sweeper = Sweeper(cluster, "hub-a", grace_seconds=600)
    assert not sweeper.forget_empty(namespace)
    await sweeper.sweep(namespace)
    await sweeper.stray_pods(namespace, (), lambda server: ())
    assert sweeper.forget_empty(namespace)
    await cluster.create_pod(identity(namespace), pod())
    await sweeper.sweep(namespace)
    await sweeper.stray_pods(namespace, (), lambda server: ())
    assert not sweeper.forget_empty(namespace)


async def test_the_right_to_sweep_can_be_granted_later(
    new_cluster: Callable[..., Cluster],
    proxy: FaultProxy,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the right, a hub whose profiles have no files says nothing; it tries again in each pass."""
    await new_cluster().prepare(identity(namespace), [shared_map()])
    forbidden = Fault(methods=("GET",), path="configmaps", status=403, times=-1)
    proxy.faults.append(forbidden)
    files: list[str] = []
    cluster = new_cluster(log=logging.getLogger("tests.kube.sweep"))
    house = Housekeeping(
        cluster, "hub-a", grace=0, interval=0.01, files=True, has_files=lambda: bool(files), log=cluster.log
    )
    house.watch(namespace)
    try:
        await until(lambda: forbidden.times < -3)
        assert not caplog.records
        files.append("a")
        seen = forbidden.times
        await until(lambda: forbidden.times < seen - 3)
        assert [r.levelname for r in caplog.records] == ["WARNING"]
        proxy.clear()
        caplog.set_level(logging.INFO)
        await until(lambda: any("Swept 1" in r.message for r in caplog.records))
        assert any("removed again" in r.message for r in caplog.records)
    finally:
        assert house._task is not None
        house._task.cancel()
