"""Folders of Python modules: every module and package directly in a folder is imported."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.registry import Collector, RawProfile, collecting

from .failing import describe
from .files import Fingerprint, UnsettledError, fingerprint, is_temporary, read_file, walk
from .importing import RESERVED, Finder, FolderNamespace, ModuleFiles
from .trying import TrialProcess
from .units import Hold, Loaded, Unit

__all__ = ["PythonDirectory", "PythonModule", "find_module", "import_unit", "params_of"]

_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+(\w+)", re.MULTILINE)
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
        trial: Where they are imported first; `None` imports them at once.
        settle: How long a file must have been left alone, in seconds.
    """

    kind = "python"

    def __init__(self, folder: Path, finder: Finder, trial: TrialProcess | None, *, settle: float = 0.0) -> None:
        self.folder = folder.absolute()
        self.name = str(self.folder)
        self._finder = finder
        self._trial = trial
        self._assets = _SharedAssets()
        self._digests: dict[str, str] = {}
        self._settle = settle
        self.unsettled = False

    def watched(self) -> Sequence[str]:
        """Return the folder."""
        return [self.name]

    # ---------------------------------------------------------------------------------------------- scanning

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return the modules by name. Only what seems to have changed is read."""
        del hints
        self.unsettled = False
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
                unit = self._read(key, name, path, shared) or before
                if unit is not None:
                    units.append(unit)
        self._digests = {u.key: u.digest for u in units}
        return units

    def _unreadable(self, known: Mapping[str, Unit], error: OSError) -> Sequence[Unit]:
        problem = SourceError(
            f"the folder of profiles cannot be read: {error.strerror}",
            origin=Origin(self.name),
            hint="Create it, or correct the configuration (profiles_dirs)",
        )
        gone = Unit(f"{self.kind}:{self.name}", self.kind, self.name, self.name, str(problem), None, problem)
        # Its modules stay as they are: a volume may come back.
        return [
            gone,
            *(u for u in known.values() if (u.kind, u.source) == (self.kind, self.name) and u.key != gone.key),
        ]

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

    def _read(self, key: str, name: str, path: Path, shared: str) -> Unit | None:
        """Return the module as it is now; `None` while it is being written."""
        try:
            sources, states, digest = _read_all(path, self.folder, self._settle)
        except UnsettledError:
            self.unsettled = True
            return None
        except ProfileSpawnerError as e:
            return Unit(key, self.kind, self.name, str(path), f"unreadable: {e}", None, e, name)
        single = "" in sources
        if single:
            digest += shared
        payload = PythonModule(ModuleFiles(name, path, sources), states, path, shared if single else "")
        return Unit(key, self.kind, self.name, str(path), digest, payload, short_name=name)

    # ---------------------------------------------------------------------------------------------- loading

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Try the changed modules elsewhere, then import those that are fine, each with what it registers."""
        if not changed:
            return
        names = {u.short_name for u in changed}
        stay = {
            loaded.unit.short_name: loaded
            for loaded in current.values()
            if (loaded.unit.kind, loaded.unit.source) == (self.kind, self.name)
            and loaded.module
            and loaded.unit.short_name not in names
        }
        problems = self._try(changed, stay, current)
        refused = {u.short_name: str(problems[u.key][0]) for u in changed if problems.get(u.key)}
        good = [u for u in changed if not problems.get(u.key)]
        collectors = {u.short_name: Collector(self.name) for u in changed}

        def enter(name: str) -> AbstractContextManager[Any]:
            return collecting(collectors[name])

        prefix = self._finder.prefix_of(generation, self.name)
        unchanged = {name: loaded.module for name, loaded in stay.items() if name not in refused}
        modules = {u.short_name: u.payload.files for u in good}
        aliases = self._finder.aliases
        namespace = FolderNamespace(prefix, self.folder, modules, unchanged, enter, refused=refused, aliases=aliases)
        self._finder.install()
        self._finder.add(namespace)
        result = [import_unit(u, f"{prefix}.{u.short_name}", collectors[u.short_name]) for u in good]
        self._keep_together(result, namespace, stay)
        yield from result
        for unit in changed:
            if unit.short_name in refused:
                wrong = list(problems[unit.key])
                yield Loaded(unit, Collector(self.name), wrong, needs=_named_imports(unit))

    def _try(
        self, changed: Sequence[Unit], stay: Mapping[str, Loaded], current: Mapping[str, Loaded]
    ) -> Mapping[str, Sequence[ProfileSpawnerError]]:
        """Return what is wrong by the unit's key, after an import in the separate process."""
        if self._trial is None:
            return {}
        stale = {
            name: loaded.unit.payload.files
            for name, loaded in stay.items()
            if self._digests.get(loaded.unit.key) != loaded.unit.digest
        }
        own = {u.key for u in changed}
        return self._trial.run(changed, self.folder, stale, params_of(v for k, v in current.items() if k not in own))

    def _keep_together(self, result: Sequence[Loaded], namespace: FolderNamespace, stay: Mapping[str, Loaded]) -> None:
        """Let each module live as long as those that import it."""
        holds = {loaded.unit.short_name: loaded.hold for loaded in (*stay.values(), *result)}
        for loaded in result:
            name = loaded.unit.short_name
            hold = loaded.hold = Hold()
            holds[name] = hold
        for loaded in result:
            name = loaded.unit.short_name
            assert loaded.hold is not None
            # What is imported in a hook, later, counts as well: so the text is asked too.
            loaded.needs = _named_imports(loaded.unit) | namespace.imports.get(name, set())
            loaded.hold.needs = tuple(h for n in loaded.needs if (h := holds.get(n)) is not None and n != name)
            weakref.finalize(loaded.hold, self._finder.forget, namespace.prefix, name)


