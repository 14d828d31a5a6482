"""The demo hub's configuration: the snippets of `jupyterhub_config.d`, and what makes a demo of it.

JupyterHub runs this file with `c` and `load_subconfig` in its namespace. The values come from the JSON file that
`PROFILE_SPAWNER_DEMO` names, which only the demo's owner can read.
"""

# mypy: ignore-errors

import json
import os
from pathlib import Path

demo = json.loads(Path(os.environ["PROFILE_SPAWNER_DEMO"]).read_text(encoding="utf-8"))

for snippet in demo["snippets"]:
    load_subconfig(snippet)  # noqa: F821 - given by traitlets

c = get_config()  # noqa: F821 - given by traitlets

# Where everything is. Nothing but the proxy is meant for a browser, and all of it stays on this machine.
c.JupyterHub.bind_url = f"http://127.0.0.1:{demo['port']}"
c.JupyterHub.hub_ip = demo["hub_address"]
c.JupyterHub.hub_port = demo["hub_port"]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{demo['proxy_api_port']}"
c.ConfigurableHTTPProxy.should_start = False  # the demo starts it, and ends it after the hub
c.JupyterHub.db_url = f"sqlite:///{demo['state_dir']}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{demo['state_dir']}/cookie_secret"
c.JupyterHub.cleanup_proxy = False

# Who can log in.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = demo["user_password"]
c.SharedPasswordAuthenticator.admin_password = demo["admin_password"]
c.Authenticator.allowed_users = {user["name"] for user in demo["users"]}
c.Authenticator.admin_users = {user["name"] for user in demo["users"] if user["admin"]}
groups = {group for user in demo["users"] for group in user["groups"]}
c.JupyterHub.load_groups = {
    group: {"users": [user["name"] for user in demo["users"] if group in user["groups"]]} for group in groups
}

# A home volume for every user, as Zero to JupyterHub has it by default. Profiles add theirs to it.
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.pvc_name_template = "claim-{username}"
c.KubeSpawner.storage_capacity = "10Gi"
c.KubeSpawner.volumes = {"home": {"name": "home", "persistentVolumeClaim": {"claimName": "claim-{username}"}}}
c.KubeSpawner.volume_mounts = {"home": {"name": "home", "mountPath": "/home/jovyan"}}

c.KubeSpawner.namespace = demo["namespace"]
c.ProfileSpawner.profile_config_maps = demo["config_maps"]
c.ProfileSpawner.profile_config_maps_namespace = demo["namespace"]
c.KubeSpawner.start_timeout = 120
c.KubeSpawner.http_timeout = 120  # a first JupyterLab on a busy machine takes its time
c.KubeSpawner.delete_grace_period = 5
c.ProfileSpawner.hub_id = "demo"
# Files that several servers can share are kept for some time after the last server. In the demo their removal should be
# visible soon.
c.ProfileSpawner.shared_grace_period = 2
c.ProfileSpawner.sweep_interval = 2
c.ProfileSpawner.capacity_interval = 3

# Values that the example profiles share: those of two groups and of this hub. Nothing may exceed what is enforced.
if any((Path(folder) / "params.py").exists() for folder in os.environ.get("PROFILE_SPAWNER_DIRS", "").split(":")):
    c.ProfileSpawner.param_values = {
        "enforced": {"lab/threads": {"$maximum": 6}},
        "groups": {"research": {"course/name": "Research seminar"}, "gpu": {"lab/threads": 6}},
        "hub": {"hub/environment": "demo"},
    }
