"""Promises about what a hub keeps of its pages: a first view costs nothing extra, nothing outlives its snapshot."""

from __future__ import annotations

import gc
import logging
import weakref
from types import SimpleNamespace
from typing import Any

from profile_spawner.errors import ProfileSpawnerError, ProfileWarning
from profile_spawner.page.hub_pages import PROBLEMS_SHOWN, HubPages, Viewer, problem_notices
from profile_spawner.page.render import PageRequest
from profile_spawner.params.definition import Param
from profile_spawner.params.layers import Resolver
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.options import parse_options
from profile_spawner.profiles.selection import Offer
from profile_spawner.profiles.snapshot import Snapshot

SETTINGS = SimpleNamespace(page_template_paths=[], category_order=[], capacity_interval=0.0)
OPTIONS: dict[str, Any] = {"size": {"choices": {"s": {}, "l": {}}}}


def snapshot(title: str, count: int = 30, **more: Any) -> Snapshot:
    """Return profiles with an option each."""
    options = parse_options(OPTIONS, profile="p")
    return Snapshot([Entry(offer=Offer(f"p{n}", f"{title} {n}", options=options)) for n in range(count)], **more)


async def test_nothing_outlives_its_snapshot() -> None:
    """Lists, markup and the personal cards of a snapshot go with it."""
    pages = HubPages(SETTINGS, logging.getLogger(__name__))
    resolver = Resolver({"a": Param("a", schema={"type": "string"})}, {})
    old = snapshot("Old", resolver=resolver)
    for name in ("ada", "bob"):
        viewer = Viewer(UserInfo(name), layers={"user": {"a": name}})
        cards = await pages.card_list(old, viewer)
        pages.renderer.render(PageRequest(cards=await cards.first(None), cache=cards.pages))
    gone = weakref.ref(old)
    del old, cards
    gc.collect()
    assert gone() is None


def test_many_problems_leave_room_for_the_profiles() -> None:
    """An administrator is told of the first problems and of their number."""
    problems = [ProfileSpawnerError(f"problem {n}") for n in range(100)]
    notices = problem_notices(snapshot("x", problems=problems))
    assert len(notices) == PROBLEMS_SHOWN + 1
    assert "90" in notices[-1]
    assert len(problem_notices(snapshot("x", problems=problems[:2]))) == 2
    warned = problem_notices(snapshot("x", problems=[ProfileWarning("odd"), problems[0]]))
    assert list(map(str, warned)) == ["problem 0", "Warning: odd"], "errors come first, and a warning is called so"
