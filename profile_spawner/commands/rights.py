"""`rbac`: prints and checks the rights that the hub needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import ProfileSpawnerError

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .building import preview
from .choices import every_choice, user_for
from .cluster import Kubeconfig, Namespace, client
from .configuration import SPAWNER_SECTIONS
from .loading import LoadedProfiles, loaded
from .output import Format, make_table, print_data, print_documents, progress, report_problems

if TYPE_CHECKING:
    from profile_spawner.kube.rbac import HubRole

__all__ = ["configured_namespace", "rbac", "roles_of"]

_NAMESPACE = "profile_config_maps_namespace"


@app.command()
def rbac(
    name: Annotated[str, typer.Option(help="The name of Role and RoleBinding.")] = "profile-spawner",
    service_account: Annotated[str, typer.Option(help="The hub's service account.")] = "hub",
    hub_namespace: Annotated[
        str | None, typer.Option(help="Its namespace; the one of the servers by default.", metavar="NAME")
    ] = None,
    namespace: Namespace = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Ask the API server whether its caller has these rights, instead of printing."),
    ] = False,
    kubeconfig: Kubeconfig = None,
    output: Annotated[Format, typer.Option("--output", help="yaml or json; with --check a table.")] = Format.yaml,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
) -> None:
    """Print the smallest Role with which the hub can start the servers of these profiles, and its RoleBinding.

    A hub with a namespace for each user, or with `capacity_interval`, gets a ClusterRole; ConfigMaps with profiles in
    another namespace need a second Role there.

    With --check, run it with the hub's credentials (in the hub's pod, for example): the exit code is 1 when a right is
    missing, or a profile could not be loaded and so was not considered.
    """
    missing: list[dict[str, Any]] = []
    manifests: list[dict[str, Any]] = []
    with loaded(
        Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    ) as found:
        configured = configured_namespace(found)
        if check:
            missing = asyncio.run(_missing_rights(found, kubeconfig, namespace or configured, hub_namespace))
        else:
            where = namespace or configured or "default"
            account = hub_namespace or where
            roles = roles_of(found, where, account)
            manifests = [
                manifest
                for role in roles
                for manifest in role.manifests(
                    name=name, service_account=service_account, service_account_namespace=account
                )
            ]
    if check:
        table = make_table(["group", "resource", "missing"], _rows(missing)) if missing else "Nothing is missing."
        print_data(missing, Format.table if output is Format.yaml else output, table)
    else:
        print_documents(manifests, output)
    raise typer.Exit(1 if report_problems(found.snapshot.problems) or missing else 0)


async def _missing_rights(
    found: LoadedProfiles, kubeconfig: Path | None, namespace: str | None, hub_namespace: str | None
) -> list[dict[str, Any]]:
    from profile_spawner.kube.rbac import missing_rights

    missing = []
    async with client(kubeconfig, namespace) as (api_client, where):
        roles = await asyncio.to_thread(roles_of, found, where, hub_namespace or where)
        for role in roles:
            missing += await missing_rights(api_client, role.rules, role.namespace)
    return missing


def _rows(rules: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [
            ", ".join(rule["apiGroups"]),
            "/".join([", ".join(rule["resources"]), *rule.get("resourceNames", ())]),
            ", ".join(rule["verbs"]),
        ]
        for rule in rules
    ]


def configured_namespace(found: LoadedProfiles) -> str | None:
    """Return the namespace of the servers if the hub's configuration names it."""
    return str(_example(found).namespace) if _is_configured(found, "namespace") else None


def roles_of(found: LoadedProfiles, namespace: str, hub_namespace: str) -> list[HubRole]:
    """Return the Roles that the hub needs for the loaded profiles and its configuration.

    Args:
        found: The loaded profiles, with the hub's configuration.
        namespace: The namespace of the servers.
        hub_namespace: The namespace of the hub.
    """
    from profile_spawner.kube.nodes import CAPACITY_RULES
    from profile_spawner.kube.rbac import NAMESPACE_RULES, HubRole, document_rules, required_rules
    from profile_spawner.policy.settings import DEFAULT_KINDS, DataPolicy
    from profile_spawner.sources.config_maps import ConfigMapDocuments, watched_objects

    spawner = _example(found)
    kinds, further = _kinds_of(found)
    if spawner.internal_ssl:
        kinds.add("Secret")
    if spawner.internal_ssl or spawner.services_enabled:
        kinds.add("Service")
    in_cluster: list[Mapping[str, Any]] = []
    elsewhere: list[HubRole] = []
    if watched := watched_objects(spawner):
        # They can change at any time, so everything counts that they are allowed to bring.
        policy = DataPolicy.of(spawner.data_policy, ConfigMapDocuments.kind)
        allowed = DEFAULT_KINDS | frozenset(spawner.allowed_kinds)
        kinds |= allowed if policy.unrestricted else allowed & policy.kinds
        rules_there = document_rules((one.kind, one.name) for one in watched)
        place = spawner.profile_config_maps_namespace if _is_configured(found, _NAMESPACE) else hub_namespace
        if place == namespace:
            further += rules_there
        else:
            elsewhere.append(HubRole(place, rules_there))
    if spawner.capacity_interval:
        in_cluster += CAPACITY_RULES
    everywhere = spawner.enable_user_namespaces
    rules = required_rules(
        kinds,
        claims=spawner.storage_pvc_ensure,
        delete_claims=spawner.delete_pvc,
        events=spawner.events_enabled,
        granted=[*further, *NAMESPACE_RULES, *in_cluster] if everywhere else further,
    )
    if everywhere:
        return [HubRole(None, rules), *elsewhere]
    capacity = [HubRole(None, [dict(rule) for rule in in_cluster])] if in_cluster else []
    return [HubRole(namespace, rules), *elsewhere, *capacity]


def _kinds_of(found: LoadedProfiles) -> tuple[set[str], list[Mapping[str, Any]]]:
    """Return the kinds of all objects that servers bring, and the rules of the Roles among them."""
    kinds: set[str] = set()
    granted: list[Mapping[str, Any]] = []
    for entry in progress(found.snapshot.entries.values(), "Building the pods"):
        if entry.offer.unavailable:
            continue
        for options in every_choice(entry):
            try:
                seen = preview(found, entry.slug, user_for(entry, UserOptions(), options))
            except ProfileSpawnerError:
                continue  # it cannot be started, even with all rights
            for item in seen.objects:
                kinds.add(item.kind)
                if item.kind == "Role":
                    # Names such as the pod's are not known yet.
                    rules = item.body.get("rules") or ()
                    granted += [{k: v for k, v in rule.items() if k != "resourceNames"} for rule in rules]
    return kinds, granted


def _example(found: LoadedProfiles) -> Any:
    """Return a spawner with the hub's configuration."""

    async def made() -> Any:
        return found.spawner(UserOptions())

    return found.run(made())


def _is_configured(found: LoadedProfiles, name: str) -> bool:
    return any(name in found.config[section] for section in SPAWNER_SECTIONS)
