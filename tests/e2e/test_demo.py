"""The demo as its user sees it: one command, a browser, a file dropped into a folder, Ctrl-C."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from profile_spawner.demo.cluster.cluster import LocalCluster
from tests.documentation import readme_profile
from tests.sources.test_configurator import SEED

pytestmark = [pytest.mark.hub, pytest.mark.xdist_group("demo")]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("profile-spawner")
ARTIFACTS = ROOT / "artifacts"
PATIENCE = 60.0
"""Seconds after which a test gives up waiting; nothing is expected to take a tenth of it."""


@dataclass
class Demo:
    """A running demo.

    Attributes:
        process: The process.
        info: What the info file says.
        state_dir: The state folder.
        printed: All lines that it has printed so far.
    """

    process: asyncio.subprocess.Process
    info: dict[str, Any]
    state_dir: Path
    printed: list[str]
    reader: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The hub's address, with a slash at its end."""
        return str(self.info["url"])

    def user(self, name: str) -> dict[str, Any]:
        """Return name, password, groups and admin flag of a user."""
        return next(u for u in self.info["users"] if u["name"] == name)

    @property
    def profiles(self) -> Path:
        """The folder with profiles."""
        return self.state_dir / "profiles"


async def start_demo(folder: Path, *options: str) -> Demo:
    """Start the demo as a user would, and return when it says that it is ready."""
    state, info = folder / "state", folder / "info.json"
    argv = [str(PROGRAM), "demo", "--port", "0", "--state-dir", str(state), "--info-file", str(info), *options]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    printed: list[str] = []
    while not any("Ctrl-C stops everything" in line for line in printed):
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        assert line, f"The demo ended: {''.join(printed)}"
        printed.append(line.decode())
    demo = Demo(process, json.loads(info.read_text()), state, printed)
    demo.reader = asyncio.create_task(_read_on(process.stdout, printed))
    return demo


async def _read_on(stream: asyncio.StreamReader, printed: list[str]) -> None:
    """Keep reading: a program whose output nobody reads stands still."""
    async for line in stream:
        printed.append(line.decode())


async def stop_demo(demo: Demo, number: int = signal.SIGINT) -> int:
    """Stop the demo as Ctrl-C does and return its exit code."""
    if demo.process.returncode is None:
        demo.process.send_signal(number)
    await asyncio.wait_for(demo.process.wait(), PATIENCE)
    if demo.reader is not None:
        await asyncio.wait_for(demo.reader, PATIENCE)
    assert demo.process.returncode is not None
    assert "Traceback" not in "".join(demo.printed)
    return demo.process.returncode


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """One demo for all tests that do not stop it."""
    running = await start_demo(tmp_path_factory.mktemp("demo"), "--config-maps")
    try:
        yield running
    finally:
        assert await stop_demo(running, signal.SIGTERM) == 0
        ARTIFACTS.mkdir(exist_ok=True)
        (ARTIFACTS / "demo.txt").write_text("".join(running.printed))


