"""Server-side apply: who manages which field, and what happens when two want the same one.

A field is a path of steps in the notation of `FieldsV1`: `f:NAME` for a key, `k:{"name":"x"}` for the item of a list
that is told apart by keys, `v:"x"` for a member of a set. Each manager owns a set of such paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .answers import Object, StatusError, bad_request
from .schema import Field, Fields, fields_of

__all__ = ["Manager", "apply", "read_managers", "record_update", "write_managers"]

Path: TypeAlias = tuple[str, ...]
Paths: TypeAlias = dict[Path, Any]
"""Paths with the values that lie there; items of keyed lists have the value `_ITEM`."""

_ITEM = object()
# Filled in by the server for map keys that a client may leave out.
_KEY_DEFAULTS = {"protocol": "TCP"}
_NOBODYS_METADATA = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "selfLink",
        "generation",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    }
)


@dataclass
class Manager:
    """What one client manages.

    Attributes:
        name: The `fieldManager`.
        operation: `Apply` or `Update`.
        subresource: `status` or empty.
        time: When it last changed something.
        paths: What it owns.
    """

    name: str
    operation: str
    subresource: str
    time: str
    paths: set[Path] = field(default_factory=set)


# ------------------------------------------------------------------------------------------------- paths of a document


def leaves(kind: str, document: Object) -> Paths:
    """Return every path of `document` that can have a manager, with its value."""
    found: Paths = {}
    body = {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        body["metadata"] = {key: value for key, value in metadata.items() if key not in _NOBODYS_METADATA}
        if not body["metadata"]:
            del body["metadata"]
    for path, value in _walk_struct(fields_of(kind), body, ()):
        found[path] = value
    return found


def _walk_struct(fields: Fields, value: Object, path: Path) -> Iterator[tuple[Path, Any]]:
    for key, item in value.items():
        known = fields.get(key)
        yield from _walk_value(known, known.shape if known is not None else "", item, (*path, f"f:{key}"))


def _walk_value(known: Field | None, shape: str, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if value is None:
        return
    if known is None or known.list_kind == "atomic":
        yield path, value
    elif shape.startswith("{}") and isinstance(value, dict):
        for key, item in value.items():
            yield from _walk_value(known, shape[2:], item, (*path, f"f:{key}"))
    elif shape == "[]" and known.list_kind == "map" and isinstance(value, list):
        steps = [_item_step(known, item) for item in value]
        if None in steps or len(set(steps)) < len(steps):
            # Items that cannot be told apart, which plain writes may store, are managed as one.
            yield path, value
            return
        for step, item in zip(steps, value, strict=True):
            below = (*path, str(step))
            yield below, _ITEM
            yield from _walk_struct(fields_of(known.base), item, below)
    elif shape == "[]" and known.list_kind == "set" and isinstance(value, list):
        for item in value:
            yield (*path, f"v:{_json(item)}"), item
    elif not shape and known.is_struct and isinstance(value, dict) and value:
        yield from _walk_struct(fields_of(known.base), value, path)
    else:
        yield path, value


def _item_step(known: Field, item: Object) -> str | None:
    """Return the step to an item of a keyed list, None where it lacks a key."""
    if len(known.map_keys) == 1 and isinstance(value := item.get(known.map_keys[0]), str) and value.isidentifier():
        return f'k:{{"{known.map_keys[0]}":"{value}"}}'
    keys = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in known.map_keys}
    return None if None in keys.values() else f"k:{_json(keys)}"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


# --------------------------------------------------------------------------------------------------------- FieldsV1


def _to_tree(paths: Iterable[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node.setdefault(".", {})
    return tree


def _from_tree(tree: Object, path: Path = ()) -> Iterator[Path]:
    for step, below in tree.items():
        if step == ".":
            continue
        here = (*path, step)
        if not below or "." in below:
            yield here
        yield from _from_tree(below, here)


def read_managers(metadata: Object) -> list[Manager]:
    """Return the managers that an object's `managedFields` name."""
    return [
        Manager(
            entry.get("manager", ""),
            entry.get("operation", "Update"),
            entry.get("subresource", ""),
            entry.get("time", ""),
            set(_from_tree(entry.get("fieldsV1", {}))),
        )
        for entry in metadata.get("managedFields") or ()
    ]


