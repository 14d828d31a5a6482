"""Create, adopt, replace, refuse: on the local control plane and on a real one."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from profile_spawner.errors import ClusterError, PolicyError
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.identity import account_of
from profile_spawner.policy.settings import DEFAULT_KINDS, OPT_IN_KINDS, Policy
from profile_spawner.profiles.resources import KubeObject, Lifetime
from tests.control_plane import ControlPlane
from tests.fault_proxy import FaultProxy

from .conftest import identity, owned, persistent_claim, pod, shared_map

DOCS = Path(__file__).resolve().parents[2] / "docs"


async def test_a_warm_spawn_costs_one_call(cluster: Cluster, proxy: FaultProxy, namespace: str) -> None:
    """What is shared or kept is made once; the second spawn creates the pod and nothing else."""
    objects = [shared_map(), shared_map("other"), persistent_claim()]
    await cluster.prepare(identity(namespace), objects)
    assert proxy.counts() == {"POST": 3}
    proxy.clear()
    await cluster.prepare(identity(namespace), objects)
    created = await cluster.create_pod(identity(namespace), pod())
    await cluster.attach(identity(namespace), objects, "jupyter-unal", created["metadata"]["uid"])
    assert proxy.counts() == {"POST": 1}


async def test_a_hundred_at_once_make_one(cluster: Cluster, proxy: FaultProxy, namespace: str) -> None:
    """A hundred spawns that need the same file at the same time cause one request."""
    servers = [identity(namespace, user=f"u{n}", pod_name=f"jupyter-{n}") for n in range(100)]
    await asyncio.gather(*(cluster.prepare(server, [shared_map()]) for server in servers))
    assert proxy.counts() == {"POST": 1}


async def test_who_gives_up_waiting_does_not_stop_the_others(
    cluster: Cluster, proxy: FaultProxy, namespace: str
) -> None:
    """A cancelled spawn leaves the shared request to those who still wait for it."""
    first = asyncio.ensure_future(cluster.prepare(identity(namespace), [shared_map()]))
    second = asyncio.ensure_future(cluster.prepare(identity(namespace, user="b"), [shared_map()]))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert proxy.counts() == {"POST": 1}


async def test_a_restarted_hub_finds_what_is_there(
    new_cluster: Callable[..., Cluster], proxy: FaultProxy, namespace: str
) -> None:
    """A hub that remembers nothing reads each object back once and uses it."""
    objects = [shared_map(), persistent_claim()]
    await new_cluster().prepare(identity(namespace), objects)
    restarted = new_cluster()
    proxy.clear()
    await restarted.prepare(identity(namespace, spawn_id="2"), objects)
    assert proxy.counts() == {"POST": 2, "GET": 2}
    await restarted.prepare(identity(namespace, spawn_id="3"), objects)
    assert sum(proxy.counts().values()) == 4


async def test_shared_objects_are_immutable_and_labelled(
    cluster: Cluster, control_plane: ControlPlane, namespace: str
) -> None:
    """Nobody can change a shared file under a server, and everybody can see whose it is."""
    item = shared_map()
    await cluster.prepare(identity(namespace), [item])
    found = await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/configmaps/{item.name}")
    assert found["immutable"] is True
    assert found["metadata"]["labels"] == identity(namespace).shared_labels()


@pytest.mark.parametrize("difference", ["labels", "content", "mutable"])
async def test_a_foreign_object_with_our_name_is_refused(
    cluster: Cluster, control_plane: ControlPlane, proxy: FaultProxy, namespace: str, difference: str
) -> None:
    """A name is no proof: what differs in labels, content or immutability is neither used nor touched."""
    item = shared_map()
    body = {
        "metadata": {"name": item.name, "labels": identity(namespace).shared_labels()},
        "data": dict(item.body["data"]),
        "immutable": True,
    }
    if difference == "labels":
        del body["metadata"]["labels"]
    elif difference == "content":
        body["data"] = {"start.sh": "curl evil"}
    else:
        del body["immutable"]
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = await control_plane.ok("POST", path, body)
    with pytest.raises(ClusterError) as caught:
        await cluster.prepare(identity(namespace), [item])
    assert (caught.value.reason, caught.value.blame) == ("conflict", "admin")
    assert "DELETE" not in proxy.counts()
    assert await control_plane.ok("GET", f"{path}/{item.name}") == before


async def test_the_same_secret_is_recognised(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """A shared Secret written as text equals the base64 that the API server gives back."""
    secret = KubeObject("v1", "Secret", "shared-secret", Lifetime.shared, "x", {"stringData": {"a": "ß"}})
    await new_cluster().prepare(identity(namespace), [secret])
    await new_cluster().prepare(identity(namespace), [secret])


async def test_claims_belong_to_their_user(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """A claim is used again by its user's servers, by whatever spawn, and by nobody else."""
    await new_cluster().prepare(identity(namespace), [persistent_claim()])
    await new_cluster().prepare(identity(namespace, server="second", spawn_id="9"), [persistent_claim()])
    for other in ({"user": "bob"}, {"hub": "hub-b"}):
        for cluster in (new_cluster(), new_cluster()):
            with pytest.raises(ClusterError, match="is not used for"):
                await cluster.prepare(identity(namespace, **other), [persistent_claim()])


