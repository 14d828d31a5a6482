"""The options that a profile offers, one class for each type.

The pydantic fields of a class define the keys that authors and documents may write (`type`, `min`,
`kubespawner_override`, ...). They read, write and check the keys. The keys of `choice` are those of KubeSpawner
(`display_name`, `choices`, `unlisted_choice`). The other keys exist only in this project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, ValidationError, model_validator
from typing_extensions import Self
from typing_extensions import override as overriding  # `override` is a field of options

from profile_spawner.errors import ProfileDefinitionError, kind_of, shorten
from profile_spawner.names import json_key
from profile_spawner.texts import Text, marked

from .access import EVERYBODY, Access, UserInfo
from .patterns import check_pattern
from .user_text import MAX_TEXT, check_typed, fill_value, text_problem

__all__ = [
    "OPTION_TYPES",
    "UNLISTED",
    "Choice",
    "ChoiceOption",
    "MultiOption",
    "NumberOption",
    "Option",
    "SwitchOption",
    "TextOption",
    "Unlisted",
    "WrongPartError",
    "access_from",
    "parse_options",
]

ACCESS_KEYS = frozenset({"allowed_groups", "allowed_users", "is_available_to"})
"""The keys that say who may use something."""

UNLISTED = "--unlisted-choice"
"""The suffix under which KubeSpawner sends a typed value."""

Checked = tuple[Any, str]
"""A valid value and an empty text, or `None` and an error message."""


class WrongPartError(ValueError):
    """A part of a declaration has the wrong type.

    Args:
        step: The key of the part.
        why: What is wrong with it.

    Attributes:
        step: The key.
        why: What is wrong.
    """

    def __init__(self, step: str, why: Exception) -> None:
        super().__init__(f"{step} {why}")
        self.step = step
        self.why = why


def access_from(data: Mapping[str, Any]) -> Access:
    """Return the rule in a dictionary: its `allowed_groups`, `allowed_users` and `is_available_to`.

    Raises:
        WrongPartError: when one of them has another type. Ignoring it would allow all users.
    """
    for key in ("allowed_groups", "allowed_users"):
        value = data.get(key)
        if value is None:
            continue
        if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(v, str) for v in value):
            raise WrongPartError(key, ValueError(f"must be a list of names, not {shorten(value)}"))
    hook = data.get("is_available_to")
    if hook is not None and not callable(hook):
        raise WrongPartError("is_available_to", ValueError(f"must be a function, not {shorten(hook)}"))
    return Access.of(data.get("allowed_groups"), data.get("allowed_users"), hook)


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping, not {kind_of(value)}")
    return value


def _pattern(value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValueError(f"{shorten(value)} is not a regular expression: it must be a text")
    check_pattern(value)
    return value


# KubeSpawner accepts any value that is true in Python, and converts other types to text.
_Truth = Annotated[bool, BeforeValidator(bool)]
_Text = Annotated[str, BeforeValidator(str)]
_Number = int | float | None
# The original object: a model never supplies the values that reach KubeSpawner.
_Override = Annotated[Any, BeforeValidator(_mapping)]
_Pattern = Annotated[str | None, BeforeValidator(_pattern)]
_Values = Annotated[tuple[Any, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list | tuple) else (v,))]


def _override(default_key: str = "kubespawner_override") -> Any:
    return Field(default_factory=dict, alias=default_key, repr=False)


class _Declared(BaseModel):
    """A declaration in an author's dictionary. It may be limited to certain users."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, arbitrary_types_allowed=True, defer_build=True)

    keys: ClassVar[frozenset[str]] = frozenset()
    """The keys that a dictionary may have."""

    access: SkipValidation[Access] = Field(default=EVERYBODY, exclude=True)
    """The access rule: `allowed_groups`, `allowed_users` and `is_available_to` of the dictionary."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the keys of a declaration when its class is made."""
        super().__pydantic_init_subclass__(**kwargs)
        fields = {field.alias or name for name, field in cls.model_fields.items()}
        cls.keys = frozenset(fields - {"name", "access", "param", "example"}) | ACCESS_KEYS

    @model_validator(mode="before")
    @classmethod
    def _read_access(cls, data: Any) -> Any:
        found = {key: value for key, value in _mapping(data).items() if value is not None}
        return {"access": access_from(found), **found}

    def document(self) -> dict[str, Any]:
        """Return the dictionary that an author would write, without default values."""
        internal = {"name", "choices", "unlisted", "param", "example"}
        result = self.model_dump(by_alias=True, exclude_defaults=True, exclude=internal)
        for key, names in (("allowed_groups", self.access.groups), ("allowed_users", self.access.users)):
            if names is not None:
                result[key] = sorted(names)
        return result


