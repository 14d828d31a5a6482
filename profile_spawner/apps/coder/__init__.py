"""VS Code in the browser, with code-server."""

from .base_coder import BaseCoderProfile
from .coder_profiles import CoderProfile, GpuCoderProfile

__all__ = ["BaseCoderProfile", "CoderProfile", "GpuCoderProfile"]
