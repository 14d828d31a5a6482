"""How the processes of pods see the machine, in each of the three modes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from profile_spawner.demo.cluster.failures import LocalClusterError
from profile_spawner.demo.cluster.kubelet import Kubelet
from profile_spawner.demo.cluster.processes import choose_mode, why_not_mode
from profile_spawner.demo.cluster.sandbox import MODES, Mode
from tests.control_plane import LocalControlPlane
from tests.demo.cluster.kubelet_support import Cluster

DAEMON = "exec 3<>fifo; trap '' TERM HUP; while :; do sleep 0.1; done"
"""Holds a pipe open for as long as it lives, and does not end when it is asked to."""

WITH_DAEMON = f'cd ~; mkfifo fifo; setsid sh -c "{DAEMON}" & while :; do sleep 0.1; done'

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
OWN_VIEW: tuple[Mode, ...] = ("bwrap",)


class Sandboxed:
    """A kubelet in one mode, and its namespace."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet) -> None:
        self.cluster = cluster
        self.kubelet = kubelet

    async def run(self, script: str, **options: Any) -> list[str]:
        """Run a pod to its end and return the lines that it wrote."""
        await self.cluster.pod("one", script, **options)
        await self.cluster.wait_phase("one", "Succeeded", "Failed")
        path = self.kubelet.log_path(self.cluster.namespace, "one", "main")
        assert path is not None
        return path.read_text().splitlines()


@pytest_asyncio.fixture(loop_scope="session")
async def sandboxed(
    request: pytest.FixtureRequest, local_control_plane: LocalControlPlane, tmp_path: Path
) -> AsyncIterator[Sandboxed]:
    """A kubelet in the mode that the test names; skipped where that mode cannot run."""
    mode: Mode = request.param
    if reason := await why_not_mode(mode, tmp_path):
        pytest.skip(f"{mode} cannot run here: {reason}")
    namespace = await local_control_plane.new_namespace()
    cluster = await Cluster.open(local_control_plane, namespace)
    token = local_control_plane.admin_token
    kubelet = Kubelet(cluster.client.url, token, tmp_path / "state", namespaces=[namespace], sandbox=mode)
    await kubelet.start()
    yield Sandboxed(cluster, kubelet)
    await kubelet.stop()
    await cluster.client.close()


def volumes(*mounts: tuple[str, str, bool]) -> dict[str, Any]:
    """Return emptyDir volumes mounted at paths: name, path, whether read-only."""
    names = sorted({name for name, _, _ in mounts})
    return {
        "volumes": [{"name": name, "emptyDir": {}} for name in names],
        "mounts": [{"name": name, "mountPath": path, "readOnly": ro} for name, path, ro in mounts],
    }


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
@pytest.mark.parametrize(
    "path",
    [
        "/data",
        "/srv/deep/er",
        "/etc/profile.d/own",
        "/usr/local/share/own",
        "/var/run/own",
        "/tmp/own",
        "/home/jovyan/own",
    ],
)
async def test_volume_at_its_path(sandboxed: Sandboxed, path: str) -> None:
    """A volume appears at its path wherever that is, and what lies beside it is still there."""
    lines = await sandboxed.run(
        f"echo x > {path}/file; cat {path}/file; ls -d /etc/passwd /usr/bin/env", **volumes(("v", path, False))
    )
    assert lines == ["x", "/etc/passwd", "/usr/bin/env"]
    assert not os.path.lexists(f"{path}/file")


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_volume_in_a_volume(sandboxed: Sandboxed) -> None:
    """A volume may lie inside of another, whatever their order in the pod."""
    lines = await sandboxed.run(
        "echo in > /outer/a/b/file; echo out > /outer/file; cat /outer/a/b/file /outer/file; ls /outer",
        **volumes(("in", "/outer/a/b", False), ("out", "/outer", False)),
    )
    assert lines == ["in", "out", "a", "file"]


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_read_only_volume(sandboxed: Sandboxed) -> None:
    """A read-only mount refuses writes that the same volume takes elsewhere."""
    lines = await sandboxed.run(
        "echo x > /rw/file && touch /ro/other || cat /ro/file", **volumes(("v", "/rw", False), ("v", "/ro", True))
    )
    assert "Read-only file system" in lines[0]
    assert lines[1] == "x"


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_single_file(sandboxed: Sandboxed) -> None:
    """One key of a ConfigMap can be put over one file of the machine."""
    await sandboxed.cluster.create("configmaps", "cm", data={"bashrc": "mine", "other": "x"})
    lines = await sandboxed.run(
        "cat /etc/bash.bashrc; echo; cat /etc/new.conf",
        volumes=[{"name": "cm", "configMap": {"name": "cm"}}],
        mounts=[
            {"name": "cm", "mountPath": "/etc/bash.bashrc", "subPath": "bashrc"},
            {"name": "cm", "mountPath": "/etc/new.conf", "subPath": "other"},
        ],
    )
    assert lines == ["mine", "x"]
    assert not Path("/etc/new.conf").exists()


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_machine_stays_untouched(sandboxed: Sandboxed, tmp_path: Path) -> None:
    """Whatever a pod writes, nothing outside of the state folder changes."""
    canary = tmp_path / "canary"
    canary.write_text("old")
    name = f"written-by-a-pod-{os.getpid()}"
    places = [
        f"/{name}",
        f"/etc/{name}",
        f"/usr/{name}",
        f"/tmp/{name}",
        f"/var/tmp/{name}",
        f"/dev/shm/{name}",
        f"/root/{name}",
        str(canary),
    ]
    script = "".join(f"echo new > {place}\n" for place in places) + f"rm -rf /home/* {canary}; true"
    await sandboxed.run(script)
    assert [place for place in places if Path(place).exists()] == [str(canary)]
    assert canary.read_text() == "old"


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_state_folder_is_hidden(sandboxed: Sandboxed) -> None:
    """A pod does not see the state folder with the secrets and homes of others."""
    await sandboxed.cluster.create("persistentvolumeclaims", "home", spec=CLAIM)
    state = sandboxed.kubelet.state_dir
    lines = await sandboxed.run(f"ls -A {state} 2>/dev/null | wc -l")
    assert lines == ["0"]
    assert list(state.iterdir())


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_processes_and_host_name(sandboxed: Sandboxed) -> None:
    """A pod sees its own processes only, has its name as host name, and that name is its address."""
    lines = await sandboxed.run("ls -d /proc/[0-9]* | wc -l; hostname; getent hosts one; id -u; pwd; echo ~; tty")
    assert int(lines[0]) <= 6
    pod = await sandboxed.cluster.get("pods", "one")
    assert pod is not None
    assert lines[1] == "one"
    assert lines[2].split() == [pod["status"]["podIP"], "one"]
    assert lines[3:6] == [str(os.geteuid()), "/home/jovyan", "/home/jovyan"]


