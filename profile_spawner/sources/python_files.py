"""Scans a folder for Python modules, and detects which modules have changed.

`stat` only selects the files to read; a comparison of the content decides whether a module has changed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError

from .files import Fingerprint, UnsettledError, fingerprint, is_temporary, read_file, walk
from .importing import ModuleFiles
from .units import Unit

__all__ = ["FolderScan", "PythonModule", "find_module"]

_KIND = "python"
_MAX_TREE = 64 * 1024 * 1024


class PythonModule:
    """The payload of a unit: a top-level module or package.

    Attributes:
        files: The Python files that will be imported.
        path: The file or folder.
        state: The fingerprint of the file when it was read; for a package, of each of its files.
        shared: The digest of the other files in the folder, which the module may use.
    """

    __slots__ = ("files", "path", "shared", "state")

    def __init__(
        self, files: ModuleFiles, path: Path, state: Fingerprint | Mapping[str, Fingerprint | None] | None, shared: str
    ) -> None:
        self.files = files
        self.path = path
        self.state = state
        self.shared = shared

    def seems_unchanged(self, shared: str) -> bool:
        """Return whether the fingerprints are the same as before."""
        if not self.files.is_package:
            return self.shared == shared and self.state == fingerprint(str(self.path))
        return self.state == _states(self.path)


def _states(folder: Path) -> dict[str, Fingerprint | None]:
    return {str(p): fingerprint(str(p)) for p in walk(folder)}


class _SharedAssets:
    """The files in a folder that are not modules. Any module that is a single file may use them."""

    def __init__(self) -> None:
        self._states: dict[str, Fingerprint | None] = {}
        self.digest = ""

    def look(self, paths: Iterable[Path], folder: Path, *, full: bool) -> str:
        """Return what stands for the content of all files in `paths`."""
        files = [f for p in paths for f in (walk(p) if p.is_dir() else (p,))]
        states = {str(f): fingerprint(str(f)) for f in files}
        if states == self._states and not full:
            return self.digest
        digest = hashlib.sha256()
        for file in files:
            try:
                content = read_file(file, folder)
            except SourceError:
                # It may have nothing to do with the profiles; whoever uses it will say so.
                content = repr(states[str(file)]).encode()
            digest.update(f"{file}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
        self._states, self.digest = states, digest.hexdigest() if files else ""
        return self.digest


class FolderScan:
    """Scans one folder repeatedly.

    Args:
        folder: The folder.
        settle: The minimum time since the last change of a file, in seconds.
    """

    def __init__(self, folder: Path, settle: float) -> None:
        self.folder = folder
        self._prefix = f"{_KIND}:{folder}/"
        self._source = str(folder)
        self._settle = settle
        self._assets = _SharedAssets()
        self._units: dict[str, Unit] = {}
        self._others: frozenset[str] = frozenset()
        self._pending: set[str] = set()

    @property
    def unsettled(self) -> bool:
        """Whether a file was being written, so that its old version was kept."""
        return bool(self._pending)

    def digest_of(self, key: str) -> str | None:
        """Return the digest of a unit as it was last seen."""
        unit = self._units.get(key.removeprefix(self._prefix))
        return unit.digest if unit is not None else None

    def look(self, *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return the modules by name.

        Args:
            full: Whether to read all files again.
            hints: The changed paths; `None` if they are not known.
        """
        touched = self._touched(hints) if self._units and not full else None
        if touched is None:
            try:
                with os.scandir(self.folder) as entries:
                    names = sorted(e.name for e in entries)
            except OSError as e:
                return self._unreadable(e)
            self._look_at_all(names, full=full)
        else:
            for name in touched:
                self._look_at(name, self._assets.digest, full=False, known=self._units.pop(name, None))
        return self._in_order()

    def _touched(self, hints: frozenset[str] | None) -> set[str] | None:
        """Return the names in the folder that have changed; `None` when all of it has to be looked at."""
        if hints is None:
            return None
        touched = set(self._pending)
        for hint in hints:
            if not hint.startswith(self._source + "/"):
                if hint == self._source:
                    return None
                continue
            name = hint[len(self._source) + 1 :].partition("/")[0]
            known = name in self._units or (name.endswith(".py") and not name.startswith("."))
            if not known:
                return None  # an asset, a link of a mounted ConfigMap, a new folder
            touched.add(name)
        return touched

    def _look_at_all(self, names: Sequence[str], *, full: bool) -> None:
        before, self._units = self._units, {}
        candidates: list[str] = []
        others = []
        for name in names:
            if is_temporary(name):
                continue
            if name.endswith(".py") or os.path.exists(f"{self._source}/{name}/__init__.py"):  # noqa: PTH110
                candidates.append(name)
            elif not name.startswith("_"):
                others.append(self.folder / name)
        shared = self._assets.look(others, self.folder, full=full)
        self._pending = set()
        for name in candidates:
            self._look_at(name, shared, full=full, known=before.get(name))

    def _look_at(self, name: str, shared: str, *, full: bool, known: Unit | None) -> None:
        """Bring one entry of the folder up to date."""
        if known is not None and not full and known.problem is None and known.payload.seems_unchanged(shared):
            self._units[name] = known
            self._pending.discard(name)
            return
        module = name.removesuffix(".py")
        if module.startswith("_") or "." in module or not os.path.lexists(f"{self._source}/{name}"):
            self._pending.discard(name)
            return
        try:
            unit: Unit | None = self._read(name, module, shared)
            self._pending.discard(name)
        except UnsettledError:
            self._pending.add(name)
            unit = known
        if unit is not None and known is not None and unit.digest == known.digest and known.problem is None:
            # The same object as before leaves the collector nothing new to look at.
            known.payload.state, unit = unit.payload.state, known
        if unit is not None:
            self._units[name] = unit

    def _read(self, name: str, module: str, shared: str) -> Unit:
        path = self.folder / name
        key = self._prefix + name
        single = name.endswith(".py")
        try:
            state = fingerprint(str(path)) if single else _states(path)
            sources, digest = _read_all(path, self.folder, self._settle)
        except UnsettledError:
            raise
        except ProfileSpawnerError as e:
            return Unit(key, _KIND, self._source, str(path), f"unreadable: {e}", None, e, module)
        payload = PythonModule(ModuleFiles(module, path, sources), path, state, shared if single else "")
        digest += shared if single else ""
        return Unit(key, _KIND, self._source, str(path), digest, payload, None, module)

    def _in_order(self) -> Sequence[Unit]:
        """Return the units by name; of a module and a package with one name the package counts, as in Python."""
        names = list(self._units)
        if any(a > b for a, b in itertools.pairwise(names)):
            self._units = {n: self._units[n] for n in sorted(self._units)}
        if any(n.endswith(".py") and n[:-3] in self._units for n in self._units):
            return [u for n, u in self._units.items() if n.removesuffix(".py") == n or n[:-3] not in self._units]
        return list(self._units.values())

    def _unreadable(self, error: OSError) -> Sequence[Unit]:
        problem = SourceError(
            f"the folder of profiles cannot be read: {error.strerror}",
            origin=Origin(self._source),
            hint="Create it, or correct the configuration (profiles_dirs)",
        )
        gone = Unit(f"{_KIND}:{self._source}", _KIND, self._source, self._source, str(problem), None, problem)
        # Its modules stay as they are: a volume may come back.
        return [gone, *self._in_order()]


def _read_all(path: Path, folder: Path, settle: float = 0.0) -> tuple[dict[str, bytes], str]:
    """Return the Python files of a module or package, and the digest of all its files."""
    sources: dict[str, bytes] = {}
    digest = hashlib.sha256()
    total = 0
    single = path.suffix == ".py"
    for file in (path,) if single else walk(path):
        code = file.suffix == ".py"
        data = read_file(file, folder, code=code, settle=settle)
        total += len(data)
        if total > _MAX_TREE:
            raise SourceError(
                f"the package has more than {_MAX_TREE:,} bytes", origin=Origin(str(path)), hint="Move data away"
            )
        digest.update(f"{file}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        digest.update(data)
        if code:
            sources["" if single else str(file.relative_to(path))] = data
    return sources, digest.hexdigest()


def find_module(folder: Path, name: str) -> ModuleFiles | None:
    """Read a module of `folder` as it is now; `None` when there is none of this name."""
    for path in (folder / name, folder / f"{name}.py"):
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.is_file()):
            return ModuleFiles(name, path, _read_all(path, folder)[0])
    return None
