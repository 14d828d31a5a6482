"""The objects that a hub's spawners share, including the page, and their start together with the hub."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import weakref
from typing import Any

from traitlets.config import Config

from profile_spawner.hub.hub_profiles import HubProfiles
from profile_spawner.hub.settings import ENV_HUB_ID
from profile_spawner.page.hub_pages import HubPages

from .seams import call_when_initialized

__all__ = ["SpawnerHub", "hub_profiles", "start_with_hub"]

_log = logging.getLogger(__name__)
_hubs: list[tuple[weakref.ref[Config], SpawnerHub]] = []


class SpawnerHub(HubProfiles):
    """The objects that exist once per hub, including the spawn page.

    Attributes:
        pages: What the hub keeps for its spawn pages.
    """

    def __init__(self, config: Config, spawner_class: Any, log: Any = _log) -> None:
        traits = functools.cache(functools.partial(spawner_class.class_traits, config=True))
        super().__init__(config, tuple(spawner_class.section_names()), log, traits)
        self.pages = HubPages(self.settings, log)


def hub_profiles(config: Config | None, spawner_class: Any, log: Any = _log) -> SpawnerHub:
    """Return the shared parts of the hub with this configuration object, made at the first call.

    Args:
        config: The hub's configuration.
        spawner_class: The class whose configuration sections are read.
        log: The hub's logger.
    """
    config = config if config is not None else Config()
    for reference, hub in _hubs:
        if reference() is config:
            return hub
    _hubs[:] = [(reference, hub) for reference, hub in _hubs if reference() is not None]
    made = SpawnerHub(config, spawner_class, log)
    _hubs.append((weakref.ref(config), made))
    return made


def start_with_hub(spawner_class: Any) -> None:
    """Load and watch the profiles from the hub's start on. Outside of a hub, the first page or spawn loads them."""

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(_start_when_configured(spawner_class))
        _pending.add(task)
        task.add_done_callback(_pending.discard)

    call_when_initialized(begin)


_pending: set[asyncio.Task[None]] = set()


async def _start_when_configured(spawner_class: Any) -> None:
    # The configuration is read synchronously, so one turn of the loop later it is complete.
    await asyncio.sleep(0)
    hub_class = getattr(sys.modules.get("jupyterhub.app"), "JupyterHub", None)
    if hub_class is None or not hub_class.initialized():
        return
    app = hub_class.instance()
    configured: Any = app.spawner_class
    if not (isinstance(configured, type) and issubclass(configured, spawner_class)):
        return
    hub = hub_profiles(app.config, configured, app.log)
    # Also without sources: SIGHUP requests a reload, and its default action would end the hub.
    hub.service.handle_sighup()
    if not hub.has_own_id:
        hub.log.warning(
            "This hub has no identity of its own; it uses %r, the name of its namespace. If a second hub starts "
            "servers in the same namespace, set c.ProfileSpawner.hub_id or %s to different values in both. "
            "Otherwise each takes servers and claims of users with the same name for its own. See docs/operators.md",
            hub.settings.hub_id,
            ENV_HUB_ID,
        )
    if hub.has_sources:
        await hub.service.start()
        # Unused objects of an earlier run are removed even if no server is started. The spawner without a user only
        # knows the configured namespace and the way to the API server.
        spawner = configured(_mock=True, config=app.config)
        if hub.pages.capacity is not None and spawner.api is not None:
            hub.pages.capacity.start(lambda: spawner.api.api_client)
        if not spawner.enable_user_namespaces:
            spawner.keep_house()
            hub.rights.watch(
                spawner.api.api_client,
                spawner.namespace,
                lambda: hub.service.snapshot,
                delete_claims=spawner.delete_pvc,
            )
