"""Starts the parts of the demo in order, prints their addresses, and stops them in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
from rich.console import Console

from profile_spawner.errors import ProfileSpawnerError

from .children import Child
from .cluster.private_files import write_private
from .clusters import DemoCluster, LocalDemoCluster, read_kubeconfig
from .output import announce, announce_stop, noteworthy
from .settings import CONFIG_MAP_LABEL, DemoSettings, make_users

__all__ = ["run_demo"]

HUB_GRACE = 30.0
"""Seconds that the hub gets to stop all servers and itself."""

_FOREIGN_VARIABLES = ("JUPYTERHUB_", "JPY_", "CONFIGPROXY_", "KUBERNETES_", "PROFILE_SPAWNER_")
"""Variables of another hub or cluster, in which this process may happen to run."""


async def run_demo(settings: DemoSettings, console: Console) -> int:
    """Run the demo until Ctrl-C, SIGTERM or the end of one of its parts, and return the exit code.

    Nothing runs afterwards, and nothing is left but the state folder that `settings` names.

    Raises:
        ProfileSpawnerError: The demo cannot be started; the message says what to do.
    """
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(_Demo(settings, console).run())

    def interrupt() -> None:
        if not work.cancelled():
            work.cancel()
        # A second Ctrl-C ends this process at once; the kernel then kills all children.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        return await work
    except asyncio.CancelledError:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _Demo:
    """One run.

    Args:
        settings: What the command line says.
        console: Where to write.
    """

    def __init__(self, settings: DemoSettings, console: Console) -> None:
        self.settings = settings
        self.console = console
        self.users = make_users()
        self.port = 0

    async def run(self) -> int:
        """Start, wait, stop."""
        _check_programs()
        with _state_folder(self.settings.state_dir) as state, _ports(self.settings.port) as ports:
            self.port, hub_port, proxy_api_port = ports
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(self._forget_info)
                with self.console.status("Starting the cluster …"):
                    cluster = await self._start_cluster(state, stack)
                profiles_dirs = self._profiles_dirs(state)
                with self.console.status("Starting the proxy and the hub …"):
                    token = secrets.token_hex(32)
                    proxy = self._proxy(state, proxy_api_port, token)
                    hub = self._hub(state, cluster, profiles_dirs, (hub_port, proxy_api_port), token)
                    await stack.enter_async_context(_running(proxy, 5.0))
                    await stack.enter_async_context(_running(hub, HUB_GRACE))
                    stack.callback(announce_stop, self.console)
                    await self._wait_for_hub(hub, proxy)
                self._write_info(cluster)
                announce(
                    self.console,
                    self.url,
                    self.users,
                    cluster.user_kubeconfig,
                    profiles_dirs,
                    hub.log_path,
                    config_maps=self.settings.config_maps,
                )
                if self.settings.browser:
                    await asyncio.to_thread(webbrowser.open, self.url)
                return await self._until_a_part_ends(hub, proxy)

    @property
    def url(self) -> str:
        """Where the hub is reached."""
        return f"http://127.0.0.1:{self.port}/"

    async def _start_cluster(self, state: Path, stack: contextlib.AsyncExitStack) -> DemoCluster:
        if self.settings.kubeconfig is not None:
            return read_kubeconfig(self.settings.kubeconfig, self.settings.namespace)
        cluster = LocalDemoCluster(state, gpus=self.settings.gpus, config_maps=self.settings.config_maps)
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        return cluster

    def _profiles_dirs(self, state: Path) -> list[Path]:
        """Return the folders with profiles; the examples are copied once, to be edited."""
        if self.settings.profiles_dirs:
            return [path.absolute() for path in self.settings.profiles_dirs]
        target = state / "profiles"
        if not target.exists():
            shutil.copytree(Path(__file__).parent / "profiles", target, ignore=shutil.ignore_patterns("__pycache__"))
        return [target]

    # ---------------------------------------------------------------------------------------------- the parts

    def _environment(self, **variables: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_VARIABLES)}
        # The programs beside this interpreter come first, whatever the shell's PATH says.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **variables}

    def _proxy(self, state: Path, api_port: int, token: str) -> Child:
        ports = ["--port", str(self.port), "--api-port", str(api_port)]
        return Child(
            "The proxy",
            [sys.executable, "-m", "profile_spawner.demo.proxy", *ports],
            env=self._environment(CONFIGPROXY_AUTH_TOKEN=token),
            cwd=state,
            log_path=state / "logs" / "proxy.log",
        )

    def _hub(
        self, state: Path, cluster: DemoCluster, profiles_dirs: list[Path], ports: tuple[int, int], token: str
    ) -> Child:
        demo = {
            "snippets": [str(path) for path in _snippets()],
            "port": self.port,
            "hub_address": self.settings.hub_address,
            "hub_port": ports[0],
            "proxy_api_port": ports[1],
            "state_dir": str(state),
            "namespace": cluster.namespace,
            "config_maps": CONFIG_MAP_LABEL if self.settings.config_maps else "",
            "users": [{"name": u.name, "groups": u.groups, "admin": u.admin} for u in self.users],
            "user_password": next(u.password for u in self.users if not u.admin),
            "admin_password": next(u.password for u in self.users if u.admin),
        }
        path = state / "demo.json"
        write_private(path, json.dumps(demo))
        env = self._environment(
            CONFIGPROXY_AUTH_TOKEN=token,
            KUBECONFIG=str(cluster.hub_kubeconfig),
            PROFILE_SPAWNER_DEMO=str(path),
            PROFILE_SPAWNER_DIRS=":".join(map(str, profiles_dirs)),
            PROFILE_SPAWNER_CONFIGURATOR=str(self.settings.configurator_compat),
        )
        return Child(
            "The hub",
            [sys.executable, "-m", "jupyterhub", "-f", str(Path(__file__).parent / "hub_config.py")],
            env=env,
            cwd=state,
            log_path=state / "logs" / "hub.log",
            on_line=self._show,
        )

    def _show(self, line: str) -> None:
        shown = line if self.settings.verbose else noteworthy(line)
        if shown:
            self.console.print(shown, markup=False, highlight=False, style="yellow", soft_wrap=True)

    # ---------------------------------------------------------------------------------------------- waiting

    async def _wait_for_hub(self, hub: Child, proxy: Child) -> None:
        async with aiohttp.ClientSession() as client:
            while True:
                for child in (hub, proxy):
                    if not child.running:
                        raise _ended(child, await child.wait())
                with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                    async with client.get(f"{self.url}hub/health", timeout=aiohttp.ClientTimeout(2)) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)

    async def _until_a_part_ends(self, *children: Child) -> int:
        tasks = {asyncio.create_task(child.wait()): child for child in children}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        first = done.pop()
        raise _ended(tasks[first], first.result())

    # ---------------------------------------------------------------------------------------------- the info file

    def _write_info(self, cluster: DemoCluster) -> None:
        path = self.settings.info_file
        if path is None:
            return
        users = [{"name": u.name, "password": u.password, "groups": u.groups, "admin": u.admin} for u in self.users]
        info = {
            "url": self.url,
            "users": users,
            "kubeconfig": str(cluster.user_kubeconfig),
            "namespace": cluster.namespace,
        }
        write_private(path, json.dumps(info, indent=2) + "\n")

    def _forget_info(self) -> None:
        if self.settings.info_file is not None:
            self.settings.info_file.unlink(missing_ok=True)


def _ended(child: Child, code: int) -> ProfileSpawnerError:
    last = "\n".join(child.last_lines)
    return ProfileSpawnerError(
        f"{child.name} ended with code {code}. Its last output:\n{last}", hint=f"The whole log is {child.log_path}"
    )


def _check_programs() -> None:
    """Check that the demo's extra is installed beside this interpreter.

    Raises:
        ProfileSpawnerError: One is missing, and how to install it.
    """
    folder = Path(sys.executable).parent
    for path in (folder / name for name in ("configurable-http-proxy", "jupyterhub", "jupyterhub-singleuser")):
        if not path.is_file():
            raise ProfileSpawnerError(
                "the demo needs this program and cannot find it",
                value=str(path),
                hint=f"Install it: {sys.executable} -m pip install 'jupyterhub-profile-spawner[demo]'",
            )


def _snippets() -> list[Path]:
    """Return the files of `jupyterhub_config.d`, in order: those of the package, or of the checkout it is run from."""
    package = Path(__file__).parent.parent
    for folder in (package / "jupyterhub_config.d", package.parent / "jupyterhub_config.d"):
        if folder.is_dir():
            return sorted(folder.glob("*.py"))
    raise ProfileSpawnerError(
        "the folder jupyterhub_config.d is missing", value=str(package), hint="Install the package again"
    )


@contextlib.contextmanager
def _state_folder(wanted: Path | None) -> Iterator[Path]:
    """Give the run a folder of its own: a temporary one, or the one wanted, which only one demo can use at a time."""
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="profile-spawner-", ignore_cleanup_errors=True) as name:
            (Path(name) / "logs").mkdir()
            yield Path(name)
        return
    state = wanted.absolute()
    (state / "logs").mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)  # It contains the hub's secrets.
    lock = os.open(state / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ProfileSpawnerError(
            "another demo uses this folder",
            field="--state-dir",
            value=str(state),
            hint="Stop it, or choose another folder",
        ) from None
    try:
        yield state
    finally:
        os.close(lock)


@contextlib.contextmanager
def _ports(wanted: int) -> Iterator[tuple[int, int, int]]:
    """Choose the ports of proxy, hub and the proxy's interface; the first is the one wanted unless that is 0.

    Raises:
        ProfileSpawnerError: The wanted one is taken.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for number, one in enumerate(sockets):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", wanted if number == 0 else 0))
            except OSError as e:
                raise ProfileSpawnerError(
                    f"the port cannot be used: {e.strerror}",
                    field="--port",
                    value=wanted,
                    hint="Stop what uses it, or choose another one; --port 0 takes a free one",
                ) from None
        first, second, third = (one.getsockname()[1] for one in sockets)
    yield first, second, third


@contextlib.asynccontextmanager
async def _running(child: Child, grace: float) -> AsyncIterator[Child]:
    """Start `child`, and stop it at the end of the block, also when the start is interrupted."""
    try:
        await child.start()
        yield child
    finally:
        await asyncio.shield(child.stop(grace))
