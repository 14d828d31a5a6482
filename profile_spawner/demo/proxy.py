"""The proxy in front of the demo's hub, which passes responses on while they arrive.

The handler of configurable-http-proxy's Python package fetches a whole response before it sends the first byte, and
gives up after 20 seconds. Then the progress of a start is never shown, and large downloads are held in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import os

import aiohttp
from configurable_http_proxy.configproxy import PythonProxy
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.web import Application
from yarl import URL

__all__ = ["StreamingHandler", "make_proxy"]

_PER_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding"})
"""Headers about one connection, which a proxy does not pass on."""


class StreamingHandler(ProxyHandler):
    """Passes one request on. WebSockets, routes and error pages are those of the package."""

    client: aiohttp.ClientSession | None = None
    _response: aiohttp.ClientResponse | None = None

    async def call_proxy(self, path: str | None = None) -> None:
        """Send the request to the target of its route, and each part of the response to the client at once."""
        url = await self.get_target_url(path)
        if url is None:
            return
        if self.client is None:
            type(self).client = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=20),
                connector=aiohttp.TCPConnector(limit=0),
            )
        assert self.client is not None
        request = self._get_proxy_request(url)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _PER_CONNECTION}
        try:
            self._response = await self.client.request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=request.body or None,
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            await self.handle_proxy_error(503, error)
            return
        async with self._response as response:
            self.set_status(response.status, response.reason)
            for name in {name for name, _ in self._headers.get_all()}:
                self.clear_header(name)
            for name, value in response.headers.items():
                if name.lower() not in _PER_CONNECTION:
                    self.add_header(name, value)
            try:
                await self.flush()
                async for part in response.content.iter_any():
                    self.write(part)
                    await self.flush()
                await self.finish()
            except (aiohttp.ClientError, StreamClosedError):
                # Half a response has been sent: only a closed connection tells the client that the rest is missing.
                if not self._finished:
                    self.detach().close()

    def on_connection_close(self) -> None:
        """Close the connection to the target when the client is gone."""
        super().on_connection_close()
        if self._response is not None:
            self._response.close()


def make_proxy(token: str) -> PythonProxy:
    """Return a proxy whose `proxy_app` and `api_app` can be served. `token` protects the latter."""
    proxy = PythonProxy({"auth_token": token})
    proxy.proxy_app = Application([(r"/(.*)", StreamingHandler, {"proxy": proxy})])
    return proxy


async def _serve(port: int, api_port: int) -> None:
    proxy = make_proxy(os.environ["CONFIGPROXY_AUTH_TOKEN"])
    HTTPServer(proxy.proxy_app).listen(port, "127.0.0.1")
    HTTPServer(proxy.api_app).listen(api_port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The proxy of the demo; its token is in CONFIGPROXY_AUTH_TOKEN.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.api_port))
