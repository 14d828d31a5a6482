"""Every failed answer says who has to act and whether trying again helps, and never what was in the manifest."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_asyncio.client.exceptions import ApiException

from profile_spawner.errors import ClusterError
from profile_spawner.kube.failures import KubeFailure, classify

SECRET = "canary-71c2"
REASONS = {"quota", "forbidden", "invalid", "conflict", "unreachable", "throttled", "timeout", "server_error"}


def answer(status: int, reason: str = "", message: str = "", *, headers: Any = None, **details: Any) -> ApiException:
    """Return what the client raises for this answer."""
    exception = ApiException(status=status, reason="x")
    body = {"kind": "Status", "reason": reason, "message": message, "details": details}
    exception.body, exception.headers = json.dumps(body), headers
    return exception


def known(exc: BaseException) -> KubeFailure:
    """Classify, as what the transport gets."""
    failure = classify(exc, what="creating Pod n/p", profile="gpu")
    assert isinstance(failure, KubeFailure)
    return failure


CASES = [
    (answer(403, message='pods "x" is forbidden: exceeded quota: q, requested: a=1, used: a=2, limited: a=2'),
     "quota", "user", False),
    (answer(403, message="pods is forbidden: failed quota: q: must specify limits.cpu,limits.memory"),
     "quota", "profile", False),
    (answer(403, message='pods "x" is forbidden: [maximum memory usage per Container is 1Gi, but limit is 2Gi]'),
     "quota", "profile", False),
    (answer(403, message='pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace'),
     "forbidden", "admin", False),
    (answer(403, message='violates PodSecurity "baseline:latest"'), "forbidden", "profile", False),
    (answer(403, message="no PriorityClass with name high was found"), "forbidden", "profile", False),
    (answer(403, message="unable to create new content because it is being terminated"), "forbidden", "admin", False),
    (answer(401), "forbidden", "admin", False),
    (answer(400, message=SECRET), "invalid", "profile", False),
    (answer(404), "invalid", "admin", False),
    (answer(413), "invalid", "profile", False),
    (answer(422, "Invalid"), "invalid", "profile", False),
    (answer(409, "AlreadyExists"), "conflict", "admin", False),
    (answer(409, "Conflict", "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified"),
     "conflict", "cluster", True),
    (answer(409, "Conflict", "Precondition failed: UID in precondition: a, UID in object meta: b"),
     "conflict", "admin", False),
    (answer(429), "throttled", "cluster", True),
    (answer(408), "timeout", "cluster", True),
    (answer(500), "server_error", "cluster", True),
    (answer(501), "server_error", "cluster", False),
    (answer(502), "server_error", "cluster", True),
    (answer(503), "server_error", "cluster", True),
    (answer(504), "timeout", "cluster", True),
    (asyncio.TimeoutError(), "timeout", "cluster", True),
    (aiohttp.ServerTimeoutError(), "timeout", "cluster", True),
    (aiohttp.ServerDisconnectedError(), "unreachable", "cluster", True),
    (aiohttp.ClientPayloadError(), "unreachable", "cluster", True),
    (ConnectionResetError(104, SECRET), "unreachable", "cluster", True),
    (ssl.SSLCertVerificationError(1, SECRET), "unreachable", "cluster", True),
    (ValueError(SECRET), "server_error", "cluster", True),
]  # fmt: skip


@pytest.mark.parametrize(("exc", "reason", "blame", "retryable"), CASES, ids=lambda x: str(x).split("\n")[0][:40])
def test_taxonomy(exc: BaseException, reason: str, blame: str, retryable: bool) -> None:
    """Reason, blame and whether to try again, for everything an API server or a network does."""
    failure = known(exc)
    assert (failure.reason, failure.blame, failure.retryable) == (reason, blame, retryable)
    assert failure.user_message
    assert "{" not in failure.user_message
    assert "profile 'gpu': creating Pod n/p" in str(failure)
    assert SECRET not in str(failure) + failure.user_message


def test_quota_says_what_is_used_up() -> None:
    """The user learns which limit is reached, the administrator which quota."""
    failure = known(answer(403, message="x: exceeded quota: gpus, requested: gpu=2, used: gpu=3, limited: gpu=4"))
    assert "gpu=2 wanted, limited to gpu=4" in failure.user_message
    assert "quota gpus" in failure.message


def test_a_missing_right_is_named() -> None:
    """The administrator learns which verb on which resource is missing, and where to find the Role."""
    text = 'x is forbidden: User "u" cannot create resource "deployments" in API group "apps" in the namespace "n"'
    failure = known(answer(403, message=text))
    assert "may not create deployments.apps" in failure.message
    assert "profile-spawner rbac" in str(failure)


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (f'Invalid value: "{SECRET}": a DNS-1123 label must consist of', "a DNS-1123 label must consist of"),
        (f'Invalid value: "quo\\"te {SECRET}": must match', "must match"),
        ('Unsupported value: "x": supported values: "a", "b"', 'supported values: "a", "b"'),
        (f"Invalid value: core.PodSpec{{{SECRET}}}: field is immutable", "field is immutable"),
        (f'Duplicate value: "{SECRET}"', ""),
        ("Required value: must be set", "Required value: must be set"),
        ("Forbidden: disallowed", ""),
        (f"{SECRET} in some new wording", ""),
    ],
)
def test_causes_keep_the_rule_and_lose_the_value(message: str, left: str) -> None:
    """What the API server names is told without the value it found."""
    cause = {"field": "spec.x", "reason": "FieldValueInvalid", "message": message}
    failure = known(answer(422, "Invalid", SECRET, causes=[cause]))
    expected = f"spec.x: FieldValueInvalid{': ' if left else ''}{left}"
    assert expected in str(failure)
    assert SECRET not in str(failure)


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({}, {"retryAfterSeconds": 3}, 3.0),
        ({"Retry-After": "soon"}, {}, None),
        ({"Retry-After": "-1"}, {}, None),
        ({"Retry-After": "nan"}, {}, None),
        ({}, {}, None),
    ],
)
def test_retry_after(headers: dict[str, str], details: dict[str, Any], seconds: float | None) -> None:
    """The server's wish is read from the header or the body; nonsense is no wish."""
    assert known(answer(429, headers=headers, **details)).retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    """The other form that HTTP allows."""
    moment = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)
    seconds = known(answer(429, headers={"Retry-After": moment})).retry_after
    assert seconds is not None
    assert 50 < seconds <= 60


@given(status=st.integers(0, 999), body=st.binary(max_size=60) | st.sampled_from([
    b"null", b"[]", b'{"details": 1}', b'{"details": {"causes": 3}}', b'{"details": {"causes": [1, {"field": 2}]}}',
    b'{"message": {}, "reason": []}', b'"x"', b'{"details": []}']))  # fmt: skip
def test_any_answer_is_understood(status: int, body: bytes) -> None:
    """Whatever comes back, the result is a ClusterError with a known reason."""
    exception = ApiException(status=status, reason="x")
    exception.body = body
    failure = known(exception)
    assert failure.reason in REASONS
    assert failure.blame in ("user", "profile", "admin", "cluster")


def test_a_cluster_error_stays_what_it_is() -> None:
    """Classifying twice changes nothing."""
    error = ClusterError("x", reason="conflict", user_message="y")
    assert classify(error) is error
