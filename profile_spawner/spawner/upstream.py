"""Converts the registry to the format of KubeSpawner's `profile_list`, for tools that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.options import ChoiceOption
from profile_spawner.profiles.selection import Offer, default_selection, offer_for

__all__ = ["display_entry", "registry_profile_list", "upstream_entry"]

_SHOWN = frozenset(
    {"image", "cpu_limit", "cpu_guarantee", "mem_limit", "mem_guarantee", "extra_resource_limits", "default_url"}
)


async def registry_profile_list(spawner: Any) -> list[dict[str, Any]]:
    """Return the profiles of the spawner's user in the format of KubeSpawner's `profile_list`.

    This is a plain function because traitlets copies bound methods together with their objects. The entries are fresh,
    JSON-serialisable and without secrets. ProfileSpawner itself does not spawn from them.
    """
    profiles = getattr(spawner, "profiles", None)
    snapshot = await profiles.service.ready() if profiles is not None and profiles.has_sources else None
    if snapshot is None:
        return []
    result = []
    for entry in snapshot.visible_to(spawner.user_info):
        described = upstream_entry(entry)
        try:
            layers = await spawner.param_layers() if snapshot.takes_params(entry) else {}
            build = await snapshot.build(default_selection(entry.offer), spawner.server_context(), **layers)
        except ProfileSpawnerError as e:
            spawner.log.error("Left out of profile_list: %s", e)
            continue
        result.append({**described, "kubespawner_override": _without_functions(build.kubespawner_override)})
    return result


def upstream_entry(entry: Entry) -> dict[str, Any]:
    """Return one profile in upstream's shape; a plain entry without its callables, a class with its display values."""
    written = entry.profile.list_entry()
    if written:
        return {"slug": entry.slug, **_without_functions(written)}
    override = {k: v for k, v in entry.effective.items() if k in _SHOWN}
    return {**_display(entry.offer), "kubespawner_override": _without_functions(override)}


def display_entry(entry: Entry, user: UserInfo) -> dict[str, Any]:
    """Return one profile in upstream's format for a page's template, with only the values that this user may see."""
    result = upstream_entry(entry)
    _strip(result)
    options = result.get("profile_options") or {}
    allowed = {o.name: o for o in offer_for(entry.offer, user).options}
    for name in list(options):
        if name not in allowed:
            del options[name]
            continue
        choices = options[name].get("choices") or {}
        for choice in set(choices) - {c.name for c in allowed[name].listed()}:
            del choices[choice]
        if allowed[name].typed() is None:
            options[name].pop("unlisted_choice", None)
    for option in options.values():
        for choice in (option.get("choices") or {}).values():
            _strip(choice)
        _strip(option.get("unlisted_choice") or {})
    return result


def _strip(item: dict[str, Any]) -> None:
    override = item.get("kubespawner_override")
    if isinstance(override, Mapping):
        item["kubespawner_override"] = {k: v for k, v in override.items() if k in _SHOWN}


def _display(offer: Offer) -> dict[str, Any]:
    result: dict[str, Any] = {
        "display_name": offer.display_name,
        "description": offer.description,
        "slug": offer.slug,
        "default": offer.default,
    }
    options = {o.name: _option(o) for o in offer.options if isinstance(o, ChoiceOption)}
    if options:
        result["profile_options"] = options
    return result


def _option(option: ChoiceOption) -> dict[str, Any]:
    result: dict[str, Any] = {"display_name": option.label}
    if option.choices:
        result["choices"] = {
            c.name: {
                "display_name": c.display_name,
                "description": c.description,
                "default": c.default,
                "kubespawner_override": {k: _without_functions(v) for k, v in c.override.items() if k in _SHOWN},
            }
            for c in option.choices
        }
    if option.unlisted is not None:
        result["unlisted_choice"] = {
            "enabled": True,
            "display_name": option.unlisted.display_name,
            "display_name_in_choices": option.unlisted.display_name_in_choices,
            "validation_regex": option.unlisted.pattern,
            "validation_message": option.unlisted.message,
        }
    return result


def _without_functions(value: Any) -> Any:
    """Return a JSON-serialisable copy; callables are left out."""
    if isinstance(value, Mapping):
        return {str(k): _without_functions(v) for k, v in value.items() if not callable(v)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_functions(v) for v in value if not callable(v)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
