"""`ProfileSpawner`: a KubeSpawner whose page and pods come from profiles."""

from .spawner import ProfileSpawner

__all__ = ["ProfileSpawner"]
