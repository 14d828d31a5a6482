"""Values of Zero to JupyterHub: their pods are those of the chart; what is wrong or unknown is said."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from profile_spawner.migrate.chart import HubValues, chart_values

IMAGE = "quay.io/jupyter/base-notebook:2026-08-03"
PULL = "image-pull-secret"
ONE = f"{{display_name: One, kubespawner_override: {{image: '{IMAGE}'}}}}"
WRONG = f"{{display_name: One, kubespawner_override: {{image: '{IMAGE}', cpu_limt: 2}}}}"
IN_PYTHON = f'[{{"display_name": "One", "kubespawner_override": {{"image": "{IMAGE}", "cpu_limt": 2}}}}]'


@pytest.fixture
def findings(run, write):
    """Return what `validate` finds in values: line, level, rule and field of each finding."""

    def found(text: str, *options: object) -> list[tuple[int, str, str, str]]:
        result = run.result("validate", write("values.yaml", text), "--output", "json", *options)
        return [(f["line"], f["level"], f["rule"], f["field"]) for f in json.loads(result.stdout)]

    return found


# ------------------------------------------------------------------------------------------------ the chart's defaults


def test_the_pod_of_empty_values_is_that_of_the_chart(run, write):
    """Field by field: what the chart's own hub makes of an empty file, but for the release's name and namespace."""
    path = write("values.yaml", f"singleuser: {{profileList: [{ONE}]}}\n")
    pod = run.json("pod", "one", "-f", path, "--user", "ada")
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    assert {k: v for k, v in labels.items() if not k.startswith(("profile-spawner", "hub.jupyter.org/u"))} == {
        "app": "jupyterhub",
        "app.kubernetes.io/component": "singleuser-server",
        "app.kubernetes.io/instance": "jupyterhub",
        "app.kubernetes.io/managed-by": "kubespawner",
        "app.kubernetes.io/name": "jupyterhub",
        "chart": "jupyterhub-4.4.0",
        "component": "singleuser-server",
        "helm.sh/chart": "jupyterhub-4.4.0",
        "hub.jupyter.org/network-access-hub": "true",
        "hub.jupyter.org/profile": "one",
        "hub.jupyter.org/servername": "",
        "release": "jupyterhub",
    }
    (container,) = spec["containers"]
    assert container["args"] == ["jupyterhub-singleuser"]
    assert container["resources"]["requests"] == {"memory": 2**30}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "runAsUser": 1000}
    assert spec["securityContext"] == {"fsGroup": 100}
    assert container["volumeMounts"] == [{"mountPath": "/home/jovyan", "name": "volume-ada"}]
    assert spec["volumes"] == [{"name": "volume-ada", "persistentVolumeClaim": {"claimName": "claim-ada"}}]
    (block,) = spec["initContainers"]
    assert (block["name"], block["securityContext"]["privileged"]) == ("block-cloud-metadata", True)
    assert "169.254.169.254" in block["command"]
    assert spec["schedulerName"] == "jupyterhub-user-scheduler"
    keys = ["hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"]
    assert [t["key"] for t in spec["tolerations"]] == keys
    (preferred,) = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"][0]["key"] == "hub.jupyter.org/node-purpose"
    claim = run.json("manifests", "one", "-f", path, "--user", "ada")["items"][0]
    assert claim["spec"]["resources"]["requests"] == {"storage": "10Gi"}
    assert run("images", "-f", path).split() == [IMAGE]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("scheduling: {podPriority: {enabled: true}}", {"priorityClassName": "jupyterhub-default-priority"}),
        ("fullnameOverride: x\nimagePullSecret: {create: true}", {"imagePullSecrets": [{"name": "x-" + PULL}]}),
        ("imagePullSecret: {create: true, automaticReferenceInjection: false}", {"imagePullSecrets": None}),
        ("scheduling: {userScheduler: {enabled: false}}", {"schedulerName": None}),
        ("scheduling: {userPods: {tolerations: []}}", {"tolerations": None}),
        ("singleuser: {storage: {type: none}}", {"volumes": None}),
        ("singleuser: {cloudMetadata: {blockWithIptables: false}}", {"initContainers": None}),
        ("singleuser: {fsGid: null}", {"securityContext": None}),
        ("singleuser: {serviceAccountName: lab}", {"serviceAccountName": "lab"}),
    ],
)  # fmt: skip
def test_every_part_of_the_chart_can_be_set(run, write, values, expected):
    """A null takes a default away, as it does in Helm."""
    listed = write("list.yaml", f"singleuser: {{profileList: [{ONE}]}}\n")
    spec = run.json("pod", "one", "-f", listed, "-f", write("values.yaml", values), "--user", "ada")["spec"]
    assert {key: spec.get(key) or None for key in expected} == expected


def test_an_image_without_a_tag_keeps_the_charts_tag(run, write):
    """Since Helm merges the two."""
    path = write("values.yaml", "singleuser: {image: {name: r.example/lab}, profileList: [{display_name: One}]}\n")
    assert run.json("pod", "one", "-f", path)["spec"]["containers"][0]["image"] == "r.example/lab:4.4.0"


def test_values_of_several_files_are_merged_as_helm_merges_them(run, write):
    """Mappings are joined, lists are replaced, and each finding is in the file that has the value."""
    base = write("base.yaml", f"singleuser:\n  extraLabels: {{team: a}}\n  cpu: {{limit: 2}}\n  profileList: [{ONE}]\n")
    more = write("more.yaml", "singleuser:\n  extraLabels: {course: 'b c'}\n  cpu: {limit: null}\n")
    pod = run.json("pod", "one", "-f", base, "-f", more)
    assert pod["metadata"]["labels"]["team"] == "a"
    assert "cpu" not in pod["spec"]["containers"][0]["resources"].get("limits", {})
    (finding,) = run.json("validate", base, more, code=1)
    assert (finding["file"], finding["line"], finding["field"]) == (str(more), 2, "singleuser.extraLabels")
    assert "metadata.labels.course: 'b c'" in finding["message"]


CHART = {
    "jupyterhub/Chart.yaml": "name: jupyterhub\nversion: 9.9.9\n",
    "jupyterhub/values.yaml": "singleuser: {uid: 5000, memory: {guarantee: 2G}, profileList: []}\n",
}


@pytest.mark.parametrize("folder", ["", "umbrella/charts/"])
@pytest.mark.parametrize("packed", [True, False])
def test_another_version_of_the_chart_can_be_named(run, write, tmp_path, folder, packed):
    """Packed or not, also inside of an umbrella chart: its defaults and its version count."""
    for name, text in CHART.items():
        write(f"chart/{folder}{name}", text)
    if folder:
        write("chart/umbrella/Chart.yaml", "name: umbrella\nversion: 1.0.0\n")
    chart = tmp_path / "chart" / (folder.split("/")[0] or "jupyterhub")
    if packed:
        with tarfile.open(tmp_path / "chart.tgz", "w:gz") as archive:
            archive.add(chart, arcname=chart.name)
        chart = tmp_path / "chart.tgz"
    path = write("values.yaml", f"singleuser: {{profileList: [{ONE}]}}\n")
    result = run.result("pod", "one", "-f", path, "--chart", chart, "--output", "json")
    assert "with the defaults of Zero to JupyterHub 9.9.9" in result.stderr
    pod = json.loads(result.stdout)
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["runAsUser"] == 5000
    assert container["resources"]["requests"]["memory"] == 2 * 2**30
    assert pod["metadata"]["labels"]["chart"] == "jupyterhub-9.9.9"
    imported = run.result("import", "profile-list", path, "--verify", "--chart", chart)
    assert "1 pods compared with KubeSpawner's own: all are the same" in imported.stderr, imported.stderr


def test_what_is_no_chart_is_refused(run, write, tmp_path):
    """With what is expected."""
    path = write("values.yaml", f"singleuser: {{profileList: [{ONE}]}}\n")
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        content = b"name: other\n"
        member = tarfile.TarInfo("other/Chart.yaml")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    for chart in (write("text.tgz", "no archive"), tmp_path / "other.tgz", tmp_path):
        said = run("validate", path, "--chart", chart, code=1)
        assert "--chart" in said, said


# ------------------------------------------------------------------------------------------------ findings


def test_what_the_chart_guarantees_counts_for_limits(findings, run, write):
    """The chart guarantees 1G of memory; a lower limit of one profile alone is refused by Kubernetes."""
    text = (
        "singleuser:\n  profileList:\n    - display_name: Tiny\n      kubespawner_override:\n        mem_limit: 512M\n"
    )
    assert findings(text) == [(5, "error", "kubernetes", "Pod jupyter-user")]
    assert "mem_guarantee is what the hub sets for all profiles" in run("validate", write("v.yaml", text), code=1)


@pytest.mark.parametrize("capacity", ["", "{dynamic: {storageClass: standard}}"])
def test_a_claim_has_the_charts_capacity(findings, capacity):
    """Though the values say nothing of it."""
    assert findings(f"singleuser:\n  storage: {capacity}\n  profileList: [{ONE}]\n") == []


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ('extraLabels: "team=a"', "singleuser.extraLabels"),
        ('nodeSelector: "pool=a"', "singleuser.nodeSelector"),
        ("storage: 10Gi", "singleuser.storage"),
        ("extraTolerations: dedicated", "singleuser.extraTolerations"),
        ("storage: {extraVolumes: data}", "singleuser.storage.extraVolumes"),
        ("startTimeout: soon", "singleuser.startTimeout"),
        ("extraEnv: [{name: A, value: b}]", "singleuser.extraEnv"),
    ],
)
def test_one_wrong_value_of_the_hub_hides_nothing(findings, setting, field):
    """It is a finding at its line, and the profiles are checked without it."""
    found = findings(f"singleuser:\n  {setting}\n  profileList:\n    - {WRONG}\n")
    assert [(line, level, name) for line, level, _, name in found] == [
        (2, "error", field),
        (4, "error", "kubespawner_override.cpu_limt"),
    ]


REFUSED = {
    "hub: {image: {repository: x}}": ("hub.image.repository", "has no such key. Write it as image.name"),
    "hub: {extraLabels: {a: b}}": ("hub.extraLabels", "Write it as hub.labels"),
    "hub: {db: {typ: other}}": ("hub.db.typ", "did you mean 'type'?"),
    "hub: {db: {type: mariadb}}": ("hub.db.type", "expected one of sqlite-pvc, sqlite-memory, mysql, postgres, other"),
    "hub: {concurrentSpawnLimits: 5}": ("hub.concurrentSpawnLimits", "did you mean 'concurrentSpawnLimit'?"),
    "hub: {extraConfig: 'c.Spawner.debug = True'}": ("hub.extraConfig", "such as hub.extraConfig.myConfig"),
    "hub: {extraFiles: {a: {mountpath: /a}}}": ("hub.extraFiles.a.mountpath", "did you mean 'mountPath'?"),
    "cull: {enable: true}": ("cull.enable", "did you mean 'enabled'?"),
    "cull: {timeout: '3600'}": ("cull.timeout", '(got "3600"); expected 3600, without quotes'),
    "scheduling: {userSchedulers: {enabled: true}}": ("scheduling.userSchedulers", "did you mean 'userScheduler'?"),
    "prePuller: {extraImage: {}}": ("prePuller.extraImage", "did you mean 'extraImages'?"),
    "proxy: {type: ClusterIP}": ("proxy.type", "Write it as proxy.service.type"),
    "auth: {type: dummy}": ("auth", "below hub.config"),
    "foo: {bar: 1}": ("foo", "the chart (4.3 to 4.4) has no such key"),
    "singleuser: {networkPolicy: {egres: []}}": ("singleuser.networkPolicy.egres", "did you mean 'egress'?"),
    "singleuser: {cpus: {limit: 2}}": ("singleuser.cpus", "did you mean 'cpu'?"),
    "singleuser: {extraVolumes: []}": ("singleuser.extraVolumes", "Write it as singleuser.storage.extraVolumes"),
    "singleuser: {storage: {dynamic: {capacity: 1Gi}}}": ("singleuser.storage.dynamic.capacity", "storage.capacity"),
    "singleuser: {imagePullSecret: {create: true}}": ("singleuser.imagePullSecret", "imagePullSecrets"),
    "singleuser: {memory: {limit: 4Gi}}": ("singleuser.memory.limit", "expected a suffix K, M, G or T: 4G"),
    "singleuser: {cpu: {guarantee: '0.5'}}": ("singleuser.cpu.guarantee", '(got "0.5"); expected 0.5, without quotes'),
    "singleuser: {cpu: {limit: 500m}}": ("singleuser.cpu.limit", '(got "500m"); expected 0.5, without quotes'),
    "singleuser: {image: {name: a, tag: 1.10}}": ("singleuser.image.tag", "; expected in quotes, as it is written"),
    "singleuser: {extraLabels: {a: true}}": ("singleuser.extraLabels.a", '(got true); expected "true", in quotes'),
    "singleuser: {events: 'yes'}": ("singleuser.events", "expected true or false, without quotes"),
}


def test_what_the_charts_schema_refuses_is_found(run, write):
    """At its line, with what a person would write instead, and all at once."""
    paths = [write(f"{number}.yaml", f"# values\n{text}\n") for number, text in enumerate(REFUSED)]
    paths += [write("list.yaml", f"singleuser: {{profileList: [{ONE}]}}\n")]
    found = []
    for path, (field, message) in zip(paths, REFUSED.values(), strict=False):
        problems = HubValues(chart_values(path, also=lambda document: True)).problems
        found.append([(str(p.origin), p.field, message in str(p)) for p in problems] == [(f"{path}:2", field, True)])
    assert found == [True] * len(REFUSED), [text for text, right in zip(REFUSED, found, strict=True) if not right]
    fields = {f["field"] for f in run.json("validate", paths[0], paths[2], paths[-1], code=1)}
    assert fields == {"hub.image.repository", "hub.db.typ"}


TAKEN = """\
jupyterhub:
  hub:
    config: {GitHubOAuthenticator: {client_id: x}}
    extraEnv: {A: {valueFrom: {secretKeyRef: {name: a, key: b}}}}
    extraFiles: {a: {mountPath: /a, data: {any: thing}}}
    resources: {requests: {cpu: 200m}}
    livenessProbe: {enabled: false, anything: 1}
    image: {name: r.example/hub, tag: "1", pullSecrets: [a]}
    db: {type: postgres, url: x, pvc: null}
    networkPolicy: {egressAllowRules: {privateIPs: false}}
    service: {ipFamilyPolicy: SingleStack, extraPorts: []}
    podSecurityContext: {fsGroup: 1}
  proxy: {chp: {resources: {}, extraPodSpec: {a: b}}, service: {type: NodePort, nodePorts: {http: 30080}}}
  singleuser:
    extraAnnotations: {a: "1"}
    extraLabels: {a: b}
    extraResource: {limits: {nvidia.com/gpu: 1}}
    memory: {limit: 1.5G, guarantee: 1000000000}
    networkPolicy: {egress: [{to: []}]}
    storage: {extraVolumes: {a: {name: a}}, dynamic: {subPath: x}}
    cmd: null
  scheduling: {userScheduler: {plugins: {score: {}}}, corePods: {nodeAffinity: {matchNodePurpose: require}}}
  prePuller: {extraImages: {a: {name: a, tag: b}}, hook: {daemonsetAnnotations: {a: b}}}
  ingress: {enabled: true, hosts: [a], annotations: {a: b}}
  httpRoute: {enabled: true, gateway: {name: a, sectionName: b}}
  cull: {maxAge: 0, users: false}
  custom: {any: {thing: 1}}
  global: {safeToShowValues: true}
  imagePullSecret: {create: true, registry: a, username: b, password: c}
