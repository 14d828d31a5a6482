"""(c) Calls to Kubernetes, (e) storms of spawns and (h) readiness."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.fault_proxy import Fault
from tests.hub import HubUnderTest

from .hubs import NULL, OURS, STATIC, bench, cpu_seconds, spawn, spawn_many
from .measuring import Sample, Table, ratio_of

__all__ = ["calls", "readiness", "storm"]

PATIENT = (
    "c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 0, 'slow_stop_timeout': 3600}}\n"
    "c.KubeSpawner.start_timeout = 3600\nc.KubeSpawner.k8s_api_request_timeout = 60\n"
)
EAGER = "c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 0}}\n"


async def _counted(hub: HubUnderTest, users: list[str]) -> Counter[tuple[str, str]]:
    for begin in range(0, len(users), 25):
        some = users[begin : begin + 25]
        lost = await spawn_many(hub, some, {"profile": "p5"})
        if lost:
            raise AssertionError(f"{lost} servers did not start")
        replies = await asyncio.gather(*(hub.api("DELETE", f"/users/{u}/server") for u in some))
        if {reply.status for reply in replies} != {204}:
            raise AssertionError("not all servers have stopped")
    seen: Counter[tuple[str, str]] = Counter()
    for call, number in (await hub.plane.calls(hub.namespace)).items():
        # Lists and watches are shared by all servers and come with time, whoever starts what.
        if "kubelet" not in call.user and call.verb not in {"list", "watch"}:
            seen[call.verb, call.resource] += number
    return seen


async def calls(quick: bool) -> Table:
    """Count the calls by verb and resource of many starts and stops."""
    table = Table("c", "Calls to Kubernetes for warm starts and stops")
    servers = 20 if quick else 1000
    counts = {}
    for name, text in (("KubeSpawner", STATIC), ("ours", OURS)):
        async with bench() as b:
            hub = await b.hub(PATIENT + text)
            users = [f"u{i}" for i in range(servers)]
            await asyncio.gather(*(hub.api("POST", f"/users/{u}") for u in ("warm", *users)))
            await _counted(hub, ["warm"])
            before = await _counted(hub, [])
            counts[name] = await _counted(hub, users) - before
    equal = counts["ours"] == counts["KubeSpawner"]
    shown = ", ".join(f"{verb} {what} {n:,}" for (verb, what), n in sorted(counts["ours"].items()))
    data = {name: {" ".join(key): n for key, n in seen.items()} for name, seen in counts.items()}
    table.add(
        f"{servers:,} starts and stops, KubeSpawner", ", ".join(f"{k} {n:,}" for k, n in data["KubeSpawner"].items())
    )
    table.add(f"{servers:,} starts and stops, ours", shown, "equal", equal, data=data, exact=True)
    return table


@dataclass
class Side:
    """The results of the storms for one side."""

    rates: Sample = field(default_factory=Sample)
    cpu: Sample = field(default_factory=Sample)
    lost: int = 0
    deleted: int = 0


async def _storm(side: Side, text: str, count: int, servers: int, *, faults: bool = False) -> None:
    """Start all servers at once on a fresh hub that has started one before: reading the profiles is no start's cost."""
    async with bench() as b, b.proxy() as proxy:
        hub = await b.hub(PATIENT + text, count=count, url=proxy.url if faults else "")
        users = [f"u{i}" for i in range(servers)]
        for begin in range(0, servers, 200):
            await asyncio.gather(*(hub.api("POST", f"/users/{u}") for u in users[begin : begin + 200]))
        options = {} if text is NULL else {"profile": f"p{count // 2}"}
        await hub.api("POST", "/users/warm")
        await spawn_many(hub, ["warm"], options)
        if faults:
            creating = {"path": "/pods$", "times": -1, "chance": 0.15}
            proxy.faults += [Fault(status=429, headers={"Retry-After": "1"}, **creating), Fault(**creating)]
        used, start = cpu_seconds(hub), time.perf_counter()
        side.lost += await spawn_many(hub, users, options)
        side.rates.values.append(servers / (time.perf_counter() - start))
        side.cpu.values.append((cpu_seconds(hub) - used) / servers)
        seen = await b.plane.calls(hub.namespace)
        side.deleted += sum(n for call, n in seen.items() if (call.verb, call.resource) == ("delete", "pods"))


