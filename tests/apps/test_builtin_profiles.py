"""The built-in families and profiles."""

import asyncio
import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import profile_spawner
from profile_spawner import BaseAppProfile, BaseCoderProfile, BaseJupyterLabProfile, BaseRemoteDesktopProfile
from profile_spawner.apps import BUILTIN
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import check_profile_class
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.registry import Collector, profile_registry
from profile_spawner.profiles.resources import Lifetime
from tests.snapshots import snapshot_of

FAMILIES = (BaseJupyterLabProfile, BaseCoderProfile, BaseRemoteDesktopProfile)
CONTEXT = ServerContext(UserInfo("grace", frozenset({"gpu"})), namespace="hub", pod_name="jupyter-grace")
PROFILES = pytest.mark.parametrize("profile", BUILTIN.values(), ids=BUILTIN)


def build(profile):
    """Return what a server of grace gets."""
    return asyncio.run(profile(CONTEXT).build())


def mounted(override):
    """Return the volume mounts by path."""
    return {mount["mountPath"]: mount for mount in override["volume_mounts"]}


@PROFILES
def test_a_builtin_profile_passes_the_check_of_the_registry(profile):
    """Built-in classes pass the checks of authors' classes."""
    check_profile_class(profile)
    assert issubclass(profile, FAMILIES)


async def test_all_builtin_profiles_fit_into_one_snapshot():
    """All of them can be offered together, and none has a problem."""
    collector = Collector("built-in")
    for profile in BUILTIN.values():
        collector.add(profile)
    snapshot = await snapshot_of(collector)
    assert snapshot.problems == ()
    assert list(snapshot.entries) == list(BUILTIN)


def test_importing_the_families_offers_nothing():
    """The registry is empty until a profile is registered."""
    assert not set(BUILTIN) & set(profile_registry.collector.profiles)


@PROFILES
def test_the_home_is_the_workspace_claim(profile):
    """Files in /workspace outlive the server, and the shell starts there."""
    built = build(profile)
    override = built.kubespawner_override
    claims = [o for o in built.objects if o.kind == "PersistentVolumeClaim"]
    assert [c.lifetime for c in claims] == [Lifetime.persistent]
    assert claims[0].body["spec"]["resources"]["requests"]["storage"] == profile.workspace_volume_size
    assert mounted(override)["/workspace"]["name"] == "workspace-volume"
    assert override["working_dir"] == override["environment"]["HOME"] == "/workspace"


@PROFILES
def test_the_start_up_files_come_with_the_profile(profile):
    """Login file and bashrc are in the home, and the init script runs on the workspace before the server."""
    override = build(profile).kubespawner_override
    assert {"/workspace/.bash_login", "/workspace/.bashrc"} <= set(mounted(override))
    (init,) = override["init_containers"]
    assert init["image"] == profile.image
    assert {m["mountPath"] for m in init["volumeMounts"]} == {"/workspace", "/opt/init/.init.sh"}


@PROFILES
def test_files_are_the_same_for_all_users(profile):
    """The start-up files name no user, so that all servers share one ConfigMap."""
    lifetimes = {o.lifetime for o in build(profile).objects if o.kind == "ConfigMap"}
    assert lifetimes == {Lifetime.shared}


@PROFILES
def test_the_override_of_a_profile_is_json(profile):
    """Tools that read profile_list as JSON can."""
    json.dumps(build(profile).kubespawner_override)


def test_a_user_name_is_text_in_the_environment():
    """A user name with braces is a user name."""
    context = ServerContext(UserInfo("{{ namespace }}"))
    override = asyncio.run(BUILTIN["jupyterlab_small"](context).build()).kubespawner_override
    # KubeSpawner expands the variables once more.
    assert override["environment"]["PROFILE_USER"].format() == "{{ namespace }}"