class Choice(_Declared):
    """One of the values of an option.

    Attributes:
        name: The value that is sent.
        display_name: What is shown.
        description: A sentence about it.
        default: Whether it is used when the user chooses nothing.
        override: The `kubespawner_override` that it applies.
    """

    name: str
    display_name: _Text
    description: _Text = ""
    default: _Truth = False
    override: _Override = _override()


class Unlisted(_Declared):
    """A typed value beside the listed choices (KubeSpawner's `unlisted_choice`).

    Attributes:
        display_name: The label of the text field.
        display_name_in_choices: The entry in the list that leads to it.
        pattern: A regular expression that the whole text must match.
        message: What is said when it does not.
        placeholder: A hint in the empty field.
        max_length: In characters.
        override: The `kubespawner_override` with `{value}` for the text.
    """

    enabled: _Truth = False
    display_name: Annotated[str, BeforeValidator(lambda v: str(v or "Other"))] = "Other"
    display_name_in_choices: Annotated[str, BeforeValidator(lambda v: str(v or "Other..."))] = "Other..."
    pattern: _Pattern = Field(default=None, alias="validation_regex")
    message: _Text = Field(default="", alias="validation_message")
    placeholder: _Text = ""
    max_length: int = MAX_TEXT
    override: _Override = _override()

    def check(self, value: Any) -> Checked:
        """Return the typed text, or an error message."""
        text, problem = check_typed(self.display_name, value, self.max_length, self.pattern, self.message)
        return text, problem or text_problem(self.display_name, self.override, text)


def _choices(value: Any) -> tuple[Choice, ...]:
    if isinstance(value, tuple):
        return value
    return tuple(_choice(key, declared) for key, declared in _mapping(value).items())


def _choice(key: Any, declared: Any) -> Choice:
    try:
        return Choice.model_validate({"name": json_key(key), "display_name": key, **_mapping(declared)})
    except ValueError as e:
        raise WrongPartError(str(key), e) from e


def _unlisted(value: Any) -> Unlisted | None:
    typed = value if isinstance(value, Unlisted | None) else Unlisted.model_validate(value)
    return typed if typed is not None and typed.enabled else None


