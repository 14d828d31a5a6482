"""(b) From the constructor to the manifest, and (f) the memory of many spawners."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import Sequence
from typing import Any

from kubespawner import KubeSpawner
from traitlets.config import Config

from profile_spawner.profiles.base import BaseAppProfile
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
    """Compare constructor + options + manifest for the same list, static and callable."""
    table = Table("b", "Constructor, options and manifest of one spawn")
    targets = {10: 1.5, 1000: 60}
    for count, target in targets.items():
        samples = await _three_ways(count, *((5, 3) if quick else (9, 10)))
        ratio, text = ratio_of(samples["static"], samples["ours"])
        _, called = ratio_of(samples["callable"], samples["ours"])
        table.add(
            f"static list of {count:,}: KubeSpawner / ProfileSpawner",
            text,
            f">= {target}x",
            ratio >= target,
            note="what remains is KubeSpawner's own constructor and manifest, the same on both sides",
            data={n: s.values for n, s in samples.items()},
        )
        table.add(f"callable list of {count:,}: KubeSpawner / ProfileSpawner", called)
    await _flatness(table, 5 if quick else 15)
    return table


async def _three_ways(count: int, repeats: int, inner: int) -> dict[str, Sample]:
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
    return await interleaved_async(sides, repeats, inner)


async def _flatness(table: Table, repeats: int) -> None:
    sides = {}
    for count in (10, 1000):
        config = Config()
        config.KubeSpawner.profile_list = profile_list(count)
        options = {"profile": f"p{count // 2}", "size": "b"}
        sides[str(count)] = lambda config=config, options=options: _manifest(ProfileSpawner, config, options)
    samples = await interleaved_async(sides, repeats, 10)
    growth, text = ratio_of(samples["1000"], samples["10"])
    data = {n: s.values for n, s in samples.items()}
    table.add("flat in N: 1,000 over 10 profiles", text, "<= 1.10", growth <= 1.10, data=data)


def _size_of(make: Any) -> tuple[int, Any]:
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    kept = make()
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    return sum(s.size_diff for s in after.compare_to(before, "filename")), kept


async def memory(quick: bool) -> Table:
    """Count allocated bytes: per profile, and per spawner for any number of profiles."""
    table = Table("f", "Memory")
    count = 1000

    def snapshot(classes: Sequence[type[BaseAppProfile]]) -> Snapshot:
        for cls in classes:
            profile_registry.register(cls)
        try:
            return asyncio.run(_registered_profiles())
        finally:
            profile_registry.clear()

    await asyncio.to_thread(snapshot, profile_classes(1))  # what is loaded once does not count
    classes = profile_classes(count)
    size, kept = await asyncio.to_thread(_size_of, lambda: snapshot(classes))
    per_profile = size / count / 1024
    table.add("a profile in the snapshot, once", f"{per_profile:.1f} KiB")
    del kept
    users = 20 if quick else 200
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
    ours = sizes["ProfileSpawner"]
    table.add("per profile and spawner (static list)", f"{ours:.1f} B", "0 B", ours < 1, data=sizes, exact=True)
    return table
