"""Params on a real hub: from the layers to the page, the pod, the record and the log."""

from __future__ import annotations

import asyncio
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.names import ANNOTATION_PARAMS

pytestmark = [pytest.mark.hub]

CANARY = "canary-4be1a7"

PROFILES = f"""
from profile_spawner import BaseAppProfile, ConfigMap, Manifest, Param, Template, profile_registry

for param in (
    Param("image/lab", schema={{"type": "string"}}, default="lab:1", user_settable=True),
    Param("lab/threads", schema={{"type": "integer", "minimum": 1, "maximum": 8}}, default=1, user_settable=True,
          meta={{"title": "Threads"}}, description="How many threads."),
    Param("lab/greeting", schema={{"type": "string", "pattern": "^[^<]*$"}}, default="hello", user_settable=True),
    Param("lab/motto", default="{{{{ lab/greeting }}}}, {{{{ username }}}}"),
    Param("lab/environment", merge="merge", default={{"A": "default"}}),
    Param("lab/tolerations", merge="append", merge_key="key", default=[]),
    Param("hub/stage", default="production"),
    Param("db/password", secure=True),
    Param("gpu/model", default="none"),
    Param("team/code", schema={{"type": "string", "pattern": "^[A-Z]+-[0-9]+$"}}, user_settable=True),
):
    profile_registry.register_param(param)
profile_registry.register_collection("global", {{
    "lab/threads": 2,
    "db/password": {{"secret": "{CANARY}-secret", "key": "{CANARY}-key"}},
}})
profile_registry.register_collection("gpu", {{"gpu/model": "A100", "lab/tolerations": [{{"key": "gpu"}}]}})


@profile_registry.register
class Lab(BaseAppProfile):
    slug = "lab"
    display_name = "Lab"
    description = "A lab"
    image = Param.ref("image/lab")
    tolerations = Param.ref("lab/tolerations")
    params = {{"lab/greeting": "hi"}}
    profiles = ["gpu"]
    pod_env_vars = {{
        "THREADS": "{{{{ lab/threads }}}}",
        "GREETING": "{{{{ lab/greeting }}}}",
        "MOTTO": "{{{{ lab/motto }}}}",
        "STAGE": "{{{{ hub/stage }}}}",
        "PASSWORD": "{{{{ db/password }}}}",
        "GPU": "{{{{ gpu/model }}}}",
    }}

    def get_pod_env_vars(self):
        return {{**self.pod_env_vars, **self.params["lab/environment"], "SAID": self.params["lab/greeting"]}}

    def get_config_maps(self):
        text = Template("{{{{ lab/motto }}}}!")
        return [ConfigMap(name="motd", key="motd", content=text, mount_path="/etc/motd.d/lab")]

    def get_manifests(self):
        name = Template("extra-{{{{ server_slug }}}}")
        body = {{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": name}},
                "data": {{"greeting": Template("{{{{ lab/greeting }}}}")}}}}
        return [Manifest(name="extra", content=[body])]


@profile_registry.register
class Choosy(Lab):
    slug = "choosy"
    display_name = "Choosy"
    user_settable = ["image/lab"]


@profile_registry.register
class Needy(BaseAppProfile):
    slug = "needy"
    display_name = "Needy"
    image = "lab:1"
    pod_env_vars = {{"CODE": "{{{{ team/code }}}}"}}
"""


async def objects(hub: Any, kind: str) -> list[Any]:
    """List what is in the hub's namespace."""
    return list((await hub.plane.ok("GET", f"/api/v1/namespaces/{hub.namespace}/{kind}"))["items"])


