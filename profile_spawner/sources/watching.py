"""Detects changes of files with the kernel's notifications, or by looking every second where these do not work.

The watcher runs in its own thread, because starting to watch many folders is slow. The kernel watches what a path meant
when the watch began. When the path means another file or folder, because it was replaced or a link on the way was, the
watch begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import watchfiles

from .files import is_temporary

__all__ = ["FileWatcher"]

POLL_INTERVAL = 1.0
"""After how many seconds it is checked again what the paths mean."""


class FileWatcher:
    """Watches files and folders.

    Args:
        paths: Returns the paths to watch; folders include everything below them. The paths need not exist yet.
        settle: The time without changes before a change is reported, in seconds.
        log: A logger.
    """

    def __init__(self, paths: Callable[[], Sequence[str]], settle: float, log: Any) -> None:
        self._paths = paths
        self._settle = settle
        self._log = log
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, changed: Callable[[], Any]) -> None:
        """Begin; `changed` is called in the running event loop when something may have changed.

        It is also called when the watch has begun, so that nothing before it is missed.
        """
        home = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the hub's loop has ended
                home.call_soon_threadsafe(changed)

        self._thread = threading.Thread(target=self._run, args=(tell,), name="profile-watch", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End, and wait for the end."""
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, tell: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            meant = {path: _identity(path) for path in self._paths()}
            try:
                self._watch(meant, tell)
            except (OSError, RuntimeError) as e:
                self._log.warning("Profiles: files cannot be watched (%s); they are read every %g s", e, POLL_INTERVAL)
                self._stopped.wait(POLL_INTERVAL)
            tell()  # something has come or gone

    def _watch(self, meant: Mapping[str, tuple[int, int] | None], tell: Callable[[], None]) -> None:
        """Report what changes, until a watched path comes, goes or means something else."""
        present = [path for path, identity in meant.items() if identity is not None]
        if not present:
            self._stopped.wait(POLL_INTERVAL)
            return
        begun = False
        for changes in watchfiles.watch(
            *present,
            watch_filter=lambda change, path: path in meant or _matters(path),
            step=max(50, int(self._settle * 1000)),
            debounce=2000,
            rust_timeout=int(POLL_INTERVAL * 1000),
            yield_on_timeout=True,
            stop_event=self._stopped,
            raise_interrupt=False,
        ):
            if changes or not begun:
                tell()
            begun = True
            # A new file in the place of a removed one may get the same number.
            removed = any(kind is watchfiles.Change.deleted and path in meant for kind, path in changes)
            if removed or {path: _identity(path) for path in self._paths()} != meant:
                return


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - many are looked at every second
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _matters(path: str) -> bool:
    """Return whether a path can be a part of a profile. The links of a mounted ConfigMap begin with two dots."""
    name = Path(path).name
    return name.startswith("..") or not is_temporary(name)
