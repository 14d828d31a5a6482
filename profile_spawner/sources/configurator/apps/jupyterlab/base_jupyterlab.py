"""The family of JupyterLab profiles, as the configurator has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...apps.base import WorkspaceProfile

__all__ = ["BaseJupyterLabProfile"]


class BaseJupyterLabProfile(WorkspaceProfile):
    """JupyterLab with a workspace."""

    image: Any = "ghcr.io/eoepca/iat-jupyterlab:latest-dev"
    base_path = str(Path(__file__).parent)
    manifests_path = str(Path(__file__).parent / "manifests")
    bash_login_path: Any = str(Path(__file__).parent / "config_maps" / "common" / "bash-login")
