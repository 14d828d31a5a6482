"""`profile-spawner demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from . import arguments as args
from .app import app

__all__ = ["demo"]


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Where the hub is reached, on 127.0.0.1. 0 takes a free port.")] = 8000,
    profiles_dir: Annotated[
        list[Path] | None,
        typer.Option(help="A folder with profiles; may be repeated.", exists=True, file_okay=False, metavar="DIR"),
    ] = None,
    configurator_compat: args.Compat = False,
    config_maps: Annotated[
        bool,
        typer.Option("--config-maps", help="Offer the profiles in ConfigMaps with the label profile-spawner=profiles."),
    ] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Keep database, volumes and profiles here between runs.", file_okay=False, metavar="DIR"),
    ] = None,
    info_file: Annotated[
        Path | None,
        typer.Option(help="Write address, users and kubeconfig to this file, as JSON.", dir_okay=False, metavar="FILE"),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Use this cluster instead of the local one.", exists=True, dir_okay=False, metavar="FILE"),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="With --kubeconfig: the namespace for servers; the context's own by default.")
    ] = None,
    hub_address: Annotated[
        str, typer.Option(help="With --kubeconfig: an address of this machine that pods can reach.")
    ] = "127.0.0.1",
    gpus: Annotated[int, typer.Option(help="How many GPUs the local cluster pretends to have.", min=0)] = 4,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = False,
    verbose: Annotated[bool, typer.Option(help="Show the hub's whole log.")] = False,
) -> None:
    """Run a hub with example profiles on this machine, with a small Kubernetes of its own.

    Nothing is installed, nothing listens beyond this machine, and Ctrl-C leaves nothing behind.
    """
    from rich.console import Console

    from profile_spawner.demo import DemoSettings, run_demo

    settings = DemoSettings(
        port=port,
        profiles_dirs=tuple(profiles_dir or ()),
        configurator_compat=configurator_compat,
        config_maps=config_maps,
        state_dir=state_dir,
        info_file=info_file,
        kubeconfig=kubeconfig,
        namespace=namespace,
        hub_address=hub_address,
        browser=browser,
        gpus=gpus,
        verbose=verbose,
    )
    raise typer.Exit(asyncio.run(run_demo(settings, Console())))
