"""Options of the spawn page from the schemas of params."""

from __future__ import annotations

import re
from typing import Any

import pytest

from profile_spawner.params.definition import Param
from profile_spawner.profiles.options import NumberOption, TextOption
from profile_spawner.profiles.param_options import param_option, value_of_choice


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "boolean"}, "switch"),
        ({"enum": ["a", 2, None]}, "choice"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "multi"),
        ({"type": "integer", "minimum": 1, "maximum": 4}, "number"),
        ({"type": "string", "pattern": "[a-z]+"}, "text"),
    ],
)
def test_the_schema_gives_the_type_of_the_option(schema: dict[str, Any], kind: str) -> None:
    """With title and help from the definition."""
    option = param_option(Param("a", schema=schema, meta={"title": "The title"}, description="Help"))
    assert (option.kind, option.display_name, option.description) == (kind, "The title", "Help")


def test_a_boolean_can_be_a_list() -> None:
    """The widget `choice` asks for it; the value is a boolean again."""
    param = Param("a", schema={"type": "boolean"}, meta={"widget": "choice"})
    option = param_option(param, False)
    assert [(c.name, c.display_name, c.default) for c in option.listed()] == [
        ("true", "Yes", False),
        ("false", "No", True),
    ]
    assert value_of_choice(param, "false") is False


def test_a_choice_keeps_its_type() -> None:
    """A text from a form becomes the value of the schema's enumeration."""
    param = Param("a", schema={"enum": ["a", 2, None, True]})
    assert [value_of_choice(param, v) for v in ("a", "2", "null", "true")] == ["a", 2, None, True]
    assert [c.default for c in param_option(param, None).listed()] == [False, False, True, False]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["integer", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 5}, (1, 4, None)),
        ({"type": "integer", "minimum": 1, "multipleOf": 2}, (2, None, 2)),
        ({"type": "number", "minimum": 0.5}, (0.5, None, None)),
    ],
)
def test_the_bounds_of_a_number_are_those_of_the_schema(schema: dict[str, Any], expected: Any) -> None:
    """The schema accepts every value that the field accepts."""
    option = param_option(Param("a", schema=schema))
    assert isinstance(option, NumberOption)
    assert (option.minimum, option.maximum, option.step) == expected


@pytest.mark.parametrize("pattern", ["^[a-z]+$", "^a|b$", "b", "[0-9]{2}"])
def test_a_pattern_means_the_same_in_the_field_and_in_the_schema(pattern: str) -> None:
    """The pattern of a field matches the whole text, the pattern of a schema a part of it."""
    param = Param("a", schema={"type": "string", "pattern": pattern})
    option = param_option(param)
    assert isinstance(option, TextOption)
    for text in ("abc", "b", "xbx", "a1", "12", "x12x", "ab|", ""):
        assert (re.fullmatch(option.pattern or "", text) is not None) == (not param.problems(text)), text


def test_listed_values_may_have_titles() -> None:
    """In `oneOf`, with a `const` and a `title` each."""
    param = Param("a", schema={"oneOf": [{"const": 1, "title": "One"}, {"const": "two"}]})
    assert [(c.name, c.display_name) for c in param_option(param).listed()] == [("1", "One"), ("two", "two")]
    assert value_of_choice(param, "1") == 1


def test_some_of_a_list_keep_their_types() -> None:
    """Names become the values of the schema's items."""
    param = Param("a", schema={"type": "array", "items": {"enum": [1, "b"]}})
    assert param_option(param, [1]).default_for(None) == ("1",)
    assert value_of_choice(param, ["1", "b"]) == [1, "b"]
