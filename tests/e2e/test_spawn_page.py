"""The spawn page in a browser: few and many profiles, light and dark, wide and narrow, with and without a script."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from profile_spawner.demo.cluster.kubelet import Kubelet, NodeSpec
from tests.hub import PASSWORD, HubUnderTest, start_hub
from tests.page.test_render import PAYLOADS

pytestmark = [pytest.mark.hub, pytest.mark.browser, pytest.mark.xdist_group("spawn-page")]

ARTIFACTS = Path(os.environ.get("ARTIFACTS") or Path(__file__).parents[2] / "artifacts")
AXE = os.environ.get("AXE_CORE", "")
STRICT = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"

PROFILES = """
from profile_spawner import BaseAppProfile, profile_registry

OPTIONS = {{
    "size": {{
        "display_name": "Size",
        "description": "How much of everything you get.",
        "choices": {{
            "small": {{"display_name": "Small", "default": True, "kubespawner_override": {{"mem_limit": "1G"}}}},
            "large": {{"display_name": "Large", "description": "for big data",
                       "kubespawner_override": {{"mem_limit": "8G", "cpu_limit": 4}}}},
        }},
    }},
    "workers": {{"type": "number", "display_name": "Workers", "min": 1, "max": 8, "default": 2, "integer": True,
                 "kubespawner_override": {{"environment": {{"WORKERS": "{{value}}"}}}}}},
    "branch": {{"type": "text", "display_name": "Branch", "pattern": "[a-z]+", "default": "main",
                "validation_message": "A branch has lower-case letters only.",
                "kubespawner_override": {{"environment": {{"BRANCH": "{{value}}"}}}}}},
    "debug": {{"type": "switch", "display_name": "Verbose log",
               "kubespawner_override": {{"environment": {{"DEBUG": "on"}}}}}},
    "level": {{"type": "multi", "display_name": "Topics", "when": {{"debug": [True]}},
               "choices": {{"net": {{"display_name": "Network"}}, "disk": {{"display_name": "Disk"}}}}}},
    "image": {{"display_name": "Image", "advanced": True,
               "choices": {{"base": {{"display_name": "Base", "default": True}}}},
               "unlisted_choice": {{"enabled": True, "display_name": "Your image",
                                    "kubespawner_override": {{"image": "{{value}}"}}}}}},
}}
ICONS = ["notebook", "gpu", "code", "desktop", "chart", "data", "python", "r", "terminal", "cube"]

for number in range({count}):
    name = f"P{{number}}"
    profile_registry.register(type(name, (BaseAppProfile,), {{
        "slug": name.lower(), "display_name": f"Environment {{number}}", "image": f"quay.io/example/env-{{number}}:1",
        "description": f"For *course {{number}}*, with all that it needs. [The wiki](https://example.org/{{number}}).",
        "category": ["Teaching", "Research", "Tools"][number % 3], "icon": ICONS[number % 10],
        "tags": [f"tag{{number % 7}}"],
        "cpu_limit": 1 + number % 8, "mem_limit": f"{{1 + number % 16}}G", "default": number == 1,
        "extra_resource_limits": {{"nvidia.com/gpu": "1"}} if number % 5 == 4 else {{}},
        "profile_options": OPTIONS, "__module__": __name__,
        "deprecated": "Take another one." if number == 2 else "",
        "allowed_groups": ["nobody"] if number == 3 else None,
    }}))
