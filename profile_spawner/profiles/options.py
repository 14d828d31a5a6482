"""What a user may choose on the spawn page, and the one function that turns a request into a valid choice.

`select()` is total: for any JSON, any user and any offers it returns a `Selection` or a `Rejection`, never raises.
The form, a link, the REST API and a restart from stored options all go through it, so what one refuses, all refuse.

The flat shape of `user_options` is KubeSpawner's: `{"profile": SLUG, OPTION: CHOICE, "OPTION--unlisted-choice": TEXT}`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from profile_spawner.errors import ProfileDefinitionError, shorten
from profile_spawner.names import is_label_value
from profile_spawner.texts import Text, joined, marked

from .access import EVERYBODY, Access, UserInfo
from .patterns import check_pattern, matches

__all__ = [
    "EXPANDED_TRAITS",
    "FORMATTED_TRAITS",
    "UNLISTED",
    "Choice",
    "Offer",
    "Option",
    "Problem",
    "Rejection",
    "Selection",
    "Unlisted",
    "access_from",
    "escape_braces",
    "escape_dollars",
    "fill_value",
    "form_field",
    "from_form",
    "offer_for",
    "parse_options",
    "select",
    "typed_into_shell",
]

UNLISTED = "--unlisted-choice"
"""The suffix under which KubeSpawner sends a typed value."""

UNLISTED_CHOICE = "unlisted-choice"
"""What KubeSpawner's own form posts as the choice when the user picked "Other"."""

MAX_TEXT = 256
"""The longest text a user may type unless the option says otherwise, in characters."""

EXPANDED_TRAITS = frozenset(
    {
        "environment",
        "extra_annotations",
        "extra_containers",
        "extra_labels",
        "extra_pod_config",
        "init_containers",
        "service_account",
        "volume_mounts",
        "volumes",
    }
)
"""The traits in whose texts KubeSpawner expands `{username}` and the like (`KubeSpawner._expand_all`)."""

FORMATTED_TRAITS = frozenset({"default_url", "notebook_dir"})
"""The traits whose texts JupyterHub formats (`Spawner.format_string`)."""

_TYPED_EXPANDED = (
    EXPANDED_TRAITS
    | FORMATTED_TRAITS
    | {
        "storage_extra_annotations",
        "storage_extra_labels",
        "storage_selector",
        "user_namespace_annotations",
        "user_namespace_labels",
    }
)
"""All of these, and where only a typed text needs care."""

_DOLLAR_TRAITS = frozenset(
    {
        "args",
        "cmd",
        "default_url",
        "environment",
        "extra_container_config",
        "extra_containers",
        "extra_pod_config",
        "init_containers",
        "notebook_dir",
        "volume_mounts",
    }
)
"""The traits in which Kubernetes replaces `$(NAME)`, or that become environment variables."""

_LABEL_TRAITS = ("extra_labels", "node_selector", "storage_extra_labels")
_SHELL = re.compile(r"(?:.*/)?(?:ba|da|a|k|z|c|tc|fi)?sh")
_SHELL_COMMAND = re.compile(r"-[A-Za-z]*c")

Kind = Literal["choice", "multi", "number", "switch", "text"]
_Missing: Any = object()


@dataclass(frozen=True)
class Choice:
    """One of the values of an option.

    Attributes:
        name: The value that is sent.
        display_name: What is shown.
        description: A sentence about it.
        default: Whether it is taken when nothing is chosen.
        override: The `kubespawner_override` that it applies.
        access: Who may take it.
    """

    name: str
    display_name: str
    description: str = ""
    default: bool = False
    override: Mapping[str, Any] = field(default_factory=dict, repr=False)
    access: Access = EVERYBODY


@dataclass(frozen=True)
class Unlisted:
    """A typed value beside the listed choices (KubeSpawner's `unlisted_choice`).

    Attributes:
        display_name: The label of the text field.
        display_name_in_choices: The entry in the list that leads to it.
        pattern: A regular expression that the whole text must match.
        message: What is said when it does not.
        placeholder: A hint in the empty field.
        max_length: In characters.
        override: The `kubespawner_override` with `{value}` for the text.
        access: Who may type.
    """

    display_name: str = "Other"
    display_name_in_choices: str = "Other..."
    pattern: str | None = None
    message: str = ""
    placeholder: str = ""
    max_length: int = MAX_TEXT
    override: Mapping[str, Any] = field(default_factory=dict, repr=False)
    access: Access = EVERYBODY


