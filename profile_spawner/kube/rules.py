"""Rules that find common errors in pods and other objects, beyond the OpenAPI schema.

Each rule is one small function. The rules cover only a part of Kubernetes' own validation. They require objects without
`shape_problems`: what has the wrong shape is left out before.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from profile_spawner.names import DNS_SUBDOMAIN, ENV_NAME, is_dns_label, is_label_value
from profile_spawner.params.quantities import quantity_value

from .shapes import ManifestProblem, shape_problems

__all__ = ["problems_of"]

Json = Mapping[str, Any]

_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9]))*")
_DATA_KEY = re.compile(r"(?!\.$|\.\.)[-._a-zA-Z0-9]{1,253}")
_MAX_DATA = 2**20
_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_CHOICES = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "protocol": ("TCP", "UDP", "SCTP"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
}
_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_NAME = "must be lower-case letters, digits and '-', at most 63 characters, and begin and end with a letter or digit"


def problems_of(document: Json) -> list[ManifestProblem]:
    """Return the problems of an object: violations of the schema, and violations of the rules by the rest of it.

    Args:
        document: An object of one of the kinds in `policy.kinds`.
    """
    found = list(shape_problems(document))
    sound: Any = document
    for problem in found:
        sound = _without(sound, problem.path, as_text=problem.message.startswith("expects a string"))
    if sound is _UNKNOWN:
        return found
    path, spec = _pod_spec(sound)
    broken = [
        *(problem for rule in _OBJECT_RULES for problem in rule(sound)),
        *(problem for rule in _POD_RULES for problem in rule(spec, path)),
    ]
    # What is taken out is not missing as well.
    known = tuple(problem.path for problem in found)
    return found + [problem for problem in broken if not problem.path.startswith(known)] if known else broken


_UNKNOWN: Any = object()
_INDEX = re.compile(r"\[([0-9]+)\]\.?")


def _without(node: Any, path: str, *, as_text: bool) -> Any:
    """Return a copy without the field at a path, or with the field as a text.

    The result is `_UNKNOWN` if there is no such field, or it is an item of a list: the rules need what is in it.
    """
    if isinstance(node, list | tuple) and (index := _INDEX.match(path)) and index.end() < len(path):
        number = int(index[1])
        inner = _without(node[number], path[index.end() :], as_text=as_text)
        return _UNKNOWN if inner is _UNKNOWN else [*node[:number], inner, *node[number + 1 :]]
    for key, value in node.items() if isinstance(node, Mapping) else ():
        rest = path.removeprefix(str(key))
        if rest == path or rest[:1] not in ("", ".", "["):
            continue
        if not rest:
            if value is None:
                return _UNKNOWN
            return {k: str(v) if k == key else v for k, v in node.items() if k != key or as_text}
        inner = _without(value, rest.removeprefix("."), as_text=as_text)
        if inner is not _UNKNOWN:
            return {**node, key: inner}
    return _UNKNOWN


def _pod_spec(document: Json) -> tuple[str, Json]:
    """Return path and spec of the pod or of the object's pod template; an empty spec if it has none.

    The claim templates of a StatefulSet are included as volumes.
    """
    spec = document.get("spec") or {}
    if document["kind"] == "Pod":
        return "spec", spec
    pod = (spec.get("template") or {}).get("spec") or {}
    if claims := spec.get("volumeClaimTemplates"):
        names = [(claim.get("metadata") or {}).get("name") or "" for claim in claims]
        pod = {**pod, "volumes": [*(pod.get("volumes") or ()), *({"name": name} for name in names)]}
    return "spec.template.spec", pod


def _mappings(value: Any, path: str) -> Iterator[tuple[str, Json]]:
    """Yield every mapping in a value with its path."""
    if isinstance(value, Mapping):
        yield path, value
        for key, item in value.items():
            yield from _mappings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _mappings(item, f"{path}[{number}]")


def _containers(spec: Json, path: str) -> Iterator[tuple[str, Json]]:
    for kind in ("containers", "initContainers"):
        for number, container in enumerate(spec.get(kind) or ()):
            yield f"{path}.{kind}[{number}]", container


def _listed(owner: Json, key: str, path: str) -> Iterator[tuple[str, Json]]:
    for number, item in enumerate(owner.get(key) or ()):
        yield f"{path}.{key}[{number}]", item


def _is_qualified(key: str) -> bool:
    """Return whether a text is valid as a key of a label or annotation, or as a name of a resource."""
    prefix, slash, name = key.rpartition("/")
    prefixed = not slash or (len(prefix) <= 253 and DNS_SUBDOMAIN.fullmatch(prefix) is not None)
    return prefixed and _QUALIFIED_NAME.fullmatch(name) is not None


# ------------------------------------------------------------------------------------------------ rules for all objects


def _object_name(document: Json) -> Iterator[ManifestProblem]:
    name, kind = (document.get("metadata") or {}).get("name") or "", document["kind"]
    if kind in ("Role", "RoleBinding"):
        right = bool(name) and name not in (".", "..") and not {"/", "%"} & set(name)
    elif kind == "Service":
        right = _SERVICE_NAME.fullmatch(name) is not None
    else:
        right = len(name) <= 253 and DNS_SUBDOMAIN.fullmatch(name) is not None
    if not right:
        yield ManifestProblem("metadata.name", f"{name[:64]!r} is not a name for a {kind}")


def _labels(document: Json) -> Iterator[ManifestProblem]:
    for path, item in _mappings(document, ""):
        for field in ("labels", "matchLabels", "nodeSelector"):
            labels = item.get(field)
            where = f"{path}.{field}" if path else field
            for key, value in labels.items() if isinstance(labels, Mapping) else ():
                if not _is_qualified(key):
                    yield ManifestProblem(where, f"{key[:80]!r} is not a key of a label")
                if not is_label_value(value or ""):
                    message = "letters, digits, '-', '_' and '.', at most 63 characters"
                    place = f"{where}.{key[:80]}"
                    yield ManifestProblem(place, f"{value[:80]!r} is not a value of a label: it may have {message}")


def _annotations(document: Json) -> Iterator[ManifestProblem]:
    for path, item in _mappings(document, ""):
        found = item.get("annotations")
        for key in found if isinstance(found, Mapping) else ():
            if not _is_qualified(key.lower()):
                yield ManifestProblem(f"{path}.annotations", f"{key[:80]!r} is not a key of an annotation")


def _data(document: Json) -> Iterator[ManifestProblem]:
    if document["kind"] not in ("ConfigMap", "Secret"):
        return
    size = 0
    for field in ("data", "binaryData", "stringData"):
        for key, value in (document.get(field) or {}).items():
            content = (value or "").encode()
            if not _DATA_KEY.fullmatch(key):
                yield ManifestProblem(
                    field, f"{key[:80]!r} is not a key: it may have letters, digits, '-', '_' and '.'"
                )
            if field == "binaryData" or (field == "data" and document["kind"] == "Secret"):
                try:
                    content = base64.b64decode(b"".join(content.split()), validate=True)
                except binascii.Error:
                    yield ManifestProblem(f"{field}.{key}", "is not base64")
            size += len(content)
    if size > _MAX_DATA:
        yield ManifestProblem("data", f"has {size} bytes; the limit is {_MAX_DATA}")


def _claim(document: Json) -> Iterator[ManifestProblem]:
    if document["kind"] != "PersistentVolumeClaim":
        return
    spec = document.get("spec") or {}
    modes = spec.get("accessModes") or ()
    if not modes:
        yield ManifestProblem("spec.accessModes", "is required")
    for mode in modes:
        if mode not in _MODES:
            yield ManifestProblem("spec.accessModes", f"{mode!r} must be one of {', '.join(_MODES)}")
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        yield ManifestProblem("spec.resources.requests.storage", "is required")


def _choices(document: Json) -> Iterator[ManifestProblem]:
    for path, item in _mappings(document.get("spec") or {}, "spec"):
        for field, choices in _CHOICES.items():
            if item.get(field) and item[field] not in choices:
                yield ManifestProblem(f"{path}.{field}", f"{item[field]!r} must be one of {', '.join(choices)}")


def _ports(document: Json) -> Iterator[ManifestProblem]:
    for path, item in _mappings(document.get("spec") or {}, "spec"):
        for field in ("containerPort", "port", "targetPort"):
            number = item.get(field)
            if isinstance(number, int) and not 0 < number < 2**16:
                yield ManifestProblem(f"{path}.{field}", f"{number} must be between 1 and 65535")
        if ("containerPort" in item or "targetPort" in item) and item.get("name"):
            pattern = _PORT_NAME if "containerPort" in item else _SERVICE_NAME
            if not pattern.fullmatch(item["name"]):
                yield ManifestProblem(f"{path}.name", f"{item['name'][:64]!r} is not a name of a port")


def _file_modes(document: Json) -> Iterator[ManifestProblem]:
    for path, item in _mappings(document.get("spec") or {}, "spec"):
        for field in ("defaultMode", "mode"):
            if isinstance(item.get(field), int) and not 0 <= item[field] <= 0o777:
                message = f"{item[field]} is more than 0777: octal numbers begin with 0 in YAML, with 0o in Python"
                yield ManifestProblem(f"{path}.{field}", message)


# ------------------------------------------------------------------------------------------------ rules for pods


def _container_names(spec: Json, path: str) -> Iterator[ManifestProblem]:
    if spec and not spec.get("containers"):
        yield ManifestProblem(f"{path}.containers", "is required")
    seen: set[str] = set()
    for where, container in _containers(spec, path):
        if not is_dns_label(container["name"]):
            yield ManifestProblem(f"{where}.name", f"{container['name'][:64]!r} {_NAME}")
        elif container["name"] in seen:
            yield ManifestProblem(f"{where}.name", f"{container['name']!r} is used twice")
        seen.add(container["name"])


def _images(spec: Json, path: str) -> Iterator[ManifestProblem]:
    for where, container in _containers(spec, path):
        image = container.get("image") or ""
        if not image or image != image.strip():
            yield ManifestProblem(f"{where}.image", "must not begin or end with a space" if image else "is required")


def _environment_names(spec: Json, path: str) -> Iterator[ManifestProblem]:
    for where, container in _containers(spec, path):
        seen: set[str] = set()
        for here, variable in _listed(container, "env", where):
            name = variable["name"]
            if not ENV_NAME.fullmatch(name) or name == "." or name.startswith(".."):
                message = "may have letters, digits, '_', '-' and '.', and must not begin with a digit"
                yield ManifestProblem(f"{here}.name", f"{name[:64]!r} {message}")
            elif name in seen:
                yield ManifestProblem(f"{here}.name", f"{name!r} is set twice, and the last one counts", "warning")
            seen.add(name)


def _environment_sources(spec: Json, path: str) -> Iterator[ManifestProblem]:
    for where, container in _containers(spec, path):
        for here, variable in _listed(container, "env", where):
            source = variable.get("valueFrom")
            if source is not None and variable.get("value"):
                yield ManifestProblem(here, "has both value and valueFrom")
            elif source is not None and len([s for s in source.values() if s is not None]) != 1:
                yield ManifestProblem(f"{here}.valueFrom", "must have exactly one source")
        for here, source in _listed(container, "envFrom", where):
            references = [source[k] for k in ("configMapRef", "secretRef") if source.get(k) is not None]
            if len(references) != 1 or not references[0].get("name"):
                yield ManifestProblem(here, "must name exactly one of configMapRef and secretRef")


def _resources(spec: Json, path: str) -> Iterator[ManifestProblem]:
    for where, container in _containers(spec, path):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for side, amounts in (("limits", limits), ("requests", requests)):
            for name, amount in amounts.items():
                here = f"{where}.resources.{side}.{name}"
                standard = name in _STANDARD_RESOURCES or name.startswith("hugepages-")
                if not _is_qualified(name) or ("/" not in name and not standard):
                    message = f"is not a resource; others than {', '.join(_STANDARD_RESOURCES)} have a domain"
                    yield ManifestProblem(here, f"{message}, such as nvidia.com/gpu")
                elif "/" in name and quantity_value(amount) % 1:
                    yield ManifestProblem(here, f"{amount} must be an integer")
        for name, amount in requests.items():
            here = f"{where}.resources.requests.{name}"
            if name in limits and quantity_value(amount) > quantity_value(limits[name]):
                yield ManifestProblem(here, f"is more than the limit ({amount} > {limits[name]})")
            elif "/" in name and (name not in limits or quantity_value(amount) != quantity_value(limits[name])):
                yield ManifestProblem(here, "must be equal to the limit")


def _volumes(spec: Json, path: str) -> Iterator[ManifestProblem]:
    seen: set[str] = set()
    for where, volume in _listed(spec, "volumes", path):
        if not is_dns_label(volume["name"]):
            yield ManifestProblem(f"{where}.name", f"{volume['name'][:64]!r} {_NAME}")
        elif volume["name"] in seen:
            yield ManifestProblem(f"{where}.name", f"{volume['name']!r} is used twice")
        seen.add(volume["name"])
        sources = [key for key, source in volume.items() if key != "name" and source is not None]
        if len(sources) > 1:
            yield ManifestProblem(where, f"has more than one type: {', '.join(sorted(sources))}")


def _mounts(spec: Json, path: str) -> Iterator[ManifestProblem]:
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for where, container in _containers(spec, path):
        seen: set[str] = set()
        for here, mount in _listed(container, "volumeMounts", where):
            if mount["name"] not in volumes:
                yield ManifestProblem(f"{here}.name", f"there is no volume {mount['name']!r}")
            target = mount["mountPath"]
            if not target or ":" in target:
                yield ManifestProblem(f"{here}.mountPath", f"{target!r} must be a path without ':'")
            elif target in seen:
                yield ManifestProblem(f"{here}.mountPath", f"{target!r} is mounted twice")
            seen.add(target)
            if mount.get("subPath") and mount.get("subPathExpr"):
                yield ManifestProblem(here, "has both subPath and subPathExpr")


def _relative_paths(spec: Json, path: str) -> Iterator[ManifestProblem]:
    for where, item in _mappings(spec, path):
        fields = ["subPath", "subPathExpr"] if "mountPath" in item else ["path"] if "key" in item else []
        for field in fields:
            value = item.get(field) or ""
            if value.startswith("/") or ".." in value.split("/"):
                yield ManifestProblem(f"{where}.{field}", f"{value[:80]!r} must be a relative path without '..'")


def _tolerations(spec: Json, path: str) -> Iterator[ManifestProblem]:
    for where, toleration in _listed(spec, "tolerations", path):
        operator = toleration.get("operator") or "Equal"
        if operator not in ("Equal", "Exists", "Gt", "Lt"):
            yield ManifestProblem(f"{where}.operator", f"{operator!r} must be one of Equal, Exists")
        elif operator == "Exists" and toleration.get("value"):
            yield ManifestProblem(f"{where}.value", "must be empty with operator Exists")
        elif not toleration.get("key") and operator != "Exists":
            yield ManifestProblem(f"{where}.operator", "must be Exists without a key")
        if toleration.get("key") and not _is_qualified(toleration["key"]):
            yield ManifestProblem(f"{where}.key", f"{toleration['key'][:80]!r} is not a key of a taint")
        if not is_label_value(toleration.get("value") or ""):
            yield ManifestProblem(f"{where}.value", f"{toleration['value'][:80]!r} is not a value of a taint")


_OBJECT_RULES: tuple[Callable[[Json], Iterator[ManifestProblem]], ...] = (
    _object_name,
    _labels,
    _annotations,
    _data,
    _claim,
    _choices,
    _ports,
    _file_modes,
)
_POD_RULES: tuple[Callable[[Json, str], Iterator[ManifestProblem]], ...] = (
    _container_names,
    _images,
    _environment_names,
    _environment_sources,
    _resources,
    _volumes,
    _mounts,
    _relative_paths,
    _tolerations,
)
