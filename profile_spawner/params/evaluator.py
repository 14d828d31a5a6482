"""What a param is for one server, and why: decides among the candidates of all layers, and explains the decision.

Texts in values may refer to other params and to facts of the server; what a user chose is inserted and never expanded.
A param whose value is broken is an error where it is used, so that it does not take along what does not need it.
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
        error: Why there is no value: it does not fit, cannot be joined, or refers to what does not exist.
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
        """Return the same as plain JSON."""

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
    """Stands for a value that cannot be used."""

    error: ParamError
    value: Any = None


@dataclass(frozen=True)
class Candidate:
    """A value that a layer has for a param.

    Attributes:
        layer: The layer.
        source: The profile, group or collection in it.
        value: Frozen; a `Ceiling`, or a `Broken` one.
        origin: File and line.
        refers: Whether texts in it refer to params or facts, or hold the escape.
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
        """Return it as it may be shown."""
        value = self.value.value if isinstance(self.value, Broken) else self.value
        if isinstance(value, Ceiling):
            value = {f"${n}": v for n, v in vars(value).items() if v is not None}
        secret = isinstance(value, SecretRef) or (param is not None and param.secure)
        return Shadowed(self.layer, self.source, "***" if secret else value, self.origin)


def candidate(layer: str, source: str, value: Any, origin: Origin | None) -> Candidate:
    """Return a candidate, after a look for references in its value."""
    # What a user chose is text, whatever it looks like.
    refers = layer != "spawn" and not isinstance(value, Broken | Ceiling) and is_template(value)
    return Candidate(layer, source, value, origin, refers)


class Resolved(Mapping[str, Any]):
    """The values of all params for one server. Looking one up costs what a dictionary costs.

    Attributes:
        failed: Why params have no value although somebody sets them. They are not among the keys; whoever looks one up
            gets the error.
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
        # Also a failed one: "not there" would be the wrong answer.
        return name in self._values or name in self.failed

    @property
    def inserting(self) -> Mapping[str, set[str]]:
        """The params and facts that were inserted into values, by the params into whose values they were."""
        return {name: self.inserted(name) for name in self._deciding.inserted}

    def inserted(self, name: str) -> set[str]:
        """Return the params and facts that were inserted into the value of `name`, directly or by others."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = self._deciding.inserted.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    def chosen(self, name: str) -> set[str]:
        """Return the params behind the value of `name`, itself included, whose values a user chose."""
        return {n for n in {name, *self.inserted(name)} if n in self._deciding.chosen}

    def explain(self, name: str) -> Resolution:
        """Return where the value of `name` came from and what it hides.

        Raises:
            KeyError: when nobody sets it.
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
        """Return all values with their sources, without secrets, as plain JSON: what a server was started with."""
        return {name: self.explain(name).to_json() for name in sorted({*self._values, *self.failed})}


class Deciding:
    """Decides the values of all params of one server, each when it is asked for: they may refer to each other.

    Attributes:
        inserted: The params and facts that were inserted, by the param into which they were.
        chosen: The params in whose values something is that a user chose.
        bounded: The params that a ceiling has changed.
        joined: The params whose values were joined.
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
        """Return the value of `name`; `MISSING` when there is none.

        Raises:
            ParamError: when it cannot be used.
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
        # A value that is enforced stands alone, whatever the param would join it with.
        # A list that stands alone loses its duplicates too.
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
        """Return what `{{ name }}` stands for in a value of param `into`.

        Raises:
            KeyError: when there is nothing of that name.
            ParamError: for a secure param, and for one that has no usable value.
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
        """Return all names that can be referred to."""
        return [*self._facts, *self._names]


class _Inserting(Mapping[str, Any]):
    """What the texts in the values of one param can refer to."""

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
