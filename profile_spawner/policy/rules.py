"""The rules: what profiles may not ask for. All of them are here, each in one row of a table.

A rule refuses changes at certain places of what a start would create or apply. The first step of a place says what it
is:

- `server`: the server's pod. `template`: the pod of a Deployment, StatefulSet or Job. `pod` in a rule means both.
- `part`: a part of the pod that an override of a document brings; it is checked when the document is loaded, before
  there is a pod. `pod` means this too. Rules that have to compare with the hub's own pod say `server` or `final`
  (`server` or `template`) instead.
- `first`: the names of as many containers at the beginning of a list as the hub's own pod has.
- `claim`: the `spec` of a claim, wherever it stands.
- `object`: an object, followed by its kind and its name.
- `text`: a text in an override, as the document writes it, before a name or a choice is filled in, followed by the path
  in the document. `command`: a text of an override that would let a program run what users type or are called.
- `setting`: a trait of KubeSpawner. `field`: an attribute of a profile. `param`: a value of a param.
"""

from __future__ import annotations

import functools
import math
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from profile_spawner.names import LABEL_MANAGED_BY, is_hashed
from profile_spawner.params.definition import ParamRef
from profile_spawner.params.quantities import quantity_value
from profile_spawner.profiles.resources import KubeObject, Lifetime
from profile_spawner.profiles.user_text import USE_A_VARIABLE, odd_field

from .kinds import BY_KIND, MOST_REPLICAS, claims_of_set
from .settings import DataPolicy, Level, Policy

__all__ = [
    "DATA_RULES",
    "HUB_RULES",
    "WRITTEN_TWICE",
    "Case",
    "Difference",
    "Rule",
    "RuleTable",
    "camel",
    "camel_keys",
    "mount_path",
]

HARMLESS_OVERRIDES = frozenset(
    {
        "allow_privilege_escalation", "args", "cmd", "common_labels", "container_name", "container_security_context",
        "cpu_guarantee", "cpu_limit", "default_url", "display_name", "environment", "extra_annotations",
        "extra_container_config", "extra_containers", "extra_labels", "extra_resource_guarantees",
        "extra_resource_limits", "fs_gid", "gid", "http_timeout", "image", "image_pull_policy", "image_pull_secrets",
        "init_containers", "lifecycle_hooks", "mem_guarantee", "mem_limit", "node_affinity_preferred",
        "node_affinity_required", "node_selector", "notebook_dir", "pod_affinity_preferred", "pod_affinity_required",
        "pod_anti_affinity_preferred", "pod_anti_affinity_required", "pod_security_context", "port", "privileged",
        "service_account", "start_timeout", "storage_access_modes", "storage_capacity", "storage_class",
        "supplemental_gids", "tolerations", "uid", "volume_mounts", "volumes", "working_dir",
    }
)  # fmt: skip
"""The settings of KubeSpawner that documents may override. Their values are checked in the pod."""

OVERRIDES = ("kubespawner_override", "kubespawner_override_off")
"""The keys of documents that contain settings of KubeSpawner."""

_ACTING_LABELS = frozenset(
    {
        "aadpodidbinding", "app", "chart", "component", "controller-revision-hash", "controller-uid", "heritage",
        "job-name", "pod-template-generation", "pod-template-hash", "profile-spawner", "release",
    }
)  # fmt: skip
"""Labels without a prefix that Kubernetes, the chart or others set or select by."""
_SERVICES_OF_PROGRAMS = frozenset({"jpy", "jupyter", "jupyterhub", "kubernetes"})
"""Services whose names give the pods of a namespace variables that programs read, such as `JUPYTER_PORT`."""
_OWN_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]|\.(?!\.)){0,251}(?<=[a-z0-9])")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PER_PROFILE_ENV = frozenset({"JUPYTERHUB_DEFAULT_URL", "JUPYTERHUB_ROOT_DIR", "JUPYTERHUB_SERVICE_URL"})
_IDS = frozenset({"fsGroup", "runAsGroup", "runAsUser"})
_KINDS_OF_HOOKS = frozenset({"ConfigMap", "PersistentVolumeClaim", "Secret"})
"""The kinds that a document may always have, if a hook for files, volumes or pull secrets makes them."""
_ANY_KIND = ("get_manifests()", "get_role_bindings()")
"""The hooks whose objects must always be of a kind that `data_policy` lists."""


def _other_kind(change: Difference, case: Case) -> bool:
    made: KubeObject = change.after
    if made.kind in case.rights.kinds:
        return False
    return made.kind not in _KINDS_OF_HOOKS or made.field.startswith(_ANY_KIND)


_VOLUME_TYPES = frozenset(
    {"configMap", "downwardAPI", "emptyDir", "ephemeral", "hostPath", "persistentVolumeClaim", "projected", "secret"}
)
_RESTRICTED_VOLUMES = _VOLUME_TYPES - {"hostPath"} | {"csi"}
_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    }
)  # fmt: skip
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_PROFILES = frozenset({"RuntimeDefault", "Localhost"})
_TOKEN_SECRETS = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
_ESCALATING_VERBS = frozenset({"*", "bind", "escalate", "impersonate"})
_ESCALATING_RESOURCES = frozenset(
    {
        "pods/attach", "pods/ephemeralcontainers", "pods/exec", "pods/portforward", "pods/proxy", "rolebindings",
        "roles", "serviceaccounts/token",
    }
)  # fmt: skip
_READING = frozenset({"get", "list", "watch"})
_READABLE: Mapping[str, frozenset[str]] = {
    "": frozenset({"endpoints", "limitranges", "persistentvolumeclaims", "resourcequotas", "services"}),
    "discovery.k8s.io": frozenset({"endpointslices"}),
    "metrics.k8s.io": frozenset({"pods"}),
}
"""What Roles of documents may read of all servers, by API group. Other kinds contain variables, files or Secrets."""
_READABLE_BY_NAME = {(kind.group, kind.plural): kind.kind for kind in BY_KIND.values() if kind.kind != "Secret"}
_READABLE_PARTS = frozenset({"", "log", "scale", "status"})
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_SYSTEM_TAINT = re.compile(r"|(?:.*\.)?kubernetes\.io/.*|hub\.jupyter\.org.*|CriticalAddonsOnly")
_POD_FIELDS = frozenset(
    {
        "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "enableServiceLinks",
        "hostname", "imagePullSecrets", "initContainers", "nodeSelector", "restartPolicy", "securityContext",
        "serviceAccount", "serviceAccountName", "setHostnameAsFQDN", "subdomain", "terminationGracePeriodSeconds",
        "tolerations", "topologySpreadConstraints", "volumes",
    }
)  # fmt: skip
"""The fields of a pod that templates may have. The values of some are checked."""
_LARGEST = 2**80
_ICON_MESSAGE = "every browser would fetch this icon: name a shipped one, a data:image/ or a static file"
_ICON = re.compile(
    r"[\w-]{0,64}"
    r"|data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]{1,65536}={0,2}"
    r"|(?:/(?!user/|services/)[\w-]{1,64}){0,4}/hub/static(?:/[\w-][\w.-]{0,127}){1,8}"
)


