"""The status of a pod as its kubelet reports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .apiclient import Json
from .events import timestamp

__all__ = ["ContainerStatus", "PodStatus", "is_sidecar"]

WAITING = ("ContainerCreating", "PodInitializing")


def is_sidecar(container: Json) -> bool:
    """Whether this init container runs beside the pod's containers instead of before them."""
    return container.get("restartPolicy") == "Always"


@dataclass
class ContainerStatus:
    """What is reported about one container.

    Attributes:
        name: Its name.
        image: The image that the pod names.
        container_id: The ID of its present process.
        state: The Kubernetes state object: `waiting`, `running` or `terminated`.
        last_state: The state object of the run before this one.
        restarts: How often it was started again.
    """

    name: str
    image: str
    container_id: str = ""
    state: Json = field(default_factory=dict)
    last_state: Json = field(default_factory=dict)
    restarts: int = 0

    def wait_for(self, reason: str, message: str = "") -> None:
        """Report that it does not run, and why."""
        self._remember()
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}

    def run(self, container_id: str) -> None:
        """Report that it runs."""
        self._remember()
        self.container_id = container_id
        self.state = {"running": {"startedAt": timestamp()}}

    def _remember(self) -> None:
        if "terminated" in self.state:
            self.last_state = self.state

    def end(self, code: int, reason: str = "", message: str = "") -> None:
        """Report that it ended, with `Completed` or `Error` unless there is a better reason."""
        now = timestamp()
        started = self.state.get("running", {}).get("startedAt", now)
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason or ("Error" if code else "Completed"),
                **({"message": message} if message else {}),
                "startedAt": started,
                "finishedAt": now,
                "containerID": self.container_id,
            }
        }

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it has not."""
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None

    def body(self, *, ready: bool) -> Json:
        """Return it as in a Pod object."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"local-cluster://{self.image}" if self.container_id else "",
            "containerID": self.container_id,
            "ready": ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }


class PodStatus:
    """The status of one pod.

    Args:
        pod: The pod.
        host_ip: The node's address.
    """

    def __init__(self, pod: Json, host_ip: str = "127.0.0.1") -> None:
        spec = pod["spec"]
        first = spec.get("initContainers") or []
        reason = WAITING[1] if first else WAITING[0]
        self.phase = "Pending"
        self.reason = ""
        self.ip = ""
        self.old_ips = [known["ip"] for known in (pod.get("status") or {}).get("podIPs") or []]
        self.init = {c["name"]: ContainerStatus(c["name"], c.get("image", "")) for c in first}
        self.main = {c["name"]: ContainerStatus(c["name"], c.get("image", "")) for c in spec["containers"]}
        for status in (*self.init.values(), *self.main.values()):
            status.wait_for(reason)
        self._sidecars = {c["name"] for c in first if is_sidecar(c)}
        self._host_ip = host_ip
        self._started = timestamp()
        self._conditions: dict[str, dict[str, Any]] = {}

    def of(self, name: str) -> ContainerStatus:
        """Return the status of the container or init container `name`."""
        return self.main[name] if name in self.main else self.init[name]

    @property
    def initialized(self) -> bool:
        """Whether all init containers have done their work."""
        return all(
            status.running if name in self._sidecars else status.exit_code == 0 for name, status in self.init.items()
        )

    def body(self) -> Json:
        """Return the status object, ready to be merged into the pod's."""
        self._update_phase()
        done = self.phase == "Succeeded"
        waiting = " ".join(n for n, s in self.init.items() if n not in self._sidecars and s.exit_code != 0)
        unready = " ".join(n for n, s in self.main.items() if not s.running)
        not_ready = ("ContainersNotReady", f"containers with unready status: [{unready}]")
        if done:
            not_ready = ("PodCompleted", "")
        conditions = [
            self._condition("PodScheduled"),
            self._condition(
                "Initialized",
                bool(self.initialized or done),
                "ContainersNotInitialized",
                f"containers with incomplete status: [{waiting}]",
            ),
            self._condition("ContainersReady", not unready and not done, *not_ready),
            self._condition("Ready", not unready and not done, *not_ready),
        ]
        body: Json = {
            "phase": self.phase,
            "hostIP": self._host_ip,
            "startTime": self._started,
            "conditions": conditions,
            "containerStatuses": [s.body(ready=s.running) for s in self.main.values()],
        }
        if self.ip:
            # The patch merges addresses, and a pod may have one only.
            stale = [{"$patch": "delete", "ip": ip} for ip in self.old_ips if ip != self.ip]
            body |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}, *stale]}
        if self.reason:
            body["reason"] = self.reason
        if self.init:
            body["initContainerStatuses"] = [
                s.body(ready=s.running if n in self._sidecars else s.exit_code == 0) for n, s in self.init.items()
            ]
        return body

    def _update_phase(self) -> None:
        """A pod runs as soon as each of its containers has been started once."""
        if self.phase == "Pending" and all(
            s.running or s.exit_code is not None or s.last_state for s in self.main.values()
        ):
            self.phase = "Running"

    def _condition(self, kind: str, true: bool = True, reason: str = "", message: str = "") -> Json:
        old = self._conditions.get(kind)
        wanted: Json = {"type": kind, "status": "True" if true else "False"}
        if not true:
            wanted |= {"reason": reason, "message": message}
        changed = old is None or old["status"] != wanted["status"]
        wanted["lastTransitionTime"] = timestamp() if old is None or changed else old["lastTransitionTime"]
        self._conditions[kind] = wanted
        # The patch merges conditions: what no longer holds has to be taken away by name.
        stale = ("reason", "message") if kind == "PodScheduled" else tuple(old or ())
        return {**{key: None for key in stale if key not in wanted}, **wanted}