def test_gpu_profiles_ask_for_a_gpu():
    """The GPU variants have the limit, tolerate tainted nodes and say so to the shell."""
    for slug in ("jupyterlab_gpu", "gpu_coder_app"):
        override = build(BUILTIN[slug]).kubespawner_override
        assert override["extra_resource_limits"] == {"nvidia.com/gpu": "1"}
        assert override["environment"]["PROFILE_GPUS"] == "1"
        assert override["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_without_a_size_there_is_no_workspace_volume():
    """`workspace_volume_size = None` leaves the home to the image or to the hub's own volume."""

    class Bare(BaseJupyterLabProfile):
        slug = "bare"
        display_name = "Bare"
        description = "No volume"
        image = "quay.io/jupyter/base-notebook:2026-09-01"
        workspace_volume_size = None

    built = build(Bare)
    assert not [o for o in built.objects if o.kind == "PersistentVolumeClaim"]
    assert "/workspace" not in mounted(built.kubespawner_override)


def test_redis_goes_with_the_server():
    """The manifests of a profile are named after the server and belong to it."""
    built = build(BUILTIN["jupyterlab_redis"])
    own = {o.kind: o for o in built.objects if o.kind in ("Deployment", "Service")}
    assert own["Deployment"].name == own["Service"].name == "redis-grace"
    assert {o.lifetime for o in own.values()} == {Lifetime.owned}
    assert built.kubespawner_override["environment"]["REDIS_URL"] == "redis://redis-grace:6379/0"


def run_in(home: Path, *argv: str, **env: str) -> str:
    """Run a program as a server's shell would see it, and return what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PROFILE_USER": "grace", **env}
    done = subprocess.run(argv, env=environment, cwd=home, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_the_init_script_prepares_an_empty_workspace(family, tmp_path):
    """After the script the workspace has a README, and git knows who works there."""
    run_in(tmp_path, "sh", str(family.init_script_path))
    assert "Your workspace" in (tmp_path / "README.md").read_text()
    if shutil.which("git"):
        assert run_in(tmp_path, "git", "config", "--global", "user.name").strip() == "grace"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_init_script_does_not_change_the_users_files(family, tmp_path):
    """A second start changes nothing, and a README or a git setting of the user stays."""
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Rear Admiral\n")
    run_in(tmp_path, "sh", str(family.init_script_path))
    first = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    run_in(tmp_path, "sh", str(family.init_script_path))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == first
    assert (tmp_path / "README.md").read_text() == "mine"
    assert "Rear Admiral" in (tmp_path / ".gitconfig").read_text()


def test_the_example_notebook_runs(tmp_path):
    """The first notebook is a notebook, and its code prints what the server has."""
    run_in(tmp_path, "sh", str(BaseJupyterLabProfile.init_script_path))
    notebook = json.loads((tmp_path / "examples" / "first-steps.ipynb").read_text())
    code = "".join(next(c for c in notebook["cells"] if c["cell_type"] == "code")["source"])
    printed = run_in(tmp_path, "python3", "-c", code, CPU_LIMIT="4.0", MEM_LIMIT=str(2**31), PROFILE_GPUS="1")
    assert "2048 MiB" in printed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_login_shell_says_what_the_server_has(family, tmp_path):
    """The greeting names profile, user, CPU, memory and GPUs; the prompt names the profile; aliases work."""
    shutil.copy(family.bash_login_path, tmp_path / ".bash_login")
    shutil.copy(family.bashrc_path, tmp_path / ".bashrc")
    (tmp_path / ".bashrc.local").write_text("alias mine='echo my own'\n")
    printed = run_in(
        tmp_path,
        *("bash", "--login", "-i", "-c", 'printf "prompt %s\\n" "$PS1"; alias ll mine'),
        PROFILE_NAME="GPU lab",
        CPU_LIMIT="4.0",
        MEM_LIMIT=str(16 * 2**30),
        PROFILE_GPUS="2",
    )
    assert "GPU lab" in printed
    assert "for grace" in printed
    assert "This server has 4 CPU, 16384 MiB memory, 2 GPU." in printed
    assert "my own" in printed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shell_of_a_script_prints_nothing(family, tmp_path):
    """Programs that start a login shell (scp, an editor) see no greeting."""
    shutil.copy(family.bash_login_path, tmp_path / ".bash_login")
    shutil.copy(family.bashrc_path, tmp_path / ".bashrc")
    assert run_in(tmp_path, "bash", "--login", "-c", "true") == ""


def test_a_derived_profile_needs_four_lines():
    """The author's guide: slug, display name, description and image are enough."""

    class MyProfile(BaseCoderProfile):
        slug = "my_profile"
        display_name = "My Profile"
        description = "Example profile"
        image = "ghcr.io/example/my-profile:latest"

    check_profile_class(MyProfile)
    assert build(MyProfile).kubespawner_override["image"] == "ghcr.io/example/my-profile:latest"


def test_the_packages_names_are_the_authors_interface():
    """Every name that the package promises can be imported from it, and misspelt ones are attribute errors."""
    for name in profile_spawner.__all__:
        assert getattr(profile_spawner, name) is not None
    assert profile_spawner.BaseAppProfile is BaseAppProfile
    with pytest.raises(AttributeError, match="BaseCoder"):
        _ = profile_spawner.BaseCoder


def test_the_package_knows_its_version():
    """JupyterHub's log names the spawner with its version."""
    assert profile_spawner.__version__ == version("jupyterhub-profile-spawner")
