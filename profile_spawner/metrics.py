"""Prometheus metrics about profiles, served at the hub's own `/metrics`.

The Prometheus client has one registry per process, so the metrics are created once, at the first use.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from profile_spawner.errors import ProfileSpawnerError, ProfileWarning

__all__ = ["Metrics", "SpawnResult", "hub_metrics"]

SpawnResult = Literal["success", "failure", "refused"]
"""The result of a server start; `refused` means that the user's request was invalid."""


class Metrics:
    """The metrics about reloads of profiles and starts of servers.

    Args:
        registry: The registry for the metrics.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._successful = Gauge(
            "profile_spawner_last_reload_successful",
            "Whether the last reload loaded all sources without errors (1) or not (0)",
            registry=registry,
        )
        self._timestamp = Gauge(
            "profile_spawner_last_reload_timestamp_seconds",
            "The time of the last reload, in seconds since 1970",
            registry=registry,
        )
        self._generation = Gauge("profile_spawner_generation", "The current generation of profiles", registry=registry)
        self._profiles = Gauge(
            "profile_spawner_profiles",
            "Available profiles: current, or stale because their source is broken",
            ["state"],
            registry=registry,
        )
        self._sources = Gauge(
            "profile_spawner_sources",
            "Modules, documents and ConfigMaps: good, stale (broken, an older version is used) or broken",
            ["state"],
            registry=registry,
        )
        self._warnings = Gauge(
            "profile_spawner_warnings",
            "Warnings about profiles that are served but probably do not do what was intended, by where they come from",
            ["source"],
            registry=registry,
        )
        self._seconds = Histogram(
            "profile_spawner_reload_seconds",
            "The duration of a reload",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._reloads = Counter(
            "profile_spawner_reloads",
            "Reloads, by result: success if all sources were loaded without errors, or failure",
            ["result"],
            registry=registry,
        )

        self._spawns = Counter(
            "profile_spawner_spawns",
            "Starts of servers, by profile and result: success, failure, or refused because of an invalid request",
            ["profile", "result"],
            registry=registry,
        )

    def spawned(self, profile: str, result: SpawnResult) -> None:
        """Record the result of a server start.

        Args:
            profile: The slug of an existing profile, or an empty text. Never a text from the user, because every
                label value creates a time series.
            result: The result.
        """
        self._spawns.labels(profile, result).inc()

    def warned(self, source: str, problems: Iterable[ProfileSpawnerError]) -> None:
        """Record the number of warnings.

        Args:
            source: `sources`, or `profile_list` for the plain list.
            problems: The problems, of which the warnings are counted.
        """
        self._warnings.labels(source).set(sum(isinstance(problem, ProfileWarning) for problem in problems))

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
        """Record the result of a reload.

        Args:
            successful: Whether all sources were loaded without errors.
            timestamp: The time of the reload, in seconds since 1970.
            generation: The current generation of profiles.
            profiles: The number of profiles, by state.
            sources: The number of modules, documents and ConfigMaps, by state.
            seconds: The duration of the reload, in seconds.
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
