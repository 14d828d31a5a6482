"""YAML documents: profiles as data, with the line of everything that is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from traitlets.config import Config

from profile_spawner.errors import PolicyError, ProfileSpawnerError
from profile_spawner.hub.hub_profiles import HubProfiles
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import ProfileBuild
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.profile_params import make_resolver, param_problems
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.profiles.yaml_text import parse_yaml
from profile_spawner.sources.config_maps import ConfigMapDocuments
from profile_spawner.sources.data_profiles import DocumentReader, DocumentResult
from profile_spawner.sources.loading import EntryMaker
from profile_spawner.sources.reloader import ProfileService
from profile_spawner.sources.schema import document_schema
from profile_spawner.sources.source_items import LoadedItem, LoadSession, SourceItem
from tests.sources.conftest import CHART_VALUES, module, put
from tests.sources.test_reloader import until

LAB = """
    params:
      image/lab: {schema: {type: string}, default: "example/lab:1"}
    collections:
      with-gpu:
        params: {image/lab: "example/gpu:1"}
    profiles:
      - slug: lab
        family: jupyterlab
        display_name: Lab
        image: {$param: image/lab}
        env: {A: "1", WHO: "{{ username }}"}
        files:
          - {mount_path: /etc/lab.conf, content: "user = {{ username }}"}
          - {mount_path: /etc/other.conf, path: other.conf, mode: "0600"}
        volumes:
          - {name: scratch, size: 10Gi, mount_path: /scratch, persist: false}
        options:
          size:
            choices:
              small: {display_name: Small, default: true, kubespawner_override: {mem_limit: 1G}}
              large: {display_name: Large, kubespawner_override: {mem_limit: 8G}}
      - slug: gpu
        extends: lab
        display_name: GPU
        env: {B: "2"}
        profiles: [with-gpu]
        cpu_limit: 4
      - display_name: Plain Entry
        kubespawner_override: {image: "example/plain:1"}
"""
READER = DocumentReader(DataPolicy(), lambda slug: None)


def problems(text: str) -> list[str]:
    """Return what is wrong with a document."""
    return [str(p) for p in READER.read(text, "doc.yaml", "docs").problems]


async def build(snapshot: Snapshot, slug: str, **choices: Any) -> ProfileBuild:
    """Build a profile for user `ada`."""
    selection = snapshot.select({"profile": slug, **choices}, UserInfo("ada"))
    return await snapshot.build(selection, ServerContext(UserInfo("ada")))  # type: ignore[arg-type]


@pytest.fixture
def documents(folder: Path) -> Path:
    """Return a folder with the document above and the file that it uses."""
    put(folder, "lab.yaml", LAB)
    put(folder, "other.conf", "x = 1\n")
    return folder


async def test_a_profile_as_data_is_a_profile(documents: Path, make_service: Callable[..., ProfileService]) -> None:
    """Attributes, family, params, environment, files, volumes and options of a document reach the server."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    snapshot = await service.ready()
    assert not service.problems
    assert list(snapshot.entries) == ["lab", "gpu", "plain-entry"]
    built = await build(snapshot, "lab", size="large")
    override = built.kubespawner_override
    assert override["image"] == "example/lab:1"
    assert override["mem_limit"] == "8G"
    assert override["default_url"] == "/lab"
    assert override["environment"]["WHO"] == "ada"
    texts = [text for o in built.objects if o.kind == "ConfigMap" for text in o.body["data"].values()]
    assert "user = ada" in texts
    assert "x = 1\n" in texts
    claims = {o.name: o.body for o in built.objects if o.kind == "PersistentVolumeClaim"}
    assert any("scratch" in name for name in claims)
    assert snapshot.entries["lab"].origin.line == 8
    assert snapshot.entries["plain-entry"].profile.list_entry() == {
        "display_name": "Plain Entry",
        "kubespawner_override": {"image": "example/plain:1"},
    }


async def test_extends_takes_over_and_adds(documents: Path, make_service: Callable[..., ProfileService]) -> None:
    """A profile that extends another one has all of it, joins the environment, and replaces what it sets itself."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    override = (await build(await service.ready(), "gpu")).kubespawner_override
    assert override["image"] == "example/gpu:1"
    assert override["cpu_limit"] == 4
    assert {override["environment"][k] for k in "AB"} == {"1", "2"}
    assert any(m["mountPath"] == "/etc/lab.conf" for m in override["volume_mounts"])


async def test_extends_across_documents_follows_changes(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """A profile can extend one of another document, in any order of names, and changes with it."""
    put(documents, "aaa.yaml", "{slug: child, extends: lab, display_name: Child}")
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    snapshot = await service.ready()
    assert not service.problems
    put(documents, "lab.yaml", LAB.replace("example/lab:1", "example/lab:2"))
    await service.reload()
    assert (await build(service.snapshot, "child")).kubespawner_override["image"] == "example/lab:2"
    assert (await build(snapshot, "child")).kubespawner_override["image"] == "example/lab:1"
    (documents / "lab.yaml").unlink()
    report = await service.reload()
    assert [(p.profile, p.field) for p in report.problems] == [("child", "extends"), (None, "param image/lab")]
    assert (await build(service.snapshot, "child")).kubespawner_override["image"] == "example/lab:2"


async def test_a_changed_asset_is_a_change(documents: Path, make_service: Callable[..., ProfileService]) -> None:
    """Editing a file that a document uses changes the profile, even when the document stays as it is."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    await service.ready()
    put(documents, "other.conf", "x = 2\n")
    report = await service.reload("watched", full=False)
    assert [(c.slug, c.what, c.fields) for c in report.changes] == [
        ("lab", "changed", ("config_maps",)),
        ("gpu", "changed", ("config_maps",)),
    ]


