"""Names and labels are valid for any text, equal for equal things and different for different ones."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_spawner import names
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext

# Kubernetes' own expressions, used with fullmatch.
KUBE_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
KUBE_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
ANY = st.text(max_size=200) | st.text(alphabet="abc-_.@", max_size=200) | st.text(alphabet="aA-", max_size=6)


@settings(max_examples=400)
@given(prefix=ANY, parts=st.lists(ANY, min_size=1, max_size=3))
def test_object_names_are_always_valid(prefix: str, parts: list[str]) -> None:
    """Any Unicode, any length: a DNS label of at most 63 characters that ends in the whole hash."""
    digest = names.identity_hash(*parts)
    name = names.object_name(prefix, digest)
    assert KUBE_LABEL.fullmatch(name)
    assert len(name) <= 63
    assert name.endswith(f"-{digest}")
    assert names.is_dns_label(name)


@settings(max_examples=400)
@given(text=ANY)
def test_label_values_are_always_valid(text: str) -> None:
    """Any text becomes a valid, non-empty label value; a valid one stays as it is."""
    value = names.label_value(text)
    assert value
    assert KUBE_LABEL_VALUE.fullmatch(value)
    assert len(value) <= 63
    assert names.label_value(value) == value
    if text and KUBE_LABEL_VALUE.fullmatch(text) and len(text) <= 63:
        assert value == text


@given(text=ANY)
def test_slugs_are_readable_and_short(text: str) -> None:
    """The readable part has only a-z, 0-9 and single hyphens, and at most 40 characters."""
    slug = names.slugify(text)
    assert len(slug) <= 40
    assert slug == "" or KUBE_LABEL.fullmatch(slug)


@settings(max_examples=400)
@given(one=st.lists(ANY, min_size=1, max_size=3), other=st.lists(ANY, min_size=1, max_size=3))
def test_different_identities_have_different_hashes(one: list[str], other: list[str]) -> None:
    """("ab", "c") and ("a", "bc") are two; the same sequence is always the same."""
    assert (names.identity_hash(*one) == names.identity_hash(*other)) == (one == other)


def test_identities_that_look_alike_differ() -> None:
    """Upper case, punctuation, accents and separators do not make two users one."""
    users = ["a-b", "a_b", "A-b", "a b", "a.b", "á-b", "a-b ", "a--b", "a-b\n", "a", "", "\uff41-b"]
    found = {names.object_name(user, names.identity_hash("hub", user, "")) for user in users}
    assert len(found) == len(users)
    assert names.identity_hash("a", "b--c") != names.identity_hash("a--b", "c")


def test_a_trailing_newline_is_not_overlooked() -> None:
    """`$` would let it through."""
    for check in (names.is_slug, names.is_dns_label, names.is_label_value):
        assert check("abc")
        assert not check("abc\n")


@pytest.mark.parametrize("check", [names.is_slug, names.is_dns_label, names.is_label_value])
def test_the_limit_is_63(check: Any) -> None:
    """63 characters are fine, 64 are not."""
    assert check("a" * 63)
    assert not check("a" * 64)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(content=JSON)
def test_the_same_content_has_the_same_hash(content: Any) -> None:
    """Whatever the order of keys, in every process."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            random.Random(1).shuffle(items)
            return {key: shuffled(item) for key, item in items}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert names.content_hash(shuffled(content)) == names.content_hash(content)
    assert names.content_hash(json.loads(json.dumps(content))) == names.content_hash(content)


def test_the_hash_is_the_same_in_every_release() -> None:
    """Objects of an older version are found again: the algorithm is part of the interface."""
    assert names.identity_hash("hub", "alice", "") == "0d3df647bd9bdab235f2"
    assert names.content_hash({"a": "b"}) == "db4a7ecb114bc66c623a"


def test_no_user_is_called_like_the_name_of_another() -> None:
    """A name that looks like one with a hash gets a hash of its own; others stay as they are."""
    slugs = {user: ServerContext(UserInfo(user)).user_slug for user in ("Ada", "ada", "ada-0123456789")}
    assert (slugs["ada"], slugs["ada-0123456789"]) == ("ada", "ada-0123456789")
    assert ServerContext(UserInfo(slugs["Ada"])).user_slug != slugs["Ada"]
