"""What is in the volumes of pods."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.demo.cluster.apiclient import Json
from profile_spawner.demo.cluster.environment import MissingError, PodFacts
from profile_spawner.demo.cluster.kubelet import Kubelet
from profile_spawner.demo.cluster.volumes import VolumeStore
from tests.demo.cluster.kubelet_support import Cluster, needs_view

StartKubelet = Callable[..., Awaitable[Kubelet]]

POD: Json = {
    "metadata": {"name": "one", "namespace": "ns", "uid": "u-1", "labels": {"app": "hub"}},
    "spec": {"containers": [{"name": "main"}]},
}
FACTS = PodFacts(POD, "127.1.2.3", "node-1")
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


async def read_object(plural: str, namespace: str, name: str) -> Json | None:
    """Return the one object of each kind that there is."""
    binary = {"c.bin": base64.b64encode(b"\0\xff").decode()}
    found: dict[str, Json] = {
        "configmaps": {"data": {"a.txt": "A", "b.txt": "B"}, "binaryData": binary},
        "secrets": {"data": {"key": base64.b64encode(b"s3cret").decode()}},
        "persistentvolumeclaims": {"metadata": {}},
    }
    return found[plural] if name == "there" else None


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    """A store of its own."""
    return VolumeStore(tmp_path, read_object)


def read(folder: Path) -> dict[str, bytes]:
    """Return the files that a pod sees."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def set_up(store: VolumeStore, **source: Any) -> Path:
    """Set a volume up."""
    return await store.set_up(FACTS, {"name": "v", **source})


async def test_config_map(store: VolumeStore) -> None:
    """All keys of a ConfigMap are files, binary ones too, with the default mode."""
    folder = await set_up(store, configMap={"name": "there", "defaultMode": 0o755})
    assert read(folder) == {"a.txt": b"A", "b.txt": b"B", "c.bin": b"\0\xff"}
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o755


async def test_items(store: VolumeStore) -> None:
    """Items choose keys, give them paths and modes."""
    items = [{"key": "a.txt", "path": "deep/down/x"}, {"key": "b.txt", "path": "y", "mode": 0o400}]
    folder = await set_up(store, configMap={"name": "there", "items": items})
    assert read(folder) == {"deep/down/x": b"A", "y": b"B"}
    assert (folder / "y").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"persistentVolumeClaim": {"claimName": "none"}}, 'persistentvolumeclaim "none" not found'),
        (
            {"configMap": {"name": "there", "items": [{"key": "x", "path": "x"}]}},
            "configmap references non-existent config key: x",
        ),
        ({"projected": {"sources": [{"secret": {"name": "none"}}]}}, 'secret "none" not found'),
        ({"nfs": {"server": "s", "path": "/"}}, "the local cluster has no volumes of the kind nfs"),
    ],
)
async def test_missing(store: VolumeStore, source: Json, text: str) -> None:
    """What is missing is named as the kubelet names it."""
    with pytest.raises(MissingError) as caught:
        await set_up(store, **source)
    assert str(caught.value) == text


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "."])
async def test_paths_stay_in_the_volume(store: VolumeStore, path: str) -> None:
    """No item's path leads out of the volume, whatever the API server has let through."""
    with pytest.raises(MissingError, match="is not a path below the volume"):
        await set_up(store, configMap={"name": "there", "items": [{"key": "a.txt", "path": path}]})


async def test_optional(store: VolumeStore) -> None:
    """An optional source that is missing gives an empty folder."""
    assert read(await set_up(store, configMap={"name": "none", "optional": True})) == {}


async def test_projected(store: VolumeStore) -> None:
    """A projected volume holds the files of all its sources."""
    sources = [
        {"configMap": {"name": "there", "items": [{"key": "a.txt", "path": "cm/a"}]}},
        {"secret": {"name": "there"}},
    ]
    folder = await set_up(store, projected={"sources": sources})
    assert read(folder) == {"cm/a": b"A", "key": b"s3cret"}


