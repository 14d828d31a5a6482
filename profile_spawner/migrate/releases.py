"""Reads manifests that install a chart: of Argo CD and Flux, helmfiles, Kustomizations and playbooks.

They may have no values themselves, but name the files and objects that have them, or give single values as parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from profile_spawner.profiles.yaml_text import YamlList, YamlMap
from profile_spawner.sources.chart_values import is_manifest

from .placeholders import shown

__all__ = ["Reference", "more_values", "parameters_of", "refers_to"]

_MORE = frozenset({"additionalValuesFiles", "valueFiles", "valuesFile", "valuesFiles", "values_files", "valuesFrom"})
"""Keys of such manifests that name files and objects whose values are merged with the ones beside the key."""
_NAMING = _MORE | {"files", "helmfiles", "resources", "values", "valuesContent", "valuesObject", "vars_files"}
"""All keys under which files and objects with values are named."""
_INLINE = frozenset({"parameters", "release_values", "values", "valuesContent", "valuesInline", "valuesObject"})
"""Keys that have values themselves."""
_PROFILES = frozenset({"display_name", "slug"})
_PLAYS = frozenset({"hosts", "import_playbook", "name"})
_RELEASES = frozenset({"helmCharts", "helmfiles", "releases", "resources"})
"""Keys of a helmfile, and of a Kustomization, which need not say that it is one."""
_STEP = re.compile(r"((?:\\.|[^.\[\]\\])+)|\[(\d{1,4})\]")
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Reference:
    """A place in a manifest that names files and objects with values.

    Attributes:
        line: The line of its key, from 1; 0 if it is unknown.
        names: The files and objects.
    """

    line: int
    names: tuple[str, ...]


def refers_to(document: Any) -> list[Reference] | None:
    """Return where a manifest names the files and objects with its values; `None` if it is something else."""
    return list(_references(document, _NAMING)) if _is_install(document) else None


def more_values(document: Any) -> list[Reference]:
    """Return where a manifest with values names files and objects with more of them."""
    return list(_references(document, _MORE, beside=True)) if _is_install(document) else []


def _references(value: Any, keys: frozenset[str], *, beside: bool = False, above: str = "") -> Iterator[Reference]:
    """Yield what stands under some keys, at any depth.

    Args:
        value: Where to look.
        keys: The keys.
        beside: Whether values are passed over, and sources of an Application that have none.
        above: The key of `value`.
    """
    if isinstance(value, list):
        for item in value:
            yield from _references(item, keys, beside=beside, above=above)
    elif isinstance(value, Mapping) and not (beside and above == "helm" and _INLINE.isdisjoint(value)):
        for key, item in value.items():
            if key in keys and (names := tuple(_names(item))):
                yield Reference(getattr(value, "lines", {}).get(key, 0), names)
            if not (beside and key in _INLINE):
                yield from _references(item, keys, beside=beside, above=key)


def _is_install(document: Any) -> bool:
    return _is_playbook(document) if isinstance(document, list) else _is_release(document)


def _is_playbook(tasks: list[Any]) -> bool:
    if not tasks or not all(isinstance(task, Mapping) and _PROFILES.isdisjoint(task) for task in tasks):
        return False
    return any(not _PLAYS.isdisjoint(task) for task in tasks)


def _is_release(document: Any) -> bool:
    if not isinstance(document, Mapping) or is_manifest(document):
        return False
    return "apiVersion" in document or not _RELEASES.isdisjoint(document)


def parameters_of(document: Any) -> Iterator[YamlMap]:
    """Yield the values that the parameters of an Application of Argo CD make, as those of `helm --set` do."""
    from profile_spawner.profiles.user_text import nodes

    for path, helm in nodes(document):
        listed = helm.get("parameters") if path[-1] == "helm" and isinstance(helm, Mapping) else None
        if isinstance(listed, YamlList):
            made = YamlMap(listed.line)
            for number, item in enumerate(listed):
                if isinstance(item, Mapping) and isinstance(item.get("name"), str):
                    value = item.get("value")
                    if isinstance(value, str) and not item.get("forceString"):
                        value = _WORDS.get(value, int(value) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value) else value)
                    _put(made, item["name"], value, listed.lines[number])
            yield made


def _put(values: YamlMap, name: str, value: Any, line: int) -> None:
    """Set a value at a path of keys and indices; what stands in its way is replaced."""
    steps: list[Any] = [re.sub(r"\\(.)", r"\1", key) if key else int(index) for key, index in _STEP.findall(name)]
    holder: Any = values
    for step, below in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int) is not isinstance(holder, YamlList):
            return
        if isinstance(holder, YamlList):
            missing = step + 1 - len(holder)
            holder.extend([None] * missing)
            holder.lines.extend([line] * missing)
        holder.lines[step] = line
        if below is None:
            holder[step] = value
            return
        kind = YamlList if isinstance(below, int) else YamlMap
        if not isinstance(holder[step] if isinstance(holder, YamlList) else holder.get(step), kind):
            holder[step] = kind(line)
        holder = holder[step]


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and "\n" not in value:
        yield shown(value)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, Mapping) and isinstance(value.get("name"), str):
        yield " ".join(shown(str(value[key])) for key in ("kind", "name") if value.get(key))
