"""(a) The spawn page."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.hub import HubBrowser, HubUnderTest

from .hubs import CALLABLE, CONSTANT, bench
from .measuring import Sample, Table, interleaved_async, ratio_of

__all__ = ["page"]

AGAINST_CONSTANT = {10: 1.15, 300: 1.15, 1000: 1.3}
AGAINST_CALLABLE = {10: 4, 1000: 28}
"""The targets, by the number of profiles."""

GENERATION = "profile_spawner_generation "
OURS = "c.JupyterHub.spawner_class = 'profile-spawner'\nc.ProfileSpawner.profiles_dirs = ['{folder}']\n"
MODULE = """\
from benchmarks.making import profile_classes
from profile_spawner import profile_registry

for cls in profile_classes({count}):
    if cls.slug == "p1":
        cls.description = "Edit {edit}"
    profile_registry.register(cls)
"""


async def page(quick: bool) -> Table:
    """Compare one view of the spawn page with one whose form is a constant, and with KubeSpawner's own form."""
    table = Table("a", "The spawn page through a real hub")
    for count in (10,) if quick else (10, 300, 1000):
        async with bench() as b:
            module = b.folder / "profiles" / "many.py"
            module.parent.mkdir()
            module.write_text(MODULE.format(count=count, edit=0))
            ours = OURS.format(folder=module.parent)
            hubs = {
                name: await b.hub(text, count=count)
                for name, text in (("constant", CONSTANT), ("callable", CALLABLE), ("ours", ours))
            }
            browsers = {name: await hub.browser("ada") for name, hub in hubs.items()}
            samples = await interleaved_async(
                {name: lambda browser=browser: browser.get("/hub/spawn") for name, browser in browsers.items()},
                9 if quick else 25,
                10,
            )
            first = await _first_views(hubs["ours"], browsers, module, count, 5 if quick else 25)
            reply = await browsers["ours"].get("/hub/spawn")
            for browser in browsers.values():
                await browser.close()
        _rows(table, count, samples, first, len(reply.text.encode()) / 1024)
    return table


def _rows(table: Table, count: int, samples: Mapping[str, Sample], first: Mapping[str, Sample], size: float) -> None:
    limit = AGAINST_CONSTANT[count]
    ratio, text = ratio_of(samples["ours"], samples["constant"])
    theirs = samples["callable"].median / samples["constant"].median
    table.add(
        f"{count:,} profiles: ours / constant form",
        text,
        f"<= {limit}x",
        ratio <= limit,
        data={n: s.values for n, s in samples.items()},
    )
    ratio, text = ratio_of(first["ours"], first["constant"])
    table.add(
        f"{count:,} profiles, first view after a reload: ours / constant form",
        text,
        f"<= {limit}x",
        ratio <= limit,
        data={n: s.values for n, s in first.items()},
    )
    times, text = ratio_of(samples["callable"], samples["ours"])
    target = AGAINST_CALLABLE.get(count)
    table.add(
        f"{count:,} profiles: KubeSpawner's callable / ours",
        text,
        f">= {target}x" if target else "",
        times >= target if target else None,
        note=f"a form of one constant word: {theirs:.3g}x",
    )
    table.add(f"{count:,} profiles: the whole page", f"{size:.0f} KiB", "<= 40 KiB", size <= 40, exact=True)


async def _first_views(
    hub: HubUnderTest, browsers: Mapping[str, HubBrowser], module: Path, count: int, repeats: int
) -> dict[str, Sample]:
    """Change the profiles' module, and view the page for the first time after the hub has reloaded it."""
    samples = {"ours": Sample(), "constant": Sample()}
    for edit in range(1, repeats + 1):
        before = await _generation(hub)
        module.write_text(MODULE.format(count=count, edit=edit))
        hub.process.send_signal(signal.SIGHUP)
        await _later_than(hub, before)
        for name, sample in samples.items():
            start = time.perf_counter()
            await browsers[name].get("/hub/spawn")
            sample.values.append(time.perf_counter() - start)
    return samples


async def _generation(hub: HubUnderTest) -> float:
    text = (await hub.api("GET", "/../metrics")).text
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(GENERATION)), -1.0)


async def _later_than(hub: HubUnderTest, generation: float) -> None:
    for _ in range(1000):
        if await _generation(hub) > generation:
            return
        await asyncio.sleep(0.02)  # another process has no event to wait for
    raise RuntimeError(f"the hub is still at generation {generation}: {hub.log[-2000:]}")