async def test_sub_path_through_a_link(store: VolumeStore) -> None:
    """A link that a pod has left in its volume does not lead a sub-path to the machine's files."""
    folder = await set_up(store, persistentVolumeClaim={"claimName": "there"})
    (folder / "link").symlink_to("/etc")
    pod = {"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "there"}}]}}
    container = {"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "link/ssl"}]}
    with pytest.raises(MissingError, match="failed to prepare subPath"):
        store.mounts_of(container, {"v": folder}, pod)


async def test_missing_config_map_appears(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod waits for its ConfigMap with a real kubelet's event, and starts when it appears."""
    kubelet = await start_kubelet(runtime="process")
    needs_view(kubelet)
    await cluster.pod(
        "one",
        "cat /etc/profile-files/hello",
        volumes=[{"name": "files", "configMap": {"name": "late"}}],
        mounts=[{"name": "files", "mountPath": "/etc/profile-files"}],
    )
    text = 'MountVolume.SetUp failed for volume "files" : configmap "late" not found'
    event = await cluster.wait_event("one", "FailedMount", text)
    assert event["type"] == "Warning"
    await cluster.wait_waiting("one", "ContainerCreating")
    await cluster.create("configmaps", "late", data={"hello": "hello\n"})
    await cluster.wait_phase("one", "Succeeded")
    path = kubelet.log_path(cluster.namespace, "one", "main")
    assert path is not None
    assert path.read_text() == "hello\n"


async def test_claim_outlives_its_pod(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """What a pod writes to a claim is there for the next one, until the claim is deleted."""
    kubelet = await start_kubelet(runtime="process")
    needs_view(kubelet)
    await cluster.create("persistentvolumeclaims", "home", spec=CLAIM)
    options: dict[str, Any] = {
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
        "mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    }
    await cluster.pod("one", "echo kept > ~/file", **options)
    await cluster.wait_phase("one", "Succeeded")
    await cluster.delete("pods", "one")
    await cluster.pod("two", "cat ~/file; pwd", **options)
    await cluster.wait_phase("two", "Succeeded")
    path = kubelet.log_path(cluster.namespace, "two", "main")
    assert path is not None
    assert path.read_text() == "kept\n/home/jovyan\n"
    folder = kubelet.state_dir / "volumes" / cluster.namespace / "home"
    assert (folder / "file").exists()
    await cluster.delete("persistentvolumeclaims", "home")
    await cluster.delete("pods", "two")
    await cluster.wait_gone("pods", "two")
    while folder.exists():
        await asyncio.sleep(0.01)


async def test_volumes_of_a_pod_go_with_it(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Nothing of a deleted pod is left in the state folder; two containers share an emptyDir while it lives."""
    kubelet = await start_kubelet(runtime="process")
    needs_view(kubelet)
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    side = {
        "name": "side",
        "image": "s",
        "command": ["sh", "-c", "echo x > /shared/x; mkdir -p /shared/ro; chmod 0 /shared/ro"],
        "volumeMounts": mounts,
    }
    script = "until test -d /shared/ro; do sleep 0.02; done"
    pod = await cluster.pod(
        "one", script, containers=[side], volumes=[{"name": "shared", "emptyDir": {}}], mounts=mounts
    )
    await cluster.wait_phase("one", "Succeeded")
    folder = kubelet.state_dir / "pods" / pod["metadata"]["uid"]
    assert (folder / "volumes" / "shared" / "x").exists()
    await cluster.delete("pods", "one")
    await cluster.wait_gone("pods", "one")
    while folder.exists():
        await asyncio.sleep(0.01)


async def test_jupyter_may_run_as_root(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Where pods run as root, Jupyter servers find the configuration that allows it."""
    kubelet = await start_kubelet(runtime="process")
    if os.geteuid() != 0:
        pytest.skip("pods do not run as root here")
    await cluster.pod("one", "cat $JUPYTER_CONFIG_PATH/jupyter_server_config.json")
    await cluster.wait_phase("one", "Succeeded")
    path = kubelet.log_path(cluster.namespace, "one", "main")
    assert path is not None
    assert json.loads(path.read_text()) == {"ServerApp": {"allow_root": True}}
