"""Finds values of the Zero to JupyterHub chart in YAML documents, and sorts them like Helm.

Values may be at any depth: below the name of an umbrella chart, in a HelmRelease or an Argo CD Application, or as text
in a ConfigMap or another object.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from profile_spawner.errors import SourceError
from profile_spawner.profiles.yaml_text import YamlMap, parse_yaml

__all__ = [
    "LISTS",
    "MissingList",
    "find_values",
    "helm_order",
    "in_chart_order",
    "is_manifest",
    "list_in",
    "missing_list",
    "sorted_by_helm",
    "team_rules",
    "value_at",
    "values_or_lists",
]

Path = tuple[str, ...]
Reader = Callable[[str, str], list[Any]]

_OWN = frozenset({"profiles", "profile_list", "params", "collections", "slug", "display_name"})
"""Keys that make a mapping a document of profiles; the chart has none of them."""
_HINTS = ("singleuser", "hub", "profileList", "profile_list", "display_name")
LISTS = (
    "hub.config.ProfileSpawner.profile_list",
    "hub.config.KubeSpawner.profile_list",
    "singleuser.profileList",
)
"""Where the chart takes a list from; the first that is there counts."""
_DIGITS = "0123456789"


def value_at(value: Any, path: str) -> Any:
    """Return the value at a path of keys separated by dots; `None` if there is none."""
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def find_values(document: Any, source: str, read: Reader = parse_yaml) -> Iterator[Mapping[str, Any]]:
    """Yield the values of charts in a YAML document; none for a document of profiles.

    Args:
        document: What was read.
        source: The file or the like, for messages.
        read: Reads texts in it that are YAML again.

    Raises:
        SourceError: when a ConfigMap or Secret has a YAML file in it that is none.
    """
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, Mapping) and ("singleuser" in item or not _is_own(item)):
            for _, found in values_or_lists(item, source, _is_values, read=read):
                yield found


def _is_own(document: Mapping[str, Any]) -> bool:
    return not _OWN.isdisjoint(document) or set(document) == {"global"}


def _is_values(value: Any, path: Path) -> bool:
    if not isinstance(value, Mapping):
        return False
    if isinstance(value.get("singleuser", False), Mapping | None):
        return True
    # An umbrella chart may have a section `hub` for something else.
    return isinstance(value.get("hub"), Mapping) and not any(map(_has_users, value.values()))


def _has_users(value: Any) -> bool:
    return isinstance(value, Mapping) and ("singleuser" in value or any(map(_has_users, value.values())))


def values_or_lists(
    value: Any, source: str, wanted: Callable[[Any, Path], bool], path: Path = (), read: Reader = parse_yaml
) -> Iterator[tuple[Path, Any]]:
    """Yield everything that is wanted, with its path, and nothing below it.

    Texts that are YAML again are looked into. Their path begins anew, and their lines are those of the file when they
    are blocks.

    Args:
        value: Where to look.
        source: The file or the like, for messages.
        wanted: Called with a mapping or a list, and its path.
        path: The path of `value`.
        read: Reads texts that are YAML again.

    Raises:
        SourceError: when a ConfigMap or Secret has a YAML file in it that is none.
    """
    if not isinstance(value, Mapping | list):
        return
    if wanted(value, path):
        yield path, value
        return
    lines = getattr(value, "lines", {})
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        if isinstance(item, str) and any(hint in item for hint in _HINTS):
            try:
                documents = read("\n" * (lines[key] if lines else 0) + item, source)
            except SourceError:
                if isinstance(value, Mapping) and path[-1:] in (("data",), ("stringData",)) and _is_file(str(key)):
                    raise
                continue
            for document in documents:
                yield from values_or_lists(document, source, wanted, read=read)
        else:
            yield from values_or_lists(item, source, wanted, (*path, str(key)), read)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def list_in(values: Mapping[str, Any]) -> Any:
    """Return the list of profiles that the chart takes from these values; `None` when they have none."""
    return next((listed for path in LISTS if (listed := value_at(values, path)) is not None), None)


@dataclass(frozen=True)
class MissingList:
    """Why values of a chart have no list of profiles.

    Attributes:
        path: The keys that lead to what was probably meant; empty if there is nothing like a list.
        message: What is wrong.
        hint: What to do.
    """

    path: Path
    message: str
    hint: str


_CLEAR = "If there are to be no profiles, write []"


def missing_list(values: Mapping[str, Any]) -> MissingList | None:
    """Return why these values have no list; `None` when they have one, even if it is empty."""
    if list_in(values) is not None:
        return None
    for path in LISTS:
        *parents, name = path.split(".")
        section = value_at(values, ".".join(parents))
        for key, item in section.items() if isinstance(section, Mapping) else ():
            if key == name:
                return MissingList((*parents, name), "the list of profiles is empty", _CLEAR)
            if _is_like(key, name, item):
                return MissingList((*parents, key), f"the chart knows no such key; did you mean {name!r}?", _CLEAR)
    for key, item in values.items():
        if _is_like(key, "profileList", item):
            return MissingList((key,), "the chart knows no such key; did you mean 'singleuser.profileList'?", _CLEAR)
    extra = value_at(values, "hub.extraConfig")
    for key, text in extra.items() if isinstance(extra, Mapping) else (("", extra),):
        if isinstance(text, str) and "profile_list" in text:
            return MissingList(
                ("hub", "extraConfig", *([key] if key else [])),
                "the values have no list of profiles: code is not run from documents and ConfigMaps",
                "Write the list as singleuser.profileList",
            )
    return MissingList(
        (), "these values of a chart have no list of profiles", f"Write it as singleuser.profileList. {_CLEAR}"
    )


def _is_like(key: str, name: str, item: Any) -> bool:
    """Return whether a key is probably meant to be `name`: by its letters, or by what it holds."""
    if isinstance(item, list) and any(isinstance(one, Mapping) and "display_name" in one for one in item):
        return True
    one, other = ("".join(filter(str.isalnum, text)).lower() for text in (key[:64], name))
    return SequenceMatcher(None, one, other).ratio() > 0.8


def is_manifest(document: Any) -> bool:
    """Return whether a YAML document is a ConfigMap or a Secret, or a list of objects as kubectl writes it."""
    return isinstance(document, Mapping) and "apiVersion" in document and document.get("kind") in MANIFESTS


MANIFESTS = ("ConfigMap", "Secret", "List", "ConfigMapList", "SecretList")
"""The kinds of objects whose texts are documents of their own, as they are for a hub that watches the objects."""


def team_rules(entry: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the paths at which an entry names `allowed_teams`, which older umbrella charts have filtered lists by."""
    parts: list[tuple[tuple[Any, ...], Any]] = [((), entry)]
    for name, option in _items(entry, "profile_options"):
        path = ("profile_options", name)
        parts += [(path, option), ((*path, "unlisted_choice"), value_at(option, "unlisted_choice"))]
        parts += [((*path, "choices", key), choice) for key, choice in _items(option, "choices")]
    named = (path for path, part in parts if isinstance(part, Mapping) and "allowed_teams" in part)
    yield from ((*path, "allowed_teams") for path in named)


