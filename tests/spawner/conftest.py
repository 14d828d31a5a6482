"""Spawners without a hub: enough for everything up to the manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from traitlets.config import Config

from .stress import local_world, world  # noqa: F401 - fixtures


@pytest.fixture
def make_spawner() -> Callable[..., Any]:
    """Make a spawner of any class with `c.KubeSpawner.*` settings, as JupyterHub would."""

    def make(spawner_class: type, user_options: dict[str, Any] | None = None, **settings: Any) -> Any:
        config = Config()
        config.KubeSpawner.update(settings)
        return spawner_class(_mock=True, config=config, user_options=user_options or {})

    return make
