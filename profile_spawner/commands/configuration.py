"""Reads a hub's configuration for the commands: Python files, values of Zero to JupyterHub, and Python in ConfigMaps.

A hub that meets something wrong in its configuration does not start. Here, what is wrong or cannot be run is kept as a
problem with file and line, and the rest counts all the same.
"""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin, ProfileSpawnerError, ProfileWarning, SourceError
from profile_spawner.migrate.chart import ChartValues, Code, HubValues, Reading, chart_values
from profile_spawner.migrate.placeholders import shown
from profile_spawner.sources.chart_values import LISTS, is_manifest, value_at

from .arguments import Sources
from .output import without_prints
from .places import Places, in_yaml, literal_entries, mentions, setting_line

if TYPE_CHECKING:
    from traitlets.config import Config

    from profile_spawner.migrate.chart_config import CodeNotRun
    from profile_spawner.migrate.chart_defaults import ChartDefaults

__all__ = [
    "SPAWNER_SECTIONS",
    "HubConfig",
    "config_code",
    "config_files",
    "is_values",
    "is_yaml",
    "read_config",
    "setting",
]

CONFIG_NAMES = tuple(
    f"{folder}jupyterhub_config.py"
    for folder in ("", "/usr/local/etc/jupyterhub/", "/srv/jupyterhub/", "/etc/jupyterhub/")
)
"""The default configuration files. The second is the one of Zero to JupyterHub."""

SPAWNER_SECTIONS = ("Spawner", "KubeSpawner", "ProfileSpawner")
"""The sections of the configuration that `ProfileSpawner` reads, the least specific first."""

_IS_CONFIG = re.compile(r"^\s*(?:c\.\w+\.|c\s*=\s*get_config\(\))", re.MULTILINE)
_LIST = re.compile(r"\bprofile_?[lL]ist\b")


@dataclass
class HubConfig:
    """A hub's configuration.

    Attributes:
        config: The settings.
        files: The files it comes from.
        values: The values of Zero to JupyterHub among them, if there are any.
        code: The Python code among them.
        problems: What is wrong, and what is not checked.
        setters: The code that has set a setting last, by the name of the setting.
    """

    config: Config
    files: tuple[Path, ...]
    values: HubValues | None = None
    code: tuple[Code, ...] = ()
    problems: list[ProfileSpawnerError] = field(default_factory=list)
    setters: dict[str, Code] = field(default_factory=dict)

    def places(self) -> Places:
        """Return where plain entries of `profile_list` stand: first those of the list that the hub has."""
        layers = self.values.layers if self.values is not None else ()
        lists = [(value_at(layer.data, path), layer.file) for path in LISTS for layer in reversed(layers)]
        values = [
            (entry, in_yaml(entry, file))
            for found, file in lists
            for entry in (found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ())
            if isinstance(entry, Mapping)
        ]
        setter = self.setters.get("profile_list")
        others = (code for code in reversed(self.code) if code != setter)
        code = [one for code in (*((setter,) if setter else ()), *others) for one in literal_entries(code)]
        return Places([*code, *values] if setter is not None else [*values, *code])

    def origin_of(self, trait: str, *path: Any) -> Origin | None:
        """Return where a setting is written, or a value at a path in it; of several places the one that counts."""
        setter, value = self.setters.get(trait), self._value_of(trait)
        if setter is None and self.values is not None and value:
            listed = value_at(self.values.given, value)
            if trait == "profile_list" and path and isinstance(listed, Mapping):
                keys = dict(enumerate(sorted(listed)))  # the hub gets a list, in the order of the keys
                path = (keys.get(path[0], path[0]), *path[1:])
            added = bool(path) and isinstance(listed, Mapping) and path[0] not in listed
            lines = ((code, setting_line(code.text, trait, *path)) for code in reversed(self.code) if added)
            code, line = next(((code, line) for code, line in lines if line), (None, 0))
            return Origin(code.file, code.before + line) if code else self.values.at(*value.split("."), *path)
        for code in (setter,) if setter is not None else reversed(self.code):
            line = setting_line(code.text, trait, *path)
            if line or setter is not None:
                return Origin(code.file, code.before + (line or 1))
        return None

    def name_of(self, section: str, trait: str) -> str:
        """Return what a setting is called where it is written."""
        value = "" if trait in self.setters else self._value_of(trait)
        return value or f"{section}.{trait}"

    def _value_of(self, trait: str) -> str:
        """Return the path of the value of a chart by which a setting is set; empty without one."""
        from profile_spawner.migrate.chart_config import path_of

        sections = (*reversed(SPAWNER_SECTIONS), "JupyterHub")
        paths = (*(f"hub.config.{section}.{trait}" for section in sections), path_of(trait))
        wrong = {p.field for p in self.problems if isinstance(p, ProfileWarning) and p.rule == "wrong-value"}
        return next((p for p in paths if p and p not in wrong and self.values is not None and self.values.has(p)), "")

    def not_run(self) -> list[CodeNotRun]:
        """Return the code that could not be run."""
        from profile_spawner.migrate.chart_config import CodeNotRun

        return [p for p in self.problems if isinstance(p, CodeNotRun)]

    def without(self, trait: str) -> list[CodeNotRun]:
        """Return the code that could not be run of which the rest may set or change a setting."""
        return [
            problem
            for problem in self.not_run()
            if any(
                line + problem.code.before >= (problem.origin.line if problem.origin else 0)
                for line in mentions(problem.code.text, trait)
            )
        ]

    def file_in(self, error: BaseException) -> Path:
        """Return the file of the configuration that has raised an error; of several the innermost."""
        raised = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        files = [code.file for code in self.code]
        return Path(next((name for name in reversed(raised) if name in files), "profile_list"))

    def without_opaque(self, listed: Any, traits: Mapping[str, Any]) -> Any:
        """Return a list without the overrides of which only a placeholder is known that their traits do not take."""
        from traitlets import HasTraits, TraitError

        from profile_spawner.migrate.placeholders import OPAQUE
        from profile_spawner.profiles.user_text import nodes

        if not isinstance(listed, list):
            return listed
        for _, node in nodes(listed):
            override: Any = node.get("kubespawner_override") if isinstance(node, Mapping) else None
            for name, value in list(override.items()) if isinstance(override, dict) else ():
                if name in traits and isinstance(value, str) and OPAQUE in value:
                    try:
                        traits[name].validate(HasTraits(), value)
                    except TraitError:
                        del override[name]
        return listed

    def listed(self) -> list[Any]:
        """Return what can be checked where the hub has no list here: the literals in its code, as a problem says."""
        if self.values is not None and self.values.profile_list:
            return self.values.profile_list
        found: dict[str, Any] = {}
        for code in self.code:
            written = [(entry, where) for entry, where in literal_entries(code) if _LIKE_A_PROFILE & entry.keys()]
            found |= {entry["display_name"]: entry for entry, _ in written if entry["display_name"] not in found}
            last = code.before + code.text.count("\n") + 1
            told = (p.origin for p in self.problems if isinstance(p, ProfileWarning) and p.rule == "not-checked")
            if written and not any(o and o.source == code.file and code.before < o.line <= last for o in told):
                message = "sets no profile_list when it is run here: only the entries that stand in it are checked"
                origin = written[0][1](())
                self.problems.append(
                    ProfileWarning(message, rule="not-checked", field=code.name or None, origin=origin)
                )
        return list(found.values())


