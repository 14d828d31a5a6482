"""Moving in: plain lists and the ApplicationHub's file, kept exactly or refused with the reason."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from profile_spawner.commands.importing import _combinations
from profile_spawner.commands.output import as_yaml
from profile_spawner.sources.chart_values import sorted_by_helm
from tests.spawner.test_upstream_parity import CORPUS, profiles

from .conftest import CommandLine

LISTS = {name: entries for name, entries in CORPUS.items() if name != "callables"}
FORMS = {
    "values": lambda entries: {"singleuser": {"profileList": entries}, "hub": {"config": {}}},
    "umbrella": lambda entries: {"basehub": {"jupyterhub": {"singleuser": {"profileList": entries}}}},
    "helm-release": lambda entries: {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "spec": {"values": {"jupyterhub": {"singleuser": {"profileList": entries}}}},
    },
    "argo": lambda entries: {
        "kind": "Application",
        "spec": {"source": {"helm": {"values": as_yaml({"singleuser": {"profileList": entries}})}}},
    },
    "argo-sources": lambda entries: {
        "kind": "List",
        "items": [
            {"spec": {"sources": [{"helm": {"values": as_yaml({"x": {"singleuser": {"profileList": entries}}})}}]}}
        ],
    },
    "config-map": lambda entries: {
        "kind": "ConfigMap",
        "metadata": {"name": "jupyterhub-values"},
        "data": {"values.yaml": as_yaml({"singleuser": {"profileList": entries}})},
    },
    "extra-config": lambda entries: {"hub": {"config": {"KubeSpawner": {"profile_list": entries}}}},
    "bare": lambda entries: list(entries.values()) if isinstance(entries, dict) else entries,
}


@pytest.mark.parametrize("target", ["yaml", "python"])
@pytest.mark.parametrize("name", LISTS)
def test_every_feature_of_a_list_makes_the_same_pods(run, write, name, target):
    """The corpus of KubeSpawner's documentation, all combinations of choices, into both forms."""
    path = write("values.yaml", as_yaml(FORMS["values"](LISTS[name])))
    result = run.result("import", "profile-list", path, "--as", target, "--verify")
    assert result.exit_code == 0, result.output
    assert "all are the same" in result.stderr


@pytest.mark.parametrize("form", FORMS)
def test_a_list_is_found_wherever_it_is_kept(run, write, form):
    """In values at any depth, in the custom resources of GitOps, as text in a ConfigMap, on its own."""
    path = write("file.yaml", as_yaml(FORMS[form](LISTS["options"])))
    imported = yaml.safe_load(run.result("import", "profile-list", path).stdout)
    assert imported == {"profile_list": json.loads(json.dumps(LISTS["options"]))}


def test_a_configuration_with_a_static_list_moves_in_with_its_other_settings(run, write):
    """Pods are compared under the hub's own volumes and environment."""
    path = write(
        "jupyterhub_config.py",
        "c.KubeSpawner.volumes = [{'name': 'home', 'emptyDir': {}}]\n"
        "c.KubeSpawner.environment = {'A': 'hub'}\n"
        f"c.KubeSpawner.profile_list = {LISTS['everything']!r}\n",
    )
    for target in ("yaml", "python"):
        result = run.result("import", "profile-list", path, "--verify", "--as", target)
        assert result.exit_code == 0, result.output


def test_a_function_is_refused_with_the_way_out_and_the_rest_is_kept(run, write):
    """Never half an entry."""
    path = write(
        "jupyterhub_config.py",
        "c.KubeSpawner.profile_list = [\n"
        "    {'display_name': 'Fixed', 'slug': 'fixed', 'kubespawner_override': {'image': 'a:1'}},\n"
        "    {'display_name': 'Made', 'kubespawner_override': {'image': lambda spawner: 'b:1'}},\n"
        "]\n",
    )
    result = run.result("import", "profile-list", path)
    assert result.exit_code == 1
    assert [e["slug"] for e in yaml.safe_load(result.stdout)["profile_list"]] == ["fixed"]
    assert f"{path}:3" in result.stderr
    assert "kubespawner_override.image is a function" in result.stderr
    whole = write("whole.py", "c.KubeSpawner.profile_list = lambda spawner: []\n")
    assert "only a static list" in run("import", "profile-list", whole, code=1)


WRONG = """\
singleuser:
  profileList:
    - display_name: Good
      kubespawner_override: {image: a:1}
    - slug: nameless
      kubespawner_override: {image: a:1}
    - just a text
    - display_name: Bad choices
      slug: bad
      profile_options:
        size: {display_name: Size, choices: [a, b]}
    - display_name: Suspicious
      slug: suspicious
      kubespawner_override: {image: a:1, mem_limit: 2, cpu_limt: 1}
      image: b:1
"""


