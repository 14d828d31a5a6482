"""The process in which modules are imported for the first time: `python -I -c ... profile_spawner.sources.trial`.

It is kept warm. For each request it forks a child with limits on time, memory and processes; whatever the child does to
itself, the hub goes on, and learns the line that did it. Requests come from the hub and are trusted (pickle); answers
come from code that is not yet trusted (JSON, one object a line).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import pickle
import resource
import select
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from profile_spawner.apps import BaseJupyterLabProfile
from profile_spawner.errors import ParamError, ProfileSpawnerError
from profile_spawner.profiles.registry import Collector, collecting, make_resolver

from .entries import EntryMaker
from .entry_points import load_entry_point
from .importing import Finder, FolderNamespace, ModuleFiles
from .pollution import Baseline, child_processes
from .python_dir import import_unit
from .python_files import find_module
from .trying import load_params
from .units import Loaded, Unit

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_dumps = json.dumps  # a module may replace it
_PREFIX = "_profile_spawner_g0_trial"
_MAX_ANSWER = 256 * 1024 * 1024
_FORBIDDEN = frozenset(
    {
        "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "pty.spawn",
        "os.kill", "os.killpg",
    }
)  # fmt: skip


def main() -> None:
    """Answer requests on standard input until it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    _warm_up()
    baseline = Baseline()
    gc.collect()
    gc.freeze()
    while (request := _read_frame(requests)) is not None:
        _try({**request, "baseline": baseline}, requests, answers)


def _warm_up() -> None:
    """Build a profile once, so that no child has to prepare what all of them need."""

    class Example(BaseJupyterLabProfile):
        slug = "example"
        display_name = "Example"
        image = "example"

    collector = Collector()
    collector.add(Example)
    with EntryMaker() as maker:
        maker.make(Loaded(Unit("example", "python", "", "", ""), collector), None)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _read_frame(fd: int) -> Any:
    header = _read_exactly(fd, 8)
    if header is None:
        return None
    body = _read_exactly(fd, struct.unpack(">Q", header)[0])
    return None if body is None else pickle.loads(body)  # noqa: S301 - from the hub itself


