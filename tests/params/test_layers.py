"""The values of params from all layers, and their explanations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.errors import Origin, ParamError
from profile_spawner.params.definition import MISSING, Param, SecretRef, thaw
from profile_spawner.params.layers import DRP_ORDER, PRECEDENCE, Collection, LayerValues, Resolver

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
    """Without the strongest layer the next one is used, in the order of the tuple."""
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
    """docs/params.md lists the layers in the order of the code."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "params.md").read_text()
    found = re.findall(r"^\d+\. `(\w+)`", page, re.MULTILINE)
    assert tuple(found) == PRECEDENCE


def test_own_params_come_before_inherited_ones_and_each_collection_is_used_once() -> None:
    """Depth-first in order, each at its first place."""
    collections = {
        "lab": col("lab", MISSING, "left", "right"),
        "left": col("left", MISSING, "base"),
        "right": col("right", "right", "base"),
        "base": col("base", "base"),
    }
    assert resolver(collections).inherited("lab") == ("lab", "left", "base", "right")
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
    """The message suggests the most similar name; profiles that inherit the profile are unavailable too."""
    collections = {"lab": col("lab", 1, "gpuu"), "gpu": col("gpu", 2), "course": col("course", 3, "lab")}
    r = resolver(collections)
    assert "did you mean 'gpu'" in str(r.unavailable["lab"][0])
    assert "course" in r.unavailable
    assert "gpu" not in r.unavailable


def test_values_that_no_longer_fit_make_only_their_profiles_unavailable() -> None:
    """Other profiles are not affected by a changed definition."""
    params = {"n": Param("n", schema={"type": "integer"})}
    r = resolver({"old": col("old", n="text"), "new": col("new", n=3)}, params)
    assert set(r.unavailable) == {"old"}
    assert "old.py:1" in str(r.unavailable["old"][0])
    assert r.resolve(profile="new")["n"] == 3


def test_an_undefined_param_is_an_error_unless_permitted() -> None:
    """Strict by default, with a suggestion; permissive by configuration."""
    collections = {"lab": col("lab", aa=1)}
    assert "did you mean 'a'" in str(resolver(collections).unavailable["lab"][0])
    assert Resolver(A, collections, strict=False).resolve(profile="lab")["aa"] == 1


def test_users_choose_only_user_settable_params() -> None:
    """A param that is not `user_settable` is refused in the spawn layer."""
    with pytest.raises(ParamError, match="cannot be chosen"):
        resolver(params={"s": Param("s")}).resolve(spawn={"s": 1})


def test_a_param_is_set_only_in_its_layers() -> None:
    """`layers` restricts the layers in which a value may be set."""
    params = {"s": Param("s", layers=("global", "hub"))}
    assert resolver({"global": col("global", s=1)}, params).resolve()["s"] == 1
    with pytest.raises(ParamError, match="layer 'user'"):
        resolver(params=params).resolve(user={"s": 1})["s"]


def test_groups_count_in_their_declared_order() -> None:
    """The first group that has a value wins; its values come before the collections that it inherits."""
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
    assert [s.layer for s in explained.overridden] == ["global", "default"]


def test_values_of_different_types_are_not_merged() -> None:
    """The message names both sources."""
    params = {"v": Param("v", merge="append")}
    with pytest.raises(ParamError) as error:
        resolver({"global": col("global", v=["x"])}, params).resolve(user={"v": "x"})["v"]
    assert "global" in str(error.value)
    assert "user" in str(error.value)


def test_a_merged_value_is_checked_again() -> None:
    """All parts can be valid although the merged value is not."""
    params = {"v": Param("v", schema={"type": "array", "maxItems": 2}, merge="append")}
    with pytest.raises(ParamError, match="merged value"):
        resolver({"global": col("global", v=[1, 2])}, params).resolve(user={"v": [3]})["v"]


def test_a_constraint_applies_to_every_layer_and_is_explained() -> None:
    """Numbers are set to the bound; other values are refused."""
    params = {"n": Param("n", schema={"type": "integer"}, default=1, user_settable=True)}
    resolved = resolver(params=params).resolve(spawn={"n": 9}, enforced={"n": {"$maximum": 4}})
    assert resolved["n"] == 4
    assert resolved.explain("n").layer == "enforced"
    assert resolved.explain("n").overridden[0].value == 9
    assert resolver(params=params).resolve(spawn={"n": 3}, enforced={"n": {"$maximum": 4}})["n"] == 3
    with pytest.raises(ParamError, match="not allowed"):
        resolver(params=params).resolve(spawn={"n": 9}, enforced={"n": {"$allowed": [1, 2]}})["n"]


