"""The layers of param values: their order, the checks of their values, and the resolver.

The strongest layer that has a value wins; `None`, `False`, `0`, `""` and `[]` are values. The values of several layers
are merged only if the param declares `merge`. Resolving is a pure function of immutable inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import Origin, ParamError, did_you_mean

from .definition import MISSING, Param, ParamDefinitions, freeze, is_template
from .evaluator import Broken, Candidate, Deciding, Resolution, Resolved, Shadowed, candidate
from .param_merge import Ceiling
from .templates import references_in

__all__ = [
    "DRP_ORDER",
    "GLOBAL",
    "PRECEDENCE",
    "Ceiling",
    "Collection",
    "Resolution",
    "Resolved",
    "Resolver",
    "Shadowed",
    "Values",
    "walk",
]

PRECEDENCE = ("enforced", "spawn", "server", "user", "profile", "assigned", "groups", "hub", "global", "default")
"""The order of the layers, the strongest first."""

DRP_ORDER = ("enforced", "server", "user", "profile", "assigned", "spawn", "groups", "hub", "global", "default")
"""Digital Rebar's order: the user's choice for one start (`spawn`) is weaker than the values of server and profiles."""

_ORDERS = {"default": PRECEDENCE, "drp": DRP_ORDER}

_COLLECTED = ("profile", "assigned", "groups", "global")
"""The layers whose sources are collections, by name."""

GLOBAL = "global"
"""The collection that always exists and is the weakest."""


class Values(dict[str, Any]):
    """Values of one layer, with their origins.

    Args:
        values: The values, by param.
        origins: The origins of the values, by param.
    """

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, Origin] | None = None) -> None:
        super().__init__(values)
        self.origins = dict(origins or {})

    def origin_of(self, param: str) -> Origin | None:
        """Return where the value of `param` was written."""
        return self.origins.get(param)


@dataclass(frozen=True)
class Collection:
    """A named set of param values: what a profile sets, a mixin, or `global`.

    Attributes:
        name: The name; for a profile its slug.
        params: The values, by param.
        profiles: The collections that it inherits from, strongest first.
        origin: Where the collection is defined.
        origins: Where single values are defined, if known.
        untrusted: Whether it comes from an untrusted document, which the data policy restricts.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    origin: Origin | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    untrusted: bool = False

    def origin_of(self, param: str) -> Origin | None:
        """Return where the value of `param` was written."""
        return self.origins.get(param, self.origin)


