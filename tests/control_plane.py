"""Kubernetes control planes for the tests: a pytest plugin with the local cluster and a real API server.

The fixture `control_plane` is the real one, where there is one, and else the local one. Tests of the local cluster
(`tests/demo`) run on both, so that it cannot drift from a real one:

- ``local``: `profile_spawner.demo.cluster`, in the test's own process.
- ``real``: kube-apiserver, etcd and, where there is one, kube-controller-manager, found in the folder that
  ``KUBEBUILDER_ASSETS`` names (envtest's convention) and then in ``PATH``. Where they are missing the test is skipped
  with the reason, or fails if ``REQUIRE_CONTROL_PLANE=1``.

One real control plane is started for a whole test run, however many workers it has (about 5 s and 450 MB), and every
test gets its own namespace, which it leaves behind. Both answer through the same class, `ControlPlane`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from profile_spawner.demo.cluster.server import ApiServer
from tests import control_plane_processes as processes

NEEDED = ("kube-apiserver", "etcd")
WANTED = ("kube-controller-manager", "kubectl")
TESTS = Path(__file__).resolve().parent
TESTED_BY = "tests.test_control_plane"
READY_SECONDS = 60
MARKER = "end-of-audit-log-"


class Answer(NamedTuple):
    """What the API server said: the HTTP status and the decoded JSON (None where there was none)."""

    status: int
    body: Any


class Call(NamedTuple):
    """One kind of call, as the audit log names it: ``Call("hub", "create", "pods")``, ``… "pods/binding"``."""

    user: str
    verb: str
    resource: str


class ControlPlane:
    """A running Kubernetes API server, and what a test needs to use it.

    Attributes:
        name: ``local`` or ``real``.
        url: Its address, without a slash at the end.
        ca_path: File with the CA of its certificate; None where it speaks plain HTTP.
        admin_token: A bearer token that may do everything.
        collects_garbage: Whether objects go away with their owners, namespaces end, and quotas are kept.
    """

    name: str
    url: str
    ca_path: Path | None
    admin_token: str
    collects_garbage: bool
    _session: aiohttp.ClientSession

    def token_for(self, user: str, groups: Sequence[str] = ()) -> str:
        """Return a bearer token that proves to be `user`, member of `groups`; it gives no rights by itself."""
        raise NotImplementedError

    async def calls(self, namespace: str) -> Counter[Call]:
        """Count the calls answered in `namespace` so far."""
        raise NotImplementedError

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Send one request, as the administrator unless `token` says otherwise.

        Args:
            method: The HTTP method.
            path: Path on the server, such as ``/api/v1/namespaces/default/pods``.
            body: What to send as JSON, or as it is when it is `bytes`; None for nothing.
            token: The bearer token; an empty one sends none.
            params: The query.
            content_type: The media type of `body`, such as ``application/merge-patch+json``.

        Returns:
            Status and decoded body, whatever the status.
        """
        bearer = self.admin_token if token is None else token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = body if isinstance(body, bytes) else json.dumps(body)
        async with self._session.request(
            method, self.url + path, params=params, data=data, headers=headers
        ) as response:
            text = await response.text()
        with contextlib.suppress(ValueError):
            return Answer(response.status, json.loads(text))
        return Answer(response.status, text or None)

    async def ok(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Do as `request` and return the body; an answer other than 2xx fails the test."""
        answer = await self.request(method, path, body, **options)
        assert 200 <= answer.status < 300, f"{method} {path}: {answer}"
        return answer.body

    async def new_namespace(self, prefix: str = "test") -> str:
        """Create a namespace that nobody else uses and return its name."""
        name = f"{prefix}-{secrets.token_hex(5)}"
        await self.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    async def grant(self, namespace: str, user: str, rules: Iterable[Mapping[str, Any]]) -> None:
        """Allow `user` in `namespace` what the rules of a Role say, in addition to what it may already."""
        name = f"{re.sub('[^a-z0-9]+', '-', user.lower())}-{secrets.token_hex(3)}"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        await self.ok("POST", f"{rbac}/roles", {"metadata": {"name": name}, "rules": [dict(rule) for rule in rules]})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        await self.ok("POST", f"{rbac}/rolebindings", binding)

    def write_kubeconfig(
        self, path: Path, user: str = "admin", groups: Sequence[str] = (), *, namespace: str = "default"
    ) -> Path:
        """Write a kubeconfig for `user` (by default the administrator) and return its path."""
        token = self.admin_token if user == "admin" else self.token_for(user, groups)
        path.touch(mode=0o600)
        path.write_text(self._kubeconfig(token, namespace))
        return path

    def _kubeconfig(self, token: str, namespace: str) -> str:
        raise NotImplementedError


class RealControlPlane(ControlPlane):
    """kube-apiserver, etcd and kube-controller-manager as processes, shared by all who name the same folder.

    Args:
        folder: Where its keys, data and logs are. Whoever comes first starts the processes; they end when the last
            one has called `stop` or died.
    """

    name = "real"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = ""
        self.pids: dict[str, int] = {}
        self._users: IO[str] | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._signing_key = ""
        self._audit: _AuditLog

    async def start(self) -> None:
        """Use the control plane of the folder; start it where there is none.

        Raises:
            RuntimeError: It cannot be started; the message says why.
        """
        state = await asyncio.to_thread(self._attach)
        self.url = state["url"]
        self.ca_path = Path(state["ca_path"])
        self.admin_token = state["admin_token"]
        self.collects_garbage = state["collects_garbage"]
        self.version = state["version"]
        self.pids = state["pids"]
        self._signing_key = state["signing_key"]
        self._audit = _AuditLog(Path(state["audit_log"]))
        context = ssl.create_default_context(cafile=str(self.ca_path))
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        await asyncio.wait_for(self._wait_until_in_order(), READY_SECONDS)

    async def stop(self) -> None:
        """Let go of the control plane; the last one to do so ends it."""
        await self._session.close()
        self._detach()

    def token_for(self, user: str, groups: Sequence[str] = ()) -> str:
        """Return a bearer token that proves to be `user`, member of `groups`; it gives no rights by itself."""
        return processes.sign_token(self._signing_key, user, list(groups))

    async def calls(self, namespace: str) -> Counter[Call]:
        """Count the calls answered in `namespace` so far, with "" those of the whole cluster.

        A watch counts when it begins.
        """
        # The log is complete up to our own call as soon as that one is in it.
        marker = MARKER + uuid.uuid4().hex
        await self.request("GET", f"/api/v1/namespaces/{namespace or 'default'}/configmaps/{marker}")
        while not self._audit.has_seen(marker):
            await asyncio.sleep(0.01)
        return self._audit.calls(namespace)

    def _kubeconfig(self, token: str, namespace: str) -> str:
        assert self.ca_path is not None
        return processes.kubeconfig(self.url, token, ca=self.ca_path.read_bytes(), namespace=namespace)

    async def _wait_until_in_order(self) -> None:
        """Wait until the namespaces that every cluster has are there, and until garbage is collected."""
        while (await self.request("GET", "/api/v1/namespaces/default")).status != 200:
            await asyncio.sleep(0.05)
        if not self.collects_garbage:
            return
        path = "/api/v1/namespaces/default/configmaps"
        orphan = f"orphan-{uuid.uuid4().hex}"
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": str(uuid.uuid4())}
        await self.ok("POST", path, {"metadata": {"name": orphan, "ownerReferences": [owner]}})
        while (await self.request("GET", f"{path}/{orphan}")).status != 404:
            await asyncio.sleep(0.05)

    def _attach(self) -> dict[str, Any]:
        """Register as a user, and return the state of the running control plane or of a new one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._users = (self.folder / processes.USERS_LOCK).open("a")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        try:
            with (self.folder / "start.lock").open("a") as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                return self._running() or self._launch()
        except BaseException:
            self._detach()
            raise

    def _detach(self) -> None:
        if self._users is not None:
            self._users.close()
            self._users = None

    def _running(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads((self.folder / processes.STATE_FILE).read_text())
            for pid in state["pids"].values():
                os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return state

    def _launch(self) -> dict[str, Any]:
        """Start the program that starts the rest and stays with it."""
        state, error = (self.folder / name for name in (processes.STATE_FILE, processes.ERROR_FILE))
        state.unlink(missing_ok=True)
        error.unlink(missing_ok=True)
        with (self.folder / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, processes.__file__, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        with self._supervisor.stdin as stdin:
            stdin.write(json.dumps(find_programs()).encode())
        # It closes its standard output when it has written one of the two files, and at the latest when it ends.
        self._supervisor.stdout.read()
        if state.exists():
            running: dict[str, Any] = json.loads(state.read_text())
            return running
        reason = error.read_text() if error.exists() else (self.folder / "supervisor.log").read_text()
        raise RuntimeError(f"The real control plane in {self.folder} did not start. {reason}")


class LocalControlPlane(ControlPlane):
    """The project's own API server in memory, in this process.

    Attributes:
        server: The `ApiServer`.
    """

    name = "local"
    collects_garbage = True
    ca_path = None

    def __init__(self) -> None:
        self.server = ApiServer()
        self.admin_token = self.server.add_admin()
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}

    async def start(self) -> None:
        """Serve on a free port."""
        self.url = await self.server.start()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def stop(self) -> None:
        """End it; everything in it is lost."""
        await self._session.close()
        await self.server.stop()

    def token_for(self, user: str, groups: Sequence[str] = ()) -> str:
        """Return a bearer token that proves to be `user`, member of `groups`; it gives no rights by itself."""
        key = (user, tuple(groups))
        if key not in self._tokens:
            self._tokens[key] = self.server.add_user(user, groups)
        return self._tokens[key]

    def write_kubeconfig(
        self, path: Path, user: str = "admin", groups: Sequence[str] = (), *, namespace: str = "default"
    ) -> Path:
        """Write a kubeconfig for `user` (by default the administrator) and return its path."""
        token = self.admin_token if user == "admin" else self.token_for(user, groups)
        path.write_text(json.dumps(self.server.kubeconfig(token, namespace)))
        path.chmod(0o600)
        return path

    async def calls(self, namespace: str) -> Counter[Call]:
        """Count the calls answered in `namespace` so far; a watch counts when it begins."""
        return Counter({Call(*call): count for call, count in self.server.calls[namespace].items()})

    def _kubeconfig(self, token: str, namespace: str) -> str:
        return json.dumps(self.server.kubeconfig(token, namespace))


class _AuditLog:
    """Counts calls by namespace from the API server's audit log, reading each line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._calls: dict[str, Counter[Call]] = {}
        self._seen: set[str] = set()

    def calls(self, namespace: str) -> Counter[Call]:
        return Counter(self._calls.get(namespace, Counter()))

    def has_seen(self, marker: str) -> bool:
        """Read on, and say whether a call for an object of that name is in the log; it counts for nobody."""
        self._read_on()
        return marker in self._seen

    def _read_on(self) -> None:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._count(json.loads(line))

    def _count(self, event: dict[str, Any]) -> None:
        target = event.get("objectRef", {})
        if target.get("name", "").startswith(MARKER):
            self._seen.add(target["name"])
            return
        # A watch is answered when it starts; its second line comes at its end.
        if event["stage"] != ("ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"):
            return
        resource = "/".join(filter(None, (target.get("resource"), target.get("subresource"))))
        call = Call(event["user"]["username"], event["verb"], resource)
        self._calls.setdefault(target.get("namespace", ""), Counter())[call] += 1


def find_programs() -> dict[str, str]:
    """Return the paths of the control plane's programs that are on this machine, by name."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    search = os.pathsep.join(filter(None, (assets, os.environ.get("PATH", ""))))
    found = {name: shutil.which(name, path=search) for name in (*NEEDED, *WANTED)}
    return {name: str(Path(path).absolute()) for name, path in found.items() if path}


def control_plane_missing() -> str | None:
    """Return why there can be no real control plane on this machine; None if there can."""
    missing = [name for name in NEEDED if name not in find_programs()]
    if not missing:
        return None
    where = os.environ.get("KUBEBUILDER_ASSETS")
    searched = f"KUBEBUILDER_ASSETS={where} and PATH" if where else "PATH (KUBEBUILDER_ASSETS is not set)"
    return (
        f"no {' and no '.join(missing)} in {searched}; "
        "`export KUBEBUILDER_ASSETS=$(.ci/build-control-plane)` or `…=$(setup-envtest use -p path)` provides them"
    )


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this test run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_control_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealControlPlane]:
    """A real API server, shared by the whole test run."""
    reason = control_plane_missing()
    if reason and os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
        pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {reason}", pytrace=False)
    if reason:
        pytest.skip(f"no real control plane: {reason}")
    plane = RealControlPlane(shared_folder(tmp_path_factory) / "control-plane")
    await plane.start()
    yield plane
    await plane.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def local_control_plane() -> AsyncIterator[LocalControlPlane]:
    """The local API server, one for each test process."""
    plane = LocalControlPlane()
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> ControlPlane:
    """A control plane; `pytest_generate_tests` chooses which."""
    plane: ControlPlane = request.getfixturevalue(f"{request.param}_control_plane")
    return plane


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that ask for a control plane on the real one or, where it is missing, on the local one.

    Tests of the local cluster and of this module run on both; a test's own choice, such as `real_only`, holds.
    """
    chosen = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}
    if "control_plane" not in metafunc.fixturenames or "control_plane" in chosen:
        return
    both = metafunc.definition.path.is_relative_to(TESTS / "demo") or metafunc.module.__name__ == TESTED_BY
    real = os.environ.get("REQUIRE_CONTROL_PLANE") == "1" or not control_plane_missing()
    names = ["local", "real"] if both else ["real"] if real else ["local"]
    metafunc.parametrize("control_plane", names, indirect=True, scope="session")


real_only = pytest.mark.parametrize("control_plane", ["real"], indirect=True)
"""For tests of Kubernetes' own rules, which the local cluster does not have."""


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(control_plane: ControlPlane) -> str:
    """A namespace of the test's own in `control_plane`."""
    return await control_plane.new_namespace()


@pytest_asyncio.fixture(loop_scope="session")
async def start_kubelet(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Kubelet]]]:
    """Start kubelets for the pods of `namespace`, each with a node of its own.

    ``kubelet = await start_kubelet(node=NodeSpec(gpus=2))``: the pods are stubs unless `runtime` says otherwise; all
    options are those of `Kubelet`, and its calls those of the user ``kubelet``. Its node goes away with it.
    """
    kubelets: list[Kubelet] = []
    token = control_plane.token_for("kubelet", ["system:masters"])

    async def start(node: NodeSpec | None = None, **options: Any) -> Kubelet:
        node = replace(node or NodeSpec(gpus=4), name=f"node-{namespace}-{len(kubelets)}")
        values: dict[str, Any] = {"runtime": "stub", "namespaces": [namespace], "ca": control_plane.ca_path}
        state_dir = tmp_path / f"kubelet-{len(kubelets)}"
        kubelet = Kubelet(control_plane.url, token, state_dir, node=node, **{**values, **options})
        kubelets.append(kubelet)
        await kubelet.start()
        return kubelet

    yield start
    for kubelet in kubelets:
        await kubelet.stop()
        await control_plane.request("DELETE", f"/api/v1/nodes/{kubelet.node.name}")


@pytest_asyncio.fixture(loop_scope="session")
async def kubelet(start_kubelet: Callable[..., Awaitable[Kubelet]]) -> Kubelet:
    """A kubelet that runs the pods of `namespace` as stubs, on a node with 8 CPU, 32 GiB and 4 GPUs."""
    return await start_kubelet()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an API server, so that ``-m 'not cluster'`` leaves it out."""
    for item in items:
        if {"control_plane", "real_control_plane", "local_control_plane"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")
