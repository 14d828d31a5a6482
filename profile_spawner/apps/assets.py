"""Reads the files of profiles. A profile names each file by its path."""

from __future__ import annotations

from pathlib import Path

from profile_spawner.profiles.resources import ConfigMap, Manifest
from profile_spawner.profiles.template import Template, as_templates
from profile_spawner.profiles.yaml_text import MAX_BYTES, parse_yaml

__all__ = ["load_config_map", "load_manifests"]


def load_config_map(
    path: str | Path, *, name: str, mount_path: str | None, default_mode: str | None = None, render: bool = True
) -> ConfigMap:
    """Return the file at `path` as a ConfigMap. For a folder, include all its files.

    Call it when the module is loaded, not in a hook: hooks run in the hub's event loop.

    Args:
        path: A file, or a folder. Folders inside the folder are ignored.
        name: The name within the profile.
        mount_path: The path of the file or folder in the container; it is not mounted if this is `None`.
        default_mode: An octal file mode such as `0755`; `0644` by default.
        render: Whether `{{ param }}` references in the text are replaced.

    Raises:
        OSError: If the file cannot be read. The module then fails to load, with the path in the message.
        UnicodeDecodeError: If it is not UTF-8 text.
    """
    path, kind = Path(path), Template if render else str
    if path.is_dir():
        files = {file.name: kind(file.read_text(encoding="utf-8")) for file in sorted(path.iterdir()) if file.is_file()}
        return ConfigMap(name=name, data=files, mount_path=mount_path, default_mode=default_mode)
    content = kind(path.read_text(encoding="utf-8"))
    return ConfigMap(name=name, key=path.name, content=content, mount_path=mount_path, default_mode=default_mode)


def load_manifests(path: str | Path, *, name: str, persist: bool = False) -> Manifest:
    """Return all objects of a YAML file as one manifest, without empty documents.

    Call it when the module is loaded, not in a hook. References such as `{{ server_slug }}` are replaced later, for
    each server.

    Args:
        path: A YAML file of one or more documents.
        name: The name within the profile.
        persist: Whether the objects are kept when the server stops. If `False`, they are deleted with it.

    Raises:
        OSError: If the file cannot be read.
        SourceError: If it is not YAML, is too large or too deep, or has a duplicate key or a tag. It names the line.
    """
    path = Path(path)
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    return Manifest(name=name, content=tuple(as_templates(parse_yaml(text, str(path)))), persist=persist)
