"""The base class with the configurator's defaults and constructor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from profile_spawner.apps.workspace import workspace_volume
from profile_spawner.profiles import base as profile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.resources import Volume
from profile_spawner.profiles.selection import Selection

from ..fact_names import FACT_NAMES

__all__ = ["BaseAppProfile", "WorkspaceProfile"]


class BaseAppProfile(profile.BaseAppProfile):
    """A profile as the configurator has it: one core and 1G of memory, login files in `/workspace`.

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
    HOOKS_RETURN_TEMPLATES: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take a `default_url` such as `lab`, as the ApplicationHub does."""
        super().__init_subclass__(**kwargs)
        url = vars(cls).get("default_url")
        if isinstance(url, str) and not url.startswith("/"):
            cls.default_url = f"/{url}" if url else None

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
        # There what is built is the attribute, which a constructor may have changed.
        vars(self)["get_default_volumes"] = lambda: self.volumes

    @cached_property
    def volumes(self) -> list[Volume]:
        """The family's volumes, and those that the constructor was given."""
        return [*type(self).get_default_volumes(self), *self._given_volumes]

    def get_default_volumes(self) -> list[Volume]:
        """Return no volumes: not the method of the base, so that the attribute is looked at."""
        return []


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

    def get_default_volumes(self) -> list[Volume]:
        """Return the workspace: a claim that outlives the server."""
        return [workspace_volume(self.workspace_volume_size, self.storage_class_rwo, "/workspace")]
