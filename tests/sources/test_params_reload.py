"""Params of all sources: reloaded with the profiles, never half."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.errors import ParamError
from profile_spawner.sources.reloader import ProfileService
from tests.control_plane import ControlPlane
from tests.sources.test_reloader import until

from .conftest import put
from .test_config_maps import config_map, make, path  # noqa: F401 - fixtures

PARAMS = """
params:
  lab/image: {{schema: {{type: string}}, default: "lab:1"}}
  lab/threads: {{schema: {{type: integer}}, user_settable: true}}
collections:
  gpu: {{params: {{lab/threads: {threads}}}}}
global: {{lab/image: "lab:{version}"}}
"""
LABS = """
profiles:
  - {slug: one, display_name: One, image: {$param: lab/image}, profiles: [gpu], env: {N: "{{ lab/threads }}"}}
  - {slug: two, display_name: Two, image: {$param: lab/image}, profiles: [gpu]}
  - {slug: apart, display_name: Apart, image: "apart:1"}
"""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Return a folder with params in one document and profiles in another."""
    folder = tmp_path / "documents"
    put(folder, "params.yaml", PARAMS.format(threads=4, version=1))
    put(folder, "labs.yaml", LABS)
    return folder


def resolved(service: ProfileService, slug: str) -> Any:
    """Resolve the params of a profile."""
    profile = service.snapshot.entries[slug].profile
    return service.snapshot.resolve(profile, None)


