"""What one server is put together of."""

from __future__ import annotations

from profile_spawner import BaseAppProfile, ConfigMap, InitContainer, Template, VolumeMount
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.resources import InitContainerVolumeMount


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
