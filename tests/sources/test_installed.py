"""Profiles of installed packages, built-in ones, and modules written for the configurator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_spawner import metrics
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.resources import Lifetime
from profile_spawner.profiles.selection import Selection
from profile_spawner.sources.reloader import ProfileService
from tests.sources.conftest import module, put

PLUGIN = """
    from configurator.apps import profile_registry
    from configurator.apps.base import BaseAppProfile
    from configurator.apps.coder.base_coder import BaseCoderProfile
    from configurator.apps.app_helpers import get_config_map, load_manifests
    from configurator.models import ConfigMap, Volume, VolumeMount
    from loguru import logger
    import configurator.models
    import os

    here = os.path.dirname(__file__)
    logger.bind(plug_in="external").success("loading {} of {who}", "profiles", who="a plug-in")


    class ExternalProfile(BaseAppProfile):
        slug = "external_profile"
        display_name = "External Profile"
        description = "Loaded from --profiles-dir"
        image = "alpine:3.19"
        bashrc_path = os.path.join(here, "config_maps/my_profile/bash-rc")

        def get_config_maps(self):
            return [get_config_map(os.path.join(here, "config_maps/x.conf"), "x", self.slug, "x.conf", "/etc/x.conf")]

        def get_default_volumes(self):
            mount = VolumeMount(name="data", mount_path="/data")
            return [
                Volume(name="data", claim_name="data-claim", size="1Gi", storage_class="standard",
                       access_modes=["ReadWriteOnce"], volume_mount=mount, persist=True, mount_path="/ignored")
            ]


    class MyProfile(BaseCoderProfile):
        slug = "my_profile"
        display_name = "My Profile"
        description = "Example profile"
        image = "ghcr.io/example/my-profile:latest"


    profile_registry.register(ExternalProfile)
    profile_registry.register(MyProfile)
"""


async def test_modules_of_the_configurator(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """A plug-in of the configurator is loaded as it is."""
    put(folder, "plugin.py", PLUGIN)
    put(folder, "config_maps/my_profile/bash-rc", "echo hello\n")
    put(folder, "config_maps/x.conf", "x = 1\n")
    service = make_service(configurator_compat=True)
    snapshot = await service.ready()
    assert not service.problems
    assert list(snapshot.entries) == ["external_profile", "my_profile"]
    selection = snapshot.select({"profile": "external_profile"}, UserInfo("ada"))
    built = await snapshot.build(selection, ServerContext(UserInfo("ada")))  # type: ignore[arg-type]
    assert built.kubespawner_override["cpu_limit"] == 1
    paths = {m["mountPath"] for m in built.kubespawner_override["volume_mounts"]}
    assert {"/data", "/etc/x.conf", "/workspace/.bashrc"} <= paths


FAMILIES = """
    import os
    from configurator.apps import profile_registry
    from configurator.apps.app_helpers import load_manifests
    from configurator.apps.base import BaseAppProfile
    from configurator.apps.coder import BaseCoderProfile
    from configurator.apps.jupyterlab.base_jupyterlab import BaseJupyterLabProfile
    from configurator.apps.remote_desktop.base_remote_desktop import BaseRemoteDesktopProfile
    from configurator.models import Manifest, Role, RoleBinding, Subject, Verb, Volume, VolumeMount


    class Tracking(BaseCoderProfile):
        slug = "tracking_app"
        display_name = "Tracking"
        description = "With a service beside it"
        calrissian_volume_size = "30Gi"
        base_path = os.path.dirname(__file__)
        bashrc_path = os.path.join(base_path, "config_maps/bash-rc")

        def get_pod_env_vars(self):
            return {**super().get_pod_env_vars(), "TRACKING": "http://{{ spawner.user.name }}.{{ namespace }}"}

        def get_manifests(self):
            path = os.path.join(self.base_path, "manifests/service.yaml")
            return [load_manifests(name="my_service", key="s", slug=self.slug, file_path=path)]

        def get_role_bindings(self):
            role = Role(name="job_reader", api_groups=None, resources=["jobs"], verbs=[Verb.get], api_group="batch")
            subject = Subject(name="default", kind="ServiceAccount")
            return super().get_role_bindings() + [RoleBinding(name="job_reader", subjects=[subject], role=role)]


    class Gpu(BaseCoderProfile):
        slug = "gpu_app"
        display_name = "GPU"
        gpu_limit = 1

        def __init__(self, *, node_selector=None, **kwargs):
            super().__init__(node_selector={"gpu": "true", **(node_selector or {})}, **kwargs)
            mount = VolumeMount(name="data", mount_path="/data")
            self.volumes.append(Volume(name="data", claim_name="data", size="1Gi", storage_class="standard",
                                       access_modes=["ReadOnlyMany"], volume_mount=mount, persist=True))

        def get_extra_resource_limits(self):
            return {"nvidia.com/gpu": self.gpu_limit}


    class Lab(BaseJupyterLabProfile):
        slug = "lab_app"
        display_name = "Lab"
        default_url = "lab"


    class Desktop(BaseRemoteDesktopProfile):
        slug = "desktop_app"
        display_name = "Desktop"


    for profile in (Tracking, Gpu, Lab, Desktop):
        profile_registry.register(profile)