@dataclass(frozen=True)
class Difference:
    """A difference between the hub's own pod and the final pod, or a part of something new.

    Attributes:
        path: Keys of mappings and names of list items, from the root.
        before: The value in the hub's pod; `None` if the part was added.
        after: The value in the final pod; `None` if the part was removed.
    """

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def added(self) -> bool:
        """Whether the part is missing in the hub's own pod."""
        return self.before is None


@dataclass(frozen=True)
class Case:
    """What a rule may use besides the change.

    Attributes:
        policy: What the hub allows to all profiles.
        rights: What the hub allows to the source of the document.
        namespace: The server's namespace.
        own: The names of the profile's own objects and of the server's pod, by kind.
        secure: The variables whose values are those of secure params: the variable, the Secret and the key.
        variables: The variables whose values contain what users type or are called.
        accounts: The service accounts that the server's pod may use besides `default`; `None` for all.
        home: The user's home claim, if the hub's own pod mounts it.
        homes: A regular expression for the names of the users' home claims; empty if it is not known.
        servers: Names that only this user or this server has. Empty if the namespace belongs to the user alone.
        mounts: How the hub mounts its volumes into the server's container, by the names of the volumes in the final
            pod that are its volumes or have the same claim.
        paths: Where the hub mounts its volumes in the server's container, as `mount_path` returns it.
        partial: The claims of the hub of which the server's container gets only a part, or which it cannot write to.
        notebook: The name of the server's container in the hub's own pod.
        containers: The names of all containers in the hub's own pod.
        context: The security context of the pod in which the change is.
        body: The object in which the change is; empty outside of objects.
    """

    policy: Policy = field(default_factory=Policy)
    rights: DataPolicy = field(default_factory=DataPolicy)
    namespace: str = ""
    own: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    secure: frozenset[tuple[str, str, str]] = frozenset()
    variables: frozenset[str] = frozenset()
    accounts: frozenset[str] | None = None
    home: str = ""
    homes: str = ""
    servers: frozenset[str] = frozenset()
    mounts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=lambda: MappingProxyType({}))
    paths: frozenset[str] = frozenset()
    partial: frozenset[str] = frozenset()
    notebook: str = ""
    containers: frozenset[str] = frozenset()
    context: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    body: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


Test = Callable[[Difference, Case], bool]


