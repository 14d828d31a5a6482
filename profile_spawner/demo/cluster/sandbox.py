"""Where a container's files appear: in its own view of the machine, or below its home where that is not possible.

| mode | needs | the container sees |
| --- | --- | --- |
| `overlay` | root | the machine with volumes at their paths; writes go to the container's own folder |
| `bwrap` | bubblewrap and user namespaces (or root) | the machine read-only, with volumes at their paths |
| `plain` | nothing | the machine as it is; its volumes are links below its home |
"""

# Paths inside of containers are texts: pathlib would look at them on this machine.
# ruff: noqa: PTH100, PTH112, PTH115, PTH120
from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import site
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .failures import LocalClusterError
from .volumes import Mount

__all__ = ["MODES", "ContainerPlan", "Mode", "Sandbox", "Step", "choose_mode", "plan_steps", "why_not_mode"]

Mode = Literal["overlay", "bwrap", "plain"]

MODES: tuple[Mode, ...] = ("overlay", "bwrap", "plain")
"""All modes, the best first."""

LAUNCHER = Path(__file__).with_name("_launcher.py")

_HIDDEN = ("/tmp", "/var/tmp")  # noqa: S108 - replaced by private folders
_PSEUDO = ("/proc", "/sys", "/dev")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContainerPlan:
    """A container that is ready to be started.

    Attributes:
        folder: The container's own folder, made anew for each start.
        argv: The program and its arguments.
        env: The whole environment.
        cwd: The working folder inside the container.
        home: The home inside the container.
        hostname: The container's host name.
        mounts: The volumes, outer ones first.
        hosts: The text of `/etc/hosts`; None keeps the machine's.
        post_start: A program that has to succeed before the container counts as started; empty for none.
        pre_stop: A program that is run before the container is asked to end; empty for none.
    """

    folder: Path
    argv: list[str]
    env: dict[str, str]
    cwd: str
    home: str
    hostname: str
    mounts: list[Mount] = field(default_factory=list)
    hosts: str | None = None
    post_start: list[str] = field(default_factory=list)
    pre_stop: list[str] = field(default_factory=list)


