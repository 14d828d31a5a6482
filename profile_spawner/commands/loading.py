"""Loads profiles for the commands.

It needs neither a hub nor a cluster. The configuration is read as JupyterHub reads it, and the profiles are loaded
as the hub loads them: a new module is first imported in a separate process.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from profile_spawner.errors import (
    NotAvailableError,
    ProfileSpawnerError,
    ProfileWarning,
    SourceError,
    did_you_mean,
    plain_words,
)

from .arguments import Sources, UserOptions
from .configuration import SPAWNER_SECTIONS, HubConfig, read_config, setting
from .output import report_problems, without_prints, working
from .settings import (
    guard_functions,
    own_form,
    refused_settings,
    sound_entries,
    spawner_class_of,
    suspicious_settings,
    unfilled_settings,
)

if TYPE_CHECKING:
    from traitlets.config import Config

    from profile_spawner.hub.hub_profiles import HubProfiles
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.snapshot import Snapshot

    from .cluster import ClusterDocuments
    from .places import Places

__all__ = ["LoadedProfiles", "find_entry", "loaded", "make_spawner"]

_T = TypeVar("_T")


class LoadedProfiles:
    """The profiles of a hub with this configuration.

    Attributes:
        hub_config: The hub's configuration, and what is wrong with it.
        config: Its settings.
        snapshot: The profiles.
        per_user: Whether `profile_list` is a function, so that these are the profiles of one user.
        has_list: Whether the configuration has a `profile_list`.
        spawner_class: The configured class, or `ProfileSpawner`.
    """

    def __init__(
        self,
        hub_config: HubConfig,
        hub: HubProfiles,
        loop: asyncio.AbstractEventLoop,
        spawner_class: Any,
        *,
        per_user: bool,
    ) -> None:
        self.hub_config = hub_config
        self.config = hub_config.config
        self.snapshot = hub.service.snapshot
        self.per_user = per_user
        self.has_list = bool(setting(self.config, "profile_list"))
        self.spawner_class = spawner_class
        self._hub = hub
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    @property
    def has_default_server(self) -> bool:
        """Whether there is a configuration, and nothing in it has profiles, so that users get a server without one."""
        values = self.hub_config.values
        if not self.hub_config.files or (values is not None and values.elsewhere):
            return False
        return not (self.snapshot.entries or self.has_list or self._hub.has_sources)

    @functools.cached_property
    def places(self) -> Places:
        """Where plain entries of `profile_list` stand in the configuration files."""
        return self.hub_config.places()

    def spawner(self, user: UserOptions, slug: str | None = None) -> Any:
        """Return a spawner for this user, as the hub would make it; `slug` is the profile that is chosen.

        To be called in a coroutine that `run` runs.
        """
        from profile_spawner.spawner.shared import hub_profiles

        # The profiles are loaded once.
        hub_profiles(self.config, self.spawner_class, self._hub.log).service = self._hub.service
        return make_spawner(self.spawner_class, self.config, user, slug)


def make_spawner(spawner_class: type, config: Config, user: UserOptions, slug: str | None = None) -> Any:
    """Return a spawner without a hub: enough for everything up to the pod. Needs a running event loop."""
    options = {**({"profile": slug} if slug else {}), **user.chosen}
    spawner = spawner_class(
        _mock=True,
        config=config,
        user=SimpleNamespace(
            name=user.name,
            id=1,
            admin=user.admin,
            groups=[SimpleNamespace(name=name, properties={}) for name in user.groups],
            url=f"/user/{user.name}/",
            escaped_name=user.name,
            get_auth_state=functools.partial(_auth_state, user),
        ),
        hub=SimpleNamespace(
            url="http://hub:8081/hub/", base_url="/hub/", api_url="http://hub:8081/hub/api", public_host=""
        ),
        orm_spawner=SimpleNamespace(name=user.server, state={}, user_options=options, server=None),
        user_options=options,
    )
    spawner.api_token = "***"  # what the hub would put in  # noqa: S105
    return spawner


async def _auth_state(user: UserOptions) -> Any:
    """Replace the user's `get_auth_state`, which functions in a configuration may call."""
    return copy.deepcopy(user.auth_state)