class Cluster:
    """The demo's cluster, as its kubeconfig shows it."""

    def __init__(self, demo: Demo) -> None:
        config = json.loads(Path(demo.info["kubeconfig"]).read_text())
        target = config["clusters"][0]["cluster"]
        self.server = target["server"]
        self.namespace = config["contexts"][0]["context"]["namespace"]
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        trusted = ssl.create_default_context(cadata=base64.b64decode(target["certificate-authority-data"]).decode())
        self.session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=trusted))

    async def items(self, plural: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        async with self.session.get(f"{self.server}/api/v1/namespaces/{self.namespace}/{plural}") as answer:
            assert answer.status == 200, await answer.text()
            return list((await answer.json())["items"])

    async def create(self, plural: str, body: dict[str, Any]) -> None:
        """Create an object."""
        url = f"{self.server}/api/v1/namespaces/{self.namespace}/{plural}"
        async with self.session.post(url, json=body) as answer:
            assert answer.status == 201, await answer.text()

    async def until_empty(self, plural: str) -> None:
        """Wait until no object of a kind is left."""
        await asyncio.wait_for(self._until_empty(plural), PATIENCE)

    async def _until_empty(self, plural: str) -> None:
        url = f"{self.server}/api/v1/namespaces/{self.namespace}/{plural}"
        while True:
            async with self.session.get(url) as answer:
                listed = await answer.json()
            if not listed["items"]:
                return
            query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": "5"}
            async with self.session.get(url, params=query) as events:
                await events.content.readline()


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(demo: Demo) -> AsyncIterator[Cluster]:
    """The demo's cluster."""
    found = Cluster(demo)
    yield found
    await found.session.close()


class Client:
    """A user without a browser."""

    def __init__(self, demo: Demo, name: str) -> None:
        self.demo = demo
        self.name = name
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Client:
        form = {"username": self.name, "password": self.demo.user(self.name)["password"]}
        async with self.session.get(f"{self.demo.url}hub/login"):
            pass
        async with self.session.post(f"{self.demo.url}hub/login", data=form, params=self.xsrf()) as answer:
            assert answer.status == 200
            assert "/hub/login" not in str(answer.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def xsrf(self, path: str = "hub/") -> dict[str, str]:
        """Return what a form must send along."""
        cookies = self.session.cookie_jar.filter_cookies(URL(self.demo.url + path))
        return {"_xsrf": cookies["_xsrf"].value} if "_xsrf" in cookies else {}

    async def start(self, slug: str) -> list[str]:
        """Start a server, wait until the hub says that it is ready, and return what the progress bar said."""
        told: list[str] = []
        async with self.session.get(f"{self.demo.url}hub/spawn"):
            pass
        async with self.session.post(f"{self.demo.url}hub/spawn", data={"profile": slug}, params=self.xsrf()) as page:
            assert page.status == 200, await page.text()
        progress = f"{self.demo.url}hub/api/users/{self.name}/server/progress"
        headers = {"Referer": f"{self.demo.url}hub/spawn-pending/{self.name}"}
        async with self.session.get(progress, headers=headers, params=self.xsrf()) as events:
            assert events.status == 200, await events.text()
            async for line in events.content:
                event = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
                assert not event.get("failed"), event
                told.append(event.get("message", ""))
                if event.get("ready"):
                    break
        async with self.session.get(f"{self.demo.url}user/{self.name}/lab") as lab:
            assert lab.status == 200
        return told

    async def stop(self, cluster: Cluster) -> None:
        """Stop the server and wait until its pod is gone."""
        url = f"{self.demo.url}hub/api/users/{self.name}/server"
        headers = {"Referer": f"{self.demo.url}hub/home"}
        async with self.session.delete(url, headers=headers, params=self.xsrf()) as answer:
            assert answer.status in (202, 204), await answer.text()
        await cluster.until_empty("pods")

    async def contents(self, name: str, text: str | None = None) -> str:
        """Write or read a file in the server's folder through Jupyter's REST API."""
        url = f"{self.demo.url}user/{self.name}/api/contents/{name}"
        query = self.xsrf(f"user/{self.name}/")
        if text is None:
            async with self.session.get(url, params=query) as answer:
                assert answer.status == 200, await answer.text()
                return str((await answer.json())["content"])
        body = {"type": "file", "format": "text", "content": text}
        async with self.session.put(url, json=body, params=query) as answer:
            assert answer.status in (200, 201), await answer.text()
        return text


async def log_in(page: Any, demo: Demo, name: str) -> None:
    """Log in through the form and come to the spawn page."""
    await page.goto(f"{demo.url}hub/login?next=%2Fhub%2Fspawn")
    await page.fill("#username_input", name)
    await page.fill("#password_input", demo.user(name)["password"])
    await page.click("#login_submit")
    await page.wait_for_selector("input[name=profile]", state="attached")


async def start_server(page: Any, slug: str, name: str) -> None:
    """Choose a profile on the spawn page, start it and wait for JupyterLab."""
    await page.locator(f"input[name=profile][value={slug}]").check(force=True)
    await page.locator("form#spawn_form [type=submit]").click()
    await page.wait_for_url(re.compile(rf"/user/{name}/.*lab"), timeout=PATIENCE * 1000)
    await page.wait_for_selector("#jp-main-dock-panel", state="visible")


async def stop_server(page: Any, demo: Demo) -> None:
    """Stop the server on the hub's home page."""
    await page.goto(f"{demo.url}hub/home")
    await page.click("#stop")


TERMINAL = """
async ([commands, end]) => {
  const base = new URL(document.baseURI).pathname.match(/^\\/user\\/[^/]+\\//)[0];
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  const answer = await fetch(base + 'api/terminals', {method: 'POST', headers: {'X-XSRFToken': xsrf ? xsrf[1] : ''}});
  if (!answer.ok) throw new Error(await answer.text());
  const {name} = await answer.json();
  const socket = new WebSocket(`ws://${location.host}${base}terminals/websocket/${name}`);
  return await new Promise((resolve, reject) => {
    let text = '';
    socket.onerror = reject;
    socket.onopen = () => socket.send(JSON.stringify(['set_size', 50, 200]));
    socket.onmessage = (event) => {
      const [kind, data] = JSON.parse(event.data);
      if (kind === 'setup') for (const line of commands) socket.send(JSON.stringify(['stdin', line + '\\r']));
      if (kind === 'stdout') text += data;
      if (text.includes(end)) { socket.close(); resolve(text); }
    };
  });
}
"""


async def in_terminal(page: Any, *commands: str) -> str:
    """Open a terminal of the JupyterLab on `page`, type commands, and return all that it shows."""
    # The echo of what is typed must not look like the end.
    return str(await page.evaluate(TERMINAL, [[*commands, "echo the-$((40 + 2))-end"], "the-42-end"]))


@pytest.mark.browser
async def test_a_user_picks_the_gpu_lab_and_lands_in_it(page: Any, demo: Demo, cluster: Cluster) -> None:
    """Log in, see the profiles, start the GPU lab: its environment, files, limits and volumes are real."""
    await log_in(page, demo, "grace")
    shown = await page.content()
    for name in ("Small lab", "GPU lab", "VS Code", "Remote desktop", "Data science"):
        assert name in shown
    await page.locator("input[name=profile][value=gpu-lab]").check(force=True)
    ARTIFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTIFACTS / "spawn-page.png", animations="disabled")
    if os.environ.get("UPDATE_SCREENSHOTS") == "1":
        shutil.copy(ARTIFACTS / "spawn-page.png", ROOT / "docs" / "images" / "spawn-page.png")

    await start_server(page, "gpu-lab", "grace")
    await page.locator(".jp-DirListing-item", has_text="README.md").wait_for()
    shown = await in_terminal(
        page,
        'echo "course=$COURSE threads=$OMP_NUM_THREADS home=$HOME"',
        "alias gs",
        "cat README.md; ls examples; git config --global user.name",
    )
    assert "course=Deep learning threads=4 home=/workspace" in shown
    assert "GPU lab" in shown
    assert "This server has 4 CPU, 16384 MiB memory, 1 GPU." in shown
    assert "alias gs='git status --short --branch'" in shown
    assert "Your workspace" in shown
    assert "first-steps.ipynb" in shown
    await page.screenshot(path=ARTIFACTS / "jupyterlab.png")

    (pod,) = await cluster.items("pods")
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert float(container["resources"]["limits"]["cpu"]) == 4
    assert container["resources"]["limits"]["memory"] in ("16Gi", str(16 * 2**30))
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    assert {"/home/jovyan", "/workspace", "/workspace/.bashrc", "/workspace/.bash_login"} <= mounts
    assert await cluster.items("configmaps")

    claims = {c["metadata"]["name"] for c in await cluster.items("persistentvolumeclaims")}
    await stop_server(page, demo)
    await cluster.until_empty("pods")
    await cluster.until_empty("configmaps")
    assert {c["metadata"]["name"] for c in await cluster.items("persistentvolumeclaims")} == claims
    assert len(claims) == 2


@pytest.mark.browser
async def test_a_plain_user_does_not_see_the_gpu_lab(page: Any, demo: Demo) -> None:
    """What is for a group is shown to the group."""
    await log_in(page, demo, "ada")
    values = await page.locator("input[name=profile]").evaluate_all("all => all.map(one => one.value)")
    assert set(values) == {"small-lab", "data-science", "editor", "desktop"}


@pytest.mark.browser
async def test_a_number_on_the_page_is_a_param_of_the_server(page: Any, demo: Demo, cluster: Cluster) -> None:
    """The field shows what this user would get and may have; the server gets what is chosen, and its pod says why."""
    await log_in(page, demo, "ada")
    field = page.locator('[name="profile-option-small-lab--lab/threads"]')
    assert await field.get_attribute("max") == "6", "the administrator's ceiling"
    assert await field.input_value() == "2", "the value of `global`"
    await page.locator("input[name=profile][value=small-lab]").check(force=True)
    await field.fill("3")
    await start_server(page, "small-lab", "ada")
    shown = await in_terminal(page, 'echo "course=$COURSE threads=$OMP_NUM_THREADS"')
    assert "course=Introduction to Python threads=3" in shown
    (pod,) = await cluster.items("pods")
    record = json.loads(pod["metadata"]["annotations"]["profile-spawner/params"])
    assert (record["lab/threads"]["value"], record["lab/threads"]["layer"]) == (3, "spawn")
    assert record["course/name"]["source"] == "global"
    assert record["lab/threads"]["overridden"][0]["source"] == "global"
    explained = await _explained(demo, pod["metadata"]["name"])
    assert {one["name"]: one["value"] for one in explained} == {name: one["value"] for name, one in record.items()}
    await stop_server(page, demo)
    await cluster.until_empty("pods")


async def _explained(demo: Demo, pod: str) -> list[dict[str, Any]]:
    """Ask the command line about a running server, with the demo's kubeconfig."""
    argv = [str(PROGRAM), "explain", "--pod", pod, "--kubeconfig", demo.info["kubeconfig"], "--output", "json"]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0
    found: list[dict[str, Any]] = json.loads(printed)
    return found


@pytest.mark.browser
async def test_groups_and_mixins_show_in_the_fields(page: Any, demo: Demo) -> None:
    """A group's value is the default of its members; a mixin of the profile stands above it."""
    await log_in(page, demo, "grace")
    for slug, threads in (("small-lab", "6"), ("gpu-lab", "4")):
        field = page.locator(f'[name="profile-option-{slug}--lab/threads"]')
        assert await field.input_value() == threads, slug


async def test_a_file_dropped_into_the_folder_is_a_profile(demo: Demo, cluster: Cluster) -> None:
    """A profile of ten lines appears on the page without a restart, and starts. A ConfigMap is as good as a file."""
    async with Client(demo, "ada") as ada:
        (demo.profiles / "statistics.py").write_text(readme_profile())
        await asyncio.wait_for(_until_offered(ada, "statistics"), PATIENCE)
        told = await ada.start("statistics")
        assert "Preparing files for Statistics" in told
        environment = await _environment_of_the_pod(cluster, "statistics")
        assert environment["COURSE"] == "Statistics 101"
        await ada.stop(cluster)
        metadata = {"name": "more", "labels": {"profile-spawner": "profiles"}}
        document = "[{slug: more, display_name: More, image: 'a:1'}]"
        await cluster.create("configmaps", {"metadata": metadata, "data": {"more.yaml": document}})
        await asyncio.wait_for(_until_offered(ada, "more"), PATIENCE)


async def _until_offered(client: Client, slug: str) -> None:
    while True:
        async with client.session.get(f"{client.demo.url}hub/spawn") as page:
            if f'value="{slug}"' in await page.text():
                return
        # The page is the only witness: reloading it is what a user does.
        await asyncio.sleep(0.2)


async def _environment_of_the_pod(cluster: Cluster, slug: str) -> dict[str, str]:
    (pod,) = await cluster.items("pods")
    assert pod["metadata"]["labels"]["hub.jupyter.org/profile"] == slug
    return {v["name"]: v.get("value", "") for v in pod["spec"]["containers"][0]["env"]}


async def test_a_broken_file_does_not_take_the_others_along(demo: Demo) -> None:
    """A syntax error is reported with file and line, and the page still offers the rest."""
    broken = demo.profiles / "broken.py"
    broken.write_text("x = 1\nthis is no Python\n")
    try:
        log = demo.state_dir / "logs" / "hub.log"
        await asyncio.wait_for(_until_in(log, "broken.py:2"), PATIENCE)
        await asyncio.wait_for(_until_printed(demo, "broken.py:2"), PATIENCE)
        async with Client(demo, "admin") as admin:
            await asyncio.wait_for(_until_offered(admin, "small-lab"), PATIENCE)
    finally:
        broken.unlink()


@pytest.mark.browser
async def test_saved_broken_and_mended_in_the_browser(page: Any, chromium: Any, demo: Demo) -> None:
    """A saved file is on the page at once; broken, the page stays and the administrator reads file and line."""
    other = await chromium.new_context()
    try:
        admin = await other.new_page()
        await log_in(page, demo, "ada")
        await log_in(admin, demo, "admin")
        path = demo.profiles / "edited.py"
        text = readme_profile().replace("Statistics", "Edited").replace('"statistics"', '"edited"')
        path.write_text(text)
        await _until_shown(page, "Edited")
        path.write_text(text.replace("class Edited", "clas Edited"))
        line = text.splitlines().index(next(row for row in text.splitlines() if row.startswith("class"))) + 1
        await _until_shown(admin, f"edited.py:{line}")
        await page.reload()
        assert await page.locator(".ps-card[data-slug=edited]").count() == 1, "users keep the last good one"
        assert f"edited.py:{line}" not in await page.content(), "which is nothing for users"
        path.write_text(text.replace('"Edited"', '"Mended"'))
        await _until_shown(page, "Mended")
        await admin.reload()
        assert "edited.py" not in await admin.content()
    finally:
        await other.close()
        (demo.profiles / "edited.py").unlink(missing_ok=True)


async def _until_shown(page: Any, text: str) -> None:
    """Reload the page, as a user does who waits for a change."""
    for _ in range(200):
        await page.reload()
        if text in await page.locator("#ps-page").inner_text():
            return
        await asyncio.sleep(0.1)  # the page is the only witness
    raise AssertionError(f"{text!r} does not appear")


async def _until_printed(demo: Demo, text: str) -> None:
    while not any(text in line for line in demo.printed):
        await asyncio.sleep(0.1)


async def _until_in(path: Path, text: str) -> None:
    while text not in path.read_text():
        await asyncio.sleep(0.1)


async def test_kubectl_shows_what_there_is(demo: Demo) -> None:
    """`kubectl get` with the printed kubeconfig has the columns of a real cluster."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    argv = [kubectl, "--kubeconfig", demo.info["kubeconfig"], "get", "nodes"]
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.STDOUT, stdout=-1)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    assert {"NAME", "STATUS", "AGE", "Ready"} <= set(printed.decode().split())


# ------------------------------------------------------------------------------------------------ the end


def descendants(pid: int) -> set[int]:
    """Return all processes that `pid` and its children have started."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(errors="replace")
            except OSError:
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    wanted = {pid}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted}
        found |= wanted
    return found


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ports_of(demo: Demo) -> list[int]:
    """Return all ports that the demo has on 127.0.0.1."""
    settings = json.loads((demo.state_dir / "demo.json").read_text())
    api = urlsplit(json.loads(Path(demo.info["kubeconfig"]).read_text())["clusters"][0]["cluster"]["server"]).port
    return [settings["port"], settings["hub_port"], settings["proxy_api_port"], int(api or 0)]


