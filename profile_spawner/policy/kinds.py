"""The kinds of objects that profiles can create, and their paths in the Kubernetes API.

The table is fixed. API discovery is not used, so a spawn needs no call for it, and no other kind can be created.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from profile_spawner.errors import ClusterError
from profile_spawner.profiles.resources import KubeObject

__all__ = ["BY_KIND", "MOST_REPLICAS", "Kind", "claims_of_set", "kind_of", "plain", "resource_path"]

MOST_REPLICAS = 100
"""How many replicas of a StatefulSet are checked. Documents may not have more."""


class Kind(NamedTuple):
    """A namespaced kind.

    Attributes:
        api_version: For example `apps/v1`.
        kind: For example `Deployment`.
        plural: The name in API paths and Roles.
    """

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]


_KINDS = (
    Kind("v1", "ConfigMap", "configmaps"),
    Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Kind("v1", "Pod", "pods"),
    Kind("v1", "Secret", "secrets"),
    Kind("v1", "Service", "services"),
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("apps/v1", "Deployment", "deployments"),
    Kind("apps/v1", "StatefulSet", "statefulsets"),
    Kind("batch/v1", "Job", "jobs"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
)
BY_KIND = {kind.kind: kind for kind in _KINDS}
"""Every kind, by its name. The names in the table are unique across API groups."""


def kind_of(api_version: str, kind: str) -> Kind:
    """Return the kind from the table.

    Raises:
        ClusterError: If the kind is not in the table.
    """
    found = BY_KIND.get(kind)
    if found is None or found.api_version != api_version:
        raise ClusterError(
            "this kind of object cannot be made",
            reason="invalid",
            blame="profile",
            user_message="The profile asks for something this hub cannot make. Please tell your administrator.",
            value=f"{api_version}/{kind}",
            expected=", ".join(f"{k.api_version}/{k.kind}" for k in _KINDS),
        )
    return found


def resource_path(kind: Kind, namespace: str, name: str = "") -> str:
    """Return the API path of a collection or of one object in it. The names are escaped."""
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
    path = f"{root}/namespaces/{_segment(namespace)}/{kind.plural}"
    return f"{path}/{_segment(name)}" if name else path


def _segment(text: str) -> str:
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is no name of a Kubernetes object")
    return quote(text, safe="")


def claims_of_set(item: KubeObject) -> list[str]:
    """Return the names of the claims that a StatefulSet uses; empty for other kinds.

    Kubernetes uses an existing claim of such a name, no matter who created it.
    """
    spec = item.body.get("spec")
    if item.kind != "StatefulSet" or not isinstance(spec, Mapping):
        return []
    start, replicas = (spec.get("ordinals") or {}).get("start"), spec.get("replicas")
    first = start if isinstance(start, int) else 0
    number = min(replicas, MOST_REPLICAS) if isinstance(replicas, int) else 1
    templates = spec.get("volumeClaimTemplates") or ()
    return [f"{t['metadata']['name']}-{item.name}-{n}" for t in templates for n in range(first, first + number)]


def plain(value: Any) -> Any:
    """Return a deep copy in which frozen mappings and sequences are dictionaries and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
