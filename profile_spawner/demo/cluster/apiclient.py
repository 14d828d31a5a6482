"""A small Kubernetes client for the kubelet and the scheduler: calls with retries, and caches that follow a watch.

It speaks plain HTTP through aiohttp, so the same kubelet works on the local API server and on a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import aiohttp

from .failures import LocalClusterError, shorten

__all__ = ["ApiClient", "ApiError", "Informer", "Json", "Key", "key_of"]

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

Key: TypeAlias = tuple[str, str]
"""Namespace and name of an object."""

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

RETRIED = frozenset({429, 500, 502, 503, 504})
NETWORK_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)

log = logging.getLogger(__name__)


class ApiError(LocalClusterError):
    """The API server refused a call, or could not be reached in time.

    Args:
        status: The HTTP status; 0 when there was no answer.
        reason: The reason of the `Status` object, such as `NotFound`.
        message: What the server says.
        gone: Whether a watch has to start anew (410).
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def key_of(obj: Mapping[str, Any]) -> Key:
    """Return namespace (empty for objects of the cluster) and name of `obj`."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _tls(url: str, ca: str | Path | ssl.SSLContext | None) -> ssl.SSLContext | None:
    """Return the context that verifies the server of `url`, None for plain HTTP."""
    if not url.startswith("https:"):
        return None
    if isinstance(ca, ssl.SSLContext):
        return ca
    return ssl.create_default_context(cafile=str(ca) if ca is not None else None)


class ApiClient:
    """Calls one API server.

    Args:
        url: The address, as `http://127.0.0.1:6443`.
        token: The bearer token; None sends none.
        ca: The file of the certificate authority, or a ready context; only for `https`. Always verified.
        patience: Seconds for which a call is retried on 429, 5xx and broken connections.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        ca: str | Path | ssl.SSLContext | None = None,
        patience: float = 30.0,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self._headers = {"User-Agent": "profile-spawner-localcluster"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = _tls(self.url, ca)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        connector = aiohttp.TCPConnector(limit=100, ssl=self._tls) if self._tls else aiohttp.TCPConnector(limit=100)
        self._session = aiohttp.ClientSession(
            connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout(total=30)
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
            raise ApiError(0, "Closed", "the client of the API server is closed")
        return self._session

    async def call(
        self, method: str, path: str, body: Json | None = None, *, content_type: str = "application/json"
    ) -> Json:
        """Do one call, retried for `patience` seconds while the server is unwell, and return the answer's object.

        Raises:
            ApiError: The server refused, or could not be reached for that long.
        """
        deadline = asyncio.get_running_loop().time() + self.patience
        delay = 0.05
        while True:
            retry_after = 0.0
            try:
                return await self._once(method, path, body, content_type)
            except ApiError as error:
                if error.status not in RETRIED:
                    raise
                failure = error
                retry_after = 1.0 if error.status == 429 else 0.0
            except NETWORK_ERRORS as error:
                failure = ApiError(0, "Unreachable", f"{method} {path}: {shorten(repr(error), 200)}")
            if asyncio.get_running_loop().time() + delay > deadline:
                raise failure
            await asyncio.sleep(max(delay * random.uniform(0.5, 1.0), retry_after))  # noqa: S311 - jitter
            delay = min(delay * 2, 2.0)

    async def _once(self, method: str, path: str, body: Json | None, content_type: str) -> Json:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self.session.request(method, self.url + path, data=data, headers=headers) as answer:
            raw = await answer.read()
            if answer.status < 400:
                return _object(raw)
            raise _refusal(method, path, answer.status, raw)

    async def get(self, path: str) -> Json | None:
        """Return the object at `path`, None when there is none."""
        try:
            return await self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def watch(
        self, path: str, resource_version: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[Json]:
        """Yield the events of `path` after `resource_version` until the server ends the stream.

        Args:
            path: The path of the list.
            resource_version: The version of the list.
            query: Further parameters, such as selectors.

        Raises:
            ApiError: The server refused; status 410 when the version is too old.
        """
        query = {
            **(query or {}),
            "watch": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": "300",
            "allowWatchBookmarks": "true",
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_read=330)
        async with self.session.get(self.url + path, params=query, timeout=timeout) as answer:
            if answer.status >= 400:
                raise _refusal("WATCH", path, answer.status, await answer.read())
            rest = b""
            async for chunk in answer.content.iter_any():
                # Not readline(): a ConfigMap may be longer than any line limit.
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield event


def _object(raw: bytes) -> Json:
    """Return the JSON object in `raw`, an empty one for anything else."""
    with contextlib.suppress(ValueError):
        value = json.loads(raw)
        if isinstance(value, dict):
            return value
    return {}


def _refusal(method: str, path: str, status: int, raw: bytes) -> ApiError:
    """Return the error for an answer with an error status."""
    body = _object(raw)
    message = body.get("message") or raw[:200].decode("utf-8", "replace")
    return ApiError(status, body.get("reason", ""), f"{method} {path}: {status}: {shorten(message, 300)}")


class Informer:
    """A cache of one kind of objects that follows the server: list, then watch, and again when that breaks.

    Args:
        client: The client.
        resource: The plural, as `pods`, of the core group.
        namespaces: The namespaces to follow; None for all of them.
        handler: Called on the loop with `ADDED`, `MODIFIED` or `DELETED` and the object, after the cache changed.
        namespaced: Whether the kind lives in namespaces.
        field_selector: Which objects only, as `metadata.name=local`.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: str,
        *,
        namespaces: Sequence[str] | None = None,
        handler: Callable[[str, Json], None] | None = None,
        namespaced: bool = True,
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self.objects: dict[Key, Json] = {}
        self._client = client
        self._handler = handler
        self._query = {"fieldSelector": field_selector} if field_selector else {}
        self._scopes: list[str | None] = list(namespaces) if namespaces is not None and namespaced else [None]
        self._waiting: defaultdict[Key, list[asyncio.Future[None]]] = defaultdict(list)
        self._unsynced = len(self._scopes)
        self._synced = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow the server in the background."""
        self._tasks = [asyncio.create_task(self._follow(scope)) for scope in self._scopes]

    async def synced(self) -> None:
        """Wait until everything has been listed once."""
        await self._synced.wait()

    async def stop(self) -> None:
        """End the background tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def changed(self, keys: Iterable[Key], timeout: float) -> None:
        """Wait until one of the objects at `keys` changes or appears, at most `timeout` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted = list(keys)
        for key in wanted:
            self._waiting[key].append(future)
        try:
            await asyncio.wait({future}, timeout=timeout)
        finally:
            for key in wanted:
                self._waiting[key].remove(future)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _path(self, scope: str | None) -> str:
        return f"/api/v1/namespaces/{scope}/{self.resource}" if scope else f"/api/v1/{self.resource}"

    async def _follow(self, scope: str | None) -> None:
        delay = 0.05
        first = True
        while True:
            try:
                version = await self._list(scope)
                if first:
                    first = False
                    self._unsynced -= 1
                    if not self._unsynced:
                        self._synced.set()
                while True:
                    version = await self._watch(scope, version)
                    delay = 0.05
            except ApiError as error:
                if error.status != 410:
                    log.warning("Cannot follow %s: %s", self.resource, error)
                    await asyncio.sleep(delay)
            except (*NETWORK_ERRORS, ValueError, KeyError) as error:
                log.debug("The watch of %s broke: %r", self.resource, error)
                await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)

    async def _list(self, scope: str | None) -> str:
        query = f"?{urlencode(self._query)}" if self._query else ""
        answer = await self._client.call("GET", self._path(scope) + query)
        found = {key_of(item): item for item in answer["items"]}
        for key, old in list(self.objects.items()):
            if (scope is None or key[0] == scope) and not _same(old, found.get(key)):
                self._apply("DELETED", old)
        for item in found.values():
            self._apply("MODIFIED" if key_of(item) in self.objects else "ADDED", item)
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, scope: str | None, version: str) -> str:
        async for event in self._client.watch(self._path(scope), version, self._query):
            obj = event["object"]
            version = obj["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._apply(event["type"], obj)
        return version

    def _apply(self, kind: str, obj: Json) -> None:
        key = key_of(obj)
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = obj
        if self._handler is not None:
            try:
                self._handler(kind, obj)
            except Exception:
                log.exception("Handling %s of %s %s failed", kind, self.resource, key)
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)


def _same(old: Json, new: Json | None) -> bool:
    """Whether `new` is still the same object as `old`, not another one under its name."""
    return new is not None and bool(new["metadata"].get("uid") == old["metadata"].get("uid"))