async def start(hub: Any, user: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Start a server; return its pod and its environment by name."""
    reply = await hub.api("POST", f"/users/{user}/server", options)
    assert reply.status in (201, 202), reply.text
    model = await hub.until_ready(user)
    assert model["ready"], model["events"]
    (pod,) = [p for p in await objects(hub, "pods") if p["metadata"]["annotations"]["hub.jupyter.org/username"] == user]
    return pod, {e["name"]: e.get("value", e.get("valueFrom")) for e in pod["spec"]["containers"][0]["env"]}


async def stop(hub: Any, user: str) -> None:
    """Stop a server and wait until its pod is gone."""
    await hub.api("DELETE", f"/users/{user}/server")
    while (await hub.server(user) or {}).get("pending") or await objects(hub, "pods"):
        pass


@pytest.fixture
async def params_hub(start_local_hub: Any, tmp_path: Path) -> Any:
    """Start a hub with the profiles above."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "profiles.py").write_text(PROFILES)

    async def start(config: str = "", **kwargs: Any) -> Any:
        hub = await start_local_hub(f"c.ProfileSpawner.profiles_dirs = [{str(profiles)!r}]\n{config}", **kwargs)
        hub.profiles = profiles
        if not kwargs.get("namespace"):
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": f"{CANARY}-secret"},
                "stringData": {f"{CANARY}-key": f"{CANARY}-value"},
            }
            await hub.plane.ok("POST", f"/api/v1/namespaces/{hub.namespace}/secrets", secret)
        return hub

    return start


def record_of(pod: Any) -> dict[str, Any]:
    """Return the record that a pod carries."""
    found: dict[str, Any] = json.loads(pod["metadata"]["annotations"][ANNOTATION_PARAMS])
    return found


LAYERS = """
c.ProfileSpawner.param_values = {
    "enforced": {"lab/threads": {"$maximum": 6}, "lab/greeting": {"$allowed": ["hi", "hello", "{{ username }}"]}},
    "groups": {"first": {"params": {"lab/environment": {"A": "first", "B": "first"}}}, "second": {"lab/threads": 5}},
    "users": {"ada": {"lab/environment": {"C": "of {{ username }}"}}},
    "servers": {"ada/": {"lab/environment": {"D": "server"}}},
    "assigned": {"groups": {"second": ["gpu"]}, "users": {"second": []}},
    "hub": {"hub/stage": "staging"},
}
"""


@pytest.mark.hub5
async def test_all_layers_reach_the_pod_and_are_explained(params_hub: Any) -> None:
    """Ceilings, choice, server, user, nested profile, groups with properties, hub and global, with their sources."""
    hub = await params_hub(LAYERS, groups={"first": {"users": ["ada"]}, "second": {"users": ["ada"]}})
    properties = {"profile_spawner": {"params": {"lab/environment": {"B": "property", "E": "property"}}}}
    reply = await hub.api("PUT", "/groups/second/properties", properties)
    assert reply.status == 200, reply.text
    await hub.user("ada")
    pod, env = await start(hub, "ada", profile="lab", **{"lab/threads": 8, "lab/greeting": "{{ username }}"})

    assert env["THREADS"] == "6", "the ceiling"
    assert (env["STAGE"], env["GPU"]) == ("staging", "A100")
    assert (env["A"], env["B"], env["C"], env["D"], env["E"]) == ("first", "first", "of ada", "server", "property")
    assert pod["spec"]["tolerations"][0]["key"] == "gpu"
    # What the user typed stays text in every way that it takes.
    assert env["GREETING"] == env["SAID"] == "{{ username }}"
    assert env["MOTTO"] == "{{ username }}, ada"
    texts = [text for m in await objects(hub, "configmaps") for text in m["data"].values()]
    assert {"{{ username }}, ada!", "{{ username }}"} <= set(texts)

    record = record_of(pod)
    threads = record["lab/threads"]
    assert (threads["value"], threads["layer"]) == (6, "enforced")
    assert threads["origin"] == "param_values['enforced']"
    hidden = [(s["layer"], s["source"], s["value"]) for s in threads["overridden"]]
    assert hidden[:3] == [("spawn", "spawn", 8), ("groups", "second", 5), ("global", "global", 2)]
    line = next(n for n, text in enumerate(PROFILES.splitlines(), 1) if '"lab/threads": 2' in text)
    assert threads["overridden"][2]["origin"].endswith(f"profiles.py:{line}")
    environment = record["lab/environment"]
    assert environment["merged"]
    assert "properties of the group 'second'" in {s["origin"] for s in environment["overridden"]}
    assert record["gpu/model"]["source"] == "gpu"
    await stop(hub, "ada")

    reply = await hub.api("POST", "/users/ada/server", {"profile": "lab", "lab/greeting": "no"})
    assert reply.status == 400, reply.text
    assert "is not allowed by the administrator" in reply.text
    assert "hello" in reply.text


