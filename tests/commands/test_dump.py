"""`dump` and `diff`: a state as a document, and what changes between two."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from types import SimpleNamespace

import jinja2
import pytest
import yaml

from .conftest import DEMO, ROOT

HOOKS = """
from pathlib import Path
from profile_spawner import (
    BaseAppProfile, ConfigMap, ImagePullSecret, InitContainer, Manifest, Param, Role, RoleBinding, SecretMount,
    Subject, Template, Volume, VolumeMount, profile_registry,
)

profile_registry.register_param(Param("a/b", schema={"type": "integer"}, default=1, user_settable=True))
profile_registry.register_param(Param("a/tag", default="1"))
profile_registry.register_collection("mixin", {"a/b": 3}, description="Three", meta={"optional": "a/b"})


@profile_registry.register
class All(BaseAppProfile):
    slug = "all"
    display_name = "All"
    description = "Everything that a class can say"
    documentation, meta = "And more", {"color": "blue", "major": 2}
    image = "a:{{ a/tag }}-{{ user_slug }}"
    home_dir = "/home/x"
    cpu_limit, mem_limit = 2, "4G"
    profiles = ["mixin"]
    allowed_groups = ["staff"]
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    extra_annotations = {"note": "yes"}
    profile_options = {
        "size": {"type": "number", "min": 1, "max": 4, "default": 2, "kubespawner_override": {"cpu_limit": "{value}"}},
        "debug": {"type": "switch", "kubespawner_override": {"environment": {"DEBUG": "on"}}, "advanced": True},
    }

    def get_pod_env_vars(self):
        return {"WHO": f"user-{self.user.name}", "N": Template("{{ a/b }}"), "ON": "yes", "AT": "12:30:45"}

    def get_default_volumes(self):
        return [Volume(name="w", claim_name="w", size="1Gi", persist=False, volume_mount=VolumeMount(mount_path="/w"))]

    def get_config_maps(self):
        return [
            ConfigMap(name="motd", key="motd", content=Template("Hello {{ username }}\\n"), mount_path="/etc/motd.d/x"),
            ConfigMap(name="many", data={"a": "1", "b": "2"}, mount_path="/etc/many", default_mode="0600"),
        ]

    def get_init_containers(self):
        return [InitContainer(name="first", command=("true",), env={"A": "b"})]

    def get_secret_mounts(self):
        return [SecretMount(name="s", mount_path="/s", optional=True)]

    def get_role_bindings(self):
        role = Role(name="r", resources=["services"], verbs=["get"])
        return [RoleBinding(name="r", subjects=[Subject(name="default")], role=role)]

    def get_image_pull_secrets(self):
        return ["pull"]

    def get_manifests(self):
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{self.context.server_slug}"},
                   "spec": {"ports": [{"port": 1}]}}
        return [Manifest(name="service", content=[service])]
"""
CONFIG = "c.ProfileSpawner.profiles_dirs = [{folder!r}]\nc.ProfileSpawner.allowed_kinds = ['Role', 'RoleBinding']\n"


def test_a_dump_that_is_loaded_and_dumped_again_is_the_same(run, write):
    """For the demo, for all built-in profiles, and for everything that a class can say."""
    write("hooks/hooks.py", HOOKS)
    for words in (("--profiles-dir", DEMO), ("--profiles", "all"), ("--profiles-dir", write("x", "").parent / "hooks")):
        first = run("dump", *words)
        document = write("dump.yaml", first)
        assert run("dump", "--documents", document) == first
        assert yaml.safe_load(first) == run.json("dump", *words)


def test_a_dump_makes_the_same_pods(run, write):
    """For another user than the one that hooks were asked for: what they put into texts is a reference in the dump."""
    folder = write("hooks/hooks.py", HOOKS).parent
    document = write("dumped/dump.yaml", run("dump", "--profiles-dir", folder))
    kinds = "['ConfigMap', 'PersistentVolumeClaim', 'Service', 'Role', 'RoleBinding']"
    before = write("before.py", CONFIG.format(folder=str(folder)))
    after = write(
        "after.py",
        f"c.ProfileSpawner.profile_documents = [{str(document)!r}]\n"
        "c.ProfileSpawner.allowed_kinds = ['Role', 'RoleBinding']\n"
        f"c.ProfileSpawner.data_policy = {{'kinds': {kinds}, 'secrets': ['s', 'pull'],\n"
        "    'service_accounts': ['default']}\n",
    )
    assert run("diff", before, after, "-u", "Zoë", "--server", "second").strip() == "Nothing changes."
    pod = run.json("pod", "all", "-f", after, "-u", "ada", "-g", "staff", "-o", "size=3")
    env = {v["name"]: v.get("value") for v in pod["spec"]["containers"][0]["env"]}
    assert (env["WHO"], env["N"], env["ON"], env["AT"]) == ("user-ada", "3", "yes", "12:30:45")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == 3


def test_what_a_document_cannot_say_is_told(run, write):
    """Code that decides, functions and the values of Secrets."""
    folder = write(
        "p/p.py",
        """
from profile_spawner import BaseAppProfile, Manifest, profile_registry


@profile_registry.register
class P(BaseAppProfile):
    slug = "p"
    display_name = description = "P"
    image = "a:1"
    kubespawner_override = {"uid": lambda spawner: 1}

    @classmethod
    def is_available_to(cls, user):
        return user.name != "eve"

    def get_manifests(self):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "canary"}}
        return [Manifest(name="s", content=[secret])]
