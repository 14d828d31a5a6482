"""Describes the changes of a reload for the log: names of profiles and fields, never values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from profile_spawner.profiles.entry import Entry

__all__ = ["ProfileChange", "changes_between", "describe_changes"]

_SHOWN = 20


@dataclass(frozen=True)
class ProfileChange:
    """One added, removed or changed profile.

    Attributes:
        slug: The profile.
        what: `added`, `removed` or `changed`.
        fields: What has changed: attributes, keys of a plain entry, or `hooks` when no attribute did.
    """

    slug: str
    what: Literal["added", "removed", "changed"]
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.slug} ({', '.join(self.fields)})" if self.fields else self.slug


def changes_between(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Sequence[ProfileChange]:
    """Return the difference of two sets of profiles, in the order of the new one; removed ones last."""
    changes = []
    for slug, entry in after.items():
        old = before.get(slug)
        if old is None:
            changes.append(ProfileChange(slug, "added"))
        elif old is not entry:
            fields = _changed_fields(old, entry)
            if fields:
                changes.append(ProfileChange(slug, "changed", fields))
    changes.extend(ProfileChange(slug, "removed") for slug in before if slug not in after)
    return changes


def _changed_fields(old: Entry, new: Entry) -> tuple[str, ...]:
    fields = ["kind"]
    if type(old.profile) is type(new.profile):
        before, after = old.profile.written(), new.profile.written()
        fields = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    if old.source != new.source:
        fields.append("source")
    if not fields and old.digest != new.digest:
        fields.append("hooks")
    return tuple(fields)


def describe_changes(changes: Sequence[ProfileChange]) -> str:
    """Return one line: `added: a, b; changed: c (image); removed: d`."""
    parts = []
    for what in ("added", "changed", "removed"):
        these = [str(c) for c in changes if c.what == what]
        if these:
            more = f" and {len(these) - _SHOWN} more" if len(these) > _SHOWN else ""
            parts.append(f"{what}: {', '.join(these[:_SHOWN])}{more}")
    return "; ".join(parts) or "nothing changed for users"
