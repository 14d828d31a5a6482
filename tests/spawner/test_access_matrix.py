"""What the page hides, nothing starts: groups, profiles, choices and ways in, against set intersections."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.access import UserInfo
from profile_spawner.options import Rejection
from profile_spawner.registry import Collector, RawProfile, make_snapshot

pytestmark = [pytest.mark.hub, pytest.mark.hub5]

GROUPS = ("a", "b", "c")
ALLOWED: dict[str, list[str] | None] = {"open": None, "only-a": ["a"], "a-or-b": ["a", "b"], "nobody": []}
CHOICES: dict[str, list[str] | None] = {"plain": None, "for-b": ["b"], "for-c": ["C"]}


def profile_list() -> list[dict[str, Any]]:
    """Return profiles and choices with every kind of rule, as plain dictionaries."""

    def rule(groups: list[str] | None) -> dict[str, Any]:
        return {} if groups is None else {"allowed_groups": groups}

    return [
        {
            "display_name": f"Title of {slug}",
            "slug": slug,
            "kubespawner_override": {"image": f"{slug}:1"},
            "profile_options": {
                "size": {
                    "display_name": "Size",
                    "choices": {name: {"display_name": name, **rule(groups)} for name, groups in CHOICES.items()},
                }
            },
            **rule(allowed),
        }
        for slug, allowed in ALLOWED.items()
    ]


def may(groups: frozenset[str], allowed: list[str] | None) -> bool:
    """Be the oracle."""
    return allowed is None or bool(groups & {g.lower() for g in allowed})


async def test_every_combination_follows_the_sets() -> None:
    """All 8 sets of groups, all profiles, all choices."""
    collector = Collector("test")
    for definition in profile_list():
        collector.add(RawProfile(definition["slug"], definition))
    snapshot = await make_snapshot([collector], generation=1)
    for size in range(len(GROUPS) + 1):
        for groups in map(frozenset, itertools.combinations(GROUPS, size)):
            user = UserInfo("u", groups)
            visible = [e.slug for e in snapshot.visible_to(user)]
            assert visible == [s for s, allowed in ALLOWED.items() if may(groups, allowed)]
            for slug, choice in itertools.product([*ALLOWED, "absent"], [*CHOICES, "absent"]):
                result = snapshot.select({"profile": slug, "size": choice}, user)
                expected = slug in visible and choice in CHOICES and may(groups, CHOICES[choice])
                assert isinstance(result, Rejection) is not expected
                if isinstance(result, Rejection):
                    hidden = (set(ALLOWED) - set(visible) - {slug}) | {
                        c for c, allowed in CHOICES.items() if not may(groups, allowed) and c != choice
                    }
                    assert not any(h in result.message for h in hidden)


async def test_four_ways_in_and_one_answer(start_local_hub: Any, tmp_path: Path) -> None:
    """Form, link, REST and restart agree with the page; a group that is revoked between page and start counts."""
    hub = await start_local_hub(
        f"c.KubeSpawner.profile_list = {profile_list()!r}\n"
        "c.Spawner.consecutive_failure_limit = 1\n"
        "c.ProfileSpawner.linked_start = 'choices'\n",
        groups={"a": {"users": ["ada"]}, "b": {"users": []}, "c": {"users": []}},
    )
    await hub.user("ada")
    browser = await hub.browser("ada")
    page = (await browser.get("/hub/spawn")).text
    for slug in ALLOWED:
        assert (f"Title of {slug}" in page) is (slug in ("open", "only-a", "a-or-b"))
    for choice in ("for-b", "for-c", "nobody"):
        assert choice not in page

    for slug, choice in (("nobody", "plain"), ("absent", "plain"), ("open", "for-b"), ("open", "absent")):
        field = f"profile-option-{slug}--size"
        posted = await browser.post("/hub/spawn", {"profile": slug, field: choice})
        prefix = "" if hub.version.startswith("5.") else "opt-"
        linked = await browser.get(f"/hub/spawn?{prefix}profile={slug}&{prefix}{field}={choice}")
        rest = await hub.api("POST", "/users/ada/server", {"profile": slug, "size": choice})
        assert (posted.status, linked.status, rest.status) == (400, 400, 400)
        assert "for-c" not in posted.text + rest.text

    reply = await hub.api("POST", "/users/ada/server", {"profile": "only-a", "size": "plain"})
    assert reply.status in (201, 202), reply.text
    assert (await hub.until_ready("ada"))["ready"]
    assert (await hub.api("DELETE", "/users/ada/server")).status in (202, 204)
    while (await hub.server("ada") or {}).get("pending"):
        pass
    assert (await hub.api("DELETE", "/groups/a/users", {"users": ["ada"]})).status in (200, 204)
    restarted = await hub.api("POST", "/users/ada/server")
    posted = await browser.post("/hub/spawn", {"profile": "only-a"})
    assert (restarted.status, posted.status) == (400, 400)
    assert hub.alive
    assert "Aborting due to" not in hub.log
    await browser.close()
