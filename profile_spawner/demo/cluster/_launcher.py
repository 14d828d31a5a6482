"""The first process of a container: starts its program, ends it when asked, and leaves nothing behind.

The kubelet starts this file as `python -I -S _launcher.py`, outside of the package: it uses the standard library only.

- Standard input has the description of the container, one line of JSON, and then a line for each request to end the
  program. When it is closed, because the kubelet wants that or has ended, everything in the container is killed.
- Standard output gets one line: `started`, or the reason why the program cannot be started.
- Standard error is the container's log.

The exit code is that of the program.
"""

# Few imports, because every container waits for this file: no pathlib and no contextlib.
# ruff: noqa: PTH103, PTH123, PTH208, SIM105
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of what loses its parent, so that it can be found and killed."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the container's program in its working folder, which is made where it is missing, like HOME.

    Raises:
        ValueError: It cannot be started; the message is in the container runtime's words.
    """
    program, env = spec["argv"][0], spec["env"]
    for folder in (env["HOME"], spec["cwd"]):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError:
            continue
    null = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            spec["argv"], env=env, cwd=spec["cwd"], stdin=null, stdout=sys.stderr, start_new_session=True
        )
    except FileNotFoundError:
        reason = (
            f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"
        )
    except OSError as error:
        reason = str(error.strerror).lower()
    raise ValueError(f'exec: "{program}": {reason}')


def kill_all() -> None:
    """Kill everything that the program has started."""
    for pid in [-1] if os.getpid() == 1 else descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def descendants(ancestor: int) -> list[int]:
    """Return the processes that `ancestor` and its children have started."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                parents[int(name)] = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:  # It has ended meanwhile.
            continue
    found: list[int] = []
    wanted = {ancestor}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted}
        found.extend(wanted)
    return found


def obey(program: int) -> None:
    """Do what the kubelet asks for."""
    while os.read(0, 4096):
        try:
            os.killpg(program, signal.SIGTERM)
        except ProcessLookupError:
            pass
    kill_all()


def main() -> None:
    """Run the container."""
    spec = json.loads(sys.stdin.buffer.readline())
    if os.getpid() != 1:
        adopt_orphans()
    try:
        program = start(spec)
    except ValueError as error:
        print(error, flush=True)  # noqa: T201 - the kubelet reads it
        os._exit(128)
    print("started", flush=True)  # noqa: T201
    threading.Thread(target=obey, args=[program.pid], daemon=True).start()
    pid = status = 0
    while pid != program.pid:
        pid, status = os.waitpid(-1, 0)
    code = os.waitstatus_to_exitcode(status)
    try:
        while True:
            kill_all()
            os.waitpid(-1, 0)
    except ChildProcessError:
        os._exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()
