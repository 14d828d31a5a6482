"""The process of a hub: a copy of one that has imported JupyterHub and this package already, which takes 4 seconds."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

# Whatever a hub imports at its start. What is missing here is imported by every hub for itself.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "jupyterhub.app", "profile_spawner.spawner"])


class HubProcess:
    """A hub as a child process, with the methods of `asyncio.subprocess.Process` that tests need.

    Args:
        config: The configuration file.
        log: Where the output goes, at its end.
        environment: All environment variables.
    """

    def __init__(self, config: Path, log: Path, environment: Mapping[str, str]) -> None:
        self._process = _context.Process(target=_run, args=(config, log, dict(environment)), daemon=True)
        self._ended = asyncio.Event()
        self._process.start()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._process.sentinel, self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; negative for a signal, `None` while it runs."""
        return self._process.exitcode

    async def wait(self) -> int | None:
        """Wait until it has ended, and return how."""
        await self._ended.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _run(config: Path, log: Path, environment: Mapping[str, str]) -> None:
    """Be what `python -m jupyterhub -f CONFIG` is, with this environment."""
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(config.parent)
    sys.path[:0] = [str(config.parent), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = ["jupyterhub", "-f", str(config)]

    from jupyterhub.app import main
    from kubernetes_asyncio.config import kube_config

    # The client reads the variable when it is imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environment["KUBECONFIG"]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
