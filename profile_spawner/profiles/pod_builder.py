"""Builds the pod of one server: converts the results of the hooks to trait values and Kubernetes objects.

Files are stored in ConfigMaps. Files that are the same for all users are *shared*: the ConfigMap's name contains a hash
of its content, and it is created once per namespace. If a text refers to a value of the user or the server, its file is
*owned* by the one server. Files are packed into as few ConfigMaps as their size allows.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import BuildError, ConflictError, Origin, shorten
from profile_spawner.names import content_hash, identity_hash, is_dns_subdomain, object_name
from profile_spawner.params.definition import SecretRef
from profile_spawner.params.evaluator import Resolved
from profile_spawner.params.templates import Allowance, references_in, render_value

from .context import ServerContext
from .resources import (
    MAX_CONFIG_MAP_BYTES,
    ConfigMap,
    ImagePullSecret,
    InitContainer,
    InlineText,
    KubeObject,
    Lifetime,
    Manifest,
    RoleBinding,
    SecretMount,
    Volume,
)
from .template import Template
from .user_text import (
    command_texts,
    each_text,
    escape_before,
    escape_copies,
    escape_dollars,
    is_plain_word,
    is_run_by_programs,
    is_whole_argument,
    nodes,
    texts_in_commands,
    user_variables,
)

__all__ = ["INIT_SCRIPT_PATH", "PodBuilder", "StartUp"]

INIT_SCRIPT_PATH = "/opt/init/.init.sh"
INIT_CONTAINER_NAME = "init-file-on-volume"
_INIT_SCRIPT_FILE = "init.sh"

_PROGRAMS = re.compile(
    r".*\.(?:[cz]?sh|bash|desktop|env|fish|ipynb|jl|js|ksh|lua|mjs|mk|php|pl|ps1|pth|py|r|rb|sql|tcl|ts|vim)"
    r"|(?:.*/)?(?:\.?(?:bash|csh|fish|ksh|tcsh|zsh)[\w.-]*|\.?(?:login|logout|profile|xinitrc|xsession|zprofile)|crontab"
    r"|\.?(?:gvim|input|vim)rc|\.?R(?:environ|profile)(?:\.site)?|(?:GNU)?makefile|sudoers|\.ssh/rc|ld\.so\.\w+)"
    r"|.*/(?:s?bin|libexec)/[^/]*"
    r"|.*/(?:cron\.\w+|(?:bash\w*|cron|init|profile|rc\w?|[\w.-]*(?:entrypoint|notebook))\.d)/[^/]*",
    re.DOTALL | re.IGNORECASE,
)
"""The paths of files that shells and other programs run, such as `/etc/profile.d/a.sh`."""
_NO_STRUCTURE = re.compile(r"(?:.*/)?[\w-]+|.*\.(?:adoc|csv|log|md|rst|tsv|txt)", re.DOTALL | re.IGNORECASE)
"""The paths of files whose texts mean nothing to programs, and the names of variables."""
_ENDS_A_VALUE = re.compile(r"[\"\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What could end a value in JSON."""
_STRUCTURE = re.compile(rf"{_ENDS_A_VALUE.pattern}|[`<>{{}}\[\]$;]")
"""What could end a value in YAML, XML and other files of settings."""
_STRUCTURE_QUOTED = re.compile(rf"{_STRUCTURE.pattern}|'")
"""The same for a file with single quotes."""
_CONFIG_MAP_REFERENCES = frozenset({"configMap", "configMapRef", "configMapKeyRef"})
"""The keys by which a pod refers to a ConfigMap."""
_PERSONAL_FACTS = frozenset({"username", "user_slug", "servername", "server_slug", "pod_name"})
_SAID_BY_USERS = frozenset({"username", "servername"})
_BIN_BYTES = MAX_CONFIG_MAP_BYTES - 64 * 1024  # leaves room for names, labels and managed fields


@dataclass(frozen=True)
class _File:
    """One file, or one of the files of a directory."""

    field: str
    directory: str  # the directory inside the volume; empty for a single file
    name: str
    text: str
    mode: int
    personal: bool


@dataclass(frozen=True)
class _FileMount:
    """Where one file or directory of the packed files appears."""

    path: str  # inside the volume
    mount_path: str
    personal: bool


@dataclass(frozen=True)
class StartUp:
    """The attributes that affect the start of the server.

    Attributes:
        image: The image.
        home: The home directory; `None` keeps the image's own.
        files: The texts, or paths, of the login files and the start-up script, by attribute.
        place: Returns where an attribute is written, for messages.
    """

    image: str
    home: str | None
    files: Mapping[str, Any]
    place: Callable[[str], Origin]


