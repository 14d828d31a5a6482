"""The node of a local cluster: registers itself, schedules pods and runs them on this machine.

It talks to its API server over HTTP only, so that a real `kube-apiserver` does as well as the local one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import ssl
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from .addresses import AddressPool
from .apiclient import MERGE_PATCH, STRATEGIC_PATCH, ApiClient, ApiError, Informer, Json, Key, key_of
from .containers import PodHost, Runtime
from .events import EventRecorder, timestamp
from .failures import LocalClusterError, shorten
from .fitting import claims_of
from .nodes import NodeSpec, node_object, node_status
from .pods import PodWorker
from .processes import Container
from .sandbox import Mode, Sandbox, choose_mode
from .scheduler import Scheduler
from .stubs import raise_file_limit
from .volumes import VolumeStore

__all__ = ["Kubelet", "NodeSpec"]

HEARTBEAT = 20.0
"""Seconds between two signs of life of the node; a real control plane gives it up after 40."""

log = logging.getLogger(__name__)


class _Reader:
    """Reads the objects that pods refer to.

    A process gets what the server has now. A stub only has to know that the object exists, which the cache of the
    watch knows without a call.
    """

    def __init__(self, client: ApiClient, informers: dict[str, Informer], *, cached: bool) -> None:
        self._client = client
        self._informers = informers
        self._cached = cached

    async def _read(self, kind: str, namespace: str, name: str, *, cached: bool) -> Json | None:
        known = self._informers[kind].objects.get((namespace, name))
        if cached and known is not None:
            return known
        return await self._client.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")

    async def config_map(self, namespace: str, name: str) -> Json | None:
        """Return a ConfigMap."""
        return await self._read("configmaps", namespace, name, cached=self._cached)

    async def secret(self, namespace: str, name: str) -> Json | None:
        """Return a Secret."""
        return await self._read("secrets", namespace, name, cached=self._cached)

    async def claim(self, namespace: str, name: str) -> Json | None:
        """Return a PersistentVolumeClaim."""
        return await self._read("persistentvolumeclaims", namespace, name, cached=True)

    async def service_account_token(self, namespace: str, name: str) -> str:
        """Return a token of a ServiceAccount, an opaque one where the server gives none."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        with contextlib.suppress(ApiError, KeyError):
            answer = await self._client.call("POST", path, {"kind": "TokenRequest", "spec": {}})
            return str(answer["status"]["token"])
        return f"local.{uuid.uuid4().hex}"