def _items(found: Any, key: str) -> Iterable[tuple[str, Any]]:
    inner = found.get(key) if isinstance(found, Mapping) else None
    return inner.items() if isinstance(inner, Mapping) else ()


# ------------------------------------------------------------------------------------------------ order


def helm_order(one: str, other: str) -> int:
    """Compare keys of a mapping as they are sorted when Helm writes it; negative when `one` comes first.

    The first difference decides: other signs come before letters, and numbers are compared by their value.
    """
    pairs = enumerate(zip(one, other, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    first, second = one[same : same + 1], other[same : same + 1]
    if not first or not second:
        return len(one) - len(other)
    keys: list[Any] = [(first.isalpha(), first), (second.isalpha(), second)]
    if not first.isalpha() and not second.isalpha():
        begin = len(one[:same].rstrip(_DIGITS))
        runs = [key[begin : len(key) - len(key[same:].lstrip(_DIGITS))] for key in (one, other)]
        keys = [
            (len(run.lstrip("0")), run.lstrip("0"), len(run), sign)
            for run, sign in zip(runs, (first, second), strict=True)
        ]
    return -1 if keys[0] < keys[1] else 1


def sorted_by_helm(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values in the order in which the hub gets them from the chart."""
    order = functools.cmp_to_key(helm_order)
    yield from sorted(found.items(), key=lambda pair: order(str(pair[0])))


def in_chart_order(entry: Any) -> Any:
    """Return an entry of a list with its options and their choices in the order in which the hub gets them.

    Where no choice is marked, the first one is the default; and later options override earlier ones.
    """
    options = entry.get("profile_options") if isinstance(entry, Mapping) else None
    if not isinstance(options, Mapping):
        return entry
    ordered = _like(options, ((name, _with_ordered_choices(option)) for name, option in sorted_by_helm(options)))
    return _like(entry, {**entry, "profile_options": ordered}.items())


def _with_ordered_choices(option: Any) -> Any:
    choices = option.get("choices") if isinstance(option, Mapping) else None
    if not isinstance(choices, Mapping):
        return option
    return _like(option, {**option, "choices": _like(choices, sorted_by_helm(choices))}.items())


def _like(found: Mapping[str, Any], items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of these items that knows the lines of `found`."""
    if not isinstance(found, YamlMap):
        return dict(items)
    made = YamlMap(found.line)
    made.lines = found.lines
    made.update(items)
    return made
