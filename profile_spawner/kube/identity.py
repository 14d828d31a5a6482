"""Who a Kubernetes object belongs to.

A name is never a proof of ownership: the labels are. Every object that this project makes carries the hub's label, and
the server's, the user's or neither, according to its lifetime. All values are valid for any Unicode user and server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from profile_spawner.names import (
    ANNOTATION_DIGEST,
    ANNOTATION_PARAMS,
    LABEL_GENERATION,
    LABEL_HUB,
    LABEL_LIFETIME,
    LABEL_MANAGED_BY,
    LABEL_PROFILE,
    LABEL_SERVER,
    LABEL_SPAWN,
    LABEL_USER,
    MANAGED_BY,
    identity_hash,
    label_value,
    object_name,
)
from profile_spawner.profiles.resources import Lifetime

__all__ = ["Ownership", "ServerIdentity", "labels_of"]

_LONGEST_RECORD = 128 * 1024
"""In bytes. All annotations of an object together may have 256 KiB."""
_ANNOTATION_USER = "hub.jupyter.org/username"
_ANNOTATION_SERVER = "hub.jupyter.org/servername"

Ownership = Literal["same-spawn", "older", "foreign"]
"""What an object is to a server: made by this spawn, by an earlier one, or not its own at all."""


def labels_of(resource: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object as the API server writes it, empty when it has none."""
    return (resource.get("metadata") or {}).get("labels") or {}


@dataclass(frozen=True)
class ServerIdentity:
    """One spawn of one server of one user of one hub.

    Attributes:
        hub: What tells this hub from others in the cluster; an administrator's word.
        user: The user's name, any Unicode.
        server: The named server, empty for the default one; any Unicode.
        namespace: Where the pod lives.
        pod_name: The pod's name.
        spawn_id: Unique for each start of the server.
        profile: The chosen profile's slug.
        generation: The generation of the snapshot that the spawn uses.
        digest: What tells two versions of the profile apart.
        params: The values of the params with their sources, without secrets, as plain JSON.
    """

    hub: str
    user: str
    server: str
    namespace: str
    pod_name: str
    spawn_id: str
    profile: str = ""
    generation: str = ""
    digest: str = ""
    params: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def server_hash(self) -> str:
        """What stands for (hub, user, server) in labels and names."""
        return identity_hash(self.hub, self.user, self.server)

    def labels(self) -> dict[str, str]:
        """Return the labels of the pod and of every object that lives as long as the server."""
        labels = {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_HUB: label_value(self.hub),
            LABEL_SERVER: self.server_hash,
            LABEL_SPAWN: label_value(self.spawn_id),
            LABEL_USER: self._user_label(),
        }
        if self.profile:
            labels[LABEL_PROFILE] = label_value(self.profile)
        if self.generation:
            labels[LABEL_GENERATION] = label_value(self.generation)
        return labels

    def annotations(self) -> dict[str, str]:
        """Return the annotations of the pod: which version of the profile it is, and why its params are what they are.

        A record of the params that would be too long for an annotation is left out; the hub's database has it.
        """
        annotations = {ANNOTATION_DIGEST: self.digest} if self.digest else {}
        if self.params:
            record = json.dumps(self.params, separators=(",", ":"), sort_keys=True)
            if len(record.encode()) <= _LONGEST_RECORD:
                annotations[ANNOTATION_PARAMS] = record
        return annotations

    def owned_labels(self) -> dict[str, str]:
        """Return the labels of an object that the pod owns."""
        return {**self.labels(), LABEL_LIFETIME: Lifetime.owned.value}

    def shared_labels(self) -> dict[str, str]:
        """Return the labels of an object that all servers with the same content use."""
        return {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_HUB: label_value(self.hub),
            LABEL_LIFETIME: Lifetime.shared.value,
        }

    def kept_labels(self) -> dict[str, str]:
        """Return the labels of the user's data, which outlives the server."""
        return {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_HUB: label_value(self.hub),
            LABEL_USER: self._user_label(),
            LABEL_LIFETIME: Lifetime.kept.value,
        }

    def owns(self, labels: Mapping[str, str] | None) -> Ownership:
        """Tell what the object with these labels is to this spawn."""
        labels = labels or {}
        if labels.get(LABEL_HUB) != label_value(self.hub) or labels.get(LABEL_SERVER) != self.server_hash:
            return "foreign"
        if self.spawn_id and labels.get(LABEL_SPAWN) == label_value(self.spawn_id):
            return "same-spawn"
        return "older"

    def owns_pod(self, pod: Mapping[str, Any]) -> Ownership:
        """Tell what a pod is to this spawn: as `owns`, or an older one of this server, started by plain KubeSpawner.

        KubeSpawner's pods have no labels of ours, but the user's and the server's names in their annotations.
        """
        labels = labels_of(pod)
        if LABEL_HUB in labels or LABEL_SERVER in labels:
            return self.owns(labels)
        annotations = (pod.get("metadata") or {}).get("annotations") or {}
        mine = annotations.get(_ANNOTATION_USER) == self.user and annotations.get(_ANNOTATION_SERVER, "") == self.server
        return "older" if mine else "foreign"

    def started(self, pod: Mapping[str, Any]) -> bool:
        """Tell whether this very spawn made a pod, whatever the hub and the user are called meanwhile."""
        return bool(self.spawn_id) and labels_of(pod).get(LABEL_SPAWN) == label_value(self.spawn_id)

    def keeps(self, labels: Mapping[str, str] | None) -> bool:
        """Tell whether an object with these labels is this user's data, made by this hub."""
        labels = labels or {}
        return labels.get(LABEL_HUB) == label_value(self.hub) and labels.get(LABEL_USER) == self._user_label()

    def _user_label(self) -> str:
        # Always with the hash: a user could otherwise choose a name that looks like another user's shortened one.
        return object_name(self.user, identity_hash(self.user))
