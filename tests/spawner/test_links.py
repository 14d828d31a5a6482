"""A link fills in the form and asks; it starts only what the administrator allowed, and never with typed text."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = [pytest.mark.hub, pytest.mark.hub5]

STARTED = 409
OPTIONS = {
    "image": {
        "choices": {"a": {"display_name": "Image A"}, "b": {"display_name": "Image B"}},
        "unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "{value}"}},
    },
    "cores": {"type": "number", "min": 1, "max": 4, "default": 1},
    "note": {"type": "text"},
}
LISTED = [
    {"display_name": "Lab", "slug": "lab", "profile_options": OPTIONS},
    {"display_name": "Desk", "slug": "desk"},
]
CONFIG = f"""
from tornado import web

def started(spawner, pod):
    raise web.HTTPError({STARTED}, "started")

c.KubeSpawner.modify_pod_hook = started
c.KubeSpawner.profile_list = {LISTED!r}
c.JupyterHub.log_level = 'INFO'
"""
TYPED = "my/image:1"
CASES: dict[str, tuple[dict[str, str], dict[str, int]]] = {
    "profile": ({"profile": "desk"}, {"confirm": 200, "profiles": STARTED, "choices": STARTED}),
    "choice": ({"profile": "lab", "image": "b"}, {"confirm": 200, "profiles": 200, "choices": STARTED}),
    "number": ({"profile": "lab", "cores": "3"}, {"confirm": 200, "profiles": 200, "choices": STARTED}),
    "text": ({"profile": "lab", "note": "hello"}, {"confirm": 200, "profiles": 200, "choices": 200}),
    "typed-image": (
        {"profile": "lab", "image": "unlisted-choice", "image--unlisted-choice": TYPED},
        {"confirm": 200, "profiles": 200, "choices": 200},
    ),
    "wrong": ({"profile": "lab", "cores": "9"}, {"confirm": 400, "profiles": 400, "choices": 400}),
    "unknown": ({"profile": "absent"}, {"confirm": 400, "profiles": 400, "choices": 400}),
}


@pytest.mark.parametrize("mode", ["confirm", "profiles", "choices"])
async def test_what_a_link_may_do(start_local_hub: Any, mode: str) -> None:
    """`linked_start` decides what starts; everything else is filled in and shown, and what is wrong is answered."""
    hub = await start_local_hub(CONFIG + f"c.ProfileSpawner.linked_start = {mode!r}\n")
    await hub.user("ada")
    browser = await hub.browser("ada")
    prefix = "" if hub.version.startswith("5.") else "opt-"
    for name, (request, expected) in CASES.items():
        slug = request["profile"]
        query = {n if n == "profile" else f"profile-option-{slug}--{n}": v for n, v in request.items()}
        path = "/hub/spawn?" + "&".join(f"{prefix}{quote(n)}={quote(v)}" for n, v in query.items())
        reply = await browser.get(path)
        assert reply.status == expected[mode], (name, reply.text)
        if reply.status == 200:
            assert "Start" in reply.text
            assert all(value in reply.text for value in request.values())
    assert hub.alive
    pods = (await hub.plane.ok("GET", f"/api/v1/namespaces/{hub.namespace}/pods"))["items"]
    assert pods == []
    await browser.close()


async def test_two_windows_do_not_mix(start_local_hub: Any) -> None:
    """Mistakes for two servers of one user at the same time: each page shows what was filled in on it."""
    hub = await start_local_hub(CONFIG)
    await hub.user("ada")
    browser = await hub.browser("ada")

    async def mistake(server: str, cores: int) -> None:
        form = {"profile": "lab", "profile-option-lab--cores": str(cores)}
        reply = await browser.post(f"/hub/spawn/ada/{server}", form)
        assert reply.status == 400
        assert f'value="{cores}"' in reply.text
        assert f'/hub/spawn/ada/{server}"' in reply.text

    async def look() -> None:
        reply = await browser.get("/hub/spawn")
        assert reply.status == 200
        assert "must be a number" not in reply.text

    for turn in range(5):
        await asyncio.gather(*(mistake(f"s{n}", 100 + 10 * turn + n) for n in range(5)), look(), look())
    await browser.close()
