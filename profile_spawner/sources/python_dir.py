"""The source for folders of Python modules. Every module and package directly in the folder is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traitlets import HasTraits, List, Unicode

from profile_spawner.errors import Origin, SourceError
from profile_spawner.profiles.registry import Collector

from .files import ReadFiles, UnsettledError, is_temporary, read_files, walk
from .importing import FolderLoad, imported_names
from .source_items import Load, LoadedItem, LoadSession, Source, SourceItem
from .tracebacks import describe

__all__ = ["PythonDirectory"]


class FolderSettings(HasTraits):
    """The setting of this source."""

    profiles_dirs = List(
        Unicode(),
        config=True,
        help="""
        Folders with Python modules that register profiles.

        Every module and package directly in a folder is loaded; a broken one is reported with file and line and does
        not affect the others. A Python module is hub code: who can write to these folders controls the hub.
        """,
    )


@dataclass(frozen=True)
class _Module:
    """The payload of an item.

    Attributes:
        files: The files of the module or package, with the content of the Python files.
        shared: A hash of the other files in the folder, which a module that is a single file may use; else empty.
    """

    files: ReadFiles
    shared: str


class PythonDirectory(Source):
    """One folder."""

    kind = "python"
    settings = FolderSettings

    def __init__(self, folder: Path, settle: float) -> None:
        self.folder = folder.absolute()
        self.name = str(self.folder)
        self._settle = settle
        self._shared = ReadFiles({}, "", {})

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return a source for each folder."""
        return [cls(Path(folder), settle) for folder in settings.profiles_dirs]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "name": self.name}

    def watched(self) -> Sequence[str]:
        """Return the folder."""
        return [self.name]

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return the modules by name. Only what seems to have changed is read."""
        self.unsettled = False
        try:
            names = sorted(name for name in os.listdir(self.name) if not is_temporary(name))  # noqa: PTH208 - quick
        except OSError as e:
            problem = SourceError(
                f"the folder of profiles cannot be read: {e.strerror}",
                origin=Origin(self.name),
                hint="Create it, or correct the configuration (profiles_dirs)",
            )
            return [self.unreadable(problem), *self.own(known)]  # a volume may come back
        found: dict[str, str] = {}
        others: list[str] = []
        for name in names:
            path, module = f"{self.name}/{name}", name.removesuffix(".py")
            is_module = name != module or os.path.exists(f"{path}/__init__.py")  # noqa: PTH110 - quick
            if module.startswith("__") or "." in module or not is_module:
                others.append(path)
            else:
                found.setdefault(module, path)  # as in Python, a package comes before a module of the same name
        shared = self._look_at_shared(others, full=full)
        items = [self._item(known, module, path, shared, full=full) for module, path in found.items()]
        return [item for item in items if item is not None]

    def _look_at_shared(self, paths: Sequence[str], *, full: bool) -> str:
        """Return a hash of the files that are not modules. Any module that is a single file may use them."""
        files = [file for path in paths for file in (walk(path) if os.path.isdir(path) else (path,))]  # noqa: PTH112
        if full or not self._shared.seem_unchanged(files):
            found = read_files(files, self.folder, tolerant=True)
            self._shared = found if files else ReadFiles({}, "", {})
        return self._shared.digest

    def _item(
        self, known: Mapping[str, SourceItem], module: str, path: str, shared: str, *, full: bool
    ) -> SourceItem | None:
        key = f"{self.kind}:{path}"
        before = known.get(key)
        single = path.endswith(".py")
        shared = shared if single else ""
        paths = [path] if single else list(walk(path))
        if before is not None and before.problem is None and not full:
            payload: _Module = before.payload
            if payload.shared == shared and payload.files.seem_unchanged(paths):
                return before
        try:
            files = read_files(paths, self.folder, settle=self._settle)
        except UnsettledError:
            self.unsettled = True
            return before
        except SourceError as e:
            return SourceItem(key, self.kind, self.name, path, f"unreadable: {e}", None, e, module)
        code = {name: content for name, content in files.contents.items() if name.endswith(".py")}
        payload = _Module(ReadFiles(code, files.digest, files.states), shared)
        return SourceItem(key, self.kind, self.name, path, files.digest + shared, payload, None, module)

    def needs_of(self, item: SourceItem) -> frozenset[str]:
        """Return the modules of the folder that its code imports."""
        return imported_names(item.payload.files.contents.values()) - {item.short_name}

    def code(self, item: SourceItem) -> Mapping[str, bytes]:
        """Return the Python files of a module or package."""
        contents: Mapping[str, bytes] = item.payload.files.contents
        return contents

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that imports one of the modules."""
        needs = {item.short_name: self.needs_of(item) for item in items}
        needed = frozenset().union(*needs.values())
        siblings = {
            loaded.item.short_name: loaded.keep
            for loaded in session.loaded.values()
            if loaded.item.source == self.name and loaded.keep is not None and loaded.item.short_name in needed
        }
        refused = {item.short_name: why for item, why in session.refused if item.source == self.name}
        modules = {item.short_name: item.payload.files.contents for item in items}
        keep = FolderLoad(self.folder, modules, siblings, refused)

        def load(item: SourceItem) -> LoadedItem:
            name = item.short_name
            loaded = LoadedItem(item, keep.collectors[name], needs=needs[name], keep=keep)
            try:
                keep.import_module(name)
            except BaseException as e:  # noqa: BLE001 - a module may raise anything, SystemExit included
                loaded.collector = Collector(self.name)
                loaded.problems.append(describe(e, Path(item.name)))
            return loaded

        return load
