"""What administrators do to ConfigMaps while a hub runs: page, administrators' page, log and Events say the truth."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.control_plane import ControlPlane
from tests.hub import HubBrowser, HubUnderTest, start_hub
from tests.sources.conftest import CHART_VALUES

pytestmark = [pytest.mark.hub]

SEED = CHART_VALUES.format(image="example/custom:1")
TWO = "profiles:\n  - {slug: one, display_name: One, image: 'a:1'}\n  - {slug: two, display_name: Two, image: 'a:1'}\n"
PARAMS = "params: {lab/n: {schema: {type: integer}, default: 1}}\n"
USER = "slug: user\ndisplay_name: User\nimage: a:1\ncpu_limit: {$param: lab/n}\n"
BOTH = {"Default environment", "Default environment - python 3.8"}


@dataclass
class Step:
    """One step.

    Attributes:
        does: What the step shows.
        write: Texts of ConfigMaps by name; `None` deletes one.
        titles: The titles that users see afterwards.
        notices: Patterns of what administrators read on the page and in the log; empty for none.
        event: The ConfigMap that has an Event afterwards, and the Event's reason.
    """

    does: str
    write: Mapping[str, str | None]
    titles: set[str]
    notices: Sequence[str] = ()
    event: tuple[str, str] | None = None


STEPS = [
    Step("a ConfigMap without a label is selected by its name", {"jhub-profiles": SEED}, BOTH),
    Step(
        "a misspelt list is an error and takes nothing away",
        {"jhub-profiles": SEED.replace("profileList", "profilelist")},
        BOTH,
        [r"jhub-profiles/values\.yaml:\d: .*profileList"],
        ("jhub-profiles", "ProfilesRejected"),
    ),
    Step(
        "a list that is empty by accident as well",
        {"jhub-profiles": "singleuser:\n  profileList:\n"},
        BOTH,
        [r"jhub-profiles/values\.yaml:\d: .*profileList"],
    ),
    Step("an empty text as well", {"jhub-profiles": ""}, BOTH, [r"jhub-profiles"]),
    Step(
        "a misspelt key is a warning, and the new content is served",
        {"jhub-profiles": SEED.replace("kubespawner_override", "kubespawner_overide")},
        BOTH,
        [r"jhub-profiles/values\.yaml:8: .*kubespawner_overide.*did you mean 'kubespawner_override'"],
    ),
    Step("corrected", {"jhub-profiles": SEED}, BOTH, (), ("jhub-profiles", "ProfilesLoaded")),
    Step(
        "several at once, one of them with a broken profile",
        {"a": TWO.replace("Two, image", "Two, imagee"), "params": PARAMS, "user": USER},
        {*BOTH, "One", "User"},
        [r"configmap/a/d\.yaml:3: profile 'two': image"],
        ("a", "ProfilesRejected"),
    ),
    Step("the broken one is corrected", {"a": TWO}, {*BOTH, "One", "Two", "User"}),
    Step(
        "one profile is broken, the other changes, and nothing is removed",
        {"a": TWO.replace("Two, image", "Two, imagee").replace("display_name: One", "display_name: First")},
        {*BOTH, "First", "Two", "User"},
        [r"configmap/a/d\.yaml:3: profile 'two': image"],
    ),
    Step("corrected again", {"a": TWO}, {*BOTH, "One", "Two", "User"}),
    Step(
        "a definition that is in use is not removed",
        {"params": None},
        {*BOTH, "One", "Two", "User"},
        [r"configmap/params/d\.yaml:1: param lab/n: was removed, but is in use by user"],
    ),
    Step(
        "a value that does not fit keeps the last good profile",
        {"params": PARAMS, "user": USER + "params: {lab/n: [5]}\n"},
        {*BOTH, "One", "Two", "User"},
        [r"configmap/user/d\.yaml:5: .*lab/n: .*\[5\]"],
        ("user", "ProfilesRejected"),
    ),
    Step("corrected once more", {"user": USER}, {*BOTH, "One", "Two", "User"}),
    Step(
        "a slug that is used twice names both places",
        {"b": "slug: two\ndisplay_name: Other\nimage: a:1\n"},
        {*BOTH, "One", "Two", "User"},
        [r"configmap/b/d\.yaml:1: .*first at configmap/a/d\.yaml:3"],
        ("b", "ProfilesRejected"),
    ),
    Step("deleted together with what used it", {"b": None, "params": None, "user": None}, {*BOTH, "One", "Two"}),
    Step("only an explicit list clears", {"a": "profiles: []\n"}, BOTH),
]  # fmt: skip


class Cluster:
    """The ConfigMaps of a namespace."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self._path = f"/api/v1/namespaces/{namespace}"
        self._present: set[str] = set()

    async def write(self, name: str, text: str | None) -> None:
        """Create, replace or delete a ConfigMap."""
        path = f"{self._path}/configmaps"
        if text is None:
            await self._plane.ok("DELETE", f"{path}/{name}")
            self._present.discard(name)
            return
        seed = name == "jhub-profiles"
        labels = {} if seed else {"profile-spawner": "profiles"}
        data = {"values.yaml" if seed else "d.yaml": text}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}
        if name in self._present:
            await self._plane.ok("PUT", f"{path}/{name}", body)
        else:
            await self._plane.ok("POST", path, body)
        self._present.add(name)

    async def events(self) -> set[tuple[str, str]]:
        """Return the names of ConfigMaps with Events, and their reasons."""
        items = (await self._plane.ok("GET", f"{self._path}/events"))["items"]
        return {(item["involvedObject"]["name"], item["reason"]) for item in items}


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds; the pages and the API server are the only witnesses."""
    seen = None
    for _ in range(300):
        seen = await condition()
        if seen is True:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what}: {seen}")


def titles_on(page: str) -> set[str]:
    """Return the titles of the cards."""
    return {html.unescape(title) for title in re.findall(r'data-title="([^"]*)"', page)}


def notices_on(page: str) -> str:
    """Return the text of the page without markup."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


