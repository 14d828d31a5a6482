"""What the page hides, nothing starts: groups, profiles, choices and ways in, against set intersections."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.plain_entries import PlainEntry
from profile_spawner.profiles.registry import Collector
from profile_spawner.profiles.selection import Rejection
from tests.snapshots import snapshot_of

pytestmark = [pytest.mark.hub]

GROUPS = ("a", "b", "c")
ALLOWED: dict[str, list[str] | None] = {"open": None, "only-a": ["a"], "a-or-b": ["a", "b"], "nobody": []}
OPTIONAL: dict[str, list[str] | None] = {"anyones": None, "of-a": ["a"], "of-nobody": []}
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
                },
                **{
                    name: {"display_name": f"Option {name}", "type": "switch", **rule(groups)}
                    for name, groups in OPTIONAL.items()
                },
            },
            **rule(allowed),
        }
        for slug, allowed in ALLOWED.items()
    ]


def may(groups: frozenset[str], allowed: list[str] | None) -> bool:
    """Be the oracle."""
    return allowed is None or bool(groups & {g.lower() for g in allowed})


def is_right(groups: frozenset[str], request: dict[str, str]) -> bool:
    """Tell whether the sets let somebody in."""
    asked = [(ALLOWED, request["profile"])]
    asked += [
        (CHOICES, value) if name == "size" else (OPTIONAL, name) for name, value in request.items() if name != "profile"
    ]
    return all(name in rules and may(groups, rules[name]) for rules, name in asked)


async def test_every_combination_follows_the_sets() -> None:
    """All 8 sets of groups, all profiles, all choices."""
    collector = Collector("test")
    for definition in profile_list():
        collector.add(PlainEntry(definition["slug"], definition))
    snapshot = await snapshot_of(collector)
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


HUB = f"""
c.KubeSpawner.profile_list = {profile_list()!r}
c.Spawner.consecutive_failure_limit = 1
c.ProfileSpawner.linked_start = 'choices'
"""
ACCEPTED = 409
SAY_YES = f"""
from tornado import web

def accepted(spawner, pod):
    # Nothing is started: who comes this far has been let in.
    raise web.HTTPError({ACCEPTED}, "accepted")

c.KubeSpawner.modify_pod_hook = accepted
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 60}}
c.JupyterHub.log_level = 'INFO'
"""


class Ways:
    """The four ways in.

    Args:
        hub: The hub.
        browser: Of the user.
        user: Who asks.
    """

    def __init__(self, hub: Any, browser: Any, user: str) -> None:
        self.hub, self.browser, self.user = hub, browser, user
        self.prefix = "" if hub.version.startswith("5.") else "opt-"

    async def form(self, request: dict[str, str]) -> Any:
        """Post the form."""
        return await self._answer(lambda: self.browser.post("/hub/spawn", self._fields(request)))

    async def link(self, request: dict[str, str]) -> Any:
        """Open a link."""
        query = "&".join(f"{self.prefix}{name}={value}" for name, value in self._fields(request).items())
        return await self._answer(lambda: self.browser.get(f"/hub/spawn?{query}"))

    async def rest(self, request: dict[str, str]) -> Any:
        """Call the REST API."""
        return await self._answer(lambda: self.hub.api("POST", f"/users/{self.user}/server", request))

    async def restart(self, request: dict[str, str]) -> Any:
        """Start with what was stored, which has to be done before."""
        del request
        return await self._answer(lambda: self.hub.api("POST", f"/users/{self.user}/server"))

    @staticmethod
    async def _answer(ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again while the hub is still busy with the end of the start before."""
        while (reply := await ask()).status == 302 or "is pending" in reply.text:
            await asyncio.sleep(0.02)
        return reply

    @staticmethod
    def _fields(request: dict[str, str]) -> dict[str, str]:
        slug = request["profile"]
        return {n if n == "profile" else f"profile-option-{slug}--{n}": v for n, v in request.items()}


async def set_groups(hub: Any, user: str, groups: frozenset[str]) -> None:
    """Put a user into exactly these groups."""
    for group in GROUPS:
        method = "POST" if group in groups else "DELETE"
        assert (await hub.api(method, f"/groups/{group}/users", {"users": [user]})).status in (200, 204)


