"""The HTTP front of the API server: reads requests, asks who and whether, and writes answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web

from . import discovery, openapi, protobuf, rendering
from .answers import Object, StatusError, bad_request, no_such_resource
from .authorization import Authorizer, denied
from .calls import CallLog
from .faults import Action, Delay, Drop, Faults, Hold, Respond
from .kinds import PODS, ResourceType
from .listing import Page, list_page, wanted_version
from .requests import ApiRequest, User, parse_path
from .schema import decode
from .selectors import compile_selectors
from .store import Store, Stored
from .verbs import Verbs
from .watching import Watch, WatchOptions, check_initial_events

__all__ = ["BODY_LIMIT", "Frontend", "LogProvider"]

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
DEFAULT_WATCH_SECONDS = 1800.0

_REVIEWS = "/apis/authorization.k8s.io/v1/"
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

LogProvider = Callable[[str, str, str, dict[str, str]], AsyncIterator[bytes]]
"""Given namespace, pod, container (may be empty) and the query, yields the log."""


@dataclass(eq=False)
class Frontend:
    """Answers HTTP requests.

    Attributes:
        store: The state.
        verbs: What can be done to it.
        authorizer: Who may do it.
        faults: What goes wrong on purpose.
        calls: The record of requests.
        log_provider: Where `kubectl logs` reads.
        users: Who is known, by bearer token.
        watches: The watches that run.
    """

    store: Store
    verbs: Verbs
    authorizer: Authorizer
    faults: Faults
    calls: CallLog
    log_provider: LogProvider | None = None
    users: dict[str, User] = field(default_factory=dict)
    watches: set[Watch] = field(default_factory=set)

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one request; a failure becomes a `Status`."""
        try:
            return await self._answer(http)
        except StatusError as error:
            return web.json_response(error.to_json(), status=error.code, headers=error.headers)
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
        user = self.users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return user

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        user = self._user(http)
        path = http.path
        if http.method in ("GET", "HEAD") and (document := discovery.answer(path)) is not None:
            return web.json_response(document)
        if path.startswith("/openapi/v3") and (document := openapi.answer(path)) is not None:
            return web.json_response(document)
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if not path.startswith(("/api/", "/apis/")):
            raise no_such_resource()
        if http.method == "POST" and path.startswith(_REVIEWS):
            return self._review(user, path.removeprefix(_REVIEWS), await self._body(http))
        agent = http.headers.get("User-Agent", "")
        request = parse_path(http.method, path, dict(http.query), user, content_type=http.content_type, agent=agent)
        return await self._record(http, request)

    async def _record(self, http: web.Request, request: ApiRequest) -> web.StreamResponse:
        """Answer a request for a resource, and write down that it was made."""
        if request.verb == "watch":
            # It counts when it begins, as it may go on for long.
            self.calls.add(request, request.name, 200)
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
            if request.verb != "watch":
                self.calls.add(request, name, code)

    def _review(self, user: User, resource: str, body: Any) -> web.Response:
        """Answer what somebody may do; everybody may ask about themselves, some about others."""
        if resource == "selfsubjectaccessreviews":
            kind = "SelfSubjectAccessReview"
            status = self.authorizer.review_access(user, decode(kind, body)["spec"])
        elif resource == "selfsubjectrulesreviews":
            kind = "SelfSubjectRulesReview"
            status = self.authorizer.review_rules(user, decode(kind, body)["spec"].get("namespace", ""))
        elif resource == "subjectaccessreviews":
            if not self.authorizer.allows(user, "create", "authorization.k8s.io", resource, None):
                raise denied(user, "create", "authorization.k8s.io", resource, None, "")
            kind = "SubjectAccessReview"
            spec = decode(kind, body)["spec"]
            status = self.authorizer.review_access(User(spec.get("user", ""), frozenset(spec.get("groups", ()))), spec)
        else:
            raise no_such_resource()
        head = {"kind": kind, "apiVersion": "authorization.k8s.io/v1"}
        return web.json_response({**body, **head, "status": status}, status=201)

    async def _body(self, http: web.Request) -> Any:
        raw = await http.read()
        if len(raw) > BODY_LIMIT:
            raise web.HTTPRequestEntityTooLarge(BODY_LIMIT, len(raw))
        if not raw:
            return None
        if http.content_type == "application/vnd.kubernetes.protobuf":
            return protobuf.read(raw)
        try:
            return json.loads(raw)
        except ValueError as error:
            if "yaml" not in http.content_type:
                raise bad_request(f"error decoding the body: {error}") from None
        try:
            return yaml.load(raw, Loader=_YAML_LOADER)  # noqa: S506 - a safe loader
        except yaml.YAMLError:
            raise bad_request("the body is neither JSON nor YAML") from None

    # -------------------------------------------------------------------------------------------------------- faults

    async def _with_faults(self, http: web.Request, request: ApiRequest, body: Any, name: str) -> web.StreamResponse:
        fault = self.faults.pick(request, name)
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

    # ------------------------------------------------------------------------------------------------------- answers

    async def _dispatch(self, http: web.Request, request: ApiRequest, body: Any) -> web.StreamResponse:
        form = rendering.form_wanted(http.headers.get("Accept", ""))
        if request.verb == "watch":
            return await self._watch(http, request, form)
        if request.verb == "get" and request.subresource == "log":
            return await self._log(http, request)
        if request.verb == "get":
            return _object_response(request, self.verbs.get(request), form)
        if request.verb == "list":
            return _list_response(request, list_page(self.store, request), form)
        return self._write(request, body, form)

    def _write(self, request: ApiRequest, body: Any, form: str) -> web.Response:
        """Carry out a verb that changes something. It needs no waiting."""
        verbs, verb = self.verbs, request.verb
        if verb == "create":
            special = {"binding": verbs.bind, "eviction": verbs.evict}
            create = special.get(request.subresource, verbs.create)
            return web.json_response(create(request, body), status=201)
        if verb == "update":
            return web.json_response(verbs.update(request, body))
        if verb == "patch":
            document, created = verbs.patch(request, body)
            return web.json_response(document, status=201 if created else 200)
        if verb == "delete":
            document, code = verbs.deletion.delete(request, body)
            return web.json_response(document, status=code)
        gone = Page(verbs.deletion.delete_collection(request, body), self.store.version)
        return _list_response(request, gone, form)

    async def _watch(self, http: web.Request, request: ApiRequest, form: str) -> web.StreamResponse:
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
        render = _table_renderer(request.kind) if form == rendering.TABLE else None
        watch = Watch(self.store, request.kind, request.namespace, matches, render)
        self.watches.add(watch)

        def is_open() -> bool:
            return http.transport is not None and not http.transport.is_closing()

        try:
            with contextlib.suppress(ConnectionError):
                await watch.run(options, response.write, is_open)
        finally:
            self.watches.discard(watch)
        return response

    async def _log(self, http: web.Request, request: ApiRequest) -> web.StreamResponse:
        pod = self.verbs.get(request)
        if self.log_provider is None or pod.kind is not PODS:
            raise StatusError(501, "NotImplemented", "this cluster keeps no logs")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(http)
        container = request.query.get("container", "")
        query = dict(request.query)
        with contextlib.suppress(ConnectionError):
            async for chunk in self.log_provider(request.namespace or "", request.name, container, query):
                await response.write(chunk)
        return response


def _name_in(body: Any) -> str:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _object_response(request: ApiRequest, stored: Stored, form: str) -> web.Response:
    if form == rendering.TABLE:
        metadata = {"resourceVersion": str(stored.version)}
        return web.json_response(rendering.table(request.kind, [stored], metadata, whole=_whole(request)))
    return web.Response(body=stored.raw, content_type="application/json")


def _list_response(request: ApiRequest, page: Page, form: str) -> web.Response:
    if form == rendering.TABLE:
        document = rendering.table(request.kind, page.items, page.metadata, whole=_whole(request))
        return web.json_response(document)
    if form == rendering.METADATA:
        return web.json_response(rendering.metadata_list(page))
    return web.Response(body=rendering.list_body(request.kind, page), content_type="application/json")


def _whole(request: ApiRequest) -> bool:
    return request.query.get("includeObject") == "Object"


def _table_renderer(kind: ResourceType) -> Callable[[Stored], Object]:
    def render(stored: Stored) -> Object:
        return rendering.table(kind, [stored], {"resourceVersion": str(stored.version)})

    return render
