"""Reads objects in Protocol Buffers, which `kubectl create` sends whatever the server says that it accepts.

Only the kinds are here that kubectl makes from arguments and that are simple. Everything else it sends as JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from .failures import StatusError, bad_request
from .selectors import Object

__all__ = ["CONTENT_TYPE", "read"]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"

# By message and number: name and type of a field. `{}` is a map from text.
_FIELDS: dict[str, dict[int, tuple[str, str]]] = {
    "ConfigMap": {1: ("metadata", "Meta"), 2: ("data", "{}text"), 3: ("binaryData", "{}bytes")},
    "Meta": {1: ("name", "text"), 3: ("namespace", "text"), 11: ("labels", "{}text"), 12: ("annotations", "{}text")},
    "Namespace": {1: ("metadata", "Meta")},
    "Secret": {1: ("metadata", "Meta"), 2: ("data", "{}bytes"), 3: ("type", "text")},
    "SelfSubjectAccessReview": {1: ("metadata", "Meta"), 2: ("spec", "ReviewSpec")},
    "ReviewSpec": {1: ("resourceAttributes", "Attributes"), 2: ("nonResourceAttributes", "Attributes")},
    "Attributes": {
        1: ("namespace", "text"),
        2: ("verb", "text"),
        3: ("group", "text"),
        5: ("resource", "text"),
        6: ("subresource", "text"),
        7: ("name", "text"),
    },
    "ServiceAccount": {1: ("metadata", "Meta")},
}


def read(data: bytes) -> Object:
    """Return the object of a request body, as JSON would give it.

    Raises:
        StatusError: 400 where the bytes are not such an object, 415 for a kind that is not known here.
    """
    if not data.startswith(_MAGIC):
        raise bad_request("the body is not in the Protocol Buffers format of Kubernetes")
    try:
        envelope = dict(_split(data[len(_MAGIC) :]))
        head = {number: bytes(value).decode() for number, value in _split(envelope[1])}
        kind = head.get(2, "")
        if kind not in _FIELDS:
            raise StatusError(415, "UnsupportedMediaType", f"objects of kind {kind!r} are accepted as JSON only")
        return {"apiVersion": head.get(1, ""), "kind": kind, **_message(kind, envelope.get(2, b""))}
    except (KeyError, TypeError, ValueError, IndexError):
        raise bad_request("the body cannot be read as an object in Protocol Buffers") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is too long")


def _split(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and raw value of every field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError("not a message")
        yield key >> 3, data[at : at + size]
        at += size


def _message(name: str, data: bytes) -> Object:
    found: Object = {}
    for number, value in _split(data):
        field, type_ = _FIELDS[name].get(number, ("", ""))
        if type_.startswith("{}"):
            entry = dict(_split(value))
            found.setdefault(field, {})[bytes(entry.get(1, b"")).decode()] = _value(type_[2:], entry.get(2, b""))
        elif type_ and value != b"":
            found[field] = _value(type_, value)
    return found


def _value(type_: str, value: Any) -> Any:
    if type_ == "text":
        return bytes(value).decode()
    if type_ == "bytes":
        return base64.b64encode(value).decode()
    return _message(type_, value)
