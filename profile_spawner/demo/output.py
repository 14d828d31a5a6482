"""The messages of the demo for its user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .settings import CONFIG_MAP_LABEL, DemoUser

__all__ = ["announce", "announce_stop", "noteworthy"]

_ABOUT_PROFILES = re.compile(r"\[[IWEC] [^\]]*\] (Profiles: .*)")
_WARNING = re.compile(r"\[[WEC] ")
_EXPECTED = re.compile(
    r"allow_all|not meant for production|without SSL|should_start|deprecat|No such config file|Received signal|"
    r"Skipping XSRF check|40[0-9] "
)
"""Warnings that JupyterHub logs in every demo, and errors that the browser shows anyway."""


def noteworthy(line: str) -> str:
    """Return what a user of the demo should see of a line of the hub's log; empty for nothing.

    These are lines about profiles, warnings and errors.
    """
    about_profiles = _ABOUT_PROFILES.match(line)
    if about_profiles is not None:
        return about_profiles[1]
    return line if _WARNING.match(line) is not None and _EXPECTED.search(line) is None else ""


def announce(
    console: Console,
    url: str,
    users: Sequence[DemoUser],
    kubeconfig: Path,
    profiles_dirs: Sequence[Path],
    log_path: Path,
    *,
    config_maps: bool = False,
) -> None:
    """Print the addresses and files of the demo."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("User")
    table.add_column("Password")
    table.add_column("Groups")
    for user in users:
        groups = ", ".join((*user.groups, *(("administrator",) if user.admin else ())))
        table.add_row(f"[bold]{user.name}[/bold]", user.password, groups or "-")
    console.print()
    console.print(f"The hub is at [bold link={url}]{url}[/]", highlight=False)
    console.print()
    console.print(table, highlight=False)
    console.print()
    lines = [
        *(f"Profiles:   {path}" for path in profiles_dirs),
        f"Hub's log:  {log_path}",
        f"Cluster:    kubectl --kubeconfig {kubeconfig} get pods",
        *(
            [f"ConfigMaps: kubectl --kubeconfig {kubeconfig} label configmap NAME {CONFIG_MAP_LABEL}"]
            if config_maps
            else ()
        ),
        "",
        "Edit a profile and reload the page. Ctrl-C stops everything.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def announce_stop(console: Console) -> None:
    """Print that the demo is stopping."""
    console.print("\nStopping the servers and the hub …", highlight=False)
