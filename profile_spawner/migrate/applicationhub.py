"""The file that the EOEPCA configurator writes and the ApplicationHub reads: `config.yml`.

The models and defaults are those of app-hub-configurator 0.1.1. Unknown keys cause a warning and are omitted, because
the ApplicationHub ignores them. One bug of its runtime is not copied: here, a profile without volumes keeps its role
bindings, pull secrets and init containers.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError, ProfileSpawnerError, SourceError, did_you_mean
from profile_spawner.names import slugify
from profile_spawner.params.definition import REFERENCE, ParamRef, SecretRef
from profile_spawner.params.templates import references_in, to_text
from profile_spawner.policy.kinds import BY_KIND
from profile_spawner.profiles.access import Access
from profile_spawner.profiles.attributes import ATTRIBUTES
from profile_spawner.profiles.base import BaseAppProfile, make_profile
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.context import FACTS
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.resources import ConfigMap, Manifest, Verb, Volume
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.profiles.user_text import each_text
from profile_spawner.profiles.yaml_text import parse_yaml
from profile_spawner.sources.configurator.fact_names import FACT_NAMES
from profile_spawner.sources.configurator.kube_names import NameMender, volume_name
from profile_spawner.sources.importing import ready_made

from .dumping import Dump, class_of, hook_values, plain_model, template_profile, text_of

__all__ = ["read_config", "write_config"]

_HOME = "/workspace"
_INIT_MOUNT = "/opt/init/.init.sh"
_INIT_NAME = "init-file-on-volume"
_VERBS = [verb for verb in Verb if verb is not Verb.every]
_INIT_COMMANDS = (["sh", "-c", f"sh {_INIT_MOUNT}"], ["sh", _INIT_MOUNT])

# ------------------------------------------------------------------------------------------------ writing


async def write_config(snapshot: Snapshot, slugs: Sequence[str], groups: Sequence[str]) -> Dump:
    """Return these profiles as the ApplicationHub's configuration.

    What the file cannot express causes a warning. A profile that would be available to more users there is omitted.

    Args:
        snapshot: The loaded profiles.
        slugs: The profiles to write, in this order.
        groups: The groups for profiles that are available to all users here. There, every profile needs a group.
    """
    dump = Dump()
    profiles = []
    for slug in slugs:
        entry = snapshot.entries[slug]
        if not isinstance(entry.profile, ClassProfile):
            dump.warnings.append(f"{slug} is left out: it is an entry of a profile_list")
        elif why := _unrestricted(entry.profile.access()):
            dump.warnings.append(f"{slug} is left out: the ApplicationHub knows groups only, and {why}")
        else:
            try:
                profiles.append(await _profile(snapshot, entry, groups, dump))
            except ProfileSpawnerError as e:
                dump.warnings.append(f"{slug} is left out: {e}")
    dump.document = {"profiles": profiles}
    return dump


def _unrestricted(access: Access) -> str:
    """Return why a profile would be open to more people there; nothing when it would not."""
    if access.hook is not None:
        return "is_available_to() decides who may use it"
    return "allowed_users names its users" if access.users is not None and access.groups is None else ""


_HELD = frozenset(
    {
        "slug", "display_name", "description", "default", "image", "cpu_guarantee", "cpu_limit", "mem_guarantee",
        "mem_limit", "extra_resource_limits", "extra_resource_guarantees", "default_url", "home_dir", "pod_env_vars",
        "node_selector", "allowed_groups",
    }
)  # fmt: skip
"""The attributes that have a counterpart."""
_TOLD_APART = frozenset({"kubespawner_override", "profile_options"})
"""Attributes whose parts are reported."""


def _tell_lost(instance: BaseAppProfile, values: Mapping[str, Any], entry: Entry, dump: Dump) -> None:
    """Add warnings about what the file cannot express."""
    lost = [
        name
        for name, attribute in ATTRIBUTES.items()
        if name not in _HELD | _TOLD_APART
        and getattr(instance, name) != attribute.default
        # What is neither a trait nor of the page is a part of the files and volumes.
        and (attribute.trait or attribute.plain or attribute.default is not None)
    ]
    if instance.home_dir is not None and not instance.is_of_other_format():
        lost.append("home_dir as the working directory (HOME is written)")
    lost += [f"kubespawner_override.{key}" for key in values["kubespawner_override"]]
    lost += [f"several files in ConfigMap {m.name}" for m in values["config_maps"] if len(m.files()) != 1]
    lost += [f"env of init container {c.name}" for c in values["init_containers"] if c.env]
    lost += [f"read_only of volume {v.name}" for v in values["volumes"] if v.volume_mount.read_only]
    lost += [f"optional of secret mount {m.name}" for m in values["secret_mounts"] if m.optional]
    lost += [f"{k} from a Secret" for k, v in values["pod_env_vars"].items() if _of_secret(v)]
    lost += [f"the value of pull secret {s.name}" for s in values["image_pull_secrets"] if getattr(s, "data", None)]
    lost += [f"Secret {d['metadata']['name']}" for m in values["manifests"] for d in m.content if _is_secret(d)]
    roles = [b.role for b in values["role_bindings"] if Verb.every in b.role.verbs]
    lost += [f"'*' in role {r.name} ({', '.join(v.value for v in _VERBS)} are written)" for r in roles]
    if entry.offer.options:
        lost.append("options (their defaults are written)")
    dump.warnings += [f"{instance.slug}: the ApplicationHub's file cannot say: {what}" for what in lost]
    for param, names in _params_of(type(instance)).items():
        dump.warnings.append(f"{instance.slug}: {', '.join(names)}: the present value of the param {param} is written")
    dump.warnings += [f"{instance.slug}: {what}" for what in _not_as_there(type(instance))]


def _params_of(cls: type[BaseAppProfile]) -> dict[str, list[str]]:
    """Return the params from which a profile takes attributes, each with these."""
    found: dict[str, list[str]] = {}
    for name, attribute in ATTRIBUTES.items():
        for param in sorted(attribute.references(getattr(cls, name)) - {*FACTS, *FACT_NAMES}):
            found.setdefault(param, []).append(name)
    return found


def _not_as_there(cls: type[BaseAppProfile]) -> Iterator[str]:
    """Yield how a profile of the configurator's own, or one that derives from it, is different here."""
    if not any(c.__module__.partition(".")[0] == "configurator" for c in cls.__mro__):
        if cls.slug in ready_made() and _takes(cls, "slug"):
            yield "this is a profile of this project; the configurator's own one needs --configurator-compat"
        return
    if _takes(cls, "get_manifests"):
        yield from (
            f"{what} of the configurator's own profile is not written" for what in getattr(cls, "NOT_INCLUDED", ())
        )
    names = ("bash_login_path", "bashrc_path", "init_script_path")
    files = [n for n in names if _takes(cls, n) and getattr(cls, n) is not None]
    if files := [*files, *(what for n, what in getattr(cls, "SHORTER_FILES", {}).items() if _takes(cls, n))]:
        yield f"the start-up files are not those of the configurator, which are longer: {', '.join(files)}"


