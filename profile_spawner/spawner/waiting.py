"""Watches pods and events, and asks servers whether they answer.

KubeSpawner and JupyterHub poll until a pod runs and its server answers, with pauses of a second and more. Here the
watch of the pods wakes the tasks that wait for a pod, and the server is asked directly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlparse

import aiohttp
from kubespawner.reflector import ResourceReflector
from kubespawner.spawner import EventReflector, PodReflector
from traitlets import Float

from profile_spawner.errors import ClusterError
from profile_spawner.kube.watching import ObjectWatch

__all__ = ["EventWatch", "PodWatch", "server_answers"]


class _Watch(ResourceReflector):
    """A reflector of KubeSpawner that never gives up and reports every change.

    KubeSpawner's own reflector ends when the API server is away for a minute, and with it the hub or every later start.
    """

    patience = Float(5.0, help="The maximum time for the retries of the first list, in seconds.")
    _watch: ObjectWatch

    async def start(self) -> None:
        """Begin to watch. Does not wait for the first list: `ready` does."""
        namespace = "" if self.omit_namespace else f"/namespaces/{self.namespace}"
        self._watch = ObjectWatch(
            self.api.api_client,
            f"/api/v1{namespace}/{self.kind}",
            what=self.kind,
            selector=self.label_selector,
            field_selector=self.field_selector,
            log=self.log,
            patience=self.patience,
            seconds=min(self.timeout_seconds, self.restart_seconds),
        )
        self.resources = self._watch.found
        self.watch_task = asyncio.create_task(self._watch.follow(self.take_note, self._report))
        self.first_load_future.set_result(None)

    async def ready(self) -> None:
        """Wait until the objects have been listed once.

        Raises:
            ClusterError: If the API server refuses or does not answer.
        """
        await self._watch.ready()

    async def stop(self) -> None:
        """End the watch."""
        if self.watch_task is not None:
            self.watch_task.cancel()
            await asyncio.wait([self.watch_task])

    def take_note(self, key: str | None) -> None:
        """React to a change of one object (`namespace/name`), or with `None` of any number of objects."""
        raise NotImplementedError

    def _report(self, error: ClusterError | None) -> None:
        if error is not None:
            self.log.error("The %s cannot be watched; it is tried again: %s", self.kind, error)


class PodWatch(_Watch, PodReflector):
    """The pods. Wakes the tasks that wait for a change of one pod."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: dict[str, set[asyncio.Future[bool]]] = {}

    def take_note(self, key: str | None) -> None:
        """Wake the tasks that wait for a pod, or with `None` all."""
        for changed in list(self._waiting) if key is None else (key,):
            for waiter in self._waiting.pop(changed, ()):
                if not waiter.done():
                    waiter.set_result(True)

    def show(self, pod: Mapping[str, Any]) -> None:
        """Show a pod as the API server has just returned it, until the watch reports it."""
        metadata = pod["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        if key not in self.resources or self.resources[key]["metadata"]["uid"] != metadata["uid"]:
            self.resources[key] = pod
            self.take_note(key)

    def hide(self, key: str, uid: str) -> None:
        """Remove a pod that the API server does not have any more, before the watch reports it."""
        if key in self.resources and self.resources[key]["metadata"]["uid"] == uid:
            del self.resources[key]
            self.take_note(key)

    async def changed(self, key: str, timeout: float) -> bool:
        """Wait until a pod changes, or all are listed anew; return whether it did within `timeout` seconds.

        Tasks that wait for another pod are not woken. Otherwise, with a thousand starting servers, each task would wake
        a thousand times.
        """
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(waiter)
        try:
            done, _ = await asyncio.wait([waiter], timeout=timeout)
        finally:
            others = self._waiting.get(key, set())
            others.discard(waiter)
            if not others:
                self._waiting.pop(key, None)
        return bool(done)


_READ_BY_KUBESPAWNER = {"type": "", "message": "", "lastTimestamp": None, "eventTime": None}


class EventWatch(_Watch, EventReflector):
    """The events, sorted by pod, so that the events of one pod are found without a search in all others.

    It takes any event that the API server stores: neither a time, a type, a message nor the name of the object is
    required there, and one event without them would otherwise end starts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._by_pod: dict[str, dict[str, Any]] = {}
        self._pods: dict[str, str] = {}

    def take_note(self, key: str | None) -> None:
        """Sort in one event, or with `None` all."""
        if key is None:
            self._by_pod, self._pods = {}, {}
            for one in self.resources:
                self.take_note(one)
            return
        before = self._pods.pop(key, None)
        if before is not None:
            known = self._by_pod[before]
            del known[key]
            if not known:
                del self._by_pod[before]
        event = self.resources.get(key)
        if event is not None:
            involved = event.get("involvedObject") or {}
            pod = f"{involved.get('namespace') or key.partition('/')[0]}/{involved.get('name')}"
            self._pods[key] = pod
            self._by_pod.setdefault(pod, {})[key] = {**_READ_BY_KUBESPAWNER, **event}

    @property
    def events(self) -> list[Any]:
        """All events, the latest one last."""
        return sorted(self.resources.values(), key=_time_of)

    def of(self, pod: str) -> list[Any]:
        """Return the events of a pod, given as `namespace/name`, the latest one last."""
        return sorted(self._by_pod.get(pod, {}).values(), key=_time_of)


def _time_of(event: Mapping[str, Any]) -> str:
    times = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return next((time.rstrip("Z") for time in times if time), "")


async def server_answers(url: str, path: str, *, timeout: float, gone: Callable[[], bool]) -> bool:
    """Ask a server until it answers an HTTP request with anything but an error of its own (5xx).

    Args:
        url: `http://host:port`; with `https` only the connection is tried.
        path: The path to ask for.
        timeout: In seconds.
        gone: Called between tries; true ends the waiting.

    Returns:
        Whether it answered.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = 0.02
    while loop.time() < deadline and not gone():
        with contextlib.suppress(OSError, aiohttp.ClientError, asyncio.TimeoutError):
            if await asyncio.wait_for(_answers(url, path), min(5.0, max(0.1, deadline - loop.time()))):
                return True
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, 0.1)
    return False


async def _answers(url: str, path: str) -> bool:
    parsed = urlparse(url)
    if parsed.scheme == "https":
        _, writer = await asyncio.open_connection(parsed.hostname, parsed.port or 443)
        writer.close()
        return True
    async with aiohttp.ClientSession() as session, session.get(url + path, allow_redirects=False) as response:
        # As in JupyterHub, a server that answers 5xx is not ready.
        return response.status < 500
