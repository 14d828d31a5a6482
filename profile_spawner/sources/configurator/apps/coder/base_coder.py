"""The family of code-server profiles, as the configurator has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...apps.base import WorkspaceProfile
from ...models import Role, RoleBinding, Subject, SubjectKind, Verb, Volume, VolumeMount

__all__ = ["BaseCoderProfile"]

_READ = (Verb.get, Verb.list, Verb.watch)


class BaseCoderProfile(WorkspaceProfile):
    """code-server with a workspace and a scratch volume for workflow runs.

    The roles that the configurator's family gives to the account `default` are not asked for: the hub's policy decides
    on roles, and the hub must have the same rights. A plug-in that needs them returns `get_workflow_role_bindings()`
    from `get_role_bindings()`.
    """

    image: Any = "ghcr.io/eoepca/pde-code-server:latest-dev"
    storage_class_rwx: Any = "standard"
    base_path = str(Path(__file__).parent)
    manifests_path = str(Path(__file__).parent / "manifests")
    bash_login_path: Any = str(Path(__file__).parent / "config_maps" / "common" / "bash-login")

    def get_default_volumes(self) -> list[Any]:
        """Return the scratch volume, which goes with the server, and the workspace."""
        scratch = Volume(
            name="calrissian-volume",
            claim_name="calrissian-claim",
            size=self.calrissian_volume_size,
            storage_class=self.storage_class_rwx,
            access_modes=["ReadWriteMany"],
            volume_mount=VolumeMount(name="calrissian-volume", mount_path="/calrissian"),
            persist=False,
        )
        return [scratch, *super().get_default_volumes()]

    def get_workflow_role_bindings(self) -> list[RoleBinding]:
        """Return what a workflow needs to run in pods of its own: logs, pods, `exec` and jobs."""
        return [
            self._binding("log-reader", "log-reader", ("pods", "pods/log"), _READ),
            self._binding("pod-reader", "pod-manager", ("pods",), (Verb.create, Verb.patch, Verb.delete, *_READ)),
            self._binding("pod-exec", "pod-exec", ("pods/exec",), (Verb.create,)),
            self._binding("job-submitter", "job-submitter", ("jobs",), (Verb.create, Verb.delete, *_READ), "batch"),
        ]

    def _binding(
        self, binding: str, role: str, resources: Sequence[str], verbs: Sequence[Verb], group: str = ""
    ) -> RoleBinding:
        dashed = self.slug.replace("_", "-")
        return RoleBinding(
            name=f"{binding}-role-binding-{dashed}",
            subjects=[Subject(name="default", kind=SubjectKind.service_account)],
            role=Role(name=f"{role}-role-{dashed}", resources=list(resources), verbs=list(verbs), api_groups=[group]),
            persist=False,
        )
