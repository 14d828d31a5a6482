"""Starts and stops the local cluster: API server, scheduler and kubelet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType

from .containers import Runtime
from .kubelet import Kubelet, NodeSpec
from .private_files import write_private
from .server import ApiServer

__all__ = ["LocalCluster"]

_CHUNK = 1 << 16
_FOLLOW_SECONDS = 0.2


class LocalCluster:
    """A Kubernetes for one machine.

    To be used with `async with`, or by `start()` and `stop()`.

    Args:
        state_dir: The folder for everything that is written; the data of PersistentVolumeClaims and the objects of
            the API server (but pods and events) stay in it. Only one cluster at a time may use it.
        node: Name, labels and capacity of the node.
        runtime: `process` runs containers as processes, `stub` only answers HTTP requests.
        environment: Variables of every container.

    Attributes:
        api: The API server, with its users.
        kubelet: The kubelet; it is made by `start()`.
        admin_token: The bearer token of an administrator.
    """

    kubelet: Kubelet

    def __init__(
        self,
        state_dir: Path,
        *,
        node: NodeSpec | None = None,
        runtime: Runtime = "process",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.api = ApiServer(log_provider=self._read_log, state_file=self.state_dir / "objects.json")
        self.admin_token = self.api.add_admin()
        self._node = node or NodeSpec()
        self._runtime: Runtime = runtime
        self._environment = environment

    async def start(self) -> None:
        """Start the API server and the node.

        Raises:
            LocalClusterError: The state file is not one of the local cluster.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self.api.start()
        token = self.api.add_admin("kubelet")
        self.kubelet = Kubelet(
            self.api.url, token, self.state_dir, node=self._node, runtime=self._runtime, environment=self._environment
        )
        try:
            await self.kubelet.start()
        except BaseException:
            await self.api.stop()
            raise

    async def stop(self) -> None:
        """Stop every pod, the node and the API server. Safe to call twice."""
        if self.api.url:
            await self.kubelet.stop()
        await self.api.stop()

    async def __aenter__(self) -> LocalCluster:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def write_kubeconfig(self, path: Path, *, user: str | None = None, namespace: str = "default") -> Path:
        """Write a kubeconfig that only its owner can read, and return its path.

        Args:
            path: Where to.
            user: The name of a new user, whose rights Roles define. None takes the administrator.
            namespace: The namespace that is meant when none is named.
        """
        token = self.api.add_user(user) if user else self.admin_token
        # JSON is YAML too, and it needs no other library to be read.
        write_private(path, json.dumps(self.api.kubeconfig(token, namespace), indent=2))
        return path

    async def _read_log(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> AsyncIterator[bytes]:
        """Yield the log of a container as `kubectl logs` asks for it (`tailLines`, `follow`)."""
        path = self.kubelet.log_path(namespace, pod, container)
        if path is None:
            return
        with path.open("rb") as file:
            if "tailLines" in query:
                lines = file.readlines()
                yield b"".join(lines[max(0, len(lines) - int(query["tailLines"])) :])
            while True:
                ended = container not in self.kubelet.running(namespace, pod)
                while chunk := file.read(_CHUNK):
                    yield chunk
                if query.get("follow") != "true" or ended:
                    return
                await asyncio.sleep(_FOLLOW_SECONDS)