def test_wrong_entries_are_refused_and_suspicious_ones_told_with_their_lines(run, write):
    """What cannot be kept exactly is named; what looks wrong is kept as it is."""
    path = write("values.yaml", WRONG)
    result = run.result("import", "profile-list", path)
    assert result.exit_code == 1
    kept = yaml.safe_load(result.stdout)["profile_list"]
    assert [e["display_name"] for e in kept] == ["Good", "Suspicious"]
    assert kept[1] == yaml.safe_load(WRONG)["singleuser"]["profileList"][4]
    for line, word in ((5, "display_name"), (7, "must be a mapping"), (8, "choices")):
        assert any(f"{path}:{line}" in row and word in row for row in result.stderr.splitlines()), (line, result.stderr)
    assert f"{path}:14: warning: profile 'suspicious': kubespawner_override.mem_limit" in result.stderr
    assert f"{path}:15: warning: profile 'suspicious': image: has no effect here" in result.stderr


GPU = """\
umbrella:
  jupyterhub:
    singleuser:
      profileList:
        - display_name: GPU
          slug: gpu
          profile_options:
            stack:
              display_name: Stack
              choices:
                torch_10: {display_name: Ten, kubespawner_override: {image: "torch:10", environment: {BY: stack}}}
                torch_9: {display_name: Nine, kubespawner_override: {image: "torch:9"}}
                keras: {display_name: Keras, kubespawner_override: {image: "keras:1"}}
            base:
              display_name: Base
              choices:
                "22": {display_name: B, kubespawner_override: {environment: {BY: base}}}
"""


def test_values_count_in_the_order_in_which_helm_hands_them_to_the_hub(run, write):
    """Another choice is the default than the first one of the file, and another option comes last; both are told."""
    path = write("values.yaml", GPU)
    result = run.result("import", "profile-list", path, "--verify")
    (entry,) = yaml.safe_load(result.stdout)["profile_list"]
    assert list(entry["profile_options"]) == ["base", "stack"]
    assert list(entry["profile_options"]["stack"]["choices"]) == ["keras", "torch_9", "torch_10"]
    assert f"{path}:8: warning: profile 'gpu': profile_options.stack: no choice is marked" in result.stderr
    assert "'keras', since Helm sorts keys, not 'torch_10'" in result.stderr
    document = write("profiles.yaml", result.stdout)
    for options in ([f"--config={path}"], [f"--documents={document}"], [f"--documents={path}"]):
        (container,) = run.json("pod", "gpu", *options)["spec"]["containers"]
        assert container["image"] == "keras:1"
        (container,) = run.json("pod", "gpu", *options, "-o", "stack=torch_10")["spec"]["containers"]
        assert {"name": "BY", "value": "stack"} in container["env"]


def test_a_python_configuration_keeps_its_own_order(run, write):
    """No Helm has had its hands on it."""
    listed = yaml.safe_load(GPU)["umbrella"]["jupyterhub"]["singleuser"]["profileList"]
    path = write("jupyterhub_config.py", f"c.KubeSpawner.profile_list = {listed!r}\n")
    result = run.result("import", "profile-list", path)
    (entry,) = yaml.safe_load(result.stdout)["profile_list"]
    assert list(entry["profile_options"]["stack"]["choices"]) == ["torch_10", "torch_9", "keras"]
    assert "Helm" not in result.stderr


def test_keys_are_sorted_as_helm_sorts_them():
    """Signs before letters, numbers by their value, and no shorter key after its longer one."""
    keys = ["1-b", "01-a", "mem", "mem_1_9", "mem_3_7", "mem_14_8", "mem_121_2", "mema", "pytorch", "tensorflow"]
    assert [key for key, _ in sorted_by_helm(dict.fromkeys(reversed(keys)))] == keys


TYPED = """\
profile_list:
  - display_name: A
    slug: a
    profile_options:
      image:
        display_name: Image
        choices: {one: {display_name: One, kubespawner_override: {image: "one:1"}}}
        unlisted_choice:
          enabled: true
          validation_regex: PATTERN
          kubespawner_override: {image: "{value}"}
"""


@pytest.mark.parametrize(
    ("pattern", "whole"),
    [
        ("^quay.io/", "^quay.io/.*"),
        ("quay|main", "(?:quay|main).*"),
        ("(?i)QUAY|m[|]", "(?i)(?:QUAY|m[|]).*"),
        ("^.+:.+$", None),
        ("^.+:.+", None),
        (r"^[a-z]+\$", r"^[a-z]+\$.*"),
        ("^quay$|^main$", None),
        ("(quay|main)$", None),
    ],
)
def test_a_pattern_that_kubespawner_matches_with_the_beginning_means_the_same_here(run, write, pattern, whole):
    """Here a whole text must match. What is written differently is told, and the pods prove it."""
    path = write("list.yaml", TYPED.replace("PATTERN", json.dumps(pattern)))
    result = run.result("import", "profile-list", path, "--verify")
    typed = yaml.safe_load(result.stdout)["profile_list"][0]["profile_options"]["image"]["unlisted_choice"]
    assert typed["validation_regex"] == (whole or pattern)
    assert result.exit_code == 0, result.output
    assert (f"{path}:10: warning" in result.stderr) == (whole is not None)
    rules = {f["rule"] for f in run.json("validate", path)}
    assert rules == ({"open-pattern"} if whole else set())
    for text in ("quay.io/x:1", "main", "mai", "abc$", "abc$d", "M|x"):
        assert bool(re.match(pattern, text)) == bool(re.fullmatch(whole or pattern, text)), text


