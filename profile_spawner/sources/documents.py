"""The source for YAML documents: files, or folders of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.yaml_text import MAX_BYTES

from .data_profiles import DocumentReader
from .files import Fingerprint, UnsettledError, fingerprint, is_temporary, read_file
from .units import Loaded, Unit

__all__ = ["SUFFIXES", "Documents", "finder_of"]

SUFFIXES = (".yaml", ".yml", ".json")
"""How the names of documents end."""

EVERY_CHANGE = frozenset({"*"})
"""The need of a document that is based on others: it is read again with every change of its source."""


class _Document:
    """The payload of a unit.

    Attributes:
        content: What was read.
        states: What `stat` said about the document and the files that it uses.
        assets: The files that it uses.
    """

    def __init__(self, content: bytes, states: dict[str, Fingerprint | None], assets: set[str]) -> None:
        self.content = content
        self.states = states
        self.assets = assets


class Documents:
    """One file, or all documents directly in one folder.

    Args:
        path: The file or folder.
        policy: The data policy for the documents.
        settle: The minimum time since the last change of a file, in seconds.
    """

    kind = "documents"

    def __init__(self, path: Path, policy: DataPolicy, *, settle: float = 0.0) -> None:
        self.path = path.absolute()
        self.name = str(self.path)
        self._policy = policy
        self._settle = settle
        self._beside: tuple[str, ...] = ()
        self.unsettled = False

    def watched(self) -> Sequence[str]:
        """Return the folder with all that is in it, or the file and those that it uses."""
        return [self.name, *self._beside]

    @property
    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return the documents by name."""
        del hints
        self.unsettled = False
        try:
            paths = self._paths()
        except OSError as e:
            problem = SourceError(
                f"the documents cannot be read: {e.strerror}",
                origin=Origin(self.name),
                hint="Create the file or folder, or correct the configuration (profile_documents)",
            )
            gone = Unit(f"{self.kind}:{self.name}", self.kind, self.name, self.name, str(problem), None, problem)
            return [
                gone,
                *(u for u in known.values() if (u.kind, u.source) == (self.kind, self.name) and u.key != gone.key),
            ]
        units = []
        for path in paths:
            key = f"{self.kind}:{path}"
            before = known.get(key)
            if before is not None and not full and _seems_unchanged(before):
                units.append(before)
            else:
                unit = self._read(key, path, before) or before
                if unit is not None:
                    units.append(unit)
        return units

    def _paths(self) -> list[Path]:
        if not self.path.is_dir():
            os.stat(self.path)  # noqa: PTH116 - its error says why not
            return [self.path]
        with os.scandir(self.path) as entries:
            names = sorted(e.name for e in entries if e.name.endswith(SUFFIXES) and not is_temporary(e.name))
        return [self.path / name for name in names]

    def _read(self, key: str, path: Path, before: Unit | None) -> Unit | None:
        """Return the document as it is now; `None` while it, or a file that it uses, is being written."""
        assets = before.payload.assets if before is not None and before.payload is not None else set()
        states = {p: fingerprint(p) for p in (str(path), *assets)}
        try:
            content = read_file(path, self._folder, limit=MAX_BYTES, settle=self._settle)
        except UnsettledError:
            self.unsettled = True
            return None
        except ProfileSpawnerError as e:
            return Unit(key, self.kind, self.name, str(path), f"unreadable: {e}", None, e, path.name)
        digest = hashlib.sha256(content)
        for asset in sorted(assets):
            try:
                digest.update(read_file(Path(asset), self._folder, settle=self._settle))
            except UnsettledError:
                self.unsettled = True
                return None
            except SourceError as e:
                digest.update(str(e).encode())
        payload = _Document(content, states, set(assets))
        return Unit(key, self.kind, self.name, str(path), digest.hexdigest(), payload, None, path.name)

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Read the documents. A profile may be based on one of another document, so those without bases come first."""
        del generation
        changed_keys = {u.key for u in changed}
        others = {k: v for k, v in current.items() if k not in changed_keys}
        done: dict[str, Loaded] = {}
        waiting = list(changed)
        while waiting:
            again = []
            for unit in waiting:
                loaded = self._load_one(unit, finder_of({**others, **done}))
                if loaded.problems and loaded.needs and len(waiting) > 1:
                    again.append((unit, loaded))
                else:
                    done[unit.key] = loaded
            if len(again) == len(waiting):
                done.update({unit.key: loaded for unit, loaded in again})
                break
            waiting = [unit for unit, _ in again]
        yield from (done[u.key] for u in changed)

    def _load_one(self, unit: Unit, find: Callable[[str], type[BaseAppProfile] | None]) -> Loaded:
        document: _Document = unit.payload
        folder = self._folder

        def asset(path: str, origin: Origin) -> str:
            full = folder / path
            document.assets.add(str(full))
            document.states[str(full)] = fingerprint(str(full))
            try:
                return read_file(full, folder).decode("utf-8")
            except UnicodeDecodeError:
                raise SourceError("the file is no text in UTF-8", origin=origin, value=path) from None
            except SourceError as e:
                raise SourceError(f"{e.message}: {path}", origin=origin, hint=e.hint) from None

        result = DocumentReader(self._policy, find, asset).read(document.content, unit.name, self.name)
        if unit.name == self.name:  # a single file: no folder is watched
            self._beside = tuple(sorted(document.assets))
        needs = EVERY_CHANGE if result.needs_others else frozenset()
        return Loaded(unit, result.collector, result.problems, needs=needs, rights=self._policy.restricting)


def _seems_unchanged(unit: Unit) -> bool:
    if unit.problem is not None or unit.payload is None:
        return False
    states: Mapping[str, Fingerprint | None] = unit.payload.states
    return all(fingerprint(p) == state for p, state in states.items())


def finder_of(loaded: Mapping[str, Loaded]) -> Callable[[str], type[BaseAppProfile] | None]:
    """Return a function that finds a class of a document among these units by its slug."""

    def find(slug: str) -> type[BaseAppProfile] | None:
        for one in loaded.values():
            if one.unit.kind in ("documents", "config_maps"):
                registered = one.collector.profiles.get(slug)
                if isinstance(registered, type):
                    return registered
        return None

    return find
