"""Plain entries of KubeSpawner's `profile_list`."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError, ProfileWarning, kind_of
from profile_spawner.names import slugify

from .access import Access
from .attributes import ATTRIBUTES
from .base import ProfileBuild
from .context import ServerContext
from .options import Option, WrongPartError, access_from, parse_options
from .profile import Contributor
from .selection import Selection
from .yaml_text import line_at

__all__ = [
    "CONFIGURATION",
    "PlainEntry",
    "each_entry",
    "read_entry",
    "read_profile_list",
    "replaced",
    "slugify_like_kubespawner",
    "sound_parts",
]

_MOST_PARTS = 20


CONFIGURATION = Origin("configuration")


@dataclass(frozen=True)
class PlainEntry:
    """An entry of KubeSpawner's `profile_list`. Its values reach KubeSpawner unchanged.

    Attributes:
        slug: The slug from the entry, or made from the display name as KubeSpawner does.
        definition: The dictionary. It is not changed.
        origin: The file and line of the entry.
        contributor: Who wrote it.
    """

    slug: str
    definition: Mapping[str, Any] = field(repr=False)
    origin: Origin = CONFIGURATION
    contributor: Contributor = "hub"

    @property
    def takes_params(self) -> bool:
        """False."""
        return False

    def check(self) -> None:
        """Do nothing: KubeSpawner checks the values when it makes a pod of them."""

    def get(self, name: str) -> Any:
        """Return the value of an attribute that entries can have, or its default.

        Raises:
            ProfileDefinitionError: when the value has another type.
        """
        if name == "slug":
            return self.slug
        attribute = ATTRIBUTES.get(name)
        if attribute is None:
            return None
        value = self.definition.get(name) if attribute.plain else None
        if value is None or attribute.default is None:
            return attribute.default if value is None else value
        kind = type(attribute.default)
        try:
            if kind is tuple and not all(isinstance(item, str) for item in value):
                raise TypeError("its items must be texts")
            return value if issubclass(kind, Mapping) else kind(value)
        except (TypeError, ValueError):
            raise ProfileDefinitionError(
                "has the wrong type",
                profile=self.slug,
                origin=self.origin,
                field=name,
                value=value,
                expected=kind.__name__,
            ) from None

    def written(self) -> Mapping[str, Any]:
        """Return the entry."""
        return self.definition

    def list_entry(self) -> Mapping[str, Any]:
        """Return the entry."""
        return self.definition

    def where(self, path: tuple[Any, ...]) -> Origin:
        """Return the line of a value in a document, otherwise the place of the entry."""
        return Origin(self.origin.source, (self.origin.line and line_at(self.definition, path)) or self.origin.line)

    def path_of(self, trait: str) -> tuple[str, ...] | None:
        """Return the keys that lead to a value of `kubespawner_override`."""
        return ("kubespawner_override", trait) if trait in self._override() else None

    def _override(self) -> Mapping[str, Any]:
        override = self.definition.get("kubespawner_override") or {}
        if not isinstance(override, Mapping):
            raise ProfileDefinitionError(
                "must be a mapping",
                profile=self.slug,
                origin=self.origin,
                field="kubespawner_override",
                value=kind_of(override),
            )
        return override

    def options(self) -> tuple[Option, ...]:
        """Return the options of `profile_options`."""
        return self._options

    @functools.cached_property
    def _options(self) -> tuple[Option, ...]:
        return parse_options(self.definition.get("profile_options"), profile=self.slug)

    def access(self) -> Access:
        """Return the access rule.

        Raises:
            ProfileDefinitionError: when the rule is invalid. The profile is then not available to any user.
        """
        try:
            return access_from(self.definition)
        except WrongPartError as e:
            raise ProfileDefinitionError(str(e.why), profile=self.slug, origin=self.origin, field=e.step) from None
        except (TypeError, ValueError) as e:
            raise ProfileDefinitionError(str(e), profile=self.slug, origin=self.origin) from None

    def check_shapes(self) -> None:
        """Check that the parts of the entry have the types that are read here.

        Raises:
            ProfileDefinitionError: naming the first part that has another one.
        """
        self._override()
        self.options()
        self.access()
        for name, attribute in ATTRIBUTES.items():
            if attribute.plain:
                self.get(name)

    async def build(self, context: ServerContext, params: Mapping[str, Any], selection: Selection) -> ProfileBuild:
        """Return the overrides of the entry and of the user's choices, for KubeSpawner to apply."""
        del context, params
        chosen = [
            override
            for option in self.options()
            if option.name in selection.values
            for override in option.overrides(selection.values[option.name], typed=option.name in selection.typed)
        ]
        return ProfileBuild(self.slug, self._override(), chosen=tuple(chosen), as_kubespawner=True)

    def changed(self, attributes: Mapping[str, Any]) -> PlainEntry:
        """Return an entry for other groups.

        Raises:
            ProfileDefinitionError: for anything else.
        """
        if attributes.keys() - {"allowed_groups"}:
            raise ProfileDefinitionError("an entry of a profile_list cannot be changed here", profile=self.slug)
        return replace(self, definition={**self.definition, **attributes})


