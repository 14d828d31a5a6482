"""Shows on the page how many GPUs are free. The numbers are read in the background, if the hub has the rights for it.

A page view uses the result of the last reading. It does not read, count or wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from markupsafe import Markup

from profile_spawner.errors import ClusterError
from profile_spawner.kube.nodes import Availability, Capacity, CapacityReader
from profile_spawner.texts import Gettext, Text, said

from .cards import Wants

__all__ = ["CapacityView"]

MOST_WANTS = 500
"""The maximum number of different needs that are counted."""

STALE_AFTER = 5
"""After this number of missed readings, the page shows no numbers."""

PAUSE_WITHOUT_RIGHTS = 600.0
"""Seconds until the next try after the API server has forbidden the reading."""


class CapacityView:
    """The free capacity of the cluster of one hub.

    Args:
        interval: Seconds between two readings.
        log: The hub's logger.
        wanted: Returns what the profiles on offer need.
    """

    def __init__(self, interval: float, log: Any, wanted: Callable[[], Iterable[Wants]]) -> None:
        self.interval = interval
        self._log = log
        self._wanted = wanted
        self._asked: set[Wants] = set()
        self._known: Mapping[Wants, Availability] = {}
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

    def __call__(self, wants: Wants, gettext: Gettext) -> Markup:
        """Return how many there are of what a profile wants, as a paragraph; empty when it is not known."""
        reading = self._reading
        if wants not in self._known:
            if len(self._asked) < MOST_WANTS:
                self._asked.add(wants)
            return Markup()
        if reading is None or reading.age() > STALE_AFTER * self.interval:
            return Markup()
        state, text = describe(self._known[wants], wants, reading.age())
        paragraph = Markup('<p class="ps-availability" data-state="{}">{}</p>')
        return paragraph.format(state, said(text, gettext))

    async def read(self, reader: CapacityReader) -> None:
        """Take one reading, and count what the profiles want.

        Raises:
            ClusterError: If the API server refuses the request or does not answer.
        """
        wanted = {*self._wanted(), *self._asked}
        if not wanted:
            return
        reader.resources = frozenset(wants.resource for wants in wanted)
        reading = await reader.read()
        known = {}
        for number, wants in enumerate(list(wanted)[:MOST_WANTS]):
            known[wants] = reading.of(wants.resource, wants.amount, dict(wants.selector))
            if number % 10 == 9:
                await asyncio.sleep(0)
        self._known, self._reading = known, reading

    async def _run(self, api_client: Any) -> None:
        reader = CapacityReader(api_client, log=self._log, interval=self.interval)
        told = ""
        while True:
            pause = self.interval
            try:
                await self.read(reader)
                told = ""
            except ClusterError as e:
                if e.reason != told:
                    self._log.warning("The page cannot say how many GPUs are free: %s", e)
                told = e.reason
                if e.reason == "forbidden":
                    self._reading = None
                    pause = PAUSE_WITHOUT_RIGHTS
            except Exception:  # noqa: BLE001 - the next reading may go well; without this there would be none
                self._log.exception("Reading the free capacity failed")
            await asyncio.sleep(pause)


def describe(there: Availability, wants: Wants, age: float) -> tuple[str, Text]:
    """Return the state (`free`, `full` or `none`) and the words for what there is.

    Args:
        there: What there is.
        wants: What one server takes.
        age: Of the reading, in seconds.
    """
    when = Text("%(n)s s ago", n=round(age)) if age < 90 else Text("%(n)s min ago", n=round(age / 60))
    free, total = int(there.free), int(there.total)
    if not total:
        return "none", Text("GPUs: none in the cluster, %(when)s. A server would wait until there is one.", when=when)
    if there.fits:
        return "free", Text("GPUs: %(free)s of %(total)s free, %(when)s.", free=free, total=total, when=when)
    if free >= wants.amount:
        text = Text(
            "GPUs: %(free)s of %(total)s free, but no %(amount)s on one node, %(when)s. A server would wait.",
            free=free,
            total=total,
            amount=wants.amount,
            when=when,
        )
        return "full", text
    return "full", Text(
        "GPUs: %(free)s of %(total)s free, %(when)s. A server would wait.", free=free, total=total, when=when
    )
