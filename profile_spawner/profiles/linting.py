"""Finds what is probably not intended in an entry of a plain `profile_list`, from the entry alone.

KubeSpawner does not validate entries. A misplaced or misspelt key fails at a user's spawn, or is ignored. Here every
key is compared with the traits of the hub's spawner and with the keys of profiles, options and choices, and every value
with what its trait takes. Nothing is refused: the hub warns its administrators, and `validate` reports it.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from traitlets import HasTraits, TraitError

from profile_spawner.errors import Origin, ProfileWarning, did_you_mean, given, kind_of, plain_words, shorten
from profile_spawner.params.quantities import quantity_value

from .attributes import ATTRIBUTES
from .image_names import has_mutable_tag, image_problem
from .options import OPTION_TYPES, UNLISTED, Choice, Unlisted
from .patterns import whole_pattern
from .plain_entries import slugify_like_kubespawner
from .selection import form_field
from .trait_merge import MAPPING_TRAITS, NAMED_TRAITS, SET_TRAITS
from .user_text import nodes, unfilled

if TYPE_CHECKING:
    from .entry import Entry

__all__ = [
    "MAX_WARNINGS",
    "READ_EARLY",
    "SpawnerTraits",
    "about_braces",
    "expected_by",
    "lint_defaults",
    "lint_entry",
    "lint_fields",
    "lint_settings",
    "lost_values",
    "no_text",
]

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
    "serviceAccountName": "service_account",
    **dict.fromkeys(("gpu", "gpus", "gpu_limit"), "extra_resource_limits"),
    "gpu_guarantee": "extra_resource_guarantees",
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
_FALSE = frozenset({"false", "no", "off", "n", "0", "none", "null"})
_ENTRY_KEYS = frozenset(name for name, attribute in ATTRIBUTES.items() if attribute.plain)
_OPTION_KEYS = frozenset().union(*(cls.keys for cls in OPTION_TYPES.values())) | {"dynamic_image_building"}
_UNLISTED_KEYS = Unlisted.keys | {"description_in_choices"}


READ_EARLY = frozenset(
    {
        "additional_profile_form_template_paths", "apply_user_options", "auth_state_hook", "consecutive_failure_limit",
        "enable_user_namespaces", "group_overrides", "k8s_api_host", "k8s_api_ssl_ca_cert",
        "k8s_api_threadpool_workers", "k8s_api_verify_ssl", "oauth_client_allowed_scopes", "oauth_roles",
        "options_form", "options_from_form", "pre_spawn_hook", "profile_form_template", "profile_list",
        "server_token_scopes", "slug_scheme", "user_namespace_template",
    }
)  # fmt: skip
"""Settings that JupyterHub or KubeSpawner read before a profile is applied, so that a profile cannot set them."""

_MERGED = MAPPING_TRAITS | NAMED_TRAITS.keys() | SET_TRAITS
_ACCESS_LABEL = "hub.jupyter.org/network-access-hub"
_METADATA_BLOCK = "block-cloud-metadata"
_SERIOUS = {
    _METADATA_BLOCK: "it keeps servers away from the cloud's metadata",
    _ACCESS_LABEL: "without it the network policy of the chart does not let servers reach the hub",
}
"""What must not get lost without notice, even if the author removes it on purpose, and why."""
_MARKUP = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|button|center|code|del|details|div|dl|dt|dd|em|font|h[1-6]|hr|i|iframe|img|ins"
    r"|kbd|label|li|mark|ol|p|pre|s|script|small|span|strong|style|sub|summary|sup|svg|table|tbody|td|th|thead|tr|tt|u"
    r"|ul)(?:\s[^<>]*)?/?>|<!--|&(?:[A-Za-z]{2,8}|#[0-9]{2,5});",
    re.IGNORECASE,
)
"""HTML, which KubeSpawner's page shows as such."""