@dataclass(frozen=True)
class Option:
    """Something a user may choose with a profile.

    Attributes:
        name: The key in `user_options`.
        kind: `choice` (one of a list), `multi` (some of a list), `number`, `switch` (on or off), `text`.
        display_name: The label.
        description: A sentence below it.
        choices: For `choice` and `multi`.
        unlisted: For `choice`: a typed value is allowed too.
        default: For `number`, `switch`, `text`; for `multi` a tuple of names.
        minimum: For `number`.
        maximum: For `number`.
        step: For `number`: the distance of allowed values, counted from `minimum`.
        integer: For `number`: whole numbers only.
        unit: Shown behind a number.
        pattern: For `text`: a regular expression that the whole text must match.
        message: What is said when the pattern does not match.
        placeholder: For `text`.
        max_length: For `text`, in characters.
        required: Without a value (and without a default) the server is not started.
        advanced: Folded away on the page.
        read_only: Shown, but never taken from the user.
        when: Shown and used only when other options have one of these values: `{"gpu": ("a100", "h100")}`.
        override: For `number`, `text`: with `{value}`; for `switch`: applied when on.
        override_off: For `switch`: applied when off.
        param: The param that this option sets instead of an override.
        access: Who may choose at all; others get the default.
    """

    name: str
    kind: Kind = "choice"
    display_name: str = ""
    description: str = ""
    choices: tuple[Choice, ...] = ()
    unlisted: Unlisted | None = None
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    integer: bool = False
    unit: str = ""
    pattern: str | None = None
    message: str = ""
    placeholder: str = ""
    max_length: int = MAX_TEXT
    required: bool = False
    advanced: bool = False
    read_only: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    override: Mapping[str, Any] = field(default_factory=dict, repr=False)
    override_off: Mapping[str, Any] = field(default_factory=dict, repr=False)
    param: str | None = None
    access: Access = EVERYBODY

    def choices_for(self, user: UserInfo) -> tuple[Choice, ...]:
        """Return the choices that `user` may take, in order."""
        return tuple(c for c in self.choices if c.access.allows(user))

    def default_for(self, user: UserInfo) -> Any:
        """Return what is taken when `user` chooses nothing; `None` when there is no default."""
        if self.kind == "choice":
            allowed = self.choices_for(user)
            return next((c.name for c in allowed if c.default), allowed[0].name if allowed else None)
        if self.kind == "multi":
            names = tuple(self.default or [c.name for c in self.choices if c.default])
            return tuple(c.name for c in self.choices_for(user) if c.name in names)
        return self.default

    def unlisted_for(self, user: UserInfo) -> Unlisted | None:
        """Return the typed alternative if `user` may use it."""
        return self.unlisted if self.unlisted is not None and self.unlisted.access.allows(user) else None


