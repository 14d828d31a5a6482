"""The rules for pods, and for the pod templates of other kinds."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from .answers import Cause, Object
from .rules import (
    duplicate,
    label_causes,
    label_value_problem,
    name_problem,
    not_allowed,
    one_of,
    port_problem,
    qualified_problem,
    required,
    requirement_causes,
    wrong,
)
from .volume_rules import field_path_causes, mount_causes, volume_causes

__all__ = ["pod_causes", "pod_change_causes"]

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9]))*")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_PORT_NAME_LENGTH = 15
_MAX_INT32 = 2**31 - 1
_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_ENV_HINT = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
    "and must not start with a digit"
)
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


# ------------------------------------------------------------------------------------------------------- environment


def env_name_problem(name: str) -> str:
    """Return what is wrong with the name of an environment variable, or an empty text."""
    if not _ENV_NAME.fullmatch(name):
        return _ENV_HINT
    return "must not be '.' or start with '..'" if name == "." or name.startswith("..") else ""


def _key_reference(reference: Object, where: str) -> Iterator[Cause]:
    name = reference.get("name", "")
    if problem := name_problem("subdomain", name):
        yield wrong(f"{where}.name", name, problem)
    key = reference.get("key", "")
    if not key:
        yield required(f"{where}.key")
    elif not _DATA_KEY.fullmatch(key):
        yield wrong(f"{where}.key", key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'")


def _value_from(variable: Object, where: str) -> Iterator[Cause]:
    source = variable["valueFrom"]
    if "fieldRef" in source:
        yield from field_path_causes(source["fieldRef"], f"{where}.fieldRef", _ENV_FIELDS)
    if "resourceFieldRef" in source and not source["resourceFieldRef"].get("resource"):
        yield required(f"{where}.resourceFieldRef.resource")
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source:
            yield from _key_reference(source[name], f"{where}.{name}")
    if not source:
        yield wrong(
            where, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        )
    elif variable.get("value"):
        yield wrong(where, "", "may not be specified when `value` is not empty")
    elif len(source) > 1:
        yield wrong(where, "", "may not have more than one field specified at a time")


def _environment(container: Object, path: str) -> Iterator[Cause]:
    for index, variable in enumerate(container.get("env", ())):
        where, name = f"{path}.env[{index}]", variable.get("name", "")
        if not name:
            yield required(f"{where}.name")
        elif problem := env_name_problem(name):
            yield wrong(f"{where}.name", name, problem)
        if "valueFrom" in variable:
            yield from _value_from(variable, f"{where}.valueFrom")
    for index, source in enumerate(container.get("envFrom", ())):
        where = f"{path}.envFrom[{index}]"
        if (prefix := source.get("prefix")) and (problem := env_name_problem(prefix)):
            yield wrong(f"{where}.prefix", prefix, problem)
        references = [name for name in ("configMapRef", "secretRef") if name in source]
        for name in references:
            if not source[name].get("name"):
                yield required(f"{where}.{name}.name")
        if not references:
            yield wrong(f"{path}.envFrom", "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(references) > 1:
            yield wrong(f"{path}.envFrom", "", "may not have more than one field specified at a time")


# -------------------------------------------------------------------------------------------------------- containers


def port_name_problem(name: str) -> str:
    """Return what is wrong with the name of a port, or an empty text."""
    if len(name) > _PORT_NAME_LENGTH:
        return f"must be no more than {_PORT_NAME_LENGTH} characters"
    if _PORT_NAME.fullmatch(name):
        return ""
    return "must contain only letters (a-z), digits and single hyphens within, and at least one letter"


def _ports(ports: list[Object], path: str) -> Iterator[Cause]:
    names: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name", "")
        if name and (problem := port_name_problem(name)):
            yield wrong(f"{where}.name", name, problem)
        elif name and name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        number = port.get("containerPort", 0)
        if not number:
            yield required(f"{where}.containerPort")
        elif problem := port_problem(number):
            yield wrong(f"{where}.containerPort", number, problem)
        if port.get("hostPort") and (problem := port_problem(port["hostPort"])):
            yield wrong(f"{where}.hostPort", port["hostPort"], problem)
        yield from one_of(f"{where}.protocol", port.get("protocol", ""), ("SCTP", "TCP", "UDP"))


def _handler(handler: Object, path: str) -> Iterator[Cause]:
    chosen = [name for name in _HANDLERS if name in handler]
    for name in chosen[1:]:
        yield not_allowed(f"{path}.{name}", "may not specify more than 1 handler type")
    if not chosen:
        yield required(path, "must specify a handler type")
        return
    name = chosen[0]
    details, where = handler[name], f"{path}.{name}"
    if name == "exec" and not details.get("command"):
        yield required(f"{where}.command")
    if name in ("httpGet", "tcpSocket"):
        port = details.get("port", 0)
        problem = port_problem(port) if isinstance(port, int) else port_name_problem(port)
        if problem:
            yield wrong(f"{where}.port", port, problem)
    if name == "httpGet":
        yield from one_of(f"{where}.scheme", details.get("scheme", ""), ("HTTP", "HTTPS"))


def _probes(container: Object, path: str) -> Iterator[Cause]:
    for name in _PROBES:
        if (probe := container.get(name)) is None:
            continue
        where = f"{path}.{name}"
        yield from _handler(probe, where)
        for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
            if probe.get(key, 0) < 0:
                yield wrong(f"{where}.{key}", probe[key], "must be greater than or equal to 0")
        if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            yield wrong(f"{where}.successThreshold", probe["successThreshold"], "must be 1")
    for name, handler in container.get("lifecycle", {}).items():
        if isinstance(handler, dict):
            yield from _handler(handler, f"{path}.lifecycle.{name}")


def _security(context: Object, path: str) -> Iterator[Cause]:
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        if not 0 <= context.get(key, 0) <= _MAX_INT32:
            yield wrong(f"{path}.{key}", context[key], f"must be between 0 and {_MAX_INT32}, inclusive")
    if context.get("allowPrivilegeEscalation") is False and context.get("privileged"):
        yield wrong(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")


def _container(container: Object, path: str, volumes: set[str]) -> Iterator[Cause]:
    if not container.get("image"):
        yield required(f"{path}.image")
    policies = ("File", "FallbackToLogsOnError")
    if container.get("terminationMessagePolicy") not in policies:
        policy = container.get("terminationMessagePolicy")
        yield wrong(f"{path}.terminationMessagePolicy", policy, "must be 'File' or 'FallbackToLogsOnError'")
    yield from _probes(container, path)
    yield from _ports(container.get("ports", []), f"{path}.ports")
    yield from _environment(container, path)
    yield from mount_causes(container.get("volumeMounts", []), f"{path}.volumeMounts", volumes)
    pull = container.get("imagePullPolicy")
    yield from one_of(f"{path}.imagePullPolicy", pull, ("Always", "IfNotPresent", "Never"))
    yield from requirement_causes(container.get("resources", {}), f"{path}.resources")
    yield from _security(container.get("securityContext", {}), f"{path}.securityContext")


def _containers(spec: Object, path: str, volumes: set[str]) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    names: set[str] = set()
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            where, name = f"{path}.{kind}[{index}]", container.get("name", "")
            if not name:
                yield required(f"{where}.name")
            elif problem := name_problem("label", name):
                yield wrong(f"{where}.name", name, problem)
            if name in names:
                yield duplicate(f"{where}.name", name)
            names.add(name)
            yield from _container(container, where, volumes)
            # A restartable init container is a sidecar, and may have probes.
            if kind == "initContainers" and container.get("restartPolicy") != "Always":
                for key in ("lifecycle", *_PROBES):
                    if key in container:
                        yield wrong(f"{where}.{key}", key, "must not be set for init containers")


# --------------------------------------------------------------------------------------------------------- scheduling


def _tolerations(tolerations: list[Object], path: str) -> Iterator[Cause]:
    for index, toleration in enumerate(tolerations):
        where, operator = f"{path}[{index}]", toleration.get("operator", "")
        key, effect = toleration.get("key", ""), toleration.get("effect", "")
        if key and (problem := qualified_problem(key)):
            yield wrong(f"{where}.key", key, problem)
        if not key and operator != "Exists":
            hint = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield wrong(f"{where}.operator", operator, hint)
        if "tolerationSeconds" in toleration and effect != "NoExecute":
            yield wrong(f"{where}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("", "Equal"):
            if problem := label_value_problem(toleration.get("value", "")):
                yield wrong(f"{where}.operator", toleration["value"], problem)
        elif operator == "Exists":
            if toleration.get("value"):
                yield wrong(f"{where}.operator", toleration, "value must be empty when `operator` is 'Exists'")
        else:
            yield from one_of(f"{where}.operator", operator, ("Equal", "Exists"))
        if effect:
            yield from one_of(f"{where}.effect", effect, ("NoExecute", "NoSchedule", "PreferNoSchedule"))


def _node_terms(terms: list[Object], path: str) -> Iterator[Cause]:
    for index, term in enumerate(terms):
        for number, item in enumerate(term.get("matchExpressions", ())):
            where, operator = f"{path}[{index}].matchExpressions[{number}]", item.get("operator", "")
            if operator in ("In", "NotIn") and not item.get("values"):
                yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            elif operator in ("Gt", "Lt") and len(item.get("values", ())) != 1:
                yield required(f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
            elif operator not in ("In", "NotIn", "Gt", "Lt", "Exists", "DoesNotExist"):
                yield wrong(f"{where}.operator", operator, "not a valid selector operator")
            if problem := qualified_problem(item.get("key", "")):
                yield wrong(f"{where}.key", item.get("key", ""), problem)


def _affinity(affinity: Object, path: str) -> Iterator[Cause]:
    hard, soft = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    node = affinity.get("nodeAffinity", {})
    if hard in node:
        where = f"{path}.nodeAffinity.{hard}.nodeSelectorTerms"
        terms = node[hard].get("nodeSelectorTerms")
        if not terms:
            yield required(where, "must have at least one node selector term")
        yield from _node_terms(terms or [], where)
    for index, item in enumerate(node.get(soft, ())):
        where = f"{path}.nodeAffinity.{soft}[{index}]"
        yield from _weight(item, where)
        yield from _node_terms([item.get("preference", {})], f"{where}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        for index, term in enumerate(affinity.get(name, {}).get(hard, ())):
            yield from _topology(term, f"{path}.{name}.{hard}[{index}]")
        for index, item in enumerate(affinity.get(name, {}).get(soft, ())):
            where = f"{path}.{name}.{soft}[{index}]"
            yield from _weight(item, where)
            yield from _topology(item.get("podAffinityTerm", {}), f"{where}.podAffinityTerm")


def _weight(item: Object, path: str) -> Iterator[Cause]:
    if not 1 <= item.get("weight", 0) <= 100:
        yield wrong(f"{path}.weight", item.get("weight", 0), "must be in the range 1-100")


def _topology(term: Object, path: str) -> Iterator[Cause]:
    key = term.get("topologyKey", "")
    if not key:
        yield required(f"{path}.topologyKey", "can not be empty")
    if problem := qualified_problem(key):
        yield wrong(f"{path}.topologyKey", key, problem)


# ---------------------------------------------------------------------------------------------------------------- pod


def pod_causes(spec: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with the spec of a pod or of a pod template, defaults filled in."""
    volumes: set[str] = set()
    yield from volume_causes(spec.get("volumes", []), f"{path}.volumes", volumes)
    yield from _containers(spec, path, volumes)
    yield from one_of(f"{path}.restartPolicy", spec["restartPolicy"], ("Always", "Never", "OnFailure"))
    dns = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    yield from one_of(f"{path}.dnsPolicy", spec["dnsPolicy"], dns)
    yield from label_causes(spec.get("nodeSelector", {}), f"{path}.nodeSelector")
    yield from _security(spec.get("securityContext", {}), f"{path}.securityContext")
    yield from _affinity(spec.get("affinity", {}), f"{path}.affinity")
    names = {"serviceAccountName": "subdomain", "nodeName": "subdomain", "priorityClassName": "subdomain"}
    for key, style in (names | {"hostname": "label", "subdomain": "label"}).items():
        if spec.get(key) and (problem := name_problem(style, spec[key])):
            yield wrong(f"{path}.{key}", spec[key], problem)
    if not 1 <= spec.get("activeDeadlineSeconds", 1) <= _MAX_INT32:
        hint = f"must be between 1 and {_MAX_INT32}, inclusive"
        yield wrong(f"{path}.activeDeadlineSeconds", spec["activeDeadlineSeconds"], hint)
    yield from _tolerations(spec.get("tolerations", []), f"{path}.tolerations")
    for alias in spec.get("hostAliases", ()):
        try:
            ipaddress.ip_address(alias.get("ip", ""))
        except ValueError:
            yield wrong(f"{path}.hostAliases.ip", alias.get("ip", ""), "must be valid IP address")


