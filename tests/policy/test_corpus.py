"""The corpus: documents of every kind of threat with their harmless neighbours, and the verdict on each.

Each case is loaded by the source of documents and goes as far as the pod and the objects that a start would create.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from profile_spawner.commands.arguments import Sources, UserOptions
from profile_spawner.commands.building import preview
from profile_spawner.commands.loading import LoadedProfiles, loaded
from profile_spawner.errors import ProfileSpawnerError

CORPUS = Path(__file__).parent / "corpus"
pytestmark = pytest.mark.xdist_group("corpus")  # the cases of one hub are loaded together


@dataclass(frozen=True)
class Case:
    """A document and the verdict on it.

    Attributes:
        name: The threat and what the document does.
        slug: The slug of the profile. It is the case's own, except in documents that are written out.
        document: What is written into the file.
        names: What the refusal names: a field, a key or a name. Empty when the document is allowed.
        settings: Settings of `ProfileSpawner`, such as `data_policy`.
        choose: What the user chooses besides the profile.
        groups: The user's groups.
    """

    name: str
    slug: str
    document: Any
    names: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    choose: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    @property
    def hub(self) -> str:
        """The hub that loads the case: its settings. A document that is written out has one for itself."""
        return json.dumps([self.settings, self.name if self.slug == "x" else ""], sort_keys=True)


def documents_of(case: Mapping[str, Any], slug: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the forms of a case: an override stands in a profile of its own and in a plain `profile_list` entry."""
    base = {"slug": slug, "display_name": "X", "image": "example/x:1"}
    if "override" in case:
        override = case["override"]
        yield " (profile)", slug, [{**base, "kubespawner_override": override}]
        slug = f"{slug}e"
        entry = {"display_name": "X", "slug": slug, "kubespawner_override": {"image": "example/x:1", **override}}
        yield " (entry)", slug, {"profile_list": [entry]}
    elif "entry" in case:
        entry = {"display_name": slug, "kubespawner_override": {"image": "example/x:1", **case["entry"]}}
        yield "", slug, {"profile_list": [entry]}
    elif "profile" in case:
        yield "", slug, [{**base, **case["profile"]}]
    elif "manifest" in case:
        manifest = {**case["manifest"]}
        manifest["metadata"] = {"name": "thing-{{ server_slug }}", **manifest.get("metadata", {})}
        yield "", slug, [{**base, "manifests": [{"name": "m", "content": [manifest]}]}]
    else:
        yield "", "x", case["document"]


def cases() -> Iterator[Case]:
    """Yield all cases of the files."""
    written = [(path.stem, case) for path in sorted(CORPUS.glob("*.yaml")) for case in yaml.safe_load(path.read_text())]
    for number, (stem, case) in enumerate(written):
        for form, slug, document in documents_of(case, f"x{number}"):
            yield Case(
                f"{stem}: {case['name']}{form}",
                slug,
                document,
                str(case.get("refused", "")),
                case.get("settings", {}),
                case.get("choose", {}),
                tuple(case.get("groups", ())),
            )


CASES = list(cases())


@functools.cache
def verdicts(hub: str) -> Mapping[str, list[ProfileSpawnerError]]:
    """Load all cases of a hub at once, and return why the profiles of each are not loaded or not started."""
    loading = [case for case in CASES if case.hub == hub]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in loading:
            (folder / f"{case.slug}.yaml").write_text(json.dumps(case.document))
        # The name of a folder of the corpus: it is slow to load modules for every case.
        given = loading[0].settings
        modules = tuple(CORPUS / name for name in given.get("profiles_dirs", ()))
        others = {name: value for name, value in given.items() if name != "profiles_dirs"}
        settings = folder / "settings.py"
        settings.write_text(f"get_config().ProfileSpawner.update({others!r})\n")
        documents = tuple(folder / f"{case.slug}.yaml" for case in loading)
        sources = Sources(config=(CORPUS / "hub_config.py", settings), profiles_dirs=modules, documents=documents)
        try:
            with loaded(sources, user=UserOptions("ada")) as found:
                return {case.name: refusals(case, found) for case in loading}
        except ProfileSpawnerError as e:  # a setting
            return {case.name: [e] for case in loading}


