"""The three ways of patching an object: JSON merge patch, JSON patch, and the strategic merge patch of Kubernetes."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from .answers import Object, StatusError, bad_request
from .schema import Field, Fields, fields_of

__all__ = ["json_patch", "merge_patch", "strategic_merge_patch"]


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386); `target` is left as it is."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


# ---------------------------------------------------------------------------------------------------- JSON patch


def json_patch(target: Object, operations: object) -> Object:
    """Apply a JSON patch (RFC 6902) to a copy of `target`.

    Raises:
        StatusError: 400 for an operation that is none, 422 for one that does not fit the object.
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    result: Any = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise bad_request("every operation of a JSON patch has op and path")
        result = _apply_operation(result, operation)
    if not isinstance(result, dict):
        _refuse("the patch leaves no object")
    return result


def _apply_operation(document: Any, operation: Object) -> Any:
    kind, path = operation.get("op"), _pointer(operation["path"])
    if kind in ("move", "copy"):
        source = _pointer(str(operation.get("from")))
        value = copy.deepcopy(_lookup(document, source))
        if kind == "move":
            document = _remove(document, source)
        return _add(document, path, value)
    if kind == "remove":
        return _remove(document, path)
    if "value" not in operation:
        _refuse(f"unexpected operation {str(kind)[:32]!r}, or one without a value")
    if kind == "test":
        if _lookup(document, path) != operation["value"]:
            _refuse(f"testing value {operation['path']} failed")
        return document
    if kind == "replace":
        _lookup(document, path)
        return _set(document, path, operation["value"])
    if kind == "add":
        return _add(document, path, operation["value"])
    return _refuse(f"unexpected operation {str(kind)[:32]!r}")


def _refuse(why: str) -> NoReturn:
    text = f"the server rejected our request due to an error in our request: {why}"
    raise StatusError(422, "Invalid", text, details={})


def _pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise bad_request(f"JSON patch: {path[:64]!r} is not a path")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _position(items: list[Any], step: str, *, end: bool = False) -> int:
    if step == "-" and end:
        return len(items)
    if not step.isdecimal() or int(step) >= len(items) + end:
        _refuse(f"no item {step[:32]!r} in the list")
    return int(step)


def _lookup(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, list):
            document = document[_position(document, step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            _refuse(f"path does not exist: {'/'.join(path)[:128]}")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _lookup(document, path[:-1])
    if isinstance(parent, list):
        parent.insert(_position(parent, path[-1], end=True), value)
        return document
    return _set(document, path, value)


def _set(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _lookup(document, path[:-1])
    if isinstance(parent, list):
        parent[_position(parent, path[-1])] = value
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        _refuse(f"path does not exist: {'/'.join(path)[:128]}")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        _refuse("the whole object cannot be removed by a patch")
    _lookup(document, path)
    parent = _lookup(document, path[:-1])
    if isinstance(parent, list):
        del parent[_position(parent, path[-1])]
    else:
        del parent[path[-1]]
    return document


# ------------------------------------------------------------------------------------------ strategic merge patch

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_SCALARS = "$deleteFromPrimitiveList/"


def strategic_merge_patch(kind: str, target: Object, patch: object) -> Object:
    """Apply a strategic merge patch: lists of things with a key are merged by the key.

    Args:
        kind: The object's kind, which says how each list is merged.
        target: The stored object; left as it is.
        patch: The patch, with the directives `$patch`, `$retainKeys`, `$setElementOrder/...` and
            `$deleteFromPrimitiveList/...` of kubectl.

    Raises:
        StatusError: 400, where a list item lacks the key by which it is merged.
    """
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is a JSON object")
    return _merge_struct(fields_of(kind), target, patch)


def _fields_below(field: Field | None) -> Fields:
    return fields_of(field.base) if field is not None and field.is_struct else {}


def _merge_struct(fields: Fields, target: Object, patch: Object) -> Object:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    result = dict(target)
    if isinstance(keep := patch.get(_RETAIN), list):
        result = {key: value for key, value in result.items() if key in keep}
    for key, value in patch.items():
        if key.startswith(_DELETE_SCALARS):
            name = key[len(_DELETE_SCALARS) :]
            result[name] = [item for item in result.get(name) or () if item not in value]
        elif key in (_DIRECTIVE, _RETAIN) or key.startswith(_ORDER):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_value(fields.get(key), result.get(key), value)
    for key, order in patch.items():
        name = key[len(_ORDER) :]
        if key.startswith(_ORDER) and isinstance(order, list) and isinstance(result.get(name), list):
            result[name] = _in_order(fields.get(name), target.get(name) or [], result[name], order)
    return result


def _merge_value(field: Field | None, old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        below = _fields_below(field) if field is None or not field.shape else {}
        return _merge_struct(below, old if isinstance(old, dict) else {}, new)
    if isinstance(new, list) and field is not None and field.merge_key is not None:
        present = old if isinstance(old, list) else []
        if field.merge_key:
            merged = _merge_list(field, field.merge_key, present, new)
        else:
            merged = [*present, *(item for item in new if item not in present)]
        return _in_order(field, present, merged, new)
    return new


def _merge_list(field: Field, key: str, old: list[Any], new: list[Any]) -> list[Any]:
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" and len(item) == 1 for item in new):
        return [item for item in new if item != {_DIRECTIVE: "replace"}]
    result = list(old)
    for item in new:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {str(item)[:64]} does not contain declared merge key: {key}")
        index = next((n for n, other in enumerate(result) if other.get(key) == item[key]), None)
        if item.get(_DIRECTIVE) == "delete":
            result = [other for other in result if other.get(key) != item[key]]
        elif index is None:
            result.append(_merge_struct(_fields_below(field), {}, item))
        else:
            result[index] = _merge_struct(_fields_below(field), result[index], item)
    return result


def _in_order(field: Field | None, before: list[Any], items: list[Any], order: list[Any]) -> list[Any]:
    """Sort the items of a merged list.

    Those that `order` names stand in that order, the others in the order that they had; a new item comes before the old
    ones that nobody named.
    """
    key = field.merge_key if field is not None else None

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted, known = [identity(item) for item in order], [identity(item) for item in before]
    named = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    others = [item for item in items if identity(item) not in wanted]
    result: list[Any] = []
    while named and others:
        first, second = identity(others[0]), identity(named[0])
        stays = first in known and second in known and known.index(first) < known.index(second)
        result.append(others.pop(0) if stays else named.pop(0))
    return [*result, *named, *others]
