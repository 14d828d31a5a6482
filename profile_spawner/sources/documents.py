"""The source for YAML documents: files, or folders of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traitlets import HasTraits, List, Unicode

from profile_spawner.errors import Origin, SourceError
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.yaml_text import MAX_BYTES

from .data_profiles import SUFFIXES, DocumentReader
from .files import Fingerprint, UnsettledError, fingerprint, is_temporary, read_file, read_files
from .source_items import EVERY_CHANGE, Load, LoadedItem, LoadSession, Source, SourceItem

__all__ = ["SUFFIXES", "Documents", "finder_of"]


class DocumentSettings(HasTraits):
    """The setting of this source."""

    profile_documents = List(
        Unicode(),
        config=True,
        help="YAML files, or folders of them, with profiles as data. No code in them is ever run.",
    )


@dataclass
class _Document:
    """The payload of an item.

    Attributes:
        content: What was read.
        states: The fingerprints of the document and of the files that it used when it was loaded last.
    """

    content: bytes
    states: dict[str, Fingerprint | None]


class Documents(Source):
    """One file, or all documents directly in one folder.

    Args:
        path: The file or folder.
        policy: The data policy for the documents.
        settle: The minimum time since the last change of a file, in seconds.
    """

    kind = "documents"
    settings = DocumentSettings
    runs_code = False

    def __init__(self, path: Path, policy: DataPolicy, settle: float = 0.0) -> None:
        self.path = path.absolute()
        self.name = str(self.path)
        self._policy = policy
        self._settle = settle
        self._beside: tuple[str, ...] = ()

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return a source for each file or folder."""
        policy = DataPolicy.of(settings.data_policy, cls.kind)
        return [cls(Path(path), policy, settle) for path in settings.profile_documents]

    def watched(self) -> Sequence[str]:
        """Return the folder with all that is in it, or the file and those that it uses."""
        return [self.name, *self._beside]

    @property
    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return the documents by name."""
        self.unsettled = False
        try:
            paths = self._paths()
        except OSError as e:
            problem = SourceError(
                f"the documents cannot be read: {e.strerror}",
                origin=Origin(self.name),
                hint="Create the file or folder, or correct the configuration (profile_documents)",
            )
            return [self.unreadable(problem), *self.own(known)]
        items = [self._item(path, known, full=full) for path in paths]
        return [item for item in items if item is not None]

    def _paths(self) -> list[str]:
        if not self.path.is_dir():
            os.stat(self.path)  # noqa: PTH116 - its error says why not
            return [self.name]
        found = sorted(self.path.iterdir())
        return [str(path) for path in found if path.name.endswith(SUFFIXES) and not is_temporary(path.name)]

    def _item(self, path: str, known: Mapping[str, SourceItem], *, full: bool) -> SourceItem | None:
        """Return a document as it is now, or as it was while it, or a file that it uses, is being written."""
        key = f"{self.kind}:{path}"
        before = known.get(key)
        states = before.payload.states if before is not None and before.problem is None else {}
        if states and not full and all(fingerprint(p) == state for p, state in states.items()):
            return before
        assets = sorted(states.keys() - {path})
        try:
            read = read_files([path], self._folder, limit=MAX_BYTES, settle=self._settle)
            used = read_files(assets, self._folder, settle=self._settle, tolerant=True)
        except UnsettledError:
            self.unsettled = True
            return before
        except SourceError as e:
            digest = f"unreadable: {e}"
            return SourceItem(key, self.kind, self.name, path, digest, None, e, path.rpartition("/")[2])
        digest = hashlib.sha256(f"{read.digest} {used.digest}".encode()).hexdigest()
        payload = _Document(read.contents[path], {**read.states, **used.states})
        return SourceItem(key, self.kind, self.name, path, digest, payload, None, path.rpartition("/")[2])

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that reads one document."""
        del items

        def load(item: SourceItem) -> LoadedItem:
            document: _Document = item.payload
            reader = DocumentReader(self._policy, finder_of(session), self._asset_of(document))
            result = reader.read(document.content, item.name, self.name)
            if item.name == self.name:  # a single file: no folder is watched
                self._beside = tuple(sorted(document.states))
            needs = EVERY_CHANGE if result.needs_others else frozenset()
            return LoadedItem(item, result.collector, result.problems, needs, rights=self._policy.restricting)

        return load

    def _asset_of(self, document: _Document) -> Callable[[str, Origin], str]:
        folder = self._folder

        def asset(path: str, origin: Origin) -> str:
            full = str(folder / path)
            document.states[full] = fingerprint(full)
            try:
                return read_file(Path(full), folder).decode("utf-8")
            except UnicodeDecodeError:
                raise SourceError("the file is not text in UTF-8", origin=origin, value=path) from None
            except SourceError as e:
                raise SourceError(f"{e.message}: {path}", origin=origin, hint=e.hint) from None

        return asset


def finder_of(session: LoadSession) -> Callable[[str], type[BaseAppProfile] | None]:
    """Return the function that finds a class of another document by its slug.

    The function raises `LookupError` if there is none, and documents that are still being loaded may be the reason.
    """

    def find(slug: str) -> type[BaseAppProfile] | None:
        found = session.find(slug, lambda one: isinstance(one, ClassProfile) and hasattr(one.cls, "_parts"))
        names = [item.name for item in session.in_progress]
        if found is None and len(names) > 1:
            raise LookupError(f"{slug!r} is not defined, or these documents extend each other: {', '.join(names)}")
        return found.cls if isinstance(found, ClassProfile) else None

    return find