def _rename_over(path: Path, text: str) -> None:
    """Replace a file as editors and `dump --output-file` do."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _make_anew(path: Path, text: str) -> None:
    """Replace a file by removing it first."""
    path.unlink()
    path.write_text(text)


def _in_place(path: Path, text: str) -> None:
    """Write into the file that is there."""
    path.write_text(text)


@pytest.mark.parametrize("replace", [_rename_over, _make_anew, _in_place])
async def test_a_single_file_is_watched_however_often_it_is_replaced(
    tmp_path: Path, make_service: Callable[..., ProfileService], replace: Callable[[Path, str], None]
) -> None:
    """By renaming, by removing, by writing in place; and so is a file that the document uses."""
    text = "[{{slug: a, display_name: A, image: 'a:{}', files: [{{mount_path: /etc/a, path: a.conf}}]}}]"
    document = put(tmp_path, "doc.yaml", text.format(0))
    asset = put(tmp_path, "a.conf", "0")
    service = make_service(profiles_dirs=(), profile_documents=(document,), watch_profiles=True, settle=0.05)
    await service.start()
    assert not service.problems
    for number in range(1, 4):
        image = f"a:{number}"
        replace(document, text.format(number))
        await until(lambda image=image: service.snapshot.entries["a"].effective["image"] == image)
    for number in range(1, 3):
        before = service.snapshot.generation
        replace(asset, str(number))
        await until(lambda before=before: service.snapshot.generation > before)
    assert not service.problems


async def test_a_file_of_a_mounted_config_map_is_watched(
    tmp_path: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Named as a single file, swapped again and again by the kubelet's `..data` link."""

    def publish(number: int) -> None:
        put(tmp_path / f"..{number}", "doc.yaml", f"[{{slug: a, display_name: A, image: 'a:{number}'}}]")
        (tmp_path / "..data_tmp").symlink_to(f"..{number}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        if number:
            shutil.rmtree(tmp_path / f"..{number - 1}")

    publish(0)
    (tmp_path / "doc.yaml").symlink_to("..data/doc.yaml")
    service = make_service(
        profiles_dirs=(), profile_documents=(tmp_path / "doc.yaml",), watch_profiles=True, settle=0.05
    )
    await service.start()
    for number in range(1, 4):
        publish(number)
        await until(lambda image=f"a:{number}": service.snapshot.entries["a"].effective["image"] == image)


async def test_a_folder_that_is_swapped_is_watched(tmp_path: Path, make_service: Callable[..., ProfileService]) -> None:
    """A link to a checkout, as git-sync keeps it: the new folder is watched as the old one was."""

    def publish(number: int) -> Path:
        path = put(tmp_path / f"checkout-{number}", "doc.yaml", f"[{{slug: a, display_name: A, image: 'a:{number}'}}]")
        (tmp_path / "new").symlink_to(f"checkout-{number}")
        (tmp_path / "new").rename(tmp_path / "current")
        return path

    async def image_is(image: str) -> None:
        await until(lambda: service.snapshot.entries["a"].effective["image"] == image)

    publish(0)
    service = make_service(
        profiles_dirs=(), profile_documents=(tmp_path / "current",), watch_profiles=True, settle=0.05
    )
    await service.start()
    for number in (1, 2):
        document = publish(number)
        await image_is(f"a:{number}")
    put(document.parent, "doc.yaml", "[{slug: a, display_name: A, image: 'a:3'}]")
    await image_is("a:3")


async def test_values_of_the_chart_are_taken_as_they_are(
    folder: Path, make_service: Callable[..., ProfileService]
) -> None:
    """A values.yaml of Zero to JupyterHub: its profileList is read, the rest of it is none of our business."""
    rest = "\nhub: {config: {anything: [1, 2]}}\nsingleuser:\n  image: {name: x}\n"
    values = CHART_VALUES.format(image="example/custom:1").replace("singleuser:\n", rest)
    path = put(folder, "values.yaml", values)
    service = make_service(profiles_dirs=(), profile_documents=(path,))
    snapshot = await service.ready()
    assert not service.problems
    entries = list(snapshot.entries.values())
    listed = yaml.safe_load(path.read_text())["singleuser"]["profileList"]
    assert [e.profile.list_entry() for e in entries] == listed
    assert [e.origin.line for e in entries] == [6, 9]


async def test_one_bad_profile_keeps_only_itself_as_it_was(
    documents: Path, make_service: Callable[..., ProfileService]
) -> None:
    """The other profiles of the document are changed, and nothing is removed while it has an error."""
    service = make_service(profiles_dirs=(), profile_documents=(documents,))
    before = await service.ready()
    broken = LAB.replace("cpu_limit: 4", "cpu_limit: lots").replace("example/lab:1", "example/lab:2")
    put(documents, "lab.yaml", broken.partition("      - display_name: Plain")[0])
    report = await service.reload()
    assert [(p.field, p.origin.line) for p in report.problems if p.origin] == [("cpu_limit", 28)]
    entries = service.snapshot.entries
    assert entries["lab"].effective["image"] == "example/lab:2"
    assert list(entries) == list(before.entries) == ["lab", "gpu", "plain-entry"]
    assert (await build(service.snapshot, "gpu")).kubespawner_override["cpu_limit"] == 4
    put(documents, "lab.yaml", broken.partition("      - slug: gpu")[0])
    assert (await service.reload()).successful
    assert list(service.snapshot.entries) == ["lab"]


WRONG = [
    ("a: 1\na: 2", "doc.yaml:2: the key 'a' stands here twice; first in line 1"),
    ("profiels: []", "doc.yaml:1: profiels: 'profiels' is not known here; did you mean 'profiles'?"),
    ("- slug: x\n  display_name: X\n  imgae: y", "doc.yaml:3: profile 'x': imgae: is not known here; did you mean"),
    ("- slug: x\n  display_name: X\n", "image: is required"),
    ("- slug: x\n  image: i\n  display_name: X\n  cpu_limit: many", "doc.yaml:4: profile 'x': cpu_limit: must be a nu"),
    ("- slug: X Y\n  image: i\n  display_name: X", "doc.yaml:1: profile 'X Y': slug"),
    ("- {slug: x, image: i, display_name: X}\n- {slug: x, image: i, display_name: Y}", "doc.yaml:2: profile 'x': slug"),
    ("- {slug: x, extends: nope, display_name: X}", "there is no profile 'nope' to extend"),
    ("- {slug: x, extends: y, display_name: X}\n- {slug: y, extends: x, display_name: Y}", "x -> y -> x"),
    ("- {slug: x, image: i, display_name: X, files: [{mount_path: a, content: b}]}", "files[0].mount_path: must be an"),
    ("- {slug: x, image: i, display_name: X, files: [{mount_path: /a, path: b}]}", "no files beside"),
    ("- slug: x\n  image: i\n  display_name: X\n  volumes:\n  - {name: v, size: big, mount_path: /v}", "doc.yaml:5: "),
    ("params: {a/b: {schema: {type: nonsense}}}", "param a/b"),
    ("params: {a/b: {shema: {}}}", "did you mean 'schema'?"),
    ("profile_list: [{description: x}]", "display_name is missing"),
    ("- {slug: x, image: i, display_name: X, env: [{name: A, value: b}]}", "profile 'x': env: must be a mapping"),
    ("- {slug: x, image: i, display_name: X, params: [a]}", "doc.yaml:1: profile 'x': params: must be a mapping"),
    ('- {slug: "x\\0", image: i, display_name: X}', "slug: must be 1 to 63"),
    ("- {slug: x, image: i, display_name: X, meta: {color: bleu}}", "meta: the color must be one of red, orange"),
    ("- {slug: x, image: i, display_name: X, meta: {requird: a/b}}", "has no effect; did you mean 'required'?"),
    ("params: {a/b: {meta: {order: first}}}", "doc.yaml:1: param a/b: meta.order (got first); expected a whole number"),
    ("params: {a/b: {meta: {titel: X}}}", "param a/b: meta: 'titel' has no effect; did you mean 'title'?"),
    ("just a text", "a document must be a mapping"),
    ("profiles: {a: b}", "profiles must be a list"),
    ("x: !!python/object/apply:os.system [id]", "tags are not allowed"),
    *((text, "the document is empty") for text in ("", "# nothing\n", "---\n", "{}")),
    *((f"{key}:", f"{key}: is empty") for key in ("profiles", "profile_list", "params", "collections", "global")),
    ("profileList: [{display_name: A}]", "'profileList' is not known here; did you mean 'profile_list'?"),
    ("hub: {}\nsingleuser:\n  image: {}", "doc.yaml:1: these values of a chart have no list of profiles"),
    ("singleuser:", "these values of a chart have no list of profiles"),
    ("singleuser:\n  profileList:", "doc.yaml:2: singleuser.profileList: the list of profiles is empty"),
    ("singleuser:\n  profilelist: []", "doc.yaml:2: singleuser.profilelist: the chart knows no such key; did you"),
    ("hub:\n  config:\n    KubeSpawner: {profileList: []}", "KubeSpawner.profileList: the chart knows no such key"),
    ("hub: {}\nprofileList: [{display_name: A}]", "did you mean 'singleuser.profileList'?"),
    ("hub:\n  extraConfig:\n    a: c.KubeSpawner.profile_list = []", ":3: hub.extraConfig.a: the values have no list"),
    ("hub: {extraConfig: 'c.KubeSpawner.profile_list = []'}", "hub.extraConfig: the values have no list"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_messages(text: str, message: str) -> None:
    """What is wrong is said with file, line and field, and with the nearest right name."""
    found = problems(text)
    assert any(message in p for p in found), found


@pytest.mark.parametrize(
    "text",
    [
        "[]", "profiles: []", "profile_list: []", "profile_list: {}", "singleuser: {profileList: []}",
        "singleuser: {profileList: {}}", "hub: {config: {KubeSpawner: {profile_list: []}}}", "params: {}",
        "hub: {db: {}}\n---\nsingleuser: {profileList: [{display_name: A}]}",
    ],
)  # fmt: skip
def test_an_explicit_empty_list_is_no_error(text: str) -> None:
    """It is how a list is cleared. Of several documents in a text, one may hold values without a list."""
    assert problems(text) == []


@pytest.mark.parametrize("wrong", ["imagee: i", "env: [a]", "params: 5", "meta: [a]", "slug: a b", "files: x"])
def test_good_profiles_of_a_document_with_a_bad_one(wrong: str) -> None:
    """The good profiles of a document are offered even if one is broken, whatever is wrong with it."""
    text = f"- {{slug: b, display_name: B, image: i, {wrong}}}\n- {{slug: a, display_name: A, image: i}}"
    text = text.replace("slug: b, display_name: B, image: i, slug", "display_name: B, image: i, slug")
    result = READER.read(text, "d", "d")
    assert list(result.collector.profiles) == ["a"]
    assert len(result.problems) == 1


BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "\n".join(f"b{i}: &b{i} [{','.join(['*' + ('a' if not i else f'b{i - 1}')] * 10)}]" for i in range(8)),
    "itself": "a: &a [*a]",
    "deep": "[" * 100_000,
    "deep mapping": "{a: " * 100_000,
    "wide": "[" + "x," * 300_000 + "]",
    "large": "a: " + "x" * (1 << 20),
    "merge": "a: &a {x: 1}\nb: {<<: [*a, 1]}",
    "long number": "a: " + "9" * 100_000,
    "control": "a: \x01",
    "not utf-8": b"a: \xff\xfe\xfa",
    "tag": "a: !!binary aGk=",
    "own tag": "a: !secret x",
    "list as key": "{[a]: b}",
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_cheaply(kind: str) -> None:
    """A document that would expand, nest or mean more than it shows is an error with a place, not an expense."""
    result = READER.read(BOMBS[kind], "doc.yaml", "docs")
    assert result.problems
    assert all(p.origin is not None and p.origin.source == "doc.yaml" for p in result.problems)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 0644, 1.5, yes, null, 'yes', 1e3, -3, 0x1F, 1_000, ~, .5]",
        "a: &x {b: c}\nd: {<<: *x, e: f}\ng: *x",
        "a: |\n  text\n  more\nb: >-\n  folded\n  text\n",
        "on: push\n",
        '{"a": [1, 2.5, true, null, "x\\u00e9"]}',
        "- - a\n  - b\n- {}\n- []\n- ''\n",
    ],
)
def test_values_are_those_of_a_plain_loader(text: str) -> None:
    """What a document means is what PyYAML's safe loader says, but for keys, which stay words."""
    expected = yaml.safe_load(text)
    if isinstance(expected, dict):
        expected = {{True: "on"}.get(k, k): v for k, v in expected.items()}
    assert parse_yaml(text, "x") == [expected]


