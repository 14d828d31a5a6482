"""The Typer application. Every module of this package registers its commands with it."""

import typer

__all__ = ["app"]

app = typer.Typer(
    name="profile-spawner",
    help="The profile engine for JupyterHub on Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
