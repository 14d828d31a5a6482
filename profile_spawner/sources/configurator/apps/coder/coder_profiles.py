"""The ready-made code-server profiles of the configurator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...apps.app_helpers import load_manifests
from ...apps.coder.base_coder import BaseCoderProfile
from ...models import RoleBinding, Verb

__all__ = ["CoderProfile", "DaskGatewayCoderProfile", "GpuCoderProfile"]

_FILES = Path(__file__).parent / "config_maps" / "common"
_GATEWAY = "dask-gateway"


class CoderProfile(BaseCoderProfile):
    """code-server."""

    slug = "coder_app"
    display_name = "Code Server"
    description = "Code Server for development"
    workspace_volume_size = "10Gi"
    calrissian_volume_size = "25Gi"
    bashrc_path = str(_FILES / "bash-rc")
    init_script_path = str(_FILES / "init.sh")


class GpuCoderProfile(BaseCoderProfile):
    """code-server with one GPU."""

    slug = "gpu_coder_app"
    display_name = "GPU Code Server"
    description = "Code Server with GPU acceleration"
    cpu_guarantee = 4
    cpu_limit = 8
    mem_guarantee = "16G"
    mem_limit = "32G"
    gpu_limit: Any = 1
    bashrc_path = str(_FILES / "bash-rc")
    init_script_path = str(_FILES / "init.sh")

    def __init__(self, *args: Any, node_selector: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        """Select nodes with a GPU, besides what is given."""
        super().__init__(*args, node_selector={"nvidia.com/gpu.present": "true", **(node_selector or {})}, **kwargs)

    def get_extra_resource_limits(self) -> Mapping[str, Any]:
        """Return the GPUs."""
        return {"nvidia.com/gpu": self.gpu_limit}


class DaskGatewayCoderProfile(BaseCoderProfile):
    """code-server that uses the Dask Gateway of the namespace, which administrators install."""

    NOT_INCLUDED = (
        "Release dask-gw-jupyter-{{ spawner.user.name }} (the gateway: a custom resource of Crossplane)",
        "ConfigMap dask-gateway-config-ws",
    )
    slug = "coder_dask_gateway_app"
    display_name = "Code Server with Dask Gateway"
    description = "Code Server with Dask Gateway for distributed computing"
    default_url = "/workspace/dask-app-package"
    workspace_volume_size = "15Gi"
    calrissian_volume_size = "30Gi"
    bashrc_path = str(_FILES / "bash-rc")
    init_script_path = str(_FILES / "init.sh")

    def get_pod_env_vars(self) -> Mapping[str, Any]:
        """Return the variables of the family, and the address of the gateway."""
        return {
            **super().get_pod_env_vars(),
            "DASK_GATEWAY_ADDRESS": "http://dask-gateway.{{ namespace }}.svc.cluster.local:80",
            "CODE_SERVER_WS": "/workspace/dask-app-package",
        }

    def get_workflow_role_bindings(self) -> list[RoleBinding]:
        """Return those of the family, and what reaches the gateway: services and their ports."""
        read = (Verb.get, Verb.list, Verb.watch)
        return [
            *super().get_workflow_role_bindings(),
            self._binding("service-reader", "service-reader", ("services", "pods/exec"), read),
            self._binding("port-forwarder", "port-forwarder", ("pods/portforward",), (Verb.create,)),
        ]

    def get_manifests(self) -> list[Any]:
        """Return the settings of the gateway's clients."""
        path = Path(self.manifests_path) / "coder_dask_gateway_app" / "dask-gateway.yaml"
        return [load_manifests(name=_GATEWAY, key=_GATEWAY, file_path=path, slug=self.slug)]
