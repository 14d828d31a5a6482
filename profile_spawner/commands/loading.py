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
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from profile_spawner.errors import NotAvailableError, Origin, ProfileSpawnerError, SourceError, did_you_mean

from .arguments import Sources, UserOptions
from .output import working

if TYPE_CHECKING:
    from traitlets.config import Config

    from profile_spawner.hub.hub_profiles import HubProfiles
    from profile_spawner.migrate.chart import ChartValues
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.snapshot import Snapshot

    from .cluster import ClusterDocuments
    from .places import Places

__all__ = [
    "LoadedProfiles",
    "config_files",
    "find_entry",
    "loaded",
    "make_spawner",
    "read_config",
    "setting",
]

_T = TypeVar("_T")

CONFIG_NAMES = tuple(
    f"{folder}jupyterhub_config.py"
    for folder in ("", "/usr/local/etc/jupyterhub/", "/srv/jupyterhub/", "/etc/jupyterhub/")
)
"""The default configuration files. The second is the one of Zero to JupyterHub."""

SPAWNER_SECTIONS = ("Spawner", "KubeSpawner", "ProfileSpawner")
"""The sections of the configuration that `ProfileSpawner` reads, the least specific first."""


class LoadedProfiles:
    """The profiles of a hub with this configuration.

    Attributes:
        config: The hub's configuration.
        config_files: The files of the configuration.
        snapshot: The profiles.
        per_user: Whether `profile_list` is a function, so that these are the profiles of one user.
    """

    def __init__(
        self,
        config: Config,
        config_files: Sequence[Path],
        hub: HubProfiles,
        loop: asyncio.AbstractEventLoop,
        *,
        per_user: bool,
    ) -> None:
        self.config = config
        self.config_files = tuple(config_files)
        self.snapshot = hub.service.snapshot
        self.per_user = per_user
        self._hub = hub
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    @functools.cached_property
    def places(self) -> Places:
        """Where plain entries of `profile_list` stand in the configuration files."""
        from .places import Places

        values = [v for path in self.config_files if not _is_python(path) for v in _values(path)]
        listed = [(entry, v.file) for v in values for entry in v.profile_list if isinstance(entry, Mapping)]
        snippets = [(text, v.file, before) for v in values for _, text, before in v.snippets]
        return Places([path for path in self.config_files if _is_python(path)], listed, snippets)

    @functools.cached_property
    def spawner_class(self) -> Any:
        """The configured class, or `ProfileSpawner`."""
        return _spawner_class(self.config)

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
            get_auth_state=_no_auth_state,
        ),
        hub=SimpleNamespace(
            url="http://hub:8081/hub/", base_url="/hub/", api_url="http://hub:8081/hub/api", public_host=""
        ),
        orm_spawner=SimpleNamespace(name=user.server, state={}, user_options=options, server=None),
        user_options=options,
    )
    spawner.api_token = "***"  # what the hub would put in  # noqa: S105
    return spawner


async def _no_auth_state() -> None:
    """Replace the user's `get_auth_state`, which functions in a configuration may call."""


@contextlib.contextmanager
def loaded(
    sources: Sources,
    *,
    user: UserOptions | None = None,
    trusted: bool = False,
    cluster: ClusterDocuments | None = None,
) -> Iterator[LoadedProfiles]:
    """Load the profiles. All resources are released at the end of the block.

    Args:
        sources: Where they come from.
        user: For whom; a `profile_list` may be a function of the user.
        trusted: Whether documents may ask for anything, as they may when they are only looked at.
        cluster: Where ConfigMaps and Secrets with profiles are read. By default they are not: most commands work
            without a cluster.

    Raises:
        SourceError: when a configuration file cannot be read, or has a value that its setting does not take; or when
            the configuration selects no ConfigMaps, but they are to be read.
        ClusterError: when `cluster` cannot be used.
    """
    from profile_spawner.hub.hub_profiles import HubProfiles
    from profile_spawner.kube.connection import without_cluster
    from profile_spawner.profiles.registry import profile_registry

    profile_registry.clear()
    config = read_config(sources)
    if trusted:
        config.ProfileSpawner.data_policy = {"unrestricted": True}
    log = logging.getLogger("profile_spawner.commands")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    files = config_files(sources)
    with (
        contextlib.closing(asyncio.new_event_loop()) as loop,
        _connected(loop, cluster) as (api_client, namespace),
        without_cluster(),
    ):
        with _blamed_on(files):
            own_class = _own_spawner_class(config)
            sections = SPAWNER_SECTIONS if own_class is None else tuple(own_class.section_names())
            hub = HubProfiles(
                _with_documents_of(cluster, namespace, config, sections),
                sections,
                log,
                functools.cache(lambda: _spawner_class(config).class_traits(config=True)),
            )
            hub.service.connect(api_client)
            hub.service.trust_data()
        listed = setting(config, "profile_list", sections) or None
        found = LoadedProfiles(config, files, hub, loop, per_user=callable(listed))

        async def load(listed: Any = listed) -> Any:
            if callable(listed):
                listed = listed(found.spawner(user or UserOptions()))
                listed = (await listed if inspect.isawaitable(listed) else listed) or []
            return await hub.catalogue(listed, shared=False)

        try:
            with working("Loading the profiles"), _blamed_on(files, anything=found.per_user):
                snapshot = found.run(load())
            if snapshot is not None:
                found.snapshot = snapshot
            yield found
        finally:
            found.run(_stop(hub))
            profile_registry.clear()


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
def _blamed_on(files: Sequence[Path], *, anything: bool = False) -> Iterator[None]:
    """Convert errors of traitlets to an error with the line of the setting.

    With `anything`, also what a function of the configuration raises.
    """
    from traitlets import TraitError

    from profile_spawner.sources.tracebacks import describe

    from .places import setting_origin

    try:
        yield
    except ProfileSpawnerError:
        raise
    except TraitError as e:
        name = re.search(r"'(\w+)' trait", str(e))
        origin = setting_origin(files, name[1]) if name else None
        raise SourceError(str(e).rstrip("."), field=name[1] if name else None, origin=origin) from None
    except Exception as e:
        if not anything:
            raise
        raise describe(e, next((f for f in files if _raised_in(e, f)), Path("profile_list"))) from None


