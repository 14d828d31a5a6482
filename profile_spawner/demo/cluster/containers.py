"""Starts a container of a pod: environment, files, process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from .addresses import AddressPool
from .apiclient import ApiClient, Json, KnownObjects
from .environment import PodFacts, command_of, environment_of
from .events import EventRecorder
from .processes import ProcessContainer
from .sandbox import ContainerPlan, Sandbox
from .stubs import StubContainer
from .volumes import VolumeStore

__all__ = ["Container", "PodHost", "Runtime", "start_container"]

Runtime: TypeAlias = Literal["process", "stub"]
Container: TypeAlias = ProcessContainer | StubContainer

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
        state_dir: Where their files are.
        node: The node's name.
        backoff: Seconds before the second restart of a container; doubled each time, up to 30 times as long.
        environment: Variables that win over those of the pod.
        sandbox: How processes see the machine; None in the `stub` runtime.
        images: Images that have been "pulled".
    """

    client: ApiClient
    state_dir: Path
    node: str
    backoff: float
    environment: Mapping[str, str]
    sandbox: Sandbox | None = None
    images: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.recorder = EventRecorder(self.client, self.node)
        self.cache = KnownObjects(self.client)
        self.volumes = VolumeStore(self.state_dir, self.cache.read)
        self.addresses = AddressPool()


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
    folder = host.volumes.pod_folder(facts.pod["metadata"]["uid"])
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
        folder=folder / "containers" / container["name"],
        argv=command_of(container, own, facts.ip, _COMMAND),
        env=env,
        cwd=container.get("workingDir") or env["HOME"],
        hostname=hostname,
        mounts=host.volumes.mounts_of(container, folders, facts.pod),
        hosts=f"{facts.ip}\t{hostname}\n",
    )
    log_path = folder / "logs" / container["name"]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    return await ProcessContainer.create(host.sandbox, plan, log_path)
