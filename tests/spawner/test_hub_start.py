"""What a hub has from its start on, before anyone has looked at a page."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner.page.static_files import static_url

pytestmark = [pytest.mark.hub, pytest.mark.hub5]

OTHER_SPAWNER = "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\n"
LISTED = "c.KubeSpawner.profile_list = [{'display_name': 'Small lab', 'slug': 'small'}]\n"


async def test_the_pages_routes_exist_at_once(start_local_hub: Any) -> None:
    """A page that was opened before a restart of the hub finds its files and its search again."""
    hub = await start_local_hub(LISTED)
    await hub.user("ada")
    browser = await hub.browser("ada")
    assert (await browser.get(f"{static_url('/hub/')}/page.css")).status == 200
    found = await browser.get("/hub/profile-spawner/profiles?q=small&fragment=1")
    assert found.status == 200
    assert "Small lab" in found.text
    await browser.close()


async def test_a_hub_with_another_spawner_has_no_search(start_local_hub: Any) -> None:
    """JupyterHub imports every installed spawner class, so the route exists there, too."""
    hub = await start_local_hub(LISTED + OTHER_SPAWNER)
    await hub.user("ada")
    browser = await hub.browser("ada")
    assert (await browser.get("/hub/profile-spawner/profiles?q=small&fragment=1")).status == 404
    await browser.close()