"""
CONFIG = "c.ProfileSpawner.profiles_dirs = [{folder!r}]\nc.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 0}}\n"


class Hubs:
    """Hubs with different numbers of profiles, each started when it is first wanted."""

    def __init__(self, plane: Any, folder: Path) -> None:
        self._plane = plane
        self._folder = folder
        self._hubs: dict[Any, HubUnderTest] = {}
        self._kubelets: list[Kubelet] = []

    async def get(self, name: Any, module: str, config: str = "") -> HubUnderTest:
        """Return the hub of this name."""
        if name not in self._hubs:
            namespace = await self._plane.new_namespace("page")
            kubelet = Kubelet(
                self._plane.url,
                self._plane.token_for("kubelet", ["system:masters"]),
                self._folder / f"kubelet-{name}",
                node=NodeSpec(name=f"node-{namespace}", cpu="1000", memory="4000Gi", gpus=4),
                runtime="stub",
                namespaces=[namespace],
            )
            await kubelet.start()
            self._kubelets.append(kubelet)
            kubeconfig = self._folder / f"kubeconfig-{name}"
            self._plane.write_kubeconfig(kubeconfig, "admin", namespace=namespace)
            profiles = self._folder / f"profiles-{name}"
            profiles.mkdir()
            (profiles / "profiles.py").write_text(module)
            text = CONFIG.format(folder=str(profiles)) + config
            hub = await start_hub(self._folder / f"hub-{name}", kubeconfig, namespace, text)
            hub.namespace, hub.plane = namespace, self._plane
            first = await hub.browser("first")
            await first.get("/hub/spawn")  # waits for the first load, which may take longer than a click may
            await first.close()
            self._hubs[name] = hub
        return self._hubs[name]

    async def of(self, count: int) -> HubUnderTest:
        """Return the hub with this number of profiles."""
        return await self.get(count, PROFILES.format(count=count))

    async def close(self) -> None:
        """End all."""
        for hub in self._hubs.values():
            await hub.close()
        for kubelet in self._kubelets:
            await kubelet.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hubs(local_control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hubs]:
    """All hubs of this module."""
    made = Hubs(local_control_plane, tmp_path_factory.mktemp("pages"))
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def window(chromium: Any) -> AsyncIterator[Callable[..., Any]]:
    """Open windows of any kind; all are closed with the test."""
    contexts = []

    async def open_window(**options: Any) -> Any:
        options = {"viewport": {"width": 1100, "height": 900}, **options}
        context = await chromium.new_context(**options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        return await context.new_page()

    yield open_window
    for context in contexts:
        await context.close()


async def log_in(page: Any, hub: HubUnderTest, user: str, path: str = "spawn") -> None:
    """Log in, and come to a page of the hub."""
    await page.goto(f"{hub.url}/hub/login?next=%2Fhub%2F{path}")
    await page.fill("#username_input", user)
    await page.fill("#password_input", PASSWORD)
    await page.click("[type=submit]")
    if path == "spawn":
        await page.wait_for_selector("#ps-page", state="attached")


def field(slug: str, option: str) -> str:
    """Return the selector of an option's field."""
    return f'[name="profile-option-{slug}--{option}"]'


async def environment(hub: HubUnderTest, user: str) -> dict[str, str]:
    """Wait until the user's server is ready, and return its environment."""
    model = await asyncio.wait_for(hub.until_ready(user), 60)
    assert model["ready"], model["events"]
    listed = await hub.plane.ok("GET", f"/api/v1/namespaces/{hub.namespace}/pods")
    (pod,) = [p for p in listed["items"] if p["metadata"]["annotations"]["hub.jupyter.org/username"] == user]
    return {v["name"]: v.get("value", "") for v in pod["spec"]["containers"][0]["env"]}


async def choose(page: Any, slug: str) -> None:
    """Click on a card, as a user does."""
    await page.locator(f".ps-card[data-slug={slug}] .ps-title").click()
    assert await page.locator(f"input[name=profile][value={slug}]").is_checked()


async def submit(page: Any) -> None:
    """Press Start."""
    await page.locator("form#spawn_form [type=submit]").first.click()


# Every number of profiles in both looks, and with and without a script; every look with and without a script.
VIEWS = [
    (5, "light", 1100, True),
    (5, "dark", 390, False),
    (50, "dark", 390, True),
    (50, "light", 1100, False),
    (500, "light", 1100, True),
    (500, "dark", 390, False),
]


