"""A small Kubernetes client for the kubelet and the scheduler: calls with retries, and caches that follow a watch.

It speaks HTTP through aiohttp, so the same kubelet works on the local API server and on a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp

from .failures import LocalClusterError

__all__ = ["MERGE_PATCH", "ApiClient", "ApiError", "Informer", "Json", "Key", "KnownObjects", "key_of"]

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

Key: TypeAlias = tuple[str, str]
"""Namespace and name of an object."""

MERGE_PATCH = "application/merge-patch+json"

_RETRIED = frozenset({429, 500, 502, 503, 504})
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Seconds before each further attempt of a call."""

_NETWORK_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)

log = logging.getLogger(__name__)


class ApiError(LocalClusterError):
    """The API server refused a call, or could not be reached in time.

    Args:
        status: The HTTP status; 0 when there was no answer.
        message: What the server says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def key_of(obj: Mapping[str, Any]) -> Key:
    """Return namespace (empty for objects of the cluster) and name of `obj`."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class ApiClient:
    """Calls one API server.

    Args:
        url: The address, as `http://127.0.0.1:6443`.
        token: The bearer token.
        ca: The file of the certificate authority; only for `https`.
    """

    def __init__(self, url: str, token: str, *, ca: str | Path | None = None) -> None:
        self.url = url
        self._headers = {"User-Agent": "profile-spawner-localcluster", "Authorization": f"Bearer {token}"}
        self._tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca else True
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            self.url,
            connector=aiohttp.TCPConnector(limit=100, ssl=self._tls),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def close(self) -> None:
        """Close all connections; calls that are under way fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session; `ApiError` before `start()` and after `close()`."""
        if self._session is None:
            raise ApiError(0, "the client of the API server is closed")
        return self._session

    async def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Do one call, again for some seconds while the server fails, and return the answer's object.

        Raises:
            ApiError: The server refused, or could not be reached for that long.
        """
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        for pause in (*_PAUSES, None):
            try:
                async with self.session.request(method, path, data=data, headers=headers, params=query) as answer:
                    return await _read(answer)
            except ApiError as error:
                if error.status not in _RETRIED or pause is None:
                    raise
            except _NETWORK_ERRORS as error:
                if pause is None:
                    raise ApiError(0, f"{method} {path}: {error!r}") from error
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def get(self, path: str) -> Json | None:
        """Return the object at `path`, None when there is none."""
        try:
            return await self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def watch(self, path: str, version: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Json]:
        """Yield the events of `path` after the resource version of a list, until the server ends the stream.

        Raises:
            ApiError: The server refused; status 410 when the version is too old.
        """
        query = {**(query or {}), "watch": "true", "resourceVersion": version, "timeoutSeconds": "300"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=330)
        async with self.session.get(path, params=query, timeout=timeout) as answer:
            if answer.status >= 400:
                await _read(answer)
            rest = b""
            async for chunk in answer.content.iter_any():
                # Not readline(): a ConfigMap may be longer than any line limit.
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 500), str(event["object"].get("message")))
                    yield event


async def _read(answer: aiohttp.ClientResponse) -> Json:
    """Return the object of an answer; `ApiError` when it is a refusal."""
    text = await answer.text()
    if answer.status >= 400:
        raise ApiError(answer.status, f"{answer.method} {answer.url.path}: {answer.status}: {text[:300]}")
    found: Json = json.loads(text)
    return found


class Informer:
    """A cache of one kind of objects that follows the server: list, then watch, and again when that breaks.

    Args:
        client: The client.
        path: The path of the list.
        objects: The cache; several informers may share it when their objects differ.
        handler: Called on the loop with `ADDED`, `MODIFIED` or `DELETED` and the object, after the cache changed.
        query: Which objects only, as `{"fieldSelector": "metadata.name=local"}`.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        objects: dict[Key, Json],
        handler: Callable[[str, Json], None],
        query: Mapping[str, str],
    ) -> None:
        self._client = client
        self._path = path
        self._objects = objects
        self._known: set[Key] = set()
        self._handler = handler
        self._query = query
        self._synced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow the server in the background, and wait until everything has been listed once."""
        self._task = asyncio.create_task(self._follow())
        await self._synced.wait()

    async def stop(self) -> None:
        """End the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                version = await self._list()
                self._synced.set()
                while True:
                    async for event in self._client.watch(self._path, version, self._query):
                        version = event["object"]["metadata"]["resourceVersion"]
                        self._apply(event["type"], event["object"])
            except (ApiError, *_NETWORK_ERRORS, ValueError, KeyError) as error:
                log.debug("The watch of %s broke: %r", self._path, error)
                await asyncio.sleep(0.2)

    async def _list(self) -> str:
        answer = await self._client.call("GET", self._path, query=self._query)
        found = {key_of(item): item for item in answer["items"]}
        for key in list(self._known):
            old = self._objects[key]
            if key not in found or found[key]["metadata"]["uid"] != old["metadata"]["uid"]:
                self._apply("DELETED", old)
        for item in found.values():
            self._apply("MODIFIED" if key_of(item) in self._known else "ADDED", item)
        return str(answer["metadata"]["resourceVersion"])

    def _apply(self, change: str, obj: Json) -> None:
        key = key_of(obj)
        if change == "DELETED":
            self._objects.pop(key, None)
            self._known.discard(key)
        else:
            self._objects[key] = obj
            self._known.add(key)
        try:
            self._handler(change, obj)
        except Exception:
            log.exception("Handling %s of %s failed", change, key)


class KnownObjects:
    """Objects that pods refer to, as informers have seen them.

    Args:
        client: Asked for an object that no informer has seen yet.

    Attributes:
        objects: By plural, the objects by namespace and name.
    """

    def __init__(self, client: ApiClient) -> None:
        self.objects: defaultdict[str, dict[Key, Json]] = defaultdict(dict)
        self._client = client
        self._waiting: defaultdict[tuple[str, Key], asyncio.Event] = defaultdict(asyncio.Event)

    async def read(self, plural: str, namespace: str, name: str) -> Json | None:
        """Return an object, None when there is none."""
        found = self.objects[plural].get((namespace, name))
        return found or await self._client.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}")

    def notify(self, plural: str, key: Key) -> None:
        """Wake the tasks that wait for an object."""
        if event := self._waiting.pop((plural, key), None):
            event.set()

    async def changed(self, plural: str, key: Key, timeout: float) -> None:
        """Wait until an object changes or appears, at most `timeout` seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._waiting[plural, key].wait(), timeout)
