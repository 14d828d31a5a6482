"""The life of one pod on its node, from its binding to its removal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from .apiclient import STRATEGIC_PATCH, ApiError, Json
from .containers import ImageError, PodHost, Starter, log_file, prepare_container
from .environment import ConfigError, PodFacts
from .fitting import is_terminal
from .processes import KILLED, Container, HookError, ProcessContainer, StartError
from .status import ContainerStatus, PodStatus, is_sidecar
from .volumes import VolumeError

__all__ = ["PodWorker"]

_FIRST_RETRY, _LAST_RETRY = 0.2, 2.0

log = logging.getLogger(__name__)


class PodWorker:
    """Runs one pod.

    Args:
        host: What the pods of the node share.
        pod: The pod, bound to this node.
    """

    def __init__(self, host: PodHost, pod: Json) -> None:
        metadata = pod["metadata"]
        self.host = host
        self.pod = pod
        self.uid: str = metadata["uid"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.status = PodStatus(pod)
        self.running: dict[str, Container] = {}
        self.folders: dict[str, Path] = {}
        self._attempts: dict[str, int] = {}
        self._path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._grace = 0.0
        self._silent = False
        self._dirty = False
        self._publishing = asyncio.Lock()
        self._refreshing: set[asyncio.Task[None]] = set()
        self._launches: set[asyncio.Task[Container]] = set()

    # What the kubelet tells

    def update(self, pod: Json) -> None:
        """Take note of a change of the pod, such as its deletion."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._stopping.set()

    def vanish(self) -> None:
        """The pod's object is gone: end everything at once."""
        self._silent = True
        self._at_once.set()
        self._stopping.set()

    def shut_down(self, grace: float) -> None:
        """The node is shutting down: end the pod's processes within `grace` seconds, leave its object alone."""
        self._silent = True
        self._grace = min(float(self.pod["spec"].get("terminationGracePeriodSeconds", grace)), grace)
        self._stopping.set()

    def object_changed(self, kind: str, name: str) -> None:
        """A ConfigMap or Secret (`configmap`, `secret`) has changed: bring the volumes that show it up to date."""
        if self.host.runtime == "stub":
            return
        for volume in self.pod["spec"].get("volumes") or []:
            if volume["name"] in self.folders and self.host.volumes.refers_to(volume, kind, name):
                task = asyncio.create_task(self._refresh(volume))
                self._refreshing.add(task)
                task.add_done_callback(self._refreshing.discard)

    def log_path(self, container: str, *, previous: bool = False) -> Path | None:
        """Return the file with the output of a container's present run, or of the run before."""
        attempt = self._attempts.get(container, -1) - (1 if previous else 0)
        if attempt < 0:
            return None
        path = log_file(self.host, self.uid, container, attempt)
        return path if path.exists() else None

    # Its life

    async def run(self) -> None:
        """Run the pod until it is deleted and everything of it is gone."""
        life = asyncio.create_task(self._live())
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set() and life.exception() is not None:
                log.error("Pod %s/%s broke", self.namespace, self.name, exc_info=life.exception())
                await self._fail("PodWorkerError")
            await stop
        finally:
            for task in (life, stop, *self._refreshing):
                task.cancel()
            await asyncio.gather(life, stop, *self._refreshing, return_exceptions=True)
            await self._end()

    async def _live(self) -> None:
        if self._stopping.is_set() or is_terminal(self.pod):
            return
        self._restore()
        if self.host.runtime == "process":
            await self.publish()  # A stub runs at once, unless it has to wait: one call less in a storm.
        await self._retried(self._set_up_volumes)
        self.status.ip = self.host.addresses.take()
        sidecars = []
        init = self.pod["spec"].get("initContainers") or []
        for container in init:
            status = self.status.of(container["name"])
            if is_sidecar(container):
                up = asyncio.Event()
                sidecars.append(asyncio.create_task(self._keep(container, status, "Always", init=True, up=up)))
                await up.wait()
            elif await self._keep(container, status, self._init_policy(), init=True):
                await self._fail()
                return
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for status in self.status.main.values():
            status.wait_for("PodInitializing" if init else "ContainerCreating")
        lives = [self._keep(c, self.status.of(c["name"]), policy) for c in self.pod["spec"]["containers"]]
        tasks = [asyncio.create_task(life) for life in lives]
        try:
            codes = await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, *sidecars):
                task.cancel()
            await asyncio.gather(*tasks, *sidecars, return_exceptions=True)
        await asyncio.gather(*(container.stop(2.0) for container in list(self.running.values())))
        self.status.phase = "Failed" if any(codes) else "Succeeded"
        await self.publish()

    def _init_policy(self) -> str:
        return "Never" if self.pod["spec"].get("restartPolicy") == "Never" else "OnFailure"

    def _restore(self) -> None:
        """Count the restarts on when an earlier kubelet has run this pod before."""
        old = self.pod.get("status") or {}
        for known in (*(old.get("containerStatuses") or []), *(old.get("initContainerStatuses") or [])):
            with contextlib.suppress(KeyError):
                ran = 1 if known.get("containerID") else 0
                self.status.of(known["name"]).restarts = known.get("restartCount", 0) + ran

    async def _fail(self, reason: str = "") -> None:
        self.status.phase = "Failed"
        self.status.reason = reason
        await self.publish()

    async def publish(self) -> None:
        """Write the pod's status; calls that come while one is under way become one."""
        self._dirty = True
        async with self._publishing:
            if not self._dirty:
                return
            self._dirty = False
            body = {"metadata": {"uid": self.uid}, "status": self.status.body()}
            try:
                await self.host.client.call("PATCH", f"{self._path}/status", body, content_type=STRATEGIC_PATCH)
            except ApiError as error:
                # 404, 409: the pod is gone or replaced, as the watch will tell.
                level = logging.DEBUG if error.status in (404, 409) else logging.WARNING
                log.log(level, "The status of %s/%s was not written: %s", self.namespace, self.name, error)

    # Volumes

    async def _retried(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` until it succeeds, with a `FailedMount` event for each new reason."""
        told = ""
        delay = _FIRST_RETRY
        while True:
            try:
                await work()
            except VolumeError as error:
                if str(error) != told:
                    told = str(error)
                    self.host.recorder.record(self.pod, "FailedMount", told, warning=True)
                    await self.publish()
                await self.host.wait_for(error.kind, self.namespace, error.name, delay)
                delay = min(delay * 2, _LAST_RETRY)
            except ApiError as error:
                await self._api_failed(error)
            else:
                return

    async def _api_failed(self, error: ApiError) -> None:
        log.warning("Pod %s/%s has to wait: %s", self.namespace, self.name, error)
        await asyncio.sleep(_LAST_RETRY)

    async def _set_up_volumes(self) -> None:
        facts = self._facts()
        for volume in self.pod["spec"].get("volumes") or []:
            name = volume["name"]
            if name in self.folders:
                continue
            try:
                if self.host.runtime == "stub":
                    await self.host.volumes.check(facts, volume)
                    self.folders[name] = Path()
                else:
                    self.folders[name] = await self.host.volumes.set_up(facts, volume)
            except VolumeError as error:
                message = f'MountVolume.SetUp failed for volume "{name}" : {error!s}'
                raise VolumeError(message, error.kind, error.name) from error

    async def _refresh(self, volume: Json) -> None:
        # A key or an object that has gone leaves the files as they were, as on a real node.
        with contextlib.suppress(VolumeError, ApiError):
            await self.host.volumes.set_up(self._facts(), volume)

    def _facts(self) -> PodFacts:
        return PodFacts(self.pod, self.status.ip, self.host.node, self.host.allocatable)

    # Containers

    async def _keep(
        self,
        container: Json,
        status: ContainerStatus,
        policy: str,
        *,
        init: bool = False,
        up: asyncio.Event | None = None,
    ) -> int:
        """Run `container`, again and again as `policy` says, and return its last exit code."""
        delay = 0.0
        name = container["name"]
        while True:
            code = await self._run_once(container, status, init=init, up=up)
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return code
            # Written before the restart, so that watchers see that the container has ended.
            await self.publish()
            if delay:
                # The kubelet speaks of whole seconds; tests use less.
                message = f"back-off {delay:g}s restarting failed container={name} pod={self._full_name()}"
                status.wait_for("CrashLoopBackOff", message)
                text = f"Back-off restarting failed container {name} in pod {self._full_name()}"
                self.host.recorder.record(self.pod, "BackOff", text, warning=True, container=name, init=init)
                await self.publish()
                await asyncio.sleep(delay)
            status.restarts += 1
            delay = min(delay * 2, self.host.backoff * 30) or self.host.backoff

    def _full_name(self) -> str:
        return f"{self.name}_{self.namespace}({self.uid})"

    async def _run_once(self, container: Json, status: ContainerStatus, *, init: bool, up: asyncio.Event | None) -> int:
        """Run `container` once, from its image to its end, and return its exit code."""
        name = container["name"]
        attempt = self._attempts.get(name, -1) + 1
        try:
            running = await self._start(container, status, attempt, init=init)
        except HookError as error:
            text = f"PostStartHook failed: {error!s}"
            self.host.recorder.record(self.pod, "FailedPostStartHook", text, warning=True, container=name, init=init)
            status.end(KILLED, "Error", text)
            return KILLED
        except (StartError, OSError) as error:
            reason = str(error)
            message = (
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                f"runc create failed: unable to start container process: {reason}: unknown"
            )
            text = f"Error: {message}"
            self.host.recorder.record(self.pod, "Failed", text, warning=True, container=name, init=init)
            status.end(128, "StartError", message)
            return 128
        if up is not None:
            up.set()
        await self.publish()
        code = await running.wait()
        self.running.pop(name, None)
        status.end(code)
        folder = self.host.volumes.pod_folder(self.uid) / "containers" / name / str(attempt)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if init or self.running:
            await self.publish()
        return code

    async def _start(self, container: Json, status: ContainerStatus, attempt: int, *, init: bool) -> Container:
        """Start `container`, waiting for its image and for what its environment refers to."""
        name = container["name"]
        delay = _FIRST_RETRY
        pulled = False
        while True:
            try:
                if not pulled:
                    self.host.pull(self.pod, container, init=init)
                    pulled = True
                starter = await prepare_container(self.host, self._facts(), container, self.folders, attempt, init=init)
                # Not to be cut off in between: a process without an entry in `running` would never be stopped.
                launch = asyncio.create_task(self._launch(starter, container, status, attempt, init=init))
                self._launches.add(launch)
                launch.add_done_callback(self._launches.discard)
                return await asyncio.shield(launch)
            except ImageError as error:
                await self._report_image(container, status, error, init=init)
                await asyncio.sleep(self.host.backoff)
            except (ConfigError, VolumeError) as error:
                reason = "CreateContainerConfigError"
                if status.state.get("waiting", {}).get("message") != str(error):
                    text = f"Error: {error!s}"
                    self.host.recorder.record(self.pod, "Failed", text, warning=True, container=name, init=init)
                    status.wait_for(reason, str(error))
                    await self.publish()
                await self.host.wait_for(error.kind, self.namespace, error.name, delay)
                delay = min(delay * 2, _LAST_RETRY)
            except ApiError as error:
                await self._api_failed(error)

    async def _launch(
        self, starter: Starter, container: Json, status: ContainerStatus, attempt: int, *, init: bool
    ) -> Container:
        name = container["name"]
        running = await starter()
        self._attempts[name] = attempt
        self.running[name] = running
        self.host.recorder.record(self.pod, "Created", f"Created container: {name}", container=name, init=init)
        if isinstance(running, ProcessContainer):
            try:
                await running.ready()
            except StartError:
                self.running.pop(name, None)
                raise
        self.host.recorder.record(self.pod, "Started", f"Started container {name}", container=name, init=init)
        status.run(f"local-cluster://{uuid.uuid4().hex}")
        return running

    async def _report_image(self, container: Json, status: ContainerStatus, error: ImageError, *, init: bool) -> None:
        image, name = container["image"], container["name"]

        def warn(reason: str, message: str) -> None:
            self.host.recorder.record(self.pod, reason, message, warning=True, container=name, init=init)

        detail = f"rpc error: code = NotFound desc = {error!s}"
        warn("Failed", f'Failed to pull image "{image}": {detail}')
        warn("Failed", "Error: ErrImagePull")
        status.wait_for("ErrImagePull", detail)
        await self.publish()
        await asyncio.sleep(min(self.host.backoff, 1.0) / 2)
        self.host.recorder.record(self.pod, "BackOff", f'Back-off pulling image "{image}"', container=name, init=init)
        warn("Failed", "Error: ImagePullBackOff")
        status.wait_for("ImagePullBackOff", f'Back-off pulling image "{image}": {error!s}')
        await self.publish()

    # Its end

    async def _end(self) -> None:
        """Stop what runs, give back what was taken, and take the pod's object away."""
        await asyncio.gather(*self._launches, return_exceptions=True)
        ran = bool(self.running)
        await self._stop_containers()
        if self.status.ip:
            self.host.addresses.give_back(self.status.ip)
        try:
            if not self._silent:
                if ran:
                    await self.publish()
                await self._delete()
        finally:
            self.host.recorder.forget(self.uid)
            await self.host.volumes.remove_pod(self.uid)

    async def _stop_containers(self) -> None:
        for name in self.running:
            if not self._silent:
                init = name in self.status.init
                text = f"Stopping container {name}"
                self.host.recorder.record(self.pod, "Killing", text, container=name, init=init)
        stops = [asyncio.create_task(self._stop_one(name, c)) for name, c in list(self.running.items())]
        if not stops:
            return
        at_once = asyncio.create_task(self._at_once.wait())
        everything = asyncio.ensure_future(asyncio.wait(stops))
        await asyncio.wait((everything, at_once), return_when=asyncio.FIRST_COMPLETED)
        if not everything.done():
            await asyncio.gather(*(container.kill() for container in list(self.running.values())))
        await everything
        at_once.cancel()

    async def _stop_one(self, name: str, container: Container) -> None:
        await container.stop(0 if self._at_once.is_set() else self._grace)
        code = await container.wait()
        self.status.of(name).end(code)
        self.running.pop(name, None)

    async def _delete(self) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        try:
            await self.host.client.call("DELETE", self._path, body)
        except ApiError as error:
            if error.status not in (404, 409):
                log.warning("Pod %s/%s was not removed: %s", self.namespace, self.name, error)
