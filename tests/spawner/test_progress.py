"""What Kubernetes says is told in plain words; the messages are those of real clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from profile_spawner.spawner.progress import explain, in_plain_words, translated

PULL = 'Failed to pull image "x.org/a:1": '


@pytest.mark.parametrize(
    ("reason", "message", "expected", "tries"),
    [
        (
            "FailedScheduling",
            "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
            "2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found.",
            "Waiting for a free GPU.",
            "smaller",
        ),
        ("FailedScheduling", "0/2 nodes are available: 2 Insufficient cpu.", "enough free CPU", "smaller"),
        ("FailedScheduling", "0/2 nodes are available: 2 Insufficient memory.", "enough free memory", "smaller"),
        (
            "FailedScheduling",
            "0/2 nodes are available: 2 Insufficient ephemeral-storage.",
            "free ephemeral-storage.",
            "smaller",
        ),
        ("FailedScheduling", "0/2 nodes are available: 2 Too many pods.", "one more server", "smaller"),
        (
            "FailedScheduling",
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "of the kind that this profile needs",
            "administrator",
        ),
        (
            "FailedScheduling",
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "storage to be made",
            "few minutes",
        ),
        (
            "FailedScheduling",
            'persistentvolumeclaim "claim-ada" not found',
            "the storage claim-ada, which does not exist",
            "administrator",
        ),
        (
            "FailedScheduling",
            "0/4 nodes are available: 4 node(s) had volume node affinity conflict.",
            "can reach your storage",
            "smaller",
        ),
        ("FailedScheduling", "no nodes available to schedule pods", "room for your server", "smaller"),
        ("Scheduled", "Successfully assigned hub/jupyter-ada to node-1", "has been found", ""),
        ("TriggeredScaleUp", "pod triggered scale-up: [{gpu 0->1 (max: 4)}]", "new node is being started", ""),
        (
            "NotTriggerScaleUp",
            "pod didn't trigger scale-up: 2 max node group size reached",
            "No further node",
            "smaller",
        ),
        ("Pulling", 'Pulling image "quay.io/jupyter/base:1"', "The image quay.io/jupyter/base:1 is being", ""),
        ("Pulled", 'Container image "a:1" already present on machine', "already there", ""),
        ("Pulled", 'Successfully pulled image "a:1" in 3.2s (3.2s including waiting)', "has been downloaded", ""),
        (
            "Failed",
            PULL + "rpc error: code = NotFound desc = failed to pull and unpack image: x.org/a:1: not found",
            "The image does not exist.",
            "another image",
        ),
        (
            "Failed",
            PULL + "failed to resolve reference: pull access denied, repository does not exist or may require "
            "authorization: server message: insufficient_scope: authorization failed",
            "does not give out the image",
            "another image",
        ),
        (
            "Failed",
            PULL + 'failed to do request: Head "https://x.org/v2/a/manifests/1": dial tcp: lookup x.org: no such host',
            "cannot be reached",
            "few minutes",
        ),
        ("Failed", PULL + "429 Too Many Requests - toomanyrequests: rate limit", "no more downloads", "few minutes"),
        ("Failed", PULL + "write /var/lib/containerd/x: no space left on device", "no disk space", "few minutes"),
        ("Failed", "Error: ErrImagePull", "cannot be downloaded", "another image"),
        ("Failed", "Error: ImagePullBackOff", "cannot be downloaded", "another image"),
        ("BackOff", 'Back-off pulling image "x.org/a:1"', "cannot be downloaded", "another image"),
        ("InspectFailed", 'Failed to apply default image tag "A:": InvalidImageName', "name of the image", "another"),
        ("Failed", 'Error: configmap "files-1" not found', "file or value of the profile is missing", "administrator"),
        (
            "Failed",
            'Error: failed to start container "notebook": exec: "start-x": executable file not found in $PATH',
            "does not contain the program",
            "another image",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "files" : configmap "files-1" not found',
            "A file of the profile is missing: files-1.",
            "administrator",
        ),
        ("FailedMount", "Unable to attach or mount volumes: timed out waiting", "cannot be mounted yet", "few minutes"),
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) jupyter-ada--x',
            "still in use on another node",
            "Stop your other servers",
        ),
        ("SuccessfulAttachVolume", "AttachVolume.Attach succeeded", "storage is attached", ""),
        ("FailedCreatePodSandBox", "Failed to create pod sandbox: networkPlugin cni failed", "not ready yet", "few"),
        ("Created", "Created container notebook", "Your server is starting.", ""),
        ("Created", "Created container: init-files", "being prepared: init-files", ""),
        ("Started", "Started container notebook", "Your server is starting.", ""),
        ("BackOff", "Back-off restarting failed container notebook in pod jupyter-ada", "ends right after", "another"),
        ("Evicted", "The node was low on resource: ephemeral-storage.", "ran short", "few minutes"),
        ("SomethingNew", "The moon is full", "Kubernetes says: The moon is full", ""),
        ("SomethingNew", "", "", ""),
    ],
)
def test_events_in_plain_words(reason: str, message: str, expected: str, tries: str) -> None:
    """Each says what happens, and those that can last say what to try."""
    told = in_plain_words(reason, message)
    assert expected in told.text
    assert tries in told.tries
    assert bool(told.tries) == bool(tries)


def event(reason: str, message: str) -> dict[str, Any]:
    """Return an event as KubeSpawner's watch has it."""
    return {"reason": reason, "message": message, "type": "Normal"}


def test_the_last_trouble_is_the_explanation() -> None:
    """What is over does not count; the pod's own status says more than its events; without trouble nothing is said."""
    waiting = event("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.")
    assert explain(None, []) is None
    assert "free CPU" in (explain(None, [waiting]) or "")
    assert explain(None, [waiting, event("Scheduled", "assigned")]) is None
    why = explain(None, [waiting, event("Scheduled", "assigned"), event("Failed", "Error: ImagePullBackOff")])
    assert why == (
        "The image cannot be downloaded. It is tried again. "
        "Choose another image or profile, or tell your administrator."
    )
    status = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}
    assert "ends right after" in (explain({"status": {"containerStatuses": [status]}}, [waiting]) or "")
    ended = {"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    assert "more memory" in (explain({"status": {"containerStatuses": [ended]}}, []) or "")


async def test_the_words_of_kubernetes_stay_accessible_and_are_text() -> None:
    """They are folded away beside ours; whoever named the image writes no markup; nothing is said twice in a row."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        for image in ("<script>alert(1)</script>", "<script>alert(1)</script>", "b:1"):
            raw = event("Pulling", f'Pulling image "{image}"')
            yield {"progress": 10, "raw_event": raw, "message": "2026-01-01 [Normal] Pulling image"}
        yield {"message": "still starting"}

    told = [e async for e in translated(events(), str)]
    assert [e["message"].split(" is being")[0] for e in told] == [
        "The image <script>alert(1)</script>",
        "The image b:1",
        "still starting",
    ]
    assert "<script>" not in told[0]["html_message"]
    assert "&lt;script&gt;" in told[0]["html_message"]
    assert "<details" in told[0]["html_message"]
    assert told[0]["raw_event"]["reason"] == "Pulling"
    assert told[0]["progress"] == 10