NOTHING = (
    "most of a start is JupyterHub's own database work, which even doing nothing needs; the rest is what KubeSpawner "
    "does for a start, and takes as long there: the row below has both"
)

QUICK = {10: (50, 50, 0.98)}
FULL = {10: (1000, 1000, 0.98), 1000: (1000, 500, 3.3)}
"""By the number of profiles: how many servers are started, how many by KubeSpawner (it is slow), and the target."""


async def storm(quick: bool) -> Table:
    """Start many servers at once: throughput beside KubeSpawner and beside a spawner that does nothing."""
    table = Table("e", "Storms of spawns, all at once and without a limit")
    for count, (servers, theirs, against) in (QUICK if quick else FULL).items():
        repeats = 1 if quick else 3
        sides = {"null": Side(), "KubeSpawner": Side(), "ours": Side(), "ours, 30 % faults": Side()}
        for _ in range(repeats):
            await _storm(sides["null"], NULL, count, servers)
            await _storm(sides["KubeSpawner"], STATIC, count, theirs)
            await _storm(sides["ours"], OURS, count, servers)
            await _storm(sides["ours, 30 % faults"], OURS, count, servers, faults=True)
        _storm_rows(table, f"{servers:,} spawns, {count:,} profiles", sides, against)
    return table


def _storm_rows(table: Table, what: str, sides: dict[str, Side], against: float) -> None:
    ours, theirs = sides["ours"], sides["KubeSpawner"]
    data = {name: {"rates": s.rates.values, "cpu": s.cpu.values, "lost": s.lost} for name, s in sides.items()}
    ratio, text = ratio_of(ours.rates, theirs.rates)
    table.add(
        f"{what}: spawns a second, ours / KubeSpawner's static list",
        text,
        f">= {against}x",
        ratio >= against,
        data=data,
    )
    ratio, text = ratio_of(ours.rates, sides["null"].rates)
    table.add(
        f"{what}: spawns a second, ours / a spawner that does nothing", text, ">= 0.8x", ratio >= 0.8, note=NOTHING
    )
    nothing = sides["null"].cpu.median
    share = f"ours {ours.cpu.median / nothing:.2f}x, KubeSpawner {theirs.cpu.median / nothing:.2f}x"
    table.add(f"{what}: the hub's processor time a start / that of a spawner that does nothing", share)
    _loss_rows(table, what, sides["ours, 30 % faults"])


def _loss_rows(table: Table, what: str, side: Side) -> None:
    table.add(f"{what}, 30 % faults: failed spawns", str(side.lost), "0", side.lost == 0, exact=True)
    table.add(
        f"{what}, 30 % faults: pods deleted by their own hub", str(side.deleted), "0", side.deleted == 0, exact=True
    )


async def readiness(quick: bool) -> Table:
    """Measure how long it takes from the pod being ready until the hub lets the user in."""
    table = Table("h", "From the pod's server answering to the user being let in")
    repeats = 7 if quick else 25
    async with bench() as b:
        hubs = {name: await b.hub(EAGER + text) for name, text in (("KubeSpawner", STATIC), ("ours", OURS))}
        samples = {name: Sample() for name in hubs}
        for hub in hubs.values():
            await hub.api("POST", "/users/warm")
            await spawn(hub, "warm", {"profile": "p5"})
        for number in range(repeats):
            for name, hub in hubs.items():
                user = f"u{number}"
                await hub.api("POST", f"/users/{user}")
                samples[name].values.append(await _delay(hub, user))
    ours, theirs = samples["ours"].median, samples["KubeSpawner"].median
    data = {n: s.values for n, s in samples.items()}
    table.add(
        "median delay",
        f"{ours * 1000:.0f} ms (KubeSpawner {theirs * 1000:.0f} ms)",
        "<= 100 ms",
        ours <= 0.1,
        data=data,
    )
    table.add("KubeSpawner / ours", ratio_of(samples["KubeSpawner"], samples["ours"])[1])
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
