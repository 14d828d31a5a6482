"""The answers of a Kubernetes API server that are not objects: `Status` documents, and the errors that become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profile_spawner.errors import ProfileSpawnerError

__all__ = [
    "Cause",
    "Object",
    "StatusError",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "invalid",
    "method_not_allowed",
    "no_such_resource",
    "not_found",
    "success",
]

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as parsed JSON."""


@dataclass(frozen=True)
class Cause:
    """One reason why an object was refused.

    Attributes:
        field: The path of the field, `spec.containers[0].name`.
        message: What is wrong, as Kubernetes words it.
        reason: `FieldValueInvalid`, `FieldValueRequired`, `FieldValueDuplicate`, ...
    """

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    def to_json(self) -> Object:
        """Return the cause as it stands in `details.causes`."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class StatusError(ProfileSpawnerError):
    """A request is refused; the client receives a `Status` with the HTTP code.

    Args:
        code: The HTTP status code.
        reason: The machine-readable word of Kubernetes, such as `NotFound`.
        message: The sentence for people.
        details: `details` of the `Status`: `name`, `kind`, `causes`, `retryAfterSeconds`.
        headers: Further HTTP headers of the answer.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Object | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details
        self.headers = headers or {}

    def to_json(self) -> Object:
        """Return the `Status` document."""
        body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message, "reason": self.reason}
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body


def success(*, details: Object | None = None, code: int | None = None) -> Object:
    """Return the `Status` of a request that has no object to answer with."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        body["details"] = details
    if code:
        body["code"] = code
    return body


def _about(name: str, group: str, kind: str, **more: Any) -> Object:
    details: Object = {"name": name} if name else {}
    if group:
        details["group"] = group
    return details | {"kind": kind} | {key: value for key, value in more.items() if value}


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def bad_request(message: str) -> StatusError:
    """Return a 400: the request itself is malformed."""
    return StatusError(400, "BadRequest", message)


def no_such_resource() -> StatusError:
    """Return the 404 for a path that no resource has."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", details={})


def not_found(plural: str, group: str, name: str) -> StatusError:
    """Return the 404 for an object that does not exist."""
    text = f'{_qualified(plural, group)} "{name}" not found'
    return StatusError(404, "NotFound", text, details=_about(name, group, plural))


def method_not_allowed() -> StatusError:
    """Return the 405 for a verb that the resource does not have."""
    text = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", text, details={})


def already_exists(plural: str, group: str, name: str) -> StatusError:
    """Return the 409 for a create with a name that is taken."""
    text = f'{_qualified(plural, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", text, details=_about(name, group, plural))


def conflict(plural: str, group: str, name: str, why: str) -> StatusError:
    """Return the 409 for a write that was based on something else than what is stored."""
    text = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return StatusError(409, "Conflict", text, details=_about(name, group, plural))


def forbidden(plural: str, group: str, name: str, why: str, causes: Sequence[Cause] = ()) -> StatusError:
    """Return the 403 of authorization, quota, and namespaces that are going away."""
    what = f'{_qualified(plural, group)} "{name}"' if name else _qualified(plural, group)
    details = _about(name, group, plural, causes=[cause.to_json() for cause in causes])
    return StatusError(403, "Forbidden", f"{what} is forbidden: {why}", details=details)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """Return the 422 for an object that breaks rules; every broken rule is one of the `causes`."""
    found = [f"{cause.field}: {cause.message}" for cause in causes]
    text = found[0] if len(found) == 1 else "[" + ", ".join(found) + "]"
    details = _about(name, group, kind, causes=[cause.to_json() for cause in causes])
    qualified = f"{kind}.{group}" if group else kind
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details=details)


def expired(message: str) -> StatusError:
    """Return the 410 that tells a client to list again."""
    return StatusError(410, "Expired", message)
