"""Finds and converts plain profile lists of KubeSpawner.

A list may be in the values of Zero to JupyterHub (`singleuser.profileList`, at any depth: below the name of an umbrella
chart, in a HelmRelease or an Argo CD Application), in a ConfigMap that contains such values as text, in a file of its
own, or in a `jupyterhub_config.py`.
"""

from __future__ import annotations

import pprint
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError
from profile_spawner.names import is_slug, slugify
from profile_spawner.params.definition import thaw
from profile_spawner.profiles.patterns import whole_pattern
from profile_spawner.profiles.plain_entries import each_entry, read_entry, read_profile_list
from profile_spawner.profiles.yaml_text import line_at, parse_yaml
from profile_spawner.sources.chart_values import in_chart_order, team_rules, values_or_lists

__all__ = ["FoundList", "as_document", "as_module", "converted", "find_lists"]

_LONGEST_LINE = 100
_LISTS = ("profileList", "profile_list")


@dataclass
class FoundList:
    """A profile list, and where it was found.

    Attributes:
        entries: The dictionaries.
        where: The path to the list, such as `jupyterhub.singleuser.profileList`.
        place: The file.
        refused: What could not be taken, and why.
        reordered: What Helm changes on the way to the hub: number of the entry, path and sentence.
        line_of: Returns the line of a path within entry number `n`.
    """

    entries: list[Mapping[str, Any]]
    where: str
    place: str
    refused: list[ProfileSpawnerError] = field(default_factory=list)
    reordered: list[tuple[int, tuple[Any, ...], str]] = field(default_factory=list)
    line_of: Callable[[int, tuple[Any, ...]], int] = lambda number, path: 0


def find_lists(text: str | bytes, place: str) -> list[FoundList]:
    """Return all profile lists in a YAML or JSON text.

    Args:
        text: The text.
        place: The file, for messages.

    Raises:
        SourceError: If the text cannot be read, or contains no list. The message says what was searched for.
    """
    found = []
    for document in parse_yaml(text, place):
        if isinstance(document, list) and not any(_has_list(item, ()) for item in document):
            found.append(_take(document, (), place))
            continue
        for path, inner in values_or_lists(document, place, _has_list):
            if isinstance(inner, list):
                found.append(_take(inner, (), place))
            else:
                keys = [k for k in _LISTS if inner.get(k) is not None]
                found += [_take(inner[k], (*path, k), place, inner.lines[k]) for k in keys]
    if not found:
        raise SourceError(
            "there is no profile list in it",
            origin=Origin(place),
            expected="singleuser.profileList (at any depth), profile_list, a ConfigMap with such values, or a list",
        )
    return found


def _has_list(value: Any, path: tuple[str, ...]) -> bool:
    """Tell whether a mapping has a list in it, or a text is one."""
    if isinstance(value, Mapping):
        return any(key in value for key in _LISTS)
    return bool(not path and value and all(isinstance(i, Mapping) and "display_name" in i for i in value))


def _take(items: Any, where: tuple[str, ...], place: str, line: int = 0) -> FoundList:
    """Read a list, or a mapping that KubeSpawner sorts by its keys; one of a chart's values as the hub gets it.

    `line` is where it begins.
    """
    found = FoundList([], ".".join(where), place)
    charts = where[-1:] == ("profileList",) or where[-4:-2] == ("hub", "config")
    kept: list[Any] = []
    for number, (name, entry) in enumerate(each_entry(items if isinstance(items, Mapping | list) else [items])):
        key = name.partition(".")[2] if isinstance(items, Mapping) else number
        origin = Origin(place, line_at(items, (key,)) or line)
        try:
            read_entry(entry, origin, name)
        except ProfileSpawnerError as e:
            e.origin = e.origin or origin
            found.refused.append(e)
        else:
            ordered = in_chart_order(entry) if charts else entry
            found.reordered += [(len(kept), path, message) for path, message in _moved_defaults(entry, ordered)]
            kept.append(ordered)
    found.entries = kept

    def line_of(number: int, path: tuple[Any, ...]) -> int:
        entry = kept[number]
        return line_at(entry, path) or getattr(entry, "line", 0)

    found.line_of = line_of
    return found


def _moved_defaults(entry: Mapping[str, Any], ordered: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the options of which another choice is the default than the file suggests."""
    for name, option in (ordered.get("profile_options") or {}).items():
        choices = option.get("choices") or {}
        first = next(iter(entry["profile_options"][name].get("choices") or ()), None)
        default = next(iter(choices), None)
        if first != default and not any(isinstance(c, Mapping) and c.get("default") for c in choices.values()):
            yield (
                ("profile_options", name),
                f"no choice is marked as default. In the hub it is {default!r}, since Helm sorts keys, not {first!r}, "
                f"the first one in the file. It stays {default!r}",
            )


# ------------------------------------------------------------------------------------------------ converting


def converted(entry: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[tuple[Any, ...], str]]]:
    """Return an entry in words that mean here what they meant before, and what is different, with its path.

    Raises:
        SourceError: If the entry names both teams and groups.
    """
    made = thaw(entry)
    changes: list[tuple[tuple[Any, ...], str]] = []
    for path in team_rules(entry):
        part: Any = made
        for step in path[:-1]:
            part = part[step]
        if "allowed_groups" in part:
            raise SourceError(
                "names allowed_teams and allowed_groups",
                field=".".join(map(str, path)),
                hint="Keep one of them: here teams are groups, such as org:team",
            )
        part["allowed_groups"] = part.pop("allowed_teams")
        changes.append((path, "is written as allowed_groups: the groups must be named like the teams"))
    for name, option in (made.get("profile_options") or {}).items():
        typed = option.get("unlisted_choice") if isinstance(option, Mapping) else None
        pattern = typed.get("validation_regex") if isinstance(typed, Mapping) else None
        if isinstance(pattern, str) and (whole := whole_pattern(pattern)) != pattern:
            made["profile_options"][name]["unlisted_choice"]["validation_regex"] = whole
            changes.append(
                (
                    ("profile_options", name, "unlisted_choice", "validation_regex"),
                    f"{pattern!r} is written as {whole!r}: KubeSpawner lets anything follow, here the whole must match",
                )
            )
    return made, changes


# ------------------------------------------------------------------------------------------------ writing


def as_document(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a document that takes the entries as they are."""
    return {"profile_list": [thaw(e) for e in entries]}


def as_module(entries: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return a Python module with a class for each entry, which KubeSpawner's meaning of it is kept for.

    Args:
        entries: What is written.
        title: The first line of the module's docstring.
    """
    parts = [f'"""{title}"""\n\nfrom profile_spawner import PlainProfile, profile_registry\n']
    names: set[str] = set()
    for raw in (r for e in entries for r in read_profile_list([e], Origin(title))):
        name = _class_name(raw.slug, names)
        lines = [f"\n\n@profile_registry.register\nclass {name}(PlainProfile):"]
        definition = {"slug": raw.slug, **thaw(raw.definition)}
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