def test_what_is_not_compared_is_told(run, write):
    """Typed values without an example, and combinations beyond the bound; each choice is compared all the same."""
    path = write("list.yaml", TYPED.replace("PATTERN", "^zz-[0-9]{9}$"))
    result = run.result("import", "profile-list", path, "--verify")
    assert "Not compared: a: values that users type for image: none of some usual ones matches" in result.stderr
    assert "all are the same, but not all could be compared" in result.stderr
    three = {c: {"display_name": c, "kubespawner_override": {}} for c in "abc"}
    options = {f"o{n}": {"display_name": "O", "choices": three} for n in range(6)}
    chosen, left_out = _combinations({"profile_options": options})
    assert left_out == ["217 of 729 combinations; every choice alone was"]
    assert {(k, v) for one in chosen for k, v in one.items()} == {(o, c) for o in options for c in three}


POWERFUL = """\
profile_list:
  - display_name: Runner
    slug: runner
    kubespawner_override:
      image: a:1
      service_account: runner
      extra_pod_config: {hostNetwork: true}
      volumes:
        - {name: keys, secret: {secretName: keys}}
        - {name: data, hostPath: {path: /data}}
"""


def test_what_the_data_policy_must_allow_is_told_with_the_line_and_the_policy(run, write):
    """A configuration may do what a document may not. With what is told, the document is loaded."""
    path = write("list.yaml", POWERFUL)
    result = run.result("import", "profile-list", path, "--verify")
    assert result.exit_code == 0, result.output
    for line, policy in (
        (6, '{"service_accounts": ["runner"]}'),
        (7, '{"override_keys": ["extra_pod_config"]}'),
        (7, '{"unrestricted": True}'),
        (9, '{"secrets": ["keys"]}'),
        (10, '{"host_paths": ["/data"]}'),
    ):
        assert any(f"{path}:{line}: " in row and policy in row for row in result.stderr.splitlines()), result.stderr
    assert "1 of them are loaded only when" in result.stderr
    assert "policy" not in run.result("import", "profile-list", path, "--as", "python").stderr
    listed = yaml.safe_load(POWERFUL)["profile_list"]
    config = write(
        "jupyterhub_config.py",
        f"c.KubeSpawner.profile_list = {listed!r}\nc.ProfileSpawner.data_policy = {{'unrestricted': True}}\n",
    )
    assert "policy" not in run.result("import", "profile-list", config).stderr


def test_teams_become_groups_and_never_nobodys_business(run, write):
    """A list with allowed_teams is imported for the same people, and refused as a document."""
    teams = POWERFUL.replace("    kubespawner_override:", "    allowed_teams: [org:gpu]\n    kubespawner_override:")
    path = write("list.yaml", teams)
    result = run.result("import", "profile-list", path)
    (entry,) = yaml.safe_load(result.stdout)["profile_list"]
    assert entry["allowed_groups"] == ["org:gpu"]
    assert "allowed_teams" not in entry
    assert f"{path}:4: warning: profile 'runner': allowed_teams: is written as allowed_groups" in result.stderr
    findings = run.json("validate", path, code=1)
    assert {f["rule"] for f in findings} == {"profile-definition", "open-to-everybody"}
    assert {f["line"] for f in findings} == {4}
    both = write("both.yaml", teams.replace("allowed_teams", "allowed_groups: [a]\n    allowed_teams"))
    result = run.result("import", "profile-list", both)
    assert result.exit_code == 1
    assert f"{both}:5: profile 'runner': allowed_teams: names allowed_teams and allowed_groups" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("singleuser: {}\n", "there is no profile list in it"),
        ("a: [1, 2\n", "values.yaml:2"),
        ("a: 1\na: 2\n", "twice"),
        ("singleuser:\n\tprofileList: []\n", "values.yaml:2"),
        ("!!python/object:os.system {}\n", "tag"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_line(run, write, text, message):
    """Nothing is guessed."""
    assert message in run("import", "profile-list", write("values.yaml", text), code=1)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=profiles)
def test_any_list_that_kubespawner_takes_moves_in(tmp_path_factory, entries):
    """Whatever the list: as a document and as classes the pods are KubeSpawner's own."""
    folder = tmp_path_factory.mktemp("any")
    text = as_yaml({"singleuser": {"profileList": entries}})
    assume(not re.search(r"image: .*\$\(", text))  # no image has such a name, and a typed one is kept from meaning this
    (folder / "values.yaml").write_text(text)
    for target in ("yaml", "python"):
        words = ("import", "profile-list", folder / "values.yaml", "--verify", "--as", target)
        result = CommandLine().result(*words)
        assert result.exit_code == 0, (entries, result.output)


