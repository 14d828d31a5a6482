"""The source for documents in ConfigMaps: each key with the suffix of a YAML file is a document."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import HasTraits, Unicode, default

from profile_spawner.errors import ClusterError, Origin, ProfileSpawnerError, SourceError
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.registry import Collector

from .data_profiles import DocumentReader
from .documents import SUFFIXES, finder_of
from .source_items import EVERY_CHANGE, Load, LoadedItem, LoadSession, Source, SourceItem

if TYPE_CHECKING:
    from profile_spawner.kube.watching import ConfigMapWatch

__all__ = ["ConfigMapDocuments", "hub_namespace", "source_name"]

_FIRST_LIST_SECONDS = 10.0


def hub_namespace() -> str:
    """Return the namespace of this process's pod, `default` outside of a cluster."""
    try:
        return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return os.environ.get("POD_NAMESPACE") or "default"


def source_name(namespace: str) -> str:
    """Return the name of the source of all ConfigMaps in a namespace."""
    return f"configmaps of {namespace}"


class ConfigMapSettings(HasTraits):
    """The settings of this source."""

    profile_config_maps = Unicode(
        "",
        config=True,
        help="""
        A label selector of ConfigMaps with profile documents, such as `profile-spawner=profiles`. They are watched.
        This needs the right to list and watch ConfigMaps in their namespace.
        """,
    )
    profile_config_maps_namespace = Unicode(
        config=True, help="The namespace of the ConfigMaps of `profile_config_maps`; the hub's own by default."
    )

    @default("profile_config_maps_namespace")
    def _default_config_maps_namespace(self) -> str:
        return hub_namespace()


