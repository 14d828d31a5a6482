"""What counts as a change of the hub's own pod, and which changes of data are refused."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner.policy.changes import Change, HubFacts, changes, judge_objects, judge_pod
from profile_spawner.policy.data_policy import DataPolicy
from profile_spawner.profiles.resources import KubeObject, Lifetime

OWN: dict[str, Any] = {
    "metadata": {"labels": {"app": "jupyterhub"}},
    "spec": {
        "containers": [{"name": "notebook", "image": "a:1", "securityContext": {"runAsUser": 1000}}],
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}}],
    },
}


def refused(pod: dict[str, Any], rights: DataPolicy | None = None) -> list[tuple[Any, ...]]:
    """Return the paths that the judge refuses in a pod of user ada."""
    return [r.path for r in judge_pod(OWN, pod, HubFacts(), rights or DataPolicy(), ())]


def test_items_of_lists_are_compared_by_name() -> None:
    """The order of a list is no change; a removed item is one change, an added one a change for every value."""
    before = {"volumes": [{"name": "a", "x": 1}, {"name": "b"}]}
    after = {"volumes": [{"name": "c", "y": {"z": 2}}, {"name": "a", "x": 1}]}
    assert list(changes(before, after)) == [
        Change(("volumes", "b"), {"name": "b"}, None),
        Change(("volumes", "c", "name"), None, "c"),
        Change(("volumes", "c", "y", "z"), None, 2),
    ]


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
    assert len(refused(pod, rights)) == 1
    assert not refused(pod, DataPolicy(unrestricted=True))


def test_objects_are_judged_with_their_pod_templates() -> None:
    """A refusal in a template names the object and the place in it."""
    template = {"metadata": {"labels": {"component": "hub"}}, "spec": {"containers": [{"name": "c"}]}}
    item = KubeObject("apps/v1", "Deployment", "x", Lifetime.owned, "manifests", {"spec": {"template": template}})
    (found,) = judge_objects([item], HubFacts(), DataPolicy())
    assert found.path == ("Deployment", "x", "spec", "template", "metadata", "labels", "component")
    assert '"labels": ["component"]' in found.hint
