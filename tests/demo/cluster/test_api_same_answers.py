"""The same requests to the local API server and to a real one are answered alike.

Compared are status, reason and the fields and reasons of the causes of every refusal, and every field of what was
stored. Not compared: the words of messages, and what no two servers can have in common (UIDs, times, versions).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.control_plane import Answer, LocalControlPlane, RealControlPlane
from tests.demo.cluster.api_corpus import NAMESPACE, Case, cases
from tests.demo.cluster.api_support import (
    APPLY,
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    Api,
    causes,
    claim,
    config_map,
    pod,
)

_OWN = {"creationTimestamp", "deletionTimestamp", "managedFields", "resourceVersion", "selfLink", "uid"}
_OWN_PATHS = {
    # Chosen by each server, and by a real one of this age not in a dry run.
    "spec.clusterIP",
    "spec.clusterIPs[0]",
    # Made of the UID.
    "metadata.labels.controller-uid",
    "spec.selector.matchLabels.controller-uid",
    "spec.template.metadata.labels.controller-uid",
}
# Kubernetes 1.20, with which we compare, names another group in the refusals of network policies.
_OLD_GROUP = {"extensions": "networking.k8s.io"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(local_control_plane: LocalControlPlane, real_control_plane: RealControlPlane) -> tuple[Api, Api]:
    """A namespace of the same name on both."""
    name = await local_control_plane.new_namespace("same")
    await real_control_plane.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return Api(local_control_plane, name), Api(real_control_plane, name)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if key not in _OWN:
                yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}[{index}]")
    elif value is not None and path not in _OWN_PATHS:
        yield path, value


def _essence(answer: Answer) -> dict[str, Any]:
    """Return what both servers have to agree on."""
    body = answer.body if isinstance(answer.body, dict) else {}
    if body.get("kind") != "Status":
        return {"status": answer.status, **dict(_flat(body))}
    details = {key: value for key, value in (body.get("details") or {}).items() if key not in ("causes", "uid")}
    if "group" in details:
        details["group"] = _OLD_GROUP.get(details["group"], details["group"])
    return {"status": answer.status, "reason": body.get("reason"), "details": details, "causes": causes(answer)}


@pytest.mark.parametrize("case", tuple(cases()), ids=lambda case: case.label)
async def test_a_new_object_is_answered_alike(both: tuple[Api, Api], case: Case) -> None:
    """Each object of the corpus is completed, or refused, in the same way."""
    body = json.loads(json.dumps(case.body).replace(NAMESPACE, both[0].namespace))
    local, real = [await api.try_create(case.resource, body, dryRun="All") for api in both]
    assert _essence(local) == _essence(real)


Step = tuple[Any, ...]


def _patch(resource: str, name: str, body: Any, kind: str = MERGE, subresource: str = "", **params: str) -> Step:
    return "patch", resource, name, body, kind, subresource, params


def _apply(body: dict[str, Any], manager: str, **params: str) -> Step:
    return _patch("configmaps", "c", body, APPLY, fieldManager=manager, **params)


def _full_pod() -> dict[str, Any]:
    spec = {"volumes": [{"name": "a", "emptyDir": {}}], "tolerations": [{"key": "k", "operator": "Exists"}]}
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    return pod(spec=spec, env=env, ports=[{"containerPort": 80, "name": "x"}], labels={"a": "b"})


def _pod_patch(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "notebook", **container}]}}


def _deployment(replicas: int | None = None) -> dict[str, Any]:
    labels = {"a": "b"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


STORIES: dict[str, list[Step]] = {
    "a pod without a node goes": [("create", "pods", pod()), ("delete", "pods", "p"), ("get", "pods", "p")],
    "a pod with a node goes slowly": [
        ("create", "pods", pod()),
        ("bind", "p"),
        ("bind", "p"),
        ("get", "pods", "p"),
        ("delete", "pods", "p", {"gracePeriodSeconds": 5}),
        ("get", "pods", "p"),
        ("delete", "pods", "p", {"gracePeriodSeconds": 2}),
        ("delete", "pods", "p", {"gracePeriodSeconds": 7}),
        _patch("pods", "p", {"metadata": {"labels": {"x": "y"}}}),
        _patch("pods", "p", {"metadata": {"finalizers": ["a/b"]}}),
        ("bind", "p"),
        ("delete", "pods", "p", {"gracePeriodSeconds": 0}),
        ("get", "pods", "p"),
    ],
    "the status of a pod": [
        ("create", "pods", pod()),
        _patch(
            "pods",
            "p",
            {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIP": "127.1.0.1"}},
            STRATEGIC,
            "status",
        ),
        _patch(
            "pods", "p", {"status": {"conditions": [{"type": "Initialized", "status": "True"}]}}, STRATEGIC, "status"
        ),
        _patch("pods", "p", {"status": {"phase": "Failed"}}),
        ("get", "pods", "p"),
    ],
    "patches of a pod": [
        ("create", "pods", _full_pod()),
        _patch("pods", "p", _pod_patch(image="new"), STRATEGIC),
        _patch("pods", "p", _pod_patch(env=[{"name": "A", "value": "x"}]), STRATEGIC),
        _patch("pods", "p", {"spec": {"containers": [{"name": "d", "image": "x"}]}}, STRATEGIC),
        _patch("pods", "p", {"spec": {"tolerations": [{"key": "n", "operator": "Exists"}]}}),
        _patch("pods", "p", {"spec": {"activeDeadlineSeconds": 100}}),
        _patch("pods", "p", {"spec": {"activeDeadlineSeconds": 200}}),
        _patch("pods", "p", {"spec": {"activeDeadlineSeconds": 50}}),
        _patch("pods", "p", {"spec": {"activeDeadlineSeconds": None}}),
        _patch("pods", "p", [{"op": "add", "path": "/metadata/labels/c", "value": "d"}], JSON_PATCH),
        _patch("pods", "p", [{"op": "test", "path": "/metadata/labels/a", "value": "c"}], JSON_PATCH),
        _patch("pods", "p", [{"op": "remove", "path": "/metadata/labels/zz"}], JSON_PATCH),
        _patch("pods", "p", [{"op": "foo", "path": "/metadata/labels"}], JSON_PATCH),
        _patch("pods", "p", {"op": "foo"}, JSON_PATCH),
        _patch("pods", "p", {"metadata": {"name": "q"}}),
        _patch("pods", "p", {"metadata": {"labels": {"A B": "c"}}}),
        _patch("pods", "p", {"metadata": {"labels": None}}),
        _patch("pods", "p", {}, "application/json"),
        _patch("pods", "nope", {}),
        _patch("pods", "p", {"metadata": {"uid": "x"}}),
        _patch("pods", "p", {"metadata": {"resourceVersion": "1"}}),
        _patch("pods", "p", {"metadata": {"namespace": "x"}}),
        _patch("pods", "p", {"spec": {"nosuch": 1}}),
        _patch("pods", "p", {"spec": {"nodeName": "n"}}),
    ],
    "replacements of a pod": [
        ("create", "pods", pod()),
        ("put", "pods", "p", pod(image="new")),
        ("put", "pods", "p", pod("other")),
        ("put", "pods", "nope", pod("nope")),
        ("put", "pods", "p", {**pod(), "metadata": {"name": "p", "uid": "wrong"}}),
        ("put", "pods", "p", {**pod(), "metadata": {"name": "p", "resourceVersion": "1"}}),
        ("put", "pods", "p", {**pod(), "metadata": {}}),
    ],
    "a ConfigMap": [
        ("create", "configmaps", config_map("c", {"a": "b"})),
        ("create", "configmaps", config_map("c", {"a": "b"})),
        ("put", "configmaps", "c", config_map("c", {"c": "d"})),
        _patch("configmaps", "c", {"data": {"c": None, "e": "f"}}),
        _patch("configmaps", "c", {"immutable": True}),
        _patch("configmaps", "c", {"data": {"e": "g"}}),
        _patch("configmaps", "c", {"immutable": False}),
        _patch("configmaps", "c", {"metadata": {"labels": {"l": "m"}}}),
        ("delete", "configmaps", "c", {"preconditions": {"uid": "x"}}),
        ("delete", "configmaps", "c", {"preconditions": {"resourceVersion": "1"}}),
        ("delete", "configmaps", "c", {"propagationPolicy": "Foo"}),
        ("delete", "configmaps", "c", {"propagationPolicy": "Foreground", "orphanDependents": True}),
        ("delete", "configmaps", "c", {"dryRun": ["All"]}),
        ("delete", "configmaps", "c"),
        ("delete", "configmaps", "c"),
    ],
    "a Secret": [
        ("create", "secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}}),
        _patch("secrets", "s", {"stringData": {"c": "d"}}),
        _patch("secrets", "s", {"type": "x"}),
        _patch("secrets", "s", {"immutable": True}),
        _patch("secrets", "s", {"stringData": {"c": "e"}}),
        ("delete", "secrets", "s"),
    ],
    "a claim": [
        ("create", "persistentvolumeclaims", claim("v", "10Gi")),
        _patch("persistentvolumeclaims", "v", {"spec": {"accessModes": ["ReadWriteMany"]}}),
        _patch("persistentvolumeclaims", "v", {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}),
        _patch("persistentvolumeclaims", "v", {"spec": {"volumeName": "x"}}),
        _patch("persistentvolumeclaims", "v", {"status": {"phase": "Bound"}}, MERGE, "status"),
        _patch("persistentvolumeclaims", "v", {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}),
        _patch("persistentvolumeclaims", "v", {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}),
        ("delete", "persistentvolumeclaims", "v"),
        ("get", "persistentvolumeclaims", "v"),
    ],
    "a Service": [
        ("create", "services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
        _patch("services", "s", {"spec": {"clusterIP": "10.96.0.200"}}),
        _patch("services", "s", {"spec": {"selector": {"a": "b"}}}),
        _patch("services", "s", {"spec": {"ports": [{"port": 81, "name": "x"}]}}, STRATEGIC),
        _patch("services", "s", {"spec": {"ports": [{"port": 80, "name": "y"}, {"port": 81, "name": "x"}]}}, STRATEGIC),
        ("delete", "services", "s"),
    ],
    "a Deployment": [
        ("create", "deployments", _deployment()),
        _patch("deployments", "d", {"spec": {"replicas": 3}}),
        _patch("deployments", "d", {"metadata": {"labels": {"a": "b"}}}),
        _patch("deployments", "d", {"spec": {"selector": {"matchLabels": {"a": "c"}}}}),
        _patch("deployments", "d", {"status": {"replicas": 3}}, MERGE, "status"),
        ("delete", "deployments", "d", {"propagationPolicy": "Background"}),
    ],
    "a role binding": [
        (
            "create",
            "rolebindings",
            {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": []},
        ),
        _patch("rolebindings", "b", {"roleRef": {"name": "z"}}),
        _patch("rolebindings", "b", {"subjects": [{"kind": "User", "name": "y"}]}, STRATEGIC),
        ("delete", "rolebindings", "b"),
    ],
    "finalizers": [
        ("create", "configmaps", config_map("c", metadata={"finalizers": ["a.b/c"]})),
        ("delete", "configmaps", "c"),
        ("get", "configmaps", "c"),
        ("delete", "configmaps", "c"),
        _patch("configmaps", "c", {"metadata": {"finalizers": ["a.b/c", "d.e/f"]}}),
        _patch("configmaps", "c", {"data": {"a": "b"}}),
        _patch("configmaps", "c", {"metadata": {"finalizers": []}}),
        ("get", "configmaps", "c"),
    ],
    "server-side apply": [
        _apply(config_map("c", {"a": "1"}), "m1"),
        _apply(config_map("c", {"a": "1"}), "m1"),
        _apply(config_map("c", {"a": "2"}), "m2"),
        _apply(config_map("c", {"b": "2"}), "m2"),
        _apply(config_map("c", {"a": "2"}), "m2", force="true"),
        _apply(config_map("c", {"c": "3"}), "m1"),
        _apply(config_map("c", {}), "m2"),
        _patch("configmaps", "c", config_map("c", {"a": "2"}), APPLY),
        _patch("configmaps", "c", {"data": {"c": "9"}}, fieldManager="u"),
        _apply(config_map("c", {"c": "3"}), "m1"),
        _apply({"metadata": {"name": "c"}}, "m1"),
        _apply(config_map("zz", {"a": "1"}), "m1"),
    ],
    "apply and plain writes": [
        _patch("deployments", "d", _deployment(2), APPLY, fieldManager="m1"),
        _patch("deployments", "d", {"spec": {"replicas": 5}}, fieldManager="scaler"),
        _patch("deployments", "d", _deployment(2), APPLY, fieldManager="m1"),
        _patch("deployments", "d", _deployment(), APPLY, fieldManager="m1"),
        ("get", "deployments", "d"),
    ],
    "an eviction": [
        ("create", "pods", pod()),
        (
            "post",
            "pods",
            "p",
            "eviction",
            {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "p"}},
        ),
        ("get", "pods", "p"),
        ("post", "pods", "p", "binding", {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
        ("post", "pods", "p", "binding", {"target": {"kind": "Node", "name": "n"}}),
    ],
    "a collection": [
        ("create", "configmaps", config_map("a1", metadata={"labels": {"l": "1"}})),
        ("create", "configmaps", config_map("a2", metadata={"labels": {"l": "2"}})),
        ("clear", "configmaps", "l=1"),
        ("clear", "configmaps", "l"),
        ("clear", "configmaps", "l"),
    ],
}


async def _tell(api: Api, step: Step) -> Answer:
    """Send one request of a story."""
    verb, *rest = step
    if verb == "create":
        return await api.try_create(*rest)
    if verb == "patch":
        resource, name, body, kind, subresource, params = rest
        return await api.patch(resource, name, body, kind, subresource, **params)
    if verb == "delete":
        resource, name, *options = rest
        return await api.delete(resource, name, **(options[0] if options else {}))
    if verb == "post":
        resource, name, subresource, body = rest
        return await api.call("POST", api.path(resource, name, subresource), body)
    if verb == "clear":
        return await api.call("DELETE", api.path(rest[0]), params={"labelSelector": rest[1]})
    methods = {"get": api.get, "put": api.put, "bind": api.bind}
    answer: Answer = await methods[verb](*rest)
    return answer


@pytest.mark.parametrize("story", STORIES)
async def test_a_story_is_answered_alike(
    local_control_plane: LocalControlPlane, real_control_plane: RealControlPlane, story: str
) -> None:
    """What follows from each step is the same on both."""
    name = await local_control_plane.new_namespace("story")
    await real_control_plane.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    local_api, real_api = Api(local_control_plane, name), Api(real_control_plane, name)
    for number, step in enumerate(STORIES[story]):
        local, real = await _tell(local_api, step), await _tell(real_api, step)
        assert _essence(local) == _essence(real), f"step {number}: {step}"