@dataclass(frozen=True)
class Offer:
    """What the page and the choice need to know of a profile: nothing that must not be shown.

    Attributes:
        slug: The profile's identity.
        display_name: Its title.
        description: A few sentences, in a small subset of Markdown.
        options: What can be chosen with it.
        access: Who may use it.
        default: Taken when nothing is chosen.
        aliases: Earlier slugs.
        replaced_by: The slug to use instead, when this one is not available any more.
        deprecated: A message when the profile should no longer be used.
        unavailable: Why it cannot be started now; empty when it can.
    """

    slug: str
    display_name: str
    description: str = ""
    options: tuple[Option, ...] = ()
    access: Access = EVERYBODY
    default: bool = False
    aliases: tuple[str, ...] = ()
    replaced_by: str | None = None
    deprecated: str = ""
    unavailable: str = ""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request.

    Attributes:
        field: The form field concerned, or `profile`.
        message: A sentence that says how to mend it.
    """

    field: str
    message: str


@dataclass(frozen=True)
class Selection:
    """A valid choice.

    Attributes:
        slug: The profile.
        values: A value for every option that applies, defaults included.
        typed: The options whose value was typed by the user (`unlisted` and `text`).
        user_options: The request in its normal form, as it is stored.
        notices: Sentences to show: a slug that moved, a choice that is gone.
    """

    slug: str
    values: Mapping[str, Any]
    typed: frozenset[str] = frozenset()
    user_options: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """A request that cannot be fulfilled: the user's mistake, answered with 400.

    Attributes:
        problems: What is wrong, field by field; never empty.
        slug: The profile, where it was a valid one.
    """

    problems: tuple[Problem, ...]
    slug: str | None = None

    @property
    def message(self) -> str:
        """All problems as one text."""
        return joined(p.message for p in self.problems)


# ------------------------------------------------------------------------------------------------ declaration


def parse_options(options: Any, *, profile: str, error: Callable[..., Exception] | None = None) -> tuple[Option, ...]:
    """Read the options of a profile: `Option` objects or KubeSpawner's `profile_options` dictionaries.

    A dictionary may have KubeSpawner's keys (`display_name`, `choices`, `unlisted_choice`) and this project's own:
    `type`, `description`, `default`, `min`, `max`, `step`, `integer`, `unit`, `pattern`, `required`, `advanced`,
    `read_only`, `when`, `allowed_groups`, `allowed_users`, `kubespawner_override`.

    Args:
        options: A mapping by name, or a sequence of `Option`.
        profile: The slug, for messages.
        error: Makes the exception to raise; `ProfileDefinitionError` by default.

    Raises:
        ProfileDefinitionError: naming the option, the value and what was expected.
    """
    make_error = error or ProfileDefinitionError
    if not options:
        return ()
    if isinstance(options, Mapping):
        named = [(str(k), v) for k, v in options.items()]
    elif isinstance(options, Sequence) and all(isinstance(o, Option) for o in options):
        named = [(o.name, o) for o in options]
    else:
        raise make_error(
            "options must be a mapping by name or a sequence of Option",
            profile=profile,
            field="profile_options",
            value=type(options).__name__,
        )
    result = []
    for name, declared in named:
        try:
            option = declared if isinstance(declared, Option) else _parse_option(name, declared)
            _check_option(option)
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise make_error(str(e) or repr(e), profile=profile, field=f"profile_options.{name}") from e
        result.append(option)
    names = [o.name for o in result]
    for option in result:
        for other in option.when:
            if other not in names[: names.index(option.name)]:
                raise make_error(
                    f"'when' refers to {other!r}, which is no option before it",
                    profile=profile,
                    field=f"profile_options.{option.name}",
                )
    return tuple(result)


def access_from(data: Mapping[str, Any]) -> Access:
    """Return the rule in a dictionary: its `allowed_groups`, `allowed_users` and `is_available_to`.

    Raises:
        ValueError: when one of them is not what it must be: an open door by mistake is worse than an error.
    """
    for key in ("allowed_groups", "allowed_users"):
        value = data.get(key)
        if value is None:
            continue
        if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"{key} must be a list of names, not {shorten(value)}")
    hook = data.get("is_available_to")
    if hook is not None and not callable(hook):
        raise ValueError(f"is_available_to must be a function, not {shorten(hook)}")
    return Access.of(data.get("allowed_groups"), data.get("allowed_users"), hook)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        kind = "list" if isinstance(value, list | tuple) else type(value).__name__
        raise ValueError(f"{what} must be a mapping, not {kind}")
    return value


def _parse_option(name: str, data: Any) -> Option:
    data = _mapping(data, "an option")
    kind = data.get("type", "choice")
    kind = {"select": "choice", "bool": "switch", "boolean": "switch", "integer": "number"}.get(kind, kind)
    raw_choices = _mapping(data.get("choices"), "choices")
    choices = tuple(
        Choice(
            name=str(key),
            display_name=str(_mapping(c, f"choice {key!r}").get("display_name", key)),
            description=str(c.get("description") or ""),
            default=bool(c.get("default")),
            override=_mapping(c.get("kubespawner_override"), "kubespawner_override"),
            access=access_from(c),
        )
        for key, c in raw_choices.items()
    )
    unlisted = None
    typed = _mapping(data.get("unlisted_choice"), "unlisted_choice")
    if typed.get("enabled"):
        unlisted = Unlisted(
            display_name=str(typed.get("display_name") or "Other"),
            display_name_in_choices=str(typed.get("display_name_in_choices") or "Other..."),
            pattern=typed.get("validation_regex"),
            message=str(typed.get("validation_message") or ""),
            placeholder=str(typed.get("placeholder") or ""),
            max_length=int(typed.get("max_length", MAX_TEXT)),
            override=_mapping(typed.get("kubespawner_override"), "kubespawner_override"),
            access=access_from(typed),
        )
    return Option(
        name=name,
        kind=kind,
        display_name=str(data.get("display_name") or name),
        description=str(data.get("description") or ""),
        choices=choices,
        unlisted=unlisted,
        default=tuple(data["default"]) if kind == "multi" and data.get("default") else data.get("default"),
        minimum=data.get("min"),
        maximum=data.get("max"),
        step=data.get("step"),
        integer=bool(data.get("integer", data.get("type") == "integer")),
        unit=str(data.get("unit") or ""),
        pattern=data.get("pattern"),
        message=str(data.get("validation_message") or ""),
        placeholder=str(data.get("placeholder") or ""),
        max_length=int(data.get("max_length", MAX_TEXT)),
        required=bool(data.get("required")),
        advanced=bool(data.get("advanced")),
        read_only=bool(data.get("read_only")),
        when={
            str(k): tuple(v) if isinstance(v, list | tuple) else (v,)
            for k, v in _mapping(data.get("when"), "when").items()
        },
        override=_mapping(data.get("kubespawner_override"), "kubespawner_override"),
        override_off=_mapping(data.get("kubespawner_override_off"), "kubespawner_override_off"),
        access=access_from(data),
    )


def _check_option(option: Option) -> None:
    if option.kind not in ("choice", "multi", "number", "switch", "text"):
        raise ValueError(f"type must be choice, multi, number, switch or text, not {option.kind!r}")
    if option.name == "profile" or option.name.endswith(UNLISTED):
        raise ValueError(f"an option cannot be called {option.name!r}: user_options uses this key itself")
    if option.kind == "multi" and not option.choices:
        raise ValueError("an option of type multi needs choices")
    if option.minimum is not None and option.maximum is not None and option.minimum > option.maximum:
        raise ValueError(f"min {option.minimum} is more than max {option.maximum}")
    if option.step is not None and option.step <= 0:
        raise ValueError(f"step must be more than 0, not {option.step}")
    _check_patterns(option)
    _check_default(option)


def _check_patterns(option: Option) -> None:
    for pattern in (option.pattern, option.unlisted.pattern if option.unlisted else None):
        if pattern is not None:
            check_pattern(pattern)


def _check_default(option: Option) -> None:
    if option.kind in ("number", "text") and option.default is not None:
        _, problem = _CHECKS[option.kind](option, option.default, _NOBODY)
        if problem:
            raise ValueError(f"the default does not fit: {problem}")
    if option.kind == "multi":
        unknown = set(option.default or ()) - {c.name for c in option.choices}
        if unknown:
            raise ValueError(f"the default names {sorted(unknown)}, which are no choices")


# ------------------------------------------------------------------------------------------------ selection

_NOBODY = UserInfo("")
_Checked = tuple[Any, str]


def _name(option: Option) -> str:
    return option.display_name or option.name


def _one_of(allowed: Iterable[Choice]) -> str:
    return ", ".join(c.name for c in allowed)


def _check_choice(option: Option, value: Any, user: UserInfo) -> _Checked:
    allowed = option.choices_for(user)
    if isinstance(value, str) and any(c.name == value for c in allowed):
        return value, ""
    return None, Text(
        "“%(name)s” cannot be %(value)s; choose one of: %(choices)s.",
        name=_name(option),
        value=shorten(value),
        choices=_one_of(allowed),
    )


def _check_multi(option: Option, value: Any, user: UserInfo) -> _Checked:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or len(values) > 256:
        return None, Text("“%(name)s” must be a list of choices.", name=_name(option))
    for one in values:
        checked, problem = _check_choice(option, one, user)
        if checked is None:
            return None, problem
    chosen = set(values)
    return tuple(c.name for c in option.choices if c.name in chosen), ""


_NUMBERS = {
    (True, True): marked("a number from %(low)s to %(high)s"),
    (True, False): marked("a number of at least %(low)s"),
    (False, True): marked("a number of at most %(high)s"),
    (False, False): marked("a number"),
}
_WHOLE_NUMBERS = {
    (True, True): marked("a whole number from %(low)s to %(high)s"),
    (True, False): marked("a whole number of at least %(low)s"),
    (False, True): marked("a whole number of at most %(high)s"),
    (False, False): marked("a whole number"),
}


def _bounds(option: Option) -> str:
    low, high = (f"{n:g}" if n is not None else "" for n in (option.minimum, option.maximum))
    patterns = _WHOLE_NUMBERS if option.integer else _NUMBERS
    what = Text(patterns[bool(low), bool(high)], **{n: v for n, v in (("low", low), ("high", high)) if v})
    if option.step is not None and option.step != 1:
        return Text("%(number)s in steps of %(step)s", number=what, step=f"{option.step:g}")
    return what


def _check_number(option: Option, value: Any, user: UserInfo) -> _Checked:
    del user
    number = _to_number(value)
    if number is None or not _fits(option, number):
        return None, Text("“%(name)s” must be %(number)s.", name=_name(option), number=_bounds(option))
    return (int(number) if number == int(number) else number), ""


def _to_number(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip() if len(value) <= 32 else ""
        return float(text) if re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", text) else None
    # A whole number of any length can be compared with a float, but not made one.
    if isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15:
        return float(value)
    return None


def _fits(option: Option, number: float) -> bool:
    if option.integer and number != int(number):
        return False
    if option.minimum is not None and number < option.minimum:
        return False
    if option.maximum is not None and number > option.maximum:
        return False
    if option.step is None:
        return True
    steps = (number - (option.minimum or 0)) / option.step
    return abs(steps - round(steps)) < 1e-6


def _check_switch(option: Option, value: Any, user: UserInfo) -> _Checked:
    del user
    if isinstance(value, bool):
        return value, ""
    if isinstance(value, str) and value.lower() in ("on", "true", "1", "yes"):
        return True, ""
    if isinstance(value, str) and value.lower() in ("off", "false", "0", "no"):
        return False, ""
    return None, Text("“%(name)s” must be on or off.", name=_name(option))


def _check_typed(label: str, value: Any, limit: int, pattern: str | None, message: str) -> _Checked:
    if not isinstance(value, str):
        return None, Text("“%(name)s” must be a text.", name=label)
    text = value.strip()
    # The length comes first, so that no pattern is ever tried on a long text.
    if len(text) > limit:
        return None, Text("“%(name)s” may have at most %(limit)s characters.", name=label, limit=limit)
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        return None, Text("“%(name)s” must be one line without control characters.", name=label)
    if pattern is not None and not matches(pattern, text):
        return None, message or Text("“%(name)s” must match %(pattern)s.", name=label, pattern=pattern)
    return text, ""


def _check_text(option: Option, value: Any, user: UserInfo) -> _Checked:
    del user
    return _check_typed(_name(option), value, option.max_length, option.pattern, option.message)


_CHECKS: Mapping[str, Callable[[Option, Any, UserInfo], _Checked]] = MappingProxyType(
    {
        "choice": _check_choice,
        "multi": _check_multi,
        "number": _check_number,
        "switch": _check_switch,
        "text": _check_text,
    }
)


def _label_problem(name: str, override: Mapping[str, Any], value: Any) -> str:
    """Return what is wrong with a value that becomes a label; empty when it fits or becomes none."""
    for trait in _LABEL_TRAITS:
        for template in _texts_in(override.get(trait)):
            if "{value}" not in template:
                continue
            filled, others = str(_fill(template, str(value))), str(_fill(template, ""))
            # What KubeSpawner adds later is a valid part of a label.
            fits = is_label_value(re.sub(r"\{\w+\}", "x", filled) if "{" in others else filled)
            if not fits:
                message = marked(
                    "“%(name)s” becomes a label of the server: it may have at most 63 letters, digits, “-”, “_” and "
                    "“.”, and begins and ends with a letter or digit."
                )
                return Text(message, name=name)
    return ""


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts_in(key)
            yield from _texts_in(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts_in(item)


def typed_into_shell(option: Option) -> bool:
    """Tell whether a text that users type would become part of a shell's command (`sh -c "... {value}"`)."""
    overrides = [option.unlisted.override] if option.unlisted is not None else []
    if option.kind == "text":
        overrides.append(option.override)
    return any(_in_shell(override) for override in overrides)


