"""ResourceQuota: what a namespace may use, counted from what is in it."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TypeAlias

from .answers import Object, forbidden
from .kind_rules import LEGACY_COUNTS
from .kinds import KINDS, PODS, QUOTAS, ResourceType
from .quantities import canonical, parse_quantity
from .requests import ApiRequest
from .store import Store, Stored

__all__ = ["Quotas"]

Amounts: TypeAlias = defaultdict[str, Fraction]
"""How much of what; nothing of what is not named."""

_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def usage_of(kind: ResourceType, document: Object) -> Amounts:
    """Return what one object counts towards a quota, by the quota's keys."""
    counted: Amounts = defaultdict(Fraction)
    counted[f"count/{kind.plural}.{kind.group}" if kind.group else f"count/{kind.plural}"] = Fraction(1)
    if kind is PODS and document.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return counted
    if kind.plural in LEGACY_COUNTS and not kind.group:
        counted[kind.plural] = Fraction(1)
    if kind is PODS:
        counted.update(_pod_usage(document["spec"]))
    elif kind.plural == "persistentvolumeclaims":
        requests = document["spec"].get("resources", {}).get("requests", {})
        if "storage" in requests:
            counted["requests.storage"] = parse_quantity(requests["storage"])
    return counted


def _pod_usage(spec: Object) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    for side in ("requests", "limits"):
        together: Amounts = defaultdict(Fraction)
        for container in spec["containers"]:
            for key, amount in container.get("resources", {}).get(side, {}).items():
                together[key] += parse_quantity(amount)
        for container in spec.get("initContainers", ()):
            for key, amount in container.get("resources", {}).get(side, {}).items():
                together[key] = max(together[key], parse_quantity(amount))
        for key, amount in together.items():
            found[f"{side}.{key}"] = amount
            if side == "requests" and key in _COMPUTE:
                found[key] = amount
    return found


class Quotas:
    """Keeps the quotas of all namespaces.

    Args:
        store: The state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, request: ApiRequest, document: Object) -> None:
        """Let a new object pass if its namespace has room for it.

        Raises:
            StatusError: 403, naming the quota and what is exceeded.
        """
        quotas = self._store.select(QUOTAS, request.namespace) if request.namespace else []
        if not quotas:
            return
        kind, name = request.kind, document["metadata"].get("name", "")
        wanted = usage_of(kind, document)
        for quota in quotas:
            hard = quota.document.get("spec", {}).get("hard", {})
            if kind is PODS:
                missing = [key for key in hard if _must_be_given(key) and key not in wanted]
                if missing:
                    why = f"failed quota: {quota.name}: must specify {','.join(sorted(missing))}"
                    raise forbidden(kind.plural, kind.group, name, why)
            used = self._used(quota)
            over = [key for key in sorted(hard) if wanted[key] and used[key] + wanted[key] > parse_quantity(hard[key])]
            if over:
                requested, already, limited = (
                    ",".join(f"{key}={_show(amounts[key])}" for key in over) for amounts in (wanted, used, hard)
                )
                why = f"exceeded quota: {quota.name}, requested: {requested}, used: {already}, limited: {limited}"
                raise forbidden(kind.plural, kind.group, name, why)

    def status(self, quota: Stored) -> Object:
        """Return the `status` of a quota as it is now."""
        hard = quota.document.get("spec", {}).get("hard", {})
        used = self._used(quota)
        return {"hard": hard, "used": {key: _show(used[key]) for key in hard}}

    def _used(self, quota: Stored) -> Amounts:
        used: Amounts = defaultdict(Fraction)
        for kind in KINDS:
            if kind.namespaced:
                for stored in self._store.select(kind, quota.namespace):
                    for key, amount in usage_of(kind, stored.document).items():
                        used[key] += amount
        return used


def _must_be_given(key: str) -> bool:
    side, dot, resource = key.partition(".")
    return key in _COMPUTE or (bool(dot) and side in ("requests", "limits") and resource in _COMPUTE)


def _show(amount: str | Fraction) -> str:
    if isinstance(amount, str):
        return amount
    value = amount
    if value.denominator == 1 and value % 1024 == 0 and value:
        return canonical(f"{value.numerator // 1024}Ki")
    return canonical(str(value.numerator)) if value.denominator == 1 else canonical(f"{int(value * 1000)}m")
