"""Promises of the spawn page and the progress page in a real hub."""

from __future__ import annotations

import asyncio
import html
import json
import re
from pathlib import Path
from typing import Any

import html5lib
import pytest

from profile_spawner.spawner.form import spawn_url

pytestmark = pytest.mark.hub

PROFILES = """
from profile_spawner import BaseAppProfile, ConfigMap, profile_registry


@profile_registry.register
class Small(BaseAppProfile):
    slug = "small"
    display_name = "Small"
    description = "Small"
    image = "small:1"
    profile_options = {{
        "cores": {{"type": "number", "min": 1, "max": 4, "default": 1, "display_name": "Cores"}},
        "branch": {{"type": "text", "pattern": "[a-z]+", "max_length": 20, "display_name": "Branch"}},
    }}


@profile_registry.register
class Lab(BaseAppProfile):
    slug = "lab"
    display_name = "GPU lab"
    description = "A lab"
    image = "lab:1"
    home_dir = "/workspace"
    extra_resource_limits = {{"nvidia.com/gpu": "3"}}
    node_selector = {{"kubernetes.io/hostname": "node-{namespace}"}}

    def get_config_maps(self):
        return [ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd.d/lab")]


@profile_registry.register
class Board(BaseAppProfile):
    slug = "board"
    display_name = "Board room"
    description = "Not for everybody"
    image = "board:1"
    allowed_groups = ["board"]
"""


def parse(text: str) -> Any:
    """Parse as a browser does."""
    return html5lib.parse(text, treebuilder="etree", namespaceHTMLElements=False)


def by_class(page: Any, name: str) -> list[Any]:
    """Return the elements with a class."""
    return [e for e in page.iter() if name in e.get("class", "").split()]


def words(element: Any) -> str:
    """Return an element's text."""
    return " ".join("".join(element.itertext()).split())


@pytest.fixture
async def page_hub(start_local_hub: Any, local_control_plane: Any, tmp_path: Path) -> Any:
    """Start a hub with three profiles, one of which needs three of four GPUs."""

    async def start(config: str = "", **kwargs: Any) -> Any:
        namespace = await local_control_plane.new_namespace("hub")
        profiles = tmp_path / "profiles"
        profiles.mkdir()
        (profiles / "three.py").write_text(PROFILES.format(namespace=namespace))
        config = f"c.ProfileSpawner.profiles_dirs = [{str(profiles)!r}]\n{config}"
        return await start_local_hub(config, namespace=namespace, **kwargs)

    return start


async def test_a_mistake_is_told_once_and_nothing_typed_is_lost(page_hub: Any) -> None:
    """A wrong field gives 400, one summary that leads to the field, the field's own message, and all that was typed."""
    hub = await page_hub()
    browser = await hub.browser("ada")
    form = {
        "profile": "small",
        "profile-option-small--cores": "9",
        "profile-option-small--branch": "main",
    }
    reply = await browser.post("/hub/spawn", form)
    assert reply.status == 400
    page = parse(reply.text)
    assert [e.get("id") for e in by_class(page, "alert")] == ["ps-summary"]
    assert "Error:" not in reply.text
    links = [a.get("href") for e in by_class(page, "ps-summary") for a in e.iter("a")]
    fields = {e.get("id"): e for e in page.iter() if e.get("id")}
    field = fields[links[0].removeprefix("#")]
    assert field.get("value") == "9"
    assert field.get("aria-invalid") == "true"
    described = [words(fields[name]) for name in field.get("aria-describedby").split()]
    assert any("from 1 to 4" in text for text in described)
    assert fields["ps-profile-option-small--branch"].get("value") == "main"
    assert [e.get("value") for e in page.iter("input") if "checked" in e.attrib] == ["small"]
    # It speaks the language in which the user saw the page.
    await browser.get("/hub/spawn", headers={"Accept-Language": "de"})
    reply = await browser.post("/hub/spawn", form)
    assert "„Cores“ muss eine Zahl von 1 bis 4 sein." in reply.text
    # With a named server the page is the same, and its link leads to that server.
    reply = await browser.post("/hub/spawn/ada/second", form)
    assert reply.status == 400
    assert fields.keys() <= {e.get("id") for e in parse(reply.text).iter()}
    assert 'data-link="/hub/spawn/ada/second"' in reply.text
    await browser.close()


@pytest.mark.parametrize(
    ("base_url", "user", "server", "expected"),
    [
        ("/hub/", "", "", "/hub/spawn"),
        ("/under/this/hub/", "", "", "/under/this/hub/spawn"),
        ("/hub/", "ada", "", "/hub/spawn/ada"),
        ("/under/this/hub/", "ada", "my lab/2", "/under/this/hub/spawn/ada/my%20lab%2F2"),
    ],
)
def test_the_link_is_everybodys_where_it_can_be(base_url: str, user: str, server: str, expected: str) -> None:
    """The link for the default server names nobody, so that it can be shared; all are right under any base URL."""
    assert spawn_url(base_url, user, server) == expected


