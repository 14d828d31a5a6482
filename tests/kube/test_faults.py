"""Every fault between the hub and the API server: one pod, no self-kill, no secret in the log, a reason to act on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from kubernetes_asyncio.client import ApiClient, Configuration

from profile_spawner.errors import ClusterError
from profile_spawner.kube.cluster import Cluster
from profile_spawner.policy.settings import Policy
from profile_spawner.profiles.resources import KubeObject
from tests.control_plane import ControlPlane
from tests.fault_proxy import Fault, FaultProxy

from . import fault_table
from .conftest import LOG, identity, owned, persistent_claim, pod, shared_map
from .fault_scenarios import CANARY, SCENARIOS, Scenario


def _pod() -> dict[str, Any]:
    body = pod()
    body["spec"]["containers"][0]["env"] = [{"name": "TOKEN", "value": CANARY}]
    return body


def _object(step: str) -> KubeObject:
    secret = owned(stringData={"token": CANARY})
    return {"shared": shared_map(CANARY), "kept": persistent_claim(), "owned": secret}.get(step, secret)


async def _set_up(scenario: Scenario, cluster: Cluster, plane: ControlPlane, namespace: str) -> None:
    """Bring about what exists before the fault."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    changes: dict[str, Any] = {"older": {"spawn_id": "old"}, "stuck": {"spawn_id": "old"}, "foreign": {"user": "bob"}}
    if scenario.setup in ("shared", "kept"):
        await cluster.prepare(identity(namespace), [_object(scenario.setup)])
    elif scenario.setup:
        body = _pod()
        if scenario.setup in ("stuck", "stopping"):
            body["metadata"]["finalizers"] = ["example.org/held"]
        await cluster.create_pod(identity(namespace, **changes.get(scenario.setup, {})), body)
        if scenario.setup == "stopping":
            await plane.ok("DELETE", f"{pods}/jupyter-unal")


async def _try(scenario: Scenario, cluster: Cluster, namespace: str, uid: str) -> str:
    """Do the step; return what came of it."""
    me = identity(namespace)
    if scenario.step == "pod":
        before = await cluster.create_pod(me, _pod())
        return "the server starts" if before["metadata"]["uid"] else ""
    if scenario.step == "delete":
        await cluster.delete_pod(me, namespace, 0, uid=uid)
        return "the pod is gone"
    if scenario.step == "owned":
        await cluster.attach(me, [_object("owned")], "jupyter-unal", uid)
    else:
        await cluster.prepare(me, [_object(scenario.step)])
    return "it exists"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
