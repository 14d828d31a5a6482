"""Two labs. Edit this file while the demo runs, and reload the spawn page."""

from profile_spawner import GpuJupyterLabProfile, SmallJupyterLabProfile, profile_registry


@profile_registry.register
class SmallLab(SmallJupyterLabProfile):
    """The built-in small JupyterLab, under a name of its own."""

    slug = "small-lab"
    display_name = "Small lab"
    default = True
    pod_env_vars = {"COURSE": "Introduction to Python"}


@profile_registry.register
class GpuLab(GpuJupyterLabProfile):
    """The built-in GPU lab, for one group. Its user chooses the number of GPUs."""

    slug = "gpu-lab"
    display_name = "GPU lab"
    description = "PyTorch on an NVIDIA GPU, for the group `gpu`. Please stop it when you are done."
    allowed_groups = ["gpu"]
    pod_env_vars = {"COURSE": "Deep learning", "OMP_NUM_THREADS": "4"}
