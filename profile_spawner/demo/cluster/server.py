"""The API server of the local cluster: HTTP, authorisation, and changes of objects."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

from . import kubectl, protobuf
from .access import ADMINS, Authorizer, User
from .certificates import make_certificate
from .defaults import complete, new_object, now
from .failures import StatusError, bad_request, conflict, invalid, not_found
from .kinds import NAMESPACES, PODS, ResourceType, find
from .patches import apply_patch
from .selectors import Object, Predicate, compile_selectors
from .store import Item, ObjectChange, Store

__all__ = ["ApiServer", "LogProvider"]

log = logging.getLogger(__name__)

_BODY_LIMIT = 3 * 1024 * 1024
_SAVE_SECONDS = 2.0
"""How long after a change the state is written. A crash loses no more than this."""
_FROZEN = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "name", "namespace", "uid")
_NAMED = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_UNNAMED = {"GET": "list", "POST": "create"}

LogProvider: TypeAlias = Callable[[str, str, str, dict[str, str]], AsyncIterator[bytes]]
"""Given namespace, pod, container and the query, yields the log."""


@dataclass(frozen=True)
class ResourceRequest:
    """A request for a resource: what is to be done, to what, and who asks."""

    verb: str
    kind: ResourceType
    namespace: str | None
    name: str
    subresource: str
    user: User
    query: dict[str, str]

    @property
    def resource(self) -> str:
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All"

    def selector(self) -> Predicate:
        fields = f"metadata.name={self.name}" if self.name else self.query.get("fieldSelector", "")
        return compile_selectors(self.kind, self.query.get("labelSelector", ""), fields)

    def number(self, name: str) -> int:
        try:
            return int(self.query.get(name) or 0)
        except ValueError:
            raise bad_request(f"{name} is not a number") from None


class ApiServer:
    """A Kubernetes API server in memory, for one machine and one process.

    It answers at two addresses: plain HTTP, and HTTPS for clients such as kubectl, which send no token over plain HTTP.

    Args:
        history: How many changes of each resource a watch can go back; older ones answer 410.
        log_provider: Where `kubectl logs` reads; None answers that there is no log.
        state_file: Where objects are kept between runs: all but pods, events, nodes and leases. None keeps nothing.

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
        self._stopping = False
        self._wakes: set[asyncio.Event] = set()
        self._runner: web.AppRunner | None = None
        self.store.listeners.append(self._notice)

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
        self._stopping = False
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
        self._stopping = True
        self._wake()
        self._save()
        if self._runner is not None:
            await self._runner.cleanup()
        self.url = self.secure_url = ""

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()

    def _notice(self, change: ObjectChange) -> None:
        self._wake()
        if self._state_file is not None and change.kept and self._saving is None:
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
        except web.HTTPRequestEntityTooLarge:
            refusal = StatusError(413, "RequestEntityTooLarge", f"the body has more than {_BODY_LIMIT} bytes")
            return web.json_response(refusal.to_json(), status=413)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # There is no validation of objects: one of an odd shape is noticed where it is used.
            log.debug("%s %s failed", http.method, http.path, exc_info=True)
            refusal = bad_request(f"the object has an unexpected shape: {error!r}")
            return web.json_response(refusal.to_json(), status=400)

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        user = self._users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        if http.path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if http.method == "GET" and (document := kubectl.discovery(http.path)) is not None:
            return web.json_response(document)
        if http.method == "POST" and http.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            review = await self._body(http)
            head = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
            status = self._authorizer.review(user, review["spec"])
            return web.json_response({**review, **head, "status": status}, status=201)
        request = _parse(http, user)
        if request.verb == "watch":
            self._count(request)  # it may go on for long
        try:
            where = request.name if request.kind is NAMESPACES and request.name else request.namespace
            group, resource = request.kind.group, request.resource
            self._authorizer.check(user, request.verb, group, resource, where, request.name or _named(request.query))
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
            return await self._watch(http, request, as_table=as_table)
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
            item = self._item(request)
            if request.subresource == "log":
                return await self._log(http, request, item)
            if as_table:
                return web.json_response(kubectl.table(kind, [item], item.version))
            return web.Response(body=item.raw, content_type="application/json")
        body = await self._body(http)
        if request.verb == "delete":
            return web.json_response(self._delete(request, body or {}))
        if request.verb == "create":
            create = self._bind if request.subresource == "binding" else self._create
            return web.json_response(create(request, body), status=201)
        return web.json_response(self._change(request, body, http.content_type))

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

    # ----------------------------------------------------------------------------------------------------- verbs

    def _item(self, request: ResourceRequest) -> Item:
        item = self.store.get(request.kind, request.namespace, request.name)
        if item is None:
            raise not_found(request.kind.plural, request.name, request.kind.group)
        return item

    def _create(self, request: ResourceRequest, body: Object) -> Object:
        kind, namespace = request.kind, request.namespace
        document = new_object(kind, namespace, body)
        name = document["metadata"]["name"]
        if namespace is not None and self.store.get(NAMESPACES, None, namespace) is None:
            raise not_found("namespaces", namespace)
        if self.store.get(kind, namespace, name) is not None:
            message = f'{kind.qualified} "{name}" already exists'
            raise StatusError(409, "AlreadyExists", message, name=name, kind=kind.plural)
        return document if request.dry_run else self.store.put(kind, document).document

    def _bind(self, request: ResourceRequest, body: Object) -> Object:
        """Assign a pod to a node."""
        pod = self._item(request)
        wanted = (body.get("metadata") or {}).get("uid")
        taken = pod.document["spec"].get("nodeName") or pod.metadata.get("deletionTimestamp")
        if taken or wanted not in (None, pod.metadata["uid"]):
            raise conflict("pods/binding", pod.name, "the pod is assigned already, being deleted, or another one")
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        old = pod.document["status"]
        others = [condition for condition in old.get("conditions", ()) if condition["type"] != "PodScheduled"]
        spec = {**pod.document["spec"], "nodeName": body["target"]["name"]}
        self.store.put(PODS, {**pod.document, "spec": spec, "status": {**old, "conditions": [*others, scheduled]}})
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _change(self, request: ResourceRequest, body: Any, content_type: str) -> Object:
        """Replace or patch an object or its status."""
        old, kind = self._item(request), request.kind
        if request.verb == "patch":
            document = apply_patch(old.document, body, content_type)
        else:
            document = {"kind": kind.kind, "apiVersion": kind.api_version, **body}
        sent = (body.get("metadata") or {}) if isinstance(body, dict) else {}
        if sent.get("name", old.name) != old.name:
            raise bad_request("the name of the object does not match the name of the request")
        if sent.get("uid", old.metadata["uid"]) != old.metadata["uid"]:
            raise conflict(kind.qualified, old.name, "the UID in the request is that of another object")
        if sent.get("resourceVersion", str(old.version)) not in ("", str(old.version)):
            raise conflict(kind.qualified, old.name, "the object has been modified; please apply your changes again")
        if request.subresource == "status":
            document = {**old.document, "status": document.get("status", {})}
        else:
            metadata = {key: value for key, value in document["metadata"].items() if key not in _FROZEN}
            metadata |= {key: old.metadata[key] for key in _FROZEN if key in old.metadata}
            document = {**document, "metadata": {**metadata, "resourceVersion": str(old.version)}}
            if kind.status and "status" in old.document:
                document["status"] = old.document["status"]
            complete(document)
            if kind.plural in ("configmaps", "secrets") and old.document.get("immutable"):
                for field in ("immutable", "data", "binaryData"):
                    if document.get(field) != old.document.get(field):
                        why = "Forbidden: the object is immutable"
                        raise invalid(kind.kind, old.name, field, why, "FieldValueForbidden")
        if document == old.document or request.dry_run:
            return document
        return self.store.put(kind, document).document

    def _delete(self, request: ResourceRequest, options: Object) -> Object:
        item = self._item(request)
        wanted = options.get("preconditions") or {}
        for key, found in (("uid", item.metadata["uid"]), ("resourceVersion", str(item.version))):
            if wanted.get(key, found) != found:
                why = f"the {key} in the precondition ({wanted[key]}) does not match that of the object ({found})"
                raise conflict(item.kind.qualified, item.name, why)
        if request.dry_run or options.get("dryRun"):
            return item.document
        grace = options.get("gracePeriodSeconds")
        if "gracePeriodSeconds" in request.query:
            grace = request.number("gracePeriodSeconds")
        deleted = self.store.delete(item, grace)
        if item.kind is PODS or deleted.metadata.get("finalizers"):
            return deleted.document
        details = {"name": item.name, "kind": item.kind.plural, "uid": item.metadata["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    async def _watch(self, http: web.Request, request: ResourceRequest, *, as_table: bool) -> web.StreamResponse:
        """Stream the changes of a resource after the version asked for; without one, what is there comes first."""
        matches, kind = request.selector(), request.kind
        version = request.number("resourceVersion")
        loop = asyncio.get_running_loop()
        end = loop.time() + (request.number("timeoutSeconds") or 1800)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)

        def line(what: str, item: Item) -> bytes:
            raw = json.dumps(kubectl.table(kind, [item], item.version)).encode() if as_table else item.raw
            return b'{"type":"%s","object":%s}\n' % (what.encode(), raw)

        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            lines: list[bytes] = []
            if not version:
                version = self.store.version
                present = self.store.select(kind, request.namespace)
                lines = [line("ADDED", item) for item in present if matches(item.document)]
            while not self._stopping:
                wake.clear()
                changes = self.store.changes(kind, version)
                if changes is None:
                    expired = StatusError(410, "Expired", f"too old resource version: {version}").to_json()
                    await response.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
                    break
                version = max(version, self.store.version)
                for change in changes:
                    if request.namespace in (None, change.item.namespace):
                        what = _seen_as(change, matches)
                        lines += [line(what, _shown(change, what))] if what else []
                if lines:
                    await response.write(b"".join(lines))
                    lines = []
                if wake.is_set():
                    continue
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(wake.wait(), end - loop.time())
                if loop.time() >= end:
                    break
            if request.query.get("allowWatchBookmarks", "").lower() == "true" and not self._stopping:
                metadata = {"resourceVersion": str(version)}
                bookmark = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
                await response.write(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
        except ConnectionError:
            pass  # the client has gone
        finally:
            self._wakes.discard(wake)
        return response


def _seen_as(change: ObjectChange, matches: Predicate) -> str:
    """Return what a change is to a watch with a selector, empty for nothing."""
    fits = matches(change.item.document)
    fitted = change.old is not None and matches(change.old.document)
    if change.type == "DELETED" or not fits:
        return "DELETED" if fitted else ""
    return "MODIFIED" if fitted else "ADDED"


def _shown(change: ObjectChange, what: str) -> Item:
    """Return the object that the event shows: one that left the selection as it was, with the new version."""
    if what != "DELETED" or change.old is None:
        return change.item
    metadata = {**change.old.metadata, "resourceVersion": str(change.item.version)}
    return Item(change.item.kind, {**change.old.document, "metadata": metadata}, change.item.version)


def _named(query: dict[str, str]) -> str:
    """Return the one name to which a field selector restricts a collection: a rule may allow only that one."""
    selector = query.get("fieldSelector", "")
    return selector.removeprefix("metadata.name=") if selector.startswith("metadata.name=") else ""


def _parse(http: web.Request, user: User) -> ResourceRequest:
    """Read a request for a resource; `StatusError` 404 or 405 where there is none."""
    root, *parts = [part for part in http.path.split("/") if part] or [""]
    group = parts.pop(0) if root == "apis" and parts else ""
    if root not in ("api", "apis") or not parts or parts.pop(0) != "v1":
        raise not_found()
    namespace: str | None = None
    # namespaces/NAME is an object, namespaces/NAME/status its status, and anything longer lies in the namespace.
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] != "status":
        namespace, parts = parts[1], parts[2:]
    name, name_of_object, subresource = [*parts, "", "", ""][:3]
    kind = find(group, name)
    if kind is None or len(parts) > 3 or (namespace is not None and not kind.namespaced):
        raise not_found()
    if subresource and subresource not in (*kind.subresources, *(["status"] if kind.status else [])):
        raise not_found()
    query = dict(http.query)
    verb = (_NAMED if name_of_object else _UNNAMED).get(http.method, "")
    # Python clients send `True`.
    if verb in ("list", "get") and query.get("watch", "").lower() in ("1", "true") and not subresource:
        verb = "watch"
    whole = kind.namespaced and namespace is None and verb not in ("list", "watch")
    if not verb or whole or (verb == "create" and name_of_object and subresource in ("", "status")):
        raise StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return ResourceRequest(verb, kind, namespace, name_of_object, subresource, user, query)
