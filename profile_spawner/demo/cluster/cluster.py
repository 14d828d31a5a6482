"""Starts and stops the local cluster: API server, scheduler and kubelet."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from .containers import Runtime
from .kubelet import Kubelet, NodeSpec
from .sandbox import Mode
from .server import ApiServer

__all__ = ["LocalCluster"]

_CHUNK = 1 << 16
_FOLLOW_SECONDS = 0.2


class LocalCluster:
    """A Kubernetes for one machine.

    To be used with `async with`, or by `start()` and `stop()`.

    Args:
        state_dir: The folder for everything that is written; the data of PersistentVolumeClaims and the objects of
            the API server (but pods and events) stay in it. None takes a temporary one, which goes away with the
            cluster.
        cpu: CPU cores of the node, as a quantity.
        memory: Its memory, as a quantity.
        gpus: How many GPUs it pretends to have.
        labels: Its labels, for node selectors.
        node: The whole node instead of the four.
        host: Where the API server listens.
        port: Its port; 0 takes a free one.
        runtime: `process` runs containers as processes, `stub` pretends.
        sandbox: How processes see the machine; None takes the best mode that works.
        options: Further options of `Kubelet`.

    Attributes:
        api: The API server, with its users, faults and record of calls.
        kubelet: The kubelet.
        admin_token: The bearer token of an administrator.
        url: The address of the API server.
        kubeconfig_path: The kubeconfig of the administrator.
    """

    def __init__(
        self,
        state_dir: str | Path | None = None,
        *,
        cpu: str | float = 8,
        memory: str = "32Gi",
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        node: NodeSpec | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        runtime: Runtime = "process",
        sandbox: Mode | None = None,
        **options: Any,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="local-cluster-") if state_dir is None else None
        self.state_dir = Path(self._temporary.name if self._temporary else state_dir or "").absolute()
        state_file = None if state_dir is None else self.state_dir / "objects.json"
        self.api = ApiServer(log_provider=self._read_log, state_file=state_file)
        self.admin_token = self.api.add_admin()
        self.kubeconfig_path = self.state_dir / "kubeconfig"
        self._node = node or NodeSpec(cpu=cpu, memory=memory, gpus=gpus, labels=labels or {})
        self._listen = (host, port)
        self._options: dict[str, Any] = {"runtime": runtime, "sandbox": sandbox, **options}
        self._kubelet: Kubelet | None = None

    @property
    def url(self) -> str:
        """The address of the API server; empty while it does not run."""
        return self.api.url

    @property
    def kubelet(self) -> Kubelet:
        """The kubelet; `RuntimeError` before `start()`."""
        if self._kubelet is None:
            raise RuntimeError("the local cluster has not been started: use `async with` or `await start()`")
        return self._kubelet

    async def start(self) -> None:
        """Start the API server, start the node, and write the administrator's kubeconfig.

        Raises:
            LocalClusterError: Another cluster uses the state folder.
            OSError: The port is taken.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self.api.start(*self._listen)
        try:
            kubelet = Kubelet(
                self.url, self.api.add_admin("kubelet"), self.state_dir, node=replace(self._node), **self._options
            )
            await kubelet.start()
            # Only now it is certain that no other cluster uses the folder.
            self.write_kubeconfig(self.kubeconfig_path)
        except BaseException:
            await self.stop()
            raise
        self._kubelet = kubelet

    async def stop(self) -> None:
        """Stop every pod, the node and the API server. Safe to call twice."""
        if self._kubelet is not None:
            await self._kubelet.stop()
        await self.api.stop()
        if self._temporary is not None:
            await asyncio.to_thread(self._temporary.cleanup)

    async def __aenter__(self) -> LocalCluster:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def write_kubeconfig(
        self,
        path: str | Path,
        *,
        token: str | None = None,
        user: str | None = None,
        groups: Sequence[str] = (),
        namespace: str = "default",
    ) -> Path:
        """Write a kubeconfig that only its owner can read, and return its path.

        Args:
            path: Where to.
            token: The bearer token; None takes the administrator's, or that of `user`.
            user: A new user to be let in under this name; Roles decide what it may do.
            groups: The groups of `user`.
            namespace: The namespace that is meant when none is named.
        """
        if token is None:
            token = self.api.add_user(user, groups) if user else self.admin_token
        path = Path(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            # JSON is YAML too, and it needs no other library to be read.
            json.dump(self.api.kubeconfig(token, namespace), file, indent=2)
        return path

    async def _read_log(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> AsyncIterator[bytes]:
        """Yield the log of a container as `kubectl logs` asks for it (`previous`, `tailLines`, `follow`)."""
        if self._kubelet is None:
            return
        kubelet = self._kubelet
        previous = query.get("previous") == "true"
        container = container or kubelet.default_container(namespace, pod)
        path = kubelet.log_path(namespace, pod, container, previous=previous)
        if path is None:
            return
        with path.open("rb") as file:
            if "tailLines" in query:
                _skip_to_tail(file, int(query["tailLines"]))
            while True:
                ended = container not in kubelet.running(namespace, pod)
                while chunk := file.read(_CHUNK):
                    yield chunk
                if query.get("follow") != "true" or ended:
                    return
                await asyncio.sleep(_FOLLOW_SECONDS)


def _skip_to_tail(file: Any, lines: int) -> None:
    """Move in `file` to the beginning of its last `lines` lines."""
    data = file.read()
    start = len(data)
    for _ in range(lines):
        start = data.rfind(b"\n", 0, max(start - 1, 0)) + 1
        if not start:
            break
    file.seek(start)
