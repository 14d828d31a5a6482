"""Role-based access control, decided from the Roles and bindings that are in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TypeAlias

from .answers import Object, StatusError, forbidden
from .kinds import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, KINDS, ROLE_BINDINGS, ROLES
from .requests import ADMINS, ApiRequest, User
from .selectors import match_label_selector
from .store import Change, Store

__all__ = ["Authorizer", "bootstrap_roles", "denied"]

RBAC = "rbac.authorization.k8s.io"
_GRANTING = frozenset({"roles", "clusterroles", "rolebindings", "clusterrolebindings"})

Question: TypeAlias = tuple[str, str, str, str | None, str]
"""verb, API group, resource with subresource, namespace (None: the whole cluster), name."""


def _has(granted: Iterable[str] | None, wanted: str) -> bool:
    return any(item in ("*", wanted) for item in granted or ())


def _has_resource(granted: Iterable[str] | None, resource: str) -> bool:
    _, slash, subresource = resource.partition("/")
    return any(item in ("*", resource) or (slash and item == f"*/{subresource}") for item in granted or ())


def rule_allows(rule: Object, verb: str, group: str, resource: str, name: str) -> bool:
    """Tell whether one rule of a role allows something."""
    if not (_has(rule.get("verbs"), verb) and _has(rule.get("apiGroups"), group)):
        return False
    if not _has_resource(rule.get("resources"), resource):
        return False
    names = rule.get("resourceNames")
    return not names or (bool(name) and name in names)


class Authorizer:
    """Answers who may do what.

    Args:
        store: Where Roles, ClusterRoles and their bindings are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[tuple[User, str | None], list[Object]] = {}
        self._answers: dict[tuple[User, Question], bool] = {}
        store.listen(self._notice)

    def _notice(self, change: Change) -> None:
        if change.new.kind.group == RBAC:
            self._rules.clear()
            self._answers.clear()

    def rules(self, user: User, namespace: str | None) -> list[Object]:
        """Return the rules that apply to `user` in a namespace, or in the whole cluster for None."""
        found = self._rules.get((user, namespace))
        if found is None:
            found = list(self._find_rules(user, namespace))
            self._rules[user, namespace] = found
        return found

    def _find_rules(self, user: User, namespace: str | None) -> Iterator[Object]:
        for binding in self._store.select(CLUSTER_ROLE_BINDINGS):
            if _binds(binding.document, user, None):
                yield from self.role_rules(binding.document["roleRef"], None)
        if namespace is not None:
            for binding in self._store.select(ROLE_BINDINGS, namespace):
                if _binds(binding.document, user, namespace):
                    yield from self.role_rules(binding.document["roleRef"], namespace)

    def role_rules(self, reference: Object, namespace: str | None) -> list[Object]:
        """Return the rules of the role that a binding refers to; none where it does not exist."""
        if reference["kind"] == "ClusterRole":
            role = self._store.get(CLUSTER_ROLES, None, reference["name"])
        else:
            role = self._store.get(ROLES, namespace, reference["name"])
        if role is None:
            return []
        rules: list[Object] = list(role.document.get("rules") or ())
        for selector in (role.document.get("aggregationRule") or {}).get("clusterRoleSelectors", ()):
            for other in self._store.select(CLUSTER_ROLES):
                if other.name != role.name and match_label_selector(selector, other.metadata.get("labels") or {}):
                    rules += other.document.get("rules") or ()
        return rules

    def allows(self, user: User, verb: str, group: str, resource: str, namespace: str | None, name: str = "") -> bool:
        """Tell whether `user` may do something.

        Args:
            user: Who.
            verb: `create`, `list`, ...
            group: The API group.
            resource: The plural, with a subresource: `pods/log`.
            namespace: Where; None for the whole cluster.
            name: Which object; empty for a collection.
        """
        if user.is_admin:
            return True
        question: Question = (verb, group, resource, namespace, name)
        answer = self._answers.get((user, question))
        if answer is None:
            allows = partial(rule_allows, verb=verb, group=group, resource=resource, name=name)
            answer = any(allows(rule) for rule in self.rules(user, namespace))
            if len(self._answers) > 50_000:
                self._answers.clear()
            self._answers[user, question] = answer
        return answer

    def check(self, request: ApiRequest) -> None:
        """Let a request pass.

        Raises:
            StatusError: 403.
        """
        if request.user.is_admin:
            return
        kind = request.kind
        resource = kind.plural + (f"/{request.subresource}" if request.subresource else "")
        name = request.name
        if not name and request.verb in ("list", "watch", "deletecollection"):
            field = request.query.get("fieldSelector", "")
            name = field.removeprefix("metadata.name=") if field.startswith("metadata.name=") else ""
        namespace = request.namespace
        if kind.plural == "namespaces" and request.name:
            namespace = request.name
        if not self.allows(request.user, request.verb, kind.group, resource, namespace, name):
            raise denied(request.user, request.verb, kind.group, resource, request.namespace, request.name)

    # ------------------------------------------------------------------------------------------------ no escalation

    def check_grant(self, request: ApiRequest, document: Object) -> None:
        """Refuse to let a user grant more than they have.

        Raises:
            StatusError: 403, naming the rules that are missing.
        """
        kind, user = request.kind, request.user
        if user.is_admin or kind.group != RBAC or kind.plural not in _GRANTING:
            return
        name = document["metadata"].get("name", "")
        if kind.plural in ("roles", "clusterroles"):
            if self.allows(user, "escalate", RBAC, kind.plural, request.namespace, name):
                return
            wanted = document.get("rules") or []
        else:
            reference = document["roleRef"]
            plural = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
            if self.allows(user, "bind", RBAC, plural, request.namespace, reference["name"]):
                return
            wanted = self.role_rules(reference, request.namespace)
        owned = self.rules(user, request.namespace)
        missing = [rule for rule in wanted if not _covered(rule, owned)]
        if missing:
            groups = ", ".join(f'"{group}"' for group in sorted(user.groups))
            listed = "\n".join(_show_rule(rule) for rule in missing)
            why = (
                f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
            )
            raise forbidden(kind.plural, kind.group, name, why + listed)

    # ------------------------------------------------------------------------------------------------------- reviews

    def review_access(self, user: User, attributes: Object) -> Object:
        """Return the `status` of an access review."""
        if "resourceAttributes" not in attributes:
            return {"allowed": True, "reason": "paths that are no resources are open to everybody who is known"}
        wanted = attributes["resourceAttributes"]
        resource = wanted.get("resource", "")
        if wanted.get("subresource"):
            resource += f"/{wanted['subresource']}"
        allowed = self.allows(
            user,
            wanted.get("verb", ""),
            wanted.get("group", ""),
            resource,
            wanted.get("namespace") or None,
            wanted.get("name", ""),
        )
        return {"allowed": allowed} if not allowed else {"allowed": True, "reason": "RBAC: allowed by a binding"}

    def review_rules(self, user: User, namespace: str) -> Object:
        """Return the `status` of a `SelfSubjectRulesReview`."""
        rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}] if user.is_admin else []
        rules += [dict(rule) for rule in self.rules(user, namespace) if rule.get("resources")]
        return {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}