def camel_keys(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with Kubernetes' field names."""
    return {camel(str(key)): item for key, item in value.items()}


@functools.lru_cache(10_000)
def camel(key: str) -> str:
    """Convert a field name of the Python client (snake case) to Kubernetes' name (camel case)."""
    head, *rest = key.split("_")
    return head + "".join(r.upper() if r == "api" else r.title() for r in rest)


@dataclass(frozen=True)
class Rule:
    """A rule for changes at certain places.

    Attributes:
        where: Steps of a path, separated by spaces; several paths are separated by commas. `*` matches one step, `**`
            any number of steps, `a|b` either of two, `a?` may be missing. `container` stands for a container of a pod,
            `context` for the security context of a pod or container.
        refuses: Returns whether the change is refused. If it raises because of a value of the wrong type, the change is
            refused too.
        message: What is not allowed, or the rule's name in `HUB_RULES`.
        hint: Which setting allows it. `{0}` is the last step of the path, `{1}` the value, `{2}` the first step.
        expected: What a valid value looks like; only in `HUB_RULES`.
    """

    where: str
    refuses: Test
    message: str
    hint: str = ""
    expected: str = ""

    @functools.cached_property
    def pattern(self) -> str:
        """A regular expression for paths. Each step begins with a null character."""
        return "|".join("".join(map(_step, where.split())) for where in self.where.split(","))


_POD = "\0(?:server|template|part)"
_CONTAINER = "\0(?:containers|initContainers|ephemeralContainers)\0[^\0]*"
_STEPS = {
    "*": "\0[^\0]*",
    "**": "(?:\0.*)?",
    "pod": _POD,
    "final": "\0(?:server|template)",
    "container": f"{_POD}\0spec{_CONTAINER}",
    "context": f"{_POD}\0spec(?:{_CONTAINER})?\0securityContext",
}


def _step(step: str) -> str:
    if step.endswith("?"):
        return f"(?:\0{step[:-1]})?"
    return _STEPS.get(step) or f"\0(?:{step})"


class RuleTable:
    """Rules, of which the first that refuses a change counts.

    Args:
        rules: The rules.
    """

    def __init__(self, *rules: Rule) -> None:
        self._rules = rules

    @functools.cached_property
    def _patterns(self) -> tuple[re.Pattern[str], Sequence[tuple[re.Pattern[str], Rule]]]:
        compiled = [(re.compile(rule.pattern, re.DOTALL), rule) for rule in self._rules]
        return re.compile("|".join(rule.pattern for rule in self._rules), re.DOTALL), compiled

    def refusing(self, path: Sequence[str], change: Difference, case: Case) -> Rule | None:
        """Return the rule that refuses a change at `path`; `None` if it is allowed."""
        place = "".join("\0" + step.partition("#")[0] for step in path)
        anywhere, patterns = self._patterns
        if not anywhere.fullmatch(place):
            return None
        return next((r for pattern, r in patterns if pattern.fullmatch(place) and _refuses(r, change, case)), None)


def _refuses(rule: Rule, change: Difference, case: Case) -> bool:
    try:
        return rule.refuses(change, case)
    except (AttributeError, LookupError, TypeError, ValueError):
        return True


# ------------------------------------------------------------------------------------------------ tests of a change


def _always(change: Difference, case: Case) -> bool:
    del change, case
    return True


def _given(change: Difference, case: Case) -> bool:
    del case
    return bool(change.after)


def _taken_away(change: Difference, case: Case) -> bool:
    del case
    return not change.added


def _not_in(allowed: frozenset[str]) -> Test:
    return lambda change, case: change.after is not None and change.after not in allowed


def _any_of(refused: frozenset[str]) -> Test:
    return lambda change, case: isinstance(change.after, str) or not refused.isdisjoint(change.after or ())


def _is_template(value: Any) -> bool:
    """Return whether KubeSpawner, or a choice of the user, completes a text before there is a pod."""
    return isinstance(value, str) and "{" in value


def _unnamed(change: Difference, allowed: frozenset[str]) -> bool:
    """Return whether a name is not allowed. The name must be written out: nothing can complete it."""
    return change.after is not None and change.after not in allowed


def _unnamed_account(change: Difference, case: Case) -> bool:
    own, pods = (case.own.get(kind, frozenset()) for kind in ("ServiceAccount", "Pod"))
    # KubeSpawner completes this in a document's setting. At a start, the name is complete.
    if change.path[0] == "part" and change.after == "{pod_name}" and not own.isdisjoint(pods):
        return False
    return _unnamed(change, case.rights.service_accounts | own)


def _token_mounted(change: Difference, case: Case) -> bool:
    """Return whether the hub's `automountServiceAccountToken: false` is gone without an account that is allowed."""
    allowed = case.rights.service_accounts or case.own.get("ServiceAccount")
    return change.before is False and change.after is not False and not allowed


def _config_map_of_others(change: Difference, case: Case) -> bool:
    """Return whether a ConfigMap is one that the spawner has made for another server or profile."""
    name = change.after
    return isinstance(name, str) and is_hashed(name) and name not in case.own.get("ConfigMap", ())


def _unnamed_secret(change: Difference, case: Case) -> bool:
    own = case.own.get("Secret", frozenset())
    return not isinstance(change.after, Mapping) and _unnamed(change, case.rights.secrets - case.rights.protected | own)


def _foreign_claim(change: Difference, case: Case) -> bool:
    name = change.after
    if name is None or name in case.own.get("PersistentVolumeClaim", ()):
        return False
    # One claim may have the homes of all users. Only the server's pod shows whether a mount is the user's folder.
    if change.path[0] == "server" and name and name == case.home:
        return False
    return name in case.rights.protected or name not in case.rights.claims


def _name_of_a_home(change: Difference, case: Case) -> bool:
    item: KubeObject = change.after
    claims = [item.name] if item.kind == "PersistentVolumeClaim" else claims_of_set(item)
    return bool(case.homes) and item.is_name_written and any(re.fullmatch(case.homes, name) for name in claims)


def _name_of_all(change: Difference, case: Case) -> bool:
    """Return whether the name that a document gives to an object could be that of an object of others."""
    own = rf"(?<![^-.])(?:{'|'.join(map(re.escape, case.servers))})(?![^-.])"
    return bool(case.servers) and change.after.is_name_written and not re.search(own, change.after.name)


def _name_of_the_spawner(change: Difference, case: Case) -> bool:
    """Return whether a name could be that of a shared object. It can be predicted: its hash is that of the content."""
    item: KubeObject = change.after
    own = not case.servers or item.name.endswith(tuple(filter(is_hashed, case.servers)))
    return item.is_name_written and not own and is_hashed(item.name)


def _sets_variables(change: Difference, case: Case) -> bool:
    """Return whether a Service gives other pods a variable such as `HUB_SERVICE_PORT`."""
    names = {change.after.name, change.after.name.removesuffix("-service")}
    return not names.isdisjoint(case.rights.protected | _SERVICES_OF_PROGRAMS)


def mount_path(path: str) -> str:
    """Return where a container has a mount: `/a//b/` is the same place as `/a/b`, and `a/b` too."""
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


def _hides(change: Difference, case: Case) -> bool:
    """Return whether an added mount is at the place of a mount of the hub. A mount above it does not hide it."""
    if not change.added or change.path[3] != case.notebook:
        return False
    mount = camel_keys(change.after)
    return mount_path(mount["mountPath"]) in case.paths


def _wider_mount(change: Difference, case: Case) -> bool:
    """Return whether an added mount shows more of a volume of the hub than the hub does, or allows to write to it."""
    if not change.added:
        return False
    mount = camel_keys(change.after)
    hubs = case.mounts.get(mount["name"])
    # In another container, variables of the author's choice would give the path.
    other = case.notebook and change.path[3] != case.notebook
    usable = [one for one in hubs or () if not (other and one.get("subPathExpr"))]
    return hubs is not None and not any(_is_part_of_mount(mount, one) for one in usable)


def _is_part_of_mount(mount: Mapping[str, Any], of: Mapping[str, Any]) -> bool:
    if any(of.get(key) and mount.get(key) != of[key] for key in ("readOnly", "recursiveReadOnly", "subPathExpr")):
        return False
    if not of.get("subPath"):
        return True
    whole, part = (posixpath.normpath(one.get("subPath") or "") for one in (of, mount))
    return not mount.get("subPathExpr") and (part == whole or part.startswith(f"{whole}/"))


def _wider_placement(change: Difference, case: Case) -> bool:
    """Return whether servers could run on nodes that the hub's own affinity excludes."""
    del case
    if change.added:
        return False
    if change.path[-1] == "nodeSelectorTerms":
        # Each term is enough. So each has to contain one of the hub's.
        return not change.after or not all(any(_is_part(old, term) for old in change.before) for term in change.after)
    if change.path[-1] == _REQUIRED and isinstance(change.before, list):
        return any(term not in (change.after or ()) for term in change.before)
    return change.after is None and _REQUIRED in str((change.path, change.before))


def _is_part(old: Any, new: Any) -> bool:
    """Return whether a term has all conditions of another."""
    return all(item in (new.get(key) or ()) for key, items in old.items() for item in items or ())


def _wide_toleration(change: Difference, case: Case) -> bool:
    """Return whether a toleration is for nodes that are not made for users, or for all nodes."""
    del case
    before, after = (list(v.values()) if isinstance(v, Mapping) else v or () for v in (change.before, change.after))
    return any(
        _SYSTEM_TAINT.fullmatch(item.get("key") or "")
        and not (item["key"].startswith("hub.") and item.get("value") == "user")
        for item in after
        if item not in before
    )


def _trait_of(field_name: str) -> str:
    """Return the trait of KubeSpawner with which a server gets a field of a pod."""
    return {"schedulerName": "scheduler_name", "priorityClassName": "priority_class_name"}.get(
        field_name, "extra_pod_config"
    )


def _unusual_field(change: Difference, case: Case) -> bool:
    """Return whether a document may not give this field to its own server either."""
    return change.path[2] not in _POD_FIELDS and _trait_of(change.path[2]) not in case.rights.override_keys


def _more_than_reading(change: Difference, case: Case) -> bool:
    del case
    return not _READING.issuperset(change.after)


def _reads_of_others(change: Difference, case: Case) -> bool:
    """Return whether a rule of a Role shows what may contain variables, files or Secrets of other servers."""
    rule = case.body["rules"][int(change.path[4])]
    names = rule.get("resourceNames") or ()
    for group in rule["apiGroups"]:
        for resource in change.after:
            plural, _, part = resource.partition("/")
            own = case.own.get(_READABLE_BY_NAME.get((group, plural), ""), frozenset())
            by_name = bool(names) and own.issuperset(names) and part in _READABLE_PARTS
            if not by_name and resource not in _READABLE.get(group, ()):
                return True
    return False


def _foreign_subject(change: Difference, case: Case) -> bool:
    """Return whether a RoleBinding gives rights to an account that pods of others may have."""
    name, own = change.after["name"], case.own.get("ServiceAccount", frozenset())
    allowed = own | case.rights.service_accounts - case.rights.protected
    return change.after["kind"] != "ServiceAccount" or name not in allowed


def _escalating(change: Difference, case: Case) -> bool:
    names = change.after or ()
    refused = _ESCALATING_RESOURCES - case.policy.role_rights
    return isinstance(names, str) or any(n in refused or n.startswith("*") for n in names)


def _escalating_verbs(change: Difference, case: Case) -> bool:
    refused = _ESCALATING_VERBS - case.policy.role_rights
    return isinstance(change.after, str) or not refused.isdisjoint(change.after or ())


def _other_container(change: Difference, case: Case) -> bool:
    """Return whether the change is in a container of the hub other than the container of the server."""
    return change.path[3] in case.containers and change.path[3] != case.notebook


def _weaker(change: Difference, case: Case) -> bool:
    """Return whether a security context becomes weaker. Only IDs may change, and only to others than root's."""
    context = change.path[change.path.index("securityContext") + 1 :]
    if not context:
        return not change.added
    if context[0] in _IDS:
        return change.after in (0, None)
    if context[0] == "supplementalGroups":
        return 0 in (change.after or ())
    if not change.added:
        return True
    if case.rights.privileged:
        return False
    if context[0] in ("seccompProfile", "appArmorProfile"):
        return bool(change.after != "RuntimeDefault")
    lifted = context[0] in ("readOnlyRootFilesystem", "runAsNonRoot") and not change.after
    return lifted or context[0] == "seLinuxOptions"


def _hubs_variable(change: Difference, case: Case) -> bool:
    name = "".join(change.path[5:6]).partition("#")[0]
    own = name.startswith(("JUPYTERHUB_", "JPY_")) and name not in _PER_PROFILE_ENV
    return own or any(f"$({name})" in str(m.get("subPathExpr")) for hubs in case.mounts.values() for m in hubs)


def _acting(change: Difference, case: Case) -> bool:
    """Return whether other programs act on a label or annotation, so that documents must not set or change it."""
    key = change.path[-1]
    if not change.added or key.startswith("profile-spawner/"):
        return True
    if any(key == allowed or (allowed.endswith("/") and key.startswith(allowed)) for allowed in case.rights.labels):
        return False
    # Helm finds its releases by the label owner=helm, and a sidecar of Grafana its dashboards and data sources.
    others = key.startswith("grafana_") or (key == "owner" and change.after == "helm")
    return others or not _OWN_LABEL.fullmatch(key) or key in _ACTING_LABELS


def _repels_others(change: Difference, case: Case) -> bool:
    """Return whether required anti-affinity names no label of an author. It keeps away the pods that it names, too."""
    del case
    selectors = [camel_keys(term)["labelSelector"] for term in change.after or () if term not in (change.before or ())]
    labels = [camel_keys(selector).get("matchLabels") or {} for selector in selectors]
    return not all(any(_OWN_LABEL.fullmatch(key) and key not in _ACTING_LABELS for key in one) for one in labels)


def _odd_field(change: Difference, case: Case) -> bool:
    del case
    overrides = [n for n, step in enumerate(change.path) if step in OVERRIDES]
    trait = change.path[overrides[-1] + 1]
    return bool(odd_field(trait, change.after, chosen=change.path[1] in ("options", "profile_options")))


def _path_of_the_host(change: Difference, case: Case) -> bool:
    found = change.after
    if isinstance(found, str) and ".." not in found.split("/"):
        return not any(found == a or found.startswith(a.rstrip("/") + "/") for a in case.rights.host_paths)
    return True


def _privilege(test: Test) -> Test:
    return lambda change, case: not case.rights.privileged and test(change, case)


def _no_quantity(change: Difference, case: Case) -> bool:
    del case
    if change.after is None or _is_template(change.after):
        return False
    return not 0 <= quantity_value(change.after) < _LARGEST


def _not_between(low: float, high: float) -> Test:
    """Return a test that refuses numbers outside of the bounds, negative texts, and values that are neither.

    KubeSpawner checks other texts.
    """

    def test(change: Difference, case: Case) -> bool:
        del case
        value = change.after
        if isinstance(value, str):
            return value.lstrip().startswith("-")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value is not None
        return not (math.isfinite(value) and low <= value <= high)

    return test


def _bad_name(change: Difference, case: Case) -> bool:
    del case
    item: KubeObject = change.after
    return not (_SERVICE_NAME if item.kind == "Service" else _OBJECT_NAME).fullmatch(item.name)


def _bad_version(change: Difference, case: Case) -> bool:
    del case
    item: KubeObject = change.after
    written = (item.body.get("kind", item.kind), item.body.get("apiVersion", item.api_version))
    return BY_KIND[item.kind].api_version != item.api_version or written != (item.kind, item.api_version)


def _malformed(change: Difference, case: Case) -> bool:
    del case
    item: KubeObject = change.after
    spec = item.body.get("spec") or {}
    template = spec.get("template") or {}
    # On a claim, other rules check or refuse the selector; each of the others is a mapping of labels or has one.
    selectors = [spec.get("selector") or {}, spec.get("podSelector") or {}]
    labelled = [item.body, template, *(spec.get("volumeClaimTemplates") or ())]
    metadata = [part.get("metadata") or {} for part in labelled]
    parts = [spec, template, template.get("spec"), *selectors, *metadata]
    parts += [part.get("matchLabels") for part in selectors]
    parts += [part.get(key) for part in metadata for key in ("labels", "annotations")]
    claims_of_set(item)  # raises an error if a claim has no name
    return not all(part is None or isinstance(part, Mapping) for part in parts)


def _malformed_pod(change: Difference, case: Case) -> bool:
    del case
    keys = ("containers", "initContainers", "ephemeralContainers", "volumes")
    return any(not isinstance(change.after["spec"].get(key) or [], list | tuple) for key in keys)


def _reserved_label(change: Difference, case: Case) -> bool:
    del case
    return change.path[-1].startswith("profile-spawner/") or change.path[-1] == LABEL_MANAGED_BY


def _foreign_account(change: Difference, case: Case) -> bool:
    server = change.path[0] == "server"
    if server and case.accounts is None:
        return False
    allowed = (case.accounts if server else case.policy.service_accounts) or frozenset()
    return bool(change.after) and change.after not in {"default", *allowed, *case.own.get("ServiceAccount", ())}


def _bad_capability(change: Difference, case: Case) -> bool:
    del case
    return any(name not in _BASELINE_CAPABILITIES for name in list(change.after or ()))


def _in_context(key: str, fine: Callable[[Any], bool]) -> Test:
    """Return a test of a container's security setting that the pod may give to all its containers."""

    def test(change: Difference, case: Case) -> bool:
        context = change.after.get("securityContext") or {}
        return not fine(context.get(key, case.context.get(key)))

    return test


def _only_in_container(key: str, fine: Callable[[Any], bool]) -> Test:
    return lambda change, case: not fine((change.after.get("securityContext") or {}).get(key))


def _old_annotation(change: Difference, case: Case) -> bool:
    del case
    key, text = change.path[-1], str(change.after)
    if key.startswith("container.apparmor.security.beta.kubernetes.io/"):
        return text not in ("", "runtime/default") and not text.startswith("localhost/")
    old = ("seccomp.security.alpha.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/")
    return key.startswith(old) and text == "unconfined"


# ------------------------------------------------------------------------------------------------ the tables

_SECRETS = (
    "pod spec volumes * secret secretName|name?, pod spec volumes * projected sources * secret name|secretName?,"
    "container envFrom * secretRef name?, container env * valueFrom secretKeyRef name?,"
    "pod spec imagePullSecrets, pod spec imagePullSecrets * name?,"
    "object ServiceAccount * secrets|imagePullSecrets, object ServiceAccount * secrets|imagePullSecrets * name?"
)
_CONFIG_MAPS = (
    "pod spec volumes * configMap name?, pod spec volumes * projected sources * configMap name?,"
    "container envFrom * configMapRef name?, container env * valueFrom configMapKeyRef name?"
)
_PROBE_HOSTS = (
    "container livenessProbe|readinessProbe|startupProbe httpGet|tcpSocket host,"
    "container lifecycle postStart|preStop httpGet|tcpSocket host"
)
_NAMES = (
    "pod spec volumes * * ** name|secretName, container envFrom * * name, container env * valueFrom * name,"
    "pod spec imagePullSecrets * name, pod spec serviceAccountName|serviceAccount"
)


_HUB = (
    Rule("object * *", lambda c, k: c.after.kind not in k.policy.kinds, "allowed kinds",
         expected="a kind that the hub allows; the hub's configuration can allow more"),
    Rule("object * *", _bad_version, "allowed kinds", expected="the apiVersion of the kind"),
    Rule("object * *", _malformed, "well-formed manifest", expected="a manifest of this kind"),
    Rule("object * *", lambda c, k: c.after.lifetime is Lifetime.shared and c.after.kind not in ("ConfigMap", "Secret"),
         "shared objects", expected="ConfigMap or Secret: only they can be immutable"),
    Rule("server", _malformed_pod, "well-formed pod", expected="a pod"),
    Rule("object * * metadata namespace, object RoleBinding * subjects * namespace",
         lambda c, k: c.after not in (None, "", k.namespace), "own namespace",
         expected="the server's namespace, or nothing"),
    Rule(("object * * metadata generateName|ownerReferences|finalizers **, "
          "template metadata generateName|ownerReferences|finalizers **, "
          "object StatefulSet * spec volumeClaimTemplates * metadata ownerReferences|finalizers **"),
         _given, "reserved metadata",
         expected="nothing: the spawner decides it"),
    Rule(("object * * metadata labels *, template metadata labels *, "
          "object StatefulSet * spec volumeClaimTemplates * metadata labels *"), _reserved_label, "reserved labels",
         expected="a label of its own"),
    Rule("object Service * spec type", _not_in(frozenset({"ClusterIP"})), "cluster-internal services",
         expected="ClusterIP"),
    Rule("object Service * spec externalIPs|externalName|loadBalancerIP|loadBalancerClass", _given,
         "cluster-internal services", expected="nothing"),
    Rule("object Service * spec ports * nodePort", _given, "cluster-internal services", expected="nothing"),
    Rule("object Secret * type", lambda c, k: c.after in _TOKEN_SECRETS, "no tokens",
         expected="another type: this one would be filled with a token"),
    Rule("object Role * rules * verbs", _escalating_verbs, "no escalation",
         expected="named verbs without bind, escalate, impersonate"),
    Rule("object Role * rules * resources", _escalating, "no escalation",
         expected="named resources that give no new rights"),
    Rule("object Role * rules * apiGroups", _any_of(frozenset({"*"})), "no escalation", expected="named groups"),
    Rule("object Role * rules * nonResourceURLs", _given, "no escalation", expected="nothing"),
    Rule("object Role * aggregationRule **", _always, "no escalation", expected="nothing"),
    Rule("object RoleBinding *", lambda c, k: (c.after.body["roleRef"]["kind"] != "Role"
         or c.after.body["roleRef"]["name"] not in k.own.get("Role", ())), "own roles",
         expected="a Role that the same profile brings"),
    Rule("object RoleBinding * subjects *", lambda c, k: (c.after["kind"] not in ("ServiceAccount", "User")
         or (c.after["kind"] == "User" and c.after["name"].startswith("system:"))), "own subjects",
         expected="a ServiceAccount of the namespace, or a named User"),
    Rule("object NetworkPolicy *", lambda c, k: not c.after.body["spec"]["podSelector"]["matchLabels"],
         "own pods", expected="a podSelector with matchLabels that name the server's own pods"),
    Rule("claim volumeName, claim dataSource|dataSourceRef **",
         lambda c, k: bool(c.after) and not k.policy.static_volumes, "other volumes",
         expected="an empty volume of its own"),
    Rule(_NAMES, lambda c, k: isinstance(c.after, str) and c.after in k.policy.protected, "protected names",
         expected="a name that is not the hub's"),
    Rule("final spec serviceAccountName|serviceAccount", _foreign_account, "service account",
         expected="'default', one that the hub's configuration names, or one that the profile brings"),
    Rule("pod spec nodeName", _given, "node name", expected="nothing: let the scheduler choose"),
    Rule("pod spec priorityClassName", lambda c, k: c.after is not None and c.after.startswith("system-"),
         "system priority", expected="a priority class of the users"),
    Rule("pod spec volumes * gitRepo **", _always, "gitRepo volume", expected="an init container"),
)  # fmt: skip
_BASELINE = (
    Rule("pod spec hostNetwork|hostPID|hostIPC", _given, "host namespaces", expected="false"),
    Rule("pod spec securityContext sysctls *", lambda c, k: c.after["name"] not in _SAFE_SYSCTLS, "sysctls",
         expected="a safe sysctl"),
    Rule("pod metadata annotations *", _old_annotation, "AppArmor or seccomp", expected="runtime/default"),
    Rule("pod spec volumes * hostPath **", _always, "hostPath volume", expected="a PersistentVolumeClaim"),
    Rule("context windowsOptions hostProcess", _given, "HostProcess", expected="false"),
    Rule("context seLinuxOptions type", _not_in(_SELINUX_TYPES), "SELinux",
         expected="container_t"),
    Rule("context seLinuxOptions user|role", _given, "SELinux", expected="nothing"),
    Rule("context seccompProfile type", _not_in(_PROFILES), "seccomp",
         expected="RuntimeDefault or Localhost"),
    Rule("context appArmorProfile type", _not_in(_PROFILES), "AppArmor",
         expected="RuntimeDefault or Localhost"),
    Rule("container securityContext privileged", _given, "privileged container", expected="false"),
    Rule("container securityContext procMount", _not_in(frozenset({"", "Default"})), "/proc mount type",
         expected="Default"),
    Rule("container securityContext capabilities add", _bad_capability, "capabilities",
         expected="no added capability"),
    Rule("container ports * hostPort", lambda c, k: bool(c.after) and c.after not in k.policy.host_ports,
         "host ports", expected="no host port"),
    Rule(_PROBE_HOSTS, _given, "host probes",
         expected="no host: the pod itself is asked"),
)  # fmt: skip
_RESTRICTED = (
    Rule("pod spec volumes *",
         lambda c, k: any(v is not None and t not in _RESTRICTED_VOLUMES | {"name"} for t, v in c.after.items()),
         "volume types", expected=", ".join(sorted(_RESTRICTED_VOLUMES))),
    Rule("container", _only_in_container("allowPrivilegeEscalation", lambda v: v is False),
         "privilege escalation", expected="allowPrivilegeEscalation: false"),
    Rule("container", _in_context("runAsNonRoot", lambda v: v is True), "running as non-root",
         expected="runAsNonRoot: true"),
    Rule("container", _in_context("runAsUser", lambda v: v != 0), "running as non-root user",
         expected="runAsUser: a number above 0"),
    Rule("container", _in_context("seccompProfile", lambda v: (v or {}).get("type") in _PROFILES),
         "seccomp", expected="seccompProfile: RuntimeDefault or Localhost"),
    Rule("container", _only_in_container("capabilities", lambda v: "ALL" in ((v or {}).get("drop") or ())),
         "capabilities", expected="drop: [ALL]"),
    Rule("container securityContext capabilities add",
         lambda c, k: not {"NET_BIND_SERVICE"}.issuperset(c.after or ()), "capabilities",
         expected="at most NET_BIND_SERVICE"),
)  # fmt: skip
_POD_SECURITY: Mapping[Level, tuple[Rule, ...]] = {
    "privileged": (), "baseline": _BASELINE, "restricted": (*_BASELINE, *_RESTRICTED),
}  # fmt: skip


def _pod_security(level: Level, rule: Rule) -> Rule:
    weaker = "privileged" if rule in _BASELINE else "baseline"
    hint = f'To allow it: c.ProfileSpawner.pod_security = "{weaker}"'
    return replace(rule, message=f"Pod Security {level}: {rule.message}", hint=hint)


HUB_RULES = {
    level: RuleTable(*_HUB, *(_pod_security(level, rule) for rule in rules)) for level, rules in _POD_SECURITY.items()
}
"""What no profile may ask for, by Pod Security level. The hub's own parts of the pod are not judged.

The levels are Kubernetes' Pod Security Standards (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
Not every cluster enforces them; these rules work in every cluster, and their messages name the profile.
"""

_HUB_PART = "a document may not remove or replace what the hub gives to every pod"
_LABEL = "a document may not set this label or annotation: other programs act on it"
_ALLOW_LABEL = 'To allow it: data_policy = {{"labels": ["{0}"]}}'
_HOST = "a document may not use the host"
_PRIVILEGE = "a document may not ask for this privilege"
_ALLOW_NAME = 'To allow it: data_policy = {{"secrets": ["{1}"]}}'
_ALLOW_PRIVILEGE = 'To leave it to the Pod Security level: data_policy = {{"privileged": True}}'
_DISK = "a new claim may not take an existing disk: name a class, or none"
_QUANTITY = "this is not a quantity that Kubernetes takes"
_NAME = "this name belongs to the hub"
_TIME = "must be a number of seconds from 1 to 86,400"

WRITTEN_TWICE = Rule("**", _always, "a field may be written once only; this one is there in two spellings")
"""Kubernetes uses one of the two values, and the rules could look at the other."""

DATA_RULES = RuleTable(
    # The server: accounts, the host, Secrets, privileges.
    Rule("pod spec serviceAccountName|serviceAccount", _unnamed_account,
         "a document may not name this service account", 'To allow it: data_policy = {{"service_accounts": ["{1}"]}}'),
    Rule("pod spec hostNetwork|hostPID|hostIPC|hostUsers|nodeName", _given, _HOST),
    Rule("pod spec hostAliases **", _always, _HOST),
    Rule(f"container ports * hostPort, {_PROBE_HOSTS}", _given, _HOST),
    Rule("pod spec volumes * hostPath", lambda c, k: not isinstance(c.after, Mapping) or not c.after, _HOST),
    Rule("pod spec volumes * hostPath path", _path_of_the_host, "a document may not mount paths of the host",
         'To allow it: data_policy = {{"host_paths": ["{1}"]}}'),
    Rule("pod spec volumes * * **", lambda c, k: c.path[4] not in _VOLUME_TYPES | {"name"},
         "documents may not use this type of volume"),
    Rule(_SECRETS, _unnamed_secret, "a document may not name this Secret", _ALLOW_NAME),
    Rule(_CONFIG_MAPS, _config_map_of_others, "this ConfigMap belongs to another server or profile"),
    Rule(("container securityContext privileged|allowPrivilegeEscalation|procMount|capabilities,"
          "container securityContext capabilities add, context windowsOptions **,"
          "pod spec automountServiceAccountToken|priorityClassName, pod spec securityContext sysctls **,"
          "pod spec volumes * projected sources * serviceAccountToken **"), _privilege(_given),
            _PRIVILEGE, _ALLOW_PRIVILEGE),
    Rule("pod spec volumes * projected sources * podCertificate **", _always,
         "a document may not ask for a certificate (podCertificate)"),
    Rule("pod spec * * volumeMounts * mountPropagation", _always, "other containers or the node would see this mount"),
    Rule("pod spec * * volumeDevices **", _always, "a document may not use a claim as a device"),
    Rule("pod spec containers|initContainers * env **", _hubs_variable,
         "a document may not set this variable of the hub"),
    Rule(_NAMES, lambda c, k: isinstance(c.after, str) and c.after in k.rights.protected, _NAME),
    # The hub's own pod: a document may add to it.
    Rule("final metadata labels *, final metadata annotations *", _acting, _LABEL, _ALLOW_LABEL),
    Rule(("server metadata labels|annotations, server spec initContainers|volumes|nodeSelector **,"
          "server spec containers *, server spec containers * ports *,"
          "server spec containers * volumeMounts **"), _taken_away, _HUB_PART),
    Rule("server spec containers * **, server spec initContainers * **", _other_container, _HUB_PART),
    Rule("server spec * * volumeMounts *", _wider_mount,
         "a document may mount a volume of the hub only as the hub does, or a part of it"),
    Rule("server spec * * volumeMounts *", _hides, "a document may not mount over a mount of the hub"),
    Rule("first spec initContainers", lambda c, k: c.before != c.after, "the hub's init containers must come first"),
    Rule("server spec automountServiceAccountToken", _token_mounted, "a document may not ask for the account's token"),

    Rule("server spec affinity **", _wider_placement,
         "a document may not allow further nodes: it can only add conditions to those of the hub"),
    Rule(f"pod spec affinity podAntiAffinity {_REQUIRED}", _repels_others,
         "required anti-affinity must name a label of an author: it also keeps the pods that it names away",
         "Add matchLabels with a label of your own, or use pod_anti_affinity_preferred"),
    Rule("pod spec tolerations", _wide_toleration, "a document may not have this toleration: name a taint for users"),
    Rule("template spec * **", _unusual_field, "a document may not give this field to a pod",
         'To allow it, as for servers: data_policy = {{"override_keys": ["extra_pod_config"]}}, or the setting of it'),
    Rule("pod spec securityContext **, pod spec * * securityContext **", _weaker,
         "a document may not weaken the security context"),
    Rule("final spec volumes * persistentVolumeClaim claimName", _foreign_claim,
         "a document may not mount this claim: it is not the user's own and not made by the profile",
         'To allow it: data_policy = {{"claims": ["{1}"]}}'),
    Rule("template spec volumes * persistentVolumeClaim claimName", lambda c, k: c.after in k.partial,
         "servers get only a part of this claim, or cannot write to it, so other pods of a document may not mount it"),
    # New claims and quantities.
    Rule("claim selector **", _always, _DISK),
    Rule("claim storageClassName", lambda c, k: c.after == "", _DISK),
    Rule("claim resources * *", _no_quantity, f"{_QUANTITY}, so it is no size"),
    Rule("pod spec * * resources * *, pod spec volumes * emptyDir sizeLimit", _no_quantity, _QUANTITY),
    Rule("object PersistentVolumeClaim *", lambda c, k: not c.after.body["spec"]["resources"]["requests"]["storage"],
         "a claim needs a size: spec.resources.requests.storage"),
    # Objects.
    Rule("object * *", _other_kind,
         "a document may not bring objects of this kind", 'To allow it: data_policy = {{"kinds": [..., "{2}"]}}'),
    Rule("object * *", _bad_name, "metadata.name: is not a name that Kubernetes takes for this kind"),
    Rule("object * *", lambda c, k: c.after.name in k.rights.protected, _NAME),
    Rule("object Service *", _sets_variables, "metadata.name: other pods would get variables of this Service"),
    Rule("object PersistentVolumeClaim|StatefulSet *", _name_of_a_home, "this is a name of the users' home claims"),
    Rule("object * *", _name_of_all,
         "metadata.name: the name must contain the user's or the server's, or it could be that of others",
         'Write it as in "data-{{{{ server_slug }}}}"'),
    Rule("object * *", _name_of_the_spawner, "metadata.name: names that end like this one are given by the spawner"),
    Rule("object Deployment|StatefulSet|Job * spec replicas|parallelism|completions", _not_between(0, MOST_REPLICAS),
         f"a document may have at most {MOST_REPLICAS} replicas"),
    Rule(("object * * metadata labels|annotations *, object StatefulSet * spec volumeClaimTemplates * metadata "
          "labels|annotations *, pod spec volumes * ephemeral volumeClaimTemplate metadata labels|annotations *"),
         _acting, _LABEL, _ALLOW_LABEL),
    Rule("object Role * rules * verbs", _more_than_reading, "a document may give only rights to read"),
    Rule("object Role * rules * resources", _reads_of_others,
         "a document may give only rights to read, and only of services, endpoints, claims, quotas and metrics; of "
         "pods and other objects only those of the profile, by resourceNames; never of Secrets"),
    Rule("object RoleBinding * subjects *", _foreign_subject,
         "a document may give rights only to an account that the profile brings",
         'To allow it: data_policy = {{"service_accounts": ["{1}"]}}'),
    Rule("object Service * spec selector *, object NetworkPolicy * spec podSelector matchLabels *", _acting,
         "a document may not select pods by this label: others have it", _ALLOW_LABEL),
    # Texts into which names and choices are filled.
    Rule("text **", _odd_field, "braces may hold only a name, such as {username}: no format, conversion or number",
         "Double the braces that are text"),
    Rule("command **", _always, "a shell or another program could run what users type or are called",
         USE_A_VARIABLE.replace("{", "{{").replace("}", "}}")),
    # What leaves no trace in the pod.
    Rule("setting *", lambda c, k: c.path[1] not in HARMLESS_OVERRIDES | k.rights.override_keys,
         "this setting may not be overridden by a document", 'To allow it: data_policy = {{"override_keys": ["{0}"]}}'),
    Rule("setting start_timeout|http_timeout", _not_between(1, 86_400), _TIME),
    Rule("setting port", _not_between(1, 65535), "is not a number of a port"),
    Rule("setting cpu_limit|cpu_guarantee|mem_limit|mem_guarantee", _not_between(0, 2**63), _QUANTITY),
    Rule("setting storage_class", lambda c, k: c.after == "", _DISK),
    Rule("setting storage_capacity", _no_quantity, _QUANTITY),
    Rule("field icon", lambda c, k: isinstance(c.after, str) and not _ICON.fullmatch(c.after),
         _ICON_MESSAGE),
    Rule("field meta", lambda c, k: not _ICON.fullmatch(str(c.after.get("icon", ""))), _ICON_MESSAGE),
    Rule("field bash_login_path|bashrc_path|init_script_path", lambda c, k: isinstance(c.after, ParamRef),
         "a document may not take a file from a param: it would be one of the hub's"),
    Rule("param * ** secret|fromSecret|from_secret, param * ** fromSecret|from_secret name", _unnamed_secret,
         "a document may not name this Secret", _ALLOW_NAME),
)  # fmt: skip
"""What documents may not ask for, unless the hub's `data_policy` allows it."""