def without(text: str, *names: str) -> str:
    """Return an answer without what was asked for, and without what differs each time."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "NAME")
    return re.sub(r"[\w-]{32,}|\b[0-9a-f]{8,}\b|_xsrf=[^\"&]*|id: \d+", "", text)


REQUESTS: list[dict[str, str]] = [
    {"profile": slug, "size": choice, **({option: "on"} if option else {})}
    for slug, choice, option in itertools.product([*ALLOWED, "absent"], [*CHOICES, "absent"], ["", *OPTIONAL, "none"])
    if option == "" or (slug == "open" and choice == "plain")
]
SETS = [frozenset(groups) for size in range(len(GROUPS) + 1) for groups in itertools.combinations(GROUPS, size)]


async def test_the_whole_matrix_on_four_ways_in(start_local_hub: Any) -> None:
    """Groups, profiles, options and choices: form, link, REST and restart let in whom the sets let in, and no other.

    For the restart the groups change after the options were stored: those of the moment count.
    """
    hub = await start_local_hub(HUB + SAY_YES, groups={name: {"users": []} for name in GROUPS})
    possible = [request for request in REQUESTS if is_right(frozenset(GROUPS), request)]
    await asyncio.gather(
        *(check_three_ways(hub, f"user{number}", groups) for number, groups in enumerate(SETS)),
        *(check_restarts(hub, f"returning{number}", request) for number, request in enumerate(possible)),
    )
    assert hub.alive


async def check_three_ways(hub: Any, user: str, groups: frozenset[str]) -> None:
    """Ask for everything as a user of these groups; the page shows exactly what is answered with yes."""
    await hub.user(user)
    await set_groups(hub, user, groups)
    browser = await hub.browser(user)
    ways = Ways(hub, browser, user)
    page = (await browser.get("/hub/spawn")).text
    for slug, allowed in ALLOWED.items():
        assert (f"Title of {slug}" in page) is may(groups, allowed)
    for name, allowed in OPTIONAL.items():
        assert (f"Option {name}" in page) is may(groups, allowed)
    for request, way in itertools.product(REQUESTS, (ways.form, ways.link, ways.rest)):
        reply = await way(request)
        expected = ACCEPTED if is_right(groups, request) else 400
        assert reply.status == expected, (way.__name__, groups, request, reply.text)
    await browser.close()


async def check_restarts(hub: Any, user: str, request: dict[str, str]) -> None:
    """Store options when the user may take them, leave all groups but one or none, and start again without options."""
    await hub.user(user)
    await set_groups(hub, user, frozenset(GROUPS))
    ways = Ways(hub, None, user)
    assert (await ways.rest(request)).status == ACCEPTED
    for groups in (groups for groups in SETS if len(groups) < 2):
        await set_groups(hub, user, groups)
        expected = ACCEPTED if is_right(groups, request) else 400
        assert (await ways.restart(request)).status == expected, (groups, request)


LOOK_ALIKE: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "profile": ({"profile": "only-a"}, {"profile": "absent"}),
    "profile with choice": ({"profile": "only-a", "size": "plain"}, {"profile": "absent", "size": "plain"}),
    "choice": ({"profile": "open", "size": "for-b"}, {"profile": "open", "size": "large"}),
    "option": ({"profile": "open", "of-nobody": "on"}, {"profile": "open", "something": "on"}),
}
"""Something forbidden, and the same that does not exist."""


@pytest.mark.hub5
async def test_forbidden_is_answered_like_unknown(start_local_hub: Any) -> None:
    """In text, status and markup, on each way in: but for the name that was asked for, nothing differs."""
    hub = await start_local_hub(HUB + SAY_YES, groups={"c": {"users": ["ada"]}})
    await hub.user("ada")
    browser = await hub.browser("ada")
    ways = Ways(hub, browser, "ada")
    for (what, (forbidden, unknown)), way in itertools.product(LOOK_ALIKE.items(), (ways.form, ways.link, ways.rest)):
        answers = []
        for request, other in ((forbidden, unknown), (unknown, forbidden)):
            reply = await way(request)
            names = [n for n in (*request, *request.values()) if n not in (*other, *other.values())]
            assert names
            answers.append((reply.status, without(reply.text, *names)))
        assert answers[0][0] == 400, what
        assert answers[0] == answers[1], what
    await browser.close()


@pytest.mark.hub5
async def test_a_group_revoked_between_page_and_post(start_local_hub: Any) -> None:
    """A server that runs goes on; its restart and the form of a page that was open are refused, and not counted."""
    hub = await start_local_hub(HUB, groups={"a": {"users": ["ada"]}, "b": {"users": []}, "c": {"users": []}})
    await hub.user("ada")
    browser = await hub.browser("ada")
    assert "Title of only-a" in (await browser.get("/hub/spawn")).text
    reply = await hub.api("POST", "/users/ada/server", {"profile": "only-a", "size": "plain"})
    assert reply.status in (201, 202), reply.text
    assert (await hub.until_ready("ada"))["ready"]
    assert (await hub.api("DELETE", "/groups/a/users", {"users": ["ada"]})).status in (200, 204)
    assert (await hub.server("ada") or {})["ready"]
    assert (await hub.api("DELETE", "/users/ada/server")).status in (202, 204)
    while (await hub.server("ada") or {}).get("pending"):
        await asyncio.sleep(0.05)
    restarted = await hub.api("POST", "/users/ada/server")
    posted = await browser.post("/hub/spawn", {"profile": "only-a"})
    assert (restarted.status, posted.status) == (400, 400)
    assert hub.alive
    assert "Aborting due to" not in hub.log
    await browser.close()


async def test_whoever_may_use_nothing_is_told_why(start_local_hub: Any) -> None:
    """Instead of an empty form there is an explanation that names the user's groups; so does REST."""
    listed = [entry for entry in profile_list() if entry["slug"] != "open"]
    hub = await start_local_hub(
        f"c.KubeSpawner.profile_list = {listed!r}\nc.Spawner.consecutive_failure_limit = 1\n",
        groups={"choir": {"users": ["eve"]}, "a": {"users": []}},
    )
    await hub.user("eve")
    browser = await hub.browser("eve")
    page = await browser.get("/hub/spawn")
    assert page.status == 200
    assert "choir" in page.text
    assert not any(slug in page.text for slug in ALLOWED)
    assert 'name="profile"' not in page.text
    for reply in (await hub.api("POST", "/users/eve/server"), await browser.post("/hub/spawn", {"profile": "only-a"})):
        assert reply.status == 400
        assert "choir" in reply.text
    assert hub.alive
    await browser.close()
