"""What KubeSpawner makes beside the pod belongs to this start's pod, can be repeated, and is never somebody else's."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from profile_spawner.kube.identity import labels_of
from profile_spawner.names import LABEL_LIFETIME, LABEL_SERVER, LABEL_SPAWN
from tests.fault_proxy import Fault, status_body

from .stress import World, until

pytestmark = [pytest.mark.hub]

# There is no DNS for Services here.
SERVICES = """
c.Spawner.consecutive_failure_limit = 1
c.KubeSpawner.k8s_api_request_timeout = 1
c.KubeSpawner.services_enabled = True
c.KubeSpawner.get_pod_url = lambda spawner, pod: f"http://{pod['status']['podIP']}:{spawner.port}"
"""


CLAIM = "c.KubeSpawner.storage_pvc_ensure = True\nc.KubeSpawner.storage_capacity = '1Gi'\n"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
CLAIMS = "persistentvolumeclaims"


async def told(world: World, hub: Any, user: str, profile: str = "plain") -> str:
    """Start a server that cannot start, and return what the user is told."""
    reply = await hub.api("POST", f"/users/{user}/server", {"profile": profile})
    if reply.status in (201, 202):
        return json.dumps(await world.progress(hub, user), ensure_ascii=False)
    return str(reply.text)


async def test_a_service_belongs_to_the_pod_of_this_start(world: World) -> None:
    """Though an earlier pod had the name, and though the answer to its creation was lost; it goes with the pod."""
    hub = await world.hub(SERVICES)
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    (pod,) = await world.objects("pods")
    await world.stop(hub, "ada")
    leftover = {
        "metadata": {k: pod["metadata"][k] for k in ("name", "annotations", "labels")},
        "spec": {"containers": [{"name": "notebook", "image": "old:1"}]},
    }
    await world.plane.ok("POST", f"/api/v1/namespaces/{world.namespace}/pods", leftover)
    world.proxy.faults = [Fault("hang-after", ("POST",), "/services$", 1)]
    await world.start(hub, "ada", "plain")
    (now,) = await world.objects("pods")
    (service,) = await world.objects("services")
    assert [owner["uid"] for owner in service["metadata"]["ownerReferences"]] == [now["metadata"]["uid"]]
    for label in (LABEL_SERVER, LABEL_SPAWN):
        assert labels_of(service)[label] == labels_of(now)[label]
    assert labels_of(service)[LABEL_LIFETIME] == "owned"
    await world.stop(hub, "ada")

    async def gone() -> bool:
        return not await world.objects("services")

    await until(gone)


async def test_a_foreign_service_is_left_alone(world: World) -> None:
    """What has the name without the labels is neither deleted nor used; the start ends with a reason, uncounted."""
    hub = await world.hub(SERVICES)
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    (pod,) = await world.objects("pods")
    await world.stop(hub, "ada")

    async def gone() -> bool:
        return not await world.objects("services")

    await until(gone)
    theirs = {"metadata": {"name": pod["metadata"]["name"]}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
    before = await world.plane.ok("POST", f"/api/v1/namespaces/{world.namespace}/services", theirs)
    assert "already has the name" in await told(world, hub, "ada")
    await world.idle(hub, "ada")
    (after,) = await world.objects("services")
    assert (after["metadata"], after["spec"]) == (before["metadata"], before["spec"])
    assert await world.objects("pods") == []
    assert hub.alive


async def test_the_hook_gets_the_pod_of_this_start(local_world: World) -> None:
    """`after_pod_created_hook` sees the pod that was just made, and the user is in as soon as the server answers."""
    world = local_world
    seen = world.tmp_path / "seen"
    config = f"""
def hook(spawner, pod):
    with open({str(seen)!r}, "a") as file:
        file.write(pod["metadata"]["uid"] + "\\n")

c.KubeSpawner.after_pod_created_hook = hook
"""
    hub = await world.hub(config)
    await hub.user("ada")
    for _ in range(2):
        await world.start(hub, "ada", "plain")
        (pod,) = await world.objects("pods")
        assert seen.read_text().splitlines()[-1] == pod["metadata"]["uid"]
        await world.stop(hub, "ada")
    assert len(seen.read_text().splitlines()) == 2


HOSTILE = """

@profile_registry.register
class Hostile(Full):
    slug = "hostile"
    display_name = "Hostile"
    kubespawner_override = {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}


@profile_registry.register
class Greedy(Full):
    slug = "greedy"
    display_name = "Greedy"

    def get_manifests(self):
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": Template("job-{{ server_slug }}")}}
        return [Manifest(name="job", content=(body,))]
