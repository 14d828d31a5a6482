"""Creates the entries of a snapshot from the profiles that an item registered, in the hub and in the trial worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from profile_spawner.errors import BuildError, Origin, PolicyError, ProfileSpawnerError, described
from profile_spawner.params.layers import Resolver
from profile_spawner.policy.judge import Refusal, dotted, judge_objects, judge_profile, own_names, place_in, reported
from profile_spawner.policy.rules import Case
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.attributes import ATTRIBUTES
from profile_spawner.profiles.base import ProfileBuild
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.entry import Entry, Traits, make_entry
from profile_spawner.profiles.registry import Collector
from profile_spawner.profiles.yaml_text import line_at

from .source_items import LoadedItem, SourceItem

__all__ = ["EntryMaker", "params_of", "reasons"]


def params_of(loaded: Iterable[LoadedItem]) -> Collector:
    """Return the params and collections that these items define."""
    joined = Collector("params")
    for one in loaded:
        joined.params.update(one.collector.params)
        joined.collections.update(one.collector.collections)
    return joined


def reasons(
    current: Mapping[str, LoadedItem], tried: Iterable[tuple[SourceItem, Sequence[ProfileSpawnerError]]]
) -> list[tuple[SourceItem, str]]:
    """Return the items that must not be loaded, with the first error of each: they were refused now or before."""
    broken = [(loaded.item, loaded.problems) for loaded in current.values()]
    return [(item, str(problems[0])) for item, problems in (*broken, *tried) if problems]


class EntryMaker:
    """Builds every profile once for an example server, in its own event loop, because hooks may be `async`.

    Args:
        traits: See `make_entry`.
    """

    def __init__(self, traits: Traits | None = None) -> None:
        self._traits = traits

    def __enter__(self) -> EntryMaker:
        self._loop = asyncio.new_event_loop()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.close()

    def make(
        self, loaded: LoadedItem, resolver: Resolver | None, begun: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, Entry], list[ProfileSpawnerError]]:
        """Return the valid entries by slug, and the errors of the others. `begun` is called before each of them."""
        return self._loop.run_until_complete(_make(loaded, resolver, begun, self._traits))


async def _make(
    loaded: LoadedItem, resolver: Resolver | None, begun: Callable[[], None], traits: Traits | None
) -> tuple[dict[str, Entry], list[ProfileSpawnerError]]:
    entries: dict[str, Entry] = {}
    problems: list[ProfileSpawnerError] = []
    keep = (loaded.keep, loaded.earlier)
    for slug, profile in loaded.collector.profiles.items():
        begun()
        refused: list[PolicyError] = []
        judge = None if loaded.rights is None else _judge_of(loaded.rights, refused)
        try:
            entry = await make_entry(profile, loaded.item.source, resolver, judge, traits)
        except ProfileSpawnerError as e:
            e.profile = e.profile or slug
            e.origin = e.origin or profile.origin
            e.__traceback__ = None
            problems.append(e)
        except MemoryError:
            raise  # too little memory is left to go on
        except BaseException as e:  # noqa: BLE001 - an author's property may raise anything, SystemExit included
            problems.append(BuildError(described(e), profile=slug, origin=profile.origin))
        else:
            problems += refused
            if not refused:
                entries[slug] = replace(entry, keep=keep)
    return entries, problems


def _judge_of(rights: DataPolicy, refused: list[PolicyError]) -> Callable[[Entry, ProfileBuild], None]:
    """Return a function that adds to `refused` what a profile of a document may not ask for, with its line."""

    def judge(entry: Entry, build: ProfileBuild) -> None:
        profile = entry.profile
        refused.extend(
            PolicyError(e.message, profile=e.profile, origin=e.origin, field=e.field, value=e.value, hint=e.hint)
            for e in build.run
        )
        written: Any = vars(profile.cls)["_written"][0] if isinstance(profile, ClassProfile) else profile.list_entry()
        example = ServerContext.example()
        case = Case(
            rights=rights,
            own=own_names(build.objects, example.pod_name),
            secure=build.secure,
            variables=build.user_variables,
            servers=example.unique_names,
        )
        attributes = {name: profile.get(name) for name in ATTRIBUTES}
        refusals = judge_profile(build.kubespawner_override, entry.offer.options, attributes, case)

        def problem(refusal: Refusal) -> PolicyError:
            path = place_in(written, refusal)
            origin = Origin(entry.origin.source, line_at(written, path) or entry.origin.line)
            return refusal.problem(entry.slug, origin, dotted(path))

        refused.extend(reported((*refusals, *judge_objects(build.objects, case)), problem))

    return judge
