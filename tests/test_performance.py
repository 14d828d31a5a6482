"""Calls and bytes that must not grow with the number of profiles. Times are not measured."""

from __future__ import annotations

import contextlib
import gc
import sys
import tracemalloc
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from traitlets.config import Config

from benchmarks.making import profile_classes, profile_list
from profile_spawner.page import PageRenderer, PageRequest
from profile_spawner.page.cards import card_of
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.registry import Collector
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.spawner import ProfileSpawner
from tests.snapshots import snapshot_of


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Collect the names of the functions that are called in the block."""
    calls: list[str] = []

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def counted_calls(config: Config, slug: str) -> int:
    """Count the Python calls of one spawn up to its manifest, after a few that fill the caches."""

    async def spawn() -> None:
        spawner: Any = ProfileSpawner(_mock=True, config=config, user_options={"profile": slug})
        await spawner.load_user_options()
        await spawner.get_pod_manifest()

    for _ in range(3):
        await spawn()
    with counted() as calls:
        await spawn()
    return len(calls)


async def test_a_spawn_costs_the_same_with_ten_and_a_thousand_profiles() -> None:
    """The number of calls from the constructor to the manifest does not depend on the number of profiles."""
    counts = {}
    for size in (10, 1000):
        config = Config()
        config.KubeSpawner.profile_list = profile_list(size)
        counts[size] = await counted_calls(config, "p7")
    assert counts[1000] <= counts[10] * 1.02, counts


async def snapshot_of_size(count: int) -> Snapshot:
    """Return a snapshot of this many classes."""
    collector = Collector("test")
    for cls in profile_classes(count):
        collector.add(cls)
    return await snapshot_of(collector)


@pytest.mark.parametrize("count", [10, 1000])
async def test_the_first_payload_is_small(count: int) -> None:
    """However many profiles there are, the form has at most 40 KiB, and the chosen profile is in it."""
    cards = [card_of(e) for e in (await snapshot_of_size(count)).entries.values()]
    last = cards[-1].offer.slug
    form = PageRenderer().render(PageRequest(cards=cards, selected=last, static="/s", search="/q"))
    assert len(form.encode()) <= 40 * 1024
    assert f'value="{last}"' in form


async def test_finding_a_profile_does_not_look_at_the_others() -> None:
    """Choosing one of a thousand makes as many calls as choosing one of ten."""
    counts = {}
    for size in (10, 1000):
        snapshot = await snapshot_of_size(size)
        for _ in range(2):  # the first time in a process, types are prepared
            with counted() as calls:
                snapshot.select({"profile": "p7", "size": "b"}, UserInfo("ada"))
        counts[size] = len(calls)
    assert counts[10] == counts[1000]


def _size_of_spawners(config: Config) -> float:
    """Return how much memory a spawner takes, in bytes."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    kept = [ProfileSpawner(_mock=True, config=config) for _ in range(20)]
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] - before) / len(kept)


async def test_a_profile_needs_little_memory_and_none_per_spawner() -> None:
    """At most 6 KiB for a profile, once; a spawner keeps no copy of the list."""
    classes = profile_classes(500)
    collector = Collector("test")
    for cls in classes:
        collector.add(cls)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        snapshot = await snapshot_of(collector)
        per_profile = (tracemalloc.get_traced_memory()[0] - before) / len(snapshot)
        sizes = {}
        for size in (10, 1000):
            config = Config()
            config.KubeSpawner.profile_list = profile_list(size)
            ProfileSpawner(_mock=True, config=config)
            sizes[size] = min(_size_of_spawners(config) for _ in range(3))  # threads of other tests allocate, too
    finally:
        tracemalloc.stop()
    assert per_profile <= 6 * 1024
    assert (sizes[1000] - sizes[10]) / 990 < 4
