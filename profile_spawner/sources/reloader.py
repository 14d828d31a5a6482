"""Keeps the profiles of one hub up to date while it runs.

The next snapshot is made in a worker thread; the event loop only replaces one reference. At most one reload runs and
one waits. A broken source keeps its last good profiles, and its errors are reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from profile_spawner.errors import ProfileSpawnerError, ProfileWarning, without_warnings
from profile_spawner.metrics import hub_metrics
from profile_spawner.profiles.entry import Traits
from profile_spawner.profiles.registry import profile_registry
from profile_spawner.profiles.snapshot import Snapshot

from .changes import ProfileChange, describe_changes
from .importing import provide_configurator
from .reconcile import Reconciler, ReconcileResult
from .settings import SourceSettings, configured_sources
from .trial_client import TrialClient
from .watching import FileWatcher

__all__ = ["ProfileService", "ReloadReport"]

CHECK_INTERVAL = 300.0
"""After how many seconds all files are read again even if they seem unchanged."""


@dataclass(frozen=True)
class ReloadReport:
    """The result of one reload.

    Attributes:
        generation: The current generation.
        changes: The added, removed and changed profiles.
        problems: All current errors and warnings.
        loaded: The number of modules and documents that were loaded.
    """

    generation: int
    changes: Sequence[ProfileChange] = ()
    problems: Sequence[ProfileSpawnerError] = ()
    loaded: int = 0

    @property
    def successful(self) -> bool:
        """Whether there are no errors; warnings do not count."""
        return not without_warnings(self.problems)

    def __str__(self) -> str:
        return describe_changes(self.changes)


class ProfileService:
    """The profiles of one hub. All of its methods belong to one event loop.

    Args:
        settings: The settings of the sources.
        log: A logger.
        api_client: Creates the `kubernetes_asyncio.client.ApiClient` for watching ConfigMaps; by default it uses the
            pod's service account or the kubeconfig. The service does not close a client that this function creates.
        trial: Whether changed items are loaded in the trial worker first.
        settle: The minimum time since the last change of a file before it is read, in seconds.
        patience: How long one item may take in this process, in seconds; by default three times as long as in the
            trial, because the hub also does other things.
        traits: See `make_entry`.

    Raises:
        ProfileSpawnerError: If the settings are inconsistent.
    """

    def __init__(
        self,
        settings: SourceSettings,
        *,
        log: Any,
        api_client: Callable[[], Awaitable[Any]] | None = None,
        trial: bool = True,
        settle: float = 0.2,
        patience: float | None = None,
        traits: Traits | None = None,
    ) -> None:
        self.log = log
        self._watching: bool = settings.watch_profiles
        self._settle = settle
        if settings.configurator_compat:
            provide_configurator()
        self._sources = configured_sources(settings, settle)
        self.connect(api_client)
        compat = settings.configurator_compat
        client = TrialClient(settings.trial_timeout, settings.trial_memory, configurator=compat) if trial else None
        self._reconciler = Reconciler(settings, self._sources, client, settle, traits)
        self._patience = 3 * settings.trial_timeout if patience is None else patience
        self._snapshot = Snapshot()
        self._first: asyncio.Task[None] | None = None
        self._running: asyncio.Task[ReloadReport] | None = None
        self._waiting: _ReloadRequest | None = None
        self._last: ReloadReport | None = None
        self._loaded_at = 0.0
        self._files: FileWatcher | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = False

    # ---------------------------------------------------------------------------------------------- what is served

    def connect(self, api_client: Callable[[], Awaitable[Any]] | None) -> None:
        """Set what creates the API client, before the first load; see `__init__`."""
        for source in self._sources:
            source.connect(api_client, self.log)

    def trust_data(self) -> None:
        """Load documents without a trial worker, as commands do: their users can interrupt them."""
        self._reconciler.trial_of_data = False

    @property
    def has_sources(self) -> bool:
        """Whether a source is configured, or the configuration has registered profiles itself."""
        return bool(self._sources or profile_registry.collector.profiles)

    def kind_of(self, source: str) -> str:
        """Return the kind of a source by its name, as entries have it."""
        return next((one.kind for one in self._sources if one.name == source), source)

    @property
    def snapshot(self) -> Snapshot:
        """The profiles that are offered now; empty before the first load."""
        return self._snapshot

    @property
    def problems(self) -> Sequence[ProfileSpawnerError]:
        """The current errors and warnings of the sources, with file and line, for administrators."""
        return self._snapshot.problems

    async def ready(self) -> Snapshot:
        """Return the current snapshot, after the first load. Broken sources do not raise.

        If the first load fails with an unexpected error, the next call tries again.
        """
        if self._last is None:
            if self._first is None or self._first.done():
                self._first = asyncio.ensure_future(self._load_first())
            await asyncio.shield(self._first)
        return self._snapshot

    async def _load_first(self) -> None:
        await self._refresh()
        await self.reload("first load")

    async def _refresh(self) -> None:
        await asyncio.gather(*(source.refresh() for source in self._sources))

    # ---------------------------------------------------------------------------------------------- reloading

    async def reload(self, reason: str = "by hand", *, full: bool = True) -> ReloadReport:
        """Scan all sources and publish their profiles.

        All calls during a running reload share the next reload, which begins when the running one ends.

        Args:
            reason: The reason, for the log.
            full: Whether to read all files again, and to load broken sources again even if they seem unchanged.
        """
        if full and self._last is not None and not (self._started and self._watching):
            await self._refresh()
        if self._waiting is None:
            self._waiting = _ReloadRequest(reason, full)
            self._waiting.task = asyncio.ensure_future(self._run_next(self._waiting))
        else:
            self._waiting.join(reason, full)
        assert self._waiting.task is not None
        # If one caller is cancelled, the reload continues for the others.
        return await asyncio.shield(self._waiting.task)

    async def _run_next(self, request: _ReloadRequest) -> ReloadReport:
        if self._running is not None:
            await asyncio.wait([self._running])
        self._waiting, self._running = None, request.task
        start = time.monotonic()
        result = await self._reconcile(full=request.full)
        return self._swap(result, request.reason, time.monotonic() - start)

    async def _reconcile(self, *, full: bool) -> ReconcileResult:
        """Make the next snapshot in another thread. An item that does not come to an end there is refused.

        A thread cannot be ended from outside, so it is left alone, and the reload begins again in a new one.
        """
        while True:
            work = asyncio.ensure_future(_in_thread(partial(self._reconciler.safely, full=full)))
            while not work.done():
                await asyncio.wait([work], timeout=min(1.0, self._patience / 2))
                hanging = None if work.done() else self._reconciler.hangs(self._patience)
                if hanging is not None:
                    break
            else:
                return work.result()
            self.log.error("Profiles: %s", hanging.problem)
            self._reconciler = self._reconciler.without(hanging)
            _interrupt(hanging.thread)
            full = True

    def _swap(self, result: ReconcileResult, reason: str, seconds: float) -> ReloadReport:
        """Publish the new snapshot and notify the listeners."""
        before = {str(p) for p in self._snapshot.problems}
        self._snapshot = result.snapshot
        self._loaded_at = time.time()
        problems = result.snapshot.problems
        report = ReloadReport(result.snapshot.generation, result.changes, problems, result.loaded)
        self._last = report
        if self._reconciler.unsettled:
            pause = self._settle or 0.05
            self._timer = asyncio.get_running_loop().call_later(pause, self._in_background, "files changed")
        for problem in problems:
            if str(problem) not in before:
                level = logging.WARNING if isinstance(problem, ProfileWarning) else logging.ERROR
                self.log.log(level, "Profiles: %s", problem)
        if result.changes or (before and not problems):
            fine = "; all sources are fine again" if before and not problems else ""
            self.log.info("Profiles: generation %d (%s): %s%s", report.generation, reason, report, fine)
        hub_metrics().reloaded(
            successful=report.successful,
            timestamp=self._loaded_at,
            generation=report.generation,
            profiles=self._reconciler.profile_counts(),
            sources=self._reconciler.counts(),
            seconds=seconds,
        )
        hub_metrics().warned("sources", problems)
        for source in self._sources:
            self._spawn(source.report(self._reconciler.problems_of(source)))
        return report

    def _in_background(self, reason: str, full: bool = False) -> None:
        """Start a reload without waiting for it; used by watches and signals."""
        self._spawn(self.reload(reason, full=full))

    def _spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        async def run() -> None:
            try:
                await work
            except Exception:  # the watch must go on
                self.log.exception("Profiles: the reload failed; the last good ones stay")

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---------------------------------------------------------------------------------------------- watching

    async def start(self) -> None:
        """Load the profiles, then watch the sources, even if the first load fails."""
        try:
            await self.ready()
        except Exception:  # a page that needs the profiles gets the error
            self.log.exception("Profiles: the first load failed; it is tried again when a page needs them")
        if self._started:
            return
        self._started = True
        if not self._watching:
            return
        paths = self._watched()
        if paths:
            self._files = FileWatcher(self._watched, self._settle, self.log)
            self._files.start(lambda: self._in_background("files changed"))
            self._spawn(self._look_regularly())
        for source in self._sources:
            self._spawn(source.follow(self._in_background))

    def _watched(self) -> list[str]:
        return [path for source in self._sources for path in source.watched()]

    def handle_sighup(self) -> bool:
        """Install a SIGHUP handler that reloads the profiles; return whether this was possible.

        `start()` does not call this, because a process has only one handler per signal and the hub decides about it.
        """
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._in_background, "SIGHUP", True)
            return True
        return False

    async def _look_regularly(self) -> None:
        """Read everything again at regular intervals, to find missed changes and to retry broken sources."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            await self.reload("regular check")

    async def stop(self) -> None:
        """Stop watching. A thread that still loads something does not keep the process alive."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._files is not None:
            await self._files.stop()
            self._files = None
        for source in self._sources:
            await source.close()
        self._started = False


async def _in_thread(function: Callable[[], ReconcileResult]) -> ReconcileResult:
    """Call a function in a thread that does not keep the process alive; the threads of an executor do."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[ReconcileResult] = loop.create_future()

    def finish(value: ReconcileResult) -> None:
        if not result.done():
            result.set_result(value)

    def run() -> None:
        value = function()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, value)

    threading.Thread(target=run, name="profile-reload", daemon=True).start()
    return await result


def _interrupt(thread: int) -> None:
    """Raise an exception in a thread. It ends a loop of Python code, but no call that waits."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))


@dataclass
class _ReloadRequest:
    """A requested reload that has not begun."""

    reason: str
    full: bool
    task: asyncio.Task[ReloadReport] | None = None

    def join(self, reason: str, full: bool) -> None:
        """Add the reason of another caller."""
        if reason not in self.reason:
            self.reason += f", {reason}"
        self.full = self.full or full
