"""Users, named servers, two hubs: started, stopped, crashed and swept in random order, several at once.

`CI=1 pytest tests/kube/test_interleaved.py` for a long run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import pytest_asyncio
from kubernetes_asyncio.client import ApiClient, Configuration

from profile_spawner.errors import ClusterError
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.identity import ServerIdentity, labels_of
from profile_spawner.kube.rbac import required_rules
from profile_spawner.kube.sweep import Sweeper, referred_names
from profile_spawner.names import identity_hash, object_name
from profile_spawner.policy.settings import DEFAULT_KINDS, Policy
from profile_spawner.profiles.resources import KubeObject
from tests.control_plane import ControlPlane

from .conftest import HUB_USER, owned, persistent_claim, pod, shared_map
from .test_crashes import everything, settled

STEPS = 3000 if os.environ.get("CI") else 500
USERS = ("alice", "Ünal/ß", "a-b", "a_b")
SERVERS = ("", "gpu")
HUBS = ("hub-a", "hub-b")
AT_ONCE = 5
log = logging.getLogger(__name__)


class World:
    """What the hubs believe, and a random hand that moves it.

    Args:
        client: The hubs' client.
        plane: The control plane, for a look from outside.
        namespace: Where everything happens.
        seed: What decides.
    """

    def __init__(self, client: ApiClient, plane: ControlPlane, namespace: str, seed: int) -> None:
        self.client, self.plane, self.namespace = client, plane, namespace
        self.dice = random.Random(seed)
        self.clusters = {hub: self.new_cluster() for hub in HUBS}
        self.sweepers = {hub: self.new_sweeper(hub) for hub in HUBS}
        self.running: dict[tuple[str, str, str], tuple[ServerIdentity, list[KubeObject], str]] = {}
        self.busy: set[tuple[str, str, str]] = set()
        self.spawns = 0
        self.done: dict[str, int] = {}

    def new_cluster(self) -> Cluster:
        """Return what a hub has after its start."""
        return Cluster(self.client, policy=Policy(), log=log, request_timeout=20.0, first_pause=0.01)

    def new_sweeper(self, hub: str) -> Sweeper:
        """Return a sweeper that finds everything old enough."""
        return Sweeper(self.clusters[hub], hub, grace_seconds=0.05)

    def identity(self, key: tuple[str, str, str]) -> ServerIdentity:
        """Return the identity of another spawn of this server."""
        hub, user, server = key
        self.spawns += 1
        name = object_name(f"jupyter-{user}", identity_hash(*key))
        return ServerIdentity(hub, user, server, self.namespace, name, f"spawn-{self.spawns}", "p", "1")

    def objects(self, who: ServerIdentity) -> list[KubeObject]:
        """Return what one of three profiles brings."""
        mine = object_name("own", who.server_hash)
        claim = object_name("home", identity_hash(who.hub, who.user))
        profile = self.dice.randrange(3)
        files = [shared_map(f"profile {profile}"), shared_map("common")]
        return [*files, persistent_claim(claim), owned(name=mine), owned("ConfigMap", mine, data={"a": who.spawn_id})][
            : 3 + profile
        ]

    async def step(self) -> None:
        """Do one random thing; what another step is busy with is left alone."""
        action = self.dice.choices(
            [self.start, self.stop, self.crash, self.restart_hub, self.sweep, self.vandalise], [8, 5, 4, 1, 2, 1]
        )[0]
        name = action.__name__
        self.done[name] = self.done.get(name, 0) + 1
        if name in ("restart_hub", "sweep", "vandalise"):
            await action(self.dice.choice(HUBS))
            return
        key = (self.dice.choice(HUBS), self.dice.choice(USERS), self.dice.choice(SERVERS))
        if key in self.busy:
            return
        self.busy.add(key)
        try:
            await action(key)
        finally:
            self.busy.discard(key)

    async def start(self, key: Any) -> None:
        """Start a server that does not run."""
        if key in self.running:
            return
        who = self.identity(key)
        objects = self.objects(who)
        uid = await self._spawn(who, objects)
        self.running[key] = (who, objects, uid)

    async def _spawn(self, who: ServerIdentity, objects: list[KubeObject]) -> str:
        cluster = self.clusters[who.hub]
        await cluster.prepare(who, objects)
        names = [item.name for item in objects if item.kind == "ConfigMap" and item.lifetime == "shared"]
        volumes = [{"name": f"v{n}", "configMap": {"name": name}} for n, name in enumerate(names)]
        created = await cluster.create_pod(who, pod(volumes=volumes))
        uid = str(created["metadata"]["uid"])
        await cluster.attach(who, objects, who.pod_name, uid)
        return uid

    async def stop(self, key: Any) -> None:
        """Stop a server that runs."""
        if key in self.running:
            who, _, uid = self.running.pop(key)
            assert await self.clusters[who.hub].delete_pod(who, self.namespace, 0, uid=uid)

    async def crash(self, key: Any) -> None:
        """Start, and die after a random time, without a word to anybody."""
        if key in self.running:
            return
        who = self.identity(key)
        task = asyncio.ensure_future(self._spawn(who, self.objects(who)))
        for _ in range(self.dice.randrange(40)):
            await asyncio.sleep(0)
        await asyncio.wait({task}, timeout=self.dice.random() / 50)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # JupyterHub stops a server whose start has failed.
        await self.clusters[who.hub].delete_pod(who, self.namespace, 0)

    async def restart_hub(self, hub: str) -> None:
        """Forget what a hub remembered; its servers go on."""
        self.clusters[hub] = self.new_cluster()
        self.sweepers[hub] = self.new_sweeper(hub)

    async def sweep(self, hub: str) -> None:
        """Make one pass of a hub's sweep."""
        await self.sweepers[hub].sweep(self.namespace, now=datetime.now(timezone.utc) + timedelta(minutes=1))

    async def vandalise(self, hub: str) -> None:
        """Somebody deletes a shared file that nobody needs at the moment; the next that needs it says so."""
        item = shared_map("common")
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/{item.name}"
        await self.plane.request("DELETE", path)
        for each in HUBS:
            self.clusters[each].forget(self.namespace, item.name)
        for who, objects, _ in [*self.running.values()]:
            if item.name in {o.name for o in objects}:
                await self.clusters[who.hub].recreate(who, [item])