@contextlib.contextmanager
def loaded(
    sources: Sources,
    *,
    user: UserOptions | None = None,
    trusted: bool = False,
    cluster: ClusterDocuments | None = None,
    tolerant: bool = False,
) -> Iterator[LoadedProfiles]:
    """Load the profiles. All resources are released at the end of the block.

    Whatever is printed until then goes to standard error: it is not a command's result.

    Args:
        sources: Where they come from.
        user: For whom; a `profile_list` may be a function of the user.
        trusted: Whether documents may ask for anything, as they may when they are only looked at.
        cluster: Where ConfigMaps and Secrets with profiles are read. By default they are not: most commands work
            without a cluster.
        tolerant: Whether everything is loaded that can be, in spite of errors in the configuration. They are in
            `hub_config.problems` then.

    Raises:
        SourceError: when a configuration file cannot be read, or has a value that its setting does not take; or when
            the configuration selects no ConfigMaps, but they are to be read.
        ClusterError: when `cluster` cannot be used.
    """
    from profile_spawner.hub.hub_profiles import HubProfiles
    from profile_spawner.kube.connection import without_cluster
    from profile_spawner.profiles.registry import profile_registry
    from profile_spawner.spawner import ProfileSpawner

    profile_registry.clear()
    log = logging.getLogger("profile_spawner.commands")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    with (
        without_prints(),
        read_config(sources) as hub_config,
        contextlib.closing(asyncio.new_event_loop()) as loop,
        _connected(loop, cluster) as (api_client, namespace),
        without_cluster(),
    ):
        config = hub_config.config
        own_class, other_class = spawner_class_of(hub_config)
        sections = SPAWNER_SECTIONS if own_class is None else tuple(own_class.section_names())
        spawner_class: Any = own_class or ProfileSpawner
        traits = spawner_class.class_traits(config=True)
        hub_config.problems += [
            *([other_class] if other_class else []),
            *refused_settings(hub_config, sections, traits),
            *unfilled_settings(hub_config, sections),
            *own_form(hub_config, sections),
        ]
        told = hub_config.problems.append if tolerant else lambda problem: report_problems([problem])
        guard_functions(hub_config, sections, traits, told)
        if tolerant:
            hub_config.problems += suspicious_settings(hub_config, sections, traits)
        if trusted:
            config.ProfileSpawner.data_policy = {"unrestricted": True}
        if not tolerant:
            _tell(hub_config)
        with _blamed_on(hub_config):
            hub = HubProfiles(_with_documents_of(cluster, namespace, config, sections), sections, log, lambda: traits)
            hub.service.connect(api_client)
            hub.service.trust_data()
        listed = setting(config, "profile_list", sections) or None
        found = LoadedProfiles(hub_config, hub, loop, spawner_class, per_user=callable(listed))
        asked = functools.partial(_asked, found, user or UserOptions(), tolerant=tolerant)
        try:
            with working("Loading the profiles"), _blamed_on(hub_config):
                listed = found.run(asked(listed)) if callable(listed) else listed
                if tolerant and listed is None:
                    listed = hub_config.listed() or None
                listed = hub_config.without_opaque(listed, traits)
                if tolerant and listed:
                    listed = sound_entries(hub_config, listed, traits, told)
                    config[sections[-1]].profile_list = listed
                snapshot = found.run(hub.catalogue(listed, shared=False))
            if snapshot is not None:
                found.snapshot = snapshot
            yield found
        finally:
            found.run(_stop(hub))
            profile_registry.clear()


def _tell(hub_config: HubConfig) -> None:
    """Report what is wrong in the configuration, and what of it does not count here.

    Raises:
        ProfileSpawnerError: The first error, when there are any.
    """
    errors: list[ProfileSpawnerError] = [
        p for p in hub_config.problems if not isinstance(p, ProfileWarning) or p.level == "error"
    ]
    # A configuration file that cannot be run is one that has no effect; code in values is a part of them.
    files = [p for p in hub_config.not_run() if p.field is None]
    errors = [*(p for p in errors if p not in files), *(p.error for p in files)]
    if errors:
        report_problems(errors[1:])
        raise errors[0]
    for problem in hub_config.problems:
        if isinstance(problem, ProfileWarning) and problem.rule == "not-checked":
            typer.echo(f"Note: {problem}", err=True)
    if hub_config.values is not None:
        defaults = hub_config.values.defaults.described
        typer.echo(
            f"Note: with the defaults of Zero to JupyterHub {defaults}, for a release named jupyterhub", err=True
        )