def _takes(cls: type[BaseAppProfile], name: str) -> bool:
    """Return whether a class has an attribute or a hook as this project has made it, and says nothing about it."""
    owner = next((c for c in cls.__mro__ if name in vars(c)), None)
    return owner is not None and owner.__module__.partition(".")[0] in ("profile_spawner", "configurator")


def _of_secret(value: Any) -> bool:
    return hasattr(value, "from_secret") or (isinstance(value, Mapping) and "from_secret" in value)


def _is_secret(document: Mapping[str, Any]) -> bool:
    return document.get("kind") == "Secret"


async def _profile(snapshot: Snapshot, entry: Entry, groups: Sequence[str], dump: Dump) -> dict[str, Any]:
    cls = class_of(entry)
    params = snapshot.resolve(entry.profile, None)
    profile = template_profile(snapshot, entry)
    values = await hook_values(profile)
    if not values["role_bindings"] and hasattr(cls, "get_workflow_role_bindings") and _takes(cls, "get_role_bindings"):
        # The family gives these roles there, and here only on request.
        values["role_bindings"] = getattr(profile, "get_workflow_role_bindings")()  # noqa: B009 - of a family only
        names = ", ".join(b.name for b in values["role_bindings"])
        dump.warnings.append(f"{cls.slug}: roles that the configurator's family gives there are written, too: {names}")
    instance = profile if cls.is_of_other_format() else make_profile(cls, params=params)
    values = {k: getattr(instance, k) if isinstance(v, ParamRef) else v for k, v in values.items()}
    existing, values["kubespawner_override"] = _existing_config_maps(values["kubespawner_override"])
    default_url = values["kubespawner_override"].pop("default_url", instance.default_url)
    used = {mount.name for container in values["init_containers"] for mount in container.volume_mounts}
    values["config_maps"] = [one for c in values["config_maps"] for one in ([c] if c.name in used else _files_of(c))]
    _tell_lost(instance, values, entry, dump)
    dashed = cls.slug.replace("_", "-")
    shell, init = ([], None) if cls.is_of_other_format() else _assets(instance, dashed)
    volumes = [_volume(v) for v in values["volumes"]]
    for volume in (v.name for v in values["volumes"] if v.storage_class is None):
        dump.warnings.append(f"{cls.slug}: storage_class of volume {volume} is required there; standard is written")
    containers = [_known("init_containers", plain_model(c)) for c in values["init_containers"]]
    if init:
        mounts = [v["volume_mount"] for v in volumes]
        mounts.append({"mount_path": _INIT_MOUNT, "name": init["name"], "sub_path": "init"})
        first = {"name": _INIT_NAME, "image": instance.image, "command": _INIT_COMMANDS[0], "volume_mounts": mounts}
        containers.insert(0, first)
    for container in containers:
        container.setdefault("image", instance.image)
    home = {"HOME": instance.home_dir} if instance.home_dir is not None else {}
    env = {k: v for k, v in {**home, **values["pod_env_vars"]}.items() if v is not None and not _of_secret(v)}
    maps = [*existing, *(_config_map(c) for c in values["config_maps"] if len(c.files()) == 1)]
    result: dict[str, Any] = {
        "config_maps": [*shell, *([init] if init else []), *maps],
        "default_url": default_url,
        "definition": {
            "default": bool(cls.default),
            "description": cls.description,
            "display_name": cls.display_name,
            "kubespawner_override": _resources(instance, values, dump),
            "slug": cls.slug,
        },
        "env_from_config_maps": list(values["env_from_config_maps"]),
        "env_from_secrets": list(values["env_from_secrets"]),
        "groups": list(groups) if cls.allowed_groups is None else sorted(cls.allowed_groups),
        "id": f"profile_{cls.slug}",
        "image_pull_secrets": [
            {"name": s, "persist": True}
            if isinstance(s, str)
            else {"persist": getattr(s, "persist", False), **plain_model(s)}
            for s in values["image_pull_secrets"]
        ],
        "init_containers": containers,
        "manifests": [_manifest(m) for m in values["manifests"]],
        "node_selector": dict(instance.node_selector),
        "pod_env_vars": {k: _env(v) for k, v in env.items()},
        "role_bindings": [_binding(b) for b in values["role_bindings"]],
        "secret_mounts": [_known("secret_mounts", plain_model(m)) for m in values["secret_mounts"]],
        "volumes": volumes,
    }
    written = _Theirs(params, cls.slug, _params_of(cls), dump)
    return {
        k: each_text(v, written.in_manifest if k == "manifests" else written)
        for k, v in result.items()
        if v is not None
    }


