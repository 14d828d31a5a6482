"""ProfileSpawner: the profile engine for JupyterHub on Kubernetes.

The names here are an author's interface; everything that a module of profiles needs. They are loaded on first use, so
that the parts which need none of them start quickly. `ProfileSpawner` itself stands in `profile_spawner.spawner`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
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
    "UserInfo": "profiles.access",
    "load_config_map": "apps.assets",
    "load_manifests": "apps.assets",
    "profile_registry": "profiles.registry",
}
"""The module of each name; what is not listed is a model of `profiles.resources`."""


def __getattr__(name: str) -> Any:
    if name == "__version__":  # JupyterHub logs it when it starts
        return importlib.metadata.version("jupyterhub-profile-spawner")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOME.get(name, 'profiles.resources')}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
