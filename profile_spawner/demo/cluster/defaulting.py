"""What the API server fills in: one table per type, so that an object reads the same here and on a real cluster."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from functools import cache
from typing import Any

from .answers import Object
from .quantities import parse_quantity
from .schema import decode

__all__ = ["fill_in", "fill_in_status", "first_status", "qos_class"]

RBAC_GROUP = "rbac.authorization.k8s.io"
ALWAYS_TOLERATED = (
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
)
_FILE_MODE = 0o644


def _defaults(target: Object, values: Object) -> None:
    for key, value in values.items():
        if key not in target:
            target[key] = copy.copy(value)


def _pull_policy(image: str) -> str:
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _probe(probe: Object) -> None:
    _defaults(probe, {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    _http_get(probe)


def _http_get(handler: Object) -> None:
    if (get := handler.get("httpGet")) is not None:
        _defaults(get, {"path": "/", "scheme": "HTTP"})


def _container(container: Object) -> None:
    _defaults(
        container,
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": _pull_policy(container.get("image", "")),
        },
    )
    for port in container.get("ports", ()):
        _defaults(port, {"protocol": "TCP"})
    for variable in container.get("env", ()):
        if (reference := variable.get("valueFrom", {}).get("fieldRef")) is not None:
            _defaults(reference, {"apiVersion": "v1"})
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(name)) is not None:
            _probe(probe)
    for handler in container.get("lifecycle", {}).values():
        if isinstance(handler, dict):
            _http_get(handler)
    if (context := container.get("securityContext")) is not None and "capabilities" not in context:
        _defaults(context, {})


def _volume(volume: Object) -> None:
    if len(volume) == 1:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if (details := volume.get(source)) is not None:
            _defaults(details, {"defaultMode": _FILE_MODE})
    if (host_path := volume.get("hostPath")) is not None:
        _defaults(host_path, {"type": ""})
    if (projected := volume.get("projected")) is not None:
        for source in projected.get("sources", ()):
            if (token := source.get("serviceAccountToken")) is not None:
                _defaults(token, {"expirationSeconds": 3600})
            _field_references(source.get("downwardAPI", {}))
    _field_references(volume.get("downwardAPI", {}))
    if (template := volume.get("ephemeral", {}).get("volumeClaimTemplate")) is not None:
        _defaults(template.setdefault("spec", {}), {"volumeMode": "Filesystem"})


def _field_references(source: Object) -> None:
    for item in source.get("items", ()):
        if (reference := item.get("fieldRef")) is not None:
            _defaults(reference, {"apiVersion": "v1"})


def _pod_spec(spec: Object) -> None:
    _defaults(
        spec,
        {
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        },
    )
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in (*spec.get("initContainers", ()), *(spec.get("containers") or ())):
        _container(container)
        if spec.get("hostNetwork"):
            for port in container.get("ports", ()):
                port.setdefault("hostPort", port.get("containerPort", 0))
    for volume in spec.get("volumes", ()):
        _volume(volume)


def _requests_from_limits(container: Object) -> None:
    resources = container["resources"]
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **resources.get("requests", {})}


def qos_class(spec: Object) -> str:
    """Return the quality-of-service class that a pod's requests and limits give it."""
    requests: set[bool] = set()
    guaranteed = True
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        resources = container.get("resources", {})
        asked = {key: value for key, value in _compute(resources.get("requests", {})).items() if value}
        limited = {key: value for key, value in _compute(resources.get("limits", {})).items() if value}
        requests.add(bool(asked or limited))
        guaranteed = (
            guaranteed and len(limited) == 2 and all(asked.get(key, limited[key]) == limited[key] for key in limited)
        )
    if requests == {False}:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(amounts: Object) -> dict[str, Any]:
    return {key: parse_quantity(amounts[key]) for key in ("cpu", "memory") if key in amounts}


def _pod(pod: Object) -> None:
    spec = pod["spec"]
    _pod_spec(spec)
    _defaults(spec, {"enableServiceLinks": True})
    for container in (*spec.get("initContainers", ()), *(spec.get("containers") or ())):
        _requests_from_limits(container)
    tolerations = spec.setdefault("tolerations", [])
    for toleration in ALWAYS_TOLERATED:
        if not any(_tolerates(present, toleration["key"]) for present in tolerations):
            tolerations.append(dict(toleration))


def _addresses(status: Object) -> None:
    """The first of several addresses is the address."""
    if "podIP" in status and "podIPs" not in status:
        status["podIPs"] = [{"ip": status["podIP"]}]
    elif status.get("podIPs") and "podIP" not in status:
        status["podIP"] = status["podIPs"][0].get("ip", "")


def _tolerates(toleration: Object, key: object) -> bool:
    return bool(toleration.get("key", key) == key and toleration.get("effect", "NoExecute") == "NoExecute")


def _claim(claim: Object) -> None:
    _defaults(claim["spec"], {"volumeMode": "Filesystem"})


