"""Carries out requests that change objects."""

from __future__ import annotations

from typing import Any

from .defaults import complete, new_object, now
from .failures import StatusError, bad_request, conflict, invalid, not_found
from .kinds import NAMESPACES, PODS
from .patches import apply_patch
from .requests import ResourceRequest
from .selectors import Object
from .store import Item, Store

__all__ = ["bind", "change", "create", "delete", "find_item"]

_FROZEN = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "name", "namespace", "uid")


def find_item(store: Store, request: ResourceRequest) -> Item:
    """Return the object that a request names; `StatusError` 404 where there is none."""
    item = store.get(request.kind, request.namespace, request.name)
    if item is None:
        raise not_found(request.kind.plural, request.name, request.kind.group)
    return item


def create(store: Store, request: ResourceRequest, body: Object) -> Object:
    """Create an object and return it."""
    kind, namespace = request.kind, request.namespace
    document = new_object(kind, namespace, body)
    name = document["metadata"]["name"]
    if namespace is not None and store.get(NAMESPACES, None, namespace) is None:
        raise not_found("namespaces", namespace)
    if store.get(kind, namespace, name) is not None:
        message = f'{kind.qualified} "{name}" already exists'
        raise StatusError(409, "AlreadyExists", message, name=name, kind=kind.plural)
    return document if request.dry_run else store.put(kind, document).document


def bind(store: Store, request: ResourceRequest, body: Object) -> Object:
    """Assign a pod to a node."""
    pod = find_item(store, request)
    wanted = (body.get("metadata") or {}).get("uid")
    taken = pod.document["spec"].get("nodeName") or pod.metadata.get("deletionTimestamp")
    if taken or wanted not in (None, pod.metadata["uid"]):
        raise conflict("pods/binding", pod.name, "the pod is assigned already, being deleted, or another one")
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
    old = pod.document["status"]
    others = [condition for condition in old.get("conditions", ()) if condition["type"] != "PodScheduled"]
    spec = {**pod.document["spec"], "nodeName": body["target"]["name"]}
    store.put(PODS, {**pod.document, "spec": spec, "status": {**old, "conditions": [*others, scheduled]}})
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def change(store: Store, request: ResourceRequest, body: Any, content_type: str) -> Object:
    """Replace or patch an object or its status."""
    old, kind = find_item(store, request), request.kind
    if request.verb == "patch":
        document = apply_patch(old.document, body, content_type)
    else:
        document = {"kind": kind.kind, "apiVersion": kind.api_version, **body}
    sent = (body.get("metadata") or {}) if isinstance(body, dict) else {}
    if sent.get("name", old.name) != old.name:
        raise bad_request("the name of the object does not match the name of the request")
    if sent.get("uid", old.metadata["uid"]) != old.metadata["uid"]:
        raise conflict(kind.qualified, old.name, "the UID in the request is that of another object")
    if sent.get("resourceVersion", str(old.version)) not in ("", str(old.version)):
        raise conflict(kind.qualified, old.name, "the object has been modified; please apply your changes again")
    if request.subresource == "status":
        document = {**old.document, "status": document.get("status", {})}
    else:
        metadata = {key: value for key, value in document["metadata"].items() if key not in _FROZEN}
        metadata |= {key: old.metadata[key] for key in _FROZEN if key in old.metadata}
        document = {**document, "metadata": {**metadata, "resourceVersion": str(old.version)}}
        if kind.status and "status" in old.document:
            document["status"] = old.document["status"]
        complete(document)
        if kind.plural in ("configmaps", "secrets") and old.document.get("immutable"):
            for field in ("immutable", "data", "binaryData"):
                if document.get(field) != old.document.get(field):
                    why = "Forbidden: the object is immutable"
                    raise invalid(kind.kind, old.name, field, why, "FieldValueForbidden")
    if document == old.document or request.dry_run:
        return document
    return store.put(kind, document).document


def delete(store: Store, request: ResourceRequest, options: Object) -> Object:
    """Delete an object and return it, or a `Status`."""
    item = find_item(store, request)
    wanted = options.get("preconditions") or {}
    for key, found in (("uid", item.metadata["uid"]), ("resourceVersion", str(item.version))):
        if wanted.get(key, found) != found:
            why = f"the {key} in the precondition ({wanted[key]}) does not match that of the object ({found})"
            raise conflict(item.kind.qualified, item.name, why)
    if request.dry_run or options.get("dryRun"):
        return item.document
    grace = options.get("gracePeriodSeconds")
    if "gracePeriodSeconds" in request.query:
        grace = request.number("gracePeriodSeconds")
    deleted = store.delete(item, grace)
    if item.kind is PODS or deleted.metadata.get("finalizers"):
        return deleted.document
    details = {"name": item.name, "kind": item.kind.plural, "uid": item.metadata["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
