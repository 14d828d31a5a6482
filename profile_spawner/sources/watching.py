"""Detects changes of files with the kernel's notifications, or by polling every second where these do not work.

The watcher runs in its own thread with its own event loop, because starting to watch many folders is slow.
The kernel watches what a path meant when the watch began. When the path means another file or folder, because it was
replaced or a link on the way was, the watch begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import watchfiles

from .files import is_temporary

__all__ = ["FileWatcher"]


class FileWatcher:
    """Watches files and folders.

    Args:
        paths: Returns the paths to watch; folders include everything below them. The paths need not exist yet.
        settle: The time without changes before a change is reported, in seconds.
        log: A logger.
        poll: The polling interval where notifications do not work, in seconds.
    """

    def __init__(self, paths: Callable[[], Sequence[str]], settle: float, log: Any, *, poll: float = 1.0) -> None:
        self._paths = paths
        self._settle = settle
        self._log = log
        self._poll = poll
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

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
        thread, self._thread = self._thread, None
        if thread is None:
            return
        while thread.is_alive():
            if self._loop is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._task.cancel)
            await asyncio.to_thread(thread.join, 0.1)

    def _run(self, tell: Callable[[], None]) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.ensure_future(self._watch(tell))
            await asyncio.gather(self._task, return_exceptions=True)

        asyncio.run(main())

    async def _watch(self, tell: Callable[[], None]) -> None:
        while True:
            meant = self._meant()
            try:
                async with contextlib.aclosing(self._notified(meant)) as notified:
                    async for _ in notified:
                        tell()
            except (OSError, RuntimeError) as e:
                self._log.warning("Profiles: files cannot be watched (%s); looking every %g s instead", e, self._poll)
                await asyncio.sleep(self._poll)
            tell()  # something has come or gone

    def _meant(self) -> Mapping[str, tuple[int, int] | None]:
        """Return for every path the device and number of what stands there now; `None` where there is nothing."""
        return {path: _identity(path) for path in self._paths()}

    async def _notified(self, meant: Mapping[str, tuple[int, int] | None]) -> AsyncGenerator[None, None]:
        """Yield at every change, until a watched path comes, goes or means something else."""
        present = [path for path, identity in meant.items() if identity is not None]
        if not present:
            await asyncio.sleep(self._poll)
            return
        watching = watchfiles.awatch(
            *present,
            watch_filter=lambda change, path: path in meant or _matters(change, path),
            step=max(50, int(self._settle * 1000)),
            debounce=2000,
            rust_timeout=1000,
            yield_on_timeout=True,
        )
        following: asyncio.Future[Any] = asyncio.ensure_future(anext(watching))
        try:
            await asyncio.sleep(0)  # now the kernel watches
            yield
            while True:
                changes = await following
                following = asyncio.ensure_future(anext(watching))
                if changes:
                    yield
                # What is made anew where something was removed may get the same number.
                removed = any(kind is watchfiles.Change.deleted and path in meant for kind, path in changes)
                if removed or self._meant() != meant:
                    return
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await watching.aclose()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - many are looked at every second
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _matters(change: watchfiles.Change, path: str) -> bool:
    """Return whether a path can be a part of a profile. The links of a mounted ConfigMap begin with two dots."""
    del change
    name = Path(path).name
    return name.startswith("..") or not is_temporary(name)
