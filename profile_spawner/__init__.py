"""ProfileSpawner: the profile engine for JupyterHub on Kubernetes.

This module exports the public API for authors of profiles. Each name is imported at its first use, so that
`import profile_spawner` is fast. The spawner class `ProfileSpawner` is in `profile_spawner.spawner`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .apps import (
        BaseCoderProfile,
        BaseJupyterLabProfile,
        BaseRemoteDesktopProfile,
    )
    from .apps.assets import load_config_map, load_manifests
    from .errors import ProfileDefinitionError, ProfileSpawnerError
    from .params.definition import Param
    from .profiles.access import UserInfo
    from .profiles.base import BaseAppProfile, PlainProfile, ProfileBuild
    from .profiles.registry import profile_registry
    from .profiles.resources import (
        ConfigMap,
        ImagePullSecret,
        InitContainer,
        Manifest,
        Role,
        RoleBinding,
        SecretMount,
        Subject,
        Volume,
        VolumeMount,
    )
    from .profiles.template import Template

__all__ = [
    "BaseAppProfile",
    "BaseCoderProfile",
    "BaseJupyterLabProfile",
    "BaseRemoteDesktopProfile",
    "ConfigMap",
    "ImagePullSecret",
    "InitContainer",
    "Manifest",
    "Param",
    "PlainProfile",
    "ProfileBuild",
    "ProfileDefinitionError",
    "ProfileSpawnerError",
    "Role",
    "RoleBinding",
    "SecretMount",
    "Subject",
    "Template",
    "UserInfo",
    "Volume",
    "VolumeMount",
    "load_config_map",
    "load_manifests",
    "profile_registry",
]

_HOME = {
    "BaseAppProfile": "profiles.base",
    "BaseCoderProfile": "apps",
    "BaseJupyterLabProfile": "apps",
    "BaseRemoteDesktopProfile": "apps",
    "Param": "params.definition",
    "PlainProfile": "profiles.base",
    "ProfileBuild": "profiles.base",
    "ProfileDefinitionError": "errors",
    "ProfileSpawnerError": "errors",
    "Template": "profiles.template",
    "UserInfo": "profiles.access",
    "load_config_map": "apps.assets",
    "load_manifests": "apps.assets",
    "profile_registry": "profiles.registry",
}
"""The module that defines each name. Names that are not listed are defined in `profiles.resources`."""


def __getattr__(name: str) -> Any:
    if name == "__version__":  # JupyterHub logs it when it starts
        from importlib.metadata import version

        return version("jupyterhub-profile-spawner")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOME.get(name, 'profiles.resources')}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