@pytest.mark.parametrize("sandboxed", OWN_VIEW, indirect=True)
async def test_working_folder(sandboxed: Sandboxed) -> None:
    """The working folder is made where it is missing; HOME may be the pod's choice."""
    await sandboxed.cluster.pod("other", "true")
    container = {"name": "main", "image": "i", "command": ["sh", "-c", "pwd; echo $HOME; touch ~/x && echo ok"]}
    container |= {"workingDir": "/work/of/mine", "env": [{"name": "HOME", "value": "/home/me"}]}
    await sandboxed.cluster.create("pods", "two", spec={"containers": [container], "restartPolicy": "Never"})
    await sandboxed.cluster.wait_phase("two", "Succeeded", "Failed")
    path = sandboxed.kubelet.log_path(sandboxed.cluster.namespace, "two", "main")
    assert path is not None
    assert path.read_text().splitlines() == ["/work/of/mine", "/home/me", "ok"]


@pytest.mark.parametrize("sandboxed", MODES, indirect=True)
async def test_interpreter_is_there(sandboxed: Sandboxed) -> None:
    """The modules of the running interpreter can be imported in every mode."""
    lines = await sandboxed.run("python -c 'import aiohttp, sys; print(sys.prefix)'")
    assert lines == [sys.prefix]


