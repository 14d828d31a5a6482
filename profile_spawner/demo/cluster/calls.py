"""The record of what clients asked for, so that a test can count calls."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from .requests import ApiRequest

__all__ = ["Call", "CallLog"]


@dataclass(frozen=True)
class Call:
    """One request, as it was answered.

    Attributes:
        verb: The verb, `create`.
        resource: The plural, with the subresource: `pods`, `pods/binding`.
        user: The user's name.
        namespace: The namespace of the path, empty for none.
        name: The name in the path, or of the object that was sent.
        code: The HTTP status of the answer; 0 where there was none.
        agent: The client's `User-Agent`.
    """

    verb: str
    resource: str
    user: str
    namespace: str
    name: str
    code: int
    agent: str


class CallLog:
    """Counts requests by verb, resource and user, and keeps the latest ones.

    Args:
        depth: How many calls are kept one by one; the counters know all.
    """

    def __init__(self, depth: int = 10_000) -> None:
        self._counts: dict[str, Counter[tuple[str, str, str]]] = {}
        self._latest: deque[Call] = deque(maxlen=depth)

    def add(self, request: ApiRequest, name: str, code: int) -> None:
        """Record one request."""
        resource = request.kind.plural + (f"/{request.subresource}" if request.subresource else "")
        user, namespace = request.user.name, request.namespace or ""
        self._counts.setdefault(namespace, Counter())[request.verb, resource, user] += 1
        call = Call(request.verb, resource, user, namespace, name, code, request.agent)
        self._latest.append(call)

    def snapshot(self, namespace: str | None = None) -> Counter[tuple[str, str, str]]:
        """Return the counts by (verb, resource, user). The difference of two snapshots is what happened between.

        Args:
            namespace: Only requests in this namespace; None for all, the empty text for those in none.
        """
        if namespace is not None:
            return Counter(self._counts.get(namespace, Counter()))
        return sum(self._counts.values(), Counter())

    def count(self, verb: str, resource: str, user: str | None = None) -> int:
        """Return how many calls there were, of one user or of all."""
        counts = self.snapshot()
        return sum(n for (v, r, u), n in counts.items() if (v, r) == (verb, resource) and user in (None, u))

    def reset(self) -> None:
        """Forget everything."""
        self._counts.clear()
        self._latest.clear()

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._latest))