""",
    ).parent
    result = run.result("dump", "--profiles-dir", folder)
    for told in ("is_available_to() is code", "kubespawner_override.uid is a function", "manifest s are ***"):
        assert told in result.stderr
    assert "canary" not in result.stdout + result.stderr


LAB = "slug: lab\ndisplay_name: Lab\ndescription: ''\nimage: a:1\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p/broken.py", "import no_such_module\n"),
        ("p/doc.yaml", "slug: doc\ndisplay_name: Doc\n"),
        ("p/param.yaml", "slug: p\ndisplay_name: P\nimage: a:1\nparams: {nobody/knows: 1}\n"),
        ("p/config.py", "c.KubeSpawner.profile_list = [{'display_name': 'F', 'kubespawner_override': {'uid': id}}]\n"),
    ],
)
def test_an_incomplete_dump_is_told_and_replaces_no_file_unless_asked(run, write, name, text):
    """A broken module or document, a param that nobody knows, a function: the exit code is 1 in every case."""
    folder = write("p/lab.yaml", LAB).parent
    broken = write(name, text)
    words = ["dump", "--documents", folder]
    if broken.suffix == ".py":
        words += ["-f", broken] if broken.stem == "config" else ["--profiles-dir", folder]
    assert [p["slug"] for p in run.json(*words, code=1)["profiles"]] == ["lab"]
    out = write("out/dump.yaml", "the last good one")
    assert "--incomplete" in run(*words, "--output-file", out, code=1)
    assert out.read_text() == "the last good one"
    run(*words, "--output-file", out, "--incomplete", code=1)
    assert yaml.safe_load(out.read_text())["profiles"][0]["slug"] == "lab"
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_a_dump_is_written_where_a_link_leads_and_into_a_pipe(run, write):
    """The link stays one, and so does the pipe: a file in its place would be the end of a /dev/stdout."""
    folder = write("p/lab.yaml", LAB).parent
    target = write("data/dump.yaml", "")
    link = target.parent.parent / "link.yaml"
    link.symlink_to("data/dump.yaml")
    run("dump", "--documents", folder, "--output-file", link)
    assert link.is_symlink()
    assert yaml.safe_load(target.read_text())["profiles"][0]["slug"] == "lab"
    pipe = link.with_name("pipe")
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    try:
        run("dump", "--documents", folder, "--output-file", pipe)
        assert "slug: lab" in reader.communicate(timeout=20)[0]
    finally:
        reader.kill()


def test_profiles_groups_classes_selectors_and_overrides_change_what_is_dumped(run, write, monkeypatch):
    """With the configurator's grammar: the first colon ends the slug, the first equals sign the key."""
    words = (
        "dump", "--profiles", "coder_app,jupyterlab_small", "--groups", "a, b", "--storage-class-rwo", "fast",
        "--node-selector", "coder_app:pool=yes", "--override", "coder_app:display_name=A=b:c",
        "--override", "coder_app:cpu_limit=3", "--override", "jupyterlab_small:groups=c",
        "--override", "jupyterlab_small:workspace_volume_size=99Gi",
    )  # fmt: skip
    coder, lab = run.json(*words)["profiles"]
    assert (coder["slug"], lab["slug"]) == ("coder_app", "jupyterlab_small")
    assert (coder["allowed_groups"], lab["allowed_groups"]) == (["a", "b"], ["c"])
    assert (coder["display_name"], coder["cpu_limit"], coder["node_selector"]) == ("A=b:c", 3, {"pool": "yes"})
    assert lab["volumes"][0]["size"] == "99Gi"
    assert lab["volumes"][0]["storage_class"] == "fast"
    monkeypatch.setenv("ENABLED_PROFILES", "coder_app")
    monkeypatch.setenv("GROUPS", "x")
    monkeypatch.setenv("STORAGE_CLASS_RWO", "slow")
    monkeypatch.setenv("OUTPUT_FILE", str(write("out.yaml", "")))
    run("dump")
    (written,) = yaml.safe_load((write("x", "").parent / "out.yaml").read_text())["profiles"]
    assert (written["slug"], written["allowed_groups"]) == ("coder_app", ["x"])


def test_wrong_changes_name_the_field(run):
    """And nothing is written."""
    for word, message in (
        ("coder_app:cpu_limt=1", "did you mean 'cpu_limit'"),
        ("coder_app:cpu_limit=many", "cpu_limit"),
        ("coder_app:mem_limit=banana", "mem_limit"),
        ("coder_ap:cpu_limit=1", "no such profile"),
    ):
        assert message in run("dump", "--profiles", "coder_app", "--override", word, code=1)
    for words in (("--override", "nonsense"), ("--node-selector", "a:b"), ("--groups", " , ")):
        assert run.result("dump", "--profiles", "coder_app", *words).exit_code == 2


def test_the_application_hubs_file_has_its_shape(run):
    """Sorted by nothing but its models, texts that YAML 1.1 would take for something else in quotes."""
    words = ("dump", "--profiles", "coder_app", "--format", "configurator", "--node-selector", "coder_app:pool=yes")
    text = run(*words)
    (profile,) = yaml.safe_load(text)["profiles"]
    assert profile["id"] == "profile_coder_app"
    assert profile["groups"] == ["developers"]
    assert profile["node_selector"] == {"pool": "yes"}
    assert set(profile["definition"]) == {"default", "description", "display_name", "kubespawner_override", "slug"}
    assert {c["mount_path"] for c in profile["config_maps"]} >= {"/opt/init/.init.sh"}
    (init,) = [c for c in profile["init_containers"] if c["name"] == "init-file-on-volume"]
    assert init["command"] == ["sh", "-c", "sh /opt/init/.init.sh"]
    assert all(isinstance(v, str | dict) for v in profile["pod_env_vars"].values())
    assert profile["volumes"][0]["volume_mount"]["name"] == profile["volumes"][0]["name"]


def test_a_profile_that_refuses_its_familys_roles_is_written_without_them(run, write):
    """Those that are written although a profile does not ask for them here are told."""
    classes = "".join(
        f"class {name}(BaseCoderProfile):\n    slug = display_name = description = '{name.lower()}'\n    {body}\n"
        for name, body in (("Usual", "pass"), ("Without", "def get_role_bindings(self): return []"))
    )
    registered = "profile_registry.register(Usual)\nprofile_registry.register(Without)\n"
    imports = "from configurator.apps import profile_registry\nfrom configurator.apps.coder import BaseCoderProfile\n"
    folder = write("plug-ins/coders.py", imports + classes + registered).parent
    result = run.result("dump", "--format", "configurator", "--configurator-compat", "--profiles-dir", folder)
    profiles = {p["id"]: p["role_bindings"] for p in yaml.safe_load(result.stdout)["profiles"]}
    assert (len(profiles["profile_usual"]), profiles["profile_without"]) == (4, [])
    assert "usual: roles that the configurator's family gives there are written, too: log-reader" in result.stderr
    assert "without: roles" not in result.stderr


