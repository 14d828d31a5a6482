"""`pod`, `manifests`, `rbac`, `new`: what would be made, and what the hub may do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from profile_spawner.commands.output import as_yaml
from profile_spawner.kube.rbac import document_rules, required_rules
from profile_spawner.profiles.yaml_text import parse_yaml

from .conftest import DEMO

PROFILE = """
from profile_spawner import BaseAppProfile, Manifest, Role, RoleBinding, Subject, profile_registry


@profile_registry.register
class Jobs(BaseAppProfile):
    slug = "jobs"
    display_name = description = "Jobs"
    image = "a:1"
    allowed_groups = ["staff"]

    def get_role_bindings(self):
        role = Role(name="jobs", api_groups=["batch"], resources=["jobs"], verbs=["create", "get"])
        return [RoleBinding(name="jobs", subjects=[Subject(name="default", kind="ServiceAccount")], role=role)]

    def get_manifests(self):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": "canary"}}
        return [Manifest(name="secret", content=[secret], persist=False)]
"""


def test_the_pod_has_what_the_profile_and_the_choices_say(run):
    """It is the installed KubeSpawner's, for this user."""
    pod = run.json("pod", "gpu-lab", "--profiles-dir", DEMO, "-u", "grace", "-g", "gpu", "-o", "gpus=two")
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["name"] == "jupyter-grace"
    assert container["image"].startswith("quay.io/jupyter/pytorch-notebook:")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    env = {v["name"]: v.get("value") for v in container["env"]}
    assert env["COURSE"] == "Deep learning"
    assert env["OMP_NUM_THREADS"] == "4"
    assert env["JPY_API_TOKEN"] == "***"
    named = run.json("pod", "small-lab", "--profiles-dir", DEMO, "--server", "second", "-o", '{"lab/threads": 5}')
    assert named["metadata"]["annotations"]["hub.jupyter.org/servername"] == "second"


def test_a_wrong_choice_and_a_foreign_profile_are_refused_as_on_the_page(run):
    """With the sentence that the user would read."""
    wrong = run("pod", "gpu-lab", "--profiles-dir", DEMO, "-g", "gpu", "-o", "gpus=nine", code=1)
    assert "“GPUs” cannot be nine; choose one of: one, two." in wrong
    assert "There is no profile gpu-lab for you" in run("pod", "gpu-lab", "--profiles-dir", DEMO, code=1)
    result = run.result("pod", "gpu-lab", "--profiles-dir", DEMO, "-o", "gpus")
    assert result.exit_code == 2


@pytest.mark.parametrize("slug", ["small-lab", "gpu-lab", "data-science", "editor", "gpu-editor", "desktop"])
async def test_an_api_server_takes_every_manifest(run, control_plane, namespace, slug):
    """What `manifests` prints is accepted by `kubectl apply --dry-run=server`, on a real API server too."""
    words = ("manifests", slug, "--profiles-dir", DEMO, "--user", "Ada Ünïcode", "--groups", "gpu", "--output", "json")
    items = json.loads((await run.aside(*words)).stdout)["items"]
    assert {"Pod", "ConfigMap"} <= {item["kind"] for item in items}
    for item in items:
        item["metadata"]["namespace"] = namespace
        plural = {"Pod": "pods", "ConfigMap": "configmaps", "PersistentVolumeClaim": "persistentvolumeclaims"}
        path = f"/api/v1/namespaces/{namespace}/{plural[item['kind']]}?dryRun=All"
        await control_plane.ok("POST", path, item)


def test_manifests_of_all_profiles_show_no_secret_unless_asked(run, write):
    """Values of Secrets are ***; everything else is there, the pod of every profile included."""
    folder = write("jobs.py", PROFILE).parent
    config = write(
        "etc/config.py",
        f"c.ProfileSpawner.profiles_dirs = [{str(folder)!r}]\n"
        "c.ProfileSpawner.allowed_kinds = ['Role', 'RoleBinding']\n",
    )
    words = ("manifests", "jobs", "-f", config, "-g", "staff")
    found = {d["kind"]: d for d in yaml.safe_load_all(run(*words))}
    assert set(found) == {"Role", "RoleBinding", "Secret", "Pod"}
    assert found["Secret"]["stringData"] == {"token": "***"}
    assert "canary" not in run(*words)
    assert "canary" in run(*words, "--show-secrets")
    pods = [d for d in yaml.safe_load_all(run("manifests", "--profiles-dir", DEMO, "-g", "gpu")) if d["kind"] == "Pod"]
    assert len(pods) == 6


