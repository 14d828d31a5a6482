"""What each verb does to the store. Nothing here waits, so that every write is atomic."""

from __future__ import annotations

import base64
import binascii
import copy
import json
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from . import defaulting, kinds, validation
from .answers import (
    Cause,
    Object,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    expired,
    forbidden,
    invalid,
    not_found,
    success,
)
from .kinds import NAMESPACES, PODS, ResourceType
from .patching import json_patch, merge_patch, strategic_merge_patch
from .requests import ApiRequest
from .schema import decode, format_time
from .selectors import compile_selectors
from .store import Store, Stored

__all__ = ["Page", "Verbs", "now"]

Admission = Callable[[ApiRequest, Object], None]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

# Names made from generateName use letters that cannot spell words, as Kubernetes does.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
)

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def now() -> str:
    """Return the present moment as the API writes it."""
    return format_time(datetime.now(timezone.utc))


class Page:
    """One answer to a list.

    Attributes:
        items: The objects.
        version: The resource version of the list; a watch from there misses nothing.
        token: The `continue` token; empty on the last page.
        remaining: How many objects follow; None where it is not known.
    """

    def __init__(self, items: list[Stored], version: int, token: str = "", remaining: int | None = None) -> None:
        self.items = items
        self.version = version
        self.token = token
        self.remaining = remaining

    @property
    def metadata(self) -> Object:
        """The list's metadata."""
        found: Object = {"resourceVersion": str(self.version)}
        if self.token:
            found["continue"] = self.token
            if self.remaining is not None:
                found["remainingItemCount"] = self.remaining
        return found


