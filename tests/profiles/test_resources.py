"""What authors may write about volumes, files, roles and manifests, and how a mistake is told."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_spawner.names import content_hash
from profile_spawner.profiles import resources as r


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("2", 2), ("500m", "0.5"), ("1.5", "1.5"), (".5", "0.5"), ("1k", 1000), ("1Ki", 1024),
     ("20Gi", 20 * 2**30), ("1e3", 1000), ("1E", 10**18), ("1Ei", 2**60), ("100n", "1e-7"), (3, 3), (0.25, "0.25")],
)  # fmt: skip
def test_quantities(text: Any, value: Any) -> None:
    """Every form of a Kubernetes quantity is understood."""
    assert r.quantity_value(text) == Decimal(str(value))


@pytest.mark.parametrize(
    "text", ["", "-1", "1 Gi", "1GB", "Gi", "1gi", "1i", "0x10", "1e", "1e3Gi", "\n1", "1\n", "9" * 65]
)
def test_no_quantities(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        r.quantity_value(text)


@given(st.text(max_size=80))
def test_any_text_is_a_quantity_or_not(text: str) -> None:
    """No text crashes the reader, none takes long, and no result is negative."""
    with contextlib.suppress(ValueError):
        assert r.quantity_value(text) >= 0


@pytest.mark.parametrize(
    ("value", "read"),
    [("4G", "4G"), ("4Gi", "4G"), ("4GiB", "4G"), ("4GB", "4G"), ("512M", "512M"), ("1.5G", "1.5G"), ("1024", 1024),
     (1024, 1024), (None, None), (" 2T ", "2T")],
)  # fmt: skip
def test_memory_as_kubespawner_takes_it(value: Any, read: Any) -> None:
    """The common ways to write memory become KubeSpawner's."""
    assert r.memory_quantity(value) == read


@pytest.mark.parametrize("value", [True, -1, "4g", "4 G", "G", "", "4P", 1.5, ["4G"]])
def test_no_memory(value: Any) -> None:
    """Everything else is refused with an example of what is right."""
    with pytest.raises(ValueError, match="4G"):
        r.memory_quantity(value)


MOUNT = {"mount_path": "/home/jovyan"}
VOLUME = {"name": "home", "claim_name": "home", "size": "1Gi", "volume_mount": MOUNT}
FILE = {"name": "start", "key": "start.sh", "content": "echo", "mount_path": "/etc/start.sh"}


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a:b", "/a\0b", "/" + "a" * 1024, ""])
def test_mount_paths(path: str) -> None:
    """A mount path is absolute, without `..` and `:`; Kubernetes would refuse it only at the spawn."""
    with pytest.raises(pydantic.ValidationError, match="absolute path"):
        r.VolumeMount(mount_path=path)


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../../b", "a\0b"])
def test_sub_paths(path: str) -> None:
    """A sub path stays inside its volume."""
    with pytest.raises(pydantic.ValidationError, match="relative path"):
        r.VolumeMount(mount_path="/a", sub_path=path)


@pytest.mark.parametrize("change", [
    {"name": "Home"}, {"name": "a\n"}, {"claim_name": "a_b"}, {"claim_name": "a" * 254}, {"size": "big"},
    {"size": True}, {"access_modes": ["Everything"]}, {"volume_mount": {"mount_path": "/a", "name": "other"}},
    {"storageClass": "x"},
])  # fmt: skip
def test_volumes_are_checked_when_written(change: dict[str, Any]) -> None:
    """A wrong name, size, mode or key is found before any user starts a server."""
    r.Volume(**VOLUME)
    with pytest.raises(pydantic.ValidationError):
        r.Volume(**{**VOLUME, **change})


@pytest.mark.parametrize("change", [
    {"data": {"a": "b"}}, {"key": None, "content": None}, {"content": None}, {"key": "a/b"}, {"key": ".."},
    {"default_mode": "0999"}, {"default_mode": "x"}, {"mount_path": "etc"},
])  # fmt: skip
def test_files_are_checked_when_written(change: dict[str, Any]) -> None:
    """One file or several, with names that can be files and modes that can be modes."""
    r.ConfigMap(**FILE)
    with pytest.raises(pydantic.ValidationError):
        r.ConfigMap(**{**FILE, **change})


