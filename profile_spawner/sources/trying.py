"""The hub's side of the trial: sends modules to the separate process and understands what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_spawner import errors
from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.params.definition import Param, thaw
from profile_spawner.params.layers import Collection
from profile_spawner.profiles.registry import Collector

from .importing import ModuleFiles
from .units import Unit

__all__ = ["TrialProcess"]

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from profile_spawner.sources.trial import main; main()"
)
_START_TIMEOUT = 60.0


class TrialProcess:
    """A warm process that imports modules before the hub does. Used from one thread at a time.

    Args:
        timeout: How long one module may take, in seconds.
        memory: How much memory a trial may use, in bytes.
        configurator: Whether `configurator` is found by the modules.
    """

    def __init__(self, timeout: float, memory: int, *, configurator: bool = False) -> None:
        self._configurator = configurator
        self._timeout = timeout
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def run(
        self, units: Sequence[Unit], folder: Path | None, stale: Mapping[str, ModuleFiles], params: Collector | None
    ) -> dict[str, list[ProfileSpawnerError]]:
        """Import all units in the separate process, and try their profiles.

        A unit that ends the process, or makes it useless, is found by itself; the others go on in a new child.

        Args:
            units: Modules of one folder.
            folder: Where their siblings are; `None` for entry points.
            stale: Siblings whose last good version counts, not what is in the folder now.
            params: Params and collections of other sources that the units may use.

        Returns:
            What is wrong, by the unit's key; an empty list for units that are fine.
        """
        result: dict[str, list[ProfileSpawnerError]] = {}
        suspects: set[str] = set()
        alone = False
        left = list(units)
        while left:
            refused = {u.short_name: str(result[u.key][0]) for u in units if result.get(u.key)}
            # Whoever is suspected of changing the process is tried alone.
            some = [u for u in left if u.key in suspects] or left
            if alone:
                some = some[:1]
            round_ = _Round(some)
            request = {
                "units": some,
                "folder": folder,
                "stale": stale if folder is None else {**stale, **_files(u for u in units if result.get(u.key) == [])},
                "refused": refused,
                "params": dump_params(params),
                "timeout": self._timeout,
                "memory": self._memory,
                "configurator": self._configurator,
                "sys_path": _sys_path(),
                "check_every": 1 if suspects or len(some) <= 16 else 64,
            }
            try:
                for answer in self._ask(request):
                    round_.take(answer)
            except (OSError, ValueError, EOFError) as e:
                self.close()
                round_.broken(e)
            suspects, alone = round_.suspects, alone or round_.alone
            result.update(round_.result)
            left = [u for u in left if u.key not in result]
        return result

    def _ask(self, request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        body = pickle.dumps(request)
        process = self._start()
        assert process.stdin is not None
        process.stdin.write(struct.pack(">Q", len(body)) + body)
        process.stdin.flush()
        yield from self._answers(process)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, json.dumps(_sys_path()), "profile_spawner.sources.trial"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._process

    def _answers(self, process: subprocess.Popen[bytes]) -> Iterator[Mapping[str, Any]]:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        buffer = b""
        patience = _START_TIMEOUT + self._timeout
        while True:
            deadline = time.monotonic() + patience
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(fd, 1 << 16) if ready else b""
            if not data:
                raise EOFError("the trial process ended" if ready else "the trial process does not answer")
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                yield answer
                if "end" in answer:
                    return


class _Round:
    """What one child said about its units."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._current = 0
        self.result: dict[str, list[ProfileSpawnerError]] = {}
        self.suspects: set[str] = set()
        self.alone = False
        self._said: dict[str, list[ProfileSpawnerError]] = {}
        self._checked: set[str] = set()
        self._stopped = False

    def take(self, answer: Mapping[str, Any]) -> None:
        """Note one answer."""
        if "begin" in answer:
            self._current = int(answer["begin"])
        elif "done" in answer:
            unit = self._units[int(answer["done"])]
            self._said[unit.key] = [load_problem(p) for p in answer["problems"]]
        elif "checked" in answer:
            self._checked.update(self._units[int(i)].key for i in answer["checked"])
        elif "polluted" in answer:
            self._polluted([self._units[int(i)] for i in answer["polluted"]], answer["how"])
        elif "failed" in answer:
            self._stopped = True
            self.result[self._here.key] = [SourceError(f"the trial failed: {answer['failed']}", origin=self._place)]
        elif "end" in answer:
            self._ended(answer)

    @property
    def _here(self) -> Unit:
        return self._units[self._current]

    @property
    def _place(self) -> Origin:
        return Origin(self._here.name)

    def _polluted(self, units: Sequence[Unit], how: Sequence[str]) -> None:
        self._stopped = True
        if len(units) == 1:
            problem = SourceError(
                f"the module {'; '.join(str(h) for h in how)} while it is loaded",
                origin=Origin(units[0].name),
                hint="A profile's module must leave the rest of the hub as it is",
            )
            self.result[units[0].key] = [problem]

    def _ended(self, answer: Mapping[str, Any]) -> None:
        """Decide what counts: only what was said before the process was last found in order."""
        self.result.update({k: p for k, p in self._said.items() if k in self._checked and k not in self.result})
        if answer["orphans"] and not self._stopped and self.result:
            # Somebody has started a process and hidden it; who, is found out by trying each one in its own child.
            suspects = [u for u in self._units if not self.result.get(u.key, ())]
            for unit in suspects:
                self.result.pop(unit.key, None)
            self._polluted(suspects, ["starts processes"])
            self.alone = len(suspects) > 1
        elif not self._stopped and any(u.key not in self.result for u in self._units):
            self._died(answer)
        self.suspects = {k for k in self._said if k not in self.result}

    def _died(self, answer: Mapping[str, Any]) -> None:
        how, number = answer["end"], answer["number"]
        if how == "timeout":
            message, hint = "the module does not come to an end while it is loaded", "Look for an endless loop"
        elif how == "signal":
            name = signal.Signals(number).name if number in iter(signal.Signals) else str(number)
            message, hint = f"the module crashes Python while it is loaded ({name})", "Look at compiled extensions"
        else:
            message, hint = f"the module ends the process while it is loaded (status {number})", "Remove os._exit"
        culprit, origin = self._culprit(answer["trace"])
        self.result[culprit.key] = [SourceError(message, origin=origin, hint=hint)]

    def _culprit(self, trace: str) -> tuple[Unit, Origin]:
        """Return the unit that the process was in, by a dump of `faulthandler`, which lists the newest call first."""
        for file, line in re.findall(r'File "([^"\n]+)", line (\d+)', trace):
            for unit in self._units:
                if file == unit.name or file.startswith(f"{unit.name}/"):
                    # A module that is fine by itself is not to blame for who calls it.
                    return self._here if unit.key in self.result else unit, Origin(file, int(line))
        return self._here, self._place

    def broken(self, error: Exception) -> None:
        """Note that the trial itself could not be carried out."""
        for unit in self._units:
            if unit.key not in self.result:
                self.result[unit.key] = [
                    SourceError(f"the module could not be tried: {error}", origin=Origin(unit.name))
                ]


