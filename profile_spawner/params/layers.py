"""The layers of param values: their order, the checks of their values, and the resolver.

The strongest layer that has a value wins; `None`, `False`, `0`, `""` and `[]` are values. The values of several layers
are merged only if the param declares `merge`. Resolving is a pure function of immutable inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Collection_
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from profile_spawner.errors import Origin, ParamError, did_you_mean, shorten

from .constraint import Constraint
from .definition import Param, freeze, is_template
from .evaluator import Evaluator, Explanation, ParamValue, Resolved
from .templates import references_in

__all__ = [
    "DRP_ORDER",
    "GLOBAL",
    "PRECEDENCE",
    "Collection",
    "LayerValues",
    "Resolver",
]

PRECEDENCE = ("enforced", "spawn", "server", "user", "profile", "assigned", "groups", "hub", "global", "default")
"""The order of the layers, the strongest first."""

DRP_ORDER = ("enforced", "server", "user", "profile", "assigned", "spawn", "groups", "hub", "global", "default")
"""Digital Rebar's order: the user's choice for one start (`spawn`) is weaker than the values of server and profiles."""

_ORDERS = {"default": PRECEDENCE, "drp": DRP_ORDER}

MAX_INHERITED_DEPTH = 50
"""How long a chain of collections can be that inherit from each other."""

MAX_SUGGESTIONS = 20
"""For how many undefined params of one collection the error suggests the most similar name."""

COLLECTION_NAME = re.compile(r"[^\W_](?:[\w. -]{0,61}[^\W_])?")
"""Letters and digits of all languages, spaces and `._-`."""

GLOBAL = "global"
"""The collection that always exists and is the weakest."""


_Flat: TypeAlias = dict[str, list[ParamValue]]
"""Values by param, strongest first."""


class LayerValues(dict[str, Any]):
    """Values of one layer, with their origins.

    Args:
        values: The values, by param.
        origins: The origins of the values, by param.
        profiles: The collections of the layer, strongest first. They come after its own values.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        origins: Mapping[str, Origin] | None = None,
        profiles: Sequence[str] = (),
    ) -> None:
        super().__init__(values)
        self.origins = dict(origins or {})
        self.profiles = tuple(profiles)

    def __bool__(self) -> bool:
        return len(self) > 0 or bool(self.profiles)

    def __repr__(self) -> str:
        return f"{super().__repr__()}, {self.profiles!r}"

    def origin_of(self, param: str) -> Origin | None:
        """Return where the value of `param` was written."""
        return self.origins.get(param)