class Kubelet:
    """One node with its scheduler.

    Args:
        url: The address of the API server.
        token: The bearer token of an administrator.
        state_dir: The folder for everything that is written; data of PersistentVolumeClaims stays in it.
        node: What the node pretends to have.
        runtime: `process` runs containers as processes; `stub` lets each pod answer like an idle server, without one.
        ca: The certificate authority of an `https` address: a file or a ready context.
        namespaces: The namespaces whose pods are run; None for all.
        sandbox: How processes see the machine; None takes the best mode that works, see `sandbox.MODES`.
        default_command: What a container runs that names no command.
        backoff: Seconds before a container's second restart; doubled for each further one.
        stop_grace: Seconds that pods get at `stop()`.
        unpullable: Images of which a pull fails, to rehearse that.
        environment: Variables of every container, whatever its pod says: all images are the same here.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        state_dir: str | Path,
        *,
        node: NodeSpec | None = None,
        runtime: Runtime = "process",
        ca: str | Path | ssl.SSLContext | None = None,
        namespaces: Sequence[str] | None = None,
        sandbox: Mode | None = None,
        default_command: Sequence[str] = ("jupyterhub-singleuser",),
        backoff: float = 10.0,
        stop_grace: float = 5.0,
        unpullable: Collection[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.node = node or NodeSpec()
        self.state_dir = Path(state_dir).absolute()
        self.runtime: Runtime = runtime
        self._wanted_sandbox = sandbox
        self._stop_grace = stop_grace
        self._since = timestamp()
        self._namespaces = namespaces
        self._client = ApiClient(url, token, ca=ca)
        self._recorder = EventRecorder(self._client, self.node.name)
        self._informers: dict[str, Informer] = {}
        self._reader = _Reader(self._client, self._informers, cached=runtime == "stub")
        self._volumes = VolumeStore(self.state_dir, self._reader)
        self.host = PodHost(
            client=self._client,
            recorder=self._recorder,
            reader=self._reader,
            volumes=self._volumes,
            addresses=AddressPool(),
            node=self.node.name,
            allocatable=self.node.allocatable(),
            runtime=runtime,
            default_command=tuple(default_command),
            backoff=backoff,
            unpullable=frozenset(unpullable),
            environment=dict(environment or {}),
            informers=self._informers,
        )
        self._scheduler: Scheduler | None = None
        self._workers: dict[str, PodWorker] = {}
        self._by_name: dict[Key, PodWorker] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._doomed_claims: set[Key] = set()
        self._lock: int | None = None

    @property
    def sandbox_mode(self) -> Mode | None:
        """The mode in which processes run; None before `start()` and in the `stub` runtime."""
        return self.host.sandbox.mode if self.host.sandbox else None

    async def start(self) -> None:
        """Register the node and begin to run pods.

        Raises:
            LocalClusterError: Another kubelet uses the state folder, or the API server refuses.
            LocalClusterError: The sandbox mode asked for does not work here.
        """
        self._lock_state_dir()
        try:
            await self._volumes.clear()
            if self.runtime == "stub":
                raise_file_limit()
            else:
                mode = await choose_mode(self.state_dir, self._wanted_sandbox)
                self.host.sandbox = Sandbox(mode, self.state_dir)
                self._write_jupyter_config()
            await self._client.start()
            await self._register()
            await self._follow()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every pod's processes, gracefully first, and leave nothing behind but the state folder.

        The objects in the cluster stay as they are.
        """
        for informer in self._informers.values():
            await informer.stop()
        if self._scheduler is not None:
            await self._scheduler.stop()
        for worker in list(self._workers.values()):
            worker.shut_down(self._stop_grace)
        # A call to a server that does not answer must not hold this up.
        await self._client.close()
        await asyncio.gather(*self._lives.values(), return_exceptions=True)
        for chore in list(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._recorder.stop()
        self.host.addresses.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log_path(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> Path | None:
        """Return the file with the output of a container, None when there is none.

        Args:
            namespace: The pod's namespace.
            pod: The pod's name.
            container: The container's name.
            previous: Whether the run before the last restart is meant.
        """
        worker = self._by_name.get((namespace, pod))
        return worker.log_path(container, previous=previous) if worker else None

    def default_container(self, namespace: str, pod: str) -> str:
        """Return the name of a pod's first container, empty when the pod is not here."""
        worker = self._by_name.get((namespace, pod))
        return str(worker.pod["spec"]["containers"][0]["name"]) if worker else ""

    def running(self, namespace: str, pod: str) -> dict[str, Container]:
        """Return the running containers of a pod by name, so that tests can make them fail."""
        worker = self._by_name.get((namespace, pod))
        return dict(worker.running) if worker else {}

    # Starting up

    def _lock_state_dir(self) -> None:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.state_dir.chmod(0o700)  # Secrets of pods lie in it.
        self._lock = os.open(self.state_dir / "kubelet.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise LocalClusterError(
                f"another local cluster uses this state folder ({self.state_dir}). Stop it, or choose another"
            ) from error

    def _write_jupyter_config(self) -> None:
        """Let Jupyter servers run as root, as a container's image would: the hub's configuration need not know."""
        if os.geteuid() != 0:
            return
        folder = self.state_dir / "jupyter"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        config = {"ServerApp": {"allow_root": True}}
        (folder / "jupyter_server_config.json").write_text(json.dumps(config), encoding="utf-8")
        self.host.jupyter_config = folder

    async def _register(self) -> None:
        node = node_object(self.node)
        try:
            await self._client.call("POST", "/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:
                raise
            path = f"/api/v1/nodes/{self.node.name}"
            await self._client.call(
                "PATCH", path, {"metadata": {"labels": node["metadata"]["labels"]}}, content_type=MERGE_PATCH
            )
        await self._beat()

    async def _beat(self) -> None:
        path = f"/api/v1/nodes/{self.node.name}/status"
        await self._client.call(
            "PATCH", path, {"status": node_status(self.node, self._since)}, content_type=STRATEGIC_PATCH
        )

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            with contextlib.suppress(ApiError):
                await self._beat()

    async def _follow(self) -> None:
        """Begin to follow the server; what pods refer to is known before the first pod is."""
        self._inform("configmaps", handler=self._config_map_changed)
        self._inform("secrets", handler=self._secret_changed)
        self._inform("persistentvolumeclaims", handler=self._claim_changed)
        # Only its own: other nodes of the cluster have their own way to get pods.
        own = f"metadata.name={self.node.name}"
        nodes = self._inform("nodes", handler=self._node_changed, namespaced=False, field_selector=own)
        self._scheduler = Scheduler(self._client, self._recorder, nodes.objects, self._reader.claim)
        for informer in list(self._informers.values()):
            informer.start()
        await asyncio.gather(*(informer.synced() for informer in self._informers.values()))
        pods = self._inform("pods", handler=self._pod_changed)
        pods.start()
        await pods.synced()
        # Only now: the node's load is known.
        self._scheduler.start()
        self._do(self._heartbeats())

    def _inform(self, resource: str, handler: Callable[[str, Json], None], **options: Any) -> Informer:
        informer = Informer(self._client, resource, namespaces=self._namespaces, handler=handler, **options)
        self._informers[resource] = informer
        return informer

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # What the server tells

    def _pod_changed(self, kind: str, pod: Json) -> None:
        if self._scheduler is not None:
            self._scheduler.pod_changed(kind, pod)
        if pod["spec"].get("nodeName") != self.node.name:
            return
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if kind == "DELETED":
            if worker is not None:
                worker.vanish()
            return
        if worker is None:
            worker = self._adopt(pod)
        worker.update(pod)

    def _adopt(self, pod: Json) -> PodWorker:
        uid = pod["metadata"]["uid"]
        worker = PodWorker(self.host, pod)
        self._workers[uid] = worker
        self._by_name[key_of(pod)] = worker
        self._lives[uid] = asyncio.create_task(self._live(worker))
        return worker

    async def _live(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("Pod %s/%s broke", worker.namespace, worker.name)
        finally:
            self._workers.pop(worker.uid, None)
            self._lives.pop(worker.uid, None)
            if self._by_name.get((worker.namespace, worker.name)) is worker:
                del self._by_name[worker.namespace, worker.name]
            for key in [k for k in self._doomed_claims if not self._is_mounted(k)]:
                self._doomed_claims.discard(key)
                self._do(self._volumes.remove_claim(*key))

    def _node_changed(self, _kind: str, _node: Json) -> None:
        if self._scheduler is not None:
            self._scheduler.wake()

    def _config_map_changed(self, kind: str, obj: Json) -> None:
        self._object_changed(kind, "configmap", obj)

    def _secret_changed(self, kind: str, obj: Json) -> None:
        self._object_changed(kind, "secret", obj)

    def _object_changed(self, kind: str, what: str, obj: Json) -> None:
        namespace, name = key_of(obj)
        if kind != "DELETED":
            for worker in self._workers.values():
                if worker.namespace == namespace:
                    worker.object_changed(what, name)

    def _claim_changed(self, kind: str, claim: Json) -> None:
        key = key_of(claim)
        if kind == "DELETED":
            if self._is_mounted(key):
                self._doomed_claims.add(key)
            else:
                self._do(self._volumes.remove_claim(*key))
            return
        if self._scheduler is not None:
            self._scheduler.wake()
        if claim.get("status", {}).get("phase") != "Bound":
            self._do(self._bind(claim))

    def _is_mounted(self, key: Key) -> bool:
        return any(w.namespace == key[0] and key[1] in claims_of(w.pod) for w in self._workers.values())

    async def _bind(self, claim: Json) -> None:
        """Give a claim its volume: a folder that is made when a pod first mounts it."""
        namespace, name = key_of(claim)
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        uid = claim["metadata"]["uid"]
        spec = claim["spec"]
        status = {
            "phase": "Bound",
            "accessModes": spec.get("accessModes", []),
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
        }
        try:
            if not spec.get("volumeName"):
                body: Json = {"metadata": {"uid": uid}, "spec": {"volumeName": f"pvc-{uid}"}}
                await self._client.call("PATCH", path, body, content_type=MERGE_PATCH)
            body = {"metadata": {"uid": uid}, "status": status}
            await self._client.call("PATCH", f"{path}/status", body, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status not in (404, 409):
                log.warning("The claim %s/%s was not bound: %s", namespace, name, shorten(str(error), 300))
