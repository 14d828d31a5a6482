"""Builds the manifests that are sent, and checks whether an existing object can be used instead."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from kubernetes_asyncio.client import V1Container, V1Volume

from profile_spawner.names import LABEL_HUB, LABEL_LIFETIME, LABEL_MANAGED_BY, MANAGED_BY, label_value
from profile_spawner.policy.kinds import plain
from profile_spawner.profiles.resources import KubeObject, Lifetime

from .identity import ServerIdentity, labels_of

__all__ = ["POD_PARTS", "assemble", "is_owned_by", "is_same_shared", "not_persistent_for", "of_another_account"]

POD_PARTS = {"init_containers": V1Container, "extra_containers": V1Container, "volumes": V1Volume}
"""KubeSpawner's settings that contain whole containers and volumes, with the Kubernetes client's model of an item."""

_KUBESPAWNER_USER = "hub.jupyter.org/username"


def assemble(item: KubeObject, identity: ServerIdentity, *, owner: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the manifest of an object as it is sent to the API server.

    The labels and annotations of the identity override the object's own ones.

    Args:
        item: The object to create.
        identity: The spawn.
        owner: Name and UID of the pod that owns the object.
    """
    body: dict[str, Any] = plain(item.body)
    body["apiVersion"], body["kind"] = item.api_version, item.kind
    labels = {
        Lifetime.shared: identity.shared_labels,
        Lifetime.persistent: identity.persistent_labels,
        Lifetime.owned: identity.owned_labels,
    }[item.lifetime]()
    annotations = identity.persistent_annotations() if item.lifetime is Lifetime.persistent else {}
    named = {**(body.get("metadata") or {}), "name": item.name, "namespace": identity.namespace}
    metadata = _labelled(named, labels, annotations)
    if owner is not None:
        name, uid = owner
        # blockOwnerDeletion is not set, because it requires the right to change the pod's finalizers.
        reference = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
        metadata["ownerReferences"] = [{**reference, "controller": False, "blockOwnerDeletion": False}]
    body["metadata"] = metadata
    if item.lifetime is Lifetime.shared:
        body["immutable"] = True
    if item.kind == "StatefulSet" and isinstance(body.get("spec"), dict):
        if item.lifetime is Lifetime.owned:
            # Without this, the claims have no owner and are never deleted.
            body["spec"].setdefault(
                "persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Delete", "whenScaled": "Retain"}
            )
        for claim in body["spec"].get("volumeClaimTemplates") or ():
            # Kubernetes gives this to the claims. It shows at the next start whose they are.
            marks = identity.persistent_labels(), identity.persistent_annotations()
            claim["metadata"] = _labelled(claim["metadata"], *marks)
    if item.confined and isinstance(body.get("spec"), dict):
        _confine(item.kind, body["spec"], identity.user_labels())
    return body


def _confine(kind: str, spec: dict[str, Any], labels: Mapping[str, str]) -> None:
    """Give pods and selectors the labels of the user, so that no label of an author leads to pods of others.

    The pods get no token unless they name a service account: the account `default` may have rights that are meant for
    others.
    """
    selector = spec.get("podSelector" if kind == "NetworkPolicy" else "selector")
    if selector and kind == "Service":
        selector.update(labels)
    elif selector and kind != "PersistentVolumeClaim":
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **labels}
    template = spec.get("template")
    if isinstance(template, dict):
        template["metadata"] = _labelled(template.get("metadata"), labels, {})
        pod = template["spec"] = template.get("spec") or {}
        if not {"serviceAccountName", "serviceAccount"} & pod.keys():
            pod.setdefault("automountServiceAccountToken", False)


def _labelled(metadata: Any, labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
    result = dict(metadata or {})
    result["labels"] = {**(result.get("labels") or {}), **labels}
    if annotations:
        result["annotations"] = {**(result.get("annotations") or {}), **annotations}
    return result


def is_same_shared(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether an existing object is a shared object of this project with exactly the wanted content.

    The hub's label may differ: two hubs in one namespace may use the same object. This is safe, because each hub sweeps
    only objects that no pod in the namespace uses.
    """
    labels = labels_of(found)
    return (
        labels.get(LABEL_MANAGED_BY) == MANAGED_BY
        and labels.get(LABEL_LIFETIME) == Lifetime.shared.value
        and found.get("immutable") is True
        and found.get("type", "Opaque") == wanted.get("type", found.get("type", "Opaque"))
        and _content(found) == _content(wanted)
    )


def of_another_account(found: Mapping[str, Any], identity: ServerIdentity) -> str:
    """Return why an object belongs to another account of this hub; "" if it does not."""
    account = identity.other_account(found)
    return f"it belongs to the account {account} of this hub, not to {identity.account}" if account else ""


def not_persistent_for(found: Mapping[str, Any], identity: ServerIdentity, adopt_unlabelled: bool) -> str:
    """Return why an existing object may not be used as this user's persistent data; "" if it may be used."""
    labels = labels_of(found)
    if why := of_another_account(found, identity):
        return why
    if labels.get(LABEL_MANAGED_BY) == MANAGED_BY:
        if labels.get(LABEL_LIFETIME) != Lifetime.persistent.value:
            return f"its label {LABEL_LIFETIME} is {labels.get(LABEL_LIFETIME)!r}"
        if labels.get(LABEL_HUB) != label_value(identity.hub):
            return f"it belongs to the hub {labels.get(LABEL_HUB)!r}, not to {label_value(identity.hub)!r}"
        return "" if identity.owns_persistent(labels) else "its labels name another user"
    if not adopt_unlabelled or found.get("kind", "PersistentVolumeClaim") != "PersistentVolumeClaim":
        return "it has no labels of a hub"
    # KubeSpawner writes the full name of the claim's user into an annotation.
    user = (found["metadata"].get("annotations") or {}).get(_KUBESPAWNER_USER, identity.user)
    return "" if user == identity.user else f"its annotation {_KUBESPAWNER_USER} names another user"


def is_owned_by(found: Mapping[str, Any], uid: str) -> bool:
    """Return whether Kubernetes deletes the object together with the object that has this UID."""
    references = found["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == uid for reference in references)


def _content(body: Mapping[str, Any]) -> dict[str, bytes | str | None]:
    """Return the files of a ConfigMap or Secret from any of its fields (`data`, `stringData`, `binaryData`)."""
    encoded = body.get("kind") == "Secret"
    files: dict[str, bytes | str | None] = {}
    for key, value in (body.get("data") or {}).items():
        files[key] = _decode(value) if encoded else str(value).encode()
    for key, value in (body.get("binaryData") or {}).items():
        files[key] = _decode(value)
    for key, value in (body.get("stringData") or {}).items():
        files[key] = str(value).encode()
    return files


def _decode(value: Any) -> bytes | str | None:
    try:
        return base64.b64decode(value or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None
