"""Which pods get a node, and what is said about those that do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from profile_spawner.demo.cluster.scheduler import pod_requests, why_not
from tests.demo.cluster.kubelet_support import Cluster

StartKubelet = Callable[..., Awaitable[Kubelet]]


def gpus(count: int) -> dict[str, Any]:
    """Return the resources of a container with GPUs."""
    return {"limits": {"nvidia.com/gpu": str(count)}}


def a_node(**labels: str) -> dict[str, Any]:
    """Return a Node object with 4 CPU and 8 GiB."""
    status = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "3"}}
    return {"metadata": {"name": "n", "labels": labels}, "status": status}


def a_pod(requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a pod with one container."""
    containers = [{"name": "main", "resources": {"requests": requests or {}}}]
    return {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


def reasons(pod: dict[str, Any], node: dict[str, Any], used: dict[str, Fraction] | None = None) -> str:
    """Return why the pod does not fit."""
    return why_not(pod, pod_requests(pod), node, used or {})


def test_requests_of_a_pod() -> None:
    """Containers add up, the largest init container counts where it needs more, limits stand in for requests."""
    pod = a_pod({"cpu": "500m", "memory": "1Gi"})
    pod["spec"]["containers"].append({"name": "side", "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": "2"}}})
    pod["spec"]["initContainers"] = [
        {"name": "a", "resources": {"requests": {"memory": "3Gi"}}},
        {"name": "b", "resources": {"requests": {"cpu": "100m"}}},
        {"name": "c"},
    ]
    assert pod_requests(pod) == {
        "pods": 1,
        "cpu": Fraction(3, 2),
        "memory": 3 * 2**30,
        "nvidia.com/gpu": 2,
    }


@pytest.mark.parametrize(
    ("pod", "node", "expected"),
    [
        (a_pod({"cpu": "4"}), a_node(), ""),
        (a_pod({"cpu": "4001m"}), a_node(), "1 Insufficient cpu"),
        (a_pod({"cpu": "5", "memory": "9Gi"}), a_node(), "1 Insufficient cpu, 1 Insufficient memory"),
        (a_pod({"example.com/fpga": "1"}), a_node(), "1 Insufficient example.com/fpga"),
        (a_pod(nodeSelector={"gpu": "a100"}), a_node(), "1 node(s) didn't match Pod's node affinity/selector"),
        (a_pod(nodeSelector={"gpu": "a100"}), a_node(gpu="a100"), ""),
    ],
)
def test_fit(pod: dict[str, Any], node: dict[str, Any], expected: str) -> None:
    """Resources and labels decide whether a node will do."""
    assert reasons(pod, node) == expected


def test_full_node() -> None:
    """What other pods take is not there any more, and neither is their place."""
    used = {"cpu": Fraction(3), "pods": Fraction(3)}
    assert reasons(a_pod({"cpu": "2"}), a_node(), used) == "1 Insufficient cpu, 1 Too many pods"


async def test_gpu_is_freed(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """What does not fit is Pending with a real cluster's event, and starts as soon as there is room."""
    await start_kubelet(NodeSpec(gpus=1))
    await cluster.pod("first", resources=gpus(1))
    await cluster.wait_phase("first", "Running")
    await cluster.pod("second", resources=gpus(1))
    event = await cluster.wait_event("second", "FailedScheduling")
    assert event["type"] == "Warning"
    assert event["source"]["component"] == "default-scheduler"
    assert event["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    pod = await cluster.wait("pods", "second", lambda p: p["status"].get("conditions"))
    condition = pod["status"]["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert condition["message"] == event["message"]
    assert pod["status"]["phase"] == "Pending"
    await cluster.delete("pods", "first")
    pod = await cluster.wait_phase("second", "Running")
    scheduled = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    assert scheduled["status"] == "True"
    assert "reason" not in scheduled


async def test_ended_pod_frees_its_share(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod that has completed takes nothing from its node, though its object is still there."""
    kubelet = await start_kubelet(NodeSpec(gpus=1))
    await cluster.pod("first", resources=gpus(1))
    await cluster.wait_phase("first", "Running")
    await cluster.pod("second", resources=gpus(1))
    await cluster.wait_event("second", "FailedScheduling")
    kubelet.running(cluster.namespace, "first")["main"].finish(0)  # type: ignore[attr-defined]
    await cluster.wait_phase("first", "Succeeded")
    await cluster.wait_phase("second", "Running")


async def test_order_of_creation(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Of two pods that wait for the same place, the older one gets it; one that fits passes both."""
    await start_kubelet(NodeSpec(gpus=1))
    await cluster.pod("holder", resources=gpus(1))
    await cluster.wait_phase("holder", "Running")
    for name in ("older", "younger"):
        await cluster.pod(name, resources=gpus(1))
        await cluster.wait_event(name, "FailedScheduling")
    await cluster.pod("small")
    await cluster.wait_phase("small", "Running")
    await cluster.delete("pods", "holder")
    await cluster.wait_phase("older", "Running")
    younger = await cluster.get("pods", "younger")
    assert younger is not None
    assert not younger["spec"].get("nodeName")


async def test_label_of_the_node(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A node selector is met when the node gets the label."""
    kubelet = await start_kubelet(NodeSpec())
    await cluster.pod("one", nodeSelector={"accelerator": "a100"})
    await cluster.wait_event("one", "FailedScheduling", "1 node(s) didn't match Pod's node affinity/selector.")
    labels = {"metadata": {"labels": {"accelerator": "a100"}}}
    path = f"/api/v1/nodes/{kubelet.node.name}"
    await cluster.client.call("PATCH", path, labels, content_type="application/merge-patch+json")
    await cluster.wait_phase("one", "Running")


async def test_missing_claim(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod whose claim does not exist waits for it."""
    await start_kubelet()
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "home-alice"}}]
    await cluster.pod("one", volumes=volumes)
    await cluster.wait_event("one", "FailedScheduling", 'persistentvolumeclaim "home-alice" not found')
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}
    await cluster.create("persistentvolumeclaims", "home-alice", spec=spec)
    await cluster.wait_phase("one", "Running")
    claim = await cluster.wait("persistentvolumeclaims", "home-alice", lambda c: c["status"].get("phase") == "Bound")
    assert claim["status"]["capacity"] == {"storage": "5Gi"}


async def test_pods_of_before(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Pods created before the node was there are scheduled when it comes."""
    for number in range(3):
        await cluster.pod(f"early-{number}")
    await start_kubelet()
    for number in range(3):
        await cluster.wait_phase(f"early-{number}", "Running")
