"""The cards of profiles on the page. They hold display values only, not the overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from profile_spawner.profiles.attributes import COLORS
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.options import Option
from profile_spawner.profiles.selection import Offer
from profile_spawner.texts import Gettext, Text, marked, said

__all__ = [
    "ICONS",
    "Badge",
    "Card",
    "GpuDemand",
    "badges_for",
    "card_of",
    "icon_url",
    "option_badges",
    "search_text",
]

BadgeKind = Literal["cpu", "memory", "gpu", "image", "volume"]

ICONS = ("chart", "code", "cube", "data", "desktop", "gpu", "notebook", "python", "r", "terminal")
"""The built-in icons."""

_DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]{1,65536}={0,2}")
_LOCAL_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~%/-]{1,512}")
_GPU = re.compile(r"gpu|mig-|\bamd\.com/|habana|gaudi|tpu", re.IGNORECASE)
_MIG = re.compile(r"/mig-([\w.]+)$")
_MODEL_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "gpu.intel.com/product",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
    "gpu.nvidia.com/model",
    "nvidia.com/gpu.family",
    "accelerator",
)
"""Labels of nodes that say which accelerator they have, the most specific first."""

_MAKERS = {"amd.com": "AMD GPU", "intel.com": "Intel GPU", "habana.ai": "Gaudi", "google.com": "TPU"}
_ONE_OF_MODEL = marked("1 GPU, %(model)s")
_SOME_OF_MODEL = marked("%(amount)s GPUs, %(model)s")


@dataclass(frozen=True)
class Badge:
    """A short fact about the server, such as its memory.

    Attributes:
        kind: What it is about.
        label: The text on it.
        title: The same in words, for screen readers and as a tooltip.
    """

    kind: BadgeKind
    label: str
    title: str


@dataclass(frozen=True)
class GpuDemand:
    """The GPUs, or similar devices, that a server takes.

    Attributes:
        resource: For example `nvidia.com/gpu`.
        amount: How many one server takes.
        selector: Labels that the node must have, sorted.
    """

    resource: str
    amount: int
    selector: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, effective: Mapping[str, Any]) -> GpuDemand | None:
        """Return the demand of a profile with these effective values; `None` if it needs no GPU."""
        for name, amount in _gpus(effective):
            if amount.isdigit() and int(amount) > 0:
                return cls(name, int(amount), _selector(effective))
        return None


@dataclass(frozen=True)
class Card:
    """One profile on the page.

    Attributes:
        offer: Title, description and options, as far as this user may see them.
        icon: A built-in icon, a path on this hub, or a `data:image/...`.
        category: The heading under which it stands.
        tags: Words for the search.
        badges: Facts about the server with default options.
        audience: Who may use the profile; shown to administrators.
        demand: The GPUs of one server, so that the page can show how many are free; `None` without GPUs.
        changes: Which badges a choice changes, by option: see `option_badges`.
        color: The colour of its edge, one of `COLORS`, which the style sheet defines; empty for none.
    """

    offer: Offer
    icon: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    badges: tuple[Badge, ...] = ()
    audience: str = ""
    demand: GpuDemand | None = None
    changes: Mapping[str, Mapping[str, list[list[str]]]] = field(default_factory=dict)
    color: str = ""


def card_of(entry: Entry, offer: Offer | None = None, *, audience: str = "") -> Card:
    """Return the card of a profile.

    Args:
        entry: The profile.
        offer: What of it this user may see; everything by default.
        audience: See `Card`.
    """
    offer = offer or entry.offer
    changes = {option.name: option_badges(option, entry.effective) for option in offer.options}
    color = entry.meta.get("color", "")
    return Card(
        offer=offer,
        icon=entry.icon,
        category=entry.category,
        tags=entry.tags,
        badges=badges_for(entry.effective),
        audience=audience,
        demand=GpuDemand.of(entry.effective),
        changes={name: change for name, change in changes.items() if change},
        color=color if color in COLORS else "",
    )


def search_text(
    offer: Offer, category: str, tags: Sequence[str], badges: Sequence[Badge], gettext: Gettext = str
) -> str:
    """Return the searchable text of a profile, in lower case and in the language of `gettext`."""
    labels = [said(badge.label, gettext) for badge in badges]
    return " ".join([offer.display_name, offer.description, category, *tags, *labels]).lower()[:600]


def icon_url(icon: str, static: str) -> str:
    """Return the URL of the icon; an unsafe icon is replaced by the default icon.

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
        badges.append(Badge("cpu", Text("%(cores)s CPU", cores=cpu), Text("%(cores)s CPU cores", cores=cpu)))
    memory = _memory(effective)
    if memory:
        badges.append(Badge("memory", memory, Text("%(size)s of memory", size=memory)))
    badges += [_gpu_badge(name, amount, effective) for name, amount in _gpus(effective)]
    volumes = effective.get("volumes")
    if isinstance(volumes, list | tuple):
        badges += [_volume_badge(volume, effective) for volume in volumes if isinstance(volume, Mapping)]
    image = effective.get("image")
    if isinstance(image, str) and image:
        badges.append(Badge("image", _short_image(image), Text("Image %(name)s", name=image)))
    return tuple(badges)


