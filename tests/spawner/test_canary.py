"""A secret in every place where one can be is found nowhere but in the Kubernetes Secrets that hold it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fault_proxy import Fault

from .stress import World
from .test_secrets import FAULTS

pytestmark = [pytest.mark.hub]

CANARIES = {name: f"canary-{name}-5c1e" for name in ("env", "mount", "from", "param", "pull", "manifest", "made")}
PULL = base64.b64encode(json.dumps({"auths": {"r": {"auth": CANARIES["pull"]}}}).encode()).decode()

PROFILE = f"""
from profile_spawner import (
    BaseAppProfile, ConfigMap, ImagePullSecret, Manifest, Param, SecretMount, Template, profile_registry,
)

MANIFEST = {{
    "apiVersion": "v1", "kind": "Secret", "metadata": {{"name": Template("made-{{{{ server_slug }}}}")}},
    "stringData": {{"password": "{CANARIES["manifest"]}"}},
}}
NAMED = {{"name": Template("enc-{{{{ server_slug }}}}")}}
ENCODED = {{**MANIFEST, "metadata": NAMED, "stringData": {{}}, "data": {{"p": "{
    base64.b64encode(CANARIES["made"].encode()).decode()
}"}}}}

profile_registry.register_param(Param("db/password", secure=True))


@profile_registry.register
class Secretive(BaseAppProfile):
    slug = "secretive"
    display_name = "Secretive"
    description = "A secret in every place"
    image = "full:1"
    params = {{"db/password": {{"secret": "stored", "key": "param"}}}}
    pod_env_vars = {{
        "PASSWORD": {{"from_secret": {{"name": "stored", "key": "env"}}}},
        "DB_PASSWORD": "{{{{ db/password }}}}",
    }}
    profile_options = {{"size": {{"choices": {{"s": {{}}, "l": {{}}}}}}}}

    def get_secret_mounts(self):
        return [SecretMount(name="stored", mount_path="/secrets")]

    def get_env_secrets(self):
        return ["stored"]

    def get_image_pull_secrets(self):
        return [ImagePullSecret(name="registry", data="{PULL}")]

    def get_manifests(self):
        return [Manifest(name="made", content=(MANIFEST, ENCODED))]

    def get_config_maps(self):
        return [ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd.d/full")]
"""
CONFIG = """
c.KubeSpawner.k8s_api_request_timeout = 1
c.KubeSpawner.k8s_api_request_retry_timeout = 2
c.Spawner.consecutive_failure_limit = 0
c.KubeSpawner.image_pull_policy = 'Never'
"""
# The plain texts, and the ways in which they travel.
WANTED = [
    form
    for canary in (*CANARIES.values(), PULL)
    for form in (canary, base64.b64encode(canary.encode()).decode().rstrip("="))
]


def found_in(text: str) -> set[str]:
    """Return the canaries that a text holds in any form."""
    return {form for form in WANTED if form in text}


async def what_can_be_seen(world: World, hub: Any, browser: Any) -> dict[str, str]:
    """Return everything that anybody can read without the right to read Secrets."""
    seen = {"log": hub.log}
    seen["database"] = (hub.folder / "hub.sqlite").read_bytes().decode("latin-1")
    for path in ("/users", "/users/ada?include_stopped_servers", "/info", "/proxy", "/groups"):
        seen[f"api {path}"] = (await hub.api("GET", path)).text
    seen["metrics"] = (await hub.api("GET", "/../metrics")).text
    for path in (
        "/hub/spawn",
        "/hub/spawn/ada/other",
        "/hub/home",
        "/hub/profile-spawner/profiles",
        "/hub/spawn-pending/ada",
    ):
        seen[f"page {path}"] = (await browser.get(path)).text
    for plural in ("pods", "configmaps", "services", "persistentvolumeclaims", "events"):
        listed = await world.plane.ok("GET", f"/api/v1/namespaces/{world.namespace}/{plural}")
        seen[plural] = json.dumps(listed)
    secrets = await world.plane.ok("GET", f"/api/v1/namespaces/{world.namespace}/secrets")
    seen["metadata of secrets"] = json.dumps([{**s, "data": None, "stringData": None} for s in secrets["items"]])
    return seen


async def test_secrets_stay_in_secrets(local_world: World) -> None:
    """At DEBUG, through every kind of fault at every kind of object, and while the server runs."""
    world = local_world
    (world.profiles / "secretive.py").write_text(PROFILE)
    stored = {
        "metadata": {"name": "stored"},
        "stringData": {name: CANARIES[name] for name in ("env", "mount", "from", "param")},
    }
    await world.plane.ok("POST", f"/api/v1/namespaces/{world.namespace}/secrets", stored)
    hub = await world.hub(CONFIG)
    await hub.user("ada")
    browser = await hub.browser("ada")
    request = {"profile": "secretive", "size": "l"}
    told: list[str] = []
    tokens: set[str] = set()
    for resource in ("configmaps", "pods", "secrets"):
        for fault in FAULTS.values():
            world.proxy.clear()
            world.proxy.faults = [Fault("answer", ("POST",), f"/{resource}$", -1, **fault)]
            reply = await hub.api("POST", "/users/ada/server", request)
            told.append(reply.text)
            if reply.status in (201, 202):
                told.append(str(await world.progress(hub, "ada")))
            await world.idle(hub, "ada")
            tokens |= api_tokens(world)
    world.proxy.clear()
    world.proxy.faults = [Fault("reset-after", ("POST",), "/secrets$", 1), Fault("reset", ("POST",), "/pods$", 1)]
    reply = await hub.api("POST", "/users/ada/server", request)
    assert reply.status in (201, 202), reply.text
    told.append(str(await world.progress(hub, "ada")))
    assert await world.idle(hub, "ada") is not None
    tokens |= api_tokens(world)

    secrets = await world.plane.ok("GET", f"/api/v1/namespaces/{world.namespace}/secrets")
    held = "".join(base64.b64decode(v).decode() for s in secrets["items"] for v in (s.get("data") or {}).values())
    assert all(canary in held for canary in CANARIES.values())
    assert tokens
    seen = await what_can_be_seen(world, hub, browser)
    seen["answers"] = "\n".join(told)
    assert {place: found for place, text in seen.items() if (found := found_in(text))} == {}
    for place, text in seen.items():
        # The server's own token stands where JupyterHub puts it: in its pod. The database has its hash.
        assert place == "pods" or not any(token in text for token in tokens), place
    (pod,) = json.loads(seen["pods"])["items"]
    container = pod["spec"]["containers"][0]
    env = {variable["name"]: variable for variable in container["env"]}
    for name, key in (("PASSWORD", "env"), ("DB_PASSWORD", "param")):
        assert env[name]["valueFrom"]["secretKeyRef"] == {"name": "stored", "key": key}
    assert container["envFrom"] == [{"secretRef": {"name": "stored"}}]
    assert pod["metadata"]["annotations"]["profile-spawner/params"]
    assert (await hub.server("ada") or {})["user_options"] == request
    await world.stop(hub, "ada")
    assert found_in(hub.log) == set()
    assert hub.alive
    await browser.close()


def api_tokens(world: World) -> set[str]:
    """Return the servers' own tokens that went to the API server."""
    return set(re.findall(r"'JUPYTERHUB_API_TOKEN', 'value': '(\w+)'", str(world.proxy.seen)))


WRONG = {
    "a literal in a wrong type": "environment = ['canary-wrong-77']",
    "a list for a text": "image = ['canary-wrong-77']",
    "two values for one variable": "environment = {'A': {'value': {'x': 'canary-wrong-77'}}}",
    "a volume without a name": "volumes = [{'secret': 'canary-wrong-77'}]",
    "a wrong key": "extra_pod_config = {'env': {1: 'canary-wrong-77'}}",
}


@pytest.mark.parametrize("kind", sorted(WRONG))
async def test_a_value_that_does_not_fit_is_not_repeated(local_world: World, tmp_path: Path, kind: str) -> None:
    """A plain entry that KubeSpawner does not take is told by its key; the value might be a secret."""
    name, _, value = WRONG[kind].partition(" = ")
    entry = f"{{'display_name': 'Wrong', 'slug': 'wrong', 'kubespawner_override': {{'{name}': {value}}}}}"
    hub = await local_world.hub(f"c.KubeSpawner.profile_list = [{entry}]\nc.Spawner.consecutive_failure_limit = 1\n")
    await hub.user("ada")
    reply = await hub.api("POST", "/users/ada/server", {"profile": "wrong"})
    told = reply.text if reply.status >= 400 else str(await local_world.progress(hub, "ada"))
    assert "Wrong" in told or "refuses" in told, told
    await local_world.idle(hub, "ada")
    # The configuration file itself is no log; Python quotes its lines nowhere.
    assert "canary-wrong-77" not in told + hub.log
    assert hub.alive
