"""What a new object needs besides being valid: room in the quota, a priority that exists, an address."""

from __future__ import annotations

import ipaddress

from .answers import Cause, Object, forbidden, invalid
from .authorization import Authorizer
from .defaulting import qos_class
from .kinds import CLAIMS, PODS, PRIORITY_CLASSES, SERVICES, STORAGE_CLASSES
from .quota import Quotas
from .requests import ApiRequest
from .store import Store

__all__ = ["Admission"]

_ADDRESSES = ipaddress.IPv4Network("10.96.0.0/16")
_SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_PREEMPTION = "PreemptLowerPriority"


class Admission:
    """Lets new objects in, and completes them with what only the server knows.

    Args:
        store: The state.
        authorizer: Keeps users from granting what they do not have.
        quotas: Keeps namespaces within their quotas.
    """

    def __init__(self, store: Store, authorizer: Authorizer, quotas: Quotas) -> None:
        self._store = store
        self._authorizer = authorizer
        self._quotas = quotas

    def complete(self, request: ApiRequest, document: Object) -> None:
        """Fill in what depends on other objects, before the object is validated.

        Raises:
            StatusError: 403, where the pod asks for a class that does not exist.
        """
        if request.kind is PODS:
            self._give_priority(document)

    def admit(self, request: ApiRequest, document: Object) -> None:
        """Let a valid new object in.

        Raises:
            StatusError: 403 for a quota or a grant, 422 for an address that cannot be given.
        """
        kind = request.kind
        self._authorizer.check_grant(request, document)
        self._quotas.check(request, document)
        if kind is PODS:
            document["status"]["qosClass"] = qos_class(document["spec"])
        elif kind is SERVICES:
            self._give_address(document)

    def admit_change(self, request: ApiRequest, new: Object, old: Object) -> None:
        """Let a valid new version of an object in.

        Raises:
            StatusError: 403 for a grant, or for a claim that cannot grow.
        """
        self._authorizer.check_grant(request, new)
        if request.kind is CLAIMS and _storage(new) != _storage(old):
            name = new["spec"].get("storageClassName", "")
            storage_class = self._store.get(STORAGE_CLASSES, None, name)
            if storage_class is None or not storage_class.document.get("allowVolumeExpansion"):
                why = (
                    "only dynamically provisioned pvc can be resized and "
                    "the storageclass that provisions the pvc must support resize"
                )
                raise forbidden(CLAIMS.plural, "", request.name, why)

    def _give_priority(self, pod: Object) -> None:
        """Turn the name of a priority class into its number."""
        spec, name = pod["spec"], pod["metadata"].get("name", "")
        if runtime := spec.get("runtimeClassName"):
            raise forbidden("pods", "", name, f'pod rejected: RuntimeClass "{runtime[:256]}" not found')
        number, preemption = 0, _PREEMPTION
        if wanted := spec.get("priorityClassName"):
            priority_class = self._store.get(PRIORITY_CLASSES, None, wanted)
            if priority_class is not None:
                number = priority_class.document["value"]
                preemption = priority_class.document.get("preemptionPolicy", _PREEMPTION)
            elif wanted in _SYSTEM_PRIORITIES:
                number = _SYSTEM_PRIORITIES[wanted]
            else:
                raise forbidden("pods", "", name, f"no PriorityClass with name {wanted[:256]} was found")
        for key, value in (("priority", number), ("preemptionPolicy", preemption)):
            if spec.setdefault(key, value) != value:
                why = (
                    f"the {key} ({spec[key]}) must not be provided in pod spec; {value} follows from the PriorityClass"
                )
                raise forbidden("pods", "", name, why)

    def _give_address(self, service: Object) -> None:
        """Give a Service an address of its own in the cluster; nothing will ever listen on it."""
        spec = service["spec"]
        if spec["type"] == "ExternalName":
            return
        asked = spec.get("clusterIP")
        if asked == "None":
            spec["clusterIPs"] = ["None"]
            return
        taken = {stored.document["spec"].get("clusterIP") for stored in self._store.select(SERVICES)}
        if asked:
            if problem := _address_problem(asked, taken):
                cause = Cause("spec.clusterIP", f'Invalid value: "{asked[:64]}": {problem}')
                raise invalid("Service", "", service["metadata"]["name"], [cause])
        else:
            spec["clusterIP"] = next(str(address) for address in _ADDRESSES.hosts() if str(address) not in taken)
        spec["clusterIPs"] = [spec["clusterIP"]]


def _storage(claim: Object) -> str | None:
    amount: str | None = claim["spec"].get("resources", {}).get("requests", {}).get("storage")
    return amount


def _address_problem(asked: str, taken: set[str | None]) -> str:
    try:
        inside = ipaddress.ip_address(asked) in _ADDRESSES
    except ValueError:
        inside = False
    if not inside:
        return "provided IP is not in the valid range"
    return "provided IP is already allocated" if asked in taken else ""
