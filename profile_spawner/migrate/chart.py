"""Reads the values of Zero to JupyterHub for the hub, and merges them as Helm does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
)
from profile_spawner.profiles.yaml_text import YamlMap, line_at, parse_yaml
from profile_spawner.sources.chart_values import find_values, in_chart_order, is_manifest, sorted_by_helm, value_at

from .chart_defaults import ChartDefaults, known_defaults
from .placeholders import OPAQUE, filled_in, lines_of_directives, with_quotes

__all__ = ["ChartValues", "Code", "HubValues", "chart_values"]

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
    """

    data: Mapping[str, Any]
    file: str
    problems: Sequence[ProfileSpawnerError] = ()

    def at(self, *path: Any) -> Origin:
        """Return where something in it was written."""
        return Origin(self.file, line_at(self.data, path))


def chart_values(
    path: Path, *, manifests: bool = True, also: Callable[[Mapping[str, Any]], bool] = lambda document: False
) -> list[ChartValues]:
    """Return the values of charts that a file holds; none, when it is something else.

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
    problems: list[ProfileSpawnerError] = []
    documents = _documents(raw, source, problems)
    found = []
    for document in documents or [YamlMap(0)]:
        others = [document] if isinstance(document, Mapping) and also(document) else ()
        for data in others or (find_values(document, source) if manifests or not is_manifest(document) else ()):
            filled, placeholders = filled_in(data)
            found.append(ChartValues(filled, source, [*problems, *_not_rendered(data, source, placeholders)]))
            problems = []
    return found


def _documents(raw: bytes, source: str, problems: list[ProfileSpawnerError]) -> list[Any]:
    def twice(error: SourceError) -> None:
        message = f"{error.message}. The last one counts"
        problems.append(ProfileWarning(message, rule="duplicate-key", origin=error.origin))

    try:
        return parse_yaml(raw, source, duplicate=twice)
    except SourceError:
        text = raw.decode("utf-8", "replace")
        quoted = with_quotes(text)
        if quoted == text:
            raise
    problems.clear()
    documents = parse_yaml(quoted, source, duplicate=twice)
    for line in lines_of_directives(text):
        message = "this is a directive of a template that is not rendered yet: everything under it is checked"
        problems.append(ProfileWarning(message, rule="placeholder", origin=Origin(source, line)))
    return documents


def _not_rendered(data: Any, source: str, found: Sequence[tuple[tuple[Any, ...], str]]) -> list[ProfileSpawnerError]:
    hint = "If it is meant as it stands here, and KubeSpawner reads it, double the braces"
    message = "is a placeholder that is not rendered yet; the rest is checked as if it had a value"
    return [
        ProfileWarning(
            f"{text!r} {message}",
            rule="placeholder",
            path=path,
            origin=Origin(source, line_at(data, path)),
            hint=hint,
        )
        for path, text in found
    ]


@dataclass(frozen=True)
class HubValues:
    """The values of a hub: those of its files, and the chart's defaults below them.

    Attributes:
        layers: The values of the files; later ones count more.
        defaults: The chart's defaults.
    """

    layers: Sequence[ChartValues]
    defaults: ChartDefaults = field(default=known_defaults)

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
        return _checked(merged, self.defaults.values, (), self.at, problems), problems

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
            if isinstance(text, str):
                origin = self.at(*path)
                result.append(Code(".".join(path), text, origin.source, origin.line))
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
        best = max(reversed(self.layers), key=lambda layer: _depth(layer.data, path), default=None)
        return best.at(*path) if best is not None else Origin("the chart's defaults")

    def has(self, path: str) -> bool:
        """Return whether a value, with a path of keys separated by dots, is in the files, and not a default only."""
        return value_at(self.given, path) is not None


RELEASE = "jupyterhub"
"""The name of the release, which no values tell: the commands of the documentation of Zero to JupyterHub use it."""


def is_configuration(path: str) -> bool:
    """Return whether the chart's hub runs a file at this path as configuration."""
    folder, _, name = path.rpartition("/")
    return folder == f"{CONFIG_FOLDER}/jupyterhub_config.d" and name.endswith(".py")


_FREE = (("singleuser", "extraLabels"), ("singleuser", "networkPolicy"))
"""Mappings with defaults in which other keys may stand as well."""
_Problems = list[ProfileSpawnerError]


def _checked(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    path: tuple[str, ...],
    at: Callable[..., Origin],
    found: _Problems,
) -> dict[str, Any]:
    """Return values without those that the chart refuses, which are added to `found`."""
    result: dict[str, Any] = {}
    strict = path[:1] == ("singleuser",) and bool(defaults) and path not in _FREE
    similar = defaults if strict or not path else ()
    for key, value in given.items():
        here, below = (*path, key), defaults.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = _checked(value, below, here, at, found)
        elif isinstance(below, Mapping) and value is not None and here not in _TEXT_TOO:
            if value != OPAQUE:
                found.append(_refused("must be a mapping", here, at, value=value, expected="key: value"))
        elif (
            (isinstance(below, list) or here in _LISTED)
            and key != "profileList"  # `profile_list` says more about it
            and not isinstance(value, list | Mapping | None)
        ):
            if value != OPAQUE:
                found.append(_refused("must be a list", here, at, value=value, expected="a list"))
        elif path == ("hub", "config") and not isinstance(value, Mapping | None):
            found.append(_refused("must be a mapping", here, at, value=value, expected="setting: value"))
        elif key not in defaults and (strict or did_you_mean(key, similar)):
            found.append(_refused(f"the chart has no such key{did_you_mean(key, similar)}", here, at))
        else:
            result[key] = value
    for key in [k for k in result if path == ("hub", "config") and not k[:1].isupper()]:
        message = "the chart takes sections only whose names begin with a capital letter, such as KubeSpawner"
        found.append(_refused(message, (*path, key), at))
        del result[key]
    return result


_LISTED = (("singleuser", "storage", "extraVolumes"), ("singleuser", "storage", "extraVolumeMounts"))
"""Lists or mappings without a default."""
_TEXT_TOO = (("hub", "extraConfig"), ("singleuser", "extraEnv"))
"""Mappings that may be something else in some versions of the chart."""


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
