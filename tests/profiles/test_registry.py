"""Registration, and the interface that classes and plain entries of a `profile_list` share."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner.errors import DuplicateSlugError, Origin, ProfileDefinitionError
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import BaseAppProfile, PlainProfile
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.entry import make_entry
from profile_spawner.profiles.plain_entries import PlainEntry, read_profile_list
from profile_spawner.profiles.profile import Profile
from profile_spawner.profiles.registry import Collector, collecting, profile_registry
from profile_spawner.profiles.selection import default_selection

CONTEXT = ServerContext(UserInfo("ada"))
OVERRIDE: dict[str, Any] = {"image": "a:1", "environment": {"WHO": lambda spawner: spawner.user.name}}
DEFINITION: dict[str, Any] = {
    "display_name": "My Lab",
    "kubespawner_override": OVERRIDE,
    "profile_options": {"size": {"choices": {"s": {"kubespawner_override": {"mem_limit": "1G"}}}}},
    "allowed_groups": ["staff"],
    "tags": ["small"],
}


class Lab(BaseAppProfile):
    """A class."""

    slug, display_name, description, image = "lab", "Lab", "A lab", "lab:1"
    params = {"a/b": 1}
    mem_limit = "2G"


def plain(**more: Any) -> PlainEntry:
    """Return a plain entry."""
    (entry,) = read_profile_list([DEFINITION | more], Origin("hub.py", 3))
    return entry


def test_registrations_belong_to_the_load_in_progress() -> None:
    """Nothing of a load is left behind in the configuration."""
    collector = Collector("test")
    with collecting(collector):
        assert profile_registry.register(Lab) is Lab
    assert collector.profiles == {"lab": ClassProfile(Lab)}
    assert "lab" not in profile_registry.collector.profiles


def test_a_slug_is_used_once_whatever_the_profiles_are() -> None:
    """The error names both places."""
    collector = Collector()
    collector.add(plain(slug="lab"))
    with pytest.raises(DuplicateSlugError, match=r"hub\.py:3.*test_registry\.py"):
        collector.add(Lab)


def test_a_class_of_a_plain_entry_is_a_plain_entry() -> None:
    """`PlainProfile` is another way to write an entry."""

    class Old(PlainProfile):
        display_name = "Old Lab"
        kubespawner_override = OVERRIDE

    collector = Collector()
    collector.add(Old)
    (entry,) = collector.profiles.values()
    assert isinstance(entry, PlainEntry)
    assert entry.slug == "old-lab"
    assert entry.definition["kubespawner_override"] is OVERRIDE


def test_only_profiles_can_be_registered() -> None:
    """Anything else is an error that says so."""
    with pytest.raises(ProfileDefinitionError, match="BaseAppProfile"):
        Collector().add("lab")  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", [ClassProfile(Lab), plain()], ids=["class", "plain"])
async def test_both_kinds_make_entries_in_the_same_way(profile: Profile) -> None:
    """The data for the page, the path of a setting, and a copy with other groups."""
    entry = await make_entry(profile, "test")
    assert entry.profile is profile
    assert entry.offer.slug == profile.slug
    assert entry.offer.display_name == profile.get("display_name")
    assert entry.effective["image"] in ("lab:1", "a:1")
    assert profile.path_of("image") in (("image",), ("kubespawner_override", "image"))
    assert profile.path_of("tolerations") is None
    assert profile.get("no_such_attribute") is None
    changed = await make_entry(profile.changed({"allowed_groups": ["other"]}), "test")
    assert changed.offer.access.groups == {"other"}


async def test_a_plain_entry_keeps_its_override() -> None:
    """The object of the configuration reaches KubeSpawner, and functions in it are called there only."""
    entry = plain()
    offer = (await make_entry(entry, "test")).offer
    build = await entry.build(CONTEXT, {}, default_selection(offer))
    assert build.kubespawner_override is OVERRIDE
    assert build.chosen == ({"mem_limit": "1G"},)
    assert build.as_kubespawner
    assert entry.contributor == "hub"


@pytest.mark.parametrize(
    ("more", "field"), [({"kubespawner_override": [1]}, "kubespawner_override"), ({"order": "first"}, "order")]
)
async def test_a_value_of_another_type_is_an_error_of_the_entry(more: dict[str, Any], field: str) -> None:
    """The error names the field, the file and the line."""
    with pytest.raises(ProfileDefinitionError) as raised:
        await make_entry(plain(**more), "test")
    assert raised.value.field == field
    assert raised.value.origin == Origin("hub.py", 3)


def test_a_plain_entry_can_only_get_other_groups() -> None:
    """Its other values belong to the configuration."""
    with pytest.raises(ProfileDefinitionError, match="cannot be changed"):
        plain().changed({"image": "b:1"})
