"""Built-in VS Code profiles."""

from __future__ import annotations

from collections.abc import Sequence

from profile_spawner.apps.workspace import GPU

from .base_coder import BaseCoderProfile

__all__ = ["CoderProfile", "GpuCoderProfile"]


class CoderProfile(BaseCoderProfile):
    """VS Code with Python."""

    slug = "coder_app"
    display_name = "VS Code"
    description = "The editor in your browser, with Python, git and a terminal."
    image = "glcr.b-data.ch/jupyterlab/python/base:3"
    cpu_guarantee = 0.5
    cpu_limit = 2
    mem_guarantee = "1G"
    mem_limit = "4G"
    tags: Sequence[str] = ("python", "editor")


class GpuCoderProfile(CoderProfile):
    """VS Code with Python and CUDA on one NVIDIA GPU. The nodes need NVIDIA's device plug-in."""

    slug = "gpu_coder_app"
    display_name = "VS Code with GPU"
    description = "The editor in your browser, with Python and CUDA on an NVIDIA GPU."
    image = "glcr.b-data.ch/jupyterlab/cuda/python/base:3"
    cpu_guarantee = 2
    cpu_limit = 4
    mem_guarantee = "8G"
    mem_limit = "16G"
    extra_resource_limits = {GPU: "1"}
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    workspace_volume_size = "50Gi"
    tags: Sequence[str] = ("python", "editor", "gpu")
