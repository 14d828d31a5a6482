"""`Entry`, one profile of a snapshot, and how it is made from a registered profile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError, ProfileWarning, shorten
from profile_spawner.names import content_hash
from profile_spawner.params.layers import Resolver
from profile_spawner.params.templates import references_in
from profile_spawner.texts import Text, marked

from .attributes import ATTRIBUTES
from .base import ProfileBuild
from .context import ServerContext
from .image_names import image_problem
from .linting import MAX_WARNINGS, READ_EARLY, about_braces, lint_entry, lint_settings
from .options import Option
from .plain_entries import PlainEntry
from .profile import Profile
from .profile_params import chosen_values, examples_in, param_options, refuse_untrusted
from .selection import Offer, default_selection
from .trait_merge import as_list
from .user_text import unfilled

Traits = Callable[[], Mapping[str, Any]]
"""Returns the configurable traits of the hub's spawner by name. It is called when they are first needed."""

__all__ = [
    "Entry",
    "Traits",
    "effective_values",
    "example_facts",
    "make_entry",
    "unusable",
    "with_availability",
]


UNUSABLE = marked("Its definition has a mistake. Your administrator can see the details.")


@dataclass(frozen=True)
class Entry:
    """One profile of a snapshot.

    Attributes:
        offer: The data for the page and for the check of a choice.
        profile: The registered profile. Pages can be made of offers without one.
        source: The name of the source of the profile.
        digest: A hash of what the profile asks for.
        effective: Values to display: limits, image, volumes. They contain no secrets.
        icon: As the author wrote it.
        category: The heading on the page.
        tags: Search words.
        order: See `BaseAppProfile.order`.
        documentation: A text for administrators.
        meta: Notes, by name.
        kinds: The kinds of objects that it creates besides the pod.
        uses: The params that were looked up to build it.
        warnings: What works in it, but probably not as intended.
        keep: Objects that must live as long as the entry, so that the modules of its class stay importable.
    """

    offer: Offer
    profile: Profile = field(default=PlainEntry("", {}), repr=False)
    source: str = ""
    digest: str = ""
    effective: Mapping[str, Any] = field(default_factory=dict, repr=False)
    icon: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    order: int = 0
    documentation: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    warnings: tuple[ProfileWarning, ...] = field(default=(), repr=False)
    keep: Any = field(default=None, repr=False, compare=False)

    @property
    def slug(self) -> str:
        """The profile's slug."""
        return self.offer.slug

    @property
    def origin(self) -> Origin:
        """File and line of the profile."""
        return self.profile.origin


async def make_entry(
    profile: Profile,
    source: str,
    resolver: Resolver | None = None,
    judge: Callable[[Entry, ProfileBuild], None] | None = None,
    traits: Traits | None = None,
) -> Entry:
    """Create the entry of a registered profile: build it for an example server and collect the data for the page.

    Args:
        profile: The profile.
        source: The name of its source.
        resolver: Resolves params; `None` without any.
        judge: Called with the entry and the build.
        traits: The spawner's traits, for the warnings of plain entries; without them there are no warnings.

    Raises:
        ProfileSpawnerError: when the profile cannot be built.
    """
    options = profile.options()
    resolver = resolver if resolver is not None else Resolver()
    params = Resolver().resolve()
    broken = resolver.unavailable.get(profile.slug, ()) if profile.takes_params else ()
    facts = example_facts(profile.slug)
    if profile.takes_params and not broken:
        params = resolver.resolve(profile=profile.slug, facts=facts)
        refuse_untrusted(profile, resolver, params)
        options = (*options, *param_options(profile, resolver, params, {o.name for o in options}))
    offer = Offer(
        slug=profile.slug,
        display_name=profile.get("display_name"),
        description=profile.get("description"),
        options=options,
        access=profile.access(),
        default=profile.get("default"),
        aliases=tuple(profile.get("aliases")),
        replaced_by=profile.get("replaced_by"),
        deprecated=profile.get("deprecated"),
        unavailable=Text(UNUSABLE) if broken else "",
    )
    meta = _texts(profile.get("meta"))
    entry = Entry(
        offer,
        profile,
        source,
        icon=profile.get("icon") or meta.get("icon", ""),
        category=profile.get("category"),
        tags=(*profile.get("tags"), *filter(None, [meta.get("title")])),
        order=int(profile.get("order")),
        warnings=_warnings(profile, traits, {*resolver.definitions, *facts}),
        documentation=profile.get("documentation"),
        meta=meta,
    )
    if broken:
        return entry
    # The build refuses texts of users in what a shell runs. They may type the params that are text fields.
    typed = frozenset(o.name for o in options if o.param is not None and o.is_typed)
    selection = replace(default_selection(offer), typed=typed)
    if selection.user_options:
        spawn = chosen_values(options, selection, resolver)
        params = resolver.resolve(profile=profile.slug, facts=facts, spawn=spawn)
    build = await profile.build(ServerContext.example(), params, selection)
    asked = [
        {k: repr(v) for k, v in build.kubespawner_override.items()},
        [[o.kind, o.name, repr(o.body)] for o in build.objects],
    ]
    kinds = frozenset(o.kind for o in build.objects)
    _check_settings(profile, build, options)
    effective = effective_values(build, examples_in(profile, params))
    uses = frozenset(params.looked_up)
    notes = [
        ProfileWarning(note, rule="mended", level="note", profile=profile.slug, origin=profile.origin)
        for note in build.notes
    ]
    entry = replace(
        entry,
        digest=content_hash(asked),
        effective=effective,
        kinds=kinds,
        uses=uses,
        warnings=(*entry.warnings, *notes, *(_about_image(profile, build) if traits is not None else ())),
    )
    if judge is not None:
        judge(entry, build)
    return entry


