"""`list`, `show`, `images`, `schema`, `explain`: what there is, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from .conftest import DEMO

PROGRAM = Path(sys.executable).with_name("profile-spawner")
DEMO_SLUGS = ["small-lab", "gpu-lab", "data-science", "editor", "gpu-editor", "desktop"]
CONFIG = f"""
c.JupyterHub.spawner_class = "profile-spawner"
c.ProfileSpawner.profiles_dirs = [{str(DEMO)!r}]
c.ProfileSpawner.param_values = {{
    "enforced": {{"lab/threads": {{"$maximum": 6}}}},
    "groups": {{
        "gpu": {{"lab/threads": 6}},
        "research": {{"course/name": "Research seminar"}},
    }},
    "users": {{"ada": {{"lab/threads": 3}}}},
}}
"""


def test_list_has_every_profile_with_what_one_gets_and_for_whom(run):
    """All profiles of the demo, in the page's order."""
    rows = run.json("list", "--profiles-dir", DEMO)
    assert [row["slug"] for row in rows] == DEMO_SLUGS
    gpu = rows[1]
    assert gpu["resources"] == "4 CPU, 16G, 1 nvidia.com/gpu"
    assert gpu["for"] == "groups: gpu"
    assert gpu["origin"] == "profile_spawner/demo/profiles/labs.py:18"
    assert gpu["options"] == ["gpus", "lab/threads"]
    table = run("list", "--profiles-dir", DEMO)
    assert all(slug in table for slug in DEMO_SLUGS)
    assert yaml.safe_load(run("list", "--profiles-dir", DEMO, "--output", "yaml")) == rows


def test_list_for_a_user_has_what_the_user_may_use(run):
    """Groups decide, as on the page."""
    rows = run.json("list", "--profiles-dir", DEMO, "--user", "ada", "--groups", "students")
    assert [row["slug"] for row in rows] == ["small-lab", "data-science", "editor", "desktop"]
    assert len(run.json("list", "--profiles-dir", DEMO, "--user", "grace", "--groups", "gpu,x")) == 6


def test_a_broken_module_is_told_and_the_rest_is_listed(run, write):
    """The exit code is 1, file and line stand on standard error."""
    write("good.py", (DEMO / "my_first.py").read_text())
    broken = write("broken.py", "x = 1\nraise RuntimeError('no')\n")
    result = run.result("list", "--profiles-dir", broken.parent, "--output", "json")
    assert result.exit_code == 1
    assert [row["slug"] for row in json.loads(result.stdout)] == ["data-science"]
    assert "broken.py:2: RuntimeError: no" in result.stderr


def test_without_any_source_the_configuration_here_counts_or_the_built_in_profiles(run, write, monkeypatch, tmp_path):
    """As the help says."""
    monkeypatch.chdir(tmp_path)
    assert "gpu_coder_app" in run("list") or "coder" in run("list")
    everything = {row["slug"] for row in run.json("list")}
    write("jupyterhub_config.py", "c.ProfileSpawner.builtin_profiles = ['jupyterlab_small']\n")
    assert [row["slug"] for row in run.json("list")] == ["jupyterlab_small"]
    assert len(everything) > 3
    assert [row["slug"] for row in run.json("list", "--profiles", "coder_app")] == ["coder_app"]


def test_show_has_every_effective_value_with_its_origin(run):
    """Inherited ones, those of hooks, of params and of objects too."""
    values = {row["field"]: row for row in run.json("show", "gpu-lab", "--profiles-dir", DEMO)["values"]}
    assert values["display_name"]["origin"] == "profile_spawner/demo/profiles/labs.py:22"
    assert values["cpu_limit"]["value"] == 4
    assert values["cpu_limit"]["origin"].startswith("profile_spawner/apps/jupyterlab/jupyterlab_profiles.py:")
    several = {
        row["field"]: row["origin"] for row in run.json("show", "data-science", "--profiles-dir", DEMO)["values"]
    }
    assert several["mem_limit"] == "profile_spawner/demo/profiles/my_first.py:12", "one of several names in one line"
    assert values["environment.OMP_NUM_THREADS"]["value"] == "4"
    assert values["param.lab/threads"]["origin"] == ("profile accelerated (profile_spawner/demo/profiles/params.py:26)")
    assert any(field.startswith("ConfigMap gpu-lab-files-") for field in values)
    assert values["option.gpus"]["value"] == "choice: one (default), two"
    assert "GPU lab" in run("show", "gpu-lab", "--profiles-dir", DEMO)


def test_show_of_a_plain_entry_has_what_stands_in_it(run, write):
    """A `profile_list` is shown as it is written."""
    config = write(
        "jupyterhub_config.py",
        "c.KubeSpawner.profile_list = [{'display_name': 'Plain', 'slug': 'plain',\n"
        "    'kubespawner_override': {'image': 'a/b:1', 'environment': {'A': 'b'}}}]\n",
    )
    values = {row["field"]: row["value"] for row in run.json("show", "plain", "-f", config)["values"]}
    assert values["kubespawner_override.image"] == "a/b:1"
    assert values["kubespawner_override.environment.A"] == "b"


