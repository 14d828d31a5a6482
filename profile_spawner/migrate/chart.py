"""Reads the values of Zero to JupyterHub for the hub, and merges them as Helm does."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType
from typing import Any

from profile_spawner.errors import (
    Origin,
    ProfileDefinitionError,
    ProfileSpawnerError,
    ProfileWarning,
    SourceError,
    did_you_mean,
    shorten,
)
from profile_spawner.profiles.yaml_text import YamlMap, line_at, parse_yaml
from profile_spawner.sources.chart_values import find_values, in_chart_order, is_manifest, sorted_by_helm, value_at

from .chart_defaults import MOVED, SIZE, ChartDefaults, Shape, known_defaults
from .placeholders import OPAQUE, Placeholder, begins_block, filled_in, made_readable, shown
from .releases import Reference, more_values, parameters_of, refers_to

__all__ = ["ChartValues", "Code", "HubValues", "Reading", "chart_values"]

CONFIG_FOLDER = "/usr/local/etc/jupyterhub"
"""Where the chart's hub looks for its configuration, and for files that it reads besides, in `jupyterhub_config.d`."""


@dataclass(frozen=True)
class Code:
    """Python code of a hub's configuration.

    Attributes:
        name: What it is called: the path in the values, or the name of the file.
        text: The code.
        file: The file in which it stands.
        before: How many lines of the file stand before it.
    """

    name: str
    text: str
    file: str
    before: int = 0

    def compiled(self) -> CodeType:
        """Return it ready to be run, with the lines of the file.

        Raises:
            SyntaxError: If it is not Python.
        """
        return compile("\n" * self.before + self.text, self.file, "exec")


@dataclass(frozen=True)
class ChartValues:
    """The values of one chart in one document.

    Attributes:
        data: The mapping that has `singleuser` or `hub` in it.
        file: The file.
        problems: What is to be said about how they are written.
        lines: The lines of the file.
        elsewhere: Whether the document has no values.
        named: The files and objects that it names instead.
    """

    data: Mapping[str, Any]
    file: str
    problems: Sequence[ProfileSpawnerError] = ()
    lines: Sequence[str] = ()
    elsewhere: bool = False
    named: str = ""

    def at(self, *path: Any) -> Origin:
        """Return where something in it was written."""
        return Origin(self.file, line_at(self.data, path))

    def before(self, *path: Any) -> int:
        """Return how many lines of the file stand before a text; one of several lines begins below its key."""
        return _before(self.lines, line_at(self.data, path))


def _before(lines: Sequence[str], line: int) -> int:
    written = lines[line - 1] if 0 < line <= len(lines) else "|"
    return line if begins_block(written) else line - 1


def chart_values(
    path: Path, *, manifests: bool = True, also: Callable[[Mapping[str, Any]], bool] = lambda document: False
) -> list[ChartValues]:
    """Return the values of charts that a file holds; none, when it is something else.

    A manifest that only refers to other files with values has values that are empty, and a warning.

    Args:
        path: The file.
        manifests: Whether to look into ConfigMaps and Secrets.
        also: Tells of other documents that they are values; an empty file is asked about as an empty one.

    Raises:
        SourceError: If it is not YAML.
    """
    source = str(path)
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise SourceError(f"the file cannot be read: {e.strerror}", origin=Origin(source)) from None
    lines = raw.decode("utf-8", "replace").split("\n")
    reading = Reading()
    documents = reading.read(raw, source)
    found: list[ChartValues] = []
    for document in documents or [YamlMap(0)]:
        before = len(found)
        others = [document] if isinstance(document, Mapping) and also(document) else ()
        for data in others or _values_in(document, source, reading, manifests=manifests):
            filled, placeholders = filled_in(data)
            wrong = [*reading.problems, *_not_rendered(data, source, lines, placeholders)]
            reading.problems.clear()
            found.append(ChartValues(filled, source, wrong, lines))
        for one in more_values(document) if len(found) > before else ():
            message = f"more values come from {_named([one])}, which are not read here"
            more = ProfileWarning(message, rule="not-checked", origin=Origin(source, one.line))
            found[before] = replace(found[before], problems=[*found[before].problems, more])
    installs = [(d, named) for d in documents if (named := refers_to(d)) is not None] if not found else []
    if installs:
        references = [one for _, named in installs for one in named]
        line = references[0].line if references else getattr(installs[0][0], "line", 0)
        sources = _named(references)
        missing = ProfileWarning(
            "there are no values here, so nothing is checked",
            rule="not-checked",
            origin=Origin(source, line),
            hint=f"They come from {sources}" if sources else None,
        )
        found.append(ChartValues(YamlMap(0), source, [*reading.problems, missing], elsewhere=True, named=sources))
    return found


