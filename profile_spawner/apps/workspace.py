"""What the built-in families have in common: a home on a volume of its own, and a shell that knows its profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_spawner.profile import BaseAppProfile
from profile_spawner.resources import Volume, VolumeMount

__all__ = ["GPU", "BaseWorkspaceProfile"]

GPU = "nvidia.com/gpu"
"""The resource that the NVIDIA device plug-in offers, one for each GPU."""


class BaseWorkspaceProfile(BaseAppProfile):
    """A family of families: the home is `/workspace`, a claim that outlives the server.

    The claim is the same for all profiles and servers of a user, so that files are where they were left. Its size and
    class are those of the profile that made it. The volumes of the hub's own configuration stay as well.

    The start-up files of the families read these variables: `PROFILE_NAME` (the display name), `PROFILE_USER` and
    `PROFILE_GPUS`, and those of JupyterHub itself: `CPU_LIMIT` (cores) and `MEM_LIMIT` (bytes).
    """

    home_dir: Any = "/workspace"
    workspace_volume_size: Any = "20Gi"

    def get_default_volumes(self) -> list[Volume]:
        """Return the workspace; no volume at all when `workspace_volume_size` is `None`."""
        if self.workspace_volume_size is None:
            return []
        return [
            Volume(
                name="workspace-volume",
                claim_name="workspace-claim",
                size=self.workspace_volume_size,
                storage_class=self.storage_class_rwo,
                access_modes=("ReadWriteOnce",),
                volume_mount=VolumeMount(name="workspace-volume", mount_path=self.home_dir),
                persist=True,
            )
        ]

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return what the start-up files read, and `pod_env_vars` on top."""
        return {
            "PROFILE_NAME": self.display_name,
            "PROFILE_USER": "{{ username }}",
            "PROFILE_GPUS": str(self.extra_resource_limits.get(GPU, "0")),
            "SHELL": "/bin/bash",
            **self.pod_env_vars,
        }
