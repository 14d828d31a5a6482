"""Caches which Kubernetes objects exist, so that most spawns need no API call for shared objects.

Only one hub process creates these objects, so it can cache which objects it has created or seen. If many spawns need
the same object at the same time, there is only one request. The sweeper uses the same cache, so that it does not delete
an object while a spawn needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

__all__ = ["ObjectCache", "ObjectReference"]


class ObjectReference(NamedTuple):
    """A reference to an object."""

    namespace: str
    kind: str
    name: str


class _InFlight(NamedTuple):
    token: str
    task: asyncio.Task[None]


class ObjectCache:
    """The cache of objects that are known to exist.

    Each entry has a token, which identifies the wanted object. The same name with another token is not in the cache.
    """

    def __init__(self) -> None:
        self._known: dict[ObjectReference, str] = {}
        self._used: dict[ObjectReference, float] = {}
        self._in_flight: dict[ObjectReference, _InFlight] = {}

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, key: ObjectReference, token: str) -> bool:
        """Return whether the object with this token is in the cache; record the time of this use."""
        self._used[key] = asyncio.get_running_loop().time()
        return self._known.get(key) == token

    def idle(self, key: ObjectReference) -> float:
        """Return the seconds since the last use of the object; infinity if it was never used."""
        used = self._used.get(key)
        return float("inf") if used is None else asyncio.get_running_loop().time() - used

    def forget(self, namespace: str, name: str) -> bool:
        """Remove all objects with this name from the cache; return whether there was one."""
        found = [key for key in self._known if key.namespace == namespace and key.name == name]
        for key in found:
            del self._known[key]
        return bool(found)

    async def ensure(self, key: ObjectReference, token: str, make: Callable[[], Awaitable[None]]) -> None:
        """Ensure that the object exists: use the cache, wait for a running request, or call `make`.

        If one caller is cancelled, the request continues for the others.

        Raises:
            ClusterError: If `make` raises it. All callers that wait for this request get the exception.
        """
        while not self.knows(key, token):
            request = self._in_flight.get(key)
            if request is None:
                request = self._launch(key, token, make)
            elif request.token != token:
                # A request with another token for the same name: wait for it and ignore its result.
                await asyncio.wait({request.task})
                continue
            await asyncio.shield(request.task)
            self._known[key] = token

    async def remove(self, key: ObjectReference, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete an unused object. A caller of `ensure` waits for the deletion, then creates the object again."""
        while (request := self._in_flight.get(key)) is not None:
            await asyncio.wait({request.task})
        self._known.pop(key, None)
        self._used.pop(key, None)
        await asyncio.shield(self._launch(key, "", delete).task)

    def _launch(self, key: ObjectReference, token: str, work: Callable[[], Awaitable[None]]) -> _InFlight:
        async def run() -> None:
            try:
                await work()
            finally:
                del self._in_flight[key]

        request = _InFlight(token, asyncio.ensure_future(run()))
        self._in_flight[key] = request
        request.task.add_done_callback(_retrieve)
        return request


def _retrieve(task: asyncio.Task[None]) -> None:
    # If all waiting callers were cancelled, the exception of the task must still be retrieved.
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