def test_the_calls_of_the_configurators_own_command_are_understood(run, tmp_path):
    """The same file is written, with role bindings, and counts are numbers; what differs is said."""
    path = tmp_path / "config.of-the-hub"
    words = ("dump", "--format", "configurator", "--configurator-compat", "--profiles", "gpu_coder_app")
    run(*words, "--groups", "a,b", "--storage-class-rwo", "s", "--storage-class-rwx", "n", "--output", path)
    (profile,) = yaml.safe_load(path.read_text())["profiles"]
    assert profile["groups"] == ["a", "b"]
    assert profile["definition"]["kubespawner_override"]["extra_resource_limits"] == {"nvidia.com/gpu": 1}
    assert [b["name"] for b in profile["role_bindings"]] == [
        "log-reader-role-binding-gpu-coder-app",
        "pod-reader-role-binding-gpu-coder-app",
        "pod-exec-role-binding-gpu-coder-app",
        "job-submitter-role-binding-gpu-coder-app",
    ]
    assert "no folder for it" in run(*words, "--output", tmp_path / "missing" / "config.yaml", code=1)
    run("dump", "--profiles", "coder_app,coder_app", "--output", path)
    assert len(yaml.safe_load(path.read_text())["profiles"]) == 1
    said = run("dump", "--profiles", "qgis_remote_desktop", code=1)
    assert "no such profile" in said
    assert "profiles of the EOEPCA configurator need --configurator-compat" in said
    for option, instead in (
        (("--list-profiles",), "profile-spawner list"),
        (("--describe-profile", "gpu_coder_app"), "profile-spawner show gpu_coder_app"),
        (("--output", str(tmp_path)), "expected yaml, json, or the path of a file"),
    ):
        result = run.result("dump", *option)
        said = " ".join(result.stderr.replace("│", " ").split())
        assert (result.exit_code, instead in said) == (2, True), said


RESTRICTED = """
from profile_spawner import (
    BaseAppProfile, ConfigMap, ImagePullSecret, Manifest, Param, Role, RoleBinding, Subject, Template, profile_registry,
)

profile_registry.register_param(Param("a/b", schema={"enum": ["fixed", "x"]}, default="fixed", user_settable=True))


class One(BaseAppProfile):
    image = "a:1"
    description = ""


def make(slug, **attributes):
    profile_registry.register(type(slug, (One,), {"slug": slug, "display_name": slug, **attributes}))


make("everybody")
make("staff", allowed_groups=["staff"])
make("nobody", allowed_groups=[])
make("alice", allowed_users=["alice"])
make("both", allowed_users=["alice"], allowed_groups=["staff"])
make("rule", is_available_to=classmethod(lambda cls, user: user.name != "eve"))


@profile_registry.register
class Full(One):
    slug = display_name = "full"
    home_dir = "/work"
    service_account = "robot"
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    extra_labels = {"a": "b"}
    kubespawner_override = {
        "uid": 1000,
        "volumes": [{"name": "there", "configMap": {"name": "there"}}],
        "volume_mounts": [{"name": "there", "mountPath": "/etc/there", "subPath": "key"}],
    }
    icon, category, tags, order, documentation = "rocket", "Labs", ("new",), 2, "More"
    aliases, meta, params, user_settable = ("old",), {"title": "F"}, {"a/b": "fixed"}, ("a/b",)
    pod_env_vars = {"KEY": {"from_secret": {"name": "s", "key": "k"}}, "WHO": "{{ username }}",
                    "AT": "{{ server_slug }}", "PARAM": "{{ a/b }}", "FORMAT": "{{.Names}} {{{{ x }}",
                    "LENGTH": "{%F} ${#a}", "MIXED": "{{{ username }}} ${#a} {%F} {{{{%{#"}

    def get_config_maps(self):
        return [ConfigMap(name="two", data={"a": "1", "b": "2"}, mount_path="/etc/two"),
                ConfigMap(name="env", data={"A": "1", "B": "2"})]

    def get_role_bindings(self):
        role = Role(name="all", resources=["pods"], verbs=["*"])
        return [RoleBinding(name="all", subjects=[Subject(name="robot")], role=role)]

    def get_image_pull_secrets(self):
        return [ImagePullSecret(name="pull", data="canary")]

    def get_manifests(self):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "canary"}}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
        texts = ["{%F} ${#a}", "é {{{{.Names}} 'q' \\t {#", '"{%" {']
        texts.append(Template("{{{ username }}} {{{{%" + " w" * 50 + "{#"))
        account["metadata"]["annotations"] = {str(n): text for n, text in enumerate(texts)}
        return [Manifest(name="m", content=[secret, account])]
"""


def _rendered(value, **facts):
    """Render texts as the ApplicationHub does when it reads its file."""
    if isinstance(value, dict):
        return {key: _rendered(item, **facts) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, **facts) for item in value]
    return jinja2.Template(value).render(**facts) if isinstance(value, str) and "{{" in value else value


def test_the_application_hubs_file_opens_no_profile_to_more_people(run, write):
    """What its groups cannot say is left out with a warning; what is for nobody stays so."""
    folder = write("p/p.py", RESTRICTED).parent
    result = run.result("dump", "--profiles-dir", folder, "--format", "configurator")
    groups = {p["definition"]["slug"]: p["groups"] for p in yaml.safe_load(result.stdout)["profiles"]}
    assert groups == {
        "everybody": ["developers"],
        "staff": ["staff"],
        "nobody": [],
        "both": ["staff"],
        "full": ["developers"],
    }
    assert "alice is left out: the ApplicationHub knows groups only, and allowed_users" in result.stderr
    assert "rule is left out: the ApplicationHub knows groups only, and is_available_to() decides" in result.stderr
    assert "both: the ApplicationHub's file cannot say: allowed_users" in result.stderr