def test_the_schema_fits_what_is_accepted() -> None:
    """The published JSON Schema is valid, accepts the documents above and refuses misspelt keys."""
    schema = document_schema()
    validator = jsonschema_rs.validator_for(schema)
    assert not list(validator.iter_errors(yaml.safe_load(LAB.replace("\n    ", "\n"))))
    assert not list(validator.iter_errors({"singleuser": {"profileList": [{"display_name": "x"}]}, "hub": {}}))
    assert list(validator.iter_errors([{"slug": "x", "imgae": "y"}]))
    assert list(validator.iter_errors({"profiels": []}))
    assert len(json.dumps(schema)) < 100_000


BASE = {"slug": "x", "display_name": "X", "image": "i"}
OWN = ("data", "DATA", "env", "ENV", "labels", "params", "options", "annotations", "default")
CONTAINERS = ("init_containers", "extra_containers")
ASKING = {"securityContext": {"privileged": True}}
KEY_REF = {"secretKeyRef": {"name": "hub", "key": "k"}}
FROM_SECRET = {"from_secret": {"name": "db", "key": "k"}}
FORBIDDEN: list[dict[str, Any]] = [
    {"service_account": "admin"},
    {"kubespawner_override": {"service_account": "admin"}},
    {"kubespawner_override": {"privileged": True}},
    {"kubespawner_override": {"allow_privilege_escalation": True}},
    {"kubespawner_override": {"extra_pod_config": {"hostNetwork": True}}},
    {"kubespawner_override": {"automount_service_account_token": True}},
    {"kubespawner_override": {"env_keep": ["JUPYTERHUB_CRYPT_KEY"]}},
    {"kubespawner_override": {"namespace": "kube-system"}},
    {"kubespawner_override": {"modify_pod_hook": "x"}},
    {"kubespawner_override": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}},
    {"kubespawner_override": {"volumes": {"a": {"name": "v", "host_path": {"path": "/"}}}}},
    {"kubespawner_override": {"volumes": [{"name": "v", "secret": {"secretName": "hub"}}]}},
    {"kubespawner_override": {"volumes": [{"name": "v", "csi": {"driver": "x"}}]}},
    {"kubespawner_override": {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "hub"}}]}}]}},
    {"kubespawner_override": {"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "x"}}]}}]}},
    {"kubespawner_override": {"environment": {"A": {"valueFrom": {"secretKeyRef": {"name": "hub", "key": "k"}}}}}},
    {"kubespawner_override": {"extra_container_config": {"envFrom": [{"secretRef": {"name": "hub"}}]}}},
    {"kubespawner_override": {"extra_container_config": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}}},
    {"kubespawner_override": {"init_containers": [{"name": "x", "securityContext": {"privileged": True}}]}},
    {"kubespawner_override": {"image_pull_secrets": ["hub"]}},
    {"options": {"o": {"choices": {"c": {"display_name": "C", "kubespawner_override": {"privileged": True}}}}}},
    {"options": {"o": {"choices": {"c": {"display_name": "C", "kubespawner_override": {"namespace": "x"}}}}}},
    {"options": {"o": {"unlisted_choice": {"enabled": True, "kubespawner_override": {"service_account": "{value}"}}}}},
    {"options": {"o": {"type": "switch", "kubespawner_override_off": {"privileged": True}}}},
    {"env": {"A": {"from_secret": {"name": "hub", "key": "k"}}}},
    {"env_from_secrets": ["hub"]},
    {"secret_mounts": [{"name": "hub", "mount_path": "/x"}]},
    {"image_pull_secrets": ["hub"]},
    {"manifests": [{"name": "m", "content": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}]}]},
    {"manifests": [{"name": "m", "content": [{"apiVersion": "apps/v1", "kind": "Deployment"}]}]},
    {"role_bindings": [{"name": "r", "subjects": [], "role": {"name": "r", "resources": ["pods"], "verbs": ["get"]}}]},
    {"params": {"a/b": {"secret": "hub", "key": "k"}}},
    # Names of the author's own choosing hide nothing.
    *({"kubespawner_override": {"volumes": {n: {"name": "v", "hostPath": {"path": "/"}}}}} for n in OWN),
    *({"kubespawner_override": {"volumes": {n: {"name": "v", "secret": {"secretName": "hub"}}}}} for n in OWN),
    *({"kubespawner_override": {"environment": {n: {"valueFrom": KEY_REF}}}} for n in OWN),
    *({"kubespawner_override": {part: {n: {"name": "x", **ASKING}}}} for n in OWN for part in CONTAINERS),
    *({"env": {n: FROM_SECRET}} for n in OWN),
    *({"params": {n: {"secret": "hub", "key": "k"}}} for n in OWN),
    *({"params": {"a/b": {n: FROM_SECRET}}} for n in OWN),
    *({"params": {"a/b": {n: {"from_secret": "{{ a/c }}"}}}} for n in OWN),
    {"kubespawner_override": {"volumes": {"labels": {"name": "v", "csi": {"driver": "x"}}}}},
    {"profile_options": {"data": {"choices": {"env": {"display_name": "C", "kubespawner_override": {
        "volumes": {"data": {"name": "v", "host_path": {"path": "/"}}}}}}}}},
    # Every spelling, and every way to refer to a Secret.
    {"kubespawner_override": {"volumes": [{"name": "v", "host_path": {"path": "/"}}]}},
    {"kubespawner_override": {"volumes": [{"name": "v", "secret": {"secret_name": "hub"}}]}},
    {"kubespawner_override": {"volumes": [{"name": "v", "secret": {"secretName": "fine", "secret_name": "hub"}}]}},
    {"kubespawner_override": {"volumes": [
        {"name": "v", "projected": {"sources": [{"secret": {"name": "hub", "secretName": "fine"}}]}}]}},
    {"kubespawner_override": {"volumes": {"data": {"projected": {"sources": [{"secret": {"name": "hub"}}]}}}}},
    {"kubespawner_override": {"image_pull_secrets": "hub"}},
    {"kubespawner_override": {"image_pull_secrets": [{"name": "hub"}]}},
    {"kubespawner_override": {"environment": {"A": {"value_from": {"secret_key_ref": {"name": "hub", "key": "k"}}}}}},
    {"kubespawner_override": {"extra_container_config": {"env_from": [{"secret_ref": {"name": "hub"}}]}}},
    {"kubespawner_override": {"extra_container_config": {"security_context": {"capabilities": {"add": ["ALL"]}}}}},
    {"kubespawner_override": {"container_security_context": {"privileged": True}}},
    {"kubespawner_override": {"pod_security_context": {"sysctls": [{"name": "kernel.x", "value": "1"}]}}},
    {"kubespawner_override": {"extra_containers": [{"name": "x", "envFrom": [{"secretRef": {"name": "hub"}}]}]}},
    {"kubespawner_override": {"extra_containers": [{"name": "x", "ports": [{"hostPort": 80}]}]}},
    {"kubespawner_override": {"init_containers": [{"name": "x", "env": [{"name": "A", "valueFrom": KEY_REF}]}]}},
    {"kubespawner_override": {"extra_pod_config": {"serviceAccountName": "hub"}}},
    {"kubespawner_override": {"automount_service_account_token": True}},
    {"kubespawner_override": {"user_namespace_template": "kube-system"}},
    {"kubespawner_override": {"$param": "a/b"}},
    # A choice that completes a key, or a value.
    {"options": {"o": {"type": "text", "kubespawner_override": {"volumes": [{"{value}": {"path": "/"}}]}}}},
    {"options": {"o": {"type": "text", "kubespawner_override": {"volumes": {"env": {"host{value}": {"path": "/"}}}}}}},
    {"options": {"o": {"type": "text", "kubespawner_override": {"volumes": [{"secret": {"secretName": "{value}"}}]}}}},
    # Values of params.
    {"service_account": {"$param": "a/b"}},
    {"pod_env_vars": {"$param": "a/b", "default": {"data": FROM_SECRET}}},
    {"bashrc_path": {"$param": "a/b"}},
    {"init_script_path": {"$param": "a/b", "default": "/etc/passwd"}},
    {"params": {"a/b": {"spec": {"volumes": [{"name": "v", "hostPath": "{{ a/c }}"}]}}}},
    {"params": {"a/b": {"containers": [{"securityContext": {"privileged": "{{ a/c }}"}}]}}},
    {"params": {"a/b": [{"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io"}}]}},
    # What is no text where a name is expected.
    {"kubespawner_override": {"service_account": ["hub"]}},
    {"kubespawner_override": {"extra_container_config": {"envFrom": [{"secretRef": {"name": []}}]}}},
    {"kubespawner_override": {"volumes": [{"name": "v", "hostPath": {"path": ["/"]}}]}},
    {"manifests": [{"name": "m", "content": [{"apiVersion": "v1", "kind": ["Service"], "metadata": {"name": "s"}}]}]},
    {"manifests": [{"name": "m", "content": [{"apiVersion": "v1", "kind": "{{ a/b }}", "metadata": {"name": "s"}}]}]},
    {"manifests": [{"name": "m", "content": [{"apiVersion": "v1", "kind": "List", "items": [{"kind": "Secret"}]}]}]},
]  # fmt: skip


