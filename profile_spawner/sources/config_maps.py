"""The source for documents in ConfigMaps and Secrets: each key with the suffix of a YAML file is a document."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from traitlets import HasTraits, List, Unicode, default

from profile_spawner.errors import (
    CONFIDENTIAL_PLACE,
    ClusterError,
    Origin,
    ProfileSpawnerError,
    ProfileWarning,
    SourceError,
)
from profile_spawner.policy.kinds import BY_KIND, resource_path
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.registry import Collector

from .data_profiles import DocumentReader
from .documents import SUFFIXES, finder_of
from .source_items import EVERY_CHANGE, Load, LoadedItem, LoadSession, Source, SourceItem

if TYPE_CHECKING:
    from profile_spawner.kube.watching import EventRecorder, ObjectWatch

__all__ = ["ConfigMapDocuments", "WatchedObjects", "hub_namespace", "source_name", "watched_objects"]

_FIRST_LIST_SECONDS = 10.0


def hub_namespace() -> str:
    """Return the namespace of this process's pod, `default` outside of a cluster."""
    try:
        return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return os.environ.get("POD_NAMESPACE") or "default"


def source_name(namespace: str) -> str:
    """Return the name of the source of all ConfigMaps and Secrets in a namespace."""
    return f"configmaps of {namespace}"


class ConfigMapSettings(HasTraits):
    """The settings of this source."""

    profile_config_maps = Unicode(
        "",
        config=True,
        help="""
        A label selector of ConfigMaps with profile documents, such as `profile-spawner=profiles`, `team in (a, b)` or
        `has-profiles`. They are watched. This needs the right to list and watch ConfigMaps in their namespace.
        """,
    )
    profile_config_map_names = List(
        Unicode(),
        config=True,
        help="""
        Names of ConfigMaps with profile documents, besides those of `profile_config_maps`. They need no label, and the
        hub needs the right to list and watch only these.
        """,
    )
    profile_secrets = Unicode(
        "",
        config=True,
        help="""
        A label selector of Secrets with profile documents, such as values of Zero to JupyterHub. This needs the right
        to read all Secrets of their namespace; `profile_secret_names` does not.
        """,
    )
    profile_secret_names = List(
        Unicode(),
        config=True,
        help="""
        Names of Secrets with profile documents. Messages about them contain only the key and the line. What a profile
        shows and what its pods contain is not secret.
        """,
    )
    profile_config_maps_namespace = Unicode(
        config=True, help="The namespace of these ConfigMaps and Secrets; the hub's own by default."
    )

    @default("profile_config_maps_namespace")
    def _default_config_maps_namespace(self) -> str:
        return hub_namespace()


class WatchedObjects(NamedTuple):
    """The objects of one list and watch.

    Attributes:
        kind: `ConfigMap` or `Secret`.
        setting: The setting that selects them.
        selector: A label selector; empty if they are selected by name.
        name: The name of the only object; empty if they are selected by label.
    """

    kind: str
    setting: str
    selector: str = ""
    name: str = ""


def watched_objects(settings: Any) -> list[WatchedObjects]:
    """Return what the settings of this source select.

    Args:
        settings: An object with the traits of `ConfigMapSettings`.
    """
    result = []
    for kind, selected, named in (
        ("ConfigMap", "profile_config_maps", "profile_config_map_names"),
        ("Secret", "profile_secrets", "profile_secret_names"),
    ):
        names = dict.fromkeys(getattr(settings, named))
        result += [WatchedObjects(kind, named, name=name) for name in names]
        if selector := getattr(settings, selected):
            result.append(WatchedObjects(kind, selected, selector))
    return result


