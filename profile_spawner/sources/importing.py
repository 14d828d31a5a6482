"""Imports the modules of a folder under unique names, from content that was already read.

Neither `sys.path` nor the plain names in `sys.modules` are touched: module `tools` of a folder becomes
`_profile_spawner_g12_<folder>.tools`, so that generations live side by side and a spawn in flight keeps its own code.
Inside these modules `import tools`, `from tools import x` and relative imports find siblings of the same generation.
No bytecode is written or read: what runs is exactly the content that was read.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.readers import FileReader
from pathlib import Path
from typing import Any

from profile_spawner.names import identity_hash

__all__ = ["RESERVED", "Finder", "FolderNamespace", "ModuleFiles", "aliases_for"]

RESERVED = frozenset({"profile_spawner", "configurator", *sys.stdlib_module_names})
"""Names that never mean a module of a folder."""


class ModuleFiles:
    """The Python files of one top-level module or package, read before.

    Args:
        name: The module's name in its folder.
        path: The file, or the package's folder.
        sources: The content by path relative to `path`; the empty path for a single file.
    """

    def __init__(self, name: str, path: Path, sources: Mapping[str, bytes]) -> None:
        self.name = name
        self.path = path
        self.is_package = "" not in sources
        self.sources = sources

    def find(self, parts: Sequence[str]) -> tuple[str, bytes, bool] | None:
        """Return path, source and whether it is a package, for a submodule given by its dotted parts."""
        if not self.is_package:
            return None if parts else (str(self.path), self.sources[""], False)
        base = "/".join(parts)
        for relative, package in ((f"{base}/__init__.py" if base else "__init__.py", True), (f"{base}.py", False)):
            source = self.sources.get(relative)
            if source is not None:
                return str(self.path / relative), source, package
        return None

    def is_folder(self, parts: Sequence[str]) -> bool:
        """Return whether `parts` is a folder without `__init__.py` that holds modules."""
        base = "/".join(parts) + "/"
        return any(relative.startswith(base) for relative in self.sources)


def aliases_for(configurator: bool) -> Mapping[str, str]:
    """Return the packages that modules find under another name: `configurator`, and `loguru` where it is missing."""
    if not configurator:
        return {}
    aliases = {"configurator": "profile_spawner.sources.configurator"}
    if not _installed("loguru"):
        aliases["loguru"] = "profile_spawner.sources.configurator.loguru"
    return aliases


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of all living namespaces; stands in `sys.meta_path` once per service.

    Args:
        configurator: Whether `configurator` is found by the modules, see `aliases_for`.
    """

    def __init__(self, *, configurator: bool = False) -> None:
        self.namespaces: dict[str, FolderNamespace] = {}
        self.aliases = aliases_for(configurator)
        self._token = uuid.uuid4().hex  # two services may load the same folder

    def prefix_of(self, generation: int, folder: str) -> str:
        """Return the package under which the modules of `folder` are imported in `generation`."""
        return f"_profile_spawner_g{generation}_{identity_hash(folder, self._token)[:10]}"

    def install(self) -> None:
        """Add this finder to `sys.meta_path` before the finders for files. It finds only names of its namespaces."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Remove this finder from `sys.meta_path`."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Find a module of one of the namespaces."""
        del path, target
        namespace = self.namespaces.get(fullname.partition(".")[0])
        return namespace.find(fullname) if namespace is not None else None

    def add(self, namespace: FolderNamespace) -> None:
        """Make the modules of `namespace` importable by their full names."""
        package = types.ModuleType(namespace.prefix, f"Profiles of {namespace.folder}.")
        package.__path__ = []
        package.__spec__ = importlib.machinery.ModuleSpec(namespace.prefix, None, is_package=True)
        self.namespaces[namespace.prefix] = namespace
        sys.modules[namespace.prefix] = package

    def forget(self, prefix: str, name: str) -> None:
        """Forget one top-level module that nothing uses any more, and the namespace with its last one."""
        package = sys.modules.get(prefix)
        if package is not None:
            vars(package).pop(name, None)
        namespace = self.namespaces.get(prefix)
        if namespace is not None:
            namespace.modules.pop(name, None)
            for loaded in namespace.found.pop(name, ()):
                sys.modules.pop(loaded, None)
            if not namespace.modules:
                self.namespaces.pop(prefix, None)
                sys.modules.pop(prefix, None)