# ------------------------------------------------------------------------------------------------ ApplicationHub

HUB: dict[str, Any] = {
    "profiles": [
        {
            "id": "profile_coder_app",
            "groups": ["group-a", "group-b"],
            "definition": {
                "display_name": "Code Server",
                "description": "For development",
                "slug": "coder_app",
                "default": False,
                "kubespawner_override": {
                    "cpu_guarantee": 1,
                    "cpu_limit": 2,
                    "mem_guarantee": "4G",
                    "mem_limit": "6G",
                    "image": "example/coder:1",
                    "extra_resource_limits": {"nvidia.com/gpu": 1},
                    "extra_resource_guarantees": {},
                },
            },
            "default_url": "/coder",
            "node_selector": {"pool": True, "gpu": "yes"},
            "pod_env_vars": {
                "HOME": "/workspace",
                "WHO": "{{ spawner.user.name }}",
                "WHERE": "{{ namespace }}",
                "ODD": "{{ spawner.environment }}",
                "FROM": {"from_config_map": {"name": "settings", "key": "url"}},
            },
            "volumes": [
                {
                    "name": "workspace-volume",
                    "claim_name": "workspace-claim",
                    "size": "20Gi",
                    "storage_class": "standard",
                    "access_modes": ["ReadWriteOnce"],
                    "volume_mount": {"name": "workspace-volume", "mount_path": "/workspace"},
                    "persist": True,
                },
                {
                    "name": "scratch-volume",
                    "claim_name": "scratch-claim",
                    "size": "50Gi",
                    "storage_class": "nfs",
                    "access_modes": ["ReadWriteMany"],
                    "volume_mount": {"name": "scratch-volume", "mountPath": "/scratch"},
                    "persist": False,
                },
            ],
            "config_maps": [
                {
                    "name": "bash-rc-coder-app",
                    "key": "bash-rc",
                    "mount_path": "/workspace/.bashrc",
                    "default_mode": "0660",
                    "readonly": True,
                    "content": "alias ll='ls -l'\n",
                    "persist": False,
                },
                {
                    "name": "init-coder-app",
                    "key": "init",
                    "mount_path": "/opt/init/.init.sh",
                    "default_mode": "0660",
                    "readonly": True,
                    "content": "mkdir -p /workspace/x\n",
                    "persist": False,
                },
            ],
            "init_containers": [
                {
                    "name": "init-file-on-volume",
                    "image": "example/coder:1",
                    "command": ["sh", "-c", "sh /opt/init/.init.sh"],
                    "volume_mounts": [
                        {"name": "workspace-volume", "mount_path": "/workspace"},
                        {"name": "init-coder-app", "mount_path": "/opt/init/.init.sh", "sub_path": "init"},
                    ],
                },
                {"name": "second", "image": "busybox:1", "command": ["true"], "volume_mounts": []},
            ],
            "role_bindings": [
                {
                    "name": "pods",
                    "subjects": [{"name": "default", "kind": "ServiceAccount"}],
                    "role": {"name": "pods", "resources": ["services"], "verbs": ["get", "list"], "api_groups": [""]},
                    "persist": False,
                }
            ],
            "image_pull_secrets": [{"name": "registry", "persist": True}],
            "manifests": [
                {
                    "name": "service",
                    "key": "service",
                    "persist": False,
                    "content": [
                        {
                            "apiVersion": "v1",
                            "kind": "Service",
                            "metadata": {"name": "s-{{ spawner.user.escaped_name }}"},
                            "spec": {"ports": [{"port": 80}]},
                        },
                        None,
                    ],
                }
            ],
            "env_from_config_maps": ["shared-settings"],
            "env_from_secrets": ["shared-secret"],
            "secret_mounts": [{"name": "keys", "mount_path": "/keys", "sub_path": "id"}],
        },
        {
            "id": "profile_bare",
            "groups": ["group-a"],
            "definition": {
                "display_name": "Without volumes",
                "slug": "bare",
                "default": True,
                "kubespawner_override": {"cpu_limit": 1, "mem_limit": "1G", "image": "example/bare:1"},
            },
            "node_selector": {},
            "image_pull_secrets": [{"name": "registry"}],
            "configMaps": [],
        },
    ]
}
POLICY = (
    "c.ProfileSpawner.allowed_kinds = ['Role', 'RoleBinding']\n"
    "c.ProfileSpawner.data_policy = {'secrets': ['registry', 'shared-secret', 'keys'],\n"
    "    'service_accounts': ['default'],\n"
    "    'kinds': ['ConfigMap', 'PersistentVolumeClaim', 'Service', 'Role', 'RoleBinding']}\n"
)


