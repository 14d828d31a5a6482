"""The API server of the local cluster: HTTP, users, and the state file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

from . import kubectl, protobuf, writes
from .access import ADMINS, Authorizer, User
from .certificates import make_certificate
from .defaults import new_object
from .failures import StatusError, bad_request
from .kinds import NAMESPACES
from .requests import ResourceRequest, read_request
from .selectors import Object
from .store import KEPT, Item, ObjectChange, Store
from .watches import Watches

__all__ = ["ApiServer", "LogProvider"]

log = logging.getLogger(__name__)

_BODY_LIMIT = 3 * 1024 * 1024
_SAVE_SECONDS = 2.0
"""How long after a change the state is written. A crash loses no more than this."""

LogProvider: TypeAlias = Callable[[str, str, str, dict[str, str]], AsyncIterator[bytes]]
"""Given namespace, pod, container and the query, yields the log."""


class ApiServer:
    """A Kubernetes API server in memory, for one machine and one process.

    It answers at two addresses: plain HTTP, and HTTPS for clients such as kubectl, which send no token over plain HTTP.

    Args:
        history: How many changes of each resource a watch can go back; older ones answer 410.
        log_provider: Where `kubectl logs` reads; None if no logs are kept.
        state_file: Where objects are kept between runs: all but pods, events and nodes. None keeps nothing.

    Attributes:
        store: The state, for tests that look at it directly.
        calls: By namespace, how often each (user, verb, resource) was answered.
        url: The address for plain HTTP; empty while the server does not run.
        secure_url: The address for HTTPS; empty while the server does not run.
        certificate: The certificate (PEM) that a client of the latter has to trust.
    """

    def __init__(
        self, *, history: int = 5000, log_provider: LogProvider | None = None, state_file: str | Path | None = None
    ) -> None:
        self.store = Store(history)
        self.calls: defaultdict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        self.url = self.secure_url = ""
        self.certificate = b""
        self._authorizer = Authorizer(self.store)
        self._users: dict[str, User] = {}
        self._log_provider = log_provider
        self._state_file = Path(state_file) if state_file is not None else None
        self._saving: asyncio.TimerHandle | None = None
        self._watches = Watches(self.store)
        self._runner: web.AppRunner | None = None
        self.store.listeners.append(self._notice)

    def add_user(self, name: str, groups: Iterable[str] = ()) -> str:
        """Add a user and return the bearer token."""
        token = secrets.token_urlsafe(24)
        self._users[token] = User(name, frozenset([*groups, "system:authenticated"]))
        return token

    def add_admin(self, name: str = "admin") -> str:
        """Add a user with all rights and return the bearer token."""
        return self.add_user(name, [ADMINS])

    def kubeconfig(self, token: str, namespace: str = "default") -> Object:
        """Return a kubeconfig for the user of `token`, as a document to be written as YAML or JSON."""
        authority = base64.b64encode(self.certificate).decode()
        cluster = {"server": self.secure_url, "certificate-authority-data": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "local", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": namespace}}],
            "current-context": "local",
        }

    async def start(self) -> str:
        """Start to serve on free ports of 127.0.0.1 and return the URL for plain HTTP.

        Raises:
            LocalClusterError: The state file cannot be read.
        """
        if self._state_file is not None:
            self.store.load(self._state_file)
        for name in ("default", "kube-public", "kube-system"):
            if self.store.get(NAMESPACES, None, name) is None:
                self.store.put(NAMESPACES, new_object(NAMESPACES, None, {"metadata": {"name": name}}))
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self.certificate, context = make_certificate()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        (_, plain, *_), (_, secure, *_) = self._runner.addresses
        self.url, self.secure_url = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}"
        return self.url

    async def stop(self) -> None:
        """Stop to serve: end all watches, close all connections, write the state file. Safe to call twice."""
        self._watches.stop()
        self._save()
        if self._runner is not None:
            await self._runner.cleanup()
        self.url = self.secure_url = ""

    def _notice(self, change: ObjectChange) -> None:
        if self._state_file is not None and change.item.kind in KEPT and self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(_SAVE_SECONDS, self._save)

    def _save(self) -> None:
        if self._state_file is None or self._saving is None:
            return
        self._saving.cancel()
        self._saving = None
        try:
            self.store.save(self._state_file)
        except OSError as error:
            log.warning("The state of the local cluster cannot be written to %s: %s", self._state_file, error)

    # ------------------------------------------------------------------------------------------------------ HTTP

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one request; a failure becomes a `Status`."""
        try:
            return await self._answer(http)
        except StatusError as error:
            return web.json_response(error.to_json(), status=error.code)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Objects are not validated: one with an unexpected shape fails where it is used.
            log.debug("%s %s failed", http.method, http.path, exc_info=True)
            refusal = bad_request(f"the object has an unexpected shape: {error!r}")
            return web.json_response(refusal.to_json(), status=400)

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        user = self._users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        if http.method == "GET" and (document := kubectl.discovery(http.path)) is not None:
            return web.json_response(document)
        if http.method == "POST" and http.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            review = await self._body(http)
            head = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
            status = self._authorizer.review(user, review["spec"])
            return web.json_response({**review, **head, "status": status}, status=201)
        request = read_request(http, user)
        if request.verb == "watch":
            self._count(request)  # it may go on for long
        try:
            self._authorizer.check(user, request.verb, request.kind.group, request.resource, *request.scope)
            return await self._dispatch(http, request)
        finally:
            if request.verb != "watch":
                self._count(request)

    def _count(self, request: ResourceRequest) -> None:
        self.calls[request.namespace or ""][request.user.name, request.verb, request.resource] += 1

    async def _body(self, http: web.Request) -> Any:
        raw = await http.read()
        if http.content_type == protobuf.CONTENT_TYPE:
            return protobuf.read(raw)
        try:
            return json.loads(raw) if raw else None
        except ValueError as error:
            raise bad_request(f"the body cannot be read: {error}") from None

    async def _dispatch(self, http: web.Request, request: ResourceRequest) -> web.StreamResponse:
        as_table = "as=Table" in http.headers.get("Accept", "")
        kind = request.kind
        if request.verb == "watch":
            return await self._watches.watch(http, request, as_table=as_table)
        if request.verb == "list":
            matches = request.selector()
            items = [item for item in self.store.select(kind, request.namespace) if matches(item.document)]
            if as_table:
                return web.json_response(kubectl.table(kind, items, self.store.version))
            head = json.dumps({"kind": f"{kind.kind}List", "apiVersion": kind.api_version})[:-1]
            start = f'{head},"metadata":{{"resourceVersion":"{self.store.version}"}},"items":['
            raw = start.encode() + b",".join(item.raw_item for item in items) + b"]}"
            return web.Response(body=raw, content_type="application/json")
        if request.verb == "get":
            item = writes.find_item(self.store, request)
            if request.subresource == "log":
                return await self._log(http, request, item)
            if as_table:
                return web.json_response(kubectl.table(kind, [item], item.version))
            return web.Response(body=item.raw, content_type="application/json")
        body = await self._body(http)
        if request.verb == "delete":
            return web.json_response(writes.delete(self.store, request, body or {}))
        if request.verb == "create":
            create = writes.bind if request.subresource == "binding" else writes.create
            return web.json_response(create(self.store, request, body), status=201)
        return web.json_response(writes.change(self.store, request, body, http.content_type))

    async def _log(self, http: web.Request, request: ResourceRequest, pod: Item) -> web.StreamResponse:
        if self._log_provider is None:
            raise StatusError(501, "NotImplemented", "this cluster keeps no logs")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(http)
        container = request.query.get("container") or pod.document["spec"]["containers"][0]["name"]
        parts = self._log_provider(request.namespace or "", request.name, container, request.query)
        with contextlib.suppress(ConnectionError):
            async for chunk in parts:
                await response.write(chunk)
        return response