def _count(value: Any) -> Any:
    """Return a number of devices as a number, as the configurator writes it, and any other quantity as a text."""
    text = str(value)
    return int(text) if text.isdecimal() else text


def _resources(instance: BaseAppProfile, values: Mapping[str, Any], dump: Dump) -> dict[str, Any]:
    """Return image, limits and guarantees. There limits are required, and memory is a text."""
    override: dict[str, Any] = {
        "cpu_guarantee": _whole(instance, "cpu_guarantee", dump),
        "cpu_limit": _whole(instance, "cpu_limit", dump),
        "extra_resource_guarantees": {k: _count(v) for k, v in instance.extra_resource_guarantees.items()},
        "extra_resource_limits": {k: _count(v) for k, v in values["extra_resource_limits"].items()},
        "image": instance.image,
        "mem_guarantee": instance.mem_guarantee,
        "mem_limit": instance.mem_limit,
    }
    for limit, guarantee, usual in (("cpu_limit", "cpu_guarantee", 1), ("mem_limit", "mem_guarantee", "1G")):
        if override[limit] is None:
            override[limit] = usual if override[guarantee] is None else override[guarantee]
            dump.warnings.append(f"{instance.slug}: {limit} is required there; {override[limit]} is written")
    for name in ("mem_guarantee", "mem_limit"):
        override[name] = None if override[name] is None else str(override[name])
    return {k: v for k, v in override.items() if v is not None}


def _manifest(manifest: Manifest) -> dict[str, Any]:
    return {
        "key": getattr(manifest, "key", "") or manifest.name,
        "persist": manifest.persist,
        "name": manifest.name,
        "content": [d for d in plain_model(manifest).get("content", []) if not _is_secret(d)],
    }


