"""Waits for events, instead of polling with growing, random pauses.

KubeSpawner and JupyterHub poll until a pod runs and its server answers. This polling delays users by a second or more.
Here the existing pod reflector wakes the waiting tasks, and the server is asked directly. There are no additional calls
to the API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlparse

from kubespawner.spawner import EventReflector, PodReflector

__all__ = ["NotifyingPodReflector", "PodEventReflector", "server_answers"]


class _Observed(dict[str, Any]):
    """A dictionary that reports which of its keys change."""

    def __init__(self, values: Any, changed: Callable[[str], None]) -> None:
        super().__init__(values)
        self._changed = changed

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._changed(key)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and report it."""
        value = super().pop(key, *default)
        self._changed(key)
        return value


class NotifyingPodReflector(PodReflector):
    """KubeSpawner's pod reflector. It also wakes the tasks that wait for a change of one pod."""

    _resources: _Observed | None = None
    _waiting: dict[str, set[asyncio.Future[None]]] | None = None

    @property
    def resources(self) -> dict[str, Any]:
        """The pods by `namespace/name`."""
        if self._resources is None:
            self._resources = _Observed({}, self._notify)
        return self._resources

    @resources.setter
    def resources(self, value: dict[str, Any]) -> None:
        self._resources = _Observed(value, self._notify)
        for key in list(self._waiting or ()):
            self._notify(key)

    def _notify(self, key: str) -> None:
        for waiter in (self._waiting or {}).pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, key: str, timeout: float) -> None:
        """Wait until a pod changes, or all are listed anew, at most `timeout` seconds.

        Args:
            key: The pod, as `namespace/name`. Tasks that wait for another pod are not woken. Otherwise, with a
                thousand starting servers, each task would wake a thousand times.
            timeout: In seconds.
        """
        if self._waiting is None:
            self._waiting = {}
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            others = self._waiting.get(key, set())
            others.discard(waiter)
            if not others:
                self._waiting.pop(key, None)


_READ_BY_KUBESPAWNER = {"type": "", "message": "", "lastTimestamp": None, "eventTime": None}


class PodEventReflector(EventReflector):
    """KubeSpawner's event reflector, which finds the events of one pod without a look at all others.

    It takes any event that the API server stores: neither a time, a type, a message nor the name of the object is
    required there, and one event without them would otherwise end starts.
    """

    _resources: _Observed | None = None
    _by_pod: dict[str, dict[str, Any]] | None = None
    _pods: dict[str, str] | None = None

    @property
    def resources(self) -> dict[str, Any]:
        """The events by `namespace/name`."""
        if self._resources is None:
            self.resources = {}
        assert self._resources is not None
        return self._resources

    @resources.setter
    def resources(self, value: dict[str, Any]) -> None:
        self._resources = _Observed(value, self._sort_in)
        self._by_pod, self._pods = {}, {}
        for key in value:
            self._sort_in(key)

    def _sort_in(self, key: str) -> None:
        assert self._resources is not None
        assert self._by_pod is not None
        assert self._pods is not None
        before = self._pods.pop(key, None)
        if before is not None:
            known = self._by_pod[before]
            del known[key]
            if not known:
                del self._by_pod[before]
        event = self._resources.get(key)
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
        return sorted((self._by_pod or {}).get(pod, {}).values(), key=_time_of)


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
    parsed = urlparse(url)
    host, port = parsed.hostname or "127.0.0.1", parsed.port or (443 if parsed.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = 0.02
    while loop.time() < deadline and not gone():
        try:
            if await asyncio.wait_for(
                _ask(host, port, path, parsed.scheme), min(5.0, max(0.1, deadline - loop.time()))
            ):
                return True
        except (OSError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, 0.1)
    return False


async def _ask(host: str, port: int, path: str, scheme: str) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if scheme == "https":
            return True
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nAccept: */*\r\n\r\n"
        writer.write(request.encode("ascii", "replace"))
        await writer.drain()
        # As in JupyterHub, a server that answers 5xx is not ready.
        answer = await reader.readline()
        return answer.startswith(b"HTTP/") and answer.partition(b" ")[2][:1] != b"5"
    finally:
        writer.close()
