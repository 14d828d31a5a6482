"""What `validate` finds in pods and objects without a cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from profile_spawner.kube.rules import problems_of

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "jupyter-ada", "labels": {"hub.jupyter.org/username": "ada"}, "annotations": {"A/b": "c"}},
    "spec": {
        "restartPolicy": "OnFailure",
        "nodeSelector": {"pool": "users"},
        "containers": [
            {
                "name": "notebook",
                "image": "a:1",
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "envFrom": [{"secretRef": {"name": "s"}}],
                "ports": [{"name": "notebook-port", "containerPort": 8888}],
                "resources": {
                    "limits": {"cpu": 2, "memory": "4Gi", "nvidia.com/gpu": "1"},
                    "requests": {"cpu": 0.5, "memory": 1073741824, "nvidia.com/gpu": 1},
                },
                "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan", "subPath": "users/ada"}],
                "livenessProbe": {"httpGet": {"port": "notebook-port", "path": "/"}, "periodSeconds": 5},
                "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
                "securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": False, "privileged": None},
            }
        ],
        "initContainers": [{"name": "init", "image": "b:1"}],
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "b", "value": "c"}],
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "preference": {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]},
                    }
                ]
            }
        },
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}},
            {"name": "files", "configMap": {"name": "f", "defaultMode": 0o755, "items": [{"key": "a", "path": "b/c"}]}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    },
}
CONTAINER = "spec.containers[0]"


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with another value at the path (`a.b[0].c`)."""
    result = copy.deepcopy(document)
    steps = [int(s) if s.isdecimal() else s for s in path.replace("[", ".").replace("]", "").split(".")]
    target: Any = result
    for step in steps[:-1]:
        target = target[step]
    target[steps[-1]] = value
    return result


def test_a_right_pod_has_no_problems():
    """Nothing is found in it."""
    assert problems_of(POD) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        # The shape.
        ("spec.container", [], "spec.container: is not a field of PodSpec; did you mean 'containers'?"),
        ("spec.volumes[0].host_path", {}, "did you mean 'hostPath'?"),
        ("spec.volumes[0]", {"name": "home", "hostPath": "/x"}, "hostPath: expects an object, found a string"),
        ("spec.volumes[0].persistentVolumeClaim", {}, "persistentVolumeClaim.claimName: is required"),
        ("spec.nodeSelector.pool", 3, "spec.nodeSelector.pool: expects a string, found an integer"),
        ("spec.nodeSelector", {1: "a"}, "put it into quotes"),
        ("spec.hostNetwork", "yes", "spec.hostNetwork: expects true or false, found a string"),
        ("spec.tolerations", {"key": "a"}, "spec.tolerations: expects a list, found an object"),
        (f"{CONTAINER}.args", ["a", 3], f"{CONTAINER}.args[1]: expects a string"),
        (f"{CONTAINER}.name", None, f"{CONTAINER}.name: is required"),
        (f"{CONTAINER}.livenessProbe.httpGet.port", [], "expects an integer or a string, found a list"),
        (f"{CONTAINER}.livenessProbe.periodSeconds", True, "expects an integer, found true or false"),
        (
            f"{CONTAINER}.resources.limits.memory",
            "4GB",
            "expects a quantity such as '500m', '2' or '20Gi', found '4GB'",
        ),
        (f"{CONTAINER}.resources.requests.cpu", -1, "expects a quantity"),
        ("spec.volumes[2].emptyDir.sizeLimit", "lots", "spec.volumes[2].emptyDir.sizeLimit: expects a quantity"),
        # Metadata.
        ("metadata.name", "Ada", "metadata.name: 'Ada' is not a name for a Pod"),
        ("metadata.labels", {"a b": "c"}, "metadata.labels: 'a b' is not a key of a label"),
        ("metadata.labels", {"a": "no label!"}, "'no label!' is not a value of a label"),
        ("metadata.labels", {"a": "x" * 64}, "at most 63 characters"),
        ("metadata.annotations", {"/a": "b"}, "'/a' is not a key of an annotation"),
        ("spec.nodeSelector", {"a/b/c": "d"}, "spec.nodeSelector: 'a/b/c'"),
        # Containers.
        ("spec.containers", [], "spec.containers: is required"),
        ("spec.initContainers[0].name", "notebook", "spec.initContainers[0].name: 'notebook' is used twice"),
        ("spec.initContainers[0].name", "a_b", "'a_b' must be lower-case"),
        (f"{CONTAINER}.image", "", f"{CONTAINER}.image: is required"),
        (f"{CONTAINER}.image", " a:1", "space"),
        (f"{CONTAINER}.imagePullPolicy", "always", "'always' must be one of Always, IfNotPresent, Never"),
        (f"{CONTAINER}.env[0].name", "1A", "must not begin with a digit"),
        (f"{CONTAINER}.env[0].name", "A=B", f"{CONTAINER}.env[0].name: 'A=B'"),
        (f"{CONTAINER}.env[0].name", "B", "'B' is set twice"),
        (f"{CONTAINER}.env[1].value", "x", "has both value and valueFrom"),
        (f"{CONTAINER}.env[1].valueFrom", {}, "must have exactly one source"),
        (f"{CONTAINER}.envFrom[0]", {"prefix": "A"}, "exactly one of configMapRef and secretRef"),
        (f"{CONTAINER}.ports[0].containerPort", 88888, "88888 must be between 1 and 65535"),
        (f"{CONTAINER}.ports[0].name", "a-name-that-is-too-long", "is not a name of a port"),
        (f"{CONTAINER}.ports[0].protocol", "tcp", "'tcp' must be one of TCP, UDP, SCTP"),
        (f"{CONTAINER}.resources.requests.cpu", 3, "requests.cpu: is more than the limit (3 > 2)"),
        (f"{CONTAINER}.resources.requests.memory", "5G", "is more than the limit (5G > 4Gi)"),
        (f"{CONTAINER}.resources.limits.gpu", 1, "limits.gpu: is not a resource"),
        (f"{CONTAINER}.resources.limits", {"nvidia.com/gpu": "0.5"}, "0.5 must be an integer"),
        (f"{CONTAINER}.resources.limits", {}, "requests.nvidia.com/gpu: must be equal to the limit"),
        # Volumes and mounts.
        ("spec.volumes[2].name", "home", "spec.volumes[2].name: 'home' is used twice"),
        ("spec.volumes[2].name", "Home", "'Home' must be lower-case"),
        ("spec.volumes[2].hostPath", {"path": "/"}, "spec.volumes[2]: has more than one type: emptyDir, hostPath"),
        ("spec.volumes[1].configMap.defaultMode", 755, "755 is more than 0777"),
        ("spec.volumes[1].configMap.items[0].path", "../x", "must be a relative path"),
        (f"{CONTAINER}.volumeMounts[0].name", "data", "there is no volume 'data'"),
        (f"{CONTAINER}.volumeMounts[0].mountPath", "/a:b", "'/a:b' must be a path without ':'"),
        (f"{CONTAINER}.volumeMounts[0].subPath", "/abs", "must be a relative path"),
        (f"{CONTAINER}.volumeMounts[0].subPathExpr", "x", "has both subPath and subPathExpr"),
        (
            f"{CONTAINER}.volumeMounts",
            [{"name": n, "mountPath": "/x"} for n in ("home", "tmp")],
            "'/x' is mounted twice",
        ),
        # Scheduling.
        ("spec.tolerations[0].value", "x", "must be empty with operator Exists"),
        ("spec.tolerations[1].key", "", "must be Exists without a key"),
        ("spec.tolerations[0].effect", "NoStart", "'NoStart' must be one of"),
        ("spec.tolerations[1].operator", "Is", "'Is' must be one of Equal, Exists"),
    ],
)
def test_each_mistake_is_found_with_its_path(path, value, found):
    """One change to a right pod is enough."""
    problems = [str(p) for p in problems_of(changed(POD, path, value))]
    assert any(found in p for p in problems), problems


