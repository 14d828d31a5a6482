"""Resolution: which layer's value counts, one test for each rule that is kept from Digital Rebar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.errors import Origin, ParamError
from profile_spawner.params import MISSING, Param, SecretRef, thaw
from profile_spawner.precedence import DRP_ORDER, PRECEDENCE, Collection, Resolver, walk

A = {"a": Param("a", default="default", user_settable=True)}


def resolver(collections: dict[str, Collection] | None = None, params: dict[str, Param] | None = None) -> Resolver:
    """Make a resolver with the param `a`."""
    return Resolver(params or A, collections)


def col(name: str, value: Any = MISSING, *profiles: str, **values: Any) -> Collection:
    """Make a collection that sets `a`."""
    params = dict(values) if value is MISSING else {"a": value, **values}
    return Collection(name, params, profiles, Origin(f"{name}.py", 1))


FULL: dict[str, Any] = {
    "enforced": {"a": "enforced"},
    "spawn": {"a": "spawn"},
    "server": {"a": "server"},
    "user": {"a": "user"},
    "assigned": ["given"],
    "groups": [("g1", {"a": "groups"}, [])],
    "hub": {"a": "hub"},
}


@pytest.mark.parametrize("order", ["default", "drp"])
def test_the_first_layer_that_has_a_value_wins(order: str) -> None:
    """Taking the strongest layer away uncovers the next, in exactly the order of the tuple."""
    tuple_ = PRECEDENCE if order == "default" else DRP_ORDER
    layers = dict(FULL)
    collections = {"global": col("global", "global"), "lab": col("lab", "profile"), "given": col("given", "assigned")}
    for layer in tuple_:
        r = resolver(collections)
        resolved = r.resolve(profile="lab", order=order, **layers)
        assert resolved["a"] == layer
        assert resolved.explain("a").layer == layer
        layers.pop(layer, None)
        name = {"profile": "lab", "assigned": "given", "global": "global"}.get(layer)
        if name:
            collections[name] = col(name)


def test_the_documentation_quotes_the_order() -> None:
    """docs/params.md holds the tuple of the code, layer by layer."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "params.md").read_text()
    found = re.findall(r"^\d+\. `(\w+)`", page, re.MULTILINE)
    assert tuple(found) == PRECEDENCE


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_presence_counts_not_truth(value: Any) -> None:
    """An explicit null, false, zero or empty value stops the search."""
    resolved = resolver({"global": col("global", "global")}).resolve(user={"a": value})
    assert thaw(resolved["a"]) == value
    assert resolved.explain("a").layer == "user"


def test_whole_values_replace() -> None:
    """Without a declared merge, a mapping hides the weaker one completely."""
    params = {"m": Param("m")}
    resolved = resolver({"global": col("global", m={"x": 1, "y": 2})}, params).resolve(user={"m": {"x": 5}})
    assert thaw(resolved["m"]) == {"x": 5}


def test_the_default_is_asked_last_and_a_param_without_one_is_absent() -> None:
    """Nothing set: the definition's default, or no value at all."""
    resolved = resolver(params={**A, "b": Param("b")}).resolve()
    assert resolved["a"] == "default"
    assert "b" not in resolved
    assert resolved.get("b") is None


def test_own_params_come_before_nested_ones_and_a_diamond_counts_once() -> None:
    """Depth-first in order, each at its first place."""
    collections = {
        "lab": col("lab", MISSING, "left", "right"),
        "left": col("left", MISSING, "base"),
        "right": col("right", "right", "base"),
        "base": col("base", "base"),
    }
    assert walk("lab", collections) == ("lab", "left", "base", "right")
    assert resolver(collections).resolve(profile="lab")["a"] == "base"


def test_a_cycle_is_refused_with_its_path() -> None:
    """The path is like x > y > x, and everything else works."""
    collections = {"x": col("x", 1, "y"), "y": col("y", 2, "x"), "fine": col("fine", 3)}
    r = resolver(collections)
    assert "x > y > x" in str(r.unavailable["x"][0])
    assert r.resolve(profile="fine")["a"] == 3
    with pytest.raises(ParamError):
        r.resolve(profile="x")