async def test_two_hubs_share_a_claim_knowingly(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """The refusal names the claim and both hubs; what docs/operators.md says then lets both use it."""
    ours, theirs = identity(namespace, account="1@a"), identity(namespace, hub="hub-b", account="2@b")
    await new_cluster().prepare(ours, [persistent_claim()])
    with pytest.raises(ClusterError, match="belongs to the hub 'hub-a', not to 'hub-b'") as caught:
        await new_cluster().prepare(theirs, [persistent_claim()])
    assert "home-unal" in str(caught.value.user_message)
    page = (DOCS / "operators.md").read_text()
    (label,) = re.findall(r"^kubectl label pvc NAME (\S+)-$", page, re.MULTILINE)
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/home-unal"
    change = {"metadata": {"labels": {label: None}}}
    await control_plane.ok("PATCH", path, change, content_type="application/merge-patch+json")
    for me in (theirs, ours):
        await new_cluster().prepare(me, [persistent_claim()])
        assert await new_cluster().delete_persistent(me) == 0


async def test_a_remembered_claim_is_still_only_its_users(cluster: Cluster, namespace: str) -> None:
    """Remembering does not replace the check: the same name for another user is asked for again, and refused."""
    await cluster.prepare(identity(namespace), [persistent_claim()])
    with pytest.raises(ClusterError, match="is not used for"):
        await cluster.prepare(identity(namespace, user="bob"), [persistent_claim()])
    await cluster.prepare(identity(namespace), [persistent_claim()])


@pytest.mark.parametrize(("annotation", "adopt", "works"), [
    (None, True, True), (None, False, False), ("Ünal/ß", True, True), ("bob", True, False),
])  # fmt: skip
async def test_a_claim_from_before(
    new_cluster: Callable[..., Cluster],
    control_plane: ControlPlane,
    namespace: str,
    annotation: str | None,
    adopt: bool,
    works: bool,
) -> None:
    """A claim that plain KubeSpawner made is mounted for its own user, if the hub's policy allows it."""
    annotations = {"hub.jupyter.org/username": annotation} if annotation else {}
    body = {"metadata": {"name": "home-unal", "annotations": annotations}, **persistent_claim().body}
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", body)
    cluster = new_cluster(policy=Policy(adopt_unlabelled_claims=adopt))
    if works:
        await cluster.prepare(identity(namespace), [persistent_claim()])
    else:
        with pytest.raises(ClusterError, match="is not used for"):
            await cluster.prepare(identity(namespace), [persistent_claim()])


ACCOUNT = account_of(5, datetime(2026, 11, 30, 12, 0, 0, 250000))
NEXT = account_of(5, datetime(2026, 11, 30, 12, 0, 1))


@pytest.mark.parametrize(("changes", "works"), [
    ({"account": ACCOUNT}, True),
    ({"account": ACCOUNT.replace(".250000", ".000000")}, True),  # as a database returns it that rounds to seconds
    ({"account": account_of(5, datetime(2026, 11, 30, 12, 0, 0, 750000))}, False),
    ({"account": account_of(6, datetime(2026, 11, 30, 12, 0, 0, 250000))}, False),
    ({"account": ""}, True),
    ({"account": NEXT, "hub": "hub-b"}, None),
])  # fmt: skip
async def test_a_claim_of_another_account(
    new_cluster: Callable[..., Cluster], namespace: str, changes: dict[str, str], works: bool | None
) -> None:
    """The next user of a name does not get the claims of the one before, neither mounted nor deleted.

    Claims of another hub are not compared: KubeSpawner's are shared by name, those of profiles have the hub's label.
    """
    home = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim-unal"}}
    home = {**home, **persistent_claim().body}
    cluster = new_cluster()
    before = identity(namespace, account=ACCOUNT)
    await cluster.prepare(before, [persistent_claim()])
    await cluster.create_home_claim(before, copy.deepcopy(home))
    after = identity(namespace, spawn_id="spawn-2", **changes)
    attempts = [
        lambda: cluster.create_home_claim(after, copy.deepcopy(home)),
        lambda: cluster.has_home_claim(after, "claim-unal"),
        lambda: cluster.prepare(after, [persistent_claim()]),
    ]
    for number, attempt in enumerate(attempts):
        if works or (works is None and number < 2):
            await attempt()
        else:
            with pytest.raises(ClusterError, match="is not used for") as caught:
                await attempt()
            assert caught.value.blame == "admin"
            assert ("claim-unal" if number < 2 else "home-unal") in str(caught.value.user_message)
    assert await cluster.delete_persistent(after) == (1 if works else 0)


async def test_the_pod_of_this_spawn_is_adopted(
    new_cluster: Callable[..., Cluster], proxy: FaultProxy, namespace: str
) -> None:
    """Creating the same pod twice for one spawn gives the same pod, and deletes none."""
    first = await new_cluster().create_pod(identity(namespace), pod())
    again = await new_cluster().create_pod(identity(namespace), pod())
    assert first["metadata"]["uid"] == again["metadata"]["uid"]
    assert proxy.counts() == {"POST": 2, "GET": 1}


async def test_an_older_pod_of_this_server_is_replaced(cluster: Cluster, proxy: FaultProxy, namespace: str) -> None:
    """A pod left from an earlier start of the same server is deleted by its UID, then the new one is created."""
    first = await cluster.create_pod(identity(namespace), pod())
    second = await cluster.create_pod(identity(namespace, spawn_id="spawn-2"), pod())
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    deletion = next(seen for seen in proxy.seen if seen.method == "DELETE")
    assert deletion.body["preconditions"] == {"uid": first["metadata"]["uid"]}


@pytest.mark.parametrize("other", [{"hub": "hub-b"}, {"user": "bob"}, {"server": "x"}, None])
async def test_a_foreign_pod_is_refused(
    cluster: Cluster, control_plane: ControlPlane, proxy: FaultProxy, namespace: str, other: dict[str, str] | None
) -> None:
    """A pod of another hub, user or server, or without labels, is not changed, whatever its name."""
    labels = identity(namespace, **{"spawn_id": "theirs", **other}).labels() if other is not None else {}
    body = pod()
    body["metadata"] = {"name": "jupyter-unal", "labels": labels}
    before = await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    with pytest.raises(ClusterError) as caught:
        await cluster.create_pod(identity(namespace), pod())
    assert caught.value.reason == "conflict"
    assert not await cluster.delete_pod(identity(namespace), namespace, 0)
    assert proxy.counts()["DELETE"] == 0
    after = await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/pods/jupyter-unal")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_the_pod_keeps_the_labels_it_has(cluster: Cluster, namespace: str) -> None:
    """KubeSpawner's own label stays; the labels of ownership are added."""
    created = await cluster.create_pod(identity(namespace), pod())
    labels = created["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "kubespawner"
    assert identity(namespace).owns(labels) == "same-spawn"
    assert created["metadata"]["name"] == "jupyter-unal"


async def test_owned_objects_go_with_the_pod(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """Whatever a profile brings for one server carries an owner reference to its pod, of any kind."""
    cluster = new_cluster(policy=Policy(kinds=DEFAULT_KINDS | OPT_IN_KINDS))
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"},
    }
    always = {**template, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    selector = {"matchLabels": {"a": "b"}}
    rbac = "rbac.authorization.k8s.io/v1"
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    objects = [
        owned("RoleBinding", "rb", rbac, roleRef=reference, subjects=[{"kind": "ServiceAccount", "name": "sa"}]),
        owned("Role", "r", rbac, rules=[rule]),
        owned("ServiceAccount", "sa", automountServiceAccountToken=False),
        owned("ConfigMap", "c", data={"a": "b"}),
        owned("Secret", "s", stringData={"a": "b"}),
        owned("PersistentVolumeClaim", "p", **persistent_claim().body),
        owned("Service", "svc", spec={"ports": [{"port": 80}], "selector": {"a": "b"}}),
        owned("Deployment", "d", "apps/v1", spec={"selector": selector, "template": always}),
        owned("StatefulSet", "st", "apps/v1", spec={"selector": selector, "template": always, "serviceName": "svc"}),
        owned("Job", "j", "batch/v1", spec={"template": template}),
        owned("NetworkPolicy", "n", "networking.k8s.io/v1", spec={"podSelector": selector}),
    ]
    await cluster.prepare(identity(namespace), objects)
    created = await cluster.create_pod(identity(namespace), pod())
    uid = created["metadata"]["uid"]
    await cluster.attach(identity(namespace), objects, "jupyter-unal", uid)
    for item in objects:
        group = "/api/v1" if item.api_version == "v1" else f"/apis/{item.api_version}"
        plural = "networkpolicies" if item.kind == "NetworkPolicy" else f"{item.kind.lower()}s"
        path = f"{group}/namespaces/{namespace}/{plural}/{item.name}"
        metadata = (await control_plane.ok("GET", path))["metadata"]
        assert [reference["uid"] for reference in metadata["ownerReferences"]] == [uid]
        assert identity(namespace).owns(metadata["labels"]) == "same-spawn"
    # A second attempt, after a lost answer, changes nothing.
    await cluster.attach(identity(namespace), objects, "jupyter-unal", uid)


@pytest.mark.parametrize("lifetime", [Lifetime.owned, Lifetime.persistent])
async def test_a_claim_of_a_manifest_is_refused_before_the_pod(
    cluster: Cluster, control_plane: ControlPlane, namespace: str, lifetime: Lifetime
) -> None:
    """The author of a manifest can write any name: a claim that exists without this project's labels is not used."""
    body = {"metadata": {"name": "course"}, **persistent_claim().body}
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", body)
    field = "get_manifests(): m, document 1"
    item = KubeObject("v1", "PersistentVolumeClaim", "course", lifetime, field, persistent_claim().body)
    with pytest.raises(ClusterError, match=r"does not belong|is not used"):
        await cluster.prepare(identity(namespace), [item])


async def test_nothing_runs_with_an_object_of_others(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """A Job that is kept is not created beside a claim that is refused: it would mount the claim."""
    cluster = new_cluster(policy=Policy(kinds=DEFAULT_KINDS | OPT_IN_KINDS))
    field = "get_manifests(): m, document 1"
    claim = KubeObject("v1", "PersistentVolumeClaim", "d", Lifetime.persistent, field, persistent_claim().body)
    template = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
    job = KubeObject("batch/v1", "Job", "j", Lifetime.persistent, field, {"spec": {"template": template}})
    await cluster.prepare(identity(namespace, user="bob"), [claim])
    with pytest.raises(ClusterError, match="exists and is not used"):
        await cluster.prepare(identity(namespace), [job, claim])
    assert not (await control_plane.ok("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs"))["items"]


async def test_claims_of_a_stateful_set_belong_to_their_user(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, namespace: str
) -> None:
    """A set never gets a claim of others, whatever its ordinals are. Kubernetes would use any of the name."""
    cluster = new_cluster(policy=Policy(kinds=DEFAULT_KINDS | OPT_IN_KINDS))
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    claim = {"metadata": {"name": "data"}, **persistent_claim().body}
    spec = {
        "selector": {"matchLabels": {"a": "b"}}, "template": template, "serviceName": "db", "replicas": 2,
        "ordinals": {"start": 1}, "volumeClaimTemplates": [claim],
    }  # fmt: skip
    field = "get_manifests(): m, document 1"
    item = KubeObject("apps/v1", "StatefulSet", "db-unal", Lifetime.owned, field, {"spec": spec})
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    (made,) = cluster.manifest(identity(namespace), item)["spec"]["volumeClaimTemplates"]
    own = {"metadata": {**made["metadata"], "name": "data-db-unal-1"}, "spec": claim["spec"]}
    await control_plane.ok("POST", claims, own)
    await cluster.prepare(identity(namespace), [item])
    for user in (identity(namespace, user="bob"), identity(namespace, hub="hub-b")):
        with pytest.raises(ClusterError, match=r"data-db-unal-1 exists and is not used"):
            await cluster.prepare(user, [item])
    await control_plane.ok("POST", claims, {"metadata": {"name": "data-db-unal-2"}, "spec": claim["spec"]})
    with pytest.raises(ClusterError, match=r"data-db-unal-2 exists and is not used"):
        await cluster.prepare(identity(namespace), [item])


async def test_owned_objects_of_an_earlier_spawn_are_replaced(
    cluster: Cluster, control_plane: ControlPlane, namespace: str
) -> None:
    """What an earlier start left under the same name is replaced; what is foreign is refused."""
    first = await cluster.create_pod(identity(namespace), pod())
    await cluster.attach(identity(namespace), [owned()], "jupyter-unal", first["metadata"]["uid"])
    later = identity(namespace, spawn_id="spawn-2")
    second = await cluster.create_pod(later, pod())
    uid = second["metadata"]["uid"]
    await cluster.attach(later, [owned()], "jupyter-unal", uid)
    path = f"/api/v1/namespaces/{namespace}/secrets/token-unal"
    secret = await control_plane.ok("GET", path)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == uid
    with pytest.raises(ClusterError, match="does not belong"):
        await cluster.attach(identity(namespace, user="bob"), [owned()], "jupyter-bob", uid)
    assert (await control_plane.ok("GET", path))["metadata"]["uid"] == secret["metadata"]["uid"]


async def test_delete_takes_exactly_one_pod(cluster: Cluster, proxy: FaultProxy, namespace: str) -> None:
    """With the UID there is one call; a pod that has been replaced meanwhile stays."""
    first = await cluster.create_pod(identity(namespace), pod())
    second = await cluster.create_pod(identity(namespace, spawn_id="spawn-2"), pod())
    proxy.clear()
    assert not await cluster.delete_pod("jupyter-unal", namespace, 0, uid=first["metadata"]["uid"])
    assert await cluster.delete_pod("jupyter-unal", namespace, 0, uid=second["metadata"]["uid"])
    assert not await cluster.delete_pod("jupyter-unal", namespace, 0, uid=second["metadata"]["uid"])
    assert proxy.counts() == {"DELETE": 3}
    with pytest.raises(ValueError, match="UID"):
        await cluster.delete_pod("jupyter-unal", namespace, 0)


async def test_only_a_recorded_pod_is_stopped(cluster: Cluster, namespace: str) -> None:
    """A second hub with the same identity has pods with the same labels; the record tells whose pod it is."""
    await cluster.create_pod(identity(namespace), pod())
    of_later = identity(namespace, spawn_id="spawn-2")
    assert not await cluster.delete_pod(of_later, namespace, 0)
    assert await cluster.delete_pod(dataclasses.replace(of_later, recorded=("spawn-1",)), namespace, 0)


async def test_a_missing_shared_object_is_made_again(
    cluster: Cluster, control_plane: ControlPlane, proxy: FaultProxy, namespace: str
) -> None:
    """When somebody deletes a file that pods wait for, it is made again with one call."""
    item = shared_map()
    await cluster.prepare(identity(namespace), [item])
    path = f"/api/v1/namespaces/{namespace}/configmaps/{item.name}"
    await control_plane.ok("DELETE", path)
    proxy.clear()
    assert cluster.forget(namespace, item.name)
    await cluster.recreate(identity(namespace), [item, persistent_claim()])
    assert proxy.counts() == {"POST": 1}
    await control_plane.ok("GET", path)


async def test_policy_comes_before_every_call(cluster: Cluster, proxy: FaultProxy, namespace: str) -> None:
    """Nothing is sent if one object is not allowed, and a pod is checked without a call."""
    role = owned("Role", "r", "rbac.authorization.k8s.io/v1", rules=[])
    with pytest.raises(PolicyError):
        await cluster.prepare(identity(namespace), [shared_map(), role])
    with pytest.raises(PolicyError):
        cluster.checked_pod(identity(namespace), pod(hostNetwork=True))
    assert proxy.seen == []


async def test_the_guide_finds_what_stays_after_a_rollback(
    cluster: Cluster, control_plane: ControlPlane, namespace: str
) -> None:
    """The selectors in docs/moving.md find the shared and the persistent objects, and nothing else."""
    guide = (DOCS / "moving.md").read_text().partition("## Back to KubeSpawner")[2]
    commands = re.findall(r"^kubectl \w+ (\S+) -l (\S+)$", guide, re.MULTILINE)
    me = identity(namespace)
    kept = KubeObject("v1", "Secret", "kept", Lifetime.persistent, "x", {"stringData": {"a": "b"}})
    await cluster.prepare(me, [shared_map(), persistent_claim(), kept])
    created = await cluster.create_pod(me, pod())
    await cluster.attach(me, [owned("ConfigMap", "mine", data={"a": "b"})], me.pod_name, created["metadata"]["uid"])
    theirs = {"metadata": {"name": "theirs"}, **persistent_claim().body}
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", theirs)
    found = []
    for plurals, selector in commands:
        for plural in plurals.split(","):
            path = f"/api/v1/namespaces/{namespace}/{plural}"
            items = (await control_plane.ok("GET", path, params={"labelSelector": selector}))["items"]
            found.append([item["metadata"]["name"] for item in items])
    assert found == [[shared_map().name], ["home-unal"], [], ["kept"]]
