"""Prometheus metrics of the profiles, on the hub's own `/metrics`.

Prometheus keeps one registry for each process, so these are made once, when they are first used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics", "SpawnResult", "hub_metrics"]

SpawnResult = Literal["success", "failure", "refused"]
"""How a start ended; `refused` is a mistake of the user's."""


class Metrics:
    """What is told about reloads and starts.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._successful = Gauge(
            "profile_spawner_last_reload_successful",
            "Whether all sources of profiles were fine at the last reload (1) or not (0)",
            registry=registry,
        )
        self._timestamp = Gauge(
            "profile_spawner_last_reload_timestamp_seconds",
            "When the profiles were last reloaded, in seconds since 1970",
            registry=registry,
        )
        self._generation = Gauge(
            "profile_spawner_generation", "The generation of profiles that is offered", registry=registry
        )
        self._profiles = Gauge(
            "profile_spawner_profiles",
            "Profiles on offer: current, or stale because their source is broken",
            ["state"],
            registry=registry,
        )
        self._sources = Gauge(
            "profile_spawner_sources",
            "Modules, documents and ConfigMaps: good, stale (broken, an older version is offered) or broken",
            ["state"],
            registry=registry,
        )
        self._seconds = Histogram(
            "profile_spawner_reload_seconds",
            "How long a reload took",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._reloads = Counter(
            "profile_spawner_reloads", "Reloads, by whether all sources were fine", ["result"], registry=registry
        )

        self._spawns = Counter(
            "profile_spawner_spawns",
            "Starts of servers by profile and by how they ended: success, failure, or refused for a user's mistake",
            ["profile", "result"],
            registry=registry,
        )

    def spawned(self, profile: str, result: SpawnResult) -> None:
        """Note how a start ended.

        Args:
            profile: The slug of a profile on offer, never what a user sent; empty without one.
            result: How.
        """
        self._spawns.labels(profile, result).inc()

    def reloaded(
        self,
        *,
        successful: bool,
        timestamp: float,
        generation: int,
        profiles: Mapping[str, int],
        sources: Mapping[str, int],
        seconds: float,
    ) -> None:
        """Note the outcome of a reload.

        Args:
            successful: Whether all sources were fine.
            timestamp: When, in seconds since 1970.
            generation: The generation that is offered now.
            profiles: How many profiles there are by state.
            sources: How many modules, documents and ConfigMaps there are by state.
            seconds: How long it took.
        """
        self._successful.set(int(successful))
        self._timestamp.set(timestamp)
        self._generation.set(generation)
        for state, count in profiles.items():
            self._profiles.labels(state).set(count)
        for state, count in sources.items():
            self._sources.labels(state).set(count)
        self._seconds.observe(seconds)
        self._reloads.labels("success" if successful else "failure").inc()


@functools.cache
def hub_metrics() -> Metrics:
    """Return this process's metrics."""
    return Metrics()
