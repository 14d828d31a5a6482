"""The settings of the sources of profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = ["SOURCE_KINDS", "SourceSettings"]

SOURCE_KINDS = ("configuration", "builtin", "entry_points", "python", "documents", "config_maps")
"""The kinds of sources, in the order in which their profiles are shown and in which a slug is claimed."""


@dataclass(frozen=True)
class SourceSettings:
    """The sources of profiles, and how they are loaded.

    Attributes:
        profiles_dirs: Folders of Python modules and packages.
        builtin_profiles: Slugs of built-in profiles; `all` selects all of them.
        profile_documents: YAML files, or folders of them.
        entry_points: Whether profiles of installed packages are loaded: all, or those with these names.
        config_map_selector: A label selector for ConfigMaps that hold documents; `None` switches this source off.
        config_map_namespace: Their namespace.
        allow_overrides: Which kind of source may replace profiles of which others: `{"documents": ("builtin",)}`.
            A source may be named by its kind (see `SOURCE_KINDS`) or by its path or name. Everywhere else a slug that
            is used twice is an error.
        data_policy: What documents and ConfigMaps may request in addition to the default; see `DataPolicy`.
        watch: Whether changes are loaded while the hub runs.
        trial_timeout: How long the trial import of one changed module may take, in seconds.
        trial_memory: How much memory the trial import may use, in bytes.
        trial: Whether Python is imported in a separate process first. Only tests and commands that trust the
            modules switch it off.
        settle: The minimum time since the last change of a file before it is read, in seconds.
        rehash_interval: The interval at which all files are read again even if they seem unchanged, in seconds.
        permissive_params: Whether values of undefined params are accepted.
        configurator_compat: Whether `from configurator.apps import ...` works in Python modules.
    """

    profiles_dirs: tuple[Path, ...] = ()
    builtin_profiles: tuple[str, ...] = ()
    profile_documents: tuple[Path, ...] = ()
    entry_points: bool | tuple[str, ...] = False
    config_map_selector: str | None = None
    config_map_namespace: str = "default"
    allow_overrides: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    data_policy: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    watch: bool = True
    trial_timeout: float = 10.0
    trial_memory: int = 1024 * 1024 * 1024
    trial: bool = True
    settle: float = 0.2
    rehash_interval: float = 300.0
    configurator_compat: bool = False
    permissive_params: bool = False