def exposed_paths() -> list[str]:
    """Return the folders that a container must see wherever they lie: the interpreter's and those of its modules."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(LAUNCHER.parent.parent)}
    places |= {str(Path(sys.executable).parent), str(Path(sys.executable).resolve().parent.parent)}
    places |= {place for place in (*sys.path, *site.getsitepackages()) if place and Path(place).is_dir()}
    return sorted({os.path.realpath(place) for place in places} | {os.path.abspath(place) for place in places})


@dataclass(frozen=True)
class Step:
    """A folder of the machine that is replaced by an empty one (`hidden`) or shown again."""

    place: str
    hidden: bool


def plan_steps(hidden: Collection[str], shown: Collection[str]) -> list[Step]:
    """Return what has to be hidden and what shown again inside of that, outer folders first; nothing twice."""
    steps: list[Step] = []
    wanted = [Step(place, True) for place in hidden] + [Step(place, False) for place in shown if place not in hidden]
    for step in sorted(wanted, key=lambda s: (s.place.count("/"), s.place)):
        around = [s for s in steps if _below(step.place, [s.place])]
        if step.hidden != (bool(around) and around[-1].hidden):
            steps.append(step)
    return steps


def _below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


class Sandbox:
    """Turns container plans into command lines.

    Args:
        mode: The mode.
        state_dir: The state folder; containers do not see it.
    """

    def __init__(self, mode: Mode, state_dir: Path) -> None:
        self.mode = mode
        hidden = {os.path.realpath(p) for p in (*_HIDDEN, state_dir) if Path(p).is_dir()}
        self._steps = plan_steps(hidden, exposed_paths())

    def prepare(self, plan: ContainerPlan) -> tuple[list[str], dict[str, Any]]:
        """Make the container's folder and return the command line of its launcher, and its description.

        Blocking; to be called in a thread.
        """
        plan.folder.mkdir(parents=True, exist_ok=True)
        mounts = list(plan.mounts)
        if plan.hosts is not None and self.mode != "plain":
            hosts = plan.folder / "hosts"
            hosts.write_text(plan.hosts, encoding="utf-8")
            mounts.append(Mount(hosts, "/etc/hosts", read_only=False))
        spec: dict[str, Any] = {
            "mode": self.mode,
            "namespaces": self.mode != "plain",
            "parent": os.getpid(),
            "folder": str(plan.folder),
            "argv": plan.argv,
            "env": plan.env,
            "cwd": plan.cwd,
            "hostname": plan.hostname[:63],
            "post_start": plan.post_start,
            "pre_stop": plan.pre_stop,
        }
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
        if self.mode == "overlay":
            spec["steps"] = [{"place": step.place, "hidden": step.hidden} for step in self._steps]
            spec["mounts"] = [
                {"source": str(m.source.resolve()), "target": m.target, "read_only": m.read_only} for m in mounts
            ]
            return launcher, spec
        if self.mode == "bwrap":
            return [*self._bwrap(plan, mounts), "--", *launcher], spec
        home = _link_volumes(plan)
        spec["argv"] = [_moved(text, plan, home) for text in plan.argv]
        moved = {name: _moved(text, plan, home) for name, text in plan.env.items()}
        spec["env"] = {**moved, "HOME": str(home)}
        spec["cwd"] = str(_inside(home, plan.home, plan.cwd))
        return launcher, spec

    def _bwrap(self, plan: ContainerPlan, mounts: Sequence[Mount]) -> list[str]:
        """Return the bubblewrap command line that builds the view of `plan`."""
        argv = ["bwrap", "--die-with-parent", "--unshare-pid", "--as-pid-1", "--unshare-uts"]
        argv += ["--hostname", plan.hostname[:63]]
        for entry in sorted(Path("/").iterdir()):
            if entry.is_symlink():
                argv += ["--symlink", os.readlink(entry), str(entry)]
            elif str(entry) not in _PSEUDO:
                argv += ["--ro-bind-try", str(entry), str(entry)]
        argv += ["--proc", "/proc", "--dev", "/dev", "--ro-bind-try", "/sys", "/sys"]
        placed = [
            Mount(_private(plan.folder / "hidden" / str(n)), step.place, read_only=False)
            if step.hidden
            else Mount(Path(step.place), step.place, read_only=True)
            for n, step in enumerate(self._steps)
        ]
        if not any(m.target == plan.home for m in mounts):
            placed.append(Mount(_private(plan.folder / "home"), plan.home, read_only=False))
        writable = [m.target for m in (*placed, *mounts) if not m.read_only]
        if not Path(plan.cwd).exists() and not _below(plan.cwd, writable):
            placed.append(Mount(_private(plan.folder / "cwd"), plan.cwd, read_only=False))
        placed = [Mount(m.source, os.path.realpath(m.target), m.read_only) for m in (*placed, *mounts)]
        # A stable sort: an outer folder comes before those inside it, and the pod's volumes win over the rest.
        placed.sort(key=lambda m: m.target.count("/"))
        for place in _to_rebuild(placed):
            argv += ["--tmpfs", place]
            for entry in sorted(Path(place).iterdir()):
                if entry.is_symlink():
                    argv += ["--symlink", os.readlink(entry), str(entry)]
                else:
                    argv += ["--ro-bind-try", str(entry), str(entry)]
        for mount in placed:
            argv += ["--ro-bind" if mount.read_only else "--bind", str(mount.source.resolve()), mount.target]
        return argv


def _private(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o1777)
    return folder


def _to_rebuild(mounts: Sequence[Mount]) -> list[str]:
    """Return the folders in which a mount needs a new entry: those are rebuilt, as the machine's are read-only."""
    places: set[str] = set()
    covered = [m.target for m in mounts if not m.read_only]
    for mount in mounts:
        target = mount.target
        if os.path.lexists(target) or _below(os.path.dirname(target), [c for c in covered if c != target]):
            continue
        place = os.path.dirname(target)
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        if place != "/":  # The root itself is bubblewrap's own tmpfs already.
            places.add(place)
    return sorted(places, key=lambda place: place.count("/"))


