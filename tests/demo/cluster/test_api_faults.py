"""The faults that tests switch on, the record of calls, and an API server that is out of reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from profile_spawner.demo.cluster.faults import Delay, Drop, Hold, Respond, quota_conflict, quota_exceeded
from tests.control_plane import LocalControlPlane
from tests.demo.cluster.api_support import Api, config_map, pod

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest_asyncio.fixture(loop_scope="session")
async def plane() -> AsyncIterator[LocalControlPlane]:
    """An API server of the test's own, as these tests break it."""
    own = LocalControlPlane()
    await own.start()
    yield own
    await own.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def api(plane: LocalControlPlane) -> Api:
    """Its namespace `default`."""
    return Api(plane, "default")


async def test_an_overloaded_server_says_when_to_try_again(api: Api, plane: LocalControlPlane) -> None:
    """429 with Retry-After, as often as asked for, before anything happens."""
    fault = plane.server.faults.add(Respond(429, retry_after=7), verb="create", resource="pods", times=2)
    headers = {"Authorization": f"Bearer {plane.admin_token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(plane.url + api.path("pods"), json=pod()) as response,
    ):
        status = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
    assert (status["reason"], status["details"]["retryAfterSeconds"]) == ("TooManyRequests", 7)
    assert (await api.try_create("pods", pod())).status == 429
    assert await api.names("pods") == []
    assert (await api.try_create("pods", pod())).status == 201
    assert fault.hits == 2


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_a_broken_server_may_have_done_it(api: Api, plane: LocalControlPlane, code: int) -> None:
    """An error after the effect: the client is refused, the object exists."""
    plane.server.faults.add(Respond(code, after_effect=True), verb="create")
    answer = await api.try_create("configmaps", config_map())
    assert (answer.status, answer.body["code"]) == (code, code)
    assert await api.names("configmaps") == ["c"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_breaks(api: Api, plane: LocalControlPlane, after: bool) -> None:
    """The client gets no answer; whether the object exists depends on when."""
    plane.server.faults.add(Drop(after_effect=after), verb="create", resource="configmaps")
    with pytest.raises(BROKEN):
        await api.try_create("configmaps", config_map())
    assert await api.names("configmaps") == (["c"] if after else [])


@pytest.mark.parametrize("after", [False, True])
async def test_a_client_gives_up_waiting(api: Api, plane: LocalControlPlane, after: bool) -> None:
    """A request that is held with its effect done leaves the object to a client that has timed out."""
    hold = Hold(after_effect=after)
    fault = plane.server.faults.add(hold, verb="create", resource="configmaps")
    waiting = asyncio.create_task(api.try_create("configmaps", config_map()))
    await fault.happened()
    assert await api.names("configmaps") == (["c"] if after else [])
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    hold.release()


async def test_a_held_request_goes_on_when_released(api: Api, plane: LocalControlPlane) -> None:
    """Releasing lets the request be answered as if nothing had been."""
    hold = Hold()
    fault = plane.server.faults.add(hold, verb="create")
    waiting = asyncio.create_task(api.try_create("configmaps", config_map()))
    await fault.happened()
    plane.server.faults.remove(fault)
    assert (await waiting).status == 201


async def test_a_delay_delays(api: Api, plane: LocalControlPlane) -> None:
    """The answer comes after the delay."""
    loop = asyncio.get_running_loop()
    plane.server.faults.add(Delay(0.05), verb="get")
    before = loop.time()
    await api.get("configmaps", "nope")
    assert loop.time() - before >= 0.05


async def test_a_fault_meets_what_it_is_meant_for(api: Api, plane: LocalControlPlane) -> None:
    """Verb, resource, name and user are patterns; some requests may go well first."""
    fault = plane.server.faults.add(
        Respond(500), verb=("create", "delete"), resource="config*", name="bad-*", user="admin", times=None, skip=1
    )
    assert (await api.try_create("configmaps", config_map("bad-1"))).status == 201
    assert (await api.try_create("configmaps", config_map("bad-2"))).status == 500
    assert (await api.try_create("configmaps", config_map("good"))).status == 201
    assert (await api.get("configmaps", "bad-1")).status == 200
    assert (await api.delete("configmaps", "bad-1")).status == 500
    other = api.as_user(plane.server.add_admin("other"))
    assert (await other.delete("configmaps", "bad-1")).status == 200
    assert fault.hits == 2
    plane.server.faults.clear()
    assert (await api.try_create("configmaps", config_map("bad-2"))).status == 201


async def test_chance_can_be_repeated(api: Api, plane: LocalControlPlane) -> None:
    """The same seed gives the same failures."""

    async def run() -> list[int]:
        plane.server.faults.add(Respond(503), verb="get", times=None, probability=0.5, seed=7)
        codes = [(await api.get("namespaces", "default")).status for _ in range(30)]
        plane.server.faults.clear()
        return codes

    first = await run()
    assert first == await run()
    assert {200, 503} == set(first)


async def test_refusals_of_quotas_look_real(api: Api, plane: LocalControlPlane) -> None:
    """A used-up quota is 403 about the pod, two creates that race for one are 409 about the quota."""
    plane.server.faults.add(quota_exceeded(), verb="create", resource="pods")
    exceeded = await api.try_create("pods", pod())
    assert (exceeded.status, exceeded.body["reason"]) == (403, "Forbidden")
    assert "exceeded quota: compute" in exceeded.body["message"]
    plane.server.faults.add(quota_conflict(), verb="create", resource="pods")
    conflict = await api.try_create("pods", pod())
    assert (conflict.status, conflict.body["reason"]) == (409, "Conflict")
    assert conflict.body["details"] == {"name": "compute", "kind": "resourcequotas"}
    assert "the object has been modified" in conflict.body["message"]


async def test_calls_are_counted_by_verb_resource_and_user(api: Api, plane: LocalControlPlane) -> None:
    """What happened between two snapshots is their difference; a watch counts when it begins."""
    calls = plane.server.calls
    before = calls.snapshot()
    await api.create("pods", pod())
    await api.bind("p")
    await api.get("pods", "nope")
    async with api.watch("pods"):
        pass
    assert calls.snapshot() - before == {
        ("create", "pods", "admin"): 1,
        ("create", "pods/binding", "admin"): 1,
        ("get", "pods", "admin"): 1,
        ("watch", "pods", "admin"): 1,
    }
    assert [(call.verb, call.name, call.code) for call in calls][:3] == [
        ("create", "p", 201),
        ("create", "p", 201),
        ("get", "nope", 404),
    ]
    assert calls.count("get", "pods") == 1
    assert calls.snapshot("elsewhere") == {}
    calls.reset()
    assert not calls.snapshot()


async def test_a_server_goes_away_and_comes_back(api: Api, plane: LocalControlPlane) -> None:
    """Out of reach, all connections break and none is accepted; afterwards everything is as it was."""
    await api.create("configmaps", config_map())
    async with api.watch("configmaps") as watch:
        await watch.names(1)
        await plane.server.go_away()
        with contextlib.suppress(aiohttp.ClientError):
            assert await watch.rest() == []
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.list("configmaps")
    await plane.server.come_back()
    assert await api.names("configmaps") == ["c"]


async def test_old_events_are_forgotten() -> None:
    """Events are bounded in number, the oldest go first, and watchers see them go."""
    plane = LocalControlPlane()
    plane.server = type(plane.server)(event_limit=3)
    plane.admin_token = plane.server.add_admin()
    await plane.start()
    api = Api(plane, "default")
    version = await api.version("events")
    for number in range(5):
        await api.create("events", {"metadata": {"name": f"e{number}"}, "involvedObject": {"namespace": "default"}})
    async with api.watch("events", resourceVersion=version) as watch:
        assert await watch.until("DELETED", "e1") == ["ADDED", "DELETED"]
    assert await api.names("events") == ["e2", "e3", "e4"]
    await plane.stop()


async def test_a_watcher_that_falls_behind_the_history_lists_again() -> None:
    """With a short history, a version that is too old is 410 by itself."""
    plane = LocalControlPlane()
    plane.server = type(plane.server)(history=10)
    plane.admin_token = plane.server.add_admin()
    await plane.start()
    api = Api(plane, "default")
    version = await api.version("configmaps")
    for number in range(11):
        await api.create("configmaps", config_map(f"c{number}"))
    async with api.watch("configmaps", resourceVersion=version) as watch:
        kind, status = await watch.event()
    assert (kind, status["code"]) == ("ERROR", 410)
    await plane.stop()
