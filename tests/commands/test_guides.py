"""The guides on moving in, followed from the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from profile_spawner.cli import app
from tests.documentation import ROOT, code_blocks

MOVING = ROOT / "docs" / "moving.md"
CLI = ROOT / "docs" / "cli.md"


def section(title: str) -> str:
    """Return one guide of the page."""
    text = MOVING.read_text()
    begin = text.index(f"## {title}")
    return text[begin : text.find("\n## ", begin + 1)] if "\n## " in text[begin + 1 :] else text[begin:]


def blocks(title: str, language: str) -> list[str]:
    """Return the snippets of one guide."""
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


def commands(title: str) -> list[list[str]]:
    """Return the commands of one guide, without the program's name."""
    lines = [line for block in blocks(title, "bash") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("profile-spawner")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run) -> Path:
    """A folder as the guide's reader has it; `run` has gone to the repository first."""
    del run
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plain_list(run, here):
    """Its commands, on its values, do what the text says."""
    title = "From a plain profile_list"
    (values,) = blocks(title, "yaml")
    (here / "values.yaml").write_text(values)
    outcomes = [run.result(*words) for words in commands(title)[:2]]
    assert [o.exit_code for o in outcomes] == [0, 0]
    assert "all are the same" in outcomes[1].stderr
    before, after, policy = blocks(title, "python")
    for config, slugs in ((before, ["small"]), (after, ["small", "choose"])):
        (here / "jupyterhub_config.py").write_text(config.replace("/srv/profiles", str(here)))
        assert [row["slug"] for row in run.json("list")] == slugs
    (here / "values.yaml").write_text(values.replace("mem_limit: 2G", "service_account: gpu-runner"))
    told = run.result(*commands(title)[1]).stderr
    assert policy.split("data_policy = ")[1].strip() in told
    for config, code, slugs in ((after, 1, ["choose"]), (after + policy, 0, ["small", "choose"])):
        (here / "jupyterhub_config.py").write_text(config.replace("/srv/profiles", str(here)))
        assert [row["slug"] for row in run.json("list", code=code)] == slugs
    assert run(*commands(title)[2]).endswith("2 profiles: 0 errors, 0 warnings\n")


def test_a_list_with_groups(run, here):
    """Who is in the group sees the profile, and no other."""
    title = "From a list with allowed_groups"
    (values,) = blocks(title, "yaml")
    (here / "values.yaml").write_text(values)
    (config,) = blocks(title, "python")
    (here / "jupyterhub_config.py").write_text(config + "c.ProfileSpawner.profile_documents = ['values.yaml']\n")
    assert run("validate", "-f", here / "jupyterhub_config.py").endswith("2 profiles: 0 errors, 0 warnings\n")
    assert [r["slug"] for r in run.json("list", "--user", "grace", "--groups", "gpu-users")] == ["small", "gpu"]
    assert [r["slug"] for r in run.json("list", "--user", "ada")] == ["small"]
    assert run("pod", "gpu", "-g", "gpu-users", "-o", "size=two", code=1)
    assert run("pod", "gpu", "-g", "gpu-users,gpu-power-users", "-o", "size=two")


def test_a_config_map_that_flux_merges(run, here):
    """The file is right as the hub reads it; that the hub watches it is tested with a hub."""
    (text,) = blocks("From a ConfigMap that Flux merges", "yaml")
    (here / "config-map.yaml").write_text(text.partition("\n---\n")[0])
    assert run("validate", here / "config-map.yaml").endswith("2 profiles: 0 errors, 0 warnings\n")
    slugs = [row["slug"] for row in run.json("list", "--documents", here / "config-map.yaml")]
    assert slugs == ["default-environment", "default-environment-python-3-8"]


def test_the_application_hub(run, here):
    """The file moves in, is right, and its profile starts with the configuration of the page."""
    title = "From the EOEPCA configurator and ApplicationHub"
    (values,) = blocks(title, "yaml")
    (here / "config.yml").write_text(values)
    outcomes = [run.result(*words) for words in commands(title)]
    assert [o.exit_code for o in outcomes] == [0], [o.output for o in outcomes]
    config, plugins, module = blocks(title, "python")
    (here / "external" / "manifests").mkdir(parents=True)
    (here / "external" / "plugin.py").write_text(PLUGIN)
    (here / "external" / "tracking.py").write_text(module)
    (here / "external" / "manifests" / "tracking.yaml").write_text(MANIFEST)
    text = config.replace("/srv/profiles", str(here)) + plugins.replace(
        "/srv/external-profiles", str(here / "external")
    )
    (here / "jupyterhub_config.py").write_text(text)
    assert {r["slug"] for r in run.json("list")} == {"coder_app", "external", "tracking_app"}
    pod = run.json("pod", "coder_app", "-u", "ada", "-g", "group-a")
    assert {"name": "OWNER", "value": "ada"} in pod["spec"]["containers"][0]["env"]
    assert run.json("pod", "external", "-u", "ada")["spec"]["containers"][0]["image"] == "example/external:1"
    kinds = {d["kind"]: d for d in yaml.safe_load_all(run("manifests", "tracking_app", "-u", "ada"))}
    assert kinds["Service"]["metadata"]["name"] == "tracking-ada"
    env = {v["name"]: v.get("value") for v in kinds["Pod"]["spec"]["containers"][0]["env"]}
    assert env["TRACKING_URI"] == "http://tracking-ada:5000"


MANIFEST = """\
apiVersion: v1
kind: Service
metadata: {name: "tracking-{{ spawner.user.name }}"}
spec: {ports: [{port: 5000}]}
"""
PLUGIN = """
from configurator.apps import profile_registry
from configurator.apps.jupyterlab.base_jupyterlab import BaseJupyterLabProfile
from loguru import logger


class External(BaseJupyterLabProfile):
    slug = "external"
    display_name = "External"
    description = "Written for the configurator"
    image = "example/external:1"


logger.info("registering")
profile_registry.register(External)
"""


def test_every_command_is_in_the_reference():
    """And every option that a command has of its own."""
    text = CLI.read_text()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"profile-spawner {name}" in text, name
        if name == "demo":  # the operators' page has its options
            continue
        for parameter in command.params:
            if name in ("dump", "validate", "rbac") and parameter.opts[0] not in text:
                common = ("--name", "--service-account", "--hub-namespace", "--kubeconfig", "paths")
                assert parameter.opts[0] in common, (name, parameter.opts)


def test_every_environment_variable_is_in_the_reference():
    """Those of the configurator, and our own."""
    group = typer.main.get_command(app)
    named = {
        parameter.envvar if isinstance(parameter.envvar, str) else parameter.envvar[0]
        for command in group.commands.values()
        for parameter in command.params
        if parameter.envvar
    }
    assert named
    assert [name for name in named if f"`{name}`" not in CLI.read_text()] == []


def test_the_pages_yaml_is_read_by_yaml():
    """Every snippet."""
    for page in (MOVING, CLI):
        for block in code_blocks(page, "yaml"):
            assert all(yaml.safe_load_all(block))
