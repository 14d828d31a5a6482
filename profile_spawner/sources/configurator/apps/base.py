"""The base class with the configurator's defaults, constructor and `build()`."""

from __future__ import annotations

import contextlib
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from profile_spawner.errors import BuildError, shorten
from profile_spawner.params.definition import REFERENCE, ParamRef
from profile_spawner.params.templates import references_in, render_value
from profile_spawner.profiles import base as profile
from profile_spawner.profiles.attributes import ATTRIBUTES, problems_of
from profile_spawner.profiles.author_code import author_code
from profile_spawner.profiles.base import failure_of, line_of, origin_of
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.hooks import HOOKS
from profile_spawner.profiles.selection import Selection
from profile_spawner.profiles.template import Template, as_templates

from ..fact_names import FACT_NAMES
from ..kube_names import NameMender, volume_name
from ..models import ConfigMap, InitContainer, KubespawnerOverride, Profile, ProfileDefinition, Volume, VolumeMount
from .app_helpers import (
    create_init_container,
    get_bash_login_config_map,
    get_bashrc_config_map,
    get_init_script_config_map,
)

__all__ = ["BaseAppProfile", "WorkspaceProfile", "workspace_volume"]

_EXPRESSION = re.compile(
    r"""\{\{[^{}]*(?<![.\w$"'])(?:spawner\.|namespace\b)[^{}]*\}\}|\{%[^%]*(?<![.\w$"'])(?:spawner\.|namespace\b)[^%]*%\}"""
)
"""A template of the ApplicationHub that is more than a name: with a filter, an operator or a statement."""


