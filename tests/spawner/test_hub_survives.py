"""Nothing that authors write and an ordinary user chooses ends the hub, or stops it for long."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from tests.hub import HubUnderTest

from .stress import World, until

pytestmark = [pytest.mark.hub, pytest.mark.hub5]

MODULE = """
import asyncio
from typing import Any

from profile_spawner import BaseAppProfile, Manifest, Param, profile_registry


def fails(self, error):
    # The trial builds for an example user, and sees nothing.
    if self.user.name != "user":
        raise error


class Base(BaseAppProfile):
    description = "Fails for real users only"
    image = "plain:1"


class Exits(Base):
    slug = display_name = "exits"

    def get_pod_env_vars(self):
        fails(self, SystemExit(2))
        return {}


class ExitsLater(Base):
    slug = display_name = "exits-later"

    async def get_pod_env_vars(self):
        await asyncio.sleep(0)
        fails(self, SystemExit(2))
        return {}


class Cancels(Base):
    slug = display_name = "cancels"

    async def get_manifests(self):
        fails(self, asyncio.CancelledError())
        return []


class Interrupts(Base):
    slug = display_name = "interrupts"

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        fails(self, KeyboardInterrupt())


class Property(Base):
    slug = display_name = "property"

    def __getattribute__(self, name):
        if name == "home_dir":
            fails(self, GeneratorExit())
        return super().__getattribute__(name)


class Odd(dict):
    def __deepcopy__(self, memo):
        raise SystemExit

    __repr__ = __str__ = __eq__ = __deepcopy__


class Value(Base):
    slug = display_name = "value"

    def get_kubespawner_override(self):
        return {"extra_pod_config": Odd(a=1)} if self.user.name != "user" else {}


class Access(Base):
    slug = display_name = "access"

    @classmethod
    def is_available_to(cls, user):
        if user.name != "example":
            raise SystemExit
        return True


class Dots(Base):
    slug = display_name = "dots"

    def get_manifests(self):
        name = "fine" if self.user.name == "user" else ".."
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}}
        return [Manifest(name="m", content=(body,))]


class Late(Base):
    slug = display_name = "late"
    kubespawner_override = {
        "get_pod_url": lambda spawner, pod: "http://127.0.0.1:9", "http_timeout": 1, "start_timeout": 60,
    }


class Pending(Base):
    slug = display_name = "pending"
    node_selector = {"no": "node"}
    kubespawner_override = {"start_timeout": 6}


for profile in (Exits, ExitsLater, Cancels, Interrupts, Property, Value, Access, Dots, Late, Pending):
    profile_registry.register(profile)
"""

DOCUMENT = """
profiles:
- slug: ports
  display_name: No port
  description: KubeSpawner does not find the server
  image: plain:1
  kubespawner_override: {extra_container_config: {ports: [{name: other, containerPort: 99}]}}
- slug: pattern
  display_name: Pattern
  description: Backtracks
  image: plain:1
  options:
    text: {type: text, pattern: "(a+)+b", kubespawner_override: {environment: {TEXT: "{value}"}}}
- slug: chained
  display_name: Chained
  description: Refers to a long chain
  image: plain:1
  env: {A: "{{ chain/p0 }}"}
- slug: doubled
  display_name: Doubled
  description: Refers to what doubles
  image: plain:1
  env: {A: "{{ double/p0 }}"}
params:
  chain/p130: {default: end}
  double/p20: {default: end}
"""
DOCUMENT += "".join(f'  chain/p{n}: {{default: "{{{{ chain/p{n + 1} }}}}"}}\n' for n in range(130))
for _n in range(20):
    _next = f'"{{{{ double/p{_n + 1} }}}}"'
    DOCUMENT += f"  double/p{_n}: {{default: [{_next}, {_next}]}}\n"
COLLECTIONS = "collections:\n" + "".join(f"  c{n}: {{profiles: [c{n + 1}]}}\n" for n in range(1000)) + "  c1000: {}\n"

CONFIG = """
c.Spawner.consecutive_failure_limit = 3
c.KubeSpawner.start_timeout = 5
c.ProfileSpawner.profile_documents = [{documents!r}]
c.ProfileSpawner.profile_list_timeout = 0.2


