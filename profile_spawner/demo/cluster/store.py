"""Stores the objects of the API server and their history, and deletes dependent objects."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from .defaults import now
from .failures import LocalClusterError
from .kinds import EVENTS, KINDS, NAMESPACES, NODES, PODS, ResourceType, by_kind
from .private_files import write_private
from .selectors import Object

__all__ = ["KEPT", "Item", "ObjectChange", "Store"]

_EVENT_LIMIT = 10_000
_FORMAT = 2
KEPT = frozenset(kind for kind in KINDS if kind not in (EVENTS, NODES, PODS))
"""The resources whose objects are kept between runs."""

Place: TypeAlias = tuple[str | None, str]
"""Namespace and name of an object."""


@dataclass(frozen=True, eq=False)
class Item:
    """An object in the store. Its document is never changed; a write makes a new item."""

    kind: ResourceType
    document: Object
    version: int

    @property
    def metadata(self) -> Object:
        """The object's metadata."""
        metadata: Object = self.document["metadata"]
        return metadata

    @property
    def namespace(self) -> str | None:
        """The namespace; None for objects of the cluster."""
        return self.metadata.get("namespace")

    @property
    def name(self) -> str:
        """The name."""
        return str(self.metadata["name"])

    @cached_property
    def raw(self) -> bytes:
        """The document as JSON, serialised once for all who read it."""
        return json.dumps(self.document, separators=(",", ":")).encode()

    @cached_property
    def raw_item(self) -> bytes:
        """The same as an item of a list, which does not repeat kind and API version."""
        document = {key: value for key, value in self.document.items() if key not in ("kind", "apiVersion")}
        return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True)
class ObjectChange:
    """What happened to one object: `ADDED`, `MODIFIED` or `DELETED`, with the item before, if there was one."""

    type: str
    item: Item
    old: Item | None


