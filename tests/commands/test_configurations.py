"""Configurations of hubs, as files and as values of a chart: read generously, and told exactly."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from profile_spawner.commands.choices import every_choice, without_example
from profile_spawner.errors import Origin
from profile_spawner.profiles.entry import make_entry
from profile_spawner.profiles.plain_entries import read_profile_list
from tests.control_plane import real_only

from .conftest import DEMO
from .test_looking import PROGRAM

DEEP = """\
basehub:
  jupyterhub:
    hub:
      config:
        JupyterHub:
          load_groups: {staff: [ada]}
        KubeSpawner:
          working_dir: /work
    singleuser:
      image: {name: r.example/base, tag: "7"}
      memory: {limit: 3G, guarantee: 1G}
      nodeSelector: {pool: users}
      storage:
        extraVolumes:
          - {name: shared, persistentVolumeClaim: {claimName: shared}}
        extraVolumeMounts:
          - {name: shared, mountPath: /shared}
      profileList:
        - display_name: Plain
          slug: plain
        - display_name: Other image
          allowed_groups: [stuff]
          kubespawner_override:
            image: o:1
            cpu_limt: 2
"""


def test_values_are_found_at_any_depth_and_make_the_hubs_pod(run, write):
    """What the chart would set counts: image, limits, volumes, and settings below `hub.config`."""
    path = write("values.yaml", DEEP)
    assert [row["slug"] for row in run.json("list", "-f", path)] == ["plain", "other-image"]
    pod = run.json("pod", "plain", "-f", path, "--user", "ada")
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "r.example/base:7"
    assert container["resources"]["limits"]["memory"] == 3 * 2**30
    assert container["workingDir"] == "/work"
    assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
    assert pod["spec"]["nodeSelector"] == {"pool": "users"}
    assert run("images", "-f", path).splitlines() == ["r.example/base:7", "o:1"]


def test_values_are_judged_with_their_lines(run, write):
    """Groups of the same values count, and every finding names its line."""
    path = write("values.yaml", DEEP)
    found = {(f["line"], f["rule"]) for f in run.json("validate", path, code=1)}
    assert found == {(22, "unreachable-group"), (25, "unknown-trait")}


def test_values_in_a_config_map_are_found_with_the_lines_of_its_file(run, write):
    """As the chart itself keeps them."""
    text = "".join(f"    {line}\n" for line in DEEP.splitlines())
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  values.yaml: |\n"
    path = write("cm.yaml", head + text)
    findings = run.json("validate", path, code=1)
    assert (25 + 5, "unknown-trait") in {(f["line"], f["rule"]) for f in findings}


WRAPPED = {
    "argo": (
        "kind: Application\nspec:\n  source:\n    helm:\n      values: |\n",
        8,
    ),
    "config-map": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  values.yaml: |\n", 4),
    "flux": ("kind: HelmRelease\nspec:\n  values:\n", 4),
    "umbrella": ("global: {a: 1}\nparts:\n", 2),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_values_are_the_same_to_every_reader(run, write, form):
    """As configuration, to `validate`, as a document and to `import`: found, and with the lines of the file."""
    head, indent = WRAPPED[form]
    text = head + "".join(" " * indent + line + "\n" for line in DEEP.splitlines())
    path = write("file.yaml", text)
    line = 20 + head.count("\n")
    listed = run.json("list", "-f", path)
    assert (listed[0]["slug"], listed[0]["origin"]) == ("plain", f"{path}:{line - 1}")
    assert (line + 5, "unknown-trait") in {(f["line"], f["rule"]) for f in run.json("validate", path, code=1)}
    result = run.result("list", "--documents", path)
    assert "plain" in result.stdout
    assert f"{path}:{line + 5}: profile 'other-image': kubespawner_override.cpu_limt" in result.stderr
    assert f"{path}:{line + 5}: warning" in run.result("import", "profile-list", path).stderr


@pytest.mark.parametrize("suffix", ["yaml.j2", "yml.tpl", "yaml.gotmpl", "json.tftpl", "gotmpl", "j2"])
def test_templates_of_values_are_values(run, write, suffix):
    """Whatever renders them."""
    path = write(f"values.{suffix}", DEEP.replace('"7"', "{{ tag }}"))
    rules = [f["rule"] for f in run.json("validate", path.parent, code=1)]
    assert (rules.count("placeholder"), rules.count("unknown-trait")) == (1, 1)
    assert [row["slug"] for row in run.json("list", "-f", path)] == ["plain", "other-image"]


APPLICATION = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: hub}\nspec:\n  source:\n"
RELEASE = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec:\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"{APPLICATION}    helm: {{valueFiles: [base.yaml, $values/hub.yaml]}}\n", "base.yaml, $values/hub.yaml"),
        (f"{APPLICATION}    helm:\n      valuesObject:\n      {{{{ toYaml .x }}}}\n", "{{ toYaml .x }}"),
        (f"{RELEASE}  valuesFrom: [{{kind: ConfigMap, name: hub-values}}]\n", "ConfigMap hub-values"),
        ("releases:\n- {name: hub, chart: jupyterhub/jupyterhub, values: [hub.yaml]}\n", "hub.yaml"),
        ("helmCharts:\n- {name: jupyterhub, valuesFile: hub.yaml}\n", "hub.yaml"),
        ("- hosts: all\n  tasks:\n  - kubernetes.core.helm: {values_files: [hub.yaml]}\n", "hub.yaml"),
        ("apiVersion: v2\nname: hub\nversion: 1.0.0\n", ""),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n", ""),
    ],
)
def test_a_manifest_without_values_says_where_they_are(run, write, text, named):
    """One warning, and not that its keys are no keys of a document."""
    path = write("app.yaml", text)
    assert run("validate", path).endswith("\n0 profiles: 0 errors, 1 warning\n")
    (finding,) = run.json("validate", path)
    assert (finding["level"], finding["rule"]) == ("warning", "not-checked")
    keys = "valueFiles:|valuesObject:|valuesFrom:|values: |valuesFile:|values_files:"
    assert finding["line"] == next((n for n, line in enumerate(text.split("\n"), 1) if re.search(keys, line)), 1)
    assert finding["message"].endswith(f"They come from {named}" if named else "so nothing is checked")


def test_other_files_of_a_chart_are_no_findings(run, write):
    """Where there are values beside them; a manifest that names other files is one all the same."""
    path = write("values.yaml", "jupyterhub: {singleuser: {profileList: [{display_name: A}]}}\n").parent
    write("Chart.yaml", "apiVersion: v2\nname: hub\nversion: 1.0.0\n")
    write("_helpers.tpl", '{{- define "x" -}}\nx: [\n{{- end }}\n')
    assert run.json("validate", path) == []
    write("app.yaml", f"{APPLICATION}    helm: {{valueFiles: [more.yaml]}}\n")
    assert [f["rule"] for f in run.json("validate", path)] == ["not-checked"]


def test_the_parameters_of_an_application_are_values(run, write):
    """As those of `helm --set`: typed, with indices, and before the values in the same manifest."""
    parameters = (
        ("singleuser.memory.limit", "3G"), ("singleuser.uid", "7"), ("singleuser.profileList[0].display_name", "One"),
        (r"singleuser.nodeSelector.example\.org/pool", "users"), ("singleuser.image.tag", "2"),
    )  # fmt: skip
    text = f"{APPLICATION}    helm:\n      valuesObject: {{singleuser: {{uid: 5}}}}\n      parameters:\n"
    text += "".join(
        f"      - {{name: '{name}', value: '{value}'{', forceString: true' if name.endswith('tag') else ''}}}\n"
        for name, value in parameters
    )
    pod = run.json("pod", "one", "-f", write("app.yaml", text), "--user", "ada")
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == 3 * 2**30
    assert container["securityContext"]["runAsUser"] == 7
    assert container["image"].endswith(":2")
    assert pod["spec"]["nodeSelector"] == {"example.org/pool": "users"}
    wrong = write("wrong.yaml", text.replace("memory.limit", "memory.limitt"))
    (finding,) = run.json("validate", wrong, code=1)
    assert (finding["line"], finding["field"]) == (9, "singleuser.memory.limitt")


def test_a_section_of_an_umbrella_chart_named_hub_hides_no_values(run, write):
    """The values are below the name of the chart."""
    path = write("values.yaml", f"hub: {{domain: example.org}}\n{DEEP}")
    assert [row["slug"] for row in run.json("list", "-f", path)] == ["plain", "other-image"]


def test_values_without_a_list_are_no_document(run, write):
    """The part for the hub only, as larger installations split their values, is a configuration."""
    path = write("values.yaml", "hub: {db: {type: sqlite-pvc}, config: {JupyterHub: {admin_access: false}}}\n")
    assert "values.yaml:1: these values of a chart have no list" in run.result("list", "--documents", path).stderr
    assert run("validate", "--strict", path) == "0 profiles, and the hub's default server: 0 errors, 0 warnings\n"
    assert "there are no profiles here, so nothing is checked" in run("validate", write("none.yaml", "profiles: []\n"))
    other = write("other.yaml", "profils: []\n")
    assert "'profils' is not known here; did you mean 'profiles'?" in run.result("list", "--documents", other).stderr


@pytest.mark.parametrize(
    ("singleuser", "message"),
    [
        ("profilelist: [{display_name: A}]", ":2: error: singleuser.profilelist: the chart knows no such key"),
        ("profiles: [{display_name: A}]", ":2: error: singleuser.profiles: the chart knows no such key"),
        ("profileList:", "values.yaml:2: error: singleuser.profileList: the list of profiles is empty"),
    ],
)  # fmt: skip
def test_a_list_that_the_chart_does_not_find_is_an_error(run, write, singleuser, message):
    """It would leave the page empty without a word."""
    assert message in run("validate", write("values.yaml", f"singleuser:\n  {singleuser}\n"), code=1)


CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: profiles}
data:
  note.txt: "not a document"
  values.yaml: |
    hub:
      extraConfig:
        list: c.KubeSpawner.profile_list = [dict(display_name="Code")]
  labs.yaml: |
    profiles:
      - {slug: lab, display_name: Lab, description: "", image: "a:1"}
"""


