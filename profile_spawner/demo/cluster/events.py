"""Events about pods, as `kubectl describe` and the hub's progress bar show them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import datetime, timezone
from typing import Any

from .apiclient import MERGE_PATCH, ApiClient, ApiError, Json

__all__ = ["EventRecorder", "timestamp"]

log = logging.getLogger(__name__)


def timestamp() -> str:
    """Return the present time as Kubernetes writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class EventRecorder:
    """Writes events in the background, those of one pod in their order.

    An event that happens again is counted up on its object, as a real cluster does.

    Args:
        client: The client.
        host: The node's name.
    """

    def __init__(self, client: ApiClient, host: str) -> None:
        self._client = client
        self._host = host
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, dict[tuple[str, str], tuple[str, int]]] = {}

    def record(
        self,
        pod: Json,
        reason: str,
        message: str,
        *,
        warning: bool = False,
        component: str = "kubelet",
        container: str | None = None,
        init: bool = False,
    ) -> None:
        """Write an event about `pod`, or about its `container`."""
        metadata = pod["metadata"]
        uid = metadata["uid"]
        involved: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": uid,
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        if container is not None:
            involved["fieldPath"] = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        seen = self._seen.setdefault(uid, {})
        name, count = seen.get((reason, message), (f"{metadata['name']}.{uuid.uuid4().hex[:16]}", 0))
        seen[reason, message] = (name, count + 1)
        now = timestamp()
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        body: Json
        if count:
            body = {"count": count + 1, "lastTimestamp": now}
            self._enqueue(uid, "PATCH", f"{path}/{name}", body, MERGE_PATCH)
            return
        source = {"component": component} if component != "kubelet" else {"component": component, "host": self._host}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": source,
            "reportingComponent": component,
            "reportingInstance": self._host if component == "kubelet" else "",
        }
        self._enqueue(uid, "POST", path, body, "application/json")

    def forget(self, uid: str) -> None:
        """Drop what is remembered about a pod that is gone."""
        self._seen.pop(uid, None)

    async def flush(self) -> None:
        """Wait until everything recorded so far is written."""
        await asyncio.gather(*self._tails.values(), return_exceptions=True)

    async def stop(self) -> None:
        """Drop what is not written yet."""
        tails = list(self._tails.values())
        for task in tails:
            task.cancel()
        await asyncio.gather(*tails, return_exceptions=True)

    def _enqueue(self, uid: str, *call: Any) -> None:
        before = self._tails.get(uid)
        task = asyncio.create_task(self._write(before, *call))
        self._tails[uid] = task

        def done(task: asyncio.Task[None]) -> None:
            if self._tails.get(uid) is task:
                del self._tails[uid]

        task.add_done_callback(done)

    async def _write(
        self, before: asyncio.Task[None] | None, method: str, path: str, body: Json, content_type: str
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await self._client.call(method, path, body, content_type=content_type)
        except ApiError as error:
            # A namespace that is going away, or an event that has expired: events are best effort.
            log.debug("An event was not written: %s", error)
