"""Label and field selectors, compiled into a predicate over objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from .failures import bad_request
from .kinds import ResourceType

__all__ = ["Object", "Predicate", "compile_selectors", "dig"]

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object, or a part of one, as parsed JSON."""

Predicate: TypeAlias = Callable[[Object], bool]

_SET_BASED = re.compile(r"([^\s=!,()]+)\s+(in|notin)\s*\(([^()]*)\)")
_EQUALITY = re.compile(r"([^\s=!,()]+)\s*(==|=|!=)\s*([^\s=!,()]*)")
_EXISTENCE = re.compile(r"(!?)\s*([^\s=!,()]+)")
_TERMS = re.compile(r"(?:[^,(]|\([^()]*\)|\()+")


def dig(document: object, path: str) -> Any:
    """Return what lies at the dotted `path` below `document`, or None."""
    for step in path.split("."):
        document = document.get(step) if isinstance(document, dict) else None
    return document


@lru_cache(maxsize=256)
def _label_tests(selector: str) -> tuple[Callable[[dict[str, str]], bool], ...]:
    return tuple(_label_test(term.strip()) for term in _TERMS.findall(selector) if term.strip())


def _label_test(term: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET_BASED.fullmatch(term):
        key, values, wanted = match[1], {value.strip() for value in match[3].split(",")}, match[2] == "in"
        return lambda labels: (labels.get(key) in values) is wanted
    if match := _EQUALITY.fullmatch(term):
        key, value, equal = match[1], match[3], match[2] != "!="
        return lambda labels: (labels.get(key) == value) is equal
    if match := _EXISTENCE.fullmatch(term):
        key, present = match[2], not match[1]
        return lambda labels: (key in labels) is present
    raise bad_request(f"unable to parse requirement: {term[:64]!r}")


@lru_cache(maxsize=256)
def _field_tests(kind: ResourceType, selector: str) -> tuple[tuple[str, str, bool], ...]:
    tests = []
    for term in filter(None, selector.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term.strip())
        if match is None or match[1] not in ("metadata.name", "metadata.namespace", *kind.fields):
            raise bad_request(f"field label not supported: {term[:64]!r}")
        tests.append((match[1], match[3], match[2] != "!="))
    return tuple(tests)


def compile_selectors(kind: ResourceType, labels: str = "", fields: str = "") -> Predicate:
    """Return the predicate of a request's `labelSelector` and `fieldSelector`.

    Raises:
        StatusError: 400, where one of them cannot be understood.
    """
    label_tests, field_tests = _label_tests(labels), _field_tests(kind, fields)

    def matches(document: Object) -> bool:
        found = document["metadata"].get("labels") or {}
        return all(test(found) for test in label_tests) and all(
            (str(dig(document, path) or "") == value) is wanted for path, value, wanted in field_tests
        )

    return matches
