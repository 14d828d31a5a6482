"""The family, where plug-ins look for it."""

from profile_spawner.apps import BaseRemoteDesktopProfile

__all__ = ["BaseRemoteDesktopProfile"]