def test_the_application_hubs_file_moves_in_complete(run, write):
    """Every field of it is in the pod or among its objects."""
    path = write("config.yml", yaml.safe_dump(HUB))
    document = write("profiles.yaml", "").parent / "profiles.yaml"
    result = run.result("import", "configurator", path, "-o", document)
    assert result.exit_code == 0, result.output
    assert "'configMaps' is not known and left out; did you mean 'config_maps'" in result.stderr
    assert "{{ spawner.environment }} has no counterpart" in result.stderr
    config = write("config.py", f"c.ProfileSpawner.profile_documents = [{str(document)!r}]\n{POLICY}")
    assert "0 errors" in run("validate", "-f", config)
    found = list(
        yaml.safe_load_all(run("manifests", "coder_app", "-f", config, "-u", "ada", "-g", "group-b", "--show-secrets"))
    )
    pod = next(d for d in found if d["kind"] == "Pod")
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    env = {v["name"]: v for v in container["env"]}
    assert env["WHO"]["value"] == "ada"
    assert env["WHERE"]["value"] == "default"
    assert env["ODD"]["value"] == "{{ spawner.environment }}"
    assert env["FROM"]["valueFrom"]["configMapKeyRef"] == {"name": "settings", "key": "url"}
    assert container["image"] == "example/coder:1"
    assert container["resources"]["limits"] == {"cpu": 2.0, "memory": 6 * 2**30, "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == {"cpu": 1.0, "memory": 4 * 2**30}
    assert spec["nodeSelector"] == {"pool": "true", "gpu": "yes"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"configMapRef": {"name": "shared-settings"}} in container["envFrom"]
    assert {"secretRef": {"name": "shared-secret"}} in container["envFrom"]
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert {"/workspace", "/scratch", "/workspace/.bashrc", "/keys"} <= set(mounts)
    assert mounts["/keys"]["subPath"] == "id"
    assert [c["name"] for c in spec["initContainers"]] == ["init-file-on-volume", "second"]
    kinds = sorted(d["kind"] for d in found)
    assert kinds == [
        "ConfigMap",
        "PersistentVolumeClaim",
        "PersistentVolumeClaim",
        "Pod",
        "Role",
        "RoleBinding",
        "Service",
    ]
    (files,) = [d for d in found if d["kind"] == "ConfigMap"]
    assert {"alias ll='ls -l'\n", "mkdir -p /workspace/x\n"} <= set(files["data"].values())
    assert next(d for d in found if d["kind"] == "Service")["metadata"]["name"] == "s-ada"
    # The ApplicationHub itself forgets these for a profile without volumes.
    bare = run.json("pod", "bare", "-f", config, "-g", "group-a")
    assert bare["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert "There is no profile bare for you" in run("pod", "bare", "-f", config, "-g", "group-b", code=1)


BY_HAND = """\
profiles:
  - id: profile_by_hand
    groups: [group-a]
    definition:
      display_name: By hand
      slug: by_hand
      default: false
      kubespawner_override: {cpu_limit: 4, mem_limit: 8G, image: "example/lab:1"}
    default_url: lab
    node_selector: {}
    pod_env_vars: {A: 10}
    volumes:
      - name: work
        claim_name: work
        size: 10Gi
        storage_class: fast
        access_modes: [ReadWriteOnce]
        volume_mount: {name: work, mount_path: /work}
        persist: true
    config_maps:
      - {name: credentials, key: credentials, mount_path: /home/x/.credentials, default_mode: 0660, readonly: true}
      - {name: tool, key: tool, mount_path: /usr/bin/tool, default_mode: 0755, readonly: true, content: "echo tool"}
      - {name: init, key: init, mount_path: /opt/init/.init.sh, default_mode: null, content: git clone x}
    init_containers:
      - name: init-file-on-volume
        image: example/git:1
        command: [sh, /opt/init/.init.sh]
        volume_mounts:
          - {name: work, mount_path: /work}
          - {name: credentials, mount_path: /credentials, sub_path: credentials}
          - {name: init, mount_path: /opt/init/.init.sh, sub_path: init}
    role_bindings:
      - name: pod_reader_binding
        subjects: [{name: default, kind: ServiceAccount, namespace: elsewhere}]
        role: {name: pod_reader, api_group: rbac.authorization.k8s.io, verbs: [get], resources: [services]}
        persist: false
    manifests:
      - name: my_service-by-hand
        key: service
        persist: false
        content: |
          ---
          apiVersion: v1
          kind: Service
          metadata: {name: "s-{{ spawner.user.name }}"}
          spec: {ports: [{port: 80}]}
          ---
"""


def test_files_written_by_hand_move_in(run, write):
    """Existing ConfigMaps, modes without quotes, a path without a slash, own init containers, manifests as text."""
    document = write("profiles.yaml", "")
    result = run.result("import", "configurator", write("config.yml", BY_HAND), "-o", document)
    assert result.exit_code == 0, result.output
    assert "role: 'api_group' is not known and left out; did you mean 'api_groups'?" in result.stderr
    assert "subjects: 'namespace' is not known and left out" in result.stderr
    config = write("config.py", f"c.ProfileSpawner.profile_documents = [{str(document)!r}]\n{POLICY}")
    assert "0 errors" in run("validate", "-f", config)
    found = list(yaml.safe_load_all(run("manifests", "by_hand", "-f", config, "-u", "ada", "-g", "group-a")))
    spec = next(d for d in found if d["kind"] == "Pod")["spec"]
    (container,), (init,) = spec["containers"], spec["initContainers"]
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["credentials"]["configMap"] == {"name": "credentials", "defaultMode": 0o660}
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert (mounts["/home/x/.credentials"]["name"], mounts["/home/x/.credentials"]["subPath"]) == ("credentials",) * 2
    packed = volumes[mounts["/usr/bin/tool"]["name"]]["configMap"]
    assert [i["mode"] for i in packed["items"] if i["path"] == mounts["/usr/bin/tool"]["subPath"]] == [0o755]
    (files,) = [d["data"] for d in found if d["kind"] == "ConfigMap"]
    # The container's own image and command, with the script out of the packed files.
    assert (init["image"], init["command"]) == ("example/git:1", ["sh", "/opt/init/.init.sh"])
    inside = {m["mountPath"]: m for m in init["volumeMounts"]}
    assert (inside["/work"]["name"], inside["/credentials"]["name"]) == ("work", "credentials")
    assert inside["/opt/init/.init.sh"]["name"] == mounts["/usr/bin/tool"]["name"]
    assert files[inside["/opt/init/.init.sh"]["subPath"]] == "git clone x"
    env = {v["name"]: v.get("value") for v in container["env"]}
    assert (env["A"], env["JUPYTERHUB_DEFAULT_URL"]) == ("10", "/lab")
    (role,) = [d for d in found if d["kind"] == "Role"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]
    assert [d["metadata"]["name"] for d in found if d["kind"] == "Service"] == ["s-ada"]


def test_an_import_that_does_not_load_is_told(run, write):
    """With the line of the document that was written, and exit code 1."""
    wrong = BY_HAND.replace("mem_limit: 8G", "mem_limit: lots").replace("size: 10Gi", "size: big")
    document = write("profiles.yaml", "")
    result = run.result("import", "configurator", write("config.yml", wrong), "-o", document)
    assert result.exit_code == 1
    (line,) = [n for n, text in enumerate(document.read_text().splitlines(), 1) if "big" in text]
    assert f"{document}:{line}: profile 'by_hand': volumes[0].size" in result.stderr
    assert "1 profiles imported, 1 problems" in result.stderr
    # Fields without references keep no template without a word. JupyterHub itself inserts names into one of them.
    user, literal = "{{ spawner.user.name }}", "{{ '{{' }} username }}"
    for before, after in (
        ("name: By hand", f'name: "Lab of {user}"\n      description: "{literal} ${{{{ namespace }}}}"'),
        ("default_url: lab", f'default_url: "lab/{user}"'),
        ("node_selector: {}", f'node_selector: {{of: "{user}"}}'),
        ("{A: 10}", f'{{A: "{literal}", B: "${user}", C: "{user}{{% if x %}}"}}'),
        ("persist: true", 'persist: true\n        annotations: {of: "{{ namespace }}"}'),
        ("subjects: [{name: default", f'subjects: [{{name: "{user}"'),
    ):
        assert before in BY_HAND
        wrong = (BY_HAND if before == "name: By hand" else wrong).replace(before, after)
    result = run.result("import", "configurator", write("config.yml", wrong), "-o", document)
    assert result.exit_code == 1
    told = [
        line.partition(": profile 'by_hand': ")[2] for line in result.stderr.splitlines() if "not filled in" in line
    ]
    assert "by_hand: {% beside a template has no counterpart and stays as it is" in result.stderr
    fields = ["display_name", "description", "node_selector.of", "environment.B"]
    assert [line.partition(": ")[0] for line in told[:4]] == fields
    assert told[4].startswith("PersistentVolumeClaim work.metadata.annotations.of: ")
    assert told[5].startswith("RoleBinding ")
    assert ".subjects[0].name: " in told[5]
    assert "1 profiles imported, 6 problems" in result.stderr
    (written,) = yaml.safe_load(document.read_text())["profiles"]
    assert written["kubespawner_override"]["default_url"] == "/lab/{username}"
    again = yaml.safe_load(run("dump", "--documents", document, "--format", "configurator"))
    assert again["profiles"][0]["default_url"] == "/lab/{username}"


def test_what_is_written_for_the_application_hub_reads_the_same(run, write):
    """`dump --format configurator` and `import configurator` are each other's inverse for what that file can say."""
    first = write("config.yml", run("dump", "--profiles", "jupyterlab_small,coder_app", "--format", "configurator"))
    document = first.parent / "profiles.yaml"
    run("import", "configurator", first, "-o", document)
    again = run("dump", "--documents", document, "--format", "configurator")
    one, two = yaml.safe_load(first.read_text()), yaml.safe_load(again)
    for before, after in zip(one["profiles"], two["profiles"], strict=True):
        before.pop("config_maps"), after.pop("config_maps")
        for side in (before, after):
            side["pod_env_vars"].pop("HOME", None)
            side.pop("init_containers")
        assert before == after


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profiles": {}}, "this is not a configuration of the ApplicationHub"),
        ({"profiles": [{"id": "x"}]}, "has no definition"),
        (
            {"profiles": [{"definition": {"display_name": "A", "slug": "a", "kubespawner_override": {}}}]},
            "has no image",
        ),
        ({"profiles": [{**HUB["profiles"][1], "volumes": {}}]}, "must be a list"),
        ({"profiles": [HUB["profiles"][1]] * 2}, "the slug is used twice"),
        ({"profiles": [{**HUB["profiles"][1], "volumes": [{"name": "x"}]}]}, "a part is not what it should be"),
    ],
)
def test_a_wrong_file_of_the_application_hub_is_refused(run, write, change, message):
    """With what is wrong; nothing is written."""
    path = write("config.yml", yaml.safe_dump(change))
    target = path.parent / "out.yaml"
    assert message in run("import", "configurator", path, "-o", target, code=1)
    assert not target.exists()


