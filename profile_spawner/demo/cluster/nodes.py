"""The node that a local cluster pretends to have."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from .apiclient import Json
from .events import timestamp

__all__ = ["NodeSpec", "node_object"]


@dataclass(frozen=True)
class NodeSpec:
    """What the one node of a local cluster pretends to have.

    Attributes:
        name: The node's name.
        cpu: CPU cores, as a quantity.
        memory: Memory, as a quantity.
        gpus: How many GPUs.
        labels: Labels beside the well-known ones, for node selectors.
        pods: How many pods fit.
    """

    name: str = "local"
    cpu: str | float = 8
    memory: str = "32Gi"
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    pods: int = 10_000


def node_object(node: NodeSpec) -> Json:
    """Return the Node object for `node`, with its status."""
    labels = {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", **node.labels}
    amounts = {"cpu": str(node.cpu), "memory": node.memory, "ephemeral-storage": "100Gi", "pods": str(node.pods)}
    if node.gpus:
        amounts["nvidia.com/gpu"] = str(node.gpus)
    now = timestamp()
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    return {
        "metadata": {"name": node.name, "labels": labels},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", **times}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": node.name}],
            "nodeInfo": {
                "architecture": platform.machine(),
                "bootID": "",
                "containerRuntimeVersion": "local-cluster://1",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.32.0+local",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "Processes of this machine",
                "systemUUID": "",
            },
        },
    }
