"""The built-in profiles: base classes to derive from, and complete profiles.

The complete profiles are not offered by default. The hub's configuration selects them:
`c.ProfileSpawner.builtin_profiles = ["jupyterlab_small", "coder_app"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from profile_spawner.profiles.base import BaseAppProfile

from .coder import BaseCoderProfile, CoderProfile, GpuCoderProfile
from .jupyterlab import BaseJupyterLabProfile, GpuJupyterLabProfile, RedisJupyterLabProfile, SmallJupyterLabProfile
from .remote_desktop import BaseRemoteDesktopProfile, RemoteDesktopProfile
from .workspace import BaseWorkspaceProfile

__all__ = [
    "BUILTIN",
    "BaseCoderProfile",
    "BaseJupyterLabProfile",
    "BaseRemoteDesktopProfile",
    "BaseWorkspaceProfile",
    "CoderProfile",
    "GpuCoderProfile",
    "GpuJupyterLabProfile",
    "RedisJupyterLabProfile",
    "RemoteDesktopProfile",
    "SmallJupyterLabProfile",
]

BUILTIN: Mapping[str, type[BaseAppProfile]] = MappingProxyType(
    {
        profile.slug: profile
        for profile in (
            SmallJupyterLabProfile,
            GpuJupyterLabProfile,
            RedisJupyterLabProfile,
            CoderProfile,
            GpuCoderProfile,
            RemoteDesktopProfile,
        )
    }
)
"""The built-in profiles by slug, in the order in which the page shows them."""
