"""The helper functions that plug-ins of the configurator import. A missing file is an error here, not a warning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from profile_spawner.apps.assets import load_manifests as _load_manifests
from profile_spawner.profiles.resources import InlineText

from ..models import (
    ConfigMap,
    InitContainer,
    InitContainerVolumeMount,
    Manifest,
    VolumeMount,
)

__all__ = [
    "create_init_container",
    "get_bash_login_config_map",
    "get_bashrc_config_map",
    "get_config_map",
    "get_init_script_config_map",
    "literal",
    "literalize_multiline",
    "load_manifests",
]

_INIT_SCRIPT = "/opt/init/.init.sh"


def _dashed(slug: str) -> str:
    return slug.replace("_", "-")


def get_config_map(
    path: str | Path,
    name: str,
    slug: str,
    key: str,
    mount_path: str,
    readonly: bool = True,
    persist: bool = True,
    default_mode: str = "0660",
) -> ConfigMap:
    """Return the file at `path` as a ConfigMap. An `InlineText` is the text itself.

    Raises:
        OSError: when it cannot be read.
    """
    return ConfigMap(
        name=_dashed(f"{name}-{slug}"),
        key=key,
        content=path if isinstance(path, InlineText) else Path(path).read_text(encoding="utf-8"),
        mount_path=mount_path,
        readonly=readonly,
        persist=persist,
        default_mode=default_mode,
    )


def get_bash_login_config_map(path: str | Path, slug: str, readonly: bool = True, persist: bool = True) -> ConfigMap:
    """Return the file for `/workspace/.bash_login`."""
    key = f"bash-login-{_dashed(slug)}"
    return get_config_map(path, "bash-login", slug, key, "/workspace/.bash_login", readonly, persist)


def get_bashrc_config_map(path: str | Path, slug: str, readonly: bool = True, persist: bool = True) -> ConfigMap:
    """Return the file for `/workspace/.bashrc`."""
    return get_config_map(path, "bash-rc", slug, "bash-rc", "/workspace/.bashrc", readonly, persist)


def get_init_script_config_map(path: str | Path, slug: str, readonly: bool = True, persist: bool = True) -> ConfigMap:
    """Return the script that the init container runs."""
    return get_config_map(path, "init", slug, "init", _INIT_SCRIPT, readonly, persist)


def create_init_container(image: str, volume_mounts: Sequence[VolumeMount], slug: str) -> InitContainer:
    """Return the container that runs the init script with the profile's volumes."""
    script = InitContainerVolumeMount(name=f"init-{_dashed(slug)}", mount_path=_INIT_SCRIPT, sub_path="init")
    return InitContainer(
        name="init-file-on-volume",
        image=image,
        command=["sh", "-c", f"sh {_INIT_SCRIPT}"],
        volume_mounts=[*volume_mounts, script],
    )


def load_manifests(*, name: str, key: str, file_path: str | Path, slug: str = "", **ignored: Any) -> Manifest:
    """Return all objects of a YAML file.

    Raises:
        OSError: when it cannot be read.
    """
    del ignored
    full = f"{name}-{_dashed(slug)}" if slug else name
    loaded = _load_manifests(file_path, name=full)
    return Manifest(name=full, key=key, content=list(loaded.content), persist=loaded.persist)


def literal(text: str) -> str:
    """Return the text."""
    return text


def literalize_multiline(value: Any) -> Any:
    """Return the value."""
    return value
