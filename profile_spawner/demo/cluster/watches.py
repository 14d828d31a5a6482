"""Streams the changes of resources to those who watch them."""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiohttp import web

from . import kubectl
from .failures import StatusError
from .requests import ResourceRequest
from .selectors import Predicate
from .store import Item, ObjectChange, Store

__all__ = ["Watches"]


class Watches:
    """All watches of a server.

    Args:
        store: The state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wakes: set[asyncio.Event] = set()
        self._stopping = False
        store.listeners.append(lambda _: self._wake())

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()

    def stop(self) -> None:
        """End all watches."""
        self._stopping = True
        self._wake()

    async def watch(self, http: web.Request, request: ResourceRequest, *, as_table: bool) -> web.StreamResponse:
        """Stream the changes of a resource after the version asked for; without one, what is there comes first."""
        matches, kind = request.selector(), request.kind
        version = request.number("resourceVersion")
        loop = asyncio.get_running_loop()
        end = loop.time() + (request.number("timeoutSeconds") or 1800)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)

        def line(what: str, item: Item) -> bytes:
            raw = json.dumps(kubectl.table(kind, [item], item.version)).encode() if as_table else item.raw
            return b'{"type":"%s","object":%s}\n' % (what.encode(), raw)

        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            lines: list[bytes] = []
            if not version:
                version = self._store.version
                present = self._store.select(kind, request.namespace)
                lines = [line("ADDED", item) for item in present if matches(item.document)]
            while not self._stopping:
                wake.clear()
                changes = self._store.changes(kind, version)
                if changes is None:
                    expired = StatusError(410, "Expired", f"too old resource version: {version}").to_json()
                    await response.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
                    break
                version = max(version, self._store.version)
                for change in changes:
                    if request.namespace in (None, change.item.namespace):
                        what = _seen_as(change, matches)
                        lines += [line(what, _shown(change, what))] if what else []
                if lines:
                    await response.write(b"".join(lines))
                    lines = []
                if wake.is_set():
                    continue
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(wake.wait(), end - loop.time())
                if loop.time() >= end:
                    break
        except ConnectionError:
            pass  # the client has gone
        finally:
            self._wakes.discard(wake)
        return response


def _seen_as(change: ObjectChange, matches: Predicate) -> str:
    """Return what a change is to a watch with a selector, empty for nothing."""
    fits = matches(change.item.document)
    fitted = change.old is not None and matches(change.old.document)
    if change.type == "DELETED" or not fits:
        return "DELETED" if fitted else ""
    return "MODIFIED" if fitted else "ADDED"


def _shown(change: ObjectChange, what: str) -> Item:
    """Return the object that the event shows: one that left the selection as it was, with the new version."""
    if what != "DELETED" or change.old is None:
        return change.item
    metadata = {**change.old.metadata, "resourceVersion": str(change.item.version)}
    return Item(change.item.kind, {**change.old.document, "metadata": metadata}, change.item.version)