def test_limits_are_shown_as_they_are_written(run, write):
    """A plain entry may have texts and numbers; and a list may have been appended to."""
    limits = ('"2"', '"500m"', "0.5", "2")
    entry = '{{"display_name": "L{}", "kubespawner_override": {{"cpu_limit": {}, "mem_limit": "4G"}}}}'
    lines = [f"c.KubeSpawner.profile_list.append({entry.format(n, text)})\n" for n, text in enumerate(limits)]
    config = write("config.py", "".join(lines))
    assert [p["resources"] for p in run.json("list", "-f", config)] == [
        "2 CPU, 4G", "500m CPU, 4G", "0.5 CPU, 4G", "2 CPU, 4G"
    ]  # fmt: skip
    assert run("show", "l1", "-f", config)


def test_an_unknown_slug_names_the_nearest(run):
    """And the command ends with 1."""
    assert "gpu-lab" in run("show", "gpu-lap", "--profiles-dir", DEMO, code=1)


IMAGES = """
c.KubeSpawner.init_containers = [{"name": "hub", "image": "hub-init:1"}]
c.KubeSpawner.profile_list = [
    {"display_name": "A", "kubespawner_override": {"image": "r.example:5000/a", "init_containers": [
        {"name": "i", "image": "init:1"}]}},
    {"display_name": "B", "kubespawner_override": {"image": "never:1"},
     "profile_options": {
        "image": {"display_name": "I", "choices": {
            "x": {"display_name": "X", "kubespawner_override": {"image": "x@sha256:0123"}},
            "y": {"display_name": "Y", "kubespawner_override": {"image": "init:1"}}}},
        "build": {"display_name": "Z", "when": {"image": "y"}, "choices": {
            "old": {"display_name": "Old", "default": True},
            "new": {"display_name": "New", "kubespawner_override": {"image": "z:1"}}}}}},
]
"""
BESIDE = """
from profile_spawner import BaseAppProfile, Manifest, profile_registry

@profile_registry.register
class Beside(BaseAppProfile):
    slug = "beside"
    display_name = description = "Beside"
    image = "a:1"

    def get_manifests(self):
        container = {"name": "redis", "image": "redis:7"}
        pods = {"metadata": {"labels": {"app": "redis"}}, "spec": {"containers": [container]}}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "redis"},
                "spec": {"selector": {"matchLabels": {"app": "redis"}}, "template": pods}}
        return [Manifest(name="redis", content=[body], persist=False)]
"""


def test_images_has_every_image_that_a_start_can_pull_once(run, write):
    """Those of choices and of further containers too, and none that no start can have; also as the chart wants it."""
    config = write("config.py", IMAGES)
    expected = ["r.example:5000/a", "init:1", "x@sha256:0123", "hub-init:1", "z:1"]
    assert run("images", "-f", config).splitlines() == expected
    values = yaml.safe_load(run("images", "-f", config, "--output", "extra-images"))
    pulled = [f"{i['name']}:{i['tag']}" for i in values["prePuller"]["extraImages"].values()]
    assert pulled == ["r.example:5000/a:latest", *expected[1:]]
    assert len(run("images", "--profiles-dir", DEMO).splitlines()) == 6


def test_images_has_those_of_what_stands_beside_a_server(run, write):
    """A Deployment of a profile pulls images too."""
    folder = write("profiles/beside.py", BESIDE).parent
    config = write(
        "config.py",
        f"c.ProfileSpawner.profiles_dirs = [{str(folder)!r}]\nc.ProfileSpawner.allowed_kinds = ['Deployment']\n",
    )
    assert run("images", "-f", config).splitlines() == ["a:1", "redis:7"]


def test_the_schema_is_one_and_takes_a_document(run):
    """JSON Schema 2020-12."""
    schema = json.loads(run("schema"))
    jsonschema_rs.validate(schema, {"slug": "a", "display_name": "A", "description": "", "image": "a:1"})


def test_explain_says_layer_file_and_line_and_what_is_hidden(run, write):
    """For a server that would be started now, with the lines of the configuration."""
    config = write("config.py", CONFIG)
    words = ("explain", "-f", config, "--user", "grace", "--groups", "gpu,research", "--profile", "small-lab")
    found = {one["name"]: one for one in run.json(*words)}
    threads = found["lab/threads"]
    assert (threads["value"], threads["layer"], threads["source"]) == (6, "groups", "gpu")
    assert threads["origin"] == f"{config}:7"
    assert [(s["layer"], s["value"]) for s in threads["overridden"]] == [("global", 2), ("default", 1)]
    assert found["course/name"]["origin"] == f"{config}:8"
    (ceiled,) = run.json(*words, "-o", "lab/threads=8", "--param", "lab/threads")
    assert (ceiled["value"], ceiled["layer"], ceiled["origin"]) == (6, "enforced", f"{config}:5")
    (own,) = run.json("explain", "-f", config, "-u", "ada", "-p", "gpu-lab", "-g", "gpu", "--param", "lab/threads")
    assert (own["value"], own["layer"], own["origin"]) == (3, "user", f"{config}:10")
    assert "Research seminar" in run(*words)
    assert "did you mean 'lab/threads'" in run(*words, "--param", "lab/thread", code=1)


