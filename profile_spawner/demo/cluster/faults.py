"""Faults that tests switch on: answers of an API server that is overloaded, broken, or out of reach.

    fault = server.faults.add(Respond(429, retry_after=1), verb="create", resource="pods", times=3)
    ...
    assert fault.hits == 3

Each action happens before the request has any effect, or after it (`after_effect=True`): then the object exists
although the client was told otherwise, or nothing.
"""

from __future__ import annotations

import asyncio
import fnmatch
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from .answers import Object, StatusError
from .requests import ApiRequest

__all__ = ["Action", "Delay", "Drop", "Fault", "Faults", "Hold", "Respond", "quota_conflict", "quota_exceeded"]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_MESSAGES = {
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
}


@dataclass(frozen=True)
class Respond:
    """Answer with an error.

    Attributes:
        code: The HTTP status.
        reason: The reason of the `Status`; by default the usual one for `code`.
        message: The message of the `Status`; by default the usual one for `code`.
        details: `details` of the `Status`.
        retry_after: Seconds for the `Retry-After` header; None for no header.
        after_effect: Whether the request is carried out all the same.
    """

    code: int
    reason: str = ""
    message: str = ""
    details: Object | None = None
    retry_after: int | None = None
    after_effect: bool = False

    def error(self) -> StatusError:
        """Return the error that becomes the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        details = dict(self.details or {})
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        message = self.message or _MESSAGES.get(self.code, "a fault that a test asked for")
        reason = self.reason or _REASONS.get(self.code, "")
        return StatusError(self.code, reason, message, details=details, headers=headers)


@dataclass(frozen=True)
class Delay:
    """Let the client wait.

    Attributes:
        seconds: For how long.
        after_effect: Whether the request has its effect before the delay; then a client that gives up has created its
            object nevertheless.
    """

    seconds: float
    after_effect: bool = False


@dataclass(frozen=True)
class Drop:
    """Close the connection without an answer.

    Attributes:
        after_effect: Whether the request is carried out first.
    """

    after_effect: bool = False


@dataclass(frozen=True, eq=False)
class Hold:
    """Let the client wait until the test calls `release()`.

    Attributes:
        after_effect: Whether the request is carried out first.
    """

    after_effect: bool = False
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let every request go on, those to come included."""
        self._released.set()

    async def wait(self) -> None:
        """Return when `release` was called."""
        await self._released.wait()


Action: TypeAlias = Respond | Delay | Drop | Hold


def quota_exceeded(quota: str = "compute", *, resource: str = "pods") -> Respond:
    """Return the refusal of a namespace whose quota is used up."""
    message = f'{resource} "x" is forbidden: exceeded quota: {quota}, requested: pods=1, used: pods=5, limited: pods=5'
    return Respond(403, message=message, details={"name": "x", "kind": resource})


def quota_conflict(quota: str = "compute") -> Respond:
    """Return the 409 of two creates that race for the same quota; it says nothing about the object itself."""
    message = (
        f'Operation cannot be fulfilled on resourcequotas "{quota}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return Respond(409, message=message, details={"name": quota, "kind": "resourcequotas"})


Wanted: TypeAlias = str | Collection[str] | None


def _fits(wanted: Wanted, value: str) -> bool:
    if wanted is None:
        return True
    patterns = (wanted,) if isinstance(wanted, str) else wanted
    return any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


@dataclass(eq=False)
class Fault:
    """One fault that is switched on.

    Attributes:
        action: What happens.
        hits: How often it happened.
    """

    action: Action
    verb: Wanted
    resource: Wanted
    subresource: Wanted
    namespace: Wanted
    name: Wanted
    user: Wanted
    times: int | None
    skip: int
    probability: float
    random: random.Random
    hits: int = 0
    _hit: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, request: ApiRequest, name: str) -> bool:
        """Tell whether the request is one of those that the fault is meant for."""
        return (
            _fits(self.verb, request.verb)
            and _fits(self.resource, request.kind.plural)
            and _fits(self.subresource, request.subresource)
            and _fits(self.namespace, request.namespace or "")
            and _fits(self.name, name)
            and _fits(self.user, request.user.name)
        )

    def strikes(self, request: ApiRequest, name: str) -> bool:
        """Decide, and count, whether the fault happens to this request."""
        if (self.times is not None and self.hits >= self.times) or not self.matches(request, name):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability < 1 and self.random.random() >= self.probability:
            return False
        self.hits += 1
        self._hit.set()
        return True

    async def happened(self) -> None:
        """Wait until the fault has happened once."""
        await self._hit.wait()


class Faults:
    """The faults of one server. At most one happens to a request: the first, in order of addition, that strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(
        self,
        action: Action,
        *,
        verb: Wanted = None,
        resource: Wanted = None,
        subresource: Wanted = "",
        namespace: Wanted = None,
        name: Wanted = None,
        user: Wanted = None,
        times: int | None = 1,
        skip: int = 0,
        probability: float = 1.0,
        seed: int = 0,
    ) -> Fault:
        """Switch a fault on.

        Args:
            action: What happens.
            verb: `create`, `list`, ...; here and below a pattern, several patterns, or None for all.
            resource: The plural, `pods`.
            subresource: By default only requests for the object itself.
            namespace: The namespace of the request.
            name: The name in the request's path, or of the object that is created.
            user: The user who asks.
            times: How often; None for ever.
            skip: How many matching requests go well before.
            probability: The chance of each matching request.
            seed: The seed of the chance, so that a run can be repeated.

        Returns:
            The fault, which counts how often it happened.
        """
        chance = random.Random(seed)  # noqa: S311 - chance for tests
        fault = Fault(action, verb, resource, subresource, namespace, name, user, times, skip, probability, chance)
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Switch one fault off. Requests that it holds are released."""
        if fault in self._faults:
            self._faults.remove(fault)
        if isinstance(fault.action, Hold):
            fault.action.release()

    def clear(self) -> None:
        """Switch all faults off."""
        for fault in list(self._faults):
            self.remove(fault)

    def pick(self, request: ApiRequest, name: str) -> Action | None:
        """Return what happens to this request, None for nothing.

        Args:
            request: The request.
            name: The name in its path, or of the object that it sends.
        """
        for fault in self._faults:
            if fault.strikes(request, name):
                return fault.action
        return None

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._faults))
