"""What a client asks for, read from the path and the query: the verb, the resource, the object, and who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .answers import Cause, bad_request, invalid, method_not_allowed, no_such_resource
from .kinds import ResourceType, find

__all__ = ["ADMINS", "ApiRequest", "User", "parse_path"]

_MANAGER_LIMIT = 128

ADMINS = "system:masters"
"""The group that may do everything."""

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True)
class User:
    """Who sends a request.

    Attributes:
        name: The user name, as RoleBindings name it.
        groups: The groups, `system:authenticated` included.
    """

    name: str
    groups: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether no rule applies to this user."""
        return ADMINS in self.groups


@dataclass(frozen=True)
class ApiRequest:
    """One request for a resource.

    Attributes:
        verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
        kind: The resource.
        namespace: The namespace of the path; None for all, and for cluster-scoped kinds.
        name: The object's name; empty for requests about a collection.
        subresource: `status`, `binding`, `log`, ...; empty for the object itself.
        user: Who asks.
        query: The query parameters.
        content_type: The type of the body.
        agent: The client's `User-Agent`.
    """

    verb: str
    kind: ResourceType
    namespace: str | None
    name: str
    subresource: str
    user: User
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    agent: str = ""

    def flag(self, name: str) -> bool:
        """Return a boolean parameter, in any spelling that Go reads (Python clients send `True`).

        Raises:
            StatusError: 400 for anything else.
        """
        value = self.query.get(name, "")
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise bad_request(f"{name}: {value[:32]!r} is not a boolean")

    def number(self, name: str) -> int | None:
        """Return a whole-numbered parameter, None when it is not given.

        Raises:
            StatusError: 400 for anything else.
        """
        value = self.query.get(name, "")
        if not value:
            return None
        try:
            return int(value)
        except ValueError:
            raise bad_request(f"{name}: {value[:32]!r} is not a number") from None

    @property
    def dry_run(self) -> bool:
        """Whether nothing must be stored."""
        return self.query.get("dryRun") == "All"

    def check_options(self) -> None:
        """Check the parameters that every write may have.

        Raises:
            StatusError: 422.
        """
        kind = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}.get(self.verb)
        if kind is None:
            return
        causes = []
        if (dry_run := self.query.get("dryRun", "All")) not in ("", "All"):
            message = f'Unsupported value: "{dry_run[:32]}": supported values: "All"'
            causes.append(Cause("dryRun", message, "FieldValueNotSupported"))
        if len(self.query.get("fieldManager", "")) > _MANAGER_LIMIT:
            message = f"Too long: must have at most {_MANAGER_LIMIT} bytes"
            causes.append(Cause("fieldManager", message, "FieldValueTooLong"))
        if causes:
            raise invalid(kind, "meta.k8s.io", "", causes)

    @property
    def manager(self) -> str:
        """The name under which changes are recorded in `managedFields`."""
        return self.query.get("fieldManager") or self.agent.split("/", 1)[0][:_MANAGER_LIMIT] or "unknown"


_NAMED = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create", "HEAD": "get"}
_UNNAMED = {"GET": "list", "POST": "create", "DELETE": "deletecollection", "HEAD": "list"}


def parse_path(
    method: str,
    path: str,
    query: Mapping[str, str],
    user: User,
    *,
    content_type: str = "application/json",
    agent: str = "",
) -> ApiRequest:
    """Read a request for a resource.

    Args:
        method: The HTTP method.
        path: The decoded path, below `/api` or `/apis`.
        query: The query parameters.
        user: Who asks.
        content_type: The type of the body.
        agent: The client's `User-Agent`.

    Raises:
        StatusError: 404 where no resource has this path, 405 where the method means nothing there.
    """
    root, *parts = [part for part in path.split("/") if part]
    group = parts.pop(0) if root == "apis" and parts else ""
    version = parts.pop(0) if parts else ""
    namespace: str | None = None
    # namespaces/NAME is an object, namespaces/NAME/status its status, and anything longer lies in the namespace.
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] not in ("status", "finalize"):
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource = [*parts, "", "", ""][:3]
    kind = find(group, version, plural)
    if kind is None or len(parts) > 3 or (namespace is not None and not kind.namespaced):
        raise no_such_resource()
    if subresource and subresource not in kind.subresources and not (subresource == "status" and kind.status):
        raise no_such_resource()
    request = ApiRequest("", kind, namespace, name, subresource, user, query, content_type, agent)
    verb = (_NAMED if name else _UNNAMED).get(method)
    if verb is None or (kind.namespaced and namespace is None and verb != "list"):
        raise method_not_allowed()
    if verb == "create" and name and (not subresource or subresource == "status"):
        raise method_not_allowed()
    if verb in ("list", "get") and request.flag("watch") and not subresource:
        verb = "watch"
    return replace(request, verb=verb)
