"""The table of resources that the local cluster serves. A new kind needs only a new line here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "RBAC", "ResourceType", "by_kind", "find", "plural"]

RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, eq=False)
class ResourceType:
    """One resource of the API. There is one instance for each, compared by identity.

    Attributes:
        group: The API group; empty for the core group.
        plural: The name in paths, `pods`.
        kind: The name in objects, `Pod`.
        namespaced: Whether its objects live in a namespace.
        short_names: What kubectl accepts for it.
        status: Whether there is a `status` subresource; then a plain write leaves the status alone.
        subresources: Subresources other than `status`.
        fields: Fields that a field selector may name, besides `metadata.name` and `metadata.namespace`.
    """

    group: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    status: bool = False
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """Group and version, as objects name them. There is one version of each: v1."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The plural with the group, as messages name it: `roles.rbac.authorization.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "status.phase", "status.podIP")
_ABOUT = [f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "fieldPath")]

KINDS: tuple[ResourceType, ...] = (
    ResourceType("", "namespaces", "Namespace", False, ("ns",), True, fields=("status.phase",)),
    ResourceType("", "nodes", "Node", False, ("no",), True, fields=("spec.unschedulable",)),
    ResourceType("", "pods", "Pod", True, ("po",), True, ("binding", "log"), _POD_FIELDS),
    ResourceType("", "events", "Event", True, ("ev",), fields=(*_ABOUT, "reason", "type")),
    ResourceType("", "persistentvolumeclaims", "PersistentVolumeClaim", True, ("pvc",), True),
    ResourceType("", "persistentvolumes", "PersistentVolume", False, ("pv",), True),
    ResourceType("", "secrets", "Secret", fields=("type",)),
    ResourceType("", "services", "Service", True, ("svc",), True),
    ResourceType("", "configmaps", "ConfigMap", True, ("cm",)),
    ResourceType("", "serviceaccounts", "ServiceAccount", True, ("sa",)),
    ResourceType("", "resourcequotas", "ResourceQuota", True, ("quota",), True),
    ResourceType("", "limitranges", "LimitRange", True, ("limits",)),
    ResourceType("apps", "deployments", "Deployment", True, ("deploy",), True),
    ResourceType("apps", "statefulsets", "StatefulSet", True, ("sts",), True),
    ResourceType("batch", "jobs", "Job", True, (), True),
    ResourceType("networking.k8s.io", "networkpolicies", "NetworkPolicy", True, ("netpol",)),
    ResourceType("networking.k8s.io", "ingresses", "Ingress", True, ("ing",), True),
    ResourceType(RBAC, "roles", "Role"),
    ResourceType(RBAC, "rolebindings", "RoleBinding"),
    ResourceType(RBAC, "clusterroles", "ClusterRole", False),
    ResourceType(RBAC, "clusterrolebindings", "ClusterRoleBinding", False),
    ResourceType("storage.k8s.io", "storageclasses", "StorageClass", False, ("sc",)),
)
"""Every resource, in the order in which discovery lists them."""

_BY_PLURAL = {(kind.group, kind.plural): kind for kind in KINDS}
_BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}


def find(group: str, name: str) -> ResourceType | None:
    """Return the resource that a path names."""
    return _BY_PLURAL.get((group, name))


def by_kind(api_version: str, kind: str) -> ResourceType | None:
    """Return the resource that an object or a reference names."""
    return _BY_KIND.get((api_version, kind))


def plural(name: str) -> ResourceType:
    """Return the resource with the plural `name`; `KeyError` if there is none."""
    return {kind.plural: kind for kind in KINDS}[name]


PODS, EVENTS, NODES, NAMESPACES = plural("pods"), plural("events"), plural("nodes"), plural("namespaces")