async def test_params_and_profiles_are_reloaded_together(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """A change of a value changes every profile that uses it; values know their lines."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,), watch_profiles=True, settle=0.05)
    await service.start()
    assert not service.problems
    assert service.snapshot.entries["one"].effective["image"] == "lab:1"
    put(documents, "params.yaml", PARAMS.format(threads=6, version=2))
    await until(lambda: service.snapshot.entries["one"].effective["image"] == "lab:2")
    assert service.snapshot.entries["two"].effective["image"] == "lab:2"
    found = resolved(service, "one")
    assert found["lab/threads"] == 6
    assert str(found.explain("lab/threads").origin) == f"{documents}/params.yaml:6"
    assert str(found.explain("lab/image").origin) == f"{documents}/params.yaml:7"


async def test_a_collection_in_use_cannot_be_deleted(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """It stays as it was, all users are named, and it goes with its last user."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    await service.ready()
    put(documents, "params.yaml", PARAMS.format(threads=4, version=1).replace("gpu:", "other:"))
    await service.reload()
    assert [str(p) for p in service.problems] == [
        f"{documents}/params.yaml:6: gpu: was removed, but is in use by one, two; its last version stays until they no "
        "longer use it. Remove it from their profiles first"
    ]
    assert resolved(service, "one")["lab/threads"] == 4
    put(documents, "labs.yaml", LABS.replace(", profiles: [gpu]", "").replace(', env: {N: "{{ lab/threads }}"}', ""))
    await service.reload()
    assert not service.problems
    assert service.snapshot.resolver is not None
    assert "gpu" not in service.snapshot.resolver.collections


async def test_a_changed_definition_makes_only_its_profiles_unavailable(
    documents: Path, make_service: Callable[..., ProfileService], caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason, also in the log; they come back with values that fit."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    await service.ready()
    changed = PARAMS.format(threads=4, version=1).replace("type: integer", "type: string")
    with caplog.at_level(logging.ERROR):
        put(documents, "params.yaml", changed)
        await service.reload()
    entries = service.snapshot.entries
    assert {slug for slug, e in entries.items() if e.offer.unavailable} == {"one", "two"}
    assert "params.yaml:6" in entries["one"].offer.unavailable
    assert "one is not available" in caplog.text
    put(documents, "params.yaml", changed.replace("lab/threads: 4", "lab/threads: 'four'"))
    await service.reload()
    assert not any(e.offer.unavailable for e in service.snapshot.entries.values())


async def test_a_param_that_goes_away_makes_those_who_name_it_unavailable(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """In a text, although the profile itself has not changed."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    put(documents, "labs.yaml", LABS.replace(", profiles: [gpu]", ""))
    put(documents, "params.yaml", "params: {lab/threads: {default: 1}, lab/image: {default: 'x:1'}}")
    await service.ready()
    assert not service.problems
    put(documents, "params.yaml", "params: {lab/image: {default: 'x:1'}}")
    await service.reload()
    entries = service.snapshot.entries
    assert "lab/threads" in entries["one"].offer.unavailable
    assert not entries["two"].offer.unavailable


async def test_names_that_are_taken_twice_are_told(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Of params, collections and profiles, with both places; the first counts."""
    put(documents, "z.yaml", "params: {lab/image: {default: 'z:1'}}\nglobal: {lab/image: 'z:2'}\n")
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    await service.ready()
    texts = sorted(str(p) for p in service.problems)
    assert len(texts) == 2
    for text, line, other in zip(texts, (1, 2), (3, 7), strict=True):
        assert f"z.yaml:{line}: " in text
        assert f"first at {documents}/params.yaml:{other}" in text
    assert service.snapshot.entries["one"].effective["image"] == "lab:1"


async def test_a_broken_global_and_an_unused_mixin_are_told(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Nobody else would say so."""
    put(documents, "params.yaml", PARAMS.format(threads="'four'", version=1).replace("lab:1", "{{ nobody }}"))
    put(documents, "labs.yaml", "[{slug: apart, display_name: Apart, image: 'apart:1'}]")
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    await service.ready()
    assert ["params.yaml:6" in str(p) for p in service.problems] == [True]
    with pytest.raises(ParamError, match="nobody"):
        resolved(service, "apart")["lab/image"]


async def test_params_of_config_maps_are_reloaded(
    control_plane: ControlPlane,
    path: str,  # noqa: F811
    make: Callable[..., ProfileService],  # noqa: F811
) -> None:
    """Definitions and values of one ConfigMap, used by profiles of another."""
    await control_plane.ok("POST", path, config_map("labs", {"labs.yaml": LABS}))
    await control_plane.ok("POST", path, config_map("params", {"p.yaml": PARAMS.format(threads=4, version=1)}))
    service = make()
    await service.start()
    assert not service.problems
    assert service.snapshot.entries["one"].effective["image"] == "lab:1"
    changed = PARAMS.format(threads=4, version=2)
    await control_plane.ok("PUT", f"{path}/params", config_map("params", {"p.yaml": changed}))
    await until(lambda: service.snapshot.entries["one"].effective["image"] == "lab:2")
    origin = resolved(service, "one").explain("lab/image").origin
    assert str(origin) == "configmap/params/p.yaml:7"


USES = """
    profiles:
      - {{slug: lab, display_name: Lab, image: "lab:{version}", env: {{N: "{text}"}}}}
"""


async def test_a_mended_param_leaves_no_problem_standing(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """What is told of a document that has not changed itself goes with its cause; nothing need be read again."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    put(documents, "labs.yaml", USES.format(version=1, text="{{ lab/image }}"))
    await service.ready()
    assert not service.problems
    for _ in range(2):
        put(documents, "params.yaml", PARAMS.format(threads=4, version=1).replace("lab/image", "lab/picture"))
        report = await service.reload("watched", full=False)
        assert len(report.problems) == 1
        assert "lab/image" in service.snapshot.entries["lab"].offer.unavailable
        put(documents, "params.yaml", PARAMS.format(threads=4, version=1))
        assert (await service.reload("watched", full=False)).successful
        assert not service.snapshot.entries["lab"].offer.unavailable
        assert service._reconciler.counts() == {"good": 2, "stale": 0, "broken": 0}


async def test_a_version_that_comes_before_its_param_is_served_when_the_param_is_there(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """A new document and a changed one; until then the last good version is served."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    put(documents, "labs.yaml", USES.format(version=1, text="none"))
    await service.ready()
    put(documents, "labs.yaml", USES.format(version=2, text="{{ lab/later }}"))
    put(documents, "new.yaml", "[{slug: new, display_name: New, image: 'new:1', env: {N: '{{ lab/later }}'}}]")
    assert len((await service.reload("watched", full=False)).problems) == 2
    assert service.snapshot.entries["lab"].effective["image"] == "lab:1"
    put(documents, "later.yaml", "params: {lab/later: {default: 'x'}}")
    assert (await service.reload("watched", full=False)).successful
    assert service.snapshot.entries["lab"].effective["image"] == "lab:2"
    assert service.snapshot.entries["new"].effective["image"] == "new:1"


async def test_a_conflict_ends_with_its_rival(documents: Path, make_service: Callable[..., ProfileService]) -> None:
    """The slug belongs to whoever is left, at once: for a new document and for a changed one."""
    lab = "[{{slug: {}, display_name: A, image: 'a:{}'}}]"
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    rival = put(documents, "rival.yaml", lab.format("lab", 1))
    put(documents, "labs.yaml", lab.format("own", 2))
    await service.ready()
    put(documents, "labs.yaml", lab.format("lab", 2))
    put(documents, "z.yaml", "[{slug: z, display_name: Z, image: 'z:1'}, {slug: lab, display_name: Z, image: 'z:2'}]")
    assert len((await service.reload("watched", full=False)).problems) == 2
    assert service.snapshot.entries["lab"].effective["image"] == "a:1"
    (documents / "z.yaml").unlink()
    rival.unlink()
    assert (await service.reload("watched", full=False)).successful
    assert {s: e.effective["image"] for s, e in service.snapshot.entries.items()} == {"lab": "a:2"}
