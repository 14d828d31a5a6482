"""Reading, creating and changing objects. Nothing here waits, so every write is atomic."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timezone
from typing import Any

from . import applying, defaulting, validation
from .admission import Admission
from .answers import (
    Cause,
    Object,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    success,
)
from .authorization import Authorizer
from .deletion import Deletion
from .kinds import NAMESPACES, PODS
from .listing import wanted_version
from .patching import json_patch, merge_patch, strategic_merge_patch
from .quota import Quotas
from .requests import ApiRequest
from .schema import decode, format_time
from .store import Store, Stored

__all__ = ["APPLY", "Verbs", "now"]

APPLY = "application/apply-patch+yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"

# Names made from generateName use letters that cannot spell words, as on a real cluster.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
)


def now() -> str:
    """Return the present moment as the API writes it."""
    return format_time(datetime.now(timezone.utc))


class Verbs:
    """Reads and changes the store as the API server would.

    Args:
        store: The state.
        authorizer: Keeps users from granting what they do not have.
        managed_fields: Whether plain writes are recorded in `managedFields`. Server-side apply always is.
    """

    def __init__(self, store: Store, authorizer: Authorizer, *, managed_fields: bool = True) -> None:
        self.store = store
        self.quotas = Quotas(store)
        self.deletion = Deletion(store)
        self._admission = Admission(store, authorizer, self.quotas)
        self._managed_fields = managed_fields

    def get(self, request: ApiRequest) -> Stored:
        """Return one object.

        Raises:
            StatusError: 404.
        """
        if "resourceVersion" in request.query:
            wanted_version(self.store, request)
        stored = self.store.get(request.kind, request.namespace, request.name)
        if stored is None:
            raise not_found(request.kind.plural, request.kind.group, request.name)
        return stored

    # ----------------------------------------------------------------------------------------------------- creating

    def create(self, request: ApiRequest, body: object) -> Object:
        """Create an object and return it.

        Raises:
            StatusError: 400, 403, 404 (its namespace), 409 or 422.
        """
        document = self._read(request, body)
        return self._create(request, document, None)

    def _create(self, request: ApiRequest, document: Object, managers: list[applying.Manager] | None) -> Object:
        kind, metadata = request.kind, document["metadata"]
        self._place(request, metadata)
        for key in (*_SERVER_FIELDS, "resourceVersion", "managedFields"):
            metadata.pop(key, None)
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
            metadata["name"] = metadata["generateName"][:58] + suffix
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.generation:
            metadata["generation"] = 1
        if kind.status:
            document["status"] = defaulting.first_status(kind.kind, document["status"])
        defaulting.fill_in(kind.kind, document)
        self._admission.complete(request, document)
        validation.check_new(kind, document)
        self._admission.admit(request, document)
        if self.store.get(kind, metadata.get("namespace"), metadata["name"]) is not None:
            raise already_exists(kind.plural, kind.group, metadata["name"])
        if managers is None and self._managed_fields:
            managers = []
            applying.record_update(kind.kind, managers, None, document, request.manager, "", now())
        if managers:
            metadata["managedFields"] = applying.write_managers(managers, kind.api_version)
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
            text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
            raise bad_request(f"{text}: strict decoding error: {listed}")
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
                "metadata.namespace", f"namespace {namespace.name} is being terminated", "NamespaceTerminating"
            )
            why = f"unable to create new content in namespace {namespace.name} because it is being terminated"
            raise forbidden(request.kind.plural, request.kind.group, metadata.get("name", ""), why, [cause])

    # ----------------------------------------------------------------------------------------------------- changing

    def update(self, request: ApiRequest, body: object) -> Object:
        """Replace an object (PUT) and return it.

        Raises:
            StatusError: 400, 404, 409 or 422.
        """
        new = self._read(request, body)
        if not new["metadata"].get("name"):
            text = f"the name of the object ({request.name} based on URL) was undeterminable: name must be provided"
            raise bad_request(text)
        self._check_name(request, new)
        return self._write(request, self.get(request), new)

    def patch(self, request: ApiRequest, body: object) -> tuple[Object, bool]:
        """Patch an object; return it, and whether it was created (server-side apply only).

        Raises:
            StatusError: 400, 404, 409, 415 or 422.
        """
        if request.content_type not in PATCH_TYPES:
            accepted = ", ".join(PATCH_TYPES)
            text = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise StatusError(415, "UnsupportedMediaType", text, details={})
        if request.content_type == APPLY:
            return self._apply(request, body)
        old = self.get(request)
        patched = self._patched(request, old.document, body)
        if request.subresource == "status" and isinstance(patched, dict):
            # The rest stays as it is, so it need not be read again.
            patched = {key: patched[key] for key in ("apiVersion", "kind", "metadata", "status") if key in patched}
        new = self._read(request, patched)
        self._check_name(request, new)
        return self._write(request, old, new), False

    @staticmethod
    def _patched(request: ApiRequest, old: Object, body: object) -> object:
        if request.content_type == "application/json-patch+json":
            return json_patch(old, body)
        if request.content_type == "application/merge-patch+json":
            return merge_patch(old, body)
        return strategic_merge_patch(request.kind.kind, old, body)

    def _apply(self, request: ApiRequest, body: object) -> tuple[Object, bool]:
        """Server-side apply."""
        kind = request.kind
        if not request.query.get("fieldManager"):
            message = "Required value: is required for apply patch"
            raise invalid("PatchOptions", "meta.k8s.io", "", [Cause("fieldManager", message, "FieldValueRequired")])
        if not isinstance(body, dict) or not body.get("apiVersion") or not body.get("kind"):
            raise bad_request("an applied configuration needs apiVersion and kind")
        if (body.get("metadata") or {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        applied = self._applied(request, body)
        self._check_name(request, applied)
        old = self.store.get(kind, request.namespace, request.name)
        managers = applying.read_managers(old.metadata) if old is not None else []
        live = old.document if old is not None else {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
        merged = applying.apply(kind.kind, live, applied, managers, request.manager, now(), force=request.flag("force"))
        new = self._read(request, merged)
        if old is None:
            new["metadata"]["name"] = request.name
            return self._create(request, new, managers), True
        return self._write(request, old, new, managers), False

    def _applied(self, request: ApiRequest, body: Object) -> Object:
        """Return what a manager applies: typed, but only with the fields that it names."""
        document = self._read(request, body)
        return {
            key: value for key, value in _only_named(document, body).items() if key != "status" or request.subresource
        }

    @staticmethod
    def _check_name(request: ApiRequest, document: Object) -> None:
        name = document["metadata"].get("name") or request.name
        if name != request.name:
            text = f"the name of the object ({name}) does not match the name on the URL ({request.name})"
            raise bad_request(text)

    def _write(
        self, request: ApiRequest, old: Stored, new: Object, managers: list[applying.Manager] | None = None
    ) -> Object:
        """Store the new version of an object, as far as the request may change it."""
        kind, metadata = request.kind, new["metadata"]
        self._check_basis(request, old, metadata)
        self._keep_server_fields(request, old, metadata)
        status_only = request.subresource == "status"
        if status_only:
            new = {**old.document, "metadata": metadata, "status": new.get("status", {})}
            metadata["ownerReferences"] = old.metadata.get("ownerReferences")
            defaulting.fill_in_status(kind.kind, new["status"])
        else:
            if kind.status:
                new["status"] = old.document.get("status", {})
            defaulting.fill_in(kind.kind, new)
        for key in [key for key, value in metadata.items() if value is None]:
            del metadata[key]
        if kind.generation and new.get("spec") != old.document.get("spec"):
            metadata["generation"] = old.metadata.get("generation", 1) + 1
        self._record_managers(request, old, new, managers)
        if new == old.document:
            return old.document
        if status_only:
            validation.check_metadata(kind, new)
        else:
            validation.check_change(kind, new, old.document)
            self._admission.admit_change(request, new, old.document)
        if request.dry_run:
            return new
        stored = self.store.put(kind, new)
        self.deletion.finish(stored)
        return stored.document

    def _record_managers(
        self, request: ApiRequest, old: Stored, new: Object, managers: list[applying.Manager] | None
    ) -> None:
        """Put `managedFields` into the new version; unchanged where nothing changed but the time."""
        kind, metadata = request.kind, new["metadata"]
        before = old.metadata.get("managedFields")
        sent, metadata["managedFields"] = metadata.get("managedFields"), before
        if managers is None:
            if sent in ([], [{}]):
                managers = []
            elif not before and not self._managed_fields:
                del metadata["managedFields"]
                return
            else:
                managers = applying.read_managers(old.metadata)
                applying.record_update(
                    kind.kind, managers, old.document, new, request.manager, request.subresource, now()
                )
        entries = applying.write_managers(managers, kind.api_version)
        if _timeless(entries) != _timeless(before or []):
            metadata["managedFields"] = entries
        if not metadata["managedFields"]:
            del metadata["managedFields"]

    @staticmethod
    def _check_basis(request: ApiRequest, old: Stored, metadata: Object) -> None:
        kind = request.kind
        if metadata.get("uid", old.uid) != old.uid:
            if request.verb == "patch":
                cause = Cause("metadata.uid", f'Invalid value: "{metadata["uid"]}": field is immutable')
                raise invalid(kind.kind, kind.group, request.name, [cause])
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old.uid}"
            raise conflict(kind.plural, kind.group, request.name, why)
        if metadata.get("resourceVersion", str(old.version)) != str(old.version):
            raise conflict(kind.plural, kind.group, request.name, MODIFIED)
        if metadata.get("namespace", old.namespace) != old.namespace:
            raise bad_request("the namespace of the object does not match the namespace on the URL")

    @staticmethod
    def _keep_server_fields(request: ApiRequest, old: Stored, metadata: Object) -> None:
        for key in (*_SERVER_FIELDS, "name", "namespace", "generateName"):
            metadata.pop(key, None)
            if key in old.metadata:
                metadata[key] = old.metadata[key]
        metadata["resourceVersion"] = str(old.version)
        added = set(metadata.get("finalizers") or ()) - set(old.metadata.get("finalizers", ()))
        if added and old.metadata.get("deletionTimestamp"):
            listed = " ".join(sorted(added))
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers [{listed}]"
            cause = Cause("metadata.finalizers", f"Forbidden: {why}", "FieldValueForbidden")
            raise invalid(request.kind.kind, request.kind.group, request.name, [cause])

    # ------------------------------------------------------------------------------------------- parts of a pod's life

    def bind(self, request: ApiRequest, body: object) -> Object:
        """Assign a pod to a node, as a scheduler does.

        Raises:
            StatusError: 400, 404, or 409 where the pod has a node already or is going away.
        """
        binding = decode("Binding", body)
        if binding["metadata"].get("name") != request.name:
            raise bad_request("name in URL does not match name in Binding object")
        node = binding.get("target", {}).get("name")
        if not node:
            raise invalid("Binding", "", request.name, [Cause("target.name", "Required value", "FieldValueRequired")])
        old = self.get(request)
        name, spec = request.name, old.document["spec"]
        if binding["metadata"].get("uid", old.uid) != old.uid:
            raise conflict("pods/binding", "", name, f"Precondition failed: UID in object meta: {old.uid}")
        if old.metadata.get("deletionTimestamp"):
            raise conflict("pods/binding", "", name, f"pod {name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
            raise conflict("pods/binding", "", name, why)
        if request.dry_run:
            return success(code=201)
        condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
        status = old.document.get("status", {})
        others = [known for known in status.get("conditions", ()) if known["type"] != "PodScheduled"]
        document: dict[str, Any] = {
            **old.document,
            "spec": {**spec, "nodeName": node},
            "status": {**status, "conditions": [*others, condition]},
        }
        self.store.put(PODS, document)
        return success(code=201)

    def evict(self, request: ApiRequest, body: object) -> Object:
        """Delete a pod through its `eviction` subresource.

        Raises:
            StatusError: 400, 404 or 409.
        """
        options = body.get("deleteOptions", {}) if isinstance(body, dict) else {}
        self.deletion.delete_stored(self.get(request), decode("DeleteOptions", options), dry_run=request.dry_run)
        return success(code=201)


def _only_named(decoded: Any, body: Any) -> Any:
    """Return `decoded` without the zero values that decoding added; a manager owns only what it names."""
    if isinstance(decoded, dict) and isinstance(body, dict):
        return {key: _only_named(value, body[key]) for key, value in decoded.items() if body.get(key) is not None}
    if isinstance(decoded, list) and isinstance(body, list) and len(decoded) == len(body):
        return [_only_named(item, sent) for item, sent in zip(decoded, body, strict=True)]
    return decoded


def _timeless(entries: list[Object]) -> list[Object]:
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]
