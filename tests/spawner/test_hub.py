"""A real hub spawns real pods of profile classes on the local cluster."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.sources.test_configurator import SEED

pytestmark = [pytest.mark.hub, pytest.mark.hub5]

LAB = """
from profile_spawner import BaseAppProfile, ConfigMap, Volume, VolumeMount, profile_registry


@profile_registry.register
class Lab(BaseAppProfile):
    slug = "lab"
    display_name = "GPU lab"
    description = "A lab with a GPU"
    image = "quay.io/jupyter/base-notebook:latest"
    cpu_limit = 2
    mem_limit = "2G"
    home_dir = "/workspace"
    pod_env_vars = {"PROFILE": "{{ profile }}", "JSON": '{"a": 1}', "WHO": "{{ username }}"}
    extra_resource_limits = {"nvidia.com/gpu": "1"}
    node_selector = {}

    def get_default_volumes(self):
        return [Volume(name="work", claim_name="work", size="1Gi", volume_mount=VolumeMount(mount_path="/workspace"))]

    def get_config_maps(self):
        return [ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd.d/lab")]


@profile_registry.register
class Small(BaseAppProfile):
    slug = "small"
    display_name = "Small"
    description = "Small"
    image = "small:1"
"""


async def objects(hub: Any, kind: str) -> list[Any]:
    """List what is in the hub's namespace."""
    listed = await hub.plane.ok("GET", f"/api/v1/namespaces/{hub.namespace}/{kind}")
    return list(listed["items"])


async def test_a_profile_class_reaches_the_pod(start_local_hub: Any, tmp_path: Path) -> None:
    """Environment, limits, GPU, volumes and files of the chosen profile; gone after the stop, but for the claim."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "lab.py").write_text(LAB)
    for number, text in enumerate(SEED):
        (profiles / f"_of_the_configurator_{number}.py").write_text(textwrap.dedent(text))
    hub = await start_local_hub(
        f"""
        c.ProfileSpawner.profiles_dirs = [{str(profiles)!r}]
        c.ProfileSpawner.configurator_compat = True
        c.ProfileSpawner.shared_grace_period = 1
        c.ProfileSpawner.sweep_interval = 1
        """
    )
    await hub.user("ada")
    reply = await hub.api("POST", "/users/ada/server", {"profile": "lab"})
    assert reply.status in (201, 202), reply.text
    model = await hub.until_ready("ada")
    assert model["ready"], model["events"]
    (pod,) = await objects(hub, "pods")
    container = pod["spec"]["containers"][0]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert (env["PROFILE"], env["WHO"], env["JSON"]) == ("lab", "ada", '{"a": 1}')
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/workspace", "/etc/motd.d/lab"}
    assert pod["metadata"]["labels"]["hub.jupyter.org/profile"] == "lab"
    maps = [m for m in await objects(hub, "configmaps") if m["metadata"]["name"] != "kube-root-ca.crt"]
    assert len(maps) == 1
    assert maps[0]["immutable"] is True

    assert (await hub.api("DELETE", "/users/ada/server")).status in (202, 204)
    while (await hub.server("ada") or {}).get("pending") or await objects(hub, "pods"):
        pass
    assert len(await objects(hub, "persistentvolumeclaims")) == 1

    reply = await hub.api("POST", "/users/ada/server", {"profile": "small"})
    assert (await hub.until_ready("ada"))["ready"]
    (pod,) = await objects(hub, "pods")
    container = pod["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in container["resources"].get("limits", {})
    assert not pod["spec"].get("volumes")
    assert "PROFILE" not in {e["name"] for e in container["env"]}

    await hub.user("grace")  # the examples of the configurator's guide are profiles as well
    assert (await hub.api("POST", "/users/grace/server", {"profile": "my_profile"})).status in (201, 202)
    assert (await hub.until_ready("grace"))["ready"]
    (container,) = [p["spec"]["containers"][0] for p in await objects(hub, "pods") if "grace" in p["metadata"]["name"]]
    assert (container["image"], container["workingDir"]) == ("ghcr.io/example/my-profile:latest", "/workspace")
    assert {m["mountPath"] for m in container["volumeMounts"]} == {
        "/calrissian",
        "/workspace",
        "/workspace/.bash_login",
    }


async def test_mistakes_cost_nothing(start_local_hub: Any, tmp_path: Path) -> None:
    """Wrong options are answered with 400 on every way in, write nothing, and do not end the hub."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "lab.py").write_text(LAB)
    hub = await start_local_hub(
        f"""
        c.ProfileSpawner.profiles_dirs = [{str(profiles)!r}]
        c.Spawner.consecutive_failure_limit = 1
        """
    )
    await hub.user("ada")
    for body in ({"profile": "nope"}, {"profile": "lab", "x": 1}, {"profile": ["lab"]}, {"profile": "lab", "a": None}):
        reply = await hub.api("POST", "/users/ada/server", body)
        assert reply.status == 400, reply.text
    browser = await hub.browser("ada")
    page = await browser.get("/hub/spawn")
    assert page.status == 200
    assert "GPU lab" in page.text
    reply = await browser.post("/hub/spawn", {"profile": "nope"})
    assert reply.status == 400
    assert "no profile" in reply.text
    assert hub.alive
    assert "Aborting due to" not in hub.log
    assert await objects(hub, "pods") == []
    await browser.close()