@pytest.mark.parametrize(("count", "scheme", "width", "script"), VIEWS)
async def test_choose_fail_correct_start(
    hubs: Hubs, window: Any, count: int, scheme: str, width: int, script: bool
) -> None:
    """Choose, set options, start, be told what is wrong, correct it, start: with any number of profiles."""
    hub = await hubs.of(count)
    page = await window(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script)
    kind = f"{count}-{scheme}-{width}-{'script' if script else 'plain'}"
    user = f"user-{kind}"
    await log_in(page, hub, user)
    slug = "p4" if count == 5 else "p6"
    assert await page.locator("input[name=profile][value=p1]").is_checked(), "the default"
    assert await page.locator("input[name=profile][value=p3]").count() == 0, "for a group"
    await choose(page, slug)
    await _screenshot(page, f"spawn-page-{kind}")
    if script:
        assert f"Environment {slug[1:]}" in await page.locator("form#spawn_form [type=submit]").first.inner_text()
        # What the browser would refuse is sent all the same, to see what the hub says.
        await page.evaluate("document.getElementById('spawn_form').noValidate = true")
    await page.locator(field(slug, "size")).select_option("large")
    await page.locator(field(slug, "workers")).fill("5")
    await page.locator(field(slug, "branch")).fill("NOT-A-BRANCH")
    if script:
        card = page.locator(f".ps-card[data-slug={slug}]")
        assert "8 GiB" in (await card.locator(".ps-badges").inner_text()).replace("\u202f", " ").replace("\xa0", " ")
    await submit(page)
    summary = page.locator("#ps-summary")
    await summary.wait_for(state="attached")
    assert "A branch has lower-case letters only." in await summary.inner_text()
    target = await summary.locator("a").get_attribute("href")
    assert await page.locator(f"[id='{target[1:]}']").count() == 1, "the summary leads to the field"
    assert await page.locator(f"input[name=profile][value={slug}]").is_checked()
    assert await page.locator(field(slug, "size")).input_value() == "large"
    assert await page.locator(field(slug, "workers")).input_value() == "5"
    assert await page.locator(field(slug, "branch")).input_value() == "NOT-A-BRANCH"
    await _screenshot(page, f"spawn-page-error-{kind}")
    await page.locator(field(slug, "branch")).fill("develop")
    await submit(page)
    await page.wait_for_url(re.compile(r"/(spawn-pending|user)/"))
    env = await environment(hub, user)
    assert (env["WORKERS"], env["BRANCH"]) == ("5", "develop")


async def _screenshot(page: Any, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


async def test_the_whole_flow_works_by_keyboard_alone(hubs: Hubs, window: Any) -> None:
    """Tab, arrows, space and Enter: no mouse."""
    hub = await hubs.of(5)
    page = await window()
    await log_in(page, hub, "keyboard")
    await page.locator("input[name=profile][value=p1]").focus()
    await page.keyboard.press("ArrowUp")
    assert await page.locator("input[name=profile][value=p0]").is_checked()
    await page.keyboard.press("Tab")
    for _ in range(12):
        focused = await page.evaluate("document.activeElement.name || document.activeElement.tagName")
        if focused.endswith("--size"):
            break
        await page.keyboard.press("Tab")
    assert focused == "profile-option-p0--size"
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    assert (await page.evaluate("document.activeElement.name")) == "profile-option-p0--workers"
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("typed")
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"/(spawn-pending|user)/"))
    env = await environment(hub, "keyboard")
    assert (env["WORKERS"], env["BRANCH"]) == ("3", "typed")


