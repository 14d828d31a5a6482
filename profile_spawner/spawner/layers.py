"""Where the values of params come from on a hub: configuration, groups, and a hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_spawner.access import UserInfo
from profile_spawner.names import content_hash

__all__ = ["group_properties", "layers_for", "layers_key"]

PROPERTY = "profile_spawner"
"""The key of a JupyterHub group's `properties` that holds its `params` and `profiles`."""


def group_properties(user: Any) -> dict[str, Mapping[str, Any]]:
    """Return what the user's JupyterHub groups say in their properties, by group name."""
    found = {}
    for group in getattr(user, "groups", None) or ():
        value = (getattr(group, "properties", None) or {}).get(PROPERTY)
        if isinstance(value, Mapping):
            found[group.name] = value
    return found


def layers_for(
    user: UserInfo,
    server: str,
    values: Mapping[str, Any],
    properties: Mapping[str, Mapping[str, Any]],
    hooked: Mapping[str, Any] | None,
    order: str,
) -> dict[str, Any]:
    """Return the layers for one server, as `Resolver.resolve` takes them.

    Groups stand in the order in which the configuration declares them; those that only have properties follow by name.

    Args:
        user: Whose server.
        server: Its name.
        values: The trait `param_values`.
        properties: What `group_properties` returned.
        hooked: What `param_layers_hook` returned; it wins over the configuration, layer by layer and value by value.
        order: The trait `param_order`.
    """
    declared = values.get("groups") or {}
    names = [n for n in declared if n in user.groups] + sorted(n for n in properties if n not in declared)
    groups = [_group(name, {**_as_group(properties.get(name)), **_as_group(declared.get(name))}) for name in names]
    assigned = values.get("assigned") or {}
    layers: dict[str, Any] = {
        "enforced": dict(values.get("enforced") or {}),
        "server": dict((values.get("servers") or {}).get(f"{user.name}/{server}") or {}),
        "user": dict((values.get("users") or {}).get(user.name) or {}),
        "assigned": [p for key in (user.name, *sorted(user.groups)) for p in assigned.get(key, ())],
        "groups": groups,
        "hub": dict(values.get("hub") or {}),
        "order": order,
    }
    for layer, value in (hooked or {}).items():
        if isinstance(value, Mapping) and layer != "groups":
            layers[layer] = {**layers.get(layer, {}), **value}
        elif layer == "groups":
            layers[layer] = [_group(name, _as_group(group)) for name, group in value.items()] + layers[layer]
        else:
            layers[layer] = [*value, *layers.get(layer, ())]
    return layers


def layers_key(layers: Mapping[str, Any]) -> str:
    """Return what is equal for servers with equal layers; empty when there is nothing in them."""
    said = {name: value for name, value in layers.items() if value and name != "order"}
    return content_hash(repr(sorted(said.items()))) if said else ""


def _as_group(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    return dict(value) if set(value) <= {"params", "profiles"} else {"params": dict(value)}


def _group(name: str, value: Mapping[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    return name, dict(value.get("params") or {}), list(value.get("profiles") or ())