postgresql: {auth: {database: hub}}
"""


def test_what_the_charts_schema_allows_is_no_finding(write):
    """Every section, what is free in them, and other sections of an umbrella chart."""
    assert HubValues(chart_values(write("values.yaml", TAKEN))).problems == []


def test_the_schema_of_another_chart_counts(run, write, tmp_path):
    """Its keys and types, where it has one."""
    strict = {"additionalProperties": False}
    memory = {"type": "object", "properties": {"limit": {"type": ["number", "string", "null"]}}, **strict}
    user = {"type": "object", "properties": {"memory": memory, "mood": {"enum": [None, "good", "bad"]}}, **strict}
    labels = {"type": "object", "patternProperties": {".*": {"type": "string"}}, **strict}
    schema = {
        "type": "object",
        "properties": {"singleuser": user, "hub": {"type": "object"}, "labels": labels},
        **strict,
    }
    for name, text in {**CHART, "jupyterhub/values.schema.json": json.dumps(schema)}.items():
        write(name, text)
    text = "singleuser:\n  mood: fine\n  uid: 5\n  memory: {limit: 1Gi}\nhub: {any: 1}\nlabels: {a: 1}\ncull: {}\n"
    found = run.json("validate", write("values.yaml", text), "--chart", tmp_path / "jupyterhub", code=1)
    fields = ["singleuser.mood", "singleuser.uid", "singleuser.memory.limit", "labels.a", "cull"]
    assert [f["field"] for f in found] == fields
    assert "the chart (9.9.9) has no such key" in found[1]["message"]


def test_what_several_profiles_have_from_an_anchor_is_one_finding(run, write):
    """At its line, with their number."""
    text = f"shared: &wrong {{image: '{IMAGE}', cpu_limt: 2}}\nsingleuser:\n  profileList:\n"
    text += "".join(f"  - {{display_name: {name}, kubespawner_override: *wrong}}\n" for name in ("One", "Two", "Three"))
    found = [f for f in run.json("validate", write("values.yaml", text), code=1) if f["rule"] == "unknown-trait"]
    assert [(f["line"], f["profile"]) for f in found] == [(1, "one")]
    assert found[0]["message"].endswith("(2 other profiles have it from the same line)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("singleuser:\n\tuid: 1\n", ":2: error: this is not YAML: a tab stands before the text"),
        ("singleuser:\n  uid: 1\n  \tcmd: a\n", ":3: error: this is not YAML: a tab stands before the text"),
        ("singleuser:\n  cmd: @a\n", ":2: error: this is not YAML: a value cannot begin with @; put it into quotes"),
    ],
)
def test_what_is_no_yaml_is_named(run, write, text, message):
    """A tab looks like spaces."""
    assert message in run("validate", write("values.yaml", text), code=1)


@pytest.mark.parametrize("section", ["KubeSpawner", "ProfileSpawner"])
def test_settings_below_hub_config_are_found_with_their_lines(findings, section):
    """The list there, and other settings; a section in lower case is none for the chart."""
    text = f"hub:\n  config:\n    {section}:\n      uid: no-number\n      profile_list:\n        - {WRONG}\n"
    assert findings(text) == [
        (4, "error", "wrong-value", f"hub.config.{section}.uid"),
        (6, "error", "unknown-trait", "kubespawner_override.cpu_limt"),
    ]
    assert findings(f"hub:\n  config:\n    kubeSpawner: {{uid: 5}}\nsingleuser: {{profileList: [{ONE}]}}\n") == [
        (3, "error", "chart-value", "hub.config.kubeSpawner")
    ]


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        ("init_containers: [{name: a, image: 'a:1'}]", "block-cloud-metadata; it keeps servers away"),
        ("extra_labels: {a: b}", "hub.jupyter.org/network-access-hub; without it"),
        ("tolerations: [{key: a, operator: Exists}]", "hub.jupyter.org/dedicated"),
        ("volumes: {x: {name: x, emptyDir: {}}}", "volume-{user_server}"),
    ],
)
def test_a_setting_that_loses_what_the_chart_sets_is_a_warning(run, write, setting, lost):
    """Below `hub.config` a setting replaces what the chart makes of its values."""
    text = f"hub:\n  config:\n    KubeSpawner:\n      {setting}\nsingleuser: {{profileList: [{ONE}]}}\n"
    found = [f for f in run.json("validate", write("values.yaml", text)) if f["rule"] == "replaces-hub"]
    assert [(f["line"], f["level"], lost in f["message"]) for f in found] == [(4, "warning", True)], found


def test_what_is_wrong_with_the_hubs_own_pod_is_found_once(findings):
    """With key and value, at the setting, and not at each profile."""
    two = f"[{ONE}, {ONE.replace('One', 'Two')}]"
    assert findings(f'singleuser:\n  extraLabels:\n    team: "a b"\n  profileList: {two}\n') == [
        (3, "error", "kubernetes", "singleuser.extraLabels")
    ]


def test_keys_that_stand_twice_are_reported_and_the_last_one_counts(findings, run, write):
    """As in Helm; everything else is checked."""
    text = f"singleuser:\n  uid: 1\n  profileList:\n    - {WRONG}\n  uid: 7\n"
    assert findings(text) == [
        (4, "error", "unknown-trait", "kubespawner_override.cpu_limt"),
        (5, "warning", "duplicate-key", ""),
    ]
    pod = run.json("pod", "one", "-f", write("values.yaml", text.replace(", cpu_limt: 2", "")))
    assert pod["spec"]["containers"][0]["securityContext"]["runAsUser"] == 7


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("serviceAccountName: ${account}", "serviceAccountName"),
        ('serviceAccountName: "{{ account }}"', "serviceAccountName"),
        ("serviceAccountName: {{ .Values.account }}", "serviceAccountName"),
        ("serviceAccountName: '%{ if x }a%{ endif }'", "serviceAccountName"),
        ("cpu: {limit: '${cpus}'}", "cpu.limit"),
        ("serviceAccountName: ${{ vars.account }}", "serviceAccountName"),
        ('memory: {limit: {{ printf "%vG" .Values.m | quote }}}', "memory.limit"),
        ('extraEnv: {A: {{ include "x.y" . }}, B: c}', "extraEnv.A"),
        ('serviceAccountName: "{{ default "x" .Values.account }}"', "serviceAccountName"),
        ('extraEnv: ${jsonencode(merge({ a = "b" }, var.x))}', "extraEnv"),
        ("extraEnv:\n    {{- toYaml .Values.env | nindent 4 }}", "extraEnv"),
        ("extraEnv:\n{{ toYaml .Values.env | indent 4 }}", "extraEnv"),
        ("serviceAccountName: {% if x %} a {% else %} b {% endif %}", "serviceAccountName"),
        ("image: {name: r.example/lab, tag: '{{ .Values.{{ env }}.tag }}'}", "image.tag"),
        ("storage: {dynamic: {storageAccessModes: [${mode}]}}", "storage.dynamic.storageAccessModes.0"),
        ("image: {name: 'r.example/${name}', tag: '${tag}'}", "image.name"),
    ],
)
def test_a_placeholder_is_one_finding_and_the_rest_is_checked(findings, setting, field):
    """Whatever program renders it later."""
    two = f"- {WRONG}\n    - {ONE.replace('One', 'Two')}"
    found = findings(f"singleuser:\n  {setting}\n  profileList:\n    {two}\n")
    assert (2, "warning", "placeholder", f"singleuser.{field}") in found
    assert {rule for _, _, rule, _ in found} == {"placeholder", "unknown-trait"}


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("extraEnv: {A: x, B: 'in {JUPYTERHUB_USER}'}", "extraEnv.B"),
        ("extraAnnotations: {a: '{\"b\": 1}'}", "extraAnnotations.a"),
        ("initContainers: [{name: a, image: 'a:1', command: [awk, '{print $1}']}]", "initContainers.0.command.1"),
        ("podNameTemplate: 'jupyter-{user}'", "podNameTemplate"),
    ],
)
def test_braces_into_which_nothing_can_be_filled_are_one_finding(findings, setting, field):
    """At the setting of the hub, and not at each profile; with them, no server starts."""
    two = f"[{ONE}, {ONE.replace('One', 'Two')}]"
    found = findings(f"singleuser:\n  {setting}\n  profileList: {two}\n")
    assert found == [(2, "error", "braces", f"singleuser.{field}")]


def test_placeholders_in_a_profile_are_no_mistakes(findings):
    """Numbers and images too; directives of templates are reported by line. Programs have braces of their own."""
    text = (
        "singleuser:\n  lifecycleHooks: {postStart: {exec: {command: [sh, -c, 'echo ${HOME} {{x}}']}}}\n"
        "  profileList:\n{% if gpu %}\n    - display_name: ${name}\n      kubespawner_override:\n"
        "        image: {{ image }}\n        cpu_limit: ${cpus}\n"
        "        extra_resource_limits: {nvidia.com/gpu: '${n}'}\n"
        "{% endif %}\n"
    )
    found = findings(text)
    assert {rule for _, _, rule, _ in found} == {"placeholder"}
    assert [line for line, *_ in found] == [4, 5, 7, 8, 9]


@pytest.mark.parametrize("key", ["{{ k }}", "${k}", '"{{ k }}"'])
def test_a_placeholder_as_a_key_is_one_finding(findings, key):
    """At its own line, with its text; what stands below it is checked as well."""
    name = key.strip('"')
    pairs = f'    {key}: "{{{{ v }}}}"\n    ${{other}}: ${{v}}\n    a: b\n'
    assert findings(f"singleuser:\n  nodeSelector:\n{pairs}  profileList: [{ONE}]\n") == [
        (3, "warning", "placeholder", f"singleuser.nodeSelector.{name}"),
        (4, "warning", "placeholder", "singleuser.nodeSelector.${other}"),
    ]
    text = f"singleuser:\n  extraEnv:\n    {key}:\n      valueFrom: ${{v}}\n  profileList: [{ONE}]\n"
    assert [(line, field) for line, _, _, field in findings(text)] == [
        (3, f"singleuser.extraEnv.{name}"),
        (4, f"singleuser.extraEnv.{name}.valueFrom"),
    ]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (" c.KubeSpawner.working_dir = ${dir}", 4),
        (" 'c.KubeSpawner.working_dir = {{ dir }}'", 4),
        (" |\n      import os\n      c.KubeSpawner.working_dir = {{ dir | quote }}", 6),
        (' |\n      import os\n\n      c.Spawner.cmd = ["${cmd}", ${args}]', 7),
        (" |\n      {% if x %}\n      c.Spawner.cmd = {{ cmd }}\n      {% endif %}", 5),
        (" |-\n      c.Spawner.cmd = [${a} ${b}]", 5),
        (" ${file('config.py')}", 4),
    ],
)
def test_a_placeholder_in_code_is_one_finding(findings, code, line):
    """At its line, and not that the code is no Python."""
    text = f"hub:\n  extraConfig:\n    a: c.Spawner.debug = True\n    b:{code}\nsingleuser: {{profileList: [{ONE}]}}\n"
    assert findings(text) == [(line, "warning", "placeholder", "hub.extraConfig.b")]


@pytest.mark.parametrize("code", ["import os; c.Spawner.x = [", "|\n      c.Spawner.x = [", "'c.Spawner.x = ['"])
def test_code_that_is_no_python_is_found_at_its_line(findings, code):
    """Whether it stands beside its key or below it."""
    line = 3 + code.count("\n")
    assert findings(f"hub:\n  extraConfig:\n    a: {code}\n") == [(line, "error", "not-checked", "hub.extraConfig.a")]


def test_braces_of_programs_are_no_placeholders(findings):
    """In Python that can be run, in files, in scripts, and where they are doubled for KubeSpawner."""
    text = (
        "hub:\n  extraConfig:\n    a: |\n      name = 'x'\n      c.Spawner.environment = {'A': f'{name} {{{{x}}}}'}\n"
        "  extraFiles:\n    page: {mountPath: /page.html, stringData: '<p>{{ user.name }}</p>'}\n"
        f"singleuser:\n  extraAnnotations: {{a: '{{{{\"b\": 1}}}}'}}\n  profileList: [{ONE}]\n"
    )
    assert [rule for _, _, rule, _ in findings(text)] == []


OTHERS = """\
hub:
  annotations: {a: '{{ x }}', '{{ k }}': '{% if x %}a{% endif %}'}
  templateVars: {a: '{{ x }}', b: {c: ['{% x %}']}}
  extraFiles:
    a: {mountPath: /a.html, stringData: '{{ x }}'}
    b: {mountPath: /b.json, data: {a: '{{ x }}', b: {c: '{% x %}'}}}
  serviceAccount: {annotations: {a: '{{ x }}'}}
