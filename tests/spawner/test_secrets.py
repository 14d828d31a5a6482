"""No secret of a server gets into the hub's log, at DEBUG, whatever goes wrong."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.fault_proxy import Fault, status_body

from .stress import CANARY, World

pytestmark = [pytest.mark.hub]

CAUSE = {"reason": "FieldValueInvalid", "message": f'Invalid value: "{CANARY}": must match', "field": "spec.x"}
FAULTS: dict[str, dict[str, Any]] = {
    "invalid": {"status": 422, "body": status_body(422, "Invalid", f"{CANARY} is bad", causes=[CAUSE])},
    "bad-request": {"status": 400, "body": status_body(400, "BadRequest", f"error found in ...|{CANARY}|...")},
    "quota": {"status": 403, "body": status_body(403, "Forbidden", f'pods "{CANARY}" is forbidden')},
    "error": {"status": 500, "body": status_body(500, "InternalError", CANARY)},
    "page": {"status": 502, "body": f"<html>{CANARY}</html>"},
}
CONFIG = """
c.KubeSpawner.k8s_api_request_timeout = 1
c.KubeSpawner.k8s_api_request_retry_timeout = 1
c.Spawner.consecutive_failure_limit = 0
"""
WAYS = {
    "pods": ("", "plain"),
    "configmaps": ("", "full"),
    "persistentvolumeclaims": ("c.KubeSpawner.storage_pvc_ensure = True\n", "plain"),
    "services": ("c.KubeSpawner.services_enabled = True\n", "plain"),
}


@pytest.mark.parametrize("resource", sorted(WAYS))
async def test_the_log_has_no_secret(local_world: World, resource: str) -> None:
    """Every kind of refusal at every kind of object: neither environment values, nor tokens, nor manifests."""
    config, profile = WAYS[resource]
    world = local_world
    hub = await world.hub(CONFIG + config)
    await hub.user("ada")
    tokens: set[str] = set()
    for fault in FAULTS.values():
        world.proxy.clear()
        world.proxy.faults = [Fault("answer", ("POST",), f"/{resource}$", -1, **fault)]
        reply = await hub.api("POST", "/users/ada/server", {"profile": profile})
        assert CANARY not in reply.text
        if reply.status in (201, 202):
            assert CANARY not in str(await world.progress(hub, "ada"))
        await world.idle(hub, "ada")
        tokens |= set(re.findall(r"'JUPYTERHUB_API_TOKEN', 'value': '(\w+)'", str(world.proxy.seen)))
    assert tokens or resource != "pods"
    log = hub.log
    assert CANARY not in log
    for token in tokens:
        assert token not in log
    assert hub.alive


async def test_the_keys_of_internal_ssl_stay_out_of_the_log(local_world: World, make_spawner: Any) -> None:
    """KubeSpawner logs the whole Secret with the server's keys when it cannot be made; here only its name is."""
    import logging

    from kubernetes_asyncio.client import V1ObjectMeta, V1OwnerReference, V1Secret
    from tornado import web

    from profile_spawner.spawner import ProfileSpawner

    spawner = make_spawner(ProfileSpawner)
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(self.format(record))

    spawner.log = logging.getLogger("tests.secrets")
    spawner.log.setLevel(logging.DEBUG)
    spawner.log.addHandler(Keep())
    from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api

    configuration = Configuration(host=local_world.proxy.url)
    configuration.api_key = {"BearerToken": f"Bearer {local_world.plane.admin_token}"}
    owner = V1OwnerReference(api_version="v1", kind="Pod", name="jupyter-ada", uid="0")
    secret = V1Secret(metadata=V1ObjectMeta(name="keys", owner_references=[owner]), string_data={"ssl.key": CANARY})
    local_world.proxy.faults = [Fault("answer", ("POST",), "/secrets$", -1, **FAULTS["invalid"])]
    async with ApiClient(configuration) as client:
        spawner.api = CoreV1Api(client)
        spawner.namespace = local_world.namespace
        spawner.current_start._created = {"metadata": {"uid": "0"}}  # the pod comes before its Secret
        with pytest.raises(web.HTTPError) as refused:
            await spawner._make_create_resource_request("secret", secret)
    assert CANARY not in str(refused.value)
    assert any("keys" in line for line in records)
    assert not any(CANARY in line for line in records), os.linesep.join(records)
