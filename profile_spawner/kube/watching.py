"""Watches Kubernetes objects, and creates Events on ConfigMaps whose content is refused.

The objects are listed once, then watched from that resource version. If the API server no longer has the version (410)
or the connection is lost, they are listed again after a growing pause. Until then, the last state is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from kubernetes_asyncio.client.exceptions import ApiException

from profile_spawner.errors import ClusterError
from profile_spawner.names import LABEL_HUB

from .failures import classify
from .identity import labels_of
from .transport import Backoff, Budget, Transport

__all__ = ["ConfigMapWatch", "ObjectWatch"]

_WATCH_SECONDS = 290
_PATIENCE = 5.0  # seconds for the retries of one list, after which the failure is reported
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
        backoff = Backoff(self._first_pause, 30.0)
        broken: bool | None = None  # not known yet
        while True:
            try:
                if not self._version:
                    before = self._versions()
                    await self.list()
                    self._wake(None)
                    if broken is not False:
                        broken = False
                        failed(None)
                    if self._versions() != before:
                        changed(None)
                async for event in self._events():
                    backoff = Backoff(self._first_pause, 30.0)
                    key = self._take(event)
                    if key is not None:
                        changed(key)
            except ClusterError as e:
                self._version = ""
                self._wake(e)
                if broken is not True:
                    broken = True
                    failed(e)
                await self._pause(backoff)
            except _Gone:
                self._version = ""
            except Exception as e:  # noqa: BLE001 - a watch must not end, whatever happens
                self._log.debug("The watch of %s ended: %s", self._what, e)
                self._version = ""
                await self._pause(backoff)

    def _wake(self, error: ClusterError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error) if error is not None else waiter.set_result(None)

    async def _pause(self, backoff: Backoff) -> None:
        """Wait before the next attempt, but not while something else waits for the objects."""
        self._hurry.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), backoff.pause())

    def _versions(self) -> dict[str, Any]:
        return {key: item["metadata"].get("resourceVersion") for key, item in self.found.items()}

    def _take(self, event: Mapping[str, Any]) -> str | None:
        """Apply one event of the watch; return the key of the changed object."""
        item = event.get("object") or {}
        if event.get("type") == "ERROR":
            if item.get("code") == 410:
                raise _Gone
            raise ValueError(str(item.get("message"))[:200])
        self._version = (item.get("metadata") or {}).get("resourceVersion") or self._version
        if event.get("type") == "BOOKMARK":
            return None
        key = _key(item)
        if event.get("type") == "DELETED":
            self.found.pop(key, None)
        else:
            self.found[key] = item
        return key

    async def _events(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the events of one watch, until the API server ends it."""
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
                raise _Gone
            if not 200 <= response.status <= 299:
                failure = ApiException(status=response.status, reason=response.reason)
                failure.body, failure.headers = await response.read(), response.headers
                raise classify(failure, what=f"watching {self._what}")
            async for line in _lines(response.content):
                yield await _parsed(line)
        finally:
            response.close()


class ConfigMapWatch(ObjectWatch):
    """The ConfigMaps of one namespace that a label selector matches.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`.
        namespace: The namespace.
        selector: A label selector.
        log: A logger.
    """

    def __init__(
        self, api_client: Any, namespace: str, selector: str, *, log: logging.Logger | logging.LoggerAdapter[Any]
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        super().__init__(api_client, path, what="ConfigMaps of profiles", selector=selector, log=log)
        self._namespace = namespace
        self._may_tell = True

    @property
    def objects(self) -> Mapping[str, Mapping[str, Any]]:
        """The last known ConfigMaps, by name, without those that belong to servers. A copy.

        A profile can give any label to the ConfigMaps of its servers, also the one that the selector looks for.
        """
        found = {item["metadata"]["name"]: item for item in self.found.values() if not _is_of_a_server(item)}
        return MappingProxyType(found)

    async def tell(self, name: str, reason: str, message: str, *, warning: bool) -> None:
        """Create an Event on a ConfigMap; `kubectl describe` shows it. Without the right to do so, do nothing.

        Args:
            name: The name of the ConfigMap.
            reason: The reason, one word in CamelCase.
            message: What happened; shortened to the maximum length.
            warning: Whether the Event is a warning.
        """
        metadata = (self.found.get(f"{self._namespace}/{name}") or {}).get("metadata") or {}
        if not self._may_tell or not metadata:
            return
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {k: metadata.get(k) for k in ("uid", "resourceVersion")}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name[:50]}.", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": name,
                "namespace": self._namespace,
                **involved,
            },
            "reason": reason,
            "message": message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…",
            "type": "Warning" if warning else "Normal",
            "source": {"component": "profile-spawner"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        path = f"/api/v1/namespaces/{self._namespace}/events"
        try:
            await self._transport.call("POST", path, what="telling about a ConfigMap", body=body)
        except ClusterError as e:
            if getattr(e, "status", None) in (401, 403):
                self._may_tell = False
            self._log.info("Profiles: no Event could be put on ConfigMap %s: %s", name, e)


class _Gone(Exception):  # noqa: N818 - the name of the HTTP status
    """The API server no longer has the requested resource version."""


def _is_of_a_server(item: Mapping[str, Any]) -> bool:
    owners = item["metadata"].get("ownerReferences") or ()
    return LABEL_HUB in labels_of(item) or any(owner.get("kind") == "Pod" for owner in owners)


def _key(item: Mapping[str, Any]) -> str:
    return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"


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