def test_a_config_map_is_checked_as_a_hub_does_that_watches_it(run, write):
    """Every key is a document, and code in it is not run; in the values of a hub it is."""
    path = write("config-map.yaml", CONFIG_MAP)
    assert [row["slug"] for row in run.json("list", "--documents", path, code=1)] == ["lab"]
    said = run("validate", path, code=1)
    assert f"{path}:9: error: hub.extraConfig.list: the values have no list of profiles: code is not run" in said
    assert said.endswith("1 profile: 1 error, 0 warnings\n")
    values = write(
        "values.yaml", 'hub: {extraConfig: {a: \'c.KubeSpawner.profile_list = [{"display_name": "Code"}]\'}}\n'
    )
    assert run("validate", values).startswith("1 profile: 0 errors")


PLACED = """\
imagePullSecrets: [everywhere]
scheduling: {userPods: {tolerations: [{key: a, operator: Exists}]}}
singleuser:
  allowPrivilegeEscalation: true
  extraTolerations: [{key: b, operator: Exists}]
  extraNodeAffinity: {required: [{matchExpressions: [{key: pool, operator: Exists}]}]}
  extraPodAntiAffinity: {preferred: [{weight: 1, podAffinityTerm: {topologyKey: host}}]}
  extraFiles: {motd: {mountPath: /etc/motd, stringData: hello, mode: 0444}}
  image: {name: a, tag: "1", pullSecrets: [registry]}
  storage:
    type: static
    static: {pvcName: homes, subPath: "users/{username}"}
    extraVolumeMounts: [{name: home, mountPath: /shared, subPath: _shared}]
  profileList: [{display_name: A, slug: a}]
"""