ingress: {annotations: {a: '{{ x }}'}}
proxy: {annotations: {a: '{{ x }}'}, service: {annotations: {a: '{{- with secret "a" -}}'}}}
prePuller: {hook: {daemonsetAnnotations: {a: '{{ x }}'}}}
singleuser:
  extraFiles: {a: {mountPath: /a.j2, stringData: '{{ x }}'}, b: {mountPath: /b.json, data: {a: '{{ x }}'}}}
  profileList: []
"""


def test_templates_of_other_programs_are_no_placeholders(findings):
    """In files and annotations; a file with code of the hub is none of them, and neither is what Terraform fills in."""
    assert findings(OTHERS) == []
    path = "/usr/local/etc/jupyterhub/jupyterhub_config.d/a.py"
    assert findings(OTHERS.replace("/a.html", path)) == [(5, "warning", "placeholder", "hub.extraFiles.a.stringData")]
    assert [line for line, *_ in findings(OTHERS.replace("{{ x }}", "${x}"))] == [2, 3, 5, 6, 7, 8, 9, 10, 12, 12]
    terraform = OTHERS.replace("ingress:", "singleuser2: {a: ${a}}\n%{ if x }\ningress:")
    assert sorted(line for line, _, rule, _ in findings(terraform) if rule == "placeholder") == [8, 9]
    unquoted = OTHERS.replace("ingress: {annotations: {a: '{{ x }}'}}", "ingress: {annotations: {a: {{ x }}}}")
    assert (8, "warning", "placeholder", "ingress.annotations.a") in findings(unquoted)


# ------------------------------------------------------------------------------------------------ code


@pytest.mark.parametrize(
    "code",
    [
        'c.KubeSpawner.environment["A"] = "b"',
        "c.KubeSpawner.extra_labels.update(a='b'); c.KubeSpawner.volumes['x'] = {'name': 'x', 'emptyDir': {}}",
        "assert c.KubeSpawner.init_containers[0]['name'] == 'block-cloud-metadata'",
        "c.KubeSpawner.tolerations.append({'key': 'a', 'operator': 'Exists'}); tolerations, volumes, common_labels",
        "c.JupyterHub.services.append({'name': 's'}); c.JupyterHub.tornado_settings['x'] = 1",
        "from z2jh import get_config, get_name, get_name_env, get_secret_value, set_config_if_not_none",
        "assert get_config('singleuser.memory.guarantee') == '1G'; assert get_config('no.such', 3) == 3",
        "from z2jh import get_name; assert get_name('hub') == 'hub'; assert get_name('hub-pvc') == 'hub-db-dir'",
        "from z2jh import get_name_env; assert int(get_name_env('hub', '_SERVICE_PORT')) == 8081",
        "get_config('singleuser.extraEnv')['A'] = 'b'; assert c.KubeSpawner.environment == {'A': 'b'}",
        "os, re, sys, glob, client.V1Container, url_path_join('/a', 'b')",
        "import helper; helper.NAME",
        "assert (os.environ['COURSE'], os.environ['TEAM'], os.environ['POD_NAMESPACE']) == ('1', 'a', 'default')",
    ],
)
def test_code_finds_what_the_charts_hub_gives_it(findings, code):
    """Real values for settings, the helper module and other files in the configuration's folder."""
    text = (
        "hub:\n  extraEnv: {COURSE: 1, TEAM: {value: a}, TOKEN: {valueFrom: {}}}\n"
        "  extraFiles:\n    helper:\n      mountPath: /usr/local/etc/jupyterhub/helper.py\n"
        f"      stringData: NAME = 1\n  extraConfig:\n    a: |\n      {code}\nsingleuser: {{profileList: [{ONE}]}}\n"
    )
    assert findings(text) == []


