"""Params of all sources: reloaded with the profiles, never half."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.profiles.entry import UNUSABLE
from profile_spawner.sources.reloader import ProfileService
from tests.control_plane import ControlPlane
from tests.sources.test_reloader import until

from .conftest import module, put
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
        f"{documents}/params.yaml:6: collection gpu: was removed, but is in use by one, two; its last version stays "
        "until they no longer use it. Remove it there first. After a restart of the hub it is gone"
    ]
    assert resolved(service, "one")["lab/threads"] == 4
    put(documents, "labs.yaml", LABS.replace(", profiles: [gpu]", "").replace(', env: {N: "{{ lab/threads }}"}', ""))
    await service.reload()
    assert not service.problems
    assert service.snapshot.resolver is not None
    assert "gpu" not in service.snapshot.resolver.collections


async def test_a_changed_definition_of_code_makes_only_its_profiles_unavailable(
    folder: Path, documents: Path, make_service: Callable[..., ProfileService], caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason, also in the log; they come back with values that fit."""
    text = "from profile_spawner import Param, profile_registry\nprofile_registry.register_param(Param({}))\n"
    put(folder, "defined.py", text.format("'lab/threads', default=1"))
    put(documents, "params.yaml", "params: {lab/image: {default: 'x:1'}}")
    put(
        documents,
        "labs.yaml",
        LABS.replace(", profiles: [gpu], ", ", ").replace(", profiles: [gpu]", ", cpu_limit: {$param: lab/threads}"),
    )
    service = make_service(profile_documents=(documents,))
    await service.ready()
    assert not service.problems
    with caplog.at_level(logging.ERROR):
        put(folder, "defined.py", text.format("'lab/threads', default='x'"))
        report = await service.reload()
    entries = service.snapshot.entries
    assert {slug for slug, e in entries.items() if e.offer.unavailable} == {"two"}
    assert entries["two"].offer.unavailable == UNUSABLE
    assert [("cpu_limit" in str(p), p.profile) for p in report.problems] == [(True, "two")]
    assert str(report.problems[0]) in caplog.text
    put(folder, "defined.py", text.format("'lab/threads', default=2"))
    await service.reload()
    assert not any(e.offer.unavailable for e in service.snapshot.entries.values())


GUARDED = """
params:
  lab/image: {schema: {type: string}, default: "lab:1"}
  lab/threads: {schema: {type: integer}, default: 1}
  lab/free: {default: "1"}
collections:
  gpu: {params: {lab/threads: 4}}
global: {lab/image: "lab:2"}
"""
GLOBAL_MISTAKES = {
    "global_inherits_nothing": ("collections:\n  global: {profiles: [nope]}", "x.yaml:2"),
    "global_is_a_cycle": ("collections:\n  global: {profiles: [a]}\n  a: {profiles: [global]}", "x.yaml"),
    "wrong_type": ("\nglobal:\n  lab/image: 5", "x.yaml:3"),
    "undefined": ("global: {lab/free: a, lab/none: 5}", "x.yaml:1"),
    "unknown_reference": ("global: {lab/image: '{{ nope }}'}", "x.yaml:1"),
    "reference_to_itself": ("global: {lab/image: '{{ lab/image }}'}", "x.yaml"),
    "unknown_when_it_is_built": ("global: {lab/free: {a: b}}", "x.yaml:1"),
}


@pytest.mark.parametrize("first", [True, False], ids=["first_load", "reload"])
@pytest.mark.parametrize("name", GLOBAL_MISTAKES)
async def test_a_mistake_in_global_affects_no_other_document(
    documents: Path, make_service: Callable[..., ProfileService], name: str, first: bool
) -> None:
    """The document is refused with its line; the last good `global` is used, or none."""
    text, place = GLOBAL_MISTAKES[name]
    put(documents, "params.yaml", GUARDED.replace('global: {lab/image: "lab:2"}', ""))
    put(documents, "labs.yaml", LABS.replace("'apart:1'", "'apart:1', env: {F: {$param: lab/free}}"))
    put(documents, "free.yaml", "[{slug: f, display_name: F, image: 'f:1', cpu_limit: {$param: lab/free}}]")
    good = "global: {lab/image: 'good:1'}\nparams: {lab/own: {default: 1}}\n"
    service = make_service(profiles_dirs=(), profile_documents=(documents,), trial=False)
    if not first:
        put(documents, "x.yaml", good)
        await service.ready()
        assert not service.problems
    put(documents, "x.yaml", text)
    await service.reload()
    for _ in range(2):  # also when nothing has changed
        entries = service.snapshot.entries
        assert not [slug for slug, e in entries.items() if e.offer.unavailable]
        assert set(entries) == {"one", "two", "apart", "f"}
        assert entries["one"].effective["image"] == ("lab:1" if first else "good:1")
        assert service.problems
        assert all(place in str(problem) for problem in service.problems)
        await service.reload()
    put(documents, "x.yaml", good)
    assert (await service.reload()).successful
    assert service.snapshot.entries["one"].effective["image"] == "good:1"


