"""The hub-wide configuration: `c.ProfileSpawner.*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from traitlets import Bool, Callable, Dict, Enum, Float, Integer, List, Unicode, Union, default
from traitlets.config import LoggingConfigurable

from profile_spawner.sources.reloader import SourceSettings

__all__ = ["HubTraits", "jupyterhub_settings", "source_settings"]


class HubTraits(LoggingConfigurable):
    """Where profiles come from, and what they may do."""

    profiles_dirs = List(
        Unicode(),
        config=True,
        help="""
        Folders with Python modules that register profiles.

        Every module and package directly in a folder is loaded; a broken one is reported with file and line and does
        not take the others along. A Python module is hub code: who can write to these folders controls the hub.
        """,
    )
    builtin_profiles = List(
        Unicode(),
        config=True,
        help="""
        The slugs of built-in profiles to offer; none by default. `["all"]` offers all of them.
        """,
    )
    profile_documents = List(
        Unicode(),
        config=True,
        help="""
        YAML files, or folders of them, with profiles as data. No code in them is ever run.
        """,
    )
    profile_entry_points = Union(
        [Bool(), List(Unicode())],
        default_value=False,
        config=True,
        help="""
        Whether profiles of installed packages (entry point group `profile_spawner.profiles`) are loaded: `True` for
        all, or a list of entry point names.
        """,
    )
    profile_config_maps = Unicode(
        "",
        config=True,
        help="""
        A label selector, such as `profile-spawner=profiles`. ConfigMaps that match it are watched and read as profile
        documents. Needs the right to list and watch ConfigMaps in that namespace.
        """,
    )
    profile_config_maps_namespace = Unicode(
        config=True, help="The namespace of the ConfigMaps of `profile_config_maps`; the hub's own by default."
    )

    @default("profile_config_maps_namespace")
    def _default_config_maps_namespace(self) -> str:
        return _hub_namespace()

    source_overrides = Dict(
        List(Unicode()),
        config=True,
        help="""
        Which source may replace profiles of which others: `{"documents": ["builtin"]}`. Everywhere else a slug that is
        used twice is an error that names both places.
        """,
    )
    watch_profiles = Bool(
        True,
        config=True,
        help="Whether changes of the sources are picked up while the hub runs (within about a second).",
    )
    trial_timeout = Float(
        10.0, config=True, help="How long, in seconds, the trial import of a changed Python module may take."
    )
    trial_memory = Integer(
        1024 * 1024 * 1024,
        config=True,
        help="How much memory, in bytes, the trial import of a changed Python module may use.",
    )
    data_policy = Dict(
        config=True,
        help="""
        What profiles that are data (YAML documents, ConfigMaps) may ask for beyond the default: see docs/sources.md.
        """,
    )
    configurator_compat = Bool(
        False,
        config=True,
        help="""
        Whether modules written for the EOEPCA configurator (`from configurator.apps import ...`) can be loaded from
        `profiles_dirs`. The names exist only while such a module is being loaded.
        """,
    )
    allowed_kinds = List(
        Unicode(),
        config=True,
        help="""
        Kinds of Kubernetes objects that profiles may create besides ConfigMap, Secret, PersistentVolumeClaim and
        Service, such as Deployment. The error for an unknown kind lists the possible kinds.
        """,
    )
    pod_security = Enum(
        ["privileged", "baseline", "restricted"],
        default_value="baseline",
        config=True,
        help="""
        The Pod Security Standard that the final pod of a profile must meet, after every hook. What the hub's own
        configuration sets for all servers is not judged.
        """,
    )
    hub_id = Unicode(
        config=True,
        help="""
        The identity of this hub within its cluster: a label on everything that it creates. Two hubs that share a
        namespace need different ones.
        """,
    )

    @default("hub_id")
    def _default_hub_id(self) -> str:
        return os.environ.get("JUPYTERHUB_HUB_ID") or _hub_namespace()

    shared_grace_period = Float(
        600.0,
        config=True,
        help="""
        How long, in seconds, a ConfigMap that several servers can share stays after its last server has stopped.
        """,
    )
    sweep_interval = Float(
        300.0, config=True, help="How often, in seconds, unused objects are looked for. 0 switches it off."
    )
    page_template_paths = List(
        Unicode(),
        config=True,
        help="""
        Folders with a `profile_spawner/form.html` of your own, which may extend the shipped one:
        `{% extends "shipped/form.html" %}`. See docs/spawn-page.md for the blocks.
        """,
    )
    category_order = List(
        Unicode(),
        config=True,
        help="""
        Categories of profiles in the order in which their sections stand on the spawn page. Others follow as their
        first profile does; profiles without a category stand on top.
        """,
    )
    capacity_interval = Float(
        0.0,
        config=True,
        help="""
        How often, in seconds, it is counted how many GPUs are free, for the spawn page; 0, the default, switches it
        off. It needs a ClusterRole that may list nodes and pods; without it the page claims nothing.
        """,
    )
    linked_start = Enum(
        ["confirm", "profiles", "choices"],
        default_value="confirm",
        config=True,
        help="""
        What a link such as `/hub/spawn?opt-profile=gpu` may do: `confirm` preselects and asks, always; `profiles`
        starts the profile directly when nothing else is chosen by the link; `choices` starts with listed choices too.
        Typed values never start a server from a link.
        """,
    )
    param_values = Dict(
        config=True,
        help="""
        Layers of param values: a dictionary with `enforced`, `hub`, `groups` (by group name, in their order), `users`
        (by user name), `servers` (by `USER/SERVER`) and `assigned` (`users` and `groups`, each with lists of profiles
        and collections by name). See docs/params.md.
        """,
    )
    param_layers_hook = Callable(
        default_value=None,
        allow_none=True,
        config=True,
        help="""
        A function of the spawner that returns further layers for this server: a dictionary with some of `enforced`,
        `server`, `user`, `assigned`, `groups`, `hub`. It runs at every start and every view of the spawn page. It may
        be `async`, and await `spawner.user.get_auth_state()` for example; a plain function must be quick.
        """,
    )
    param_order = Enum(
        ["default", "drp"], default_value="default", config=True, help="The order of the layers of params."
    )
    permissive_params = Bool(
        False, config=True, help="Whether values of params that nobody defined are accepted instead of refused."
    )


def _hub_namespace() -> str:
    """Return the namespace of this process's pod, `default` outside of a cluster."""
    try:
        return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return os.environ.get("POD_NAMESPACE") or "default"