def test_explanations_have_layer_source_line_and_overridden_values() -> None:
    """For every value, as an object and as JSON."""
    resolved = resolver({"global": col("global", "g"), "lab": col("lab", "l")}).resolve(profile="lab")
    explained = resolved.explain("a")
    assert (explained.value, explained.layer, explained.source, str(explained.origin)) == (
        "l",
        "profile",
        "lab",
        "lab.py:1",
    )
    assert [(s.layer, s.value) for s in explained.overridden] == [("global", "g"), ("default", "default")]
    assert explained.to_json()["overridden"][0]["origin"] == "global.py:1"


def test_records_and_explanations_hold_no_secrets() -> None:
    """Secure values are shown as `***`, also if they are overridden."""
    params = {"t": Param("t", secure=True)}
    collections = {"global": col("global", t={"secret": "canary", "key": "k1"})}
    resolved = resolver(collections, params).resolve(user={"t": {"secret": "canary", "key": "k2"}})
    assert resolved["t"] == SecretRef("canary", "k2")
    assert "canary" not in str(resolved.record()) + repr(resolved.explain("t"))


# ------------------------------------------------------------------------------------------------ references


def test_values_refer_to_params_and_facts() -> None:
    """Each text is expanded once. A text of one reference gets the type of the value. The escape becomes braces."""
    params = {n: Param(n) for n in ("who", "n", "copy", "text", "deep", "braces")}
    values = {
        "who": "user {{ username }}",
        "n": 3,
        "copy": "{{ n }}",
        "text": "{{ who }} has {{ copy }}",
        "deep": {"list": ["{{ n }}", "{{ text }}"]},
        "braces": "{{{{ n }}",
    }
    resolved = resolver({"global": Collection("global", values)}, params).resolve(facts={"username": "ada"})
    assert resolved["copy"] == 3
    assert resolved["text"] == "user ada has 3"
    assert thaw(resolved["deep"]) == {"list": [3, "user ada has 3"]}
    assert resolved["braces"] == "{{ n }}"
    assert resolved.inserted("deep") == {"n", "text", "who", "copy", "username"}
    assert resolved.explain("text").value == "user ada has 3"


def test_a_users_choice_is_inserted_and_never_expanded() -> None:
    """Neither alone, nor in another value, nor as a part of a merged value."""
    params = {
        "name": Param("name", default="x", user_settable=True),
        "title": Param("title", default="I am {{ name }}"),
        "list": Param("list", default=["{{ name }}"], merge="append", user_settable=True),
    }
    spawn = {"name": "{{ username }}", "list": ["{{ title }}"]}
    resolved = resolver(params=params).resolve(spawn=spawn, facts={"username": "ada"})
    assert resolved["name"] == "{{ username }}"
    assert resolved["title"] == "I am {{ username }}"
    assert resolved["list"] == ("{{ title }}", "{{ username }}")
    assert resolved.chosen("title") == {"name"}


def test_a_loop_of_references_is_an_error_with_its_path() -> None:
    """Other params work."""
    params = {n: Param(n) for n in "abcd"}
    values = {"a": "{{ b }}", "b": "x {{ c }}", "c": "{{ a }}", "d": 1}
    resolved = resolver({"global": Collection("global", values)}, params).resolve()
    assert resolved["d"] == 1
    assert set(resolved.failed) == {"a", "b", "c"}
    with pytest.raises(ParamError, match="a > b > c > a"):
        resolved["a"]
    with pytest.raises(ParamError, match="a > b > c > a"):
        resolved.get("c")


def test_an_unknown_reference_is_an_error_with_its_place() -> None:
    """With file and line of the value, the line in the text, and the most similar name."""
    values = Collection("global", {"a": "one\ntwo {{ usrname }}"}, (), Origin("values.yaml", 7))
    resolved = resolver({"global": values}).resolve(facts={"username": "ada"})
    with pytest.raises(ParamError) as error:
        resolved["a"]
    for words in ("values.yaml:7", "line 2", "did you mean 'username'"):
        assert words in str(error.value)


