"""Watches Kubernetes objects, and creates Events on them.

The objects are listed once, then watched from that resource version. If the API server no longer has the version (410)
or the connection is lost, they are listed again after a pause. Until then, the last state is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from cachetools import LRUCache
from kubernetes_asyncio.client.exceptions import ApiException

from profile_spawner.errors import ClusterError
from profile_spawner.names import LABEL_HUB

from .failures import KubeFailure, classify
from .identity import labels_of
from .transport import Backoff, Budget, Transport

__all__ = ["EventRecorder", "ObjectWatch", "belongs_to_a_server"]

_WATCH_SECONDS = 290
_PATIENCE = 5.0  # seconds for the retries of one list, after which the failure is reported
_LONGEST_PAUSE = 30.0
_SHORTEST_WATCH = 0.5  # a watch that the API server ends sooner, and without an event, is not requested again at once
_LONGEST_LINE = 16 * 1024 * 1024
_LARGE = 64 * 1024
_MAX_MESSAGE = 1000  # Kubernetes allows 1024 characters in an Event's message


class ObjectWatch:
    """The objects of one collection, kept up to date.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`.
        path: The path of the collection, such as `/api/v1/pods`.
        what: The objects, for messages.
        selector: A label selector.
        field_selector: A field selector.
        log: A logger.
        first_pause: The maximum of the first pause after a failure, in seconds.
        patience: The maximum time for the retries of the first list, in seconds: `ready` waits for it.
        seconds: The duration of one request to watch, in seconds. A lost connection is noticed soon after that time.

    Attributes:
        found: The last known objects, by `namespace/name`. Always the same dictionary.
    """

    def __init__(
        self,
        api_client: Any,
        path: str,
        *,
        what: str,
        selector: str = "",
        field_selector: str = "",
        log: logging.Logger | logging.LoggerAdapter[Any],
        first_pause: float = 0.5,
        patience: float = _PATIENCE,
        seconds: int = _WATCH_SECONDS,
    ) -> None:
        self._client = api_client
        self._path = path
        self._what = what
        self._selectors = {"labelSelector": selector, "fieldSelector": field_selector}
        self._log = log
        self._first_pause = first_pause
        self._seconds = seconds
        self._patience = patience
        self._transport = Transport(api_client, log=log, retry_budget=_PATIENCE)
        self._version = ""
        self._listed = False
        self._waiting: list[asyncio.Future[None]] = []
        self._hurry = asyncio.Event()
        self.found: dict[str, Mapping[str, Any]] = {}

    async def list(self) -> None:
        """Read all objects.

        Raises:
            ClusterError: If the API server refuses or does not answer.
        """
        items, version = await self._transport.list_with_version(
            self._path,
            what=self._what,
            selector=self._selectors["labelSelector"],
            field_selector=self._selectors["fieldSelector"],
            budget=Budget(_PATIENCE if self._listed else self._patience),
        )
        self.found.clear()
        self.found.update({_key(item): item for item in items})
        self._version, self._listed = version, True

    async def ready(self) -> None:
        """Wait until the objects have been listed once. Something else must run `follow`.

        Raises:
            ClusterError: If the API server refuses or does not answer.
        """
        self._hurry.set()
        if not self._listed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    async def follow(
        self, changed: Callable[[str | None], Any], failed: Callable[[ClusterError | None], Any] = lambda error: None
    ) -> None:
        """Watch until cancelled.

        Args:
            changed: Called after each change of `found`, with the key of the object; with `None` if several objects
                may have changed.
            failed: Called with the error when listing fails, and with `None` when it works again.
        """
        loop = asyncio.get_running_loop()
        # A successful list ends the growth of the pauses after failed lists and lost connections. It does not if the
        # API server lists the objects but refuses to watch them: that ends with an event or a complete watch.
        lost, refused = self._backoff(), self._backoff()
        broken: bool | None = None  # not known yet
        while True:
            pauses = lost
            try:
                if not self._version:
                    before = self._versions()
                    await self.list()
                    self._wake(None)
                    lost = self._backoff()
                    if self._versions() != before:
                        changed(None)
                pauses = refused
                async with self._watch() as events:
                    pauses, started, quiet = lost, loop.time(), True
                    if broken is not False:
                        broken = False
                        failed(None)
                    async for event in events:
                        key = self._take(event)
                        refused, quiet = self._backoff(), False
                        if key is not None:
                            changed(key)
                if quiet and loop.time() - started < _SHORTEST_WATCH:
                    await self._pause(refused)
                else:
                    refused = self._backoff()
            except ClusterError as e:
                self._version = ""
                self._wake(e)
                if broken is not True:
                    broken = True
                    failed(e)
                await self._pause(pauses)
            except Exception as e:  # noqa: BLE001 - a watch must not end, whatever happens
                self._log.debug("The watch of %s ended: %s", self._what, e)
                self._version = ""
                await self._pause(refused if isinstance(e, _Refused) else pauses)

    def _backoff(self) -> Backoff:
        return Backoff(self._first_pause, _LONGEST_PAUSE)

    def _wake(self, error: ClusterError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error) if error is not None else waiter.set_result(None)

    async def _pause(self, backoff: Backoff) -> None:
        """Wait before the next attempt, but not while something else waits for the objects."""
        self._hurry.clear()
        waiting = asyncio.ensure_future(self._hurry.wait())
        try:
            # Before Python 3.12, `wait_for` may ignore that this task is cancelled.
            await asyncio.wait([waiting], timeout=backoff.pause())
        finally:
            waiting.cancel()

    def _versions(self) -> dict[str, Any]:
        return {key: item["metadata"].get("resourceVersion") for key, item in self.found.items()}

    def _take(self, event: Mapping[str, Any]) -> str | None:
        """Apply one event of the watch; return the key of the changed object."""
        item = event.get("object") or {}
        if event.get("type") == "ERROR":
            raise _Refused(str(item.get("message"))[:200])
        self._version = (item.get("metadata") or {}).get("resourceVersion") or self._version
        if event.get("type") == "BOOKMARK":
            return None
        key = _key(item)
        if event.get("type") == "DELETED":
            self.found.pop(key, None)
        else:
            self.found[key] = item
        return key

    @contextlib.asynccontextmanager
    async def _watch(self) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Begin one watch; yield its events, which end when the API server ends it."""
        query = {
            **{name: value for name, value in self._selectors.items() if value},
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(self._seconds),
        }
        response = await self._client.call_api(
            f"{self._path}?{urlencode(query)}",
            "GET",
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=self._seconds + 20,
        )
        response = response[0] if isinstance(response, tuple) else response
        response = getattr(response, "aiohttp_response", response)
        try:
            if response.status == 410:
                raise _Refused("the API server no longer has the version")
            if not 200 <= response.status <= 299:
                failure = ApiException(status=response.status, reason=response.reason)
                failure.body, failure.headers = await response.read(), response.headers
                raise classify(failure, what=f"watching {self._what}")
            yield _events(response.content)
        finally:
            response.close()


class EventRecorder:
    """Creates Events on the objects of one namespace; `kubectl describe` shows them.

    An Event that this process has created before, with the same reason and message on the same object, is counted up.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`.
        namespace: The namespace.
        log: A logger.
    """

    def __init__(self, api_client: Any, namespace: str, *, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._transport = Transport(api_client, log=log, retry_budget=_PATIENCE)
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/events"
        self._log = log
        self._created: LRUCache[tuple[str, str, str], tuple[str, int]] = LRUCache(1000)
        self._failing = False

    async def tell(self, kind: str, metadata: Mapping[str, Any], reason: str, message: str, *, warning: bool) -> bool:
        """Create an Event on an object of the core API, or count it up.

        Args:
            kind: The kind of the object.
            metadata: Its `metadata`.
            reason: The reason, one word in CamelCase.
            message: What happened; shortened to the maximum length.
            warning: Whether the Event is a warning.

        Returns:
            Whether the API server took it. The hub may lack the right.
        """
        what = f"an Event on {kind} {metadata['name']}"
        try:
            await self._write(kind, metadata, reason, message, warning=warning, what=what)
        except ClusterError as e:
            self._log.log(
                logging.DEBUG if self._failing else logging.INFO, "Profiles: %s could not be written: %s", what, e
            )
            self._failing = True
        else:
            self._failing = False
        return not self._failing

    async def _write(
        self, kind: str, metadata: Mapping[str, Any], reason: str, message: str, *, warning: bool, what: str
    ) -> None:
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"
        known = (str(metadata.get("uid")), reason, message)
        name, count = self._created.get(known, ("", 0))
        if name:
            counted = {"count": count + 1, "lastTimestamp": now}
            try:
                await self._transport.call("PATCH", f"{self._path}/{name}", what=f"counting up {what}", body=counted)
            except KubeFailure as e:
                if e.status not in (403, 404):  # The API server deletes old Events.
                    raise
            else:
                self._created[known] = (name, count + 1)
                return
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name'][:50]}.", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": kind,
                "name": metadata["name"],
                "namespace": self._namespace,
                **{key: metadata.get(key) for key in ("uid", "resourceVersion")},
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": "profile-spawner"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        created = await self._transport.call("POST", self._path, what=f"creating {what}", body=body)
        self._created[known] = (created["metadata"]["name"], 1)


class _Refused(Exception):  # noqa: N818 - nothing is wrong here
    """The API server does not continue the watch, for example because it no longer has the resource version."""


def belongs_to_a_server(item: Mapping[str, Any]) -> bool:
    """Return whether an object was made for servers. A profile can give any label to the objects of its servers."""
    owners = item["metadata"].get("ownerReferences") or ()
    return LABEL_HUB in labels_of(item) or any(owner.get("kind") == "Pod" for owner in owners)


def _key(item: Mapping[str, Any]) -> str:
    return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"


async def _events(content: Any) -> AsyncIterator[Mapping[str, Any]]:
    async for line in _lines(content):
        yield await _parsed(line)


async def _lines(content: Any) -> AsyncIterator[bytes]:
    buffer = b""
    async for chunk in content.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        if len(buffer) > _LONGEST_LINE:
            raise ValueError("an event of the watch is too long")
        for line in lines:
            if line.strip():
                yield line


async def _parsed(line: bytes) -> Mapping[str, Any]:
    # A large document is parsed in a thread, so that the event loop is not blocked.
    event = await asyncio.to_thread(json.loads, line) if len(line) > _LARGE else json.loads(line)
    if not isinstance(event, dict):
        raise ValueError("an event of the watch is not a mapping")
    return event
