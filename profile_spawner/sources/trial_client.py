"""The trial client: imports modules in a separate process before the hub imports them."""

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
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_spawner import errors
from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.params.definition import thaw
from profile_spawner.profiles.registry import Collector

from .importing import ModuleFiles
from .units import Unit

__all__ = ["TrialClient"]

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from profile_spawner.sources.trial_worker import main; main()"
)
_START_SECONDS = 60.0
_SPARE_SECONDS = 2.0
"""How much longer than one item may take the client waits for a worker that should have ended itself."""
_SECONDS_PER_ITEM = 0.5
_MAX_LINE = 16 * 1024 * 1024


class TrialClient:
    """Starts trial workers. Used from one thread at a time.

    Args:
        timeout: How long one module may take, in seconds.
        memory: How much memory a worker may use in addition to what it has at its start, in bytes.
        configurator: Whether the modules find `configurator`.
    """

    def __init__(self, timeout: float, memory: int, *, configurator: bool = False) -> None:
        self._timeout = timeout
        self._memory = memory
        self._configurator = configurator

    def run(
        self, units: Sequence[Unit], folder: Path | None, stale: Mapping[str, ModuleFiles], params: Collector | None
    ) -> dict[str, list[ProfileSpawnerError]]:
        """Import all units in a worker, and build their profiles once.

        A unit that ends the worker, or changes its process, is refused; the others go on in a new worker.

        Args:
            units: Modules of one folder.
            folder: Where their siblings are; `None` for entry points.
            stale: Siblings whose last good version counts instead of what is in the folder now.
            params: Params and collections of other sources that the units may use.

        Returns:
            The errors by the unit's key; an empty list for valid units.
        """
        result: dict[str, list[ProfileSpawnerError]] = {}
        allowed = _START_SECONDS + 10 * self._timeout + _SECONDS_PER_ITEM * len(units)
        deadline = time.monotonic() + allowed
        while left := [u for u in units if u.key not in result]:
            if time.monotonic() > deadline:
                message = f"the module was not tried: the trial took more than {allowed:.0f} s in all"
                result.update({u.key: [SourceError(message, origin=Origin(u.name))] for u in left})
                break
            good = {u.short_name: u.payload.files for u in units if folder is not None and result.get(u.key) == []}
            request = {
                "units": left,
                "folder": folder,
                "stale": {**stale, **good},
                "refused": {u.short_name: str(result[u.key][0]) for u in units if result.get(u.key)},
                "params": None if params is None else _plain(params),
                "timeout": self._timeout,
                "memory": self._memory,
                "configurator": self._configurator,
            }
            found = self._try(left, request, deadline, set(result))
            if found is None:
                found = self._each_alone(left, request, deadline, set(result))
            result.update(found)
        return result

    def _each_alone(
        self, units: Sequence[Unit], request: Mapping[str, Any], deadline: float, done: set[str]
    ) -> dict[str, list[ProfileSpawnerError]]:
        """Return the first unit that makes a worker of its own disappear; nothing when none does so again."""
        for unit in units:
            if self._try([unit], {**request, "units": [unit]}, deadline, done) is None:
                text = "the trial worker was killed while the module was loaded (SIGKILL)"
                return {unit.key: [SourceError(text, origin=Origin(unit.name), hint="Look for os.kill, and at memory")]}
        return {}

    def _try(
        self, units: Sequence[Unit], request: Mapping[str, Any], deadline: float, done: set[str]
    ) -> dict[str, list[ProfileSpawnerError]] | None:
        """Start one worker; return what it said, about at least one unit.

        Returns:
            `None` when the worker disappeared without a word of its parent process. A module that kills that process
            can go on for a moment and report success, so nothing that such a worker said counts.
        """
        result: dict[str, list[ProfileSpawnerError]] = {}
        current = units[0]
        end: Mapping[str, Any] = {"end": "exit", "number": 0}
        with tempfile.TemporaryFile() as trace:
            try:
                for answer in self._answers(request, trace.fileno(), deadline):
                    if "begin" in answer:
                        current = units[answer["begin"]]
                    elif "done" in answer:
                        result[units[answer["done"]].key] = [_problem(p) for p in answer["problems"]]
                    else:
                        end = answer
            except (OSError, ValueError) as e:
                end = {"end": "failed", "why": str(e)}
            if end["end"] == "lost":
                return None
            trace.seek(0)
            text = trace.read(64 * 1024).decode("utf-8", "replace")
        if current.key not in result and len(result) < len(units):
            culprit, origin = _culprit(text, units, current, done | set(result))
            result[culprit.key] = [_death(end, text, origin)]
        return result

    def _answers(self, request: Mapping[str, Any], trace: int, deadline: float) -> Iterator[Mapping[str, Any]]:
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
                pickle.dump({**request, "nonce": nonce, "channel": writing, "trace": trace}, stdin)
            for line in _lines(reading, _START_SECONDS, self._timeout + _SPARE_SECONDS, deadline):
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


def _lines(fd: int, first: float, each: float, deadline: float) -> Iterator[bytes]:
    """Yield lines until the end of the file.

    Raises:
        TimeoutError: when the next line takes too long: `first` seconds for the first one, then `each`.
        ValueError: when a line is too long.
    """
    buffer = b""
    patience = first
    while True:
        end = min(time.monotonic() + patience, deadline)
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
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


def _death(end: Mapping[str, Any], trace: str, origin: Origin) -> SourceError:
    """Return what to say about a unit that was in progress when its worker ended."""
    how, number = end["end"], end.get("number", 0)
    if how == "timeout" or "Timeout (" in trace:
        text, hint = "the module does not come to an end while it is loaded", "Look for an endless loop"
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


def _culprit(trace: str, units: Sequence[Unit], current: Unit, done: set[str]) -> tuple[Unit, Origin]:
    """Return the unit that the worker was in, by a dump of `faulthandler`, which lists the newest call first."""
    for file, line in re.findall(r'File "([^"\n]+)", line (\d+)', trace):
        for unit in units:
            if file == unit.name or file.startswith(f"{unit.name}/"):
                # A module that is fine by itself is not to blame for who calls it.
                return current if unit.key in done else unit, Origin(file, int(line))
    return current, Origin(current.name)


def _plain(collector: Collector) -> dict[str, Any]:
    """Return params and collections as plain data, because frozen values cannot be pickled.

    Whether they come from documents is left out: the hub judges what documents set, and a module is not refused for it.
    """
    params = [_fields(param) for param in collector.params.values()]
    for values, param in zip(params, collector.params.values(), strict=True):
        if not param.has_default:
            del values["default"]
    return {"params": params, "collections": [_fields(collection) for collection in collector.collections.values()]}


def _fields(item: Any) -> dict[str, Any]:
    return {f.name: _value(getattr(item, f.name)) for f in dataclasses.fields(item) if f.name != "untrusted"}


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
