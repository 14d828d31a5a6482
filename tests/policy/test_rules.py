"""What a profile must not bring: a table of hostile manifests and pods, each refused before any call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.errors import PolicyError
from profile_spawner.policy.judge import check_objects, check_pod
from profile_spawner.policy.settings import DEFAULT_KINDS, OPT_IN_KINDS, Policy
from profile_spawner.profiles.resources import KubeObject, Lifetime

ALL_KINDS = Policy(kinds=DEFAULT_KINDS | OPT_IN_KINDS)
RBAC = "rbac.authorization.k8s.io/v1"
NOTEBOOK = {"name": "notebook", "image": "a/b:1"}
RESTRICTED_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "capabilities": {"drop": ["ALL"]},
}


def thing(kind: str, api_version: str = "v1", lifetime: Lifetime = Lifetime.owned, **body: Any) -> KubeObject:
    """Return an object as a profile would bring it."""
    return KubeObject(api_version, kind, "x", lifetime, "manifests", body)


def template(**spec: Any) -> dict[str, Any]:
    """Return the spec of a Deployment, StatefulSet or Job with this pod spec."""
    return {"template": {"spec": {"containers": [NOTEBOOK], **spec}}}


def context(**values: Any) -> dict[str, Any]:
    """Return a pod spec whose container has this security context."""
    return {"containers": [{**NOTEBOOK, "securityContext": values}]}


DISGUISED = KubeObject("v1", "ConfigMap", "x", Lifetime.owned, "manifests", {"apiVersion": "v1", "kind": "Pod"})
HOSTILE_OBJECTS = {
    "pod": (thing("Pod", spec={"containers": [NOTEBOOK]}), "allowed kinds"),
    "cluster role": (thing("ClusterRole", RBAC, rules=[]), "allowed kinds"),
    "cluster role binding": (thing("ClusterRoleBinding", RBAC), "allowed kinds"),
    "persistent volume": (thing("PersistentVolume"), "allowed kinds"),
    "namespace": (thing("Namespace"), "allowed kinds"),
    "webhook": (thing("MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1"), "allowed kinds"),
    "crd": (thing("CustomResourceDefinition", "apiextensions.k8s.io/v1"), "allowed kinds"),
    "endpoints": (thing("Endpoints"), "allowed kinds"),
    "daemon set": (thing("DaemonSet", "apps/v1", spec=template()), "allowed kinds"),
    "cron job": (thing("CronJob", "batch/v1"), "allowed kinds"),
    "ingress": (thing("Ingress", "networking.k8s.io/v1"), "allowed kinds"),
    "old api version": (thing("Deployment", "extensions/v1beta1", spec=template()), "allowed kinds"),
    "disguised kind": (DISGUISED, "allowed kinds"),
    "other namespace": (thing("ConfigMap", metadata={"namespace": "kube-system"}), "own namespace"),
    "generated name": (thing("ConfigMap", metadata={"generateName": "x-"}), "reserved metadata"),
    "own owner": (thing("ConfigMap", metadata={"ownerReferences": [{"uid": "1"}]}), "reserved metadata"),
    "finalizer": (thing("ConfigMap", metadata={"finalizers": ["a/b"]}), "reserved metadata"),
    "forged hub label": (thing("ConfigMap", metadata={"labels": {"profile-spawner/hub": "b"}}), "reserved labels"),
    "forged manager": (thing("Secret", metadata={"labels": {"app.kubernetes.io/managed-by": "x"}}), "reserved labels"),
    "shared service": (thing("Service", lifetime=Lifetime.shared, spec={}), "shared objects"),
    "load balancer": (thing("Service", spec={"type": "LoadBalancer"}), "cluster-internal services"),
    "node port": (thing("Service", spec={"type": "NodePort"}), "cluster-internal services"),
    "external name": (thing("Service", spec={"type": "ExternalName"}), "cluster-internal services"),
    "external name alone": (thing("Service", spec={"externalName": "a.b"}), "cluster-internal services"),
    "external ips": (thing("Service", spec={"externalIPs": ["1.2.3.4"]}), "cluster-internal services"),
    "hidden node port": (thing("Service", spec={"ports": [{"nodePort": 30000}]}), "cluster-internal services"),
    "token secret": (thing("Secret", type="kubernetes.io/service-account-token"), "no tokens"),
    "bootstrap token": (thing("Secret", type="bootstrap.kubernetes.io/token"), "no tokens"),
    "volume by name": (thing("PersistentVolumeClaim", spec={"volumeName": "pv-of-bob"}), "other volumes"),
    "clone": (thing("PersistentVolumeClaim", spec={"dataSource": {"name": "claim-bob"}}), "other volumes"),
    "clone by reference": (thing("PersistentVolumeClaim", spec={"dataSourceRef": {"name": "b"}}), "other volumes"),
    "all verbs": (thing("Role", RBAC, rules=[{"verbs": ["*"]}]), "no escalation"),
    "bind": (thing("Role", RBAC, rules=[{"verbs": ["bind"]}]), "no escalation"),
    "escalate": (thing("Role", RBAC, rules=[{"verbs": ["escalate"]}]), "no escalation"),
    "impersonate": (thing("Role", RBAC, rules=[{"verbs": ["impersonate"]}]), "no escalation"),
    "all resources": (thing("Role", RBAC, rules=[{"resources": ["*"], "verbs": ["get"]}]), "no escalation"),
    "exec": (thing("Role", RBAC, rules=[{"resources": ["pods/exec"], "verbs": ["create"]}]), "no escalation"),
    "tokens": (thing("Role", RBAC, rules=[{"resources": ["serviceaccounts/token"]}]), "no escalation"),
    "roles": (thing("Role", RBAC, rules=[{"resources": ["rolebindings"]}]), "no escalation"),
    "all groups": (thing("Role", RBAC, rules=[{"apiGroups": ["*"]}]), "no escalation"),
    "urls": (thing("Role", RBAC, rules=[{"nonResourceURLs": ["/metrics"]}]), "no escalation"),
    "bound cluster role": (thing("RoleBinding", RBAC, roleRef={"kind": "ClusterRole", "name": "admin"}), "own roles"),
    "bound hub role": (thing("RoleBinding", RBAC, roleRef={"kind": "Role", "name": "hub"}), "own roles"),
    "all pods": (thing("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": {}}), "own pods"),
    "privileged deployment": (thing("Deployment", "apps/v1", spec=template(**context(privileged=True))),
                              "Pod Security baseline: privileged container"),
    "host path job": (thing("Job", "batch/v1", spec=template(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
                      "Pod Security baseline: hostPath volume"),
    "hub's account": (thing("Deployment", "apps/v1", spec=template(serviceAccountName="hub")), "protected names"),
    "other account": (thing("Job", "batch/v1", spec=template(serviceAccountName="admin")), "service account"),
    "hub's secret": (thing("Job", "batch/v1", spec=template(volumes=[{"secret": {"secretName": "hub"}}])),
                     "protected names"),
    "cloning stateful set": (
        thing("StatefulSet", "apps/v1",
              spec={**template(), "volumeClaimTemplates": [
                  {"metadata": {"name": "a"}, "spec": {"dataSource": {"name": "b"}}}]}),
        "other volumes"),
    "forged template": (
        thing("Deployment", "apps/v1", spec={"template": {"metadata": {"labels": {"profile-spawner/server": "x"}}}}),
        "reserved labels"),
    "finalizer of a template": (
        thing("Deployment", "apps/v1", spec={"template": {"metadata": {"finalizers": ["a/b"]}, "spec": {}}}),
        "reserved metadata"),
    "exec by any name": (thing("Role", RBAC, rules=[{"resources": ["*/exec"], "verbs": ["create"]}]), "no escalation"),
    "template is a list": (thing("Job", "batch/v1", spec={"template": {"spec": ["x"]}}), "well-formed manifest"),
    "not a mapping": (thing("Service", spec=["x"]), "well-formed manifest"),
    "metadata is a list": (thing("ConfigMap", metadata=["x"]), "well-formed manifest"),
    "labels are a text": (thing("ConfigMap", metadata={"labels": "x"}), "well-formed manifest"),
    "selector is a list": (thing("Service", spec={"selector": ["x"]}), "well-formed manifest"),
    "labels of a selector are a text": (
        thing("Deployment", "apps/v1", spec={"selector": {"matchLabels": "x"}}), "well-formed manifest"),
    "metadata of a template is a text": (
        thing("Job", "batch/v1", spec={"template": {"metadata": "x"}}), "well-formed manifest"),
    "labels of a claim are a list": (
        thing("StatefulSet", "apps/v1", spec={"volumeClaimTemplates": [{"metadata": {"name": "a", "labels": ["x"]}}]}),
        "well-formed manifest"),
    "claims are a text": (thing("StatefulSet", "apps/v1", spec={"volumeClaimTemplates": "x"}), "well-formed manifest"),
}  # fmt: skip

BASELINE = {
    "hostNetwork": ({"hostNetwork": True}, "host namespaces"),
    "hostPID": ({"hostPID": True}, "host namespaces"),
    "hostIPC": ({"hostIPC": True}, "host namespaces"),
    "host process": ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "HostProcess"),
    "container host process": (context(windowsOptions={"hostProcess": True}), "HostProcess"),
    "privileged": (context(privileged=True), "privileged container"),
    "privileged init": ({"initContainers": [{"securityContext": {"privileged": True}}]}, "privileged container"),
    "privileged ephemeral": (
        {"ephemeralContainers": [{"securityContext": {"privileged": True}}]}, "privileged container"),
    "SYS_ADMIN": (context(capabilities={"add": ["SYS_ADMIN"]}), "capabilities"),
    "NET_RAW": (context(capabilities={"add": ["NET_RAW"]}), "capabilities"),
    "ALL": (context(capabilities={"add": ["ALL"]}), "capabilities"),
    "hostPath": ({"volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}, "hostPath volume"),
    "hostPort": ({"containers": [{**NOTEBOOK, "ports": [{"hostPort": 80}]}]}, "host ports"),
    "procMount": (context(procMount="Unmasked"), "/proc mount type"),
    "seccomp": (context(seccompProfile={"type": "Unconfined"}), "seccomp"),
    "pod seccomp": ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccomp"),
    "app armor": (context(appArmorProfile={"type": "Unconfined"}), "AppArmor"),
    "SELinux type": (context(seLinuxOptions={"type": "spc_t"}), "SELinux"),
    "SELinux user": ({"securityContext": {"seLinuxOptions": {"user": "root"}}}, "SELinux"),
    "SELinux role": (context(seLinuxOptions={"role": "sysadm_r"}), "SELinux"),
    "sysctl": ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "sysctls"),
    "probe host": ({"containers": [{**NOTEBOOK, "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]}, "host probes"),
    "hook host": (
        {"containers": [{**NOTEBOOK, "lifecycle": {"postStart": {"tcpSocket": {"host": "10.0.0.1"}}}}]},
        "host probes"),
}  # fmt: skip

RESTRICTED = {
    "escalation": ({**RESTRICTED_CONTEXT, "allowPrivilegeEscalation": None}, "privilege escalation"),
    "root": ({**RESTRICTED_CONTEXT, "runAsNonRoot": None}, "running as non-root"),
    "user 0": ({**RESTRICTED_CONTEXT, "runAsUser": 0}, "running as non-root user"),
    "no seccomp": ({**RESTRICTED_CONTEXT, "seccompProfile": None}, "seccomp"),
    "capabilities": ({**RESTRICTED_CONTEXT, "capabilities": None}, "capabilities"),
    "chown": ({**RESTRICTED_CONTEXT, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}, "capabilities"),
}

ALWAYS = {
    "node": ({"nodeName": "gpu-1"}, "node name"),
    "priority": ({"priorityClassName": "system-node-critical"}, "system priority"),
    "gitRepo": ({"volumes": [{"name": "v", "gitRepo": {"repository": "x"}}]}, "gitRepo volume"),
    "hub's account": ({"serviceAccountName": "hub"}, "protected names"),
    "hub's account, old field": ({"serviceAccount": "hub"}, "protected names"),
    "hub's secret": ({"volumes": [{"name": "v", "secret": {"secretName": "hub"}}]}, "protected names"),
    "hub's secret, projected": (
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "hub"}}]}}]}, "protected names"),
    "hub's secret, as environment": (
        {"containers": [{**NOTEBOOK, "envFrom": [{"secretRef": {"name": "hub"}}]}]}, "protected names"),
    "hub's secret, one value": (
        {"initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "hub"}}}]}]},
        "protected names"),
    "cloned ephemeral volume": (
        {"volumes": [{"ephemeral": {"volumeClaimTemplate": {"spec": {"dataSource": {"name": "b"}}}}}]},
        "other volumes"),
    "containers are a mapping": ({"containers": {"a": 1}, "volumes": {"b": 2}}, "well-formed pod"),
}  # fmt: skip


def pod(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return a pod with this spec."""
    return {"metadata": metadata, "spec": {"containers": [NOTEBOOK], **spec}}


