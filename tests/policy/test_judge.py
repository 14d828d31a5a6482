"""What counts as a change of the hub's own pod, and where a refusal is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from profile_spawner.policy.judge import differences, judge_objects, judge_profile, judge_server, place_in
from profile_spawner.policy.rules import Case, Difference
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.resources import KubeObject, Lifetime

OWN: dict[str, Any] = {
    "metadata": {"labels": {"app": "jupyterhub"}},
    "spec": {
        "containers": [{"name": "notebook", "image": "a:1", "securityContext": {"runAsUser": 1000}}],
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}}],
    },
}


def refused(pod: dict[str, Any], rights: DataPolicy | None = None) -> list[tuple[Any, ...]]:
    """Return the paths that are refused in a pod of user ada."""
    return [r.path for r in judge_server(OWN, pod, {}, Case(rights=rights or DataPolicy()))]


def test_items_of_lists_are_compared_by_name() -> None:
    """The order of a list is no change; a removed item is one change, an added one a change for every value."""
    before = {"volumes": [{"name": "a", "x": 1}, {"name": "b"}]}
    new = {"name": "c", "y": {"z": 2}}
    assert list(differences(before, {"volumes": [new, {"name": "a", "x": 1}]})) == [
        Difference(("volumes", "b"), {"name": "b"}, None),
        Difference(("volumes", "c"), None, new),
        Difference(("volumes", "c", "name"), None, "c"),
        Difference(("volumes", "c", "y", "z"), None, 2),
    ]


def test_no_second_item_of_a_name_is_overlooked() -> None:
    """Kubernetes sets a variable twice: the second value may use the first."""
    hidden = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "k"}}}
    container = {**OWN["spec"]["containers"][0], "env": [hidden, {"name": "A", "value": "x"}]}
    for env in (container["env"], container["env"][::-1]):
        pod = {**OWN, "spec": {**OWN["spec"], "containers": [{**container, "env": env}]}}
        assert [path[-1] for path in refused(pod)] == ["name"]


def test_nothing_is_refused_in_the_hubs_own_pod() -> None:
    """What equals the hub's pod is the hub's, whatever it is."""
    assert not refused(OWN)


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"volumes": []}, ("spec", "volumes", "home")),
        ({"containers": [{"name": "other", "image": "a:1"}]}, ("spec", "containers", "notebook")),
        (
            {
                "volumes": [
                    *OWN["spec"]["volumes"],
                    {"name": "x", "persistent_volume_claim": {"claim_name": "claim-bob"}},
                ]
            },
            ("spec", "volumes", "x", "persistentVolumeClaim", "claimName"),
        ),
    ],
    ids=["removed", "replaced", "added in the other spelling"],
)
def test_each_kind_of_change_is_found(part: dict[str, Any], path: tuple[str, ...]) -> None:
    """A removed, a replaced and an added part are refused by their place in the pod."""
    assert path in refused({**OWN, "spec": {**OWN["spec"], **part}})


def test_the_configuration_opens_single_claims_and_prefixes_of_labels() -> None:
    """Rights open what they name, but no name of the hub's own objects."""
    rights = DataPolicy(labels=frozenset({"kueue.x-k8s.io/"}), claims=frozenset({"data", "hub-db-dir"}))
    labels = {"app": "jupyterhub", "kueue.x-k8s.io/queue-name": "gpu"}
    volumes = [*OWN["spec"]["volumes"], {"name": "x", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = {"metadata": {"labels": labels}, "spec": {**OWN["spec"], "volumes": volumes}}
    assert len(refused(pod)) == 2
    assert not refused(pod, rights)
    volumes[-1] = {"name": "x", "persistentVolumeClaim": {"claimName": "hub-db-dir"}}
    assert refused(pod, rights)


def test_objects_are_judged_with_their_pod_templates() -> None:
    """A refusal in a template names the object and the place in it."""
    template = {"metadata": {"labels": {"component": "hub"}}, "spec": {"containers": [{"name": "c"}]}}
    item = KubeObject("apps/v1", "Deployment", "x", Lifetime.owned, "volumes", {"spec": {"template": template}})
    case = Case(rights=DataPolicy(kinds=frozenset({"Deployment"})))
    (found,) = judge_objects([item], case)
    assert found.path == ("Deployment", "x", "spec", "template", "metadata", "labels", "component")
    assert '"labels": ["component"]' in found.hint


def test_objects_of_further_kinds_are_refused_whichever_hook_makes_them() -> None:
    """A hook that is added later cannot bring a kind that `data_policy` does not list."""
    item = KubeObject("apps/v1", "Deployment", "x", Lifetime.owned, "get_new_things()", {"spec": {}})
    (found,) = judge_objects([item], Case())
    assert "objects of this kind" in found.rule.message


def test_the_hubs_init_containers_come_first() -> None:
    """A document cannot put a container before the one that guards the network."""
    guard, other = {"name": "guard", "image": "g:1"}, {"name": "a", "image": "x:1"}
    containers = OWN["spec"]["containers"]
    own = {"spec": {"containers": containers, "initContainers": [guard]}}
    other = {**other, "securityContext": {"runAsUser": 1000}}
    fine, wrong = ({"spec": {"containers": containers, "initContainers": c}} for c in ([guard, other], [other, guard]))
    assert not list(judge_server(own, fine, {}, Case()))
    (found,) = judge_server(own, wrong, {}, Case())
    assert found.path == ("spec", "initContainers")


def test_a_refusal_is_found_where_it_is_written() -> None:
    """The pod has a built value; the document has it in an attribute, an override or a choice."""
    choice = {"display_name": "B", "kubespawner_override": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}
    written = {
        "image": "a:1",
        "service_account": "admin",
        "kubespawner_override": {"env_keep": ["A"], "volumes": {"v": {"secret": {"secret_name": "hub"}}}},
        "options": {"o": {"choices": {"b": choice}}},
    }
    override = {**written["kubespawner_override"], "service_account": "admin"}
    found = [place_in(written, r) for r in judge_profile(override, (), {}, Case())]
    assert found == [
        ("kubespawner_override", "env_keep"),
        ("kubespawner_override", "volumes", "v", "secret", "secret_name"),
        ("service_account",),
    ]
    case = replace(Case(), rights=DataPolicy())
    (found_in_choice,) = judge_profile(choice["kubespawner_override"], (), {}, case)
    assert place_in(written, found_in_choice)[:4] == ("options", "o", "choices", "b")
