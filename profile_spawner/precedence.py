"""Which layer's value counts: one order, stated once, and for every value where it came from.

The first layer that has a value wins, by presence: `None`, `False`, `0`, `""` and `[]` are values. Only a param that
declares a `merge` joins the values of several layers. Resolving is a pure function of immutable inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import Origin, ParamError, shorten
from .params import MISSING, Param, ParamDefinitions, SecretRef, freeze, nearest, thaw

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
]

PRECEDENCE = ("enforced", "spawn", "server", "user", "profile", "assigned", "groups", "hub", "global", "default")
"""The order of the layers, the strongest first."""

DRP_ORDER = ("enforced", "server", "user", "profile", "assigned", "spawn", "groups", "hub", "global", "default")
"""Digital Rebar's own order: what is chosen for one run stands below what machine and profiles say."""

_ORDERS = {"default": PRECEDENCE, "drp": DRP_ORDER}

GLOBAL = "global"
"""The collection that always exists and comes last."""


@dataclass(frozen=True)
class Ceiling:
    """What an administrator enforces without fixing the value.

    A number beyond a bound is set to the bound. A value that is not allowed is an error.

    Attributes:
        maximum: The largest value.
        minimum: The smallest value.
        allowed: The only values.
    """

    maximum: float | None = None
    minimum: float | None = None
    allowed: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, value: Any) -> Ceiling | None:
        """Read `{"$maximum": 2}`, `{"$minimum": ...}`, `{"$allowed": [...]}`; `None` for a plain value."""
        if isinstance(value, Ceiling):
            return value
        if isinstance(value, Mapping) and value and set(value) <= {"$maximum", "$minimum", "$allowed"}:
            allowed = value.get("$allowed")
            return cls(
                value.get("$maximum"),
                value.get("$minimum"),
                None if allowed is None else tuple(freeze(a) for a in allowed),
            )
        return None

    def apply(self, name: str, value: Any) -> Any:
        """Return `value` within the bounds.

        Raises:
            ParamError: when it is not one of the allowed values.
        """
        if self.allowed is not None and value not in self.allowed:
            names = ", ".join(shorten(a, 30) for a in self.allowed[:10])
            raise ParamError("is not allowed by the administrator", field=f"param {name}", value=value, expected=names)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.maximum is not None and value > self.maximum:
                return self.maximum
            if self.minimum is not None and value < self.minimum:
                return self.minimum
        return value


@dataclass(frozen=True)
class Collection:
    """A named set of param values: what a profile sets, a mixin, or `global`.

    Attributes:
        name: Its name; a profile's slug.
        params: Values by param.
        profiles: Other collections that it takes on, most important first.
        origin: Where it was written.
        origins: Where single values were written, where that is known.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    origin: Origin | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def origin_of(self, param: str) -> Origin | None:
        """Return where the value of `param` was written."""
        return self.origins.get(param, self.origin)


@dataclass(frozen=True)
class Shadowed:
    """A value that another one hides.

    Attributes:
        layer: Its layer.
        source: The profile, group or collection in it.
        value: The value; `***` for a secure one.
        origin: File and line.
    """

    layer: str
    source: str
    value: Any
    origin: Origin | None = None


@dataclass(frozen=True)
class Resolution:
    """What a param is for one server, and why.

    Attributes:
        name: The param.
        value: Its value; `***` for a secure one.
        layer: The layer that decided; for merged values the strongest one that took part.
        source: The profile, group or collection in it.
        origin: File and line.
        shadowed: What it hides, strongest first; for merged values what it was joined with.
        merged: Whether several values were joined.
    """

    name: str
    value: Any
    layer: str
    source: str
    origin: Origin | None
    shadowed: tuple[Shadowed, ...] = ()
    merged: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain JSON."""

        def origin(o: Origin | None) -> str | None:
            return str(o) if o is not None else None

        return {
            "name": self.name,
            "value": thaw(self.value),
            "layer": self.layer,
            "source": self.source,
            "origin": origin(self.origin),
            "merged": self.merged,
            "shadowed": [
                {"layer": s.layer, "source": s.source, "value": thaw(s.value), "origin": origin(s.origin)}
                for s in self.shadowed
            ],
        }


