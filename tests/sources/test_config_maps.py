"""ConfigMaps as a source: on the local cluster and on a real API server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import yaml
from kubernetes_asyncio.client import ApiClient, Configuration

from profile_spawner.errors import ProfileWarning
from profile_spawner.kube.rbac import document_rules
from profile_spawner.migrate.dumping import class_of
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.sources.config_maps import ConfigMapDocuments
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.source_items import LoadSession
from tests.control_plane import ControlPlane
from tests.fault_proxy import Fault, FaultProxy
from tests.sources.conftest import CHART_VALUES, service_of
from tests.sources.test_reloader import until

USER = "system:serviceaccount:hub:hub"
RULES = document_rules([("ConfigMap", "")])
VALUES = "\n" + CHART_VALUES.format(image="example/custom:{version}")


def config_map(name: str, data: dict[str, str], *, labelled: bool = True) -> dict[str, Any]:
    """Return a ConfigMap."""
    labels = {"profile-spawner": "profiles"} if labelled else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


@pytest_asyncio.fixture(loop_scope="session")
async def make(
    control_plane: ControlPlane, namespace: str, proxy: FaultProxy
) -> AsyncIterator[Callable[..., ProfileService]]:
    """Return a function that makes services with the hub's small rights."""
    services = []
    clients = []

    async def api_client() -> ApiClient:
        configuration = Configuration(host=proxy.url)
        configuration.api_key = {"BearerToken": f"Bearer {control_plane.token_for(USER)}"}
        clients.append(ApiClient(configuration))
        return clients[-1]

    def made(**settings: Any) -> ProfileService:
        values = {
            "profile_config_maps": "profile-spawner=profiles",
            "profile_config_maps_namespace": namespace,
            "watch_profiles": True,
            **settings,
        }
        services.append(service_of(**values, api_client=api_client, settle=0.2))
        return services[-1]

    yield made
    for service in services:
        await service.stop()
    for client in clients:
        await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def path(control_plane: ControlPlane, namespace: str) -> str:
    """Return the path of the namespace's ConfigMaps, after the hub was given its rights."""
    await control_plane.grant(namespace, USER, RULES)
    return f"/api/v1/namespaces/{namespace}/configmaps"


