"""The examples and promises of docs/params.md."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config

from profile_spawner import BaseAppProfile, Param
from profile_spawner.errors import ParamError
from profile_spawner.hub.layers import check_param_values, layers_for, layers_key
from profile_spawner.hub.settings import HubTraits
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.registry import Collector, collecting, profile_registry
from profile_spawner.profiles.snapshot import Snapshot
from tests.documentation import ROOT, code_blocks
from tests.snapshots import snapshot_of

PAGE = ROOT / "docs" / "params.md"
PROFILE, VALUES, STAGING, HOOK = code_blocks(PAGE, "python")
ADA = UserInfo("ada", frozenset({"research"}))


async def snapshot_of_text(text: str, **more: Any) -> Snapshot:
    """Load the text as a module of profiles."""
    collector = Collector("page")
    with collecting(collector):
        exec(compile(text, "page.py", "exec"), {"BaseAppProfile": BaseAppProfile, "Param": Param, **more})
    return await snapshot_of(collector)


def configured(text: str) -> HubTraits:
    """Run the text as a configuration."""
    c = Config()
    exec(compile(text, "config.py", "exec"), {"c": c})
    return HubTraits(config=Config(HubTraits=c.ProfileSpawner))


async def test_the_profile_of_the_page_makes_servers() -> None:
    """With the params, the collections, and the layers of the page."""
    snapshot = await snapshot_of_text(PROFILE)
    assert snapshot.problems == ()
    selection = snapshot.select({"profile": "gpu-lab", "gpu/count": 4}, ADA)
    layers = layers_for(ADA, "", configured(VALUES).param_values, {}, None, "default")
    built = await snapshot.build(selection, ServerContext(ADA), **layers)
    override = built.kubespawner_override
    assert override["environment"] == {"GPUS": "2", "OWNER": "ada"}
    assert override["extra_resource_limits"] == {"nvidia.com/gpu": "2"}
    assert override["image"].startswith("quay.io/jupyter/base-notebook:")
    record = snapshot.record(selection, **layers)["gpu/count"]
    assert [record["layer"], *[s["layer"] for s in record["overridden"]]] == [
        "enforced", "spawn", "user", "profile", "assigned", "groups", "groups", "global", "default",
    ]  # fmt: skip


@pytest.mark.parametrize(("stage", "expected"), [("staging", {"gpu/count": 0}), ("", {})])
def test_a_staging_hub_differs_by_its_layer(stage: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page shows it."""
    monkeypatch.setenv("HUB_STAGE", stage)
    values = configured(STAGING).param_values
    assert layers_for(ADA, "", values, {}, None, "default")["hub"] == expected


async def test_the_hook_of_the_page_reads_a_file_and_auth_state(tmp_path: Any) -> None:
    """Both for the user."""
    path = tmp_path / "users.json"
    path.write_text(json.dumps({"ada": {"gpu/count": 1, "a": 1}}))
    hook = configured(HOOK.replace("/etc/jupyterhub/users.json", str(path))).param_layers_hook

    async def auth_state() -> Any:
        return {"params": {"gpu/count": 2}}

    spawner = SimpleNamespace(user=SimpleNamespace(name="ada", get_auth_state=auth_state))
    assert await hook(spawner) == {"user": {"gpu/count": 2, "a": 1}}


def test_the_page_names_all_fields_of_a_param_and_all_facts() -> None:
    """None is left out."""
    text = PAGE.read_text()
    for name in Param.__dataclass_fields__:
        assert name in ("origin", "untrusted") or f"`{name}`" in text, name
    for fact in ServerContext.example().facts("x"):
        assert f"`{fact}`" in text


# ------------------------------------------------------------------------------------------------ layers


def test_groups_have_their_declared_order_and_values_of_properties() -> None:
    """The configuration wins value by value; groups that only have properties follow, sorted by name."""
    values = {"groups": {"z": {"a": 1}, "b": {"params": {"a": 2}, "profiles": ["mix"]}, "other": {"a": 0}}}
    properties = {"b": {"params": {"a": 3, "x": 3}, "profiles": ["site"]}, "y": {"q": 1}, "c": {"profiles": ["gpu"]}}
    user = UserInfo("ada", frozenset({"z", "b", "y", "c"}))
    found = layers_for(user, "", values, properties, None, "default")["groups"]
    assert found == [("z", {"a": 1}, []), ("b", {"a": 2, "x": 3}, ["mix"]), ("c", {}, ["gpu"]), ("y", {"q": 1}, [])]
    assert str(found[1][1].origin_of("x")) == "properties of the group 'b'"
    assert str(found[1][1].origin_of("a")) == "param_values['groups']['b']"


def test_a_hook_wins_value_by_value() -> None:
    """And its groups and assigned profiles come first."""
    values = {"users": {"ada": {"a": 1, "b": 1}}, "assigned": {"users": {"ada": ["x"]}}, "groups": {"research": {}}}
    hooked = {"user": {"a": 2}, "assigned": ["y"], "groups": {"cloud": {"a": 3}}, "hub": None}
    found = layers_for(ADA, "", values, {}, hooked, "default")
    assert (found["user"], found["assigned"]) == ({"a": 2, "b": 1}, ["y", "x"])
    assert [g[0] for g in found["groups"]] == ["cloud", "research"]


