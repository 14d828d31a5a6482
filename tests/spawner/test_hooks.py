"""What the administrator's `pre_spawn_hook` changes counts at the start, as with KubeSpawner."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner

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


async def test_a_list_that_changes_between_the_starts(make_spawner: Any) -> None:
    """A hook that changes this server's own list in place is heard every time."""
    images = iter(["first:1", "second:1"])

    def hook(spawner: Any) -> None:
        spawner.profile_list[0]["kubespawner_override"]["image"] = next(images)

    spawner = make_spawner(ProfileSpawner, profile_list=LISTED, pre_spawn_hook=hook)
    assert await start(spawner, profile="small") == "first:1"
    assert await start(spawner, profile="small") == "second:1"
