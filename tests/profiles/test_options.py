"""Promises of the one function that decides what a user may choose."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.errors import ProfileDefinitionError
from profile_spawner.profiles.access import Access, UserInfo
from profile_spawner.profiles.base import BaseAppProfile, check_profile_class
from profile_spawner.profiles.options import access_from, parse_options
from profile_spawner.profiles.selection import Offer, Rejection, Selection, form_field, from_form, select
from profile_spawner.profiles.user_text import TYPED_OR_USER, fill_value, texts_in_commands, user_variables

ADA = UserInfo("ada", frozenset({"staff"}))
IMAGE = {
    "image": {
        "display_name": "Image",
        "choices": {
            "minimal": {"display_name": "Minimal", "kubespawner_override": {"image": "a:1"}},
            "full": {"display_name": "Full", "default": True, "kubespawner_override": {"image": "b:1"}},
            "secret": {"display_name": "Secret", "allowed_groups": ["board"]},
        },
        "unlisted_choice": {
            "enabled": True,
            "display_name": "Other image",
            "validation_regex": "[a-z]+:[0-9]+",
            "kubespawner_override": {"image": "{value}"},
        },
    }
}
KINDS = {
    **IMAGE,
    "gpus": {"type": "number", "integer": True, "min": 0, "max": 4, "default": 1},
    "hours": {"type": "number", "min": 0.5, "max": 8, "step": 0.5},
    "dask": {"type": "switch", "default": False},
    "tools": {"type": "multi", "choices": {"git": {}, "vim": {}, "tex": {"allowed_groups": ["board"]}}},
    "note": {"type": "text", "pattern": "[a-z ]*", "max_length": 20},
    "workers": {"type": "number", "integer": True, "min": 1, "max": 9, "default": 2, "when": {"dask": [True]}},
}


def offers(options: Any = None, **kwargs: Any) -> dict[str, Offer]:
    """Return one profile `lab` with these options."""
    return {"lab": Offer("lab", "Lab", options=parse_options(options, profile="lab"), **kwargs)}


def choose(request: Any, options: Any = KINDS, user: UserInfo = ADA) -> Selection | Rejection:
    """Select from one profile, which is the default."""
    return select(request, user, offers(options), "lab")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, {"image": "full", "gpus": 1, "dask": False}),
        (None, {"image": "full", "gpus": 1, "dask": False}),
        ({"profile": "lab", "image": "minimal"}, {"image": "minimal", "gpus": 1, "dask": False}),
        ({"image--unlisted-choice": "my:7"}, {"image": "my:7", "gpus": 1, "dask": False}),
        ({"gpus": "3"}, {"image": "full", "gpus": 3, "dask": False}),
        ({"gpus": 0}, {"image": "full", "gpus": 0, "dask": False}),
        ({"hours": 1.5}, {"image": "full", "gpus": 1, "hours": 1.5, "dask": False}),
        ({"dask": "on", "workers": 3}, {"image": "full", "gpus": 1, "dask": True, "workers": 3}),
        ({"dask": True}, {"image": "full", "gpus": 1, "dask": True, "workers": 2}),
        ({"workers": 7}, {"image": "full", "gpus": 1, "dask": False}),
        ({"tools": ["vim", "git"]}, {"image": "full", "gpus": 1, "dask": False, "tools": ("git", "vim")}),
        ({"note": "hello "}, {"image": "full", "gpus": 1, "dask": False, "note": "hello"}),
    ],
)
def test_a_valid_request_becomes_a_selection_with_defaults(request_: Any, expected: Any) -> None:
    """Every kind of option takes its values from forms and JSON, and its default otherwise."""
    result = choose(request_)
    assert isinstance(result, Selection)
    assert dict(result.values) == expected


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"image": "nope"}, "minimal, full"),
        ({"image": ["minimal"]}, "minimal, full"),
        ({"image": {"a": 1}}, "minimal, full"),
        ({"image": "secret"}, "cannot be"),
        ({"image": "unlisted-choice"}, "Other image"),
        ({"image--unlisted-choice": "abc:1; rm"}, "must match"),
        ({"image--unlisted-choice": "abc:1\n"}, None),
        ({"image--unlisted-choice": "a" * 300}, "256"),
        ({"image--unlisted-choice": 7}, "text"),
        ({"gpus": 5}, "whole number from 0 to 4"),
        ({"gpus": 1.5}, "whole number"),
        ({"gpus": True}, "whole number"),
        ({"gpus": float("nan")}, "whole number"),
        ({"gpus": "9" * 400}, "whole number"),
        ({"gpus": 10**400}, "whole number"),
        ({"hours": -(10**400)}, "a number from"),
        ({"hours": 0.7}, "steps of 0.5"),
        ({"dask": "maybe"}, "on or off"),
        ({"tools": ["git", "rm"]}, "choose one of"),
        ({"tools": ["tex"]}, "choose one of"),
        ({"note": "A\x00"}, "control"),
        ({"note": "a\x85b"}, "control"),
        ({"note": "a\u2028b"}, "control"),
        ({"note": "x" * 21}, "20 characters"),
        ({"surprise": 1}, "Unknown options: surprise"),
        ({"profile": "other"}, "no profile"),
        ({"profile": ["lab"]}, "no profile"),
        ({"profile": "lab\n"}, "no profile"),
        ([1, 2], "JSON object"),
        ("lab", "JSON object"),
    ],
)
def test_a_mistake_is_answered_with_how_to_mend_it(request_: Any, words: str | None) -> None:
    """Wrong values are rejected with a sentence that names what is allowed, and only that."""
    result = choose(request_)
    if words is None:  # a trailing newline is trimmed like any white space
        assert isinstance(result, Selection)
        return
    assert isinstance(result, Rejection)
    assert words in result.message
    assert "secret" not in result.message or "secret" in str(request_)


def test_forbidden_and_unknown_profiles_are_answered_alike() -> None:
    """Whoever may not use a profile cannot find out that it exists."""
    answers = [
        select({"profile": slug}, ADA, offers(), "lab").message.replace(slug, "X")  # type: ignore[union-attr]
        for slug in ("hidden", "absent")
    ]
    assert answers[0] == answers[1]


def test_without_any_profile_the_user_is_told_their_groups() -> None:
    """Nothing allowed is explained, and nothing is started by default."""
    result = select({}, ADA, {}, None)
    assert isinstance(result, Rejection)
    assert "staff" in result.message


def test_an_unavailable_profile_says_why() -> None:
    """A profile that exists but cannot be used now is refused with its reason."""
    result = select({}, ADA, offers(unavailable="it needs a right that the hub lacks"), "lab")
    assert isinstance(result, Rejection)
    assert "it needs a right" in result.message


def test_a_required_option_without_default_must_be_chosen() -> None:
    """A required text that is left empty stops the start."""
    options = {"project": {"type": "text", "required": True}}
    assert isinstance(choose({}, options), Rejection)
    assert isinstance(choose({"project": "x"}, options), Selection)


def test_a_read_only_option_is_never_taken_from_the_user() -> None:
    """What is shown as fixed keeps its default whatever is sent."""
    options = {"image": {**IMAGE["image"], "read_only": True}}
    result = choose({"image": "minimal"}, options)
    assert isinstance(result, Selection)
    assert result.values["image"] == "full"


def test_a_forbidden_option_does_not_exist_for_the_user() -> None:
    """Its name gets the answer of a name that nobody has, is never told, and its default counts."""
    options = {
        "size": {"choices": {"s": {"default": True}, "l": {}}},
        "priority": {"choices": {"low": {}, "high": {}}, "allowed_groups": ["board"]},
        "secret": {"type": "text", "required": True, "allowed_groups": ["board"]},
    }
    answers = [choose({"size": "l", name: "high"}, options) for name in ("priority", "absent")]
    assert all(isinstance(answer, Rejection) for answer in answers)
    first, second = (answer.message for answer in answers)  # type: ignore[union-attr]
    assert first.replace("priority", "X") == second.replace("absent", "X")
    assert "secret" not in first + second
    untouched = choose({"size": "l"}, options)
    assert isinstance(untouched, Selection)
    assert untouched.values == {"size": "l", "priority": "low"}
    member = choose({"priority": "high", "secret": "x"}, options, UserInfo("eve", frozenset({"board"})))
    assert isinstance(member, Selection)


@pytest.mark.parametrize("text", ["a b", "x" * 64, "-a", "a.", "ü", "a/b", "a{username}", "$(HOME)"])
def test_a_typed_label_is_checked_before_anything_is_asked(text: str) -> None:
    """What cannot be a label's value is the user's mistake, with a sentence; what can be one passes."""
    label = {"type": "text", "kubespawner_override": {"extra_labels": {"team": "{value}"}}}
    typed = {
        "choices": {"a": {}},
        "unlisted_choice": {"enabled": True, "kubespawner_override": {"node_selector": {"pool": "{value}"}}},
    }
    mixed = {"type": "text", "kubespawner_override": {"extra_labels": {"team": "t-{value}-{username}"}}}
    for request in ({"label": text}, {"typed--unlisted-choice": text}):
        result = choose(request, {"label": label, "typed": typed})
        assert isinstance(result, Rejection)
        assert "becomes a label" in result.message
    assert isinstance(choose({"label": "a.b-C_1"}, {"label": label}), Selection)
    assert isinstance(choose({"mixed": "a.-"}, {"mixed": mixed}), Selection)
    assert isinstance(choose({"mixed": "a b"}, {"mixed": mixed}), Rejection)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ({"cmd": ["sh", "-c", "start {value}"]}, ["cmd.2"]),
        ({"args": ["--title={value}"], "environment": {"A": "sh -c {value}"}}, ["args.0"]),
        ({"extra_containers": {"a": {"command": ["start"], "args": ["{value}", "b"]}}}, ["extra_containers.a.args.0"]),
        ({"lifecycle_hooks": {"postStart": {"exec": {"command": ["$(A)"]}}}, "environment": {"A": "{value}"}},
         ["lifecycle_hooks.postStart.exec.command.0"]),
        ({"init_containers": [{"{value}": 1}]}, ["init_containers.0.{value}"]),
        ({"environment": {"BASH_ENV": "{value}", "{value}": "a"}}, ["environment.BASH_ENV", "environment.{value}"]),
        ({"cmd": ["sh", "-c", 'exec start "$A" $(B)'], "environment": {"A": "{value}", "args": "{value}"}}, []),
    ],
)  # fmt: skip
def test_a_typed_text_is_found_in_commands(override: Any, found: list[str]) -> None:
    """A class that has such an option is not registered; a variable is the way."""
    for option in (
        {"type": "text", "kubespawner_override": override},
        {"choices": {"a": {}}, "unlisted_choice": {"enabled": True, "kubespawner_override": override}},
    ):
        typed = parse_options({"x": option}, profile="lab")[0].typed_override()
        texts = texts_in_commands(typed, TYPED_OR_USER, user_variables(typed, TYPED_OR_USER))
        assert [".".join(map(str, path)) for path, _ in texts] == found


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=20), children, max_size=4),
    max_leaves=10,
)
keys = st.sampled_from(["profile", *KINDS, "image--unlisted-choice"]) | st.text(max_size=12)


@given(st.dictionaries(keys, json_values | st.sampled_from(["lab", "full", "on"]), max_size=6) | json_values)
def test_any_json_is_either_a_selection_or_a_rejection(request: Any) -> None:
    """The function is total, and what it accepts it accepts again in its normal form."""
    result = choose(request)
    if isinstance(result, Selection):
        again = choose(dict(result.user_options))
        assert isinstance(again, Selection)
        assert again.values == result.values
    else:
        assert result.problems


def test_a_form_with_the_fields_of_all_profiles_counts_only_the_chosen_one() -> None:
    """Without JavaScript the browser posts everything; a slug that begins like another one takes nothing of it."""
    both = {
        "a": Offer("a", "A", options=parse_options({"x": {"type": "text"}}, profile="a")),
        "a--b": Offer("a--b", "AB", options=parse_options({"x": {"type": "text"}}, profile="a--b")),
    }
    form = {"profile": ["a"], form_field("a", "x"): ["1"], form_field("a--b", "x"): ["2"]}
    assert from_form(form, both) == {"profile": "a", "x": "1"}
    assert from_form({**form, "profile": ["a--b"]}, both) == {"profile": "a--b", "x": "2"}


def test_a_form_keeps_a_typed_value_only_when_the_list_says_other() -> None:
    """A text that was typed and then abandoned for a listed choice does not count."""
    name = form_field("lab", "image")
    typed = {"profile": ["lab"], name: ["unlisted-choice"], f"{name}--unlisted-choice": ["my:1"]}
    assert from_form(typed, offers(KINDS))["image--unlisted-choice"] == "my:1"
    assert "image--unlisted-choice" not in from_form({**typed, name: ["full"]}, offers(KINDS))


def test_a_hidden_off_before_a_checked_switch_means_on() -> None:
    """The last value of a switch is what the user sees."""
    form = {"profile": ["lab"], form_field("lab", "dask"): ["off", "on"]}
    assert from_form(form, offers(KINDS))["dask"] == "on"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": {"choices": {"a": {}}}}, "cannot be called"),
        ({"x": {"type": "slider"}}, "type must be"),
        ({"x": {"type": "number", "min": 3, "max": 1}}, "more than max"),
        ({"x": {"type": "number", "max": 1, "default": 3}}, "default does not fit"),
        ({"x": {"type": "text", "pattern": "["}}, "no regular expression"),
        ({"x": {"type": "multi"}}, "needs choices"),
        ({"x": {"choices": {"a": {}}, "when": {"later": [1]}}}, "no option before it"),
        ({"x": {"choices": {"a": {"allowed_groups": "staff"}}}}, "list of names"),
        ({"x": 7}, "must be a mapping"),
        (7, "mapping by name"),
    ],
)
def test_a_wrong_option_is_found_when_it_is_declared(options: Any, words: str) -> None:
    """Authors learn of their mistakes at once, with the option's name."""
    with pytest.raises(ProfileDefinitionError) as error:
        parse_options(options, profile="lab")
    assert words.replace("no regular", "not a regular") in str(error.value)


