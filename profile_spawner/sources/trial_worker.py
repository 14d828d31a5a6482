"""The trial worker: the process in which changed modules are imported before the hub imports them.

The trial client starts one worker per reload that has something to try, and another one when a module ends it. The
request comes from the hub on standard input and is trusted (pickle). Answers go through a pipe of their own, one JSON
object per line, each with the nonce of the request:

    {"begin": 3}                        the unit with this index is in progress
    {"done": 3, "problems": [...]}      it was tried, and this is wrong with it
    {"end": "exit", "number": 0}        the worker has ended; "signal" when it was killed

Modules are imported in a child of the worker's first process. So `os.getppid()` is not the hub, and what the child
leaves behind is ended by its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import json
import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

from profile_spawner.errors import BuildError, Origin, ParamError, ProfileSpawnerError, SourceError
from profile_spawner.params.definition import Param
from profile_spawner.params.layers import Collection
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.profile_params import make_resolver
from profile_spawner.profiles.registry import Collector, collecting

from .entries import EntryMaker
from .entry_points import load_entry_point
from .import_side_effects import Baseline, child_processes
from .importing import Finder, FolderNamespace, ModuleFiles
from .python_dir import import_unit
from .python_files import find_module
from .units import Loaded, Unit

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PREFIX = "_profile_spawner_g0_trial"
_FIRST_CHANNEL = 200
_MORE_PROCESSES = 64
_EXAMPLE_USER = UserInfo("example")

Tell = Callable[..., None]


def main() -> None:
    """Try what the request on standard input asks for."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    request = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the hub itself
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    tell = _channel(request.pop("channel"), request.pop("nonce"))
    child = os.fork()
    if child:
        _supervise(child, tell)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    trace = _move_high(request["trace"])
    _limit(request["memory"])
    faulthandler.enable(trace)
    # Modules are imported in a thread, as in the hub: what needs the main thread fails here already.
    worker = threading.Thread(target=_work, args=(request, trace, tell), name="trial")
    worker.start()
    worker.join()
    os._exit(0)


def _channel(fd: int, nonce: str) -> Tell:
    """Return the function that writes one answer."""
    fd = _move_high(fd)
    dumps, write = json.dumps, os.write  # a module may replace them

    def tell(**answer: Any) -> None:
        left = memoryview(dumps({**answer, "nonce": nonce}).encode() + b"\n")
        while left:
            left = left[write(fd, left) :]

    return tell


