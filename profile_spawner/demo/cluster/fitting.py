"""Checks whether a pod fits on a node, and gives the reasons in the words of a real scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from .apiclient import Json
from .quantities import parse_quantity

__all__ = ["Amounts", "add", "claims_of", "is_terminal", "message_for", "no_preemption", "pod_requests", "why_not"]

Amounts: TypeAlias = dict[str, Fraction]
"""Resource name to amount."""


def is_terminal(pod: Json) -> bool:
    """Whether all containers of `pod` have ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def claims_of(pod: Json) -> list[str]:
    """Return the names of the PersistentVolumeClaims that `pod` mounts."""
    volumes = pod["spec"].get("volumes") or []
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")]


def pod_requests(pod: Json) -> Amounts:
    """Return what `pod` takes from its node.

    That is the sum over its containers, or the largest of its init containers where that is more. A limit counts as
    a request where there is none, as the API server writes it.
    """
    spec = pod["spec"]
    total: Amounts = {"pods": Fraction(1)}
    for container in spec["containers"]:
        add(total, _requests(container))
    sidecars: Amounts = {}
    for container in spec.get("initContainers") or []:
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            add(sidecars, own)
            add(total, own)
            continue
        for name, amount in own.items():
            total[name] = max(total.get(name, Fraction(0)), amount + sidecars.get(name, Fraction(0)))
    add(total, {name: parse_quantity(amount) for name, amount in (spec.get("overhead") or {}).items()})
    return total


def _requests(container: Json) -> Amounts:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(amount) for name, amount in amounts.items()}


def add(total: Amounts, amounts: Mapping[str, Fraction]) -> None:
    """Add `amounts` to `total` in place."""
    for name, amount in amounts.items():
        total[name] = total.get(name, Fraction(0)) + amount


def why_not(pod: Json, requests: Amounts, node: Json, used: Amounts) -> tuple[list[str], bool]:
    """Return the reasons why `pod` does not fit on `node`, and whether evicting other pods could help.

    Args:
        pod: The pod.
        requests: What it takes, from `pod_requests()`.
        node: The Node object.
        used: What the node's other pods take.

    Returns:
        The reasons in the scheduler's words, empty when it fits.
    """
    spec = node.get("spec", {})
    if spec.get("unschedulable"):
        return ["node(s) were unschedulable"], False
    for taint in spec.get("taints") or []:
        # A new node gets this one until some controller takes it away; where there is none, it would stay.
        if taint["key"] == "node.kubernetes.io/not-ready":
            continue
        if taint.get("effect") != "PreferNoSchedule" and not _tolerated(pod, taint):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"], False
    if not _selected(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"], False
    have = node.get("status", {}).get("allocatable", {})
    short = [
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, amount in requests.items()
        if amount and used.get(name, Fraction(0)) + amount > parse_quantity(have.get(name, 0))
    ]
    return sorted(short), True


def _tolerated(pod: Json, taint: Mapping[str, str]) -> bool:
    for toleration in pod["spec"].get("tolerations") or []:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        exists = toleration.get("operator") == "Exists"
        if toleration.get("key") in (None, ""):
            if exists:
                return True
        elif toleration["key"] == taint["key"] and (exists or toleration.get("value", "") == taint.get("value", "")):
            return True
    return False


def _selected(pod: Json, node: Json) -> bool:
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    names = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(_expression(labels, e) for e in term.get("matchExpressions") or [])
        and all(_expression(names, e) for e in term.get("matchFields") or [])
        for term in required["nodeSelectorTerms"]
        if term.get("matchExpressions") or term.get("matchFields")
    )


def _expression(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    operator = expression["operator"]
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    try:
        difference = int(value or "") - int(values[0])
    except (ValueError, IndexError):
        return False
    return difference > 0 if operator == "Gt" else difference < 0


def message_for(reasons: Sequence[tuple[list[str], bool]]) -> str:
    """Return the text of a `FailedScheduling` event from the reasons of each node."""
    count = len(reasons)
    if not count:
        return "no nodes available to schedule pods"
    counted = Counter(reason for node, _ in reasons for reason in node)
    told = ", ".join(sorted(f"{times} {reason}" for reason, times in counted.items()))
    return f"0/{count} nodes are available: {told}. {no_preemption([helps for _, helps in reasons])}"


def no_preemption(helps: Sequence[bool]) -> str:
    """Return why no other pod is evicted; for each node, whether that could help at all."""
    counted = Counter(
        "No preemption victims found for incoming pod" if help_ else "Preemption is not helpful for scheduling"
        for help_ in helps
    )
    told = ", ".join(sorted(f"{times} {text}" for text, times in counted.items()))
    return f"preemption: 0/{len(helps)} nodes are available: {told}."
