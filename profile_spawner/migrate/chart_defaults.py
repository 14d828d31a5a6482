"""The defaults of the Zero to JupyterHub chart, as far as they reach the pods of users, and the keys of its values.

The table is that of chart 4.3 to 4.4: in what concerns pods, these versions are equal. The values.yaml of another
version can be read from the chart itself.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import Origin, SourceError
from profile_spawner.profiles.yaml_text import parse_yaml

__all__ = ["MOVED", "SIZE", "ChartDefaults", "Shape", "known_defaults", "read_chart"]

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

Shape = Any
"""What a value may be: a mapping of known keys to their shapes, where `*` stands for all others; `{}` is a mapping of
any keys, `[]` a list, or a mapping instead of one; `""` a text, `0` a whole number, `0.5` a number, `False` a truth
value; a tuple lists all values, `SIZE` is an amount of memory, and `None` is anything."""


def _each(names: str, shape: Shape) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), shape)


_TEXTS: Shape = {"*": ""}
SIZE = "4G"
"""The shape of an amount of memory."""
_IMAGE: Shape = {"name": "", "tag": "", "pullPolicy": ("", "IfNotPresent", "Always", "Never"), "pullSecrets": []}
_ACCOUNT: Shape = {"create": False, "name": "", "annotations": _TEXTS}
_BUDGET: Shape = {"enabled": False, "maxUnavailable": None, "minAvailable": None}
_FAMILIES: Shape = {"ipFamilyPolicy": "", "ipFamilies": []}
_STRATEGY: Shape = {"type": "", "rollingUpdate": None}
_SERVICE = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_FILES: Shape = {"*": {"mountPath": "", "data": {}, "stringData": "", "binaryData": "", "mode": 0}}
_HOOKS: Shape = {"postStart": {}, "preStop": {}}
_AFFINITY: Shape = {"required": [], "preferred": []}
_PURPOSE: Shape = {"tolerations": [], "nodeAffinity": {"matchNodePurpose": ("ignore", "prefer", "require")}}
_NETWORK: Shape = {
    "enabled": False,
    "ingress": [],
    "egress": [],
    "egressAllowRules": {
        **_each("cloudMetadataServer nonPrivateIPs privateIPs", False),
        **_each("dnsPortsCloudMetadataServer dnsPortsKubeSystemNamespace dnsPortsPrivateIPs", False),
    },
    "interNamespaceAccessLabels": ("accept", "ignore"),
    "allowedIngressPorts": [],
}
_CONTAINER: Shape = {"image": _IMAGE, "resources": {}, "containerSecurityContext": {}}
_PLACED: Shape = {"nodeSelector": {}, "tolerations": []}
_POD: Shape = {**_CONTAINER, **_PLACED, "revisionHistoryLimit": 0, "pdb": _BUDGET, "extraPodSpec": {}}
_SERVED: Shape = {**_POD, "networkPolicy": _NETWORK, "extraEnv": None}
_PROBES: Shape = {"livenessProbe": {}, "readinessProbe": {}}
_EXTRA_VOLUMES: Shape = {"extraVolumes": [], "extraVolumeMounts": []}
_SHAPE: Shape = {
    "enabled": None,
    "fullnameOverride": "",
    "nameOverride": "",
    "imagePullSecret": {
        **_each("create automaticReferenceInjection", False),
        **_each("registry username password email", ""),
    },
    "imagePullSecrets": [],
    "hub": {
        **_SERVED,
        **_PROBES,
        **_EXTRA_VOLUMES,
        **_each("config extraConfig loadRoles services templateVars podSecurityContext", {}),
        **_each("args command extraContainers initContainers templatePaths", []),
        **_each("baseUrl cookieSecret existingSecret", ""),
        **_each("activeServerLimit concurrentSpawnLimit consecutiveFailureLimit", 0),
        **_each("allowNamedServers authenticatePrometheus redirectToServer shutdownOnLogout", False),
        "namedServerLimitPerUser": None,
        "annotations": _TEXTS,
        "labels": _TEXTS,
        "db": {
            "type": ("sqlite-pvc", "sqlite-memory", "mysql", "postgres", "other"),
            "upgrade": False,
            "url": "",
            "password": "",
            "pvc": {
                **_each("storage storageClassName subPath", ""),
                "annotations": _TEXTS,
                "selector": {},
                "accessModes": [],
            },
        },
        "deploymentStrategy": _STRATEGY,
        "extraFiles": _FILES,
        "lifecycle": _HOOKS,
        "service": {
            **_FAMILIES,
            "type": _SERVICE,
            "annotations": _TEXTS,
            "ports": {"nodePort": 0, "appProtocol": ""},
            "extraPorts": [],
            "loadBalancerIP": "",
        },
        "serviceAccount": _ACCOUNT,
    },
    "rbac": {"create": False},
    "proxy": {
        "secretToken": "",
        "annotations": _TEXTS,
        "labels": _TEXTS,
        "deploymentStrategy": _STRATEGY,
        "service": {
            **_FAMILIES,
            "type": _SERVICE,
            "labels": _TEXTS,
            "annotations": _TEXTS,
            "nodePorts": {"http": 0, "https": 0},
            "disableHttpPort": False,
            "loadBalancerIP": "",
            **_each("extraPorts externalIPs loadBalancerSourceRanges", []),
        },
        "chp": {**_SERVED, **_PROBES, "extraCommandLineFlags": [], "defaultTarget": "", "errorTarget": ""},
        "traefik": {
            **_SERVED,
            **_EXTRA_VOLUMES,
            "labels": _TEXTS,
            "hsts": {"includeSubdomains": False, "preload": False, "maxAge": 0},
            **_each("extraInitContainers extraPorts", []),
            **_each("extraDynamicConfig extraStaticConfig", {}),
            "serviceAccount": _ACCOUNT,
        },
        "secretSync": _CONTAINER,
        "https": {
            "enabled": False,
            "type": ("", "letsencrypt", "manual", "offload", "secret"),
            "letsencrypt": {"contactEmail": "", "acmeServer": ""},
            "manual": {"key": "", "cert": ""},
            "secret": {"name": "", "key": "", "crt": ""},
            "hosts": [],
        },
    },
    "singleuser": {
        **_each("extraPodConfig nodeSelector", {}),
        **_each("extraContainers extraTolerations initContainers", []),
        **_each("allowPrivilegeEscalation events", False),
        **_each("defaultUrl podNameTemplate serviceAccountName", ""),
        **_each("fsGid startTimeout uid", 0),
        **_each("extraNodeAffinity extraPodAffinity extraPodAntiAffinity", _AFFINITY),
        **_each("extraAnnotations extraLabels", _TEXTS),
        **_each("cmd extraEnv profileList", None),
        "cloudMetadata": {"blockWithIptables": False, "ip": ""},
        "cpu": {"limit": 0.5, "guarantee": 0.5},
        "memory": {"limit": SIZE, "guarantee": SIZE},
        "extraResource": {"limits": {}, "guarantees": {}},
        "extraFiles": _FILES,
        "image": _IMAGE,
        "lifecycleHooks": _HOOKS,
        "networkPolicy": _NETWORK,
        "networkTools": {"image": _IMAGE, "resources": {}},
        "storage": {
            **_EXTRA_VOLUMES,
            "type": ("dynamic", "static", "none"),
            "capacity": "",
            "homeMountPath": "",
            "extraLabels": _TEXTS,
            "static": {"pvcName": "", "subPath": ""},
            "dynamic": {
                **_each("pvcNameTemplate storageClass subPath volumeNameTemplate", ""),
                "storageAccessModes": [],
            },
        },
    },
    "scheduling": {
        "userScheduler": {
            **_POD,
            "enabled": False,
            "replicas": 0,
            "logLevel": 0,
            "annotations": _TEXTS,
            "labels": _TEXTS,
            "plugins": {},
            "pluginConfig": [],
            "serviceAccount": _ACCOUNT,
        },
        "podPriority": {
            "enabled": False,
            "globalDefault": False,
            **_each("defaultPriority imagePullerPriority userPlaceholderPriority", 0),
        },
        "userPlaceholder": {
            **_CONTAINER,
            "enabled": False,
            "replicas": 0,
            "revisionHistoryLimit": 0,
            "annotations": _TEXTS,
            "labels": _TEXTS,
            "extraPodSpec": {},
        },
        "corePods": _PURPOSE,
        "userPods": _PURPOSE,
    },
    "ingress": {
        "enabled": False,
        "annotations": _TEXTS,
        **_each("ingressClassName pathSuffix", ""),
        **_each("extraPaths hosts tls", []),
        "pathType": ("Prefix", "Exact", "ImplementationSpecific"),
    },
    "httpRoute": {
        "enabled": False,
        "annotations": _TEXTS,
        "hostnames": [],
        "gateway": {"name": "", "namespace": "", "sectionName": ""},
    },
    "prePuller": {
        "revisionHistoryLimit": 0,
        "annotations": _TEXTS,
        "labels": _TEXTS,
        "resources": {},
        "containerSecurityContext": {},
        "extraTolerations": [],
        "hook": {
            **_CONTAINER,
            **_PLACED,
            "enabled": False,
            "pullOnlyOnChanges": False,
            "podSchedulingWaitDuration": 0,
            "daemonsetAnnotations": _TEXTS,
            "serviceAccount": _ACCOUNT,
            "serviceAccountImagePuller": _ACCOUNT,
        },
        "continuous": {"enabled": False, "daemonsetAnnotations": _TEXTS, "serviceAccount": _ACCOUNT},
        "pullProfileListImages": False,
        "extraImages": {"*": {"name": "", "tag": "", "pullPolicy": _IMAGE["pullPolicy"]}},
        "pause": {"image": _IMAGE, "containerSecurityContext": {}},
    },
    "cull": {
        **_each("enabled users adminUsers removeNamedServers", False),
        **_each("timeout every concurrency maxAge", 0),
    },
    "debug": {"enabled": False},
    **_each("custom global", {}),
    **_each("Chart Release", {}),  # in the values that a running hub has
}

_TO_STORAGE = "Write it as singleuser.storage.{}"
_TO_CHP = "Write it as proxy.chp.{}: the proxy's own settings are there"
_TO_SECRETS = (
    "Write imagePullSecret to make a Secret, or imagePullSecrets for those that exist, at the top of the values"
)
MOVED: Mapping[str, str] = {
    "auth": "Write its settings below hub.config: auth.type is hub.config.JupyterHub.authenticator_class",
    "hub.admin": "Write it as hub.config.Authenticator.admin_users",
    "hub.extraConfigMap": "Write it as custom",
    "hub.extraLabels": "Write it as hub.labels",
    "hub.extraTolerations": "Write it as hub.tolerations",
    "hub.fsGid": "Write it as hub.podSecurityContext.fsGroup",
    "hub.imagePullPolicy": "Write it as hub.image.pullPolicy",
    "hub.imagePullSecret": _TO_SECRETS,
    "hub.serviceAccountName": "Write it as hub.serviceAccount.name",
    "hub.uid": "Write it as hub.containerSecurityContext.runAsUser",
    "ingress.paths": "Write it as ingress.extraPaths",
    "ingress.className": "Write it as ingress.ingressClassName",
    "proxy.containerSecurityContext": _TO_CHP.format("containerSecurityContext"),
    "proxy.image": _TO_CHP.format("image"),
    "proxy.networkPolicy": _TO_CHP.format("networkPolicy"),
    "proxy.nodeSelector": _TO_CHP.format("nodeSelector"),
    "proxy.pdb": _TO_CHP.format("pdb"),
    "proxy.resources": _TO_CHP.format("resources"),
    "proxy.tolerations": _TO_CHP.format("tolerations"),
    "proxy.type": "Write it as proxy.service.type",
    "rbac.enabled": "Write it as rbac.create, and serviceAccount.create of each part",
    "singleuser.affinity": "Write it as extraNodeAffinity, extraPodAffinity or extraPodAntiAffinity",
    "singleuser.cloudMetadata.enabled": "Write cloudMetadata.blockWithIptables, which means the opposite",
    "singleuser.env": "Write it as singleuser.extraEnv",
    "singleuser.extraResourceGuarantees": "Write it as singleuser.extraResource.guarantees",
    "singleuser.extraResourceLimits": "Write it as singleuser.extraResource.limits",
    "singleuser.extraVolumeMounts": _TO_STORAGE.format("extraVolumeMounts"),
    "singleuser.extraVolumes": _TO_STORAGE.format("extraVolumes"),
    "singleuser.imagePullPolicy": "Write it as singleuser.image.pullPolicy",
    "singleuser.imagePullSecret": _TO_SECRETS,
    "singleuser.imagePullSecrets": "Write it as singleuser.image.pullSecrets",
    "singleuser.resources": "Write it as singleuser.memory, singleuser.cpu and singleuser.extraResource",
    "singleuser.schedulerStrategy": "Write scheduling.userScheduler.enabled",
    "singleuser.serviceAccount": "Write it as singleuser.serviceAccountName",
    "singleuser.storage.class": _TO_STORAGE.format("dynamic.storageClass"),
    "singleuser.storage.dynamic.capacity": _TO_STORAGE.format("capacity"),
    "singleuser.storage.size": _TO_STORAGE.format("capacity"),
    "singleuser.storage.storageClass": _TO_STORAGE.format("dynamic.storageClass"),
    "singleuser.tolerations": "Write it as singleuser.extraTolerations",
    "image.repository": "Write it as image.name",
}
"""Where to write what stands at a path that the chart does not know, of old versions and other charts.

