"""What can go wrong between the hub and the API server, as data: the rows of docs/faults.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fault_proxy import Fault, status_body

CANARY = "canary-5f3a9c"
PODS = "/pods"
Setup = Literal["", "same", "older", "foreign", "stuck", "stopping", "shared", "kept"]


@dataclass(frozen=True)
class Scenario:
    """One fault.

    Attributes:
        id: Its name in the tests.
        title: What happens, for the table.
        faults: Makes the proxy's faults.
        step: Which step of a spawn is tried.
        setup: What exists before; see the test.
        timeout: Seconds that one attempt may take at first.
        budget: Seconds that may be spent on retrying.
        counted: Whether the number of calls is always the same.
    """

    id: str
    title: str
    faults: Callable[[], list[Fault]] = list
    step: Literal["shared", "kept", "pod", "owned", "delete"] = "pod"
    setup: Setup = ""
    timeout: float = 10.0
    budget: float = 20.0
    counted: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def _fault(mode: Any = "answer", **options: Any) -> Callable[[], list[Fault]]:
    return lambda: [Fault(mode, **options)]


def _status(code: int, reason: str, message: str = "", times: int = 1, **options: Any) -> Callable[[], list[Fault]]:
    headers = options.pop("headers", {})
    path, methods = options.pop("path", ""), options.pop("methods", ("POST",))
    body = status_body(code, reason, message, **options)
    return lambda: [Fault("answer", methods, path, times, code, body, headers)]


_FOREVER = {"times": -1, "timeout": 0.2, "budget": 0.6}
_QUOTA = f'pods "{CANARY}" is forbidden: exceeded quota: users, requested: pods=1, used: pods=9, limited: pods=9'
_MODIFIED = "Operation cannot be fulfilled on resourcequotas: the object has been modified; please apply your changes"
_BUSY = _status(409, "Conflict", _MODIFIED, 3, kind="resourcequotas")
_CAUSE = {"reason": "FieldValueInvalid", "message": f'Invalid value: "{CANARY}": must match', "field": "spec.x"}
_RBAC = 'pods is forbidden: User "system:x" cannot create resource "pods" in API group "" in the namespace "n"'
_SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged'
_DECODE = f"bad request: illegal base64 data, error found in #10 byte of ...|{CANARY}|..."


def _own_quota() -> list[Fault]:
    answer = status_body(403, "Forbidden", _QUOTA)
    return [Fault("hang-after", times=1), Fault("answer", times=1, status=403, body=answer)]


def _mixed() -> list[Fault]:
    return [Fault("answer", times=1, status=code, body="<html>bad gateway</html>") for code in (500, 502, 503, 504)]


SCENARIOS = (
    Scenario("same-spawn", "The pod exists, made by this spawn", setup="same"),
    Scenario("older-spawn", "The pod exists, left from an earlier start of the same server", setup="older"),
    Scenario("foreign-pod", "A pod of somebody else has the name", setup="foreign"),
    Scenario("stuck-pod", "The earlier pod does not go away", setup="stuck", counted=False,
             options={"replace_budget": 3.0}),
    Scenario("stopped", "The server is stopped while it starts", setup="stopping"),
    Scenario("quota-conflict", "409 three times: the quota object is being modified", _BUSY),
    Scenario("throttled", "429 three times with Retry-After",
             _status(429, "TooManyRequests", times=3, headers={"Retry-After": "0"})),
    Scenario("throttled-long", "429 with a Retry-After longer than the budget",
             _status(429, "TooManyRequests", headers={"Retry-After": "3600"})),
    Scenario("gateway", "500, 502, 503 and 504, one after the other", _mixed),
    Scenario("error-forever", "500 for longer than the budget", _status(500, "InternalError", times=-1),
             budget=1.0, counted=False),
    Scenario("html", "200 with a proxy's page instead of JSON", _fault(status=200, body="<html>log in</html>")),
    Scenario("reset", "The connection breaks before the request arrives", _fault("reset")),
    Scenario("reset-after", "The connection breaks after the pod was created", _fault("reset-after")),
    Scenario("timeout", "No answer; nothing was created", _fault("hang"), timeout=1.5),
    Scenario("timeout-after", "No answer, but the pod was created", _fault("hang-after"), timeout=1.5),
    Scenario("own-quota", "No answer, the pod was created and fills the quota", _own_quota, timeout=1.5),
    Scenario("timeout-forever", "No answer for longer than the budget", _fault("hang", times=-1),
             timeout=0.2, budget=0.6, counted=False),
    Scenario("quota", "403: the quota is used up", _status(403, "Forbidden", _QUOTA)),
    Scenario("rbac", "403: the hub's Role lacks a right", _status(403, "Forbidden", _RBAC)),
    Scenario("pod-security", "403: the cluster's Pod Security admission refuses the pod",
             _status(403, "Forbidden", _SECURITY)),
    Scenario("terminating", "403: the namespace is being deleted",
             _status(403, "Forbidden", "x because it is being terminated")),
    Scenario("token", "401: the hub's token is not accepted", _status(401, "Unauthorized")),
    Scenario("bad-request", "400: the manifest cannot be read", _status(400, "BadRequest", _DECODE)),
    Scenario("invalid", "422: the manifest is invalid", _status(422, "Invalid", CANARY, causes=[_CAUSE])),
    Scenario("too-large", "413: the manifest is too large", _status(413, "RequestEntityTooLarge")),
    Scenario("no-namespace", "404: the namespace does not exist", _status(404, "NotFound")),
    Scenario("shared-timeout", "No answer, but the shared ConfigMap was created", _fault("hang-after"), "shared",
             timeout=1.5),
    Scenario("shared-quota", "403: the quota is used up, but the shared ConfigMap exists",
             _status(403, "Forbidden", _QUOTA), "shared", "shared"),
    Scenario("kept-quota", "403: the quota is used up, but the user's claim exists",
             _status(403, "Forbidden", _QUOTA), "kept", "kept"),
    Scenario("kept-no-quota", "403: the quota is used up and the user has no claim yet",
             _status(403, "Forbidden", _QUOTA), "kept"),
    Scenario("owned-reset", "The connection breaks after the server's Secret was created", _fault("reset-after"),
             "owned"),
    Scenario("owned-refused", "422 for an object that belongs to the server",
             _status(422, "Invalid", CANARY, causes=[_CAUSE]), "owned"),
    Scenario("delete-error", "503 twice when the pod is deleted",
             _status(503, "ServiceUnavailable", times=2, methods=("DELETE",)), "delete", "same"),
    Scenario("delete-reset", "The connection breaks after the pod was deleted",
             _fault("reset-after", methods=("DELETE",)), "delete", "same"),
)  # fmt: skip
