"""Containers as local processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .failures import LocalClusterError
from .sandbox import ContainerPlan, Sandbox

__all__ = ["Container", "HookError", "ProcessContainer", "StartError"]

KILLED = 137

_REACTION_TIME = 10.0
"""Seconds that a launcher has to end what it was told to kill."""


class StartError(LocalClusterError):
    """A container's program could not be started; the message is in the container runtime's words."""


class HookError(StartError):
    """A container's `postStart` hook failed; its program was ended."""


class Container(Protocol):
    """One running container."""

    async def wait(self) -> int:
        """Wait for its end and return the exit code; 128 and the signal's number when one ended it."""

    async def stop(self, grace: float) -> None:
        """End it: ask first (SIGTERM), and kill it when it still runs after `grace` seconds."""

    async def kill(self) -> None:
        """End it at once, with everything that it started."""


@dataclass
class ProcessContainer:
    """A container that is a process with its own launcher.

    Attributes:
        process: The launcher.
        started: Set when the program runs.
    """

    process: asyncio.subprocess.Process
    code: int | None = None

    def __post_init__(self) -> None:
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.create_task(self._listen())

    @classmethod
    async def create(cls, sandbox: Sandbox, plan: ContainerPlan, log_path: Path) -> ProcessContainer:
        """Start the launcher of `plan`; the program may still fail to start, see `ready()`."""
        argv, spec = await asyncio.to_thread(sandbox.prepare, plan)
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_fd,
                # The launcher needs nothing of the hub's environment, and a pod shall not find it in /proc either.
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(log_fd)
        container = cls(process)
        container._tell(spec)
        return container

    async def ready(self) -> None:
        """Wait until the program runs.

        Raises:
            StartError: It could not be started.
        """
        await asyncio.shield(self.started)

    async def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> None:
        """Run the `preStop` hook, send SIGTERM to the program's process group; after `grace` seconds kill all."""
        if grace > 0 and not self._ended.done():
            self._tell({"stop": True})
            await asyncio.wait({self._ended}, timeout=grace)
        await self.kill()

    async def kill(self) -> None:
        """Kill everything in the container and wait until it is gone."""
        if self._ended.done():
            return
        self._tell({"kill": True})
        done, _ = await asyncio.wait({self._ended}, timeout=_REACTION_TIME)
        if not done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await asyncio.wait({self._ended})

    def _tell(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _listen(self) -> int:
        """Follow the launcher's messages to its end; return the program's exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        code: int | None = None
        async for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                code = message.get("exited", code)
                if self.started.done():
                    continue
                if "started" in message:
                    self.started.set_result(None)
                elif "failed" in message:
                    self.started.set_exception(StartError(message["failed"]))
                elif "hook_failed" in message:
                    self.started.set_exception(HookError(message["hook_failed"]))
                elif "exited" in message:  # It ended before its hook did.
                    self.started.set_result(None)
        ended = await self.process.wait()
        self.process.stdin.close()
        if not self.started.done():
            self.started.set_exception(StartError(f"the launcher ended with code {ended}; see the container's log"))
        self.started.exception()  # It is not an error if no task reads the result.
        if code is not None:
            return code
        return 128 - ended if ended < 0 else ended
