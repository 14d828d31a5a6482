"""Lists and objects in the forms that clients ask for: plain, metadata only, or the tables that kubectl prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .answers import Object
from .kinds import ResourceType
from .listing import Page
from .schema import parse_time
from .selectors import dig
from .store import Stored

__all__ = ["METADATA", "PLAIN", "TABLE", "form_wanted", "list_body", "metadata_list", "table"]

PLAIN, METADATA, TABLE = "plain", "metadata", "table"
_META = "meta.k8s.io/v1"


def form_wanted(accept: str) -> str:
    """Return the form that an `Accept` header prefers among those that there are."""
    for part in accept.split(","):
        if "v=v1beta1" in part:
            continue
        if "as=Table" in part:
            return TABLE
        if "as=PartialObjectMetadata" in part:
            return METADATA
        if part.strip() in ("application/json", "*/*"):
            break
    return PLAIN


def list_body(kind: ResourceType, page: Page) -> bytes:
    """Return a list as JSON, put together from objects that are serialised already."""
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": page.metadata}
    start = json.dumps(head, separators=(",", ":")).encode()[:-1]
    return b'%s,"items":[%s]}' % (start, b",".join(stored.raw_item for stored in page.items))


def metadata_list(page: Page) -> Object:
    """Return a list of names, labels and the like, without what is in the objects."""
    form = {"kind": "PartialObjectMetadata", "apiVersion": _META}
    items = [{**form, "metadata": stored.metadata} for stored in page.items]
    return {"kind": "PartialObjectMetadataList", "apiVersion": _META, "metadata": page.metadata, "items": items}


# ----------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: The heading.
        cell: Given the object, what stands in its row.
        wide: Whether it is shown with `-o wide` only.
    """

    name: str
    cell: Callable[[Object], Any]
    wide: bool = False


def table(kind: ResourceType, items: Iterable[Stored], metadata: Mapping[str, Any], *, whole: bool = False) -> Object:
    """Return a `Table`.

    Args:
        kind: The resource.
        items: The rows.
        metadata: The metadata of the list, or of the object.
        whole: Whether each row carries the whole object rather than its metadata.
    """
    columns = _COLUMNS.get(kind.kind, _DEFAULT)
    definitions = [
        {
            "name": column.name,
            "type": "string",
            "format": "name" if column.name == "Name" else "",
            "description": "",
            "priority": int(column.wide),
        }
        for column in columns
    ]
    rows = [
        {"cells": [column.cell(stored.document) for column in columns], "object": _row_object(stored, whole=whole)}
        for stored in items
    ]
    return {
        "kind": "Table",
        "apiVersion": _META,
        "metadata": dict(metadata),
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _row_object(stored: Stored, *, whole: bool) -> Object:
    if whole:
        return stored.document
    return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": stored.metadata}


def _age(text: str | None) -> str:
    if not text:
        return "<unknown>"
    seconds = max(0, int((datetime.now(timezone.utc) - parse_time(text)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _at(path: str, default: Any = "<none>") -> Callable[[Object], Any]:
    def cell(document: Object) -> Any:
        found = dig(document, path)
        return default if found in (None, "") else found

    return cell


def _count(*fields: str) -> Callable[[Object], Any]:
    return lambda document: sum(len(document.get(field) or ()) for field in fields)


def _pod_status(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = pod.get("status", {})
    for index, state in enumerate(status.get("initContainerStatuses", ())):
        if not dig(state, "state.terminated") or dig(state, "state.terminated.exitCode"):
            reason = dig(state, "state.waiting.reason") or dig(state, "state.terminated.reason")
            total = len(pod["spec"].get("initContainers", ()))
            return f"Init:{reason}" if reason and reason != "PodInitializing" else f"Init:{index}/{total}"
    for state in status.get("containerStatuses", ()):
        if reason := dig(state, "state.waiting.reason") or dig(state, "state.terminated.reason"):
            return str(reason)
    return str(status.get("reason") or status.get("phase", "Unknown"))


def _pod_ready(pod: Object) -> str:
    states = pod.get("status", {}).get("containerStatuses", ())
    return f"{sum(bool(state.get('ready')) for state in states)}/{len(pod['spec']['containers'])}"


def _restarts(pod: Object) -> int:
    return sum(state.get("restartCount", 0) for state in pod.get("status", {}).get("containerStatuses", ()))


def _ports(service: Object) -> str:
    return ",".join(f"{port['port']}/{port['protocol']}" for port in service["spec"].get("ports", ())) or "<none>"


def _node_status(node: Object) -> str:
    conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions", ())}
    word = {"True": "Ready", "False": "NotReady"}.get(conditions.get("Ready", ""), "Unknown")
    return word + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _about(event: Object) -> str:
    subject = event.get("involvedObject", {})
    return f"{subject.get('kind', '').lower()}/{subject.get('name', '')}"


def _last_seen(event: Object) -> str:
    return _age(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))


def _replicas(document: Object) -> str:
    status = document.get("status", {})
    return f"{status.get('readyReplicas', 0)}/{document['spec'].get('replicas', 0)}"


def _role_of(binding: Object) -> str:
    return f"{binding['roleRef']['kind']}/{binding['roleRef']['name']}"


def _access_modes(document: Object) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(mode, mode) for mode in dig(document, "status.accessModes") or ())


_NAME = Column("Name", _at("metadata.name"))
_AGE = Column("Age", lambda document: _age(document["metadata"].get("creationTimestamp")))
_DEFAULT = (_NAME, _AGE)
_WORKLOAD = (_NAME, Column("Ready", _replicas), Column("Up-to-date", _at("status.updatedReplicas", 0)), _AGE)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "ClusterRoleBinding": (_NAME, Column("Role", _role_of), _AGE),
    "ConfigMap": (_NAME, Column("Data", _count("data", "binaryData")), _AGE),
    "Deployment": _WORKLOAD,
    "Event": (
        Column("Last Seen", _last_seen),
        Column("Type", _at("type")),
        Column("Reason", _at("reason")),
        Column("Object", _about),
        Column("Message", lambda event: event.get("message", "").strip()),
    ),
    "Namespace": (_NAME, Column("Status", _at("status.phase")), _AGE),
    "Node": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", lambda _: "<none>"),
        _AGE,
        Column("Version", _at("status.nodeInfo.kubeletVersion")),
    ),
    "PersistentVolumeClaim": (
        _NAME,
        Column("Status", _at("status.phase")),
        Column("Volume", _at("spec.volumeName", "")),
        Column("Capacity", _at("status.capacity.storage", "")),
        Column("Access Modes", _access_modes),
        Column("StorageClass", _at("spec.storageClassName", "")),
        _AGE,
    ),
    "Pod": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        Column("IP", _at("status.podIP"), wide=True),
        Column("Node", _at("spec.nodeName"), wide=True),
    ),
    "RoleBinding": (_NAME, Column("Role", _role_of), _AGE),
    "Secret": (_NAME, Column("Type", _at("type")), Column("Data", _count("data")), _AGE),
    "Service": (
        _NAME,
        Column("Type", _at("spec.type")),
        Column("Cluster-IP", _at("spec.clusterIP")),
        Column("External-IP", _at("spec.externalName")),
        Column("Port(s)", _ports),
        _AGE,
    ),
    "StatefulSet": (_NAME, Column("Ready", _replicas), _AGE),
}
