"""Loading many modules beside a hub that must go on.

Two things would hold up the event loop: waiting for the interpreter's lock, and the garbage collector going through
everything that has been loaded. So the lock changes hands more often while something is loaded, and what a large load
has brought is taken out of the collector's sight, piece by piece.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["Pace"]

_SWITCH_SECONDS = 0.0005
_MANY = 100
"""From how many modules on a load is a large one."""
_MANY_OBJECTS = 20_000
"""From how many new objects on it is one too: a single module may bring thousands of profiles."""
_PIECE = 32
_DEAD = 2000


class Pace:
    """How one service loads: one at a time."""

    def __init__(self) -> None:
        self._large = False
        self._steps = 0
        self._dead = 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Keep the event loop's waits short, and the collector still, while something is loaded."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(min(interval, _SWITCH_SECONDS))
        enabled = gc.isenabled()
        gc.disable()
        self._steps = 0
        try:
            yield
        finally:
            if self.large:
                gc.freeze()
                self._large = False
            if enabled:
                gc.enable()
            sys.setswitchinterval(interval)

    def expect(self, count: int) -> None:
        """Tell how many modules are about to be loaded. What the scan of many has left is out of sight at once."""
        self._large = count >= _MANY
        if self._large:
            gc.freeze()

    @property
    def large(self) -> bool:
        """Whether this load is a large one: what it brings leaves the collector's sight."""
        return self._large or gc.get_count()[0] >= _MANY_OBJECTS

    def step(self) -> None:
        """Tell that one more module has been dealt with."""
        self._steps += 1
        if self._large and self._steps % _PIECE == 0:
            if gc.get_count()[0] < _MANY_OBJECTS:
                gc.collect(1)  # only what is new since the last piece
            gc.freeze()

    def dropped(self, count: int) -> None:
        """Tell how many profiles of large loads are no longer offered."""
        self._dead += count

    @property
    def untidy(self) -> bool:
        """Whether so much is no longer offered that `tidy()` is worth its while."""
        return self._dead >= _DEAD

    def tidy(self) -> None:
        """Free what is no longer offered. The collector cannot see it, so it has to look at everything once.

        This holds up the hub: 0.3 s with 10,000 modules. It is needed after thousands of profiles have been replaced.
        """
        self._dead = 0
        gc.unfreeze()
        gc.collect()
        gc.freeze()