def write_managers(managers: Iterable[Manager], api_version: str) -> list[Object]:
    """Return `managedFields` for the managers that own anything."""
    entries = []
    for manager in managers:
        if not manager.paths:
            continue
        entry: Object = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": api_version,
            "time": manager.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _to_tree(manager.paths),
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    return entries


def _mine(managers: list[Manager], name: str, operation: str, subresource: str, time: str) -> Manager:
    for manager in managers:
        if (manager.name, manager.operation, manager.subresource) == (name, operation, subresource):
            return manager
    manager = Manager(name, operation, subresource, time)
    managers.append(manager)
    return manager


def record_update(
    kind: str, managers: list[Manager], old: Object | None, new: Object, name: str, subresource: str, time: str
) -> None:
    """Note that a plain write made `name` the manager of everything that it changed.

    Args:
        kind: The object's kind.
        managers: The managers so far; changed in place.
        old: The object before, None for a new one.
        new: The object as it will be stored.
        name: The writer's manager name.
        subresource: `status` for a write of the status.
        time: The present moment.
    """
    # Most writes change one part of an object; only that part is looked at.
    parts = [key for key in {**new, **(old or {})} if old is None or new.get(key) != old.get(key)]
    after = leaves(kind, {key: new[key] for key in parts if key in new})
    before = leaves(kind, {key: old[key] for key in parts if key in old}) if old is not None else {}
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    if old is None:
        changed = {path for path in changed if path[0] != "f:status"}
    gone = set(before) - set(after)
    for manager in managers:
        manager.paths -= changed | gone
    if changed:
        mine = _mine(managers, name, "Update", subresource, time)
        mine.paths |= changed
        mine.time = time
    managers[:] = [manager for manager in managers if manager.paths]


# ------------------------------------------------------------------------------------------------------------ apply


def apply(
    kind: str, live: Object, applied: Object, managers: list[Manager], name: str, time: str, *, force: bool
) -> Object:
    """Merge what a manager applies into the live object.

    Args:
        kind: The object's kind.
        live: The stored object; an empty one where there is none. Left as it is.
        applied: What the manager wants, typed.
        managers: The managers of the live object; changed in place.
        name: The manager's name.
        time: The present moment.
        force: Whether to take fields away from others.

    Returns:
        The merged object, without what this manager had applied before and leaves out now.

    Raises:
        StatusError: 409, where another manager owns a field with another value, and `force` is not set.
    """
    wanted, present = leaves(kind, applied), leaves(kind, live)
    changed = {path for path, value in wanted.items() if path in present and present[path] != value}
    others = [manager for manager in managers if (manager.name, manager.operation) != (name, "Apply")]
    clashes = [(manager, path) for manager in others for path in sorted(manager.paths & changed)]
    if clashes and not force:
        raise _apply_conflict(clashes, live["apiVersion"])
    for manager in others:
        manager.paths -= changed
    mine = _mine(managers, name, "Apply", "", time)
    dropped = mine.paths - set(wanted)
    mine.paths, mine.time = set(wanted), time
    theirs = {path for manager in others for path in manager.paths}
    merged = _merge_struct(fields_of(kind), live, applied)
    for path in _to_remove(dropped - theirs, theirs):
        merged = _without(merged, fields_of(kind), path)
    managers[:] = [manager for manager in managers if manager.paths or manager is mine]
    return merged


def _to_remove(dropped: set[Path], theirs: set[Path]) -> list[Path]:
    """Return what goes when a manager drops these paths: items as a whole, unless others own something in them."""
    found: list[Path] = []
    for path in sorted(dropped, key=lambda path: (len(path), path)):
        above = [path[:size] for size in range(1, len(path))]
        if any(part in found for part in above):
            continue
        is_item = path[-1].startswith("k:")
        if is_item and any(other[: len(path)] == path for other in theirs):
            continue
        # An item that stays keeps the keys by which it is told apart.
        is_key = len(path) > 1 and path[-2].startswith("k:") and path[-1][2:] in json.loads(path[-2][2:])
        if not is_key:
            found.append(path)
    return found


