"""A `Cluster` with the hub's own, small rights, behind a proxy that can fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from kubernetes_asyncio.client import ApiClient, Configuration

from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.identity import ServerIdentity
from profile_spawner.kube.rbac import required_rules
from profile_spawner.names import content_hash, object_name
from profile_spawner.policy.settings import DEFAULT_KINDS, OPT_IN_KINDS, Policy
from profile_spawner.profiles.resources import KubeObject, Lifetime
from tests.control_plane import ControlPlane
from tests.fault_proxy import FaultProxy

HUB_USER = "system:serviceaccount:hub:hub"
LOG = logging.getLogger("tests.kube")


def identity(namespace: str, **changes: Any) -> ServerIdentity:
    """Return a server's identity; `changes` make another one."""
    values: dict[str, Any] = {
        "hub": "hub-a",
        "user": "Ünal/ß",
        "server": "",
        "namespace": namespace,
        "pod_name": "jupyter-unal",
        "spawn_id": "spawn-1",
        "profile": "gpu",
        "generation": "7",
    }
    return ServerIdentity(**{**values, **changes})


def pod(**spec: Any) -> dict[str, Any]:
    """Return a pod as small as the API server takes it."""
    container = {"name": "notebook", "image": "local/a:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "whatever", "labels": {"app.kubernetes.io/managed-by": "kubespawner"}},
        "spec": {"containers": [container], "automountServiceAccountToken": False, **spec},
    }


def shared_map(text: str = "hello") -> KubeObject:
    """Return a content-addressed ConfigMap."""
    data = {"start.sh": text}
    name = object_name("files", content_hash(data))
    return KubeObject("v1", "ConfigMap", name, Lifetime.shared, "config_maps", {"data": data})


def persistent_claim(name: str = "home-unal") -> KubeObject:
    """Return a user's claim."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return KubeObject("v1", "PersistentVolumeClaim", name, Lifetime.persistent, "volumes", {"spec": spec})


def owned(kind: str = "Secret", name: str = "token-unal", api_version: str = "v1", **body: Any) -> KubeObject:
    """Return an object that goes with the pod."""
    return KubeObject(api_version, kind, name, Lifetime.owned, "manifests", body or {"stringData": {"a": "b"}})


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest_asyncio.fixture(loop_scope="session")
async def api_client(control_plane: ControlPlane, proxy: FaultProxy, namespace: str) -> AsyncIterator[ApiClient]:
    """The hub's client, with exactly the rights that `required_rules` names."""
    await control_plane.grant(namespace, HUB_USER, required_rules(DEFAULT_KINDS | OPT_IN_KINDS))
    configuration = Configuration(host=proxy.url)
    configuration.api_key = {"BearerToken": f"Bearer {control_plane.token_for(HUB_USER)}"}
    async with ApiClient(configuration) as client:
        yield client


@pytest.fixture
def new_cluster(api_client: ApiClient) -> Callable[..., Cluster]:
    """Make a `Cluster` as a hub does at its start; impatient, so that tests are quick."""

    def make(**options: Any) -> Cluster:
        values: dict[str, Any] = {"retry_budget": 10.0, "first_pause": 0.02, "log": LOG, "policy": Policy()}
        return Cluster(api_client, **{**values, **options})

    return make


@pytest.fixture
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A fresh `Cluster` that knows nothing yet."""
    return new_cluster()
