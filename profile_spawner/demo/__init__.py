"""A hub to try everything with: one command, one machine, nothing to install beside this package."""

from .running import run_demo
from .settings import DemoSettings, DemoUser

__all__ = ["DemoSettings", "DemoUser", "run_demo"]
