"""The object policy: what profiles may create in the cluster.

It is checked before the first API call. Only the hub's configuration can change it.

By default a profile may create ConfigMaps, Secrets, PersistentVolumeClaims and ClusterIP Services in the server's
namespace, and a pod of Pod Security level `baseline`. The hub's configuration can allow the kinds of `OPT_IN_KINDS`.
Cluster-scoped kinds and other namespaces are never allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_spawner.errors import PolicyError
from profile_spawner.names import LABEL_MANAGED_BY
from profile_spawner.profiles.resources import KubeObject, Lifetime

from .kinds import BY_KIND
from .pod_security import LEVELS, Level, MalformedPodError, pod_findings

__all__ = ["DEFAULT_KINDS", "OPT_IN_KINDS", "Policy", "PolicyViolation"]

DEFAULT_KINDS = frozenset({"ConfigMap", "Secret", "PersistentVolumeClaim", "Service"})
OPT_IN_KINDS = frozenset({"Role", "RoleBinding", "Deployment", "StatefulSet", "Job", "NetworkPolicy", "ServiceAccount"})

_WORKLOADS = frozenset({"Deployment", "StatefulSet", "Job"})
_TOKEN_SECRETS = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
_ESCALATING_VERBS = frozenset({"*", "bind", "escalate", "impersonate"})
_ESCALATING_RESOURCES = frozenset(
    {
        "*",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "pods/proxy",
        "pods/ephemeralcontainers",
        "serviceaccounts/token",
        "roles",
        "rolebindings",
    }
)


class PolicyViolation(PolicyError):  # noqa: N818 - the word says what it is; the base class ends in Error
    """A `PolicyError` with the name of the violated rule.

    Attributes:
        rule: The rule's name.
    """

    rule: str = ""


@dataclass(frozen=True)
class Policy:
    """What the hub allows.

    Attributes:
        kinds: The kinds of objects that profiles may create: `DEFAULT_KINDS` and any of `OPT_IN_KINDS`.
        pod_security: The Pod Security level of every pod: `privileged`, `baseline` or `restricted`.
        host_ports: Host ports that containers may use.
        trusted: Containers and volumes from the hub's configuration, as they appear in the pod (for example the
            chart's privileged `block-cloud-metadata`). A container or volume that is equal to one is not checked.
        service_accounts: The service accounts that pods may use, besides `default` and those that the profile
            creates. `None` disables this check for the server's pod (but not for pods of Deployments and similar).
        protected: Names of Secrets, ConfigMaps and service accounts that no pod may use, such as the hub's own.
        static_volumes: Whether claims may name a volume or copy another claim, which may contain another user's data.
        adopt_unlabelled_claims: Whether an existing claim without labels of this project may be mounted. Such a claim
            is never deleted.

    Raises:
        PolicyError: If the configuration contains an unknown kind or level.
    """

    kinds: frozenset[str] = DEFAULT_KINDS
    pod_security: Level = "baseline"
    host_ports: frozenset[int] = frozenset()
    trusted: tuple[Mapping[str, Any], ...] = ()
    service_accounts: frozenset[str] | None = None
    protected: frozenset[str] = frozenset({"hub"})
    static_volumes: bool = False
    adopt_unlabelled_claims: bool = True

    def __post_init__(self) -> None:
        allowed = DEFAULT_KINDS | OPT_IN_KINDS
        for kind in sorted(self.kinds - allowed):
            raise PolicyError(
                "profiles can never be allowed to bring this kind",
                field="kinds",
                value=kind,
                expected=", ".join(sorted(allowed)),
            )
        if self.pod_security not in LEVELS:
            raise PolicyError(
                "there is no such Pod Security level",
                field="pod_security",
                value=self.pod_security,
                expected=", ".join(LEVELS),
            )

    def check_objects(self, profile: str, objects: Sequence[KubeObject], namespace: str) -> None:
        """Check all objects that a profile creates besides the pod.

        Args:
            profile: The profile's slug.
            objects: The objects.
            namespace: The server's namespace.

        Raises:
            PolicyViolation: For the first violation.
        """
        names = {kind: frozenset(o.name for o in objects if o.kind == kind) for kind in ("Role", "ServiceAccount")}
        for item in objects:
            report = _Reporter(profile, f"{item.field}: {item.kind} {item.name}")
            try:
                self._check_object(item, namespace, names, report)
            except (MalformedPodError, AttributeError, TypeError) as exc:
                report.refuse("well-formed manifest", "", None, "a manifest of this kind", cause=exc)

    def check_pod(
        self,
        pod: Mapping[str, Any],
        profile: str,
        *,
        trusted: Sequence[Mapping[str, Any]] = (),
        service_accounts: Collection[str] = (),
    ) -> None:
        """Check the server's final pod, after all hooks and overrides.

        Args:
            pod: The pod that will be sent to the API server.
            profile: The profile's slug.
            trusted: Like the attribute `trusted`, but only for this pod.
            service_accounts: Like the attribute `service_accounts`, but only for this pod: the accounts that the hub's
                configuration assigns to this user, and those that the profile creates.

        Raises:
            PolicyViolation: For the first violation.
        """
        report = _Reporter(profile, "pod")
        try:
            self._check_pod_like(pod, "", report, tuple(trusted))
            spec = pod.get("spec") or {}
            accounts = self.service_accounts
            account = spec.get("serviceAccountName") or spec.get("serviceAccount")
            if accounts is not None and account and account not in {*accounts, *service_accounts, "default"}:
                report.refuse(
                    "service account", "spec.serviceAccountName", account, "one the hub's configuration names"
                )
        except (MalformedPodError, AttributeError, TypeError) as exc:
            report.refuse("well-formed pod", "", None, "a pod", cause=exc)

    def _check_object(
        self, item: KubeObject, namespace: str, names: Mapping[str, frozenset[str]], report: _Reporter
    ) -> None:
        if item.kind not in self.kinds:
            what = ", ".join(sorted(self.kinds))
            report.refuse("allowed kinds", "kind", item.kind, f"one of {what}; the hub's configuration can allow more")
        if BY_KIND[item.kind].api_version != item.api_version:
            report.refuse("allowed kinds", "apiVersion", item.api_version, BY_KIND[item.kind].api_version)
        body = item.body
        if body.get("kind", item.kind) != item.kind or body.get("apiVersion", item.api_version) != item.api_version:
            report.refuse("allowed kinds", "kind", body.get("kind"), item.kind)
        _check_metadata(body.get("metadata") or {}, namespace, report)
        if item.kind in _WORKLOADS:
            self._check_workload(item, names["ServiceAccount"], report)
        elif item.kind == "PersistentVolumeClaim":
            self._check_claim(body.get("spec") or {}, "spec", report)
        elif item.kind == "RoleBinding":
            _check_role_binding(body, namespace, names["Role"], report)
        elif check := _CHECKS.get(item.kind):
            check(body, report)
        if item.lifetime is Lifetime.shared and item.kind not in ("ConfigMap", "Secret"):
            report.refuse("shared objects", "kind", item.kind, "ConfigMap or Secret: only they can be immutable")

    def _check_pod_like(
        self, pod: Mapping[str, Any], path: str, report: _Reporter, trusted: tuple[Mapping[str, Any], ...] = ()
    ) -> None:
        parts = (*self.trusted, *trusted)
        findings = pod_findings(pod, self.pod_security, path=path, host_ports=self.host_ports, trusted=parts)
        for finding in findings:
            level = "" if finding.rule in ("node name", "system priority", "gitRepo volume") else self.pod_security
            rule = f"Pod Security {level}: {finding.rule}" if level else finding.rule
            report.refuse(rule, finding.field, finding.value, finding.expected)
        spec = pod.get("spec") or {}
        account = spec.get("serviceAccountName") or spec.get("serviceAccount")
        if account in self.protected:
            report.refuse("protected names", f"{path}spec.serviceAccountName", account, "another service account")
        for index, volume in enumerate(spec.get("volumes") or ()):
            claim = ((volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}).get("spec") or {}
            self._check_claim(claim, f"{path}spec.volumes[{index}].ephemeral.volumeClaimTemplate.spec", report)
        for name in referred_names(spec):
            if name in self.protected:
                report.refuse("protected names", f"{path}spec", name, "a Secret or ConfigMap of the users")

    def _check_workload(self, item: KubeObject, own_accounts: frozenset[str], report: _Reporter) -> None:
        spec = item.body.get("spec") or {}
        template = spec.get("template") or {}
        self._check_pod_like(template, "spec.template.", report)
        _check_labels((template.get("metadata") or {}).get("labels") or {}, "spec.template.metadata.labels", report)
        pod = template.get("spec") or {}
        account = pod.get("serviceAccountName") or pod.get("serviceAccount")
        allowed = own_accounts | {"default"} | (self.service_accounts or frozenset())
        if account and account not in allowed:
            field = "spec.template.spec.serviceAccountName"
            report.refuse("service account", field, account, "'default' or one that the profile brings")
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            self._check_claim(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec", report)

    def _check_claim(self, spec: Mapping[str, Any], field: str, report: _Reporter) -> None:
        if self.static_volumes:
            return
        for key in ("volumeName", "dataSource", "dataSourceRef"):
            if spec.get(key):
                report.refuse("other volumes", f"{field}.{key}", key, "an empty volume of its own")


class _Reporter:
    """Creates the errors of one check, so that every error names profile, object, field and rule."""

    def __init__(self, profile: str, subject: str) -> None:
        self._profile = profile
        self._subject = subject

    def refuse(self, rule: str, field: str, value: Any, expected: str, *, cause: BaseException | None = None) -> None:
        error = PolicyViolation(
            f"not allowed by the hub's policy, rule {rule!r}",
            profile=self._profile or None,
            field=f"{self._subject}: {field}" if field else self._subject,
            value=value,
            expected=expected,
        )
        error.rule = rule
        raise error from cause


def referred_names(spec: Mapping[str, Any]) -> set[str]:
    """Return the names of all Secrets and ConfigMaps that a pod's spec refers to. Other texts may be included.

    It collects all possible names: from volumes of any kind, `envFrom`, `valueFrom` and pull secrets. Additional names
    cause no error, but a missing name would be a security problem.
    """
    names: set[str] = set()
    _texts(spec.get("imagePullSecrets"), names)
    _texts(spec.get("volumes"), names)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            _texts(container.get("envFrom"), names)
            for variable in container.get("env") or ():
                if variable.get("valueFrom"):
                    _texts(variable["valueFrom"], names)
    return names


def _texts(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _texts(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _texts(item, found)


def _check_labels(labels: Mapping[str, Any], field: str, report: _Reporter) -> None:
    for key in labels:
        if key.startswith("profile-spawner/") or key == LABEL_MANAGED_BY:
            report.refuse("reserved labels", f"{field}[{key}]", labels[key], "a label of its own")


def _check_metadata(metadata: Mapping[str, Any], namespace: str, report: _Reporter) -> None:
    if metadata.get("namespace") not in (None, "", namespace):
        report.refuse("own namespace", "metadata.namespace", metadata["namespace"], f"{namespace!r} or nothing")
    for key in ("generateName", "ownerReferences", "finalizers"):
        if metadata.get(key):
            report.refuse("reserved metadata", f"metadata.{key}", key, "nothing: the spawner decides it")
    _check_labels(metadata.get("labels") or {}, "metadata.labels", report)


def _check_service(body: Mapping[str, Any], report: _Reporter) -> None:
    spec = body.get("spec") or {}
    if spec.get("type") not in (None, "ClusterIP"):
        report.refuse("cluster-internal services", "spec.type", spec["type"], "ClusterIP")
    for key in ("externalIPs", "externalName", "loadBalancerIP", "loadBalancerClass"):
        if spec.get(key):
            report.refuse("cluster-internal services", f"spec.{key}", spec[key], "nothing")
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            report.refuse("cluster-internal services", "spec.ports.nodePort", port["nodePort"], "nothing")


def _check_secret(body: Mapping[str, Any], report: _Reporter) -> None:
    if body.get("type") in _TOKEN_SECRETS:
        report.refuse("no tokens", "type", body["type"], "another type: this one would be filled with a token")


def _check_role(body: Mapping[str, Any], report: _Reporter) -> None:
    for index, rule in enumerate(body.get("rules") or ()):
        field = f"rules[{index}]"
        for verb in rule.get("verbs") or ():
            if verb in _ESCALATING_VERBS:
                report.refuse(
                    "no escalation", f"{field}.verbs", verb, "named verbs without bind, escalate, impersonate"
                )
        for resource in rule.get("resources") or ():
            if resource in _ESCALATING_RESOURCES:
                report.refuse(
                    "no escalation", f"{field}.resources", resource, "named resources that give no new rights"
                )
        if "*" in (rule.get("apiGroups") or ()):
            report.refuse("no escalation", f"{field}.apiGroups", "*", "named groups")
        if rule.get("nonResourceURLs"):
            report.refuse("no escalation", f"{field}.nonResourceURLs", rule["nonResourceURLs"], "nothing")
    if body.get("aggregationRule"):
        report.refuse("no escalation", "aggregationRule", None, "nothing")


def _check_role_binding(body: Mapping[str, Any], namespace: str, own_roles: frozenset[str], report: _Reporter) -> None:
    role = body.get("roleRef") or {}
    if role.get("kind") != "Role" or role.get("name") not in own_roles:
        name = f"{role.get('kind')}/{role.get('name')}"
        report.refuse("own roles", "roleRef", name, "a Role that the same profile brings")
    for index, subject in enumerate(body.get("subjects") or ()):
        field = f"subjects[{index}]"
        kind, name = subject.get("kind"), str(subject.get("name") or "")
        if kind not in ("ServiceAccount", "User") or (kind == "User" and name.startswith("system:")):
            report.refuse("own subjects", field, f"{kind}/{name}", "a ServiceAccount of the namespace, or a named User")
        if kind == "ServiceAccount" and subject.get("namespace") not in (None, "", namespace):
            report.refuse("own namespace", f"{field}.namespace", subject["namespace"], repr(namespace))


def _check_network_policy(body: Mapping[str, Any], report: _Reporter) -> None:
    selector = (body.get("spec") or {}).get("podSelector") or {}
    if not selector.get("matchLabels"):
        report.refuse("own pods", "spec.podSelector", None, "matchLabels that name the server's own pods")


_CHECKS: Mapping[str, Callable[[Mapping[str, Any], _Reporter], None]] = {
    "Service": _check_service,
    "Secret": _check_secret,
    "Role": _check_role,
    "NetworkPolicy": _check_network_policy,
}
