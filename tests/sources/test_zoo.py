"""The zoo of broken plug-ins: whatever a module does, the others and the hub go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_spawner.sources.reloader import ProfileService
from tests.sources.conftest import module, put, served

# name: (text, line at which it is broken or 0, words that the problem must contain)
BROKEN = {
    "syntax_error": ("import os\n\ndef f(:\n    pass\n", 3, "SyntaxError"),
    "bad_indent": ("if True:\npass\n", 2, "IndentationError"),
    "null_byte": ("x = 1\0\n", 0, ""),
    "import_error": ("import os\nimport no_such_package_anywhere\n", 2, "no_such_package_anywhere"),
    "raises": ("x = 1\n1 / 0\n", 2, "ZeroDivisionError"),
    "raises_deep": ("def f():\n    raise KeyError('x')\n\nf()\n", 2, "KeyError"),
    "sys_exit": ("import sys\n\nsys.exit(3)\n", 3, "sys.exit"),
    "os_exit": ("import os\n\nos._exit(3)\n", 0, "status 3"),
    "endless_loop": ("import time\n\nwhile True: x = 1\n", 3, "end"),
    "endless_sleep": ("import time\n\ntime.sleep(1000)\n", 3, "end"),
    "endless_thread": ("import threading as t, time\nt.Thread(target=time.sleep, args=(1000,)).start()\n", 2, "thread"),
    "segfault": ("import ctypes\n\nctypes.string_at(0)\n", 3, "SIGSEGV"),
    "abort": ("import os\n\nos.abort()\n", 3, "SIGABRT"),
    "fork": ("import os\n\nos.fork()\n", 3, "process"),
    "fork_bomb": ("import os\nwhile True:\n    os.fork()\n", 3, "process"),
    "hidden_fork": ("import ctypes, time\n\nif not ctypes.CDLL(None).fork():\n    time.sleep(1000)\n", 0, "starts"),
    "double_fork": (
        "import ctypes, time\n\nlibc = ctypes.CDLL(None)\npid = libc.fork()\nif not pid:\n"
        "    if not libc.fork():\n        time.sleep(1000)\n    libc._exit(0)\nlibc.waitpid(pid, 0, 0)\n",
        0, "starts processes",
    ),
    "subprocess": ("import subprocess\n\nsubprocess.run(['true'])\n", 3, "process"),
    "kill_hub": ("import os\n\nos.kill(os.getppid(), 9)\n", 0, "killed"),
    "memory": ("x = 1\nx = bytearray(2_000_000_000)\n", 2, "memory"),
    "recursion": ("def f():\n    f()\n\nf()\n", 2, "RecursionError"),
    "base_exception": ("class Odd(BaseException): pass\nraise Odd('x')\n", 2, "Odd"),
    "keyboard": ("raise KeyboardInterrupt\n", 1, "KeyboardInterrupt"),
    "patch_json": ("import json\njson.dumps = None\n", 2, "json.dumps"),
    "patch_builtin": ("import builtins\nbuiltins.open = print\n", 2, "builtins.open"),
    "patch_base": (
        "from profile_spawner import BaseAppProfile\nBaseAppProfile.build = None\n", 2, "BaseAppProfile.build",
    ),
    "patch_modules": ("import sys, types\nsys.modules['json'] = types.ModuleType('json')\n", 0, "module json"),
    "patch_path": ("import sys\nsys.path.insert(0, '/tmp')\n", 2, "sys.path"),
    "patch_environment": ("import os\nos.environ['PATH'] = '/x'\n", 2, "PATH"),
    "patch_streams": ("import sys, io\nsys.stderr = io.StringIO()\n", 2, "stream"),
    "change_directory": ("import os\nos.chdir('/')\n", 2, "directory"),
    "patch_foreign": (
        "import tornado.web\ndef no(self): pass\ntornado.web.RequestHandler.get_current_user = no\n",
        3, "tornado.web.RequestHandler.get_current_user",
    ),
    "patch_library": (
        "import sqlalchemy.engine\n\nsqlalchemy.engine.Engine.connect = None\n",
        3, "Engine.connect",
    ),
    "patch_hub": (
        "from jupyterhub import user\nfrom jupyterhub.user import User\n\nUser.spawn = print\n",
        4, "jupyterhub.user.User.spawn",
    ),
    "recursion_limit": ("import sys\nsys.setrecursionlimit(5000)\n", 2, "recursion limit"),
    "switch_interval": ("import sys\nsys.setswitchinterval(1)\n", 2, "switch interval"),
    "logging_off": ("import logging\nlogging.disable(logging.CRITICAL)\n", 2, "logging"),
    "umask": ("import os\nos.umask(0o077)\n", 2, "umask"),
    "socket_timeout": ("import socket\nsocket.setdefaulttimeout(3)\n", 2, "sockets"),
    "file_limit": (
        "import resource as r\nr.setrlimit(r.RLIMIT_NOFILE, (300, r.getrlimit(r.RLIMIT_NOFILE)[1]))\n", 2, "limits",
    ),
    "new_environment": ("import os\nos.environ['HTTP_PROXY'] = 'http://x'\n", 2, "HTTP_PROXY"),
    "forged_answer": (
        "import os\nfor fd in range(3, 300):\n    try:\n"
        "        os.write(fd, b'{\"nonce\": \"\", \"done\": 0, \"problems\": []}\\n')\n    except OSError:\n"
        "        pass\nos._exit(3)\n",
        0, "status 3",
    ),
    "exiting_access": (
        module("x").replace(
            'image = "example/image:1"',
            'image = "example/image:1"\n    @classmethod\n    def is_available_to(cls, u):\n        raise SystemExit',
        ), 0, "SystemExit",
    ),
    "wrong_type": (
        module("wrong").replace('image = "example/image:1"', "image = 7"), 8, "image",
    ),
    "no_profile_class": (
        "from profile_spawner import profile_registry\n\nclass X: pass\n\nprofile_registry.register(X)\n", 3, "X",
    ),
    "raising_property": (
        module("prop").replace(
            'image = "example/image:1"',
            'image = "example/image:1"\n    @property\n    def pod_env_vars(self):\n        raise RuntimeError("no")',
        ), 0, "",
    ),
    "raising_hook": (
        module("hook").replace(
            'image = "example/image:1"',
            'image = "example/image:1"\n    def get_config_maps(self):\n        raise RuntimeError("no")',
        ), 10, "RuntimeError",
    ),
    "endless_hook": (
        module("hook").replace(
            'image = "example/image:1"',
            'image = "example/image:1"\n    def get_config_maps(self):\n        while True: x = 1',
        ), 10, "end",
    ),
    "duplicate_slug": (module("good"), 4, "good"),
}  # fmt: skip


@pytest.fixture
async def service(folder: Path, make_service: Callable[..., ProfileService]) -> ProfileService:
    """Return a service with two good modules, loaded."""
    put(folder, "good.py", module("good"))
    put(folder, "zoo.py", module("zoo"))
    service = make_service(trial_timeout=1.5, trial_memory=256 * 1024 * 1024)
    assert list((await service.ready()).entries) == ["good", "zoo"]
    return service


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_module_takes_nothing_away(kind: str, service: ProfileService, folder: Path) -> None:
    """A module that becomes broken keeps its last good profiles, the problem names file and line, mending it helps."""
    text, line, words = BROKEN[kind]
    before = served(service.snapshot)
    (folder / "zoo.py").write_text(text)
    put(folder, "other.py", module("other"))
    report = await service.reload()
    after = served(service.snapshot)
    assert after.pop("other")
    assert after == before
    assert len(report.problems) == 1, report.problems
    problem = report.problems[0]
    assert problem.origin is not None
    assert problem.origin.source == str(folder / "zoo.py")
    if line:
        assert problem.origin.line == line
    assert words in str(problem)
    put(folder, "zoo.py", module("zoo", "example/image:2"))
    report = await service.reload()
    assert report.successful
    assert [str(c) for c in report.changes] == ["zoo (image)"]


async def test_a_hub_that_starts_with_the_whole_zoo(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """Good modules among many broken ones are offered, and every broken one is reported once."""
    put(folder, "aaa.py", module("aaa"))
    put(folder, "a_good.py", module("good"))
    put(folder, "zzz.py", module("zzz"))
    for kind, (text, _, _) in BROKEN.items():
        (folder / f"broken_{kind}.py").write_text(text)
    service = make_service(trial_timeout=1.5, trial_memory=256 * 1024 * 1024)
    snapshot = await service.ready()
    assert set(snapshot.entries) == {"aaa", "good", "zzz"}
    blamed = [p.origin.source for p in service.problems if p.origin]
    assert sorted(blamed) == sorted(str(folder / f"broken_{kind}.py") for kind in BROKEN)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.py")


def _outside(path: Path) -> None:
    outside = path.parent.parent / "outside.py"
    outside.write_text(module("outside"))
    path.symlink_to(outside)


def _sparse(path: Path) -> None:
    with path.open("wb") as f:
        f.truncate(1 << 30)


def _world_writable(path: Path) -> None:
    path.write_text(module("zoo"))
    path.chmod(0o666)


def _foreign(path: Path) -> None:
    path.write_text(module("zoo"))
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12345, 12345)


def _unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read everything")
    path.write_text(module("zoo"))
    path.chmod(0)


def _folder_named_like_a_module(path: Path) -> None:
    path.mkdir()


ODD_FILES = {
    "dangling link": (_dangling, "cannot be read"),
    "link out of the folder": (_outside, "leads out"),
    "FIFO": (os.mkfifo, "regular file"),
    "1 GiB sparse": (_sparse, "too large"),
    "world-writable": (_world_writable, "chmod o-w"),
    "foreign-owned": (_foreign, "belongs to another user"),
    "unreadable": (_unreadable, "cannot be read"),
    "directory": (_folder_named_like_a_module, "regular file"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
async def test_an_odd_file_takes_nothing_away(kind: str, service: ProfileService, folder: Path) -> None:
    """A file that cannot or must not be read is refused; its last good profiles stay."""
    make, words = ODD_FILES[kind]
    before = served(service.snapshot)
    (folder / "zoo.py").unlink()
    make(folder / "zoo.py")
    report = await service.reload()
    assert served(service.snapshot) == before
    assert [words in str(p) and str(folder / "zoo.py") in str(p) for p in report.problems] == [True]


async def test_an_empty_file_is_a_module_without_profiles(service: ProfileService, folder: Path) -> None:
    """Emptying a file is a change like any other: its profiles are gone, and nothing is wrong."""
    (folder / "zoo.py").write_text("")
    report = await service.reload()
    assert report.successful
    assert list(service.snapshot.entries) == ["good"]


LARGE = "profiles:\n- {slug: large, display_name: L, image: i}\nparams:\n" + "".join(
    f"  p{n}/x: {{default: [1, 2, 3, 4, 5, 6, 7, 8]}}\n" for n in range(15_000)
)


async def test_a_document_that_takes_too_long(
    folder: Path, tmp_path: Path, make_service: Callable[..., ProfileService]
) -> None:
    """It is refused before the hub reads it, and the others are served."""
    documents = tmp_path / "documents"
    put(documents, "large.yaml", LARGE)
    put(documents, "small.yaml", "[{slug: small, display_name: S, image: i}]")
    put(folder, "a.py", module("a"))
    service = make_service(profile_documents=(documents,), trial_timeout=1.5)
    assert list((await service.ready()).entries) == ["a", "small"]
    (problem,) = service.problems
    assert problem.origin is not None
    assert problem.origin.source == str(documents / "large.yaml")
    assert "does not come to an end" in str(problem)


RULE = """
    @classmethod
    def is_available_to(cls, user):
        raise SystemExit
"""


async def test_access_rules_are_asked_although_groups_are_named(
    folder: Path, make_service: Callable[..., ProfileService]
) -> None:
    """A rule that would end the hub is found, for every user of the profile."""
    text = module("x").replace("    image", '    allowed_groups = ["gpu"]\n    image')
    put(folder, "x.py", text.replace("\nprofile_registry", RULE + "\nprofile_registry"))
    service = make_service()
    assert not (await service.ready()).entries
    assert ["access rule raises SystemExit" in str(p) for p in service.problems] == [True]
