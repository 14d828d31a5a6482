"""The API server is away, and users have namespaces of their own: nothing is lost, the hub lives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from profile_spawner.kube.identity import labels_of
from profile_spawner.kube.rbac import required_rules
from profile_spawner.names import LABEL_LIFETIME
from profile_spawner.policy.settings import DEFAULT_KINDS
from tests.commands.conftest import CommandLine
from tests.control_plane import ControlPlane

from .stress import World, open_world, until

pytestmark = [pytest.mark.hub]

IMPATIENT = """
c.KubeSpawner.k8s_api_request_timeout = 4
c.KubeSpawner.k8s_api_request_retry_timeout = 5
c.Spawner.poll_interval = 1
c.Spawner.consecutive_failure_limit = 0
"""


ENTERING = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
APPLICATION_HUB = """\
profiles:
  - id: profile_coder
    groups: [staff]
    definition:
      display_name: Code
      slug: coder
      default: false
      kubespawner_override: {cpu_limit: 2, mem_limit: 4G, image: "a:1"}
    node_selector: {}
    pod_env_vars: {OWNER: "{{ spawner.user.name }}"}
    volumes:
      - name: calrissian-volume
        claim_name: calrissian-claim
        size: 5Gi
        storage_class: standard
        access_modes: [ReadWriteMany]
        volume_mount: {name: calrissian-volume, mount_path: /calrissian}
        persist: false
    role_bindings:
      - name: exec-binding
        subjects: [{name: default, kind: ServiceAccount}]
        role: {name: exec, resources: [pods/exec], verbs: [create]}
