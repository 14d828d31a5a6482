"""What all spawners of one hub share: the profiles, the rights and the view of the cluster.

JupyterHub makes one spawner object per server. Everything that must exist once per hub is in a
`HubProfiles`. It is found by the hub's configuration object, which all spawners of the hub share.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cachetools import LRUCache
from traitlets.config import Config
from traitlets.config.loader import DeferredConfig, LazyConfigValue

from profile_spawner.errors import DuplicateSlugError, Origin, ProfileDefinitionError, ProfileSpawnerError, described
from profile_spawner.kube.cluster import Cluster
from profile_spawner.metrics import hub_metrics
from profile_spawner.names import names_user
from profile_spawner.policy.settings import DEFAULT_KINDS, DataPolicy, Policy, names_of_the_chart
from profile_spawner.profiles.author_code import author_code, call_author
from profile_spawner.profiles.entry import Entry, Traits, make_entry
from profile_spawner.profiles.linting import SpawnerTraits
from profile_spawner.profiles.plain_entries import PlainEntry, each_entry, read_entry
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.sources.config_maps import source_name
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import PROFILE_LIST, may_override

from .housekeeping import Housekeeping, ServerRow, Servers, known_servers, recorded_spawns
from .layers import check_param_values
from .rights import Rights
from .settings import ENV_HUB_ID, HubTraits

__all__ = ["HubProfiles"]

_log = logging.getLogger(__name__)


class _Settings(HubTraits):
    """Reads the hub-wide traits without a spawner, from the sections that a spawner class reads."""

    spawner_sections: tuple[str, ...] = ("Spawner", "KubeSpawner", "ProfileSpawner")

    @classmethod
    def section_names(cls) -> list[str]:
        """Return the configuration sections, least specific first."""
        return list(cls.spawner_sections)

    def _load_config(self, cfg: Any, section_names: Any = None, traits: Any = None) -> None:
        # The sections hold all of KubeSpawner's traits: only the hub-wide ones are read, the others are ignored.
        del section_names
        wanted = traits or self.traits(config=True)
        for name, value in self._find_my_config(cfg).items():
            if name not in wanted:
                continue
            if isinstance(value, LazyConfigValue):  # `c.ProfileSpawner.profiles_dirs.append(...)`
                value = value.get_value(getattr(self, name))
            elif isinstance(value, DeferredConfig):  # the command line
                value = value.get_value(wanted[name])
            setattr(self, name, value)


class HubProfiles:
    """The objects that exist once per hub.

    Args:
        config: The hub's configuration.
        sections: The configuration sections of the spawner class, least specific first.
        log: The hub's logger.
        traits: See `make_entry`.

    Attributes:
        has_own_id: Whether the administrator has set the hub's identity.
    """

    def __init__(
        self, config: Config, sections: tuple[str, ...], log: Any = _log, traits: Traits | None = None
    ) -> None:
        settings_class = type("HubSettings", (_Settings,), {"spawner_sections": sections})
        self.settings: HubTraits = settings_class(config=config)
        self.has_own_id = self.settings.trait_has_value("hub_id") or ENV_HUB_ID in os.environ
        self.log = log
        self._traits = (
            None if traits is None else functools.cache(functools.partial(_with_values, traits, config, sections))
        )
        self.service = ProfileService(self.settings, log=log, traits=self._traits)
        try:
            check_param_values(self.settings.param_values)
        except ProfileSpawnerError as e:
            log.error("%s", e)
        self._data_rights = {k: DataPolicy.of(self.settings.data_policy, k) for k in ("documents", "config_maps")}
        enabled = _configured(config, sections, "enable_user_namespaces", False)
        template = _configured(config, sections, "user_namespace_template", "{hubnamespace}-{username}")
        self.policy = Policy(
            role_rights=frozenset(self.settings.user_namespace_rights),
            user_namespaces=bool(enabled) and names_user(str(template)),
            kinds=DEFAULT_KINDS | frozenset(self.settings.allowed_kinds),
            pod_security=self.settings.pod_security,
            service_accounts=frozenset().union(*(r.service_accounts for r in self._data_rights.values())),
            protected=frozenset({"hub"}) | names_of_the_chart("hub"),
        )
        self.rights = Rights(log)
        self._clusters: dict[Any, tuple[Cluster, Housekeeping]] = {}
        self._listed: tuple[Any, Snapshot] | None = None
        self._combined: tuple[Any, Any, Snapshot] | None = None
        self._logged: LRUCache[str, bool] = LRUCache(1000)
        self.languages: dict[str, str] = {}

    @property
    def has_sources(self) -> bool:
        """Whether a source of profiles other than a plain `profile_list` is configured."""
        return self.service.has_sources

    def data_rights(self, entry: Entry) -> DataPolicy | None:
        """Return what the hub allows to the source of a profile that is data; `None` if it is not restricted."""
        if entry.profile.contributor != "document":
            return None
        of_config_maps = entry.source == source_name(self.settings.profile_config_maps_namespace)
        return self._data_rights["config_maps" if of_config_maps else "documents"].restricting

    def cluster(self, api_client: Any, request_timeout: float, retry_budget: float) -> Cluster:
        """Return the hub's shared `Cluster` for `api_client`."""
        if api_client not in self._clusters:
            cluster = Cluster(
                api_client,
                policy=self.policy,
                log=self.log,
                request_timeout=request_timeout,
                retry_budget=retry_budget,
            )
            housekeeping = Housekeeping(
                cluster,
                self.settings.hub_id,
                grace=self.settings.shared_grace_period,
                interval=self.settings.sweep_interval,
                files=self.has_sources,
                has_files=lambda: any("ConfigMap" in e.kinds for e in self.service.snapshot.entries.values()),
                log=self.log,
                servers=self._known_servers,
            )
            self._clusters[api_client] = (cluster, housekeeping)
        return self._clusters[api_client][0]

    def _known_servers(self) -> Servers | None:
        """Return the servers of the running hub; `None` outside of one."""
        from jupyterhub import orm
        from jupyterhub.app import JupyterHub

        app = JupyterHub.instance() if JupyterHub.initialized() else None
        if app is None or getattr(app, "users", None) is None:
            return None

        def spawns_of(number: int) -> frozenset[str]:
            row = app.db.query(orm.Spawner.state).filter(orm.Spawner.id == number).first()
            return recorded_spawns(row[0] if row else None)

        columns = app.db.query(orm.User.name, orm.Spawner.name, orm.Spawner.id, orm.Spawner.server_id)
        found = columns.join(orm.Spawner, orm.Spawner.user_id == orm.User.id)
        rows = [ServerRow(user, name or "", number, server is not None) for user, name, number, server in found]
        return known_servers(self.settings.hub_id, app, rows, spawns_of)

    def housekeeping(self, api_client: Any) -> Housekeeping:
        """Return the `Housekeeping` that removes unused objects from the cluster of `api_client`."""
        return self._clusters[api_client][1]

    async def catalogue(
        self, profile_list: Any, *, shared: bool, problem: ProfileSpawnerError | None = None
    ) -> Snapshot | None:
        """Return all profiles: those of the sources and those of a plain `profile_list`.

        Args:
            profile_list: The evaluated list, or `None` where none is configured.
            shared: Whether the list is the hub's own object, the same for all spawners, so that it is read once.
            problem: Why the list is not complete.

        Returns:
            `None` when neither a source nor a list is configured: then the spawner is a plain KubeSpawner.
        """
        registered = self.rights.available(await self.service.ready()) if self.has_sources else None
        if problem is not None:
            return self._join(Snapshot(problems=[problem]), registered)
        if profile_list is None or (not profile_list and registered is not None):
            return registered
        if not shared:
            return self._join(await self._read_list(profile_list), registered)
        if self._listed is None or self._listed[0] is not profile_list:
            self._listed = (profile_list, await self._read_list(profile_list))
        listed = self._listed[1]
        if self._combined is None or self._combined[0] is not listed or self._combined[1] is not registered:
            self._combined = (listed, registered, self._join(listed, registered))
        return self._combined[2]

    async def _read_list(self, profile_list: Any) -> Snapshot:
        """Read a plain list. As in KubeSpawner, the first of two entries with the same slug is used."""
        problems: list[ProfileSpawnerError] = []
        entries: dict[str, Entry] = {}
        for raw in _each(profile_list, problems):
            if raw.slug in entries:
                first, second = entries[raw.slug].offer.display_name, raw.definition.get("display_name")
                problems.append(
                    DuplicateSlugError(
                        f"the slug is used twice: {first!r} counts, and {second!r}, which comes later, has no effect",
                        profile=raw.slug,
                        field="slug",
                        hint="Give it another slug",
                    )
                )
                continue
            try:
                made = await call_author(functools.partial(make_entry, raw, PROFILE_LIST, traits=self._traits), _broken)
            except ProfileSpawnerError as e:
                e.profile = e.profile or raw.slug
                problems.append(e)
            else:
                entries[raw.slug] = made
        return Snapshot(entries.values(), problems=problems)

    def _join(self, listed: Snapshot, registered: Snapshot | None) -> Snapshot:
        """Return all profiles: those of the plain list come after the others, also where a slug is used twice."""
        joined = listed if registered is None else self._joined(listed, registered)
        others = {str(p) for p in registered.problems} if registered is not None else ()
        own = [p for p in joined.problems if str(p) not in others]
        for text in (str(p) for p in own):
            if text not in self._logged:  # a list may be evaluated for every page
                self._logged[text] = True
                self.log.warning("Profiles: %s", text)
        hub_metrics().warned(PROFILE_LIST, own)
        return joined

    def _joined(self, listed: Snapshot, registered: Snapshot) -> Snapshot:
        problems = [*listed.reported, *registered.reported]
        entries = dict(registered.entries)
        for slug, entry in listed.entries.items():
            other = entries.get(slug)
            if other is None or may_override(self.settings.source_overrides, (PROFILE_LIST,), self._names_of(other)):
                entries.pop(slug, None)
                entries[slug] = entry
            elif not may_override(self.settings.source_overrides, self._names_of(other), (PROFILE_LIST,)):
                kind = self.service.kind_of(other.source)
                problems.append(
                    DuplicateSlugError(
                        f"the slug is used twice: in the plain profile_list and at {other.origin}, which counts",
                        profile=slug,
                        origin=other.origin,
                        field="slug",
                        hint="Give one of the two another slug. If both are meant, set source_overrides = "
                        f'{{"{kind}": ["{PROFILE_LIST}"]}}',
                    )
                )
        ordered = sorted(entries.values(), key=lambda entry: entry.order)
        return Snapshot(ordered, generation=registered.generation, resolver=registered.resolver, problems=problems)

    def _names_of(self, entry: Entry) -> tuple[str, ...]:
        """Return the names of an entry's source for `source_overrides`."""
        place = entry.origin.source
        return (self.service.kind_of(entry.source), entry.source, place, place.rpartition("/")[0])


