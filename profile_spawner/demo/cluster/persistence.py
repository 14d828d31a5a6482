"""Keeps what outlives a run: everything but pods, nodes, and other things that only mean something while they run."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from profile_spawner.errors import ProfileSpawnerError

from .kinds import EVENTS, KINDS, NODES, PODS, by_kind
from .store import Store

__all__ = ["KEPT", "dump_state", "load_state", "write_state"]

_FORM = 1
KEPT = frozenset(kind for kind in KINDS if kind not in (EVENTS, NODES, PODS) and kind.plural != "leases")
"""The resources whose objects are kept."""


def dump_state(store: Store) -> bytes:
    """Return the objects that are kept, as a JSON document."""
    objects = [stored.document for stored in store.all() if stored.kind in KEPT]
    state = {"form": _FORM, "version": store.version, "objects": objects}
    return json.dumps(state, separators=(",", ":")).encode()


def write_state(path: Path, state: bytes) -> None:
    """Write a state file so that it is the old one or the new one at any time; only its owner can read it.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_state(store: Store, path: Path) -> None:
    """Put the objects of a state file into an empty store. A missing file is an empty state.

    Raises:
        ProfileSpawnerError: The file is not one of ours.
    """
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise _unreadable(path) from error
    if not isinstance(state, dict) or state.get("form") != _FORM:
        raise _unreadable(path)
    for document in state["objects"]:
        kind = by_kind(document["apiVersion"], document["kind"])
        if kind is not None:
            store.restore(kind, document)
    # Clients of an earlier run must not take their old versions for new ones.
    store.version = max(store.version, state["version"]) + 1
    store.forget_history()


def _unreadable(path: Path) -> ProfileSpawnerError:
    return ProfileSpawnerError(
        f"the state of the local cluster in {path} cannot be read",
        expected="a file that an earlier run of this version wrote",
        hint="Move it away to begin with an empty cluster",
    )
