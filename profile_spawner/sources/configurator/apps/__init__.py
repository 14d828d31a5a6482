"""The registry, where plug-ins look for it."""

from profile_spawner.profiles.registry import profile_registry

__all__ = ["profile_registry"]
