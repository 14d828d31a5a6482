"""A ConfigMap that is edited with kubectl, seen in a browser."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.hub import PASSWORD, start_hub

pytestmark = [
    pytest.mark.hub,
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

DOCUMENT = "slug: edited\ndisplay_name: {name}\ndescription: From a ConfigMap\nimage: a:1\n"


async def test_edited_broken_and_mended_with_kubectl(
    page: Any, control_plane: Any, namespace: str, tmp_path: Path
) -> None:
    """On the local cluster and on a real API server: live at once, and a mistake takes nothing away."""
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", namespace=namespace)
    config = (
        "c.ProfileSpawner.profile_config_maps = 'profile-spawner=profiles'\n"
        f"c.ProfileSpawner.profile_config_maps_namespace = {namespace!r}\n"
    )

    async def kubectl(*words: str) -> str:
        argv = ["kubectl", "--kubeconfig", str(kubeconfig), *words]
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={"HOME": str(tmp_path)}
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    async def write(text: str) -> None:
        metadata = {"name": "profiles", "labels": {"profile-spawner": "profiles"}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"edited.yaml": text}}
        path = tmp_path / "config-map.json"
        path.write_text(json.dumps(body))
        await kubectl("apply", "-f", str(path))

    async def until(text: str) -> None:
        for _ in range(200):
            await page.reload()
            if text in await page.locator("#ps-page").inner_text():
                return
            await asyncio.sleep(0.1)  # the page is the only witness
        raise AssertionError(f"{text!r} does not appear: {hub.log[-2000:]}")

    hub = await start_hub(tmp_path / "hub", kubeconfig, namespace, config)
    try:
        await page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Fspawn")
        await page.fill("#username_input", "root")
        await page.fill("#password_input", PASSWORD)
        await page.click("[type=submit]")
        await page.wait_for_selector("#ps-page", state="attached")
        await until("matches 0 ConfigMaps in namespace")
        await write(DOCUMENT.format(name="First"))
        await until("First")
        await write(DOCUMENT.format(name="Second"))
        await until("Second")
        await write(DOCUMENT.format(name="Third").replace("image:", "imag:"))
        await until("imag")
        shown = await page.locator("#ps-page").inner_text()
        assert "Second" in shown, "the last good profile stays"
        assert "edited.yaml:4" in shown, "and the administrator reads where the mistake is"
        for _ in range(100):
            described = await kubectl("describe", "configmap", "profiles")
            if "ProfilesRejected" in described:
                break
            await asyncio.sleep(0.1)
        assert "ProfilesRejected" in described
        await write(DOCUMENT.format(name="Mended"))
        await until("Mended")
        await kubectl("delete", "configmap", "profiles")
        await until("No profile is available")
        await until("matches 0 ConfigMaps in namespace")
    finally:
        await hub.close()
