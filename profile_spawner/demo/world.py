"""The cluster that the demo's hub talks to: the local one, or a real one by its kubeconfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import yaml

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.kube.nodes import CAPACITY_RULES
from profile_spawner.kube.rbac import required_rules, role_manifest
from profile_spawner.policy.settings import DEFAULT_KINDS

from .cluster.cluster import LocalCluster
from .cluster.failures import LocalClusterError
from .settings import NAMESPACE

__all__ = ["ForeignCluster", "OwnCluster", "World"]

_HUB = "hub"
_RBAC = "rbac.authorization.k8s.io"


class World(Protocol):
    """A cluster."""

    @property
    def namespace(self) -> str:
        """Where servers run."""

    @property
    def hub_kubeconfig(self) -> Path:
        """The hub's own kubeconfig."""

    @property
    def user_kubeconfig(self) -> Path:
        """The kubeconfig that the demo's user gets."""

    async def start(self) -> None:
        """Make it ready for a hub."""

    async def stop(self) -> None:
        """Stop everything. Safe to call twice."""


@dataclass
class ForeignCluster:
    """A real cluster, used as it is: with the rights and the namespace of a kubeconfig."""

    hub_kubeconfig: Path
    namespace: str

    @property
    def user_kubeconfig(self) -> Path:
        """The same for hub and user."""
        return self.hub_kubeconfig

    @classmethod
    def read(cls, path: Path, namespace: str | None) -> ForeignCluster:
        """Read a kubeconfig as far as needed; the namespace of its context counts where none is given.

        Raises:
            ProfileSpawnerError: It is not a kubeconfig.
        """
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            name = document["current-context"]
            context: Mapping[str, Any] = next(c["context"] for c in document["contexts"] if c["name"] == name)
        except (OSError, yaml.YAMLError, TypeError, KeyError, StopIteration) as e:
            raise ProfileSpawnerError(
                "is no kubeconfig with a current context",
                field="--kubeconfig",
                value=str(path),
                hint=f"Check it with: kubectl --kubeconfig {path} get pods ({type(e).__name__})",
            ) from None
        return cls(path.absolute(), namespace or context.get("namespace") or "default")

    async def start(self) -> None:
        """Do nothing: it runs already."""

    async def stop(self) -> None:
        """Do nothing: the demo did not start it."""


class OwnCluster:
    """The local cluster in this process, with the hub as a user that has a Role, and may count what is free.

    Args:
        state_dir: Keeps the objects but for pods, and the data of volumes.
        gpus: How many GPUs it pretends to have.
    """

    def __init__(self, state_dir: Path, *, gpus: int) -> None:
        self.namespace = NAMESPACE
        self.hub_kubeconfig = state_dir / "hub-kubeconfig"
        self.user_kubeconfig = state_dir / "kubeconfig"
        self.cluster = LocalCluster(
            state_dir / "cluster",
            gpus=gpus,
            # Whatever the image, it is a JupyterLab that runs: there is no VS Code and no desktop to be opened.
            environment={"JUPYTERHUB_DEFAULT_URL": "/lab"},
        )

    async def start(self) -> None:
        """Start it; namespace and Role are there afterwards."""
        try:
            await self.cluster.start()
        except LocalClusterError as e:
            raise ProfileSpawnerError(str(e)) from e
        self.cluster.write_kubeconfig(self.user_kubeconfig, namespace=NAMESPACE)
        self.cluster.write_kubeconfig(self.hub_kubeconfig, user=_HUB, namespace=NAMESPACE)
        headers = {"Authorization": f"Bearer {self.cluster.admin_token}"}
        async with aiohttp.ClientSession(self.cluster.url, headers=headers) as client:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
            await _write(client, "/api/v1/namespaces", namespace)
            base = f"/apis/{_RBAC}/v1/namespaces/{NAMESPACE}"
            role = role_manifest(required_rules(DEFAULT_KINDS), name=_HUB, namespace=NAMESPACE)
            await _write(client, f"{base}/roles", role)
            await _write(client, f"{base}/rolebindings", _hub_binding())
            for kind, document in _CAPACITY.items():
                await _write(client, f"/apis/{_RBAC}/v1/{kind}", document)

    async def stop(self) -> None:
        """Stop it, with all pods."""
        await self.cluster.stop()


_CAPACITY: Mapping[str, Mapping[str, Any]] = {
    "clusterroles": {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _HUB},
        "rules": [dict(rule) for rule in CAPACITY_RULES],
    },
    "clusterrolebindings": {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _HUB},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": _HUB},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": _HUB}],
    },
}
"""With this the spawn page can say how many GPUs are free."""


def _hub_binding() -> dict[str, Any]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": _HUB, "namespace": NAMESPACE},
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": _HUB},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": _HUB}],
    }


async def _write(client: aiohttp.ClientSession, path: str, document: Mapping[str, Any]) -> None:
    """Create an object, or replace it by `document` (it may be there from an earlier run)."""
    async with client.post(path, json=document) as answer:
        status, text = answer.status, await answer.text()
    if status == 409:
        async with client.put(f"{path}/{document['metadata']['name']}", json=document) as answer:
            status, text = answer.status, await answer.text()
    if status not in (200, 201):
        raise ProfileSpawnerError(f"the local cluster refused {path}: {text}")
