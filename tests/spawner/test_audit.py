"""Every right of the printed Role is used, and no other one is needed: by the audit log of a real API server."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, CoreV1Api
from traitlets.config import Config

from profile_spawner.commands.arguments import Sources, UserOptions
from profile_spawner.commands.loading import loaded, make_spawner
from profile_spawner.commands.rights import roles_of
from profile_spawner.kube.connection import close, default_api_client
from profile_spawner.kube.nodes import CapacityReader
from profile_spawner.kube.rbac import HubRole
from profile_spawner.kube.sweep import Sweeper
from profile_spawner.kube.watching import EventRecorder, ObjectWatch
from profile_spawner.policy.kinds import BY_KIND, resource_path
from profile_spawner.policy.settings import DEFAULT_KINDS, OPT_IN_KINDS
from profile_spawner.spawner import ProfileSpawner
from tests.control_plane import RealControlPlane, real_only

from .stress import until

FILES = """
from profile_spawner import BaseAppProfile, ConfigMap, Manifest, Volume, VolumeMount, profile_registry


@profile_registry.register
class Lab(BaseAppProfile):
    slug = "lab"
    display_name = description = "Lab"
    image = "lab:1"

    def get_default_volumes(self):
        return [Volume(name="work", claim_name="work", size="1Gi", volume_mount=VolumeMount(mount_path="/work"))]

    def get_config_maps(self):
        return [ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd.d/lab")]
"""
OBJECTS = """
from profile_spawner import BaseAppProfile, Manifest, profile_registry

RBAC = "rbac.authorization.k8s.io"
LABELS = {"app": "helper"}
POD = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "helper", "image": "helper:1"}]}}
ONCE = {"spec": {"containers": [{"name": "helper", "image": "helper:1"}], "restartPolicy": "Never"}}
SELECTOR = {"matchLabels": LABELS}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def helper(kind, version="v1", **fields):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "helper"}, **fields}


@profile_registry.register
class Entourage(BaseAppProfile):
    slug = "lab"
    display_name = description = "Entourage"
    image = "lab:1"

    def get_manifests(self):
        view = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
        objects = (
            helper("ConfigMap", data={"key": "value"}),
            helper("Secret", stringData={"key": "value"}),
            helper("PersistentVolumeClaim", spec=CLAIM),
            helper("ServiceAccount"),
            helper("Service", spec={"ports": [{"port": 80}], "selector": LABELS}),
            helper("Deployment", "apps/v1", spec={"selector": SELECTOR, "template": POD}),
            helper("StatefulSet", "apps/v1", spec={"selector": SELECTOR, "template": POD, "serviceName": "helper"}),
            helper("Job", "batch/v1", spec={"template": ONCE}),
            helper("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": SELECTOR}),
            helper("Role", f"{RBAC}/v1", rules=[view]),
            helper(
                "RoleBinding",
                f"{RBAC}/v1",
                roleRef={"apiGroup": RBAC, "kind": "Role", "name": "helper"},
                subjects=[{"kind": "ServiceAccount", "name": "default"}],
            ),
        )
        return [Manifest(name="helper", content=objects)]
