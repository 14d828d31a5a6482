"""Stands in for `loguru`, which some plug-ins of the configurator import, where it is not installed."""

from __future__ import annotations

import logging
from functools import partialmethod
from typing import Any

__all__ = ["logger"]

_LOG = logging.getLogger("profile_spawner.configurator")


class _Logger:
    """Writes to the log of Python. What changes the output (`add`, `bind`, `opt`, ...) has no effect."""

    def log(self, level: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        """Write a message, in which `{}` are replaced as `str.format` does it."""
        number = level if isinstance(level, int) else logging.getLevelName(level)
        text = str(message).format(*args, **kwargs) if args or kwargs else str(message)
        _LOG.log(number if isinstance(number, int) else logging.INFO, "%s", text)

    def exception(self, message: Any, *args: Any, **kwargs: Any) -> None:
        """Write a message and the exception that is being handled."""
        _LOG.exception("%s", str(message).format(*args, **kwargs) if args or kwargs else message)

    def _same(self, *_: Any, **__: Any) -> _Logger:
        return self

    trace = debug = partialmethod(log, logging.DEBUG)
    info = success = partialmethod(log, logging.INFO)
    warning = partialmethod(log, logging.WARNING)
    error = partialmethod(log, logging.ERROR)
    critical = partialmethod(log, logging.CRITICAL)
    add = remove = configure = bind = opt = patch = enable = disable = _same


logger = _Logger()
"""It has the methods that plug-ins use."""
