"""The trial client: lets a separate process load changed items before the hub loads them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profile_spawner import errors
from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.params.definition import thaw

from .loading import params_of, reasons
from .source_items import LoadedItem, Source, SourceItem
from .trial_worker import TrialRequest

__all__ = ["TrialClient"]

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from profile_spawner.sources.trial_worker import main; main()"
)
_START_SECONDS = 60.0
_SPARE_SECONDS = 2.0
"""How much longer than one item may take the client waits for a worker that should have ended itself."""
_SLOW_ITEMS = 6
"""How many documents that took too long before are tried again in one trial."""
_MAX_LINE = 16 * 1024 * 1024


Batches = Sequence[tuple[Source, Sequence[SourceItem]]]
Problems = dict[str, list[ProfileSpawnerError]]


class TrialClient:
    """Starts trial workers. Used from one thread at a time.

    Args:
        timeout: How long one item may take, in seconds.
        memory: How much memory a worker may use in addition to what it has at its start, in bytes.
        configurator: Whether modules find the package `configurator`.
    """

    def __init__(self, timeout: float, memory: int, *, configurator: bool = False) -> None:
        self._timeout = timeout
        self._memory = memory
        self._configurator = configurator
        self._slow: dict[str, tuple[str, SourceError]] = {}

    def run(self, batches: Batches, sources: Sequence[Source], current: Mapping[str, LoadedItem]) -> Problems:
        """Load all items in a worker, and build their profiles once.

        An item that ends the worker, takes too long, or changes its process, is refused; the others go on in a new
        worker. Code is tried before data, and documents that took too long the last time come last.

        Args:
            batches: The items, by source.
            sources: All sources.
            current: What is loaded, by key; the items may use it.

        Returns:
            The errors by the item's key; an empty list for valid items.
        """
        batches, again = self._in_order(batches)
        items = [item for _, batch in batches for item in batch]
        keys = {item.key for item in items}
        others = {key: loaded for key, loaded in current.items() if key not in keys}
        params = params_of(others.values())
        result: Problems = {item.key: [self._slow[item.key][1]] for item in again[_SLOW_ITEMS:]}
        while left := [item for item in items if item.key not in result]:
            tried = {item.key for item in left}
            good = [item for item in items if result.get(item.key) == []]
            accepted = _by_source(sources, [*(one.item for one in others.values() if not one.problems), *good])
            data = {item.key for source, batch in accepted if not source.runs_code for item in batch}
            request = TrialRequest(
                [(source, [item for item in batch if item.key in tried]) for source, batch in batches],
                accepted,
                {slug: key for key, loaded in others.items() if key in data for slug in loaded.collector.profiles},
                reasons(others, [(item, result.get(item.key, ())) for item in items]),
                [_as_json(param) for param in params.params.values()],
                [_as_json(collection) for collection in params.collections.values()],
                self._timeout,
                self._memory,
                self._configurator,
            )
            found = self._try(left, request, set(result))
            if found is None:
                found = self._each_alone(left, request, set(result))
            result.update(found)
        return result

    def _in_order(self, batches: Batches) -> tuple[Batches, Sequence[SourceItem]]:
        """Return the batches in the order of the trial, and the documents that took too long and have not changed."""
        code = [(source, items) for source, items in batches if source.runs_code]
        data = [(source, items) for source, items in batches if not source.runs_code]
        again = {
            item.key: item
            for _, items in data
            for item in items
            if item.key in self._slow and self._slow[item.key][0] == item.digest
        }
        quick = [(source, [item for item in items if item.key not in again]) for source, items in data]
        slow = [(source, [item for item in items if item.key in again]) for source, items in data]
        return [batch for batch in (*code, *quick, *slow) if batch[1]], list(again.values())

    def _each_alone(self, items: Sequence[SourceItem], request: TrialRequest, done: set[str]) -> Problems:
        """Return the first item that makes a worker of its own disappear; nothing when none does so again."""
        for item in items:
            alone = [(source, [i for i in batch if i is item]) for source, batch in request.batches]
            if self._try([item], dataclasses.replace(request, batches=alone), done) is None:
                text = "the trial worker was killed while this was loaded (SIGKILL)"
                return {item.key: [SourceError(text, origin=Origin(item.name), hint="Look for os.kill, and at memory")]}
        return {}

    def _try(self, items: Sequence[SourceItem], request: TrialRequest, done: set[str]) -> Problems | None:
        """Start one worker; return what it said, about at least one item.

        Returns:
            `None` when the worker ended and its parent process reported nothing. A module that kills the parent
            process can still report success, so no answer of such a worker counts.
        """
        result: Problems = {}
        current = items[0]
        end: Mapping[str, Any] = {"end": "exit", "number": 0}
        with tempfile.TemporaryFile() as trace:
            try:
                for answer in self._answers(request, trace.fileno()):
                    if "begin" in answer:
                        current = items[answer["begin"]]
                    elif "done" in answer:
                        result[items[answer["done"]].key] = [_problem(p) for p in answer["problems"]]
                    else:
                        end = answer
            except (OSError, ValueError) as e:
                end = {"end": "failed", "why": str(e)}
            if end["end"] == "lost":
                return None
            trace.seek(0)
            text = trace.read(64 * 1024).decode("utf-8", "replace")
        if current.key not in result and len(result) < len(items):
            culprit, origin = _culprit(text, items, current, done | set(result))
            problem = _death(end, text, origin)
            result[culprit.key] = [problem]
            if _timed_out(end, text):
                self._slow[culprit.key] = (culprit.digest, problem)
        return result

    def _answers(self, request: TrialRequest, trace: int) -> Iterator[Mapping[str, Any]]:
        """Yield the lines of a new worker. Lines without the nonce are ignored: the worker did not write them."""
        nonce = secrets.token_hex(16)
        reading, writing = os.pipe()
        path = json.dumps([p or os.getcwd() for p in sys.path])  # noqa: PTH109
        worker = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing, trace),
            start_new_session=True,
        )
        os.close(writing)
        try:
            assert worker.stdin is not None
            with worker.stdin as stdin:
                pickle.dump(dataclasses.replace(request, nonce=nonce, channel=writing, trace=trace), stdin)
            for line in _lines(reading, _START_SECONDS, self._timeout + _SPARE_SECONDS):
                with contextlib.suppress(ValueError):
                    answer = json.loads(line)
                    if isinstance(answer, dict) and answer.pop("nonce", "") == nonce:
                        yield answer
                        if "end" in answer:
                            return
            yield {"end": "lost"}
        except TimeoutError:
            yield {"end": "timeout"}
        finally:
            os.close(reading)
            with contextlib.suppress(OSError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.kill()
            worker.wait()


def _lines(fd: int, first: float, each: float) -> Iterator[bytes]:
    """Yield lines until the end of the file.

    Raises:
        TimeoutError: when the next line takes too long: `first` seconds for the first one, then `each`.
        ValueError: when a line is too long.
    """
    buffer = b""
    patience = first
    while True:
        ready, _, _ = select.select([fd], [], [], patience)
        if not ready:
            raise TimeoutError
        data = os.read(fd, 1 << 16)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        if len(buffer) > _MAX_LINE:
            raise ValueError("the trial worker writes too much")
        patience = each
        yield from lines


def _timed_out(end: Mapping[str, Any], trace: str) -> bool:
    return end["end"] == "timeout" or "Timeout (" in trace


def _death(end: Mapping[str, Any], trace: str, origin: Origin) -> SourceError:
    """Return what to say about an item that was in progress when its worker ended."""
    how, number = end["end"], end.get("number", 0)
    if _timed_out(end, trace):
        text, hint = (
            "it does not come to an end in time while it is loaded",
            "Look for an endless loop, or for its size",
        )
    elif how == "failed":
        text, hint = f"the module could not be tried: {end['why']}", None
    elif how == "signal" and number != signal.SIGKILL:
        name = signal.Signals(number).name if number in iter(signal.Signals) else str(number)
        text, hint = f"the module crashes Python while it is loaded ({name})", "Look at compiled extensions"
    elif how == "signal":
        text, hint = "the process was killed while the module was loaded (SIGKILL)", "Look for os.kill, and at memory"
    else:
        text, hint = f"the module ends the process while it is loaded (status {number})", "Remove os._exit"
    return SourceError(text, origin=origin, hint=hint)


def _culprit(trace: str, items: Sequence[SourceItem], current: SourceItem, done: set[str]) -> tuple[SourceItem, Origin]:
    """Return the item that the worker was in, by a dump of `faulthandler`, which lists the newest call first."""
    for file, line in re.findall(r'File "([^"\n]+)", line (\d+)', trace):
        for item in items:
            if file == item.name or file.startswith(f"{item.name}/"):
                # A module that was loaded without an error is not the cause: the module that calls it is.
                return current if item.key in done else item, Origin(file, int(line))
    return current, Origin(current.name)


def _by_source(sources: Sequence[Source], items: Sequence[SourceItem]) -> Batches:
    found = [(s, [i for i in items if (i.kind, i.source) == (s.kind, s.name)]) for s in sources if s.trial]
    return [(source, own) for source, own in found if own]


def _as_json(defined: Any) -> dict[str, Any]:
    """Return a param or collection as plain data, because frozen values cannot be pickled.

    Whether it comes from a document is left out: the hub judges what documents set, and no item is refused for it.
    """
    fields = {f.name: _value(getattr(defined, f.name)) for f in dataclasses.fields(defined) if f.name != "untrusted"}
    if not getattr(defined, "has_default", True):
        del fields["default"]
    return fields


def _value(value: Any) -> Any:
    return value if isinstance(value, tuple) else thaw(value)


def _problem(data: Mapping[str, Any]) -> ProfileSpawnerError:
    """Return the error that the worker wrote down."""
    kind = getattr(errors, str(data["type"]), SourceError)
    if not (isinstance(kind, type) and issubclass(kind, ProfileSpawnerError)) or kind is errors.ClusterError:
        kind = SourceError
    origin = data.get("origin")
    return kind(
        str(data["message"]),
        profile=data.get("profile"),
        origin=Origin(str(origin[0]), int(origin[1])) if origin else None,
        field=data.get("field"),
        value=data.get("value"),
        expected=data.get("expected"),
        hint=data.get("hint"),
    )
