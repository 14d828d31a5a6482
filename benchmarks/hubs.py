"""Real hubs on a local cluster, each a process of its own, and the configurations that are compared."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from tests.control_plane import LocalControlPlane
from tests.fault_proxy import FaultProxy
from tests.hub import HubUnderTest, start_hub

__all__ = ["CALLABLE", "CONSTANT", "NULL", "OURS", "STATIC", "Bench", "bench", "cpu_seconds", "spawn", "spawn_many"]

_LIST = "from benchmarks.making import profile_list\n"
CONSTANT = "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\nc.KubeSpawner.options_form = '<p>Start</p>'\n"
CALLABLE = (
    "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n"
    + _LIST
    + "kept = profile_list({count})\nc.KubeSpawner.profile_list = lambda spawner: kept\n"
)
STATIC = (
    "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n"
    + _LIST
    + "c.KubeSpawner.profile_list = profile_list({count})\n"
)
OURS = (
    "c.JupyterHub.spawner_class = 'profile-spawner'\n" + _LIST + "c.KubeSpawner.profile_list = profile_list({count})\n"
)
NULL = (
    "from jupyterhub.spawner import Spawner\n"
    "class NullSpawner(Spawner):\n"
    "    running = False\n"
    "    async def start(self):\n"
    "        self.running = True\n"
    "        return 'http://{answering}'\n"
    "    async def stop(self, now=False):\n"
    "        self.running = False\n"
    "    async def poll(self):\n"
    "        return None if self.running else 0\n"
    "c.JupyterHub.spawner_class = NullSpawner\n"
)
_QUIET = "c.JupyterHub.log_level = 'ERROR'\nc.Spawner.consecutive_failure_limit = 0\n"


class Bench:
    """A local cluster with pods that answer without a process, and hubs on it."""

    def __init__(self, plane: LocalControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self.hubs: list[HubUnderTest] = []
        self.kubelets: list[Kubelet] = []

    @contextlib.asynccontextmanager
    async def proxy(self) -> AsyncIterator[FaultProxy]:
        """Yield a proxy that can fail on demand, in front of the API server."""
        proxy = FaultProxy(self.plane.url, None)
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.stop()

    async def hub(self, config: str, *, count: int = 10, url: str = "") -> HubUnderTest:
        """Start a hub in a namespace of its own.

        Args:
            config: Lines of `jupyterhub_config.py`, with `{count}` and `{answering}` to be filled in.
            count: How many profiles it has.
            url: Where it finds the API server, if not directly.
        """
        namespace = await self.plane.new_namespace("bench")
        kubelet = Kubelet(
            self.plane.url,
            self.plane.token_for("kubelet", ["system:masters"]),
            self.folder / f"kubelet-{namespace}",
            node=NodeSpec(name=f"node-{namespace}", cpu="100000", memory="400000Gi", gpus=4, pods=100_000),
            runtime="stub",
            namespaces=[namespace],
        )
        await kubelet.start()
        self.kubelets.append(kubelet)
        kubeconfig = self.folder / f"kubeconfig-{namespace}"
        self.plane.write_kubeconfig(kubeconfig, "admin", namespace=namespace)
        if url:
            kubeconfig.write_text(kubeconfig.read_text().replace(self.plane.server.secure_url, url))
        text = _QUIET + config.format(count=count, answering=self.plane.url.removeprefix("http://"))
        hub = await start_hub(self.folder / f"hub-{namespace}", kubeconfig, namespace, text)
        hub.namespace, hub.plane = namespace, self.plane
        self.hubs.append(hub)
        return hub


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Start a local cluster; everything ends with the block."""
    plane = LocalControlPlane()
    await plane.start()
    with tempfile.TemporaryDirectory(prefix="profile-spawner-bench-", ignore_cleanup_errors=True) as folder:
        running = Bench(plane, Path(folder))
        try:
            yield running
        finally:
            for hub in running.hubs:
                await hub.close()
            for kubelet in running.kubelets:
                await kubelet.stop()
            await plane.stop()


def cpu_seconds(hub: HubUnderTest) -> float:
    """Return the processor time that a hub has used so far. Other processes on the machine do not increase it."""
    fields = Path(f"/proc/{hub.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def spawn(hub: HubUnderTest, user: str, options: dict[str, Any]) -> bool:
    """Start a server and wait until the hub lets its user in; return whether it does."""
    reply = await hub.api("POST", f"/users/{user}/server", options)
    if reply.status == 201:
        return True
    if reply.status != 202:
        return False
    return bool((await hub.until_ready(user))["ready"])


async def spawn_many(hub: HubUnderTest, users: list[str], options: dict[str, Any]) -> int:
    """Start the servers of all users at once, wait for all of them, and return how many could not be started.

    The hub answers that it will; its metrics tell how many it has started, and its log how many it could not: thousands
    of open requests would measure the kernel's queues.
    """
    started, failed = await _started(hub), _failed(hub)
    gate = asyncio.Semaphore(100)

    async def begin(user: str) -> int:
        async with gate:
            return (await hub.api("POST", f"/users/{user}/server", options)).status

    statuses = await asyncio.gather(*(begin(user) for user in users))
    refused = sum(400 <= status < 500 for status in statuses)
    while True:
        lost = _failed(hub) - failed
        if await _started(hub) - started + lost >= len(users) - refused:
            return lost + refused
        if not hub.alive:
            raise RuntimeError(f"the hub has ended: {hub.log[-2000:]}")
        await asyncio.sleep(0.1)  # another process has no event to wait for


async def _started(hub: HubUnderTest) -> int:
    text = (await hub.api("GET", "/../metrics")).text
    counts = (line for line in text.splitlines() if "server_spawn_duration_seconds_count{" in line)
    return next((int(float(line.split()[1])) for line in counts if 'status="success"' in line), 0)


def _failed(hub: HubUnderTest) -> int:
    """Return how many starts have failed. JupyterHub's metrics do not count those whose request was answered before."""
    return len(re.findall(r"rror starting \S+'s server", hub.log))
