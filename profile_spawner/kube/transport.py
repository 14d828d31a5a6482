"""Sends requests to the API server, with retries within a time budget.

Requests and responses are plain JSON. The client's own decoding is not used, because at log level DEBUG it logs every
response, including Secrets.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from random import SystemRandom
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes_asyncio.client.exceptions import ApiException

from .failures import KubeFailure, classify

__all__ = ["Backoff", "Budget", "Transport"]

_LONGEST_PAUSE = 5.0
_LONGEST_REQUEST = 15.0
_RANDOM = SystemRandom()
_FAULTS = (ApiException, aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError)


class Budget:
    """A deadline that several requests share.

    Args:
        seconds: The time until the deadline, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        self._start = asyncio.get_running_loop().time()
        self.seconds = seconds

    @property
    def spent(self) -> float:
        """The seconds since the budget was created."""
        return asyncio.get_running_loop().time() - self._start

    @property
    def left(self) -> float:
        """The seconds until the deadline; 0 if it has passed."""
        return max(0.0, self.seconds - self.spent)


class Backoff:
    """Growing pauses with jitter, so that many spawns that failed together do not retry together.

    Args:
        first: The maximum of the first pause, in seconds; doubled each time.
        longest: The maximum of all pauses, in seconds.
    """

    def __init__(self, first: float, longest: float = _LONGEST_PAUSE) -> None:
        self._next = first
        self._longest = longest

    def pause(self, at_least: float | None = None) -> float:
        """Return the next pause in seconds, not shorter than `at_least`."""
        upper, self._next = self._next, min(self._next * 2, self._longest)
        pause = _RANDOM.uniform(upper / 2, upper)
        return pause if at_least is None else at_least + pause


class Transport:
    """Requests to one API server.

    Args:
        api_client: A `kubernetes_asyncio.client.ApiClient`; its connections and credentials are used.
        log: The logger for retries.
        request_timeout: The timeout of one attempt, in seconds. Doubled after each timeout, up to 15.
        retry_budget: The maximum time for a request with its retries, in seconds, if the caller passes no budget.
        first_pause: The maximum of the first pause between attempts, in seconds.
    """

    def __init__(
        self,
        api_client: Any,
        *,
        log: logging.Logger | logging.LoggerAdapter[Any],
        request_timeout: float = 3.0,
        retry_budget: float = 30.0,
        first_pause: float = 0.2,
    ) -> None:
        self._client = api_client
        self._log = log
        self.request_timeout = request_timeout
        self.retry_budget = retry_budget
        self.first_pause = first_pause

    def budget(self) -> Budget:
        """Return a new deadline for requests that belong together."""
        return Budget(self.retry_budget)

    async def call(
        self,
        method: str,
        path: str,
        *,
        what: str,
        profile: str | None = None,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        accept: str = "application/json",
        budget: Budget | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the response. Retryable errors are retried within the budget.

        Raises:
            KubeFailure: The last failure. Its `ambiguous` is true if any of the attempts may have been executed.
        """
        budget = budget or self.budget()
        backoff = Backoff(self.first_pause)
        timeout, attempts, ambiguous = self.request_timeout, 0, False
        failure: KubeFailure | None = None
        while True:
            attempts += 1
            cut_short = budget.left < timeout
            try:
                patience = max(0.001, min(timeout, budget.left))
                return await self.once(method, path, body, query, accept, patience)
            except _FAULTS as exc:
                earlier, current = failure, classify(exc, what=what, profile=profile)
            assert isinstance(current, KubeFailure)
            ambiguous = ambiguous or current.ambiguous
            # What the API server said before is the reason, not that the budget left no time to ask again.
            failure = earlier if earlier and current.reason == "timeout" and cut_short else current
            failure.ambiguous = ambiguous
            if failure.reason == "timeout":
                timeout = min(timeout * 2, _LONGEST_REQUEST)
            pause = backoff.pause(failure.retry_after)
            if not failure.retryable or pause >= budget.left:
                if attempts > 1:
                    failure.message += f" ({attempts} attempts in {budget.spent:.1f} s)"
                raise failure
            self._log.debug("%s; trying again in %.1f s", failure.message, pause)
            await asyncio.sleep(pause)

    async def once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Sequence[tuple[str, str]],
        accept: str,
        timeout: float,
    ) -> dict[str, Any]:
        """Send a request once and return the response. Exceptions are not converted."""
        # Put the query into the path, because the client's encoding differs between versions.
        url = f"{path}?{urlencode(query)}" if query else path
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        response = await self._client.call_api(
            url,
            method,
            header_params={"Accept": accept, "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=timeout,
        )
        # Older clients return a triple, newer ones the response.
        response = response[0] if isinstance(response, tuple) else response
        response = getattr(response, "aiohttp_response", response)
        try:
            data = await response.read()
        finally:
            response.release()
        if not 200 <= response.status <= 299:
            failure = ApiException(status=response.status, reason=response.reason)
            failure.body, failure.headers = data, response.headers
            raise failure
        answer = json.loads(data)
        if not isinstance(answer, dict):
            raise ValueError("not a JSON object")
        return answer

    async def get_or_none(
        self, path: str, *, what: str, profile: str | None = None, budget: Budget | None = None
    ) -> dict[str, Any] | None:
        """Return an object; `None` if it does not exist."""
        try:
            return await self.call("GET", path, what=f"reading {what}", profile=profile, budget=budget)
        except KubeFailure as failure:
            if failure.status == 404:
                return None
            raise

    async def delete(
        self,
        path: str,
        *,
        what: str,
        uid: str,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        budget: Budget | None = None,
    ) -> bool:
        """Delete exactly the object with this UID.

        Returns:
            `False` if the object does not exist or the name belongs to another object. Also `False` if an earlier
            attempt deleted the object and its response was lost.

        Raises:
            ClusterError: If the API server refuses or does not answer.
        """
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        body["propagationPolicy"] = "Background"  # otherwise the pods of a Job are not deleted
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self.call("DELETE", path, what=f"deleting {what}", body=body, budget=budget)
        except KubeFailure as failure:
            if failure.status == 404 or (failure.status == 409 and not failure.retryable):
                return False
            raise
        return True

    async def list_all(
        self,
        path: str,
        *,
        what: str,
        selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        page: int = 500,
    ) -> list[dict[str, Any]]:
        """Return all objects of a collection; see `list_with_version`."""
        items, _ = await self.list_with_version(
            path, what=what, selector=selector, field_selector=field_selector, metadata_only=metadata_only, page=page
        )
        return items

    async def list_with_version(
        self,
        path: str,
        *,
        what: str,
        selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        page: int = 500,
        budget: Budget | None = None,
    ) -> tuple[list[dict[str, Any]], str]:
        """Return all objects of a collection, read page by page, and its resource version.

        Args:
            path: The path of the collection.
            what: The objects, for messages.
            selector: A label selector.
            field_selector: A field selector.
            metadata_only: Request only metadata, so that the contents of Secrets are not transferred.
            page: The number of objects per request.
            budget: The maximum time for all pages together; by default each page has its own.
        """
        accept = "application/json"
        if metadata_only:
            accept = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{accept}"
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            query = [("limit", str(page))]
            if selector:
                query.append(("labelSelector", selector))
            if field_selector:
                query.append(("fieldSelector", field_selector))
            if token:
                query.append(("continue", token))
            answer = await self.call("GET", path, what=f"listing {what}", query=query, accept=accept, budget=budget)
            items += answer.get("items") or []
            metadata = answer.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return items, metadata.get("resourceVersion") or ""
