"""Promises of the linter: it finds what KubeSpawner ignores or refuses at a start, and never fails itself."""

from __future__ import annotations

from typing import Any

import pytest
from traitlets import Int

from profile_spawner.errors import Origin
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.entry import Entry, make_entry
from profile_spawner.profiles.linting import MAX_WARNINGS, lint_defaults, lint_entry
from profile_spawner.profiles.options import access_from
from profile_spawner.profiles.plain_entries import PlainEntry
from profile_spawner.profiles.selection import Offer
from profile_spawner.spawner import ProfileSpawner

TRAITS = ProfileSpawner.class_traits(config=True)


def found(entry: Any, traits: Any = TRAITS) -> list[tuple[str, str]]:
    """Return rule and field of every warning."""
    warnings = lint_entry(entry, traits, lambda path: Origin("here"))
    return [(warning.rule, warning.field or "") for warning in warnings]


def choice(**more: Any) -> dict[str, Any]:
    """Return an entry with an option of one choice."""
    return {"display_name": "A", "profile_options": {"o": {"choices": {"c": {"display_name": "C", **more}}}}}


@pytest.mark.parametrize(
    ("entry", "rule", "field"),
    [
        ({"kubespawner_overide": {}}, "unknown-key", "kubespawner_overide"),
        ({"default": "false"}, "quoted-boolean", "default"),
        (choice(default="No"), "quoted-boolean", "profile_options.o.choices.c.default"),
        ({"profile_options": {"o": {"unlisted_choice": {"enabled": "false"}}}}, "quoted-boolean", "choice.enabled"),
        ({"kubespawner_override": {"privileged": "false"}}, "wrong-value", "privileged"),
        ({"kubespawner_override": {"mem_limit": "4Gb"}}, "wrong-value", "mem_limit"),
        ({"kubespawner_override": {"mem_guarantee": "4Gi"}}, "wrong-value", "mem_guarantee"),
        ({"kubespawner_override": {"cpu_limit": "500m"}}, "wrong-value", "cpu_limit"),
        ({"kubespawner_override": {"uid": "1000"}}, "wrong-value", "uid"),
        ({"kubespawner_override": {"environment": ["A=b"]}}, "wrong-value", "environment"),
        ({"kubespawner_override": {"image": None}}, "wrong-value", "image"),
        (choice(kubespawner_override={"cpu_limit": "1 core"}), "wrong-value", "c.kubespawner_override.cpu_limit"),
        ({"kubespawner_override": {"extra_resource_limits": {"gpu": "one"}}}, "quantity", "extra_resource_limits.gpu"),
    ],
)  # fmt: skip
def test_what_is_not_meant_is_found(entry: Any, rule: str, field: str) -> None:
    """Once, with the path of the key."""
    ((name, path),) = [one for one in found({"display_name": "A", **entry}) if one[0] != "unchecked-text"]
    assert name == rule
    assert path.endswith(field)


@pytest.mark.parametrize(
    "override",
    [
        {"mem_limit": "4G", "mem_guarantee": None, "cpu_limit": 0.5, "cpu_guarantee": 0.1, "image": "a:{username}"},
        {"volumes": {"home": None}, "environment": {"A": None}, "node_selector": {"a": "b"}, "tolerations": []},
        {"volumes": [{"name": "a"}], "uid": 0, "privileged": False, "image": lambda spawner: "a:1"},
        {"extra_resource_limits": {"nvidia.com/gpu": "1", "gone": None}, "cmd": "jupyterhub-singleuser"},
    ],
)
def test_what_kubespawner_takes_causes_no_warning(override: dict[str, Any]) -> None:
    """Functions, mappings that are merged, and values that are filled in at the start included."""
    assert found({"display_name": "A", "default": True, "kubespawner_override": override}) == []


def test_traits_of_a_spawner_of_ones_own_are_known() -> None:
    """A subclass may have more of them."""

    class Own(ProfileSpawner):
        """A spawner with a setting of its own."""

        places = Int(config=True)

    entry = {"display_name": "A", "kubespawner_override": {"places": 3}}
    assert found(entry) == [("unknown-trait", "kubespawner_override.places")]
    assert found(entry, Own.class_traits(config=True)) == []


def test_the_linter_never_fails() -> None:
    """Values in Python may do anything; and many faults are not all listed."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

        def __bool__(self) -> bool:
            raise RuntimeError

    assert found(Odd()) == []
    assert found({"display_name": "A", "default": Odd(), "allowed_groups": Odd(), 3: Odd()})
    assert found({"kubespawner_override": {"cpu_limit": Odd()}}) == []
    assert len(found({f"unknown{n}": 1 for n in range(1000)})) == MAX_WARNINGS


def test_a_default_without_an_effect_is_found() -> None:
    """The first one that the same users may use counts; each group may have one of its own."""
    rules: dict[str, dict[str, Any]] = {
        "a": {"allowed_groups": ["staff"]},
        "b": {"allowed_groups": ["students"]},
        "c": {"allowed_groups": ["staff"]},
        "d": {"is_available_to": lambda user: False},
        "e": {},
        "f": {},
    }
    entries = [
        Entry(Offer(slug, slug, access=access_from(rule), default=slug != "b"), PlainEntry(slug, rule))
        for slug, rule in rules.items()
    ]
    assert [w.profile for w in lint_defaults(entries)] == ["c", "f"]


async def test_references_that_stay_as_they_are_are_reported() -> None:
    """In `kubespawner_override` of a class, which KubeSpawner reads in its own language."""

    class Literal(BaseAppProfile):
        slug = "literal"
        display_name = "Literal"
        image = "a:1"
        kubespawner_override = {"cmd": ["run", "{{ username }}", "{{ braces }}"], "extra_labels": {"of": "{username}"}}

    entry = await make_entry(ClassProfile(Literal), "here", traits=lambda: TRAITS)
    assert [(w.rule, w.field, w.message[:15]) for w in entry.warnings] == [
        ("literal-reference", "kubespawner_override", "{{ username }} ")
    ]