class SpawnerTraits(dict[str, Any]):
    """The spawner's configurable traits by name.

    Args:
        traits: The traits.
        configured: The values that the hub's configuration gives them.
    """

    def __init__(self, traits: Mapping[str, Any], configured: Mapping[str, Any]) -> None:
        super().__init__(traits)
        self.configured = configured


def lint_entry(entry: Any, traits: Mapping[str, Any], where: Callable[[Path], Origin]) -> tuple[ProfileWarning, ...]:
    """Return the warnings about one entry, at most `MAX_WARNINGS`. Never raises.

    Args:
        entry: The dictionary.
        traits: The spawner's configurable traits by name. With `SpawnerTraits` what would remove values of the hub's
            configuration is found as well.
        where: Returns file and line of a path in the entry, as far as known.
    """
    found: list[ProfileWarning] = []
    try:
        if isinstance(entry, Mapping):
            found.extend(itertools.islice(_Linter(entry, traits, where).all(), MAX_WARNINGS))
    except Exception:  # noqa: BLE001 - values of an entry in Python may do anything; KubeSpawner decides about them
        return tuple(found)
    return tuple(found)


def lint_settings(
    settings: Mapping[str, Any],
    traits: Mapping[str, Any],
    where: Callable[[Path], Origin],
    *,
    profile: str = "",
    path: Path = (),
    filled: bool = False,
) -> tuple[ProfileWarning, ...]:
    """Return the warnings about values that their traits take, at most `MAX_WARNINGS`. Never raises.

    Args:
        settings: Settings of KubeSpawner: those of the hub, or the override of a class or document.
        traits: The spawner's configurable traits by name.
        where: Returns file and line of a setting, or of a value in it.
        profile: The profile; empty for the hub.
        path: The keys that lead to the settings.
        filled: Whether `{value}` is replaced in them.
    """
    linter = _Linter({"slug": profile}, traits, where)
    found: list[ProfileWarning] = []
    try:
        each = (linter.meaning(name, value, (*path, name), filled=filled) for name, value in settings.items())
        found.extend(itertools.islice(itertools.chain.from_iterable(each), MAX_WARNINGS))
    except Exception:  # noqa: BLE001 - values in Python may do anything
        return tuple(found)
    return tuple(found)


def expected_by(name: str, trait: Any) -> str:
    """Return what a trait of KubeSpawner takes, in plain words."""
    return _EXPECTED.get(name) or plain_words(trait.info())


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


def about_braces(field: str, *, filled: bool = False) -> tuple[str, str]:
    """Return what is wrong with braces into which nothing can be filled, and what to do; see `unfilled`."""
    what = f"KubeSpawner has nothing for {shorten(field)}" if field else "a brace stands alone"
    hint = f"Double the braces that are text: {'{{{{...}}}}' if filled else '{{...}}'}"
    if re.fullmatch(r"\{[A-Z_][A-Z0-9_]*\}", field):
        hint += f". For a variable of the container write $({field[1:-1]})"
    return f"{what}, so no server can start", hint


def lint_fields(entries: Iterable[Entry]) -> _Warnings:
    """Yield options whose form fields have the name of another profile's: a browser sends both."""
    first: dict[str, tuple[str, str]] = {}
    for entry in entries:
        for option in entry.offer.options:
            name = form_field(entry.slug, option.name)
            path = ("profile_options", option.name)
            for field in (name, name + UNLISTED):
                slug, other = first.setdefault(field, (entry.slug, option.name))
                if slug != entry.slug:
                    yield ProfileWarning(
                        f"has the same field in the form as the option {other!r} of the profile {slug!r}: {field}",
                        rule="field-name",
                        level="error",
                        path=path,
                        profile=entry.slug,
                        origin=entry.profile.where(path),
                        hint="Rename one of the options, or a slug, so that neither has two hyphens in a row",
                    )
                    break


@functools.lru_cache(1024)
def _similar(key: str, known: frozenset[str], cutoff: float = 0.6) -> str:
    return did_you_mean(key, known, cutoff) if len(key) <= 64 else ""