def test_a_function_imports_from_the_chart_when_it_is_called(findings):
    """Not only while the configuration is read."""
    text = (
        "hub:\n  extraConfig:\n    a: |\n      def listed(spawner):\n          from z2jh import get_config\n"
        "          return get_config('custom.list')\n      c.KubeSpawner.profile_list = listed\n"
        f"custom:\n  list: [{ONE}]\n"
    )
    assert findings(text) == []


FOLDER = "/usr/local/etc/jupyterhub/jupyterhub_config.d"


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (f"extraFiles:\n    a.py:\n      mountPath: {FOLDER}/a.py\n      stringData: |", 6),
        ("extraConfig:\n    any-name: |", 4),
        ("extraConfig:\n    profile_list: |", 4),
    ],
)
def test_lists_in_code_are_checked_with_their_lines(findings, where, line):
    """In files and snippets of any name."""
    text = f"hub:\n  {where}\n        c.KubeSpawner.profile_list = {IN_PYTHON}\n"
    assert findings(text) == [(line, "error", "unknown-trait", "kubespawner_override.cpu_limt")]


UNCHECKED = {
    "a module that is missing": "import a_module_of_the_hub\nc.KubeSpawner.profile_list = LIST",
    "the hub's environment": "import os\nos.environ['ONLY_IN_THE_HUB']\nc.KubeSpawner.profile_list = LIST",
    "auth_state": "async def f(spawner):\n    (await spawner.user.get_auth_state())['x']\n    return LIST\n"
    "c.KubeSpawner.profile_list = f",
    "a class": "from kubespawner import KubeSpawner\nclass Ours(KubeSpawner):\n    def x(self):\n        return LIST\n"
    "c.JupyterHub.spawner_class = Ours",
}