def _named_imports(unit: Unit) -> frozenset[str]:
    """Return which siblings a module may need: all names that its text imports, but for the standard library."""
    text = b"\n".join(unit.payload.files.sources.values())
    words = {w.decode("utf-8", "replace") for w in _IMPORT.findall(text)}
    return frozenset(words - {unit.short_name} - RESERVED)


def _read_all(
    path: Path, folder: Path, settle: float = 0.0
) -> tuple[dict[str, bytes], dict[str, Fingerprint | None], str]:
    sources: dict[str, bytes] = {}
    states: dict[str, Fingerprint | None] = {}
    digest = hashlib.sha256()
    total = 0
    single = path.suffix == ".py"
    for file in (path,) if single else walk(path):
        code = file.suffix == ".py"
        states[str(file)] = fingerprint(str(file))
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
    return sources, states, digest.hexdigest()


def params_of(loaded: Iterable[Loaded]) -> Collector | None:
    """Return the params and collections that these units define; `None` when there are none."""
    joined = Collector("params")
    for one in loaded:
        joined.params.update(one.collector.params)
        joined.collections.update(one.collector.collections)
    return joined if joined.params or joined.collections else None


def import_unit(unit: Unit, module: str, collector: Collector) -> Loaded:
    """Import one module and note what it registers. Never raises."""
    loaded = Loaded(unit, collector, module=module)
    try:
        importlib.import_module(module)
        note_places(collector, unit.payload.files)
    except BaseException as e:  # noqa: BLE001 - a module may raise anything, SystemExit included
        loaded.collector = Collector(unit.source)
        loaded.problems.append(describe(e, unit.payload.path))
    return loaded


def find_module(folder: Path, name: str) -> ModuleFiles | None:
    """Read a module of `folder` as it is now; `None` when there is none of this name."""
    for path in (folder / name, folder / f"{name}.py"):
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.is_file()):
            return ModuleFiles(name, path, _read_all(path, folder)[0])
    return None


def note_places(collector: Collector, files: ModuleFiles) -> None:
    """Note on each class where it stands, so that nobody has to search for it again."""
    for cls in collector.profiles.values():
        if isinstance(cls, RawProfile) or "__profile_origin__" in vars(cls):
            continue
        name, *parts = cls.__module__.split(".")[1:] or [""]
        found = files.find(parts) if name == files.name else None
        if found is not None:
            filename, source, _ = found
            line = _line_of_class(source, cls.__name__)
            cls.__profile_origin__ = Origin(filename, line)  # type: ignore[attr-defined]
            cls.__profile_lines__ = partial(_line_in_class, source, line)  # type: ignore[attr-defined]


def _line_of_class(source: bytes, name: str) -> int:
    match = re.search(rb"^[ \t]*class[ \t]+" + name.encode() + rb"\b", source, re.MULTILINE)
    return source.count(b"\n", 0, match.start()) + 1 if match else 0


def _line_in_class(source: bytes, start: int, name: str) -> int:
    """Return the line of an attribute or hook of the class that begins in line `start`; 0 when it is not found."""
    lines = source.splitlines()
    pattern = re.compile(rb"\s+(?:async\s+)?(?:def\s+)?" + re.escape(name.encode()) + rb"\b\s*[:=(]")
    for number in range(start, len(lines)):
        if lines[number][:1].strip():
            break  # the class has ended
        if pattern.match(lines[number]):
            return number + 1
    return 0
