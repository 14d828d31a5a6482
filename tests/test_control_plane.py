"""The tests' own control planes: that what the other tests rely on is so."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from tests.control_plane import Call, ControlPlane, RealControlPlane, control_plane_missing, find_programs

PROBE = """
import asyncio, pathlib, sys
from tests.control_plane import RealControlPlane

async def main():
    plane = RealControlPlane(pathlib.Path(sys.argv[1]))
    await plane.start()
    print(plane.url, *plane.pids.values(), flush=True)
    sys.stdin.read()
    await plane.stop()

asyncio.run(main())
"""

POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


async def test_a_user_may_do_what_was_granted_and_no_more(control_plane: ControlPlane, namespace: str) -> None:
    """A token says who one is, and a grant what one may do, in that namespace only."""
    hub = control_plane.token_for("hub", ["hubs"])
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert (await control_plane.request("GET", pods, token=hub)).status == 403
    await control_plane.grant(
        namespace, "hub", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "create"]}]
    )
    # On a real API server the authorizer learns of a new Role through a watch.
    while (answer := await control_plane.request("GET", pods, token=hub)).status == 403:
        await asyncio.sleep(0.02)
    assert answer.body["items"] == []
    assert (await control_plane.request("POST", pods, POD, token=hub)).status == 201
    assert (await control_plane.request("DELETE", f"{pods}/p", token=hub)).status == 403
    assert (await control_plane.request("GET", "/api/v1/namespaces/default/pods", token=hub)).status == 403


@pytest.mark.parametrize("token", ["", "wrong", "test.e30.00", "test.eyJ1c2VyIjoiYWRtaW4iLCJncm91cHMiOltdfQ.00"])
async def test_a_token_that_nobody_issued_is_refused(control_plane: ControlPlane, token: str) -> None:
    """No token, a made-up one or a forged one: 401."""
    assert (await control_plane.request("GET", "/api/v1/pods", token=token)).status == 401


async def test_the_calls_of_each_user_are_counted(control_plane: ControlPlane, namespace: str) -> None:
    """Each call counts once, for its user, verb and resource, in its namespace; a watch too."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    watcher = control_plane.token_for("watcher", ["system:masters"])
    await control_plane.ok("POST", pods, POD)
    await control_plane.ok("GET", pods, token=watcher)
    await control_plane.ok("GET", f"{pods}/p", token=watcher)
    await control_plane.request("GET", pods, params={"watch": "true", "timeoutSeconds": "1"}, token=watcher)
    assert await control_plane.calls(namespace) == {
        Call("admin", "create", "pods"): 1,
        Call("watcher", "list", "pods"): 1,
        Call("watcher", "get", "pods"): 1,
        Call("watcher", "watch", "pods"): 1,
    }


async def test_a_kubeconfig_works_with_the_official_client(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The written kubeconfig has address, CA, token and namespace right."""
    from kubernetes_asyncio import client, config

    path = control_plane.write_kubeconfig(tmp_path / "kubeconfig", namespace=namespace)
    configuration = client.Configuration()
    await config.load_kube_config(str(path), client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        await client.CoreV1Api(api).create_namespaced_pod(namespace, POD)
    assert (await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/pods/p"))["kind"] == "Pod"


async def test_kubectl_reads_it(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """`kubectl get pods` shows the pods of the kubeconfig's namespace."""
    if "kubectl" not in find_programs():
        pytest.skip("no kubectl on this machine")
    path = control_plane.write_kubeconfig(tmp_path / "kubeconfig", namespace=namespace)
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", POD)
    kubectl = await asyncio.create_subprocess_exec(
        find_programs()["kubectl"],
        "get",
        "pods",
        env={"KUBECONFIG": str(path), "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, _ = await kubectl.communicate()
    heading, line = printed.decode().splitlines()
    assert (heading.split()[0], line.split()[0]) == ("NAME", "p")


async def test_what_a_deleted_object_owned_goes_away(control_plane: ControlPlane, namespace: str) -> None:
    """Owner references are followed."""
    if not control_plane.collects_garbage:
        pytest.skip("no kube-controller-manager on this machine")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = (await control_plane.ok("POST", path, {"metadata": {"name": "owner"}}))["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    await control_plane.ok("POST", path, {"metadata": {"name": "owned", "ownerReferences": [reference]}})
    await control_plane.ok("DELETE", f"{path}/owner")
    while (await control_plane.request("GET", f"{path}/owned")).status != 404:
        await asyncio.sleep(0.02)


async def test_a_kubelet_runs_the_pods_of_its_namespace_only(
    control_plane: ControlPlane, namespace: str, kubelet: Kubelet
) -> None:
    """The pod becomes ready and answers at its address; its neighbour in another namespace stays pending."""
    neighbour = await control_plane.new_namespace()
    await control_plane.ok("POST", f"/api/v1/namespaces/{neighbour}/pods", POD)
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8888}]}]}
    await control_plane.ok("POST", path, {"metadata": {"name": "p"}, "spec": spec})
    while not is_ready(pod := await control_plane.ok("GET", f"{path}/p")):
        await asyncio.sleep(0.02)
    assert pod["spec"]["nodeName"] == kubelet.node.name
    reader, writer = await asyncio.open_connection(pod["status"]["podIP"], 8888)
    writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
    assert b"200" in await reader.readline()
    writer.close()
    await control_plane.ok("DELETE", f"{path}/p")
    while (await control_plane.request("GET", f"{path}/p")).status != 404:
        await asyncio.sleep(0.02)
    (left,) = (await control_plane.ok("GET", f"/api/v1/namespaces/{neighbour}/pods"))["items"]
    assert left["status"]["phase"] == "Pending"


