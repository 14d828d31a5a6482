"""A real JupyterHub as a child process, on a control plane, without a proxy: for tests of pages, REST and spawns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from yarl import URL

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from tests.hub_process import HubProcess

PASSWORD = "let-me-in"
START_SECONDS = 180.0
TESTS = Path(__file__).resolve().parent

BASE_CONFIG = """
from jupyterhub.proxy import Proxy
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, 'connect')
def do_not_wait_for_the_disk(connection, record):
    # A killed hub loses nothing by it; only a power cut would. Half of a refused start is commits.
    connection.execute('PRAGMA synchronous = OFF')

class NoProxy(Proxy):
    '''Routes are remembered and nobody is routed: the tests talk to the hub itself.'''
    should_start = False
    async def add_route(self, routespec, target, data):
        self.__dict__.setdefault('kept', {{}})[routespec] = {{'routespec': routespec, 'target': target, 'data': data}}
    async def delete_route(self, routespec):
        self.__dict__.setdefault('kept', {{}}).pop(routespec, None)
    async def get_all_routes(self):
        return dict(self.__dict__.setdefault('kept', {{}}))
    async def get_route(self, routespec):
        return self.__dict__.setdefault('kept', {{}}).get(routespec)

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.hub_ip = '127.0.0.1'
c.JupyterHub.hub_port = {port}
c.JupyterHub.bind_url = 'http://127.0.0.1:{port}'
c.JupyterHub.db_url = 'sqlite:///{folder}/hub.sqlite'
c.JupyterHub.cookie_secret_file = '{folder}/cookie-secret'
c.JupyterHub.authenticator_class = 'dummy'
c.DummyAuthenticator.password = '{password}'
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{'root'}}
c.JupyterHub.spawner_class = 'profile-spawner'
c.JupyterHub.load_groups = {groups!r}
c.JupyterHub.services = [{{'name': 'tests', 'api_token': '{token}'}}]
c.JupyterHub.load_roles = [{{'name': 'tests', 'services': ['tests'],
    'scopes': ['admin:users', 'admin:servers', 'admin:groups', 'tokens', 'read:hub', 'shutdown', 'read:metrics']}}]
c.JupyterHub.allow_named_servers = True
c.JupyterHub.log_level = 'DEBUG'
c.JupyterHub.cleanup_servers = False
c.ProfileSpawner.trial_timeout = 120  # many hubs share two cores
c.JupyterHub.concurrent_spawn_limit = 0
c.KubeSpawner.namespace = '{namespace}'
c.KubeSpawner.start_timeout = 60
c.KubeSpawner.storage_pvc_ensure = False
c.KubeSpawner.cmd = ['jupyterhub-singleuser']
"""


@dataclass
class Reply:
    """An HTTP answer, read to its end."""

    status: int
    text: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.text)


class HubUnderTest:
    """A running hub.

    Args:
        folder: Where its files are.
        process: The child process.
        port: Where it listens.
        token: The API token of a service that may do everything.
    """

    def __init__(self, folder: Path, process: HubProcess, port: int, token: str) -> None:
        self.folder = folder
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.token = token
        self.version = ""
        self.namespace = ""
        self.plane: Any = None
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    @property
    def log(self) -> str:
        """Everything that the hub has written."""
        return (self.folder / "hub.log").read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.returncode is None

    async def api(self, method: str, path: str, body: Any = None, token: str | None = None) -> Reply:
        """Call the REST API; `body` is sent as JSON."""
        headers = {"Authorization": f"token {token or self.token}"}
        async with self._session.request(
            method, f"{self.url}/hub/api{path}", json=body, headers=headers, allow_redirects=False
        ) as response:
            return Reply(response.status, await response.text(), response.headers)

    async def user(self, name: str) -> str:
        """Make a user and return a token with all the user's own rights."""
        await self.api("POST", f"/users/{name}")
        reply = await self.api("POST", f"/users/{name}/tokens", {"note": "test"})
        return str(reply.json["token"])

    async def browser(self, name: str) -> HubBrowser:
        """Log a user in with a form, as a browser does."""
        browser = HubBrowser(self)
        await browser.login(name)
        return browser

    async def server(self, user: str, server: str = "") -> dict[str, Any] | None:
        """Return the model of a user's server; `None` when there is none."""
        reply = await self.api("GET", f"/users/{user}?include_stopped_servers")
        model: dict[str, Any] | None = reply.json.get("servers", {}).get(server)
        return model

    async def until_ready(self, user: str, server: str = "") -> dict[str, Any]:
        """Follow the progress events until the server is ready; they are returned under `events`."""
        path = f"/users/{user}/server/progress" if not server else f"/users/{user}/servers/{server}/progress"
        headers = {"Authorization": f"token {self.token}"}
        events = []
        async with self._session.get(f"{self.url}/hub/api{path}", headers=headers) as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    events.append(json.loads(line[5:]))
        model = await self.server(user, server)
        assert model is not None, events
        assert events, await response.text()
        return {**model, "events": events}

    async def close(self, how: int = signal.SIGTERM) -> None:
        """End the hub and wait for it."""
        await self._session.close()
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(how)
        try:
            await asyncio.wait_for(self.process.wait(), 30)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()


