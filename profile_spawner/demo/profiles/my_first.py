"""The profile of the README, in ten lines."""

from profile_spawner import BaseJupyterLabProfile, profile_registry


@profile_registry.register
class DataScience(BaseJupyterLabProfile):
    slug = "data-science"
    display_name = "Data science"
    description = "Notebooks with pandas and scikit-learn."
    image = "quay.io/jupyter/scipy-notebook:2026-08-03"
    cpu_limit, mem_limit = 2, "4G"
    pod_env_vars = {"GREETING": "hello"}
