"""Reads objects in Protocol Buffers, which `kubectl create` sends whatever the server says that it accepts."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache
from typing import Any

from .answers import Object, bad_request
from .schema import Field, fields_of, format_time, moment_of

__all__ = ["read"]

_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SCALARS = frozenset({"boolean", "integer", "number"})


class _MalformedError(Exception):
    """The bytes are no message."""


def read(data: bytes) -> Object:
    """Return the object of a request body, as JSON would give it.

    Raises:
        StatusError: 400, where the bytes are not such an object, or of a kind that is not known.
    """
    if not data.startswith(_MAGIC):
        raise bad_request("the body is not in the Protocol Buffers format of Kubernetes")
    try:
        envelope = dict(_split(data[len(_MAGIC) :]))
        head = {number: bytes(value).decode() for number, value in _split(envelope[1])}
        api_version, kind = head.get(1, ""), head.get(2, "")
        body = _message(kind, envelope.get(2, b""))
    except (_MalformedError, KeyError, UnicodeDecodeError, TypeError, ValueError, IndexError):
        raise bad_request("the body cannot be read as an object in Protocol Buffers") from None
    return {"apiVersion": api_version, "kind": kind, **body}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _MalformedError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _split(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and raw value of every field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        if wire == _BYTES:
            size, at = _varint(data, at)
        if size < 0 or at + size > len(data) or wire not in (_BYTES, _FIXED64, _FIXED32):
            raise _MalformedError
        yield number, data[at : at + size]
        at += size


@cache
def _numbered(type_name: str) -> dict[str, tuple[str, Field]]:
    """The fields of a type by the path of their number; messages inside that JSON does not show are in the path."""
    return {field.number: (name, field) for name, field in fields_of(type_name).items() if field.number}


@cache
def _hidden(type_name: str) -> frozenset[str]:
    """The numbers of a type's messages that JSON does not show."""
    return frozenset(path.rpartition(".")[0] for path in _numbered(type_name) if "." in path)


def _message(type_name: str, data: bytes, above: str = "") -> Object:
    result: Object = {}
    for number, value in _split(data):
        path = f"{above}{number}"
        if path in _hidden(type_name):
            result.update(_message(type_name, value, f"{path}."))
        elif path in _numbered(type_name):
            name, field = _numbered(type_name)[path]
            _add(result, name, field, value)
    return result


def _add(result: Object, name: str, field: Field, value: Any) -> None:
    if field.shape.startswith("[]"):
        result.setdefault(name, []).append(_value(field, field.shape[2:], value))
    elif field.shape.startswith("{}"):
        entry = dict(_split(value))
        key = bytes(entry.get(1, b"")).decode()
        result.setdefault(name, {})[key] = _value(field, field.shape[2:], entry.get(2, b""))
    else:
        result[name] = _value(field, "", value)


def _value(field: Field, shape: str, value: Any) -> Any:
    if shape == "[]":  # a map of lists wraps each list in a message
        return [_value(field, "", item) for _, item in _split(value)]
    base = field.base
    if field.is_struct:
        return _message(base, value)
    if base == "boolean":
        return bool(value)
    if base == "integer":
        return value - (1 << 64) if value >= 1 << 63 else value
    if base == "string":
        return bytes(value).decode()
    if base == "bytes":
        return base64.b64encode(value).decode()
    return _special(base, dict(_split(value)))


def _special(base: str, parts: dict[int, Any]) -> Any:
    """Return what Kubernetes wraps into a message of its own."""
    if base == "quantity":
        return bytes(parts.get(1, b"0")).decode()
    if base == "intstr":
        return bytes(parts.get(3, b"")).decode() if parts.get(1) else parts.get(2, 0)
    if base in ("time", "microtime"):
        return format_time(moment_of(parts[1]), micro=base == "microtime") if parts.get(1) else None
    return None