@given(st.text(max_size=50))
def test_typed_text_stays_text_in_every_trait(text: str) -> None:
    """What a user types appears once and literally: KubeSpawner's own expansion gives exactly it back."""
    template = {"environment": {"X": "{value}"}, "image": "reg/{value}", "extra_labels": {"l": "a-{value}-{username}"}}
    filled = fill_value(template, text, typed=True)
    assert filled["image"] == "reg/" + text
    expanded = filled["environment"]["X"].format(username="ada")
    assert expanded == text.replace("$", "$$")
    assert filled["extra_labels"]["l"].format(username="ada") == f"a-{text}-ada"


def test_a_closed_access_hook_is_a_closed_door() -> None:
    """A rule that raises refuses."""

    def broken(user: UserInfo) -> bool:
        raise RuntimeError

    assert not Access.of(hook=broken).allows(ADA)
    assert Access.of(groups=["STAFF"]).allows(ADA)
    assert Access.of(groups=["x"], users=["Ada"]).allows(ADA)
    assert not Access.of(groups=[]).allows(ADA)


def test_an_option_is_written_as_it_was_read() -> None:
    """The document of an option is what an author would write: reading it gives the same option."""
    for option in parse_options(KINDS, profile="lab"):
        assert parse_options({option.name: option.document() | {"when": {}}}, profile="lab")[0] == option.model_copy(
            update={"when": {}}
        )


