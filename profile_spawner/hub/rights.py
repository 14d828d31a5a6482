"""Checks whether the hub may create the objects of its profiles. If not, the profile is shown as unavailable.

Other missing rights are only reported: servers start without them.

The check runs in the background when the hub starts, when profiles change, and every 30 s while rights are missing or
cannot be checked. Pages and spawns do not wait for it. A hub that has all rights checks again when the profiles change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from profile_spawner.errors import ClusterError
from profile_spawner.kube.rbac import missing_rights, required_rules
from profile_spawner.policy.kinds import BY_KIND
from profile_spawner.profiles.entry import with_availability
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text

__all__ = ["Rights"]

_PAUSE = 5.0
_AGAIN = 30.0
_KIND_OF = {(kind.group, kind.plural): name for name, kind in BY_KIND.items()}


class Rights:
    """The rights of one hub in the namespace of its servers.

    Args:
        log: The hub's logger.

    Attributes:
        lacking: The kinds of objects that the hub may not create.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self.lacking: frozenset[str] = frozenset()
        self._reported = ""
        self._task: asyncio.Task[None] | None = None
        self._seen: tuple[Snapshot, frozenset[str], Snapshot] | None = None

    def watch(self, api_client: Any, namespace: str, current: Callable[[], Snapshot], *, delete_claims: bool) -> None:
        """Check the rights for the kinds of the current profiles in the background; see `check`."""
        if self._task is None or self._task.done():
            run = self._run(api_client, namespace, current, delete_claims)
            self._task = asyncio.get_running_loop().create_task(run)

    async def _run(self, api_client: Any, namespace: str, current: Callable[[], Snapshot], delete_claims: bool) -> None:
        asked: Snapshot | None = None
        waited, unknown = 0.0, False
        while True:
            snapshot = current()
            if snapshot is not asked or ((self._reported or unknown) and waited >= _AGAIN):
                asked, waited = snapshot, 0.0
                try:
                    await self.check(api_client, namespace, snapshot, delete_claims=delete_claims)
                    unknown = False
                except ClusterError as e:
                    if not unknown:
                        self._log.info("The hub's rights cannot be checked now, and profiles stay as they are: %s", e)
                    unknown = True
            await asyncio.sleep(_PAUSE)
            waited += _PAUSE

    async def check(self, api_client: Any, namespace: str, snapshot: Snapshot, *, delete_claims: bool) -> None:
        """Ask the API server which rights the hub lacks for the objects of a snapshot, and report what is missing.

        Args:
            api_client: A `kubernetes_asyncio.client.ApiClient` with the hub's credentials.
            namespace: The namespace of the servers.
            snapshot: The profiles.
            delete_claims: Whether a user's claims are to be deleted with the user (`delete_pvc`).

        Raises:
            ClusterError: If the API server cannot be asked.
        """
        kinds = {kind for entry in snapshot.entries.values() for kind in entry.kinds if kind in BY_KIND}
        rules = required_rules(kinds, claims=False, delete_claims=delete_claims, events=False)
        missing = await missing_rights(api_client, [r for r in rules if r["resources"] != ["pods"]], namespace)
        self.lacking = frozenset(
            name
            for rule in missing
            if "create" in rule["verbs"] and (name := _KIND_OF.get((rule["apiGroups"][0], rule["resources"][0])))
        )
        report = "; ".join(f"{', '.join(rule['verbs'])} {', '.join(rule['resources'])}" for rule in missing)
        if report == self._reported:
            return
        self._reported = report
        if self.lacking:
            self._log.error(
                "The hub lacks rights in namespace %s, and profiles with %s are not available. Missing: %s. "
                "`profile-spawner rbac` prints the Role",
                namespace,
                ", ".join(sorted(self.lacking)),
                report,
            )
        elif report:
            self._log.warning(
                "The hub lacks rights in namespace %s. Servers start without them, but what earlier starts or deleted "
                "users left is not replaced or deleted. Missing: %s. `profile-spawner rbac` prints the Role",
                namespace,
                report,
            )
        else:
            self._log.info("The hub has all rights that its profiles need")

    def available(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot; profiles whose objects the hub may not create are marked as unavailable."""
        if not self.lacking:
            return snapshot
        if self._seen is None or self._seen[0] is not snapshot or self._seen[1] is not self.lacking:
            entries = []
            for entry in snapshot.entries.values():
                missing = sorted(kind for kind in entry.kinds if kind in self.lacking)
                if missing and not entry.offer.unavailable:
                    reason = Text(
                        "The hub is not allowed to make what it needs (%(kinds)s). Please tell your administrator.",
                        kinds=", ".join(missing),
                    )
                    entry = with_availability(entry, reason)
                entries.append(entry)
            marked = Snapshot(
                entries, generation=snapshot.generation, resolver=snapshot.resolver, problems=snapshot.reported
            )
            self._seen = (snapshot, self.lacking, marked)
        return self._seen[2]
