"""Plug-ins of the EOEPCA configurator: what its documentation promises, they get here."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner.errors import BuildError
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import ProfileBuild
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.resources import Lifetime
from profile_spawner.profiles.selection import Selection
from profile_spawner.sources.importing import ready_made
from profile_spawner.sources.reloader import ProfileService
from tests.sources.conftest import put

HEAD = """\
import os
from configurator.apps import profile_registry
from configurator.apps.base import BaseAppProfile
from configurator.models import *

here = os.path.dirname(__file__)


def volume(name, path, claim=None):
    return Volume(name=name, claim_name=claim or f"{name}-claim", size="1Gi", storage_class="fast",
                  access_modes=["ReadWriteOnce"], volume_mount=VolumeMount(name=name, mount_path=path), persist=True)


"""
CLASS = 'class P({base}):\n    slug = "p"\n    display_name = "P"\n    description = "One"\n    image = "example/p:1"\n'
Build = Callable[..., Awaitable[ProfileBuild]]


def plug_in(body: str, base: str = "BaseAppProfile", head: str = HEAD) -> str:
    """Return the text of a plug-in with one profile."""
    inside = "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    return f"{head}{CLASS.format(base=base)}{inside}\n\nprofile_registry.register(P)\n"


@pytest.fixture
def build(folder: Path, make_service: Callable[..., ProfileService]) -> Build:
    """Return a function that loads plug-ins by file name, and builds `slug` for Ada."""

    async def loaded(slug: str = "p", *, namespaces: bool = False, **files: str) -> ProfileBuild:
        for name, text in files.items():
            put(folder, f"{name}.py", text)
        service = make_service(configurator_compat=True)
        snapshot = await service.ready()
        if service.problems:
            raise service.problems[0]
        context = ServerContext(UserInfo("ada"), namespace="ns", user_namespaces=namespaces)
        return await snapshot.build(Selection(slug, {}), context)

    return loaded


def env_of(build: ProfileBuild) -> dict[str, Any]:
    """Return the environment."""
    return dict(build.kubespawner_override.get("environment", {}))


def mounts_of(build: ProfileBuild) -> dict[str, str]:
    """Return the names of volumes by mount path."""
    return {m["mountPath"]: m["name"] for m in build.kubespawner_override.get("volume_mounts", ())}


SEED = [
    """\
    from configurator.apps import profile_registry
    from configurator.apps.coder.base_coder import BaseCoderProfile


    class MyProfile(BaseCoderProfile):
        slug = "my_profile"
        display_name = "My Profile"
        description = "Example profile"
        image = "ghcr.io/example/my-profile:latest"


    profile_registry.register(MyProfile)
    """,
    """\
    from configurator.apps import profile_registry
    from configurator.apps.base import BaseAppProfile


    class ExternalProfile(BaseAppProfile):
        slug = "external_profile"
        display_name = "External Profile"
        description = "Loaded from --profiles-dir"
        image = "alpine:3.19"


    profile_registry.register(ExternalProfile)
    """,
]
"""The examples of the guide for authors, unchanged."""


async def test_the_examples_of_the_guide(build: Build) -> None:
    """They load. Without a volume, HOME and the working directory are those of the image."""
    alone = await build("external_profile", mine=SEED[0], external=SEED[1])
    assert env_of(alone) == {}
    assert alone.kubespawner_override == {
        "image": "alpine:3.19",
        "cpu_guarantee": 1,
        "cpu_limit": 1,
        "mem_guarantee": "1G",
        "mem_limit": "1G",
    }


async def test_home_is_where_something_is_mounted(build: Build) -> None:
    """As `/workspace` is, here by a volume of a plug-in."""
    built = await build(plug=plug_in("def get_default_volumes(self):\n    return [volume('work', '/workspace')]"))
    assert env_of(built)["HOME"] == built.kubespawner_override["working_dir"] == "/workspace"


HOOKS = """\
bash_login_path = os.path.join(here, "files/login")
init_script_path = os.path.join(here, "files/init.sh")
pod_env_vars = {"A": "b", "FROM": {"from_config_map": {"name": "site-{{ namespace }}", "key": "url"}}}

