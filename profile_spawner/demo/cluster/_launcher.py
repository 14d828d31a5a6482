"""The first process of a container: makes its view of the machine, starts its program and watches over it.

The kubelet starts this file by the interpreter (`python -I -S _launcher.py`), outside of the package: it uses the
standard library only. The protocol, one JSON object per line:

- standard input: first the description of the container, then `{"stop": true}` to ask the program to end and
  `{"kill": true}` to kill everything. When it is closed, the kubelet has ended: everything is killed.
- standard output: `{"started": true}`, `{"failed": TEXT}` or `{"hook_failed": TEXT}`, later `{"exited": CODE}`.
- standard error: the container's log.
"""

# Fewer imports, for each container waits for this file: neither pathlib nor contextlib.
# ruff: noqa: PTH101, PTH103, PTH110, PTH112, PTH116, PTH120, PTH123, PTH208, SIM105
from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID = 0x20000, 0x4000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 32, 4096, 8192, 16384, 1 << 18

SKIPPED_TYPES = frozenset({"autofs", "overlay", "nsfs", "fuse.portal", "binfmt_misc", "rpc_pipefs", "squashfs"})
SKIPPED_PLACES = ("/proc", "/sys", "/dev", "/snap", "/var/lib/docker", "/var/lib/containers", "/var/lib/kubelet")

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise the `OSError` of a C call that returned `result`."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Call `mount(2)`."""
    result = LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data)
    )
    check(result, f"mount {source} at {target}")


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def say(**message: Any) -> None:
    """Send a message to the kubelet."""
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except OSError:  # The kubelet is gone; the end of standard input says so too.
        pass


