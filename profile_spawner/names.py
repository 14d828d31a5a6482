"""Names and labels of Kubernetes objects: always valid, readable if possible, and unique.

Requirements, for any Unicode user and server name:

- a name is a DNS-1123 label of at most 63 characters, so that it is valid for every kind of object;
- two different identities get different names (every shortened part ends with 80 bits of SHA-256);
- a label value is valid, and equal for equal identities;
- the same content always gets the same name, in every hub and after every restart.

All functions are pure. A name does not prove who owns an object; the labels do.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from typing import Any

__all__ = [
    "ANNOTATION_ACCOUNT",
    "ANNOTATION_DIGEST",
    "ANNOTATION_PARAMS",
    "DNS_LABEL",
    "DNS_SUBDOMAIN",
    "ENV_NAME",
    "LABEL_GENERATION",
    "LABEL_HUB",
    "LABEL_LIFETIME",
    "LABEL_MANAGED_BY",
    "LABEL_PROFILE",
    "LABEL_SERVER",
    "LABEL_SPAWN",
    "LABEL_USER",
    "MANAGED_BY",
    "SLUG",
    "content_hash",
    "identity_hash",
    "is_dns_label",
    "is_dns_subdomain",
    "is_hashed",
    "is_label_value",
    "is_role_name",
    "is_slug",
    "json_key",
    "label_value",
    "names_user",
    "object_name",
    "slugify",
]

MANAGED_BY = "profile-spawner"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_HUB = "profile-spawner/hub"
LABEL_SERVER = "profile-spawner/server"
LABEL_SPAWN = "profile-spawner/spawn"
LABEL_USER = "profile-spawner/user"
LABEL_LIFETIME = "profile-spawner/lifetime"
LABEL_GENERATION = "profile-spawner/generation"
LABEL_PROFILE = "hub.jupyter.org/profile"
ANNOTATION_ACCOUNT = "profile-spawner/account"
ANNOTATION_DIGEST = "profile-spawner/digest"
ANNOTATION_PARAMS = "profile-spawner/params"

# Use these with `fullmatch`: `$` also matches before a trailing newline.
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_ROLE_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.:]{0,251}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

_USER_NAMES = frozenset(
    {
        "escaped_user_server", "escaped_username", "safe_user_server", "safe_username", "unescaped_username",
        "user_server", "userid", "username",
    }
)  # fmt: skip
"""What KubeSpawner fills in that is different for each user (`KubeSpawner._expand_user_properties`)."""

_HASH_LENGTH = 20  # hexadecimal digits: 80 bits
_HASHED = re.compile(rf"(?:.*-)?[0-9a-f]{{{_HASH_LENGTH}}}")


def names_user(template: str) -> bool:
    """Return whether a template of KubeSpawner gives each user a name of their own, as `{username}` does."""
    try:
        found = {str(name) for _, name, _, _ in string.Formatter().parse(template) if name}
    except ValueError:
        return False  # KubeSpawner cannot expand it either
    return not _USER_NAMES.isdisjoint(found)


def is_slug(text: str) -> bool:
    """Return whether `text` is a valid slug: 1 to 63 of `a-z 0-9 _ -`, with `a-z 0-9` at the start and the end."""
    return len(text) <= 63 and SLUG.fullmatch(text) is not None


def is_dns_label(text: str) -> bool:
    """Return whether `text` is a DNS-1123 label (at most 63 characters)."""
    return len(text) <= 63 and DNS_LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    """Return whether `text` is a DNS-1123 subdomain, as the names of most objects (at most 253 characters)."""
    return len(text) <= 253 and DNS_SUBDOMAIN.fullmatch(text) is not None


def is_role_name(text: str) -> bool:
    """Return whether `text` can be the name of a Role here (at most 253 characters)."""
    return _ROLE_NAME.fullmatch(text) is not None


def is_label_value(text: str) -> bool:
    """Return whether `text` is a valid Kubernetes label value (at most 63 characters, may be empty)."""
    return len(text) <= 63 and _LABEL_VALUE.fullmatch(text) is not None


def slugify(text: str) -> str:
    """Return the readable part of a name made from `text`: `a-z 0-9 -` only, possibly empty, at most 40 characters."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()[:200]).strip("-")
    return slug[:40].rstrip("-")


def identity_hash(*parts: str) -> str:
    """Return a hash of this sequence of texts: 20 hexadecimal digits."""
    # With the lengths, ("ab", "c") and ("a", "bc") have different hashes.
    data = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]


def content_hash(content: Any) -> str:
    """Return a hash of JSON-like `content`: 20 hexadecimal digits. The order of keys does not matter."""
    data = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(data.encode()).hexdigest()[:_HASH_LENGTH]


def json_key(key: Any) -> str:
    """Return a key of a mapping as it is in JSON: `22`, `true`."""
    return json.dumps(key) if key is None or isinstance(key, bool) else str(key)


def object_name(prefix: str, digest: str) -> str:
    """Return `prefix-digest` as a DNS-1123 label. Only the prefix is cleaned and shortened, not the digest."""
    readable = slugify(prefix)[: 62 - len(digest)].strip("-")
    return f"{readable}-{digest}" if readable else f"x-{digest}"


def is_hashed(name: str) -> bool:
    """Return whether a name ends with a hash, as those that `object_name` returns."""
    return _HASHED.fullmatch(name) is not None


def label_value(text: str) -> str:
    """Return `text` if it is a valid, non-empty label value; otherwise a readable prefix with a hash of `text`."""
    if text and is_label_value(text):
        return text
    return object_name(text, identity_hash(text))
