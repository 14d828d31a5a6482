"""`schema`: prints the JSON Schema of profile documents."""

from __future__ import annotations

import json

import typer

from .app import app

__all__ = ["schema"]


@app.command()
def schema() -> None:
    """Print the JSON Schema of profile documents (YAML), for editors and for checks."""
    from profile_spawner.sources.schema import document_schema

    typer.echo(json.dumps(document_schema(), indent=2, ensure_ascii=False))
