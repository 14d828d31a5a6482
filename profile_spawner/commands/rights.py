"""`rbac`: prints and checks the rights that the hub needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from profile_spawner.errors import ProfileSpawnerError

from .building import preview
from .choices import every_choice, somebody
from .cluster import Kubeconfig, Namespace, client
from .loading import LoadedProfiles, Sources, Whose, loaded, run, with_sources
from .output import Format, make_table, print_data, print_documents, progress, report_problems

__all__ = ["rbac"]


@with_sources
def rbac(
    sources: Sources,
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
) -> None:
    """Print the smallest Role with which the hub can start the servers of these profiles, and its RoleBinding.

    With --check, run it with the hub's credentials (in the hub's pod, for example): the exit code is 1 when a right is
    missing, or a profile could not be loaded and so was not looked at.
    """
    raise typer.Exit(run(_rbac(sources, name, service_account, hub_namespace, namespace, check, kubeconfig, output)))


async def _rbac(
    sources: Sources,
    name: str,
    service_account: str,
    hub_namespace: str | None,
    namespace: str | None,
    check: bool,
    kubeconfig: Path | None,
    output: Format,
) -> int:
    from profile_spawner.kube.rbac import missing_rights, role_binding_manifest, role_manifest

    async with loaded(sources) as found:
        rules = await rules_of(found)
        problems = found.snapshot.problems
        configured = found.spawner(Whose()).namespace if _names_namespace(found.config) else None
    if check:
        async with client(kubeconfig, namespace or configured) as (api_client, where):
            missing = await missing_rights(api_client, rules, where)
        table = make_table(["group", "resource", "missing"], _rows(missing)) if missing else "Nothing is missing."
        print_data(missing, Format.table if output is Format.yaml else output, table)
        return 1 if report_problems(problems) or missing else 0
    where = namespace or configured or "default"
    binding = role_binding_manifest(
        name=name,
        namespace=where,
        service_account=service_account,
        service_account_namespace=hub_namespace or where,
    )
    print_documents([role_manifest(rules, name=name, namespace=where), binding], output)
    return 1 if report_problems(problems) else 0


def _names_namespace(config: Any) -> bool:
    return any("namespace" in config[section] for section in ("ProfileSpawner", "KubeSpawner"))


def _rows(rules: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    return [[", ".join(rule["apiGroups"]), ", ".join(rule["resources"]), ", ".join(rule["verbs"])] for rule in rules]


async def rules_of(found: LoadedProfiles) -> list[dict[str, Any]]:
    """Return the rules for the loaded profiles, with what the hub's configuration adds."""
    from profile_spawner.kube.rbac import required_rules

    spawner = found.spawner(Whose())
    kinds: set[str] = set()
    granted: list[Mapping[str, Any]] = []
    for entry in progress(found.snapshot.entries.values(), "Building the pods"):
        if entry.profile is None or entry.offer.unavailable:
            continue
        for options in every_choice(entry):
            try:
                seen = await preview(found, entry.slug, somebody(entry, Whose(), options))
            except ProfileSpawnerError:
                continue  # it cannot be started, even with all rights
            for item in seen.objects:
                kinds.add(item.kind)
                if item.kind == "Role":
                    granted += item.body.get("rules") or ()
    if spawner.internal_ssl:
        kinds.add("Secret")
    if spawner.internal_ssl or spawner.services_enabled:
        kinds.add("Service")
    rules = required_rules(kinds, claims=spawner.storage_pvc_ensure, events=spawner.events_enabled, granted=granted)
    if spawner.profiles.settings.profile_config_maps:
        rules.append({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]})
    return rules