async def nothing_stays(demo: Demo, number: int, code: int) -> None:
    """Stop the demo with a signal; it ends with this code, and no process, port or mount of it stays."""
    ports = ports_of(demo)
    processes = descendants(demo.process.pid)
    assert len(processes) >= 3
    assert all(listens(port) for port in ports)
    assert await stop_demo(demo, number) == code
    await asyncio.wait_for(asyncio.gather(*map(gone, processes)), PATIENCE)
    assert not any(listens(port) for port in ports)
    assert str(demo.state_dir) not in Path("/proc/self/mountinfo").read_text()


async def test_ctrl_c_or_a_kill_leaves_nothing_and_the_state_folder_keeps_the_work(tmp_path: Path) -> None:
    """Ctrl-C ends servers, hub, proxy and cluster; the next run finds the claims, the files and the profiles.

    When that one is killed and can tidy up nothing, no process and no port stays either.
    """
    first = await start_demo(tmp_path)
    async with Client(first, "ada") as ada:
        await ada.start("small-lab")
        await ada.contents("note.txt", "still here")
    await nothing_stays(first, signal.SIGINT, 0)
    assert not (tmp_path / "info.json").exists()

    (first.profiles / "labs.py").unlink()
    (first.profiles / "mine.py").write_text(readme_profile())
    second = await start_demo(tmp_path)
    try:
        cluster = Cluster(second)
        assert len(await cluster.items("persistentvolumeclaims")) == 2
        await cluster.session.close()
        async with Client(second, "ada") as ada:
            await ada.start("statistics")
            assert await ada.contents("note.txt") == "still here"
        await nothing_stays(second, signal.SIGKILL, -signal.SIGKILL)
    finally:
        await stop_demo(second)


