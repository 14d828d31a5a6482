"""The HTTP front of the local cluster: reads requests, asks who and whether, and writes answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import yaml
from aiohttp import web

from . import discovery
from .answers import Object, StatusError, bad_request, no_such_resource
from .authorization import Authorizer, bootstrap_roles
from .calls import CallLog
from .faults import Action, Delay, Drop, Faults, Hold, Respond
from .garbage import Collector
from .kinds import NAMESPACES, PODS, plural
from .listing import Page, list_page, wanted_version
from .requests import ADMINS, ApiRequest, User, parse_path
from .selectors import compile_selectors
from .store import Store
from .verbs import Verbs
from .watching import Watch, WatchOptions, check_initial_events

__all__ = ["ApiServer", "LogProvider"]

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
DEFAULT_WATCH_SECONDS = 1800.0

_REVIEWS = "/apis/authorization.k8s.io/v1/"
_ENTRANCE = "/as/"
"""Before a token in the path of an address: another way to say who one is."""

LogProvider = Callable[[str, str, str, dict[str, str]], AsyncIterator[bytes]]
"""Given namespace, pod, container (may be empty) and the query, yields the log."""


class ApiServer:
    """A Kubernetes API server in memory, for one machine and one process.

    Args:
        history: How many changes of each resource a watch can go back; older ones answer 410.
        log_provider: Where `kubectl logs` reads; None answers that there is no log.

    Attributes:
        store: The state, for tests that look at it directly.
        faults: Switchable faults.
        calls: The record of all requests.
        url: The address; empty while the server does not run.
    """

    def __init__(self, *, history: int = 5000, log_provider: LogProvider | None = None) -> None:
        self.store = Store(history)
        self.faults = Faults()
        self.calls = CallLog()
        self.authorizer = Authorizer(self.store)
        self.verbs = Verbs(self.store, self.authorizer)
        self.collector = Collector(self.store, self.verbs.deletion, self.verbs.quotas)
        self.log_provider = log_provider
        self.url = ""
        self._users: dict[str, User] = {}
        self._watches: set[Watch] = set()
        self._runner: web.AppRunner | None = None
        self._address = ("127.0.0.1", 0)
        self._begin()

    # ------------------------------------------------------------------------------------------------------- people

    def add_user(self, name: str, groups: Iterable[str] = (), token: str | None = None) -> str:
        """Let a user in and return the bearer token; a random one unless `token` is given."""
        token = token or secrets.token_urlsafe(24)
        self._users[token] = User(name, frozenset([*groups, "system:authenticated"]))
        return token

    def add_admin(self, name: str = "admin") -> str:
        """Let a user in who may do everything, and return the bearer token."""
        return self.add_user(name, [ADMINS])

    def kubeconfig(self, token: str, namespace: str = "default") -> Object:
        """Return a kubeconfig for the user of `token`, as a document to be written as YAML or JSON."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            # kubectl sends no token over plain HTTP, so the address has it.
            "clusters": [{"name": "local", "cluster": {"server": f"{self.url}{_ENTRANCE}{token}"}}],
            "users": [{"name": "local", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": namespace}}],
            "current-context": "local",
        }

    # ---------------------------------------------------------------------------------------------------- life cycle

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Start to serve and return the URL.

        Args:
            host: The address to listen on.
            port: The port; 0 takes a free one.
        """
        app = web.Application(client_max_size=BODY_LIMIT + 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self._address = self._runner.addresses[0][:2]
        self.url = f"http://{self._address[0]}:{self._address[1]}"
        self.collector.start()
        return self.url

    async def stop(self) -> None:
        """Stop to serve: end all watches, close all connections. Safe to call twice."""
        self.faults.clear()
        for watch in list(self._watches):
            watch.end()
        await self.collector.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        self.url = ""

    def _begin(self) -> None:
        admin = User("system:apiserver", frozenset([ADMINS]))
        for name in ("default", "kube-system", "kube-public"):
            request = ApiRequest("create", NAMESPACES, None, "", "", admin)
            self.verbs.create(request, {"metadata": {"name": name}})
        for name, document in bootstrap_roles():
            self.verbs.create(ApiRequest("create", plural(name), None, "", "", admin), document)

    # ------------------------------------------------------------------------------------------------------ requests

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(_by_entrance(http))
        except StatusError as error:
            headers = error.headers
            return web.json_response(error.to_json(), status=error.code, headers=headers)
        except web.HTTPRequestEntityTooLarge:
            text = f"Request entity too large: limit is {BODY_LIMIT}"
            refusal = StatusError(413, "RequestEntityTooLarge", text, details={})
            return web.json_response(refusal.to_json(), status=413)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # the server must go on, and the client must hear of it
            log.exception("The local API server failed at %s %s", http.method, http.path)
            body = StatusError(500, "InternalError", f"Internal error occurred: {type(error).__name__}").to_json()
            return web.json_response(body, status=500)

    def _user(self, http: web.Request) -> User:
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        user = self._users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return user

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        user = self._user(http)
        query = dict(http.query)
        if (document := discovery.answer(http.path)) is not None:
            return web.json_response(document)
        if http.path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if not http.path.startswith(("/api/", "/apis/")):
            raise no_such_resource()
        if http.method == "POST" and http.path.startswith(_REVIEWS):
            return self._review(user, http.path.removeprefix(_REVIEWS), await self._body(http))
        request = parse_path(http.method, http.path, query, user)
        agent = http.headers.get("User-Agent", "")
        request = ApiRequest(
            request.verb,
            request.kind,
            request.namespace,
            request.name,
            request.subresource,
            user,
            query,
            http.content_type,
            agent,
        )
        code, name = 0, request.name
        try:
            self.authorizer.check(request)
            request.check_options()
            body = await self._body(http) if request.verb not in ("get", "list", "watch") else None
            name = name or _name_in(body)
            response = await self._with_faults(http, request, body, name)
            code = response.status
            return response
        except StatusError as error:
            code = error.code
            raise
        finally:
            self.calls.add(request, name, code)

    def _review(self, user: User, resource: str, body: Any) -> web.Response:
        """Answer what somebody may do; everybody may ask about themselves."""
        spec = body.get("spec") if isinstance(body, dict) else None
        if not isinstance(spec, dict):
            raise bad_request("a review needs a spec")
        if resource == "selfsubjectaccessreviews":
            status = self.authorizer.review_access(user, spec)
        elif resource == "selfsubjectrulesreviews":
            status = self.authorizer.review_rules(user, spec.get("namespace", ""))
        else:
            raise no_such_resource()
        return web.json_response({**body, "status": status}, status=201)

    async def _body(self, http: web.Request) -> Any:
        if "protobuf" in http.content_type:
            accepted = "application/json, application/yaml"
            text = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise StatusError(415, "UnsupportedMediaType", text, details={})
        raw = await http.read()
        if len(raw) > BODY_LIMIT:
            raise web.HTTPRequestEntityTooLarge(BODY_LIMIT, len(raw))
        if not raw:
            return None
        try:
            return json.loads(raw)
        except ValueError as error:
            if "yaml" not in http.content_type:
                raise bad_request(f"error decoding the body: {error}") from None
        try:
            return yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
        except yaml.YAMLError:
            raise bad_request("the body is neither JSON nor YAML") from None

    async def _with_faults(self, http: web.Request, request: ApiRequest, body: Any, name: str) -> web.StreamResponse:
        fault = self.faults.pick(request)
        if fault is not None and not fault.after_effect:
            await self._suffer(http, fault)
        response = await self._dispatch(http, request, body)
        if fault is not None and fault.after_effect:
            await self._suffer(http, fault)
        return response

    @staticmethod
    async def _suffer(http: web.Request, fault: Action) -> None:
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        elif isinstance(fault, Hold):
            await fault.wait()
        elif isinstance(fault, Respond):
            raise fault.error()
        elif isinstance(fault, Drop):
            if http.transport is not None:
                http.transport.abort()
            raise ConnectionResetError("dropped because a test asked for it")

    async def _dispatch(self, http: web.Request, request: ApiRequest, body: Any) -> web.StreamResponse:
        if request.verb == "watch":
            return await self._watch(http, request)
        if request.verb == "get" and request.subresource == "log":
            return await self._log(http, request)
        if request.verb == "list" and "PartialObjectMetadataList" in http.headers.get("Accept", ""):
            return _metadata_response(list_page(self.store, request))
        return self._act(request, body)

    def _act(self, request: ApiRequest, body: Any) -> web.Response:
        """Carry out everything that needs no waiting."""
        verbs, verb = self.verbs, request.verb
        if verb == "get":
            return web.Response(body=verbs.get(request).raw, content_type="application/json")
        if verb == "list":
            return _list_response(request, list_page(self.store, request))
        if verb == "create" and request.subresource == "binding":
            return web.json_response(verbs.bind(request, body), status=201)
        if verb == "create" and request.subresource == "eviction":
            return web.json_response(verbs.evict(request, body), status=201)
        if verb == "create":
            return web.json_response(verbs.create(request, body), status=201)
        if verb == "update":
            return web.json_response(verbs.update(request, body))
        if verb == "patch":
            document, created = verbs.patch(request, body)
            return web.json_response(document, status=201 if created else 200)
        if verb == "delete":
            document, code = verbs.deletion.delete(request, body)
            return web.json_response(document, status=code)
        return _list_response(request, Page(verbs.deletion.delete_collection(request, body), self.store.version))

    async def _watch(self, http: web.Request, request: ApiRequest) -> web.StreamResponse:
        query = request.query
        if request.name:
            query = {**query, "fieldSelector": f"metadata.name={request.name}"}
        matches = compile_selectors(request.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        version = wanted_version(self.store, request)
        send_initial = request.flag("sendInitialEvents")
        check_initial_events(send_initial, query.get("resourceVersionMatch", ""))
        options = WatchOptions(
            version=version or None,
            initial=send_initial or not version,
            end_of_initial=send_initial,
            timeout=float(request.number("timeoutSeconds") or DEFAULT_WATCH_SECONDS),
            bookmarks=request.flag("allowWatchBookmarks"),
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)
        watch = Watch(self.store, request.kind, request.namespace, matches)
        self._watches.add(watch)

        def is_open() -> bool:
            return http.transport is not None and not http.transport.is_closing()

        try:
            with contextlib.suppress(ConnectionError):
                await watch.run(options, response.write, is_open)
        finally:
            self._watches.discard(watch)
        return response

    async def _log(self, http: web.Request, request: ApiRequest) -> web.StreamResponse:
        pod = self.verbs.get(request)
        if self.log_provider is None or pod.kind is not PODS:
            raise StatusError(501, "NotImplemented", "this cluster keeps no logs")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(http)
        assert request.namespace is not None
        container = request.query.get("container", "")
        with contextlib.suppress(ConnectionError):
            async for chunk in self.log_provider(request.namespace, request.name, container, dict(request.query)):
                await response.write(chunk)
        return response


def _name_in(body: Any) -> str:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _list_response(request: ApiRequest, page: Page) -> web.Response:
    kind = request.kind
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": page.metadata}
    start = json.dumps(head, separators=(",", ":")).encode()[:-1]
    body = b'%s,"items":[%s]}' % (start, b",".join(stored.raw_item for stored in page.items))
    return web.Response(body=body, content_type="application/json")


def _metadata_response(page: Page) -> web.Response:
    """Return a list of names, labels and the like, without what is in the objects."""
    form = {"apiVersion": "meta.k8s.io/v1"}
    items = [
        {"kind": "PartialObjectMetadata", **form, "metadata": stored.document["metadata"]} for stored in page.items
    ]
    return web.json_response({"kind": "PartialObjectMetadataList", **form, "metadata": page.metadata, "items": items})


def _by_entrance(http: web.Request) -> web.Request:
    """Return the request with a token in its path as one with a bearer token."""
    path = http.rel_url.raw_path
    if not path.startswith(_ENTRANCE):
        return http
    token, _, rest = path.removeprefix(_ENTRANCE).partition("/")
    headers = http.headers.copy()
    headers["Authorization"] = f"Bearer {token}"
    query = http.rel_url.raw_query_string
    return http.clone(rel_url=f"/{rest}?{query}" if query else f"/{rest}", headers=headers)