class HubBrowser:
    """A logged-in session with cookies and the XSRF token."""

    def __init__(self, hub: HubUnderTest) -> None:
        self.hub = hub
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def login(self, name: str) -> None:
        """Fill in the login form."""
        await self.get("/hub/login")
        form = {"username": name, "password": PASSWORD, "_xsrf": self.xsrf}
        async with self._session.post(f"{self.hub.url}/hub/login", data=form, allow_redirects=False) as response:
            assert response.status == 302, await response.text()

    @property
    def xsrf(self) -> str:
        """The XSRF token of the cookie that fits the hub's pages."""
        cookies = self._session.cookie_jar.filter_cookies(URL(f"{self.hub.url}/hub/"))
        return cookies["_xsrf"].value

    async def get(self, path: str, *, follow: bool = False, headers: Mapping[str, str] | None = None) -> Reply:
        """Get a page."""
        async with self._session.get(self.hub.url + path, allow_redirects=follow, headers=headers) as response:
            return Reply(response.status, await response.text(), response.headers)

    async def post(self, path: str, form: Any) -> Reply:
        """Post a form, the XSRF token included."""
        data = aiohttp.FormData()
        data.add_field("_xsrf", self.xsrf)
        pairs = form.items() if isinstance(form, Mapping) else form
        for name, value in pairs:
            for one in value if isinstance(value, list) else [value]:
                data.add_field(name, str(one))
        async with self._session.post(self.hub.url + path, data=data, allow_redirects=False) as response:
            return Reply(response.status, await response.text(), response.headers)

    async def close(self) -> None:
        """End the session."""
        await self._session.close()


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def start_hub(
    folder: Path,
    kubeconfig: Path,
    namespace: str,
    config: str = "",
    *,
    groups: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    port: int = 0,
    token: str = "",
) -> HubUnderTest:
    """Start a hub and wait until it answers.

    Args:
        folder: For its database and files; the same folder again is the same hub, restarted.
        kubeconfig: How it reaches the control plane.
        namespace: Where its pods go.
        config: Further lines of `jupyterhub_config.py`.
        groups: `load_groups`, such as `{"gpu": {"users": ["grace"]}}`.
        env: Further environment variables.
        port: Where it listens; a free port by default.
        token: The token of the tests' service; a new one by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    token = token or secrets.token_hex(16)
    text = BASE_CONFIG.format(
        port=port, folder=folder, password=PASSWORD, token=token, namespace=namespace, groups=dict(groups or {})
    )
    (folder / "jupyterhub_config.py").write_text(text + textwrap.dedent(config))
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "KUBECONFIG": str(kubeconfig),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS / "without_grammar", TESTS.parent))),
        **(env or {}),
    }
    process = HubProcess(folder / "jupyterhub_config.py", folder / "hub.log", environment)
    hub = HubUnderTest(folder, process, port, token)
    await _until_it_answers(hub)
    hub.version = str((await hub.api("GET", "/")).json["version"])
    return hub


async def _until_it_answers(hub: HubUnderTest) -> None:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        if not hub.alive:
            raise RuntimeError("the hub ended:\n" + hub.log[-4000:])
        try:
            if (await hub.api("GET", "/")).status == 200:
                return
        except aiohttp.ClientError:
            pass
        if asyncio.get_running_loop().time() > deadline:
            await hub.close()
            raise RuntimeError("the hub does not answer:\n" + hub.log[-4000:])
        await asyncio.sleep(0.1)  # there is no event of another process to wait for


@pytest_asyncio.fixture(loop_scope="session")
async def start_local_hub(tmp_path: Path, local_control_plane: Any) -> AsyncIterator[Callable[..., Any]]:
    """Start hubs on the local cluster, whose pods answer without a process; all end with the test.

    `await start_local_hub(config, groups=...)`; what it returns has the attributes `namespace` and `plane` too.
    """
    hubs: list[HubUnderTest] = []
    kubelets: dict[str, Kubelet] = {}
    kubelet_token = local_control_plane.token_for("kubelet", ["system:masters"])

    async def start(config: str = "", *, namespace: str = "", **kwargs: Any) -> HubUnderTest:
        namespace = namespace or await local_control_plane.new_namespace("hub")
        if namespace not in kubelets:
            kubelets[namespace] = Kubelet(
                local_control_plane.url,
                kubelet_token,
                tmp_path / f"kubelet-{namespace}",
                node=NodeSpec(name=f"node-{namespace}", cpu="1000", memory="4000Gi", gpus=4),
                runtime="stub",
                namespaces=[namespace],
            )
            await kubelets[namespace].start()
        kubeconfig = tmp_path / f"kubeconfig-{namespace}"
        local_control_plane.write_kubeconfig(kubeconfig, kwargs.pop("kube_user", "admin"), namespace)
        folder = kwargs.pop("folder", tmp_path / f"hub{len(hubs)}")
        hub = await start_hub(folder, kubeconfig, namespace, config, **kwargs)
        hub.namespace, hub.plane = namespace, local_control_plane
        hubs.append(hub)
        return hub

    yield start
    for hub in hubs:
        await hub.close(signal.SIGKILL)  # a hub that ends by itself frees its memory for a second
    for kubelet in kubelets.values():
        await kubelet.stop()