"""
SERVICE = """
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: "tracking-{{ spawner.user.name }}", namespace: "{{ namespace }}"}
    spec: {ports: [{port: 80}]}
    ---
"""


async def test_families_of_the_configurator(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """They have its images, sizes, volumes and variables; its templates, names and constructors work in plug-ins."""
    put(folder, "plugin.py", FAMILIES)
    put(folder, "config_maps/bash-rc", "echo {{spawner.user.name}}\n")
    put(folder, "manifests/service.yaml", SERVICE)
    service = make_service(configurator_compat=True)
    snapshot = await service.ready()
    assert not service.problems
    context = ServerContext(UserInfo("ada@example.org"), namespace="ns")
    built = {slug: await snapshot.build(Selection(slug, {}), context) for slug in snapshot.entries}
    override = {slug: build.kubespawner_override for slug, build in built.items()}
    images = {slug: o["image"].rpartition("/")[2] for slug, o in override.items()}
    assert images == {
        "tracking_app": "pde-code-server:latest-dev",
        "gpu_app": "pde-code-server:latest-dev",
        "lab_app": "iat-jupyterlab:latest-dev",
        "desktop_app": "iga-remote-desktop:1.2.0",
    }
    assert {(o["cpu_guarantee"], o["cpu_limit"], o["mem_guarantee"], o["mem_limit"]) for o in override.values()} == {
        (1, 2, "4G", "6G")
    }
    assert {slug: o.get("default_url") for slug, o in override.items() if "default_url" in o} == {
        "lab_app": "/lab",
        "desktop_app": "/desktop",
    }
    objects = {(o.kind, o.field): o for o in built["tracking_app"].objects}
    sizes = {f: o.body["spec"]["resources"]["requests"]["storage"] for (k, f), o in objects.items() if "Claim" in k}
    assert list(sizes.values()) == ["30Gi", "20Gi"]
    assert override["tracking_app"]["environment"]["TRACKING"] == "http://ada@example.org.ns"
    assert next(o.name for (kind, _), o in objects.items() if kind == "Service") == "tracking-ada@example.org"
    (personal,) = [o for o in objects.values() if "1-bash-rc" in o.body.get("data", {})]
    assert personal.body["data"] == {"1-bash-rc": "echo ada@example.org\n"}
    assert personal.lifetime is Lifetime.owned
    (role,) = [o for (kind, _), o in objects.items() if kind == "Role"]
    assert role.body["rules"] == [{"apiGroups": [""], "resources": ["jobs"], "verbs": ["get"]}]
    assert override["gpu_app"]["node_selector"] == {"gpu": "true"}
    assert "/data" in {m["mountPath"] for m in override["gpu_app"]["volume_mounts"]}


BROKEN = """\
from profile_spawner import BaseAppProfile, profile_registry

class Broken(BaseAppProfile):
    slug = "broken"
    display_name = "Broken"
    image = "a:1"
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        1 / 0

