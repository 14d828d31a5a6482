"""The family of remote desktops, as the configurator has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...apps.base import WorkspaceProfile

__all__ = ["BaseRemoteDesktopProfile"]


class BaseRemoteDesktopProfile(WorkspaceProfile):
    """A desktop in the browser with a workspace."""

    image: Any = "ghcr.io/eoepca/iga-remote-desktop:1.2.0"
    default_url: Any = "/desktop"
    storage_class_rwx: Any = "standard"
    base_path = str(Path(__file__).parent)
    manifests_path = str(Path(__file__).parent / "manifests")
    bash_login_path: Any = str(Path(__file__).parent / "config_maps" / "common" / "bash-login")
    bashrc_path: Any = str(Path(__file__).parent / "config_maps" / "common" / "bash-rc")
    init_script_path: Any = str(Path(__file__).parent / "config_maps" / "common" / "init.sh")
    pod_env_vars: Any = {
        **WorkspaceProfile.pod_env_vars,
        "CONDA_ENVS_PATH": "/workspace/.envs",
        "CONDARC": "/workspace/.condarc",
    }
