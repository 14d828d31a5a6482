"""How modules of one folder import each other, and what a load leaves behind."""

from __future__ import annotations

import builtins
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_spawner.sources.reloader import ProfileService
from tests.sources.conftest import module, put

IMPORTS = [
    "import helper; found = helper.NAME",
    "import helper as other; found = other.NAME",
    "from helper import NAME as found",
    "from . import helper; found = helper.NAME",
    "from .helper import NAME as found",
    "import pkg.sub; found = pkg.sub.NAME",
    "import pkg.sub as sub; found = sub.NAME",
    "import os, pkg.sub, sys; found = pkg.sub.NAME",
    "from pkg import sub; found = sub.NAME",
    "from .pkg.sub import NAME as found",
    "from pkg.inner.deep import NAME as found",
    "from pkg.deep_relative import NAME as found",
    "from _private import NAME as found",
    "import _private; found = _private.NAME",
    "from _shared._base import NAME as found",
    "from folder.deep import NAME as found",
    "import folder.deep; found = folder.deep.NAME",
    "try:\n    from helper import NAME as found\nexcept ImportError:\n    raise",
]


@pytest.fixture
def siblings(folder: Path) -> Path:
    """Return a folder with modules to import."""
    put(folder, "helper.py", "NAME = 'sibling'\n")
    put(folder, "_private.py", "NAME = 'sibling'\n")
    put(folder, "_shared/__init__.py", "from ._base import NAME\n")
    put(folder, "_shared/_base.py", "import _private\nNAME = _private.NAME\n")
    put(folder, "folder/deep.py", "import helper\nNAME = helper.NAME\n")
    put(folder, "pkg/__init__.py", "from pkg.sub import NAME\nimport helper\n")
    put(folder, "pkg/sub.py", "import helper\nfrom .. import helper as again\nNAME = helper.NAME\n")
    put(folder, "pkg/deep_relative.py", "from ..helper import NAME\n")
    put(folder, "pkg/inner/deep.py", "from helper import NAME\n")
    return folder


@pytest.mark.parametrize("line", IMPORTS)
async def test_siblings_are_imported(line: str, siblings: Path, make_service: Callable[..., ProfileService]) -> None:
    """In every way that Python has, at the top and in a function."""
    inside = "".join(f"    {part}\n" for part in f"{line}\nreturn found".splitlines())
    text = f"{line}\ndef late():\n{inside}\nassert late() == found == 'sibling'\n" + module("a")
    put(siblings, "a.py", text)
    service = make_service(trial=False)
    snapshot = await service.ready()
    assert not service.problems
    assert list(snapshot.entries) == ["a"]


async def test_siblings_are_reloaded_together(siblings: Path, make_service: Callable[..., ProfileService]) -> None:
    """A module that imports another one, however indirectly, is loaded again with it."""
    put(siblings, "a.py", "import pkg\n" + module("a", "example/{}:1").replace('"example/{}:1"', 'f"x/{pkg.NAME}:1"'))
    service = make_service(trial=False)
    await service.ready()
    assert not service.problems
    put(siblings, "helper.py", "NAME = 'changed'\n")
    report = await service.reload("watched", full=False)
    assert report.successful
    assert report.loaded == 3
    assert service.snapshot.entries["a"].effective["image"] == "x/changed:1"


async def test_every_module_counts(siblings: Path, make_service: Callable[..., ProfileService]) -> None:
    """Also one whose name begins with an underscore, and one of a folder that is not a package, when it is imported."""
    put(siblings, "_common.py", "import abc\n" + module("common"))
    put(siblings, "_shared/_base.py", "NAME = 'sibling'\n" + module("base"))
    put(siblings, "folder/deep.py", module("deep"))
    put(siblings, "a.py", "import _common, _shared, folder.deep\n" + module("a"))
    snapshot = await (service := make_service()).ready()
    assert not service.problems
    assert sorted(snapshot.entries) == ["a", "base", "common", "deep"]


async def test_a_folder_that_is_given_twice(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """It is loaded once, however its path is written; so is a file of documents."""
    put(folder, "a.py", module("a"))
    document = put(folder, "b.yaml", "profiles: [{slug: b, display_name: B, image: 'b:1'}]\n")
    (folder.parent / "link").symlink_to(folder)
    same = (folder, folder, folder / ".", folder.parent / "link", f"{folder}/", folder / ".." / folder.name)
    service = make_service(profiles_dirs=same, profile_documents=(document, folder.parent / "link" / "b.yaml"))
    snapshot = await service.ready()
    assert not service.problems
    assert list(snapshot.entries) == ["a", "b"]


async def test_a_module_named_like_an_installed_one(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """It finds the installed one under the common name; names of the standard library are never siblings."""
    put(folder, "yaml.py", "import yaml, json\nassert yaml.safe_load and json.dumps\n" + module("y"))
    put(folder, "json.py", "raise ImportError('not me')\n")
    service = make_service(trial=False)
    assert list((await service.ready()).entries) == ["y"]
    assert [p.origin.source for p in service.problems if p.origin] == [f"{folder}/json.py"]


async def test_nothing_is_left_behind(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """Python's import system stays as it is, no bytecode is written, and a failed load leaves no modules."""
    before = list(sys.meta_path), list(sys.path), builtins.__import__
    put(folder, "helper.py", "NAME = 1\n")
    put(folder, "a.py", "import helper\nraise ValueError\n")
    service = make_service(trial=False)
    await service.ready()
    assert len(service.problems) == 1
    (folder / "helper.py").unlink()
    (folder / "a.py").unlink()
    await service.reload()
    gc.collect()
    assert not [name for name in sys.modules if getattr(sys.modules[name], "__file__", None) == f"{folder}/a.py"]
    assert (list(sys.meta_path), list(sys.path), builtins.__import__) == before
    assert not list(folder.rglob("*.pyc"))


async def test_a_broken_sibling_is_named(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """A module that imports a broken one says so, and recovers with it."""
    put(folder, "helper.py", "(\n")
    put(folder, "a.py", "from . import helper\n" + module("a"))
    service = make_service()
    await service.ready()
    assert not service.snapshot.entries
    assert {p.origin.source for p in service.problems if p.origin} == {f"{folder}/helper.py"}
    put(folder, "helper.py", "\n")
    assert (await service.reload("watched", full=False)).successful
    assert list(service.snapshot.entries) == ["a"]