def _move_high(fd: int) -> int:
    """Return a copy of a file descriptor that programs do not inherit and that nobody finds by counting."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_CHANNEL)
    os.close(fd)
    return high


def _supervise(child: int, tell: Tell) -> NoReturn:
    """Wait for the child, end what it leaves behind, and report how it ended."""
    _, status = os.waitpid(child, 0)
    while children := child_processes():
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        tell(end="signal", number=os.WTERMSIG(status))
    else:
        tell(end="exit", number=os.WEXITSTATUS(status))
    os._exit(0)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    if os.geteuid() != 0:  # the limit does not hold for root
        with contextlib.suppress(OSError, ValueError):
            limit = _tasks_of_this_user() + _MORE_PROCESSES
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def _tasks_of_this_user() -> int:
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.geteuid():
                count += sum(1 for _ in (folder / "task").iterdir())
    return count


def _work(request: Mapping[str, Any], trace: int, tell: Tell) -> None:
    _Trial(request, trace, tell).run()
    os._exit(0)


class _Trial:
    """One request."""

    def __init__(self, request: Mapping[str, Any], trace: int, tell: Tell) -> None:
        self._units: list[Unit] = request["units"]
        self._folder: Path | None = request["folder"]
        self._stale: Mapping[str, ModuleFiles] = request["stale"]
        self._timeout: float = request["timeout"]
        self._trace = trace
        self._tell = tell
        self._current = 0
        self._collectors = {u.short_name: Collector(u.source) for u in self._units}
        self._params = Collector("params")
        for param in (request["params"] or {}).get("params", ()):
            self._params.add_param(Param(**param))
        for collection in (request["params"] or {}).get("collections", ()):
            self._params.add_collection(Collection(**collection))
        if self._folder is not None:
            finder = Finder(configurator=request["configurator"])
            namespace = FolderNamespace(
                _PREFIX,
                self._folder,
                {u.short_name: u.payload.files for u in self._units},
                {},
                self._enter,
                refused=request["refused"],
                others=self._sibling,
                aliases=finder.aliases,
            )
            finder.install()
            finder.add(namespace)

    def run(self) -> None:
        """Try one unit after the other; those that use params of later units are built at the end."""
        baseline = Baseline()
        os.register_at_fork(before=self._forks)
        later: list[tuple[int, Loaded]] = []
        with EntryMaker() as maker:
            for index, unit in enumerate(self._units):
                self._begin(index)
                loaded = self._load(unit)
                own = loaded.collector
                problems = [*loaded.problems, *self._build(loaded, maker, [self._params, own])]
                self._compare(baseline, unit)
                if any(isinstance(p, ParamError) for p in problems):
                    later.append((index, loaded))
                else:
                    self._done(index, problems)
            for index, loaded in later:
                self._begin(index)
                collectors = [self._params, *self._collectors.values()]
                problems = [*loaded.problems, *self._build(loaded, maker, collectors)]
                self._compare(baseline, loaded.unit)
                self._done(index, problems)

    def _load(self, unit: Unit) -> Loaded:
        collector = self._collectors[unit.short_name]
        if self._folder is None:
            return load_entry_point(unit, collector)
        return import_unit(unit, f"{_PREFIX}.{unit.short_name}", collector)

    def _build(self, loaded: Loaded, maker: EntryMaker, collectors: list[Collector]) -> list[ProfileSpawnerError]:
        needed = any(c.params or c.collections or any(p.get("params") for p in c.profiles.values()) for c in collectors)
        entries, problems = maker.make(loaded, make_resolver(collectors) if needed else None)
        for entry in entries.values():
            try:
                entry.offer.access.allows(_EXAMPLE_USER)
            except BaseException as e:  # noqa: BLE001 - an author's rule may raise anything, SystemExit included
                text = f"the access rule raises {type(e).__name__}"
                problems.append(BuildError(text, profile=entry.slug, origin=entry.origin))
        return problems

    def _sibling(self, name: str) -> ModuleFiles | None:
        return self._stale.get(name) or (find_module(self._folder, name) if self._folder is not None else None)

    def _enter(self, name: str) -> AbstractContextManager[Any]:
        return collecting(self._collectors.get(name) or Collector())

    def _begin(self, index: int) -> None:
        self._current = index
        self._tell(begin=index)
        faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._trace)

    def _done(self, index: int, problems: list[ProfileSpawnerError]) -> None:
        self._tell(done=index, problems=[_plain(p) for p in problems])

    def _compare(self, baseline: Baseline, unit: Unit) -> None:
        """End the worker when a module has changed the process: the next ones could not be judged in it."""
        author = _PREFIX if self._folder is not None else str(unit.payload).partition(":")[0].partition(".")[0]
        differences = baseline.differences(author)
        if differences:
            self._refuse("; ".join(differences[:5]), 0)

    def _forks(self) -> None:
        """Called before a fork."""
        own = self._units[self._current].name
        lines = [f.lineno for f in traceback.extract_stack() if f.filename == own or f.filename.startswith(f"{own}/")]
        self._refuse("starts processes", (lines[-1] if lines else 0) or 0)

    def _refuse(self, what: str, line: int) -> NoReturn:
        problem = SourceError(
            f"the module {what} while it is loaded",
            origin=Origin(self._units[self._current].name, line),
            hint="A profile's module must leave the rest of the hub as it is",
        )
        self._done(self._current, [problem])
        os._exit(0)


def _plain(problem: ProfileSpawnerError) -> dict[str, Any]:
    """Return an error as plain data."""
    return {
        "type": type(problem).__name__,
        "message": problem.message[:4000],
        "profile": problem.profile,
        "origin": [problem.origin.source, problem.origin.line] if problem.origin else None,
        "field": problem.field,
        "value": None if problem.value is None else str(problem.value)[:200],
        "expected": problem.expected,
        "hint": problem.hint,
    }
