"""Free GPUs are counted in the background, and never at the expense of a page or a spawn."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from kubernetes_asyncio.client import ApiClient, Configuration

from profile_spawner.errors import ClusterError
from profile_spawner.kube.nodes import CapacityReader
from tests.control_plane import ControlPlane

from .conftest import LOG, pod

GPU = "nvidia.com/gpu"


@pytest_asyncio.fixture(loop_scope="session")
async def admin_client(control_plane: ControlPlane) -> AsyncIterator[ApiClient]:
    """A client that may list nodes."""
    configuration = Configuration(host=control_plane.url)
    configuration.ssl_ca_cert = str(control_plane.ca_path) if control_plane.ca_path else None
    configuration.api_key = {"BearerToken": f"Bearer {control_plane.admin_token}"}
    async with ApiClient(configuration) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def kind(control_plane: ControlPlane) -> AsyncIterator[str]:
    """Three nodes with this label: two with 4 GPUs, and one with 4 that takes no pods."""
    label = f"kind-{secrets.token_hex(4)}"
    names = [f"{label}-{number}" for number in range(3)]
    for number, name in enumerate(names):
        node: dict[str, Any] = {"metadata": {"name": name, "labels": {"kind": label, "number": str(number)}}}
        if number == 2:
            node["spec"] = {"unschedulable": True}
        await control_plane.ok("POST", "/api/v1/nodes", node)
        status = {
            "capacity": {GPU: "4"},
            "allocatable": {GPU: "4"},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        await control_plane.ok(
            "PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, content_type="application/merge-patch+json"
        )
    yield label
    for name in names:
        await control_plane.ok("DELETE", f"/api/v1/nodes/{name}")


def gpu_pod(name: str, node: str, *amounts: int) -> dict[str, Any]:
    """Return a pod on a node whose containers want these GPUs."""
    containers = [
        {"name": f"c{n}", "image": "i", "resources": {"limits": {GPU: str(amount)}}} for n, amount in enumerate(amounts)
    ]
    return {**pod(containers=containers, nodeName=node), "metadata": {"name": name}}


async def test_free_gpus(admin_client: ApiClient, control_plane: ControlPlane, namespace: str, kind: str) -> None:
    """Free is what pods of any namespace have not asked for, on nodes that take pods; what fits is counted by node."""
    reader = CapacityReader(admin_client, log=LOG)
    selector = {"kind": kind}
    first = (await reader.read()).of(GPU, 2, selector)
    assert (first.total, first.free, first.fits) == (8, 8, 4)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await control_plane.ok("POST", pods, gpu_pod("a", f"{kind}-0", 1, 2))
    await control_plane.ok("POST", pods, gpu_pod("b", f"{kind}-1", 1))
    capacity = await reader.read()
    used = capacity.of(GPU, 2, selector)
    assert (used.total, used.free, used.fits) == (8, 4, 1)
    assert capacity.of(GPU, 1, {**selector, "number": "0"}).free == Decimal(1)
    assert capacity.of("amd.com/gpu").total == 0
    assert 0 <= capacity.age() < 60
    done = {"status": {"phase": "Succeeded"}}
    await control_plane.ok("PATCH", f"{pods}/a/status", done, content_type="application/merge-patch+json")
    assert (await reader.read()).of(GPU, 2, selector).free == 7


async def test_without_the_right_there_is_no_reading(api_client: ApiClient) -> None:
    """A hub that may not list nodes gets an error that says so."""
    with pytest.raises(ClusterError, match="may not list nodes"):
        await CapacityReader(api_client, log=LOG).read()