async def test_dependent_and_advanced_options(hubs: Hubs, window: Any) -> None:
    """What depends on another option appears with it; what is advanced is folded away."""
    hub = await hubs.of(5)
    page = await window()
    await log_in(page, hub, "dependent")
    card = page.locator(".ps-card[data-slug=p1]")
    topics = card.locator(".ps-field[data-option=level]")
    assert not await topics.is_visible()
    await card.locator("input[role=switch]").check()
    assert await topics.is_visible()
    image = card.locator(".ps-field[data-option=image]")
    assert not await image.is_visible()
    await card.locator("details.ps-advanced summary").click()
    assert await image.is_visible()
    other = page.locator('[name="profile-option-p1--image--unlisted-choice"]')
    assert not await other.is_visible()
    await page.locator(field("p1", "image")).select_option("unlisted-choice")
    assert await other.is_visible()


async def test_search_finds_among_many_and_says_how_many(hubs: Hubs, window: Any) -> None:
    """Among fifty and among five hundred, of which the page holds only some; with few there is no search.

    The exact title comes first, whether the page holds it or the hub sends it. An answer that comes late does not
    take the focus from the field that the user types in.
    """
    few = await window()
    await log_in(few, await hubs.of(5), "few")
    assert await few.locator("#ps-search").count() == 0
    for count, wanted, matches in ((50, "environment 42", "1 match"), (500, "environment 499", "1 match")):
        page = await window()
        await log_in(page, await hubs.of(count), "many")
        for exact in ("4", "42"):
            await page.locator("#ps-search").fill(f"environment {exact}")
            await page.wait_for_function(
                "slug => [...document.querySelectorAll('.ps-card')].find(c => c.offsetParent)?.dataset.slug === slug",
                arg=f"p{exact}",
            )
        await page.locator("#ps-search").fill(wanted)
        await page.wait_for_function(f"document.getElementById('ps-count').textContent === {json.dumps(matches)}")
        slug = "p" + wanted.split()[-1]
        found = page.locator(f".ps-card[data-slug={slug}]")
        assert await found.is_visible()
        await found.locator("input[name=profile]").check(force=True)
        await page.locator(field(slug, "branch")).select_text()
        await page.evaluate(
            "() => { document.getElementById('ps-count').textContent = '';"
            " document.getElementById('ps-search').dispatchEvent(new Event('input')); }"
        )
        await page.wait_for_function(f"document.getElementById('ps-count').textContent === {json.dumps(matches)}")
        await page.keyboard.insert_text("found")
        await submit(page)
        await page.wait_for_url(re.compile(r"/(spawn-pending|user)/"))
        assert (await environment(await hubs.of(count), "many"))["BRANCH"] == "found"


async def test_without_a_script_every_profile_can_be_reached(hubs: Hubs, window: Any) -> None:
    """The page leads to a list of all, and from there to each."""
    hub = await hubs.of(500)
    page = await window(java_script_enabled=False)
    await log_in(page, hub, "plain")
    await page.locator("a.ps-all").first.click()
    await page.locator("a", has_text=re.compile(r"^Environment 498$")).first.click()
    assert await page.locator("input[name=profile][value=p498]").is_checked()
    await page.locator(field("p498", "branch")).fill("reached")
    await submit(page)
    await page.wait_for_url(re.compile(r"/(spawn-pending|user)/"))
    assert (await environment(hub, "plain"))["BRANCH"] == "reached"


async def test_a_link_to_a_choice_selects_it_again(hubs: Hubs, window: Any) -> None:
    """What is copied opens the same choice for somebody else, and starts nothing."""
    hub = await hubs.of(50)
    page = await window(permissions=["clipboard-read", "clipboard-write"])
    await log_in(page, hub, "linker")
    await choose(page, "p9")
    await page.locator(field("p9", "size")).select_option("large")
    await page.locator(field("p9", "workers")).fill("6")
    await page.locator("#ps-copy").click()
    link = await page.evaluate("navigator.clipboard.readText()")
    other = await window()
    await log_in(other, hub, "reader")
    await other.goto(link.replace("/linker", "/reader"))
    await other.wait_for_selector("#ps-page", state="attached")
    assert await other.locator("input[name=profile][value=p9]").is_checked()
    assert await other.locator(field("p9", "size")).input_value() == "large"
    assert await other.locator(field("p9", "workers")).input_value() == "6"
    assert await hub.server("reader") is None or not (await hub.server("reader") or {}).get("ready")