def _inside(home: Path, pretended_home: str, target: str) -> Path:
    """Return where `target` of a container lies in plain mode."""
    if target == pretended_home:
        return home
    if _below(target, [pretended_home]):
        return home / os.path.relpath(target, pretended_home)
    return home / "volumes" / target.lstrip("/")


def _moved(text: str, plan: ContainerPlan, home: Path) -> str:
    """Return `text` with the paths of volumes, alone or in a list with colons, as they are in plain mode."""
    targets = [mount.target for mount in plan.mounts]
    parts = text.split(":")
    return ":".join(str(_inside(home, plan.home, part)) if _below(part, targets) else part for part in parts)


def _link_volumes(plan: ContainerPlan) -> Path:
    """Make the home of a container in plain mode, with links to its volumes, and return it.

    The home may itself be a volume. The links to what lies outside of it are then kept out of that volume.
    """
    home, others = plan.folder / "home", plan.folder / "volumes"
    others.mkdir()
    for mount in sorted(plan.mounts, key=lambda m: m.target != plan.home):
        if mount.target != plan.home:
            home.mkdir(exist_ok=True)
        place = _inside(home, plan.home, mount.target)
        if place.is_relative_to(home / "volumes"):
            place = others / place.relative_to(home / "volumes")
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        if place.exists():
            log.warning("%s is hidden by a file of another volume", mount.target)
            continue
        place.symlink_to(mount.source)
    home.mkdir(exist_ok=True)
    link = home / "volumes"
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(others)
    return home


async def why_not_mode(mode: Mode, state_dir: Path) -> str:
    """Return why containers cannot run in `mode` on this machine; empty when they can. Tries it with a real one."""
    if mode == "plain":
        return ""
    if mode == "overlay" and os.geteuid() != 0:
        return "an overlay over / needs root"
    if mode == "bwrap" and shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    folder = state_dir / f"trial-{mode}-{os.getpid()}"
    proof = folder / "proof"
    proof.mkdir(parents=True, exist_ok=True)
    plan = ContainerPlan(
        folder=folder / "container",
        argv=[sys.executable, "-I", "-S", "-c", "open('/mnt/trial/it/works', 'w')"],
        env={"PATH": os.environ.get("PATH", os.defpath)},
        cwd="/",
        home="/home/jovyan",
        hostname="trial",
        mounts=[Mount(proof, "/mnt/trial/it", read_only=False)],
    )
    try:
        return await _try_out(Sandbox(mode, state_dir), plan, proof / "works")
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _try_out(sandbox: Sandbox, plan: ContainerPlan, proof: Path) -> str:
    argv, spec = await asyncio.to_thread(sandbox.prepare, plan)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    reading = [asyncio.create_task(stream.read()) for stream in (process.stdout, process.stderr)]
    try:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(spec).encode() + b"\n")
        # Not `gather`: one that is interrupted complains when the loop closes.
        _, late = await asyncio.wait(reading, timeout=20)
        if late:
            return "a trial did not end within 20 seconds"
        out, err = (task.result() for task in reading)
        await process.wait()
    finally:
        for task in reading:
            task.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
    if await asyncio.to_thread(proof.exists):
        return ""
    return (err or out).decode("utf-8", "replace").strip()[-300:] or f"exit code {process.returncode}"


async def choose_mode(state_dir: Path, wanted: Mode | None = None) -> Mode:
    """Return the best mode that works on this machine, or `wanted`.

    Raises:
        LocalClusterError: `wanted` does not work here; the message says why.
    """
    reasons: Mapping[str, str] = {}
    for mode in MODES if wanted is None else (wanted,):
        reason = await why_not_mode(mode, state_dir)
        if not reason:
            if mode == "plain":
                told = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or "as configured"
                log.warning(
                    "Pods have no file system of their own (%s): their volumes lie below their home folders", told
                )
            return mode
        reasons = {**reasons, mode: reason}
    raise LocalClusterError(f"containers cannot run in the sandbox mode {wanted!r} here: {reasons[str(wanted)]}")
