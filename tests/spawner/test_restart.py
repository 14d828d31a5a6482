"""The hub is killed at every request of a start and of a stop, and started again: nothing lost, nothing orphaned."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from profile_spawner.kube.rbac import required_rules
from tests.fault_proxy import Fault

from .stress import HUB_USER, World, until

pytestmark = [pytest.mark.hub]
# JupyterHub waits so long for a server that answers nowhere.
BRISK = "c.Spawner.http_timeout = 3\n"

# Pods and events are listed and watched; then come the shared file, the persistent claim, the pod, and the claim that
# belongs to it.
REQUESTS_OF_A_START = 8


class AtRequest(list[Fault]):
    """Lets the n-th request hang, and every one after it: a hub that is as good as dead.

    Args:
        number: Which one, from 1.
        carried_out: Whether the API server still sees it.
    """

    def __init__(self, number: int, *, carried_out: bool) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self._number = number
        self.served = 0
        self._carried_out = carried_out

    async def _reach(self) -> None:
        self.reached.set()

    def __iter__(self) -> Iterator[Fault]:
        self.served += 1
        methods = ("GET", "POST", "DELETE")
        if self.served == self._number:
            mode: Any = "hang-after" if self._carried_out else "hang"
            yield Fault(mode, methods, times=-1, when=self._reach)
        elif self.served > self._number:
            yield Fault("hang", methods, times=-1)


async def killed(world: World, hub: Any, number: int, carried_out: bool, request: Any) -> Any:
    """Kill the hub at a request of what `request` begins, and start it again."""
    faults = AtRequest(number, carried_out=carried_out)
    world.proxy.carried_out.clear()
    world.proxy.faults = faults
    begun = asyncio.ensure_future(request)
    await asyncio.wait_for(faults.reached.wait(), 60)
    if carried_out:
        await asyncio.wait_for(world.proxy.carried_out.wait(), 60)
    await world.kill(hub)
    await asyncio.gather(begun, return_exceptions=True)
    world.proxy.faults = []
    return await world.hub(BRISK)


async def test_the_requests_of_a_start(local_world: World) -> None:
    """A start makes as many requests as the tests below kill the hub at."""
    hub = await local_world.hub()
    await hub.user("ada")
    local_world.proxy.faults = counting = AtRequest(1000, carried_out=False)
    await local_world.start(hub, "ada")
    assert counting.served == REQUESTS_OF_A_START, local_world.proxy.seen


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("first", [1, REQUESTS_OF_A_START // 2 + 1], ids=["first_half", "second_half"])
async def test_killed_in_a_start(local_world: World, first: int, carried_out: bool) -> None:
    """Afterwards the server runs or is stopped, and starts again with one pod and everything accounted for."""
    world = local_world
    hub = await world.hub()
    numbers = range(first, first + REQUESTS_OF_A_START // 2)
    for kept, number in enumerate(numbers):  # the claim of each user's home stays
        user = f"user{number}"
        if kept:  # only the first start of a hub without a shared file makes all the requests
            await world.kill(hub)
            for shared in await world.objects("configmaps"):
                path = f"/api/v1/namespaces/{world.namespace}/configmaps/{shared['metadata']['name']}"
                await world.plane.ok("DELETE", path)
            hub = await world.hub()
        await hub.user(user)
        request = hub.api("POST", f"/users/{user}/server", {"profile": "full"})
        hub = await killed(world, hub, number, carried_out, request)
        if await world.idle(hub, user) is None:
            await world.start(hub, user)
        assert len(await world.objects("pods")) == 1, number
        await world.settled()
        assert len(await world.objects("configmaps")) == 1, number
        assert len(await world.objects("persistentvolumeclaims")) == kept + 2, number
        await world.stop(hub, user)
        await world.settled()
        assert await world.objects("pods") == [], number
        assert len(await world.objects("persistentvolumeclaims")) == kept + 1, number


ENTOURAGE = """

LABELS = {"app": "helper"}


def helper(kind, version="v1", **fields):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "helper"}, **fields}


