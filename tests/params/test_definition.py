"""Definitions of params: schemas, defaults, secrets, fields."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner.errors import Origin, ParamError
from profile_spawner.params.definition import Param, ParamRef, SecretRef, freeze, thaw

HERE = Origin("params.py", 7)
DRAFT_4 = "http://json-schema.org/draft-04/schema#"


def doubling(levels: int) -> dict[str, Any]:
    """Return a schema in which every definition refers twice to the next one."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{levels}": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Param("9lives", origin=HERE), "params.py:7"),
        (lambda: Param("a//b"), "area/name"),
        (lambda: Param("a", schema={"type": "number"}, default="x"), "default does not fit"),
        (lambda: Param("a", schema={"type": "boolean", "default": 5}), "default does not fit"),
        (lambda: Param("a", schema={"type": "nonsense"}), "schema is not valid"),
        (lambda: Param("a", schema={"$ref": "https://example.org/x"}), "only point into the schema"),
        (lambda: Param("a", schema={"enum": ["x" * 70_000]}), "bytes"),
        (lambda: Param("a", secure=True, default={"secret": "s", "key": "k"}), "no default"),
        (lambda: Param("a", merge="deep"), "first, append or merge"),  # type: ignore[arg-type]
        (lambda: Param("a", layers=("user", "planet")), "planet"),
        (lambda: Param("a", schema={"$ref": "#/$defs/b"}), "does not exist"),
        (lambda: Param("a", schema={"pattern": "("}), "pattern"),
        (lambda: Param("a", schema={"type": "integer", "minimun": 1}), "did you mean 'minimum'"),
        (
            lambda: Param("a", schema={"properties": {"x": {"allOf": [{"enmu": [1]}]}}}),
            "properties/x/allOf/0/enmu: is not",
        ),
        (lambda: Param("a", schema={"format": "date-tme"}), "did you mean 'date-time'"),
        (lambda: Param("a", schema={"$schema": DRAFT_4, "const": 1}), "const: has an effect only since draft-06"),
        (
            lambda: Param("a", schema={"minimum": 0, "exclusiveMinimum": True}),
            "$schema: http://json-schema.org/draft-04",
        ),
        (lambda: Param("a", schema={"format": "date"}, default="2026-02-30"), 'is not a "date"'),
        (lambda: Param("a", schema={"$schema": "https://example.org/x"}), "schema is not valid"),
        (lambda: Param("a", schema={"allOf": [{"$id": "urn:b"}]}), "only the schema itself may have an $id"),
        (lambda: Param("a", schema=doubling(30)), "every $ref counted in full"),
    ],
)
def test_a_wrong_definition_is_refused_with_the_reason(make: Any, words: str) -> None:
    """Errors are found when the param is defined. The message names the place and the expected value."""
    with pytest.raises(ParamError) as error:
        make()
    assert words in str(error.value)


def test_all_failures_of_a_value_are_collected() -> None:
    """One message contains all errors, with their paths."""
    param = Param("a", schema={"type": "object", "properties": {"x": {"type": "integer"}, "y": {"maximum": 3}}})
    with pytest.raises(ParamError) as error:
        param.check({"x": "1", "y": 9}, profile="lab", origin=HERE)
    text = str(error.value)
    assert "x: " in text
    assert "y: " in text
    assert "lab" in text
    assert "params.py:7" in text


def test_older_drafts_are_read() -> None:
    """`$schema` selects the draft: in draft 4 `exclusiveMaximum` is a boolean."""
    schema = {"$schema": DRAFT_4, "maximum": 3, "exclusiveMaximum": True, "minimum": 0, "exclusiveMinimum": True}
    assert [Param("a", schema=schema).problems(n) != [] for n in (0, 1, 3)] == [True, False, True]
    assert not Param("a", schema={"maximum": 3}).problems(3)


def test_formats_are_checked_and_other_words_are_notes() -> None:
    """Keywords and formats that are not similar to known ones are for other programs. Data may contain anything."""
    schema = {"format": "ipv4", "x-widget": "ip", "enum": [{"minimun": 1}, "192.0.2.1", "999.1.1.1"]}
    assert [Param("a", schema=schema).problems(v) for v in ("192.0.2.1", "999.1.1.1")] == [
        [],
        ['"999.1.1.1" is not a "ipv4"'],
    ]
    assert not Param("a", schema={"properties": {"minimun": {"format": "password"}}}).problems({"minimun": "x"})


