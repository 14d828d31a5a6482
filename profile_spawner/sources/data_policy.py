"""What documents may ask for. They are data, often written by others than the hub's administrators.

Only settings that are known to be harmless may be overridden, and nothing inside them may name service accounts, host
paths, privileged settings or Secrets, unless the hub's configuration allows exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from profile_spawner.errors import PolicyError

__all__ = ["HARMLESS_OVERRIDES", "DataPolicy", "Refusal"]

HARMLESS_OVERRIDES = frozenset(
    {
        "args", "cmd", "common_labels", "container_name", "cpu_guarantee", "cpu_limit", "default_url", "display_name",
        "environment", "extra_annotations", "extra_container_config", "extra_containers", "extra_labels",
        "extra_resource_guarantees", "extra_resource_limits", "gid", "http_timeout", "image", "image_pull_policy",
        "image_pull_secrets", "init_containers", "lifecycle_hooks", "mem_guarantee", "mem_limit",
        "node_affinity_preferred", "node_affinity_required", "node_selector", "notebook_dir",
        "pod_affinity_preferred", "pod_affinity_required", "pod_anti_affinity_preferred",
        "pod_anti_affinity_required", "port", "start_timeout", "storage_access_modes", "storage_capacity",
        "storage_class", "supplemental_gids", "tolerations", "uid", "volume_mounts", "volumes", "working_dir",
        "fs_gid", "container_security_context", "pod_security_context", "privileged", "allow_privilege_escalation",
        "service_account",
    }
)  # fmt: skip
"""The settings of KubeSpawner that documents may override. What stands in them is looked at as well."""

_VOLUME_TYPES = frozenset(
    {"configMap", "downwardAPI", "emptyDir", "ephemeral", "hostPath", "persistentVolumeClaim", "projected", "secret"}
)
_SERVICE_ACCOUNT = frozenset({"serviceaccount", "serviceaccountname"})
_HOST = frozenset({"hostnetwork", "hostpid", "hostipc", "hostport", "hostaliases", "nodename", "hostusers"})
_PRIVILEGES = frozenset({"privileged", "allowprivilegeescalation", "automountserviceaccounttoken"})
_CONTEXTS = frozenset({"procmount", "sysctls", "windowsoptions", "priorityclassname", "serviceaccounttoken"})
# Their keys are names of the author's own; only their values can ask for something.
_OWN_KEYS = frozenset(
    {
        "annotations", "data", "env", "environment", "extraannotations", "extralabels", "labels", "matchlabels",
        "nodeselector", "params", "podenvvars", "stringdata",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """Something that the policy does not allow.

    Attributes:
        path: Where it stands below the profile.
        message: What is not allowed.
        value: What was asked for, where it is no secret.
        hint: How the hub's configuration could allow it.
    """

    path: tuple[Any, ...]
    message: str
    value: Any = None
    hint: str = ""


@dataclass(frozen=True)
class DataPolicy:
    """What the hub's configuration allows to documents.

    Attributes:
        service_accounts: Service accounts that they may name.
        secrets: Secrets that they may name. For all others they cannot be used to read somebody's Secret.
        host_paths: Host paths that they may mount, with what is below.
        privileged: Whether privileged settings are left to the hub's Pod Security level alone.
        kinds: Kinds of further objects that they may bring; the hub's own policy still decides.
        override_keys: Further settings of KubeSpawner that they may override.
        unrestricted: Whether everything is allowed, as in a Python module.
    """

    service_accounts: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    host_paths: frozenset[str] = frozenset()
    privileged: bool = False
    kinds: frozenset[str] = frozenset({"ConfigMap", "PersistentVolumeClaim", "Service"})
    override_keys: frozenset[str] = frozenset()
    unrestricted: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], kind: str) -> DataPolicy:
        """Read the configuration: the fields for all documents, and for one kind of source below its name.

        Raises:
            PolicyError: for a field that does not exist, naming those that do.
        """
        known = {f.name for f in fields(cls)}
        flat = {k: v for k, v in settings.items() if k not in ("documents", "config_maps")}
        flat.update(settings.get(kind) or {})
        values: dict[str, Any] = {}
        for name, value in flat.items():
            if name not in known:
                raise PolicyError("data_policy has no such field", field=name, expected=", ".join(sorted(known)))
            values[name] = value if isinstance(value, bool) else frozenset([value] if isinstance(value, str) else value)
        return cls(**values)

    def refusals(self, profile: Any) -> Iterator[Refusal]:
        """Yield everything in a profile, as it was written, that is not allowed."""
        if self.unrestricted or not isinstance(profile, Mapping):
            return
        yield from self._overrides(profile, ())
        for key in ("secret_mounts", "image_pull_secrets"):
            for number, item in enumerate(_list(profile.get(key))):
                if isinstance(item, Mapping) and item.get("data") is not None:
                    continue  # a new one, made of what the document brings
                name = item.get("name") if isinstance(item, Mapping) else item
                yield from self._secret(name, (key, number))
        for number, name in enumerate(_list(profile.get("env_from_secrets"))):
            yield from self._secret(name, ("env_from_secrets", number))
        if profile.get("role_bindings"):
            yield from self._kind("RoleBinding", ("role_bindings",))
        for number, manifest in enumerate(_list(profile.get("manifests"))):
            for index, item in enumerate(_list(manifest.get("content")) if isinstance(manifest, Mapping) else ()):
                kind = item.get("kind") if isinstance(item, Mapping) else None
                yield from self._kind(kind, ("manifests", number, "content", index))
        yield from self._walk(profile, ())

    def _overrides(self, value: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        """Look at every `kubespawner_override`: of the profile, of its options and their choices."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in ("kubespawner_override", "kubespawner_override_off") and isinstance(item, Mapping):
                    for name in item:
                        if name not in HARMLESS_OVERRIDES and name not in self.override_keys:
                            yield Refusal(
                                (*path, key, name),
                                "this setting may not be overridden by a document",
                                hint=f'To allow it: data_policy = {{"override_keys": ["{name}"]}}',
                            )
                    yield from self._volumes(item, (*path, key))
                elif key in ("options", "profile_options", "choices", "unlisted_choice") or path:
                    yield from self._overrides(item, (*path, key))

    def _volumes(self, override: Mapping[str, Any], path: tuple[Any, ...]) -> Iterator[Refusal]:
        for number, volume in _numbered(override.get("volumes")):
            for kind in volume if isinstance(volume, Mapping) else ():
                if kind != "name" and _camel(kind) not in _VOLUME_TYPES:
                    yield Refusal((*path, "volumes", number, kind), "documents may not use this type of volume")

    def _walk(self, value: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        """Look at all keys below, wherever they stand: overrides and manifests nest them in many ways."""
        if isinstance(value, Mapping):
            own = bool(path) and str(path[-1]).replace("_", "").lower() in _OWN_KEYS
            for key, item in value.items():
                here = (*path, key)
                if not own:
                    yield from self._item(str(key), item, here)
                yield from self._walk(item, here)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                yield from self._walk(item, (*path, number))

    def _item(self, key: str, item: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        name = key.replace("_", "").lower()
        if name in _SERVICE_ACCOUNT:
            if item and item not in self.service_accounts:
                hint = f'To allow it: data_policy = {{"service_accounts": ["{item}"]}}'
                yield Refusal(path, "a document may not name this service account", item, hint)
        elif name == "hostpath":
            yield from self._host_path(item.get("path") if isinstance(item, Mapping) else item, path)
        elif name in _HOST:
            if item:
                yield Refusal(path, "a document may not use the host", item)
        elif "secret" in name:
            yield from self._secrets(name, item, path)
        elif not self.privileged and _is_privilege(name, item):
            hint = 'To leave it to the Pod Security level: data_policy = {"privileged": True}'
            yield Refusal(path, "a document may not ask for this privilege", None, hint)

    def _secrets(self, name: str, item: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if name in ("secretkeyref", "secretref", "fromsecret") and isinstance(item, Mapping):
            yield from self._secret(item.get("name"), (*path, "name"))
        elif name == "secret" and isinstance(item, Mapping):
            yield from self._secret(item.get("secretName") or item.get("secret_name") or item.get("name"), path)
        elif name == "secret" and isinstance(item, str):
            yield from self._secret(item, path)  # the value of a secure param
        elif name == "imagepullsecrets" and len(path) > 1:
            for number, pull in _numbered(item):
                yield from self._secret(pull.get("name") if isinstance(pull, Mapping) else pull, (*path, number))

    def _host_path(self, found: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        parts = str(found).split("/")
        for allowed in self.host_paths:
            if ".." not in parts and (found == allowed or str(found).startswith(allowed.rstrip("/") + "/")):
                return
        hint = f'To allow it: data_policy = {{"host_paths": ["{found}"]}}'
        yield Refusal(path, "a document may not mount paths of the host", found, hint)

    def _secret(self, name: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if name not in self.secrets:
            hint = f'To allow it: data_policy = {{"secrets": ["{name}"]}}'
            yield Refusal(path, "a document may not name this Secret", name, hint)

    def _kind(self, kind: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if kind not in self.kinds:
            hint = f'To allow it: data_policy = {{"kinds": [..., "{kind}"]}}'
            yield Refusal(path, "a document may not bring objects of this kind", kind, hint)


def _is_privilege(name: str, item: Any) -> bool:
    if name == "capabilities":
        return isinstance(item, Mapping) and bool(item.get("add"))
    return (name in _PRIVILEGES and item not in (False, None)) or (name in _CONTEXTS and bool(item))


def _camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(r.upper() if r == "api" else r.title() for r in rest)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _numbered(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield items with their keys: lists may be given as mappings too."""
    if isinstance(value, Mapping):
        yield from value.items()
    else:
        yield from enumerate(_list(value))