async def test_an_administrator_sees_what_a_user_sees_and_why(page_hub: Any) -> None:
    """An administrator on a user's page is told what the user does not see; the user never is."""
    hub = await page_hub(groups={"board": {"users": ["grace"]}})
    await hub.user("ada")
    root, ada = await hub.browser("root"), await hub.browser("ada")
    seen = await root.get("/hub/spawn/ada")
    assert "You see this page as ada sees it" in seen.text
    assert "Board room (groups: board)" in seen.text
    assert 'value="board"' not in seen.text
    # JupyterHub keeps the administrator's request on ada's spawner: the answer to hers must not be made with it.
    reply = await ada.post("/hub/spawn", {"profile": "small", "profile-option-small--cores": "9"})
    for text in (reply.text, (await ada.get("/hub/spawn")).text):
        assert "You see this page as" not in text
        assert "Board room" not in text
    # The search speaks for the user whose page it is, to whom that may be shown.
    url = re.search(r'data-search-url="([^"]+)"', seen.text)
    assert url is not None
    found = await root.get(html.unescape(url[1]) + "&q=")
    assert found.status == 200
    assert "GPU lab" in found.text
    assert "Board room" not in found.text
    assert (await ada.get("/hub/profile-spawner/profiles?user=root&q=")).status == 404
    for browser in (root, ada):
        await browser.close()


async def test_the_last_choice_is_there_again(page_hub: Any) -> None:
    """What was started last is preselected and filled in; what does not exist any more is said."""
    hub = await page_hub()
    await hub.user("ada")
    reply = await hub.api("POST", "/users/ada/server", {"profile": "small", "cores": 3})
    assert reply.status in (201, 202)
    if reply.status == 202:
        await hub.until_ready("ada")
    await hub.api("DELETE", "/users/ada/server")
    browser = await hub.browser("ada")
    page = parse((await browser.get("/hub/spawn")).text)
    fields = {e.get("id"): e for e in page.iter() if e.get("id")}
    assert fields["ps-profile-option-small--cores"].get("value") == "3"
    assert [e.get("value") for e in page.iter("input") if "checked" in e.attrib] == ["small"]
    await browser.close()


async def test_free_gpus_are_counted_in_the_background(page_hub: Any) -> None:
    """The page says how many GPUs are free on the nodes in question, and that a server would have to wait."""
    hub = await page_hub("c.ProfileSpawner.capacity_interval = 0.2")
    browser = await hub.browser("ada")

    async def until(pattern: str) -> str:
        for _ in range(200):
            text = (await browser.get("/hub/spawn")).text
            said = [words(e) for e in by_class(parse(text), "ps-availability")]
            if any(re.search(pattern, s) for s in said):
                return text
            await asyncio.sleep(0.05)  # the hub reads by itself; another process has no event to wait for
        raise AssertionError(f"{pattern} was never said: {said}")

    await until(r"4 of 4 free, \d+ s ago\.$")
    await hub.user("ada")
    reply = await hub.api("POST", "/users/ada/server", {"profile": "lab"})
    if reply.status == 202:
        await hub.until_ready("ada")
    browser2 = await hub.browser("bob")
    browser, first = browser2, browser
    await until(r"1 of 4 free, .*would wait")
    for opened in (first, browser2):
        await opened.close()


async def test_without_the_right_to_know_nothing_is_claimed(page_hub: Any, local_control_plane: Any) -> None:
    """A hub that may not list nodes shows the page as ever, and says so once in its log."""
    hub = await page_hub("c.ProfileSpawner.capacity_interval = 5", kube_user="nobody-in-particular")
    browser = await hub.browser("ada")
    for _ in range(5):
        page = await browser.get("/hub/spawn")
        assert page.status == 200
        assert not by_class(parse(page.text), "ps-availability")
        await asyncio.sleep(0.1)  # nothing is going to happen, which no event announces
    assert hub.log.count("cannot say how many GPUs are free") == 1
    await browser.close()


BROKEN = """
import pathlib
folder = pathlib.Path({folder!r})
(folder / "profile_spawner").mkdir(parents=True)
(folder / "profile_spawner" / "form.html").write_text({template!r})
c.ProfileSpawner.page_template_paths = [str(folder)]
"""


@pytest.mark.parametrize(
    "template", ["{% extends 'shipped/nothing.html' %}", "{% if %}", "{{ request.no.such.thing }}"]
)
async def test_a_broken_template_is_not_the_users_problem(page_hub: Any, tmp_path: Path, template: str) -> None:
    """The shipped page is shown instead; the log and administrators are told."""
    hub = await page_hub(BROKEN.format(folder=str(tmp_path / "own"), template=template))
    root, ada = await hub.browser("root"), await hub.browser("ada")
    page = await ada.get("/hub/spawn")
    assert page.status == 200
    assert "GPU lab" in page.text
    assert "template of your own" not in page.text
    assert "A template of your own fails" in (await root.get("/hub/spawn")).text
    assert hub.log.count("A template in page_template_paths fails") == 1
    for browser in (root, ada):
        await browser.close()


