"""The evaluator: computes the value of each param for one server from all layers, and explains the result.

Texts in values may refer to other params and to facts of the server. Values that users chose are never expanded.
An invalid value raises an error only when the param is looked up; other params still work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from profile_spawner.errors import Origin, ParamError

from .definition import MISSING, Param, SecretRef, freeze, is_template, thaw
from .param_merge import Ceiling, Part, join
from .templates import render_value

__all__ = ["Broken", "Candidate", "Deciding", "Resolution", "Resolved", "Shadowed", "candidate"]


@dataclass(frozen=True)
class Shadowed:
    """A value that is overridden by a stronger value.

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
    """The value of a param for one server, and where it comes from.

    Attributes:
        name: The param.
        value: Its value; `***` for a secure one.
        layer: The layer of the value; for merged values the strongest layer.
        source: The profile, group or collection in it.
        origin: File and line.
        shadowed: The overridden values, strongest first; for merged values the weaker values that were merged.
        merged: Whether several values were merged.
        error: Why there is no value: it does not match the schema, cannot be merged, or has an unknown reference.
    """

    name: str
    value: Any
    layer: str
    source: str
    origin: Origin | None
    shadowed: tuple[Shadowed, ...] = ()
    merged: bool = False
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the resolution as plain JSON."""

        def origin(o: Origin | None) -> str | None:
            return str(o) if o is not None else None

        result = {
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
        return {**result, "error": self.error} if self.error else result


@dataclass(frozen=True)
class Broken:
    """A placeholder for an invalid value."""

    error: ParamError
    value: Any = None


@dataclass(frozen=True)
class Candidate:
    """The value of a param in one layer.

    Attributes:
        layer: The layer.
        source: The profile, group or collection in it.
        value: A frozen value, a `Ceiling` or a `Broken`.
        origin: File and line.
        refers: Whether texts in the value contain references or escapes.
    """

    layer: str
    source: str
    value: Any
    origin: Origin | None
    refers: bool = False

    @property
    def where(self) -> str:
        """Layer and source, for messages."""
        return f"{self.layer} {self.source!r}"

    def shown(self, param: Param | None) -> Shadowed:
        """Return the value for display; secure values are masked."""
        value = self.value.value if isinstance(self.value, Broken) else self.value
        if isinstance(value, Ceiling):
            value = {f"${n}": v for n, v in vars(value).items() if v is not None}
        secret = isinstance(value, SecretRef) or (param is not None and param.secure)
        return Shadowed(self.layer, self.source, "***" if secret else value, self.origin)


def candidate(layer: str, source: str, value: Any, origin: Origin | None) -> Candidate:
    """Create a candidate; detect references in its value."""
    # A value that a user chose is never treated as a template.
    refers = layer != "spawn" and not isinstance(value, Broken | Ceiling) and is_template(value)
    return Candidate(layer, source, value, origin, refers)


class Resolved(Mapping[str, Any]):
    """The values of all params for one server. A lookup is as fast as in a dictionary.

    Attributes:
        failed: The errors of params with an invalid value, by name. These params are not among the keys; looking one
            up raises its error.
    """

    __slots__ = ("_deciding", "_explained", "_values", "failed", "get")

    def __init__(self, values: dict[str, Any], failed: dict[str, ParamError], deciding: Deciding) -> None:
        self._values = values
        self._deciding = deciding
        self._explained: dict[str, Resolution] = {}
        self.failed: Mapping[str, ParamError] = failed
        self.get = self._get if failed else values.get  # type: ignore[method-assign]

    def _get(self, name: str, default: Any = None) -> Any:
        if name in self.failed:
            raise self.failed[name]
        return self._values.get(name, default)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            if name in self.failed:
                raise self.failed[name] from None
            raise

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        # Failed params are included, so that a lookup raises their error instead of using a default.
        return name in self._values or name in self.failed

    @property
    def inserting(self) -> Mapping[str, set[str]]:
        """For each param, the params and facts that were inserted into its value."""
        return {name: self.inserted(name) for name in self._deciding.inserted}

    def inserted(self, name: str) -> set[str]:
        """Return the params and facts that were inserted into the value of `name`, directly or indirectly."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = self._deciding.inserted.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    def chosen(self, name: str) -> set[str]:
        """Return the params with user-chosen values that the value of `name` depends on, including `name` itself."""
        return {n for n in {name, *self.inserted(name)} if n in self._deciding.chosen}

    def explain(self, name: str) -> Resolution:
        """Return where the value of `name` comes from and which values it overrides.

        Raises:
            KeyError: If no layer sets the param.
        """
        found = self._explained.get(name)
        if found is None:
            found = self._explained[name] = self._explain(name)
        return found

    def _explain(self, name: str) -> Resolution:
        failure = self.failed.get(name)
        value = None if failure is not None else self._values[name]
        param = self._deciding.definitions.get(name)
        found = self._deciding.candidates(name)
        ceilings = [c for c in found if isinstance(c.value, Ceiling)]
        first, *rest = candidates = [c for c in found if not isinstance(c.value, Ceiling)]
        if name in self._deciding.bounded:
            first, rest = ceilings[0], candidates
        merged = name in self._deciding.joined
        return Resolution(
            name,
            "***" if isinstance(value, SecretRef) else value,
            first.layer,
            first.source,
            first.origin,
            tuple(c.shown(param) for c in rest),
            merged,
            str(failure) if failure is not None else "",
        )

    def record(self) -> dict[str, Any]:
        """Return all values with their sources, without secrets, as plain JSON. It is stored with the server."""
        return {name: self.explain(name).to_json() for name in sorted({*self._values, *self.failed})}


