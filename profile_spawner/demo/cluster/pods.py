"""The life of one pod on its node, from its binding to its removal."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from .apiclient import MERGE_PATCH, ApiError, Json
from .containers import Container, PodHost, start_container
from .environment import MissingError, PodFacts
from .processes import StartError
from .scheduler import is_terminal
from .status import ContainerStatus, PodStatus

__all__ = ["PodWorker"]

_FIRST_RETRY, _LAST_RETRY = 0.2, 2.0
"""Seconds after which it is tried again what waits for something, if nothing has happened."""

_T = TypeVar("_T")

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
        self.key: tuple[str, str] = (metadata["namespace"], metadata["name"])
        self.status = PodStatus(pod)
        self.running: dict[str, Container] = {}
        self._folder = host.volumes.pod_folder(self.uid)
        self._folders: dict[str, Path] = {}
        self._path = f"/api/v1/namespaces/{self.key[0]}/pods/{self.key[1]}"
        self._stopping = asyncio.Event()
        self._grace = 0.0
        self._silent = False
        self._publishing = asyncio.Lock()

    # What the kubelet reports

    def update(self, pod: Json) -> None:
        """Take note of a change of the pod, such as its deletion."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._stopping.set()

    def vanish(self) -> None:
        """End everything at once, because the pod's object is gone."""
        self.shut_down(0)
        for container in self.running.values():
            container.kill()

    def shut_down(self, grace: float) -> None:
        """End the pod's processes within `grace` seconds and leave its object alone."""
        self._silent = True
        self._grace = grace
        self._stopping.set()

    def log_path(self, container: str) -> Path | None:
        """Return the file with the output of a container, None when there is none."""
        path = self._folder / "logs" / container
        return path if path.exists() else None

    # Its life

    async def run(self) -> None:
        """Run the pod until it is deleted and everything of it is gone."""
        life = asyncio.create_task(self._live())
        await self._stopping.wait()
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await self._end()

    async def _live(self) -> None:
        if is_terminal(self.pod) or self._stopping.is_set():
            return
        try:
            self.status.phase = await self._run_containers()
        except Exception:
            log.exception("Pod %s/%s broke", *self.key)
            self.status.phase = "Failed"
        await self._publish()

    async def _run_containers(self) -> str:
        """Run all containers to their end and return the phase in which the pod ends."""
        spec = self.pod["spec"]
        warn = partial(self._record, "FailedMount", warning=True)
        for volume in spec.get("volumes") or []:
            self._folders[volume["name"]] = await self._until_there(partial(self._set_up, volume), warn)
        self.status.ip = self.host.addresses.take()
        policy = spec.get("restartPolicy", "Always")
        for container in spec.get("initContainers") or []:
            if await self._keep(container, "Never" if policy == "Never" else "OnFailure"):
                return "Failed"
        codes = await asyncio.gather(*(self._keep(container, policy) for container in spec["containers"]))
        return "Failed" if any(codes) else "Succeeded"

    async def _set_up(self, volume: Json) -> Path:
        try:
            if self.host.sandbox is None:
                await self.host.volumes.check(self._facts, volume)
                return Path()
            return await self.host.volumes.set_up(self._facts, volume)
        except MissingError as error:
            message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error!s}'
            raise MissingError(message, error.kind, error.name) from error

    async def _until_there(self, work: Callable[[], Awaitable[_T]], report: Callable[[str], None]) -> _T:
        """Do `work` as soon as all is there that it needs; each new reason to wait is reported."""
        reported = ""
        delay = _FIRST_RETRY
        while True:
            try:
                return await work()
            except MissingError as error:
                if str(error) != reported:
                    reported = str(error)
                    report(reported)
                    await self._publish()
                await self.host.cache.changed(error.kind, (self.key[0], error.name), delay)
            except ApiError as error:
                log.warning("Pod %s/%s has to wait: %s", *self.key, error)
                await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY)

    @property
    def _facts(self) -> PodFacts:
        return PodFacts(self.pod, self.status.ip, self.host.node)

    def _record(self, reason: str, message: str, *, warning: bool = False, container: str = "") -> None:
        self.host.recorder.record(self.pod, reason, message, warning=warning, container=container)

    async def _publish(self) -> None:
        """Write the pod's status."""
        async with self._publishing:
            body = {"metadata": {"uid": self.uid}, "status": self.status.body()}
            try:
                await self.host.client.call("PATCH", f"{self._path}/status", body, content_type=MERGE_PATCH)
            except ApiError as error:
                # 404, 409: the pod is gone or replaced, as the watch will tell.
                level = logging.DEBUG if error.status in (404, 409) else logging.WARNING
                log.log(level, "The status of %s/%s was not written: %s", *self.key, error)

    # Containers

    async def _keep(self, container: Json, policy: str) -> int:
        """Run `container`, again and again as `policy` says, and return its last exit code."""
        name = container["name"]
        status = self.status.of(name)
        while True:
            code = await self._run_once(container, status)
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return code
            # Written before the restart, so that watchers see that the container has ended.
            await self._publish()
            if status.restarts:
                delay = self.host.backoff * min(2 ** (status.restarts - 1), 30)
                pod = f"{self.key[1]}_{self.key[0]}({self.uid})"
                message = f"back-off {delay:g}s restarting failed container={name} pod={pod}"
                status.wait_for("CrashLoopBackOff", message)
                text = f"Back-off restarting failed container {name} in pod {pod}"
                self._record("BackOff", text, warning=True, container=name)
                await self._publish()
                await asyncio.sleep(delay)
            status.restarts += 1

    async def _run_once(self, container: Json, status: ContainerStatus) -> int:
        """Run `container` once, from its image to its end, and return its exit code."""
        name = container["name"]

        def waits(reason: str) -> None:
            status.wait_for("CreateContainerConfigError", reason)
            self._record("Failed", f"Error: {reason}", warning=True, container=name)

        self._pull(container)
        try:
            start = partial(start_container, self.host, self._facts, container, self._folders)
            running = self.running[name] = await self._until_there(start, waits)
        except (StartError, OSError) as error:
            message = (
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                f"runc create failed: unable to start container process: {error!s}: unknown"
            )
            self._record("Failed", f"Error: {message}", warning=True, container=name)
            status.end(128, "StartError", message)
            return 128
        self._record("Created", f"Created container: {name}", container=name)
        self._record("Started", f"Started container {name}", container=name)
        status.run(f"local-cluster://{uuid.uuid4().hex}")
        await self._publish()
        code = await running.wait()
        del self.running[name]
        status.end(code)
        await self.host.volumes.remove("pods", self.uid, "containers", name)
        if self.running or name in self.status.init:
            await self._publish()
        return code

    def _pull(self, container: Json) -> None:
        """Write the events of a pull of the image of `container`; nothing is downloaded."""
        image = container.get("image", "")
        if image in self.host.images:
            message = f'Container image "{image}" already present on machine'
        else:
            self.host.images.add(image)
            self._record("Pulling", f'Pulling image "{image}"', container=container["name"])
            message = f'Successfully pulled image "{image}" in 0s (0s including waiting). Image size: 0 bytes.'
        self._record("Pulled", message, container=container["name"])

    # Its end

    async def _end(self) -> None:
        """Stop what runs, give back what was taken, and take the pod's object away."""
        running = dict(self.running)
        if not self._silent:
            for name in running:
                self._record("Killing", f"Stopping container {name}", container=name)
        await asyncio.gather(*(container.stop(self._grace) for container in running.values()))
        if self.status.ip:
            self.host.addresses.give_back(self.status.ip)
        if not self._silent:
            for name, container in running.items():
                self.status.of(name).end(await container.wait())
            if running:
                await self._publish()
            await self._delete()
        await self.host.volumes.remove("pods", self.uid)

    async def _delete(self) -> None:
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        try:
            await self.host.client.call("DELETE", self._path, body)
        except ApiError as error:
            if error.status not in (404, 409):
                log.warning("Pod %s/%s was not removed: %s", *self.key, error)
