"""Detects what an untrusted document changes in the hub's pod, and which of these changes the policy refuses.

The check compares the final pod with the pod that the hub's configuration alone would create. So it does not depend on
the spelling in the document or on the option or param that made the change. The pods of Deployments and similar objects
contain nothing from the hub, so everything in them counts as added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_spawner.profiles.resources import KubeObject

from .data_policy import DataPolicy, Refusal, camel

__all__ = ["Change", "HubFacts", "changes", "judge_objects", "judge_pod"]

_FREE_KEYS = frozenset({"annotations", "labels", "limits", "matchLabels", "nodeSelector", "requests"})
"""The mappings in a pod whose keys are free names, not fields."""

_IDENTITIES = {"env": ("name",), "volumeMounts": ("mountPath",), "ports": ("name", "containerPort")}
_NAMED = frozenset({"containers", "env", "ephemeralContainers", "initContainers", "ports", "volumeMounts", "volumes"})
"""The lists in a pod whose items are identified by a key: `name`, unless `_IDENTITIES` has another key."""

_ACTING_LABELS = frozenset({"aadpodidbinding", "app", "chart", "component", "heritage", "profile-spawner", "release"})
_OWN_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PER_PROFILE_ENV = frozenset({"JUPYTERHUB_DEFAULT_URL", "JUPYTERHUB_ROOT_DIR", "JUPYTERHUB_SERVICE_URL"})
_IDS = frozenset({"fsGroup", "runAsGroup", "runAsUser"})


@dataclass(frozen=True)
class HubFacts:
    """The facts about the hub that the check needs.

    Attributes:
        protected: Names of the hub's own Secrets, ConfigMaps, claims and Services.
        claim_prefix: The prefix of the names of the users' home claims; empty if it is not known.
    """

    protected: frozenset[str] = frozenset(
        {
            "hub", "hub-db-dir", "image-pull-secret", "proxy-api", "proxy-http", "proxy-public",
            "proxy-public-manual-tls", "proxy-public-tls-acme", "singleuser",
        }
    )  # fmt: skip
    claim_prefix: str = ""


@dataclass(frozen=True)
class Change:
    """A difference between the hub's own pod and the final pod.

    Attributes:
        path: Keys of mappings and names of list items, from the pod's root.
        before: The value in the hub's pod; `None` if the part was added.
        after: The value in the final pod; `None` if the part was removed.
    """

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def added(self) -> bool:
        """Whether the part is missing in the hub's own pod."""
        return self.before is None


