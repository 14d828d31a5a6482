"""What the page shows of a profile: display values only, never what it overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from profile_spawner.options import Offer, Option
from profile_spawner.registry import Entry

__all__ = ["ICONS", "Badge", "Card", "badges_for", "card_of", "icon_url", "option_badges"]

BadgeKind = Literal["cpu", "memory", "gpu", "image", "volume"]

ICONS = ("chart", "code", "cube", "data", "desktop", "gpu", "notebook", "python", "r", "terminal")
"""The built-in icons."""

_DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]{1,65536}={0,2}")
_LOCAL_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~%/-]{1,512}")
_GPU = re.compile(r"gpu|mig-|\bamd\.com/|habana|tpu", re.IGNORECASE)


@dataclass(frozen=True)
class Badge:
    """A short fact about what one gets.

    Attributes:
        kind: What it is about.
        label: The text on it.
        title: The same in words, for screen readers and as a tooltip.
    """

    kind: BadgeKind
    label: str
    title: str


@dataclass(frozen=True)
class Card:
    """One profile on the page.

    Attributes:
        offer: Title, description and options, as far as this user may see them.
        icon: A built-in icon, a path on this hub, or a `data:image/...`.
        category: The heading under which it stands.
        tags: Words to find it by.
        badges: What one gets by default.
        audience: For administrators: for whom it is.
        availability: What is free now, such as `2 of 4 GPUs free, 20 s ago`; empty when nothing is known.
    """

    offer: Offer
    icon: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    badges: tuple[Badge, ...] = ()
    audience: str = ""
    availability: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def card_of(entry: Entry, offer: Offer | None = None, *, audience: str = "", availability: str = "") -> Card:
    """Return the card of a profile.

    Args:
        entry: The profile.
        offer: What of it this user may see; everything by default.
        audience: See `Card`.
        availability: See `Card`.
    """
    return Card(
        offer=offer or entry.offer,
        icon=entry.icon,
        category=entry.category,
        tags=entry.tags,
        badges=badges_for(entry.effective),
        audience=audience,
        availability=availability,
    )


def icon_url(icon: str, static: str) -> str:
    """Return where the icon's picture is; anything that is not safe becomes the default icon.

    Args:
        icon: What the author wrote.
        static: The URL of the page's static files, without a slash at the end; empty when there are none.
    """
    if _DATA_IMAGE.fullmatch(icon) or (_LOCAL_PATH.fullmatch(icon) and ".." not in icon):
        return icon
    name = icon if icon in ICONS else "cube"
    return f"{static}/icons/{name}.svg" if static else ""


def badges_for(effective: Mapping[str, Any]) -> tuple[Badge, ...]:
    """Return badges for effective values: limits and guarantees, GPUs, image, volumes."""
    badges = []
    cpu = _cores(effective)
    if cpu:
        badges.append(Badge("cpu", f"{cpu} CPU", f"{cpu} CPU cores"))
    memory = _memory(effective)
    if memory:
        badges.append(Badge("memory", memory, f"{memory} of memory"))
    for name, amount in (effective.get("extra_resource_limits") or {}).items():
        if _GPU.search(str(name)) and str(amount) not in ("", "0", "None"):
            label = f"{amount} GPU" + ("" if str(amount) == "1" else "s")
            badges.append(Badge("gpu", label, f"{amount} x {name}"))
    for volume in effective.get("volumes") or ():
        where = volume.get("mount_path") or volume.get("name") or "volume"
        label = f"{_size(volume.get('size'))} {where}".strip()
        badges.append(Badge("volume", label, f"A volume of {_size(volume.get('size'))} at {where}"))
    image = effective.get("image")
    if isinstance(image, str) and image:
        badges.append(Badge("image", image.rsplit("/", 1)[-1][:48], f"Image {image}"))
    return tuple(badges)


def option_badges(option: Option) -> dict[str, list[list[str]]]:
    """Return which badges each choice of an option changes: `[kind, label]` pairs by choice."""
    changes = {}
    for choice in option.choices:
        badges = [[b.kind, b.label] for b in badges_for({k: v for k, v in choice.override.items() if not callable(v)})]
        if badges:
            changes[choice.name] = badges
    return changes


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _range(low: Any, high: Any) -> str:
    if low and high and low != high:
        return f"{low}–{high}"  # noqa: RUF001 - a range is set with an en dash
    return str(high or low or "")


def _cores(effective: Mapping[str, Any]) -> str:
    values = [effective.get(n) for n in ("cpu_guarantee", "cpu_limit")]
    return _range(*(_number(v) if v else "" for v in values))


def _memory(effective: Mapping[str, Any]) -> str:
    return _range(*(_size(effective.get(n)) for n in ("mem_guarantee", "mem_limit")))


def _size(value: Any) -> str:
    if value in (None, "", 0) or callable(value):
        return ""
    if isinstance(value, int | float):
        for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value >= factor:
                return f"{value / factor:.3g} {unit}"
        return f"{value} B"
    match = re.fullmatch(r"([\d.]+)\s*([KMGTP])(i?)B?", str(value))
    return f"{match[1]} {match[2]}iB" if match else str(value)
