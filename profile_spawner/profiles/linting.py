"""Finds what is probably not intended in an entry of a plain `profile_list`, from the entry alone.

KubeSpawner does not validate entries. A misplaced or misspelt key fails at a user's spawn, or is ignored. Here every
key is compared with the traits of the hub's spawner and with the keys of profiles, options and choices, and every value
with what its trait takes. Nothing is refused: the hub warns its administrators, and `validate` reports it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from traitlets import HasTraits, TraitError

from profile_spawner.errors import Origin, ProfileWarning, did_you_mean
from profile_spawner.params.quantities import quantity_value

from .attributes import ATTRIBUTES
from .options import OPTION_TYPES, Choice, Unlisted
from .patterns import whole_pattern
from .plain_entries import slugify_like_kubespawner

if TYPE_CHECKING:
    from .entry import Entry

__all__ = ["MAX_WARNINGS", "lint_defaults", "lint_entry"]

MAX_WARNINGS = 20
"""How many warnings one entry can have: it may come from a document that is wrong as a whole."""

Path = tuple[Any, ...]
_Warnings = Iterator[ProfileWarning]

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
_EXPECTED = {
    **dict.fromkeys(
        ("mem_limit", "mem_guarantee"), "a number of bytes, or a text with suffix K, M, G or T such as '4G'"
    ),
    **dict.fromkeys(("cpu_limit", "cpu_guarantee"), "a number of cores such as 0.5, without quotes and unit"),
}
"""What the traits expect whose own description is not enough."""
_QUANTITIES = ("extra_resource_limits", "extra_resource_guarantees")
_FALSE = frozenset({"false", "no", "off", "n", "0"})
_ENTRY_KEYS = frozenset(name for name, attribute in ATTRIBUTES.items() if attribute.plain)
_OPTION_KEYS = frozenset().union(*(cls.keys for cls in OPTION_TYPES.values())) | {"dynamic_image_building"}
_UNLISTED_KEYS = Unlisted.keys | {"description_in_choices"}


def lint_entry(entry: Any, traits: Mapping[str, Any], where: Callable[[Path], Origin]) -> tuple[ProfileWarning, ...]:
    """Return the warnings about one entry, at most `MAX_WARNINGS`. Never raises.

    Args:
        entry: The dictionary.
        traits: The spawner's configurable traits by name.
        where: Returns file and line of a path in the entry, as far as known.
    """
    found: list[ProfileWarning] = []
    try:
        if isinstance(entry, Mapping):
            found.extend(itertools.islice(_Linter(entry, traits, where).all(), MAX_WARNINGS))
    except Exception:  # noqa: BLE001 - values of an entry in Python may do anything; KubeSpawner decides about them
        return tuple(found)
    return tuple(found)


def lint_defaults(entries: Iterable[Entry]) -> _Warnings:
    """Yield the defaults among profiles that have no effect, because the same users have another one before."""
    first: dict[Any, str] = {}
    for entry in entries:
        access = entry.offer.access
        if not entry.offer.default:
            continue
        rule = (access.groups, access.users)
        before = first.get(_OPEN) or (first.get(rule) if access.hook is None else None)
        if before is not None:
            path = ("default",)
            yield ProfileWarning(
                f"has no effect: {before!r} is the default already, and comes first",
                rule="several-defaults",
                path=path,
                profile=entry.slug,
                origin=entry.profile.where(path),
            )
        elif access.hook is None:
            first[rule] = entry.slug


_OPEN = (None, None)


@functools.lru_cache(1024)
def _similar(key: str, known: frozenset[str], cutoff: float = 0.6) -> str:
    return did_you_mean(key, known, cutoff) if len(key) <= 64 else ""


class _Linter:
    def __init__(self, entry: Mapping[str, Any], traits: Mapping[str, Any], where: Callable[[Path], Origin]) -> None:
        self._entry = entry
        self._traits = traits
        self._names = frozenset(traits)
        self._where = where
        self._profile = str(entry.get("slug") or slugify_like_kubespawner(str(entry.get("display_name") or "")))
        self._bare = HasTraits()

    def all(self) -> _Warnings:
        """Yield everything."""
        entry = self._entry
        yield from self._keys(entry, (), _ENTRY_KEYS, "a profile")
        yield from self._truth(entry, (), "default")
        yield from self._override(entry.get("kubespawner_override"), ("kubespawner_override",))
        yield from self._groups(entry, ())
        options = entry.get("profile_options")
        for name, option in options.items() if isinstance(options, Mapping) else ():
            path = ("profile_options", name)
            if isinstance(option, Mapping):
                yield from self._option(option, path)

    def _option(self, option: Mapping[str, Any], path: Path) -> _Warnings:
        yield from self._keys(option, path, _OPTION_KEYS, "an option")
        yield from self._truth(option, path, "required", "advanced", "read_only", "integer")
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
            yield from self._truth(choice, inner, "default")
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
            yield from self._keys(unlisted, inner, _UNLISTED_KEYS, "unlisted_choice")
            yield from self._truth(unlisted, inner, "enabled")
            yield from self._override(unlisted.get("kubespawner_override"), (*inner, "kubespawner_override"))
            if unlisted.get("enabled") and not unlisted.get("validation_regex"):
                message = "users may type anything here: add a validation_regex"
                yield self._found("warning", "unchecked-text", message, inner)
            yield from self._pattern(unlisted.get("validation_regex"), (*inner, "validation_regex"))

    def _pattern(self, pattern: Any, path: Path) -> _Warnings:
        if isinstance(pattern, str) and (whole := whole_pattern(pattern)) != pattern:
            message = f"here the whole text must match; for KubeSpawner's meaning write {whole!r}"
            yield self._found("warning", "open-pattern", message, path)

    def _keys(self, found: Mapping[str, Any], path: Path, known: frozenset[str], what: str) -> _Warnings:
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
                hint = _similar(str(key), known)
                yield self._found(
                    "error" if hint else "warning", "unknown-key", f"is nothing that {what} can have{hint}", here
                )

    def _override(self, override: Any, path: Path) -> _Warnings:
        if override is None:
            return
        if not isinstance(override, Mapping):
            message = f"must be a mapping, not {type(override).__name__}"
            yield self._found("error", "wrong-type", message, path)
            return
        for key, value in override.items():
            here = (*path, key)
            if key in _ENTRY_KEYS and key not in self._traits:
                yield self._found(
                    "error", "misplaced-key", "has no effect in kubespawner_override: is it indented wrongly?", here
                )
            elif key not in self._traits:
                mistaken = f"; did you mean {_MISTAKEN[key]!r}?" if key in _MISTAKEN else ""
                hint = mistaken or _similar(str(key), self._names, 0.7)
                yield self._found("error", "unknown-trait", f"is not a setting of KubeSpawner{hint}", here)
            else:
                yield from self._value(key, value, here)
        yield from self._pairs(override, path)

    def _truth(self, found: Mapping[str, Any], path: Path, *keys: str) -> _Warnings:
        for key in keys:
            value = found.get(key)
            if isinstance(value, str) and value.strip().lower() in _FALSE:
                message = f"is the text {value!r}, which counts as true: remove the quotes"
                yield self._found("warning", "quoted-boolean", message, (*path, key))

    def _value(self, key: str, value: Any, here: Path) -> _Warnings:
        if not self._accepted(key, value):
            scalar = isinstance(value, str | int | float)  # what a list holds may be secret
            yield self._found(
                "error",
                "wrong-value",
                "KubeSpawner does not take this value, so no server can start",
                here,
                value=value if scalar else type(value).__name__,
                expected=_EXPECTED.get(key) or self._traits[key].info(),
            )
        for name, amount in value.items() if key in _QUANTITIES and isinstance(value, Mapping) else ():
            try:
                quantity_value(amount if amount is not None else 0)
            except ValueError as e:
                yield self._found("warning", "quantity", str(e), (*here, name))
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

    def _pairs(self, override: Mapping[str, Any], path: Path) -> _Warnings:
        for low, high in _PAIRS:
            less, more = _size(override.get(low)), _size(override.get(high))
            if less is not None and more is not None and more and less > more:
                message = f"is more than {high} ({override[low]} > {override[high]})"
                yield self._found("error", "guarantee-over-limit", message, (*path, low))

    def _groups(self, found: Mapping[str, Any], path: Path) -> _Warnings:
        for key in ("allowed_groups", "allowed_users"):
            if key in found and found[key] is not None and not found[key]:
                yield self._found("warning", "no-user", "is empty: no user may use it", (*path, key))

    def _accepted(self, key: str, value: Any) -> bool:
        """Return whether the trait takes a value. What a function returns and what a user types are not known."""
        trait = self._traits[key]
        if callable(value) or (value is None and trait.allow_none) or (isinstance(value, str) and "{" in value):
            return True
        try:
            # A mapping is merged into the one that is there.
            trait.validate(self._bare, {} if isinstance(value, Mapping) else value)
        except TraitError:
            return False
        except Exception:  # noqa: BLE001 - a trait of an own class may need its spawner
            return True
        return True

    def _found(
        self, level: Literal["error", "warning"], rule: str, message: str, path: Path, **more: Any
    ) -> ProfileWarning:
        place = self._where(path)
        return ProfileWarning(message, rule=rule, level=level, path=path, profile=self._profile, origin=place, **more)


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
