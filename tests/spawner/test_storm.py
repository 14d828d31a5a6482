"""Many at once, stops in the middle of starts, and two hubs in one namespace."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from profile_spawner.kube.identity import labels_of
from profile_spawner.names import LABEL_HUB

from .stress import CANARY, COLLECTIONS, World, until

pytestmark = [pytest.mark.hub]

AT_ONCE = 40
STEPS = 50
ROUNDS = 2

VERSIONED = """
from profile_spawner import BaseAppProfile, ConfigMap, profile_registry


@profile_registry.register
class Versioned(BaseAppProfile):
    slug = "versioned"
    display_name = description = "Versioned"
    image = "lab:{number}"
    pod_env_vars = {{"VERSION": "{number}"}}

    def get_config_maps(self):
        return [ConfigMap(name="version", key="version", content="{number}", mount_path="/etc/version")]
"""


async def test_many_at_once(local_world: World) -> None:
    """All servers of a storm start with one shared file, and stop without a trace but for the users' claims."""
    world = local_world
    hub = await world.hub()
    users = [f"user{number}" for number in range(AT_ONCE)]
    for user in users:
        await hub.user(user)
    world.proxy.clear()
    await asyncio.gather(*(world.start(hub, user) for user in users))
    assert world.proxy.counts("configmaps")["POST"] == 1
    assert len(await world.objects("pods")) == AT_ONCE
    await asyncio.gather(*(world.stop(hub, user) for user in users))
    await world.settled()
    assert await world.objects("pods") == []
    assert len(await world.objects("persistentvolumeclaims")) == AT_ONCE


async def _generation(hub: Any) -> float:
    """Return which profiles the hub offers, as its metrics tell."""
    text = (await hub.api("GET", "/../metrics")).text
    name = "profile_spawner_generation "
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(name)), -1.0)


async def test_starts_under_continuous_reload(local_world: World) -> None:
    """While a profile is saved all the time, image, environment and files of every pod are those of one version."""
    world = local_world
    path = world.profiles / "versioned.py"
    path.write_text(VERSIONED.format(number=0))
    hub = await world.hub("c.ProfileSpawner.watch_profiles = True\n")
    users = [f"user{number}" for number in range(AT_ONCE)]
    for user in users:
        await hub.user(user)

    offered = await _generation(hub)

    async def save() -> None:
        nonlocal offered
        for number in range(1, 1_000_000):
            path.write_text(VERSIONED.format(number=number))
            while (now := await _generation(hub)) <= offered:
                await asyncio.sleep(0.05)
            offered = now

    async def newer_than(generation: float) -> bool:
        return offered > generation

    saving = asyncio.ensure_future(save())
    seen: dict[str, set[str]] = {}
    try:
        for _ in range(ROUNDS):
            before = offered
            await asyncio.gather(*(world.start(hub, user, "versioned") for user in users))
            files = {item["metadata"]["name"]: item.get("data", {}) for item in await world.objects("configmaps")}
            pods = await world.objects("pods")
            assert len(pods) == AT_ONCE
            for pod in pods:
                spec = pod["spec"]
                environment = {v["name"]: v.get("value") for v in spec["containers"][0]["env"]}
                names = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
                versions = {environment["VERSION"], *(text for name in names for text in files[name].values())}
                assert versions == {spec["containers"][0]["image"].rpartition(":")[2]}
                digest = pod["metadata"]["annotations"]["profile-spawner/digest"]
                seen.setdefault(digest, set()).update(versions)
            await asyncio.gather(*(world.stop(hub, user) for user in users))
            await until(lambda before=before: newer_than(before))
    finally:
        saving.cancel()
    assert len(seen) >= ROUNDS
    assert all(len(versions) == 1 for versions in seen.values())
    assert hub.alive


async def test_stop_during_start_and_start_during_stop(world: World) -> None:
    """A start that is interrupted leaves nothing; a start that comes during a stop is refused or works."""
    hub = await world.hub("c.JupyterHub.tornado_settings = {'slow_spawn_timeout': 0}\n")
    await hub.user("ada")
    for _ in range(3):
        reply = await hub.api("POST", "/users/ada/server", {"profile": "full"})
        assert reply.status in (201, 202), reply.text
        await hub.api("DELETE", "/users/ada/server")
        again = await hub.api("POST", "/users/ada/server", {"profile": "plain"})
        assert again.status < 500
        if await world.idle(hub, "ada") is not None:
            await world.stop(hub, "ada")
        await world.settled()
        assert await world.objects("pods") == []
    assert hub.alive
    await world.start(hub, "ada")


