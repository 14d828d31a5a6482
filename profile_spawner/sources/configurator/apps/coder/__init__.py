"""The family, where plug-ins look for it."""

from .base_coder import BaseCoderProfile

__all__ = ["BaseCoderProfile"]
