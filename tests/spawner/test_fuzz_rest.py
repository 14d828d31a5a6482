"""Whatever a user sends to the REST API: the hub lives, answers below 500, and writes nothing to the cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.options import parse_options
from profile_spawner.profiles.selection import Offer, Rejection, select

pytestmark = [pytest.mark.hub]

CASES = 300
"""How many requests are sent."""
AT_ONCE = 20
"""Requests that are under way at the same time, each by another user."""

OPTIONS = {
    "project": {"type": "text", "required": True, "pattern": "[a-z]{3}"},
    "image": {
        "choices": {"a": {"kubespawner_override": {"image": "a:1"}}, "b": {}},
        "unlisted_choice": {
            "enabled": True,
            "validation_regex": "[a-z]+",
            "kubespawner_override": {"image": "{value}"},
        },
    },
    "gpus": {"type": "number", "integer": True, "min": 0, "max": 2},
    "dask": {"type": "switch"},
    "tools": {"type": "multi", "choices": {"x": {}, "y": {}}},
}
OFFER = Offer("lab", "Lab", options=parse_options(OPTIONS, profile="lab"))

PROFILE = f"""
from profile_spawner import BaseAppProfile, profile_registry

@profile_registry.register
class Lab(BaseAppProfile):
    slug = "lab"
    display_name = "Lab"
    description = "For the fuzz test"
    image = "a:1"
    profile_options = {OPTIONS!r}
"""

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(["profile", "image", "image--unlisted-choice", "gpus", "dask", "tools", "project"])
likely = st.sampled_from(["lab", "a", "b", "x", "abc", 1, True, ["x"], "unlisted-choice", "{username}", "$(HOME)"])
bodies = st.dictionaries(known | st.text(max_size=10), likely | values, max_size=6)


def is_refused(body: Any) -> bool:
    """Ask the oracle: only what it refuses is sent, as the rest would start servers."""
    return isinstance(select(body, UserInfo("u"), {"lab": OFFER}, "lab"), Rejection)


def batches_of_requests() -> list[list[Any]]:
    """Return generated bodies, as many in each batch as are sent at once."""
    batches: list[list[Any]] = []

    @settings(
        max_examples=CASES // AT_ONCE,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.lists(bodies.filter(is_refused), min_size=AT_ONCE, max_size=AT_ONCE))
    def generate(batch: list[Any]) -> None:
        batches.append(batch)

    generate()
    return batches


async def test_no_request_takes_the_hub_down(start_local_hub: Any, tmp_path: Path) -> None:
    """With a failure limit of 1, generated requests of many users leave the hub alive and the cluster unwritten."""
    batches = batches_of_requests()
    assert batches
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "lab.py").write_text(PROFILE)
    hub = await start_local_hub(
        f"""
        c.ProfileSpawner.profiles_dirs = [{str(tmp_path / "profiles")!r}]
        c.Spawner.consecutive_failure_limit = 1
        c.JupyterHub.log_level = 'INFO'
        """
    )
    users = [f"user{i}" for i in range(AT_ONCE)]
    tokens = dict(zip(users, await asyncio.gather(*(hub.user(name) for name in users)), strict=True))

    async def send(user: str, body: Any) -> None:
        reply = await hub.api("POST", f"/users/{user}/server", body, token=tokens[user])
        assert 400 <= reply.status < 500, (body, reply)

    for batch in batches:
        await asyncio.gather(*(send(user, body) for user, body in zip(users, batch, strict=True)))
    assert hub.alive, hub.log[-3000:]
    assert "Aborting due to" not in hub.log
    for kind in ("pods", "configmaps", "persistentvolumeclaims", "secrets"):
        listed = await hub.plane.ok("GET", f"/api/v1/namespaces/{hub.namespace}/{kind}")
        assert [i["metadata"]["name"] for i in listed["items"] if i["metadata"]["name"] != "kube-root-ca.crt"] == []
    assert "Traceback" not in hub.log
