"""The objects that a hub's spawners share, including the page, and their start together with the hub."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import weakref
from typing import Any

from traitlets.config import Config

from profile_spawner.hub.profile_service import HubProfiles
from profile_spawner.page.hub_pages import HubPages

__all__ = ["SpawnerHub", "hub_profiles", "start_with_hub"]

_log = logging.getLogger(__name__)
_hubs: list[tuple[weakref.ref[Config], SpawnerHub]] = []


class SpawnerHub(HubProfiles):
    """The objects that exist once per hub, including the spawn page.

    Attributes:
        pages: What the hub keeps for its spawn pages.
    """

    def __init__(self, config: Config, sections: tuple[str, ...], log: Any = _log) -> None:
        super().__init__(config, sections, log)
        self.pages = HubPages(self.settings, log)


def hub_profiles(config: Config | None, sections: tuple[str, ...], log: Any = _log) -> SpawnerHub:
    """Return the shared parts of the hub with this configuration object, made at the first call."""
    config = config if config is not None else Config()
    for reference, hub in _hubs:
        if reference() is config:
            return hub
    _hubs[:] = [(reference, hub) for reference, hub in _hubs if reference() is not None]
    made = SpawnerHub(config, sections, log)
    _hubs.append((weakref.ref(config), made))
    return made


def start_with_hub(spawner_class: Any) -> None:
    """Load and watch the profiles from the hub's start on, when this module is imported by a starting hub.

    JupyterHub has no hook for this. It imports every installed spawner class while it makes its application object,
    before there is an event loop, and otherwise while it reads its configuration inside the loop. Outside of a hub
    nothing happens: the first page or spawn loads the profiles then.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        app_module = sys.modules.get("jupyterhub.app")
        if hasattr(app_module, "JupyterHub"):
            _start_after_initialize(app_module.JupyterHub, spawner_class)  # type: ignore[union-attr]
        return
    _start_in(loop, spawner_class)


def _start_in(loop: asyncio.AbstractEventLoop, spawner_class: Any) -> None:
    task = loop.create_task(_start_when_configured(spawner_class))
    _pending.add(task)
    task.add_done_callback(_pending.discard)


def _start_after_initialize(app_class: Any, spawner_class: Any) -> None:
    """Have the hub load the profiles as soon as it has read its configuration."""
    initialize = app_class.initialize

    @functools.wraps(initialize)
    async def initialize_and_start(app: Any, *args: Any, **kwargs: Any) -> Any:
        result = await initialize(app, *args, **kwargs)
        _start_in(asyncio.get_running_loop(), spawner_class)
        return result

    app_class.initialize = initialize_and_start


_pending: set[asyncio.Task[None]] = set()


async def _start_when_configured(spawner_class: Any) -> None:
    # The configuration is read synchronously, so one turn of the loop later it is complete.
    await asyncio.sleep(0)
    hub_class = getattr(sys.modules.get("jupyterhub.app"), "JupyterHub", None)
    if hub_class is None or not hub_class.initialized():
        return
    app = hub_class.instance()
    configured: Any = app.spawner_class
    sections: Any = configured.section_names() if hasattr(configured, "section_names") else ()
    if not (isinstance(configured, type) and issubclass(configured, spawner_class)):
        return
    hub = hub_profiles(app.config, tuple(sections), app.log)
    # Also without sources: SIGHUP requests a reload, and its default action would end the hub.
    hub.service.handle_sighup()
    if hub.has_sources:
        await hub.service.start()
        # Unused objects of an earlier run are removed even if no server is started. The spawner without a user only
        # knows the configured namespace and the way to the API server.
        spawner = configured(_mock=True, config=app.config)
        if hub.pages.capacity is not None and spawner.api is not None:
            hub.pages.capacity.start(lambda: spawner.api.api_client)
        if not spawner.enable_user_namespaces:
            spawner.keep_house()
            hub.rights.watch(spawner.api.api_client, spawner.namespace, lambda: hub.service.snapshot)