async def _asked(found: LoadedProfiles, user: UserOptions, listed: Any, *, tolerant: bool) -> Any:
    """Return what a `profile_list` that is a function returns for a user."""
    from profile_spawner.sources.tracebacks import describe

    try:
        made = listed(found.spawner(user))
        return (await made if inspect.isawaitable(made) else made) or []
    except Exception as e:  # noqa: BLE001 - a function of a configuration may raise anything
        error = describe(e, found.hub_config.file_in(e))
        if not tolerant:
            raise error from None
        hint = "--auth-state FILE gives it the user's auth_state"
        found.hub_config.problems.append(
            ProfileWarning(
                f"profile_list is a function that fails here, so what it returns is not checked: {error.message}",
                rule="not-checked",
                field="profile_list",
                origin=error.origin,
                hint=hint if user.auth_state is None else error.hint,
            )
        )
        found.has_list = False
        for section in found.config.values():
            section.pop("profile_list", None)
        return None


@contextlib.contextmanager
def _connected(
    loop: asyncio.AbstractEventLoop, cluster: ClusterDocuments | None
) -> Iterator[tuple[Callable[[], Awaitable[Any]] | None, str | None]]:
    """Connect to the cluster, if there is one; yield a function that returns the client, and the default namespace."""
    from profile_spawner.kube.connection import close, default_api_client, default_namespace

    if cluster is None:
        yield None, None
        return
    client = loop.run_until_complete(default_api_client(cluster.kubeconfig))

    async def connected() -> Any:
        return client

    try:
        yield connected, default_namespace(cluster.kubeconfig)
    finally:
        loop.run_until_complete(close(client))


def _with_documents_of(
    cluster: ClusterDocuments | None, context_namespace: str | None, config: Config, sections: Sequence[str]
) -> Config:
    """Return the configuration for the sources. Without a cluster, it selects no ConfigMaps."""
    from profile_spawner.sources.config_maps import ConfigMapSettings

    config = copy.deepcopy(config)
    named = "profile_config_maps_namespace"
    selecting = [name for name in ConfigMapSettings.class_trait_names(config=True) if name != named]
    if cluster is None:
        for section in sections:
            for name in selecting:
                config[section].pop(name, None)
    elif any(setting(config, name, sections) for name in selecting):
        namespace = cluster.namespace or setting(config, named, sections) or context_namespace
        config[sections[-1]][named] = namespace
    else:
        raise SourceError(
            "the configuration selects no ConfigMaps",
            field="--from-cluster",
            hint="Set profile_config_maps or profile_config_map_names in it",
        )
    return config


async def _stop(hub: HubProfiles) -> None:
    """End everything that runs in the loop, as `asyncio.run` does: the service, and KubeSpawner's client."""
    await hub.service.stop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


@contextlib.contextmanager
def _blamed_on(hub_config: HubConfig) -> Iterator[None]:
    """Convert errors of traitlets to an error with the line of the setting."""
    from traitlets import TraitError

    try:
        yield
    except TraitError as e:
        name = re.search(r"'(\w+)' trait", str(e))
        origin = hub_config.origin_of(name[1]) if name else None
        raise SourceError(plain_words(str(e).rstrip(".")), field=name[1] if name else None, origin=origin) from None


def find_entry(snapshot: Snapshot, slug: str) -> Entry:
    """Return a profile by its slug or alias.

    Raises:
        NotAvailableError: naming the most similar slug, and what could not be loaded.
        ProfileSpawnerError: saying why the profile cannot be used.
    """
    entry = snapshot.find(slug)
    broken = snapshot.reasons(slug)
    if entry is not None and not (entry.offer.unavailable and broken):
        return entry
    if broken:
        raise broken[0]
    similar = did_you_mean(slug, snapshot.entries)
    # Which profiles a module would have registered that could not be loaded is not known. One wrong profile is enough.
    failed = [error for error in snapshot.errors if error.profile is None or snapshot.find(error.profile) is None]
    message = f"there is no such profile{similar}"
    if failed:
        message += " But" if similar else ", but"
        message += " not everything could be loaded: " + "; ".join(map(str, failed))
    raise NotAvailableError(message, field="SLUG", value=slug, hint="`profile-spawner list` shows all of them")
