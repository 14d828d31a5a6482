"""Names of images, by the grammar of the OCI distribution specification."""

from __future__ import annotations

import re

__all__ = ["has_mutable_tag", "image_problem"]

_LONGEST = 255
_HOST = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:.]+\])"
)
_REGISTRY = re.compile(rf"{_HOST}(?::[0-9]+)?")
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_DIGITS = {"sha256": 64, "sha512": 128}


def image_problem(image: str) -> str:
    """Return why a text is not the name of an image, as the end of a sentence; empty if it is one."""
    if not image.strip():
        return "the name is empty"
    if "://" in image:
        return "it begins without a scheme: registry.example.org/name:tag"
    named, at, digest = image.partition("@")
    if at and (problem := _digest_problem(digest)):
        return problem
    name, tag = _parts(named)
    if tag is not None and not _TAG.fullmatch(tag):
        return f"the tag {tag!r} must have 1 to 128 letters, digits, '_', '.' and '-'"
    registry, parts = _registry_and_path(name)
    if registry is not None and not _REGISTRY.fullmatch(registry):
        return f"{registry!r} is not the name of a registry"
    wrong = next((part for part in parts if not _PART.fullmatch(part)), None)
    if wrong is not None:
        lower = ": letters must be small" if _PART.fullmatch(wrong.lower()) else ""
        return (
            f"{wrong!r} is not a part of a name{lower or ': small letters, digits, and between them single . _ or -'}"
        )
    return "" if len(name) <= _LONGEST else f"the name has more than {_LONGEST} characters"


def has_mutable_tag(image: str) -> bool:
    """Return whether a valid name has no digest, and the tag `latest` or none."""
    return "@" not in image and _parts(image)[1] in (None, "latest")


def _parts(named: str) -> tuple[str, str | None]:
    """Return name and tag. The port of a registry is no tag."""
    head, colon, tail = named.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (named, None)


def _registry_and_path(name: str) -> tuple[str | None, list[str]]:
    """Return the registry, if the name begins with one, and the parts of the path, as container runtimes do."""
    first, slash, rest = name.partition("/")
    if slash and (set(first) & set(".:[") or first == "localhost"):
        return first, rest.split("/")
    return None, name.split("/")


def _digest_problem(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    wanted = _DIGITS.get(algorithm)
    if _DIGEST.fullmatch(digest) and wanted in (None, len(digits)):
        return ""
    expected = f"{algorithm}: and {wanted} hexadecimal digits" if wanted else "sha256: and 64 hexadecimal digits"
    return f"the digest must be {expected}"