def test_a_user_with_the_name_of_a_group_does_not_get_its_collections() -> None:
    """Users and groups are separate in `assigned`."""
    values = {"assigned": {"groups": {"research": ["gpu"]}}}
    assert layers_for(UserInfo("research"), "", values, {}, None, "default")["assigned"] == []
    assert layers_for(ADA, "", values, {}, None, "default")["assigned"] == ["gpu"]


@pytest.mark.parametrize(
    ("values", "properties", "hooked", "words"),
    [
        ({"user": {}}, {}, None, "did you mean 'users'"),
        ({"users": {"ada": ["a"]}}, {}, None, "param_values['users']['ada']"),
        ({"assigned": {"ada": ["gpu"]}}, {}, None, "'users' and 'groups'"),
        ({"assigned": {"users": {"ada": "gpu"}}}, {}, None, "must be a list of names"),
        ({"hub": [1]}, {}, None, "param_values['hub']"),
        ({}, {"research": ["a"]}, None, "properties of the group 'research'"),
        ({}, {"research": {"params": 5}}, None, "must be a dictionary"),
        ({}, {}, {"users": {}}, "did you mean 'user'"),
        ({}, {}, ["user"], "param_layers_hook"),
    ],
)
def test_a_layer_of_the_wrong_shape_is_an_error_with_its_place(
    values: Any, properties: Any, hooked: Any, words: str
) -> None:
    """From configuration, properties and hook, always a ParamError."""
    with pytest.raises(ParamError) as error:
        layers_for(ADA, "", values, properties, hooked, "default")
    assert words in str(error.value)


def test_pages_are_shared_only_by_users_who_see_the_same() -> None:
    """If a value refers to a fact, each user has a page of their own."""
    facts = {"facts": {"username": "ada"}}
    plain = layers_for(ADA, "", {"hub": {"a": 1}}, {}, None, "default")
    referring = layers_for(ADA, "", {"hub": {"a": "{{ username }}"}}, {}, None, "default")
    other = {"facts": {"username": "bob"}}
    assert layers_key({**plain, **facts}) == layers_key({**plain, **other})
    assert layers_key({**referring, **facts}) != layers_key({**referring, **other})
    assert layers_key({**plain, **facts}, uses_facts=True) != layers_key({**plain, **other}, uses_facts=True)
    assert layers_key({**layers_for(ADA, "", {}, {}, None, "default"), **facts}) == ""


def test_values_of_users_servers_and_the_hub_may_have_profiles() -> None:
    """As those of groups: the setting's, unless the hook returns others. Users with others have other pages."""
    values = {"users": {"ada": {"profiles": ["gpu"]}}, "hub": {"params": {"a": 1}, "profiles": ["x"]}}
    found = layers_for(ADA, "", values, {}, {"hub": {"b": 2}}, "default")
    assert (found["user"].profiles, found["hub"].profiles) == (("gpu",), ("x",))
    assert dict(found["hub"]) == {"a": 1, "b": 2}
    assert layers_key(found) != layers_key({**found, "user": {}})
    with pytest.raises(ParamError, match=r"param_values\['users'\]\['ada'\]\['profiles'\]: must be a list of names"):
        check_param_values({"users": {"ada": {"profiles": "gpu"}}})


# ------------------------------------------------------------------------------------------------ in profiles

LAB = """
from profile_spawner import BaseAppProfile, Param, Volume, VolumeMount, profile_registry
for param in (
    Param("image/tag", default="1", user_settable=True),
    Param("image/lab", default="lab:{{ image/tag }}"),
    Param("lab/secret", sensitive=True, user_settable=True, default="x"),
    Param("lab/volumes", default=[]),
    Param("lab/env", default={"A": "{{{{ username }}", "B": "{{ username }}"}),
    Param("lab/nodes", default={}),
    Param("db/token", secure=True),
):
    profile_registry.register_param(param)

@profile_registry.register
class Lab(BaseAppProfile):
    slug, display_name, description = "lab", "Lab", ""
    image = Param.ref("image/lab")
    pod_env_vars = Param.ref("lab/env")
    node_selector = Param.ref("lab/nodes")
    user_settable = []
    params = {"lab/secret": "y"}

    def get_default_volumes(self):
        return self.params["lab/volumes"]
"""
VOLUME = {"name": "data", "claim_name": "data", "size": "1Gi", "volume_mount": {"mount_path": "/data"}}


