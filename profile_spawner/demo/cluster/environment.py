"""The environment and the command of a container, made from the pod as the kubelet makes them."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .apiclient import Json
from .failures import LocalClusterError

__all__ = ["MissingError", "PodFacts", "ReadObject", "command_of", "data_of", "environment_of", "expand"]

ReadObject: TypeAlias = Callable[[str, str, str], Awaitable[Json | None]]
"""Given the plural, the namespace and the name, returns an object; None when there is none."""

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
_ANY_HOST = re.compile(r"(?<=//)(?:0\.0\.0\.0|\[::\]|)(?=[:/]|$)")
_ANY_ADDRESS = re.compile(r"(?<![\w.])0\.0\.0\.0(?![\w.])")


class MissingError(LocalClusterError):
    """A container or a volume cannot be made yet: something that it refers to is missing.

    Args:
        message: The reason, in the kubelet's words.
        kind: The plural of what is missing, such as `configmaps`; empty when nothing will change that.
        name: Its name.
    """

    def __init__(self, message: str, kind: str = "", name: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


@dataclass(frozen=True)
class PodFacts:
    """A pod, with what is known about it only on its node.

    Attributes:
        pod: The Pod object.
        ip: The pod's address.
        node: The node's name.
    """

    pod: Json
    ip: str
    node: str

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return str(self.pod["metadata"]["namespace"])

    def field(self, path: str) -> str:
        """Return the field that a `fieldRef` names, as text; empty when the pod does not have it."""
        metadata = self.pod["metadata"]
        if match := _SUBSCRIPT.fullmatch(path):
            return str((metadata.get(match[1]) or {}).get(match[2], ""))
        fields = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": self.node,
            "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", "default"),
            "status.hostIP": "127.0.0.1",
            "status.podIP": self.ip,
        }
        return str(fields.get(path, ""))


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` in `text`; `$$` stands for one `$`, and what is not known stays as it is."""
    return _REFERENCE.sub(lambda match: "$" if match[1] else values.get(match[2], str(match[0])), text)


async def data_of(kind: str, reference: Json, namespace: str, read: ReadObject) -> dict[str, bytes]:
    """Return what a ConfigMap or a Secret (`kind` is `configmap` or `secret`) holds, key to content.

    Raises:
        MissingError: It does not exist, and the reference does not say that it is optional.
    """
    name = reference["name"]
    obj = await read(f"{kind}s", namespace, name)
    if obj is None and not reference.get("optional"):
        raise MissingError(f'{kind} "{name}" not found', f"{kind}s", name)
    data, binary = ((obj or {}).get(field) or {} for field in ("data", "binaryData"))
    if kind == "secret":
        data, binary = {}, data
    texts = {key: value.encode() for key, value in data.items()}
    return texts | {key: base64.b64decode(value) for key, value in binary.items()}


async def environment_of(container: Json, facts: PodFacts, read: ReadObject) -> dict[str, str]:
    """Return what the pod says about the environment of `container`.

    `envFrom` comes first, `env` wins; a value may refer to earlier ones of `env`.

    Raises:
        MissingError: A ConfigMap, a Secret or a key in it is missing.
    """
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        kind = "configmap" if "configMapRef" in source else "secret"
        reference = source["configMapRef" if kind == "configmap" else "secretRef"]
        data = await data_of(kind, reference, facts.namespace, read)
        prefix = source.get("prefix") or ""
        result |= {prefix + key: value.decode("utf-8", "replace") for key, value in data.items()}
    own: dict[str, str] = {}
    for variable in container.get("env") or []:
        source = variable.get("valueFrom")
        value = await _value_of(source, facts, read) if source else expand(variable.get("value") or "", own)
        if value is not None:
            own[variable["name"]] = value
    result |= own
    if url := result.get("JUPYTERHUB_SERVICE_URL"):
        # "Listen on every interface" inside a pod means: on the pod's own address.
        result["JUPYTERHUB_SERVICE_URL"] = _ANY_HOST.sub(facts.ip, url, count=1)
    return result


async def _value_of(source: Json, facts: PodFacts, read: ReadObject) -> str | None:
    if "fieldRef" in source:
        return facts.field(source["fieldRef"]["fieldPath"])
    kind = "configmap" if "configMapKeyRef" in source else "secret"
    reference = source.get("configMapKeyRef") or source.get("secretKeyRef")
    if reference is None:
        return None
    name, key = reference["name"], reference["key"]
    data = await data_of(kind, reference, facts.namespace, read)
    if key in data:
        return data[key].decode("utf-8", "replace")
    if reference.get("optional"):
        return None
    shown = "ConfigMap" if kind == "configmap" else "Secret"
    raise MissingError(f"couldn't find key {key} in {shown} {facts.namespace}/{name}", f"{kind}s", name)


def command_of(container: Json, env: Mapping[str, str], ip: str, default: str) -> list[str]:
    """Return the argument list of `container`.

    Args:
        container: The container's part of the pod.
        env: Its whole environment, for `$(NAME)`.
        ip: The pod's address; it takes the place of `0.0.0.0`, for the machine's interfaces are not the pod's.
        default: The program of the image, for a pod without a command.
    """
    command, args = container.get("command") or [], container.get("args") or []
    argv = [expand(part, env) for part in (*command, *args)]
    if not command:
        # An image's entry point gets the arguments; one that names a program itself is taken as a command.
        argv = [default, *argv] if not argv or argv[0].startswith("-") else argv
    return [_ANY_ADDRESS.sub(ip, part) for part in argv]
