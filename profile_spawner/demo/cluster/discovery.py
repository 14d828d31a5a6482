"""What the API server says about itself: versions, groups, resources."""

from __future__ import annotations

import platform
from functools import cache

from .answers import Object
from .kinds import ALL_VERBS, KINDS, ResourceType

__all__ = ["VERSION", "answer"]

VERSION = "v1.32.0"
"""The version of Kubernetes whose behaviour clients may expect."""

SUBRESOURCE_KINDS = {"binding": "Binding", "eviction": "Eviction"}


@cache
def answer(path: str) -> Object | None:
    """Return the document at a discovery path, None for all other paths."""
    parts = [part for part in path.split("/") if part]
    if parts == ["version"]:
        _, major_minor = VERSION.split("v", 1)
        major, minor, _ = major_minor.split(".")
        system = f"{platform.system().lower()}/{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'amd64'}"
        return {"major": major, "minor": minor, "gitVersion": f"{VERSION}+local", "platform": system}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if parts == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in _groups()]}
    if len(parts) == 2 and parts[0] == "apis" and parts[1] in _groups():
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
    if parts and parts[0] in ("api", "apis"):
        return _resources("/".join(parts[1:]))
    return None


@cache
def _groups() -> dict[str, str]:
    groups = {kind.group: kind.version for kind in KINDS if kind.group}
    return groups | {"authorization.k8s.io": "v1"}


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/{_groups()[name]}", "version": _groups()[name]}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group_version: str) -> Object | None:
    found = [entry for kind in KINDS if kind.api_version == group_version for entry in _entries(kind)]
    if group_version == "authorization.k8s.io/v1":
        found = [
            {"name": f"{kind.lower()}s", "singularName": "", "namespaced": False, "kind": kind, "verbs": ["create"]}
            for kind in ("SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview")
        ]
    if not found:
        return None
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}


def _entries(kind: ResourceType) -> list[Object]:
    entry: Object = {
        "name": kind.plural,
        "singularName": kind.kind.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(ALL_VERBS),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    entries = [entry]
    for name in (*kind.subresources, *(["status"] if kind.status else [])):
        verbs = {"status": ["get", "patch", "update"], "log": ["get"]}.get(name, ["create"])
        shown = SUBRESOURCE_KINDS.get(name, kind.kind)
        entries.append(
            {
                "name": f"{kind.plural}/{name}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": shown,
                "verbs": verbs,
            }
        )
    return entries
