"""Making and removing what a server needs, so that trying again is always safe.

The order of a spawn: `prepare` (what is shared or kept, remembered, so usually no call), `create_pod` (one call),
`attach` (what the pod owns). Every create is idempotent: when the answer is lost or the name is taken, the object is
read back and its labels decide. Made by the same spawn: adopted. Made by an earlier spawn of the same server: deleted
by UID and made again. Somebody else's: refused, and left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from profile_spawner.errors import ClusterError
from profile_spawner.names import LABEL_MANAGED_BY, LABEL_PROFILE
from profile_spawner.policy.kinds import BY_KIND, Kind, kind_of, plain, resource_path
from profile_spawner.policy.object_policy import Policy
from profile_spawner.profiles.resources import KubeObject, Lifetime

from . import bodies
from .failures import KubeFailure
from .identity import ServerIdentity, labels_of
from .object_cache import Key, Memory
from .transport import Backoff, Budget, Transport

__all__ = ["Cluster"]

Verdict = Literal["keep", "replace", "wait"]
_POD = BY_KIND["Pod"]


class Cluster:
    """One hub's view of its API server. It remembers what exists, so there must be only one per hub process.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`, shared with the hub.
        policy: What profiles may bring.
        log: A logger; never sees a manifest, a header or a token.
        request_timeout: How long one attempt may take at first, in seconds; doubled after a timeout.
        retry_budget: How long one step of a spawn may retry, in seconds.
        replace_budget: How long to wait for an earlier pod of the same server to go, in seconds.
        first_pause: The longest first pause between attempts, in seconds.
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
        self.memory = Memory()
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
        """Check all objects against the policy, then make the shared and the kept ones.

        What is remembered costs no call.

        Args:
            identity: Whose spawn.
            objects: Everything the profile brings, of any lifetime.

        Raises:
            PolicyError: if anything is not allowed; nothing has been called then.
            ClusterError: if an object could not be made, or the name is somebody else's.
        """
        self.policy.check_objects(identity.profile, objects, identity.namespace)
        for item in objects:
            kind_of(item.api_version, item.kind)
        await _together(self._ensure(identity, o) for o in objects if o.lifetime is not Lifetime.owned)

    async def create_pod(
        self,
        identity: ServerIdentity,
        pod: Any,
        *,
        trusted: bool = False,
        hub_parts: Sequence[Any] = (),
        service_accounts: Collection[str] = (),
    ) -> dict[str, Any]:
        """Create the server's pod, or adopt the one that this spawn has created already.

        Args:
            identity: Whose pod.
            pod: A `V1Pod` or the same as a dictionary. The identity's labels are added.
            trusted: Whether all of the pod stands in the hub's own configuration, which the policy does not judge.
            hub_parts: Containers and volumes of the hub's own configuration, for one of a profile's pods: those that
                stand in the pod unchanged are not judged.
            service_accounts: Further service accounts that the pod may run as.

        Returns:
            The pod as the API server has it, with `metadata.uid`.

        Raises:
            PolicyError: if the pod breaks the policy; nothing has been called then.
            ClusterError: if it could not be created within the budget, or the name is somebody else's.
        """
        body = self.checked_pod(identity, pod, trusted=trusted, hub_parts=hub_parts, service_accounts=service_accounts)

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
        """Return the pod as `create_pod`, with the same arguments, would send it.

        Raises:
            PolicyError: if the pod breaks the policy.
        """
        body = self.pod_body(identity, pod)
        if not trusted:
            parts = tuple(plain(self._client.sanitize_for_serialization(part)) for part in hub_parts)
            self.policy.check_pod(body, identity.profile, trusted=parts, service_accounts=service_accounts)
        return body

    def pod_body(self, identity: ServerIdentity, pod: Any) -> dict[str, Any]:
        """Return the pod as it will be sent: plain JSON, with name, namespace and the labels of ownership."""
        body: dict[str, Any] = plain(self._client.sanitize_for_serialization(pod))
        metadata = body.setdefault("metadata", {})
        metadata["name"], metadata["namespace"] = identity.pod_name, identity.namespace
        labels = {**(metadata.get("labels") or {})}
        for key, value in identity.labels().items():
            if key in (LABEL_MANAGED_BY, LABEL_PROFILE):
                # KubeSpawner writes its own name here, which selectors of existing installations rely on.
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
        """Make the objects that live as long as the pod, owned by it: Kubernetes removes them with it.

        Args:
            identity: Whose spawn.
            objects: Everything the profile brings; only the owned ones are made.
            pod_name: The pod that owns them.
            pod_uid: Its UID.

        Raises:
            ClusterError: if one could not be made. The caller stops the pod, which removes the others.
        """
        owned = [item for item in objects if item.lifetime is Lifetime.owned]
        # A binding to a role that does not exist yet grants nothing, and the API server refuses to check it.
        for bindings in (False, True):
            await _together(
                self._attach_one(identity, item, pod_name, pod_uid)
                for item in owned
                if (item.kind == "RoleBinding") is bindings
            )

    async def delete_pod(
        self,
        identity: ServerIdentity | str,
        namespace: str,
        grace_seconds: int,
        uid: str | None = None,
    ) -> bool:
        """Delete a server's pod: exactly the one with `uid`, or the one whose labels say that it is the server's.

        Args:
            identity: The server; or only the pod's name, which needs the UID.
            namespace: Where the pod is; the recorded one of a server found again.
            grace_seconds: What the pod is given to end.
            uid: The pod's UID. With it there is a single call.

        Returns:
            Whether there was such a pod.

        Raises:
            ClusterError: if the API server refuses or stays away.
            ValueError: for a name without a UID: a name proves nothing.
        """
        name = identity if isinstance(identity, str) else identity.pod_name
        path = resource_path(_POD, namespace, name)
        what = f"Pod {namespace}/{name}"
        budget = self.transport.budget()
        if uid is None:
            if isinstance(identity, str):
                raise ValueError("a pod is deleted by its UID, or by the identity of its server; not by name alone")
            found = await self.transport.get_or_none(path, what=what, budget=budget)
            if found is None or identity.owns_pod(found) == "foreign":
                return False
            uid = str(found["metadata"]["uid"])
        return await self.transport.delete(path, what=what, uid=uid, grace_seconds=grace_seconds, budget=budget)

    async def delete_kept(self, identity: ServerIdentity) -> int:
        """Delete the claims that this hub has kept for a user, when the user is deleted for ever.

        Only claims with this hub's and this user's labels go: one that was there before us is never deleted.

        Returns:
            How many were deleted.

        Raises:
            ClusterError: if the API server cannot be asked.
        """
        kind = BY_KIND["PersistentVolumeClaim"]
        labels = identity.kept_labels()
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        what = f"{kind.plural} in {identity.namespace}"
        found = await self.transport.list_all(
            resource_path(kind, identity.namespace), what=what, selector=selector, metadata_only=True
        )
        for item in found:
            metadata = item["metadata"]
            self.forget(identity.namespace, metadata["name"])
            path = resource_path(kind, identity.namespace, metadata["name"])
            await self.transport.delete(path, what=f"claim {metadata['name']}", uid=metadata["uid"])
        return len(found)

    def forget(self, namespace: str, name: str) -> bool:
        """Forget a shared or kept object, because it has been seen to be missing or was deleted on purpose.

        Returns:
            Whether it was remembered.
        """
        return self.memory.forget(namespace, name)

    async def recreate(self, identity: ServerIdentity, objects: Sequence[KubeObject]) -> None:
        """Make the shared objects again although they were remembered: a pod waits for one of them.

        Args:
            identity: Whose pod waits.
            objects: What the pod was built with.

        Raises:
            ClusterError: as `prepare`.
        """
        shared = [item for item in objects if item.lifetime is Lifetime.shared]
        for item in shared:
            self.memory.forget(identity.namespace, item.name)
        await self.prepare(identity, shared)

    def manifest(self, identity: ServerIdentity, item: KubeObject) -> dict[str, Any]:
        """Return an object as it would be sent; the owner of an owned one is known only when its pod exists."""
        labels = {
            Lifetime.shared: identity.shared_labels,
            Lifetime.kept: identity.kept_labels,
            Lifetime.owned: identity.owned_labels,
        }[item.lifetime]()
        return bodies.assemble(item, identity.namespace, labels)

    async def _ensure(self, identity: ServerIdentity, item: KubeObject) -> None:
        """Make a shared or kept object unless it is remembered."""
        key = Key(identity.namespace, item.kind, item.name)
        if item.lifetime is Lifetime.shared:
            labels, token = identity.shared_labels(), "shared"
        else:
            labels = identity.kept_labels()
            token = "\0".join(sorted(labels.values()))

        async def make() -> None:
            body = bodies.assemble(item, identity.namespace, labels)

            def judge(found: Mapping[str, Any]) -> Verdict:
                if found["metadata"].get("deletionTimestamp"):
                    return "wait"
                if item.lifetime is Lifetime.shared:
                    acceptable = bodies.is_same_shared(found, body)
                else:
                    acceptable = bodies.is_kept_for(found, identity, self.policy.adopt_unlabelled_claims)
                if not acceptable:
                    raise _taken(item.kind, identity, item.name, item.field)
                return "keep"

            # Quota is checked before the name: what exists already must not fail because the quota is used up.
            await self._obtain(kind_of(item.api_version, item.kind), identity, body, judge, read_on_403=True)

        await self.memory.ensure(key, token, make)

    async def _attach_one(self, identity: ServerIdentity, item: KubeObject, pod_name: str, pod_uid: str) -> None:
        body = bodies.assemble(item, identity.namespace, identity.owned_labels(), owner=(pod_name, pod_uid))

        def judge(found: Mapping[str, Any]) -> Verdict:
            # KubeSpawner's own Secrets and Services have no labels of ours; a claim may hold somebody's data.
            is_claim = item.kind == "PersistentVolumeClaim"
            owner = identity.owns(labels_of(found)) if is_claim else identity.owns_pod(found)
            if owner == "foreign":
                raise _taken(item.kind, identity, item.name, item.field)
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
        """Create an object, or have `judge` decide about the one that holds its name."""
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
                # After an attempt without an answer even a refusal may mean that the object is there: it may be our
                # own object that has used up the quota.
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
        """Wait until exactly this object is gone; with `remove`, ask for it."""
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
                # Its node does not answer. KubeSpawner does this at once; here the node has had its time.
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


def _taken(kind: str, identity: ServerIdentity, name: str, field: str | None = None) -> ClusterError:
    return ClusterError(
        f"{kind} {identity.namespace}/{name} exists and does not belong to this server; it was left alone",
        reason="conflict",
        blame="admin",
        user_message="Something else already has the name of your server. Please tell your administrator.",
        profile=identity.profile or None,
        field=field,
        hint="Its labels do not name this hub and server. Delete or rename it, if nobody needs it.",
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
    """Await all; when some fail, let the others end and raise the first failure."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
