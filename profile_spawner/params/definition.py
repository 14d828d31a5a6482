"""Params: named, typed values that profiles, groups, users and the hub can set.

A `Param` defines a JSON Schema, a default, who may set the param, and how the values of several layers are merged. The
concept comes from Digital Rebar; docs/params.md lists the differences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

import jsonschema_rs

from profile_spawner.errors import Origin, ParamError, did_you_mean, shorten

from .json_schema import schema_problem

__all__ = [
    "LAYERS",
    "MISSING",
    "REFERENCE",
    "Param",
    "ParamRef",
    "SecretRef",
    "freeze",
    "is_template",
    "thaw",
]

PARAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)*")
"""`name` or `area/name`."""

REFERENCE = re.compile(
    r"(\{\{\{\{)|(?<!\$)\{\{[ \t]*([A-Za-z][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)*)[ \t]*\}\}"
)
"""Matches an escape (`{{{{`) or a reference in a text. `${{` is not a reference, because other languages use it."""

LAYERS = ("enforced", "spawn", "server", "user", "profile", "assigned", "groups", "hub", "global")
"""The layers in which a value may be set, strongest first."""

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_SIZE = 20_000
"""The maximum number of values in a schema. The target of a `$ref` counts once for every `$ref` to it."""
MAX_VALUE_DEPTH = 40
"""The deepest nesting of a value."""
MAX_CHECKS = 2_000
"""The maximum number of checks of a value with a schema that refers back to itself several times."""
MAX_TEXT = 4096
"""The maximum length of a text that is matched against a pattern, in characters."""

Merge = Literal["first", "append", "merge"]

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DEFINITIONS = ("$defs", "definitions")
# Most patterns are matched in linear time. Patterns with look-around or back-references are not, so they have a limit.
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)


class _Missing:
    """The type of `MISSING`, which means "no value". `None` is a value."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Any = _Missing()


