"""What a profile class builds is merged into the hub's own settings by type, and leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tornado import web

from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import profile_registry
from profile_spawner.profiles.resources import ConfigMap, InitContainer, SecretMount, Volume, VolumeMount
from profile_spawner.profiles.template import Template
from profile_spawner.spawner import ProfileSpawner


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    """Registrations of a test end with it."""
    profile_registry.clear()
    yield
    profile_registry.clear()


class Lab(BaseAppProfile):
    """A profile that uses most attributes."""

    slug = "lab"
    display_name = "Lab"
    description = "A lab"
    image = "lab:1"
    cpu_limit = 2
    mem_limit = "4Gi"
    default_url = "/lab"
    home_dir = "/workspace"
    node_selector = {"pool": "gpu"}
    extra_resource_limits = {"nvidia.com/gpu": 1}
    pod_env_vars = {
        "MODE": "lab",
        "BRACES": '{"a": {"b": 1}}',
        "WHO": "{{ username }}",
        "TOKEN": {"from_secret": {"name": "tokens", "key": "t"}},
        "CITY": {"from_config_map": {"name": "places", "key": "city"}},
    }
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    profile_options = {
        "image": {
            "choices": {
                "one": {"kubespawner_override": {"image": "lab:1"}},
                "two": {"kubespawner_override": {"image": "lab:2", "environment": {"TWO": "{username}"}}},
            },
            "unlisted_choice": {
                "enabled": True,
                "kubespawner_override": {"image": "{value}", "environment": {"TYPED": "{value}"}},
            },
        }
    }

    def get_default_volumes(self) -> list[Volume]:
        return [Volume(name="work", claim_name="work", size="1Gi", volume_mount=VolumeMount(mount_path="/workspace"))]

    def get_config_maps(self) -> list[ConfigMap]:
        return [
            ConfigMap(name="motd", key="motd", content="same for all", mount_path="/etc/motd"),
            ConfigMap(name="hello", key="hello", content=Template("hello {{ username }}"), mount_path="/etc/hello"),
            ConfigMap(name="dir", data={"a.txt": "A", "b.txt": "B"}, mount_path="/etc/dir"),
            ConfigMap(name="env", data={"FROM_MAP": "1"}),
        ]

    async def get_env_config_maps(self) -> list[str]:  # type: ignore[override]
        return ["env", "existing"]

    def get_secret_mounts(self) -> list[SecretMount]:
        return [SecretMount(name="keys", mount_path="/keys")]

    def get_init_containers(self) -> list[InitContainer]:
        return [InitContainer(name="prepare", command=("true",))]


HOME = {
    "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-{username}"}}],
    "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    "environment": {"HUB": "1", "MODE": "hub"},
    "node_selector": {"zone": "a"},
}


async def built(make_spawner: Any, user_options: dict[str, Any], **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Load the options and return the spawner and the pod as JSON."""
    spawner = make_spawner(ProfileSpawner, user_options, **{**HOME, **settings})
    await spawner.load_user_options()
    pod = await spawner.get_pod_manifest()
    return spawner, spawner.api.api_client.sanitize_for_serialization(pod)


