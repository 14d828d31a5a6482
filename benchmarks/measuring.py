"""Interleaved repeats, medians with their spread, and ratios."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoopProbe", "Row", "Sample", "Table", "interleaved", "interleaved_async", "ratio_of"]


@dataclass
class Sample:
    """Repeated measurements of one side, in seconds."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The interquartile range relative to the median."""
        if len(self.values) < 4:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / self.median if self.median else 0.0


@dataclass
class Row:
    """One line of a result table.

    Attributes:
        what: The compared operation.
        value: The headline, usually a ratio, as text.
        target: What it should be, as text.
        met: Whether the target is met; `None` if there is no target.
        note: Why the target is not met, or a limitation of the number.
        data: The raw numbers.
        exact: Whether the number is counted, not timed, so that missing the target cannot be noise.
    """

    what: str
    value: str
    target: str = ""
    met: bool | None = None
    note: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False


@dataclass
class Table:
    """The results of one benchmark.

    Attributes:
        name: The letter by which it is called.
        title: What it is about.
        rows: The results.
        date: When it was measured.
    """

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    date: str = field(default_factory=lambda: dt.date.today().isoformat())

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Table:
        """Return the table that `dataclasses.asdict` has made this of."""
        return cls(data["name"], data["title"], [Row(**row) for row in data["rows"]], data["date"])

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add a row."""
        self.rows.append(Row(*args, **kwargs))


def ratio_of(above: Sample, below: Sample) -> tuple[float, str]:
    """Return the ratio of two medians, and a text with the range that the quartiles of both allow.

    Args:
        above: What stands above the line.
        below: What stands below it.
    """
    ratio = above.median / below.median
    if min(len(above.values), len(below.values)) < 4:
        return ratio, f"{ratio:,.2f}x"
    quartiles = [statistics.quantiles(s.values, n=4) for s in (above, below)]
    low, high = quartiles[0][0] / quartiles[1][2], quartiles[0][2] / quartiles[1][0]
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return ratio, f"{ratio:,.{digits}f}x ({low:,.{digits}f} to {high:,.{digits}f})"


def interleaved(sides: Mapping[str, Callable[[], Any]], repeats: int, inner: int = 1) -> dict[str, Sample]:
    """Call all sides in turn, `repeats` times, each `inner` times inside the clock; the time of one call counts."""
    samples = {name: Sample() for name in sides}
    for call in sides.values():
        call()
    gc.collect()
    for _ in range(repeats):
        for name, call in sides.items():
            start = time.perf_counter()
            for _ in range(inner):
                call()
            samples[name].values.append((time.perf_counter() - start) / inner)
    return samples


async def interleaved_async(
    sides: Mapping[str, Callable[[], Awaitable[Any]]], repeats: int, inner: int = 1
) -> dict[str, Sample]:
    """Do the same for coroutines."""
    samples = {name: Sample() for name in sides}
    for call in sides.values():
        await call()
    gc.collect()
    for _ in range(repeats):
        for name, call in sides.items():
            gc.collect()  # what the other side left behind is not this side's cost
            await call()
            start = time.perf_counter()
            for _ in range(inner):
                await call()
            samples[name].values.append((time.perf_counter() - start) / inner)
    return samples


class LoopProbe:
    """Measures for how long the event loop does not answer while something else goes on."""

    def __init__(self, tick: float = 0.001) -> None:
        self._tick = tick
        self.pauses: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopProbe:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop to watch."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(self._tick)
            now = time.perf_counter()
            self.pauses.append(now - before - self._tick)
            before = now

    @property
    def longest(self) -> float:
        """The longest pause, in seconds."""
        return max(self.pauses, default=0.0)
