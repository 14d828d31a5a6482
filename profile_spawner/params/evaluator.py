"""The evaluator: computes the value of each param for one server from all layers, and explains the result.

Texts in values may refer to other params and to facts of the server. Values that users chose are never expanded.
An invalid value raises an error only when the param is looked up; other params still work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from profile_spawner.errors import Origin, ParamError, did_you_mean, shorten

from .definition import Param, SecretRef, freeze, is_template, thaw
from .param_merge import merge_values
from .templates import Allowance, references_in, render_value

__all__ = ["Evaluator", "Explanation", "MissingParamError", "NamedValues", "ParamValue", "Resolved"]

MAX_REFERENCES = 50
"""How long a chain of values can be that refer to each other."""


class MissingParamError(ParamError, KeyError):
    """A param without a value was looked up. It is a `KeyError` too, so `get()` and `in` work as for any mapping."""

    def __init__(self, name: object, known: Iterable[str], what: str = "param") -> None:
        has = "has no value in any layer and no default" if what == "param" else "does not exist"
        hint = f"Set it, or read it with get({shorten(name)!r})"
        super().__init__(f"{has}{did_you_mean(name, known)}", field=f"{what} {shorten(name)}", hint=hint)


class NamedValues(dict[str, Any]):
    """Values by name. The lookup of a name that is missing raises a `MissingParamError`.

    Args:
        values: The values.
        what: What the names are, for messages.
    """

    def __init__(self, values: Mapping[str, Any], what: str = "param") -> None:
        super().__init__(values)
        self._what = what

    def __missing__(self, name: str) -> Any:
        raise MissingParamError(name, self, self._what)


@dataclass(frozen=True)
class ParamValue:
    """The value of a param in one layer.

    Attributes:
        layer: The layer.
        source: The profile, group or collection in it.
        value: A frozen value, or a `Constraint`.
        origin: File and line.
        error: Why the value is invalid; `None` if it is valid.
        is_template: Whether texts in the value contain references or escapes.
    """

    layer: str
    source: str
    value: Any
    origin: Origin | None = None
    error: ParamError | None = None
    is_template: bool = False

    @classmethod
    def of(cls, layer: str, source: str, value: Any, origin: Origin | None) -> ParamValue:
        """Return a valid value. A value that a user chose is never a template."""
        return cls(layer, source, value, origin, is_template=layer != "spawn" and is_template(value))

    @property
    def where(self) -> str:
        """Layer and source, for messages."""
        return f"{self.layer} {self.source!r}"

    def masked(self, param: Param | None) -> ParamValue:
        """Return the value for display: `***` instead of a secure value."""
        secure = isinstance(self.value, SecretRef) or (param is not None and param.secure)
        return replace(self, value="***") if secure else self

    def to_json(self) -> dict[str, Any]:
        """Return the value and its place as plain JSON."""
        origin = str(self.origin) if self.origin is not None else None
        return {"value": thaw(self.value), "layer": self.layer, "source": self.source, "origin": origin}


@dataclass(frozen=True)
class Explanation:
    """The value of a param for one server, and where it comes from.

    Attributes:
        name: The param.
        value: Its value; `***` for a secure one, `None` for an invalid one.
        layer: The layer of the value; for merged values the strongest layer.
        source: The profile, group or collection in it.
        origin: File and line.
        overridden: The other values, strongest first; for merged values the weaker values that were merged.
        merged: Whether several values were merged.
        error: Why there is no value: it does not match the schema, cannot be merged, or has an unknown reference.
    """

    name: str
    value: Any
    layer: str
    source: str
    origin: Origin | None
    overridden: tuple[ParamValue, ...] = ()
    merged: bool = False
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as plain JSON."""
        place = ParamValue(self.layer, self.source, self.value, self.origin).to_json()
        overridden = [value.to_json() for value in self.overridden]
        result = {"name": self.name, **place, "merged": self.merged, "overridden": overridden}
        return {**result, "error": self.error} if self.error else result