A path of which no beginning is known is looked up by its last two keys as well.
"""


@dataclass(frozen=True)
class ChartDefaults:
    """The defaults of one version of the chart.

    Attributes:
        values: What its values.yaml says; of the built-in table, the part that reaches pods.
        version: The version, such as `4.4.0`.
        described: How the version is named in messages.
        shape: What the chart's schema allows.
    """

    values: Mapping[str, Any]
    version: str
    described: str
    shape: Shape = field(default_factory=lambda: _SHAPE)


known_defaults = ChartDefaults(MappingProxyType(_VALUES), _NEWEST, "4.3 to 4.4")
"""The built-in table."""


def _with_keys_of(values: Mapping[str, Any], shape: Shape) -> Shape:
    """Return a shape in which what a chart without a schema has in its values.yaml may stand too."""
    below = {k: _with_keys_of(v, shape[k]) for k, v in values.items() if isinstance(v, Mapping) and shape.get(k)}
    return {**dict.fromkeys(values), **shape, **below}


def _shape_of(schema: Any) -> Shape:
    """Return what a JSON Schema of a chart's values allows, as far as a `Shape` can say it."""
    if not isinstance(schema, Mapping):
        return None
    if isinstance(schema.get("enum"), list):
        return tuple(value for value in schema["enum"] if value is not None)
    kinds = schema.get("type")
    known = {kind for kind in ([kinds] if isinstance(kinds, str) else kinds or ()) if kind != "null"}
    if known == {"number", "string"}:
        return SIZE
    if len(known) != 1:
        return None
    (kind,) = known
    if kind != "object":
        return {"array": [], "string": "", "integer": 0, "number": 0.5, "boolean": False}.get(kind)
    shape = {key: _shape_of(below) for key, below in (schema.get("properties") or {}).items()}
    for below in (schema.get("patternProperties") or {}).values():
        shape["*"] = _shape_of(below)
    if shape and schema.get("additionalProperties", True) is not False:
        shape.setdefault("*", None)
    return shape


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
        schema = files.get(name.with_name("values.schema.json"))
        try:
            shape = _shape_of(json.loads(schema)) if schema is not None else _with_keys_of(found, _SHAPE)
        except ValueError as e:
            raise SourceError(f"the chart's values.schema.json cannot be read: {e}", origin=Origin(place)) from None
        return ChartDefaults(found, version, version, shape)
    raise SourceError(
        "this is not the chart of Zero to JupyterHub",
        field="--chart",
        value=str(path),
        expected="a .tgz or a folder with Chart.yaml and values.yaml, where Chart.yaml says `name: jupyterhub`",
        hint="`helm pull jupyterhub/jupyterhub --version VERSION` fetches it",
    )


_WANTED = ("Chart.yaml", "values.yaml", "values.schema.json")


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