class ConfigMapDocuments(Source):
    """The documents in the last known ConfigMaps and Secrets.

    Args:
        namespace: Their namespace.
        policy: The data policy for the documents.
        watched: What is selected there.

    Attributes:
        objects: The last known ConfigMaps and Secrets, each with its kind, by their names in messages. Replaced as a
            whole.
    """

    kind = "config_maps"
    settings = ConfigMapSettings
    runs_code = False

    def __init__(self, namespace: str, policy: DataPolicy, watched: Sequence[WatchedObjects] = ()) -> None:
        self.name = source_name(namespace)
        self._namespace = namespace
        self._policy = policy
        self._watched = watched
        self.objects: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
        self._notices: Mapping[WatchedObjects, ProfileSpawnerError] = {}
        self._watches: dict[WatchedObjects, ObjectWatch] = {}
        self._failures: dict[WatchedObjects, ProfileSpawnerError] = {}
        self._recorder: EventRecorder | None = None
        self._reported: dict[str, str] = {}
        self._api_client: Callable[[], Awaitable[Any]] | None = None
        self._own_client: Any = None
        self._log: Any = None

    @classmethod
    def configured(cls, settings: Any, settle: float) -> Iterable[Source]:
        """Return one source, if anything is selected."""
        del settle
        watched = watched_objects(settings)
        policy = DataPolicy.of(settings.data_policy, cls.kind)
        return [cls(settings.profile_config_maps_namespace, policy, watched)] if watched else []

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_policy": self._policy}

    def scan(self, known: Mapping[str, SourceItem], *, full: bool) -> Sequence[SourceItem]:
        """Return one item for each ConfigMap and Secret."""
        del full
        items = [self._item(place, kind, found, known) for place, (kind, found) in self.objects.items()]
        return [*items, *(self._notice(watched, problem) for watched, problem in self._notices.items())]

    def _item(self, place: str, kind: str, found: Mapping[str, Any], known: Mapping[str, SourceItem]) -> SourceItem:
        documents = _contents(kind, found)
        digest = hashlib.sha256(repr(documents).encode("utf-8", "surrogateescape")).hexdigest()
        key = f"{self.kind}:{place}"
        before = known.get(key)
        if before is not None and before.digest == digest:
            return before
        problem = None
        if not any(k.endswith(SUFFIXES) for k in documents):
            problem = SourceError(
                f"{place} contains no document",
                origin=Origin(self.name),
                expected=f"a key that ends in {', '.join(SUFFIXES)}",
            )
        return SourceItem(key, self.kind, self.name, place, digest, documents, problem, place)

    def _notice(self, watched: WatchedObjects, problem: ProfileSpawnerError) -> SourceItem:
        """Return the item that stands for objects that are missing or cannot be read."""
        key = f"{self.whole_key}:{watched.setting}:{watched.name}"
        return SourceItem(key, self.kind, self.name, self.name, str(problem), None, problem)

    def loader(self, items: Sequence[SourceItem], session: LoadSession) -> Load:
        """Return the function that reads the documents of one ConfigMap or Secret."""
        del items
        find = finder_of(session)

        def load(item: SourceItem) -> LoadedItem:
            loaded = LoadedItem(item, Collector(self.name), rights=self._policy.restricting)
            for key in item.payload:
                if not key.endswith(SUFFIXES):
                    continue
                content, place = item.payload[key], f"{item.name}/{key}"
                if isinstance(content, bytes):
                    loaded.problems.append(_binary(self.name, place))
                    continue
                result = DocumentReader(self._policy, find, _asset_of(item)).read(content, place, self.name)
                loaded.problems += [*result.problems, *_add_all(loaded.collector, result.collector)]
                loaded.needs = EVERY_CHANGE if result.needs_others else loaded.needs
            return loaded

        return load

    # ---------------------------------------------------------------------------------------------- the API server

    def connect(self, api_client: Callable[[], Awaitable[Any]] | None, log: Any) -> None:
        """Take what creates an API client; by default it uses the pod's service account or the kubeconfig."""
        self._api_client, self._log = api_client, log

    async def refresh(self) -> None:
        """List the ConfigMaps and Secrets."""
        try:
            await self._make_watches()
        except ClusterError as e:
            self._failures = {watched: self._failed(watched, str(e)) for watched in self._watched}
        else:
            await asyncio.gather(*(self._list(watched, watch) for watched, watch in self._watches.items()))
        self._take()

    async def _list(self, watched: WatchedObjects, watch: ObjectWatch) -> None:
        try:
            await asyncio.wait_for(watch.list(), _FIRST_LIST_SECONDS)
        except asyncio.TimeoutError:
            self._failures[watched] = self._failed(watched, "the API server does not answer")
        except ClusterError as e:
            self._failures[watched] = self._failed(watched, str(e))
        else:
            self._failures.pop(watched, None)

    async def _make_watches(self) -> None:
        from profile_spawner.kube import connection
        from profile_spawner.kube.watching import EventRecorder, ObjectWatch

        if self._watches:
            return
        if self._api_client is not None:
            api_client = await self._api_client()
        else:
            api_client = self._own_client = await connection.default_api_client()
        self._recorder = EventRecorder(api_client, self._namespace, log=self._log)
        self._watches = {
            watched: ObjectWatch(
                api_client,
                resource_path(BY_KIND[watched.kind], self._namespace),
                what=f"{watched.kind}s of profiles",
                selector=watched.selector,
                field_selector=f"metadata.name={watched.name}" if watched.name else "",
                log=self._log,
            )
            for watched in self._watched
        }

    def _failed(self, watched: WatchedObjects, why: str) -> SourceError:
        which = f"{watched.kind} {watched.name}" if watched.name else f"{watched.kind}s {watched.selector!r}"
        return SourceError(
            f"{which} cannot be read: {why}",
            origin=Origin(self.name),
            hint=f"The hub's service account needs the right to list and watch {watched.kind}s there",
        )

    def _take(self) -> None:
        """Take over what the watches know."""
        from profile_spawner.kube.watching import belongs_to_a_server

        objects: dict[str, tuple[str, Mapping[str, Any]]] = {}
        notices: dict[WatchedObjects, ProfileSpawnerError] = dict(self._failures)
        # An object may be selected twice. What a working watch knows is newer.
        for watched, watch in sorted(self._watches.items(), key=lambda one: one[0] not in self._failures):
            found = [item for item in watch.found.values() if not belongs_to_a_server(item)]
            objects.update({_place(watched.kind, item): (watched.kind, item) for item in found})
            if not found and watched not in self._failures:
                notices[watched] = self._missing(watched)
        self.objects = dict(sorted(objects.items(), key=lambda one: (one[1][0], one[0])))
        self._notices = notices

    def _missing(self, watched: WatchedObjects) -> ProfileWarning:
        if watched.name:
            message = f"there is no {watched.kind} {watched.name!r} in namespace {self._namespace}"
            hint = "Create it, or correct the setting"
        else:
            message = f"the selector {watched.selector!r} matches 0 {watched.kind}s in namespace {self._namespace}"
            by_name = watched.setting.removesuffix("s") + "_names"
            hint = f"Label a {watched.kind}, or name it in {by_name}"
        return ProfileWarning(message, field=watched.setting, hint=f"{hint}. {watched.kind}s of servers do not count")

    async def follow(self, changed: Callable[[str], None]) -> None:
        """Watch the ConfigMaps and Secrets."""

        async def follow(watched: WatchedObjects, watch: ObjectWatch) -> None:
            def updated(key: str | None) -> None:
                del key
                self._take()
                changed(f"{watched.kind} changed")

            def failed(error: ClusterError | None) -> None:
                if error is not None:
                    self._failures[watched] = self._failed(watched, str(error))
                elif self._failures.pop(watched, None) is None:
                    return
                self._take()
                changed(f"{watched.kind}s cannot be watched" if error else f"{watched.kind}s can be watched again")

            await watch.follow(updated, failed)

        await asyncio.gather(*(follow(watched, watch) for watched, watch in self._watches.items()))

    async def report(self, problems: Mapping[str, Sequence[ProfileSpawnerError]]) -> None:
        """Create an Event on each object whose content was refused or is valid again."""
        self._reported = {place: text for place, text in self._reported.items() if place in self.objects}
        for place, found in problems.items():
            text = "; ".join(str(p) for p in found)
            if self._recorder is None or place not in self.objects or text == self._reported.get(place, ""):
                continue
            kind, item = self.objects[place]
            if not text:
                reason, message = "ProfilesLoaded", "All profiles are fine again"
            else:
                warned = all(isinstance(p, ProfileWarning) for p in found)
                reason, message = "ProfilesWarning" if warned else "ProfilesRejected", text
            before = self._reported.get(place, "")
            self._reported[place] = text  # another report may begin before this one ends
            if not await self._recorder.tell(kind, item["metadata"], reason, message, warning=bool(text)):
                self._reported[place] = before

    async def close(self) -> None:
        """Close the API client that this source created."""
        if self._own_client is not None:
            from profile_spawner.kube import connection

            await connection.close(self._own_client)
            self._own_client = None