async def test_a_running_server_keeps_what_it_was_started_with(params_hub: Any, tmp_path: Path) -> None:
    """Its record stays in the state, through changes of profiles and a restart of the hub; the next start is new."""
    hub = await params_hub(folder=tmp_path / "hub")
    await hub.user("ada")
    pod, env = await start(hub, "ada", profile="lab")
    assert env["THREADS"] == "2"
    state = (await hub.api("GET", "/users/ada?include_stopped_servers")).json["servers"][""]["state"]
    assert state["profile_spawner"]["params"] == record_of(pod)

    path = hub.profiles / "profiles.py"
    path.write_text(PROFILES.replace('"lab/threads": 2', '"lab/threads": 4'))
    await hub.close()
    again = await params_hub(folder=tmp_path / "hub", namespace=hub.namespace, port=int(hub.url.rpartition(":")[2]))
    found = (await again.api("GET", "/users/ada?include_stopped_servers")).json["servers"][""]["state"]
    assert found["profile_spawner"]["params"] == record_of(pod)
    assert [p["metadata"]["uid"] for p in await objects(again, "pods")] == [pod["metadata"]["uid"]]
    await stop(again, "ada")
    _, env = await start(again, "ada", profile="lab")
    assert env["THREADS"] == "4"


async def test_a_secure_param_is_a_reference_in_the_pod_and_nowhere_else(params_hub: Any) -> None:
    """The container refers to the Secret; page, record, state, API, form and log at DEBUG show neither name nor key."""
    hub = await params_hub()
    await hub.user("ada")
    browser = await hub.browser("ada")
    page = await browser.get("/hub/spawn")
    assert CANARY not in page.text
    pod, env = await start(hub, "ada", profile="lab")
    assert env["PASSWORD"] == {"secretKeyRef": {"name": f"{CANARY}-secret", "key": f"{CANARY}-key"}}
    assert record_of(pod)["db/password"]["value"] == "***"
    everything = json.dumps({**pod, "spec": None})
    for path in ("/users/ada?include_stopped_servers", "/users"):
        everything += (await hub.api("GET", path)).text
    assert CANARY not in everything
    assert CANARY not in hub.log
    await browser.close()


@pytest.mark.hub5
async def test_users_choose_what_is_theirs_and_it_is_remembered(params_hub: Any) -> None:
    """A field with title, help and bounds; the same schema on the server; a sensitive one where a profile says so."""
    hub = await params_hub(LAYERS)
    await hub.user("ada")
    browser = await hub.browser("ada")
    page = (await browser.get("/hub/spawn")).text
    (field,) = re.findall(r"<input[^>]*name=\"profile-option-lab--lab/threads\"[^>]*>", page)
    assert {'type="number"', 'min="1"', 'max="6"', 'value="2"'} <= set(field.split())
    assert "Threads" in page
    assert "How many threads." in page
    assert 'name="profile-option-choosy--image/lab"' in page
    assert 'name="profile-option-lab--image/lab"' not in page

    reply = await browser.post("/hub/spawn", {"profile": "lab", "profile-option-lab--lab/threads": "9"})
    assert reply.status == 400
    reply = await browser.post("/hub/spawn", {"profile": "lab", "profile-option-lab--image/lab": "evil:1"})
    assert reply.status == 400
    for wrong in ({"lab/threads": 2.5}, {"lab/threads": "x"}, {"image/lab": "evil:1"}, {"hub/stage": "x"}):
        reply = await hub.api("POST", "/users/ada/server", {"profile": "lab", **wrong})
        assert reply.status == 400, wrong
    (field,) = re.findall(r"<input[^>]*name=\"profile-option-needy--team/code\"[^>]*>", page)
    assert {'value=""', 'aria-required="true"'} <= set(field.removesuffix(">").split())
    replies = [
        await browser.post("/hub/spawn", {"profile": "needy", "profile-option-needy--team/code": ""}),
        await browser.get(f"/hub/spawn?{'opt-profile' if 'opt-' in page else 'profile'}=needy"),
        await hub.api("POST", "/users/ada/server", {"profile": "needy"}),
    ]
    assert [reply.status for reply in replies] == [400] * 3
    assert all("team/code" in reply.text and "is needed" in reply.text for reply in replies)
    assert not await objects(hub, "pods")
    _, env = await start(hub, "ada", profile="needy", **{"team/code": "AB-1"})
    assert env["CODE"] == "AB-1"
    await stop(hub, "ada")

    pod, env = await start(hub, "ada", profile="choosy", **{"lab/threads": 3, "image/lab": "mine:2"})
    assert (env["THREADS"], pod["spec"]["containers"][0]["image"]) == ("3", "mine:2")
    await stop(hub, "ada")
    page = (await browser.get("/hub/spawn")).text
    (field,) = re.findall(r"<input[^>]*name=\"profile-option-choosy--lab/threads\"[^>]*>", page)
    assert 'value="3"' in field.split()
    await browser.close()


