"""Creates volumes of pods as folders below the state folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .apiclient import Json
from .environment import MissingError, PodFacts, ReadObject, data_of

__all__ = ["Mount", "VolumeStore"]

Files = dict[str, tuple[bytes, int]]
"""Relative path to content and mode."""


@dataclass(frozen=True)
class Mount:
    """One volume mount of a container, resolved.

    Attributes:
        source: The folder or file on the machine.
        target: The absolute path in the container.
        read_only: Whether the container may not write there.
    """

    source: Path
    target: str
    read_only: bool


_KINDS = frozenset({"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"})


class VolumeStore:
    """Makes the volumes of pods below a state folder.

    Args:
        state_dir: The state folder.
        read: Reads ConfigMaps, Secrets and claims.
    """

    def __init__(self, state_dir: Path, read: ReadObject) -> None:
        self._state = state_dir
        self._read = read

    def pod_folder(self, uid: str) -> Path:
        """Return the folder of everything that goes with the pod of this UID."""
        return self._state / "pods" / uid

    async def set_up(self, facts: PodFacts, volume: Json) -> Path:
        """Make `volume` of the pod and return its folder. A claim's folder outlives pods and restarts.

        Raises:
            MissingError: Something that it refers to, or the kind of volume is not known here.
        """
        if not _KINDS & set(volume):
            kinds = ", ".join(sorted(set(volume) - {"name"})) or "nothing"
            raise MissingError(f"the local cluster has no volumes of the kind {kinds}")
        files = await self.check(facts, volume)
        if claim := volume.get("persistentVolumeClaim"):
            folder = self._state / "volumes" / facts.namespace / _checked(claim["claimName"])
        else:
            folder = self.pod_folder(facts.pod["metadata"]["uid"]) / "volumes" / _checked(volume["name"])
        await asyncio.to_thread(_make_shared, folder)
        await asyncio.to_thread(_write, folder, files)
        return folder

    async def check(self, facts: PodFacts, volume: Json) -> Files:
        """Return the files that `volume` has to show, if what it refers to is there.

        Raises:
            MissingError: Something that it refers to is not there.
        """
        sources = (volume.get("projected") or {}).get("sources") or []
        if "configMap" in volume:
            sources = [{"configMap": volume["configMap"]}]
        elif "secret" in volume:
            sources = [{"secret": {**volume["secret"], "name": volume["secret"]["secretName"]}}]
        elif claim := volume.get("persistentVolumeClaim"):
            name = claim["claimName"]
            if await self._read("persistentvolumeclaims", facts.namespace, name) is None:
                raise MissingError(f'persistentvolumeclaim "{name}" not found', "persistentvolumeclaims", name)
        mode = (volume.get("projected") or {}).get("defaultMode", 0o644)
        files: Files = {}
        for source in sources:
            for key, kind in (("configMap", "configmap"), ("secret", "secret")):
                if key in source:
                    data = await data_of(kind, source[key], facts.namespace, self._read)
                    files |= _chosen(data, source[key], source[key].get("defaultMode", mode), kind)
        return files

    @staticmethod
    def mounts_of(container: Json, folders: Mapping[str, Path], pod: Json) -> list[Mount]:
        """Return the mounts of `container`, outer ones before those inside them.

        Args:
            container: The container's part of the pod.
            folders: The folder of each volume that is set up.
            pod: The pod.

        Raises:
            MissingError: A sub-path leaves its volume.
        """
        volumes = {v["name"]: v for v in pod["spec"].get("volumes") or []}
        mounts = []
        for mount in container.get("volumeMounts") or []:
            volume = volumes[mount["name"]]
            source = folders[mount["name"]]
            if mount.get("subPath"):
                source = _sub_path(source, mount["subPath"], mount["name"], container["name"])
            files = any(kind in volume for kind in ("configMap", "secret", "projected"))
            target = os.path.normpath("/" + mount["mountPath"].lstrip("/"))
            mounts.append(Mount(source, target, read_only=bool(mount.get("readOnly") or files)))
        return sorted(mounts, key=lambda m: m.target.count("/"))

    async def remove(self, *place: str) -> None:
        """Remove a folder below the state folder: `"pods"`, `"pods", UID` or `"volumes", NAMESPACE, CLAIM`."""
        await asyncio.to_thread(_remove, self._state.joinpath(*place))


def _checked(path: str) -> str:
    """Return the relative `path`; `MissingError` when it would leave its folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise MissingError(f"{path!r} is not a path below the volume")
    return str(parts)


def _chosen(data: Mapping[str, bytes], source: Json, mode: int, kind: str) -> Files:
    """Return the files of a ConfigMap or Secret: all keys, or those of `items`."""
    files: Files = {}
    for item in source.get("items") or [{"key": key, "path": key} for key in data]:
        if item["key"] in data:
            files[_checked(item["path"])] = (data[item["key"]], item.get("mode") or mode)
        elif not source.get("optional"):
            shown = "config" if kind == "configmap" else kind
            raise MissingError(f"{kind} references non-existent {shown} key: {item['key']}", f"{kind}s", source["name"])
    return files


def _write(folder: Path, files: Files) -> None:
    for name, (content, mode) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)


def _sub_path(folder: Path, sub: str, volume: str, container: str) -> Path:
    """Return the file or folder `sub` of a volume; a missing one becomes a folder.

    Raises:
        MissingError: It lies outside of the volume, be it by a symbolic link that a pod has left there.
    """
    path = (folder / _checked(sub)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise MissingError(f'failed to prepare subPath for volumeMount "{volume}" of container "{container}"')
    if not path.exists():
        _make_shared(path)
    return path


def _make_shared(folder: Path) -> None:
    """Make a folder in which any user of the pod may write."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)


def _remove(folder: Path) -> None:
    """Remove `folder`: out of sight at once by a rename, and then its content."""
    grave = folder.with_name(f".{uuid.uuid4().hex}")
    try:
        folder.rename(grave)
    except FileNotFoundError:
        return
    for place, folders, _ in os.walk(grave):
        for inner in (Path(place, name) for name in folders):
            if not inner.is_symlink():
                inner.chmod(0o700)  # A pod may have left folders in which not even their owner may write.
    shutil.rmtree(grave, ignore_errors=True)
