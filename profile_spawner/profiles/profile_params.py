"""The params of profiles: the resolver of all sources, and the options that profiles make of params."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from profile_spawner.errors import Origin, ParamError, ProfileSpawnerError, did_you_mean
from profile_spawner.params.constraint import Constraint
from profile_spawner.params.definition import MISSING, Param, ParamRef
from profile_spawner.params.evaluator import Resolved
from profile_spawner.params.layers import GLOBAL, Collection, Resolver
from profile_spawner.params.templates import references_in

from .attributes import ATTRIBUTES
from .options import NumberOption, Option
from .param_options import choice_name, param_option, value_of_choice
from .profile import Profile
from .registry import Collector, key_lines
from .selection import Selection
from .template import Template
from .user_text import nodes

__all__ = [
    "chosen_values",
    "examples_in",
    "make_resolver",
    "named_params",
    "param_options",
    "param_problems",
    "refuse_sensitive",
    "refuse_untrusted",
    "within_constraint",
]


def _fed(profile: Profile) -> Mapping[str, set[str]]:
    """Return the attributes that take their values from params, with the names of the params."""
    fed: dict[str, set[str]] = {}
    for name, attribute in ATTRIBUTES.items():
        for param in attribute.references(profile.get(name)):
            fed.setdefault(param, set()).add(name)
    return fed


def _sensitive_attributes(profile: Profile) -> set[str]:
    """Return the params that set sensitive attributes of a profile, or images of the objects of a document."""
    fed = {n for n, attributes in _fed(profile).items() if any(ATTRIBUTES[a].sensitive for a in attributes)}
    objects = [content for manifest in profile.written().get("manifests", ()) for content in manifest.content]
    return fed | references_in([text for path, text in nodes(objects) if path[-1] == "image"])


def _sensitive(profile: Profile, resolver: Resolver, resolved: Resolved) -> set[str]:
    """Return the params that decide on the security of a profile and that may contain something else.

    These are params that set sensitive attributes, and params that are defined as sensitive. A param that has neither a
    value of this server nor references is left out: it contains only its default, or what `global` says.
    """
    return _sensitive_attributes(profile) | (resolver.sensitive & (resolver.templated | resolved.given))


_NOT_FROM_DOCUMENTS = ("service_account", "bash_login_path", "bashrc_path", "init_script_path", "kubespawner_override")
"""Attributes whose params documents must not set. A Python class may take them from params of its own hub only."""


def refuse_untrusted(profile: Profile, resolver: Resolver, resolved: Resolved) -> None:
    """Refuse a service account, a file of the hub or another restricted trait that a document sets through a param.

    Only classes in Python are checked here. What a document's own profile takes from a param is judged with it.

    Raises:
        ParamError: names the param and the place of the value.
    """
    for attribute in () if profile.contributor == "document" else _NOT_FROM_DOCUMENTS:
        ref = profile.get(attribute)
        if not isinstance(ref, ParamRef):
            continue
        for name in sorted({ref.name, *resolved.inserted(ref.name)}):
            for origin in resolver.untrusted_in(resolved.explain(name)) if name in resolved else ():
                raise ParamError(
                    f"decides on {attribute}, and a document sets it",
                    profile=profile.slug,
                    origin=origin or profile.origin,
                    field=f"param {name}",
                    hint="Set it in Python or in the hub's configuration (param_values)",
                )


def refuse_sensitive(profile: Profile, resolver: Resolver, resolved: Resolved) -> None:
    """Refuse a user's choice that reaches a sensitive param, directly or inserted into its value.

    Raises:
        ParamError: names the params.
    """
    for name in _sensitive(profile, resolver, resolved):
        chosen = sorted(resolved.chosen(name) - set(profile.get("user_settable")))
        if chosen:
            raise ParamError(
                f"is sensitive, and a user chose {' and '.join(chosen)}",
                profile=profile.slug,
                origin=profile.origin,
                field=f"param {name}",
                hint="To allow it, name what may be chosen in the profile's user_settable",
            )


def named_params(profile: Profile) -> set[str]:
    """Return the params that a profile names: in attributes, in their texts, and in texts of a document's files."""
    attributes = {name: profile.get(name) for name in ATTRIBUTES if name not in ("params", "kubespawner_override")}
    files = [text for file in profile.written().get("config_maps", ()) for text in file.files().values()]
    expanded = [text for text in files if isinstance(text, Template)]
    return {*_fed(profile), *references_in(attributes), *references_in(expanded), *profile.get("user_settable")}


