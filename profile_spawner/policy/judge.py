"""Finds what a profile asks for, and applies the rules to it.

The rules are judged at two times. When a profile of a document is loaded, the parts that it brings are judged:
settings, parts of the pod, objects, fields. At a start, and in previews, the finished pod is compared with the pod that
the hub's configuration alone would create. So it does not matter how a document writes something, and which option or
param brings it. The pods of Deployments and similar objects contain nothing from the hub, so everything in them counts
as added.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from profile_spawner.errors import Origin, PolicyError, did_you_mean
from profile_spawner.profiles.options import Option
from profile_spawner.profiles.resources import KubeObject
from profile_spawner.profiles.user_text import (
    KUBESPAWNER_USER,
    TYPED_OR_USER,
    USUAL_VARIABLES,
    nodes,
    texts_in_commands,
    user_variables,
)

from .rules import (
    DATA_RULES,
    HARMLESS_OVERRIDES,
    HUB_RULES,
    OVERRIDES,
    WRITTEN_TWICE,
    Case,
    Difference,
    Rule,
    RuleTable,
    camel,
    camel_keys,
    mount_path,
)
from .settings import DataPolicy, Policy

__all__ = [
    "MAX_REPORTED",
    "Refusal",
    "check_objects",
    "check_pod",
    "differences",
    "dotted",
    "home_claims",
    "judge_objects",
    "judge_param",
    "judge_profile",
    "judge_server",
    "judge_texts",
    "own_names",
    "place_in",
    "reported",
    "restrict_containers",
]  # fmt: skip

_NAMED = frozenset(
    {
        "containers",
        "env",
        "ephemeralContainers",
        "imagePullSecrets",
        "initContainers",
        "ports",
        "volumeMounts",
        "volumes",
    }
)
"""The lists in a pod whose items are identified by a key: `name`, unless `_IDENTITIES` has another key."""
_IDENTITIES = {"volumeMounts": ("mountPath", "mount_path"), "ports": ("name", "containerPort")}
_WHOLE = frozenset({"nodeSelectorTerms", "requiredDuringSchedulingIgnoredDuringExecution", "tolerations"})
"""The lists that are compared as a whole."""
_FREE_KEYS = frozenset(
    {
        "annotations", "binaryData", "data", "env", "labels", "limits", "matchLabels", "nodeSelector", "requests",
        "selector", "stringData",
    }
)  # fmt: skip
"""The mappings whose keys are free names, not fields."""

_CONTAINER = ("spec", "containers", "notebook")
_CONTAINERS = ("containers", "initContainers")
_RESTRICTIONS = frozenset(
    {
        "appArmorProfile", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions",
        "seccompProfile",
    }
)  # fmt: skip
_PLACES: Mapping[str, tuple[str, ...]] = {
    "allow_privilege_escalation": (*_CONTAINER, "securityContext", "allowPrivilegeEscalation"),
    "container_security_context": (*_CONTAINER, "securityContext"),
    "environment": (*_CONTAINER, "env"),
    "extra_container_config": _CONTAINER,
    "extra_containers": ("spec", "containers"),
    "extra_pod_config": ("spec",),
    "fs_gid": ("spec", "securityContext", "fsGroup"),
    "gid": (*_CONTAINER, "securityContext", "runAsGroup"),
    "image_pull_secrets": ("spec", "imagePullSecrets"),
    "init_containers": ("spec", "initContainers"),
    "lifecycle_hooks": (*_CONTAINER, "lifecycle"),
    "pod_anti_affinity_required": (
        "spec",
        "affinity",
        "podAntiAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ),
    "pod_security_context": ("spec", "securityContext"),
    "privileged": (*_CONTAINER, "securityContext", "privileged"),
    "service_account": ("spec", "serviceAccountName"),
    "supplemental_gids": ("spec", "securityContext", "supplementalGroups"),
    "tolerations": ("spec", "tolerations"),
    "uid": (*_CONTAINER, "securityContext", "runAsUser"),
    "volume_mounts": (*_CONTAINER, "volumeMounts"),
    "volumes": ("spec", "volumes"),
}
"""Where in the pod the value of a trait of KubeSpawner stands."""


class Name(str):
    """A step of a path that an author has chosen. It has no meaning as a field."""

    __slots__ = ()


class SecondSpelling(str):
    """A step of a path: a field that is written twice, such as `sub_path` beside `subPath`."""

    __slots__ = ()


MAX_REPORTED = 20
"""How many refusals of one profile or param are reported. To find the line of one takes a walk through the document."""


_ALLOWS_SETTING = '{{"override_keys": ["{0}"]}}'
"""How the hint of the rule for settings ends. A misspelt name must not be allowed."""


@dataclass(frozen=True)
class Refusal:
    """Something that is not allowed.

    Attributes:
        path: Where it is.
        rule: The rule.
        value: The value, if it is not secret.
        key: Kubernetes' name of the field.
    """

    path: tuple[Any, ...]
    rule: Rule
    value: Any = None
    key: str = ""

    @property
    def hint(self) -> str:
        """Which setting allows it."""
        if not self.rule.hint:
            return ""
        if self.value is None and "{1}" in self.rule.hint:
            return "Only names that the data_policy of the hub lists are allowed"
        if _ALLOWS_SETTING in self.rule.hint and (near := did_you_mean(self.path[-1], HARMLESS_OVERRIDES, 0.9)):
            return near.replace("; did", "Did", 1)
        return self.rule.hint.format(self.path[-1], self.value, self.path[0])

    def problem(self, profile: str, origin: Origin | None, field: str = "") -> PolicyError:
        """Return the error for a profile."""
        name = field or dotted(self.path)
        message = self.rule.message
        if self.rule.expected:
            message = f"not allowed by the hub's policy, rule {message!r}"
        if self.key not in camel(name.replace(".", "_")) and self.key not in name:
            message += f" ({self.key})"
        return PolicyError(
            message,
            profile=profile or None,
            origin=origin,
            field=name,
            value=self.value,
            expected=self.rule.expected or None,
            hint=self.hint or None,
        )


# ------------------------------------------------------------------------------------------------ changes


def differences(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Yield the differences: one for a whole removed part, one for each added item of a list and for each value in it.

    Keys are converted to Kubernetes' field names. KubeSpawner also accepts names such as `claim_name`.
    """
    old, new = _parts(before, path, after), _parts(after, path, before)
    if old is None or new is None:
        if before != after:
            yield Difference(path, before, after)
    elif not new and (not old or isinstance(before, Mapping)):
        if old or before is None is not after:
            yield Difference(path, before, after if not old else None)
    else:
        for step in {**old, **new}:
            here = (*path, step)
            if step in new and step not in old and not isinstance(after, Mapping):
                yield Difference(here, None, new[step])
            yield from differences(old.get(step), new.get(step), here)