def _apply_conflict(clashes: list[tuple[Manager, Path]], api_version: str) -> StatusError:
    causes = []
    for manager, path in clashes:
        shown = f'conflict with "{manager.name}"'
        if manager.operation == "Update":
            shown += f" using {api_version}"
        causes.append({"reason": "FieldManagerConflict", "message": shown, "field": _show(path)})
    plural = "s" if len(causes) > 1 else ""
    listed = "\n".join(f"- {cause['field']}" for cause in causes)
    where = f": {causes[0]['field']}" if len(causes) == 1 else f":\n{listed}"
    text = f"Apply failed with {len(causes)} conflict{plural}: {causes[0]['message']}{where}"
    return StatusError(409, "Conflict", text, details={"causes": causes})


def _show(path: Path) -> str:
    text = ""
    for step in path:
        flavour, _, rest = step.partition(":")
        if flavour == "f":
            text += f".{rest}"
        elif flavour == "k":
            keys = ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items())
            text += f"[{keys}]"
        else:
            text += f"[={rest}]"
    return text


def _merge_struct(fields: Fields, old: Object, new: Object) -> Object:
    result = dict(old)
    for key, value in new.items():
        known = fields.get(key)
        result[key] = _merge_value(known, known.shape if known is not None else "", result.get(key), value)
    return result


def _merge_value(known: Field | None, shape: str, old: Any, new: Any) -> Any:
    if known is None or known.list_kind == "atomic" or old is None:
        return new
    if shape.startswith("{}") and isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merge_value(known, shape[2:], old.get(key), value) for key, value in new.items()}}
    if shape == "[]" and known.list_kind == "map":
        return _merge_items(known, old, new)
    if shape == "[]" and known.list_kind == "set":
        return [*old, *(item for item in new if item not in old)]
    if not shape and known.is_struct and isinstance(old, dict) and isinstance(new, dict):
        return _merge_struct(fields_of(known.base), old, new)
    return new


def _merge_items(known: Field, old: list[Object], new: list[Object]) -> list[Object]:
    result = list(old)
    places = {_item_step(known, item): index for index, item in enumerate(result)}
    for item in new:
        step = _item_step(known, item)
        if step is None:
            keys = ", ".join(known.map_keys)
            raise bad_request(f"associative list with keys has an element that omits one of its key fields: {keys}")
        if step in places:
            result[places[step]] = _merge_struct(fields_of(known.base), result[places[step]], item)
        else:
            places[step] = len(result)
            result.append(item)
    return result


def _without(value: Any, fields: Fields, path: Path) -> Any:
    """Return a document without what lies at `path`."""
    step, rest = path[0][2:], path[1:]
    if not isinstance(value, dict) or step not in value:
        return value
    if not rest:
        return {key: item for key, item in value.items() if key != step}
    below = _without_below(value[step], fields.get(step), rest)
    result = {**value, step: below}
    if below in ({}, []):
        del result[step]
    return result


def _without_below(value: Any, known: Field | None, path: Path) -> Any:
    if isinstance(value, list) and known is not None:
        return _without_item(value, known, path)
    if known is not None and known.is_struct and not known.shape:
        return _without(value, fields_of(known.base), path)
    return _without(value, {}, path)


def _without_item(items: list[Any], known: Field, path: Path) -> list[Any]:
    flavour, _, wanted = path[0].partition(":")
    if flavour == "v":
        return [item for item in items if _json(item) != wanted]
    kept = []
    for item in items:
        if _item_step(known, item) != path[0]:
            kept.append(item)
        elif len(path) > 1:
            kept.append(_without(item, fields_of(known.base), path[1:]))
    return kept
