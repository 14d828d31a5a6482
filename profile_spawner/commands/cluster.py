"""Connects commands to a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from profile_spawner.errors import SourceError

__all__ = ["ClusterDocuments", "FromCluster", "Kubeconfig", "Namespace", "client", "read_object"]

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help="How to reach the cluster; by default as kubectl does, and in a pod by its service account.",
        exists=True,
        dir_okay=False,
        metavar="FILE",
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The namespace; the context's own by default.", metavar="NAME")
]
FromCluster = Annotated[
    bool,
    typer.Option(
        "--from-cluster",
        help="Include the profiles in the ConfigMaps and Secrets that the configuration selects. --kubeconfig and "
        "--namespace say where they are.",
    ),
]


@dataclass(frozen=True)
class ClusterDocuments:
    """Where ConfigMaps and Secrets with profiles are read.

    Attributes:
        kubeconfig: The kubeconfig of the cluster; `None` takes kubectl's, or the pod's service account.
        namespace: The namespace; `None` takes the configured one, or that of the kubeconfig's context.
    """

    kubeconfig: Path | None = None
    namespace: str | None = None


@contextlib.asynccontextmanager
async def client(kubeconfig: Path | None, namespace: str | None) -> AsyncIterator[tuple[Any, str]]:
    """Connect to the cluster; yield the client and the namespace.

    Raises:
        SourceError: If no cluster can be reached.
    """
    from profile_spawner.kube.connection import close, default_api_client, default_namespace

    api_client = await default_api_client(kubeconfig)
    try:
        yield api_client, namespace or default_namespace(kubeconfig)
    finally:
        await close(api_client)


async def read_object(plural: str, name: str, kubeconfig: Path | None, namespace: str | None) -> Any:
    """Read an object of the core API.

    Raises:
        SourceError: when it does not exist.
        ClusterError: when it cannot be read.
    """
    import logging

    from profile_spawner.kube.transport import Transport

    async with client(kubeconfig, namespace) as (api_client, where):
        transport = Transport(api_client, log=logging.getLogger(__name__))
        path = f"/api/v1/namespaces/{where}/{plural}/{name}"
        found = await transport.get_or_none(path, what=f"{plural[:-1]} {where}/{name}")
    if found is None:
        raise SourceError(f"there is no {plural[:-1]} {name!r} in namespace {where!r}", field="--namespace")
    return found