def _in_shell(value: Any) -> bool:
    if isinstance(value, Mapping):
        parts = [
            p for key in ("cmd", "command", "args") if isinstance(value.get(key), list | tuple) for p in value[key]
        ]
        return _is_shell_command(parts) or any(_in_shell(item) for item in value.values())
    if isinstance(value, list | tuple):
        return _is_shell_command(value) or any(_in_shell(item) for item in value)
    return False


def _is_shell_command(argv: Sequence[Any]) -> bool:
    texts = [part if isinstance(part, str) else "" for part in argv]
    shell = next((n for n, text in enumerate(texts) if _SHELL.fullmatch(text)), None)
    if shell is None:
        return False
    flag = next((n for n, text in enumerate(texts) if n > shell and _SHELL_COMMAND.fullmatch(text)), None)
    return flag is not None and flag + 1 < len(texts) and "{value}" in texts[flag + 1]


class _Reader:
    """Reads the options of one profile from one request."""

    def __init__(self, offer: Offer, request: Mapping[str, Any], user: UserInfo) -> None:
        self.offer = offer
        self.request = request
        self.user = user
        # What a user may not choose gets its default, and to the user it does not exist.
        self.hidden = frozenset(o.name for o in offer.options if not o.access.allows(user))
        self.values: dict[str, Any] = {}
        self.typed: set[str] = set()
        self.stored: dict[str, Any] = {"profile": offer.slug}
        self.problems: list[Problem] = []

    def problem(self, option: Option, message: str) -> None:
        self.problems.append(Problem(form_field(self.offer.slug, option.name), message))

    def read(self) -> Selection | Rejection:
        for option in self.offer.options:
            if any(self.values.get(other, _Missing) not in allowed for other, allowed in option.when.items()):
                continue
            self.read_option(option)
        self.reject_unknown()
        if self.problems:
            return Rejection(tuple(self.problems), self.offer.slug)
        return Selection(
            self.offer.slug, MappingProxyType(self.values), frozenset(self.typed), MappingProxyType(self.stored)
        )

    def read_option(self, option: Option) -> None:
        given = self.request.get(option.name)
        unlisted = option.unlisted_for(self.user) if option.kind == "choice" else None
        text = self.request.get(option.name + UNLISTED)
        if option.read_only or option.name in self.hidden:
            given = text = None
        if text not in (None, ""):
            self.read_typed(option, unlisted, text)
            return
        if unlisted is not None and given == UNLISTED_CHOICE:
            message = marked("Fill in “%(typed)s”, or choose another value for “%(name)s”.")
            self.problem(option, Text(message, typed=unlisted.display_name, name=_name(option)))
            return
        if given is None or given == "" or (given == [] and option.kind != "multi"):
            self.take_default(option)
            return
        value, problem = _CHECKS[option.kind](option, given, self.user)
        problem = problem or _label_problem(_name(option), option.override, value)
        if problem:
            self.problem(option, problem)
            return
        self.values[option.name] = value
        self.stored[option.name] = list(value) if isinstance(value, tuple) else value
        if option.kind == "text":
            self.typed.add(option.name)

    def read_typed(self, option: Option, unlisted: Unlisted | None, text: Any) -> None:
        if unlisted is None:
            choices = _one_of(option.choices_for(self.user))
            self.problem(option, Text("“%(name)s” takes only: %(choices)s.", name=_name(option), choices=choices))
            return
        value, problem = _check_typed(
            unlisted.display_name, text, unlisted.max_length, unlisted.pattern, unlisted.message
        )
        problem = problem or _label_problem(unlisted.display_name, unlisted.override, value)
        if problem:
            self.problem(option, problem)
            return
        if value:
            self.values[option.name] = value
            self.typed.add(option.name)
            self.stored[option.name + UNLISTED] = value
        else:
            self.take_default(option)

    def take_default(self, option: Option) -> None:
        value = option.default_for(self.user)
        if value is not None and value != ():
            self.values[option.name] = value
        elif option.name in self.hidden:
            return
        elif option.required or (option.kind == "choice" and (option.choices or option.unlisted)):
            self.problem(option, Text("“%(name)s” is needed: choose or fill in a value.", name=_name(option)))

    def reject_unknown(self) -> None:
        known = {"profile"}
        for option in self.offer.options:
            if option.name in self.hidden:
                continue
            known.add(option.name)
            if option.kind == "choice":
                known.add(option.name + UNLISTED)
        unknown = [k for k in self.request if k not in known]
        if unknown:
            allowed = sorted(known - {n for n in known if n.endswith(UNLISTED)})
            names = ", ".join(shorten(k, 40) for k in unknown[:5])
            message = marked("Unknown options: %(names)s. This profile takes: %(known)s.")
            self.problems.append(Problem("profile", Text(message, names=names, known=", ".join(allowed))))


