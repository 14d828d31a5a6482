"""The status of a pod as its kubelet reports it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .apiclient import Json
from .defaults import now

__all__ = ["ContainerStatus", "PodStatus"]


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
        self._set({"waiting": {"reason": reason, **({"message": message} if message else {})}})

    def run(self, container_id: str) -> None:
        """Report that it runs."""
        self.container_id = container_id
        self._set({"running": {"startedAt": now()}})

    def _set(self, state: Json) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = state

    def end(self, code: int, reason: str = "", message: str = "") -> None:
        """Report that it ended, with `Completed` or `Error` unless there is a better reason."""
        time = now()
        ended = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "message": message,
            "startedAt": self.state.get("running", {}).get("startedAt", time),
            "finishedAt": time,
            "containerID": self.container_id,
        }
        self.state = {"terminated": ended}

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return "running" in self.state

    @property
    def completed(self) -> bool:
        """Whether it has ended without an error."""
        return bool(self.state.get("terminated", {}).get("exitCode") == 0)

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
    """

    def __init__(self, pod: Json) -> None:
        init = pod["spec"].get("initContainers") or []
        self.phase = "Pending"
        self.ip = ""
        self.init = {c["name"]: ContainerStatus(c["name"], c.get("image", "")) for c in init}
        self.main = {c["name"]: ContainerStatus(c["name"], c.get("image", "")) for c in pod["spec"]["containers"]}
        for status in (*self.init.values(), *self.main.values()):
            status.wait_for("PodInitializing" if init else "ContainerCreating")
        self._started = now()
        self._conditions: dict[str, Json] = {}

    def of(self, name: str) -> ContainerStatus:
        """Return the status of the container or init container `name`."""
        return self.main[name] if name in self.main else self.init[name]

    def body(self) -> Json:
        """Return the status object, ready to be merged into the pod's."""
        # A pod runs as soon as each of its containers has been started once.
        if self.phase == "Pending" and all("waiting" not in s.state or s.last_state for s in self.main.values()):
            self.phase = "Running"
        unready = [name for name, status in self.main.items() if not status.running]
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        if self.phase == "Succeeded":
            not_ready = ("PodCompleted", "")
        address = {"podIP": self.ip, "podIPs": [{"ip": self.ip}]} if self.ip else {}
        return {
            "phase": self.phase,
            "hostIP": "127.0.0.1",
            **address,
            "startTime": self._started,
            "conditions": [self._condition("PodScheduled", True), self._condition("Ready", not unready, *not_ready)],
            "initContainerStatuses": [status.body(ready=status.completed) for status in self.init.values()],
            "containerStatuses": [status.body(ready=status.running) for status in self.main.values()],
        }

    def _condition(self, kind: str, true: bool, reason: str = "", message: str = "") -> Json:
        condition: Json = {"type": kind, "status": "True" if true else "False"}
        if not true:
            condition |= {"reason": reason, "message": message}
        old = self._conditions.get(kind)
        same = old is not None and old["status"] == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if old is not None and same else now()
        self._conditions[kind] = condition
        return condition
