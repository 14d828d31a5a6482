"""(a) The spawn page, (e) storms and (h) readiness: on real hubs, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from profile_spawner.localcluster.faults import Respond
from profile_spawner.localcluster.kubelet import Kubelet, NodeSpec
from tests.control_plane import LocalControlPlane
from tests.hub import HubUnderTest, start_hub

from .measuring import Sample, Table, interleaved_async

__all__ = ["page", "readiness", "storm"]

CONSTANT = "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\nc.KubeSpawner.options_form = '<p>Start</p>'\n"
UPSTREAM_CALLABLE = (
    "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n"
    "from benchmarks.making import profile_list\n"
    "kept = profile_list({count})\n"
    "c.KubeSpawner.profile_list = lambda spawner: kept\n"
)
UPSTREAM_STATIC = (
    "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n"
    "from benchmarks.making import profile_list\n"
    "c.KubeSpawner.profile_list = profile_list({count})\n"
)
OURS = (
    "c.JupyterHub.spawner_class = 'profile-spawner'\n"
    "from benchmarks.making import profile_list\n"
    "c.KubeSpawner.profile_list = profile_list({count})\n"
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
QUIET = "c.JupyterHub.log_level = 'ERROR'\nc.Spawner.consecutive_failure_limit = 0\n"


class Bench:
    """A local cluster with stub pods, and hubs on it."""

    def __init__(self, plane: LocalControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self.hubs: list[HubUnderTest] = []
        self.kubelets: list[Kubelet] = []

    async def hub(self, config: str) -> HubUnderTest:
        """Start a hub in a namespace of its own."""
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
        hub = await start_hub(self.folder / f"hub-{namespace}", kubeconfig, namespace, QUIET + config)
        hub.namespace, hub.plane = namespace, self.plane
        self.hubs.append(hub)
        return hub


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Start a local cluster; everything ends with the block."""
    plane = LocalControlPlane()
    await plane.start()
    with tempfile.TemporaryDirectory(prefix="profile-spawner-bench-") as folder:
        running = Bench(plane, Path(folder))
        try:
            yield running
        finally:
            for hub in running.hubs:
                await hub.close()
            for kubelet in running.kubelets:
                await kubelet.stop()
            await plane.stop()


async def page(quick: bool) -> Table:
    """Compare the time of one view of the spawn page with that of a page whose form is a constant."""
    table = Table("a", "The spawn page through a real hub")
    counts = (10, 1000) if quick else (10, 100, 1000, 10000)
    against = {10: 4, 100: 6, 1000: 28, 10000: 200}
    for count in counts:
        async with bench() as b:
            sides = {"constant": CONSTANT, "callable": UPSTREAM_CALLABLE, "ours": OURS}
            browsers = {n: await (await b.hub(c.format(count=count))).browser("ada") for n, c in sides.items()}
            first = time.perf_counter()
            reply = await browsers["ours"].get("/hub/spawn")
            first = time.perf_counter() - first
            samples = await interleaved_async(
                {name: lambda browser=browser: browser.get("/hub/spawn") for name, browser in browsers.items()},
                7,
                2 if count >= 10_000 else 10,
            )
            for browser in browsers.values():
                await browser.close()
        ratio = samples["ours"].median / samples["constant"].median
        limit = 1.5 if count > 1000 else 1.1
        size = len(reply.text.encode()) / 1024
        data = {n: s.values for n, s in samples.items()} | {"first": first}
        table.add(
            f"{count:,} profiles: ours / constant form", f"{ratio:.2f}x", f"<= {limit}x", ratio <= limit, data=data
        )
        times = samples["callable"].median / samples["ours"].median
        table.add(
            f"{count:,} profiles: KubeSpawner's callable / ours",
            f"{times:,.1f}x",
            f">= {against[count]}x",
            times >= against[count],
        )
        table.add(f"{count:,} profiles: the whole page", f"{size:.0f} KiB", "<= 40 KiB", size <= 40)
    return table


async def _spawn(hub: HubUnderTest, user: str, options: dict[str, Any]) -> bool:
    """Start a server and wait until the hub lets its user in."""
    reply = await hub.api("POST", f"/users/{user}/server", options)
    if reply.status == 201:
        return True
    if reply.status != 202:
        return False
    return bool((await hub.until_ready(user))["ready"])


