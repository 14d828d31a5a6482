"""One start of a server: checks what will be created, creates it, and waits until the server answers.

KubeSpawner controls the order of the steps. Each step can be repeated, does not change objects of other owners, and
fails with a message that says who has to act.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import BuildError
from profile_spawner.kube.identity import ServerIdentity
from profile_spawner.policy.judge import check_objects
from profile_spawner.profiles.author_code import as_exception, call_author
from profile_spawner.profiles.base import ProfileBuild
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.resources import KubeObject, Lifetime
from profile_spawner.profiles.selection import Selection
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text, joined

from .progress import OTHER_IMAGE, TELL_ADMIN, explain
from .refusals import refusal
from .seams import uncounted
from .waiting import PodWatch, server_answers

if TYPE_CHECKING:
    from .spawner import ProfileSpawner

__all__ = ["ChosenProfile", "Preview", "ServerStart"]

_LONGEST_PAUSE = 5.0
_LEAST_WAIT = 3.0
"""How long a created pod is waited for at least, in seconds."""


@dataclass
class ChosenProfile:
    """The profile and options of a spawn. They belong to one snapshot for the whole spawn.

    Attributes:
        request: The `user_options` that were chosen from.
        listed: The `profile_list` at that time.
        snapshot: The profiles at that time.
        selection: The validated choice.
        entry: The profile.
        build: The built profile; `None` for a plain `profile_list` entry, and before the build.
        params: The values of the params with their sources, without secrets.
        spawn_id: Unique for each start of the server.
    """

    request: Mapping[str, Any]
    listed: Any
    snapshot: Snapshot
    selection: Selection
    entry: Entry
    build: ProfileBuild | None = None
    params: dict[str, Any] = field(default_factory=dict)
    spawn_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])


@dataclass(frozen=True)
class Preview:
    """What a start of a server would create.

    Attributes:
        pod: The pod, as it would be sent.
        manifests: Everything else, as it would be sent.
        objects: The objects of the profile, before labels are added.
    """

    pod: dict[str, Any]
    manifests: tuple[dict[str, Any], ...]
    objects: tuple[KubeObject, ...]


class ServerStart:
    """One start of a server. Identity and objects do not change until it ends.

    Args:
        spawner: The server's spawner, whose traits have the profile's values already.

    Attributes:
        identity: The spawn.
        objects: The objects of the profile.
        failure: Why the start failed after the pod was created; `None` if it did not.
    """

    def __init__(self, spawner: ProfileSpawner) -> None:
        self._spawner = spawner
        self._chosen = chosen = spawner.chosen
        self.identity: ServerIdentity = spawner.identity()
        self.objects: Sequence[KubeObject] = chosen.build.objects if chosen and chosen.build else ()
        if chosen is not None and spawner.profiles.data_rights(chosen.entry) is not None:
            self.objects = [replace(item, confined=True) for item in self.objects]
        self.failure: Exception | None = None
        self._created: Mapping[str, Any] | None = None
        self._recorded = False

    @property
    def pod_uid(self) -> str:
        """The UID of the pod that this start has created."""
        assert self._created is not None
        return str(self._created["metadata"]["uid"])

    # ---------------------------------------------------------------------------------------------- creating

    @property
    def _trusted(self) -> bool:
        return self._chosen is None or self._chosen.entry.profile.contributor == "hub"

    def check(self, pod: Any) -> dict[str, Any]:
        """Return the pod as it is sent. Parts that the hub's configuration gives to every server are not judged.

        Raises:
            PolicyError: If the policy does not allow the pod or an object.
        """
        spawner = self._spawner
        self._check_objects()
        original = spawner.trait_snapshot.original
        accounts = [spawner.expanded(original("service_account") or "")]
        accounts += [item.name for item in self.objects if item.kind == "ServiceAccount"]
        parts = () if self._trusted else spawner.pod_parts(original)
        return spawner.cluster.checked_pod(
            self.identity, pod, trusted=self._trusted, hub_parts=parts, service_accounts=accounts
        )

    def _check_objects(self) -> None:
        policy = self._spawner.profiles.policy
        check_objects(policy, self.identity.profile, self.objects, self.identity.namespace)

    async def begin_writing(self) -> None:
        """Check and record all objects before the first one is created, which can be a namespace or a claim.

        So errors are found before any API call, and a hub that was killed finds the objects that it has created.

        Raises:
            tornado.web.HTTPError: If the policy does not allow what the profile asks for.
        """
        spawner = self._spawner
        if self._recorded:
            return
        # What the profile adds is checked while the pod is made, and what hooks change is not the profile's.
        pod = None if self._trusted else await spawner.get_pod_manifest()
        with self._answered():
            if pod is None or spawner.modify_pod_hook:
                self._check_objects()  # the pod is checked when the hooks have changed it
            else:
                self.check(pod)
        self._record()

    def _record(self) -> None:
        self._recorded = True
        self._spawner.record_start(self.identity, self.objects)

    async def create_pod(self, pod: Any) -> None:
        """Create the shared and persistent objects and the pod. Can be repeated.

        Raises:
            tornado.web.HTTPError: If the policy does not allow it, or the cluster refuses it.
        """
        spawner = self._spawner
        with self._answered():
            body = self.check(pod)
            if self._chosen is not None and not spawner.has_port(body):
                raise BuildError(
                    "the server's container has no port 'notebook-port'",
                    profile=self.identity.profile,
                    origin=self._chosen.entry.origin,
                    hint="Let extra_container_config not replace its ports",
                )
            if not self._recorded:
                self._record()
            await spawner.cluster.prepare(self.identity, self.objects)
            if self._chosen is not None:
                spawner.keep_house()
            created = await spawner.cluster.create_pod(self.identity, body)
        self._created = created
        spawner.pod_reflector.show(created)

    async def create_owned(self, objects: Sequence[KubeObject]) -> None:
        """Create the owned ones of these objects. The pod of this start owns them.

        Raises:
            tornado.web.HTTPError: If the cluster refuses one.
        """
        with self._answered():
            await self._spawner.cluster.attach(self.identity, objects, self.identity.pod_name, self.pod_uid)

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        """Raise every error as the answer for the user. If it happens after the pod was made, it is the reason."""
        try:
            yield
        except Exception as e:  # noqa: BLE001 - a profile's values can make anything fail
            answer = self._spawner.answer_to(e)
            if self._created is not None:
                self.failure = answer
            # Not chained: the API server's error may contain the manifest.
            raise answer from None

    async def finish(self, pod: Any, configured: Callable[[Any, Any], Any] | None) -> None:
        """Create the objects that the pod owns, call the administrator's hook, and wait until the server answers.

        The pod waits for them: the kubelet tries again until a ConfigMap, Secret or claim exists. KubeSpawner deletes
        the pod if this fails.

        Args:
            pod: The pod, as plain JSON.
            configured: The administrator's `after_pod_created_hook`.

        Raises:
            tornado.web.HTTPError: If an object cannot be created, or the server does not start.
        """
        try:
            await self.create_owned(self.objects)
            self._spawner.record_complete()
            if configured is not None:
                await call_author(lambda: configured(self._spawner, pod), as_exception)
            with self._answered():
                await self._wait_until_answering()
        except Exception as e:
            self.failure = e
            raise

    # ---------------------------------------------------------------------------------------------- waiting

    async def _wait_until_answering(self) -> None:
        """Wait for the pod to run and for its server to answer, so that the user gets in without a further pause.

        Raises:
            tornado.web.HTTPError: If the pod ends or is deleted meanwhile.
        """
        spawner = self._spawner
        loop = asyncio.get_running_loop()
        # Even if everything before took most of the time: the watch needs a moment to see the pod.
        now, limit = loop.time(), float(spawner.start_timeout)
        deadline = max((spawner.start_began or now) + limit, now + min(limit, _LEAST_WAIT))
        shared = [item for item in self.objects if item.lifetime is Lifetime.shared]
        pod, seen = None, False
        while loop.time() < deadline:
            reflector: PodWatch = spawner.pod_reflector
            pod = reflector.pods.get(spawner.pod_key)
            if pod is not None and pod["metadata"]["uid"] == self.pod_uid:
                # Events of an earlier pod may still arrive and remove the pod that was only shown.
                seen = seen or pod is not self._created
                if _ended(pod):
                    raise self._early_end(pod)
                if spawner.is_pod_running(pod):
                    await self._until_it_answers(pod)
                    return
            elif seen:
                uncounted(spawner)
                message = Text("The server was stopped while it was starting.")
                raise refusal(spawner.say(message), reason="stopped", status=409)
            if shared and _misses_one_of(shared, spawner.events):
                spawner.log.warning("A file that pod %s waits for was deleted; it is created again", spawner.pod_key)
                await spawner.cluster.recreate(self.identity, shared)
                shared = []
            pause = 1.0 if shared else _LONGEST_PAUSE
            await reflector.changed(spawner.pod_key, min(pause, max(0.1, deadline - loop.time())))
        self._raise_explained(pod if seen else None)

    async def _until_it_answers(self, pod: Mapping[str, Any]) -> None:
        """Wait until the server of a running pod answers.

        Raises:
            tornado.web.HTTPError: If the pod ends meanwhile, or the server does not answer: its image may be made for
                another purpose. That is not a fault of the cluster, and a restart of the hub would not help.
        """
        spawner = self._spawner
        path = (spawner.server.base_url if spawner.server else "/") + "api"

        def now() -> Mapping[str, Any] | None:
            found: Mapping[str, Any] | None = spawner.pod_reflector.pods.get(spawner.pod_key)
            return found

        # Not less, even if the pod took most of the time: JupyterHub would wait as long, and count the failure.
        timeout = float(spawner.http_timeout)
        if await server_answers(spawner.pod_url(pod), path, timeout=timeout, gone=lambda: _ended(now())):
            return
        if _ended(now()):
            raise self._early_end(now())
        uncounted(spawner)
        seconds = spawner.http_timeout
        happened = Text("The server runs, but did not answer within %(seconds)s seconds.", seconds=seconds)
        message = spawner.say(joined((happened, Text(OTHER_IMAGE))))
        log_message = f"pod {spawner.pod_key} runs, but nothing answered within {seconds} seconds"
        raise refusal(message, reason="not_answering", status=422, log_message=log_message)

    def _raise_explained(self, pod: Mapping[str, Any] | None) -> None:
        """Say why the server does not start; if the pod was never seen, the cluster may be to blame.

        Raises:
            tornado.web.HTTPError: with what happened and what to try.
        """
        spawner = self._spawner
        seconds = spawner.start_timeout
        why = explain(pod, spawner.events)
        if why is None and pod is None:
            raise spawner.late()
        why = why or Text(TELL_ADMIN)
        uncounted(spawner)
        happened = Text("The server did not start within %(seconds)s seconds.", seconds=seconds)
        log_message = f"pod {spawner.pod_key} did not start in {seconds} seconds: {why}"
        raise refusal(spawner.say(joined((happened, why))), reason="not_started", status=422, log_message=log_message)

    def _early_end(self, pod: Mapping[str, Any] | None) -> Exception:
        """Return the answer for a server that ended before it could be used."""
        spawner = self._spawner
        uncounted(spawner)
        statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or ()
        codes = [s["state"]["terminated"].get("exitCode") for s in statuses if "terminated" in (s.get("state") or {})]
        code = codes[0] if codes else "?"
        happened = Text("The server ended right after its start (exit code %(code)s).", code=code)
        why = explain(pod, ()) or Text(
            "Try again, or choose another profile; your administrator finds the reason in the log of the pod."
        )
        log_message = f"pod {spawner.pod_key} ended while it was starting (exit code {code})"
        return refusal(spawner.say(joined((happened, why))), reason="server_ended", status=422, log_message=log_message)


def _ended(pod: Mapping[str, Any] | None) -> bool:
    return pod is None or (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def _misses_one_of(shared: Sequence[KubeObject], events: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an event of the pod says that one of these objects does not exist."""
    names = [f'"{item.name}" not found' for item in shared]
    return any(name in (event.get("message") or "") for event in events for name in names)
