"""Merges the trait values of a profile with those of the hub's configuration.

KubeSpawner replaces lists, so a profile's `volumes` would remove the user's home. Here values are merged by type:

- mappings (environment, labels, limits, node selector, ...): by key, the later one wins;
- volumes, init containers, extra containers, pull secrets: by name;
- volume mounts: by the path at which they are mounted;
- tolerations and affinities: by content;
- required node affinity: every term of one with every term of the other, because one term is enough for Kubernetes;
- everything else: replaced.

Two different items with the same name raise a `ConflictError` that names both origins. Arguments are not changed.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from profile_spawner.errors import ConflictError

__all__ = ["MAPPING_TRAITS", "NAMED_TRAITS", "SET_TRAITS", "as_list", "merge_overrides", "merge_trait"]

MAPPING_TRAITS = frozenset(
    {
        "environment",
        "extra_annotations",
        "extra_labels",
        "extra_resource_guarantees",
        "extra_resource_limits",
        "node_selector",
    }
)
NAMED_TRAITS = {
    "extra_containers": ("name",),
    "image_pull_secrets": ("name",),
    "init_containers": ("name",),
    "volume_mounts": ("mountPath", "mount_path"),
    "volumes": ("name",),
}
"""Lists whose items are identified by a key, with the spellings of that key."""

SET_TRAITS = frozenset(
    {
        "node_affinity_preferred",
        "pod_affinity_preferred",
        "pod_affinity_required",
        "pod_anti_affinity_preferred",
        "pod_anti_affinity_required",
        "tolerations",
    }
)
_DEEP_TRAITS = frozenset(
    {
        "container_security_context",
        "extra_container_config",
        "extra_pod_config",
        "lifecycle_hooks",
        "pod_security_context",
    }
)


def as_list(value: Any) -> list[Any]:
    """Return a list trait's value as a list. KubeSpawner also accepts mappings; their values are sorted by key."""
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    return list(value or ())


def merge_overrides(
    base: Mapping[str, Any], extra: Mapping[str, Any], *, base_origin: str, extra_origin: str
) -> dict[str, Any]:
    """Return `base` with `extra` merged into it, trait by trait.

    Raises:
        ConflictError: naming both origins.
    """
    result = dict(base)
    for trait, value in extra.items():
        if trait in result:
            result[trait] = merge_trait(trait, result[trait], value, base_origin=base_origin, extra_origin=extra_origin)
        else:
            result[trait] = copy.deepcopy(value)
    return result


def merge_trait(trait: str, base: Any, extra: Any, *, base_origin: str, extra_origin: str) -> Any:
    """Return the merged value of one trait. The arguments are not changed.

    Raises:
        ConflictError: when both have a different thing under one name.
    """
    if trait in MAPPING_TRAITS and isinstance(base, Mapping) and isinstance(extra, Mapping):
        merged = {**base, **extra}
        return {k: copy.deepcopy(v) for k, v in merged.items() if v is not None}
    if trait in NAMED_TRAITS:
        return _merge_named(trait, as_list(base), as_list(extra), base_origin, extra_origin)
    if trait in SET_TRAITS:
        result = copy.deepcopy(as_list(base))
        result.extend(copy.deepcopy(item) for item in as_list(extra) if item not in result)
        return result
    if trait == "node_affinity_required":
        if not base or not extra:
            return copy.deepcopy(as_list(base or extra))
        pairs = itertools.product(as_list(base), as_list(extra))
        return [one if one == other else _both_terms(one, other) for one, other in pairs]
    if trait in _DEEP_TRAITS and isinstance(base, Mapping) and isinstance(extra, Mapping):
        return _merge_deep(trait, base, extra, base_origin, extra_origin)
    return copy.deepcopy(extra)


def _identity(item: Any, spellings: Sequence[str]) -> Any:
    if isinstance(item, str):
        return item
    return next((item[s] for s in spellings if isinstance(item, Mapping) and s in item), None)


def _normal(item: Any) -> Any:
    """Return an item with normalized keys, so that `mountPath` and `mount_path` compare equal."""
    if isinstance(item, Mapping):
        return {_camel(k): _normal(v) for k, v in item.items() if v is not None}
    if isinstance(item, list | tuple):
        return [_normal(v) for v in item]
    return item


def _camel(key: Any) -> Any:
    head, *rest = str(key).split("_")
    return head + "".join(part.capitalize() for part in rest)


def _both_terms(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the term for nodes that fulfil both terms."""
    merged: dict[str, Any] = copy.deepcopy(_normal(one))
    for key, conditions in _normal(other).items():
        merged[key] = merged.get(key, []) + [copy.deepcopy(c) for c in conditions if c not in merged.get(key, [])]
    return merged


def _merge_named(trait: str, base: list[Any], extra: list[Any], base_origin: str, extra_origin: str) -> list[Any]:
    spellings = NAMED_TRAITS[trait]
    result = copy.deepcopy(base)
    present = {_identity(item, spellings): item for item in base}
    for item in extra:
        name = _identity(item, spellings)
        if name is not None and name in present:
            if _normal(present[name]) != _normal(item):
                raise ConflictError(
                    f"{trait}: {name!r} is defined by {base_origin} and, differently, by {extra_origin}",
                    field=trait,
                    expected="one definition, or different names",
                    hint=f"Rename one of the two {trait.replace('_', ' ')}",
                )
            continue
        present[name] = item
        result.append(copy.deepcopy(item))
    return result


def _merge_deep(
    trait: str, base: Mapping[str, Any], extra: Mapping[str, Any], base_origin: str, extra_origin: str
) -> dict[str, Any]:
    result = copy.deepcopy(dict(base))
    for key, value in extra.items():
        old = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = _merge_deep(trait, old, value, base_origin, extra_origin)
        elif isinstance(old, list) and isinstance(value, list):
            result[key] = old + [copy.deepcopy(v) for v in value if v not in old]
        else:
            result[key] = copy.deepcopy(value)
    return result
