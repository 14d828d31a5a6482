"""A profile in another namespace, or with another claim, leaves the user's other profiles theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from profile_spawner.kube.rbac import required_rules
from profile_spawner.policy.settings import DEFAULT_KINDS
from profile_spawner.spawner import ProfileSpawner

from .stress import HUB_USER, World

LISTED = [
    {"display_name": "Here", "slug": "here"},
    {"display_name": "GPU", "slug": "gpu", "kubespawner_override": {"namespace": "gpu"}},
    {"display_name": "Claim", "slug": "claim", "kubespawner_override": {"pvc_name": "another"}},
]


async def started(spawner: Any, profile: str) -> Any:
    """Do as far as KubeSpawner's own state what a start does, and return where it would make a claim, if it does."""
    spawner.user_options = {"profile": profile}
    await spawner.load_user_options()
    wanted = None if spawner._pvc_exists else (spawner.namespace, spawner.pvc_name)
    spawner.record_start(spawner.identity(), ())
    spawner._pvc_exists = True
    return wanted


@pytest.mark.hub5
@pytest.mark.parametrize("restarted", [False, True], ids=["one-hub", "restarted"])
@pytest.mark.parametrize(("remember", "last"), [(True, None), (False, ("default", "claim-mock"))])
async def test_a_claim_is_known_where_it_is(make_spawner: Any, restarted: bool, remember: bool, last: Any) -> None:
    """Each place and name has its own claim, which is made once, also when the hub restarts meanwhile."""

    def make() -> Any:
        return make_spawner(
            ProfileSpawner,
            profile_list=LISTED,
            namespace="default",
            pvc_name_template="claim-mock",
            remember_pvc_name=remember,
        )

    def after(spawner: Any) -> Any:
        state = json.loads(json.dumps(spawner.get_state()))
        if restarted:
            spawner = make()
            spawner.load_state(state)
        return spawner

    spawner = make()
    assert await started(spawner, "here") == ("default", "claim-mock")
    spawner.clear_state()
    for profile, place in (("gpu", ("gpu", "claim-mock")), ("claim", ("default", "another"))):
        assert await started(spawner, profile) == place
        spawner = after(spawner)
        if remember or not restarted:
            assert (spawner.namespace, spawner.pvc_name) == place
        spawner.clear_state()
        assert (spawner.namespace, spawner.pvc_name) == ("default", "claim-mock")
    assert await started(after(spawner), "here") == (last if restarted else None)


@pytest.mark.hub
@pytest.mark.parametrize("killed", [False, True], ids=["one-hub", "killed"])
async def test_one_profile_in_another_namespace(local_world: World, killed: bool) -> None:
    """The server runs there, with its claim there; the next profile runs at home, with its claim there."""
    world = local_world
    away = await world.plane.new_namespace("away")
    await world.plane.grant(away, HUB_USER, required_rules(DEFAULT_KINDS))
    kubelet = Kubelet(
        world.plane.url,
        world.plane.token_for("kubelet", ["system:masters"]),
        world.tmp_path / "kubelet-away",
        node=NodeSpec(name=f"node-{away}"),
        runtime="stub",
        namespaces=[away],
    )
    await kubelet.start()
    module = world.profiles / "profiles.py"
    override = f"    kubespawner_override = {{'namespace': {away!r}}}\n"
    module.write_text(module.read_text().replace('    slug = "full"\n', '    slug = "full"\n' + override))
    claim = "c.KubeSpawner.storage_pvc_ensure = True\nc.KubeSpawner.storage_capacity = '1Gi'\n"

    async def names(namespace: str, plural: str) -> list[str]:
        listed = await world.plane.ok("GET", f"/api/v1/namespaces/{namespace}/{plural}")
        return sorted(item["metadata"]["name"] for item in listed["items"])

    try:
        hub = await world.hub(claim)
        await hub.user("ada")
        await world.start(hub, "ada", "full")
        assert len(await names(away, "pods")) == 1
        assert "claim-ada" in await names(away, "persistentvolumeclaims")
        assert await names(world.namespace, "persistentvolumeclaims") == []
        if killed:
            await world.kill(hub)
            hub = await world.hub(claim)
            assert await world.idle(hub, "ada") is not None
        await world.stop(hub, "ada")
        assert await names(away, "pods") == []
        await world.start(hub, "ada", "plain")
        assert len(await names(world.namespace, "pods")) == 1
        assert await names(world.namespace, "persistentvolumeclaims") == ["claim-ada"]
    finally:
        await kubelet.stop()
