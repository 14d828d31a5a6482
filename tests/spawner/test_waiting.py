"""Watching pods and events: only who waits for a pod is woken, and no event of a namespace ends a start."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.web import HTTPError

from profile_spawner.spawner import ProfileSpawner
from profile_spawner.spawner.waiting import EventWatch, PodWatch
from tests.fault_proxy import Fault, status_body

from .stress import World

pytestmark = [pytest.mark.hub5]

TIMES = (None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.500000Z", "2026-01-02T00:00:00Z")


def event(number: int, pod: str | None, last: str | None, exact: str | None) -> dict[str, Any]:
    """Return an event as the API server stores it, with as little as it insists on."""
    involved = {"kind": "Pod", **({"name": pod} if pod else {})}
    metadata = {"name": f"e{number}", "namespace": "n", "uid": f"u{number}"}
    return {"metadata": metadata, "involvedObject": involved, "lastTimestamp": last, "eventTime": exact}


steps = st.tuples(
    st.sampled_from(("set", "set", "set", "pop", "list")),
    st.integers(0, 5),
    st.sampled_from((None, "a", "b")),
    st.sampled_from(TIMES),
    st.sampled_from(TIMES),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=30))
async def test_events_of_a_pod_are_those_of_a_look_at_all(taken: list[Any]) -> None:
    """Whatever is added, changed, removed and listed anew; also without a time or a name."""
    reflector = EventWatch()
    plain: dict[str, Any] = {}
    for what, number, pod, last, exact in taken:
        key = f"n/e{number}"
        if what == "set":
            reflector.resources[key] = plain[key] = event(number, pod, last, exact)
        elif what == "pop":
            assert reflector.resources.pop(key, None) == plain.pop(key, None)
        else:
            plain = {key: event(number, pod, last, exact)}
            reflector.resources = dict(plain)
        reflector.take_note(key if what in ("set", "pop") else None)
        for name in ("a", "b", None):
            expected = [e for e in reflector.events if e["involvedObject"].get("name") == name]
            found = reflector.of(f"n/{name}")
            assert {e["metadata"]["uid"] for e in found} == {e["metadata"]["uid"] for e in expected}
            assert {e["type"] + e["message"] for e in found} <= {""}, "KubeSpawner reads both"
            times = [(e["lastTimestamp"] or e["eventTime"] or "").rstrip("Z") for e in found]
            assert times == sorted(times)
    assert len(reflector.events) == len(plain)


async def test_only_who_waits_for_a_pod_is_woken() -> None:
    """A change, a removal and a new list wake; a change of another pod does not, and time ends the waiting."""
    reflector = PodWatch()
    woken: list[str] = []

    async def wait(key: str, timeout: float = 30.0) -> None:
        await reflector.changed(key, timeout)
        woken.append(key)

    waiting = [asyncio.ensure_future(wait(key)) for key in ("n/a", "n/a", "n/b", "n/c")]
    await asyncio.sleep(0)
    metadata = {"namespace": "n", "name": "a", "uid": "1"}
    reflector.show({"metadata": metadata})
    await asyncio.gather(*waiting[:2])
    assert woken == ["n/a", "n/a"]
    reflector.take_note("n/b")
    await waiting[2]
    assert woken[2:] == ["n/b"]
    reflector.take_note(None)
    await waiting[3]
    assert woken[3:] == ["n/c"]
    await wait("n/d", timeout=0.01)
    lost = asyncio.ensure_future(wait("n/e"))
    await asyncio.sleep(0)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    assert not reflector._waiting


async def test_the_last_start_is_over(make_spawner: Any) -> None:
    """Events from before this start's beginning are not told again."""
    spawner = make_spawner(ProfileSpawner)
    reflector = EventWatch()
    spawner.reflectors[spawner._get_reflector_key("events")] = reflector
    try:
        for number, time in enumerate(TIMES[1:]):
            reflector.resources[f"default/e{number}"] = {
                **event(number, spawner.pod_name, time, None),
                "involvedObject": {"name": spawner.pod_name, "namespace": spawner.namespace},
            }
        reflector.take_note(None)
        assert [e["metadata"]["uid"] for e in spawner.events] == ["u0", "u1", "u2"]
        spawner._last_event = "u0"
        assert [e["metadata"]["uid"] for e in spawner.events] == ["u1", "u2"]
        spawner._last_event = "gone"
        assert len(spawner.events) == 3
    finally:
        del spawner.reflectors[spawner._get_reflector_key("events")]


@pytest.mark.parametrize("profile", [None, "nope"], ids=["plain", "refused"])
async def test_progress_does_not_wait_for_a_profile_without_steps(make_spawner: Any, profile: str | None) -> None:
    """Neither without any profiles nor after a refusal."""
    listed = [{"display_name": "A", "slug": "a"}] if profile else []
    spawner = make_spawner(ProfileSpawner, {"profile": profile}, profile_list=listed, events_enabled=False)

    async def told() -> list[Any]:
        return [one async for one in spawner.progress()]

    telling = asyncio.ensure_future(told())
    with contextlib.suppress(HTTPError):
        await spawner.load_user_options()
    assert await asyncio.wait_for(telling, 1) == []


@pytest.mark.hub
async def test_no_event_and_no_failed_list_ends_a_start(world: World) -> None:
    """Odd events, events that cannot be read, and a busy API server at the first list of pods."""
    path = f"/api/v1/namespaces/{world.namespace}/events"
    for name, more in (("timeless", {}), ("nameless", {"lastTimestamp": "2026-01-01T00:00:00Z"})):
        involved = {"kind": "Pod", "namespace": world.namespace, **({"name": "x"} if name == "timeless" else {})}
        body = {"metadata": {"name": name}, "involvedObject": involved, **more}
        await world.plane.ok("POST", path, body)
    hub = await world.hub("c.Spawner.consecutive_failure_limit = 1\n")
    for user in ("ada", "bob"):
        await hub.user(user)
    world.proxy.clear()
    world.proxy.faults = [
        Fault("answer", ("GET",), "/pods$", 1, 429, status_body(429, "TooManyRequests"), {"Retry-After": "5"}),
        Fault("answer", ("GET",), "/events$", -1, 500, status_body(500, "InternalError")),
    ]
    await asyncio.gather(*(world.start(hub, user, "plain") for user in ("ada", "bob")))
    assert world.proxy.faults[0].times == 0
    assert "The events cannot be watched" in hub.log
    world.proxy.clear()
    await world.stop(hub, "ada")
