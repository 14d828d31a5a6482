"""The local API server as kubectl sees it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.control_plane import LocalControlPlane

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}},
    "spec": {
        "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "b"}]}],
        "volumes": [{"name": "x", "emptyDir": {}}],
    },
}


class Kubectl:
    """Runs kubectl against one API server.

    Args:
        folder: For its kubeconfig, its cache and the files that it is given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """Run one command and return what it printed; it must succeed, or fail if `fails`."""
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            "--kubeconfig",
            str(self.folder / "kubeconfig"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment},
        )
        output = (await process.communicate())[0].decode()
        assert (process.returncode != 0) is fails, output
        return output

    def file(self, document: dict[str, Any]) -> str:
        """Write a document to a file and return its path."""
        path = self.folder / "document.json"
        path.write_text(json.dumps(document))
        return str(path)


@pytest_asyncio.fixture(loop_scope="session")
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    """An administrator of a cluster of the test's own, over TLS."""
    plane = LocalControlPlane()
    await plane.start()
    document = plane.server.kubeconfig(plane.admin_token)
    assert document["clusters"][0]["cluster"]["server"].startswith("https://")
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    yield Kubectl(tmp_path)
    await plane.stop()


async def test_apply(kubectl: Kubectl) -> None:
    """`apply` creates, sees that nothing changed, and changes."""
    path = kubectl.file(POD)
    assert "pod/p created" in await kubectl("apply", "-f", path)
    assert "pod/p unchanged" in await kubectl("apply", "-f", path)
    kubectl.file({**POD, "metadata": {"name": "p", "labels": {"a": "c"}}})
    assert "pod/p configured" in await kubectl("apply", "-f", path)
    assert "a=c" in await kubectl("get", "pods", "--show-labels")


async def test_get_and_describe(kubectl: Kubectl) -> None:
    """Tables with the usual columns, a description, the kinds that there are, and what the user may do."""
    await kubectl("apply", "-f", kubectl.file(POD))
    lines = (await kubectl("get", "pods", "-o", "wide")).splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert lines[1].split()[:4] == ["p", "0/1", "Pending", "0"]
    assert "kube-system" in await kubectl("get", "namespaces")
    assert "EmptyDir" in await kubectl("describe", "pod", "p")
    assert "networkpolicies" in await kubectl("api-resources")
    assert "yes" in await kubectl("auth", "can-i", "create", "pods")


async def test_create_sends_protocol_buffers(kubectl: Kubectl) -> None:
    """`kubectl create` of the simple kinds that it makes from arguments works."""
    made = (
        ("configmap", "m", "--from-literal=a=b"),
        ("secret", "generic", "s", "--from-literal=k=v"),
        ("namespace", "n"),
        ("serviceaccount", "a"),
    )
    for arguments in made:
        assert "created" in await kubectl("create", *arguments)
    found = {kind: json.loads(await kubectl("get", kind, "-o", "json"))["items"] for kind in ("cm", "secret")}
    assert found["cm"][0]["data"] == {"a": "b"}
    assert found["secret"][0]["data"] == {"k": "dg=="}


async def test_patch_edit_and_delete(kubectl: Kubectl) -> None:
    """ConfigMaps can be patched, edited, labelled and deleted."""
    await kubectl("create", "configmap", "m", "--from-literal=a=b")
    assert "patched" in await kubectl("patch", "configmap", "m", "-p", '{"data":{"x":"why"}}')
    assert "edited" in await kubectl("edit", "configmap", "m", EDITOR="sed -i s/why/because/")
    assert "labeled" in await kubectl("label", "configmap", "m", "l=1")
    assert await kubectl("get", "configmap", "m", "-o", "jsonpath={.data}{.metadata.labels}") == (
        '{"a":"b","x":"because"}{"l":"1"}'
    )
    assert "deleted" in await kubectl("delete", "configmap", "--all")
    assert "NotFound" in await kubectl("get", "configmap", "m", fails=True)


async def test_a_watch_prints_tables(kubectl: Kubectl) -> None:
    """`kubectl get -w` shows the same columns for every change."""
    await kubectl("apply", "-f", kubectl.file(POD))
    output = await kubectl("wait", "--for=delete", "pod/p", "--timeout=1s", fails=True)
    assert "timed out" in output
    shown = await kubectl("get", "pods", "--watch", "--request-timeout=1s")
    assert "p      0/1     Pending" in shown
