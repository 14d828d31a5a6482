"""ProfileSpawner: the profile engine for JupyterHub on Kubernetes."""
