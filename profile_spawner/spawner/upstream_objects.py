"""Creates KubeSpawner's own objects besides the pod: namespace, claim, and the Secret and Service of `internal_ssl`.

KubeSpawner deletes or reuses any object with the right name, and logs whole manifests. Here the labels and the UID
decide, each step can be repeated, and an error says who has to act.
"""

from __future__ import annotations

from typing import Any

from kubespawner.objects import make_namespace

from profile_spawner.errors import ClusterError
from profile_spawner.kube.failures import CALL_ERRORS, KubeFailure, classify
from profile_spawner.policy.kinds import BY_KIND, plain, resource_path
from profile_spawner.profiles.resources import KubeObject, Lifetime

__all__ = ["UpstreamObjectsMixin"]

_USER = "hub.jupyter.org/username"


class UpstreamObjectsMixin:
    """The part of `ProfileSpawner` that makes and removes KubeSpawner's own objects."""

    _pod_uid: str
    _begin_writing: Any

    async def _ensure_namespace(self: Any) -> None:
        """Make the user's namespace, unless it exists."""
        await self._begin_writing(first=True)
        labels = self._expand_all(self.user_namespace_labels)
        annotations = self._expand_all(self.user_namespace_annotations)
        body = self._as_json(make_namespace(self.namespace, labels=labels, annotations=annotations))
        what = f"creating Namespace {self.namespace}"
        try:
            await self._cluster.transport.call("POST", "/api/v1/namespaces", what=what, body=body)
        except KubeFailure as e:
            if not e.already_exists:
                raise self._answer_to(e) from None

    async def _make_create_pvc_request(self: Any, pvc: Any, request_timeout: float) -> bool:
        await self._begin_writing(first=True)
        try:
            return bool(await super()._make_create_pvc_request(pvc, request_timeout))  # type: ignore[misc]
        except CALL_ERRORS as e:
            return bool(self._try_again(e, f"creating PersistentVolumeClaim {self.namespace}/{pvc.metadata.name}"))

    async def _make_delete_pvc_request(self: Any, pvc_name: str, request_timeout: float) -> bool:
        """Delete the user's claim, unless it belongs to another user."""
        del request_timeout
        path = resource_path(BY_KIND["PersistentVolumeClaim"], self.namespace, pvc_name)
        what = f"PersistentVolumeClaim {self.namespace}/{pvc_name}"
        transport = self._cluster.transport
        found = await transport.get_or_none(path, what=what)
        if found is None:
            return True
        owner = (found["metadata"].get("annotations") or {}).get(_USER)
        if owner != self.user.name:
            self.log.warning("%s is not known to be of %s; it is left alone", what, self._log_name)
            return True
        self.log.info("Deleting %s", what)
        await transport.delete(path, what=what, uid=found["metadata"]["uid"])
        return True

    async def _ensure_not_exists(self: Any, kind: str, name: str) -> bool:
        """Leave it to the creation: what is in the way is judged there, by its labels and not by its name."""
        del kind, name
        return True

    async def _make_create_resource_request(self: Any, kind: str, manifest: Any) -> bool:
        """Make the Secret or the Service of `internal_ssl` or `services_enabled`, owned by the pod of this start."""
        body = self._as_json(manifest)
        metadata = body["metadata"]
        # KubeSpawner takes the UID of whatever pod its reflector shows, which may still be an earlier one.
        owners = metadata.pop("ownerReferences", None) or ()
        uid = self._pod_uid or next((owner["uid"] for owner in owners), "")
        name = metadata.pop("name")
        item = KubeObject("v1", kind.capitalize(), name, Lifetime.owned, "the hub's configuration", body)
        try:
            await self._cluster.attach(self._planned()[0], [item], self.pod_name, uid)
        except ClusterError as e:
            # Not chained: the API server's error may contain the manifest.
            raise self._answer_to(e) from None
        return True

    async def delete_forever(self: Any) -> None:
        """Delete the user's persistent objects if the user (not only a server) is deleted and `delete_pvc` is on."""
        await super().delete_forever()  # type: ignore[misc]
        if self.delete_pvc and not self.name and self.profiles.has_sources:
            deleted = await self._cluster.delete_kept(self._identity())
            if deleted:
                self.log.info("Deleted %d volume claims of %s", deleted, self._log_name)

    def _as_json(self: Any, model: Any) -> dict[str, Any]:
        found: dict[str, Any] = plain(self.api.api_client.sanitize_for_serialization(model))
        return found

    def _try_again(self: Any, exc: Exception, what: str) -> bool:
        """Return false, which has KubeSpawner try again, where that may help.

        Raises:
            tornado.web.HTTPError: where it cannot.
        """
        failure = classify(exc, what=what)
        if isinstance(failure, KubeFailure) and failure.retryable:
            self.log.warning("%s", failure)
            return False
        raise self._answer_to(failure) from None