def _assets(instance: Any, dashed: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    home = instance.home_dir or _HOME
    shell = []
    for name, key, path, mount in (
        (f"bash-login-{dashed}", f"bash-login-{dashed}", instance.bash_login_path, ".bash_login"),
        (f"bash-rc-{dashed}", "bash-rc", instance.bashrc_path, ".bashrc"),
    ):
        if path is not None:
            shell.append(_file(name, key, text_of(path), f"{home.rstrip('/')}/{mount}"))
    init = instance.init_script_path
    return shell, None if init is None else _file(f"init-{dashed}", "init", text_of(init), _INIT_MOUNT)


def _file(name: str, key: str, content: str, mount_path: str) -> dict[str, Any]:
    more = {"default_mode": "0660", "mount_path": mount_path, "persist": False, "readonly": True}
    return {"content": content, "key": key, "name": name, **more}


def _whole(instance: BaseAppProfile, name: str, dump: Dump) -> int | None:
    value = getattr(instance, name)
    if value is None:
        return None
    cores = float(value)
    if cores == int(cores):
        return int(cores)
    whole = max(1, round(cores))
    dump.warnings.append(f"{instance.slug}: {name} is a whole number there; {whole} is written instead of {value}")
    return whole


def _volume(volume: Volume) -> dict[str, Any]:
    result: dict[str, Any] = {
        "access_modes": list(volume.access_modes),
        "claim_name": volume.claim_name,
        "name": volume.name,
        "persist": volume.persist,
        "size": volume.size,
        "storage_class": volume.storage_class or "standard",
        "volume_mount": {"mount_path": volume.volume_mount.mount_path, "name": volume.name},
    }
    if volume.annotations:
        result["annotations"] = dict(volume.annotations)
    if volume.volume_mount.sub_path:
        result["volume_mount"]["sub_path"] = volume.volume_mount.sub_path
    return result


def _files_of(config_map: ConfigMap) -> list[ConfigMap]:
    """Return a ConfigMap that is mounted as a folder as one for each file, as the ApplicationHub mounts them."""
    if config_map.data is None or config_map.mount_path is None or len(config_map.data) == 1:
        return [config_map]
    folder = config_map.mount_path.rstrip("/")
    return [
        config_map.model_copy(
            update={
                "name": f"{config_map.name}-{number}",
                "key": key,
                "content": content,
                "data": None,
                "mount_path": f"{folder}/{key}",
            }
        )
        for number, (key, content) in enumerate(config_map.data.items())
    ]


def _existing_config_maps(override: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the ConfigMaps that exist already, of each of which one file is mounted, and the rest of the override."""
    volumes, mounts = (override.get(name, ()) for name in ("volumes", "volume_mounts"))
    if not (isinstance(volumes, list | tuple) and isinstance(mounts, list | tuple)):
        return [], dict(override)
    maps = []
    for volume in volumes:
        source = volume.get("configMap", {})
        using = [m for m in mounts if m["name"] == volume["name"]]
        if set(volume) == {"name", "configMap"} and set(source) <= {"name", "defaultMode"} and len(using) == 1:
            (mount,) = using
            if mount.get("subPath") and set(mount) <= {"name", "mountPath", "subPath", "readOnly"}:
                maps.append((volume, mount))
    left = {**override, "volumes": [v for v in volumes if all(v is not volume for volume, _ in maps)]}
    left["volume_mounts"] = [m for m in mounts if all(m is not mount for _, mount in maps)]
    found = [
        {
            "default_mode": f"{volume['configMap'].get('defaultMode', 0o644):04o}",
            "key": mount["subPath"],
            "mount_path": mount["mountPath"],
            "name": volume["configMap"]["name"],
            "persist": True,
            "readonly": True,
        }
        for volume, mount in maps
    ]
    return found, {key: value for key, value in left.items() if value != []}


def _config_map(config_map: ConfigMap) -> dict[str, Any]:
    ((key, content),) = config_map.files().items()
    result: dict[str, Any] = {"content": content, "key": key, "name": config_map.name}
    result |= {"persist": getattr(config_map, "persist", False), "readonly": getattr(config_map, "readonly", True)}
    if config_map.mount_path:
        # The ApplicationHub mounts files, never folders.
        inside = f"/{key}" if config_map.key is None else ""
        result["mount_path"] = f"{config_map.mount_path.rstrip('/')}{inside}"
    if config_map.default_mode:
        result["default_mode"] = config_map.default_mode
    return result


def _binding(binding: Any) -> dict[str, Any]:
    result: dict[str, Any] = plain_model(binding)
    result["persist"] = binding.persist
    result["role"]["api_groups"] = list(binding.role.api_groups)
    if Verb.every in binding.role.verbs:  # the ApplicationHub refuses a whole file with it
        result["role"]["verbs"] = [verb.value for verb in _VERBS]
    for subject, model in zip(result["subjects"], binding.subjects, strict=True):
        subject["kind"] = model.kind.value
    return result


def _env(value: Any) -> Any:
    return plain_model(value) if hasattr(value, "model_fields") else value if isinstance(value, Mapping) else str(value)


_OUT = {
    "username": "spawner.user.name",
    "user_slug": "spawner.user.escaped_name",
    "servername": "spawner.name",
    "pod_name": "spawner.pod_name",
    "namespace": "namespace",
    **{theirs: theirs for theirs in FACT_NAMES},
}
_OPENING = re.compile(r"\{[{%#]")
"""What begins something in their templates."""
_RAW = "{{%raw%}}{}{{%endraw%}}"
"""A text for the second of two renderings. Between them the text is written as YAML, so it has no quotes or spaces."""


class _Theirs:
    """Converts the texts of one profile for the ApplicationHub: facts become templates, params become their values."""

    def __init__(self, params: Mapping[str, Any], slug: str, told: Collection[str], dump: Dump) -> None:
        self._params = params
        self._slug = slug
        self._told = told  # of these params it is reported that their values are written
        self._dump = dump

    def __call__(self, text: str) -> str:
        """Return a text. It is a template there only if it has double braces."""
        parts = self._parts(text)
        if len(parts) == 1 and "{{" not in parts[0][0]:
            return parts[0][0]
        return self._escaped(parts, "{}")

    def in_manifest(self, text: str) -> str:
        """Return a text of an object in a manifest, which is rendered twice there, the second time in any case."""
        return self._escaped(self._parts(text), _RAW)

    def _parts(self, text: str) -> list[tuple[str, bool]]:
        """Return literal texts and templates in turn: first a literal text, which may be empty."""
        parts = [("", False)]
        position = 0
        for match in REFERENCE.finditer(text):
            literal = text[position : match.start()]
            position = match.end()
            template = f"{{{{ {_OUT[match.group(2)]} }}}}" if match.group(2) in _OUT else ""
            literal += "" if template else self._value(match.group(2)) if match.group(2) else "{{"
            parts[-1] = (parts[-1][0] + literal, False)
            parts += [(template, True), ("", False)] if template else []
        parts[-1] = (parts[-1][0] + text[position:], False)
        return parts

    @staticmethod
    def _escaped(parts: Sequence[tuple[str, bool]], form: str) -> str:
        def escape(opening: str) -> str:
            return f"{{{{ '{form.format(opening)}' }}}}"

        result = ""
        for number, (part, template) in enumerate(parts):
            if template:
                result += part
                continue
            text = _OPENING.sub(lambda match: escape(match.group()), part)
            # A single brace before a template would belong to it.
            last = part.endswith("{") and text.endswith("{") and number + 1 < len(parts)
            result += text[:-1] + escape("{") if last else text
        return result

    def _value(self, name: str) -> str:
        """Return what is written for a name that has no counterpart."""
        if name == "profile":
            return self._slug
        value = self._params.get(name)
        known = value is not None and not isinstance(value, SecretRef)
        instead = "its present value is written" if known else "it is empty"
        message = f"{self._slug}: {{{{ {name} }}}} has no counterpart there: {instead}"
        if message not in self._dump.warnings and not (known and name in self._told):
            self._dump.warnings.append(message)
        return to_text(value) if known else ""


# ------------------------------------------------------------------------------------------------ reading

_KNOWN = {
    "": (
        "id groups definition config_maps volumes pod_env_vars default_url node_selector role_bindings "
        "image_pull_secrets init_containers manifests env_from_config_maps env_from_secrets secret_mounts"
    ),
    "definition": "display_name description slug default kubespawner_override",
    "kubespawner_override": (
        "cpu_limit cpu_guarantee mem_limit mem_guarantee image extra_resource_limits extra_resource_guarantees"
    ),
    "volumes": "name claim_name size storage_class access_modes volume_mount persist annotations",
    "volume_mount": "name mount_path sub_path mountPath subPath",
    "config_maps": "name key mount_path default_mode readonly content persist",
    "init_containers": "name image command volume_mounts",
    "volume_mounts": "name mount_path sub_path mountPath subPath",
    "role_bindings": "name subjects role persist",
    "subjects": "name kind",
    "role": "name resources verbs api_groups",
    "manifests": "name key content persist",
    "image_pull_secrets": "name persist data",
    "secret_mounts": "name mount_path sub_path",
}
_NO_EFFECT = {"manifests": ("key",), "image_pull_secrets": ("persist",)}
"""What the configurator has and documents do not."""
_LISTS = (
    "volumes",
    "config_maps",
    "init_containers",
    "role_bindings",
    "manifests",
    "image_pull_secrets",
    "secret_mounts",
)
_IN = {"namespace": "namespace", **FACT_NAMES}
_TEMPLATE = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_LITERAL = re.compile(r"""(["'])(?:\{%raw%\})?(\{[{%#]?)(?:\{%endraw%\})?\1""")
"""A template that stands for an opening brace as text."""


def read_config(config: Any, place: str) -> Dump:
    """Return the ApplicationHub's configuration as a document of this project.

    Args:
        config: The decoded `config.yml`.
        place: The file, for messages.

    Raises:
        SourceError: If it is not a configuration of the ApplicationHub.
        ProfileDefinitionError: If a required key of a profile is missing.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("profiles"), list):
        raise SourceError(
            "this is not a configuration of the ApplicationHub",
            origin=Origin(place),
            expected="a list under 'profiles'",
        )
    dump = Dump()
    for key in config:
        if key != "profiles":
            dump.warnings.append(f"{key!r} is not known and left out")
    slugs = NameMender()
    profiles = [_read_profile(p, n, place, slugs, dump) for n, p in enumerate(config["profiles"])]
    used = [p["slug"] for p in profiles]
    for slug in sorted({s for s in used if used.count(s) > 1}):
        raise ProfileDefinitionError("the slug is used twice", profile=slug, origin=Origin(place))
    dump.document = {"profiles": profiles}
    return dump


def _read_profile(profile: Any, number: int, place: str, slugs: NameMender, dump: Dump) -> dict[str, Any]:
    line = getattr(profile, "line", 0)
    origin = Origin(place, line)
    if not isinstance(profile, Mapping) or not isinstance(profile.get("definition"), Mapping):
        raise ProfileDefinitionError("has no definition", origin=origin, field=f"profiles[{number}]")
    definition = profile["definition"]
    override = definition.get("kubespawner_override") or {}
    name = str(definition.get("display_name") or "")
    slug = str(definition.get("slug") or str(profile.get("id") or "").removeprefix("profile_") or slugify(name))
    if not slug or not name:
        raise ProfileDefinitionError("slug and display_name are needed", origin=origin, field=f"profiles[{number}]")
    if not override.get("image"):
        raise ProfileDefinitionError("has no image", profile=slug, origin=origin, field="kubespawner_override.image")
    _tell_unknown(profile, definition, override, slug, dump)
    result: dict[str, Any] = {**_read_slug(slug, origin, slugs, dump), "display_name": name}
    slug = result["slug"]
    result["description"] = str(definition.get("description") or "")
    if definition.get("default"):
        result["default"] = True
    for key in ("image", "cpu_guarantee", "cpu_limit", "mem_guarantee", "mem_limit"):
        if override.get(key) is not None:
            result[key] = override[key]
    for key in ("extra_resource_limits", "extra_resource_guarantees"):
        if override.get(key):
            result[key] = {str(k): str(v) for k, v in override[key].items()}
    result["allowed_groups"] = _read_groups(profile, slug, dump)
    if profile.get("default_url"):
        url = str(profile["default_url"])
        result["default_url"] = url if url.startswith("/") else f"/{url}"
    if profile.get("node_selector"):
        result["node_selector"] = {str(k): _scalar(v) for k, v in profile["node_selector"].items()}
    if profile.get("pod_env_vars"):
        result["pod_env_vars"] = {
            k: v if isinstance(v, Mapping) else _scalar(v) for k, v in profile["pod_env_vars"].items()
        }
    names = NameMender()
    with _located(slug, origin):
        _read_parts(profile, result, place, names, dump)
    dump.warnings += [f"{slug}: {note}" for note in names.notes]
    ours: dict[str, Any] = _ours(result, slug, dump)
    _move_url(ours)
    return ours


def _move_url(profile: dict[str, Any]) -> None:
    """Let JupyterHub insert the user's name into `default_url`, which has no references. That is the same text."""
    if references_in(profile.get("default_url")) == {"username"}:
        url = profile.pop("default_url").replace("{{ username }}", "{username}")
        profile.setdefault("kubespawner_override", {})["default_url"] = url


def _read_groups(profile: Mapping[str, Any], slug: str, dump: Dump) -> list[str]:
    """Return the groups. An empty list stays one: in the ApplicationHub, too, the profile is then for no user."""
    groups = [str(g) for g in profile.get("groups") or ()]
    if not groups:
        dump.warnings.append(f"{slug}: groups is empty, so no user may use the profile, as in the ApplicationHub")
    return groups


def _read_slug(written: str, origin: Origin, slugs: NameMender, dump: Dump) -> dict[str, Any]:
    """Return a slug that is valid here, with the one of the file as an alias."""
    before = len(slugs.notes)
    with _located(written, origin):
        slug = slugs.slug(written)
    dump.warnings += [f"{written}: {note}" for note in slugs.notes[before:]]
    return {"slug": slug} if slug == written else {"slug": slug, "aliases": [written]}


@contextlib.contextmanager
def _located(slug: str, origin: Origin) -> Iterator[None]:
    """Turn the error of a name that cannot be mended into one of the profile."""
    try:
        yield
    except ValueError as e:
        raise ProfileDefinitionError(str(e), profile=slug, origin=origin) from None


def _read_parts(profile: Mapping[str, Any], result: dict[str, Any], place: str, names: NameMender, dump: Dump) -> None:
    slug = result["slug"]
    items = list(profile.get("config_maps") or ())
    existing = [item for item in items if item.get("content") is None]
    volumes = [_read_volume(v, names) for v in profile.get("volumes") or ()]
    maps = [_read_config_map(item, names) for item in items if item.get("content") is not None]
    _follow(result.get("pod_env_vars", {}), names)
    read: dict[str, Any] = {
        "kubespawner_override": _existing(existing, slug, dump),
        "init_containers": list(_read_containers(profile.get("init_containers") or (), volumes, maps, result, names)),
        "config_maps": maps,
        "volumes": volumes,
        "secret_mounts": [_known("secret_mounts", m) for m in profile.get("secret_mounts") or ()],
        "role_bindings": [_read_binding(b, names) for b in profile.get("role_bindings") or ()],
        "manifests": [_read_manifest(m, place, slug, dump) for m in profile.get("manifests") or ()],
        "image_pull_secrets": [_read_pull_secret(s, names) for s in profile.get("image_pull_secrets") or ()],
        "env_from_config_maps": [names.known_config_map(str(n)) for n in profile.get("env_from_config_maps") or ()],
        "env_from_secrets": [str(n) for n in profile.get("env_from_secrets") or ()],
    }
    result.update({key: value for key, value in read.items() if value})
    if any("data" in s for s in read["image_pull_secrets"]):
        dump.warnings.append(f"{slug}: a pull secret's value stands in the file; name an existing Secret instead")


def _follow(variables: dict[str, Any], names: NameMender) -> None:
    """Let variables that come from the profile's own ConfigMaps follow their names."""
    for name, value in variables.items():
        reference = value.get("from_config_map") if isinstance(value, Mapping) else None
        if isinstance(reference, Mapping):
            found = names.known_config_map(str(reference["name"]))
            variables[name] = {"from_config_map": {**reference, "name": found}}


def _known(where: str, item: Mapping[str, Any]) -> dict[str, Any]:
    known = set(_KNOWN[where].split()) - set(_NO_EFFECT.get(where, ()))
    return {k: v for k, v in item.items() if k in known and v is not None}


def _read_binding(item: Mapping[str, Any], names: NameMender) -> dict[str, Any]:
    role = _known("role", item["role"])
    return {
        "persist": True,
        **_known("role_bindings", item),
        "name": names.role("role binding", str(item["name"])),
        "subjects": [_known("subjects", s) for s in item["subjects"]],
        "role": {**role, "name": names.role("role", str(role["name"]))},
    }


def _read_pull_secret(item: Mapping[str, Any], names: NameMender) -> dict[str, Any]:
    result = _known("image_pull_secrets", item)
    return {**result, "name": names.name("pull secret", str(item["name"]))} if "data" in result else result


def _read_manifest(item: Mapping[str, Any], place: str, slug: str, dump: Dump) -> dict[str, Any]:
    """Return a manifest without objects that no profile can create; in older files, its objects are a text."""
    content = item.get("content") or ()
    if isinstance(content, str):
        content = parse_yaml(content, f"{place}: manifest {item.get('name')}")
    kept = []
    for document in content:
        kind = document.get("kind") if isinstance(document, Mapping) else None
        if kind in BY_KIND or (document is not None and kind is None):
            kept.append(_in_namespace_of_user(document))
        elif document is not None:
            name = (document.get("metadata") or {}).get("name")
            dump.warnings.append(
                f"{slug}: {kind} {name} is left out: profiles cannot create this kind. Install it beside the hub"
            )
    return {"persist": True, **_known("manifests", item), "content": kept}


_NAMESPACE_OF_USER = re.compile(r"jupyter-\{\{\s*spawner\.user\.name\s*\}\}")


def _in_namespace_of_user(value: Any) -> Any:
    """Return an object in which the ApplicationHub's name of the user's namespace is a reference to the namespace.

    For some users the two are different here, since a namespace cannot have every user's name.
    """
    if isinstance(value, Mapping):
        return {
            k: "{{ namespace }}"
            if k == "namespace" and _NAMESPACE_OF_USER.fullmatch(str(v))
            else _in_namespace_of_user(v)
            for k, v in value.items()
        }
    return [_in_namespace_of_user(item) for item in value] if isinstance(value, list) else value


def _read_containers(
    items: Sequence[Mapping[str, Any]],
    volumes: Sequence[Mapping[str, Any]],
    maps: list[dict[str, Any]],
    result: dict[str, Any],
    names: NameMender,
) -> Iterator[dict[str, Any]]:
    """Yield the init containers; the one that the configurator makes of an init script becomes the script alone.

    That is what an init script means here: the profile's image and all its volumes. With anything else it stays a
    container.
    """
    read = [
        {
            **_known("init_containers", i),
            "name": names.label("init container", str(i["name"])),
            "volume_mounts": [_mount(m, names) for m in i.get("volume_mounts") or ()],
        }
        for i in items
    ]
    for container in read:
        using = [m for m in maps if m.get("mount_path") == _INIT_MOUNT and _uses(container, m["name"])]
        if len(using) == 1 and sum(_uses(other, using[0]["name"]) for other in read) == 1:
            (script,) = using
            mounts = [{k: v[k] for k in ("name", "mount_path", "sub_path") if k in v} for v in volumes]
            mounts.append({"name": script["name"], "mount_path": _INIT_MOUNT, "sub_path": script["key"]})
            made = {"name": _INIT_NAME, "image": result["image"], "volume_mounts": _sorted(mounts)}
            command = container["command"]
            found = {**made, **container, "volume_mounts": _sorted(container["volume_mounts"])}
            if found == {**made, "command": command} and list(command) in _INIT_COMMANDS:
                result["init_script"] = script["content"]
                maps.remove(script)
                continue
        yield {**container, "command": list(container["command"])}


def _uses(container: Mapping[str, Any], config_map: str) -> bool:
    return any(m["name"] == config_map for m in container["volume_mounts"])


def _sorted(mounts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(mounts, key=lambda m: str(m["mount_path"]))


def _existing(items: Sequence[Mapping[str, Any]], slug: str, dump: Dump) -> dict[str, Any]:
    """Return what mounts ConfigMaps that are there already: those without content."""
    volumes, mounts = [], []
    for item in items:
        name, mode = item["name"], item.get("default_mode")
        if not item.get("mount_path"):
            dump.warnings.append(f"{slug}: ConfigMap {name} is left out: it has neither content nor mount_path")
            continue
        source = {"name": name, **({} if mode is None else {"defaultMode": int(_mode(mode), 8)})}
        volumes.append({"name": volume_name(name), "configMap": source})
        mounts.append(
            {"name": volume_name(name), "mountPath": item["mount_path"], "subPath": item["key"], "readOnly": True}
        )
    return {"volumes": volumes, "volume_mounts": mounts} if volumes else {}


def _mode(mode: Any) -> str:
    """Return a file mode in octal digits: without quotes YAML has read `0660` as a number."""
    return f"{mode:04o}" if isinstance(mode, int) else str(mode)


def _read_config_map(item: Mapping[str, Any], names: NameMender) -> dict[str, Any]:
    name = names.config_map(str(item["name"]), item.get("mount_path"))
    result = {"name": name, "key": item["key"], "content": str(item["content"])}
    if item.get("mount_path"):
        result["mount_path"] = item["mount_path"]
    if item.get("default_mode") is not None:
        result["default_mode"] = _mode(item["default_mode"])
    return result


def _read_volume(volume: Mapping[str, Any], names: NameMender) -> dict[str, Any]:
    mount = _mount(volume["volume_mount"], names)
    result: dict[str, Any] = {
        "name": names.label("volume", str(volume["name"])),
        "claim_name": names.name("claim", str(volume["claim_name"])),
        "size": str(volume["size"]),
    }
    result["mount_path"] = mount["mount_path"]
    for key in ("sub_path", "storage_class", "access_modes", "annotations"):
        value = mount.get(key) or volume.get(key)
        if value:
            result[key] = value
    result["persist"] = bool(volume.get("persist", True))
    return result


def _mount(mount: Mapping[str, Any], names: NameMender) -> dict[str, Any]:
    """Return a mount; the runtime reads camel case too."""
    path = mount.get("mount_path", mount.get("mountPath"))
    result = {"name": names.label("volume", str(mount["name"])), "mount_path": path}
    sub_path = mount.get("sub_path", mount.get("subPath"))
    if sub_path:
        result["sub_path"] = sub_path
    return result


def _scalar(value: Any) -> str:
    """Return a scalar as the text that was meant: YAML 1.1 has made truth values of `yes` and `no`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _tell_unknown(
    profile: Mapping[str, Any], definition: Mapping[str, Any], override: Mapping[str, Any], slug: str, dump: Dump
) -> None:
    parts: list[tuple[str, Any]] = [("", profile), ("definition", definition), ("kubespawner_override", override)]
    for key in _LISTS:
        items = profile.get(key)
        if items is not None and not isinstance(items, list):
            raise ProfileDefinitionError("must be a list", profile=slug, field=key, value=type(items).__name__)
        for number, item in enumerate(items or ()):
            if not isinstance(item, Mapping):
                raise ProfileDefinitionError("must be a mapping", profile=slug, field=f"{key}[{number}]", value=item)
            parts.append((key, item))
            for inner in ("volume_mount", "volume_mounts", "subjects", "role"):
                found = item.get(inner)
                parts += [(inner, f) for f in (found if isinstance(found, list) else [found]) if isinstance(f, Mapping)]
    for where, found in parts:
        known = _KNOWN[where].split()
        for key in found:
            if key not in known:
                hint = did_you_mean(key, known, 0.7)
                dump.warnings.append(f"{slug}: {where + ': ' if where else ''}{key!r} is not known and left out{hint}")


def _ours(value: Any, slug: str, dump: Dump) -> Any:
    """Return `value` with their templates as references of this project; what has no counterpart stays text."""

    def read(text: str) -> str:
        if "{{" in text and (other := re.search(r"\{[%#]", _TEMPLATE.sub("", text))) is not None:
            dump.warnings.append(f"{slug}: {other[0]} beside a template has no counterpart and stays as it is")
        return _TEMPLATE.sub(lambda m: _reference(m, slug, dump), text)

    return each_text(value, read)


def _reference(match: re.Match[str], slug: str, dump: Dump) -> str:
    expression = match.group(1)
    if (literal := _LITERAL.fullmatch(expression)) is not None:
        return "{{{{" if literal.group(2) == "{{" else literal.group(2)
    if expression in _IN:
        return "{{ " + _IN[expression] + " }}"
    dump.warnings.append(f"{slug}: {{{{ {expression} }}}} has no counterpart and stays as it is")
    return "{{{{" + match.group(0)[2:]
