"""Starts and stops servers: creates and deletes the pod and its objects, and waits for them.

KubeSpawner controls the order of the steps. This module has the steps that talk to the cluster. Each step can be
repeated, does not change objects of other owners, and fails with a message that says who has to act.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyterhub.utils import maybe_future
from kubespawner.utils import get_k8s_model
from tornado import web

from profile_spawner.errors import BuildError, ClusterError, ProfileSpawnerError, shorten
from profile_spawner.kube.bodies import POD_PARTS
from profile_spawner.kube.failures import classify
from profile_spawner.kube.identity import ServerIdentity
from profile_spawner.metrics import SpawnResult, hub_metrics
from profile_spawner.policy.judge import check_objects, dotted, judge_objects, judge_server, own_names
from profile_spawner.policy.kinds import plain
from profile_spawner.policy.rules import Case
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.resources import KubeObject, Lifetime
from profile_spawner.profiles.user_text import escape_dollars
from profile_spawner.texts import Text, joined

from .applying import evaluated_once
from .env_order import in_order
from .progress import OTHER_IMAGE, TELL_ADMIN, explain
from .refusals import from_error, refusal, uncounted
from .upstream_objects import UpstreamObjectsMixin
from .waiting import NotifyingPodReflector, PodEventReflector, server_answers

__all__ = ["LifecycleMixin", "Preview"]

_LONGEST_PAUSE = 5.0
_LONGEST_LAG = 30.0
"""Seconds to wait until the reflector shows a pod that was created."""


@dataclass(frozen=True)
class Preview:
    """What a start of a server would create.

    Attributes:
        pod: The pod, as it would be sent.
        manifests: Everything else, as it would be sent.
        objects: The objects of the profile, before labels are added.
        missing: The parts that the pod lacks, and why; empty if the pod is final.
    """

    pod: dict[str, Any]
    manifests: tuple[dict[str, Any], ...]
    objects: tuple[KubeObject, ...]
    missing: tuple[ProfileSpawnerError, ...] = ()


class LifecycleMixin(UpstreamObjectsMixin):
    """The part of `ProfileSpawner` that starts and stops servers."""

    # What the other parts of the spawner provide.
    _chosen: Any
    _record: dict[str, Any]
    _traits_before: Any

    _begun: float = 0.0
    """When this start began, by the clock of the loop."""
    _plan: tuple[ServerIdentity, Sequence[KubeObject]] | None = None
    _pod_uid: str = ""
    """The UID of the pod of this start, once there is one."""

    @property
    def _log_name(self: Any) -> str:
        """The server, for the log: users and servers can have any name."""
        return shorten(super()._log_name, 200)  # type: ignore[misc]

    def _identity(self: Any, spawn_id: str = "") -> ServerIdentity:
        chosen = self._chosen
        return ServerIdentity(
            hub=self.hub_id,
            user=self.user.name,
            server=self.name,
            namespace=self.namespace,
            pod_name=self.pod_name,
            spawn_id=spawn_id or (chosen.spawn_id if chosen else uuid.uuid4().hex[:16]),
            profile=chosen.entry.slug if chosen else "",
            generation=str(chosen.snapshot.generation) if chosen else "",
            digest=chosen.entry.digest if chosen else "",
            params=chosen.params if chosen else {},
        )

    @property
    def _cluster(self: Any) -> Any:
        return self.profiles.cluster(
            self.api.api_client, self.k8s_api_request_timeout, self.k8s_api_request_retry_timeout
        )

    def keep_house(self: Any) -> None:
        """Remove unused objects in this server's namespace from now on."""
        if self._cluster is not None:
            self.profiles.housekeeping(self.api.api_client).watch(self.namespace)

    # ---------------------------------------------------------------------------------------------- starting

    async def _start(self: Any) -> Any:
        """Start the server as KubeSpawner does, and record the result."""
        result: SpawnResult = "failure"
        self._plan, self._pod_uid = None, ""
        hook = self.after_pod_created_hook
        try:
            address = await super()._start()  # type: ignore[misc]
            result = "success"
        except web.HTTPError as e:
            if e.status_code < 500:
                result = "refused"
            raise
        else:
            return address
        finally:
            self.after_pod_created_hook = hook
            hub_metrics().spawned(self._chosen.entry.slug if self._chosen is not None else "", result)

    def _planned(self: Any) -> tuple[ServerIdentity, Sequence[KubeObject]]:
        """Return the identity and the build of this start. They do not change until the start ends."""
        if self._plan is None:
            chosen = self._chosen
            objects = chosen.build.objects if chosen is not None and chosen.build is not None else ()
            self._plan = (self._identity(), objects)
        plan: tuple[ServerIdentity, Sequence[KubeObject]] = self._plan
        return plan

    async def _begin_writing(self: Any, pod: Any = None, *, first: bool = False) -> None:
        """Check and record all objects before the first is created, once for each start.

        So errors are found before any API call, and a hub that was killed finds the objects that it has created.

        Args:
            pod: The final pod.
            first: Whether objects are created before the pod is final; then the pod's content is checked later.

        Raises:
            tornado.web.HTTPError: when the policy does not allow what the profile asks for.
        """
        begun = self._plan is not None
        if begun and pod is None:
            return
        identity, objects = self._planned()
        try:
            if first and not self.modify_pod_hook and not self._trust(objects)["trusted"]:
                # Hooks may still change the pod, so it is checked after them.
                pod = await self.get_pod_manifest()
            check_objects(self.profiles.policy, identity.profile, objects, self.namespace)
            if pod is not None:
                self._cluster.checked_pod(identity, pod, **self._trust(objects))
        except ProfileSpawnerError as e:
            raise self._answer_to(e) from e
        if not begun:
            self._remember(identity, objects)

    async def _make_create_pod_request(self: Any, pod: Any, request_timeout: float) -> bool:
        """Create the pod and all its objects. Can be repeated."""
        del request_timeout
        await self._begin_writing(pod)
        identity, objects = self._planned()
        cluster = self._cluster
        try:
            await cluster.prepare(identity, objects)
            if self._chosen is not None:
                self.keep_house()
            created = await cluster.create_pod(identity, pod, **self._trust(objects))
            self._pod_uid = uid = created["metadata"]["uid"]
            if any(item.lifetime is Lifetime.owned for item in objects):
                await self._attach(identity, objects, uid)
        except ProfileSpawnerError as e:
            raise self._answer_to(e) from e
        if self.internal_ssl or self.services_enabled or self.after_pod_created_hook:
            await self._wait_after_hook(uid, identity, objects)
        else:
            await self._wait_until_answering(uid, identity, objects)
        return True

    async def _attach(self: Any, identity: ServerIdentity, objects: Sequence[KubeObject], uid: str) -> None:
        try:
            await self._cluster.attach(identity, objects, self.pod_name, uid)
        except ProfileSpawnerError:
            # JupyterHub stops only a server whose pod the reflector shows, which may not know this one yet.
            try:
                await self._cluster.delete_pod(identity, self.namespace, self.delete_grace_period, uid=uid)
            except ProfileSpawnerError as e:
                self.log.warning("The pod of a failed start stays for now: %s", e)
            raise

    async def _wait_after_hook(self: Any, uid: str, identity: ServerIdentity, objects: Sequence[KubeObject]) -> None:
        """Have KubeSpawner wait for the server after its last step, instead of polling with growing pauses.

        Before that, wait until the reflector shows this start's pod: KubeSpawner takes what it shows for it.
        """
        configured = self.after_pod_created_hook

        async def hook(spawner: Any, pod: Any) -> None:
            if configured is not None:
                await maybe_future(configured(spawner, pod))
            await self._wait_until_answering(uid, identity, objects)

        key = f"{self.namespace}/{self.pod_name}"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(_LONGEST_LAG, self.start_timeout)
        while isinstance(reflector := self.pod_reflector, NotifyingPodReflector) and loop.time() < deadline:
            if (reflector.pods.get(key) or {"metadata": {}})["metadata"].get("uid") == uid:
                break
            await reflector.changed(key, deadline - loop.time())
        self.after_pod_created_hook = hook

    def _trust(self: Any, objects: Sequence[KubeObject]) -> dict[str, Any]:
        """Return what of the pod the hub's own configuration answers for, as `Cluster.create_pod` takes it."""
        chosen = self._chosen
        trusted = chosen is None or chosen.entry.trusted
        accounts = [self._expand_all(self._traits_before.original("service_account") or "")]
        accounts += [item.name for item in objects if item.kind == "ServiceAccount"]
        parts = () if trusted else self._hub_parts()
        return {"trusted": trusted, "hub_parts": parts, "service_accounts": accounts}

    async def preview(self: Any) -> Preview:
        """Return what a start would create now, checked as at the start. Nothing is created and no API call is made.

        Raises:
            ProfileSpawnerError: when the profile asks for what the policy does not allow.
            tornado.web.HTTPError: when the choice or the profile is wrong.
        """
        await self.load_user_options()
        self._plan = None
        identity, objects = self._planned()
        pod = await self.get_pod_manifest()
        missing: tuple[ProfileSpawnerError, ...] = ()
        if self.modify_pod_hook:
            try:
                pod = await maybe_future(self.modify_pod_hook(self, pod))
            except Exception as e:  # noqa: BLE001 - it may need what only a running hub has
                text = f"modify_pod_hook fails outside of the hub, so what it does is missing: {type(e).__name__}: {e}"
                missing = (ProfileSpawnerError(text),)
        body = self._cluster.checked_pod(identity, pod, **self._trust(objects))
        check_objects(self.profiles.policy, identity.profile, objects, self.namespace)
        manifests = [self._cluster.manifest(identity, item) for item in objects]
        if self.storage_pvc_ensure:
            manifests.insert(0, plain(self.api.api_client.sanitize_for_serialization(self.get_pvc_manifest())))
        return Preview(body, tuple(manifests), tuple(objects), missing)

    def get_env(self: Any) -> dict[str, Any]:
        """Return the server's environment. In a typed image, which KubeSpawner tells in it, nothing is replaced."""
        env: dict[str, Any] = super().get_env()  # type: ignore[misc]
        if self._chosen is not None and self._chosen.selection.typed and "$(" in self.image:
            for name in ("JUPYTER_IMAGE", "JUPYTER_IMAGE_SPEC"):
                if env.get(name) == self.image:
                    env[name] = escape_dollars(self.image)
        return env

    async def get_pod_manifest(self: Any) -> Any:
        """Return the pod as KubeSpawner makes it.

        Raises:
            tornado.web.HTTPError: when the profile has something that KubeSpawner cannot make a pod of.
        """
        chosen = self._chosen
        rights = self.profiles.data_rights(chosen.entry) if chosen is not None else None
        own = None
        try:
            with evaluated_once(self) as again:
                pod = await super().get_pod_manifest()  # type: ignore[misc]
                if rights is not None:
                    with self._traits_before.undone(), again():
                        own = await super().get_pod_manifest()  # type: ignore[misc]
        except (TypeError, ValueError, KeyError, AttributeError) as e:
            if chosen is None:
                raise
            entry = chosen.entry
            text = f"{type(e).__name__}: {shorten(str(e), 300)}"
            error = BuildError(f"KubeSpawner cannot make a pod of it: {text}", profile=entry.slug, origin=entry.origin)
            raise self._answer_to(error) from error
        if chosen is not None and chosen.selection.typed:
            container = pod.spec.containers[0]
            container.env = in_order(container.env or ())
        if rights is not None:
            self._judge(own, pod, rights)
        return pod

    def _judge(self: Any, own: Any, pod: Any, rights: DataPolicy) -> None:
        """Compare the pod of a profile that is data with the hub's own pod, and refuse what its source may not change.

        Raises:
            tornado.web.HTTPError: naming everything that is refused.
        """
        chosen = self._chosen
        own, after = (plain(self.api.api_client.sanitize_for_serialization(one)) for one in (own, pod))
        _, objects = self._planned()
        case = Case(
            rights=rights,
            namespace=self.namespace,
            own=own_names(objects, chosen.build.secrets if chosen.build is not None else ()),
            claim_prefix=self._traits_before.original("pvc_name_template").partition("{")[0],
        )
        settings = self._traits_before.changed()
        refusals = (*judge_server(own, after, settings, case), *judge_objects(objects, case))
        if refusals:
            first, *others = refusals
            error = first.problem(chosen.entry.slug, chosen.entry.origin, dotted(first.path))
            if others:
                also = ", ".join(f"{dotted(r.path)} ({r.value})" if r.value else dotted(r.path) for r in others)
                error.message += f"; refused as well: {shorten(also, 1000)}"
            raise self._answer_to(error) from error

    def _hub_parts(self: Any) -> list[Any]:
        """Return the containers and volumes that the hub's own configuration gives to every server."""
        return [
            get_k8s_model(model, self._expand_all(item))
            for name, model in POD_PARTS.items()
            for item in self._sorted_dict_values(self._traits_before.original(name))
        ]

    def _answer_to(self: Any, error: ProfileSpawnerError) -> Exception:
        """Log the error and return the exception for the user. Only cluster errors count as failures of the hub."""
        self.log.error("%s could not be started: %s", self._log_name, error)
        if not (isinstance(error, ClusterError) and error.blame == "cluster"):
            uncounted(self)
        chosen = self._chosen
        name = chosen.entry.offer.display_name if chosen is not None else self.say(Text("The server"))
        return from_error(error, name, self.say)

    def _remember(self: Any, identity: ServerIdentity, objects: Sequence[KubeObject]) -> None:
        chosen = self._chosen
        self._record = {
            "hub": identity.hub,
            "spawn_id": identity.spawn_id,
            "profile": identity.profile,
            "generation": chosen.snapshot.generation if chosen else 0,
            "digest": chosen.entry.digest if chosen else "",
            "objects": [[o.api_version, o.kind, o.name, o.lifetime.value] for o in objects],
            "params": chosen.params if chosen else {},
            "before": self._traits_before.saved("namespace", "pvc_name", "_pvc_exists"),
        }
        if getattr(self, "orm_spawner", None) is not None:
            self.orm_spawner.state = self.get_state()
            self._commit()

    # ---------------------------------------------------------------------------------------------- waiting

    async def _wait_until_answering(
        self: Any, uid: str, identity: ServerIdentity, objects: Sequence[KubeObject]
    ) -> None:
        """Wait for the pod to run and for its server to answer, so that the user gets in without a further pause.

        Raises:
            tornado.web.HTTPError: when the pod ends or is deleted meanwhile.
        """
        key = f"{self.namespace}/{self.pod_name}"
        loop = asyncio.get_running_loop()
        # A little before JupyterHub, which counts from the beginning: then it can be said why.
        deadline = (self._begun or loop.time()) + self.start_timeout - min(1.0, self.start_timeout / 10)
        pod = None
        shared = [item for item in objects if item.lifetime is Lifetime.shared]
        seen = False
        while loop.time() < deadline:
            reflector = self.pod_reflector
            pod = reflector.pods.get(key) if reflector is not None else None
            mine = pod is not None and pod["metadata"]["uid"] == uid
            if mine:
                seen = True
                if self._ended(pod):
                    raise self._early_end(pod)
                if self.is_pod_running(pod):
                    break
            elif seen:
                uncounted(self)
                message = Text("The server was stopped while it was starting.")
                raise refusal(self.say(message), reason="stopped", status=409)
            if not isinstance(reflector, NotifyingPodReflector):
                return
            if shared and self._misses_one_of(shared):
                self.log.warning("A file that pod %s waits for has been deleted; it is made again", key)
                await self._recreate(identity, shared)
                shared = []
            pause = 1.0 if shared else _LONGEST_PAUSE
            await reflector.changed(key, min(pause, max(0.1, deadline - loop.time())))
        else:
            self._raise_explained(pod if seen else None)
            return
        await self._until_it_answers(key, pod, deadline)

    async def _until_it_answers(self: Any, key: str, pod: Mapping[str, Any], deadline: float) -> None:
        """Wait until the server of a running pod answers.

        Raises:
            tornado.web.HTTPError: when the pod ends meanwhile, or the server says nothing: its image may be made for
                something else. That is no fault of the cluster, and nothing that a restart of the hub would cure.
        """
        path = (self.server.base_url if self.server else "/") + "api"
        left = max(0.0, deadline - asyncio.get_running_loop().time())

        def gone() -> bool:
            return bool(self._ended(self.pod_reflector.pods.get(key)))

        if await server_answers(self._get_pod_url(pod), path, timeout=min(float(self.http_timeout), left), gone=gone):
            return
        if gone():
            raise self._early_end(self.pod_reflector.pods.get(key))
        if left < self.http_timeout:
            return  # the pod took most of the time; JupyterHub goes on asking
        uncounted(self)
        happened = Text("The server runs, but did not answer within %(seconds)s seconds.", seconds=self.http_timeout)
        message = self.say(joined((happened, Text(OTHER_IMAGE))))
        log_message = f"pod {key} runs, but nothing answered within {self.http_timeout} seconds"
        raise refusal(message, reason="not_answering", status=504, log_message=log_message)

    def _raise_explained(self: Any, pod: Mapping[str, Any] | None) -> None:
        """Say why the server does not start; of a pod that nobody has seen, JupyterHub's own time-out tells.

        Raises:
            tornado.web.HTTPError: with what happened and what to try.
        """
        why = explain(pod, self.events)
        if why is None:
            if pod is None:
                return  # nothing is known of it: the cluster may be to blame
            why = Text(TELL_ADMIN)
        uncounted(self)
        happened = Text("The server did not start within %(seconds)s seconds.", seconds=self.start_timeout)
        log_message = f"pod {self.namespace}/{self.pod_name} did not start in {self.start_timeout} seconds: {why}"
        raise refusal(self.say(joined((happened, why))), reason="not_started", status=504, log_message=log_message)

    def _misses_one_of(self: Any, shared: Sequence[KubeObject]) -> bool:
        """Tell whether an event of the pod says that one of these objects does not exist."""
        names = [f'"{item.name}" not found' for item in shared]
        return any(bool(name in (event.get("message") or "")) for event in self.events for name in names)

    async def _recreate(self: Any, identity: ServerIdentity, shared: Sequence[KubeObject]) -> None:
        try:
            await self._cluster.recreate(identity, shared)
        except ProfileSpawnerError as e:
            raise self._answer_to(e) from e

    def _early_end(self: Any, pod: Mapping[str, Any] | None) -> Exception:
        """Return the answer for a server that ended before it could be used."""
        uncounted(self)
        statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or ()
        codes = [s["state"]["terminated"].get("exitCode") for s in statuses if "terminated" in (s.get("state") or {})]
        code = f" (exit code {codes[0]})" if codes else ""
        happened = Text("The server ended right after its start (exit code %(code)s).", code=codes[0] if codes else "?")
        why = explain(pod, ()) or Text(
            "Try again, or choose another profile; your administrator finds the reason in the log of the pod."
        )
        return refusal(
            self.say(joined((happened, why))),
            reason="server_ended",
            status=502,
            log_message=f"pod {self.namespace}/{self.pod_name} ended while it was starting{code}",
        )

    @staticmethod
    def _ended(pod: Mapping[str, Any] | None) -> bool:
        return pod is None or (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")

    # ---------------------------------------------------------------------------------------------- watching

    async def _start_watching_pods(self: Any, replace: bool = False) -> Any:
        return await self._start_reflector(
            kind="pods",
            reflector_class=NotifyingPodReflector,
            labels={"component": self.component_label},
            omit_namespace=self.enable_user_namespaces,
            replace=replace,
        )

    async def _start_watching_events(self: Any, replace: bool = False) -> Any:
        return await self._start_reflector(
            kind="events",
            reflector_class=PodEventReflector,
            fields={"involvedObject.kind": "Pod"},
            omit_namespace=self.enable_user_namespaces,
            replace=replace,
        )

    @property
    def events(self: Any) -> list[Any]:
        """The events of this server's pod since its start, the latest last."""
        reflector = self.event_reflector
        if not isinstance(reflector, PodEventReflector):
            return list(super().events)  # type: ignore[misc]
        events = reflector.of(f"{self.namespace}/{self.pod_name}")
        seen = [number for number, e in enumerate(events) if e["metadata"]["uid"] == self._last_event]
        return events[seen[-1] + 1 :] if seen else events

    async def _start_reflector(self: Any, kind: str, reflector_class: Any, replace: bool = False, **kwargs: Any) -> Any:
        """Start the reflectors as KubeSpawner does, but handle an API server that is unavailable.

        KubeSpawner keeps using a reflector whose first list failed or which has stopped. With user namespaces, it stops
        the whole hub.

        Raises:
            tornado.web.HTTPError: with status 503, when the API server cannot be asked.
        """
        key = self._get_reflector_key(kind)
        reflectors = type(self).reflectors
        known = reflectors.get(key)
        if known is not None and _is_dead(known):
            self.log.warning("The watch of %s had ended; it is started again", kind)
            del reflectors[key]
            known = None
        try:
            if known is not None and not known.first_load_future.done():
                # Without the shield, a cancelled waiter would cancel the task for the others.
                await asyncio.shield(known.first_load_future)
            reflector = await super()._start_reflector(kind, reflector_class, replace, **kwargs)  # type: ignore[misc]
        except (Exception, SystemExit) as e:  # noqa: BLE001 - the hub must live, whatever it is
            raise self._answer_to(classify(e, what=f"watching {kind} in {self.namespace}")) from None
        finally:
            begun = reflectors.get(key)
            if begun is not None and begun is not known and begun.watch_task is None:
                # It failed, or KubeSpawner cancelled it because another one failed: it must not be used any more.
                del reflectors[key]
                if not begun.first_load_future.done():
                    begun.first_load_future.set_exception(ConnectionError("the first list was given up"))
                    begun.first_load_future.exception()
        reflector.on_failure = None
        return reflector

    async def poll(self: Any) -> int | None:
        """Tell whether the server runs. An unavailable API server does not mean that the server has stopped.

        JupyterHub calls this when it starts, and stops servers for which it gets no answer. So this waits.
        """
        pause = 0.5
        while True:
            try:
                await self._start_watching_pods()
            except Exception as e:
                if getattr(e, "status_code", None) != 503 or not self._check_pending:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, 15.0)
            else:
                return await super().poll()  # type: ignore[misc,no-any-return]

    # ---------------------------------------------------------------------------------------------- stopping

    async def stop(self: Any, now: bool = False) -> None:
        """Delete the server's pod and wait until it is gone. Other pods with the same name are not deleted."""
        await self._start_watching_pods()
        key = f"{self.namespace}/{self.pod_name}"
        identity = self._identity(self._record.get("spawn_id", ""))
        pod = self.pod_reflector.pods.get(key)
        if pod is not None and identity.owns_pod(pod) == "foreign" and not identity.started(pod):
            self.log.warning("Pod %s belongs to somebody else; it is left alone", key)
            return
        grace = 0 if now else self.delete_grace_period
        uid = pod["metadata"]["uid"] if pod is not None else None
        await self._cluster.delete_pod(identity, self.namespace, grace, uid=uid)
        await self._wait_until_gone(key, uid)
        self._chosen = None

    async def _wait_until_gone(self: Any, key: str, uid: str | None) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.start_timeout
        while loop.time() < deadline:
            reflector = self.pod_reflector
            pod = reflector.pods.get(key)
            if pod is None or (uid is not None and pod["metadata"]["uid"] != uid):
                return
            if isinstance(reflector, NotifyingPodReflector):
                await reflector.changed(key, min(_LONGEST_PAUSE, max(0.1, deadline - loop.time())))
            else:
                await asyncio.sleep(0.2)
        self.log.error("Pod %s did not disappear, restarting pod reflector", key)
        await self._start_watching_pods(replace=True)
        raise TimeoutError(f"pod {key} did not disappear in {self.start_timeout} seconds")


def _is_dead(reflector: Any) -> bool:
    """Tell whether a reflector has stopped permanently."""
    if reflector.watch_task is None:
        return bool(reflector.first_load_future.done())
    return bool(reflector.watch_task.done())