class Option(_Declared):
    """An option of a profile that users may set.

    Attributes:
        name: The key in `user_options`.
        kind: The type: `choice` (one of a list), `multi` (some of a list), `number`, `switch` (on or off), `text`.
        display_name: The label.
        description: A sentence below it.
        required: Without a value (and without a default) the server is not started.
        advanced: Whether the page shows it under advanced options.
        read_only: Whether the page only shows it. A value from the user is not used.
        when: Shown and used only when other options have one of these values: `{"gpu": ("a100", "h100")}`.
        param: The param that this option sets instead of an override.
        example: A value with which the profile is built before a user has chosen one, if there is no default.
    """

    name: str
    kind: str = Field(alias="type")
    display_name: _Text = ""
    description: _Text = ""
    required: _Truth = False
    advanced: _Truth = False
    read_only: _Truth = False
    when: Annotated[Mapping[str, _Values], BeforeValidator(_mapping)] = Field(default_factory=dict)
    param: str | None = None
    example: Any = None

    is_typed: ClassVar[bool] = True
    """Whether a value can be any text of the user. It is then never expanded. Types that allow only certain values say
    no."""

    @property
    def label(self) -> str:
        """The label on the page."""
        return self.display_name or self.name

    def listed(self) -> tuple[Choice, ...]:
        """Return the choices; empty for types without a list."""
        return ()

    def typed(self) -> Unlisted | None:
        """Return the typed value beside the choices; `None` for types without one."""
        return None

    def accesses(self) -> Iterator[Access]:
        """Yield the access rules of the option, its choices and its typed value."""
        yield self.access
        yield from (choice.access for choice in self.listed())
        if (typed := self.typed()) is not None:
            yield typed.access

    def for_user(self, user: UserInfo) -> Self:
        """Return the option with only the choices that `user` may use."""
        del user
        return self

    def default_for(self, user: UserInfo | None) -> Any:
        """Return the value that is used when `user` chooses nothing; `None` when there is no default.

        Args:
            user: `None` means a user who may use all choices.
        """
        raise NotImplementedError

    def check(self, value: Any, user: UserInfo) -> Checked:
        """Return the normalized value, or an error message. Never raises.

        Args:
            value: Any JSON, or the text of a form.
            user: Who chooses.
        """
        raise NotImplementedError

    def from_form(self, values: Sequence[str]) -> Any:
        """Return the value from the posted form; `None` when the form has none."""
        return values[0] if values else None

    def overrides(self, value: Any, *, typed: bool) -> list[dict[str, Any]]:
        """Return the overrides of a valid value, with the value filled in.

        Args:
            value: The value, as `check` returned it.
            typed: Whether the user typed it.
        """
        raise NotImplementedError

    def overrides_by_value(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what each value overrides, for the page: `*` stands for any value, `true` and `false` for a switch."""
        return {c.name: c.override for c in self.listed()}

    def samples(self) -> Iterator[Any]:
        """Yield example values other than the default that cover the possible choices; none for free text."""
        return iter(())

    def typed_override(self) -> Mapping[str, Any]:
        """Return the override in which `{value}` is a text that users type; empty if there is none."""
        typed = self.typed()
        return {} if typed is None else typed.override

    def problem(self) -> str:
        """Return an error message for a declaration with valid types but invalid values; empty if it is valid."""
        if self.name == "profile" or self.name.endswith(UNLISTED):
            return f"an option cannot be called {self.name!r}: user_options uses this key itself"
        return ""

    @overriding
    def document(self) -> dict[str, Any]:
        """Return the option as an author would write it."""
        return {
            **({} if self.kind == "choice" else {"type": self.kind}),
            "display_name": self.label,
            **super().document(),
        }


class _Listed(Option):
    """An option with a list of choices."""

    is_typed: ClassVar[bool] = False

    choices: Annotated[tuple[Choice, ...], BeforeValidator(_choices)] = ()

    @overriding
    def listed(self) -> tuple[Choice, ...]:
        return self.choices

    def choices_for(self, user: UserInfo | None) -> tuple[Choice, ...]:
        """Return the choices that `user` may take, in order."""
        return tuple(c for c in self.choices if user is None or c.access.allows(user))

    @overriding
    def for_user(self, user: UserInfo) -> Self:
        allowed = self.choices_for(user)
        return self if allowed == self.choices else self.model_copy(update={"choices": allowed})

    def check_one(self, value: Any, user: UserInfo) -> Checked:
        """Return one choice that `user` may use, or an error message."""
        allowed = self.choices_for(user)
        if isinstance(value, int | float):
            value = json.dumps(value)  # the listed values of params and the keys of choices may be numbers
        if isinstance(value, str) and any(c.name == value for c in allowed):
            return value, ""
        names = ", ".join(c.name for c in allowed)
        message = marked("“%(name)s” cannot be %(value)s; choose one of: %(choices)s.")
        return None, Text(message, name=self.label, value=shorten(value), choices=names)

    @overriding
    def overrides(self, value: Any, *, typed: bool) -> list[dict[str, Any]]:
        names = value if isinstance(value, tuple | list) else (value,)
        return [dict(c.override) for c in self.choices if c.name in names and c.override]

    @overriding
    def document(self) -> dict[str, Any]:
        result = super().document()
        if self.choices:
            result["choices"] = {c.name: c.document() for c in self.choices}
        return result


class ChoiceOption(_Listed):
    """One of a list, or a typed value where `unlisted_choice` is enabled: KubeSpawner's own type.

    Attributes:
        choices: The list.
        unlisted: The typed value beside it.
    """

    kind: Literal["choice"] = Field(default="choice", alias="type")
    unlisted: Annotated[Unlisted | None, BeforeValidator(_unlisted)] = Field(default=None, alias="unlisted_choice")

    @overriding
    def typed(self) -> Unlisted | None:
        return self.unlisted

    def unlisted_for(self, user: UserInfo) -> Unlisted | None:
        """Return the typed value if `user` may use it."""
        return self.unlisted if self.unlisted is not None and self.unlisted.access.allows(user) else None

    @overriding
    def for_user(self, user: UserInfo) -> Self:
        allowed, typed = super().for_user(user), self.unlisted_for(user)
        return allowed if typed is self.unlisted else allowed.model_copy(update={"unlisted": typed})

    @property
    def starts_empty(self) -> bool:
        """Whether nothing is chosen at first: the option sets a param that has no value yet."""
        return self.param is not None and not any(c.default for c in self.choices)

    @overriding
    def default_for(self, user: UserInfo | None) -> Any:
        allowed = self.choices_for(user)
        first = allowed[0].name if allowed and not self.starts_empty else None
        return next((c.name for c in allowed if c.default), first)

    @overriding
    def check(self, value: Any, user: UserInfo) -> Checked:
        return self.check_one(value, user)

    @overriding
    def overrides(self, value: Any, *, typed: bool) -> list[dict[str, Any]]:
        if typed:
            return [fill_value(self.unlisted.override, value, typed=True)] if self.unlisted else []
        return super().overrides(value, typed=False)

    @overriding
    def samples(self) -> Iterator[Any]:
        return (c.name for c in self.choices if not c.default)

    @overriding
    def document(self) -> dict[str, Any]:
        result = super().document()
        if self.unlisted is not None:
            result["unlisted_choice"] = self.unlisted.document()
        return result


class MultiOption(_Listed):
    """Some of a list.

    Attributes:
        choices: The list.
        default: The names that are taken when nothing is chosen; by default those whose `default` is true.
    """

    kind: Literal["multi"] = Field(default="multi", alias="type")
    default: _Values | None = None

    @overriding
    def default_for(self, user: UserInfo | None) -> Any:
        names = self.default or [c.name for c in self.choices if c.default]
        return tuple(c.name for c in self.choices_for(user) if c.name in names)

    @overriding
    def check(self, value: Any, user: UserInfo) -> Checked:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or len(values) > 256:
            return None, Text("“%(name)s” must be a list of choices.", name=self.label)
        for one in values:
            checked, problem = self.check_one(one, user)
            if checked is None:
                return None, problem
        chosen = set(values)
        return tuple(c.name for c in self.choices if c.name in chosen), ""

    @overriding
    def from_form(self, values: Sequence[str]) -> Any:
        return [v for v in values if v != ""] if values else None

    @overriding
    def samples(self) -> Iterator[Any]:
        return ([c.name] for c in self.choices)

    @overriding
    def problem(self) -> str:
        if not self.choices:
            return "an option of type multi needs choices"
        unknown = sorted(set(self.default or ()) - {c.name for c in self.choices})
        return f"the default names {unknown}, which are not among the choices" if unknown else super().problem()


class _Filled(Option):
    """An option whose value is put into its override, in place of `{value}`."""

    default: Any = None
    override: _Override = _override()

    @overriding
    def default_for(self, user: UserInfo | None) -> Any:
        return self.default

    @overriding
    def overrides(self, value: Any, *, typed: bool) -> list[dict[str, Any]]:
        return [fill_value(self.override, value, typed=typed)] if self.override else []

    @overriding
    def overrides_by_value(self) -> Mapping[str, Mapping[str, Any]]:
        return {"*": self.override}

    @overriding
    def problem(self) -> str:
        wrong = self.check(self.default, UserInfo(""))[1] if self.default is not None else ""
        return f"the default does not fit: {wrong}" if wrong else super().problem()


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


class NumberOption(_Filled):
    """A number.

    Attributes:
        default: Taken when nothing is chosen.
        minimum: The lowest number.
        maximum: The highest number.
        step: The distance of allowed values, counted from `minimum`.
        integer: Whole numbers only.
        unit: Shown behind the number.
        override: The `kubespawner_override` with `{value}` for the number.
    """

    is_typed: ClassVar[bool] = False

    kind: Literal["number"] = Field(default="number", alias="type")
    minimum: _Number = Field(default=None, alias="min")
    maximum: _Number = Field(default=None, alias="max")
    step: _Number = None
    integer: _Truth = False
    unit: _Text = ""

    @overriding
    def check(self, value: Any, user: UserInfo) -> Checked:
        number = _to_number(value)
        if number is None or not self._fits(number):
            return None, Text("“%(name)s” must be %(number)s.", name=self.label, number=self._bounds())
        valid = int(number) if number == int(number) else number
        return valid, text_problem(self.label, self.override, valid)

    @overriding
    def samples(self) -> Iterator[Any]:
        return (bound for bound in (self.minimum, self.maximum) if bound is not None)

    @overriding
    def problem(self) -> str:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            return f"min {self.minimum} is more than max {self.maximum}"
        if self.step is not None and self.step <= 0:
            return f"step must be more than 0, not {self.step}"
        return super().problem()

    def _bounds(self) -> str:
        low, high = (f"{n:g}" if n is not None else "" for n in (self.minimum, self.maximum))
        patterns = _WHOLE_NUMBERS if self.integer else _NUMBERS
        what = Text(patterns[bool(low), bool(high)], **{n: v for n, v in (("low", low), ("high", high)) if v})
        if self.step is not None and self.step != 1:
            return Text("%(number)s in steps of %(step)s", number=what, step=f"{self.step:g}")
        return what

    def _fits(self, number: float) -> bool:
        if self.integer and number != int(number):
            return False
        if self.minimum is not None and number < self.minimum:
            return False
        if self.maximum is not None and number > self.maximum:
            return False
        if self.step is None:
            return True
        steps = (number - (self.minimum or 0)) / self.step
        return abs(steps - round(steps)) < 1e-6


def _to_number(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip() if len(value) <= 32 else ""
        return float(text) if re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", text) else None
    # An integer of any size can be compared with a float, but not always converted to one.
    if isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15:
        return float(value)
    return None


class SwitchOption(Option):
    """On or off.

    Attributes:
        default: Whether it is on when nothing is chosen; without one nothing is overridden.
        override: The `kubespawner_override` when it is on.
        override_off: The `kubespawner_override` when it is off.
    """

    is_typed: ClassVar[bool] = False

    kind: Literal["switch"] = Field(default="switch", alias="type")
    default: bool | None = None
    override: _Override = _override()
    override_off: _Override = _override("kubespawner_override_off")

    @overriding
    def default_for(self, user: UserInfo | None) -> Any:
        return self.default

    @overriding
    def check(self, value: Any, user: UserInfo) -> Checked:
        if isinstance(value, bool):
            return value, ""
        if isinstance(value, str) and value.lower() in ("on", "true", "1", "yes"):
            return True, ""
        if isinstance(value, str) and value.lower() in ("off", "false", "0", "no"):
            return False, ""
        return None, Text("“%(name)s” must be on or off.", name=self.label)

    @overriding
    def from_form(self, values: Sequence[str]) -> Any:
        # The form sends a hidden "off" before a switch's "on". Use the last value.
        return values[-1] if values else None

    @overriding
    def overrides(self, value: Any, *, typed: bool) -> list[dict[str, Any]]:
        override = self.override if value else self.override_off
        return [dict(override)] if override else []

    @overriding
    def overrides_by_value(self) -> Mapping[str, Mapping[str, Any]]:
        return {"true": self.override, "false": self.override_off}

    @overriding
    def samples(self) -> Iterator[Any]:
        yield not self.default


class TextOption(_Filled):
    """A line of text.

    Attributes:
        default: Taken when nothing is typed.
        pattern: A regular expression that the whole text must match.
        message: What is said when it does not.
        placeholder: A hint in the empty field.
        max_length: In characters.
        override: The `kubespawner_override` with `{value}` for the text.
    """

    kind: Literal["text"] = Field(default="text", alias="type")
    pattern: _Pattern = None
    message: _Text = Field(default="", alias="validation_message")
    placeholder: _Text = ""
    max_length: int = MAX_TEXT

    @overriding
    def check(self, value: Any, user: UserInfo) -> Checked:
        text, problem = check_typed(self.label, value, self.max_length, self.pattern, self.message)
        return text, problem or text_problem(self.label, self.override, text)

    @overriding
    def typed_override(self) -> Mapping[str, Any]:
        override: Mapping[str, Any] = self.override
        return override


OPTION_TYPES: Mapping[str, type[Option]] = {
    "choice": ChoiceOption,
    "multi": MultiOption,
    "number": NumberOption,
    "switch": SwitchOption,
    "text": TextOption,
}
"""The class of each type."""

_SYNONYMS = {"select": "choice", "bool": "switch", "boolean": "switch", "integer": "number"}


def parse_options(options: Any, *, profile: str, error: Callable[..., Exception] | None = None) -> tuple[Option, ...]:
    """Read the options of a profile: KubeSpawner's `profile_options`, with the types of this project beside its own.

    Args:
        options: A mapping by name.
        profile: The slug, for messages.
        error: Makes the exception to raise; `ProfileDefinitionError` by default.

    Raises:
        ProfileDefinitionError: naming the option, the value and what was expected.
    """
    make_error = error or ProfileDefinitionError
    if not options:
        return ()
    if not isinstance(options, Mapping):
        raise make_error(
            "options must be a mapping by name", profile=profile, field="profile_options", value=kind_of(options)
        )
    result: dict[str, Option] = {}
    for name, declared in options.items():
        try:
            option = _parse_option(str(name), declared)
        except ValidationError as e:
            steps, text = _first_error(e)
            place = ".".join(map(str, ("profile_options", name, *steps)))
            raise make_error(text, profile=profile, field=place) from e
        except (ValueError, TypeError) as e:
            raise make_error(str(e) or repr(e), profile=profile, field=f"profile_options.{name}") from e
        unknown = [other for other in option.when if other not in result]
        if unknown:
            message = f"'when' refers to {unknown[0]!r}, which is no option before it"
            raise make_error(message, profile=profile, field=f"profile_options.{name}")
        result[option.name] = option
    return tuple(result.values())


def _first_error(error: Exception) -> tuple[list[Any], str]:
    """Return the keys that lead to the part that is wrong, and what is wrong with it."""
    if isinstance(error, WrongPartError):
        steps, text = _first_error(error.why)
        return [error.step, *steps], text
    if not isinstance(error, ValidationError):
        return [], str(error)
    found = error.errors(include_url=False)[0]
    inner = found.get("ctx", {}).get("error")
    steps, text = _first_error(inner) if isinstance(inner, Exception) else ([], str(inner or found["msg"]))
    return [*found["loc"], *steps], text


def _parse_option(name: str, declared: Any) -> Option:
    data = _mapping(declared)
    given = data.get("type", "choice")
    kind = _SYNONYMS.get(given, given) if isinstance(given, str) else given
    if not isinstance(kind, str) or kind not in OPTION_TYPES:
        raise ValueError(f"type must be {', '.join(OPTION_TYPES)}, not {shorten(given)}")
    more = {"integer": True} if given == "integer" else {}
    option = OPTION_TYPES[kind].model_validate({**more, "display_name": name, **data, "name": name, "type": kind})
    if problem := option.problem():
        raise ValueError(problem)
    return option
