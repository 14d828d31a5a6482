"""Adds the API server's defaults to a new object: only those that the hub, the kubelet or kubectl read."""

from __future__ import annotations

import base64
import copy
import secrets
import uuid
from datetime import datetime, timedelta, timezone

from .failures import bad_request, invalid
from .kinds import ResourceType
from .selectors import Object

__all__ = ["complete", "new_object", "now"]


def now(later: float = 0) -> str:
    """Return the present time, or that of some seconds `later`, as Kubernetes writes it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_object(kind: ResourceType, namespace: str | None, body: Object) -> Object:
    """Return the object that a request to create `body` makes.

    Raises:
        StatusError: 400 or 422, where it has no name, or another namespace than the request.
    """
    document = {"kind": kind.kind, "apiVersion": kind.api_version, **copy.deepcopy(body)}
    if (document["kind"], document["apiVersion"]) != (kind.kind, kind.api_version):
        raise bad_request(f"the object is a {document['kind']}, the request is about {kind.qualified}")
    metadata = document["metadata"] = dict(document.get("metadata") or {})
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
    if not metadata.get("name"):
        raise invalid(kind.kind, "", "metadata.name", "Required value: name or generateName is required")
    if (metadata.get("namespace") or namespace) != namespace:
        raise bad_request("the namespace of the object does not match the namespace of the request")
    metadata.pop("namespace", None)
    if namespace is not None:
        metadata["namespace"] = namespace
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"):
        metadata.pop(field, None)
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
    if kind.status and kind.kind != "Node":
        document.pop("status", None)
    complete(document)
    return document


def complete(document: Object) -> None:
    """Add defaults to an object, in place, where they are missing."""
    add = {"Namespace": _namespace, "PersistentVolumeClaim": _claim, "Pod": _pod, "Secret": _secret}
    if document["kind"] in add:
        add[document["kind"]](document)


def _namespace(namespace: Object) -> None:
    namespace.setdefault("status", {"phase": "Active"})
    labels = namespace["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = namespace["metadata"]["name"]


def _claim(claim: Object) -> None:
    claim.setdefault("status", {"phase": "Pending"})


def _secret(secret: Object) -> None:
    secret.setdefault("type", "Opaque")
    for key, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _pod(pod: Object) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict) or not spec.get("containers"):
        raise invalid("Pod", pod["metadata"]["name"], "spec.containers", "Required value")
    spec.setdefault("restartPolicy", "Always")
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    for container in containers:
        resources = container["resources"] = container.get("resources") or {}
        for part in ("limits", "requests"):
            if resources.get(part):  # `0.5` becomes `"0.5"`
                resources[part] = {name: str(amount) for name, amount in resources[part].items()}
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
    asked = any(container["resources"].get("requests") for container in containers)
    pod.setdefault("status", {"phase": "Pending", "qosClass": "Burstable" if asked else "BestEffort"})
