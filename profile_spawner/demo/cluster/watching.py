"""Watches: streams of changes, each serialised once for all who receive it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .answers import Object, bad_request, expired
from .kinds import ResourceType
from .selectors import Predicate
from .store import Change, ChangeType, Store, Stored

__all__ = ["Watch", "WatchOptions"]

BOOKMARK_SECONDS = 60.0
CHECK_SECONDS = 5.0
"""How soon a client that went away without a word is noticed."""


@dataclass(frozen=True)
class WatchOptions:
    """How a watch begins and ends.

    Attributes:
        version: The resource version after which it begins; None for the present state first.
        initial: Whether the present state is sent first.
        end_of_initial: Whether a bookmark says where the present state ends (`sendInitialEvents`).
        timeout: Seconds after which the server ends it.
        bookmarks: Whether bookmarks tell how far it has come.
    """

    version: int | None
    initial: bool
    end_of_initial: bool
    timeout: float
    bookmarks: bool


class Watch:
    """One client's watch.

    Args:
        store: The state.
        kind: The resource.
        namespace: One namespace, or None for all.
        matches: The selectors; None for everything.
        render: Makes another form of the objects; None sends them as they are.
    """

    def __init__(
        self,
        store: Store,
        kind: ResourceType,
        namespace: str | None,
        matches: Predicate | None,
        render: Callable[[Stored], Object] | None = None,
    ) -> None:
        self._render = render
        self._store = store
        self._kind = kind
        self._namespace = namespace
        self._matches = matches
        self._lines: list[bytes] = []
        self._wake = asyncio.Event()
        self._ended = False

    def end(self) -> None:
        """Make the stream end after what is already there."""
        self._ended = True
        self._wake.set()

    def _offer(self, change: Change) -> None:
        if (line := self._line(change)) is not None:
            self._lines.append(line)
            self._wake.set()

    def _line(self, change: Change) -> bytes | None:
        if self._namespace is not None and change.new.namespace != self._namespace:
            return None
        if self._matches is None:
            return self._show(change, change.type)
        is_in = self._matches(change.new.document)
        was_in = change.old is not None and self._matches(change.old.document)
        if change.type == "DELETED":
            return self._show(change, "DELETED") if was_in else None
        if is_in:
            return self._show(change, "MODIFIED" if was_in else "ADDED")
        return self._show(change, "DELETED") if was_in else None

    def _show(self, change: Change, as_type: ChangeType) -> bytes:
        if self._render is None:
            return change.line(as_type)
        return _line(as_type, self._render(change.new))

    def _begin(self, options: WatchOptions) -> None:
        collection = self._store.collection(self._kind)
        if options.initial:
            for stored in self._store.select(self._kind, self._namespace):
                if self._matches is None or self._matches(stored.document):
                    if self._render is None:
                        self._lines.append(b'{"type":"ADDED","object":%s}\n' % stored.raw)
                    else:
                        self._lines.append(_line("ADDED", self._render(stored)))
            if options.end_of_initial:
                self._lines.append(self._bookmark({"k8s.io/initial-events-end": "true"}))
        elif options.version is not None:
            if options.version < collection.floor:
                error = expired(f"too old resource version: {options.version} ({collection.floor})")
                self._lines.append(_line("ERROR", error.to_json()))
                self.end()
                return
            for change in collection.since(options.version):
                self._offer(change)
        collection.listeners[self._offer] = None

    def _bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        metadata: Object = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        body = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        return _line("BOOKMARK", body)

    async def run(
        self, options: WatchOptions, write: Callable[[bytes], Awaitable[None]], is_open: Callable[[], bool]
    ) -> None:
        """Send changes until the time is over, the client has gone, or `end` was called.

        Args:
            options: Where to begin and when to stop.
            write: Sends bytes to the client.
            is_open: Tells whether the client is still there.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + options.timeout
        next_bookmark = loop.time() + BOOKMARK_SECONDS
        self._begin(options)
        try:
            while is_open():
                self._wake.clear()
                if self._lines:
                    lines, self._lines = self._lines, []
                    await write(b"".join(lines))
                    continue
                if self._ended or loop.time() >= deadline:
                    break
                if options.bookmarks and loop.time() >= next_bookmark:
                    next_bookmark += BOOKMARK_SECONDS
                    await write(self._bookmark())
                pause = min(deadline - loop.time(), CHECK_SECONDS)
                handle = loop.call_later(max(pause, 0), self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    handle.cancel()
            if options.bookmarks and is_open():
                await write(self._bookmark())
        finally:
            self._store.collection(self._kind).listeners.pop(self._offer, None)


def _line(event: str, body: Object) -> bytes:
    return json.dumps({"type": event, "object": body}, separators=(",", ":")).encode() + b"\n"


def check_initial_events(send_initial: bool, match: str) -> None:
    """Refuse a combination of parameters that has no meaning.

    Raises:
        StatusError: 400.
    """
    if send_initial and match != "NotOlderThan":
        raise bad_request("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
