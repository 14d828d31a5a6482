"""Lists the choices of a profile, and finds a user who may use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.options import Option

    from .arguments import UserOptions

__all__ = ["every_choice", "user_for", "without_example"]


def user_for(entry: Entry, user: UserOptions, options: Mapping[str, Any] | None = None) -> UserOptions:
    """Return a user who may use the profile and all of its choices: `user` with the groups that this needs.

    Args:
        entry: The profile.
        user: The user of the command; another name is taken where the profile is for certain users only.
        options: What this user chooses.
    """
    groups = set(user.groups) | (entry.offer.access.groups or frozenset())
    users = entry.offer.access.users or frozenset()
    for option in entry.offer.options:
        for rule in option.accesses():
            groups |= rule.groups or frozenset()
    name = user.name if not users or user.name in users else min(users)
    return replace(user, name=name, groups=tuple(sorted(groups)), chosen=dict(options or {}))


def every_choice(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield what users can choose so that every choice occurs once, the other options at their defaults.

    Numbers occur with their bounds. An option that is only there when others have certain values comes with those.
    Free text is left out, but what users must fill in has its example; nothing is yielded if one is missing, or if no
    user may use the profile.
    """
    if without_example(entry) or entry.offer.access.is_closed:
        return
    by_name = {option.name: option for option in entry.offer.options}
    seen = set()
    for options in _choices(by_name):
        key = repr(sorted(options.items()))
        if key not in seen:
            seen.add(key)
            yield options


def without_example(entry: Entry) -> list[Option]:
    """Return the options that users must fill in, and for which no valid value is known."""
    return [option for option in entry.offer.options if _must_be_filled(option) and not _example(option)]


def _must_be_filled(option: Option) -> bool:
    has_default = option.default_for(None) not in (None, ())
    return not (has_default or option.param) and (option.required or option.typed() is not None)


def _example(option: Option) -> dict[str, Any]:
    """Return what can be sent as the value of an option that users must fill in; nothing if none is known."""
    from profile_spawner.profiles.access import UserInfo
    from profile_spawner.profiles.options import UNLISTED, MultiOption
    from profile_spawner.profiles.user_text import EXAMPLES

    if option.example is not None:
        return {option.name: option.example}
    if isinstance(option, MultiOption):
        return {option.name: [option.listed()[0].name]}
    typed = option.typed()
    if typed is not None:
        texts = (typed.placeholder, *EXAMPLES)
        return next(({option.name + UNLISTED: t} for t in texts if t and not typed.check(t)[1]), {})
    nobody = UserInfo("")
    return next(({option.name: v} for v in (*option.samples(), *EXAMPLES) if not option.check(v, nobody)[1]), {})


def _choices(by_name: Mapping[str, Option]) -> Iterator[dict[str, Any]]:
    examples: dict[str, Any] = {}
    for option in by_name.values():
        if option.example is not None or _must_be_filled(option):
            examples.update(_example(option))
    yield examples
    for option in by_name.values():
        needed = {**examples, **_needed(option, by_name)}
        yield needed
        if not option.read_only:
            yield from ({**needed, option.name: value} for value in option.samples())


def _needed(option: Option, by_name: Mapping[str, Option]) -> dict[str, Any]:
    """Return what must be chosen before so that this option is there; an option refers to earlier ones only."""
    needed: dict[str, Any] = {}
    for other, allowed in option.when.items():
        needed.update(_needed(by_name[other], by_name))
        needed[other] = allowed[0]
    return needed