async def assert_axe_finds_nothing(page: Any, state: str) -> None:
    """Let axe look at the page as it is; `state` names its picture."""
    if not await page.evaluate("'axe' in window"):
        await page.add_script_tag(path=AXE)
    found = await page.evaluate("axe.run('#ps-page', {resultTypes: ['violations']})")
    told = [
        f"{v['id']}: {v['help']}: {[n['html'][:200] + ' ' + str(n.get('failureSummary')) for n in v['nodes'][:3]]}"
        for v in found["violations"]
    ]
    await _screenshot(page, f"spawn-page-axe-{state}")
    assert told == [], state


async def open_all(page: Any) -> None:
    """Choose a profile and show every field of it."""
    await choose(page, "p6")
    await page.locator(".ps-card[data-slug=p6] details summary").click()
    await page.locator(".ps-card[data-slug=p6] input[role=switch]").check()


@pytest.mark.parametrize("state", ["many", "german", "none"])
async def test_axe_finds_no_violation(hubs: Hubs, window: Any, state: str) -> None:
    """In every state of the page with many profiles, in another language, and with no profile at all."""
    if not AXE:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but AXE_CORE does not name axe.min.js")
        pytest.skip("AXE_CORE does not name axe.min.js (npm install axe-core)")
    if state == "none":
        page = await window()
        hub = await hubs.get("nobody", PROFILES.format(count=4).replace("number == 3", "True"))
        await log_in(page, hub, "axe-none")
        await assert_axe_finds_nothing(page, "empty")
        return
    # Colours that still change would not be those that users see.
    page = await window(locale="de-DE" if state == "german" else "en-US", reduced_motion="reduce")
    await log_in(page, await hubs.of(50), f"axe-{state}")
    if state == "german":
        await open_all(page)
        await assert_axe_finds_nothing(page, "german")
        return
    await assert_axe_finds_nothing(page, "first")
    await page.locator("#ps-search").fill("nothing like this")
    await page.wait_for_function("document.getElementById('ps-count').textContent !== ''")
    await assert_axe_finds_nothing(page, "no-match")
    await page.locator("#ps-search").fill("")
    await open_all(page)
    await assert_axe_finds_nothing(page, "chosen")
    await page.emulate_media(color_scheme="dark")
    await page.wait_for_function("document.documentElement.dataset.bsTheme === 'dark'")
    await assert_axe_finds_nothing(page, "dark")
    await page.emulate_media(color_scheme="light")
    await page.wait_for_function("document.documentElement.dataset.bsTheme === 'light'")
    await page.set_viewport_size({"width": 360, "height": 800})
    await assert_axe_finds_nothing(page, "narrow")
    await page.set_viewport_size({"width": 1100, "height": 900})
    await page.evaluate("document.getElementById('spawn_form').noValidate = true")
    await page.locator(field("p6", "branch")).fill("NO")
    await submit(page)
    await page.wait_for_selector("#ps-summary")
    await assert_axe_finds_nothing(page, "error")


VIOLATIONS = """
window.__violations = [];
window.__fired = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
window.alert = window.confirm = window.prompt = (text) => { window.__fired.push(String(text)); };
"""


async def violations(window: Any, hub: HubUnderTest, user: str, path: str = "spawn") -> tuple[list[str], list[str]]:
    """Load a page under a strict policy that only reports; return the violations, and what scripts have called."""
    page = await window()
    await page.add_init_script(VIOLATIONS)

    async def strict(route: Any) -> None:
        answer = await route.fetch()
        headers = {**answer.headers, "content-security-policy-report-only": STRICT}
        await route.fulfill(response=answer, headers=headers)

    await log_in(page, hub, user)
    await page.route("**/hub/**", strict)
    await page.goto(f"{hub.url}/hub/{path}")
    if path == "spawn":
        await page.wait_for_selector("#ps-page", state="attached")
        card = page.locator(".ps-card").last
        await card.locator("input[name=profile]").check(force=True)
    await page.wait_for_load_state("networkidle")
    return await page.evaluate("[window.__violations, window.__fired]")


