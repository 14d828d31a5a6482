"""What clients may rely on, on the local API server as on a real one."""

from __future__ import annotations

import asyncio
import base64

import pytest
import pytest_asyncio

from tests.control_plane import ControlPlane, real_only
from tests.demo.cluster.api_support import (
    PATIENCE,
    STRATEGIC,
    Api,
    causes,
    claim,
    config_map,
    owner,
    pod,
)


@pytest_asyncio.fixture(loop_scope="session")
async def api(control_plane: ControlPlane, namespace: str) -> Api:
    """A namespace of the test's own."""
    return Api(control_plane, namespace)


async def _answers(api: Api, status: int, path: str) -> None:
    """Wait until a GET answers `status`: on a real cluster, roles and deletions take effect a moment later."""

    async def wait() -> None:
        while (await api.call("GET", path)).status != status:
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), PATIENCE)


# ------------------------------------------------------------------------------------------------------- discovery


async def test_the_version_and_the_resources_are_told(api: Api) -> None:
    """`/version`, `/api`, `/apis` and the resource lists say what the server serves."""
    assert "gitVersion" in (await api.call("GET", "/version")).body
    assert (await api.call("GET", "/api")).body["versions"] == ["v1"]
    groups = {group["name"] for group in (await api.call("GET", "/apis")).body["groups"]}
    assert {"apps", "batch", "rbac.authorization.k8s.io", "networking.k8s.io", "authorization.k8s.io"} <= groups
    resources = {item["name"]: item for item in (await api.call("GET", "/api/v1")).body["resources"]}
    assert {"pods", "pods/status", "pods/binding", "pods/log", "configmaps"} <= set(resources)
    assert resources["pods"]["kind"] == "Pod"
    assert resources["pods"]["shortNames"] == ["po"]
    assert resources["namespaces"]["namespaced"] is False


async def test_a_request_without_a_token_is_401(api: Api) -> None:
    """Nobody is served who does not say who they are."""
    answer = await api.as_user("").call("GET", api.path("pods"))
    assert (answer.status, answer.body["reason"], answer.body["code"]) == (401, "Unauthorized", 401)


@pytest.mark.parametrize("path", ["/api/v1/namespaces/default/nothings", "/api/v1/namespaces/default/pods/p/nothing"])
async def test_a_path_that_no_resource_has_is_404(api: Api, path: str) -> None:
    """Unknown resources and subresources are not found."""
    answer = await api.call("GET", path)
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")


# --------------------------------------------------------------------------------------------------------- reading


async def test_a_list_has_a_kind_items_and_a_numeric_version(api: Api) -> None:
    """An empty list is a list too."""
    found = await api.list("pods")
    assert (found["kind"], found["apiVersion"], found["items"]) == ("PodList", "v1", [])
    assert int(found["metadata"]["resourceVersion"]) > 0


async def test_the_items_of_a_list_do_not_repeat_their_kind(api: Api) -> None:
    """Kind and API version stand at the list only."""
    await api.create("configmaps", config_map())
    items = (await api.list("configmaps", labelSelector="!nothing"))["items"]
    assert not [item for item in items if "kind" in item or "apiVersion" in item]


async def test_a_missing_object_is_404_not_found(api: Api) -> None:
    """Reading and deleting what is not there says so, with name and kind."""
    for answer in (await api.get("pods", "nope"), await api.delete("pods", "nope")):
        assert (answer.status, answer.body["reason"]) == (404, "NotFound")
        assert answer.body["details"] == {"name": "nope", "kind": "pods"}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("u=1", ["a", "b"]),
        ("u==1,x=2", ["a"]),
        ("u in (1,9),x", ["a"]),
        ("u=1,!x", ["b"]),
        ("u=1,x!=2", ["b"]),
        ("u=1,x notin (3)", ["a", "b"]),
        ("u", ["a", "b"]),
    ],
)
async def test_label_selectors_select(api: Api, selector: str, names: list[str]) -> None:
    """Every operator of label selectors works."""
    await api.create("configmaps", config_map("a", metadata={"labels": {"u": "1", "x": "2"}}))
    await api.create("configmaps", config_map("b", metadata={"labels": {"u": "1"}}))
    await api.create("configmaps", config_map("c", metadata={"labels": {"v": "1"}}))
    assert await api.names("configmaps", labelSelector=selector) == names


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.name=a,status.phase=Pending", ["a"]),
        ("metadata.name!=a", ["b"]),
        ("spec.nodeName=", ["a", "b"]),
        ("status.phase=Running", []),
    ],
)
async def test_field_selectors_select(api: Api, selector: str, names: list[str]) -> None:
    """Fields of pods that clients select by work."""
    await api.create("pods", pod("a"))
    await api.create("pods", pod("b"))
    assert await api.names("pods", fieldSelector=selector) == names