"""
ALLOWED = ["Deployment", "StatefulSet", "Job", "NetworkPolicy", "ServiceAccount", "Role", "RoleBinding"]
LISTED = "c.KubeSpawner.profile_list = [{'display_name': 'Lab', 'slug': 'lab'}]\n"
NO_CLAIMS = "c.KubeSpawner.storage_pvc_ensure = False\nc.KubeSpawner.delete_pvc = False\n"
SELECTOR = "c.ProfileSpawner.profile_config_maps = 'a=b'\n"
# There is no DNS for Services here.
REACHED = """
c.KubeSpawner.get_pod_url = lambda spawner, pod: f"http://{pod['status']['podIP']}:{spawner.port}"
"""
HOME = "c.KubeSpawner.storage_pvc_ensure = True\nc.KubeSpawner.storage_capacity = '1Gi'\n"


@dataclasses.dataclass
class Hub:
    """A configuration, and the module of profiles with it."""

    config: str
    module: str = ""
    unused: frozenset[tuple[str, str]] = frozenset()


# What profiles in ConfigMaps may bring; there are none with objects here. That the printed rights are enough to watch
# ConfigMaps is shown in tests/sources/test_config_maps.py: while this watch is open, it is not in the audit log.
OF_CONFIG_MAPS = frozenset(
    {
        ("watch", "configmaps"),
        *((verb, kind) for verb in ("create", "delete", "get") for kind in ("configmaps", "services")),
    }
)
HUBS = {
    "pods-only": Hub(LISTED + NO_CLAIMS + "c.KubeSpawner.events_enabled = False\n"),
    # KubeSpawner looks for a claim of a deleted user, though it has created none.
    "kubespawners-defaults-and-capacity": Hub(
        LISTED + "c.ProfileSpawner.capacity_interval = 60\n", unused=frozenset({("delete", "persistentvolumeclaims")})
    ),
    "claims-and-config-maps-elsewhere": Hub(
        LISTED + HOME + SELECTOR + "c.ProfileSpawner.profile_config_maps_namespace = 'ELSEWHERE'\n",
        unused=OF_CONFIG_MAPS,
    ),
    "claims-are-kept-and-config-maps": Hub(
        LISTED
        + HOME
        + SELECTOR
        + "c.KubeSpawner.delete_pvc = False\nc.ProfileSpawner.profile_config_maps_namespace = 'NAMESPACE'\n",
        unused=OF_CONFIG_MAPS | {("delete", "persistentvolumeclaims")},
    ),
    "services": Hub(LISTED + NO_CLAIMS + "c.KubeSpawner.services_enabled = True\n" + REACHED),
    "files": Hub("", FILES),
    "all-kinds": Hub(f"c.ProfileSpawner.allowed_kinds = {ALLOWED!r}\n", OBJECTS),
    "namespaces-of-users": Hub(
        LISTED
        + HOME
        + "c.KubeSpawner.enable_user_namespaces = True\n"
        + "c.KubeSpawner.user_namespace_template = 'NAMESPACE-{username}'\n"
        + "c.ProfileSpawner.capacity_interval = 60\n"
    ),
}
LATER = datetime.now(timezone.utc) + timedelta(days=1)
LOG = logging.getLogger("tests.audit")


def printed(path: Path, namespace: str) -> tuple[list[HubRole], Config]:
    """Return the Roles that `profile-spawner rbac` prints for a configuration, and the configuration."""
    with loaded(Sources(config=(path,))) as found:
        return roles_of(found, namespace, namespace), found.config


async def grant(plane: RealControlPlane, user: str, role: HubRole) -> None:
    """Give a hub what a printed Role says."""
    if role.namespace is not None:
        await plane.grant(role.namespace, user, role.rules)
        return
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await plane.ok("POST", f"{rbac}/clusterroles", {"metadata": {"name": user}, "rules": role.rules})
    _, binding = role.manifests(name=user, service_account="hub", service_account_namespace="hub")
    binding["metadata"]["name"] = binding["roleRef"]["name"] = user
    binding["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
    await plane.ok("POST", f"{rbac}/clusterrolebindings", binding)


async def delay_garbage(plane: RealControlPlane, namespace: str) -> None:
    """Let the objects of a pod outlive it, as when the garbage collector is slow."""
    for kind in (BY_KIND[name] for name in sorted(DEFAULT_KINDS | OPT_IN_KINDS)):
        for item in (await plane.ok("GET", resource_path(kind, namespace)))["items"]:
            path = resource_path(kind, namespace, item["metadata"]["name"])
            change = {"metadata": {"ownerReferences": None}}
            await plane.ok("PATCH", path, change, content_type="application/merge-patch+json")


async def be_a_hub(
    plane: RealControlPlane, config: Config, api_client: ApiClient, rights: set[tuple[str, str]]
) -> list[asyncio.Task[None]]:
    """Do everything that a hub does with its rights, and return the watches that go on."""

    def server(config: Config) -> Any:
        spawner = make_spawner(ProfileSpawner, config, UserOptions(), "lab")
        spawner.orm_spawner = None
        return spawner

    # The second hub has forgotten the first start, so everything is there already or is replaced.
    configs = [config, copy.deepcopy(config)]
    for each in configs:
        spawner = server(each)
        await spawner.start()
        await delay_garbage(plane, spawner.namespace)
    await spawner.stop(True)
    await spawner.delete_forever()
    if ("list", "configmaps") in rights and ("delete", "configmaps") in rights:
        sweeper = Sweeper(spawner.cluster, spawner.hub_id, grace_seconds=0)
        for _ in range(2):
            await sweeper.sweep(spawner.namespace, now=LATER)
    if spawner.capacity_interval:
        reader = CapacityReader(api_client, log=LOG, interval=60)
        reader.resources = frozenset({"nvidia.com/gpu"})
        await reader.read()
    watches = []
    if spawner.profile_config_maps:
        place = spawner.profile_config_maps_namespace
        collection = resource_path(BY_KIND["ConfigMap"], place)
        watch = ObjectWatch(api_client, collection, what="ConfigMaps", selector=spawner.profile_config_maps, log=LOG)
        await watch.list()
        recorder = EventRecorder(api_client, place, log=LOG)
        metadata = watch.found[f"{place}/wrong"]["metadata"]
        for _ in range(2):  # the second one is counted
            assert await recorder.tell("ConfigMap", metadata, "ProfilesRejected", "wrong", warning=True)
        watches.append(asyncio.create_task(watch.follow(lambda key: None)))
    return watches


@real_only
@pytest.mark.parametrize("name", sorted(HUBS))
async def test_the_hub_uses_what_is_printed(
    control_plane: RealControlPlane,
    start_kubelet: Any,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Two starts, a stop, a deleted user, a sweep: the rights in the audit log are those of the printed Roles."""
    plane, hub, user = control_plane, HUBS[name], f"hub-of-{namespace}"
    elsewhere = await plane.new_namespace()
    config = hub.config.replace("NAMESPACE", namespace).replace("ELSEWHERE", elsewhere)
    if hub.module:
        (tmp_path / "profiles").mkdir()
        (tmp_path / "profiles" / "lab.py").write_text(hub.module)
        config += f"c.ProfileSpawner.profiles_dirs = [{str(tmp_path / 'profiles')!r}]\n"
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(f"c.KubeSpawner.namespace = {namespace!r}\nc.ProfileSpawner.watch_profiles = False\n{config}")
    roles, read = await asyncio.to_thread(printed, path, namespace)
    for role in roles:
        await grant(plane, user, role)
    granted = {(v, r) for role in roles for rule in role.rules for r in rule["resources"] for v in rule["verbs"]}
    wrong = {"metadata": {"name": "wrong", "labels": {"a": "b"}}, "data": {"a.yaml": "-"}}
    own = f"{namespace}-{UserOptions().name}"
    for place in (namespace, elsewhere):
        await plane.ok("POST", f"/api/v1/namespaces/{place}/configmaps", wrong)
    await start_kubelet(namespaces=[namespace, own])
    api_client = await default_api_client(plane.write_kubeconfig(tmp_path / "kubeconfig", user, namespace=namespace))

    async def used() -> set[tuple[str, str]]:
        calls = sum([await plane.calls(place) for place in (namespace, elsewhere, own, "")], Counter())
        return {(call.verb, call.resource) for call in calls if call.user == user}

    async def as_printed() -> bool:
        return await used() >= granted - hub.unused  # a watch is in the log a moment later

    # KubeSpawner's own client has the kubeconfig of the process.
    for module in ("reflector", "spawner"):
        monkeypatch.setattr(f"kubespawner.{module}.shared_client", lambda kind: CoreV1Api(api_client))
    watches = await be_a_hub(plane, read, api_client, granted)
    try:
        await until(as_printed, 10)
    finally:
        found = await used()
        for key in [key for key in ProfileSpawner.reflectors if namespace in str(key) or own in str(key)]:
            await ProfileSpawner.reflectors.pop(key).stop()
        for task in watches:
            task.cancel()
        await close(api_client)
        assert found | hub.unused == granted | hub.unused