def test_what_the_chart_makes_of_its_values_is_in_the_pod(run, write):
    """The home of a static claim, files, affinity, tolerations and pull secrets of both places."""
    path = write("values.yaml", PLACED)
    spec = run.json("pod", "a", "-f", path, "--user", "ada")["spec"]
    (container,) = spec["containers"]
    assert container["volumeMounts"] == [
        {"mountPath": "/etc/motd", "name": "files", "subPath": "motd"},
        {"mountPath": "/shared", "name": "home", "subPath": "_shared"},
        {"mountPath": "/home/jovyan", "name": "home", "subPath": "users/ada"},
    ]
    items = [{"key": "motd", "path": "motd", "mode": 0o444}]
    assert spec["volumes"] == [
        {"name": "files", "secret": {"secretName": "singleuser", "items": items}},
        {"name": "home", "persistentVolumeClaim": {"claimName": "homes"}},
    ]
    assert container["securityContext"]["allowPrivilegeEscalation"] is True
    assert spec["imagePullSecrets"] == [{"name": "everywhere"}, {"name": "registry"}]
    assert [t["key"] for t in spec["tolerations"]] == ["a", "b"]
    assert set(spec["affinity"]) == {"nodeAffinity", "podAntiAffinity"}
    assert run("validate", path).strip() == "1 profile: 0 errors, 0 warnings"


def test_a_dynamic_home_is_a_claim_of_the_server(run, write):
    """With the chart's names where the values have none, beside volumes that are given as a mapping."""
    path = write(
        "values.yaml",
        "singleuser:\n  storage:\n    capacity: 5Gi\n    extraLabels: {kept: 'yes'}\n"
        "    extraVolumes: {10-tmp: {name: tmp, emptyDir: {}}}\n"
        "    extraVolumeMounts: {10-tmp: {name: tmp, mountPath: /tmp}}\n"
        "  profileList: [{display_name: A, slug: a}]\n",
    )
    spec = run.json("pod", "a", "-f", path, "--user", "ada")["spec"]
    tmp, home = spec["volumes"]
    assert home["name"] == spec["containers"][0]["volumeMounts"][1]["name"] == "volume-ada"
    assert home["persistentVolumeClaim"] == {"claimName": "claim-ada"}
    assert tmp == {"name": "tmp", "emptyDir": {}}
    assert run("validate", path).strip() == "1 profile: 0 errors, 0 warnings"


def test_a_volume_that_other_values_define_is_a_warning(run, write):
    """Everything else is judged all the same; in a configuration it is an error."""
    text = PLACED.replace("    type: static\n", "").replace("pvcName: homes, ", "")
    path = write("values.yaml", text)
    (finding,) = run.json("validate", path)
    assert (finding["level"], finding["rule"], finding["line"]) == ("warning", "undefined-volume", 12)
    assert "volume 'home'" in finding["message"]
    worse = write("worse.yaml", text + "  extraLabels: {a: 'no label!'}\n")
    rules = [f["rule"] for f in run.json("validate", worse, code=1)]
    assert sorted(rules) == ["kubernetes", "undefined-volume"]
    entry = {"display_name": "A", "kubespawner_override": {"volume_mounts": [{"name": "home", "mountPath": "/x"}]}}
    config = write("config.py", f"c.KubeSpawner.profile_list = [{entry!r}]\n")
    assert {f["rule"] for f in run.json("validate", config, code=1)} == {"kubernetes"}


