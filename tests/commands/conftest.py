"""The command line in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from profile_spawner.cli import app
from profile_spawner.errors import ProfileSpawnerError

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "profile_spawner" / "demo" / "profiles"


class CommandLine:
    """Runs commands, and remembers nothing between them."""

    def __call__(self, *words: object, code: int = 0) -> str:
        """Run a command that ends with this code, and return what it prints."""
        result = self.result(*words)
        assert result.exit_code == code, result.output
        return result.stdout

    def result(self, *words: object) -> Result:
        """Run a command, however it ends. What `main` prints of an error stands in the output."""
        result = CliRunner().invoke(app, [str(w) for w in words])
        if isinstance(result.exception, ProfileSpawnerError):
            result.exit_code = 1
            result.stdout_bytes += f"Error: {result.exception}".encode()
        elif result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    async def aside(self, *words: object) -> Result:
        """Run a command in a thread, for tests whose loop has to serve it meanwhile."""
        return await asyncio.to_thread(self.result, *words)

    def json(self, *words: object, code: int = 0) -> Any:
        """Run a command with `--output json`, and return what it prints."""
        return json.loads(self(*words, "--output", "json", code=code))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Run commands without the environment variables of whoever runs the tests."""
    for name in ("PROFILE_SPAWNER_CONFIG", "PROFILES_DIR", "PROFILE_DOCUMENTS", "ENABLED_PROFILES", "GROUPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    return CommandLine()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put