class BaseAppProfile(profile.BaseAppProfile):
    """A profile as the configurator has it: one core and 1G of memory, login files in `/workspace`.

    `build()` returns the configurator's `Profile`, and what it returns is what a server gets. So a plug-in may override
    `build()`, `_build_config_maps()` and `_build_init()`. In the result, all texts are templates.

    A constructor of a plug-in's own may hand on what the configurator's takes. `role_bindings` and
    `image_pull_secrets` have no effect there, and none here.
    """

    cpu_guarantee: Any = 1
    cpu_limit: Any = 1
    mem_guarantee: Any = "1G"
    mem_limit: Any = "1G"
    home_dir: Any = "/workspace"
    workspace_volume_size: Any = "20Gi"
    calrissian_volume_size: Any = "50Gi"
    FACT_NAMES: ClassVar[Mapping[str, str]] = FACT_NAMES
    NOT_INCLUDED: ClassVar[Sequence[str]] = ()
    """The objects of the configurator's own profile that this one does not have."""
    SHORTER_FILES: ClassVar[Mapping[str, str]] = {}
    """Further attributes with files that are longer in the configurator's own profile, each with what is different."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take a `default_url` such as `lab`, as the ApplicationHub does, and a slug that is not valid here.

        Saved choices have the slug as it was; it is an alias.
        """
        super().__init_subclass__(**kwargs)
        slug = vars(cls).get("slug")
        if isinstance(slug, str) and slug:
            mender = NameMender()
            with contextlib.suppress(ValueError):  # when it is registered, the slug is refused
                cls.slug = mender.slug(slug)
            cls.WRITTEN_SLUG, cls._notes = slug, tuple(mender.notes)
            if mender.notes:
                cls.aliases = (slug, *vars(cls).get("aliases", ()))
        url = vars(cls).get("default_url")
        if isinstance(url, str):
            cls.default_url = _url(url)

    def __init__(
        self,
        context: ServerContext | None = None,
        *,
        image: str | None = None,
        storage_class_rwo: str | None = None,
        storage_class_rwx: str | None = None,
        volumes: Sequence[Volume] | None = None,
        groups: Sequence[str] | None = None,
        role_bindings: Sequence[Any] | None = None,
        image_pull_secrets: Sequence[Any] | None = None,
        node_selector: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(context, params=params, selection=selection)
        given = {
            "image": image,
            "storage_class_rwo": storage_class_rwo,
            "storage_class_rwx": storage_class_rwx,
            "node_selector": node_selector,
        }
        vars(self).update({name: value for name, value in given.items() if value})
        self.groups = list(groups or type(self).allowed_groups or ())
        self.role_bindings = list(role_bindings or ())
        self.image_pull_secrets = list(image_pull_secrets or ())
        self._given_volumes = list(volumes or ())

    @cached_property
    def volumes(self) -> list[Volume]:
        """The family's volumes, and those that the constructor was given. A constructor may change the list."""
        return [*self._value_of("get_default_volumes"), *self._given_volumes]

    # ---------------------------------------------------------------------------------------------- the configurator's

    def _build_config_maps(self) -> list[ConfigMap]:
        """Return the login files."""
        files = self._start_up_files_of_class()
        maps = {"bash_login_path": get_bash_login_config_map, "bashrc_path": get_bashrc_config_map}
        return [make(files[name], self.slug, persist=False) for name, make in maps.items() if name in files]

    def _build_init(self) -> tuple[list[ConfigMap], list[InitContainer]]:
        """Return the start-up script and the container that runs it, or two empty lists."""
        path = self._start_up_files_of_class().get("init_script_path")
        if path is None:
            return [], []
        mounts = [VolumeMount.model_validate(v.volume_mount).model_copy(update={"name": v.name}) for v in self.volumes]
        script = get_init_script_config_map(path, self.slug, persist=False)
        return [script], [create_init_container(self.image, mounts, self.slug)]

    def build(self) -> Any:
        """Return what this server needs, as the configurator's `Profile`."""
        config_maps = list(self._build_config_maps())
        scripts, containers = self._build_init()
        config_maps += [*scripts, *self._value_of("get_config_maps")]
        return Profile(
            id=f"profile_{self.slug}",
            groups=self.groups,
            definition=ProfileDefinition(
                display_name=self.display_name,
                description=self.description,
                slug=self.slug,
                default=self.default,
                kubespawner_override=KubespawnerOverride(
                    cpu_guarantee=self.cpu_guarantee,
                    cpu_limit=self.cpu_limit,
                    mem_guarantee=self.mem_guarantee,
                    mem_limit=self.mem_limit,
                    image=self.image,
                    extra_resource_limits=self._value_of("get_extra_resource_limits"),
                    extra_resource_guarantees=self.extra_resource_guarantees,
                ),
            ),
            default_url=self.default_url,
            node_selector=self.node_selector,
            volumes=self.volumes,
            config_maps=config_maps,
            init_containers=containers,
            role_bindings=self._value_of("get_role_bindings"),
            image_pull_secrets=[
                {"name": s} if isinstance(s, str) else s for s in self._value_of("get_image_pull_secrets")
            ],
            pod_env_vars=self._value_of("get_pod_env_vars"),
            manifests=self._value_of("get_manifests"),
            env_from_config_maps=self._value_of("get_env_config_maps"),
            env_from_secrets=self._value_of("get_env_secrets"),
            secret_mounts=self._value_of("get_secret_mounts"),
        )

    # ---------------------------------------------------------------------------------------------- ours

    async def hook_values(self) -> Mapping[str, Any]:
        """Return the parts of what `build()` returns, by the hooks of this project.

        Raises:
            BuildError: when `build()` fails or returns something else than a valid `Profile`.
        """
        mender = NameMender()
        built = self._checked_profile(mender)
        self._take(built)
        existing = [m for m in built.config_maps or () if m.exists]
        values: dict[str, Any] = {
            "get_pod_env_vars": built.pod_env_vars or {},
            "get_default_volumes": built.volumes or [],
            "get_config_maps": [m for m in built.config_maps or () if not m.exists],
            "get_secret_mounts": built.secret_mounts or [],
            "get_env_config_maps": built.env_from_config_maps or [],
            "get_env_secrets": built.env_from_secrets or [],
            "get_image_pull_secrets": built.image_pull_secrets or [],
            "get_role_bindings": built.role_bindings or [],
            "get_manifests": built.manifests or [],
            "get_extra_resource_limits": built.definition.kubespawner_override.extra_resource_limits,
        }
        own = {name: await self._call(hook) for name, hook in HOOKS.items() if name not in values}
        own["get_init_containers"] = [*(built.init_containers or ()), *own["get_init_containers"]]
        own["get_kubespawner_override"] = _with_existing(own["get_kubespawner_override"], existing, self._rendered)
        self._notes = tuple(dict.fromkeys((*self._notes, *mender.notes)))
        checked = {name: self._checked(HOOKS[name], value) for name, value in values.items()}
        for name, value in (*checked.items(), ("get_init_containers", built.init_containers or ())):
            for path, text in _literals(value):
                what = f"{'.'.join(path)}: templates do not work here: {shorten(text)!r}"
                raise self._refusal(f"{name}()", what, None, hint="Write the text itself")
        result = {
            name: as_templates(value, partial(self._template, field=f"{name}()")) for name, value in checked.items()
        }
        return {**result, **{name: as_templates(value) for name, value in own.items()}}

    def _value_of(self, name: str) -> Any:
        """Return the checked result of a hook, with the hook and its line in errors."""
        with author_code(lambda e: failure_of(type(self), e, f"{name}()")):
            value = getattr(self, name)()
        return self._checked(HOOKS[name], value)

    def _checked_profile(self, mender: NameMender) -> Profile:
        cls = type(self)
        try:
            with author_code(lambda e: e if isinstance(e, ValidationError) else failure_of(cls, e, "build()")):
                built = self.build()
            if not isinstance(built, Profile | Mapping):
                raise self._refusal("build()", f"returned a {type(built).__name__}", "a configurator.models.Profile")
            return Profile.model_validate(built, context=mender)
        except ValidationError as e:
            problems = [f"{'.'.join(map(str, path))}: {shorten(text, 400)}" for path, text in problems_of(e)]
            raise self._refusal("build()", "; ".join(problems), None, e) from None

    def _take(self, built: Profile) -> None:
        """Take the attributes from what was built. What the page needs earlier must be that of the class."""
        cls, definition = type(self), built.definition
        # Without `allowed_groups`, everyone may use a profile; the configurator's command gives the groups.
        for name, value, known in (
            ("slug", definition.slug, self.slug if self.slug == cls.slug else cls.slug),
            ("display_name", definition.display_name, cls.display_name),
            ("description", definition.description or "", cls.description),
            ("default", definition.default, cls.default),
            ("allowed_groups", sorted(built.groups), sorted(cls.allowed_groups or ())),
        ):
            if value != known:
                what = "groups" if name == "allowed_groups" else name
                raise self._refusal(
                    "build()",
                    f"changes {what} to {shorten(repr(value))}, but users see and choose a profile before it is built",
                    f"{known!r}, as the class has it",
                    hint=f"Set {name} = {value!r} as an attribute of the class",
                )
        override = definition.kubespawner_override
        limits = {
            name: getattr(override, name) for name in ("cpu_guarantee", "cpu_limit", "mem_guarantee", "mem_limit")
        }
        called = sorted(n for n in references_in(override.image) if FACT_NAMES.get(n, n) in ("username", "servername"))
        if called:
            what = f"has {called[0]} in the image: what a user or a server is called may not stand there"
            raise self._refusal("build()", what, None, hint="Use {{ spawner.user.escaped_name }}")
        vars(self).update(
            limits,
            image=self._written("image", override.image),
            extra_resource_guarantees=override.extra_resource_guarantees,
            default_url=_url(self._written("default_url", built.default_url)),
            node_selector=self._written("node_selector", built.node_selector),
        )
        home = Path(self.home_dir) if self.home_dir is not None else None
        mounts = [Path(v.volume_mount.mount_path) for v in built.volumes or ()]
        if home is None or not any(home.is_relative_to(mount) for mount in mounts):
            self.home_dir = None  # the image's own, like the working directory

    def _start_up_files(self) -> dict[str, Any]:
        return {}  # they are among the ConfigMaps and init containers of `build()`

    def _start_up_files_of_class(self) -> dict[str, Any]:
        return super()._start_up_files()

    # ---------------------------------------------------------------------------------------------- templates

    @cached_property
    def _lookup(self) -> Mapping[str, Any]:
        return ChainMap(self._facts(), self.params)  # type: ignore[arg-type]

    def _template(self, text: str, field: str = "build()") -> str:
        """Return the template of a text of the ApplicationHub. What is not a reference to a known name stays text."""
        if "{{" not in text and "{%" not in text:
            return Template(text)
        found = _EXPRESSION.search(REFERENCE.sub("", text))
        if found is not None:
            raise self._refusal(
                field,
                f"the template {shorten(found.group())!r} is more than a name",
                "a name alone, such as {{ spawner.user.name }}",
                hint="Filters, operators and statements of Jinja do not work here; "
                "{{ spawner.user.escaped_name }} is the name in lower case, as Kubernetes takes it",
            )

        def own(match: re.Match[str]) -> str:
            name = match.group(2)
            if name is None or name in self._lookup or name.startswith("spawner.") or "/" in name:
                return match.group()
            return "{{{{" + match.group()[2:]

        return Template(REFERENCE.sub(own, text))

    def _written(self, name: str, value: Any) -> Any:
        """Return the value of an attribute with references replaced, except in what a param gave: users may type it."""
        declared, present = getattr(type(self), name), getattr(self, name)
        if not (isinstance(declared, ParamRef) or ATTRIBUTES[name].references(declared)):
            return self._rendered(value)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            return {k: v if present.get(k) == v else self._rendered(v) for k, v in value.items()}
        return value if value == present else self._rendered(value)

    def _rendered(self, value: Any) -> Any:
        return render_value(as_templates(value, self._template), self._lookup, origin=origin_of(type(self)))

    def _refusal(
        self, field: str, message: str, expected: str | None, error: Exception | None = None, hint: str | None = None
    ) -> BuildError:
        cls = type(self)
        place = None if error is None else failure_of(cls, error).origin
        if place in (None, origin_of(cls)):
            place = line_of(cls, "build")
        return BuildError(message, profile=cls.slug, origin=place, field=field, expected=expected, hint=hint)


def _literals(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the templates of the ApplicationHub that stand where a text is literal, with their places."""
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _literals(item, (*path, str(number)))
    elif isinstance(value, BaseModel):
        for name, item in value:
            if name not in getattr(value, "TEMPLATES", ()):
                yield from _literals(item, (*path, name))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _literals(item, (*path, str(name)))
    elif isinstance(value, str) and path[1:] and _EXPRESSION.search(value):
        yield path, value


def _url(url: str | None) -> str | None:
    return f"/{url}" if url and not url.startswith("/") else url or None


def _with_existing(override: Mapping[str, Any], existing: Sequence[ConfigMap], rendered: Any) -> Mapping[str, Any]:
    """Return the override with ConfigMaps that exist already, mounted as the ApplicationHub does."""
    mounted = [m for m in existing if m.mount_path is not None]
    if not mounted:
        return override
    # An init container mounts them by the same name.
    names = {m.name: f"existing-{n}" if "{{" in m.name else volume_name(m.name) for n, m in enumerate(mounted)}
    volumes = [{"name": names[m.name], "configMap": {"name": rendered(m.name), "defaultMode": m.mode}} for m in mounted]
    mounts = [
        {"name": names[m.name], "mountPath": m.mount_path, "readOnly": True, **({"subPath": m.key} if m.key else {})}
        for m in mounted
    ]
    return {
        **override,
        "volumes": [*override.get("volumes", ()), *volumes],
        "volume_mounts": [*override.get("volume_mounts", ()), *mounts],
    }


def workspace_volume(size: Any, storage_class: str | None) -> Volume:
    """Return the workspace: a claim that outlives the server."""
    return Volume(
        name="workspace-volume",
        claim_name="workspace-claim",
        size=size,
        storage_class=storage_class,
        access_modes=["ReadWriteOnce"],
        volume_mount=VolumeMount(name="workspace-volume", mount_path="/workspace"),
        persist=True,
    )


class WorkspaceProfile(BaseAppProfile):
    """What the configurator's families share: the workspace, its variables, twice the cores and more memory."""

    cpu_limit: Any = 2
    mem_guarantee: Any = "4G"
    mem_limit: Any = "6G"
    storage_class_rwo: Any = "standard"
    pod_env_vars: Any = {
        "HOME": "/workspace",
        "XDG_RUNTIME_DIR": "/workspace/.local",
        "XDG_CONFIG_HOME": "/workspace/.local",
        "XDG_DATA_HOME": "/workspace/.local/share/",
        "CWLTOOL_OPTIONS": "--podman",
    }

    def get_default_volumes(self) -> list[Any]:
        """Return the workspace."""
        return [workspace_volume(self.workspace_volume_size, self.storage_class_rwo)]
