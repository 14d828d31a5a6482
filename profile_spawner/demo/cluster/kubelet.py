"""The node of a local cluster: registers itself, schedules pods and runs them on this machine.

It talks to its API server over HTTP only, so that a real `kube-apiserver` does as well as the local one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .apiclient import MERGE_PATCH, ApiClient, ApiError, Informer, Json, key_of
from .containers import Container, PodHost, Runtime
from .defaults import now
from .pods import PodWorker
from .processes import choose_mode
from .sandbox import Mode, Sandbox
from .scheduler import Scheduler
from .stubs import raise_file_limit

__all__ = ["Kubelet", "NodeSpec"]

_STOP_GRACE = 5.0
"""Seconds that pods get when the node stops."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeSpec:
    """The simulated node of a local cluster.

    Attributes:
        name: The node's name.
        cpu: CPU cores, as a quantity.
        memory: Memory, as a quantity.
        gpus: How many GPUs.
        labels: Further labels, for node selectors.
        pods: How many pods fit.
    """

    name: str = "local"
    cpu: str | float = 8
    memory: str = "32Gi"
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    pods: int = 10_000


class Kubelet:
    """One node with its scheduler.

    Args:
        url: The address of the API server.
        token: The bearer token of an administrator.
        state_dir: The folder for everything that is written; data of PersistentVolumeClaims stays in it.
        node: Name, labels and capacity of the node.
        runtime: `process` runs containers as processes; `stub` lets each pod answer like an idle server, without one.
        ca: The file of the certificate authority of an `https` address.
        namespaces: The namespaces whose pods are run; empty for all.
        sandbox: How processes see the machine; None takes the best mode that works, see `sandbox.MODES`.
        backoff: Seconds before a container's second restart; doubled for each further one.
        environment: Variables of every container; they override those of the pod.
    """

    def __init__(
        self,
        url: str,
        token: str,
        state_dir: str | Path,
        *,
        node: NodeSpec | None = None,
        runtime: Runtime = "process",
        ca: str | Path | None = None,
        namespaces: Sequence[str] = (),
        sandbox: Mode | None = None,
        backoff: float = 10.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.node = node or NodeSpec()
        self.state_dir = Path(state_dir).absolute()
        self.runtime: Runtime = runtime
        self._wanted_sandbox = sandbox
        self._namespaces = namespaces
        client = ApiClient(url, token, ca=ca)
        self._host = PodHost(client, self.state_dir, self.node.name, backoff, dict(environment or {}))
        self._scheduler = Scheduler(client, self._host.recorder, self._host.cache, self.node.name)
        self._informers: list[Informer] = []
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def sandbox_mode(self) -> Mode | None:
        """The mode in which processes run; None before `start()` and in the `stub` runtime."""
        return self._host.sandbox.mode if self._host.sandbox else None

    async def start(self) -> None:
        """Register the node and begin to run pods.

        Raises:
            LocalClusterError: The API server refuses, or the sandbox mode asked for does not work here.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.state_dir.chmod(0o700)  # Secrets of pods lie in it.
        try:
            await self._host.volumes.remove("pods")
            if self.runtime == "stub":
                raise_file_limit()
            else:
                mode = await choose_mode(self.state_dir, self._wanted_sandbox)
                self._host.sandbox = Sandbox(mode, self.state_dir)
            await self._host.client.start()
            if await self._host.client.get(f"/api/v1/nodes/{self.node.name}") is None:
                await self._host.client.call("POST", "/api/v1/nodes", _node_object(self.node))
            await self._follow()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every pod's processes, gracefully first, and leave nothing behind but the state folder.

        The objects in the cluster stay as they are.
        """
        for informer in self._informers:
            await informer.stop()
        await self._scheduler.stop()
        for worker in self._workers.values():
            worker.shut_down(_STOP_GRACE)
        # A call to a server that does not answer must not hold this up.
        await self._host.client.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._host.recorder.stop()
        self._host.addresses.close()

    def log_path(self, namespace: str, pod: str, container: str) -> Path | None:
        """Return the file with the output of a container, None when there is none."""
        worker = self._worker(namespace, pod)
        return worker.log_path(container) if worker else None

    def running(self, namespace: str, pod: str) -> dict[str, Container]:
        """Return the running containers of a pod by name, so that tests can make them fail."""
        worker = self._worker(namespace, pod)
        return dict(worker.running) if worker else {}

    def _worker(self, namespace: str, pod: str) -> PodWorker | None:
        # An older pod of the same name may still be stopping.
        return next((w for w in reversed(self._workers.values()) if w.key == (namespace, pod)), None)

    # Starting up

    async def _follow(self) -> None:
        """Begin to follow the server; what pods refer to is known before the first pod is."""
        everywhere = [f"namespaces/{name}/" for name in self._namespaces] or [""]
        # A change of a ConfigMap or Secret only wakes who waits for it.
        await self._inform("configmaps", everywhere, lambda *_: None)
        await self._inform("secrets", everywhere, lambda *_: None)
        await self._inform("persistentvolumeclaims", everywhere, self._claim_changed)
        await self._inform("nodes", [""], lambda *_: self._scheduler.wake(), f"metadata.name={self.node.name}")
        await self._inform("pods", everywhere, self._pod_changed)
        # Only now: the node's load is known.
        self._scheduler.start()

    async def _inform(
        self, plural: str, scopes: Sequence[str], handler: Callable[[str, Json], None], fields: str = ""
    ) -> None:
        def handle(change: str, obj: Json) -> None:
            self._host.cache.notify(plural, key_of(obj))
            handler(change, obj)

        for scope in scopes:
            path, query = f"/api/v1/{scope}{plural}", {"fieldSelector": fields}
            informer = Informer(self._host.client, path, self._host.cache.objects[plural], handle, query)
            self._informers.append(informer)
            await informer.start()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the server reports

    def _pod_changed(self, change: str, pod: Json) -> None:
        self._scheduler.pod_changed(change, pod)
        if pod["spec"].get("nodeName") != self.node.name:
            return
        worker = self._workers.get(pod["metadata"]["uid"])
        if change == "DELETED":
            if worker is not None:
                worker.vanish()
            return
        if worker is None:
            worker = self._workers[pod["metadata"]["uid"]] = PodWorker(self._host, pod)
            self._do(self._live(worker))
        worker.update(pod)

    async def _live(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("Pod %s/%s broke", *worker.key)
        finally:
            del self._workers[worker.uid]

    def _claim_changed(self, change: str, claim: Json) -> None:
        self._scheduler.wake()
        if change == "DELETED":
            self._do(self._host.volumes.remove("volumes", *key_of(claim)))
        elif claim.get("status", {}).get("phase") != "Bound":
            self._do(self._bind(claim))

    async def _bind(self, claim: Json) -> None:
        """Give a claim its volume: a folder that is made when a pod first mounts it."""
        namespace, name = key_of(claim)
        spec = claim["spec"]
        capacity = {"storage": spec["resources"]["requests"]["storage"]}
        status = {"phase": "Bound", "accessModes": spec.get("accessModes", []), "capacity": capacity}
        body = {"metadata": {"uid": claim["metadata"]["uid"]}, "status": status}
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}/status"
        try:
            await self._host.client.call("PATCH", path, body, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status not in (404, 409):
                log.warning("The claim %s/%s was not bound: %s", namespace, name, error)


def _node_object(node: NodeSpec) -> Json:
    """Return the Node object for `node`, with its status."""
    labels = {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", **node.labels}
    amounts = {"cpu": str(node.cpu), "memory": node.memory, "ephemeral-storage": "100Gi", "pods": str(node.pods)}
    if node.gpus:
        amounts["nvidia.com/gpu"] = str(node.gpus)
    times = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
    return {
        "metadata": {"name": node.name, "labels": labels},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", **times}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": node.name}],
        },
    }