def _named(references: Sequence[Reference]) -> str:
    return ", ".join(dict.fromkeys(name for one in references for name in one.names))


def _values_in(document: Any, source: str, reading: Reading, *, manifests: bool) -> Iterator[Mapping[str, Any]]:
    if manifests or not is_manifest(document):
        yield from find_values(document, source, reading.read)
        for values in parameters_of(document):
            yield from find_values(values, source)


class Reading:
    """Reads YAML, also of a template that is not rendered yet.

    Attributes:
        problems: What is to be said about how it is written.
    """

    def __init__(self) -> None:
        self.problems: list[ProfileSpawnerError] = []

    def read(self, raw: str | bytes, source: str) -> list[Any]:
        """Return the documents in a text, in which placeholders may be hidden.

        Raises:
            SourceError: If it is not YAML.
        """
        problems: list[ProfileSpawnerError] = []

        def twice(error: SourceError) -> None:
            message = f"{shown(error.message)}. The last one counts"
            problems.append(ProfileWarning(message, rule="duplicate-key", origin=error.origin))

        try:
            documents = parse_yaml(raw, source, duplicate=twice)
        except SourceError:
            text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
            readable, directives = made_readable(text)
            if readable == text:
                raise
            problems.clear()
            try:  # other braces may be those of other programs
                rest, of_terraform = made_readable(text, terraform=True)
                documents = parse_yaml(rest, source, duplicate=twice)
                directives = of_terraform
            except SourceError:
                problems.clear()
                documents = parse_yaml(readable, source, duplicate=twice)
            for directive in directives if any(isinstance(d, Mapping | list) for d in documents) else ():
                message = f"{shorten(directive.text)} is a directive of a template: the lines under it are checked"
                problems.append(ProfileWarning(message, rule="placeholder", origin=Origin(source, directive.line)))
        self.problems += problems
        return documents


def _not_rendered(
    data: Any, source: str, lines: Sequence[str], found: Sequence[Placeholder]
) -> Iterator[ProfileSpawnerError]:
    for one in found:
        line = line_at(data, one.path)
        if one.row is not None:
            line = _before(lines, line) + one.row + 1
        yield ProfileWarning(
            f"{shorten(one.text)} is not rendered yet{', so this code is not checked' if one.opaque else ''}",
            rule="placeholder",
            path=tuple(shown(step) if isinstance(step, str) else step for step in one.path),
            origin=Origin(source, line),
        )


