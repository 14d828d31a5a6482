"""The family, where plug-ins look for it."""

from profile_spawner.apps import BaseJupyterLabProfile

__all__ = ["BaseJupyterLabProfile"]
