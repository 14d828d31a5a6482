"""Collects the profiles, params and collections that authors register.

Authors register profiles with `profile_registry`. It stores nothing itself: while a source is loaded, registrations go
into the `Collector` of that load. If the load fails, its collector is discarded. `snapshot` makes an immutable set of
the collected profiles.
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from profile_spawner.errors import DuplicateSlugError, Origin, ProfileDefinitionError
from profile_spawner.params.definition import Param
from profile_spawner.params.layers import Collection

from .base import BaseAppProfile, PlainProfile, origin_of
from .class_profile import ClassProfile
from .plain_entries import PlainEntry, read_profile_list
from .profile import Profile

__all__ = [
    "Collector",
    "ProfileRegistry",
    "collecting",
    "direct_collector",
    "duplicate",
    "key_lines",
    "profile_registry",
]

_ProfileClass = TypeVar("_ProfileClass", bound=type[BaseAppProfile])


class Collector:
    """The registrations of one load.

    Args:
        source: The name of the source, for messages.
    """

    def __init__(self, source: str = "configuration") -> None:
        self.source = source
        self.profiles: OrderedDict[str, Profile] = OrderedDict()
        self.params: dict[str, Param] = {}
        self.collections: dict[str, Collection] = {}

    def add(self, added: type[BaseAppProfile] | Profile) -> None:
        """Register one profile.

        Raises:
            ProfileDefinitionError: when the profile is invalid.
            DuplicateSlugError: when the slug is in use. It names both places.
        """
        profile = added if isinstance(added, ClassProfile | PlainEntry) else _profile_of(added)
        profile.check()
        present = self.profiles.get(profile.slug)
        if present is not None:
            raise duplicate(present, profile)
        self.profiles[profile.slug] = profile

    def add_param(self, param: Param) -> None:
        """Register the definition of a param.

        Raises:
            ProfileDefinitionError: when the name is used by a different definition.
        """
        present = self.params.get(param.name)
        if present is not None and present != param:
            raise ProfileDefinitionError(
                f"param {param.name!r} is defined twice: {present.origin} and {param.origin}", field=param.name
            )
        self.params[param.name] = param

    def add_collection(self, collection: Collection) -> None:
        """Register a collection of params (`global` is one).

        Raises:
            ProfileDefinitionError: when the name is in use.
        """
        present = self.collections.get(collection.name)
        if present is not None:
            raise ProfileDefinitionError(
                f"collection {collection.name!r} is defined twice: {present.origin} and {collection.origin}",
                field=collection.name,
            )
        self.collections[collection.name] = collection


def key_lines(place: Origin, keys: Iterable[str]) -> dict[str, Origin]:
    """Return the line of each key of a dictionary that begins at `place` in a Python file, if it is found."""
    linecache.checkcache(place.source)
    lines = linecache.getlines(place.source)[place.line - 1 :] if place.source.endswith(".py") and place.line else []
    left, found, depth = set(keys), {}, 0
    for number, line in enumerate(lines):
        for key in [k for k in left if f'"{k}"' in line or f"'{k}'" in line]:
            found[key] = Origin(place.source, place.line + number)
            left.discard(key)
        depth += sum(line.count(c) for c in "([{") - sum(line.count(c) for c in ")]}")
        if depth <= 0 or not left:
            break
    return found


def _profile_of(cls: Any) -> Profile:
    if isinstance(cls, type) and issubclass(cls, PlainProfile):
        (entry,) = read_profile_list([cls.definition()], origin_of(cls))
        return entry
    return ClassProfile(cls)


def duplicate(first: Profile, second: Profile) -> DuplicateSlugError:
    """Return the error for a slug that is used twice."""
    places = [
        f"{profile.origin}" + (f", where it is {written!r}" if (written := _written_slug(profile)) else "")
        for profile in (first, second)
    ]
    return DuplicateSlugError(
        f"the slug is used twice: first at {places[0]}, again at {places[1]}",
        profile=second.slug,
        origin=second.origin,
        field="slug",
        hint="Give one of the two another slug",
    )


def _written_slug(profile: Profile) -> str:
    """Return the slug as it was written, if it was mended."""
    written = profile.get("WRITTEN_SLUG") or ""
    return written if written != profile.slug else ""


_active: ContextVar[Collector | None] = ContextVar("profile_spawner_collector", default=None)
_direct = Collector()


@contextlib.contextmanager
def collecting(collector: Collector) -> Iterator[Collector]:
    """Send all registrations inside the block (in this thread or task) to `collector`."""
    token = _active.set(collector)
    try:
        yield collector
    finally:
        _active.reset(token)


class ProfileRegistry:
    """The registry for authors: `profile_registry.register(MyProfile)`, or as a decorator.

    While a source is loaded, registrations belong to that load. At other times, for example in
    `jupyterhub_config.py`, they belong to the configuration.
    """

    @property
    def collector(self) -> Collector:
        """The collector that receives registrations now."""
        return _active.get() or _direct

    def register(self, cls: _ProfileClass) -> _ProfileClass:
        """Register a profile class and check it.

        Returns:
            The class, so that the method can be used as a decorator.

        Raises:
            ProfileDefinitionError: names file and line, attribute, value and what was expected.
            DuplicateSlugError: when the slug is in use. It names both places.
        """
        self.collector.add(cls)
        return cls

    def register_param(self, param: Param) -> Param:
        """Register the definition of a param.

        Raises:
            ProfileDefinitionError: when the name is used by a different definition.
        """
        if param.origin is None:
            param = replace(param, origin=_caller())
        self.collector.add_param(param)
        return param

    def register_collection(
        self,
        name: str,
        params: Mapping[str, Any],
        profiles: Sequence[str] = (),
        *,
        description: str = "",
        documentation: str = "",
        meta: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Register a collection of params, such as `global` or a set that profiles inherit.

        Args:
            name: The name.
            params: The values, by param.
            profiles: The collections that it inherits from, strongest first.
            description: A description in one line.
            documentation: A longer description.
            meta: Notes by name; see docs/params.md for those that act.

        Raises:
            ProfileDefinitionError: when the name is in use.
        """
        place = _caller()
        collection = Collection(
            name,
            params,
            tuple(profiles),
            place,
            key_lines(place, params),
            description=description,
            documentation=documentation,
            meta=dict(meta),
        )
        self.collector.add_collection(collection)

    def clear(self) -> None:
        """Remove all registrations."""
        for registered in (self.collector.profiles, self.collector.params, self.collector.collections):
            registered.clear()


def _caller() -> Origin:
    """Return the line that called the registry."""
    frame = inspect.stack(context=0)[2]
    return Origin(frame.filename, frame.lineno)


profile_registry = ProfileRegistry()
"""The registry that authors import."""


def direct_collector() -> Collector:
    """Return a copy of the registrations made outside of a load, in the configuration."""
    copy = Collector("configuration")
    copy.profiles.update(_direct.profiles)
    copy.params.update(_direct.params)
    copy.collections.update(_direct.collections)
    return copy
