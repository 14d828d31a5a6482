"""Starts a container of a pod: environment, files, process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from .addresses import AddressPool
from .apiclient import ApiClient, Json, ObjectCache
from .environment import PodFacts, command_of, environment_of
from .events import EventRecorder
from .processes import Container, ProcessContainer
from .sandbox import ContainerPlan, Sandbox
from .stubs import StubContainer
from .volumes import VolumeStore

__all__ = ["PodHost", "Runtime", "container_folder", "log_file", "start_container"]

Runtime: TypeAlias = Literal["process", "stub"]

_HOME = "/home/jovyan"
"""The home of a container that names none, as in Jupyter's images."""

_COMMAND = "jupyterhub-singleuser"
"""What an image runs when the pod names no command."""

_SHELL = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"

_JUPYTER_CONFIG = Path(__file__).with_name("jupyter")
"""Lets Jupyter servers run as root, as the configuration in an image does. The hub's configuration need not know."""


@dataclass
class PodHost:
    """What all pods of a node share.

    Attributes:
        client: The client of the API server.
        recorder: Where events go.
        cache: Has the objects that pods refer to.
        volumes: Makes volumes.
        node: The node's name.
        backoff: Seconds before the second restart of a container; doubled each time, up to 30 times as long.
        environment: Variables that win over those of the pod.
        sandbox: How processes see the machine; None in the `stub` runtime.
        addresses: Gives out pod addresses.
        images: Images that have been "pulled".
    """

    client: ApiClient
    recorder: EventRecorder
    cache: ObjectCache
    volumes: VolumeStore
    node: str
    backoff: float
    environment: Mapping[str, str]
    sandbox: Sandbox | None = None
    addresses: AddressPool = field(default_factory=AddressPool)
    images: set[str] = field(default_factory=set)


async def start_container(host: PodHost, facts: PodFacts, container: Json, folders: Mapping[str, Path]) -> Container:
    """Start a container of a pod.

    Args:
        host: What the pods of the node share.
        facts: The pod.
        container: The container's part of it.
        folders: The folder of each volume.

    Raises:
        MissingError: Something that its environment or its mounts refer to.
        StartError: Its program could not be started.
    """
    own = await environment_of(container, facts, host.cache.read)
    if host.sandbox is None:
        init = container in (facts.pod["spec"].get("initContainers") or [])
        ports = [port["containerPort"] for port in container.get("ports") or []]
        return await StubContainer.create(facts.ip, [] if init else ports, code=0 if init else None)
    hostname = facts.pod["spec"].get("hostname") or facts.pod["metadata"]["name"]
    image = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": _HOME,
        "HOSTNAME": hostname,
        "LANG": "C.UTF-8",
        "SHELL": _SHELL,
    }
    env = {**image, **own, **host.environment}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    if os.geteuid() == 0:
        env["JUPYTER_CONFIG_PATH"] = ":".join(filter(None, (env.get("JUPYTER_CONFIG_PATH"), str(_JUPYTER_CONFIG))))
    plan = ContainerPlan(
        folder=container_folder(host, facts.pod, container["name"]),
        argv=command_of(container, own, facts.ip, _COMMAND),
        env=env,
        cwd=container.get("workingDir") or env["HOME"],
        hostname=hostname,
        mounts=host.volumes.mounts_of(container, folders, facts.pod),
        hosts=f"{facts.ip}\t{hostname}\n",
    )
    log_path = log_file(host, facts.pod, container["name"])
    log_path.parent.mkdir(parents=True, exist_ok=True)
    return await ProcessContainer.create(host.sandbox, plan, log_path)


def log_file(host: PodHost, pod: Json, container: str) -> Path:
    """Return where the output of a container goes."""
    return host.volumes.pod_folder(pod["metadata"]["uid"]) / "logs" / container


def container_folder(host: PodHost, pod: Json, container: str) -> Path:
    """Return where what a container writes outside of its volumes is kept, until it ends."""
    return host.volumes.pod_folder(pod["metadata"]["uid"]) / "containers" / container
