"""The words of validation: the causes of a refusal, and the rules for names that many fields share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from .answers import Cause, Object
from .quantities import parse_quantity

__all__ = [
    "duplicate",
    "label_causes",
    "missing_reference",
    "name_problem",
    "not_allowed",
    "one_of",
    "port_problem",
    "qualified_problem",
    "quantity_causes",
    "required",
    "too_long",
    "unsupported",
    "wrong",
]

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MAX_SUBDOMAIN = 253
_MAX_LABEL = 63
_MAX_PORT = 65535

_SUBDOMAIN_HINT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_HINT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035_HINT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_QUALIFIED_HINT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)


def required(field: str, why: str = "") -> Cause:
    """Return the cause for a value that is missing."""
    return Cause(field, "Required value" + (f": {why}" if why else ""), "FieldValueRequired")


def wrong(field: str, value: object, why: str) -> Cause:
    """Return the cause for a value that breaks a rule."""
    shown = f'"{value[:256]}"' if isinstance(value, str) else str(value)[:256]
    return Cause(field, f"Invalid value: {shown}: {why}")


def not_allowed(field: str, why: str) -> Cause:
    """Return the cause for something that must not be there, or must not change."""
    return Cause(field, f"Forbidden: {why}", "FieldValueForbidden")


def duplicate(field: str, value: object) -> Cause:
    """Return the cause for a second thing with the same name."""
    return Cause(field, f'Duplicate value: "{value}"', "FieldValueDuplicate")


def missing_reference(field: str, value: str) -> Cause:
    """Return the cause for a name that nothing has."""
    return Cause(field, f'Not found: "{value[:256]}"', "FieldValueNotFound")


def unsupported(field: str, value: object, choices: Iterable[str]) -> Cause:
    """Return the cause for a value outside its choices."""
    listed = ", ".join(f'"{choice}"' for choice in sorted(choices))
    shown = str(value)[:256]
    return Cause(field, f'Unsupported value: "{shown}": supported values: {listed}', "FieldValueNotSupported")


def too_long(field: str, limit: int) -> Cause:
    """Return the cause for a value over its size limit."""
    return Cause(field, f"Too long: must have at most {limit} bytes", "FieldValueTooLong")


def one_of(field: str, value: object, choices: Collection[str]) -> Iterator[Cause]:
    """Yield a cause unless `value` is one of its choices."""
    if value not in choices:
        yield unsupported(field, value, choices)


# ------------------------------------------------------------------------------------------------------------ names


def _subdomain(name: str) -> str:
    if len(name) > _MAX_SUBDOMAIN:
        return f"must be no more than {_MAX_SUBDOMAIN} characters"
    return "" if _SUBDOMAIN.fullmatch(name) else _SUBDOMAIN_HINT


def _label(name: str) -> str:
    if len(name) > _MAX_LABEL:
        return f"must be no more than {_MAX_LABEL} characters"
    return "" if _LABEL.fullmatch(name) else _LABEL_HINT


def _label1035(name: str) -> str:
    if len(name) > _MAX_LABEL:
        return f"must be no more than {_MAX_LABEL} characters"
    return "" if _LABEL_1035.fullmatch(name) else _LABEL_1035_HINT


def _path(name: str) -> str:
    return "may not be '.' or '..', nor contain '/' or '%'" if name in (".", "..") or set("/%") & set(name) else ""


_STYLES: dict[str, Callable[[str], str]] = {
    "label": _label,
    "label1035": _label1035,
    "path": _path,
    "subdomain": _subdomain,
}


def name_problem(style: str, name: str) -> str:
    """Return what is wrong with a name, or an empty text.

    Args:
        style: `label`, `label1035`, `subdomain` or `path`; see `ResourceType.dns_name`.
        name: The name.
    """
    return _STYLES[style](name)


def qualified_problem(key: str) -> str:
    """Return what is wrong with the key of a label, an annotation or a resource, or an empty text."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or _subdomain(prefix)):
        return f"prefix part {_SUBDOMAIN_HINT}"
    if len(name) > _MAX_LABEL:
        return f"name part must be no more than {_MAX_LABEL} characters"
    return "" if _QUALIFIED.fullmatch(name) else f"name part {_QUALIFIED_HINT}"


def label_value_problem(value: str) -> str:
    """Return what is wrong with the value of a label, or an empty text."""
    if len(value) > _MAX_LABEL:
        return f"must be no more than {_MAX_LABEL} characters"
    return (
        ""
        if not value or _QUALIFIED.fullmatch(value)
        else f"a valid label must be an empty string or {_QUALIFIED_HINT}"
    )


def label_causes(labels: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with labels, or with a selector made of them."""
    for key, value in labels.items():
        if problem := qualified_problem(key):
            yield wrong(path, key, problem)
        if problem := label_value_problem(value):
            yield wrong(path, value, problem)


def selector_causes(selector: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with a `LabelSelector`."""
    yield from label_causes(selector.get("matchLabels", {}), f"{path}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions", ())):
        where, operator = f"{path}.matchExpressions[{index}]", item.get("operator", "")
        if operator in ("In", "NotIn") and not item.get("values"):
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and item.get("values"):
            yield not_allowed(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
        if problem := qualified_problem(item.get("key", "")):
            yield wrong(f"{where}.key", item.get("key", ""), problem)


def port_problem(port: object) -> str:
    """Return what is wrong with a port number, or an empty text."""
    good = isinstance(port, int) and 0 < port <= _MAX_PORT
    return "" if good else f"must be between 1 and {_MAX_PORT}, inclusive"


# ------------------------------------------------------------------------------------------------------- quantities

_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def is_extended(resource: str) -> bool:
    """Tell whether a resource is one that a vendor adds, such as `nvidia.com/gpu`."""
    domain, slash, _ = resource.rpartition("/")
    return bool(slash) and not domain.endswith("kubernetes.io")


def quantity_causes(resource: str, amount: str, path: str) -> Iterator[Cause]:
    """Yield what is wrong with an amount of a resource."""
    value = parse_quantity(amount)
    if value < 0:
        yield wrong(path, amount, "must be greater than or equal to 0")
    elif is_extended(resource) and value.denominator != 1:
        yield wrong(path, amount, "must be an integer")


def _resource_name_causes(resource: str, path: str) -> Iterator[Cause]:
    if problem := qualified_problem(resource):
        yield wrong(path, resource, problem)
    if "/" not in resource and resource not in _COMPUTE and not resource.startswith("hugepages-"):
        yield wrong(path, resource, "must be a standard resource type or fully qualified")
        yield wrong(path, resource, "must be a standard resource for containers")
    elif resource.startswith("requests.") and "/" in resource:
        yield wrong(path, resource, "doesn't follow extended resource name standard")


def requirement_causes(resources: Object, path: str) -> Iterator[Cause]:
    """Yield what is wrong with the `resources` of a container."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for side, amounts in (("limits", limits), ("requests", requests)):
        for resource, amount in sorted(amounts.items()):
            where = f"{path}.{side}[{resource}]"
            yield from _resource_name_causes(resource, where)
            yield from quantity_causes(resource, amount, where)
    for resource, amount in sorted(requests.items()):
        if resource in limits:
            asked, most = parse_quantity(amount), parse_quantity(limits[resource])
            if asked != most and is_extended(resource):
                yield wrong(f"{path}.requests", amount, f"must be equal to {resource} limit")
            elif asked > most:
                yield wrong(f"{path}.requests", amount, f"must be less than or equal to {resource} limit")
        elif is_extended(resource):
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