def freeze(value: Any) -> Any:
    """Return an immutable copy of JSON-like `value`: mappings become read-only, lists become tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({str(k): freeze(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(v) for v in value)
    return value


def is_template(value: Any) -> bool:
    """Return whether a text in `value` contains a reference or an escaped reference."""
    return any(REFERENCE.search(text) for text in _texts(value))


def thaw(value: Any) -> Any:
    """Return a frozen value as plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {k: thaw(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(v) for v in value]
    if isinstance(value, SecretRef):
        return {"secret": value.name, "key": value.key}
    return value


@dataclass(frozen=True)
class SecretRef:
    """The value of a secure param: a key of a Kubernetes Secret. The hub never reads the secret itself.

    Attributes:
        name: The Secret's name, in the server's namespace.
        key: The key in the Secret.
    """

    name: str = field(repr=False)
    key: str = field(repr=False)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    @classmethod
    def of(cls, value: Any) -> SecretRef | None:
        """Convert `{"secret": name, "key": key}`; return `None` if `value` has another form."""
        if isinstance(value, SecretRef):
            return value
        if (
            isinstance(value, Mapping)
            and set(value) == {"secret", "key"}
            and all(isinstance(v, str) for v in value.values())
        ):
            return cls(value["secret"], value["key"])
        return None


@dataclass(frozen=True)
class ParamRef:
    """A reference to a param's value in an attribute of a profile: `image = Param.ref("image/lab")`.

    Attributes:
        name: The name of the param.
        default: The value to use if the param has no value.
    """

    name: str
    default: Any = MISSING

    def resolve(self, params: Mapping[str, Any]) -> Any:
        """Return the value for one server.

        Raises:
            ParamError: If there is neither a value nor a default.
        """
        if self.name in params:
            return thaw(params[self.name]) if not isinstance(params[self.name], SecretRef) else params[self.name]
        if self.default is not MISSING:
            return self.default
        raise ParamError(
            f"has no value in any layer and no default{did_you_mean(self.name, params)}",
            field=self.name,
            hint="Set it, or give its definition a default",
        )


_META: Mapping[str, tuple[Any, str]] = {
    "title": (str, "a text"),
    "order": (int, "a whole number"),
    "advanced": (bool, "true or false"),
    "widget": (str, "a text"),
}
"""The keys of a param's `meta` that act, and what their values are."""


def misspelt(meta: Mapping[str, Any], known: Collection[str]) -> str:
    """Return what is wrong with a key that is nearly one of the `known` ones, which act; an empty text if none is."""
    hints = ((key, did_you_mean(key, known, 0.8)) for key in meta if key not in known)
    return next((f"{key!r} has no effect{hint}" for key, hint in hints if hint), "")


@dataclass(frozen=True)
class Param:
    """The definition of a param.

    Raises:
        ParamError: If the definition is invalid.
    """

    name: str
    """`name` or `area/name`."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The JSON Schema of the values; draft 2020-12 unless `$schema` names an older one. Empty: any value is valid."""
    default: Any = MISSING
    """The value to use if no layer sets one. If it is missing, `schema["default"]` is used."""
    description: str = ""
    """A description in one line."""
    documentation: str = ""
    """A longer description."""
    secure: bool = False
    """Whether values are keys of Kubernetes Secrets. A secure param has no default; its values are shown as `***`."""
    user_settable: bool = False
    """Whether users may choose a value on the spawn page."""
    sensitive: bool = False
    """Whether the param affects security. Users may choose a value only for profiles that list the param in their
    `user_settable`. Params that set sensitive attributes, such as `image`, are always sensitive."""
    merge: Merge = "first"
    """How the values of several layers are merged: `first` (only the strongest value), `append` (lists, the strongest
    first) or `merge` (mappings, recursively)."""
    merge_key: str | None = None
    """For `append`: of several items with the same value of this key, only the strongest is kept."""
    layers: tuple[str, ...] | None = None
    """The layers in which the param may be set; all layers by default."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Settings for the spawn page: `title`, `icon`, `color`, `order`, `widget`, `advanced`."""
    origin: Origin | None = field(default=None, compare=False)
    """The place of the definition."""
    untrusted: bool = field(default=False, compare=False)
    """Whether the definition comes from an untrusted document, which the data policy restricts."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > 253 or not PARAM_NAME.fullmatch(self.name):
            raise self._error("is not a valid name", expected="'name' or 'area/name'")
        if not isinstance(self.schema, Mapping):
            raise self._error("the schema must be a mapping", value=type(self.schema).__name__)
        if self.merge not in ("first", "append", "merge"):
            raise self._error("merge", value=self.merge, expected="first, append or merge")
        if self.layers is not None:
            unknown = set(self.layers) - set(LAYERS)
            if unknown:
                raise self._error(f"unknown layers {sorted(unknown)}", expected=f"some of {', '.join(LAYERS)}")
            object.__setattr__(self, "layers", tuple(self.layers))
        plain = thaw(self.schema)
        default = self.default if self.default is not MISSING else plain.get("default", MISSING)
        object.__setattr__(self, "schema", freeze(plain))
        object.__setattr__(self, "meta", freeze(dict(self.meta)))
        self._check_meta()
        validator, branches = self._compile(plain)
        object.__setattr__(self, "_validator", validator)
        object.__setattr__(self, "_branches", branches)
        if self.secure and (self.user_settable or self.merge != "first"):
            raise self._error("users cannot choose a secure param, and its values cannot be merged")
        if self.secure and default is not MISSING:
            raise self._error("a secure param has no default", hint="Set it in a layer, as {secret: NAME, key: KEY}")
        if default is not MISSING:
            # The values of `{{ references }}` are known only when a server starts.
            problems = [] if is_template(default) else self.problems(default)
            if problems:
                raise self._error(f"the default does not fit the schema: {problems[0]}", value=default)
            default = freeze(default)
        object.__setattr__(self, "default", default)

    def __hash__(self) -> int:
        return hash(self.name)

    def _check_meta(self) -> None:
        if wrong := misspelt(self.meta, _META):
            raise self._error(f"meta: {wrong}")
        for key, (kind, expected) in _META.items():
            value = self.meta.get(key)
            if value is not None and not isinstance(value, kind):
                raise self._error(f"meta.{key}", value=thaw(value), expected=expected)

    def _error(self, message: str, **kwargs: Any) -> ParamError:
        return ParamError(message, origin=self.origin, field=f"param {shorten(self.name)}", **kwargs)

    def _compile(self, schema: dict[str, Any]) -> tuple[Any, int]:
        """Return the validator, and how many references of the schema can lead back to themselves."""
        if len(json.dumps(schema, default=str)) > MAX_SCHEMA_BYTES:
            raise self._error(f"the schema has more than {MAX_SCHEMA_BYTES:,} bytes")
        for reference in _values_of(schema, *_REFERENCES):
            if not str(reference).startswith("#"):
                raise self._error("a $ref may only point into the schema itself", value=reference)
        if any(isinstance(value, str) for part in schema.values() for value in _values_of(part, "$id")):
            raise self._error("only the schema itself may have an $id, not its parts")
        try:
            validator = jsonschema_rs.validator_for(
                schema, validate_formats=True, pattern_options=_PATTERNS, offline=True
            )
            size, branches = _expanded_size(schema)
        except jsonschema_rs.ValidationError as e:
            old = (list(e.instance_path) or [""])[-1] in ("exclusiveMaximum", "exclusiveMinimum", "items")
            hint = "Older drafts allow this; name the draft, such as $schema: http://json-schema.org/draft-04/schema#"
            raise self._error(f"the schema is not valid: {_described(e)}", hint=hint if old else None) from None
        except (ValueError, RecursionError) as e:
            raise self._error(f"the schema is not valid: {shorten(str(e), 200)}") from None
        if size > MAX_SCHEMA_SIZE:
            raise self._error(f"the schema has more than {MAX_SCHEMA_SIZE:,} values, every $ref counted in full")
        if problem := schema_problem(schema, type(validator)):
            raise self._error(f"the schema is not valid: {problem}")
        return validator, branches

    @staticmethod
    def ref(name: str, default: Any = MISSING) -> Any:
        """Return a `ParamRef`, a reference to the param's value for an attribute of a profile of any type."""
        return ParamRef(name, default)

    @property
    def choosable(self) -> bool:
        """Whether users may choose a value."""
        return self.user_settable and (self.layers is None or "spawn" in self.layers)

    @property
    def has_default(self) -> bool:
        """Whether there is a default."""
        return self.default is not MISSING

    def problems(self, value: Any) -> list[str]:
        """Return all reasons why `value` is not valid for this param; empty if it is valid."""
        if self.secure:
            if SecretRef.of(value) is None:
                return ["must name a key of a Kubernetes Secret: {secret: NAME, key: KEY}"]
            return []
        # Check depth and length before anything else walks through the value, and before any pattern is matched.
        branches: int = self.__dict__["_branches"]
        checks = _checks(value, branches)
        if checks is None:
            return [f"is nested more than {MAX_VALUE_DEPTH} levels deep"]
        if branches > 1 and checks > MAX_CHECKS:
            return ["is nested too deep for a schema that refers back to itself several times"]
        if any(len(text) > MAX_TEXT for text in _texts(value)):
            return [f"a text may have at most {MAX_TEXT} characters"]
        if not self.schema:
            return []
        validator: Any = self.__dict__["_validator"]
        try:
            found = sorted(validator.iter_errors(thaw(freeze(value))), key=lambda e: [str(p) for p in e.instance_path])
        except ValueError as e:  # a Python object that is not JSON, or too deep nesting
            return [f"is not JSON: {shorten(str(e), 200)}"]
        return [_described(e) for e in found]

    def check(self, value: Any, *, profile: str | None = None, origin: Origin | None = None) -> Any:
        """Return the frozen `value` if it is valid.

        Raises:
            ParamError: If it is not valid. The message names the param, the value and all problems.
        """
        problems = self.problems(value)
        if problems:
            raise ParamError(
                "; ".join(problems),
                profile=profile,
                origin=origin,
                field=f"param {self.name}",
                value=None if self.secure else value,
            )
        return SecretRef.of(value) if self.secure else freeze(value)

    def definition(self) -> dict[str, Any]:
        """Return the definition as plain data, without default values: `Param(name, **definition)` is equal to it."""
        result = {}
        for spec in fields(self):
            value = getattr(self, spec.name)
            usual = spec.default_factory() if callable(spec.default_factory) else spec.default
            if spec.compare and spec.name != "name" and value is not MISSING and value != usual:
                result[spec.name] = thaw(value)
        if "default" in self.schema:
            del result["default"]
        return result


def _described(error: jsonschema_rs.ValidationError) -> str:
    path = "/".join(str(step) for step in error.instance_path)
    return (f"{path}: " if path else "") + shorten(error.message, 200)


def _values_of(schema: Any, *keys: str) -> Iterator[Any]:
    """Yield the values of `keys` at any depth of `schema`."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in keys:
                yield value
            yield from _values_of(value, *keys)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from _values_of(item, *keys)


def _expanded_size(root: dict[str, Any]) -> tuple[int, int]:
    """Count the values of a schema after replacing each reference with its target.

    The limit prevents exponential validation time, which happens if each definition refers twice to the next one.
    A reference to a schema that contains it counts as one value.

    Returns:
        The number of values, and how often the target of a reference leads back to itself, at most. A value that is
        nested n levels deep can be checked so many times to the power of n.

    Raises:
        ValueError: If a reference has no target.
    """
    resolver = jsonschema_rs.Registry([("urn:schema", root)]).resolver("urn:schema")
    known: dict[str, tuple[int, int]] = {}

    def size(schema: Any) -> tuple[int, int]:
        if isinstance(schema, Mapping):
            references = [schema[key] for key in _REFERENCES if isinstance(schema.get(key), str)]
            parts = [size(v) for k, v in schema.items() if k not in _DEFINITIONS] + [target(r) for r in references]
        else:
            parts = [size(v) for v in schema] if isinstance(schema, list | tuple) else []
        return 1 + sum(n for n, _ in parts), sum(back for _, back in parts)

    def target(reference: str) -> tuple[int, int]:
        if reference not in known:
            known[reference] = (1, 1)
            known[reference] = size(resolver.lookup(reference).contents)
        return known[reference]

    try:
        return size(root)[0], max((back for _, back in known.values()), default=0)
    except jsonschema_rs.ReferencingError as e:
        raise ValueError(str(e)) from None


def _checks(value: Any, branches: int) -> int | None:
    """Return how often parts of `value` are checked, if each level of it is checked `branches` times.

    It is `None` for a value that is nested too deep.
    """
    level, found, times = [value], 0, 1
    branches = max(branches, 1)
    for _ in range(MAX_VALUE_DEPTH + 1):
        if not level:
            return found
        found += times * len(level)
        times *= branches
        level = [
            inner
            for outer in level
            if isinstance(outer, Mapping | list | tuple)
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