def test_what_the_application_hubs_file_cannot_say_is_told(run, write):
    """Nothing vanishes without a word, no Secret is written, and the ApplicationHub can read what is."""
    folder = write("p/p.py", RESTRICTED).parent
    result = run.result("dump", "--profiles-dir", folder, "--format", "configurator")
    for what in (
        *("service_account", "tolerations", "extra_labels", "kubespawner_override.uid", "KEY from a Secret"),
        *("the value of pull secret pull", "Secret s", "several files in ConfigMap env", "meta", "params", "icon"),
        *("user_settable", "category", "tags", "order", "documentation", "aliases"),
        "home_dir as the working directory (HOME is written)",
        "options (their defaults are written)",
        "'*' in role all (get, list, watch, create, update, patch, delete, deletecollection are written)",
    ):
        assert f"full: the ApplicationHub's file cannot say: {what}\n" in result.stderr
    assert "full: {{ server_slug }} has no counterpart there: it is empty" in result.stderr
    assert "full: {{ a/b }} has no counterpart there: its present value is written" in result.stderr
    assert "kubespawner_override.volume" not in result.stderr
    assert "full: cpu_limit is required there; 1 is written" in result.stderr
    assert "canary" not in result.output
    (full,) = [p for p in yaml.safe_load(result.stdout)["profiles"] if p["definition"]["slug"] == "full"]
    assert full["definition"]["kubespawner_override"]["mem_limit"] == "1G"
    assert [d["kind"] for m in full["manifests"] for d in m["content"]] == ["ServiceAccount"]
    assert [(c["name"], c.get("content"), c.get("mount_path")) for c in full["config_maps"]] == [
        ("there", None, "/etc/there"),
        ("two-0", "1", "/etc/two/a"),
        ("two-1", "2", "/etc/two/b"),
    ]
    assert "*" not in full["role_bindings"][0]["role"]["verbs"]
    assert full["pod_env_vars"] == {
        "HOME": "/work",
        "WHO": "{{ spawner.user.name }}",
        "AT": "",
        "PARAM": "fixed",
        "FORMAT": "{{ '{{' }}.Names}} {{ '{{' }} x }}",
        "LENGTH": "{%F} ${#a}",
        "MIXED": "{{ '{' }}{{ spawner.user.name }}} ${{ '{#' }}a} {{ '{%' }}F} {{ '{{' }}%{{ '{#' }}",
    }
    # Objects are rendered twice, the second time as YAML.
    spawner = SimpleNamespace(user=SimpleNamespace(name="ada"))
    there = _rendered(full, spawner=spawner)
    assert there["pod_env_vars"]["MIXED"] == "{ada} ${#a} {%F} {{%{#"
    ((account,),) = [m["content"] for m in there["manifests"]]
    account = yaml.safe_load(jinja2.Template(yaml.dump(account)).render(spawner=spawner))
    before = ["{%F} ${#a}", "é {{{{.Names}} 'q' \t {#", '"{%" {', "{ada} {{%" + " w" * 50 + "{#"]
    assert list(account["metadata"]["annotations"].values()) == before
    back = write("config.yml", result.stdout)
    imported = yaml.safe_load(run.result("import", "configurator", back).stdout)["profiles"][-1]
    assert imported["pod_env_vars"]["FORMAT"] == "{{{{.Names}} {{{{ x }}"
    assert imported["pod_env_vars"]["MIXED"] == "{{{ username }}} ${#a} {%F} {{{{%{#"
    (account,) = imported["manifests"][0]["content"]
    assert account["metadata"]["annotations"]["0"] == "{%F} ${#a}"


def test_what_the_configurators_own_profile_has_and_this_one_not_is_told(run, write):
    """Also for a profile that derives from it; rights of it are written, and so is which profile is meant."""
    plug_in = (
        "from configurator.apps import profile_registry\n"
        "from configurator.apps.coder import DaskGatewayCoderProfile\n\n\n"
        "class Ours(DaskGatewayCoderProfile):\n    slug = 'ours'\n    init_script_path = None\n"
        "profile_registry.register(Ours)\n"
    )
    folder = write("plug-ins/ours.py", plug_in).parent
    words = ("dump", "--format", "configurator", "--profiles-dir", folder, "--configurator-compat", "--profiles")
    result = run.result(*words, "ours,coder_dask_gateway_app,snap_remote_desktop")
    ours, theirs, _ = yaml.safe_load(result.stdout)["profiles"]
    assert [len(profile["role_bindings"]) for profile in (ours, theirs)] == [6, 6]
    for slug in ("ours", "coder_dask_gateway_app"):
        assert f"{slug}: Release dask-gw-jupyter-{{{{ spawner.user.name }}}} (the gateway" in result.stderr
        assert f"{slug}: ConfigMap dask-gateway-config-ws of the configurator's own" in result.stderr
    assert "ours: the start-up files are not those of the configurator" in result.stderr
    assert "which are longer: bash_login_path, bashrc_path\n" in result.stderr
    snap = next(line for line in result.stderr.splitlines() if "snap_remote_desktop: the start-up files are" in line)
    assert snap.endswith(
        ", snap.conf (SNAP gets at most 4G of memory instead of 10G), snap.properties (fewer settings)"
    )
    assert "the configurator's own one needs" not in result.stderr
    result = run.result("dump", "--format", "configurator", "--profiles", "coder_app", "--output", "json")
    assert "coder_app: this is a profile of this project; the configurator's own one needs" in result.stderr
    assert "Note: profiles for all users get the group developers; --groups names others" in result.stderr


