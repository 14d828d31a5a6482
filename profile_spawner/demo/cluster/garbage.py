"""What a controller manager does on a real cluster, as far as it is about things going away.

Objects go with their owners, namespaces end when they are empty, old events are forgotten. It happens shortly after the
cause and never during a write, as on a real cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TypeAlias

from .answers import Object, StatusError
from .deletion import FOREGROUND, ORPHAN, Deletion
from .kinds import EVENTS, KINDS, NAMESPACES, QUOTAS, ResourceType, by_kind
from .quota import Quotas
from .store import Change, Store, Stored

__all__ = ["Collector"]

log = logging.getLogger(__name__)

_Key: TypeAlias = tuple[ResourceType, str | None, str]
_SWEEP_SECONDS = 30.0


class Collector:
    """Removes what has no reason to stay.

    Args:
        store: The state.
        deletion: The way to delete.
        quotas: What counts towards quotas, whose status is kept up to date here.
        event_seconds: How long events are kept.
        event_limit: How many events are kept; the oldest go first.
    """

    def __init__(
        self,
        store: Store,
        deletion: Deletion,
        quotas: Quotas,
        *,
        event_seconds: float = 3600.0,
        event_limit: int = 10_000,
    ) -> None:
        self._store = store
        self._deletion = deletion
        self._quotas = quotas
        self._counted: set[str] = set()
        self._event_seconds = event_seconds
        self._event_limit = event_limit
        self._events: deque[tuple[float, Stored]] = deque()
        self._queue: dict[_Key, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        store.listen(self._notice)

    def start(self) -> None:
        """Begin to work, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="local cluster: garbage collector")

    def look_through(self) -> None:
        """Take in what is already in the store, such as a state that was loaded."""
        for stored in self._store.all():
            if stored.metadata.get("ownerReferences") or stored.metadata.get("deletionTimestamp"):
                self._enqueue(stored)

    async def stop(self) -> None:
        """End the work; what is left to do is kept."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self.work_off()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _SWEEP_SECONDS)

    def work_off(self) -> None:
        """Do everything that there is to do now."""
        self._expire_events()
        while self._queue:
            key = next(iter(self._queue))
            del self._queue[key]
            stored = self._store.get(*key)
            if stored is None:
                continue
            try:
                self._handle(stored)
            except StatusError as error:
                log.warning("The garbage collector could not handle %s %s: %s", *key[0:3:2], error)

        for namespace in sorted(self._counted):
            for quota in self._store.select(QUOTAS, namespace):
                status = self._quotas.status(quota)
                if status != quota.document.get("status"):
                    self._store.put(QUOTAS, {**quota.document, "status": status})
        self._counted.clear()

    # ---------------------------------------------------------------------------------------------------- noticing

    def _notice(self, change: Change) -> None:
        """Remember what a change may have consequences for. Nothing is changed from here."""
        new = change.new
        if new.namespace is not None and new.kind is not EVENTS and self._store.select(QUOTAS, new.namespace):
            self._counted.add(new.namespace)
            self._wake.set()
        if new.kind is EVENTS and change.type == "ADDED":
            self._events.append((time.monotonic(), new))
            if len(self._events) > self._event_limit:
                self._wake.set()
            return
        if change.type == "DELETED":
            for dependent in self._store.dependents(new.uid):
                self._enqueue(dependent)
            for reference in new.metadata.get("ownerReferences") or ():
                if (owner := self._owner(new, reference)) is not None and owner.metadata.get("deletionTimestamp"):
                    self._enqueue(owner)
            self._notice_namespace(new)
        elif new.metadata.get("deletionTimestamp") or (
            (owners := new.metadata.get("ownerReferences"))
            and (change.old is None or owners != change.old.metadata.get("ownerReferences"))
        ):
            self._enqueue(new)

    def _notice_namespace(self, gone: Stored) -> None:
        if gone.namespace is not None:
            namespace = self._store.get(NAMESPACES, None, gone.namespace)
            if namespace is not None and namespace.metadata.get("deletionTimestamp"):
                self._enqueue(namespace)

    def _enqueue(self, stored: Stored) -> None:
        self._queue[stored.kind, stored.namespace, stored.name] = None
        self._wake.set()

    # ---------------------------------------------------------------------------------------------------- handling

    def _handle(self, stored: Stored) -> None:
        if stored.metadata.get("deletionTimestamp"):
            if stored.kind is NAMESPACES:
                self._end_namespace(stored)
                return
            finalizers = stored.metadata.get("finalizers", ())
            if ORPHAN in finalizers:
                self._orphan(stored)
            elif FOREGROUND in finalizers:
                self._delete_dependents(stored)
            return
        if stored.metadata.get("ownerReferences"):
            self._check_owners(stored)

    def _owner(self, dependent: Stored, reference: Object) -> Stored | None:
        kind = by_kind(reference["apiVersion"], reference["kind"])
        if kind is None:
            return None
        owner = self._store.get(kind, dependent.namespace if kind.namespaced else None, reference["name"])
        return owner if owner is not None and owner.uid == reference["uid"] else None

    def _check_owners(self, stored: Stored) -> None:
        """Delete an object that has lost its last owner; drop references to owners that are gone."""
        solid: list[Object] = []
        waiting = False
        for reference in stored.metadata["ownerReferences"]:
            kind = by_kind(reference["apiVersion"], reference["kind"])
            if kind is None or (kind.namespaced and stored.namespace is None):
                solid.append(reference)  # not ours to judge, as for a real collector
                continue
            owner = self._owner(stored, reference)
            if owner is None:
                continue
            if owner.metadata.get("deletionTimestamp") and FOREGROUND in owner.metadata.get("finalizers", ()):
                waiting = True
                continue
            solid.append(reference)
        if len(solid) == len(stored.metadata["ownerReferences"]):
            return
        if solid:
            self._write(stored, {**stored.metadata, "ownerReferences": solid})
            return
        self._delete(stored, "Foreground" if waiting and self._store.dependents(stored.uid) else "Background")

    def _orphan(self, owner: Stored) -> None:
        for dependent in self._store.dependents(owner.uid):
            left = [r for r in dependent.metadata["ownerReferences"] if r["uid"] != owner.uid]
            metadata = {**dependent.metadata, "ownerReferences": left}
            if not left:
                del metadata["ownerReferences"]
            self._write(dependent, metadata)
        self._remove_finalizer(owner, ORPHAN)

    def _delete_dependents(self, owner: Stored) -> None:
        blocking = False
        for dependent in self._store.dependents(owner.uid):
            if not dependent.metadata.get("deletionTimestamp"):
                self._check_owners(dependent)
            still = self._store.get(dependent.kind, dependent.namespace, dependent.name)
            references = still.metadata.get("ownerReferences", ()) if still is not None else ()
            blocking = blocking or any(r["uid"] == owner.uid and r.get("blockOwnerDeletion") for r in references)
        if not blocking:
            self._remove_finalizer(owner, FOREGROUND)

    def _end_namespace(self, namespace: Stored) -> None:
        """Delete what is in a namespace, and the namespace when nothing is."""
        empty = True
        for kind in KINDS:
            if not kind.namespaced:
                continue
            for stored in self._store.select(kind, namespace.name):
                if not stored.metadata.get("deletionTimestamp"):
                    self._delete(stored, None)
                empty = empty and self._store.get(kind, namespace.name, stored.name) is None
        if empty and not namespace.metadata.get("finalizers"):
            current = self._store.get(NAMESPACES, None, namespace.name)
            if current is not None:
                self._store.remove(current)

    def _delete(self, stored: Stored, policy: str | None) -> None:
        options: Object = {"preconditions": {"uid": stored.uid}}
        if policy is not None:
            options["propagationPolicy"] = policy
        self._deletion.delete_stored(stored, options)

    def _write(self, stored: Stored, metadata: Object) -> None:
        self._store.put(stored.kind, {**stored.document, "metadata": metadata})

    def _remove_finalizer(self, stored: Stored, finalizer: str) -> None:
        left = [name for name in stored.metadata.get("finalizers", ()) if name != finalizer]
        metadata = {**stored.metadata, "finalizers": left}
        if not left:
            del metadata["finalizers"]
        self._deletion.finish(self._store.put(stored.kind, {**stored.document, "metadata": metadata}))

    def _expire_events(self) -> None:
        oldest = time.monotonic() - self._event_seconds
        while self._events and (len(self._events) > self._event_limit or self._events[0][0] < oldest):
            _, event = self._events.popleft()
            current = self._store.get(EVENTS, event.namespace, event.name)
            if current is not None and current.uid == event.uid:
                self._store.remove(current)
