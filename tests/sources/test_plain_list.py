"""The plain `profile_list` beside the sources: it comes last, and its faults are reported once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError
from traitlets.config import Config

from profile_spawner.errors import DuplicateSlugError, ProfileWarning
from profile_spawner.hub.hub_profiles import HubProfiles
from profile_spawner.hub.settings import HubTraits
from profile_spawner.profiles.snapshot import Snapshot
from tests.sources.conftest import put, spawner_traits

LISTED = [
    {"display_name": "Plain", "slug": "plain", "kubespawner_override": {"mem_limit": "4Gb"}},
    {"display_name": "Both", "slug": "both", "kubespawner_override": {"image": "listed:1"}},
]


async def catalogue(folder: Path, listed: Any = LISTED, times: int = 1, **overrides: list[str]) -> Snapshot:
    """Return all profiles of a hub with a document and a plain list."""
    put(folder, "doc.yaml", "[{slug: other, display_name: O, image: i}, {slug: both, display_name: B, image: 'doc:1'}]")
    config = Config()
    config.ProfileSpawner.profile_documents = [str(folder)]
    config.ProfileSpawner.source_overrides = overrides
    log = logging.getLogger("tests.profiles")
    hub = HubProfiles(config, ("ProfileSpawner",), log, spawner_traits)
    try:
        for _ in range(times):
            found = await hub.catalogue([*listed], shared=False)
    finally:
        await hub.service.stop()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("overrides", "order", "image", "errors"),
    [
        ({}, ["other", "both", "plain"], "doc:1", 1),
        ({"documents": ["profile_list"]}, ["other", "both", "plain"], "doc:1", 0),
        ({"profile_list": ["documents"]}, ["other", "plain", "both"], "listed:1", 0),
        ({"profile_list": ["FOLDER"]}, ["other", "plain", "both"], "listed:1", 0),
        ({"FOLDER/doc.yaml": ["profile_list"]}, ["other", "both", "plain"], "doc:1", 0),
    ],
)
async def test_the_plain_list_comes_last(
    tmp_path: Path, overrides: dict[str, list[str]], order: list[str], image: str, errors: int
) -> None:
    """On the page and for slugs; `source_overrides` names it in both directions."""
    named = {
        upper.replace("FOLDER", str(tmp_path)): [name.replace("FOLDER", str(tmp_path)) for name in lower]
        for upper, lower in overrides.items()
    }
    found = await catalogue(tmp_path, **named)
    assert list(found.entries) == order
    assert found.entries["both"].effective["image"] == image
    assert [type(p) for p in found.errors] == [DuplicateSlugError] * errors
    assert all('source_overrides = {"documents": ["profile_list"]}' in str(p) for p in found.errors)


async def test_a_list_that_is_read_for_every_page_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not meant is a warning; what is broken costs one entry."""
    broken: dict[str, Any] = {"display_name": "Broken", "allowed_groups": "staff"}
    found = await catalogue(tmp_path, [*LISTED[:1], broken], times=3)
    assert list(found.entries) == ["other", "both", "plain"]
    assert [isinstance(p, ProfileWarning) for p in found.problems] == [False, True]
    logged = [r.getMessage() for r in caplog.records if r.name == "tests.profiles" and r.levelname == "WARNING"]
    assert [("mem_limit" in text, "allowed_groups" in text) for text in logged] == [(False, True), (True, False)]


@pytest.mark.parametrize("value", [{"config_map": ["builtin"]}, {"documents": ["profilelist"]}])
def test_a_misspelt_kind_is_refused(value: dict[str, list[str]]) -> None:
    """With the nearest name; paths and names of single items are not checked."""
    with pytest.raises(TraitError, match=r"did you mean '(config_maps|profile_list)'"):
        HubTraits(source_overrides=value)
    HubTraits(source_overrides={"/srv/profiles": ["entry point lab", "builtin"]})
