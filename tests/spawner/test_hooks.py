"""What the administrator's `pre_spawn_hook` changes counts at the start, as with KubeSpawner."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from tornado import web

from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import profile_registry
from profile_spawner.spawner import ProfileSpawner

pytestmark = [pytest.mark.hub5]


def entry(slug: str, image: str = "") -> dict[str, Any]:
    """Return an entry of a profile_list."""
    return {"display_name": slug, "slug": slug, "kubespawner_override": {"image": image or f"{slug}:1"}}


LISTED = [entry("small"), entry("large")]


HOOKS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda spawner: None,
    "other-choice-in-place": lambda spawner: spawner.user_options.update(profile="large"),
    "other-choice": lambda spawner: setattr(spawner, "user_options", {"profile": "large"}),
    "other-list": lambda spawner: setattr(spawner, "profile_list", [entry("small", "hook:1")]),
    "one-more": lambda spawner: spawner.profile_list.insert(0, entry("small", "hook:2")),
    "deep-in-place": lambda spawner: spawner.profile_list[0]["kubespawner_override"].update(image="hook:3"),
    "function": lambda spawner: setattr(spawner, "profile_list", lambda spawner: [entry("small", "hook:4")]),
}


async def start(spawner: Any, **options: Any) -> str:
    """Do what JupyterHub does before a start, and return the image that would be started."""
    spawner.user_options = options
    spawner.clear_state()
    await spawner._run_apply_user_options(spawner.user_options)
    await maybe_future(spawner.run_pre_spawn_hook())
    await spawner.load_user_options()
    return str(spawner.image)


@pytest.mark.parametrize("name", sorted(HOOKS))
async def test_what_the_hook_changes_is_started(make_spawner: Any, name: str) -> None:
    """The choice and the list, replaced or changed in place; also at the second start, and for nobody else."""
    listed, hook = copy.deepcopy(LISTED), HOOKS[name]
    theirs = make_spawner(KubeSpawner, profile_list=copy.deepcopy(listed), pre_spawn_hook=hook)
    ours = make_spawner(ProfileSpawner, profile_list=listed, pre_spawn_hook=hook)
    expected = await start(theirs, profile="small")
    assert await start(ours, profile="small") == expected
    assert (expected == "small:1") == (name == "nothing")
    assert await start(ours, profile="small") == expected
    assert listed == LISTED


async def test_a_hook_that_applies_the_profile_and_changes_it(make_spawner: Any) -> None:
    """What it changes in traits of the profile counts, as with KubeSpawner; nothing is left for the next server."""
    override = {
        "environment": {"A": "profile", "B": "profile"},
        "extra_labels": {"l": "profile"},
        "tolerations": [{"key": "profile"}],
        "mem_limit": "1G",
        "node_selector": {"pool": "profile"},
    }

    async def hook(spawner: Any) -> None:
        await spawner.load_user_options()
        assert spawner.environment["A"] == "profile"
        spawner.environment["B"] = "hook"
        spawner.environment["C"] = "hook"
        spawner.extra_labels = {**spawner.extra_labels, "h": "hook"}
        spawner.tolerations.append({"key": "hook"})
        spawner.cpu_limit = 2

    listed = [{"display_name": "One", "slug": "one", "kubespawner_override": override}, entry("small")]
    hub = {"environment": {"A": "hub", "H": "hub"}, "tolerations": [{"key": "hub"}]}
    pods = []
    for kind in (KubeSpawner, ProfileSpawner):
        spawner = make_spawner(kind, profile_list=copy.deepcopy(listed), pre_spawn_hook=hook, **copy.deepcopy(hub))
        await start(spawner, profile="one")
        pods.append((await spawner.get_pod_manifest()).to_dict())
        assert spawner.environment["C"] == "hook"
    theirs, ours = ([c["env"] for c in pod["spec"]["containers"]] for pod in pods)
    # The profile is applied once more; KubeSpawner's merges give the same.
    assert ours == theirs
    assert pods[1]["metadata"]["labels"]["h"] == "hook"
    assert [t["key"] for t in pods[1]["spec"]["tolerations"]][-1] == "profile"
    spawner.pre_spawn_hook = None
    await start(spawner, profile="small")
    assert spawner.mem_limit is None


async def test_a_hook_that_empties_the_list_gets_no_server_without_limits(make_spawner: Any) -> None:
    """Whatever the configured list is: it is a refusal."""
    for listed in (copy.deepcopy(LISTED), lambda spawner: copy.deepcopy(LISTED)):
        for empty in ([], None, {}):
            spawner = make_spawner(
                ProfileSpawner,
                profile_list=listed,
                pre_spawn_hook=lambda spawner, empty=empty: spawner.set_trait("profile_list", empty or []),
            )
            with pytest.raises(web.HTTPError, match="No profile is available"):
                await start(spawner, profile="small")
    assert await start(make_spawner(ProfileSpawner, profile_list=[])) == KubeSpawner.image.default_value


async def test_a_hook_sees_the_effective_profile(make_spawner: Any) -> None:
    """And may change its values or refuse; its changes count as the hub's, and end with the server."""
    seen = []

    async def applied(spawner: Any, chosen: Any) -> None:
        seen.append((chosen.entry.slug, spawner.mem_limit, spawner.environment["A"]))
        spawner.environment["B"] = "hook"
        if chosen.entry.slug == "small":
            raise web.HTTPError(403, "not today")
        if chosen.entry.slug == "broken":
            raise SystemExit

    override = {"mem_limit": "1G", "environment": {"A": "profile"}}
    names = ("one", "small", "broken")
    listed = [{"display_name": name, "slug": name, "kubespawner_override": override} for name in names]
    spawner = make_spawner(ProfileSpawner, profile_list=listed, profile_applied_hook=applied)
    await start(spawner, profile="one")
    assert spawner.environment == {"A": "profile", "B": "hook"}
    assert seen[0][0] == "one"
    with pytest.raises(web.HTTPError, match="not today"):
        await start(spawner, profile="small")
    with pytest.raises(web.HTTPError, match="422"):
        await start(spawner, profile="broken")
    spawner.clear_state()
    assert (spawner.mem_limit, spawner.environment) == (None, {})