async def test_two_hubs_in_one_namespace(local_world: World) -> None:
    """Hubs with the same users share the namespace: neither touches the pods and files of the other."""
    world = local_world
    brisk = "c.ProfileSpawner.shared_grace_period = 1\nc.ProfileSpawner.sweep_interval = 1\n"
    one = await world.hub(f"{brisk}c.ProfileSpawner.hub_id = 'one'\n", name="one")
    other_names = "c.KubeSpawner.pod_name_template = 'other-{username}'\n"
    two = await world.hub(f"{brisk}c.ProfileSpawner.hub_id = 'two'\n{other_names}", name="two")
    same_names = await world.hub(f"{brisk}c.ProfileSpawner.hub_id = 'three'\n", name="three")
    for hub in (one, two, same_names):
        await hub.user("ada")
    await world.start(one, "ada", "plain")
    await world.start(two, "ada", "plain")
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.objects("pods")}
    assert len(before) == 2
    reply = await same_names.api("POST", "/users/ada/server", {"profile": "plain"})
    assert reply.status == 403, reply.text
    assert "already has the name" in reply.text
    await world.stop(two, "ada")
    after = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.objects("pods")}
    assert after == {name: uid for name, uid in before.items() if name.startswith("jupyter-")}


async def stir(world: World, hub: Any, users: list[str], dice: random.Random) -> Any:
    """Start, stop and crash at random, and return the hub that lives at the end."""
    for _ in range(STEPS):
        user, step = dice.choice(users), dice.choice(("start", "start", "stop", "stop", "wait", "crash"))
        if step == "start":
            await hub.api("POST", f"/users/{user}/server", {"profile": dice.choice(("full", "plain"))})
        elif step == "stop":
            await hub.api("DELETE", f"/users/{user}/server")
        elif step == "wait":
            await world.idle(hub, user)
        elif dice.random() < 0.5:
            await world.kill(hub)
            hub = await world.hub()
    return hub


async def test_interleaved(local_world: World) -> None:
    """Random starts, stops and crashes: everything is accounted for, and what is not ours does not change."""
    world = local_world
    seed = int(os.environ.get("STORM_SEED", "7"))
    dice = random.Random(seed)
    foreign: dict[str, Any] = {}
    for plural, body in (
        ("configmaps", {"metadata": {"name": "theirs"}, "data": {"a": "b"}}),
        ("pods", {"metadata": {"name": "jupyter-eve"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}),
    ):
        await world.plane.ok("POST", f"/api/v1/namespaces/{world.namespace}/{plural}", body)
    hub = await world.hub()
    users = ["ada", "bob", "eve"]
    for user in users:
        await hub.user(user)
    for plural, name in (("configmaps", "theirs"), ("pods", "jupyter-eve")):
        found = await world.plane.ok("GET", f"/api/v1/namespaces/{world.namespace}/{plural}/{name}")
        foreign[plural] = (name, found["metadata"]["uid"])
    hub = await stir(world, hub, users, dice)
    running = [user for user in users if await world.idle(hub, user) is not None]
    await world.settled()
    pods = [pod for pod in await world.objects("pods") if LABEL_HUB in labels_of(pod)]
    assert len(pods) == len(running), seed
    for plural, (name, uid) in foreign.items():
        found = await world.plane.ok("GET", f"/api/v1/namespaces/{world.namespace}/{plural}/{name}")
        assert found["metadata"]["uid"] == uid
    for user in running:
        await world.stop(hub, user)
    await world.settled()
    for plural in COLLECTIONS:
        for item in await world.objects(plural):
            lifetime = labels_of(item).get("profile-spawner/lifetime")
            assert lifetime in ("shared", "persistent") or LABEL_HUB not in labels_of(item), item
    assert hub.alive
    assert CANARY not in hub.log
