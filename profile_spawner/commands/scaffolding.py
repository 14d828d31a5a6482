"""`new`: creates the files of a new profile."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from profile_spawner.errors import ProfileDefinitionError, SourceError

from .app import app

__all__ = ["new"]


class Family(str, enum.Enum):
    """The families that a profile can belong to."""

    jupyterlab = "jupyterlab"
    coder = "coder"
    remote_desktop = "remote_desktop"


_BASES = {
    Family.jupyterlab: ("BaseJupyterLabProfile", "quay.io/jupyter/scipy-notebook:2026-08-03", "notebook"),
    Family.coder: ("BaseCoderProfile", "glcr.b-data.ch/jupyterlab/python/base:3", "code"),
    Family.remote_desktop: ("BaseRemoteDesktopProfile", "ghcr.io/manics/jupyter-desktop-mate:latest", "desktop"),
}

_MODULE = '''"""The profile {slug}."""

from pathlib import Path

from profile_spawner import {base}, ConfigMap, Template, profile_registry

HERE = Path(__file__).parent


@profile_registry.register
class {name}({base}):
    """Servers of the profile {slug}."""

    slug = "{slug}"
    display_name = "{title}"
    description = "What it is for, in a sentence or two."
    image = "{image}"
    icon = "{icon}"

    cpu_guarantee, cpu_limit = 0.5, 2
    mem_guarantee, mem_limit = "1G", "4G"
    workspace_volume_size = "20Gi"
    pod_env_vars = {{"PROFILE": "{slug}"}}
    bashrc_path = HERE / "config_maps" / "bashrc.sh"
    init_script_path = HERE / "config_maps" / "init.sh"

    def get_config_maps(self):
        """Return files for the server. In a `Template`, references such as `{{{{ username }}}}` are replaced."""
        motd = Template((HERE / "config_maps" / "motd.txt").read_text())
        return [ConfigMap(name="motd", key="motd", content=motd, mount_path="/etc/motd.d/{slug}")]
'''

_BASHRC = """# Read by every interactive shell.
PS1='\\w \\$ '
alias ll='ls -l'
"""

_INIT = """# Runs before the server, in the profile's image and with its volumes. A failure ends the start.
set -eu
mkdir -p "$HOME/examples"
"""

_MOTD = "Welcome to {title}, {{{{ username }}}}.\n"

_TEST = '''"""What the profile {slug} promises. Run it with `pytest {test}`."""

import json
import subprocess
import sys
from pathlib import Path

PROFILES = Path(__file__).parents[1]


def profile_spawner(*words):
    """Run the command line on these profiles, and return what it prints."""
    command = [sys.executable, "-m", "profile_spawner", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def printed(command, *words):
    """Return what a command prints about these profiles, as data."""
    return json.loads(profile_spawner(command, *words, "--profiles-dir", str(PROFILES), "--output", "json"))


def test_it_is_right():
    """Nothing is wrong that can be known before a user meets it."""
    profile_spawner("validate", str(PROFILES))


def test_it_is_loaded_from_its_folder():
    """As a hub does with `profiles_dirs`, when the module changes too."""
    shown = next(profile for profile in printed("list") if profile["slug"] == "{slug}")
    assert shown["display_name"] == "{title}"
    assert Path(shown["origin"].rpartition(":")[0]).resolve() == PROFILES / "{module}" / "__init__.py"


def test_a_server_has_what_it_promises():
    """The pod has the image, the resources and the variable."""
    pod = printed("pod", "{slug}")
    container = pod["spec"]["containers"][0]
    assert container["image"] == "{image}"
    assert container["resources"]["limits"] == {{"cpu": 2, "memory": 4 * 2**30}}
    assert {{"name": "PROFILE", "value": "{slug}"}} in container["env"]


def test_a_start_creates_its_files_and_its_workspace():
    """Everything that the pod needs beside it."""
    made = printed("manifests", "{slug}")["items"]
    texts = [text for one in made if one["kind"] == "ConfigMap" for text in one["data"].values()]
    assert "Welcome to {title}, user.\\n" in texts
    claims = [one for one in made if one["kind"] == "PersistentVolumeClaim"]
    assert [claim["spec"]["resources"]["requests"]["storage"] for claim in claims] == ["20Gi"]


def test_an_administrator_can_override_it():
    """Image, limits and groups, when the profile is written down for another hub."""
    words = ["--profiles", "{slug}", "--override", "{slug}:cpu_limit=3", "--groups", "course"]
    (profile,) = printed("dump", *words)["profiles"]
    assert (profile["cpu_limit"], profile["allowed_groups"]) == (3, ["course"])
'''


@app.command()
def new(
    slug: Annotated[str, typer.Argument(help="The identity of the profile: a-z, 0-9, _ and -.", metavar="SLUG")],
    family: Annotated[Family, typer.Option(help="What it is based on.")] = Family.jupyterlab,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the package is written.", file_okay=False, metavar="DIR")
    ] = Path("profiles"),
) -> None:
    """Write a profile to fill in: a package with its files, and a test of it.

    Nothing that exists is overwritten.
    """
    from profile_spawner.names import is_slug

    if not is_slug(slug):
        raise ProfileDefinitionError(
            "this is not a slug", field="SLUG", value=slug, expected="1 to 63 of a-z 0-9 _ -, such as gpu-lab"
        )
    module = slug.replace("-", "_")
    if module[0].isdigit():
        module = f"profile_{module}"
    folder = directory / module
    test = directory / "tests" / f"test_{module}.py"
    for path in (folder, test):
        if path.exists():
            raise SourceError("exists already; nothing was written", field="SLUG", value=str(path))
    base, image, icon = _BASES[family]
    words = {
        "slug": slug,
        "module": module,
        "name": "".join(w.capitalize() for w in module.split("_") if w) or "Profile",
        "title": slug.replace("-", " ").replace("_", " ").capitalize(),
        "base": base,
        "image": image,
        "icon": icon,
        "test": test,
    }
    written = {
        folder / "__init__.py": _MODULE.format(**words),
        folder / "config_maps" / "bashrc.sh": _BASHRC,
        folder / "config_maps" / "init.sh": _INIT,
        folder / "config_maps" / "motd.txt": _MOTD.format(**words),
        test: _TEST.format(**words),
    }
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {path}")
    typer.echo(f"\nNext: edit {folder / '__init__.py'}, then: profile-spawner validate {directory}")
