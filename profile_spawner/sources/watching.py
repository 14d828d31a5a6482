"""Notices changes of files: by the kernel's notifications where they work, else by looking every second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import watchfiles

from .files import is_temporary

__all__ = ["FileWatcher"]


class FileWatcher:
    """Watches files and folders.

    Args:
        paths: What is watched; folders with all that is below them. They need not exist yet.
        settle: How long it must have been quiet before a change is told, in seconds.
        log: A logger.
        poll: How often it is looked where notifications do not work, in seconds.
    """

    def __init__(self, paths: Sequence[str], settle: float, log: Any, *, poll: float = 1.0) -> None:
        self._paths = paths
        self._settle = settle
        self._log = log
        self._poll = poll

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        """Yield the paths that have changed, whenever it has become quiet. Ends only when it is cancelled."""
        while True:
            present = await asyncio.to_thread(lambda: [p for p in self._paths if os.path.exists(p)])  # noqa: PTH110
            missing = [p for p in self._paths if p not in present]
            try:
                async for found in self._notified(present, missing):
                    yield found
            except (OSError, RuntimeError) as e:
                self._log.warning("Profiles: files cannot be watched (%s); looking every %g s instead", e, self._poll)
                await asyncio.sleep(self._poll)
            yield frozenset(self._paths)  # something has come or gone

    async def _notified(self, present: Sequence[str], missing: Sequence[str]) -> AsyncIterator[frozenset[str]]:
        if not present:
            await asyncio.sleep(self._poll)
            return
        watching = watchfiles.awatch(
            *present,
            watch_filter=_matters,
            step=max(50, int(self._settle * 1000)),
            debounce=2000,
            rust_timeout=1000,
            yield_on_timeout=True,
        )
        async for changes in watching:
            if changes:
                yield frozenset(path for _, path in changes)
            if await asyncio.to_thread(self._have_moved, present, missing):
                return

    @staticmethod
    def _have_moved(present: Sequence[str], missing: Sequence[str]) -> bool:
        return any(map(os.path.exists, missing)) or not all(map(os.path.exists, present))


def _matters(change: watchfiles.Change, path: str) -> bool:
    """Tell whether a path can be a part of a profile. The links of a mounted ConfigMap begin with two dots."""
    del change
    name = Path(path).name
    return name.startswith("..") or not is_temporary(name)