@pytest.mark.parametrize("name", UNCHECKED)
def test_what_cannot_be_checked_is_a_warning_and_what_can_be_read_is_checked(findings, run, write, name):
    """Never no errors over no profiles; with `--strict` it fails."""
    code = UNCHECKED[name].replace("LIST", IN_PYTHON)
    text = "hub:\n  extraConfig:\n    a: |\n" + "".join(f"      {line}\n" for line in code.splitlines())
    found = findings(text)
    assert [(level, rule) for _, level, rule, _ in sorted(found, key=lambda f: f[2])] == [
        ("warning", "not-checked"),
        ("error", "unknown-trait"),
    ]
    assert all(line > 3 for line, *_ in found)
    right = write("right.yaml", text.replace(', "cpu_limt": 2', ""))
    assert run("validate", right).endswith("1 profile: 0 errors, 1 warning\n")
    assert run("validate", right, "--strict", code=1)


def test_a_list_in_a_file_that_only_code_reads_is_not_checked(findings):
    """And the warning names the file."""
    text = "hub:\n  extraFiles:\n    lists:\n      mountPath: /etc/lists.yaml\n      data: {profile_list: []}\n"
    assert findings(text) == [(3, "warning", "not-checked", "hub.extraFiles.lists")]


def test_a_function_gets_the_users_auth_state(findings, write):
    """From a file, for each command about a user."""
    code = (
        "async def filtered(spawner, original=c.KubeSpawner.profile_list):\n"
        "    groups = (await spawner.user.get_auth_state())['oauth_user']['groups']\n"
        "    return [p for p in original if 'x' in groups]\n"
        "c.KubeSpawner.profile_list = filtered\n"
    )
    entry = ONE.replace("{display_name", "{allowed: [x], display_name", 1)
    text = f"singleuser: {{profileList: [{entry}]}}\nhub:\n  extraConfig:\n    a: |\n"
    text += "".join(f"      {line}\n" for line in code.splitlines())
    levels = [(line, level, rule) for line, level, rule, _ in findings(text)]
    assert levels == [(1, "warning", "unknown-key"), (6, "warning", "not-checked")]
    state = write("state.json", json.dumps({"oauth_user": {"groups": ["x"]}}))
    assert [rule for *_, rule, _ in findings(text, "--auth-state", state)] == ["unknown-key"]