def load(
    document: Any, rights: DataPolicy | None = None, find: Callable[[str], Any] = lambda slug: None
) -> tuple[dict[str, Entry], list[ProfileSpawnerError]]:
    """Return the profiles of a document that are accepted, and the problems of the others."""
    rights = rights or DataPolicy()
    result = DocumentReader(rights, find).read(json.dumps(document), "doc.yaml", "docs")
    loaded = LoadedItem(
        SourceItem("k", "documents", "docs", "doc.yaml", ""), result.collector, rights=rights.restricting
    )
    resolver = make_resolver([result.collector])
    with EntryMaker() as maker:
        entries, problems = maker.make(loaded, resolver)
    usable = {slug: entry for slug, entry in entries.items() if not entry.offer.unavailable}
    reasons = param_problems(resolver)
    return usable, [*result.problems, *problems, *reasons]


@pytest.mark.parametrize("extra", FORBIDDEN, ids=lambda e: json.dumps(e)[:90])
def test_the_policy_refuses(extra: dict[str, Any]) -> None:
    """By default a document may not name service accounts, host paths, privileged settings or Secrets, wherever."""
    entries, problems = load([{**BASE, **extra}])
    assert not entries
    assert problems
    assert not any(isinstance(p, PolicyError) for p in load([{**BASE, **extra}], DataPolicy(unrestricted=True))[1])