def test_an_expanded_value_is_checked() -> None:
    """With the schema of the param."""
    params = {"n": Param("n", schema={"type": "integer"}), "t": Param("t")}
    collections = {"global": Collection("global", {"n": "{{ t }}", "t": "text"})}
    with pytest.raises(ParamError, match="expanded value does not fit"):
        resolver(collections, params).resolve()["n"]
    assert resolver(collections, params).resolve(hub={"t": 4})["n"] == 4


def test_a_secure_param_is_not_copied_into_others() -> None:
    """The copy would be shown."""
    params = {"token": Param("token", secure=True), "copy": Param("copy")}
    values = {"token": {"secret": "canary", "key": "k"}, "copy": "{{ token }}"}
    resolved = resolver({"global": Collection("global", values)}, params).resolve()
    with pytest.raises(ParamError, match="secure param 'token'") as error:
        resolved["copy"]
    assert "canary" not in str(error.value)
    assert "canary" not in str(resolved.record())


def test_the_size_of_expanded_values_is_limited() -> None:
    """Ten params that each contain the next one ten times would have ten thousand million characters."""
    params = {f"p{n}": Param(f"p{n}") for n in range(11)}
    values = {f"p{n}": f"{{{{ p{n + 1} }}}}" * 10 for n in range(10)} | {"p10": "x" * 10}
    resolved = resolver({"global": Collection("global", values)}, params).resolve()
    assert "p0" in resolved.failed
    assert "4096 characters" in str(resolved.failed["p0"])


# ------------------------------------------------------------------------------------------------ what is broken


def test_an_invalid_value_is_an_error_only_if_it_is_used() -> None:
    """An invalid value of a group affects no other param."""
    params = {"n": Param("n", schema={"type": "integer"}), "m": Param("m")}
    r = resolver({}, params)
    resolved = r.resolve(groups=[("g", LayerValues({"n": "text", "m": 1}, {"n": Origin("g.py", 3)}), [])])
    assert resolved["m"] == 1
    assert "n" in resolved
    assert dict(resolved) == {"m": 1}
    with pytest.raises(ParamError, match=r"g\.py:3"):
        resolved["n"]
    record = resolved.record()
    assert (record["n"]["value"], record["m"]["value"]) == (None, 1)
    assert 'is not of type "integer"' in record["n"]["error"]
    assert r.resolve(groups=[("g", {"n": "text"}, [])], user={"n": 4})["n"] == 4


def test_a_mistake_in_global_affects_no_profile() -> None:
    """It is reported, and what is wrong is not used: an invalid value, a missing collection."""
    params = {"n": Param("n", schema={"type": "integer"}, default=1), "m": Param("m")}
    r = resolver({"global": Collection("global", {"n": "text", "m": 1}, ("gone",), Origin("g.py", 3))}, params)
    assert dict(r.resolve()) == {"n": 1, "m": 1}
    assert set(r.unavailable) == set(r.mistakes) == {"global"}
    assert ["'gone'" in str(e) or "integer" in str(e) for e in r.mistakes["global"]] == [True, True]


def test_a_param_without_a_value_is_named() -> None:
    """The error suggests the most similar name. It is a `KeyError`, so mappings work as usual."""
    resolved = resolver({"lab": col("lab", first="v")}, {"first": Param("first")}).resolve(profile="lab")
    with pytest.raises(ParamError, match="param frist: has no value in any layer and no default; did you mean 'first'"):
        resolved["frist"]
    with pytest.raises(ParamError, match="param frist"):
        resolved.explain("frist")
    assert resolved.get("frist", 1) == 1


def test_global_is_the_weakest_layer_wherever_it_is_listed() -> None:
    """In `profiles`, in `assigned` and in the collections of a group."""
    r = resolver({"global": col("global", "g"), "lab": col("lab", MISSING, "global"), "x": col("x", "x")})
    assert r.resolve(profile="lab", assigned=["global", "x"])["a"] == "x"
    assert r.resolve(groups=[("g", {}, ["global", "x"])])["a"] == "x"
    assert r.resolve(profile="lab", hub={"a": "hub"})["a"] == "hub"


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a\n", "a" * 64, "a."])
def test_a_name_of_a_collection_is_checked(name: str) -> None:
    """Every slug is a name, and names of Digital Rebar are too."""
    with pytest.raises(ParamError, match=r"c\.py:3: collection .*is not a valid name"):
        Collection(name, origin=Origin("c.py", 3))
    assert [Collection(good).name for good in ("a", "gpu-lab", "base.os v2", "Zürich_1")]


