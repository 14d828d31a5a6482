"""Promises of the linter: it finds what KubeSpawner ignores or refuses at a start, and never fails itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kubernetes_asyncio.client import V1Container
from traitlets import Int

from profile_spawner.errors import Origin
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.entry import Entry, make_entry
from profile_spawner.profiles.linting import (
    MAX_WARNINGS,
    SpawnerTraits,
    expected_by,
    lint_defaults,
    lint_entry,
    lint_fields,
)
from profile_spawner.profiles.options import access_from, parse_options
from profile_spawner.profiles.plain_entries import PlainEntry, sound_parts
from profile_spawner.profiles.selection import Offer
from profile_spawner.profiles.user_text import unfilled
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
        ({"kubespawner_override": {"slug_scheme": "safe"}}, "read-early", "slug_scheme"),
        ({"kubespawner_override": {"image": "a:{username}"}}, "image", "override.image"),
        ({"kubespawner_override": {"cpu_limit": "{value}"}}, "wrong-value", "cpu_limit"),
        (choice(kubespawner_override={"image": "https://a.example.org/b:1"}), "image", "c.kubespawner_override.image"),
        ({"kubespawner_override": {"init_containers": [{"image": "A:1"}]}}, "image", "init_containers.0.image"),
        ({"kubespawner_override": {"image": "a"}}, "mutable-tag", "override.image"),
        ({"description": "For <b>all</b>"}, "html", "description"),
        (choice(description="5&nbsp;GB"), "html", "choices.c.description"),
        ({"kubespawner_override": {"environment": {"A": '{"a": 1}'}}}, "braces", "environment.A"),
        ({"kubespawner_override": {"extra_labels": {"of": "{usernme}"}}}, "braces", "extra_labels.of"),
        ({"kubespawner_override": {"volumes": {"x": {"name": "{0}"}}}}, "braces", "volumes.x.name"),
        ({"kubespawner_override": {"lifecycle_hooks": {}, "default_url": "/{user_server}"}}, "braces", "default_url"),
        (choice(kubespawner_override={"service_account": "${sa}"}), "braces", "c.kubespawner_override.service_account"),
        *(
            ({"kubespawner_override": {"environment": {"A": value}}}, "unquoted-text", "environment.A")
            for value in (3, 0, 1.5, True, False, [], {"value": 3})
        ),
        ({"kubespawner_override": None}, "wrong-type", "kubespawner_override"),
        (choice(kubespawner_override=None), "wrong-type", "choices.c.kubespawner_override"),
        ({"profile_options": {"o": {"choices": {"c": None}}}}, "wrong-type", "choices.c"),
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
        {"mem_limit": "4G", "mem_guarantee": None, "cpu_limit": 0.5, "cpu_guarantee": 0.1, "image": "a:1"},
        {"volumes": {"home": None}, "environment": {"A": None}, "node_selector": {"a": "b"}, "tolerations": []},
        {"volumes": [{"name": "a"}], "uid": 0, "privileged": False, "image": lambda spawner: "a:1"},
        {"extra_resource_limits": {"nvidia.com/gpu": "1", "gone": None}, "cmd": "jupyterhub-singleuser"},
        {"environment": {"A": "3", "B": None, "C": {"valueFrom": {}}, "D": lambda spawner: "d"}},
    ],
)
def test_what_kubespawner_takes_causes_no_warning(override: dict[str, Any]) -> None:
    """Functions, mappings that are merged, and values that are filled in at the start included."""
    assert found({"display_name": "A", "default": True, "kubespawner_override": override}) == []


@pytest.mark.parametrize(
    ("text", "filled", "wrong"),
    [
        ("{username}-{{a}}", False, []),
        ("awk '{{print $1}}' {unescaped_username!r:>9}", False, []),
        ("awk '{print $1}'", False, ["{print $1}"]),
        ("a}", False, [""]),
        ("{value}-{username}", False, ["{value}"]),
        ("{value}-{username}-{{{{a}}}}", True, []),
        ("{value}-{{a}}", True, ["{a}"]),
    ],
)
def test_braces_into_which_nothing_is_filled_are_found(text: str, filled: bool, wrong: list[str]) -> None:
    """Where KubeSpawner fills in names, and nowhere else; in the override of typed values `{value}` goes first."""
    override = {"environment": {"A": text}, "args": [text], "image": "a:1"}
    assert [field for _, field in unfilled(override, filled=filled)] == wrong


HUB = {
    "volumes": {"volume-{user_server}": {"name": "home"}, "files": {"name": "files"}},
    "volume_mounts": [{"mountPath": "/home"}],
    "init_containers": [V1Container(name="block-cloud-metadata")],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "extra_labels": {"hub.jupyter.org/network-access-hub": "true", "team": "a"},
}


@pytest.mark.parametrize(
    ("override", "lost"),
    [
        ({"volumes": [{"name": "data"}]}, "loses home, files"),
        ({"volumes": [{"name": "data"}, {"name": "home"}, {"name": "files"}]}, ""),
        ({"volumes": {"data": {"name": "data"}, "files": None}}, ""),
        ({"volumes": [], "tolerations": []}, ""),
        ({"volume_mounts": {"data": {"mountPath": "/data"}}}, "loses /home"),
        ({"tolerations": [{"key": "b", "operator": "Exists"}]}, "loses a Exists"),
        ({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b"}]}, ""),
        ({"init_containers": []}, "loses block-cloud-metadata; it keeps servers away from the cloud's metadata"),
        ({"extra_labels": {"team": None}}, ""),
        ({"extra_labels": {"hub.jupyter.org/network-access-hub": None}}, "network-access-hub; without it"),
        ({"extra_labels": {"hub.jupyter.org/network-access-hub": "false"}}, "network-access-hub; without it"),
        ({"extra_labels": {"hub.jupyter.org/network-access-hub": "true", "team": "b"}}, ""),
    ],
)
def test_what_removes_values_of_the_hub_is_found(override: dict[str, Any], lost: str) -> None:
    """A list replaces the hub's, and so does a mapping a list. What is removed on purpose is no mistake."""
    entry = {"display_name": "A", "kubespawner_override": override}
    warnings = lint_entry(entry, SpawnerTraits(TRAITS, HUB), lambda path: Origin("here"))
    assert [w.rule for w in warnings] == ["replaces-hub"] * bool(lost)
    assert all(lost in w.message for w in warnings)