BUILDING = """\
singleuser:
  profileList:
    - display_name: Any image
      profile_options:
        image:
          display_name: Image
          dynamic_image_building: {enabled: true}
          unlisted_choice:
            enabled: true
            display_name_in_choices: Another image
            description_in_choices: From any registry
            validation_regex: "^.+:.+$"
            kubespawner_override: {image: "{value}"}
          choices: {one: {display_name: One, kubespawner_override: {image: "a:1"}}}
"""


def test_the_keys_of_fancy_profiles_are_known(run, write):
    """Those for building images, and for how typed values are offered."""
    assert run("validate", write("values.yaml", BUILDING)).strip() == "1 profile: 0 errors, 0 warnings"


EXTRA = """\
hub:
  extraConfig:
    10-profiles: |
      from z2jh import get_config

      c.KubeSpawner.profile_list = [
          {"display_name": "A", "kubespawner_override": {
              "image": get_config("custom.image"),
              "cpu_limt": 2,
          }},
      ]
    20-cluster: |
      import no_such_module
    30-late: |
      c.KubeSpawner.working_dir = "/late"
custom:
  image: a:1
"""


def test_code_in_values_is_run_where_it_can_be(run, write):
    """With the chart's own functions; what needs a hub's container is told and left out."""
    path = write("values.yaml", EXTRA)
    result = run.result("pod", "a", "-f", path, "--output", "json")
    container = json.loads(result.stdout)["spec"]["containers"][0]
    assert (container["image"], container["workingDir"]) == ("a:1", "/late")
    assert "hub.extraConfig.20-cluster: cannot be run here" in result.stderr
    found = [(f["line"], f["rule"]) for f in run.json("validate", path, code=1)]
    assert found == [(9, "unknown-trait"), (13, "not-checked")]


def test_the_policy_for_documents_is_not_for_the_administrators_values(run, write):
    """A chart's list may do whatever KubeSpawner does; a document may not."""
    entry = "- {display_name: A, kubespawner_override: {image: 'a:1', volumes: {x: {name: x, hostPath: {path: /}}}}}"
    values = write("values.yaml", f"singleuser:\n  profileList:\n    {entry}\n")
    assert run("validate", values).strip() == "1 profile: 0 errors, 0 warnings"
    document = write("list.yaml", f"profile_list:\n  {entry}\n")
    assert {f["rule"] for f in run.json("validate", document, code=1)} == {"policy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("singleuser:\n  profileList: text\n", "values.yaml:2: singleuser.profileList: must be a list of profiles"),
        ("a: 1\n", "these are not values of Zero to JupyterHub"),
        ("a: [\n", "values.yaml:2: this is not YAML"),
    ],
)
def test_other_files_are_no_values(run, write, text, message):
    """The message says what was expected."""
    assert message in run("list", "-f", write("values.yaml", text), code=1)


def test_a_list_as_a_mapping_is_taken_in_the_order_of_its_keys(run, write):
    """As KubeSpawner takes it."""
    path = write("values.yaml", "singleuser:\n  profileList:\n    b: {display_name: B}\n    a: {display_name: A}\n")
    assert [row["slug"] for row in run.json("list", "-f", path)] == ["a", "b"]


def test_what_an_api_server_cannot_read_is_said_in_its_words_at_the_settings_line(run, write):
    """Field and type, in a list and in a class."""
    entry = "{display_name: A, kubespawner_override: {image: 'a:1',\n      volumes: {x: {name: x, hostPath: /data}}}}"
    path = write("values.yaml", f"singleuser:\n  profileList:\n    - {entry}\n")
    (finding,) = run.json("validate", path, code=1)
    assert (finding["rule"], finding["line"], finding["field"]) == ("kubernetes", 4, "Pod jupyter-user")
    assert "spec.volumes[1].hostPath: expects an object" in finding["message"]
    module = write(
        "one/one.py",
        "from profile_spawner import BaseAppProfile, profile_registry\n\n\n@profile_registry.register\n"
        "class One(BaseAppProfile):\n    slug = 'one'\n    display_name = description = 'One'\n    image = 'a:1'\n"
        "    extra_labels = {'a': 'not a label!'}\n",
    )
    (finding,) = run.json("validate", module, code=1)
    assert (finding["rule"], finding["line"]) == ("kubernetes", 9)


