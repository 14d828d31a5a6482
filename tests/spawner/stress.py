"""A hub with exactly its own rights, behind a proxy that can fail, on the local or on a real control plane."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from profile_spawner.kube.identity import labels_of
from profile_spawner.kube.rbac import required_rules
from profile_spawner.names import LABEL_HUB, LABEL_LIFETIME
from profile_spawner.policy.settings import DEFAULT_KINDS
from tests.control_plane import ControlPlane
from tests.fault_proxy import FaultProxy
from tests.hub import HubUnderTest, free_port, start_hub

HUB_USER = "system:serviceaccount:hub:hub"
COLLECTIONS = ("pods", "configmaps", "secrets", "services", "persistentvolumeclaims")
CANARY = "canary-7d1f09e2"

PROFILES = f"""
from profile_spawner import BaseAppProfile, ConfigMap, Volume, VolumeMount, profile_registry

SECRET = '''
apiVersion: v1
kind: Secret
metadata:
  name: token
stringData:
  token: {CANARY}
'''


@profile_registry.register
class Full(BaseAppProfile):
    slug = "full"
    display_name = "Full"
    description = "A shared file, a kept and a scratch volume"
    image = "full:1"
    pod_env_vars = {{"PASSWORD": "{CANARY}"}}

    def get_default_volumes(self):
        return [
            Volume(name="work", claim_name="work", size="1Gi", volume_mount=VolumeMount(mount_path="/work")),
            Volume(name="tmp", claim_name="tmp", size="1Gi", persist=False,
                   volume_mount=VolumeMount(mount_path="/scratch")),
        ]

    def get_config_maps(self):
        return [ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd.d/full")]


@profile_registry.register
class Plain(BaseAppProfile):
    slug = "plain"
    display_name = "Plain"
    description = "Nothing but a pod"
    image = "plain:1"
    pod_env_vars = {{"PASSWORD": "{CANARY}"}}
"""


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
    """Ask until the answer is true, and return it: other processes have no event to wait for."""

    async def ask() -> Any:
        while not (answer := await condition()):
            await asyncio.sleep(0.05)
        return answer

    return await asyncio.wait_for(ask(), seconds)


class World:
    """A namespace with a stub node, and the hubs in it.

    Attributes:
        proxy: Between the hubs and the API server.
        user: Who the hubs are to the API server.
        profiles: The folder of profile modules.
    """

    def __init__(self, plane: ControlPlane, namespace: str, proxy: FaultProxy, tmp_path: Path) -> None:
        self.plane = plane
        self.namespace = namespace
        self.proxy = proxy
        self.user = HUB_USER
        self.tmp_path = tmp_path
        self.profiles = tmp_path / "profiles"
        self.profiles.mkdir()
        (self.profiles / "profiles.py").write_text(PROFILES)
        self._hubs: list[HubUnderTest] = []
        self._places: dict[str, tuple[int, str]] = {}

    def kubeconfig(self) -> Path:
        """Write the kubeconfig of the hub's service account, which leads through the proxy."""
        path = self.tmp_path / "kubeconfig"
        user = {"token": self.plane.token_for(self.user)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.proxy.url}}],
            "users": [{"name": "hub", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "hub", "namespace": self.namespace}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        return path

    async def hub(self, config: str = "", *, name: str = "hub", **options: Any) -> HubUnderTest:
        """Start a hub; the same name again is the same hub, restarted."""
        port, token = self._places.setdefault(name, (free_port(), f"token-of-{name}"))
        text = f"c.ProfileSpawner.profiles_dirs = [{str(self.profiles)!r}]\nc.ProfileSpawner.watch_profiles = False\n"
        hub = await start_hub(
            self.tmp_path / name, self.kubeconfig(), self.namespace, text + config, port=port, token=token, **options
        )
        hub.namespace, hub.plane = self.namespace, self.plane
        self._hubs.append(hub)
        return hub

    async def away(self) -> None:
        """Let the API server be out of reach: no new connection, and none of the old ones."""
        await self.proxy.close_port()
        self.proxy.hang_up()

    async def back(self) -> None:
        """Let the API server be within reach again."""
        await self.proxy.listen(self.proxy.port)

    async def kill(self, hub: HubUnderTest) -> None:
        """End a hub as a power cut does."""
        await hub.close(signal.SIGKILL)

    async def objects(self, plural: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in the namespace, without what every namespace has."""
        listed = await self.plane.ok("GET", f"/api/v1/namespaces/{self.namespace}/{plural}")
        return [
            item
            for item in listed["items"]
            if item["metadata"]["name"] != "kube-root-ca.crt" and not item["metadata"]["name"].startswith("default-")
        ]

    async def lost(self) -> list[str]:
        """Return what is neither shared, nor kept, nor owned by a pod that exists."""
        pods = {pod["metadata"]["uid"] for pod in await self.objects("pods")}
        lost = []
        for plural in COLLECTIONS[1:]:
            for item in await self.objects(plural):
                labels = labels_of(item)
                owners = {reference["uid"] for reference in item["metadata"].get("ownerReferences", ())}
                if LABEL_HUB in labels and labels[LABEL_LIFETIME] == "owned" and not owners & pods:
                    lost.append(f"{plural}/{item['metadata']['name']}")
        return lost

    async def settled(self) -> None:
        """Wait until the garbage of deleted pods is collected and nothing is lost."""

        async def nothing_lost() -> bool:
            return not await self.lost()

        await until(nothing_lost)

    async def idle(self, hub: HubUnderTest, user: str, server: str = "") -> dict[str, Any] | None:
        """Wait until nothing is going on with a server, and return its model; `None` when it is stopped."""

        async def asked() -> Any:
            model = await hub.server(user, server)
            if model is None:
                return (None,)
            return None if model.get("pending") else (model if model.get("ready") else None,)

        return (await until(asked))[0]  # type: ignore[no-any-return]

    async def progress(self, hub: HubUnderTest, user: str) -> list[Any]:
        """Follow a start to its end, and return its events."""
        headers = {"Authorization": f"token {hub.token}"}
        url = f"{hub.url}/hub/api/users/{user}/server/progress"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            return [json.loads(line[5:]) async for line in response.content if line.startswith(b"data:")]

    async def start(self, hub: HubUnderTest, user: str, profile: str = "full") -> dict[str, Any]:
        """Start a server and wait until it is ready."""
        reply = await hub.api("POST", f"/users/{user}/server", {"profile": profile})
        assert reply.status in (201, 202), f"{reply.text}\n{hub.log[-3000:]}"
        model = await hub.until_ready(user)
        assert model["ready"], model["events"]
        return model

    async def stop(self, hub: HubUnderTest, user: str) -> None:
        """Stop a server and wait until it is gone."""
        reply = await hub.api("DELETE", f"/users/{user}/server")
        assert reply.status in (202, 204), reply.text
        await self.idle(hub, user)

    async def close(self) -> None:
        """End all hubs."""
        for hub in self._hubs:
            await hub.close(signal.SIGKILL)


async def open_world(plane: ControlPlane, namespace: str, tmp_path: Path) -> World:
    """Return a world whose hub has exactly the rights of the printed Role."""
    await plane.grant(namespace, HUB_USER, required_rules(DEFAULT_KINDS))
    proxy = FaultProxy(plane.url, plane.ca_path)
    await proxy.start()
    return World(plane, namespace, proxy, tmp_path)


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, start_kubelet: Callable[..., Awaitable[Any]]
) -> AsyncIterator[World]:
    """A world with a node, on both control planes."""
    opened = await open_world(control_plane, namespace, tmp_path)
    await start_kubelet()
    yield opened
    await opened.close()
    await opened.proxy.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def local_world(local_control_plane: Any, tmp_path: Path) -> AsyncIterator[World]:
    """A world with a node, on the local cluster only."""
    from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec

    namespace = await local_control_plane.new_namespace("stress")
    opened = await open_world(local_control_plane, namespace, tmp_path)
    kubelet = Kubelet(
        local_control_plane.url,
        local_control_plane.token_for("kubelet", ["system:masters"]),
        tmp_path / "kubelet",
        node=NodeSpec(name=f"node-{namespace}", cpu="1000", memory="4000Gi", gpus=4, pods=2000),
        runtime="stub",
        namespaces=[namespace],
    )
    await kubelet.start()
    yield opened
    await opened.close()
    await kubelet.stop()
    await opened.proxy.stop()
