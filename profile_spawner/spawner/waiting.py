"""Waiting on events instead of polling with a growing, random pause.

KubeSpawner and JupyterHub find out by polling that a pod runs and that its server answers; that alone keeps users
waiting for a second or more. Here the pod reflector, which is there anyway, wakes whoever waits, and the server is
asked directly. No further call to the API server is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlparse

from kubespawner.spawner import PodReflector

__all__ = ["NotifyingPodReflector", "server_answers"]


class _Observed(dict[str, Any]):
    """A dictionary that tells when it changes."""

    def __init__(self, values: Any, changed: Callable[[], None]) -> None:
        super().__init__(values)
        self._changed = changed

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._changed()

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key, and tell."""
        value = super().pop(key, *default)
        self._changed()
        return value


class NotifyingPodReflector(PodReflector):
    """KubeSpawner's pod reflector, which also wakes those who wait for a change."""

    _resources: _Observed | None = None
    _changed: asyncio.Event | None = None

    @property
    def resources(self) -> dict[str, Any]:
        """The pods by `namespace/name`."""
        if self._resources is None:
            self._resources = _Observed({}, self._notify)
        return self._resources

    @resources.setter
    def resources(self, value: dict[str, Any]) -> None:
        self._resources = _Observed(value, self._notify)
        self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self, timeout: float) -> None:
        """Wait until any pod changes, at most `timeout` seconds."""
        if self._changed is None:
            self._changed = asyncio.Event()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)


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
        # As for JupyterHub, a server that answers 5xx is not ready.
        answer = await reader.readline()
        return answer.startswith(b"HTTP/") and answer.partition(b" ")[2][:1] != b"5"
    finally:
        writer.close()