@profile_registry.register
class Entourage(Plain):
    slug = "entourage"
    display_name = "Entourage"

    def get_manifests(self):
        pod = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "helper", "image": "helper:1"}]}}
        objects = (
            helper("Secret", stringData={"key": "value"}),
            helper("Service", spec={"ports": [{"port": 80}], "selector": LABELS}),
            helper("Deployment", "apps/v1", spec={"selector": {"matchLabels": LABELS}, "template": pod}),
        )
        return [Manifest(name="helper", content=objects)]

    def get_role_bindings(self):
        viewer = Role(name="viewer", resources=["pods"], verbs=["get"])
        subject = Subject(name="default", kind="ServiceAccount")
        return [RoleBinding(name="helper", subjects=[subject], role=viewer)]
"""
OF_THE_ENTOURAGE = ("Secret", "Service", "Deployment", "Role", "RoleBinding")


async def test_killed_before_the_objects_that_the_pod_does_not_wait_for(local_world: World) -> None:
    """The pod runs without them, but the server does not pass for ready: it is stopped, and a start makes all."""
    world = local_world
    module = world.profiles / "profiles.py"
    imports = "import BaseAppProfile, Manifest, Role, RoleBinding, Subject,"
    module.write_text(module.read_text().replace("import BaseAppProfile,", imports) + ENTOURAGE)
    view = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    await world.plane.grant(world.namespace, HUB_USER, required_rules(OF_THE_ENTOURAGE, granted=view))
    allowed = "c.ProfileSpawner.allowed_kinds = ['Deployment', 'Role', 'RoleBinding']\n"
    hub = await world.hub(allowed)
    await hub.user("ada")
    world.proxy.clear()
    # Everything from the first object after the pod on gets lost.
    lost = ("secrets", "services", "deployments", "roles")
    faults = Fault("hang", ("POST",), f"/({'|'.join(lost)})$", -1)
    world.proxy.faults = [faults]
    begun = asyncio.ensure_future(hub.api("POST", "/users/ada/server", {"profile": "entourage"}))

    async def hangs() -> bool:
        pods = await world.objects("pods")
        return bool(pods) and pods[0].get("status", {}).get("phase") == "Running" and faults.times <= -5

    await until(hangs)
    await world.kill(hub)
    await asyncio.gather(begun, return_exceptions=True)
    world.proxy.clear()
    hub = await world.hub(allowed)
    assert await world.idle(hub, "ada") is None
    assert await world.objects("pods") == []
    for kind in OF_THE_ENTOURAGE:
        assert re.search(rf"these objects were not created: .*{kind} (helper|viewer)", hub.log)
    await world.start(hub, "ada", "entourage")
    await world.kill(hub)
    (before,) = await world.objects("pods")
    (service,) = await world.objects("services")
    await world.plane.ok("DELETE", f"/api/v1/namespaces/{world.namespace}/services/{service['metadata']['name']}")
    hub = await world.hub(allowed)
    assert await world.idle(hub, "ada") is not None, "the start was complete: what is deleted later ends no server"
    (after,) = await world.objects("pods")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
async def test_killed_in_a_stop(world: World, carried_out: bool) -> None:
    """Afterwards the server runs or is stopped, and can be stopped and started."""
    hub = await world.hub()
    await hub.user("ada")
    await world.start(hub, "ada")
    hub = await killed(world, hub, 1, carried_out, hub.api("DELETE", "/users/ada/server"))
    if await world.idle(hub, "ada") is not None:
        await world.stop(hub, "ada")
    await world.settled()
    assert await world.objects("pods") == []
    await world.start(hub, "ada")
    assert len(await world.objects("pods")) == 1


@pytest.mark.hub5
async def test_running_servers_are_adopted(world: World) -> None:
    """The pod of a running server is the same after `kill -9` and a restart, and can be stopped."""
    hub = await world.hub()
    await hub.user("ada")
    await world.start(hub, "ada")
    (before,) = await world.objects("pods")
    await world.kill(hub)
    hub = await world.hub()
    model = await world.idle(hub, "ada")
    assert model is not None
    (after,) = await world.objects("pods")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    await world.stop(hub, "ada")
    assert await world.objects("pods") == []


async def test_the_hub_gets_another_identity(local_world: World) -> None:
    """A server that was started before is the same after a change of `hub_id`, and can be stopped and started anew."""
    world = local_world
    hub = await world.hub()
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    await world.kill(hub)
    hub = await world.hub("c.ProfileSpawner.hub_id = 'another'\n")
    assert await world.idle(hub, "ada") is not None
    await world.stop(hub, "ada")
    assert await world.objects("pods") == []
    await world.start(hub, "ada", "plain")
    assert len(await world.objects("pods")) == 1


@pytest.mark.hub5
async def test_kubespawners_servers_are_taken_over(world: World) -> None:
    """A hub that changes from KubeSpawner keeps its running servers, and can stop them and start them anew."""
    old = "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n"
    hub = await world.hub(old)
    for user in ("ada", "bob"):
        await hub.user(user)
        await world.start(hub, user, profile="")
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.objects("pods")}
    await world.kill(hub)
    hub = await world.hub()
    assert await world.idle(hub, "ada") is not None
    assert await world.idle(hub, "bob") is not None
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.objects("pods")} == before
    await world.stop(hub, "ada")
    assert len(await world.objects("pods")) == 1
    await world.start(hub, "ada", "plain")
    assert len(await world.objects("pods")) == 2


async def test_kubespawners_leftovers_are_replaced(local_world: World) -> None:
    """A pod that KubeSpawner left under the server's name gives way to the new one, as with KubeSpawner itself."""
    world = local_world
    hub = await world.hub()
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    (pod,) = await world.objects("pods")
    await world.stop(hub, "ada")
    kept = {k: pod["metadata"][k] for k in ("name", "annotations")}
    labels = {k: v for k, v in pod["metadata"]["labels"].items() if not k.startswith("profile-spawner/")}
    container = {"name": "notebook", "image": "old:1"}
    old = {"metadata": {**kept, "labels": labels}, "spec": {"containers": [container]}}
    made = await world.plane.ok("POST", f"/api/v1/namespaces/{world.namespace}/pods", old)
    await world.start(hub, "ada", "plain")
    (now,) = await world.objects("pods")
    assert now["metadata"]["uid"] != made["metadata"]["uid"]


