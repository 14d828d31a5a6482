"""Assigns pending pods to the node where there is room, and reports the others, like a real scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from .apiclient import MERGE_PATCH, ApiClient, ApiError, Json, KnownObjects
from .defaults import now
from .events import EventRecorder

__all__ = ["Amounts", "Scheduler", "is_terminal", "pod_requests", "why_not"]

Amounts: TypeAlias = dict[str, Fraction]
"""Resource name to amount."""

log = logging.getLogger(__name__)

_QUANTITY = re.compile(r"([+-]?[\d.]{1,40}(?:[eE][+-]?\d{1,2})?)([KMGTPE]i|[numkMGTPE])?", re.ASCII)
_FACTORS = {
    "": Fraction(1),
    **{unit: Fraction(10) ** power for unit, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=4096)
def _parse_quantity(text: str | float) -> Fraction:
    """Return the value of a quantity (`500m`, `4Gi`) as an exact number; `ValueError` when it is not one."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{str(text)[:64]!r} is not a quantity such as 500m, 2, 1.5G or 4Gi")
    return Fraction(match[1]) * _FACTORS[match[2] or ""]


def is_terminal(pod: Json) -> bool:
    """Whether all containers of `pod` have ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def pod_requests(pod: Json) -> Amounts:
    """Return what `pod` takes from its node.

    That is the sum over its containers, or the largest of its init containers where that is more. A limit counts as
    a request where there is none, as the API server writes it.
    """
    total: Amounts = {"pods": Fraction(1)}
    for container in pod["spec"]["containers"]:
        _add(total, _requests(container))
    for container in pod["spec"].get("initContainers") or []:
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, Fraction(0)), amount)
    return total


def _requests(container: Json) -> Amounts:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: _parse_quantity(amount) for name, amount in amounts.items()}


def _add(total: Amounts, amounts: Mapping[str, Fraction], sign: int = 1) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, Fraction(0)) + sign * amount


def why_not(pod: Json, requests: Amounts, node: Json, used: Amounts) -> str:
    """Return the reasons why `pod` does not fit on `node`, in the scheduler's words; empty when it fits.

    Args:
        pod: The pod.
        requests: What it takes, from `pod_requests()`.
        node: The Node object.
        used: What the node's other pods take.
    """
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return "1 node(s) didn't match Pod's node affinity/selector"
    have = node["status"]["allocatable"]
    return ", ".join(
        "1 Too many pods" if name == "pods" else f"1 Insufficient {name}"
        for name, amount in sorted(requests.items())
        if amount and used.get(name, Fraction(0)) + amount > _parse_quantity(have.get(name, 0))
    )


class Scheduler:
    """Binds pending pods to one node in the order of their creation, and tries again whenever something changes.

    It is fed with pods through `pod_changed()` and does its work in one background task.

    Args:
        client: The client.
        recorder: Where events go.
        cache: Has the Node object, and reads claims.
        node: The node's name.
    """

    def __init__(self, client: ApiClient, recorder: EventRecorder, cache: KnownObjects, node: str) -> None:
        self._client = client
        self._recorder = recorder
        self._cache = cache
        self._node = node
        self._pending: dict[str, Json] = {}
        self._charged: dict[str, Amounts] = {}
        self._used: Amounts = {}
        self._reported: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to schedule in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Try all pending pods again soon: the node or a claim has changed."""
        if self._pending:
            self._wake.set()

    def pod_changed(self, change: str, pod: Json) -> None:
        """Take note of an event (`ADDED`, `MODIFIED`, `DELETED`) of the watch of pods."""
        uid = pod["metadata"]["uid"]
        node = pod["spec"].get("nodeName")
        waits = not (change == "DELETED" or is_terminal(pod) or node)
        if waits and not pod["metadata"].get("deletionTimestamp"):
            if uid not in self._charged and pod["spec"].get("schedulerName") in (None, "default-scheduler"):
                if uid not in self._pending:
                    self._wake.set()
                self._pending[uid] = pod
            return
        self._pending.pop(uid, None)
        self._reported.pop(uid, None)
        if change == "DELETED" or is_terminal(pod):
            self._release(uid)
        elif node == self._node and uid not in self._charged:
            self._charge(uid, pod_requests(pod))

    def _charge(self, uid: str, requests: Amounts) -> None:
        self._charged[uid] = requests
        _add(self._used, requests)

    def _release(self, uid: str) -> None:
        _add(self._used, self._charged.pop(uid, {}), -1)
        self.wake()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                # The time-out is for what no watch tells, such as a binding that failed.
                await asyncio.wait_for(self._wake.wait(), 5.0 if self._pending else None)
            self._wake.clear()
            # Sorting is stable: pods of one second keep the order in which the watch brought them.
            pods = sorted(self._pending.values(), key=lambda p: str(p["metadata"]["creationTimestamp"]))
            results = await asyncio.gather(*map(self._try, pods), return_exceptions=True)
            for pod, result in zip(pods, results, strict=True):
                if isinstance(result, Exception):
                    log.warning("Scheduling %s failed: %r", pod["metadata"]["name"], result)

    async def _try(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        requests = pod_requests(pod)
        reason = await self._missing_claim(pod)
        if not reason:
            reason = why_not(pod, requests, self._cache.objects["nodes"]["", self._node], self._used)
        if uid not in self._pending:
            return
        if not reason:
            await self._bind(pod, requests)
        elif self._reported.get(uid) != reason:
            self._reported[uid] = reason
            await self._report(pod, f"0/1 nodes are available: {reason}.")

    async def _missing_claim(self, pod: Json) -> str:
        for volume in pod["spec"].get("volumes") or []:
            if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
                claim = await self._cache.read("persistentvolumeclaims", pod["metadata"]["namespace"], name)
                if claim is None:
                    return f'persistentvolumeclaim "{name}" not found'
        return ""

    async def _report(self, pod: Json, message: str) -> None:
        self._recorder.record(pod, "FailedScheduling", message, warning=True, component="default-scheduler")
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        status = {"conditions": [{**condition, "lastTransitionTime": now()}]}
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        with contextlib.suppress(ApiError):  # The pod is gone: the watch will say so.
            await self._client.call("PATCH", f"{_path(pod)}/status", body, content_type=MERGE_PATCH)

    async def _bind(self, pod: Json, requests: Amounts) -> None:
        """Bind `pod`; its share of the node counts at once."""
        metadata = pod["metadata"]
        self._pending.pop(metadata["uid"])
        self._charge(metadata["uid"], requests)
        message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {self._node}"
        self._recorder.record(pod, "Scheduled", message, component="default-scheduler")
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        body = {"metadata": {"name": metadata["name"], "uid": metadata["uid"]}, "target": target}
        try:
            await self._client.call("POST", f"{_path(pod)}/binding", body)
        except ApiError as error:
            # 404: deleted meanwhile. 409: bound, deleted or replaced meanwhile; what counts comes with the watch.
            self._release(metadata["uid"])
            if error.status not in (404, 409):
                self._pending[metadata["uid"]] = pod
                raise


def _path(pod: Json) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