def _parts(value: Any, path: tuple[str, ...], other: Any) -> dict[str, Any] | None:
    """Return the parts of a mapping or list by their steps in the path; `None` for a single value."""
    key = path[-1] if path and not isinstance(path[-1], Name) else ""
    if value is None:
        return {}
    if key in _WHOLE and not (isinstance(value, Mapping) and key.startswith("required")):
        return None
    if isinstance(value, Mapping):
        free = key in _FREE_KEYS or key in _NAMED
        return _unique((Name(k) if free else camel(str(k)), v) for k, v in value.items())
    if isinstance(value, list | tuple) and key in _NAMED:
        keys = _IDENTITIES.get(key, ("name",))
        return _unique((Name(_name_of(item, keys) or n), item) for n, item in enumerate(value))
    if isinstance(value, list | tuple) and (not value or any(isinstance(item, Mapping) for item in value)):
        same = other if isinstance(other, list | tuple) else ()
        return {str(n): item for n, item in enumerate(value) if item not in same}
    return None


def _name_of(item: Any, keys: Sequence[str]) -> str:
    if isinstance(item, Mapping):
        return next((str(item[k]) for k in keys if item.get(k)), "")
    return item if isinstance(item, str) else ""


def _unique(pairs: Any) -> dict[str, Any]:
    """Return the pairs as a dictionary. A second value of the same name or field is kept too."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        again = Name if isinstance(name, Name) else SecondSpelling
        result[name if name not in result else again(f"{name}#{len(result)}")] = value
    return result


def _claim(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of a value in the specification of a new claim, from there; empty for other values."""
    if path[:2] == ("object", "PersistentVolumeClaim") and path[3:4] == ("spec",):
        return ("claim", *path[4:])
    if path[0] in ("text", "command"):
        return ()
    for number, key in enumerate(path, 1):
        if key in ("volumeClaimTemplate", "volumeClaimTemplates") and not isinstance(key, Name):
            rest = path[number:]
            if "spec" in rest[:2]:
                return ("claim", *rest[rest.index("spec") + 1 :])
    return ()


