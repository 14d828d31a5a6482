"""The command line as a whole."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("profile-spawner")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program."""
    return subprocess.run([str(PROGRAM), *argv], capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_that_of_the_distribution():
    """`--version` says what is installed."""
    assert run("--version").stdout.strip() == f"profile-spawner {version('jupyterhub-profile-spawner')}"


def test_help_lists_the_commands():
    """Without arguments the commands are listed."""
    assert "demo" in run("--help").stdout


def test_help_loads_neither_hub_nor_cluster():
    """The command line reaches for JupyterHub and Kubernetes only when a command needs them."""
    heavy = ["jupyterhub", "kubespawner", "kubernetes_asyncio", "aiohttp", "pydantic"]
    code = f"import sys, profile_spawner.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_mistake_is_a_message_and_no_traceback(tmp_path):
    """A wrong option ends with a code and a sentence."""
    done = run("demo", "--profiles-dir", str(tmp_path / "missing"))
    assert done.returncode == 2
    assert "does not exist" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_shell_completes_commands_and_options(monkeypatch):
    """What `--install-completion` installs asks the program itself."""
    monkeypatch.setenv("_PROFILE_SPAWNER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "profile-spawner ")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert {"list", "show", "validate", "explain", "demo"} <= set(run().stdout.split())
    monkeypatch.setenv("COMP_WORDS", "profile-spawner new x --fam")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run().stdout.split() == ["--family"]
    monkeypatch.setenv("COMP_WORDS", "profile-spawner new x --family ")
    monkeypatch.setenv("COMP_CWORD", "4")
    assert set(run().stdout.split()) == {"jupyterlab", "coder", "remote_desktop"}


def test_a_reader_that_goes_away_is_no_fault():
    """`profile-spawner schema | head -1` ends quietly."""
    command = f"{PROGRAM} schema | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
