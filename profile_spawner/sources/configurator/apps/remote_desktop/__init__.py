"""The family, where plug-ins look for it."""

from .base_remote_desktop import BaseRemoteDesktopProfile
from .remote_desktop_profiles import DesktopPanoplyProfile, DesktopProfile, DesktopQgisProfile, DesktopSnapProfile

__all__ = [
    "PROFILES",
    "BaseRemoteDesktopProfile",
    "DesktopPanoplyProfile",
    "DesktopProfile",
    "DesktopQgisProfile",
    "DesktopSnapProfile",
]

PROFILES = (DesktopProfile, DesktopQgisProfile, DesktopPanoplyProfile, DesktopSnapProfile)
"""The ready-made profiles."""
