"""Starts a container of a pod: image, environment, files, process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from .addresses import AddressPool
from .apiclient import ApiClient, Informer, Json
from .environment import ObjectReader, PodFacts, command_of, environment_of
from .events import EventRecorder
from .failures import LocalClusterError
from .processes import Container, ProcessContainer
from .sandbox import ContainerPlan, Sandbox
from .stubs import StubContainer
from .volumes import Mount, VolumeStore

__all__ = ["ImageError", "PodHost", "Runtime", "Starter", "log_file", "prepare_container"]

Runtime: TypeAlias = Literal["process", "stub"]
Starter: TypeAlias = Callable[[], Awaitable[Container]]

HOME = "/home/jovyan"
"""The home of a container that names none, as in Jupyter's images."""

_JUPYTER_CONFIG = "/.local-cluster/jupyter"


class ImageError(LocalClusterError):
    """An image cannot be pulled; the message is in the container runtime's words."""


@dataclass
class PodHost:
    """What all pods of a node share.

    Attributes:
        client: The client of the API server.
        recorder: Where events go.
        reader: Reads ConfigMaps, Secrets and claims.
        volumes: Makes volumes.
        addresses: Gives out pod addresses.
        node: The node's name.
        allocatable: What the node has, resource name to quantity.
        runtime: `process` or `stub`.
        sandbox: How processes see the machine; None in the `stub` runtime.
        default_command: What an image runs when the pod names no command.
        backoff: Seconds before the second restart of a container; doubled each time, up to 30 times as long.
        unpullable: Images of which a pull fails, to rehearse that.
        informers: The caches by plural, to wait for what is missing.
        images: Images that have been "pulled".
        jupyter_config: A folder with configuration for Jupyter servers, None for none.
        environment: Variables that win over those of the pod.
    """

    client: ApiClient
    recorder: EventRecorder
    reader: ObjectReader
    volumes: VolumeStore
    addresses: AddressPool
    node: str
    allocatable: Mapping[str, str]
    runtime: Runtime = "process"
    sandbox: Sandbox | None = None
    default_command: Sequence[str] = ("jupyterhub-singleuser",)
    backoff: float = 10.0
    unpullable: Collection[str] = ()
    informers: Mapping[str, Informer] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    jupyter_config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    async def wait_for(self, kind: str, namespace: str, name: str, timeout: float) -> None:
        """Wait until the object changes or appears, at most `timeout` seconds."""
        if kind in self.informers:
            await self.informers[kind].changed([(namespace, name)], timeout)
        else:
            await asyncio.sleep(timeout)

    def pull(self, pod: Json, container: Json, *, init: bool) -> None:
        """Pretend to pull the image of `container`.

        Raises:
            ImageError: It is one of the images that cannot be pulled.
        """
        image, name = container.get("image", ""), container["name"]
        policy = container.get("imagePullPolicy") or "IfNotPresent"
        known = image in self.images or policy == "Never"
        if known and policy != "Always":
            message = f'Container image "{image}" already present on machine'
            self.recorder.record(pod, "Pulled", message, container=name, init=init)
            return
        self.recorder.record(pod, "Pulling", f'Pulling image "{image}"', container=name, init=init)
        if image in self.unpullable:
            raise ImageError(
                f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
            )
        self.images.add(image)
        message = f'Successfully pulled image "{image}" in 0s (0s including waiting). Image size: 0 bytes.'
        self.recorder.record(pod, "Pulled", message, container=name, init=init)


async def prepare_container(
    host: PodHost, facts: PodFacts, container: Json, folders: Mapping[str, Path], attempt: int, *, init: bool
) -> Starter:
    """Make everything ready for a run of `container` and return what starts it.

    Args:
        host: What the pods of the node share.
        facts: The pod.
        container: The container's part of it.
        folders: The folder of each volume.
        attempt: How often it was started before.
        init: Whether it is an init container.

    Raises:
        ConfigError: Something that its environment refers to is missing.
        VolumeError: A sub-path of a volume cannot be used.
    """
    env = await environment_of(container, facts, host.reader)
    if host.runtime == "stub":
        ports = [] if init else [p["containerPort"] for p in container.get("ports") or []]
        return partial(StubContainer.create, facts.ip, ports, code=0 if init else None)
    assert host.sandbox is not None
    plan = _plan(host, facts, container, folders, attempt, env)
    log_path = log_file(host, facts.pod["metadata"]["uid"], container["name"], attempt)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    return partial(ProcessContainer.create, host.sandbox, plan, log_path)


def log_file(host: PodHost, uid: str, container: str, attempt: int) -> Path:
    """Return where the output of a container's run goes."""
    return host.volumes.pod_folder(uid) / "logs" / container / f"{attempt}.log"


def _plan(
    host: PodHost, facts: PodFacts, container: Json, folders: Mapping[str, Path], attempt: int, own: Mapping[str, str]
) -> ContainerPlan:
    """Return the plan of a process for `container` with the environment `own` of the pod."""
    pod = facts.pod
    hostname = pod["spec"].get("hostname") or pod["metadata"]["name"]
    mounts = host.volumes.mounts_of(container, folders, own, pod)
    env = {**_image_environment(host, hostname), **own, **host.environment}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    if host.jupyter_config is not None:
        config = _JUPYTER_CONFIG
        if host.sandbox is not None and host.sandbox.mode == "plain":
            config = str(host.jupyter_config)
        else:
            mounts.append(Mount(host.jupyter_config, config, read_only=True))
        env["JUPYTER_CONFIG_PATH"] = ":".join(filter(None, (env.get("JUPYTER_CONFIG_PATH"), config)))
    return ContainerPlan(
        folder=host.volumes.pod_folder(pod["metadata"]["uid"]) / "containers" / container["name"] / str(attempt),
        argv=command_of(container, own, facts.ip, list(host.default_command)),
        env=env,
        cwd=container.get("workingDir") or env["HOME"],
        home=env["HOME"],
        hostname=hostname,
        mounts=mounts,
        hosts=_hosts(facts.ip, hostname),
        post_start=_hook(container, "postStart"),
        pre_stop=_hook(container, "preStop"),
    )


def _hook(container: Json, name: str) -> list[str]:
    """Return the program of a lifecycle hook; hooks of other kinds are left out."""
    hook = (container.get("lifecycle") or {}).get(name) or {}
    return list((hook.get("exec") or {}).get("command") or [])


def _image_environment(host: PodHost, hostname: str) -> dict[str, str]:
    """Return what an image would set."""
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": HOME,
        "HOSTNAME": hostname,
        "LANG": "C.UTF-8",
        "SHELL": shell,
    }


def _hosts(ip: str, hostname: str) -> str:
    """Return the text of a pod's `/etc/hosts`."""
    try:
        text = Path("/etc/hosts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = "127.0.0.1\tlocalhost\n"
    return f"{text.rstrip()}\n{ip}\t{hostname}\n"