def test_a_dump_of_a_plug_in_knows_what_its_constructor_set(run, write):
    """And speaks of facts as documents do."""
    folder = write(
        "p/p.py",
        """
from configurator.apps import profile_registry
from configurator.apps.coder import BaseCoderProfile


class Gpu(BaseCoderProfile):
    slug = display_name = "gpu"
    pod_env_vars = {"WHO": "{{spawner.user.name}}"}

    def __init__(self, *, node_selector=None, **kwargs):
        super().__init__(node_selector={"gpu": "true"}, **kwargs)
        self.volumes.pop(0)
        self.cpu_limit = 7

    def build(self):
        profile = super().build()
        profile.definition.kubespawner_override.mem_limit = "9G"
        profile.env_from_config_maps = ["of-{{ spawner.user.name }}"]
        return profile


profile_registry.register(Gpu)
""",
    ).parent
    document = run("dump", "--profiles-dir", folder, "--configurator-compat")
    (profile,) = yaml.safe_load(document)["profiles"]
    assert (profile["node_selector"], profile["cpu_limit"]) == ({"gpu": "true"}, 7)
    assert profile["pod_env_vars"] == {"WHO": "{{ username }}"}
    assert profile["env_from_config_maps"] == ["of-{{ username }}"]
    pods = [
        run.json("pod", "gpu", "-u", "ada", *words)["spec"]
        for words in (("--profiles-dir", folder, "--configurator-compat"), ("--documents", write("d.yaml", document)))
    ]
    assert pods[0]["containers"] == pods[1]["containers"]
    changes = ("--node-selector", "gpu:pool=yes", "--override", "gpu:cpu_limit=3")  # they count, and labels are added
    words = ("dump", "--profiles-dir", folder, "--configurator-compat", *changes)
    (profile,) = run.json(*words)["profiles"]
    assert (profile["node_selector"], profile["cpu_limit"]) == ({"gpu": "true", "pool": "yes"}, 3)
    result = run.result(*words, "--format", "configurator")
    assert "without --profiles, the configurator writes coder_app alone" in result.stderr
    (theirs,) = yaml.safe_load(result.stdout)["profiles"]
    assert theirs["node_selector"] == {"gpu": "true", "pool": "yes"}
    assert theirs["definition"]["kubespawner_override"]["cpu_limit"] == 3
    assert theirs["definition"]["kubespawner_override"]["mem_limit"] == "9G"
    assert [m["mount_path"] for m in theirs["config_maps"]] == ["/workspace/.bash_login"]
    assert [v["name"] for v in theirs["volumes"]] == ["workspace-volume"]
    roles = [b["role"]["name"] for b in theirs["role_bindings"]]
    assert roles == ["log-reader-role-gpu", "pod-manager-role-gpu", "pod-exec-role-gpu", "job-submitter-role-gpu"]
    assert theirs["env_from_config_maps"] == ["of-{{ spawner.user.name }}"]


# ------------------------------------------------------------------------------------------------ diff


def test_diff_says_what_changes_for_whom_object_by_object(run, write):
    """Fields of the pod and of files, options, audiences, added and removed profiles."""
    old = write("old/labs.py", (DEMO / "my_first.py").read_text())
    new = write(
        "new/labs.py",
        (DEMO / "my_first.py")
        .read_text()
        .replace("cpu_limit, mem_limit = 2", "allowed_groups = ['x']\n    cpu_limit, mem_limit = 3")
        .replace('"GREETING": "hello"', '"GREETING": "bye", "MORE": "1"'),
    )
    write("new/more.yaml", "slug: more\ndisplay_name: More\ndescription: ''\nimage: a:1\n")
    changes = run.json("diff", old.parent, new.parent, code=1)
    assert changes[0] == {
        "profile": "data-science",
        "change": "changed",
        "for": "groups: x",
        "object": "page",
        "field": "for",
        "old": "everybody",
        "new": "groups: x",
    }
    fields = {(c["object"], c["field"]): (c["old"], c["new"]) for c in changes if c["profile"] == "data-science"}
    assert fields["Pod jupyter-user", "spec.containers[notebook].resources.limits.cpu"] == ("2.0", "3.0")
    assert fields["Pod jupyter-user", "spec.containers[notebook].env[GREETING].value"] == ("hello", "bye")
    assert ("Pod jupyter-user", "spec.containers[notebook].env[MORE]") in fields
    assert changes[-1]["profile"] == "more"
    assert changes[-1]["change"] == "added"
    assert run("diff", old.parent, old.parent).strip() == "Nothing changes."
    assert run.json("diff", new.parent, old.parent, code=1)[-1]["change"] == "removed"


