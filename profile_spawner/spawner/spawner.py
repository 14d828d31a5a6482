"""`ProfileSpawner`: KubeSpawner, with profiles from a registry.

The order of a spawn: JupyterHub calls `clear_state` (resets the values of an earlier profile), the hooks,
`apply_user_options` (the choice is validated and authorised), then `start`: `load_user_options` builds
the profile and merges it into the traits, KubeSpawner makes the manifest, and `_make_create_pod_request` creates
the pod and its objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyterhub.handlers import default_handlers
from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from sqlalchemy.orm import object_session
from tornado import web
from traitlets import default, observe
from traitlets.config.loader import LazyConfigValue

from profile_spawner.errors import BuildError, ParamError, ProfileSpawnerError, shorten
from profile_spawner.hub.layers import group_properties, layers_for
from profile_spawner.hub.settings import HubTraits
from profile_spawner.page.handlers import routes
from profile_spawner.page.translations import gettext_for
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import ProfileBuild
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.selection import Offer, Rejection, Selection, from_form
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.texts import Text

from .applying import TraitKeeper, apply_build
from .form import FormMixin, search_profiles
from .lifecycle import LifecycleMixin
from .progress import step_text, translated
from .refusals import from_error, refusal, silent, uncounted
from .shared import SpawnerHub, hub_profiles, start_with_hub
from .upstream import registry_profile_list
from .viewing import ViewMixin

__all__ = ["ProfileSpawner"]


@functools.cache
def _sections_of(cls: type) -> tuple[str, ...]:
    return tuple(cls.section_names())  # type: ignore[attr-defined]


@dataclass
class _Chosen:
    """The profile and options of this spawn. They belong to one snapshot for the whole spawn."""

    request: Mapping[str, Any]
    listed: Any
    snapshot: Snapshot
    selection: Selection
    entry: Entry
    build: ProfileBuild | None = None
    params: dict[str, Any] = field(default_factory=dict)
    spawn_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])


class ProfileSpawner(ViewMixin, FormMixin, LifecycleMixin, HubTraits, KubeSpawner):
    """A KubeSpawner whose profiles come from classes, YAML documents, ConfigMaps and packages.

    Everything that works with KubeSpawner works unchanged: `c.KubeSpawner.*` applies, and a plain `profile_list` makes
    the same pods.
    """

    _chosen: _Chosen | None = None
    _configured_profile_list: Any = None
    _offers: Mapping[str, Offer] | None = None
    """The profiles of the form that is being parsed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._traits_before = TraitKeeper(self)
        self._steps: list[str] = []
        self._step_known = asyncio.Event()
        self._record: dict[str, Any] = {}
        self._good_options: Mapping[str, Any] = dict(self.user_options or {})

    # ---------------------------------------------------------------------------------------------- configuration

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

    @observe("handler")
    def _handler_set(self, change: Any) -> None:
        self.remember_handler(change["new"])

    @default("profile_list")
    def _default_profile_list(self) -> Any:
        configured = self._configured_profile_list
        # A copy: a hook may change it for one server.
        return copy.deepcopy(configured) if configured is not None else registry_profile_list

    @property
    def profiles(self) -> SpawnerHub:
        """The objects that all spawners of this hub share."""
        return hub_profiles(self.config, _sections_of(type(self)), self.log)  # type: ignore[arg-type]

    @property
    def user_info(self) -> UserInfo:
        """The user, with the groups as they are now."""
        groups = getattr(self.user, "groups", None)
        names = frozenset(g.name for g in groups or ())
        return UserInfo(self.user.name, names, bool(getattr(self.user, "admin", False)))

    def _own_profile_list(self) -> tuple[Any, bool]:
        """Return the configured `profile_list` and whether it is the hub's one object; `None` without one."""
        value = self._trait_values.get("profile_list", self._configured_profile_list)
        if value is registry_profile_list:
            return None, True
        return value, value is self._configured_profile_list

    async def catalogue(self) -> Snapshot | None:
        """Return the profiles on offer; `None` when this is used as a plain KubeSpawner without any."""
        listed, shared = self._own_profile_list()
        if callable(listed):
            listed, shared = await maybe_future(listed(self)), False
            if listed is None:
                listed = []
        elif not listed:
            listed = None
        return await self.profiles.catalogue(listed, shared=shared)

    # ---------------------------------------------------------------------------------------------- choosing

    async def choose(self, request: Any) -> None:
        """Validate and authorise the user's choice, and keep it for the start.

        Raises:
            tornado.web.HTTPError: If the choice is not valid. It is not counted as a failure of the hub.
        """
        self._chosen = None
        snapshot = await self.catalogue()
        if snapshot is None:
            if isinstance(request, Mapping) and request.get("profile"):
                self.log.warning("A profile was requested, but no profiles are configured")
            return
        result = snapshot.select(request, self.user_info)
        if isinstance(result, Rejection):
            raise self._refused(result)
        result = await self._check_params(snapshot, result)
        self._good_options = dict(result.user_options)
        # A hook may change the very dictionary that was chosen from.
        before, (listed, _) = copy.deepcopy(request), self._own_profile_list()
        self._chosen = _Chosen(before, listed, snapshot, result, snapshot.entries[result.slug])

    def _is_outdated(self, chosen: _Chosen) -> bool:
        """Tell whether a hook may have changed, since the choice, what KubeSpawner reads only at the start."""
        listed, shared = self._own_profile_list()
        # A list of this server's own can have been changed in place.
        own = not (shared or callable(listed))
        return own or chosen.listed is not listed or chosen.request != self.user_options

    async def _check_params(self, snapshot: Snapshot, selection: Selection) -> Selection:
        """Return the choice if the administrator allows what it sets.

        Raises:
            tornado.web.HTTPError: naming the field and what is allowed.
        """
        try:
            result = snapshot.check_choice(selection, **await self.param_layers()) if snapshot.resolver else selection
        except ProfileSpawnerError:
            return selection  # not the user's mistake: the start says what is wrong
        if isinstance(result, Rejection):
            raise self._refused(result)
        return result

    def _refused(self, rejection: Rejection) -> Exception:
        self._forget_bad_options()
        self.log.info("Refused options of %s: %s", self._log_name, rejection.message)
        uncounted(self)
        return refusal(self.say(rejection.message), reason="invalid_options", log_message=rejection.message)

    def _forget_bad_options(self) -> None:
        """Restore the last valid options: JupyterHub stores the sent options before they are validated."""
        orm_spawner = getattr(self, "orm_spawner", None)
        if orm_spawner is not None and orm_spawner.user_options != self._good_options:
            orm_spawner.user_options = dict(self._good_options)
            self._commit()

    def _commit(self) -> None:
        """Write this spawner's row to the hub's database, without the deprecated `Spawner.db`."""
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()

    async def _run_apply_user_options(self, user_options: Any) -> None:
        if self.apply_user_options is None:
            await self.choose(user_options)
        else:
            await super()._run_apply_user_options(user_options)

    def _options_from_form(self, formdata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the posted form as `user_options`, unchecked.

        Within `run_options_from_form` and `options_from_query` the fields of all kinds of options are understood;
        elsewhere, as in KubeSpawner, the lists of choices and their typed texts.
        """
        if self._offers is None:
            return dict(super()._options_from_form(formdata))
        return from_form(formdata, self._offers)

    def run_options_from_form(self, form_data: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
        """Return the posted form as `user_options`, validated and authorised.

        Raises:
            tornado.web.HTTPError: with status 400, which shows the form again, as filled in and with what is wrong.
        """
        self.expect_rejected()
        return self._checked_form(form_data)

    async def _checked_form(self, form_data: Mapping[str, Any]) -> dict[str, Any]:
        options, selection = await self._parse(form_data, super().run_options_from_form)
        return options if selection is None else dict(selection.user_options)

    async def _parse(
        self, fields: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], Any]
    ) -> tuple[dict[str, Any], Selection | None]:
        """Return the fields as `user_options`, and what they select; nothing where no profiles are configured.

        Args:
            fields: A posted form, or the query of a link.
            parse: JupyterHub's method for them, which calls the configured `options_from_form`.
        """
        snapshot = await self.catalogue()
        user = self.user_info
        self._offers = snapshot.offers_for(user) if snapshot is not None else None
        try:
            options = dict(await maybe_future(parse(fields)))
        finally:
            self._offers = None
        if snapshot is None:
            return options, None
        result = snapshot.select(options, user)
        if isinstance(result, Rejection):
            raise self._back_to_form(options, result)
        return options, result

    def options_from_query(self, query_data: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
        """Return a link's choice as `user_options`, validated and authorised, or show the form with it filled in.

        JupyterHub calls only this method for links, so it also validates. Any person can send a link, so by default the
        user must confirm it. `linked_start` allows more, but never typed values.

        Raises:
            tornado.web.HTTPError: with status 200 to show the form; with 400 when the link is wrong.
        """
        self.expect_rejected()
        return self._checked_query(query_data)

    async def _checked_query(self, query_data: Mapping[str, Any]) -> dict[str, Any]:
        options, selection = await self._parse(query_data, super().options_from_query)
        if selection is None:
            return options
        chosen = set(selection.user_options) - {"profile"}
        listed = self.linked_start == "choices" and not selection.typed
        if self.linked_start == "confirm" or (chosen and not listed) or "profile" not in options:
            # JupyterHub shows the form when reading a link fails; here nothing is wrong.
            self.remember_rejected(options, None)
            raise silent(200, "the link's choice is shown and not started")
        return dict(selection.user_options)

    def _back_to_form(self, request: Mapping[str, Any], rejection: Rejection) -> web.HTTPError:
        """Return the exception that shows the form again. The form shows the error of each field."""
        if self.uses_own_template:
            return refusal(self.say(rejection.message), reason="invalid_options", log_message=rejection.message)
        self.remember_rejected(request, rejection)
        return silent(400, rejection.message)

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
            user_namespaces=self.enable_user_namespaces,
        )

    async def load_user_options(self) -> None:
        """Build the chosen profile and merge it into the traits.

        Raises:
            tornado.web.HTTPError: If the user's choice or the profile is wrong. It is also a `ValueError`.
        """
        self._begun = asyncio.get_running_loop().time()
        self._traits_before.restore()
        try:
            chosen = self._chosen
            if chosen is None or self._is_outdated(chosen):
                await self.choose(self.user_options)
                chosen = self._chosen
            if chosen is not None:
                await self._apply(chosen)
        finally:
            self._step_known.set()

    async def _apply(self, chosen: _Chosen) -> None:
        entry = chosen.entry
        try:
            layers = await self.param_layers() if chosen.snapshot.takes_params(entry) else {}
            context = self.server_context(chosen.spawn_id)
            chosen.build = await chosen.snapshot.build(chosen.selection, context, **layers)
            chosen.params = chosen.snapshot.record(chosen.selection, **layers)
            self._warn_of_params(chosen.params)
            apply_build(self, self._traits_before, entry, chosen.build)
            self._look_for_claim()
        except web.HTTPError:
            raise
        except Exception as e:  # an author's code may raise anything
            self._traits_before.restore()
            text = f"KubeSpawner cannot make a pod of it: {type(e).__name__}: {shorten(str(e), 300)}"
            known = e if isinstance(e, ProfileSpawnerError) else None
            error = known or BuildError(text, profile=entry.slug, origin=entry.origin)
            self.log.error("%s cannot be started: %s", self._log_name, error, exc_info=known is None)
            uncounted(self)
            raise from_error(error, entry.offer.display_name, self.say) from error
        self._tell_steps(chosen)

    def _look_for_claim(self) -> None:
        """Make KubeSpawner create its claim if the profile changes the claim's namespace or name."""
        before = self._traits_before
        if (self.namespace, self.pvc_name) != (before.original("namespace"), before.original("pvc_name")):
            before.save("pvc_name")
            before.save("_pvc_exists")
            self._pvc_exists = False

    async def param_layers(self) -> dict[str, Any]:
        """Return the layers of param values that apply to this server, and its facts, as the resolver takes them.

        They come from `param_values`, from the `profile_spawner` key of the user's JupyterHub groups' properties, and
        from `param_layers_hook`.

        Raises:
            ParamError: If the hook fails, or a value has the wrong structure.
        """
        hooked = None
        if self.param_layers_hook is not None:
            try:
                hooked = await maybe_future(self.param_layers_hook(self))
            except Exception as e:  # an administrator's code may raise anything
                raise ParamError(f"{type(e).__name__}: {shorten(str(e), 300)}", field="param_layers_hook") from e
        properties = group_properties(self.user)
        layers = layers_for(self.user_info, self.name, dict(self.param_values), properties, hooked, self.param_order)
        facts = {name: fact for name, fact in self.server_context().facts("").items() if name != "profile"}
        return {**layers, "facts": facts}

    def _warn_of_params(self, record: Mapping[str, Any]) -> None:
        """Log params without a usable value. The profile works without them."""
        for name, one in record.items():
            if one.get("error"):
                self.log.warning("%s has no %s: %s", self._log_name, name, one["error"])

    def _tell_steps(self, chosen: _Chosen) -> None:
        name = chosen.entry.offer.display_name
        steps = chosen.build.steps if chosen.build is not None else ()
        self._steps = [step_text(step, name) for step in steps] or [Text("Preparing %(name)s", name=name)]

    # ---------------------------------------------------------------------------------------------- state

    def clear_state(self) -> None:
        """Forget the stopped server: its choice, and every value that its profile set."""
        if hasattr(self, "_traits_before"):
            self._traits_before.restore()
        super().clear_state()
        self._chosen = None
        self._record = {}
        self._steps = []
        self._step_known = asyncio.Event()

    def get_state(self) -> dict[str, Any]:
        """Return what must survive a restart of the hub: KubeSpawner's state, and what was made for the server."""
        state: dict[str, Any] = super().get_state()
        if self._record:
            state["profile_spawner"] = self._record
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a server that was started before the hub's restart."""
        super().load_state(state)
        record = state.get("profile_spawner")
        self._record = dict(record) if isinstance(record, dict) else {}
        before = dict(self._record.get("before") or {})
        if not self.remember_pvc_name:
            before = {name: value for name, value in before.items() if name == "namespace"}
        self._traits_before.load(before)

    # ---------------------------------------------------------------------------------------------- progress

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the steps of the profile, then the events of the pod in plain words."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._step_known.wait(), 5)
        for number, step in enumerate(self._steps):
            yield {"progress": min(5 + 5 * number, 25), "message": self.say(step)}
        async with contextlib.aclosing(super().progress()) as events:
            async for event in translated(events, gettext_for(self.language)):
                yield event


# JupyterHub reads its own list of handlers when it has imported the spawner's class and read its configuration.
default_handlers.extend(routes(search_profiles))
start_with_hub(ProfileSpawner)