@pytest.mark.parametrize("sandboxed", MODES, indirect=True)
async def test_daemons_do_not_survive(sandboxed: Sandboxed) -> None:
    """What a program has put into the background, in a session of its own, ends with it."""
    fifo = sandboxed.kubelet.state_dir / "volumes" / sandboxed.cluster.namespace / "home" / "fifo"
    await sandboxed.cluster.create("persistentvolumeclaims", "home", spec=CLAIM)
    await sandboxed.cluster.pod(
        "one",
        WITH_DAEMON,
        volumes=[{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
        mounts=[{"name": "home", "mountPath": "/home/jovyan"}],
    )
    await sandboxed.cluster.wait_phase("one", "Running")
    while True:
        try:
            writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # There is no reader yet.
            await asyncio.sleep(0.01)
    await sandboxed.cluster.delete("pods", "one")
    await sandboxed.cluster.wait_gone("pods", "one")
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


@pytest.mark.parametrize("sandboxed", ["plain"], indirect=True)
async def test_plain_mode(sandboxed: Sandboxed) -> None:
    """Without a view of its own a pod finds its volumes below its home."""
    await sandboxed.cluster.create("persistentvolumeclaims", "home", spec=CLAIM)
    await sandboxed.cluster.create("configmaps", "cm", data={"x": "content"})
    await sandboxed.cluster.pod(
        "two",
        "cat ~/volumes/etc/own/x ~/inside/x; echo; touch ~/kept; pwd",
        volumes=[
            {"name": "home", "persistentVolumeClaim": {"claimName": "home"}},
            {"name": "cm", "configMap": {"name": "cm"}},
        ],
        mounts=[
            {"name": "cm", "mountPath": "/etc/own"},
            {"name": "home", "mountPath": "/home/jovyan"},
            {"name": "cm", "mountPath": "/home/jovyan/inside"},
        ],
    )
    await sandboxed.cluster.wait_phase("two", "Succeeded", "Failed")
    state = sandboxed.kubelet.state_dir
    path = sandboxed.kubelet.log_path(sandboxed.cluster.namespace, "two", "main")
    assert path is not None
    home = state / "volumes" / sandboxed.cluster.namespace / "home"
    assert path.read_text().splitlines() == ["contentcontent", str(home)]
    assert (home / "kept").exists()


@pytest.mark.parametrize("sandboxed", ["plain"], indirect=True)
async def test_plain_mode_moves_paths(sandboxed: Sandboxed) -> None:
    """Arguments and variables that are paths of volumes lead to them: an init script is found where it lies."""
    script = "echo ran with $SETTINGS; cat ${SETTINGS#*:}/x"
    await sandboxed.cluster.create("configmaps", "cm", data={"x": "content", "init.sh": script})
    await sandboxed.cluster.pod(
        "one",
        command=["sh", "/opt/init/.init.sh"],
        env=[{"name": "SETTINGS", "value": "/elsewhere:/etc/own"}],
        volumes=[{"name": "cm", "configMap": {"name": "cm"}}],
        mounts=[
            {"name": "cm", "mountPath": "/etc/own"},
            {"name": "cm", "mountPath": "/opt/init/.init.sh", "subPath": "init.sh"},
        ],
    )
    await sandboxed.cluster.wait_phase("one", "Succeeded", "Failed")
    path = sandboxed.kubelet.log_path(sandboxed.cluster.namespace, "one", "main")
    assert path is not None
    ran, content = path.read_text().splitlines()
    assert ran.startswith("ran with /elsewhere:")
    assert content == "content"


async def test_plain_mode_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """Where nothing better works, the log says so and why, once."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert await choose_mode(tmp_path) == "plain"
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert "bubblewrap (bwrap) is not installed" in told[0]


async def test_forced_mode_that_cannot_run(tmp_path: Path, monkeypatch: Any) -> None:
    """A mode that is asked for and cannot run is an error that says why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalClusterError, match=r"bubblewrap \(bwrap\) is not installed"):
        await choose_mode(tmp_path, "bwrap")


@pytest.mark.parametrize("mode", MODES)
async def test_nothing_survives_a_kill(local_control_plane: LocalControlPlane, tmp_path: Path, mode: Mode) -> None:
    """When the kubelet's process is killed, its pods' processes end too, daemons included, and no mount is left."""
    if reason := await why_not_mode(mode, tmp_path):
        pytest.skip(f"{mode} cannot run here: {reason}")
    namespace = await local_control_plane.new_namespace()
    cluster = await Cluster.open(local_control_plane, namespace)
    await cluster.create("persistentvolumeclaims", "home", spec=CLAIM)
    program = """
        import asyncio, sys
        from profile_spawner.demo.cluster.kubelet import Kubelet
        async def main(url, token, state, namespace, mode):
            await Kubelet(url, token, state, namespaces=[namespace], sandbox=mode).start()
            await asyncio.Event().wait()
        asyncio.run(main(*sys.argv[1:]))
    """
    arguments = [cluster.client.url, local_control_plane.admin_token, str(tmp_path / "state"), namespace, mode]
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), *arguments])
    try:
        await cluster.pod(
            "one",
            WITH_DAEMON,
            volumes=[{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
            mounts=[{"name": "home", "mountPath": "/home/jovyan"}],
        )
        fifo = tmp_path / "state" / "volumes" / namespace / "home" / "fifo"
        while True:
            try:
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:
                await asyncio.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # The pipe breaks when the last process that reads from it, the daemon, has ended.
    while True:
        try:
            os.write(writer, b"x")
        except BlockingIOError:
            pass
        except BrokenPipeError:
            break
        await asyncio.sleep(0.01)
    os.close(writer)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    await cluster.client.close()