LISTED = "c.KubeSpawner.profile_list = [{'display_name': 'A', 'kubespawner_override': {'image': 'a:1'}}]"
CODE = {
    "extra-config": {"hub": {"extraConfig": {"profile_list": LISTED}}},
    "failing": {"hub": {"extraConfig": {"a": f"import a_module_of_the_hub\n{LISTED}"}}},
    "extra-files": {
        "hub": {
            "extraFiles": {
                "a": {"mountPath": "/usr/local/etc/jupyterhub/jupyterhub_config.d/a.py", "stringData": LISTED}
            }
        }
    },
    "config-map": {"kind": "ConfigMap", "apiVersion": "v1", "data": {"jupyterhub_config.py": LISTED}},
    "also-static": {"hub": {"extraConfig": {"a": LISTED}}, "singleuser": {"profileList": [{"display_name": "B"}]}},
}


@pytest.mark.parametrize("form", CODE)
def test_a_list_that_code_sets_is_imported(run, write, form):
    """The chart's own code, files of the hub and ConfigMaps; of several lists the one that the hub has."""
    path = write("values.yaml", as_yaml(CODE[form]))
    result = run.result("import", "profile-list", path, "--verify")
    assert result.exit_code == 0, result.stderr
    assert [entry["display_name"] for entry in yaml.safe_load(result.stdout)["profile_list"]] == ["A"]
    assert "1 pods compared with KubeSpawner's own: all are the same" in result.stderr
    assert ("a_module_of_the_hub" in result.stderr) is (form == "failing")


