"""Built-in remote desktop profiles."""

from __future__ import annotations

from collections.abc import Sequence

from .base_remote_desktop import BaseRemoteDesktopProfile

__all__ = ["RemoteDesktopProfile"]


class RemoteDesktopProfile(BaseRemoteDesktopProfile):
    """The MATE desktop, with the image of a maintainer of jupyter-remote-desktop-proxy."""

    slug = "remote_desktop"
    display_name = "Remote desktop"
    description = "A complete Linux desktop in your browser, for programs with their own windows."
    image = "ghcr.io/manics/jupyter-desktop-mate:latest"
    cpu_guarantee = 0.5
    cpu_limit = 2
    mem_guarantee = "1G"
    mem_limit = "4G"
    tags: Sequence[str] = ("desktop",)
