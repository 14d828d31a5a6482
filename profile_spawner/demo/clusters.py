"""The cluster that the demo's hub talks to: the local one, or a real one by its kubeconfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.kube.nodes import CAPACITY_RULES
from profile_spawner.kube.rbac import document_rules, required_rules
from profile_spawner.policy.settings import DEFAULT_KINDS

from .cluster.apiclient import ApiClient, ApiError
from .cluster.cluster import LocalCluster
from .cluster.failures import LocalClusterError
from .cluster.kubelet import NodeSpec
from .settings import NAMESPACE

__all__ = ["DemoCluster", "LocalDemoCluster", "read_kubeconfig"]

_HUB = "hub"
_RBAC = "rbac.authorization.k8s.io"


@dataclass
class DemoCluster:
    """A cluster that runs already, and is used with the rights of a kubeconfig.

    Attributes:
        namespace: Where servers run.
        hub_kubeconfig: The hub's own kubeconfig.
        user_kubeconfig: The kubeconfig that the demo's user gets.
    """

    namespace: str
    hub_kubeconfig: Path
    user_kubeconfig: Path

    async def start(self) -> None:
        """Make it ready for a hub."""

    async def stop(self) -> None:
        """Stop what `start()` has started. Safe to call twice."""


def read_kubeconfig(path: Path, namespace: str | None) -> DemoCluster:
    """Return the cluster of a kubeconfig, with the namespace of its context where none is given.

    Raises:
        ProfileSpawnerError: It is not a kubeconfig.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = document["current-context"]
        context: Mapping[str, Any] = next(c["context"] for c in document["contexts"] if c["name"] == name)
    except (OSError, yaml.YAMLError, TypeError, KeyError, StopIteration) as e:
        raise ProfileSpawnerError(
            "is not a kubeconfig with a current context",
            field="--kubeconfig",
            value=str(path),
            hint=f"Check it with: kubectl --kubeconfig {path} get pods ({type(e).__name__})",
        ) from None
    return DemoCluster(namespace or context.get("namespace") or "default", path.absolute(), path.absolute())


class LocalDemoCluster(DemoCluster):
    """The local cluster in this process, with the hub as a user that has a Role, and may count what is free.

    Args:
        state_dir: Keeps the objects but for pods, and the data of volumes.
        gpus: The number of simulated GPUs.
        config_maps: Whether the hub may read ConfigMaps with profiles.
    """

    def __init__(self, state_dir: Path, *, gpus: int, config_maps: bool) -> None:
        super().__init__(NAMESPACE, state_dir / "hub-kubeconfig", state_dir / "kubeconfig")
        self._config_maps = config_maps
        self._cluster = LocalCluster(
            state_dir / "cluster",
            node=NodeSpec(gpus=gpus),
            # Every image is a JupyterLab here: there is no VS Code and no desktop to open.
            environment={"JUPYTERHUB_DEFAULT_URL": "/lab"},
        )

    async def start(self) -> None:
        """Start it; namespace and Role are there afterwards."""
        try:
            await self._cluster.start()
            self._cluster.write_kubeconfig(self.user_kubeconfig, namespace=NAMESPACE)
            self._cluster.write_kubeconfig(self.hub_kubeconfig, user=_HUB, namespace=NAMESPACE)
            await self._prepare()
        except LocalClusterError as e:
            raise ProfileSpawnerError(str(e)) from e

    async def _prepare(self) -> None:
        """Make the namespace, and give the hub its rights."""
        client = ApiClient(self._cluster.api.url, self._cluster.admin_token)
        await client.start()
        try:
            await _write(client, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            rbac = f"/apis/{_RBAC}/v1"
            further = document_rules([("ConfigMap", "")] if self._config_maps else [])
            role = {"metadata": {"name": _HUB}, "rules": required_rules(DEFAULT_KINDS, granted=further)}
            await _write(client, f"{rbac}/namespaces/{NAMESPACE}/roles", role)
            await _write(client, f"{rbac}/namespaces/{NAMESPACE}/rolebindings", _hub_binding("Role"))
            # With this the spawn page can say how many GPUs are free.
            rules = [dict(rule) for rule in CAPACITY_RULES]
            await _write(client, f"{rbac}/clusterroles", {"metadata": {"name": _HUB}, "rules": rules})
            await _write(client, f"{rbac}/clusterrolebindings", _hub_binding("ClusterRole"))
        finally:
            await client.close()

    async def stop(self) -> None:
        """Stop it, with all pods."""
        await self._cluster.stop()


def _hub_binding(kind: str) -> dict[str, Any]:
    return {
        "metadata": {"name": _HUB},
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": _HUB},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": _HUB}],
    }


async def _write(client: ApiClient, path: str, document: dict[str, Any]) -> None:
    """Create an object, or replace it by `document` (it may be there from an earlier run)."""
    try:
        await client.call("POST", path, document)
    except ApiError as e:
        if e.status != 409:
            raise
        await client.call("PUT", f"{path}/{document['metadata']['name']}", document)
