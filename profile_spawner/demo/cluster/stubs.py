"""Containers without processes: minimal HTTP servers for tests and load tests with a thousand pods."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterable
from importlib import metadata

from .processes import KILLED

__all__ = ["StubContainer", "raise_file_limit"]


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have: each stub has a socket of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


_BODY = b'{"version": "stub", "started": "2020-01-01T00:00:00Z", "kernels": 0, "connections": 0}'
_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    f"X-JupyterHub-Version: {metadata.version('jupyterhub')}\r\nContent-Length: {len(_BODY)}\r\n\r\n"
)


class StubContainer:
    """Answers every HTTP request at its pod's address like an idle single-user server."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @classmethod
    async def create(cls, address: str, ports: Iterable[int], code: int | None = None) -> StubContainer:
        """Listen at `address` on `ports`; with a `code`, end with it at once.

        Raises:
            OSError: A port is taken.
        """
        container = cls()
        for port in ports:
            container._servers.append(await asyncio.start_server(container._serve, address, port))
        if code is not None:
            container.finish(code)
        return container

    async def wait(self) -> int:
        """Wait until it is stopped, or ended by `finish()`."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> None:
        """Stop at once; a stub has nothing to save."""
        self.finish(0 if grace > 0 else KILLED)

    def kill(self) -> None:
        """Stop at once."""
        self.finish(KILLED)

    def finish(self, code: int) -> None:
        """End with this exit code, as a program that crashes or completes does."""
        for server in self._servers:
            server.close()
        self._servers = []
        if not self._ended.done():
            self._ended.set_result(code)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_HEAD.encode() + _BODY)
            await writer.drain()
        writer.close()