def _asset_of(item: SourceItem) -> Callable[[str, Origin], str]:
    def asset(path: str, origin: Origin) -> str:
        text: str | bytes | None = item.payload.get(path)
        if text is None:
            raise SourceError(f"{item.name} has no key {path!r}", origin=origin)
        if isinstance(text, bytes):
            raise _binary(item.source, f"{item.name}/{path}")
        return text

    return asset


def _binary(source: str, place: str) -> SourceError:
    message = f"the content of {place} is not text in UTF-8"
    return SourceError(message, origin=Origin(source), hint="Compressed content is not read")


def _place(kind: str, item: Mapping[str, Any]) -> str:
    """Return the name of an object in messages."""
    return f"{'configmap/' if kind == 'ConfigMap' else CONFIDENTIAL_PLACE}{item['metadata']['name']}"


def _contents(kind: str, found: Mapping[str, Any]) -> dict[str, str | bytes]:
    """Return what is in the keys of a ConfigMap or Secret: text if it is UTF-8."""
    data = found.get("data") or {}
    encoded = data if kind == "Secret" else found.get("binaryData") or {}
    texts = {} if kind == "Secret" else data
    result: dict[str, str | bytes] = {key: text for key, text in texts.items() if isinstance(text, str)}
    for key, value in encoded.items():
        try:
            content = base64.b64decode(value)
        except (TypeError, binascii.Error):
            content = b"\xff"
        try:
            result[key] = content.decode("utf-8")
        except UnicodeDecodeError:
            result[key] = content
    return dict(sorted(result.items()))


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
