"""Where a container's files appear: in its own view of the machine, or below its home where that is not possible.

| mode | needs | the container sees |
| --- | --- | --- |
| `bwrap` | bubblewrap, and user namespaces or root | the machine read-only, with volumes at their paths |
| `plain` | nothing | the machine as it is; its volumes are links below its home |
"""

# Paths inside of containers are texts: pathlib would look at them on this machine.
# ruff: noqa: PTH100, PTH112, PTH115, PTH120
from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .volumes import Mount

__all__ = ["MODES", "ContainerPlan", "Mode", "Sandbox"]

Mode = Literal["bwrap", "plain"]

MODES: tuple[Mode, ...] = ("bwrap", "plain")
"""All modes, the best first."""

_LAUNCHER = Path(__file__).with_name("_launcher.py")
_HIDDEN = ("/tmp", "/var/tmp")  # noqa: S108 - replaced by private folders
_PSEUDO = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class ContainerPlan:
    """A container that is ready to be started.

    Attributes:
        folder: The container's own folder.
        argv: The program and its arguments.
        env: The whole environment.
        cwd: The working folder inside the container.
        hostname: The container's host name.
        mounts: The volumes, outer ones first.
        hosts: What `/etc/hosts` has in addition.
    """

    folder: Path
    argv: list[str]
    env: dict[str, str]
    cwd: str
    hostname: str
    mounts: list[Mount] = field(default_factory=list)
    hosts: str = ""

    @property
    def home(self) -> str:
        """The home inside the container."""
        return self.env["HOME"]


class Sandbox:
    """Turns container plans into command lines.

    Args:
        mode: The mode.
        state_dir: The state folder; containers do not see it.
    """

    def __init__(self, mode: Mode, state_dir: Path) -> None:
        self.mode = mode
        self._hidden = {os.path.realpath(place) for place in (*_HIDDEN, state_dir) if os.path.isdir(place)}
        self._shown = {place for place in _needed_folders() if _below(place, self._hidden)}

    def prepare(self, plan: ContainerPlan) -> tuple[list[str], dict[str, Any]]:
        """Make the container's folder and return the command line of its launcher, and its description.

        Blocking; to be called in a thread.
        """
        plan.folder.mkdir(parents=True, exist_ok=True)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER)]
        if self.mode == "bwrap":
            return [*self._bwrap(plan), *launcher], {"argv": plan.argv, "env": plan.env, "cwd": plan.cwd}
        home = _link_volumes(plan)
        env = {name: _moved(text, plan, home) for name, text in plan.env.items()}
        return launcher, {
            "argv": [_moved(text, plan, home) for text in plan.argv],
            "env": {**env, "HOME": str(home)},
            "cwd": str(_inside(home, plan.home, plan.cwd)),
        }

    def _bwrap(self, plan: ContainerPlan) -> list[str]:
        """Return the bubblewrap command line that builds the view of `plan`."""
        argv = ["bwrap", "--die-with-parent", "--unshare-pid", "--as-pid-1", "--unshare-uts"]
        argv += ["--hostname", plan.hostname[:63]]
        argv += _entries(Path("/"))
        argv += ["--proc", "/proc", "--dev", "/dev", "--ro-bind-try", "/sys", "/sys"]
        hosts = plan.folder / "hosts"
        machine = Path("/etc/hosts")
        hosts.write_text((machine.read_text("utf-8", "replace") if machine.exists() else "") + plan.hosts, "utf-8")
        mounts = [
            *(Mount(_private(plan.folder / f"hidden{place}"), place, read_only=False) for place in self._hidden),
            *(Mount(Path(place), place, read_only=True) for place in self._shown),
            Mount(hosts, "/etc/hosts", read_only=False),
            *plan.mounts,
        ]
        for place in (plan.home, plan.cwd):
            # These are made where they are missing, and a home can always be written to.
            targets = [m.target for m in mounts if not m.read_only]
            if place not in targets and (place == plan.home or not (os.path.lexists(place) or _below(place, targets))):
                mounts.insert(0, Mount(_private(plan.folder / f"own{place}"), place, read_only=False))
        mounts = [Mount(m.source, os.path.realpath(m.target), m.read_only) for m in mounts]
        # A stable sort: an outer folder comes before those inside it, and the pod's volumes win over the rest.
        mounts.sort(key=lambda m: m.target.count("/"))
        for place in _to_rebuild(mounts):
            argv += ["--tmpfs", place, *_entries(Path(place))]
        for mount in mounts:
            argv += ["--ro-bind" if mount.read_only else "--bind", str(mount.source.resolve()), mount.target]
        return [*argv, "--"]


def _needed_folders() -> set[str]:
    """Return the folders that a container needs: the interpreter's and those of its modules."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(_LAUNCHER.parent.parent)}
    places |= {str(Path(sys.executable).parent), str(Path(sys.executable).resolve().parent.parent)}
    places |= {place for place in (*sys.path, *site.getsitepackages()) if place and Path(place).is_dir()}
    return {os.path.realpath(place) for place in places} | {os.path.abspath(place) for place in places}


def _below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _entries(folder: Path) -> list[str]:
    """Return what shows the entries of `folder` read-only."""
    argv = []
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            argv += ["--symlink", os.readlink(entry), str(entry)]
        elif str(entry) not in _PSEUDO:
            argv += ["--ro-bind-try", str(entry), str(entry)]
    return argv


def _private(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o1777)
    return folder


def _to_rebuild(mounts: Sequence[Mount]) -> list[str]:
    """Return the folders in which a mount needs a new entry: those are rebuilt, as the machine's are read-only."""
    places: set[str] = set()
    writable = {m.target for m in mounts if not m.read_only}
    for target in {m.target for m in mounts if not os.path.lexists(m.target)}:
        place = os.path.dirname(target)
        if not _below(place, writable - {target}):
            while not os.path.isdir(place):
                place = os.path.dirname(place)
            places.add(place)
    # The root itself is bubblewrap's own already.
    return sorted(places - {"/"}, key=lambda place: place.count("/"))


def _inside(home: Path, container_home: str, target: str) -> Path:
    """Return where `target` of a container lies in plain mode."""
    if _below(target, [container_home]):
        return home / os.path.relpath(target, container_home)
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
    others.mkdir(exist_ok=True)
    own = next((mount.source for mount in plan.mounts if mount.target == plan.home), None)
    if own is None:
        home.mkdir(exist_ok=True)
    else:
        _link(home, own)
    _link(home / "volumes", others)
    for mount in plan.mounts:
        if mount.target != plan.home:
            _link(_inside(home, plan.home, mount.target), mount.source)
    return home


def _link(place: Path, target: Path) -> None:
    """Make `place` a link to `target`, in place of an older link; a file that is there stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    if not place.exists():
        place.symlink_to(target)