def test_a_plain_entry_may_not_ask_for_more() -> None:
    """The same holds for entries of a `profile_list`, and of the values of Zero to JupyterHub."""
    overrides = [e["kubespawner_override"] for e in FORBIDDEN if "kubespawner_override" in e]
    entries = [{"display_name": f"E{n}", "kubespawner_override": o} for n, o in enumerate(overrides)]
    options = [e[k] for e in FORBIDDEN for k in ("options", "profile_options") if k in e]
    entries += [{"display_name": f"O{n}", "profile_options": o} for n, o in enumerate(options)]
    for entry in entries:
        for document in ({"profile_list": [entry]}, {"singleuser": {"profileList": [entry]}}):
            accepted, problems = load(document)
            assert not accepted, entry
            # What is read before a profile is applied is a mistake of any author.
            assert any(isinstance(p, PolicyError) or "has no effect" in str(p) for p in problems)


POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
FORBIDDEN_TEMPLATES: list[dict[str, Any]] = [
    {"serviceAccountName": "hub"},
    {"serviceAccount": "{{ a/b }}"},
    {"hostNetwork": "{{ a/b }}"},
    {"automountServiceAccountToken": True},
    {"imagePullSecrets": [{"name": "hub"}]},
    {"imagePullSecrets": "{{ a/b }}"},
    {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    {"volumes": [{"name": "v", "hostPath": "{{ a/b }}"}]},
    {"volumes": [{"name": "v", "secret": "{{ a/b }}"}]},
    {"volumes": [{"name": "v", "azureFile": {"secretName": "hub", "shareName": "s"}}]},
    {"volumes": [{"name": "v", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "hub"}}}]},
    {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
    {"containers": [{"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": "{{ a/b }}"}}]}]},
    {"containers": [{"name": "c", "envFrom": [{"secretRef": "{{ a/b }}"}]}]},
    {"containers": [{"name": "c", "securityContext": {"capabilities": "{{ a/b }}"}}]},
    {"containers": [{"name": "c", "securityContext": {"privileged": "{{ a/b }}"}}]},
]


