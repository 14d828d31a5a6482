"""Reads files safely, even if another process is writing them or an attacker created them.

A file is read completely or not at all: its `stat` result must be the same before and after reading. Only regular files
inside their folder are read. FIFOs and devices do not block, and files that are too large are refused.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from profile_spawner.errors import Origin, SourceError

__all__ = ["MAX_FILE", "Fingerprint", "UnsettledError", "fingerprint", "is_temporary", "read_file", "walk"]

MAX_FILE = 1024 * 1024
"""The maximum size of a file, in bytes; it is also the maximum size of a ConfigMap."""

_SKIPPED = frozenset({"__pycache__", "node_modules"})


class UnsettledError(SourceError):
    """The file is being written. It is read again later."""


Fingerprint = tuple[int, int, int, int]
"""Size, times and inode of a file from `stat`. An equal fingerprint does not prove that the file is unchanged."""


def _fingerprint(found: os.stat_result) -> Fingerprint:
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def fingerprint(path: str) -> Fingerprint | None:
    """Return the fingerprint of the file at `path`; `None` if it does not exist."""
    try:
        return _fingerprint(os.stat(path))  # noqa: PTH116 - ten thousand files are looked at
    except OSError:
        return None


def is_temporary(name: str) -> bool:
    """Return whether a file name is that of a hidden file or of an editor's temporary file. These are ignored."""
    return name.startswith((".", "#")) or name.endswith(("~", ".swp", ".swx", ".tmp", ".pyc")) or name in _SKIPPED


def read_file(path: Path, root: Path, *, limit: int = MAX_FILE, code: bool = False, settle: float = 0.0) -> bytes:
    """Return the content of a regular file inside `root`, complete and unchanged while it was read.

    Args:
        path: The file. Symbolic links are followed as long as they stay inside `root`.
        root: The folder that must contain the file.
        limit: The maximum size, in bytes.
        code: Whether the file will be executed. Then only the user that runs the hub, or root, may have write access.
        settle: The minimum time since the last change of the file, in seconds.

    Raises:
        UnsettledError: If the file is being written.
        SourceError: If the file is refused or cannot be read. The message gives the reason.
    """
    origin = Origin(str(path))
    real_root = os.path.realpath(root)
    real = str(path)
    # A regular file directly in the folder is inside it. All other paths are resolved.
    if path.parent != Path(real_root) or os.path.islink(real):  # noqa: PTH114
        real = os.path.realpath(path)
    if not _inside(real, real_root):
        raise SourceError(
            "the link leads out of its folder",
            origin=origin,
            value=real,
            expected=f"a file inside {real_root}",
            hint="Copy the file into the folder",
        )
    data = _read_once(real, real_root, origin, limit, code, settle)
    if data is None:
        raise UnsettledError("the file changes while it is read", origin=origin)
    return data


def _inside(real: str, real_root: str) -> bool:
    return real == real_root or real.startswith(real_root.rstrip("/") + "/")


def _read_once(real: str, real_root: str, origin: Origin, limit: int, code: bool, settle: float) -> bytes | None:
    """Return the content; `None` if the file changed while it was read."""
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise SourceError(f"the file cannot be read: {e.strerror}", origin=origin) from None
    with contextlib.closing(_Descriptor(fd)):
        before = os.fstat(fd)
        _check(before, origin, limit, code)
        # A symbolic link may have been replaced since the check, so check the path of the opened file.
        with contextlib.suppress(OSError):
            opened = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            if not _inside(opened.removesuffix(" (deleted)"), real_root):
                raise SourceError("the link leads out of its folder", origin=origin, value=opened)
        if 0 <= time.time() - before.st_ctime < settle:
            raise UnsettledError("the file is being written", origin=origin)
        try:
            data = _read_all(fd, before.st_size)
        except OSError as e:
            raise SourceError(f"the file cannot be read: {e.strerror}", origin=origin) from None
        if len(data) == before.st_size and _fingerprint(os.fstat(fd)) == _fingerprint(before):
            return data
        return None


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)


def _read_all(fd: int, size: int) -> bytes:
    parts = []
    left = size + 1  # one more byte, to detect that the file grows
    while left > 0:
        part = os.read(fd, min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _check(found: os.stat_result, origin: Origin, limit: int, code: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(
            "this is not a regular file", origin=origin, value=stat.filemode(found.st_mode), expected="a regular file"
        )
    if found.st_size > limit:
        raise SourceError(
            "the file is too large",
            origin=origin,
            value=f"{found.st_size:,} bytes",
            expected=f"at most {limit:,} bytes",
            hint="Put large data into the image or on a volume",
        )
    if not code:
        return
    if found.st_mode & stat.S_IWOTH:
        raise SourceError(
            "everybody on this machine may write the file, so it is not run",
            origin=origin,
            value=stat.filemode(found.st_mode),
            hint=f"chmod o-w {origin.source}",
        )
    if found.st_uid not in (0, os.geteuid()):
        raise SourceError(
            "the file belongs to another user, so it is not run",
            origin=origin,
            value=f"uid {found.st_uid}",
            expected=f"uid 0 or {os.geteuid()}, as the hub",
        )


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files below `folder` in a fixed order, except temporary files."""
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not is_temporary(n))
        for name in sorted(names):
            if not is_temporary(name):
                yield Path(base, name)
