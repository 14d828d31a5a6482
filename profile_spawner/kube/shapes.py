"""Checks objects against the models of `kubernetes_asyncio`, which are generated from Kubernetes' OpenAPI schema.

A model contains the names and types of its fields, and refuses `None` for required fields. Importing the models is
slow, so they are imported at the first check.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

from profile_spawner.errors import did_you_mean
from profile_spawner.params.quantities import quantity_value

__all__ = ["ManifestProblem", "shape_problems"]


class ManifestProblem(NamedTuple):
    """Something in an object that Kubernetes does not accept.

    Attributes:
        path: The path, such as `spec.containers[0].env[2].name`.
        message: What is wrong.
        level: `error`: the API server refuses it. `warning`: it is accepted, but probably not intended.
    """

    path: str
    message: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class _Field(NamedTuple):
    type: str
    required: bool


_CONTAINER = re.compile(r"(list\[|dict\(str, |dict\[str, )(.+)[\])]")
_SCALARS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a string"),
    "datetime": (str, "a time as a string"),
    "int": (int, "an integer"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
}
_QUANTITIES = frozenset({"limits", "requests", "overhead", "sizeLimit", "divisor"})
"""Fields whose strings are quantities; the models do not contain this information."""
_INT_OR_STRING = frozenset({"port", "targetPort", "maxSurge", "maxUnavailable"})


def shape_problems(document: Mapping[str, Any]) -> Iterator[ManifestProblem]:
    """Yield a problem for each unknown field, wrong type and missing field.

    Args:
        document: An object of one of the kinds in `policy.kinds`.
    """
    yield from _object(f"V1{document['kind']}", document, "")


@functools.cache
def _fields(model: str) -> dict[str, _Field] | None:
    """Return the fields of a model by their names in JSON; `None` if there is no such model."""
    from kubernetes_asyncio.client import models

    cls = getattr(models, model, None)
    if cls is None:
        return None
    instance = cls.__new__(cls)
    instance.local_vars_configuration = SimpleNamespace(client_side_validation=True)
    result = {}
    for attribute, type_name in cls.openapi_types.items():
        try:
            setattr(instance, attribute, None)
            required = False
        except ValueError:
            required = True
        result[cls.attribute_map[attribute]] = _Field(type_name, required)
    return result


def _object(model: str, value: Any, path: str) -> Iterator[ManifestProblem]:
    fields = _fields(model)
    if fields is None:
        return  # an arbitrary JSON value
    if not isinstance(value, Mapping):
        yield _mismatch(path, "an object", value)
        return
    for key, item in value.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in fields:
            yield ManifestProblem(where, f"is not a field of {model.removeprefix('V1')}{did_you_mean(key, fields)}")
        elif item is not None:
            yield from _value(fields[key].type, key, item, where)
    for key, field in fields.items():
        if field.required and value.get(key) is None:
            yield ManifestProblem(f"{path}.{key}" if path else key, "is required")


def _value(type_name: str, key: str, value: Any, path: str) -> Iterator[ManifestProblem]:
    container = _CONTAINER.fullmatch(type_name)
    if container is None:
        check = _scalar if type_name in _SCALARS else _object_or_any
        yield from check(type_name, key, value, path)
    elif container[1] == "list[":
        if not isinstance(value, list | tuple):
            yield _mismatch(path, "a list", value)
            return
        for number, item in enumerate(value):
            yield from _value(container[2], key, {} if item is None else item, f"{path}[{number}]")
    else:
        if not isinstance(value, Mapping):
            yield _mismatch(path, "an object", value)
            return
        for name, item in value.items():
            if not isinstance(name, str):
                yield ManifestProblem(f"{path}.{name}", "the key must be a string: put it into quotes")
            elif item is not None:
                yield from _value(container[2], key, item, f"{path}.{name}")


def _object_or_any(type_name: str, key: str, value: Any, path: str) -> Iterator[ManifestProblem]:
    if type_name != "object":
        yield from _object(type_name, value, path)
    elif key in _INT_OR_STRING and (isinstance(value, bool) or not isinstance(value, int | str)):
        yield _mismatch(path, "an integer or a string", value)


def _scalar(type_name: str, key: str, value: Any, path: str) -> Iterator[ManifestProblem]:
    if key in _QUANTITIES and type_name == "str":
        try:
            quantity_value(value if isinstance(value, str | int | float) and not isinstance(value, bool) else "")
        except ValueError:
            yield _mismatch(path, "a quantity such as '500m', '2' or '20Gi'", value, shown=True)
        return
    types, name = _SCALARS[type_name]
    if not isinstance(value, types) or (isinstance(value, bool) and type_name != "bool"):
        yield _mismatch(path, name, value)


def _mismatch(path: str, expected: str, value: Any, *, shown: bool = False) -> ManifestProblem:
    # Show only values of quantities, because other values may be secret.
    found = repr(value)[:64] if shown and isinstance(value, str | int | float) else _name_of(value)
    return ManifestProblem(path, f"expects {expected}, found {found}")


def _name_of(value: Any) -> str:
    for types, name in ((bool, "true or false"), (int, "an integer"), (float, "a number"), (str, "a string")):
        if isinstance(value, types):
            return name
    return "an object" if isinstance(value, Mapping) else "a list"