async def test_everything_reaches_the_pod_beside_the_hubs_own(make_spawner: Any) -> None:
    """The home volume stays, the profile's parts are added, the image and limits are the profile's."""
    profile_registry.register(Lab)
    _, pod = await built(make_spawner, {"profile": "lab"})
    container = pod["spec"]["containers"][0]
    env = {e["name"]: e for e in container["env"]}
    assert container["image"] == "lab:1"
    assert container["resources"]["limits"] == {"cpu": 2.0, "memory": 4 * 1024**3, "nvidia.com/gpu": "1"}
    assert pod["spec"]["nodeSelector"] == {"zone": "a", "pool": "gpu"}
    assert {v["name"] for v in pod["spec"]["volumes"]} >= {"home", "work", "profile-files-0", "profile-files-1"}
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert {"/home/jovyan", "/workspace", "/etc/motd", "/etc/hello", "/etc/dir", "/keys"} <= set(mounts)
    assert env["MODE"]["value"] == "lab"
    assert env["HUB"]["value"] == "1"
    assert env["BRACES"]["value"] == '{"a": {"b": 1}}'
    assert env["WHO"]["value"] == "mock@name"
    assert env["TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "tokens", "key": "t"}}
    assert env["CITY"]["valueFrom"] == {"configMapKeyRef": {"name": "places", "key": "city"}}
    references = [next(iter(e)) + ":" + next(iter(e.values()))["name"] for e in container["envFrom"]]
    assert references[1] == "configMapRef:existing"
    assert references[0].startswith("configMapRef:env-")
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["prepare"]
    assert container["workingDir"] == "/workspace"


async def test_files_are_shared_unless_they_name_the_user(make_spawner: Any) -> None:
    """The same text for everybody travels in one content-addressed ConfigMap; a personal one is owned by the server."""
    profile_registry.register(Lab)
    first, _ = await built(make_spawner, {"profile": "lab"})
    second, _ = await built(make_spawner, {"profile": "lab"})
    objects = [s.chosen.build.objects for s in (first, second)]
    names = [{o.field: (o.lifetime.value, o.name) for o in found if o.kind == "ConfigMap"} for found in objects]
    shared = {f: n for f, (lifetime, n) in names[0].items() if lifetime == "shared"}
    assert shared == {f: n for f, (lifetime, n) in names[1].items() if lifetime == "shared"}
    owned = [o for o in objects[0] if o.kind == "ConfigMap" and o.lifetime.value == "owned"]
    assert len(owned) == 1
    assert "hello mock@name" in str(owned[0].body)
    assert owned[0].name not in {o.name for o in objects[1]}


async def test_nothing_leaks_into_the_next_server(make_spawner: Any) -> None:
    """A spawner that is used again makes the pod that a fresh one makes."""
    profile_registry.register(Lab)

    @profile_registry.register
    class Small(BaseAppProfile):
        slug = "small"
        display_name = "Small"
        description = ""
        image = "small:1"

    spawner, _ = await built(make_spawner, {"profile": "lab"})
    spawner.user_options = {"profile": "small"}
    spawner.clear_state()
    await spawner.load_user_options()
    again = spawner.api.api_client.sanitize_for_serialization(await spawner.get_pod_manifest())
    _, fresh = await built(make_spawner, {"profile": "small"})
    assert json.dumps(again) == json.dumps(fresh)


async def test_a_choice_and_a_typed_value_change_only_what_they_declare(make_spawner: Any) -> None:
    """The chosen image, and a typed text that KubeSpawner would otherwise expand."""
    profile_registry.register(Lab)
    _, pod = await built(make_spawner, {"profile": "lab", "image": "two"})
    assert pod["spec"]["containers"][0]["image"] == "lab:2"
    env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert env["TWO"].startswith("mock")
    typed = "{username} $(HOME) {x!r:>9} %s"
    _, pod = await built(make_spawner, {"profile": "lab", "image--unlisted-choice": typed})
    env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert env["TYPED"] == typed.replace("$", "$$")
    assert pod["spec"]["containers"][0]["image"] == typed


async def test_a_conflict_with_the_hubs_volumes_names_both(make_spawner: Any, caplog: Any) -> None:
    """Two different volumes under one name are never silently one; the user can choose something else."""
    profile_registry.register(Lab)
    other = [{"name": "work", "emptyDir": {}}]
    with pytest.raises(web.HTTPError) as error:
        await built(make_spawner, {"profile": "lab"}, volumes=other)
    assert error.value.status_code == 422
    assert (
        "“Lab” cannot be started" in error.value.jupyterhub_message if hasattr(error.value, "jupyterhub_message") else 1
    )
    assert any("the hub's configuration" in r.message and "profile 'lab'" in r.message for r in caplog.records)


async def test_profile_list_has_upstreams_shape_and_is_json(make_spawner: Any) -> None:
    """Tools that read or call `profile_list` find complete, serialisable entries without secrets."""
    profile_registry.register(Lab)
    spawner = make_spawner(ProfileSpawner, **HOME)
    listed = json.loads(json.dumps(await spawner.profile_list(spawner)))
    assert listed[0]["slug"] == "lab"
    override = listed[0]["kubespawner_override"]
    assert override["image"] == "lab:1"
    assert override["environment"]["MODE"] == "lab"
    assert {"volumes", "volume_mounts", "extra_resource_limits"} <= set(override)
    assert set(listed[0]["profile_options"]["image"]["choices"]) == {"one", "two"}


async def test_a_configured_list_is_offered_beside_the_classes(make_spawner: Any) -> None:
    """A plain profile_list stays, and comes after the classes."""
    profile_registry.register(Lab)
    plain = [{"display_name": "Plain", "slug": "plain", "kubespawner_override": {"image": "plain:1"}}]
    spawner, pod = await built(make_spawner, {"profile": "plain"}, profile_list=plain)
    assert pod["spec"]["containers"][0]["image"] == "plain:1"
    snapshot = await spawner.catalogue()
    assert list(snapshot.entries) == ["lab", "plain"]


async def test_a_user_without_files_starts(make_spawner: Any) -> None:
    """A directory of files that is empty for this user is not mounted; those of others are."""

    class Keys(Lab):
        def get_config_maps(self) -> list[ConfigMap]:
            keys = {"id": "key"} if self.user.name == "ada" else {}
            return [ConfigMap(name="keys", data=keys, mount_path="/etc/keys")]

        async def get_env_config_maps(self) -> list[str]:  # type: ignore[override]
            return []

    profile_registry.register(Keys)
    spawner, pod = await built(make_spawner, {"profile": "lab"})
    assert "/etc/keys" not in {m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"]}
    spawner.user.name = "ada"
    await spawner.apply_choice(spawner.user_options)
    await spawner.load_user_options()
    assert "/etc/keys" in {m["mountPath"] for m in spawner.volume_mounts}


async def test_whatever_an_authors_code_raises_is_the_profiles_mistake(make_spawner: Any, caplog: Any) -> None:
    """A failing `__init__` and a value that cannot be merged are logged with the profile, and never counted."""

    class Picky(Lab):
        slug = "picky"

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.user.name == "mock@name":
                raise KeyError("no such member")

    class Odd(Lab):
        slug = "odd"

        def get_kubespawner_override(self) -> dict[str, Any]:
            return {"tolerations": 5 if self.user.name == "mock@name" else []}

    class OddBesideTheHub(Lab):
        slug = "odd-beside-the-hub"

        def get_kubespawner_override(self) -> dict[str, Any]:
            return {"extra_containers": 5 if self.user.name == "mock@name" else []}

    not_iterable = "TypeError: 'int' object is not iterable"
    picky = "__init__(): KeyError: 'no such member'"
    for cls, said in ((Picky, picky), (Odd, not_iterable), (OddBesideTheHub, not_iterable)):
        profile_registry.register(cls)
        spawner = make_spawner(ProfileSpawner, {"profile": cls.slug})
        with pytest.raises(web.HTTPError) as caught:
            await spawner.load_user_options()
        assert caught.value.status_code == 422
        assert f"profile {cls.slug!r}: {said}" in caplog.text
        assert "test_class_profiles.py:" in caplog.text
        caplog.clear()
        profile_registry.clear()


async def test_volumes_as_a_mapping(make_spawner: Any) -> None:
    """KubeSpawner's other form of its lists is one for a class too."""

    class Mapped(BaseAppProfile):
        slug = "mapped"
        display_name = "Mapped"
        description = "Volumes by key"
        image = "a:1"
        kubespawner_override = {
            "volumes": {"b": {"name": "b", "emptyDir": {}}, "a": {"name": "a", "emptyDir": {}}},
            "volume_mounts": {"a": {"name": "a", "mountPath": "/a"}, "b": {"name": "b", "mountPath": "/b"}},
        }

    profile_registry.register(Mapped)
    _, pod = await built(make_spawner, {"profile": "mapped"})
    assert [v["name"] for v in pod["spec"]["volumes"]] == ["home", "a", "b"]
    assert [m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"]] == ["/home/jovyan", "/a", "/b"]
