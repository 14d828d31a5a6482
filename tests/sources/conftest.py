"""Services over folders of modules and documents."""

from __future__ import annotations

import functools
import logging
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import SourceSettings

GOOD = """
    from profile_spawner import BaseAppProfile, profile_registry

    class {name}(BaseAppProfile):
        slug = "{slug}"
        display_name = "{name}"
        description = "A profile of the tests"
        image = "{image}"

    profile_registry.register({name})
"""


CHART_VALUES = """\
singleuser:
  profileList:
    - display_name: "Default environment"
      description: "some description"
      default: True
    - display_name: "Default environment - python 3.8"
      description: "Same environment as the default but ..."
      kubespawner_override:
        image: {image}
"""
"""Values of a chart as GitOps documents show them in a ConfigMap."""


def module(slug: str, image: str = "example/image:1") -> str:
    """Return the text of a module with one good profile."""
    return textwrap.dedent(GOOD).format(slug=slug, name=slug.title().replace("-", ""), image=image)


def put(folder: Path, name: str, text: str) -> Path:
    """Write a file of a folder, dedented."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def served(snapshot: Snapshot) -> dict[str, Any]:
    """Return what users get: every profile with its digest."""
    return {slug: (entry.digest, entry.offer.display_name, entry.source) for slug, entry in snapshot.entries.items()}


def service_of(*, trial: bool = True, settle: float = 0.0, api_client: Any = None, **settings: Any) -> ProfileService:
    """Return a service with these settings; paths may be given as such."""
    values = {
        name: [str(item) for item in value] if isinstance(value, tuple) else value
        for name, value in {"watch_profiles": False, **settings}.items()
    }
    log = logging.getLogger("tests.profiles")
    return ProfileService(
        SourceSettings(**values), log=log, trial=trial, settle=settle, api_client=api_client, traits=spawner_traits
    )


@functools.cache
def spawner_traits() -> dict[str, Any]:
    """Return the traits that the hub hands in."""
    from profile_spawner.spawner import ProfileSpawner

    return ProfileSpawner.class_traits(config=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder of modules."""
    path = tmp_path / "profiles"
    path.mkdir()
    return path


@pytest.fixture
async def make_service(folder: Path) -> AsyncIterator[Callable[..., ProfileService]]:
    """Return a function that makes services and stops them afterwards."""
    made = []

    def make(**settings: Any) -> ProfileService:
        made.append(service_of(**{"profiles_dirs": (folder,), **settings}))
        return made[-1]

    yield make
    for service in made:
        await service.stop()
