"""Lists the choices of a profile, and finds a user who may use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.options import Option

    from .arguments import UserOptions

__all__ = ["every_choice", "user_for"]


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
    Free text is left out, but what users must fill in has its example.
    """
    by_name = {option.name: option for option in entry.offer.options}
    seen = set()
    for options in _choices(by_name):
        key = repr(sorted(options.items()))
        if key not in seen:
            seen.add(key)
            yield options


def _choices(by_name: Mapping[str, Option]) -> Iterator[dict[str, Any]]:
    examples = {option.name: option.example for option in by_name.values() if option.example is not None}
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
