"""What the hub's configuration and its surroundings say about documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_spawner.policy import settings
from profile_spawner.policy.settings import DataPolicy, names_of_the_chart


def test_the_names_that_the_chart_gives_to_its_objects_are_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the hub's pod the chart names them in files, because `fullnameOverride` changes them."""
    monkeypatch.setattr(settings, "CHART_CONFIGURATION", tmp_path)
    (tmp_path / "hub").write_text("east-hub\n")
    (tmp_path / "proxy-api").write_text("east-proxy-api")
    (tmp_path / "checksum").write_text("1")
    assert names_of_the_chart() == {"east-hub", "east-proxy-api"}
    assert names_of_the_chart("hub") == {"east-hub"}
    policy = DataPolicy.of({"protected": ["database"]}, "documents")
    assert policy.protected >= {"east-hub", "east-proxy-api", "hub", "hub-db-dir", "database"}
