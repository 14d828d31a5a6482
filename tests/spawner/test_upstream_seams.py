"""What ProfileSpawner overrides of KubeSpawner and JupyterHub exists in the installed versions, as expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from kubespawner import KubeSpawner

from profile_spawner.profiles.user_text import EXPANDED_TRAITS
from profile_spawner.spawner import ProfileSpawner

pytestmark = [pytest.mark.hub5]

PRIVATE = {
    "_ensure_namespace",
    "_ensure_not_exists",
    "_find_my_config",
    "_log_name",
    "_make_create_pod_request",
    "_make_create_pvc_request",
    "_make_create_resource_request",
    "_make_delete_pvc_request",
    "_options_form_default",
    "_options_from_form",
    "_run_apply_user_options",
    "_start",
    "_start_reflector",
    "_start_watching_events",
    "_start_watching_pods",
}
"""The private methods and properties that are overridden."""


def overridden() -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, our value and upstream's of everything that ProfileSpawner overrides."""
    for cls in ProfileSpawner.__mro__[: ProfileSpawner.__mro__.index(KubeSpawner)]:
        if cls.__module__.startswith("profile_spawner.spawner."):
            for name, value in vars(cls).items():
                if not name.startswith("__") and hasattr(KubeSpawner, name):
                    yield name, value, inspect.getattr_static(KubeSpawner, name)


def test_the_private_methods_that_are_overridden() -> None:
    """The list is complete, and every one of them exists upstream."""
    internal = {"_cross_validation_lock", "_trait_default_generators", "_descriptors", "_instance_inits", "_traits"}
    internal |= {"_all_trait_default_generators", "_static_immutable_initial_values"}
    found = {name for name, _, _ in overridden() if name.startswith("_")} - internal
    assert found == PRIVATE


def test_signatures_are_upstreams() -> None:
    """Whoever calls a KubeSpawner by position or by name can call a ProfileSpawner."""
    compared = set()
    for name, ours, theirs in overridden():
        if inspect.isfunction(ours) and inspect.isfunction(theirs):
            expected = [(p.name, p.kind, p.default) for p in inspect.signature(theirs).parameters.values()]
            assert [(p.name, p.kind, p.default) for p in inspect.signature(ours).parameters.values()] == expected, name
            compared.add(name)
    assert {"load_user_options", "stop", "_make_create_pod_request"} <= compared


def test_where_kubespawner_expands_braces() -> None:
    """Traits whose texts KubeSpawner expands are those whose user text is escaped."""
    source = inspect.getsource(KubeSpawner.get_pod_manifest) + inspect.getsource(KubeSpawner._build_common_labels)
    calls = re.findall(
        r"_expand_(?:all|env|user_properties)\(\s*(?:self\._sorted_dict_values\(\s*)?self\.(\w+)", source
    )
    assert calls
    assert set(calls) - {"working_dir"} <= EXPANDED_TRAITS
