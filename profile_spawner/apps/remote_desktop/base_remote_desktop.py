"""The base class of remote desktop profiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profile_spawner.apps.workspace import BaseWorkspaceProfile

__all__ = ["BaseRemoteDesktopProfile"]

_ASSETS = Path(__file__).parent / "config_maps" / "common"


class BaseRemoteDesktopProfile(BaseWorkspaceProfile):
    """A Linux desktop with its home in `/workspace`, shown by `jupyter-remote-desktop-proxy`.

    The image must contain `jupyterhub-singleuser`, jupyter-remote-desktop-proxy (1.1 or newer), a VNC server and a
    desktop environment. Further images of the kind are those of https://quay.io/organization/jupyter-remote-desktop-proxy
    (`base`, `qgis`).
    """

    default_url: Any = "/desktop/"
    category: str = "Desktop"
    icon: str = "desktop"
    bash_login_path: Any = _ASSETS / "bash-login"
    bashrc_path: Any = _ASSETS / "bash-rc"
    init_script_path: Any = _ASSETS / "init.sh"

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return the variables for the start-up files, and the folders for the desktop's settings in the workspace."""
        return {
            "XDG_CONFIG_HOME": f"{self.home_dir}/.config",
            "XDG_DATA_HOME": f"{self.home_dir}/.local/share",
            **super().get_pod_env_vars(),
        }
