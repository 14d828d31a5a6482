"""`ProfileSpawner`: KubeSpawner, with profiles from a registry.

The order of a spawn: JupyterHub calls `clear_state` (resets the values of an earlier profile), the hooks,
`apply_user_options` (the choice is validated and authorised), then `start`: `load_user_options` builds
the profile and merges it into the traits, and KubeSpawner makes the manifest. `ServerStart.create_pod` creates shared
and persistent objects and the pod; `ServerStart.finish` creates what the pod owns and waits for the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from jupyterhub.utils import maybe_future
from tornado import web
from traitlets import default, observe

from profile_spawner.errors import (
    BuildError,
    ClusterError,
    Origin,
    ParamError,
    ProfileDefinitionError,
    ProfileSpawnerError,
    described,
    raised_at,
    shorten,
)
from profile_spawner.hub.layers import group_properties, layers_for
from profile_spawner.hub.settings import HubTraits
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.identity import ServerIdentity
from profile_spawner.metrics import SpawnResult, hub_metrics
from profile_spawner.names import names_user
from profile_spawner.page.translations import gettext_for
from profile_spawner.policy.judge import (
    dotted,
    home_claims,
    judge_objects,
    judge_server,
    own_names,
    restrict_containers,
)
from profile_spawner.policy.rules import Case
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.author_code import as_exception, author_code, call_author
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.resources import KubeObject, Lifetime
from profile_spawner.profiles.selection import Offer, from_form
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.profiles.user_text import escape_dollars
from profile_spawner.texts import Text, joined, said

from .applying import TraitSnapshot, apply_build, evaluated_once, expand_names
from .choosing import choose, form_options, is_outdated, link_options
from .env_order import in_order
from .form import SpawnForm, expect_rejected, search_profiles
from .progress import TELL_ADMIN, step_text, translated
from .refusals import from_error, hub_failure
from .seams import UpstreamSpawner, uncounted
from .shared import SpawnerHub, hub_profiles, start_with_hub
from .starting import ChosenProfile, Preview, ServerStart
from .upstream import registry_profile_list
from .viewing import language, remember_handler
from .waiting import PodWatch

__all__ = ["ProfileSpawner"]

_WARNINGS = 10
"""How many params without a value are named in the log for each start."""
_NO_TIMEOUT = 10**9
"""The `start_timeout` that JupyterHub uses, in seconds: the spawner itself ends a start."""
_QUIET_SECONDS = 5.0
"""How long a deleted pod may stay unchanged until the API server is asked for it, in seconds."""
_KEPT_SPAWNS = 5
"""How many of a server's last spawns stay in the record: the pod of a failed start may still be there."""


