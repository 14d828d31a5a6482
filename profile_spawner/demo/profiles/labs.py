"""Two labs. Edit this file while the demo runs, and reload the spawn page."""

from profile_spawner import profile_registry
from profile_spawner.apps import GpuJupyterLabProfile, SmallJupyterLabProfile


@profile_registry.register
class SmallLab(SmallJupyterLabProfile):
    """The built-in small JupyterLab, under a name of its own."""

    slug = "small-lab"
    display_name = "Small lab"
    default = True
    pod_env_vars = {"COURSE": "{{ course/name }}", "OMP_NUM_THREADS": "{{ lab/threads }}"}


@profile_registry.register
class GpuLab(GpuJupyterLabProfile):
    """The built-in GPU lab, for one group. Its user chooses the number of GPUs and of threads."""

    slug = "gpu-lab"
    display_name = "GPU lab"
    description = "PyTorch on an NVIDIA GPU, for the group `gpu`. Please stop it when you are done."
    allowed_groups = ["gpu"]
    profiles = ["accelerated"]
    params = {"course/name": "Deep learning"}
    pod_env_vars = {"COURSE": "{{ course/name }}", "OMP_NUM_THREADS": "{{ lab/threads }}"}