HOOK = """
import asyncio, json
from pathlib import Path
from jupyterhub.auth import DummyAuthenticator

class Remembering(DummyAuthenticator):
    async def authenticate(self, handler, data):
        name = await super().authenticate(handler, data)
        return {"name": name, "auth_state": {"threads": 7}}

c.JupyterHub.authenticator_class = Remembering
c.Remembering.password = c.DummyAuthenticator.password
c.Authenticator.enable_auth_state = True
c.CryptKeeper.keys = [b"x" * 32]

async def layers(spawner):
    if spawner.user.name == "broken":
        raise RuntimeError("the directory is down")
    state = await spawner.user.get_auth_state() or {}
    of_file = json.loads(Path("values.json").read_text())
    return {"user": {"lab/threads": state["threads"]} if state else {}, "server": of_file.get(spawner.name, {})}

c.ProfileSpawner.param_layers_hook = layers
"""


async def test_values_come_from_auth_state_and_a_file_by_a_hook(params_hub: Any, tmp_path: Path) -> None:
    """For the page and for the pod; a hook that fails is a clear message to the administrator, and no 5xx."""
    folder = tmp_path / "hooked"
    folder.mkdir()
    (folder / "values.json").write_text(json.dumps({"": {"hub/stage": "from the file"}}))
    hub = await params_hub(HOOK, folder=folder)
    browser = await hub.browser("ada")
    page = (await browser.get("/hub/spawn")).text
    (field,) = re.findall(r"<input[^>]*name=\"profile-option-lab--lab/threads\"[^>]*>", page)
    assert 'value="7"' in field.split()
    pod, env = await start(hub, "ada", profile="lab")
    assert (env["THREADS"], env["STAGE"]) == ("7", "from the file")
    assert record_of(pod)["lab/threads"]["origin"] == "param_layers_hook: user"
    await browser.close()

    await hub.user("broken")
    browser = await hub.browser("broken")
    assert (await browser.get("/hub/spawn")).status == 200
    reply = await hub.api("POST", "/users/broken/server", {"profile": "lab"})
    if reply.status == 202:
        model = await hub.until_ready("broken")
        assert model["events"][-1]["failed"]
    else:
        assert reply.status == 422, reply.text
    assert "param_layers_hook: RuntimeError: the directory is down" in hub.log
    await browser.close()


async def test_a_change_that_breaks_its_own_profiles_is_reported_and_changes_nothing(params_hub: Any) -> None:
    """A definition is changed, and values no longer fit: administrators read why, and servers start as before."""
    hub = await params_hub(LAYERS)
    await hub.user("ada")
    changed = PROFILES.replace('Param("gpu/model", default="none")', 'Param("gpu/model", schema={"type": "integer"})')
    (hub.profiles / "profiles.py").write_text(changed)
    browser = await hub.browser("root")
    page = ""
    for _ in range(300):  # the page is the only witness
        page = html.unescape((await browser.get("/hub/spawn")).text)
        if "gpu/model" in page:
            break
        await asyncio.sleep(0.1)
    assert re.search(r"profiles\.py:\d+: profile 'gpu': param gpu/model: .A100. is not of type .integer.", page)
    await browser.close()
    browser = await hub.browser("ada")
    assert "gpu/model" not in (await browser.get("/hub/spawn")).text
    await browser.close()
    _, env = await start(hub, "ada", profile="lab")
    assert env["GPU"] == "A100"