class Verbs:
    """Reads and changes the store as the API server would.

    Args:
        store: The state.
        admit: Called with every object that is about to be created, after it was found valid; may refuse it.
    """

    def __init__(self, store: Store, admit: Admission | None = None) -> None:
        self.store = store
        self._admit = admit

    # ------------------------------------------------------------------------------------------------------ reading

    def get(self, request: ApiRequest) -> Stored:
        """Return one object.

        Raises:
            StatusError: 404.
        """
        kind = request.kind
        self.check_version(request)
        stored = self.store.get(kind, request.namespace, request.name)
        if stored is None:
            raise not_found(kind.plural, kind.group, request.name)
        return stored

    def check_version(self, request: ApiRequest) -> int:
        """Return the resource version that a read asks for, 0 for any.

        Raises:
            StatusError: 400 where it is no number, 504 where it lies in the future.
        """
        text = request.query.get("resourceVersion", "")
        if not text.isascii() or not (text.isdecimal() or not text):
            raise bad_request(f'resourceVersion: Invalid value: "{text[:32]}": must be a number')
        version = int(text or 0)
        if version > self.store.version and request.verb != "watch":
            causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            message = f"Too large resource version: {version}, current: {self.store.version}"
            details = {"causes": causes, "retryAfterSeconds": 1}
            raise StatusError(504, "Timeout", f"Timeout: {message}", details=details, headers={"Retry-After": "1"})
        return version

    def list(self, request: ApiRequest) -> Page:
        """Return the selected objects, a page of them when there is a `limit`.

        Raises:
            StatusError: 400 for a selector or token that cannot be understood, 410 for a token that is too old.
        """
        query = request.query
        limit, token = request.number("limit") or 0, query.get("continue", "")
        if not token:
            self.check_version(request)
        matches = compile_selectors(request.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        items = self.store.list(request.kind, request.namespace)
        version = self.store.version
        if token:
            version, start = self._read_token(request.kind, token)
            items = [stored for stored in items if (stored.namespace or "", stored.name) > start]
        if matches is not None:
            items = [stored for stored in items if matches(stored.document)]
        if not limit or len(items) <= limit:
            return Page(items, version)
        last = items[limit - 1]
        following = json.dumps([version, last.namespace or "", last.name]).encode()
        remaining = len(items) - limit if matches is None else None
        return Page(items[:limit], version, base64.urlsafe_b64encode(following).decode(), remaining)

    def _read_token(self, kind: ResourceType, token: str) -> tuple[int, tuple[str, str]]:
        try:
            version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        except (ValueError, TypeError, binascii.Error):
            raise bad_request("continue key is not valid") from None
        if version < self.store.collection(kind).floor:
            raise expired("The provided continue parameter is too old to display a consistent list result.")
        return version, (namespace, name)

    # ----------------------------------------------------------------------------------------------------- creating

    def create(self, request: ApiRequest, body: object) -> Object:
        """Create an object and return it.

        Raises:
            StatusError: 400, 403, 404 (its namespace), 409 or 422.
        """
        kind = request.kind
        document = self._read(request, body)
        metadata = document["metadata"]
        self._place(request, metadata)
        for key in (*_SERVER_FIELDS, "resourceVersion"):
            metadata.pop(key, None)
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
            metadata["name"] = metadata["generateName"][:58] + suffix
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.generation:
            metadata["generation"] = 1
        if kind.status:
            document["status"] = defaulting.first_status(kind.kind)
        defaulting.fill_in(kind.kind, document)
        validation.check_new(kind, document)
        if kind is PODS:
            document["status"]["qosClass"] = defaulting.qos_class(document["spec"])
        if self._admit is not None:
            self._admit(request, document)
        if self.store.get(kind, metadata.get("namespace"), metadata["name"]) is not None:
            raise already_exists(kind.plural, kind.group, metadata["name"])
        if request.dry_run:
            return document
        return self.store.put(kind, document).document

    def _read(self, request: ApiRequest, body: object) -> Object:
        """Return the typed object of a request body."""
        kind = request.kind
        if isinstance(body, dict):
            named = (body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind)
            if named != (kind.api_version, kind.kind):
                text = f'{named[1]} in version "{named[0]}" cannot be handled as a {kind.kind}'
                raise bad_request(f"{text}: expected {kind.kind} of {kind.api_version}")
        unknown: list[str] = []
        document = decode(kind.kind, body, unknown)
        if unknown and request.query.get("fieldValidation") == "Strict":
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: strict decoding error: {listed}'
            )
        return {"kind": kind.kind, "apiVersion": kind.api_version, **document}

    def _place(self, request: ApiRequest, metadata: Object) -> None:
        """Put a new object into the namespace of the request."""
        if not request.kind.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.get("namespace", request.namespace) != request.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = request.namespace
        assert request.namespace is not None
        namespace = self.store.get(NAMESPACES, None, request.namespace)
        if namespace is None:
            raise not_found("namespaces", "", request.namespace)
        if namespace.metadata.get("deletionTimestamp"):
            cause = Cause(
                "metadata.namespace", f"namespace {request.namespace} is being terminated", "NamespaceTerminating"
            )
            why = f"unable to create new content in namespace {request.namespace} because it is being terminated"
            kind = request.kind
            raise forbidden(kind.plural, kind.group, metadata.get("name", ""), why, [cause])

    # ----------------------------------------------------------------------------------------------------- changing

    def update(self, request: ApiRequest, body: object) -> Object:
        """Replace an object (PUT) and return it.

        Raises:
            StatusError: 400, 404, 409 or 422.
        """
        new = self._read(request, body)
        if new["metadata"].get("name", request.name) != request.name:
            text = f"the name of the object ({new['metadata'].get('name')}) does not match the name on the URL ({request.name})"
            raise bad_request(text)
        old = self.get(request)
        return self._write(request, old, new)

    def patch(self, request: ApiRequest, body: object) -> tuple[Object, bool]:
        """Patch an object; return it, and whether it was created (server-side apply only).

        Raises:
            StatusError: 400, 404, 409, 415 or 422.
        """
        old = self.get(request)
        return self._write(request, old, self._read(request, self._patched(request, old.document, body))), False

    def _patched(self, request: ApiRequest, old: Object, body: object) -> object:
        if request.content_type == "application/json-patch+json":
            return json_patch(old, body)
        if request.content_type == "application/merge-patch+json":
            return merge_patch(old, body)
        if request.content_type == "application/strategic-merge-patch+json":
            return strategic_merge_patch(request.kind.kind, old, body)
        supported = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        text = f"the body of the request was in an unknown format - accepted media types include: {supported}"
        raise StatusError(415, "UnsupportedMediaType", text)

    def _write(self, request: ApiRequest, old: Stored, new: Object) -> Object:
        """Store the new version of an object, as far as the request may change it."""
        kind, metadata = request.kind, new["metadata"]
        self._check_basis(request, old, metadata)
        self._keep_server_fields(request, old, new)
        if request.subresource == "status":
            new = {**old.document, "metadata": metadata, "status": new.get("status", {})}
            metadata["ownerReferences"] = old.metadata.get("ownerReferences")
        elif kind.status:
            new["status"] = old.document.get("status", {})
        for key in [key for key, value in metadata.items() if value is None and key != "creationTimestamp"]:
            del metadata[key]
        defaulting.fill_in(kind.kind, new)
        if kind.generation and new.get("spec") != old.document.get("spec"):
            metadata["generation"] = old.metadata.get("generation", 1) + 1
        if new == old.document:
            return old.document
        validation.check_update(kind, new, old.document)
        if request.dry_run:
            return new
        stored = self.store.put(kind, new)
        self._finish_deletion(stored)
        return stored.document

    def _check_basis(self, request: ApiRequest, old: Stored, metadata: Object) -> None:
        kind = request.kind
        if metadata.get("uid", old.uid) != old.uid:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old.uid}"
            raise conflict(kind.plural, kind.group, request.name, why)
        if metadata.get("resourceVersion", str(old.version)) != str(old.version):
            raise conflict(kind.plural, kind.group, request.name, MODIFIED)
        if metadata.get("namespace", old.namespace) != old.namespace:
            raise bad_request("the namespace of the object does not match the namespace on the URL")

    def _keep_server_fields(self, request: ApiRequest, old: Stored, new: Object) -> None:
        metadata = new["metadata"]
        for key in (*_SERVER_FIELDS, "name", "namespace", "generateName"):
            metadata.pop(key, None)
            if key in old.metadata:
                metadata[key] = old.metadata[key]
        metadata["resourceVersion"] = str(old.version)
        added = set(metadata.get("finalizers", ())) - set(old.metadata.get("finalizers", ()))
        if added and old.metadata.get("deletionTimestamp"):
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
            cause = Cause("metadata.finalizers", f"Forbidden: {why}", "FieldValueForbidden")
            raise invalid(request.kind.kind, request.kind.group, request.name, [cause])

    def _finish_deletion(self, stored: Stored) -> None:
        """Remove an object that was only waiting for its last finalizer."""
        metadata = stored.metadata
        if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
            return
        if metadata.get("deletionGracePeriodSeconds") or stored.kind is NAMESPACES:
            return
        self.store.remove(stored)

    # ----------------------------------------------------------------------------------------------------- deleting

    def delete(self, request: ApiRequest, body: object) -> tuple[Object, int]:
        """Delete an object, or begin to; return the answer and its HTTP code.

        Raises:
            StatusError: 400, 404, or 409 where a precondition does not hold.
        """
        options = self.delete_options(request, body)
        old = self.get(request)
        return self.delete_stored(request, old, options)

    def delete_options(self, request: ApiRequest, body: object) -> Object:
        """Return the `DeleteOptions` of the body, or of the query where there is no body."""
        options = decode("DeleteOptions", body) if body else {}
        if (grace := request.number("gracePeriodSeconds")) is not None:
            options.setdefault("gracePeriodSeconds", grace)
        if policy := request.query.get("propagationPolicy"):
            options.setdefault("propagationPolicy", policy)
        if request.query.get("orphanDependents"):
            options.setdefault("orphanDependents", request.flag("orphanDependents"))
        if options.get("propagationPolicy", "Background") not in ("Background", "Foreground", "Orphan"):
            field = Cause("propagationPolicy", "Unsupported value", "FieldValueNotSupported")
            raise invalid("DeleteOptions", "meta.k8s.io", "", [field])
        return options

    def delete_stored(self, request: ApiRequest, old: Stored, options: Object) -> tuple[Object, int]:
        """Delete one object with options that are already read."""
        kind = old.kind
        self._check_preconditions(old, options.get("preconditions", {}))
        finalizers = self._finalizers(old, options)
        grace = self._grace(old, options)
        dry = request.dry_run or "All" in options.get("dryRun", ())
        pending = bool(old.metadata.get("deletionTimestamp"))
        if grace == 0 and not finalizers and kind is not NAMESPACES:
            if dry:
                return self._deleted(old), 200
            if kind is PODS and old.document["spec"].get("nodeName"):
                old = self._mark(old, grace, finalizers)
            return self._deleted(self.store.remove(old)), 200
        waiting = old
        known = old.metadata.get("finalizers", [])
        if not pending or grace < old.metadata.get("deletionGracePeriodSeconds", 0) or finalizers != known:
            waiting = self._mark(old, grace, finalizers, store=not dry)
        policy = options.get("propagationPolicy")
        accepted = policy == "Foreground" or options.get("orphanDependents") is False
        return waiting.document, 202 if accepted else 200

    def _check_preconditions(self, old: Stored, wanted: Object) -> None:
        kind = old.kind
        for key, stored in (("uid", old.uid), ("resourceVersion", str(old.version))):
            if wanted.get(key, stored) != stored:
                word = {"uid": "UID", "resourceVersion": "ResourceVersion"}[key]
                why = f"the {word} in the precondition ({wanted[key]}) does not match the {word} in record ({stored}). The object might have been deleted and then recreated"
                raise conflict(kind.plural, kind.group, old.name, why)

    def _finalizers(self, old: Stored, options: Object) -> list[str]:
        """The finalizers of an object that is deleted with `options`."""
        present = list(old.metadata.get("finalizers", ()))
        policy = options.get("propagationPolicy")
        if policy is None and "orphanDependents" in options:
            policy = "Orphan" if options["orphanDependents"] else "Background"
        if policy is None:
            return present
        kept = [finalizer for finalizer in present if finalizer not in (FOREGROUND, ORPHAN)]
        wanted = {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])
        return kept + wanted

    def _grace(self, old: Stored, options: Object) -> int:
        if old.kind is not PODS:
            return 0
        spec, status = old.document["spec"], old.document.get("status", {})
        if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
            return 0
        asked = options.get("gracePeriodSeconds")
        return max(0, int(asked if asked is not None else spec.get("terminationGracePeriodSeconds", 30)))

    def _mark(self, old: Stored, grace: int, finalizers: list[str], *, store: bool = True) -> Stored:
        """Note on an object that it is being deleted."""
        document = copy.copy(old.document)
        moment = datetime.now(timezone.utc) + timedelta(seconds=grace)
        metadata: Object = {
            **old.metadata,
            "deletionTimestamp": format_time(moment),
            "deletionGracePeriodSeconds": grace,
        }
        if old.metadata.get("deletionTimestamp"):
            metadata["deletionTimestamp"] = min(old.metadata["deletionTimestamp"], metadata["deletionTimestamp"])
        metadata.pop("finalizers", None)
        if finalizers:
            metadata["finalizers"] = finalizers
        if old.kind.generation:
            metadata["generation"] = old.metadata.get("generation", 1) + 1
        document["metadata"] = metadata
        if old.kind is NAMESPACES:
            document["status"] = {**old.document.get("status", {}), "phase": "Terminating"}
        return self.store.put(old.kind, document) if store else Stored(old.kind, document, old.version)

    @staticmethod
    def _deleted(stored: Stored) -> Object:
        """The answer to a deletion that is done: the object for a few kinds, a `Status` for all others."""
        if stored.kind.kind in _ANSWERED_WITH_OBJECT:
            return stored.document
        details: Object = {"name": stored.name}
        if stored.kind.group:
            details["group"] = stored.kind.group
        return success(details=details | {"kind": stored.kind.plural, "uid": stored.uid})

    def delete_collection(self, request: ApiRequest, body: object) -> list[Stored]:
        """Delete every selected object and return them as they were.

        Raises:
            StatusError: 400.
        """
        options = self.delete_options(request, body)
        page = self.list(request)
        for stored in page.items:
            current = self.store.get(stored.kind, stored.namespace, stored.name)
            if current is not None:
                self.delete_stored(request, current, options)
        return page.items

    # ------------------------------------------------------------------------------------------- parts of a pod's life

    def bind(self, request: ApiRequest, body: object) -> Object:
        """Assign a pod to a node, as a scheduler does.

        Raises:
            StatusError: 400, 404, or 409 where the pod has a node already or is going away.
        """
        binding = decode("Binding", body)
        node = binding.get("target", {}).get("name")
        if not node:
            raise invalid("Binding", "", request.name, [Cause("target.name", "Required value", "FieldValueRequired")])
        old = self.get(request)
        if old.metadata.get("deletionTimestamp"):
            raise conflict(
                "pods/binding", "", request.name, f"pod {request.name} is being deleted, cannot be assigned to a host"
            )
        if old.document["spec"].get("nodeName"):
            why = f'pod {request.name} is already assigned to node "{old.document["spec"]["nodeName"]}"'
            raise conflict("pods/binding", "", request.name, why)
        if request.dry_run:
            return success(code=201)
        condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
        status = old.document.get("status", {})
        others = [c for c in status.get("conditions", ()) if c["type"] != "PodScheduled"]
        document: dict[str, Any] = {
            **old.document,
            "spec": {**old.document["spec"], "nodeName": node},
            "status": {**status, "conditions": [*others, condition]},
        }
        self.store.put(kinds.PODS, document)
        return success(code=201)

    def evict(self, request: ApiRequest, body: object) -> Object:
        """Delete a pod through its `eviction` subresource.

        Raises:
            StatusError: 400, 404 or 409.
        """
        options = body.get("deleteOptions", {}) if isinstance(body, dict) else {}
        self.delete_stored(request, self.get(request), decode("DeleteOptions", options))
        return success(code=201)


_ANSWERED_WITH_OBJECT = frozenset(
    {"Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod", "ResourceQuota", "ServiceAccount", "StorageClass"}
)