PARTS = {
    "of a function": "def f(spawner):\n    return [{'display_name': 'A', 'kubespawner_override': {}}]\n"
    "import a_module_of_the_hub\nc.KubeSpawner.profile_list = f\n",
    "of a function that is not called": "def add(c):\n    c.KubeSpawner.profile_list = [{'display_name': 'A'}]\n",
    "of two branches": "import a_module_of_the_hub\nif a_module_of_the_hub.x:\n"
    "    c.KubeSpawner.profile_list = [{'display_name': 'A'}]\n",
    "that are changed": "import a_module_of_the_hub\nc.KubeSpawner.profile_list = [{'display_name': 'A'}]\n"
    "c.KubeSpawner.profile_list.append({'display_name': 'B'})\n",
    "with a name": "import a_module_of_the_hub\n"
    "listed = [{'display_name': 'A'}]\nc.KubeSpawner.profile_list = listed\n",
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_a_list_are_not_imported(run, write, name):
    """What code makes of them that cannot be run, or is not, is not known."""
    path = write("jupyterhub_config.py", PARTS[name])
    target = path.parent / "out.yaml"
    said = run("import", "profile-list", path, "-o", target, "--verify", code=1)
    assert f"{path}:{1 + max(n for n, line in enumerate(PARTS[name].splitlines()) if 'profile_list' in line)}: " in said
    assert "its parts are not imported" in said
    assert not target.exists()


def test_of_a_list_that_is_written_down_whole_entries_are_refused_and_none_is_left_out(run, write):
    """The code that sets it cannot be run."""
    path = write(
        "jupyterhub_config.py",
        "import a_module_of_the_hub\nCOMMON = {'image': 'a:1'}\nc.KubeSpawner.profile_list = [\n"
        "    {'display_name': 'A', 'kubespawner_override': {'image': 'a:1'}},\n"
        "    {'display_name': 'B', 'kubespawner_override': COMMON},\n"
        "    {'display_name': 'C', **COMMON},\n"
        "    COMMON,\n]\n",
    )
    result = run.result("import", "profile-list", path, "--verify")
    assert result.exit_code == 1
    assert [entry["display_name"] for entry in yaml.safe_load(result.stdout)["profile_list"]] == ["A"]
    for line in (5, 6, 7):
        assert f"{path}:{line}: profile_list[{line - 4}]: is made by code that cannot be run here" in result.stderr
    assert "Not compared: the profiles that are refused above\n" in result.stderr
    assert "all are the same, but not all could be compared" in result.stderr


@pytest.mark.parametrize("changed", [True, False])
def test_code_that_may_change_a_list_and_cannot_be_run_is_told(run, write, changed):
    """The list as it is before is imported; other code that cannot be run is only left out of the comparison."""
    code = "import a_module_of_the_hub\n" + ("c.KubeSpawner.profile_list.pop()\n" if changed else "")
    data = {"singleuser": {"profileList": [{"display_name": "A"}]}, "hub": {"extraConfig": {"later": code}}}
    result = run.result("import", "profile-list", write("values.yaml", as_yaml(data)), "--verify")
    assert result.exit_code == changed
    assert ("Not imported: what the code does with profile_list from" in result.stderr) is changed
    assert "all are the same, but not all could be compared" in result.stderr


def test_of_two_lists_the_one_is_imported_that_the_hub_has(run, write):
    """With its name and lines."""
    lists = {
        "singleuser": {"profileList": [{"display_name": "A", "kubespawner_override": {"imagg": "a:1"}}]},
        "hub": {"config": {"KubeSpawner": {"profile_list": [{"display_name": "A", "x": 1}]}}},
    }
    path = write("values.yaml", as_yaml(lists))
    result = run.result("import", "profile-list", path)
    assert yaml.safe_load(result.stdout)["profile_list"] == [{"display_name": "A", "x": 1}]
    assert "1 profiles imported from hub.config.KubeSpawner.profile_list, 0 refused" in result.stderr
    lists["hub"]["extraConfig"] = {"a": "c.KubeSpawner.profile_list = [\n{'display_name': 'A',\n'y': 1}]"}
    path = write("values.yaml", as_yaml(lists))
    result = run.result("import", "profile-list", path)
    assert yaml.safe_load(result.stdout)["profile_list"] == [{"display_name": "A", "y": 1}]
    assert "1 profiles imported from c.KubeSpawner.profile_list, 0 refused" in result.stderr
    (line,) = [n for n, text in enumerate(path.read_text().splitlines(), 1) if "'y': 1" in text]
    assert f"{path}:{line}: warning: profile 'a': y: " in result.stderr


def test_what_kubespawner_refuses_is_not_the_same(run, write):
    """It is counted on its own, with the reason; the other choices are compared."""
    choices = {"a": {"kubespawner_override": {"mem_limit": "3Gi"}}, "b": {"kubespawner_override": {"mem_limit": "3G"}}}
    entry = {"display_name": "A", "kubespawner_override": {"image": "a:1"}}
    listed = [{**entry, "profile_options": {"o": {"display_name": "O", "choices": choices}}}]
    path = write("values.yaml", as_yaml({"singleuser": {"profileList": listed}}))
    result = run.result("import", "profile-list", path, "--verify")
    assert result.exit_code == 0
    assert "1 pods compared with KubeSpawner's own: all are the same; 2 refused by both" in result.stderr
    assert "Refused by KubeSpawner, and here: a: TraitError: 3Gi is not a valid memory" in result.stderr


def test_a_function_that_needs_the_hubs_machine_is_left_out_of_both_pods(run, write):
    """It is neither the profile's fault nor KubeSpawner's. The setting is named."""
    path = write(
        "jupyterhub_config.py",
        "import pwd\nc.KubeSpawner.uid = lambda spawner: pwd.getpwnam('nobody of this name').pw_uid\n"
        "c.KubeSpawner.profile_list = [{'display_name': 'A', 'kubespawner_override': {'image': 'a:1'}}]\n",
    )
    result = run.result("import", "profile-list", path, "--verify")
    assert result.exit_code == 0
    assert f"{path}:2: warning: KubeSpawner.uid: the function fails here, so this setting is left out" in result.stderr
    assert "1 pods compared with KubeSpawner's own: all are the same, but not all could be compared" in result.stderr


def test_functions_of_the_hub_are_called_once_for_both_pods(run, write):
    """Otherwise a pod would differ from itself. Keys of choices that are numbers work as they do in KubeSpawner."""
    path = write(
        "jupyterhub_config.py",
        "import itertools\n"
        "numbers = itertools.count(1000)\n"
        "c.KubeSpawner.uid = lambda spawner: next(numbers)\n"
        "c.KubeSpawner.environment = {'N': lambda spawner: str(next(numbers))}\n"
        "c.KubeSpawner.profile_list = [{'display_name': 'A', 'profile_options': {'o': {'display_name': 'O',\n"
        "    'choices': {22: {'kubespawner_override': {'image': 'a:1'}}, True: {'kubespawner_override': {}}}}}}]\n",
    )
    for target in ("yaml", "python"):
        result = run.result("import", "profile-list", path, "--verify", "--as", target)
        assert "3 pods compared with KubeSpawner's own: all are the same" in result.stderr
