"""The family, where plug-ins look for it."""

from profile_spawner.apps import BaseCoderProfile

__all__ = ["BaseCoderProfile"]
