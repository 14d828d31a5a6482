"""`ProfileSpawner`: a KubeSpawner whose page and pods come from profiles."""

from kubespawner import KubeSpawner

from .spawner import ProfileSpawner

__all__ = ["KubeSpawner", "ProfileSpawner"]
