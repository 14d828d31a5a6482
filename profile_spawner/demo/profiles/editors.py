"""VS Code and a desktop.

On the demo's local cluster every server is a JupyterLab, whatever its image: images are not pulled there. On a real
cluster these profiles open VS Code and a desktop.
"""

from profile_spawner import profile_registry
from profile_spawner.apps import CoderProfile, GpuCoderProfile, RemoteDesktopProfile


@profile_registry.register
class Editor(CoderProfile):
    """The built-in VS Code, below the labs."""

    slug = "editor"
    order = 10


@profile_registry.register
class GpuEditor(GpuCoderProfile):
    """VS Code with a GPU, for one group."""

    slug = "gpu-editor"
    order = 11
    allowed_groups = ["gpu"]


@profile_registry.register
class Desktop(RemoteDesktopProfile):
    """The built-in desktop."""

    slug = "desktop"
    order = 20
