"""What fields the objects have, and of what type: read from `schema.json`.

The file holds, for every type that a served kind reaches, its fields as short texts: `?[]EnvVar merge=name` is a list
of `EnvVar` that is left out when empty (`?`) and merged by `name` in a strategic merge patch. The facts are those of
the Go types of Kubernetes 1.20 (Apache License 2.0) with the fields that were added up to 1.36; a type does not change
once it is stable.

flags: `*` a pointer (null is left out, zero is kept), `?` left out when zero, none: always written.
shapes: `[]` list of, `{}` map from strings to. scalars: string, integer, number, boolean, quantity, intstr, time,
microtime, bytes, any. notes: `merge=KEY`, `retain`, `replace` (strategic merge); `map=KEYS`, `set`, `atomic`
(server-side apply); `#2` (Protocol Buffers: the field's number, `#2.6` for field 6 of a message in field 2).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, partial
from importlib import resources as package_files
from typing import Any

from .answers import Object, bad_request
from .quantities import canonical

__all__ = ["Field", "Fields", "decode", "fields_of", "format_time", "moment_of", "parse_time"]


@dataclass(frozen=True)
class Field:
    """One field of a type.

    Attributes:
        base: The scalar's name or the struct's name, without list or map around it.
        shape: `""`, `"[]"`, `"{}"`, or a nesting such as `"{}[]"`.
        flag: `""`, `"?"` or `"*"`.
        merge_key: The key by which a strategic merge patch merges the list; empty for a list of scalars; None where
            a patch replaces the whole.
        retain: Whether a patch may say `$retainKeys`.
        map_keys: The keys that tell the items of the list apart in server-side apply.
        list_kind: `map`, `set`, `atomic` or `""` (which is atomic for lists).
        number: The field's number in Protocol Buffers, as a path; empty where it is not known.
    """

    base: str
    shape: str
    flag: str
    merge_key: str | None
    retain: bool
    map_keys: tuple[str, ...]
    list_kind: str
    number: str

    @property
    def is_struct(self) -> bool:
        """Whether the base is a type with fields of its own."""
        return self.base[0].isupper()


Fields = dict[str, Field]


def _parse_field(text: str) -> Field:
    type_text, *notes = text.split(" ")
    flag = type_text[0] if type_text[0] in "?*" else ""
    rest = type_text[len(flag) :]
    shape = ""
    while rest[:2] in ("[]", "{}"):
        shape, rest = shape + rest[:2], rest[2:]
    merge_key: str | None = None
    map_keys: tuple[str, ...] = ()
    kind = number = ""
    for note in notes:
        if note.startswith("merge="):
            merge_key = note[6:]
        elif note.startswith("map="):
            map_keys, kind = tuple(note[4:].split(",")), "map"
        elif note in ("set", "atomic"):
            kind = note
        elif note.startswith("#"):
            number = note[1:]
    if merge_key and not kind and shape == "[]":
        # Server-side apply tells these apart by the same key, unless the type says otherwise.
        map_keys, kind = (merge_key,), "map"
    elif merge_key == "" and not kind:
        kind = "set"
    return Field(rest, shape, flag, merge_key, "retain" in notes, map_keys, kind, number)


@cache
def _types() -> dict[str, Fields]:
    text = (package_files.files("profile_spawner.demo.cluster") / "schema.json").read_text(encoding="utf-8")
    return {
        name: {key: _parse_field(field) for key, field in fields.items()} for name, fields in json.loads(text).items()
    }


def fields_of(type_name: str) -> Fields:
    """Return the fields of a type.

    Raises:
        KeyError: There is no such type.
    """
    return _types()[type_name]


def decode(kind: str, document: object, unknown: list[str] | None = None) -> Object:
    """Return `document` as the API server would read and write it: typed, canonical, without what it does not know.

    Args:
        kind: The type, such as `Pod`.
        document: Parsed JSON.
        unknown: Receives the paths of fields that were dropped because the type does not have them.

    Raises:
        StatusError: 400, where a value has another type than the field.
    """
    if not isinstance(document, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): it is not a JSON object")
    found: list[str] = [] if unknown is None else unknown
    body = {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}
    return _decode_struct(kind, kind, body, "", found)


def _decode_struct(kind: str, type_name: str, value: object, path: str, unknown: list[str]) -> Object:
    if not isinstance(value, dict):
        raise _mismatch(kind, path, "an object", value)
    fields = _types()[type_name]
    result: Object = {}
    for key, item in value.items():
        field = fields.get(key)
        where = f"{path}.{key}" if path else key
        if field is None:
            unknown.append(where)
            continue
        if item is None:
            continue
        decoded = _decode_field(kind, field, field.shape, item, where, unknown)
        # Equality would take True for 1; what is left out is "", 0, False, [] and {}.
        if not (field.flag == "?" and not decoded):
            result[key] = decoded
    for key, zero in _always(type_name):
        if key not in result:
            result[key] = _decode_struct(kind, fields[key].base, {}, "", unknown) if zero is _STRUCT else zero
    return result


_STRUCT = object()
_ZEROS: dict[str, object] = {
    "string": "",
    "integer": 0,
    "boolean": False,
    "time": None,
    "microtime": None,
    "quantity": "0",
}


@cache
def _always(type_name: str) -> tuple[tuple[str, object], ...]:
    """The fields that Go writes even when they were not given, with their zero value."""
    result: list[tuple[str, object]] = []
    for key, field in _types()[type_name].items():
        if field.flag or field.shape:
            continue
        if field.is_struct:
            result.append((key, _STRUCT))
        elif field.base in _ZEROS:
            result.append((key, _ZEROS[field.base]))
    return tuple(result)


def _decode_field(kind: str, field: Field, shape: str, value: object, path: str, unknown: list[str]) -> Any:
    if shape.startswith("[]"):
        if not isinstance(value, list):
            raise _mismatch(kind, path, "a list", value)
        return [
            _decode_field(kind, field, shape[2:], item, f"{path}[{index}]", unknown) for index, item in enumerate(value)
        ]
    if shape.startswith("{}"):
        if not isinstance(value, dict):
            raise _mismatch(kind, path, "an object", value)
        return {
            key: _decode_field(kind, field, shape[2:], item, f"{path}.{key}", unknown) for key, item in value.items()
        }
    if field.base == "quantity" and field.shape == "{}":
        return _decode_scalar(kind, "amount", value, path)
    if field.is_struct:
        return _decode_struct(kind, field.base, {} if value is None else value, path, unknown)
    return _decode_scalar(kind, field.base, value, path)


def _decode_scalar(kind: str, base: str, value: object, path: str) -> Any:
    if value is None:
        return "0" if base == "amount" else _ZEROS.get(base)
    if base == "any":
        return value
    if isinstance(value, bool) is (base == "boolean") and isinstance(value, _PLAIN.get(base, ())):
        return value
    if base in _READERS and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return _READERS[base](value)
        except ValueError as error:
            raise bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {path}: {error}') from None
    raise _mismatch(kind, path, base, value)


def _read_quantity(value: str | float, *, milli: bool = False) -> str:
    try:
        return canonical(value, milli=milli)
    except ValueError:
        pattern = "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        raise ValueError(f"quantities must match the regular expression {pattern}") from None


def _read_time(value: str | float) -> str:
    return format_time(parse_time(str(value)))


def _read_microtime(value: str | float) -> str:
    return format_time(parse_time(str(value)), micro=True)


def _read_bytes(value: str | float) -> str:
    text = str(value).replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("illegal base64 data") from None
    return text


_PLAIN: dict[str, type | tuple[type, ...]] = {
    "boolean": bool,
    "integer": int,
    "intstr": (int, str),
    "number": (int, float),
    "string": str,
}
_READERS: dict[str, Callable[[str | float], str]] = {
    "bytes": _read_bytes,
    "microtime": _read_microtime,
    "amount": partial(_read_quantity, milli=True),
    "quantity": _read_quantity,
    "time": _read_time,
}


def _mismatch(kind: str, path: str, expected: str, value: object) -> Exception:
    # Only the type of what was found: it may be a secret.
    found = f"expects {expected}, found {type(value).__name__}"
    return bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {path}: {found}')


def parse_time(text: str) -> datetime:
    """Return the moment that a timestamp of the API names.

    Raises:
        ValueError: It is not a time as of RFC 3339.
    """
    normal = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text
    if "." in normal:  # Python 3.10 reads three or six digits only
        head, _, tail = normal.partition(".")
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        normal = f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}"
    moment = datetime.fromisoformat(normal)
    if moment.tzinfo is None or "T" not in normal.upper():
        raise ValueError(text)
    return moment.astimezone(timezone.utc)


def moment_of(seconds: int) -> datetime:
    """Return the moment that lies `seconds` after the epoch."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def format_time(moment: datetime, *, micro: bool = False) -> str:
    """Return a timestamp as the API writes it: UTC, whole seconds, or microseconds for `micro`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
