"""`Entry`, one profile of a snapshot, and how it is made from what was registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import BuildError, Origin, ProfileSpawnerError, shorten
from profile_spawner.names import content_hash
from profile_spawner.params.layers import Resolver

from .attributes import ATTRIBUTES
from .base import BaseAppProfile, ProfileBuild, access_of, make_profile, options_of, origin_of
from .context import ServerContext
from .guarding import unguard
from .options import parse_options
from .plain_entries import CONFIGURATION, RawProfile, access_of_plain
from .profile_params import param_options, refuse_untrusted
from .selection import Offer, Selection, default_selection
from .trait_merge import as_list

__all__ = [
    "Entry",
    "build_profile",
    "effective_values",
    "make_entry",
    "specimen_facts",
    "with_availability",
]


@dataclass(frozen=True)
class Entry:
    """One profile of a snapshot.

    Attributes:
        offer: The data for the page and for the check of a choice.
        profile: The class; `None` for a plain `profile_list` entry.
        raw: The plain `profile_list` entry; `None` for a class.
        source: The name of the source of the profile.
        origin: File and line.
        digest: A hash of what the profile asks for.
        effective: Values to display: limits, image, volumes. They contain no secrets.
        icon: As the author wrote it.
        category: The heading on the page.
        tags: Search words.
        order: See `BaseAppProfile.order`.
        kinds: The kinds of objects that it creates besides the pod.
        keep: Objects that must live as long as the entry, so that the modules of its class stay importable.
        trusted: Whether everything in it comes from the hub's own configuration, so that the policy does not check its
            pod. True for plain entries, except those of documents.
    """

    offer: Offer
    profile: type[BaseAppProfile] | None = field(default=None, repr=False)
    raw: Mapping[str, Any] | None = field(default=None, repr=False)
    source: str = ""
    origin: Origin = CONFIGURATION
    digest: str = ""
    effective: Mapping[str, Any] = field(default_factory=dict, repr=False)
    icon: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    order: int = 0
    kinds: frozenset[str] = frozenset()
    keep: Any = field(default=None, repr=False, compare=False)
    trusted: bool = False

    @property
    def slug(self) -> str:
        """The profile's slug."""
        return self.offer.slug


async def make_entry(
    registered: type[BaseAppProfile] | RawProfile,
    source: str,
    resolver: Resolver | None = None,
    judge: Callable[[Entry, ProfileBuild | None], None] | None = None,
) -> Entry:
    """Create the entry of a registered profile: build it for an example server and collect the data for the page.

    Args:
        registered: The profile.
        source: The name of its source.
        resolver: Resolves params; `None` without any.
        judge: Called with the entry and the build, which is `None` for a plain entry.

    Raises:
        ProfileSpawnerError: when the profile cannot be built.
    """
    if isinstance(registered, RawProfile):
        plain = _raw_entry(registered, source)
        if judge is not None:
            judge(plain, None)
        return plain
    cls = registered
    options = options_of(cls)
    params = Resolver().resolve()
    broken = resolver.unavailable.get(cls.slug) if resolver is not None else None
    if resolver is not None and not broken:
        params = resolver.resolve(profile=cls.slug, facts=specimen_facts(cls.slug))
        refuse_untrusted(cls, resolver, params)
        options = (*options, *param_options(cls, resolver, params, {o.name for o in options}))
    offer = Offer(
        slug=cls.slug,
        display_name=cls.display_name,
        description=cls.description,
        options=options,
        access=access_of(cls),
        default=cls.default,
        aliases=tuple(cls.aliases),
        replaced_by=cls.replaced_by,
        deprecated=cls.deprecated,
        unavailable="; ".join(str(e) for e in broken or ()),
    )
    if broken:
        return _described(Entry(offer=offer, profile=cls, source=source, origin=origin_of(cls)), cls)
    specimen = default_selection(offer)
    build = await build_profile(cls, ServerContext.specimen(), params, specimen)
    digest = content_hash(
        [
            {k: repr(v) for k, v in build.kubespawner_override.items()},
            [[o.kind, o.name, repr(o.body)] for o in build.objects],
        ]
    )
    entry = Entry(
        offer=offer,
        profile=cls,
        source=source,
        origin=origin_of(cls),
        digest=digest,
        effective=effective_values(build),
        kinds=frozenset(o.kind for o in build.objects),
    )
    entry = _described(entry, cls)
    if judge is not None:
        judge(entry, build)
    return entry


async def build_profile(
    cls: type[BaseAppProfile], context: ServerContext, params: Mapping[str, Any], selection: Selection
) -> ProfileBuild:
    """Build a profile.

    Raises:
        BuildError: whatever an author's code raises.
    """
    try:
        return await make_profile(cls, context, params=params, selection=selection).build()
    except ProfileSpawnerError:
        raise
    except Exception as e:
        text = f"{type(e).__name__}: {shorten(unguard(str(e)), 300)}"
        raise BuildError(text, profile=cls.slug, origin=origin_of(cls)) from e


def _described(entry: Entry, cls: type[BaseAppProfile]) -> Entry:
    return replace(entry, icon=cls.icon, category=cls.category, tags=tuple(cls.tags), order=cls.order)


def specimen_facts(slug: str) -> Mapping[str, str]:
    """Return the facts of an example server."""
    return ServerContext.specimen().facts(slug)


_DISPLAYED = tuple(attribute.trait or name for name, attribute in ATTRIBUTES.items() if attribute.shown)


def effective_values(build: ProfileBuild) -> Mapping[str, Any]:
    """Return the values of a build that the page shows: limits, image, volumes."""
    override = build.kubespawner_override
    result = {name: override[name] for name in _DISPLAYED if name in override}
    sizes = {
        o.name: o.body["spec"]["resources"]["requests"]["storage"]
        for o in build.objects
        if o.kind == "PersistentVolumeClaim"
    }
    paths = {m["name"]: m["mountPath"] for m in as_list(override.get("volume_mounts")) if "mountPath" in m}
    result["volumes"] = [
        {
            "name": v["name"],
            "size": sizes[v["persistentVolumeClaim"]["claimName"]],
            "mount_path": paths.get(v["name"], ""),
        }
        for v in as_list(override.get("volumes"))
        if v.get("persistentVolumeClaim", {}).get("claimName") in sizes
    ]
    return MappingProxyType(result)


def _raw_entry(raw: RawProfile, source: str) -> Entry:
    definition = raw.definition
    override = definition.get("kubespawner_override") or {}
    offer = Offer(
        slug=raw.slug,
        display_name=str(definition["display_name"]),
        description=str(definition.get("description") or ""),
        options=parse_options(definition.get("profile_options"), profile=raw.slug),
        access=access_of_plain(raw),
        default=bool(definition.get("default")),
        aliases=tuple(definition.get("aliases") or ()),
        replaced_by=definition.get("replaced_by"),
        deprecated=str(definition.get("deprecated") or ""),
    )
    return Entry(
        offer=offer,
        raw=definition,
        trusted=not raw.untrusted,
        source=source,
        origin=raw.origin,
        digest=content_hash(repr(definition)),
        effective=MappingProxyType({k: override[k] for k in _DISPLAYED if k in override and not callable(override[k])}),
        icon=str(definition.get("icon") or ""),
        category=str(definition.get("category") or ""),
        tags=tuple(definition.get("tags") or ()),
        order=int(definition.get("order") or 0),
    )


def with_availability(entry: Entry, reason: str) -> Entry:
    """Return a copy of `entry` that is marked as unavailable, with the reason."""
    return replace(entry, offer=replace(entry.offer, unavailable=reason))