async def test_strays_are_swept(local_world: World) -> None:
    """A pod of ours that no server of the hub accounts for goes.

    A hub leaves alone what it has not recorded: the pods of unknown servers, and those that a second hub with the same
    identity started for users with the same names.
    """
    world = local_world
    hub = await world.hub()
    for user in ("ada", "bob"):
        await hub.user(user)
        await world.start(hub, user, "plain")
    (pod,) = [p for p in await world.objects("pods") if "ada" in p["metadata"]["name"]]
    await world.stop(hub, "ada")
    stray = {
        "metadata": {k: pod["metadata"][k] for k in ("name", "annotations", "labels")},
        "spec": {"containers": [{"name": "notebook", "image": "old:1"}]},
    }
    foreign_labels = {**pod["metadata"]["labels"], "profile-spawner/server": "0" * 20}
    foreign = {"metadata": {"name": "other", "labels": foreign_labels}, "spec": stray["spec"]}
    twin_labels = {**pod["metadata"]["labels"], "profile-spawner/spawn": "of-another-hub"}
    twin = {"metadata": {"name": "twin", "labels": twin_labels}, "spec": stray["spec"]}
    for body in (stray, foreign, twin):
        await world.plane.ok("POST", f"/api/v1/namespaces/{world.namespace}/pods", body)
    await world.kill(hub)
    hub = await world.hub("c.ProfileSpawner.shared_grace_period = 1\nc.ProfileSpawner.sweep_interval = 1\n")

    async def swept() -> bool:
        return not any("ada" in p["metadata"]["name"] for p in await world.objects("pods"))

    await until(swept)
    names = {p["metadata"]["name"] for p in await world.objects("pods")}
    assert {"other", "twin"} < names
    assert len(names) == 3
    assert await world.idle(hub, "bob") is not None
    assert "no identity of its own" in hub.log
    assert "c.ProfileSpawner.hub_id" in hub.log
