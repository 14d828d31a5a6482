"""Finds errors in an entry of a plain `profile_list`, from the entry alone.

KubeSpawner does not validate entries. A misplaced or misspelt key fails at a user's spawn, or is ignored. Here every
key is compared with the traits of the installed KubeSpawner and with the keys of profiles, options and choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin, did_you_mean

from .findings import Finding, Level
from .places import Where, setting_origin

if TYPE_CHECKING:
    from .loading import LoadedProfiles

__all__ = ["lint_entry", "unknown_settings"]

_MISTAKEN = {
    "env": "environment",
    "extra_env": "environment",
    "extraEnv": "environment",
    "cpu": "cpu_limit",
    "memory": "mem_limit",
    "memory_limit": "mem_limit",
    "memory_guarantee": "mem_guarantee",
    "image_spec": "image",
    "singleuser_image_spec": "image",
    "singleuser_image_pull_policy": "image_pull_policy",
    "extraVolumes": "volumes",
    "extraVolumeMounts": "volume_mounts",
    "nodeSelector": "node_selector",
    "defaultUrl": "default_url",
}
"""Names from the chart's values, or from older KubeSpawners, for what is a trait now."""
_PAIRS = (("cpu_guarantee", "cpu_limit"), ("mem_guarantee", "mem_limit"))
_SMALL_MEMORY = 1024**2


def lint_entry(entry: Any, traits: Iterable[str], where: Where) -> Iterator[Finding]:
    """Yield the errors and warnings of one entry.

    Args:
        entry: The dictionary.
        traits: The names of the spawner's traits.
        where: Returns file and line of a path in the entry, as far as known.
    """
    if not isinstance(entry, Mapping):
        return
    yield from _Linter(entry, frozenset(traits), where).all()


def unknown_settings(found: LoadedProfiles) -> Iterator[Finding]:
    """Yield settings of the hub's configuration that neither JupyterHub nor the spawner has."""
    from profile_spawner.hub.settings import jupyterhub_settings

    spawner = found.spawner_class
    names = frozenset(spawner.class_trait_names(config=True))  # type: ignore[attr-defined]
    sections = {cls.__name__: names for cls in spawner.__mro__ if hasattr(cls, "class_trait_names")}
    sections["JupyterHub"] = jupyterhub_settings()
    for section, known in sections.items():
        for name in found.config.get(section, {}):
            if name not in known:
                hint = did_you_mean(name, known)
                origin = setting_origin(found.config_files, name) or Origin("configuration")
                yield Finding(
                    "error" if hint else "warning",
                    "unknown-setting",
                    f"{section} has no such setting{hint}",
                    "",
                    origin.source,
                    origin.line,
                    f"{section}.{name}",
                )