class Resolver:
    """Resolves params for servers. One is created per snapshot.

    Args:
        definitions: All params, by name.
        collections: All collections and the params of all profiles, by name.
        strict: Whether a value for an undefined param is an error.
        conflicts: Errors that were found earlier: duplicate names.

    Attributes:
        unavailable: Why profiles and collections cannot be used: their values are invalid, or they inherit from
            something that does not exist or from themselves. For `global`, only the affected params have errors.
        conflicts: The argument `conflicts`.
        uses_facts: Whether values refer to facts of the server, such as `{{ username }}`.
    """

    def __init__(
        self,
        definitions: Mapping[str, Param] | None = None,
        collections: Mapping[str, Collection] | None = None,
        *,
        strict: bool = True,
        conflicts: Sequence[ParamError] = (),
    ) -> None:
        self.definitions = ParamDefinitions(definitions)
        self.collections: Mapping[str, Collection] = {GLOBAL: Collection(GLOBAL), **(collections or {})}
        self.strict = strict
        self.conflicts = tuple(conflicts)
        self._walks: dict[str, tuple[str, ...]] = {}
        self._values: dict[str, dict[str, Any]] = {}
        problems: dict[str, list[ParamError]] = {}
        for name, collection in self.collections.items():
            layer = GLOBAL if name == GLOBAL else "profile"
            self._values[name], wrong = self._look_at(collection.params, layer, name, collection.origin_of)
            try:
                self._walks[name] = walk(name, self.collections)
            except ParamError as e:
                wrong.append(e)
            if wrong:
                problems[name] = wrong
        for name, order in self._walks.items():
            broken = [other for other in order if other in problems and other != name]
            if broken:
                problems.setdefault(name, []).extend(problems[broken[0]])
        self.unavailable: Mapping[str, tuple[ParamError, ...]] = {n: tuple(es) for n, es in problems.items()}
        self._defaults = {
            n: candidate("default", n, p.default, p.origin) for n, p in self.definitions.items() if p.has_default
        }
        self._flat: dict[str, dict[str, list[Candidate]]] = {}
        self._global = self._global_values()
        named = references_in([list(self._values.values()), [c.value for c in self._defaults.values()]])
        self.uses_facts = bool(named - set(self.definitions))

    def _global_values(self) -> dict[str, list[Candidate]]:
        flat = dict(self._candidates_of(GLOBAL, GLOBAL))
        if GLOBAL not in self._walks:
            # Do not use only a part of `global`: each param that it sets has no value.
            broken = Broken(self.unavailable[GLOBAL][-1])
            lost = Candidate(GLOBAL, GLOBAL, broken, self.collections[GLOBAL].origin)
            flat = {n: [*flat.get(n, ()), lost] for n in {*self.definitions, *flat}}
        return flat

    # ---------------------------------------------------------------------------------------------- definition

    def _look_at(
        self, values: Mapping[str, Any], layer: str, source: str, origin_of: Callable[[str], Origin | None]
    ) -> tuple[dict[str, Any], list[ParamError]]:
        """Return the frozen values of one layer, with `Broken` for invalid ones, and the errors."""
        result: dict[str, Any] = {}
        wrong: list[ParamError] = []
        for name, value in values.items():
            origin = origin_of(name)
            try:
                result[name] = self._look_at_one(name, value, layer, source, origin)
            except ParamError as e:
                wrong.append(e)
                if name in self.definitions:
                    result[name] = Broken(e, freeze(value))
        return result, wrong

    def _look_at_one(self, name: str, value: Any, layer: str, source: str, origin: Origin | None) -> Any:
        param = self.definitions.get(name)
        if param is None:
            if self.strict:
                self.definitions.require(name, profile=source, origin=origin)
            return freeze(value)
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
                ceiling = Ceiling.of(value)
            except ParamError as e:
                e.origin, e.field = origin, f"param {name}: {e.field}"
                raise
            if ceiling is not None:
                return ceiling
        if layer != "spawn" and not param.secure and is_template(value):
            return freeze(value)  # checked after the references are replaced
        return param.check(value, profile=source, origin=origin)

    def check_values(
        self,
        values: Mapping[str, Any],
        layer: str,
        source: str,
        origin_of: Callable[[str], Origin | None] = lambda name: None,
    ) -> dict[str, Any]:
        """Check the values of one layer and return them frozen.

        Raises:
            ParamError: If a param is undefined, a value is invalid, or a param may not be set in this layer.
        """
        result, wrong = self._look_at(values, layer, source, origin_of)
        if wrong:
            raise wrong[0]
        return result

    def walk_of(self, name: str) -> tuple[str, ...]:
        """Return a profile or collection and everything it inherits from, strongest first; empty if it is unknown."""
        return self._walks.get(name, ())

    def used_by(self, name: str) -> list[str]:
        """Return everything that inherits from collection `name`. If this is not empty, `name` must not be deleted."""
        return [c.name for c in self.collections.values() if name in c.profiles]

    def require_unused(self, name: str) -> None:
        """Refuse the deletion of a collection that is in use.

        Raises:
            ParamError: If it is in use. The message names everything that inherits from it.
        """
        if name == GLOBAL:
            raise ParamError(f"{GLOBAL!r} always exists and cannot be deleted", field=name)
        users = self.used_by(name)
        if users:
            raise ParamError(f"is in use by {', '.join(users)}", field=name, hint="Remove it from their profiles first")

    def untrusted_in(self, found: Resolution) -> list[Shadowed]:
        """Return the values in `found` that come from untrusted documents."""
        first = Shadowed(found.layer, found.source, found.value, found.origin)
        result = []
        for one in (first, *(found.shadowed if found.merged else ())):
            default = one.layer == "default"
            written: Param | Collection | None = (
                self.definitions.get(found.name) if default else self.collections.get(one.source)
            )
            if written is not None and written.untrusted and (default or one.layer in _COLLECTED):
                result.append(one)
        return result

    # ---------------------------------------------------------------------------------------------- resolution

    def _candidates_of(self, name: str, layer: str) -> dict[str, list[Candidate]]:
        """Return the values of a collection and everything it inherits from, by param, strongest first."""
        key = f"{layer}:{name}"
        flat = self._flat.get(key)
        if flat is None:
            flat = {}
            for other in self._walks.get(name, (name,)):
                collection = self.collections[other]
                for param, value in self._values[other].items():
                    flat.setdefault(param, []).append(candidate(layer, other, value, collection.origin_of(param)))
            self._flat[key] = flat
        return flat

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
            server: Values for this one (named) server.
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
        by_layer: dict[str, list[dict[str, list[Candidate]]]] = {
            "enforced": self._single("enforced", enforced),
            "spawn": self._chosen(spawn),
            "server": self._single("server", server),
            "user": self._single("user", user),
            "profile": [self._named(profile, "profile")] if profile in self.collections else [],
            "assigned": [self._named(name, "assigned") for name in assigned],
            "groups": [layer for group in groups for layer in self._group(*group)],
            "hub": self._single("hub", hub),
            "global": [self._global],
        }
        ordered = [flat for layer in _ORDERS[order] if layer != "default" for flat in by_layer[layer]]

        def candidates(name: str) -> list[Candidate]:
            found = [c for flat in ordered for c in flat.get(name, ())]
            if name in self._defaults:
                found.append(self._defaults[name])
            return found

        names = dict.fromkeys([*self._defaults, *(n for flat in ordered for n in flat)])
        deciding = Deciding(self.definitions, candidates, facts or {}, names)
        values, failed = {}, {}
        for name in names:
            try:
                value = deciding.value(name)
            except ParamError as e:
                failed[name] = e
                continue
            if value is not MISSING:
                values[name] = value
        return Resolved(values, failed, deciding)

    def _single(
        self, layer: str, values: Mapping[str, Any] | None, source: str = ""
    ) -> list[dict[str, list[Candidate]]]:
        if not values:
            return []
        origin_of = values.origin_of if isinstance(values, Values) else lambda name: None
        looked, _ = self._look_at(values, layer, source or layer, origin_of)
        for name in values:
            if name not in looked:  # an undefined param is probably a typing error
                self.definitions.require(name, profile=source or None, origin=origin_of(name))
        return [{name: [candidate(layer, source or layer, value, origin_of(name))] for name, value in looked.items()}]

    def _chosen(self, spawn: Mapping[str, Any] | None) -> list[dict[str, list[Candidate]]]:
        for name in spawn or ():
            if not self.definitions.require(name).user_settable:
                raise ParamError("cannot be chosen by users", field=f"param {name}")
        checked = self.check_values(spawn or {}, "spawn", "spawn")
        return [{name: [candidate("spawn", "spawn", value, None)] for name, value in checked.items()}]

    def _named(self, name: str | None, layer: str) -> dict[str, list[Candidate]]:
        if name is None or name not in self.collections:
            raise ParamError(
                f"there is no profile or collection {name!r}{did_you_mean(name, self.collections)}", field=layer
            )
        if name in self.unavailable:
            raise self.unavailable[name][0]
        return self._candidates_of(name, layer)

    def _group(
        self, group: str, values: Mapping[str, Any], profiles: Sequence[str]
    ) -> Iterator[dict[str, list[Candidate]]]:
        yield from self._single("groups", values, group)
        for name in profiles:
            yield self._named(name, "groups")


def walk(name: str, collections: Mapping[str, Collection]) -> tuple[str, ...]:
    """Return `name` and everything it inherits from, strongest first: depth-first, in order, each once.

    Raises:
        ParamError: For a cycle (the message shows the path) and for a name that does not exist.
    """
    order: dict[str, None] = {}

    def visit(current: str, path: tuple[str, ...]) -> None:
        if current in path:
            raise ParamError(f"takes on itself: {' > '.join([*path, current])}", profile=name, field="profiles")
        if current not in collections:
            raise ParamError(
                f"there is no profile or collection {current!r}{did_you_mean(current, collections)}",
                profile=name,
                origin=collections[path[-1]].origin if path else None,
                field="profiles",
            )
        if current in order:
            return
        order[current] = None
        for nested in collections[current].profiles:
            visit(nested, (*path, current))

    visit(name, ())
    return tuple(order)
