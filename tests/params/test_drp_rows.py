"""Digital Rebar's semantics of profiles and params, row by row: docs/params.md names the test of each that is kept."""

from __future__ import annotations

import re
from typing import Any

import pytest

from profile_spawner.errors import Origin, ParamError
from profile_spawner.params.definition import MISSING, Param, SecretRef, thaw
from profile_spawner.params.evaluator import Resolved
from profile_spawner.params.layers import Collection, LayerValues, Resolver
from profile_spawner.profiles.profile_params import make_resolver
from profile_spawner.profiles.registry import Collector
from tests.documentation import ROOT

PAGE = (ROOT / "docs" / "params.md").read_text()
A = {"a": Param("a", user_settable=True)}


def col(name: str, value: Any = MISSING, *profiles: str) -> Collection:
    """Make a collection that sets `a`."""
    return Collection(name, {} if value is MISSING else {"a": value}, profiles, Origin(f"{name}.py", 1))


def resolve(*collections: Collection, params: dict[str, Param] | None = None, **layers: Any) -> Resolved:
    """Resolve in Digital Rebar's order."""
    return Resolver(params or A, {c.name: c for c in collections}).resolve(order="drp", **layers)


# ------------------------------------------------------------------------------------------------ the order


def test_params_of_the_machine_come_first() -> None:
    """Params of the server, then of the user, then of the profiles."""
    layers: dict[str, Any] = {"profile": "lab", "server": {"a": "server"}, "user": {"a": "user"}}
    assert resolve(col("lab", "lab"), **layers)["a"] == "server"
    assert resolve(col("lab", "lab"), **{**layers, "server": {}})["a"] == "user"


def test_profiles_of_the_machine_come_in_the_order_of_the_list() -> None:
    """The chosen profile is the first, the assigned profiles follow."""
    found = resolve(col("lab"), col("one", 1), col("two", 2), profile="lab", assigned=["two", "one"])
    assert found["a"] == 2
    assert [s.value for s in found.explain("a").overridden] == [1]


def test_a_profile_comes_with_its_nested_ones_before_the_next_in_the_list() -> None:
    """Own params, then nested ones, then the next profile."""
    collections = [col("first", MISSING, "nested"), col("nested", "nested"), col("second", "second")]
    found = resolve(*collections, profile="first", assigned=["second"])
    assert (found["a"], found.explain("a").overridden[0].value) == ("nested", "second")


def test_work_order_params_stand_below_profiles_and_above_stages() -> None:
    """In the original order, a choice for one run is weaker than the profile."""
    groups = [("stage", {"a": "stage"}, [])]
    assert resolve(col("lab", "lab"), profile="lab", spawn={"a": "run"})["a"] == "lab"
    assert resolve(col("lab"), profile="lab", spawn={"a": "run"}, groups=groups)["a"] == "run"


def test_stage_params_come_before_stage_profiles() -> None:
    """A group's own values, then the collections that it inherits, in order."""
    collections = [col("one", 1), col("two", 2)]
    found = resolve(*collections, groups=[("stage", {"a": "own"}, ["one", "two"])])
    assert [found["a"], *[s.value for s in found.explain("a").overridden]] == ["own", 1, 2]


def test_values_of_the_machine_and_the_hub_have_profiles_of_their_own() -> None:
    """Those of the server, then of the user, before the chosen profile; those of the hub before `global`."""
    collections = [col(name, name) for name in ("lab", "s", "u", "h", "global")]
    layers: dict[str, Any] = {
        "profile": "lab",
        "server": LayerValues({}, profiles=["s"]),
        "user": LayerValues({"a": "own"}, profiles=["u"]),
        "hub": LayerValues({}, profiles=["h"]),
    }
    found = resolve(*collections, **layers)
    assert [found["a"], *[s.value for s in found.explain("a").overridden]] == ["s", "own", "u", "lab", "h", "global"]


def test_a_choice_carries_no_profiles() -> None:
    """Users would get the values of params that they may not choose."""
    resolver = Resolver({**A, "b": Param("b")}, {"lab": col("lab"), "more": Collection("more", {"b": 1})})
    with pytest.raises(ParamError, match="profiles: is not defined"):
        resolver.resolve(profile="lab", spawn={"a": 1, "profiles": ["more"]})


