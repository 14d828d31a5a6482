"""The family, where plug-ins look for it."""

from .base_remote_desktop import BaseRemoteDesktopProfile

__all__ = ["BaseRemoteDesktopProfile"]
