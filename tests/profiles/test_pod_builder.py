"""What one server is put together of."""

from __future__ import annotations

import pytest

from profile_spawner import BaseAppProfile, ConfigMap, InitContainer, Template, VolumeMount
from profile_spawner.errors import BuildError
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.resources import InitContainerVolumeMount, InlineText, Manifest


class Copying(BaseAppProfile):
    """A profile whose init container reads its ConfigMaps."""

    slug = display_name = "copying"
    image = "a:1"

    def get_config_maps(self) -> list[ConfigMap]:
        return [
            ConfigMap(
                name="script", key="run.sh", content=Template("echo {{ username }}"), mount_path="/opt/init/.init.sh"
            ),
            ConfigMap(name="conf", data={"a": "1", "b": "2"}, mount_path="/etc/conf"),
        ]

    def get_init_containers(self) -> list[InitContainer]:
        mounts = (
            InitContainerVolumeMount(name="script", mount_path="/run.sh", sub_path="run.sh"),
            VolumeMount(name="script", mount_path="/scripts"),
            VolumeMount(name="conf", mount_path="/conf"),
            InitContainerVolumeMount(name="conf", mount_path="/b", sub_path="b"),
            VolumeMount(name="home", mount_path="/home"),
        )
        return [InitContainer(name="first", command=("true",), volume_mounts=mounts)]


async def test_an_init_container_mounts_config_maps_of_its_profile_by_name() -> None:
    """A file or a folder, shared or the user's own; names of other volumes stay. The server has its mounts too."""
    override = (await Copying(ServerContext(UserInfo("ada"))).build()).kubespawner_override
    shared, own = (v["name"] for v in override["volumes"])
    (container,) = override["init_containers"]
    found = {m["mountPath"]: (m["name"], m.get("subPath")) for m in container["volumeMounts"]}
    assert found == {
        "/run.sh": (own, "0-run.sh"),
        "/scripts/run.sh": (own, "0-run.sh"),
        "/conf": (shared, "d1"),
        "/b": (shared, "d1/b"),
        "/home": ("home", None),
    }
    assert {m["mountPath"] for m in override["volume_mounts"]} == {"/opt/init/.init.sh", "/etc/conf"}


class Greeting(BaseAppProfile):
    """A profile whose hooks copy the user's name into literal texts."""

    slug = display_name = "greeting"
    image = "a:1"

    def get_pod_env_vars(self) -> dict[str, str]:
        template = Template("$({{ username }} ${{ x }}")
        return {"WHO": f"of ${self.user.name}", "PATH": "/opt:$(PATH)", "ALSO": template}

    def get_init_containers(self) -> list[InitContainer]:
        return [InitContainer(name="first", command=("echo", self.user.name, "$(WHO)"), env={"A": self.user.name})]

    def get_kubespawner_override(self) -> dict[str, list[str]]:
        return {"args": [f"--title={self.user.name}", "$(WHO)"]}


async def test_kubernetes_replaces_nothing_in_copies_of_what_users_are_called() -> None:
    """The author's own `$(NAME)` stays a reference."""
    override = (await Greeting(ServerContext(UserInfo("(TOKEN)"))).build()).kubespawner_override
    assert override["environment"]["WHO"] == "of $$(TOKEN)"
    override = (await Greeting(ServerContext(UserInfo("$(TOKEN)"))).build()).kubespawner_override
    assert override["environment"] == {
        "WHO": "of $$$$(TOKEN)",
        "PATH": "/opt:$(PATH)",
        "ALSO": "$$($$(TOKEN) ${{{{ x }}}}",
    }
    (container,) = override["init_containers"]
    assert container["command"] == ["echo", "$$(TOKEN)", "$(WHO)"]
    assert container["env"] == [{"name": "A", "value": "$$(TOKEN)"}]
    assert override["args"] == ["--title=$$(TOKEN)", "$(WHO)"]


class Scripted(BaseAppProfile):
    """A profile with a start-up script."""

    slug = display_name = "scripted"
    image = "a:1"
    init_script_path = InlineText("set -eu\necho {{ servername }}\n")


class Job(BaseAppProfile):
    """A profile whose Job runs a shell."""

    slug = display_name = "job"
    image = "a:1"

    def get_manifests(self) -> list[Manifest]:
        container = {"name": "a", "image": "a:1", "command": ["sh", "-c"], "args": [Template("echo {{ username }}")]}
        spec = {"template": {"spec": {"containers": [container]}}}
        return [
            Manifest(
                name="m", content=({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": spec},)
            )
        ]


@pytest.mark.parametrize("profile", [Scripted, Job])
async def test_no_shell_runs_what_users_are_called(profile: type[BaseAppProfile]) -> None:
    """Neither a start-up script nor the command of another pod; the message says what to do instead."""
    await profile(ServerContext(UserInfo("ada-l@example.org"), server_name="second")).build()
    with pytest.raises(BuildError, match=r'could run what users .*write "\$NAME" here'):
        await profile(ServerContext(UserInfo("ada;id"), server_name="$(id)")).build()


class Settings(BaseAppProfile):
    """A profile with a file of settings."""

    slug = display_name = "settings"
    image = "a:1"

    def get_config_maps(self) -> list[ConfigMap]:
        text = Template('{"who": "{{ username }}"}')
        return [ConfigMap(name="a", key="a", mount_path="/opt/a.json", content=text)]


async def test_what_users_are_called_ends_no_value_of_a_file() -> None:
    """In a file of settings it stays one value."""
    await Settings(ServerContext(UserInfo("O'Neil {ü}; $x"))).build()
    with pytest.raises(BuildError, match="more than one value"):
        await Settings(ServerContext(UserInfo('ü", "argv": ["id'))).build()
