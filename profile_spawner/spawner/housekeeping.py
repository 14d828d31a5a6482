"""Removes shared files that no server uses any more: at the hub's start, now and then, and after servers have stopped.

No spawn waits for it, and a spawn costs no call for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from profile_spawner.errors import ClusterError
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.sweep import Sweeper

__all__ = ["Housekeeping"]


class Housekeeping:
    """The sweeping of one hub's namespaces.

    Args:
        cluster: The hub's view of the cluster.
        hub: The hub's identity.
        grace: How long an unused object stays, in seconds.
        interval: The pause between passes, in seconds; 0 switches them off.
        log: The hub's logger.
    """

    def __init__(self, cluster: Cluster, hub: str, *, grace: float, interval: float, log: Any) -> None:
        self._sweeper = Sweeper(cluster, hub, grace_seconds=grace, kinds=("ConfigMap",))
        self._pause = min(interval, max(grace, 1.0)) if interval else 0.0
        self._log = log
        self._namespaces: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self, namespace: str) -> None:
        """Look after `namespace` from now on."""
        if not self._pause:
            return
        self._namespaces.add(namespace)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            for namespace in sorted(self._namespaces):
                try:
                    await self._sweeper.sweep(namespace)
                except ClusterError as e:
                    if e.reason == "forbidden":
                        self._log.warning("Unused files in %s are not removed: %s", namespace, e)
                        self._namespaces.discard(namespace)
                    else:
                        self._log.info("Looking for unused files in %s failed and is tried again: %s", namespace, e)