def test_a_server_pays_only_for_the_params_that_it_uses() -> None:
    """And for what these refer to; its record has them, and what a layer of its own sets."""
    params = {f"p{n}": Param(f"p{n}", default=n) for n in range(100)}
    params |= {
        "text": Param("text", default="{{ p7 }}"),
        "own": Param("own"),
        "wrong": Param("wrong", default="{{ x }}"),
    }
    resolved = resolver({}, params).resolve(user={"own": 1})
    assert resolved["text"] == 7
    assert set(resolved.record(used=True)) == {"text", "p7", "own"}
    assert len(resolved.record()) == 103
    assert set(resolved.failed) == {"wrong"}
    assert len(resolved) == 102
    assert dict(resolved)["p99"] == 99


def test_many_undefined_params_are_counted() -> None:
    """To suggest a name for each of them would take long."""
    r = resolver({"many": Collection("many", {f"b{n}": 1 for n in range(1000)}, (), Origin("m.py", 3))})
    assert [str(e) for e in r.mistakes["many"]] == [
        "m.py:3: profile 'many': 1,000 params are not defined, such as b0. Define them"
    ]


def test_a_cycle_is_a_mistake_of_the_collection_that_closes_it() -> None:
    """That is the one that is new; all who are in the cycle cannot be used."""
    collections = {"x": col("x", 1, "y"), "y": col("y", 2, "z"), "z": col("z", 3, "x"), "on": col("on", 4, "x")}
    for newest, path in (((), "x > y > z > x"), (("x",), "y > z > x > y"), (("y", "on"), "z > x > y > z")):
        r = Resolver(A, collections, newest=newest)
        (name,) = r.mistakes
        assert name == (newest[0] if newest else "z")
        assert path in str(r.mistakes[name][0])
        assert str(r.mistakes[name][0].origin) == f"{name}.py:1"
        assert set(r.unavailable) == {"x", "y", "z", "on"}


def test_a_typing_error_in_any_layer_is_an_error() -> None:
    """The message suggests the most similar name."""
    for layers in (
        {"user": {"aa": 1}},
        {"hub": {"aa": 1}},
        {"enforced": {"aa": 1}},
        {"groups": [("g", {"aa": 1}, [])]},
    ):
        with pytest.raises(ParamError, match="did you mean 'a'"):
            resolver().resolve(**layers)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- constraints, merges


@pytest.mark.parametrize(
    ("value", "constraint", "expected"),
    [
        ("16Gi", {"$maximum": "8Gi"}, "8Gi"),
        ("16G", {"$maximum": "8Gi"}, "8Gi"),
        ("512M", {"$minimum": "1G"}, "1G"),
        ("500m", {"$maximum": 2}, "500m"),
        (3, {"$minimum": 1, "$maximum": 4}, 3),
        (0, {"$minimum": 1}, 1),
        (None, {"$allowed": [None, 1]}, None),
    ],
)
def test_a_bound_holds_for_numbers_and_quantities(value: Any, constraint: Any, expected: Any) -> None:
    """Also if the units differ."""
    assert resolver().resolve(user={"a": value}, enforced={"a": constraint})["a"] == expected


@pytest.mark.parametrize("value", ["much", True, None, ["8Gi"], {"x": 1}, float("nan")])
def test_a_value_that_cannot_be_compared_with_a_bound_is_refused(value: Any) -> None:
    """Otherwise the bound would not apply, and administrators would not notice."""
    with pytest.raises(ParamError, match="cannot be compared"):
        resolver().resolve(user={"a": value}, enforced={"a": {"$maximum": "8Gi"}})["a"]


@pytest.mark.parametrize("constraint", [{"$maximum": "much"}, {"$minimum": True}, {"$allowed": 5}])
def test_an_invalid_bound_is_refused(constraint: Any) -> None:
    """The message names the bound."""
    with pytest.raises(ParamError, match=r"\$"):
        resolver().resolve(enforced={"a": constraint})["a"]


def test_a_bounded_value_is_checked_again() -> None:
    """A bound that is not a whole number is an error for an integer."""
    params = {"n": Param("n", schema={"type": "integer"}, default=5)}
    with pytest.raises(ParamError, match="constrained value does not fit"):
        resolver(params=params).resolve(enforced={"n": {"$maximum": 2.5}})["n"]


