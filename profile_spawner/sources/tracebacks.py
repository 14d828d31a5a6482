"""Converts an exception from a module to an error with the file and line to correct."""

from __future__ import annotations

import re
from pathlib import Path

from profile_spawner.errors import Origin, ProfileSpawnerError, SourceError, raised_at

__all__ = ["describe"]

_OUR_NAMES = re.compile(r"_profile_spawner_\d+\.")


def describe(error: BaseException, path: Path) -> ProfileSpawnerError:
    """Return `error`, raised while the module or package at `path` was imported, as one of ours with file and line."""
    if isinstance(error, ProfileSpawnerError):
        if error.origin is None:
            error.origin = _failing_line(error, path)
        return _forget_frames(error)
    if isinstance(error, SyntaxError):
        origin = Origin(error.filename or str(path), error.lineno or 0)
        text = (error.text or "").strip()
        return SourceError(f"{type(error).__name__}: {error.msg}", origin=origin, value=text or None)
    origin = _failing_line(error, path)
    if isinstance(error, SystemExit):
        return SourceError(
            "the module ends the program (sys.exit) while it is imported", origin=origin, hint="Remove the call"
        )
    if isinstance(error, MemoryError):
        return SourceError("the module needs too much memory while it is imported", origin=origin)
    text = _OUR_NAMES.sub("", str(error))
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    hint = None
    if isinstance(error, ModuleNotFoundError):
        hint = (
            "Set c.ProfileSpawner.configurator_compat = True"
            if error.name == "configurator"
            else "Install it where the hub runs, or put the module into the same folder"
        )
    return SourceError(message[:2000], origin=origin, hint=hint)


def _failing_line(error: BaseException, path: Path) -> Origin:
    """Return the innermost line of the own files of a module or package."""
    own, folder = str(path), f"{path.parent}/"
    return (
        raised_at(error, lambda name: name == own or name.startswith(f"{own}/"))
        or raised_at(error, lambda name: name.startswith(folder))
        or Origin(own)
    )


def _forget_frames(error: ProfileSpawnerError) -> ProfileSpawnerError:
    # Remove the traceback, because its frames keep the whole broken module in memory.
    error.__traceback__ = None
    error.__cause__ = None
    error.__context__ = None
    return error
