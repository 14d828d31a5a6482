"""VS Code and a desktop.

On the demo's local cluster every server is a JupyterLab, whatever its image: images are not pulled there. On a real
cluster these profiles open VS Code and a desktop.
"""

from profile_spawner import CoderProfile, GpuCoderProfile, RemoteDesktopProfile, profile_registry

profile_registry.register(CoderProfile)
profile_registry.register(RemoteDesktopProfile)


@profile_registry.register
class GpuCoder(GpuCoderProfile):
    """VS Code with a GPU, for one group."""

    slug = "gpu-coder"
    allowed_groups = ["gpu"]