_LIKE_A_PROFILE = {"kubespawner_override", "profile_options", "slug", "description", "default"}
"""What an entry of a list has besides its name, and other data in code with a `display_name` has not."""


@contextlib.contextmanager
def read_config(sources: Sources) -> Iterator[HubConfig]:
    """Read the configuration files, and add the sources of the command line.

    Until the end of the block, functions in the configuration can import what is beside it.

    Raises:
        SourceError: If a file cannot be read, or is none.
    """
    paths = config_files(sources)
    if not paths and not sources.named:
        sources = replace(sources, profiles=("all",))
    with contextlib.ExitStack() as stack:
        with without_prints():
            result = _read(paths, sources.chart_defaults(), stack)
        _add_sources(result.config, sources)
        yield result


def _read(paths: Sequence[Path], defaults: ChartDefaults, stack: contextlib.ExitStack) -> HubConfig:
    from traitlets.config import Config

    layers, code = [], []
    for path in paths:
        if not is_yaml(path):
            code.append(Code("", path.read_text(encoding="utf-8", errors="replace"), str(path.absolute())))
            continue
        found = config_code(path)
        layers += _values(path, set(defaults.values), anyway=bool(found))
        code += found
    # A folder of a chart has files of other kinds beside the values.
    layers = [layer for layer in layers if not layer.elsewhere or layer.named] or layers
    values = HubValues(layers, defaults) if layers else None
    result = HubConfig(Config(), tuple(paths), values, tuple(code))
    if values is None:
        for one in code:
            _run(one, result, stack)
        return result
    from profile_spawner.migrate.chart_config import config_of, lost_values_of

    result.config, failed, result.setters = config_of(values, stack, code)
    result.code = (*code, *values.snippets)
    result.problems += [*values.problems, *failed, *_unread_files(values)]
    result.problems += [
        ProfileWarning(
            f"replaces what the chart sets, and loses {lost}",
            rule="replaces-hub",
            field=result.name_of("KubeSpawner", trait),
            origin=result.origin_of(trait),
            hint="Repeat it there, or use the chart's own value for what is added",
        )
        for trait, lost in lost_values_of(values, result.config)
    ]
    return result


def _add_sources(config: Config, sources: Sources) -> None:
    ours = config.ProfileSpawner
    for name, given in (("profiles_dirs", sources.profiles_dirs), ("profile_documents", sources.documents)):
        if given:
            ours[name] = [*(setting(config, name) or ()), *(str(p.absolute()) for p in given)]
    if sources.profiles is not None:
        ours.builtin_profiles = list(sources.profiles)
    if sources.configurator:
        ours.configurator_compat = True
    if sources.entry_points:
        ours.profile_entry_points = True