def _secret(secret: Object) -> None:
    if plain := secret.pop("stringData", None):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        secret["data"] = {**secret.get("data", {}), **encoded}
    _defaults(secret, {"type": "Opaque"})


def _service(service: Object) -> None:
    spec = service["spec"]
    _defaults(spec, {"sessionAffinity": "None", "type": "ClusterIP"})
    for port in spec.get("ports", ()):
        _defaults(port, {"protocol": "TCP"})
        if port.get("targetPort", 0) in (0, ""):
            port["targetPort"] = port.get("port", 0)
    service.setdefault("status", {}).setdefault("loadBalancer", {})


def _namespace(namespace: Object) -> None:
    namespace["spec"].setdefault("finalizers", ["kubernetes"])
    labels = namespace["metadata"].setdefault("labels", {})
    labels.setdefault("kubernetes.io/metadata.name", namespace["metadata"].get("name", ""))


def _binding(binding: Object) -> None:
    if not binding["roleRef"].get("apiGroup"):
        binding["roleRef"]["apiGroup"] = RBAC_GROUP
    for subject in binding.get("subjects", ()):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", RBAC_GROUP)


def _role(role: Object) -> None:
    if not role.get("rules"):
        role["rules"] = None


def _deployment(deployment: Object) -> None:
    spec = deployment["spec"]
    _pod_spec(spec["template"]["spec"])
    _defaults(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    _defaults(spec["strategy"], {"type": "RollingUpdate"})
    if spec["strategy"]["type"] == "RollingUpdate":
        spec["strategy"].setdefault("rollingUpdate", {})
        _defaults(spec["strategy"]["rollingUpdate"], {"maxUnavailable": "25%", "maxSurge": "25%"})


def _stateful_set(stateful_set: Object) -> None:
    spec = stateful_set["spec"]
    _pod_spec(spec["template"]["spec"])
    _defaults(spec, {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"})
    _defaults(spec["updateStrategy"], {"type": "RollingUpdate"})
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        spec["updateStrategy"].setdefault("rollingUpdate", {}).setdefault("partition", 0)
    for claim in spec.get("volumeClaimTemplates", ()):
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        _claim(claim)
        claim["status"] = {"phase": "Pending"}


def _job(job: Object) -> None:
    spec = job["spec"]
    _pod_spec(spec["template"]["spec"])
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _defaults(spec, {"parallelism": 1, "backoffLimit": 6})
    if not spec.get("manualSelector"):
        uid, name = job["metadata"].get("uid", ""), job["metadata"].get("name", "")
        spec.setdefault("selector", {"matchLabels": {"controller-uid": uid}})
        labels = spec["template"]["metadata"].setdefault("labels", {})
        _defaults(labels, {"controller-uid": uid, "job-name": name})
        job["metadata"].setdefault("labels", dict(labels))


def _network_policy(policy: Object) -> None:
    spec = policy["spec"]
    _defaults(spec, {"policyTypes": ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]})
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        for port in rule.get("ports", ()):
            _defaults(port, {"protocol": "TCP"})


def _storage_class(storage_class: Object) -> None:
    _defaults(storage_class, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _volume_resource(volume: Object) -> None:
    _defaults(volume["spec"], {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"})
    if (host_path := volume["spec"].get("hostPath")) is not None:
        _defaults(host_path, {"type": ""})


def _node(node: Object) -> None:
    status = node["status"]
    if "capacity" in status:
        _defaults(status, {"allocatable": status["capacity"]})


_FILLERS: dict[str, Callable[[Object], None]] = {
    "ClusterRole": _role,
    "ClusterRoleBinding": _binding,
    "Deployment": _deployment,
    "Job": _job,
    "Namespace": _namespace,
    "NetworkPolicy": _network_policy,
    "Node": _node,
    "PersistentVolume": _volume_resource,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "Role": _role,
    "RoleBinding": _binding,
    "Secret": _secret,
    "Service": _service,
    "StatefulSet": _stateful_set,
    "StorageClass": _storage_class,
}

_FIRST_STATUS: dict[str, Object] = {
    "Namespace": {"phase": "Active"},
    "PersistentVolume": {"phase": "Pending"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "Pod": {"phase": "Pending"},
    "Service": {"loadBalancer": {}},
}


def fill_in(kind: str, document: Object) -> None:
    """Fill in the defaults of a decoded object, in place. To be called for every write, as it may add new parts."""
    filler = _FILLERS.get(kind)
    if filler is not None:
        filler(document)


def fill_in_status(kind: str, status: Object) -> None:
    """Fill in the defaults of a decoded status, in place."""
    if kind == "Pod":
        _addresses(status)


def first_status(kind: str, sent: Object) -> Object:
    """Return the status with which an object of `kind` begins; only a node brings its own."""
    if kind == "Node":
        return sent
    return copy.deepcopy(_first_status(kind))


@cache
def _first_status(kind: str) -> Object:
    empty: Object = decode(kind, {"metadata": {}})["status"]
    return empty | _FIRST_STATUS.get(kind, {})
