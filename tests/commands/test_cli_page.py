"""The reference of the command line, with its examples run in the order of the page."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from profile_spawner.cli import app
from profile_spawner.errors import ProfileSpawnerError
from tests.documentation import ROOT, code_blocks

from .conftest import DEMO

PAGE = ROOT / "docs" / "cli.md"
ELSEWHERE = {"demo", "dump", "diff", "import"}
"""Commands whose options other pages explain, or that take one sentence together."""


def _examples() -> list[tuple[str, str]]:
    """Return the commands of the page with the output that it shows."""
    found = []
    for block in code_blocks(PAGE, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def _matches(shown: str, printed: str) -> bool:
    """Whether the output is the one shown, where `...` stands for anything."""
    pattern = "".join(".*?" if piece == "..." else re.escape(piece) for piece in re.split(r"(\.\.\.)", shown.strip()))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the page describes it."""
    shutil.copytree(DEMO, tmp_path / "profiles", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "jupyterhub_config.py").write_text(code_blocks(PAGE, "python")[0])
    (tmp_path / "values.yaml").write_text(code_blocks(PAGE, "yaml")[0])
    return tmp_path


def test_every_example_prints_what_the_page_shows(folder, run, monkeypatch):
    """In one folder and in order. What follows a pipe is run by a shell."""
    examples = _examples()
    assert len(examples) > 10
    monkeypatch.chdir(folder)
    code = 0
    for command, shown in examples:
        program, _, filters = command.partition(" | ")
        if command == "echo $?":
            printed = str(code)
        else:
            name, *words = shlex.split(program)
            assert name == "profile-spawner", command
            result = run.result(*words)
            code = result.exit_code
            printed = result.output
            if isinstance(result.exception, ProfileSpawnerError):
                printed += f"Error: {result.exception}"
            if filters:
                done = subprocess.run(["bash", "-c", filters], input=result.stdout, text=True, capture_output=True)
                printed = result.stderr + done.stdout
        assert _matches(shown, printed), f"{command}\n{printed}"


def test_every_option_of_every_command_is_explained():
    """In the command's section, or among the options that commands have in common."""
    text = PAGE.read_text()
    sections = {
        name: body
        for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        for name in re.findall(r"[a-z]+", title)
    }
    common = sections["profiles"]
    for name, command in typer.main.get_command(app).commands.items():
        if name in ELSEWHERE:
            continue
        for parameter in command.params:
            for option in parameter.opts[:1]:
                if option.startswith("--") and option != "--help":
                    assert re.search(rf"{option}\b", sections[name] + common), (name, option)


def test_every_rule_of_validate_is_in_its_table():
    """Whoever reads a finding can look its rule up."""
    texts = [
        (ROOT / "profile_spawner" / name).read_text()
        for name in ("profiles/linting.py", "commands/validating.py", "commands/settings.py", "migrate/chart.py")
    ]
    rules = {r for t in texts for r in re.findall(r'_?[fF]o?u?i?nd(?:ing)?\(\s*"(?:error|warning)",\s*"([a-z-]+)"', t)}
    rules |= {r for t in texts for r in re.findall(r'(?:if hint else "warning", |rule=)"([a-z-]+)"', t)}
    assert len(rules) > 10
    page = PAGE.read_text()
    assert [rule for rule in sorted(rules) if f"`{rule}`" not in page] == []
