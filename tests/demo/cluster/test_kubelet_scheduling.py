"""Which pods get a node, and what is said about those that do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest

from profile_spawner.demo.cluster.failures import LocalClusterError
from profile_spawner.demo.cluster.fitting import pod_requests, why_not
from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from tests.demo.cluster.kubelet_support import Cluster

StartKubelet = Callable[..., Awaitable[Kubelet]]


def gpus(count: int) -> dict[str, Any]:
    """Return the resources of a container with GPUs."""
    return {"limits": {"nvidia.com/gpu": str(count)}}


def a_node(**options: Any) -> dict[str, Any]:
    """Return a Node object with 4 CPU and 8 GiB."""
    labels = options.pop("labels", {})
    status = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "3"}}
    return {"metadata": {"name": "n", "labels": labels}, "spec": options, "status": status}


def a_pod(requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a pod with one container."""
    containers = [{"name": "main", "resources": {"requests": requests or {}}}]
    return {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


def reasons(pod: dict[str, Any], node: dict[str, Any], used: dict[str, Fraction] | None = None) -> list[str]:
    """Return why the pod does not fit."""
    return why_not(pod, pod_requests(pod), node, used or {})[0]


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
        (a_pod({"cpu": "4"}), a_node(), []),
        (a_pod({"cpu": "4001m"}), a_node(), ["Insufficient cpu"]),
        (a_pod({"cpu": "5", "memory": "9Gi"}), a_node(), ["Insufficient cpu", "Insufficient memory"]),
        (a_pod({"example.com/fpga": "1"}), a_node(), ["Insufficient example.com/fpga"]),
        (a_pod(nodeSelector={"gpu": "a100"}), a_node(), ["node(s) didn't match Pod's node affinity/selector"]),
        (a_pod(nodeSelector={"gpu": "a100"}), a_node(labels={"gpu": "a100"}), []),
        (a_pod(), a_node(unschedulable=True), ["node(s) were unschedulable"]),
    ],
)
def test_fit(pod: dict[str, Any], node: dict[str, Any], expected: list[str]) -> None:
    """Resources, labels and cordons decide whether a node will do."""
    assert reasons(pod, node) == expected


def test_full_node() -> None:
    """What other pods take is not there any more, and neither is their place."""
    used = {"cpu": Fraction(3), "pods": Fraction(3)}
    assert reasons(a_pod({"cpu": "2"}), a_node(), used) == ["Insufficient cpu", "Too many pods"]


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        ([], False),
        ([{"key": "gpu", "operator": "Equal", "value": "only", "effect": "NoSchedule"}], True),
        ([{"key": "gpu", "value": "other", "effect": "NoSchedule"}], False),
        ([{"key": "gpu", "operator": "Exists"}], True),
        ([{"operator": "Exists"}], True),
        ([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}], False),
    ],
)
def test_taints(tolerations: list[dict[str, str]], fits: bool) -> None:
    """A tainted node takes only pods that tolerate its taint."""
    node = a_node(taints=[{"key": "gpu", "value": "only", "effect": "NoSchedule"}])
    expected = [] if fits else ["node(s) had untolerated taint {gpu: only}"]
    assert reasons(a_pod(tolerations=tolerations), node) == expected


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "In", "values": ["b"]}, False),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "disk", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "DoesNotExist"}, False),
        ({"key": "cores", "operator": "Gt", "values": ["3"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["3"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["3"]}, False),
    ],
)
def test_affinity(expression: dict[str, Any], fits: bool) -> None:
    """Required node affinity is kept."""
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    told = reasons(a_pod(affinity=affinity), a_node(labels={"zone": "a", "cores": "4"}))
    assert told == ([] if fits else ["node(s) didn't match Pod's node affinity/selector"])


def test_node_with_a_wrong_amount() -> None:
    """An amount that is no quantity is refused with the node's and the resource's name."""
    with pytest.raises(LocalClusterError, match=r"memory of node local: .*'lots'|memory of node local: .*lots"):
        NodeSpec(memory="lots").allocatable()


async def test_gpu_is_freed(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """What does not fit is Pending with a real cluster's event, and starts as soon as there is room."""
    await start_kubelet(NodeSpec(gpus=1))
    await cluster.pod("first", resources=gpus(1))
    await cluster.wait_phase("first", "Running")
    await cluster.pod("second", resources=gpus(1))
    event = await cluster.wait_event("second", "FailedScheduling")
    assert event["type"] == "Warning"
    assert event["source"]["component"] == "default-scheduler"
    assert event["message"] == (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
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
    assert claim["spec"]["volumeName"] == f"pvc-{claim['metadata']['uid']}"


async def test_pods_of_before(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Pods created before the node was there are scheduled when it comes."""
    for number in range(3):
        await cluster.pod(f"early-{number}")
    await start_kubelet()
    for number in range(3):
        await cluster.wait_phase(f"early-{number}", "Running")
