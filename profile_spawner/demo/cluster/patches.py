"""The two kinds of patches: JSON merge patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from .failures import StatusError, bad_request
from .selectors import Object

__all__ = ["apply_patch"]

_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"

_MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "secrets": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""By which field a strategic patch finds the items of a list; `ports` differ by kind."""


def apply_patch(document: Object, patch: Any, content_type: str) -> Object:
    """Return `document` with `patch` applied; neither is changed.

    Raises:
        StatusError: 400 or 415.
    """
    if content_type not in (_MERGE, _STRATEGIC):
        raise StatusError(415, "UnsupportedMediaType", f"the body is in an unknown format: {content_type}")
    if not isinstance(patch, dict):
        raise bad_request("the patch has the wrong type")
    merged: Object = _merge(copy.deepcopy(document), copy.deepcopy(patch), strategic=content_type == _STRATEGIC)
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
    key = _MERGE_KEYS.get(field, "")
    if field == "ports":
        key = "containerPort" if any("containerPort" in item for item in (*old, *patch)) else "port"
    if not key:
        return patch
    merged = {item.get(key): item for item in old}
    for item in patch:
        if key not in item:
            raise bad_request(f"the patch has an item of {field} without {key}")
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = _merge(merged.get(item[key]), item, strategic=True)
    return list(merged.values())
