"""The family, where plug-ins look for it."""

from .base_jupyterlab import BaseJupyterLabProfile

__all__ = ["BaseJupyterLabProfile"]
