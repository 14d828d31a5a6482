"""Objects, sound and broken, whose creation has to be answered alike by the local API server and a real one."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.demo.cluster.api_support import claim, config_map, pod

MEBIBYTE = 1024 * 1024
NAMESPACE = "@namespace@"
"""In a body: replaced by the namespace of the test."""


class Case(NamedTuple):
    """One create: what it is about, the resource, and the body."""

    label: str
    resource: str
    body: Any


def cases() -> Iterator[Case]:
    """Yield every case; labels are unique."""
    for resource, table in (
        ("pods", {**_whole_pods(), **_metadata(), **_environment(), **_volumes(), **_amounts(), **_ports(), **_spec()}),
        ("pods", {**_containers(), **_bodies()}),
        ("configmaps", _config_maps()),
        ("secrets", _secrets()),
        ("persistentvolumeclaims", _claims()),
        ("services", _services()),
        ("roles", _roles()),
        ("rolebindings", _role_bindings()),
        ("deployments", _deployments()),
        ("statefulsets", _stateful_sets()),
        ("jobs", _jobs()),
        ("networkpolicies", _network_policies()),
        ("serviceaccounts", {"plain": {"metadata": {"name": "x"}, "imagePullSecrets": [{"name": "z"}]}}),
        ("leases", {"plain": {"metadata": {"name": "x"}, "spec": {"renewTime": "2026-01-01T00:00:00.123456Z"}}}),
        ("resourcequotas", _quotas()),
        ("events", _events()),
        ("storageclasses", _storage_classes()),
        ("persistentvolumes", _persistent_volumes()),
        ("clusterrolebindings", _cluster_role_bindings()),
    ):
        for label, body in table.items():
            yield Case(f"{resource}: {label}", resource, body)


Table = dict[str, Any]

NOTEBOOK_SPEC: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "imagePullSecrets": [{"name": "r"}],
    "nodeSelector": {"gpu": "y"},
    "restartPolicy": "OnFailure",
    "securityContext": {"fsGroup": 100},
    "serviceAccountName": "user",
    "terminationGracePeriodSeconds": 1,
    "tolerations": [
        {"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3},
    ],
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "preference": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
                }
            ]
        }
    },
    "initContainers": [
        {"name": "init", "image": "busybox", "command": ["x"], "resources": {"limits": {"memory": "1Gi"}}}
    ],
    "volumes": [
        {"name": "home", "persistentVolumeClaim": {"claimName": "claim-x"}},
        {"name": "cm", "configMap": {"name": "y", "items": [{"key": "a", "path": "b/c"}]}},
        {"name": "s", "secret": {"secretName": "z"}},
        {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
        {"name": "implied"},
        {"name": "hp", "hostPath": {"path": "/x"}},
        {"name": "dw", "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}]}},
        {
            "name": "proj",
            "projected": {"sources": [{"configMap": {"name": "k"}}, {"serviceAccountToken": {"path": "t"}}]},
        },
    ],
}
NOTEBOOK: dict[str, Any] = {
    "ports": [{"name": "notebook-port", "containerPort": 8888}],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "E", "value": ""},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
    "envFrom": [{"configMapRef": {"name": "z"}}, {"secretRef": {"name": "y", "optional": True}, "prefix": "X_"}],
    "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "nvidia.com/gpu": 1}, "requests": {"cpu": "0.1"}},
    "volumeMounts": [
        {"name": "home", "mountPath": "/home", "subPath": "a/b"},
        {"name": "cm", "mountPath": "/cm", "readOnly": True},
    ],
    "securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": False, "privileged": False},
    "lifecycle": {"postStart": {"exec": {"command": ["a"]}}},
    "livenessProbe": {"httpGet": {"port": 80}},
    "readinessProbe": {"tcpSocket": {"port": "notebook-port"}, "periodSeconds": 3},
    "labels": {"app": "jupyterhub", "component": "singleuser-server"},
    "annotations": {"hub.jupyter.org/username": "x"},
}


def _whole_pods() -> Table:
    images = ("x", "x:latest", "x:1", "reg:5000/x", "reg:5000/x:2", f"x@sha256:{'0' * 64}", "a/b/c:latest", "", " x")
    return {
        "plain": pod(),
        "a notebook server": pod("jupyter-x", spec=NOTEBOOK_SPEC, **NOTEBOOK),
        "two containers of one name": pod(spec={"containers": [{"name": "a", "image": "x"}] * 2}),
        "an init container of the same name": pod(spec={"initContainers": [{"name": "notebook", "image": "x"}]}),
        "an init container with a probe": pod(
            spec={"initContainers": [{"name": "d", "image": "x", "livenessProbe": {"exec": {"command": ["a"]}}}]}
        ),
        "no containers": pod(spec={"containers": []}),
        "no spec": {"metadata": {"name": "p"}},
        "container without a name": pod(spec={"containers": [{"image": "x"}]}),
        "container with a bad name": pod(spec={"containers": [{"name": "A_b", "image": "x"}]}),
        "container without an image": pod(spec={"containers": [{"name": "c"}]}),
        **{f"image {image!r}": pod(image=image) for image in images},
    }


def _metadata() -> Table:
    names = ("Bad_Name", "", "a" * 254, "a.b-c", "a-", "a\n", "-a", "ä")
    labels: list[Any] = [
        {"a b": "c"},
        {"a": "c d"},
        {"a": "c" * 64},
        {"A.b/c": "c"},
        {"x.y/c": "C_."},
        {"a": "c\n"},
        {"a": 1},
        {"a": None},
        {"": "x"},
    ]
    owned = {"apiVersion": "v1", "kind": "Pod", "name": "x"}
    return {
        **{f"name {name[:20]!r}": pod(name) for name in names},
        **{f"labels {entry}": pod(labels=entry) for entry in labels},
        "annotations": pod(annotations={"A/b": "c", "x": "ü {}\n"}),
        "annotations at the limit": pod(annotations={"a": "x" * 262143}),
        "annotations over the limit": pod(annotations={"a": "x" * 262144}),
        "annotation with a bad key": pod(annotations={"a b": "x"}),
        "owner without a uid": pod(ownerReferences=[owned]),
        "two controllers": pod(ownerReferences=[{**owned, "uid": uid, "controller": True} for uid in "ab"]),
        "finalizer without a domain": pod(finalizers=["foo"]),
        "bad finalizer": pod(finalizers=["a b/c"]),
        "generated from a bad prefix": {**pod(), "metadata": {"name": "x", "generateName": "G_"}},
        "another namespace": {**pod(), "metadata": {"name": "p", "namespace": "other"}},
        "what only the server sets": {
            **pod(),
            "metadata": {"name": "p", "deletionTimestamp": "2020-01-01T00:00:00Z", "uid": "x"},
            "status": {"phase": "Running"},
        },
        "a time that is none": {**pod(), "metadata": {"name": "p", "creationTimestamp": "yesterday"}},
    }


def _environment() -> Table:
    names = ("A", "1A", "A B", "a.b", "-a", "A=B", "..", ".", " ", "a/b", "ä", "A\n", "a" * 300)
    sources: dict[str, Any] = {
        "a field": {"fieldRef": {"fieldPath": "metadata.name"}},
        "a label": {"fieldRef": {"fieldPath": "metadata.labels['a']"}},
        "all labels": {"fieldRef": {"fieldPath": "metadata.labels"}},
        "an unknown field": {"fieldRef": {"fieldPath": "metadata.foo"}},
        "two sources": {"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "a", "key": "b"}},
        "no source": {},
        "a secret without a key": {"secretKeyRef": {"name": "a"}},
        "a map without a name": {"configMapKeyRef": {"key": "a"}},
        "a bad key": {"configMapKeyRef": {"name": "a", "key": "b c"}},
    }
    from_many: dict[str, Any] = {
        "none": [{}],
        "both": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}],
        "no name": [{"configMapRef": {}}],
        "a prefix": [{"configMapRef": {"name": "a"}, "prefix": "1X"}],
    }
    return {
        **{f"env {name[:20]!r}": pod(env=[{"name": name, "value": "x"}]) for name in names},
        **{f"env from {label}": pod(env=[{"name": "A", "valueFrom": source}]) for label, source in sources.items()},
        **{f"envFrom {label}": pod(envFrom=entries) for label, entries in from_many.items()},
        "env twice": pod(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "env with a number": pod(env=[{"name": "A", "value": 1}]),
        "env without a name": pod(env=[{"value": "1"}]),
        "env with value and source": pod(env=[{"name": "A", "value": "1", "valueFrom": sources["a field"]}]),
        "env as a map": pod(env={"A": "B"}),
    }


def _volumes() -> Table:
    volumes: dict[str, Any] = {
        "twice": [{"name": "x"}, {"name": "x"}],
        "bad name": [{"name": "X_"}],
        "long name": [{"name": "x" * 64}],
        "two sources": [{"name": "x", "emptyDir": {}, "configMap": {"name": "a"}}],
        "unknown source": [{"name": "x", "nosuch": {}}],
        "no name": [{"emptyDir": {}}],
        "secret without a name": [{"name": "x", "secret": {}}],
        "claim without a name": [{"name": "x", "persistentVolumeClaim": {}}],
        "map without a name": [{"name": "x", "configMap": {}}],
        "bad items": [
            {
                "name": "x",
                "configMap": {
                    "name": "a",
                    "items": [{"key": "", "path": "../x"}, {"key": "a", "path": "/x"}, {"key": "b", "path": "..a"}],
                },
            }
        ],
        "mode": [{"name": "x", "configMap": {"name": "a", "defaultMode": 511}}],
        "bad mode": [{"name": "x", "configMap": {"name": "a", "defaultMode": 1000}}],
        "host path that climbs": [{"name": "x", "hostPath": {"path": "/a/../b"}}],
        "host path of a bad type": [{"name": "x", "hostPath": {"path": "/a", "type": "Foo"}}],
        "nfs with a relative path": [{"name": "x", "nfs": {"server": "a", "path": "b"}}],
        "csi": [{"name": "x", "csi": {"driver": "a.b"}}],
    }
    mounts: dict[str, Any] = {
        "of nothing": [{"name": "y", "mountPath": "/x"}],
        "twice at one place": [{"name": "x", "mountPath": "/x"}, {"name": "x", "mountPath": "/x"}],
        "without a path": [{"name": "x"}],
        "climbing": [{"name": "x", "mountPath": "/x", "subPath": "../y"}],
        "with an absolute subpath": [{"name": "x", "mountPath": "/x", "subPath": "/y"}],
        "at a relative path": [{"name": "x", "mountPath": "x"}],
        "with two subpaths": [{"name": "x", "mountPath": "/x", "subPath": "y", "subPathExpr": "z"}],
    }
    return {
        **{f"volume: {label}": pod(spec={"volumes": entries}) for label, entries in volumes.items()},
        **{
            f"mount: {label}": pod(spec={"volumes": [{"name": "x"}]}, volumeMounts=entries)
            for label, entries in mounts.items()
        },
    }


def _amounts() -> Table:
    quantities = (
        "2.0",
        "1.5Gi",
        "100m",
        "1e3",
        2,
        0.1,
        "1000Mi",
        "1Ki",
        "12345678",
        "0.0001",
        "lots",
        "",
        "1 Gi",
        True,
    )
    quantities += ("1g", "1GB", "0", None, "-1", "1Ei", "1.25", "500u", "1E", "1e-3", "1K", "1KI")
    resources: dict[str, Any] = {
        "guaranteed": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}},
        "burstable": {"requests": {"cpu": "1"}},
        "cpu limit only": {"limits": {"cpu": "1"}},
        "more than the limit": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
        "half a gpu": {"limits": {"nvidia.com/gpu": "0.5"}},
        "gpu requested only": {"requests": {"nvidia.com/gpu": "1"}},
        "gpu unequal": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}},
        "unknown resource": {"limits": {"gpu": "1"}},
        "bad resource name": {"limits": {"a b": "1"}},
        "resource of kubernetes.io": {"limits": {"kubernetes.io/foo": "1"}},
        "huge pages": {"limits": {"hugepages-2Mi": "2Mi", "memory": "1Gi"}},
        "nothing": {},
        "null": {"limits": None},
    }
    return {
        **{f"memory {amount!r}": pod(resources={"limits": {"memory": amount}}) for amount in quantities},
        **{f"resources: {label}": pod(resources=entry) for label, entry in resources.items()},
    }


def _ports() -> Table:
    ports: list[list[dict[str, Any]]] = [
        [{"containerPort": 0}],
        [{"containerPort": 70000}],
        [{"containerPort": 80, "name": "A"}],
        [{"containerPort": 80, "name": "a" * 16}],
        [{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}],
        [{"containerPort": 80, "protocol": "X"}],
        [{"containerPort": 80, "name": "8888"}],
        [{"containerPort": 80, "name": "a--b"}],
        [{"containerPort": 80}, {"containerPort": 80}],
        [{"containerPort": "80"}],
        [{"containerPort": 80, "name": "-a"}],
        [{"containerPort": 80, "hostPort": 70000}],
    ]
    return {f"ports {entry}": pod(ports=entry) for entry in ports}


def _spec() -> Table:
    hard = "requiredDuringSchedulingIgnoredDuringExecution"
    soft = "preferredDuringSchedulingIgnoredDuringExecution"
    term = {"matchExpressions": [{"key": "a", "operator": "Foo"}]}
    fields: list[tuple[str, Any]] = [
        ("restartPolicy", "Foo"),
        ("dnsPolicy", "Foo"),
        ("activeDeadlineSeconds", 0),
        ("terminationGracePeriodSeconds", -1),
        ("nodeSelector", {"a b": "c"}),
        ("nodeSelector", {"a": "b c"}),
        ("hostname", "A"),
        ("hostname", "a.b"),
        ("subdomain", "_"),
        ("serviceAccountName", "A"),
        ("serviceAccount", "foo"),
        ("nodeName", "A B"),
        ("priorityClassName", "foo"),
        ("priority", 5),
        ("preemptionPolicy", "Never"),
        ("imagePullSecrets", [{}]),
        ("hostAliases", [{"ip": "x"}]),
        ("hostAliases", [{"ip": "1.2.3.4", "hostnames": ["a"]}]),
        ("tolerations", [{"key": "a", "operator": "Foo"}]),
        ("tolerations", [{"operator": "Equal"}]),
        ("tolerations", [{"operator": "Exists"}]),
        ("tolerations", [{"key": "a", "operator": "Exists", "value": "x"}]),
        ("tolerations", [{"key": "a", "effect": "Foo"}]),
        ("tolerations", [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}]),
        ("tolerations", None),
        ("affinity", {"nodeAffinity": {hard: {}}}),
        ("affinity", {"nodeAffinity": {hard: {"nodeSelectorTerms": [term]}}}),
        ("affinity", {"podAffinity": {hard: [{}]}}),
        ("affinity", {"podAntiAffinity": {soft: [{"weight": 0, "podAffinityTerm": {"topologyKey": "a"}}]}}),
        ("hostNetwork", True),
        ("hostPID", True),
        ("shareProcessNamespace", False),
        ("securityContext", {"runAsUser": -1}),
        ("securityContext", {"fsGroup": "x"}),
        ("schedulerName", "foo"),
        ("runtimeClassName", "foo"),
        ("setHostnameAsFQDN", True),
        ("dnsConfig", {"nameservers": ["1.1.1.1"]}),
        ("unknownField", 1),
        ("containers", "x"),
        ("volumes", {}),
        ("readinessGates", [{"conditionType": "a/b"}]),
        ("topologySpreadConstraints", [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
    ]
    return {f"spec.{key}={value}": pod(spec={key: value}) for key, value in fields}


def _containers() -> Table:
    fields: list[tuple[str, Any]] = [
        ("imagePullPolicy", "Foo"),
        ("terminationMessagePolicy", "Foo"),
        ("livenessProbe", {}),
        ("livenessProbe", {"exec": {}}),
        ("livenessProbe", {"httpGet": {"port": 0}}),
        ("livenessProbe", {"httpGet": {"port": 80, "path": "/x", "scheme": "FOO"}}),
        ("livenessProbe", {"tcpSocket": {"port": 80}, "successThreshold": 2}),
        ("livenessProbe", {"tcpSocket": {"port": 80}, "periodSeconds": -2}),
        ("livenessProbe", {"tcpSocket": {"port": 80}, "exec": {"command": ["x"]}}),
        ("securityContext", {"runAsUser": 1000, "capabilities": {"add": ["SYS_ADMIN"]}}),
        ("securityContext", {}),
        ("command", ["a", "b"]),
        ("command", "a"),
        ("args", [1]),
        ("stdin", True),
        ("tty", False),
        ("workingDir", "/x"),
        ("lifecycle", {"preStop": {"exec": {"command": ["sh"]}}}),
        ("lifecycle", {"postStart": {}}),
    ]
    return {f"container.{key}={value}": pod(**{key: value}) for key, value in fields}


def _bodies() -> Table:
    spec = pod()["spec"]
    return {
        "wrong kind": {**pod(), "kind": "ConfigMap"},
        "wrong version": {**pod(), "apiVersion": "v2"},
        "no kind": {"metadata": {"name": "p"}, "spec": spec},
        "metadata null": {"apiVersion": "v1", "kind": "Pod", "metadata": None, "spec": spec},
        "a list": [],
        "a text": "x",
    }


def _encoded(size: int) -> str:
    return base64.b64encode(b"x" * size).decode()


def _config_maps() -> Table:
    return {
        "plain": config_map("c", {"a": "b", ".bashrc": "", "B_c-d.e": "ü"}),
        "no data": config_map("c"),
        "empty data": config_map("c", {}),
        "a number": config_map("c", {"a": 1}),
        "a null": config_map("c", {"a": None}),
        "bad keys": config_map("c", {"a/b": "c", "a b": "c", "..a": "c", ".": "c", "..": "c"}),
        "long key": config_map("c", {"a" * 254: "x"}),
        "one key twice": config_map("c", {"a": "b"}, binaryData={"a": "Yg=="}),
        "binary": config_map("c", binaryData={"a": "Yg=="}),
        "binary that is none": config_map("c", binaryData={"a": "%"}),
        "immutable": config_map("c", {"a": "b"}, immutable=True),
        "not immutable": config_map("c", {"a": "b"}, immutable=False),
        "at the limit": config_map("c", {"a": "x" * MEBIBYTE}),
        "over the limit": config_map("c", {"a": "x" * (MEBIBYTE + 1)}),
        "over the limit in bytes": config_map("c", {"a": "ü" * (MEBIBYTE // 2 + 1)}),
        "binary over the limit": config_map("c", binaryData={"a": _encoded(MEBIBYTE + 1)}),
        "far over the limit": config_map("c", {"a": "x" * (3 * MEBIBYTE + 1000)}),
    }


def _secrets() -> Table:
    secrets: dict[str, dict[str, Any]] = {
        "plain": {"data": {"a": "Yg=="}},
        "text": {"stringData": {"a": "b"}, "data": {"a": "eA==", "c": "eA=="}},
        "bad base64": {"data": {"a": "b"}},
        "base64 in lines": {"data": {"a": "Yg==\n"}},
        "empty": {},
        "unknown type": {"type": "foo/bar"},
        "pull secret": {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}},
        "pull secret without": {"type": "kubernetes.io/dockerconfigjson"},
        "pull secret that is none": {
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": "x"},
        },
        "tls without": {"type": "kubernetes.io/tls"},
        "account token without": {"type": "kubernetes.io/service-account-token"},
        "at the limit": {"data": {"a": _encoded(MEBIBYTE)}},
        "over the limit": {"data": {"a": _encoded(MEBIBYTE + 1)}},
    }
    return {
        label: {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **content}
        for label, content in secrets.items()
    }


def _claims() -> Table:
    specs: dict[str, dict[str, Any]] = {
        "plain": {},
        "half": {"resources": {"requests": {"storage": "0.5Gi"}}},
        "no mode": {"accessModes": []},
        "bad mode": {"accessModes": ["X"]},
        "no size": {"resources": {}},
        "no room": {"resources": {"requests": {"storage": "0"}}},
        "negative": {"resources": {"requests": {"storage": "-1"}}},
        "bad class": {"storageClassName": "A"},
        "class": {"storageClassName": "fast"},
        "no class": {"storageClassName": ""},
        "bad volume mode": {"volumeMode": "X"},
        "bad selector": {"selector": {"matchLabels": {"a b": "c"}}},
    }
    return {label: claim("v", **spec) for label, spec in specs.items()}


def _services() -> Table:
    one = [{"port": 80}]
    services: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("svc", {"ports": one, "selector": {"a": "b"}}),
        "no ports": ("svc", {}),
        "headless": ("svc", {"clusterIP": "None"}),
        "two ports without names": ("svc", {"ports": [{"port": 80}, {"port": 81}]}),
        "one port twice": ("svc", {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}),
        "one name twice": ("svc", {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
        "bad port": ("svc", {"ports": [{"port": 0}]}),
        "named target": ("svc", {"ports": [{"port": 80, "targetPort": "http"}]}),
        "bad target": ("svc", {"ports": [{"port": 80, "targetPort": "HTTP_X"}]}),
        "name with a digit first": ("1a", {"ports": one}),
        "name with a dot": ("a.b", {"ports": one}),
        "bad type": ("svc", {"type": "X", "ports": one}),
        "external": ("svc", {"type": "ExternalName", "externalName": "a.b"}),
        "external without a name": ("svc", {"type": "ExternalName"}),
        "bad affinity": ("svc", {"ports": one, "sessionAffinity": "X"}),
        "bad protocol": ("svc", {"ports": [{"port": 80, "protocol": "X"}]}),
        "bad selector": ("svc", {"ports": one, "selector": {"a b": "c"}}),
    }
    return {label: {"metadata": {"name": name}, "spec": spec} for label, (name, spec) in services.items()}


def _roles() -> Table:
    rules: dict[str, Any] = {
        "plain": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        "no verbs": [{"apiGroups": [""], "resources": ["pods"]}],
        "no group": [{"resources": ["pods"], "verbs": ["get"]}],
        "no resources": [{"apiGroups": [""], "verbs": ["get"]}],
        "a url": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}],
    }
    return {
        **{label: {"metadata": {"name": "a:B_c"}, "rules": entry} for label, entry in rules.items()},
        "no rules": {"metadata": {"name": "r"}},
        "empty rules": {"metadata": {"name": "r"}, "rules": []},
        "bad name": {"metadata": {"name": "a/b"}, "rules": []},
    }


def _role_bindings() -> Table:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    user = [{"kind": "User", "name": "x"}]
    bindings: dict[str, tuple[Any, Any]] = {
        "plain": (reference, user),
        "no group": ({"kind": "Role", "name": "r"}, user),
        "bad kind": ({"kind": "Foo", "name": "r"}, user),
        "no name": ({"kind": "Role"}, user),
        "account": (reference, [{"kind": "ServiceAccount", "name": "x", "namespace": "y"}]),
        "account of here": (reference, [{"kind": "ServiceAccount", "name": "x"}]),
        "account with a bad name": (reference, [{"kind": "ServiceAccount", "name": "A", "namespace": "y"}]),
        "bad subject": (reference, [{"kind": "Foo", "name": "x"}]),
        "group": (reference, [{"kind": "Group", "name": "x"}]),
        "nobody": (reference, []),
    }
    return {
        **{label: {"metadata": {"name": "b"}, "roleRef": r, "subjects": s} for label, (r, s) in bindings.items()},
        "no role": {"metadata": {"name": "b"}},
    }


def _cluster_role_bindings() -> Table:
    bindings: dict[str, dict[str, Any]] = {
        "to a role": {"roleRef": {"kind": "Role", "name": "x"}, "subjects": []},
        "account of nowhere": {
            "roleRef": {"kind": "ClusterRole", "name": "x"},
            "subjects": [{"kind": "ServiceAccount", "name": "x"}],
        },
    }
    return {label: {"metadata": {"name": f"b-{NAMESPACE}"}, **body} for label, body in bindings.items()}


def _template(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def _workload(**spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"a": "b"}}
    return {"metadata": {"name": "d"}, "spec": {"selector": selector, "template": _template(), **spec}}


def _deployments() -> Table:
    limited = [{"name": "c", "image": "i", "resources": {"limits": {"cpu": 1}}}]
    return {
        "plain": _workload(),
        "no selector": _workload(selector=None),
        "empty selector": _workload(selector={}),
        "another selector": _workload(selector={"matchLabels": {"x": "y"}}),
        "negative replicas": _workload(replicas=-1),
        "never restarting": _workload(template=_template(restartPolicy="Never")),
        "recreate": _workload(strategy={"type": "Recreate"}),
        "bad strategy": _workload(strategy={"type": "X"}),
        "no spec": {"metadata": {"name": "d"}},
        "limited": _workload(template=_template(containers=limited)),
    }


def _stateful_sets() -> Table:
    template = {"metadata": {"name": "v"}, "spec": claim()["spec"]}
    return {"plain": _workload(serviceName="x", volumeClaimTemplates=[template]), "no service": _workload()}


def _jobs() -> Table:
    def job(restart: str | None, **spec: Any) -> dict[str, Any]:
        template = _template(**({"restartPolicy": restart} if restart else {}))
        return {"metadata": {"name": "j"}, "spec": {"template": template, **spec}}

    return {
        "plain": job("Never"),
        "three": job("OnFailure", completions=3),
        "always restarting": job(None),
        "negative": job("Never", backoffLimit=-1),
    }


def _network_policies() -> Table:
    specs: dict[str, Any] = {
        "ingress": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]},
        "egress": {"podSelector": {"matchLabels": {"a": "b"}}, "egress": [{}]},
        "from": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        "bad port": {"podSelector": {}, "ingress": [{"ports": [{"port": 0, "protocol": "X"}]}]},
        "bad type": {"podSelector": {}, "policyTypes": ["X"]},
        "nothing": {},
    }
    return {label: {"metadata": {"name": "n"}, "spec": spec} for label, spec in specs.items()}


def _quotas() -> Table:
    limits: dict[str, Any] = {
        "plain": {"cpu": "1.5", "count/deployments.apps": "1", "requests.nvidia.com/gpu": 1},
        "negative": {"pods": "-1"},
        "half a pod": {"pods": "1.5"},
        "unknown": {"foo": "1"},
    }
    return {label: {"metadata": {"name": "q"}, "spec": {"hard": hard}} for label, hard in limits.items()}


def _events() -> Table:
    about = {"kind": "Pod", "name": "x", "namespace": NAMESPACE}
    events: dict[str, dict[str, Any]] = {
        "plain": {"involvedObject": about, "reason": "Pulled", "message": "m", "type": "Normal", "count": 1},
        "smallest": {"involvedObject": {"namespace": NAMESPACE}},
        "about another namespace": {"involvedObject": {**about, "namespace": "zz"}},
        "in microseconds": {
            "involvedObject": about,
            "eventTime": "2026-01-01T00:00:00.000001Z",
            "reportingComponent": "a",
            "reportingInstance": "b",
            "action": "Binding",
            "reason": "x",
            "type": "Warning",
        },
    }
    return {label: {"metadata": {"name": "e"}, **event} for label, event in events.items()}


def _storage_classes() -> Table:
    named = {"metadata": {"name": f"x-{NAMESPACE}"}}
    return {"plain": {**named, "provisioner": "a/b"}, "no provisioner": named}


def _persistent_volumes() -> Table:
    base: dict[str, Any] = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    specs: dict[str, dict[str, Any]] = {
        "plain": {**base, "hostPath": {"path": "/x"}},
        "nothing": {},
        "two sources": {**base, "hostPath": {"path": "/x"}, "nfs": {"server": "a", "path": "/b"}},
    }
    return {label: {"metadata": {"name": f"pv-{NAMESPACE}"}, "spec": spec} for label, spec in specs.items()}