class Deciding:
    """Computes the values of the params of one server. A value is computed on demand; it may refer to other params.

    Attributes:
        inserted: For each param, the params and facts that were inserted into its value.
        chosen: The params whose values contain something that a user chose.
        bounded: The params whose values were changed by a constraint (`Ceiling`).
        joined: The params whose values were merged.
    """

    def __init__(
        self,
        definitions: Mapping[str, Param],
        candidates: Callable[[str], list[Candidate]],
        facts: Mapping[str, Any],
        names: Iterable[str],
    ) -> None:
        self.definitions = definitions
        self.candidates = candidates
        self.inserted: dict[str, set[str]] = {}
        self.chosen: set[str] = set()
        self.bounded: set[str] = set()
        self.joined: set[str] = set()
        self._facts = facts
        self._names = dict.fromkeys(names)
        self._done: dict[str, Any] = {}
        self._chain: list[str] = []

    def value(self, name: str) -> Any:
        """Return the value of `name`; `MISSING` if there is none.

        Raises:
            ParamError: If the value is invalid.
        """
        if name not in self._done:
            if name in self._chain:
                loop = [*self._chain[self._chain.index(name) :], name]
                raise ParamError(f"its value refers to itself: {' > '.join(loop)}", field=f"param {name}")
            self._chain.append(name)
            try:
                self._done[name] = self._decide(name)
            except ParamError as e:
                self._done[name] = Broken(e)
            finally:
                self._chain.pop()
        found = self._done[name]
        if isinstance(found, Broken):
            raise found.error
        return found

    def _decide(self, name: str) -> Any:
        found = self.candidates(name)
        candidates = [c for c in found if not isinstance(c.value, Ceiling)]
        if not candidates:
            return MISSING
        param = self.definitions.get(name)
        first = candidates[0]
        # An enforced value is never merged with others.
        # A single list is merged too, to remove its duplicates.
        several = len(candidates) > 1 or isinstance(first.value, tuple)
        if param is not None and param.merge != "first" and first.layer != "enforced" and several:
            if len(candidates) > 1:
                self.joined.add(name)
            value = freeze(join(param, [Part(thaw(self._usable(name, c)), c.where) for c in candidates]))
            what = "joined"
        else:
            candidates = [first]
            value = self._usable(name, first)
            what = "expanded" if first.refers else ""
        if any(c.layer == "spawn" for c in candidates):
            self.chosen.add(name)
        for ceiling in found:
            if isinstance(ceiling.value, Ceiling):
                bounded = ceiling.value.apply(name, value, secure=param is not None and param.secure)
                if bounded is not value:
                    value, what = bounded, "bounded"
                    self.bounded.add(name)
        if what and param is not None:
            problems = param.problems(value)
            if problems:
                raise ParamError(
                    f"the {what} value does not fit: {problems[0]}",
                    origin=first.origin,
                    field=f"param {name}",
                    value=None if param.secure else thaw(value),
                )
        return value

    def _usable(self, name: str, candidate: Candidate) -> Any:
        if isinstance(candidate.value, Broken):
            raise candidate.value.error
        if not candidate.refers:
            return candidate.value
        return freeze(
            render_value(
                candidate.value,
                _Inserting(self, name, candidate.origin),
                origin=candidate.origin,
                field=f"param {name}, {candidate.where}",
            )
        )

    def insert(self, name: str, into: str, origin: Origin | None) -> Any:
        """Return the value for the reference `{{ name }}` in a value of param `into`.

        Raises:
            KeyError: If there is no param or fact with this name.
            ParamError: If the param is secure or its value is invalid.
        """
        if name in self._facts:
            self.inserted.setdefault(into, set()).add(name)
            return self._facts[name]
        value = self.value(name) if name in self._names else MISSING
        if value is MISSING:
            raise KeyError(name)
        if isinstance(value, SecretRef):
            raise ParamError(
                f"refers to the secure param {name!r}, which may only be the whole value of an environment variable",
                origin=origin,
                field=f"param {into}",
            )
        self.inserted.setdefault(into, set()).add(name)
        return value

    def known(self) -> list[str]:
        """Return all names that references may use."""
        return [*self._facts, *self._names]


class _Inserting(Mapping[str, Any]):
    """The params and facts that texts in the values of one param may refer to."""

    def __init__(self, deciding: Deciding, into: str, origin: Origin | None) -> None:
        self._deciding = deciding
        self._into = into
        self._origin = origin

    def __getitem__(self, name: str) -> Any:
        return self._deciding.insert(name, self._into, self._origin)

    def __iter__(self) -> Iterator[str]:
        return iter(self._deciding.known())

    def __len__(self) -> int:
        return len(self._deciding.known())
