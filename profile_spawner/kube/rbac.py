"""Computes the minimal Role that the hub needs for the loaded profiles, and checks whether the hub has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from profile_spawner.policy.kinds import BY_KIND

from .transport import Transport

__all__ = ["missing_rights", "required_rules", "role_binding_manifest", "role_manifest"]

_RBAC = "rbac.authorization.k8s.io"
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# The hub watches its pods. Other objects are only created, read after a lost response, and deleted.
_POD_VERBS = ("create", "delete", "get", "list", "watch")
_OBJECT_VERBS = ("create", "delete", "get")


def required_rules(
    kinds_used: Iterable[str],
    *,
    claims: bool = True,
    delete_claims: bool = True,
    events: bool = True,
    granted: Iterable[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the rules that the hub needs in every namespace where it starts servers.

    Args:
        kinds_used: The kinds that the loaded profiles create, such as `ConfigMap`. Add `Secret` and `Service` for a hub
            that uses KubeSpawner's `internal_ssl` or `services_enabled`.
        claims: Whether KubeSpawner creates PersistentVolumeClaims (`storage_pvc_ensure`).
        delete_claims: Whether a user's claims are deleted with the user (`delete_pvc`), which requires listing them.
        events: Whether KubeSpawner shows events (`events_enabled`).
        granted: The rules of the Roles that profiles create. The hub needs them too, because Kubernetes does not allow
            a client to grant rights that it does not have.

    Returns:
        Sorted `PolicyRule` objects; each resource is in only one of them.
    """
    verbs: dict[tuple[str, str], set[str]] = {("", "pods"): set(_POD_VERBS)}
    if events:
        verbs["", "events"] = {"list", "watch"}
    kinds = {*kinds_used, *(("PersistentVolumeClaim",) if claims else ())}
    for name in kinds:
        kind = BY_KIND[name]
        needed = verbs.setdefault((kind.group, kind.plural), set())
        needed.update(_OBJECT_VERBS)
        if name == "ConfigMap":
            needed.add("list")  # to find the unused ones
    if delete_claims:
        verbs.setdefault(("", "persistentvolumeclaims"), set()).update(("delete", "get", "list"))
    for rule in granted:
        for group in rule.get("apiGroups") or ("",):
            for resource in rule.get("resources") or ():
                verbs.setdefault((group, resource), set()).update(rule.get("verbs") or ())
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), needed in verbs.items():
        merged.setdefault((group, tuple(sorted(needed))), []).append(resource)
    return [
        {"apiGroups": [group], "resources": sorted(resources), "verbs": list(needed)}
        for (group, needed), resources in sorted(merged.items(), key=lambda item: (item[0][0], sorted(item[1])))
    ]


def role_manifest(rules: Sequence[Mapping[str, Any]], *, name: str, namespace: str) -> dict[str, Any]:
    """Return a Role with these rules."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [dict(rule) for rule in rules],
    }


def role_binding_manifest(
    *, name: str, namespace: str, service_account: str, service_account_namespace: str
) -> dict[str, Any]:
    """Return the RoleBinding that binds the Role of the same name to the hub's service account."""
    subject = {"kind": "ServiceAccount", "name": service_account, "namespace": service_account_namespace}
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
        "subjects": [subject],
    }


async def missing_rights(
    api_client: Any,
    rules: Sequence[Mapping[str, Any]],
    namespace: str,
) -> list[dict[str, Any]]:
    """Ask the API server which of these rights the client does not have.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient` with the hub's credentials.
        rules: The required rules; see `required_rules`.
        namespace: The namespace.

    Returns:
        The missing rights, as rules.

    Raises:
        ClusterError: If a request to the API server fails.
    """
    transport = Transport(api_client, log=logging.getLogger(__name__))
    wanted = [
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    gate = asyncio.Semaphore(10)

    async def may(group: str, resource: str, verb: str) -> bool:
        name, _, part = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name}
        if part:
            attributes["subresource"] = part
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        async with gate:
            answer = await transport.call("POST", _REVIEW, what=f"asking for {verb} {resource}", body=body)
        return bool((answer.get("status") or {}).get("allowed"))

    allowed = await asyncio.gather(*(may(*right) for right in wanted))
    lacking: dict[tuple[str, str], list[str]] = {}
    for (group, resource, verb), granted in zip(wanted, allowed, strict=True):
        if not granted:
            lacking.setdefault((group, resource), []).append(verb)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs} for (group, resource), verbs in lacking.items()
    ]