@pytest.mark.parametrize(
    "params", [{"fieldSelector": "spec.foo=x"}, {"labelSelector": "a in (b"}, {"labelSelector": "a=b=c"}]
)
async def test_a_selector_that_means_nothing_is_400(api: Api, params: dict[str, str]) -> None:
    """It does not silently select everything or nothing."""
    answer = await api.call("GET", api.path("pods"), params=params)
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


async def test_the_parameters_of_the_reflector_are_accepted(api: Api) -> None:
    """KubeSpawner lists with an old version that need not be the newest, and an empty selector."""
    params = {"resourceVersion": "0", "resourceVersionMatch": "NotOlderThan", "fieldSelector": ""}
    assert (await api.list("pods", labelSelector="component=singleuser-server", **params))["items"] == []


async def test_objects_of_all_namespaces_are_listed_and_watched(api: Api) -> None:
    """A list and a watch without a namespace see every namespace."""
    version = await api.version("pods")
    created = await api.create("pods", pod("everywhere"))
    found = (await api.call("GET", "/api/v1/pods")).body
    uid = created["metadata"]["uid"]
    assert uid in [item["metadata"]["uid"] for item in found["items"]]
    params = {"fieldSelector": f"metadata.namespace={api.namespace}", "resourceVersion": version}
    async with api.watch("pods", everywhere=True, **params) as watch:
        assert await watch.names(1) == [("ADDED", "everywhere")]


# --------------------------------------------------------------------------------------------------------- writing


async def test_a_new_pod_is_complete(api: Api) -> None:
    """201, with identity, versions, namespace, phase and the defaults that clients read."""
    made = await api.create("pods", pod(ports=[{"name": "notebook-port", "containerPort": 8888}]))
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert int(made["metadata"]["resourceVersion"]) > 0
    assert made["metadata"]["namespace"] == api.namespace
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    spec = made["spec"]
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30)
    container = spec["containers"][0]
    assert container["ports"] == [{"name": "notebook-port", "containerPort": 8888, "protocol": "TCP"}]


async def test_a_name_is_taken_once(api: Api) -> None:
    """The second create is 409 AlreadyExists."""
    for resource, body in (("pods", pod()), ("configmaps", config_map()), ("persistentvolumeclaims", claim())):
        await api.create(resource, body)
        answer = await api.try_create(resource, body)
        assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")
        assert answer.body["details"]["kind"] == resource


async def test_a_generated_name_has_the_prefix(api: Api) -> None:
    """`generateName` makes a new name each time."""
    body = {**pod(), "metadata": {"generateName": "g-"}}
    names = {(await api.create("pods", body))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("g-") and len(name) == 7 for name in names)


async def test_a_dry_run_changes_nothing(api: Api) -> None:
    """`dryRun=All` answers as if, and stores nothing: create, change and delete."""
    assert (await api.create("pods", pod(), dryRun="All"))["metadata"]["uid"]
    assert (await api.get("pods", "p")).status == 404
    await api.create("configmaps", config_map("c", {"a": "1"}))
    changed = await api.patch("configmaps", "c", {"data": {"a": "2"}}, dryRun="All")
    assert changed.body["data"] == {"a": "2"}
    assert (await api.delete("configmaps", "c", dryRun=["All"])).status == 200
    assert (await api.get("configmaps", "c")).body["data"] == {"a": "1"}


async def test_a_namespace_must_exist(api: Api) -> None:
    """Nothing can be created where there is no namespace; a namespace is taken once."""
    assert (await api.call("POST", "/api/v1/namespaces/nowhere/pods", pod())).status == 404
    answer = await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": api.namespace}})
    assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")