def test_explain_says_why_there_is_no_value(run, write):
    """Of the hub's values and a group's: what does not fit, and what refers to nothing; in the table and as JSON."""
    values = '{"hub": {"lab/threads": "many"}, "groups": {"gpu": {"course/name": "{{ nobody }}"}}}'
    config = write(
        "config.py", CONFIG.partition("c.ProfileSpawner.param")[0] + f"c.ProfileSpawner.param_values = {values}"
    )
    words = ("explain", "-f", config, "-g", "gpu", "-p", "small-lab")
    found = {one["name"]: one for one in run.json(*words, code=1)}
    table = run(*words, code=1)
    for name, why in (("lab/threads", '"many" is not'), ("course/name", "nobody")):
        assert why in found[name]["error"]
        assert f"Error: {found[name]['error']}" in table
    assert "null" not in table
    assert run(*words, "--param", "hub/environment")


def test_explain_reads_the_record_of_a_running_server(run, write):
    """From its pod, as `kubectl get pod -o yaml` prints it, whatever the profiles say now."""
    config = write("config.py", CONFIG)
    pod = run("pod", "small-lab", "-f", config, "--user", "ada")
    found = run.json("explain", "--record", write("pod.yaml", pod), "--param", "lab/threads")
    assert found[0]["value"] == 3
    assert "no record" in run("explain", "--record", write("no.yaml", "kind: Pod\n"), code=1)


def test_a_secure_param_is_shown_as_stars(run, write):
    """Not even the name of its Secret is printed."""
    write(
        "profiles/secret.py",
        """
from profile_spawner import BaseAppProfile, Param, profile_registry

profile_registry.register_param(Param("db/password", secure=True))

@profile_registry.register
class Db(BaseAppProfile):
    slug = "db"
    display_name = description = "Db"
    image = "a:1"
    params = {"db/password": {"secret": "the-secret", "key": "the-key"}}
    pod_env_vars = {"PASSWORD": "{{ db/password }}"}
""",
    )
    words = ("--profiles-dir", write("x", "").parent / "profiles")
    shown = run("explain", *words) + run("show", "db", *words) + json.dumps(run.json("explain", *words))
    assert "***" in shown
    assert "the-key" not in run("explain", *words)
    pod = yaml.safe_load(run("pod", "db", *words))
    variables = {v["name"]: v for v in pod["spec"]["containers"][0]["env"]}
    assert variables["PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": "the-secret", "key": "the-key"}}
    assert "the-secret" not in json.dumps(pod["metadata"])


COMMANDS = ["list", "show", "new", "validate", "explain", "pod", "manifests", "rbac", "images"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(command):
    """With examples of its options; without loading a hub."""
    done = subprocess.run([PROGRAM, command, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: profile-spawner " + command in done.stdout


def test_a_command_says_why_a_module_failed_that_may_have_the_profile(run, write):
    """Its slug cannot be known. A similar slug, or the name of another wrong profile in the module, hides nothing."""
    head = "from profile_spawner import BaseAppProfile, profile_registry\n"
    cls = "@profile_registry.register\nclass {0}(BaseAppProfile):\n    slug = display_name = description = '{0}'\n"
    write("profiles/right.py", head + cls.format("genomes") + "    image = 'a:1'\n")
    write("profiles/wrong.py", head + cls.format("genome") + "    image = 'a:1'\n" + cls.format("wrong"))
    path = write("profiles/broken.py", "import no_such_module\n").parent
    similar = "; did you mean 'genomes'? But"
    for words, answer in (
        (("show", "wanted"), ", but"),
        (("pod", "genome"), similar),
        (("explain", "--profile", "genome"), similar),
        (("dump", "--profiles", "genome"), similar),
        (("dump", "--override", "genome:image=a:2"), similar),
    ):
        said = run(*words, "--profiles-dir", path, code=1)
        assert f"there is no such profile{answer} not everything could be loaded: " in said
        assert "broken.py:1: ModuleNotFoundError: No module named 'no_such_module'" in said
        assert "profile 'wrong': image: is required" in said


def test_a_profile_without_an_image_is_listed_with_the_one_that_its_servers_get(run, write):
    """That of its option's default, or that of the hub."""
    options = "profile_options: {i: {choices: {x: {}, y: {default: true, kubespawner_override: {image: 'y:1'}}}}}"
    text = (
        "singleuser:\n  image: {name: hub, tag: '1'}\n  profileList:\n"
        f"  - {{display_name: A}}\n  - {{display_name: B, {options}}}\n"
        "  - {display_name: C, kubespawner_override: {image: 'c:1'}}\n"
    )
    assert [row["image"] for row in run.json("list", "-f", write("values.yaml", text))] == ["hub:1", "y:1", "c:1"]
