"""References in texts."""

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
    """Other text is not changed; a text of one reference gets the type of the value."""
    if text.startswith("{{range"):
        text, expected = "{{range .items}}{{.name}}", "{{range .items}}{{.name}}"
    assert render_value(text, LOOKUP) == expected


def test_an_unknown_name_is_an_error_with_its_place() -> None:
    """With file, line and the most similar name."""
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
def test_inserted_text_is_not_expanded_again(typed: str) -> None:
    """The text of a user is inserted without changes."""
    assert render_value("[{{ typed }}]", {"typed": typed, "username": "ada"}) == f"[{typed}]"
    assert render_value("[{{ typed }}]", {"typed": "{{ username }}", "username": "ada"}) == "[{{ username }}]"


@given(st.text("{} usernamex.|$%'", max_size=40))
def test_rendering_fails_only_for_unknown_names(text: str) -> None:
    """Every text is rendered, or the error names the unknown name."""
    failure = rendering_failure(text)
    assert failure is None or "there is no param or fact" in failure


def rendering_failure(text: str) -> str | None:
    """Return the error of rendering, or None."""
    try:
        render_value(text, LOOKUP)
    except ParamError as e:
        return str(e)
    return None
