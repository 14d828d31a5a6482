"""The trial worker: the process in which changed items are loaded before the hub loads them.

The trial client starts one worker per reload that has something to try, and another one when an item ends it. The
request comes from the hub on standard input and is trusted (pickle). Answers go through a pipe of their own, one JSON
object per line, each with the nonce of the request:

    {"begin": 3}                        the item with this index is in progress
    {"done": 3, "problems": [...]}      it was tried, and this is wrong with it
    {"end": "exit", "number": 0}        the worker has ended; "signal" when it was killed

Items are loaded in a child of the worker's first process. So `os.getppid()` is not the hub, and what the child leaves
behind is ended by its parent.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from profile_spawner.errors import BuildError, Origin, ParamError, ProfileSpawnerError, SourceError, described
from profile_spawner.params.definition import Param
from profile_spawner.params.layers import Collection
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.profile_params import make_resolver
from profile_spawner.profiles.registry import Collector

from .import_side_effects import Baseline, child_processes, import_libraries, line_with
from .importing import provide_configurator
from .loading import EntryMaker
from .source_items import LoadedItem, LoadSession, Source, SourceItem

__all__ = ["TrialRequest", "main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FIRST_CHANNEL = 200

Tell = Callable[..., None]


@dataclass(frozen=True)
class TrialRequest:
    """What a worker is started for.

    Attributes:
        batches: The items to try, by source.
        accepted: Items that were accepted before and that these items may use, by source.
        slugs: The keys of accepted items that register these profiles.
        refused: Items that were refused in this trial, with the reasons.
        params: Params of other items, as plain data.
        collections: Collections of params of other items, as plain data.
        timeout: How long one item may take, in seconds.
        memory: How much memory the worker may use in addition to what it has at its start, in bytes.
        configurator: Whether modules find the package `configurator`.
        nonce: The secret of the channel.
        channel: The file descriptor for the answers.
        trace: The file descriptor for tracebacks of a worker that is killed.
    """

    batches: Sequence[tuple[Source, Sequence[SourceItem]]]
    accepted: Sequence[tuple[Source, Sequence[SourceItem]]]
    slugs: Mapping[str, str]
    refused: Sequence[tuple[SourceItem, str]]
    params: Sequence[Mapping[str, Any]]
    collections: Sequence[Mapping[str, Any]]
    timeout: float
    memory: int
    configurator: bool
    nonce: str = ""
    channel: int = -1
    trace: int = -1


def main() -> None:
    """Try what the request on standard input asks for."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    request: TrialRequest = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the hub itself
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    tell = _channel(request.channel, request.nonce)
    request = replace(request, nonce="")
    child = os.fork()
    if child:
        _supervise(child, tell)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    trace = _move_high(request.trace)
    _limit(request.memory)
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
    """Return a copy of a file descriptor that programs do not inherit, high enough not to be found by counting."""
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


def _work(request: TrialRequest, trace: int, tell: Tell) -> None:
    _Trial(request, trace, tell).run()
    os._exit(0)