def source_settings(traits: HubTraits) -> SourceSettings:
    """Return the settings of the profile sources for the loader."""
    settings: dict[str, Any] = {
        "profiles_dirs": tuple(Path(p) for p in traits.profiles_dirs),
        "builtin_profiles": tuple(traits.builtin_profiles),
        "profile_documents": tuple(Path(p) for p in traits.profile_documents),
        "entry_points": traits.profile_entry_points
        if isinstance(traits.profile_entry_points, bool)
        else tuple(traits.profile_entry_points),
        "config_map_selector": traits.profile_config_maps or None,
        "config_map_namespace": traits.profile_config_maps_namespace,
        "allow_overrides": {k: tuple(v) for k, v in traits.source_overrides.items()},
        "watch": traits.watch_profiles,
        "trial_timeout": traits.trial_timeout,
        "trial_memory": traits.trial_memory,
        "data_policy": dict(traits.data_policy),
        "configurator_compat": traits.configurator_compat,
        "permissive_params": traits.permissive_params,
    }
    return SourceSettings(**settings)


def jupyterhub_settings() -> frozenset[str]:
    """Return the names of the settings of the installed JupyterHub (`c.JupyterHub.*`)."""
    from jupyterhub.app import JupyterHub

    return frozenset(JupyterHub.class_trait_names(config=True))