def test_hints_name_what_is_meant() -> None:
    """A name of the chart that is no setting has no similar name, and a GPU is not a CPU."""
    hints = {"extraFiles": "", "nodeSelector": "'node_selector'", "gpu_limit": "'extra_resource_limits'"}
    for key, hint in hints.items():
        (warning,) = lint_entry({"kubespawner_override": {key: 1}}, TRAITS, lambda path: Origin("here"))
        assert warning.message.partition("did you mean ")[2].rstrip("?") == hint


def test_settings_beside_an_override_are_told_where_they_belong() -> None:
    """By KubeSpawner's names, and by those of the chart and of older KubeSpawners."""
    names = {"defaultUrl": " as default_url", "image": "", "cpu_limit": "", "nodeSelector": " as node_selector"}
    names |= {"extraEnv": " as environment", "memory": " as mem_limit"}
    for key, renamed in names.items():
        (warning,) = lint_entry({key: 1}, TRAITS, lambda path: Origin("here"))
        assert warning.rule == "misplaced-key"
        assert warning.message == f"has no effect here; it belongs into kubespawner_override{renamed}"


def test_types_are_called_by_plain_words() -> None:
    """Not by those of Python."""
    words = {name: expected_by(name, trait) for name, trait in TRAITS.items()}
    assert words["image"] == "a text"
    assert words["uid"] == "a whole number or a function"
    assert not [text for text in words.values() if re.search(r"unicode|\bint\b|float|dict|bool|callable", text)]


