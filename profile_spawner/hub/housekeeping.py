"""Removes unused objects at a fixed interval, from the hub's start on.

It runs in the background. Spawns do not wait for it and make no extra API calls for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from profile_spawner.errors import ClusterError
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.sweep import Sweeper
from profile_spawner.names import identity_hash

__all__ = ["Housekeeping", "ServerRow", "Servers", "known_servers", "recorded_spawns"]

_FRESH_SECONDS = 30.0
"""The maximum age of the cached list of the hub's servers, in seconds."""


class Servers(NamedTuple):
    """The servers of a hub, by `ServerIdentity.server_hash`.

    Attributes:
        in_use: Servers that run, start or stop.
        recorded: Returns the ids of the spawns of a server that are recorded in the hub's database.
    """

    in_use: frozenset[str]
    recorded: Callable[[str], Collection[str]]


class Housekeeping:
    """Removes unused objects from the namespaces of one hub.

    Args:
        cluster: The hub's view of the cluster.
        hub: The hub's identity.
        grace: How long an unused object stays, in seconds.
        interval: The pause between passes, in seconds; 0 switches them off.
        files: Whether profiles can have files, whose ConfigMaps are to be found.
        has_files: Returns whether a profile has files now, so that a missing right is worth a warning.
        log: The hub's logger.
        servers: Returns the hub's servers; `None` if they are unknown; then no pod is removed.
    """

    def __init__(
        self,
        cluster: Cluster,
        hub: str,
        *,
        grace: float,
        interval: float,
        files: bool,
        has_files: Callable[[], bool],
        log: Any,
        servers: Callable[[], Servers | None] = lambda: None,
    ) -> None:
        self._sweeper = Sweeper(cluster, hub, grace_seconds=grace)
        self._pause = min(interval, max(grace, 1.0)) if interval else 0.0
        self._files = files
        self._has_files = has_files
        self._log = log
        self._servers = servers
        self._namespaces: dict[str, int] = {}
        self._forbidden: dict[str, bool] = {}  # with whether a warning has been logged
        self._task: asyncio.Task[None] | None = None
        # Far less than a pod has to be to count as left over.
        self._fresh = min(_FRESH_SECONDS, grace / 2)
        self._known: tuple[float, Servers | None] = (float("-inf"), None)

    def watch(self, namespace: str) -> None:
        """Check `namespace` for unused objects from now on."""
        if not self._pause:
            return
        self._namespaces[namespace] = self._namespaces.get(namespace, 0) + 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            for namespace in sorted(self._namespaces):
                starts = self._namespaces[namespace]
                try:
                    await self._pass(namespace)
                    empty = namespace not in self._forbidden and self._sweeper.forget_empty(namespace)
                    # The next start adds the namespace again. Keep it if a server has started during this pass.
                    if empty and self._namespaces[namespace] == starts:
                        del self._namespaces[namespace]
                except ClusterError as e:
                    self._log.info("Looking for unused objects in %s failed and is tried again: %s", namespace, e)
                except Exception:  # noqa: BLE001 - logged with its traceback
                    # Continue with the next pass; an uncaught error would end the task.
                    self._log.exception("Looking for unused objects in %s failed and is tried again", namespace)

    async def _pass(self, namespace: str) -> None:
        if self._files:
            await self._sweep(namespace)
        servers = self._servers_now()
        if servers is not None:
            await self._sweeper.stray_pods(namespace, servers.in_use, servers.recorded)

    async def _sweep(self, namespace: str) -> None:
        """Remove unused files. The right to do so may be missing now and be granted later."""
        try:
            await self._sweeper.sweep(namespace)
        except ClusterError as e:
            if e.reason != "forbidden":
                raise
            warned = self._forbidden.get(namespace, False)
            if not warned and self._has_files():
                self._log.warning("Unused files in %s are not removed: %s", namespace, e)
                warned = True
            self._forbidden[namespace] = warned
        else:
            if self._forbidden.pop(namespace, False):
                self._log.info("Unused files in %s are removed again", namespace)

    def _servers_now(self) -> Servers | None:
        """Return the hub's servers; the result of the database query is cached for many user namespaces."""
        now = time.monotonic()
        if now - self._known[0] > self._fresh:
            self._known = (now, self._servers())
        return self._known[1]


class ServerRow(NamedTuple):
    """A server in the hub's database.

    Attributes:
        user: The user's name.
        name: The server's name; empty for the default server.
        number: The row's primary key.
        has_address: Whether the server runs, starts or stops.
    """

    user: str
    name: str
    number: int
    has_address: bool


def known_servers(
    hub: str, app: Any, rows: Iterable[ServerRow], spawns_of: Callable[[int], Collection[str]]
) -> Servers:
    """Return the servers of a hub.

    Args:
        hub: The hub's identity.
        app: The `JupyterHub` application.
        rows: All servers in the hub's database: users are loaded into memory as they come along, so that memory alone
            is not complete.
        spawns_of: Returns the ids of the recorded spawns of a row.
    """
    known = {identity_hash(hub, row.user, row.name): row for row in rows}
    in_use = {server for server, row in known.items() if row.has_address}
    for user in list(app.users.values()):
        active = [name for name, spawner in list(user.spawners.items()) if spawner.active or spawner.pending]
        in_use |= {identity_hash(hub, user.name, name) for name in active}
    return Servers(
        in_use=frozenset(in_use),
        recorded=lambda server: spawns_of(known[server].number) if server in known else (),
    )


def recorded_spawns(state: Any) -> frozenset[str]:
    """Return the ids of the last spawns in the recorded state of a server; see `ProfileSpawner.get_state`."""
    return frozenset(((state or {}).get("profile_spawner") or {}).get("spawns") or ())