def test_a_name_that_does_not_exist_makes_the_profile_unavailable() -> None:
    """With the nearest name, and with those that take it on."""
    collections = {"lab": col("lab", 1, "gpuu"), "gpu": col("gpu", 2), "course": col("course", 3, "lab")}
    r = resolver(collections)
    assert "did you mean 'gpu'" in str(r.unavailable["lab"][0])
    assert "course" in r.unavailable
    assert "gpu" not in r.unavailable


def test_values_that_no_longer_fit_make_only_their_profiles_unavailable() -> None:
    """A changed definition takes nothing else along."""
    params = {"n": Param("n", schema={"type": "integer"})}
    r = resolver({"old": col("old", n="text"), "new": col("new", n=3)}, params)
    assert set(r.unavailable) == {"old"}
    assert "old.py:1" in str(r.unavailable["old"][0])
    assert r.resolve(profile="new")["n"] == 3


def test_an_undefined_param_is_an_error_unless_permitted() -> None:
    """Strict by default, with the nearest name; permissive by configuration."""
    collections = {"lab": col("lab", aa=1)}
    assert "did you mean 'a'" in str(resolver(collections).unavailable["lab"][0])
    assert Resolver(A, collections, strict=False).resolve(profile="lab")["aa"] == 1


def test_deleting_what_is_in_use_names_all_users() -> None:
    """And `global` can never be deleted."""
    r = resolver({"one": col("one", 1, "mix"), "two": col("two", 1, "mix"), "mix": col("mix")})
    with pytest.raises(ParamError, match="one, two"):
        r.require_unused("mix")
    with pytest.raises(ParamError, match="always exists"):
        r.require_unused("global")
    r.require_unused("one")


def test_users_choose_only_what_is_theirs_to_choose() -> None:
    """A param that is not `user_settable` is refused in the spawn layer."""
    with pytest.raises(ParamError, match="cannot be chosen"):
        resolver(params={"s": Param("s")}).resolve(spawn={"s": 1})


def test_a_param_is_set_only_in_its_layers() -> None:
    """`layers` narrows where a value may stand."""
    params = {"s": Param("s", layers=("global", "hub"))}
    assert resolver({"global": col("global", s=1)}, params).resolve()["s"] == 1
    with pytest.raises(ParamError, match="layer 'user'"):
        resolver(params=params).resolve(user={"s": 1})["s"]


def test_groups_count_in_their_declared_order() -> None:
    """The first group that has a value wins; its values come before the collections that it takes on."""
    collections = {"mix": col("mix", "mixed")}
    groups = [("first", {}, ["mix"]), ("second", {"a": "second"}, [])]
    assert resolver(collections).resolve(groups=groups)["a"] == "mixed"
    assert resolver(collections).resolve(groups=groups[::-1])["a"] == "second"


def test_lists_are_appended_most_specific_first_defaults_last_and_once_by_key() -> None:
    """`merge="append"` with a key."""
    params = {"v": Param("v", merge="append", merge_key="name", default=[{"name": "home", "from": "default"}])}
    collections = {"global": col("global", v=[{"name": "data", "from": "global"}, {"name": "home", "from": "global"}])}
    resolved = resolver(collections, params).resolve(user={"v": [{"name": "own", "from": "user"}]})
    assert [(i["name"], i["from"]) for i in resolved["v"]] == [("own", "user"), ("data", "global"), ("home", "global")]
    explained = resolved.explain("v")
    assert explained.merged
    assert [s.layer for s in explained.shadowed] == ["global", "default"]


def test_mappings_are_merged_recursively_the_specific_value_wins() -> None:
    """`merge="merge"`."""
    params = {"e": Param("e", merge="merge", default={"x": {"a": 0, "c": 0}})}
    collections = {"global": col("global", e={"x": {"a": 1, "b": 1}, "y": 1})}
    resolved = resolver(collections, params).resolve(user={"e": {"x": {"a": 2}}})
    assert thaw(resolved["e"]) == {"x": {"a": 2, "b": 1, "c": 0}, "y": 1}


def test_values_of_different_types_are_not_joined() -> None:
    """The message names both sources."""
    params = {"v": Param("v", merge="append")}
    with pytest.raises(ParamError) as error:
        resolver({"global": col("global", v=["x"])}, params).resolve(user={"v": "x"})["v"]
    assert "global" in str(error.value)
    assert "user" in str(error.value)


