"""Child processes that never outlive the demo, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Child"]

_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run between fork and exec, in a separate interpreter, so threads of this process cannot interfere."""

_REMEMBERED_LINES = 30


class Child:
    """A child process with its output in a file.

    It runs in a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then ends its children
    in the right order. When the demo is killed, the kernel kills the child.

    Args:
        name: For messages.
        argv: Absolute path of the program, and its arguments.
        env: Its whole environment.
        cwd: Its working folder.
        log_path: The file for its output; overwritten.
        on_line: Called with every line of output.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_path: Path,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._env = dict(env)
        self._cwd = cwd
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.last_lines: deque[str] = deque(maxlen=_REMEMBERED_LINES)

    async def start(self) -> None:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *self._argv),
            env=self._env,
            cwd=self._cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self.log_path.open("wb") as log:
            while True:
                try:
                    line = await self._process.stdout.readline()
                except ValueError:  # a line longer than the limit: it is dropped, the rest goes on
                    continue
                if not line:
                    return
                log.write(line)
                log.flush()
                text = line.decode("utf-8", "replace").rstrip("\n")
                self.last_lines.append(text)
                if self._on_line is not None:
                    self._on_line(text)

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        code = await self._process.wait()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=1.0)
        return code

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def stop(self, grace: float) -> None:
        """End it: SIGTERM, and SIGKILL when it still runs after `grace` seconds. Safe to call twice."""
        if self._process is None:
            return
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except asyncio.TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        if self._reader is not None:
            # A grandchild may keep the pipe open. Its output is not needed any more.
            _, late = await asyncio.wait({self._reader}, timeout=1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
