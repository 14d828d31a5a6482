"""The examples and promises of the documentation."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml
from traitlets.config import Config

from profile_spawner import profile_registry
from profile_spawner.apps import BUILTIN
from profile_spawner.cli import app
from profile_spawner.hub.settings import HubTraits
from profile_spawner.kube.rbac import required_rules
from profile_spawner.policy.settings import DEFAULT_KINDS
from profile_spawner.profiles.registry import Collector, collecting
from tests.documentation import PAGES, ROOT, code_blocks, readme_profile, tables
from tests.snapshots import snapshot_of

AUTHORS, ADMINS = ROOT / "docs" / "authors.md", ROOT / "docs" / "admins.md"
OWN_PAGES = ["README.md", "docs/authors.md", "docs/admins.md", "docs/operators.md", "docs/moving.md"]
# A module of the configurator is loaded by the test of its guide.
PYTHON = [
    (page, n, block)
    for page in OWN_PAGES
    for n, block in enumerate(code_blocks(ROOT / page, "python"))
    if "from configurator" not in block
]


@pytest.mark.parametrize(("page", "number", "block"), PYTHON, ids=[f"{page}-{n}" for page, n, _ in PYTHON])
async def test_every_python_snippet_works(page, number, block):
    """A snippet of the documentation is a module that registers profiles, a configuration, or a test that passes."""
    del number
    namespace = {"c": Config(), "__name__": "snippet"}
    with collecting(Collector(page)) as collector:
        exec(compile(block, page, "exec"), namespace)
    snapshot = await snapshot_of(collector)
    assert snapshot.problems == ()
    assert len(snapshot) == block.count("@profile_registry.register")
    for section, values in namespace["c"].items():
        assert section in ("JupyterHub", "KubeSpawner", "ProfileSpawner")
        if section == "ProfileSpawner":
            HubTraits(**values)
            assert set(values) <= set(HubTraits.class_trait_names(config=True))
            assert set(values.get("builtin_profiles", ())) <= set(BUILTIN)


def test_the_test_of_the_authors_guide_passes():
    """The example of a test in the authors' guide is a test that passes."""
    (block,) = [b for b in code_blocks(AUTHORS, "python") if "def test_" in b]
    namespace = {}
    exec(compile(block, "authors.md", "exec"), namespace)
    (name,) = [n for n in namespace if n.startswith("test_")]
    namespace[name]()


def test_the_readme_keeps_its_promises_of_length():
    """A hub in ten lines, and a profile in about as many."""
    first = code_blocks(ROOT / "README.md", "python")[0]
    assert len(first.splitlines()) == 10
    assert len([line for line in readme_profile().splitlines() if line]) <= 10


def test_the_demo_has_the_readmes_profile():
    """The example file of the demo is the README's first example."""
    first = ast.parse(code_blocks(ROOT / "README.md", "python")[0])
    example = ast.parse((ROOT / "profile_spawner/demo/profiles/my_first.py").read_text())
    written, shown = (
        {ast.unparse(line) for node in tree.body if isinstance(node, ast.ClassDef) for line in node.body}
        for tree in (first, example)
    )
    assert written <= shown


def _commands(page: Path) -> list[list[str]]:
    lines = "\n".join(code_blocks(page, "bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.partition(" | ")[0], comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "profile-spawner"]


def test_every_command_exists_with_its_options():
    """Commands of the documentation are commands of the program."""
    group = typer.main.get_command(app)
    shown = [command for page in PAGES for command in _commands(page)]
    assert shown
    for words in shown:
        command = group.commands[words[0]]
        if hasattr(command, "commands"):
            command = command.commands[words[1]]
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words[1:] if word.startswith("--")} <= known, words


def test_every_option_of_the_demo_is_explained():
    """The operators' page has all options of the demo."""
    text = (ROOT / "docs" / "operators.md").read_text()
    for parameter in typer.main.get_command(app).commands["demo"].params:
        assert parameter.opts[0] in text, parameter.opts


def test_make_targets_exist():
    """All `make` targets of the documentation exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        shown = {
            line.split()[1] for b in code_blocks(page, "bash") for line in b.splitlines() if line.startswith("make ")
        }
        assert shown <= targets, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Links to files and headings of the repository exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize(("page", "header"), [(page, h) for page, made in tables().items() for h in made])
def test_tables_say_what_the_code_says(page, header):
    """The tables of attributes, hooks and keys are made from the code; `python -m tests.documentation` writes them."""
    assert tables()[page][header] in page.read_text()


def test_all_settings_are_explained():
    """The administrators' guide has every setting."""
    text = ADMINS.read_text()
    assert [name for name in HubTraits.class_trait_names(config=True) if f"`{name}`" not in text] == []


def test_all_builtin_profiles_are_named():
    """The authors' guide has every ready profile."""
    text = AUTHORS.read_text()
    assert [slug for slug in BUILTIN if f"`{slug}`" not in text] == []


def test_yaml_snippets_are_yaml():
    """Every YAML snippet can be read."""
    for page in PAGES:
        for block in code_blocks(page, "yaml"):
            list(yaml.safe_load_all(block))


CHART_RULES = [
    {"apiGroups": [""], "resources": ["pods", "persistentvolumeclaims", "secrets", "services"], "verbs": "*"},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
]
"""What Zero to JupyterHub gives to its hub; `*` stands for get, watch, list, create and delete."""


def _rights(rules):
    every = ["get", "watch", "list", "create", "delete"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in (every if rule["verbs"] == "*" else rule["verbs"])
    }


def test_the_printed_role_is_all_that_is_missing():
    """The Role of the administrators' guide and those of the chart contain all rights that the hub needs."""
    role = next(
        document
        for block in code_blocks(ADMINS, "yaml")
        for document in yaml.safe_load_all(block)
        if document.get("kind") == "Role"
    )
    needed = _rights(required_rules(DEFAULT_KINDS))
    assert needed <= _rights(role["rules"]) | _rights(CHART_RULES)
    assert _rights(role["rules"]) <= needed


def test_the_architecture_has_all_packages() -> None:
    """The table of packages is that of the import contract, in the same order."""
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    lines = contract["importlinter:contract:order"]["layers"].split("\n")
    layers = [re.findall(r"profile_spawner\.(\w+)", line) for line in reversed(lines) if line.strip()]
    told = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert told == [package for layer in layers for package in sorted(layer, reverse=True)]


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        ("storage_class_rwx", 2),
        ("get_secret_mounts", 3),
        ("get_env_secrets", 3),
        ("get_init_containers", 3),
        ("get_kubespawner_override", 3),
        (r'"switch"|SwitchOption', 3),
        (r"\bicon=|\.icon\b", 3),
        ('"Job"', 2),
        ('"diffing"', 1),
        ('"scaffolding"', 1),
    ],
)
def test_few_files_change(pattern: str, most: int) -> None:
    """An attribute, hooks, an option type with its JSON Schema, a field on the card, a kind of object, commands."""
    package = ROOT / "profile_spawner"
    left_out = (package / "apps", package / "demo", package / "sources" / "configurator")
    files = [p for p in package.rglob("*.*") if p.suffix in (".py", ".html") and not set(left_out) & set(p.parents)]
    naming = [p for p in files if re.search(pattern, p.read_text("utf-8"))]
    assert 0 < len(naming) <= most, naming


def test_the_registry_is_untouched():
    """The snippets register nothing in the configuration."""
    assert "data-science" not in profile_registry.collector.profiles