class _Trial:
    """One request."""

    def __init__(self, request: TrialRequest, trace: int, tell: Tell) -> None:
        self._items = [item for _, items in request.batches for item in items]
        self._code = [source.code(item) for source, items in request.batches for item in items]
        self._data = {item.key for source, items in request.batches if not source.runs_code for item in items}
        self._indexes = {item.key: index for index, item in enumerate(self._items)}
        self._timeout = request.timeout
        self._trace = trace
        self._tell = tell
        self._current = 0
        self._ends = 0.0
        self._params = Collector("params")
        for param in request.params:
            self._params.add_param(Param(**param))
        for collection in request.collections:
            self._params.add_collection(Collection(**collection))
        if request.configurator:
            provide_configurator()
        self._session = LoadSession({}, request.refused, request.slugs, self._loading)
        accepted = {source.name: items for source, items in request.accepted}
        for source, items in request.batches:
            self._session.add(source, [*items, *accepted.pop(source.name, ())])
        for source, items in request.accepted:
            if source.name in accepted:
                self._session.add(source, items)

    def run(self) -> None:
        """Try one item after the other; those that use params of later items are built again at the end."""
        import_libraries(text for files in self._code for text in files.values())
        baseline = Baseline()
        os.register_at_fork(before=self._forks)
        later: list[int] = []
        with EntryMaker() as maker:
            for index, item in enumerate(self._items):
                self._begin(index)
                try:
                    loaded = self._session.load(item.key)
                    assert loaded is not None
                    problems = self._build(loaded, maker, [self._params, loaded.collector])
                except MemoryError:
                    self._done(index, [SourceError("it needs too much memory", origin=Origin(item.name))])
                    continue
                self._compare(baseline, item)
                if any(isinstance(p, ParamError) for p in problems):
                    later.append(index)
                else:
                    self._done(index, self._relevant(index, loaded, problems))
            everything = [self._params, *(loaded.collector for loaded in self._session.loaded.values())]
            for index in later:
                self._begin(index)
                loaded = self._session.loaded[self._items[index].key]
                self._build(loaded, maker, everything)
                self._compare(baseline, loaded.item)
                # The hub builds it as well, and knows whether a param of a document is to blame for what fails.
                self._done(index, self._relevant(index, loaded, ()))

    def _relevant(
        self, index: int, loaded: LoadedItem, problems: Sequence[ProfileSpawnerError]
    ) -> list[ProfileSpawnerError]:
        """Return the errors for which the hub must not load an item.

        The hub loads data itself, whatever is wrong with it, and it knows whether a param is missing.
        """
        if self._items[index].key in self._data:
            return []
        return [*loaded.problems, *(p for p in problems if not isinstance(p, ParamError))]

    def _build(
        self, loaded: LoadedItem, maker: EntryMaker, collectors: Sequence[Collector]
    ) -> list[ProfileSpawnerError]:
        """Build each profile of an item once for example facts, and ask its access rule."""
        needed = any(c.params or c.collections or any(p.get("params") for p in c.profiles.values()) for c in collectors)
        try:
            entries, problems = maker.make(loaded, make_resolver(collectors) if needed else None)
        except MemoryError:
            raise
        except BaseException as e:  # noqa: BLE001 - an author's value may raise anything
            return [BuildError(described(e), origin=Origin(loaded.item.name))]
        return [*problems, *filter(None, map(_access_problem, entries.values()))]

    def _begin(self, index: int, seconds: float | None = None) -> None:
        seconds = self._timeout if seconds is None else seconds
        self._current, self._ends = index, monotonic() + seconds
        self._tell(begin=index)
        faulthandler.dump_traceback_later(max(seconds, 0.001), exit=True, file=self._trace)

    @contextlib.contextmanager
    def _loading(self, item: SourceItem) -> Iterator[None]:
        """Let an item that another one loads use its own time."""
        outer, index = self._current, self._indexes.get(item.key, self._current)
        if index == outer:
            yield
            return
        left = self._ends - monotonic()
        self._begin(index)
        try:
            yield
        except MemoryError:
            self._done(index, [SourceError("it needs too much memory", origin=Origin(item.name))])
            os._exit(0)
        self._begin(outer, left)

    def _done(self, index: int, problems: list[ProfileSpawnerError]) -> None:
        self._tell(done=index, problems=[_as_json(p) for p in problems])

    def _compare(self, baseline: Baseline, item: SourceItem) -> None:
        """End the worker when a module has changed the process: the next ones could not be judged in it."""
        loaded = self._session.loaded[item.key]
        package = item.payload.partition(":")[0].partition(".")[0] if isinstance(item.payload, str) else ""
        author = loaded.keep.package if loaded.keep else package
        differences = baseline.differences(author)
        if differences:
            file, line = line_with(differences[0][1], self._code[self._items.index(item)])
            self._refuse("; ".join(what for what, _ in differences[:5]), line, file)

    def _forks(self) -> None:
        """Called before a fork."""
        own = self._items[self._current].name
        lines = [f.lineno for f in traceback.extract_stack() if f.filename == own or f.filename.startswith(f"{own}/")]
        self._refuse("starts processes", (lines[-1] if lines else 0) or 0)

    def _refuse(self, what: str, line: int, file: str = "") -> NoReturn:
        problem = SourceError(
            f"the module {what} while it is loaded",
            origin=Origin(file or self._items[self._current].name, line),
            hint="A profile's module must leave the rest of the hub as it is",
        )
        self._done(self._current, [problem])
        os._exit(0)


def _access_problem(entry: Entry) -> ProfileSpawnerError | None:
    """Ask the access rules of a profile and its options once; return an error when one raises no mere `Exception`."""
    rules = [entry.offer.access, *(rule for option in entry.offer.options for rule in option.accesses())]
    for access in rules:
        try:
            access.ask(UserInfo(next(iter(access.users or ()), "example"), access.groups or frozenset()))
        except Exception:  # noqa: BLE001, S112 - it may know no example user; access is then denied
            continue
        except BaseException as e:  # noqa: BLE001 - an author's rule may raise anything, SystemExit included
            text = f"the access rule raises {type(e).__name__}"
            return BuildError(text, profile=entry.slug, origin=entry.origin)
    return None


def _as_json(problem: ProfileSpawnerError) -> dict[str, Any]:
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
