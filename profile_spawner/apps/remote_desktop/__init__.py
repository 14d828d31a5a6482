"""A Linux desktop in the browser."""

from .base_remote_desktop import BaseRemoteDesktopProfile
from .remote_desktop_profiles import RemoteDesktopProfile

__all__ = ["BaseRemoteDesktopProfile", "RemoteDesktopProfile"]
