"""Finds out what a module has done to others while it was imported: a hub would not be the same afterwards."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Baseline", "child_processes"]

_WATCHED = frozenset(
    {
        "asyncio", "base64", "builtins", "collections", "concurrent", "contextlib", "contextvars", "copy", "datetime",
        "functools", "hashlib", "hmac", "http", "importlib", "inspect", "io", "json", "jsonschema_rs", "logging", "os",
        "pathlib", "pickle", "posixpath", "profile_spawner", "prometheus_client", "pydantic", "random", "re",
        "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "string", "subprocess", "sys",
        "tempfile", "threading", "time", "traceback", "types", "urllib", "warnings", "weakref", "yaml",
    }
)  # fmt: skip
"""What a hub relies on most. Looking at everything would take longer than the import itself."""
_WATCHED_CLASSES = frozenset({"profile_spawner", "asyncio", "json", "logging", "threading", "pathlib"})
"""Where methods of classes are looked at as well."""
_REPLACEABLE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)


def child_processes() -> list[int]:
    """Return the process ids of this process's children, as far as the system tells."""
    found = []
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            found += [int(n) for n in tasks.read_text().split()]
    return found


class Baseline:
    """How the process looked before a module was imported."""

    def __init__(self) -> None:
        self._modules = {
            name: (module, dict(vars(module)))
            for name, module in list(sys.modules.items())
            if isinstance(module, types.ModuleType) and name.partition(".")[0] in _WATCHED
        }
        self._classes = dict(self._watched_classes())
        self.begin()

    def begin(self) -> None:
        """Note again what belongs to the process as such; the modules were noted before it was forked."""
        self._environment = dict(os.environ)
        self._path = list(sys.path)
        self._hooks = (list(sys.path_hooks), list(sys.meta_path))
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._directory = os.getcwd()  # noqa: PTH109
        self._threads = set(threading.enumerate())

    def _watched_classes(self) -> Iterator[tuple[type, Mapping[str, Any]]]:
        for name, (_, contents) in self._modules.items():
            if name.partition(".")[0] in _WATCHED_CLASSES:
                for value in contents.values():
                    if isinstance(value, type) and value.__module__ == name:
                        yield value, dict(vars(value))

    def differences(self) -> list[str]:
        """Return what is different now, in words that complete "the module ..."."""
        found = []
        started = [t.name for t in threading.enumerate() if t not in self._threads and t.is_alive()]
        if started:
            found.append(f"leaves threads running ({', '.join(started[:3])})")
        if child_processes():
            found.append("starts processes")
        found += [f"replaces {name}" for name in self._replaced()]
        if sys.path != self._path:
            found.append("changes sys.path")
        if self._hooks[0] != sys.path_hooks or any(a is not b for a, b in zip(self._hooks[1], sys.meta_path)):  # noqa: B905
            found.append("changes the import system")
        if any(a is not b for a, b in zip(self._streams, (sys.stdin, sys.stdout, sys.stderr), strict=True)):
            found.append("replaces a standard stream")
        if os.getcwd() != self._directory:  # noqa: PTH109
            found.append("changes the working directory")
        changed = [k for k, v in self._environment.items() if os.environ.get(k) != v]
        if changed:
            found.append(f"changes environment variables ({', '.join(sorted(changed)[:3])})")
        return found

    def _replaced(self) -> Iterator[str]:
        for name, (module, before) in self._modules.items():
            if sys.modules.get(name) is not module:
                yield f"module {name}"
                continue
            now = vars(module)
            if len(now) == len(before) and _same(now, before):
                continue
            for key, value in before.items():
                if isinstance(value, _REPLACEABLE) and now.get(key) is not value:
                    yield f"{name}.{key}"
        for cls, attributes in self._classes.items():
            present = vars(cls)
            for key, value in attributes.items():
                if present.get(key) is not value and not key.startswith(("__", "_abc")):
                    yield f"{cls.__module__}.{cls.__qualname__}.{key}"


def _same(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    try:
        return now == before
    except Exception:  # noqa: BLE001 - values may refuse to be compared
        return False
