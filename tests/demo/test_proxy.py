"""The demo's proxy passes on what arrives, when it arrives."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from profile_spawner.demo.proxy import StreamingHandler, make_proxy

MIB = 1 << 20


class Target:
    """A server behind the proxy: a slow stream, a large file, an upload, cookies, and a response that breaks off."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.client_left = asyncio.Event()

    async def progress(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: starting\n\n")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.client_left.set()
            raise
        await response.write(b"data: ready\n\n")
        return response

    async def large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(50 * MIB)})
        await response.prepare(request)
        for _ in range(50):
            await response.write(bytes(MIB))
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async def echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        response = web.Response(body=body, status=207, reason="As Sent")
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        return response


@pytest.fixture
async def target() -> Target:
    """Return the server behind the proxy."""
    return Target()


@pytest.fixture
async def url(target: Target) -> AsyncIterator[str]:
    """The address of a proxy in front of `target`."""
    app = web.Application()
    app.router.add_get("/progress", target.progress)
    app.router.add_get("/large", target.large)
    app.router.add_get("/cut", target.cut)
    app.router.add_post("/echo me", target.echo)
    server = TestServer(app, handler_cancellation=True)
    await server.start_server()
    proxy = make_proxy("secret")
    proxy.add_route("/", {"target": str(server.make_url("/"))})
    proxy.add_route("/gone", {"target": "http://127.0.0.1:1"})
    socket, port = bind_unused_port()
    http = HTTPServer(proxy.proxy_app)
    http.add_socket(socket)
    yield f"http://127.0.0.1:{port}"
    http.stop()
    await http.close_all_connections()
    await server.close()
    if StreamingHandler.client is not None:
        await StreamingHandler.client.close()
        StreamingHandler.client = None


async def test_the_first_event_arrives_before_the_response_ends(url: str, target: Target) -> None:
    """Progress is seen while a server starts."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/progress") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.content.readline() == b"data: starting\n"
        target.go_on.set()
        assert (await response.content.read()).endswith(b"data: ready\n\n")


async def test_a_client_that_leaves_ends_the_request_to_the_target(url: str, target: Target) -> None:
    """A closed tab does not leave a stream open."""
    async with aiohttp.ClientSession() as client:
        response = await client.get(f"{url}/progress")
        await response.content.readline()
        response.close()
        await asyncio.wait_for(target.client_left.wait(), 30)


async def test_a_large_download_needs_little_memory(url: str) -> None:
    """50 MiB pass through; the proxy, the server and the client of this process hold a small part of it."""
    tracemalloc.start()
    try:
        async with aiohttp.ClientSession() as client, client.get(f"{url}/large") as response:
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
        assert size == int(response.headers["Content-Length"]) == 50 * MIB
        assert tracemalloc.get_traced_memory()[1] < 25 * MIB
    finally:
        tracemalloc.stop()


async def test_bodies_statuses_and_repeated_headers_are_passed_on(url: str) -> None:
    """The response is that of the target, without what concerns one connection only."""
    async with aiohttp.ClientSession() as client, client.post(f"{url}/echo%20me", data=b"\x00body") as response:
        assert (response.status, response.reason) == (207, "As Sent")
        assert await response.read() == b"\x00body"
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert len(response.headers.getall("Date")) == 1


async def test_a_response_that_breaks_off_is_not_passed_on_as_whole(url: str) -> None:
    """The client notices that the rest is missing."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/cut") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_target_that_does_not_answer_is_a_503(url: str) -> None:
    """JupyterHub's own page for it is not there yet; the proxy's is."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/gone") as response:
        assert response.status == 503
