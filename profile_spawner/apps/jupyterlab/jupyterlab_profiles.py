"""Built-in JupyterLab profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_spawner.apps.assets import load_manifests
from profile_spawner.apps.workspace import GPU
from profile_spawner.profiles.resources import Manifest
from profile_spawner.profiles.template import Template

from .base_jupyterlab import BaseJupyterLabProfile

__all__ = ["GpuJupyterLabProfile", "RedisJupyterLabProfile", "SmallJupyterLabProfile"]

_REDIS = load_manifests(Path(__file__).parent / "manifests" / "redis" / "redis.yaml", name="redis")


class SmallJupyterLabProfile(BaseJupyterLabProfile):
    """A small JupyterLab with the Docker Stacks' minimal image: Python, git and a few tools."""

    slug = "jupyterlab_small"
    display_name = "JupyterLab, small"
    description = "Notebooks, terminals and an editor. For teaching, small data and first steps."
    image = "quay.io/jupyter/minimal-notebook:2026-09-01"
    cpu_guarantee = 0.25
    cpu_limit = 1
    mem_guarantee = "512M"
    mem_limit = "2G"
    workspace_volume_size = "10Gi"
    tags: Sequence[str] = ("python", "notebook")


class GpuJupyterLabProfile(BaseJupyterLabProfile):
    """JupyterLab with PyTorch and CUDA 12 on one or two NVIDIA GPUs.

    It needs nodes with NVIDIA's device plug-in. It tolerates nodes with a taint for GPUs. To restrict it,
    set `allowed_groups` in a subclass, or use a quota of the cluster.
    """

    slug = "jupyterlab_gpu"
    display_name = "JupyterLab with GPU"
    description = "PyTorch and CUDA 12 on an NVIDIA GPU. For training models. Please stop it when you have finished."
    image = "quay.io/jupyter/pytorch-notebook:cuda12-2026-08-03"
    icon = "gpu"
    cpu_guarantee = 2
    cpu_limit = 4
    mem_guarantee = "8G"
    mem_limit = "16G"
    extra_resource_limits = {GPU: "1"}
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    workspace_volume_size = "50Gi"
    tags: Sequence[str] = ("python", "notebook", "gpu", "pytorch")
    profile_options = {
        "gpus": {
            "display_name": "GPUs",
            "choices": {
                "one": {
                    "display_name": "1",
                    "default": True,
                    "kubespawner_override": {"extra_resource_limits": {GPU: "1"}, "environment": {"PROFILE_GPUS": "1"}},
                },
                "two": {
                    "display_name": "2",
                    "kubespawner_override": {"extra_resource_limits": {GPU: "2"}, "environment": {"PROFILE_GPUS": "2"}},
                },
            },
        }
    }


class RedisJupyterLabProfile(SmallJupyterLabProfile):
    """JupyterLab with a Redis: a Deployment and a Service, which are deleted with the server.

    The hub's policy must allow Deployments. It allows Services by default.
    """

    slug = "jupyterlab_redis"
    display_name = "JupyterLab with Redis"
    description = "A small JupyterLab with its own Redis database, at `REDIS_URL`. Its data is deleted with the server."
    tags: Sequence[str] = ("python", "notebook", "database")

    def get_manifests(self) -> list[Manifest]:
        """Return the Deployment and the Service of Redis."""
        return [_REDIS]

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return the variables of the family and the address of Redis."""
        return {**super().get_pod_env_vars(), "REDIS_URL": Template("redis://redis-{{ server_slug }}:6379/0")}
