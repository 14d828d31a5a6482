"""Gives pending pods a node, or says like a real scheduler why none fits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from profile_spawner.errors import ProfileSpawnerError

from .apiclient import STRATEGIC_PATCH, ApiClient, ApiError, Json
from .events import EventRecorder, timestamp
from .quantities import parse_quantity

__all__ = ["NodeSpec", "Scheduler", "claims_of", "is_terminal", "pod_requests", "why_not"]

log = logging.getLogger(__name__)

ClaimReader = Callable[[str, str], Awaitable[Json | None]]
Amounts = dict[str, Fraction]


@dataclass(frozen=True)
class NodeSpec:
    """What the one node of a local cluster pretends to have.

    Attributes:
        name: The node's name.
        cpu: CPU cores, as a quantity.
        memory: Memory, as a quantity.
        gpus: How many GPUs.
        gpu_resource: The resource name under which pods ask for GPUs.
        labels: Labels beside the well-known ones, for node selectors.
        pods: How many pods fit.
        taints: Taints as in a Node object.
        storage: Ephemeral storage, as a quantity.
        extra: Further extended resources, name to quantity.
    """

    name: str = "local"
    cpu: str | int | float = 8
    memory: str | int = "32Gi"
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    labels: Mapping[str, str] = field(default_factory=dict)
    pods: int = 10_000
    taints: Sequence[Mapping[str, str]] = ()
    storage: str = "100Gi"
    extra: Mapping[str, str | int] = field(default_factory=dict)

    def allocatable(self) -> dict[str, str]:
        """Return what pods can ask for, resource name to quantity.

        Raises:
            ProfileSpawnerError: An amount is no quantity.
        """
        amounts = {
            "cpu": self.cpu,
            "memory": self.memory,
            "ephemeral-storage": self.storage,
            "pods": self.pods,
            **({self.gpu_resource: self.gpus} if self.gpus else {}),
            **self.extra,
        }
        for name, amount in amounts.items():
            try:
                parse_quantity(amount)
            except ValueError as error:
                raise ProfileSpawnerError(
                    "this is no quantity",
                    field=f"{name} of node {self.name}",
                    value=amount,
                    expected="a number with a unit, such as 500m, 8 or 32Gi",
                ) from error
        return {name: str(amount) for name, amount in amounts.items()}


def is_terminal(pod: Json) -> bool:
    """Whether all containers of `pod` have ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def claims_of(pod: Json) -> list[str]:
    """Return the names of the PersistentVolumeClaims that `pod` mounts."""
    volumes = pod["spec"].get("volumes") or []
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")]


def pod_requests(pod: Json) -> Amounts:
    """Return what `pod` takes from its node.

    That is the sum over its containers, or the largest of its init containers where that is more. A limit counts as
    a request where there is none, as the API server writes it.
    """
    spec = pod["spec"]
    total: Amounts = {"pods": Fraction(1)}
    for container in spec["containers"]:
        _add(total, _requests(container))
    sidecars: Amounts = {}
    for container in spec.get("initContainers") or []:
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            _add(total, own)
            continue
        for name, amount in own.items():
            total[name] = max(total.get(name, Fraction(0)), amount + sidecars.get(name, Fraction(0)))
    _add(total, {name: parse_quantity(amount) for name, amount in (spec.get("overhead") or {}).items()})
    return total


def _requests(container: Json) -> Amounts:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(amount) for name, amount in amounts.items()}


def _add(total: Amounts, amounts: Mapping[str, Fraction]) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, Fraction(0)) + amount


def why_not(pod: Json, requests: Amounts, node: Json, used: Amounts) -> tuple[list[str], bool]:
    """Return the reasons why `pod` does not fit on `node`, and whether evicting other pods could help.

    Args:
        pod: The pod.
        requests: What it takes, from `pod_requests()`.
        node: The Node object.
        used: What the node's other pods take.

    Returns:
        The reasons in the scheduler's words, empty when it fits.
    """
    spec = node.get("spec", {})
    if spec.get("unschedulable"):
        return ["node(s) were unschedulable"], False
    for taint in spec.get("taints") or []:
        # A new node gets this one until some controller takes it away; where there is none, it would stay.
        if taint["key"] == "node.kubernetes.io/not-ready":
            continue
        if taint.get("effect") != "PreferNoSchedule" and not _tolerated(pod, taint):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"], False
    if not _selected(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"], False
    have = node.get("status", {}).get("allocatable", {})
    short = [
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, amount in requests.items()
        if amount and used.get(name, Fraction(0)) + amount > parse_quantity(have.get(name, 0))
    ]
    return sorted(short), True


def _tolerated(pod: Json, taint: Mapping[str, str]) -> bool:
    for toleration in pod["spec"].get("tolerations") or []:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        exists = toleration.get("operator") == "Exists"
        if toleration.get("key") in (None, ""):
            if exists:
                return True
        elif toleration["key"] == taint["key"] and (exists or toleration.get("value", "") == taint.get("value", "")):
            return True
    return False


def _selected(pod: Json, node: Json) -> bool:
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    names = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(_expression(labels, e) for e in term.get("matchExpressions") or [])
        and all(_expression(names, e) for e in term.get("matchFields") or [])
        for term in required["nodeSelectorTerms"]
        if term.get("matchExpressions") or term.get("matchFields")
    )


def _expression(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    operator = expression["operator"]
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    try:
        difference = int(value or "") - int(values[0])
    except (ValueError, IndexError):
        return False
    return difference > 0 if operator == "Gt" else difference < 0


def _message(reasons: Sequence[tuple[list[str], bool]]) -> str:
    """Return the text of a `FailedScheduling` event from the reasons of each node."""
    count = len(reasons)
    if not count:
        return "no nodes available to schedule pods"
    counted = Counter(reason for node, _ in reasons for reason in node)
    told = ", ".join(sorted(f"{times} {reason}" for reason, times in counted.items()))
    return f"0/{count} nodes are available: {told}. {_preemption([helps for _, helps in reasons])}"


def _preemption(helps: Sequence[bool]) -> str:
    counted = Counter(
        "No preemption victims found for incoming pod" if help_ else "Preemption is not helpful for scheduling"
        for help_ in helps
    )
    told = ", ".join(sorted(f"{times} {text}" for text, times in counted.items()))
    return f"preemption: 0/{len(helps)} nodes are available: {told}."


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
        _add(self._used.setdefault(node, {}), requests)

    def _release(self, uid: str) -> None:
        charged = self._charged.pop(uid, None)
        if charged is not None:
            node, requests = charged
            _add(self._used[node], {name: -amount for name, amount in requests.items()})
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
            message = _message(reasons)
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
            return f"0/{count} nodes are available: {what}. {_preemption([False] * count)}"
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
