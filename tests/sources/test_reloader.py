"""Profiles that change while the hub runs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from profile_spawner.errors import ProfileWarning
from profile_spawner.migrate.dumping import class_of
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.selection import default_selection
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import SourceSettings
from tests.sources.conftest import folder, make_service, module, put, served, service_of  # noqa: F401 - fixtures


async def until(condition: Callable[[], Any], timeout: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def test_save_break_mend_remove(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A watched folder: a new file appears, a broken one keeps its profile, mending and removing have their effect."""
    put(folder, "a.py", module("a"))
    service = make_service(watch_profiles=True, settle=0.05)
    await service.start()
    put(folder, "b.py", module("b"))
    await until(lambda: "b" in service.snapshot.entries)
    b = service.snapshot.entries["b"]
    put(folder, "b.py", module("b", "example/new:2") + "\n(")
    await until(lambda: service.problems)
    assert service.snapshot.entries["b"] is b
    assert f"{folder}/b.py:12" in str(service.problems[0])
    put(folder, "b.py", module("b", "example/new:2"))
    await until(lambda: not service.problems)
    assert service.snapshot.entries["b"].effective["image"] == "example/new:2"
    (folder / "b.py").unlink()
    await until(lambda: list(service.snapshot.entries) == ["a"])


async def test_a_folder_that_comes_later(tmp_path: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A folder that does not exist yet is a problem that names it, and is loaded when it appears."""
    later = tmp_path / "later"
    service = make_service(profiles_dirs=(later,), watch_profiles=True, settle=0.05)
    await service.start()
    assert str(later) in str(service.problems[0])
    put(later, "a.py", module("a"))
    await until(lambda: "a" in service.snapshot.entries)
    assert not service.problems


async def test_a_folder_that_vanishes_keeps_its_profiles(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """A volume that goes away takes no profile with it; when it is back, all is well."""
    put(folder, "a.py", module("a"))
    service = make_service()
    await service.ready()
    folder.rename(folder.parent / "away")
    report = await service.reload()
    assert list(service.snapshot.entries) == ["a"]
    assert str(folder) in str(report.problems[0])
    (folder.parent / "away").rename(folder)
    assert (await service.reload()).successful


async def test_a_spawn_keeps_its_generation(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """Whoever holds a snapshot goes on with its code: even an import that happens in a hook finds the old sibling."""
    put(folder, "helper.py", "IMAGE = 'example/old:1'\n")
    text = module("a").replace(
        'image = "example/image:1"',
        'image = "example/a:1"\n\n    def get_pod_env_vars(self):\n'
        '        import helper\n        return {"H": helper.IMAGE}',
    )
    put(folder, "a.py", text)
    service = make_service()
    old = await service.ready()
    put(folder, "helper.py", "IMAGE = 'example/new:2'\n")
    report = await service.reload()
    assert [(c.slug, c.fields) for c in report.changes] == [("a", ("hooks",))]

    async def environment(snapshot: Any) -> str:
        selection = snapshot.select({"profile": "a"}, UserInfo("ada"))
        built = await snapshot.build(selection, ServerContext(UserInfo("ada")))
        return str(built.kubespawner_override["environment"]["H"])

    assert await environment(old) == "example/old:1"
    assert await environment(service.snapshot) == "example/new:2"


async def test_unchanged_modules_stay_the_same_objects(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """A reload imports only what has changed, and what imports that."""
    put(folder, "a.py", module("a"))
    put(folder, "b.py", "import a\n" + module("b"))
    put(folder, "c.py", module("c"))
    service = make_service()
    before = (await service.ready()).entries
    put(folder, "a.py", module("a", "example/new:2"))
    report = await service.reload()
    after = service.snapshot.entries
    assert report.loaded == 2
    assert after["c"] is before["c"]
    assert after["b"].profile is not before["b"].profile
    assert (await service.reload()).loaded == 0


async def test_reloads_do_not_grow_the_hub(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """Old generations are freed: modules, classes, lines."""
    put(folder, "pkg/__init__.py", "from .sub import IMAGE\n")
    put(folder, "pkg/sub.py", "IMAGE = 'x:1'\n")
    service = make_service(trial=False)

    async def change(number: int) -> None:
        put(folder, "a.py", "import pkg\n" + module("a", f"example/image:{number}"))
        put(folder, "pkg/sub.py", f"IMAGE = 'x:{number}'\n")
        report = await service.reload()
        assert report.successful
        assert report.loaded == 2

    def ours() -> tuple[int, int]:
        gc.collect()
        modules = [m for m in sys.modules if m.startswith("_profile_spawner_")]
        return len(modules), len(gc.get_objects())

    for number in range(10):
        await change(number)
    modules, objects = ours()
    for number in range(10, 310):
        await change(number)
    more_modules, more_objects = ours()
    assert more_modules == modules
    assert more_objects - objects < 300  # less than one for each reload


async def test_a_held_snapshot_keeps_its_modules_importable(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """Modules leave `sys.modules` when the last snapshot that offers them is gone, not before."""
    put(folder, "a.py", module("a"))
    service = make_service()
    held = await service.ready()
    name = class_of(held.entries["a"]).__module__
    put(folder, "a.py", module("a", "example/new:2"))
    await service.reload()
    assert name in sys.modules
    del held
    gc.collect()
    assert name not in sys.modules


async def test_reloads_are_coalesced(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """However many ask at once: one build runs, one waits, and everybody gets an answer that includes the change."""
    put(folder, "a.py", module("a"))
    service = make_service(trial=False)
    await service.ready()
    builds = 0
    reconcile = service._reconciler.reconcile

    def counted(**kwargs: Any) -> Any:
        nonlocal builds
        result = reconcile(**kwargs)
        builds += 1
        time.sleep(0.05)
        return result

    service._reconciler.reconcile = counted  # type: ignore[method-assign]
    first = asyncio.ensure_future(service.reload())
    await until(lambda: builds == 1)
    put(folder, "a.py", module("a", "example/new:2"))
    reports = await asyncio.gather(*(service.reload(f"reason {n % 3}") for n in range(1000)))
    await first
    assert builds == 2
    assert len({id(r) for r in reports}) == 1
    assert [str(c) for c in reports[0].changes] == ["a (image)"]


async def test_giving_up_does_not_stop_a_reload(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A caller that is cancelled does not take the reload away from the others."""
    put(folder, "a.py", module("a"))
    service = make_service()
    impatient = asyncio.ensure_future(service.reload())
    patient = asyncio.ensure_future(service.reload())
    await asyncio.sleep(0)
    impatient.cancel()
    report = await patient
    assert report.successful
    assert list(service.snapshot.entries) == ["a"]


def _writer(path: Path, versions: list[str], stop: threading.Event, keep_open: bool, begun: list[float]) -> None:
    """Write one version after the other, in pieces of seven bytes. `begun` has the time of one that takes long."""
    number = 0
    while not stop.is_set():
        begun[:] = [time.monotonic()]
        text = versions[number % len(versions)]
        number += 1
        pieces = [text[i : i + 7] for i in range(0, len(text), 7)]
        path.write_text("")
        if keep_open:
            with path.open("w") as f:
                for piece in pieces:
                    f.write(piece)
                    f.flush()
                    time.sleep(0.0002)  # much shorter than the settle time, also on a busy machine
        else:
            for piece in pieces:
                with path.open("a") as f:
                    f.write(piece)
        if time.monotonic() - begun[0] < 0.5:
            begun.clear()
        time.sleep(2.2)


@pytest.mark.parametrize("keep_open", [True, False])
async def test_half_written_files_are_never_seen(
    keep_open: bool,
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """While a file is rewritten in small pieces, only whole versions of it are ever served, and never a problem."""

    # Every prefix of the document that ends after a line is a valid document with fewer profiles.
    def version(v: int) -> str:
        return "".join(f"- {{slug: p{n}, display_name: P{n}, image: 'i:{v}'}}\n" for n in range(12))

    versions = [version(v) for v in range(3)]
    path = put(folder, "doc.yaml", versions[0])
    service = make_service(profiles_dirs=(), profile_documents=(folder,), settle=1.0)
    await service.ready()
    stop = threading.Event()
    begun: list[float] = []
    writer = threading.Thread(target=_writer, args=(path, versions, stop, keep_open, begun))
    writer.start()
    seen = set()
    try:
        for _ in range(1500):
            if len(seen) > 2:
                break
            await asyncio.sleep(0.01)  # the writer's pace, not a wait for something
            report = await service.reload("by hand", full=False)
            if any(time.monotonic() - at > 0.5 for at in list(begun)):
                continue  # the machine has stopped the writer for so long that its file looks finished
            assert report.successful, report.problems
            images = {e.effective["image"] for e in service.snapshot.entries.values()}
            assert len(service.snapshot) == 12
            assert len(images) == 1
            seen |= images
    finally:
        stop.set()
        writer.join()
    assert len(seen) > 1


async def test_a_mounted_config_map(tmp_path: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A folder as the kubelet mounts a ConfigMap, swapped by its `..data` link: read through it, and noticed."""
    mount = tmp_path / "mount"

    def publish(stamp: str, image: str) -> None:
        put(mount / stamp, "doc.yaml", f"[{{slug: a, display_name: A, image: '{image}'}}]")
        put(mount / stamp, "mod.py", module("m", image))
        new = mount / "..data_tmp"
        new.symlink_to(stamp)
        new.rename(mount / "..data")

    publish("..2026_01", "i:1")
    for name in ("doc.yaml", "mod.py"):
        (mount / name).symlink_to(f"..data/{name}")
    service = make_service(profiles_dirs=(mount,), profile_documents=(mount,), watch_profiles=True, settle=0.05)
    await service.start()
    assert not service.problems
    assert {e.effective["image"] for e in service.snapshot.entries.values()} == {"i:1"}
    publish("..2026_02", "i:2")
    await until(lambda: {e.effective["image"] for e in service.snapshot.entries.values()} == {"i:2"})


async def test_content_decides_not_time(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A file with new content and an old time is a change; one that was only touched is none."""
    path = put(folder, "a.py", module("a", "example/image:1"))
    state = path.stat()
    service = make_service()
    await service.ready()
    put(folder, "a.py", module("a", "example/image:2"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert [str(c) for c in (await service.reload()).changes] == ["a (image)"]
    path.touch()
    assert (await service.reload()).loaded == 0


async def test_assets_belong_to_their_profile(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A change of a file in a package, or beside a module, is a change of the profile that uses it."""
    text = module("{slug}").replace(
        'image = "example/image:1"',
        'image = "example/image:1"\n    home_dir = "/home/x"\n    bashrc_path = HERE / "{asset}"',
    )
    head = "from pathlib import Path\nHERE = Path(__file__).parent\n"
    put(
        folder,
        "pkg/__init__.py",
        head + text.replace("{slug}", "pkg").replace("{Slug}", "Pkg").replace("{asset}", "rc"),
    )
    put(folder, "pkg/rc", "one\n")
    put(folder, "mod.py", head + text.replace("{slug}", "mod").replace("{Slug}", "Mod").replace("{asset}", "files/rc"))
    put(folder, "files/rc", "one\n")
    service = make_service()
    await service.ready()
    assert not service.problems
    put(folder, "pkg/rc", "two\n")
    assert [c.slug for c in (await service.reload("watched", full=False)).changes] == ["pkg"]
    put(folder, "files/rc", "two\n")
    assert [c.slug for c in (await service.reload("watched", full=False)).changes] == ["mod"]


START_UP = """
    from pathlib import Path
    from profile_spawner import BaseAppProfile, profile_registry

    HERE = Path(__file__).parent

    @profile_registry.register
    class Lab(BaseAppProfile):
        slug = "lab"
        display_name = "Lab"
        image = "example/lab:{version}"
        home_dir = "/home/lab"
        bash_login_path = HERE / "files" / "{name}"
        bashrc_path = str(HERE / "files" / "{name}")
        init_script_path = HERE / "files" / "{name}"
"""


async def test_start_up_files_belong_to_the_class(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """A class is started with the texts that it was accepted with, even when they have moved or changed since."""
    put(folder, "lab.py", START_UP.format(version=1, name="one.sh"))
    script = put(folder, "files/one.sh", "echo first\n")
    service = make_service()
    before = await service.ready()

    async def texts(snapshot: Snapshot) -> set[str]:
        entry = snapshot.entries["lab"]
        build = await snapshot.build(default_selection(entry.offer), ServerContext.example())
        return {text for o in build.objects if o.kind == "ConfigMap" for text in o.body["data"].values()}

    script.write_text("echo second\n")
    assert await texts(before) == {"echo first\n"}
    await service.reload()
    assert await texts(service.snapshot) == {"echo second\n"}
    script.rename(folder / "files" / "two.sh")
    put(folder, "lab.py", START_UP.format(version=2, name="two.sh") + "    !\n")
    await service.reload()
    assert service.problems
    assert await texts(service.snapshot) == {"echo second\n"}


async def test_an_odd_document_costs_only_itself(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """What nobody thought of in one document, or in one module, is its own problem: the others are served."""
    put(folder, "good.py", module("good"))
    documents = folder.parent / "documents"
    documents.mkdir()
    put(documents, "good.yaml", "[{slug: fine, display_name: F, image: i}]")
    for number, extra in enumerate(("service_account: {$param: a/b}", "kubespawner_override: {port: [1]}")):
        put(documents, f"bad{number}.yaml", f"[{{slug: bad{number}, display_name: B, image: i, {extra}}}]")
    content = "{apiVersion: v1, kind: [Service], metadata: {name: x}}"
    put(
        documents,
        "bad2.yaml",
        f"[{{slug: b, display_name: B, image: i, manifests: [{{name: m, content: [{content}]}}]}}]",
    )
    service = make_service(profile_documents=(documents,))
    assert set((await service.ready()).entries) == {"good", "fine"}
    assert len(service.problems) == 3
    assert all(p.origin for p in service.problems)
    odd = "class Odd:\n    def __repr__(self):\n        raise ZeroDivisionError('odd')\n"
    text = module("odd").replace("image =", 'params = {"a/b": Odd()}\n    image =')
    put(folder, "odd.py", odd + text)
    trusting = make_service(trial=False, profile_documents=(documents,))
    await trusting.ready()
    assert "fine" in trusting.snapshot.entries
    assert any("ZeroDivisionError" in str(p) for p in trusting.problems)


ODD_PARAM = """
    from profile_spawner import Param, profile_registry

    class Odd:
        def __eq__(self, other):
            raise ZeroDivisionError("odd")

    profile_registry.register_param(Param("a/b", default=Odd()))
"""


async def test_an_error_while_the_sources_are_joined_costs_one_source(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """Whatever it is. The others are served and change, administrators see which one it was, and mending it helps."""
    put(folder, "good.py", module("good"))
    for name in ("one", "two"):
        put(folder, f"{name}.py", ODD_PARAM)
    service = make_service(trial=False)
    assert list((await service.ready()).entries) == ["good"]
    assert ["one.py" in str(p) and "ZeroDivisionError: odd" in str(p) for p in service.problems] == [True]
    put(folder, "good.py", module("good", "example/image:2"))
    put(folder, "later.py", module("later"))
    report = await service.reload("watched", full=False)
    assert sorted(c.slug for c in report.changes) == ["good", "later"]
    assert len(report.problems) == 1
    put(folder, "one.py", module("one"))
    report = await service.reload("watched", full=False)
    assert report.successful
    assert sorted(service.snapshot.entries) == ["good", "later", "one"]


async def test_an_unexpected_error_keeps_the_last_profiles(folder: Path, make_service: Any) -> None:  # noqa: F811
    """It is shown to administrators; pages and later reloads work, and what the failed one has seen is loaded again."""
    put(folder, "good.py", module("good"))
    service = make_service()
    await service.ready()
    put(folder, "good.py", module("good", "new:1"))
    reconciler: Any = service._reconciler
    sources, reconciler._sources = reconciler._sources, [None]
    report = await service.reload()
    assert "the sources could not be loaded" in str(report.problems[0])
    assert list((await service.ready()).entries) == ["good"]
    reconciler._sources = sources
    assert (await service.reload("watched", full=False)).successful
    assert service.snapshot.entries["good"].effective["image"] == "new:1"


async def test_who_may_override_whom(folder: Path, tmp_path: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """The same slug twice is an error that names both and the newer one loses, unless the configuration says more."""
    put(folder, "a.py", module("a"))
    documents = tmp_path / "documents"
    put(documents, "doc.yaml", "[{slug: b, display_name: B, image: i}]")
    service = make_service(profile_documents=(documents,))
    await service.ready()
    put(documents, "doc.yaml", "[{slug: b, display_name: B, image: i}, {slug: a, display_name: A, image: i}]")
    report = await service.reload()
    assert service.snapshot.entries["a"].effective["image"] == "example/image:1"
    assert ["a.py:4" in str(p) and "doc.yaml:1" in str(p) for p in report.problems] == [True]
    overriding = make_service(profile_documents=(documents,), source_overrides={"documents": ("python",)})
    snapshot = await overriding.ready()
    assert not overriding.problems
    assert snapshot.entries["a"].effective["image"] == "i"
    (documents / "doc.yaml").unlink()
    await overriding.reload()
    assert overriding.snapshot.entries["a"].effective["image"] == "example/image:1"


PLAIN = """
    from profile_spawner import PlainProfile, profile_registry

    @profile_registry.register
    class Plain(PlainProfile):
        slug = "plain"
        display_name = "Plain"
        kubespawner_overide = {"image": "a:1"}
"""


async def test_what_is_not_meant_is_a_warning_as_long_as_it_is_served(
    folder: Path,  # noqa: F811
    tmp_path: Path,
    make_service: Callable[..., ProfileService],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In documents and in Python, after a good version and after a broken one; nothing is refused."""
    caplog.set_level("INFO", "tests.profiles")
    documents = tmp_path / "documents"
    good = "profile_list:\n- display_name: A\n  kubespawner_override: {image: a}\n"
    bad = good.replace("override", "overide")
    put(documents, "doc.yaml", bad)
    put(folder, "plain.py", PLAIN)
    service = make_service(profile_documents=(documents,))
    await service.ready()
    texts = [str(p) for p in service.problems if isinstance(p, ProfileWarning)]
    assert len(texts) == len(service.problems) == 2
    assert ["plain.py:4" in texts[0], "doc.yaml:3: profile 'a': kubespawner_overide" in texts[1]] == [True, True]
    assert {r.levelname for r in caplog.records} == {"WARNING", "INFO"}
    put(documents, "doc.yaml", good)
    assert [p.profile for p in (await service.reload()).problems] == ["plain"]
    put(documents, "doc.yaml", good + "x: 1\n")
    assert not (await service.reload()).successful
    put(documents, "doc.yaml", bad)
    report = await service.reload()
    assert report.successful
    assert [p.profile for p in report.problems] == ["plain", "a"]
    assert "fine again" not in caplog.text
    (folder / "plain.py").unlink()
    put(documents, "doc.yaml", good)
    assert (await service.reload()).problems == ()
    assert "fine again" in caplog.text
    assert REGISTRY.get_sample_value("profile_spawner_warnings", {"source": "sources"}) == 0


async def test_params_of_documents_reach_modules(
    folder: Path,  # noqa: F811
    tmp_path: Path,
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """A param defined in a document can be used by a module, also while that is tried, and changes with it."""
    documents = tmp_path / "documents"
    put(documents, "params.yaml", "params: {image/x: {schema: {type: string}, default: 'example/p:1'}}")
    text = module("a").replace('"example/image:1"', 'Param.ref("image/x")')
    put(folder, "a.py", text.replace("import BaseAppProfile", "import Param, BaseAppProfile"))
    service = make_service(profile_documents=(documents,))
    snapshot = await service.ready()
    assert not service.problems
    assert snapshot.entries["a"].effective["image"] == "example/p:1"
    put(documents, "params.yaml", "params: {image/x: {schema: {type: string}, default: 'example/p:2'}}")
    await service.reload()
    assert service.snapshot.entries["a"].effective["image"] == "example/p:2"


async def test_the_loop_goes_on(folder: Path, make_service: Callable[..., ProfileService]) -> None:  # noqa: F811
    """The event loop keeps turning while many modules are loaded. The longest pause is printed."""
    for number in range(200):
        put(folder, f"m{number}.py", module(f"m{number}"))
    service = make_service()
    pauses = []

    async def probe() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            pauses.append(time.perf_counter() - start - 0.001)

    probing = asyncio.ensure_future(probe())
    await service.ready()
    probing.cancel()
    assert len(service.snapshot) == 200
    print(f"longest pause of the loop while 200 modules were loaded: {max(pauses) * 1000:.1f} ms")  # noqa: T201
    assert len(pauses) > 20


VERSIONED = """
from profile_spawner import BaseAppProfile, ConfigMap, profile_registry
import version

class Versioned(BaseAppProfile):
    slug = "versioned"
    display_name = "Versioned"
    description = "All of it is of one version"
    image = f"example/image:{version.NUMBER}"
    pod_env_vars = {"VERSION": str(version.NUMBER)}

    async def get_config_maps(self):
        import asyncio, version
        await asyncio.sleep(0)
        return [ConfigMap(name="version", key="version", content=str(version.NUMBER), mount_path="/etc/version")]

profile_registry.register(Versioned)
"""


async def test_spawns_under_continuous_reload_are_of_one_generation(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """A hundred spawns at a time, while profiles change all the time: image, environment and files always agree."""
    put(folder, "version.py", "NUMBER = 0\n")
    put(folder, "versioned.py", VERSIONED)
    service = make_service(trial=False)
    await service.ready()
    assert not service.problems
    running = True
    seen = set()

    async def change() -> None:
        number = 0
        while running:
            number += 1
            put(folder, "version.py", f"NUMBER = {number}\n")
            await service.reload()

    async def spawn() -> None:
        while service.snapshot.generation < 40:
            snapshot = service.snapshot
            selection = snapshot.select({"profile": "versioned"}, UserInfo("ada"))
            built = await snapshot.build(selection, ServerContext(UserInfo("ada")))  # type: ignore[arg-type]
            files = [text for o in built.objects if o.kind == "ConfigMap" for text in o.body["data"].values()]
            versions = {
                built.kubespawner_override["image"].rpartition(":")[2],
                built.kubespawner_override["environment"]["VERSION"],
                *files,
            }
            assert len(versions) == 1
            seen.add((snapshot.generation, *versions))
            await asyncio.sleep(0.02)  # as a request does

    changing = asyncio.ensure_future(change())
    await asyncio.gather(*(spawn() for _ in range(100)))
    running = False
    await changing
    assert len({generation for generation, _ in seen}) > 5
    assert len(seen) == len({generation for generation, _ in seen})


async def test_what_the_administrator_sees(
    folder: Path,  # noqa: F811
    make_service: Callable[..., ProfileService],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has one line for each change, the state tells what is good, stale and broken."""
    caplog.set_level(logging.INFO)
    put(folder, "a.py", module("a"))
    put(folder, "b.py", module("b"))
    service = make_service()
    await service.ready()
    put(folder, "a.py", module("a", "example/new:2"))
    put(folder, "b.py", "(")
    put(folder, "c.py", "(")
    await service.reload("by hand")
    assert service._reconciler.counts() == {"good": 1, "stale": 1, "broken": 1}
    assert len(service.snapshot) == 2
    assert any("by hand" in m and "changed: a (image)" in m for m in caplog.messages)
    assert sum(f"{folder}/b.py:1" in m for m in caplog.messages) == 1
    caplog.clear()
    await service.reload("by hand")
    assert not caplog.messages


@pytest.fixture
async def quiet() -> AsyncIterator[ProfileService]:
    """Return a service without any source."""
    service = service_of()
    yield service
    await service.stop()


async def test_without_sources_nothing_is_offered(quiet: ProfileService) -> None:
    """A service without sources is ready at once, with an empty set."""
    snapshot = await quiet.ready()
    assert not quiet.problems
    assert len(snapshot) == 0


HANGS = {
    "loop": "x = 1",
    "sleep": "time.sleep(20)",
    "deaf": "\n    try: x = 1\n    except BaseException: pass",
}


@pytest.mark.parametrize("kind", HANGS)
async def test_a_module_that_loops_only_in_the_hub(kind: str, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """The trial does not see it. It is reported with its line, its last good profiles stay, and other changes go on."""
    running = tmp_path / "running"  # without it the module ends: its thread would take part in all tests that follow
    running.touch()
    put(folder, "good.py", module("good"))
    put(folder, "odd.py", module("odd"))
    settings = SourceSettings(profiles_dirs=[str(folder)], watch_profiles=False)
    service = ProfileService(settings, log=logging.getLogger("tests.profiles"), settle=0, patience=1.5)
    try:
        await service.ready()
        hanging = f"threading.current_thread().name == 'profile-reload' and os.path.exists({str(running)!r})"
        loops = f"import os, threading, time\nwhile {hanging}: {HANGS[kind]}\n"
        (folder / "odd.py").write_text(loops + module("odd", "changed:1"))
        put(folder, "other.py", module("other"))
        report = await service.reload()
        (problem,) = report.problems
        assert "does not come to an end while the hub loads it" in str(problem)
        assert problem.origin is not None
        assert problem.origin.source == str(folder / "odd.py")
        assert problem.origin.line in (2, 3, 4)
        assert list(served(service.snapshot)) == ["good", "odd", "other"]
        assert service._reconciler.counts() == {"good": 2, "stale": 1, "broken": 0}
        put(folder, "good.py", module("good", "changed:1"))
        report = await service.reload()
        assert service.snapshot.entries["good"].effective["image"] == "changed:1"
        assert len(report.problems) == 1
        put(folder, "odd.py", module("odd", "mended:1"))
        report = await service.reload()
        assert report.successful
        assert service.snapshot.entries["odd"].effective["image"] == "mended:1"
    finally:
        running.unlink()
        await service.stop()
