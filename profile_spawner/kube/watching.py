"""Watches ConfigMaps with a label, and creates Events on ConfigMaps whose content is refused.

The ConfigMaps are listed once, then watched from that resource version. If the API server no longer has the version
(410) or the connection is lost, they are listed again after a growing pause. Until then, the last state is used.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes_asyncio.client.exceptions import ApiException

from profile_spawner.errors import ClusterError

from .failures import classify
from .transport import Backoff, Transport

__all__ = ["ConfigMapWatch"]

_WATCH_SECONDS = 290
_LONGEST_LINE = 16 * 1024 * 1024
_LARGE = 64 * 1024
_MAX_MESSAGE = 1000  # Kubernetes allows 1024 characters in an Event's message

ConfigMaps = Mapping[str, Mapping[str, Any]]


class ConfigMapWatch:
    """The ConfigMaps of one namespace that a label selector matches.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`.
        namespace: The namespace.
        selector: A label selector.
        log: A logger.
        first_pause: The maximum of the first pause after a failure, in seconds.
    """

    def __init__(
        self,
        api_client: Any,
        namespace: str,
        selector: str,
        *,
        log: logging.Logger | logging.LoggerAdapter[Any],
        first_pause: float = 0.5,
    ) -> None:
        self._client = api_client
        self._namespace = namespace
        self._selector = selector
        self._log = log
        self._first_pause = first_pause
        self._transport = Transport(api_client, log=log, retry_budget=5.0)
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._version = ""
        self._may_tell = True
        self.objects: ConfigMaps = MappingProxyType({})
        """The last known ConfigMaps, by name."""

    async def list(self) -> None:
        """Read all ConfigMaps.

        Raises:
            ClusterError: If the API server refuses or does not answer.
        """
        query = [("labelSelector", self._selector)]
        answer = await self._transport.call("GET", self._path, what="listing ConfigMaps of profiles", query=query)
        self.objects = MappingProxyType({o["metadata"]["name"]: o for o in answer.get("items") or ()})
        self._version = (answer.get("metadata") or {}).get("resourceVersion") or ""

    async def follow(
        self, changed: Callable[[], Any], failed: Callable[[ClusterError | None], Any] = lambda error: None
    ) -> None:
        """Watch until cancelled.

        Args:
            changed: Called after each change of `objects`.
            failed: Called with the error when watching fails, and with `None` when it works again.
        """
        backoff = Backoff(self._first_pause, 30.0)
        broken: bool | None = None  # not known yet
        while True:
            try:
                if not self._version:
                    before = self._versions()
                    await self.list()
                    if broken is not False:
                        broken = False
                        failed(None)
                    if self._versions() != before:
                        changed()
                async for event in self._events():
                    backoff = Backoff(self._first_pause, 30.0)
                    if self._take(event):
                        changed()
            except ClusterError as e:
                self._version = ""
                if broken is not True:
                    broken = True
                    failed(e)
                await asyncio.sleep(backoff.pause())
            except _Gone:
                self._version = ""
            except (ApiException, aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as e:
                self._log.debug("The watch of ConfigMaps ended: %s", e)
                self._version = ""
                await asyncio.sleep(backoff.pause())

    def _versions(self) -> dict[str, Any]:
        return {name: o["metadata"].get("resourceVersion") for name, o in self.objects.items()}

    def _take(self, event: Mapping[str, Any]) -> bool:
        """Apply one event of the watch; return whether `objects` has changed."""
        found = event.get("object") or {}
        if event.get("type") == "ERROR":
            if found.get("code") == 410:
                raise _Gone
            raise ValueError(str(found.get("message"))[:200])
        metadata = found.get("metadata") or {}
        self._version = metadata.get("resourceVersion") or self._version
        if event.get("type") == "BOOKMARK":
            return False
        objects = dict(self.objects)
        name = str(metadata.get("name"))
        if event.get("type") == "DELETED":
            objects.pop(name, None)
        else:
            objects[name] = found
        self.objects = MappingProxyType(objects)
        return True

    async def _events(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the events of one watch, until the API server ends it."""
        query = {
            "labelSelector": self._selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = await self._client.call_api(
            f"{self._path}?{urlencode(query)}",
            "GET",
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=_WATCH_SECONDS + 20,
        )
        response = response[0] if isinstance(response, tuple) else response
        response = getattr(response, "aiohttp_response", response)
        try:
            if response.status == 410:
                raise _Gone
            if not 200 <= response.status <= 299:
                failure = ApiException(status=response.status, reason=response.reason)
                failure.body, failure.headers = await response.read(), response.headers
                raise classify(failure, what="watching ConfigMaps of profiles")
            async for line in _lines(response.content):
                yield await _parsed(line)
        finally:
            response.close()

    async def tell(self, name: str, reason: str, message: str, *, warning: bool) -> None:
        """Create an Event on a ConfigMap; `kubectl describe` shows it. Without the right to do so, do nothing.

        Args:
            name: The name of the ConfigMap.
            reason: The reason, one word in CamelCase.
            message: What happened; shortened to the maximum length.
            warning: Whether the Event is a warning.
        """
        metadata = (self.objects.get(name) or {}).get("metadata") or {}
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
        raise ValueError("an event of the watch is no mapping")
    return event