@pytest_asyncio.fixture(loop_scope="session")
async def direct_client(control_plane: ControlPlane, namespace: str) -> AsyncIterator[ApiClient]:
    """The hubs' client, straight to the control plane."""
    await control_plane.grant(namespace, HUB_USER, required_rules(DEFAULT_KINDS))
    configuration = Configuration(host=control_plane.url)
    configuration.ssl_ca_cert = str(control_plane.ca_path) if control_plane.ca_path else None
    configuration.api_key = {"BearerToken": f"Bearer {control_plane.token_for(HUB_USER)}"}
    async with ApiClient(configuration) as client:
        yield client


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_and_nothing_foreign_is_touched(
    direct_client: ApiClient, control_plane: ControlPlane, namespace: str, seed: int
) -> None:
    """After any mixture of starts, stops, crashes and sweeps each object is accounted for and each server complete."""
    base = f"/api/v1/namespaces/{namespace}"
    foreign_map = await control_plane.ok("POST", f"{base}/configmaps", {"metadata": {"name": "theirs"}, "data": {}})
    foreign_pod = await control_plane.ok(
        "POST", f"{base}/pods", {**pod(), "metadata": {"name": "theirs", "labels": {"a": "b"}}}
    )
    world = World(direct_client, control_plane, namespace, seed)
    left = STEPS
    failures: list[ClusterError] = []

    async def hand() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try:
                await world.step()
            except ClusterError as error:
                failures.append(error)

    await asyncio.gather(*(hand() for _ in range(AT_ONCE)))
    assert failures == []
    found = await settled(control_plane, namespace)
    pods = {item["metadata"]["uid"]: item for item in found["pods"]}
    assert set(pods) == {uid for _, _, uid in world.running.values()} | {foreign_pod["metadata"]["uid"]}
    assert pods[foreign_pod["metadata"]["uid"]]["metadata"] == foreign_pod["metadata"]
    assert await control_plane.ok("GET", f"{base}/configmaps/theirs") == foreign_map
    existing = {item["metadata"]["name"] for plural in found for item in found[plural]}
    for who, objects, uid in world.running.values():
        assert who.owns(labels_of(pods[uid])) == "same-spawn"
        assert {item.name for item in objects} <= existing, who
        assert referred_names(pods[uid]["spec"]) & {o.name for o in objects if o.lifetime == "shared"} <= existing
    for who, _, uid in world.running.values():
        await world.clusters[who.hub].delete_pod(who, namespace, 0, uid=uid)
    await settled(control_plane, namespace)
    await world.restart_hub("hub-a")
    await world.restart_hub("hub-b")
    for _ in range(2):
        for hub in HUBS:
            await world.sweep(hub)
    final = await everything(control_plane, namespace)
    assert [item["metadata"]["name"] for item in final["pods"]] == ["theirs"]
    assert final["configmaps"] == final["secrets"] == []
    assert len(final["persistentvolumeclaims"]) <= len(USERS) * len(HUBS)
