"""The life of pods that are processes, on the local API server and on a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from profile_spawner.demo.cluster.apiclient import ApiError, Json
from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from tests.control_plane import ControlPlane
from tests.demo.cluster.kubelet_support import Cluster, needs_view
from tests.fault_proxy import Fault, FaultProxy

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
StartKubelet = Callable[..., Awaitable[Kubelet]]


async def start(start_kubelet: StartKubelet, *, view: bool = False) -> Kubelet:
    """Start a kubelet whose pods are processes and whose back-off is short; `view`: the test mounts volumes."""
    kubelet = await start_kubelet(runtime="process", backoff=0.05)
    if view:
        needs_view(kubelet)
    return kubelet


def container(pod: Json, index: int = 0) -> Json:
    """Return the status of a container."""
    status: Json = pod["status"]["containerStatuses"][index]
    return status


def log_of(kubelet: Kubelet, cluster: Cluster, pod: str, name: str = "main") -> str:
    """Return what a container has written."""
    path = kubelet.log_path(cluster.namespace, pod, name)
    assert path is not None
    return path.read_text()


async def test_running_pod(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod gets a node, an address of its own and the conditions and events of a real one."""
    kubelet = await start(start_kubelet)
    await cluster.pod("one")
    pod = await cluster.wait_phase("one", "Running")
    assert pod["spec"]["nodeName"] == kubelet.node.name
    status = pod["status"]
    assert status["podIP"].startswith("127.1.")
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["hostIP"] == "127.0.0.1"
    assert status["startTime"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    wanted = {"PodScheduled": "True", "Ready": "True"}
    assert wanted.items() <= conditions.items()
    assert container(pod)["ready"] is True
    assert container(pod)["image"] == "example/image:1"
    assert container(pod)["state"]["running"]["startedAt"]
    await cluster.wait_event("one", "Started")
    assert [reason for reason, _ in await cluster.events("one")] == [
        "Scheduled",
        "Pulling",
        "Pulled",
        "Created",
        "Started",
    ]


async def test_image_is_pulled_once(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """The second pod of an image finds it on the machine."""
    await start(start_kubelet)
    await cluster.pod("first")
    await cluster.wait_phase("first", "Running")
    await cluster.pod("second")
    await cluster.wait_event("second", "Pulled", 'Container image "example/image:1" already present on machine')


@pytest.mark.parametrize(
    ("script", "phase", "code", "reason"), [("exit 0", "Succeeded", 0, "Completed"), ("exit 3", "Failed", 3, "Error")]
)
async def test_end(
    cluster: Cluster, start_kubelet: StartKubelet, script: str, phase: str, code: int, reason: str
) -> None:
    """A pod that is not to be restarted ends with its program, and keeps its log."""
    kubelet = await start(start_kubelet)
    await cluster.pod("one", f"echo said; echo warned >&2; {script}")
    pod = await cluster.wait_phase("one", "Succeeded", "Failed")
    assert pod["status"]["phase"] == phase
    ended = container(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, reason)
    assert container(pod)["ready"] is False
    assert log_of(kubelet, cluster, "one") == "said\nwarned\n"


async def test_killed_by_a_signal(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A program that a signal ended reports 128 and the signal's number."""
    await start(start_kubelet)
    await cluster.pod("one", "kill -KILL $$$$")  # Kubernetes makes one of two
    pod = await cluster.wait_phase("one", "Failed")
    assert container(pod)["state"]["terminated"]["exitCode"] == 137


async def test_restart_on_failure(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A program that fails is started again, with a growing pause, until it succeeds."""
    kubelet = await start(start_kubelet, view=True)
    script = "echo run >> /data/runs; echo run $(wc -l < /data/runs); test $(wc -l < /data/runs) -ge 3"
    await cluster.pod(
        "one",
        script,
        restartPolicy="OnFailure",
        volumes=[{"name": "data", "emptyDir": {}}],
        mounts=[{"name": "data", "mountPath": "/data"}],
    )
    pod = await cluster.wait_phase("one", "Succeeded")
    assert container(pod)["restartCount"] == 2
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 1
    await cluster.wait_event("one", "BackOff", "Back-off restarting failed container main in pod one_")
    assert log_of(kubelet, cluster, "one") == "run 1\nrun 2\nrun 3\n"


async def test_crash_loop(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A program that is always to run, and always ends, waits in CrashLoopBackOff between its runs."""
    await start_kubelet(runtime="process", backoff=600)
    await cluster.pod("one", "exit 0", restartPolicy="Always")
    waiting = await cluster.wait_waiting("one", "CrashLoopBackOff")
    assert waiting["message"].startswith("back-off 600s restarting failed container=main pod=one_")
    pod = await cluster.get("pods", "one")
    assert pod is not None
    assert pod["status"]["phase"] == "Running"
    assert container(pod)["restartCount"] == 1


async def test_init_containers_run_first(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Init containers run one after the other, and see the same volumes as the others after them."""
    kubelet = await start(start_kubelet, view=True)
    mount = [{"name": "data", "mountPath": "/data"}]
    init = [
        {"name": f"init-{n}", "image": "i", "command": ["sh", "-c", f"echo {n} >> /data/order"], "volumeMounts": mount}
        for n in (1, 2)
    ]
    volumes = [{"name": "data", "emptyDir": {}}]
    await cluster.pod("one", "cat /data/order", initContainers=init, volumes=volumes, mounts=mount)
    pod = await cluster.wait_phase("one", "Succeeded")
    assert log_of(kubelet, cluster, "one") == "1\n2\n"
    assert [s["state"]["terminated"]["reason"] for s in pod["status"]["initContainerStatuses"]] == ["Completed"] * 2


async def test_failing_init_container(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """When an init container fails for good, the pod fails and its containers never start."""
    kubelet = await start(start_kubelet)
    init = [{"name": "init", "image": "i", "command": ["sh", "-c", "echo broken; exit 7"]}]
    await cluster.pod("one", initContainers=init)
    pod = await cluster.wait_phase("one", "Failed")
    ended = pod["status"]["initContainerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")
    assert container(pod)["state"]["waiting"]["reason"] == "PodInitializing"
    assert log_of(kubelet, cluster, "one", "init") == "broken\n"


async def test_failing_init_container_is_tried_again(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """When containers may be restarted, an init container is tried until it succeeds."""
    await start(start_kubelet, view=True)
    mount = [{"name": "data", "mountPath": "/data"}]
    script = "test -e /data/seen || { touch /data/seen; exit 1; }"
    init = [{"name": "init", "image": "i", "command": ["sh", "-c", script], "volumeMounts": mount}]
    volumes = [{"name": "data", "emptyDir": {}}]
    await cluster.pod("one", initContainers=init, volumes=volumes, restartPolicy="OnFailure")
    pod = await cluster.wait_phase("one", "Running")
    assert pod["status"]["initContainerStatuses"][0]["restartCount"] == 1


async def test_all_containers_run(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Further containers run beside the first one, and one that ends does not take the others along."""
    await start(start_kubelet)
    await cluster.pod("one", containers=[{"name": "side", "image": "s", "command": ["sh", "-c", "exit 0"]}])
    pod = await cluster.wait("pods", "one", lambda p: "terminated" in str(p["status"].get("containerStatuses")))
    assert pod["status"]["phase"] == "Running"
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "False"
    assert container(pod, 0)["ready"] is True


async def test_graceful_stop(cluster: Cluster, start_kubelet: StartKubelet, tmp_path: Path) -> None:
    """A deleted pod's program is asked to end, has its time, and then the pod is gone."""
    await start(start_kubelet, view=True)
    await cluster.create(
        "persistentvolumeclaims",
        "kept",
        spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    )
    await cluster.pod(
        "one",
        "trap 'sleep 0.2; echo saved > /data/work; exit 0' TERM; touch /data/up; while :; do sleep 0.05; done",
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "kept"}}],
        mounts=[{"name": "data", "mountPath": "/data"}],
    )
    await cluster.wait_phase("one", "Running")
    work = next(tmp_path.glob("kubelet-*")) / "volumes" / cluster.namespace / "kept"
    while not (work / "up").exists():
        await asyncio.sleep(0.01)
    await cluster.delete("pods", "one")
    await cluster.wait_gone("pods", "one")
    assert (work / "work").read_text() == "saved\n"
    await cluster.wait_event("one", "Killing", "Stopping container main")


async def until_up(kubelet: Kubelet, cluster: Cluster) -> None:
    """Wait until the program of pod `one` has said that it is up: before that it does not ignore anything."""
    await cluster.wait_phase("one", "Running")
    log = kubelet.log_path(cluster.namespace, "one", "main")
    while log is None or "up" not in log.read_text():
        await asyncio.sleep(0.01)
        log = kubelet.log_path(cluster.namespace, "one", "main")


async def test_stubborn_program(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A program that does not listen is killed after the grace period, with all it has started."""
    kubelet = await start(start_kubelet)
    script = (
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done') & "
        "echo up; while :; do sleep 0.05; done"
    )
    await cluster.pod("one", script, terminationGracePeriodSeconds=1)
    await until_up(kubelet, cluster)
    running = kubelet.running(cluster.namespace, "one")["main"]
    await cluster.delete("pods", "one")
    await cluster.wait_gone("pods", "one")
    assert await running.wait() == 137


async def test_deletion_before_the_start(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod that still waits for something can be deleted."""
    await start(start_kubelet)
    await cluster.pod("one", volumes=[{"name": "v", "configMap": {"name": "none"}}])
    await cluster.wait_event("one", "FailedMount")
    await cluster.delete("pods", "one")
    await cluster.wait_gone("pods", "one")


async def test_force_deletion(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod deleted without grace leaves no process."""
    kubelet = await start(start_kubelet)
    await cluster.pod("one", "trap '' TERM; echo up; while :; do sleep 0.05; done", terminationGracePeriodSeconds=600)
    await until_up(kubelet, cluster)
    running = kubelet.running(cluster.namespace, "one")["main"]
    await cluster.delete("pods", "one", gracePeriodSeconds=0)
    assert await asyncio.wait_for(running.wait(), 30) == 137


async def test_force_deletion_while_stopping(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A second deletion without grace cuts the grace of the first one short."""
    kubelet = await start(start_kubelet)
    await cluster.pod("one", "trap '' TERM; echo up; while :; do sleep 0.05; done", terminationGracePeriodSeconds=600)
    await until_up(kubelet, cluster)
    running = kubelet.running(cluster.namespace, "one")["main"]
    await cluster.delete("pods", "one")
    await cluster.wait_event("one", "Killing")
    await cluster.delete("pods", "one", gracePeriodSeconds=0)
    assert await asyncio.wait_for(running.wait(), 30) == 137


async def test_new_pod_under_the_same_name(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod that replaces one of its name is another pod: what still happens to the old one does not touch it."""
    await start(start_kubelet)
    old = await cluster.pod("one")
    await cluster.wait_phase("one", "Running")
    await cluster.delete("pods", "one", gracePeriodSeconds=0)
    await cluster.pod("one")
    pod = await cluster.wait("pods", "one", lambda p: p["status"].get("phase") == "Running")
    assert pod["metadata"]["uid"] != old["metadata"]["uid"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such/program", 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        ("/etc", 'exec: "/etc": permission denied'),
    ],
)
async def test_program_that_cannot_start(
    cluster: Cluster, start_kubelet: StartKubelet, command: str, text: str
) -> None:
    """A command that does not exist is a StartError in the words of a container runtime."""
    await start(start_kubelet)
    await cluster.pod("one", command=[command])
    pod = await cluster.wait_phase("one", "Failed")
    ended = container(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert text in ended["message"]
    await cluster.wait_event("one", "Failed", text)


async def test_node_that_comes_back(
    cluster: Cluster, start_kubelet: StartKubelet, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """A pod whose kubelet was stopped is run again by the next one of that node, and ended pods stay ended."""
    first = await start(start_kubelet)
    await cluster.pod("one")
    await cluster.pod("done", "exit 0")
    before = container(await cluster.wait_phase("one", "Running"))["containerID"]
    await cluster.wait_phase("done", "Succeeded")
    await first.stop()
    second = Kubelet(
        control_plane.url,
        control_plane.admin_token,
        tmp_path / "second",
        node=first.node,
        ca=control_plane.ca_path,
        namespaces=[cluster.namespace],
    )
    await second.start()
    pod = await cluster.wait("pods", "one", lambda p: container(p)["containerID"] not in ("", before))
    assert pod["status"]["phase"] == "Running"
    assert list(second.running(cluster.namespace, "one")) == ["main"]
    assert not second.running(cluster.namespace, "done")
    await cluster.delete("pods", "done")
    await cluster.wait_gone("pods", "done")
    await second.stop()


async def test_pod_with_a_node_name(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod that names this node needs no scheduler."""
    kubelet = await start(start_kubelet)
    await cluster.pod("one", nodeName=kubelet.node.name, schedulerName="nobody")
    await cluster.wait_phase("one", "Running")


async def test_foreign_scheduler(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A pod of another scheduler is left to it."""
    await start(start_kubelet)
    await cluster.pod("foreign", schedulerName="nobody")
    await cluster.pod("one")
    await cluster.wait_phase("one", "Running")
    pod = await cluster.get("pods", "foreign")
    assert pod is not None
    assert not pod["spec"].get("nodeName")


async def test_addresses_differ(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """Several pods listen on the same port at once, each at its own address, which 0.0.0.0 stands for."""
    await start(start_kubelet)
    for name in ("one", "two"):
        serve = ["python", "-m", "http.server", "--bind", "0.0.0.0", "8888"]
        await cluster.pod(name, command=serve)
    for name in ("one", "two"):
        pod = await cluster.wait_phase(name, "Running")
        for _ in range(500):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(pod["status"]["podIP"], 8888)
                writer.close()
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail(f"{name} does not listen at {pod['status']['podIP']}")


async def test_stop_of_the_kubelet(cluster: Cluster, start_kubelet: StartKubelet, tmp_path: Path) -> None:
    """A kubelet that stops ends its pods' programs and removes their files."""
    kubelet = await start(start_kubelet)
    await cluster.pod("one")
    await cluster.wait_phase("one", "Running")
    running = kubelet.running(cluster.namespace, "one")["main"]
    await kubelet.stop()
    assert await running.wait() in (137, 143)
    assert not list((kubelet.state_dir / "pods").iterdir())


async def test_stop_while_the_server_fails(cluster: Cluster, tmp_path: Path) -> None:
    """A kubelet ends its pods' programs when its API server answers nothing but errors."""
    proxy = FaultProxy(cluster.client.url, cluster.ca)
    await proxy.start()
    node = NodeSpec(name=f"node-{cluster.namespace}")
    kubelet = Kubelet(proxy.url, cluster.token, tmp_path / "state", node=node, namespaces=[cluster.namespace])
    await kubelet.start()
    await cluster.pod("one")
    await cluster.wait_phase("one", "Running")
    running = kubelet.running(cluster.namespace, "one")["main"]
    proxy.faults.append(Fault(methods=("GET", "POST", "PATCH", "DELETE"), times=-1))
    await kubelet.stop()
    assert await running.wait() in (137, 143)
    await proxy.stop()
    await cluster.client.call("DELETE", f"/api/v1/nodes/{node.name}")


async def test_node_object(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """The node is registered with what it has, and is ready."""
    kubelet = await start(start_kubelet)
    node = await cluster.client.get(f"/api/v1/nodes/{kubelet.node.name}")
    assert node is not None
    status = node["status"]
    assert (status["capacity"]["cpu"], status["allocatable"]["nvidia.com/gpu"]) == ("8", "4")
    assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == ["True"]
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == kubelet.node.name


async def test_refused_token(cluster: Cluster, tmp_path: Path) -> None:
    """A kubelet whose token is refused says so at its start."""
    kubelet = Kubelet(cluster.client.url, "wrong", tmp_path / "state", ca=cluster.ca, sandbox="plain")
    with pytest.raises(ApiError, match="401"):
        await kubelet.start()