def param_options(profile: Profile, resolver: Resolver, params: Resolved, taken: set[str]) -> Iterator[Option]:
    """Return the fields for the params that users may choose with this profile.

    These are the `user_settable` params that the profile uses: in an attribute, in a text of a document's file, because
    it sets or inherits a value, or because `meta` lists it as `required` or `optional`. A param that sets a sensitive
    attribute (the image, a service account, ...) must be named in the profile's `user_settable`. A field without a
    default must be filled, unless it is `optional`.

    Raises:
        ParamError: If the profile, or a collection that it inherits, lists a param that users cannot choose.
    """
    allowed = set(profile.get("user_settable"))
    listed = _listed_params(profile, resolver)
    used = {*named_params(profile), *listed["required"], *listed["optional"]}
    for name in resolver.inherited(profile.slug):
        used.update(resolver.collections[name].params)
    used.update(*[params.inserted(name) for name in used])
    sensitive = _sensitive_attributes(profile)
    sensitive.update(*[params.inserted(name) for name in _sensitive(profile, resolver, params)])
    sensitive |= {name for name in used if name in resolver.sensitive}
    sensitive -= allowed
    _refuse_listed(profile, resolver, {"user_settable": {n: profile.where(("user_settable",)) for n in allowed}}, set())
    _refuse_listed(profile, resolver, {f"meta.{key}": names for key, names in listed.items()}, sensitive)
    fed = _fed(profile)
    settable = [resolver.definitions[n] for n in used if n in resolver.definitions]
    for param in sorted(settable, key=lambda p: (int(p.meta.get("order") or 0), p.name)):
        if not param.choosable or param.name in sensitive | taken or params.error_of(param.name) is not None:
            continue
        default = params.get(param.name, MISSING)
        required = param.name in listed["required"] or (default is MISSING and param.name not in listed["optional"])
        option = param_option(param, default, required=required, fits=functools.partial(_fits, fed.get(param.name, ())))
        if required and default is MISSING and option.example is None:
            raise ParamError(
                "users must fill it in, and no example is known with which the profile can be checked",
                profile=profile.slug,
                origin=param.origin or profile.origin,
                field=f"param {param.name}",
                hint="Give one in its schema, such as examples: [1G], or give it a default",
            )
        yield option


def _listed_params(profile: Profile, resolver: Resolver) -> Mapping[str, Mapping[str, Origin]]:
    """Return the params that `meta` of a profile and of what it inherits lists as `required` and `optional`.

    What a profile says is stronger than what it inherits. Each param has the place where it is listed.
    """
    inherited = [resolver.collections[name] for name in resolver.inherited(profile.slug) if name != profile.slug]
    found: dict[str, dict[str, Origin]] = {"required": {}, "optional": {}}
    known: set[str] = set()
    for place, meta in (
        (profile.where(("meta",)), profile.get("meta")),
        *((one.origin or profile.origin, one.meta) for one in inherited),
    ):
        for key, names in found.items():
            listed = {name.strip() for name in str(meta.get(key, "")).split(",")} - {"", *known}
            names.update(dict.fromkeys(listed, place))
        known.update(*found.values())
    return found


def _refuse_listed(
    profile: Profile, resolver: Resolver, listed: Mapping[str, Mapping[str, Origin]], sensitive: set[str]
) -> None:
    """Refuse a list of params for the page that names one which cannot be there."""
    for field, names in listed.items():
        for name, origin in sorted(names.items()):
            param = resolver.definitions.get(name)
            if param is None:
                wrong, hint = (
                    f"is not defined{did_you_mean(name, resolver.definitions)}",
                    "Define it, or correct the name",
                )
            elif not param.choosable:
                wrong, hint = (
                    "cannot be chosen by users",
                    "Set user_settable: true in its definition, and allow the layer spawn",
                )
            elif name in sensitive:
                wrong, hint = "is sensitive", "To let users choose it with this profile, name it in user_settable too"
            else:
                continue
            raise ParamError(wrong, profile=profile.slug, origin=origin, field=f"{field}: {name}", hint=hint)


def _fits(attributes: Iterable[str], value: Any) -> bool:
    """Return whether attributes can have a value."""
    try:
        for name in attributes:
            ATTRIBUTES[name].check(value)
    except ValidationError:
        return False
    return True


def chosen_values(options: Iterable[Option], selection: Selection, resolver: Resolver) -> dict[str, Any]:
    """Return the values of params that a user chose. A default that the user did not change is not a choice."""
    return {
        option.param: value_of_choice(resolver.definitions[option.param], selection.values[option.name])
        for option in options
        if option.param is not None and option.name in selection.user_options
    }


def examples_in(profile: Profile, params: Resolved) -> set[str]:
    """Return the traits and attributes of a profile whose values are chosen by users, for which there are examples."""
    chosen = [attributes for name, attributes in _fed(profile).items() if name in params and params.chosen(name)]
    return {ATTRIBUTES[name].trait or name for names in chosen for name in names}


def within_constraint(option: Option, enforced: Any) -> Option:
    """Return an option limited by the administrator's constraint. A fixed value becomes read-only."""
    constraint = Constraint.of(enforced)
    if constraint is None:
        return option.model_copy(update={"read_only": True})
    if isinstance(option, NumberOption):
        upper = [m for m in (option.maximum, constraint.maximum) if isinstance(m, int | float)]
        lower = [m for m in (option.minimum, constraint.minimum) if isinstance(m, int | float)]
        bounds = {"maximum": min(upper, default=None), "minimum": max(lower, default=None)}
        return option.model_copy(update=bounds)
    if constraint.allowed is not None and option.listed():
        allowed = {choice_name(a) for a in constraint.allowed}
        return option.model_copy(update={"choices": tuple(c for c in option.listed() if c.name in allowed)})
    return option