def _texts(meta: Any) -> Mapping[str, str]:
    """Return the notes of a profile as texts; the same empty mapping for all profiles without any."""
    if not meta or not isinstance(meta, Mapping):
        return _NO_TEXTS
    return MappingProxyType({str(key): str(value) for key, value in meta.items()})


_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


def _warnings(profile: Profile, traits: Traits | None, known: Collection[str]) -> tuple[ProfileWarning, ...]:
    if traits is None:
        return ()
    if written := profile.list_entry():
        return lint_entry({**written, "slug": profile.slug}, traits(), profile.where)
    path = ("kubespawner_override",)
    literal = [
        ProfileWarning(
            f"{{{{ {name} }}}} is not replaced here: this is KubeSpawner's own language",
            rule="literal-reference",
            path=path,
            profile=profile.slug,
            origin=profile.where(path),
            hint="Use an attribute such as image, or {$param: NAME} for the whole kubespawner_override",
        )
        for name in sorted(references_in(profile.get("kubespawner_override")).intersection(known))
    ]
    overrides = list(_overrides(profile))
    found = itertools.chain(literal, _braces(profile, overrides), _suspicious(profile, overrides, traits()))
    return tuple(itertools.islice(found, MAX_WARNINGS))


_Override = tuple[tuple[str, ...], Mapping[str, Any], bool]


def _overrides(profile: Profile) -> Iterator[_Override]:
    """Yield the overrides of a class or document: their paths, and whether `{value}` is replaced in them."""
    overrides: list[tuple[tuple[str, ...], Any, bool]] = [((), profile.get("kubespawner_override"), False)]
    for option in profile.options():
        own, typed = ("profile_options", option.name), option.typed()
        for value, override in option.overrides_by_value().items():
            overrides.append(((*own, "choices", value) if option.listed() else own, override, value == "*"))
        overrides += [((*own, "unlisted_choice"), typed.override, True)] if typed is not None else []
    for path, override, filled in overrides:
        if isinstance(override, Mapping):
            yield (*path, "kubespawner_override"), override, filled


_PLAIN_ATTRIBUTES = ("image", "mem_guarantee", "mem_limit")


def _suspicious(
    profile: Profile, overrides: Iterable[_Override], traits: Mapping[str, Any]
) -> Iterator[ProfileWarning]:
    """Yield what is probably not intended in the settings of a class or document."""
    own = {name: profile.get(name) for name in _PLAIN_ATTRIBUTES}
    known = {name: value for name, value in own.items() if not references_in(value)}
    for path, settings, filled in (((), known, False), *overrides):
        found = lint_settings(
            settings, traits, lambda place: profile.where(place[:1]), profile=profile.slug, path=path, filled=filled
        )
        yield from (warning for warning in found if warning.rule != "mutable-tag")