async def test_sensitive_params_are_chosen_only_if_the_profile_allows_it() -> None:
    """Not directly, not through params that are inserted into their values, and not params with `sensitive`."""
    snapshot = await snapshot_of_text(LAB)
    assert snapshot.problems == ()
    assert [o.param for o in snapshot.entries["lab"].offer.options] == []
    open_ = await snapshot_of_text(LAB.replace("user_settable = []", 'user_settable = ["image/tag", "lab/secret"]'))
    assert [o.param for o in open_.entries["lab"].offer.options] == ["image/tag", "lab/secret"]
    built = await open_.build(open_.select({"profile": "lab", "image/tag": "2"}, ADA), ServerContext(ADA))
    assert built.kubespawner_override["image"] == "lab:2"
    # The field exists, and another layer inserts the user's choice into a sensitive value later.
    later = await snapshot_of_text(
        LAB.replace('default="lab:{{ image/tag }}"', 'default="lab:1"').replace('"y"}', '"y", "image/tag": "1"}')
    )
    selection = later.select({"profile": "lab", "image/tag": "2"}, ADA)
    with pytest.raises(ParamError, match="is sensitive, and a user chose image/tag"):
        await later.build(selection, ServerContext(ADA), hub={"image/lab": "lab:{{ image/tag }}"})


async def test_attributes_and_hooks_take_whole_values_of_params() -> None:
    """Environment, node selector and volumes; they are expanded once."""
    snapshot = await snapshot_of_text(LAB)
    layers = {"hub": {"lab/volumes": [VOLUME], "lab/nodes": {"pool": "{{ username }}"}}}
    built = await snapshot.build(snapshot.select({"profile": "lab"}, ADA), ServerContext(ADA), **layers)
    override = built.kubespawner_override
    assert override["environment"] == {"A": "{{{{ username }}}}", "B": "ada"}, "KubeSpawner halves the braces"
    assert override["node_selector"] == {"pool": "ada"}
    assert override["volume_mounts"] == [{"name": "data", "mountPath": "/data"}]


@pytest.mark.parametrize(
    ("hub", "words"),
    [({"image/lab": "two words"}, "must be an image"), ({"lab/nodes": {"pool": [1]}}, "must be a text")],
)
async def test_a_value_of_a_param_is_checked_like_an_attribute(hub: Any, words: str) -> None:
    """Before Kubernetes gets it."""
    snapshot = await snapshot_of_text(LAB)
    with pytest.raises(Exception, match=words):
        await snapshot.build(snapshot.select({"profile": "lab"}, ADA), ServerContext(ADA), hub=hub)


async def test_a_secure_param_cannot_set_an_attribute_and_a_hook_can_return_it() -> None:
    """The environment contains a reference to the Secret."""
    text = LAB.replace('Param.ref("image/lab")', 'Param.ref("db/token")')
    snapshot = await snapshot_of_text(text.replace('"y"}', '"y", "db/token": {"secret": "canary", "key": "k"}}'))
    assert "secure param 'db/token'" in str(snapshot.problems[0])
    assert "canary" not in str(snapshot.problems[0])
    hook = '    def get_pod_env_vars(self):\n        return {"T": self.params["db/token"]}\n'
    hooked = LAB + hook
    snapshot = await snapshot_of_text(hooked.replace('"y"}', '"y", "db/token": {"secret": "s", "key": "k"}}'))
    built = await snapshot.build(snapshot.select({"profile": "lab"}, ADA), ServerContext(ADA))
    assert built.kubespawner_override["environment"]["T"] == {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


@pytest.mark.parametrize("attribute", ["slug", "display_name", "allowed_groups", "profile_options", "default"])
async def test_attributes_of_the_page_cannot_be_set_by_params(attribute: str) -> None:
    """Registering the class is an error."""
    with pytest.raises(Exception, match="must be known before any param is"):
        await snapshot_of_text(
            f"class L(BaseAppProfile):\n    slug = display_name = image = 'x'\n    {attribute} = Param.ref('a')\n"
            "registry.register(L)",
            registry=profile_registry,
        )


async def test_a_profile_without_params_can_be_inherited_and_names_are_unique() -> None:
    """It adds no values. A collection with its name is a conflict, and a profile cannot have the slug `global`."""
    head = "from profile_spawner import profile_registry as r\nclass P(BaseAppProfile):\n    slug = 'p'\n"
    head += "    display_name = image = 'p'\nclass Q(P):\n    slug = 'q'\n    profiles = ['p']\n"
    snapshot = await snapshot_of_text(head + "r.register(P); r.register(Q)")
    assert not any(e.offer.unavailable for e in snapshot.entries.values())
    snapshot = await snapshot_of_text(head + "r.register(P); r.register(Q); r.register_collection('q', {})")
    assert "the name is used twice" in str(snapshot.problems[0])
    with pytest.raises(Exception, match="taken by the collection"):
        await snapshot_of_text(head.replace("'p'\n", "'global'\n", 1) + "r.register(P)")


async def test_values_have_the_origin_of_their_own_line() -> None:
    """In classes and in collections that span several lines."""
    path = ROOT / "profile_spawner" / "demo" / "profiles" / "params.py"
    text = path.read_text()
    snapshot = await snapshot_of_text(text)
    collector = Collector("demo")
    with collecting(collector):
        exec(compile(text, str(path), "exec"), {})
    snapshot = await snapshot_of(collector)
    assert snapshot.resolver is not None
    for name in ("course/name", "lab/threads"):
        origin = snapshot.resolver.resolve().explain(name).origin
        assert origin is not None
        assert f'"{name}":' in text.splitlines()[origin.line - 1]
