"""Removing what nobody uses any more. Runs at the hub's start and then rarely; never for a spawn.

Kubernetes itself removes owned objects with their pod. What remains for the sweep are shared objects that no pod refers
to, and owned ones whose pod vanished while they were being made. An object goes only if it

- carries this hub's labels,
- is older than the grace period, and nobody in this process asked for it as long as that,
- was unused in two passes in a row,
- and is still unused by every pod of the namespace, whoever made it, in a fresh list taken right before.

It is deleted with its UID and resource version, so that what has changed meanwhile stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from profile_spawner.names import LABEL_HUB, LABEL_LIFETIME, LABEL_MANAGED_BY, LABEL_SERVER, MANAGED_BY, label_value
from profile_spawner.policy.kinds import BY_KIND, Kind, resource_path
from profile_spawner.policy.object_policy import referred_names
from profile_spawner.profiles.resources import Lifetime

from .cluster import Cluster
from .identity import labels_of
from .object_cache import Key

__all__ = ["SWEPT_KINDS", "Sweeper"]

SWEPT_KINDS = ("ConfigMap", "Secret")


class Sweeper:
    """Sweeps the namespaces of one hub.

    Args:
        cluster: The hub's cluster; what it uses at the moment is not touched.
        hub: The hub's name, as in `ServerIdentity`.
        grace_seconds: How old an object must be, and for how long unasked for.
        kinds: The kinds to look at. The hub needs the right to list them.
    """

    def __init__(
        self, cluster: Cluster, hub: str, *, grace_seconds: float = 3600.0, kinds: Iterable[str] = SWEPT_KINDS
    ) -> None:
        self._cluster = cluster
        self._hub = label_value(hub)
        self._selector = f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_HUB}={self._hub}"
        self._grace = grace_seconds
        self._kinds = tuple(BY_KIND[kind] for kind in kinds)
        self._suspects: dict[str, set[str]] = {}
        self._stray: dict[str, frozenset[str]] = {}
        self._there: dict[str, int] = {}

    async def sweep(
        self, namespace: str, pods_in_use: Iterable[Mapping[str, Any]] = (), *, now: datetime | None = None
    ) -> list[Key]:
        """Make one pass.

        Args:
            namespace: Where.
            pods_in_use: Pods that the caller knows of, as plain JSON: what they use is no suspect. May be incomplete.
            now: The time; the clock's by default.

        Returns:
            What was deleted.

        Raises:
            ClusterError: if the API server cannot be asked. Nothing is deleted on half of an answer.
        """
        moment = now or datetime.now(timezone.utc)
        known = await _Usage.of(pods_in_use)
        unused: list[tuple[Kind, Mapping[str, Any]]] = []
        self._there[namespace] = 0
        for kind in self._kinds:
            path = resource_path(kind, namespace)
            found = await self._cluster.transport.list_all(
                path, what=f"{kind.plural} in {namespace}", selector=self._selector, metadata_only=True
            )
            self._there[namespace] += len(found)
            unused += ((kind, item) for item in found if self._is_candidate(kind, namespace, item, known, moment))
        before = self._suspects.get(namespace, set())
        self._suspects[namespace] = {item["metadata"]["uid"] for _, item in unused}
        suspects = [(kind, item) for kind, item in unused if item["metadata"]["uid"] in before]
        if not suspects:
            return []
        # What the caller knows may be old, or only part: the pods of other hubs and of Deployments count as well.
        pods = await self._cluster.transport.list_all(
            resource_path(BY_KIND["Pod"], namespace), what=f"pods in {namespace}"
        )
        usage = await _Usage.of(pods)
        gone = [
            key
            for kind, item in suspects
            if not usage.covers(item) and (key := await self._delete(kind, namespace, item)) is not None
        ]
        if gone:
            self._cluster.log.info("Swept %d unused objects in %s", len(gone), namespace)
        return gone

    def forget_empty(self, namespace: str) -> bool:
        """Return whether the last pass has found nothing of this hub; then nothing is remembered of it either."""
        if self._there.get(namespace, 1):
            return False
        for remembered in (self._there, self._suspects, self._stray):
            remembered.pop(namespace, None)
        return True

    async def stray_pods(
        self,
        namespace: str,
        servers: Collection[str],
        *,
        known: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> list[Key]:
        """Delete this hub's pods that belong to no server the hub knows: left when a start and its stop both failed.

        The same grace and the same two passes as for other objects.

        Args:
            namespace: Where.
            servers: `ServerIdentity.server_hash` of every server that runs, starts or stops. Must be complete: a pod
                whose server is missing here is somebody's lost work.
            known: If given, only pods of these servers are looked at: those that stand in the hub's database at all. So
                a hub whose database is new, or that shares its name with another one, deletes nothing.
            now: The time; the clock's by default.

        Returns:
            The pods that were deleted.

        Raises:
            ClusterError: if the API server cannot be asked.
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
            if labels_of(pod).get(LABEL_SERVER) not in servers
            and (known is None or labels_of(pod).get(LABEL_SERVER) in known)
            and not pod["metadata"].get("deletionTimestamp")
            and (moment - _time(pod["metadata"]["creationTimestamp"])).total_seconds() >= self._grace
        }
        before = self._stray.get(namespace, frozenset())
        self._stray[namespace] = frozenset(strays)
        gone = []
        for uid in before & strays.keys():
            name = strays[uid]
            self._cluster.log.warning("Pod %s/%s belongs to no server of this hub; it is deleted", namespace, name)
            if await self._cluster.delete_pod(name, namespace, 30, uid=uid):
                gone.append(Key(namespace, "Pod", name))
        return gone

    def _is_candidate(self, kind: Kind, namespace: str, item: Mapping[str, Any], known: _Usage, now: datetime) -> bool:
        metadata = item["metadata"]
        if labels_of(item).get(LABEL_LIFETIME) not in (Lifetime.shared.value, Lifetime.owned.value):
            return False
        if metadata.get("deletionTimestamp") or known.covers(item):
            return False
        if self._cluster.memory.idle(Key(namespace, kind.kind, metadata["name"])) < self._grace:
            return False
        age = (now - _time(metadata["creationTimestamp"])).total_seconds()
        return age >= self._grace

    async def _delete(self, kind: Kind, namespace: str, item: Mapping[str, Any]) -> Key | None:
        metadata = item["metadata"]
        key = Key(namespace, kind.kind, metadata["name"])
        if self._cluster.memory.idle(key) < self._grace:
            return None
        path = resource_path(kind, namespace, key.name)
        deleted = False

        async def delete() -> None:
            nonlocal deleted
            deleted = await self._cluster.transport.delete(
                path,
                what=f"{kind.kind} {namespace}/{key.name}",
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )

        await self._cluster.memory.remove(key, delete)
        return key if deleted else None


class _Usage:
    """What a set of pods uses and owns."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._uids: set[str] = set()

    @classmethod
    async def of(cls, pods: Iterable[Mapping[str, Any]]) -> _Usage:
        """Look through the pods, and let others run now and then: there may be ten thousand."""
        usage = cls()
        for number, pod in enumerate(list(pods)):
            usage._names |= referred_names(pod.get("spec") or {})
            usage._uids.add((pod.get("metadata") or {}).get("uid", ""))
            if number % 100 == 99:
                await asyncio.sleep(0)
        return usage

    def covers(self, item: Mapping[str, Any]) -> bool:
        """Tell whether a pod refers to this object or owns it."""
        metadata = item["metadata"]
        owners = {reference.get("uid") for reference in metadata.get("ownerReferences") or ()}
        return metadata["name"] in self._names or not owners.isdisjoint(self._uids)


def _time(text: str) -> datetime:
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
