"""Whether an object may be stored: the rules for all metadata, and those of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .answers import Cause, Object, invalid
from .kind_rules import CHANGE_RULES, RULES
from .kinds import ResourceType
from .rules import label_causes, name_problem, qualified_problem, required, too_long, wrong

__all__ = ["check_change", "check_metadata", "check_new"]

_ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = frozenset({"foregroundDeletion", "kubernetes", "orphan"})


def _annotation_causes(annotations: Object, path: str) -> Iterator[Cause]:
    size = 0
    for key, value in annotations.items():
        if problem := qualified_problem(key.lower()):
            yield wrong(path, key, problem)
        size += len(key.encode()) + len(value.encode())
    if size > _ANNOTATIONS_LIMIT:
        yield too_long(path, _ANNOTATIONS_LIMIT)


def _owner_causes(owners: Iterable[Object]) -> Iterator[Cause]:
    path, controllers = "metadata.ownerReferences", 0
    for owner in owners:
        if not owner.get("apiVersion"):
            yield wrong(f"{path}.apiVersion", "", "version must not be empty")
        for key in ("kind", "name", "uid"):
            if not owner.get(key):
                yield wrong(f"{path}.{key}", "", f"{key} must not be empty")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        yield wrong(path, controllers, "Only one reference can have Controller set to true")


def _finalizer_causes(finalizers: Iterable[str]) -> Iterator[Cause]:
    for index, finalizer in enumerate(finalizers):
        if problem := qualified_problem(finalizer):
            yield wrong("metadata.finalizers", finalizer, problem)
        elif "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            hint = "name is neither a standard finalizer name nor is it fully qualified"
            yield wrong(f"metadata.finalizers[{index}]", finalizer, hint)


def _metadata_causes(kind: ResourceType, metadata: Object) -> Iterator[Cause]:
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    # The prefix itself may end in what a name must not end in.
    if prefix and (problem := name_problem(kind.dns_name, prefix + "x")):
        yield wrong("metadata.generateName", prefix, problem)
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif problem := name_problem(kind.dns_name, name):
        yield wrong("metadata.name", name, problem)
    yield from label_causes(metadata.get("labels", {}), "metadata.labels")
    yield from _annotation_causes(metadata.get("annotations", {}), "metadata.annotations")
    yield from _owner_causes(metadata.get("ownerReferences", ()))
    yield from _finalizer_causes(metadata.get("finalizers", ()))


def _check(kind: ResourceType, document: Object, old: Object | None) -> None:
    causes = list(_metadata_causes(kind, document["metadata"]))
    if (rules := RULES.get(kind.kind)) is not None:
        causes += rules(document)
    if old is not None and (change_rules := CHANGE_RULES.get(kind.kind)) is not None:
        causes += change_rules(document, old)
    if causes:
        raise invalid(kind.kind, kind.group, document["metadata"].get("name", ""), causes)


def check_new(kind: ResourceType, document: Object) -> None:
    """Check a new object, defaults filled in.

    Raises:
        StatusError: 422 with every broken rule as a cause.
    """
    _check(kind, document, None)


def check_metadata(kind: ResourceType, document: Object) -> None:
    """Check the metadata of a new version of an object that changes nothing else but the status.

    Raises:
        StatusError: 422 with every broken rule as a cause.
    """
    causes = list(_metadata_causes(kind, document["metadata"]))
    if causes:
        raise invalid(kind.kind, kind.group, document["metadata"].get("name", ""), causes)


def check_change(kind: ResourceType, new: Object, old: Object) -> None:
    """Check a new version of an object against the rules, and against what must not change.

    Raises:
        StatusError: 422 with every broken rule as a cause.
    """
    _check(kind, new, old)