class _Linter:
    def __init__(self, entry: Mapping[str, Any], traits: Mapping[str, Any], where: Callable[[Path], Origin]) -> None:
        self._entry = entry
        self._traits = traits
        self._names = frozenset(traits)
        self._configured = traits.configured if isinstance(traits, SpawnerTraits) else {}
        self._where = where
        self._profile = str(entry.get("slug") or slugify_like_kubespawner(str(entry.get("display_name") or "")))
        self._bare = HasTraits()

    def all(self) -> _Warnings:
        """Yield everything."""
        entry = self._entry
        yield from self._keys(entry, (), _ENTRY_KEYS, "a profile")
        yield from self._truth(entry, (), "default")
        yield from self._texts(entry, ())
        yield from self._override(entry.get("kubespawner_override"), ("kubespawner_override",))
        yield from self._groups(entry, ())
        yield from self._empty(entry, (), "kubespawner_override", "profile_options")
        options = entry.get("profile_options")
        yield from self._empty(options, ("profile_options",))
        for name, option in options.items() if isinstance(options, Mapping) else ():
            path = ("profile_options", name)
            if isinstance(option, Mapping):
                yield from self._option(option, path)

    def _option(self, option: Mapping[str, Any], path: Path) -> _Warnings:
        yield from self._keys(option, path, _OPTION_KEYS, "an option")
        yield from self._truth(option, path, "required", "advanced", "read_only", "integer")
        yield from self._texts(option, path)
        yield from self._groups(option, path)
        yield from self._empty(option, path, "choices", "kubespawner_override", "unlisted_choice")
        filled = option.get("type", "choice") in ("number", "integer", "text")
        for key in ("kubespawner_override", "kubespawner_override_off"):
            yield from self._override(option.get(key), (*path, key), filled=filled)
        choices = option.get("choices")
        yield from self._empty(choices, (*path, "choices"))
        defaults = []
        for name, choice in choices.items() if isinstance(choices, Mapping) else ():
            inner = (*path, "choices", name)
            if not isinstance(choice, Mapping):
                continue
            yield from self._keys(choice, inner, Choice.keys, "a choice")
            yield from self._truth(choice, inner, "default")
            yield from self._empty(choice, inner, "kubespawner_override")
            yield from self._texts(choice, inner)
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
            yield from self._empty(unlisted, inner, "kubespawner_override")
            yield from self._texts(unlisted, inner)
            path_ = (*inner, "kubespawner_override")
            yield from self._override(unlisted.get("kubespawner_override"), path_, filled=True)
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
            elif "kubespawner_override" in known and (trait := self._trait_of(str(key))):
                renamed = f" as {trait}" if trait != key else ""
                message = f"has no effect here; it belongs into kubespawner_override{renamed}"
                yield self._found("error", "misplaced-key", message, here)
            elif key in ("profile_options", "kubespawner_override", "choices"):
                yield self._found("error", "misplaced-key", f"has no effect in {what}: is it indented wrongly?", here)
            else:
                hint = _similar(str(key), known, 0.7)
                yield self._found(
                    "error" if hint else "warning", "unknown-key", f"is nothing that {what} can have{hint}", here
                )

    def _empty(self, found: Any, path: Path, *keys: str) -> _Warnings:
        """Find keys without a value, among `keys` or all: KubeSpawner expects mappings."""
        for key, value in found.items() if isinstance(found, Mapping) else ():
            if value is None and (not keys or key in keys):
                message = "has no value, on which KubeSpawner itself fails: remove the key, or write {}"
                yield self._found("warning", "wrong-type", message, (*path, key))

    def _trait_of(self, key: str) -> str:
        """Return the trait that is meant by a key outside of an override; empty if it is none."""
        names = (key, _MISTAKEN.get(key), re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
        return next((str(name) for name in names if name in self._traits), "")

    def _texts(self, found: Mapping[str, Any], path: Path) -> _Warnings:
        for key in ("display_name", "description", "display_name_in_choices", "validation_message"):
            text = found.get(key)
            tag = _MARKUP.search(text) if isinstance(text, str) else None
            if tag is not None:
                markdown = not path and key == "description"
                instead = "write Markdown, such as **bold** and [text](https://...)" if markdown else "remove it"
                message = f"{shorten(tag[0])} is shown as it stands, since the page takes no HTML: {instead}"
                yield self._found("warning", "html", message, (*path, key))

    def _override(self, override: Any, path: Path, *, filled: bool = False) -> _Warnings:
        if override is None:
            return
        if not isinstance(override, Mapping):
            message = f"must be a mapping, not {kind_of(override)}"
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
                # KubeSpawner keeps the value, and a hook of the hub may read it; but a mapping fails.
                lost = bool(hint) or isinstance(value, Mapping)
                message = f"is not a setting of KubeSpawner{hint or ': only a hook could read it'}"
                yield self._found("error" if lost else "warning", "unknown-trait", message, here)
            else:
                yield from self._value(key, value, here, filled=filled)
        yield from self._pairs(override, path)
        yield from self._braces(override, path, filled=filled)

    def _braces(self, override: Mapping[str, Any], path: Path, *, filled: bool) -> _Warnings:
        known = {key: value for key, value in override.items() if not callable(value)}
        seen = set()
        for steps, field in unfilled(known, filled=filled):
            if (steps, field) in seen:
                continue
            seen.add((steps, field))
            message, hint = about_braces(field, filled=filled)
            yield self._found("error", "braces", message, (*path, *steps), hint=hint)

    def _truth(self, found: Mapping[str, Any], path: Path, *keys: str) -> _Warnings:
        for key in keys:
            value = found.get(key)
            if isinstance(value, str) and value.strip().lower() in _FALSE:
                message = f"is the text {value!r}, which counts as true: remove the quotes"
                yield self._found("warning", "quoted-boolean", message, (*path, key))

    def _value(self, key: str, value: Any, here: Path, *, filled: bool) -> _Warnings:
        if key in READ_EARLY:
            message = "has no effect in a profile: it is read before the profile is applied"
            hint = "Set it in the hub's configuration, for all servers"
            yield self._found("warning", "read-early", message, here, hint=hint)
        if not self._accepted(key, value, filled=filled):
            yield self._found(
                "error",
                "wrong-value",
                "KubeSpawner does not take this value, so no server can start",
                here,
                value=given(value),
                expected=expected_by(key, self._traits[key]),
            )
        yield from self.meaning(key, value, here, filled=filled)
        if key in _MERGED and not callable(value):
            yield from self._lost(key, value, here)

    def meaning(self, key: str, value: Any, here: Path, *, filled: bool) -> _Warnings:
        """Yield what is wrong with a value that its trait takes."""
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
                if what := no_text(item):
                    message = f"is {what}, but a variable must be a text, so no server can start: put it into quotes"
                    yield self._found("error", "unquoted-text", message, (*here, name))
        yield from self._images(key, value, here, filled=filled)

    def _images(self, key: str, value: Any, here: Path, *, filled: bool) -> _Warnings:
        """Check the image of a server, and those of further containers."""
        found = [((), value)] if key == "image" else []
        if key in ("init_containers", "extra_containers"):
            found = [(path, image) for path, image in nodes(value) if path[-1] == "image"]
        for path, image in found:
            # What is filled in is not known, and `{username}` is replaced in containers, but not in the server's image.
            if not isinstance(image, str) or ("{" in image and (path or (filled and "{value}" in image))):
                continue
            if problem := image_problem(image):
                message = f"{shorten(image)!r} is not the name of an image: {problem}"
                yield self._found("error", "image", message, (*here, *path))
            elif has_mutable_tag(image):
                tag = "the tag latest" if image.endswith(":latest") else "no tag"
                message = f"{shorten(image)!r} has {tag}: what it means can change at any time"
                yield self._found("note", "mutable-tag", message, (*here, *path))

    def _lost(self, key: str, value: Any, here: Path) -> _Warnings:
        """Find what the hub's configuration gives to all servers, and this value takes away."""
        hubs = self._configured.get(key)
        before = _named(key, hubs)
        if isinstance(hubs, Mapping) and isinstance(value, Mapping):
            # It is merged. A null removes something, which is intended.
            named = zip(hubs, before, strict=True)
            lost = [name for step, name in named if step in value and _is_gone(name, hubs[step], value[step])]
            hint = f"Remove {key} here, unless this is intended"
        else:
            kept = _named(key, value)
            lost = [name for name in before if name not in kept]
            hint = f"Write a mapping, which is merged: {key}: {{NAME: ...}}"
            if not isinstance(hubs, Mapping):
                hint = (
                    f"Repeat them here, or make {key} a mapping, here and in the hub's configuration: then they merge"
                )
        meant = not value or (isinstance(hubs, Mapping) and isinstance(value, Mapping))
        lost = [name for name in dict.fromkeys(lost) if not meant or name in _SERIOUS]
        if lost:
            why = "".join(f"; {_SERIOUS[name]}" for name in lost if name in _SERIOUS)
            message = f"replaces what the hub gives to all servers, and loses {shorten(', '.join(lost), 200)}{why}"
            yield self._found("warning", "replaces-hub", message, here, hint=hint)

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

    def _accepted(self, key: str, value: Any, *, filled: bool) -> bool:
        """Return whether the trait takes a value. What a function returns and what a user types are not known."""
        trait = self._traits[key]
        if callable(value) or (value is None and trait.allow_none):
            return True
        if filled and isinstance(value, str) and "{value" in value:
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
        self, level: Literal["error", "warning", "note"], rule: str, message: str, path: Path, **more: Any
    ) -> ProfileWarning:
        place = self._where(path)
        return ProfileWarning(message, rule=rule, level=level, path=path, profile=self._profile, origin=place, **more)