def _configured(config: Config, sections: Sequence[str], name: str, otherwise: Any) -> Any:
    """Return a configured value of a spawner's setting; later sections count more."""
    return next((config[section][name] for section in reversed(sections) if name in config[section]), otherwise)


def _with_values(traits: Traits, config: Config, sections: Sequence[str]) -> SpawnerTraits:
    """Return the spawner's traits with what the hub's configuration sets; later sections count more."""
    known = traits()
    values: dict[str, Any] = {}
    for section in sections:
        for name, value in config.get(section, {}).items():
            if name in known and isinstance(value, LazyConfigValue):
                values[name] = value.get_value(known[name].default())
            elif name in known:
                values[name] = value
    return SpawnerTraits(known, values)


def _each(profile_list: Any, problems: list[ProfileSpawnerError]) -> list[PlainEntry]:
    """Read the entries one by one. A broken entry does not affect the others."""
    origin = Origin("profile_list")
    result: list[PlainEntry] = []
    try:
        with author_code(_broken):
            listed = profile_list if isinstance(profile_list, Mapping | list | tuple) else [profile_list]
            entries = list(each_entry(listed))
    except ProfileSpawnerError as e:
        problems.append(e)
        return result
    for where, definition in entries:
        try:
            with author_code(_broken):
                result.append(read_entry(definition, origin, where))
        except ProfileSpawnerError as e:
            problems.append(e)
    return result


def _broken(error: BaseException) -> ProfileSpawnerError:
    return ProfileDefinitionError(described(error), field="profile_list")
