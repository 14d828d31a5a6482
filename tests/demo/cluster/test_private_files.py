"""Files with passwords are for their owner only, whatever is at their path already."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from profile_spawner.demo.cluster.private_files import write_private


@pytest.mark.parametrize("before", ["nothing", "readable", "link", "dangling link"])
def test_nothing_is_written_where_others_can_read(tmp_path: Path, before: str) -> None:
    """A file that others can read is replaced, and a link is not followed."""
    path, target = tmp_path / "info.json", tmp_path / "theirs"
    if before == "readable":
        path.touch(mode=0o644)
    elif before != "nothing":
        path.symlink_to(target)
    if before in ("readable", "link"):
        target.write_text("theirs")
    opened = path.open() if before in ("readable", "link") else None
    write_private(path, "password")
    assert path.read_text() == "password"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_ISREG(path.lstat().st_mode)
    assert (target.read_text() if target.exists() else "") in ("", "theirs")
    if opened is not None:
        with opened:
            assert "password" not in opened.read()
    assert {found.name for found in tmp_path.iterdir()} <= {"info.json", "theirs"}


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """Where the file cannot be put, no draft of it stays."""
    (tmp_path / "info.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "info.json", "password")
    assert [found.name for found in tmp_path.iterdir()] == ["info.json"]