SOURCES = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
spec:
  sources:
    - {repoURL: a, ref: values}
    - chart: jupyterhub
      helm:
        valueFiles: [$values/a.yaml, b.yaml]
        valuesObject: {singleuser: {profileList: [ONE]}}
    - {chart: other, helm: {valueFiles: [c.yaml]}}
"""
RELEASE = """\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
spec:
  chart: {spec: {chart: jupyterhub}}
  valuesFrom: [{kind: ConfigMap, name: a}]
  values: {custom: {valueFiles: [x]}, singleuser: {profileList: [ONE]}}
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SOURCES, {8: "$values/a.yaml, b.yaml"}),
        (
            SOURCES.replace("{singleuser: {profileList: [ONE]}}", "\n          singleuser: {profileList: [ONE]}"),
            {8: "b.y"},
        ),
        (RELEASE, {5: "ConfigMap a"}),
        (RELEASE.replace("chart: jupyterhub", "valuesFiles: [v.yaml]"), {4: "v.yaml", 5: "ConfigMap a"}),
        (RELEASE.replace("valuesFrom", "other"), {}),
    ],
)
def test_a_manifest_with_values_says_where_more_come_from(run, write, text, named):
    """At the line where they are named; the values in it are checked all the same."""
    path = write("app.yaml", text.replace("ONE", ONE))
    assert f"1 profile: 0 errors, {len(named)} warning" in run("validate", path)
    found = {f["line"]: (f["rule"], f["message"]) for f in run.json("validate", path)}
    assert set(found) == set(named)
    for line, names in named.items():
        assert found[line][0] == "not-checked"
        assert names in found[line][1]
        assert found[line][1].startswith("more values come from ")
        assert found[line][1].endswith(", which are not read here")
    wrong = write("wrong.yaml", text.replace("ONE", WRONG))
    assert {f["rule"] for f in run.json("validate", wrong, code=1)} - {"not-checked"} == {"unknown-trait"}


