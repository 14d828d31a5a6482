"""Detects import side effects: what a module changed in the process while it was imported."""

from __future__ import annotations

import contextlib
import gc
import importlib
import locale
import logging
import os
import re
import resource
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Baseline", "child_processes", "import_libraries", "line_with"]

_WATCHED = frozenset(
    {
        "aiohttp", "asyncio", "base64", "builtins", "collections", "concurrent", "contextlib", "contextvars", "copy",
        "datetime", "functools", "hashlib", "hmac", "http", "importlib", "inspect", "io", "json", "jupyterhub",
        "kubernetes_asyncio", "kubespawner", "logging", "os", "pathlib", "pickle", "posixpath", "profile_spawner",
        "prometheus_client", "pydantic", "random", "re", "secrets", "select", "selectors", "shutil", "signal", "socket",
        "sqlalchemy", "ssl", "string", "subprocess", "sys", "tempfile", "threading", "time", "tornado", "traceback",
        "traitlets", "types", "urllib", "warnings", "weakref", "yaml",
    }
)  # fmt: skip
"""The packages that a hub needs most. Looking at all modules would take longer than the import itself."""
_WATCHED_CLASSES = frozenset({"profile_spawner", "asyncio", "json", "logging", "threading", "pathlib"})
"""Where methods of classes are compared as well."""
_LIBRARIES = frozenset(
    {"aiohttp", "jupyterhub", "kubernetes_asyncio", "kubespawner", "sqlalchemy", "tornado", "traitlets"}
)
"""The hub's libraries. They are loaded in advance if a module imports them, to be compared, too."""
_METHODS = (types.FunctionType, types.BuiltinFunctionType, classmethod, staticmethod, property)
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_][\w.]*)", re.MULTILINE)
_REPLACEABLE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)


def child_processes() -> list[int]:
    """Return the process ids of this process's children, as far as the system tells."""
    found = []
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            found += [int(n) for n in tasks.read_text().split()]
    return found


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _handlers() -> list[Any]:
    return [signal.getsignal(n) for n in signal.valid_signals()]


def _limits() -> list[Any]:
    return [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")]


_FINDERS: int = len(sys.meta_path)
"""Packages may add finders at the end."""
_SETTINGS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "changes sys.path": (lambda: list(sys.path), "sys.path"),
    "changes the import system": (
        lambda: (list(sys.path_hooks), sys.meta_path[:_FINDERS]),
        "sys.meta_path|sys.path_hooks",
    ),
    "replaces a standard stream": (lambda: [id(s) for s in (sys.stdin, sys.stdout, sys.stderr)], "sys.std|.std"),
    "changes the working directory": (os.getcwd, "chdir"),
    "changes the recursion limit": (sys.getrecursionlimit, "setrecursionlimit"),
    "changes the switch interval": (sys.getswitchinterval, "setswitchinterval"),
    "changes the settings of the garbage collector": (lambda: (gc.isenabled(), gc.get_threshold()), "gc."),
    "sets a trace or profile function": (lambda: (sys.gettrace(), sys.getprofile()), "settrace|setprofile"),
    "replaces an exception hook": (lambda: (sys.excepthook, sys.unraisablehook, threading.excepthook), "hook"),
    "switches logging off": (lambda: logging.root.manager.disable, "disable"),
    "changes the root logger's level": (lambda: logging.root.level, "setLevel|basicConfig"),
    "changes the umask": (_umask, "umask"),
    "changes the default timeout of sockets": (socket.getdefaulttimeout, "setdefaulttimeout"),
    "changes resource limits": (_limits, "setrlimit"),
    "changes signal handlers": (_handlers, "signal"),
    "changes the locale": (lambda: locale.setlocale(locale.LC_ALL), "setlocale"),
    "starts processes": (
        lambda: resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt,
        "subprocess|fork|popen|Popen|spawn",
    ),
}
"""Settings of the whole process, by what a module does that changes one: how the setting is read, and what the line
that changes it probably contains (the alternatives are separated by `|`)."""