@dataclass(frozen=True)
class _Candidate:
    layer: str
    source: str
    value: Any
    origin: Origin | None

    def shown(self, param: Param | None) -> Shadowed:
        secret = isinstance(self.value, SecretRef) or (param is not None and param.secure)
        return Shadowed(self.layer, self.source, "***" if secret else self.value, self.origin)


class Resolved(Mapping[str, Any]):
    """The values of all params for one server. Looking one up costs what a dictionary costs."""

    __slots__ = ("_candidates", "_definitions", "_explained", "_values", "get")

    def __init__(
        self,
        values: dict[str, Any],
        candidates: Callable[[str], list[_Candidate]],
        definitions: ParamDefinitions,
    ) -> None:
        self._values = values
        self._candidates = candidates
        self._definitions = definitions
        self._explained: dict[str, Resolution] = {}
        self.get = values.get  # type: ignore[method-assign]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def explain(self, name: str) -> Resolution:
        """Return where the value of `name` came from and what it hides.

        Raises:
            KeyError: when it has no value.
        """
        found = self._explained.get(name)
        if found is None:
            found = self._explained[name] = self._explain(name)
        return found

    def _explain(self, name: str) -> Resolution:
        value = self._values[name]
        param = self._definitions.get(name)
        candidates = self._candidates(name)
        ceilings = [c for c in candidates if isinstance(c.value, Ceiling)]
        candidates = [c for c in candidates if not isinstance(c.value, Ceiling)]
        first, *rest = candidates
        if ceilings and value != first.value and not (param is not None and param.merge != "first"):
            first, rest = ceilings[0], candidates
        merged = param is not None and param.merge != "first" and len(candidates) > 1
        shown = "***" if isinstance(value, SecretRef) else value
        return Resolution(
            name, shown, first.layer, first.source, first.origin, tuple(c.shown(param) for c in rest), merged
        )

    def record(self) -> dict[str, Any]:
        """Return all values with their sources, without secrets, as plain JSON: what a server was started with."""
        return {name: self.explain(name).to_json() for name in sorted(self._values)}