def test_python_in_the_manifest_of_a_config_map_is_the_hubs_configuration(findings):
    """It is run like a file, and its lines are those of the manifest."""
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hub}\ndata:\n  jupyterhub_config.py: |\n"
    text = f"{head}    c.KubeSpawner.profile_list = {IN_PYTHON}\n"
    assert findings(text) == [(6, "error", "unknown-trait", "kubespawner_override.cpu_limt")]


def test_objects_that_only_the_cluster_has_are_no_mistakes(findings):
    """Runtime, priority and storage classes."""
    override = (
        "{image: 'a:1', extra_pod_config: {runtimeClassName: nvidia}, priority_class_name: high, storage_class: ssd}"
    )
    assert findings(f"singleuser: {{profileList: [{{display_name: A, kubespawner_override: {override}}}]}}\n") == []


def test_a_hub_without_profiles_has_the_server_of_its_settings_checked(findings, run, write):
    """As a profile is, with the chart's defaults; one wrong value hides no other."""
    text = """\
singleuser:
  image: {name: Foo/x, tag: "1"}
  extraEnv: {N: 3, M: "m"}
  memory: {limit: 512M}
  storage: {capacity: 10GB}
hub:
  extraConfig:
    a: |
      c.KubeSpawner.extra_pod_config = {"hostNetwork": "yes"}
      c.KubeSpawner.image_pull_policy = "always"
      c.KubeSpawner.environment["F"] = lambda spawner: 0
"""
    assert sorted(findings(text)) == [
        (2, "error", "image", "singleuser.image.name"),
        (3, "error", "unquoted-text", "singleuser.extraEnv.N"),
        (4, "error", "kubernetes", "singleuser.memory.limit"),
        (5, "error", "kubernetes", "singleuser.storage.capacity"),
        (9, "error", "kubernetes", "KubeSpawner.extra_pod_config"),
        (10, "error", "kubernetes", "KubeSpawner.image_pull_policy"),
        (11, "error", "unquoted-text", "singleuser.extraEnv.F"),
    ]
    right = run("validate", write("right.yaml", "singleuser: {memory: {limit: 2G}}\n"))
    assert right == "0 profiles, and the hub's default server: 0 errors, 0 warnings\n"