def get_pod_env_vars(self):
    return {**super().get_pod_env_vars(), "WHO": "{{ spawner.user.name }}"}

def get_extra_resource_limits(self):
    return {"nvidia.com/gpu": 2}

def get_default_volumes(self):
    return [volume("data", "/data", "data-{{ spawner.user.name }}")]

def get_manifests(self):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db-{{ spawner.user.name }}"}, "spec": {}}
    return [Manifest(name="db", key="db", content=[service, None])]

def get_role_bindings(self):
    role = Role(name="reader", resources=["pods"], verbs=[Verb.get])
    return [RoleBinding(name="reader", subjects=[Subject(name="default", kind="ServiceAccount")], role=role)]

def get_config_maps(self):
    return [
        ConfigMap(name="conf", key="x.conf", content="x = 1", mount_path="/etc/x.conf", readonly=True),
        ConfigMap(name="site-{{ spawner.user.name }}", key="site", mount_path="/etc/site", readonly=True),
    ]

def get_image_pull_secrets(self):
    return [ImagePullSecret(name="registry-{{ spawner.user.name }}")]

def get_env_config_maps(self):
    return ["settings-{{ spawner.user.name }}"]

def get_env_secrets(self):
    return ["workspace-{{ spawner.user.name }}"]

def get_secret_mounts(self):
    return [SecretMount(name="keys-{{ spawner.user.escaped_name }}", mount_path="/keys")]
"""


async def test_all_hooks(folder: Path, build: Build) -> None:
    """Every hook reaches the pod or an object, and names are those of the user."""
    put(folder, "files/login", "echo {{ spawner.user.name }}\n")
    put(
        folder, "files/init.sh", "kubectl get po -o go-template='{{range .items}}{{.metadata.name}}{{else}}none{{end}}'"
    )
    built = await build(plug=plug_in(HOOKS), namespaces=True)
    override, objects = built.kubespawner_override, {(o.kind, o.name): o for o in built.objects}
    reference = {"valueFrom": {"configMapKeyRef": {"name": "site-ns", "key": "url"}}}
    assert env_of(built) == {"A": "b", "FROM": reference, "WHO": "ada"}
    assert override["extra_resource_limits"] == {"nvidia.com/gpu": "2"}
    assert override["image_pull_secrets"] == [{"name": "registry-ada"}]
    assert override["extra_container_config"]["envFrom"] == [
        {"configMapRef": {"name": "settings-ada"}},
        {"secretRef": {"name": "workspace-ada"}},
    ]
    sources = [{k: v for k, v in volume.items() if k != "name"} for volume in override["volumes"]]
    assert {"persistentVolumeClaim": {"claimName": "data-ada"}} in sources
    assert {"secret": {"secretName": "keys-ada"}} in sources
    assert {"configMap": {"name": "site-ada", "defaultMode": 0o644}} in sources
    assert {"/data", "/keys", "/etc/x.conf", "/etc/site", "/workspace/.bash_login", "/opt/init/.init.sh"} == set(
        mounts_of(built)
    )
    assert ("PersistentVolumeClaim", "data-ada") in objects
    assert ("Service", "db-ada") in objects
    assert {"Role", "RoleBinding"} <= {kind for kind, _ in objects}
    (container,) = override["init_containers"]
    assert (container["name"], container["image"]) == ("init-file-on-volume", "example/p:1")
    assert container["command"] == ["sh", "-c", "sh /opt/init/.init.sh"]
    assert [m["mountPath"] for m in container["volumeMounts"]] == ["/data", "/opt/init/.init.sh"]
    texts = [text for o in objects.values() for text in o.body.get("data", {}).values()]
    assert "echo ada\n" in texts
    assert "kubectl get po -o go-template='{{range .items}}{{.metadata.name}}{{else}}none{{end}}'" in texts


OWN_MAPS = """\
pod_env_vars = {"URL": {"from_config_map": {"name": "site", "key": "URL"}}}

