"""Label and field selectors, compiled once into a predicate over objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from .answers import Object, bad_request
from .kinds import ResourceType

__all__ = ["Predicate", "compile_selectors", "dig", "match_label_selector"]

Predicate = Callable[[Object], bool]
_LabelTest = Callable[[dict[str, str]], bool]

_SET_BASED = re.compile(r"(\S+)\s+(in|notin)\s*\(([^()]*)\)")
_NAME = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"{_NAME}?")
_INEQUALITY = re.compile(r"([^=!<>\s]+)\s*(==|=|!=|>|<)\s*(.*)", re.DOTALL)
_SPLIT = re.compile(r"((?:[^,(]|\([^()]*\))+)")


def dig(document: object, path: str) -> Any:
    """Return what lies at the dotted `path` below `document`, or None."""
    for step in path.split("."):
        document = document.get(step) if isinstance(document, dict) else None
    return document


def _checked_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise bad_request(f"unable to parse requirement: invalid label key {key[:64]!r}")
    return key


def _checked_value(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise bad_request(f"unable to parse requirement: invalid label value {value[:64]!r}")
    return value


def _label_test(term: str) -> _LabelTest:
    if match := _SET_BASED.fullmatch(term):
        key, values = _checked_key(match[1]), frozenset(_checked_value(v.strip()) for v in match[3].split(","))
        return _one_of(key, values, wanted=match[2] == "in")
    if match := _INEQUALITY.fullmatch(term):
        key, operator, value = _checked_key(match[1]), match[2], match[3].strip()
        if operator in "<>":
            return _compared(key, operator, value)
        return _one_of(key, frozenset([_checked_value(value)]), wanted=operator != "!=")
    if term.startswith("!"):
        key = _checked_key(term[1:].strip())
        return lambda labels: key not in labels
    key = _checked_key(term)
    return lambda labels: key in labels


def _one_of(key: str, values: frozenset[str], *, wanted: bool) -> _LabelTest:
    if wanted:
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values


def _compared(key: str, operator: str, text: str) -> _LabelTest:
    try:
        bound = int(text)
    except ValueError:
        raise bad_request(f"unable to parse requirement: {text[:64]!r} is not an integer") from None

    def test(labels: dict[str, str]) -> bool:
        try:
            number = int(labels[key])
        except (KeyError, ValueError):
            return False
        return number > bound if operator == ">" else number < bound

    return test


@lru_cache(maxsize=256)
def _label_tests(selector: str) -> tuple[_LabelTest, ...]:
    terms = _SPLIT.findall(selector)
    if selector.count("(") != selector.count(")"):
        raise bad_request(f"unable to parse requirement: unbalanced parentheses in {selector[:64]!r}")
    return tuple(_label_test(term.strip()) for term in terms if term.strip())


_FieldTest = tuple[str, str, bool]


@lru_cache(maxsize=256)
def _field_tests(kind: ResourceType, selector: str) -> tuple[_FieldTest, ...]:
    tests: list[_FieldTest] = []
    for term in filter(None, selector.split(",")):
        match = _INEQUALITY.fullmatch(term.strip())
        if match is None or match[2] in "<>":
            raise bad_request(f"invalid selector: {term[:64]!r}; can't understand it")
        key = match[1]
        if key != "metadata.name" and not (key == "metadata.namespace" and kind.namespaced) and key not in kind.fields:
            found = f'Unable to find "{kind.api_version}, Resource={kind.plural}" that match'
            raise bad_request(f'{found} field selector "{selector[:128]}": field label not supported: "{key[:64]}"')
        tests.append((key, match[3].strip(), match[2] != "!="))
    return tuple(tests)


def _field_value(kind: ResourceType, document: Object, path: str) -> str:
    if path == "source" and kind.plural == "events":
        path = "source.component"
    value = dig(document, path)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def compile_selectors(kind: ResourceType, labels: str, fields: str) -> Predicate | None:
    """Return the predicate of a request's `labelSelector` and `fieldSelector`, or None when everything matches.

    Raises:
        StatusError: 400, where one of them cannot be understood.
    """
    label_tests = _label_tests(labels) if labels else ()
    field_tests = _field_tests(kind, fields) if fields else ()
    if not label_tests and not field_tests:
        return None

    def matches(document: Object) -> bool:
        found = document["metadata"].get("labels") or {}
        return all(test(found) for test in label_tests) and all(
            (_field_value(kind, document, path) == value) is wanted for path, value, wanted in field_tests
        )

    return matches


def match_label_selector(selector: Object, labels: dict[str, str]) -> bool:
    """Tell whether the `matchLabels`/`matchExpressions` of a `LabelSelector` object select `labels`."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    expressions: Iterable[Object] = selector.get("matchExpressions") or ()
    return all(_expression_matches(item, labels) for item in expressions)


def _expression_matches(item: Object, labels: dict[str, str]) -> bool:
    key, values = item["key"], item.get("values") or ()
    operator = item["operator"]
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    return (labels.get(key) in values) is (operator == "In")