def test_a_wrong_setting_of_the_hub_is_one_finding_for_all_profiles(findings):
    """A variable that is a number, a memory in bytes, a claim's size, and what is written as a text or a number."""
    text = (
        "singleuser:\n  extraEnv: {N: 3}\n  memory: {guarantee: 512}\n  storage: {capacity: 10}\n"
        f"  startTimeout: '600'\n  nodeSelector: {{a: 1}}\n  profileList: [{ONE}, {ONE.replace('One', 'Two')}]\n"
    )
    assert findings(text) == [
        (2, "error", "unquoted-text", "singleuser.extraEnv.N"),
        (3, "warning", "memory-in-bytes", "singleuser.memory.guarantee"),
        (4, "error", "chart-value", "singleuser.storage.capacity"),
        (5, "error", "chart-value", "singleuser.startTimeout"),
        (6, "error", "kubernetes", "singleuser.nodeSelector"),
    ]


def test_one_wrong_part_of_an_entry_hides_neither_the_rest_nor_the_profile(run, write):
    """A text in place of a choice, a number in place of a variable, a text in place of an entry."""
    text = """\
singleuser:
  profileList:
    - display_name: A
      kubespawner_override:
        image: a:1
        cpu_limit: 500m
        environment: {N: 3}
        extra_labels: {a: "no label!"}
      profile_options: {i: {choices: {a: Lab}}}
    - text
    - {display_name: 3, kubespawner_override: {cpu_limit: a}}
"""
    path = write("values.yaml", text)
    found = [(f["line"], f["rule"], f["field"]) for f in run.json("validate", path, code=1)]
    assert found == [
        (6, "wrong-value", "kubespawner_override.cpu_limit"),
        (7, "unquoted-text", "kubespawner_override.environment.N"),
        (8, "kubernetes", "Pod jupyter-user"),
        (9, "wrong-type", "profile_options.i.choices.a"),
        (10, "wrong-type", "profile_list[1]"),
        (11, "wrong-type", "display_name"),
        (11, "wrong-value", "kubespawner_override.cpu_limit"),
    ]
    assert run("validate", path, code=1).endswith("\n2 profiles: 7 errors, 0 warnings\n")