@pytest.mark.parametrize("case", HOSTILE_OBJECTS)
def test_hostile_objects(case: str) -> None:
    """Refused even when the hub allows every kind it can allow; the message names profile, object and rule."""
    item, rule = HOSTILE_OBJECTS[case]
    with pytest.raises(PolicyError) as caught:
        check_objects(ALL_KINDS, "evil", [item], "users")
    assert f"rule {rule!r}" in str(caught.value)
    assert "profile 'evil'" in str(caught.value)
    assert f"manifests: {item.kind} x" in str(caught.value)
    assert rule in str(caught.value)


@pytest.mark.parametrize("case", BASELINE)
@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_baseline(case: str, level: Any) -> None:
    """Each rule of Pod Security's baseline holds for every container, and at the stricter level too."""
    spec, rule = BASELINE[case]
    check_pod(Policy(pod_security="privileged"), pod(spec), "gpu")
    with pytest.raises(PolicyError) as caught:
        check_pod(Policy(pod_security=level), pod(spec), "gpu")
    assert level == "restricted" or f"rule {f'Pod Security baseline: {rule}'!r}" in str(caught.value)


@pytest.mark.parametrize("key", ["container.apparmor.security.beta.kubernetes.io/notebook",
                                 "seccomp.security.alpha.kubernetes.io/pod"])  # fmt: skip