TEXTS = (
    *("y", "n", "Y", "N", "yes", "off", "true", "~", "null", "=", "<<", "", " ", ".inf", ".nan"),
    *("1e3", "12e4567", "1E3", "-1e3", "1.5e3", ".5", ".5e1", "1.", "08", "09.5", "1_0e3", "12:30", "12:30:45"),
    *("0o17", "-0o7", "0O17", "0x1F", "0X1F", "0b1", "0B1", "017", "1_000", "2026-09-01", "2026-9-1"),
    *("a: b", "- a", "#", "@a", "%a", "*a", "&a", "!a", "{a", "a\nb\n", "a \nb", "\n", "a\tb", "1.2.3", "e3", "v1e3"),
)


@pytest.mark.parametrize("read", [yaml.safe_load, lambda text: parse_yaml(text, "x")[0]])
def test_texts_are_texts_for_every_reader(read):
    """As values and as keys: for Python's readers here, below for the one in kubectl and Helm."""
    data = {"list": list(TEXTS), "keys": {text: "x" for text in TEXTS if text != "<<"}}
    assert read(as_yaml(data)) == data


async def test_texts_are_texts_for_an_api_server(real_control_plane):
    """It reads YAML as kubectl and Helm do, and refuses a number or a truth value where a text belongs."""
    namespace = await real_control_plane.new_namespace()
    data = {f"k{number}": text for number, text in enumerate(TEXTS)}
    body = as_yaml({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "texts"}, "data": data})
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    found = await real_control_plane.ok("POST", path, body.encode(), content_type="application/yaml")
    assert found["data"] == data


def test_what_the_policy_forbids_is_told_with_the_rule(run, write):
    """Before anything is made."""
    folder = write("jobs.py", PROFILE).parent
    message = run("manifests", "jobs", "--profiles-dir", folder, "-g", "staff", code=1)
    assert "rule 'allowed kinds'" in message
    assert "Role" in message


def test_rbac_prints_the_smallest_role(run, write):
    """Only what the loaded profiles need, with the rights that they hand on."""
    role, binding = yaml.safe_load_all(run("rbac", "--profiles-dir", DEMO, "-n", "servers", "--hub-namespace", "hub"))
    assert role["rules"] == required_rules(["ConfigMap", "PersistentVolumeClaim"])
    assert role["metadata"] == {"name": "profile-spawner", "namespace": "servers"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hub", "namespace": "hub"}]
    folder = write("jobs.py", PROFILE).parent
    config = write(
        "etc/config.py",
        f"c.ProfileSpawner.profiles_dirs = [{str(folder)!r}]\n"
        "c.ProfileSpawner.allowed_kinds = ['Role', 'RoleBinding']\nc.KubeSpawner.namespace = 'jhub'\n",
    )
    role, _ = yaml.safe_load_all(run("rbac", "-f", config))
    assert role["metadata"]["namespace"] == "jhub"
    assert {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]} in role["rules"]


def test_rbac_counts_what_config_maps_may_bring(run, write):
    """ConfigMaps change without the configuration, so everything counts that they may create; they are not read."""
    config = write(
        "etc/config.py",
        "c.ProfileSpawner.profile_config_map_names = ['jhub-profiles']\n"
        "c.ProfileSpawner.profile_secrets = 'profiles'\n"
        "c.ProfileSpawner.profile_config_maps_namespace = 'elsewhere'\n"
        "c.ProfileSpawner.allowed_kinds = ['Job', 'Deployment']\n"
        "c.ProfileSpawner.data_policy = {'config_maps': {'kinds': ['ConfigMap', 'Job']}}\n",
    )
    role, _, there, binding = yaml.safe_load_all(run("rbac", "-f", config, "-n", "servers"))
    assert role["rules"] == required_rules(["ConfigMap", "Job"], claims=False)
    assert there["metadata"]["namespace"] == "elsewhere"
    assert there["rules"] == document_rules([("ConfigMap", "jhub-profiles"), ("Secret", "")])
    assert binding["subjects"][0]["namespace"] == "servers"


