"""The private parts of KubeSpawner and JupyterHub that this package overrides, calls or replaces; nothing else does.

`tests/spawner/test_upstream_seams.py` compares the overridden methods with those of the installed versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from kubespawner import KubeSpawner
from kubespawner.objects import make_namespace
from kubespawner.utils import get_k8s_model
from sqlalchemy import inspect
from sqlalchemy.orm import object_session
from traitlets import default, validate
from traitlets.config.loader import LazyConfigValue

from profile_spawner.errors import ClusterError, shorten
from profile_spawner.kube.bodies import POD_PARTS
from profile_spawner.kube.cluster import Cluster
from profile_spawner.kube.failures import KubeFailure
from profile_spawner.kube.identity import ServerIdentity, account_of
from profile_spawner.policy.kinds import plain
from profile_spawner.profiles.resources import KubeObject, Lifetime

from .waiting import EventWatch, PodWatch

if TYPE_CHECKING:
    from .starting import ServerStart

try:
    from jupyterhub.spawner import SpawnException
except ImportError:  # JupyterHub 5
    SpawnException = None

__all__ = ["SpawnException", "UpstreamSpawner", "call_when_initialized", "running_hub", "uncounted"]

NOT_CALLED = ("_apply_overrides", "_get_initialized_profile_list", "_load_profile", "_validate_user_options")
"""KubeSpawner's methods for profiles. This package does their work elsewhere and never calls them."""
_EVENTS_SECONDS = 2.0
"""How long a start waits for the first list of events, in seconds."""


class ComposedHook:
    """An `after_pod_created_hook` that calls the administrator's as a part of `ServerStart.finish`.

    Args:
        configured: The administrator's hook.
    """

    def __init__(self, configured: Callable[[Any, Any], Any] | None = None) -> None:
        self._configured = configured

    async def __call__(self, spawner: UpstreamSpawner, pod: Any) -> None:
        """Finish a start. Called by KubeSpawner when the pod and its own objects are created."""
        await spawner.current_start.finish(pod, self._configured)