"""


async def grant_everywhere(plane: ControlPlane, user: str) -> None:
    """Give a hub the rights that it needs in the namespaces that it makes."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    kinds = DEFAULT_KINDS | {"Role", "RoleBinding"}
    rules = [
        *required_rules(kinds, granted=[ENTERING]),
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]},
    ]
    await plane.ok("POST", f"{rbac}/clusterroles", {"metadata": {"name": user}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    await plane.ok("POST", f"{rbac}/clusterrolebindings", binding)


class UserNamespaces(World):
    """A world in which `ada` and `bob` have namespaces of their own."""

    def config(self) -> str:
        """Return what the hub needs for it."""
        return (
            "c.KubeSpawner.enable_user_namespaces = True\n"
            f"c.KubeSpawner.user_namespace_template = '{self.namespace}-{{username}}'\n"
        )

    async def of(self, user: str, plural: str) -> list[Any]:
        """Return what is in a user's namespace."""
        listed = await self.plane.ok("GET", f"/api/v1/namespaces/{self.namespace}-{user}/{plural}")
        return [item for item in listed["items"] if item["metadata"]["name"] != "kube-root-ca.crt"]


@pytest_asyncio.fixture(loop_scope="session")
async def own_namespaces(local_control_plane: Any, tmp_path: Any) -> AsyncIterator[UserNamespaces]:
    """A world with a node for the namespaces of `ada` and `bob`."""
    namespace = await local_control_plane.new_namespace("own")
    opened = await open_world(local_control_plane, namespace, tmp_path)
    folder = tmp_path / "own"
    folder.mkdir()
    world = UserNamespaces(local_control_plane, namespace, opened.proxy, folder)
    world.user = f"hub-{namespace}"
    await grant_everywhere(local_control_plane, world.user)
    kubelet = Kubelet(
        local_control_plane.url,
        local_control_plane.token_for("kubelet", ["system:masters"]),
        tmp_path / "kubelet",
        node=NodeSpec(name=f"node-{namespace}", cpu="1000", memory="4000Gi", gpus=4),
        runtime="stub",
        namespaces=[f"{namespace}-{user}" for user in ("ada", "bob")],
    )
    await kubelet.start()
    yield world
    await world.close()
    await kubelet.stop()
    await opened.proxy.stop()


async def check_absence(world: World, hub: Any) -> None:
    """Let the API server be away until the watches have noticed it, and come back."""
    for user in ("ada", "bob"):
        await hub.user(user)
    await world.start(hub, "bob")
    await world.away()

    async def noticed() -> bool:
        return "The pods cannot be watched" in hub.log

    await until(noticed)
    reply = await hub.api("POST", "/users/ada/server", {"profile": "full"})
    told = reply.text if reply.status >= 400 else json.dumps(await world.progress(hub, "ada"))
    assert "cannot be reached" in told
    assert reply.status in (201, 202, 503)
    assert hub.alive
    assert (await hub.server("bob") or {})["ready"]
    await world.back()
    await world.idle(hub, "ada")
    await world.start(hub, "ada")
    assert (await hub.server("bob") or {})["ready"]
    for user in ("ada", "bob"):
        await world.stop(hub, user)
    assert hub.alive


async def test_without_an_api_server(local_world: World) -> None:
    """Running servers are not disturbed, a spawn fails with 503 and a reason, the next one after the return works."""
    await check_absence(local_world, await local_world.hub(IMPATIENT))


async def test_with_namespaces_of_users(own_namespaces: UserNamespaces) -> None:
    """The same where KubeSpawner ends the hub when its one watch of all namespaces gives up."""
    await check_absence(own_namespaces, await own_namespaces.hub(IMPATIENT + own_namespaces.config()))


async def imported(world: World) -> str:
    """Import a file of the ApplicationHub, and return the configuration that the command prints."""
    source, target = world.tmp_path / "config.yml", world.tmp_path / "imported.yaml"
    source.write_text(APPLICATION_HUB)
    done = await CommandLine().aside("import", "configurator", source, "-o", target)
    assert done.exit_code == 0, done.output
    groups = "c.JupyterHub.load_groups = {'staff': {'users': []}}"
    return f"{done.stdout}{groups}\n"


async def test_every_user_has_a_namespace(own_namespaces: UserNamespaces) -> None:
    """Servers and all that belongs to them are in their users' namespaces, and are adopted after `kill -9`."""
    world = own_namespaces
    hub = await world.hub(world.config())
    for user in ("ada", "bob"):
        await hub.user(user)
        await world.start(hub, user)
    pods = {}
    for user in ("ada", "bob"):
        (pods[user],) = await world.of(user, "pods")
        (shared,) = await world.of(user, "configmaps")
        assert labels_of(shared)[LABEL_LIFETIME] == "shared"
        claims = await world.of(user, "persistentvolumeclaims")
        assert sorted(labels_of(claim)[LABEL_LIFETIME] for claim in claims) == ["owned", "persistent"]
    assert await world.objects("pods") == await world.objects("configmaps") == []
    await world.kill(hub)
    hub = await world.hub(await imported(world) + world.config())
    for user in ("ada", "bob"):
        assert await world.idle(hub, user) is not None
        (pod,) = await world.of(user, "pods")
        assert pod["metadata"]["uid"] == pods[user]["metadata"]["uid"]
        await world.stop(hub, user)
        assert await world.of(user, "pods") == []

    async def only_what_is_kept() -> bool:
        return [len(await world.of(user, "persistentvolumeclaims")) for user in ("ada", "bob")] == [1, 1]

    await until(only_what_is_kept)

    # A file of the ApplicationHub, with the lines that its import has printed.
    assert (await hub.api("POST", "/groups/staff/users", {"users": ["ada"]})).status == 200
    await world.start(hub, "ada", "coder")
    (pod,) = await world.of("ada", "pods")
    env = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
    assert (env["OWNER"], env["CALRISSIAN_POD_NAME"]) == ("ada", pod["metadata"]["name"])
    claims = [claim["metadata"]["name"] for claim in await world.of("ada", "persistentvolumeclaims")]
    assert "calrissian-claim" in claims
    listed = await world.plane.ok("GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}-ada/roles")
    assert [role["rules"] for role in listed["items"]] == [[ENTERING]]
    await world.stop(hub, "ada")
    await world.start(hub, "ada")