def test_true_is_not_one() -> None:
    """They are different values in JSON: a list keeps both, and `$allowed` distinguishes them."""
    params = {"v": Param("v", merge="append", default=[True, 0])}
    assert resolver(params=params).resolve(user={"v": [1, False]})["v"] == (1, False, True, 0)
    with pytest.raises(ParamError, match="not allowed"):
        resolver().resolve(user={"a": True}, enforced={"a": {"$allowed": [1]}})["a"]


def test_mappings_and_other_values_are_not_merged() -> None:
    """At any depth; the message names the key and both places. `null` overrides a mapping."""
    params = {"e": Param("e", merge="merge")}
    collections = {"global": col("global", e={"x": {"y": 5}, "z": {}})}
    with pytest.raises(ParamError) as error:
        resolver(collections, params).resolve(user={"e": {"x": {"y": {"a": 1}}}})["e"]
    for words in ("'x/y'", "user 'user'", "global 'global'"):
        assert words in str(error.value)
    assert resolver(collections, params).resolve(user={"e": {"z": None}})["e"]["z"] is None


def test_merging_does_not_change_the_merged_values() -> None:
    """The values of a snapshot are the same for all servers."""
    params = {"e": Param("e", merge="merge")}
    r = resolver({"global": col("global", e={"x": {"a": 1}})}, params)
    r.resolve(user={"e": {"x": {"b": 2}}})
    r.resolve(profile=None, user={"e": {"x": {"c": 3}}})
    assert thaw(r.resolve()["e"]) == {"x": {"a": 1}}


# ------------------------------------------------------------------------------------------------ the oracle

NAMES = ("first", "list", "map", "keyed")
SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x"])
LISTS = st.lists(st.integers(0, 3), max_size=3)
MAPS = st.dictionaries(st.sampled_from("xy"), st.integers(0, 2) | st.dictionaries(st.sampled_from("pq"), st.none()))
KEYED = st.lists(st.fixed_dictionaries({"name": st.sampled_from("ab"), "v": st.integers(0, 9)}), max_size=3)
KINDS = {"first": SCALARS, "list": LISTS, "map": MAPS, "keyed": KEYED}
LAYER = st.fixed_dictionaries({}, optional=KINDS)


class MixedError(Exception):
    """The oracle's error for mappings that cannot be merged."""


def oracle(name: str, found: list[Any], enforced: bool) -> Any:
    """Return the expected value of one param, strongest first. Written independently of the resolver."""
    if not found:
        return MISSING
    if name == "first" or enforced:
        return found[0]
    if name == "list":
        flat = [item for value in found for item in value]
        return [item for i, item in enumerate(flat) if item not in flat[:i]]
    if name == "keyed":
        flat = [item for value in found for item in value]
        return [item for i, item in enumerate(flat) if item["name"] not in [f["name"] for f in flat[:i]]]
    return oracle_merge(found)


def oracle_merge(found: list[Any]) -> Any:
    """Merge key by key: the mappings of a key are merged in turn."""
    joined = {}
    for key in dict.fromkeys(k for value in found for k in value):
        inner = [value[key] for value in found if key in value]
        shapes = {isinstance(i, dict) for i in inner if i is not None}
        if len(shapes) > 1:
            raise MixedError
        hidden = inner.index(None) if None in inner else len(inner)
        joined[key] = oracle_merge(inner[:hidden] or [{}]) if shapes == {True} and hidden else inner[0]
    return joined