class UpstreamSpawner(KubeSpawner):
    """KubeSpawner with other ways to create, watch and delete its objects.

    KubeSpawner deletes or reuses any object with the right name, and logs whole manifests. Here the labels and the UID
    decide, each step can be repeated, and an error says who has to act.
    """

    reflectors: ClassVar[dict[Any, Any]] = {}
    """The watches of this class only: other spawners in the same hub use KubeSpawner's own kind."""

    _configured_profile_list: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Warn of methods of an administrator's subclass that have no effect."""
        super().__init_subclass__(**kwargs)
        for name in NOT_CALLED:
            if name in vars(cls):
                warnings.warn(
                    f"{cls.__qualname__}.{name} has no effect: ProfileSpawner does not call KubeSpawner's private "
                    "methods for profiles. Filter with allowed_groups or a profile_list function; see docs/moving.md",
                    stacklevel=2,
                )

    # ---------------------------------------------------------------------------------- what ProfileSpawner provides

    @property
    def cluster(self) -> Cluster:
        """The hub's view of the cluster."""
        raise NotImplementedError

    def answer_to(self, error: Exception) -> Exception:
        """Log the error and return the exception for the user."""
        raise NotImplementedError

    @property
    def current_start(self) -> ServerStart:
        """The start that has begun."""
        raise NotImplementedError

    def identity(self) -> ServerIdentity:
        """Return the server's identity for labels and names."""
        raise NotImplementedError

    async def apply_choice(self, user_options: Any) -> None:
        """Validate and authorise the user's choice."""
        raise NotImplementedError

    def parse_form(self, formdata: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the posted form as `user_options`; `None` where KubeSpawner shall do it."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------- configuration and choice

    def _find_my_config(self, cfg: Any) -> Any:
        """Exclude a long `profile_list` from the copies that traitlets makes of the configuration for every spawner."""
        config = super()._find_my_config(cfg)
        configured = config.get("profile_list")
        if isinstance(configured, LazyConfigValue):
            # `c.KubeSpawner.profile_list.append(...)`: to KubeSpawner's default, not to the function that is ours.
            configured = configured.get_value([])
        if isinstance(configured, list | dict):
            self._configured_profile_list = configured
            del config["profile_list"]
        return config

    async def _run_apply_user_options(self, user_options: Any) -> None:
        if self.apply_user_options is None:
            await self.apply_choice(user_options)
        else:
            await super()._run_apply_user_options(user_options)

    def _options_from_form(self, formdata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the posted form as `user_options`, unchecked.

        Within `run_options_from_form` and `options_from_query` the fields of all kinds of options are understood;
        elsewhere, as in KubeSpawner, the lists of choices and their typed texts.
        """
        options = self.parse_form(formdata)
        return dict(super()._options_from_form(formdata)) if options is None else options

    @property
    def _log_name(self) -> str:
        """The server, for the log: users and servers can have any name."""
        return shorten(super()._log_name, 200)

    # ---------------------------------------------------------------------------------- creating

    async def _ensure_namespace(self) -> None:
        """Create the user's namespace, unless it exists."""
        await self.current_start.begin_writing()
        labels = self._expand_all(self.user_namespace_labels)
        annotations = self._expand_all(self.user_namespace_annotations)
        body = self.as_json(make_namespace(self.namespace, labels=labels, annotations=annotations))
        what = f"creating Namespace {self.namespace}"
        try:
            await self.cluster.transport.call("POST", "/api/v1/namespaces", what=what, body=body)
        except KubeFailure as e:
            if not e.already_exists:
                raise self.answer_to(e) from None

    async def _make_create_pvc_request(self, pvc: Any, request_timeout: float) -> bool:
        """Create the user's claim, or use the existing one unless it belongs to another account."""
        del request_timeout
        await self.current_start.begin_writing()
        try:
            await self.cluster.create_home_claim(self.current_start.identity, self.as_json(pvc))
        except ClusterError as e:
            raise self.answer_to(e) from None
        return True

    async def _check_pvc_exists(self, pvc_name: str, namespace: str) -> bool:
        del namespace  # always the server's own
        try:
            return await self.cluster.has_home_claim(self.current_start.identity, pvc_name)
        except ClusterError as e:
            raise self.answer_to(e) from None

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        del request_timeout
        await self.current_start.create_pod(pod)
        return True

    async def _ensure_not_exists(self, kind: str, name: str) -> bool:
        """Do nothing: the creation judges an existing object, by its labels and not by its name."""
        del kind, name
        return True

    async def _make_create_resource_request(self, kind: str, manifest: Any) -> bool:
        """Create the Secret or the Service of `internal_ssl` or `services_enabled`, owned by the pod of this start."""
        body = self.as_json(manifest)
        # KubeSpawner takes the UID of the pod that its reflector shows, which may be an earlier one.
        body["metadata"].pop("ownerReferences", None)
        name = body["metadata"].pop("name")
        item = KubeObject("v1", kind.capitalize(), name, Lifetime.owned, "the hub's configuration", body)
        await self.current_start.create_owned([item])
        return True

    @default("after_pod_created_hook")
    def _default_hook(self) -> ComposedHook:
        return ComposedHook()

    @validate("after_pod_created_hook")
    def _composed_hook(self, proposal: Any) -> ComposedHook:
        hook = proposal["value"]
        return hook if isinstance(hook, ComposedHook) else ComposedHook(hook)

    # ---------------------------------------------------------------------------------- deleting

    async def _make_delete_pvc_request(self, pvc_name: str, request_timeout: float) -> bool:
        """Delete the user's claim, unless it belongs to another user or account."""
        del request_timeout
        await self.cluster.delete_home_claim(self.identity(), pvc_name)
        return True

    # ---------------------------------------------------------------------------------- watching

    async def _start_watching_pods(self, replace: bool = False) -> Any:
        """Return the watch of the pods after its first list, which is tried again like the creation of an object.

        Raises:
            tornado.web.HTTPError: with status 503, when the API server cannot be asked.
        """
        reflector = await self._start_reflector(
            "pods",
            PodWatch,
            replace,
            omit_namespace=self.enable_user_namespaces,
            labels={"component": self.component_label},
            patience=float(self.k8s_api_request_retry_timeout),
        )
        try:
            await reflector.ready()
        except ClusterError as e:
            raise self.answer_to(e) from None
        return reflector

    async def _start_watching_events(self, replace: bool = False) -> Any:
        """Return the watch of the events. They only explain what happens, so no start fails because of them."""
        reflector = await self._start_reflector(
            "events",
            EventWatch,
            replace,
            omit_namespace=self.enable_user_namespaces,
            fields={"involvedObject.kind": "Pod"},
        )
        # Events that are listed later may include those of earlier pods.
        with contextlib.suppress(ClusterError, asyncio.TimeoutError):
            await asyncio.wait_for(reflector.ready(), _EVENTS_SECONDS)
        return reflector

    @property
    def events(self) -> list[Any]:
        """The events of this server's pod since its start, the latest last."""
        if self.event_reflector is None:
            return []
        events: list[Any] = self.event_reflector.of(self.pod_key)
        seen = [number for number, e in enumerate(events) if e["metadata"]["uid"] == self._last_event]
        return events[seen[-1] + 1 :] if seen else events

    @property
    def pod_key(self) -> str:
        """The key of the server's pod in the watch of pods."""
        return f"{self.namespace}/{self.pod_name}"

    # ---------------------------------------------------------------------------------- what others need of it

    def as_json(self, model: Any) -> dict[str, Any]:
        """Return a model of the Kubernetes client as plain JSON."""
        found: dict[str, Any] = plain(self.api.api_client.sanitize_for_serialization(model))
        return found

    def expanded(self, value: Any) -> Any:
        """Return a value with `{username}` and the like replaced, as KubeSpawner does."""
        return self._expand_all(value)

    def pod_parts(self, value_of: Callable[[str], Any]) -> list[Any]:
        """Return the containers and volumes of the traits as the Kubernetes client's models.

        Args:
            value_of: Returns the value of a trait.
        """
        return [
            get_k8s_model(model, self._expand_all(item))
            for name, model in POD_PARTS.items()
            for item in self._sorted_dict_values(value_of(name))
        ]

    def pod_url(self, pod: Mapping[str, Any]) -> str:
        """Return the URL of the server in a running pod."""
        return str(self._get_pod_url(pod))

    def has_port(self, pod: Mapping[str, Any]) -> bool:
        """Return whether KubeSpawner finds the server's port in a pod. KubeSpawner 7.0 does not look for it."""
        find: Callable[[Any], Any] | None = getattr(self, "_get_pod_port", None)
        if find is None or (self.get_pod_url and not (self.internal_ssl or self.services_enabled)):
            return True
        try:
            return bool(find(pod))
        except (LookupError, TypeError, AttributeError):
            return False

    def template_form(self, profile_list: list[dict[str, Any]]) -> str:
        """Return the form of the administrator's KubeSpawner template."""
        return str(self._render_options_form(profile_list))

    def forget_claim(self) -> None:
        """Let KubeSpawner create its claim, because its name or namespace has changed."""
        self._pvc_exists = False

    @property
    def is_starting_hub(self) -> bool:
        """Whether JupyterHub checks at its start if this server still runs."""
        return bool(self._check_pending)

    @property
    def account(self) -> str:
        """The user's account in the hub's database; empty if there is no database that outlives the hub."""
        row: Any = getattr(self, "orm_spawner", None)
        state = inspect(row, raiseerr=False)  # `None` outside of a hub
        session = state.session if state is not None else None
        if session is None or session.get_bind().engine.url.database in (None, "", ":memory:"):
            return ""
        user = row.user
        return account_of(user.id, user.created) if user.created else ""

    def commit(self) -> None:
        """Write this spawner's row to the hub's database, without the deprecated `Spawner.db`."""
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()


def running_hub() -> Any:
    """Return the `JupyterHub` application with its web application; `None` outside of a hub."""
    from jupyterhub.app import JupyterHub

    hub = JupyterHub.instance() if JupyterHub.initialized() else None
    return hub if getattr(hub, "tornado_application", None) is not None else None


def uncounted(spawner: Any) -> None:
    """Exclude the next raised failure from the hub's failure limit.

    JupyterHub 6 does not count `SpawnException`. JupyterHub 5 counts every failure, so there the counter is decreased
    by one before JupyterHub increases it.
    """
    if SpawnException is not None:
        return
    handler = getattr(spawner, "handler", None)
    hub = running_hub()
    # Those of the web application, of which the users have only a copy.
    settings = (
        handler.settings if handler is not None else hub.tornado_application.settings if hub is not None else None
    )
    if settings is not None:
        settings["failure_count"] = settings.get("failure_count", 0) - 1


def call_when_initialized(function: Callable[[], None]) -> None:
    """Call a function in the hub's event loop as soon as the hub has read its configuration; never outside of a hub.

    JupyterHub has no hook for this. It imports every installed spawner class while it makes its application object,
    before there is an event loop, and otherwise while it reads its configuration inside the loop.
    """
    app_class: Any = getattr(sys.modules.get("jupyterhub.app"), "JupyterHub", None)
    if app_class is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        if app_class.initialized():
            loop.call_soon(function)
        return
    initialize = app_class.initialize

    @functools.wraps(initialize)
    async def initialize_and_call(app: Any, *args: Any, **kwargs: Any) -> Any:
        result = await initialize(app, *args, **kwargs)
        function()
        return result

    app_class.initialize = initialize_and_call
