"""Lists: which objects, in which order, and page by page."""

from __future__ import annotations

import base64
import binascii
import json

from .answers import Object, StatusError, bad_request, expired
from .kinds import ResourceType
from .requests import ApiRequest
from .selectors import compile_selectors
from .store import Store, Stored

__all__ = ["Page", "list_page", "wanted_version"]


class Page:
    """One answer to a list.

    Attributes:
        items: The objects.
        version: The resource version of the list; a watch from there misses nothing.
        token: The `continue` token; empty on the last page.
        remaining: How many objects follow; None where it is not known.
    """

    def __init__(self, items: list[Stored], version: int, token: str = "", remaining: int | None = None) -> None:
        self.items = items
        self.version = version
        self.token = token
        self.remaining = remaining

    @property
    def metadata(self) -> Object:
        """The list's metadata."""
        found: Object = {"resourceVersion": str(self.version)}
        if self.token:
            found["continue"] = self.token
            if self.remaining is not None:
                found["remainingItemCount"] = self.remaining
        return found


def wanted_version(store: Store, request: ApiRequest) -> int:
    """Return the resource version that a read asks for, 0 for any.

    Raises:
        StatusError: 400 where it is no number, 504 where it lies in the future.
    """
    text = request.query.get("resourceVersion", "")
    if not text.isascii() or not (text.isdecimal() or not text):
        raise bad_request(f'resourceVersion: Invalid value: "{text[:32]}": must be a number')
    version = int(text or 0)
    if version > store.version and request.verb != "watch":
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        message = f"Timeout: Too large resource version: {version}, current: {store.version}"
        details = {"causes": causes, "retryAfterSeconds": 1}
        raise StatusError(504, "Timeout", message, details=details, headers={"Retry-After": "1"})
    return version


def list_page(store: Store, request: ApiRequest) -> Page:
    """Return the selected objects, a page of them when there is a `limit`.

    Raises:
        StatusError: 400 for a selector or token that cannot be understood, 410 for a token that is too old.
    """
    query = request.query
    limit, token = request.number("limit") or 0, query.get("continue", "")
    if not token:
        wanted_version(store, request)
    matches = compile_selectors(request.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    items = store.select(request.kind, request.namespace)
    version = store.version
    if token:
        version, start = _read_token(store, request.kind, token)
        items = [stored for stored in items if (stored.namespace or "", stored.name) > start]
    if matches is not None:
        items = [stored for stored in items if matches(stored.document)]
    if not limit or len(items) <= limit:
        return Page(items, version)
    last = items[limit - 1]
    following = json.dumps([version, last.namespace or "", last.name]).encode()
    remaining = len(items) - limit if matches is None else None
    return Page(items[:limit], version, base64.urlsafe_b64encode(following).decode(), remaining)


def _read_token(store: Store, kind: ResourceType, token: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error):
        raise bad_request("continue key is not valid") from None
    if version < store.collection(kind).floor:
        raise expired("The provided continue parameter is too old to display a consistent list result.")
    return version, (namespace, name)
