"""How values of a profile are merged with those of the hub."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner.profiles.trait_merge import merge_trait


def term(*keys: str) -> dict[str, Any]:
    """Return a term for nodes that have all of these labels."""
    return {"matchExpressions": [{"key": key, "operator": "Exists"} for key in keys]}


@pytest.mark.parametrize(
    ("hub", "profile", "merged"),
    [
        ([], [term("a")], [term("a")]),
        ([term("a")], [], [term("a")]),
        ([term("a")], [term("a")], [term("a")]),
        ([term("a")], {"one": term("b"), "two": term("c")}, [term("a", "b"), term("a", "c")]),
        ([term("a"), term("b")], [term("c")], [term("a", "c"), term("b", "c")]),
        ([term("a")], [{"match_fields": [{"key": "f"}]}], [{**term("a"), "matchFields": [{"key": "f"}]}]),
    ],
)
def test_required_nodes_fulfil_the_conditions_of_both(hub: Any, profile: Any, merged: Any) -> None:
    """Kubernetes needs only one term of a list, so a profile's terms beside the hub's would lift the hub's."""
    found = merge_trait("node_affinity_required", hub, profile, base_origin="hub", extra_origin="profile")
    assert found == merged