def test_diff_reads_revisions_of_a_repository(run, tmp_path, monkeypatch):
    """REVISION:PATH, as git writes it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "one.py").write_text((DEMO / "my_first.py").read_text())
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    (folder / "one.py").write_text((DEMO / "my_first.py").read_text().replace('"4G"', '"8G"'))
    (change, *_) = run.json("diff", "HEAD:profiles", "profiles", code=1)
    assert "memory" in change["field"] or "MEM" in change["field"]
    assert "git cannot give that state" in run("diff", "no-such-revision:profiles", "profiles", code=1)
    assert "no such file" in run("diff", "missing", "profiles", code=1)
    assert ROOT.exists()


async def test_diff_reads_the_config_map_of_a_running_hub(run, control_plane, namespace, tmp_path):
    """configmap/NAME, by a kubeconfig."""
    text = "slug: one\ndisplay_name: One\ndescription: ''\nimage: a:1\n"
    body = {"metadata": {"name": "profiles"}, "data": {"one.yaml": text}}
    await control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", namespace=namespace)
    (tmp_path / "new.yaml").write_text(text.replace("a:1", "a:2"))
    words = ("diff", "configmap/profiles", tmp_path / "new.yaml", "--kubeconfig", kubeconfig, "--output", "json")
    result = await run.aside(*words)
    fields = {c["field"]: c["new"] for c in yaml.safe_load(result.stdout)}
    assert result.exit_code == 1
    assert fields["spec.containers[notebook].image"] == "a:2"


def test_values_of_params_that_a_profile_does_not_set_stay_open(run, write):
    """Neither a default nor the example of a field that users must fill in becomes a value of the profile."""
    text = (
        "params:\n  team/code: {schema: {type: string, examples: [AB-1]}, user_settable: true}\n"
        "  lab/size: {default: 1}\n  lab/nodes: {default: {pool: a}}\n"
        "profiles:\n- {slug: lab, display_name: Lab, image: 'a:{{ lab/size }}', env: {CODE: '{{ team/code }}'},\n"
        "   node_selector: {$param: lab/nodes}}\n"
    )
    path = write("lab.yaml", text)
    (profile,) = yaml.safe_load(run("dump", "--documents", path))["profiles"]
    assert "params" not in profile
    assert profile["image"] == "a:{{ lab/size }}"
    said = run("dump", "--documents", path, "--node-selector", "lab:pool=b", code=1)
    assert "node_selector: is given by the param 'lab/nodes', and labels cannot be added to it" in said
    assert "0 errors" in run("validate", path)


HUB_FILE = """\
profiles:
  - id: profile_coder
    groups: [staff]
    definition:
      display_name: Code
      slug: coder
      default: false
      kubespawner_override: {cpu_limit: 2, mem_limit: 4G, image: "a:1"}
    node_selector: {}
    env_from_secrets: [shared, SECRET]
    image_pull_secrets: [{name: registry}]
    volumes:
      - name: calrissian-volume
        claim_name: calrissian-claim
        size: 5Gi
        storage_class: standard
        access_modes: [ReadWriteMany]
        volume_mount: {name: calrissian-volume, mount_path: /calrissian}
        persist: false
    role_bindings: ROLES
    manifests:
      - name: more
        key: more
        content:
          - {apiVersion: v1, kind: Service, metadata: {name: "redis-{{ spawner.user.name }}"},
             spec: {selector: {part: redis}, ports: [{port: 6379}]}}
          - {apiVersion: helm.crossplane.io/v1beta1, kind: Release, metadata: {name: dask}}
"""
ROLE = """
      - name: binding
        subjects: [{name: default, kind: ServiceAccount}]
        role: {name: role, resources: [pods/exec, jobs], verbs: ["*"], api_groups: ["", batch]}
"""


PRIVILEGED = """\
          - {apiVersion: apps/v1, kind: Deployment, metadata: {name: "docker-{{ spawner.user.name }}"},
             spec: {selector: {matchLabels: {part: docker}}, template: {metadata: {labels: {part: docker}},
             spec: {containers: [{name: docker, image: "docker:dind", securityContext: {privileged: true}}],
             volumes: [{name: cgroup, hostPath: {path: /sys/fs/cgroup}}]}}}}
"""


@pytest.mark.parametrize(
    ("secret", "roles", "more", "needed"),
    [
        ("other", "[]", "", {"data_policy": {"documents": {"secrets": ["other", "registry", "shared"]}}}),
        (
            "'workspace-{{ spawner.user.name }}'",
            ROLE,
            "",
            {
                "allowed_kinds": ["Role", "RoleBinding"],
                "user_namespace_rights": ["*", "pods/exec"],
                "data_policy": {"documents": {"unrestricted": True}},
            },
        ),
        (
            "other",
            "[]",
            PRIVILEGED,
            {
                "allowed_kinds": ["Deployment"],
                "pod_security": "privileged",
                "data_policy": {
                    "documents": {
                        "kinds": ["ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"],
                        "privileged": True,
                        "host_paths": ["/sys/fs/cgroup"],
                        "secrets": ["other", "registry", "shared"],
                    }
                },
            },
        ),
    ],
)
def test_a_file_of_the_application_hub_works_with_exactly_the_printed_settings(run, write, secret, roles, more, needed):
    """They are complete, each of them is needed, and what no setting allows is left out with a word."""
    path = write("config.yml", HUB_FILE.replace("SECRET", secret).replace("ROLES", roles) + more)
    target = path.parent / "profiles.yaml"
    result = run.result("import", "configurator", path, "-o", target)
    assert result.exit_code == 0, result.output
    assert "coder: Release dask is left out: profiles cannot create this kind" in result.stderr
    printed = [f"c.{setting}".rstrip() for setting in re.split(r"^c\.", result.stdout, flags=re.MULTILINE)[1:]]
    found = {}
    for line in printed:
        if line.startswith("c.ProfileSpawner.") and "profile_documents" not in line:
            name, _, value = line.removeprefix("c.ProfileSpawner.").partition(" = ")
            found[name] = ast.literal_eval(value)
    for names in found.get("data_policy", {}).values():
        names.update({k: sorted(v) for k, v in names.items() if isinstance(v, list)})
    assert found == needed
    config = write("jupyterhub_config.py", "\n".join(printed))
    assert run("validate", config) == "1 profile: 0 errors, 0 warnings\n"
    spec = run.json("pod", "coder", "-f", config, "-g", "staff", "-u", "ada")["spec"]
    assert "calrissian-claim" in [v.get("persistentVolumeClaim", {}).get("claimName") for v in spec["volumes"]]
    assert {"name": "CALRISSIAN_POD_NAME", "value": "jupyter-ada"} in spec["containers"][0]["env"]
    for name in found:
        less = [line for line in printed if f".{name} " not in line]
        assert run.result("validate", write("less.py", "\n".join(less))).exit_code == 1, name


def test_a_hub_whose_own_servers_are_privileged_needs_one_more_line(run, write):
    """As that of the ApplicationHub: the import cannot see it, and the refusal says which line."""
    path = write("config.yml", _plain_file())
    printed = run.result("import", "configurator", path, "-o", path.parent / "profiles.yaml").stdout
    config = write("config.py", f"{printed}c.KubeSpawner.privileged = True\n")
    words = ("pod", "coder", "-f", config, "-g", "staff", "-u", "ada")
    assert 'To allow it: c.ProfileSpawner.pod_security = "privileged"' in run(*words, code=1)
    write("config.py", f"{config.read_text()}c.ProfileSpawner.pod_security = 'privileged'\n")
    assert run.json(*words)["spec"]["containers"][0]["securityContext"]["privileged"] is True


def test_rights_to_enter_pods_need_namespaces_of_users(run, write):
    """Otherwise they reach the servers of all."""
    config = write("config.py", "c.ProfileSpawner.user_namespace_rights = ['pods/exec']\n")
    assert "user_namespace_rights: servers of several users share a namespace" in run("list", "-f", config, code=1)
    own = "c.KubeSpawner.enable_user_namespaces = True\n"
    for template, refused in (("shared", True), ("{hubnamespace}", True), ("lab-{username}", False)):
        text = f"{own}c.KubeSpawner.user_namespace_template = '{template}'\n{config.read_text()}"
        said = run("list", "-f", write("template.py", text), code=int(refused))
        assert ("servers of several users share a namespace" in said) is refused, template
    wrong = "c.KubeSpawner.enable_user_namespaces = True\nc.ProfileSpawner.user_namespace_rights = ['roles']\n"
    assert "can never be allowed to give this (got roles)" in run("list", "-f", write("w.py", wrong), code=1)


PLUG_IN = """\
from configurator.apps import profile_registry
from configurator.apps.base import BaseAppProfile
from configurator.models import *


