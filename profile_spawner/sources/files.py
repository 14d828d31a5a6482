"""Reads files safely, even if another process is writing them or an attacker created them.

A file is read completely or not at all: its `stat` result must be the same before and after reading. Only regular files
inside their folder are read. FIFOs and devices do not block, and files that are too large are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from profile_spawner.errors import Origin, SourceError

__all__ = [
    "Fingerprint",
    "ReadFiles",
    "UnsettledError",
    "fingerprint",
    "is_temporary",
    "read_file",
    "read_files",
    "walk",
]

MAX_FILE = 1024 * 1024
"""The maximum size of a file, in bytes; it is also the maximum size of a ConfigMap."""

_MAX_TREE = 64 * 1024 * 1024
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


@dataclass(frozen=True)
class ReadFiles:
    """Files that were read together.

    Attributes:
        contents: Their contents, by path; empty if they were read to notice changes only.
        digest: A hash of paths and contents.
        states: The fingerprints when they were read, by path.
    """

    contents: Mapping[str, bytes]
    digest: str
    states: Mapping[str, Fingerprint | None]

    def seem_unchanged(self, paths: Iterable[str]) -> bool:
        """Return whether the files at `paths` are these, with the same fingerprints."""
        return self.states == {path: fingerprint(path) for path in paths}


def read_files(
    paths: Iterable[str], root: Path, *, limit: int = MAX_FILE, settle: float = 0.0, tolerant: bool = False
) -> ReadFiles:
    """Read files inside `root`; see `read_file`. Python files are read as code.

    Args:
        paths: The files.
        root: The folder that must contain them.
        limit: The maximum size of one file, in bytes.
        settle: The minimum time since the last change of a file, in seconds.
        tolerant: Whether they are read to notice changes only. An error then becomes part of the hash.

    Raises:
        UnsettledError: If a file is being written.
        SourceError: If a file is refused or cannot be read, or if all files together are too large.
    """
    states = {path: fingerprint(path) for path in paths}
    contents: dict[str, bytes] = {}
    digest = hashlib.sha256()
    total = 0
    for path in states:
        try:
            found = read_file(Path(path), root, limit=limit, code=path.endswith(".py") and not tolerant, settle=settle)
        except SourceError as e:
            if not tolerant or (settle and isinstance(e, UnsettledError)):
                raise
            found = str(e).encode()
        if not tolerant:
            contents[path] = found
        total += len(found)
        if total > _MAX_TREE and not tolerant:
            place = Origin(os.path.commonpath(states))
            raise SourceError(f"the files have more than {_MAX_TREE:,} bytes", origin=place, hint="Move data away")
        digest.update(f"{path}\0{len(found)}\0".encode("utf-8", "surrogateescape") + found)
    return ReadFiles(contents, digest.hexdigest(), states)


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
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
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
            with open(fd, "rb", closefd=False) as file:
                data = file.read(before.st_size + 1)  # one more byte, to detect that the file grows
        except OSError as e:
            raise SourceError(f"the file cannot be read: {e.strerror}", origin=origin) from None
        if len(data) == before.st_size and _fingerprint(os.fstat(fd)) == _fingerprint(before):
            return data
        return None


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


def walk(folder: str) -> Iterator[str]:
    """Yield all files below `folder` in a fixed order, except temporary files."""
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not is_temporary(n))
        yield from (f"{base}/{name}" for name in sorted(names) if not is_temporary(name))