async def run_to_its_end(*argv: str) -> tuple[int, str]:
    """Run the demo with options that make it end by itself; return exit code and output."""
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM), "demo", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, " ".join(printed.decode().split())


async def test_a_port_that_is_taken_is_a_clear_message(demo: Demo, tmp_path: Path) -> None:
    """The message names the port and the way out, and there is no traceback."""
    port = str(urlsplit(demo.url).port)
    code, printed = await run_to_its_end("--port", port)
    assert code == 1
    assert f"--port: the port cannot be used: Address already in use (got {port})" in printed
    assert "--port 0" in printed
    assert "Traceback" not in printed


async def test_a_state_folder_has_one_demo(demo: Demo) -> None:
    """Two demos cannot spoil each other's state."""
    code, printed = await run_to_its_end("--port", "0", "--state-dir", str(demo.state_dir))
    assert code == 1
    assert "another demo uses this folder" in printed


async def test_a_real_cluster_is_used_by_its_kubeconfig(tmp_path: Path) -> None:
    """With --kubeconfig the servers run in that cluster, in the namespace of its context.

    With --configurator-compat the profiles are the examples of the configurator's guide, from a folder.
    """
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number, text in enumerate(SEED):
        (theirs / f"example_{number}.py").write_text(textwrap.dedent(text))
    options = ("--configurator-compat", "--profiles-dir", str(theirs))
    async with LocalCluster(tmp_path / "cluster", runtime="stub") as foreign:
        path = foreign.write_kubeconfig(tmp_path / "kubeconfig", namespace="default")
        demo = await start_demo(tmp_path, "--kubeconfig", str(path), *options)
        try:
            assert demo.info["kubeconfig"] == str(path)
            assert demo.info["namespace"] == "default"
            async with Client(demo, "ada") as ada:
                await asyncio.wait_for(_until_offered(ada, "external_profile"), PATIENCE)
                await ada.start("my_profile")
            foreign_pods = Cluster(demo)
            try:
                environment = await _environment_of_the_pod(foreign_pods, "my_profile")
            finally:
                await foreign_pods.session.close()
            assert environment["HOME"] == "/workspace"
        finally:
            await stop_demo(demo)
        assert not (tmp_path / "state" / "cluster").exists()


async def test_a_file_that_is_no_kubeconfig_is_a_clear_message(tmp_path: Path) -> None:
    """The message says how to check it."""
    path = tmp_path / "kubeconfig"
    path.write_text("just: text")
    code, printed = await run_to_its_end("--port", "0", "--kubeconfig", str(path))
    assert code == 1
    assert "is not a kubeconfig" in printed