class Coder(BaseAppProfile):
    slug = "Coder_2 App"
    display_name = description = "Code"
    image = "a:1"

    def get_default_volumes(self):
        mount = VolumeMount(name="Calrissian_Volume", mount_path="/calrissian")
        return [Volume(name="Calrissian_Volume", claim_name="Calrissian_Claim", size="5Gi", storage_class="standard",
                       access_modes=["ReadWriteMany"], volume_mount=mount, persist=False)]

    def get_config_maps(self):
        return [ConfigMap(name="My_Settings", key="x", content="x: 1", mount_path="/etc/x", readonly=True),
                ConfigMap(name="Site_Env", key="URL", content="http://s", readonly=True)]

    def get_env_config_maps(self):
        return ["Site_Env"]

    def get_image_pull_secrets(self):
        return [ImagePullSecret(name="Own_Registry", data="e30=")]

    def build(self):
        profile = super().build()
        assert profile.volumes[0].name == "Calrissian_Volume"
        mounts = [VolumeMount(name="Calrissian_Volume", mount_path="/c"),
                  InitContainerVolumeMount(name="My_Settings", mount_path="/x", sub_path="x")]
        profile.init_containers = [InitContainer(name="Copy_It", image="b:1", command=["cp"], volume_mounts=mounts)]
        return profile


profile_registry.register(Coder)
"""
ODD_NAMES = """\
    pod_env_vars: {URL_OF_SITE: {from_config_map: {name: Site_Env, key: URL}}}
    env_from_config_maps: [Site_Env]
    image_pull_secrets: [{name: Own_Registry, data: e30=}]
    config_maps:
      - {name: My_Settings, key: x, content: "x: 1", mount_path: /etc/x, readonly: true}
      - {name: Site_Env, key: URL, content: "http://s", readonly: true}
    init_containers:
      - name: Copy_It
        image: b:1
        command: [cp]
        volume_mounts:
          - {name: Calrissian_Volume, mount_path: /c}
          - {name: My_Settings, mount_path: /x, sub_path: x}
"""


def _plain_file():
    """Return a file of the ApplicationHub without the parts that need settings."""
    text = HUB_FILE.replace("    env_from_secrets: [shared, SECRET]\n    image_pull_secrets: [{name: registry}]\n", "")
    return text.replace("ROLES", "[]")


def test_slugs_and_names_are_mended_alike_for_plug_ins_and_imports(run, write):
    """Saved choices still find the profile, all names are those that Kubernetes takes, and references follow them."""
    write("plug-ins/coder.py", PLUG_IN)
    text = (
        _plain_file()
        .replace("slug: coder", "slug: Coder_2 App")
        .replace("    volumes:\n", f"{ODD_NAMES}    volumes:\n")
    )
    for name in ("calrissian-volume", "calrissian-claim"):
        text = text.replace(f"name: {name}", f"name: {name.title().replace('-', '_')}")
    path = write("config.yml", text)
    target = path.parent / "profiles.yaml"
    told = run.result("import", "configurator", path, "-o", target).stderr
    assert "no such" not in told
    plug_ins = ("--configurator-compat", "--profiles-dir", path.parent / "plug-ins")
    noted = run("validate", *plug_ins)
    for note in (
        "the slug 'Coder_2 App' becomes 'coder_2-app'; saved choices find it by the old one",
        "the name 'Calrissian_Volume' becomes 'calrissian-volume'",
        "the name 'Calrissian_Claim' becomes 'calrissian-claim'",
        "the name 'My_Settings' becomes 'my-settings'",
        "the name 'Site_Env' becomes 'site-env'",
        "the name 'Own_Registry' becomes 'own-registry'",
        "the name 'Copy_It' becomes 'copy-it'",
    ):
        assert note in told, told
        assert f"note: profile 'coder_2-app': {note}" in noted, noted
    policy = write("policy.py", "c.ProfileSpawner.data_policy = {'unrestricted': True}\n")
    for source in (("--documents", target, "-f", policy), plug_ins):
        spec = run.json("pod", "Coder_2 App", *source, "-g", "staff", "-u", "ada")["spec"]
        (volume,) = (v for v in spec["volumes"] if "persistentVolumeClaim" in v)
        assert volume["name"] == "calrissian-volume"
        assert volume["persistentVolumeClaim"]["claimName"].startswith("calrissian-claim-ada-")
        assert run.json("list", *source)[0]["slug"] == "coder_2-app"
        (init,), (container,) = spec["initContainers"], spec["containers"]
        assert init["name"] == "copy-it"
        assert {m["name"] for m in init["volumeMounts"]} <= {v["name"] for v in spec["volumes"]}
        (env_from,) = container["envFrom"]
        assert env_from["configMapRef"]["name"].startswith("site-env-")
        references = [v["valueFrom"] for v in container["env"] if v["name"] == "URL_OF_SITE"]
        assert [r["configMapKeyRef"]["name"] for r in references] == [env_from["configMapRef"]["name"]] * len(
            references
        )
        assert spec["imagePullSecrets"][0]["name"].startswith("own-registry-ada-")


def test_dots_in_names_of_claims_are_kept(run, write):
    """Kubernetes takes them, and the user's data are in the claim of this name."""
    path = write("config.yml", _plain_file().replace("claim_name: calrissian-claim", "claim_name: data.v2"))
    assert (
        yaml.safe_load(run.result("import", "configurator", path).stdout)["profiles"][0]["volumes"][0]["claim_name"]
        == "data.v2"
    )


