"""Translates Kubernetes' events of a starting pod into plain words: what happens, what is wrong, and what to try.

All rules are in one table. The first rule that matches an event gives the text. If no rule matches, the event's own
message is shown. The original message is always available too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from profile_spawner.errors import shorten
from profile_spawner.texts import Gettext, Text, joined, marked, said

__all__ = ["OTHER_IMAGE", "STEPS", "TELL_ADMIN", "Translated", "explain", "in_plain_words", "step_text", "translated"]

TELL_ADMIN = marked("Please tell your administrator.")
OTHER_IMAGE = marked("Choose another image or profile, or tell your administrator.")
_SMALLER = marked("Choose a smaller profile, try again later, or ask your administrator.")
_LATER = marked("Try again in a few minutes; if it stays, tell your administrator.")


@dataclass(frozen=True)
class _Event:
    """The text for a kind of event.

    Attributes:
        reason: A regular expression for the event's whole `reason`.
        pattern: One that is searched for in its `message`; its groups are values of the text.
        says: The text.
        tries: What the user can try when the server does not start because of this; empty when nothing is wrong.
    """

    reason: str
    pattern: str
    says: str
    tries: str = ""


_QUOTED = r"[\"'“]?(?P<name>[^\s\"'”,]+)[\"'”]?"

_RULES = (
    # ------------------------------------------------------------------------------------------ a place to run
    _Event(
        "FailedScheduling", r"Insufficient [\w./-]*(?:gpu|mig|tpu|gaudi)", marked("Waiting for a free GPU."), _SMALLER
    ),
    _Event("FailedScheduling", r"Insufficient cpu", marked("Waiting for a node with enough free CPU."), _SMALLER),
    _Event("FailedScheduling", r"Insufficient memory", marked("Waiting for a node with enough free memory."), _SMALLER),
    _Event(
        "FailedScheduling",
        r"Insufficient (?P<resource>[\w./-]*\w)",
        marked("Waiting for a node with free %(resource)s."),
        _SMALLER,
    ),
    _Event("FailedScheduling", r"Too many pods", marked("Waiting for a node with room for one more server."), _SMALLER),
    _Event(
        "FailedScheduling",
        r"persistentvolumeclaim " + _QUOTED + r" not found",
        marked("Waiting for the storage %(name)s, which does not exist."),
        TELL_ADMIN,
    ),
    _Event(
        "FailedScheduling",
        r"unbound (?:immediate )?PersistentVolumeClaims",
        marked("Waiting for your storage to be made."),
        _LATER,
    ),
    _Event(
        "FailedScheduling",
        r"volume node affinity conflict",
        marked("Waiting for room on the nodes that can reach your storage."),
        _SMALLER,
    ),
    _Event(
        "FailedScheduling",
        r"didn't match (?:Pod's )?node (?:affinity|selector)|node\(s\) didn't match",
        marked("Waiting for a node of the kind that this profile needs."),
        TELL_ADMIN,
    ),
    _Event("FailedScheduling", r"taint", marked("Waiting for a node that takes this profile."), TELL_ADMIN),
    _Event("FailedScheduling", r"", marked("Waiting for a node with room for your server."), _SMALLER),
    _Event("TriggeredScaleUp", r"", marked("A new node is being started for you. This can take a few minutes.")),
    _Event("NotTriggerScaleUp", r"", marked("No further node can be started for this."), _SMALLER),
    _Event("SchedulingGated|Gated", r"", marked("Waiting in the queue of the cluster."), _LATER),
    _Event("Nominated|Preempt.*", r"", marked("Room is being made for your server.")),
    _Event("Scheduled", r"", marked("A place for your server has been found.")),
    # ------------------------------------------------------------------------------------------ storage
    _Event(
        "FailedAttachVolume",
        r"Multi-Attach",
        marked("Your storage is still in use on another node. Waiting until it is free."),
        marked("Stop your other servers and wait a minute."),
    ),
    _Event("FailedAttachVolume", r"", marked("Your storage cannot be attached yet. It is tried again."), _LATER),
    _Event(
        "FailedMount",
        r"(?:configmap|secret) " + _QUOTED + r" not found",
        marked("A file of the profile is missing: %(name)s."),
        TELL_ADMIN,
    ),
    _Event("FailedMount", r"", marked("Your storage or files cannot be mounted yet. It is tried again."), _LATER),
    _Event("SuccessfulAttachVolume|SuccessfulMountVolume", r"", marked("Your storage is attached.")),
    # ------------------------------------------------------------------------------------------ the image
    _Event(
        "Pulling",
        r"[Ii]mage [\"'](?P<image>[^\"']+)[\"']",
        marked("The image %(image)s is being downloaded. The first time on a node this takes a while."),
    ),
    _Event("Pulled", r"already present", marked("The image is already there.")),
    _Event("Pulled", r"", marked("The image has been downloaded.")),
    _Event("InspectFailed|Failed", r"InvalidImageName", marked("The name of the image is not valid."), OTHER_IMAGE),
    _Event(
        "Failed",
        r"(?i)unauthorized|denied|authentication required|forbidden",
        marked("The registry does not give out the image: it does not exist, or needs a login."),
        OTHER_IMAGE,
    ),
    _Event(
        "Failed",
        r"(?i)pull.*(?:not found|manifest unknown|does not exist|notfound)",
        marked("The image does not exist."),
        OTHER_IMAGE,
    ),
    _Event("Failed", r"(?i)no space left", marked("The node has no disk space left for the image."), _LATER),
    _Event(
        "Failed",
        r"(?i)toomanyrequests|rate limit",
        marked("The registry allows no more downloads at the moment."),
        _LATER,
    ),
    _Event(
        "Failed",
        r"(?i)pull.*(?:timeout|no such host|refused|x509|unreachable|deadline|EOF)",
        marked("The registry of the image cannot be reached."),
        _LATER,
    ),
    _Event(
        "Failed|BackOff",
        r"(?i)ImagePullBackOff|ErrImagePull|pulling image|pull image",
        marked("The image cannot be downloaded. It is tried again."),
        OTHER_IMAGE,
    ),
    # ------------------------------------------------------------------------------------------ the containers
    _Event(
        "Failed",
        r"(?:configmap|secret) " + _QUOTED + r" not found|couldn't find key (?P<key>\S+)",
        marked("A file or value of the profile is missing."),
        TELL_ADMIN,
    ),
    _Event("OOMKilled", r"", marked("The server ran out of memory."), marked("Choose a profile with more memory.")),
    _Event(
        "BackOff|CrashLoopBackOff",
        r"",
        marked("The server ends right after its start. It is tried again."),
        marked("Choose another profile or image; your administrator finds the reason in the log of the pod."),
    ),
    _Event(
        "Failed",
        r"executable file not found|no such file or directory",
        marked("The image does not contain the program that starts the server."),
        OTHER_IMAGE,
    ),
    _Event("Failed", r"", marked("The server cannot be started."), OTHER_IMAGE),
    _Event(
        "FailedCreatePodSand[Bb]ox|NetworkNotReady",
        r"",
        marked("The node is not ready yet. It is tried again."),
        _LATER,
    ),
    _Event("Created|Started", r"container:? (?:notebook|block-cloud-metadata)\b", marked("Your server is starting.")),
    _Event("Created|Started", r"container:? " + _QUOTED, marked("Your server is being prepared: %(name)s.")),
    _Event("Created|Started", r"", marked("Your server is starting.")),
    _Event("Unhealthy", r"", marked("The server does not answer yet.")),
    _Event("Evicted", r"", marked("The server was removed because its node ran short of something."), _LATER),
    _Event("Preempted", r"", marked("The server had to make room for a more important one."), _LATER),
    _Event("NodeNotReady|TaintManagerEviction", r"", marked("The node of the server has a problem."), _LATER),
    _Event("Killing", r"", marked("The server is being stopped.")),
)
_COMPILED = tuple((re.compile(r.reason), re.compile(r.pattern), r) for r in _RULES)

STEPS = (
    marked("Preparing files"),
    marked("Preparing storage"),
    marked("Preparing services"),
    marked("Running the start-up script"),
)
"""The texts for the steps of `ProfileBuild.steps`."""


@dataclass(frozen=True)
class Translated:
    """An event in plain words.

    Attributes:
        text: What happens.
        tries: What to try if it stays so; empty when nothing is wrong.
    """

    text: str
    tries: str = ""


def in_plain_words(reason: str, message: str) -> Translated:
    """Return the text for an event.

    Args:
        reason: The event's `reason`.
        message: Its `message`.
    """
    message = message[:4000]
    for fits_reason, fits_message, rule in _COMPILED:
        if fits_reason.fullmatch(reason):
            match = fits_message.search(message)
            if match:
                values = {name: shorten(value or "", 100) for name, value in match.groupdict().items()}
                return Translated(Text(rule.says, **values), Text(rule.tries) if rule.tries else "")
    return Translated(Text("Kubernetes says: %(text)s", text=shorten(message, 300)) if message else "")


def step_text(step: str, name: str) -> Text:
    """Return the text for a step of a profile, such as `Preparing files for GPU lab`."""
    return Text("%(step)s for %(name)s", step=Text(step), name=name)


def explain(pod: Mapping[str, Any] | None, events: Iterable[Mapping[str, Any]]) -> Text | None:
    """Return why a pod does not start, and what to try; `None` if there is no sign of a problem.

    Args:
        pod: The pod, as the API server has it. Its status has priority over events.
        events: Its events, the latest last.
    """
    found = None
    for reason, message in (*_from_events(events), *_from_status(pod)):
        translated_event = in_plain_words(reason, message)
        if translated_event.tries:
            found = translated_event
        elif reason in ("Pulled", "Scheduled", "Started"):
            found = None  # what was wrong before is over
    return joined((found.text, found.tries)) if found is not None else None


def _from_events(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for event in events:
        yield str(event.get("reason") or ""), str(event.get("message") or "")


def _from_status(pod: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    status = (pod or {}).get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield "FailedScheduling", str(condition.get("message") or "")
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        reason = str(waiting.get("reason") or "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            kind = reason if reason == "CrashLoopBackOff" else "Failed"
            yield kind, f"{reason}: {waiting.get('message') or ''}"
        if ended.get("reason") == "OOMKilled":
            yield "OOMKilled", ""


async def translated(events: AsyncIterator[dict[str, Any]], gettext: Gettext) -> AsyncIterator[dict[str, Any]]:
    """Yield KubeSpawner's progress events in plain words, without repetitions.

    The words of Kubernetes stay in `raw_event`, and folded away in `html_message`.

    Args:
        events: What `KubeSpawner.progress` yields.
        gettext: Translates.
    """
    before = ""
    async for event in events:
        raw = event.get("raw_event")
        if not isinstance(raw, Mapping):
            yield event
            continue
        reason, message = str(raw.get("reason") or ""), str(raw.get("message") or "")
        words = in_plain_words(reason, message)
        text = str(said(words.text, gettext))
        if not text or text == before:
            continue
        before = text
        yield {**event, "message": text, "html_message": _markup(text, f"{reason}: {message}", gettext)}


def _markup(text: str, original: str, gettext: Gettext) -> str:
    details = Markup('{} <details class="ps-original"><summary>{}</summary><code>{}</code></details>')
    return str(details.format(escape(text), gettext(marked("Details")), shorten(original, 1000)))