@pytest.mark.parametrize("spec", FORBIDDEN_TEMPLATES, ids=lambda e: json.dumps(e)[:60])
def test_the_policy_looks_into_pods_of_manifests(spec: dict[str, Any]) -> None:
    """A kind that is allowed brings no pod that asks for more, nor one that a reference completes."""
    for ask, fine in ((POD["spec"] | spec, False), (POD["spec"], True)):
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d-{{ user_slug }}"}}
        content = [{**body, "spec": {"template": {**POD, "spec": ask}}}]
        document = [{**BASE, "manifests": [{"name": "m", "content": content}]}]
        entries, problems = load(document, DataPolicy(kinds=frozenset({"Deployment"})))
        assert bool(entries) is fine
        assert bool(problems) is not fine


FORBIDDEN_VALUES: list[dict[str, Any]] = [
    {"params": {"a/b": {"default": {"A": FROM_SECRET}}}},
    {"params": {"env": {"default": {"data": FROM_SECRET}}}},
    {"params": {"a/b": {"default": {"labels": FROM_SECRET}}}},
    {"params": {"a/b": {"schema": {"default": {"A": FROM_SECRET}}}}},
    {"params": {"a/b": {"user_settable": True, "schema": {"enum": [{"A": FROM_SECRET}]}}}},
    {"params": {"a/b": {"user_settable": True, "schema": {"oneOf": [{"const": {"A": FROM_SECRET}}]}}}},
    {"global": {"a/b": {"A": FROM_SECRET}}},
    {"global": {"a/b": {"secret": "hub", "key": "k"}}},
    {"collections": {"more": {"params": {"a/b": {"A": FROM_SECRET}}}}},
]


@pytest.mark.parametrize("document", FORBIDDEN_VALUES, ids=lambda e: json.dumps(e)[:90])
def test_values_of_params_may_not_ask_for_more(document: dict[str, Any]) -> None:
    """Defaults, what a schema lists, collections and the values for everybody are looked at like profiles."""
    result = READER.read(json.dumps(document), "doc.yaml", "docs")
    assert result.problems
    assert all(isinstance(p, PolicyError) for p in result.problems)
    assert not result.collector.params
    assert not result.collector.collections


