"""What exists already, so that a warm spawn asks nobody.

One hub process is the only writer: it may remember what it has made or seen. A hundred spawns that need the same object
at once cause one request. The sweeper goes through the same door, so that nothing is removed while it is being wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

__all__ = ["Key", "Memory"]


class Key(NamedTuple):
    """An object's place."""

    namespace: str
    kind: str
    name: str


class _Flight(NamedTuple):
    token: str
    task: asyncio.Task[None]


class Memory:
    """The objects that are known to exist, and for whom.

    A token says for whom: the same name under another token is never taken as known.
    """

    def __init__(self) -> None:
        self._known: dict[Key, str] = {}
        self._used: dict[Key, float] = {}
        self._flights: dict[Key, _Flight] = {}

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, key: Key, token: str) -> bool:
        """Tell whether the object is known to exist for this token; noted as a use of it."""
        self._used[key] = asyncio.get_running_loop().time()
        return self._known.get(key) == token

    def idle(self, key: Key) -> float:
        """Return for how many seconds nobody has asked for the object."""
        used = self._used.get(key)
        return float("inf") if used is None else asyncio.get_running_loop().time() - used

    def forget(self, namespace: str, name: str) -> bool:
        """Forget every object of this name; tell whether one was known."""
        found = [key for key in self._known if key.namespace == namespace and key.name == name]
        for key in found:
            del self._known[key]
        return bool(found)

    async def ensure(self, key: Key, token: str, make: Callable[[], Awaitable[None]]) -> None:
        """See to it that the object exists: known, or being made by somebody else, or made now.

        A caller that is cancelled does not take the others' request with it.

        Raises:
            ClusterError: whatever `make` raises, for everybody who waited for it.
        """
        while not self.knows(key, token):
            flight = self._flights.get(key)
            if flight is None:
                flight = self._launch(key, token, make)
            elif flight.token != token:
                # Somebody else's business with the same name; its outcome is not ours.
                await asyncio.wait({flight.task})
                continue
            await asyncio.shield(flight.task)
            self._known[key] = token

    async def remove(self, key: Key, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete an object that nobody wants. Who wants it meanwhile waits, and makes it anew."""
        while (flight := self._flights.get(key)) is not None:
            await asyncio.wait({flight.task})
        self._known.pop(key, None)
        self._used.pop(key, None)
        await asyncio.shield(self._launch(key, "", delete).task)

    def _launch(self, key: Key, token: str, work: Callable[[], Awaitable[None]]) -> _Flight:
        async def run() -> None:
            try:
                await work()
            finally:
                del self._flights[key]

        flight = _Flight(token, asyncio.ensure_future(run()))
        self._flights[key] = flight
        flight.task.add_done_callback(_retrieve)
        return flight


def _retrieve(task: asyncio.Task[None]) -> None:
    # All who waited may have been cancelled; then nobody else would look at the outcome.
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
