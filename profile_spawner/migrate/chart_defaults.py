"""The defaults of the Zero to JupyterHub chart, as far as they reach the pods of users.

The table is that of chart 4.3 to 4.4: in what concerns pods, these versions are equal. The values.yaml of another
version can be read from the chart itself.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import Origin, SourceError
from profile_spawner.profiles.yaml_text import parse_yaml

__all__ = ["ChartDefaults", "known_defaults", "read_chart"]

_NEWEST = "4.4.0"
_DEDICATED = ("hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated")
_VALUES: dict[str, Any] = {
    "fullnameOverride": "",
    "nameOverride": None,
    "imagePullSecret": {"create": False, "automaticReferenceInjection": True},
    "imagePullSecrets": [],
    "hub": {
        "config": {},
        "extraConfig": {},
        "extraFiles": {},
        "services": {},
        "loadRoles": {},
        "consecutiveFailureLimit": 5,
        "allowNamedServers": False,
    },
    "scheduling": {
        "userScheduler": {"enabled": True},
        "podPriority": {"enabled": False},
        "userPods": {
            "tolerations": [
                {"key": key, "operator": "Equal", "value": "user", "effect": "NoSchedule"} for key in _DEDICATED
            ],
            "nodeAffinity": {"matchNodePurpose": "prefer"},
        },
    },
    "singleuser": {
        "podNameTemplate": None,
        "extraTolerations": [],
        "nodeSelector": {},
        "extraNodeAffinity": {"required": [], "preferred": []},
        "extraPodAffinity": {"required": [], "preferred": []},
        "extraPodAntiAffinity": {"required": [], "preferred": []},
        "networkTools": {
            "image": {
                "name": "quay.io/jupyterhub/k8s-network-tools",
                "tag": _NEWEST,
                "pullPolicy": None,
                "pullSecrets": [],
            },
            "resources": {},
        },
        "cloudMetadata": {"blockWithIptables": True, "ip": "169.254.169.254"},
        "networkPolicy": {},
        "events": True,
        "extraAnnotations": {},
        "extraLabels": {"hub.jupyter.org/network-access-hub": "true"},
        "extraFiles": {},
        "extraEnv": {},
        "lifecycleHooks": {},
        "initContainers": [],
        "extraContainers": [],
        "allowPrivilegeEscalation": False,
        "uid": 1000,
        "fsGid": 100,
        "serviceAccountName": None,
        "storage": {
            "type": "dynamic",
            "extraLabels": {},
            "extraVolumes": None,
            "extraVolumeMounts": None,
            "static": {"pvcName": None, "subPath": "{username}"},
            "capacity": "10Gi",
            "homeMountPath": "/home/jovyan",
            "dynamic": {
                "storageClass": None,
                "subPath": None,
                "pvcNameTemplate": None,
                "volumeNameTemplate": "volume-{user_server}",
                "storageAccessModes": ["ReadWriteOnce"],
            },
        },
        "image": {
            "name": "quay.io/jupyterhub/k8s-singleuser-sample",
            "tag": _NEWEST,
            "pullPolicy": None,
            "pullSecrets": [],
        },
        "startTimeout": 300,
        "cpu": {"limit": None, "guarantee": None},
        "memory": {"limit": None, "guarantee": "1G"},
        "extraResource": {"limits": {}, "guarantees": {}},
        "cmd": "jupyterhub-singleuser",
        "defaultUrl": None,
        "extraPodConfig": {},
        "profileList": [],
    },
    "debug": {"enabled": False},
    **{name: {} for name in ("custom", "global", "rbac", "proxy", "prePuller", "ingress", "httpRoute", "cull")},
}


@dataclass(frozen=True)
class ChartDefaults:
    """The defaults of one version of the chart.

    Attributes:
        values: What its values.yaml says; of the built-in table, the part that reaches pods.
        version: The version, such as `4.4.0`.
        described: How the version is named in messages.
    """

    values: Mapping[str, Any]
    version: str
    described: str


known_defaults = ChartDefaults(MappingProxyType(_VALUES), _NEWEST, "4.3 to 4.4")
"""The built-in table."""


def read_chart(path: Path) -> ChartDefaults:
    """Return the defaults of a chart that `helm pull` has fetched.

    Args:
        path: The packed chart (.tgz), or its folder. An umbrella chart may contain it.

    Raises:
        SourceError: If there is no chart named jupyterhub in it.
    """
    try:
        files = dict(_files_of(path))
    except (OSError, tarfile.TarError) as e:
        raise SourceError(f"the chart cannot be read: {e}", field="--chart", value=str(path)) from None
    for name in sorted((n for n in files if n.name == "Chart.yaml"), key=lambda n: len(n.parts)):
        place = f"{path}: {name}"
        chart = next(iter(parse_yaml(files[name], place)), None)
        values = files.get(name.with_name("values.yaml"))
        if not isinstance(chart, Mapping) or chart.get("name") != "jupyterhub" or values is None:
            continue
        found = next(iter(parse_yaml(values, str(name.with_name("values.yaml")))), None)
        if not isinstance(found, Mapping) or not isinstance(found.get("singleuser"), Mapping):
            raise SourceError("the chart's values.yaml has no singleuser", origin=Origin(place), field="--chart")
        version = str(chart.get("version") or "")
        return ChartDefaults(found, version, version)
    raise SourceError(
        "this is not the chart of Zero to JupyterHub",
        field="--chart",
        value=str(path),
        expected="a .tgz or a folder with Chart.yaml and values.yaml, where Chart.yaml says `name: jupyterhub`",
        hint="`helm pull jupyterhub/jupyterhub --version VERSION` fetches it",
    )


_WANTED = ("Chart.yaml", "values.yaml")


def _files_of(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield the files of a chart that are read, and those of the charts in it."""
    if path.is_dir():
        for pattern in ("", "charts/*/"):
            for file in (f for name in _WANTED for f in path.glob(f"{pattern}{name}")):
                yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()
        for packed in path.glob("charts/*.tgz"):
            yield from ((PurePosixPath("charts") / name, text) for name, text in _files_of(packed))
        return
    with tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            content = archive.extractfile(member) if member.isfile() and name.name in _WANTED else None
            if content is not None:
                yield name, content.read(_LARGEST)


_LARGEST = 1024 * 1024
"""How many bytes of a file are read; values.yaml of the chart has about 20,000."""