def dump_params(collector: Collector | None) -> dict[str, Any] | None:
    """Return params and collections as plain data, for the request."""
    if collector is None:
        return None
    params = [
        {
            "name": p.name,
            "schema": thaw(p.schema),
            "description": p.description,
            "documentation": p.documentation,
            "secure": p.secure,
            "user_settable": p.user_settable,
            "merge": p.merge,
            "merge_key": p.merge_key,
            "layers": p.layers,
            "meta": thaw(p.meta),
            "origin": p.origin,
            **({"default": thaw(p.default)} if p.has_default else {}),
        }
        for p in collector.params.values()
    ]
    collections = [
        {"name": c.name, "params": thaw(dict(c.params)), "profiles": c.profiles, "origin": c.origin}
        for c in collector.collections.values()
    ]
    return {"params": params, "collections": collections}


def load_params(data: Mapping[str, Any] | None) -> Collector | None:
    """Return what `dump_params` wrote down."""
    if data is None:
        return None
    collector = Collector("params")
    for param in data["params"]:
        collector.add_param(Param(**param))
    for collection in data["collections"]:
        collector.add_collection(Collection(**collection))
    return collector


def load_problem(data: Mapping[str, Any]) -> ProfileSpawnerError:
    """Return the error that `dump_problem` wrote down."""
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


def _files(units: Iterable[Unit]) -> dict[str, ModuleFiles]:
    return {u.short_name: u.payload.files for u in units}


def _sys_path() -> list[str]:
    return [p or os.getcwd() for p in sys.path]  # noqa: PTH109
