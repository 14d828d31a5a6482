"""Computes the minimal Role that the hub needs for the loaded profiles, and checks whether the hub has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from profile_spawner.policy.kinds import BY_KIND

from .transport import Transport

__all__ = ["NAMESPACE_RULES", "HubRole", "document_rules", "missing_rights", "required_rules"]

NAMESPACE_RULES: tuple[Mapping[str, Any], ...] = (
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]},
)
"""The further rules for a namespace for each user."""

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
    """Return the rules that the hub needs in every namespace where it starts servers, and further ones.

    Args:
        kinds_used: The kinds that the loaded profiles create, such as `ConfigMap`. Add `Secret` and `Service` for a hub
            that uses KubeSpawner's `internal_ssl` or `services_enabled`.
        claims: Whether KubeSpawner creates PersistentVolumeClaims (`storage_pvc_ensure`).
        delete_claims: Whether a user's claims are deleted with the user (`delete_pvc`), which requires listing them.
        events: Whether KubeSpawner shows events (`events_enabled`).
        granted: Further rules, such as those of the Roles that profiles create. The hub needs these too, because
            Kubernetes does not allow a client to grant rights that it does not have.

    Returns:
        Sorted `PolicyRule` objects. Each resource is in only one of them, apart from rules with `resourceNames`.
    """
    verbs: dict[tuple[str, str], set[str]] = {("", "pods"): set(_POD_VERBS)}
    if events:
        verbs["", "events"] = {"list", "watch"}
    for name in sorted(kinds_used):
        kind = BY_KIND[name]
        verbs.setdefault((kind.group, kind.plural), set()).update(_OBJECT_VERBS)
        if name == "ConfigMap":
            verbs[kind.group, kind.plural].add("list")  # to find the unused ones
        if name == "StatefulSet":
            verbs.setdefault(("", "persistentvolumeclaims"), set()).add("get")  # whose are those that it would use?
    for wanted, claim_verbs in ((claims, ("create", "get")), (delete_claims, ("delete", "get", "list"))):
        if wanted:
            verbs.setdefault(("", "persistentvolumeclaims"), set()).update(claim_verbs)
    named = [dict(rule) for rule in granted if rule.get("resourceNames")]
    for rule in (rule for rule in granted if not rule.get("resourceNames")):
        for group in rule.get("apiGroups") or ("",):
            for resource in rule.get("resources") or ():
                verbs.setdefault((group, resource), set()).update(rule.get("verbs") or ())
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), needed in verbs.items():
        merged.setdefault((group, tuple(sorted(needed))), []).append(resource)
    return [
        *(
            {"apiGroups": [group], "resources": sorted(resources), "verbs": list(needed)}
            for (group, needed), resources in sorted(merged.items(), key=lambda item: (item[0][0], sorted(item[1])))
        ),
        *named,
    ]


def document_rules(watched: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the rules for ConfigMaps and Secrets with profiles: they are watched, and Events say what is wrong.

    Args:
        watched: Pairs of a kind and the name of an object; the name is empty for all objects of the kind.
    """
    names: dict[str, set[str]] = {}
    for kind, name in watched:
        names.setdefault(kind, set()).add(name)
    rules = [
        {
            "apiGroups": [""],
            "resources": [BY_KIND[kind].plural],
            **({} if "" in found else {"resourceNames": sorted(found)}),
            "verbs": ["list", "watch"],
        }
        for kind, found in sorted(names.items())
    ]
    # An Event that is repeated is counted up.
    return [*rules, {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}] if rules else []


class HubRole(NamedTuple):
    """Rights of the hub in one place.

    Attributes:
        namespace: The namespace of the Role; `None` for a ClusterRole.
        rules: Its rules.
    """

    namespace: str | None
    rules: list[dict[str, Any]]

    def manifests(
        self, *, name: str, service_account: str, service_account_namespace: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the Role and the RoleBinding that binds it to the hub's service account, or their cluster twins.

        Args:
            name: The name of both. A cluster object gets the service account's namespace as prefix.
            service_account: The hub's service account.
            service_account_namespace: Its namespace.
        """
        scope = "" if self.namespace is not None else "Cluster"
        name = name if self.namespace is not None else f"{service_account_namespace}-{name}"
        metadata = {"name": name, **({"namespace": self.namespace} if self.namespace is not None else {})}
        subject = {"kind": "ServiceAccount", "name": service_account, "namespace": service_account_namespace}
        role = {"apiVersion": f"{_RBAC}/v1", "kind": f"{scope}Role", "metadata": metadata, "rules": self.rules}
        binding = {
            "apiVersion": f"{_RBAC}/v1",
            "kind": f"{scope}RoleBinding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": _RBAC, "kind": f"{scope}Role", "name": name},
            "subjects": [subject],
        }
        return role, binding


async def missing_rights(
    api_client: Any,
    rules: Sequence[Mapping[str, Any]],
    namespace: str | None,
) -> list[dict[str, Any]]:
    """Ask the API server which of these rights the client does not have.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient` with the hub's credentials.
        rules: The required rules; see `required_rules`.
        namespace: The namespace; `None` asks for the rights in the whole cluster.

    Returns:
        The missing rights, as rules.

    Raises:
        ClusterError: If a request to the API server fails.
    """
    transport = Transport(api_client, log=logging.getLogger(__name__))
    wanted = [
        (group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or ("",)
    ]
    gate = asyncio.Semaphore(10)

    async def may(group: str, resource: str, verb: str, name: str) -> bool:
        plural, _, part = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": plural}
        optional = {"namespace": namespace, "subresource": part, "name": name}
        attributes.update({key: value for key, value in optional.items() if value})
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        async with gate:
            answer = await transport.call("POST", _REVIEW, what=f"asking for {verb} {resource}", body=body)
        return bool((answer.get("status") or {}).get("allowed"))

    allowed = await asyncio.gather(*(may(*right) for right in wanted))
    lacking: dict[tuple[str, str, str], list[str]] = {}
    for (group, resource, verb, name), granted in zip(wanted, allowed, strict=True):
        if not granted:
            lacking.setdefault((group, resource, name), []).append(verb)
    return [
        {"apiGroups": [group], "resources": [resource], **({"resourceNames": [name]} if name else {}), "verbs": verbs}
        for (group, resource, name), verbs in lacking.items()
    ]
