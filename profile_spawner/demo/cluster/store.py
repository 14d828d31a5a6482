"""Objects, their versions, and the history of changes that watches are served from.

Stored documents are never changed in place: a write stores a new document. So lists, watches and the collector can hand
out what is stored without copying, and each version is serialised at most once however many clients read it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from .answers import Object
from .kinds import KINDS, ResourceType

__all__ = ["Change", "ChangeType", "Collection", "Store", "Stored"]

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


class Stored:
    """One version of one object.

    Attributes:
        kind: The resource that it belongs to.
        document: The object. Not to be changed.
        version: Its resource version, as a number.
    """

    __slots__ = ("_raw", "document", "kind", "version")

    def __init__(self, kind: ResourceType, document: Object, version: int) -> None:
        self.kind = kind
        self.document = document
        self.version = version
        self._raw: bytes | None = None

    @property
    def raw(self) -> bytes:
        """The object as JSON. It begins with `kind.item_prefix`."""
        if self._raw is None:
            body = {key: value for key, value in self.document.items() if key not in ("kind", "apiVersion")}
            self._raw = self.kind.item_prefix + _dump(body)[1:]
        return self._raw

    @property
    def raw_item(self) -> bytes:
        """The object as it stands in a list: without kind and API version, which the list says once."""
        return b"{" + self.raw[len(self.kind.item_prefix) :]

    @property
    def metadata(self) -> Object:
        """The object's metadata."""
        metadata: Object = self.document["metadata"]
        return metadata

    @property
    def name(self) -> str:
        """The object's name."""
        name: str = self.document["metadata"]["name"]
        return name

    @property
    def namespace(self) -> str | None:
        """The object's namespace; None for cluster-scoped kinds."""
        namespace: str | None = self.document["metadata"].get("namespace")
        return namespace

    @property
    def uid(self) -> str:
        """The object's UID."""
        uid: str = self.document["metadata"]["uid"]
        return uid


class Change:
    """One step of the history: what was written, and what it replaced."""

    __slots__ = ("_lines", "new", "old", "type")

    def __init__(self, change_type: ChangeType, new: Stored, old: Stored | None) -> None:
        self.type = change_type
        self.new = new
        self.old = old
        self._lines: dict[str, bytes] = {}

    @property
    def version(self) -> int:
        """The resource version at which it happened."""
        return self.new.version

    def line(self, as_type: ChangeType) -> bytes:
        """Return the event of a watch, made once for all watchers.

        Args:
            as_type: An object that leaves the selection of a watch is `DELETED` for that watch only.
        """
        line = self._lines.get(as_type)
        if line is None:
            shown = self.new.raw
            if as_type == "DELETED" and self.type == "MODIFIED" and self.old is not None:
                # The last state that the watcher could see, at the version at which it went out of sight.
                metadata = {**self.old.metadata, "resourceVersion": str(self.version)}
                shown = Stored(self.new.kind, {**self.old.document, "metadata": metadata}, self.version).raw
            line = b'{"type":"%s","object":%s}\n' % (as_type.encode(), shown)
            self._lines[as_type] = line
        return line


Listener = Callable[[Change], None]


@dataclass(eq=False)
class Collection:
    """All objects of one resource.

    Attributes:
        kind: The resource.
        objects: The objects by namespace (None for cluster-scoped kinds) and name.
        history: The latest changes, oldest first.
        floor: The version up to which changes are forgotten; a watch cannot start before it.
        listeners: Called with every change, in the order of the changes.
    """

    kind: ResourceType
    objects: dict[str | None, dict[str, Stored]] = field(default_factory=dict)
    history: deque[Change] = field(default_factory=deque)
    floor: int = 0
    listeners: dict[Listener, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(named) for named in self.objects.values())

    def since(self, version: int) -> list[Change]:
        """Return the changes after `version`, oldest first."""
        found: list[Change] = []
        for change in reversed(self.history):
            if change.version <= version:
                break
            found.append(change)
        found.reverse()
        return found