def _refusals(
    rules: RuleTable, found: Iterable[Difference], case: Case, prefix: tuple[Any, ...] = (), skip: int = 1
) -> Iterator[Refusal]:
    """Yield the changes that are refused. Their paths are `prefix` and what follows the first `skip` steps."""
    seen: set[tuple[Any, ...]] = set()
    for change in found:
        twice = [n for n, step in enumerate(change.path) if isinstance(step, SecondSpelling)]
        if twice and rules is DATA_RULES:
            place = change.path[: twice[0] + 1]
            if place not in seen:
                seen.add(place)
                field = place[-1].partition("#")[0]
                yield Refusal((*prefix, *place[skip:-1], field), WRITTEN_TWICE, key=field)
            continue
        for path in (_claim(change.path), change.path):
            rule = rules.refusing(path, change, case)
            if rule is None or (rule, change.path) in seen:
                continue
            seen.add((rule, change.path))
            item = change.after
            value = item.get("name") if isinstance(item, Mapping) else item
            if isinstance(item, KubeObject):
                value = f"{item.kind} {item.name}"
            # The value of a variable may be a secret.
            shown = isinstance(value, str | int) and ("env" not in path or "name" in path[-1].lower())
            yield Refusal((*prefix, *change.path[skip:]), rule, value if shown else None, change.path[-1])


# ------------------------------------------------------------------------------------------------ pods and objects


def own_names(objects: Sequence[KubeObject], pod_name: str = "") -> Mapping[str, frozenset[str]]:
    """Return the names of a profile's objects and of the server's pod by kind."""
    own: dict[str, set[str]] = {"Pod": {pod_name}} if pod_name else {}
    for item in objects:
        own.setdefault(item.kind, set()).add(item.name)
    return {kind: frozenset(names) for kind, names in own.items()}