@pytest.mark.parametrize(("size", "fits"), [(1_048_575, True), (1_048_576, True), (1_048_577, False)])
def test_a_file_fits_into_a_config_map(size: int, fits: bool) -> None:
    """What is too large for Kubernetes is found here, with the size and what to do, counted in bytes."""
    data = {**FILE, "content": "ß" * (size // 2) + "a" * (size % 2)}
    if fits:
        r.ConfigMap(**data)
    else:
        with pytest.raises(pydantic.ValidationError, match=r"1,048,577 bytes.*image or on a volume"):
            r.ConfigMap(**data)


@pytest.mark.parametrize(
    ("written", "mode"), [(None, 0o644), ("0644", 0o644), ("755", 0o755), ("0o600", 0o600), (0o400, 0o400)]
)
def test_file_modes(written: Any, mode: int) -> None:
    """Octal as text in the usual ways, or the number itself."""
    assert r.ConfigMap(**FILE, default_mode=written).mode == mode


def test_content_is_not_shown() -> None:
    """Neither files nor objects print what is in them, and errors of pull secrets do not either."""
    assert "canary" not in repr(r.ConfigMap(**{**FILE, "content": "canary"}))
    assert "canary" not in repr(r.ImagePullSecret(name="a", data=pydantic.SecretStr("canary")))
    item = r.KubeObject("v1", "Secret", "a", r.Lifetime.owned, "f", {"stringData": {"a": "canary"}})
    assert "canary" not in repr(item)
    assert item.key == ("v1", "Secret", "a")


def test_what_is_written_cannot_be_changed() -> None:
    """Resources are values: a profile cannot change another's by accident."""
    with pytest.raises(pydantic.ValidationError):
        r.Volume(**VOLUME).name = "other"


@pytest.mark.parametrize("verb", ["bind", "escalate", "impersonate", "use"])
def test_roles_cannot_escalate(verb: str) -> None:
    """The verbs with which a role could get more than it has do not exist here."""
    with pytest.raises(pydantic.ValidationError):
        r.Role(name="a", resources=("pods",), verbs=(verb,))  # type: ignore[arg-type]


def test_empty_documents_of_a_manifest_are_dropped() -> None:
    """A `---` too many in a YAML file does no harm."""
    assert r.Manifest(name="a", content=[None, {"kind": "Service"}, None]).content == ({"kind": "Service"},)  # type: ignore[arg-type]


def test_environment_references() -> None:
    """References to ConfigMaps and Secrets become `valueFrom`; the value itself never passes the hub."""
    secret = r.SecretEnvVarReference(from_secret=r.SecretKeyRef(name="a", key="b"))
    config = r.ConfigMapEnvVarReference(from_config_map=r.ConfigMapKeyRef(name="a", key="b"))
    assert secret.to_kubernetes("a") == {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    assert config.to_kubernetes("a") == {"valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}


def test_mounts_as_kubernetes_writes_them() -> None:
    """Only what is set is written."""
    assert r.VolumeMount(name="v", mount_path="/a/").to_kubernetes() == {"name": "v", "mountPath": "/a"}
    full = r.VolumeMount(name="v", mount_path="/a", sub_path="b", read_only=True).to_kubernetes()
    assert full == {"name": "v", "mountPath": "/a", "subPath": "b", "readOnly": True}


def test_init_containers_have_a_command() -> None:
    """An init container without a command is a mistake; with one it may use the profile's own image."""
    assert r.InitContainer(name="a", command=("true",)).image is None
    with pytest.raises(pydantic.ValidationError):
        r.InitContainer(name="a")  # type: ignore[call-arg]


def test_hashes_see_the_content_only() -> None:
    """Two files with the same text get the same name in the cluster."""
    one, other = r.ConfigMap(**FILE).files(), r.ConfigMap(name="x", data={"start.sh": "echo"}).files()
    assert content_hash(one) == content_hash(other)
