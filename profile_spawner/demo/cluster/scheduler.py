"""Assigns pending pods to nodes, or reports why no node fits, like a real scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from fractions import Fraction

from .apiclient import STRATEGIC_PATCH, ApiClient, ApiError, Json
from .events import EventRecorder, timestamp
from .fitting import Amounts, add, claims_of, is_terminal, message_for, no_preemption, pod_requests, why_not

__all__ = ["Scheduler"]

log = logging.getLogger(__name__)

ClaimReader = Callable[[str, str], Awaitable[Json | None]]


class Scheduler:
    """Binds pending pods to nodes in the order of their creation, and tries again whenever something changes.

    It is fed with pods through `pod_changed()` and does its work in one background task.

    Args:
        client: The client.
        recorder: Where events go.
        nodes: The Node objects by key; read at every attempt.
        read_claim: Returns the PersistentVolumeClaim of a namespace and name, or None.
    """

    def __init__(
        self,
        client: ApiClient,
        recorder: EventRecorder,
        nodes: Mapping[tuple[str, str], Json],
        read_claim: ClaimReader,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._nodes = nodes
        self._read_claim = read_claim
        self._pending: dict[str, Json] = {}
        self._charged: dict[str, tuple[str, Amounts]] = {}
        self._used: dict[str, Amounts] = {}
        self._told: dict[str, str] = {}
        self._unannounced: dict[str, Json] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._bindings: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to schedule in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the background tasks."""
        tasks = [*self._bindings, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Try all pending pods again soon: a node or a claim has changed."""
        if self._pending:
            self._wake.set()

    def pod_changed(self, kind: str, pod: Json) -> None:
        """Take note of an event (`ADDED`, `MODIFIED`, `DELETED`) of the watch of pods."""
        uid = pod["metadata"]["uid"]
        node = pod["spec"].get("nodeName")
        if kind == "DELETED" or is_terminal(pod):
            self._pending.pop(uid, None)
            self._told.pop(uid, None)
            self._release(uid)
        elif node:
            self._pending.pop(uid, None)
            self._told.pop(uid, None)
            self._announce(uid, node)
            self._charge(uid, node, pod)
        elif uid not in self._charged and self._is_mine(pod):
            if uid not in self._pending:
                self._wake.set()
            self._pending[uid] = pod

    @staticmethod
    def _is_mine(pod: Json) -> bool:
        spec = pod["spec"]
        return (
            spec.get("schedulerName", "default-scheduler") == "default-scheduler"
            and not spec.get("schedulingGates")
            and not pod["metadata"].get("deletionTimestamp")
        )

    def _charge(self, uid: str, node: str, pod: Json) -> None:
        before = self._charged.get(uid)
        if before is not None and before[0] == node:
            return
        self._release(uid)
        requests = pod_requests(pod)
        self._charged[uid] = (node, requests)
        add(self._used.setdefault(node, {}), requests)

    def _release(self, uid: str) -> None:
        charged = self._charged.pop(uid, None)
        if charged is not None:
            node, requests = charged
            add(self._used[node], {name: -amount for name, amount in requests.items()})
            self.wake()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                # The time-out is for what no watch tells, such as a binding that failed.
                await asyncio.wait_for(self._wake.wait(), 5.0 if self._pending else None)
            self._wake.clear()
            # Sorting is stable: pods of one second keep the order in which the watch brought them.
            for pod in sorted(self._pending.values(), key=lambda p: str(p["metadata"]["creationTimestamp"])):
                try:
                    await self._try(pod)
                except ApiError as error:
                    log.warning("Scheduling %s failed: %s", pod["metadata"]["name"], error)
                except Exception:
                    # One odd pod must not keep all others from being scheduled.
                    log.exception("Scheduling %s failed", pod["metadata"]["name"])
                    self._pending.pop(pod["metadata"]["uid"], None)

    async def _try(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        message = await self._missing_claim(pod)
        if uid not in self._pending:
            return
        if message is None:
            requests = pod_requests(pod)
            reasons = []
            for _, name in sorted(self._nodes, key=self._load):
                node = self._nodes["", name]
                why = why_not(pod, requests, node, self._used.get(name, {}))
                if not why[0]:
                    self._bind(pod, name)
                    return
                reasons.append(why)
            message = message_for(reasons)
        if self._told.get(uid) != message:
            self._told[uid] = message
            await self._tell(pod, message)

    def _load(self, key: tuple[str, str]) -> Fraction:
        return self._used.get(key[1], {}).get("pods", Fraction(0))

    async def _missing_claim(self, pod: Json) -> str | None:
        for name in claims_of(pod):
            claim = await self._read_claim(pod["metadata"]["namespace"], name)
            count = len(self._nodes)
            if claim is None:
                what = f'persistentvolumeclaim "{name}" not found'
            elif claim["metadata"].get("deletionTimestamp"):
                what = f'persistentvolumeclaim "{name}" is being deleted'
            else:
                continue
            return f"0/{count} nodes are available: {what}. {no_preemption([False] * count)}"
        return None

    async def _tell(self, pod: Json, message: str) -> None:
        self._recorder.record(pod, "FailedScheduling", message, warning=True, component="default-scheduler")
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": timestamp(),
        }
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}
        with contextlib.suppress(ApiError):  # The pod is gone: the watch will say so.
            await self._client.call("PATCH", f"{_path(pod)}/status", body, content_type=STRATEGIC_PATCH)

    def _bind(self, pod: Json, node: str) -> None:
        """Bind `pod` in the background; its share of the node counts at once."""
        uid = pod["metadata"]["uid"]
        self._pending.pop(uid, None)
        self._charge(uid, node, pod)
        self._unannounced[uid] = pod
        task = asyncio.create_task(self._post_binding(pod, node))
        self._bindings.add(task)
        task.add_done_callback(self._bindings.discard)

    async def _post_binding(self, pod: Json, node: str) -> None:
        metadata = pod["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.call("POST", f"{_path(pod)}/binding", body)
        except ApiError as error:
            # 404: deleted meanwhile. 409: bound, deleted or replaced meanwhile; what counts comes with the watch.
            self._unannounced.pop(metadata["uid"], None)
            self._release(metadata["uid"])
            if error.status not in (404, 409):
                log.warning("Binding %s failed: %s", metadata["name"], error)
                self._pending[metadata["uid"]] = pod
            return
        self._announce(metadata["uid"], node)

    def _announce(self, uid: str, node: str) -> None:
        """Write the `Scheduled` event once.

        The watch may be quicker than the answer to the binding: whichever comes first writes the event, so that it
        comes before those of the kubelet.
        """
        pod = self._unannounced.pop(uid, None)
        if pod is not None:
            metadata = pod["metadata"]
            message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
            self._recorder.record(pod, "Scheduled", message, component="default-scheduler")


def _path(pod: Json) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
