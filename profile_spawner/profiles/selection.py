"""Turns a request into a valid choice.

For any JSON, any user and any offers, `select()` returns a `Selection` or a `Rejection`. It never raises. The form, a
link, the REST API and a restart from stored options all use it, so they follow the same rules.

The flat shape of `user_options` is KubeSpawner's: `{"profile": SLUG, OPTION: CHOICE, "OPTION--unlisted-choice": TEXT}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import shorten
from profile_spawner.texts import Text, joined, marked

from .access import EVERYBODY, Access, UserInfo
from .options import UNLISTED, ChoiceOption, MultiOption, Option, Unlisted

__all__ = [
    "Offer",
    "Problem",
    "Rejection",
    "Selection",
    "default_selection",
    "form_field",
    "from_form",
    "missing_value",
    "offer_for",
    "select",
]

UNLISTED_CHOICE = "unlisted-choice"
"""The value that KubeSpawner's own form posts when the user chooses "Other"."""

_MAX_DEPTH = 4
"""How deep a request may be nested: options take at most a list of values."""
_Missing: Any = object()


@dataclass(frozen=True)
class Offer:
    """The data of a profile for the page and for the check of a choice. It contains no secrets.

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
    """One error in a request.

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
    """An invalid request. The error is the user's, and the response has status 400.

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


class _RequestReader:
    """Reads the options of one profile from one request."""

    def __init__(self, offer: Offer, request: Mapping[str, Any], user: UserInfo, *, others: bool) -> None:
        self.offer = offer
        self.request = request
        self.user = user
        self.others = others
        # An option that the user may not choose gets its default. The user cannot see that it exists.
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
        self.read_unknown()
        if self.problems:
            return Rejection(tuple(self.problems), self.offer.slug)
        return Selection(
            self.offer.slug, MappingProxyType(self.values), frozenset(self.typed), MappingProxyType(self.stored)
        )

    def read_option(self, option: Option) -> None:
        given = self.request.get(option.name)
        unlisted = option.unlisted_for(self.user) if isinstance(option, ChoiceOption) else None
        text = self.request.get(option.name + UNLISTED)
        if option.read_only or option.name in self.hidden:
            given = text = None
        if text not in (None, ""):
            self.read_typed(option, unlisted, text)
            return
        if unlisted is not None and given == UNLISTED_CHOICE:
            message = marked("Fill in “%(typed)s”, or choose another value for “%(name)s”.")
            self.problem(option, Text(message, typed=unlisted.display_name, name=option.label))
            return
        if given is None or given == "" or (given == [] and not isinstance(option, MultiOption)):
            self.take_default(option)
            return
        value, problem = option.check(given, self.user)
        if problem:
            self.problem(option, problem)
            return
        if option.required and value in ("", ()):
            self.take_default(option)
            return
        self.values[option.name] = value
        self.stored[option.name] = list(value) if isinstance(value, tuple) else value
        if option.is_typed:
            self.typed.add(option.name)

    def read_typed(self, option: Option, unlisted: Unlisted | None, text: Any) -> None:
        if unlisted is None:
            choices = ", ".join(c.name for c in option.for_user(self.user).listed())
            self.problem(option, Text("“%(name)s” takes only: %(choices)s.", name=option.label, choices=choices))
            return
        value, problem = unlisted.check(text)
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
        elif option.name in self.hidden or option.param is not None:
            return  # whether a param has a value depends on the layers of the server: see Snapshot.check_choice
        elif option.required or (isinstance(option, ChoiceOption) and (option.choices or option.unlisted)):
            self.problems.append(missing_value(self.offer.slug, option))

    def read_unknown(self) -> None:
        known = {"profile"}
        for option in self.offer.options:
            if option.name in self.hidden:
                continue
            known.add(option.name)
            if isinstance(option, ChoiceOption):
                known.add(option.name + UNLISTED)
        hidden = {name for option in self.hidden for name in (option, option + UNLISTED)}
        unknown = [k for k in self.request if k not in known]
        if self.others:
            self.stored.update((k, self.request[k]) for k in unknown if k not in hidden)
        elif unknown:
            allowed = sorted(known - {n for n in known if n.endswith(UNLISTED)})
            names = ", ".join(shorten(k, 40) for k in unknown[:5])
            message = marked("Unknown options: %(names)s. This profile takes: %(known)s.")
            self.problems.append(Problem("profile", Text(message, names=names, known=", ".join(allowed))))


def select(
    request: Any, user: UserInfo, offers: Mapping[str, Offer], default: str | None, *, others: bool = False
) -> Selection | Rejection:
    """Turn a request into a valid choice, or return the errors. Never raises and never blocks.

    Args:
        request: Any JSON: what was posted, linked, sent to the REST API or stored.
        user: The user who sent the request.
        offers: The profiles that this user may use (and no others), by slug and by alias.
        default: The slug that is taken when none is named; `None` when there is none.
        others: Whether options that the profile does not have are kept as they are: they come from the hub's own form,
            for its hooks.
    """
    if request is None:
        request = {}
    if not isinstance(request, Mapping) or not all(isinstance(k, str) for k in request) or _is_deep(request):
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
    result = _RequestReader(offer, request, user, others=others).read()
    if isinstance(result, Selection) and slug != offer.slug:
        notice = Text("“%(old)s” is now “%(new)s”.", old=shorten(slug), new=offer.display_name)
        return Selection(result.slug, result.values, result.typed, result.user_options, (*result.notices, notice))
    return result


def _is_deep(request: Mapping[str, Any]) -> bool:
    """Return whether a request is nested deeper than any option takes. It would be copied, compared and stored."""
    level: list[Any] = [request]
    for _ in range(_MAX_DEPTH):
        level = [item for value in level for item in (value.values() if isinstance(value, Mapping) else value)]
        level = [value for value in level if isinstance(value, Mapping | list | tuple)]
    return bool(level)


def offer_for(offer: Offer, user: UserInfo) -> Offer:
    """Return `offer` with only the options and choices that `user` may use, so that a page can show it."""
    options = tuple(o.for_user(user) for o in offer.options if o.access.allows(user))
    return offer if options == offer.options else replace(offer, options=options)


def missing_value(slug: str, option: Option) -> Problem:
    """Return the error for an option that has no value and needs one."""
    message = Text("“%(name)s” is needed: choose or fill in a value.", name=option.label)
    return Problem(form_field(slug, option.name), message)


def default_selection(offer: Offer) -> Selection:
    """Return the default choice of a user who may use all options. Fields that users must fill have their examples."""
    values: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for option in offer.options:
        if not any(values.get(other) not in allowed for other, allowed in option.when.items()):
            value = option.default_for(None)
            if value in (None, ()) and option.example is not None:
                value = chosen[option.name] = option.example
            if value is not None:
                values[option.name] = value
    return Selection(offer.slug, values, user_options=chosen)


# ------------------------------------------------------------------------------------------------ the form


def form_field(slug: str, option: str) -> str:
    """Return the name of an option's form field. The names are those of KubeSpawner's own form."""
    return f"profile-option-{slug}--{option}"


def from_form(form: Mapping[str, Sequence[Any]], offers: Mapping[str, Offer]) -> dict[str, Any]:
    """Convert the posted form, or the query of a link, to the flat format of `user_options`.

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
        value = option.from_form(list(form.get(name, ())))
        if value is not None:
            result[option.name] = value
        text = _first(form.get(name + UNLISTED))
        # The text field is always sent. Use it if the list selects it, or if there is no list.
        if text not in (None, "") and (not option.listed() or result.get(option.name) in (None, "", UNLISTED_CHOICE)):
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