async def storm(quick: bool) -> Table:
    """Start many servers at once: throughput beside KubeSpawner and beside a spawner that does nothing."""
    table = Table("e", "Storms of spawns")
    servers = 60 if quick else 200
    config = "c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 60}}\nc.KubeSpawner.start_timeout = 300\n"
    for count, against in ((10, 0.98), (1000, 3.3)):
        rates: dict[str, Sample] = {}
        sides = {"null": NULL, "static": UPSTREAM_STATIC, "ours": OURS}
        failed = dict.fromkeys(sides, 0)
        for _ in range(1 if quick else 3):
            for name, text in sides.items():
                async with bench() as b:
                    answering = b.plane.url.removeprefix("http://")
                    hub = await b.hub((config + text).format(count=count, answering=answering))
                    users = [f"u{i}" for i in range(servers)]
                    await asyncio.gather(*(hub.api("POST", f"/users/{u}") for u in users))
                    start = time.perf_counter()
                    options = {} if name == "null" else {"profile": f"p{count // 2}"}
                    done = await asyncio.gather(*(_spawn(hub, u, options) for u in users))
                    rates.setdefault(name, Sample()).values.append(servers / (time.perf_counter() - start))
                    failed[name] += done.count(False)
        ratio = rates["ours"].median / rates["static"].median
        table.add(
            f"{servers} spawns at once, {count:,} profiles: ours / KubeSpawner's static list",
            f"{ratio:.2f}x",
            f">= {against}x",
            ratio >= against,
            data={n: s.values for n, s in rates.items()} | {"failed": failed},
        )
        floor = rates["ours"].median / rates["null"].median
        table.add(f"{count:,} profiles: ours / a spawner that does nothing", f"{floor:.2f}", ">= 0.8", floor >= 0.8)
        table.add(f"{count:,} profiles: failed spawns, ours", str(failed["ours"]), "0", failed["ours"] == 0)
    await _faults(table, servers)
    return table


async def _faults(table: Table, servers: int) -> None:
    async with bench() as b:
        hub = await b.hub((OURS + "c.KubeSpawner.start_timeout = 300\n").format(count=10))
        users = [f"u{i}" for i in range(servers)]
        await asyncio.gather(*(hub.api("POST", f"/users/{u}") for u in users))
        faults = b.plane.server.faults
        faults.add(Respond(429, retry_after=1), verb="create", resource="pods", probability=0.15, seed=1, times=None)
        faults.add(Respond(500), verb="create", resource="pods", probability=0.15, seed=2, times=None)
        done = await asyncio.gather(*(_spawn(hub, u, {"profile": "p5"}) for u in users))
        faults.clear()
    lost = done.count(False)
    table.add(f"{servers} spawns at once, 30 % of creates answered 429 or 500: lost", str(lost), "0", lost == 0)


async def readiness(quick: bool) -> Table:
    """Measure how long it takes from the pod being ready until the hub lets the user in."""
    table = Table("h", "From the pod's server answering to the user being let in")
    repeats = 5 if quick else 15
    config = "c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 0}}\n"
    async with bench() as b:
        hubs = {
            n: await b.hub((config + t).format(count=10)) for n, t in (("KubeSpawner", UPSTREAM_STATIC), ("ours", OURS))
        }
        samples = {name: Sample() for name in hubs}
        for hub in hubs.values():
            await hub.api("POST", "/users/warm")
            await _spawn(hub, "warm", {"profile": "p5"})
        for number in range(repeats):
            for name, hub in hubs.items():
                user = f"u{number}"
                await hub.api("POST", f"/users/{user}")
                samples[name].values.append(await _delay(hub, user))
    ours, theirs = samples["ours"].median, samples["KubeSpawner"].median
    table.add(
        "median delay",
        f"{ours * 1000:.0f} ms (KubeSpawner {theirs * 1000:.0f} ms)",
        "<= 100 ms",
        ours <= 0.1,
        data={n: s.values for n, s in samples.items()},
    )
    table.add("KubeSpawner / ours", f"{theirs / ours:,.0f}x")
    return table


async def _delay(hub: HubUnderTest, user: str) -> float:
    """Return the time between the pod's `Running` status and the hub's `ready` event, seen by one clock."""
    running = asyncio.get_running_loop().create_future()

    async def watch() -> None:
        path = f"/api/v1/namespaces/{hub.namespace}/pods"
        while not running.done():
            listed = await hub.plane.ok("GET", path)
            for pod in listed["items"]:
                if f"-{user}" in pod["metadata"]["name"] and pod["status"].get("phase") == "Running":
                    running.set_result(time.perf_counter())
                    return
            await asyncio.sleep(0.005)

    task = asyncio.create_task(watch())
    await hub.api("POST", f"/users/{user}/server", {"profile": "p5"})
    await hub.until_ready(user)
    ready = time.perf_counter()
    await task
    return max(0.0, ready - await running)