async def test_fault(
    scenario: Scenario,
    new_cluster: Callable[..., Cluster],
    control_plane: ControlPlane,
    proxy: FaultProxy,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each fault has the recorded outcome, and no secret reaches the log at DEBUG."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    uid = ""
    if scenario.step in ("owned", "delete"):
        uid = (await new_cluster().create_pod(identity(namespace), _pod()))["metadata"]["uid"]
    else:
        await _set_up(scenario, new_cluster(), control_plane, namespace)
    cluster = new_cluster(
        request_timeout=scenario.timeout, retry_budget=scenario.budget, **scenario.options, log=LOG, policy=Policy()
    )
    foreign = (await control_plane.ok("GET", pods))["items"] if scenario.setup == "foreign" else None
    proxy.clear()
    proxy.faults = scenario.faults()
    said = ""
    row: dict[str, Any] = {"reason": "", "blame": "", "message": ""}
    with caplog.at_level(logging.DEBUG):
        try:
            row["outcome"] = await _try(scenario, cluster, namespace, uid)
        except ClusterError as error:
            row |= {"outcome": "refused" if error.blame != "cluster" else "gives up"}
            row |= {"reason": error.reason, "blame": error.blame, "message": error.user_message}
            said = f"{error} {error!r} {error.user_message} {error.__dict__}"
    assert CANARY not in said + caplog.text
    calls = ", ".join(f"{count} {method}" for method, count in sorted(proxy.counts().items()))
    row["calls"] = calls if scenario.counted else ""
    fault_table.record(scenario.id, row)
    if foreign is not None:
        assert (await control_plane.ok("GET", pods))["items"] == foreign
    left = (await control_plane.ok("GET", pods))["items"]
    assert len(left) <= 1
    if row["outcome"] == "the server starts":
        assert [identity(namespace).owns(item["metadata"]["labels"]) for item in left] == ["same-spawn"]
        assert proxy.counts()["DELETE"] == (scenario.setup == "older")


def test_the_page_shows_what_was_recorded() -> None:
    """docs/faults.md is what the recorded outcomes make it."""
    assert fault_table.PAGE.read_text() == fault_table.render(fault_table.rows())


async def test_no_spawn_is_lost_to_flapping(
    new_cluster: Callable[..., Cluster], control_plane: ControlPlane, proxy: FaultProxy, namespace: str
) -> None:
    """Thirty of a hundred requests fail, half of them after they were carried out: every spawn gets its one pod."""
    dice = random.Random(7)

    class Flapping(list[Fault]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            if dice.random() < 0.3:
                mode: Any = dice.choice(["reset", "reset-after", "answer", "answer"])
                yield Fault(mode, ("POST", "GET", "DELETE"), "", 1, dice.choice([500, 502, 503, 504, 429]))

    proxy.faults = Flapping()
    cluster = new_cluster(retry_budget=60.0)
    servers = [identity(namespace, user=f"u{n}", pod_name=f"jupyter-{n}") for n in range(40)]

    async def spawn(server: Any) -> str:
        await cluster.prepare(server, [shared_map(), owned(name=f"token-{server.user}")])
        created = await cluster.create_pod(server, pod())
        await cluster.attach(server, [owned(name=f"token-{server.user}")], server.pod_name, created["metadata"]["uid"])
        return str(created["metadata"]["uid"])

    uids = await asyncio.gather(*(spawn(server) for server in servers))
    proxy.faults = []
    found = (await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/pods"))["items"]
    assert {item["metadata"]["uid"] for item in found} == set(uids)
    assert proxy.counts()["DELETE"] == 0


async def test_the_api_server_goes_away_and_comes_back(
    new_cluster: Callable[..., Cluster], proxy: FaultProxy, namespace: str
) -> None:
    """A spawn outlasts a short absence; a long one ends with a reason, and the next spawn works without a restart."""
    impatient = new_cluster(retry_budget=0.3)
    port = proxy.port
    await proxy.close_port()
    with pytest.raises(ClusterError) as caught:
        await impatient.create_pod(identity(namespace), pod())
    assert (caught.value.reason, caught.value.blame) == ("unreachable", "cluster")
    waiting = asyncio.ensure_future(new_cluster().create_pod(identity(namespace), pod()))
    await asyncio.sleep(0.05)
    await proxy.listen(port)
    first = await waiting
    again = await impatient.create_pod(identity(namespace), pod())
    assert first["metadata"]["uid"] == again["metadata"]["uid"]


@pytest.mark.parametrize("host", ["http://no-such-host.invalid", "https://127.0.0.1:1"])
async def test_unreachable_servers_are_named_as_such(host: str) -> None:
    """Neither DNS nor connection errors escape as anything but a ClusterError that says so."""
    async with ApiClient(Configuration(host=host)) as client:
        # A resolver may take long on a loaded machine.
        cluster = Cluster(client, policy=Policy(), log=LOG, retry_budget=2.0, first_pause=0.5)
        with pytest.raises(ClusterError, match="cannot be reached") as caught:
            await cluster.create_pod(identity("n"), pod())
    assert caught.value.reason == "unreachable"


async def test_an_untrusted_certificate_is_unreachable(real_control_plane: ControlPlane) -> None:
    """A certificate that does not verify ends as unreachable, without sending the token."""
    async with ApiClient(Configuration(host=real_control_plane.url)) as client:
        cluster = Cluster(client, policy=Policy(), log=LOG, retry_budget=3.0, first_pause=0.5)
        with pytest.raises(ClusterError, match=aiohttp.ClientConnectorCertificateError.__name__):
            await cluster.create_pod(identity("n"), pod())
