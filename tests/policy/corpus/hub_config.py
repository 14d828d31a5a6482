"""The hub of the corpus: what Zero to JupyterHub gives to every server, with guards that documents must not lift."""

from __future__ import annotations

from typing import Any

c: Any = get_config()  # type: ignore[name-defined] # noqa: F821 - the loader defines it

c.JupyterHub.spawner_class = "profile-spawner"
c.KubeSpawner.namespace = "users"
c.KubeSpawner.image = "example/hub-default:1"
c.KubeSpawner.common_labels = {
    "app": "jupyterhub",
    "release": "hub",
    "app.kubernetes.io/name": "jupyterhub",
    "app.kubernetes.io/instance": "hub",
}
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
c.KubeSpawner.extra_annotations = {"example.org/cost-centre": "research"}
c.KubeSpawner.uid = 1000
c.KubeSpawner.fs_gid = 100
c.KubeSpawner.allow_privilege_escalation = False
c.KubeSpawner.container_security_context = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
c.KubeSpawner.pod_security_context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
c.KubeSpawner.init_containers = [
    {
        "name": "block-cloud-metadata",
        "image": "example/network-tools:1",
        "command": ["iptables", "--append", "OUTPUT", "--destination", "169.254.169.254", "--jump", "DROP"],
        "securityContext": {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
    }
]
c.KubeSpawner.extra_containers = [{"name": "audit", "image": "example/audit:1"}]
c.KubeSpawner.node_selector = {"example.org/pool": "users"}
c.KubeSpawner.tolerations = [{"key": "hub.jupyter.org/dedicated", "value": "user", "effect": "NoSchedule"}]
c.KubeSpawner.pvc_name_template = "claim-{user_server}"
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_capacity = "10Gi"
c.KubeSpawner.volumes = [
    {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}},
    {"name": "team", "persistentVolumeClaim": {"claimName": "team-data"}},
    {"name": "projects", "persistentVolumeClaim": {"claimName": "all-projects"}},
    {"name": "kept", "secret": {"secretName": "singleuser"}},
]
c.KubeSpawner.volume_mounts = [
    {"name": "home", "mountPath": "/home/jovyan"},
    {"name": "team", "mountPath": "/team", "subPath": "public", "readOnly": True},
    {"name": "projects", "mountPath": "/project", "subPathExpr": "$(PROJECT)"},
]
c.KubeSpawner.node_affinity_required = [{"matchExpressions": [{"key": "example.org/zone", "operator": "Exists"}]}]
c.KubeSpawner.pod_anti_affinity_required = [
    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"component": "hub"}}}
]
c.KubeSpawner.environment = {"PROJECT": "{username}"}
c.KubeSpawner.image_pull_secrets = ["image-pull-secret"]