class Store:
    """Keeps objects, and deletes what depends on an object that is gone.

    Args:
        history: How many changes of each resource a watch can go back.

    Attributes:
        version: The latest resource version.
        listeners: Called with each change. They must not write.
    """

    def __init__(self, history: int = 5000) -> None:
        self.version = 1
        self.listeners: list[Callable[[ObjectChange], None]] = []
        self._objects: defaultdict[ResourceType, dict[Place, Item]] = defaultdict(dict)
        self._changes: defaultdict[ResourceType, deque[ObjectChange]] = defaultdict(lambda: deque(maxlen=history))
        self._dependents: defaultdict[str, set[tuple[ResourceType, Place]]] = defaultdict(set)
        self._first_version = self.version

    # --------------------------------------------------------------------------------------------------- reading

    def get(self, kind: ResourceType, namespace: str | None, name: str) -> Item | None:
        """Return an object, None where there is none."""
        return self._objects[kind].get((namespace, name))

    def select(self, kind: ResourceType, namespace: str | None = None) -> list[Item]:
        """Return the objects of a kind by namespace and name, those of all namespaces for None."""
        found = [item for item in self._objects[kind].values() if namespace in (None, item.namespace)]
        return sorted(found, key=lambda item: (item.namespace or "", item.name))

    def changes(self, kind: ResourceType, version: int) -> list[ObjectChange] | None:
        """Return the changes after `version`; None if it is too long ago to know."""
        known = self._changes[kind]
        oldest = known[0].item.version - 1 if known and len(known) == known.maxlen else self._first_version
        if version < oldest:
            return None
        later: list[ObjectChange] = []
        for change in reversed(known):
            if change.item.version <= version:
                break
            later.append(change)
        return later[::-1]

    # --------------------------------------------------------------------------------------------------- writing

    def put(self, kind: ResourceType, document: Object) -> Item:
        """Store an object that is new or changed; it is gone at once if it only waited for its last finalizer."""
        old = self.get(kind, document["metadata"].get("namespace"), document["metadata"]["name"])
        item = self._record("MODIFIED" if old else "ADDED", kind, document, old)
        metadata = item.metadata
        if metadata.get("deletionTimestamp"):
            if not metadata.get("finalizers") and not metadata.get("deletionGracePeriodSeconds"):
                return self.remove(item)
        elif metadata.get("ownerReferences"):
            # After the answer to the writer, as a real collector does it.
            asyncio.get_running_loop().call_soon(self._check_owners, kind, (item.namespace, item.name))
        if kind is EVENTS and len(self._objects[kind]) > _EVENT_LIMIT:
            self.remove(next(iter(self._objects[kind].values())))
        return item

    def remove(self, item: Item) -> Item:
        """Take an object out, and delete what depends on it or lies in it."""
        gone = self._record("DELETED", item.kind, item.document, item)
        for kind, place in list(self._dependents.get(gone.metadata["uid"], ())):
            asyncio.get_running_loop().call_soon(self._check_owners, kind, place)
        if item.kind is NAMESPACES:
            for kind in KINDS:
                for inner in self.select(kind, item.name) if kind.namespaced else ():
                    self.delete(inner)
        return gone

    def delete(self, item: Item, grace: int | None = None) -> Item:
        """Delete an object, or mark it where it has to wait for its finalizers or its grace period.

        Args:
            item: The object.
            grace: The seconds that a running pod has; None for what its spec says.
        """
        document, metadata = item.document, item.metadata
        wanted = grace if grace is not None else document.get("spec", {}).get("terminationGracePeriodSeconds", 30)
        ended = document.get("status", {}).get("phase") in ("Failed", "Succeeded")
        running = item.kind is PODS and document["spec"].get("nodeName") and not ended
        grace = max(0, wanted) if running else 0
        if metadata.get("deletionTimestamp"):
            if grace >= metadata["deletionGracePeriodSeconds"] and (grace or item.kind is not PODS):
                return item
        elif item.kind is not PODS and not metadata.get("finalizers"):
            return self.remove(item)
        metadata = {**metadata, "deletionTimestamp": now(grace), "deletionGracePeriodSeconds": grace}
        # A pod is always seen to be on its way out before it is gone.
        return self.put(item.kind, {**document, "metadata": metadata})

    def _record(self, what: str, kind: ResourceType, document: Object, old: Item | None) -> Item:
        self.version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self.version)}
        item = Item(kind, {**document, "metadata": metadata}, self.version)
        place = (item.namespace, item.name)
        for reference in (old.metadata.get("ownerReferences") or ()) if old else ():
            self._dependents[reference["uid"]].discard((kind, place))
        if what == "DELETED":
            del self._objects[kind][place]
        else:
            self._objects[kind][place] = item
            for reference in metadata.get("ownerReferences") or ():
                self._dependents[reference["uid"]].add((kind, place))
        change = ObjectChange(what, item, old)
        self._changes[kind].append(change)
        for listener in self.listeners:
            listener(change)
        return item

    def _check_owners(self, kind: ResourceType, place: Place) -> None:
        """Delete an object if none of its owners exists any more."""
        item = self._objects[kind].get(place)
        references = item.metadata.get("ownerReferences") if item is not None else None
        if item is None or not references or item.metadata.get("deletionTimestamp"):
            return
        for reference in references:
            owner_kind = by_kind(reference["apiVersion"], reference["kind"])
            if owner_kind is None:
                return
            owner = self.get(owner_kind, item.namespace if owner_kind.namespaced else None, reference["name"])
            if owner is not None and owner.metadata["uid"] == reference["uid"]:
                return
        self.delete(item)

    # --------------------------------------------------------------------------------------------------- the file

    def save(self, path: Path) -> None:
        """Write what is kept so that the file is the old one or the new one at any time, for its owner only.

        Raises:
            OSError: It cannot be written.
        """
        objects = [item.document for kind in KINDS if kind in KEPT for item in self.select(kind)]
        write_private(path, json.dumps({"form": _FORMAT, "version": self.version, "objects": objects}))

    def load(self, path: Path) -> None:
        """Read what an earlier run has written; a missing file is an empty state.

        Raises:
            LocalClusterError: The file is not one of ours.
        """
        try:
            state = json.loads(path.read_bytes())
            if state["form"] != _FORMAT:
                raise KeyError("form")
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError):
            text = f"the state of the local cluster in {path} cannot be read. Move it away to begin with an empty one"
            raise LocalClusterError(text) from None
        for document in state["objects"]:
            kind = by_kind(document["apiVersion"], document["kind"])
            if kind is not None:
                self.put(kind, document)
        self._changes.clear()
        # Clients of an earlier run must not take their old versions for new ones.
        self._first_version = self.version = max(self.version, state["version"]) + 1