def each_entry(profile_list: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a list, or of a mapping that is sorted by key as in KubeSpawner, and what to call them."""
    if isinstance(profile_list, Mapping):
        yield from ((f"profile_list.{key}", profile_list[key]) for key in sorted(profile_list))
    else:
        yield from ((f"profile_list[{number}]", entry) for number, entry in enumerate(profile_list))


def read_profile_list(profile_list: Any, origin: Origin, *, contributor: Contributor = "hub") -> list[PlainEntry]:
    """Read a `profile_list` as KubeSpawner does: a list, or a mapping that is sorted by key.

    Raises:
        ProfileDefinitionError: names the entry and the error.
    """
    if not isinstance(profile_list, Mapping | list | tuple):
        raise ProfileDefinitionError(
            "a profile_list must be a list of mappings", origin=origin, value=kind_of(profile_list)
        )
    return [read_entry(entry, origin, where, contributor=contributor) for where, entry in each_entry(profile_list)]


def read_entry(definition: Any, origin: Origin, where: str, *, contributor: Contributor = "hub") -> PlainEntry:
    """Read one entry; `where` is what it is called in an error.

    Raises:
        ProfileDefinitionError: names the entry and the error.
    """
    if not isinstance(definition, Mapping):
        raise ProfileDefinitionError(
            "an entry must be a mapping", origin=origin, field=where, value=kind_of(definition)
        )
    name = definition.get("display_name")
    if not isinstance(name, str) or not name:
        raise ProfileDefinitionError("display_name is missing", origin=origin, field=where)
    slug = definition.get("slug")
    if slug is None:
        slug = slugify_like_kubespawner(name)
    if not isinstance(slug, str) or not slug:
        if definition.get("slug") is not None:
            raise ProfileDefinitionError("must be a text", origin=origin, field="slug", value=slug)
        raise ProfileDefinitionError(
            "no slug can be made of the display name", origin=origin, field=where, value=name, hint="Add a slug"
        )
    parse_options(definition.get("profile_options"), profile=slug)
    return PlainEntry(slug, definition, origin, contributor)


def sound_parts(definition: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[ProfileWarning]]:
    """Return an entry without the parts that have the wrong type, and what is wrong with them.

    The rest of the entry can be checked then. An entry that cannot be mended is returned as far as it could be.
    """
    problems: list[ProfileWarning] = []
    name = definition.get("display_name")
    if not isinstance(name, str) or not name:
        problems.append(_wrong("is missing: it must be a text", ("display_name",)))
        definition = replaced(definition, ("display_name",), str(definition.get("slug") or "unnamed"))
    for _ in range(_MOST_PARTS):
        try:
            (entry,) = read_profile_list([definition], CONFIGURATION)
            entry.check_shapes()
        except ProfileDefinitionError as e:
            path = _path_of(definition, e.field or "")
            if not path:
                break  # loading reports it
            more = {"profile": e.profile, "value": e.value, "expected": e.expected, "hint": e.hint}
            problems.append(_wrong(e.message, path, **more))
            definition = replaced(definition, path)
        else:
            break
    return definition, problems


def _wrong(message: str, path: tuple[Any, ...], **more: Any) -> ProfileWarning:
    return ProfileWarning(message, rule="wrong-type", level="error", path=path, **more)


def _path_of(node: Any, field: str) -> tuple[Any, ...]:
    """Return the keys of a dotted name, as far as they are there. Keys may have dots themselves."""
    for key in node if isinstance(node, Mapping) else ():
        if field == str(key) or field.startswith(f"{key}."):
            return (key, *_path_of(node[key], field[len(str(key)) + 1 :]))
    return ()


_NOTHING: Any = object()


def replaced(node: Any, path: tuple[Any, ...], value: Any = _NOTHING) -> Any:
    """Return a copy of mappings and lists with another value at a path, or without the value there."""
    if not path:
        return value
    first, *rest = path
    result = list(node) if isinstance(node, tuple) else copy.copy(node)
    if not rest and value is _NOTHING:
        del result[first]
    else:
        result[first] = replaced(node[first], tuple(rest), value) if rest else value
    return result


def slugify_like_kubespawner(name: str) -> str:
    """Return the slug that KubeSpawner makes from a display name (`slugify` of python-slugify)."""
    try:
        from slugify import slugify as upstream  # a dependency of KubeSpawner

        return str(upstream(name))
    except ImportError:  # pragma: no cover - only without KubeSpawner
        return slugify(name)
