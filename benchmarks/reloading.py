"""(d) Reloading one of many modules, and (f) what many reloads leave behind."""

from __future__ import annotations

import gc
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
    """Measure a reload with one change of 300 modules, the loop's longest pause, and the growth over many reloads."""
    table = Table("d", "Reload")
    log = logging.getLogger("benchmarks")
    log.setLevel(logging.ERROR)
    count = 300
    with tempfile.TemporaryDirectory(prefix="profile-spawner-bench-") as folder:
        modules = Path(folder) / "profiles"
        write_modules(modules, count)
        settings = SourceSettings(profiles_dirs=[str(modules)], watch_profiles=False)
        service = ProfileService(settings, log=log, settle=0.0)
        async with LoopProbe() as first:
            snapshot = await service.ready()
            gc.collect()
        if len(snapshot) != count:
            raise AssertionError(f"{len(snapshot)} of {count} profiles were loaded: {snapshot.problems[:3]}")
        restart = await _restart(modules, 2 if quick else 5)
        changed = Sample()
        async with LoopProbe() as probe:
            for number in range(5):
                path = modules / "m7.py"
                path.write_text(MODULE.format(n=7).replace("Number", f"Change {number}, number"))
                start = time.perf_counter()
                await service.reload(full=False)
                changed.values.append(time.perf_counter() - start)
                if f"Change {number}" not in service.snapshot.entries["p7"].offer.description:
                    raise AssertionError("the change is not visible")
                gc.collect()
        ratio = changed.median / restart.median
        table.add(
            f"{count} modules, one changed: reload / hub restart",
            f"1/{1 / ratio:.0f}",
            "<= 1/4",
            ratio <= 1 / 4,
            note="with the trial import in a separate process; the restart up to a page with the profiles",
            data={"reload": changed.values, "restart": restart.values},
        )
        pause = max(first.longest, probe.longest)
        table.add(
            f"{count} modules: the loop's longest pause, garbage collection included",
            f"{pause * 1000:.1f} ms",
            "<= 10 ms",
            pause <= 0.010,
        )
        await _growth(table, service, modules, 40 if quick else 2000)
        await service.stop()
    return table


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
