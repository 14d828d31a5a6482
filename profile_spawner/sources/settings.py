"""The settings of the sources of profiles, and the list of all kinds of sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from traitlets import Bool, Dict, Float, Integer, List, Unicode
from traitlets.config import LoggingConfigurable

from profile_spawner.errors import Origin, SourceError, did_you_mean

from .builtin import BuiltinProfiles
from .config_maps import ConfigMapDocuments
from .documents import Documents
from .entry_points import EntryPoints
from .python_dir import PythonDirectory
from .source_items import Source

__all__ = [
    "KINDS",
    "PROFILE_LIST",
    "SOURCE_KINDS",
    "SourceSettings",
    "configured_sources",
    "may_override",
    "override_problems",
]

KINDS: Sequence[type[Source]] = (
    BuiltinProfiles,
    EntryPoints,
    PythonDirectory,
    Documents,
    ConfigMapDocuments,
)
"""The kinds of sources, in the order in which their profiles are shown and in which a slug is claimed."""
PROFILE_LIST = "profile_list"
"""The name of KubeSpawner's plain list, which comes after all sources."""
SOURCE_KINDS = ("configuration", *(kind.kind for kind in KINDS), PROFILE_LIST)
"""Their names; `configuration` stands for what the hub's configuration registers itself."""

_OfKinds: Any = type("_OfKinds", tuple(kind.settings for kind in KINDS), {})


class SourceSettings(_OfKinds, LoggingConfigurable):
    """The settings of all kinds of sources, and those that concern several kinds."""

    source_overrides = Dict(
        List(Unicode()),
        config=True,
        help="""
        Which sources may replace profiles of which others: `{"documents": ["builtin"]}`. A source is named by its kind,
        or by its path; `profile_list` is the plain list. Everywhere else a slug that is used twice is an error that
        names both places.
        """,
    )
    data_policy = Dict(
        config=True,
        help="""
        What profiles that are data (YAML documents, ConfigMaps) may ask for beyond the default: see docs/sources.md.
        """,
    )
    watch_profiles = Bool(
        True, config=True, help="Whether changes of the sources are loaded while the hub runs, within about a second."
    )
    trial_timeout = Float(
        10.0, config=True, help="How long, in seconds, one changed item may take in the trial worker."
    )
    trial_memory = Integer(
        1024 * 1024 * 1024, config=True, help="How much memory, in bytes, the trial worker may use for changed items."
    )
    configurator_compat = Bool(
        False,
        config=True,
        help="""
        Whether modules written for the EOEPCA configurator can be loaded. The hub then has a package `configurator`.
        """,
    )
    permissive_params = Bool(
        False, config=True, help="Whether values of undefined params are accepted instead of refused."
    )


def may_override(overrides: Mapping[str, Sequence[str]], upper: Iterable[str], lower: Iterable[str]) -> bool:
    """Return whether a source with one of the names `upper` may replace profiles of one with the names `lower`."""
    allowed = {name for one in upper for name in overrides.get(one, ())}
    return not allowed.isdisjoint(lower)


def override_problems(overrides: Mapping[str, Sequence[str]]) -> list[SourceError]:
    """Return an error for each name in `source_overrides` that can be neither a kind of source nor a path."""
    named = {name for upper, lower in overrides.items() for name in (upper, *lower)}
    # Others have a space: `entry point NAME`.
    unknown = sorted(name for name in named - {*SOURCE_KINDS} if "/" not in name and " " not in name)
    return [
        SourceError(
            f"there is no such kind of source{did_you_mean(name, SOURCE_KINDS)}",
            origin=Origin("configuration"),
            field="source_overrides",
            value=name,
            expected=f"the path of a source, or one of {', '.join(SOURCE_KINDS)}",
        )
        for name in unknown
    ]


def configured_sources(settings: SourceSettings, settle: float) -> list[Source]:
    """Return the sources for these settings, in their order of precedence. One that is named twice counts once.

    Raises:
        PolicyError: If `data_policy` has a field that does not exist.
    """
    found: dict[tuple[str, str], Source] = {}
    for kind in KINDS:
        for source in kind.configured(settings, settle):
            found.setdefault((source.kind, os.path.realpath(source.name)), source)
    return list(found.values())
