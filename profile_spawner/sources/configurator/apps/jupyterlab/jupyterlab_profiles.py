"""The ready-made JupyterLab profile of the configurator."""

from __future__ import annotations

from pathlib import Path

from ...apps.jupyterlab.base_jupyterlab import BaseJupyterLabProfile

__all__ = ["JupyterLabSmallProfile"]


class JupyterLabSmallProfile(BaseJupyterLabProfile):
    """JupyterLab."""

    slug = "jupyterlab_small"
    display_name = "JupyterLab Small"
    description = "JupyterLab environment with essential data science tools"
    bashrc_path = str(Path(__file__).parent / "config_maps" / "common" / "bash-rc")
