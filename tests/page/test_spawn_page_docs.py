"""What docs/spawn-page.md says of templates, blocks and settings is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from profile_spawner.hub.settings import HubTraits
from profile_spawner.kube.nodes import CAPACITY_RULES
from profile_spawner.page import render
from profile_spawner.page.cards import ICONS, Card
from profile_spawner.page.render import PageRenderer, PageRequest
from profile_spawner.profiles.selection import Offer
from tests.documentation import ROOT, code_blocks

PAGE = ROOT / "docs" / "spawn-page.md"
SHIPPED = Path(render.__file__).parent
TEXT = PAGE.read_text()


@pytest.fixture
def own(tmp_path: Path) -> PageRenderer:
    """The page with the template of the documentation."""
    (example,) = code_blocks(PAGE, "jinja")
    folder = tmp_path / "profile_spawner"
    folder.mkdir()
    (folder / "form.html").write_text(example)
    return PageRenderer([str(tmp_path)])


def test_the_example_replaces_blocks_and_colours(own: PageRenderer) -> None:
    """What the example adds is on the page, and so is everything that it leaves alone."""
    request = PageRequest(cards=[Card(Offer("p", "P"))], static="/hub/static")
    shipped, changed = PageRenderer().render(request), own.render(request)
    assert "Maintenance on Friday" in changed
    assert "--ps-accent: #00695c" in changed
    assert "/hub/static/page.css" in changed
    rest = re.sub(r"<style>.*?</style>|<p class=\"alert alert-info\">.*?</p>", "", changed, flags=re.DOTALL)
    assert "".join(rest.split()) == "".join(shipped.split())


def test_the_colours_exist() -> None:
    """The style sheet uses the variables that the documentation names."""
    style = (SHIPPED / "static" / "page.css").read_text()
    for name in re.findall(r"--ps-[\w-]+", TEXT):
        assert f"var({name}" in style, name


def test_all_blocks_are_listed() -> None:
    """The table has the blocks of the template, no more and no fewer."""
    template = (SHIPPED / "templates" / "profile_spawner" / "form.html").read_text()
    table = TEXT.partition("| block | holds |")[2].partition("\n\n")[0]
    listed = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert listed == set(re.findall(r"{% block (\w+) %}", template))


def test_all_icons_are_listed() -> None:
    """Every built-in icon is named, and has a picture."""
    for icon in ICONS:
        assert f"`{icon}`" in TEXT
        assert (SHIPPED / "static" / "icons" / f"{icon}.svg").is_file()


def test_settings_have_the_defaults_of_the_table() -> None:
    """Names and defaults are those of the code."""
    table = TEXT.partition("| setting | default |")[2].partition("\n\n")[0]
    rows: list[Any] = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:]]
    traits = HubTraits.class_traits(config=True)
    assert {row[1].strip("`") for row in rows} == {
        name
        for name in traits
        if name.startswith("page_") or name in ("category_order", "capacity_interval", "linked_start")
    }
    for row in rows:
        assert yaml.safe_load(row[2].strip("`")) == traits[row[1].strip("`")].default(), row


def test_the_cluster_role_is_what_is_needed() -> None:
    """The printed ClusterRole has exactly the rules with which capacity can be read."""
    (block,) = code_blocks(PAGE, "yaml")
    role, binding = yaml.safe_load_all(block)
    assert role["rules"] == [dict(rule) for rule in CAPACITY_RULES]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