def make_resolver(
    collectors: Sequence[Collector],
    *,
    strict: bool = True,
    before: Resolver | None = None,
    owned: Callable[[Collector, str], bool] = lambda collector, slug: True,
    removed: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Resolver | None:
    """Combine the params and collections of all sources; return `None` if there are none.

    If two have the same name, one is used, and the other one is reported as a conflict. Code comes before data, then
    a profile, then the first one.

    Args:
        collectors: The results of the loads.
        strict: Whether a value of an undefined param is an error.
        before: The previous resolver. If one of its collections was removed but is still inherited, it is kept,
            and a conflict names all that inherit it.
        owned: Whether the profile of a collector with this slug is the one that is served.
        removed: Params of the previous resolver that are defined no more but are still in use: their users, by name.
    """
    conflicts: list[ParamError] = []
    definitions = _joined("param", [p for c in collectors for p in c.params.values()], conflicts)
    for name, users in removed.items():
        assert before is not None
        definitions[name] = before.definitions[name]
        conflicts.append(_removed(f"param {name}", users, definitions[name].origin))
    taking = ((c, s, p) for c in collectors for s, p in c.profiles.items() if p.takes_params and s != GLOBAL)
    profiles = {slug: profile for collector, slug, profile in taking if owned(collector, slug)}
    written = [one for c in collectors for one in c.collections.values()]
    own = {slug: _params_of(p) for slug, p in profiles.items() if p.get("params") or p.get("profiles")}
    # A profile without params can also be inherited. It adds nothing. Its name is taken all the same.
    named = {name for c in (*written, *own.values()) for name in (c.name, *c.profiles)}
    own.update({slug: _params_of(profiles[slug]) for slug in named & profiles.keys() - own.keys()})
    collections = _joined("collection", [*own.values(), *written], conflicts)
    kept = _still_in_use(collections, before) if before is not None else []
    collections.update({c.name: c for c in kept})
    if not definitions and not collections:
        return None
    known = before.collections if before is not None else {}
    newest = {name for name, one in collections.items() if one != known.get(name)}
    resolver = Resolver(definitions, collections, strict=strict, conflicts=conflicts, newest=newest)
    for slug, collection in own.items():
        if collections[slug] is not collection:
            error = _taken("collection", slug, collections[slug].origin, collection.origin)
            resolver.unavailable = {**resolver.unavailable, slug: (error,)}
    for collection in kept:
        users = [c.name for c in collections.values() if collection.name in c.profiles]
        conflict = _removed(f"collection {collection.name}", users, collection.origin)
        resolver.conflicts = (*resolver.conflicts, conflict)
    return resolver


def _removed(what: str, users: Sequence[str], origin: Origin | None) -> ParamError:
    return ParamError(
        f"was removed, but is in use by {', '.join(users)}; its last version stays until they no longer use it",
        origin=origin,
        field=what,
        hint="Remove it there first. After a restart of the hub it is gone",
    )


_Named = TypeVar("_Named", Param, Collection)


def _joined(what: str, found: Sequence[_Named], conflicts: list[ParamError]) -> dict[str, _Named]:
    """Return what is used of params or collections, by name, in the order in which they were found."""
    used: dict[str, _Named] = {}
    for one in found:
        other = used.setdefault(one.name, one)
        if other == one:
            continue
        first, second = (one, other) if other.untrusted and not one.untrusted else (other, one)
        used[one.name] = first
        conflicts.append(_taken(what, one.name, first.origin, second.origin))
    return used


def _still_in_use(collections: Mapping[str, Collection], before: Resolver) -> list[Collection]:
    kept: dict[str, Collection] = {}
    waiting = [name for c in collections.values() for name in c.profiles]
    while waiting:
        name = waiting.pop()
        if name not in collections and name not in kept and name in before.collections and name != GLOBAL:
            kept[name] = before.collections[name]
            waiting += kept[name].profiles
    return list(kept.values())


def _taken(what: str, name: str, first: Origin | None, second: Origin | None) -> ParamError:
    return ParamError(
        f"the name is used twice: first at {first}, again at {second}",
        origin=second,
        field=f"{what} {name}",
        hint="Give one of the two another name",
    )


def _params_of(profile: Profile) -> Collection:
    params, inherited = dict(profile.get("params")), tuple(profile.get("profiles"))
    place = profile.where(("params",)) if params else profile.origin
    return Collection(
        name=profile.slug,
        params=params,
        profiles=inherited,
        origin=profile.where(("profiles",)) if inherited else profile.origin,
        origins={**dict.fromkeys(params, place), **key_lines(place, params)},
        untrusted=profile.contributor == "document",
        meta=profile.get("meta"),
    )


def param_problems(resolver: Resolver | None) -> list[ProfileSpawnerError]:
    """Return the errors of params and collections, and of the profiles that use them."""
    if resolver is None:
        return []
    return [*resolver.conflicts, *(error for errors in resolver.unavailable.values() for error in errors)]