async def listed(spawner):
    how = spawner.user_options.get("profile")
    if how == "list-exits":
        raise SystemExit
    if how == "list-waits":
        import asyncio
        await asyncio.Event().wait()
    if how == "list-wrong":
        return [7]
    entry = dict(display_name="Listed", slug="listed", kubespawner_override=dict(uid=lambda spawner: exit()))
    return [entry, dict(display_name="Zero", slug="zero", kubespawner_override=dict(start_timeout=0))]


async def hook(spawner):
    if spawner.user_options.get("profile") == "emptied":
        spawner.profile_list = []
        spawner.user_options = {{}}
        await spawner.load_user_options()
        return
    await spawner.load_user_options()
    spawner.environment["HOOK"] = "hook"


c.KubeSpawner.profile_list = listed
c.KubeSpawner.pre_spawn_hook = hook
"""

REQUESTS: Mapping[str, Any] = {
    **{
        name: {}
        for name in (
            "exits", "exits-later", "cancels", "interrupts", "property", "value", "access", "dots", "ports", "chained",
            "doubled", "list-exits", "list-waits", "list-wrong", "listed", "zero", "emptied",
        )
    },
    "pattern": {"text": "a" * 200},
    "pattern-nested": {"profile": "pattern", "text": [[[[[[1]]]]]]},
    "late": {},
    "pending": {},
}  # fmt: skip
SLOW = ("late", "pending")


async def _watch(hub: HubUnderTest, pauses: list[float]) -> None:
    """Ask the health endpoint all the time, and note how long it takes."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session:
        while True:
            began = loop.time()
            async with session.get(f"{hub.url}/hub/health") as response:
                assert response.status == 200
            pauses.append(loop.time() - began)
            await asyncio.sleep(0.01)


async def test_a_user_tries_everything_fifty_times(local_world: World, record_property: Any) -> None:
    """With a limit of three failures: each is a refusal with a reason, nothing stays, and the hub lives."""
    world = local_world
    documents = world.tmp_path / "documents"
    documents.mkdir()
    (documents / "a.yaml").write_text(DOCUMENT)
    (documents / "b.yaml").write_text(COLLECTIONS)
    (world.profiles / "failing.py").write_text(textwrap.dedent(MODULE))
    hub = await world.hub(CONFIG.format(documents=str(documents)))
    token = await hub.user("ada")

    async def loaded() -> bool:
        return "Profiles: generation" in hub.log

    await until(loaded, 60)
    pauses: list[float] = []
    watching = asyncio.create_task(_watch(hub, pauses))
    told: dict[str, str] = {}
    for number in range(50):
        name = [*REQUESTS][number % len(REQUESTS)]
        if name in SLOW and name in told:
            name = "exits"
        reply = await hub.api("POST", "/users/ada/server", {"profile": name, **REQUESTS[name]}, token)
        assert 400 <= reply.status < 500, f"{name}: {reply.status} {reply.text}\n{hub.log[-3000:]}"
        assert hub.alive
        told[name] = str(reply.json["message"])
        await world.idle(hub, "ada")
    assert set(told) == set(REQUESTS)
    for name in ("exits", "exits-later", "cancels", "interrupts", "property", "value", "dots", "listed"):
        assert "mistake in its definition" in told[name], told[name]
    assert "did not answer within 1 seconds" in told["late"]
    assert "did not start within 6 seconds" in told["pending"]
    assert "Some profiles cannot be listed" in told["list-exits"]
    for plural in ("pods", "configmaps", "secrets", "services"):
        assert await world.objects(plural) == [], plural
    await world.start(hub, "ada", "plain")
    assert not watching.done(), watching.exception()
    watching.cancel()
    record_property("longest_pause", max(pauses))
    assert "consecutive spawns failed" not in hub.log
