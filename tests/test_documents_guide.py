"""The pages about sources and documents, tried."""

from __future__ import annotations

import re

import pytest
import yaml
from prometheus_client import CollectorRegistry
from traitlets.config import Config

from profile_spawner.hub.settings import HubTraits
from profile_spawner.metrics import Metrics
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.sources.data_profiles import DocumentReader
from profile_spawner.sources.schema import DocumentSpec, ProfileSpec
from profile_spawner.sources.settings import SOURCE_KINDS
from tests.documentation import ROOT, code_blocks
from tests.snapshots import snapshot_of

SOURCES, DOCUMENTS = ROOT / "docs" / "sources.md", ROOT / "docs" / "yaml.md"


def read(text: str):
    """Read a document as the hub does by default."""
    return DocumentReader(DataPolicy(), lambda slug: None).read(text, "page.yaml", "page")


async def test_the_document_of_the_page_makes_servers():
    """Every profile of it, with what the text says."""
    (text,) = code_blocks(DOCUMENTS, "yaml")
    result = read(text)
    assert result.problems == []
    snapshot = await snapshot_of(result.collector)
    assert snapshot.problems == ()
    assert set(snapshot.entries) == {"lab", "gpu-lab", "as-it-was"}
    grace = UserInfo("grace", frozenset({"gpu"}))
    built = await snapshot.build(snapshot.select({"profile": "gpu-lab", "size": "large"}, grace), ServerContext(grace))
    override = built.kubespawner_override
    assert override["environment"]["OMP_NUM_THREADS"] == "4"
    assert override["mem_limit"] == "8G"
    texts = {text for o in built.objects if o.kind == "ConfigMap" for text in o.body["data"].values()}
    assert {"alias ll='ls -l'\n", "Welcome, grace.\n"} <= texts


def test_every_key_of_a_document_is_explained():
    """In this page, or as an attribute in the authors' guide."""
    page = DOCUMENTS.read_text()
    text = page + (ROOT / "docs" / "authors.md").read_text()
    names = [f.alias or n for n, f in (*DocumentSpec.model_fields.items(), *ProfileSpec.model_fields.items())]
    assert [n for n in names if f"`{n}" not in text and f"`{n.removesuffix('_path')}`" not in page] == []


def test_the_config_map_of_the_page_is_one():
    """Its document is read."""
    (config_map, _) = code_blocks(SOURCES, "yaml")
    ((_, text),) = yaml.safe_load(config_map)["data"].items()
    assert list(read(text).collector.profiles) == ["lab"]


def test_the_settings_of_the_page_exist():
    """Every snippet is a configuration, and every kind of source and field of the policy is named."""
    for block in code_blocks(SOURCES, "python"):
        namespace = {"c": Config()}
        exec(block, namespace)
        values = namespace["c"].ProfileSpawner
        traits = HubTraits(**values)
        DataPolicy.of(traits.data_policy, "documents")
        DataPolicy.of(traits.data_policy, "config_maps")
    text = SOURCES.read_text()
    assert [kind for kind in SOURCE_KINDS if f"`{kind}`" not in text] == []
    assert [name for name in DataPolicy.__dataclass_fields__ if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", re.findall(r"^\| `(profile_spawner_\w+)", SOURCES.read_text(), re.MULTILINE))
def test_the_metrics_of_the_page_exist(name):
    """Under the names that Prometheus shows."""
    registry = CollectorRegistry()
    Metrics(registry)
    shown = {m.name for m in registry.collect()}
    assert name.removesuffix("_total") in shown


def test_all_metrics_are_on_the_page():
    """None is left out."""
    registry = CollectorRegistry()
    Metrics(registry)
    assert [m.name for m in registry.collect() if f"`{m.name}" not in SOURCES.read_text()] == []
