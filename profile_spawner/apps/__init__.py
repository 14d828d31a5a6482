"""The built-in profiles: families to derive from, and ready profiles of each.

None of the ready profiles is offered by itself; the hub's configuration names those that shall be:
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
