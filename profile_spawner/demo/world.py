"""The cluster that the demo's hub talks to: the local one, or a real one by its kubeconfig."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import yaml

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.kube.policy import DEFAULT_KINDS
from profile_spawner.kube.rbac import required_rules, role_manifest
from profile_spawner.localcluster.cluster import LocalCluster

from .settings import NAMESPACE

__all__ = ["ForeignCluster", "OwnCluster", "World"]

_CLAIMS = "/api/v1/persistentvolumeclaims"
_HUB = "hub"


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
        """Leave nothing running. Safe to call twice."""


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
            ProfileSpawnerError: It is no kubeconfig.
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
        """Do nothing: it is not ours."""


class OwnCluster:
    """The local cluster in this process, with the hub as a user that has a Role and nothing more.

    Args:
        state_dir: Keeps the data of volumes.
        gpus: How many GPUs it pretends to have.
    """

    def __init__(self, state_dir: Path, *, gpus: int) -> None:
        self.namespace = NAMESPACE
        self.hub_kubeconfig = state_dir / "hub-kubeconfig"
        self.user_kubeconfig = state_dir / "kubeconfig"
        self._claims_file = state_dir / "claims.json"
        # Whatever the image, it is a JupyterLab that runs: there is no VS Code and no desktop to be opened.
        lab = {"JUPYTERHUB_DEFAULT_URL": "/lab"}
        self.cluster = LocalCluster(state_dir / "cluster", gpus=gpus, environment=lab)
        self._started = False

    async def start(self) -> None:
        """Start it; namespace, Role and the claims of earlier runs are there afterwards."""
        await self.cluster.start()
        self._started = True
        self.cluster.write_kubeconfig(self.user_kubeconfig, namespace=NAMESPACE)
        self.cluster.write_kubeconfig(self.hub_kubeconfig, user=_HUB, namespace=NAMESPACE)
        async with self._client() as client:
            await _post(client, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
            await _post(client, f"{base}/roles", role_manifest(_hub_rules(), name=_HUB, namespace=NAMESPACE))
            await _post(client, f"{base}/rolebindings", _hub_binding())
            for claim in await asyncio.to_thread(_read_claims, self._claims_file):
                await _post(client, f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims", claim)

    async def stop(self) -> None:
        """Remember the claims and stop it, with all pods."""
        if self._started:
            self._started = False
            async with self._client() as client, client.get(_CLAIMS) as answer:
                claims = (await answer.json())["items"]
            await asyncio.to_thread(_write_claims, self._claims_file, claims)
        await self.cluster.stop()

    def _client(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self.cluster.admin_token}"}
        return aiohttp.ClientSession(self.cluster.url, headers=headers)


def _hub_rules() -> list[dict[str, Any]]:
    """Return exactly what the demo's hub needs."""
    return required_rules(DEFAULT_KINDS)


def _hub_binding() -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": _HUB},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": _HUB},
        "subjects": [{"apiGroup": group, "kind": "User", "name": _HUB}],
    }


async def _post(client: aiohttp.ClientSession, path: str, body: Mapping[str, Any]) -> None:
    async with client.post(path, json=body) as answer:
        if answer.status not in (200, 201):
            raise ProfileSpawnerError(f"the local cluster refused {path}: {await answer.text()}")


def _read_claims(path: Path) -> list[dict[str, Any]]:
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return list(claims)


def _write_claims(path: Path, claims: list[dict[str, Any]]) -> None:
    """Write what another run needs to have the same claims: whose they are, and what was asked for."""
    kept = [
        {
            "metadata": {k: c["metadata"][k] for k in ("name", "labels", "annotations") if k in c["metadata"]},
            "spec": {k: v for k, v in c["spec"].items() if k != "volumeName"},
        }
        for c in claims
        if c["metadata"]["namespace"] == NAMESPACE
    ]
    path.write_text(json.dumps(kept, indent=2), encoding="utf-8")
