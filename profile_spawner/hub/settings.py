"""The hub-wide configuration: `c.ProfileSpawner.*`."""

from __future__ import annotations

import os

from traitlets import Callable, Dict, Enum, Float, List, Unicode, default

from profile_spawner.sources.config_maps import hub_namespace
from profile_spawner.sources.settings import SourceSettings

__all__ = ["ENV_HUB_ID", "HubTraits", "jupyterhub_settings"]

ENV_HUB_ID = "JUPYTERHUB_HUB_ID"


class HubTraits(SourceSettings):
    """Where profiles come from (see `SourceSettings`), and what they may do."""

    allowed_kinds = List(
        Unicode(),
        config=True,
        help="""
        Kinds of Kubernetes objects that profiles may create besides ConfigMap, Secret, PersistentVolumeClaim and
        Service, such as Deployment. The error for an unknown kind lists the possible kinds.
        """,
    )
    user_namespace_rights = List(
        Unicode(),
        config=True,
        help="""
        Rights that Roles of profiles may give in addition where every user has a namespace of their own
        (`c.KubeSpawner.enable_user_namespaces`): `pods/exec`, `pods/attach`, `pods/portforward`, `pods/proxy`,
        `pods/ephemeralcontainers`, and `*` for all verbs. A document needs `data_policy` besides.
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
        return os.environ.get(ENV_HUB_ID) or hub_namespace()

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
        off. It needs a ClusterRole that may list nodes and pods; without it the page says nothing about free GPUs.
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
    profile_list_timeout = Float(
        10.0,
        config=True,
        help="""
        How long, in seconds, a function in `profile_list` may take. A function that takes longer, or fails, lists
        nothing; other profiles stay. A plain function blocks the hub meanwhile, so it must be quick.
        """,
    )
    profile_applied_hook = Callable(
        default_value=None,
        allow_none=True,
        config=True,
        help="""
        A function of the spawner and of the chosen profile that runs when the profile's values are in the spawner's
        traits, and before the pod is made of them. It may be `async`, and change the traits. See docs/operators.md.
        """,
    )
    param_order = Enum(
        ["default", "drp"], default_value="default", config=True, help="The order of the layers of params."
    )


def jupyterhub_settings() -> frozenset[str]:
    """Return the names of the settings of the installed JupyterHub (`c.JupyterHub.*`)."""
    from jupyterhub.app import JupyterHub

    return frozenset(JupyterHub.class_trait_names(config=True))
