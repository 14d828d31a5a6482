"""Stands in for `loguru`, which some plug-ins of the configurator import, where it is not installed."""

from __future__ import annotations

import logging

__all__ = ["logger"]

logger = logging.getLogger("profile_spawner.configurator")
"""A plain logger with the methods that plug-ins use."""