def no_text(value: Any) -> str:
    """Return what the value of an environment variable is, if no server can start with it; empty if one can.

    KubeSpawner fails on it, or Kubernetes refuses the pod (where it counts as false in Python).
    """
    if isinstance(value, Mapping):
        value = value.get("value")
    if value is None or isinstance(value, str) or callable(value):
        return ""
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    return f"the number {value}" if isinstance(value, int | float) else kind_of(value)


def _is_gone(name: str, before: Any, after: Any) -> bool:
    """Return whether a merged value removes something; network policies look for one value of the label only."""
    return after is None or (name == _ACCESS_LABEL and after != before)


def lost_values(key: str, before: Any, after: Any) -> tuple[list[str], str]:
    """Return the names of what is in one value of a setting and not in another, and why that matters, if it does."""
    kept = _named(key, after)
    lost = [name for name in _named(key, before) if name not in kept]
    return lost, "".join(f"; {_SERIOUS[name]}" for name in lost if name in _SERIOUS)


def _named(key: str, value: Any) -> list[str]:
    """Return what identifies the items of a value: their names, their paths, or their content."""
    if key in MAPPING_TRAITS:
        return list(map(str, value)) if isinstance(value, Mapping) else []
    items = value.values() if isinstance(value, Mapping) else value or ()
    names = NAMED_TRAITS.get(key, ())
    return [_name_of(item, names) for item in items]


def _name_of(item: Any, names: Iterable[str]) -> str:
    # The hub's configuration may have models of the Kubernetes client.
    found = (item.get(name) if isinstance(item, Mapping) else getattr(item, name, None) for name in names)
    return str(next((name for name in found if name), None) or _text_of(item))


def _text_of(item: Any) -> str:
    if isinstance(item, Mapping):
        return " ".join(str(value) for value in item.values())
    return str(item)


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
