"""Source items: the modules, documents and other parts of sources. An item is loaded, kept or refused as a whole.

A kind of source is a subclass of `Source` in a module of its own, and a line in `settings.py`.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from traitlets import HasTraits

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.profiles.profile import Profile

from .loaded_item import LoadedItem

__all__ = ["EVERY_CHANGE", "LoadSession", "LoadedItem", "Source", "SourceItem"]


@dataclass(frozen=True)
class SourceItem:
    """One module, document, ConfigMap or entry point, as it was read.

    Attributes:
        key: Unique among all items.
        kind: The kind of its source.
        source: The name of its source: a path or a selector.
        name: The name for messages.
        digest: A hash of the content.
        payload: The data that the source needs to load it. It can be pickled.
        problem: The error if it could not be read.
        short_name: The name under which items of the same source refer to it.
    """

    key: str
    kind: str
    source: str
    name: str
    digest: str
    payload: Any = field(default=None, repr=False, compare=False)
    problem: ProfileSpawnerError | None = field(default=None, compare=False)
    short_name: str = ""


EVERY_CHANGE = frozenset({"*"})
"""The `needs` of a document that is based on another one: it is loaded again with every change of its source."""
Load = Callable[[SourceItem], LoadedItem]


class LoadSession:
    """Loads the items of one reload, in the hub or in the trial worker.

    Args:
        current: What stays loaded, by key.
        refused: Items that must not be loaded, with the reasons.
        slugs: The keys of items that register these profiles. These items are loaded only when another one asks.
        loading: Returns a context in which an item is loaded. An item may load another one that it is based on.

    Attributes:
        loaded: What is loaded, by key.
        in_progress: The items that are being loaded, each for a profile of the one before.
    """

    def __init__(
        self,
        current: Mapping[str, LoadedItem],
        refused: Sequence[tuple[SourceItem, str]],
        slugs: Mapping[str, str] = MappingProxyType({}),
        loading: Callable[[SourceItem], AbstractContextManager[None]] = lambda item: nullcontext(),
    ) -> None:
        self.loaded = dict(current)
        self.in_progress: list[SourceItem] = []
        self._good = dict(current)
        self.refused = refused
        self._slugs = slugs
        self._loading = loading
        self._waiting: dict[str, tuple[SourceItem, Load]] = {}
        self._data: list[str] = []

    def add(self, source: Source, items: Sequence[SourceItem]) -> None:
        """Prepare to load items. Nothing is loaded yet."""
        for item in items:
            self.loaded.pop(item.key, None)
        load = source.loader(items, self)
        self._waiting.update({item.key: (item, load) for item in items})
        if not source.runs_code:
            named = set(self._slugs.values())
            self._data += [item.key for item in items if item.key not in named]

    def load(self, key: str) -> LoadedItem | None:
        """Load an item once; return `None` while it is being loaded."""
        if key in self._waiting:
            item, load = self._waiting.pop(key)
            self.in_progress.append(item)
            with self._loading(item):
                loaded = load(item)
            self.in_progress.pop()
            good = self._good.get(key)
            if loaded.problems and good is not None and key in self._data:
                loaded = loaded.completed(good)  # other documents may extend its last good profiles
            self.loaded[key] = loaded
        return self.loaded.get(key)

    def find(self, slug: str, wanted: Callable[[Profile], bool]) -> Profile | None:
        """Return the registered profile `slug` that is `wanted`, and load waiting data for it; `None` without one."""
        for key in [*self.loaded, self._slugs.get(slug, ""), *self._data]:
            loaded = self.load(key)
            registered = loaded.collector.profiles.get(slug) if loaded is not None else None
            if registered is not None and wanted(registered):
                return registered
        return None


class Source(abc.ABC):
    """A source of items. Synchronous methods run in a worker thread, one at a time.

    Attributes:
        kind: The name of this kind of source, for `source_overrides` and messages.
        settings: The settings of this kind, which become settings of the hub.
        trial: Whether its items are loaded in the trial worker before the hub loads them. The source can be pickled.
        runs_code: Whether its items are code. They are loaded after data, because they may use params of data.
        name: The name of the source.
        unsettled: Whether a file was being written during the last scan, so that its old version was kept.
    """

    kind: ClassVar[str]
    settings: ClassVar[type[HasTraits]]
    trial: ClassVar[bool] = True
    runs_code: ClassVar[bool] = True
    name: str
    unsettled = False

    @classmethod
    @abc.abstractmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return the sources of this kind.

        Args:
            settings: The hub's settings; see `SourceSettings`.
            settle: The minimum time since the last change of a file before it is read, in seconds.
        """

    @abc.abstractmethod
    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return all items in order. If an item cannot be read, it has a `problem`. Never raises.

        Args:
            known: The items of the last scan; an unchanged item may be returned again.
            full: Whether to read everything again, even if `stat` shows no change.
        """

    @abc.abstractmethod
    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that loads one of these items. The function never raises."""

    def needs_of(self, item: SourceItem) -> frozenset[str]:
        """Return the `needs` of an item that was refused without being loaded."""
        del item
        return frozenset() if self.runs_code else EVERY_CHANGE

    def code(self, item: SourceItem) -> Mapping[str, bytes]:
        """Return the content of the Python files of an item, by path; empty where it is not known."""
        del item
        return {}

    def watched(self) -> Sequence[str]:
        """Return the paths to watch. They may change after a load. Called from any thread."""
        return []

    # The next methods run in the hub's event loop.

    def connect(self, api_client: Callable[[], Awaitable[Any]] | None, log: Any) -> None:  # noqa: B027 - optional
        """Take what the source needs to talk to Kubernetes."""

    async def refresh(self) -> None:  # noqa: B027 - optional
        """Get the current state for the next scan, where changes are not followed. Errors become problems of items."""

    async def follow(self, changed: Callable[[str], None]) -> None:  # noqa: B027 - optional
        """Call `changed` with the reason when something besides the watched paths has changed; run until cancelled."""

    async def report(self, problems: Mapping[str, Sequence[ProfileSpawnerError]]) -> None:  # noqa: B027 - optional
        """Tell the authors about the problems of a reload, by the items' short names."""

    async def close(self) -> None:  # noqa: B027 - optional
        """Release what the source has opened."""

    def own(self, known: Mapping[str, SourceItem]) -> list[SourceItem]:
        """Return the items of this source among `known`, without those that stand for the whole source."""
        return [i for i in known.values() if (i.kind, i.source) == (self.kind, self.name) and i.key != self.whole_key]

    @property
    def whole_key(self) -> str:
        """The key of the item that stands for a source that cannot be read."""
        return f"{self.kind}:{self.name}"

    def unreadable(self, problem: ProfileSpawnerError) -> SourceItem:
        """Return the item that stands for a source that cannot be read."""
        return SourceItem(self.whole_key, self.kind, self.name, self.name, str(problem), None, problem)
