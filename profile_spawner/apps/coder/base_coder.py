"""The base class of VS Code profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profile_spawner.apps.workspace import BaseWorkspaceProfile

__all__ = ["BaseCoderProfile"]

_ASSETS = Path(__file__).parent / "config_maps" / "common"


class BaseCoderProfile(BaseWorkspaceProfile):
    """VS Code in `/workspace`: code-server behind a Jupyter server, which handles the hub's login.

    The image must contain `jupyterhub-singleuser`, code-server and jupyter-server-proxy with an entry `code-server`,
    as the images `glcr.b-data.ch/jupyterlab/...` do. For an image with `jupyter-vscode-proxy` set `default_url` to
    `/vscode/`. An image with code-server alone (`codercom/code-server`) cannot be used: it cannot log in.
    """

    default_url: Any = "/code-server/?folder=/workspace"
    category: str = "VS Code"
    icon: str = "code"
    bash_login_path: Any = _ASSETS / "bash-login"
    bashrc_path: Any = _ASSETS / "bash-rc"
    init_script_path: Any = _ASSETS / "init.sh"