class FolderNamespace:
    """The modules of one folder in one generation.

    Args:
        prefix: See `Finder.prefix_of`.
        folder: The folder, for messages.
        modules: What is imported in this generation, by name.
        unchanged: Names of modules that stay from earlier generations, with their full names.
        enter: Called with a module's name when its import begins, returns a context manager: what it registers belongs
            to it, even if a sibling's import started it.
        refused: Modules of the folder that must not be imported, and why.
        others: Finds further modules of the folder by name; `None` when there are none.
        siblings: Finds the full names of further modules that stay from earlier generations, until `seal()`.
        aliases: See `aliases_for`.
    """

    def __init__(
        self,
        prefix: str,
        folder: Path,
        modules: Mapping[str, ModuleFiles],
        unchanged: Mapping[str, str],
        enter: Callable[[str], AbstractContextManager[Any]],
        *,
        refused: Mapping[str, str] | None = None,
        others: Callable[[str], ModuleFiles | None] | None = None,
        siblings: Callable[[str], str | None] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.prefix = prefix
        self.folder = folder
        self.modules = dict(modules)
        self.names = {**unchanged, **{name: f"{prefix}.{name}" for name in modules}}
        self.imports: dict[str, set[str]] = {}
        self.found: dict[str, list[str]] = {}
        self._enter = enter
        self._refused = refused or {}
        self._others = others
        self._siblings = siblings
        self._aliases = aliases or {}
        # One dictionary for all modules; their `import` statements look up `__import__` in it.
        self._builtins = {**vars(builtins), "__import__": self._import}

    def find(self, fullname: str) -> importlib.machinery.ModuleSpec:
        """Return the spec of a module of this namespace.

        Raises:
            ModuleNotFoundError: If there is none, so that other finders do not search for a file that was not read.
        """
        name, *parts = fullname[len(self.prefix) + 1 :].split(".")
        files = self.modules.get(name)
        found = files.find(parts) if files is not None else None
        if files is None or (found is None and not (parts and files.is_folder(parts))):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        self.found.setdefault(name, []).append(fullname)
        if found is None:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(files.path.joinpath(*parts))]
            return spec
        filename, source, package = found
        loader = _Loader(self, fullname, filename, source, package)
        spec = importlib.machinery.ModuleSpec(fullname, loader, origin=filename, is_package=package)
        spec.has_location = True
        spec.cached = None
        if package:
            spec.submodule_search_locations = [str(Path(filename).parent)]
        return spec

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the names of `__import__`
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        """Import for modules of this namespace: siblings come after the standard library, before what is installed."""
        top = name.partition(".")[0]
        if top in self._aliases and not level:
            module = builtins.__import__(self._aliases[top] + name[len(top) :], globals, locals, fromlist or (), 0)
            return module if fromlist else sys.modules[self._aliases[top]]
        full = self._sibling(top) if not level else None
        importer = (globals or {}).get("__name__", "")
        own = importer[len(self.prefix) + 1 :].partition(".")[0] if importer.startswith(self.prefix) else ""
        # A module `dask.py` that says `import dask` means the installed one, if there is one.
        if full is None or (own == top and _installed(top)):
            return self._import_installed(own, name, globals, locals, fromlist or (), level)
        if own and own != top:
            self.imports.setdefault(own, set()).add(top)
            if top in self._refused:
                raise ImportError(f"{top}, in the same folder, is broken: {self._refused[top]}", name=top)
        module = builtins.__import__(full + name[len(top) :], globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[full]

    def _sibling(self, name: str) -> str | None:
        """Return the full name of a module of this folder; `None` when the name means something else."""
        if name in RESERVED:
            return None
        if name in self._refused:
            return f"{self.prefix}.{name}"
        if name not in self.names and self._others is not None:
            files = self._others(name)
            if files is not None:
                self.modules[name] = files
                self.names[name] = f"{self.prefix}.{name}"
        if name not in self.names and self._siblings is not None:
            found = self._siblings(name)
            if found is not None:
                self.names[name] = found
        return self.names.get(name)

    def seal(self) -> None:
        """Let no further names in: what is imported from now on means what it meant when the modules were loaded."""
        self._siblings = None

    def _import_installed(self, own: str, name: str, *rest: Any) -> types.ModuleType:
        try:
            return builtins.__import__(name, *rest)
        except ModuleNotFoundError as e:
            # It may become a sibling later: then this module has to be loaded again.
            if own and e.name and "." not in e.name:
                self.imports.setdefault(own, set()).add(e.name)
            raise

    def execute(self, module: types.ModuleType, code: types.CodeType) -> None:
        """Run a module's code in this namespace."""
        vars(module)["__builtins__"] = self._builtins
        name, _, rest = module.__name__[len(self.prefix) + 1 :].partition(".")
        if rest:
            exec(code, vars(module))  # noqa: S102 - this is the import of an administrator's module
            return
        with self._enter(name):
            exec(code, vars(module))  # noqa: S102


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.machinery.PathFinder.find_spec(name) is not None


class _Loader(importlib.abc.InspectLoader):
    """Runs source that was read before."""

    def __init__(self, namespace: FolderNamespace, fullname: str, filename: str, source: bytes, package: bool) -> None:
        self._namespace = namespace
        self.name = fullname
        self.path = filename
        self._source = source
        self._package = package

    def is_package(self, fullname: str) -> bool:
        del fullname
        return self._package

    def get_source(self, fullname: str) -> str:
        del fullname
        return importlib.util.decode_source(self._source)

    def get_code(self, fullname: str) -> types.CodeType:
        del fullname
        code: types.CodeType = compile(self._source, self.path, "exec", dont_inherit=True)
        return code

    def get_data(self, path: str) -> bytes:
        """Return an asset, for `pkgutil.get_data`."""
        return Path(path).read_bytes()

    def get_resource_reader(self, fullname: str) -> Any:
        """Return the assets of a package, for `importlib.resources`."""
        del fullname
        return FileReader(self)  # type: ignore[arg-type]

    def exec_module(self, module: types.ModuleType) -> None:
        linecache.cache.pop(self.path, None)  # lines of an earlier version
        self._namespace.execute(module, self.get_code(self.name))
