"""Creates the sources from the configuration, in their order of precedence."""

from __future__ import annotations

from dataclasses import dataclass

from profile_spawner.policy.settings import DataPolicy

from .builtin import Builtin
from .config_maps import ConfigMapDocuments
from .documents import Documents
from .entry_points import EntryPoints
from .importing import Finder
from .python_dir import PythonDirectory
from .settings import SourceSettings
from .trial_client import TrialClient
from .units import Source

__all__ = ["Made", "make_sources"]


@dataclass
class Made:
    """The sources of one service and their shared objects.

    Attributes:
        sources: The sources, in the order in which their profiles are shown.
        finder: The import finder for their modules.
        config_maps: The source for ConfigMaps, if it is enabled.
    """

    sources: list[Source]
    finder: Finder
    config_maps: ConfigMapDocuments | None

    def close(self) -> None:
        """Uninstall the import finder."""
        self.finder.uninstall()


def make_sources(settings: SourceSettings) -> Made:
    """Return the sources for these settings.

    Raises:
        PolicyError: If `data_policy` has a field that does not exist.
    """
    finder = Finder(configurator=settings.configurator_compat)
    trial = None
    if settings.trial:
        compat = settings.configurator_compat
        trial = TrialClient(settings.trial_timeout, settings.trial_memory, configurator=compat)
    documents = DataPolicy.of(settings.data_policy, "documents")
    config_maps = None
    sources: list[Source] = []
    if settings.builtin_profiles:
        sources.append(Builtin(settings.builtin_profiles))
    if settings.entry_points:
        sources.append(EntryPoints(settings.entry_points, trial))
    sources.extend(PythonDirectory(d, finder, trial, settle=settings.settle) for d in settings.profiles_dirs)
    sources.extend(Documents(p, documents, settle=settings.settle) for p in settings.profile_documents)
    if settings.config_map_selector is not None:
        policy = DataPolicy.of(settings.data_policy, "config_maps")
        config_maps = ConfigMapDocuments(settings.config_map_namespace, policy)
        sources.append(config_maps)
    return Made(sources, finder, config_maps)
