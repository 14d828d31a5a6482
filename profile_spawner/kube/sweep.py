"""Deletes unused objects. Runs when the hub starts and then at long intervals, never during a spawn.

Kubernetes deletes owned objects together with their pod. The sweep deletes shared ConfigMaps that no pod uses, and
owned ones whose pod disappeared while they were being created. An object is deleted only if it

- has this hub's labels,
- is older than the grace period and was not used by this process during that time,
- was unused in two consecutive passes,
- and is not used by any pod in the namespace, according to a new list of the pods immediately before the deletion.

The delete request contains UID and resource version, so that an object that has changed is not deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from profile_spawner.names import (
    LABEL_HUB,
    LABEL_LIFETIME,
    LABEL_MANAGED_BY,
    LABEL_SERVER,
    LABEL_SPAWN,
    MANAGED_BY,
    label_value,
)
from profile_spawner.policy.kinds import BY_KIND, resource_path
from profile_spawner.profiles.resources import Lifetime

from .cluster import Cluster
from .identity import labels_of
from .object_cache import ObjectReference

__all__ = ["Sweeper", "referred_names"]

_KIND = BY_KIND["ConfigMap"]


class Sweeper:
    """Sweeps the namespaces of one hub.

    Args:
        cluster: The hub's cluster. Objects that it is using are not deleted.
        hub: The hub's name, as in `ServerIdentity`.
        grace_seconds: The minimum age of an object, and the minimum time since its last use, in seconds.
    """

    def __init__(self, cluster: Cluster, hub: str, *, grace_seconds: float) -> None:
        self._cluster = cluster
        self._hub = label_value(hub)
        self._selector = f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_HUB}={self._hub}"
        self._grace = grace_seconds
        self._suspects: dict[str, set[str]] = {}
        self._stray: dict[str, frozenset[str]] = {}
        self._there: dict[str, int] = {}

    async def sweep(self, namespace: str, *, now: datetime | None = None) -> list[ObjectReference]:
        """Do one pass over the ConfigMaps of a namespace.

        Args:
            namespace: The namespace.
            now: The time; the current time by default.

        Returns:
            The deleted objects.

        Raises:
            ClusterError: If a request to the API server fails. An incomplete list never leads to a deletion.
        """
        moment = now or datetime.now(timezone.utc)
        found = await self._cluster.transport.list_all(
            resource_path(_KIND, namespace),
            what=f"{_KIND.plural} in {namespace}",
            selector=self._selector,
            metadata_only=True,
        )
        self._there[namespace] = len(found)
        unused = [item for item in found if self._is_candidate(namespace, item, moment)]
        before = self._suspects.get(namespace, set())
        self._suspects[namespace] = {item["metadata"]["uid"] for item in unused}
        suspects = [item for item in unused if item["metadata"]["uid"] in before]
        if not suspects:
            return []
        # List all pods, also those of other hubs and of Deployments.
        pods = await self._cluster.transport.list_all(
            resource_path(BY_KIND["Pod"], namespace), what=f"pods in {namespace}"
        )
        usage = await _Usage.of(pods)
        gone = [
            key
            for item in suspects
            if not usage.covers(item) and (key := await self._delete(namespace, item)) is not None
        ]
        if gone:
            self._cluster.log.info("Swept %d unused objects in %s", len(gone), namespace)
        return gone

    def forget_empty(self, namespace: str) -> bool:
        """Return whether the last pass found no objects of this hub; if so, forget the namespace."""
        if self._there.get(namespace, 1):
            return False
        for remembered in (self._there, self._suspects, self._stray):
            remembered.pop(namespace, None)
        return True

    async def stray_pods(
        self,
        namespace: str,
        in_use: Collection[str],
        recorded: Callable[[str], Collection[str]],
        *,
        now: datetime | None = None,
    ) -> list[ObjectReference]:
        """Delete this hub's pods without an active server. They remain if both a start and its stop failed.

        The grace period and the two passes are the same as for other objects.

        Args:
            namespace: The namespace.
            in_use: `ServerIdentity.server_hash` of every server that runs, starts or stops. It must be complete: the
                pod of a missing server is deleted, and its user loses work.
            recorded: Returns the spawn ids that the hub's database has recorded for a server hash. Only their pods are
                deleted. So a hub with a new database, or with the identity of another hub, deletes nothing.
            now: The time; the current time by default.

        Returns:
            The deleted pods.

        Raises:
            ClusterError: If a request to the API server fails.
        """
        moment = now or datetime.now(timezone.utc)
        path = resource_path(BY_KIND["Pod"], namespace)
        selector = f"{LABEL_HUB}={self._hub},{LABEL_SERVER}"
        pods = await self._cluster.transport.list_all(
            path, what=f"pods in {namespace}", selector=selector, metadata_only=True
        )
        self._there[namespace] = self._there.get(namespace, 0) + len(pods)
        strays = {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in pods
            if labels_of(pod)[LABEL_SERVER] not in in_use
            and not pod["metadata"].get("deletionTimestamp")
            and (moment - _time(pod["metadata"]["creationTimestamp"])).total_seconds() >= self._grace
            and labels_of(pod).get(LABEL_SPAWN) in recorded(labels_of(pod)[LABEL_SERVER])
        }
        before = self._stray.get(namespace, frozenset())
        self._stray[namespace] = frozenset(strays)
        gone = []
        for uid in before & strays.keys():
            name = strays[uid]
            self._cluster.log.warning("Pod %s/%s belongs to no server of this hub; it is deleted", namespace, name)
            if await self._cluster.delete_pod(name, namespace, 30, uid=uid):
                gone.append(ObjectReference(namespace, "Pod", name))
        return gone

    def _is_candidate(self, namespace: str, item: Mapping[str, Any], now: datetime) -> bool:
        metadata = item["metadata"]
        if labels_of(item).get(LABEL_LIFETIME) not in (Lifetime.shared.value, Lifetime.owned.value):
            return False
        if metadata.get("deletionTimestamp"):
            return False
        if self._cluster.object_cache.idle(ObjectReference(namespace, _KIND.kind, metadata["name"])) < self._grace:
            return False
        age = (now - _time(metadata["creationTimestamp"])).total_seconds()
        return age >= self._grace

    async def _delete(self, namespace: str, item: Mapping[str, Any]) -> ObjectReference | None:
        metadata = item["metadata"]
        key = ObjectReference(namespace, _KIND.kind, metadata["name"])
        if self._cluster.object_cache.idle(key) < self._grace:
            return None
        path = resource_path(_KIND, namespace, key.name)
        deleted = False

        async def delete() -> None:
            nonlocal deleted
            deleted = await self._cluster.transport.delete(
                path,
                what=f"{_KIND.kind} {namespace}/{key.name}",
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )

        await self._cluster.object_cache.remove(key, delete)
        return key if deleted else None


class _Usage:
    """The objects that a set of pods uses or owns."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._uids: set[str] = set()

    @classmethod
    async def of(cls, pods: Iterable[Mapping[str, Any]]) -> _Usage:
        """Collect the objects of the pods. Yields to the event loop regularly, because there may be 10,000 pods."""
        usage = cls()
        for number, pod in enumerate(list(pods)):
            usage._names |= referred_names(pod.get("spec") or {})
            usage._uids.add((pod.get("metadata") or {}).get("uid", ""))
            if number % 100 == 99:
                await asyncio.sleep(0)
        return usage

    def covers(self, item: Mapping[str, Any]) -> bool:
        """Return whether one of the pods refers to this object or owns it."""
        metadata = item["metadata"]
        owners = {reference.get("uid") for reference in metadata.get("ownerReferences") or ()}
        return metadata["name"] in self._names or not owners.isdisjoint(self._uids)


def referred_names(spec: Mapping[str, Any]) -> set[str]:
    """Return the names of all Secrets and ConfigMaps that a pod's spec refers to. Other texts may be included.

    It collects all possible names: from volumes of any kind, `envFrom`, `valueFrom` and pull secrets. Additional names
    cause no error, but a missing name would be a security problem.
    """
    names: set[str] = set()
    _texts(spec.get("imagePullSecrets"), names)
    _texts(spec.get("volumes"), names)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            _texts(container.get("envFrom"), names)
            for variable in container.get("env") or ():
                if variable.get("valueFrom"):
                    _texts(variable["valueFrom"], names)
    return names


def _texts(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _texts(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _texts(item, found)


def _time(text: str) -> datetime:
    # Python 3.10 does not accept the suffix Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
