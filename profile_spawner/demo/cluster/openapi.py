"""The OpenAPI documents (version 3) by which kubectl checks, explains and merges objects, made from the schema."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from .answers import Object
from .kinds import KINDS, ResourceType
from .schema import Field, fields_of

__all__ = ["answer"]

_ROOT = "/openapi/v3"
_PREFIX = "local."
_SCALARS: dict[str, Object] = {
    "any": {"x-kubernetes-preserve-unknown-fields": True},
    "boolean": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "integer": {"type": "integer", "format": "int64"},
    "intstr": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
    "microtime": {"type": "string", "format": "date-time"},
    "number": {"type": "number"},
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "string": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
}


@cache
def answer(path: str) -> Object | None:
    """Return the document at `path`, None where there is none."""
    if path == _ROOT:
        return {"paths": {_place(version): {"serverRelativeURL": _address(version)} for version in _versions()}}
    for version in _versions():
        if path == f"{_ROOT}/{_place(version)}":
            return _document(version)
    return None


def _versions() -> list[str]:
    return list(dict.fromkeys(kind.api_version for kind in KINDS))


def _place(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _address(version: str) -> str:
    # Clients keep a document for as long as its hash is the same.
    digest = hashlib.sha256(repr(_document(version)).encode()).hexdigest()[:16]
    return f"{_ROOT}/{_place(version)}?hash={digest}"


@cache
def _document(version: str) -> Object:
    kinds = [kind for kind in KINDS if kind.api_version == version]
    schemas: Object = {}
    for kind in kinds:
        _add_type(schemas, kind.kind)
        schemas[_PREFIX + kind.kind]["x-kubernetes-group-version-kind"] = [_identity(kind)]
        for name in ("apiVersion", "kind"):
            schemas[_PREFIX + kind.kind]["properties"][name] = {"type": "string"}
    paths = {path: entry for kind in kinds for path, entry in _paths(kind)}
    info = {"title": "Kubernetes", "version": "local"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _identity(kind: ResourceType) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _paths(kind: ResourceType) -> list[tuple[str, Object]]:
    root = f"/{_place(kind.api_version)}" + ("/namespaces/{namespace}" if kind.namespaced else "") + f"/{kind.plural}"
    names = ("dryRun", "fieldManager", "fieldValidation")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    body = {"content": {"*/*": {"schema": {"$ref": f"#/components/schemas/{_PREFIX}{kind.kind}"}}}}

    def operation(action: str) -> Object:
        return {
            "parameters": parameters,
            "requestBody": body,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _identity(kind),
        }

    return [
        (root, {"post": operation("post")}),
        (root + "/{name}", {"patch": operation("patch"), "put": operation("put")}),
    ]


def _add_type(schemas: Object, type_name: str) -> None:
    if _PREFIX + type_name in schemas:
        return
    properties: Object = {}
    schemas[_PREFIX + type_name] = {"type": "object", "properties": properties}
    for name, field in fields_of(type_name).items():
        if field.is_struct:
            _add_type(schemas, field.base)
        properties[name] = _property(field)


def _property(field: Field) -> Object:
    base = (
        {"allOf": [{"$ref": f"#/components/schemas/{_PREFIX}{field.base}"}]}
        if field.is_struct
        else _SCALARS[field.base]
    )
    found: dict[str, Any] = dict(base)
    for shape in reversed([field.shape[at : at + 2] for at in range(0, len(field.shape), 2)]):
        found = (
            {"type": "array", "items": found} if shape == "[]" else {"type": "object", "additionalProperties": found}
        )
    if field.merge_key is not None:
        strategy = "merge,retainKeys" if field.retain else "merge"
        found["x-kubernetes-patch-strategy"] = strategy
        if field.merge_key:
            found["x-kubernetes-patch-merge-key"] = field.merge_key
    if field.map_keys:
        found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(field.map_keys)}
    elif field.list_kind:
        found["x-kubernetes-list-type" if field.shape == "[]" else "x-kubernetes-map-type"] = field.list_kind
    return found