def _about_image(profile: Profile, build: ProfileBuild) -> tuple[ProfileWarning, ...]:
    """Return a warning if params with their present values make an image that has no valid name."""
    own, image, path = profile.get("image"), build.kubespawner_override.get("image"), ("image",)
    if not isinstance(image, str) or (isinstance(own, str | None) and not references_in(own)):
        return ()
    problem = image_problem(image)
    message = f"{shorten(image)!r}, which params make, is not the name of an image: {problem}"
    found = ProfileWarning(message, rule="image", path=path, profile=profile.slug, origin=profile.where(path))
    return (found,) if problem else ()


def _braces(profile: Profile, overrides: Iterable[_Override]) -> Iterator[ProfileWarning]:
    """Yield the texts of a class or document, in KubeSpawner's own language, into which nothing can be filled."""
    for path, override, filled in overrides:
        for steps, field_ in unfilled(override, filled=filled):
            message, hint = about_braces(field_, filled=filled)
            place = (*path, *steps)
            yield ProfileWarning(
                message,
                rule="braces",
                level="error",
                path=place,
                profile=profile.slug,
                origin=profile.where(place[:1]),
                hint=hint,
            )


_TIMEOUTS = ("start_timeout", "http_timeout")


def _check_settings(profile: Profile, build: ProfileBuild, options: Iterable[Option]) -> None:
    """Check the settings of a profile that JupyterHub reads, of the profile itself and of every choice.

    Raises:
        ProfileDefinitionError: for a setting without an effect, and for a timeout that no server could meet.
    """
    overrides = [("kubespawner_override", build.kubespawner_override)]
    for option in options:
        overrides += [(f"profile_options.{option.name}", o) for o in option.overrides_by_value().values()]
    for place, override in overrides:
        key = (place.partition(".")[0],)
        for name in sorted(READ_EARLY & override.keys()) if profile.contributor != "hub" else ():
            raise ProfileDefinitionError(
                "has no effect in a profile: it is read before the profile is applied",
                profile=profile.slug,
                origin=profile.where(key),
                field=f"{place}.{name}",
                hint="Set it in the hub's configuration, for all servers",
            )
        for name in _TIMEOUTS:
            value = override.get(name)
            if isinstance(value, int | float) and value < 1:
                raise ProfileDefinitionError(
                    "no server can start in this time",
                    profile=profile.slug,
                    origin=profile.where(key),
                    field=f"{place}.{name}",
                    value=value,
                    expected="a number of seconds, at least 1",
                )


def example_facts(slug: str) -> Mapping[str, str]:
    """Return the facts of an example server."""
    return ServerContext.example().facts(slug)


_DISPLAYED = tuple(attribute.trait or name for name, attribute in ATTRIBUTES.items() if attribute.shown)


def effective_values(build: ProfileBuild, unknown: Collection[str] = ()) -> Mapping[str, Any]:
    """Return the values of a build that the page shows: limits, image, volumes.

    Args:
        build: The build.
        unknown: The values that are not shown, because users choose them and the build has only examples.
    """
    override = build.kubespawner_override
    shown = (name for name in _DISPLAYED if name in override and name not in unknown)
    result = {name: override[name] for name in shown if not callable(override[name])}
    sizes = {o.name: _size(o.body) for o in build.objects if o.kind == "PersistentVolumeClaim"}
    if not sizes:
        return MappingProxyType(result)
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


def _size(claim: Mapping[str, Any]) -> str:
    """Return the size of a claim; empty if a manifest has none, or another shape."""
    found: Any = claim
    for key in ("spec", "resources", "requests", "storage"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return str(found or "")


def unusable(entry: Entry) -> Entry:
    """Return a copy of `entry` that cannot be started because of a mistake. Users do not read what it is."""
    return with_availability(entry, Text(UNUSABLE))


def with_availability(entry: Entry, reason: str) -> Entry:
    """Return a copy of `entry` that is marked as unavailable, with the reason."""
    return replace(entry, offer=replace(entry.offer, unavailable=reason))
