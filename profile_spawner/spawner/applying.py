"""Applies a profile to the spawner's traits, and restores the traits afterwards.

A plain `profile_list` entry is applied exactly as KubeSpawner applies it. The result of a profile class is merged by
type. In both cases the previous values are saved and restored, so they do not affect the user's next server.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kubespawner.utils import recursive_update
from traitlets import Bool, Float, Int, TraitError, Unicode

from profile_spawner.errors import BuildError, ConflictError, given, kind_of, shorten
from profile_spawner.profiles.base import ProfileBuild
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.linting import expected_by
from profile_spawner.profiles.trait_merge import merge_trait

__all__ = ["CALLABLE_TRAITS", "TraitSnapshot", "apply_build", "called_once", "evaluated_once", "expand_names"]

_ABSENT = object()
CALLABLE_TRAITS = frozenset(
    {"container_security_context", "fs_gid", "gid", "pod_security_context", "supplemental_gids", "uid"}
)
"""The traits whose functions KubeSpawner calls when it makes a pod, besides the variables in `environment`."""
_HUB = "the hub's configuration"


class TraitSnapshot:
    """Remembers the values that a profile is about to change.

    Args:
        spawner: Whose traits.
    """

    def __init__(self, spawner: Any) -> None:
        self._spawner = spawner
        self._saved: dict[str, Any] = {}
        self._applied: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}

    def save(self, name: str) -> None:
        """Remember the present value of attribute `name`, unless it is remembered already."""
        if name in self._saved:
            return
        spawner = self._spawner
        if not hasattr(spawner, name):
            self._saved[name] = _ABSENT
        else:
            # KubeSpawner merges dictionaries in place: only a copy is safe.
            self._saved[name] = copy.deepcopy(getattr(spawner, name))

    def saved(self, *names: str) -> dict[str, Any]:
        """Return those of these values that are remembered."""
        return {name: self._saved[name] for name in names if name in self._saved}

    def load(self, values: Mapping[str, Any]) -> None:
        """Remember the values from before a profile that was applied by an earlier process of the hub."""
        self._saved.update(values)

    def changed(self) -> dict[str, Any]:
        """Return the present values of the attributes that the profile has changed."""
        return {name: getattr(self._spawner, name) for name in self._saved if hasattr(self._spawner, name)}

    def mark_applied(self) -> None:
        """Remember the present values as those of the profile: what differs later was changed by a hook."""
        self._applied = {name: _copied(value) for name, value in self.changed().items()}

    def keep_changes(self) -> None:
        """Count what hooks have changed since `mark_applied` as the hub's own values.

        In mappings and lists only the changed items are taken over; the others are those from before the profile.
        """
        for name, now in self.changed().items():
            if name in self._applied and now != self._applied[name]:
                self._kept[name] = _rebased(self.original(name), self._applied[name], now)
        self.mark_applied()

    def original(self, name: str) -> Any:
        """Return the value without the profile."""
        present = getattr(self._spawner, name, None)
        value = self._kept.get(name, self._saved.get(name, present))
        return None if value is _ABSENT else value

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Restore the previous value of every changed attribute for the duration of the block."""
        changed = self.changed()
        try:
            self._set_back({**self._saved, **self._kept})
            yield
        finally:
            for name, value in changed.items():
                setattr(self._spawner, name, value)

    def restore(self, *, changes: bool = False) -> None:
        """Restore every changed attribute.

        Args:
            changes: Whether what hooks have changed stays; see `keep_changes`.
        """
        self._set_back({**self._saved, **(self._kept if changes else {})})
        self._saved.clear()
        self._applied.clear()
        self._kept.clear()

    def _set_back(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value is _ABSENT:
                if name in vars(self._spawner):
                    delattr(self._spawner, name)
            else:
                # KubeSpawner changes dictionaries in place.
                setattr(self._spawner, name, copy.deepcopy(value))


def _copied(value: Any) -> Any:
    """Return a copy of mappings and lists; what is in them stays the same object, so that it equals itself."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _rebased(before: Any, applied: Any, now: Any) -> Any:
    """Return `before` with the changes that lead from `applied` to `now`."""
    if applied is now or applied == now:
        return before
    if isinstance(applied, Mapping) and isinstance(now, Mapping):
        result = dict(before) if isinstance(before, Mapping) else {}
        for key in applied.keys() - now.keys():
            result.pop(key, None)
        for key, value in now.items():
            if key not in applied:
                result[key] = value
            elif applied[key] is not value and applied[key] != value:
                result[key] = _rebased(result.get(key), applied[key], value)
        return result
    if isinstance(applied, list) and isinstance(now, list):
        kept = [item for item in before if item in now or item not in applied] if isinstance(before, list) else []
        return kept + [item for item in now if item not in applied]
    return now


def called_once(function: Any, results: dict[Any, Any]) -> Any:
    """Return a function that calls `function` at most once, or anything else as it is.

    Args:
        function: A value of a trait.
        results: What functions have returned.
    """

    def call(*args: Any) -> Any:
        if function not in results:
            result = function(*args)
            results[function] = asyncio.ensure_future(result) if inspect.isawaitable(result) else result
        return results[function]

    return call if callable(function) else function


@contextmanager
def evaluated_once(spawner: Any) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Call each function that is the value of a trait, or of an environment variable, at most once in this block.

    The pod of a document is compared with the hub's own pod. A function that is called for both could return different
    values, or have effects twice.

    Args:
        spawner: Whose traits.

    Yields:
        A context manager that does the same for traits that were set inside of the block. It uses the same results.
    """
    results: dict[Any, Any] = {}

    @contextmanager
    def replaced() -> Iterator[None]:
        before = {name: getattr(spawner, name) for name in CALLABLE_TRAITS}
        environment = spawner.environment
        try:
            for name, value in before.items():
                if callable(value):
                    setattr(spawner, name, called_once(value, results))
            if any(map(callable, environment.values())):
                spawner.environment = {key: called_once(value, results) for key, value in environment.items()}
            yield
        finally:
            for name, value in before.items():
                setattr(spawner, name, value)
            spawner.environment = environment

    with replaced():
        yield replaced


def expand_names(spawner: Any, before: TraitSnapshot) -> None:
    """Apply the name templates and the working directory of a profile, which KubeSpawner reads only at the beginning.

    Args:
        spawner: Whose traits; the profile has been applied to them.
        before: Knows which of them the profile has set.
    """
    changed = before.changed()
    made: dict[str, Any] = {}
    for name in ("pod_name", "secret_name", "pvc_name"):
        if f"{name}_template" in changed and name not in changed:
            made[name] = spawner.expanded(changed[f"{name}_template"])
    if "pod_name" in made or "dns_name_template" in changed:
        pod_name = made.get("pod_name", spawner.pod_name)
        made["dns_name"] = spawner.dns_name_template.format(namespace=spawner.namespace, name=pod_name)
    if changed.get("working_dir"):
        made["working_dir"] = spawner.expanded(changed["working_dir"])
    for name, value in made.items():
        before.save(name)
        setattr(spawner, name, value)


def apply_build(spawner: Any, before: TraitSnapshot, entry: Entry, build: ProfileBuild) -> None:
    """Apply what a profile needs to the spawner's traits: as KubeSpawner does it, or merged by type.

    Raises:
        BuildError: when a value does not fit its trait, or there is no such trait.
        ConflictError: If the hub's configuration has a different object with the same name.
    """
    if not build.as_kubespawner:
        _merge(spawner, before, entry, build.kubespawner_override)
        return
    for override in (build.kubespawner_override, *build.chosen):
        _apply_overrides(spawner, before, copy.deepcopy(dict(override)), entry)


def _apply_overrides(spawner: Any, before: TraitSnapshot, override: Mapping[str, Any], entry: Entry) -> None:
    """Do what `KubeSpawner._apply_overrides` does; the values are never logged, as they may hold secrets."""
    for name, value in override.items():
        before.save(name)
        try:
            if callable(value):
                value = value(spawner)
            if isinstance(value, dict) and isinstance(getattr(spawner, name), dict):
                recursive_update(getattr(spawner, name), value)
            else:
                if not spawner.has_trait(name):
                    spawner.log.warning(
                        "profile %r sets %r, which is no trait of KubeSpawner and has no effect", entry.slug, name
                    )
                setattr(spawner, name, value)
        except (TraitError, TypeError, AttributeError, KeyError, ValueError) as e:
            raise _unfit(spawner, name, value, e, entry, f"kubespawner_override.{name}") from None
    spawner.log.debug("profile %r overrides %s", entry.slug, ", ".join(override) or "nothing")


def _merge(spawner: Any, before: TraitSnapshot, entry: Entry, override: Mapping[str, Any]) -> None:
    merged = {}
    for name, value in override.items():
        if not spawner.has_trait(name):
            raise BuildError(
                "KubeSpawner has no such trait", profile=entry.slug, origin=entry.origin, field=name, value=name
            )
        try:
            merged[name] = merge_trait(
                name, getattr(spawner, name), value, base_origin=_HUB, extra_origin=f"profile {entry.slug!r}"
            )
        except ConflictError as e:
            e.profile, e.origin = entry.slug, entry.origin
            raise
    for name, value in merged.items():
        before.save(name)
        try:
            setattr(spawner, name, value)
        except TraitError as e:
            raise _unfit(spawner, name, value, e, entry, name) from None


def _unfit(spawner: Any, name: str, value: Any, why: Exception, entry: Entry, field: str) -> BuildError:
    """Return the error for a value that a trait does not take. The message omits the value: it may be a secret."""
    trait = spawner.traits().get(name)
    simple = isinstance(value, str | int | float) and isinstance(trait, Unicode | Int | Float | Bool)
    message = "KubeSpawner does not take this value"
    got = expected = None
    if isinstance(why, TraitError) and trait is not None and (" trait of " in str(why) or not simple):
        # Do not log the exception: it contains the whole value.
        got = given(value) if simple else kind_of(value)
        expected = expected_by(name, trait)
    else:
        message += f": {shorten(str(why), 300)}"
    return BuildError(message, profile=entry.slug, origin=entry.origin, field=field, value=got, expected=expected)
