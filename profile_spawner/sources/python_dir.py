"""The source for folders of Python modules. Every module and package directly in the folder is imported."""

from __future__ import annotations

import importlib
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from profile_spawner.errors import Origin, ProfileSpawnerError
from profile_spawner.profiles.base import line_pattern
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.registry import Collector, collecting

from .importing import RESERVED, Finder, FolderNamespace, ModuleFiles
from .python_files import FolderScan
from .tracebacks import describe
from .trial_client import TrialClient
from .units import Hold, Loaded, Unit

__all__ = ["PythonDirectory", "import_unit", "params_of"]

_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([^\n#;]+))", re.MULTILINE)


class PythonDirectory:
    """One folder.

    Args:
        folder: The folder.
        finder: The finder that makes the modules importable.
        trial: The trial client, which imports the modules in a separate process first; `None` disables this.
        settle: The minimum time since the last change of a file, in seconds.
    """

    kind = "python"

    def __init__(self, folder: Path, finder: Finder, trial: TrialClient | None, *, settle: float = 0.0) -> None:
        self.folder = folder.absolute()
        self.name = str(self.folder)
        self._finder = finder
        self._trial = trial
        self._files = FolderScan(self.folder, settle)

    @property
    def unsettled(self) -> bool:
        """Whether a file was being written, so that its old version was kept."""
        return self._files.unsettled

    def watched(self) -> Sequence[str]:
        """Return the folder."""
        return [self.name]

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return the modules by name. Only what seems to have changed is read."""
        del known
        return self._files.look(full=full, hints=hints)

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Import the changed modules in the trial worker, then import those without errors in the hub."""
        if not changed:
            return
        problems = self._try(changed, current)
        refused = {u.short_name: str(problems[u.key][0]) for u in changed if problems.get(u.key)}
        good = [u for u in changed if not problems.get(u.key)]
        siblings = _Siblings(self.name, {u.key for u in changed}, current)
        namespace, collectors = self._namespace(generation, good, refused, siblings)
        result = [import_unit(u, f"{namespace.prefix}.{u.short_name}", collectors[u.short_name]) for u in good]
        self._keep_together(result, namespace, siblings)
        namespace.seal()
        yield from result
        for unit in changed:
            if unit.short_name in refused:
                wrong = list(problems[unit.key])
                yield Loaded(unit, Collector(self.name), wrong, needs=_named_imports(unit))

    def _try(self, changed: Sequence[Unit], current: Mapping[str, Loaded]) -> Mapping[str, list[ProfileSpawnerError]]:
        """Return what is wrong by the unit's key, after an import in the separate process."""
        if self._trial is None:
            return {}
        own = {u.key for u in changed}
        # If a sibling is broken now, use its last good version, not the file in the folder.
        stale = {
            loaded.unit.short_name: loaded.unit.payload.files
            for key, loaded in current.items()
            if loaded.module
            and key not in own
            and loaded.unit.source == self.name
            # The digest is asked last: most have not changed.
            and self._files.digest_of(key) != loaded.unit.digest
        }
        return self._trial.run(changed, self.folder, stale, params_of(v for k, v in current.items() if k not in own))

    def _namespace(
        self, generation: int, units: Sequence[Unit], refused: Mapping[str, str], siblings: _Siblings
    ) -> tuple[FolderNamespace, dict[str, Collector]]:
        collectors = {u.short_name: Collector(self.name) for u in units}

        def enter(name: str) -> AbstractContextManager[Any]:
            return collecting(collectors[name])

        # Names that hooks import later mean the siblings of now, so they are looked up now.
        wanted = frozenset().union(*(_named_imports(u) for u in units))
        namespace = FolderNamespace(
            self._finder.prefix_of(generation, self.name),
            self.folder,
            {u.short_name: u.payload.files for u in units},
            {name: loaded.module for name in wanted if (loaded := siblings.get(name)) is not None},
            enter,
            refused=refused,
            siblings=siblings.module,
            aliases=self._finder.aliases,
        )
        self._finder.install()
        self._finder.add(namespace)
        return namespace, collectors

    def _keep_together(self, result: Sequence[Loaded], namespace: FolderNamespace, siblings: _Siblings) -> None:
        """Keep each module alive as long as the modules that import it."""
        own = {loaded.unit.short_name: Hold() for loaded in result}
        for loaded in result:
            name = loaded.unit.short_name
            loaded.hold = own[name]
            # What is imported in a hook, later, counts as well: so the text is asked too.
            loaded.needs = _named_imports(loaded.unit) | namespace.imports.get(name, set())
            holds = [own.get(n) or getattr(siblings.get(n), "hold", None) for n in loaded.needs if n != name]
            loaded.hold.needs = tuple(h for h in holds if h is not None)
            weakref.finalize(loaded.hold, self._finder.forget, namespace.prefix, name)


class _Siblings:
    """The modules of a folder that stay as they are.

    Args:
        source: The folder.
        changed: The keys of those that do not.
        current: What is loaded.
    """

    def __init__(self, source: str, changed: set[str], current: Mapping[str, Loaded]) -> None:
        self._source = source
        self._changed = changed
        self._current = current

    def get(self, name: str) -> Loaded | None:
        """Return a sibling by the name that is imported."""
        for key in (f"python:{self._source}/{name}", f"python:{self._source}/{name}.py"):
            loaded = self._current.get(key)
            if loaded is not None and key not in self._changed and loaded.module:
                return loaded
        return None

    def module(self, name: str) -> str | None:
        """Return the full name of a sibling."""
        loaded = self.get(name)
        return loaded.module if loaded is not None else None


def _named_imports(unit: Unit) -> frozenset[str]:
    """Return the siblings that a module may need: all names that its code imports, except the standard library."""
    words: set[str] = set()
    for text in unit.payload.files.sources.values():
        for single, several in _IMPORT.findall(text):
            if single:
                words.add(single.decode("utf-8", "replace"))
            else:
                parts = several.decode("utf-8", "replace").split(",")
                words.update(p.split()[0].partition(".")[0] for p in parts if p.strip())
    return frozenset(words - {unit.short_name} - RESERVED)


def params_of(loaded: Iterable[Loaded]) -> Collector | None:
    """Return the params and collections that these units define; `None` if there are none."""
    joined = Collector("params")
    for one in loaded:
        if one.collector.params or one.collector.collections:
            joined.params.update(one.collector.params)
            joined.collections.update(one.collector.collections)
    return joined if joined.params or joined.collections else None


def import_unit(unit: Unit, module: str, collector: Collector) -> Loaded:
    """Import one module and collect what it registers. Never raises."""
    loaded = Loaded(unit, collector, module=module)
    try:
        importlib.import_module(module)
        note_places(collector, unit.payload.files)
    except BaseException as e:  # noqa: BLE001 - a module may raise anything, SystemExit included
        loaded.collector = Collector(unit.source)
        loaded.problems.append(describe(e, unit.payload.path))
    return loaded


def note_places(collector: Collector, files: ModuleFiles) -> None:
    """Store file and line of each class on the class."""
    for profile in collector.profiles.values():
        if not isinstance(profile, ClassProfile) or "__profile_origin__" in vars(profile.cls):
            continue
        cls: Any = profile.cls
        name, *parts = cls.__module__.split(".")[1:] or [""]
        found = files.find(parts) if name == files.name else None
        if found is not None:
            filename, source, _ = found
            line = _line_of_class(source, cls.__name__.encode())
            cls.__profile_origin__ = Origin(filename, line)
            cls.__profile_lines__ = partial(_line_in_class, source, line)


def _line_of_class(source: bytes, name: bytes) -> int:
    at = -1
    while (at := source.find(b"class " + name, at + 1)) >= 0:
        start = source.rfind(b"\n", 0, at) + 1
        after = source[at + 6 + len(name) : at + 7 + len(name)]
        if not source[start:at].strip() and not after.isalnum() and after != b"_":
            return source.count(b"\n", 0, at) + 1
    return 0


def _line_in_class(source: bytes, start: int, name: str) -> int:
    """Return the line of an attribute or hook of the class that begins in line `start`; 0 if it is not found."""
    lines = source.splitlines()
    pattern = re.compile(line_pattern(name).encode())
    for number in range(start, len(lines)):
        if lines[number][:1].strip():
            break  # the class has ended
        if pattern.match(lines[number]):
            return number + 1
    return 0
