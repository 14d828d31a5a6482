"""`images`: prints the images of all profiles."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from profile_spawner.errors import ProfileSpawnerError

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .building import preview
from .choices import every_choice, user_for
from .loading import LoadedProfiles, loaded
from .output import Format, print_data, progress, report_problems, tell_per_user

__all__ = ["images"]


class ImageFormat(str, enum.Enum):
    """How images are printed."""

    lines = "lines"
    json = "json"
    extra_images = "extra-images"


@app.command()
def images(
    output: Annotated[
        ImageFormat,
        typer.Option("--output", help="extra-images: for the values of Zero to JupyterHub (prePuller.extraImages)."),
    ] = ImageFormat.lines,
    user: args.User = "user",
    groups: args.Groups = "",
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
) -> None:
    """Print all images of all profiles and their choices, each once, for a pre-puller.

    Those of init containers, of further containers and of what is started beside a server are among them. What users
    may type themselves is not known before. The defaults of Zero to JupyterHub are not among them.
    """
    sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    viewer = UserOptions.of(user, groups, auth_state=auth_state)
    with loaded(sources, user=viewer) as found:
        names, failures = _all_images(found, viewer)
    if found.per_user:
        tell_per_user(viewer)
    if output is ImageFormat.lines:
        for name in names:
            typer.echo(name)
    elif output is ImageFormat.json:
        typer.echo(json.dumps(names, indent=2))
    else:
        extra = {_chart_key(n, i): dict(zip(("name", "tag"), _split(n), strict=True)) for i, n in enumerate(names)}
        print_data({"prePuller": {"extraImages": extra}}, Format.yaml)
    raise typer.Exit(1 if report_problems([*failures, *found.snapshot.problems]) else 0)


def _split(image: str) -> tuple[str, str]:
    """Return name and tag as the chart joins them again: `name:tag`."""
    name, _, digest = image.partition("@")
    if digest:
        return f"{name}@{digest.partition(':')[0]}", digest.partition(":")[2]
    head, colon, tag = image.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (image, "latest")


def _chart_key(image: str, number: int) -> str:
    """Return a key that the chart accepts as part of a name."""
    from profile_spawner.names import slugify

    return f"profile-{number}-{slugify(image.rpartition('/')[2])[:40]}".rstrip("-")


def _all_images(found: LoadedProfiles, user: UserOptions) -> tuple[list[str], list[ProfileSpawnerError]]:
    """Return the images of everything that a start of any profile with any choice would create, and what went wrong."""
    seen: dict[str, None] = {}
    failures: dict[str, ProfileSpawnerError] = {}
    for entry in progress(found.snapshot.entries.values(), "Building the pods"):
        for options in every_choice(entry) if not entry.offer.unavailable else ():
            try:
                made = preview(found, entry.slug, user_for(entry, user, options))
            except ProfileSpawnerError as e:
                failures.setdefault(str(e), e)
                continue
            for document in (made.pod, *made.manifests):
                seen.update(dict.fromkeys(_images_in(document.get("spec"))))
    values = found.hub_config.values
    charts = values.images if values is not None else set()
    return [name for name in seen if name not in charts], list(failures.values())


def _images_in(spec: Any) -> Iterator[str]:
    """Yield the images of a pod's spec, or of the pods that a Deployment or the like makes."""
    if not isinstance(spec, Mapping):
        return
    for key in ("containers", "initContainers"):
        for container in spec.get(key) or ():
            if container.get("image"):
                yield container["image"]
    for inner in ("template", "jobTemplate"):
        if isinstance(spec.get(inner), Mapping):
            yield from _images_in(spec[inner].get("spec"))
