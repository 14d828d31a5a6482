"""The rules for the volumes of a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .answers import Cause, Object
from .rules import duplicate, missing_reference, name_problem, not_allowed, one_of, required, unsupported, wrong
from .schema import fields_of

__all__ = ["field_path_causes", "key_path_causes", "local_path_causes", "mount_causes", "volume_causes"]

_MAX_MODE = 0o777
# Fields that can be referred to somewhere; where exactly depends.
_REFERABLE = frozenset(
    {
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.phase",
        "status.podIP",
        "status.podIPs",
    }
)
_DOWNWARD_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def local_path_causes(path: str, where: str) -> Iterator[Cause]:
    """Yield a cause where a path leaves the folder that it starts in."""
    if path.startswith("/"):
        yield wrong(where, path, "must be a relative path")
    if ".." in path.split("/"):
        yield wrong(where, path, "must not contain '..'")


def _mode_causes(mode: object, where: str) -> Iterator[Cause]:
    if isinstance(mode, int) and not 0 <= mode <= _MAX_MODE:
        yield wrong(where, mode, "must be a number between 0 and 0777 (octal), both inclusive")


def key_path_causes(source: Object, where: str) -> Iterator[Cause]:
    """Yield what is wrong with the `items` and the `defaultMode` of a ConfigMap or Secret volume."""
    yield from _mode_causes(source.get("defaultMode"), f"{where}.defaultMode")
    for index, item in enumerate(source.get("items", ())):
        here = f"{where}.items[{index}]"
        if not item.get("key"):
            yield required(f"{here}.key")
        if not item.get("path"):
            yield required(f"{here}.path")
        yield from local_path_causes(item.get("path", ""), f"{here}.path")
        if item.get("path", "").startswith("..") and ".." not in item["path"].split("/"):
            yield wrong(f"{here}.path", item["path"], "must not start with '..'")
        yield from _mode_causes(item.get("mode"), f"{here}.mode")


def field_path_causes(reference: Object, where: str, known: tuple[str, ...]) -> Iterator[Cause]:
    """Yield what is wrong with a `fieldRef`."""
    path = reference.get("fieldPath", "")
    if not path:
        yield required(f"{where}.fieldPath")
        return
    base, bracket, _ = path.partition("['")
    if bracket and base in ("metadata.labels", "metadata.annotations") and path.endswith("']"):
        return
    if path in known:
        return
    if path in _REFERABLE:
        yield unsupported(f"{where}.fieldPath", path, known)
    else:
        yield wrong(f"{where}.fieldPath", path, "error converting fieldPath: field label not supported")


def _secret(source: Object, where: str) -> Iterator[Cause]:
    if not source.get("secretName"):
        yield required(f"{where}.secretName")
    yield from key_path_causes(source, where)


def _config_map(source: Object, where: str) -> Iterator[Cause]:
    if not source.get("name"):
        yield required(f"{where}.name")
    yield from key_path_causes(source, where)


def _claim(source: Object, where: str) -> Iterator[Cause]:
    if not source.get("claimName"):
        yield required(f"{where}.claimName")


def _host_path(source: Object, where: str) -> Iterator[Cause]:
    if not source.get("path"):
        yield required(f"{where}.path")
    elif ".." in source["path"].split("/"):
        yield wrong(f"{where}.path", source["path"], "must not contain '..'")
    kinds = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
    yield from one_of(f"{where}.type", source.get("type", ""), kinds)


def _nfs(source: Object, where: str) -> Iterator[Cause]:
    for key in ("server", "path"):
        if not source.get(key):
            yield required(f"{where}.{key}")
    if source.get("path") and not source["path"].startswith("/"):
        yield wrong(f"{where}.path", source["path"], "must be an absolute path")


def _downward(source: Object, where: str) -> Iterator[Cause]:
    yield from _mode_causes(source.get("defaultMode"), f"{where}.defaultMode")
    for item in source.get("items", ()):
        if not item.get("path"):
            yield required(f"{where}.path")
        yield from local_path_causes(item.get("path", ""), f"{where}.path")
        if "fieldRef" in item:
            yield from field_path_causes(item["fieldRef"], f"{where}.fieldRef", _DOWNWARD_FIELDS)
        elif "resourceFieldRef" not in item:
            yield required(where, "one of fieldRef and resourceFieldRef is required")


def _projected(source: Object, where: str) -> Iterator[Cause]:
    yield from _mode_causes(source.get("defaultMode"), f"{where}.defaultMode")
    checks = {"secret": _config_map, "configMap": _config_map, "downwardAPI": _downward}
    for index, item in enumerate(source.get("sources", ())):
        here = f"{where}.sources[{index}]"
        if len(item) > 1:
            yield not_allowed(here, "may not specify more than 1 volume type")
        for name, details in item.items():
            if name in checks:
                yield from checks[name](details, f"{here}.{name}")


_SOURCES: dict[str, Callable[[Object, str], Iterator[Cause]]] = {
    "configMap": _config_map,
    "downwardAPI": _downward,
    "hostPath": _host_path,
    "nfs": _nfs,
    "persistentVolumeClaim": _claim,
    "projected": _projected,
    "secret": _secret,
}


def _one_volume(volume: Object, where: str) -> Iterator[Cause]:
    sources = [name for name in fields_of("Volume") if name != "name" and name in volume]
    for name in sources[1:]:
        yield not_allowed(f"{where}.{name}", "may not specify more than 1 volume type")
    if not sources:
        yield required(where, "must specify a volume type")
    elif sources[0] in _SOURCES:
        yield from _SOURCES[sources[0]](volume[sources[0]], f"{where}.{sources[0]}")
    name = volume.get("name", "")
    if not name:
        yield required(f"{where}.name")
    elif problem := name_problem("label", name):
        yield wrong(f"{where}.name", name, problem)


def volume_causes(volumes: list[Object], path: str, names: set[str]) -> Iterator[Cause]:
    """Yield what is wrong with the volumes of a pod.

    Args:
        volumes: The volumes.
        path: Where they are.
        names: Receives the names of the sound volumes, which mounts may refer to.
    """
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        found = list(_one_volume(volume, where))
        if volume.get("name") in names:
            found.append(duplicate(f"{where}.name", volume["name"]))
        if not found:
            names.add(volume["name"])
        yield from found


def mount_causes(mounts: list[Object], path: str, names: set[str]) -> Iterator[Cause]:
    """Yield what is wrong with the mounts of a container, given the `names` of the volumes."""
    places: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        if not mount.get("name"):
            yield required(f"{where}.name")
        if mount.get("name", "") not in names:
            yield missing_reference(f"{where}.name", mount.get("name", ""))
        place = mount.get("mountPath", "")
        if not place:
            yield required(f"{where}.mountPath")
        if place in places:
            yield wrong(f"{where}.mountPath", place, "must be unique")
        places.add(place)
        yield from local_path_causes(mount.get("subPath", ""), f"{path}.subPath")
        if mount.get("subPathExpr"):
            if mount.get("subPath"):
                yield wrong(
                    f"{where}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
                )
            yield from local_path_causes(mount["subPathExpr"], f"{path}.subPathExpr")
