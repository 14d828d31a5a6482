"""(b) From the constructor to the manifest, and (f) the memory of many spawners."""

from __future__ import annotations

import asyncio
import json
import logging
import tracemalloc
from typing import Any

from kubespawner import KubeSpawner
from traitlets.config import Config

from profile_spawner.profiles.registry import profile_registry
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import SourceSettings
from profile_spawner.spawner import ProfileSpawner

from .making import profile_classes, profile_list
from .measuring import Sample, Table, interleaved_async, ratio_of

__all__ = ["memory", "spawn_cost"]


async def _manifest(cls: type, config: Config, options: dict[str, Any]) -> Any:
    spawner = cls(_mock=True, config=config, user_options=options)
    await spawner.load_user_options()
    return await spawner.get_pod_manifest()


async def _registered_profiles() -> Snapshot:
    service = ProfileService(SourceSettings(), log=logging.getLogger("benchmark"))
    try:
        return await service.ready()
    finally:
        await service.stop()


def _text(pod: Any) -> str:
    from kubernetes_asyncio.client import ApiClient

    return json.dumps(ApiClient.sanitize_for_serialization(ApiClient.__new__(ApiClient), pod), sort_keys=True)


async def spawn_cost(quick: bool) -> Table:
    """Compare constructor + options + manifest for the same list, static and callable, and for classes."""
    table = Table("b", "Constructor, options and manifest of one spawn", axes=("profiles", "time / ProfileSpawner's"))
    targets = {10: 1.5, 100: 7, 1000: 60, 10_000: 1000}
    for count in (10, 100, 1000) if quick else (10, 100, 1000, 10_000):
        samples = await _three_ways(count)
        ratio, text = ratio_of(samples["static"], samples["ours"])
        _, called = ratio_of(samples["callable"], samples["ours"])
        table.add(
            f"static list of {count:,}: KubeSpawner / ProfileSpawner",
            text,
            f">= {targets[count]:,}x",
            ratio >= targets[count],
            note="what remains is KubeSpawner's own constructor and manifest, the same on both sides",
            data={n: s.values for n, s in samples.items()},
            points={
                "KubeSpawner, static list": (count, ratio),
                "KubeSpawner, callable": (count, samples["callable"].median / samples["ours"].median),
                "ProfileSpawner": (count, 1.0),
            },
        )
        table.add(f"callable list of {count:,}: KubeSpawner / ProfileSpawner", called)
    await _flatness(table, 1000 if quick else 10_000)
    await _class_cost(table)
    return table


async def _three_ways(count: int) -> dict[str, Sample]:
    """Measure the same list as a static one and from a callable, after showing that all make the same pod."""
    listed = profile_list(count)
    static, called = Config(), Config()
    static.KubeSpawner.profile_list = listed
    called.KubeSpawner.profile_list = lambda spawner: listed
    options = {"profile": f"p{count // 2}", "size": "b"}
    sides = {
        "static": lambda: _manifest(KubeSpawner, static, options),
        "callable": lambda: _manifest(KubeSpawner, called, options),
        "ours": lambda: _manifest(ProfileSpawner, static, options),
    }
    if len({_text(await call()) for call in sides.values()}) != 1:
        raise AssertionError("the sides make different pods")
    return await interleaved_async(sides, 9, 3 if count >= 10_000 else 10)


async def _flatness(table: Table, many: int) -> None:
    sides = {}
    for count in (10, many):
        config = Config()
        config.KubeSpawner.profile_list = profile_list(count)
        options = {"profile": f"p{count // 2}", "size": "b"}
        sides[str(count)] = lambda config=config, options=options: _manifest(ProfileSpawner, config, options)
    samples = await interleaved_async(sides, 15, 10)
    growth, text = ratio_of(samples[str(many)], samples["10"])
    data = {n: s.values for n, s in samples.items()}
    table.add(f"flat in N: {many:,} over 10 profiles", text, "<= 1.05", growth <= 1.05, data=data)


async def _class_cost(table: Table) -> None:
    profile_registry.clear()
    for cls in profile_classes(100):
        profile_registry.register(cls)
    ours, plain = Config(), Config()
    samples = await interleaved_async(
        {
            "plain": lambda: _manifest(KubeSpawner, plain, {}),
            "class": lambda: _manifest(ProfileSpawner, ours, {"profile": "p50", "size": "b"}),
        },
        15,
        10,
    )
    profile_registry.clear()
    added = (samples["class"].median - samples["plain"].median) * 1000
    ratio = samples["class"].median / samples["plain"].median
    table.add(
        "a class with environment and option: added to a KubeSpawner without any profile",
        f"{added:.2f} ms ({ratio:.1f}x)",
        "<= 0.3 ms",
        added <= 0.3,
        note="an absolute time of this machine; the ratio is what carries over",
        data={n: s.values for n, s in samples.items()},
    )


def _size_of(make: Any) -> tuple[int, Any]:
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    kept = make()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    return sum(s.size_diff for s in after.compare_to(before, "filename")), kept


async def memory(quick: bool) -> Table:
    """Count allocated bytes: per profile, and per spawner for any number of profiles."""
    table = Table("f", "Memory")
    count = 1000
    classes = profile_classes(count)

    def snapshot() -> Snapshot:
        for cls in classes:
            profile_registry.register(cls)
        try:
            return asyncio.run(_registered_profiles())
        finally:
            profile_registry.clear()

    size, kept = await asyncio.to_thread(_size_of, snapshot)
    per_profile = size / count / 1024
    table.add("a profile in the snapshot, once", f"{per_profile:.1f} KiB", "<= 3 KiB", per_profile <= 3, exact=True)
    del kept
    users = 50 if quick else 200
    sizes = {}
    for cls in (KubeSpawner, ProfileSpawner):
        per_spawner = {}
        for profiles in (10, count):
            config = Config()
            config.KubeSpawner.profile_list = profile_list(profiles)
            cls(_mock=True, config=config)
            total, spawners = _size_of(lambda c=config, k=cls: [k(_mock=True, config=c) for _ in range(users)])
            per_spawner[profiles] = total / users
            del spawners
        sizes[cls.__name__] = (per_spawner[count] - per_spawner[10]) / (count - 10)
    ours, theirs = sizes["ProfileSpawner"], sizes["KubeSpawner"]
    table.add("per profile and spawner (static list)", f"{ours:.1f} B", "0 B", ours < 1, data=sizes, exact=True)
    at_thousand = 1000 * 1000 * theirs
    mine = max(1.0, 1000 * 1000 * max(ours, 0.0)) + per_profile * 1024 * 1000
    table.add(
        "1,000 users x 1,000 profiles: KubeSpawner / ProfileSpawner",
        f"{at_thousand / mine:,.0f}x",
        ">= 500x",
        at_thousand / mine >= 500,
        note="extrapolated from the bytes per profile and spawner",
    )
    return table