@dataclass(frozen=True)
class Collection:
    """A named set of param values: what a profile sets, a mixin, or `global`.

    Profiles and collections share their names, so the rule for names is that of slugs, with the further characters that
    Digital Rebar allows.

    Attributes:
        name: The name; for a profile its slug.
        params: The values, by param.
        profiles: The collections that it inherits from, strongest first.
        origin: Where the collection is defined.
        origins: Where single values are defined, if known.
        untrusted: Whether it comes from an untrusted document, which the data policy restricts.
        description: A description in one line.
        documentation: A longer description.
        meta: Notes by name. `required` and `optional` list params for the page, separated by commas.

    Raises:
        ParamError: If the name is not valid.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    origin: Origin | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    untrusted: bool = False
    description: str = ""
    documentation: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not COLLECTION_NAME.fullmatch(self.name):
            raise ParamError(
                "is not a valid name of a collection",
                origin=self.origin,
                field=f"collection {shorten(self.name)}",
                expected="1 to 63 letters, digits, spaces and '._-', beginning and ending with a letter or digit",
            )

    def origin_of(self, param: str) -> Origin | None:
        """Return where the value of `param` was written."""
        return self.origins.get(param, self.origin)


_NO_COLLECTION = Collection("none")


class Resolver:
    """Resolves params for servers. One is created per snapshot.

    Args:
        definitions: All params, by name.
        collections: All collections and the params of all profiles, by name.
        strict: Whether a value for an undefined param is an error.
        conflicts: Errors that were found earlier: duplicate names.
        newest: The collections that are new or have changed. One of them is the cause of a new cycle.

    Attributes:
        mistakes: The errors of profiles and collections: invalid values, and inheriting from something that does not
            exist or from themselves. A cycle is a mistake of the collection that closes it.
        unavailable: Why profiles and collections cannot be used: their mistakes, and those of what they inherit from.
            What is wrong in `global` is not used, and affects no profile.
        conflicts: The argument `conflicts`.
        sensitive: The params that are defined as sensitive.
        templated: The params for which a value here refers to something.
        uses_facts: Whether values refer to facts of the server, such as `{{ username }}`.
    """

    def __init__(
        self,
        definitions: Mapping[str, Param] | None = None,
        collections: Mapping[str, Collection] | None = None,
        *,
        strict: bool = True,
        conflicts: Sequence[ParamError] = (),
        newest: Container[str] = (),
    ) -> None:
        self.definitions: Mapping[str, Param] = dict(definitions or {})
        self.collections: Mapping[str, Collection] = {GLOBAL: Collection(GLOBAL), **(collections or {})}
        self.strict = strict
        self.conflicts = tuple(conflicts)
        self._inherited: dict[str, tuple[str, ...]] = {}
        self._values: dict[str, dict[str, ParamValue]] = {}
        self._flat: dict[tuple[str, str], _Flat] = {}
        self.mistakes = self._find_mistakes(newest)
        self.unavailable = self._find_unavailable()
        self._defaults = {
            n: ParamValue.of("default", n, p.default, p.origin) for n, p in self.definitions.items() if p.has_default
        }
        self._default_values = _flat(self._defaults)
        self._global = self._global_values()
        self.sensitive = frozenset(name for name, param in self.definitions.items() if param.sensitive)
        values = [*self._defaults.items(), *(item for flat in self._values.values() for item in flat.items())]
        self.templated = frozenset(name for name, value in values if value.is_template)
        named = references_in([value.value for _, value in values if value.is_template])
        self.uses_facts = bool(named - set(self.definitions))

    def _find_mistakes(self, newest: Container[str]) -> Mapping[str, tuple[ParamError, ...]]:
        """Check all collections; return their own errors."""
        mistakes: dict[str, list[ParamError]] = {}
        for name, collection in self.collections.items():
            layer = GLOBAL if name == GLOBAL else "profile"
            self._values[name], errors = self._checked(collection.params, layer, name, collection.origin_of)
            errors += [self._not_there(collection, n) for n in collection.profiles if n not in self.collections]
            try:
                self._inherited[name] = _inherited(name, self.collections)
            except ParamError as e:
                errors.append(e)
            if errors:
                mistakes[name] = errors
        for cycle in _cycles(self.collections):
            closing = [n for n in self.collections if n in cycle and n in newest] or [cycle[-1]]
            at = cycle.index(closing[-1]) + 1
            path = [*cycle[at:], *cycle[:at]]
            error = ParamError(
                f"inherits from itself: {' > '.join([*path, path[0]])}",
                profile=path[-1],
                origin=self.collections[path[-1]].origin,
                field="profiles",
            )
            mistakes.setdefault(path[-1], []).append(error)
        return {name: tuple(errors) for name, errors in mistakes.items()}

    def _not_there(self, collection: Collection, name: str) -> ParamError:
        return ParamError(
            f"there is no profile or collection {name!r}{did_you_mean(name, self.collections)}",
            profile=collection.name,
            origin=collection.origin,
            field="profiles",
        )

    def _find_unavailable(self) -> Mapping[str, tuple[ParamError, ...]]:
        unavailable = dict(self.mistakes)
        for name, inherited in self._inherited.items():
            broken = [other for other in inherited if other in self.mistakes and other != name]
            if broken:
                unavailable[name] = (*self.mistakes.get(name, ()), *self.mistakes[broken[0]])
        return unavailable

    def _global_values(self) -> _Flat:
        """Return the values of `global`, and of what it inherits from, without those that are invalid."""
        flat = self._values_of_collection(GLOBAL, GLOBAL)
        valid = {name: [value for value in values if value.error is None] for name, values in flat.items()}
        return {name: values for name, values in valid.items() if values}

    # ---------------------------------------------------------------------------------------------- checks

    def _checked(
        self, values: Mapping[str, Any], layer: str, source: str, origin_of: Callable[[str], Origin | None]
    ) -> tuple[dict[str, ParamValue], list[ParamError]]:
        """Return the values of one layer and the errors of invalid ones. Undefined params are only errors."""
        result: dict[str, ParamValue] = {}
        errors: list[ParamError] = []
        undefined = [name for name in values if self.strict and name not in self.definitions]
        if len(undefined) > MAX_SUGGESTIONS:  # to look for similar names takes long
            more = f"{len(undefined):,} params are not defined, such as {shorten(undefined[0])}"
            errors.append(ParamError(more, profile=source, origin=origin_of(undefined[0]), hint="Define them"))
            values = {name: value for name, value in values.items() if name in self.definitions}
        for name, value in values.items():
            origin = origin_of(name)
            try:
                found = self._checked_value(name, value, layer, source, origin)
                result[name] = ParamValue.of(layer, source, found, origin)
            except ParamError as e:
                errors.append(e)
                if name in self.definitions:
                    result[name] = ParamValue(layer, source, freeze(value), origin, e)
        return result, errors

    def _checked_value(self, name: str, value: Any, layer: str, source: str, origin: Origin | None) -> Any:
        if not self.strict and name not in self.definitions:
            return freeze(value)
        param = self._definition(name, source, origin)
        if param.layers is not None and layer not in param.layers:
            raise ParamError(
                f"may not be set in layer {layer!r}",
                profile=source,
                origin=origin,
                field=f"param {name}",
                expected=f"one of {', '.join(param.layers)}",
            )
        if layer == "enforced":
            try:
                constraint = Constraint.of(value)
            except ParamError as e:
                e.origin, e.field = origin, f"param {name}: {e.field}"
                raise
            if constraint is not None:
                return constraint
        if layer != "spawn" and not param.secure and is_template(value):
            return freeze(value)  # checked after the references are replaced
        return param.check(value, profile=source, origin=origin)

    def _definition(self, name: str, source: str | None = None, origin: Origin | None = None) -> Param:
        """Return a definition.

        Raises:
            ParamError: If the param is not defined. The message suggests the most similar name.
        """
        if name not in self.definitions:
            raise ParamError(
                f"is not defined{did_you_mean(name, self.definitions)}",
                profile=source,
                origin=origin,
                field=f"param {shorten(name)}",
                hint="Define it, or correct the name",
            )
        return self.definitions[name]

    def inherited(self, name: str) -> tuple[str, ...]:
        """Return a profile or collection and everything it inherits from, strongest first; empty if it is unknown."""
        return self._inherited.get(name, ())

    def untrusted_in(self, found: Explanation) -> list[Origin | None]:
        """Return the origins of the values in `found` that come from untrusted documents."""
        first = ParamValue(found.layer, found.source, found.value, found.origin)
        result = []
        for one in (first, *(found.overridden if found.merged else ())):
            if one.layer == "default":
                untrusted = self.definitions[found.name].untrusted
            else:  # a group, for example, can have the name of a collection, but not its place
                written = self.collections.get(one.source, _NO_COLLECTION)
                set_there = found.name in written.params and written.origin_of(found.name) == one.origin
                untrusted = set_there and written.untrusted
            if untrusted:
                result.append(one.origin)
        return result

    # ---------------------------------------------------------------------------------------------- values

    def resolve(
        self,
        *,
        profile: str | None = None,
        spawn: Mapping[str, Any] | None = None,
        server: Mapping[str, Any] | None = None,
        user: Mapping[str, Any] | None = None,
        enforced: Mapping[str, Any] | None = None,
        assigned: Sequence[str] = (),
        groups: Iterable[tuple[str, Mapping[str, Any], Sequence[str]]] = (),
        hub: Mapping[str, Any] | None = None,
        order: str = "default",
        facts: Mapping[str, Any] | None = None,
    ) -> Resolved:
        """Return the values for one server.

        A value that does not match its schema, cannot be merged, or has an unknown reference raises an error only when
        it is looked up (`Resolved.failed`). All other errors are raised here.

        Args:
            profile: The chosen profile.
            spawn: The values that the user chose for this start; only `user_settable` params.
            server: Values for this one (named) server; like those of the user and the hub, they may have profiles.
            user: Values for the user, set by an administrator.
            enforced: Values and constraints that no layer can override.
            assigned: Collections that the administrator assigned to the user, strongest first.
            groups: For each of the user's groups, in their declared order: name, values, collections.
            hub: The hub's own values, such as `staging`.
            order: `default` for `PRECEDENCE`, `drp` for Digital Rebar's order.
            facts: Facts of the server that texts in values can refer to, such as `username`.

        Raises:
            ParamError: For undefined params, unknown collections, and params that the user may not choose.
        """
        if order not in _ORDERS:
            raise ParamError("unknown order", field="order", value=order, expected=" or ".join(_ORDERS))
        fixed = self._single("enforced", enforced)
        constraints = {name: value for name, value in fixed.items() if isinstance(value.value, Constraint)}
        by_layer: dict[str, list[_Flat]] = {
            "enforced": [_flat({name: value for name, value in fixed.items() if name not in constraints})],
            "spawn": [_flat(self._chosen(spawn))],
            "server": self._with_profiles("server", server),
            "user": self._with_profiles("user", user),
            "profile": [self._named(profile, "profile")] if profile in self.collections else [],
            "assigned": [self._named(name, "assigned") for name in assigned],
            "groups": [
                flat
                for group, values, profiles in groups
                for flat in (
                    _flat(self._single("groups", values, group)),
                    *(self._named(name, "groups") for name in profiles),
                )
            ],
            "hub": self._with_profiles("hub", hub),
            "global": [self._global],
            "default": [self._default_values],
        }
        ordered = [flat for layer in _ORDERS[order] for flat in by_layer[layer] if flat]
        given = {name for layer in _ORDERS[order][:-2] for flat in by_layer[layer] for name in flat}
        layers = _Layers(ordered)
        return Resolved(Evaluator(self.definitions, layers, layers.values_of, constraints, facts or {}), given)

    def _single(self, layer: str, values: Mapping[str, Any] | None, group: str = "") -> dict[str, ParamValue]:
        """Return the values that the administrator set in a layer, for one group if the layer is `groups`.

        Raises:
            ParamError: If a param is not defined.
        """
        values = values or {}
        origin_of = values.origin_of if isinstance(values, LayerValues) else lambda name: None
        result, _ = self._checked(values, layer, group or layer, origin_of)
        for name in values:
            if name not in result:
                self._definition(name, group or None, origin_of(name))
        return result

    def _with_profiles(self, layer: str, values: Mapping[str, Any] | None) -> list[_Flat]:
        """Return the values of a layer, then those of the collections that it lists."""
        profiles = values.profiles if isinstance(values, LayerValues) else ()
        return [_flat(self._single(layer, values)), *(self._named(name, layer) for name in profiles)]

    def _chosen(self, spawn: Mapping[str, Any] | None) -> dict[str, ParamValue]:
        for name in spawn or ():
            if not self._definition(name).user_settable:
                raise ParamError("cannot be chosen by users", field=f"param {name}")
        result, errors = self._checked(spawn or {}, "spawn", "spawn", lambda name: None)
        if errors:
            raise errors[0]
        return result

    def _named(self, name: str | None, layer: str) -> _Flat:
        """Return the values of a collection in a layer.

        Raises:
            ParamError: If the collection does not exist or cannot be used.
        """
        if name == GLOBAL:  # it is the weakest layer, wherever it is listed
            return {}
        if name is None or name not in self.collections:
            raise ParamError(
                f"there is no profile or collection {name!r}{did_you_mean(name, self.collections)}", field=layer
            )
        if name in self.unavailable:
            raise self.unavailable[name][0]
        return self._values_of_collection(name, layer)

    def _values_of_collection(self, name: str, layer: str) -> _Flat:
        """Return the values of a collection and everything it inherits from, by param, strongest first."""
        if (name, layer) not in self._flat:
            flat: _Flat = {}
            for other in self._inherited.get(name, (name,)):
                for param, value in self._values[other].items():
                    flat.setdefault(param, []).append(replace(value, layer=layer))
            self._flat[name, layer] = flat
        return self._flat[name, layer]


class _Layers(Collection_[str]):
    """The params that have values in some layers, strongest first. Nothing is copied: there can be many of them."""

    def __init__(self, layers: Sequence[_Flat]) -> None:
        self._layers = layers

    def __contains__(self, name: object) -> bool:
        return any(name in layer for layer in self._layers)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for layer in self._layers for name in layer))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values_of(self, name: str) -> list[ParamValue]:
        """Return the values of a param, strongest first."""
        return [value for layer in self._layers for value in layer.get(name, ())]


def _flat(values: Mapping[str, ParamValue]) -> _Flat:
    return {name: [value] for name, value in values.items()}


def _inherited(name: str, collections: Mapping[str, Collection]) -> tuple[str, ...]:
    """Return `name` and everything it inherits from, strongest first: depth-first, in order, each once.

    Raises:
        ParamError: For too many levels.
    """
    order: dict[str, None] = {}

    def visit(current: str, path: tuple[str, ...]) -> None:
        if len(path) > MAX_INHERITED_DEPTH:
            raise ParamError(
                f"inherits through more than {MAX_INHERITED_DEPTH} levels: {' > '.join(path[:3])} > ...",
                profile=name,
                origin=collections[name].origin,
                field="profiles",
            )
        # `global` is the weakest layer, wherever it is listed.
        if current in order or current not in collections or (current == GLOBAL != name):
            return
        order[current] = None
        for nested in collections[current].profiles:
            visit(nested, (*path, current))

    visit(name, ())
    return tuple(order)


def _cycles(collections: Mapping[str, Collection]) -> Iterator[list[str]]:
    """Yield cycles of collections that inherit from each other. Without one collection of each, there may be more."""
    done: set[str] = set()
    for start in collections:
        path: dict[str, Iterator[str]] = {start: iter(collections[start].profiles)} if start not in done else {}
        while path:
            current = next(reversed(path))
            for name in path[current]:
                if name in path:
                    steps = list(path)
                    yield steps[steps.index(name) :]
                elif name in collections and name not in done:
                    path[name] = iter(collections[name].profiles)
                    break
            else:
                done.add(current)
                del path[current]