def test_annotations_count(key: str) -> None:
    """The old annotations for AppArmor and seccomp are read as well."""
    with pytest.raises(PolicyError):
        check_pod(Policy(), pod({}, annotations={key: "unconfined"}), "gpu")
    check_pod(Policy(), pod({}, annotations={key: "runtime/default"}), "gpu")


@pytest.mark.parametrize("case", RESTRICTED)
def test_restricted(case: str) -> None:
    """Each rule of Pod Security's restricted level holds."""
    values, rule = RESTRICTED[case]
    policy = Policy(pod_security="restricted")
    check_pod(policy, pod(context(**RESTRICTED_CONTEXT)), "gpu")
    with pytest.raises(PolicyError) as caught:
        check_pod(policy, pod(context(**values)), "gpu")
    assert f"rule {f'Pod Security restricted: {rule}'!r}" in str(caught.value)


def test_restricted_settings_of_the_pod_count() -> None:
    """What the pod says for all its containers need not be said again by each."""
    container = {**NOTEBOOK, "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    everywhere = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    check_pod(Policy(pod_security="restricted"), pod({"containers": [container], "securityContext": everywhere}), "x")


def test_restricted_volumes() -> None:
    """Only the volume types of the restricted level."""
    policy = Policy(pod_security="restricted")
    check_pod(policy, pod({**context(**RESTRICTED_CONTEXT), "volumes": [{"name": "v", "emptyDir": {}}]}), "x")
    with pytest.raises(PolicyError, match="volume types"):
        check_pod(policy, pod({**context(**RESTRICTED_CONTEXT), "volumes": [{"name": "v", "nfs": {}}]}), "x")


@pytest.mark.parametrize("case", ALWAYS)
@pytest.mark.parametrize("level", ["privileged", "baseline", "restricted"])
def test_rules_of_every_level(case: str, level: Any) -> None:
    """What no level allows: choosing the node, a system priority, the hub's own account and secrets."""
    spec, rule = ALWAYS[case]
    with pytest.raises(PolicyError) as caught:
        check_pod(Policy(pod_security=level), pod({**context(**RESTRICTED_CONTEXT), **spec}), "gpu")
    assert level == "restricted" or f"rule {rule!r}" in str(caught.value)


def test_the_hub_decides_about_accounts() -> None:
    """A pod may run only as an account of the hub's configuration."""
    policy = Policy(service_accounts=frozenset({"users"}))
    check_pod(policy, pod({"serviceAccountName": "users", "automountServiceAccountToken": False}), "x")
    with pytest.raises(PolicyError, match="service account"):
        check_pod(policy, pod({"serviceAccountName": "admin"}), "x")


def test_what_the_hubs_own_configuration_says_is_trusted() -> None:
    """The chart's privileged container passes as it is, and not with another image."""
    own = {"name": "block", "image": "iptables", "securityContext": {"privileged": True}}
    policy = Policy(host_ports=frozenset({8888}))
    check_pod(
        policy,
        pod({"initContainers": [own], "containers": [{**NOTEBOOK, "ports": [{"hostPort": 8888}]}]}),
        "x",
        trusted=[own],
    )
    with pytest.raises(PolicyError, match="privileged"):
        check_pod(policy, pod({"initContainers": [{**own, "image": "evil"}]}), "x", trusted=[own])
    check_pod(Policy(), pod({"initContainers": [own]}), "x", trusted=[own])


def test_only_named_kinds() -> None:
    """What the hub did not name is refused; what it can never name is refused in its configuration."""
    role = thing("Role", RBAC, rules=[{"verbs": ["get"], "resources": ["pods"]}])
    with pytest.raises(PolicyError, match="allowed kinds"):
        check_objects(Policy(), "x", [role], "users")
    check_objects(Policy(kinds=DEFAULT_KINDS | {"Role"}), "x", [role], "users")
    with pytest.raises(PolicyError, match="ClusterRole"):
        Policy(kinds=frozenset({"ClusterRole"}))
    with pytest.raises(PolicyError, match="level"):
        Policy(pod_security="strict")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subject", "fine"),
    [
        ({"kind": "ServiceAccount", "name": "a"}, True),
        ({"kind": "ServiceAccount", "name": "a", "namespace": "users"}, True),
        ({"kind": "User", "name": "alice"}, True),
        ({"kind": "ServiceAccount", "name": "a", "namespace": "kube-system"}, False),
        ({"kind": "User", "name": "system:anonymous"}, False),
        ({"kind": "Group", "name": "system:authenticated"}, False),
    ],
)
def test_whom_a_role_may_be_bound_to(subject: dict[str, str], fine: bool) -> None:
    """Only accounts of the namespace and named users, and only roles that the profile brings itself."""
    role = thing("Role", RBAC, rules=[{"verbs": ["get"], "resources": ["pods"]}])
    binding = thing("RoleBinding", RBAC, roleRef={"kind": "Role", "name": "x"}, subjects=[subject])
    if fine:
        check_objects(ALL_KINDS, "p", [role, binding], "users")
    else:
        with pytest.raises(PolicyError):
            check_objects(ALL_KINDS, "p", [role, binding], "users")