def test_values_cannot_be_changed_from_outside() -> None:
    """Values are frozen at any depth; `thaw` returns a copy."""
    default = {"list": [1, {"x": 2}]}
    param = Param("a", default=default)
    default["list"].append(3)  # type: ignore[attr-defined]
    assert thaw(param.default) == {"list": [1, {"x": 2}]}
    with pytest.raises(TypeError):
        param.default["list"][1]["x"] = 5
    assert thaw(freeze({"a": (1, 2)})) == {"a": [1, 2]}


def test_a_secure_value_is_a_reference_and_never_shown() -> None:
    """Only `{secret, key}` is valid. It is printed as `***`, and an error does not show an invalid value."""
    param = Param("token", secure=True)
    value = param.check({"secret": "canary-name", "key": "canary-key"})
    assert value == SecretRef("canary-name", "canary-key")
    assert "canary" not in repr(value) + str(value) + f"{value}"
    with pytest.raises(ParamError) as error:
        param.check("canary-literal")
    assert "canary" not in str(error.value)


def test_a_long_text_is_refused_before_patterns_are_matched() -> None:
    """So the time to match a pattern is limited."""
    param = Param("a", schema={"type": "string", "pattern": "(a+)+$"})
    assert "characters" in param.problems("a" * 5000 + "!")[0]


def test_a_pattern_that_takes_too_many_steps_is_a_refusal() -> None:
    """Patterns are matched in linear time. A pattern with a back-reference is given up after a number of steps."""
    assert Param("a", schema={"pattern": "^(a+)+$"}).problems("a" * 4000 + "!")
    assert Param("a", schema={"pattern": r"(a|a)*\1b"}).problems("a" * 4000)


def test_references_may_repeat_and_recurse() -> None:
    """A tree refers to itself, and a definition may be used many times."""
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert not Param("a", schema=tree).problems({"left": {"right": {}}})
    assert Param("a", schema=tree).problems({"left": {"right": 1}}) == ['left/right: 1 is not of type "object"']
    assert not Param("a", schema=doubling(5)).problems(3)


def nested(levels: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_nested_value_takes_no_time_and_no_stack() -> None:
    """A schema that refers twice to itself is checked twice as often at each level."""
    either = [
        {"type": "array", "items": {"$ref": "#/$defs/a"}},
        {"type": "array", "minItems": 9, "items": {"$ref": "#/$defs/a"}},
    ]
    param = Param("a", schema={"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": either}}})
    assert "is not valid under any" in param.problems(nested(3))[0]
    assert "refers back to itself several times" in param.problems(nested(30))[0]
    assert "more than 40 levels" in Param("a", schema={"type": "array"}).problems(nested(5000))[0]


def test_a_value_that_is_not_json_is_a_refusal() -> None:
    """Only params without a schema accept Python objects; keys may be numbers."""
    assert not Param("a").problems(object())
    assert "not JSON" in Param("a", schema={"enum": [1]}).problems(object())[0]
    assert not Param("a", schema={"type": "object"}).problems({1: 2})


def test_a_reference_returns_the_value_or_the_default() -> None:
    """`Param.ref` in an attribute."""
    assert Param.ref("image/lab").resolve({"image/lab": "x:1"}) == "x:1"
    assert ParamRef("image/lab", "y:1").resolve({}) == "y:1"
    assert ParamRef("image/lab", None).resolve({}) is None
    with pytest.raises(ParamError, match="image/lab"):
        ParamRef("image/lab").resolve({})


@pytest.mark.parametrize("wrong", [{"user_settable": True}, {"merge": "append"}])
def test_a_secure_param_is_neither_chosen_nor_merged(wrong: dict[str, Any]) -> None:
    """A user who could name any Secret of the namespace could read it."""
    with pytest.raises(ParamError, match="cannot choose a secure param"):
        Param("token", secure=True, **wrong)


def test_a_default_with_references_is_checked_when_they_are_known() -> None:
    """The value of the reference may match the schema."""
    assert Param("a", schema={"type": "integer"}, default="{{ b }}").default == "{{ b }}"
    with pytest.raises(ParamError):
        Param("a", schema={"type": "integer"}, default="{{range .x}}")