def test_the_joined_value_is_checked_again() -> None:
    """Every part may fit and the whole not."""
    params = {"v": Param("v", schema={"type": "array", "maxItems": 2}, merge="append")}
    with pytest.raises(ParamError, match="joined value"):
        resolver({"global": col("global", v=[1, 2])}, params).resolve(user={"v": [3]})["v"]


def test_a_ceiling_bounds_every_layer_and_is_explained() -> None:
    """Numbers are set to the bound; what is not allowed is refused."""
    params = {"n": Param("n", schema={"type": "integer"}, default=1, user_settable=True)}
    resolved = resolver(params=params).resolve(spawn={"n": 9}, enforced={"n": {"$maximum": 4}})
    assert resolved["n"] == 4
    assert resolved.explain("n").layer == "enforced"
    assert resolved.explain("n").shadowed[0].value == 9
    assert resolver(params=params).resolve(spawn={"n": 3}, enforced={"n": {"$maximum": 4}})["n"] == 3
    with pytest.raises(ParamError, match="not allowed"):
        resolver(params=params).resolve(spawn={"n": 9}, enforced={"n": {"$allowed": [1, 2]}})["n"]


def test_explain_says_layer_source_line_and_what_is_hidden() -> None:
    """For every value, as an object and as JSON."""
    resolved = resolver({"global": col("global", "g"), "lab": col("lab", "l")}).resolve(profile="lab")
    explained = resolved.explain("a")
    assert (explained.value, explained.layer, explained.source, str(explained.origin)) == (
        "l",
        "profile",
        "lab",
        "lab.py:1",
    )
    assert [(s.layer, s.value) for s in explained.shadowed] == [("global", "g"), ("default", "default")]
    assert explained.to_json()["shadowed"][0]["origin"] == "global.py:1"


def test_records_and_explanations_hold_no_secrets() -> None:
    """A secure value is three stars wherever it is shown, also where it is hidden by another."""
    params = {"t": Param("t", secure=True)}
    collections = {"global": col("global", t={"secret": "canary", "key": "k1"})}
    resolved = resolver(collections, params).resolve(user={"t": {"secret": "canary", "key": "k2"}})
    assert resolved["t"] == SecretRef("canary", "k2")
    assert "canary" not in str(resolved.record()) + repr(resolved.explain("t"))


names = st.sampled_from(["p", "q", "r"])
values = st.none() | st.booleans() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2)
collections = st.dictionaries(st.sampled_from(["c0", "c1", "c2", "c3"]), st.dictionaries(names, values, max_size=3))


@given(collections, st.data())
def test_random_layers_agree_with_a_small_oracle(sets: dict[str, dict[str, Any]], data: Any) -> None:
    """Collections nest downwards only; the oracle just walks a list of dictionaries."""
    order = sorted(sets)
    nested = {
        n: data.draw(st.lists(st.sampled_from(order[i + 1 :] or ["global"]), max_size=3, unique=True))
        for i, n in enumerate(order)
    }
    nested = {n: tuple(x for x in inner if x in sets) for n, inner in nested.items()}
    definitions = {n: Param(n, default=data.draw(values), user_settable=True) if n != "r" else Param(n) for n in "pqr"}
    r = Resolver(definitions, {n: Collection(n, sets[n], nested[n]) for n in order})
    user = data.draw(st.dictionaries(names, values, max_size=2))
    profile = data.draw(st.sampled_from([*order, None]))
    resolved = r.resolve(profile=profile, user=user)

    def visit(name: str, seen: list[str]) -> list[str]:
        if name not in seen:
            seen.append(name)
            for inner in nested[name]:
                visit(inner, seen)
        return seen

    layers = [user] + ([sets[n] for n in visit(profile, [])] if profile else [])
    for name in "pqr":
        expected = next((layer[name] for layer in layers if name in layer), MISSING)
        if expected is MISSING and definitions[name].has_default:
            expected = thaw(definitions[name].default)
        found = thaw(resolved[name]) if name in resolved else MISSING
        assert found == expected or (found is MISSING and expected is MISSING)
