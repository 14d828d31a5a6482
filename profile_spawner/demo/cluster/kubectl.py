"""Serves what kubectl needs besides objects: discovery, a minimal OpenAPI document, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import cache
from typing import Any

from .kinds import KINDS, ResourceType
from .selectors import Object, dig
from .store import Item

__all__ = ["discovery", "table"]

_MINOR = "32"
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_REVIEW = "SelfSubjectAccessReview"
_GROUPS = [*dict.fromkeys(kind.group for kind in KINDS if kind.group), "authorization.k8s.io"]


@cache
def discovery(path: str) -> Object | None:
    """Return the document at a path by which clients discover the server, None for all other paths."""
    root, *parts = [part for part in path.split("/") if part] or [""]
    if root == "openapi":
        return _openapi(parts)
    if (root, parts) == ("version", []):
        return {"major": "1", "minor": _MINOR, "gitVersion": f"v1.{_MINOR}.0+local"}
    if (root, parts) == ("api", []):
        return {"kind": "APIVersions", "versions": ["v1"]}
    if (root, parts) == ("apis", []):
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in _GROUPS]}
    version = "/".join(parts)
    if (root, version) == ("api", "v1") or (root == "apis" and version in [f"{group}/v1" for group in _GROUPS]):
        entries = [entry for kind in KINDS if kind.api_version == version for entry in _entries(kind)]
        if version == "authorization.k8s.io/v1":
            entries = [_entry(f"{_REVIEW.lower()}s", _REVIEW, namespaced=False, verbs=["create"])]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": entries}
    return None


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _entry(name: str, kind: str, *, namespaced: bool, verbs: list[str], **more: Any) -> Object:
    return {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs, **more}


def _entries(kind: ResourceType) -> list[Object]:
    more: Object = {"shortNames": list(kind.short_names)} if kind.short_names else {}
    if kind.kind in ("Pod", "Service", "Deployment", "StatefulSet", "Job"):
        more["categories"] = ["all"]
    more["singularName"] = kind.kind.lower()
    entries = [_entry(kind.plural, kind.kind, namespaced=kind.namespaced, verbs=_VERBS, **more)]
    for name in (*kind.subresources, *(["status"] if kind.status else [])):
        verbs = {"status": ["get", "patch", "update"], "log": ["get"]}.get(name, ["create"])
        shown = "Binding" if name == "binding" else kind.kind
        entries.append(_entry(f"{kind.plural}/{name}", shown, namespaced=kind.namespaced, verbs=verbs))
    return entries


def _openapi(parts: list[str]) -> Object | None:
    """Return the documents that kubectl reads before it writes.

    They name the kinds and say that the server checks fields, so that kubectl does not ask for schemas to do it. (The
    server accepts any field.) For merging, kubectl then uses the types that are built into it.
    """
    places = [f"apis/{v}" if "/" in v else f"api/{v}" for v in dict.fromkeys(kind.api_version for kind in KINDS)]
    if parts == ["v3"]:
        return {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}?hash=1"} for place in places}}
    if parts[:1] != ["v3"] or "/".join(parts[1:]) not in places:
        return None
    parameters = [{"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation")]
    paths: Object = {}
    for kind in KINDS:
        named = {"group": kind.group, "version": "v1", "kind": kind.kind}
        operation = {"parameters": parameters, "responses": {}, "x-kubernetes-group-version-kind": named}
        paths[f"/{kind.plural}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "local"}, "paths": paths}


# ---------------------------------------------------------------------------------------------------------- tables


def table(kind: ResourceType, items: Iterable[Item], version: int) -> Object:
    """Return the `Table` from which `kubectl get` prints."""
    columns = _COLUMNS.get(kind.kind, {})
    usual = [name for name in columns if name not in _WIDE]
    names = ["Name", *usual, "Age", *(name for name in columns if name in _WIDE)] if kind.kind != "Event" else usual
    definitions = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "priority": int(name in _WIDE)}
        for name in names
    ]
    cells = {"Name": lambda document: document["metadata"]["name"], **columns, "Age": _age}
    rows = []
    for item in items:
        head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item.metadata}
        rows.append({"cells": [cells[name](item.document) for name in names], "object": head})
    metadata = {"resourceVersion": str(version)}
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return {**head, "columnDefinitions": definitions, "rows": rows}


def _since(text: str | None) -> str:
    if not text:
        return "<unknown>"
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    seconds = max(0, int((datetime.now(timezone.utc) - moment).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _age(document: Object) -> str:
    return _since(document["metadata"].get("creationTimestamp"))


def _at(path: str) -> Callable[[Object], Any]:
    return lambda document: str(dig(document, path) or "<none>")


def _data(document: Object) -> int:
    return sum(len(document.get(field) or ()) for field in ("data", "binaryData"))


def _pod_status(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = pod["status"]
    for index, state in enumerate(status.get("initContainerStatuses", ())):
        if dig(state, "state.terminated.exitCode") != 0 and not state.get("started"):
            reason = dig(state, "state.waiting.reason") or dig(state, "state.terminated.reason")
            total = len(pod["spec"].get("initContainers", ()))
            return f"Init:{reason}" if reason and reason != "PodInitializing" else f"Init:{index}/{total}"
    for state in status.get("containerStatuses", ()):
        if reason := dig(state, "state.waiting.reason") or dig(state, "state.terminated.reason"):
            return str(reason)
    return str(status.get("reason") or status.get("phase", "Unknown"))


def _pod_ready(pod: Object) -> str:
    states = pod["status"].get("containerStatuses", ())
    return f"{sum(bool(state.get('ready')) for state in states)}/{len(pod['spec']['containers'])}"


def _restarts(pod: Object) -> int:
    return sum(state.get("restartCount", 0) for state in pod["status"].get("containerStatuses", ()))


def _about(event: Object) -> str:
    subject = event.get("involvedObject", {})
    return f"{subject.get('kind', '').lower()}/{subject.get('name', '')}"


_WIDE = ("IP", "Node")
"""Columns that are shown with `-o wide` only."""

_COLUMNS: dict[str, dict[str, Callable[[Object], Any]]] = {
    "ConfigMap": {"Data": _data},
    "Event": {
        "Last Seen": lambda event: _since(event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]),
        "Type": _at("type"),
        "Reason": _at("reason"),
        "Object": _about,
        "Message": _at("message"),
    },
    "Namespace": {"Status": _at("status.phase")},
    "Node": {"Status": lambda node: "Ready"},
    "PersistentVolumeClaim": {"Status": _at("status.phase"), "Capacity": _at("status.capacity.storage")},
    "Pod": {
        "Ready": _pod_ready,
        "Status": _pod_status,
        "Restarts": _restarts,
        "IP": _at("status.podIP"),
        "Node": _at("spec.nodeName"),
    },
    "Secret": {"Type": _at("type"), "Data": _data},
}
"""What stands between name and age."""