_UPDATES_HINT = (
    "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, "
    "`spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing tolerations)"
)


def pod_change_causes(new: Object, old: Object) -> Iterator[Cause]:
    """Yield what must not change in a pod and does."""
    for kind in ("containers", "initContainers"):
        if len(new.get(kind) or ()) != len(old.get(kind) or ()):
            yield not_allowed(f"spec.{kind}", "pod updates may not add or remove containers")
            return
    seconds, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if seconds is None and before is not None:
        hint = "must not update from a positive integer to nil value"
        yield wrong("spec.activeDeadlineSeconds", "null", hint)
    elif seconds is not None and before is not None and seconds > before:
        yield wrong("spec.activeDeadlineSeconds", seconds, "must be less than or equal to previous value")
    lost = [item for item in old.get("tolerations", ()) if item not in new.get("tolerations", ())]
    if lost:
        yield not_allowed("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    if _frozen_part(new) != _frozen_part(old):
        yield not_allowed("spec", _UPDATES_HINT)


def _frozen_part(spec: Object) -> Object:
    frozen = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    # A scheduling gate may be lifted, nothing else of it may change.
    frozen.pop("schedulingGates", None)
    for kind in ("containers", "initContainers"):
        frozen[kind] = [{k: v for k, v in item.items() if k != "image"} for item in spec.get(kind) or ()]
    return frozen