def get_config_maps(self):
    return [ConfigMap(name="site", key="URL", content="http://s", mount_path="/etc/url", readonly=True)]

def get_env_config_maps(self):
    return ["site"]

def get_manifests(self):
    container = {"name": "c", "image": "c:1", "envFrom": [{"configMapRef": {"name": "site"}}]}
    pod = {"containers": [container], "volumes": [{"name": "v", "configMap": {"name": "of-others"}}]}
    return [Manifest(name="m", key="m", content=[{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m"},
                                                  "spec": pod}])]
"""


async def test_references_to_own_config_maps_follow_their_names(build: Build) -> None:
    """In variables, in `envFrom`, and in the pods of manifests, also where the file is mounted besides."""
    built = await build(plug=plug_in(OWN_MAPS))
    objects = {(o.kind, o.name): o for o in built.objects}
    data = {name: o.body["data"] for (kind, name), o in objects.items() if kind == "ConfigMap"}
    name = env_of(built)["URL"]["valueFrom"]["configMapKeyRef"]["name"]
    assert data[name] == {"URL": "http://s"}
    assert built.kubespawner_override["extra_container_config"]["envFrom"] == [{"configMapRef": {"name": name}}]
    assert "/etc/url" in mounts_of(built)
    spec = objects["Pod", "m"].body["spec"]
    used = spec["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    assert data[used] == {"URL": "http://s"}
    assert objects["ConfigMap", used].lifetime is Lifetime.owned
    assert spec["volumes"][0]["configMap"]["name"] == "of-others"


CHANGED = """\
def build(self):
    profile = super().build()
    profile.definition.kubespawner_override.mem_limit = "3G"
    profile.definition.kubespawner_override.extra_resource_guarantees = {"nvidia.com/gpu": "1"}
    profile.node_selector["pool"] = "big"
    profile.default_url = "tree/{{ spawner.user.name }}"
    profile.volumes.append(volume("more", "/more"))
    profile.pod_env_vars = {**profile.pod_env_vars, "MORE": "{{ namespace }}"}
    profile.init_containers.append(InitContainer(name="own", image="busybox", command=["true"], volume_mounts=[]))
    profile.env_from_secrets = ["extra"]
    return profile
"""


async def test_build_may_change_what_is_built(build: Build) -> None:
    """All parts of the returned profile count."""
    built = await build(plug=plug_in(CHANGED))
    override = built.kubespawner_override
    assert (override["mem_limit"], override["default_url"]) == ("3G", "/tree/ada")
    assert override["extra_resource_guarantees"] == {"nvidia.com/gpu": "1"}
    assert override["node_selector"] == {"pool": "big"}
    assert mounts_of(built) == {"/more": "more"}
    assert env_of(built) == {"MORE": "ns"}
    assert [c["name"] for c in override["init_containers"]] == ["own"]
    assert override["extra_container_config"] == {"envFrom": [{"secretRef": {"name": "extra"}}]}


OWN = """\
def build(self):
    resources = KubespawnerOverride(cpu_limit=3, mem_limit="5G", image="example/own:2")
    about = ProfileDefinition(display_name="P", description="One", slug="p", default=False,
                              kubespawner_override=resources)
    return Profile(id="profile_p", groups=self.groups, definition=about, node_selector={})
"""


async def test_build_may_return_a_profile_of_its_own(build: Build) -> None:
    """What it leaves out keeps the hub's own setting."""
    built = await build(plug=plug_in(OWN))
    assert built.kubespawner_override == {"image": "example/own:2", "cpu_limit": 3, "mem_limit": "5G"}


INTERNALS = """\
init_script_path = os.path.join(here, "init.sh")

def _build_config_maps(self):
    file = ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd", readonly=True)
    return super()._build_config_maps() + [file]

def _build_init(self):
    maps, containers = super()._build_init()
    containers[0].command = ["bash", "/opt/init/.init.sh"]
    return maps, containers
"""


