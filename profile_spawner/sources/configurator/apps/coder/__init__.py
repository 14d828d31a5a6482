"""The family, where plug-ins look for it."""

from .base_coder import BaseCoderProfile
from .coder_profiles import CoderProfile, DaskGatewayCoderProfile, GpuCoderProfile

__all__ = ["PROFILES", "BaseCoderProfile", "CoderProfile", "DaskGatewayCoderProfile", "GpuCoderProfile"]

PROFILES = (CoderProfile, GpuCoderProfile, DaskGatewayCoderProfile)
"""The ready-made profiles."""
