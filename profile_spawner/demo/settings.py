"""The settings of a demo, and its users."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CONFIG_MAP_LABEL", "NAMESPACE", "DemoSettings", "DemoUser", "make_users"]

CONFIG_MAP_LABEL = "profile-spawner=profiles"
"""The label of ConfigMaps with profiles."""

NAMESPACE = "jupyterhub"
"""The namespace of the demo's servers in the local cluster."""


@dataclass(frozen=True)
class DemoUser:
    """A user who can log in.

    Attributes:
        name: The user name.
        password: The password, made for this run.
        groups: The JupyterHub groups.
        admin: Whether the user is an administrator.
    """

    name: str
    password: str = field(repr=False)
    groups: tuple[str, ...] = ()
    admin: bool = False


def make_users() -> tuple[DemoUser, ...]:
    """Return the users of one run: a plain one, one in the groups `gpu` and `research`, and an administrator."""
    shared = secrets.token_urlsafe(9)
    # JupyterHub asks for 32 characters here.
    own = secrets.token_urlsafe(24)
    return (
        DemoUser("ada", shared),
        DemoUser("grace", shared, ("gpu", "research")),
        DemoUser("admin", own, admin=True),
    )


@dataclass(frozen=True)
class DemoSettings:
    """The settings from the command line.

    Attributes:
        port: Where the hub is reached, on 127.0.0.1; 0 takes a free port.
        profiles_dirs: Folders with profiles; empty takes the example profiles, copied to where they can be edited.
        configurator_compat: Whether modules that were written for the EOEPCA configurator are loaded.
        config_maps: Whether ConfigMaps with the label `CONFIG_MAP_LABEL` are a source of profiles, too.
        state_dir: Keeps database, volumes and profiles between runs; `None` keeps nothing.
        info_file: Where address, users and kubeconfig are written as JSON.
        kubeconfig: A kubeconfig of a real cluster to use instead of the local one.
        namespace: The namespace in that cluster; `None` takes the one of the kubeconfig's context.
        hub_address: The address of this machine as the pods of that cluster see it.
        browser: Whether the page is opened in a browser.
        gpus: The number of simulated GPUs of the local cluster.
        verbose: Whether the hub's whole log is shown.
    """

    port: int = 8000
    profiles_dirs: tuple[Path, ...] = ()
    configurator_compat: bool = False
    config_maps: bool = False
    state_dir: Path | None = None
    info_file: Path | None = None
    kubeconfig: Path | None = None
    namespace: str | None = None
    hub_address: str = "127.0.0.1"
    browser: bool = False
    gpus: int = 4
    verbose: bool = False
