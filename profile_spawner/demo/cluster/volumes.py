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
from .environment import ObjectReader, PodFacts, data_of, expand, field_text, read_object, resource_text
from .failures import LocalClusterError

__all__ = ["Mount", "VolumeError", "VolumeStore", "write_files"]

_SHARED_FOLDER = 0o777
_LIVE = ("configMap", "secret", "projected", "downwardAPI")

Files = dict[str, tuple[bytes, int]]
"""Relative path to content and mode."""


class VolumeError(LocalClusterError):
    """A volume cannot be set up yet.

    Args:
        message: The reason, in the kubelet's words.
        kind: The plural of what is missing, such as `configmaps`; empty when waiting does not help.
        name: Its name.
    """

    def __init__(self, message: str, kind: str = "", name: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


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


def _missing(kind: str, name: str) -> VolumeError:
    return VolumeError(f'{kind} "{name}" not found', f"{kind}s", name)


def _checked(path: str) -> str:
    """Return the relative `path`; `VolumeError` when it would leave its folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise VolumeError(f"{path!r} is no path below the volume")
    return str(parts)


def write_files(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make `folder` show exactly `files`, all at once.

    The layout is the kubelet's: the files lie in a hidden folder, `..data` points to it, and each name points into
    `..data`. A reader sees all of the old or all of the new ones; who watches sees one rename of `..data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "..data"
    if data.is_symlink() and _read_files(data) == dict(files):
        return
    old = data.readlink() if data.is_symlink() else None
    fresh = f"..{uuid.uuid4().hex[:16]}"
    (folder / fresh).mkdir(mode=0o755)
    for name, (content, mode) in files.items():
        path = folder / fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    link = folder / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh)
    link.rename(data)
    tops = {PurePosixPath(name).parts[0] for name in files}
    for top in tops:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(f"..data/{top}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old is not None:
        shutil.rmtree(folder / old, ignore_errors=True)


def _read_files(folder: Path) -> Files:
    """Return the files below `folder`."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o7777) for path in paths}


def _chosen(data: Mapping[str, bytes], source: Json, mode: int, what: str) -> Files:
    """Return the files of a ConfigMap or Secret volume: all keys, or those of `items`."""
    items = source.get("items")
    if not items:
        return {_checked(key): (content, mode) for key, content in data.items()}
    files: Files = {}
    for item in items:
        if item["key"] in data:
            files[_checked(item["path"])] = (data[item["key"]], item.get("mode") or mode)
        elif not source.get("optional"):
            shown = "config" if what == "configmap" else what
            text = f"{what} references non-existent {shown} key: {item['key']}"
            raise VolumeError(text, f"{what}s", source["name"])
    return files


class VolumeStore:
    """Makes the volumes of pods below a state folder.

    Args:
        state_dir: The state folder.
        reader: Reads ConfigMaps, Secrets and claims.
    """

    def __init__(self, state_dir: Path, reader: ObjectReader) -> None:
        self._state = state_dir
        self._trash = state_dir / "trash"
        self._reader = reader

    def pod_folder(self, uid: str) -> Path:
        """Return the folder of everything that goes with the pod of this UID."""
        return self._state / "pods" / uid

    def claim_folder(self, namespace: str, name: str) -> Path:
        """Return the folder of a PersistentVolumeClaim, which outlives pods and restarts."""
        return self._state / "volumes" / namespace / name

    async def set_up(self, facts: PodFacts, volume: Json) -> Path:
        """Make `volume` of the pod and return its folder.

        Raises:
            VolumeError: Something it refers to is missing, or the kind of volume is not known here.
        """
        files = await self.files_of(facts, volume)
        folder = self._folder(facts, volume)
        if files is not None:
            await asyncio.to_thread(write_files, folder, files)
        else:
            await asyncio.to_thread(_make_shared, folder)
        return folder

    async def check(self, facts: PodFacts, volume: Json) -> None:
        """Raise what `set_up()` would, without making anything."""
        await self.files_of(facts, volume)
        self._folder(facts, volume)

    @staticmethod
    def is_live(volume: Json) -> bool:
        """Whether the files of `volume` follow the objects that they come from."""
        return any(kind in volume for kind in _LIVE)

    @staticmethod
    def refers_to(volume: Json, kind: str, name: str) -> bool:
        """Whether `volume` shows the ConfigMap or Secret (`kind` is `configmap` or `secret`) of this name."""
        key = "configMap" if kind == "configmap" else "secret"
        sources = (volume.get("projected") or {}).get("sources") or []
        if any((s.get(key) or {}).get("name") == name for s in sources):
            return True
        own = volume.get(key) or {}
        return bool(own.get("name" if kind == "configmap" else "secretName") == name)

    def _folder(self, facts: PodFacts, volume: Json) -> Path:
        name = _checked(volume["name"])
        if claim := volume.get("persistentVolumeClaim"):
            return self.claim_folder(facts.pod["metadata"]["namespace"], _checked(claim["claimName"]))
        if "hostPath" in volume:
            # The machine's own files are out of reach: the node pretends to have an empty disk.
            path = volume["hostPath"]["path"].strip("/") or "root"
            return self._state / "host" / _checked(path)
        if "emptyDir" in volume or self.is_live(volume):
            return self.pod_folder(facts.pod["metadata"]["uid"]) / "volumes" / name
        kinds = ", ".join(sorted(set(volume) - {"name"})) or "nothing"
        raise VolumeError(f"the local cluster has no volumes of the kind {kinds}")

    async def files_of(self, facts: PodFacts, volume: Json) -> Files | None:
        """Return the files that `volume` has to show; None for a folder that the pod itself fills.

        Raises:
            VolumeError: Something it refers to is missing.
        """
        namespace = facts.pod["metadata"]["namespace"]
        if "configMap" in volume:
            source = volume["configMap"]
            return await self._object_files("configmap", namespace, source, source.get("defaultMode"))
        if "secret" in volume:
            source = {**volume["secret"], "name": volume["secret"]["secretName"]}
            return await self._object_files("secret", namespace, source, source.get("defaultMode"))
        if "downwardAPI" in volume:
            return _downward_files(facts, volume["downwardAPI"], volume["downwardAPI"].get("defaultMode"))
        if "projected" in volume:
            return await self._projected_files(facts, volume["projected"])
        if claim := volume.get("persistentVolumeClaim"):
            name = claim["claimName"]
            if await self._reader.claim(namespace, name) is None:
                raise _missing("persistentvolumeclaim", name)
        return None

    async def _object_files(self, kind: str, namespace: str, source: Json, mode: int | None) -> Files:
        obj = await read_object(self._reader, kind, namespace, source["name"])
        if obj is None:
            if source.get("optional"):
                return {}
            raise _missing(kind, source["name"])
        return _chosen(data_of(kind, obj), source, 0o644 if mode is None else mode, kind)

    async def _projected_files(self, facts: PodFacts, projected: Json) -> Files:
        namespace = facts.pod["metadata"]["namespace"]
        mode = projected.get("defaultMode")
        files: Files = {}
        for source in projected.get("sources") or []:
            if "configMap" in source:
                files |= await self._object_files("configmap", namespace, source["configMap"], mode)
            elif "secret" in source:
                files |= await self._object_files("secret", namespace, source["secret"], mode)
            elif "downwardAPI" in source:
                files |= _downward_files(facts, source["downwardAPI"], mode)
            elif "serviceAccountToken" in source:
                account = facts.pod["spec"].get("serviceAccountName") or "default"
                token = await self._reader.service_account_token(namespace, account)
                files[_checked(source["serviceAccountToken"]["path"])] = (token.encode(), 0o600)
        return files

    def mounts_of(self, container: Json, folders: Mapping[str, Path], env: Mapping[str, str], pod: Json) -> list[Mount]:
        """Return the mounts of `container`, outer ones before those inside them.

        Args:
            container: The container's part of the pod.
            folders: The folder of each volume that is set up.
            env: The container's environment, for `subPathExpr`.
            pod: The pod.

        Raises:
            VolumeError: A sub-path leaves its volume.
        """
        volumes = {v["name"]: v for v in pod["spec"].get("volumes") or []}
        mounts = []
        for mount in container.get("volumeMounts") or []:
            volume = volumes[mount["name"]]
            source = folders[mount["name"]]
            sub = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
            if sub:
                source = _sub_path(source, sub, mount["name"], container["name"])
            read_only = bool(
                mount.get("readOnly")
                or self.is_live(volume)
                or (volume.get("persistentVolumeClaim") or {}).get("readOnly")
            )
            mounts.append(Mount(source, os.path.normpath("/" + mount["mountPath"].lstrip("/")), read_only))
        return sorted(mounts, key=lambda m: m.target.count("/"))

    async def clear(self) -> None:
        """Remove what pods of an earlier run have left; the data of claims stays."""
        await asyncio.to_thread(_remove, self._state / "pods", self._trash)
        await asyncio.to_thread(shutil.rmtree, self._trash, ignore_errors=True)

    async def remove_pod(self, uid: str) -> None:
        """Remove everything that went with a pod."""
        await asyncio.to_thread(_remove, self.pod_folder(uid), self._trash)

    async def remove_claim(self, namespace: str, name: str) -> None:
        """Remove the data of a PersistentVolumeClaim that has been deleted."""
        await asyncio.to_thread(_remove, self.claim_folder(namespace, name), self._trash)


def _downward_files(facts: PodFacts, source: Json, mode: int | None) -> Files:
    files: Files = {}
    for item in source.get("items") or []:
        text = (
            field_text(facts, item["fieldRef"]["fieldPath"])
            if "fieldRef" in item
            else resource_text(facts, item["resourceFieldRef"])
        )
        chosen = item.get("mode") or (0o644 if mode is None else mode)
        files[_checked(item["path"])] = (text.encode(), chosen)
    return files


def _sub_path(folder: Path, sub: str, volume: str, container: str) -> Path:
    """Return the file or folder `sub` of a volume; a missing one becomes a folder.

    Raises:
        VolumeError: It lies outside of the volume, be it by a symbolic link that a pod has left there.
    """
    path = (folder / _checked(sub)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise VolumeError(f'failed to prepare subPath for volumeMount "{volume}" of container "{container}"')
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(_SHARED_FOLDER)
    return path


def _make_shared(folder: Path) -> None:
    """Make a folder in which any user of the pod may write."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_SHARED_FOLDER)


def _remove(folder: Path, trash: Path) -> None:
    """Remove `folder`: out of sight at once by a rename, and then its content."""
    trash.mkdir(parents=True, exist_ok=True)
    grave = trash / uuid.uuid4().hex
    try:
        folder.rename(grave)
    except FileNotFoundError:
        return
    try:
        shutil.rmtree(grave)
    except OSError:
        # A pod may have left folders in which not even their owner may write.
        for place, _, _ in os.walk(grave):
            Path(place).chmod(0o700)
        shutil.rmtree(grave, ignore_errors=True)
