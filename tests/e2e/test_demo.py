"""The demo as its user sees it: one command, a browser, a file dropped into a folder, Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

pytestmark = [pytest.mark.hub, pytest.mark.xdist_group("demo")]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("profile-spawner")
ARTIFACTS = ROOT / "artifacts"
PATIENCE = 120.0
"""Seconds after which a test gives up waiting; nothing is expected to take a tenth of it."""


@dataclass
class Demo:
    """A running demo."""

    process: asyncio.subprocess.Process
    info: dict[str, Any]
    state_dir: Path

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
    printed = b""
    async with asyncio.timeout(PATIENCE) if sys.version_info >= (3, 11) else contextlib.AsyncExitStack():
        while b"Ctrl-C stops everything" not in printed:
            line = await process.stdout.readline()
            assert line, f"The demo ended: {printed.decode()}"
            printed += line
    return Demo(process, json.loads(info.read_text()), state)


async def stop_demo(demo: Demo, number: int = signal.SIGINT) -> int:
    """Stop the demo as Ctrl-C does and return its exit code."""
    if demo.process.returncode is None:
        demo.process.send_signal(number)
    await asyncio.wait_for(demo.process.communicate(), PATIENCE)
    assert demo.process.returncode is not None
    return demo.process.returncode


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """One demo for all tests that do not stop it."""
    running = await start_demo(tmp_path_factory.mktemp("demo"))
    try:
        yield running
    finally:
        await stop_demo(running)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Any]:
    """A headless Chromium; without one the test is skipped, or fails where REQUIRE_BROWSER=1."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        program = None
    if program is None:
        reason = "needs Chromium (apt-get install chromium) and the Python package playwright"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, but this test {reason}")
        pytest.skip(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Any) -> AsyncIterator[Any]:
    """A fresh browser window."""
    context = await chromium.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    yield await context.new_page()
    await context.close()


class Cluster:
    """The demo's cluster, as its kubeconfig shows it."""

    def __init__(self, demo: Demo) -> None:
        config = json.loads(Path(demo.info["kubeconfig"]).read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.namespace = config["contexts"][0]["context"]["namespace"]
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self.session = aiohttp.ClientSession(headers=headers)

    async def items(self, plural: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        async with self.session.get(f"{self.server}/api/v1/namespaces/{self.namespace}/{plural}") as answer:
            assert answer.status == 200, await answer.text()
            return list((await answer.json())["items"])

    async def until_empty(self, plural: str) -> None:
        """Wait until no object of a kind is left, by watching."""
        async with asyncio.timeout(PATIENCE) if sys.version_info >= (3, 11) else contextlib.AsyncExitStack():
            while True:
                url = f"{self.server}/api/v1/namespaces/{self.namespace}/{plural}"
                async with self.session.get(url) as answer:
                    listed = await answer.json()
                if not listed["items"]:
                    return
                version = listed["metadata"]["resourceVersion"]
                query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "5"}
                async with self.session.get(url, params=query) as events:
                    await events.content.readline()


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(demo: Demo) -> AsyncIterator[Cluster]:
    """The demo's cluster."""
    found = Cluster(demo)
    yield found
    await found.session.close()


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
    ARTIFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTIFACTS / "spawn-page.png")
    if os.environ.get("UPDATE_SCREENSHOTS") == "1":
        shutil.copy(ARTIFACTS / "spawn-page.png", ROOT / "docs" / "images" / "spawn-page.png")

    await start_server(page, "gpu-lab", "grace")
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
    assert container["resources"]["limits"]["cpu"] == "4"
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
    assert set(values) == {"small-lab", "data-science", "coder_app", "remote_desktop"}
