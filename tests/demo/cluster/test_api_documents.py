"""What the local API server does to documents, by itself: reading, completing, merging, selecting."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.demo.cluster import applying, protobuf
from profile_spawner.demo.cluster.answers import StatusError
from profile_spawner.demo.cluster.defaulting import fill_in
from profile_spawner.demo.cluster.kinds import KINDS, plural
from profile_spawner.demo.cluster.patching import json_patch, merge_patch, strategic_merge_patch
from profile_spawner.demo.cluster.quantities import canonical, parse_quantity
from profile_spawner.demo.cluster.requests import User, parse_path
from profile_spawner.demo.cluster.schema import decode, fields_of, parse_time
from profile_spawner.demo.cluster.selectors import match_label_selector
from tests.demo.cluster.api_corpus import Case, cases
from tests.demo.cluster.api_support import pod

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@contextlib.contextmanager
def _answering(*codes: int) -> Iterator[None]:
    """Allow a refusal, with one of these HTTP codes."""
    try:
        yield
    except StatusError as error:
        if error.code not in codes:
            raise


# ------------------------------------------------------------------------------------------------------ quantities


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0.5", "500m"),
        (2.0, "2"),
        ("1024Mi", "1Gi"),
        ("0.5Gi", "512Mi"),
        ("1.5", "1500m"),
        ("100000000", "100M"),
        ("1e3", "1e3"),
        ("1000Mi", "1000Mi"),
        ("1Ki", "1Ki"),
        ("0.1Mi", "104858"),
        ("0", "0"),
        ("-1.5Gi", "-1536Mi"),
    ],
)
def test_quantities_are_stored_in_one_form(text: str | float, stored: str) -> None:
    """The largest unit that leaves no fraction, as Kubernetes writes it."""
    assert canonical(text) == stored


@given(
    st.decimals(0, 10**6, places=3),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e2", "E-1"]),
)
def test_the_stored_form_is_worth_the_same(number: Any, unit: str) -> None:
    """Nothing is lost by more than a billionth, and the form is final."""
    text = f"{number}{unit}"
    value, stored = parse_quantity(text), canonical(text)
    assert 0 <= parse_quantity(stored) - value < (1 if unit.endswith("i") else 1e-9)
    assert canonical(stored) == stored


@pytest.mark.parametrize("text", ["", "lots", "1GB", "1 Gi", "--1", "1e99", "٣", "0x1", "1" * 200])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """A number with a known unit, in ASCII, of a sensible length."""
    with pytest.raises(ValueError, match=r"quantity|exponent"):
        parse_quantity(text)


# ------------------------------------------------------------------------------------------------------- documents


def _sound() -> list[Case]:
    found = []
    for case in cases():
        if isinstance(case.body, dict):
            try:
                decode(plural(case.resource).kind, case.body)
            except StatusError:
                continue
            found.append(case)
    return found


@pytest.mark.parametrize("case", _sound(), ids=lambda case: case.label)
def test_reading_and_completing_are_final(case: Case) -> None:
    """What was read and completed once is the same after the second time; the request is left alone."""
    kind = plural(case.resource).kind
    sent = copy.deepcopy(case.body)
    first = decode(kind, case.body)
    assert case.body == sent
    assert decode(kind, first) == first
    fill_in(kind, first)
    second = copy.deepcopy(first)
    fill_in(kind, second)
    assert second == first


def test_every_kind_has_a_schema() -> None:
    """All that is in the table of kinds can be read."""
    for kind in KINDS:
        assert "metadata" in fields_of(kind.kind)
        assert decode(kind.kind, {"metadata": {"name": "x"}})["metadata"]["name"] == "x"


@given(JSON)
def test_anything_is_read_or_refused(body: Any) -> None:
    """No document brings the server down."""
    for wrapped in (body, {"metadata": body}, {"metadata": {"name": "x"}, "spec": body}, pod(env=body, resources=body)):
        with _answering(400):
            json.dumps(decode("Pod", wrapped))


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000000000Z"]
)
def test_times_are_read_in_any_zone(text: str) -> None:
    """And with any number of digits, also by Python 3.10."""
    assert parse_time(text).isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("text", ["2026-01-01", "yesterday", "2026-01-01T00:00:00", ""])
def test_times_without_a_zone_are_none(text: str) -> None:
    """A date, or a time of nowhere, is refused."""
    with pytest.raises(ValueError, match=r".*"):
        parse_time(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """What claims to be Protocol Buffers cannot break the server."""
    for body in (data, b"k8s\x00" + data, b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + data):
        with _answering(400):
            protobuf.read(body)


# --------------------------------------------------------------------------------------------------------- patches


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_holds_afterwards(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Applied twice it is the same as once, and the target is left alone."""
    before = copy.deepcopy(target)
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert target == before


@given(OBJECTS, JSON)
def test_a_json_patch_applies_or_is_refused(target: dict[str, Any], operations: Any) -> None:
    """No patch fails otherwise than with an answer, and the target is left alone."""
    before = copy.deepcopy(target)
    for patch in (operations, [{"op": "add", "path": "/a/0", "value": operations}, {"op": "remove", "path": "/b"}]):
        with _answering(400, 422):
            json_patch(target, patch)
    assert target == before


