"""The local cluster as a whole."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from profile_spawner.demo.cluster.apiclient import ApiClient
from profile_spawner.demo.cluster.cluster import LocalCluster
from profile_spawner.demo.cluster.kubelet import NodeSpec
from tests.demo.cluster.kubelet_support import Cluster, needs_view


async def connect(local: LocalCluster) -> Cluster:
    """Open a client for the default namespace."""
    client = ApiClient(local.api.url, local.admin_token)
    await client.start()
    return Cluster(client, "default")


@pytest_asyncio.fixture(loop_scope="session")
async def local(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """A running local cluster."""
    async with LocalCluster(tmp_path / "state", node=NodeSpec(gpus=2, labels={"disk": "ssd"})) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(local: LocalCluster) -> AsyncIterator[Cluster]:
    """Its default namespace."""
    opened = await connect(local)
    yield opened
    await opened.client.close()


async def read_log(local: LocalCluster, pod: str, **query: Any) -> str:
    """Return a pod's log as `kubectl logs` gets it."""
    url = f"{local.api.url}/api/v1/namespaces/default/pods/{pod}/log"
    headers = {"Authorization": f"Bearer {local.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_pod_and_log(local: LocalCluster, cluster: Cluster) -> None:
    """Pods run, and their logs come through the API server."""
    await cluster.pod("one", "for n in 1 2 3; do echo line $n; done")
    await cluster.wait_phase("one", "Succeeded")
    assert await read_log(local, "one") == "line 1\nline 2\nline 3\n"
    assert await read_log(local, "one", container="main", tailLines="2") == "line 2\nline 3\n"
    assert await read_log(local, "one", tailLines="0") == ""
    assert await read_log(local, "one", tailLines="9") == "line 1\nline 2\nline 3\n"


async def test_log_is_followed(local: LocalCluster, cluster: Cluster) -> None:
    """A log that is followed ends with its container, complete."""
    needs_view(local.kubelet)
    await cluster.pod(
        "one",
        "echo begin; until test -e ~/go; do sleep 0.05; done; echo end",
        volumes=[{"name": "home", "emptyDir": {}}],
        mounts=[{"name": "home", "mountPath": "/home/jovyan"}],
    )
    pod = await cluster.wait_phase("one", "Running")
    following = asyncio.create_task(read_log(local, "one", follow="true"))
    folder = local.state_dir / "pods" / pod["metadata"]["uid"] / "volumes" / "home"
    (folder / "go").touch()
    assert await asyncio.wait_for(following, 30) == "begin\nend\n"


async def test_node(local: LocalCluster, cluster: Cluster) -> None:
    """The node has the capacity and the labels that were asked for."""
    node = await cluster.client.get("/api/v1/nodes/local")
    assert node is not None
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert node["metadata"]["labels"]["disk"] == "ssd"


async def test_kubeconfig(local: LocalCluster, tmp_path: Path) -> None:
    """Kubeconfigs lead to the cluster, are private, and belong to who they say."""
    for user in (None, "hub"):
        path = local.write_kubeconfig(tmp_path / "kubeconfig", user=user, namespace="hub-ns")
        document = json.loads(path.read_text())
        assert document["clusters"][0]["cluster"]["server"] == local.api.secure_url
        assert (document["users"][0]["user"]["token"] == local.admin_token) is (user is None)
        assert document["contexts"][0]["context"]["namespace"] == "hub-ns"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl(local: LocalCluster, cluster: Cluster, tmp_path: Path) -> None:
    """`kubectl get pods` and `kubectl logs` work with the kubeconfig."""
    path = local.write_kubeconfig(tmp_path / "kubeconfig")
    await cluster.pod("one", "echo said")
    await cluster.wait_phase("one", "Succeeded")
    for arguments, expected in ((["get", "pods"], "one"), (["logs", "one"], "said")):
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(path), *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert expected in out.decode()


async def test_claims_are_kept(tmp_path: Path) -> None:
    """A claim and what is in its volume are there again in the next run with the same state folder; pods are not."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    options: dict[str, Any] = {
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
        "mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    }
    for script in ("echo kept > ~/file", "grep kept ~/file"):
        async with LocalCluster(tmp_path / "state") as local:
            needs_view(local.kubelet)
            cluster = await connect(local)
            if script.startswith("echo"):
                await cluster.create("persistentvolumeclaims", "home", spec=spec)
            await cluster.pod("one", script, **options)
            pod = await cluster.wait_phase("one", "Succeeded", "Failed")
            assert pod["status"]["phase"] == "Succeeded"
            await cluster.client.close()