def test_a_chosen_number_is_a_text_where_kubernetes_wants_texts() -> None:
    """In variables, labels and quantities; a limit of CPU stays a number."""
    override = {"environment": {"N": "{value}"}, "extra_resource_limits": {"gpu": "{value}"}, "cpu_limit": "{value}"}
    filled = fill_value(override, 3, typed=False)
    assert filled == {"environment": {"N": "3"}, "extra_resource_limits": {"gpu": "3"}, "cpu_limit": 3}
    assert fill_value({"environment": {"N": "{value}"}}, 0.5, typed=False) == {"environment": {"N": "0.5"}}


class _AsyncObject:
    async def __call__(self, user: UserInfo) -> bool:
        return False


async def _no(user: UserInfo) -> bool:
    return False


async def _never(user: UserInfo) -> AsyncIterator[bool]:
    yield False


@pytest.mark.parametrize("hook", [_no, _never, _AsyncObject(), functools.partial(_no)])
def test_a_rule_cannot_be_async(hook: Any) -> None:
    """What nobody waits for would let everybody through: it is refused, in profiles, options and choices."""
    with pytest.raises(ValueError, match="cannot be async"):
        access_from({"is_available_to": hook})
    for options in (
        {"o": {"type": "text", "is_available_to": hook}},
        {"o": {"choices": {"c": {"is_available_to": hook}}}},
        {"o": {"choices": {"c": {}}, "unlisted_choice": {"enabled": True, "is_available_to": hook}}},
    ):
        with pytest.raises(ProfileDefinitionError, match="cannot be async"):
            parse_options(options, profile="p")


@pytest.mark.filterwarnings("error")
def test_an_answer_to_wait_for_is_no() -> None:
    """A plain function that returns a coroutine keeps the door closed, and leaves nothing unawaited behind."""
    assert not Access.of(hook=lambda user: _no(user)).allows(ADA)  # type: ignore[arg-type,return-value]
    assert not Access.of(hook=lambda user: _never(user)).allows(ADA)  # type: ignore[arg-type,return-value]
    assert Access.of(hook=lambda user: user.name == "ada").allows(ADA)


def test_a_class_with_an_async_rule_is_refused_with_its_line() -> None:
    """The author learns it when the class is registered, not when everybody has got in."""

    class Closed(BaseAppProfile):
        slug = "closed"
        display_name = "Closed"
        image = "example/closed:1"

        @classmethod
        async def is_available_to(cls, user: UserInfo) -> bool:  # type: ignore[override]
            return False

    with pytest.raises(ProfileDefinitionError, match="cannot be async") as caught:
        check_profile_class(Closed)
    assert caught.value.field == "is_available_to()"
    assert caught.value.origin is not None
    assert caught.value.origin.line
