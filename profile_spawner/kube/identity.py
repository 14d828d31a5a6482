"""The ownership of Kubernetes objects.

Labels prove who owns an object; names do not. Every object that this project creates has the hub's label. Depending on
its lifetime, it also has the server's label, the user's label, or neither. The label values are valid for any Unicode
user and server name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from profile_spawner.names import (
    ANNOTATION_ACCOUNT,
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

__all__ = ["Ownership", "ServerIdentity", "account_of", "labels_of"]

_LONGEST_RECORD = 128 * 1024
"""The maximum size of the record, in bytes. Kubernetes allows 256 KiB for all annotations of an object together."""
_ANNOTATION_USER = "hub.jupyter.org/username"
_ANNOTATION_SERVER = "hub.jupyter.org/servername"
_CREATED = "%Y-%m-%dT%H:%M:%S.%fZ"

Ownership = Literal["same-spawn", "older", "foreign"]
"""Who created an object: this spawn, an earlier spawn of the same server, or something else."""


def account_of(number: int, created: datetime) -> str:
    """Return a text that identifies an account in the hub's database.

    Args:
        number: The primary key of the user. A database may use it again after the user is deleted.
        created: When the user was created, in UTC.
    """
    return f"{number}@{created:{_CREATED}}"


def _is_same_account(one: str, other: str) -> bool:
    (number, _, created), (other_number, _, other_created) = one.partition("@"), other.partition("@")
    try:
        times = [datetime.strptime(text, _CREATED) for text in (created, other_created)]
    except ValueError:
        return one == other
    # Some databases round to seconds, which is seen after the next start of the hub.
    rounded = any(time.microsecond == 0 for time in times)
    return number == other_number and abs((times[0] - times[1]).total_seconds()) <= (1 if rounded else 0)


def labels_of(resource: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object from the API server; empty if it has none."""
    return (resource.get("metadata") or {}).get("labels") or {}


@dataclass(frozen=True)
class ServerIdentity:
    """One spawn of one server of one user of one hub.

    Attributes:
        hub: A name that identifies this hub in the cluster; set by the administrator.
        user: The user's name, any Unicode.
        server: The named server, empty for the default one; any Unicode.
        namespace: The namespace of the pod.
        pod_name: The pod's name.
        spawn_id: Unique for each start of the server.
        profile: The chosen profile's slug.
        generation: The generation of the snapshot that the spawn uses.
        digest: A hash that identifies the version of the profile.
        params: The values of the params with their sources, without secrets, as plain JSON.
        account: The user's account in the hub's database, as `account_of` returns it; empty if it is unknown: then
            claims are neither marked with it nor compared with it.
        recorded: The ids of this server's last spawns, as the hub's database has recorded them.
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
    account: str = ""
    recorded: Collection[str] = field(default=(), compare=False, repr=False)

    @property
    def server_hash(self) -> str:
        """The hash of (hub, user, server) for labels and names."""
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
        """Return the annotations of the pod: the version of the profile, and the params with their sources.

        If the record of the params is too long for an annotation, it is omitted; it is also in the hub's database.
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

    def persistent_labels(self) -> dict[str, str]:
        """Return the labels of the user's persistent objects, which remain when the server stops."""
        return {
            LABEL_MANAGED_BY: MANAGED_BY,
            **self.user_labels(),
            LABEL_LIFETIME: Lifetime.persistent.value,
        }

    def user_labels(self) -> dict[str, str]:
        """Return the labels that all pods and persistent objects of the user have, and no others."""
        return {LABEL_HUB: label_value(self.hub), LABEL_USER: self._user_label()}

    def persistent_annotations(self) -> dict[str, str]:
        """Return the annotations of the user's persistent objects: the account that they belong to."""
        return {ANNOTATION_ACCOUNT: f"{self.hub}/{self.account}"} if self.account else {}

    def other_account(self, found: Mapping[str, Any]) -> str:
        """Return the account that a persistent object belongs to if it is another one of this hub; otherwise "".

        A user who was deleted and a new user of the same name have different accounts. Objects without the annotation,
        and those of other hubs, are not compared.
        """
        mark = str(((found.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION_ACCOUNT) or "")
        hub, _, account = mark.rpartition("/")
        if not account or not self.account or hub != self.hub or _is_same_account(account, self.account):
            return ""
        return account

    def owns(self, labels: Mapping[str, str] | None) -> Ownership:
        """Return who created the object with these labels."""
        labels = labels or {}
        if labels.get(LABEL_HUB) != label_value(self.hub) or labels.get(LABEL_SERVER) != self.server_hash:
            return "foreign"
        if self.spawn_id and labels.get(LABEL_SPAWN) == label_value(self.spawn_id):
            return "same-spawn"
        return "older"

    def owns_pod(self, pod: Mapping[str, Any]) -> Ownership:
        """Return who created a pod. Pods of this server that plain KubeSpawner started are `older`.

        Pods of plain KubeSpawner lack this project's labels, but their annotations name the user and the server.
        """
        labels = labels_of(pod)
        if LABEL_HUB in labels or LABEL_SERVER in labels:
            return self.owns(labels)
        annotations = (pod.get("metadata") or {}).get("annotations") or {}
        mine = self.is_named_in(pod) and annotations.get(_ANNOTATION_SERVER, "") == self.server
        return "older" if mine else "foreign"

    def is_named_in(self, found: Mapping[str, Any]) -> bool:
        """Return whether KubeSpawner has created an object for a user with this name."""
        annotations = (found.get("metadata") or {}).get("annotations") or {}
        return bool(annotations.get(_ANNOTATION_USER) == self.user)

    def may_stop(self, pod: Mapping[str, Any]) -> bool:
        """Return whether a pod was started for this server by this hub, even if hub or user was renamed since.

        Labels alone do not prove this: a second hub with the same identity has servers with the same labels. A pod of
        plain KubeSpawner has no record; its annotations name the user and the server.
        """
        spawn = labels_of(pod).get(LABEL_SPAWN)
        if spawn is None:
            return self.owns_pod(pod) != "foreign"
        return spawn in {label_value(known) for known in (self.spawn_id, *self.recorded) if known}

    def owns_persistent(self, labels: Mapping[str, str] | None) -> bool:
        """Return whether this hub created the object with these labels for this user's persistent data."""
        labels = labels or {}
        return labels.get(LABEL_HUB) == label_value(self.hub) and labels.get(LABEL_USER) == self._user_label()

    def _user_label(self) -> str:
        # Always add the hash, so that a user name cannot imitate the shortened name of another user.
        return object_name(self.user, identity_hash(self.user))
