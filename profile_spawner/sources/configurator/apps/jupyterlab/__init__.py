"""The family, where plug-ins look for it."""

from .base_jupyterlab import BaseJupyterLabProfile
from .jupyterlab_profiles import JupyterLabSmallProfile

__all__ = ["PROFILES", "BaseJupyterLabProfile", "JupyterLabSmallProfile"]

PROFILES = (JupyterLabSmallProfile,)
"""The ready-made profiles."""