async def test_created_edited_broken_mended_deleted(
    control_plane: ControlPlane, path: str, make: Callable[..., ProfileService]
) -> None:
    """A ConfigMap with values of the chart: every edit is live at once, and a mistake takes nothing away.

    What belongs to a server is never a source, even if its profile gave it the label of the sources.
    """
    pods = path.removesuffix("configmaps") + "pods"
    pod = {"metadata": {"name": "jupyter-ada"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    uid = (await control_plane.ok("POST", pods, pod))["metadata"]["uid"]
    of_servers = [config_map(name, {"a.yaml": "[{slug: theirs, image: i}]"}) for name in ("owned", "kept")]
    of_servers[0]["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Pod", "name": "jupyter-ada", "uid": uid}
    ]
    of_servers[1]["metadata"]["labels"]["profile-spawner/hub"] = "hub-a"
    for body in of_servers:
        await control_plane.ok("POST", path, body)
    await control_plane.ok("POST", path, config_map("jhub", {"values.yaml": VALUES.format(version=1)}))
    await control_plane.ok("POST", path, config_map("other", {"x.yaml": "[]"}, labelled=False))
    service = make()
    await service.start()
    assert not service.problems
    assert list(service.snapshot.entries) == ["default-environment", "default-environment-python-3-8"]
    assert str(service.snapshot.entries["default-environment"].origin) == "configmap/jhub/values.yaml:4"

    def image() -> Any:
        return service.snapshot.entries["default-environment-python-3-8"].effective["image"]

    await control_plane.ok("PUT", f"{path}/jhub", config_map("jhub", {"values.yaml": VALUES.format(version=2)}))
    await until(lambda: image() == "example/custom:2")
    broken = VALUES.format(version=3).replace("description:", "description")
    await control_plane.ok("PUT", f"{path}/jhub", config_map("jhub", {"values.yaml": broken}))
    await until(lambda: service.problems)
    assert "configmap/jhub/values.yaml:6" in str(service.problems[0])
    assert image() == "example/custom:2"
    await control_plane.ok("PUT", f"{path}/jhub", config_map("jhub", {"values.yaml": VALUES.format(version=4)}))
    await until(lambda: not service.problems)
    assert image() == "example/custom:4"
    text = "[{slug: more, display_name: More, image: i}]"
    await control_plane.ok("POST", path, config_map("more", {"doc.yaml": text, "README": "x"}))
    await until(lambda: "more" in service.snapshot.entries)
    await control_plane.ok("DELETE", f"{path}/jhub")
    await until(lambda: list(service.snapshot.entries) == ["more"])
    # Without any ConfigMap, administrators read why there is no profile.
    await control_plane.ok("DELETE", f"{path}/more")
    await until(lambda: not len(service.snapshot) and service.problems)
    (warning,) = service.problems
    assert isinstance(warning, ProfileWarning)
    text = "profile_config_maps: the selector 'profile-spawner=profiles' matches 0 ConfigMaps in namespace"
    assert str(warning).startswith(text)
    await control_plane.ok("POST", path, config_map("more", {"doc.yaml": "[{slug: m, display_name: M, image: i}]"}))
    await until(lambda: "m" in service.snapshot.entries and not service.problems)


async def test_what_is_refused_is_told_on_the_config_map(
    control_plane: ControlPlane, path: str, namespace: str, make: Callable[..., ProfileService]
) -> None:
    """`kubectl describe configmap` shows why a ConfigMap was refused, and that it is fine again."""
    bad = "[{slug: a, display_name: A, image: i, service_account: admin}]"
    await control_plane.ok("POST", path, config_map("bad", {"doc.yaml": bad}))
    service = make()
    await service.start()
    assert ["may not name this service account" in str(p) for p in service.problems] == [True]

    async def events(reason: str, count: int) -> list[dict[str, Any]]:
        """Wait for an Event that happened so many times; return all of the reason."""
        for _ in range(400):
            found = await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/events")
            kept = [e for e in found["items"] if e["involvedObject"]["name"] == "bad" and e["reason"] == reason]
            if any(e["count"] == count for e in kept):
                return kept
            await asyncio.sleep(0.02)
        raise AssertionError(f"no {reason} {count} times")

    (event,) = await events("ProfilesRejected", 1)
    assert "configmap/bad/doc.yaml:1" in event["message"]
    assert "service_account" in event["message"]
    good = "[{slug: a, display_name: A, image: i}]"
    await control_plane.ok("PUT", f"{path}/bad", config_map("bad", {"doc.yaml": good}))
    assert len(await events("ProfilesLoaded", 1)) == 1
    # It goes to and fro: no further Events, but higher counts. An Event that is gone is created again.
    await control_plane.ok("PUT", f"{path}/bad", config_map("bad", {"doc.yaml": bad}))
    (event,) = await events("ProfilesRejected", 2)
    await control_plane.ok("DELETE", f"/api/v1/namespaces/{namespace}/events/{event['metadata']['name']}")
    await control_plane.ok("PUT", f"{path}/bad", config_map("bad", {"doc.yaml": good}))
    assert len(await events("ProfilesLoaded", 2)) == 1
    await control_plane.ok("PUT", f"{path}/bad", config_map("bad", {"doc.yaml": bad}))
    assert len(await events("ProfilesRejected", 1)) == 1


async def test_an_event_that_was_not_allowed_is_created_when_it_is(
    control_plane: ControlPlane, namespace: str, make: Callable[..., ProfileService]
) -> None:
    """A hub without the right to create Events tries again at the next reload."""
    await control_plane.grant(namespace, USER, RULES[:1])
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await control_plane.ok("POST", path, config_map("bad", {"doc.yaml": "["}))
    service = make(watch_profiles=False)
    await service.start()
    await asyncio.gather(*service._tasks)
    await control_plane.grant(namespace, USER, RULES[1:])
    await service.reload()
    await asyncio.gather(*service._tasks)
    found = await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/events")
    assert [e["reason"] for e in found["items"]] == ["ProfilesRejected"]


async def test_files_from_other_keys(
    control_plane: ControlPlane, path: str, make: Callable[..., ProfileService]
) -> None:
    """A document may use the other keys of its ConfigMap as files."""
    text = "[{slug: a, display_name: A, image: i, files: [{mount_path: /etc/x, path: x.conf}]}]"
    await control_plane.ok("POST", path, config_map("files", {"doc.yaml": text, "x.conf": "hello"}))
    service = make()
    snapshot = await service.ready()
    assert not service.problems
    profile = class_of(snapshot.entries["a"])
    assert [c.content for c in profile().get_config_maps()] == ["hello"]


async def test_without_the_right_the_others_are_served(
    control_plane: ControlPlane, namespace: str, make: Callable[..., ProfileService]
) -> None:
    """A hub that may not list ConfigMaps says so, serves its other profiles, and recovers when it may."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await control_plane.ok("POST", path, config_map("a", {"doc.yaml": "[{slug: a, display_name: A, image: i}]"}))
    service = make(builtin_profiles=("jupyterlab_small",))
    await service.start()
    assert list(service.snapshot.entries) == ["jupyterlab_small"]
    assert "right to list and watch ConfigMaps" in str(service.problems[0])
    await control_plane.grant(namespace, USER, RULES)
    await until(lambda: "a" in service.snapshot.entries and not service.problems, timeout=60)


async def test_lost_events_are_made_up_for(
    control_plane: ControlPlane, path: str, proxy: FaultProxy, make: Callable[..., ProfileService]
) -> None:
    """When the API server has forgotten the version, or is away, everything is listed again, and nothing is missed."""
    first = "[{slug: a, display_name: A, image: 'i:1'}]"
    await control_plane.ok("POST", path, config_map("a", {"doc.yaml": first}))
    service = make()
    await service.ready()
    (source,) = service._sources
    assert isinstance(source, ConfigMapDocuments)
    (watch,) = source._watches.values()
    watch._version = "1"  # long forgotten
    second = "[{slug: a, display_name: A, image: 'i:2'}]"
    await control_plane.ok("PUT", f"{path}/a", config_map("a", {"doc.yaml": second}))
    await service.start()
    await until(lambda: service.snapshot.entries["a"].effective["image"] == "i:2")
    proxy.faults.append(Fault(methods=("GET",), path="configmaps", status=410, body={"code": 410}))
    proxy.faults.append(Fault(methods=("GET",), path="configmaps", status=500, times=2))
    proxy.hang_up()
    third = "[{slug: a, display_name: A, image: 'i:3'}]"
    await control_plane.ok("PUT", f"{path}/a", config_map("a", {"doc.yaml": third}))
    await until(lambda: service.snapshot.entries["a"].effective["image"] == "i:3")
    assert not any(f.times for f in proxy.faults)
    await until(lambda: not service.problems)


async def test_a_reload_by_hand_lists_again(
    control_plane: ControlPlane, path: str, make: Callable[..., ProfileService]
) -> None:
    """Without watching, a reload by hand reads the ConfigMaps."""
    service = make(watch_profiles=False)
    await service.start()
    assert not len(service.snapshot)
    assert "matches 0 ConfigMaps" in str(service.problems[0])
    await control_plane.ok("POST", path, config_map("a", {"doc.yaml": "[{slug: a, display_name: A, image: i}]"}))
    report = await service.reload()
    assert [str(c) for c in report.changes] == ["a"]


async def test_a_config_map_without_a_document(
    control_plane: ControlPlane, path: str, make: Callable[..., ProfileService]
) -> None:
    """A ConfigMap that carries the label but no document is told, and hurts nobody."""
    await control_plane.ok("POST", path, config_map("empty", {"README": "x"}))
    service = make()
    await service.ready()
    assert ["configmap/empty" in str(p) and ".yaml" in str(p) for p in service.problems] == [True]


SEED = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: jhub-profiles
data:
  values.yaml: |
""" + textwrap.indent(CHART_VALUES.format(image="<custom-image>"), "    ")


async def test_config_maps_by_name_need_no_label_and_few_rights(
    control_plane: ControlPlane, namespace: str, make: Callable[..., ProfileService]
) -> None:
    """A ConfigMap as GitOps documents show it, with the right to watch only this one; a missing one is reported."""
    await control_plane.grant(namespace, USER, document_rules([("ConfigMap", "jhub-profiles")]))
    service = make(profile_config_maps="", profile_config_map_names=["jhub-profiles"])
    await service.start()
    (warning,) = service.problems
    assert isinstance(warning, ProfileWarning)
    assert f"there is no ConfigMap 'jhub-profiles' in namespace {namespace}" in str(warning)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await control_plane.ok("POST", path, yaml.safe_load(SEED))
    slugs = ["default-environment", "default-environment-python-3-8"]
    await until(lambda: list(service.snapshot.entries) == slugs)
    assert not any("there is no" in str(p) for p in service.problems)
    await control_plane.ok("DELETE", f"{path}/jhub-profiles")
    await until(lambda: not len(service.snapshot))
    assert "there is no ConfigMap" in str(service.problems[0])


@pytest.mark.parametrize(
    ("selector", "found"), [("team in (a, b),!hidden", ["one", "two"]), ("team", ["one", "two", "three", "four"])]
)
async def test_any_label_selector(
    control_plane: ControlPlane, path: str, make: Callable[..., ProfileService], selector: str, found: list[str]
) -> None:
    """Selectors are those of Kubernetes. A ConfigMap that is selected twice is loaded once."""
    labels = [{"team": "a"}, {"team": "b"}, {"team": "c"}, {"team": "a", "hidden": ""}, {"other": "a"}]
    for name, its in zip(("one", "two", "three", "four", "five"), labels, strict=True):
        body = config_map(name, {"doc.yaml": f"[{{slug: {name}, display_name: X, image: i}}]"})
        body["metadata"]["labels"] = its
        await control_plane.ok("POST", path, body)
    service = make(profile_config_maps=selector, profile_config_map_names=["one"])
    await service.ready()
    assert not service.problems
    assert set(service.snapshot.entries) == set(found)


def encoded(text: str | bytes) -> str:
    """Return what the API server has of a binary value."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def test_binary_data_is_read_or_reported() -> None:
    """YAML in `binaryData` is a document like any other. What is no text is reported, and the other keys are used."""
    profile = "[{slug: %s, display_name: X, image: i, files: [{mount_path: /x, path: %s}]}]"
    binary = {"b.yaml": encoded(profile % ("b", "file")), "file": encoded("hello"), "zipped": encoded(b"\xff\xfe\x00")}
    source = ConfigMapDocuments("ns", DataPolicy())
    texts = {"a.yaml": profile % ("a", "file"), "d.yaml": profile % ("d", "zipped")}
    binary["c.yaml"] = encoded(gzip.compress(b"[]"))
    source.objects = {"configmap/x": ("ConfigMap", {"data": texts, "binaryData": binary})}
    (item,) = source.scan({}, full=True)
    loaded = source.loader([item], LoadSession({}, ()))(item)
    assert set(loaded.collector.profiles) == {"a", "b"}
    assert sorted(p.message for p in loaded.problems) == [
        "the content of configmap/x/c.yaml is not text in UTF-8",
        "the content of configmap/x/zipped is not text in UTF-8",
    ]


async def test_secrets_are_a_source_and_stay_secret(
    control_plane: ControlPlane, namespace: str, make: Callable[..., ProfileService], caplog: pytest.LogCaptureFixture
) -> None:
    """Values of Helm in a Secret: messages and Events about them have only the key and the line."""
    await control_plane.grant(namespace, USER, document_rules([("Secret", "values")]))
    good = "hub: {config: {password: canary}}\nsingleuser:\n  profileList:\n  - {display_name: A, slug: a}\n"
    body: dict[str, Any] = {"metadata": {"name": "values"}, "data": {"values.yaml": encoded(good)}}
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    await control_plane.ok("POST", secrets, body)
    service = make(profile_config_maps="", profile_secret_names=["values"])
    await service.start()
    assert not service.problems
    assert list(service.snapshot.entries) == ["a"]
    mistakes = (
        good + "canary",
        "[{slug: b, display_name: B, image: i, service_account: canary}]",
        "[{slug: b, display_name: B, image: 'i:{{ canary/x }}'}]",
        "params: {p/a: {schema: {type: integer}, default: canary}}",
    )
    for text in mistakes:
        body["data"]["values.yaml"] = encoded(text)
        await control_plane.ok("PUT", f"{secrets}/values", body)
        before = service.problems
        await until(lambda: service.problems and service.problems != before)  # noqa: B023 - it is called at once
        assert all(str(p).startswith("Secret values/values.yaml") for p in service.problems)
        assert "a" in service.snapshot.entries
    for _ in range(400):
        events = (await control_plane.ok("GET", f"/api/v1/namespaces/{namespace}/events"))["items"]
        if events:
            break
        await asyncio.sleep(0.02)
    assert events
    assert {e["involvedObject"]["kind"] for e in events} == {"Secret"}
    assert "canary" not in str([e["message"] for e in events]) + caplog.text
