"""(d) Reloading one of many modules, and (f) what many reloads leave behind."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import SourceSettings

from .hubs import bench
from .making import MODULE, write_modules
from .measuring import LoopProbe, Sample, Table

__all__ = ["reloading"]

OURS = "c.JupyterHub.spawner_class = 'profile-spawner'\nc.ProfileSpawner.profiles_dirs = ['{folder}']\n"


async def _restart(modules: Path, repeats: int) -> Sample:
    """Measure how long a hub takes from its start to a spawn page with these profiles, which a restart would cost."""
    sample = Sample()
    async with bench() as b:
        for _ in range(repeats):
            start = time.perf_counter()
            hub = await b.hub(OURS.format(folder=modules))
            browser = await hub.browser("ada")
            reply = await browser.get("/hub/spawn")
            if 'value="p0"' not in reply.text:
                raise AssertionError(f"the page has no profiles: {reply.status} {reply.text[-3000:]} {hub.log[-2000:]}")
            sample.values.append(time.perf_counter() - start)
            await browser.close()
            await hub.close()
    return sample


def _resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def reloading(quick: bool) -> Table:
    """Measure reloads without and with a change, the loop's longest pause, and the growth over many."""
    table = Table("d", "Reload")
    log = logging.getLogger("benchmarks")
    log.setLevel(logging.ERROR)
    for count in (100, 1000) if quick else (1000, 10000):
        with tempfile.TemporaryDirectory(prefix="profile-spawner-bench-") as folder:
            modules = Path(folder) / "profiles"
            write_modules(modules, count)
            service = ProfileService(
                SourceSettings(profiles_dirs=[str(modules)], watch_profiles=False), log=log, settle=0.0
            )
            async with LoopProbe() as first:
                start = time.perf_counter()
                snapshot = await service.ready()
                loaded = time.perf_counter() - start
            if len(snapshot) != count:
                raise AssertionError(f"{len(snapshot)} of {count} profiles were loaded: {snapshot.problems[:3]}")
            restart = await _restart(modules, 2 if quick else 5)
            unchanged, again, changed = Sample(), Sample(), Sample()
            async with LoopProbe() as probe:
                for number in range(5):
                    start = time.perf_counter()
                    await service.reload(full=False)
                    unchanged.values.append(time.perf_counter() - start)
                    start = time.perf_counter()
                    await service.reload()
                    again.values.append(time.perf_counter() - start)
                    path = modules / "m7.py"
                    path.write_text(MODULE.format(n=7).replace("Number", f"Change {number}, number"))
                    start = time.perf_counter()
                    await service.reload(full=False)
                    changed.values.append(time.perf_counter() - start)
                    if f"Change {number}," not in service.snapshot.entries["p7"].offer.description:
                        raise AssertionError("the change is not visible")
            _rows(table, count, (unchanged, again, changed, restart), max(first.longest, probe.longest))
            table.rows[-1].data = {"first load": loaded}
            await _all_changed(table, service, modules, count)
            if count == 100 or (count == 1000 and not quick):
                await _growth(table, service, modules, 200 if quick else 2000)
            await service.stop()
    return table


def _rows(table: Table, count: int, samples: tuple[Sample, Sample, Sample, Sample], pause: float) -> None:
    unchanged, again, changed, restart = samples
    each = unchanged.median / count * 1e6
    table.add(f"{count:,} modules, nothing changed: per module", f"{each:.1f} us", "<= 4 us", each <= 4)
    table.add(
        f"{count:,} modules, every file read again and compared (SIGHUP): per module",
        f"{again.median / count * 1e6:.0f} us",
    )
    ratio = changed.median / restart.median
    table.add(
        f"{count:,} modules, one changed: reload / hub restart",
        f"1/{1 / ratio:.0f}",
        "<= 1/40",
        ratio <= 1 / 40,
        note="with the trial import in a separate process; the restart up to a page with the profiles",
        data={"reload": changed.values, "restart": restart.values},
    )
    limit = 0.005 if count <= 1000 else 0.010
    table.add(
        f"{count:,} modules: the loop's longest pause",
        f"{pause * 1000:.1f} ms",
        f"<= {limit * 1000:.0f} ms",
        pause <= limit,
    )


async def _all_changed(table: Table, service: ProfileService, modules: Path, count: int) -> None:
    for n in range(count):
        (modules / f"m{n}.py").write_text(MODULE.format(n=n).replace("Number", "All new, number"))
    async with LoopProbe() as probe:
        start = time.perf_counter()
        report = await service.reload()
        seconds = time.perf_counter() - start
    if len(report.changes) != count:
        raise AssertionError(f"{len(report.changes)} of {count} changes are visible")
    table.add(f"{count:,} modules, all changed: per module", f"{seconds / count * 1000:.2f} ms")
    table.add(f"{count:,} modules, all changed: the loop's longest pause", f"{probe.longest * 1000:.1f} ms")


async def _growth(table: Table, service: ProfileService, modules: Path, reloads: int) -> None:
    path = modules / "m3.py"
    sizes = []
    for number in range(reloads):
        path.write_text(MODULE.format(n=3).replace("Number", f"Change {number}, number"))
        await service.reload(full=False)
        if number % (reloads // 2) == reloads // 2 - 1:
            sizes.append(_resident())
    grown = (sizes[-1] - sizes[0]) / 2**20
    table.add(f"growth over {reloads // 2:,} reloads", f"{grown:.1f} MiB", "<= 1 MiB", grown <= 1)