def select(request: Any, user: UserInfo, offers: Mapping[str, Offer], default: str | None) -> Selection | Rejection:
    """Turn a request into a valid choice, or say what is wrong with it. Never raises, never blocks.

    Args:
        request: Any JSON: what was posted, linked, sent to the REST API or stored.
        user: Who asks.
        offers: The profiles that this user may use (and no others), by slug and by alias.
        default: The slug that is taken when none is named; `None` when there is none.
    """
    if request is None:
        request = {}
    if not isinstance(request, Mapping) or not all(isinstance(k, str) for k in request):
        return Rejection((Problem("profile", Text("The options must be a JSON object.")),))
    slug = request.get("profile")
    if slug is None or slug == "":
        slug = default
    if not isinstance(slug, str) or len(slug) > 253 or slug not in offers:
        if not offers:
            groups = shorten(", ".join(sorted(user.groups)), 200) or Text("none")
            message = Text("No profile is available to you. Your groups: %(groups)s.", groups=groups)
            return Rejection((Problem("profile", message),))
        names = ", ".join(sorted({o.slug for o in offers.values()})[:20])
        if slug is None:
            return Rejection((Problem("profile", Text("Choose a profile: %(names)s.", names=names)),))
        message = Text(
            "There is no profile %(slug)s for you. You can choose: %(names)s.", slug=shorten(slug), names=names
        )
        return Rejection((Problem("profile", message),))
    offer = offers[slug]
    if offer.unavailable:
        message = Text("“%(name)s” cannot be started now: %(why)s", name=offer.display_name, why=offer.unavailable)
        return Rejection((Problem("profile", message),), offer.slug)
    result = _Reader(offer, request, user).read()
    if isinstance(result, Selection) and slug != offer.slug:
        notice = Text("“%(old)s” is now “%(new)s”.", old=shorten(slug), new=offer.display_name)
        return Selection(result.slug, result.values, result.typed, result.user_options, (*result.notices, notice))
    return result