def test_global_comes_after_everything_else() -> None:
    """Also after the profiles of a stage."""
    assert resolve(col("global", "g"), col("one", 1), groups=[("stage", {}, ["one"])])["a"] == 1
    assert resolve(col("global", "g"))["a"] == "g"


def test_profiles_nested_in_global_come_after_its_own_params() -> None:
    """And before the default."""
    params = {"a": Param("a", default="default"), "b": Param("b")}
    collections = [Collection("global", {"b": "own"}, ("site",)), Collection("site", {"a": "site", "b": "site"})]
    found = resolve(*collections, params=params)
    assert (found["a"], found["b"]) == ("site", "own")


def test_the_default_of_the_schema_comes_last() -> None:
    """The schema's `default` is used like the default of the definition."""
    params = {"a": Param("a", schema={"type": "integer", "default": 4})}
    assert resolve(params=params)["a"] == 4
    assert resolve(col("global", 5), params=params)["a"] == 5


def test_a_param_without_a_value_does_not_exist() -> None:
    """Looking it up is an error, asking whether it exists is not."""
    found = resolve()
    assert "a" not in found
    assert found.get("a") is None
    with pytest.raises(KeyError):
        found["a"]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_a_match_is_a_key_that_is_present(value: Any) -> None:
    """Null and other empty values are values."""
    assert thaw(resolve(col("global", "g"), user={"a": value})["a"]) == value


def test_the_whole_value_replaces() -> None:
    """No merging in the normal chain."""
    assert thaw(resolve(col("global", {"x": 1}), user={"a": {"y": 2}})["a"]) == {"y": 2}


def test_values_do_not_change_while_a_task_runs() -> None:
    """Later changes of the inputs have no effect."""
    values: dict[str, Any] = {"x": [1]}
    user = {"a": values}
    found = resolve(user=user)
    values["x"].append(2)
    user["a"] = {}
    assert thaw(found["a"]) == {"x": [1]}


def test_without_a_machine_only_global_and_defaults_count() -> None:
    """Without any layer."""
    found = resolve(col("global", "g"), col("lab", "lab"), params={**A, "b": Param("b", default=1)})
    assert dict(found) == {"b": 1, "a": "g"}


# ------------------------------------------------------------------------------------------------ compose


def test_lists_are_concatenated_most_specific_first() -> None:
    """In the order of precedence."""
    params = {"a": Param("a", merge="append")}
    assert resolve(col("global", ["g"]), user={"a": ["u"]}, params=params)["a"] == ("u", "g")


def test_the_default_takes_part_in_a_composed_value_and_is_last() -> None:
    """The operator's entries come first, the default's are appended."""
    params = {"a": Param("a", merge="append", default=["d"])}
    assert resolve(user={"a": ["u"]}, params=params)["a"] == ("u", "d")


def test_maps_are_merged_and_the_specific_value_wins() -> None:
    """Recursively."""
    params = {"a": Param("a", merge="merge")}
    found = resolve(col("global", {"x": {"p": 1, "q": 1}}), user={"a": {"x": {"p": 2}}}, params=params)
    assert thaw(found["a"]) == {"x": {"p": 2, "q": 1}}


def test_equal_items_of_a_composed_list_are_used_once() -> None:
    """A collection can be reached through several layers, and a toleration or volume twice is an error."""
    params = {"a": Param("a", merge="append")}
    found = resolve(
        col("lab", ["x", "y"]), col("gpu", ["x", "z"]), profile="lab", assigned=["gpu", "lab"], params=params
    )
    assert found["a"] == ("x", "y", "z")


def test_only_a_defined_param_is_composed() -> None:
    """A key without a definition is an error, and replaced completely where `permissive_params` allows it."""
    strict = Resolver({}, {"lab": col("lab", ["g"])})
    assert "param a: is not defined" in str(strict.unavailable["lab"][0])
    resolver = Resolver({}, {"global": col("global", ["g"])}, strict=False)
    assert resolver.resolve(user={"a": ["u"]})["a"] == ("u",)


