"""The node that a local cluster pretends to have."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .apiclient import Json
from .events import timestamp
from .failures import LocalClusterError
from .quantities import parse_quantity

__all__ = ["NodeSpec", "node_object", "node_status"]


@dataclass(frozen=True)
class NodeSpec:
    """What the one node of a local cluster pretends to have.

    Attributes:
        name: The node's name.
        cpu: CPU cores, as a quantity.
        memory: Memory, as a quantity.
        gpus: How many GPUs.
        gpu_resource: The resource name under which pods ask for GPUs.
        labels: Labels beside the well-known ones, for node selectors.
        pods: How many pods fit.
        taints: Taints as in a Node object.
        storage: Ephemeral storage, as a quantity.
        extra: Further extended resources, name to quantity.
    """

    name: str = "local"
    cpu: str | int | float = 8
    memory: str | int = "32Gi"
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    labels: Mapping[str, str] = field(default_factory=dict)
    pods: int = 10_000
    taints: Sequence[Mapping[str, str]] = ()
    storage: str = "100Gi"
    extra: Mapping[str, str | int] = field(default_factory=dict)

    def allocatable(self) -> dict[str, str]:
        """Return what pods can ask for, resource name to quantity.

        Raises:
            LocalClusterError: An amount is no quantity.
        """
        amounts = {
            "cpu": self.cpu,
            "memory": self.memory,
            "ephemeral-storage": self.storage,
            "pods": self.pods,
            **({self.gpu_resource: self.gpus} if self.gpus else {}),
            **self.extra,
        }
        for name, amount in amounts.items():
            try:
                parse_quantity(amount)
            except ValueError as error:
                raise LocalClusterError(
                    f"{name} of node {self.name}: {amount!r} is not a quantity such as 500m, 8 or 32Gi"
                ) from error
        return {name: str(amount) for name, amount in amounts.items()}


def node_object(node: NodeSpec) -> Json:
    """Return the Node object to be created for `node`, without its status."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine,
        "node.kubernetes.io/instance-type": "local",
        **node.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {"taints": [dict(taint) for taint in node.taints]} if node.taints else {},
    }


def node_status(node: NodeSpec, since: str) -> Json:
    """Return the status of `node`, which has been ready since the time `since`."""
    now = timestamp()

    def condition(kind: str, status: str, reason: str) -> Json:
        times = {"lastHeartbeatTime": now, "lastTransitionTime": since}
        return {"type": kind, "status": status, "reason": reason, "message": "local cluster", **times}

    amounts = node.allocatable()
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": node.name},
        ],
        "nodeInfo": {
            "architecture": platform.machine(),
            "bootID": "",
            "containerRuntimeVersion": "local-cluster://1",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.31.0-local-cluster",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "Processes of this machine",
            "systemUUID": "",
        },
    }
