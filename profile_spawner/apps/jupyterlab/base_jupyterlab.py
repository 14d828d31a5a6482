"""The base class of JupyterLab profiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profile_spawner.apps.assets import load_config_map
from profile_spawner.apps.workspace import BaseWorkspaceProfile
from profile_spawner.profiles.resources import ConfigMap

__all__ = ["BaseJupyterLabProfile"]

_ASSETS = Path(__file__).parent / "config_maps"
_SETTINGS_DIR = "/opt/profile/jupyter"
_SERVER_SETTINGS = load_config_map(_ASSETS / "server", name="jupyter-settings", mount_path=_SETTINGS_DIR, render=False)


class BaseJupyterLabProfile(BaseWorkspaceProfile):
    """JupyterLab in `/workspace`, with a greeting in the terminal and a first notebook.

    The image must contain JupyterLab and `jupyterhub-singleuser`, as all images of the Jupyter Docker Stacks do
    (`quay.io/jupyter/...`). To derive from it, set `slug`, `display_name`, `description` and `image`.
    """

    default_url: Any = "/lab"
    category: str = "JupyterLab"
    icon: str = "notebook"
    bash_login_path: Any = _ASSETS / "common" / "bash-login"
    bashrc_path: Any = _ASSETS / "common" / "bash-rc"
    init_script_path: Any = _ASSETS / "common" / "init.sh"

    def get_config_maps(self) -> list[ConfigMap]:
        """Return the settings of the Jupyter server. Deleted files are removed at once, not moved to the trash."""
        return [_SERVER_SETTINGS]

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return the variables for the start-up files and for Jupyter's settings."""
        return {"JUPYTER_CONFIG_PATH": _SETTINGS_DIR, **super().get_pod_env_vars()}
