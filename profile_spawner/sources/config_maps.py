"""The source for documents in ConfigMaps: each key with the suffix of a YAML file is a document."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.registry import Collector

from .data_profiles import DocumentReader
from .documents import EVERY_CHANGE, SUFFIXES, finder_of
from .units import Loaded, Unit

__all__ = ["ConfigMapDocuments", "config_map_of", "source_name"]


def source_name(namespace: str) -> str:
    """Return the name of the source of all ConfigMaps in a namespace."""
    return f"configmaps of {namespace}"


class ConfigMapDocuments:
    """The documents in the last known ConfigMaps.

    Args:
        namespace: The namespace of the ConfigMaps.
        policy: The data policy for the documents.
    """

    kind = "config_maps"
    unsettled = False

    def __init__(self, namespace: str, policy: DataPolicy) -> None:
        self.name = source_name(namespace)
        self._policy = policy
        self.objects: Mapping[str, Mapping[str, Any]] | None = None
        """The ConfigMaps by name; `None` before they could be read. Replaced as a whole."""
        self.failure: ProfileSpawnerError | None = None
        """Why they cannot be read now."""

    def watched(self) -> Sequence[str]:
        """Return no paths, because ConfigMaps are not files."""
        return []

    def scan(self, known: Mapping[str, Unit], *, full: bool, hints: frozenset[str] | None) -> Sequence[Unit]:
        """Return one unit for each ConfigMap."""
        del full, hints
        units = [self._unit(name, data, known) for name, data in sorted((self.objects or {}).items())]
        failure = self.failure
        if failure is not None:
            units.append(Unit(f"{self.kind}:", self.kind, self.name, self.name, str(failure), None, failure))
        return units

    def _unit(self, name: str, found: Mapping[str, Any], known: Mapping[str, Unit]) -> Unit:
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
        return Unit(key, self.kind, self.name, place, digest, MappingProxyType(documents), problem, name)

    def load(self, changed: Sequence[Unit], generation: int, current: Mapping[str, Loaded]) -> Iterator[Loaded]:
        """Read the documents of each ConfigMap."""
        del generation
        find = finder_of(current)
        for unit in changed:
            collector = Collector(self.name)
            problems: list[ProfileSpawnerError] = []
            needs_others = False
            for key in unit.payload:
                if key.endswith(SUFFIXES):
                    reader = DocumentReader(self._policy, find, _asset_of(unit))
                    result = reader.read(unit.payload[key], f"{unit.name}/{key}", self.name)
                    problems += result.problems
                    needs_others |= result.needs_others
                    problems += _add_all(collector, result.collector)
            needs = EVERY_CHANGE if needs_others else frozenset()
            yield Loaded(unit, collector, problems, needs=needs, rights=self._policy.restricting)


def _asset_of(unit: Unit) -> Callable[[str, Origin], str]:
    def asset(path: str, origin: Origin) -> str:
        text: str | None = unit.payload.get(path)
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


def config_map_of(problem: ProfileSpawnerError) -> str | None:
    """Return the name of the ConfigMap in which a problem stands."""
    source = problem.origin.source if problem.origin is not None else ""
    return source.split("/")[1] if source.startswith("configmap/") else None
