"""One rule for the first load and for every reload: each valid part is used, each other part stays as it was."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.entry import UNUSABLE
from profile_spawner.sources.config_maps import ConfigMapDocuments
from profile_spawner.sources.reconcile import Reconciler
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.settings import SourceSettings

from .conftest import put, served

THREE = """
    profiles:
      - {slug: one, display_name: One, image: "a:1"}
      - {slug: two, display_name: Two, image: "a:1"}
      - {slug: three, display_name: Three, image: "a:1"}
"""
BASE = "params: {lab/n: {schema: {type: integer}, default: 1}, lab/t: {default: 'a:1'}}\ncollections: {gpu: {}}\n"
USER = "[{slug: user, display_name: U, image: {$param: lab/t}, profiles: [gpu], cpu_limit: {$param: lab/n}}]"


def images(service: ProfileService) -> dict[str, Any]:
    """Return the image of each profile that can be started."""
    entries = service.snapshot.entries.items()
    return {slug: entry.effective.get("image") for slug, entry in entries if not entry.offer.unavailable}


@pytest.fixture
def make(tmp_path: Path, make_service: Callable[..., ProfileService]) -> Callable[..., ProfileService]:
    """Return a function that makes services for the documents of a folder."""
    return lambda **more: make_service(profiles_dirs=(), profile_documents=(tmp_path,), trial=False, **more)


OLD = 'two, display_name: Two, image: "a:1"'
NEW = 'two, display_name: Two, image: "a:2", params: {lab/n: [5]}'
EDITS = {
    "one_is_refused": (
        lambda text: text.replace('"a:1"', '"a:2"').replace('One, image: "a:2"', 'One, imagee: "a:2"'),
        {"one": "a:1", "two": "a:2", "three": "a:2"},
    ),
    "one_is_refused_and_one_is_new": (
        lambda text: text.replace('Two, image: "a:1"', "Two, image: 5")
        + '      - {slug: four, display_name: Four, image: "a:4"}\n',
        {"one": "a:1", "two": "a:1", "three": "a:1", "four": "a:4"},
    ),
    "the_name_of_the_broken_one_cannot_be_read": (
        lambda text: text.replace("slug: two", "slog: two"),
        {"one": "a:1", "two": "a:1", "three": "a:1"},
    ),
    "one_is_no_mapping": (
        lambda text: text.replace('{slug: one, display_name: One, image: "a:1"}', "one"),
        {"one": "a:1", "two": "a:1", "three": "a:1"},
    ),
    "a_value_does_not_fit": (
        lambda text: text.replace(OLD, NEW).replace('Three, image: "a:1"', 'Three, image: "a:2"'),
        {"one": "a:1", "two": "a:1", "three": "a:2"},
    ),
    "what_it_inherits_is_misspelt": (
        lambda text: text.replace("slug: two,", "slug: two, profiles: [gpuu],"),
        {"one": "a:1", "two": "a:1", "three": "a:1"},
    ),
    "its_value_is_of_no_param": (
        lambda text: text.replace("slug: two,", "slug: two, params: {lab/x: 1},"),
        {"one": "a:1", "two": "a:1", "three": "a:1"},
    ),
    "a_reference_is_misspelt": (
        lambda text: text.replace("slug: two,", "slug: two, env: {N: '{{ lab/nn }}'},"),
        {"one": "a:1", "two": "a:1", "three": "a:1"},
    ),
    "the_policy_refuses_it": (
        lambda text: text.replace("slug: two,", "slug: two, service_account: admin,"),
        {"one": "a:1", "two": "a:1", "three": "a:1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
async def test_a_broken_part_stays_and_the_rest_is_used(
    tmp_path: Path, make: Callable[..., ProfileService], name: str
) -> None:
    """After an edit. A first load of the same document uses the same parts, without those that were broken."""
    edit, expected = EDITS[name]
    put(tmp_path, "base.yaml", BASE)
    put(tmp_path, "three.yaml", THREE)
    service = make()
    await service.ready()
    assert not service.problems
    put(tmp_path, "three.yaml", edit(THREE))
    report = await service.reload()
    assert images(service) == expected
    assert not report.successful
    assert all("three.yaml" in str(problem) for problem in report.problems)
    again = make()
    await again.ready()
    fresh, live = served(again.snapshot), served(service.snapshot)
    assert {s: f for s, f in fresh.items() if s in images(again)}.items() <= live.items()
    assert {str(p) for p in again.problems} == {str(p) for p in service.problems}
    put(tmp_path, "three.yaml", THREE)
    assert (await service.reload()).successful


async def test_users_do_not_read_what_is_wrong(tmp_path: Path, make: Callable[..., ProfileService]) -> None:
    """File, line and value are for administrators; the page of a user has one neutral sentence."""
    put(tmp_path, "base.yaml", BASE)
    put(tmp_path, "lab.yaml", "[{slug: lab, display_name: Lab, image: 'a:1', params: {lab/n: [5]}}]")
    service = make()
    await service.ready()
    entry = service.snapshot.entries["lab"]
    assert entry.offer.unavailable == UNUSABLE
    (problem,) = service.snapshot.reasons("lab")
    assert problem in service.problems
    assert re.search(r"lab\.yaml:1: .*lab/n: .*\[5\] is not of type", str(problem))


REMOVED = {
    "the_file": None,
    "the_definition": "collections: {gpu: {}}\nparams: {lab/t: {default: 'a:1'}}\n",
    "the_collection": BASE.partition("collections")[0],
    "all_of_it": "profiles: []",
}


@pytest.mark.parametrize("name", REMOVED)
async def test_what_is_in_use_is_not_removed(tmp_path: Path, make: Callable[..., ProfileService], name: str) -> None:
    """Definitions and collections stay until nothing uses them; an error names the place and what uses them."""
    path = put(tmp_path, "base.yaml", BASE)
    put(tmp_path, "user.yaml", USER)
    service = make()
    await service.ready()
    assert not service.problems
    text = REMOVED[name]
    path.unlink() if text is None else path.write_text(text)
    report = await service.reload()
    for _ in range(2):
        assert images(service) == {"user": "a:1"}
        assert report.problems
        for problem in report.problems:
            assert re.match(r".*base\.yaml:\d: \w+ [a-z/]+: was removed, but is in use by user; ", str(problem))
        report = await service.reload()
    put(tmp_path, "user.yaml", "[{slug: user, display_name: U, image: 'a:2'}]")
    assert (await service.reload()).successful
    assert images(service) == {"user": "a:2"}


async def test_the_order_decides_who_has_a_name(tmp_path: Path, make: Callable[..., ProfileService]) -> None:
    """Of two profiles, definitions or collections; whether the hub was running when the second one came."""
    text = "params: {{lab/x: {{default: {0}}}}}\nprofiles: [{{slug: lab, display_name: L, image: '{0}:1'}}]\n"
    put(tmp_path, "m.yaml", text.format("m"))
    service = make()
    await service.ready()
    for name in ("a", "z"):
        put(tmp_path, f"{name}.yaml", text.format(name))
        await service.reload()
    again = make()
    await again.ready()
    for one in (service, again):
        assert images(one) == {"lab": "a:1"}
        assert one.snapshot.resolver is not None
        assert one.snapshot.resolver.definitions["lab/x"].default == "a"
        assert len(one.problems) == 4
        assert all(f"first at {tmp_path}/a.yaml" in str(problem) for problem in one.problems)


async def test_a_profile_with_the_name_of_a_collection_is_the_same_after_a_restart(
    tmp_path: Path, make: Callable[..., ProfileService]
) -> None:
    """The profile has the name, and the error is the same."""
    put(tmp_path, "base.yaml", BASE)
    put(tmp_path, "user.yaml", USER)
    service = make()
    await service.ready()
    put(tmp_path, "z.yaml", "[{slug: gpu, display_name: G, image: 'g:1', params: {lab/n: 3}}]")
    await service.reload()
    again = make()
    await again.ready()
    assert served(again.snapshot) == served(service.snapshot)
    assert [str(p) for p in again.problems] == [str(p) for p in service.problems] != []


async def test_a_profile_extends_the_last_good_version_of_its_base(
    tmp_path: Path, make: Callable[..., ProfileService]
) -> None:
    """While the document of the base is broken, and also when the extending one changes meanwhile."""
    put(tmp_path, "base.yaml", "[{slug: base, display_name: B, image: 'b:1'}]")
    put(tmp_path, "more.yaml", "[{slug: more, extends: base, display_name: M}]")
    service = make()
    await service.ready()
    put(tmp_path, "base.yaml", "[{slug: base, display_name: B, imagee: 'b:2'}]")
    put(tmp_path, "more.yaml", "[{slug: more, extends: base, display_name: M2}]")
    report = await service.reload()
    assert images(service) == {"base": "b:1", "more": "b:1"}
    assert service.snapshot.entries["more"].offer.display_name == "M2"
    assert ["base.yaml" in str(problem) for problem in report.problems] == [True]


async def test_documents_that_extend_each_other_are_named(tmp_path: Path, make: Callable[..., ProfileService]) -> None:
    """It is a cycle, and not a profile that does not exist."""
    put(tmp_path, "a.yaml", "[{slug: a, extends: b, display_name: A}]")
    put(tmp_path, "b.yaml", "[{slug: b, extends: a, display_name: B}]")
    service = make()
    await service.ready()
    assert any("these documents extend each other" in str(problem) for problem in service.problems)


GOOD = """\
singleuser:
  profileList:
    - display_name: Default environment
      description: some description
      default: true
    - display_name: Python
      slug: python
      kubespawner_override:
        image: example/custom:1
        mem_limit: 2G
    - display_name: Large
      kubespawner_override:
        image: example/large:1
      profile_options:
        size:
          choices:
            small: {display_name: Small, kubespawner_override: {cpu_limit: 1}}
            large: {display_name: Large, kubespawner_override: {cpu_limit: 8}}
