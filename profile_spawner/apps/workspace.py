"""The common base of the built-in families: a home directory on a persistent volume, and start-up files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.resources import Volume, VolumeMount

__all__ = ["GPU", "BaseWorkspaceProfile", "workspace_volume"]

GPU = "nvidia.com/gpu"
"""The resource name of NVIDIA's device plug-in. One unit is one GPU."""


def workspace_volume(size: Any, storage_class: str | None, mount_path: str) -> Volume:
    """Return the workspace of a user: a claim that is kept when the server stops.

    Args:
        size: A Kubernetes quantity.
        storage_class: The cluster's default class if it is `None`.
        mount_path: Where it is mounted.
    """
    return Volume(
        name="workspace-volume",
        claim_name="workspace-claim",
        size=size,
        storage_class=storage_class,
        volume_mount=VolumeMount(name="workspace-volume", mount_path=mount_path),
    )


class BaseWorkspaceProfile(BaseAppProfile):
    """The base class of the families. The home is `/workspace`, on a claim that is kept when the server stops.

    All profiles and servers of a user share the claim. Its size and class come from the profile that created it. The
    volumes of the hub's configuration are also mounted.

    The start-up files of the families read these variables: `PROFILE_NAME` (the display name), `PROFILE_USER` and
    `PROFILE_GPUS`, and those of JupyterHub itself: `CPU_LIMIT` (cores) and `MEM_LIMIT` (bytes).
    """

    home_dir: Any = "/workspace"
    workspace_volume_size: Any = "20Gi"

    def get_default_volumes(self) -> list[Volume]:
        """Return the workspace volume, or no volume if `workspace_volume_size` is `None`."""
        if self.workspace_volume_size is None:
            return []
        return [workspace_volume(self.workspace_volume_size, self.storage_class_rwo, self.home_dir)]

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return the variables for the start-up files, updated with `pod_env_vars`."""
        return {
            "PROFILE_NAME": self.display_name,
            "PROFILE_USER": self.user.name,
            "PROFILE_GPUS": str(self.extra_resource_limits.get(GPU, "0")),
            "SHELL": "/bin/bash",
            **self.pod_env_vars,
        }
