"""What the local API server keeps between runs."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from profile_spawner.demo.cluster.failures import LocalClusterError
from profile_spawner.demo.cluster.kinds import PODS, plural
from profile_spawner.demo.cluster.server import ApiServer
from tests.control_plane import LocalControlPlane
from tests.demo.cluster.api_support import PATIENCE, Api, claim, config_map, owner, pod


async def _run(state_file: Path) -> tuple[LocalControlPlane, Api]:
    plane = LocalControlPlane()
    plane.server = ApiServer(state_file=state_file)
    plane.admin_token = plane.server.add_admin()
    await plane.start()
    return plane, Api(plane, "team")


async def test_objects_outlive_a_run_and_pods_do_not(tmp_path: Path) -> None:
    """The same objects with the same UIDs are there again; pods, and what a pod owned, are gone."""
    state_file = tmp_path / "objects.json"
    first, api = await _run(state_file)
    await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "team"}})
    made = await api.create("persistentvolumeclaims", claim())
    await api.create("secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    server = await api.create("pods", pod())
    await api.create("configmaps", config_map("owned", metadata={"ownerReferences": owner(server)}))
    await api.create("events", {"metadata": {"name": "e"}, "involvedObject": {"namespace": "team"}})
    version = await api.version("secrets")
    await first.stop()
    assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [state_file]

    second, api = await _run(state_file)
    assert (await api.get("persistentvolumeclaims", "claim")).body["metadata"]["uid"] == made["metadata"]["uid"]
    assert (await api.get("secrets", "s")).body["data"] == {"a": "Yg=="}
    assert await api.names("pods") == await api.names("events") == []
    await api.gone("configmaps", "owned")
    assert int(await api.version("secrets")) > int(version)
    async with api.watch("secrets", resourceVersion=version) as watch:
        kind, status = await watch.event()
    assert (kind, status["code"]) == ("ERROR", 410)
    await second.stop()


async def test_a_crash_loses_little(tmp_path: Path) -> None:
    """The state is written soon after a change, not only at the end."""
    state_file = tmp_path / "objects.json"
    plane, api = await _run(state_file)
    await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "team"}})

    async def written() -> None:
        while not state_file.exists() or b'"team"' not in state_file.read_bytes():
            await asyncio.sleep(0.05)

    await asyncio.wait_for(written(), PATIENCE)
    await plane.stop()


async def test_a_foreign_state_file_is_refused(tmp_path: Path) -> None:
    """What an earlier run did not write is not taken for a state, nor overwritten."""
    state_file = tmp_path / "objects.json"
    state_file.write_text("{}")
    with pytest.raises(LocalClusterError, match="Move it away"):
        await ApiServer(state_file=state_file).start()
    assert state_file.read_text() == "{}"


async def test_a_watch_from_a_forgotten_version_is_410() -> None:
    """A client that comes back too late has to list again."""
    plane = LocalControlPlane()
    plane.server = ApiServer(history=2)
    plane.admin_token = plane.server.add_admin()
    await plane.start()
    api = Api(plane, "default")
    version = await api.version("configmaps")
    for index in range(3):
        await api.create("configmaps", config_map(f"c{index}"))
    async with api.watch("configmaps", resourceVersion=version) as watch:
        kind, status = await watch.event()
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
    await plane.stop()


async def test_documents_of_the_store_are_never_changed_in_place() -> None:
    """What a reader holds stays as it was, whatever is written afterwards."""
    plane = LocalControlPlane()
    await plane.start()
    api = Api(plane, "default")
    await api.create("pods", pod(labels={"a": "b"}))
    await api.create("configmaps", config_map("c", {"a": "1"}))
    store = plane.server.store
    held = [store.get(PODS, "default", "p"), store.get(plural("configmaps"), "default", "c")]
    before = [repr(stored.document) for stored in held if stored]
    await api.bind("p")
    await api.patch("pods", "p", {"metadata": {"labels": {"a": None}}})
    await api.patch("pods", "p", {"status": {"phase": "Running", "podIP": "127.1.1.1"}}, subresource="status")
    await api.patch("configmaps", "c", {"data": {"a": "2"}})
    await api.delete("pods", "p", gracePeriodSeconds=3)
    assert [repr(stored.document) for stored in held if stored] == before
    assert store.get(plural("secrets"), "default", "nothing") is None
    await plane.stop()
