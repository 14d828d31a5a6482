"""Keeps the profiles of one hub up to date while it runs.

The next snapshot is built in a worker thread; the event loop only swaps one reference. At most one build runs and one
waits, however many changes come. Whatever is broken keeps its last good profiles, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .errors import ProfileSpawnerError
from .registry import Snapshot
from .sources.building import Builder, Built
from .sources.builtin import Builtin
from .sources.changes import Change, describe_changes
from .sources.data_policy import DataPolicy
from .sources.documents import Documents
from .sources.importing import Finder
from .sources.python_dir import PythonDirectory
from .sources.settings import SourceSettings
from .sources.trying import TrialProcess
from .sources.units import Source
from .sources.watching import FileWatcher

__all__ = ["ProfileService", "ReloadReport", "SourceSettings"]


@dataclass(frozen=True)
class ReloadReport:
    """What one reload did.

    Attributes:
        reason: Why it happened.
        generation: The generation that is served now.
        changes: The profiles that are new, gone or different.
        problems: Everything that is wrong now; empty when all sources are fine.
        loaded: How many modules and documents were loaded.
        seconds: How long it took.
    """

    reason: str
    generation: int
    changes: Sequence[Change] = ()
    problems: Sequence[ProfileSpawnerError] = ()
    loaded: int = 0
    seconds: float = 0.0

    @property
    def successful(self) -> bool:
        """Whether everything could be loaded."""
        return not self.problems

    def __str__(self) -> str:
        return describe_changes(self.changes)


class ProfileService:
    """The profiles of one hub.

    Args:
        settings: Where profiles come from.
        log: A logger.
    """

    def __init__(self, settings: SourceSettings, *, log: Any) -> None:
        self.settings = settings
        self.log = log
        self._finder = Finder()
        self._trial = TrialProcess(settings.trial_timeout, settings.trial_memory) if settings.trial else None
        self._sources = self._make_sources()
        self._builder = Builder(settings, self._sources)
        self._snapshot = Snapshot()
        self._pool: ThreadPoolExecutor | None = None
        self._running: asyncio.Task[ReloadReport] | None = None
        self._waiting: _Request | None = None
        self._last: ReloadReport | None = None
        self._loaded_at = 0.0
        self._watcher: FileWatcher | None = None
        self._later: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()

    def _make_sources(self) -> list[Source]:
        sources: list[Source] = []
        if self.settings.builtin_profiles:
            sources.append(Builtin(self.settings.builtin_profiles))
        policy = DataPolicy.of(self.settings.data_policy, "documents")
        sources.extend(
            PythonDirectory(d, self._finder, self._trial, settle=self.settings.settle)
            for d in self.settings.profiles_dirs
        )
        sources.extend(Documents(path, policy, settle=self.settings.settle) for path in self.settings.profile_documents)
        return sources

    # ---------------------------------------------------------------------------------------------- what is served

    @property
    def snapshot(self) -> Snapshot:
        """The profiles that are offered now; empty before the first load."""
        return self._snapshot

    @property
    def problems(self) -> Sequence[ProfileSpawnerError]:
        """What is wrong with the sources now, with file and line, for administrators."""
        return self._snapshot.problems

    def status(self) -> Mapping[str, Any]:
        """Return the state of the sources as plain data, for administrators."""
        return {
            "generation": self._snapshot.generation,
            "profiles": len(self._snapshot),
            "sources": dict(self._builder.counts()),
            "problems": [str(p) for p in self.problems],
            "last_reload": self._loaded_at,
            "last_reload_successful": self._last is not None and self._last.successful,
        }

    async def ready(self) -> Snapshot:
        """Return the current snapshot, after the first load. Broken sources do not raise."""
        if self._last is None:
            await self.reload("first load")
        return self._snapshot

    # ---------------------------------------------------------------------------------------------- reloading

    async def reload(self, reason: str = "by hand", *, hints: Iterable[str] | None = None) -> ReloadReport:
        """Look at all sources and serve what they hold now.

        Calls that come while a reload is running share the next one.

        Args:
            reason: Why, for the log.
            hints: The paths that have changed, when they are known.
        """
        if self._waiting is None:
            self._waiting = _Request(reason, None if hints is None else frozenset(hints))
            self._waiting.task = asyncio.ensure_future(self._run_next(self._waiting))
        else:
            self._waiting.join(reason, hints)
        assert self._waiting.task is not None
        # A caller that gives up does not take the reload away from the others.
        return await asyncio.shield(self._waiting.task)

    async def _run_next(self, request: _Request) -> ReloadReport:
        if self._running is not None:
            await asyncio.wait([self._running])
        self._waiting, self._running = None, request.task
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="profile-reload")
        loop = asyncio.get_running_loop()
        start = time.monotonic()
        hand = request.hints is None
        built = await loop.run_in_executor(
            self._pool, lambda: self._builder.build(full=hand, retry=hand, hints=request.hints)
        )
        return self._swap(built, request.reason, time.monotonic() - start)

    def _swap(self, built: Built, reason: str, seconds: float) -> ReloadReport:
        before = {str(p) for p in self._snapshot.problems}
        self._snapshot = built.snapshot
        self._loaded_at = time.time()
        problems = built.snapshot.problems
        report = ReloadReport(reason, built.snapshot.generation, built.changes, problems, built.loaded, seconds)
        self._last = report
        if self._builder.unsettled:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(self.settings.settle or 0.05, self._in_background, "files changed")
        for problem in problems:
            if str(problem) not in before:
                self.log.error("Profiles: %s", problem)
        if built.changes or (before and not problems):
            fine = "" if problems or not before else "; all sources are fine again"
            self.log.info("Profiles: generation %d (%s): %s%s", report.generation, reason, report, fine)
        return report

    def _in_background(self, reason: str, hints: Iterable[str] | None = ()) -> None:
        """Reload without anybody waiting for it; used by watches and signals."""

        async def reload() -> None:
            try:
                await self.reload(reason, hints=hints)
            except Exception:  # the watch must go on
                self.log.exception("Profiles: the reload failed; the last good ones stay")

        task = asyncio.ensure_future(reload())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def start(self) -> None:
        """Watch the sources from now on."""
        await self.ready()
        paths = [path for source in self._sources for path in source.watched()]
        if self.settings.watch and paths and self._watcher is None:
            self._watcher = FileWatcher(paths, self.settings.settle, self.log)
            self._watcher.start(lambda changed: self._in_background("files changed", changed))

    async def stop(self) -> None:
        """Stop watching, and end the worker."""
        if self._later is not None:
            self._later.cancel()
        if self._watcher is not None:
            await self._watcher.stop()
            self._watcher = None
        pool, self._pool = self._pool, None
        if pool is not None:
            if self._trial is not None:
                await asyncio.get_running_loop().run_in_executor(pool, self._trial.close)
            pool.shutdown(wait=False)
        self._finder.uninstall()


@dataclass
class _Request:
    """A reload that has not begun."""

    reason: str
    hints: frozenset[str] | None
    task: asyncio.Task[ReloadReport] | None = None

    def join(self, reason: str, hints: Iterable[str] | None) -> None:
        if reason not in self.reason:
            self.reason += f", {reason}"
        self.hints = None if hints is None or self.hints is None else self.hints | frozenset(hints)
