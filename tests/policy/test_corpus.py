"""The corpus: documents of every kind of threat with their harmless neighbours, and the verdict on each.

Each case is loaded by the source of documents and goes as far as the pod and the objects that a start would create.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from profile_spawner.commands.arguments import Sources, UserOptions
from profile_spawner.commands.building import preview
from profile_spawner.commands.loading import loaded
from profile_spawner.errors import ProfileSpawnerError

CORPUS = Path(__file__).parent / "corpus"
BASE = {"slug": "x", "display_name": "X", "image": "example/x:1"}


@dataclass(frozen=True)
class Case:
    """A document and the verdict on it.

    Attributes:
        name: The threat and what the document does.
        document: What is written into the file.
        names: What the refusal names: a field, a key or a name. Empty when the document is allowed.
        settings: Settings of `ProfileSpawner`, such as `data_policy`.
        choose: What the user chooses besides the profile.
        groups: The user's groups.
    """

    name: str
    document: Any
    names: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    choose: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


def documents_of(case: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the forms of a case: an override stands in a profile of its own and in a plain `profile_list` entry."""
    if "override" in case:
        override = case["override"]
        yield " (profile)", [{**BASE, "kubespawner_override": override}]
        entry = {"display_name": "X", "slug": "x", "kubespawner_override": {"image": "example/x:1", **override}}
        yield " (entry)", {"profile_list": [entry]}
    elif "entry" in case:
        entry = {"display_name": "X", "kubespawner_override": {"image": "example/x:1", **case["entry"]}}
        yield "", {"profile_list": [entry]}
    elif "profile" in case:
        yield "", [{**BASE, **case["profile"]}]
    elif "manifest" in case:
        manifest = {"metadata": {"name": "thing"}, **case["manifest"]}
        manifest["metadata"] = {"name": "thing", **manifest["metadata"]}
        yield "", [{**BASE, "manifests": [{"name": "m", "content": [manifest]}]}]
    else:
        yield "", case["document"]


def cases() -> Iterator[Case]:
    """Yield all cases of the files."""
    for path in sorted(CORPUS.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            for form, document in documents_of(case):
                yield Case(
                    f"{path.stem}: {case['name']}{form}",
                    document,
                    str(case.get("refused", "")),
                    case.get("settings", {}),
                    case.get("choose", {}),
                    tuple(case.get("groups", ())),
                )


CASES = list(cases())


def refusals(case: Case, folder: Path) -> list[ProfileSpawnerError]:
    """Return why the profiles of a case are not loaded or not started; nothing when they are."""
    document, settings = folder / "case.yaml", folder / "settings.py"
    document.write_text(json.dumps(case.document))
    # The name of a folder of the corpus: it is slow to load modules for every case.
    modules = tuple(CORPUS / name for name in case.settings.get("profiles_dirs", ()))
    others = {name: value for name, value in case.settings.items() if name != "profiles_dirs"}
    settings.write_text(f"get_config().ProfileSpawner.update({others!r})\n")
    sources = Sources(config=(CORPUS / "hub_config.py", settings), profiles_dirs=modules, documents=(document,))
    user = UserOptions("ada", groups=case.groups, chosen=case.choose)
    try:
        with loaded(sources, user=user) as found:
            if found.snapshot.problems:
                return list(found.snapshot.problems)
            for slug in found.snapshot.entries:
                preview(found, slug, user)
    except ProfileSpawnerError as e:
        return [e]
    return []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_verdict(case: Case, tmp_path: Path) -> None:
    """A document that asks for too much is refused, and the refusal names the part; its neighbours start."""
    found = "\n".join(map(str, refusals(case, tmp_path)))
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
    document.write_text(json.dumps([BASE]))
    config.write_text(COUNTING)
    with loaded(Sources(config=(CORPUS / "hub_config.py", config), documents=(document,))) as found:
        pod = preview(found, "x", UserOptions("ada")).pod
    container = pod["spec"]["containers"][0]
    (variable,) = [v for v in container["env"] if v["name"] == "JUPYTERHUB_NUMBER"]
    assert {int(variable["value"]), container["securityContext"]["runAsUser"] - 1000} == {0, 1}