class Control:
    """The kubelet's lines on standard input."""

    def __init__(self) -> None:
        self._rest = b""
        self._early: list[dict[str, Any]] = []
        self.ended = False

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that have come, waiting for at least some bytes."""
        if self._early:
            early, self._early = self._early, []
            return early
        chunk = os.read(0, 1 << 16)
        self.ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def first(self) -> dict[str, Any]:
        """Return the description of the container."""
        lines: list[dict[str, Any]] = []
        while not lines:
            lines = self.read()
            if self.ended:
                os._exit(0)
        self._early = lines[1:]
        return lines[0]


class Root:
    """A container's view of the machine: everything is there, and every write goes to the container's own folder.

    Args:
        spec: The description of the container.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.base: str = spec["folder"]
        self.root = f"{self.base}/root"
        self.layers = 0

    def make(self) -> None:
        """Build the view in this process's mount namespace and move into it."""
        points = mount_points()
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        os.chdir(self.base)
        os.makedirs(self.root, exist_ok=True)
        os.makedirs("layers", exist_ok=True)
        try:
            self.layer("/", self.root)
        except OSError:
            # The state folder may lie on a file system that cannot carry an overlay, as an overlay itself.
            mount("tmpfs", f"{self.base}/layers", "tmpfs", 0, "mode=755")
            self.layer("/", self.root)
        for point in points:
            self.show(point)
        for place in ("/sys", "/dev"):
            mount(place, self.root + place, "", MS_BIND | MS_REC)
        mount("proc", f"{self.root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        shared_memory = f"{self.root}/dev/shm"  # noqa: S108 - the container's own
        if os.path.isdir(shared_memory):
            mount("tmpfs", shared_memory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
        for number, step in enumerate(self.spec["steps"]):
            os.makedirs(self.root + step["place"], exist_ok=True)
            if step["hidden"]:
                self.hide(step["place"], f"{self.base}/hidden/{number}")
            else:
                self.show(step["place"])
        # Opened before, used after the move: what a target passes through (links!) is then the container's own.
        sources = [os.open(m["source"], os.O_PATH) for m in self.spec["mounts"]]
        os.chdir(self.root)
        mount(self.root, "/", "", MS_MOVE)
        os.chroot(".")
        os.chdir("/")
        for source, wanted in zip(sources, self.spec["mounts"]):  # noqa: B905 - same length by construction
            bind(source, wanted["target"], wanted["read_only"])

    def layer(self, lower: str, target: str) -> None:
        """Show `lower` at `target`; what is written there goes to a folder of the container."""
        self.layers += 1
        own = f"layers/{self.layers}"
        status = os.stat(lower)
        os.makedirs(f"{own}/upper")
        os.makedirs(f"{own}/work")
        os.chmod(f"{own}/upper", status.st_mode & 0o7777)
        os.chown(f"{own}/upper", status.st_uid, status.st_gid)
        escaped = lower.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
        options = f"lowerdir={escaped},upperdir={own}/upper,workdir={own}/work"
        try:
            mount("overlay", target, "overlay", 0, f"{options},volatile")
        except OSError:  # Before Linux 5.10 there is no `volatile`.
            mount("overlay", target, "overlay", 0, options)

    def show(self, place: str) -> None:
        """Show another file system or a hidden folder of the machine in the view, writable without effect."""
        target = self.root + place
        try:
            if os.path.isdir(place):
                self.layer(place, target)
                return
        except OSError:
            pass
        try:
            mount(place, target, "", MS_BIND)
            mount("none", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)
        except OSError as error:
            sys.stderr.write(f"[local cluster] {place} is not visible in this container: {error}\n")

    def hide(self, place: str, own: str) -> None:
        """Put an empty folder in place of one of the machine's."""
        os.makedirs(own, exist_ok=True)
        os.chmod(own, 0o1777)  # noqa: S103 - as /tmp is
        mount(own, self.root + place, "", MS_BIND)


def mount_points() -> list[str]:
    """Return where other file systems of the machine are mounted, outer ones first."""
    points = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            path = left.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            path = os.fsdecode(path.encode("latin-1"))
            kind = right.split(" ")[0]
            skipped = any(path == place or path.startswith(place + "/") for place in SKIPPED_PLACES)
            if path != "/" and not skipped and kind not in SKIPPED_TYPES:
                points.append(path)
    return sorted(set(points), key=lambda path: path.count("/"))


def bind(source: int, target: str, read_only: bool) -> None:
    """Show the opened folder or file at `target`, which is made where it is missing."""
    path = f"/proc/self/fd/{source}"
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(path, target, "", MS_BIND | MS_REC)
    if read_only:
        mount("none", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)
    os.close(source)


class Supervisor:
    """Starts the container's program, reaps what it leaves, and ends everything with it.

    Args:
        spec: The description of the container.
        control: The kubelet's lines.
    """

    def __init__(self, spec: dict[str, Any], control: Control) -> None:
        self.spec = spec
        self.control = control
        self.main = 0
        self.code: int | None = None
        self.post_start = 0
        self.pre_stop = 0

    def run(self) -> NoReturn:
        """Run the program to its end and exit with its code."""
        readable, writable = os.pipe()
        os.set_blocking(writable, False)
        os.set_blocking(readable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # A signal from outside, such as a shutdown of the machine, is for the program.
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        self.start()
        while self.code is None:
            ready, _, _ = select.select([0, readable], [], [])
            if readable in ready:
                os.read(readable, 512)
            self.reap()
            if 0 in ready and self.code is None:
                self.obey()
        self.kill_all()
        say(exited=self.code)
        os._exit(self.code)

    def start(self) -> None:
        """Start the program; end this process when that is not possible."""
        self.main, failure = self.spawn(self.spec["argv"])
        if failure:
            say(failed=failure)
            os._exit(128)
        if self.spec["post_start"]:
            self.post_start, failure = self.spawn(self.spec["post_start"])
            if failure:
                self.post_start_failed(failure)
        else:
            say(started=True)

    def post_start_failed(self, text: str) -> None:
        """Report the hook, and end the program, which is not to run without it."""
        say(hook_failed=text)
        self.kill_all()

    def spawn(self, argv: list[str]) -> tuple[int, str]:
        """Start a program in the container; return its process, and why that did not work."""
        readable, writable = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(readable)
            self.become(argv, writable)
        os.close(writable)
        failure = b""
        while chunk := os.read(readable, 4096):
            failure += chunk
        os.close(readable)
        return pid, failure.decode("utf-8", "replace")

    def become(self, argv: list[str], report: int) -> NoReturn:
        """Turn this new process into a program of the container."""
        env = self.spec["env"]
        try:
            os.setsid()
            if not self.spec["namespaces"]:
                die_with_parent()
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            self.enter_folder()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(2, 1)
            os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell is meant
        except FileNotFoundError:
            text = f'exec: "{argv[0]}": executable file not found in $PATH'
            if "/" in argv[0]:
                text = f'exec: "{argv[0]}": stat {argv[0]}: no such file or directory'
        except PermissionError:
            text = f'exec: "{argv[0]}": permission denied'
        except OSError as error:
            text = f'exec: "{argv[0]}": {error.strerror}'
        except ValueError as error:
            text = str(error)
        os.write(report, text.encode("utf-8", "replace")[:4000])
        os._exit(128)

    def enter_folder(self) -> None:
        """Go to the working folder, which is made where it is missing, like HOME."""
        for place in (self.spec["env"].get("HOME"), self.spec["cwd"]):
            if place:
                try:
                    os.makedirs(place, exist_ok=True)
                except OSError:
                    continue
        try:
            os.chdir(self.spec["cwd"])
        except OSError as error:
            text = f'chdir to cwd ("{self.spec["cwd"]}") failed: {error.strerror}'
            raise ValueError(text) from error

    def reap(self) -> None:
        """Collect ended processes; note how the program ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self.ended(pid, exit_code(status))

    def ended(self, pid: int, code: int) -> None:
        """Take note of the end of a process."""
        if pid == self.main:
            self.code = code
        elif pid == self.post_start:
            self.post_start = 0
            if code and self.code is None:
                self.post_start_failed(f"Command '{self.spec['post_start'][0]}' exited with {code}")
            else:
                say(started=True)
        elif pid == self.pre_stop:
            self.pre_stop = 0
            self.send(signal.SIGTERM)

    def stop(self) -> None:
        """Ask the program to end, after its hook."""
        if self.pre_stop or self.code is not None:
            return
        failure = "no hook"
        if self.spec["pre_stop"]:
            self.pre_stop, failure = self.spawn(self.spec["pre_stop"])
        if failure:
            self.pre_stop = 0
            self.send(signal.SIGTERM)

    def obey(self) -> None:
        """Do what the kubelet asks for."""
        for order in self.control.read():
            if order.get("stop"):
                self.stop()
            if order.get("kill"):
                self.kill_all()
        if self.control.ended:
            self.kill_all()
            os._exit(137)

    def send(self, number: int) -> None:
        """Send a signal to the program's process group."""
        try:
            os.killpg(self.main, number)
        except ProcessLookupError:
            pass

    def kill_all(self) -> None:
        """Kill everything that the program has started, and wait until it is gone."""
        while True:
            if os.getpid() == 1:
                try:
                    os.kill(-1, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            else:
                for pid in descendants(os.getpid()):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            if pid == self.main and self.code is None:
                self.code = exit_code(status)


def exit_code(status: int) -> int:
    """Return the exit code for a wait status: 128 and the signal's number when one ended the process."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def descendants(ancestor: int) -> list[int]:
    """Return the processes that `ancestor` and its children have started."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    parents[int(name)] = int(stat.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found: list[int] = []
    wanted = {ancestor}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted}
        found.extend(wanted)
    return found


def in_namespaces(spec: dict[str, Any]) -> None:
    """Go on as the first process of new namespaces, in the container's view of the machine."""
    die_with_parent()
    if os.getppid() != spec["parent"]:
        os._exit(0)
    check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS), "unshare")
    child = os.fork()
    if child:
        os.close(0)
        os.close(1)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        os._exit(exit_code(status))
    die_with_parent()
    name = os.fsencode(spec["hostname"])
    check(LIBC.sethostname(name, len(name)), "sethostname")
    Root(spec).make()


def main() -> NoReturn:
    """Read the description of the container and run it."""
    control = Control()
    spec = control.first()
    try:
        if spec["mode"] == "overlay":
            in_namespaces(spec)
        elif spec["mode"] == "plain":
            # What loses its parent becomes a child of this process, so that it can be found and killed.
            check(LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    except OSError as error:
        say(failed=f"failed to create containerd task: {error}")
        os._exit(128)
    Supervisor(spec, control).run()


if __name__ == "__main__":
    main()