def offer_for(offer: Offer, user: UserInfo) -> Offer:
    """Return `offer` with only those options and choices that `user` may use: what a page may show."""
    if all(o.access.is_open and not _is_restricted(o) for o in offer.options):
        return offer
    options = [
        replace(o, choices=o.choices_for(user), unlisted=o.unlisted_for(user)) if _is_restricted(o) else o
        for o in offer.options
        if o.access.allows(user)
    ]
    return replace(offer, options=tuple(options))


def _is_restricted(option: Option) -> bool:
    typed = option.unlisted is not None and not option.unlisted.access.is_open
    return typed or any(not c.access.is_open for c in option.choices)


# ------------------------------------------------------------------------------------------------ the form


def form_field(slug: str, option: str) -> str:
    """Return the name of the form field of an option, as KubeSpawner's own form has it."""
    return f"profile-option-{slug}--{option}"


def from_form(form: Mapping[str, Sequence[Any]], offers: Mapping[str, Offer]) -> dict[str, Any]:
    """Read the posted form, or the query of a link, into the flat shape of `user_options`.

    Only the fields of the chosen profile count: without JavaScript the browser sends those of all profiles. Nothing is
    decided here; `select()` does that.
    """
    slug = _first(form.get("profile"))
    result: dict[str, Any] = {}
    if slug is None:
        return result
    result["profile"] = slug
    offer = offers.get(slug) if isinstance(slug, str) else None
    if offer is None:
        return result
    own = {}
    for option in offer.options:
        name = form_field(slug, option.name)
        own[name] = own[name + UNLISTED] = option.name
        values = list(form.get(name, ()))
        if option.kind == "multi":
            chosen = [v for v in values if v != ""]
            if values:
                result[option.name] = chosen
        elif values:
            # A hidden "off" stands before a switch's "on"; the last one is what the user sees.
            result[option.name] = values[-1] if option.kind == "switch" else values[0]
        text = _first(form.get(name + UNLISTED))
        # The text field is always there; it counts when the list says so, or when there is no list to say it.
        if text not in (None, "") and (not option.choices or result.get(option.name) in (None, "", UNLISTED_CHOICE)):
            result[option.name + UNLISTED] = text
    prefixes = [form_field(o.slug, "") for o in offers.values() if o.slug != slug]
    prefix = form_field(slug, "")
    for name in form:
        foreign = any(len(p) > len(prefix) and name.startswith(p) for p in prefixes)
        if name.startswith(prefix) and name not in own and not foreign:
            result[name[len(prefix) :]] = _first(form[name])
    return result