def test_the_aggregate_of_one_param_includes_the_default() -> None:
    """The full chain, as `explain` shows it."""
    found = resolve(col("global", "g"), params={"a": Param("a", default="d")})
    assert [s.layer for s in found.explain("a").overridden] == ["default"]


def test_the_aggregate_of_a_profile_is_its_own_params_nested_ones_and_global() -> None:
    """In this order."""
    found = resolve(col("lab", 1, "mix"), col("mix", 2), col("global", 3), profile="lab")
    assert [found["a"], *[s.value for s in found.explain("a").overridden]] == [1, 2, 3]


def test_a_lookup_follows_references() -> None:
    """Every reader gets the expanded value, and the schema is checked with it."""
    params = {**A, "n": Param("n", schema={"type": "integer"}, default="{{ a }}")}
    assert resolve(user={"a": 3}, params=params)["n"] == 3
    assert "n" in resolve(user={"a": "x"}, params=params).failed


def test_references_in_keys_of_maps_are_not_followed() -> None:
    """At any depth."""
    params = {**A, "m": Param("m", default={"{{ a }}": [{"{{ a }}": "{{ a }}"}]})}
    assert thaw(resolve(user={"a": "x"}, params=params)["m"]) == {"{{ a }}": [{"{{ a }}": "x"}]}


# ------------------------------------------------------------------------------------------------ validation


def test_every_defined_key_is_checked_when_it_is_written() -> None:
    """All errors are collected, with key, value and expected value; no value is used."""
    params = {"a": Param("a", schema={"type": "string"}), "b": Param("b", schema={"type": "integer"})}
    resolver = Resolver(params, {"lab": Collection("lab", {"a": [5], "b": "x"}, (), Origin("lab.yaml", 3))})
    texts = [str(e) for e in resolver.unavailable["lab"]]
    assert len(texts) == 2
    assert "lab.yaml:3: profile 'lab': param a" in texts[0]
    assert 'is not of type "string"' in texts[0]
    with pytest.raises(ParamError):
        resolver.resolve(profile="lab")


def test_a_default_must_fit_its_own_schema() -> None:
    """Or the definition is refused."""
    with pytest.raises(ParamError, match="default does not fit"):
        Param("a", schema={"type": "string", "default": True})


def test_a_schema_must_compile() -> None:
    """Or the definition is refused."""
    with pytest.raises(ParamError, match="schema is not valid"):
        Param("a", schema={"type": "nonsense"})


def test_names_of_params_may_have_an_area() -> None:
    """With a slash between area and name."""
    assert Param("network/firewall-ports").name == "network/firewall-ports"


def test_a_secure_value_is_checked_and_never_shown() -> None:
    """The reference is checked, not the secret."""
    found = resolve(user={"a": {"secret": "s", "key": "k"}}, params={"a": Param("a", secure=True)})
    assert found["a"] == SecretRef("s", "k")
    assert found.explain("a").value == "***"


def test_global_always_exists_and_cannot_be_deleted() -> None:
    """It can be empty."""
    assert "global" in Resolver().collections


def test_deleting_what_is_in_use_is_refused_with_all_users() -> None:
    """All of them are named; what is not in use goes."""
    before = Resolver(A, {c.name: c for c in (col("x", 1, "mix"), col("y", 1, "mix"), col("mix"), col("other"))})
    left = Collector()
    for param in A.values():
        left.add_param(param)
    for name in ("x", "y"):
        left.add_collection(before.collections[name])
    resolver = make_resolver([left], before=before)
    assert resolver is not None
    assert set(resolver.collections) == {"global", "x", "y", "mix"}
    assert ["is in use by x, y" in str(conflict) for conflict in resolver.conflicts] == [True]


def test_a_name_that_does_not_exist_makes_its_user_unavailable() -> None:
    """With the reason."""
    resolver = Resolver(A, {"lab": col("lab", 1, "gone")})
    assert "there is no profile or collection 'gone'" in str(resolver.unavailable["lab"][0])


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_names_every_test_of_this_file() -> None:
    """And only existing tests."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    here = {name for name in globals() if name.startswith("test_")} - {"test_the_page_names_every_test_of_this_file"}
    assert named == here
