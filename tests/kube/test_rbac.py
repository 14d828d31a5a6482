"""The printed Role is the smallest that works, and the check finds what is missing."""

from __future__ import annotations

from typing import Any

from kubernetes_asyncio.client import ApiClient

from profile_spawner.kube.rbac import HubRole, document_rules, missing_rights, required_rules
from profile_spawner.policy.settings import DEFAULT_KINDS, OPT_IN_KINDS
from tests.control_plane import ControlPlane

from .conftest import HUB_USER


def rights(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return the single rights in the rules."""
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def test_plain_hub() -> None:
    """Without any profile that brings objects, there is nothing but what KubeSpawner itself does."""
    assert required_rules(()) == [
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["create", "delete", "get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "watch"]},
    ]
    assert rights(required_rules((), claims=False, delete_claims=False, events=False)) == {
        ("", "pods", verb) for verb in ("create", "delete", "get", "list", "watch")
    }


def test_only_what_is_used() -> None:
    """A kind that no profile brings is not in the Role; only ConfigMaps and claims are listed."""
    assert not any(resource == "secrets" for _, resource, _ in rights(required_rules(["ConfigMap"])))
    listed = {resource for _, resource, verb in rights(required_rules(DEFAULT_KINDS)) if verb == "list"}
    assert listed == {"configmaps", "events", "persistentvolumeclaims", "pods"}
    without = rights(required_rules(DEFAULT_KINDS, delete_claims=False))
    assert ("", "persistentvolumeclaims", "list") not in without


def test_nothing_dangerous_is_ever_asked_for() -> None:
    """No wildcard, no change of existing objects, no escalation, whatever the profiles bring."""
    for group, resource, verb in rights(required_rules(DEFAULT_KINDS | OPT_IN_KINDS)):
        assert "*" not in (group, resource, verb)
        assert verb in {"create", "delete", "get", "list", "watch"}


def test_granted_roles_are_held_by_the_hub() -> None:
    """Kubernetes lets the hub grant only what it may do itself, so its Role contains what its profiles grant."""
    rule = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["watch"]}
    assert ("batch", "jobs", "watch") in rights(required_rules(["Role", "RoleBinding"], granted=[rule]))


async def test_the_manifests_are_accepted(control_plane: ControlPlane, namespace: str) -> None:
    """What is printed can be applied as it is."""
    root = "/apis/rbac.authorization.k8s.io/v1"
    names = {"name": "hub", "service_account": "hub", "service_account_namespace": namespace}
    for scope, place in (("", namespace), ("cluster", None)):
        role, binding = HubRole(place, required_rules(DEFAULT_KINDS)).manifests(**names)
        collection = root if place is None else f"{root}/namespaces/{place}"
        await control_plane.ok("POST", f"{collection}/{scope}roles", role)
        await control_plane.ok("POST", f"{collection}/{scope}rolebindings", binding)


async def test_the_check_names_what_is_missing(
    api_client: ApiClient, control_plane: ControlPlane, namespace: str
) -> None:
    """Rights that the hub has are not reported, rights that it lacks are, one by one."""
    everything = required_rules(DEFAULT_KINDS | OPT_IN_KINDS)
    assert await missing_rights(api_client, everything, namespace) == []
    more = [{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["create", "patch"]}]
    assert await missing_rights(api_client, more, namespace) == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "patch"]},
    ]
    assert await missing_rights(api_client, everything[:1], "elsewhere") == [
        {"apiGroups": [""], "resources": [resource], "verbs": everything[0]["verbs"]}
        for resource in everything[0]["resources"]
    ]


async def test_rights_for_single_objects(api_client: ApiClient, control_plane: ControlPlane, namespace: str) -> None:
    """The rights for ConfigMaps by name are exactly these, and the check asks for each name."""
    rules = document_rules([("Secret", "a"), ("Secret", "b")])
    assert rules[0] == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["a", "b"],
        "verbs": ["list", "watch"],
    }
    assert document_rules([("ConfigMap", "a"), ("ConfigMap", "")])[0]["verbs"] == ["list", "watch"]
    assert "resourceNames" not in document_rules([("ConfigMap", "a"), ("ConfigMap", "")])[0]
    assert document_rules([]) == []
    await control_plane.grant(namespace, HUB_USER, [{**rules[0], "resourceNames": ["a"]}])
    assert await missing_rights(api_client, rules[:1], namespace) == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["b"], "verbs": ["list", "watch"]}
    ]
    assert rules[0] in required_rules(["Secret"], granted=rules)
