"""Events about pods, as `kubectl describe` and the hub's progress bar show them."""

from __future__ import annotations

import asyncio
import logging
import uuid

from .apiclient import ApiClient, ApiError, Json
from .defaults import now

__all__ = ["EventRecorder"]

log = logging.getLogger(__name__)


class EventRecorder:
    """Writes events in the background, those of one pod in their order.

    Args:
        client: The client.
        host: The node's name.
    """

    def __init__(self, client: ApiClient, host: str) -> None:
        self._client = client
        self._host = host
        self._last: dict[str, asyncio.Task[None]] = {}

    def record(
        self,
        pod: Json,
        reason: str,
        message: str,
        *,
        warning: bool = False,
        component: str = "kubelet",
        container: str = "",
    ) -> None:
        """Write an event about `pod`, or about its `container`."""
        metadata = pod["metadata"]
        uid = metadata["uid"]
        involved = {key: metadata[key] for key in ("name", "namespace", "uid")}
        if container:
            init = container in [c["name"] for c in pod["spec"].get("initContainers") or []]
            involved["fieldPath"] = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        time = now()
        body = {
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", **involved},
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
            "source": {"component": component, "host": self._host},
        }
        task = asyncio.create_task(self._write(self._last.get(uid), body))
        self._last[uid] = task
        task.add_done_callback(lambda done: self._last.pop(uid) if self._last.get(uid) is done else None)

    async def stop(self) -> None:
        """Drop what is not written yet."""
        for task in (tasks := list(self._last.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, before: asyncio.Task[None] | None, body: Json) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await self._client.call("POST", f"/api/v1/namespaces/{body['metadata']['namespace']}/events", body)
        except ApiError as error:
            # The namespace may be going away: events are best effort.
            log.debug("An event was not written: %s", error)