def _containers(*names: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": name, "image": "i", "args": [name]} for name in names]}}


def test_a_strategic_patch_keeps_what_it_does_not_name() -> None:
    """Containers merge by name; lists without a key are replaced; null removes."""
    patch = {"spec": {"containers": [{"name": "b", "args": ["x", "y"], "image": None}]}}
    merged = strategic_merge_patch("Pod", _containers("a", "b"), patch)
    assert merged["spec"]["containers"] == [
        {"name": "a", "image": "i", "args": ["a"]},
        {"name": "b", "args": ["x", "y"]},
    ]


@pytest.mark.parametrize(
    ("patch", "names"),
    [
        ([{"name": "c"}], ["c", "a", "b"]),
        ([{"name": "b"}], ["a", "b"]),
        ([{"name": "a", "$patch": "delete"}], ["b"]),
        ([{"$patch": "replace"}, {"name": "z"}], ["z"]),
    ],
)
def test_a_strategic_patch_orders_as_kubernetes_does(patch: list[Any], names: list[str]) -> None:
    """New items come before old ones that the patch does not name."""
    merged = strategic_merge_patch("Pod", _containers("a", "b"), {"spec": {"containers": patch}})
    assert [item["name"] for item in merged["spec"]["containers"]] == names


def test_the_directives_of_kubectl_are_followed() -> None:
    """The order of elements, keys to retain, and values to delete from plain lists."""
    live = {
        "metadata": {"finalizers": ["x/a", "x/b"]},
        "spec": {**_containers("a", "b")["spec"], "volumes": [{"name": "v", "emptyDir": {}}]},
    }
    patch = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]},
        "spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "m"}}],
        },
    }
    merged = strategic_merge_patch("Pod", live, patch)
    assert merged["metadata"]["finalizers"] == ["x/b"]
    assert [item["name"] for item in merged["spec"]["containers"]] == ["b", "a"]
    assert merged["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "m"}}]


# -------------------------------------------------------------------------------------------------- server-side apply


def _applied(live: dict[str, Any], wanted: dict[str, Any], managers: list[Any], name: str) -> dict[str, Any]:
    body = {"apiVersion": "v1", "kind": "Pod", **wanted}
    return applying.apply("Pod", live, body, managers, name, "now", force=False)


def test_two_managers_share_a_list() -> None:
    """Each owns the variables that it applied; what one leaves out later goes, the other's stay."""
    live: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {}}
    managers: list[applying.Manager] = []

    def wanting(*names: str) -> dict[str, Any]:
        env = [{"name": name, "value": "1"} for name in names]
        return {"spec": {"containers": [{"name": "c", "env": env}]}}

    live = _applied(live, wanting("A", "B"), managers, "m1")
    live = _applied(live, wanting("B", "C"), managers, "m2")
    live = _applied(live, wanting("A"), managers, "m1")
    assert [item["name"] for item in live["spec"]["containers"][0]["env"]] == ["A", "B", "C"]
    live = _applied(live, {"metadata": {"labels": {"x": "y"}}}, managers, "m2")
    assert [item["name"] for item in live["spec"]["containers"][0]["env"]] == ["A"]


def test_managed_fields_can_be_read_back() -> None:
    """What is written into `managedFields` is what is read from it."""
    managers: list[applying.Manager] = []
    document = pod(env=[{"name": "A", "value": "1"}], labels={"a.b/c": "d"}, finalizers=["x/y"])
    applying.record_update("Pod", managers, None, document, "m", "", "now")
    entries = applying.write_managers(managers, "v1")
    assert [manager.paths for manager in applying.read_managers({"managedFields": entries})] == [managers[0].paths]
    tree = entries[0]["fieldsV1"]
    assert tree["f:metadata"]["f:labels"] == {"f:a.b/c": {}}
    assert tree["f:spec"]["f:containers"]['k:{"name":"notebook"}']["."] == {}


# --------------------------------------------------------------------------------------------- selectors and paths


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "z", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "z", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "z", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_label_selector_objects(selector: dict[str, Any], selected: bool) -> None:
    """`matchLabels` and `matchExpressions` select together."""
    assert match_label_selector(selector, {"a": "1"}) is selected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/pods", ("list", "pods", None, "", "")),
        ("GET", "/api/v1/namespaces", ("list", "namespaces", None, "", "")),
        ("GET", "/api/v1/namespaces/x", ("get", "namespaces", None, "x", "")),
        ("PUT", "/api/v1/namespaces/x/status", ("update", "namespaces", None, "x", "status")),
        ("POST", "/api/v1/namespaces/x/pods/p/binding", ("create", "pods", "x", "p", "binding")),
        ("DELETE", "/apis/apps/v1/namespaces/x/deployments", ("deletecollection", "deployments", "x", "", "")),
    ],
)
def test_paths_are_understood(method: str, path: str, expected: tuple[Any, ...]) -> None:
    """Verb, resource, namespace, name and subresource of a request."""
    request = parse_path(method, path, {}, User("x"))
    assert (request.verb, request.kind.plural, request.namespace, request.name, request.subresource) == expected


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/api/v1/pods", 405),
        ("PUT", "/api/v1/namespaces/x/pods", 405),
        ("POST", "/api/v1/namespaces/x/pods/p", 405),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v2/pods", 404),
        ("GET", "/apis/apps/v1/pods", 404),
        ("GET", "/api/v1/namespaces/x/nodes", 404),
        ("GET", "/api/v1/namespaces/x/pods/p/status/more", 404),
    ],
)
def test_paths_that_mean_nothing_are_refused(method: str, path: str, code: int) -> None:
    """404 where there is nothing, 405 where the method does not fit."""
    with pytest.raises(StatusError) as caught:
        parse_path(method, path, {}, User("x"))
    assert caught.value.code == code