def _reached(names: Iterable[str], next_of: Mapping[str, set[str]]) -> set[str]:
    """Return everything to which these names lead, directly or indirectly."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        new = next_of.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


class Resolved(Mapping[str, Any]):
    """The values of all params for one server. They are immutable, and computed when they are looked up.

    Looking up a param without a value raises `MissingParamError`. Params with an invalid value are not among the keys.
    Looking one up raises its error, also with `get()` and a default, and `name in resolved` is true for it.

    Args:
        evaluator: Computes the values.
        given: The params that a layer other than `global` and `default` sets.
    """

    def __init__(self, evaluator: Evaluator, given: Collection[str] = ()) -> None:
        self._evaluator = evaluator
        self._explained: dict[str, Explanation] = {}
        self.given = frozenset(given)

    def __getitem__(self, name: str) -> Any:
        if name not in self._evaluator.names:
            raise MissingParamError(name, self._evaluator.names)
        return self._evaluator.value(name)

    def __contains__(self, name: object) -> bool:
        return name in self._evaluator.names

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._evaluator.names if self.error_of(name) is None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def looked_up(self) -> Collection[str]:
        """The params whose values were computed so far."""
        return self._evaluator.looked_up

    @property
    def failed(self) -> Mapping[str, ParamError]:
        """The errors of all params with an invalid value, by name."""
        return {name: error for name in self._evaluator.names if (error := self.error_of(name)) is not None}

    def error_of(self, name: str) -> ParamError | None:
        """Return the error of a param with an invalid value; `None` for others."""
        try:
            self.get(name)
        except ParamError as e:
            return e
        return None

    def inserted(self, name: str) -> set[str]:
        """Return the params and facts that were inserted into the value of `name`, directly or indirectly."""
        self.error_of(name)
        return _reached([name], self._evaluator.inserted)

    def chosen(self, name: str) -> set[str]:
        """Return the params with user-chosen values that the value of `name` depends on, including `name` itself."""
        return {name, *self.inserted(name)} & self._evaluator.chosen

    def explain(self, name: str) -> Explanation:
        """Return where the value of `name` comes from and which values it overrides.

        Raises:
            MissingParamError: If no layer sets the param.
        """
        if name not in self:
            raise MissingParamError(name, self._evaluator.names)
        if name not in self._explained:
            self.error_of(name)
            self._explained[name] = self._evaluator.explain(name)
        return self._explained[name]

    def record(self, *, used: bool = False) -> dict[str, Any]:
        """Return the values with their sources, without secrets, as plain JSON.

        Args:
            used: Whether to leave out the params that only `global` or a default sets and that nothing has looked up.
        """
        names = {*self.looked_up, *self.given} if used else self._evaluator.names
        return {name: self.explain(name).to_json() for name in sorted(names)}


class Evaluator:
    """Computes the values of the params of one server. A value is computed on demand; it may refer to other params.

    Args:
        definitions: All params, by name.
        names: The params that have a value in a layer. Not copied.
        values_of: Returns the values of one of `names`, strongest first.
        constraints: The constraints of the administrator, by param.
        facts: The facts of the server.

    Attributes:
        names: The argument `names`.
        inserted: For each param, the params and facts that were inserted into its value.
        chosen: The params whose values contain something that a user chose.
    """

    def __init__(
        self,
        definitions: Mapping[str, Param],
        names: Collection[str],
        values_of: Callable[[str], list[ParamValue]],
        constraints: Mapping[str, ParamValue],
        facts: Mapping[str, Any],
    ) -> None:
        self.names = names
        self.inserted: dict[str, set[str]] = {}
        self.chosen: set[str] = set()
        self._definitions = definitions
        self._values_of = values_of
        self._constraints = constraints
        self._facts = facts
        self._merged: set[str] = set()
        self._constrained: set[str] = set()
        self._results: dict[str, Any] = {}
        self._chain: list[str] = []
        self._allowance = Allowance()

    @property
    def looked_up(self) -> Collection[str]:
        """The params whose values were computed."""
        return self._results.keys()

    def value(self, name: str) -> Any:
        """Return the value of `name`.

        Raises:
            ParamError: If the value is invalid.
        """
        if name not in self._results:
            if len(self._chain) > MAX_REFERENCES:
                raise ParamError(
                    f"its value refers to others through more than {MAX_REFERENCES} levels", field=f"param {name}"
                )
            if name in self._chain:
                loop = [*self._chain[self._chain.index(name) :], name]
                raise ParamError(f"its value refers to itself: {' > '.join(loop)}", field=f"param {name}")
            self._chain.append(name)
            try:
                self._results[name] = self._evaluate(name)
            except ParamError as e:
                self._results[name] = e
            except RecursionError:
                self._results[name] = ParamError("its value is nested too deep", field=f"param {name}")
            finally:
                self._chain.pop()
        result = self._results[name]
        if isinstance(result, ParamError):
            raise result
        return result

    def explain(self, name: str) -> Explanation:
        """Return where the value of `name` comes from and which values it overrides."""
        param = self._definitions.get(name)
        first, *others = [value.masked(param) for value in self._values_of(name)]
        if name in self._constrained:
            first, others = self._constraints[name], [first, *others]
        result = self._results[name]
        value, error = (None, str(result)) if isinstance(result, ParamError) else (result, "")
        return Explanation(
            name,
            "***" if isinstance(value, SecretRef) else value,
            first.layer,
            first.source,
            first.origin,
            tuple(others),
            name in self._merged,
            error,
        )

    def _evaluate(self, name: str) -> Any:
        param = self._definitions.get(name)
        used = self._values_of(name)
        first = used[0]
        # A single list is merged too, to remove its duplicates.
        several = len(used) > 1 or isinstance(first.value, tuple)
        if param is not None and param.merge != "first" and first.layer != "enforced" and several:
            if len(used) > 1:
                self._merged.add(name)
            value = freeze(merge_values(param, [(v.where, self._expanded(name, v)) for v in used]))
            changed = "merged"
        else:
            used = [first]
            value = self._expanded(name, first)
            changed = "expanded" if first.is_template else ""
        if any(v.layer == "spawn" for v in used):
            self.chosen.add(name)
        secure = param is not None and param.secure
        if name in self._constraints:
            within = self._constraints[name].value.apply(name, value, secure=secure)
            if within is not value:
                value, changed = within, "constrained"
                self._constrained.add(name)
        problems = param.problems(value) if changed and param is not None else []
        if problems:
            raise ParamError(
                f"the {changed} value does not fit: {problems[0]}",
                origin=first.origin,
                field=f"param {name}",
                value=None if secure else thaw(value),
            )
        return value

    def _expanded(self, name: str, value: ParamValue) -> Any:
        """Return a value of param `name` with its references replaced.

        Raises:
            ParamError: If it is invalid, or refers to something that does not exist, is secure or is invalid.
        """
        if value.error is not None:
            raise value.error
        if not value.is_template:
            return value.value
        names = sorted(references_in(value.value))
        if all(inner in self._facts or inner in self.names for inner in names):
            lookup: Mapping[str, Any] = {inner: self._inserted_value(inner, name, value.origin) for inner in names}
        else:  # `render_value` raises the error; it suggests the most similar of all names
            lookup = {**dict.fromkeys(self._facts), **dict.fromkeys(self.names)}
        field = f"param {name}, {value.where}"
        rendered = render_value(value.value, lookup, origin=value.origin, field=field, allowance=self._allowance)
        return freeze(rendered)

    def _inserted_value(self, name: str, into: str, origin: Origin | None) -> Any:
        value = self._facts[name] if name in self._facts else self.value(name)
        if isinstance(value, SecretRef):
            raise ParamError(
                f"refers to the secure param {name!r}, which may only be the whole value of an environment variable",
                origin=origin,
                field=f"param {into}",
            )
        self.inserted.setdefault(into, set()).add(name)
        return value