async def test_the_internals_of_build_count_too(folder: Path, build: Build) -> None:
    """They are used, not ignored."""
    put(folder, "init.sh", "true\n")
    built = await build(plug=plug_in(INTERNALS))
    assert "/etc/motd" in mounts_of(built)
    assert built.kubespawner_override["init_containers"][0]["command"] == ["bash", "/opt/init/.init.sh"]


WRONG = {
    "return None": "plug.py:19: profile 'p': build(): returned a NoneType",
    "raise RuntimeError('no')": "plug.py:20: profile 'p': build(): RuntimeError: no",
    "p = super().build(); p.volumes = ['x']; return p": "plug.py:19: profile 'p': build(): volumes.0",
    "p = super().build(); p.groups = ['staff']; return p": "Set allowed_groups = ['staff']",
    "p = super().build(); p.definition.display_name = 'Q'; return p": "changes display_name to 'Q'",
    "p = super().build(); p.definition.kubespawner_override.mem_limit = 'much'; return p": "mem_limit",
    "p = super().build(); p.env_from_secrets = ['{{ spawner.user.name | upper }}']; return p": "is more than a name",
    "p = super().build(); p.pod_env_vars = {'A': '{{ spawner.user.mail }}'}; return p": "'spawner.user.mail'",
    "p = super().build(); p.definition.kubespawner_override.image = 'x:{{ spawner.name }}'; return p": "in the image",
    "p = super().build(); p.volumes = [volume('a', '/{{ namespace }}')]; return p": "0.volume_mount.mount_path: ",
    "p = super().build(); p.env_from_secrets = ['a/{{ namespace }}']; return p": "'a/default' cannot be the name",
}


@pytest.mark.parametrize("line", WRONG)
async def test_what_build_returns_is_checked(line: str, build: Build) -> None:
    """A wrong result is an error of the profile, with the line, when it is loaded."""
    with pytest.raises(Exception, match="profile 'p'") as refused:
        await build(plug=plug_in(f"def build(self):\n    {line}"))
    assert WRONG[line] in str(refused.value)


FROM_PARAM = """\
default_url = Param.ref("site/url")
params = {"site/url": "/{{{{ spawner.user.name }}"}
"""


async def test_what_a_param_gives_is_not_rendered(build: Build) -> None:
    """A user can type it."""
    param = 'profile_registry.register_param(Param("site/url", {"type": "string"}))'
    built = await build(plug=plug_in(FROM_PARAM, head=f"from profile_spawner import Param\n{HEAD}{param}\n"))
    assert built.kubespawner_override["default_url"].replace("{{{{", "{{").replace("}}}}", "}}") == (
        "/{{ spawner.user.name }}"
    )


async def test_a_wrong_hook_is_named(build: Build) -> None:
    """With its line, also where `build()` calls it."""
    with pytest.raises(BuildError, match=r"plug.py:19: profile 'p': get_env_secrets\(\): 0: "):
        await build(plug=plug_in("def get_env_secrets(self):\n    return [1]"))


DERIVED = """\
from configurator.apps import profile_registry
from configurator.apps.coder.coder_profiles import CoderProfile
from configurator.apps.jupyterlab.jupyterlab_profiles import JupyterLabSmallProfile
from configurator.apps.remote_desktop.remote_desktop_profiles import DesktopSnapProfile
from ._base import IMAGE, Shared


class Coder(Shared, CoderProfile):
    slug = "coder_of_ours"
    image = IMAGE


class Lab(JupyterLabSmallProfile):
    slug = "lab_of_ours"


class Snap(DesktopSnapProfile):
    slug = "snap_of_ours"


assert issubclass(Coder, profile_registry.get("coder_app"))
for profile in (Coder, Lab, Snap):
    assert profile.slug not in profile_registry.all()
    profile_registry.register(profile)
"""