def import_libraries(texts: Iterable[bytes]) -> None:
    """Import the modules of the hub's libraries that code imports, so that they are a part of the baseline."""
    names = {name.decode() for text in texts for name in _IMPORT.findall(text)}
    for name in sorted(names):
        if name.partition(".")[0] in _LIBRARIES:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def line_with(words: str, files: Mapping[str, bytes]) -> tuple[str, int]:
    """Return the file and the first line, without imports, that contains one of the words; else an empty text and 0."""
    for path, content in files.items():
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if not line.lstrip().startswith(("import ", "from ")) and any(w in line for w in words.split("|")):
                return path, number
    return "", 0


class Baseline:
    """The state of the process before modules are imported."""

    def __init__(self) -> None:
        self._modules = {
            name: (module, dict(vars(module)))
            for name, module in list(sys.modules.items())
            if isinstance(module, types.ModuleType) and name.partition(".")[0] in _WATCHED
        }
        self._classes = [
            (value, _attributes(value, methods=name.partition(".")[0] in _LIBRARIES))
            for name, (_, contents) in self._modules.items()
            if name.partition(".")[0] in _WATCHED_CLASSES | _LIBRARIES
            for value in contents.values()
            if isinstance(value, type) and value.__module__ == name
        ]
        self._settings = {what: read() for what, (read, _) in _SETTINGS.items()}
        self._environment = dict(os.environ)
        self._threads = set(threading.enumerate())
        self._known = len(sys.modules)

    def differences(self, author: str) -> list[tuple[str, str]]:
        """Return what is different now, in words that complete "the module ...", and what a line says that does it.

        Args:
            author: The package of the modules that are tried. Where their functions are found in other packages, they
                have replaced something.
        """
        found = []
        started = [t.name for t in threading.enumerate() if t not in self._threads and t.is_alive()]
        if started:
            found.append((f"leaves threads running ({', '.join(started[:3])})", "Thread|.start("))
        changed = [what for what, before in self._settings.items() if _SETTINGS[what][0]() != before]
        if child_processes() and "starts processes" not in changed:
            changed.append("starts processes")
        found += [(what, _SETTINGS[what][1]) for what in changed]
        replaced = [*self._replaced(), *(self._planted(author) if len(sys.modules) != self._known else ())]
        found += [(f"replaces {name}", name.rpartition(".")[2].removeprefix("module ")) for name in replaced]
        environment = dict(os.environ)
        if environment != self._environment:
            names = sorted({k for k, _ in set(environment.items()) ^ set(self._environment.items())})
            found.append((f"changes environment variables ({', '.join(names[:3])})", "|".join([*names, "environ"])))
        return found

    def _replaced(self) -> Iterator[str]:
        for name, (module, before) in self._modules.items():
            if sys.modules.get(name) is not module:
                yield f"module {name}"
                continue
            now = vars(module)
            for key, value in before.items():
                if now.get(key) is not value and isinstance(value, _REPLACEABLE):
                    yield f"{name}.{key}"
        for cls, attributes in self._classes:
            present = vars(cls)
            for key, value in attributes.items():
                if present.get(key) is not value and not key.startswith(("__", "_abc")):
                    yield f"{cls.__module__}.{cls.__qualname__}.{key}"

    def _planted(self, author: str) -> Iterator[str]:
        """Find the author's functions in packages that the author's modules were the first to import."""
        for name, module in list(sys.modules.items()):
            if name in self._modules or name.partition(".")[0] not in _WATCHED:
                continue
            for key, value in list(vars(module).items()):
                if _is_of(value, author):
                    yield f"{name}.{key}"
                elif isinstance(value, type) and value.__module__ == name:
                    yield from (f"{name}.{value.__name__}.{k}" for k, v in vars(value).items() if _is_of(v, author))


def _attributes(cls: type, *, methods: bool) -> dict[str, Any]:
    """Return the attributes of a class; libraries change those that are not methods themselves."""
    return {k: v for k, v in vars(cls).items() if not methods or isinstance(v, _METHODS)}


def _is_of(value: Any, author: str) -> bool:
    where = getattr(value, "__module__", None) if isinstance(value, (types.FunctionType, type)) else None
    return isinstance(where, str) and (where == author or where.startswith(author + "."))
