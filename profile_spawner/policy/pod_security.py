"""Checks the final pod against Kubernetes' Pod Security Standards before it is sent.

The levels are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/. Not every cluster enforces
them; this check works in every cluster, and its message names the profile. Two rules are added for every level: a
profile must not select a node by name and must not use a system priority class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["LEVELS", "Finding", "Level", "pod_findings"]

Level = Literal["privileged", "baseline", "restricted"]
LEVELS: tuple[Level, ...] = ("privileged", "baseline", "restricted")

_BASELINE_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
_SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_RESTRICTED_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True)
class Finding:
    """A violation of a rule in a pod.

    Attributes:
        field: The path in the pod.
        rule: The rule's name.
        value: The invalid value; never a secret.
        expected: What a valid value looks like.
    """

    field: str
    rule: str
    value: Any
    expected: str


class MalformedPodError(ValueError):
    """The pod does not have the structure of a pod, so it cannot be checked."""


def _map(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MalformedPodError(f"{field} must be a mapping, not {type(value).__name__}")
    return value


def _list(value: Any, field: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise MalformedPodError(f"{field} must be a list, not {type(value).__name__}")
    return list(value)


def pod_findings(
    pod: Mapping[str, Any],
    level: Level,
    *,
    path: str = "",
    host_ports: frozenset[int] = frozenset(),
    trusted: tuple[Mapping[str, Any], ...] = (),
) -> Iterator[Finding]:
    """Yield all violations of the level in a pod or pod template.

    Args:
        pod: `metadata` and `spec` as Kubernetes writes them.
        level: A Pod Security level.
        path: The path of the pod, used as a prefix of `Finding.field`.
        host_ports: Host ports that containers may use.
        trusted: Containers and volumes from the hub's configuration. A container or volume that is equal to one of
            them is not checked.

    Raises:
        MalformedPodError: If a value that must be a list or mapping has another type.
    """
    spec = _map(pod.get("spec"), f"{path}spec")
    metadata = _map(pod.get("metadata"), f"{path}metadata")
    yield from _always(spec, path, trusted)
    if level == "privileged":
        return
    yield from _pod_level(spec, metadata, path)
    restricted = level == "restricted"
    for index, volume in enumerate(_list(spec.get("volumes"), f"{path}spec.volumes")):
        if volume not in trusted:
            yield from _volume(_map(volume, "volume"), f"{path}spec.volumes[{index}]", restricted)
    pod_context = _map(spec.get("securityContext"), f"{path}spec.securityContext")
    yield from _context(pod_context, f"{path}spec.securityContext")
    for kind in _CONTAINER_LISTS:
        for index, item in enumerate(_list(spec.get(kind), f"{path}spec.{kind}")):
            if item in trusted:
                continue
            field = f"{path}spec.{kind}[{index}]"
            container = _map(item, field)
            yield from _container(container, field, host_ports)
            if restricted:
                yield from _restricted_container(container, pod_context, field)


def _always(spec: Mapping[str, Any], path: str, trusted: tuple[Mapping[str, Any], ...]) -> Iterator[Finding]:
    if spec.get("nodeName"):
        yield Finding(f"{path}spec.nodeName", "node name", spec["nodeName"], "nothing: let the scheduler choose")
    priority = spec.get("priorityClassName")
    if isinstance(priority, str) and priority.startswith("system-"):
        yield Finding(f"{path}spec.priorityClassName", "system priority", priority, "a priority class of the users")
    for index, volume in enumerate(_list(spec.get("volumes"), f"{path}spec.volumes")):
        if volume not in trusted and _map(volume, "volume").get("gitRepo") is not None:
            yield Finding(f"{path}spec.volumes[{index}].gitRepo", "gitRepo volume", None, "an init container")


def _pod_level(spec: Mapping[str, Any], metadata: Mapping[str, Any], path: str) -> Iterator[Finding]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield Finding(f"{path}spec.{key}", "host namespaces", spec[key], "false")
    context = _map(spec.get("securityContext"), f"{path}spec.securityContext")
    for index, item in enumerate(_list(context.get("sysctls"), f"{path}spec.securityContext.sysctls")):
        name = _map(item, "sysctl").get("name")
        if name not in _SAFE_SYSCTLS:
            yield Finding(f"{path}spec.securityContext.sysctls[{index}]", "sysctls", name, "a safe sysctl")
    for key, value in _map(metadata.get("annotations"), f"{path}metadata.annotations").items():
        text = str(value)
        if key.startswith("container.apparmor.security.beta.kubernetes.io/"):
            if text not in ("", "runtime/default") and not text.startswith("localhost/"):
                yield Finding(f"{path}metadata.annotations[{key}]", "AppArmor", text, "runtime/default")
        elif (
            key.startswith(("seccomp.security.alpha.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/"))
            and text == "unconfined"
        ):
            yield Finding(f"{path}metadata.annotations[{key}]", "seccomp", text, "runtime/default")


def _volume(volume: Mapping[str, Any], field: str, restricted: bool) -> Iterator[Finding]:
    if volume.get("hostPath") is not None:
        yield Finding(f"{field}.hostPath", "hostPath volume", None, "a PersistentVolumeClaim")
    elif restricted:
        kinds = [key for key, value in volume.items() if key != "name" and value is not None]
        yield from (
            Finding(f"{field}.{kind}", "volume types", kind, ", ".join(sorted(_RESTRICTED_VOLUMES)))
            for kind in kinds
            if kind not in _RESTRICTED_VOLUMES
        )


def _context(context: Mapping[str, Any], field: str) -> Iterator[Finding]:
    """Check the fields that the security contexts of pods and containers have in common."""
    if _map(context.get("windowsOptions"), field).get("hostProcess"):
        yield Finding(f"{field}.windowsOptions.hostProcess", "HostProcess", True, "false")
    selinux = _map(context.get("seLinuxOptions"), field)
    if (selinux.get("type") or "") not in _SELINUX_TYPES:
        yield Finding(f"{field}.seLinuxOptions.type", "SELinux", selinux["type"], "container_t")
    for key in ("user", "role"):
        if selinux.get(key):
            yield Finding(f"{field}.seLinuxOptions.{key}", "SELinux", selinux[key], "nothing")
    for key, rule in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        kind = _map(context.get(key), field).get("type")
        if kind not in (None, "RuntimeDefault", "Localhost"):
            yield Finding(f"{field}.{key}.type", rule, kind, "RuntimeDefault or Localhost")


def _container(container: Mapping[str, Any], field: str, host_ports: frozenset[int]) -> Iterator[Finding]:
    context = _map(container.get("securityContext"), f"{field}.securityContext")
    yield from _context(context, f"{field}.securityContext")
    if context.get("privileged"):
        yield Finding(f"{field}.securityContext.privileged", "privileged container", True, "false")
    if context.get("procMount") not in (None, "", "Default"):
        yield Finding(f"{field}.securityContext.procMount", "/proc mount type", context["procMount"], "Default")
    capabilities = _map(context.get("capabilities"), f"{field}.securityContext.capabilities")
    for name in _list(capabilities.get("add"), f"{field}.securityContext.capabilities.add"):
        if name not in _BASELINE_CAPABILITIES:
            yield Finding(f"{field}.securityContext.capabilities.add", "capabilities", name, "no added capability")
    for index, port in enumerate(_list(container.get("ports"), f"{field}.ports")):
        host_port = _map(port, f"{field}.ports").get("hostPort")
        if host_port and host_port not in host_ports:
            yield Finding(f"{field}.ports[{index}].hostPort", "host ports", host_port, "no host port")
    yield from _probes(container, field)


def _probes(container: Mapping[str, Any], field: str) -> Iterator[Finding]:
    lifecycle = _map(container.get("lifecycle"), f"{field}.lifecycle")
    handlers = {key: container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
    handlers |= {f"lifecycle.{key}": lifecycle.get(key) for key in ("postStart", "preStop")}
    for name, handler in handlers.items():
        for action in ("httpGet", "tcpSocket"):
            host = _map(_map(handler, f"{field}.{name}").get(action), f"{field}.{name}").get("host")
            if host:
                yield Finding(f"{field}.{name}.{action}.host", "host probes", host, "no host: the pod itself is asked")


def _restricted_container(
    container: Mapping[str, Any], pod_context: Mapping[str, Any], field: str
) -> Iterator[Finding]:
    context = _map(container.get("securityContext"), f"{field}.securityContext")
    field = f"{field}.securityContext"
    if context.get("allowPrivilegeEscalation") is not False:
        value = context.get("allowPrivilegeEscalation")
        yield Finding(f"{field}.allowPrivilegeEscalation", "privilege escalation", value, "false")
    non_root = context.get("runAsNonRoot", pod_context.get("runAsNonRoot"))
    if non_root is not True:
        yield Finding(f"{field}.runAsNonRoot", "running as non-root", non_root, "true")
    user = context.get("runAsUser", pod_context.get("runAsUser"))
    if user == 0:
        yield Finding(f"{field}.runAsUser", "running as non-root user", user, "a number above 0")
    seccomp = _map(context.get("seccompProfile"), field) or _map(pod_context.get("seccompProfile"), field)
    if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        yield Finding(f"{field}.seccompProfile.type", "seccomp", seccomp.get("type"), "RuntimeDefault or Localhost")
    capabilities = _map(context.get("capabilities"), f"{field}.capabilities")
    if "ALL" not in _list(capabilities.get("drop"), f"{field}.capabilities.drop"):
        yield Finding(f"{field}.capabilities.drop", "capabilities", capabilities.get("drop"), "ALL")
    for name in _list(capabilities.get("add"), f"{field}.capabilities.add"):
        if name != "NET_BIND_SERVICE" and name in _BASELINE_CAPABILITIES:
            yield Finding(f"{field}.capabilities.add", "capabilities", name, "at most NET_BIND_SERVICE")
