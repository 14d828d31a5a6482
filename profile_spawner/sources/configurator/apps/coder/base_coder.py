"""The family of code-server profiles, as the configurator has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profile_spawner.profiles.resources import Volume, VolumeMount

from ...apps.base import WorkspaceProfile

__all__ = ["BaseCoderProfile"]


class BaseCoderProfile(WorkspaceProfile):
    """code-server with a workspace and a scratch volume for workflow runs.

    The roles that the configurator's family gives to the account `default` are left out: the hub's policy decides on
    roles, and a plug-in that needs some returns them from `get_role_bindings()`.
    """

    image: Any = "ghcr.io/eoepca/pde-code-server:latest-dev"
    storage_class_rwx: Any = "standard"
    base_path = str(Path(__file__).parent)
    manifests_path = str(Path(__file__).parent / "manifests")
    bash_login_path: Any = str(Path(__file__).parent.parent / "bash-login")

    def get_default_volumes(self) -> list[Volume]:
        """Return the scratch volume, which goes with the server, and the workspace."""
        scratch = Volume(
            name="calrissian-volume",
            claim_name="calrissian-claim",
            size=self.calrissian_volume_size,
            storage_class=self.storage_class_rwx,
            access_modes=("ReadWriteMany",),
            volume_mount=VolumeMount(name="calrissian-volume", mount_path="/calrissian"),
            persist=False,
        )
        return [scratch, *super().get_default_volumes()]
