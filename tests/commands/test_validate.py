"""`validate`: everything that can be known before a user meets it, with file and line."""

from __future__ import annotations

import json

import pytest

from .conftest import DEMO

VALUES = """\
singleuser:
  profileList:
    - display_name: Small
      slug: small
      image: a:1
      kubespawner_override:
        image: a:1
        mem_limit: 4
        cpu_limt: 2
        cpu_guarantee: 2
        cpu_limit: 1
        environment:
          DEBUG: yes
        profile_options: {}
      profile_option: {}
    - display_name: Large
      slug: large
      allowed_groups: []
      kubespawner_override:
        image: "a b"
        env: {A: b}
      profile_options:
        size:
          display_name: Size
          choices:
            one:
              display_name: One
              default: true
              kubespawner_overide: {cpu_limit: 1}
            two:
              display_name: Two
              default: true
              mem_limit: 8G
          unlisted_choice:
            enabled: true
            display_name: Other
            kubespawner_override: {image: "{value}"}
"""
EXPECTED = {
    (5, "misplaced-key", "image"),
    (8, "memory-in-bytes", "kubespawner_override.mem_limit"),
    (9, "unknown-trait", "kubespawner_override.cpu_limt"),
    (10, "guarantee-over-limit", "kubespawner_override.cpu_guarantee"),
    (13, "unquoted-text", "kubespawner_override.environment.DEBUG"),
    (14, "misplaced-key", "kubespawner_override.profile_options"),
    (15, "unknown-key", "profile_option"),
    (18, "no-user", "allowed_groups"),
    (20, "image", "kubespawner_override.image"),
    (21, "unknown-trait", "kubespawner_override.env"),
    (29, "unknown-key", "profile_options.size.choices.one.kubespawner_overide"),
    (33, "misplaced-key", "profile_options.size.choices.two.mem_limit"),
    (23, "several-defaults", "profile_options.size"),
    (34, "unchecked-text", "profile_options.size.unlisted_choice"),
}


def test_the_demo_is_right(run):
    """Nothing is found, and the exit code is 0."""
    assert run("validate", DEMO).strip() == "6 profiles: 0 errors, 0 warnings"


def test_every_mistake_in_a_profile_list_is_found_at_its_line(run, write):
    """Misplaced, misspelt, unquoted, contradictory: each with the line in the chart's values."""
    path = write("values.yaml", VALUES)
    findings = run.json("validate", path, code=1)
    found = {(f["line"], f["rule"], f["field"]) for f in findings if f["file"] == str(path)}
    assert found >= EXPECTED
    misspelt = next(f for f in findings if f["rule"] == "unknown-trait" and "cpu_limt" in f["field"])
    assert "did you mean 'cpu_limit'" in misspelt["message"]
    assert "did you mean 'environment'" in next(f["message"] for f in findings if f["field"].endswith(".env"))
    text = run("validate", path, code=1)
    assert f"{path}:9: error: profile 'small': kubespawner_override.cpu_limt: is not a setting of KubeSpawner" in text
    assert [f["rule"] for f in findings if f["line"] == 10] == ["guarantee-over-limit"]


def test_each_entry_whose_slug_another_one_has_is_named(run, write):
    """It has no effect, as with KubeSpawner."""
    entries = ["display_name: One, slug: y", "display_name: y", "display_name: Two, slug: y"]
    text = "singleuser:\n  profileList:\n" + "".join(f"    - {{{entry}}}\n" for entry in entries)
    findings = run.json("validate", write("values.yaml", text), code=1)
    assert {f["rule"] for f in findings} == {"duplicate-slug"}
    for finding, ignored in zip(findings, ("Two", "y"), strict=True):
        assert f"'One' counts, and {ignored!r}, which comes later, has no effect" in finding["message"]


def test_a_static_list_in_a_configuration_is_checked_too(run, write):
    """The entry is named by its line."""
    path = write(
        "jupyterhub_config.py",
        "c.KubeSpawner.profile_list = [\n"
        "    {'display_name': 'One', 'kubespawner_override': {'mem_limit': 'lots', 'image': 'a:1'}},\n"
        "]\n",
    )
    (finding,) = run.json("validate", path, code=1)
    assert (finding["file"], finding["line"], finding["profile"]) == (str(path), 2, "one")
    assert "mem_limit" in finding["field"]