@dataclass(frozen=True)
class HubValues:
    """The values of a hub: those of its files, and the chart's defaults below them.

    Attributes:
        layers: The values of the files; later ones count more.
        defaults: The chart's defaults.
    """

    layers: Sequence[ChartValues]
    defaults: ChartDefaults = field(default=known_defaults)

    @property
    def elsewhere(self) -> bool:
        """Whether the files only say where the values are."""
        return all(layer.elsewhere for layer in self.layers)

    @functools.cached_property
    def given(self) -> Mapping[str, Any]:
        """What the files say, merged, without what is not of the form that the chart takes."""
        return self._sound[0]

    @functools.cached_property
    def _sound(self) -> tuple[Mapping[str, Any], list[ProfileSpawnerError]]:
        merged: dict[str, Any] = {}
        for layer in self.layers:
            merged = _merged(merged, layer.data)
        problems: list[ProfileSpawnerError] = []
        return _checked(merged, self.defaults.shape, (), self.at, self.defaults.described, problems), problems

    @functools.cached_property
    def data(self) -> Mapping[str, Any]:
        """All values, as the chart's hub reads them: in Helm's order; only the list of profiles knows its lines."""
        merged = _as_helm_sorts(_merged(_without_nulls(self.defaults.values), self.given, deletes=True))
        if isinstance(user := merged.get("singleuser"), dict):
            user["profileList"] = self.profile_list
        names = {"Chart": {"Name": "jupyterhub", "Version": self.defaults.version}, "Release": {"Name": RELEASE}}
        return {**names, **merged}

    @property
    def profile_list(self) -> list[Any]:
        """The entries of `singleuser.profileList` as the hub gets them; those of a mapping in the order of its keys."""
        return self._listed[0]

    @property
    def problems(self) -> list[ProfileSpawnerError]:
        """What is to be said about how the values are written."""
        wrong = self._listed[1]
        return [*(p for layer in self.layers for p in layer.problems), *self._sound[1], *([wrong] if wrong else [])]

    @functools.cached_property
    def _listed(self) -> tuple[list[Any], ProfileSpawnerError | None]:
        listed = value_at(self.given, "singleuser.profileList")
        if isinstance(listed, Mapping) and all(isinstance(v, Mapping) for v in listed.values()):
            return [in_chart_order(listed[key]) for key in sorted(listed)], None
        if listed is None or listed == OPAQUE:
            return [], None
        if isinstance(listed, list):
            return [in_chart_order(entry) for entry in listed], None
        return [], ProfileDefinitionError(
            "must be a list of profiles",
            origin=self.at("singleuser", "profileList"),
            field="singleuser.profileList",
            value=listed,
        )

    @property
    def snippets(self) -> list[Code]:
        """The Python code of `hub.extraFiles` and `hub.extraConfig`, in the order in which the chart runs it."""
        extra = value_at(self.given, "hub.extraConfig")
        pairs = [("", extra)] if isinstance(extra, str) else sorted(extra.items()) if isinstance(extra, Mapping) else []
        files = sorted((path, key, text) for key, path, text in self._files() if is_configuration(path))
        found: list[tuple[tuple[str, ...], Any]]
        found = [(("hub", "extraFiles", key, "stringData"), text) for _, key, text in files]
        found += [(("hub", "extraConfig", *([key] if key else [])), text) for key, text in pairs]
        result = []
        for path, text in found:
            layer = self._layer_of(*path)
            if isinstance(text, str) and text != OPAQUE and layer is not None:
                result.append(Code(".".join(path), text, layer.file, layer.before(*path)))
        return result

    @property
    def files(self) -> dict[str, str]:
        """The texts of `hub.extraFiles` by the path at which the hub finds them."""
        return {path: text for _, path, text in self._files()}

    def _files(self) -> list[tuple[str, str, str]]:
        """Return key, path and text of `hub.extraFiles`."""
        extra = value_at(self.given, "hub.extraFiles")
        return [
            (key, str(file.get("mountPath") or ""), file["stringData"])
            for key, file in (extra.items() if isinstance(extra, Mapping) else ())
            if isinstance(file, Mapping) and isinstance(file.get("stringData"), str)
        ]

    @property
    def images(self) -> set[str]:
        """The images of the chart's own table: its puller knows them."""
        paths = ("singleuser.image", "singleuser.networkTools.image")
        own = (value_at(self.defaults.values, path) for path in paths if not self.has(f"{path}.name"))
        return {f"{image['name']}:{image['tag']}" for image in own if isinstance(image, Mapping)}

    def at(self, *path: Any) -> Origin:
        """Return where a value was written: in the last file that has it, or in the one that has most of its path."""
        best = self._layer_of(*path)
        return best.at(*path) if best is not None else Origin("the chart's defaults")

    def _layer_of(self, *path: Any) -> ChartValues | None:
        return max(reversed(self.layers), key=lambda layer: _depth(layer.data, path), default=None)

    def has(self, path: str) -> bool:
        """Return whether a value, with a path of keys separated by dots, is in the files, and not a default only."""
        return value_at(self.given, path) is not None


RELEASE = "jupyterhub"
"""The name of the release, which no values tell: the commands of the documentation of Zero to JupyterHub use it."""


def is_configuration(path: str) -> bool:
    """Return whether the chart's hub runs a file at this path as configuration."""
    folder, _, name = path.rpartition("/")
    return folder == f"{CONFIG_FOLDER}/jupyterhub_config.d" and name.endswith(".py")


