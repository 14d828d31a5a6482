"""Authorises requests by the Roles and bindings in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .failures import StatusError
from .kinds import RBAC, plural
from .selectors import Object
from .store import ObjectChange, Store

__all__ = ["ADMINS", "Authorizer", "User"]

ADMINS = "system:masters"
"""The group that may do everything."""


@dataclass(frozen=True)
class User:
    """The user who sends a request.

    Attributes:
        name: The user name, as RoleBindings name it.
        groups: The groups, `system:authenticated` included.
    """

    name: str
    groups: frozenset[str] = frozenset()


class Authorizer:
    """Decides whether a user may do something.

    Args:
        store: Where Roles, ClusterRoles and their bindings are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[tuple[User, str | None], list[Object]] = {}
        store.listeners.append(self._changed)

    def _changed(self, change: ObjectChange) -> None:
        if change.item.kind.group == RBAC:
            self._rules.clear()

    def _find_rules(self, user: User, namespace: str | None) -> Iterator[Object]:
        """Yield the rules that apply to `user` in a namespace, or in the whole cluster for None."""
        bindings = list(self._store.select(plural("clusterrolebindings")))
        if namespace is not None:
            bindings += self._store.select(plural("rolebindings"), namespace)
        for binding in bindings:
            if any(_is_subject(subject, user, namespace) for subject in binding.document.get("subjects") or ()):
                reference = binding.document["roleRef"]
                in_cluster = reference["kind"] == "ClusterRole"
                kind = plural("clusterroles" if in_cluster else "roles")
                role = self._store.get(kind, None if in_cluster else namespace, reference["name"])
                yield from (role.document.get("rules") or ()) if role else ()

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
        if (user, namespace) not in self._rules:
            self._rules[user, namespace] = list(self._find_rules(user, namespace))
        return ADMINS in user.groups or any(
            _has(rule.get("verbs"), verb)
            and _has(rule.get("apiGroups"), group)
            and _has(rule.get("resources"), resource)
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self._rules[user, namespace]
        )

    def check(self, user: User, verb: str, group: str, resource: str, namespace: str | None, name: str = "") -> None:
        """Let a request pass, or raise `StatusError` 403. The arguments are those of `allows`."""
        if not self.allows(user, verb, group, resource, namespace, name):
            plain = resource.partition("/")[0]
            qualified = f"{plain}.{group}" if group else plain
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            why = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{group}" {where}'
            named = f'{qualified} "{name}"' if name else qualified
            raise StatusError(403, "Forbidden", f"{named} is forbidden: {why}", name=name, kind=plain)

    def review(self, user: User, spec: Object) -> Object:
        """Return the `status` of a SelfSubjectAccessReview."""
        wanted = spec.get("resourceAttributes")
        if wanted is None:
            return {"allowed": True}
        resource = "/".join(filter(None, (wanted.get("resource", ""), wanted.get("subresource"))))
        where = wanted.get("namespace") or None
        verb, group, name = (wanted.get(key, "") for key in ("verb", "group", "name"))
        return {"allowed": self.allows(user, verb, group, resource, where, name)}


def _has(granted: Iterable[str] | None, wanted: str) -> bool:
    return any(item in ("*", wanted) for item in granted or ())


def _is_subject(subject: Object, user: User, namespace: str | None) -> bool:
    if subject["kind"] == "Group":
        return subject["name"] in user.groups
    space = subject.get("namespace") or namespace
    account = f"system:serviceaccount:{space}:{subject['name']}"
    return user.name == (subject["name"] if subject["kind"] == "User" else account)