async def test_kubelets_do_not_mix(
    control_plane: ControlPlane, namespace: str, start_kubelet: Callable[..., Awaitable[Kubelet]]
) -> None:
    """Nodes that other tests registered are nothing to this one's kubelet."""
    other = {"metadata": {"name": f"other-{namespace}"}, "status": {"allocatable": {"cpu": "99", "pods": "99"}}}
    await control_plane.ok("POST", "/api/v1/nodes", other)
    await start_kubelet(node=NodeSpec(cpu="100m"))
    path = f"/api/v1/namespaces/{namespace}/pods"
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    await control_plane.ok("POST", path, {"metadata": {"name": "p"}, "spec": {"containers": [container]}})
    conditions: list[dict[str, str]] = []
    while not conditions:
        pod = await control_plane.ok("GET", f"{path}/p")
        conditions = pod["status"].get("conditions", [])
        await asyncio.sleep(0.02)
    assert conditions[0]["message"].startswith("0/1 nodes are available: 1 Insufficient cpu")
    await control_plane.ok("DELETE", f"/api/v1/nodes/other-{namespace}")


async def test_pretty_answers_do_no_harm(real_control_plane: RealControlPlane) -> None:
    """The server was built with the repaired reflect2: pretty-printed answers leave it intact."""
    namespace = await real_control_plane.new_namespace()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(20):
        labels = {str(key): "x" for key in range(number)}
        await real_control_plane.ok("POST", path, {"metadata": {"name": f"c{number}", "labels": labels}})
        answer = await real_control_plane.ok("GET", path, params={"pretty": "true"})
        assert len(answer["items"]) >= number + 1


async def test_it_lives_as_long_as_its_last_user(real_control_plane: RealControlPlane, tmp_path: Path) -> None:
    """Two test processes share one control plane; it outlives the first, and ends with the second, though killed."""
    first, second = await start_probe(tmp_path), await start_probe(tmp_path)
    lines = [(await probe.stdout.readline()).decode().split() for probe in (first, second)]
    assert lines[0] == lines[1]
    assert lines[0][0] != real_control_plane.url
    pids = [int(pid) for pid in lines[0][1:]]
    first.stdin.close()
    await first.wait()
    assert all(alive(pid) for pid in pids)
    second.kill()
    await second.wait()
    while any(alive(pid) for pid in pids):
        await asyncio.sleep(0.05)


async def test_a_start_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the end of the failed program's log."""
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho I cannot go on\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"etcd ended with status 3(.|\n)*I cannot go on"):
        await RealControlPlane(tmp_path / "folder").start()


def test_where_the_programs_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First in KUBEBUILDER_ASSETS, then in PATH; what is missing is named."""
    assets, path = tmp_path / "assets", tmp_path / "path"
    for folder, name in ((assets, "kube-apiserver"), (path, "kube-apiserver"), (path, "etcd")):
        folder.mkdir(exist_ok=True)
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert find_programs() == {"kube-apiserver": str(assets / "kube-apiserver"), "etcd": str(path / "etcd")}
    assert control_plane_missing() is None
    (path / "etcd").unlink()
    assert "no etcd in KUBEBUILDER_ASSETS" in str(control_plane_missing())


async def start_probe(folder: Path) -> asyncio.subprocess.Process:
    """Start another process that uses the control plane of `folder`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROBE,
        str(folder / "control-plane"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )


def is_ready(pod: dict[str, Any]) -> bool:
    """Say whether the kubelet calls the pod ready."""
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def alive(pid: int) -> bool:
    """Say whether a process runs (one that has ended and that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