def refusals(case: Case, found: LoadedProfiles) -> list[ProfileSpawnerError]:
    """Return why the profiles of a case are not loaded or not started; nothing when they are."""
    file = f"{case.slug}.yaml"
    problems = [p for p in found.snapshot.errors if p.origin is not None and Path(p.origin.source).name == file]
    if problems:
        return problems
    user = UserOptions("ada", groups=case.groups, chosen=case.choose)
    for slug in found.snapshot.entries if case.slug == "x" else [case.slug]:
        try:
            preview(found, slug, user)
        except ProfileSpawnerError as e:
            return [e]
    return []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_verdict(case: Case) -> None:
    """A document that asks for too much is refused, and the refusal names the part; its neighbours start."""
    found = "\n".join(map(str, verdicts(case.hub)[case.name]))
    assert bool(found) is bool(case.names), found or "allowed"
    assert case.names in found


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    """At least 150 documents, of which at least 50 are allowed."""
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 150
    assert sum(not case.names for case in CASES) >= 50


COUNTING = """
numbers = iter(range(100))
c = get_config()
c.KubeSpawner.environment = {"JUPYTERHUB_NUMBER": lambda spawner: str(next(numbers))}

async def uid(spawner):
    return 1000 + next(numbers)

c.KubeSpawner.uid = uid
"""


def test_functions_of_the_configuration_are_called_once(tmp_path: Path) -> None:
    """The hub's own pod and the pod of a document get the same values, so that none counts as a change."""
    document, config = tmp_path / "case.yaml", tmp_path / "counting.py"
    document.write_text(json.dumps([{"slug": "x", "display_name": "X", "image": "example/x:1"}]))
    config.write_text(COUNTING)
    with loaded(Sources(config=(CORPUS / "hub_config.py", config), documents=(document,))) as found:
        pod = preview(found, "x", UserOptions("ada")).pod
    container = pod["spec"]["containers"][0]
    (variable,) = [v for v in container["env"] if v["name"] == "JUPYTERHUB_NUMBER"]
    assert {int(variable["value"]), container["securityContext"]["runAsUser"] - 1000} == {0, 1}


def test_objects_of_a_document_are_confined_to_the_user(tmp_path: Path) -> None:
    """Their selectors never select pods of others, and their pods get no token of an account that they do not name."""
    document, config = tmp_path / "case.yaml", tmp_path / "jobs.py"
    containers = [{"name": "c", "image": "example/x:1"}]
    pod, own = {"restartPolicy": "Never", "containers": containers}, {"matchLabels": {"part": "x"}}
    template = {"metadata": {"labels": {"part": "x"}}, "spec": {"containers": containers}}
    objects: list[tuple[str, str, dict[str, Any]]] = [
        ("v1", "Service", {"selector": {"part": "x"}, "ports": [{"port": 80}]}),
        ("v1", "PersistentVolumeClaim", {"resources": {"requests": {"storage": "1Gi"}}}),
        ("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": own}),
        ("apps/v1", "Deployment", {"selector": own, "template": template}),
        ("apps/v1", "StatefulSet", {"selector": {"matchExpressions": [{"key": "part", "operator": "Exists"}]},
                                    "template": template}),
        ("batch/v1", "Job", {"template": {"spec": {**pod, "serviceAccountName": "runner"}}}),
    ]  # fmt: skip
    content = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "x-{{ pod_name }}"}, "spec": spec}
        for version, kind, spec in objects
    ]
    profile = {"slug": "x", "display_name": "X", "image": "example/x:1"}
    document.write_text(json.dumps([{**profile, "manifests": [{"name": "m", "content": content}]}]))
    kinds = [kind for _, kind, _ in objects]
    settings = {"allowed_kinds": kinds, "data_policy": {"kinds": kinds, "service_accounts": ["runner"]}}
    config.write_text(f"get_config().ProfileSpawner.update({settings!r})\n")
    with loaded(Sources(config=(CORPUS / "hub_config.py", config), documents=(document,))) as found:
        made = preview(found, "x", UserOptions("ada"))
    labels = made.pod["metadata"]["labels"]
    user = {key: labels[key] for key in ("profile-spawner/hub", "profile-spawner/user")}
    specs = {m["kind"]: m["spec"] for m in made.manifests}
    assert specs["Service"]["selector"] == {"part": "x", **user}
    assert specs["NetworkPolicy"]["podSelector"]["matchLabels"] == {"part": "x", **user}
    assert specs["StatefulSet"]["selector"]["matchLabels"] == user
    assert "selector" not in specs["Job"]
    assert specs["Job"]["template"]["metadata"]["labels"] == user
    assert "automountServiceAccountToken" not in specs["Job"]["template"]["spec"]
    deployment = specs["Deployment"]
    assert (
        deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"] == {"part": "x", **user}
    )
    assert deployment["template"]["spec"]["automountServiceAccountToken"] is False
    assert content[3]["spec"] == objects[3][2]
