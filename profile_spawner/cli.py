"""The command line: `profile-spawner COMMAND`.

Every command imports its dependencies when it is called, so that `--help` is fast. Most commands need neither a hub nor
a cluster.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from profile_spawner.commands.app import app
from profile_spawner.commands.output import place
from profile_spawner.errors import ProfileSpawnerError

__all__ = ["app", "main"]

_MODULES = (
    "listing",
    "scaffolding",
    "validating",
    "explaining",
    "building",
    "rights",
    "images",
    "dumping",
    "diffing",
    "schema",
    "demo",
    "importing",
)
"""The modules of `profile_spawner.commands` that have commands, in the order of `--help`."""

for _module in _MODULES:
    import_module(f"profile_spawner.commands.{_module}")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"profile-spawner {version('jupyterhub-profile-spawner')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """The profile engine for JupyterHub on Kubernetes."""


def main() -> None:
    """Run the command line. For a user error, print one message without a traceback and exit with code 1."""
    try:
        app()
    except ProfileSpawnerError as e:
        message = place(e)
    except OSError as e:
        message = ": ".join(str(part) for part in (e.filename, e.strerror or e) if part)
    else:
        return
    typer.secho(f"Error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(1)