async def test_the_printed_role_suffices_for_config_maps(run, control_plane, namespace, write, tmp_path):
    """With it the hub's service account reads them, as `list --from-cluster` does, and may create what they bring."""
    config = write("etc/config.py", "c.ProfileSpawner.profile_config_maps = 'profile-spawner=profiles'\n")
    document = "[{slug: a, display_name: A, image: 'a:1', files: [{mount_path: /etc/a, content: x}]}]"
    labels = {"profile-spawner": "profiles"}
    body = {"metadata": {"name": "a", "labels": labels}, "data": {"a.yaml": document, "b.yaml": "["}}
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    hub = f"system:serviceaccount:{namespace}:hub"
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", hub, namespace=namespace)
    cluster = ("-f", config, "--output", "json", "--kubeconfig", kubeconfig)
    listed = await run.aside("list", "--from-cluster", *cluster)
    assert listed.exit_code == 1
    assert "the hub may not list configmaps" in listed.stderr
    printed = await run.aside("rbac", "-f", config, "-n", namespace, "--output", "json")
    for item in json.loads(printed.stdout)["items"]:
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{item['kind'].lower()}s"
        await control_plane.ok("POST", path, item)
    checked = await run.aside("rbac", "--check", *cluster)
    assert (checked.exit_code, json.loads(checked.stdout)) == (0, [])
    listed = await run.aside("list", "--from-cluster", *cluster)
    assert [(p["slug"], p["origin"]) for p in json.loads(listed.stdout)] == [("a", "configmap/a/a.yaml:1")]
    assert "configmap/a/b.yaml" in listed.stderr
    shown = await run.aside("show", "a", "--from-cluster", "-n", namespace, *cluster)
    assert json.loads(shown.stdout)["image"] == "a:1"
    judged = await run.aside("validate", "--from-cluster", *cluster)
    assert [(f["file"], f["line"], f["level"]) for f in json.loads(judged.stdout)] == [
        ("configmap/a/b.yaml", 2, "error")
    ]
    nothing = await run.aside("list", "--from-cluster", "--profiles", "all", "--kubeconfig", kubeconfig)
    assert "the configuration selects no ConfigMaps" in str(nothing.exception)


async def test_rbac_check_asks_the_api_server(run, control_plane, namespace, tmp_path):
    """Under the printed Role nothing is missing; what is missing and a broken profile are reported."""
    command = ("rbac", "--profiles-dir", DEMO, "--output", "json")
    printed = await run.aside(*command, "-n", namespace)
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", "hub-of-check", namespace=namespace)

    async def checked(*more: str) -> tuple[int, list[object]]:
        result = await run.aside(*command, "--check", "--kubeconfig", kubeconfig, *more)
        return result.exit_code, json.loads(result.stdout)

    code, missing = await checked()
    assert code == 1
    assert {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "watch"]} in missing
    role = json.loads(printed.stdout)["items"][0]
    await control_plane.grant(namespace, "hub-of-check", role["rules"])
    assert await checked() == (0, [])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.py").write_text("(")
    assert await checked("--profiles-dir", str(tmp_path / "broken")) == (1, [])


@pytest.mark.parametrize("family", ["jupyterlab", "coder", "remote_desktop"])
def test_new_writes_a_profile_that_is_right_and_its_test_passes(run, tmp_path, family):
    """A package with its files; nothing is overwritten."""
    run("new", "my-lab", "--family", family, "--dir", tmp_path)
    assert run("validate", tmp_path).strip() == "1 profile: 0 errors, 0 warnings"
    if family == "jupyterlab":  # the tests of all families are equal
        test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "tests")]
        done = subprocess.run(test, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
    assert "exists already" in run("new", "my-lab", "--dir", tmp_path, code=1)
    assert "this is not a slug" in run("new", "My Lab!", "--dir", tmp_path, code=1)
    assert not Path(tmp_path / "My Lab!").exists()