"""


async def test_a_refusal_comes_before_any_call(local_world: World) -> None:
    """A pod or an object that the policy forbids writes nothing: not the user's claim, not a shared file."""
    world = local_world
    module = world.profiles / "profiles.py"
    text = module.read_text().replace("import BaseAppProfile,", "import BaseAppProfile, Manifest, Template,")
    module.write_text(text + HOSTILE)
    hub = await world.hub(CLAIM + "c.Spawner.consecutive_failure_limit = 1\n")
    await hub.user("ada")
    assert "mistake in its definition" in await told(world, hub, "ada", "hostile")
    await world.idle(hub, "ada")
    assert "started" in await told(world, hub, "ada", "greedy")
    await world.idle(hub, "ada")
    assert {seen.path for seen in world.proxy.seen if seen.method != "GET"} <= {REVIEWS}
    assert "rule 'Pod Security baseline" in hub.log
    assert hub.alive


async def test_what_will_be_made_is_recorded_before_the_first_write(local_world: World) -> None:
    """When the first object is asked for, the hub's database has them all."""
    world = local_world
    hub = await world.hub(CLAIM)
    await hub.user("ada")
    records: list[Any] = []

    async def look() -> None:
        with sqlite3.connect(f"file:{hub.folder}/hub.sqlite?mode=ro", uri=True) as database:
            ((state,),) = database.execute("select state from spawners")
        records.append(json.loads(state)["profile_spawner"])

    world.proxy.faults = [Fault("answer", ("POST",), "claims$", 1, 503, when=look)]
    await world.start(hub, "ada", "full")
    (record,) = records
    assert record["profile"] == "full"
    assert sorted(kind for _, kind, _, _ in record["objects"]) == ["ConfigMap", *["PersistentVolumeClaim"] * 2]
    (pod,) = await world.objects("pods")
    assert labels_of(pod)[LABEL_SPAWN] == record["spawn_id"]


async def test_another_users_claim_is_never_deleted(local_world: World) -> None:
    """When a user is deleted for ever, only the claim that names this user goes."""
    world = local_world
    hub = await world.hub(CLAIM)
    for user in ("ada", "bob"):
        await hub.user(user)
        await world.start(hub, user, "plain")
        await world.stop(hub, user)
    claims = {c["metadata"]["annotations"]["hub.jupyter.org/username"]: c for c in await world.objects(CLAIMS)}
    path = f"/api/v1/namespaces/{world.namespace}/{CLAIMS}/{claims['ada']['metadata']['name']}"
    change = {"metadata": {"annotations": {"hub.jupyter.org/username": "eve"}}}
    await world.plane.ok("PATCH", path, change, content_type="application/merge-patch+json")
    for user in ("ada", "bob"):
        assert (await hub.api("DELETE", f"/users/{user}")).status == 204
    (left,) = await world.objects(CLAIMS)
    assert left["metadata"]["uid"] == claims["ada"]["metadata"]["uid"]
    assert "it is not deleted" in hub.log


async def test_the_next_user_of_a_name_does_not_get_the_claims(world: World) -> None:
    """Under the printed Role all claims of a deleted user go; what cannot be deleted is reported and never adopted.

    SQLite gives the next user the same number, so the number alone would not tell the accounts apart.
    """
    hub = await world.hub(CLAIM)
    await hub.user("ada")
    await world.start(hub, "ada")
    await world.stop(hub, "ada")
    assert len(await world.objects(CLAIMS)) >= 2
    assert (await hub.api("DELETE", "/users/ada")).status == 204

    async def gone() -> bool:
        return not await world.objects(CLAIMS)

    await until(gone)
    await hub.user("ada")
    world.proxy.faults = [Fault("reset-after", ("POST",), f"{CLAIMS}$", 1)]  # is tried again, as everything is
    await world.start(hub, "ada", "plain")
    await world.stop(hub, "ada")
    (claim,) = await world.objects(CLAIMS)
    path = f"/api/v1/namespaces/{world.namespace}/{CLAIMS}/{claim['metadata']['name']}"
    refusal = status_body(403, "Forbidden", f'cannot delete resource "{CLAIMS}" in API group ""')
    world.proxy.faults = [Fault("answer", ("DELETE",), CLAIMS, -1, 403, refusal)]
    assert (await hub.api("DELETE", "/users/ada")).status == 204
    assert f"volume claims of ada stay in namespace {world.namespace}" in hub.log
    world.proxy.clear()
    await hub.user("ada")
    for profile in ("plain", "full"):
        refused = await told(world, hub, "ada", profile)
        assert f"The storage {claim['metadata']['name']} exists already" in refused
        await world.idle(hub, "ada")
    assert await world.objects("pods") == []
    # The documented way to hand it over.
    change = {"metadata": {"annotations": {"profile-spawner/account": None}}}
    await world.plane.ok("PATCH", path, change, content_type="application/merge-patch+json")
    await world.start(hub, "ada", "plain")