def test_harmless_things_pass() -> None:
    """The ordinary objects of ordinary profiles are allowed by default."""
    objects = [
        thing("ConfigMap", lifetime=Lifetime.shared, data={"a": "b"}),
        thing("Secret", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "e30="}),
        thing("PersistentVolumeClaim", lifetime=Lifetime.persistent, spec={"resources": {}}),
        thing("Service", spec={"type": "ClusterIP", "ports": [{"port": 80}]}, metadata={"labels": {"a": "b"}}),
    ]
    check_objects(Policy(), "x", objects, "users")
    workload = thing("Deployment", "apps/v1", spec=template(serviceAccountName="x"))
    check_objects(ALL_KINDS, "x", [workload, thing("ServiceAccount")], "users")


def test_claims_of_volumes_can_be_allowed() -> None:
    """A hub with volumes made by hand can allow claims that name them."""
    claim = thing("PersistentVolumeClaim", spec={"volumeName": "nfs-home"})
    check_objects(Policy(static_volumes=True), "x", [claim], "users")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["spec", "metadata", "labels", "volumes", "containers", "securityContext", "capabilities", "add", "template",
         "env", "valueFrom", "rules", "verbs", "subjects", "ports", "name"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(body=st.dictionaries(st.sampled_from(["metadata", "spec", "rules", "subjects", "roleRef", "type"]), JSON),
       kind=st.sampled_from(sorted(DEFAULT_KINDS | OPT_IN_KINDS)))  # fmt: skip
def test_nonsense_is_refused_not_crashed_on(body: dict[str, Any], kind: str) -> None:
    """Whatever a manifest holds, the check ends with yes or with a PolicyError."""
    versions = {"Role": RBAC, "RoleBinding": RBAC, "Deployment": "apps/v1", "StatefulSet": "apps/v1"}
    versions |= {"Job": "batch/v1", "NetworkPolicy": "networking.k8s.io/v1"}
    for check in (
        lambda: check_objects(ALL_KINDS, "x", [thing(kind, versions.get(kind, "v1"), **body)], "users"),
        lambda: check_pod(Policy(pod_security="restricted"), body, "x"),
    ):
        try:
            check()
        except PolicyError:
            continue