async def test_the_document_that_closes_a_cycle_through_global_is_refused(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Not the one with `global`, which was there before."""
    put(documents, "a.yaml", "collections: {gpu: {params: {lab/threads: 3}}}\nglobal: {lab/image: 'a:1'}\n")
    put(documents, "params.yaml", GUARDED.split("collections:")[0])
    put(documents, "b.yaml", "collections: {global: {params: {lab/image: 'b:1'}, profiles: [gpu]}}")
    put(documents, "a.yaml", "collections: {gpu: {params: {lab/threads: 3}}}")
    service = make_service(profiles_dirs=(), profile_documents=(documents,), trial=False)
    await service.ready()
    assert not service.problems
    put(documents, "a.yaml", "collections:\n  gpu: {profiles: [global]}")
    await service.reload()
    (problem,) = service.problems
    assert "a.yaml:2" in str(problem)
    assert "global > gpu > global" in str(problem)
    entries = service.snapshot.entries
    assert entries["one"].effective["image"] == "b:1"
    assert resolved(service, "one")["lab/threads"] == 3


NEIGHBOURS = {
    "definition_changed": ("params: {lab/threads: {schema: {type: string}}}", "params: {lab/threads: {default: 1}}"),
    "definition_gone": ("", "params: {lab/threads: {default: 1}}"),
    "collection_with_the_slug": ("collections: {two: {params: {lab/none: 1}}}", None),
    "collection_taken": ("collections: {gpu: {params: {lab/none: 1}}}", None),
    "definition_taken": ("params: {lab/image: {schema: {type: integer}}}", None),
    "profile_taken": ("[{slug: two, display_name: T, image: 't:1', params: {lab/none: 1}}]", None),
    "profile_with_the_name": ("[{slug: gpu, display_name: T, image: 't:1', params: {lab/none: 1}}]", None),
    "chain": (
        "collections:\n  base: {profiles: [c0]}\n"
        + "".join(f"  c{n}: {{profiles: [c{n + 1}]}}\n" for n in range(60))
        + "  c60: {}\n",
        "collections: {base: {}}",
    ),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
async def test_definitions_of_a_document_do_not_make_other_profiles_fail(
    documents: Path, make_service: Callable[..., ProfileService], name: str
) -> None:
    """Whatever it defines: the profiles of others stay as they are, and the error names the document."""
    text, before = NEIGHBOURS[name]
    own = "" if "lab/threads" in (before or "") else "  lab/threads: {schema: {type: integer}, default: 1}\n"
    put(documents, "params.yaml", f"params:\n  lab/image: {{default: 'lab:1'}}\n{own}")
    put(documents, "gpu.yaml", "collections: {gpu: {params: {lab/threads: 4}, profiles: [base]}, other: {}}")
    service = make_service(profiles_dirs=(), profile_documents=(documents,), trial=False)
    put(documents, "0.yaml", before or "collections: {base: {}}")
    if "base" not in (before or "base"):
        put(documents, "base.yaml", "collections: {base: {}}")
    await service.ready()
    assert not service.problems
    put(documents, "0.yaml" if before else "00.yaml", text)
    await service.reload()
    entries = service.snapshot.entries
    assert {s: e.offer.unavailable for s, e in entries.items() if s in ("one", "two")} == {"one": "", "two": ""}
    assert resolved(service, "one")["lab/threads"] == 4
    assert entries["one"].effective["image"] == "lab:1"
    assert any("0.yaml" in str(problem) for problem in service.problems)


async def test_data_does_not_make_a_module_fail_in_the_trial(
    folder: Path, documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """The trial worker builds modules with the params of all documents. The hub decides who is to blame."""
    put(folder, "lab.py", module("lab").replace("image = ", "cpu_limit = Param.ref('lab/cpu', 1)\n    image = "))
    put(folder, "lab.py", (folder / "lab.py").read_text().replace("import Base", "import Param, Base"))
    put(documents, "params.yaml", "params: {lab/cpu: {}, lab/image: {}, lab/threads: {}}\ncollections: {gpu: {}}")
    put(documents, "labs.yaml", "global: {lab/cpu: [a]}")
    service = make_service(profile_documents=(documents,))
    await service.ready()
    assert not service.snapshot.entries["lab"].offer.unavailable
    (problem,) = service.problems
    assert "labs.yaml:1" in str(problem)


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


async def test_an_unused_mixin_is_told(documents: Path, make_service: Callable[..., ProfileService]) -> None:
    """Nobody else would say so."""
    put(documents, "params.yaml", PARAMS.format(threads="'four'", version=1))
    put(documents, "labs.yaml", "[{slug: apart, display_name: Apart, image: 'apart:1'}]")
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    await service.ready()
    assert ["params.yaml:6" in str(p) for p in service.problems] == [True]


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


async def test_a_param_is_renamed_in_two_documents_one_after_the_other(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Its definition stays as it was while the other document uses it, and an error names what does."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    put(documents, "labs.yaml", USES.format(version=1, text="{{ lab/image }}"))
    await service.ready()
    assert not service.problems
    put(documents, "params.yaml", PARAMS.format(threads=4, version=1).replace("lab/image", "lab/picture"))
    report = await service.reload("watched", full=False)
    (problem,) = report.problems
    assert "params.yaml:3: param lab/image: was removed, but is in use by lab" in str(problem)
    assert not service.snapshot.entries["lab"].offer.unavailable
    put(documents, "labs.yaml", USES.format(version=1, text="{{ lab/picture }}"))
    assert (await service.reload("watched", full=False)).successful


@pytest.mark.parametrize("at_once", [True, False])
async def test_two_documents_are_refused_that_break_a_profile_together(
    documents: Path, make_service: Callable[..., ProfileService], at_once: bool
) -> None:
    """The profile goes on to work, and a valid change of its own document is served meanwhile."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,), trial=False)
    put(documents, "params.yaml", "params: {lab/a: {default: 1}}")
    put(documents, "more.yaml", "params: {lab/b: {default: 2}}")
    put(documents, "labs.yaml", USES.format(version=1, text="{{ lab/a }} {{ lab/b }}"))
    await service.ready()
    put(documents, "params.yaml", "params: {lab/c: {default: 1}}")
    if not at_once:
        await service.reload("watched", full=False)
    put(documents, "more.yaml", "params: {lab/d: {default: 2}}")
    await service.reload("watched", full=False)
    assert not service.snapshot.entries["lab"].offer.unavailable
    put(documents, "labs.yaml", USES.format(version=2, text="{{ lab/a }} {{ lab/b }}"))
    await service.reload("watched", full=False)
    assert service.snapshot.entries["lab"].effective["image"] == "lab:2"
    assert sorted(Path(str(p).partition(":")[0]).name for p in service.problems) == ["more.yaml", "params.yaml"]
    put(documents, "labs.yaml", USES.format(version=3, text="{{ lab/c }} {{ lab/d }}"))
    assert (await service.reload("watched", full=False)).successful
    assert service.snapshot.entries["lab"].effective["image"] == "lab:3"


async def test_a_profile_with_the_name_of_a_collection_is_renamed(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Then the error is gone without a restart."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,), trial=False)
    put(documents, "other.yaml", "[{slug: more, display_name: More, image: 'a:1'}]")
    await service.ready()
    put(documents, "more.yaml", "collections: {more: {params: {lab/threads: 4}}}")
    put(documents, "labs.yaml", LABS.replace("profiles: [gpu], env", "profiles: [gpu, more], env"))
    assert not (await service.reload("watched", full=False)).successful
    put(documents, "other.yaml", "[{slug: less, display_name: Less, image: 'a:1'}]")
    report = await service.reload("watched", full=False)
    assert [str(problem) for problem in report.problems] == []


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
    """The slug belongs to the document that is left, at once: to a new one and to a changed one."""
    lab = "[{{slug: {}, display_name: A, image: 'a:{}'}}]"
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    rival = put(documents, "a.yaml", lab.format("lab", 1))
    put(documents, "labs.yaml", lab.format("own", 2))
    await service.ready()
    put(documents, "labs.yaml", lab.format("lab", 2))
    put(documents, "z.yaml", "[{slug: z, display_name: Z, image: 'z:1'}, {slug: lab, display_name: Z, image: 'z:2'}]")
    assert len((await service.reload("watched", full=False)).problems) == 2
    assert service.snapshot.entries["lab"].effective["image"] == "a:1"
    assert set(service.snapshot.entries) == {"lab", "own", "z"}
    (documents / "z.yaml").unlink()
    rival.unlink()
    assert (await service.reload("watched", full=False)).successful
    assert {s: e.effective["image"] for s, e in service.snapshot.entries.items()} == {"lab": "a:2"}
