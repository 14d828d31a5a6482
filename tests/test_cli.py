"""The command line as a whole."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from profile_spawner.cli import main

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


WRONG = {
    "list -f text.yaml": "not values of Zero to JupyterHub",
    "list -f latin.yaml": "this is not YAML",
    "list -f raise.py": "raise.py:1: RuntimeError: boom",
    "list -f exit.py": "ends the program",
    "list -f number.py": "profile_list",
    "list --documents latin.yaml": "this is not YAML",
    "list --profiles-dir raising": "RuntimeError: boom",
    "show nobody -f text.py": "there is no such profile",
    "show a -f override.py": "kubespawner_override: must be a mapping",
    "validate directory": "Is a directory",
    "dump --documents doc.yaml --output-file missing/dump.yaml": "there is no folder for it",
    "dump --documents doc.yaml --output-file doc.yaml/dump.yaml": "there is no folder for it",
    "import profile-list append.py -o missing/out.yaml": "missing/out.yaml: No such file or directory",
    "import profile-list number.py": "is not a list",
    "import profile-list latin.yaml": "this is not YAML",
    "import configurator text.yaml": "text.yaml",
    "explain --record latin.yaml": "this is not YAML",
    "explain --record record.json": "has no record of params",
    "new lab --dir doc.yaml/x": "doc.yaml",
    "diff nowhere doc.yaml": "there is no such file or folder",
    "rbac --check --documents doc.yaml --kubeconfig text.yaml": "kubeconfig",
}


@pytest.mark.parametrize("call", WRONG)
def test_whatever_is_wrong_is_one_message_and_exit_code_1(call, tmp_path, monkeypatch, capfd):
    """Missing folders, empty files, other encodings, numbers for lists, code that raises: never a traceback."""
    monkeypatch.chdir(tmp_path)
    lists = {"number": "3", "text": '[{"display_name": "A", "kubespawner_override": {"cpu_limit": "2"}}]'}
    lists["override"] = '[{"display_name": "A", "kubespawner_override": ["x"]}]'
    for name, text in lists.items():
        Path(f"{name}.py").write_text(f"c.KubeSpawner.profile_list = {text}\n")
    for name, text in {
        "empty.yaml": "",
        "text.yaml": "hello",
        "doc.yaml": "slug: a\ndisplay_name: A\nimage: a:1\n",
        "raise.py": "raise RuntimeError('boom')\n",
        "raising/raise.py": "raise RuntimeError('boom')\n",
        "exit.py": "import sys\nsys.exit(3)\n",
        "append.py": 'c.KubeSpawner.profile_list.append({"display_name": "A", "kubespawner_override": {}})\n',
        "record.json": '{"profile_spawner": {"params": {"a/b": 3}}}',
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    Path("latin.yaml").write_bytes("display_name: Café\n".encode("latin-1"))
    Path("link.yaml").symlink_to("nowhere")
    Path("directory/a.py").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["profile-spawner", *call.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capfd.readouterr().err
    assert ended.value.code == 1, told
    assert WRONG[call] in told
    assert len([line for line in told.splitlines() if line.startswith(("Error", "Warning"))]) == 1, told


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