def _read_exactly(fd: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


# ------------------------------------------------------------------------------------------------ the parent's side


def _try(request: Mapping[str, Any], requests: int, answers: int) -> None:
    """Fork a child for one request, pass on what it says, and clean up after it."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as trace:
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.close(requests)
            os.close(answers)
            _child(request, writing, trace.fileno())
        os.close(writing)
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        ended = _pass_on(reading, answers, request["timeout"] + 1.0)
        os.close(reading)
        status, orphans = _end(child)
        trace.seek(0)
        text = trace.read(64 * 1024).decode("utf-8", "replace")
    how = "timeout" if not ended or "Timeout (" in text else "signal" if os.WIFSIGNALED(status) else "exit"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    _write(answers, {"end": how, "number": number, "trace": text, "orphans": orphans})


def _pass_on(reading: int, answers: int, timeout: float) -> bool:
    """Copy what the child writes; return whether it came to an end in time, each step counted by itself."""
    total = 0
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([reading], [], [], left)
        if not ready:
            return False
        data = os.read(reading, 1 << 16)
        if not data:
            return True
        total += len(data)
        if total > _MAX_ANSWER:
            return False
        deadline = time.monotonic() + timeout
        _write_all(answers, data)
    return False


def _end(child: int) -> tuple[int, int]:
    """Kill the child with everything that it has started; return its status, and how many processes it left."""
    with contextlib.suppress(OSError):
        found, status = os.waitpid(child, os.WNOHANG)
        if not found:
            # Its last words have been read, so it is at its end, or it hangs: a moment, then no mercy.
            time.sleep(0.001)
            found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    return status, _reap_orphans()


def _reap_orphans() -> int:
    """End what the child has left behind: it has become ours (see `PR_SET_CHILD_SUBREAPER`)."""
    deadline = time.monotonic() + 5
    seen: set[int] = set()
    while time.monotonic() < deadline:
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        seen.add(found)
        if not found:
            for orphan in child_processes():
                with contextlib.suppress(OSError):
                    os.kill(orphan, signal.SIGKILL)
            time.sleep(0.001)
    return len(seen - {0})


def _write(fd: int, answer: Mapping[str, Any]) -> None:
    _write_all(fd, _dumps(answer).encode() + b"\n")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# ------------------------------------------------------------------------------------------------ the child's side


def _child(request: Mapping[str, Any], answers: int, trace: int) -> None:
    """Import and build everything in the request, saying before each step which unit it concerns. Never returns."""
    os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _limit(request)
    sys.path[:] = request["sys_path"]
    faulthandler.enable(trace)
    # Modules are imported in a thread, as they are in the hub: what needs the main thread fails here already.
    worker = threading.Thread(target=_work, args=(request, answers, trace), name="trial")
    worker.start()
    worker.join()
    os._exit(0)


def _limit(request: Mapping[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    if os.geteuid() != 0:  # the limit does not hold for root
        with contextlib.suppress(OSError, ValueError):
            limit = _tasks_of_this_user() + 64
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def _tasks_of_this_user() -> int:
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.geteuid():
                count += sum(1 for _ in (folder / "task").iterdir())
    return count


def _audit(event: str, args: Any) -> None:
    del args
    if event in _FORBIDDEN:
        raise PermissionError(f"a profile's module must not start or end processes while it is loaded ({event})")


def _work(request: Mapping[str, Any], answers: int, trace: int) -> None:
    try:
        _Trial(request, answers, trace).run()
    except BaseException as e:  # noqa: BLE001 - nothing may be lost
        with contextlib.suppress(OSError):
            _write(answers, {"failed": f"{type(e).__name__}: {e}"})
    os._exit(0)


class _Trial:
    """One request in the child."""

    def __init__(self, request: Mapping[str, Any], answers: int, trace: int) -> None:
        self.units = request["units"]
        self.collectors = {u.short_name: Collector(u.source) for u in self.units}
        self._timeout = request["timeout"]
        self._check_every = request["check_every"]
        self._params = load_params(request["params"])
        self._folder: Path | None = request["folder"]
        self._stale = request["stale"]
        self._refused = request["refused"]
        self._configurator = request["configurator"]
        self._answers = answers
        self._trace = trace
        self._armed = 0.0
        self._baseline: Baseline = request["baseline"]
        self._resolver = make_resolver([self._params]) if self._params is not None else None

    def run(self) -> None:
        """Try one unit after the other."""
        self._make_importable()
        baseline = self._baseline
        baseline.begin()
        # From here on: it cannot be taken back.
        sys.addaudithook(_audit)
        later: list[tuple[int, Loaded]] = []
        unchecked: list[int] = []
        with EntryMaker() as maker:
            for index, unit in enumerate(self.units):
                with self._step(index):
                    loaded = self._load(unit)
                    if not self._build(index, loaded, maker, final=False):
                        later.append((index, loaded))
                    unchecked.append(index)
                if len(unchecked) >= self._check_every or index == len(self.units) - 1:
                    self._check(baseline, unchecked)
                    unchecked = []
            self._build_later(later, maker)
        if later:
            self._check(baseline, [index for index, _ in later])

    def _make_importable(self) -> None:
        if self._folder is None:
            return
        modules = {u.short_name: u.payload.files for u in self.units}
        finder = Finder(configurator=self._configurator)
        namespace = FolderNamespace(
            _PREFIX,
            self._folder,
            modules,
            {},
            self._enter,
            refused=self._refused,
            others=self._sibling,
            aliases=finder.aliases,
        )
        finder.install()
        finder.add(namespace)

    def _load(self, unit: Unit) -> Loaded:
        collector = self.collectors[unit.short_name]
        if self._folder is None:
            return load_entry_point(unit, collector)
        return import_unit(unit, f"{_PREFIX}.{unit.short_name}", collector)

    def _sibling(self, name: str) -> ModuleFiles | None:
        files: ModuleFiles | None = self._stale.get(name)
        return files or (find_module(self._folder, name) if self._folder is not None else None)

    def _enter(self, name: str) -> AbstractContextManager[Any]:
        return collecting(self.collectors.get(name) or Collector())

    @contextlib.contextmanager
    def _step(self, index: int) -> Iterator[None]:
        _write(self._answers, {"begin": index})
        # Setting the alarm starts a thread, so one alarm serves many quick modules.
        now = time.monotonic()
        if now - self._armed > self._timeout / 10:
            self._armed = now
            faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._trace)
        yield

    def _build(self, index: int, loaded: Loaded, maker: EntryMaker, *, final: bool) -> bool:
        """Try the profiles of a unit; return whether the answer has been given."""
        resolver = self._resolver
        own = loaded.collector
        if not final and (own.params or own.collections or any(p.params for p in _classes(own))):
            resolver = make_resolver([c for c in (self._params, own) if c is not None])
        entries, problems = maker.make(loaded, resolver)
        if not final and any(isinstance(p, ParamError) for p in problems):
            return False  # it may use a param that a module further down defines
        answer = {
            "done": index,
            "digests": {slug: entry.digest for slug, entry in entries.items()},
            "problems": [dump_problem(p) for p in (*loaded.problems, *problems)],
        }
        _write(self._answers, answer)
        return True

    def _build_later(self, later: list[tuple[int, Loaded]], maker: EntryMaker) -> None:
        if later:
            collectors = [*([self._params] if self._params is not None else []), *self.collectors.values()]
            self._resolver = make_resolver(collectors)
        for index, loaded in later:
            with self._step(index):
                self._build(index, loaded, maker, final=True)

    def _check(self, baseline: Baseline, units: list[int]) -> None:
        """Stop when a module has changed the process: what comes after could not be judged any more."""
        differences = baseline.differences()
        if differences:
            _write(self._answers, {"polluted": units, "how": differences[:5]})
            os._exit(0)
        _write(self._answers, {"checked": units})


def _classes(collector: Collector) -> list[Any]:
    return [p for p in collector.profiles.values() if isinstance(p, type)]


def dump_problem(problem: ProfileSpawnerError) -> dict[str, Any]:
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
