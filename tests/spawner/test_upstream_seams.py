"""What ProfileSpawner overrides of KubeSpawner and JupyterHub exists in the installed versions, as expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.handlers import base
from jupyterhub.spawner import Spawner
from kubespawner import KubeSpawner

from profile_spawner.profiles.user_text import EXPANDED_TRAITS, FORMATTED_TRAITS, IDENTITY_TRAITS, TYPED_EXPANDED_TRAITS
from profile_spawner.spawner import ProfileSpawner, seams
from profile_spawner.spawner.seams import UpstreamSpawner

pytestmark = [pytest.mark.hub5]

PRIVATE = {
    "_check_pvc_exists",
    "_ensure_namespace",
    "_ensure_not_exists",
    "_find_my_config",
    "_log_name",
    "_make_create_pod_request",
    "_make_create_pvc_request",
    "_make_create_resource_request",
    "_make_delete_pvc_request",
    "_options_from_form",
    "_run_apply_user_options",
    "_start_watching_events",
    "_start_watching_pods",
}
"""The private methods and properties that are overridden, all in `spawner/seams.py`."""

USED = {
    KubeSpawner: (
        "_expand_all",
        "_get_pod_url",
        "_last_event",
        "_render_options_form",
        "_sorted_dict_values",
        "_start_reflector",
    ),
    Spawner: ("_check_pending", "_log_name"),
}
"""The private methods and properties that are used."""


def overridden() -> Iterator[tuple[type, str, Any, Any]]:
    """Yield the class, the name, our value and upstream's of everything that ProfileSpawner overrides."""
    for cls in ProfileSpawner.__mro__[: ProfileSpawner.__mro__.index(KubeSpawner)]:
        if cls.__module__.startswith("profile_spawner.spawner."):
            for name, value in vars(cls).items():
                if not name.startswith("__") and hasattr(KubeSpawner, name):
                    yield cls, name, value, inspect.getattr_static(KubeSpawner, name)


def test_the_private_methods_that_are_overridden() -> None:
    """The list is complete, everything on it is in the seam module, and every one of them exists upstream."""
    internal = {"_cross_validation_lock", "_trait_default_generators", "_descriptors", "_instance_inits", "_traits"}
    internal |= {"_all_trait_default_generators", "_static_immutable_initial_values", "_trait_validators"}
    internal |= {"_options_form_default"}  # traitlets' own way to name a default
    found = {(cls, name) for cls, name, _, _ in overridden() if name.startswith("_")}
    assert {name for _, name in found} - internal == PRIVATE
    assert {cls for cls, name in found if name in PRIVATE} == {UpstreamSpawner}


def test_a_method_that_is_never_called_is_reported() -> None:
    """A subclass that filters profiles in KubeSpawner's private methods does not lose its filter silently."""
    for name in seams.NOT_CALLED:
        with pytest.warns(UserWarning, match=rf"Own\.{name} has no effect.*allowed_groups"):
            type("Own", (ProfileSpawner,), {name: lambda self: None})


def test_what_is_used_exists() -> None:
    """Every private method and property that is used exists in the installed versions."""
    for cls, names in {**USED, UpstreamSpawner: seams.NOT_CALLED}.items():
        assert [name for name in names if not hasattr(cls, name)] == []
    assert "_pvc_exists" in inspect.getsource(KubeSpawner.__init__)
    assert inspect.iscoroutinefunction(inspect.unwrap(JupyterHub.initialize))
    assert 'settings["failure_count"]' in inspect.getsource(base).replace("'", '"')


def test_the_other_modules_use_nothing_private() -> None:
    """Private names of a spawner outside of the seam module are this project's own."""
    upstream = {name for name in dir(KubeSpawner) if name.startswith("_") and not name.startswith("__")}
    own = {
        name for cls in ProfileSpawner.__mro__ for name in vars(cls) if cls.__module__.startswith("profile_spawner.")
    }
    for path in Path(seams.__file__).parent.glob("*.py"):
        if path.name != "seams.py":
            used = set(re.findall(r"(?:self|spawner)\.(_\w+)", path.read_text()))
            assert used & upstream <= own, path


def test_signatures_are_upstreams() -> None:
    """Whoever calls a KubeSpawner by position or by name can call a ProfileSpawner."""
    compared = set()
    for _, name, ours, theirs in overridden():
        if inspect.isfunction(ours) and inspect.isfunction(theirs):
            expected = [(p.name, p.kind, p.default) for p in inspect.signature(theirs).parameters.values()]
            assert [(p.name, p.kind, p.default) for p in inspect.signature(ours).parameters.values()] == expected, name
            compared.add(name)
    assert {"load_user_options", "stop", "_make_create_pod_request"} <= compared


def test_where_braces_are_expanded() -> None:
    """User text is escaped in exactly the traits whose texts KubeSpawner expands and JupyterHub formats.

    Names and the working directory are expanded when the spawner is made, and again when a profile sets them.
    """
    calls = r"_expand_(?:all|env|user_properties)\(\s*(?:self\._sorted_dict_values\(\s*)?self\.(\w+)"
    expanded = set(re.findall(calls, inspect.getsource(KubeSpawner)))
    early = {name for name in expanded if name.endswith("_template")} | {"working_dir"}
    assert (early - {"user_namespace_template"}) | {"dns_name_template"} == IDENTITY_TRAITS
    formatted = set(re.findall(r"format_string\(\s*self\.(\w+)", inspect.getsource(Spawner)))
    assert (expanded - early) | formatted | IDENTITY_TRAITS == TYPED_EXPANDED_TRAITS
    assert formatted == FORMATTED_TRAITS
    manifest = inspect.getsource(KubeSpawner.get_pod_manifest) + inspect.getsource(KubeSpawner.get_env)
    assert set(re.findall(calls, manifest)) - early == EXPANDED_TRAITS
