"""Classifies errors of the API server and the network: who has to act, and whether a retry can help.

Only `classify` reads error responses. It keeps the HTTP status, the machine-readable reason and the causes, and drops
everything that could contain a manifest, a header or a token.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from kubernetes_asyncio.client.exceptions import ApiException

from profile_spawner.errors import ClusterError, shorten
from profile_spawner.texts import Text, marked

__all__ = ["KubeFailure", "classify"]

_MESSAGES = {
    "quota": marked(
        "There is no room for this server: %(detail)s. Stop another server, choose a smaller one, or ask your "
        "administrator for more."
    ),
    "forbidden": marked("The hub is not allowed to make this server. Please tell your administrator."),
    "invalid": marked(
        "The profile describes a server that Kubernetes refuses. Choose another one, and tell your administrator."
    ),
    "conflict": marked(
        "Something else already has the name of your server. Try again in a minute; if it stays, tell your "
        "administrator."
    ),
    "unreachable": marked("The cluster cannot be reached at the moment. Try again in a few minutes."),
    "throttled": marked("The cluster is too busy at the moment. Try again in a few minutes."),
    "timeout": marked("The cluster did not answer in time. Try again in a few minutes."),
    "server_error": marked("The cluster has a problem at the moment. Try again in a few minutes."),
}
_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<requested>.+), used: .+, limited: (?P<limited>.+)"
)
_FAILED_QUOTA = re.compile(r"failed quota: (?P<text>[^:]+: must specify [\w./,-]+)")
_LIMIT_RANGE = re.compile(r"(?P<text>(?:maximum|minimum) \S+ usage per \w+ is [^,\]]+)")
_RBAC = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"')
_PROFILE_FORBIDDEN = re.compile(
    r"(?P<text>no PriorityClass with name \S+ was found|RuntimeClass \S+ not found|violates PodSecurity.*"
    r"|error looking up service account \S+|PodSecurityPolicy|PriorityClass)"
)
"""What an admission plug-in has against a pod; names of objects and fields only, no values."""


class KubeFailure(ClusterError):  # noqa: N818 - what failed is Kubernetes; the base class ends in Error
    """A `ClusterError` that also says whether and when to retry.

    Attributes:
        status: The HTTP status; 0 if there was no response.
        api_reason: Kubernetes' reason, such as `AlreadyExists`.
        retryable: Whether the same request may succeed later.
        retry_after: The delay that the server requested, in seconds; `None` if it requested none.
        ambiguous: Whether the request may have been executed although it failed.
    """

    status: int = 0
    api_reason: str = ""
    retryable: bool = False
    retry_after: float | None = None
    ambiguous: bool = False

    @property
    def already_exists(self) -> bool:
        """Whether an object with this name exists already."""
        return self.status == 409 and self.api_reason == "AlreadyExists"


def classify(exc: BaseException, *, what: str = "the request", profile: str | None = None) -> ClusterError:
    """Convert an exception to a `ClusterError` that says what happened, who has to act, and whether to retry.

    Args:
        exc: An `ApiException`, an error of aiohttp, sockets or TLS, a timeout, or a `ClusterError`.
        what: The action that failed, for the message.
        profile: The profile's slug, for the message.
    """
    if isinstance(exc, ClusterError):
        return exc
    if isinstance(exc, ApiException):
        return _from_status(exc, what, profile)
    if isinstance(exc, asyncio.TimeoutError):
        return _failure(f"{what}: no answer in time", "timeout", profile, retryable=True, ambiguous=True)
    # In Python, a certificate verification error is also a ValueError.
    if isinstance(exc, ValueError) and not isinstance(exc, OSError):
        return _failure(f"{what}: the answer is not JSON", "server_error", profile, retryable=True, ambiguous=True)
    # Errors of connections, name resolution or TLS: use only the class name, because the text may contain a URL.
    number = getattr(exc, "errno", None)
    detail = type(exc).__name__ + (f" (errno {number})" if isinstance(number, int) else "")
    return _failure(
        f"{what}: the API server cannot be reached: {detail}", "unreachable", profile, retryable=True, ambiguous=True
    )


def _failure(
    message: str,
    reason: str,
    profile: str | None,
    *,
    blame: str = "cluster",
    detail: str = "",
    hint: str | None = None,
    retryable: bool = False,
    ambiguous: bool = False,
    retry_after: float | None = None,
) -> KubeFailure:
    user_message = Text(_MESSAGES[reason], detail=detail or Text("a limit is reached"))
    failure = KubeFailure(message, reason=reason, user_message=user_message, blame=blame, profile=profile, hint=hint)
    failure.retryable, failure.ambiguous, failure.retry_after = retryable, ambiguous, retry_after
    return failure


def _from_status(exc: ApiException, what: str, profile: str | None) -> KubeFailure:
    status = exc.status if isinstance(exc.status, int) else 0
    body = _status_object(exc.body)
    api_reason = str(body.get("reason") or "")
    raw = str(body.get("message") or "")
    causes = _causes(body)
    where = f"{what}: HTTP {status}{f' {shorten(api_reason)}' if api_reason else ''}"
    if status == 403:
        failure = _forbidden(where, raw, causes, profile)
    elif status == 409:
        busy = "object has been modified" in raw or "resourcequotas" in raw.partition('"')[0]
        failure = _failure(where, "conflict", profile, retryable=busy, blame="cluster" if busy else "admin")
    elif status == 429:
        failure = _failure(where, "throttled", profile, retryable=True, retry_after=_retry_after(exc, body))
    elif status == 408 or status >= 500:
        failure = _failure(
            where,
            "timeout" if status in (408, 504) else "server_error",
            profile,
            retryable=status not in (501, 505),
            ambiguous=True,
            retry_after=_retry_after(exc, body),
        )
    elif status == 401:
        failure = _failure(where, "forbidden", profile, blame="admin", hint="The hub's token is not accepted.")
    elif status == 404:
        failure = _failure(
            where, "invalid", profile, blame="admin", hint="The namespace or the kind of object does not exist."
        )
    else:
        failure = _failure(where, "invalid", profile, blame="profile")
    if causes:
        failure.message += ": " + "; ".join(causes)
        failure.args = (failure.message,)
    failure.status, failure.api_reason = status, api_reason
    return failure


def _forbidden(where: str, raw: str, causes: tuple[str, ...], profile: str | None) -> KubeFailure:
    if match := _QUOTA.search(raw):
        detail = shorten(f"{match['requested']} wanted, limited to {match['limited']}", 200)
        return _failure(f"{where}: quota {match['name']}: {detail}", "quota", profile, blame="user", detail=detail)
    if match := _FAILED_QUOTA.search(raw) or _LIMIT_RANGE.search(raw):
        detail = shorten(match["text"], 200)
        return _failure(f"{where}: {detail}", "quota", profile, blame="profile", detail=detail)
    if match := _PROFILE_FORBIDDEN.search(raw):
        return _failure(f"{where}: {shorten(match['text'], 300)}", "forbidden", profile, blame="profile")
    if any("NamespaceTerminating" in cause for cause in causes) or "being terminated" in raw:
        return _failure(f"{where}: the namespace is being deleted", "forbidden", profile, blame="admin")
    if match := _RBAC.search(raw):
        group = f".{match['group']}" if match["group"] else ""
        return _failure(
            f"{where}: the hub may not {match['verb']} {match['resource']}{group}",
            "forbidden",
            profile,
            blame="admin",
            hint="`profile-spawner rbac` prints the Role that the hub needs.",
        )
    return _failure(where, "forbidden", profile, blame="admin")


def _status_object(body: Any) -> Mapping[str, Any]:
    """Return the `Status` object in a response; empty for anything else, such as a proxy's error page."""
    try:
        data = json.loads(body) if body else {}
    except (ValueError, UnicodeDecodeError):
        return {}
    return data if isinstance(data, dict) else {}