def _context(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = _map(pod.get("spec"))
    return _map(spec.get("securityContext"))


def _objects(rules: RuleTable, objects: Sequence[KubeObject], case: Case) -> Iterator[tuple[KubeObject, Refusal]]:
    """Yield what is refused in objects, and in the pods that they create."""
    for item in objects:
        path = ("object", item.kind, Name(item.name))
        values = (change for change in differences(None, item.body, path) if change.path != path)
        here = replace(case, body=item.body)
        refusals = _refusals(rules, chain([Difference(path, None, item)], values), here)
        template = _map(item.body.get("spec")).get("template")
        if isinstance(template, Mapping):
            prefix = (*path[1:], "spec", "template")
            inside = replace(here, context=_context(template))
            refusals = chain(refusals, _refusals(rules, differences(None, template, ("template",)), inside, prefix))
        yield from ((item, refusal) for refusal in refusals)


def check_objects(policy: Policy, profile: str, objects: Sequence[KubeObject], namespace: str) -> None:
    """Check all objects that a profile creates besides the pod against the rules for all profiles.

    Args:
        policy: What the hub allows.
        profile: The profile's slug.
        objects: The objects.
        namespace: The server's namespace.

    Raises:
        PolicyError: For the first violation.
    """
    case = Case(policy, namespace=namespace, own=own_names(objects))
    for item, refusal in _objects(HUB_RULES[policy.pod_security], objects, case):
        place = dotted(refusal.path[2:])
        raise refusal.problem(profile, None, f"{item.field}: {item.kind} {item.name}{': ' if place else ''}{place}")


def check_pod(
    policy: Policy,
    pod: Mapping[str, Any],
    profile: str,
    *,
    trusted: Sequence[Mapping[str, Any]] = (),
    service_accounts: Collection[str] = (),
) -> None:
    """Check the server's final pod, after all hooks and overrides, against the rules for all profiles.

    Args:
        policy: What the hub allows.
        pod: The pod that will be sent to the API server.
        profile: The profile's slug.
        trusted: Containers and volumes from the hub's configuration, as they appear in the pod (for example the chart's
            privileged `block-cloud-metadata`). A container or volume that is equal to one is not checked.
        service_accounts: Service accounts that this pod may use: those that the hub's configuration assigns to this
            user, and those that the profile creates.

    Raises:
        PolicyError: For the first violation.
    """
    named = policy.service_accounts
    case = Case(policy, accounts=None if named is None else named | {*service_accounts}, context=_context(pod))
    spec = {
        key: [item for item in value if item not in trusted] if isinstance(value, list) else value
        for key, value in _map(pod.get("spec")).items()
    }
    judged = {**pod, "spec": spec}
    found = chain([Difference(("server",), None, judged)], differences(None, judged, ("server",)))
    for refusal in _refusals(HUB_RULES[policy.pod_security], found, case):
        raise refusal.problem(profile, None, f"pod: {dotted(refusal.path)}")


def judge_server(
    own: Mapping[str, Any], pod: Mapping[str, Any], settings: Mapping[str, Any], case: Case
) -> Iterator[Refusal]:
    """Yield everything that a document changes for a server and that is not allowed.

    Args:
        own: The pod that the hub's configuration alone creates for this server, as plain JSON.
        pod: The final pod, with the changes of the document.
        settings: The traits of KubeSpawner that the document has changed.
        case: What is known about the hub and the profile. What the hub's own pod says is added.
    """
    spec, pod = _map(own.get("spec")), _without_secure(pod, case.secure)
    containers, first = (_container_names(spec, key) for key in _CONTAINERS)
    case = replace(
        case,
        home=case.home if case.home in map(_claim_of, spec.get("volumes") or ()) else "",
        mounts=_hub_mounts(spec, _map(pod.get("spec"))),
        paths=frozenset(mount_path(mount["mountPath"]) for mount in _mounts_of(spec)),
        notebook=next(iter(containers), ""),
        containers=frozenset((*containers, *first)),
        context=_context(pod),
    )
    begin = _container_names(_map(pod.get("spec")), "initContainers")[: len(first)]
    order = Difference(("first", "spec", "initContainers"), first, begin)
    yield from _single("setting", settings, case)
    # The document's own containers are compared with the server's.
    added = [{"name": name, "securityContext": restrictions(own)} for name in _others(own, pod)]
    base = {**own, "spec": {**spec}}
    for key in _CONTAINERS:
        names = _container_names(_map(pod.get("spec")), key)
        base["spec"][key] = [*(spec.get(key) or ()), *(container for container in added if container["name"] in names)]
    yield from _refusals(DATA_RULES, chain([order], differences(base, pod, ("server",))), case)


def restrictions(own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the security context that a document's own containers get: what restricts the hub's container.

    Args:
        own: The pod that the hub's configuration alone creates, as plain JSON.
    """
    context = _map(own["spec"]["containers"][0].get("securityContext"))
    found = {key: value for key, value in context.items() if key in _RESTRICTIONS and value not in (0, None)}
    if context.get("allowPrivilegeEscalation") is False:
        found["allowPrivilegeEscalation"] = False
    if dropped := _map(context.get("capabilities")).get("drop"):
        found["capabilities"] = {"drop": dropped}
    return found


def restrict_containers(own: Mapping[str, Any], pod: Any, as_json: Callable[[Any], Any]) -> None:
    """Give the security context of the hub's container to a document's own containers, where they say nothing else.

    Args:
        own: The pod that the hub's configuration alone creates, as plain JSON.
        pod: The pod of the document, a `V1Pod`, which is changed.
        as_json: Converts a model of the Kubernetes client to plain JSON.
    """
    context, others = restrictions(own), _others(own, as_json(pod))
    for container in (*pod.spec.containers, *(pod.spec.init_containers or ())):
        given = as_json(container.security_context) or {}
        if context and container.name in others and isinstance(given, Mapping):
            container.security_context = {**context, **camel_keys(given)}


def _others(own: Mapping[str, Any], pod: Mapping[str, Any]) -> list[str]:
    """Return the names of a pod's containers that the hub's own pod does not have."""
    hubs, names = ([n for key in _CONTAINERS for n in _container_names(_map(p.get("spec")), key)] for p in (own, pod))
    return [name for name in names if name not in hubs]


def _claim_of(volume: Any) -> Any:
    source = camel_keys(_map(camel_keys(_map(volume)).get("persistentVolumeClaim")))
    return source.get("claimName")


def _mounts_of(spec: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the mounts of the server's container."""
    return (spec.get("containers") or [{}])[0].get("volumeMounts") or ()


def _hub_mounts(own: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return how the hub mounts its volumes, by the names of those volumes of a pod that are the hub's."""
    mounts = _mounts_of(own)
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    for volume in spec.get("volumes") or ():
        name, claim = volume["name"], _claim_of(volume)
        names = {v["name"] for v in own.get("volumes") or () if v["name"] == name or (claim and _claim_of(v) == claim)}
        if names:
            found[name] = [mount for mount in mounts if mount["name"] in names]
    return found


def _without_secure(value: Any, secure: Collection[tuple[str, str, str]]) -> Any:
    """Return a pod or a part of one without the variables whose values are those of secure params."""

    def is_secure(name: Any, variable: Any) -> bool:
        source = _map(_map(variable).get("valueFrom")).get("secretKeyRef")
        return source is not None and (name, *map(_map(source).get, ("name", "key"))) in secure and len(source) == 2

    if not secure:
        return value
    if isinstance(value, Mapping):
        return {k: _without_secure(v, secure) for k, v in value.items() if not is_secure(k, v)}
    if isinstance(value, list | tuple):
        return [_without_secure(v, secure) for v in value if not is_secure(_map(v).get("name"), v)]
    return value


def home_claims(template: str) -> str:
    """Return a regular expression for the names that KubeSpawner makes of `pvc_name_template`."""
    parts = string.Formatter().parse(template)
    return "".join(re.escape(literal) + ("" if name is None else ".+") for literal, name, _, _ in parts)


def _container_names(spec: Mapping[str, Any], key: str) -> list[str]:
    return [str(container["name"]) for container in spec.get(key) or ()]


def judge_objects(
    objects: Sequence[KubeObject], case: Case, own: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Refusal]:
    """Yield everything in the objects of a profile that a document may not create.

    Args:
        objects: The objects.
        case: What is known about the hub and the profile.
        own: The pod that the hub's configuration alone creates for this server, as plain JSON, if there is one.
    """
    case = replace(case, partial=_partial_claims(_map(own.get("spec"))))
    for _, refusal in _objects(DATA_RULES, objects, case):
        yield refusal


def _partial_claims(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the claims of the hub of which the server's container gets only a part, or which it cannot write to."""
    limits = ("readOnly", "recursiveReadOnly", "subPath", "subPathExpr")
    whole = {mount["name"] for mount in _mounts_of(spec) if not any(mount.get(key) for key in limits)}
    claims = [(_claim_of(volume), volume["name"] in whole) for volume in spec.get("volumes") or ()]
    return frozenset(name for name, _ in claims if name) - {name for name, is_whole in claims if is_whole}


# ------------------------------------------------------------------------------------------------ documents


def _single(root: str, values: Mapping[str, Any], case: Case, prefix: tuple[Any, ...] = ()) -> Iterator[Refusal]:
    """Yield the values that are not allowed under their name."""
    found = (Difference((root, str(name)), None, value) for name, value in values.items())
    yield from _refusals(DATA_RULES, found, case, prefix)


def _override(override: Mapping[str, Any], case: Case, prefix: tuple[Any, ...] = ()) -> Iterator[Refusal]:
    """Yield the traits of KubeSpawner, and the parts of the pod that they bring, that a document may not set."""
    yield from _single("setting", override, case, prefix)
    for trait, value in override.items():
        if trait in _PLACES:
            place = ("part", *_PLACES[trait])
            yield from _refusals(DATA_RULES, differences(None, value, place), case, (*prefix, trait), skip=len(place))


def judge_profile(
    override: Mapping[str, Any],
    options: Sequence[Option],
    attributes: Mapping[str, Any],
    case: Case,
) -> Iterator[Refusal]:
    """Yield everything in a profile of a document that is not allowed, for every choice. Its objects are not judged.

    Args:
        override: The values of KubeSpawner's traits: of a plain entry, or of a built profile.
        options: What users may choose.
        attributes: The attributes as they are written.
        case: What is known about the hub and the profile.
    """
    parts: list[tuple[tuple[str, ...], Mapping[str, Any], str]]
    parts = [(("kubespawner_override",), _without_secure(override, case.secure), KUBESPAWNER_USER)]
    for option in options:
        typed, of_users = option.typed(), option.typed_override()
        chosen = [*option.overrides_by_value().items(), *([] if typed is None else [("unlisted_choice", of_users)])]
        for value, one in chosen:
            users = TYPED_OR_USER if one is of_users else KUBESPAWNER_USER
            parts.append((("options", option.name, value, "kubespawner_override"), one, users))
    variables = user_variables([(part, users) for _, part, users in parts], case.variables | USUAL_VARIABLES)
    for prefix, part, users in parts:
        yield from _override(part, case, prefix)
        for path, text in texts_in_commands(part, users, variables):
            place = ("command", *map(str, path))
            yield from _refusals(DATA_RULES, [Difference(place, None, text)], case, (*prefix, *path), skip=len(place))
    yield from _single("field", attributes, case)


def judge_texts(written: Any, rights: DataPolicy) -> Iterator[Refusal]:
    """Yield the texts of a profile whose braces hold more than names.

    They are checked before the build of a profile fills them in. The paths of the refusals are those in the document.

    Args:
        written: The profile, or the entry of a profile list, as it is written.
        rights: What the hub allows to the source.
    """
    case = Case(rights=rights)
    for path, value in nodes(written):
        texts = [text for text in (path[-1], value) if isinstance(text, str) and ("{" in text or "}" in text)]
        if texts and any(step in OVERRIDES for step in path[:-1]):
            place = ("text", *map(str, path))
            found = [Difference(place, None, text) for text in texts]
            yield from _refusals(DATA_RULES, found, case, path, skip=len(place))


def judge_param(name: str, value: Any, rights: DataPolicy) -> Iterator[Refusal]:
    """Yield everything in a value of a param that a document may not set."""
    yield from _refusals(DATA_RULES, differences(None, value, ("param", Name(name))), Case(rights=rights), ("params",))


def place_in(written: Any, refusal: Refusal) -> tuple[Any, ...]:
    """Return the path in a document of what is refused; empty if it is not found.

    A refusal is about the result. What a document writes elsewhere, for example in an attribute, has the same value or
    the same last keys. The place with the most in common is returned.
    """
    steps = {str(step) for step in refusal.path}
    known = {refusal.value, *refusal.path} - {None}
    names = {camel(step) for step in steps}
    best: tuple[float, tuple[Any, ...]] = (0.5, ())
    path: list[Any] = []

    walked: set[tuple[int, frozenset[str]]] = set()

    # Documents can be large, so one walk compares each part once, what has several aliases too.
    def walk(value: Any, matched: frozenset[str]) -> None:
        nonlocal best
        for step, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            path.append(step)
            key = str(step)
            name = camel(key)
            here = matched | {name} if name in names else matched
            single = isinstance(item, (str, int))
            same = single and item in known and not isinstance(item, bool)
            score = len(here) + 2 * same + (key in steps) / 2
            if score > best[0]:
                best = (score, tuple(path))
            if not single and isinstance(item, (Mapping, list, tuple)) and (id(item), here) not in walked:
                walked.add((id(item), here))
                walk(item, here)
            path.pop()

    if isinstance(written, (Mapping, list, tuple)):
        walk(written, frozenset())
    return best[1]


def reported(refusals: Iterable[Refusal], problem: Callable[[Refusal], PolicyError]) -> list[PolicyError]:
    """Return the errors for the first refusals, and in the last one how many there are more.

    Args:
        refusals: The refusals.
        problem: Returns the error for one.
    """
    rest = list(refusals)
    found = [problem(refusal) for refusal in rest[:MAX_REPORTED]]
    if len(rest) > len(found):
        found[-1].message += f"; {len(rest) - len(found):,} other parts are not allowed either"
    return found


def dotted(path: Sequence[Any]) -> str:
    """Return a path in the form that messages use."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
