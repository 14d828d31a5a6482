"""The registry under the configurator's names."""

from __future__ import annotations

import importlib
from typing import Any

from profile_spawner.profiles import registry
from profile_spawner.profiles.class_profile import ClassProfile

__all__ = ["ProfileRegistry", "ready_made"]

_FAMILIES = ("coder", "remote_desktop", "jupyterlab")


def ready_made() -> dict[str, type[Any]]:
    """Return the configurator's own profiles by slug, in its order."""
    modules = [importlib.import_module(f".{family}", __package__) for family in _FAMILIES]
    return {profile.slug: profile for module in modules for profile in module.PROFILES}


class ProfileRegistry(registry.ProfileRegistry):
    """The registry of the load in progress. `get` and `all` know the ready-made profiles too, as there."""

    def all(self) -> dict[str, type[Any]]:
        """Return the ready-made classes and those that this load has registered so far, by slug."""
        registered = self.collector.profiles.items()
        return ready_made() | {slug: p.cls for slug, p in registered if isinstance(p, ClassProfile)}

    def get(self, slug: str) -> type[Any]:
        """Return a class.

        Raises:
            KeyError: when the slug is unknown.
        """
        found = self.all()
        if slug not in found:
            raise KeyError(f"Unknown profile slug {slug!r}; there are {', '.join(sorted(found))}")
        return found[slug]
