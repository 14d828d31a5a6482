"""The environment and the command of a container, made from the pod as the kubelet makes them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from .apiclient import Json
from .failures import LocalClusterError
from .quantities import parse_quantity

__all__ = [
    "ConfigError",
    "ObjectReader",
    "PodFacts",
    "command_of",
    "data_of",
    "environment_of",
    "expand",
    "field_text",
    "read_object",
    "resource_text",
]

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
_ANY_HOST = re.compile(r"(?<=//)(?:0\.0\.0\.0|\[::\]|)(?=[:/]|$)")
_ANY_ADDRESS = re.compile(r"(?<![\w.])0\.0\.0\.0(?![\w.])")


class ConfigError(LocalClusterError):
    """A container cannot be made yet: something it refers to is missing.

    Args:
        message: The reason, in the kubelet's words.
        kind: `configmaps` or `secrets`.
        name: The name of the missing object.
    """

    def __init__(self, message: str, kind: str, name: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


class ObjectReader(Protocol):
    """Reads objects of the cluster; what does not exist is None."""

    async def config_map(self, namespace: str, name: str) -> Json | None:
        """Return a ConfigMap."""

    async def secret(self, namespace: str, name: str) -> Json | None:
        """Return a Secret."""

    async def claim(self, namespace: str, name: str) -> Json | None:
        """Return a PersistentVolumeClaim."""

    async def service_account_token(self, namespace: str, name: str) -> str:
        """Return a token for a ServiceAccount."""


@dataclass(frozen=True)
class PodFacts:
    """What is known about a pod only on its node.

    Attributes:
        pod: The Pod object.
        ip: The pod's address.
        node: The node's name.
        allocatable: What the node has, resource name to quantity.
        host_ip: The node's address.
    """

    pod: Json
    ip: str
    node: str
    allocatable: Mapping[str, str]
    host_ip: str = "127.0.0.1"


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` in `text`; `$$` stands for one `$`, and what is not known stays as it is."""

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        return values.get(match[2], str(match[0]))

    return _REFERENCE.sub(replace, text)


def field_text(facts: PodFacts, path: str) -> str:
    """Return the field of the pod that a `fieldRef` names, as text; empty when the pod does not have it."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    if match := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = metadata.get(path.partition(".")[2]) or {}
        return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(pairs.items()))
    fields: dict[str, str] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": facts.node,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.ip,
        "status.podIPs": facts.ip,
    }
    return fields.get(path, "")


def _quoted(text: str) -> str:
    """Return `text` in double quotes, escaped so that each label or annotation is one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def resource_text(facts: PodFacts, reference: Mapping[str, Any], container: Json | None = None) -> str:
    """Return what a `resourceFieldRef` names, in whole units of its divisor.

    A container without a limit has the node's capacity, as on a real cluster.
    """
    if container is None:
        spec = facts.pod["spec"]
        containers = [*spec["containers"], *(spec.get("initContainers") or [])]
        container = next(c for c in containers if c["name"] == reference["containerName"])
    kind, _, name = str(reference["resource"]).partition(".")
    resources = container.get("resources") or {}
    amount = (resources.get(kind) or {}).get(name)
    if amount is None and kind == "requests":
        amount = (resources.get("limits") or {}).get(name, 0)
    if amount is None:
        amount = facts.allocatable.get(name, 0)
    divisor = parse_quantity(reference.get("divisor") or 1)
    return str(ceil(parse_quantity(amount or 0) / (divisor or 1)))


def data_of(kind: str, obj: Json) -> dict[str, bytes]:
    """Return what a ConfigMap or a Secret (`kind` is `configmap` or `secret`) holds, key to content."""
    data = obj.get("data") or {}
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    texts = {key: value.encode() for key, value in data.items()}
    return texts | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


async def environment_of(container: Json, facts: PodFacts, reader: ObjectReader) -> dict[str, str]:
    """Return what the pod says about the environment of `container`.

    `envFrom` comes first, `env` wins; a value may refer to earlier ones of `env`.

    Raises:
        ConfigError: A ConfigMap, a Secret or a key in it is missing.
    """
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        result |= await _all_of(source, facts, reader)
    own: dict[str, str] = {}
    for variable in container.get("env") or []:
        name = variable["name"]
        source = variable.get("valueFrom")
        value = await _one_of(source, container, facts, reader) if source else expand(variable.get("value") or "", own)
        if value is not None:
            own[name] = value
    result |= own
    if url := result.get("JUPYTERHUB_SERVICE_URL"):
        # "Listen on every interface" inside a pod means: on the pod's own address.
        result["JUPYTERHUB_SERVICE_URL"] = _ANY_HOST.sub(facts.ip, url, count=1)
    return result


async def read_object(reader: ObjectReader, kind: str, namespace: str, name: str) -> Json | None:
    """Return a ConfigMap or a Secret (`kind` is `configmap` or `secret`), None when there is none."""
    if kind == "configmap":
        return await reader.config_map(namespace, name)
    return await reader.secret(namespace, name)


async def _all_of(source: Json, facts: PodFacts, reader: ObjectReader) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    kind = "configmap" if "configMapRef" in source else "secret"
    reference = source["configMapRef" if kind == "configmap" else "secretRef"]
    obj = await read_object(reader, kind, facts.pod["metadata"]["namespace"], reference["name"])
    if obj is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{kind} "{reference["name"]}" not found', f"{kind}s", reference["name"])
    return {
        prefix + key: value.decode("utf-8", "replace")
        for key, value in data_of(kind, obj).items()
        if "=" not in key and "\0" not in key
    }


async def _one_of(source: Json, container: Json, facts: PodFacts, reader: ObjectReader) -> str | None:
    if "fieldRef" in source:
        return field_text(facts, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        reference = source["resourceFieldRef"]
        return resource_text(facts, reference, None if reference.get("containerName") else container)
    kind = "configmap" if "configMapKeyRef" in source else "secret"
    reference = source["configMapKeyRef" if kind == "configmap" else "secretKeyRef"]
    namespace, name, key = facts.pod["metadata"]["namespace"], reference["name"], reference["key"]
    obj = await read_object(reader, kind, namespace, name)
    data = data_of(kind, obj) if obj is not None else {}
    if key in data:
        return data[key].decode("utf-8", "replace")
    if reference.get("optional"):
        return None
    if obj is None:
        raise ConfigError(f'{kind} "{name}" not found', f"{kind}s", name)
    shown = "ConfigMap" if kind == "configmap" else "Secret"
    raise ConfigError(f"couldn't find key {key} in {shown} {namespace}/{name}", f"{kind}s", name)


def command_of(container: Json, env: Mapping[str, str], ip: str, default: list[str]) -> list[str]:
    """Return the argument list of `container`.

    Args:
        container: The container's part of the pod.
        env: Its whole environment, for `$(NAME)`.
        ip: The pod's address; it takes the place of `0.0.0.0`, for the machine's interfaces are not the pod's.
        default: What the pretended image runs when the pod names no command.
    """
    command, args = container.get("command") or [], container.get("args") or []
    argv = [expand(part, env) for part in (*command, *args)]
    if not command:
        # An image's entry point gets the arguments; one that names a program itself is taken as a command.
        argv = [*default, *argv] if not argv or argv[0].startswith("-") else argv
    return [_ANY_ADDRESS.sub(ip, part) for part in argv]
