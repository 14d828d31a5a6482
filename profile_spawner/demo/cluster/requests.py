"""Reads what a request asks for from its path, its method and its query."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from .access import User
from .failures import StatusError, bad_request, not_found
from .kinds import NAMESPACES, ResourceType, find
from .selectors import Predicate, compile_selectors

__all__ = ["ResourceRequest", "read_request"]

_NAMED = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_UNNAMED = {"GET": "list", "POST": "create"}


@dataclass(frozen=True)
class ResourceRequest:
    """A request for a resource: verb, resource and user."""

    verb: str
    kind: ResourceType
    namespace: str | None
    name: str
    subresource: str
    user: User
    query: dict[str, str]

    @property
    def resource(self) -> str:
        """The plural with the subresource, as Roles name it."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun") == "All"

    @property
    def scope(self) -> tuple[str | None, str]:
        """The namespace and the name that Roles are asked about; a namespace lies in itself."""
        selector = self.query.get("fieldSelector", "")
        # The one name to which a field selector restricts a collection: a rule may allow only that one.
        named = selector.removeprefix("metadata.name=") if selector.startswith("metadata.name=") else ""
        namespace = self.name if self.kind is NAMESPACES and self.name else self.namespace
        return namespace, self.name or named

    def selector(self) -> Predicate:
        """Return what the selectors of the query, or the name, select."""
        fields = f"metadata.name={self.name}" if self.name else self.query.get("fieldSelector", "")
        return compile_selectors(self.kind, self.query.get("labelSelector", ""), fields)

    def number(self, name: str) -> int:
        """Return a number of the query, 0 where it is missing."""
        try:
            return int(self.query.get(name) or 0)
        except ValueError:
            raise bad_request(f"{name} is not a number") from None


def read_request(http: web.Request, user: User) -> ResourceRequest:
    """Read a request for a resource; `StatusError` 404 or 405 where there is none."""
    root, *parts = [part for part in http.path.split("/") if part] or [""]
    group = parts.pop(0) if root == "apis" and parts else ""
    if root not in ("api", "apis") or not parts or parts.pop(0) != "v1":
        raise not_found()
    namespace: str | None = None
    # namespaces/NAME is an object, namespaces/NAME/status its status, and anything longer lies in the namespace.
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] != "status":
        namespace, parts = parts[1], parts[2:]
    name, name_of_object, subresource = [*parts, "", "", ""][:3]
    kind = find(group, name)
    if kind is None or len(parts) > 3 or (namespace is not None and not kind.namespaced):
        raise not_found()
    if subresource and subresource not in (*kind.subresources, *(["status"] if kind.status else [])):
        raise not_found()
    query = dict(http.query)
    verb = (_NAMED if name_of_object else _UNNAMED).get(http.method, "")
    # Python clients send `True`.
    if verb in ("list", "get") and query.get("watch", "").lower() in ("1", "true") and not subresource:
        verb = "watch"
    whole = kind.namespaced and namespace is None and verb not in ("list", "watch")
    if not verb or whole or (verb == "create" and name_of_object and subresource in ("", "status")):
        raise StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return ResourceRequest(verb, kind, namespace, name_of_object, subresource, user, query)
