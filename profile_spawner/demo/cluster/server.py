"""The API server as a thing to start, stop, break and look at."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import ssl
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from .answers import Object
from .authorization import Authorizer, bootstrap_roles
from .calls import CallLog
from .certificates import make_certificate
from .faults import Faults
from .frontend import BODY_LIMIT, Frontend, LogProvider
from .garbage import Collector
from .kinds import plural
from .persistence import KEPT, dump_state, load_state, write_state
from .requests import ADMINS, ApiRequest, User
from .store import Change, Store
from .verbs import Verbs

__all__ = ["ApiServer", "LogProvider"]

log = logging.getLogger(__name__)

_SYSTEM = User("system:apiserver", frozenset([ADMINS]))
_SAVE_SECONDS = 2.0
"""How long after a change the state is written. A crash loses no more than this."""


class ApiServer:
    """A Kubernetes API server in memory, for one machine and one process.

    It answers at two addresses: plain HTTP, and HTTPS for clients such as kubectl, which send no token over plain HTTP.

    Args:
        history: How many changes of each resource a watch can go back; older ones answer 410.
        log_provider: Where `kubectl logs` reads; None answers that there is no log.
        state_file: Where objects are kept between runs: all but pods, events, nodes and leases. None keeps nothing.
        managed_fields: Whether plain writes are recorded in `managedFields`, as on a real server. Without, objects are
            smaller; server-side apply is always recorded.
        event_seconds: How long events are kept.
        event_limit: How many events are kept at most; the oldest go first.

    Attributes:
        store: The state, for tests that look at it directly.
        faults: Switchable faults.
        calls: The record of all requests.
        url: The address for plain HTTP; empty while the server does not run.
        secure_url: The address for HTTPS; empty while the server does not run.
        certificate: The certificate (PEM) that a client of the latter has to trust.
    """

    def __init__(
        self,
        *,
        history: int = 5000,
        log_provider: LogProvider | None = None,
        state_file: str | Path | None = None,
        managed_fields: bool = True,
        event_seconds: float = 3600.0,
        event_limit: int = 10_000,
    ) -> None:
        self.store = Store(history)
        self.faults = Faults()
        self.url = ""
        self.secure_url = ""
        self.certificate = b""
        authorizer = Authorizer(self.store)
        verbs = Verbs(self.store, authorizer, managed_fields=managed_fields)
        self._front = Frontend(self.store, verbs, authorizer, self.faults, CallLog(), log_provider)
        self._collector = Collector(
            self.store, verbs.deletion, verbs.quotas, event_seconds=event_seconds, event_limit=event_limit
        )
        self._state_file = Path(state_file) if state_file is not None else None
        self._changed = asyncio.Event()
        self._saver: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._listeners: list[web.TCPSite] = []
        self._addresses: list[tuple[tuple[str, int], ssl.SSLContext | None]] = []
        if self._state_file is not None:
            load_state(self.store, self._state_file)
            self._collector.look_through()
            self.store.listen(self._notice)
        self._make_beginnings(verbs)

    @property
    def calls(self) -> CallLog:
        """The record of all requests."""
        return self._front.calls

    @calls.setter
    def calls(self, calls: CallLog) -> None:
        self._front.calls = calls

    # ------------------------------------------------------------------------------------------------------- people

    def add_user(self, name: str, groups: Iterable[str] = (), token: str | None = None) -> str:
        """Let a user in and return the bearer token; a random one unless `token` is given."""
        token = token or secrets.token_urlsafe(24)
        self._front.users[token] = User(name, frozenset([*groups, "system:authenticated"]))
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

    # ---------------------------------------------------------------------------------------------------- life cycle

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Start to serve and return the URL for plain HTTP.

        Args:
            host: The address to listen on.
            port: The port for plain HTTP; 0 takes a free one. HTTPS always takes a free one.

        Raises:
            OSError: The port is taken.
        """
        app = web.Application(client_max_size=BODY_LIMIT + 1024)
        app.router.add_route("*", "/{path:.*}", self._front.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self.certificate, context = make_certificate(host)
        try:
            for chosen, tls in ((port, None), (0, context)):
                listener = web.TCPSite(self._runner, host, chosen, ssl_context=tls)
                await listener.start()
                self._listeners.append(listener)
        except OSError:
            await self.stop()
            raise
        (_, plain, *_), (_, secure, *_) = self._runner.addresses
        self._addresses = [((host, plain), None), ((host, secure), context)]
        self.url, self.secure_url = f"http://{host}:{plain}", f"https://{host}:{secure}"
        self._collector.start()
        if self._state_file is not None:
            self._saver = asyncio.get_running_loop().create_task(self._keep_saving(), name="local cluster: state file")
        return self.url

    async def stop(self) -> None:
        """Stop to serve: end all watches, close all connections, write the state file. Safe to call twice."""
        self.faults.clear()
        for watch in list(self._front.watches):
            watch.end()
        await self._collector.stop()
        saver, self._saver = self._saver, None
        if saver is not None:
            saver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await saver
            if self._changed.is_set():
                await self.save()
        runner, self._runner = self._runner, None
        self._listeners.clear()
        if runner is not None:
            await runner.cleanup()
        self.url = self.secure_url = ""

    async def go_away(self) -> None:
        """Be out of reach: close all connections and accept none, until `come_back`. The state stays."""
        runner = self._runner
        if runner is None or runner.server is None:
            return
        for listener in self._listeners:
            await listener.stop()
        for watch in list(self._front.watches):
            watch.end()
        for connection in list(runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def come_back(self) -> None:
        """Be in reach again, at the same addresses.

        Raises:
            OSError: Somebody else has taken a port meanwhile.
        """
        if self._runner is None:
            return
        self._listeners = [
            web.TCPSite(self._runner, *address, ssl_context=context) for address, context in self._addresses
        ]
        for listener in self._listeners:
            await listener.start()

    # --------------------------------------------------------------------------------------------------------- state

    def _make_beginnings(self, verbs: Verbs) -> None:
        """Create what every cluster has, where it is missing."""
        documents = [("namespaces", {"metadata": {"name": name}}) for name in ("default", "kube-public", "kube-system")]
        for name, document in (*documents, *bootstrap_roles()):
            kind = plural(name)
            if self.store.get(kind, None, document["metadata"]["name"]) is None:
                verbs.create(ApiRequest("create", kind, None, "", "", _SYSTEM), document)

    def _notice(self, change: Change) -> None:
        if change.new.kind in KEPT:
            self._changed.set()

    async def _keep_saving(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SAVE_SECONDS)
            try:
                await self.save()
            except OSError as error:
                log.warning("The state of the local cluster cannot be written to %s: %s", self._state_file, error)

    async def save(self) -> None:
        """Write the state file now, if there is one.

        Raises:
            OSError: It cannot be written.
        """
        if self._state_file is None:
            return
        self._changed.clear()
        try:
            await asyncio.to_thread(write_state, self._state_file, dump_state(self.store))
        except BaseException:
            self._changed.set()
            raise
