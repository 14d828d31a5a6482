"""The table of resources that the local cluster serves. A new kind is a line here, not code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["ALL_VERBS", "KINDS", "PODS", "ResourceType", "by_kind", "find"]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, eq=False)
class ResourceType:
    """One resource of the API. There is one instance per resource, so it is compared and hashed by identity.

    Attributes:
        group: The API group; empty for the core group.
        version: The API version.
        plural: The name in paths, `pods`.
        kind: The name in objects, `Pod`.
        namespaced: Whether its objects live in a namespace.
        short_names: What kubectl accepts for it.
        status: Whether there is a `status` subresource; then a plain write leaves the status alone.
        generation: Whether `metadata.generation` counts the changes of the spec.
        subresources: Subresources other than `status`.
        fields: Fields that a field selector may name, besides `metadata.name` and `metadata.namespace`.
        categories: kubectl's groups of resources, such as `all`.
        dns_name: Whether names are at most `label` (63 characters, no dots), `label1035` (also starting with a
            letter), `subdomain` (253 characters) or `path` (anything that fits into a path).
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    status: bool = False
    generation: bool = False
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    dns_name: str = "subdomain"
    api_version: str = field(init=False)
    item_prefix: bytes = field(init=False)

    def __post_init__(self) -> None:
        api_version = f"{self.group}/{self.version}" if self.group else self.version
        object.__setattr__(self, "api_version", api_version)
        # How every stored object of this kind begins; see store.Stored.
        prefix = f'{{"kind":"{self.kind}","apiVersion":"{api_version}",'
        object.__setattr__(self, "item_prefix", prefix.encode())

    @property
    def qualified(self) -> str:
        """The plural with the group, as messages name it: `roles.rbac.authorization.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def __repr__(self) -> str:
        return f"<{self.qualified}>"


def _table() -> Iterator[ResourceType]:
    core: Callable[..., ResourceType] = lambda *args, **more: ResourceType("", "v1", *args, **more)  # noqa: E731
    yield core("namespaces", "Namespace", False, ("ns",), status=True, fields=("status.phase",), dns_name="label")
    yield core("nodes", "Node", False, ("no",), status=True, fields=("spec.unschedulable",))
    yield core(
        "pods",
        "Pod",
        True,
        ("po",),
        status=True,
        subresources=("binding", "eviction", "log"),
        fields=(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
        categories=("all",),
    )
    yield core(
        "events",
        "Event",
        True,
        ("ev",),
        fields=(
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
    )
    yield core("persistentvolumeclaims", "PersistentVolumeClaim", True, ("pvc",), status=True)
    yield core("persistentvolumes", "PersistentVolume", False, ("pv",), status=True)
    yield core("secrets", "Secret", fields=("type",))
    yield core("services", "Service", True, ("svc",), status=True, categories=("all",), dns_name="label1035")
    yield core("configmaps", "ConfigMap", True, ("cm",))
    yield core("serviceaccounts", "ServiceAccount", True, ("sa",))
    yield core("resourcequotas", "ResourceQuota", True, ("quota",), status=True)
    workload = {"status": True, "generation": True, "categories": ("all",)}
    yield ResourceType("apps", "v1", "deployments", "Deployment", True, ("deploy",), **workload)  # type: ignore[arg-type]
    yield ResourceType("apps", "v1", "statefulsets", "StatefulSet", True, ("sts",), **workload)  # type: ignore[arg-type]
    job_fields = ("status.successful",)
    yield ResourceType("batch", "v1", "jobs", "Job", True, status=True, categories=("all",), fields=job_fields)
    yield ResourceType(
        "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ("netpol",), generation=True
    )
    yield ResourceType(RBAC, "v1", "roles", "Role", dns_name="path")
    yield ResourceType(RBAC, "v1", "rolebindings", "RoleBinding", dns_name="path")
    yield ResourceType(RBAC, "v1", "clusterroles", "ClusterRole", False, dns_name="path")
    yield ResourceType(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False, dns_name="path")
    yield ResourceType("storage.k8s.io", "v1", "storageclasses", "StorageClass", False, ("sc",))
    yield ResourceType("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False, ("pc",))
    yield ResourceType("coordination.k8s.io", "v1", "leases", "Lease")


KINDS: tuple[ResourceType, ...] = tuple(_table())
"""Every resource, in the order in which discovery lists them."""

_BY_PLURAL = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
_BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}


def find(group: str, version: str, plural: str) -> ResourceType | None:
    """Return the resource that a path names."""
    return _BY_PLURAL.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> ResourceType | None:
    """Return the resource that an object or a reference names."""
    return _BY_KIND.get((api_version, kind))


def plural(name: str) -> ResourceType:
    """Return the resource with the plural `name`.

    Raises:
        KeyError: There is none.
    """
    for kind in KINDS:
        if kind.plural == name:
            return kind
    raise KeyError(name)


PODS = plural("pods")
EVENTS = plural("events")
NAMESPACES = plural("namespaces")
NODES = plural("nodes")
QUOTAS = plural("resourcequotas")
SECRETS = plural("secrets")
CONFIG_MAPS = plural("configmaps")
CLAIMS = plural("persistentvolumeclaims")
SERVICES = plural("services")
STORAGE_CLASSES = plural("storageclasses")
PRIORITY_CLASSES = plural("priorityclasses")
ROLES = plural("roles")
ROLE_BINDINGS = plural("rolebindings")
CLUSTER_ROLES = plural("clusterroles")
CLUSTER_ROLE_BINDINGS = plural("clusterrolebindings")