def test_a_warning_fails_no_command(run, write):
    """`list` reports it as the hub does, and is successful; `validate` counts it."""
    listed = (
        "singleuser:\n  profileList:\n    - {display_name: A, default: 'false', kubespawner_override: {image: 'a:1'}}\n"
    )
    path = write("values.yaml", listed)
    result = run.result("list", "-f", path)
    assert result.exit_code == 0
    assert "counts as true" in result.stderr
    (finding,) = run.json("validate", path)
    assert (finding["level"], finding["rule"], finding["line"]) == ("warning", "quoted-boolean", 3)


def test_a_misspelt_kind_of_source_is_found_at_its_line(run, write):
    """A hub reports it as well; its profiles are served."""
    path = write(
        "jupyterhub_config.py",
        "c.ProfileSpawner.builtin_profiles = ['jupyterlab_small']\n"
        "c.ProfileSpawner.source_overrides = {'builtins': ['python']}\n",
    )
    (finding,) = [f for f in run.json("validate", path, code=1) if f["field"] == "source_overrides"]
    assert (finding["file"], finding["line"]) == (str(path), 2)
    assert "did you mean 'builtin'" in finding["message"]


def test_groups_that_the_hub_does_not_have_are_told(run, write):
    """Where the configuration loads groups, a profile for another one is for nobody."""
    path = write(
        "jupyterhub_config.py",
        "c.JupyterHub.load_groups = {'staff': ['ada']}\n"
        "c.KubeSpawner.profile_list = [\n"
        "    {'display_name': 'One', 'allowed_groups': ['stuff'], 'kubespawner_override': {'image': 'a:1'}},\n]\n",
    )
    (finding,) = run.json("validate", path)
    assert (finding["level"], finding["rule"]) == ("warning", "unreachable-group")
    assert run.result("validate", path, "--strict").exit_code == 1


CLASS = """
from profile_spawner import BaseAppProfile, profile_registry


@profile_registry.register
class One(BaseAppProfile):
    slug = "one"
    display_name = description = "One"
    image = "a:1"
"""


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        ('    mem_limit = "banana"', "profile-definition", "mem_limit"),
        ("    cpu_guarantee, cpu_limit = 2, 1", "profile-definition", "cpu_guarantee"),
        ('    bashrc_path = "missing"\n    home_dir = "/home"', "profile-definition", "missing"),
        ('    kubespawner_override = {"no_such_trait": 1}', "build", "no_such_trait"),
        ('    kubespawner_override = {"privileged": True}', "policy", "privileged"),
        ('    extra_labels = {"a": "not a label!"}', "kubernetes", "metadata.labels"),
        ('    kubespawner_override = {"extra_container_config": {"imagePull": "x"}}', "build", "imagePull"),
        ('    params = {"no/such": 1}', "param", "no/such"),
    ],
)
def test_mistakes_in_a_class_are_found(run, write, line, rule, message):
    """By the checks of registration, by KubeSpawner's traits, by the policy, or by an API server."""
    path = write("one.py", CLASS + line + "\n")
    findings = run.json("validate", path, code=1)
    assert any(f["rule"] == rule and message in f["message"] + f["field"] for f in findings), findings
    assert all(f["file"].endswith("one.py") and f["line"] for f in findings), findings


def test_a_conflict_with_the_hubs_own_volumes_is_found(run, write):
    """The profile and the hub's configuration have different volumes under one name."""
    folder = write(
        "profiles/one.py",
        CLASS.replace("BaseAppProfile,", "BaseAppProfile, Volume, VolumeMount,")
        + """
    def get_default_volumes(self):
        return [Volume(name="home", claim_name="x", size="1Gi", volume_mount=VolumeMount(mount_path="/x"))]
""",
    ).parent
    config = write(
        "config.py",
        f"c.ProfileSpawner.profiles_dirs = [{str(folder)!r}]\n"
        "c.KubeSpawner.volumes = [{'name': 'home', 'emptyDir': {}}]\n",
    )
    findings = run.json("validate", "-f", config, code=1)
    assert any(f["rule"] == "conflict" and "home" in f["message"] for f in findings), findings