@given(st.data())
def test_random_profiles_nesting_layers_and_merges_agree_with_a_small_oracle(data: Any) -> None:
    """All layers, both orders, nested collections with diamonds, every kind of merge, defaults."""
    names = ["global", *data.draw(st.lists(st.sampled_from(["c0", "c1", "c2", "c3"]), unique=True))]
    sets = {n: data.draw(LAYER) for n in names}
    # A collection inherits only later ones, so there is no cycle; several paths to one collection are frequent.
    nested = {
        n: data.draw(st.lists(st.sampled_from(names[i + 1 :]), max_size=3, unique=True)) if names[i + 1 :] else []
        for i, n in enumerate(names)
    }
    defaults = data.draw(LAYER)
    merges = {"first": {}, "list": {"merge": "append"}, "map": {"merge": "merge"}}
    merges["keyed"] = {"merge": "append", "merge_key": "name"}
    params = {
        n: Param(n, default=defaults.get(n, MISSING), user_settable=True, **merges[n])  # type: ignore[arg-type]
        for n in NAMES
    }
    r = Resolver(params, {n: Collection(n, sets[n], tuple(nested[n])) for n in names})
    single = {layer: data.draw(LAYER) for layer in ("enforced", "spawn", "server", "user", "hub")}
    some = st.lists(st.sampled_from(names), max_size=2)
    profile, assigned = data.draw(st.sampled_from([None, *names[1:]])), data.draw(some)
    groups = [(f"g{i}", data.draw(LAYER), data.draw(some)) for i in range(data.draw(st.integers(0, 2)))]
    order = data.draw(st.sampled_from(["default", "drp"]))
    resolved = r.resolve(profile=profile, assigned=assigned, groups=groups, order=order, **single)

    def expand(name: str, seen: list[str]) -> list[str]:
        if name not in seen and not (seen and name == "global"):
            seen.append(name)
            for inner in nested[name]:
                expand(inner, seen)
        return seen

    def flat(name: str, layer: str = "") -> list[Any]:
        return [] if name == "global" != layer else [sets[n] for n in expand(name, [])]

    by_layer = {
        **{layer: [values] for layer, values in single.items()},
        "profile": flat(profile) if profile else [],
        "assigned": [s for n in assigned for s in flat(n)],
        "groups": [s for _, own, taken in groups for s in [own, *(t for n in taken for t in flat(n))]],
        "global": flat("global", "global"),
        "default": [defaults],
    }
    ranks = {"default": "enforced spawn server user profile assigned groups hub global default"}
    ranks["drp"] = "enforced server user profile assigned spawn groups hub global default"
    layers = [values for layer in ranks[order].split() for values in by_layer[layer]]
    for name in NAMES:
        found = [values[name] for values in layers if name in values]
        try:
            expected = oracle(name, found, name in single["enforced"])
        except MixedError:
            assert name in resolved.failed
            continue
        assert (thaw(resolved[name]) if name in resolved else MISSING) == expected
        if found:
            assert strongest(resolved.explain(name).layer, ranks[order].split(), by_layer, name)


def reference(number: int) -> str:
    """Return a reference to a numbered param."""
    return f"{{{{ p{number} }}}}"


def chained(levels: int, *, collections: bool = False) -> Resolver:
    """Return params, or collections, in which each refers to the next."""
    if collections:
        names = {f"c{n}": Collection(f"c{n}", {}, (f"c{n + 1}",) if n < levels else ()) for n in range(levels + 1)}
        return Resolver({}, names)
    values = {n: reference(n + 1) for n in range(levels)} | {levels: "end"}
    return Resolver({f"p{n}": Param(f"p{n}", default=value) for n, value in values.items()})


def test_long_chains_have_an_error_that_names_them() -> None:
    """Up to 50 levels are fine; longer ones cost only what is in the chain."""
    assert chained(50).resolve()["p0"] == "end"
    failed = chained(1000).resolve().failed
    assert "more than 50 levels" in str(failed["p0"])
    assert "p999" not in failed
    assert not chained(50, collections=True).unavailable
    unavailable = chained(1000, collections=True).unavailable
    assert "more than 50 levels" in str(unavailable["c0"][0])
    assert "c999" not in unavailable


@pytest.mark.parametrize(
    "twice", [lambda name: [name, name], lambda name: name + name, lambda name: {"a": name, "b": name}]
)
def test_references_that_double_are_counted_before_they_are_copied(twice: Any) -> None:
    """In lists, texts and mappings; the values that are small enough are there."""
    params = {f"p{n}": Param(f"p{n}", default=twice(reference(n + 1))) for n in range(40)}
    resolved = Resolver({**params, "p40": Param("p40", default="x" * 100)}).resolve()
    assert re.search("grows to more than|at most 4096", str(resolved.failed["p0"]))
    assert resolved["p40"] == "x" * 100
    assert "p38" in resolved
    assert "p38" not in resolved.failed


def strongest(layer: str, order: list[str], by_layer: dict[str, list[Any]], name: str) -> bool:
    """Tell whether `layer` is the strongest one that has a value."""
    return layer == next(one for one in order if any(name in values for values in by_layer[one]))