def denied(user: User, verb: str, group: str, resource: str, namespace: str | None, name: str) -> StatusError:
    """Return the 403 for something that no rule allows."""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    why = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{group}" {where}'
    return forbidden(resource.partition("/")[0], group, name, why)


def _binds(binding: Object, user: User, namespace: str | None) -> bool:
    return any(_is_subject(subject, user, namespace) for subject in binding.get("subjects") or ())


def _is_subject(subject: Object, user: User, namespace: str | None) -> bool:
    kind, name = subject["kind"], subject["name"]
    if kind == "User":
        return bool(name == user.name)
    if kind == "Group":
        return name in user.groups
    space = subject.get("namespace") or namespace
    return kind == "ServiceAccount" and user.name == f"system:serviceaccount:{space}:{name}"


def _covered(rule: Object, owned: list[Object]) -> bool:
    """Tell whether `owned` allow everything that `rule` does."""
    if rule.get("nonResourceURLs"):
        return False
    return all(
        any(rule_allows(mine, verb, group, resource, name) for mine in owned)
        for verb in rule.get("verbs") or ()
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for name in rule.get("resourceNames") or ("",)
    )


def _show_rule(rule: Object) -> str:
    parts = []
    for key, title in (
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    ):
        if rule.get(key):
            listed = " ".join(f'"{item}"' for item in rule[key])
            parts.append(f"{title}:[{listed}]")
    return "{" + ", ".join(parts) + "}"


def bootstrap_roles() -> Iterator[tuple[str, Object]]:
    """Yield the plural and the document of the ClusterRoles and bindings that every cluster has."""
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    yield "clusterroles", {"metadata": {"name": "cluster-admin"}, "rules": everything}
    yield (
        "clusterrolebindings",
        {
            "metadata": {"name": "cluster-admin"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": ADMINS}],
        },
    )
    seen = ["get", "list", "watch"]
    written = [*seen, "create", "delete", "deletecollection", "patch", "update"]
    yield "clusterroles", {"metadata": {"name": "view"}, "rules": _namespaced_rules(seen, ("secrets",))}
    yield "clusterroles", {"metadata": {"name": "edit"}, "rules": _namespaced_rules(written, ())}
    roles = {"apiGroups": [RBAC], "resources": ["rolebindings", "roles"], "verbs": written}
    yield "clusterroles", {"metadata": {"name": "admin"}, "rules": [*_namespaced_rules(written, ()), roles]}


def _namespaced_rules(verbs: list[str], without: tuple[str, ...]) -> list[Object]:
    by_group: dict[str, list[str]] = {}
    for kind in KINDS:
        if kind.namespaced and kind.group != RBAC and kind.plural not in without:
            names = [kind.plural, *(f"{kind.plural}/{name}" for name in kind.subresources if name == "log")]
            by_group.setdefault(kind.group, []).extend(names)
    return [{"apiGroups": [group], "resources": names, "verbs": verbs} for group, names in by_group.items()]
