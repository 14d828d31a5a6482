"""Keeps the profiles of one hub up to date while it runs.

The next snapshot is built in a worker thread; the event loop only replaces one reference. At most one build runs and
one waits. A broken source keeps its last good profiles, and its errors are reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from profile_spawner.errors import ClusterError, Origin, ProfileSpawnerError, SourceError
from profile_spawner.kube import connection
from profile_spawner.kube.watching import ConfigMapWatch
from profile_spawner.metrics import hub_metrics
from profile_spawner.profiles.snapshot import Snapshot

from .building import Builder, Built
from .changes import Change, describe_changes
from .making import Made, make_sources
from .settings import SourceSettings
from .watching import FileWatcher

__all__ = ["ProfileService", "ReloadReport", "SourceSettings"]

_FIRST_LIST_SECONDS = 10.0


@dataclass(frozen=True)
class ReloadReport:
    """The result of one reload.

    Attributes:
        reason: The reason for the reload.
        generation: The current generation.
        changes: The added, removed and changed profiles.
        problems: All current errors; empty if all sources are valid.
        loaded: The number of modules and documents that were loaded.
        seconds: The duration, in seconds.
    """

    reason: str
    generation: int
    changes: Sequence[Change] = ()
    problems: Sequence[ProfileSpawnerError] = ()
    loaded: int = 0
    seconds: float = 0.0

    @property
    def successful(self) -> bool:
        """Whether there are no errors."""
        return not self.problems

    def __str__(self) -> str:
        return describe_changes(self.changes)


class ProfileService:
    """The profiles of one hub. All of its methods belong to one event loop.

    Args:
        settings: The settings of the sources.
        log: A logger.
        api_client: Creates the `kubernetes_asyncio.client.ApiClient` for watching ConfigMaps; by default it uses the
            pod's service account or the kubeconfig. The service does not close a client that this function creates.

    Raises:
        ProfileSpawnerError: If the settings are inconsistent.
    """

    def __init__(
        self, settings: SourceSettings, *, log: Any, api_client: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        self.settings = settings
        self.log = log
        self.api_client = api_client
        self._made: Made = make_sources(settings)
        self._builder = Builder(settings, self._made.sources)
        self._snapshot = Snapshot()
        self._pool: ThreadPoolExecutor | None = None
        self._first: asyncio.Task[None] | None = None
        self._running: asyncio.Task[ReloadReport] | None = None
        self._waiting: _Request | None = None
        self._last: ReloadReport | None = None
        self._loaded_at = 0.0
        self._files: FileWatcher | None = None
        self._maps: ConfigMapWatch | None = None
        self._own_client: Any = None
        self._told: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unavailable: Mapping[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = False

    # ---------------------------------------------------------------------------------------------- what is served

    @property
    def snapshot(self) -> Snapshot:
        """The profiles that are offered now; empty before the first load."""
        return self._snapshot

    @property
    def problems(self) -> Sequence[ProfileSpawnerError]:
        """The current errors of the sources, with file and line, for administrators."""
        return self._snapshot.problems

    def status(self) -> Mapping[str, Any]:
        """Return the state of the sources as plain data, for administrators.

        The keys: `generation`, `profiles` (how many), `sources` (how many are `good`, `stale` or `broken`), `problems`
        (texts), `last_reload` (seconds since 1970), `last_reload_successful`, `last_reload_seconds`, `watching`.
        """
        return {
            "generation": self._snapshot.generation,
            "profiles": len(self._snapshot),
            "sources": dict(self._builder.counts()),
            "problems": [str(p) for p in self.problems],
            "last_reload": self._loaded_at,
            "last_reload_successful": self._last is not None and self._last.successful,
            "last_reload_seconds": self._last.seconds if self._last is not None else 0.0,
            "watching": self._started and self.settings.watch,
        }

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
        await self._list_config_maps()
        await self.reload("first load")

    # ---------------------------------------------------------------------------------------------- reloading

    async def reload(self, reason: str = "by hand", *, hints: Iterable[str] | None = None) -> ReloadReport:
        """Scan all sources and publish their profiles.

        All calls during a running reload share the next reload, which begins when the running one ends.

        Args:
            reason: The reason, for the log.
            hints: The changed paths. If they are not known, all files are read again, and broken sources are loaded
                again even if they seem unchanged.
        """
        if hints is None and self._last is not None and not self._following():
            await self._list_config_maps()
        if self._waiting is None:
            self._waiting = _Request(reason, None if hints is None else frozenset(hints))
            self._waiting.task = asyncio.ensure_future(self._run_next(self._waiting))
        else:
            self._waiting.join(reason, hints)
        assert self._waiting.task is not None
        # If one caller is cancelled, the reload continues for the others.
        return await asyncio.shield(self._waiting.task)

    async def _run_next(self, request: _Request) -> ReloadReport:
        if self._running is not None:
            await asyncio.wait([self._running])
        self._waiting, self._running = None, request.task
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="profile-reload")
        start = time.monotonic()
        hand = request.hints is None
        built = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: self._builder.build(full=hand, retry=hand, hints=request.hints)
        )
        return self._swap(built, request.reason, time.monotonic() - start)

    def _swap(self, built: Built, reason: str, seconds: float) -> ReloadReport:
        """Publish the new snapshot and notify the listeners."""
        before = {str(p) for p in self._snapshot.problems}
        told, self._unavailable = self._unavailable, built.unavailable
        self._snapshot = built.snapshot
        self._loaded_at = time.time()
        problems = built.snapshot.problems
        report = ReloadReport(reason, built.snapshot.generation, built.changes, problems, built.loaded, seconds)
        self._last = report
        if self._builder.unsettled:
            pause = self.settings.settle or 0.05
            self._timer = asyncio.get_running_loop().call_later(pause, self._in_background, "files changed")
        for problem in problems:
            if str(problem) not in before:
                self.log.error("Profiles: %s", problem)
        for slug, why in built.unavailable.items():
            if told.get(slug) != why:
                self.log.error("Profiles: %s is not available: %s", slug, why)
        if built.changes or (before and not problems):
            fine = "; all sources are fine again" if before and not problems else ""
            self.log.info("Profiles: generation %d (%s): %s%s", report.generation, reason, report, fine)
        hub_metrics().reloaded(
            successful=report.successful,
            timestamp=self._loaded_at,
            generation=report.generation,
            profiles=self._builder.profile_counts(),
            sources=self._builder.counts(),
            seconds=seconds,
        )
        self._tell_config_maps()
        return report

    def _in_background(self, reason: str, hints: Iterable[str] | None = ()) -> None:
        """Start a reload without waiting for it; used by watches and signals."""
        self._spawn(self.reload(reason, hints=hints))

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
        except Exception:  # whoever asks for the profiles gets the error
            self.log.exception("Profiles: the first load failed; it is tried again when somebody asks for them")
        if self._started:
            return
        self._started = True
        if not self.settings.watch:
            return
        paths = self._watched()
        if paths:
            self._files = FileWatcher(self._watched, self.settings.settle, self.log)
            self._files.start(lambda changed: self._in_background("files changed", changed))
        if self._maps is not None:
            self._spawn(self._maps.follow(lambda key: self._maps_changed(), self._maps_failed))
        if paths and self.settings.rehash_interval:
            self._spawn(self._look_regularly())

    def _watched(self) -> list[str]:
        return [path for source in self._made.sources for path in source.watched()]

    def handle_sighup(self) -> bool:
        """Install a SIGHUP handler that reloads the profiles; return whether this was possible.

        `start()` does not call this, because a process has only one handler per signal and the hub decides about it.
        """
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._in_background, "SIGHUP", None)
            return True
        return False

    async def _look_regularly(self) -> None:
        """Read everything again at regular intervals, to find missed changes and to retry broken sources."""
        while True:
            await asyncio.sleep(self.settings.rehash_interval)
            await self.reload("regular check")

    async def stop(self) -> None:
        """Stop watching and stop the worker thread."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._files is not None:
            await self._files.stop()
            self._files = None
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(pool, self._made.close)
            pool.shutdown(wait=False)
        if self._own_client is not None:
            await connection.close(self._own_client)
            self._own_client = None
        self._started = False

    # ---------------------------------------------------------------------------------------------- ConfigMaps

    def _following(self) -> bool:
        return self._maps is None or (self._started and self.settings.watch)

    async def _list_config_maps(self) -> None:
        """Read the ConfigMaps once; an error becomes a problem of the source."""
        documents = self._made.config_maps
        if documents is None:
            return
        try:
            if self._maps is None:
                self._maps = await self._make_watch()
            await asyncio.wait_for(self._maps.list(), _FIRST_LIST_SECONDS)
        except asyncio.TimeoutError:
            documents.failure = _unreadable(documents.name, "the API server does not answer")
        except ClusterError as e:
            documents.failure = _unreadable(documents.name, str(e))
        else:
            documents.failure, documents.objects = None, self._maps.objects

    async def _make_watch(self) -> ConfigMapWatch:
        if self.api_client is not None:
            api_client = await self.api_client()
        else:
            api_client = self._own_client = await connection.default_api_client()
        namespace, selector = self.settings.config_map_namespace, self.settings.config_map_selector or ""
        return ConfigMapWatch(api_client, namespace, selector, log=self.log)

    def _maps_changed(self) -> None:
        assert self._made.config_maps is not None
        assert self._maps is not None
        self._made.config_maps.objects = self._maps.objects
        self._in_background("ConfigMap changed")

    def _maps_failed(self, error: ClusterError | None) -> None:
        documents = self._made.config_maps
        assert documents is not None
        documents.failure = None if error is None else _unreadable(documents.name, str(error))
        self._in_background("ConfigMaps cannot be watched" if error else "ConfigMaps can be watched again")

    def _tell_config_maps(self) -> None:
        """Create an Event on each ConfigMap whose content was refused or is valid again."""
        if self._maps is None:
            return
        for name, problems in self._builder.problems_by_unit("config_maps").items():
            text = "; ".join(str(p) for p in problems)
            if name and text != self._told.get(name, ""):
                self._told[name] = text
                reason = "ProfilesRejected" if text else "ProfilesLoaded"
                self._spawn(self._maps.tell(name, reason, text or "All profiles are fine again", warning=bool(text)))


def _unreadable(name: str, why: str) -> SourceError:
    return SourceError(
        f"the ConfigMaps cannot be read: {why}",
        origin=Origin(name),
        hint="The hub's service account needs the right to list and watch ConfigMaps there",
    )


@dataclass
class _Request:
    """A requested reload that has not begun."""

    reason: str
    hints: frozenset[str] | None
    task: asyncio.Task[ReloadReport] | None = None

    def join(self, reason: str, hints: Iterable[str] | None) -> None:
        """Add the reason and paths of another caller."""
        if reason not in self.reason:
            self.reason += f", {reason}"
        self.hints = None if hints is None or self.hints is None else self.hints | frozenset(hints)