def _causes(body: Mapping[str, Any]) -> tuple[str, ...]:
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    if not isinstance(causes, list):
        return ()
    found = []
    for cause in causes[:10]:
        if isinstance(cause, Mapping):
            text = _without_value(str(cause.get("message") or ""))
            parts = (str(cause.get("field") or ""), str(cause.get("reason") or ""), text)
            found.append(": ".join(shorten(part, 160) for part in parts if part))
    return tuple(found)


def _without_value(message: str) -> str:
    """Remove the value from `Invalid value: "...": must be ...`, because it may be part of a secret."""
    head, found, rest = message.partition(" value: ")
    if not found or head not in ("Invalid", "Duplicate", "Unsupported"):
        return message if head in ("Required", "Forbidden") or message.startswith(("Required", "Too long")) else ""
    try:
        _, end = json.JSONDecoder().raw_decode(rest)
        tail = rest[end:]
    except ValueError:
        tail = rest[rest.rfind(": ") :] if ": " in rest else ""
    return tail.removeprefix(": ")


def _retry_after(exc: ApiException, body: Mapping[str, Any]) -> float | None:
    """Return the requested delay in seconds, from the header (in either form) or `details.retryAfterSeconds`."""
    headers: Mapping[str, Any] = exc.headers or {}
    header = headers.get("Retry-After")
    details = body.get("details")
    value: Any = header
    if value is None and isinstance(details, Mapping):
        value = details.get("retryAfterSeconds")
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = (parsedate_to_datetime(str(value)) - datetime.now(timezone.utc)).total_seconds()
        except (TypeError, ValueError):
            return None
    return seconds if 0 <= seconds < 86400 else None