class Odd(dict):  # type: ignore[type-arg]
    """An entry that cannot be read."""

    def get(self, *args: Any) -> Any:
        """Raise."""
        raise SystemExit


def _exit(spawner: Any) -> Any:
    raise SystemExit


async def _wait(spawner: Any) -> Any:
    await asyncio.Event().wait()


LISTS: dict[str, tuple[Any, str]] = {
    "raises": (lambda spawner: 1 / 0, "ZeroDivisionError"),
    "exits": (_exit, "SystemExit"),
    "slow": (_wait, "took more than"),
    "text": (lambda spawner: "small", "must be a mapping"),
    "mixed keys": (lambda spawner: {1: entry("small"), "a": entry("large")}, "TypeError"),
    "odd entry": (lambda spawner: [Odd(entry("small"))], "SystemExit"),
    "timeout": (lambda spawner: [entry("small") | {"kubespawner_override": {"start_timeout": 0}}], "in this time"),
}


@pytest.mark.parametrize("kind", LISTS)
async def test_a_function_that_lists_nothing_takes_nothing_else_away(make_spawner: Any, kind: str) -> None:
    """Profiles of other sources stay, users read a sentence, administrators the reason with the line."""
    function, words = LISTS[kind]
    profile_registry.clear()
    try:

        @profile_registry.register
        class Stays(BaseAppProfile):
            slug, display_name, image = "stays", "Stays", "stays:1"

        spawner = make_spawner(ProfileSpawner, profile_list=function, profile_list_timeout=0.05)
        assert await start(spawner, profile="stays") == "stays:1"
        with pytest.raises(web.HTTPError):
            await start(spawner, profile="small")
        if spawner.list_problem is not None:
            with pytest.raises(web.HTTPError, match="Some profiles cannot be listed"):
                await start(spawner, profile="small")
            assert "Some profiles cannot be listed" in await spawner.get_options_form()
            assert __file__ in str(spawner.list_problem)
        snapshot = await spawner.catalogue()
        assert any(words in str(problem) for problem in snapshot.problems), snapshot.problems
    finally:
        profile_registry.clear()


async def test_a_list_that_changes_between_the_starts(make_spawner: Any) -> None:
    """A hook that changes this server's own list in place is heard every time."""
    images = iter(["first:1", "second:1"])

    def hook(spawner: Any) -> None:
        spawner.profile_list[0]["kubespawner_override"]["image"] = next(images)

    spawner = make_spawner(ProfileSpawner, profile_list=LISTED, pre_spawn_hook=hook)
    assert await start(spawner, profile="small") == "first:1"
    assert await start(spawner, profile="small") == "second:1"


async def _exits_later(spawner: Any) -> None:
    await asyncio.sleep(0)
    sys.exit(3)


@pytest.mark.parametrize("hook", [lambda spawner: sys.exit(3), _exits_later])
async def test_a_hook_that_ends_the_program_fails_this_start_only(make_spawner: Any, hook: Any) -> None:
    """`SystemExit` would end the hub; it becomes an error that JupyterHub counts as a failed start."""
    spawner = make_spawner(ProfileSpawner, profile_list=LISTED, pre_spawn_hook=hook)
    with pytest.raises(RuntimeError, match="SystemExit"):
        await maybe_future(spawner.run_pre_spawn_hook())