def changes(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield the differences: one for a whole removed part, and one for each single value of an added part."""
    key = path[-1] if path else ""
    if key in _NAMED and isinstance(before, list | tuple) and after in (None, []):
        for name, item in _by_name(key, before).items():
            yield Change((*path, name), item, None)
    elif after is None or after in ({}, []) or (before not in (None, {}, []) and type(before) is not type(after)):
        if before is not None and before not in ({}, []):
            yield Change(path, before, None if after in ({}, []) else after)
        elif after is not None and before is None:
            yield Change(path, None, after)
    elif isinstance(after, Mapping):
        old: Mapping[str, Any] = before or {}
        for step in {**old, **after}:
            yield from changes(old.get(step), after.get(step), (*path, str(step)))
    elif isinstance(after, list | tuple) and key in _NAMED:
        yield from changes(_by_name(key, before or ()), _by_name(key, after), path)
    elif isinstance(after, list | tuple) and before in (None, []) and any(isinstance(i, Mapping) for i in after):
        for number, item in enumerate(after):
            yield from changes(None, item, (*path, str(number)))
    elif before != after:
        yield Change(path, before, after)


def _one_spelling(value: Any, key: str = "") -> Any:
    """Return a part of a pod with Kubernetes' field names. KubeSpawner also accepts names such as `claim_name`."""
    if isinstance(value, Mapping):
        names = {k: str(k) if key in _FREE_KEYS else camel(str(k)) for k in value}
        return {names[k]: _one_spelling(item, names[k]) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_one_spelling(item, key) for item in value]
    return value


def _by_name(key: str, items: Sequence[Any]) -> dict[str, Any]:
    spellings = _IDENTITIES.get(key, ("name",))
    return {str(next((i[s] for s in spellings if i.get(s)), number)): i for number, i in enumerate(items)}


@dataclass(frozen=True)
class _Case:
    """The data that a rule may use besides the change."""

    facts: HubFacts
    rights: DataPolicy
    claims: frozenset[str]
    notebook: str


@dataclass(frozen=True)
class _Rule:
    """A rule for changes at certain paths.

    Attributes:
        where: The steps of the path; `*` matches one step, `**` any number of steps.
        refuses: Returns whether the change is refused.
        message: What is not allowed.
        hint: Which setting allows it; `{0}` is the last step of the path, `{1}` the value.
    """

    where: str
    refuses: Callable[[Change, _Case], bool]
    message: str
    hint: str = ""

    def applies(self, change: Change, case: _Case) -> bool:
        return _fits(self.where.split(), change.path) and self.refuses(change, case)


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and pattern[0] in ("*", path[0]) and _fits(pattern[1:], path[1:])


def _any(change: Change, case: _Case) -> bool:
    del change, case
    return True


def _taken_away(change: Change, case: _Case) -> bool:
    del case
    return not change.added


def _other_container(change: Change, case: _Case) -> bool:
    """Return whether the change is in a container of the hub other than the container of the server."""
    return not change.added and change.path[2] != case.notebook


def _label(change: Change, case: _Case) -> bool:
    if not change.added:
        return True
    return not _may_label(change.path[-1], case.rights)


def _may_label(key: str, rights: DataPolicy) -> bool:
    if key.startswith("profile-spawner/"):
        return False
    if any(key == allowed or (allowed.endswith("/") and key.startswith(allowed)) for allowed in rights.labels):
        return True
    return bool(_OWN_LABEL.fullmatch(key)) and key not in _ACTING_LABELS


def _foreign_claim(change: Change, case: _Case) -> bool:
    name = change.after
    if not isinstance(name, str) or name in case.claims:
        return False
    return name in case.facts.protected or name not in case.rights.claims


def _protected(change: Change, case: _Case) -> bool:
    return isinstance(change.after, str) and change.after in case.facts.protected


def _weaker(change: Change, case: _Case) -> bool:
    """Return whether a security context becomes weaker. Only the IDs of non-root users may change."""
    del case
    if change.path[-1] in _IDS:
        return change.after in (0, None)
    return not change.added or (change.path[-1] in ("readOnlyRootFilesystem", "runAsNonRoot") and not change.after)


def _hubs_variable(change: Change, case: _Case) -> bool:
    del case
    name = change.path[change.path.index("env") + 1]
    return name.startswith(("JUPYTERHUB_", "JPY_")) and name not in _PER_PROFILE_ENV


def _empty(change: Change, case: _Case) -> bool:
    del case
    return bool(change.after == "")


_HUB_PART = "a document may not remove or replace what the hub gives to every pod"
_LABEL = "a document may not set this label or annotation: others act by it"
_LABEL_HINT = 'To allow it: data_policy = {{"labels": ["{0}"]}}'
_CLAIM = "a document may not mount this claim: it is not the user's own and not made by the profile"
_NAME = "this name belongs to the hub"
_RULES = (
    _Rule("metadata labels *", _label, _LABEL, _LABEL_HINT),
    _Rule("metadata annotations *", _label, _LABEL, _LABEL_HINT),
    _Rule("metadata labels", _taken_away, _HUB_PART),
    _Rule("metadata annotations", _taken_away, _HUB_PART),
    _Rule("spec initContainers **", _taken_away, _HUB_PART),
    _Rule("spec containers *", _taken_away, _HUB_PART),
    _Rule("spec containers * **", _other_container, _HUB_PART),
    _Rule("spec volumes **", _taken_away, _HUB_PART),
    _Rule("spec nodeSelector **", _taken_away, _HUB_PART),
    _Rule("spec securityContext **", _weaker, "a document may not weaken the pod's security context"),
    _Rule("spec * * securityContext **", _weaker, "a document may not weaken the container's security context"),
    _Rule("spec containers * ports *", _taken_away, _HUB_PART),
    _Rule("spec containers * volumeMounts **", _taken_away, _HUB_PART),
    _Rule("spec * * volumeMounts * mountPropagation", _any, "other containers or the node would see this mount"),
    _Rule("spec * * volumeDevices **", _any, "a document may not use a claim as a device"),
    _Rule("spec containers * env **", _hubs_variable, "a document may not set this variable of the hub"),
    _Rule("spec volumes * persistentVolumeClaim claimName", _foreign_claim, _CLAIM,
          'To allow it: data_policy = {{"claims": ["{1}"]}}'),
    _Rule("** volumeClaimTemplate spec selector **", _any, "a new claim may not choose an existing disk"),
    _Rule("** volumeClaimTemplate spec storageClassName", _empty, "a new claim may not take an existing disk"),
    _Rule("spec volumes * configMap name", _protected, _NAME),
    _Rule("spec volumes * secret secretName", _protected, _NAME),
    _Rule("spec volumes * projected sources * * name", _protected, _NAME),
    _Rule("spec * * envFrom * * name", _protected, _NAME),
    _Rule("spec * * env * valueFrom * name", _protected, _NAME),
    _Rule("spec volumes * projected sources * podCertificate **", _any, "a document may not ask for a certificate"),
)  # fmt: skip
"""The changes that documents may not make. Other parts are checked only by `object_policy` and Pod Security."""


def judge_pod(
    own: Mapping[str, Any], pod: Mapping[str, Any], facts: HubFacts, rights: DataPolicy, objects: Sequence[KubeObject]
) -> Iterator[Refusal]:
    """Yield all changes of a document in a pod that are not allowed.

    Args:
        own: The pod that the hub's configuration alone creates for this server, as plain JSON.
        pod: The final pod, with the changes of the document.
        facts: The facts about the hub.
        rights: What the hub's configuration allows for this kind of source.
        objects: The objects of the profile. The pod may mount claims that are among them.
    """
    if rights.unrestricted:
        return
    claims = {o.name for o in objects if o.kind == "PersistentVolumeClaim"}
    own_spec = _map(own.get("spec"))
    for volume in own_spec.get("volumes") or ():
        claims.add(str(_map(volume.get("persistentVolumeClaim")).get("claimName")))
    notebook = next((str(container["name"]) for container in own_spec.get("containers") or ()), "")
    case = _Case(facts, rights, frozenset(claims), notebook)
    for change in changes(_one_spelling(own), _one_spelling(pod)):
        rule = next((rule for rule in _RULES if rule.applies(change, case)), None)
        if rule is not None:
            hint = rule.hint.format(change.path[-1], change.after)
            # The value of a variable may be a secret.
            value = None if "env" in change.path else change.after
            yield Refusal(change.path, rule.message, value if isinstance(value, str | bool | int) else None, hint)


def judge_objects(objects: Sequence[KubeObject], facts: HubFacts, rights: DataPolicy) -> Iterator[Refusal]:
    """Yield everything in the objects of a profile that a document may not create.

    Args:
        objects: The objects that the profile creates besides the pod.
        facts: The facts about the hub.
        rights: What the hub's configuration allows for this kind of source.
    """
    if rights.unrestricted:
        return
    for item in objects:
        where: tuple[Any, ...] = (item.kind, item.name)
        body = item.body
        metadata, spec = _map(body.get("metadata")), _map(body.get("spec"))
        yield from _metadata(metadata, rights, (*where, "metadata"))
        yield from _name(item, facts, where)
        if item.kind == "PersistentVolumeClaim":
            yield from _claim(spec, (*where, "spec"))
        for number, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            yield from _claim(_map(claim.get("spec")), (*where, "spec", "volumeClaimTemplates", number, "spec"))
        for key in ("selector", "podSelector") if item.kind in ("Service", "NetworkPolicy") else ():
            chosen = _map(spec.get(key))
            for label in chosen.get("matchLabels", chosen):
                if not _may_label(label, rights):
                    message = "a document may not select pods by this label: others have it"
                    yield Refusal((*where, "spec", key, label), message, None, _LABEL_HINT.format(label))
        template = _map(spec.get("template"))
        for refusal in judge_pod({}, template, facts, rights, objects):
            path = (*where, "spec", "template", *refusal.path)
            yield Refusal(path, refusal.message, refusal.value, refusal.hint)


def _metadata(metadata: Mapping[str, Any], rights: DataPolicy, where: tuple[Any, ...]) -> Iterator[Refusal]:
    for kind in ("labels", "annotations"):
        for key in _map(metadata.get(kind)):
            if not _may_label(str(key), rights):
                yield Refusal((*where, kind, key), _LABEL, None, _LABEL_HINT.format(key))


def _name(item: KubeObject, facts: HubFacts, where: tuple[Any, ...]) -> Iterator[Refusal]:
    path = (*where, "metadata.name")
    pattern = _SERVICE_NAME if item.kind == "Service" else _OBJECT_NAME
    if not pattern.fullmatch(item.name) or ".." in item.name:
        yield Refusal(path, "is not a name that Kubernetes takes for this kind", item.name)
    elif item.name in facts.protected:
        yield Refusal(path, _NAME, item.name)
    elif item.kind == "PersistentVolumeClaim" and facts.claim_prefix and item.name.startswith(facts.claim_prefix):
        yield Refusal(path, "this is a name of the users' home claims", item.name)


def _claim(spec: Mapping[str, Any], where: tuple[Any, ...]) -> Iterator[Refusal]:
    if spec.get("selector"):
        yield Refusal((*where, "selector"), "a new claim may not choose an existing disk")
    if spec.get("storageClassName") == "":
        yield Refusal((*where, "storageClassName"), "a new claim may not take an existing disk: name a class, or none")


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