class Store:
    """The state of the cluster.

    Args:
        history: How many changes per resource are kept for watches that resume.
    """

    def __init__(self, history: int = 5000) -> None:
        self.version = 1
        self._depth = history
        self._collections = {kind: Collection(kind) for kind in KINDS}
        self._dependents: dict[str, set[tuple[ResourceType, str | None, str]]] = {}
        self._listeners: list[Listener] = []

    def collection(self, kind: ResourceType) -> Collection:
        """Return everything of one resource."""
        return self._collections[kind]

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every change of every resource, before the writer gets its answer."""
        self._listeners.append(listener)

    def get(self, kind: ResourceType, namespace: str | None, name: str) -> Stored | None:
        """Return an object, or None."""
        named = self._collections[kind].objects.get(namespace)
        return named.get(name) if named else None

    def select(self, kind: ResourceType, namespace: str | None = None) -> list[Stored]:
        """Return the objects of one namespace, or of all for None, in the order of namespace and name."""
        objects = self._collections[kind].objects
        if namespace is not None or not kind.namespaced:
            named = objects.get(namespace) or {}
            return [named[name] for name in sorted(named)]
        return [
            named[name]
            for space, named in sorted(objects.items(), key=lambda item: item[0] or "")
            for name in sorted(named)
        ]

    def all(self) -> Iterator[Stored]:
        """Yield every object."""
        for collection in self._collections.values():
            for named in collection.objects.values():
                yield from list(named.values())

    def dependents(self, uid: str) -> list[Stored]:
        """Return the objects that name `uid` as an owner."""
        found = [
            self.get(*key) for key in sorted(self._dependents.get(uid, ()), key=lambda k: (k[0].plural, str(k[1:])))
        ]
        return [stored for stored in found if stored is not None]

    def put(self, kind: ResourceType, document: Object) -> Stored:
        """Store a new object or a new version of one; the resource version is filled in.

        Args:
            kind: The resource.
            document: The object, complete. It belongs to the store from now on.
        """
        metadata = document["metadata"]
        namespace, name = metadata.get("namespace"), metadata["name"]
        named = self._collections[kind].objects.setdefault(namespace, {})
        old = named.get(name)
        stored = self._next(kind, document)
        named[name] = stored
        if old is not None:
            self._index(old, add=False)
        self._index(stored, add=True)
        self._record(Change("MODIFIED" if old is not None else "ADDED", stored, old))
        return stored

    def restore(self, kind: ResourceType, document: Object) -> None:
        """Put an object of an earlier run into the store, at its old version. Nobody is told."""
        metadata = document["metadata"]
        stored = Stored(kind, document, int(metadata["resourceVersion"]))
        named = self._collections[kind].objects.setdefault(metadata.get("namespace"), {})
        named[metadata["name"]] = stored
        self._index(stored, add=True)

    def remove(self, stored: Stored) -> Stored:
        """Remove an object and return its last state, at the version of the removal."""
        named = self._collections[stored.kind].objects[stored.namespace]
        del named[stored.name]
        if not named:
            del self._collections[stored.kind].objects[stored.namespace]
        self._index(stored, add=False)
        last = self._next(stored.kind, stored.document)
        self._record(Change("DELETED", last, stored))
        return last

    def forget_history(self) -> None:
        """Forget all past changes, as etcd does when it compacts: watches that resume from before get 410."""
        for collection in self._collections.values():
            collection.history.clear()
            collection.floor = self.version

    def _next(self, kind: ResourceType, document: Object) -> Stored:
        self.version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self.version)}
        return Stored(kind, {**document, "metadata": metadata}, self.version)

    def _index(self, stored: Stored, *, add: bool) -> None:
        for owner in stored.metadata.get("ownerReferences") or ():
            key = (stored.kind, stored.namespace, stored.name)
            if add:
                self._dependents.setdefault(owner["uid"], set()).add(key)
            elif (keys := self._dependents.get(owner["uid"])) is not None:
                keys.discard(key)
                if not keys:
                    del self._dependents[owner["uid"]]

    def _record(self, change: Change) -> None:
        collection = self._collections[change.new.kind]
        collection.history.append(change)
        if len(collection.history) > self._depth:
            collection.floor = collection.history.popleft().version
        for listener in (*self._listeners, *collection.listeners):
            listener(change)
