"""Containers as local processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from .failures import LocalClusterError
from .sandbox import MODES, ContainerPlan, Mode, Sandbox
from .volumes import Mount

__all__ = ["KILLED", "ProcessContainer", "StartError", "choose_mode", "why_not_mode"]

KILLED = 137

_REACTION_TIME = 10.0
"""Seconds that a launcher gets to kill its container."""

log = logging.getLogger(__name__)


class StartError(LocalClusterError):
    """A container's program could not be started; the message is in the container runtime's words."""


@dataclass
class ProcessContainer:
    """A container that is a process with its own launcher."""

    process: asyncio.subprocess.Process

    @classmethod
    async def create(cls, sandbox: Sandbox, plan: ContainerPlan, log_path: Path) -> ProcessContainer:
        """Start the program of `plan`, with its output in the file `log_path`.

        Raises:
            StartError: It could not be started.
        """
        argv, spec = await asyncio.to_thread(sandbox.prepare, plan)
        with log_path.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                # Nothing of this process's environment, which a pod could read in /proc.
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        container = cls(process)
        assert process.stdout is not None
        try:
            container._tell(json.dumps(spec))
            line = (await process.stdout.readline()).decode().strip()
            if line != "started":
                raise StartError(line or "the launcher failed; see the container's log")
        except BaseException:  # Also after an interruption no process may stay.
            container.kill()
            await process.wait()
            raise
        return container

    async def wait(self) -> int:
        """Wait for the end and return the exit code; 128 and the signal's number when one ended it."""
        code = await self.process.wait()
        return 128 - code if code < 0 else code

    async def stop(self, grace: float) -> None:
        """Send SIGTERM to the program's process group; after `grace` seconds kill everything."""
        if grace > 0:
            self._tell("stop")
            await self._ended_within(grace)
        self.kill()
        if not await self._ended_within(_REACTION_TIME):
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()

    def kill(self) -> None:
        """Have the launcher kill everything in the container."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.process.wait(), seconds)
        return self.process.returncode is not None

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # It has ended.
            self.process.stdin.write(line.encode() + b"\n")


async def why_not_mode(mode: Mode, state_dir: Path) -> str:
    """Return why containers cannot run in `mode` on this machine; empty when they can. Tries it with a real one."""
    if mode == "plain":
        return ""
    if shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    folder = state_dir / f"trial-{os.getpid()}"
    proof = folder / "proof"
    proof.mkdir(parents=True, exist_ok=True)
    plan = ContainerPlan(
        folder=folder / "container",
        argv=[sys.executable, "-I", "-S", "-c", "open('/mnt/trial/it/works', 'w')"],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/home/jovyan"},
        cwd="/",
        hostname="trial",
        mounts=[Mount(proof, "/mnt/trial/it", read_only=False)],
    )
    output = folder / "log"
    try:
        container = await asyncio.wait_for(ProcessContainer.create(Sandbox(mode, state_dir), plan, output), 20)
        await container.wait()
        works = (proof / "works").exists()
    except (StartError, OSError, asyncio.TimeoutError):
        works = False
    said = output.read_text("utf-8", "replace").strip()[-300:] if output.exists() else ""
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return "" if works else said or "bubblewrap failed"


async def choose_mode(state_dir: Path, wanted: Mode | None = None) -> Mode:
    """Return the best mode that works on this machine, or `wanted`.

    Raises:
        LocalClusterError: `wanted` does not work here; the message says why.
    """
    best = wanted or MODES[0]
    reason = await why_not_mode(best, state_dir)
    if not reason:
        return best
    if wanted is not None:
        raise LocalClusterError(f"containers cannot run in the sandbox mode {wanted!r} here: {reason}")
    log.warning("Pods have no file system of their own (%s): their volumes are links below their homes", reason)
    return "plain"