def _first(values: Sequence[Any] | None) -> Any:
    return values[0] if values else None


# ------------------------------------------------------------------------------------------------ user text


def escape_braces(value: Any) -> Any:
    """Return `value` with the braces in all its texts doubled, so that KubeSpawner's expansion leaves them alone."""
    if isinstance(value, str):
        return value.replace("{", "{{").replace("}", "}}")
    if isinstance(value, Mapping):
        return {k: escape_braces(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [escape_braces(v) for v in value]
    return value


_TEXT_TRAITS = frozenset(
    {
        "args",
        "cmd",
        "common_labels",
        "default_url",
        "environment",
        "extra_annotations",
        "extra_labels",
        "extra_resource_guarantees",
        "extra_resource_limits",
        "image",
        "node_selector",
        "storage_capacity",
        "working_dir",
    }
)
"""Settings of KubeSpawner whose values are texts, whatever was chosen: a chosen number is written out in them."""


def escape_dollars(text: str) -> str:
    """Return `text` as it has to stand in an environment value or argument, so that Kubernetes replaces nothing in it.

    Every `$` is doubled: `$(` alone would leave a way out, as in `$$(NAME)` the first `$` escapes the second.
    """
    return text.replace("$", "$$")


def fill_value(override: Mapping[str, Any], value: Any, *, typed: bool) -> dict[str, Any]:
    """Return `override` with `{value}` replaced.

    Other `{names}` stay for KubeSpawner, as its own `recursive_format` leaves them. A typed text is data: its braces
    are escaped where KubeSpawner would expand them, and `$(NAME)` is neutralised in environment values.

    Args:
        override: A `kubespawner_override`; not changed.
        value: What was chosen or typed.
        typed: Whether the value is a user's own text.
    """
    result = {}
    for trait, template in override.items():
        inserted = value
        if typed and isinstance(value, str):
            if trait in _DOLLAR_TRAITS:
                inserted = escape_dollars(inserted)
            if trait in _TYPED_EXPANDED:
                inserted = escape_braces(inserted)
        elif trait in _TEXT_TRAITS and isinstance(value, int | float) and not isinstance(value, bool):
            inserted = f"{value:.15g}"
        result[trait] = _fill(template, inserted)
    return result


def _fill(template: Any, value: Any) -> Any:
    if isinstance(template, Mapping):
        return {_fill(k, value): _fill(v, value) for k, v in template.items()}
    if isinstance(template, list | tuple | set):
        return [_fill(v, value) for v in template]
    if not isinstance(template, str):
        return template
    if template == "{value}":
        return value
    return "".join(_pieces(template, value))


def _pieces(template: str, value: Any) -> Iterator[str]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:  # a lone brace: the text is no template
        yield template.replace("{value}", str(value))
        return
    for literal, name, spec, conversion in parts:
        yield literal
        if name == "value":
            converted = {"r": repr, "a": ascii}.get(conversion or "", str)(value) if conversion else value
            yield format(converted, spec or "")
        elif name is not None:
            yield "{" + name + "}"