CONFIG = """\
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
COMMON = {"image": "a:1"}
c.KubeSpawner.profile_list = [
    {
        "display_name": "One",
        "kubespawner_override": {
            "cpu_limt": 2,
            "image": "a:1",
        },
        "profile_options": {
            "size": {
                "display_name": "Size",
                "choices": {
                    "s": {"display_name": "S", "kubespawner_override": {"mem_limit": 4}},
                    "l": {
                        "display_name": "L",
                        "mem_limit": "4G",
                    },
                },
            },
        },
    },
    {"display_name": "Two", "kubespawner_override": {**COMMON, "mem_limit": "4GB"}},
]
"""


def test_entries_of_a_configuration_are_judged_with_the_lines_of_their_keys(run, write):
    """Though the hub sees the values only."""
    path = write("jupyterhub_config.py", CONFIG)
    findings = run.json("validate", path, code=1)
    assert {(f["line"], f["rule"]) for f in findings} == {
        (7, "unknown-trait"),
        (14, "memory-in-bytes"),
        (17, "misplaced-key"),
        (23, "wrong-value"),
    }
    assert {f["file"] for f in findings} == {str(path)}
    values = {row["field"]: row["origin"] for row in run.json("show", "one", "-f", path)["values"]}
    assert values["kubespawner_override.image"] == f"{path}:8"


