"""Creates and deletes the Kubernetes objects of a server. Every operation can be repeated safely.

A spawn calls `prepare` (shared and persistent objects; usually cached, so no API call), then `create_pod` (one call),
then `attach` (objects that the pod owns). Every create is idempotent: if the response is lost or the name exists
already, the object is read, and its labels decide. An object of the same spawn is adopted. An object of an earlier
spawn of the same server is deleted by UID and created again. Any other object causes an error and is not changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from profile_spawner.errors import ClusterError, shorten
from profile_spawner.names import LABEL_MANAGED_BY, LABEL_PROFILE
from profile_spawner.policy.judge import check_objects, check_pod
from profile_spawner.policy.kinds import BY_KIND, Kind, claims_of_set, kind_of, plain, resource_path
from profile_spawner.policy.settings import Policy
from profile_spawner.profiles.resources import KubeObject, Lifetime
from profile_spawner.texts import Text

from . import bodies
from .failures import KubeFailure
from .identity import Ownership, ServerIdentity, labels_of
from .object_cache import ObjectCache, ObjectReference
from .transport import Backoff, Budget, Transport

__all__ = ["Cluster"]

Verdict = Literal["keep", "replace", "wait"]
_POD = BY_KIND["Pod"]
_CLAIM = BY_KIND["PersistentVolumeClaim"]
_USED_BY_NAME = ("PersistentVolumeClaim", "Secret", "ServiceAccount")
"""The kinds that give a pod something as soon as it names an object."""
_CREATED_FIRST = frozenset({*_USED_BY_NAME, "ConfigMap", "Role"})
"""The kinds that others use by their names. The others are created only when none of these was refused."""


class Cluster:
    """The API server as one hub uses it. It caches which objects exist, so there must be only one per hub process.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`, shared with the hub.
        policy: The policy for the objects of profiles.
        log: A logger. Manifests, headers and tokens are never logged.
        request_timeout: The timeout of the first attempt, in seconds; doubled after a timeout.
        retry_budget: The maximum time for the retries of one step of a spawn, in seconds.
        replace_budget: The maximum time to wait until an earlier pod of the same server is gone, in seconds.
        first_pause: The maximum of the first pause between attempts, in seconds.
    """

    def __init__(
        self,
        api_client: Any,
        *,
        policy: Policy,
        log: logging.Logger | logging.LoggerAdapter[Any],
        request_timeout: float = 3.0,
        retry_budget: float = 30.0,
        replace_budget: float = 60.0,
        first_pause: float = 0.2,
    ) -> None:
        self.policy = policy
        self.log = log
        self.object_cache = ObjectCache()
        self.transport = Transport(
            api_client,
            log=log,
            request_timeout=request_timeout,
            retry_budget=retry_budget,
            first_pause=first_pause,
        )
        self._client = api_client
        self._replace_budget = replace_budget

    async def prepare(self, identity: ServerIdentity, objects: Sequence[KubeObject]) -> None:
        """Check all objects against the policy, then create the shared and the persistent ones.

        An object in the cache needs no API call.

        Args:
            identity: The spawn.
            objects: All objects of the profile, of any lifetime.

        Raises:
            PolicyError: If an object is not allowed. No API call has been made then.
            ClusterError: If an object cannot be created, or its name belongs to a foreign object.
        """
        check_objects(self.policy, identity.profile, objects, identity.namespace)
        for item in objects:
            kind_of(item.api_version, item.kind)
        # The owned objects are created after the pod, which would have used another object of the name until then.
        written = [o for o in objects if o.lifetime is Lifetime.owned and o.is_name_written and o.kind in _USED_BY_NAME]
        await _together(self._refuse_foreign(identity, o) for o in written)
        await _together(self._refuse_foreign_claim(identity, o, name) for o in objects for name in claims_of_set(o))
        for first in (True, False):
            lasting = (o for o in objects if o.lifetime is not Lifetime.owned and (o.kind in _CREATED_FIRST) is first)
            await _together(self._ensure(identity, o) for o in lasting)

    async def create_pod(self, identity: ServerIdentity, pod: Any) -> dict[str, Any]:
        """Create the server's pod, or adopt the pod that this spawn has already created.

        Args:
            identity: The spawn.
            pod: What `checked_pod` returned, or a `V1Pod` that needs no check. The identity's labels are added.

        Returns:
            The pod from the API server's response, with `metadata.uid`.

        Raises:
            ClusterError: If the pod cannot be created within the budget, or its name belongs to a foreign pod.
        """
        body = self.pod_body(identity, pod)

        def judge(found: Mapping[str, Any]) -> Verdict:
            owner = identity.owns_pod(found)
            if owner == "foreign":
                raise _taken("Pod", identity, identity.pod_name)
            if owner == "older":
                return "replace"
            if found["metadata"].get("deletionTimestamp"):
                raise _stopped(identity)
            return "keep"

        return await self._obtain(_POD, identity, body, judge)

    def checked_pod(
        self,
        identity: ServerIdentity,
        pod: Any,
        *,
        trusted: bool = False,
        hub_parts: Sequence[Any] = (),
        service_accounts: Collection[str] = (),
    ) -> dict[str, Any]:
        """Return the pod as `create_pod` sends it, checked against the policy.

        Args:
            identity: The spawn.
            pod: A `V1Pod` or the same as a dictionary.
            trusted: Whether the whole pod comes from the hub's configuration, which the policy does not check.
            hub_parts: For a pod of a profile: containers and volumes from the hub's configuration. Those that are
                unchanged in the pod are not checked.
            service_accounts: Additional service accounts that the pod may use.

        Raises:
            PolicyError: If the pod violates the policy.
        """
        body = self.pod_body(identity, pod)
        if not trusted:
            parts = tuple(plain(self._client.sanitize_for_serialization(part)) for part in hub_parts)
            check_pod(self.policy, body, identity.profile, trusted=parts, service_accounts=service_accounts)
        return body

    def pod_body(self, identity: ServerIdentity, pod: Any) -> dict[str, Any]:
        """Return the pod as plain JSON, with name, namespace and ownership labels."""
        body: dict[str, Any] = plain(self._client.sanitize_for_serialization(pod))
        metadata = body.setdefault("metadata", {})
        metadata["name"], metadata["namespace"] = identity.pod_name, identity.namespace
        labels = {**(metadata.get("labels") or {})}
        for key, value in identity.labels().items():
            if key in (LABEL_MANAGED_BY, LABEL_PROFILE):
                # Keep KubeSpawner's value, because selectors in existing installations use it.
                labels.setdefault(key, value)
            else:
                labels[key] = value
        metadata["labels"] = labels
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **identity.annotations()}
        body.setdefault("apiVersion", "v1")
        body.setdefault("kind", "Pod")
        return body

    async def attach(
        self, identity: ServerIdentity, objects: Sequence[KubeObject], pod_name: str, pod_uid: str
    ) -> None:
        """Create the objects that the pod owns. Kubernetes deletes them together with the pod.

        Args:
            identity: The spawn.
            objects: All objects of the profile; only the owned ones are created.
            pod_name: The name of the pod.
            pod_uid: The UID of the pod.

        Raises:
            ClusterError: If an object cannot be created. The caller then stops the pod, which deletes the others.
        """
        owned = [item for item in objects if item.lifetime is Lifetime.owned]
        # The API server cannot check a binding to a role that does not exist yet.
        for first in (True, False):
            await _together(
                self._attach_one(identity, item, pod_name, pod_uid)
                for item in owned
                if (item.kind in _CREATED_FIRST) is first
            )

    async def missing_owned(
        self, identity: ServerIdentity, objects: Iterable[tuple[str, str, str]]
    ) -> list[tuple[str, str, str]]:
        """Return the objects that this spawn should own but that do not exist.

        Args:
            identity: The spawn.
            objects: API version, kind and name of each object.

        Raises:
            ClusterError: If a request to the API server fails.
        """
        missing = []
        for api_version, kind, name in objects:
            found = await self._read(kind_of(api_version, kind), identity.namespace, name)
            going = found is not None and found["metadata"].get("deletionTimestamp")
            if found is None or going or identity.owns(labels_of(found)) != "same-spawn":
                missing.append((api_version, kind, name))
        return missing

    async def delete_pod(
        self,
        identity: ServerIdentity | str,
        namespace: str,
        grace_seconds: int,
        uid: str | None = None,
    ) -> bool:
        """Delete a server's pod: the pod with `uid`, or without it the pod that this hub has started for the server.

        Args:
            identity: The server, or only the pod's name; a name requires `uid`.
            namespace: The namespace of the pod; for a server from before a restart, the recorded one.
            grace_seconds: The time that the pod has to terminate, in seconds.
            uid: The pod's UID. With it, one API call is enough.

        Returns:
            Whether there was such a pod.

        Raises:
            ClusterError: If the API server refuses or does not answer.
            ValueError: If there is a name without a UID, because a name does not prove who owns the pod.
        """
        name = identity if isinstance(identity, str) else identity.pod_name
        path = resource_path(_POD, namespace, name)
        what = f"Pod {namespace}/{name}"
        budget = self.transport.budget()
        if uid is None:
            if isinstance(identity, str):
                raise ValueError("a pod is deleted by its UID, or by the identity of its server; not by name alone")
            found = await self.transport.get_or_none(path, what=what, budget=budget)
            if found is None or not identity.may_stop(found):
                return False
            uid = str(found["metadata"]["uid"])
        return await self.transport.delete(path, what=what, uid=uid, grace_seconds=grace_seconds, budget=budget)

    async def find_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a pod; `None` if it does not exist.

        Raises:
            ClusterError: If the API server refuses or does not answer.
        """
        return await self._read(_POD, namespace, name)

    async def _read(self, kind: Kind, namespace: str, name: str, profile: str | None = None) -> dict[str, Any] | None:
        """Return an object, or `None` if it does not exist."""
        path = resource_path(kind, namespace, name)
        return await self.transport.get_or_none(path, what=f"{kind.kind} {namespace}/{name}", profile=profile)

    async def delete_persistent(self, identity: ServerIdentity) -> int:
        """Delete the persistent claims of a user, because the user is deleted from the hub.

        Only claims with the labels of this hub and this user are deleted, so a claim that this hub did not create is
        never deleted; nor is one of another account with the same user name.

        Returns:
            The number of deleted claims.

        Raises:
            ClusterError: If a request to the API server fails.
        """
        kind = _CLAIM
        labels = identity.persistent_labels()
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        what = f"{kind.plural} in {identity.namespace}"
        found = await self.transport.list_all(
            resource_path(kind, identity.namespace), what=what, selector=selector, metadata_only=True
        )
        mine = [item for item in found if not identity.other_account(item)]
        for item in mine:
            metadata = item["metadata"]
            self.forget(identity.namespace, metadata["name"])
            path = resource_path(kind, identity.namespace, metadata["name"])
            await self.transport.delete(path, what=f"claim {metadata['name']}", uid=metadata["uid"])
        return len(mine)

    async def delete_home_claim(self, identity: ServerIdentity, name: str) -> bool:
        """Delete the claim that KubeSpawner created for a server, because the user or the server is deleted.

        Returns:
            Whether it was deleted. A claim that another user or account may own is not deleted, and the log says so.

        Raises:
            ClusterError: If a request to the API server fails.
        """
        path = resource_path(_CLAIM, identity.namespace, name)
        what = f"PersistentVolumeClaim {identity.namespace}/{name}"
        found = await self._read(_CLAIM, identity.namespace, name)
        if found is None:
            return False
        if not identity.is_named_in(found) or identity.other_account(found):
            self.log.warning("%s is not known to belong to %s; it is not deleted", what, shorten(identity.user, 200))
            return False
        self.log.info("Deleting %s", what)
        return await self.transport.delete(path, what=what, uid=found["metadata"]["uid"])

    async def create_home_claim(self, identity: ServerIdentity, body: dict[str, Any]) -> None:
        """Create the claim that KubeSpawner gives to a server, or use the existing one.

        As with KubeSpawner, the name of the claim decides. Only a claim of another account is refused.

        Raises:
            ClusterError: If the claim cannot be created or used.
        """
        metadata = body["metadata"]
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **identity.persistent_annotations()}

        def judge(found: Mapping[str, Any]) -> Verdict:
            _check_account(identity, found)
            return "wait" if found["metadata"].get("deletionTimestamp") else "keep"

        await self._obtain(_CLAIM, identity, body, judge, read_on_403=True)

    async def has_home_claim(self, identity: ServerIdentity, name: str) -> bool:
        """Return whether a claim with this name exists that the user may use.

        Raises:
            ClusterError: If the claim belongs to another account, or a request to the API server fails.
        """
        found = await self._read(_CLAIM, identity.namespace, name)
        if found is not None:
            _check_account(identity, found)
        return found is not None

    def forget(self, namespace: str, name: str) -> bool:
        """Remove a shared or persistent object from the cache, because it is missing or was deleted.

        Returns:
            Whether it was in the cache.
        """
        return self.object_cache.forget(namespace, name)

    async def recreate(self, identity: ServerIdentity, objects: Sequence[KubeObject]) -> None:
        """Create the shared objects again without using the cache, because a pod waits for a missing one.

        Args:
            identity: The spawn whose pod waits.
            objects: The objects of the pod.

        Raises:
            ClusterError: As `prepare`.
        """
        shared = [item for item in objects if item.lifetime is Lifetime.shared]
        for item in shared:
            self.object_cache.forget(identity.namespace, item.name)
        await self.prepare(identity, shared)

    def manifest(self, identity: ServerIdentity, item: KubeObject) -> dict[str, Any]:
        """Return the manifest of an object. For an owned object it has no owner yet, because the pod does not exist."""
        return bodies.assemble(item, identity)

    async def _ensure(self, identity: ServerIdentity, item: KubeObject) -> None:
        """Create a shared or persistent object unless it is in the cache."""
        key = ObjectReference(identity.namespace, item.kind, item.name)
        is_shared = item.lifetime is Lifetime.shared
        body = self.manifest(identity, item)
        # Who may use the object without asking the API server again.
        token = "shared" if is_shared else "\0".join((*sorted(identity.persistent_labels().values()), identity.account))

        async def make() -> None:
            def judge(found: Mapping[str, Any]) -> Verdict:
                if found["metadata"].get("deletionTimestamp"):
                    return "wait"
                if is_shared and not bodies.is_same_shared(found, body):
                    raise _taken(item.kind, identity, item.name, item.field)
                if not is_shared:
                    # The author of a manifest could write the name of any claim.
                    adopt = self.policy.adopt_unlabelled_claims and not item.is_name_written
                    why = bodies.not_persistent_for(found, identity, adopt)
                    if why:
                        raise _not_yours(item.kind, identity, item.name, why, item.field)
                return "keep"

            # The API server checks the quota before the name. An existing object must not fail because of the quota.
            await self._obtain(kind_of(item.api_version, item.kind), identity, body, judge, read_on_403=True)

        await self.object_cache.ensure(key, token, make)

    async def _refuse_foreign(self, identity: ServerIdentity, item: KubeObject) -> None:
        kind = kind_of(item.api_version, item.kind)
        found = await self._read(kind, identity.namespace, item.name, identity.profile or None)
        if found is not None:
            _owner(identity, item, found)

    async def _refuse_foreign_claim(self, identity: ServerIdentity, item: KubeObject, name: str) -> None:
        """Refuse a claim that a StatefulSet would use, unless it is one of this user's by its labels."""
        found = await self._read(_CLAIM, identity.namespace, name, identity.profile or None)
        if found is not None and (why := bodies.not_persistent_for(found, identity, adopt_unlabelled=False)):
            raise _not_yours("PersistentVolumeClaim", identity, name, why, item.field)

    async def _attach_one(self, identity: ServerIdentity, item: KubeObject, pod_name: str, pod_uid: str) -> None:
        body = bodies.assemble(item, identity, owner=(pod_name, pod_uid))

        def judge(found: Mapping[str, Any]) -> Verdict:
            owner = _owner(identity, item, found)
            going = found["metadata"].get("deletionTimestamp")
            return "keep" if owner == "same-spawn" and bodies.is_owned_by(found, pod_uid) and not going else "replace"

        await self._obtain(kind_of(item.api_version, item.kind), identity, body, judge)

    async def _obtain(
        self,
        kind: Kind,
        identity: ServerIdentity,
        body: Mapping[str, Any],
        judge: Callable[[Mapping[str, Any]], Verdict],
        *,
        read_on_403: bool = False,
    ) -> dict[str, Any]:
        """Create an object. If the name exists already, call `judge` to decide about the existing object."""
        name, profile = body["metadata"]["name"], identity.profile or None
        what = f"{kind.kind} {identity.namespace}/{name}"
        collection = resource_path(kind, identity.namespace)
        path = resource_path(kind, identity.namespace, name)
        budget = self.transport.budget()
        backoff = Backoff(self.transport.first_pause)
        while True:
            try:
                return await self.transport.call(
                    "POST", collection, what=f"creating {what}", profile=profile, body=body, budget=budget
                )
            except KubeFailure as exc:
                # After an attempt without a response, the object may exist even if the next attempt is refused: this
                # object itself may have used up the quota.
                if not exc.already_exists and not (exc.status == 403 and (read_on_403 or exc.ambiguous)):
                    raise
                failure = exc
            found = await self.transport.get_or_none(path, what=what, profile=profile, budget=budget)
            if found is not None:
                verdict = judge(found)
                if verdict == "keep":
                    self.log.info("%s exists already and is used", what)
                    return found
                await self._clear(kind, path, found, what, remove=verdict == "replace")
                budget = self.transport.budget()
            elif not failure.already_exists:
                raise failure
            pause = backoff.pause()
            if pause >= budget.left:
                raise failure
            await asyncio.sleep(pause)

    async def _clear(self, kind: Kind, path: str, found: Mapping[str, Any], what: str, *, remove: bool) -> None:
        """Wait until exactly this object is gone; with `remove`, delete it first."""
        uid = str(found["metadata"]["uid"])
        budget = Budget(self._replace_budget)
        backoff = Backoff(self.transport.first_pause, 2.0)
        is_pod, forced = kind is _POD, False
        if remove:
            self.log.info("%s is left from an earlier start; removing it", what)
            await self.transport.delete(path, what=what, uid=uid, grace_seconds=1 if is_pod else None, budget=budget)
        while True:
            current = await self.transport.get_or_none(path, what=what, budget=budget)
            if current is None or current["metadata"]["uid"] != uid:
                return
            if is_pod and remove and not forced and budget.spent > self._replace_budget / 2:
                # The node does not answer, so delete the pod without a grace period.
                forced = await self.transport.delete(path, what=what, uid=uid, grace_seconds=0, budget=budget)
            pause = backoff.pause()
            if pause >= budget.left:
                raise ClusterError(
                    f"{what} does not go away (waited {budget.spent:.0f} s)",
                    reason="conflict",
                    blame="cluster",
                    user_message="An earlier server of yours does not end. Try again in a few minutes.",
                    hint="Look at its finalizers and at its node.",
                )
            await asyncio.sleep(pause)


def _owner(identity: ServerIdentity, item: KubeObject, found: Mapping[str, Any]) -> Ownership:
    """Return which spawn of this server created an existing object.

    Raises:
        ClusterError: If it is not of this server.
    """
    # KubeSpawner's own Secrets and Services lack this project's labels; a claim may contain a user's data.
    is_claim = item.kind == "PersistentVolumeClaim"
    owner = identity.owns(labels_of(found)) if is_claim else identity.owns_pod(found)
    if owner == "foreign":
        raise _taken(item.kind, identity, item.name, item.field)
    return owner


def _taken(kind: str, identity: ServerIdentity, name: str, field: str | None = None) -> ClusterError:
    return ClusterError(
        f"{kind} {identity.namespace}/{name} exists and does not belong to this server; it was not changed",
        reason="conflict",
        blame="admin",
        user_message="Something else already has the name of your server. Please tell your administrator.",
        profile=identity.profile or None,
        field=field,
        hint="Its labels do not name this hub and server. Delete or rename it if it is not needed.",
    )


def _check_account(identity: ServerIdentity, claim: Mapping[str, Any]) -> None:
    if why := bodies.of_another_account(claim, identity):
        raise _not_yours("PersistentVolumeClaim", identity, claim["metadata"]["name"], why)


def _not_yours(kind: str, identity: ServerIdentity, name: str, why: str, field: str | None = None) -> ClusterError:
    return ClusterError(
        f"{kind} {identity.namespace}/{name} exists and is not used for {shorten(identity.user)!r}: {why}",
        reason="conflict",
        blame="admin",
        user_message=Text(
            "The storage %(name)s exists already and does not belong to you. Please tell your administrator.", name=name
        ),
        profile=identity.profile or None,
        field=field,
        hint="docs/operators.md says how to hand it over, under Claims of users. Delete it if it is not needed",
    )


def _stopped(identity: ServerIdentity) -> ClusterError:
    return ClusterError(
        f"Pod {identity.namespace}/{identity.pod_name} was stopped while it was being started",
        reason="conflict",
        blame="user",
        user_message="The server was stopped while it was starting.",
        profile=identity.profile or None,
    )


async def _together(work: Iterable[Awaitable[None]]) -> None:
    """Await all. If some fail, wait until the others have finished, then raise the first exception."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
