"""`rbac`: prints and checks the rights that the hub needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from profile_spawner.errors import ProfileSpawnerError

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .building import preview
from .choices import every_choice, user_for
from .cluster import Kubeconfig, Namespace, client
from .loading import SPAWNER_SECTIONS, LoadedProfiles, loaded
from .output import Format, make_table, print_data, print_documents, progress, report_problems

__all__ = ["rbac"]


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
) -> None:
    """Print the smallest Role with which the hub can start the servers of these profiles, and its RoleBinding.

    With --check, run it with the hub's credentials (in the hub's pod, for example): the exit code is 1 when a right is
    missing, or a profile could not be loaded and so was not considered.
    """
    from profile_spawner.kube.rbac import role_binding_manifest, role_manifest

    with loaded(Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points)) as found:
        rules, configured = _rules_of(found)
    where = namespace or configured
    if check:
        missing = asyncio.run(_missing_rights(rules, kubeconfig, where))
        table = make_table(["group", "resource", "missing"], _rows(missing)) if missing else "Nothing is missing."
        print_data(missing, Format.table if output is Format.yaml else output, table)
    else:
        missing = []
        where = where or "default"
        binding = role_binding_manifest(
            name=name,
            namespace=where,
            service_account=service_account,
            service_account_namespace=hub_namespace or where,
        )
        print_documents([role_manifest(rules, name=name, namespace=where), binding], output)
    raise typer.Exit(1 if report_problems(found.snapshot.problems) or missing else 0)


async def _missing_rights(rules: Any, kubeconfig: Path | None, namespace: str | None) -> list[dict[str, Any]]:
    from profile_spawner.kube.rbac import missing_rights

    async with client(kubeconfig, namespace) as (api_client, where):
        return await missing_rights(api_client, rules, where)


def _rows(rules: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    return [[", ".join(rule["apiGroups"]), ", ".join(rule["resources"]), ", ".join(rule["verbs"])] for rule in rules]


def _rules_of(found: LoadedProfiles) -> tuple[list[dict[str, Any]], str | None]:
    """Return the rules for the loaded profiles, with what the hub's configuration adds, and a configured namespace."""
    from profile_spawner.kube.rbac import required_rules

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
                    granted += item.body.get("rules") or ()

    async def made() -> Any:
        return found.spawner(UserOptions())

    spawner = found.run(made())
    if spawner.internal_ssl:
        kinds.add("Secret")
    if spawner.internal_ssl or spawner.services_enabled:
        kinds.add("Service")
    rules = required_rules(
        kinds,
        claims=spawner.storage_pvc_ensure,
        delete_claims=spawner.delete_pvc,
        events=spawner.events_enabled,
        granted=granted,
    )
    if spawner.profiles.settings.profile_config_maps:
        rules.append({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]})
    named = any("namespace" in found.config[section] for section in SPAWNER_SECTIONS)
    return rules, spawner.namespace if named else None
