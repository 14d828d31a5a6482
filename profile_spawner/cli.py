"""The command line: `profile-spawner COMMAND`.

Every command imports its dependencies when it is called, so that `--help` is fast. Most commands need neither a hub nor
a cluster.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from profile_spawner.commands.building import manifests, pod
from profile_spawner.commands.demo import demo
from profile_spawner.commands.diffing import diff
from profile_spawner.commands.dumping import dump
from profile_spawner.commands.explaining import explain
from profile_spawner.commands.importing import app as importing
from profile_spawner.commands.listing import images, list_profiles, schema, show
from profile_spawner.commands.rights import rbac
from profile_spawner.commands.scaffolding import new
from profile_spawner.commands.validating import validate
from profile_spawner.errors import ProfileSpawnerError

__all__ = ["app", "main"]

app = typer.Typer(
    name="profile-spawner",
    help="The profile engine for JupyterHub on Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"profile-spawner {version('jupyterhub-profile-spawner')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """The profile engine for JupyterHub on Kubernetes."""


app.command("list")(list_profiles)
for _command in (show, new, validate, explain, pod, manifests, rbac, images, dump, diff, schema, demo):
    app.command()(_command)
app.add_typer(importing)


def main() -> None:
    """Run the command line. For a user error, print one message without a traceback and exit with code 1."""
    try:
        app()
    except ProfileSpawnerError as e:
        message = str(e)
    except OSError as e:
        message = ": ".join(str(part) for part in (e.filename, e.strerror or e) if part)
    else:
        return
    typer.secho(f"Error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(1)
