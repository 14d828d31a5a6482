"""Folders of Python modules: every module and package directly in a folder is imported."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.profile import BaseAppProfile
from profile_spawner.registry import Collector, RawProfile, collecting

from .failing import describe
from .files import Fingerprint, fingerprint, is_temporary, read_file, walk
from .importing import Finder, FolderNamespace, ModuleFiles, prefix_of
from .units import Hold, Loaded, Unit

__all__ = ["PythonDirectory", "PythonModule"]

_MAX_TREE = 64 * 1024 * 1024


class PythonModule:
    """The payload of a unit: a top-level module or package.

    Attributes:
        files: Its Python files, as they will be imported.
        states: What `stat` said about each of its files when they were read.
        path: The file or folder.
        shared: The digest of the files beside it that it may use.
    """

    def __init__(self, files: ModuleFiles, states: Mapping[str, Fingerprint | None], path: Path, shared: str) -> None:
        self.files = files
        self.states = states
        self.path = path
        self.shared = shared


class _SharedAssets:
    """The files beside the modules of a folder: any module that is a single file may use them."""

    def __init__(self) -> None:
        self._states: dict[str, Fingerprint | None] = {}
        self._digest = ""

    def digest(self, paths: Sequence[Path], folder: Path, *, full: bool) -> str:
        """Return what stands for the content of all files in `paths`."""
        files = [f for p in paths for f in (walk(p) if p.is_dir() else (p,))]
        states = {str(f): fingerprint(str(f)) for f in files}
        if states == self._states and not full:
            return self._digest
        digest = hashlib.sha256()
        for file in files:
            try:
                content = read_file(file, folder)
            except SourceError:
                # It may have nothing to do with the profiles; whoever uses it will say so.
                content = repr(states[str(file)]).encode()
            digest.update(f"{file}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
        self._states, self._digest = states, digest.hexdigest() if files else ""
        return self._digest


def _seems_unchanged(unit: Unit, shared: str) -> bool:
    if unit.problem is not None:
        return False
    module: PythonModule = unit.payload
    if not module.files.is_package:
        path = str(module.path)
        return module.shared == shared and module.states[path] == fingerprint(path)
    return module.states == {str(p): fingerprint(str(p)) for p in walk(module.path)}


class PythonDirectory:
    """One folder.

    Args:
        folder: The folder.
        finder: Where the modules are made importable.
    """

    kind = "python"

    def __init__(self, folder: Path, finder: Finder) -> None:
        self.folder = folder.absolute()
        self.name = str(self.folder)
        self._finder = finder
        self._assets = _SharedAssets()

    def watched(self) -> Sequence[str]:
        """Return the folder."""
        return [self.name]

    # ---------------------------------------------------------------------------------------------- scanning

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return the modules by name. Only what seems to have changed is read."""
        del hints
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(e.name for e in entries)
        except OSError as e:
            return self._unreadable(known, e)
        modules, others = self._sort(names)
        shared = self._assets.digest(others, self.folder, full=full)
        units = []
        for name, path in modules.items():
            key = f"{self.kind}:{path}"
            before = known.get(key)
            if before is not None and not full and _seems_unchanged(before, shared):
                units.append(before)
            else:
                units.append(self._read(key, name, path, shared))
        return units

    def _unreadable(self, known: Mapping[str, Unit], error: OSError) -> Sequence[Unit]:
        problem = SourceError(
            f"the folder of profiles cannot be read: {error.strerror}",
            origin=Origin(self.name),
            hint="Create it, or correct the configuration (profiles_dirs)",
        )
        gone = Unit(f"{self.kind}:{self.name}", self.kind, self.name, self.name, str(problem), None, problem)
        # Its modules stay as they are: a volume may come back.
        return [gone, *(u for u in known.values() if u.source == self.name and u.key != gone.key)]

    def _sort(self, names: Sequence[str]) -> tuple[dict[str, Path], list[Path]]:
        """Return the modules by name, and the other files and folders, which may be assets of any of them."""
        modules: dict[str, Path] = {}
        others = []
        for name in names:
            path = self.folder / name
            if is_temporary(name):
                continue
            stem, suffix = path.stem, path.suffix
            if suffix == ".py":
                if not stem.startswith("_") and "." not in stem:
                    modules.setdefault(stem, path)
            elif (path / "__init__.py").exists():
                modules[name] = path
            elif not name.startswith("_"):
                others.append(path)
        return modules, others

    def _read(self, key: str, name: str, path: Path, shared: str) -> Unit:
        try:
            sources, states, digest = self._read_all(path)
        except ProfileSpawnerError as e:
            return Unit(key, self.kind, self.name, str(path), f"unreadable: {e}", None, e, name)
        single = "" in sources
        if single:
            digest += shared
        payload = PythonModule(ModuleFiles(name, path, sources), states, path, shared if single else "")
        return Unit(key, self.kind, self.name, str(path), digest, payload, short_name=name)

    def _read_all(self, path: Path) -> tuple[dict[str, bytes], dict[str, Fingerprint | None], str]:
        sources: dict[str, bytes] = {}
        states: dict[str, Fingerprint | None] = {}
        digest = hashlib.sha256()
        total = 0
        single = not path.is_dir()
        for file in (path,) if single else walk(path):
            code = file.suffix == ".py"
            states[str(file)] = fingerprint(str(file))
            data = read_file(file, self.folder, code=code)
            total += len(data)
            if total > _MAX_TREE:
                raise SourceError(
                    f"the package has more than {_MAX_TREE:,} bytes", origin=Origin(str(path)), hint="Move data away"
                )
            digest.update(f"{file}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
            digest.update(data)
            if code:
                sources["" if single else str(file.relative_to(path))] = data
        return sources, states, digest.hexdigest()

    # ---------------------------------------------------------------------------------------------- loading

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Import the changed modules, one by one, each with what it registers."""
        if not changed:
            return
        modules = {u.short_name: u.payload.files for u in changed}
        stay = {
            loaded.unit.short_name: loaded
            for loaded in current.values()
            if loaded.unit.source == self.name and loaded.module and loaded.unit.short_name not in modules
        }
        prefix = prefix_of(generation, self.name)
        collectors = {name: Collector(self.name) for name in modules}

        def enter(name: str) -> AbstractContextManager[Any]:
            return collecting(collectors[name])

        unchanged = {name: loaded.module for name, loaded in stay.items()}
        namespace = FolderNamespace(prefix, self.folder, modules, unchanged, enter)
        self._finder.install()
        self._finder.add(namespace)
        result = [self._load_one(u, f"{prefix}.{u.short_name}", collectors[u.short_name]) for u in changed]
        holds = {loaded.unit.short_name: loaded.hold for loaded in (*stay.values(), *result)}
        for loaded in result:
            assert loaded.hold is not None
            name = loaded.unit.short_name
            loaded.needs = frozenset(namespace.imports.get(name, ()))
            loaded.hold.needs = tuple(h for n in loaded.needs if (h := holds.get(n)) is not None and n != name)
            weakref.finalize(loaded.hold, self._finder.forget, prefix, name)
            yield loaded

    def _load_one(self, unit: Unit, module: str, collector: Collector) -> Loaded:
        loaded = Loaded(unit, collector, hold=Hold(), module=module)
        try:
            importlib.import_module(module)
            note_places(collector, unit.payload.files)
        except BaseException as e:  # noqa: BLE001 - a module may raise anything, SystemExit included
            loaded.collector = Collector(self.name)
            loaded.problems.append(describe(e, unit.payload.path))
        return loaded


def note_places(collector: Collector, files: ModuleFiles) -> None:
    """Note on each class where it stands, so that nobody has to search for it again."""
    for cls in collector.profiles.values():
        if isinstance(cls, RawProfile) or "__profile_origin__" in vars(cls):
            continue
        name, *parts = cls.__module__.split(".")[1:] or [""]
        found = files.find(parts) if name == files.name else None
        if found is not None:
            filename, source, _ = found
            cls.__profile_origin__ = Origin(filename, _line_of_class(source, cls))  # type: ignore[attr-defined]


def _line_of_class(source: bytes, cls: type[BaseAppProfile]) -> int:
    match = re.search(rb"^[ \t]*class[ \t]+" + cls.__name__.encode() + rb"\b", source, re.MULTILINE)
    return source.count(b"\n", 0, match.start()) + 1 if match else 0
