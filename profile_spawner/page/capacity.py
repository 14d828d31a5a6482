"""Shows on the page how many GPUs are free. The numbers are read in the background, if the hub has the rights for it.

A page view uses the result of the last reading. It does not read, count or wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from profile_spawner.errors import ClusterError
from profile_spawner.kube.nodes import Availability, Capacity, CapacityReader
from profile_spawner.texts import Text

from .cards import GpuDemand

__all__ = ["CapacityView"]

MOST_DEMANDS = 500
"""The maximum number of different demands that are counted."""

STALE_AFTER = 5
"""After this number of missed readings, the page shows no numbers."""

PAUSE_WITHOUT_RIGHTS = 600.0
"""Seconds until the next try after the API server has forbidden the reading."""


class CapacityView:
    """The free capacity of the cluster of one hub.

    Args:
        interval: Seconds between two readings.
        log: The hub's logger.
        demands: Returns the demands of the profiles on offer.
    """

    def __init__(self, interval: float, log: Any, demands: Callable[[], Iterable[GpuDemand]]) -> None:
        self.interval = interval
        self._log = log
        self._demands = demands
        self._requested: set[GpuDemand] = set()
        self._known: Mapping[GpuDemand, Availability] = {}
        self._reading: Capacity | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, api_client: Callable[[], Any]) -> None:
        """Start reading in a task of the running loop. Further calls have no effect.

        Args:
            api_client: Returns the `kubernetes_asyncio.client.ApiClient`.
        """
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(api_client()))

    async def stop(self) -> None:
        """End the task."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def __call__(self, demand: GpuDemand) -> tuple[str, Text] | None:
        """Return what is free of what a server takes, as `describe` does; `None` if it is not known."""
        reading = self._reading
        if demand not in self._known:
            if len(self._requested) < MOST_DEMANDS:
                self._requested.add(demand)
            return None
        if reading is None or reading.age() > STALE_AFTER * self.interval:
            return None
        return describe(self._known[demand], demand, reading.age())

    async def read(self, reader: CapacityReader) -> None:
        """Take one reading, and count what is free of what the profiles need.

        Raises:
            ClusterError: If the API server refuses the request or does not answer.
        """
        demands = {*self._demands(), *self._requested}
        if not demands:
            return
        reader.resources = frozenset(demand.resource for demand in demands)
        reading = await reader.read()
        known = {}
        for number, demand in enumerate(list(demands)[:MOST_DEMANDS]):
            known[demand] = reading.of(demand.resource, demand.amount, dict(demand.selector))
            if number % 10 == 9:
                await asyncio.sleep(0)
        self._known, self._reading = known, reading

    async def _run(self, api_client: Any) -> None:
        reader = CapacityReader(api_client, log=self._log, interval=self.interval)
        last_reason = ""
        while True:
            pause = self.interval
            try:
                await self.read(reader)
                last_reason = ""
            except ClusterError as e:
                if e.reason != last_reason:
                    self._log.warning("The page cannot say how many GPUs are free: %s", e)
                last_reason = e.reason
                if e.reason == "forbidden":
                    self._reading = None
                    pause = PAUSE_WITHOUT_RIGHTS
            except Exception:  # noqa: BLE001 - the next reading may go well; without this there would be none
                self._log.exception("Reading the free capacity failed")
            await asyncio.sleep(pause)


def describe(there: Availability, demand: GpuDemand, age: float) -> tuple[str, Text]:
    """Return the state (`free`, `full` or `none`) and the words for what there is.

    Args:
        there: What there is.
        demand: What one server takes.
        age: Of the reading, in seconds.
    """
    when = Text("%(n)s s ago", n=round(age)) if age < 90 else Text("%(n)s min ago", n=round(age / 60))
    free, total = int(there.free), int(there.total)
    if not total:
        return "none", Text("GPUs: none in the cluster, %(when)s. A server would wait until there is one.", when=when)
    if there.fits:
        return "free", Text("GPUs: %(free)s of %(total)s free, %(when)s.", free=free, total=total, when=when)
    if free >= demand.amount:
        text = Text(
            "GPUs: %(free)s of %(total)s free, but no %(amount)s on one node, %(when)s. A server would wait.",
            free=free,
            total=total,
            amount=demand.amount,
            when=when,
        )
        return "full", text
    return "full", Text(
        "GPUs: %(free)s of %(total)s free, %(when)s. A server would wait.", free=free, total=total, when=when
    )