class ConfigMapDocuments(Source):
    """The documents in the last known ConfigMaps.

    Args:
        namespace: The namespace of the ConfigMaps.
        policy: The data policy for the documents.
        selector: The label selector of the ConfigMaps.

    Attributes:
        objects: The ConfigMaps by name. Replaced as a whole.
        failure: Why they cannot be read now.
    """

    kind = "config_maps"
    settings = ConfigMapSettings
    runs_code = False

    def __init__(self, namespace: str, policy: DataPolicy, selector: str = "") -> None:
        self.name = source_name(namespace)
        self._namespace = namespace
        self._policy = policy
        self._selector = selector
        self.objects: Mapping[str, Mapping[str, Any]] = {}
        self.failure: ProfileSpawnerError | None = None
        self._watch: ConfigMapWatch | None = None
        self._reported: dict[str, str] = {}
        self._api_client: Callable[[], Awaitable[Any]] | None = None
        self._own_client: Any = None
        self._log: Any = None

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return one source, if there is a label selector."""
        del settle
        if not settings.profile_config_maps:
            return []
        policy = DataPolicy.of(settings.data_policy, cls.kind)
        return [cls(settings.profile_config_maps_namespace, policy, settings.profile_config_maps)]

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_policy": self._policy}

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return one item for each ConfigMap."""
        del full
        items = [self._item(name, data, known) for name, data in sorted(self.objects.items())]
        failure = self.failure
        return items if failure is None else [*items, self.unreadable(failure)]

    def _item(self, name: str, found: Mapping[str, Any], known: Mapping[str, SourceItem]) -> SourceItem:
        data = found.get("data") or {}
        documents = {key: text for key, text in sorted(data.items()) if isinstance(text, str)}
        digest = hashlib.sha256(repr(documents).encode("utf-8", "surrogateescape")).hexdigest()
        key = f"{self.kind}:{name}"
        before = known.get(key)
        if before is not None and before.digest == digest:
            return before
        place = f"configmap/{name}"
        problem = None
        if not any(k.endswith(SUFFIXES) for k in documents):
            problem = SourceError(
                "the ConfigMap holds no document",
                origin=Origin(place),
                expected=f"a key that ends in {', '.join(SUFFIXES)}",
            )
        return SourceItem(key, self.kind, self.name, place, digest, documents, problem, name)

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that reads the documents of one ConfigMap."""
        del items
        find = finder_of(session)

        def load(item: SourceItem) -> LoadedItem:
            loaded = LoadedItem(item, Collector(self.name), rights=self._policy.restricting)
            for key in item.payload:
                if key.endswith(SUFFIXES):
                    reader = DocumentReader(self._policy, find, _asset_of(item))
                    result = reader.read(item.payload[key], f"{item.name}/{key}", self.name)
                    loaded.problems += [*result.problems, *_add_all(loaded.collector, result.collector)]
                    loaded.needs = EVERY_CHANGE if result.needs_others else loaded.needs
            return loaded

        return load

    # ---------------------------------------------------------------------------------------------- the API server

    def connect(self, api_client: Callable[[], Awaitable[Any]] | None, log: Any) -> None:
        """Take what creates an API client; by default it uses the pod's service account or the kubeconfig."""
        self._api_client, self._log = api_client, log

    async def refresh(self) -> None:
        """List the ConfigMaps."""
        try:
            if self._watch is None:
                self._watch = await self._make_watch()
            await asyncio.wait_for(self._watch.list(), _FIRST_LIST_SECONDS)
        except asyncio.TimeoutError:
            self.failure = self._failed("the API server does not answer")
        except ClusterError as e:
            self.failure = self._failed(str(e))
        else:
            self.failure, self.objects = None, self._watch.objects

    async def _make_watch(self) -> ConfigMapWatch:
        from profile_spawner.kube import connection
        from profile_spawner.kube.watching import ConfigMapWatch

        if self._api_client is not None:
            api_client = await self._api_client()
        else:
            api_client = self._own_client = await connection.default_api_client()
        return ConfigMapWatch(api_client, self._namespace, self._selector, log=self._log)

    def _failed(self, why: str) -> SourceError:
        return SourceError(
            f"the ConfigMaps cannot be read: {why}",
            origin=Origin(self.name),
            hint="The hub's service account needs the right to list and watch ConfigMaps there",
        )

    async def follow(self, changed: Callable[[str], None]) -> None:
        """Watch the ConfigMaps."""
        watch = self._watch
        if watch is None:
            return

        def updated(key: str | None) -> None:
            del key
            self.objects = watch.objects
            changed("ConfigMap changed")

        def failed(error: ClusterError | None) -> None:
            self.failure = None if error is None else self._failed(str(error))
            changed("ConfigMaps cannot be watched" if error else "ConfigMaps can be watched again")

        await watch.follow(updated, failed)

    async def report(self, problems: Mapping[str, Sequence[ProfileSpawnerError]]) -> None:
        """Create an Event on each ConfigMap whose content was refused or is valid again."""
        for name, found in problems.items():
            text = "; ".join(str(p) for p in found)
            if name and self._watch is not None and text != self._reported.get(name, ""):
                self._reported[name] = text
                reason = "ProfilesRejected" if text else "ProfilesLoaded"
                await self._watch.tell(name, reason, text or "All profiles are fine again", warning=bool(text))

    async def close(self) -> None:
        """Close the API client that this source created."""
        if self._own_client is not None:
            from profile_spawner.kube import connection

            await connection.close(self._own_client)
            self._own_client = None


def _asset_of(item: SourceItem) -> Callable[[str, Origin], str]:
    def asset(path: str, origin: Origin) -> str:
        text: str | None = item.payload.get(path)
        if text is None:
            raise SourceError(f"the ConfigMap has no key {path!r}", origin=origin)
        return text

    return asset


def _add_all(collector: Collector, found: Collector) -> list[ProfileSpawnerError]:
    problems = []
    additions: list[tuple[Any, Any]] = [
        *((collector.add, p) for p in found.profiles.values()),
        *((collector.add_param, p) for p in found.params.values()),
        *((collector.add_collection, c) for c in found.collections.values()),
    ]
    for add, item in additions:
        try:
            add(item)
        except ProfileSpawnerError as e:
            problems.append(e)
    return problems