PYTHON_READS_PARAMS = """
    from profile_spawner import BaseAppProfile, Param, profile_registry

    profile_registry.register_param(Param("lab/what", layers=None))

    @profile_registry.register
    class Lab(BaseAppProfile):
        slug = "lab"
        display_name = "Lab"
        image = "example/lab:1"
        home_dir = "/home/lab"
        {attribute} = Param.ref("lab/what"{default})
"""


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("service_account", "admin"),
        ("bashrc_path", "/etc/hostname"),
        ("init_script_path", "{{ lab/where }}"),
        ("kubespawner_override", {"namespace": "kube-system"}),
    ],
)
async def test_documents_do_not_decide_on_what_python_asks_for(
    folder: Path, tmp_path: Path, make_service: Callable[..., ProfileService], attribute: str, value: Any
) -> None:
    """A value of a document gives a class no service account, no file of the hub and no trait; one of the hub may."""
    default = ", {}" if attribute == "kubespawner_override" else ", None"
    put(folder, "lab.py", PYTHON_READS_PARAMS.format(attribute=attribute, default=default))
    documents = tmp_path / "documents"
    documents.mkdir()
    params = {"lab/where": {"default": "/etc/hostname"}}
    put(documents, "values.yaml", json.dumps({"params": params, "global": {"lab/what": value}}))
    service = make_service(profile_documents=(documents,))
    snapshot = await service.ready()
    assert attribute in str(service.problems[0])
    assert str(service.problems[0]).startswith(f"{documents}/values.yaml:1")
    assert "lab/what" not in snapshot.resolve(snapshot.entries["lab"].profile, None)
    put(documents, "values.yaml", json.dumps({"params": params}))
    assert (await service.reload()).successful
    snapshot = service.snapshot
    profile = snapshot.entries["lab"].profile
    assert snapshot.resolve(profile, None, hub={"lab/what": "robot"})["lab/what"] == "robot"


def test_what_one_kind_of_source_may_cannot_be_taken_over_by_another() -> None:
    """A profile that extends one which was allowed more is refused, with the reason."""
    able = DataPolicy(service_accounts=frozenset({"robot"}))
    profile = load([{**BASE, "service_account": "robot"}], able)[0]["x"].profile
    assert isinstance(profile, ClassProfile)
    base = profile.cls
    document = [{"slug": "y", "display_name": "Y", "extends": "x"}]
    entries, (problem,) = load(document, find=lambda slug: base)
    assert not entries
    assert "robot" in str(problem)
    assert isinstance(problem, PolicyError)
    assert load(document, able, lambda slug: base)[0]


async def test_a_config_map_brings_its_start_up_files() -> None:
    """A key of the ConfigMap is a file beside the document; one that is not there is an error."""
    text = "[{slug: x, display_name: X, image: i, home_dir: /h, bashrc_path: %s}]"
    for key, found in (("rc", True), ("gone", False)):
        source = ConfigMapDocuments("ns", DataPolicy())
        source.objects = {"configmap/map": ("ConfigMap", {"data": {"a.yaml": text % key, "rc": "alias ll='ls -l'"}})}
        (item,) = source.scan({}, full=True)
        loaded = source.loader([item], LoadSession({}, ()))(item)
        assert bool(loaded.collector.profiles) is found
        assert bool(loaded.problems) is not found
        for registered in loaded.collector.profiles.values():
            assert isinstance(registered, ClassProfile)
            build = await registered.cls(ServerContext.example()).build()
            assert "alias ll='ls -l'" in build.objects[0].body["data"].values()


def test_accounts_of_one_kind_of_source_are_accounts_of_the_hub() -> None:
    """A pod may run as the service accounts that `data_policy` allows to documents, to ConfigMaps, or to both."""
    config = Config()
    policy = {"documents": {"service_accounts": ["a"]}, "config_maps": {"service_accounts": "b"}}
    config.ProfileSpawner.data_policy = policy
    assert HubProfiles(config, ("ProfileSpawner",)).policy.service_accounts == {"a", "b"}


def test_no_document_makes_its_reader_raise() -> None:
    """Whatever stands where, what is wrong becomes a problem of the document."""
    odd = [[], {}, {"$param": "a/b"}, [[]], {"name": []}, 7, None, True]
    keys = ("service_account", "secretRef", "secret", "hostPath", "capabilities", "volumes", "environment", "kind")
    for value in odd:
        for key in keys:
            for place in ({key: value}, {"kubespawner_override": {key: value}}, {"params": {"a/b": {key: value}}}):
                READER.read(json.dumps([{**BASE, **place}]), "doc.yaml", "docs")
                READER.read(json.dumps({"profile_list": [{"display_name": "X", **place}]}), "doc.yaml", "docs")
        for part in ("params", "collections", "global", "profile_list", "profiles", "singleuser"):
            READER.read(json.dumps({part: value}), "doc.yaml", "docs")
            READER.read(json.dumps({part: {"a/b": value}}), "doc.yaml", "docs")


