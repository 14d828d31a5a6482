"""A demo hub: one command starts it on one machine, and it needs only this package."""

from .running import run_demo
from .settings import DemoSettings, DemoUser

__all__ = ["DemoSettings", "DemoUser", "run_demo"]