SECOND = """\
  - groups: [staff]
    definition: {display_name: Two, slug: A-B, kubespawner_override: {cpu_limit: 1, mem_limit: 1G, image: "a:1"}}
"""
TWO = """\
from configurator.apps import profile_registry
from configurator.apps.base import BaseAppProfile
from configurator.models import *


class One(BaseAppProfile):
    slug = "a_b"
    display_name = description = "x"
    image = "a:1"

    def get_config_maps(self):
        return [ConfigMap(name=name, key="k", content=name, mount_path=f"/etc/{name}", readonly=True) for name in NAMES]


profile_registry.register(One)
"""


def test_two_names_that_are_mended_alike_are_one_error_that_names_both(run, write):
    """For slugs and names, in imported files and in plug-ins: none of the two silently wins."""
    both = "'My_Map' and 'my-map' both become 'my-map': rename one of the two (volume)"
    maps = "".join(f"{{name: {n}, key: k, content: x, mount_path: /etc/{n}}}, " for n in ("My_Map", "my-map"))
    names = _plain_file().replace("    volumes:\n", f"    config_maps: [{maps}]\n    volumes:\n")
    slugs = _plain_file().replace("slug: coder", "slug: A B") + SECOND
    for name, text, message in (
        ("names", names, f"profile 'coder': {both}"),
        ("slugs", slugs, "profile 'A-B': 'A B' and 'A-B' both become 'a-b': rename one of the two (slug)"),
        ("same", slugs.replace("A B", "A-B"), "the slug is used twice"),
    ):
        path = write(f"{name}/config.yml", text)
        said = run("import", "configurator", path, code=1)
        assert message in said, said
        assert said.startswith(f"Error: {path}:"), said
    folder = write("names/two.py", f"NAMES = ['My_Map', 'my-map']\n{TWO}").parent
    said = run("validate", "--configurator-compat", "--profiles-dir", folder, code=1)
    assert f"profile 'a_b': build(): config_maps.1: {both}" in said, said
    for slugs in (("A B", "A-B"), ("a-b", "A B")):
        folder = write(f"{slugs[0]}/none.py", "").parent
        for number, slug in enumerate(slugs):
            write(f"{folder.name}/p{number}.py", f"NAMES = []\n{TWO}".replace('"a_b"', f'"{slug}"'))
        said = run("validate", "--configurator-compat", "--profiles-dir", folder, code=1)
        assert "the slug is used twice: first at" in said, said
        assert all(f"where it is '{slug}'" in said for slug in slugs if slug != "a-b"), said


def test_a_document_gives_rights_to_enter_pods_only_where_its_policy_allows_it(run, write):
    """The hub's `user_namespace_rights` alone are for modules and documents of administrators."""
    path = write("config.yml", HUB_FILE.replace("[shared, SECRET]", "[]").replace("ROLES", ROLE))
    target = path.parent / "profiles.yaml"
    printed = run.result("import", "configurator", path, "-o", target).stdout
    assert run("validate", write("all.py", printed)) == "1 profile: 0 errors, 0 warnings\n"
    policy = {"documents": {"kinds": ["ConfigMap", "Service", "Role", "RoleBinding"], "secrets": ["registry"]}}
    less = "".join(f"{line}\n" for line in printed.splitlines() if "data_policy" not in line)
    said = run("validate", write("less.py", f"{less}c.ProfileSpawner.data_policy = {policy}\n"), code=1)
    assert "a document may give only rights to read" in said
    assert "role_bindings[0].role.resources" in said


def test_a_profile_for_no_user_is_imported_and_the_namespace_of_a_user_is_that_of_the_server(run, write):
    """Neither is an error: `groups: []` closes a profile there too, and the namespace has KubeSpawner's name."""
    text = _plain_file().replace("metadata: {name: ", 'metadata: {namespace: "jupyter-{{ spawner.user.name }}", name: ')
    text = text.replace("redis-{{ spawner.user.name }}", "redis-{{ spawner.user.escaped_name }}")
    path = write("config.yml", text + SECOND.replace("[staff]", "[]"))
    result = run.result("import", "configurator", path, "-o", path.parent / "profiles.yaml")
    assert result.exit_code == 0, result.output
    assert "a-b: groups is empty, so no user may use the profile" in result.stderr
    config = write("config.py", result.stdout)
    said = run("validate", config)
    assert "profile 'a-b': allowed_groups: no user may use this profile, so its pods are not checked" in said
    assert "2 profiles: 0 errors, 1 warning" in said
    objects = list(yaml.safe_load_all(run("manifests", "coder", "-f", config, "-g", "staff", "-u", "Ada")))
    assert [o["metadata"]["namespace"] for o in objects if o["kind"] == "Service"] == [
        o["metadata"]["namespace"] for o in objects if o["kind"] == "Pod"
    ]


def test_a_slug_of_which_none_can_be_made_is_refused(run, write):
    """With its line; an empty slug would be that of no profile."""
    path = write("config.yml", _plain_file().replace("slug: coder", "slug: 日本"))
    assert f"{path}:2: profile '日本': no slug can be made of '日本': it needs a-z or 0-9" in run(
        "import", "configurator", path, code=1
    )
