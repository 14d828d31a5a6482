"""Imports the modules of a folder, with a package of its own for every load.

The modules of one load are submodules of a package such as `_profile_spawner_12`, so that versions live side by side
and a start that uses an older version keeps its code. Python's own finder (`FileFinder`) finds the files. The loader
differs from Python's in three ways: it runs the content that was read before, it writes and reads no bytecode, and
imports of modules of the same folder mean the versions that belong to this load.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import itertools
import linecache
import operator
import re
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from profile_spawner.errors import Origin
from profile_spawner.profiles.base import attribute_lines
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.registry import Collector, collecting

from .files import read_file

__all__ = ["FolderLoad", "imported_names", "provide_configurator", "ready_made"]

_RESERVED = frozenset({"profile_spawner", "configurator", *sys.stdlib_module_names})
"""Names that never mean a module of a folder."""
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#;]*)|import[ \t]+([^\n#;]+))", re.MULTILINE
)
_Node = TypeVar("_Node", bound=ast.AST)
_numbers = itertools.count(1)
_loads: weakref.WeakValueDictionary[str, FolderLoad] = weakref.WeakValueDictionary()
_folders: set[str] = set()


def imported_names(texts: Iterable[bytes]) -> frozenset[str]:
    """Return the modules of the same folder that code may import: all names that it imports."""
    words: set[bytes] = set()
    for text in texts:
        for module, names, modules in _IMPORT.findall(text):
            first = module.strip(b".").partition(b".")[0]
            words.update([first] if first else re.findall(rb"\w+", names))
            words.update(part.split()[0].partition(b".")[0] for part in modules.split(b",") if part.strip())
    return frozenset(word.decode("utf-8", "replace") for word in words) - _RESERVED


class FolderLoad:
    """The modules of one load of a folder. When nothing refers to this object any more, they leave `sys.modules`.

    Args:
        folder: The folder.
        modules: The modules of this load by name: the content of their files by path.
        siblings: Modules of the folder that stay as they are, with the loads to which they belong.
        refused: Modules of the folder that must not be imported, and why.

    Attributes:
        package: The package of the modules.
        collectors: What the modules register. What a module registers belongs to it, also when a sibling imports it.
    """

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, Mapping[str, bytes]],
        siblings: Mapping[str, FolderLoad],
        refused: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.package = f"_profile_spawner_{next(_numbers)}"
        self.collectors = {name: Collector(str(folder)) for name in modules}
        self.refused = refused
        self.contents = {path: content for files in modules.values() for path, content in files.items()}
        self._siblings = siblings
        self._classes: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}
        self._names = {name: load.package for name, load in siblings.items()}
        self._names |= dict.fromkeys([*modules, *refused], self.package)
        spec = importlib.machinery.ModuleSpec(self.package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[self.package] = importlib.util.module_from_spec(spec)
        _loads[self.package] = self
        weakref.finalize(self, _forget, self.package).atexit = False
        if _find not in sys.path_hooks:
            sys.path_hooks.insert(0, _find)
        if str(folder) not in _folders:
            _folders.add(str(folder))
            for path in [p for p in list(sys.path_importer_cache) if _is_ours(p)]:
                del sys.path_importer_cache[path]
        importlib.invalidate_caches()  # files may have come since the folder was listed

    def import_module(self, name: str) -> None:
        """Import a module of the folder, and note the lines of its profiles. It raises whatever the module raises."""
        importlib.import_module(f"{self.package}.{name}")
        for profile in self.collectors[name].profiles.values():
            if not isinstance(profile, ClassProfile):
                continue
            cls: Any = profile.cls
            found = self._classes.get((cls.__module__, cls.__name__))
            if found is not None and "__profile_origin__" not in vars(cls):
                line, lines = found
                cls.__profile_origin__ = Origin(sys.modules[cls.__module__].__file__ or "", line)
                cls.__profile_lines__ = partial(_line_of, lines)

    def bind(self, tree: ast.AST, module: str, is_package: bool) -> bool:
        """Let the imports in a module's code mean the versions that belong to this load, and note its classes.

        Returns:
            Whether the code has changed.
        """
        single = "" if is_package else module.split(".", 1)[1]  # a module `dask.py` that imports `dask` means another
        parent = module if is_package else module.rpartition(".")[0]
        changed = False
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self._classes[module, node.name] = (node.lineno, attribute_lines(node))
            for field in ("body", "orelse", "finalbody"):
                statements = getattr(node, field, None)
                if isinstance(statements, list):
                    bound = [new for old in statements for new in self._bound(old, single, parent)]
                    changed = changed or len(bound) != len(statements) or any(map(operator.is_not, bound, statements))
                    setattr(node, field, bound)
        return changed

    def _bound(self, node: ast.AST, single: str, parent: str) -> Iterator[ast.AST]:
        if isinstance(node, ast.ImportFrom):
            yield from self._bound_from(node, single, parent)
        elif isinstance(node, ast.Import) and any(self._package_of(a.name, single) for a in node.names):
            for alias in node.names:
                package, top = self._package_of(alias.name, single), alias.name.partition(".")[0]
                full = (
                    alias
                    if package is None
                    else _like(alias, ast.alias(f"{package}.{alias.name}", alias.asname or top))
                )
                yield _like(node, ast.Import([full]))
                if package is not None and not alias.asname:  # `import a.b` gives the name `a`
                    yield _like(node, ast.ImportFrom(package, [_like(alias, ast.alias(top))], 0))
        else:
            yield node

    def _bound_from(self, node: ast.ImportFrom, single: str, parent: str) -> Iterator[ast.AST]:
        target = node.module or ""
        package = None if node.level else self._package_of(target, single)
        if node.level:
            with suppress(ImportError):
                target = importlib.util.resolve_name("." * node.level + target, parent)
            if target == self.package:  # `from . import helper`
                for alias in node.names:
                    package = self._names.get(alias.name, self.package)
                    yield _like(node, ast.ImportFrom(package, [alias], 0))
                return
            if target.startswith(f"{self.package}."):
                target = target.removeprefix(f"{self.package}.")
                package = self._names.get(target.partition(".")[0])
        yield node if package is None else _like(node, ast.ImportFrom(f"{package}.{target}", node.names, 0))

    def _package_of(self, module: str, single: str) -> str | None:
        """Return the package of a module of the folder; `None` for all other modules."""
        name = module.partition(".")[0]
        if name in _RESERVED or name == single:
            return None
        if name not in self._names and (self.folder / name).is_dir() and importlib.util.find_spec(name) is None:
            return self.package  # a folder without `__init__.py`: its modules belong to those that import them
        return self._names.get(name)


def _like(old: ast.AST, new: _Node) -> _Node:
    """Return `new` with the line of `old`."""
    return ast.copy_location(new, old)


def _line_of(lines: Mapping[str, int], name: str) -> int:
    return lines.get(name, 0)


def _forget(package: str) -> None:
    for name in [n for n in list(sys.modules) if n == package or n.startswith(f"{package}.")]:
        sys.modules.pop(name, None)


def _is_ours(path: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in _folders)


def _find(path: str) -> importlib.machinery.FileFinder:
    """Return the finder for a folder of profiles; the path hook of this module."""
    if not _is_ours(path):
        raise ImportError("not a folder of profiles", path=path)
    return importlib.machinery.FileFinder(path, (_loader, [".py"]))  # type: ignore[arg-type]


def _loader(name: str, path: str) -> importlib.machinery.SourceFileLoader:
    ours = name.partition(".")[0] in _loads
    return (_ProfileLoader if ours else importlib.machinery.SourceFileLoader)(name, path)


class _ProfileLoader(importlib.machinery.SourceFileLoader):
    """Loads one file of a `FolderLoad`. It does not refer to the load, because modules refer to their loaders."""

    @property
    def _load(self) -> FolderLoad:
        load = _loads.get(self.name.partition(".")[0])
        if load is None:
            raise ImportError("this version of the profiles is no longer in use", name=self.name)
        return load

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raise `OSError`, so that no bytecode is read or written."""
        raise OSError(path)

    def get_data(self, path: str) -> bytes:
        """Return the content that was read before; other files are read now."""
        content = self._load.contents.get(str(path))
        if content is None and str(path).endswith(".py"):
            return read_file(Path(path), self._load.folder, code=True)
        return Path(path).read_bytes() if content is None else content

    def source_to_code(self, data: Any, path: Any, **_: Any) -> types.CodeType:  # type: ignore[override]
        """Compile a module, and show its lines to tracebacks and `inspect` even when the file changes."""
        with suppress(SyntaxError, UnicodeDecodeError):
            text = importlib.util.decode_source(data)
            linecache.cache[path] = (len(data), None, text.splitlines(keepends=True), path)
        tree = ast.parse(data, path)
        changed = self._load.bind(tree, self.name, self.is_package(self.name))
        code: types.CodeType = compile(tree if changed else data, path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module. What it registers belongs to the top-level module or package."""
        name = self.name.split(".")[1]
        if name in self._load.refused:
            raise ImportError(f"{name}, in the same folder, is broken: {self._load.refused[name]}", name=name)
        collector = self._load.collectors.get(name)
        with nullcontext() if collector is None else collecting(collector):
            super().exec_module(module)


def provide_configurator() -> None:
    """Make the package `configurator` importable in this process, and `loguru` where it is not installed."""
    if "configurator" in sys.modules:
        return
    path = Path(__file__).parent / "configurator"
    spec = importlib.util.spec_from_file_location(
        "configurator", path / "__init__.py", submodule_search_locations=[str(path)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["configurator"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    if importlib.util.find_spec("loguru") is None:
        sys.modules["loguru"] = importlib.import_module("configurator.loguru")


def ready_made() -> Mapping[str, Any]:
    """Return the profiles of the package `configurator`, by slug, and make it importable."""
    provide_configurator()
    profiles: Mapping[str, Any] = importlib.import_module("configurator.apps.registry").ready_made()
    return profiles