profile_registry.register(Broken)
"""


async def test_a_constructor_that_fails_is_told(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """With its line."""
    put(folder, "broken.py", BROKEN)
    put(folder, "fine.py", module("fine"))
    service = make_service()
    snapshot = await service.ready()
    assert list(snapshot.entries) == ["fine"]
    assert ["broken.py:9: profile 'broken': __init__(): ZeroDivisionError" in str(p) for p in service.problems] == [
        True
    ]


async def test_without_compatibility_the_message_says_how(
    folder: Path, make_service: Callable[..., ProfileService]
) -> None:
    """Where the names are switched off, the error names the setting."""
    put(folder, "plugin.py", PLUGIN)
    service = make_service()
    await service.ready()
    assert "configurator_compat = True" in str(service.problems[0])


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on `sys.path` with a package that offers entry points."""
    site = tmp_path / "site"
    put(site, "acme_profiles/__init__.py", "from profile_spawner import BaseAppProfile\n")
    text = module("lab").replace("profile_registry.register(Lab)", "")
    put(site, "acme_profiles/lab.py", text)
    put(site, "acme_profiles/many.py", f"def register():\n{_indented(module('one'))}\n")
    put(site, "acme_profiles/whole.py", module("whole"))
    put(site, "acme_profiles/broken.py", "x = 1\n1 / 0\n")
    put(
        site,
        "acme_profiles-1.0.dist-info/entry_points.txt",
        """
        [profile_spawner.profiles]
        broken = acme_profiles.broken
        lab = acme_profiles.lab:Lab
        many = acme_profiles.many:register
        whole = acme_profiles.whole
        """,
    )
    put(site, "acme_profiles-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-profiles\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in [n for n in sys.modules if n.startswith("acme_profiles")]:
        del sys.modules[name]


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


async def test_entry_points(installed: Path, make_service: Callable[..., ProfileService]) -> None:
    """A class, a function or a module of an installed package brings profiles; a broken one is told with its line."""
    service = make_service(profiles_dirs=(), profile_entry_points=True)
    snapshot = await service.ready()
    assert list(snapshot.entries) == ["lab", "one", "whole"]
    assert [str(installed / "acme_profiles/broken.py") + ":2" in str(p) for p in service.problems] == [True]


async def test_entry_points_by_name(installed: Path, make_service: Callable[..., ProfileService]) -> None:
    """Only those that are named are loaded; one that does not exist is a problem that names the others."""
    service = make_service(profiles_dirs=(), profile_entry_points=("whole", "wohle"))
    snapshot = await service.ready()
    assert list(snapshot.entries) == ["whole"]
    assert ["broken, lab, many, whole" in str(p) for p in service.problems] == [True]


async def test_builtin_profiles_by_name(make_service: Callable[..., ProfileService]) -> None:
    """Built-in profiles are offered in the order named; an unknown slug is told with the nearest one."""
    service = make_service(profiles_dirs=(), builtin_profiles=("coder_app", "jupyterlab_small", "jupyterlab_smal"))
    snapshot = await service.ready()
    assert set(snapshot.entries) == {"coder_app", "jupyterlab_small"}
    assert ["did you mean 'jupyterlab_small'" in str(p) for p in service.problems] == [True]


async def test_metrics(folder: Path, make_service: Callable[..., ProfileService]) -> None:
    """The hub's metrics tell whether the last reload was good, when, and how many profiles and sources are in order."""
    from prometheus_client import REGISTRY, generate_latest

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"profile_spawner_{name}", labels)

    put(folder, "a.py", module("a"))
    put(folder, "b.py", module("b"))
    service = make_service()
    await service.ready()
    assert value("last_reload_successful") == 1
    assert value("generation") == 1
    assert value("profiles", state="current") == 2
    put(folder, "b.py", "(")
    put(folder, "c.py", "(")
    await service.reload()
    assert value("last_reload_successful") == 0
    assert value("profiles", state="stale") == 1
    assert value("sources", state="good") == 1
    assert value("sources", state="stale") == 1
    assert value("sources", state="broken") == 1
    assert (value("last_reload_timestamp_seconds") or 0) > 1e9
    assert metrics.hub_metrics() is metrics.hub_metrics()
    assert b"profile_spawner_reload_seconds_bucket" in generate_latest()