def test_a_value_of_another_type_is_shown_with_its_kind() -> None:
    """A number in quotes is a text, and what a list holds may be secret."""
    override = {"cpu_limit": "0.5", "image": ["hunter2"], "start_timeout": 1.5}
    warnings = lint_entry({"kubespawner_override": override}, TRAITS, lambda path: Origin("here"))
    assert [w.value for w in warnings] == ["the text '0.5'", "a list", 1.5]


def test_two_options_with_the_same_field_in_the_form_are_found() -> None:
    """Browsers without JavaScript send the fields of all profiles."""
    options = {"a": "b--c", "a--b": "c", "x": "y"}
    entries = [
        Entry(Offer(slug, slug, options=parse_options({name: {"type": "text"}}, profile=slug)))
        for slug, name in options.items()
    ]
    assert [(w.profile, w.field) for w in lint_fields(entries)] == [("a--b", "profile_options.c")]


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
        profile_options = {
            "a": {"choices": {"b": {"kubespawner_override": {"environment": {"A": "{username}"}}}}},
            "c": {"choices": {"d": {"kubespawner_override": {"environment": {"A": "${HOME}"}}}}},
            "e": {"type": "text", "kubespawner_override": {"environment": {"A": "{value}"}}},
        }

    entry = await make_entry(ClassProfile(Literal), "here", traits=lambda: TRAITS)
    assert [(w.rule, w.field) for w in entry.warnings] == [
        ("literal-reference", "kubespawner_override"),
        ("braces", "profile_options.c.choices.d.kubespawner_override.environment.A"),
    ]


async def test_images_and_variables_of_classes_are_checked_as_those_of_entries() -> None:
    """Each at its place; what params make is a warning only, since other values may be right."""

    class Wrong(BaseAppProfile):
        slug = "wrong"
        display_name = "Wrong"
        image = "https://a.example.org/b:1"
        mem_limit = 512
        kubespawner_override = {"environment": {"A": 3}}
        profile_options = {"o": {"choices": {"c": {"kubespawner_override": {"image": "A:1"}}}}}

    entry = await make_entry(ClassProfile(Wrong), "here", traits=lambda: TRAITS)
    assert [(w.level, w.rule, w.field) for w in entry.warnings] == [
        ("error", "image", "image"),
        ("warning", "memory-in-bytes", "mem_limit"),
        ("error", "unquoted-text", "kubespawner_override.environment.A"),
        ("error", "image", "profile_options.o.choices.c.kubespawner_override.image"),
    ]


def test_parts_of_the_wrong_type_are_found_each_at_its_field_and_the_rest_is_kept() -> None:
    """Also below keys with dots."""
    definition = {
        "slug": 3,
        "kubespawner_override": "image",
        "allowed_groups": "staff",
        "profile_options": {
            "a.b": {"choices": {"c.d": "Lab", "e": {"kubespawner_override": []}, "f": {"kubespawner_override": ["x"]}}},
            "g": "x",
            "h": {"unlisted_choice": "yes"},
            "i": {"type": "slider"},
        },
        "tags": 3,
        "description": "kept",
    }
    sound, problems = sound_parts(definition)
    assert {p.path for p in problems} == {
        ("display_name",),
        ("slug",),
        ("kubespawner_override",),
        ("allowed_groups",),
        ("profile_options", "a.b", "choices", "c.d"),
        ("profile_options", "a.b", "choices", "e", "kubespawner_override"),
        ("profile_options", "a.b", "choices", "f", "kubespawner_override"),
        ("profile_options", "g"),
        ("profile_options", "h", "unlisted_choice"),
        ("profile_options", "i"),
        ("tags",),
    }
    assert sound["description"] == "kept"
    assert sound["profile_options"] == {"a.b": {"choices": {"e": {}, "f": {}}}, "h": {}}
    assert definition["profile_options"]["g"] == "x"
