"""Deleting: at once, gracefully, held up by finalizers, or together with what depends on it."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta, timezone

from .answers import Cause, Object, conflict, invalid, not_found, success
from .kinds import NAMESPACES, PODS
from .listing import list_page
from .requests import ApiRequest
from .schema import decode, format_time
from .store import Store, Stored

__all__ = ["FOREGROUND", "ORPHAN", "Deletion"]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

# These kinds answer a deletion with the object, all others with a Status.
_ANSWERED_WITH_OBJECT = frozenset(
    {"Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod", "ResourceQuota", "ServiceAccount", "StorageClass"}
)


class Deletion:
    """Takes objects out of the store.

    Args:
        store: The state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def delete(self, request: ApiRequest, body: object) -> tuple[Object, int]:
        """Delete an object, or begin to; return the answer and its HTTP code.

        Raises:
            StatusError: 400, 404, 409 where a precondition does not hold, or 422.
        """
        options = self.options(request, body)
        stored = self._store.get(request.kind, request.namespace, request.name)
        if stored is None:
            raise not_found(request.kind.plural, request.kind.group, request.name)
        return self.delete_stored(stored, options, dry_run=request.dry_run)

    def delete_collection(self, request: ApiRequest, body: object) -> list[Stored]:
        """Delete every selected object and return them as they were.

        Raises:
            StatusError: 400 or 422.
        """
        options = self.options(request, body)
        page = list_page(self._store, request)
        for stored in page.items:
            current = self._store.get(stored.kind, stored.namespace, stored.name)
            if current is not None:
                self.delete_stored(current, options, dry_run=request.dry_run)
        return page.items

    @staticmethod
    def options(request: ApiRequest, body: object) -> Object:
        """Return the `DeleteOptions` of a body, completed from the query.

        Raises:
            StatusError: 400 or 422.
        """
        options = decode("DeleteOptions", body) if body else {}
        if (grace := request.number("gracePeriodSeconds")) is not None:
            options.setdefault("gracePeriodSeconds", grace)
        if policy := request.query.get("propagationPolicy"):
            options.setdefault("propagationPolicy", policy)
        if request.query.get("orphanDependents"):
            options.setdefault("orphanDependents", request.flag("orphanDependents"))
        policy = options.get("propagationPolicy", "Background")
        if policy not in ("Background", "Foreground", "Orphan"):
            message = f'Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"'
            raise _bad_options(Cause("propagationPolicy", message, "FieldValueNotSupported"))
        if "propagationPolicy" in options and "orphanDependents" in options:
            message = "Invalid value: orphanDependents and deletionPropagation cannot be both set"
            raise _bad_options(Cause("propagationPolicy", message))
        return options

    def delete_stored(self, old: Stored, options: Object, *, dry_run: bool = False) -> tuple[Object, int]:
        """Delete one object; return the answer and its HTTP code.

        Raises:
            StatusError: 409 where a precondition does not hold.
        """
        kind = old.kind
        _check_preconditions(old, options.get("preconditions", {}))
        dry = dry_run or "All" in options.get("dryRun", ())
        finalizers, grace = _finalizers(old, options), _grace(old, options)
        if grace == 0 and not finalizers and kind is not NAMESPACES:
            if kind is PODS and not dry:
                # A pod is always seen to be on its way out before it is gone.
                old = self._mark(old, grace, finalizers)
            return _answer(old if dry else self._store.remove(old)), 200
        waiting = old
        pending = bool(old.metadata.get("deletionTimestamp"))
        shorter = grace < old.metadata.get("deletionGracePeriodSeconds", 0)
        if not pending or shorter or finalizers != old.metadata.get("finalizers", []):
            waiting = self._mark(old, grace, finalizers, store=not dry)
        return waiting.document, 202 if options.get("orphanDependents") is False else 200

    def finish(self, stored: Stored) -> None:
        """Remove an object that was only waiting for its last finalizer."""
        metadata = stored.metadata
        if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
            return
        if not metadata.get("deletionGracePeriodSeconds") and stored.kind is not NAMESPACES:
            self._store.remove(stored)

    def _mark(self, old: Stored, grace: int, finalizers: list[str], *, store: bool = True) -> Stored:
        """Note on an object that it is being deleted."""
        document = copy.copy(old.document)
        moment = format_time(datetime.now(timezone.utc) + timedelta(seconds=grace))
        earlier = old.metadata.get("deletionTimestamp") or moment
        metadata: Object = {**old.metadata, "deletionTimestamp": min(earlier, moment)}
        metadata["deletionGracePeriodSeconds"] = grace
        metadata.pop("finalizers", None)
        if finalizers:
            metadata["finalizers"] = finalizers
        if old.kind.generation:
            metadata["generation"] = old.metadata.get("generation", 1) + 1
        document["metadata"] = metadata
        if old.kind is NAMESPACES:
            document["status"] = {**old.document.get("status", {}), "phase": "Terminating"}
        return self._store.put(old.kind, document) if store else Stored(old.kind, document, old.version)


def _bad_options(cause: Cause) -> Exception:
    return invalid("DeleteOptions", "meta.k8s.io", "", [cause])


def _check_preconditions(old: Stored, wanted: Object) -> None:
    for key, word, stored, fate in (
        ("uid", "UID", old.uid, "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", str(old.version), "modified"),
    ):
        if wanted.get(key, stored) != stored:
            why = (
                f"the {word} in the precondition ({wanted[key]}) does not match the {word} in record ({stored}). "
                f"The object might have been {fate}"
            )
            raise conflict(old.kind.kind, old.kind.group, old.name, why)


def _finalizers(old: Stored, options: Object) -> list[str]:
    """The finalizers of an object that is deleted with `options`."""
    present = list(old.metadata.get("finalizers", ()))
    policy = options.get("propagationPolicy")
    if policy is None and "orphanDependents" in options:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    if policy is None:
        return present
    kept = [finalizer for finalizer in present if finalizer not in (FOREGROUND, ORPHAN)]
    return kept + {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])


def _grace(old: Stored, options: Object) -> int:
    """The seconds that an object has before it is gone: only pods that may be running have any."""
    if old.kind is not PODS:
        return 0
    spec, status = old.document["spec"], old.document.get("status", {})
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    asked = options.get("gracePeriodSeconds")
    return max(0, int(asked if asked is not None else spec.get("terminationGracePeriodSeconds", 30)))


def _answer(stored: Stored) -> Object:
    if stored.kind.kind in _ANSWERED_WITH_OBJECT:
        return stored.document
    details: Object = {"name": stored.name}
    if stored.kind.group:
        details["group"] = stored.kind.group
    return success(details=details | {"kind": stored.kind.plural, "uid": stored.uid})
