"""The environment and the command of a container."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from profile_spawner.demo.cluster.apiclient import Json
from profile_spawner.demo.cluster.environment import (
    MissingError,
    PodFacts,
    command_of,
    environment_of,
    expand,
)
from profile_spawner.demo.cluster.kubelet import Kubelet
from tests.demo.cluster.kubelet_support import Cluster

StartKubelet = Callable[..., Awaitable[Kubelet]]

POD: Json = {
    "metadata": {
        "name": "one",
        "namespace": "ns",
        "uid": "u-1",
        "labels": {"app": "hub"},
        "annotations": {"note": "two\nlines"},
    },
    "spec": {
        "serviceAccountName": "robot",
        "containers": [{"name": "main"}],
    },
}
FACTS = PodFacts(POD, "127.1.2.3", "node-1")


async def read(plural: str, namespace: str, name: str) -> Json | None:
    """Return the one ConfigMap and the one Secret that there are."""
    found = {
        "configmaps": {"data": {"ONE": "1", "TWO": "2"}},
        "secrets": {"data": {"KEY": base64.b64encode(b"s3cret").decode()}},
    }
    return found[plural] if name == "there" else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "a"),
        ("x$(A)$(B)y", "xaby"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("100$$", "100$"),
        ("$(A$(B))", "$(A$(B))"),
        ("$()", "$()"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    """References are replaced as the kubelet does it."""
    assert expand(text, {"A": "a", "B": "b"}) == expected


async def test_values_in_order() -> None:
    """A value sees those before it; `env` wins over `envFrom`; a prefix is put before the keys."""
    container = {
        "name": "main",
        "envFrom": [{"configMapRef": {"name": "there"}}, {"prefix": "S_", "secretRef": {"name": "there"}}],
        "env": [
            {"name": "A", "value": "a"},
            {"name": "B", "value": "$(A)-$(C)"},
            {"name": "C", "value": "c"},
            {"name": "ONE", "value": "one"},
            {"name": "EMPTY"},
        ],
    }
    env = await environment_of(container, FACTS, read)
    assert env == {"ONE": "one", "TWO": "2", "S_KEY": "s3cret", "A": "a", "B": "a-$(C)", "C": "c", "EMPTY": ""}


async def test_values_from_objects() -> None:
    """Keys of ConfigMaps and Secrets are read; an optional one that is missing leaves no variable."""

    def variable(name: str, kind: str, obj: str, key: str, **more: Any) -> Json:
        return {"name": name, "valueFrom": {kind: {"name": obj, "key": key, **more}}}

    container = {
        "name": "main",
        "env": [
            variable("A", "configMapKeyRef", "there", "ONE"),
            variable("B", "secretKeyRef", "there", "KEY"),
            variable("C", "secretKeyRef", "none", "KEY", optional=True),
            variable("D", "configMapKeyRef", "there", "NONE", optional=True),
        ],
    }
    assert await environment_of(container, FACTS, read) == {"A": "1", "B": "s3cret"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]},
            'secret "none" not found',
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "there", "key": "k"}}}]},
            "couldn't find key k in ConfigMap ns/there",
        ),
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, 'configmap "none" not found'),
    ],
)
async def test_missing_objects(source: Json, text: str) -> None:
    """What is missing is named as the kubelet names it."""
    with pytest.raises(MissingError) as caught:
        await environment_of({"name": "main", **source}, FACTS, read)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "one"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "hub"),
        ("metadata.annotations['note']", "two\nlines"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "127.1.2.3"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_fields(path: str, expected: str) -> None:
    """Fields of the pod are given as the downward API gives them."""
    assert FACTS.field(path) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]"])
async def test_service_url(host: str) -> None:
    """A server that is to listen everywhere listens at its pod's address."""
    env = [{"name": "JUPYTERHUB_SERVICE_URL", "value": f"http://{host}:8888/user/a/"}]
    found = await environment_of({"name": "main", "env": env}, FACTS, read)
    assert found["JUPYTERHUB_SERVICE_URL"] == "http://127.1.2.3:8888/user/a/"


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["serve"]),
        ({"args": ["--debug"]}, ["serve", "--debug"]),
        ({"args": ["other", "$(A)"]}, ["other", "a"]),
        ({"command": ["sh"], "args": ["-c", "echo $(A) $(B) $$(A)"]}, ["sh", "-c", "echo a $(B) $(A)"]),
        ({"command": ["serve", "--ip=0.0.0.0"]}, ["serve", "--ip=127.1.2.3"]),
        ({"command": ["serve", "10.0.0.0.0", "0.0.0.0:80"]}, ["serve", "10.0.0.0.0", "127.1.2.3:80"]),
    ],
)
def test_command(container: Json, expected: list[str]) -> None:
    """The pod's command is run; without one the image's, which gets the pod's options."""
    assert command_of(container, {"A": "a"}, "127.1.2.3", "serve") == expected


async def test_environment_of_a_process(cluster: Cluster, start_kubelet: StartKubelet, monkeypatch: Any) -> None:
    """A program has what its pod says and what an image has; nothing of this process."""
    monkeypatch.setenv("SECRET_OF_THE_HUB", "x")
    kubelet = await start_kubelet(runtime="process")
    env = [
        {"name": "PATH", "value": "/opt/own:/usr/bin:/bin"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    await cluster.pod("one", "env; command -v python", env=env)
    pod = await cluster.wait_phase("one", "Succeeded")
    path = kubelet.log_path(cluster.namespace, "one", "main")
    assert path is not None
    text = path.read_text()
    assert "SECRET_OF_THE_HUB" not in text
    assert f"IP={pod['status']['podIP']}\n" in text
    assert ":/opt/own:/usr/bin:/bin\n" in text
    assert "HOSTNAME=one\n" in text
    assert text.splitlines()[-1].endswith("/bin/python")


async def test_missing_secret_appears(cluster: Cluster, start_kubelet: StartKubelet) -> None:
    """A container whose Secret is missing says so and starts when it appears."""
    kubelet = await start_kubelet(runtime="process")
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "KEY"}}}]
    await cluster.pod("one", "echo $KEY", env=env)
    waiting = await cluster.wait_waiting("one", "CreateContainerConfigError")
    assert waiting["message"] == 'secret "late" not found'
    await cluster.wait_event("one", "Failed", 'Error: secret "late" not found')
    await cluster.create("secrets", "late", stringData={"KEY": "s3cret"})
    await cluster.wait_phase("one", "Succeeded")
    path = kubelet.log_path(cluster.namespace, "one", "main")
    assert path is not None
    assert path.read_text() == "s3cret\n"