ALLOWED = [
    {"env": {"privileged": "yes", "SECRET": "x", "hostPath": "y"}},
    {"kubespawner_override": {"environment": {"hostNetwork": "1"}, "mem_limit": "1G", "uid": 1000}},
    {"kubespawner_override": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim-{username}"}}]}},
    {"kubespawner_override": {"extra_container_config": {"securityContext": {"allowPrivilegeEscalation": False}}}},
    {"node_selector": {"privileged": "no"}, "extra_labels": {"secret": "no"}},
    {"env": {"SECRET": "{{ username }}", "DATA": {"from_config_map": {"name": "c", "key": "k"}}}},
    {"kubespawner_override": {"extra_labels": {"{username}": "x"}, "environment": {"SECRET_NAME": "x"}}},
    {"kubespawner_override": {"volumes": {"secret": {"name": "v", "emptyDir": {}}}}},
    {"kubespawner_override": {"init_containers": {"data": {"name": "x", "env": [{"name": "A", "value": "b"}]}}}},
    {"kubespawner_override": {"container_security_context": {"capabilities": {"drop": ["ALL"]}}}},
    {"options": {"secret": {"choices": {"secret": {"display_name": "S", "kubespawner_override": {"cpu_limit": 1}}}}}},
    {"options": {"o": {"type": "text", "kubespawner_override": {"environment": {"A": "{value}"}}}}},
    {"manifests": [{"name": "m", "content": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s-{{ server_slug }}"},
         "data": {"secret": "{{ username }}"}}]}]},
    {"manifests": [{"name": "m", "content": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s-{{ server_slug }}"}}]}]},
]  # fmt: skip


@pytest.mark.parametrize("extra", ALLOWED, ids=lambda e: json.dumps(e)[:60])
def test_the_policy_lets_harmless_things_through(extra: dict[str, Any]) -> None:
    """Names of one's own that look like settings, and settings that take privileges away, are fine."""
    assert not load([{**BASE, **extra}])[1]


def test_the_policy_opens_exactly_what_is_named() -> None:
    """The configuration names single service accounts, Secrets, paths and settings."""
    policy = DataPolicy.of(
        {"service_accounts": ["robot"], "config_maps": {"secrets": ["shared"]}, "host_paths": ["/data"]}, "config_maps"
    )
    assert policy.secrets == {"shared"}
    assert not DataPolicy.of({"config_maps": {"secrets": ["shared"]}}, "documents").secrets
    fine = {"service_account": "robot", "env_from_secrets": ["shared"]}
    path = {"kubespawner_override": {"volumes": [{"name": "v", "hostPath": {"path": "/data/x"}}]}}
    escape = {"kubespawner_override": {"volumes": [{"name": "v", "hostPath": {"path": "/data/../etc"}}]}}
    assert not load([{**BASE, **fine}], policy)[1]
    assert not load([{**BASE, **path}], policy)[1]
    assert load([{**BASE, **escape}], policy)[1]
    with pytest.raises(PolicyError, match="secret"):
        DataPolicy.of({"secret": ["x"]}, "documents")


async def test_files_beside_a_document_stay_beside_it(
    folder: Path, make_service: Callable[..., ProfileService]
) -> None:
    """A document cannot read files outside of its folder."""
    for number, path in enumerate(["../secret.txt", "/etc/passwd", "link.txt"]):
        put(
            folder,
            f"{number}.yaml",
            f"{{slug: p{number}, display_name: P, image: i, files: [{{mount_path: /x, path: {path}}}]}}",
        )
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to("../secret.txt")
    service = make_service(profiles_dirs=(), profile_documents=(folder,))
    await service.ready()
    assert len(service.problems) == 3
    assert all("leads out" in str(p) for p in service.problems)


async def test_a_slow_document_costs_only_itself(
    folder: Path, tmp_path: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Documents that are based on it, and all that are tried later, have their own time."""
    put(folder, "lab.py", module("lab"))
    texts = ", ".join(["'{username:>9}'"] * 550)
    slow = "profile_list:\n- display_name: Slow\n  slug: slow\n  kubespawner_override: &o {image: x, cmd: [" + texts
    slow += "]}\n  profile_options:\n    c:\n      display_name: C\n      choices:\n"
    slow += "".join(f"        c{n}: {{display_name: C, kubespawner_override: *o}}\n" for n in range(330))
    documents = tmp_path / "documents"
    put(documents, "a.yaml", "[{slug: based, display_name: A, extends: slow}]")
    put(documents, "b.yaml", slow)
    put(documents, "c.yaml", "[{slug: fine, display_name: C, image: 'c:1'}]")
    service = make_service(profile_documents=(documents,), trial_timeout=1.0)
    snapshot = await service.ready()
    assert set(snapshot.entries) == {"lab", "fine"}
    problems = {p.origin.source.rpartition("/")[2]: str(p) for p in service.problems if p.origin is not None}
    assert set(problems) == {"a.yaml", "b.yaml"}
    assert "there is no profile 'slow'" in problems["a.yaml"]
    assert "does not come to an end in time" in problems["b.yaml"]


def _read(text: str) -> DocumentResult:
    return DocumentReader(DataPolicy(), lambda slug: None).read(text, "a.yaml", "a")


def test_many_refusals_are_counted() -> None:
    """The first ones have their lines, because to look for each of them would take time for each."""
    values = "".join(f"      - '{{username:>{n}}}'\n" for n in range(50))
    result = _read(f"- slug: a\n  display_name: A\n  image: a\n  kubespawner_override:\n    init_containers:\n{values}")
    lines = [p.origin.line for p in result.problems if p.origin is not None]
    assert lines == list(range(6, 26))
    assert "30 other parts are not allowed either" in str(result.problems[-1])


@pytest.mark.parametrize("order", [1, -1])
def test_profiles_extend_each_other_through_a_bounded_number_of_levels(order: int) -> None:
    """In the order of the document, and the other way round."""
    lines = ["- {slug: p0, display_name: A, image: a}\n"]
    lines += [f"- {{slug: p{n}, display_name: A, extends: p{n - 1}}}\n" for n in range(1, 900)]
    result = _read("".join(lines[::order]))
    assert {f"p{n}" for n in range(21)} == set(result.collector.profiles)
    assert result.problems
    assert all("more than 20 levels" in str(p) for p in result.problems)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("0b_", "+0b_", "0x_", "0o_", "0o7", "._", "+_", "-_", "1:30:00", "2024-13-45")),
        *((text, text) for text in ("1.0e+999", "-.inf", "08")),
        ("0x_f", 15),
        ("0b_1_0", 2),
        ("-0_7", -7),
        ("1_000", 1000),
        ("1.5e+3", 1500.0),
    ],
)
def test_plain_scalars_are_numbers_only_when_they_can_be_converted(text: str, value: Any) -> None:
    """What looks almost like a number is a text."""
    assert parse_yaml(f"[{text}]", "a.yaml") == [[value]]
