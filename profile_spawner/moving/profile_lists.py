"""Plain profile lists, wherever they are kept.

In the values of Zero to JupyterHub (`singleuser.profileList`, at any depth: below the name of an umbrella chart, in a
HelmRelease or an Argo CD Application), in a ConfigMap that holds such values as text, as a list of their own, and in a
`jupyterhub_config.py`.
"""

from __future__ import annotations

import pprint
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.names import is_slug, slugify
from profile_spawner.registry import raw_profiles
from profile_spawner.yaml_text import line_at, parse_yaml

__all__ = ["FoundList", "as_document", "as_module", "find_lists"]

_LONGEST_LINE = 100


@dataclass
class FoundList:
    """A profile list, and where it was found.

    Attributes:
        entries: The dictionaries.
        where: The path to the list, such as `jupyterhub.singleuser.profileList`.
        place: The file, and within a ConfigMap its key.
        refused: What could not be taken, and why.
        line_of: Returns the line of a path within entry number `n`.
    """

    entries: list[Mapping[str, Any]]
    where: str
    place: str
    refused: list[ProfileSpawnerError] = field(default_factory=list)
    line_of: Callable[[int, tuple[Any, ...]], int] = lambda number, path: 0


def find_lists(text: str | bytes, place: str) -> list[FoundList]:
    """Return all profile lists in a YAML or JSON text.

    Args:
        text: The text.
        place: The file, for messages.

    Raises:
        SourceError: when it cannot be read, or there is none, with what was looked for.
    """
    found = []
    for document in parse_yaml(text, place):
        if isinstance(document, list):
            found.append(_take(document, "", place))
        else:
            found += list(_search(document, (), place))
    if not found:
        raise SourceError(
            "there is no profile list in it",
            origin=Origin(place),
            expected="singleuser.profileList (at any depth), profile_list, a ConfigMap with such values, or a list",
        )
    return found


def _search(value: Any, path: tuple[str, ...], place: str) -> Iterator[FoundList]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _search(item, (*path, str(number)), place)
        return
    if not isinstance(value, Mapping):
        if isinstance(value, str) and ("profileList" in value or "profile_list" in value):
            yield from _search_text(value, path, place)
        return
    if value.get("kind") == "ConfigMap" and isinstance(value.get("data"), Mapping):
        name = (value.get("metadata") or {}).get("name", "")
        for key, text in value["data"].items():
            if isinstance(text, str):
                yield from _search_text(text, (f"ConfigMap {name}", str(key)), place)
        return
    for key, item in value.items():
        if key in ("profileList", "profile_list"):
            if item is not None:
                yield _take(item, ".".join((*path, key)), place)
        else:
            yield from _search(item, (*path, str(key)), place)


def _search_text(text: str, path: tuple[str, ...], place: str) -> Iterator[FoundList]:
    """Look into a text that may be YAML again."""
    inner = f"{place} ({' / '.join(path)})"
    try:
        documents = parse_yaml(text, inner)
    except ProfileSpawnerError:
        return
    for document in documents:
        if isinstance(document, list) and all(isinstance(i, Mapping) and "display_name" in i for i in document):
            yield _take(document, "", inner)
        elif isinstance(document, Mapping):
            yield from _search(document, (), inner)


def _take(items: Any, where: str, place: str) -> FoundList:
    """Read a list, or a mapping that KubeSpawner sorts by its keys."""
    if isinstance(items, Mapping):
        entries = [items[key] for key in sorted(items)]
    elif isinstance(items, list):
        entries = list(items)
    else:
        entries = [items]
    lines = getattr(items, "lines", ())
    lines = lines if isinstance(lines, list | tuple) else ()
    found = FoundList([], where, place)
    kept: list[Any] = []
    for number, entry in enumerate(entries):
        line = getattr(entry, "line", 0) or (lines[number] if number < len(lines) else 0)
        try:
            raw_profiles([entry], Origin(place, line))
        except ProfileSpawnerError as e:
            e.origin = e.origin or Origin(place, line)
            if e.field and e.field.startswith("profile_list[0]"):
                e.field = e.field.replace("[0]", f"[{number}]", 1)
            found.refused.append(e)
        else:
            kept.append(entry)
    found.entries = kept

    def line_of(number: int, path: tuple[Any, ...]) -> int:
        entry = kept[number]
        return line_at(entry, path) or getattr(entry, "line", 0)

    found.line_of = line_of
    return found


# ------------------------------------------------------------------------------------------------ writing


def as_document(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a document that takes the entries as they are."""
    return {"profile_list": [_plain(e) for e in entries]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def as_module(entries: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return a Python module with a class for each entry, which KubeSpawner's meaning of it is kept for.

    Args:
        entries: What is written.
        title: The first line of the module's docstring.
    """
    parts = [f'"""{title}"""\n\nfrom profile_spawner import PlainProfile, profile_registry\n']
    names: set[str] = set()
    for raw in (r for e in entries for r in raw_profiles([e], Origin(title))):
        name = _class_name(raw.slug, names)
        lines = [f"\n\n@profile_registry.register\nclass {name}(PlainProfile):"]
        definition = {"slug": raw.slug, **_plain(raw.definition)}
        for key, value in definition.items():
            if not str(key).isidentifier():
                continue
            text = pprint.pformat(value, width=_LONGEST_LINE, sort_dicts=False)
            lines.append(f"    {key} = " + text.replace("\n", "\n    "))
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _class_name(slug: str, taken: set[str]) -> str:
    words = re.findall(r"[A-Za-z0-9]+", slug if is_slug(slug) else slugify(slug)) or ["Profile"]
    name = "".join(w[0].upper() + w[1:] for w in words)
    if name[0].isdigit():
        name = f"Profile{name}"
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}{number}", number + 1
    taken.add(unique)
    return unique