def test_settings_that_nobody_has_are_found(run, write):
    """Misspelt names of the hub's and of the spawner's settings."""
    path = write(
        "jupyterhub_config.py",
        "c.ProfileSpawner.builtin_profiles = ['coder_app']\n"
        "c.KubeSpawner.mem_limitt = '4G'\nc.JupyterHub.nonsense_of_ours = 1\n",
    )
    findings = run.json("validate", path, code=1)
    assert [(f["line"], f["level"], f["field"]) for f in findings] == [
        (2, "error", "KubeSpawner.mem_limitt"),
        (3, "warning", "JupyterHub.nonsense_of_ours"),
    ]
    assert "did you mean 'mem_limit'" in findings[0]["message"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\nc.ProfileSpawner.sweep_interval = 'soon'\n", 2, "expected a number"),
        ("c.ProfileSpawner.profiles_dirs = [\n", 1, "SyntaxError"),
        ("import os\nimport no_such_module\n", 2, "No module named 'no_such_module'"),
        ("c.KubeSpawner.profile_list = lambda spawner: [\n  spawner.nonsense]\n", 2, "AttributeError"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_a_finding_with_its_line(run, write, text, line, message):
    """For `validate` in every form of output, and one sentence without a traceback for other commands."""
    path = write("jupyterhub_config.py", text)
    result = run.result("validate", path, "--strict", "--output", "json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)
    assert (finding["file"], finding["line"]) == (str(path), line)
    assert message in finding["message"]
    done = subprocess.run([PROGRAM, "list", "-f", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{path}:{line}" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_named_relative_to_the_working_directory_has_its_lines(run, write, monkeypatch):
    """Of code that cannot be run, and of entries."""
    path = write(
        "jupyterhub_config.py", "c.KubeSpawner.profile_list = [{'display_name': 'A', 'x': 1}]\nimport no_such\n"
    )
    monkeypatch.chdir(path.parent)
    said = run("validate", path.name)
    assert "jupyterhub_config.py:2: warning: cannot be run here" in said
    assert said.startswith("jupyterhub_config.py:1: ")


PER_USER = """\
async def profiles(spawner):
    auth_state = await spawner.user.get_auth_state()
    groups = {g.name for g in spawner.user.groups}
    everybody = {"display_name": "All", "kubespawner_override": {"image": "a:1"}}
    staff = {"display_name": "Staff", "kubespawner_override": {"image": "b:1", "cpu_limt": 1}}
    return [everybody, staff] if "staff" in groups else [everybody]

c.KubeSpawner.profile_list = profiles
"""


def test_a_list_that_is_a_function_is_asked_for_the_user(run, write):
    """The profiles, images and mistakes are those of the user; whose they are is said."""
    path = write("jupyterhub_config.py", PER_USER)
    assert [row["slug"] for row in run.json("list", "-f", path, "--user", "ada")] == ["all"]
    assert [row["slug"] for row in run.json("list", "-f", path, "-u", "ada", "-g", "staff")] == ["all", "staff"]
    result = run.result("validate", path)
    assert result.exit_code == 0
    assert "profile_list is a function" in result.stderr
    (finding,) = run.json("validate", path, "--groups", "staff", code=1)
    assert (finding["profile"], finding["line"]) == ("staff", 5)
    assert run("images", "-f", path, "-g", "staff").splitlines() == ["a:1", "b:1"]
    assert "Staff" in run("show", "staff", "-f", path, "-g", "staff")


IN_CODE = """\
import os
SIZES = {"small": {"display_name": "Small", "kubespawner_override": {"mem_limit": "1G"}}}
def configure(c):
    image = os.environ["NONE"]
    c.KubeSpawner.profile_list = [
        {"display_name": "A", "profile_options": {"s": {"display_name": "S", "choices": SIZES}},
         "kubespawner_override": {"image": image, "cpu_limit": image, "mem_limt": "1G"}},
        dict(display_name="B", kubespawner_override=dict(
            imag="b:1")),
    ]
"""


def test_entries_in_code_that_makes_no_list_here_are_checked(run, write):
    """What is computed in them is not known and no mistake; choices are no profiles. It is said, once."""
    path = write("jupyterhub_config.py", IN_CODE)
    findings = run.json("validate", path, code=1)
    assert [(f["line"], f["rule"], f["profile"]) for f in findings] == [
        (6, "not-checked", ""),
        (7, "unknown-trait", "a"),
        (9, "unknown-trait", "b"),
    ]
    form = (
        "class Form(KubeSpawner):\n    def _options_form_default(self):\n        listed = [LIST]\n        return ''\n"
    )
    form = form.replace("LIST", "{'display_name': 'A', 'kubespawner_override': {'imag': 'a:1'}}")
    path = write("form.py", f"from kubespawner import KubeSpawner\n{form}c.JupyterHub.spawner_class = Form\n")
    assert [(f["line"], f["rule"]) for f in run.json("validate", path, code=1)] == [
        (2, "not-checked"),
        (4, "unknown-trait"),
    ]


TWICE = """\
singleuser:
  profileList:
    - {display_name: A, kubespawner_override: {imagg: "a:1"}}
hub:
  extraConfig:
    a: |
      def unused():
          return [{"display_name": "A", "kubespawner_override": {"image": "a:1"}}]
      c.KubeSpawner.profile_list = [{"display_name": "A",
          "kubespawner_override": {"imag": "a:1"}}]
    b: |
      c.KubeSpawner.mem_limit = "much"
  config:
    KubeSpawner: {mem_limit: 1G}
"""


def test_findings_have_the_lines_of_what_counts_where_something_is_set_twice(run, write):
    """A list, and another setting, that later code replaces; of files the later one."""
    path = write("values.yaml", TWICE)
    found = [(f["line"], f["field"]) for f in run.json("validate", path, code=1)]
    assert found == [(10, "kubespawner_override.imag"), (12, "KubeSpawner.mem_limit")]
    first = write("first.yaml", "singleuser: {profileList: [{display_name: A, kubespawner_override: {cpu: 1}}]}\n")
    second = write("second.yaml", "\nsingleuser: {profileList: [{display_name: A, kubespawner_override: {imag: 1}}]}\n")
    (finding,) = run.json("validate", first, second, code=1)
    assert (finding["file"], finding["line"]) == (str(second), 2)


@pytest.mark.parametrize("form", ["hub.config", "singleuser", "python"])
def test_a_list_in_the_form_of_a_mapping_has_its_lines(run, write, form):
    """Each wrong entry, also where a list of `hub.config` beside it is none."""
    entries = (
        '{\n"b": {"display_name": "B", "kubespawner_override": {"cpu_limt": 2}},\n"a": {"slug": "a"},\n"c": "text"}'
    )
    if form == "singleuser":
        broken = "hub: {config: {KubeSpawner: {profile_list: none}}, profiles: \n"
        text = (
            broken.replace(", profiles: ", "}")
            + "singleuser: {profileList: "
            + entries.replace(',\n"c": "text"', "")
            + "}\n"
        )
    else:
        text = f"hub: {{config: {{KubeSpawner: {{profile_list: {entries}}}}}}}\n"
    path = write("config.py" if form == "python" else "values.yaml", text)
    if form == "python":
        path.write_text(f"c.KubeSpawner.profile_list = {entries}\n")
    found = [(f["line"], f["field"]) for f in run.json("validate", path, code=1)]
    kept = [(2, "kubespawner_override.cpu_limt"), (3, "display_name"), (4, "profile_list.c")]
    assert found == (
        [(1, "hub.config.KubeSpawner.profile_list"), (3, "kubespawner_override.cpu_limt"), (4, "display_name")]
        if form == "singleuser"
        else kept
    )


async def test_every_choice_occurs_once_with_what_it_depends_on():
    """Bounds of numbers, both sides of a switch, and options that appear only with another one."""
    options = {
        "kind": {
            "display_name": "K",
            "choices": {"cpu": {"display_name": "C", "default": True}, "gpu": {"display_name": "G"}},
        },
        "count": {"display_name": "N", "type": "number", "min": 1, "max": 4, "default": 2, "when": {"kind": ["gpu"]}},
        "extra": {"display_name": "E", "type": "switch"},
        "note": {"display_name": "T", "type": "text"},
    }
    (raw,) = read_profile_list([{"display_name": "A", "profile_options": options}], Origin("test"))
    entry = await make_entry(raw, "test")
    assert list(every_choice(entry)) == [
        {},
        {"kind": "gpu"},
        {"kind": "gpu", "count": 1},
        {"kind": "gpu", "count": 4},
        {"extra": True},
    ]


async def test_what_users_must_fill_in_has_an_example():
    """A list without choices, and a required text or number; where no usual text fits, nothing can be tried."""
    typed = {"enabled": True, "validation_regex": "^.+:.+$"}
    options = {
        "image": {"unlisted_choice": typed},
        "size": {"type": "number", "min": 3, "required": True},
        "name": {"type": "text", "required": True, "pattern": "[a-z]+"},
    }
    (raw,) = read_profile_list([{"display_name": "A", "profile_options": options}], Origin("test"))
    (first, *_) = every_choice(await make_entry(raw, "test"))
    assert set(first) == {"image--unlisted-choice", "size", "name"}
    assert ":" in first["image--unlisted-choice"]
    options["image"]["unlisted_choice"] = {**typed, "validation_regex": "^only-this-[0-9]{9}$"}
    (raw,) = read_profile_list([{"display_name": "A", "profile_options": options}], Origin("test"))
    entry = await make_entry(raw, "test")
    assert list(every_choice(entry)) == []
    assert [option.name for option in without_example(entry)] == ["image"]


@real_only
async def test_an_api_server_judges_too(run, control_plane, namespace, tmp_path: Path):
    """`validate --server-dry-run` tells what a cluster refuses, here by its quota, and makes nothing."""
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    path = f"/api/v1/namespaces/{namespace}"
    await control_plane.ok("POST", f"{path}/resourcequotas", {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", "judge", namespace=namespace)
    rule = {"apiGroups": [""], "resources": ["pods", "configmaps", "persistentvolumeclaims"], "verbs": ["create"]}
    await control_plane.grant(namespace, "judge", [rule])
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "first.py").write_text((DEMO / "my_first.py").read_text())
    command = ("validate", "--profiles-dir", tmp_path / "profiles", "--output", "json")
    assert json.loads((await run.aside(*command)).stdout) == []
    refused = await run.aside(*command, "--server-dry-run", "--kubeconfig", kubeconfig)
    (finding,) = json.loads(refused.stdout)
    assert finding["rule"] == "kubernetes"
    assert "quota" in finding["message"]
    assert finding["field"].startswith("Pod ")
    classes = "extra_pod_config: {runtimeClassName: none-here}, priority_class_name: none-here"
    values = tmp_path / "values.yaml"
    values.write_text(
        "singleuser: {storage: {type: none}, profileList: [{display_name: A, "
        f"kubespawner_override: {{image: 'a:1', {classes}}}}}]}}\n"
    )
    noted = await run.aside(
        "validate", values, *command[3:], "--strict", "--server-dry-run", "--kubeconfig", kubeconfig
    )
    assert noted.exit_code == 0, noted.output
    assert [f["level"] for f in json.loads(noted.stdout)] == ["note"]
    for plural in ("pods", "configmaps", "persistentvolumeclaims"):
        names = [o["metadata"]["name"] for o in (await control_plane.ok("GET", f"{path}/{plural}"))["items"]]
        assert set(names) <= {"kube-root-ca.crt"}


async def test_explain_reads_the_record_of_a_pod_in_the_cluster(run, control_plane, namespace, tmp_path: Path):
    """With the rights to read pods and nothing else."""
    pod = await run.aside("pod", "small-lab", "--profiles-dir", DEMO, "-o", "lab/threads=5")
    body = yaml.safe_load(pod.stdout)
    body["metadata"]["namespace"] = namespace
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", "reader", namespace=namespace)
    await control_plane.grant(namespace, "reader", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    asked = ("explain", "--kubeconfig", kubeconfig, "--pod")
    found = await run.aside(*asked, body["metadata"]["name"], "--param", "lab/threads", "--output", "json")
    (threads,) = json.loads(found.stdout)
    assert (threads["value"], threads["layer"]) == (5, "spawn")
    assert "there is no pod 'nobody'" in (await run.aside(*asked, "nobody")).stdout


def test_explain_reads_the_state_that_the_hub_keeps(run, write):
    """From the database or from JupyterHub's API."""
    record = {"lab/threads": {"name": "lab/threads", "value": 3, "layer": "user", "source": "ada", "origin": None,
                              "merged": False, "overridden": []}}  # fmt: skip
    state = {"pod_name": "jupyter-ada", "profile_spawner": {"params": record}}
    for content in (state, {"name": "", "state": state}):
        (found,) = run.json("explain", "--record", write("state.json", json.dumps(content)))
        assert found["value"] == 3


def test_a_profile_without_params_has_nothing_to_explain(run, write):
    """And the command says so, instead of an empty table alone."""
    config = write("c.py", "c.KubeSpawner.profile_list = [{'display_name': 'A', 'kubespawner_override': {}}]\n")
    result = run.result("explain", "-f", config)
    assert result.exit_code == 0
    assert "uses no params" in result.stderr


def test_tables_in_a_pipe_are_not_folded():
    """A line is a row, for grep and awk."""
    command = [PROGRAM, "list", "--profiles-dir", DEMO]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2 + 6
    assert lines[2].split()[0] == "small-lab"
    assert not any(line.endswith(" ") for line in lines)


HOOK = """\
def hook(spawner, pod):
    pod.metadata.labels["team"] = {value}
    return pod

c.JupyterHub.spawner_class = "profile-spawner"
c.KubeSpawner.modify_pod_hook = hook
c.KubeSpawner.profile_list = [{{"display_name": "Plain", "slug": "plain"}}]
"""


@pytest.mark.parametrize(("value", "shown"), [("'a'", "a"), ("spawner.only_in_a_hub", None)])
def test_the_pod_is_shown_after_the_configured_hook(run, write, value, shown):
    """`modify_pod_hook` has its say; one that needs the running hub is told of, and the pod is shown without it."""
    config = write("jupyterhub_config.py", HOOK.format(value=value))
    result = run.result("pod", "plain", "--config", config, "--user", "ada", "--output", "json")
    assert json.loads(result.stdout)["metadata"]["labels"].get("team") == shown
    assert ("KubeSpawner.modify_pod_hook: the function hook fails here" in result.stderr) is (shown is None)


FUNCTIONS = """\
import os
print("reading")
os.system("echo reading")
def uid(spawner):
    print("called")
    return {"ada": 1001}[spawner.user.name]
async def context(spawner):
    raise SystemExit(3)
c.KubeSpawner.uid = uid
c.KubeSpawner.pod_security_context = context
c.Spawner.environment = {"A": lambda spawner: spawner.only_in_a_hub}
c.KubeSpawner.environment.update({"B": lambda spawner: spawner.only_in_a_hub, "C": "c"})
c.KubeSpawner.modify_pod_hook = lambda spawner, pod: pod.nothing
c.KubeSpawner.profile_list = [
    {"display_name": "One", "kubespawner_override": {"image": "a:1"}},
    {
        "display_name": "Two",
        "kubespawner_override": {
            "cpu_limit": lambda spawner: spawner.only_in_a_hub,
            "extra_labels": {"a": "no label!"},
        },
    },
]
"""


def test_functions_that_need_the_hubs_machine_are_a_warning_each_and_the_rest_is_checked(run, write, capfd):
    """Those of the hub and of a profile. What they print, and what they start prints, is not among the results."""
    path = write("jupyterhub_config.py", FUNCTIONS)
    findings = run.json("validate", path, code=1)
    assert "reading" not in capfd.readouterr().out
    failed = [f for f in findings if f["rule"] == "not-checked"]
    assert [(f["line"], f["level"], f["field"]) for f in failed] == [
        (9, "warning", "KubeSpawner.uid"),
        (10, "warning", "KubeSpawner.pod_security_context"),
        (11, "warning", "Spawner.environment.A"),
        (12, "warning", "KubeSpawner.environment.B"),
        (13, "warning", "KubeSpawner.modify_pod_hook"),
        (19, "warning", "kubespawner_override.cpu_limit"),
    ]
    assert "the function uid fails here, so this setting is left out: KeyError: 'user'" in failed[0]["message"]
    assert [(f["line"], f["rule"], f["profile"]) for f in findings if f not in failed] == [(20, "kubernetes", "two")]
    pod = run.json("pod", "one", "-f", path, "--user", "ada")
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["runAsUser"] == 1001
    assert {"name": "C", "value": "c"} in container["env"]


def test_a_page_that_a_function_makes_is_not_checked_but_what_stands_in_it_is(run, write):
    """It may set the list; the entries that are written there are checked."""
    text = (
        "async def form(self):\n"
        "    self.profile_list = [{'display_name': 'A', 'kubespawner_override': {'imag': 'x:1'}}]\n"
        "    return self._options_form_default()\n"
        "c.KubeSpawner.options_form = form\n"
    )
    findings = run.json("validate", write("jupyterhub_config.py", text), code=1)
    assert [(f["line"], f["rule"]) for f in findings] == [(2, "unknown-trait"), (4, "not-checked")]


def test_what_has_meta_is_listed_and_filtered(run, write):
    """Profiles, collections and params, with their descriptions."""
    path = write(
        "profiles.yaml",
        "params: {gpu/count: {description: How many, meta: {platform: gpu}}, lab/x: {}}\n"
        "collections: {gpu: {description: Cards, meta: {platform: gpu, major: 2}}}\n"
        "profiles:\n"
        "- {slug: a, display_name: A, image: 'x:1', documentation: Long, meta: {platform: gpu, major: 2}}\n"
        "- {slug: b, display_name: B, image: 'x:1', meta: {platform: gpu}}\n",
    )
    both = ("--meta", "platform=gpu", "--meta", "major=2", "--documents", path)
    (profile,) = run.json("list", *both)
    assert (profile["slug"], profile["documentation"], profile["meta"]["major"]) == ("a", "Long", "2")
    (collection,) = run.json("list", "--kind", "collections", *both)
    assert (collection["name"], collection["description"]) == ("gpu", "Cards")
    (param,) = run.json("list", "--kind", "params", *both[:2], *both[4:])
    assert (param["name"], param["description"]) == ("gpu/count", "How many")
    assert "gpu/count" in run("list", "--kind", "params", "--documents", path)
    assert "--meta: is no filter" in str(run.result("list", "--meta", "gpu", "--documents", path).exception)
