"""A proxy in front of any API server that fails on demand, so that the same faults hit the local and the real one."""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiohttp
import pytest_asyncio
from aiohttp import web

from tests.control_plane import ControlPlane

Mode = Literal["answer", "reset", "reset-after", "hang", "hang-after"]
_HOP = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


class Seen(NamedTuple):
    """A request that reached the proxy. `status` is what the client got, 0 for nothing."""

    method: str
    path: str
    status: int
    body: Any


def status_body(code: int, reason: str, message: str = "", **details: Any) -> dict[str, Any]:
    """Return a `Status` as Kubernetes writes it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }


@dataclass
class Fault:
    """What goes wrong, for which requests, and how often.

    Attributes:
        mode: `answer`: the proxy answers itself. `reset`, `hang`: the server never sees the request. `reset-after`,
            `hang-after`: the server carries it out, the client never learns.
        methods: Which methods.
        path: A pattern that is searched in the path.
        times: How often; -1 for ever.
        status: The answer's HTTP status.
        body: The answer's body.
        headers: The answer's headers.
        chance: How likely a request that fits meets the fault, from 0 to 1.
        when: Called before the fault, to change the world behind the client's back.
        query: A pattern that is searched in the query.
    """

    mode: Mode = "answer"
    methods: tuple[str, ...] = ("POST",)
    path: str = ""
    times: int = 1
    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chance: float = 1.0
    when: Callable[[], Any] | None = None
    query: str = ""


class FaultProxy:
    """Forwards everything to `url`, except for what its faults say.

    Args:
        url: The API server.
        ca_path: The CA of its certificate, for HTTPS.
    """

    def __init__(self, url: str, ca_path: Path | None) -> None:
        self._target = url
        self._ca = ca_path
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.carried_out = asyncio.Event()
        """Set when a request was carried out without the client learning of it."""
        self._released = asyncio.Event()
        self._random = random.Random(1)
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        context = ssl.create_default_context(cafile=str(self._ca)) if self._ca else False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},  # a large list would come compressed, and is only passed on here
        )
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.listen(0)

    async def listen(self, port: int) -> None:
        """Open the port (again)."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()
        assert self._site._server is not None
        self.port = self._site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.port}"

    async def close_port(self) -> None:
        """Refuse connections from now on."""
        await self._site.stop()

    def hang_up(self) -> None:
        """Break all connections."""
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def stop(self) -> None:
        """Let go of everything that hangs, and end."""
        self._released.set()
        await self._runner.cleanup()
        await self._session.close()

    def clear(self) -> None:
        """Forget faults and requests."""
        self.faults.clear()
        self.seen.clear()

    def counts(self, resource: str = "") -> Counter[str]:
        """Count the requests by method; with `resource`, only those for this plural."""
        return Counter(s.method for s in self.seen if not resource or f"/{resource}" in s.path)

    def _fault_for(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            fits = fault.times and request.method in fault.methods and re.search(fault.path, request.path)
            fits = fits and re.search(fault.query, request.query_string)
            if fits and self._random.random() < fault.chance:
                fault.times -= 1
                return fault
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        if request.path.endswith("/selfsubjectaccessreviews"):
            # What the hub may do is asked in the background, at any time; it belongs to no start.
            return await self._forward(request, data)
        fault = self._fault_for(request)
        status = 0
        try:
            if fault is not None and fault.when is not None:
                await fault.when()
            if fault is not None and fault.mode == "answer":
                status = fault.status
                text = fault.body if isinstance(fault.body, str) else json.dumps(fault.body or {})
                return web.Response(
                    status=status, text=text, headers={"Content-Type": "application/json", **fault.headers}
                )
            if fault is not None and fault.mode in ("reset", "hang"):
                return await self._no_answer(request, fault)
            if "watch" in request.query:
                if fault is not None:
                    self.carried_out.set()
                return await self._stream(request)
            answer = await self._forward(request, data)
            if fault is not None:
                self.carried_out.set()
                return await self._no_answer(request, fault)
            status = answer.status
            return answer
        finally:
            self.seen.append(Seen(request.method, request.path, status, json.loads(data) if data else None))

    async def _no_answer(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.mode.startswith("hang"):
            await self._released.wait()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _forward(self, request: web.Request, data: bytes) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        async with self._session.request(
            request.method, self._target + request.path_qs, data=data or None, headers=headers
        ) as response:
            body = await response.read()
            kept = {k: v for k, v in response.headers.items() if k.lower() not in (*_HOP, "content-encoding")}
            return web.Response(status=response.status, body=body, headers=kept)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self._target + request.path_qs, headers=headers, timeout=timeout) as upstream:
            answer = web.StreamResponse(status=upstream.status, headers={"Content-Type": upstream.content_type})
            await answer.prepare(request)
            async for chunk in upstream.content.iter_any():
                await answer.write(chunk)
        await answer.write_eof()
        return answer


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(control_plane: ControlPlane) -> AsyncIterator[FaultProxy]:
    """A proxy in front of the control plane, without faults at first."""
    started = FaultProxy(control_plane.url, control_plane.ca_path)
    await started.start()
    yield started
    await started.stop()
