"""Collects the values of params on a hub from the configuration, from groups, and from a hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profile_spawner.errors import Origin, ParamError, did_you_mean
from profile_spawner.names import content_hash
from profile_spawner.params.layers import LayerValues
from profile_spawner.params.templates import references_in
from profile_spawner.profiles.access import UserInfo

__all__ = ["check_param_values", "group_properties", "layers_for", "layers_key"]

PROPERTY = "profile_spawner"
"""The key of a JupyterHub group's `properties` that holds its `params` and `profiles`."""

_CONFIGURED = ("enforced", "servers", "users", "assigned", "groups", "hub")
_HOOKED = ("enforced", "server", "user", "assigned", "groups", "hub")
_SETTING = "param_values"
_HOOK = "param_layers_hook"


def check_param_values(values: Any) -> None:
    """Check the structure of the setting `param_values`. Unknown layers are errors.

    Raises:
        ParamError: If the structure is wrong. The error names the place and the expected value.
    """
    _known(_mapping(values, _SETTING), _CONFIGURED, _SETTING)
    _mapping(values.get("enforced"), f"{_SETTING}['enforced']")
    _layer(values.get("hub"), f"{_SETTING}['hub']")
    for layer in ("servers", "users", "groups"):
        for name, inner in _mapping(values.get(layer), f"{_SETTING}[{layer!r}]").items():
            _layer(inner, f"{_SETTING}[{layer!r}][{name!r}]")
    _assigned(values.get("assigned"), UserInfo(""))


def group_properties(user: Any) -> dict[str, Any]:
    """Return the profile settings in the properties of the user's JupyterHub groups, by group name."""
    found = {}
    for group in getattr(user, "groups", None) or ():
        value = (getattr(group, "properties", None) or {}).get(PROPERTY)
        if value is not None:
            found[group.name] = value
    return found


def layers_for(
    user: UserInfo,
    server: str,
    values: Mapping[str, Any],
    properties: Mapping[str, Any],
    hooked: Mapping[str, Any] | None,
    order: str,
) -> dict[str, Any]:
    """Return the layers for one server, in the format of `Resolver.resolve`. Every value has its origin.

    Groups have the order of the configuration. Groups that only have properties follow, sorted by name.

    Args:
        user: The owner of the server.
        server: Its name.
        values: The trait `param_values`.
        properties: What `group_properties` returned.
        hooked: What `param_layers_hook` returned; it wins over the configuration, layer by layer and value by value.
        order: The trait `param_order`.

    Raises:
        ParamError: If the structure of a value is wrong. The error names the place.
    """
    check_param_values(values)
    declared = values.get("groups") or {}
    names = [n for n in declared if n in user.groups] + sorted(n for n in properties if n not in declared)
    groups = []
    for name in names:
        own = _group(name, properties.get(name), f"properties of the group {name!r}")
        configured = _group(name, declared.get(name), f"{_SETTING}['groups'][{name!r}]")
        groups.append((name, _over(own[1], configured[1]), configured[2] or own[2]))
    key = f"{user.name}/{server}"
    layers: dict[str, Any] = {
        "enforced": _values(values.get("enforced"), f"{_SETTING}['enforced']"),
        "server": _layer((values.get("servers") or {}).get(key), f"{_SETTING}['servers'][{key!r}]"),
        "user": _layer((values.get("users") or {}).get(user.name), f"{_SETTING}['users'][{user.name!r}]"),
        "assigned": _assigned(values.get("assigned"), user),
        "groups": groups,
        "hub": _layer(values.get("hub"), f"{_SETTING}['hub']"),
        "order": order,
    }
    for layer, value in _known(_mapping(hooked, _HOOK), _HOOKED, _HOOK).items():
        place = f"{_HOOK}: {layer}"
        if layer == "groups":
            layers[layer] = [_group(n, g, f"{place}: {n}") for n, g in _mapping(value, place).items()] + layers[layer]
        elif layer == "assigned":
            layers[layer] = [*_names(value, place), *layers[layer]]
        else:
            layers[layer] = _over(layers[layer], (_values if layer == "enforced" else _layer)(value, place))
    return layers


def layers_key(layers: Mapping[str, Any], *, uses_facts: bool = False) -> str:
    """Return a key that is equal for servers with equal layers. It is empty if all layers are empty.

    Args:
        layers: What `layers_for` returned, and the server's `facts`.
        uses_facts: Whether values elsewhere refer to facts, so that they differ from user to user.
    """
    said = {name: value for name, value in layers.items() if value and name not in ("order", "facts")}
    if layers.get("facts") and (uses_facts or references_in(said)):
        said["facts"] = sorted(layers["facts"].items())
    return content_hash(repr(sorted(said.items()))) if said else ""


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ParamError("must be a dictionary", field=place, value=type(value).__name__)
    return value


def _known(value: Mapping[str, Any], names: Sequence[str], place: str) -> Mapping[str, Any]:
    for name in value:
        if name not in names:
            raise ParamError(
                f"there is no layer {name!r} here{did_you_mean(name, names)}", field=place, expected=", ".join(names)
            )
    return value


def _names(value: Any, place: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise ParamError("must be a list of names of profiles and collections", field=place, value=value)
    return list(value)


def _assigned(value: Any, user: UserInfo) -> list[str]:
    """Return what is assigned to the user, then what is assigned to the user's groups, in the order of the setting.

    Users and groups are separate: a user with the name of a group does not get the group's profiles.
    """
    place = f"{_SETTING}['assigned']"
    found: list[str] = []
    assigned = _mapping(value, place)
    for kind in assigned:
        if kind not in ("users", "groups"):
            raise ParamError(f"{kind!r} is not known here", field=place, expected="'users' and 'groups'")
    for kind, names in (("users", {user.name}), ("groups", user.groups)):
        for name, profiles in _mapping(assigned.get(kind), f"{place}[{kind!r}]").items():
            listed = _names(profiles, f"{place}[{kind!r}][{name!r}]")
            found += listed if name in names else []
    return list(dict.fromkeys(found))


def _values(value: Any, place: str) -> LayerValues:
    values = _mapping(value, place)
    return LayerValues(values, dict.fromkeys(values, Origin(place)))


def _over(weaker: LayerValues, stronger: LayerValues) -> LayerValues:
    origins = {**weaker.origins, **stronger.origins}
    return LayerValues({**weaker, **stronger}, origins, stronger.profiles or weaker.profiles)


def _layer(value: Any, place: str) -> LayerValues:
    """Return values, or `params` and `profiles`."""
    layer = _mapping(value, place)
    if not set(layer) <= {"params", "profiles"}:
        return _values(layer, place)
    own = _values(layer.get("params"), place)
    return LayerValues(own, own.origins, _names(layer.get("profiles"), f"{place}['profiles']"))


def _group(name: str, value: Any, place: str) -> tuple[str, LayerValues, Sequence[str]]:
    layer = _layer(value, place)
    return name, LayerValues(layer, layer.origins), list(layer.profiles)
