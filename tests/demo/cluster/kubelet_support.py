"""What the tests of the kubelet share: a namespace with pods, awaited by watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from profile_spawner.demo.cluster.apiclient import ApiClient, ApiError, Json
from profile_spawner.demo.cluster.kubelet import Kubelet
from tests.control_plane import ControlPlane

PATIENCE = 30.0


def needs_view(kubelet: Kubelet) -> None:
    """Skip the test where pods have no view of the machine of their own."""
    if kubelet.sandbox_mode == "plain":
        pytest.skip("volumes cannot appear at their paths here: bubblewrap does not work")


class Cluster:
    """One namespace of a control plane.

    Args:
        client: An open client of an administrator.
        namespace: The namespace.
        ca: The file with the control plane's certificate authority; `None` where it has none.
        token: The administrator's token.
    """

    def __init__(self, client: ApiClient, namespace: str, ca: Any = None, token: str = "") -> None:
        self.client = client
        self.token = token
        self.namespace = namespace
        self.ca = ca
        self.base = f"/api/v1/namespaces/{namespace}"

    @classmethod
    async def open(cls, plane: ControlPlane, namespace: str) -> Cluster:
        """Connect to `plane` as its administrator."""
        client = ApiClient(plane.url, plane.admin_token, ca=plane.ca_path)
        await client.start()
        return cls(client, namespace, plane.ca_path, plane.admin_token)

    async def create(self, resource: str, name: str, **content: Any) -> Json:
        """Create an object; `metadata` beside its name may be part of `content`."""
        metadata = {"name": name, **content.pop("metadata", {})}
        return await self.client.call("POST", f"{self.base}/{resource}", {"metadata": metadata, **content})

    async def pod(self, name: str, script: str = "exec sleep 1000", **options: Any) -> Json:
        """Create a pod that runs `script` in `sh`.

        Options of the container are `env`, `env_from`, `mounts`, `resources`, `ports`, `command`, `args` and
        `image`; all others are the pod's.
        """
        container: Json = {"name": "main", "image": options.pop("image", "example/image:1")}
        container["command"] = options.pop("command", ["sh", "-c", script])
        renamed = {"env_from": "envFrom", "mounts": "volumeMounts"}
        for key in ("env", "env_from", "mounts", "resources", "args", "ports"):
            if key in options:
                container[renamed.get(key, key)] = options.pop(key)
        metadata = options.pop("metadata", {})
        more = options.pop("containers", [])
        spec = {
            "containers": [container, *more],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 10,
            "automountServiceAccountToken": False,
            **options,
        }
        return await self.create("pods", name, metadata=metadata, spec=spec)

    async def get(self, resource: str, name: str) -> Json | None:
        """Return an object, None when there is none."""
        return await self.client.get(f"{self.base}/{resource}/{name}")

    async def delete(self, resource: str, name: str, **options: Any) -> None:
        """Delete an object."""
        await self.client.call("DELETE", f"{self.base}/{resource}/{name}", options or None)

    async def patch(self, resource: str, name: str, body: Json) -> None:
        """Merge `body` into an object."""
        await self.client.call(
            "PATCH", f"{self.base}/{resource}/{name}", body, content_type="application/merge-patch+json"
        )

    async def wait(self, resource: str, name: str, condition: Callable[[Json], Any]) -> Json:
        """Wait until the object exists and `condition` holds for it."""
        return await self._wait(resource, f"metadata.name={name}", condition, f"{resource}/{name}")

    async def wait_phase(self, name: str, *phases: str) -> Json:
        """Wait until the pod is in one of `phases`."""
        return await self.wait("pods", name, lambda pod: pod["status"].get("phase") in phases)

    async def wait_waiting(self, name: str, reason: str, container: int = 0) -> Json:
        """Wait until a container of the pod waits for `reason`, and return its `waiting` state."""

        def waiting(pod: Json) -> Json:
            statuses = pod["status"].get("containerStatuses") or [{}] * (container + 1)
            state: Json = statuses[container].get("state", {}).get("waiting", {})
            return state

        pod = await self.wait("pods", name, lambda p: waiting(p).get("reason") == reason)
        return waiting(pod)

    async def wait_gone(self, resource: str, name: str) -> None:
        """Wait until the object does not exist any more."""

        async def gone() -> None:
            query = {"fieldSelector": f"metadata.name={name}"}
            listed = await self.client.call("GET", f"{self.base}/{resource}", query=query)
            version = listed["metadata"]["resourceVersion"]
            if not listed["items"]:
                return
            async for event in self.client.watch(f"{self.base}/{resource}", version, query):
                if event["type"] == "DELETED":
                    return

        await asyncio.wait_for(gone(), PATIENCE)

    async def wait_event(self, name: str, reason: str, text: str = "") -> Json:
        """Wait for an event of the pod with this reason and with `text` in its message."""
        selector = f"involvedObject.name={name},reason={reason}"
        return await self._wait("events", selector, lambda e: text in e["message"], f"{reason} of {name}")

    async def events(self, name: str) -> list[tuple[str, str]]:
        """Return reason and message of the pod's events, in their order."""
        query = {"fieldSelector": f"involvedObject.name={name}"}
        listed = await self.client.call("GET", f"{self.base}/events", query=query)
        items = sorted(listed["items"], key=lambda e: int(e["metadata"]["resourceVersion"]))
        return [(e["reason"], e["message"]) for e in items]

    async def _wait(self, resource: str, selector: str, condition: Callable[[Json], Any], what: str) -> Json:
        seen: list[Json] = []

        async def found() -> Json:
            path = f"{self.base}/{resource}"
            query = {"fieldSelector": selector}
            while True:
                listed = await self.client.call("GET", path, query=query)
                for item in listed["items"]:
                    seen.append(item)
                    if condition(item):
                        return dict(item)
                try:
                    async for event in self.client.watch(path, listed["metadata"]["resourceVersion"], query):
                        if event["type"] in ("ADDED", "MODIFIED"):
                            seen.append(event["object"])
                            if condition(event["object"]):
                                return dict(event["object"])
                except ApiError as error:
                    if error.status != 410:
                        raise

        try:
            return await asyncio.wait_for(found(), PATIENCE)
        except asyncio.TimeoutError:
            last = seen[-1].get("status", seen[-1]) if seen else None
            raise AssertionError(f"waited in vain for {what}; last seen: {last}") from None