class PodBuilder:
    """Collects the parts of one server. Each hook has a method here, with its name without `get_`.

    Args:
        slug: The profile.
        context: The context of the server.
        params: Resolved params, for `{{ references }}`.
        origin: Where the profile was written, for messages.
        start: The attributes for the start of the server.
        typed: The params whose values the user typed.
        said: The texts that users typed or are called.
        fact_names: Further names of facts, each with the fact that it stands for.

    Attributes:
        further_override: Values of other traits.
        secure: The variables whose values are those of secure params: the variable, the Secret and the key.
        user_variables: The variables whose values contain what users type or are called.
        run: Where a program could run what users type or are called. These are plain words in this build.
    """

    def __init__(
        self,
        slug: str,
        context: ServerContext,
        params: Mapping[str, Any],
        origin: Origin,
        start: StartUp,
        typed: Collection[str] = (),
        said: Collection[str] = (),
        fact_names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._slug = slug
        self._context = context
        self._origin = origin
        self._start = start
        facts = dict(context.facts(slug))
        facts |= {other: facts[name] for other, name in fact_names.items()}
        self._fact_names = fact_names
        # Do not copy into one dictionary: a param without a usable value raises an error when it is read.
        self._lookup: Mapping[str, Any] = ChainMap(facts, params)  # type: ignore[arg-type]
        # In environment values and arguments Kubernetes replaces `$(NAME)`, but not in what users have typed.
        self._untrusted = {*typed, *(n for n in facts if fact_names.get(n, n) in _SAID_BY_USERS)}
        self._inserted = params.inserted if isinstance(params, Resolved) else lambda _: set()
        self._said = said
        self._argument_lookup: Mapping[str, Any] = _Arguments(self._lookup, self._is_theirs)
        self._env: dict[str, Any] = {}
        self._volumes: list[dict[str, Any]] = []
        self._mounts: list[dict[str, Any]] = []
        self._claim_mounts: list[dict[str, Any]] = []
        self._env_from: list[dict[str, Any]] = []
        self._init_containers: list[dict[str, Any]] = []
        self._pull_secrets: list[dict[str, str]] = []
        self._objects: list[KubeObject] = []
        self._files: list[_File] = []
        self._file_mounts: list[_FileMount] = []
        self._config_maps: dict[str, tuple[ConfigMap, str]] = {}
        self._config_map_paths: dict[str, tuple[str, str | None]] = {}
        self._steps: list[str] = []
        self._packed = False
        self._allowance = Allowance()
        self._resource_limits: dict[str, str] = {}
        self.further_override: Mapping[str, Any] = {}
        self.secure: set[tuple[str, str, str]] = set()
        self.user_variables: set[str] = set()
        self.run: list[BuildError] = []
        self._user_files: list[tuple[str, str, str]] = []
        self._scripts: list[str] = []
        self._login_files()

    def _is_theirs(self, name: str) -> bool:
        """Return whether the value of a param or fact contains what users type or are called."""
        return name in self._lookup and not self._untrusted.isdisjoint({name, *self._inserted(name)})

    # ---------------------------------------------------------------------------------------------- parts

    def pod_env_vars(self, variables: Mapping[str, Any]) -> None:
        """Add environment variables; `HOME` too where the profile has a home directory."""
        if self._start.home is not None:
            self._env["HOME"] = self._start.home
        for name, value in variables.items():
            if value is None:
                continue
            if isinstance(value, bool):
                value = str(value).lower()
            elif isinstance(value, int | float):
                value = str(value)
            field = f"environment variable {name}"
            if not isinstance(value, str):
                own = self._own_config_map(value.source.name) if "from_config_map" in type(value).model_fields else None
                self._env[name] = value.to_kubernetes(own or self._name(value.source.name, field))
                continue
            if inserted := self._of_users(value):
                self.user_variables.add(name)
                if is_run_by_programs(name):
                    self._note_run(inserted, field, value)
            rendered = self._render(value, field, self._argument_lookup)
            if isinstance(rendered, SecretRef):
                self._env[name] = {"valueFrom": {"secretKeyRef": {"name": rendered.name, "key": rendered.key}}}
                self.secure.add((name, rendered.name, rendered.key))
            else:
                self._env[name] = rendered if isinstance(rendered, str) else _param_text(rendered)

    def default_volumes(self, volumes: Sequence[Volume]) -> None:
        """Add claims. They are created if they do not exist."""
        for volume in volumes:
            claim = self._claim_name(volume, self._name(volume.claim_name, f"get_default_volumes(): {volume.name}"))
            spec: dict[str, Any] = {
                "accessModes": list(volume.access_modes),
                "resources": {"requests": {"storage": volume.size}},
            }
            if volume.storage_class is not None:
                spec["storageClassName"] = volume.storage_class
            body: dict[str, Any] = {"spec": spec}
            if volume.annotations:
                body["metadata"] = {"annotations": dict(volume.annotations)}
            lifetime = Lifetime.persistent if volume.persist else Lifetime.owned
            field = f"get_default_volumes(): {volume.name}"
            self._add(KubeObject("v1", "PersistentVolumeClaim", claim, lifetime, field, body))
            self._volumes.append({"name": volume.name, "persistentVolumeClaim": {"claimName": claim}})
            mount = {**volume.volume_mount.to_kubernetes(), "name": volume.name}
            self._mounts.append(mount)
            self._claim_mounts.append(mount)
        if volumes:
            self._steps.append("Preparing storage")

    def config_maps(self, config_maps: Sequence[ConfigMap]) -> None:
        """Add further files."""
        for number, config_map in enumerate(config_maps):
            field = f"get_config_maps(): {config_map.name}"
            self._config_maps[config_map.name] = config_map, field
            if config_map.mount_path is None:
                self._unpacked(config_map, field)
                continue
            path = f"d{number}" if config_map.key is None else f"{number}-{config_map.key}"
            self._config_map_paths[config_map.name] = path, config_map.key
            if config_map.key is None:
                self._add_directory(field, path, config_map)
                continue
            text, mode = config_map.content or "", config_map.mode
            self._add_file(field, text, path, config_map.mount_path, mode)

    def secret_mounts(self, mounts: Sequence[SecretMount]) -> None:
        """Mount existing Secrets."""
        for number, secret in enumerate(mounts):
            name = f"profile-secret-{number}"
            source: dict[str, Any] = {"secretName": self._name(secret.name, "get_secret_mounts()")}
            if secret.optional:
                source["optional"] = True
            self._volumes.append({"name": name, "secret": source})
            mount: dict[str, Any] = {"name": name, "mountPath": secret.mount_path, "readOnly": True}
            if secret.sub_path:
                mount["subPath"] = secret.sub_path
            self._mounts.append(mount)

    def env_config_maps(self, names: Sequence[str]) -> None:
        """Add all keys of ConfigMaps to the environment."""
        for name in names:
            known = self._own_config_map(name) or self._name(name, "get_env_config_maps()")
            self._env_from.append({"configMapRef": {"name": known}})

    def env_secrets(self, names: Sequence[str]) -> None:
        """Add all keys of Secrets to the environment."""
        for name in names:
            self._env_from.append({"secretRef": {"name": self._name(name, "get_env_secrets()")}})

    def init_containers(self, containers: Sequence[InitContainer]) -> None:
        """Add the init containers: the start-up script, then the profile's own ones."""
        self._init_script()
        for container in containers:
            declared: dict[str, Any] = {
                "name": container.name,
                "image": container.image or self._start.image,
                "command": list(escape_copies(container.command, self._said)),
                "volumeMounts": [m.to_kubernetes() for m in container.volume_mounts],
            }
            if container.env:
                declared["env"] = [
                    {"name": k, "value": self._render_text(v, f"init container {container.name}: {k}", argument=True)}
                    for k, v in container.env.items()
                ]
            self._init_containers.append(declared)

    def image_pull_secrets(self, secrets: Sequence[ImagePullSecret | str]) -> None:
        """Add pull secrets to the pod (never to a service account, which others use too)."""
        for secret in secrets:
            written = self._name(secret if isinstance(secret, str) else secret.name, "get_image_pull_secrets()")
            if isinstance(secret, str) or secret.data is None:
                self._pull_secrets.append({"name": written})
                continue
            name = object_name(f"{written}-{self._context.user.name}", self._context.owned_hash(written))
            body = {
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": secret.data.get_secret_value()},
            }
            field = f"get_image_pull_secrets(): {secret.name}"
            self._add(KubeObject("v1", "Secret", name, Lifetime.owned, field, body))
            self._pull_secrets.append({"name": name})

    def role_bindings(self, bindings: Sequence[RoleBinding]) -> None:
        """Add roles and their bindings."""
        group = "rbac.authorization.k8s.io"
        for binding in bindings:
            lifetime = Lifetime.persistent if binding.persist else Lifetime.owned
            field = f"get_role_bindings(): {binding.name}"
            role = self._own_name(binding.role.name, lifetime)
            rule = {
                "apiGroups": list(binding.role.api_groups),
                "resources": list(binding.role.resources),
                "verbs": [v.value for v in binding.role.verbs],
            }
            self._add(KubeObject(f"{group}/v1", "Role", role, lifetime, field, {"rules": [rule]}))
            subjects = [
                {"kind": "ServiceAccount", "name": s.name, "namespace": self._context.namespace}
                if s.kind.value == "ServiceAccount"
                else {"kind": "User", "name": s.name, "apiGroup": group}
                for s in binding.subjects
            ]
            body = {"roleRef": {"apiGroup": group, "kind": "Role", "name": role}, "subjects": subjects}
            name = self._own_name(binding.name, lifetime)
            self._add(KubeObject(f"{group}/v1", "RoleBinding", name, lifetime, field, body))

    def manifests(self, manifests: Sequence[Manifest]) -> None:
        """Add any other objects; the hub's policy decides later which are allowed."""
        for manifest in manifests:
            lifetime = Lifetime.persistent if manifest.persist else Lifetime.owned
            for number, document in enumerate(manifest.content):
                field = f"get_manifests(): {manifest.name}, document {number + 1}"
                self._add(self._manifest_object(document, lifetime, field))
        if manifests:
            self._steps.append("Preparing services")

    def extra_resource_limits(self, limits: Mapping[str, Any]) -> None:
        """Add limits such as GPUs."""
        self._resource_limits = {k: str(v) for k, v in limits.items()}

    def kubespawner_override(self, override: Mapping[str, Any]) -> None:
        """Store values of other traits separately, because KubeSpawner expands names in them."""
        self.further_override = override

    # ---------------------------------------------------------------------------------------------- result

    def override(self) -> dict[str, Any]:
        """Return the trait values of all parts."""
        self._pack()
        parts: dict[str, Any] = {
            "environment": self._env,
            "volumes": self._volumes,
            "volume_mounts": self._mounts,
            "init_containers": self._init_containers,
            "image_pull_secrets": self._pull_secrets,
            "extra_resource_limits": self._resource_limits,
        }
        if self._env_from:
            parts["extra_container_config"] = {"envFrom": self._env_from}
        return {trait: value for trait, value in parts.items() if value}

    def objects(self) -> tuple[KubeObject, ...]:
        """Return the Kubernetes objects of all parts."""
        self._pack()
        return tuple(self._objects)

    def steps(self) -> tuple[str, ...]:
        """Return the texts for the progress bar."""
        self._pack()
        return tuple(dict.fromkeys(self._steps))

    # ---------------------------------------------------------------------------------------------- texts

    def _render(self, value: Any, field: str, lookup: Mapping[str, Any] | None = None) -> Any:
        """Return `value` with the references in its templates replaced. Other texts are literal."""
        if isinstance(value, Template):
            text = str(value)
            if lookup is self._argument_lookup and (inserted := self._of_users(value)):
                text = escape_before(text, rf"(?<!\$)\{{\{{\s*(?:{'|'.join(map(re.escape, inserted))})\s*\}}\}}")
            return render_value(
                text,
                self._lookup if lookup is None else lookup,
                origin=self._origin,
                field=field,
                allowance=self._allowance,
            )
        if isinstance(value, Mapping):
            return {k: self._render(v, field, lookup) for k, v in value.items()}
        if isinstance(value, str) and lookup is self._argument_lookup:
            return escape_copies(value, self._said)
        return [self._render(v, field, lookup) for v in value] if isinstance(value, list | tuple) else value

    def _mentions_user(self, text: str) -> bool:
        """Return whether a text is a template that is different for different users."""
        if not isinstance(text, Template):
            return False
        names = {self._fact_names.get(n, n) for n in references_in(text)}
        return any(not _PERSONAL_FACTS.isdisjoint({name, *self._inserted(name)}) for name in names)

    def _render_text(self, text: str, field: str, *, argument: bool = False) -> str:
        rendered = self._render(text, field, self._argument_lookup if argument else None)
        if isinstance(rendered, SecretRef):
            raise BuildError(
                "a secure param may stand only as the whole value of an environment variable",
                profile=self._slug,
                origin=self._origin,
                field=field,
            )
        return rendered if isinstance(rendered, str) else _param_text(rendered)

    def _read(self, field: str) -> Template:
        """Return the text of a file that a shell reads."""
        path = self._start.files[field]
        try:
            return Template(path if isinstance(path, InlineText) else Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeError) as e:
            raise BuildError(
                f"the file {str(path)!r} cannot be read: {e}", profile=self._slug, origin=self._origin, field=field
            ) from None

    def _of_users(self, text: Any) -> list[str]:
        """Return the params and facts that a template inserts and that contain what users type or are called."""
        return sorted(filter(self._is_theirs, references_in(text))) if isinstance(text, Template) else []

    def from_param(self, attribute: str, param: str, value: Any) -> None:
        """Find a user's text in an attribute that takes its value from a param or fact."""
        if not self._is_theirs(param):
            return
        if attribute == "image":
            self._refuse_names_in_image({param}, self._start.place(attribute), attribute)
        if attribute == "pod_env_vars":
            self.user_variables.update(map(str, value))
        override = value if attribute == "kubespawner_override" else {"environment": value}
        for path, _ in command_texts(override) if isinstance(override, Mapping) else ():
            self._note_run([param], f"{attribute}: {'.'.join(map(str, path))}", f"{{{{ {param} }}}}")

    def _refuse_names_in_image(self, names: Iterable[str], origin: Origin, field: str) -> None:
        """Refuse what a user or a server is called in an image. What users choose is in `user_settable` or refused."""
        inserted = {other for name in names for other in (name, *self._inserted(name))}
        if called := sorted(name for name in inserted if self._fact_names.get(name, name) in _SAID_BY_USERS):
            raise BuildError(
                f"what a user or a server is called may not stand in an image: {' and '.join(called)}",
                profile=self._slug,
                origin=origin,
                field=field,
                hint="Use {{ user_slug }}, or a param that the profile's user_settable names",
            )

    def commands(self, override: Mapping[str, Any], choices: Iterable[Mapping[str, Any]]) -> None:
        """Find the files with a user's text that commands or scripts name.

        Args:
            override: The values of traits.
            choices: The overrides of every choice.
        """
        files = [file for file in self._user_files if file[0] != "/"]
        if not files:
            return
        texts = [*self._scripts, *(text for one in (override, *choices) for _, text in command_texts(one))]
        for path, name, field in files:
            if any(path in text for text in texts):
                self._note_run([name], field, f"{{{{ {name} }}}}")

    def _check_file(self, path: str, text: str, field: str, *, executable: bool = False) -> None:
        """Note a file that a program could run and in which a user's text stands."""
        inserted = self._of_users(text)
        if executable or text.startswith("#!") or _PROGRAMS.fullmatch(path):
            self._scripts.append(text)
            if inserted:
                self._note_run(inserted, field, text)
        self._check_structure(path, text, inserted, field)
        self._user_files += ((path, name, field) for name in inserted)

    def _check_structure(self, path: str, text: str, inserted: Sequence[str], field: str) -> None:
        """Refuse a user's text that could be more than one value in a file with a structure, such as JSON."""
        is_json = path.endswith(".json")
        risky = _ENDS_A_VALUE if is_json else _STRUCTURE_QUOTED if "'" in text else _STRUCTURE
        values = () if _NO_STRUCTURE.fullmatch(path) else (self._lookup[name] for name in inserted)
        found = [value for value in values if isinstance(value, str) and risky.search(value)]
        if found:
            raise BuildError(
                "what a user typed or is called could change more than one value of this file",
                profile=self._slug,
                origin=self._origin,
                field=field,
                value=shorten(found[0]),
                expected="a text without quotes and \\" + ("" if is_json else ", brackets, braces, `, $ and ;"),
                hint="Give it to an environment variable, or write the file with json.dumps() in a hook",
            )

    def _check_manifest(self, document: Mapping[str, Any], field: str) -> None:
        """Note a user's text in the commands and files of a manifest."""
        images = [text for path, text in nodes(document) if path[-1] == "image"]
        self._refuse_names_in_image(references_in(images), self._origin, field)
        for name in sorted(filter(self._is_theirs, references_in(document))):
            users = rf"\{{\{{\s*{re.escape(name)}\s*\}}\}}"
            spec = _with_structures(document.get("spec"), name, self._lookup[name])
            for _, text in texts_in_commands({"extra_pod_config": spec}, users, user_variables([(spec, users)])):
                self._note_run([name], field, text, whole=is_whole_argument(text, users))
        for key in ("data", "stringData"):
            data = document.get(key)
            for name, text in data.items() if isinstance(data, Mapping) else ():
                self._check_file(str(name), text, f"{field}: {key}.{name}")

    def _note_run(self, names: Sequence[str], field: str, text: str, *, whole: bool = False) -> None:
        """Note a place of a user's text that documents may not have. For others it must be plain words or `whole`."""
        shown = text if len(text) < 80 else ", ".join(f"{{{{ {name} }}}}" for name in names)
        error = BuildError(
            "a shell or another program could run what users type or are called",
            profile=self._slug,
            origin=self._start.place(field) if field in self._start.files else self._origin,
            field=field,
            value=shorten(shown),
            hint='Give it to an environment variable, and write "$NAME" here',
        )
        if not whole and not all(is_plain_word(str(self._lookup[name])) for name in names):
            raise error
        self.run.append(error)

    def _container_env(self) -> list[dict[str, Any]]:
        return [
            {"name": k, **v} if isinstance(v, Mapping) else {"name": k, "value": v}
            for k, v in sorted(self._env.items())
        ]

    # ---------------------------------------------------------------------------------------------- names

    def _add(self, added: KubeObject) -> None:
        for present in self._objects:
            if present.key == added.key and present.body != added.body:
                raise ConflictError(
                    f"{added.kind} {added.name!r} is defined by {present.field} and, differently, by {added.field}",
                    profile=self._slug,
                    origin=self._origin,
                    hint="Rename one of the two",
                )
            if present.key == added.key:
                return
        self._objects.append(added)

    def _name(self, name: str, field: str) -> str:
        """Return the name of an object, with the references of a template replaced."""
        rendered = self._render_text(name, field)
        if not is_dns_subdomain(rendered):
            raise BuildError(
                f"{shorten(rendered)!r} cannot be the name of an object",
                profile=self._slug,
                origin=self._origin,
                field=field,
                expected="lower-case letters, digits, '-' and '.', at most 253 characters",
                hint="A user's name can have other letters: use {{ user_slug }}" if rendered != name else None,
            )
        return rendered

    def _claim_name(self, volume: Volume, name: str) -> str:
        context = self._context
        # Jobs that a user starts name the claims, so in a namespace of the user's own they keep their names. A claim
        # that goes with its server can have the name for one of the servers only.
        if context.user_namespaces and (volume.persist or not context.server_name):
            return name
        if not volume.persist:
            return object_name(f"{name}-{context.user.name}", context.owned_hash(name))
        # All servers of the user share the claim. Its name does not contain the hub's identity, so a new hub finds it.
        return object_name(f"{name}-{context.user.name}", identity_hash("claim", context.user.name, name))

    def _own_name(self, name: str, lifetime: Lifetime) -> str:
        if lifetime is Lifetime.persistent and self._context.user_namespaces:
            return name
        if lifetime is Lifetime.persistent:
            return object_name(
                f"{name}-{self._context.user.name}", identity_hash("kept", self._context.user.name, name)
            )
        return object_name(f"{name}-{self._context.user.name}", self._context.owned_hash(name))

    def _manifest_object(self, document: Mapping[str, Any], lifetime: Lifetime, field: str) -> KubeObject:
        rendered = self._render(dict(document), field)
        self._check_manifest(document, field)
        spec = document.get("spec")
        if document.get("kind") == "Pod":
            rendered["spec"] = self._render(spec, field, self._argument_lookup)
        elif isinstance(spec, Mapping) and isinstance(spec.get("template"), Mapping):
            rendered["spec"]["template"] = self._render(spec["template"], field, self._argument_lookup)
        if self._config_maps and isinstance(spec, Mapping):
            rendered["spec"] = self._followed(rendered["spec"])
        metadata = rendered.get("metadata")
        kind, version = rendered.get("kind"), rendered.get("apiVersion")
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        if not (isinstance(kind, str) and isinstance(version, str) and isinstance(name, str) and name):
            raise BuildError(
                "is no Kubernetes object",
                profile=self._slug,
                origin=self._origin,
                field=field,
                expected="apiVersion, kind and metadata.name",
            )
        body = {k: v for k, v in rendered.items() if k not in ("apiVersion", "kind", "status")}
        body["metadata"] = {k: v for k, v in rendered["metadata"].items() if k != "name"}
        return KubeObject(version, kind, name, lifetime, field, body)

    # ---------------------------------------------------------------------------------------------- files

    def _login_files(self) -> None:
        """Add the files that a shell reads, in the home directory."""
        for field, name in (("bash_login_path", ".bash_login"), ("bashrc_path", ".bashrc")):
            if field not in self._start.files:
                continue
            if self._start.home is None:
                raise BuildError(
                    "needs to know the home directory",
                    profile=self._slug,
                    origin=self._origin,
                    field=field,
                    hint="Set home_dir, such as '/home/jovyan'",
                )
            self._add_file(field, self._read(field), name.lstrip("."), f"{self._start.home.rstrip('/')}/{name}", 0o644)

    def _init_script(self) -> None:
        """Run a shell script before the server, with the profile's image and volumes."""
        field = "init_script_path"
        if field not in self._start.files:
            return
        self._add_file(field, self._read(field), _INIT_SCRIPT_FILE, INIT_SCRIPT_PATH, 0o755, mount=False)
        self._file_mounts.append(_FileMount(_INIT_SCRIPT_FILE, INIT_SCRIPT_PATH, self._files[-1].personal))
        container: dict[str, Any] = {
            "name": INIT_CONTAINER_NAME,
            "image": self._start.image,
            "command": ["sh", INIT_SCRIPT_PATH],
            "env": self._container_env(),
            "volumeMounts": list(self._claim_mounts),
        }
        self._init_containers.append(container)
        self._steps.append("Running the start-up script")

    def _add_file(self, field: str, text: str, name: str, mount_path: str, mode: int, *, mount: bool = True) -> None:
        personal = self._mentions_user(text)
        self._check_file(mount_path, text, field, executable=bool(mode & 0o111))
        self._files.append(_File(field, "", name, self._render_text(text, field), mode, personal))
        if mount:
            self._file_mounts.append(_FileMount(name, mount_path, personal))

    def _add_directory(self, field: str, directory: str, config_map: ConfigMap) -> None:
        files = config_map.files()
        if not files:
            return  # there is nothing to mount
        personal = any(map(self._mentions_user, files.values()))
        for name, text in files.items():
            path = f"{(config_map.mount_path or '').rstrip('/')}/{name}"
            self._check_file(path, text, field, executable=bool(config_map.mode & 0o111))
            content = self._render_text(text, field)
            self._files.append(_File(field, directory, name, content, config_map.mode, personal))
        self._file_mounts.append(_FileMount(directory, config_map.mount_path or "/", personal))

    def _own_config_map(self, name: str) -> str | None:
        """Return the name that one of the profile's own ConfigMaps has in the cluster. It is then not only packed."""
        found = self._config_maps.get(name)
        return self._unpacked(*found) if found is not None else None

    def _followed(self, value: Any) -> Any:
        """Return a part of a manifest in which references to the profile's own ConfigMaps have their names.

        They are then owned by the server, since the clean-up of shared ones looks at servers.
        """
        if isinstance(value, list):
            return [self._followed(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        result = {k: self._followed(v) for k, v in value.items()}
        for key in _CONFIG_MAP_REFERENCES.intersection(result):
            reference = result[key]
            found = self._config_maps.get(str(reference.get("name"))) if isinstance(reference, Mapping) else None
            if found is not None:
                result[key] = {**reference, "name": self._unpacked(*found, owned=True)}
        return result

    def _unpacked(self, config_map: ConfigMap, field: str, *, owned: bool = False) -> str:
        """Add a ConfigMap as an object of its own, and return its name."""
        files = config_map.files()
        personal = owned or any(map(self._mentions_user, files.values()))
        for key, text in files.items():
            self._check_file(key, text, field, executable=is_run_by_programs(key))
        data = {k: self._render_text(v, field) for k, v in files.items()}
        name = self._files_name(config_map.name, data, personal)
        lifetime = Lifetime.owned if personal else Lifetime.shared
        self._add(KubeObject("v1", "ConfigMap", name, lifetime, field, {"data": data}))
        return name

    def _files_name(self, prefix: str, data: Mapping[str, str], personal: bool) -> str:
        if personal:
            return object_name(
                f"{prefix}-{self._context.user.name}", self._context.owned_hash(prefix, content_hash(data))
            )
        return object_name(prefix, content_hash(data))

    def _pack(self) -> None:
        """Put all mounted files into as few ConfigMaps as their sizes allow, shared and personal ones apart."""
        if self._packed:
            return
        self._packed = True
        if self._files:
            self._steps.insert(0, "Preparing files")
        numbers = itertools.count()
        for personal in (False, True):
            volume_of: dict[str, str] = {}
            for chunk in _chunks(f for f in self._files if f.personal == personal):
                volume = f"profile-files-{next(numbers)}"
                self._pack_chunk(chunk, volume, personal)
                volume_of.update({file.directory or file.name: volume for file in chunk})
            self._mount_files(volume_of, personal)

    def _pack_chunk(self, chunk: Sequence[_File], volume: str, personal: bool) -> None:
        data: dict[str, str] = {}
        items = []
        for file in chunk:
            key = f"{file.directory}.{file.name}" if file.directory else file.name
            if data.setdefault(key, file.text) != file.text:
                raise ConflictError(
                    f"two different files are called {file.name!r}", profile=self._slug, field=file.field
                )
            path = f"{file.directory}/{file.name}" if file.directory else file.name
            items.append({"key": key, "path": path, "mode": file.mode})
        name = self._files_name(f"{self._slug}-files", data, personal)
        fields = ", ".join(dict.fromkeys(f.field for f in chunk))
        lifetime = Lifetime.owned if personal else Lifetime.shared
        self._add(KubeObject("v1", "ConfigMap", name, lifetime, fields, {"data": data}))
        self._volumes.append({"name": volume, "configMap": {"name": name, "items": items}})

    def _mount_files(self, volume_of: Mapping[str, str], personal: bool) -> None:
        for mount in self._file_mounts:
            if mount.personal != personal:
                continue
            target = {
                "name": volume_of[mount.path],
                "mountPath": mount.mount_path,
                "subPath": mount.path,
                "readOnly": True,
            }
            if mount.path == _INIT_SCRIPT_FILE:
                for container in self._init_containers:
                    if container["name"] == INIT_CONTAINER_NAME:
                        container["volumeMounts"].append(target)
            else:
                self._mounts.append(target)
        for container in self._init_containers:
            container["volumeMounts"] = [self._of_files(m, volume_of) for m in container["volumeMounts"]]

    def _of_files(self, mount: dict[str, Any], volume_of: Mapping[str, str]) -> dict[str, Any]:
        """Return a mount of an init container; one of a ConfigMap by its name as one of the packed files."""
        path, key = self._config_map_paths.get(mount["name"], ("", None))
        if path not in volume_of or any(v["name"] == mount["name"] for v in self._volumes):
            return mount
        target, inside = mount["mountPath"], mount.get("subPath")
        if key is not None and not inside:
            target = f"{target.rstrip('/')}/{key}"
        within = f"{path}/{inside}" if key is None and inside else path
        return {"name": volume_of[path], "mountPath": target, "subPath": within, "readOnly": True}


def _with_structures(value: Any, name: str, found: Any) -> Any:
    """Return a value in which a reference to a structure is replaced with it. Its texts are the reference."""
    if isinstance(found, str):
        return value
    return each_text(value, lambda text: each_text(found, lambda _: text) if references_in(text) == {name} else text)


class _Arguments(Mapping[str, Any]):
    """Params and facts as they stand in environment values and arguments.

    Kubernetes replaces `$(NAME)` there, but not in what users have typed.
    """

    def __init__(self, lookup: Mapping[str, Any], is_theirs: Callable[[str], bool]) -> None:
        self._lookup = lookup
        self._is_theirs = is_theirs

    def __getitem__(self, name: str) -> Any:
        value = self._lookup[name]
        return _without_references(value) if self._is_theirs(name) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._lookup)

    def __len__(self) -> int:
        return len(self._lookup)


def _without_references(value: Any) -> Any:
    if isinstance(value, str):
        return escape_dollars(value)
    if isinstance(value, Mapping):
        return {_without_references(k): _without_references(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_references(v) for v in value]
    return value


def _chunks(files: Iterable[_File]) -> list[list[_File]]:
    """Distribute files over ConfigMaps, first fit; the files of one directory stay together where they fit."""
    chunks: list[list[_File]] = []
    sizes: list[int] = []
    groups: dict[str, list[_File]] = {}
    for file in files:
        groups.setdefault(file.directory or f"/{file.name}", []).append(file)
    for group in groups.values():
        size = sum(len(f.text.encode()) for f in group)
        for index, used in enumerate(sizes):
            if used + size <= _BIN_BYTES:
                chunks[index].extend(group)
                sizes[index] += size
                break
        else:
            if size > MAX_CONFIG_MAP_BYTES:
                raise BuildError(
                    f"the files of one directory have {size:,} bytes; one ConfigMap holds {MAX_CONFIG_MAP_BYTES:,}",
                    field=group[0].field,
                    hint="Mount them as several directories, or put them into the image",
                )
            chunks.append(list(group))
            sizes.append(size)
    return chunks


def _param_text(value: Any) -> str:
    """Return a param's value as the text of an environment variable or file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=_thaw)
    return "" if value is None else str(value)


def _thaw(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