class _Linter:
    def __init__(self, entry: Mapping[str, Any], traits: frozenset[str], where: Where) -> None:
        from profile_spawner.profiles.attributes import ATTRIBUTES

        self._entry = entry
        self._traits = traits
        self._where = where
        self._profile = str(entry.get("slug") or entry.get("display_name") or "")
        self._entry_keys = frozenset(name for name, attribute in ATTRIBUTES.items() if attribute.plain)

    def all(self) -> Iterator[Finding]:
        """Yield everything."""
        entry = self._entry
        yield from self._keys(entry, (), self._entry_keys, "a profile")
        yield from self._override(entry.get("kubespawner_override"), ("kubespawner_override",))
        yield from self._groups(entry, ())
        options = entry.get("profile_options")
        for name, option in options.items() if isinstance(options, Mapping) else ():
            path = ("profile_options", name)
            if isinstance(option, Mapping):
                yield from self._option(option, path)

    def _option(self, option: Mapping[str, Any], path: tuple[Any, ...]) -> Iterator[Finding]:
        from profile_spawner.profiles.options import OPTION_TYPES, Choice, Unlisted

        known = frozenset().union(*(cls.keys for cls in OPTION_TYPES.values()))
        yield from self._keys(option, path, known | {"dynamic_image_building"}, "an option")
        yield from self._groups(option, path)
        for key in ("kubespawner_override", "kubespawner_override_off"):
            yield from self._override(option.get(key), (*path, key))
        choices = option.get("choices")
        defaults = []
        for name, choice in choices.items() if isinstance(choices, Mapping) else ():
            inner = (*path, "choices", name)
            if not isinstance(choice, Mapping):
                continue
            yield from self._keys(choice, inner, Choice.keys, "a choice")
            yield from self._override(choice.get("kubespawner_override"), (*inner, "kubespawner_override"))
            yield from self._groups(choice, inner)
            if choice.get("default"):
                defaults.append(name)
        if len(defaults) > 1:
            yield self._found(
                "warning", "several-defaults", f"several choices are the default: {', '.join(map(str, defaults))}", path
            )
        unlisted = option.get("unlisted_choice")
        if isinstance(unlisted, Mapping):
            inner = (*path, "unlisted_choice")
            yield from self._keys(unlisted, inner, Unlisted.keys | {"description_in_choices"}, "unlisted_choice")
            yield from self._override(unlisted.get("kubespawner_override"), (*inner, "kubespawner_override"))
            if unlisted.get("enabled") and not unlisted.get("validation_regex"):
                message = "users may type anything here: add a validation_regex"
                yield self._found("warning", "unchecked-text", message, inner)
            yield from self._pattern(unlisted.get("validation_regex"), (*inner, "validation_regex"))

    def _pattern(self, pattern: Any, path: tuple[Any, ...]) -> Iterator[Finding]:
        from profile_spawner.migrate.profile_lists import whole_pattern

        if isinstance(pattern, str) and (whole := whole_pattern(pattern)) != pattern:
            message = f"here the whole text must match; for KubeSpawner's meaning write {whole!r}"
            yield self._found("warning", "open-pattern", message, path)

    def _keys(
        self, found: Mapping[str, Any], path: tuple[Any, ...], known: frozenset[str], what: str
    ) -> Iterator[Finding]:
        for key in found:
            if key in known:
                continue
            here = (*path, key)
            if key == "allowed_teams":
                message = "excludes no user, unless the hub filters its list by it: write the teams into allowed_groups"
                yield self._found("warning", "open-to-everybody", message, here)
            elif key in self._traits and "kubespawner_override" in known:
                message = "has no effect here; it belongs into kubespawner_override"
                yield self._found("error", "misplaced-key", message, here)
            elif key in ("profile_options", "kubespawner_override", "choices"):
                yield self._found("error", "misplaced-key", f"has no effect in {what}: is it indented wrongly?", here)
            else:
                hint = did_you_mean(key, known)
                level: Level = "error" if hint else "warning"
                yield self._found(level, "unknown-key", f"is nothing that {what} can have{hint}", here)

    def _override(self, override: Any, path: tuple[Any, ...]) -> Iterator[Finding]:
        if override is None:
            return
        if not isinstance(override, Mapping):
            message = f"must be a mapping, not {type(override).__name__}"
            yield self._found("error", "wrong-type", message, path)
            return
        for key, value in override.items():
            here = (*path, key)
            if key in self._entry_keys and key not in self._traits:
                yield self._found(
                    "error", "misplaced-key", "has no effect in kubespawner_override: is it indented wrongly?", here
                )
            elif key not in self._traits:
                mistaken = f"; did you mean {_MISTAKEN[key]!r}?" if key in _MISTAKEN else ""
                hint = mistaken or did_you_mean(key, self._traits, 0.7)
                yield self._found("error", "unknown-trait", f"is not a setting of KubeSpawner{hint}", here)
            else:
                yield from self._value(key, value, here)
        yield from self._pairs(override, path)

    def _value(self, key: str, value: Any, here: tuple[Any, ...]) -> Iterator[Finding]:
        memory = key in ("mem_limit", "mem_guarantee")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if memory and number and 0 < value < _SMALL_MEMORY:
            message = f"{value:g} are bytes; with a unit it needs quotes, such as '{value:g}G'"
            yield self._found("warning", "memory-in-bytes", message, here)
        if key == "environment" and isinstance(value, Mapping):
            for name, item in value.items():
                if isinstance(item, bool):
                    message = f"is the truth value {item}, and becomes the text '{item}': put it into quotes"
                    yield self._found("warning", "unquoted-text", message, (*here, name))
        if key == "image" and isinstance(value, str) and (" " in value or not value):
            yield self._found("error", "image", f"{value!r} is not the name of an image", here)

    def _pairs(self, override: Mapping[str, Any], path: tuple[Any, ...]) -> Iterator[Finding]:
        for low, high in _PAIRS:
            less, more = _size(override.get(low)), _size(override.get(high))
            if less is not None and more is not None and more and less > more:
                message = f"is more than {high} ({override[low]} > {override[high]})"
                yield self._found("error", "guarantee-over-limit", message, (*path, low))

    def _groups(self, found: Mapping[str, Any], path: tuple[Any, ...]) -> Iterator[Finding]:
        for key in ("allowed_groups", "allowed_users"):
            if key in found and found[key] is not None and not found[key]:
                yield self._found("warning", "no-user", "is empty: no user may use it", (*path, key))

    def _found(self, level: Level, rule: str, message: str, path: tuple[Any, ...]) -> Finding:
        origin = self._where(path)
        return Finding(
            level, rule, message, self._profile, origin.source, origin.line, ".".join(str(step) for step in path)
        )


def _size(value: Any) -> float | None:
    """Return CPU cores or bytes; `None` if it is not such a number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip()
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1:].upper())
    try:
        return float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        return None
