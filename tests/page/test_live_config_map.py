"""The guide for a ConfigMap that Flux merges into the values of the chart, and that the hub watches as well."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.commands.test_guides import blocks

pytestmark = pytest.mark.hub


async def test_a_config_map_that_is_merged_and_watched(
    start_local_hub: Callable[..., Any], local_control_plane: Any
) -> None:
    """An edit is on the page, nothing is reported; a deleted entry is the plain list's; a misspelt key is a warning."""
    config_map, release = yaml.safe_load_all(blocks("From a ConfigMap that Flux merges", "yaml")[0])
    text = config_map["data"]["values.yaml"]
    merged = yaml.safe_load(text)["singleuser"]["profileList"]
    config = f"c.KubeSpawner.profile_list = {merged!r}\n"
    for section, settings in release["spec"]["values"]["hub"]["config"].items():
        config += f"c.{section}.update({settings!r})\n"
    namespace = await local_control_plane.new_namespace("flux")
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    async def put(text: str) -> None:
        body = {**config_map, "metadata": {**config_map["metadata"], "namespace": namespace}}
        await local_control_plane.ok("PUT", f"{path}/jhub-profiles", {**body, "data": {"values.yaml": text}})

    await local_control_plane.ok(
        "POST", path, {**config_map, "metadata": {**config_map["metadata"], "namespace": namespace}}
    )
    hub = await start_local_hub(config, namespace=namespace, env={"POD_NAMESPACE": namespace})
    browser = await hub.browser("root")

    async def until(wanted: Callable[[str], bool]) -> str:
        for _ in range(300):
            page = html.unescape((await browser.get("/hub/spawn")).text)
            if wanted(page):
                return page
            await asyncio.sleep(0.05)  # the page is the only witness
        raise AssertionError(hub.log[-3000:])

    def quiet(page: str) -> bool:
        return "alert-warning" not in page and page.count('name="profile" value=') == 2

    assert "python 3.8" in await until(quiet)
    await put(text.replace("python 3.8", "python 3.9"))
    page = await until(lambda page: "python 3.9" in page)
    assert page.count('name="profile" value=') == 3, "the slug is made of the name: the old one is in the plain list"
    await put(text.replace("some description", "another description"))
    assert quiet(await until(lambda page: "another description" in page and "python 3.9" not in page))
    await put(text.partition('        - display_name: "Default environment - python')[0])
    page = await until(lambda page: "some description" in page)
    assert quiet(page), "the deleted entry is that of the plain list, as the chart made it"
    await put(text.replace("kubespawner_override", "kubespawner_overide"))
    page = await until(lambda page: "alert-warning" in page)
    assert "Warning: configmap/jhub-profiles/values.yaml:8: profile 'default-environment-python-3-8'" in page
    assert "did you mean 'kubespawner_override'?" in page
    assert "slug is used twice" not in hub.log
    reply = await hub.api("GET", "/../metrics")
    assert 'profile_spawner_warnings{source="sources"} 1.0' in reply.text
    assert "profile_spawner_last_reload_successful 1.0" in reply.text
    await browser.close()
