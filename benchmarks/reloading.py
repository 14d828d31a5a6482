"""(d) Reloading one of many modules, and (f) what many reloads leave behind."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from profile_spawner.reload import ProfileService
from profile_spawner.sources.settings import SourceSettings

from .making import MODULE, write_modules
from .measuring import LoopProbe, Sample, Table

__all__ = ["reloading"]

HUB_RESTART_SECONDS = 2.3
"""What a restart of the hub takes before any pod is scheduled, for the ratio; measured on the same kind of machine."""


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
            service = ProfileService(SourceSettings(profiles_dirs=(modules,), watch=False, settle=0.0), log=log)
            async with LoopProbe() as first:
                start = time.perf_counter()
                snapshot = await service.ready()
                loaded = time.perf_counter() - start
            if len(snapshot) != count:
                raise AssertionError(f"{len(snapshot)} of {count} profiles were loaded: {snapshot.problems[:3]}")
            unchanged, changed = Sample(), Sample()
            async with LoopProbe() as probe:
                for number in range(5):
                    start = time.perf_counter()
                    await service.reload()
                    unchanged.values.append(time.perf_counter() - start)
                    path = modules / "m7.py"
                    path.write_text(MODULE.format(n=7).replace("Number", f"Change {number}, number"))
                    start = time.perf_counter()
                    await service.reload(hints=[str(path)])
                    changed.values.append(time.perf_counter() - start)
                    if f"Change {number}," not in service.snapshot.entries["p7"].offer.description:
                        raise AssertionError("the change is not visible")
            _rows(table, count, loaded, unchanged, changed, max(first.longest, probe.longest))
            if count == 100 or (count == 1000 and not quick):
                await _growth(table, service, modules, 200 if quick else 2000)
            await service.stop()
    return table


def _rows(table: Table, count: int, loaded: float, unchanged: Sample, changed: Sample, pause: float) -> None:
    each = unchanged.median / count * 1e6
    table.add(f"{count:,} modules, nothing changed: per module", f"{each:.1f} us", "<= 4 us", each <= 4)
    ratio = changed.median / HUB_RESTART_SECONDS
    table.add(
        f"{count:,} modules, one changed: reload / hub restart",
        f"1/{1 / ratio:.0f}",
        "<= 1/40",
        ratio <= 1 / 40,
        note="with the trial import in a separate process",
        data={"seconds": changed.values, "all": loaded},
    )
    limit = 0.005 if count <= 1000 else 0.010
    table.add(
        f"{count:,} modules: the loop's longest pause",
        f"{pause * 1000:.1f} ms",
        f"<= {limit * 1000:.0f} ms",
        pause <= limit,
    )


async def _growth(table: Table, service: ProfileService, modules: Path, reloads: int) -> None:
    path = modules / "m3.py"
    sizes = []
    for number in range(reloads):
        path.write_text(MODULE.format(n=3).replace("Number", f"Change {number}, number"))
        await service.reload(hints=[str(path)])
        if number % (reloads // 2) == reloads // 2 - 1:
            sizes.append(_resident())
    grown = (sizes[-1] - sizes[0]) / 2**20
    table.add(f"growth over {reloads // 2:,} reloads", f"{grown:.1f} MiB", "<= 1 MiB", grown <= 1)
