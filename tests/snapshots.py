"""Snapshots for tests, made as the hub makes them."""

from __future__ import annotations

import logging

from profile_spawner.profiles.registry import Collector, direct_collector, profile_registry
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import SourceSettings


async def snapshot_of(collector: Collector) -> Snapshot:
    """Return the snapshot of a hub whose configuration has the registrations of `collector`."""
    direct, before = profile_registry.collector, direct_collector()
    _fill(direct, collector)
    service = ProfileService(SourceSettings(), log=logging.getLogger("tests.profiles"))
    try:
        return await service.ready()
    finally:
        await service.stop()
        _fill(direct, before)


def _fill(target: Collector, source: Collector) -> None:
    if target is source:
        return
    profile_registry.clear()
    target.profiles.update(source.profiles)
    target.params.update(source.params)
    target.collections.update(source.collections)
