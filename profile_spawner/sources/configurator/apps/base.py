"""The base class with the configurator's defaults."""

from __future__ import annotations

from typing import Any

from profile_spawner import profile

__all__ = ["BaseAppProfile"]


class BaseAppProfile(profile.BaseAppProfile):
    """A profile as the configurator has it: one core and 1G of memory, login files in `/workspace`."""

    cpu_guarantee: Any = 1
    cpu_limit: Any = 1
    mem_guarantee: Any = "1G"
    mem_limit: Any = "1G"
    home_dir: Any = "/workspace"
    workspace_volume_size: Any = "20Gi"
    calrissian_volume_size: Any = "50Gi"