def _run(code: Code, result: HubConfig, stack: contextlib.ExitStack) -> None:
    """Run a configuration file as JupyterHub does; its folder is where it finds modules.

    What it sets before it fails counts.
    """
    from traitlets.config.loader import PyFileConfigLoader

    from profile_spawner.migrate.chart_config import CodeNotRun, settings_of

    path = Path(code.file)
    folder = str(path.parent.absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)
        stack.callback(sys.path.remove, folder)
    loader = PyFileConfigLoader(path.name, path=str(path.parent))
    try:
        if not is_yaml(path):
            loader.load_config()
        else:  # it stands in a ConfigMap
            exec(code.compiled(), {"c": loader.config, "get_config": lambda: loader.config})  # noqa: S102 - as the hub does
    except (Exception, SystemExit) as e:  # noqa: BLE001 - a configuration may raise anything
        result.problems.append(CodeNotRun(code, e))
    result.setters |= {name: code for _, name in settings_of(loader.config)}
    result.config.merge(loader.config)


def _unread_files(values: HubValues) -> Iterator[ProfileWarning]:
    """Yield the lists in files of the hub that are not its configuration: only code could read them."""
    from profile_spawner.migrate.chart import is_configuration

    for key, file in (value_at(values.given, "hub.extraFiles") or {}).items():
        path = str(file.get("mountPath") or "") if isinstance(file, Mapping) else ""
        if not is_configuration(path) and _LIST.search(str(file)):
            yield ProfileWarning(
                f"the hub finds this file at {path!r}, where only code reads it: a list in it is not checked",
                rule="not-checked",
                path=("hub", "extraFiles", key),
                origin=values.at("hub", "extraFiles", key),
            )


# ------------------------------------------------------------------------------------------------ files


def config_files(sources: Sources) -> list[Path]:
    """Return the configuration files that are read, in their order."""
    if not sources.named:
        return [Path(name) for name in CONFIG_NAMES if Path(name).is_file()][:1]
    return [path for given in sources.config for path in (sorted(given.glob("*.py")) if given.is_dir() else [given])]


def is_values(path: Path) -> bool:
    """Return whether a file holds values of a chart for the hub itself, or names files that do.

    Those of a ConfigMap may be for a hub that watches it, and do not count.
    """
    try:
        return bool(chart_values(path, manifests=False))
    except SourceError:
        return False  # the error is reported when the file is loaded


def config_code(path: Path) -> list[Code]:
    """Return the Python configuration of a hub in a file: all of it, or what stands in a ConfigMap or Secret."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        return [Code("", text, str(path))] if _IS_CONFIG.search(text) else []
    if ".py" not in text:
        return []
    with contextlib.suppress(SourceError):
        return list(_code_in(Reading().read(text, str(path)), str(path)))
    return []


def _code_in(documents: Sequence[Any], file: str) -> Iterator[Code]:
    for document in documents:
        if not is_manifest(document):
            continue
        yield from _code_in(document.get("items") or (), file)
        for part in ("data", "stringData"):
            found = document.get(part)
            for key, text in found.items() if isinstance(found, Mapping) else ():
                if key.endswith(".py") and isinstance(text, str) and _IS_CONFIG.search(text):
                    yield Code(key, shown(text), file, found.lines[key])


def is_yaml(path: Path) -> bool:
    """Return whether a file is YAML by its name, or a template of YAML."""
    return _YAML.search(path.name) is not None


_YAML = re.compile(
    r"(?:\.(?:ya?ml|json)(?:\.(?:j2|jinja2?|go|gotmpl|tmpl|tpl|tftpl|template|mustache|erb|in|dist|example|sample))?"
    r"|\.(?:j2|gotmpl|tpl|tftpl))$"
)


def _values(path: Path, keys: set[str], *, anyway: bool) -> list[ChartValues]:
    """Return the values of a chart. A file of other parts of them only, or an empty one, counts as well.

    Args:
        path: The file.
        keys: The chart's own keys.
        anyway: Whether there is code in the file, so that it need not have values.

    Raises:
        SourceError: when the file holds something else.
    """
    found = chart_values(path) or chart_values(path, also=lambda document: keys.issuperset(document))
    if found or anyway:
        return found
    raise SourceError(
        "these are not values of Zero to JupyterHub",
        origin=Origin(str(path)),
        expected="singleuser, hub.config or hub.extraConfig, at any depth",
        hint="Documents with profiles are named with --documents",
    )


# ------------------------------------------------------------------------------------------------ settings


def setting(config: Config, name: str, sections: Sequence[str] = SPAWNER_SECTIONS) -> Any:
    """Return the configured value of a spawner's setting; `None` where there is none."""
    from traitlets.config.loader import LazyConfigValue

    value = next((config[section][name] for section in reversed(sections) if name in config[section]), None)
    # `c.KubeSpawner.profile_list.append(...)`
    return value.get_value([]) if isinstance(value, LazyConfigValue) else value
