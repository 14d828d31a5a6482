"""What the hub's own configuration gives to every server is not judged; what a profile asks for is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .stress import World

pytestmark = [pytest.mark.hub]

CONFIG = """
c.KubeSpawner.init_containers = [{
    "name": "block-cloud-metadata", "image": "iptables:1", "command": ["iptables", "--comment", "{username}"],
    "securityContext": {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
}]
c.KubeSpawner.volumes = {"cvmfs": {"name": "cvmfs", "hostPath": {"path": "/cvmfs"}}}
c.KubeSpawner.volume_mounts = {"cvmfs": {"name": "cvmfs", "mountPath": "/cvmfs"}}
c.KubeSpawner.extra_containers = [{
    "name": "probe", "image": "probe:1", "security_context": {"capabilities": {"add": ["SYS_PTRACE"]}},
}]
c.KubeSpawner.service_account = "users"
"""
HOSTILE = """

@profile_registry.register
class HostPath(BaseAppProfile):
    slug = "host-path"
    display_name = "Host path"
    description = "Reads the node's files"
    image = "a:1"
    kubespawner_override = {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}


@profile_registry.register
class Account(BaseAppProfile):
    slug = "account"
    display_name = "Account"
    description = "Takes another account"
    image = "a:1"
    service_account = "admin"
"""


async def refused(world: World, hub: Any, profile: str) -> None:
    """A start ends with the profile's mistake, and nothing is written."""
    world.proxy.clear()
    reply = await hub.api("POST", "/users/ada/server", {"profile": profile})
    told = reply.text if reply.status >= 400 else json.dumps(await world.progress(hub, "ada"))
    assert "mistake in its definition" in told, told
    await world.idle(hub, "ada")
    assert world.proxy.counts()["POST"] == 0


async def test_the_hubs_own_parts_are_trusted(local_world: World) -> None:
    """A class profile starts beside a privileged init container, a hostPath volume and an account of the hub's."""
    world = local_world
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts"
    await world.plane.request("POST", path, {"metadata": {"name": "users"}})
    module = world.profiles / "profiles.py"
    module.write_text(module.read_text() + HOSTILE)
    hub = await world.hub(CONFIG + "c.Spawner.consecutive_failure_limit = 1\n")
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    (pod,) = await world.objects("pods")
    assert pod["spec"]["initContainers"][0]["securityContext"]["privileged"]
    assert pod["spec"]["serviceAccountName"] == "users"
    await world.stop(hub, "ada")
    for profile in ("host-path", "account"):
        await refused(world, hub, profile)
    assert hub.alive


RESTRICTED = """
def harden(spawner, pod):
    context = dict(spawner.harmless)
    for container in pod.spec.containers:
        container.security_context = context
    return pod

async def later(spawner, pod):
    return harden(spawner, pod)

from profile_spawner.spawner import ProfileSpawner
ProfileSpawner.harmless = {
    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
c.ProfileSpawner.pod_security = "restricted"
c.KubeSpawner.modify_pod_hook = later
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_capacity = "1Gi"
"""


async def test_the_pod_is_judged_after_the_hubs_hook(local_world: World) -> None:
    """What `modify_pod_hook` adds counts, also at a first start, which makes a claim before the pod."""
    world = local_world
    hub = await world.hub(RESTRICTED)
    await hub.user("ada")
    await world.start(hub, "ada", "plain")
    (pod,) = await world.objects("pods")
    assert pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"]
    assert await world.objects("persistentvolumeclaims")


DOCUMENT = """
profile_list:
  - display_name: Fine
    slug: fine
    kubespawner_override: {image: "a:1"}
  - display_name: Selinux
    slug: selinux
    kubespawner_override: {image: "a:1", container_security_context: {seLinuxOptions: {type: spc_t}}}
  - display_name: Seccomp
    slug: seccomp
    kubespawner_override: {image: "a:1", pod_security_context: {seccompProfile: {type: Unconfined}}}
  - display_name: Privileged
    slug: privileged
    kubespawner_override: {image: "a:1", privileged: true}
  - display_name: Sidecar
    slug: sidecar
    kubespawner_override: {image: "a:1", extra_containers: {probe: {image: "mine:1"}}}
"""
PLAIN = """
c.KubeSpawner.extra_containers = {"probe": {
    "name": "probe", "image": "probe:1", "security_context": {"capabilities": {"add": ["SYS_PTRACE"]}},
}}
c.KubeSpawner.profile_list = [{
    "display_name": "Own", "slug": "own",
    "kubespawner_override": {"image": "a:1", "privileged": True, "allow_privilege_escalation": True},
}]
"""


async def test_plain_entries_of_documents_are_judged(local_world: World) -> None:
    """What a document's `profile_list` asks for obeys Pod Security like a class; the hub's own list stays trusted."""
    world = local_world
    document = world.tmp_path / "doc.yaml"
    document.write_text(DOCUMENT)
    sources = f"c.ProfileSpawner.profile_documents = [{str(document)!r}]\n"
    sources += "c.ProfileSpawner.data_policy = {'documents': {'privileged': True}}\n"
    hub = await world.hub(PLAIN + sources)
    await hub.user("ada")
    for profile in ("selinux", "seccomp", "privileged", "sidecar"):
        await refused(world, hub, profile)
    for profile, privileged in (("fine", None), ("own", True)):
        await world.start(hub, "ada", profile)
        (pod,) = await world.objects("pods")
        server = next(c for c in pod["spec"]["containers"] if c["name"] == "notebook")
        assert server["securityContext"].get("privileged") is privileged
        await world.stop(hub, "ada")
