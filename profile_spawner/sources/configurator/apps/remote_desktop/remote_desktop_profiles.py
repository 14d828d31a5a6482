"""The ready-made remote desktops of the configurator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...apps.app_helpers import get_config_map
from ...apps.remote_desktop.base_remote_desktop import BaseRemoteDesktopProfile

__all__ = ["DesktopPanoplyProfile", "DesktopProfile", "DesktopQgisProfile", "DesktopSnapProfile"]

_FILES = Path(__file__).parent / "config_maps"


class DesktopProfile(BaseRemoteDesktopProfile):
    """A desktop."""

    slug = "remote_desktop"
    display_name = "Remote Desktop"
    description = "Linux desktop environment via web browser (noVNC)"


class DesktopQgisProfile(BaseRemoteDesktopProfile):
    """A desktop with QGIS."""

    slug = "qgis_remote_desktop"
    display_name = "QGIS Remote Desktop"
    description = "Linux desktop environment with QGIS via web browser"
    image = "ghcr.io/eoepca/iga-remote-desktop-qgis:latest"


class DesktopPanoplyProfile(BaseRemoteDesktopProfile):
    """A desktop with Panoply."""

    slug = "panoply_remote_desktop"
    display_name = "Panoply Remote Desktop"
    description = "Linux desktop environment with Panoply via web browser"
    image = "ghcr.io/eoepca/iga-remote-desktop-panoply:latest-dev"


class DesktopSnapProfile(BaseRemoteDesktopProfile):
    """A desktop with SNAP, whose settings are in two files."""

    SHORTER_FILES = {
        "snap_conf": "snap.conf (SNAP gets at most 4G of memory instead of 10G)",
        "snap_properties": "snap.properties (fewer settings)",
    }
    slug = "snap_remote_desktop"
    display_name = "Snap Remote Desktop"
    description = "Linux desktop environment with Snap via web browser"
    image = "ghcr.io/eoepca/iga-remote-desktop-snap:latest-dev"
    snap_conf, snap_properties = (
        get_config_map(
            _FILES / "snap_remote_desktop" / f"snap.{end}",
            name=f"snap-{end}",
            slug="snap_remote_desktop",
            key=f"snap.{end}",
            mount_path=f"/usr/local/snap/etc/snap.{end}",
            default_mode="0644",
            persist=False,
        )
        for end in ("conf", "properties")
    )

    def get_config_maps(self) -> list[Any]:
        """Return the settings of SNAP."""
        return [*super().get_config_maps(), self.snap_conf, self.snap_properties]

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return the variables of the family, and drawing without a GPU."""
        return {**super().get_pod_env_vars(), "LIBGL_ALWAYS_SOFTWARE": "1", "HOME": "/workspace"}
