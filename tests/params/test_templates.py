"""References in texts: a closed grammar, inserted once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.errors import Origin, ParamError
from profile_spawner.params.definition import SecretRef
from profile_spawner.params.templates import references_in, render_value

LOOKUP = {"username": "ada", "gpu/count": 2, "list": (1, "x"), "null": None, "token": SecretRef("s", "k")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("hello {{ username }}!", "hello ada!"),
        ("{{username}}-{{ gpu/count }}", "ada-2"),
        ("{{ gpu/count }}", 2),
        (" {{ list }} ", [1, "x"]),
        ("{{ null }}", None),
        ("is {{ null }}.", "is ."),
        ("{{ token }}", SecretRef("s", "k")),
        ("{{{{ username }}", "{{ username }}"),
        ("{{range .items}}{{.name}}{{end }}", None),
        ("${{ secrets.X }}", "${{ secrets.X }}"),
        (
            "{{ user['x'] }} {{ a|b }} {{ 7*7 }} {% if x %} {{ }}",
            "{{ user['x'] }} {{ a|b }} {{ 7*7 }} {% if x %} {{ }}",
        ),
        ('{"json": {"a": {"b": 1}}}', '{"json": {"a": {"b": 1}}}'),
    ],
)
def test_only_names_between_double_braces_are_replaced(text: str, expected: Any) -> None:
    """Whatever is no plain name stays as it is; a text that is one reference keeps the value's type."""
    if text.startswith("{{range"):
        text, expected = "{{range .items}}{{.name}}", "{{range .items}}{{.name}}"
    assert render_value(text, LOOKUP) == expected


def test_missing_names_say_where_they_stand() -> None:
    """File, field, line and the nearest name."""
    with pytest.raises(ParamError) as error:
        render_value("a\nb {{ usernam }}", LOOKUP, origin=Origin("x.yaml", 3), field="files")
    text = str(error.value)
    assert "x.yaml:3" in text
    assert "line 2" in text
    assert "did you mean 'username'" in text


def test_a_secure_value_stands_only_alone() -> None:
    """It never becomes part of a text."""
    with pytest.raises(ParamError, match="stand alone"):
        render_value("token={{ token }}", LOOKUP)


def test_containers_are_rendered_and_keys_are_not() -> None:
    """Lists and values of mappings, at any depth."""
    value = {"{{ username }}": ["{{ username }}", {"a": "{{ gpu/count }}"}]}
    assert render_value(value, LOOKUP) == {"{{ username }}": ["ada", {"a": 2}]}
    assert references_in(value) == {"username", "gpu/count"}


@given(st.text(max_size=40))
def test_inserted_text_is_never_looked_at_again(typed: str) -> None:
    """What a user typed is inserted as it is, whatever it looks like."""
    assert render_value("[{{ typed }}]", {"typed": typed, "username": "ada"}) == f"[{typed}]"
    assert render_value("[{{ typed }}]", {"typed": "{{ username }}", "username": "ada"}) == "[{{ username }}]"


@given(st.text("{} usernamex.|$%'", max_size=40))
def test_rendering_never_fails_but_for_missing_names(text: str) -> None:
    """Any text either renders or names what is missing."""
    failure = rendering_failure(text)
    assert failure is None or "there is no param or fact" in failure


def rendering_failure(text: str) -> str | None:
    """What rendering complains of, or None."""
    try:
        render_value(text, LOOKUP)
    except ParamError as e:
        return str(e)
    return None