async def test_a_replacement_based_on_an_old_version_is_a_conflict(api: Api) -> None:
    """PUT with a stale resource version is 409 Conflict, without one it overwrites."""
    first = await api.create("configmaps", config_map("c", {"a": "1"}))
    second = await api.put("configmaps", "c", {**first, "data": {"a": "2"}})
    assert second.status == 200
    stale = await api.put("configmaps", "c", {**first, "data": {"a": "3"}})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    assert (await api.put("configmaps", "c", config_map("c", {"a": "4"}))).status == 200


async def test_a_write_that_changes_nothing_makes_no_new_version(api: Api) -> None:
    """The resource version moves with changes only."""
    first = await api.create("configmaps", config_map("c", {"a": "1"}))
    same = await api.patch("configmaps", "c", {"data": {"a": "1"}})
    assert same.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    other = await api.patch("configmaps", "c", {"data": {"a": "2"}})
    assert int(other.body["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


async def test_a_merge_patch_deletes_by_null(api: Api) -> None:
    """JSON merge patch."""
    await api.create("pods", pod(labels={"app": "b"}))
    answer = await api.patch("pods", "p", {"metadata": {"labels": {"app": None, "c": "d"}}})
    assert answer.body["metadata"]["labels"] == {"c": "d"}


async def test_a_strategic_patch_merges_lists_by_their_keys(api: Api) -> None:
    """Conditions by type, ports by number: what is not named stays."""
    await api.create("pods", pod())
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await api.patch("pods", "p", ready, STRATEGIC, "status")
    both = {"status": {"conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]}}
    answer = await api.patch("pods", "p", both, STRATEGIC, "status")
    assert {item["type"]: item["status"] for item in answer.body["status"]["conditions"]} == {
        "Initialized": "True",
        "Ready": "False",
    }
    without = {"status": {"conditions": [{"$patch": "delete", "type": "Ready"}]}}
    answer = await api.patch("pods", "p", without, STRATEGIC, "status")
    assert [item["type"] for item in answer.body["status"]["conditions"]] == ["Initialized"]


async def test_a_patch_of_another_type_is_415(api: Api) -> None:
    """Plain JSON is no patch."""
    await api.create("pods", pod())
    assert (await api.patch("pods", "p", {}, "application/json")).status == 415


async def test_the_status_is_written_through_its_subresource_only(api: Api) -> None:
    """A patch of `status` leaves the spec alone, and a patch of the pod leaves the status alone."""
    await api.create("pods", pod())
    status = {"phase": "Running", "podIP": "127.1.2.3", "podIPs": [{"ip": "127.1.2.3"}]}
    answer = await api.patch("pods", "p", {"status": status, "spec": {"nodeName": "zz"}}, STRATEGIC, "status")
    assert (answer.status, answer.body["status"]["phase"], answer.body["status"]["podIP"]) == (
        200,
        "Running",
        "127.1.2.3",
    )
    assert "nodeName" not in answer.body["spec"]
    plain = await api.patch("pods", "p", {"status": {"phase": "Failed"}})
    assert plain.body["status"]["phase"] == "Running"


# -------------------------------------------------------------------------------------------------------- watching


async def test_a_watch_begins_after_its_version(api: Api) -> None:
    """What was there before is not repeated, what came between list and watch is not lost."""
    await api.create("pods", pod("before"))
    version = await api.version("pods")
    await api.create("pods", pod("between"))
    async with api.watch("pods", resourceVersion=version) as watch:
        assert await watch.names(1) == [("ADDED", "between")]
        await api.create("pods", pod("after"))
        assert await watch.names(1) == [("ADDED", "after")]


async def test_a_watch_without_a_version_shows_what_is_there(api: Api) -> None:
    """First the present objects as ADDED, then the changes."""
    await api.create("configmaps", config_map("one"))
    async with api.watch("configmaps", fieldSelector="metadata.name=one") as watch:
        assert await watch.names(1) == [("ADDED", "one")]
        await api.patch("configmaps", "one", {"data": {"a": "b"}})
        assert await watch.names(1) == [("MODIFIED", "one")]
        await api.delete("configmaps", "one")
        assert await watch.names(1) == [("DELETED", "one")]


async def test_the_python_spelling_of_a_watch_is_a_watch(api: Api) -> None:
    """kubernetes_asyncio sends `watch=True`."""
    version = await api.version("pods")
    async with api.watch("pods", watch="True", resourceVersion=version) as watch:
        await api.create("pods", pod())
        assert await watch.names(1) == [("ADDED", "p")]


async def test_a_watch_sees_its_selection_only(api: Api) -> None:
    """An object that leaves the selection is DELETED for the watch, one that enters it is ADDED."""
    version = await api.version("pods")
    async with api.watch("pods", labelSelector="t=1", resourceVersion=version) as watch:
        await api.create("pods", pod("other"))
        await api.create("pods", pod("mine", labels={"t": "1"}))
        assert await watch.names(1) == [("ADDED", "mine")]
        await api.patch("pods", "mine", {"metadata": {"labels": {"t": "2"}}})
        kind, gone = await watch.event()
        assert (kind, gone["metadata"]["labels"]) == ("DELETED", {"t": "1"})
        await api.patch("pods", "other", {"metadata": {"labels": {"t": "1"}}})
        assert await watch.names(1) == [("ADDED", "other")]


async def test_the_events_of_a_watch_carry_growing_versions(api: Api) -> None:
    """Each event can be resumed from: its version is newer than that of the one before."""
    version = await api.version("configmaps")
    async with api.watch("configmaps", resourceVersion=version) as watch:
        await api.create("configmaps", config_map("c"))
        await api.patch("configmaps", "c", {"data": {"a": "1"}})
        await api.delete("configmaps", "c")
        events = [await watch.event() for _ in range(3)]
    versions = [int(document["metadata"]["resourceVersion"]) for _, document in events]
    assert versions == sorted(set(versions))
    async with api.watch("configmaps", resourceVersion=str(versions[0])) as watch:
        assert await watch.names(2) == [("MODIFIED", "c"), ("DELETED", "c")]


async def test_a_watch_ends_by_its_own_timeout(api: Api) -> None:
    """`timeoutSeconds` ends the stream from the server's side."""
    async with api.watch("pods", resourceVersion=await api.version("pods"), timeoutSeconds="1") as watch:
        assert await watch.rest() == []


# -------------------------------------------------------------------------------------------------------- deleting


async def test_a_pod_without_a_node_goes_at_once(api: Api) -> None:
    """Nothing runs, so nothing is waited for."""
    version = await api.version("pods")
    await api.create("pods", pod())
    answer = await api.delete("pods", "p")
    assert (answer.status, answer.body["kind"], answer.body["metadata"]["name"]) == (200, "Pod", "p")
    assert (await api.get("pods", "p")).status == 404
    async with api.watch("pods", resourceVersion=version) as watch:
        assert await watch.until("DELETED", "p") == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_bound_pod_stays_until_its_kubelet_lets_it_go(api: Api) -> None:
    """Deleting marks it; a deletion without grace removes it. Both are seen by watches."""
    await api.create("pods", pod())
    assert (await api.bind("p")).status == 201
    bound = (await api.get("pods", "p")).body
    assert bound["spec"]["nodeName"] == api.node
    assert [item["type"] for item in bound["status"]["conditions"]] == ["PodScheduled"]
    version = await api.version("pods")
    assert (await api.delete("pods", "p", gracePeriodSeconds=5)).status == 200
    marked = (await api.get("pods", "p")).body["metadata"]
    assert (bool(marked["deletionTimestamp"]), marked["deletionGracePeriodSeconds"]) == (True, 5)
    assert (await api.delete("pods", "p", gracePeriodSeconds=0)).status == 200
    assert (await api.get("pods", "p")).status == 404
    async with api.watch("pods", resourceVersion=version) as watch:
        assert await watch.until("DELETED", "p") == ["MODIFIED", "MODIFIED", "DELETED"]


async def test_a_pod_is_bound_once(api: Api) -> None:
    """The second scheduler comes too late, and a pod that is going away is not bound."""
    await api.create("pods", pod())
    await api.bind("p")
    answer = await api.bind("p", "n2")
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")


async def test_a_finished_pod_goes_at_once(api: Api) -> None:
    """A pod that has succeeded or failed needs no grace."""
    await api.create("pods", pod())
    await api.bind("p")
    await api.patch("pods", "p", {"status": {"phase": "Succeeded"}}, STRATEGIC, "status")
    await api.delete("pods", "p")
    assert (await api.get("pods", "p")).status == 404


@pytest.mark.parametrize("precondition", [{"uid": "another"}, {"resourceVersion": "1"}])
async def test_a_deletion_with_a_wrong_precondition_is_a_conflict(api: Api, precondition: dict[str, str]) -> None:
    """Only the very object that the client has seen is deleted."""
    await api.create("pods", pod())
    answer = await api.delete("pods", "p", preconditions=precondition)
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert (await api.get("pods", "p")).status == 200


async def test_finalizers_hold_an_object(api: Api) -> None:
    """It goes when the last one is removed."""
    await api.create("configmaps", config_map("c", metadata={"finalizers": ["example.com/one"]}))
    await api.delete("configmaps", "c")
    assert (await api.get("configmaps", "c")).body["metadata"]["deletionTimestamp"]
    await api.patch("configmaps", "c", {"metadata": {"finalizers": None}})
    assert (await api.get("configmaps", "c")).status == 404


# ------------------------------------------------------------------------------------------------ garbage collection


@pytest.fixture
def collecting(api: Api) -> Api:
    """The same, where garbage is collected."""
    if not api.plane.collects_garbage:
        pytest.skip("no controller manager")
    return api


async def test_dependents_go_with_their_owner(collecting: Api) -> None:
    """Objects whose only owner is deleted are deleted, through generations."""
    api = collecting
    parent = await api.create("pods", pod())
    child = await api.create("configmaps", config_map("child", metadata={"ownerReferences": owner(parent)}))
    await api.create("configmaps", config_map("grandchild", metadata={"ownerReferences": owner(child)}))
    await api.delete("pods", "p")
    await api.gone("configmaps", "child")
    await api.gone("configmaps", "grandchild")


async def test_a_namespace_goes_with_all_that_is_in_it(collecting: Api) -> None:
    """Its objects are deleted, and then it is gone itself."""
    api = collecting
    await api.create("secrets", {"metadata": {"name": "s"}})
    assert (await api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")).status == 200
    await _answers(api, 404, f"/api/v1/namespaces/{api.namespace}")
    assert (await api.get("secrets", "s")).status == 404


async def test_a_dependent_of_nobody_goes(collecting: Api) -> None:
    """An owner that does not exist, or is another object of the same name, is no owner."""
    api = collecting
    await api.create("pods", pod())
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "11111111-2222-3333-4444-555555555555"}
    await api.create("configmaps", config_map("c", metadata={"ownerReferences": [reference]}))
    await api.gone("configmaps", "c")


# ------------------------------------------------------------------------------------------------------- other kinds


async def test_events_are_found_by_what_they_are_about(api: Api) -> None:
    """KubeSpawner shows a server's events as its progress."""
    about = {"kind": "Pod", "name": "p", "namespace": api.namespace}
    await api.create("events", {"metadata": {"name": "e1"}, "involvedObject": about, "message": "Pulled"})
    await api.create("events", {"metadata": {"name": "e2"}, "involvedObject": {**about, "name": "q"}})
    assert await api.names("events", fieldSelector="involvedObject.name=p") == ["e1"]


async def test_plain_secret_values_are_encoded(api: Api) -> None:
    """`stringData` becomes `data`, and is never given back."""
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "data": {"c": base64.b64encode(b"d").decode()}}
    made = await api.create("secrets", secret)
    assert made["data"] == {"a": "Yg==", "c": "ZA=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


async def test_immutable_content_stays(api: Api) -> None:
    """An immutable ConfigMap or Secret keeps its data and its immutability; labels may change."""
    await api.create("configmaps", config_map("c", {"a": "1"}, immutable=True))
    for change, field in (({"data": {"a": "2"}}, "data"), ({"immutable": False}, "immutable")):
        answer = await api.patch("configmaps", "c", change)
        assert (answer.status, causes(answer)) == (422, {("FieldValueForbidden", field)})
    assert (await api.patch("configmaps", "c", {"metadata": {"labels": {"l": "m"}}})).status == 200


async def test_the_log_of_a_missing_pod_is_404(api: Api) -> None:
    """Also where logs are kept, a pod must exist."""
    answer = await api.call("GET", api.path("pods", "nope", "log"))
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")


# ---------------------------------------------------------------------------------------------------------- rights

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


async def test_what_no_role_allows_is_403(api: Api) -> None:
    """The answer names user, verb, resource and namespace."""
    user = api.as_user(api.plane.token_for("mallory"))
    answer = await user.get("pods", "p")
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    where = f'in the namespace "{api.namespace}"'
    text = f'pods "p" is forbidden: User "mallory" cannot get resource "pods" in API group "" {where}'
    assert answer.body["message"] == text
    everywhere = await user.call("GET", "/api/v1/pods")
    assert "at the cluster scope" in everywhere.body["message"]


async def test_names_and_subresources_are_granted_one_by_one(api: Api) -> None:
    """`resourceNames` limits a rule to objects; `pods` does not include `pods/log`."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]}
    await api.plane.grant(api.namespace, "nora", [rule, READ_PODS])
    user = api.as_user(api.plane.token_for("nora"))
    await _answers(user, 404, api.path("configmaps", "mine"))
    assert (await user.get("configmaps", "other")).status == 403
    assert (await user.call("GET", api.path("configmaps"))).status == 403
    assert (await user.get("pods", "p", "log")).status == 403


async def test_a_group_is_granted_as_a_whole(api: Api) -> None:
    """A binding may name a group, and a ClusterRole for its namespace only."""
    name = f"pod-readers-{api.namespace}"
    await api.create("clusterroles", {"metadata": {"name": name}, "rules": [READ_PODS]})
    binding = {
        "metadata": {"name": "readers"},
        "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "Group", "name": f"readers-{api.namespace}"}],
    }
    await api.create("rolebindings", binding)
    user = api.as_user(api.plane.token_for("rita", [f"readers-{api.namespace}"]))
    await _answers(user, 200, api.path("pods"))
    assert (await user.call("GET", api.path("secrets"))).status == 403
    assert (await user.call("GET", "/api/v1/namespaces/default/pods")).status == 403


async def test_one_may_ask_what_one_may_do(api: Api) -> None:
    """Every user is answered about themselves."""
    await api.plane.grant(api.namespace, "sam", [READ_PODS])
    user = api.as_user(api.plane.token_for("sam"))
    await _answers(user, 200, api.path("pods"))
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    for verb, allowed in (("list", True), ("delete", False)):
        attributes = {"namespace": api.namespace, "verb": verb, "resource": "pods"}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = await user.call("POST", reviews, {**body, "spec": {"resourceAttributes": attributes}})
        assert (answer.status, answer.body["status"]["allowed"]) == (201, allowed)


# --------------------------------------------------------- rules of a real one, by whose words the hub tells failures


@real_only
async def test_a_quota_refuses_with_its_name_and_amounts(collecting: Api) -> None:
    """What the hub tells users about an exceeded quota, and authors about a missing limit."""
    api = collecting
    await api.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    await _counted(api, {"pods": "0"})
    refused = await api.try_create("pods", pod())
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0" in refused.body["message"]
    await api.put("resourcequotas", "q", {"metadata": {"name": "q"}, "spec": {"hard": {"limits.cpu": "9"}}})
    await _counted(api, {"limits.cpu": "0"})
    for _ in range(100):  # admission sees the changed quota a little later than its controller
        refused = await api.try_create("pods", pod())
        if "exceeded quota" not in refused.body["message"]:
            break
        await asyncio.sleep(0.05)
    assert "failed quota: q: must specify limits.cpu" in refused.body["message"]


async def _counted(api: Api, amounts: dict[str, str]) -> None:
    """Wait until the quota `q` is in force."""

    async def wait() -> None:
        while (await api.get("resourcequotas", "q")).body.get("status", {}).get("used") != amounts:
            await asyncio.sleep(0.05)

    await asyncio.wait_for(wait(), PATIENCE)


@real_only
async def test_a_namespace_that_is_going_away_takes_nothing(collecting: Api) -> None:
    """It stays until its last object has gone, and refuses new ones."""
    api = collecting
    await api.create("configmaps", config_map("held", metadata={"finalizers": ["example.com/hold"]}))
    await api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")
    refused = await api.try_create("configmaps", config_map("late"))
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert "NamespaceTerminating" in {reason for reason, _ in causes(refused)}
    await api.patch("configmaps", "held", {"metadata": {"finalizers": None}})
    await _answers(api, 404, f"/api/v1/namespaces/{api.namespace}")
