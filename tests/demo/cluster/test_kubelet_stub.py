"""Pods without processes, for tests of the hub and for storms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from profile_spawner.demo.cluster.kubelet import Kubelet
from tests.demo.cluster.kubelet_support import Cluster

StartKubelet = Callable[..., Awaitable[Kubelet]]

PORT = [{"containerPort": 8888}]


async def test_stub_answers(cluster: Cluster, kubelet: Kubelet) -> None:
    """A stub answers at its pod's address like an idle single-user server, until its pod is deleted."""
    await cluster.pod("one", ports=PORT)
    pod = await cluster.wait_phase("one", "Running")
    url = f"http://{pod['status']['podIP']}:8888/user/alice/api"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert answer.status == 200
            assert answer.headers["X-JupyterHub-Version"]
            assert (await answer.json())["version"] == "stub"
        await cluster.delete("pods", "one")
        await cluster.wait_gone("pods", "one")
        try:
            async with session.get(url):
                raise AssertionError("the stub still answers")
        except aiohttp.ClientConnectionError:
            pass


async def test_stub_runs_the_whole_life(cluster: Cluster, kubelet: Kubelet) -> None:
    """A stub waits for what its pod refers to, runs init containers and can be made to fail."""
    init = [{"name": "init", "image": "i"}]
    await cluster.pod(
        "one",
        ports=PORT,
        initContainers=init,
        restartPolicy="OnFailure",
        volumes=[{"name": "files", "configMap": {"name": "late"}}],
        env_from=[{"configMapRef": {"name": "later"}}],
    )
    await cluster.wait_event(
        "one", "FailedMount", 'MountVolume.SetUp failed for volume "files" : configmap "late" not found'
    )
    await cluster.create("configmaps", "late", data={})
    await cluster.wait_waiting("one", "CreateContainerConfigError")
    await cluster.create("configmaps", "later", data={})
    await cluster.wait_phase("one", "Running")
    kubelet.running(cluster.namespace, "one")["main"].finish(1)  # type: ignore[attr-defined]
    pod = await cluster.wait("pods", "one", lambda p: p["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1


async def test_many_stubs(cluster: Cluster, kubelet: Kubelet) -> None:
    """A hundred pods at once all run, each at its own address, and all go."""
    names = [f"pod-{number}" for number in range(100)]
    await asyncio.gather(*(cluster.pod(name, ports=PORT) for name in names))
    pods = [await cluster.wait_phase(name, "Running") for name in names]
    assert len({pod["status"]["podIP"] for pod in pods}) == 100
    await asyncio.gather(*(cluster.delete("pods", name) for name in names))
    for name in names:
        await cluster.wait_gone("pods", name)