async def test_a_broken_kubespawner_template_is_not_the_users_problem(page_hub: Any) -> None:
    """A `profile_form_template` that cannot be rendered gives way to the shipped page."""
    hub = await page_hub(
        "c.KubeSpawner.profile_form_template = '{% for p in profile_list %}{{ p.no.such }}{% endfor %}'"
    )
    browser = await hub.browser("ada")
    page = await browser.get("/hub/spawn")
    assert page.status == 200
    assert by_class(parse(page.text), "ps-card")
    assert "configured template of the form fails" in hub.log
    await browser.close()


@pytest.mark.parametrize("how", ["text", "folder"])
async def test_kubespawner_templates_still_work(page_hub: Any, tmp_path: Path, how: str) -> None:
    """`profile_form_template` and `additional_profile_form_template_paths` work as ever."""
    template = "<p>mine</p>{% for p in profile_list %}<i>{{ p.slug }}: {{ p.display_name }}</i>{% endfor %}"
    (tmp_path / "form.html").write_text(template)
    setting = {
        "text": f"c.KubeSpawner.profile_form_template = {template!r}",
        "folder": f"c.KubeSpawner.additional_profile_form_template_paths = [{str(tmp_path)!r}]",
    }
    hub = await page_hub(setting[how])
    browser = await hub.browser("ada")
    page = await browser.get("/hub/spawn")
    assert "<p>mine</p><i>small: Small</i><i>lab: GPU lab</i>" in page.text
    reply = await browser.post("/hub/spawn", {"profile": "small", "profile-option-small--cores": "9"})
    assert reply.status == 400
    assert "“Cores” must be a number from 1 to 4." in html.unescape(reply.text)
    await browser.close()


async def test_progress_is_told_in_plain_words(page_hub: Any) -> None:
    """First the profile's own steps, then Kubernetes' events in words; at the end what happened and what to try."""
    hub = await page_hub("c.KubeSpawner.start_timeout = 4\nc.JupyterHub.tornado_settings = {'slow_spawn_timeout': 0}")
    for name in ("ada", "bob"):
        await hub.user(name)
    reply = await hub.api("POST", "/users/ada/server", {"profile": "lab"})
    assert reply.status in (201, 202)
    events = (await hub.until_ready("ada"))["events"]
    said = [e.get("message", "") for e in events]
    assert said[1] == "Preparing files for GPU lab"
    # Three of four GPUs are taken: bob's server has to wait until it is given up.
    reply = await hub.api("POST", "/users/bob/server", {"profile": "lab"})
    assert reply.status == 202, reply.text
    events = await progress_of(hub, "bob")
    said = [e.get("message", "") for e in events]
    assert "Waiting for a free GPU." in said
    waiting = next(e for e in events if e.get("message") == "Waiting for a free GPU.")
    assert "FailedScheduling" in waiting["html_message"]
    assert "Insufficient nvidia.com/gpu" in waiting["html_message"]
    assert events[-1]["failed"]
    assert "did not start within 4 seconds" in said[-1]
    assert "Choose a smaller profile" in said[-1]
    # The page after the failure says the same.
    bob = await hub.browser("bob")
    assert "Choose a smaller profile" in (await bob.get("/hub/spawn-pending/bob")).text
    await bob.close()
    assert hub.alive


async def progress_of(hub: Any, user: str) -> list[dict[str, Any]]:
    """Return all progress events of a start, until its end."""
    events = []
    headers = {"Authorization": f"token {hub.token}"}
    async with hub._session.get(f"{hub.url}/hub/api/users/{user}/server/progress", headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data:"):
                events.append(json.loads(line[5:]))
    return events


async def test_fancy_profiles_can_be_used_instead(page_hub: Any) -> None:
    """jupyterhub-fancy-profiles gets the profiles as JSON in upstream's shape, and its form is read."""
    pytest.importorskip("jupyterhub_fancy_profiles", reason="needs jupyterhub-fancy-profiles")
    hub = await page_hub("from jupyterhub_fancy_profiles import setup_ui\nsetup_ui(c)")
    browser = await hub.browser("ada")
    page = (await browser.get("/hub/spawn")).text
    listed = re.search(r"window\.profileList = (\[.*\]);", page)
    assert listed is not None
    profiles = json.loads(listed[1])
    assert [p["slug"] for p in profiles] == ["small", "lab"]
    assert (await browser.get("/hub/fancy-profiles/static/dist/form.js")).status == 200
    reply = await browser.post("/hub/spawn", {"profile": "small", "profile-option-small--cores": "2"})
    assert reply.status == 302, reply.text
    assert (await hub.server("ada") or {})["user_options"] == {"profile": "small", "cores": 2}
    await browser.close()
