"""JupyterLab."""

from .base_jupyterlab import BaseJupyterLabProfile
from .jupyterlab_profiles import GpuJupyterLabProfile, RedisJupyterLabProfile, SmallJupyterLabProfile

__all__ = ["BaseJupyterLabProfile", "GpuJupyterLabProfile", "RedisJupyterLabProfile", "SmallJupyterLabProfile"]
