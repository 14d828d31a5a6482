"""The registry, where plug-ins look for it."""

from .registry import ProfileRegistry

__all__ = ["profile_registry"]

profile_registry = ProfileRegistry()