def option_badges(option: Option, effective: Mapping[str, Any] | None = None) -> dict[str, list[list[str]]]:
    """Return which badges an option changes: `[kind, label]` pairs by the value that is chosen.

    A switch has the values `true` and `false`. For what is typed the key is `*`, and `{value}` stands for the text.

    Args:
        option: The option.
        effective: The profile's own values, which the choice is laid over.
    """
    effective = effective or {}
    before = {(b.kind, b.label) for b in badges_for(effective)}
    changes = {}
    for value, override in option.overrides_by_value().items():
        # Volumes of an override are Kubernetes' own, not those with a size that the page shows.
        plain = {k: v for k, v in override.items() if not callable(v) and k != "volumes"}
        if not plain:
            continue
        after = badges_for({**_without_counterparts(effective, plain), **plain})
        named = {b.kind for b in badges_for(plain)} | ({"gpu"} if "node_selector" in plain else set())
        badges = [[b.kind, b.label] for b in after if (b.kind, b.label) not in before or b.kind in named]
        if badges:
            changes[value] = badges
    return changes


def _without_counterparts(effective: Mapping[str, Any], override: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out the guarantees that a chosen limit stands beside: the choice is what the badge is about."""
    partners = {"cpu_limit": "cpu_guarantee", "mem_limit": "mem_guarantee"}
    dropped = {partners[name] for name in override if name in partners} - override.keys()
    return {name: value for name, value in effective.items() if name not in dropped}


def _gpus(effective: Mapping[str, Any]) -> list[tuple[str, str]]:
    limits = effective.get("extra_resource_limits")
    if not isinstance(limits, Mapping):
        return []
    found = [(str(name), str(amount)) for name, amount in limits.items() if _GPU.search(str(name))]
    return [(name, amount) for name, amount in found if amount not in ("", "0", "None")]


def _selector(effective: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    selector = effective.get("node_selector")
    return tuple(sorted((str(k), str(v)) for k, v in selector.items())) if isinstance(selector, Mapping) else ()


def _gpu_badge(name: str, amount: str, effective: Mapping[str, Any]) -> Badge:
    model = _gpu_model(effective)
    title = Text("%(amount)s x %(name)s", amount=amount, name=f"{name}, {model}" if model else name)
    other = _other_name(name)
    if other:
        label: str = f"{amount} {other}" + (f", {model}" if model else "")
    elif model:
        pattern = _ONE_OF_MODEL if amount == "1" else _SOME_OF_MODEL
        label = Text(pattern, amount=amount, model=model)
    else:
        label = Text("1 GPU") if amount == "1" else Text("%(amount)s GPUs", amount=amount)
    return Badge("gpu", label, title)


def _gpu_model(effective: Mapping[str, Any]) -> str:
    """Return the accelerator's name as the selected node's label says it; empty when none does."""
    labels = dict(_selector(effective))
    for label in _MODEL_LABELS:
        if labels.get(label):
            text = re.sub(r"^(?:nvidia|amd|intel)[-_ ]", "", labels[label], flags=re.IGNORECASE)
            text = re.sub(r"^(?:tesla|geforce|instinct)[-_ ]", "", text, flags=re.IGNORECASE)
            return re.sub(r"[-_]+", " ", text).strip()[:32]
    return ""


def _other_name(resource: str) -> str:
    """Return the name of an accelerator that is not only a GPU."""
    if match := _MIG.search(resource):
        return f"MIG {match[1]}"
    host = resource.split("/")[0]
    return next((name for domain, name in _MAKERS.items() if host.endswith(domain)), "")


def _volume_badge(volume: Mapping[str, Any], effective: Mapping[str, Any]) -> Badge:
    path = str(volume.get("mount_path") or "")
    name = str(volume.get("name") or "")
    size = _size(volume.get("size"))
    title = Text("A volume of %(size)s at %(path)s", size=size, path=path or name or "?")
    if "workspace" in f"{name}{path}".lower():
        return Badge("volume", Text("%(size)s workspace", size=size), title)
    if path.startswith("/home/") or (path and path == effective.get("working_dir")) or name == "home":
        return Badge("volume", Text("%(size)s home", size=size), title)
    return Badge("volume", f"{size} {path or name}".strip(), title)


def _short_image(image: str) -> str:
    """Return the image's name and tag without registry, folders and digest."""
    return image.split("@", 1)[0].rsplit("/", 1)[-1][:48]


def _number(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if value > 0 else ""
    return value[:32] if isinstance(value, str) else ""


def _range(low: Any, high: Any) -> str:
    if low and high and low != high:
        return f"{low}–{high}"  # noqa: RUF001 - a range is set with an en dash
    return str(high or low or "")


def _cores(effective: Mapping[str, Any]) -> str:
    values = [effective.get(n) for n in ("cpu_guarantee", "cpu_limit")]
    return _range(*(_number(v) for v in values))


def _memory(effective: Mapping[str, Any]) -> str:
    return _range(*(_size(effective.get(n)) for n in ("mem_guarantee", "mem_limit")))


def _size(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not value > 0:
            return ""
        for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value >= factor:
                return f"{value / factor:.3g} {unit}"
        return f"{value} B"
    if not isinstance(value, str):
        return ""
    match = re.fullmatch(r"([\d.]+|\{value\})\s*([KMGTP])(i?)B?", value)
    return f"{match[1]} {match[2]}iB" if match else value[:32]