@pytest_asyncio.fixture(loop_scope="session")
async def hub(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[HubUnderTest]:
    """Return a hub that watches the ConfigMaps of its namespace."""
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", namespace=namespace)
    config = (
        "c.ProfileSpawner.profile_config_maps = 'profile-spawner=profiles'\n"
        "c.ProfileSpawner.profile_config_map_names = ['jhub-profiles']\n"
        f"c.ProfileSpawner.profile_config_maps_namespace = {namespace!r}\n"
    )
    started = await start_hub(tmp_path / "hub", kubeconfig, namespace, config)
    yield started
    await started.close()


@pytest.mark.parametrize("control_plane", ["local", "real"], indirect=True)
async def test_page_notices_log_and_events_say_what_happened(
    control_plane: ControlPlane, namespace: str, hub: HubUnderTest
) -> None:
    """After each step, on the local cluster and on a real API server."""
    cluster = Cluster(control_plane, namespace)
    ada, root = await hub.browser("ada"), await hub.browser("root")
    try:
        for step in STEPS:
            logged = len(hub.log)
            for name, text in step.write.items():
                await cluster.write(name, text)
            await _shown(step, hub, ada, root, cluster, logged)
    finally:
        await ada.close()
        await root.close()


async def _shown(
    step: Step, hub: HubUnderTest, ada: HubBrowser, root: HubBrowser, cluster: Cluster, logged: int
) -> None:
    async def users_see() -> Any:
        found = titles_on((await ada.get("/hub/spawn")).text)
        return found == step.titles or found

    async def administrators_read() -> Any:
        text = notices_on((await root.get("/hub/spawn")).text)
        found = [n for n in step.notices if not re.search(n, text) or not re.search(n, hub.log[logged:])]
        return (not found and (bool(step.notices) or "configmap/" not in text)) or (found, text)

    async def event_is_there() -> Any:
        found = await cluster.events()
        return step.event is None or step.event in found or found

    await until(administrators_read, f"{step.does}: administrators read")
    await until(users_see, f"{step.does}: users see")
    await until(event_is_there, f"{step.does}: Events")
    page = notices_on((await ada.get("/hub/spawn")).text)
    assert "configmap/" not in page, step.does
    assert ".yaml" not in page, step.does
