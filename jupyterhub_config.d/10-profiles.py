"""Servers are started from profiles.

Environment variables, for a hub whose configuration is not written by hand:

- PROFILE_SPAWNER_DIRS: folders with Python modules that register profiles, separated by ":".
- PROFILE_SPAWNER_DOCUMENTS: YAML files or folders of them, separated by ":".
- PROFILE_SPAWNER_BUILTIN: slugs of built-in profiles, separated by spaces, or "all". None by default.
- PROFILE_SPAWNER_CONFIGURATOR: "true" to load modules that were written for the EOEPCA configurator.
"""

import os

c.JupyterHub.spawner_class = "profile-spawner"

c.ProfileSpawner.profiles_dirs = [p for p in os.environ.get("PROFILE_SPAWNER_DIRS", "").split(":") if p]
c.ProfileSpawner.profile_documents = [p for p in os.environ.get("PROFILE_SPAWNER_DOCUMENTS", "").split(":") if p]
c.ProfileSpawner.builtin_profiles = os.environ.get("PROFILE_SPAWNER_BUILTIN", "").split()
c.ProfileSpawner.configurator_compat = os.environ.get("PROFILE_SPAWNER_CONFIGURATOR", "").lower() in (
    "1",
    "true",
    "yes",
)