class ProfileSpawner(HubTraits, UpstreamSpawner):
    """A KubeSpawner whose profiles come from classes, YAML documents, ConfigMaps and packages.

    Everything that works with KubeSpawner works unchanged: `c.KubeSpawner.*` applies, and a plain `profile_list` makes
    the same pods.
    """

    chosen: ChosenProfile | None = None
    offers: Mapping[str, Offer] | None = None
    """The profiles of the form that is being parsed."""
    start_began: float = 0.0
    """When the current start began, by the clock of the event loop."""
    _current_start: ServerStart | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trait_snapshot = TraitSnapshot(self)
        self.list_problem: ProfileSpawnerError | None = None
        self._lists_profiles = bool(self.own_profile_list()[0])
        self.good_options: Mapping[str, Any] = dict(self.user_options or {})
        self._steps: list[str] = []
        self._step_known = asyncio.Event()
        self._record: dict[str, Any] = {}
        self._spawns: list[str] = []

    # ---------------------------------------------------------------------------------------------- configuration

    @observe("handler")
    def _handler_set(self, change: Any) -> None:
        remember_handler(change["new"], self.user.name, self.profiles.languages)

    @default("profile_list")
    def _default_profile_list(self) -> Any:
        configured = self._configured_profile_list
        # A copy: a hook may change it for one server.
        return copy.deepcopy(configured) if configured is not None else registry_profile_list

    @property
    def profiles(self) -> SpawnerHub:
        """The objects that all spawners of this hub share."""
        return hub_profiles(self.config, type(self), self.log)

    @property
    def cluster(self) -> Cluster:
        """The hub's view of the cluster."""
        return self.profiles.cluster(
            self.api.api_client, self.k8s_api_request_timeout, self.k8s_api_request_retry_timeout
        )

    @property
    def user_info(self) -> UserInfo:
        """The user, with the current groups."""
        groups = getattr(self.user, "groups", None)
        names = frozenset(g.name for g in groups or ())
        return UserInfo(self.user.name, names, bool(getattr(self.user, "admin", False)))

    @property
    def language(self) -> str:
        """The language of the request that is being answered, else of the user's last view."""
        return language(getattr(self.user, "name", ""), self.profiles.languages)

    def say(self, text: str) -> str:
        """Return a text in the user's language."""
        return str(said(text, gettext_for(self.language)))

    @property
    def log_name(self) -> str:
        """The server, for the log."""
        return str(self._log_name)

    def own_profile_list(self) -> tuple[Any, bool]:
        """Return the configured `profile_list` and whether it is the hub's one object; `None` without one."""
        value = self.profile_list if self.trait_has_value("profile_list") else self._configured_profile_list
        if value is registry_profile_list:
            return None, True
        return value, value is self._configured_profile_list

    async def catalogue(self) -> Snapshot | None:
        """Return the profiles on offer; `None` when this is used as a plain KubeSpawner without any.

        If a hook empties the configured `profile_list`, nothing is on offer: a server without a profile would be one
        without its limits. A function that fails or takes too long lists nothing; `list_problem` says why.
        """
        listed, shared = self.own_profile_list()
        self.list_problem = None
        if callable(listed):
            listed, shared = await self._listed_by(listed), False
        elif not listed:
            listed = [] if self._lists_profiles else None
        return await self.profiles.catalogue(listed, shared=shared, problem=self.list_problem)

    async def _listed_by(self, function: Callable[[Any], Any]) -> Any:
        """Return what the function in `profile_list` returns."""
        code = getattr(inspect.unwrap(function), "__code__", None)
        defined = Origin(code.co_filename, code.co_firstlineno) if code is not None else None

        def failure(error: BaseException) -> ProfileSpawnerError:
            origin = raised_at(error, lambda name: defined is not None and name == defined.source) or defined
            return ProfileDefinitionError(described(error), field="profile_list", origin=origin)

        limit = self.profile_list_timeout
        try:
            listed = await asyncio.wait_for(call_author(lambda: function(self), failure), limit)
        except asyncio.TimeoutError:
            text = f"the function took more than {limit:g} s"
            self.list_problem = ProfileDefinitionError(
                text, field="profile_list", origin=defined, hint="Raise c.ProfileSpawner.profile_list_timeout"
            )
        except ProfileSpawnerError as e:
            self.list_problem = e
        else:
            return [] if listed is None else listed
        self.log.error("Nothing is offered of the function in profile_list: %s", self.list_problem)
        return []

    # ---------------------------------------------------------------------------------------------- form and choice

    @default("options_form")
    def _options_form_default(self) -> Any:
        listed, _ = self.own_profile_list()
        if not callable(listed) and not listed and not self.profiles.has_sources:
            return ""
        return _render_form

    async def apply_choice(self, user_options: Any) -> None:
        """Validate and authorise the user's choice, and keep it for the start.

        Raises:
            tornado.web.HTTPError: If the choice is not valid. It is not counted as a failure of the hub.
        """
        self.chosen = None
        self.chosen = await choose(self, user_options)

    def forget_bad_options(self) -> None:
        """Restore the last valid options: JupyterHub stores the sent options before they are validated."""
        orm_spawner = getattr(self, "orm_spawner", None)
        if orm_spawner is not None and orm_spawner.user_options != self.good_options:
            orm_spawner.user_options = dict(self.good_options)
            self.commit()

    def parse_form(self, formdata: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the posted form as `user_options`, unchecked; `None` outside of the methods below."""
        return None if self.offers is None else from_form(formdata, self.offers)

    def run_options_from_form(self, form_data: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
        """Return the posted form as `user_options`, validated and authorised.

        Raises:
            tornado.web.HTTPError: with status 400, which shows the form again, as filled in and with what is wrong.
        """
        expect_rejected()
        return form_options(self, form_data, super().run_options_from_form)

    def options_from_query(self, query_data: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
        """Return a link's choice as `user_options`, validated and authorised, or show the form with it filled in.

        JupyterHub calls only this method for links, so it also validates. Any person can send a link, so by default the
        user must confirm it. `linked_start` allows more, but never typed values.

        Raises:
            tornado.web.HTTPError: with status 200 to show the form; with 400 when the link is wrong.
        """
        expect_rejected()
        return link_options(self, query_data, super().options_from_query)

    # ---------------------------------------------------------------------------------------------- building

    def server_context(self, spawn_id: str = "") -> ServerContext:
        """Return the server's identity for the profile's hooks."""
        return ServerContext(
            user=self.user_info,
            server_name=self.name,
            namespace=self.namespace,
            hub=self.hub_id,
            pod_name=self.pod_name,
            spawn_id=spawn_id,
            user_namespaces=self.enable_user_namespaces and names_user(self.user_namespace_template),
        )

    async def load_user_options(self) -> None:
        """Build the chosen profile and merge it into the traits.

        Raises:
            tornado.web.HTTPError: If the user's choice or the profile is wrong. It is also a `ValueError`.
        """
        self._current_start = None
        try:
            # It may be the second call: pre_spawn_hook may have called it, and changed the result.
            self._keep_changes()
            self.trait_snapshot.restore(changes=True)
            if self.chosen is None or is_outdated(self, self.chosen):
                await self.apply_choice(self.user_options)
            if self.chosen is not None:
                await self._apply(self.chosen)
        finally:
            self._step_known.set()

    async def _apply(self, chosen: ChosenProfile) -> None:
        try:
            await call_author(lambda: self._build(chosen), self._profile_failure)
            if self.profile_applied_hook is not None:
                await call_author(lambda: self.profile_applied_hook(self, chosen), _hook_failure)
        except web.HTTPError as e:
            self.trait_snapshot.restore()
            if e.status_code < 500:
                uncounted(self)
            raise
        except ProfileSpawnerError as e:
            self.trait_snapshot.restore()
            raise self.answer_to(e) from e
        self._keep_changes()
        self._tell_steps(chosen)

    async def _build(self, chosen: ChosenProfile) -> None:
        layers = await self.param_layers() if chosen.snapshot.takes_params(chosen.entry) else {}
        context = self.server_context(chosen.spawn_id)
        chosen.build, chosen.params = await chosen.snapshot.build_and_record(chosen.selection, context, **layers)
        self._warn_of_params(chosen.params)
        apply_build(self, self.trait_snapshot, chosen.entry, chosen.build)
        expand_names(self, self.trait_snapshot)
        self._look_for_claim()
        self.trait_snapshot.mark_applied()

    def _keep_changes(self) -> None:
        """Keep what hooks have changed since the profile was applied."""
        try:
            with author_code(self._profile_failure):
                self.trait_snapshot.keep_changes()
        except ProfileSpawnerError as e:
            self.trait_snapshot.restore()
            raise self.answer_to(e) from e

    def _profile_failure(self, error: BaseException) -> BaseException:
        """Return the error for what the chosen profile's code or values caused; an `HTTPError` is the answer itself."""
        chosen = self.chosen
        if chosen is None or isinstance(error, web.HTTPError):
            return error
        plain = chosen.build is not None and chosen.build.as_kubespawner
        trips = "KubeSpawner cannot make a pod of it: " if plain else ""
        self.log.error("%s: profile %r fails", self.log_name, chosen.entry.slug, exc_info=error)
        return BuildError(f"{trips}{described(error)}", profile=chosen.entry.slug, origin=chosen.entry.origin)

    def _look_for_claim(self) -> None:
        """Make KubeSpawner create its claim if the profile changes the claim's namespace or name."""
        before = self.trait_snapshot
        if (self.namespace, self.pvc_name) != (before.original("namespace"), before.original("pvc_name")):
            before.save("pvc_name")
            before.save("_pvc_exists")
            self.forget_claim()

    async def param_layers(self) -> dict[str, Any]:
        """Return the layers of param values that apply to this server, and its facts, as the resolver takes them.

        They come from `param_values`, from the `profile_spawner` key of the user's JupyterHub groups' properties, and
        from `param_layers_hook`.

        Raises:
            ParamError: If the hook fails, or a value has the wrong structure.
        """
        hooked = None
        if self.param_layers_hook is not None:
            hooked = await call_author(
                lambda: self.param_layers_hook(self), lambda e: ParamError(described(e), field="param_layers_hook")
            )
        properties = group_properties(self.user)
        layers = layers_for(self.user_info, self.name, dict(self.param_values), properties, hooked, self.param_order)
        facts = {name: fact for name, fact in self.server_context().facts("").items() if name != "profile"}
        return {**layers, "facts": facts}

    def _warn_of_params(self, record: Mapping[str, Any]) -> None:
        """Log params without a usable value. The profile works without them."""
        failed = {name: one["error"] for name, one in record.items() if one.get("error")}
        for name, error in [*failed.items()][:_WARNINGS]:
            self.log.warning("%s has no %s: %s", self.log_name, name, error)
        if len(failed) > _WARNINGS:
            self.log.warning("%s has no value of %d further params", self.log_name, len(failed) - _WARNINGS)

    def _tell_steps(self, chosen: ChosenProfile) -> None:
        name = chosen.entry.offer.display_name
        steps = chosen.build.steps if chosen.build is not None else ()
        self._steps = [step_text(step, name) for step in steps] or [Text("Preparing %(name)s", name=name)]

    # ---------------------------------------------------------------------------------------------- the pod

    def get_env(self) -> dict[str, Any]:
        """Return the server's environment. Kubernetes replaces nothing in the name of a typed image."""
        env: dict[str, Any] = super().get_env()
        selection = self.chosen.selection if self.chosen is not None else None
        typed = [str(selection.values.get(name)) for name in selection.typed] if selection is not None else ()
        if any("$" in text and text in self.image for text in typed):
            for name in ("JUPYTER_IMAGE", "JUPYTER_IMAGE_SPEC"):
                if env.get(name) == self.image:
                    env[name] = escape_dollars(self.image)
        return env

    async def get_pod_manifest(self) -> Any:
        """Return the pod as KubeSpawner makes it.

        Raises:
            tornado.web.HTTPError: If KubeSpawner cannot make a pod of the profile, or a profile that is data changes
                what its source may not change.
        """
        chosen = self.chosen
        rights = self.profiles.data_rights(chosen.entry) if chosen is not None else None
        try:
            pod, own = await call_author(lambda: self._pods(rights), self._profile_failure)
        except ProfileSpawnerError as e:
            raise self.answer_to(e) from e
        if chosen is not None and chosen.selection.typed:
            container = pod.spec.containers[0]
            container.env = in_order(container.env or ())
        if chosen is not None and rights is not None:
            restrict_containers(self.as_json(own), pod, self.as_json)
            self._judge(chosen, own, pod, rights)
        return pod

    async def _pods(self, rights: DataPolicy | None) -> tuple[Any, Any]:
        """Return the pod, and for a restricted profile the one that the hub's configuration alone would give."""
        if rights is None:
            return await super().get_pod_manifest(), None
        with evaluated_once(self) as again:
            pod = await super().get_pod_manifest()
            with self.trait_snapshot.undone(), again():
                return pod, await super().get_pod_manifest()

    def get_pvc_manifest(self) -> Any:
        """Return the user's claim as KubeSpawner makes it.

        Raises:
            tornado.web.HTTPError: If KubeSpawner cannot make a claim of what the profile sets.
        """
        try:
            with author_code(self._profile_failure):
                return super().get_pvc_manifest()
        except ProfileSpawnerError as e:
            raise self.answer_to(e) from e

    def _judge(self, chosen: ChosenProfile, own: Any, pod: Any, rights: DataPolicy) -> None:
        """Compare the pod of a profile that is data with the hub's own pod.

        Raises:
            tornado.web.HTTPError: naming everything that its source may not change.
        """
        objects, before = self.current_start.objects, self.trait_snapshot
        case = Case(
            rights=rights,
            namespace=self.namespace,
            own=own_names(objects, self.pod_name),
            secure=chosen.build.secure if chosen.build is not None else frozenset(),
            home=before.original("pvc_name"),
            homes=home_claims(before.original("pvc_name_template")),
            servers=self.server_context().unique_names,
        )
        hubs = self.as_json(own)
        changed = judge_server(hubs, self.as_json(pod), before.changed(), case)
        refusals = (*changed, *judge_objects(objects, case, hubs))
        if refusals:
            first, *others = refusals
            error = first.problem(chosen.entry.slug, chosen.entry.origin, dotted(first.path))
            if others:
                also = ", ".join(f"{dotted(r.path)} ({r.value})" if r.value else dotted(r.path) for r in others)
                error.message += f"; refused as well: {shorten(also, 1000)}"
            raise self.answer_to(error) from error

    async def preview(self) -> Preview:
        """Return what a start would create now, checked as at the start. Nothing is created and no API call is made.

        Raises:
            ProfileSpawnerError: If the policy does not allow what the profile asks for.
            tornado.web.HTTPError: If the choice or the profile is wrong.
        """
        await self.load_user_options()
        start = self.current_start
        pod = await self.get_pod_manifest()
        if self.modify_pod_hook:
            pod = await maybe_future(self.modify_pod_hook(self, pod))
        body = start.check(pod)
        manifests = [self.cluster.manifest(start.identity, item) for item in start.objects]
        if self.storage_pvc_ensure:
            manifests.insert(0, self.as_json(self.get_pvc_manifest()))
        return Preview(body, tuple(manifests), tuple(start.objects))

    # ---------------------------------------------------------------------------------------------- starting

    def identity(self, spawn_id: str = "") -> ServerIdentity:
        """Return the server's identity for labels and names.

        Args:
            spawn_id: Identifies the start; that of the chosen profile by default.
        """
        chosen = self.chosen
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
            account=self.account,
            recorded=tuple(self._spawns),
        )

    @property
    def current_start(self) -> ServerStart:
        """The start that has begun with the last `load_user_options`."""
        if self._current_start is None:
            self._current_start = ServerStart(self)
        return self._current_start

    def run_pre_spawn_hook(self) -> Any:
        """Run the administrator's `pre_spawn_hook`. Whatever it raises, also `SystemExit`, fails only this start."""
        with author_code(as_exception):
            value = super().run_pre_spawn_hook()
        return call_author(lambda: value, as_exception) if inspect.isawaitable(value) else value

    def start(self) -> asyncio.Future[Any]:
        """Start the server as KubeSpawner does, and count the result.

        It ends at the latest after the `start_timeout` and `http_timeout` of the profile.
        """
        # JupyterHub reads `start_timeout` as soon as this method returns, when no profile has been applied yet.
        loop = asyncio.get_running_loop()
        loop.call_soon(self.set_trait, "start_timeout", self.start_timeout)
        self.set_trait("start_timeout", _NO_TIMEOUT)
        self.start_began = loop.time()
        return asyncio.ensure_future(self._counted(super().start()))

    async def _in_time(self, started: asyncio.Future[Any]) -> Any:
        """Return the result of a start, or cancel the start when it takes too long."""
        loop = asyncio.get_running_loop()
        try:
            while not started.done():
                # The profile may change it.
                left = self.start_began + self.start_timeout + self.http_timeout - loop.time()
                if left <= 0:
                    raise self.late()
                await asyncio.wait([started], timeout=left)
        finally:
            started.cancel()
        return started.result()

    def late(self) -> Exception:
        """Return the answer for a start that took too long. A hook may be to blame until the profile is built."""
        seconds = self.start_timeout
        if not self._step_known.is_set() and self.chosen is not None:
            text = f"the profile was not built within {seconds} seconds: a hook waits too long"
            return self.answer_to(BuildError(text, profile=self.chosen.entry.slug, origin=self.chosen.entry.origin))
        self.log.error("%s did not start within %s seconds", self.log_name, seconds)
        happened = Text("The server did not start within %(seconds)s seconds.", seconds=seconds)
        return hub_failure(504, self.say(joined((happened, Text(TELL_ADMIN)))))

    async def _counted(self, started: asyncio.Future[Any]) -> Any:
        result: SpawnResult = "failure"
        try:
            address = await self._in_time(started)
            result = "success"
        except Exception as e:  # noqa: BLE001 - raised again
            # KubeSpawner stops the server after a failure. If that fails, too, the first failure is the reason.
            why = self.current_start.failure or e
            if self.current_start.failure is None and isinstance(why, web.HTTPError) and why.status_code < 500:
                result = "refused"
            raise why from e.__cause__
        else:
            return address
        finally:
            hub_metrics().spawned(self.chosen.entry.slug if self.chosen is not None else "", result)

    def keep_house(self) -> None:
        """Remove unused objects in this server's namespace from now on."""
        if self.cluster is not None:
            self.profiles.housekeeping(self.api.api_client).watch(self.namespace)

    def answer_to(self, error: Exception) -> Exception:
        """Log the error and return the exception for the user. Only cluster errors count as failures of the hub.

        An unexpected error while a profile is started comes from the profile's values. Without a profile it is
        returned unchanged.
        """
        if not isinstance(error, ProfileSpawnerError):
            error = self._profile_failure(error)  # type: ignore[assignment]
            if not isinstance(error, ProfileSpawnerError):
                return error
        self.log.error("%s could not be started: %s", self.log_name, error)
        if not (isinstance(error, ClusterError) and error.blame == "cluster"):
            uncounted(self)
        chosen = self.chosen
        name = chosen.entry.offer.display_name if chosen is not None else self.say(Text("The server"))
        return from_error(error, name, self.say)

    # ---------------------------------------------------------------------------------------------- state

    def record_start(self, identity: ServerIdentity, objects: Sequence[KubeObject]) -> None:
        """Write what a start will create to the hub's database, so that it is found after a restart of the hub."""
        chosen = self.chosen
        self._spawns = [*self._spawns, identity.spawn_id][-_KEPT_SPAWNS:]
        self._record = {
            "hub": identity.hub,
            "spawn_id": identity.spawn_id,
            "profile": identity.profile,
            "generation": chosen.snapshot.generation if chosen else 0,
            "digest": identity.digest,
            "objects": [[o.api_version, o.kind, o.name, o.lifetime.value] for o in objects],
            "params": identity.params,
            "before": self.trait_snapshot.saved("namespace", "pvc_name", "_pvc_exists"),
            "complete": False,
        }
        self._save_record()

    def record_complete(self) -> None:
        """Record that everything exists which the start had to create. JupyterHub saves it when the server is ready."""
        self._record["complete"] = True

    def _save_record(self) -> None:
        if getattr(self, "orm_spawner", None) is not None:
            self.orm_spawner.state = self.get_state()
            self.commit()

    def clear_state(self) -> None:
        """Forget the stopped server: its choice, and every value that its profile set; but not its last spawns."""
        if hasattr(self, "trait_snapshot"):
            self.trait_snapshot.restore()
        super().clear_state()
        self.chosen = None
        self._current_start = None
        self._record = {}
        self._steps = []
        self._step_known = asyncio.Event()

    def get_state(self) -> dict[str, Any]:
        """Return what must survive a restart of the hub: KubeSpawner's state, and what was made for the server."""
        state: dict[str, Any] = super().get_state()
        if self._spawns:
            state["profile_spawner"] = {**self._record, "spawns": self._spawns}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a server that was started before the hub's restart."""
        super().load_state(state)
        record = state.get("profile_spawner")
        self._record = dict(record) if isinstance(record, dict) else {}
        self._spawns = list(self._record.pop("spawns", ()))
        before = dict(self._record.get("before") or {})
        if not self.remember_pvc_name:
            before = {name: value for name, value in before.items() if name == "namespace"}
        self.trait_snapshot.load(before)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the steps of the profile, then the events of the pod in plain words."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._step_known.wait(), 5)
        for number, step in enumerate(self._steps):
            yield {"progress": min(5 + 5 * number, 25), "message": self.say(step)}
        async with contextlib.aclosing(super().progress()) as events:
            async for event in translated(events, gettext_for(self.language)):
                yield event

    # ---------------------------------------------------------------------------------------------- running, stopping

    async def poll(self) -> int | None:
        """Return `None` if the server runs. An unavailable API server does not mean that the server has stopped.

        JupyterHub calls this when it starts, and stops servers for which it gets no answer. So this waits.
        """
        pause = 0.5
        while True:
            try:
                await self._start_watching_pods()
                status: int | None = await super().poll()
                if status is None and self.is_starting_hub and await self._is_incomplete():
                    return 1
            except web.HTTPError as e:
                if e.status_code != 503 or not self.is_starting_hub:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, 15.0)
            else:
                return status

    async def _is_incomplete(self) -> bool:
        """Return whether the hub ended during the start of this server, before it had created all objects of the pod.

        The pod may run without them. JupyterHub stops the server then, and the user can start it again.

        Raises:
            tornado.web.HTTPError: with status 503, if the API server cannot be asked.
        """
        if self._record.get("complete", True):
            return False
        owned = [(v, kind, name) for v, kind, name, lifetime in self._record["objects"] if lifetime == Lifetime.owned]
        try:
            missing = await self.cluster.missing_owned(self.identity(self._record["spawn_id"]), owned)
        except ClusterError as e:
            if e.blame == "cluster":
                raise self.answer_to(e) from None
            self.log.warning("It is not known whether the start of %s was completed: %s", self.log_name, e)
            return False
        if missing:
            names = ", ".join(f"{kind} {name}" for _, kind, name in missing)
            self.log.error(
                "%s is stopped: the hub ended while it was starting this server, and these objects were not created: "
                "%s. The user can start the server again",
                self.log_name,
                names,
            )
            return True
        self.record_complete()
        self._save_record()
        return False

    async def stop(self, now: bool = False) -> None:
        """Delete the server's pod and wait until it is gone. Other pods with the same name are not deleted."""
        await self._start_watching_pods()
        identity = self.identity(self._record.get("spawn_id", ""))
        pod = self.pod_reflector.pods.get(self.pod_key)
        if pod is not None and not identity.may_stop(pod):
            self.log.warning("Pod %s was not started by this hub for this server; it is not deleted", self.pod_key)
            return
        grace = 0 if now else self.delete_grace_period
        uid = pod["metadata"]["uid"] if pod is not None else None
        if self._current_start is not None and self._current_start.failure is not None:
            # KubeSpawner stops the server after a failed start. A later start may have created another pod since.
            uid = self._current_start.pod_uid
        await self.cluster.delete_pod(identity, self.namespace, grace, uid=uid)
        if uid is not None:
            await self._wait_until_gone(uid, quiet=0.5 if now else _QUIET_SECONDS)
        self.chosen = None

    async def _wait_until_gone(self, uid: str, quiet: float) -> None:
        """Wait until the pod with this UID is gone; ask the API server if nothing is heard of it for a time.

        Raises:
            TimeoutError: If it is still there after `start_timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.start_timeout
        watch: PodWatch = self.pod_reflector
        while (watch.pods.get(self.pod_key) or {"metadata": {}})["metadata"].get("uid") == uid:
            left = deadline - loop.time()
            if left <= 0:
                raise TimeoutError(f"pod {self.pod_key} did not disappear in {self.start_timeout} seconds")
            if not await watch.changed(self.pod_key, min(quiet, left)):
                with contextlib.suppress(ClusterError):  # then the watch reports it later
                    found = await self.cluster.find_pod(self.namespace, self.pod_name)
                    if found is None or found["metadata"]["uid"] != uid:
                        watch.hide(self.pod_key, uid)

    async def delete_forever(self) -> None:
        """Delete the user's persistent objects if the user (not only a server) is deleted and `delete_pvc` is on."""
        failures = []
        for delete in (super().delete_forever, self._delete_persistent):
            try:
                await delete()
            except ClusterError as e:
                failures.append(e)
        if failures:
            # JupyterHub logs it and deletes the user all the same.
            what = "; ".join(str(e) for e in failures)
            labels = ",".join(f"{name}={value}" for name, value in self.identity().persistent_labels().items())
            raise ClusterError(
                f"volume claims of {self.log_name} stay in namespace {self.namespace}: {what}",
                reason=failures[0].reason,
                user_message="",
                blame="admin",
                hint=f"Delete them with kubectl: the claim {self.pvc_name}, and those with the labels {labels}",
            )

    async def _delete_persistent(self) -> None:
        if self.delete_pvc and not self.name:
            deleted = await self.cluster.delete_persistent(self.identity())
            if deleted:
                self.log.info("Deleted %d volume claims of %s", deleted, self.log_name)


def _hook_failure(error: BaseException) -> BaseException:
    """Return the error for what `profile_applied_hook` raised; an `HTTPError` is the answer to the user itself."""
    if isinstance(error, web.HTTPError):
        return error
    return BuildError(described(error), field="profile_applied_hook")


async def _render_form(spawner: ProfileSpawner) -> str:
    """Return the form's HTML; called by JupyterHub for every view of the page."""
    return await SpawnForm(spawner).render()


if "jupyterhub.handlers" in sys.modules:  # in a hub, which has imported its handlers before its spawner
    from profile_spawner.page.handlers import add_handlers

    add_handlers(search_profiles)
start_with_hub(ProfileSpawner)
