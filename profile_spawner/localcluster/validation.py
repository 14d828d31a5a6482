"""The rules that an object must follow to be stored, beyond the types of its fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .answers import Cause, Object, StatusError, invalid
from .kinds import ResourceType

__all__ = ["check_new", "check_update"]

LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
ANNOTATIONS_LIMIT = 256 * 1024
DATA_LIMIT = 1024 * 1024


def required(field: str, why: str = "") -> Cause:
    """Return the cause for a value that is missing."""
    return Cause(field, "Required value" + (f": {why}" if why else ""), "FieldValueRequired")


def wrong(field: str, value: object, why: str) -> Cause:
    """Return the cause for a value that breaks a rule."""
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause(field, f"Invalid value: {shown[:256]}: {why}")


def not_allowed(field: str, why: str) -> Cause:
    """Return the cause for something that must not be there, or must not change."""
    return Cause(field, f"Forbidden: {why}", "FieldValueForbidden")


def duplicate(field: str, value: object) -> Cause:
    """Return the cause for a second thing with the same name."""
    return Cause(field, f'Duplicate value: "{value}"', "FieldValueDuplicate")


def unsupported(field: str, value: object, choices: Iterable[str]) -> Cause:
    """Return the cause for a value outside its choices."""
    listed = ", ".join(f'"{choice}"' for choice in sorted(choices))
    return Cause(field, f'Unsupported value: "{value}": supported values: {listed}', "FieldValueNotSupported")


def too_long(field: str, limit: int) -> Cause:
    """Return the cause for a value over its size limit."""
    return Cause(field, f"Too long: must have at most {limit} bytes", "FieldValueTooLong")


_DNS_HINT = (
    "a DNS-1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character"
)
_LABEL_HINT = (
    "a DNS-1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character"
)


def name_problem(style: str, name: str) -> str:
    """Return what is wrong with a name, or an empty text."""
    if style == "path":
        return (
            ""
            if name not in (".", "..") and not set("/%") & set(name)
            else "may not be '.', '..', or contain '/' or '%'"
        )
    if style == "subdomain":
        if len(name) > 253:  # noqa: PLR2004
            return "must be no more than 253 characters"
        return "" if SUBDOMAIN.fullmatch(name) else _DNS_HINT
    if len(name) > 63:  # noqa: PLR2004
        return "must be no more than 63 characters"
    return "" if (LABEL if style == "label" else LABEL_1035).fullmatch(name) else _LABEL_HINT


def qualified_problem(key: str) -> str:
    """Return what is wrong with the key of a label, an annotation or a resource, or an empty text."""
    prefix, slash, name = key.rpartition("/")
    if slash and (name_problem("subdomain", prefix) or not prefix):
        return "prefix part " + _DNS_HINT
    if not QUALIFIED.fullmatch(name):
        return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    return ""


def label_causes(labels: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with labels."""
    for key, value in labels.items():
        if problem := qualified_problem(key):
            yield wrong(path, key, problem)
        if value and not QUALIFIED.fullmatch(value):
            long = len(value) > 63  # noqa: PLR2004
            hint = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            yield wrong(path, value, "must be no more than 63 characters" if long else hint)


def annotation_causes(annotations: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with annotations."""
    size = 0
    for key, value in annotations.items():
        if problem := qualified_problem(key.lower()):
            yield wrong(path, key, problem)
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        yield too_long(path, ANNOTATIONS_LIMIT)


def _metadata_causes(kind: ResourceType, metadata: Object) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif problem := name_problem(kind.dns_name, name):
        yield wrong("metadata.name", name, problem)
    yield from label_causes(metadata.get("labels", {}), "metadata.labels")
    yield from annotation_causes(metadata.get("annotations", {}), "metadata.annotations")
    yield from _owner_causes(metadata.get("ownerReferences", ()))
    for finalizer in metadata.get("finalizers", ()):
        if problem := qualified_problem(finalizer):
            yield wrong("metadata.finalizers", finalizer, problem)
        elif "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion", "kubernetes"):
            yield wrong(
                "metadata.finalizers[0]",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            )


def _owner_causes(owners: Iterable[Object]) -> Iterator[Cause]:
    controllers = 0
    for owner in owners:
        path = "metadata.ownerReferences"
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield wrong(
                    f"{path}.{key}", "", "must not be empty" if key != "apiVersion" else "version must not be empty"
                )
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        yield wrong("metadata.ownerReferences", controllers, "Only one reference can have Controller set to true")


def _data_causes(document: Object) -> Iterator[Cause]:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in document.get(field, {}).items():
            if not DATA_KEY.fullmatch(key) or key in (".", "..") or key.startswith(".."):
                hint = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield wrong(f"{field}[{key}]", key, hint)
            size += _decoded_size(value) if document.get("type") or field == "binaryData" else len(value.encode())
    for key in document.get("binaryData", {}):
        if key in document.get("data", {}):
            yield wrong(f"data[{key}]", key, "duplicate of key present in binaryData")
    if size > DATA_LIMIT:
        yield too_long("data" if document.get("type") else "", DATA_LIMIT)


def _decoded_size(encoded: str) -> int:
    return len(encoded) * 3 // 4 - encoded[-2:].count("=")


def _own_causes(kind: ResourceType, document: Object) -> Iterator[Cause]:
    if kind.kind in ("ConfigMap", "Secret"):
        yield from _data_causes(document)
    elif kind.kind == "Pod":
        from .pod_validation import pod_causes

        yield from pod_causes(document["spec"], "spec")


def check_new(kind: ResourceType, document: Object) -> None:
    """Check a new object, defaults filled in.

    Raises:
        StatusError: 422 with every broken rule as a cause.
    """
    causes = [*_metadata_causes(kind, document["metadata"]), *_own_causes(kind, document)]
    if causes:
        raise _invalid(kind, document, causes)


def check_update(kind: ResourceType, new: Object, old: Object) -> None:
    """Check a new version of an object against the rules, and against what must not change.

    Raises:
        StatusError: 422 with every broken rule as a cause.
    """
    causes = [*_metadata_causes(kind, new["metadata"]), *_own_causes(kind, new), *_change_causes(kind, new, old)]
    if causes:
        raise _invalid(kind, new, causes)


def _invalid(kind: ResourceType, document: Object, causes: list[Cause]) -> StatusError:
    return invalid(kind.kind, kind.group, document["metadata"].get("name", ""), causes)


_MUTABLE_CONTAINER = {"image"}


def _change_causes(kind: ResourceType, new: Object, old: Object) -> Iterator[Cause]:
    if kind.kind == "Pod":
        if _frozen_part(new["spec"]) != _frozen_part(old["spec"]):
            allowed = "`spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing tolerations)"
            yield not_allowed("spec", f"pod updates may not change fields other than {allowed}")


def _frozen_part(spec: Object) -> Object:
    frozen: dict[str, Any] = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations")}
    for name in ("containers", "initContainers"):
        frozen[name] = [{k: v for k, v in item.items() if k not in _MUTABLE_CONTAINER} for item in spec.get(name, ())]
    return frozen
