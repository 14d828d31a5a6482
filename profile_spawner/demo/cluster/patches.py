"""The three kinds of patches: JSON merge patch, strategic merge patch, JSON patch."""

from __future__ import annotations

import copy
from typing import Any

from .failures import StatusError, bad_request
from .selectors import Object

__all__ = ["JSON_PATCH", "MERGE_PATCH", "STRATEGIC_PATCH", "apply_patch"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_MERGE_KEYS = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "podIPs": "ip",
    "secrets": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""By which field a strategic patch finds the items of a list; `ports` differ by kind."""


def apply_patch(document: Object, patch: Any, content_type: str) -> Object:
    """Return `document` with `patch` applied; neither is changed.

    Raises:
        StatusError: 400, 415 or 422.
    """
    if content_type == JSON_PATCH and isinstance(patch, list):
        return _json_patch(document, patch)
    if content_type not in (MERGE_PATCH, STRATEGIC_PATCH, JSON_PATCH):
        raise StatusError(415, "UnsupportedMediaType", f"the body is in an unknown format: {content_type}")
    if content_type == JSON_PATCH or not isinstance(patch, dict):
        raise bad_request("the patch has the wrong type")
    merged = _merge(copy.deepcopy(document), copy.deepcopy(patch), strategic=content_type == STRATEGIC_PATCH)
    assert isinstance(merged, dict)
    return merged


def _merge(old: Any, patch: Any, *, strategic: bool) -> Any:
    if not isinstance(patch, dict):
        return patch
    if strategic and patch.pop("$patch", "") == "replace":
        return patch
    merged: Object = old if isinstance(old, dict) else {}
    retained = patch.pop("$retainKeys", None) if strategic else None
    for key, value in patch.items():
        if strategic and key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            merged[field] = [item for item in merged.get(field, []) if item not in value]
        elif strategic and key.startswith("$"):
            continue  # the order of a list, in which nothing here depends
        elif value is None:
            merged.pop(key, None)
        elif strategic and isinstance(value, list):
            merged[key] = _merge_list(key, merged.get(key) or [], value)
        else:
            merged[key] = _merge(merged.get(key), value, strategic=strategic)
    return merged if retained is None else {key: value for key, value in merged.items() if key in retained}


def _merge_list(field: str, old: list[Any], patch: list[Any]) -> list[Any]:
    if field == "finalizers":
        return [*old, *(item for item in patch if item not in old)]
    key = _MERGE_KEYS.get(field, "")
    if field == "ports":
        key = "containerPort" if any("containerPort" in item for item in (*old, *patch)) else "port"
    if not key:
        return patch
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = list(old)
    for item in patch:
        if key not in item:
            raise bad_request(f"the patch has an item of {field} without {key}")
        at = next((at for at, other in enumerate(merged) if other.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [other for other in merged if other.get(key) != item[key]]
        elif at is None:
            merged.append(_merge({}, item, strategic=True))
        else:
            merged[at] = _merge(merged[at], item, strategic=True)
    return merged


def _json_patch(document: Object, operations: list[Any]) -> Object:
    root: Object = {"": copy.deepcopy(document)}
    try:
        for operation in operations:
            action, path = operation["op"], operation["path"]
            if action in ("move", "copy"):
                parent, last = _place(root, operation["from"])
                value = copy.deepcopy(parent[last])
                if action == "move":
                    del parent[last]
            else:
                value = operation.get("value")
            parent, last = _place(root, path)
            if action == "remove":
                del parent[last]
            elif action == "test":
                if parent[last] != value:
                    raise StatusError(422, "Invalid", f"the patch's test of {path} failed")
            elif action == "replace":
                parent[last]  # it must exist
                parent[last] = value
            elif isinstance(parent, list):
                parent.insert(last, value)
            else:
                parent[last] = value
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise StatusError(422, "Invalid", f"the patch does not fit the object: {error!r}") from None
    changed = root[""]
    if not isinstance(changed, dict):
        raise bad_request("the patch leaves no object")
    return changed


def _place(root: Any, path: str) -> tuple[Any, Any]:
    """Return the container that holds what `path` names, and its key there."""
    *above, last = (step.replace("~1", "/").replace("~0", "~") for step in path.split("/"))
    for step in above:
        root = root[int(step)] if isinstance(root, list) else root[step]
    if isinstance(root, list):
        return root, len(root) if last == "-" else int(last)
    return root, last
