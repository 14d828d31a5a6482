"""The data policy: what documents may request. Often their authors are not the hub's administrators.

Documents may override only settings that are known to be safe. The values must not contain service accounts, host
paths, privileged settings or Secrets, unless the hub's configuration allows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from profile_spawner.errors import Origin, PolicyError
from profile_spawner.params.definition import is_template

__all__ = ["HARMLESS_OVERRIDES", "DataPolicy", "Refusal", "camel", "dotted"]

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
"""The settings of KubeSpawner that documents may override. Their values are checked too."""

_SOURCES = ("documents", "config_maps")
_OVERRIDES = ("kubespawner_override", "kubespawner_override_off")
_OPTIONS = ("options", "profile_options")
_HUB_FILES = ("bash_login_path", "bashrc_path", "init_script_path")
_VOLUME_TYPES = frozenset(
    {"configMap", "downwardAPI", "emptyDir", "ephemeral", "hostPath", "persistentVolumeClaim", "projected", "secret"}
)
_OTHER_VOLUMES = frozenset(
    {
        "azuredisk", "azurefile", "cephfs", "cinder", "csi", "flexvolume", "flocker", "gcepersistentdisk", "gitrepo",
        "glusterfs", "iscsi", "nfs", "portworxvolume", "quobyte", "rbd", "scaleio", "storageos", "vspherevolume",
    }
)  # fmt: skip
_SERVICE_ACCOUNT = frozenset({"serviceaccount", "serviceaccountname"})
_HOST = frozenset({"hostnetwork", "hostpid", "hostipc", "hostport", "hostaliases", "nodename", "hostusers"})
_PRIVILEGES = frozenset({"privileged", "allowprivilegeescalation", "automountserviceaccounttoken"})
_CONTEXTS = frozenset({"procmount", "sysctls", "windowsoptions", "priorityclassname", "serviceaccounttoken"})
# The keys of these mappings are free names, so only values that are not plain texts are checked.
_OWN_KEYS = frozenset(
    {
        "annotations", "binarydata", "commonlabels", "data", "env", "environment", "extraannotations", "extralabels",
        "labels", "matchlabels", "nodeselector", "podenvvars", "stringdata",
    }
)  # fmt: skip
# KubeSpawner also accepts mappings for these lists: it sorts the items by their keys.
_LISTS = frozenset(
    {
        "extra_containers", "init_containers", "node_affinity_preferred", "node_affinity_required",
        "pod_affinity_preferred", "pod_affinity_required", "pod_anti_affinity_preferred",
        "pod_anti_affinity_required", "tolerations", "volume_mounts", "volumes",
    }
)  # fmt: skip


_ICON = re.compile(
    r"[\w-]{0,64}"
    r"|data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]{1,65536}={0,2}"
    r"|(?:/(?!user/|services/)[\w-]{1,64}){0,4}/hub/static(?:/[\w-][\w.-]{0,127}){1,8}"
)


@dataclass(frozen=True)
class Refusal:
    """Something that the policy does not allow.

    Attributes:
        path: The path within the profile.
        message: What is not allowed.
        value: The value, if it is not secret.
        hint: How the hub's configuration can allow it.
    """

    path: tuple[Any, ...]
    message: str
    value: Any = None
    hint: str = ""

    def problem(self, profile: str, origin: Origin, field: str) -> PolicyError:
        """Convert the refusal to an error about a field of a profile."""
        return PolicyError(
            self.message, profile=profile, origin=origin, field=field, value=self.value, hint=self.hint or None
        )


@dataclass(frozen=True)
class DataPolicy:
    """What the hub's configuration allows documents to request.

    Attributes:
        service_accounts: Service accounts that documents may use.
        secrets: Secrets that documents may use. All other Secrets are refused.
        host_paths: Host paths that documents may mount, including the paths below them.
        privileged: Whether privileged settings are checked only against the hub's Pod Security level.
        kinds: Additional kinds of objects that documents may create. The hub's `Policy` is checked too.
        override_keys: Additional settings of KubeSpawner that documents may override.
        labels: Labels and annotations with a prefix that documents may set: names, or prefixes that end with `/`.
            Most names without a prefix are always allowed.
        claims: Claims that documents may mount, besides the user's home and the claims that the profile creates.
        unrestricted: Whether everything is allowed, as for Python modules.
    """

    service_accounts: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    host_paths: frozenset[str] = frozenset()
    privileged: bool = False
    kinds: frozenset[str] = frozenset({"ConfigMap", "PersistentVolumeClaim", "Service"})
    override_keys: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    unrestricted: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], kind: str) -> DataPolicy:
        """Create the policy for one kind of source. Fields below the name of the kind apply only to that kind.

        Raises:
            PolicyError: If a field does not exist (the message lists the valid fields) or a value has a wrong type.
        """
        common = cls._read({k: v for k, v in settings.items() if k not in _SOURCES})
        of_kind = {}
        for source in _SOURCES:
            given = settings.get(source) or {}
            if not isinstance(given, Mapping):
                raise PolicyError("data_policy takes a mapping here", field=source, expected="fields of data_policy")
            of_kind[source] = cls._read(given)
        return cls(**{**common, **of_kind.get(kind, {})})

    @classmethod
    def _read(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        defaults = {f.name: f.default for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in defaults:
                raise PolicyError("data_policy has no such field", field=name, expected=", ".join(sorted(defaults)))
            switch = isinstance(defaults[name], bool)
            names = [value] if isinstance(value, str) else value
            if switch and isinstance(value, bool):
                values[name] = value
            elif (
                not switch
                and isinstance(names, list | tuple | set | frozenset)
                and all(isinstance(item, str) and item for item in names)
            ):
                values[name] = frozenset(names)
            else:
                expected = "True or False" if switch else "a list of names"
                raise PolicyError("data_policy has a wrong value", field=name, value=value, expected=expected)
        return values

    def refusals(self, profile: Any) -> Iterator[Refusal]:
        """Yield everything in a profile of a document that is not allowed."""
        if self.unrestricted or not isinstance(profile, Mapping):
            return
        yield from self._overrides(profile, ())
        icon = profile.get("icon")
        if isinstance(icon, str) and not _ICON.fullmatch(icon):
            message = "every browser would fetch this icon: name a shipped one, a data:image/ or a static file"
            yield Refusal(("icon",), message, icon)
        for key in ("secret_mounts", "image_pull_secrets"):
            for number, item in enumerate(_list(profile.get(key))):
                if isinstance(item, Mapping) and item.get("data") is not None:
                    continue  # a new Secret, created from the document's own content
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
        for key in _HUB_FILES:
            if isinstance(profile.get(key), Mapping):
                yield Refusal((key,), "a document may not take a file from a param: it would be one of the hub's")
        yield from self._walk(profile, ())

    def param_refusals(self, name: str, default: Any, schema: Any) -> Iterator[Refusal]:
        """Yield everything in the definition of a param that could give it a value that is not allowed."""
        for value in (default, *_listed(schema)):
            yield from self.refusals({"params": {name: value}})

    def _overrides(self, value: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        """Check every `kubespawner_override`: of the profile, of its options and of their choices."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in _OVERRIDES and isinstance(item, Mapping):
                    for name in item:
                        if name not in HARMLESS_OVERRIDES and name not in self.override_keys:
                            yield Refusal(
                                (*path, key, name),
                                "this setting may not be overridden by a document",
                                hint=f'To allow it: data_policy = {{"override_keys": ["{name}"]}}',
                            )
                    if item.get("storage_class") == "":
                        message = "a new claim may not take an existing disk: name a class, or none"
                        yield Refusal((*path, key, "storage_class"), message)
                    yield from self._volumes(item, (*path, key))
                elif key in _OPTIONS or path:
                    yield from self._overrides(item, (*path, key))

    def _volumes(self, override: Mapping[str, Any], path: tuple[Any, ...]) -> Iterator[Refusal]:
        for number, volume in _numbered(override.get("volumes")):
            for kind in volume if isinstance(volume, Mapping) else ():
                if kind != "name" and camel(kind) not in _VOLUME_TYPES:
                    yield Refusal((*path, "volumes", number, kind), "documents may not use this type of volume")

    def _walk(self, value: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        """Check all keys at any depth, because overrides and manifests nest them in different ways."""
        if isinstance(value, Mapping):
            names = _has_names(path)
            own = not names and bool(path) and _word(path[-1]) in _OWN_KEYS and not _has_names(path[:-1])
            for key, item in value.items():
                here = (*path, key)
                if not (names or (own and _is_text(item, path))):
                    if "{" in str(key) and any(step in _OVERRIDES for step in path):
                        yield Refusal(here, "a document may not have such a key filled in by a choice")
                    yield from self._item(_word(key), item, here)
                yield from self._walk(item, here)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                yield from self._walk(item, (*path, number))

    def _item(self, name: str, item: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if name in _SERVICE_ACCOUNT:
            if item and not (isinstance(item, str) and item in self.service_accounts):
                yield Refusal(
                    path, "a document may not name this service account", item, _allow("service_accounts", item)
                )
        elif name == "hostpath":
            yield from self._host_path(item.get("path") if isinstance(item, Mapping) else item, path)
        elif name in _HOST:
            if item:
                yield Refusal(path, "a document may not use the host", item)
        elif name in _OTHER_VOLUMES and isinstance(item, Mapping):
            yield Refusal(path, "documents may not use this type of volume")
        elif "secret" in name:
            yield from self._secrets(name, item, path)
        elif not self.privileged and _is_privilege(name, item):
            hint = 'To leave it to the Pod Security level: data_policy = {"privileged": True}'
            yield Refusal(path, "a document may not ask for this privilege", None, hint)

    def _secrets(self, name: str, item: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if name == "imagepullsecrets":
            if len(path) > 1 and item:
                for number, pull in _numbered(item if isinstance(item, Mapping | list | tuple) else [item]):
                    yield from self._secret(pull.get("name") if _is_map(pull) else pull, (*path, number))
        elif name == "secretname":
            if len(path) < 2 or _word(path[-2]) != "secret":  # otherwise it was already checked
                yield from self._secret(item, path)
        elif (name in ("secret", "fromsecret") or name.endswith(("secretref", "secretkeyref"))) and item is not None:
            # A text is the value of a secure param, or is replaced with the whole reference.
            names = [v for k, v in item.items() if _word(k) in ("name", "secretname")] if _is_map(item) else [item]
            for found in names or [None]:
                yield from self._secret(found, path)

    def _host_path(self, found: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if isinstance(found, str) and ".." not in found.split("/"):
            for allowed in self.host_paths:
                if found == allowed or found.startswith(allowed.rstrip("/") + "/"):
                    return
        yield Refusal(path, "a document may not mount paths of the host", found, _allow("host_paths", found))

    def _secret(self, name: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if not (isinstance(name, str) and name in self.secrets):
            yield Refusal(path, "a document may not name this Secret", name, _allow("secrets", name))

    def _kind(self, kind: Any, path: tuple[Any, ...]) -> Iterator[Refusal]:
        if not (isinstance(kind, str) and kind in self.kinds):
            hint = f'To allow it: data_policy = {{"kinds": [..., "{kind}"]}}'
            yield Refusal(path, "a document may not bring objects of this kind", kind, hint)


def _allow(field: str, name: Any) -> str:
    if isinstance(name, str):
        return f'To allow it: data_policy = {{"{field}": ["{name}"]}}'
    return f"Write the name itself, one of {field} in data_policy"


def _has_names(path: tuple[Any, ...]) -> bool:
    """Return whether the keys of the mapping at `path` are free names, not settings."""
    if path in (("env",), ("pod_env_vars",), ("params",), ("options",), ("profile_options",)):
        return True
    if len(path) == 3 and path[0] in _OPTIONS and path[2] == "choices":
        return True
    at = next((i for i, step in enumerate(path) if step in _OVERRIDES), -1)
    if at != len(path) - 2 or (at > 0 and path[0] not in _OPTIONS):
        return False
    return path[-1] == "environment" or path[-1] in _LISTS


def _is_text(item: Any, path: tuple[Any, ...]) -> bool:
    """Return whether a value stays a text. In values of params, a text with a reference may become a mapping."""
    return not isinstance(item, Mapping | list | tuple) and not (path[0] == "params" and is_template(item))


def _is_privilege(name: str, item: Any) -> bool:
    if name == "capabilities":
        return any(v for k, v in item.items() if k != "drop") if _is_map(item) else bool(item)
    return (name in _PRIVILEGES and item not in (False, None)) or (name in _CONTEXTS and bool(item))


def _listed(schema: Any) -> Iterator[Any]:
    """Yield the values that a JSON Schema lists; a user's choice becomes one of them."""
    if isinstance(schema, Mapping):
        for key, item in schema.items():
            if key in ("const", "default", "enum", "examples"):
                yield item
            yield from _listed(item)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from _listed(item)


def _word(key: Any) -> str:
    return str(key).replace("_", "").lower()


def _is_map(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def camel(key: str) -> str:
    """Convert a field name of the Python client (snake case) to Kubernetes' name (camel case)."""
    head, *rest = key.split("_")
    return head + "".join(r.upper() if r == "api" else r.title() for r in rest)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _numbered(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield items with their keys, or indexes for a list. Lists may be written as mappings."""
    if isinstance(value, Mapping):
        yield from value.items()
    else:
        yield from enumerate(_list(value))


def dotted(path: Sequence[Any]) -> str:
    """Return a path in the form that messages use."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
