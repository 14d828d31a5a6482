"""The rules for all kinds but pods: what a new object must have, and what a new version must not change."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator

from .answers import Cause, Object
from .pod_rules import pod_causes, pod_change_causes, port_name_problem
from .quantities import parse_quantity
from .rules import (
    duplicate,
    label_causes,
    name_problem,
    not_allowed,
    one_of,
    port_problem,
    qualified_problem,
    quantity_causes,
    required,
    selector_causes,
    too_long,
    unsupported,
    wrong,
)
from .workload_rules import (
    claim_spec_causes,
    deployment_change_causes,
    job_causes,
    job_change_causes,
    stateful_set_change_causes,
    workload_causes,
)

__all__ = ["CHANGE_RULES", "RULES"]

_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_DATA_LIMIT = 1024 * 1024
_PROTOCOLS = ("SCTP", "TCP", "UDP")


# ----------------------------------------------------------------------------------------- ConfigMaps and Secrets


def data_key_problem(key: str) -> str:
    """Return what is wrong with the key of a ConfigMap or Secret, or an empty text."""
    if not _DATA_KEY.fullmatch(key):
        return "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    return "must not be '.' or start with '..'" if key == "." or key.startswith("..") else ""


def _decoded_size(encoded: str) -> int:
    return len(encoded) * 3 // 4 - encoded[-2:].count("=")


def _key_causes(data: Object, path: str) -> Iterator[Cause]:
    for key in data:
        if problem := data_key_problem(key):
            yield wrong(f"{path}[{key}]", key, problem)


def _config_map(document: Object) -> Iterator[Cause]:
    data, binary = document.get("data", {}), document.get("binaryData", {})
    yield from _key_causes(data, "data")
    yield from _key_causes(binary, "binaryData")
    for key in sorted(set(data) & set(binary)):
        yield wrong(f"data[{key}]", key, "duplicate of key present in binaryData")
    size = sum(len(value.encode()) for value in data.values()) + sum(_decoded_size(value) for value in binary.values())
    if size > _DATA_LIMIT:
        yield too_long("[]", _DATA_LIMIT)


_SECRET_KEYS: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _secret(document: Object) -> Iterator[Cause]:
    data, kind = document.get("data", {}), document.get("type", "")
    yield from _key_causes(data, "data")
    if sum(_decoded_size(value) for value in data.values()) > _DATA_LIMIT:
        yield too_long("data", _DATA_LIMIT)
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
        elif key.startswith(".docker") and not _is_json_object(data[key]):
            yield wrong(f"data[{key}]", "<secret contents redacted>", "must be a JSON object")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        yield required("data[username]")
        yield required("data[password]")
    name = "kubernetes.io/service-account.name"
    if kind == "kubernetes.io/service-account-token" and name not in document["metadata"].get("annotations", {}):
        yield required(f"metadata.annotations[{name}]")


def _is_json_object(encoded: str) -> bool:
    try:
        return isinstance(json.loads(base64.b64decode(encoded)), dict)
    except ValueError:
        return False


def _frozen_data(new: Object, old: Object) -> Iterator[Cause]:
    if not old.get("immutable"):
        return
    hint = "field is immutable when `immutable` is set"
    if not new.get("immutable"):
        yield not_allowed("immutable", hint)
    for field in ("data", "binaryData"):
        if new.get(field, {}) != old.get(field, {}):
            yield not_allowed(field, hint)


def _secret_change(new: Object, old: Object) -> Iterator[Cause]:
    if new.get("type") != old.get("type"):
        yield wrong("type", new.get("type"), "field is immutable")
    yield from _frozen_data(new, old)


# ---------------------------------------------------------------------------------------------------------- storage


def _claim(document: Object) -> Iterator[Cause]:
    yield from claim_spec_causes(document["spec"], "spec")


def _claim_change(new: Object, old: Object) -> Iterator[Cause]:
    def fixed(spec: Object) -> Object:
        kept = {key: value for key, value in spec.items() if key not in ("resources", "volumeName")}
        resources = spec.get("resources", {})
        requests = {key: value for key, value in resources.get("requests", {}).items() if key != "storage"}
        return kept | {"resources": {**resources, "requests": requests}}

    before, after = old["spec"], new["spec"]
    sizes = [
        parse_quantity(spec.get("resources", {}).get("requests", {}).get("storage", "0")) for spec in (before, after)
    ]
    bound = new.get("status", {}).get("phase") == "Bound"
    volume = before.get("volumeName") and before["volumeName"] != after.get("volumeName")
    if fixed(before) != fixed(after) or volume or (sizes[0] != sizes[1] and not bound):
        yield not_allowed("spec", "spec is immutable after creation except resources.requests for bound claims")
    if sizes[1] < sizes[0]:
        yield not_allowed("spec.resources.requests.storage", "field can not be less than previous value")


_NOT_A_SOURCE = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


def _volume(document: Object) -> Iterator[Cause]:
    spec = document["spec"]
    if not spec.get("accessModes"):
        yield required("spec.accessModes")
    if not spec.get("capacity"):
        yield required("spec.capacity")
    if set(spec.get("capacity", ())) != {"storage"}:
        yield unsupported("spec.capacity", spec.get("capacity", {}), ["storage"])
    sources = [key for key in spec if key not in _NOT_A_SOURCE]
    if not sources:
        yield required("spec", "must specify a volume type")
    elif len(sources) > 1:
        yield not_allowed(f"spec.{sources[1]}", "may not specify more than 1 volume type")


def _storage_class(document: Object) -> Iterator[Cause]:
    if not document.get("provisioner"):
        yield required("provisioner", "must be a valid provisioner name")
    yield from one_of("reclaimPolicy", document.get("reclaimPolicy"), ("Delete", "Retain"))


LEGACY_COUNTS = frozenset(
    {
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
    }
)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_QUOTA_RESOURCES = LEGACY_COUNTS.union(
    _COMPUTE, ("requests.storage",), (f"{side}.{resource}" for side in ("requests", "limits") for resource in _COMPUTE)
)


def _quota(document: Object) -> Iterator[Cause]:
    for resource, amount in document["spec"].get("hard", {}).items():
        where = f"spec.hard[{resource}]"
        if problem := qualified_problem(resource):
            yield wrong(where, resource, problem)
        elif "/" not in resource and resource not in _QUOTA_RESOURCES:
            yield wrong(where, resource, "must be a standard resource for quota")
        yield from quantity_causes(resource, amount, where)
        if resource in LEGACY_COUNTS and parse_quantity(amount).denominator != 1:
            yield wrong(where, amount, "must be an integer")


# ---------------------------------------------------------------------------------------------------------- network


def _service_port(port: Object, where: str, *, named: bool) -> Iterator[Cause]:
    name = port.get("name", "")
    if named and not name:
        yield required(f"{where}.name")
    elif name and (problem := name_problem("label", name)):
        yield wrong(f"{where}.name", name, problem)
    if problem := port_problem(port.get("port")):
        yield wrong(f"{where}.port", port.get("port"), problem)
    yield from one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
    target = port.get("targetPort", 0)
    problem = port_problem(target) if isinstance(target, int) else port_name_problem(target)
    if problem:
        yield wrong(f"{where}.targetPort", target, problem)


def _service(document: Object) -> Iterator[Cause]:
    spec = document["spec"]
    kind, ports = spec["type"], spec.get("ports", [])
    if not ports and spec.get("clusterIP") != "None" and kind != "ExternalName":
        yield required("spec.ports")
    yield from one_of("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    if kind == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    names: set[str] = set()
    numbers: set[object] = set()
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        yield from _service_port(port, where, named=len(ports) > 1)
        if port.get("name") and port["name"] in names:
            yield duplicate(f"{where}.name", port["name"])
        if (port.get("protocol"), port.get("port")) in numbers:
            yield duplicate(where, port.get("port"))
        names.add(port.get("name", ""))
        numbers.add((port.get("protocol"), port.get("port")))
    yield from label_causes(spec.get("selector", {}), "spec.selector")
    yield from one_of("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))


def _service_change(new: Object, old: Object) -> Iterator[Cause]:
    before, after = old["spec"].get("clusterIP"), new["spec"].get("clusterIP")
    if "ExternalName" not in (old["spec"]["type"], new["spec"]["type"]) and before and after != before:
        yield wrong("spec.clusterIPs[0]", after, "may not change once set")


def _network_policy(document: Object) -> Iterator[Cause]:
    spec = document["spec"]
    yield from selector_causes(spec.get("podSelector", {}), "spec.podSelector")
    for index, kind in enumerate(spec.get("policyTypes", ())):
        yield from one_of(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))
    for direction in ("ingress", "egress"):
        for index, rule in enumerate(spec.get(direction, ())):
            for number, port in enumerate(rule.get("ports", ())):
                where = f"spec.{direction}[{index}].ports[{number}]"
                yield from one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
                value = port.get("port", 1)
                if problem := port_problem(value) if isinstance(value, int) else port_name_problem(value):
                    yield wrong(f"{where}.port", value, problem)


# ------------------------------------------------------------------------------------------------------------- RBAC


def _role(document: Object) -> Iterator[Cause]:
    namespaced = document["kind"] == "Role"
    for index, rule in enumerate(document.get("rules") or ()):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{where}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if namespaced:
                yield wrong(
                    f"{where}.nonResourceURLs",
                    rule["nonResourceURLs"],
                    "namespaced rules cannot apply to non-resource URLs",
                )
            continue
        if not rule.get("apiGroups"):
            yield required(f"{where}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{where}.resources", "resource rules must supply at least one resource")


def _binding(document: Object) -> Iterator[Cause]:
    reference = document["roleRef"]
    kinds = ("ClusterRole", "Role") if document["kind"] == "RoleBinding" else ("ClusterRole",)
    yield from one_of("roleRef.apiGroup", reference.get("apiGroup"), ("rbac.authorization.k8s.io",))
    yield from one_of("roleRef.kind", reference.get("kind"), kinds)
    if not reference.get("name"):
        yield required("roleRef.name")
    for index, subject in enumerate(document.get("subjects", ())):
        where = f"subjects[{index}]"
        if not subject.get("name"):
            yield required(f"{where}.name")
        yield from one_of(f"{where}.kind", subject.get("kind"), ("Group", "ServiceAccount", "User"))
        if subject.get("kind") == "ServiceAccount" and (problem := name_problem("subdomain", subject.get("name", ""))):
            yield wrong(f"{where}.name", subject.get("name", ""), problem)
        # In a RoleBinding an account without a namespace is one of the binding's own.
        lone = subject.get("kind") == "ServiceAccount" and not subject.get("namespace")
        if lone and document["kind"] == "ClusterRoleBinding":
            yield required(f"{where}.namespace")


def _binding_change(new: Object, old: Object) -> Iterator[Cause]:
    if new["roleRef"] != old["roleRef"]:
        yield wrong("roleRef", new["roleRef"], "cannot change roleRef")


# ------------------------------------------------------------------------------------------------------------- rest


def _event(document: Object) -> Iterator[Cause]:
    about = document["involvedObject"].get("namespace", "")
    namespace = document["metadata"].get("namespace")
    if about != namespace and not (not about and namespace == "default"):
        yield wrong("involvedObject.namespace", about, "does not match event.namespace")


def _pod(document: Object) -> Iterator[Cause]:
    yield from pod_causes(document["spec"], "spec")
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(document["spec"].get(kind) or ()):
            image = container.get("image", "")
            if image != image.strip():
                hint = "must not have leading or trailing whitespace"
                yield wrong(f"spec.{kind}[{index}].image", image, hint)


def _pod_change(new: Object, old: Object) -> Iterator[Cause]:
    yield from pod_change_causes(new["spec"], old["spec"])


RULES: dict[str, Callable[[Object], Iterator[Cause]]] = {
    "ClusterRole": _role,
    "ClusterRoleBinding": _binding,
    "ConfigMap": _config_map,
    "Deployment": workload_causes,
    "Event": _event,
    "Job": job_causes,
    "NetworkPolicy": _network_policy,
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "ResourceQuota": _quota,
    "Role": _role,
    "RoleBinding": _binding,
    "Secret": _secret,
    "Service": _service,
    "StatefulSet": workload_causes,
    "StorageClass": _storage_class,
}
"""By kind: yields what is wrong with an object, defaults filled in."""

CHANGE_RULES: dict[str, Callable[[Object, Object], Iterator[Cause]]] = {
    "ClusterRoleBinding": _binding_change,
    "ConfigMap": _frozen_data,
    "Deployment": deployment_change_causes,
    "Job": job_change_causes,
    "PersistentVolumeClaim": _claim_change,
    "Pod": _pod_change,
    "RoleBinding": _binding_change,
    "Secret": _secret_change,
    "Service": _service_change,
    "StatefulSet": stateful_set_change_causes,
}
"""By kind: given the new and the old version, yields what must not change and does."""