def test_a_variable_that_is_set_twice_is_a_warning():
    """Kubernetes accepts it, and the last value counts."""
    (problem,) = problems_of(changed(POD, f"{CONTAINER}.env[0].name", "B"))
    assert problem.level == "warning"


def test_values_of_objects_do_not_appear_in_messages():
    """They may be secret."""
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "hunter2!"}}
    (problem,) = problems_of(document)
    assert str(problem) == "data.k: is not base64"
    (problem,) = problems_of({**document, "data": ["hunter2"]})
    assert "hunter2" not in str(problem)


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "db"},
    "spec": {
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": "d:1"}]}},
    },
}


def test_templates_of_pods_are_checked_as_pods():
    """In the objects that have one."""
    assert problems_of(DEPLOYMENT) == []
    (problem,) = problems_of(changed(DEPLOYMENT, "spec.template.spec.containers[0].image", ""))
    assert problem.path == "spec.template.spec.containers[0].image"


def test_claims_of_a_stateful_set_are_volumes_of_its_pods():
    """A mount may name them."""
    document = changed({**DEPLOYMENT, "kind": "StatefulSet"}, "spec.serviceName", "db")
    document["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
    mounts = [{"name": "data", "mountPath": "/data"}]
    document = changed(document, "spec.template.spec.containers[0].volumeMounts", mounts)
    assert problems_of(document) == []


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        ("ConfigMap", {"data": {"a/b": "c"}}, "data: 'a/b' is not a key"),
        ("ConfigMap", {"data": {"a": "x" * (2**20 + 1)}}, "the limit is 1048576"),
        (
            "PersistentVolumeClaim",
            {"spec": {"resources": {"requests": {"storage": "1Gi"}}}},
            "accessModes: is required",
        ),
        ("PersistentVolumeClaim", {"spec": {"accessModes": ["RWO"]}}, "'RWO' must be one of ReadWriteOnce"),
        ("Service", {"spec": {"ports": [{"port": 0}]}}, "0 must be between 1 and 65535"),
        ("Role", {"rules": [{"resources": ["pods"]}]}, "rules[0].verbs: is required"),
        ("RoleBinding", {}, "roleRef: is required"),
    ],
)
def test_other_kinds_are_checked_too(kind, body, found):
    """By the schema of their kind and its rules."""
    version = "rbac.authorization.k8s.io/v1" if kind.startswith("Role") else "v1"
    problems = [str(p) for p in problems_of({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, **body})]
    assert any(found in p for p in problems), problems


def test_what_has_the_wrong_type_hides_nothing_else() -> None:
    """The rest is checked without it, and what is left out is not missing as well."""
    document = changed(changed(POD, f"{CONTAINER}.imagePullPolicy", "always"), f"{CONTAINER}.env[0].value", 3)
    document = changed(changed(document, "metadata.labels", {"a.b/c": 1, "d": "no label!"}), "spec.nodeName", [])
    assert {p.path for p in problems_of(document)} == {
        f"{CONTAINER}.imagePullPolicy",
        f"{CONTAINER}.env[0].value",
        "metadata.labels.a.b/c",
        "metadata.labels.d",
        "spec.nodeName",
    }