def test_colliding_slugs_name_both_places(run, write):
    """One in a module, one in a document."""
    write("one.py", CLASS)
    document = write("two.yaml", "slug: one\ndisplay_name: Two\ndescription: ''\nimage: a:1\n")
    (finding,) = run.json("validate", document.parent, code=1)
    assert "one.py:" in finding["message"]
    assert "two.yaml:" in finding["message"] + finding["file"]


def test_sarif_is_what_code_review_reads(run, write):
    """Version 2.1.0, with rules, levels and places."""
    path = write("values.yaml", VALUES)
    report = json.loads(run("validate", path, "--output", "sarif", code=1))
    assert report["version"] == "2.1.0"
    (one,) = report["runs"]
    assert one["tool"]["driver"]["name"] == "profile-spawner"
    results = one["results"]
    lines = {r["locations"][0]["physicalLocation"]["region"]["startLine"] for r in results if r.get("locations")}
    assert {line for line, _, _ in EXPECTED} <= lines
    assert {r["ruleId"] for r in results} == {rule["id"] for rule in one["tool"]["driver"]["rules"]}


def test_a_path_that_does_not_exist_is_a_wrong_call(run, tmp_path):
    """Exit code 2."""
    assert run.result("validate", tmp_path / "missing").exit_code == 2


def test_a_configuration_of_the_wrong_shape_is_a_finding_in_every_report(run, write):
    """Code review gets its report also where nothing could be loaded."""
    values = write("values.yaml", "singleuser:\n  profileList: 3\n")
    (finding,) = run.json("validate", values, code=1)
    assert (finding["line"], finding["field"]) == (2, "singleuser.profileList")
    report = json.loads(run("validate", values, "--output", "sarif", code=1))
    assert [r["level"] for r in report["runs"][0]["results"]] == ["error"]


def test_what_kubespawner_cannot_fill_in_is_found_once(run, write):
    """At its line and with the remedy, and not again as a failure of KubeSpawner for every choice."""
    path = write(
        "values.yaml",
        "singleuser:\n"
        "  profileList:\n"
        "    - display_name: A\n"
        "      kubespawner_override:\n"
        "        image: quay.io/jupyter/base-notebook:1\n"
        "        environment:\n"
        "          SETTINGS: '{\"a\": 1}'\n"
        "        volumes:\n"
        "          - {name: data, emptyDir: {}}\n"
        "      profile_options:\n"
        "        image:\n"
        "          display_name: Image\n"
        "          unlisted_choice:\n"
        "            {enabled: true, validation_regex: '^.+:.+$', kubespawner_override: {image: '{value}'}}\n",
    )
    findings = run.json("validate", path, code=1)
    expected = {("braces", 7), ("replaces-hub", 8), ("kubernetes", 3)}  # the mount of the home that is lost
    assert {(f["rule"], f["line"]) for f in findings} == expected
    assert "Double the braces" in next(f["message"] for f in findings if f["rule"] == "braces")
    text = path.read_text().replace('{"a": 1}', "{username}").replace("1\n", "latest\n")
    path.write_text(text.replace("- {name: data", "data: {name: data"))
    assert [f["rule"] for f in run.json("validate", path, "--strict")] == ["mutable-tag"]


def test_an_image_that_params_make_is_checked_with_their_values(run, write):
    """As a warning: other values may be right, and the profile is served."""
    path = write(
        "profiles.yaml",
        "params: {image/name: {default: Foo}}\n"
        "profiles:\n"
        "- {slug: one, display_name: One, description: '', image: 'example/{{ image/name }}:1'}\n"
        "- {slug: two, display_name: Two, description: '', image: 'https://example/two:1'}\n",
    )
    findings = run.json("validate", path, code=1)
    assert [(f["line"], f["level"], f["rule"], f["profile"]) for f in findings] == [
        (3, "warning", "image", "one"),
        (4, "error", "image", "two"),
    ]
    assert [row["slug"] for row in run.json("list", "--documents", path)] == ["one", "two"]


def test_a_limit_of_a_few_bytes_is_one_error(run, write):
    """It is below every guarantee; of the hub it is one for all profiles."""
    entries = "[{display_name: A}, {display_name: B}]"
    path = write("values.yaml", f"singleuser:\n  memory: {{limit: 512}}\n  profileList: {entries}\n")
    (finding,) = run.json("validate", path, code=1)
    assert (finding["line"], finding["level"], finding["field"]) == (2, "error", "singleuser.memory.limit")