def _raised_in(error: BaseException, path: Path) -> bool:
    return any(Path(frame.filename) == path for frame in traceback.extract_tb(error.__traceback__))


def read_config(sources: Sources) -> Config:
    """Read the configuration files, and add the sources of the command line."""
    from traitlets.config import Config

    config = Config()
    paths = config_files(sources)
    if not paths and not sources.named:
        sources = replace(sources, profiles=("all",))
    for path in paths:
        config.merge(_read_file(path))
    ours = config.ProfileSpawner
    for name, given in (("profiles_dirs", sources.profiles_dirs), ("profile_documents", sources.documents)):
        if given:
            ours[name] = [*(setting(config, name) or ()), *(str(p.absolute()) for p in given)]
    if sources.profiles is not None:
        ours.builtin_profiles = list(sources.profiles)
    if sources.configurator:
        ours.configurator_compat = True
    if sources.entry_points:
        ours.profile_entry_points = True
    return config


def config_files(sources: Sources) -> list[Path]:
    """Return the configuration files that are read, in their order."""
    if not sources.named:
        return [Path(name) for name in CONFIG_NAMES if Path(name).is_file()][:1]
    return [path for given in sources.config for path in _files(given)]


def setting(config: Config, name: str, sections: Sequence[str] = SPAWNER_SECTIONS) -> Any:
    """Return the configured value of a spawner's setting; `None` where there is none."""
    from traitlets.config.loader import LazyConfigValue

    value = next((config[section][name] for section in reversed(sections) if name in config[section]), None)
    # `c.KubeSpawner.profile_list.append(...)`
    return value.get_value([]) if isinstance(value, LazyConfigValue) else value


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def _is_python(path: Path) -> bool:
    return path.suffix not in (".yaml", ".yml", ".json")


def _values(path: Path) -> list[ChartValues]:
    """Return the values of a chart.

    Raises:
        SourceError: when the file holds none.
    """
    from profile_spawner.migrate.chart import chart_values

    found = chart_values(path)
    if not found:
        raise SourceError(
            "these are not values of Zero to JupyterHub",
            origin=Origin(str(path)),
            expected="singleuser, hub.config or hub.extraConfig, at any depth",
            hint="Documents with profiles are named with --documents",
        )
    return found


def _read_file(path: Path) -> Config:
    from traitlets.config import Config
    from traitlets.config.loader import PyFileConfigLoader

    from profile_spawner.migrate.chart import config_of
    from profile_spawner.sources.tracebacks import describe

    if not _is_python(path):
        result = Config()
        for values in _values(path):
            result.merge(config_of(values, lambda message: typer.echo(f"Note: {message}", err=True)))
        return result
    try:
        return PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
    except (Exception, SystemExit) as e:  # noqa: BLE001 - a configuration may raise anything
        raise describe(e, path) from None


def _spawner_class(config: Config) -> Any:
    """Return the configured class, or `ProfileSpawner`."""
    from profile_spawner.spawner import ProfileSpawner

    return _own_spawner_class(config) or ProfileSpawner


def _own_spawner_class(config: Config) -> Any:
    """Return the configured subclass of `ProfileSpawner`; `None` for `ProfileSpawner` itself and for other spawners."""
    configured: Any = config.JupyterHub.get("spawner_class")
    if configured is None or configured in ("profile-spawner", "profile_spawner.spawner.ProfileSpawner"):
        return None
    from profile_spawner.spawner import ProfileSpawner

    if isinstance(configured, str) and "." in configured:
        from traitlets.utils.importstring import import_item

        with contextlib.suppress(ImportError):
            configured = import_item(configured)
    return configured if isinstance(configured, type) and issubclass(configured, ProfileSpawner) else None


def find_entry(snapshot: Snapshot, slug: str) -> Entry:
    """Return a profile by its slug or alias.

    Raises:
        NotAvailableError: naming the most similar slug, or why the profile cannot be used.
    """
    entry = snapshot.find(slug)
    broken = snapshot.reasons(slug)
    if entry is not None and not (entry.offer.unavailable and broken):
        return entry
    if broken:
        raise broken[0]
    raise NotAvailableError(
        f"there is no such profile{did_you_mean(slug, snapshot.entries)}",
        field="SLUG",
        value=slug,
        hint="`profile-spawner list` shows all of them",
    )
