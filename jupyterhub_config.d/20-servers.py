"""How servers run. Zero to JupyterHub sets most of this from its values; there the file changes nothing."""

# The images of the built-in profiles contain it, and start a server without a hub when they are not told.
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]

# The group of the user `jovyan` in Jupyter's images: new volumes belong to it, so that he can write to them.
c.KubeSpawner.fs_gid = 100

# The user sees at once what is going on, instead of a page that seems to hang.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}

# Several servers of one user, each with a profile of its own.
c.JupyterHub.allow_named_servers = True
c.JupyterHub.named_server_limit_per_user = 5