async def test_packages_derive_from_ready_made_profiles(folder: Path, build: Build) -> None:
    """A package with a shared `_base`, and a `_common` beside it that registers a profile too."""
    put(folder, "site_profiles/__init__.py", DERIVED)
    put(
        folder,
        "site_profiles/_base.py",
        "import _common\nIMAGE = _common.IMAGE\n\n\nclass Shared:\n    cpu_limit = 4\n",
    )
    built = await build("coder_of_ours", _common=plug_in("pass", head=f'{HEAD}IMAGE = "example/ours:1"\n'))
    assert (built.kubespawner_override["image"], built.kubespawner_override["cpu_limit"]) == ("example/ours:1", 4)
    assert {"/calrissian", "/workspace", "/workspace/.bashrc"} <= set(mounts_of(built))
    snap = await build("snap_of_ours")
    assert "/usr/local/snap/etc/snap.conf" in mounts_of(snap)
    assert (await build("p")).slug == "p"


async def test_the_ready_made_profiles(make_service: Callable[..., ProfileService]) -> None:
    """They have the slugs, images and sizes that the configurator's have, and are offered with its setting only."""
    slugs = list(ready_made())
    service = make_service(profiles_dirs=[], builtin_profiles=[*slugs, "jupyterlab_gpu"], configurator_compat=True)
    snapshot = await service.ready()
    assert not service.problems
    assert list(snapshot.entries) == [*slugs, "jupyterlab_gpu"]
    effective = {slug: entry.effective for slug, entry in snapshot.entries.items()}
    assert {slug: effective[slug]["image"].rpartition("/")[2] for slug in slugs} == {
        "coder_app": "pde-code-server:latest-dev",
        "gpu_coder_app": "pde-code-server:latest-dev",
        "coder_dask_gateway_app": "pde-code-server:latest-dev",
        "remote_desktop": "iga-remote-desktop:1.2.0",
        "qgis_remote_desktop": "iga-remote-desktop-qgis:latest",
        "panoply_remote_desktop": "iga-remote-desktop-panoply:latest-dev",
        "snap_remote_desktop": "iga-remote-desktop-snap:latest-dev",
        "jupyterlab_small": "iat-jupyterlab:latest-dev",
    }
    sizes = {
        slug: (o["cpu_guarantee"], o["cpu_limit"], o["mem_guarantee"], o["mem_limit"]) for slug, o in effective.items()
    }
    assert {sizes[slug] for slug in slugs if slug != "gpu_coder_app"} == {(1, 2, "4G", "6G")}
    assert sizes["gpu_coder_app"] == (4, 8, "16G", "32G")
    without = make_service(profiles_dirs=[], builtin_profiles=["qgis_remote_desktop"])
    await without.ready()
    assert "configurator_compat = True" in str(without.problems[0])


def test_every_module_that_plug_ins_import() -> None:
    """It exists, with its names."""
    ready_made()
    for module, names in {
        "apps": "profile_registry",
        "apps.registry": "ProfileRegistry",
        "apps.base": "BaseAppProfile",
        "apps.app_helpers": "get_config_map get_bash_login_config_map get_bashrc_config_map "
        "get_init_script_config_map create_init_container load_manifests",
        "apps.coder": "BaseCoderProfile CoderProfile GpuCoderProfile DaskGatewayCoderProfile",
        "apps.jupyterlab": "BaseJupyterLabProfile JupyterLabSmallProfile",
        "apps.remote_desktop": "BaseRemoteDesktopProfile DesktopProfile DesktopQgisProfile DesktopPanoplyProfile "
        "DesktopSnapProfile",
        "models": "Config ConfigMap ConfigMapEnvVarReference ConfigMapKeyRef ImagePullSecret InitContainer "
        "InitContainerVolumeMount KubespawnerOverride Manifest Profile ProfileDefinition Role RoleBinding SecretMount "
        "Subject SubjectKind Verb Volume VolumeMount",
    }.items():
        found = importlib.import_module(f"configurator.{module}")
        assert [name for name in names.split() if not hasattr(found, name)] == []
    with pytest.raises(KeyError, match="coder_app"):
        importlib.import_module("configurator.apps").profile_registry.get("coder")