def poisoned() -> str:
    """Return a module whose every text is a payload."""
    return f"""
from profile_spawner import BaseAppProfile, profile_registry

for number, text in enumerate({PAYLOADS!r}):
    profile_registry.register(type(f"X{{number}}", (BaseAppProfile,), {{
        "slug": f"x{{number}}", "display_name": text, "description": text, "image": "a:1", "category": text[:40],
        "icon": text, "tags": [text[:60]], "deprecated": text, "__module__": __name__,
        "profile_options": {{
            "o": {{"display_name": text, "description": text,
                   "choices": {{"c": {{"display_name": text, "description": text}}}},
                   "unlisted_choice": {{"enabled": True, "display_name": text, "kubespawner_override": {{}}}}}},
            "t": {{"type": "text", "display_name": text, "placeholder": text, "default": text[:50]}},
        }},
    }}))
"""


async def test_a_strict_policy_reports_nothing_of_this_page(hubs: Hubs, window: Any) -> None:
    """No inline script or style, nothing from elsewhere; also where every text is a payload, and nothing of it runs."""
    harmless = await hubs.of(5)
    hub = await hubs.get("poisoned", poisoned())
    constant = await hubs.get(
        "constant",
        "",
        "c.JupyterHub.spawner_class = 'kubespawner.KubeSpawner'\nc.KubeSpawner.options_form = '<p id=ps-page>x</p>'\n",
    )
    page = await window()
    await page.add_init_script(VIOLATIONS)
    # JupyterHub's own page has inline scripts: what it reports by itself is not ours.
    own, _ = await _of_constant(window, constant)
    for number, one in enumerate((harmless, hub)):
        reported, fired = await violations(window, one, f"csp{number}")
        assert sorted(reported) == sorted(own)
        assert fired == []


async def _of_constant(window: Any, hub: HubUnderTest) -> tuple[list[str], list[str]]:
    page = await window()
    await page.add_init_script(VIOLATIONS)

    async def strict(route: Any) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, headers={**answer.headers, "content-security-policy-report-only": STRICT})

    await log_in(page, hub, "constant")
    await page.route("**/hub/**", strict)
    await page.goto(f"{hub.url}/hub/spawn")
    await page.wait_for_load_state("networkidle")
    found: tuple[list[str], list[str]] = await page.evaluate("[window.__violations, window.__fired]")
    return found


async def test_long_names_and_right_to_left_stay_in_their_card(hubs: Hubs, window: Any) -> None:
    """Nothing is wider than the window."""
    module = PROFILES.format(count=5).replace(
        '"display_name": f"Environment {number}"', '"display_name": ["x" * 200, "بيئة العمل", "A", "B", "C"][number]'
    )
    hub = await hubs.get("long", module)
    for width in (1100, 360):
        page = await window(viewport={"width": width, "height": 900})
        await log_in(page, hub, f"long{width}")
        await page.evaluate("document.documentElement.dir = 'rtl'")
        wide = await page.evaluate(
            "[...document.querySelectorAll('#ps-page *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
            " || e.getBoundingClientRect().left < -1).map(e => e.className)"
        )
        await _screenshot(page, f"spawn-page-rtl-{width}")
        assert [w for w in wide if "visually-hidden" not in str(w)] == []


async def test_german_is_spoken(hubs: Hubs, window: Any) -> None:
    """To who asks for it."""
    page = await window(locale="de-DE")
    await log_in(page, await hubs.of(50), "german")
    assert await page.locator("#ps-search").get_attribute("placeholder") == "49 Profile durchsuchen"
