"""A small client for the tests of the API server: the same calls on the local and on a real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.control_plane import Answer, ControlPlane

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

PATIENCE = 20.0
"""Seconds that a test waits for something that must come."""

_GROUPS = {
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "clusterroles": "/apis/rbac.authorization.k8s.io/v1",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "storageclasses": "/apis/storage.k8s.io/v1",
}
_CLUSTER_SCOPED = frozenset(
    {"clusterrolebindings", "clusterroles", "namespaces", "nodes", "persistentvolumes", "storageclasses"}
)


def resource_path(resource: str, namespace: str | None) -> str:
    """Return the path of a resource's collection; None for all namespaces."""
    root = _GROUPS.get(resource, "/api/v1")
    if resource in _CLUSTER_SCOPED or namespace is None:
        return f"{root}/{resource}"
    return f"{root}/namespaces/{namespace}/{resource}"


class Watch:
    """The events of one watch, in the order in which they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def event(self) -> tuple[str, dict[str, Any]]:
        """Return the next event; `EOFError` at the end of the stream."""
        line = await asyncio.wait_for(self._response.content.readline(), PATIENCE)
        if not line:
            raise EOFError
        event = json.loads(line)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        """Return type and name of the next `count` events."""
        events = [await self.event() for _ in range(count)]
        return [(kind, found["metadata"]["name"]) for kind, found in events]

    async def until(self, kind: str, name: str) -> list[str]:
        """Return the types of the events of object `name` up to the first of type `kind`."""
        seen: list[str] = []
        while True:
            found, document = await self.event()
            if document["metadata"].get("name") == name:
                seen.append(found)
                if found == kind:
                    return seen

    async def rest(self) -> list[tuple[str, dict[str, Any]]]:
        """Return all events up to the end of the stream."""
        events = []
        with contextlib.suppress(EOFError):
            while True:
                events.append(await self.event())
        return events


class Api:
    """Calls an API server within one namespace.

    Args:
        plane: The control plane.
        namespace: The namespace.
        token: Who calls; the administrator by default.
    """

    def __init__(self, plane: ControlPlane, namespace: str, token: str | None = None) -> None:
        self.plane = plane
        self.namespace = namespace
        self.token = token

    def as_user(self, token: str) -> Api:
        """Return the same namespace as another user sees it."""
        return Api(self.plane, self.namespace, token)

    def path(self, resource: str, name: str = "", subresource: str = "") -> str:
        """Return the path of a collection, an object or its subresource."""
        parts = [resource_path(resource, self.namespace), name, subresource]
        return "/".join(part for part in parts if part)

    async def call(self, method: str, path: str, body: object = None, **options: Any) -> Answer:
        """Send one request."""
        return await self.plane.request(method, path, body, token=self.token, **options)

    async def get(self, resource: str, name: str, subresource: str = "") -> Answer:
        """Read one object."""
        return await self.call("GET", self.path(resource, name, subresource))

    async def list(self, resource: str, **params: str) -> dict[str, Any]:
        """Return a list, which must succeed."""
        answer = await self.call("GET", self.path(resource), params=params)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.body
        return found

    async def names(self, resource: str, **params: str) -> list[str]:
        """Return the names that a list holds."""
        return [item["metadata"]["name"] for item in (await self.list(resource, **params))["items"]]

    async def version(self, resource: str) -> str:
        """Return the resource version of a list made now."""
        version: str = (await self.list(resource))["metadata"]["resourceVersion"]
        return version

    async def try_create(self, resource: str, body: dict[str, Any], **params: str) -> Answer:
        """Create an object, whatever comes of it."""
        return await self.call("POST", self.path(resource), body, params=params)

    async def create(self, resource: str, body: dict[str, Any], **params: str) -> dict[str, Any]:
        """Create an object, which must succeed, and return it."""
        answer = await self.try_create(resource, body, **params)
        assert answer.status == 201, answer
        created: dict[str, Any] = answer.body
        return created

    async def patch(
        self, resource: str, name: str, body: object, content_type: str = MERGE, subresource: str = "", **params: str
    ) -> Answer:
        """Patch an object."""
        path = self.path(resource, name, subresource)
        return await self.call("PATCH", path, body, content_type=content_type, params=params)

    async def put(self, resource: str, name: str, body: dict[str, Any]) -> Answer:
        """Replace an object."""
        return await self.call("PUT", self.path(resource, name), body)

    async def delete(self, resource: str, name: str, **options: Any) -> Answer:
        """Delete an object; `options` are those of `DeleteOptions`."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        return await self.call("DELETE", self.path(resource, name), body)

    @property
    def node(self) -> str:
        """A node that does not exist, and of which nobody has heard: a known one's pods would be collected."""
        return f"node-of-{self.namespace}"

    async def bind(self, name: str, node: str = "") -> Answer:
        """Assign a pod to a node."""
        target = {"kind": "Node", "name": node or self.node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        return await self.call("POST", self.path("pods", name, "binding"), body)

    async def gone(self, resource: str, name: str) -> None:
        """Wait until an object does not exist."""

        async def wait() -> None:
            while (await self.get(resource, name)).status != 404:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(wait(), PATIENCE)

    @contextlib.asynccontextmanager
    async def watch(self, resource: str, *, everywhere: bool = False, **params: str) -> AsyncIterator[Watch]:
        """Watch a resource in the namespace; the watch has begun when this returns."""
        context = ssl.create_default_context(cafile=self.plane.ca_path) if self.plane.ca_path else True
        token = self.plane.admin_token if self.token is None else self.token
        path = resource_path(resource, None if everywhere else self.namespace)
        params = {"watch": "true", "timeoutSeconds": "30", **params}
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
            session.get(self.plane.url + path, params=params, ssl=context) as response,
        ):
            assert response.status == 200, await response.text()
            yield Watch(response)


def pod(name: str = "p", **more: Any) -> dict[str, Any]:
    """Return a small pod; keywords of the container's, of the metadata (`labels`, ...), or `spec`."""
    metadata = {"name": name}
    for key in ("labels", "annotations", "ownerReferences", "finalizers", "generateName"):
        if key in more:
            metadata[key] = more.pop(key)
    spec = more.pop("spec", {})
    container = {"name": "notebook", "image": "example/image:1", **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def config_map(name: str = "c", data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a ConfigMap; `metadata` beside its name may be part of `more`."""
    metadata = {"name": name, **more.pop("metadata", {})}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more}
    return document if data is None else {**document, "data": data}


def claim(name: str = "claim", size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    """Return a PersistentVolumeClaim."""
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def owner(document: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Return `ownerReferences` to an object."""
    found = {"apiVersion": document["apiVersion"], "kind": document["kind"], **more}
    return [{**found, "name": document["metadata"]["name"], "uid": document["metadata"]["uid"]}]


def causes(answer: Answer) -> set[tuple[str, str]]:
    """Return reason and field of every cause of a refusal."""
    found = (answer.body.get("details") or {}).get("causes", [])
    return {(cause.get("reason", ""), cause.get("field", "")) for cause in found}
