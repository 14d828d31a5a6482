"""Plain entries of KubeSpawner's `profile_list`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError
from profile_spawner.names import slugify

from .access import Access
from .options import access_from, parse_options

__all__ = [
    "CONFIGURATION",
    "RawProfile",
    "access_of_plain",
    "raw_profiles",
    "slugify_like_kubespawner",
]


CONFIGURATION = Origin("configuration")


@dataclass(frozen=True)
class RawProfile:
    """An unchanged entry of KubeSpawner's `profile_list`.

    Attributes:
        slug: The slug from the entry, or made from the display name as KubeSpawner does.
        definition: The dictionary. It is not changed.
        origin: The file and line of the entry.
        untrusted: Whether the entry comes from a document that the data policy restricts.
    """

    slug: str
    definition: Mapping[str, Any] = field(repr=False)
    origin: Origin = CONFIGURATION
    untrusted: bool = False


def raw_profiles(profile_list: Any, origin: Origin, *, untrusted: bool = False) -> list[RawProfile]:
    """Read a `profile_list` as KubeSpawner does: a list, or a mapping that is sorted by key.

    Raises:
        ProfileDefinitionError: names the entry and the error.
    """
    if isinstance(profile_list, Mapping):
        profile_list = [profile_list[key] for key in sorted(profile_list)]
    if not isinstance(profile_list, list | tuple):
        raise ProfileDefinitionError(
            "a profile_list must be a list of dictionaries", origin=origin, value=type(profile_list).__name__
        )
    result = []
    for number, definition in enumerate(profile_list):
        where = f"profile_list[{number}]"
        if not isinstance(definition, Mapping):
            raise ProfileDefinitionError(
                "an entry must be a dictionary", origin=origin, field=where, value=type(definition).__name__
            )
        name = definition.get("display_name")
        if not isinstance(name, str) or not name:
            raise ProfileDefinitionError("display_name is missing", origin=origin, field=where)
        slug = definition.get("slug")
        if slug is None:
            slug = slugify_like_kubespawner(name)
        if not isinstance(slug, str) or not slug:
            raise ProfileDefinitionError(
                "no slug can be made of the display name", origin=origin, field=where, value=name, hint="Add a slug"
            )
        parse_options(definition.get("profile_options"), profile=slug)
        result.append(RawProfile(slug, definition, origin, untrusted))
    return result


def slugify_like_kubespawner(name: str) -> str:
    """Return the slug that KubeSpawner makes from a display name (`slugify` of python-slugify)."""
    try:
        from slugify import slugify as upstream  # a dependency of KubeSpawner

        return str(upstream(name))
    except ImportError:  # pragma: no cover - only without KubeSpawner
        return slugify(name)


def access_of_plain(raw: RawProfile) -> Access:
    """Return the access rule of an entry.

    Raises:
        ProfileDefinitionError: when the rule is invalid. The profile is then not available to any user.
    """
    try:
        return access_from(raw.definition)
    except (TypeError, ValueError) as e:
        raise ProfileDefinitionError(str(e), profile=raw.slug, origin=raw.origin) from None