class Resolver:
    """Resolves params for servers. Made once per snapshot.

    Args:
        definitions: All params, by name.
        collections: All collections and the params of all profiles, by name.
        strict: Whether a value that nobody defined is an error.

    Attributes:
        unavailable: Why profiles and collections cannot be used: their values no longer fit, or they take on something
            that does not exist or that takes on them.
    """

    def __init__(
        self,
        definitions: Mapping[str, Param] | None = None,
        collections: Mapping[str, Collection] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self.definitions = ParamDefinitions(definitions)
        self.collections: Mapping[str, Collection] = {GLOBAL: Collection(GLOBAL), **(collections or {})}
        self.strict = strict
        self._walks: dict[str, tuple[str, ...]] = {}
        self._values: dict[str, dict[str, Any]] = {}
        problems: dict[str, list[ParamError]] = {}
        for name, collection in self.collections.items():
            try:
                self._values[name] = self._check(collection)
                self._walks[name] = walk(name, self.collections)
            except ParamError as e:
                problems.setdefault(name, []).append(e)
        for name, order in self._walks.items():
            broken = [other for other in order if other in problems and other != name]
            if broken:
                problems.setdefault(name, []).extend(problems[broken[0]])
        self.unavailable: Mapping[str, tuple[ParamError, ...]] = {n: tuple(es) for n, es in problems.items()}
        self._defaults = {n: p.default for n, p in self.definitions.items() if p.has_default}
        self._flat: dict[str, dict[str, list[_Candidate]]] = {}

    # ---------------------------------------------------------------------------------------------- definition

    def _check(self, collection: Collection) -> dict[str, Any]:
        layer = GLOBAL if collection.name == GLOBAL else "profile"
        return self.check_values(collection.params, layer, collection.name, collection.origin_of)

    def check_values(
        self,
        values: Mapping[str, Any],
        layer: str,
        source: str,
        origin_of: Callable[[str], Origin | None] = lambda name: None,
    ) -> dict[str, Any]:
        """Check the values of one layer and return them frozen.

        Raises:
            ParamError: for an undefined param, a value that does not fit, or a layer in which it may not be set.
        """
        result = {}
        for name, value in values.items():
            origin = origin_of(name)
            param = self.definitions.get(name)
            if param is None:
                if self.strict:
                    self.definitions.require(name, profile=source, origin=origin)
                result[name] = freeze(value)
                continue
            if param.layers is not None and layer not in param.layers:
                raise ParamError(
                    f"may not be set in layer {layer!r}",
                    profile=source,
                    origin=origin,
                    field=f"param {name}",
                    expected=f"one of {', '.join(param.layers)}",
                )
            ceiling = Ceiling.of(value) if layer == "enforced" else None
            result[name] = ceiling or param.check(value, profile=source, origin=origin)
        return result

    def walk_of(self, name: str) -> tuple[str, ...]:
        """Return a profile or collection and all that it takes on, strongest first; empty for an unknown one."""
        return self._walks.get(name, ())

    def used_by(self, name: str) -> list[str]:
        """Return everything that takes on collection `name`: while this is not empty, it must not be deleted."""
        return [c.name for c in self.collections.values() if name in c.profiles]

    def require_unused(self, name: str) -> None:
        """Refuse the deletion of a collection that is in use.

        Raises:
            ParamError: naming all users.
        """
        if name == GLOBAL:
            raise ParamError(f"{GLOBAL!r} always exists and cannot be deleted", field=name)
        users = self.used_by(name)
        if users:
            raise ParamError(f"is in use by {', '.join(users)}", field=name, hint="Remove it from their profiles first")

    # ---------------------------------------------------------------------------------------------- resolution

    def _candidates_of(self, name: str, layer: str) -> dict[str, list[_Candidate]]:
        """Return the values of a collection and all it takes on, by param, strongest first."""
        key = f"{layer}:{name}"
        flat = self._flat.get(key)
        if flat is None:
            flat = {}
            for other in self._walks.get(name, ()):
                collection = self.collections[other]
                for param, value in self._values.get(other, {}).items():
                    flat.setdefault(param, []).append(_Candidate(layer, other, value, collection.origin_of(param)))
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
    ) -> Resolved:
        """Return the values for one server.

        Args:
            profile: The chosen profile.
            spawn: What the user chose at the start; only `user_settable` params.
            server: Values for this one (named) server.
            user: Values for the user, set by an administrator.
            enforced: Values and ceilings that nothing can override.
            assigned: Collections that the administrator gave to the user, most important first.
            groups: For each of the user's groups, in their declared order: name, values, collections.
            hub: The hub's own values, such as `staging`.
            order: `default` for `PRECEDENCE`, `drp` for Digital Rebar's order.

        Raises:
            ParamError: for values that do not fit, unknown collections, and choices that are not the user's.
        """
        if order not in _ORDERS:
            raise ParamError("unknown order", field="order", value=order, expected=" or ".join(_ORDERS))
        by_layer: dict[str, list[dict[str, list[_Candidate]]]] = {
            "enforced": self._single("enforced", enforced),
            "spawn": self._single("spawn", self._settable(spawn)),
            "server": self._single("server", server),
            "user": self._single("user", user),
            "profile": [self._named(profile, "profile")] if profile in self.collections else [],
            "assigned": [self._named(name, "assigned") for name in assigned],
            "groups": [layer for group in groups for layer in self._group(*group)],
            "hub": self._single("hub", hub),
            "global": [self._candidates_of(GLOBAL, GLOBAL)],
        }
        ordered = [flat for layer in _ORDERS[order] if layer != "default" for flat in by_layer[layer]]

        def candidates(name: str) -> list[_Candidate]:
            found = [c for flat in ordered for c in flat.get(name, ())]
            if name in self._defaults:
                param = self.definitions[name]
                found.append(_Candidate("default", name, self._defaults[name], param.origin))
            return found

        names = dict.fromkeys([*self._defaults, *(n for flat in ordered for n in flat)])
        values = {}
        for name in names:
            value = self._decide(name, candidates(name))
            if value is not MISSING:
                values[name] = value
        return Resolved(values, candidates, self.definitions)

    def _single(self, layer: str, values: Mapping[str, Any] | None) -> list[dict[str, list[_Candidate]]]:
        if not values:
            return []
        checked = self.check_values(values, layer, layer)
        return [{name: [_Candidate(layer, layer, value, None)] for name, value in checked.items()}]

    def _settable(self, spawn: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        for name in spawn or ():
            if not self.definitions.require(name).user_settable:
                raise ParamError("cannot be chosen by users", field=f"param {name}")
        return spawn

    def _named(self, name: str | None, layer: str) -> dict[str, list[_Candidate]]:
        if name is None or name not in self.collections:
            raise ParamError(
                f"there is no profile or collection {name!r}{nearest(str(name), list(self.collections))}", field=layer
            )
        if name in self.unavailable:
            raise self.unavailable[name][0]
        return self._candidates_of(name, layer)

    def _group(
        self, group: str, values: Mapping[str, Any], profiles: Sequence[str]
    ) -> Iterator[dict[str, list[_Candidate]]]:
        checked = self.check_values(values, "groups", group)
        yield {name: [_Candidate("groups", group, value, None)] for name, value in checked.items()}
        for name in profiles:
            yield self._named(name, "groups")

    def _decide(self, name: str, candidates: list[_Candidate]) -> Any:
        ceilings = [c.value for c in candidates if isinstance(c.value, Ceiling)]
        candidates = [c for c in candidates if not isinstance(c.value, Ceiling)]
        if not candidates:
            return MISSING
        param = self.definitions.get(name)
        value = candidates[0].value
        # A value that is enforced stands alone, whatever the param would join it with.
        if param is not None and param.merge != "first" and candidates[0].layer != "enforced":
            value = freeze(_join(param, candidates))
            problems = param.problems(value)
            if problems:
                raise ParamError(
                    f"the joined value does not fit: {problems[0]}", field=f"param {name}", value=thaw(value)
                )
        for ceiling in ceilings:
            value = ceiling.apply(name, value)
        return value


def walk(name: str, collections: Mapping[str, Collection]) -> tuple[str, ...]:
    """Return `name` and all that it takes on: own params first, nested ones depth-first in order, each once.

    Raises:
        ParamError: for a cycle, with its path, and for a name that does not exist.
    """
    order: dict[str, None] = {}

    def visit(current: str, path: tuple[str, ...]) -> None:
        if current in path:
            raise ParamError(f"takes on itself: {' > '.join([*path, current])}", profile=name, field="profiles")
        if current not in collections:
            raise ParamError(
                f"there is no profile or collection {current!r}{nearest(current, list(collections))}",
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


def _join(param: Param, candidates: Sequence[_Candidate]) -> Any:
    expected = list | tuple if param.merge == "append" else Mapping
    for candidate in candidates:
        if not isinstance(candidate.value, expected):
            fits = next((c for c in candidates if isinstance(c.value, expected)), candidates[0])
            raise ParamError(
                f"values of different types cannot be joined: {fits.layer} {fits.source!r} and "
                f"{candidate.layer} {candidate.source!r}",
                field=f"param {param.name}",
                origin=candidate.origin,
                value=thaw(candidate.value),
            )
    values = [thaw(c.value) for c in candidates]
    if param.merge == "append":
        return _append(values, param.merge_key)
    result: dict[str, Any] = {}
    for value in values:
        _fill(result, value)
    return result


def _append(values: Iterable[list[Any]], key: str | None) -> list[Any]:
    result: list[Any] = []
    seen: list[Any] = []
    for item in (item for value in values for item in value):
        identity = item.get(key, item) if key is not None and isinstance(item, dict) else item
        if identity not in seen:
            seen.append(identity)
            result.append(item)
    return result


def _fill(target: dict[str, Any], weaker: Mapping[str, Any]) -> None:
    for key, value in weaker.items():
        if key not in target:
            target[key] = value
        elif isinstance(target[key], dict) and isinstance(value, Mapping):
            _fill(target[key], value)
