"""(i) The command line, (j) the import of the spawner and (k) the start of a hub."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .hubs import CALLABLE, bench
from .making import write_modules
from .measuring import Sample, Table, ratio_of

__all__ = ["command_line", "hub_start"]

OURS = "c.JupyterHub.spawner_class = 'profile-spawner'\nc.ProfileSpawner.profiles_dirs = ['{folder}']\n"


async def command_line(quick: bool) -> Table:
    """Compare the processor time of processes with that of importing KubeSpawner."""
    table = Table("i", "Command line and imports: processor time / `import kubespawner`")
    with tempfile.TemporaryDirectory(prefix="profile-spawner-bench-") as folder:
        write_modules(Path(folder), 10)
        program = [sys.executable, "-m", "profile_spawner"]
        sides = {
            "kubespawner": [sys.executable, "-c", "import kubespawner"],
            "list": [*program, "list", "--profiles-dir", folder],
            "--help": [*program, "--help"],
            "import": [sys.executable, "-c", "import profile_spawner.spawner"],
        }
        samples = await asyncio.to_thread(_processor_times, sides, 5 if quick else 11)
    for name, what, target in (
        ("list", "`profile-spawner list` of 10 profiles", 1.2),
        ("--help", "`profile-spawner --help`", 0.25),
        ("import", "`import profile_spawner.spawner`", 1.25),
    ):
        ratio, text = ratio_of(samples[name], samples["kubespawner"])
        table.add(what, text, f"<= {target}x", ratio <= target, data={n: s.values for n, s in samples.items()})
    return table


def _processor_times(sides: dict[str, list[str]], repeats: int) -> dict[str, Sample]:
    """Run all programs in turn; a first time, which is not counted, fills the caches of compiled modules."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    samples = {name: Sample() for name in sides}
    for repeat in range(repeats + 1):
        for name, command in sides.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if repeat:
                seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                samples[name].values.append(seconds)
    return samples


async def hub_start(quick: bool) -> Table:
    """Compare the time from the start of a hub to its first spawn page."""
    table = Table("k", "From the start of a hub to the first page, 10 profiles")
    samples = {"KubeSpawner": Sample(), "ours": Sample()}
    async with bench() as b:
        modules = b.folder / "profiles"
        write_modules(modules, 10)
        for _ in range(2 if quick else 7):
            for name, text in (("KubeSpawner", CALLABLE), ("ours", OURS.format(folder=modules))):
                start = time.perf_counter()
                hub = await b.hub(text, count=10)
                browser = await hub.browser("ada")
                reply = await browser.get("/hub/spawn")
                samples[name].values.append(time.perf_counter() - start)
                if "Profile 3" not in reply.text:
                    raise AssertionError(f"the page has no profiles: {reply.status} {hub.log[-2000:]}")
                await browser.close()
                await hub.close()
    ratio, text = ratio_of(samples["ours"], samples["KubeSpawner"])
    data = {n: s.values for n, s in samples.items()}
    table.add("ours / KubeSpawner", text, "<= 1.1x", ratio <= 1.1, data=data)
    return table
