"""The errors of the local cluster, and how the API server words its refusals."""

from __future__ import annotations

from typing import Any

__all__ = ["LocalClusterError", "StatusError", "bad_request", "conflict", "invalid", "not_found"]


class LocalClusterError(Exception):
    """The local cluster cannot do what it was asked to do; the text says why and what helps."""


class StatusError(LocalClusterError):
    """A request is refused; the client receives a `Status`.

    Args:
        code: The HTTP status.
        reason: The reason by which clients tell refusals apart, `NotFound`.
        message: What is wrong.
        details: The name and the kind of the object.
    """

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def to_json(self) -> dict[str, Any]:
        """Return the `Status` document."""
        head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return {**head, "message": str(self), "reason": self.reason, "details": self.details, "code": self.code}


def bad_request(message: str) -> StatusError:
    """Return the 400 for a request that cannot be read."""
    return StatusError(400, "BadRequest", message)


def not_found(resource: str = "", name: str = "", group: str = "") -> StatusError:
    """Return the 404 for an object, or for a path where no resource is."""
    if not resource:
        return StatusError(404, "NotFound", "the server could not find the requested resource")
    details = {"name": name, "kind": resource} | ({"group": group} if group else {})
    qualified = f"{resource}.{group}" if group else resource
    return StatusError(404, "NotFound", f'{qualified} "{name}" not found', **details)


def conflict(resource: str, name: str, why: str) -> StatusError:
    """Return the 409 for a write that is based on something outdated."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, name=name, kind=resource)


def invalid(kind: str, name: str, field: str, why: str, reason: str = "FieldValueInvalid") -> StatusError:
    """Return the 422 for an object with one wrong field."""
    cause = {"reason": reason, "message": why, "field": field}
    message = f'{kind} "{name}" is invalid: {field}: {why}'
    return StatusError(422, "Invalid", message, name=name, kind=kind, causes=[cause])