"""


def edits(number: int) -> Iterator[str]:
    """Yield edited versions as an editor or a template makes them: lines and signs that come, change and go."""
    rng = random.Random(number)
    for _ in range(200):
        lines = GOOD.splitlines(keepends=True)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(max(1, len(lines)))
            kind = rng.randrange(8)
            if not lines:
                continue
            if kind == 0:
                del lines[at]
            elif kind == 1:
                lines[at] = "  " + lines[at]
            elif kind == 2:
                lines[at] = lines[at].removeprefix("  ")
            elif kind == 3:
                lines[at] = lines[at].replace(":", "", 1)
            elif kind == 4:
                lines[at] = lines[at].partition(":")[0] + ":\n"
            elif kind == 5:
                lines.insert(at, lines[rng.randrange(len(lines))])
            elif kind == 6:
                lines[at] = re.sub(r"\w", rng.choice("x_1"), lines[at], count=1)
            else:
                lines = lines[:at]
        yield "".join(lines)


@pytest.mark.parametrize("number", range(2))
def test_no_edit_of_a_config_map_takes_a_profile_away_without_a_message(number: int) -> None:
    """After each of 200 edits, the new content is served, or the last good one with a message."""
    source = ConfigMapDocuments("here", DataPolicy())

    def reconcile(text: str) -> Any:
        source.objects = {"configmap/profiles": ("ConfigMap", {"data": {"values.yaml": text}})}
        return reconciler.reconcile().snapshot

    refused = 0
    for text in edits(number):
        reconciler = Reconciler(SourceSettings(), [source], None, 0.0)
        before = reconcile(GOOD)
        assert not before.problems
        after = reconcile(text)
        if after.errors:
            refused += 1
            assert before.entries.keys() <= after.entries.keys(), text
        else:
            listed = yaml.safe_load(text)["singleuser"]["profileList"]
            assert [entry.profile.list_entry() for entry in after.entries.values()] == listed
        fresh = Reconciler(SourceSettings(), [source], None, 0.0).reconcile().snapshot
        assert served(fresh).items() <= served(after).items(), text
        assert after.errors or served(fresh) == served(after)
    assert 20 < refused < 180


async def test_what_global_inherits_keeps_its_last_good_version(
    tmp_path: Path, make: Callable[..., ProfileService]
) -> None:
    """A bad value in another document does not cost the values of `global`."""
    put(tmp_path, "base.yaml", "params: {lab/t: {schema: {type: string}, default: 'a:1'}}")
    put(tmp_path, "global.yaml", "collections: {global: {profiles: [one]}}")
    put(tmp_path, "one.yaml", "collections: {one: {params: {lab/t: 'one:1'}}}")
    put(tmp_path, "user.yaml", "[{slug: user, display_name: U, image: {$param: lab/t}}]")
    service = make()
    await service.ready()
    assert images(service) == {"user": "one:1"}
    put(tmp_path, "one.yaml", "collections: {one: {params: {lab/t: [5]}}}")
    report = await service.reload()
    assert images(service) == {"user": "one:1"}
    assert [re.sub(r".*/", "", str(p).partition(": ")[0]) for p in report.problems] == ["one.yaml:1"]
    put(tmp_path, "one.yaml", "collections: {one: {params: {lab/t: 'one:2'}}}")
    assert (await service.reload()).successful
    assert images(service) == {"user": "one:2"}
