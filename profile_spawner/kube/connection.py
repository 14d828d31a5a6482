"""Connects to the API server with the pod's service account or a kubeconfig."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes_asyncio import client, config
from kubernetes_asyncio.config import kube_config

from profile_spawner.errors import ClusterError

__all__ = ["close", "default_api_client", "default_namespace", "without_cluster"]

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_UNREACHABLE = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "none", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
}


async def default_api_client(kubeconfig: Path | None = None) -> client.ApiClient:
    """Return an API client. Without `kubeconfig`, use the pod's service account or kubectl's default kubeconfig.

    Raises:
        ClusterError: If there is no usable configuration.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig is not None:
            await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        else:
            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException:
                await config.load_kube_config(client_configuration=configuration)
    except (config.ConfigException, OSError, TypeError, ValueError) as e:
        raise ClusterError(
            f"there is neither a service account nor a kubeconfig that can be used ({e})",
            reason="unreachable",
            user_message="",
            blame="admin",
            hint="Set KUBECONFIG, or name the file",
        ) from None
    return client.ApiClient(configuration)


def default_namespace(kubeconfig: Path | None = None) -> str:
    """Return the namespace of the pod or of the kubeconfig's current context; otherwise `default`."""
    if kubeconfig is None and _SERVICE_ACCOUNT.exists():
        return _SERVICE_ACCOUNT.read_text(encoding="utf-8").strip()
    try:
        _, current = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG"))
    except (config.ConfigException, OSError):
        return "default"
    return str((current.get("context") or {}).get("namespace") or "default")


async def close(api_client: Any) -> None:
    """Close a client's connections; errors are ignored."""
    with contextlib.suppress(Exception):
        await api_client.close()


@contextlib.contextmanager
def without_cluster() -> Iterator[None]:
    """Allow a KubeSpawner to be created in this block without a cluster, with a kubeconfig that has a dummy address."""
    # kubernetes_asyncio reads KUBECONFIG once, when it is imported.
    before = kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    with tempfile.TemporaryDirectory(prefix="profile-spawner-") as folder:
        path = Path(folder) / "kubeconfig"
        path.write_text(json.dumps(_UNREACHABLE))
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION = str(path)
        try:
            yield
        finally:
            kube_config.KUBE_CONFIG_DEFAULT_LOCATION = before
