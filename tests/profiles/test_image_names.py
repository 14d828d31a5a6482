"""Names of images: what container runtimes take, and no more."""

from __future__ import annotations

import pytest

from profile_spawner.profiles.image_names import has_mutable_tag, image_problem

SHA = "a" * 64


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.12",
        "quay.io/jupyter/base-notebook:2026-08-03",
        "localhost:5000/a",
        "localhost/a/b:x",
        "Registry.Example.org:443/team/a__b/c.d-e--f:V1.0_x",
        f"a/b@sha256:{SHA}",
        f"a/b:1@sha256:{SHA}",
        f"[::1]:5000/a:1@sha512:{SHA}{SHA}",
        "192.168.1.1:5000/a",
        "x" * 255,
    ],
)
def test_valid_names(image: str) -> None:
    """With a registry or without, with tag, digest or both."""
    assert image_problem(image) == ""


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("", "empty"),
        ("<custom-image>", "'<custom-image>' is not a part of a name"),
        ("quay.io/Jupyter/base:1", "'Jupyter' is not a part of a name: letters must be small"),
        ("https://quay.io/a:1", "without a scheme"),
        ("a/b:", "the tag ''"),
        ("a/b:1 ", "the tag '1 '"),
        ("a//b", "'' is not a part"),
        ("a b", "'a b'"),
        ("a_.b:1", "'a_.b'"),
        ("-bad.example.org/a:1", "registry"),
        ("a@sha256:abc", "sha256: and 64"),
        (f"a@{SHA}", "sha256: and 64"),
        (f"a@sha512:{SHA}", "sha512: and 128"),
        ("a:1:2", "'a:1' is not a part"),
        ("x" * 256, "255"),
    ],
)
def test_wrong_names_are_explained(image: str, why: str) -> None:
    """The wrong part is named."""
    assert why in image_problem(image)


def test_tags_that_can_change() -> None:
    """`latest`, and none: a registry's port is no tag."""
    assert [has_mutable_tag(i) for i in ("a", "a:latest", "x.org:5000/a", "a:1", f"a@sha256:{SHA}")] == [True] * 3 + [
        False
    ] * 2