def _checked(
    given: Mapping[str, Any],
    shape: Shape,
    path: tuple[str, ...],
    at: Callable[..., Origin],
    version: str,
    found: list[ProfileSpawnerError],
) -> dict[str, Any]:
    """Return values without those that the chart refuses, which are added to `found`."""
    result: dict[str, Any] = {}
    for key, value in given.items():
        here = (*path, key)
        below = shape.get(key, shape.get("*", _UNKNOWN)) if shape and OPAQUE not in key else None
        if below is _UNKNOWN:
            hint = MOVED.get(".".join(here)) or MOVED.get(".".join(here[-2:]))
            similar = "" if hint else did_you_mean(key, shape)
            found.append(_refused(f"the chart ({version}) has no such key{similar}", here, at, hint=hint))
        elif isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = _checked(value, below, here, at, version, found)
        elif wrong := _mismatch(below, value):
            message, expected = wrong
            if here == ("hub", "extraConfig"):
                expected = "a name with the code below it, such as hub.extraConfig.myConfig"
                result[key] = value  # the code is checked all the same
            found.append(_refused(message, here, at, value=json.dumps(value, default=str), expected=expected))
        elif path == ("hub", "config") and not isinstance(value, Mapping | None):
            found.append(_refused("must be a mapping", here, at, value=value, expected="setting: value"))
        else:
            result[key] = value
    for key in [k for k in result if path == ("hub", "config") and not k[:1].isupper()]:
        message = "the chart takes sections only whose names begin with a capital letter, such as KubeSpawner"
        found.append(_refused(message, (*path, key), at))
        del result[key]
    return result


_UNKNOWN = object()


def _mismatch(shape: Shape, value: Any) -> tuple[str, str] | None:
    """Return what a value must be that is not of a shape, and what to write instead."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = value if isinstance(value, str) else ""
    if shape is None or value is None or OPAQUE in text:
        return None
    if isinstance(shape, Mapping):
        return None if isinstance(value, Mapping) else ("must be a mapping", "key: value")
    if isinstance(shape, list):
        return None if isinstance(value, list | Mapping) else ("must be a list", "a list")
    if isinstance(shape, tuple):
        return None if value in shape else ("is none of the values that it can have", _one_of(shape))
    if shape is False:
        return None if isinstance(value, bool) else ("must be a truth value", "true or false, without quotes")
    if shape == SIZE:
        if number or re.fullmatch(r"[0-9]+(\.[0-9]+)?[KMGT]", text):
            return None
        amount = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT])i?[bB]?", text)
        example = f"{amount[1]}{amount[2].upper()}" if amount else SIZE
        return "must be an amount of memory", f"a suffix K, M, G or T: {example}"
    if isinstance(shape, str):
        quoted = f'"{json.dumps(value)}", in quotes' if isinstance(value, bool | int) else "a text"
        if isinstance(value, float):
            quoted = "in quotes, as it is written there"  # of 1.10, only 1.1 is known here
        return None if isinstance(value, str) else ("must be a text", quoted)
    whole = isinstance(shape, int)
    if number and (not whole or value == int(value)):
        return None
    milli = re.fullmatch(r"([0-9]+)m", text)
    plain = re.fullmatch(r"[0-9]+" if whole else r"[0-9]*\.?[0-9]+", text)
    example = f"{int(milli[1]) / 1000:g}" if milli and not whole else text if plain else ""
    kind = "a whole number" if whole else "a number"
    return f"must be {kind}", f"{example or kind}, without quotes and units"


def _one_of(values: Sequence[Any]) -> str:
    return f"one of {', '.join(value for value in values if value)}"


def _refused(message: str, path: tuple[str, ...], at: Callable[..., Origin], **more: Any) -> ProfileWarning:
    return ProfileWarning(message, rule="chart-value", level="error", path=path, origin=at(*path), **more)


def _depth(data: Any, path: tuple[Any, ...]) -> int:
    for number, step in enumerate(path):
        inside = step in data if isinstance(data, Mapping) else isinstance(data, list) and step in range(len(data))
        if not inside:
            return number
        data = data[step]
    return len(path)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any], *, deletes: bool = False) -> dict[str, Any]:
    """Return mappings merged and other values replaced; with `deletes`, a null removes what is in `base`."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if value is None and deletes and key in result:
            del result[key]
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = _merged(below, value, deletes=deletes)
        else:
            result[key] = value
    return result


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {k: _without_nulls(v) for k, v in value.items() if v is not None}


def _as_helm_sorts(value: Any) -> Any:
    """Return a copy without lines, its keys in the order in which the hub gets them."""
    if isinstance(value, Mapping):
        return {k: _as_helm_sorts(v) for k, v in sorted_by_helm(value)}
    return [_as_helm_sorts(v) for v in value] if isinstance(value, list) else value
